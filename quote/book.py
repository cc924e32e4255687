"""The order book of one market, rebuilt from a snapshot and numbered diffs, with the best bid/ask stream laid
over it.

Hides: how levels are kept (a dict of levels and a sorted key list per side, int ticks and lots only), how
diffs wait for their snapshot, how a gap is found, and how a newer best bid/ask hides what the diffs have not
removed yet. Must not know: sockets, clocks, JSON, Decimal, who listens. Called by `quote.fold` (which parses)
and, for reading, by the simulated venue (`api.exchange.DepthView`) in the same thread.

Continuity is Binance's rule ("How to manage a local order book correctly", web-socket-streams.md of
binance-spot-api-docs): diffs wait until a snapshot comes; a snapshot older than the stream's first diff is
not used; diffs that end at or before it are dropped; each next diff must begin at most one after the last id,
else there is a gap and the book is dropped until the next snapshot.

The diff book stays pure. A best bid/ask message with a newer update id is an overlay that exists only in what
is read: levels better than the touch are hidden, the touch's size stands at its price; the first diff that
reaches its id removes it. Each such message is also evidence: once a diff ends at exactly its update id
(before or after it came), both must agree.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar, cast

from api.types import Book, Instrument, Level

T = TypeVar("T")

DEPTH = 20  # levels a side in a published book, unless the reader asks for another number
SPARE = 12  # levels kept ready beyond that: an overlay may hide some
MAX_WAITING = 20_000  # diffs kept while there is no snapshot: half an hour at ten a second
MAX_TICKERS = 4_096  # touches waiting for the diff of the same id
NO_EDGE = -(1 << 62)  # below every key
EVERY_EDGE = 1 << 62  # above every key


def assembler(kind: Callable[..., T]) -> Callable[..., T]:
    """A constructor of the frozen, slotted dataclass `kind` at a third of the cost of its own.

    A frozen dataclass sets each field through `object.__setattr__` (0.7 us for a Book). The draft made here
    has the same slots, sets them plainly, and then becomes a `kind`: equal, hashable and frozen like any
    other. Keyword arguments and defaults are not offered; `kind` must have neither `__post_init__` nor fields
    outside its constructor.
    """
    names = [field.name for field in fields(cast(Any, kind))]

    def seal(draft: Any) -> None:
        draft.__class__ = kind

    made = make_dataclass(
        f"_{kind.__name__}Draft",
        [(name, object) for name in names],
        slots=True,
        eq=False,
        repr=False,
        namespace={"__post_init__": seal},
    )
    return cast("Callable[..., T]", made)


_make_book = assembler(Book)


class _Ladder:
    """One side. Keys grow towards the market (bids: ticks, asks: minus ticks), so the busy end of the list is
    its end.
    """

    __slots__ = ("_edge", "_top", "keys", "rows", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.rows: dict[int, Level] = {}
        self.keys: list[int] = []
        self._top: tuple[Level, ...] | None = None
        self._edge = EVERY_EDGE

    def load(self, levels: Iterable[Level]) -> None:
        self.rows = {level[0] * self.sign: level for level in levels if level[1]}
        self.keys = sorted(self.rows)
        self._top = None
        self._edge = EVERY_EDGE

    def apply(self, levels: Iterable[Level]) -> bool:
        """Set each level to its absolute size, 0 removes. True when the ready top is no longer right."""
        rows, keys, sign, edge = self.rows, self.keys, self.sign, self._edge
        is_near = False
        for level in levels:
            ticks, lots = level
            key = ticks * sign
            if lots:
                if key not in rows:
                    insort(keys, key)
                rows[key] = level
            elif rows.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
            else:
                continue
            if key >= edge:
                is_near = True
        if is_near:
            self._top = None
            self._edge = EVERY_EDGE
        return is_near or edge == EVERY_EDGE

    def top(self, depth: int) -> tuple[Level, ...]:
        """The best `depth` levels and a few more, best first."""
        top = self._top
        if top is None or (len(top) < depth and len(top) < len(self.keys)):
            wanted = depth + SPARE
            keys = self.keys[: -wanted - 1 : -1]
            top = self._top = tuple(map(self.rows.__getitem__, keys))
            self._edge = keys[-1] if len(keys) == wanted else NO_EDGE
        return top

    @property
    def best(self) -> Level | None:
        return self.rows[self.keys[-1]] if self.keys else None

    def shown(self, touch: Level | None, depth: int) -> tuple[Level, ...]:
        """The best `depth` levels as a reader sees them under `touch` (None: no overlay)."""
        top = self.top(depth)
        if touch is None:
            return top[:depth]
        if not touch[1]:
            return ()  # the venue says this side is empty
        if top and top[0][0] == touch[0]:
            return (touch, *top[1:depth])
        key = touch[0] * self.sign
        hidden = 0
        for level in top:
            if level[0] * self.sign <= key:
                break
            hidden += 1
        if hidden < len(top) and top[hidden][0] == touch[0]:
            hidden += 1
        if len(top) - hidden < depth - 1 and len(top) < len(self.keys):
            self._edge = NO_EDGE  # what is shown now lies beyond the ready top: any change matters
            rows, keys = self.rows, self.keys
            end = bisect_left(keys, key)
            return (touch, *[rows[k] for k in keys[max(0, end - depth + 1) : end][::-1]])
        return (touch, *top[hidden : hidden + depth - 1])

    def beyond(self, touch: Level | None, limit_ticks: int | None) -> tuple[Level, ...]:
        """Every level from the best outwards under `touch`, none worse than `limit_ticks`."""
        sign, rows, keys = self.sign, self.rows, self.keys
        first = 0 if limit_ticks is None else bisect_left(keys, limit_ticks * sign)
        if touch is None:
            return tuple(rows[key] for key in reversed(keys[first:]))
        if not touch[1]:
            return ()
        key = touch[0] * sign
        found = tuple(rows[k] for k in reversed(keys[first : bisect_left(keys, key)]))
        return found if limit_ticks is not None and key < limit_ticks * sign else (touch, *found)

    def lots_at(self, touch: Level | None, ticks: int) -> int:
        if touch is not None:
            if ticks == touch[0] or not touch[1]:
                return touch[1]
            if ticks * self.sign > touch[0] * self.sign:
                return 0
        level = self.rows.get(ticks * self.sign)
        return level[1] if level is not None else 0


class BookBuilder:
    """The book of one market. One thread writes and reads it; other threads take the immutable `book()`.

    `lost_reason` says why the book is not known just now ("" while it is). `resyncs` counts snapshots that
    had to mend a lost book (the first one does not count, nor one after `reset`). Ticker counters: see the
    module docstring; a mismatch is counted, and the book kept: the touch itself is shown over it anyway.
    """

    __slots__ = (
        "_asks",
        "_asks_seen",
        "_bids",
        "_bids_seen",
        "_depth_seen",
        "_instrument",
        "_instrument_id",
        "_tickers",
        "_touch_ask",
        "_touch_bid",
        "_touch_id",
        "_waiting",
        "_was_synced",
        "diffs_applied",
        "is_synced",
        "last_id",
        "lost_reason",
        "recv_ns",
        "resyncs",
        "ticker_checked",
        "ticker_mismatches",
        "venue_ns",
    )

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._instrument_id = instrument.id
        self.diffs_applied = 0
        self.resyncs = 0
        self.ticker_checked = 0
        self.ticker_mismatches = 0
        self.is_synced = False
        self.lost_reason = ""
        self.last_id = 0
        self.venue_ns = 0
        self.recv_ns = 0
        self._was_synced = False
        self._bids = _Ladder(1)
        self._asks = _Ladder(-1)
        self._waiting: list[tuple[int, int, Sequence[Level], Sequence[Level], int, int]] = []
        self._tickers: dict[int, tuple[Level, Level]] = {}
        self._touch_id = 0
        self._touch_bid: Level | None = None
        self._touch_ask: Level | None = None
        self._bids_seen: tuple[Level, ...] | None = None
        self._asks_seen: tuple[Level, ...] | None = None
        self._depth_seen = DEPTH
        self.reset()

    def reset(self, reason: str = "no snapshot yet") -> None:
        """Forget the market, as if never heard of (a tape that starts again). Counters stay."""
        self._was_synced = False
        self.venue_ns = 0
        self.recv_ns = 0
        self._empty(reason)

    # ------------------------------------------------------------------ writing

    def snapshot(self, last_id: int, bids: Sequence[Level], asks: Sequence[Level], recv_ns: int) -> bool:
        """Start the book from a snapshot of `last_id`, then apply the diffs that waited for it.

        Returns:
            True when the book stands on it. False: it is older than the diffs we hold, or than the book; ask
            again if `needs_snapshot`.
        """
        if self.is_synced and last_id <= self.last_id:
            return False
        waiting = self._waiting
        if waiting and last_id + 1 < waiting[0][0]:
            return False
        tickers = self._tickers
        self._empty("")
        self._tickers = tickers
        self._bids.load(bids)
        self._asks.load(asks)
        self.last_id = last_id
        self.recv_ns = recv_ns
        self.is_synced = True
        if self._was_synced:
            self.resyncs += 1
        self._was_synced = True
        if self._is_crossed():
            self.drop("crossed snapshot")
            return False
        for held in waiting:
            self.diff(*held)
        self._settle_tickers()
        return self.is_synced

    def diff(
        self,
        first_id: int,
        last_id: int,
        bids: Sequence[Level],
        asks: Sequence[Level],
        venue_ns: int,
        recv_ns: int,
    ) -> bool:
        """One diff of absolute sizes covering the update ids `first_id..last_id`, both included.

        Returns:
            True when the book moved on. False: known already, waiting for a snapshot, or a gap (then
            `is_synced` is False and the diff waits as the first one after it).
        """
        if not self.is_synced:
            self._wait(first_id, last_id, bids, asks, venue_ns, recv_ns)
            return False
        known = self.last_id
        if last_id <= known:
            return False
        if first_id > known + 1:
            self.drop(f"gap: {first_id - known - 1} updates missing after {known}")
            self._wait(first_id, last_id, bids, asks, venue_ns, recv_ns)
            return False
        if self._bids.apply(bids):
            self._bids_seen = None
        if self._asks.apply(asks):
            self._asks_seen = None
        self.last_id = last_id
        self.venue_ns = venue_ns
        self.recv_ns = recv_ns
        if self._touch_id and self._touch_id <= last_id:
            self._lift()
        if self._is_crossed():
            self.drop("crossed book")
            return False
        self.diffs_applied += 1
        if self._tickers:
            self._settle_tickers()
        return True

    def touch(
        self, update_id: int, bid_ticks: int, bid_lots: int, ask_ticks: int, ask_lots: int, recv_ns: int
    ) -> bool:
        """The best bid and ask as of `update_id`; 0 lots means that the side is empty.

        Returns:
            True when what is read changed. False: not newer than the book, or no book yet, or crossed (which
            drops it).
        """
        if not self.is_synced:
            return False
        if update_id <= self.last_id:
            if update_id == self.last_id:
                self._check((bid_ticks, bid_lots), (ask_ticks, ask_lots))
            return False
        if bid_ticks >= ask_ticks and bid_lots and ask_lots:
            self.drop("crossed best bid and ask")
            return False
        bid = (bid_ticks, bid_lots)
        ask = (ask_ticks, ask_lots)
        tickers = self._tickers
        if len(tickers) >= MAX_TICKERS:
            tickers.clear()
        tickers[update_id] = (bid, ask)
        if update_id <= self._touch_id:
            return False
        self._touch_id = update_id
        self.recv_ns = recv_ns
        if bid != self._touch_bid:
            self._touch_bid = bid
            self._bids_seen = None
        if ask != self._touch_ask:
            self._touch_ask = ask
            self._asks_seen = None
        return True

    def drop(self, reason: str) -> None:
        """The book is no longer known, nor what waited for a snapshot; later diffs wait for the next one."""
        self._empty(reason)

    # ------------------------------------------------------------------ reading

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def needs_snapshot(self) -> bool:
        return not self.is_synced

    @property
    def seq(self) -> int:
        """The update id of the newest part of what is read."""
        return self._touch_id or self.last_id

    @property
    def best_bid(self) -> Level | None:
        return _open(self._touch_bid) if self._touch_bid is not None else self._bids.best

    @property
    def best_ask(self) -> Level | None:
        return _open(self._touch_ask) if self._touch_ask is not None else self._asks.best

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        if is_bid:
            return self._bids.lots_at(self._touch_bid, ticks)
        return self._asks.lots_at(self._touch_ask, ticks)

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[Level, ...]:
        if is_bid:
            return self._bids.beyond(self._touch_bid, limit_ticks)
        return self._asks.beyond(self._touch_ask, limit_ticks)

    def book(self, depth: int = DEPTH) -> Book:
        """The best `depth` levels a side under the overlay. `venue_ns` is the time of the newest diff (the
        best bid/ask stream carries none), 0 while the venue has told no time; `recv_ns` is when the newest
        part came.
        """
        if depth != self._depth_seen:
            self._depth_seen = depth
            self._bids_seen = self._asks_seen = None
        bids = self._bids_seen
        if bids is None:
            bids = self._bids_seen = self._bids.shown(self._touch_bid, depth)
        asks = self._asks_seen
        if asks is None:
            asks = self._asks_seen = self._asks.shown(self._touch_ask, depth)
        return _make_book(
            self._instrument_id, bids, asks, self.venue_ns, self.recv_ns, self._touch_id or self.last_id
        )

    # ------------------------------------------------------------------ inside

    def _empty(self, reason: str) -> None:
        self.is_synced = False
        self.lost_reason = reason
        self.last_id = 0
        self._bids = _Ladder(1)
        self._asks = _Ladder(-1)
        self._waiting = []
        self._tickers = {}
        self._lift()

    def _lift(self) -> None:
        """Take the overlay away."""
        self._touch_id = 0
        self._touch_bid = self._touch_ask = None
        self._bids_seen = self._asks_seen = None

    def _wait(
        self,
        first_id: int,
        last_id: int,
        bids: Sequence[Level],
        asks: Sequence[Level],
        venue_ns: int,
        recv_ns: int,
    ) -> None:
        waiting = self._waiting
        if waiting:
            newest = waiting[-1][1]
            if last_id <= newest:
                return
            if first_id > newest + 1 or len(waiting) >= MAX_WAITING:
                waiting.clear()  # a snapshot before the hole could not be carried over it
        waiting.append((first_id, last_id, bids, asks, venue_ns, recv_ns))
        self.venue_ns = venue_ns

    def _is_crossed(self) -> bool:
        bids, asks = self._bids.keys, self._asks.keys
        return bool(bids and asks) and bids[-1] >= -asks[-1]

    def _check(self, bid: Level, ask: Level) -> None:
        """Compare a best bid/ask of the book's own update id with the diff book alone."""
        self.ticker_checked += 1
        if (self._bids.best, self._asks.best) != (_open(bid), _open(ask)):
            self.ticker_mismatches += 1

    def _settle_tickers(self) -> None:
        same = self._tickers.get(self.last_id)
        if same is not None:
            self._check(*same)
        self._tickers = {key: value for key, value in self._tickers.items() if key > self.last_id}


def _open(level: Level) -> Level | None:
    return level if level[1] else None
