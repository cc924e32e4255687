"""Binance USDT-M futures or Aster as an `Exchange` and `AccountReads`: one account.

Hides: which of the ways a call takes. `api.exchange` says what each call promises. Made by the packages
`api.venues.binance_usdm` and `api.venues.aster`, which bring what differs.

The venues' dead-man's switch counts down per market. `arm_dead_man` (re)starts it in every market in which
this account was seen to trade, and while it is armed the first order in another market starts it there too;
it is refreshed only by being called again. Its weight is 10 per market and call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from api.budget import PoolShown
from api.errors import BadInput, ExchangeError, OutcomeUnknown, Rejected, Unavailable
from api.exchange import AccountMode, Capabilities, FeeRates, FundingPayment, KeyRights, Listener
from api.runtime import Clock, ClockLike, Service
from api.types import (
    Approved,
    Balance,
    Cancel,
    Command,
    Fill,
    Instrument,
    InstrumentId,
    OrderReport,
    Outcome,
    Place,
    Position,
)
from api.venues import usdm_messages as say
from api.venues import usdm_requests as ask
from api.venues.usdm_account import Account, Job, Settings, Where
from api.venues.usdm_http import HttpOrders
from api.venues.usdm_public import UNREADABLE
from api.venues.usdm_session import Session
from api.wire_http import Proxy


def capabilities(stp_modes: Sequence[str]) -> Capabilities:
    return Capabilities(
        post_only=True,
        ioc=True,
        fok=True,
        amend=True,
        amend_keeps_queue=False,
        cancel_all=True,
        query_by_client_id=True,
        self_trade_prevention=tuple(mode.lower() for mode in stp_modes if mode != "NONE"),
        dead_man=True,
        max_batch=ask.MAX_BATCH_PLACE,
    )


class UsdmTrading:
    """See the module docstring.

    Args:
        env: for display; `where` says the addresses.
        account: our name of the account.
    """

    def __init__(
        self,
        dialect: ask.Dialect,
        signer: ask.Signer,
        where: Where,
        *,
        env: str,
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.env = env
        self.settings = settings or Settings()
        self._capabilities = capabilities(dialect.stp_modes)
        self._account = Account(dialect, signer, where, clock or Clock(), account, self.settings, proxy)
        self._session: Session | None = None
        self._http: HttpOrders | None = None
        self._is_closed = False
        self._armed: set[str] = set()
        self._armed_s = 0.0
        self._armed_until = 0.0
        self._lock = threading.Lock()

    @property
    def venue(self) -> str:
        return self._account.dialect.name

    @property
    def account(self) -> str:
        return self._account.name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    # ------------------------------------------------------------------ the order path

    def connect(self, heard: Listener) -> None:
        """Start the order thread; `LinkChanged` up follows when the private stream stands."""
        account = self._account
        with self._lock:
            account.listener = heard
            self._is_closed = False
            if self._session is not None:
                return
            is_http = self.settings.order_path == "http" or not account.where.socket
            self._http = HttpOrders(account, is_main=is_http)
            self._session = Session(account, self._http.submit, carries_orders=not is_http)
            self._http.start()
            self._session.start()

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`: then no answer could be told to anybody."""
        command = approved.command
        session = self._ready((command,))
        if session is None:
            return
        try:
            request = self._account.request_for(command)
        except ExchangeError as error:
            self._account.refuse(command, error)
            return
        if isinstance(command, Place):
            self._cover(session, command)
        session.submit(Job(request, (command,)))

    def send_batch(self, batch: Sequence[Approved]) -> None:
        """Several commands in as few requests as the venue allows: up to 5 places, or 10 cancels of one
        market, in each. One `Answered` follows for each command, as from `send`; amends go one by one.

        Batches travel over HTTP: what is sent right behind one about an order in it may overtake it, and is
        then about an unknown order.
        """
        commands = tuple(approved.command for approved in batch)
        session = self._ready(commands)
        if session is None:
            return
        places = [command for command in commands if isinstance(command, Place)]
        cancels: dict[InstrumentId, list[Cancel]] = {}
        for command in commands:
            if isinstance(command, Cancel):
                cancels.setdefault(command.instrument, []).append(command)
        for of_one in cancels.values():
            for start in range(0, len(of_one), ask.MAX_BATCH_CANCEL):
                self._cancel_batch(session, of_one[start : start + ask.MAX_BATCH_CANCEL])
        for start in range(0, len(places), ask.MAX_BATCH_PLACE):
            self._place_batch(session, tuple(places[start : start + ask.MAX_BATCH_PLACE]))
        for approved in batch:
            if not isinstance(approved.command, Place | Cancel):
                self.send(approved)

    def _place_batch(self, session: Session, places: tuple[Place, ...]) -> None:
        account = self._account
        try:
            request = account.batch_for(places)
        except ExchangeError:
            for command in places:  # one of them cannot be asked: find out which
                self._single(session, command)
            return
        for command in places:
            self._cover(session, command)
        session.submit(Job(request, places, is_batch=True))

    def _cancel_batch(self, session: Session, cancels: list[Cancel]) -> None:
        account = self._account
        try:
            symbol = account.texts_of(cancels[0].instrument).instrument.venue_symbol
        except ExchangeError as error:
            for command in cancels:
                account.refuse(command, error)
            return
        request = ask.cancel_batch([command.client_id for command in cancels], symbol, account.dialect)
        session.submit(Job(request, tuple(cancels), is_batch=True))

    def _single(self, session: Session, command: Command) -> None:
        try:
            request = self._account.request_for(command)
        except ExchangeError as error:
            self._account.refuse(command, error)
            return
        session.submit(Job(request, (command,)))

    def _ready(self, commands: tuple[Command, ...]) -> Session | None:
        """The session; None: the commands were answered as never sent."""
        account, session = self._account, self._session
        if account.listener is None:
            raise RuntimeError(f"{self.venue} account {account.name}: connect before sending")
        if self._is_closed or session is None:
            for command in commands:
                account.answer(
                    command, Outcome.UNAVAILABLE, error="Unavailable", reason="the venue was closed"
                )
            return None
        return session

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Cancel every order of the account in one market, whoever sent it (the venue cannot tell); None: in
        each market where one rests. Raises ExchangeError.
        """
        account = self._account
        if instrument is not None:
            symbols = [account.instrument(instrument).venue_symbol]
        else:
            open_in = {report.instrument for report in account.fetch_open(None)}
            symbols = sorted(account.instrument(found).venue_symbol for found in open_in)
        failed: ExchangeError | None = None
        for symbol in symbols:
            try:
                if say.decode_done(self._call(ask.cancel_all(symbol, account.dialect))).code != 200:
                    failed = OutcomeUnknown(f"{account.dialect.title} did not say that it cancels")
            except UNREADABLE:
                failed = OutcomeUnknown(f"{account.dialect.title} answered in words that we cannot read")
            except ExchangeError as error:
                failed = error
        if failed is not None:
            raise failed

    def arm_dead_man(self, timeout_s: float) -> None:
        """As the module docstring says; 0 stops it. Raises ExchangeError: a market may be without it then;
        BadInput: a time below 0.
        """
        if timeout_s < 0:
            raise BadInput("timeout_s", "must be 0 or more seconds")
        account = self._account
        with self._lock:
            symbols = sorted(account.touched | self._armed)
            self._armed_s = timeout_s
            self._armed_until = time.monotonic() + timeout_s
        failed: ExchangeError | None = None
        for symbol in symbols:
            request = ask.countdown(symbol, timeout_s, account.dialect)
            try:
                told = say.decode_countdown(self._call(request))
                if told.countdownTime != request.params["countdownTime"]:
                    failed = Rejected(f"the countdown in {symbol} is {told.countdownTime} ms")
            except UNREADABLE:
                failed = OutcomeUnknown(f"{account.dialect.title} answered in words that we cannot read")
            except ExchangeError as error:
                failed = error
            else:
                with self._lock:
                    self._armed.add(symbol) if timeout_s else self._armed.discard(symbol)
        if failed is not None:
            raise failed

    def _cover(self, session: Session, command: Place) -> None:
        """Note the market; while the dead-man's switch is armed, start it there before the first order."""
        symbol = self._account.texts[command.instrument].instrument.venue_symbol
        with self._lock:
            self._account.touched.add(symbol)
            left_s = self._armed_until - time.monotonic()
            if not self._armed_s or left_s <= 0 or symbol in self._armed:
                return
            self._armed.add(symbol)
        request = ask.countdown(symbol, left_s, self._account.dialect)

        def done(result: bytes | ExchangeError) -> None:
            if isinstance(result, ExchangeError):
                with self._lock:
                    self._armed.discard(symbol)

        session.submit(Job(request, done=done))

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
        return self._account.fetch_rates(instrument)

    def fetch_funding(self, instrument: InstrumentId, since_ns: int) -> tuple[FundingPayment, ...]:
        return self._account.fetch_funding(instrument, since_ns)

    def fetch_key_rights(self) -> KeyRights:
        return self._account.fetch_rights()

    def fetch_account_mode(self) -> AccountMode:
        return self._account.fetch_mode()

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
        found = () if session is None else (session.service, session.keeper)
        return found if http is None else (*found, *http.services)

    def limits(self) -> tuple[PoolShown, ...]:
        return self._account.budget.shown(self._account.venue_ns())

    def close(self) -> None:
        """Stop the threads. Nothing is cancelled; what was sent and not answered is unknown. The listen key
        is left to end by itself: another session of the account may use it. Idempotent.
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
            raise OutcomeUnknown(f"{account.dialect.title}: no answer")
        if isinstance(results[0], ExchangeError):
            raise results[0]
        return results[0]
