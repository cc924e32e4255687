"""Backpack spot over the fake of its wire protocol, as a rig of the suite.

The suite speaks of `paper:BTC-USDT`; `Renamed` lets the venue be called so and changes nothing else. A rig's
faults are made from what the fake can do on the wire. What Backpack does not have, or does otherwise by its
own rules, is skipped by name with the reason (`NOT_HERE`); tests/venues/test_backpack_wire.py covers it in
its own words.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.exchange import Capabilities, Exchange, Listener
from api.runtime import Clock
from api.types import (
    _GRANT,
    Answered,
    Approved,
    Balance,
    BalancesHeard,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Request,
    Side,
)
from api.venues.backpack.endpoints import on_this_machine
from api.venues.backpack.ids import MemoryIds
from api.venues.backpack.login import Settings
from api.venues.backpack.signing import key_from_seed
from api.venues.backpack.venue import connect
from api.venues.paper.faults import Fault
from tests.conformance.market import BTC
from tests.conformance.rigs import ANSWER_S, BALANCES, Levels, all_of, poll
from tests.venues.fake_backpack import FakeBackpack, Symbol

OURS = InstrumentId.of("backpack_spot", "BTC-USDT")
SYMBOL = "BTC_USDT"
CALLS = {Request.PLACE: "place", Request.CANCEL: "cancel"}
STALE_S = 0.4
SETTINGS = Settings(
    answer_s=ANSWER_S,
    read_s=2.0,
    connect_s=2.0,
    settle_s=0.02,
    balances_gap_s=0.0,
    pauses_s=(0.02, 0.05),
    requests_per_minute=100_000,
)

_NO_AMEND = "Backpack amends no orders"
_NO_DEAD_MAN = "Backpack has no dead-man's switch"
_IN_HISTORY = "a refused post-only order stays in Backpack's history, and is told as rejected"
_KEPT = "Backpack's waits are whole seconds, and are kept"
NOT_HERE = {
    "test_the_venue_names_itself_its_account_and_what_it_can_do": f"{_NO_AMEND}; no dead-man's switch",
    "test_amending_the_size_down_keeps_the_place_and_up_loses_it": _NO_AMEND,
    "test_amending_the_price_moves_the_order": _NO_AMEND,
    "test_an_amend_that_would_cross_changes_nothing": _NO_AMEND,
    "test_a_dead_man_that_is_not_renewed_cancels_everything_once": _NO_DEAD_MAN,
    "test_a_dead_man_that_is_disarmed_cancels_nothing": _NO_DEAD_MAN,
    "test_what_cannot_be_done_is_rejected_by_its_class[backpack-command0-WouldCross]": _IN_HISTORY,
    "test_what_cannot_be_done_is_rejected_by_its_class[backpack-command1-WouldCross]": _IN_HISTORY,
    "test_what_cannot_be_done_is_rejected_by_its_class[backpack-command11-UnknownOrder]": _NO_AMEND,
    "test_a_late_answer_follows_the_unknown_one": "over HTTP an answer after the deadline is never read",
    "test_what_was_not_accepted_says_so_and_can_be_sent_again"
    "[backpack-Fault.RATE_LIMITED-Outcome.RATE_LIMITED-RateLimited]": _KEPT,
    "test_a_read_that_fails_raises_and_never_returns_nothing": _KEPT,
    "test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are": "the paper venue's own rule",
}


class Renamed:
    """An exchange under the suite's names."""

    def __init__(self, inner: Exchange) -> None:
        self.inner = inner

    @property
    def venue(self) -> str:
        return BTC.venue

    @property
    def account(self) -> str:
        return self.inner.account

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def connect(self, heard: Listener) -> None:
        self.inner.connect(lambda event: heard(_told(event)))

    def send(self, approved: Approved) -> None:
        command = replace(approved.command, instrument=_there(approved.command.instrument))
        self.inner.send(Approved(command, approved.worker, _GRANT))

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        self.inner.cancel_all(None if instrument is None else _there(instrument))

    def arm_dead_man(self, timeout_s: float) -> None:
        self.inner.arm_dead_man(timeout_s)

    def fetch_instruments(self) -> tuple[Instrument, ...]:
        return tuple(replace(found, id=_here(found.id)) for found in self.inner.fetch_instruments())

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        rows = self.inner.fetch_open_orders(None if instrument is None else _there(instrument))
        return tuple(replace(row, instrument=_here(row.instrument)) for row in rows)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        report = self.inner.fetch_order(_there(instrument), client_id)
        return replace(report, instrument=_here(report.instrument))

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        fills = self.inner.fetch_fills(_there(instrument), since_ns)
        return tuple(replace(fill, instrument=_here(fill.instrument)) for fill in fills)

    def fetch_balances(self) -> tuple[Balance, ...]:
        return self.inner.fetch_balances()

    def fetch_server_ns(self) -> int:
        return self.inner.fetch_server_ns()

    def close(self) -> None:
        self.inner.close()


def _there(instrument: InstrumentId) -> InstrumentId:
    return InstrumentId.of(OURS.venue, instrument.symbol)


def _here(instrument: InstrumentId) -> InstrumentId:
    return InstrumentId.of(BTC.venue, instrument.symbol)


def _told(event: Event) -> Event:
    if isinstance(event, OrderHeard):
        return replace(event, report=replace(event.report, instrument=_here(event.report.instrument)))
    if isinstance(event, FillHeard):
        return replace(event, fill=replace(event.fill, instrument=_here(event.fill.instrument)))
    if isinstance(event, Answered):
        return replace(event, instrument=_here(event.instrument))
    if isinstance(event, LinkChanged | BalancesHeard):
        return replace(event, venue=BTC.venue)
    return event


class BackpackRig:
    """One fake Backpack with the suite's market: tick 0.01, lot 0.001, a minimum value of 5."""

    def __init__(self) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].rpartition(" ")[0]
        reason = NOT_HERE.get(test) or NOT_HERE.get(test.partition("[")[0])
        if reason is not None:
            pytest.skip(reason)
        self.heard: list[Event] = []
        self.clock = Clock()
        self.fake = FakeBackpack([Symbol(SYMBOL, "BTC", "USDT", min_value=Decimal(5))])
        self._ids: dict[str, MemoryIds] = {}
        self._made: list[Exchange] = []
        self._timers: list[threading.Timer] = []
        self._exchange = self.another("main")

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Levels, asks: Levels) -> None:
        self.fake.book(SYMBOL, _side(bids), _side(asks))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        """Waits a moment for the balances: there is no stream of them, they are read after an event."""
        is_told = self._is_connected() and not self.fake.drop_pushes
        self.fake.trade(SYMBOL, "Bid" if side is Side.BUY else "Ask", _price(ticks), _size(lots))
        poll(self._are_balances_told, 3.0 if is_told else 0.0)

    def _is_connected(self) -> bool:
        links = all_of(self.heard, LinkChanged)
        return bool(links) and links[-1].is_up and self.fake.subscribed > 0

    def _are_balances_told(self) -> bool:
        told = all_of(self.heard, BalancesHeard)
        account = self.fake.accounts[_key("main")[0]]
        return bool(told) and {b.asset: b.free for b in told[-1].balances} == account.free

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        fake, call = self.fake, CALLS[on or Request.PLACE]
        trouble: dict[str, Any] = {"code": "SERVER_ERROR", "message": "Internal error", "status": 500}
        if fault is Fault.SERVER_ERROR:
            for number in range(n):
                fake.fault("error" if number % 2 else "error_after", call, **trouble)
        elif fault is Fault.LOST_ANSWER:
            fake.fault("lose_answer", call, n)
        elif fault is Fault.LOST_COMMAND:
            fake.fault("lose_command", call, n)
        elif fault is Fault.CUT_STREAM:
            fake.fault("cut_stream", call, n)
        elif fault is Fault.UNAVAILABLE:
            fake.fault("error", call, n, code="TRADING_PAUSED", message="Trading is paused", status=503)
        elif fault is Fault.UNAUTHORIZED:
            fake.fault("error", call, n, code="UNAUTHORIZED", message="Unauthorized", status=401)
        elif fault is Fault.DUPLICATE:
            fake.repeat_pushes = 10
        elif fault is Fault.EARLY_FILL:
            fake.fault("slow", call, n, late_s=0.1)
        elif fault is Fault.DROPPED_PUSH:
            fake.drop_pushes = 2
        elif fault is Fault.STALE_LIST:
            fake.freeze_list(fake.accounts[_key("main")[0]])
            self._later(STALE_S, self._fresh)
        else:
            raise NotImplementedError(fault)

    def cut(self, for_ms: float) -> None:
        self.fake.refuse_sockets = True
        self.fake.cut()
        self._later(for_ms / 1000, self._let_in)

    def another(self, account: str) -> Exchange:
        public, seed = _key(account)
        if public not in self.fake.accounts:
            self.fake.account(public, **{asset: str(qty) for asset, qty in BALANCES.items()})
            self._ids[account] = MemoryIds()
        made = connect(
            key_from_seed(public, seed),
            product="spot",
            ids=self._ids[account],
            account=account,
            clock=self.clock,
            settings=SETTINGS,
            where=on_this_machine(self.fake.rest, self.fake.socket),
        )
        self._made.append(Renamed(made))
        return self._made[-1]

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        return poll(until, at_most_s)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for made in self._made:
            made.close()
        self.fake.close()

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _fresh(self) -> None:
        self.fake.stale_open = None

    def _let_in(self) -> None:
        self.fake.refuse_sockets = False


def _key(account: str) -> tuple[str, str]:
    """A key pair made of the account's name: (public half, seed), base64."""
    seed = hashlib.sha256(account.encode()).digest()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return base64.b64encode(public).decode(), base64.b64encode(seed).decode()


def _side(levels: Levels) -> dict[str, str]:
    return {_price(ticks): _size(lots) for ticks, lots in levels.items()}


def _price(ticks: int) -> str:
    return str(Decimal(ticks) / 100)


def _size(lots: int) -> str:
    return str(Decimal(lots) / 1000)
