"""The desk's feeds, started as workers need them, behind one label.

Hides: that every market has a feed of its own, when it starts, which books are known. Must not know workers
or orders. Called by the desk (`api.desk` views) and by `run.py`, which chooses the source and hands in
the listeners: the simulated venue first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from api.desk import BookView, FeedsView
from api.errors import BadInput
from api.exchange import DepthView
from api.runtime import ClockLike
from api.types import BookChanged, BookLost, Event, Instrument, InstrumentId, Traded
from quote.feed import Feed, FrameSource
from quote.fold import MarketFold
from quote.market import RingMarketData, book_view

STOP_S = 2.0


class Room:
    """See the module docstring.

    Args:
        label: LIVE, REPLAY or SYNTHETIC.
        instruments: what this source can carry.
        make_source: a source for the given markets; called once a feed.
        together: True when one source carries all markets in one feed (a tape, a remote venue).
        listeners: called with each event in the feed's thread, before the room's own.
        on_feed: called with each new feed before it starts.
    """

    def __init__(
        self,
        label: str,
        instruments: Iterable[Instrument],
        make_source: Callable[[Sequence[Instrument]], FrameSource],
        clock: ClockLike,
        listeners: Sequence[Callable[[Event], None]],
        views: dict[InstrumentId, DepthView],
        *,
        together: bool,
        on_feed: Callable[[Feed], None],
    ) -> None:
        self._label = label
        self._instruments = {i.id: i for i in instruments}
        self._make_source = make_source
        self._clock = clock
        self._ring = RingMarketData(label, clock)
        self._listeners = (*listeners, self._ring.heard)
        self._on_feed = on_feed
        self._views = views
        self._together = together
        self._feeds: dict[InstrumentId, Feed] = {}
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        return self._label

    @property
    def views(self) -> Mapping[InstrumentId, DepthView]:
        """The rebuilt books, read by a simulated venue in the feed's thread only."""
        return self._views

    def carries(self, instrument: Instrument) -> bool:
        return instrument.id in self._instruments

    def ensure(self, instrument: Instrument) -> None:
        """Listen to this market from now on. Raises BadInput when the source does not carry it."""
        if not self.carries(instrument):
            known = ", ".join(sorted(i.symbol for i in self._instruments.values()))
            raise BadInput("symbol", f"{instrument.symbol} has no market data here; allowed: {known}")
        with self._lock:
            if instrument.id in self._feeds:
                return
            markets = list(self._instruments.values()) if self._together else [instrument]
            fold = MarketFold(markets)
            self._views.update(fold.builders)
            name = "all" if self._together else instrument.symbol
            feed = Feed(name, self._make_source(markets), fold, self._clock, self._listeners)
            for market in markets:
                self._feeds[market.id] = feed
        self._on_feed(feed)
        feed.start()

    def running(self) -> tuple[Feed, ...]:
        """The feeds there are."""
        with self._lock:
            return tuple(dict.fromkeys(self._feeds.values()))

    def feeds(self, now_ns: int) -> FeedsView:
        return FeedsView(now_ns, tuple(view for feed in self.running() for view in feed.views(now_ns)))

    def book(self, instrument: InstrumentId, now_ns: int) -> BookView | None:
        """The newest book of a market that is listened to; None before its first."""
        feed = self._feeds.get(instrument)
        found = self._ring.latest(instrument)
        if feed is None or found is None:
            return None
        return book_view(
            self._instruments[instrument],
            found.book,
            self._label,
            published_ns=now_ns,
            is_synced=found.is_synced,
            note=feed.note_of(instrument),
        )

    def close(self) -> None:
        """Stop all feeds."""
        feeds = self.running()
        for feed in feeds:
            feed.stop()
        for feed in feeds:
            feed.join(STOP_S)


def to_inbox(
    put_latest: Callable[[InstrumentId, Event], None], put_instead: Callable[[InstrumentId, Event], None]
) -> Callable[[Event], None]:
    """A listener that hands books to a lane: the newest per market, and a loss in its place in time."""

    def heard(event: Event) -> None:
        if isinstance(event, BookChanged):
            put_latest(event.book.instrument, event)
        elif isinstance(event, BookLost):
            put_instead(event.instrument, event)
        elif not isinstance(event, Traded):
            put_instead(InstrumentId(""), event)

    return heard
