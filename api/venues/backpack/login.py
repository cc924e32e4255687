"""One key at Backpack: its clock, its budget, its signed reads and what its answers mean.

Hides: the clock offset, the rate limit, repeating a read whose request came too late. Must not know: markets,
orders, events. Both products share one of these (the limit counts per subaccount). Called by `account`,
`orders` and `stream`; safe from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from api.budget import Budget, Pool
from api.errors import BadInput, ExchangeError, RateLimited, Unavailable
from api.runtime import ClockLike
from api.signing import Key
from api.venues.backpack import messages as say
from api.venues.backpack import requests as ask
from api.venues.backpack.endpoints import Endpoints
from api.venues.backpack.errors import EXPIRED, error_of
from api.venues.backpack.ids import ClientIds, Numbers
from api.venues.backpack.lines import SignedLine, SignedLines
from api.venues.backpack.signing import headers
from api.wire import Answer
from api.wire_http import Proxy

log = logging.getLogger("makerdeck.backpack")

T = TypeVar("T")
LENDING = ("follow", "always", "never")
MAX_WINDOW_S = 60.0
CLOCK_OLD_S = 300.0  # an offset older than this is replaced by any new one
CLOCK_RTT_S = 1.0  # a measurement that took longer is not better than an older one


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `answer_s`: how long an answer is waited for. It equals `window_s`, for which the venue takes a request:
    when we give up, the venue gives up too, so an order that is absent seconds later can no longer arrive.
    `requests_per_minute` is a little below the venue's 2000, whose window may slide; `for_cancels` the share
    that only cancels may use. `lending`: whether spot orders may call back funds that are lent out; "follow"
    asks the account. `lend_proceeds`: what an order brings is lent again. `batch`: as many waiting orders
    leave together, 1: none do (the largest batch is not documented). `settle_s`: a subscription without an
    error for so long counts as made (nothing is answered to one). `expiry_s`: how long the answer to an
    order that expired at once waits for the stream to say why. `fee_unit`: one unit of the account's fee
    rates as a fraction. `balances_every_s`, `balances_gap_s`: balances are read so often, and so soon again.
    `silence_s`: without a frame for so long (we ping after half of it) a stream counts as lost.
    """

    http_lines: int = 3
    batch: int = 1
    stp: str = "RejectTaker"
    lending: str = "follow"
    lend_proceeds: bool = False
    window_s: float = 3.0
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_every_s: float = 60.0
    requests_per_minute: int = 1900
    for_cancels: float = 0.2
    fee_unit: Decimal = Decimal("0.0001")
    settle_s: float = 0.5
    expiry_s: float = 0.25
    balances_every_s: float = 20.0
    balances_gap_s: float = 1.0
    silence_s: float = 15.0
    pauses_s: tuple[float, ...] = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0)

    def __post_init__(self) -> None:
        if self.stp not in ask.STP_MODES:
            raise BadInput("stp", f"must be one of {', '.join(ask.STP_MODES)}")
        if self.lending not in LENDING:
            raise BadInput("lending", f"must be one of {', '.join(LENDING)}")
        if not 0 < self.window_s <= MAX_WINDOW_S:
            raise BadInput("window_s", "must be above 0 and at most 60 seconds")
        if self.http_lines < 1:
            raise BadInput("http_lines", "must be at least 1")
        if self.batch < 1:
            raise BadInput("batch", "must be at least 1")


class Login:
    """See the module docstring.

    Args:
        name: our name of the account. ids: the durable table of client ids.
        ws_proxy: for the stream; None: `proxy` carries it too.
    """

    def __init__(
        self,
        key: Key,
        where: Endpoints,
        clock: ClockLike,
        name: str,
        ids: ClientIds,
        settings: Settings,
        proxy: Proxy | None = None,
        ws_proxy: Proxy | None = None,
    ) -> None:
        self.key = key
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.ws_proxy = ws_proxy or proxy
        self.numbers = Numbers(ids)
        self.window_ms = round(settings.window_s * 1000)
        self.offset_ns: int | None = None
        self.budget = Budget(
            (Pool(ask.POOL, settings.requests_per_minute, 60_000_000_000, settings.for_cancels),)
        )
        self.unread = 0
        self._offset_at = 0.0
        self.lines = SignedLines(
            where.rest, where.hosts, connect_s=settings.connect_s, answer_s=settings.read_s, proxy=proxy
        )

    def line(self) -> SignedLine:
        """A connection for one order thread."""
        settings = self.settings
        return SignedLine(
            self.where.rest,
            self.where.hosts,
            connect_s=settings.connect_s,
            answer_s=settings.answer_s,
            proxy=self.proxy,
        )

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def stamp_ms(self) -> int:
        return self.venue_ns() // say.MS

    @property
    def is_clock_due(self) -> bool:
        return self.offset_ns is None or time.monotonic() - self._offset_at >= self.settings.clock_every_s

    def sync_clock(self, line: SignedLine | None = None) -> int:
        """Measure the offset; the venue's time in UTC nanoseconds. Raises ExchangeError."""
        self.take()
        sent_ns = self.clock.now_ns()
        try:
            if line is not None:
                answer = line.ask_signed("GET", "/api/v1/time", {}, is_write=False)
            else:
                answer = self.lines.get("/api/v1/time", {})
        finally:
            self.settle()
        heard_ns = self.clock.now_ns()
        told_ms = self._decoded(answer, say.decode_time)
        is_slow = heard_ns - sent_ns > CLOCK_RTT_S * 1e9
        now = time.monotonic()
        if self.offset_ns is None or not is_slow or now - self._offset_at >= CLOCK_OLD_S:
            self.offset_ns = told_ms * say.MS + say.MS // 2 - (sent_ns + heard_ns) // 2
            self._offset_at = now
        return told_ms * say.MS

    # ------------------------------------------------------------------ the budget

    def take(self, *, is_cancel: bool = False) -> None:
        """One request's share. Raises RateLimited: nothing may be sent now."""
        now_ns = self.venue_ns()
        wait_s = self.budget.take(ask.COST, now_ns, is_cancel=is_cancel)
        if wait_s:
            blocked = self.budget.blocked_s(now_ns)
            what = "Backpack asked us to wait" if blocked else "our budget of Backpack's limit is used up"
            raise RateLimited(what, retry_after_s=wait_s)

    def settle(self) -> None:
        self.budget.settle(ask.COST, (), self.venue_ns())

    # ------------------------------------------------------------------ reads

    def public(self, target: str) -> bytes:
        """The body of an unsigned read. Raises ExchangeError."""
        self.take()
        try:
            answer = self.lines.get(target, {})
        finally:
            self.settle()
        return self.checked(answer, is_write=False)

    def signed(
        self,
        instruction: str,
        path: str,
        params: Mapping[str, str | int | bool],
        decode: Callable[[bytes], T],
    ) -> T:
        """A signed read; when the venue says that it came too late, the clock is measured and it is repeated
        once. Raises ExchangeError.
        """
        if self.offset_ns is None:
            self.sync_clock()
        target = f"{path}?{ask.query(dict(params))}" if params else path
        for is_retry in (False, True):
            self.take()
            try:
                signed = headers(self.key, instruction, params, self.stamp_ms(), self.window_ms)
                answer = self.lines.get(target, signed)
            finally:
                self.settle()
            try:
                return self._decoded(answer, decode)
            except Unavailable as error:
                if is_retry or error.code != EXPIRED:
                    raise
            self.sync_clock()
        raise AssertionError("unreachable")

    def _decoded(self, answer: Answer, decode: Callable[[bytes], T]) -> T:
        body = self.checked(answer, is_write=False)
        try:
            return decode(body)
        except say.UNREADABLE:
            self.unread += 1
            raise Unavailable("Backpack answered with something that is not what its API says") from None

    def checked(self, answer: Answer, *, is_write: bool) -> bytes:
        """The body of a success; else the error is raised that the venue means by it, and a limit is kept."""
        if 200 <= answer.status < 300 and answer.status != 202:
            return answer.body
        code, text = None, ""
        try:
            refusal = say.decode_refusal(answer.body)
            code, text = refusal.code, refusal.message
        except say.UNREADABLE:
            pass  # a page of HTML from something in between: the status alone decides
        raise self.error_from(answer.status, code, text, is_write=is_write, wait_s=answer.retry_after_s)

    def error_from(
        self, status: int, code: str | None, text: str, *, is_write: bool, wait_s: float | None = None
    ) -> ExchangeError:
        """The error that an answer means. If it is a limit, nothing leaves inside the time it asks for."""
        error = error_of(status, code, text, is_write=is_write, retry_after_s=wait_s)
        if isinstance(error, RateLimited):
            self.budget.block(error.retry_after_s, error.message, self.venue_ns())
        return error

    def close(self) -> None:
        self.lines.close()
