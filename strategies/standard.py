"""The standard maker: a percent spread around mid, levels spaced in ticks, sizes given or a share of the
balance.

Bid and ask of level 0 are `mid -/+ mid * spread/100 / 2`; level i lies a further `1.5 * i**1.5` ticks out
(behaviour.md 7.5:
0, 1.5, 4.24, 7.79 ...). Prices are rounded away from the market later, by the plan. Without a given size
every order gets `min(0.05, 1/(4*max_orders))` of the account's total quote (bids, at the mean bid) or total
base (asks).
"""

from __future__ import annotations

from decimal import Decimal

from api.types import Quote, Side, Targets
from strategies.base import Params, Shared, State, Strategy, param

MOST_ORDERS = 50  # per side


class StandardParams(Params):
    spread: float = param(
        0.1,
        title="Spread",
        unit="percent of mid, full width",
        description="Distance between the best bid and the best ask we quote. "
        "Larger earns more per fill and fills less.",
        gt=0,
        le=50,
    )
    quantity: Decimal | None = param(
        None,
        title="Quantity",
        unit="base per order",
        description="Size of each order. Empty: a share of the balance, min(5 %, 1/(4 x orders)).",
        gt=0,
        le=Decimal(10) ** 12,
        max_digits=30,
        decimal_places=18,
    )
    max_orders: int = param(
        3,
        title="Orders per side",
        unit="orders",
        description="Levels on each side; each further one lies 1.5 x i^1.5 ticks further out.",
        ge=1,
        le=MOST_ORDERS,
    )
    interval: float = param(
        60.0,
        title="Longest silence",
        unit="s",
        description="It decides at every change of the book; this only bounds the time between decisions.",
        gt=0,
        le=3600,
    )
    duration: float | None = param(
        None,
        title="Duration",
        unit="s",
        description="The run stops by itself after this time, canceling its orders. Empty: until stopped.",
        gt=0,
        le=31_536_000,
    )
    keep_bps: float | None = param(
        None,
        title="Keep tolerance",
        unit="bps of price",
        description="A resting order this close to its wished price keeps its place in the queue. "
        "Empty: a quarter of the half spread.",
        ge=0,
        le=1000,
    )


def targets(state: State, params: StandardParams) -> Targets:
    """Wished quotes of both sides; a side whose size is not known says why."""
    instrument, book = state.instrument, state.book
    tick = instrument.tick_float
    mid = book.mid_ticks * tick
    half = mid * params.spread / 200.0
    quotes: list[Quote] = []
    silent: list[tuple[Side, str]] = []
    offsets = _OFFSETS[: params.max_orders - 1]
    for side in (Side.BUY, Side.SELL):
        away = -side.sign
        size = _size(state, params, side, mid - half)
        if isinstance(size, str):
            silent.append((side, size))
            continue
        base = (("mid", mid), ("half spread", away * half))
        quotes.append(Quote(side, 0, mid + away * half, size, base))
        for level, name, ticks_out in offsets:
            out = away * ticks_out * tick
            quotes.append(Quote(side, level, mid + away * half + out, size, (*base, (name, out))))
    return Targets(tuple(quotes), tuple(silent))


_OFFSETS = tuple((level, f"level {level}", 1.5 * level**1.5) for level in range(1, MOST_ORDERS))
"""(level, name of its term, ticks further out) of every level but the first."""


def _size(state: State, params: StandardParams, side: Side, bid: float) -> float | str:
    if params.quantity is not None:
        return float(params.quantity)
    share = auto_share(params)
    total = state.quote_total if side is Side.BUY else state.base_total
    asset = state.instrument.quote if side is Side.BUY else state.instrument.base
    if total is None:
        return f"the {asset} balance is not known yet"
    if total <= 0:
        return f"no {asset} to size an order from"
    return total * share / bid if side is Side.BUY else total * share


def auto_share(params: StandardParams) -> float:
    """Share of the balance for one order when no quantity is given (behaviour.md 7.5)."""
    return min(0.05, 1.0 / (4.0 * params.max_orders))


def _shared(params: StandardParams) -> Shared:
    keep = params.spread * 100.0 / 2.0 / 4.0 if params.keep_bps is None else params.keep_bps
    return Shared(keep_bps=keep, interval_s=params.interval, duration_s=params.duration)


STRATEGY = Strategy(
    name="standard",
    kind="market_making",
    title="Standard maker",
    description="Quotes both sides at a percent spread around mid, in levels.",
    params=StandardParams,
    targets=targets,
    shared=_shared,
    order_size=lambda params: (params.quantity, params.max_orders),
    auto_share=auto_share,
)
