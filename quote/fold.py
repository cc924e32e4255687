"""From raw frames to events: the one parser for live frames, recorded ones and synthetic ones.

Hides: which message is of which market and kind, how text becomes ticks and lots without Decimal, what is
counted when a message is not what it should be. Must not know: sockets, clocks, files, who listens. Called by
`quote.feed` in the feed's thread, by a direct run on a tape, and by the benchmarks.

The frames are Binance's combined-stream JSON (`api.venues.binance_spot`); the REST snapshot carries neither
stream nor symbol, so the caller names its market. A frame that cannot be read as it should - truncated, HTML,
numbers that are not text, an unknown market, a price between ticks - is counted and changes nothing: if it
was a diff, the next one shows the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from api.types import BookChanged, BookLost, Event, Instrument, InstrumentId, Level, Side, Trade, Traded
from api.venues import binance_spot as wire
from quote.book import BookBuilder, assembler

DEPTH = 25  # levels a side in each BookChanged: what the page shows
NONE: tuple[Event, ...] = ()
STREAM_AT = len('{"stream":"')  # where the stream's name begins in a combined frame
MAX_TEXTS = 1 << 16  # texts remembered per market and kind of number; then the memory starts again
TRADES_BACK = 100_000  # an id this far below the newest is a duplicate; below that, a venue that started over
MAX_SPAN = 100_000_000  # updates in one diff; a broken id must not make all later ones look old
MS = 1_000_000

_make_changed = assembler(BookChanged)
_make_trade = assembler(Trade)
_make_traded = assembler(Traded)
_UNREADABLE = (msgspec.MsgspecError, ValueError)


class OffGrid(ValueError):
    """A number that is not plain decimal text on the instrument's grid."""


class Grid(dict[str, int]):
    """Decimal text -> whole steps of `step`, without Decimal; remembers what it has seen.

    `grid[text]` raises OffGrid for anything but plain digits with at most one point. As a grid of prices
    (`is_price`) also for zero and for a value between two steps: such a price is of another instrument than
    ours. A size between two steps does occur (remainders at old round prices from when the lot was smaller):
    it is rounded down, but never to nothing.
    """

    __slots__ = ("_denominator", "_numerator", "_per_step", "is_price")

    PLACES = 8  # decimals of every amount on Binance

    def __init__(self, step: Decimal, *, is_price: bool) -> None:
        super().__init__()
        self._numerator, self._denominator = step.as_integer_ratio()
        whole, rest = divmod(10**self.PLACES * self._numerator, self._denominator)
        self._per_step = whole if not rest else 0  # a step in units of the eighth decimal
        self.is_price = is_price

    def __missing__(self, text: str) -> int:
        digits = text.replace(".", "", 1)
        if not digits.isdigit() or not digits.isascii() or len(digits) > 40:
            raise OffGrid(f"{text[:40]!r} is not plain decimal text")
        per_step = self._per_step
        if text[-9:-8] == "." and per_step:  # the usual case
            amount = int(digits)
        else:
            part = text.partition(".")[2]
            amount = int(digits) * self._denominator
            per_step = self._numerator * 10 ** len(part)
        steps = amount // per_step
        if steps * per_step != amount or not steps:
            steps = self._odd(text, steps, amount)
        self[text] = steps
        return steps

    def _odd(self, text: str, steps: int, amount: int) -> int:
        """Nothing, or between two steps."""
        if self.is_price:
            raise OffGrid(f"{text[:40]} is zero or lies between two ticks")
        return steps or (1 if amount else 0)

    def trim(self) -> None:
        """Start the memory again when it has grown too large."""
        if len(self) > MAX_TEXTS:
            self.clear()


@dataclass(frozen=True, slots=True)
class MarketStats:
    """What one market has told us. `quote_ticks_lots` is the exact sum of ticks * lots over all trades, so
    that `quote_ticks_lots * tick / base_lots` is their VWAP. `frames` are those that named this market,
    `unknown_frames` those of them that could not be read. `clock_offset_ms`: receive time minus exchange time
    at its smallest, None before any.
    """

    diffs_applied: int
    resyncs: int
    trades: int
    base_lots: int
    taker_buy_lots: int
    quote_ticks_lots: int
    best_bid: Level | None
    best_ask: Level | None
    ticker_checked: int
    ticker_mismatches: int
    frames: int
    unknown_frames: int
    clock_offset_ms: float | None


class _Market:
    """One market: its builder, its number grids, its counters, and a method per kind of frame."""

    __slots__ = (
        "base_lots",
        "builder",
        "depth",
        "frames",
        "id",
        "last_market_ns",
        "last_trade_id",
        "lots",
        "offset_ns",
        "quote_ticks_lots",
        "symbol",
        "taker_buy_lots",
        "ticks",
        "trades",
        "unknown",
        "with_books",
    )

    def __init__(self, instrument: Instrument, depth: int, with_books: bool) -> None:
        self.id = instrument.id
        self.symbol = instrument.venue_symbol
        self.builder = BookBuilder(instrument)
        self.ticks = Grid(instrument.tick, is_price=True)
        self.lots = Grid(instrument.lot, is_price=False)
        self.depth = depth
        self.with_books = with_books
        self.frames = 0
        self.unknown = 0
        self.trades = 0
        self.base_lots = 0
        self.taker_buy_lots = 0
        self.quote_ticks_lots = 0
        self.last_trade_id = 0
        self.last_market_ns = 0
        self.offset_ns: int | None = None

    def levels(self, told: list[tuple[str, str]]) -> list[Level]:
        ticks, lots = self.ticks, self.lots
        return [(ticks[price], lots[size]) for price, size in told]

    def unreadable(self) -> tuple[Event, ...]:
        self.unknown += 1
        return NONE

    def on_ticker(self, raw: bytes, recv_ns: int, at_ns: int) -> tuple[Event, ...]:
        self.frames += 1
        builder = self.builder
        try:
            told = wire.decode_ticker(raw).data
            if told.s != self.symbol:
                return self.unreadable()
            ticks, lots = self.ticks, self.lots
            bid_lots, ask_lots = lots[told.B], lots[told.A]
            bid_ticks = ticks[told.b] if bid_lots else 0
            ask_ticks = ticks[told.a] if ask_lots else 0
        except _UNREADABLE:
            return self.unreadable()
        self.last_market_ns = recv_ns
        if not builder.is_synced:
            return NONE
        if builder.touch(told.u, bid_ticks, bid_lots, ask_ticks, ask_lots, recv_ns):
            return (_make_changed(at_ns, builder.book(self.depth)),) if self.with_books else NONE
        return NONE if builder.is_synced else (BookLost(at_ns, self.id, builder.lost_reason),)

    def on_trade(self, raw: bytes, recv_ns: int, at_ns: int) -> tuple[Event, ...]:
        self.frames += 1
        try:
            told = wire.decode_trade(raw).data
            if told.s != self.symbol:
                return self.unreadable()
            ticks, lots = self.ticks[told.p], self.lots[told.q]
        except _UNREADABLE:
            return self.unreadable()
        self.last_market_ns = recv_ns
        number = told.t
        if number <= self.last_trade_id and number > self.last_trade_id - TRADES_BACK:
            return NONE  # told twice: two connections overlap for a while
        self.last_trade_id = number
        offset_ns = recv_ns - told.E * MS
        if self.offset_ns is None or offset_ns < self.offset_ns:
            self.offset_ns = offset_ns
        self.trades += 1
        self.base_lots += lots
        self.quote_ticks_lots += ticks * lots
        if told.m:
            side = Side.SELL
        else:
            side = Side.BUY
            self.taker_buy_lots += lots
        trade = _make_trade(self.id, str(number), side, ticks, lots, told.T * MS, recv_ns)
        return (_make_traded(at_ns, trade),)

    def on_diff(self, raw: bytes, recv_ns: int, at_ns: int) -> tuple[Event, ...]:
        self.frames += 1
        builder = self.builder
        try:
            told = wire.decode_diff(raw).data
            if told.s != self.symbol or told.pu is not None or not 0 <= told.u - told.U < MAX_SPAN:
                return self.unreadable()
            bids, asks = self.levels(told.b), self.levels(told.a)
        except _UNREADABLE:
            return self.unreadable()
        self.last_market_ns = recv_ns
        self.ticks.trim()
        self.lots.trim()
        venue_ns = told.E * MS
        offset_ns = recv_ns - venue_ns
        if self.offset_ns is None or offset_ns < self.offset_ns:
            self.offset_ns = offset_ns
        was_synced = builder.is_synced
        if builder.diff(told.U, told.u, bids, asks, venue_ns, recv_ns):
            return (_make_changed(at_ns, builder.book(self.depth)),) if self.with_books else NONE
        if was_synced and not builder.is_synced:
            return (BookLost(at_ns, self.id, builder.lost_reason),)
        return NONE

    def on_snapshot(self, raw: bytes, recv_ns: int, at_ns: int) -> tuple[Event, ...]:
        self.frames += 1
        builder = self.builder
        try:
            told = wire.decode_snapshot(raw)
            bids, asks = self.levels(told.bids), self.levels(told.asks)
        except _UNREADABLE:
            return self.unreadable()
        self.last_market_ns = recv_ns
        was_synced = builder.is_synced
        if builder.snapshot(told.lastUpdateId, bids, asks, recv_ns):
            return (_make_changed(at_ns, builder.book(self.depth)),) if self.with_books else NONE
        if was_synced and not builder.is_synced:
            return (BookLost(at_ns, self.id, builder.lost_reason),)
        return NONE


class MarketFold:
    """Folds the frames of several markets of one venue into events. Pure: same frames, same events.

    Args:
        instruments: the markets; `venue_symbol` is what the frames call them.
        depth: levels a side in each `BookChanged`.
        with_books: False builds no `BookChanged` (for measuring what the rest costs).

    `unknown_frames` counts those that belong to no market of ours. One thread folds; `stats` may be read from
    any.

    Raises:
        ValueError: two instruments with one venue symbol.
    """

    def __init__(
        self, instruments: Iterable[Instrument], *, depth: int = DEPTH, with_books: bool = True
    ) -> None:
        self.unknown_frames = 0
        self.control_frames = 0
        self._markets: dict[InstrumentId, _Market] = {}
        self._by_symbol: dict[str, _Market] = {}
        self._routes: dict[bytes, Callable[[bytes, int, int], tuple[Event, ...]]] = {}
        for instrument in instruments:
            market = _Market(instrument, depth, with_books)
            if market.symbol in self._by_symbol:
                raise ValueError(f"two instruments are called {market.symbol} by the venue")
            self._markets[instrument.id] = market
            self._by_symbol[market.symbol] = market
            stream = market.symbol.lower().encode()
            self._routes[stream + b"@bookTicker"] = market.on_ticker
            self._routes[stream + b"@trade"] = market.on_trade
            self._routes[stream + b"@depth"] = market.on_diff
            self._routes[stream + b"@depth@100ms"] = market.on_diff
        self.builders: dict[InstrumentId, BookBuilder] = {
            key: market.builder for key, market in self._markets.items()
        }

    def fold(self, raw: bytes, recv_ns: int, at_ns: int, symbol: str | None = None) -> tuple[Event, ...]:
        """One frame to the events it means, in order.

        Args:
            raw: the message as received.
            recv_ns: when it was received, UTC nanoseconds; goes into books and trades.
            at_ns: what the deciding code shall see as now; goes into the events.
            symbol: the venue symbol, for a frame that may not carry one (a snapshot).
        """
        route = self._routes.get(raw[STREAM_AT : raw.find(b'"', STREAM_AT)])
        if route is not None:
            return route(raw, recv_ns, at_ns)
        return self._odd(raw, recv_ns, at_ns, symbol)

    def fold_snapshot(
        self, instrument_id: InstrumentId, raw: bytes, recv_ns: int, at_ns: int
    ) -> tuple[Event, ...]:
        """A REST snapshot of the named market (KeyError for one that is not ours)."""
        return self._markets[instrument_id].on_snapshot(raw, recv_ns, at_ns)

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        return tuple(key for key, market in self._markets.items() if market.builder.needs_snapshot)

    def drop(self, reason: str, at_ns: int, instrument_id: InstrumentId | None = None) -> tuple[Event, ...]:
        """The connection was lost: every book (or one) is unknown until its next snapshot. Events for those
        that were known.
        """
        return self._end(reason, at_ns, instrument_id, is_new_market=False)

    def restart(self, reason: str, at_ns: int) -> tuple[Event, ...]:
        """The same recording begins again: forget all books and trade ids, so that nothing looks like a
        duplicate.
        """
        return self._end(reason, at_ns, None, is_new_market=True)

    def stats(self, instrument_id: InstrumentId) -> MarketStats:
        """Counters of one market so far (KeyError for one that is not ours)."""
        market = self._markets[instrument_id]
        builder = market.builder
        return MarketStats(
            diffs_applied=builder.diffs_applied,
            resyncs=builder.resyncs,
            trades=market.trades,
            base_lots=market.base_lots,
            taker_buy_lots=market.taker_buy_lots,
            quote_ticks_lots=market.quote_ticks_lots,
            best_bid=builder.best_bid,
            best_ask=builder.best_ask,
            ticker_checked=builder.ticker_checked,
            ticker_mismatches=builder.ticker_mismatches,
            frames=market.frames,
            unknown_frames=market.unknown,
            clock_offset_ms=None if market.offset_ns is None else market.offset_ns / MS,
        )

    def last_market_ns(self, instrument_id: InstrumentId) -> int | None:
        """Receive time of the newest frame that told something of this market; None before any."""
        return self._markets[instrument_id].last_market_ns or None

    def instrument_of(self, symbol: str) -> InstrumentId | None:
        market = self._by_symbol.get(symbol)
        return None if market is None else market.id

    def _end(
        self, reason: str, at_ns: int, instrument_id: InstrumentId | None, *, is_new_market: bool
    ) -> tuple[Event, ...]:
        events: list[Event] = []
        for key, market in self._markets.items():
            if instrument_id is not None and key != instrument_id:
                continue
            if market.builder.is_synced:
                events.append(BookLost(at_ns, key, reason))
            if is_new_market:
                market.builder.reset(reason)
                market.last_trade_id = 0
            else:
                market.builder.drop(reason)
        return tuple(events)

    def _odd(self, raw: bytes, recv_ns: int, at_ns: int, symbol: str | None) -> tuple[Event, ...]:
        """Everything whose first bytes do not name a stream of ours: snapshots, answers, other spellings,
        rubbish.
        """
        named = self._by_symbol.get(symbol) if symbol is not None else None
        try:
            envelope = wire.decode_envelope(raw)
        except _UNREADABLE:
            return self._lose(named)
        if envelope.stream is not None:
            route = self._routes.get(envelope.stream.encode())
            return route(raw, recv_ns, at_ns) if route is not None else self._lose(None)
        if envelope.lastUpdateId is not None and named is not None:
            return named.on_snapshot(raw, recv_ns, at_ns)
        if envelope.id is not None or envelope.e == "serverShutdown":
            self.control_frames += 1  # the answer to a request of ours, or a notice for the connection
            return NONE
        return self._lose(named)

    def _lose(self, market: _Market | None) -> tuple[Event, ...]:
        if market is None:
            self.unknown_frames += 1
            return NONE
        market.frames += 1
        return market.unreadable()
