"""From wishes to commands: round, clamp, compare with our live orders, keep or replace. Pure.

Called by the engine after each decision. Knows no strategy, no clock and no venue. The rules, in order:

1. Round away from the market (`Instrument.ticks`). A post-only buy at or above the best ask is clamped one
tick below
   it, a sell likewise; a quote that would meet an order of another of our workers is clamped one tick away
   from that, and says so.
2. Levels of one side stay strictly apart. What is below the venue's minimum is left out, with the reason.
3. An order of the same side and level is **kept** when its price is within `keep_ticks` of the wished one and
between
   half and one and a half times the wished size is left in it; an order in flight is waited for; an unknown
   one holds its place.
4. Anything else is canceled; its replacement is placed at once, unless two cancels of that level are under
way or it would
   meet an order of our own that is still being canceled: then it waits for the end of that cancel.
5. The side that retreats goes first, cancels before places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api.types import Cancel, Command, Instrument, Order, Place, Quote, Request, Side, Term

LEAST_LEFT = 0.5  # an order with less than this share of the wished size left is replaced
MOST_LEFT = 1.5  # and so is one with more than this
OTHERS = "own other worker"


@dataclass(frozen=True, slots=True)
class Wish:
    """A quote after rounding: what should rest, exactly."""

    side: Side
    level: int
    ticks: int
    lots: int
    why: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    commands: tuple[Command, ...]
    silent: tuple[tuple[Side, str], ...]
    notes: tuple[str, ...]
    kept: int


@dataclass(frozen=True, slots=True)
class Market:
    """The touch, and the touch of our other workers' orders, in ticks."""

    best_bid: int
    best_ask: int
    others_bid: int | None = None
    others_ask: int | None = None


def wishes(
    quotes: tuple[Quote, ...], instrument: Instrument, market: Market
) -> tuple[list[Wish], list[tuple[Side, str]], list[str]]:
    """Round and clamp; (wishes, reasons of sides that lost all their quotes, notes for a person)."""
    made: list[Wish] = []
    notes: list[str] = []
    lost: dict[Side, str] = {}
    last: dict[Side, int] = {}
    ticks_of, lots_of, least_of = instrument.ticks, instrument.lots, instrument.minimum_lots
    tick = instrument.tick_float
    slack = tick * 1e-6
    for quote in quotes:
        side, price = quote.side, quote.price
        ticks = ticks_of(price, side)
        why = quote.why
        rounding = ticks * tick - price
        if rounding > slack or rounding < -slack:
            why = (*why, ("rounding", rounding))
        for name, limit in _bounds(side, market, last.get(side)):
            if limit is not None and (ticks > limit if side is Side.BUY else ticks < limit):
                why = (*why, (name, (limit - ticks) * tick))
                ticks = limit
                if name == OTHERS:
                    notes.append(f"{side.value} level {quote.level} clamped: it would meet another worker")
        if ticks <= 0:
            lost.setdefault(side, "the price is not above zero")
            continue
        lots, least = lots_of(quote.qty), least_of(ticks)
        if lots < least:
            text = (
                f"size {instrument.qty(lots)} is below the minimum {instrument.qty(least)} {instrument.base}"
            )
            lost.setdefault(side, text)
            continue
        last[side] = ticks
        made.append(Wish(side, quote.level, ticks, lots, why))
    sides = {wish.side for wish in made} if lost else ()
    return made, [(side, reason) for side, reason in lost.items() if side not in sides], notes


def _bounds(side: Side, market: Market, last: int | None) -> tuple[tuple[str, int | None], ...]:
    """The least aggressive prices a quote of this side may have, by name."""
    if side is Side.BUY:
        others = market.others_ask
        return (
            ("post-only", market.best_ask - 1),
            (OTHERS, None if others is None else others - 1),
            ("level spacing", None if last is None else last - 1),
        )
    others = market.others_bid
    return (
        ("post-only", market.best_bid + 1),
        (OTHERS, None if others is None else others + 1),
        ("level spacing", None if last is None else last + 1),
    )


def plan(
    wished: list[Wish],
    live: tuple[Order, ...],
    *,
    instrument: Instrument,
    keep_ticks: float,
    is_rising: bool,
    may_place: Callable[[Side], bool],
    next_id: Callable[[], str],
) -> Plan:
    """Commands that turn `live` into `wished`.

    `is_rising`: the market moved up since the last decision, so asks retreat and go first. `may_place` is
    False for a side that is on hold after a refusal: its orders are still canceled when they are wrong.
    """
    slots: dict[tuple[Side, int], list[Order]] = {}
    for order in live:
        slots.setdefault((order.side, order.level), []).append(order)
    cancels: list[Cancel] = []
    places: list[tuple[Side, Wish]] = []
    kept = 0
    wanted: set[tuple[Side, int]] = set()
    top_bid: int | None = None
    low_ask: int | None = None
    for order in live:
        if order.side is Side.BUY:
            top_bid = order.ticks if top_bid is None or order.ticks > top_bid else top_bid
        else:
            low_ask = order.ticks if low_ask is None or order.ticks < low_ask else low_ask
    for wish in wished:
        slot = (wish.side, wish.level)
        wanted.add(slot)
        canceling = 0
        holds = False
        for order in slots.get(slot, ()):
            if order.request is Request.CANCEL:
                canceling += 1
            elif order.is_unknown or order.request is not None:
                holds = True
            elif _fits(order, wish, keep_ticks) and not holds:
                holds = True
                kept += 1
            else:
                cancels.append(Cancel(order.client_id, order.instrument, _why_not(order, wish, keep_ticks)))
                canceling += 1
        if wish.side is Side.BUY:
            meets = low_ask is not None and wish.ticks >= low_ask
        else:
            meets = top_bid is not None and wish.ticks <= top_bid
        if not holds and not meets and canceling <= 1 and may_place(wish.side):
            places.append((wish.side, wish))
    for slot, orders in slots.items():
        if slot in wanted:
            continue
        for order in orders:
            if order.request is None and not order.is_unknown:
                cancels.append(Cancel(order.client_id, order.instrument, "not wished any more"))
    if not cancels and not places:
        return Plan((), (), (), kept)
    first = Side.SELL if is_rising else Side.BUY
    side_of = {order.client_id: order.side for order in live}
    cancels.sort(key=lambda c: side_of[c.client_id] is not first)
    places.sort(key=lambda p: p[0] is not first)
    commands: list[Command] = [*cancels]
    for side, wish in places:
        commands.append(
            Place(next_id(), instrument.id, side, wish.ticks, wish.lots, level=wish.level, why=wish.why)
        )
    return Plan(tuple(commands), (), (), kept)


def _fits(order: Order, wish: Wish, keep_ticks: float) -> bool:
    left = order.lots - order.filled_lots
    return (
        abs(order.ticks - wish.ticks) <= keep_ticks
        and LEAST_LEFT * wish.lots <= left <= MOST_LEFT * wish.lots
    )


def _why_not(order: Order, wish: Wish, keep_ticks: float) -> str:
    moved = wish.ticks - order.ticks
    if abs(moved) > keep_ticks:
        return f"wished price moved {moved:+d} ticks, kept up to {keep_ticks:.1f}"
    return f"{order.open_lots} lots left of {wish.lots} wished"


def cancel_everything(live: tuple[Order, ...], why: str, *, doubtful_too: bool = True) -> tuple[Command, ...]:
    """Cancels for every live order that waits for none yet; unknown ones only when `doubtful_too`."""
    return tuple(
        Cancel(order.client_id, order.instrument, why)
        for order in live
        if order.request is not Request.CANCEL and (doubtful_too or not order.is_unknown)
    )


def cancel_what_adds(
    live: tuple[Order, ...], position_lots: int, why: str, *, doubtful_too: bool = True
) -> tuple[Command, ...]:
    """Pause: cancel what would add risk. Orders that reduce the position stay, best first, up to its size."""
    reducing = Side.SELL if position_lots > 0 else Side.BUY
    left = abs(position_lots)
    adding: list[Order] = []
    for order in sorted(live, key=lambda o: o.level):
        if order.side is reducing and order.open_lots <= left:
            left -= order.open_lots
        else:
            adding.append(order)
    return cancel_everything(tuple(adding), why, doubtful_too=doubtful_too)
