"""OKX spot over the fake of its wire protocol, as a rig of the suite.

The suite speaks of `paper:BTC-USDT`; `Renamed` lets the venue be called so and changes nothing else. A rig's
faults are made from what the fake can do on the wire. What OKX does otherwise by its own rules is skipped by
name with the reason (`OTHERWISE`); tests/venues/test_okx_trade.py covers it in its own words.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

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
from api.venues import okx
from api.venues.paper.faults import Fault
from tests.conformance.market import BTC
from tests.conformance.rigs import ANSWER_S, BALANCES, LATE_S, Levels, poll
from tests.venues.fake_okx import FakeOkx, Market

SPOT = InstrumentId.of("okx_spot", "BTC-USDT")
OPS = {Request.PLACE: "order", Request.CANCEL: "cancel-order", Request.AMEND: "amend-order"}
STALE_S = 0.4
SETTINGS = okx.Settings(
    answer_s=ANSWER_S, read_s=2.0, connect_s=2.0, pauses_s=(0.02, 0.05), overlap_s=0.1, limit_share=10.0
)

_POST_ONLY = "a refused post-only order is accepted, then canceled"
_REJECTED = "test_what_cannot_be_done_is_rejected_by_its_class[okx_spot-command"
OTHERWISE = {
    "test_the_venue_names_itself_its_account_and_what_it_can_do": "it is no simulation, and pays rebates",
    "test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are": "the paper venue's own rule",
    "test_a_read_that_fails_raises_and_never_returns_nothing": "its times to wait are whole seconds",
    f"{_REJECTED}0-WouldCross]": _POST_ONLY,
    f"{_REJECTED}1-WouldCross]": _POST_ONLY,
    f"{_REJECTED}3-BelowMinimum]": "it has no smallest value of an order",
    "test_what_was_not_accepted_says_so_and_can_be_sent_again"
    "[okx_spot-Fault.RATE_LIMITED-Outcome.RATE_LIMITED-RateLimited]": "it counts in windows of two seconds",
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
    return InstrumentId.of(SPOT.venue, instrument.symbol)


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


class OkxRig:
    """One fake OKX with the suite's market: tick 0.01, lot 0.001; dead-men run fifty times faster."""

    def __init__(self) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        reason = OTHERWISE.get(test) or OTHERWISE.get(test.partition("[")[0])
        if reason is not None:
            pytest.skip(f"OKX differs: {reason}")
        self.heard: list[Event] = []
        self.clock = Clock()
        self.fake = FakeOkx([Market("BTC-USDT", 101, "BTC", "USDT")])
        self.fake.maker, self.fake.taker = Decimal("-0.0002"), Decimal("-0.0005")
        self.fake.fee_in_quote = True
        self.fake.time_scale = 0.02
        self._made: list[Exchange] = []
        self._timers: list[threading.Timer] = []
        self._exchange = self.another("main")

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Levels, asks: Levels) -> None:
        def side(levels: Levels) -> dict[str, str]:
            return {_price(ticks): _size(lots) for ticks, lots in levels.items()}

        self.fake.book("BTC-USDT", side(bids), side(asks))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.fake.trade("BTC-USDT", side.value, _price(ticks), _size(lots))

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        fake, op = self.fake, OPS[on or Request.PLACE]
        busy: dict[str, Any] = {"code": "50001", "msg": "Service temporarily unavailable."}
        if fault is Fault.SERVER_ERROR:
            for number in range(n):
                fake.fault("error" if number % 2 else "error_after", op, **busy)
        elif fault is Fault.LATE_ANSWER:
            fake.fault("late_answer", op, n, late_s=LATE_S)
        elif fault in _PLAIN:
            fake.fault(_PLAIN[fault], op, n)
        elif fault is Fault.UNAVAILABLE:
            fake.fault("error", op, n, code="50036", msg="expTime")
        elif fault is Fault.UNAUTHORIZED:
            fake.fault("error", op, n, code="50111", msg="Invalid OK-ACCESS-KEY.")
        elif fault is Fault.DUPLICATE:
            fake.repeat_pushes = 10
        elif fault is Fault.EARLY_FILL:
            fake.pushes_first = True
        elif fault is Fault.DROPPED_PUSH:
            fake.drop_pushes = 2
        elif fault is Fault.STALE_LIST:
            with fake.lock:
                fake.stale_open = [fake._row(order) for order in fake.accounts["main"].open()]
            self._later(STALE_S, self._fresh)
        elif fault is Fault.READ_FAILED:
            fake.fault("error", "orders-pending", n, **busy, status=503)
        else:
            raise NotImplementedError(fault)

    def cut(self, for_ms: float) -> None:
        self.fake.refuse_sockets = True
        self.fake.cut()
        self._later(for_ms / 1000, self._let_in)

    def another(self, account: str) -> Exchange:
        if account not in self.fake.accounts:
            self.fake.account(
                account, "secret", "pass", **{asset: str(qty) for asset, qty in BALANCES.items()}
            )
        made = okx.connect(
            "okx_spot",
            okx.OkxKey(account, "secret", "pass"),
            account=account,
            clock=self.clock,
            settings=SETTINGS,
            where=okx.on_this_machine(self.fake.rest, self.fake.socket),
        )
        self._made.append(Renamed(made))
        return self._made[-1]

    def pass_time(self, until: Any, at_most_s: float) -> bool:
        return poll(until, at_most_s)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for made in self._made:
            made.close()
        self.fake.close()

    def _later(self, seconds: float, what: Any) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _fresh(self) -> None:
        self.fake.stale_open = None

    def _let_in(self) -> None:
        self.fake.refuse_sockets = False


_PLAIN = {
    Fault.LOST_ANSWER: "lose_answer",
    Fault.LOST_COMMAND: "lose_command",
    Fault.CUT_STREAM: "cut_after",
}


def _price(ticks: int) -> str:
    return str(Decimal(ticks) / 100)


def _size(lots: int) -> str:
    return str(Decimal(lots) / 1000)
