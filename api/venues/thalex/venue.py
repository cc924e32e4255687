"""Thalex as an `Exchange` with `AccountReads`: one account, everything over its WebSocket.

Hides: which connection a call takes. `api.exchange` says what each call promises. Made by `connect` of the
package; not registered as a venue that is offered yet.
"""

from __future__ import annotations

import math
import threading

from api.budget import PoolShown
from api.errors import BelowMinimum, ExchangeError, OutcomeUnknown, Rejected, UnknownOrder
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
from api.venues.thalex import requests as ask
from api.venues.thalex.account import DEAD_MAN_S, Account, Job, Settings
from api.venues.thalex.endpoints import Endpoints, endpoints
from api.venues.thalex.ids import ClientIds, MemoryIds
from api.venues.thalex.keys import ThalexKey
from api.venues.thalex.public import NAME
from api.venues.thalex.session import OrderSession
from api.wire_http import Proxy

CAPABILITIES = Capabilities(
    post_only=True,
    ioc=True,
    fok=False,
    amend=True,
    amend_keeps_queue=True,  # at the same price and a lower amount
    cancel_all=True,
    query_by_client_id=False,  # found by looking through the open orders and the history
    self_trade_prevention=("customer", "account", "disabled"),
    dead_man=True,
    max_batch=1,
    maker_rebates=False,
)
CANCEL_ROUNDS = 5  # of listing and cancelling, until nothing is listed


class ThalexTrading:
    """See the module docstring.

    Args:
        env: "live" or "testnet"; each has keys of its own.
        account: our name of the account (the venue's number of it is in the settings).
        ids: the durable table of client ids; without one it lasts as long as this object.
        where: other addresses (approved ones, or this machine's for tests).

    Raises:
        BadInput: there is no such environment.
    """

    def __init__(
        self,
        key: ThalexKey,
        *,
        env: str = "testnet",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        ids: ClientIds | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.env = env
        self.settings = settings or Settings()
        self._account = Account(
            key, where or endpoints(env), clock or Clock(), account, self.settings, ids or MemoryIds(), proxy
        )
        self._session: OrderSession | None = None
        self._is_closed = False
        self._early_arm = (0, 0.0)
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
        """Start the session; `LinkChanged` up follows when the account's events are subscribed to."""
        with self._lock:
            self._account.listener = heard
            self._is_closed = False
            if self._session is not None:
                return
            self._session = session = OrderSession(self._account)
            seconds, until_s = self._early_arm
            if seconds:
                session.arm(seconds, until_s)
            self._account.submit = session.submit
            session.start()

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`: then no answer could be told to anybody."""
        command, account, session = approved.command, self._account, self._session
        if account.listener is None:
            raise RuntimeError(f"{NAME} account {account.name}: connect before sending")
        if self._is_closed or session is None:
            account.answer(command, Outcome.UNAVAILABLE, error="Unavailable", reason="the venue was closed")
            return
        if not session.is_open:
            account.answer(
                command,
                Outcome.UNAVAILABLE,
                error="Unavailable",
                reason="there is no connection to Thalex, and client ids live in one",
            )
            return
        try:
            account.check(command)
        except Rejected as error:
            account.refuse(command, error)
            return
        job = Job(None, command)
        if not session.submit(job):
            account.unsent(command)

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        """Cancel every order of the account, whoever sent it (the venue cannot tell). In one market: its open
        orders are listed and cancelled one by one, until the list shows none.

        Raises:
            ExchangeError: then some may still rest.
        """
        account, session = self._account, self._session
        if instrument is None:
            failed: ExchangeError | None = None
            if session is not None and session.is_armed and session.is_open:
                try:
                    account.call(ask.CANCEL_SESSION)  # takes along what is in flight; cancel_all may not
                except ExchangeError as error:
                    failed = error
            account.call(ask.CANCEL_ALL)
            if failed is not None:
                raise failed
            return
        for _ in range(CANCEL_ROUNDS):
            rows = account.fetch_rows(instrument)
            if not rows:
                return
            for row, _market in rows:
                try:
                    account.call(ask.cancel(ask.by_id(row.order_id)))
                except UnknownOrder:
                    pass  # it ended meanwhile; the next list tells
        raise OutcomeUnknown("Thalex still lists orders after several rounds of cancelling")

    def arm_dead_man(self, timeout_s: float) -> None:
        """(Re)start the countdown, 0 ends it. Call it before the first order: the venue watches over orders
        that are sent later only (before `connect` is best: the session is armed as it logs in). It is told
        whole seconds; here the countdown is exact. See `session` for what happens when it runs out.

        Raises:
            BelowMinimum: a negative time. ExchangeError: the venue did not confirm; it is told again.
        """
        if not timeout_s >= 0:
            raise BelowMinimum("the dead-man's countdown cannot be negative")
        low, high = DEAD_MAN_S
        seconds = 0 if timeout_s == 0 else min(high, max(low, math.ceil(timeout_s)))
        with self._lock:
            session = self._session
            self._early_arm = (seconds, timeout_s)
        if session is not None:
            session.arm(seconds, min(timeout_s, high))

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
        """Good to half a second: see `Account.sync_clock`."""
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
        session = self._session
        return () if session is None else (session.service,)

    def limits(self) -> tuple[PoolShown, ...]:
        return self._account.budget.shown(self._account.venue_ns())

    def self_trade_prevention(self, instrument: InstrumentId) -> str:
        """The level that each order asks for; empty: none, the account's own holds."""
        return self.settings.stp_level

    def close(self) -> None:
        """Stop the threads. Nothing is cancelled by us; a session that was armed takes its orders along at
        the venue. What was sent and not answered is unknown. Idempotent.
        """
        with self._lock:
            self._is_closed = True
            session, self._session = self._session, None
            self._account.submit = None
        if session is not None:
            session.stop()
            session.join(2.0)
        self._account.close()


def connect(
    key: ThalexKey,
    *,
    env: str = "testnet",
    account: str = "main",
    clock: ClockLike | None = None,
    settings: Settings | None = None,
    ids: ClientIds | None = None,
    where: Endpoints | None = None,
    proxy: Proxy | None = None,
) -> ThalexTrading:
    """An account with its markets read, so that orders can be sent at once after `ThalexTrading.connect`.

    Raises:
        BadInput: see `ThalexTrading`. ExchangeError: the markets could not be read.
    """
    made = ThalexTrading(
        key, env=env, account=account, clock=clock, settings=settings, ids=ids, where=where, proxy=proxy
    )
    try:
        made.fetch_instruments()
    except ExchangeError:
        made.close()
        raise
    return made
