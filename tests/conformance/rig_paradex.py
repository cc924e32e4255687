"""Paradex over the fake of its wire protocol, as a rig of the suite.

The suite speaks of `paper:BTC-USDT`; `Renamed` lets the perpetual be called so and changes nothing else. A
rig's faults are made from what the fake can do on the wire. What Paradex does otherwise by its own rules is
skipped by name with the reason (`OTHERWISE`); tests/venues/test_paradex_trade.py covers it in its own words.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

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
from api.venues import paradex
from api.venues.paper.faults import Fault
from tests.conformance.market import BTC
from tests.conformance.rigs import ANSWER_S, BALANCES, LATE_S, Levels, poll
from tests.venues.fake_paradex import CHAIN, FakeParadex, Market

SYMBOL = "BTC-USD-PERP"
KEYS = {"main": ("0xa11ce", 0x5EED1), "other": ("0xb0b", 0x5EED2)}
OPS = {Request.PLACE: "order.create", Request.CANCEL: "order.cancel", Request.AMEND: "order.modify"}
SETTINGS = paradex.Settings(
    answer_s=ANSWER_S, read_s=2.0, connect_s=2.0, pauses_s=(0.02, 0.05), limit_share=10.0
)

_QUEUED = "an order is queued first, and a refused one then told as closed"
_REJECTED = "test_what_cannot_be_done_is_rejected_by_its_class[paradex-command"
_AGAIN = "test_what_was_not_accepted_says_so_and_can_be_sent_again[paradex-Fault."
OTHERWISE = {
    "test_the_venue_names_itself_its_account_and_what_it_can_do": "it is no simulation, without fill-or-kill",
    "test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are": "the paper venue's own rule",
    "test_a_full_fill_ends_the_order_and_moves_both_assets": "a derivative moves no coins",
    "test_an_amend_that_would_cross_changes_nothing": "amending a post-only order is not documented",
    "test_fill_or_kill_is_all_or_nothing": "it has no fill-or-kill",
    "test_a_dead_man_that_is_not_renewed_cancels_everything_once": "it cuts the connection that would tell",
    "test_a_command_that_meets_a_cut_stream_is_answered_all_the_same": "one connection carries both",
    "test_a_read_that_fails_raises_and_never_returns_nothing": "a failed cancel-all is unknown",
    f"{_REJECTED}0-WouldCross]": _QUEUED,
    f"{_REJECTED}1-WouldCross]": _QUEUED,
    f"{_REJECTED}2-BelowMinimum]": _QUEUED,
    f"{_REJECTED}3-BelowMinimum]": _QUEUED,
    f"{_REJECTED}6-InsufficientFunds]": _QUEUED,
    f"{_REJECTED}7-InsufficientFunds]": _QUEUED,
    f"{_AGAIN}RATE_LIMITED-Outcome.RATE_LIMITED-RateLimited]": "it counts by the second",
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
    return InstrumentId.of("paradex", f"{instrument.symbol}-PERP")


def _here(instrument: InstrumentId) -> InstrumentId:
    return InstrumentId.of(BTC.venue, instrument.symbol.removesuffix("-PERP"))


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


class ParadexRig:
    """One fake Paradex with the suite's market: tick 0.01, lot 0.001, settled in USDT."""

    def __init__(self) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        reason = OTHERWISE.get(test) or OTHERWISE.get(test.partition("[")[0])
        if reason is not None:
            pytest.skip(f"Paradex differs: {reason}")
        self.heard: list[Event] = []
        self.clock = Clock()
        self.fake = FakeParadex([Market(SYMBOL, settle="USDT")])
        self._made: list[Exchange] = []
        self._exchange = self.another("main")

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Levels, asks: Levels) -> None:
        def side(levels: Levels) -> dict[str, str]:
            return {_price(ticks): _size(lots) for ticks, lots in levels.items()}

        self.fake.book(SYMBOL, side(bids), side(asks))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.fake.trade(SYMBOL, side.value, _price(ticks), _size(lots))

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        fake, op = self.fake, OPS[on or Request.PLACE]
        if fault is Fault.SERVER_ERROR:
            for number in range(n):
                kind = "error" if number % 2 else "error_after"
                fake.fault(kind, op, code=-32603, message="Internal error")
        elif fault is Fault.LATE_ANSWER:
            fake.fault("late", op, n, seconds=LATE_S)
        elif fault is Fault.LOST_ANSWER:
            fake.fault("lose_answer", op, n)
        elif fault is Fault.LOST_COMMAND:
            fake.fault("lose_command", op, n)
        elif fault is Fault.UNAVAILABLE:
            fake.fault("error", op, n, message="SYSTEM_STATUS_CANCEL_ONLY")
        elif fault is Fault.UNAUTHORIZED:
            fake.fault("error", op, n, message="INVALID_ORDER_SIGNATURE")
        elif fault is Fault.DUPLICATE:
            fake.repeat_pushes = 10
        elif fault is Fault.EARLY_FILL:
            fake.push_first = True
        elif fault is Fault.DROPPED_PUSH:
            fake.drop_pushes = 3
        elif fault is Fault.STALE_LIST:
            fake.freeze_lists(0.4)
        else:
            raise NotImplementedError(fault)

    def cut(self, for_ms: float) -> None:
        self.fake.cut(for_ms / 1000)

    def another(self, account: str) -> Exchange:
        address, private = KEYS[account]
        if hex(int(address, 16)) not in self.fake.accounts:
            self.fake.account(address, private, **{asset: str(qty) for asset, qty in BALANCES.items()})
        made = paradex.connect(
            paradex.ParadexKey(address, hex(private), CHAIN),
            account=account,
            clock=self.clock,
            settings=SETTINGS,
            where=paradex.on_this_machine(self.fake.rest, self.fake.socket),
        )
        self._made.append(Renamed(made))
        return self._made[-1]

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        return poll(until, at_most_s)

    def close(self) -> None:
        for made in self._made:
            made.close()
        self.fake.close()


def _price(ticks: int) -> str:
    return str(Decimal(ticks) / 100)


def _size(lots: int) -> str:
    return str(Decimal(lots) / 1000)
