"""A market that is not there: a seeded order flow whose frames look like Binance's, for machines without a
network.

Hides: the model and its figures. Must not know: the wall clock, threads, who listens. Called by
`quote.feed.SyntheticSource`, by direct runs and by tests. Pure: same instrument, seed and start, same frames
to the byte, however `step` is cut.

The model is the zero-intelligence kind of Cont, Stoikov and Talreja, "A stochastic model for order book
dynamics", Operations Research 58(3), 2010: limit orders, cancellations and market orders come as Poisson
streams, limit orders most often right at the opposite best price, fewer the further away. On top of it:
market orders have log-normal sizes and tend to repeat their side, now and then one sweeps the book some basis
points deep, and a slow anchor pulls the side that refills an opened spread, so that the price drifts and
comes back, and quotes are met on both sides. It has no memory beyond that: a strategy that earns money here
has learned this model, nothing about a market. Hence the label SYNTHETIC.

Fitted to the two recordings of 2024-08-08 (346 s each), recorded / synthetic over ten minutes of seed 7;
`tests/quote/test_synthetic.py` measures both again:

                                          BTC-USDT            ETH-USDT
    best bid/ask messages a second        81 / 84             70 / 68
    trades a second                       28 / 34             18 / 22
    market orders a second                9.4 / 9.4           5.6 / 5.6
    size of a market order, median        0.0035 / 0.0036     0.0410 / 0.0542
    size of a market order, mean          0.065 / 0.078       1.172 / 1.391
    size of a trade, mean                 0.022 / 0.021       0.370 / 0.355
    levels changed per diff, median       16 / 16             13 / 14
    levels changed per diff, mean         36 / 29             31 / 25
    share of time at one tick of spread   0.993 / 0.993       0.995 / 0.993
    size at the best price, median        1.20 / 1.24         6.89 / 7.46
    size at the best price, mean          1.69 / 2.51         10.00 / 14.86
    price changes a second                7.7 / 8.1           6.7 / 7.6
    jump of the best bid, median ticks    56 / 105            4 / 5
    the same, 90 % of them below          296 / 268           14 / 13
    deviation over 1 s, basis points      1.20 / 0.75         1.07 / 0.92
    deviation over 10 s                   3.81 / 1.96         3.49 / 2.70
    deviation over 60 s                   6.62 / 5.79         7.79 / 4.65

Too few tiny trades, the median trade is several times too big; days and news do not exist.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from decimal import Decimal

from api.types import Instrument

UNIT = 10**8  # amounts on the wire have eight decimals
DIFF_NS = 100_000_000  # one diff each 100 ms, as `@depth@100ms`
REACH_BPS = 26.0  # deep orders come and go within this distance of the best price
PRUNE_BPS = 60.0  # what lies further away is taken off
DEEP_SHAPE = 2.6  # distance = REACH_BPS * u ** DEEP_SHAPE, u uniform: half of the changes within 4.3 bps
FEWEST = 8  # levels a side that no market order may eat into
MOST_PRINTS = 80  # trades one market order is split into at most
US_DOLLARS = frozenset({"USDT", "USDC", "USD", "FDUSD", "TUSD", "DAI"})
PRICES = {
    "BTC": 61_700.0,
    "ETH": 2_680.0,
    "BNB": 510.0,
    "SOL": 150.0,
    "LTC": 60.0,
    "LINK": 10.0,
    "XRP": 0.6,
    "ADA": 0.35,
    "DOGE": 0.1,
}
"""Where the price starts, about what these cost in August 2024, in dollars."""
THICK_PER_BPS = 8.0  # times more size at the best prices for each basis point that one tick is worth
OTHER_PRICE_TICKS = 100_000  # for what is not in that list: a tenth of a basis point a tick


@dataclass(frozen=True, slots=True)
class Flow:
    """The figures of one market. Sizes in base units, rates per second; a pair is (median, log standard
    deviation).
    """

    touch_rate: float
    """Orders and cancellations at the best prices, both sides together."""
    touch_size: tuple[float, float]
    touch_mean: float
    """Size at which a best price loses as often as it gains."""
    fresh_size: tuple[float, float]
    """What comes first at a new best price."""
    refill_rate: float
    """Orders into a spread wider than one tick."""
    taker_rate: float
    taker_size: tuple[float, float]
    taker_most: float
    repeat: float
    """Probability that a market order has the side of the one before."""
    print_size: tuple[float, float]
    """Resting order that a market order meets: one trade each."""
    sweep_rate: float
    sweep_bps: tuple[float, float]
    """From, to: how deep a sweep goes."""
    deep_changes: tuple[float, float]
    """Levels that change away from the best prices in one diff."""
    deep_size: tuple[float, float]
    spacing_bps: tuple[float, float]
    """Distance between levels: at the best price, and added per basis point away from it."""
    anchor_bps: float
    """Standard deviation of the anchor's walk over one second."""

    def scaled(self, factor: float, thick: float = 1.0) -> Flow:
        """The same flow with all sizes multiplied, those at the best prices by `thick` as well."""

        def size(pair: tuple[float, float], by: float = factor) -> tuple[float, float]:
            return (pair[0] * by, pair[1])

        return replace(
            self,
            touch_size=size(self.touch_size),
            touch_mean=self.touch_mean * factor * thick,
            fresh_size=size(self.fresh_size, factor * thick),
            taker_size=size(self.taker_size),
            taker_most=self.taker_most * factor,
            print_size=size(self.print_size),
            deep_size=size(self.deep_size),
        )


BTC = Flow(
    touch_rate=46.0,
    touch_size=(0.25, 1.4),
    touch_mean=0.7,
    fresh_size=(0.35, 1.6),
    refill_rate=500.0,
    taker_rate=9.4,
    taker_size=(0.0036, 2.3),
    taker_most=6.0,
    repeat=0.68,
    print_size=(0.0045, 2.2),
    sweep_rate=0.04,
    sweep_bps=(1.5, 5.0),
    deep_changes=(16.0, 1.25),
    deep_size=(0.09, 1.5),
    spacing_bps=(0.15, 0.0035),
    anchor_bps=0.7,
)
ETH = Flow(
    touch_rate=42.0,
    touch_size=(1.5, 1.4),
    touch_mean=4.2,
    fresh_size=(2.0, 1.6),
    refill_rate=500.0,
    taker_rate=5.6,
    taker_size=(0.05, 2.4),
    taker_most=60.0,
    repeat=0.75,
    print_size=(0.085, 2.2),
    sweep_rate=0.04,
    sweep_bps=(1.5, 5.0),
    deep_changes=(13.5, 1.3),
    deep_size=(1.9, 1.3),
    spacing_bps=(0.17, 0.0055),
    anchor_bps=0.7,
)


def flow_of(instrument: Instrument, price: float) -> Flow:
    """The fitted flow of BTC and ETH in dollars; ETH's with sizes of the same value for anything else.

    Where one tick is many basis points, the best prices hold that much more: else a price that can only move
    by whole ticks would move too far too often.
    """
    in_dollars = instrument.quote in US_DOLLARS
    if in_dollars and instrument.base == "BTC":
        return BTC
    if in_dollars and instrument.base == "ETH":
        return ETH
    factor = PRICES["ETH"] / price if in_dollars else 1_000 * instrument.lot_float / ETH.touch_size[0]
    tick_bps = instrument.tick_float / price * 1e4
    return ETH.scaled(factor, thick=min(40.0, max(1.0, tick_bps * THICK_PER_BPS)))


class _Side:
    """Levels of one side; keys grow towards the market."""

    __slots__ = ("changed", "keys", "lots", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.lots: dict[int, int] = {}
        self.changed: dict[int, None] = {}  # keys since the last diff, in order

    def set(self, key: int, lots: int) -> None:
        if lots > 0:
            if key not in self.lots:
                insort(self.keys, key)
            self.lots[key] = lots
        elif self.lots.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]
        else:
            return
        self.changed[key] = None

    @property
    def best(self) -> int:
        return self.keys[-1]


class SyntheticMarket:
    """One market. `step(until_ns)` returns what it would have sent since the last call.

    Args:
        seed: the stream of chance is named by it and the instrument's venue symbol.
        start_ns: UTC nanoseconds of its beginning; the first frame is a snapshot at that time.

    Raises:
        ValueError: tick or lot is no multiple of 1e-8.
    """

    def __init__(self, instrument: Instrument, seed: int, start_ns: int) -> None:
        self.instrument = instrument
        self.symbol = instrument.venue_symbol
        self._stream = self.symbol.lower()
        self._tick_units = _units(instrument.tick)
        self._lot_units = _units(instrument.lot)
        self._random = random.Random(f"synthetic/{seed}/{self.symbol}")
        price = PRICES.get(instrument.base, 0.0) if instrument.quote in US_DOLLARS else 0.0
        ticks = round(price / instrument.tick_float) if price else OTHER_PRICE_TICKS
        self._flow = flow_of(instrument, ticks * instrument.tick_float)
        self._anchor = float(ticks)
        self._bids = _Side(1)
        self._asks = _Side(-1)
        self._now_ns = start_ns
        self._diff_ns = start_ns + DIFF_NS
        self._id = 1_000_000
        self._first_id = self._id + 1  # of the diff being collected
        self._trade_id = 0
        self._is_buy = True
        self._touch: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._out: list[tuple[int, bytes]] = []
        self._populate(ticks)
        self._touch = self._best()
        self._out.append((start_ns, self.snapshot()))
        self._event_ns = start_ns + self._gap_ns()

    @property
    def now_ns(self) -> int:
        """The time up to which it has happened."""
        return self._now_ns

    def step(self, until_ns: int) -> list[tuple[int, bytes]]:
        """Let time pass; (time, frame) of everything sent up to and including `until_ns`, in order."""
        while (at_ns := min(self._event_ns, self._diff_ns)) <= until_ns:
            self._now_ns = at_ns
            if self._event_ns <= self._diff_ns:
                self._happen()
                self._event_ns = at_ns + self._gap_ns()
            else:
                self._send_diff()
                self._churn()  # sent with the next diff, so that this one ends at a best price's id
                self._diff_ns = at_ns + DIFF_NS
        self._now_ns = max(self._now_ns, until_ns)
        out, self._out = self._out, []
        return out

    def skip_to(self, at_ns: int) -> None:
        """Nothing happens until then (the machine slept)."""
        lost_ns = at_ns - self._now_ns
        if lost_ns > 0:
            self._now_ns = at_ns
            self._event_ns += lost_ns
            self._diff_ns += lost_ns

    def snapshot(self) -> bytes:
        """The whole book as the REST answer has it, at the update id reached so far."""
        bids = ",".join(self._pair(self._bids, key) for key in reversed(self._bids.keys))
        asks = ",".join(self._pair(self._asks, key) for key in reversed(self._asks.keys))
        return f'{{"lastUpdateId":{self._id},"bids":[{bids}],"asks":[{asks}]}}'.encode()

    # ------------------------------------------------------------------ what happens

    def _happen(self) -> None:
        """One event of the streams, chosen by their rates."""
        flow, chance = self._flow, self._random
        is_open = self._is_open
        total = flow.touch_rate + flow.taker_rate + flow.sweep_rate + (flow.refill_rate if is_open else 0.0)
        drawn = chance.random() * total
        if drawn < flow.touch_rate:
            self._at_touch()
        elif drawn < flow.touch_rate + flow.taker_rate:
            if chance.random() > flow.repeat:
                self._is_buy = not self._is_buy
            size = min(self._size(flow.taker_size), self._lots(flow.taker_most))
            self._take(self._is_buy, size, None)
        elif drawn < flow.touch_rate + flow.taker_rate + flow.sweep_rate:
            is_buy = chance.random() < self._upward
            depth = chance.uniform(*flow.sweep_bps) * 1e-4 * self._asks.best * -1
            limit = -self._asks.best + depth if is_buy else self._bids.best - depth
            self._take(is_buy, self._lots(flow.taker_most) * 20, round(limit))
        else:
            self._refill()

    def _at_touch(self) -> None:
        flow, chance = self._flow, self._random
        side = self._bids if chance.random() < 0.5 else self._asks
        key = side.best
        lots = side.lots[key]
        amount = self._size(flow.touch_size)
        if chance.random() < lots / (lots + self._lots(flow.touch_mean)):
            if amount >= lots and len(side.keys) <= FEWEST:
                return
            self._set(side, key, lots - min(amount, lots))
        else:
            self._set(side, key, lots + amount)
        self._send_ticker()

    def _refill(self) -> None:
        """An order one tick away from the opposite best price; the anchor's side comes first more often."""
        bid, ask = self._bids.best, -self._asks.best
        size = self._size(self._flow.fresh_size)
        if self._random.random() < self._upward:
            self._set(self._bids, ask - 1, size)
        else:
            self._set(self._asks, -(bid + 1), size)
        self._send_ticker()

    def _take(self, is_buy: bool, lots: int, limit: int | None) -> None:
        """A market order, a trade for each resting order it meets, down to `limit` (ticks) or until it is
        filled.
        """
        side = self._asks if is_buy else self._bids
        prints = 0
        while lots > 0 and len(side.keys) > FEWEST:
            key = side.best
            ticks = key * side.sign
            if limit is not None and (ticks > limit if is_buy else ticks < limit):
                return
            there = side.lots[key]
            met = there if prints >= MOST_PRINTS else min(there, self._size(self._flow.print_size))
            met = min(met, lots)
            lots -= met
            prints += 1
            self._set(side, key, there - met)
            self._send_trade(ticks, met, is_buy)
            self._send_ticker()

    def _churn(self) -> None:
        """What changed away from the best prices within the time of one diff, and the anchor's walk."""
        flow, chance = self._flow, self._random
        self._anchor *= math.exp(chance.gauss(0.0, flow.anchor_bps * 1e-4 * math.sqrt(DIFF_NS / 1e9)))
        count = round(min(chance.lognormvariate(math.log(flow.deep_changes[0]), flow.deep_changes[1]), 900.0))
        near, wider = flow.spacing_bps
        for _ in range(count):
            side = self._bids if chance.random() < 0.5 else self._asks
            best = side.best
            per_bps = abs(best) * 1e-4
            bps = REACH_BPS * chance.random() ** DEEP_SHAPE
            key = best - max(1, round(bps * per_bps))
            if key * side.sign <= 0:
                continue
            keys = side.keys
            index = bisect_left(keys, key)
            if index and (index == len(keys) or key - keys[index - 1] < keys[index] - key):
                index -= 1
            found = keys[index]
            if abs(found - key) >= max(0.5, 0.55 * (near + wider * bps) * per_bps):
                self._set(side, key, self._size(flow.deep_size))
            elif found == best:
                continue  # the best price has a stream of its own
            elif chance.random() < 0.5 and len(keys) > FEWEST:
                self._set(side, found, 0)
            else:
                self._set(side, found, self._size(flow.deep_size))
        for side in (self._bids, self._asks):
            furthest = side.best - PRUNE_BPS * 1e-4 * abs(side.best)
            while side.keys[0] < furthest and len(side.keys) > FEWEST:
                self._set(side, side.keys[0], 0)

    def _populate(self, ticks: int) -> None:
        flow = self._flow
        near, wider = flow.spacing_bps
        for side, best in ((self._bids, ticks), (self._asks, -(ticks + 1))):
            side.set(best, self._lots(flow.touch_mean))
            bps = 0.0
            while bps < REACH_BPS:
                bps += self._random.expovariate(1.0) * (near + wider * bps) + 1e4 / ticks
                key = best - round(bps * 1e-4 * ticks)
                if key * side.sign > 0:
                    side.set(key, self._size(flow.deep_size))
            while len(side.keys) < 2 * FEWEST:
                side.set(side.keys[0] - 1, self._size(flow.deep_size))
            side.changed.clear()

    # ------------------------------------------------------------------ small things

    @property
    def _is_open(self) -> bool:
        """The spread is wider than one tick."""
        return -self._asks.best - self._bids.best > 1

    @property
    def _upward(self) -> float:
        """Probability that the next move is up: a half, tilted towards the last market order's side by 0.2,
        and towards the anchor by up to 0.25 at 10 bps.
        """
        bps = (self._anchor / self._bids.best - 1.0) * 1e4
        return 0.5 + (0.2 if self._is_buy else -0.2) + max(-0.25, min(0.25, bps * 0.025))

    def _gap_ns(self) -> int:
        flow = self._flow
        total = flow.touch_rate + flow.taker_rate + flow.sweep_rate
        if self._is_open:
            total += flow.refill_rate
        return 1 + int(self._random.expovariate(total) * 1e9)

    def _lots(self, qty: float) -> int:
        return max(1, round(qty / self.instrument.lot_float))

    def _size(self, pair: tuple[float, float]) -> int:
        return self._lots(self._random.lognormvariate(math.log(pair[0]), pair[1]))

    def _set(self, side: _Side, key: int, lots: int) -> None:
        self._id += 1
        side.set(key, lots)

    def _best(self) -> tuple[int, int, int, int]:
        bid, ask = self._bids.best, self._asks.best
        return (bid, self._bids.lots[bid], -ask, self._asks.lots[ask])

    # ------------------------------------------------------------------ frames

    def _send(self, kind: str, data: str) -> None:
        self._out.append((self._now_ns, f'{{"stream":"{self._stream}@{kind}","data":{{{data}}}}}'.encode()))

    def _send_ticker(self) -> None:
        touch = self._best()
        if touch == self._touch:
            return
        self._touch = touch
        bid, bid_lots, ask, ask_lots = touch
        self._send(
            "bookTicker",
            f'"u":{self._id},"s":"{self.symbol}","b":"{self._price(bid)}","B":"{self._qty(bid_lots)}"'
            f',"a":"{self._price(ask)}","A":"{self._qty(ask_lots)}"',
        )

    def _send_trade(self, ticks: int, lots: int, is_buy: bool) -> None:
        self._trade_id += 1
        ms = self._now_ns // 1_000_000
        self._send(
            "trade",
            f'"e":"trade","E":{ms},"s":"{self.symbol}","t":{self._trade_id},"p":"{self._price(ticks)}"'
            f',"q":"{self._qty(lots)}","T":{ms},"m":{"false" if is_buy else "true"},"M":true',
        )

    def _send_diff(self) -> None:
        if self._id < self._first_id:
            return
        bids = ",".join(self._pair(self._bids, key) for key in self._bids.changed)
        asks = ",".join(self._pair(self._asks, key) for key in self._asks.changed)
        self._bids.changed.clear()
        self._asks.changed.clear()
        self._send(
            "depth@100ms",
            f'"e":"depthUpdate","E":{self._now_ns // 1_000_000},"s":"{self.symbol}","U":{self._first_id}'
            f',"u":{self._id},"b":[{bids}],"a":[{asks}]',
        )
        self._first_id = self._id + 1

    def _pair(self, side: _Side, key: int) -> str:
        return f'["{self._price(key * side.sign)}","{self._qty(side.lots.get(key, 0))}"]'

    def _price(self, ticks: int) -> str:
        whole, part = divmod(ticks * self._tick_units, UNIT)
        return f"{whole}.{part:08d}"

    def _qty(self, lots: int) -> str:
        whole, part = divmod(lots * self._lot_units, UNIT)
        return f"{whole}.{part:08d}"


def _units(step: Decimal) -> int:
    units = step * UNIT
    if units != int(units):
        raise ValueError(f"{step} is finer than the eight decimals of a frame")
    return int(units)
