"""Backpack as an `Exchange`: one product of one account, orders over HTTP, events over a WebSocket.

Hides: which of the two ways a call takes. `api.exchange` says what each call promises. Made by whoever holds
the key (`connect`, `pair`); not registered as a venue that is offered yet.
"""

from __future__ import annotations

import threading

from api.budget import PoolShown
from api.errors import BadInput, ExchangeError, Rejected, Unavailable, UnknownOrder
from api.exchange import AccountMode, Capabilities, FeeRates, FundingPayment, KeyRights, Listener
from api.runtime import Clock, ClockLike, Service
from api.signing import Key
from api.types import Approved, Balance, Fill, Instrument, InstrumentId, OrderReport, Outcome, Position
from api.venues.backpack import messages as say
from api.venues.backpack import requests as ask
from api.venues.backpack.account import Account, Job
from api.venues.backpack.endpoints import Endpoints, endpoints
from api.venues.backpack.ids import ClientIds
from api.venues.backpack.lines import SignedLine
from api.venues.backpack.login import Login, Settings
from api.venues.backpack.names import VENUE_OF, Product
from api.venues.backpack.orders import OrderLines, Sender
from api.venues.backpack.stream import BalancesPoll, Stream
from api.wire_http import Proxy


class BackpackTrading:
    """See the module docstring.

    Args:
        login: the key, shared by both products. product: "spot" or "perp".
    """

    def __init__(self, login: Login, product: Product) -> None:
        if product not in VENUE_OF:
            raise BadInput("product", f"must be one of {', '.join(VENUE_OF)}")
        self._login = login
        self._account = Account(login, product)
        self._sender = Sender(self._account)
        self._line: SignedLine | None = None
        self._calls = threading.Lock()
        self._lines: OrderLines | None = None
        self._stream: Stream | None = None
        self._balances: BalancesPoll | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def venue(self) -> str:
        return self._account.venue

    @property
    def account(self) -> str:
        return self._account.name

    @property
    def capabilities(self) -> Capabilities:
        """No amend and no dead-man's switch: `api.watchdog` stands in for the latter. `query_by_client_id`:
        while an order rests the venue answers; then its history is searched.
        """
        return Capabilities(
            post_only=True,
            ioc=True,
            fok=True,
            amend=False,
            amend_keeps_queue=False,
            cancel_all=True,
            query_by_client_id=True,
            self_trade_prevention=ask.STP_MODES,
            dead_man=False,
            max_batch=self._account.settings.batch,
        )

    # ------------------------------------------------------------------ the order path

    def connect(self, heard: Listener) -> None:
        """Start the threads; `LinkChanged` up follows when the account's events are subscribed to."""
        with self._lock:
            self._account.listener = heard
            self._is_closed = False
            if self._stream is not None:
                return
            self._lines = OrderLines(self._account)
            self._balances = BalancesPoll(self._account)
            self._stream = Stream(self._account)
            self._lines.start()
            self._balances.start()
            self._stream.start()

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`: then no answer could be told to anybody."""
        command, account, lines = approved.command, self._account, self._lines
        if account.listener is None:
            raise RuntimeError(f"{account.venue} account {account.name}: connect before sending")
        if self._is_closed or lines is None:
            account.answer(command, Outcome.UNAVAILABLE, error="Unavailable", reason="the venue was closed")
            return
        try:
            job = account.job_of(command)
        except ExchangeError as error:
            account.refuse(command, error)
            return
        lines.submit(job)

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Cancel every order of the account in one market, whoever sent it (the venue cannot tell); None: in
        each market of this product where one rests. Raises ExchangeError; of several the last.
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
                self._call(ask.cancel_all(symbol))
            except UnknownOrder:
                pass  # there was nothing to cancel
            except ExchangeError as error:
                failed = error
        if failed is not None:
            raise failed

    def arm_dead_man(self, timeout_s: float) -> None:
        """Raises Rejected: Backpack has none; `api.watchdog` stands in for it."""
        raise Rejected("Backpack has no dead-man's switch")

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
        return self._login.sync_clock()

    def fetch_positions(self) -> tuple[Position, ...]:
        return self._account.fetch_positions()

    def fetch_fee_rates(self, instrument: InstrumentId) -> FeeRates:
        self._account.market(instrument)
        return self._account.fetch_fees()

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        return self._account.fetch_funding(instrument, since_ns)

    def fetch_key_rights(self) -> KeyRights:
        """Asks the account, so that a wrong key shows; what a key may do Backpack does not tell."""
        self._account.fetch_account()
        return KeyRights(can_trade=None, can_withdraw=None, is_ip_bound=None)

    def fetch_account_mode(self) -> AccountMode:
        return self._account.fetch_mode()

    def fetch_margin(self) -> say.MarginRow:
        """Collateral with lent amounts, equity and margin of the whole account."""
        return self._account.fetch_margin()

    def fetch_deposit_address(self, blockchain: str) -> str:
        """`blockchain` in the venue's spelling, such as "Solana". Raises ExchangeError."""
        return self._account.fetch_address(blockchain)

    def fetch_status(self) -> say.StatusRow:
        """`status` is "Ok" or "Maintenance". Raises ExchangeError."""
        try:
            return say.decode_status(self._login.public("/api/v1/status"))
        except say.UNREADABLE:
            raise Unavailable("Backpack's status is not what its API says") from None

    # ------------------------------------------------------------------ for health and console

    @property
    def clock_offset_ns(self) -> int | None:
        """The venue's clock minus ours; None: not measured yet."""
        return self._login.offset_ns

    @property
    def trouble(self) -> str:
        """What a person should know, empty: nothing."""
        return self._account.trouble

    @property
    def services(self) -> tuple[Service, ...]:
        lines, stream, balances = self._lines, self._stream, self._balances
        if lines is None or stream is None or balances is None:
            return ()
        return (stream.service, balances.service, *lines.services)

    def limits(self) -> tuple[PoolShown, ...]:
        return self._login.budget.shown(self._login.venue_ns())

    def self_trade_prevention(self, instrument: InstrumentId) -> str:
        """The mode that each order asks for."""
        return self._account.settings.stp

    def close(self) -> None:
        """Stop the threads. Nothing is cancelled; what was sent and not answered is unknown. Idempotent."""
        with self._lock:
            self._is_closed = True
            parts = [part for part in (self._stream, self._balances) if part is not None]
            lines, self._lines = self._lines, None
            self._stream = self._balances = None
        for part in parts:
            part.stop()
        if lines is not None:
            lines.stop()
        for part in parts:
            part.join(2.0)
        if lines is not None:
            lines.join(self._account.settings.answer_s + 1.0)
        with self._calls:
            line, self._line = self._line, None
        if line is not None:
            line.close()
        self._login.close()

    def _call(self, request: ask.Request) -> bytes:
        """On the caller's own thread and connection: it waits for no order. Raises ExchangeError."""
        with self._calls:
            if self._line is None:
                self._line = self._login.line()
            ((_, result),) = self._sender.sent(self._line, [Job(request=request)])
        if isinstance(result, ExchangeError):
            raise result
        return result


def connect(
    key: Key,
    *,
    product: Product,
    ids: ClientIds,
    env: str = "live",
    account: str = "main",
    clock: ClockLike | None = None,
    settings: Settings | None = None,
    where: Endpoints | None = None,
    proxy: Proxy | None = None,
    ws_proxy: Proxy | None = None,
) -> BackpackTrading:
    """One product of an account. Nothing is asked of the venue yet.

    Args:
        key: `signing.key_from_seed`. ids: the durable table of client ids, of this account alone.
        account: our name of the account. where: other addresses (`endpoints.endpoints` refuses unknown
            hosts). ws_proxy: for the stream; None: `proxy` carries it too.

    Raises:
        BadInput: there is no such environment or product.
    """
    login = Login(
        key,
        where or endpoints(env),
        clock or Clock(),
        account,
        ids,
        settings or Settings(),
        proxy,
        ws_proxy,
    )
    return BackpackTrading(login, product)


def pair(
    key: Key,
    *,
    ids: ClientIds,
    env: str = "live",
    account: str = "main",
    clock: ClockLike | None = None,
    settings: Settings | None = None,
    where: Endpoints | None = None,
    proxy: Proxy | None = None,
    ws_proxy: Proxy | None = None,
) -> tuple[BackpackTrading, BackpackTrading]:
    """Both products, spot first, over one login: they share the rate limit, the clock and the client ids."""
    login = Login(
        key,
        where or endpoints(env),
        clock or Clock(),
        account,
        ids,
        settings or Settings(),
        proxy,
        ws_proxy,
    )
    return BackpackTrading(login, "spot"), BackpackTrading(login, "perp")
