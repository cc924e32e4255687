"""The synthetic market: deterministic, readable by the one parser, and fitted to the recordings."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from api.types import BookChanged, Instrument, Traded
from quote.fold import MarketFold
from quote.synthetic import SyntheticMarket
from quote.tape import open_tape
from tests.quote import frames as f
from tests.shared import shared

S = 1_000_000_000
T0 = f.START_NS


def run(instrument: Instrument, seconds: int, seed: int = 7) -> list[tuple[int, bytes]]:
    return SyntheticMarket(instrument, seed, T0).step(T0 + seconds * S)


def test_the_same_seed_gives_the_same_bytes_however_the_steps_are_cut() -> None:
    whole = run(f.instrument(), 30)
    market = SyntheticMarket(f.instrument(), 7, T0)
    cut = [frame for ms in range(0, 30_001, 37) for frame in market.step(T0 + ms * 1_000_000)]
    assert cut + market.step(T0 + 30 * S) == whole
    assert len(whole) > 1000


def test_another_seed_or_symbol_is_another_market() -> None:
    assert run(f.instrument(), 2) != run(f.instrument(), 2, seed=8)
    assert len(run(f.instrument(), 2)) != len(run(f.instrument("ETH", "0.0001"), 2))


@pytest.mark.parametrize(
    ("base", "tick", "lot"),
    [
        ("BTC", "0.01", "0.00001"),
        ("ETH", "0.01", "0.0001"),
        ("SOL", "0.01", "0.001"),
        ("XRP", "0.0001", "0.1"),
        ("ODD", "0.05", "1"),
        ("TINY", "0.00000001", "1"),
    ],
)
def test_the_parser_follows_it_without_a_gap_or_a_disagreement(base: str, tick: str, lot: str) -> None:
    instrument = f.instrument(base, lot, tick)
    fold = MarketFold([instrument])
    last_ns = 0
    two_sided = 0
    for ns, raw in run(instrument, 60):
        assert ns >= last_ns
        last_ns = ns
        for event in fold.fold(raw, ns, ns, instrument.venue_symbol):
            assert isinstance(event, BookChanged | Traded)
            if isinstance(event, BookChanged):
                two_sided += event.book.is_two_sided
    stats = fold.stats(instrument.id)
    assert stats.diffs_applied >= 590
    assert stats.trades > 200
    assert two_sided > 1000
    assert stats.ticker_checked > 300
    assert (stats.ticker_mismatches, stats.resyncs, stats.unknown_frames, fold.unknown_frames) == (0, 0, 0, 0)


def test_a_snapshot_taken_later_joins_the_stream() -> None:
    instrument = f.instrument()
    market = SyntheticMarket(instrument, 3, T0)
    market.step(T0 + 5 * S + 50_000_000)
    fold = MarketFold([instrument])
    fold.fold(market.snapshot(), T0, T0, "BTCUSDT")
    for ns, raw in market.step(T0 + 10 * S):
        fold.fold(raw, ns, ns)
    assert (fold.stats(instrument.id).diffs_applied, fold.wants_snapshot()) == (50, ())


def test_time_that_was_slept_is_left_out() -> None:
    market = SyntheticMarket(f.instrument(), 3, T0)
    market.step(T0 + S)
    market.skip_to(T0 + 3_600 * S)
    frames = market.step(T0 + 3_601 * S)
    assert 20 < len(frames) < 1000
    assert all(T0 + 3_600 * S <= ns <= T0 + 3_601 * S for ns, _ in frames)


def test_a_tick_finer_than_a_frame_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="eight decimals"):
        SyntheticMarket(f.instrument(tick="0.000000001"), 1, T0)


def test_prices_five_basis_points_apart_are_both_met_within_minutes() -> None:
    """What a quote 2.5 basis points from the mid, set once every ten seconds, would see."""
    instrument = f.instrument()
    mids: list[tuple[int, float, float]] = []
    met = {"buy": 0, "sell": 0}
    quote: tuple[float, float] | None = None
    set_ns = 0
    for ns, raw in run(instrument, 600):
        told = json.loads(raw)
        if "stream" not in told:
            continue
        data = told["data"]
        if told["stream"].endswith("bookTicker"):
            bid, ask = float(data["b"]), float(data["a"])
            if quote is None or ns - set_ns > 10 * S:
                middle = (bid + ask) / 2
                quote, set_ns = (middle * (1 - 2.5e-4), middle * (1 + 2.5e-4)), ns
            mids.append((ns, bid, ask))
        elif told["stream"].endswith("trade") and quote is not None:
            price = float(data["p"])
            met["buy"] += price <= quote[0]
            met["sell"] += price >= quote[1]
    assert met["buy"] > 0 and met["sell"] > 0


@dataclass(frozen=True)
class Figures:
    tickers: float
    trades: float
    market_orders: float
    order_median: float
    order_mean: float
    levels_median: float
    levels_mean: float
    narrow: float
    touch_median: float
    touch_mean: float
    price_changes: float
    second_bps: float
    minute_bps: float


def measure(frames: Sequence[tuple[int, bytes]], tick: Decimal) -> Figures:
    """Rates a second, sizes in base units, deviations in basis points."""
    touches: list[tuple[int, int, float, int, float]] = []
    orders: list[tuple[tuple[int, bool], float]] = []
    trades = 0
    levels: list[int] = []
    for ns, raw in frames:
        told = json.loads(raw)
        if "stream" not in told:
            continue
        data, kind = told["data"], told["stream"].partition("@")[2]
        if kind == "bookTicker":
            bid, ask = round(Decimal(data["b"]) / tick), round(Decimal(data["a"]) / tick)
            touches.append((ns, bid, float(data["B"]), ask, float(data["A"])))
        elif kind == "trade":
            trades += 1
            key = (data["T"], data["m"])
            if orders and orders[-1][0] == key:
                orders[-1] = (key, orders[-1][1] + float(data["q"]))
            else:
                orders.append((key, float(data["q"])))
        else:
            levels.append(len(data["b"]) + len(data["a"]))
    seconds = (frames[-1][0] - frames[0][0]) / 1e9
    pairs = list(zip(touches, touches[1:], strict=False))
    whole_ns = touches[-1][0] - touches[0][0]
    narrow_ns = sum(after[0] - before[0] for before, after in pairs if before[3] - before[1] == 1)
    sizes = [touch[2] for touch in touches] + [touch[4] for touch in touches]
    by_second = {touch[0] // S: (touch[1] + touch[3]) / 2 for touch in touches}
    mids: list[float] = []
    for second in range(min(by_second), max(by_second) + 1):
        mids.append(by_second.get(second, mids[-1] if mids else 0.0))

    def deviation(span: int) -> float:
        return statistics.pstdev((b / a - 1) * 1e4 for a, b in zip(mids, mids[span:], strict=False))

    amounts = [size for _, size in orders]
    return Figures(
        tickers=len(touches) / seconds,
        trades=trades / seconds,
        market_orders=len(orders) / seconds,
        order_median=statistics.median(amounts),
        order_mean=statistics.mean(amounts),
        levels_median=statistics.median(levels),
        levels_mean=statistics.mean(levels),
        narrow=narrow_ns / whole_ns,
        touch_median=statistics.median(sizes),
        touch_mean=statistics.mean(sizes),
        price_changes=sum(a[1] != b[1] or a[3] != b[3] for a, b in pairs) / seconds,
        second_bps=deviation(1),
        minute_bps=deviation(60),
    )


# how far apart recorded and synthetic figures may lie, as a factor
WITHIN = Figures(
    tickers=1.3,
    trades=1.5,
    market_orders=1.2,
    order_median=2.0,
    order_mean=2.0,
    levels_median=1.3,
    levels_mean=1.5,
    narrow=1.02,
    touch_median=1.5,
    touch_mean=2.0,
    price_changes=1.4,
    second_bps=2.0,
    minute_bps=2.5,
)


@pytest.mark.parametrize(("base", "lot"), [("BTC", "0.00001"), ("ETH", "0.0001")])
def test_its_rates_spread_depth_and_sizes_are_those_of_the_recordings(base: str, lot: str) -> None:
    path: Path = shared(f"market_data/binance_ws_2024-08/spot_{base.lower()}usdt_20240808.gz")
    instrument = f.instrument(base, lot)
    recorded = measure([(ns, raw) for ns, _, raw in open_tape([path]).frames()], instrument.tick)
    made = measure(run(instrument, 600), instrument.tick)
    apart = {}
    for name in Figures.__dataclass_fields__:
        was, now, factor = getattr(recorded, name), getattr(made, name), getattr(WITHIN, name)
        if not was / factor <= now <= was * factor:
            apart[name] = (was, now, factor)
    assert apart == {}
