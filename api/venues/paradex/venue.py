"""Paradex as an `Exchange` with `AccountReads`: one account, orders over the WebSocket, reads over HTTP.

Hides: which of the two ways a call takes. `api.exchange` says what each call promises. Made by `connect`
of the package; not registered as a venue that is offered yet.
"""

from __future__ import annotations

import queue
import threading

from api.budget import PoolShown
from api.errors import BelowMinimum, ExchangeError, OutcomeUnknown, Unavailable, UnknownOrder
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
from api.venues.paradex import requests as ask
from api.venues.paradex.account import Account, Job, Settings, Told
from api.venues.paradex.endpoints import Endpoints, endpoints
from api.venues.paradex.http_orders import HttpOrders
from api.venues.paradex.keys import ParadexKey
from api.venues.paradex.session import OrderSession
from api.wire_http import Proxy

CAPABILITIES = Capabilities(
    post_only=True,
    ioc=True,
    fok=False,
    amend=True,
    amend_keeps_queue=False,  # not said by the documents we have, so not relied on
    cancel_all=True,
    query_by_client_id=True,
    self_trade_prevention=ask.STP_MODES,
    dead_man=True,
    max_batch=1,
    maker_rebates=False,
)


class ParadexTrading:
    """See the module docstring.

    Args:
        env: "live" or "testnet"; each has accounts and keys of its own.
        account: our name of the account.
        ids: keeps translated client ids; needed only for ids that are not 1 to 64 letters, digits or `._-`.
        where: other addresses (this machine's for tests).

    Raises:
        BadInput: there is no such environment, or the key was made for another one.
    """

    def __init__(
        self,
        key: ParadexKey,
        *,
        env: str = "testnet",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        ids: ask.ClientIds | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.env = env
        self.settings = settings or Settings()
        self._account = Account(
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
        self._lock = threading.Lock()
        self._arming = threading.Lock()

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
        except ExchangeError as error:
            account.refuse(command, error)
            return
        session.submit(Job(request, command))

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Cancel every order of the account in one market, whoever sent it (the venue cannot tell); None: in
        every one. Raises ExchangeError.
        """
        account = self._account
        symbol = None if instrument is None else account.market(instrument).instrument.venue_symbol
        try:
            account.call(ask.cancel_all(symbol))
        except UnknownOrder:
            pass  # there was nothing to cancel

    def arm_dead_man(self, timeout_s: float) -> None:
        """(Re)start the countdown after which the connection is cut and the venue cancels what was sent over
        it; 0 stops it. Nothing here renews it: it runs out unless the caller calls again. While it is armed
        no new order leaves over HTTP, which it may not cover.

        Raises:
            BelowMinimum: a negative time, or not a number.
            Unavailable: orders go over HTTP by setting; or there is no connection just now: it is switched on
                with the next one if the countdown still runs then.
            ExchangeError: the venue's.
        """
        if not 0 <= timeout_s < float("inf"):
            raise BelowMinimum("the dead-man's countdown cannot be negative")
        if self.settings.order_path == "http":
            raise Unavailable("orders over HTTP are not covered by Paradex's cancel-on-disconnect")
        with self._arming:
            session = self._session
            if session is None:
                raise Unavailable("the venue is not connected")
            must_tell = session.arm(timeout_s)
            if not must_tell:
                if timeout_s and not session.is_open:
                    raise Unavailable("the WebSocket is not connected: the dead-man waits for it")
                return
            told: queue.SimpleQueue[Told] = queue.SimpleQueue()
            session.submit(Job(ask.cancel_on_disconnect(timeout_s > 0), done=told.put))
            try:
                result = told.get(timeout=self.settings.answer_s + 1.0)
            except queue.Empty:
                raise OutcomeUnknown("Paradex did not answer whether the dead-man is set") from None
            if isinstance(result, ExchangeError):
                raise result

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

    def fetch_status(self) -> str:
        """ok, maintenance, cancel_only or post_only. Raises ExchangeError."""
        return self._account.fetch_status()

    def onboard(self, ethereum_account: str) -> None:
        """Register a new account with the venue; once is enough, twice does no harm. Accounts made on the
        website are registered already, and a subkey cannot do it.

        Raises:
            BadInput: not an address. ExchangeError: the venue's.
        """
        self._account.onboard(ethereum_account)

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
        return self.settings.stp

    def close(self) -> None:
        """Stop the threads; what was sent and not answered is unknown. Nothing is cancelled by us, but an
        armed dead-man stays armed: then the connection is cut, and the venue cancels. Idempotent.
        """
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
    key: ParadexKey,
    *,
    env: str = "testnet",
    account: str = "main",
    clock: ClockLike | None = None,
    settings: Settings | None = None,
    ids: ask.ClientIds | None = None,
    where: Endpoints | None = None,
    proxy: Proxy | None = None,
) -> ParadexTrading:
    """An account with its markets read, so that orders can be sent at once after `ParadexTrading.connect`.

    Raises:
        BadInput: see `ParadexTrading`. ExchangeError: the markets or the account could not be read.
    """
    made = ParadexTrading(
        key, env=env, account=account, clock=clock, settings=settings, ids=ids, where=where, proxy=proxy
    )
    try:
        made.fetch_instruments()
    except ExchangeError:
        made.close()
        raise
    return made
