"""One account at OKX, of one product (spot, or swaps and futures): what its order path and its reads share.

Hides: the clock offset, the budget of the rate limits, client ids in the venue's form, the account's
modes, the markets, signing and checking over HTTP. Must not know: threads (it is safe from any), the
WebSocket, engines. Called by `session`, `http_orders` and, grown by the reads, by `venue`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from api.budget import Budget, Cost, Pool
from api.errors import (
    BadInput,
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unavailable,
)
from api.exchange import FeeRates, Listener
from api.runtime import ClockLike
from api.types import (
    Amend,
    Answered,
    Balance,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Instrument,
    InstrumentId,
    Outcome,
    Place,
    Request,
)
from api.venues.okx import messages as say
from api.venues.okx import public
from api.venues.okx import requests as ask
from api.venues.okx.endpoints import Endpoints
from api.venues.okx.errors import (
    ACCOUNT_LIMIT,
    BAD_MARKETS,
    EXPIRED_STAMP,
    LATE,
    OUTCOMES,
    error_of,
)
from api.venues.okx.keys import OkxKey
from api.venues.okx.public import INST_TYPES, MS, Market, Symbols
from api.venues.okx.signed_http import SignedLine, SignedLines
from api.wire import Answer
from api.wire_http import Proxy

log = logging.getLogger("makerdeck.okx")

T = TypeVar("T")
Told: TypeAlias = list[say.Item] | ExchangeError

WINDOW_NS = 2_000_000_000
KEPT = 50_000  # client ids and resting orders that are remembered
RELOAD_S = 60.0  # an unknown market makes the list be read again at most this often
CLOCK_OLD_S = 300.0  # an offset older than this is replaced by any new one
CLOCK_RTT_S = 1.0  # a measurement that took longer is not better than an older one
READ_LIMITS: Mapping[str, int] = {
    "time": 10,
    "instruments": 20,
    "balance": 10,
    "positions": 10,
    "config": 5,
    "trade-fee": 5,
    "orders-pending": 60,
    "order": 60,
    "fills": 60,
    "fills-history": 10,
    "bills": 10,
    "bills-archive": 10,
}
"""Requests per two seconds and user (`config`, `trade-fee`, `bills`: the documents' numbers of 2025)."""
PER_MARKET = 60  # of placing, amending and cancelling each, per two seconds
PER_ACCOUNT = 1000  # new orders and amendments together, per two seconds
CANCELS_IN_BATCHES = 300
DEAD_MAN_S = (10, 120)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an account behaves; the defaults suit a market maker.

    `answer_s` is how long an answer is waited for; new orders and amendments carry the same time as their
    `expTime`, so when we give up the venue gives up too. `limit_share` is the share of each limit that we
    use: OKX counts in sliding windows, our budget in fixed ones. `margin_mode` is of swaps and futures.
    `tag` marks our orders (`cancel_all` and the dead-man take those alone); empty: everything of the
    account is ours. `silence_s`: without a frame for so long (we send `ping` after half of it) a
    connection counts as lost; OKX cuts at 30 s.
    """

    order_path: str = "socket"
    http_lines: int = 2
    stp: str = "cancel_taker"
    margin_mode: str = "cross"
    tag: str = "makerdeck"
    limit_share: float = 0.9
    answer_s: float = 3.0
    read_s: float = 10.0
    connect_s: float = 5.0
    clock_every_s: float = 60.0
    silence_s: float = 24.0
    overlap_s: float = 3.0
    max_age_s: float = 23 * 3600.0
    pauses_s: tuple[float, ...] = (0.35, 1.0, 2.0, 5.0, 10.0, 20.0)
    late_s: float = 60.0

    def __post_init__(self) -> None:
        if self.order_path not in ("socket", "http"):
            raise BadInput("order_path", "must be socket or http")
        if self.stp not in ask.STP_MODES:
            raise BadInput("stp", f"must be one of {', '.join(ask.STP_MODES)}")
        if self.margin_mode not in ("cross", "isolated"):
            raise BadInput("margin_mode", "must be cross or isolated")
        if ask.TAG_FORM.fullmatch(self.tag) is None:
            raise BadInput("tag", "must be at most 16 letters and digits")
        if self.http_lines < 1:
            raise BadInput("http_lines", "must be at least 1")
        if not 0 < self.answer_s <= 30:
            raise BadInput("answer_s", "must be above 0 and at most 30 seconds")


@dataclass(slots=True, eq=False)
class Job:
    """One write on its way: a command (one `Answered` follows), or a call (`done` is told its items)."""

    request: ask.Request
    command: Command | None = None
    done: Callable[[Told], None] | None = None
    deadline: float = 0.0
    is_taken: bool = False
    is_retried: bool = False


class Account:
    """See the module docstring.

    Args:
        venue: `okx_spot` or `okx_swap`.
        name: our name of the account.
    """

    def __init__(
        self,
        venue: str,
        key: OkxKey,
        where: Endpoints,
        clock: ClockLike,
        name: str,
        settings: Settings,
        ids: ask.ClientIds,
        proxy: Proxy | None = None,
    ) -> None:
        self.venue = venue
        self.key = key
        self.where = where
        self.clock = clock
        self.name = name
        self.settings = settings
        self.proxy = proxy
        self.offset_ns: int | None = None
        self.trouble = ""
        self.unread = 0
        self.foreign_markets = 0
        self.stp_mismatches = 0
        self.duplicates = 0
        self.is_stale = False
        self.is_clock_doubtful = False
        self.listener: Listener | None = None
        self.mode: say.Mode | None = None
        self.symbols = Symbols(())
        self.budget = Budget(())
        self._terms: dict[InstrumentId, ask.Terms] = {}
        self._pooled: set[str] = set()
        self._map = ids
        self._offset_at = 0.0
        self._used: OrderedDict[str, None] = OrderedDict()
        self._rests: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.balances: dict[str, Balance] = {}
        self._loaded_at: float | None = None
        self._load = threading.Lock()
        self.lock = threading.Lock()
        self._use_pools()
        self.lines = SignedLines(
            where.rest,
            where.hosts,
            headers=where.headers,
            connect_s=settings.connect_s,
            answer_s=settings.read_s,
            proxy=proxy,
        )

    # ------------------------------------------------------------------ time

    def venue_ns(self) -> int:
        """The venue's clock as we know it: ours until it was measured."""
        return self.clock.now_ns() + (self.offset_ns or 0)

    def stamp_ms(self) -> int:
        return self.venue_ns() // MS

    def deadline_ms(self) -> int:
        """`expTime` of a write that leaves now."""
        return self.stamp_ms() + round(self.settings.answer_s * 1000)

    def sync_clock(self, line: SignedLine | SignedLines | None = None) -> int:
        """Measure the offset; the venue's time in UTC nanoseconds. Raises ExchangeError."""
        self._take((("time", 1),))
        sent_ns = self.clock.now_ns()
        answer = self._asked(line or self.lines, {}, "/api/v5/public/time", (("time", 1),))
        heard_ns = self.clock.now_ns()
        rows = self._read(answer, "time", say.decode_times)
        if len(rows) != 1:
            raise Unavailable("OKX did not tell its time")
        server_ms, now = rows[0].ts, time.monotonic()
        is_slow = heard_ns - sent_ns > CLOCK_RTT_S * 1e9
        is_needed = self.offset_ns is None or self.is_clock_doubtful
        self.is_clock_doubtful = False
        if is_needed or not is_slow or now - self._offset_at >= CLOCK_OLD_S:
            self.offset_ns = server_ms * MS + MS // 2 - (sent_ns + heard_ns) // 2
            self._offset_at = now
        return server_ms * MS

    # ------------------------------------------------------------------ telling

    def tell(self, event: Event) -> None:
        listener = self.listener
        if listener is not None:
            listener(event)

    def answer(
        self,
        command: Command,
        outcome: Outcome,
        *,
        venue_id: str | None = None,
        error: str = "",
        reason: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        self.tell(
            Answered(
                self.clock.now_ns(),
                command.client_id,
                command.instrument,
                request_of(command),
                outcome,
                venue_id,
                error,
                reason,
                retry_after_s,
            )
        )

    def refuse(self, command: Command, error: ExchangeError) -> None:
        outcome = Outcome(OUTCOMES.get(type(error), "rejected"))
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
        self.answer(command, outcome, error=type(error).__name__, reason=error.message, retry_after_s=wait_s)

    # ------------------------------------------------------------------ client ids

    def theirs(self, client_id: str) -> str:
        return ask.theirs_of(client_id)

    def ours(self, theirs: str) -> str:
        """Our id for the venue's; one that was never translated is itself."""
        if not theirs.startswith(ask.MAPPED):
            return theirs
        return self._map.get(theirs) or theirs

    def claim(self, client_id: str) -> str:
        """The venue's form of an id that is about to be used for the first time. OKX would take it a
        second time after the first order ended; the contract of `api.exchange` says that nobody may.
        Raises Rejected.
        """
        with self.lock:
            if client_id in self._used:
                self.duplicates += 1
                raise Rejected("duplicate client id: it was used for another order")
            self._used[client_id] = None
            if len(self._used) > KEPT:
                self._used.popitem(last=False)
        theirs = ask.theirs_of(client_id)
        if theirs != client_id:
            try:
                self._map.put(client_id, theirs)
            except OSError as error:
                self.release(client_id)
                raise Rejected(f"the client id could not be kept ({type(error).__name__})") from None
        return theirs

    def release(self, client_id: str) -> None:
        """Nothing came of it: the id may be used again."""
        with self.lock:
            self._used.pop(client_id, None)

    # ------------------------------------------------------------------ writes

    def request_for(self, command: Command) -> ask.Request:
        """Raises Rejected for what cannot be asked here."""
        terms = self._terms.get(command.instrument)
        if terms is None:
            raise Rejected(f"{command.instrument} is not a market of {self.venue} that was loaded")
        self._pool_for(terms.name[0])
        if isinstance(command, Place):
            theirs = self.claim(command.client_id)
            try:
                return ask.place(command, terms, theirs)
            except Rejected:
                self.release(command.client_id)
                raise
        theirs = ask.theirs_of(command.client_id)
        if isinstance(command, Cancel):
            return ask.cancel(command, terms, theirs)
        with self.lock:
            rests = self._rests.get(command.client_id)
        return ask.amend(command, terms, theirs, rests)

    def take(self, job: Job) -> None:
        """Take what the job costs from the budget. Raises RateLimited: nothing may be sent now."""
        self._take(job.request.costs, is_cancel=job.request.is_cancel)
        job.is_taken = True

    def settle(self, job: Job) -> None:
        if job.is_taken:
            job.is_taken = False
            self.budget.settle(job.request.costs, (), self.venue_ns())

    def finish(self, job: Job, result: Told) -> None:
        """End a job with the venue's answer, or with why there is none. May be called again with a late
        answer.
        """
        self.settle(job)
        if job.done is not None:
            job.done(result)
        command = job.command
        if command is None:
            return
        if isinstance(result, ExchangeError):
            error: ExchangeError | None = result
        elif len(result) != 1:
            error = OutcomeUnknown("OKX answered without saying what became of the order")
        elif result[0].sCode != "0":
            error = self.error_from(
                200, result[0].sCode, result[0].sMsg, is_write=True, costs=job.request.costs
            )
        else:
            error = None
        if error is not None:
            if isinstance(command, Place) and not isinstance(error, OutcomeUnknown):
                self.release(command.client_id)
            self.refuse(command, error)
            return
        assert not isinstance(result, ExchangeError)
        if isinstance(command, Place | Amend):
            self.note_rest(command.client_id, command.ticks, command.lots)
        self.answer(command, Outcome.ACCEPTED, venue_id=result[0].ordId or None)

    def items_of(self, code: str, text: str, data: bytes, costs: tuple[Cost, ...]) -> Told:
        """The items of an answer to a write, or the error that the whole answer means."""
        try:
            items = say.decode_items(data) if data else []
        except say.UNREADABLE:
            self.unread += 1
            return OutcomeUnknown("OKX answered in words that we cannot read")
        if items and code in ("0", "1", "2"):
            return items
        if code == "0":
            return OutcomeUnknown("OKX answered without saying what became of the order")
        return self.error_from(200, code, text, is_write=True, costs=costs)

    # ------------------------------------------------------------------ what was heard

    def heard_orders(self, data: bytes, at_ns: int) -> list[Event]:
        """Raises UNREADABLE (`messages`)."""
        events: list[Event] = []
        for row in say.decode_orders(data):
            market = self.symbols.called(row.instId)
            if market is None:
                self.foreign_markets += 1  # the channel tells of every product
                continue
            client_id = self.ours(row.clOrdId)
            events += say.heard(row, market.instrument, self.name, client_id, at_ns)
            self._note_row(row, market, client_id)
        return events

    def heard_balances(self, data: bytes, at_ns: int) -> BalancesHeard | None:
        """All assets we know of, with those that were just told. Raises UNREADABLE."""
        level = self.mode.level if self.mode is not None else ""
        accounts = say.decode_accounts(data)
        told = [say.balance_of(row, level) for account in accounts for row in account.details]
        if not told:
            return None
        with self.lock:
            self.balances.update((balance.asset, balance) for balance in told)
            balances = tuple(self.balances.values())
        return BalancesHeard(at_ns, self.venue, self.name, balances)

    def note_rest(self, client_id: str, ticks: int, lots: int) -> None:
        with self.lock:
            self._rests[client_id] = (ticks, lots)
            if len(self._rests) > KEPT:
                self._rests.popitem(last=False)

    def _note_row(self, row: say.OrderRow, market: Market, client_id: str) -> None:
        status = say.status_of(row)
        if status is None or status.is_final:
            with self.lock:
                self._rests.pop(client_id, None)
        elif row.px:
            instrument, side = market.instrument, say.SIDES[row.side]
            ticks = instrument.ticks(public.number(row.px), side)
            self.note_rest(client_id, ticks, instrument.lots(public.number(row.sz)))
        is_ours = client_id in self._used and (not self.settings.tag or row.tag == self.settings.tag)
        if is_ours and row.stpMode and row.stpMode != self.settings.stp:
            self.stp_mismatches += 1
            self.trouble = f"self-trade prevention is {row.stpMode[:20]}, asked for {self.settings.stp}"
            log.error("order=%s %s", client_id, self.trouble)

    # ------------------------------------------------------------------ markets

    def fetch_markets(self) -> tuple[Instrument, ...]:
        """Read all markets, the account's modes and fees; those that trade now, by name."""
        with self._load:
            self._load_markets()
        found = (market.instrument for market in self.symbols.all() if market.is_trading)
        return tuple(sorted(found, key=lambda instrument: instrument.symbol))

    def need_markets(self) -> None:
        if self._loaded_at is None:
            with self._load:
                if self._loaded_at is None:
                    self._load_markets()

    def reload_if_stale(self) -> None:
        """Read the markets anew when an answer or a push made them doubtful. Raises ExchangeError."""
        if self.is_stale and self._loaded_at is not None and time.monotonic() - self._loaded_at > RELOAD_S:
            with self._load:
                self._load_markets()

    def terms(self, instrument: InstrumentId) -> ask.Terms:
        """Raises Rejected for a market that the venue does not list."""
        self.need_markets()
        terms = self._terms.get(instrument)
        if terms is None:
            raise Rejected(f"{self.venue} lists no {instrument.symbol or instrument}")
        return terms

    def _load_markets(self) -> None:
        mode = say.mode_of(self.config())
        listed: list[Market] = []
        for inst_type in INST_TYPES[self.venue]:
            rows = self._public("instruments", "/api/v5/public/instruments", {"instType": inst_type})
            groups, flat = self.fees({"instType": inst_type})
            known = [*groups.values(), *([flat] if flat is not None else [])]
            if not known:
                raise Unavailable(f"OKX names no fee rates for {inst_type}")
            dearest = FeeRates(max(fee.maker for fee in known), max(fee.taker for fee in known))
            for row in rows:
                fees = groups.get(row.groupId) or flat or dearest
                try:
                    listed.append(public.market_of(row, fees.maker, fees.taker))
                except (ValueError, ArithmeticError) as error:
                    log.debug("market=%s left out: %s", row.instId[:40], error)
        symbols = Symbols(listed)
        for name in symbols.left_out:
            log.warning("market=%s left out: another one has its symbol", name)
        s = self.settings
        self._terms = {
            market.instrument.id: ask.Terms.of(
                market, self._trade_mode(market, mode.level), mode.is_hedged, s.stp, s.tag
            )
            for market in symbols.all()
        }
        self.symbols, self.mode = symbols, mode
        self.is_stale = False
        self._loaded_at = time.monotonic()

    def _trade_mode(self, market: Market, level: str) -> str:
        if market.inst_type == "SPOT":
            return "cross" if level in say.MARGIN_MODES else "cash"
        return "" if level == "1" else self.settings.margin_mode

    def config(self) -> say.ConfigRow:
        rows = self.signed("config", "/api/v5/account/config", {}, say.decode_configs)
        if len(rows) != 1:
            raise Unavailable("OKX did not tell how the account is set up")
        return rows[0]

    def fees(self, params: Mapping[str, str]) -> tuple[dict[str, FeeRates], FeeRates | None]:
        rows = self.signed("trade-fee", "/api/v5/account/trade-fee", params, say.decode_fees)
        groups: dict[str, FeeRates] = {}
        flat: FeeRates | None = None
        try:
            for row in rows:
                more, flat = say.fees_of(row)
                groups.update(more)
        except say.UNREADABLE:
            raise Unavailable("OKX tells fee rates that are no numbers") from None
        return groups, flat

    # ------------------------------------------------------------------ asking over HTTP

    def _public(self, pool: str, path: str, params: Mapping[str, str]) -> list[public.Listing]:
        costs = ((pool, 1),)
        self._take_for_read(costs)
        answer = self._asked(self.lines, {}, f"{path}?{urlencode(params)}", costs)
        return self._read(answer, pool, public.decode_listings)

    def signed(
        self, pool: str, path: str, params: Mapping[str, str | int], decode: Callable[[msgspec.Raw], T]
    ) -> T:
        """A signed read; when the venue found our clock wrong, it is measured and the read repeated once."""
        if self.offset_ns is None:
            self.sync_clock()
        target = f"{path}?{urlencode(params)}" if params else path
        costs = ((pool, 1),)
        for is_retry in (False, True):
            self._take_for_read(costs)
            headers = self.key.headers(self.stamp_ms(), "GET", target)
            try:
                return self._read(self._asked(self.lines, headers, target, costs), pool, decode)
            except Unavailable as error:
                if is_retry or error.code not in EXPIRED_STAMP:
                    raise
            self.offset_ns = None
            self.sync_clock()
        raise AssertionError("unreachable")

    def write(self, request: ask.Request, lines: SignedLine | SignedLines | None = None) -> say.Answer:
        """Send one write over HTTP and wait: an answer whose items decide, or the error is raised that it
        means. Sent once; once more only when our clock was found wrong, with which nothing happened. The
        budget is the caller's.
        """
        if self.offset_ns is None:
            self._sync_for_write(lines)
        body = ask.over_http(request)
        for is_retry in (False, True):
            headers = self.key.headers(self.stamp_ms(), "POST", request.path, body)
            if request.deadline:
                headers["expTime"] = str(self.deadline_ms())
            answer = (lines or self.lines).ask_with(headers, "POST", request.path, body, is_write=True)
            try:
                return self.checked(answer, is_write=True, costs=request.costs)
            except Unavailable as error:
                if is_retry or error.code not in EXPIRED_STAMP:
                    raise
            self.offset_ns = None
            self._sync_for_write(lines)
        raise AssertionError("unreachable")

    def call(self, request: ask.Request) -> say.Answer:
        """A write whose end the caller waits for. Raises ExchangeError."""
        self._take(request.costs, is_cancel=request.is_cancel)
        try:
            return self.write(request)
        finally:
            self.budget.settle(request.costs, (), self.venue_ns())

    def _sync_for_write(self, lines: SignedLine | SignedLines | None) -> None:
        try:
            self.sync_clock(lines)
        except OutcomeUnknown:  # a read: nothing was done to any order
            raise Unavailable("the venue's clock could not be read") from None

    def _asked(
        self,
        lines: SignedLine | SignedLines,
        headers: Mapping[str, str],
        target: str,
        costs: tuple[Cost, ...],
    ) -> Answer:
        try:
            return lines.ask_with(headers, "GET", target, is_write=False)
        finally:
            self.budget.settle(costs, (), self.venue_ns())

    def _read(self, answer: Answer, pool: str, decode: Callable[[msgspec.Raw], T]) -> T:
        checked = self.checked(answer, is_write=False, costs=((pool, 1),))
        try:
            return decode(checked.data)
        except say.UNREADABLE:
            self.unread += 1
            raise Unavailable("OKX answered with something that is not what its API says") from None

    def checked(self, answer: Answer, *, is_write: bool, costs: tuple[Cost, ...]) -> say.Answer:
        """The outside of an answer whose items can be looked at; else the error is raised that the venue
        means by it, and its limits are kept.
        """
        try:
            told = say.decode_answer(answer.body)
        except say.UNREADABLE:  # a page of HTML from something in between: the status alone decides
            told = say.Answer("")
        is_told = told.code == "0" or (is_write and told.code in ("1", "2"))
        if is_told and answer.status == 200:
            return told
        code = "" if told.code == "0" else told.code
        if is_write and code in ("1", "2"):
            code = ""
        raise self.error_from(
            answer.status, code, told.msg, is_write=is_write, costs=costs, wait_s=answer.retry_after_s
        )

    def error_from(
        self,
        status: int,
        code: str,
        text: str,
        *,
        is_write: bool,
        costs: tuple[Cost, ...],
        wait_s: float | None = None,
    ) -> ExchangeError:
        """The error that an answer means. A limit empties the pools that the request was counted in; a
        time that the answer names (`Retry-After`) holds for everything.
        """
        if code in BAD_MARKETS:
            self.is_stale = True
        if code in LATE:
            self.is_clock_doubtful = True
        error = error_of(status, code, text, is_write=is_write, retry_after_s=wait_s)
        if isinstance(error, RateLimited):
            now_ns = self.venue_ns()
            if wait_s is not None or not code:
                self.budget.block(error.retry_after_s, error.message, now_ns)
            else:
                own = [name for name, _ in costs if name != ask.ACCOUNT_POOL]
                names = [ask.ACCOUNT_POOL] if code == ACCOUNT_LIMIT else own
                waits = [self.budget.exhaust(name, now_ns) for name in names]
                error.retry_after_s = max([wait for wait in waits if wait] or [error.retry_after_s])
        return error

    # ------------------------------------------------------------------ limits

    def _take(self, costs: tuple[Cost, ...], *, is_cancel: bool = False) -> None:
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns, is_cancel=is_cancel)
        if wait_s:
            if self.budget.blocked_s(now_ns):
                raise RateLimited("OKX asked us to wait", retry_after_s=wait_s)
            raise RateLimited("our budget of OKX's rate limit is used up", retry_after_s=wait_s)

    def _take_for_read(self, costs: tuple[Cost, ...]) -> None:
        """As `_take`, but waits for the next window: the caller of a read waits anyhow. Inside a time that
        the venue asked for it raises all the same.
        """
        now_ns = self.venue_ns()
        wait_s = self.budget.take(costs, now_ns)
        if wait_s:
            if not self.budget.blocked_s(now_ns) and wait_s <= WINDOW_NS / 1e9:
                threading.Event().wait(wait_s + 0.001)
            self._take(costs)

    def _pool_for(self, venue_symbol: str) -> None:
        if venue_symbol not in self._pooled:
            with self.lock:
                self._pooled.add(venue_symbol)
            self._use_pools()

    def _use_pools(self) -> None:
        """Reads by path, orders by market and for the whole account. Cancels are counted apart from the
        rest by OKX itself, so no share needs to be kept for them.
        """
        share = self.settings.limit_share
        limits = {**READ_LIMITS, ask.ACCOUNT_POOL: PER_ACCOUNT, "cancel-batch-orders": CANCELS_IN_BATCHES}
        for symbol in sorted(self._pooled):
            for pool in (ask.place_pool(symbol), ask.amend_pool(symbol), ask.cancel_pool(symbol)):
                limits[pool] = PER_MARKET
        pools = [Pool(name, max(1, int(limit * share)), WINDOW_NS) for name, limit in limits.items()]
        self.budget.set_pools(pools)

    def close(self) -> None:
        self.lines.close()


def request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.CANCEL if isinstance(command, Cancel) else Request.AMEND
