"""One engine, event by event: what silences it, what it holds back, what it never does whatever it hears."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.risk import Limits
from api.types import (
    Answered,
    Balance,
    BalancesHeard,
    BookChanged,
    BookLost,
    Cancel,
    CancelAll,
    Event,
    Fill,
    FillHeard,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Quote,
    Request,
    SetParams,
    SetTrading,
    Side,
    Status,
    Step,
    Targets,
    Timer,
    Trading,
)
from strategies.base import Params, Shared, State, Strategy, param
from strategies.engine import Engine
from tests.makers import BTC, book, instrument

S = 1_000_000_000
T0 = 1_000 * S
D = Decimal
LIMITS = Limits(D("0.01"), D(2_000), D("0.05"), D(5), D(2), 100, 20)
LOTS = 100  # of each wished order: 0.001 BTC


class TwoSided(Params):
    away: int = param(5, title="Away", unit="ticks", description="Of each side from mid.", ge=-50)
    levels: int = param(1, title="Levels", unit="orders", description="On each side.", ge=0)
    duration: float | None = param(None, title="Duration", unit="s", description="Of a run.")
    interval: float = param(10.0, title="Interval", unit="s", description="Longest silence.")


def wanted(state: State, params: TwoSided) -> Targets:
    """Levels one tick apart, `away` ticks from mid on each side."""
    tick = state.instrument.tick_float
    mid = state.book.mid_ticks * tick
    qty = LOTS * state.instrument.lot_float
    return Targets(
        tuple(
            Quote(side, level, mid - side.sign * (params.away + level) * tick, qty, (("mid", mid),))
            for side in (Side.BUY, Side.SELL)
            for level in range(params.levels)
        )
    )


STRATEGY = Strategy(
    name="two_sided",
    kind="market_making",
    title="Two sided",
    description="For tests.",
    params=TwoSided,
    targets=wanted,
    shared=lambda p: Shared(keep_bps=0.0, interval_s=p.interval, duration_s=p.duration),
    order_size=lambda p: (D("0.001"), p.levels),
    auto_share=lambda p: 0.05,
)


@dataclass
class Bench:
    """An engine and the clock of its events; ids are `o1`, `o2`, ..."""

    params: TwoSided = field(default_factory=TwoSided)
    limits: Limits = LIMITS
    others: tuple[int | None, int | None] = (None, None)
    strategy: Strategy = STRATEGY
    now_ns: int = T0
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = (f"o{n}" for n in itertools.count(1))
        self.engine = Engine(
            "w1",
            instrument(min_notional="0.01"),
            self.strategy,
            self.params,
            self.limits,
            version=1,
            next_id=lambda: next(ids),
            others_touch=lambda: self.others,
        )

    def hear(self, event: Event) -> Step | None:
        step = self.engine.step(event)
        if step is not None:
            self.steps.append(step)
        return step

    def link(self, name: str, is_up: bool, reason: str = "cut") -> Step | None:
        return self.hear(LinkChanged(self.now_ns, "paper", name, is_up, "" if is_up else reason))

    def book(
        self, bid: int = 9_999, ask: int = 10_001, *, after_s: float = 0.0, age_s: float = 0.0
    ) -> Step | None:
        self.now_ns += int(after_s * S)
        return self.hear(BookChanged(self.now_ns, book(bid, ask, at_ns=self.now_ns - int(age_s * S))))

    def timer(self, after_s: float) -> Step | None:
        self.now_ns += int(after_s * S)
        return self.hear(Timer(self.now_ns))

    def trading(self, trading: Trading, reason: str = "") -> Step | None:
        return self.hear(SetTrading(self.now_ns, trading, reason))

    def answer(
        self, client_id: str, outcome: Outcome, request: Request = Request.PLACE, error: str = ""
    ) -> Step | None:
        return self.hear(
            Answered(self.now_ns, client_id, BTC, request, outcome, error=error, reason="as it said")
        )

    def fill(self, client_id: str, side: Side, lots: int, trade: str = "t1") -> Step | None:
        made = Fill(trade, client_id, "v", "main", BTC, side, 10_000, lots, D(0), "USDT", True, self.now_ns)
        return self.hear(FillHeard(self.now_ns, made))

    def up(self) -> Bench:
        """Linked, with a book, running: quotes are on their way."""
        for name in ("account", "orders"):
            self.link(name, True)
        self.book()
        self.trading(Trading.RUN)
        return self

    def quoting(self) -> Bench:
        """The same, and the venue accepted them."""
        self.up()
        for client_id in [order.client_id for order in self.engine.orders.live()]:
            self.answer(client_id, Outcome.ACCEPTED)
        return self

    @property
    def live(self) -> dict[str, tuple[Side, int]]:
        return {o.client_id: (o.side, o.ticks) for o in self.engine.orders.live()}

    def id(self, side: Side, level: int = 0) -> str:
        """The live order of this side and level."""
        return next(o.client_id for o in self.engine.orders.live() if (o.side, o.level) == (side, level))

    def why(self) -> set[str]:
        """Reasons of silence of the newest step, one a side."""
        silent = dict(self.steps[-1].silent)
        return {silent.get(side, "") for side in (Side.BUY, Side.SELL)}


def places(step: Step | None) -> list[tuple[Side, int]]:
    return (
        []
        if step is None
        else [(a.command.side, a.command.ticks) for a in step.approved if isinstance(a.command, Place)]
    )


def sorted_places(step: Step | None) -> list[tuple[Side, int]]:
    """Buys first."""
    return sorted(places(step), key=lambda made: made[0].value)


def cancels(step: Step | None) -> list[str]:
    return (
        [] if step is None else [a.command.client_id for a in step.approved if isinstance(a.command, Cancel)]
    )


# ---------------------------------------------------------------------------------------------------- quoting


def test_it_quotes_both_sides_with_the_terms_of_each_price() -> None:
    bench = Bench().up()
    assert sorted_places(bench.steps[-1]) == [(Side.BUY, 9_995), (Side.SELL, 10_005)]
    assert bench.steps[-1].targets is not None
    shown = bench.engine.shown(bench.now_ns)
    assert (shown.word, shown.buy.ticks, shown.sell.ticks) == ("QUOTING", 9_995, 10_005)
    assert shown.buy.terms[0][0] == "mid"


def test_a_book_with_the_same_touch_needs_no_decision() -> None:
    bench = Bench().quoting()
    assert bench.book(after_s=0.5) is None
    assert bench.book(9_999, 10_003, after_s=0.5) is not None


def test_the_interval_is_the_longest_silence() -> None:
    bench = Bench(TwoSided(interval=1.5)).quoting()
    bench.book(after_s=0.1)
    assert bench.engine.wake_ns <= bench.now_ns + int(1.5 * S)
    assert bench.timer(1.5) is not None


def test_a_moved_market_replaces_what_moved_away() -> None:
    bench = Bench().quoting()
    step = bench.book(10_009, 10_011, after_s=0.1)
    assert sorted(cancels(step)) == ["o1", "o2"]
    # the new buy would meet the old sell, which is still there: it waits for the end of that cancel
    assert places(step) == [(Side.SELL, 10_015)]
    sell = next(c for c in ("o1", "o2") if bench.live[c][0] is Side.SELL)
    assert places(bench.answer(sell, Outcome.ACCEPTED, Request.CANCEL)) == [(Side.BUY, 10_005)]


def test_changed_parameters_move_the_quotes_at_once() -> None:
    bench = Bench().quoting()
    step = bench.hear(SetParams(bench.now_ns, TwoSided(away=8), LIMITS, 2))
    assert sorted_places(step) == [(Side.BUY, 9_992), (Side.SELL, 10_008)]
    assert bench.engine.version == 2


def test_a_quote_that_would_meet_another_worker_gives_way_and_says_so() -> None:
    bench = Bench(others=(None, 9_994)).up()
    assert sorted_places(bench.steps[-1]) == [(Side.BUY, 9_993), (Side.SELL, 10_005)]
    assert any("another worker" in note for note in bench.steps[-1].notes)


def test_balances_reach_the_strategy_and_the_picture() -> None:
    bench = Bench().quoting()
    bench.hear(BalancesHeard(bench.now_ns, "paper", "main", (Balance("BTC", D(2), D(1)),)))
    shown = bench.engine.shown(bench.now_ns)
    assert (shown.base_total, shown.quote_total) == (D(3), None)


# ---------------------------------------------------------------------------------------------- what silences


def silence_not_started(bench: Bench) -> None:
    bench.trading(Trading.STOP, "not started")


def silence_account(bench: Bench) -> None:
    bench.link("account", False)


def silence_operator(bench: Bench) -> None:
    bench.link("operator", False)


def silence_store(bench: Bench) -> None:
    bench.link("store", False)


def silence_lost(bench: Bench) -> None:
    bench.hear(BookLost(bench.now_ns, BTC, "a gap"))


def silence_one_sided(bench: Bench) -> None:
    half = replace(book(at_ns=bench.now_ns), asks=())
    bench.hear(BookChanged(bench.now_ns, half))


def silence_empty(bench: Bench) -> None:
    none = replace(book(at_ns=bench.now_ns), asks=(), bids=())
    bench.hear(BookChanged(bench.now_ns, none))


def silence_crossed(bench: Bench) -> None:
    bench.book(10_002, 10_001)


def silence_stale(bench: Bench) -> None:
    bench.timer(2.1)


def silence_cancel_all(bench: Bench) -> None:
    bench.hear(CancelAll(bench.now_ns, "told to"))


@pytest.mark.parametrize(
    ("silence", "says"),
    [
        (silence_not_started, "not started"),
        (silence_account, "account stream: cut"),
        (silence_operator, "operator's way in: cut"),
        (silence_store, "store: cut"),
        (silence_lost, "a gap"),
        (silence_one_sided, "the book has only one side"),
        (silence_empty, "the book is empty"),
        (silence_crossed, "the book is crossed"),
        (silence_stale, "stale book: 2.1 s old, allowed are 2 s"),
        (silence_cancel_all, "told to"),
    ],
)
def test_each_rule_pulls_every_quote_and_says_why(silence: Callable[[Bench], None], says: str) -> None:
    bench = Bench().quoting()
    silence(bench)
    assert sorted(cancels(bench.steps[-1])) == ["o1", "o2"]
    assert places(bench.steps[-1]) == []
    assert bench.why() == {says}


def test_after_a_reconnect_it_waits_for_the_reconciliation() -> None:
    bench = Bench().quoting()
    bench.link("account", False)
    for client_id in ("o1", "o2"):
        bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
    bench.link("account", True)
    assert bench.why() == {"account: not reconciled yet"}
    assert places(bench.book(9_998, 10_002)) == []
    assert len(places(bench.link("orders", True))) == 2


def test_a_stale_book_pulls_by_the_timer_it_asked_for_without_another_event() -> None:
    bench = Bench(TwoSided(interval=60)).quoting()
    assert bench.engine.wake_ns <= bench.now_ns + 2 * S + 1
    bench.now_ns = bench.engine.wake_ns
    step = bench.hear(Timer(bench.now_ns))
    assert sorted(cancels(step)) == ["o1", "o2"]
    assert all("stale" in reason for reason in bench.why())


def test_a_fresh_book_after_a_silence_quotes_again() -> None:
    bench = Bench().quoting()
    bench.timer(2.5)
    for client_id in ("o1", "o2"):
        bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
    assert len(places(bench.book(after_s=0.1))) == 2


def test_the_end_of_its_duration_pulls_everything_by_the_timer_and_stops() -> None:
    bench = Bench(TwoSided(duration=3, interval=60)).quoting()
    bench.book(9_999, 10_003, after_s=1.9)
    assert bench.engine.wake_ns <= T0 + 3 * S
    bench.book(9_999, 10_001, after_s=1.0)
    step = bench.timer(0.2)
    assert places(step) == []
    assert bench.engine.trading is Trading.STOP
    assert bench.why() == {"duration of 3 s is over"}
    assert {o.request for o in bench.engine.orders.live()} == {Request.CANCEL}


def test_disarmed_is_said_only_when_nothing_is_left() -> None:
    bench = Bench().quoting()
    bench.trading(Trading.STOP, "stopped")
    bench.trading(Trading.DISARMED, "stopped")
    assert bench.engine.trading is Trading.STOP
    for client_id in ("o1", "o2"):
        bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
    bench.trading(Trading.DISARMED, "stopped")
    assert bench.engine.shown(bench.now_ns).trading is Trading.DISARMED


def test_a_lost_cancel_is_sent_again_while_it_stops() -> None:
    bench = Bench().quoting()
    bench.trading(Trading.STOP, "stopped")
    for client_id in ("o1", "o2"):
        bench.answer(client_id, Outcome.UNKNOWN, Request.CANCEL)
    assert bench.engine.wake_ns <= bench.now_ns + S
    assert sorted(cancels(bench.timer(1.01))) == ["o1", "o2"]


# ------------------------------------------------------------------------------------------------------ pause


def test_a_pause_keeps_what_reduces_and_cancels_what_adds() -> None:
    bench = Bench(TwoSided(levels=2)).quoting()
    bench.fill(bench.id(Side.BUY), Side.BUY, LOTS)
    sells = {c for c, (side, _) in bench.live.items() if side is Side.SELL}
    step = bench.trading(Trading.PAUSE, "paused by me")
    kept = (
        set(bench.live)
        - set(cancels(step))
        - {o.client_id for o in bench.engine.orders.live() if o.request is Request.CANCEL}
    )
    assert len(kept) == 1, "a sell as large as the position stays, best first"
    assert kept <= sells
    assert places(step) == []
    assert bench.why() == {"paused by me"}


def test_a_pause_without_a_position_cancels_everything_and_opens_nothing() -> None:
    bench = Bench().quoting()
    assert sorted(cancels(bench.trading(Trading.PAUSE, "paused"))) == ["o1", "o2"]
    assert places(bench.book(10_009, 10_011, after_s=0.1)) == []


def test_a_reduced_position_in_a_pause_cancels_what_would_turn_it() -> None:
    bench = Bench(TwoSided(levels=2)).quoting()
    bench.fill(bench.id(Side.BUY), Side.BUY, LOTS)
    bench.trading(Trading.PAUSE, "paused")
    kept = next(o for o in bench.engine.orders.live() if o.side is Side.SELL and o.request is None)
    step = bench.hear(
        FillHeard(
            bench.now_ns,
            Fill(
                "t2", "elsewhere", "v", "main", BTC, Side.SELL, 10_000, LOTS, D(0), "USDT", True, bench.now_ns
            ),
        )
    )
    assert cancels(step) == [kept.client_id]


def test_without_fresh_data_a_pause_keeps_nothing() -> None:
    bench = Bench().quoting()
    bench.fill(bench.id(Side.BUY), Side.BUY, LOTS)
    bench.trading(Trading.PAUSE, "paused")
    assert [o.request for o in bench.engine.orders.live() if o.side is Side.SELL] == [None]
    sell = bench.id(Side.SELL)
    assert cancels(bench.timer(2.5)) == [sell]


def test_a_start_after_a_pause_quotes_again_in_the_same_run() -> None:
    bench = Bench().quoting()
    began = bench.engine.started_ns
    bench.now_ns += S
    bench.trading(Trading.PAUSE, "paused")
    for client_id in ("o1", "o2"):
        bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
    assert len(places(bench.trading(Trading.RUN))) == 2
    assert bench.engine.started_ns == began


# ------------------------------------------------------------------------------------------ answers and holds


def test_a_refusal_holds_that_side_for_a_second_and_says_so() -> None:
    bench = Bench().up()
    bench.answer(bench.id(Side.BUY), Outcome.REJECTED, error="Rejected")
    step = bench.book(10_000, 10_002, after_s=0.1)
    assert all(side is Side.SELL for side, _ in places(step))
    assert "on hold after Rejected" in dict(bench.steps[-1].silent)[Side.BUY]
    assert bench.engine.wake_ns <= T0 + S + 1
    assert Side.BUY in {side for side, _ in places(bench.timer(1.0))}


def test_a_lack_of_funds_holds_longer() -> None:
    bench = Bench().up()
    bench.answer(bench.id(Side.BUY), Outcome.REJECTED, error="InsufficientFunds")
    bench.book(10_000, 10_002, after_s=1.5)
    assert "InsufficientFunds" in dict(bench.steps[-1].silent)[Side.BUY]
    assert Side.BUY in {side for side, _ in places(bench.book(after_s=4.0))}


def test_a_rate_limit_holds_both_sides_for_as_long_as_the_venue_says() -> None:
    bench = Bench().up()
    bench.hear(
        Answered(
            bench.now_ns, "o1", BTC, Request.PLACE, Outcome.RATE_LIMITED, error="RateLimited", retry_after_s=3
        )
    )
    bench.answer("o2", Outcome.ACCEPTED)
    step = bench.book(10_009, 10_011, after_s=1.5)
    assert places(step) == []
    assert cancels(step) == ["o2"]
    assert places(bench.book(10_008, 10_010, after_s=2.0)) != []


def test_an_unknown_outcome_keeps_its_exposure_and_its_place() -> None:
    bench = Bench().up()
    bench.answer(bench.id(Side.BUY), Outcome.UNKNOWN)
    step = bench.book(10_000, 10_002, after_s=0.1)
    assert all(side is Side.SELL for side, _ in places(step))
    assert bench.engine.orders.open_lots(Side.BUY) == LOTS
    assert bench.engine.shown(bench.now_ns).unknown == 1


def test_a_fill_moves_the_position_once() -> None:
    bench = Bench().quoting()
    bench.fill("o1", Side.BUY, 40)
    bench.fill("o1", Side.BUY, 40)
    assert bench.engine.orders.position_lots == 40
    assert bench.engine.fill_count == 1
    assert bench.engine.ledger.position == D("0.0004")


def test_a_report_that_knows_more_fills_than_were_heard_asks_for_a_reading() -> None:
    bench = Bench().quoting()
    told = OrderReport("o1", BTC, Side.BUY, 9_995, LOTS, Status.OPEN, 40, "v", bench.now_ns)
    bench.hear(OrderHeard(bench.now_ns, told))
    assert not bench.engine.needs_reconcile
    bench.book(9_999, 10_003, after_s=0.5)
    bench.timer(1.0)
    assert bench.engine.needs_reconcile


def test_a_refused_limit_is_named_and_nothing_of_it_is_sent() -> None:
    bench = Bench(limits=replace(LIMITS, max_position=D("0.0005"))).up()
    assert places(bench.steps[-1]) == []
    assert all(reason.startswith("max-position") for reason in bench.why())
    assert bench.engine.refused_count == 2
    bench.book(9_998, 10_002, after_s=0.1)
    assert bench.engine.refused_count == 2, "one that goes on is one"


# ------------------------------------------------------------------------------------------------ determinism


def test_the_same_events_give_the_same_steps() -> None:
    def run() -> list[Step]:
        bench = Bench(TwoSided(levels=3)).quoting()
        for move in (3, -2, 0, 7, -9, 1):
            bench.book(9_999 + move, 10_001 + move, after_s=0.3)
            for client_id in list(bench.live)[:2]:
                bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
            bench.fill(f"o{abs(move) + 1}", Side.BUY, 10, trade=f"t{move}")
        bench.timer(3.0)
        return bench.steps

    assert run() == run()


# ------------------------------------------------------------------------------------------ whatever it hears


class AnyVenue(RuleBasedStateMachine):
    """A venue that answers in any order, late or never, and a market and an operator that do as they like.

    `venue` is the truth: what rests there, with its open lots. Every step is checked.
    """

    def __init__(self) -> None:
        super().__init__()
        limits = replace(LIMITS, max_position=D("0.004"), max_messages_per_s=12, max_open_orders=5)
        self.bench = Bench(TwoSided(levels=2), limits=limits)
        self.bench.up()
        self.trades = itertools.count(1)
        self.venue: dict[str, list[object]] = {}  # id -> [side, ticks, open lots]
        self.unheard: dict[str, Place] = {}  # sent, and not yet decided upon by the venue
        self.canceling: set[str] = set()
        self.seen: set[str] = set()
        self.sent_ns: list[int] = []
        self.told = 0
        self.filled = 0
        self.read_steps()

    # -- what the engine did

    def read_steps(self) -> None:
        for step in self.bench.steps[self.told :]:
            for approved in step.approved:
                command = approved.command
                if isinstance(command, Place):
                    assert command.client_id not in self.seen, "a client id was used twice"
                    self.seen.add(command.client_id)
                    self.unheard[command.client_id] = command
                    self.sent_ns.append(step.event.at_ns)
                    assert self.bench.engine.trading is Trading.RUN
                    assert step.silent == () or len({side for side, _ in step.silent}) < 2
                elif isinstance(command, Cancel):
                    self.canceling.add(command.client_id)
        self.told = len(self.bench.steps)

    # -- what may happen

    @rule(bid=st.integers(9_980, 10_020), width=st.integers(1, 6), after=st.sampled_from([0.0, 0.05, 0.4]))
    def market(self, bid: int, width: int, after: float) -> None:
        self.bench.book(bid, bid + width, after_s=after)

    @rule(after=st.sampled_from([0.1, 1.1, 2.5]))
    def time_passes(self, after: float) -> None:
        self.bench.timer(after)

    @precondition(lambda self: self.unheard)
    @rule(
        data=st.data(), how=st.sampled_from(["accept", "reject", "lost and there", "lost and gone", "silent"])
    )
    def venue_decides(self, data: st.DataObject, how: str) -> None:
        client_id = data.draw(st.sampled_from(sorted(self.unheard)))
        place = self.unheard.pop(client_id)
        if how not in ("reject", "lost and gone"):
            self.venue[client_id] = [place.side, place.ticks, place.lots]
        if how == "accept":
            self.bench.answer(client_id, Outcome.ACCEPTED)
        elif how == "reject":
            self.bench.answer(client_id, Outcome.REJECTED, error="Rejected")
        elif how.startswith("lost"):
            self.bench.answer(client_id, Outcome.UNKNOWN)

    @precondition(lambda self: self.canceling)
    @rule(data=st.data(), how=st.sampled_from(["accept", "lost", "limited"]))
    def venue_cancels(self, data: st.DataObject, how: str) -> None:
        client_id = data.draw(st.sampled_from(sorted(self.canceling)))
        if client_id in self.unheard:
            return  # the cancel overtakes nothing
        self.canceling.discard(client_id)
        if how == "limited":
            self.bench.answer(client_id, Outcome.RATE_LIMITED, Request.CANCEL, error="RateLimited")
            return
        was_there = self.venue.pop(client_id, None) is not None
        if how == "lost":
            self.bench.answer(client_id, Outcome.UNKNOWN, Request.CANCEL)
        elif was_there:
            self.bench.answer(client_id, Outcome.ACCEPTED, Request.CANCEL)
        else:
            self.bench.answer(client_id, Outcome.REJECTED, Request.CANCEL, error="UnknownOrder")

    @precondition(lambda self: self.venue)
    @rule(data=st.data(), share=st.integers(1, LOTS), is_told_twice=st.booleans())
    def fill(self, data: st.DataObject, share: int, is_told_twice: bool) -> None:
        client_id = data.draw(st.sampled_from(sorted(self.venue)))
        side, _, left = self.venue[client_id]
        assert isinstance(side, Side) and isinstance(left, int)
        lots = min(share, left)
        if lots == left:
            del self.venue[client_id]
        else:
            self.venue[client_id][2] = left - lots
        trade = f"t{next(self.trades)}"
        for _ in range(1 + is_told_twice):
            self.bench.fill(client_id, side, lots, trade)
        self.filled += side.sign * lots

    @rule(data=st.data())
    def the_gateway_asks(self, data: st.DataObject) -> None:
        """A doubt ends: the venue tells what it knows of one order, or that it has none."""
        doubted = sorted(o.client_id for o in self.bench.engine.orders.live() if o.is_unknown)
        doubted = [c for c in doubted if c not in self.unheard]
        if not doubted:
            return
        client_id = data.draw(st.sampled_from(doubted))
        order = self.bench.engine.orders[client_id]
        there = self.venue.get(client_id)
        status = Status.OPEN if there is not None else Status.CANCELED
        made = OrderReport(
            client_id, BTC, order.side, order.ticks, order.lots, status, None, "v", self.bench.now_ns
        )
        self.bench.hear(OrderHeard(self.bench.now_ns, made))

    @rule(trading=st.sampled_from([Trading.RUN, Trading.RUN, Trading.PAUSE, Trading.STOP]))
    def operator(self, trading: Trading) -> None:
        self.bench.trading(trading, "as told")

    @rule(is_up=st.booleans())
    def link(self, is_up: bool) -> None:
        self.bench.link("account", is_up)
        if is_up:
            self.bench.link("orders", True)

    # -- what must hold

    @invariant()
    def holds(self) -> None:
        self.read_steps()
        engine = self.bench.engine
        bids = [int(t) for side, t, _ in self.venue.values() if side is Side.BUY]  # type: ignore[call-overload]
        asks = [int(t) for side, t, _ in self.venue.values() if side is Side.SELL]  # type: ignore[call-overload]
        bids += [p.ticks for p in self.unheard.values() if p.side is Side.BUY]
        asks += [p.ticks for p in self.unheard.values() if p.side is Side.SELL]
        assert not bids or not asks or max(bids) < min(asks), "it would meet itself"
        assert engine.orders.position_lots == self.filled
        most = engine.gate.max_position_lots
        open_lots = {Side.BUY: 0, Side.SELL: 0}
        for side, _, left in self.venue.values():
            assert isinstance(side, Side) and isinstance(left, int)
            open_lots[side] += left
        for place in self.unheard.values():
            open_lots[place.side] += place.lots
        for side in (Side.BUY, Side.SELL):
            worst = self.filled * side.sign + open_lots[side]
            assert worst <= most or open_lots[side] == 0, "more than the largest position"
        assert len(self.venue) + len(self.unheard) <= engine.gate.limits.max_open_orders
        slots = Counter((o.side, o.level) for o in engine.orders.live())
        assert max(slots.values(), default=0) <= 2, "more than an order and its successor"
        rate = engine.gate.limits.max_messages_per_s
        for first, last in zip(self.sent_ns, self.sent_ns[rate:], strict=False):
            assert last - first >= S, "more messages than allowed"


TestAnyVenue = AnyVenue.TestCase
TestAnyVenue.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
