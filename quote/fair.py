"""Opinions about what a thing is worth, from books. Pure; floats, because they are opinions and not money.

Must not know: where the books come from, the clock (`now_ns` is handed in). Called by strategies and the
hedger. Prices are in quote currency per base unit, sizes in base units. Every function returns None when the
books cannot support an opinion: an empty side, a stale source, not enough depth. None is never a price.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.types import Book, Instrument, Side


def mid(instrument: Instrument, book: Book) -> float | None:
    """Half way between best bid and best ask."""
    if not book.is_two_sided:
        return None
    return book.mid_ticks * instrument.tick_float


def microprice(instrument: Instrument, book: Book) -> float | None:
    """The mid weighted by the size on the other side: (ask * bid size + bid * ask size) / (bid size + ask
    size).

    It leans towards the thin side, where the next trade moves the price. (Gatheral and Oomen,
    "Zero-intelligence realized variance estimation", 2010; Stoikov's micro-price, 2018, is an adjustment of
    it.)
    """
    if not book.is_two_sided:
        return None
    (bid, bid_lots), (ask, ask_lots) = book.bids[0], book.asks[0]
    return (ask * bid_lots + bid * ask_lots) / (bid_lots + ask_lots) * instrument.tick_float


def depth_vwap(instrument: Instrument, book: Book, side: Side, qty: float) -> float | None:
    """The average price that an order of `qty` base units on `side` would pay or get from this book now.

    None when the published levels hold less, or `qty` is not positive.
    """
    wanted = qty / instrument.lot_float
    if not wanted > 0:
        return None
    left, cost = wanted, 0.0
    for ticks, lots in book.asks if side is Side.BUY else book.bids:
        taken = min(left, lots)
        cost += taken * ticks
        left -= taken
        if left <= 0:
            return cost / wanted * instrument.tick_float
    return None


def depth_mid(instrument: Instrument, book: Book, qty: float) -> float | None:
    """Half way between what `qty` costs and what it brings: a mid that a small order in front cannot move
    far.
    """
    buy = depth_vwap(instrument, book, Side.BUY, qty)
    sell = depth_vwap(instrument, book, Side.SELL, qty)
    return None if buy is None or sell is None else (buy + sell) / 2


@dataclass(frozen=True, slots=True)
class Source:
    """One opinion: a price, the time it was received (UTC ns), and how much it counts. `price` None: it has
    none.
    """

    name: str
    price: float | None
    recv_ns: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A weighted price, the sources that made it, and those left out, each with the reason."""

    price: float
    used: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    age_s: float
    """Age of the oldest source used, seconds."""


def reference(
    sources: Iterable[Source],
    now_ns: int,
    *,
    max_age_s: float,
    max_apart: float | None = None,
    least: int = 1,
) -> Reference | None:
    """The weighted mean of what several venues say, leaving out the stale and the far-off.

    Args:
        max_age_s: sources older than this are left out. One from the future (a clock that went astray) by
        more than
            this as well.
        max_apart: as a fraction; sources further than this from the median of the fresh ones are left out.
        None: never. least: how many must remain; with fewer the answer is None.
    """
    left_out: list[tuple[str, str]] = []
    fresh: list[tuple[Source, float, float]] = []
    for source in sources:
        age_s = (now_ns - source.recv_ns) / 1e9
        price = source.price
        if price is None or not 0 < price < float("inf"):
            left_out.append((source.name, "no price"))
        elif not source.weight > 0:
            left_out.append((source.name, "no weight"))
        elif abs(age_s) > max_age_s:
            left_out.append((source.name, f"{age_s:.1f} s old, allowed are {max_age_s:g} s"))
        else:
            fresh.append((source, price, age_s))
    if max_apart is not None and fresh:
        middle = _median([price for _, price, _ in fresh])
        near = []
        for source, price, age_s in fresh:
            apart = abs(price / middle - 1)
            if apart > max_apart:
                left_out.append((source.name, f"{apart:.4%} from the others, allowed are {max_apart:.4%}"))
            else:
                near.append((source, price, age_s))
        fresh = near
    if len(fresh) < max(1, least):
        return None
    weight = sum(source.weight for source, _, _ in fresh)
    return Reference(
        price=sum(source.weight * price for source, price, _ in fresh) / weight,
        used=tuple(source.name for source, _, _ in fresh),
        left_out=tuple(left_out),
        age_s=max(age_s for _, _, age_s in fresh),
    )


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
