"""OKX as an `Exchange` with `AccountReads`: one account and product, orders over the private WebSocket, reads
over HTTP.

Hides: which of the two ways a call takes. `api.exchange` says what each call promises. Made by `connect`
of the package; not registered as a venue that is offered yet.
"""

from __future__ import annotations

import math
import threading
import time

from api.budget import PoolShown
from api.errors import (
    BadInput,
    BelowMinimum,
    ExchangeError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    UnknownOrder,
)
from api.exchange import AccountMode, Capabilities, FeeRates, FundingPayment, KeyRights, Listener
from api.runtime import Clock, ClockLike, Service
from api.types import (
    Approved,
    Balance,
    Fill,
    Instrument,
    InstrumentId,
    OrderReport,
    Outcome,
    Position,
)
from api.venues.okx import requests as ask
from api.venues.okx.account import DEAD_MAN_S, Job, Settings
from api.venues.okx.endpoints import Endpoints, endpoints
from api.venues.okx.errors import error_of
from api.venues.okx.http_orders import HttpOrders
from api.venues.okx.keys import OkxKey
from api.venues.okx.messages import UNREADABLE, decode_items
from api.venues.okx.public import INST_TYPES
from api.venues.okx.reads import ReadAccount
from api.venues.okx.session import OrderSession
from api.wire_http import Proxy

CAPABILITIES = Capabilities(
    post_only=True,
    ioc=True,
    fok=True,
    amend=True,
    amend_keeps_queue=False,  # not said by the documents we have, so not relied on
    cancel_all=True,
    query_by_client_id=True,
    self_trade_prevention=ask.STP_MODES,
    dead_man=True,
    max_batch=1,
    maker_rebates=True,
)
ARM_AGAIN_S = 1.0  # the venue takes one call a second; a running countdown is renewed no faster
CANCEL_ROUNDS = 5  # of listing and cancelling, until nothing of ours is listed


class OkxTrading:
    """See the module docstring.

    Args:
        venue: `okx_spot` or `okx_swap` (swaps and dated futures).
        env: "live" or "demo"; each has keys of its own.
        account: our name of the account.
        ids: keeps translated client ids; needed only for ids that are not 1 to 32 letters and digits.
        where: other addresses (a region's, or this machine's for tests).

    Raises:
        BadInput: there is no such venue or environment.
    """

    def __init__(
        self,
        venue: str,
        key: OkxKey,
        *,
        env: str = "demo",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        ids: ask.ClientIds | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        if venue not in INST_TYPES:
            raise BadInput("venue", f"OKX is {' or '.join(INST_TYPES)}; not {venue!r}")
        self.env = env
        self.settings = settings or Settings()
        self._account = ReadAccount(
            venue,
            key,
            where or endpoints(env),
            clock or Clock(),
            account,
            self.settings,
            ids or ask.MemoryClientIds(),
            proxy,
        )
        self._session: OrderSession | None = None
        self._http: HttpOrders | None = None
        self._is_closed = False
        self._armed = (0, 0.0)  # seconds of the countdown, when it was started
        self._lock = threading.Lock()

    @property
    def venue(self) -> str:
        return self._account.venue

    @property
    def account(self) -> str:
        return self._account.name

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    # ------------------------------------------------------------------ the order path

    def connect(self, heard: Listener) -> None:
        """Start the order thread; `LinkChanged` up follows when the account's events are subscribed to."""
        with self._lock:
            self._account.listener = heard
            self._is_closed = False
            if self._session is not None:
                return
            is_http = self.settings.order_path == "http"
            self._http = HttpOrders(self._account, is_main=is_http)
            self._session = OrderSession(self._account, self._http.submit, carries_orders=not is_http)
            self._http.start()
            self._session.start()

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`: then no answer could be told to anybody."""
        command, account, session = approved.command, self._account, self._session
        if account.listener is None:
            raise RuntimeError(f"{account.venue} account {account.name}: connect before sending")
        if self._is_closed or session is None:
            account.answer(command, Outcome.UNAVAILABLE, error="Unavailable", reason="the venue was closed")
            return
        try:
            request = account.request_for(command)
        except Rejected as error:
            account.refuse(command, error)
            return
        session.submit(Job(request, command))

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Cancel every order with our tag in one market; None: in all of this product. OKX has no such
        request, so the open orders are listed and cancelled in batches of 20, until the list shows none of
        ours.

        Raises ExchangeError; then some may still rest.
        """
        account = self._account
        done: set[str] = set()
        for _ in range(CANCEL_ROUNDS):
            orders = [
                (row.instId, market.code, row.ordId)
                for row, market in account.fetch_rows(instrument)
                if (not self.settings.tag or row.tag == self.settings.tag) and row.ordId not in done
            ]
            if not orders:
                return
            for start in range(0, len(orders), ask.MAX_BATCH):
                batch = tuple(orders[start : start + ask.MAX_BATCH])
                done |= self._cancel_batch(batch)
        raise OutcomeUnknown("OKX still lists orders of ours after several rounds of cancelling")

    def _cancel_batch(self, batch: tuple[tuple[str, int | None, str], ...]) -> set[str]:
        """The orders that need no more cancelling; those of a refused item are listed again and tried
        again."""
        answer = self._account.call(ask.cancel_batch(batch))
        try:
            items = decode_items(answer.data)
        except UNREADABLE:
            raise OutcomeUnknown("OKX answered a cancel in words that we cannot read") from None
        done = set()
        for (_, _, order_id), item in zip(batch, items, strict=False):
            error = None if item.sCode == "0" else error_of(200, item.sCode, item.sMsg, is_write=True)
            if error is None or isinstance(error, UnknownOrder):
                done.add(order_id)
            elif not isinstance(error, OutcomeUnknown | RateLimited):
                raise error
        return done

    def arm_dead_man(self, timeout_s: float) -> None:
        """(Re)start OKX's countdown for the orders with our tag, 0 stops it. The venue knows 10 to 120 whole
        seconds, so less is rounded up and more is cut. Nothing here renews it: it runs out unless the caller
        calls again. A renewal within a second of the last one is not sent (one call a second is allowed).

        Raises:
            BelowMinimum: a negative time. ExchangeError: the venue's.
        """
        if not timeout_s >= 0:
            raise BelowMinimum("the dead-man's countdown cannot be negative")
        low, high = DEAD_MAN_S
        seconds = 0 if timeout_s == 0 else min(high, max(low, math.ceil(timeout_s)))
        with self._lock:
            now = time.monotonic()
            armed, at = self._armed
            if seconds and seconds == armed and now - at < ARM_AGAIN_S:
                return
        request = ask.cancel_all_after(seconds, self.settings.tag)
        try:
            self._account.call(request)
        except RateLimited as error:
            if seconds:
                raise
            # A countdown that was meant to stop must not run on because it was started a moment ago.
            threading.Event().wait(min(error.retry_after_s, 2.0))
            self._account.call(request)
        with self._lock:
            self._armed = (seconds, now)

    # ------------------------------------------------------------------ reads

    def fetch_instruments(self) -> tuple[Instrument, ...]:
        return self._account.fetch_markets()

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        return self._account.fetch_open(instrument)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        return self._account.fetch_order(instrument, client_id)

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        return self._account.fetch_fills(instrument, since_ns)

    def fetch_balances(self) -> tuple[Balance, ...]:
        return self._account.fetch_balances()

    def fetch_server_ns(self) -> int:
        return self._account.sync_clock()

    def fetch_positions(self) -> tuple[Position, ...]:
        return self._account.fetch_positions()

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates:
        return self._account.fetch_fee_rates(instrument)

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        return self._account.fetch_funding(instrument, since_ns)

    def fetch_key_rights(self) -> KeyRights:
        return self._account.fetch_key_rights()

    def fetch_account_mode(self) -> AccountMode:
        return self._account.fetch_account_mode()

    # ------------------------------------------------------------------ for health and console

    @property
    def clock_offset_ns(self) -> int | None:
        """The venue's clock minus ours; None: not measured yet."""
        return self._account.offset_ns

    @property
    def trouble(self) -> str:
        """What a person should know, empty: nothing."""
        return self._account.trouble

    @property
    def services(self) -> tuple[Service, ...]:
        session, http = self._session, self._http
        found = () if session is None else (session.service,)
        return found if http is None else (*found, *http.services)

    def limits(self) -> tuple[PoolShown, ...]:
        return self._account.budget.shown(self._account.venue_ns())

    def self_trade_prevention(self, instrument: InstrumentId) -> str:
        """The mode that each order asks for; the rows that come back are compared with it (`trouble`)."""
        return self._account.terms(instrument).stp

    def close(self) -> None:
        """Stop the threads. Nothing is cancelled; what was sent and not answered is unknown. Idempotent."""
        with self._lock:
            self._is_closed = True
            session, self._session = self._session, None
            http, self._http = self._http, None
        if session is not None:
            session.stop()
        if http is not None:
            http.stop()
        if session is not None:
            session.join(2.0)
        if http is not None:
            http.join(self.settings.answer_s + 1.0)
        self._account.close()


def connect(
    venue: str,
    key: OkxKey,
    *,
    env: str = "demo",
    account: str = "main",
    clock: ClockLike | None = None,
    settings: Settings | None = None,
    ids: ask.ClientIds | None = None,
    where: Endpoints | None = None,
    proxy: Proxy | None = None,
) -> OkxTrading:
    """An account with its markets read, so that orders can be sent at once after `OkxTrading.connect`.

    Raises:
        BadInput: see `OkxTrading`. ExchangeError: the markets or the account could not be read.
    """
    made = OkxTrading(
        venue,
        key,
        env=env,
        account=account,
        clock=clock,
        settings=settings,
        ids=ids,
        where=where,
        proxy=proxy,
    )
    try:
        made.fetch_instruments()
    except ExchangeError:
        made.close()
        raise
    return made
