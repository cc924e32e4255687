"""The lane: who hears what, and what one engine's crash does to it and to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from api.exchange import Capabilities
from api.gateway import Gateway
from api.risk import Limits
from api.runtime import Board, Clock, Inbox, SteppedClock
from api.types import (
    Answered,
    Approved,
    Balance,
    BalancesHeard,
    BookChanged,
    BookLost,
    Cancel,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Quote,
    Request,
    SetTrading,
    Side,
    Status,
    Step,
    Targets,
    Trading,
)
from strategies.base import Params, Shared, State, Strategy, param
from strategies.engine import Engine, Shown
from strategies.lane import AddEngine, DropEngine, ForWorker, Lane, LaneItem, LaneService
from tests.makers import BTC, book, instrument

S = 1_000_000_000
T0 = 1_000 * S
ETH = InstrumentId.of("paper", "ETH-USDT")
D = Decimal
LIMITS = Limits(D("0.01"), D(2_000), D("0.05"), D(5), D(2), 100, 20)


class Breakable(Params):
    breaks_at: int = param(-1, title="Breaks at", unit="ticks", description="Best bid it cannot bear.")
    away: int = param(5, title="Away", unit="ticks", description="From mid.")


def wanted(state: State, params: Breakable) -> Targets:
    if state.book.bids[0][0] == params.breaks_at:
        raise ZeroDivisionError("a bug of this strategy")
    tick, mid = state.instrument.tick_float, state.book.mid_ticks
    price = (mid - params.away) * tick
    return Targets((Quote(Side.BUY, 0, price, 0.001, (("mid", mid * tick),)),))


STRATEGY = Strategy(
    name="breakable",
    kind="market_making",
    title="Breakable",
    description="For tests.",
    params=Breakable,
    targets=wanted,
    shared=lambda p: Shared(keep_bps=0.0, interval_s=10.0, duration_s=None),
    order_size=lambda p: (D("0.001"), 1),
    auto_share=lambda p: 0.05,
)


class Venue:
    """An exchange that keeps what it is sent."""

    venue, account = "paper", "main"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.sent: list[Place | Cancel] = []

    def send(self, approved: Approved) -> None:
        assert isinstance(approved.command, Place | Cancel)
        self.sent.append(approved.command)

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        return ()

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        raise AssertionError("nobody asked for this here")

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        return ()

    def fetch_balances(self) -> tuple[Balance, ...]:
        return ()

    def connect(self, heard: Callable[[Event], None]) -> None: ...
    def cancel_all(self, instrument: InstrumentId | None) -> None: ...
    def arm_dead_man(self, timeout_s: float) -> None: ...
    def close(self) -> None: ...
    def fetch_instruments(self) -> tuple[Instrument, ...]:
        return ()

    def fetch_server_ns(self) -> int:
        return 0

    def placed(self, worker_no: int) -> list[Place]:
        return [c for c in self.sent if isinstance(c, Place) and int(c.client_id[6:9], 36) == worker_no]

    @property
    def canceled(self) -> list[str]:
        return [c.client_id for c in self.sent if isinstance(c, Cancel)]


class Intents:
    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None: ...
    def record_done(self, client_id: str, at_ns: int) -> None: ...


@dataclass
class Rig:
    """A lane with a linked gateway; workers are `w1`, `w2`, ... by number."""

    clock: SteppedClock = field(default_factory=lambda: SteppedClock(T0))
    venue: Venue = field(default_factory=Venue)
    steps: list[Step] = field(default_factory=list)
    traced: list[object] = field(default_factory=list)
    crashes: list[tuple[str, str]] = field(default_factory=list)
    booked: list[tuple[str | None, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        eth = Instrument(
            ETH, "ETH", "USDT", D("0.01"), D("0.0001"), D("0.0001"), D("0.01"), D(0), D(0), "ETHUSDT"
        )
        self.instruments = {BTC: instrument(min_notional="0.01"), ETH: eth}
        self.lane = Lane(
            self.clock,
            record=self.steps.append,
            trace=self.traced.append,
            crashed=lambda worker, error: self.crashes.append((worker, str(error))),
        )
        self.gateway = Gateway(
            self.venue,
            self.instruments.values(),
            clock=self.clock,
            intents=Intents(),
            desk_tag="tst1",
            run_no=1,
            deliver=self.lane.handle,
            on_fill=lambda worker, fill: self.booked.append((worker, fill.trade_id)),
            resolve_worker=lambda number: f"w{number}",
        )
        self.lane.add_gateway(self.gateway)
        self.lane.handle(LinkChanged(T0, "paper", "account", True, ""))
        self.gateway.poll(T0)

    def add(self, number: int, market: InstrumentId = BTC, **params: int) -> Engine:
        """A running worker."""
        engine = Engine(
            f"w{number}",
            self.instruments[market],
            STRATEGY,
            Breakable(**params),
            LIMITS,
            version=1,
            next_id=lambda: self.gateway.next_client_id(number),
            others_touch=lambda: self.gateway.others_touch(market, f"w{number}"),
        )
        self.lane.handle(AddEngine(engine, self.gateway))
        self.lane.handle(ForWorker(engine.worker, SetTrading(self.clock.now_ns(), Trading.RUN, "")))
        return engine

    def book(self, bid: int = 9_999, market: InstrumentId = BTC) -> None:
        self.clock.step_to(self.clock.now_ns() + S // 10)
        now_ns = self.clock.now_ns()
        made = book(bid, bid + 2, at_ns=now_ns)
        levels = (market, made.bids, made.asks, now_ns, now_ns, 1)
        self.lane.handle(BookChanged(now_ns, type(made)(*levels)))

    def heard_by(self, kind: type[object]) -> list[str]:
        """Workers that heard such an event, in order."""
        return [
            item.worker
            for item in self.traced
            if isinstance(item, ForWorker) and isinstance(item.event, kind)
        ]


# ---------------------------------------------------------------------------------------------------- routing


def test_a_book_reaches_the_engines_of_its_market_and_no_other() -> None:
    rig = Rig()
    rig.add(1)
    rig.add(2, ETH)
    rig.add(3)
    rig.traced.clear()
    rig.book()
    assert rig.heard_by(BookChanged) == ["w1", "w3"]
    rig.book(market=ETH)
    assert rig.heard_by(BookChanged) == ["w1", "w3", "w2"]
    rig.lane.handle(BookLost(rig.clock.now_ns(), ETH, "a gap"))
    assert rig.heard_by(BookLost) == ["w2"]


def test_answers_reports_and_fills_reach_their_owner_alone() -> None:
    rig = Rig()
    rig.add(1)
    rig.add(2, away=6)
    rig.book()
    mine = rig.venue.placed(2)[0].client_id
    rig.traced.clear()
    now_ns = rig.clock.now_ns()
    rig.lane.handle(Answered(now_ns, mine, BTC, Request.PLACE, Outcome.ACCEPTED))
    rig.lane.handle(
        OrderHeard(now_ns, OrderReport(mine, BTC, Side.BUY, 9_994, 100, Status.OPEN, 0, "v", now_ns))
    )
    made = Fill("t1", mine, "v", "main", BTC, Side.BUY, 9_994, 30, D(0), "USDT", True, now_ns)
    rig.lane.handle(FillHeard(now_ns, made))
    rig.lane.handle(FillHeard(now_ns, made))
    assert [rig.heard_by(kind) for kind in (Answered, OrderHeard, FillHeard)] == [["w2"]] * 3
    assert rig.booked == [("w2", "t1")]
    assert (rig.lane.engines["w1"].fill_count, rig.lane.engines["w2"].fill_count) == (0, 1)


def test_a_fill_of_a_worker_that_is_not_here_yet_is_stored_and_kept_for_it() -> None:
    rig = Rig()
    client_id = rig.gateway.next_client_id(7)
    now_ns = rig.clock.now_ns()
    made = Fill("t1", client_id, "v", "main", BTC, Side.BUY, 9_994, 30, D(0), "USDT", True, now_ns)
    rig.lane.handle(FillHeard(now_ns, made))
    assert rig.booked == [("w7", "t1")]
    assert rig.add(7).orders.position_lots == 30


def test_an_engine_that_joins_later_knows_links_and_balances() -> None:
    rig = Rig()
    rig.lane.handle(BalancesHeard(T0, "paper", "main", (Balance("BTC", D(2), D(0)),)))
    rig.lane.handle(LinkChanged(T0, "desk", "operator", False, "nobody there"))
    engine = rig.add(1)
    rig.book()
    assert rig.venue.placed(1) == []
    assert "nobody there" in dict(rig.steps[-1].silent).get(Side.BUY, "")
    assert engine.shown(T0).base_total == D(2)
    rig.lane.handle(LinkChanged(T0, "desk", "operator", True, "back"))
    assert len(rig.venue.placed(1)) == 1


def test_an_order_the_gateway_refuses_is_answered_to_its_engine_at_once() -> None:
    rig = Rig()
    engine = rig.add(1)
    rig.gateway.kill("told to")
    rig.book()
    assert rig.venue.placed(1) == []
    assert engine.orders.live_count == 0
    assert "Killed" in dict(rig.steps[-1].silent)[Side.BUY]


def test_a_dropped_engine_hears_nothing_more() -> None:
    rig = Rig()
    rig.add(1)
    rig.lane.handle(DropEngine("w1"))
    rig.traced.clear()
    rig.book()
    rig.lane.timers(rig.clock.now_ns() + 100 * S)
    assert rig.traced == []
    assert rig.lane.wake_ns() > rig.clock.now_ns() + 100 * S


# ------------------------------------------------------------------------------------------------------ crash


def test_a_crash_of_one_engine_cancels_its_orders_and_the_others_go_on() -> None:
    rig = Rig()
    rig.add(1, breaks_at=10_005)
    rig.add(2, away=6)
    rig.book(9_999)
    mine = rig.venue.placed(1)[0].client_id
    for client_id in (mine, rig.venue.placed(2)[0].client_id):
        rig.lane.handle(Answered(rig.clock.now_ns(), client_id, BTC, Request.PLACE, Outcome.ACCEPTED))
    rig.book(10_005)
    assert rig.crashes == [("w1", "a bug of this strategy")]
    assert rig.lane.failed == {"w1": "ZeroDivisionError: a bug of this strategy"}
    assert mine in rig.venue.canceled
    assert list(rig.lane.engines) == ["w2"]
    assert len(rig.venue.placed(2)) == 2, "the other one followed the market"
    before = len(rig.venue.placed(1))
    rig.book(9_990)
    assert len(rig.venue.placed(1)) == before


def test_a_cancel_of_a_crashed_worker_that_is_lost_is_sent_again() -> None:
    rig = Rig()
    rig.add(1, breaks_at=10_005)
    rig.book(9_999)
    mine = rig.venue.placed(1)[0].client_id
    rig.lane.handle(Answered(rig.clock.now_ns(), mine, BTC, Request.PLACE, Outcome.ACCEPTED))
    rig.book(10_005)
    assert rig.venue.canceled == [mine]
    rig.clock.step_to(rig.clock.now_ns() + int(1.1 * S))
    rig.gateway.poll(rig.clock.now_ns())
    assert rig.venue.canceled == [mine, mine]


def test_events_that_waited_for_an_engine_when_it_crashed_do_not_wake_it() -> None:
    rig = Rig()
    engine = rig.add(1, breaks_at=10_005)
    rig.book(9_999)
    heard: list[Event] = []
    step = engine.step

    def crash_once(event: Event) -> Step | None:
        heard.append(event)
        if isinstance(event, BookLost):
            raise ZeroDivisionError("now")
        return step(event)

    engine.step = crash_once  # type: ignore[method-assign]
    now_ns = rig.clock.now_ns()
    rig.lane._queue.extend([(engine, BookLost(now_ns, BTC, "x")), (engine, BookLost(now_ns, BTC, "y"))])
    rig.lane.handle(BookLost(now_ns, ETH, "drives the queue"))
    assert len(heard) == 1
    assert rig.crashes == [("w1", "now")]


# ------------------------------------------------------------------------------------------------- the thread


def test_the_thread_shows_what_changed_and_gives_timers() -> None:
    rig = Rig()
    clock, inbox, board = Clock(), Inbox[LaneItem](), Board()
    lane = Lane(clock, record=rig.steps.append)
    gateway = Gateway(
        rig.venue,
        rig.instruments.values(),
        clock=clock,
        intents=Intents(),
        desk_tag="tst1",
        run_no=1,
        deliver=inbox.put,
        on_fill=lambda worker, fill: None,
        resolve_worker=lambda number: f"w{number}",
    )
    lane.add_gateway(gateway)
    service = LaneService("lane-test", lane, inbox, clock, board)
    engine = Engine(
        "w1",
        rig.instruments[BTC],
        STRATEGY,
        Breakable(),
        LIMITS,
        version=1,
        next_id=lambda: gateway.next_client_id(1),
        others_touch=lambda: (None, None),
    )
    service.service.start()
    try:
        inbox.put(LinkChanged(clock.now_ns(), "paper", "account", True, ""))
        inbox.put(AddEngine(engine, gateway))
        until(lambda: gateway.is_linked)
        gateway.poll(clock.now_ns())
        inbox.put(ForWorker("w1", SetTrading(clock.now_ns(), Trading.RUN, "")))
        inbox.put(BookChanged(clock.now_ns(), book(at_ns=clock.now_ns())))
        until(lambda: rig.venue.placed(1))
        until(lambda: isinstance(shown := board.get("engine/w1"), Shown) and shown.buy.orders == 1)
        mine = rig.venue.placed(1)[0].client_id
        inbox.put(Answered(clock.now_ns(), mine, BTC, Request.PLACE, Outcome.ACCEPTED))
        until(lambda: mine in rig.venue.canceled)  # no book for two seconds: pulled by the timer alone
    finally:
        service.service.stop()
        assert service.service.join(2.0)


def until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + 10.0
    waiter = threading.Event()
    while not holds():
        if time.monotonic() > end_s:
            pytest.fail("waited 10 s")
        waiter.wait(0.01)
