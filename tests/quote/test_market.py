"""Market data for readers, in this process and over the bus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest

from api.desk import BookView, FeedsView, TradesView
from api.runtime import Clock, Service, SteppedClock
from api.types import Book, BookChanged, BookLost, Side, Trade, Traded
from quote.bus import InProcessBus
from quote.feed import Feed, Sink
from quote.fold import MarketFold
from quote.market import BusMarketData, MarketPublisher, RingMarketData, Snapshot, book_view, snapshot_of
from tests.api.loopback import eventually
from tests.quote import frames as f

S = 1_000_000_000
BTC = f.instrument()
BOOK = Book(BTC.id, ((10_000, 150_000), (9_999, 1)), ((10_001, 7),), 3 * S, 4 * S, 42)


class Quiet:
    """A source that says nothing; events are handed to the listeners by hand."""

    label = "REPLAY"
    name = "quiet"
    pace = 1.0

    def run(self, service: Service, emit: Sink) -> None:
        emit.up("")
        while not service.wait(0.05):
            pass

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        return measured


@pytest.fixture
def bus() -> Iterator[InProcessBus]:
    made = InProcessBus()
    yield made
    made.close()


def feed_of(clock: SteppedClock | Clock) -> Feed:
    return Feed("quiet", Quiet(), MarketFold([BTC]), clock, ())


def test_the_ring_tells_the_newest_book_and_its_age() -> None:
    clock = SteppedClock(5 * S)
    ring = RingMarketData("LIVE", clock)
    assert ring.latest(BTC.id) is None
    ring.heard(BookChanged(4 * S, BOOK))
    found = ring.latest(BTC.id)
    assert found == Snapshot(BTC.id, BOOK, "LIVE", 4 * S, 5 * S, True, "")
    assert found is not None
    assert (found.age_s(7 * S), found.age_s(S)) == (3.0, 0.0)
    assert (found.is_fresh(7 * S, 3.0), found.is_fresh(7 * S, 2.9)) == (True, False)


def test_a_lost_book_stays_readable_but_is_never_fresh() -> None:
    ring = RingMarketData("LIVE", SteppedClock(5 * S))
    ring.heard(BookLost(4 * S, BTC.id, "gap"))
    assert ring.latest(BTC.id) is None
    ring.heard(BookChanged(4 * S, BOOK))
    ring.heard(BookLost(5 * S, BTC.id, "gap"))
    found = ring.latest(BTC.id)
    assert found is not None
    assert (found.is_synced, found.note, found.market_ns, found.is_fresh(4 * S, 99.0)) == (
        False,
        "gap",
        4 * S,
        False,
    )


def test_a_book_survives_the_way_over_the_bus_exactly() -> None:
    view = book_view(BTC, BOOK, "REPLAY", published_ns=9 * S, is_synced=True, note="")
    assert (view.bids, view.asks) == ((("100.00", "1.50000"), ("99.99", "0.00001")), (("100.01", "0.00007"),))
    again = msgspec.json.decode(msgspec.json.encode(view), type=BookView)
    assert snapshot_of(again) == Snapshot(BTC.id, BOOK, "REPLAY", 4 * S, 9 * S, True, "")


def test_only_the_best_levels_travel() -> None:
    deep = replace(BOOK, bids=tuple((ticks, 1) for ticks in range(10_000, 9_900, -1)))
    assert len(book_view(BTC, deep, "LIVE", published_ns=0, is_synced=True, note="").bids) == 25


def test_a_publisher_writes_what_changed_once_and_again_when_it_is_due(bus: InProcessBus) -> None:
    clock = SteppedClock(10 * S)
    feed = feed_of(clock).start()
    publisher = MarketPublisher(bus, (feed,), clock)
    assert publisher.publish() == 1  # the health of the feeds alone
    publisher.heard(BookChanged(4 * S, replace(BOOK, seq=41)))
    publisher.heard(BookChanged(4 * S, BOOK))
    assert publisher.publish() == 1
    latest = bus.latest("book/paper:BTC-USDT")
    assert latest is not None
    view = msgspec.json.decode(latest.payload, type=BookView)
    assert (view.seq, view.market_ns, view.venue_ns, view.published_ns) == (42, 4 * S, 3 * S, 10 * S)
    assert (view.market, view.is_synced, view.tick, view.lot) == ("REPLAY", True, BTC.tick, BTC.lot)
    assert publisher.publish() == 0
    clock.step_to(12 * S)
    assert publisher.publish() == 2
    latest = bus.latest("book/paper:BTC-USDT")
    assert latest is not None
    again = msgspec.json.decode(latest.payload, type=BookView)
    assert (again.published_ns, again.market_ns) == (12 * S, 4 * S)
    feed.stop()
    assert feed.join(2.0)
    clock.step_to(14 * S)
    assert publisher.publish() == 1  # its feed is dead: the book may expire


def test_trades_are_published_newest_first_and_no_more_than_fifty(bus: InProcessBus) -> None:
    clock = SteppedClock(10 * S)
    publisher = MarketPublisher(bus, (feed_of(clock),), clock)
    for number in range(60):
        side = Side.BUY if number % 2 else Side.SELL
        publisher.heard(Traded(0, Trade(BTC.id, str(number), side, 10_000 + number, 3, number, 5)))
    publisher.publish()
    latest = bus.latest("trades/paper:BTC-USDT")
    assert latest is not None
    view = msgspec.json.decode(latest.payload, type=TradesView)
    assert len(view.trades) == 50
    assert view.trades[:2] == (
        (59, "buy", "100.59", "0.00003", 5, "59"),
        (58, "sell", "100.58", "0.00003", 5, "58"),
    )


def test_a_loss_is_published_with_its_reason(bus: InProcessBus) -> None:
    clock = SteppedClock(10 * S)
    publisher = MarketPublisher(bus, (feed_of(clock),), clock)
    publisher.heard(BookChanged(4 * S, BOOK))
    publisher.heard(BookLost(5 * S, BTC.id, "no data for 10 s"))
    publisher.publish()
    reader = BusMarketData(bus)
    eventually(lambda: reader.latest(BTC.id))
    found = reader.latest(BTC.id)
    assert found is not None
    assert (found.is_synced, found.note, found.book) == (False, "no data for 10 s", BOOK)
    reader.close()


def test_the_health_of_every_feed_is_published_once_a_second(bus: InProcessBus) -> None:
    clock = SteppedClock(10 * S)
    publisher = MarketPublisher(bus, (), clock)
    publisher.add(feed_of(clock))
    publisher.publish()
    clock.step_to(10 * S + S // 2)
    assert publisher.publish() == 0
    latest = bus.latest("feeds")
    assert latest is not None
    view = msgspec.json.decode(latest.payload, type=FeedsView)
    assert [(one.instrument, one.market, one.state, one.age_s) for one in view.feeds] == [
        ("paper:BTC-USDT", "REPLAY", "starting", None)
    ]


def test_a_reader_elsewhere_follows_and_counts_what_it_cannot_read(bus: InProcessBus) -> None:
    clock = SteppedClock(10 * S)
    publisher = MarketPublisher(bus, (feed_of(clock),), clock)
    publisher.heard(BookChanged(4 * S, BOOK))
    publisher.publish()
    reader = BusMarketData(bus)
    eventually(lambda: reader.latest(BTC.id))
    for payload in (b"rubbish", b"{}", _off_grid()):
        bus.publish("book/paper:BTC-USDT", payload)
        seen = reader.unreadable
        eventually(lambda: reader.latest(BTC.id) is None and reader.unreadable > seen)  # noqa: B023
    publisher.heard(BookChanged(4 * S, replace(BOOK, seq=43)))
    publisher.publish()
    eventually(lambda: (found := reader.latest(BTC.id)) is not None and found.book.seq == 43)
    reader.close()


def _off_grid() -> bytes:
    view = book_view(BTC, BOOK, "LIVE", published_ns=0, is_synced=True, note="")
    return msgspec.json.encode(replace(view, bids=(("100.001", "1"),)))


def test_a_publisher_in_its_thread_hangs_itself_on_the_feed_and_writes_the_last_change(
    bus: InProcessBus,
) -> None:
    clock = Clock()
    play: list[Callable[[Sink], None]] = []

    class Script(Quiet):
        def run(self, service: Service, emit: Sink) -> None:
            emit.up("")
            while not service.wait(0.005):
                while play:
                    play.pop(0)(emit)

    feed = Feed("script", Script(), MarketFold([BTC]), clock, ())
    publisher = MarketPublisher(bus, (feed,), clock, rate_hz=50).start()
    feed.start()
    play.append(lambda emit: emit("BTCUSDT", clock.now_ns(), f.snapshot(10)))
    reader = BusMarketData(bus)
    eventually(lambda: reader.latest(BTC.id))
    feed.stop()
    assert feed.join(2.0)
    publisher.stop()
    assert publisher.join(2.0)
    eventually(lambda: (found := reader.latest(BTC.id)) is not None and not found.is_synced)
    reader.close()
