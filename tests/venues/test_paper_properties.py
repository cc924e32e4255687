"""What holds for the paper venue whatever happens: money, volume, prices, answers, and the same run twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types import (
    Amend,
    Answered,
    Cancel,
    Event,
    Fill,
    OrderHeard,
    Outcome,
    Place,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.paper.core import PaperVenue
from api.venues.paper.faults import READ_FAULTS, Fault, Faults
from api.venues.paper.instruments import needed
from api.venues.paper.settings import SELF_TRADE_MODES, PaperSettings
from tests.conformance.market import BTC, MS, HandBook, printed, terms

BUY, SELL = Side.BUY, Side.SELL
MIDDLE = 10_000
START = {"USDT": Decimal(2_000), "BTC": Decimal(20)}
ACCOUNTS = ("a", "b")

near = st.integers(MIDDLE - 6, MIDDLE + 6)
size = st.integers(1, 200)
levels = st.dictionaries(st.integers(1, 8), st.integers(1, 300), max_size=5)


@dataclass(frozen=True)
class BookStep:
    middle: int
    bids: dict[int, int]
    asks: dict[int, int]


@dataclass(frozen=True)
class TradeStep:
    side: Side
    ticks: int
    lots: int


@dataclass(frozen=True)
class PlaceStep:
    account: str
    side: Side
    ticks: int
    lots: int
    tif: Tif
    post_only: bool


@dataclass(frozen=True)
class AmendStep:
    which: int
    ticks: int
    lots: int


@dataclass(frozen=True)
class CancelStep:
    which: int


side = st.sampled_from(Side)
steps = st.lists(
    st.one_of(
        st.builds(BookStep, near, levels, levels),
        st.builds(TradeStep, side, near, size),
        st.builds(
            PlaceStep,
            st.sampled_from(ACCOUNTS),
            side,
            near,
            st.integers(60, 300),
            st.sampled_from([Tif.GTC, Tif.GTC, Tif.GTC, Tif.IOC, Tif.FOK]),
            st.booleans(),
        ),
        st.builds(AmendStep, st.integers(0, 20), near, st.integers(60, 300)),
        st.builds(CancelStep, st.integers(0, 20)),
    ),
    min_size=5,
    max_size=60,
)


@dataclass
class Run:
    """One life of a venue. After each step everything that must hold is checked."""

    mode: str = "EXPIRE_TAKER"
    maker: str = "0.0002"
    odds: dict[Fault, float] = field(default_factory=dict)
    seed: int = 1
    delay_ms: float = 0.0

    def __post_init__(self) -> None:
        self.view = HandBook(terms(self.maker))
        self.venue = PaperVenue(
            [self.view.instrument],
            START,
            PaperSettings(
                place_delay_ms=self.delay_ms,
                cancel_delay_ms=self.delay_ms / 2,
                hear_delay_ms=self.delay_ms / 3,
                self_trade=self.mode,
                answer_timeout_ms=40,
                late_answer_ms=60,
                early_fill_ms=15,
                cut_ms=10,
                stale_ms=10,
            ),
            Faults(random.Random(self.seed), self.odds),
        )
        self.events: list[tuple[str, Event]] = []
        self.sent: list[tuple[str, Place]] = []
        self.commands: Counter[tuple[str, Request]] = Counter()
        self.at_ms = 0
        self.offered: Counter[tuple[bool, int]] = Counter()
        self.taken: Counter[tuple[bool, int]] = Counter()
        for account in ACCOUNTS:
            self.venue.open_account(account)
        self.book(BookStep(MIDDLE, {2: 100, 3: 200}, {2: 100, 4: 200}), 0)

    def book(self, step: BookStep, at_ns: int) -> None:
        bids = {step.middle - ticks: lots for ticks, lots in step.bids.items()}
        asks = {step.middle + ticks: lots for ticks, lots in step.asks.items()}
        self.count_offered(bids, asks)
        self.view.set(bids, asks)
        self.venue.on_book(self.view, at_ns)

    def fills(self) -> list[Fill]:
        return [f for name in ACCOUNTS for f in self.venue.accounts[name].fills.get(BTC, [])]

    def run(self, script: list[object]) -> None:
        for step in script:
            self.at_ms += 1
            at_ns = self.at_ms * MS
            before = len(self.fills())
            old = set(f.trade_id for f in self.fills())
            self.events += self.venue.advance(at_ns)
            self.check_takers([f for f in self.fills() if f.trade_id not in old])
            old = set(f.trade_id for f in self.fills())
            if isinstance(step, BookStep):
                self.book(step, at_ns)
                self.check_crossed([f for f in self.fills() if f.trade_id not in old])
            elif isinstance(step, TradeStep):
                self.venue.on_trade(printed(step.side, step.ticks, step.lots, at_ns).trade, at_ns)
                self.check_printed(step, [f for f in self.fills() if f.trade_id not in old])
            else:
                self.command(step, at_ns)
            assert len(self.fills()) >= before
            self.check_money()
        self.events += self.venue.advance((self.at_ms + 1_000) * MS)
        self.check_money()
        self.check_answers()

    def command(self, step: object, at_ns: int) -> None:
        if isinstance(step, PlaceStep):
            name = f"o{len(self.sent)}"
            place = Place(name, BTC, step.side, step.ticks, step.lots, step.tif, step.post_only)
            self.sent.append((step.account, place))
            self.commands[name, Request.PLACE] += 1
            self.venue.submit(step.account, place, at_ns)
        elif self.sent and isinstance(step, AmendStep | CancelStep):
            account, place = self.sent[step.which % len(self.sent)]
            if isinstance(step, AmendStep):
                self.commands[place.client_id, Request.AMEND] += 1
                self.venue.submit(account, Amend(place.client_id, BTC, step.ticks, step.lots), at_ns)
            else:
                self.commands[place.client_id, Request.CANCEL] += 1
                self.venue.submit(account, Cancel(place.client_id, BTC), at_ns)

    # -------------------------------------------------------------------------------- what must hold

    def check_money(self) -> None:
        """No balance below zero; locks are those of the open orders; totals are the start and the fills."""
        terms_ = self.view.instrument
        for name in ACCOUNTS:
            account = self.venue.accounts[name]
            have = {balance.asset: balance for balance in account.balances()}
            assert all(balance.free >= 0 and balance.locked >= 0 for balance in have.values())
            locked: Counter[str] = Counter()
            for order in account.open.values():
                assert order.open > 0
                asset, amount = needed(terms_, order.side, order.ticks, order.open)
                locked[asset] += amount  # type: ignore[assignment]
            assert {asset: balance.locked for asset, balance in have.items()} == {
                asset: locked[asset] for asset in have
            }
            fills = account.fills.get(BTC, [])
            base = sum((f.side.sign * terms_.qty(f.lots) for f in fills), START["BTC"])
            quote = START["USDT"] - sum(
                (f.side.sign * terms_.value(f.ticks, f.lots) + f.fee for f in fills), Decimal(0)
            )
            assert (have["BTC"].total, have["USDT"].total) == (base, quote)
            per_order: Counter[str] = Counter()
            for f in fills:
                per_order[f.client_id] += f.lots
            for client_id, lots in per_order.items():
                found = account.find(client_id)
                assert found is not None and found.filled == lots <= found.lots

    def check_printed(self, step: TradeStep, fills: list[Fill]) -> None:
        """Never more than traded, never better than the tape."""
        assert sum(f.lots for f in fills) <= step.lots
        for f in fills:
            assert f.is_maker and f.side is step.side.opposite
            assert f.ticks >= step.ticks if f.side is BUY else f.ticks <= step.ticks

    def check_crossed(self, fills: list[Fill]) -> None:
        """A book alone fills only what it crosses, up to what it displays, at a price no better than its
        touch."""
        for one in (BUY, SELL):
            mine = [f for f in fills if f.side is one]
            if not mine:
                continue
            touch = self.view.best_ask if one is BUY else self.view.best_bid
            assert touch is not None
            worst = max(f.ticks for f in mine) if one is BUY else min(f.ticks for f in mine)
            shown = sum(lots for _, lots in self.view.walk(one is SELL, worst))
            assert sum(f.lots for f in mine) <= shown
            assert all(f.is_maker for f in mine)
            assert all(f.ticks >= touch[0] if one is BUY else f.ticks <= touch[0] for f in mine)

    def count_offered(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        """Keep, for each level, what it has ever offered since it appeared: additions count, decreases do
        not."""
        for is_bid, new in ((True, bids), (False, asks)):
            shown = self.view.bids if is_bid else self.view.asks
            for ticks in set(new) | set(shown) | {t for b, t in self.offered if b is is_bid}:
                if ticks not in new:
                    self.offered.pop((is_bid, ticks), None)
                    self.taken.pop((is_bid, ticks), None)
                else:
                    self.offered[is_bid, ticks] += max(0, new[ticks] - shown.get(ticks, 0))

    def check_takers(self, fills: list[Fill]) -> None:
        """A taker never pays less than the touch, unless another account rested there; what it takes is
        displayed."""
        made = Counter((f.side.opposite, f.ticks) for f in fills if f.is_maker)
        for f in fills:
            if f.is_maker:
                continue
            touch = self.view.best_ask if f.side is BUY else self.view.best_bid
            if made[f.side, f.ticks]:
                continue
            assert touch is not None
            assert f.ticks >= touch[0] if f.side is BUY else f.ticks <= touch[0]
            self.taken[f.side is SELL, f.ticks] += f.lots
            assert self.taken[f.side is SELL, f.ticks] <= self.offered[f.side is SELL, f.ticks]

    def check_answers(self) -> None:
        """Each command is answered once; a second answer only ever follows an UNKNOWN one."""
        told: dict[tuple[str, Request], list[Outcome]] = {}
        for _, event in self.events:
            if isinstance(event, Answered):
                told.setdefault((event.client_id, event.request), []).append(event.outcome)
        for key, sent in self.commands.items():
            outcomes = told.pop(key)
            unknown = outcomes.count(Outcome.UNKNOWN)
            assert sent <= len(outcomes) <= sent + unknown
        assert told == {}


def walk(seed: int, n: int) -> list[object]:
    """A long script of a market that wanders with makers and takers in it: far more fills than short ones
    have."""
    draw = random.Random(seed)
    middle = MIDDLE
    made: list[object] = []
    for _ in range(n):
        kind = draw.random()
        middle += draw.choice((-1, 0, 0, 0, 1))
        side_ = draw.choice((BUY, SELL))
        if kind < 0.3:
            bids, asks = (
                {draw.randint(1, 6): draw.randint(20, 300) for _ in range(draw.randint(0, 4))}
                for _ in range(2)
            )
            made.append(BookStep(middle, bids, asks))
        elif kind < 0.55:
            made.append(TradeStep(side_, middle - side_.sign * draw.randint(-4, 6), draw.randint(1, 400)))
        elif kind < 0.85:
            ticks = middle - side_.sign * draw.randint(-3, 4)
            tif = draw.choice((Tif.GTC, Tif.GTC, Tif.GTC, Tif.IOC, Tif.FOK))
            only = tif is Tif.GTC and draw.random() < 0.6
            made.append(PlaceStep(draw.choice(ACCOUNTS), side_, ticks, draw.randint(60, 250), tif, only))
        elif kind < 0.93:
            made.append(AmendStep(draw.randint(0, 500), middle - draw.randint(-4, 4), draw.randint(60, 250)))
        else:
            made.append(CancelStep(draw.randint(0, 500)))
    return made


@pytest.mark.parametrize("seed", range(48))
def test_everything_holds_on_a_long_walk(seed: int) -> None:
    run = Run(SELF_TRADE_MODES[seed % 4], ("0.0002", "-0.0001")[seed % 2], delay_ms=(0.0, 2.5)[seed % 3 == 0])
    run.run(walk(seed, 400))
    fills = run.fills()
    assert sum(f.is_maker for f in fills) > 10 and sum(not f.is_maker for f in fills) > 3


@given(steps, st.sampled_from(SELF_TRADE_MODES), st.sampled_from(["0.0002", "-0.0001"]))
@settings(max_examples=120)
def test_money_volume_and_price_hold_without_delays(script: list[object], mode: str, maker: str) -> None:
    Run(mode, maker).run(script)


@given(steps, st.integers(0, 3), st.sampled_from([0.0, 1.5, 7.0]))
@settings(max_examples=120)
def test_they_hold_with_delays_and_faults(script: list[object], seed: int, delay_ms: float) -> None:
    odds = {fault: 0.06 for fault in Fault if fault not in READ_FAULTS}
    Run(odds=odds, seed=seed, delay_ms=delay_ms).run(script)


@given(steps, st.integers(0, 3))
@settings(max_examples=60)
def test_the_same_inputs_and_seed_give_the_same_events(script: list[object], seed: int) -> None:
    odds = {fault: 0.06 for fault in Fault if fault not in READ_FAULTS}
    first, second = Run(odds=odds, seed=seed, delay_ms=3.0), Run(odds=odds, seed=seed, delay_ms=3.0)
    first.run(script)
    second.run(script)
    assert first.events == second.events


@given(steps)
@settings(max_examples=60)
def test_each_account_hears_of_its_own_orders_in_order(script: list[object]) -> None:
    run = Run(delay_ms=3.0)
    run.run(script)
    heard: dict[str, list[int]] = {}
    filled: dict[str, int] = {}
    for account, event in run.events:
        heard.setdefault(account, []).append(event.at_ns)
        if isinstance(event, OrderHeard):
            report = event.report
            owner = next(name for name, place in run.sent if place.client_id == report.client_id)
            assert owner == account
            assert report.filled_lots is not None
            assert report.filled_lots >= filled.get(report.client_id, 0)
            filled[report.client_id] = report.filled_lots
            assert report.status is not Status.REJECTED
    assert all(times == sorted(times) for times in heard.values())
