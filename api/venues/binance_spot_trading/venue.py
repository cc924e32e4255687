"""Binance spot as an `Exchange`: one account, orders over the WebSocket API, reads over HTTP.

Hides: which of the two ways a call takes. `api.exchange` says what each call promises. Made by whoever
holds the key; not registered as a venue that is offered yet.
"""

from __future__ import annotations

import threading

from api.budget import PoolShown
from api.errors import ExchangeError, OutcomeUnknown, Rejected, Unavailable
from api.exchange import Capabilities, Listener
from api.runtime import Clock, ClockLike, Service
from api.signing import Key
from api.types import Approved, Balance, Fill, Instrument, InstrumentId, OrderReport, Outcome
from api.venues.binance_spot import NAME
from api.venues.binance_spot_trading import requests as ask
from api.venues.binance_spot_trading.account import STP_MODES, Account, Commission, Job, Settings
from api.venues.binance_spot_trading.endpoints import Endpoints, endpoints
from api.venues.binance_spot_trading.errors import NOTHING_OPEN
from api.venues.binance_spot_trading.http_orders import HttpOrders
from api.venues.binance_spot_trading.session import OrderSession
from api.wire_http import Proxy

CAPABILITIES = Capabilities(
    post_only=True,
    ioc=True,
    fok=True,
    amend=True,
    amend_keeps_queue=True,
    cancel_all=True,
    query_by_client_id=True,
    self_trade_prevention=tuple(mode.lower() for mode in STP_MODES if mode != "NONE"),
    dead_man=False,
    max_batch=1,
)


class BinanceSpotTrading:
    """See the module docstring.

    Args:
        key: the API key and what signs with it.
        env: "live", "testnet" or "demo"; each has keys of its own.
        account: our name of the account.
        where: addresses on this machine instead (tests, benchmarks).

    Raises:
        BadInput: there is no such environment.
    """

    def __init__(
        self,
        key: Key,
        *,
        env: str = "testnet",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.env = env
        self.settings = settings or Settings()
        self._account = Account(key, where or endpoints(env), clock or Clock(), account, self.settings, proxy)
        self._session: OrderSession | None = None
        self._http: HttpOrders | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def venue(self) -> str:
        return NAME

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
            raise RuntimeError(f"binance_spot account {account.name}: connect before sending")
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
        """Cancel every order of the account in one market, whoever sent it (the venue cannot tell); None: in
        each market where one rests. Raises ExchangeError.
        """
        account = self._account
        if instrument is not None:
            symbols = [account.market(instrument).instrument.venue_symbol]
        else:
            open_in = {report.instrument for report in account.fetch_open(None)}
            symbols = sorted(account.market(found).instrument.venue_symbol for found in open_in)
        failed: ExchangeError | None = None
        for symbol in symbols:
            try:
                self._call(ask.cancel_all(symbol, account.recv_window_ms))
            except ExchangeError as error:
                if error.code != str(NOTHING_OPEN):
                    failed = error
        if failed is not None:
            raise failed

    def arm_dead_man(self, timeout_s: float) -> None:
        """Raises Rejected: Binance spot has none; `api.watchdog` stands in for it."""
        raise Rejected("Binance spot has no dead-man's switch")

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

    def fetch_commission(self, instrument: InstrumentId) -> Commission:
        """The fee rates of one market, exactly; `Instrument` carries those of the account."""
        return self._account.fetch_commission(instrument)

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
        """The mode that each order in this market asks for; empty: the venue offers none there."""
        return self._account.stp_of(self._account.market(instrument))

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

    def _call(self, request: ask.Request) -> bytes:
        """A request whose end the caller waits for. Raises ExchangeError."""
        account, session = self._account, self._session
        ended = threading.Event()
        results: list[bytes | ExchangeError] = []

        def done(result: bytes | ExchangeError) -> None:
            results.append(result)
            ended.set()

        if session is None:
            raise Unavailable("the venue is not connected")
        session.submit(Job(request, done=done))
        if not ended.wait(2 * account.settings.answer_s + 1.0):
            raise OutcomeUnknown("Binance: no answer")
        if isinstance(results[0], ExchangeError):
            raise results[0]
        return results[0]
