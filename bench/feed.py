"""Recorded frames to updated book and event, beside bare `orjson.loads` of the same frames in the same run.

CPU time of this process, median of the rounds, candidates interleaved so that noise is shared; read the
ratios. Per recording:

- json: `orjson.loads`, nothing else: the limit for anything that makes dicts;
- decode: our typed decoders behind our routing, nothing else;
- plain: a bare loop, typed decode, remembered prices, a dict a side with its best tracked; sizes as floats,
no
  sequence check, no sorted levels, no events: what the same frames cost at the least in plain Python;
- fold: `MarketFold` without books in its events: exact ticks and lots, sequence and ticker checks, sorted
levels, trades;
- feed: the whole of it, each change with the best 25 levels a side in a `BookChanged`, handed to a callback.

Then the book alone on the same diffs, decoded beforehand: one diff applied and the best ten levels a side
    read. Without the recordings (`../shared` or MAKERDECK_SHARED) the synthetic market stands in. Run it as
    `python -m bench.feed`; `bench` calls `run`.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from api.types import Event, Instrument, InstrumentId, Level
from api.venues import binance_spot as wire
from quote.book import BookBuilder
from quote.fold import STREAM_AT, Grid, MarketFold
from quote.synthetic import SyntheticMarket
from quote.tape import open_tape

ROUNDS = 7
GOAL = 0.45  # of orjson.loads, for the feed; set on frames with a quarter of these levels a diff
START_NS = 1_723_161_600_000_000_000

Frames = list[tuple[int, bytes]]


def _instrument(base: str, lot: str) -> Instrument:
    zero = Decimal(0)
    return Instrument(
        InstrumentId.of("paper", f"{base}-USDT"),
        base,
        "USDT",
        Decimal("0.01"),
        Decimal(lot),
        Decimal(lot),
        Decimal(5),
        zero,
        zero,
        f"{base}USDT",
    )


def _frames(instrument: Instrument) -> tuple[str, Frames]:
    shared = os.environ.get("MAKERDECK_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    name = f"spot_{instrument.venue_symbol.lower()}_20240808.gz"
    path = Path(shared) / "market_data" / "binance_ws_2024-08" / name
    if path.exists():
        return name, [(ns, raw) for ns, _, raw in open_tape([path]).frames()]
    return "synthetic", SyntheticMarket(instrument, 7, START_NS).step(START_NS + 300 * 10**9)


def _json(frames: Frames) -> None:
    loads = orjson.loads
    for _, raw in frames:
        loads(raw)


def _routes(symbol: str) -> dict[bytes, Callable[[bytes], Any]]:
    stream = symbol.lower().encode()
    return {
        stream + b"@bookTicker": wire.decode_ticker,
        stream + b"@trade": wire.decode_trade,
        stream + b"@depth@100ms": wire.decode_diff,
    }


def _decode(frames: Frames, symbol: str) -> None:
    routes = _routes(symbol)
    for _, raw in frames:
        decode = routes.get(raw[STREAM_AT : raw.find(b'"', STREAM_AT)])
        (decode or wire.decode_snapshot)(raw)


def _plain(frames: Frames, symbol: str) -> tuple[int, int]:
    routes = _routes(symbol)
    known: dict[str, int] = {}

    def tick(text: str) -> int:
        found = known.get(text)
        if found is None:
            found = known[text] = int(float(text) * 100 + 0.5)
        return found

    bids: dict[int, float] = {}
    asks: dict[int, float] = {}
    best_bid, best_ask = 0, 1 << 60
    for _, raw in frames:
        decode = routes.get(raw[STREAM_AT : raw.find(b'"', STREAM_AT)])
        if decode is None:
            start = wire.decode_snapshot(raw)
            bids = {tick(price): float(size) for price, size in start.bids}
            asks = {tick(price): float(size) for price, size in start.asks}
            best_bid, best_ask = max(bids), min(asks)
            continue
        told = decode(raw).data
        if decode is wire.decode_ticker:
            best_bid, best_ask = tick(told.b), tick(told.a)
        elif decode is wire.decode_trade:
            tick(told.p)
            float(told.q)
        elif bids:
            for price, text in told.b:
                at, size = tick(price), float(text)
                if size:
                    bids[at] = size
                    best_bid = max(best_bid, at)
                elif bids.pop(at, None) is not None and at == best_bid:
                    best_bid = max(bids)
            for price, text in told.a:
                at, size = tick(price), float(text)
                if size:
                    asks[at] = size
                    best_ask = min(best_ask, at)
                elif asks.pop(at, None) is not None and at == best_ask:
                    best_ask = min(asks)
    return best_bid, best_ask


def _fold(frames: Frames, instrument: Instrument, heard: Callable[[Event], None] | None) -> MarketFold:
    fold = MarketFold([instrument], with_books=heard is not None)
    take, symbol = fold.fold, instrument.venue_symbol
    for ns, raw in frames:
        events = take(raw, ns, ns, symbol)
        if heard is not None:
            for event in events:
                heard(event)
    return fold


def _ignore(event: Event) -> None:
    """The callback at the end of the path."""


def _book_alone(frames: Frames, instrument: Instrument, rounds: int) -> dict[str, Any]:
    """Microseconds a diff: applied, and applied with the best ten levels a side read."""
    ticks, lots = Grid(instrument.tick, is_price=True), Grid(instrument.lot, is_price=False)

    def levels(told: list[tuple[str, str]]) -> list[Level]:
        return [(ticks[price], lots[size]) for price, size in told]

    start: tuple[int, list[Level], list[Level]] | None = None
    diffs = []
    for _, raw in frames:
        if raw.startswith(b'{"lastUpdateId"'):
            told = wire.decode_snapshot(raw)
            start = (told.lastUpdateId, levels(told.bids), levels(told.asks))
        elif b"@depth" in raw[:64]:
            diff = wire.decode_diff(raw).data
            diffs.append((diff.U, diff.u, levels(diff.b), levels(diff.a)))
    assert start is not None
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for is_read in (False, True):
            builder = BookBuilder(instrument)
            builder.snapshot(*start, 0)
            begun = time.process_time()
            for first, last, bids, asks in diffs:
                builder.diff(first, last, bids, asks, 0, 0)
                if is_read:
                    builder.book(10)
            taken[is_read].append((time.process_time() - begun) / len(diffs) * 1e6)
    return {
        "diffs": len(diffs),
        "levels_per_diff": round(sum(len(b) + len(a) for _, _, b, a in diffs) / len(diffs), 1),
        "apply_us": round(statistics.median(taken[False]), 2),
        "apply_and_top_10_us": round(statistics.median(taken[True]), 2),
    }


def _measure(instrument: Instrument, rounds: int) -> dict[str, Any]:
    source, frames = _frames(instrument)
    symbol = instrument.venue_symbol
    candidates: dict[str, Callable[[], object]] = {
        "json": lambda: _json(frames),
        "decode": lambda: _decode(frames, symbol),
        "plain": lambda: _plain(frames, symbol),
        "fold": lambda: _fold(frames, instrument, None),
        "feed": lambda: _fold(frames, instrument, _ignore),
    }
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, work in candidates.items():
            gc.collect()
            begun = time.process_time()
            work()
            if turn:  # the first round warms up
                taken[name].append(time.process_time() - begun)
    ratios = {
        name: statistics.median(a / b for a, b in zip(taken["json"], taken[name], strict=True))
        for name in candidates
    }
    stats = _fold(frames, instrument, None).stats(instrument.id)
    return {
        "source": source,
        "frames": len(frames),
        "frames_per_s": {name: round(len(frames) / statistics.median(t)) for name, t in taken.items()},
        "us_per_frame": {
            name: round(statistics.median(t) / len(frames) * 1e6, 2) for name, t in taken.items()
        },
        "ratio_to_json": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "goal_ratio": GOAL,
        "diffs_applied": stats.diffs_applied,
        "trades": stats.trades,
        "ticker_checked": stats.ticker_checked,
        "ticker_mismatches": stats.ticker_mismatches,
        "book": _book_alone(frames, instrument, rounds),
    }


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Both markets, as JSON-ready figures."""
    markets = (_instrument("BTC", "0.00001"), _instrument("ETH", "0.0001"))
    return {market.symbol: _measure(market, rounds) for market in markets}


if __name__ == "__main__":
    json.dump(run(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS), sys.stdout, indent=1)
    print()
