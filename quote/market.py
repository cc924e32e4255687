"""Market data for readers: in this process straight from the events, in every other process over the bus.

Hides: where a book comes from, how it travels, how often it is published. Must not know: strategies, orders,
Redis. Called by the desk and the lanes (ring), by other processes (bus), and by `run.py`, which hangs a
`MarketPublisher` on the feeds.

Key layout on the bus (`quote.bus` adds stamp, sequence and namespace):

    book/{instrument}     api.desk.BookView    `book/paper:BTC-USDT`; best first, [price, size] as text
    trades/{instrument}   api.desk.TradesView  the newest 50 public trades, newest first
    feeds                 api.desk.FeedsView   health of every feed, once a second

Each lives for 10 seconds after it was last written, and is written again after two at the latest while its
feed runs, so what is gone has no publisher. `venue_ns` is the exchange's time, `market_ns` when we received
it, `published_ns` when it was put on the bus: writing again changes only the last, so age counts from the
market. `market` says LIVE, REPLAY or SYNTHETIC.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import msgspec

from api.desk import TOPIC_BOOK, TOPIC_FEEDS, TOPIC_TRADES, BookView, FeedsView, TradesView
from api.runtime import ClockLike, Service
from api.types import Book, BookChanged, BookLost, Event, Instrument, InstrumentId, Level, Side, Trade, Traded
from quote.feed import Feed

TTL_S = 10.0  # of each topic
REFRESH_NS = 2_000_000_000  # an unchanged one is written again after this
FEEDS_NS = 1_000_000_000
LEVELS = 25  # a side
TRADES = 50

_decode_book = msgspec.json.Decoder(BookView).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest known book of one market. While `is_synced` is False it is history: `note` says why.

    `market_ns` is when its newest part was received, `published_ns` when this reader's source put it out
    (UTC).
    """

    instrument: InstrumentId
    book: Book
    market: str
    market_ns: int
    published_ns: int
    is_synced: bool
    note: str = ""

    def age_s(self, now_ns: int) -> float:
        """Seconds since its newest part was received; never negative."""
        return max(0, now_ns - self.market_ns) / 1e9

    def is_fresh(self, now_ns: int, max_age_s: float) -> bool:
        """It is known, and no older than `max_age_s`."""
        return self.is_synced and self.age_s(now_ns) <= max_age_s


class MarketData(Protocol):
    """Where the newest book of a market is read. Reading costs a look into memory."""

    def latest(self, instrument: InstrumentId) -> Snapshot | None:
        """None: nothing was ever heard of this market."""


class RingMarketData:
    """In this process: hang `heard` on a feed. Newest value only; safe to read from any thread.

    Args:
        market: LIVE, REPLAY or SYNTHETIC, of the feed it hangs on.
        clock: stamps `published_ns`.
    """

    def __init__(self, market: str, clock: ClockLike) -> None:
        self._market = market
        self._clock = clock
        self._latest: dict[InstrumentId, Snapshot] = {}

    def heard(self, event: Event) -> None:
        """A listener of `quote.feed.Feed`."""
        if isinstance(event, BookChanged):
            book = event.book
            self._latest[book.instrument] = Snapshot(
                book.instrument, book, self._market, book.recv_ns, self._clock.now_ns(), True
            )
        elif isinstance(event, BookLost):
            before = self._latest.get(event.instrument)
            if before is not None:
                self._latest[event.instrument] = Snapshot(
                    event.instrument,
                    before.book,
                    self._market,
                    before.market_ns,
                    self._clock.now_ns(),
                    False,
                    event.reason,
                )

    def latest(self, instrument: InstrumentId) -> Snapshot | None:
        return self._latest.get(instrument)


class _Heard(Protocol):
    """A change on the bus (`quote.bus.Latest`)."""

    @property
    def topic(self) -> str: ...

    @property
    def payload(self) -> bytes: ...


class _Closable(Protocol):
    def close(self) -> None: ...


class WatchableBus(Protocol):
    """What is read from the bus (`quote.bus.Bus`)."""

    def watch(self, prefix: str, heard: Callable[..., None]) -> _Closable: ...


class PublishingBus(Protocol):
    """What is written to the bus (`quote.bus.Bus`)."""

    def publish(self, topic: str, payload: bytes, *, ttl_s: float = 60.0) -> None: ...


class BusMarketData:
    """In any other process: the books that a `MarketPublisher` puts on the bus.

    What stands on the bus at the beginning and each change is kept in memory; a publisher that dies leaves
    its last value here, whose age grows: ask `Snapshot.is_fresh`. A payload that cannot be read counts in
    `unreadable` and is left out.
    """

    def __init__(self, bus: WatchableBus) -> None:
        self._payloads: dict[str, bytes] = {}
        self._read: dict[str, tuple[bytes, Snapshot | None]] = {}
        self.unreadable = 0
        self._watch = bus.watch(TOPIC_BOOK, self._hear)

    def latest(self, instrument: InstrumentId) -> Snapshot | None:
        payload = self._payloads.get(instrument)
        if payload is None:
            return None
        read = self._read.get(instrument)
        if read is None or read[0] is not payload:
            read = self._read[instrument] = (payload, self._decode(payload))
        return read[1]

    def close(self) -> None:
        self._watch.close()

    def _hear(self, latest: _Heard) -> None:
        self._payloads[latest.topic.removeprefix(TOPIC_BOOK)] = latest.payload

    def _decode(self, payload: bytes) -> Snapshot | None:
        try:
            view = _decode_book(payload)
            return snapshot_of(view)
        except (msgspec.MsgspecError, ValueError, ArithmeticError):
            self.unreadable += 1
            return None


def snapshot_of(view: BookView) -> Snapshot:
    """A published book as ticks and lots again.

    Raises:
        ValueError, ArithmeticError: a price between two ticks, a size between two lots, or no number at all.
    """
    tick, lot = view.tick, view.lot
    instrument = InstrumentId(view.instrument)
    book = Book(
        instrument,
        tuple(_level(pair, tick, lot) for pair in view.bids),
        tuple(_level(pair, tick, lot) for pair in view.asks),
        view.venue_ns,
        view.market_ns,
        view.seq,
    )
    return Snapshot(
        instrument, book, view.market, view.market_ns, view.published_ns, view.is_synced, view.note
    )


def _level(pair: tuple[str, str], tick: Decimal, lot: Decimal) -> Level:
    ticks, lots = Decimal(pair[0]) / tick, Decimal(pair[1]) / lot
    if ticks != int(ticks) or lots != int(lots):
        raise ValueError(f"{pair} does not lie on tick {tick} and lot {lot}")
    return int(ticks), int(lots)


def book_view(
    instrument: Instrument, book: Book, market: str, *, published_ns: int, is_synced: bool, note: str
) -> BookView:
    """A book as other processes and the page see it: up to LEVELS levels a side, decimal text."""
    return BookView(
        instrument=str(instrument.id),
        market=market,
        bids=_texts(instrument, book.bids),
        asks=_texts(instrument, book.asks),
        tick=instrument.tick,
        lot=instrument.lot,
        venue_ns=book.venue_ns,
        market_ns=book.recv_ns,
        published_ns=published_ns,
        seq=book.seq,
        is_synced=is_synced,
        note=note,
    )


def _texts(instrument: Instrument, levels: Sequence[Level]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (format(instrument.price(ticks), "f"), format(instrument.qty(lots), "f"))
        for ticks, lots in levels[:LEVELS]
    )


class _Shown:
    """What is to be published of one market; written by the feed's thread, read by the publisher's."""

    __slots__ = ("book", "book_changed", "is_synced", "note", "trades", "trades_changed", "written_ns")

    def __init__(self) -> None:
        self.book: Book | None = None
        self.is_synced = False
        self.note = ""
        self.book_changed = False
        self.trades: deque[Trade] = deque(maxlen=TRADES)
        self.trades_changed = False
        self.written_ns = 0


class MarketPublisher:
    """Puts books, trades and the health of the feeds on the bus, `rate_hz` times a second at most, newest
    value only.

    It hangs itself on the feeds given; what it does in their threads is to keep a reference. The rest happens
    in its own.
    """

    def __init__(
        self, bus: PublishingBus, feeds: Sequence[Feed], clock: ClockLike, rate_hz: float = 10.0
    ) -> None:
        self._bus = bus
        self._feeds: tuple[Feed, ...] = ()
        self._clock = clock
        self._pause_s = 1.0 / rate_hz
        self._lock = threading.Lock()  # one hand-over point: a market's newest state, from feed to publisher
        self._shown: dict[InstrumentId, _Shown] = {}
        self._of: dict[InstrumentId, tuple[Instrument, Feed]] = {}
        self._next_feeds_ns = 0
        self._service = Service("market-publisher", self._run, restart_after_s=1.0)
        for feed in feeds:
            self.add(feed)

    def add(self, feed: Feed) -> None:
        """Publish this feed's markets as well; before the feed is started. From any thread."""
        builders = feed.fold.builders
        self._of = {**self._of, **{key: (builder.instrument, feed) for key, builder in builders.items()}}
        # a new dict each time: the publisher may be walking over the present one
        self._shown = {**self._shown, **{key: _Shown() for key in builders}}
        self._feeds = (*self._feeds, feed)
        feed.add_listener(self.heard)

    @property
    def service(self) -> Service:
        return self._service

    def start(self) -> MarketPublisher:
        self._service.start()
        return self

    def stop(self) -> None:
        """Ask it to end; what changed last is still written. Idempotent."""
        self._service.stop()

    def join(self, timeout_s: float) -> bool:
        return self._service.join(timeout_s)

    def heard(self, event: Event) -> None:
        """A listener of `quote.feed.Feed`."""
        if isinstance(event, BookChanged):
            shown = self._shown.get(event.book.instrument)
            if shown is not None:
                with self._lock:
                    shown.book = event.book
                    shown.is_synced = True
                    shown.note = ""
                    shown.book_changed = True
        elif isinstance(event, Traded):
            shown = self._shown.get(event.trade.instrument)
            if shown is not None:
                with self._lock:
                    shown.trades.appendleft(event.trade)
                    shown.trades_changed = True
        elif isinstance(event, BookLost):
            shown = self._shown.get(event.instrument)
            if shown is not None:
                with self._lock:
                    shown.is_synced = False
                    shown.note = event.reason
                    shown.book_changed = True

    def publish(self) -> int:
        """Write what changed, or is due to be written again; the number of topics written. For the
        publisher's thread.
        """
        now_ns = self._clock.now_ns()
        written = 0
        for key, shown in list(self._shown.items()):
            instrument, feed = self._of[key]
            is_due = now_ns - shown.written_ns >= REFRESH_NS and feed.service.is_alive
            with self._lock:
                book, is_synced, note = shown.book, shown.is_synced, shown.note
                has_book = book is not None and (shown.book_changed or is_due)
                has_trades = shown.trades_changed or (is_due and bool(shown.trades))
                trades = tuple(shown.trades) if has_trades else ()
                shown.book_changed = shown.trades_changed = False
            if has_book and book is not None:
                view = book_view(
                    instrument, book, feed.label, published_ns=now_ns, is_synced=is_synced, note=note
                )
                self._bus.publish(TOPIC_BOOK + key, msgspec.json.encode(view), ttl_s=TTL_S)
                shown.written_ns = now_ns
                written += 1
            if has_trades:
                told = _trades_view(instrument, feed.label, now_ns, trades)
                self._bus.publish(TOPIC_TRADES + key, msgspec.json.encode(told), ttl_s=TTL_S)
                written += 1
        if now_ns >= self._next_feeds_ns:
            self._next_feeds_ns = now_ns + FEEDS_NS
            health = FeedsView(now_ns, tuple(view for feed in self._feeds for view in feed.views(now_ns)))
            self._bus.publish(TOPIC_FEEDS, msgspec.json.encode(health), ttl_s=TTL_S)
            written += 1
        return written

    def _run(self, service: Service) -> None:
        while not service.wait(self._pause_s):
            self.publish()
        self._next_feeds_ns = 0
        self.publish()


def _trades_view(
    instrument: Instrument, market: str, published_ns: int, trades: Sequence[Trade]
) -> TradesView:
    return TradesView(
        instrument=str(instrument.id),
        market=market,
        published_ns=published_ns,
        trades=tuple(
            (
                trade.venue_ns,
                "buy" if trade.side is Side.BUY else "sell",
                format(instrument.price(trade.ticks), "f"),
                format(instrument.qty(trade.lots), "f"),
                trade.recv_ns,
                trade.trade_id,
            )
            for trade in trades
        ),
    )
