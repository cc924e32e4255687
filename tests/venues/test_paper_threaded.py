"""The paper venue in a running desk: whose thread reads which book, and what a listener can do to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest

from api.runtime import Clock, Service
from api.types import Answered, BookLost, Cancel, Event, FillHeard, OrderHeard, Outcome, Side
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import SMALL_BOOK, ThreadedPaper
from tests.conformance.market import BTC, HandBook, printed, terms
from tests.conformance.rigs import PATIENCE_S, QUICK, all_of, approved, place, poll

BUY, SELL = Side.BUY, Side.SELL


class Watched(HandBook):
    """A book that notices being read by a thread other than the one that changes it."""

    def __init__(self) -> None:
        super().__init__(terms())
        self.owner = threading.current_thread()
        self.strangers: set[str] = set()

    def _look(self) -> None:
        if threading.current_thread() is not self.owner:
            self.strangers.add(threading.current_thread().name)

    @property
    def best_bid(self) -> tuple[int, int] | None:
        self._look()
        return super().best_bid

    @property
    def best_ask(self) -> tuple[int, int] | None:
        self._look()
        return super().best_ask

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        self._look()
        return super().lots_at(is_bid, ticks)

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[tuple[int, int], ...]:
        self._look()
        return super().walk(is_bid, limit_ticks)


class Desk:
    def __init__(self, settings: PaperSettings = QUICK) -> None:
        self.clock = Clock()
        self.view = Watched()
        balances = {"USDT": Decimal(100_000), "BTC": Decimal(100)}
        self.paper = ThreadedPaper(
            {BTC: self.view}, [self.view.instrument], balances, settings, clock=self.clock
        )
        self.exchange = self.paper.exchange()
        self.heard: list[Event] = []

    def book(self, bids: dict[int, int], asks: dict[int, int], depth: int = 5) -> None:
        self.view.set(bids, asks)
        self.paper.on_market(self.view.changed(self.clock.now_ns(), depth))

    def answers(self, n: int) -> list[Answered]:
        assert poll(lambda: len(all_of(self.heard, Answered)) >= n, PATIENCE_S), self.heard
        return all_of(self.heard, Answered)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.paper.close()


def test_only_the_feeds_thread_reads_the_builder(desk: Desk) -> None:
    desk.book({10_000 - n: 10 + n for n in range(50)}, {10_001 + n: 10 + n for n in range(50)})
    desk.exchange.connect(desk.heard.append)
    desk.exchange.send(approved(place("deep", BUY, 9_970, 100)))
    desk.exchange.send(approved(place("taker", BUY, 10_020, 200, post_only=False)))
    desk.answers(2)
    assert poll(lambda: len(all_of(desk.heard, FillHeard)) >= 1, PATIENCE_S)
    assert desk.paper.queue_ahead("deep") == 40  # below the published top: from the copy of the whole book
    lots = [event.fill.lots for event in all_of(desk.heard, FillHeard)]
    assert lots == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 14]
    assert desk.view.strangers == set()


def test_the_published_top_is_newer_than_the_copy_below_it(desk: Desk) -> None:
    bids = {10_000 - n: 100 for n in range(SMALL_BOOK)}
    asks = {10_001 + n: 100 for n in range(SMALL_BOOK)}
    desk.book(bids, asks)
    desk.exchange.connect(desk.heard.append)
    desk.book({**bids, 10_000: 7, 9_500: 0}, {**asks, 10_001: 3})
    desk.exchange.send(approved(place("near", BUY, 10_000, 100)))
    desk.exchange.send(approved(place("taker", BUY, 10_001, 100, post_only=False)))
    desk.answers(2)
    assert poll(lambda: len(all_of(desk.heard, FillHeard)) >= 1, PATIENCE_S)
    assert desk.paper.queue_ahead("near") == 7
    assert [event.fill.lots for event in all_of(desk.heard, FillHeard)] == [3]


def test_a_listener_that_raises_loses_its_event_and_not_the_venue(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.book({10_000: 100}, {10_010: 100})

    def heard(event: Event) -> None:
        desk.heard.append(event)
        if isinstance(event, Answered) and event.client_id == "bad":
            raise ValueError("a listener's own fault")

    desk.exchange.connect(heard)
    desk.exchange.send(approved(place("bad")))
    desk.answers(1)
    desk.exchange.send(approved(place("good", ticks=9_980)))
    assert [a.outcome for a in desk.answers(2)] == [Outcome.ACCEPTED] * 2
    assert poll(lambda: len(all_of(desk.heard, OrderHeard)) == 2, PATIENCE_S)
    assert "paper-venue crashed" in caplog.text


def test_a_listener_may_send_and_read_from_inside(desk: Desk) -> None:
    desk.book({10_000: 100}, {10_010: 100})
    read: list[int] = []

    def heard(event: Event) -> None:
        desk.heard.append(event)
        if isinstance(event, Answered) and event.client_id == "a":
            read.append(len(desk.exchange.fetch_open_orders()))
            desk.exchange.send(approved(Cancel("a", BTC)))

    desk.exchange.connect(heard)
    desk.exchange.send(approved(place("a")))
    assert poll(lambda: desk.exchange.fetch_open_orders() == () and read == [1], PATIENCE_S)


def test_a_lost_book_stops_new_orders_until_it_is_found(desk: Desk) -> None:
    desk.book({10_000: 100}, {10_010: 100})
    desk.exchange.connect(desk.heard.append)
    desk.paper.on_market(BookLost(desk.clock.now_ns(), BTC, "gap"))
    desk.exchange.send(approved(place("a")))
    assert desk.answers(1)[0].outcome is Outcome.UNAVAILABLE
    desk.book({10_000: 100}, {10_010: 100})
    desk.exchange.send(approved(place("b")))
    assert desk.answers(2)[1].outcome is Outcome.ACCEPTED


def test_a_market_and_many_senders_at_once_leave_nothing_unanswered(desk: Desk) -> None:
    desk.book({10_000: 100}, {10_010: 100})
    desk.exchange.connect(desk.heard.append)

    def send(service: Service) -> None:
        for n in range(100):
            desk.exchange.send(approved(place(f"{service.name}-{n}", BUY, 9_990 - n % 7, 60)))
            desk.exchange.send(approved(Cancel(f"{service.name}-{n}", BTC)))

    senders = [Service(f"s{k}", send).start() for k in range(3)]
    n = 0
    while any(sender.is_alive for sender in senders):
        n += 1
        desk.book({10_000: 100 + n % 50}, {10_010: 100 + n % 30})
        desk.paper.on_market(printed(SELL, 9_989, 5, desk.clock.now_ns()))
    assert all(sender.crashed is None for sender in senders)
    assert len(desk.answers(600)) == 600
    assert poll(lambda: desk.exchange.fetch_open_orders() == (), PATIENCE_S)
    booked = desk.exchange.fetch_fills(BTC, 0)
    assert poll(lambda: len(all_of(desk.heard, FillHeard)) == len(booked), PATIENCE_S)
    assert desk.view.strangers == set()


def test_closing_twice_ends_the_thread_quickly(desk: Desk) -> None:
    desk.exchange.connect(desk.heard.append)
    begun_ns = desk.clock.now_ns()
    desk.paper.close()
    desk.paper.close()
    assert desk.clock.now_ns() - begun_ns < 1_000_000_000
    assert not any(service.is_alive for service in desk.paper.services)
