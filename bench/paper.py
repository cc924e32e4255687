"""The paper venue's events per second, with six orders of ours resting, beside the bare loop over the same
events.

Two measurements, both in CPU time of this process, median of the rounds, rounds interleaved:

- core: a seeded market (85 % changes of one level, 15 % trades) applied to a plain book; bare, and with the
  venue told of
  each event. No parsing, no feed.
- tape: recorded frames through the real fold; bare, and with `SteppedPaper` behind it. Only where recordings
  are at hand
  (`../shared` or MAKERDECK_SHARED).

The goal is 150 000 events/s for the core. Run it as `python -m bench.paper`; `bench` calls `run`.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from api.types import _GRANT, Approved, BookChanged, Instrument, InstrumentId, Place, Side, Trade
from api.venues.paper.core import PaperVenue
from api.venues.paper.instruments import BUILTIN
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import SteppedPaper

GOAL_PER_S = 150_000
EVENTS = 200_000
ROUNDS = 5
BTC = BUILTIN[0]
MIDDLE = 6_170_000  # ticks: 61 700 USDT
DEPTH = 1_000
ENDLESS = {"USDT": Decimal(10) ** 12, "BTC": Decimal(10) ** 9}
AT_ONCE = PaperSettings(place_delay_ms=0, cancel_delay_ms=0, hear_delay_ms=0)

Update = tuple[bool, int, int]
"""(is_bid, ticks, lots) of one level."""


class PlainBook:
    """A `DepthView` over two dicts; the touch does not move, so that reading it costs what it must."""

    is_synced = True

    def __init__(self) -> None:
        self.instrument = BTC
        self.bids = {MIDDLE - n: 50_000 for n in range(1, DEPTH)}
        self.asks = {MIDDLE + n: 50_000 for n in range(1, DEPTH)}

    @property
    def best_bid(self) -> tuple[int, int] | None:
        return MIDDLE - 1, self.bids[MIDDLE - 1]

    @property
    def best_ask(self) -> tuple[int, int] | None:
        return MIDDLE + 1, self.asks[MIDDLE + 1]

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        return (self.bids if is_bid else self.asks).get(ticks, 0)

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[tuple[int, int], ...]:
        side = self.bids if is_bid else self.asks
        return tuple(
            level
            for level in sorted(side.items(), reverse=is_bid)
            if limit_ticks is None or (level[0] >= limit_ticks if is_bid else level[0] <= limit_ticks)
        )


def events_of(n: int, seed: int = 7) -> list[Update | Trade]:
    """Half of the changes are within five ticks of the touch, where our orders are."""
    draw = random.Random(seed)
    made: list[Update | Trade] = []
    for at in range(n):
        is_bid = draw.random() < 0.5
        if draw.random() < 0.15:
            side = Side.SELL if is_bid else Side.BUY
            made.append(
                Trade(
                    BTC.id,
                    str(at),
                    side,
                    MIDDLE - 1 if is_bid else MIDDLE + 1,
                    draw.randint(1, 3_000),
                    at,
                    at,
                )
            )
        else:
            away = draw.randint(1, 5) if draw.random() < 0.5 else draw.randint(6, DEPTH - 1)
            made.append((is_bid, MIDDLE - away if is_bid else MIDDLE + away, draw.randint(1_000, 100_000)))
    return made


def bare(events: list[Update | Trade]) -> int:
    """The loop and the book alone."""
    view = PlainBook()
    seen = 0
    for event in events:
        if type(event) is tuple:
            is_bid, ticks, lots = event
            (view.bids if is_bid else view.asks)[ticks] = lots
        else:
            seen += 1
    return seen


def with_venue(events: list[Update | Trade]) -> int:
    """The same with six resting orders; a filled one is placed again."""
    view = PlainBook()
    venue = PaperVenue([BTC], ENDLESS, AT_ONCE)
    account = venue.open_account("main")
    market = venue.markets[BTC.id]
    market.on_book(view, 0)
    placed = 0

    def fill_up(at_ns: int) -> None:
        nonlocal placed
        held = {(order.is_bid, order.ticks) for order in account.open.values()}
        for away in (1, 2, 3):
            for side, ticks in ((Side.BUY, MIDDLE - away), (Side.SELL, MIDDLE + away)):
                if (side is Side.BUY, ticks) not in held:
                    placed += 1
                    venue.submit("main", Place(f"x{placed}", BTC.id, side, ticks, 1_000), at_ns)
        venue.advance(at_ns)

    fill_up(0)
    at_ns = 0
    for event in events:
        at_ns += 10_000_000
        if type(event) is tuple:
            is_bid, ticks, lots = event
            (view.bids if is_bid else view.asks)[ticks] = lots
            venue.on_book(view, at_ns)
        else:
            venue.on_trade(event, at_ns)  # type: ignore[arg-type]
            if len(account.open) < 6:
                fill_up(at_ns)
    return placed


# ---------------------------------------------------------------------------------------------------- tape


def tape_path() -> Path | None:
    """The recorded spot market, if it is on this machine."""
    root = Path(os.environ.get("MAKERDECK_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = root / "market_data" / "binance_ws_2024-08" / "spot_btcusdt_20240808.gz"
    return path if path.exists() else None


def fold_only(frames: list[tuple[int, str, bytes]], instrument: Instrument) -> int:
    from quote.fold import MarketFold

    fold = MarketFold([instrument])
    told = 0
    for recv_ns, symbol, raw in frames:
        told += len(fold.fold(raw, recv_ns, recv_ns, symbol))
    return told


def fold_and_paper(frames: list[tuple[int, str, bytes]], instrument: Instrument) -> int:
    """Three orders a side, 0.01 % apart around the first book, so that some fill; none is placed again."""
    from quote.fold import MarketFold

    fold = MarketFold([instrument])
    builders = fold.builders
    paper = SteppedPaper(builders, [instrument], ENDLESS)
    exchange = paper.exchange()
    fills: list[object] = []
    exchange.connect(fills.append)
    is_placed = False
    for recv_ns, symbol, raw in frames:
        paper.advance(recv_ns)
        for event in fold.fold(raw, recv_ns, recv_ns, symbol):
            paper.on_market(event)
            if not is_placed and type(event) is BookChanged:
                is_placed = True
                _place_around(exchange, event.book.bids[0][0], instrument.id)
    return len(fills)


def _place_around(exchange: Any, touch_ticks: int, instrument: InstrumentId) -> None:
    for n in range(1, 4):
        away = n * touch_ticks // 1_000
        for name, side, ticks in (("b", Side.BUY, touch_ticks - away), ("s", Side.SELL, touch_ticks + away)):
            exchange.send(Approved(Place(f"{name}{n}", instrument, side, ticks, 1_000), "bench", _GRANT))


# ---------------------------------------------------------------------------------------------------- running


def _timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _pair(n: int, plain: Callable[[], object], full: Callable[[], object], rounds: int) -> dict[str, Any]:
    """CPU seconds of both, interleaved; the venue's own share is the difference."""
    without, within = [], []
    for _ in range(rounds):
        without.append(_timed(plain))
        within.append(_timed(full))
    a, b = statistics.median(without), statistics.median(within)
    own = max(b - a, 1e-9)
    return {
        "events": n,
        "bare_per_s": round(n / a),
        "with_venue_per_s": round(n / b),
        "venue_alone_per_s": round(n / own),
        "venue_us_per_event": round(own / n * 1e6, 3),
        "ratio_to_bare": round(b / a, 2),
    }


def run(events: int = EVENTS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure; `{"core": {...}, "tape": {...} or None, "goal_per_s", "reached"}`."""
    script = events_of(events)
    core = _pair(events, lambda: bare(script), lambda: with_venue(script), rounds)
    tape = None
    path = tape_path()
    if path is not None:
        from quote.tape import open_tape

        frames = list(open_tape([path]).frames())
        told = fold_only(frames, BTC)
        tape = _pair(
            told, lambda: fold_only(frames, BTC), lambda: fold_and_paper(frames, BTC), max(1, rounds // 2)
        )
    return {
        "name": "paper",
        "core": core,
        "tape": tape,
        "goal_per_s": GOAL_PER_S,
        "reached": core["with_venue_per_s"] >= GOAL_PER_S,
    }


if __name__ == "__main__":
    json.dump(run(), sys.stdout, indent=2)
    print()
