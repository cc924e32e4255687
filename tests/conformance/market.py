"""A market that a test moves by hand: `HandBook` is a `DepthView` of plain dicts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from api.types import Book, BookChanged, Instrument, InstrumentId, Side, Trade, Traded

BTC = InstrumentId.of("paper", "BTC-USDT")
MS = 1_000_000
S = 1_000_000_000


def terms(
    maker: str = "0.0002", taker: str = "0.0005", min_notional: str = "5", symbol: str = "BTC-USDT"
) -> Instrument:
    """Tick 0.01 and lot 0.001, so that 10 000 ticks are 100 and a lot there is worth 0.1."""
    base, _, quote = symbol.partition("-")
    return Instrument(
        InstrumentId.of("paper", symbol),
        base,
        quote,
        Decimal("0.01"),
        Decimal("0.001"),
        Decimal("0.002"),
        Decimal(min_notional),
        Decimal(maker),
        Decimal(taker),
        base + quote,
        max_qty=Decimal(1000),
    )


class HandBook:
    """The whole book of one market; `set` replaces it."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self.is_synced = False
        self.last_id = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def set(self, bids: Mapping[int, int], asks: Mapping[int, int]) -> None:
        self.bids = {ticks: lots for ticks, lots in bids.items() if lots}
        self.asks = {ticks: lots for ticks, lots in asks.items() if lots}
        self.is_synced = True
        self.last_id += 1

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def best_bid(self) -> tuple[int, int] | None:
        return max(self.bids.items()) if self.bids else None

    @property
    def best_ask(self) -> tuple[int, int] | None:
        return min(self.asks.items()) if self.asks else None

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        return (self.bids if is_bid else self.asks).get(ticks, 0)

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[tuple[int, int], ...]:
        side = self.bids if is_bid else self.asks
        return tuple(
            level
            for level in sorted(side.items(), reverse=is_bid)
            if limit_ticks is None or (level[0] >= limit_ticks if is_bid else level[0] <= limit_ticks)
        )

    def changed(self, at_ns: int, depth: int = 5) -> BookChanged:
        """The event a feed would send for the book as it is."""
        top = (self.walk(True, None)[:depth], self.walk(False, None)[:depth])
        return BookChanged(at_ns, Book(self._instrument.id, *top, at_ns, at_ns, self.last_id))


def printed(
    side: Side, ticks: int, lots: int, at_ns: int, instrument: InstrumentId = BTC, trade_id: str = "1"
) -> Traded:
    """A public trade; `side` is the aggressor's."""
    return Traded(at_ns, Trade(instrument, trade_id, side, ticks, lots, at_ns, at_ns))
