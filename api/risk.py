"""The risk gate: which commands may leave. Pure; the only place that makes `Approved`.

No limit, no order: `check` takes a complete `Limits`. Cancels always pass and are never counted against the
rate. Exposure is the worst case per side: position plus everything on that side that is working, in
flight or unknown, with no netting of opposite orders (RTS 6 Art. 15 and FIA 2015 1.2 are the yardsticks;
see the decision note on limits).

`RULES` is the closed list of refusals; faces show `rule` and `text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from api.errors import BadInput, BadInputs
from api.types import _GRANT, Amend, Approved, Book, Cancel, Command, Instrument, Place, Refused, Side

RULES = (
    "killed",
    "no-reference",
    "stale-book",
    "crossed-book",
    "price-collar",
    "below-minimum",
    "max-order-qty",
    "max-order-value",
    "max-position",
    "max-open-orders",
    "message-rate",
    "duplicate",
    "reduce-only",
)


@dataclass(frozen=True, slots=True)
class LimitField:
    """One limit as a form and a schema see it."""

    name: str
    title: str
    unit: str
    description: str
    minimum: str
    maximum: str


LIMIT_FIELDS = (
    LimitField("max_order_qty", "Largest order", "base", "No single order above this size.", "0", "1e12"),
    LimitField(
        "max_order_value",
        "Largest order value",
        "quote",
        "No single order worth more than this.",
        "0",
        "1e15",
    ),
    LimitField(
        "max_position",
        "Largest position",
        "base",
        "Worst case per side: position plus every working, in-flight and unknown order of that side.",
        "0",
        "1e12",
    ),
    LimitField(
        "price_collar_pct",
        "Price collar",
        "percent",
        "No order further than this from the reference price.",
        "0",
        "100",
    ),
    LimitField(
        "max_book_age_s", "Oldest book", "s", "No order priced from a book older than this.", "0", "3600"
    ),
    LimitField(
        "max_messages_per_s",
        "Message rate",
        "orders per s",
        "At most this many new orders and amends in any second; cancels are free.",
        "0",
        "1000",
    ),
    LimitField(
        "max_open_orders",
        "Open orders",
        "orders",
        "At most this many live orders of this worker.",
        "0",
        "1000",
    ),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of one worker; all are set, none is optional. Units as in `LIMIT_FIELDS`."""

    max_order_qty: Decimal
    max_order_value: Decimal
    max_position: Decimal
    price_collar_pct: Decimal
    max_book_age_s: Decimal
    max_messages_per_s: int
    max_open_orders: int

    def as_dict(self) -> dict[str, str | int]:
        """JSON form: decimals as text, counts as integers."""
        return {
            f.name: format(value, "f") if isinstance(value := getattr(self, f.name), Decimal) else value
            for f in fields(self)
        }


def limits_schema() -> dict[str, Any]:
    """JSON Schema of limits, in the same dialect as strategy parameters."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            f.name: {
                "type": "integer" if f.name in _COUNTS else ["string", "number"],
                "title": f.title,
                "description": f.description,
                "unit": f.unit,
                "exclusiveMinimum": 0,
                "maximum": float(f.maximum),
                "live": True,
            }
            for f in LIMIT_FIELDS
        },
    }


DECIMALS_MOST = 18  # of a limit; no venue has finer lots
_COUNTS = ("max_messages_per_s", "max_open_orders")


def parse_limits(raw: Mapping[str, Any], base: Limits | None) -> Limits:
    """Limits from what a person wrote, over `base` for what is missing.

    Raises:
        BadInputs: each unknown, non-numeric or out-of-range field, and each missing one when there is no
            base.
    """
    errors: list[BadInput] = []
    known = {f.name: f for f in LIMIT_FIELDS}
    for name in raw:
        if name not in known:
            errors.append(BadInput(f"limits.{name}", f"unknown limit; allowed: {', '.join(known)}"))
    values: dict[str, Any] = {}
    for name, f in known.items():
        if name not in raw or raw[name] is None:
            if base is None:
                errors.append(
                    BadInput(f"limits.{name}", f"missing; {f.title.lower()} in {f.unit} is required")
                )
            else:
                values[name] = getattr(base, name)
            continue
        try:
            values[name] = _number(raw[name], f)
        except BadInput as error:
            errors.append(error)
    if errors:
        raise BadInputs(tuple(errors))
    return Limits(**values)


def _number(value: Any, f: LimitField) -> Decimal | int:
    allowed = f"a number above {f.minimum} and up to {Decimal(f.maximum):f}, in {f.unit}"
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise BadInput(f"limits.{f.name}", f"must be {allowed}")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise BadInput(f"limits.{f.name}", f"{value!r} is not a number; must be {allowed}") from None
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS_MOST:
        raise BadInput(f"limits.{f.name}", f"has more than {DECIMALS_MOST} decimals; must be {allowed}")
    if not number.is_finite() or not Decimal(f.minimum) < number <= Decimal(f.maximum):
        raise BadInput(f"limits.{f.name}", f"{value} is out of range; must be {allowed}")
    if f.name in _COUNTS:
        if number != number.to_integral_value():
            raise BadInput(f"limits.{f.name}", f"{value} is not a whole number; must be {allowed}")
        return int(number)
    return number


def derive_limits(
    *,
    quantity: Decimal,
    max_orders: int,
    mid: Decimal,
    base_total: Decimal,
    quote_total: Decimal,
    instrument: Instrument,
) -> Limits:
    """Stated defaults for paper and testnets, from the order size, the number of levels and the balance.

    Largest order twice the order size and its value with a tenth to spare; largest position four full sides,
    but no more than the whole balance could carry; 5 % price collar; 2 s book age; 20 messages a second per
    level and side; twice the levels of both sides plus two as open orders (the old order and its replacement
    overlap while a cancel is under way).
    """
    max_order_qty = quantity * 2
    wealth = base_total + quote_total / mid
    max_position = min(quantity * max_orders * 4, wealth) if wealth > 0 else quantity * max_orders * 4
    step = instrument.lot
    return Limits(
        max_order_qty=_up(max_order_qty, step),
        max_order_value=_up(max_order_qty * mid * Decimal("1.1"), Decimal(1)),
        max_position=_up(max(max_position, quantity), step),
        price_collar_pct=Decimal(5),
        max_book_age_s=Decimal(2),
        max_messages_per_s=min(1000, 40 * max_orders),
        max_open_orders=min(1000, 4 * max_orders + 2),
    )


def _up(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(rounding=ROUND_UP) * step


class Gate:
    """Limits compiled to ticks and lots of one instrument, plus the message window. One per engine;
    single-threaded.

    The window holds the times of the last `max_messages_per_s` places and amends: full and younger than a
    second means no.
    """

    __slots__ = (
        "_at",
        "_ring",
        "collar",
        "instrument",
        "limits",
        "max_age_ns",
        "max_lots",
        "max_position_lots",
        "max_product",
    )

    def __init__(self, limits: Limits, instrument: Instrument) -> None:
        self.limits = limits
        self.instrument = instrument
        self.max_lots = instrument.lots(limits.max_order_qty)
        self.max_position_lots = instrument.lots(limits.max_position)
        self.max_age_ns = int(limits.max_book_age_s * 1_000_000_000)
        self.max_product = int(limits.max_order_value / instrument.unit_value)  # ticks x lots
        self.collar = float(limits.price_collar_pct) / 100.0
        self._ring = [-(10**18)] * limits.max_messages_per_s
        self._at = 0

    def may_message(self, now_ns: int) -> bool:
        return now_ns - self._ring[self._at] >= 1_000_000_000

    def count_message(self, now_ns: int) -> None:
        self._ring[self._at] = now_ns
        self._at = (self._at + 1) % len(self._ring)


@dataclass(frozen=True, slots=True)
class RiskView:
    """What the gate looks at, at one moment. `open_buy_lots` / `open_sell_lots` include in-flight and unknown
    orders.
    """

    worker: str
    now_ns: int
    book: Book | None
    position_lots: int
    open_buy_lots: int
    open_sell_lots: int
    live_orders: int
    is_reducing: bool
    in_flight: frozenset[tuple[Side, int, int, int]]
    """(side, level, ticks, lots) of places not yet answered: the same again is a duplicate."""
    amendable: Mapping[str, tuple[Side, int]] = field(default_factory=dict)
    """Live orders an amend may name: client id to (side, open lots)."""


def check(
    view: RiskView, gate: Gate, commands: Sequence[Command]
) -> tuple[tuple[Approved, ...], tuple[Refused, ...]]:
    """Approve or refuse each command, in order; each approval counts against the next."""
    approved: list[Approved] = []
    refused: list[Refused] = []
    open_lots = {Side.BUY: view.open_buy_lots, Side.SELL: view.open_sell_lots}
    live = view.live_orders
    seen = view.in_flight
    for command in commands:
        if isinstance(command, Cancel):
            approved.append(Approved(command, view.worker, _GRANT))
            continue
        no = _refusal(view, gate, command, open_lots, live, seen)
        if no is not None:
            refused.append(Refused(command, *no))
            continue
        gate.count_message(view.now_ns)
        if isinstance(command, Amend):
            side, before = view.amendable[command.client_id]
            open_lots[side] += command.lots - before
        else:
            open_lots[command.side] += command.lots
            live += 1
            seen = seen | {(command.side, command.level, command.ticks, command.lots)}
        approved.append(Approved(command, view.worker, _GRANT))
    return tuple(approved), tuple(refused)


def _refusal(
    view: RiskView,
    gate: Gate,
    command: Place | Amend,
    open_lots: dict[Side, int],
    live: int,
    seen: frozenset[tuple[Side, int, int, int]],
) -> tuple[str, str] | None:
    limits, instrument, book = gate.limits, gate.instrument, view.book
    if book is None or not book.is_two_sided:
        return "no-reference", "there is no two-sided book to compare the price with"
    age_ns = view.now_ns - book.recv_ns
    if age_ns > gate.max_age_ns:
        return "stale-book", f"the book is {age_ns / 1e9:.2f} s old, allowed are {limits.max_book_age_s} s"
    if book.bids[0][0] >= book.asks[0][0]:
        return "crossed-book", "the book is crossed"
    mid = book.mid_ticks
    if abs(command.ticks - mid) > mid * gate.collar:
        away = abs(command.ticks - mid) / mid * 100.0
        return "price-collar", f"the price is {away:.3f} % from mid, allowed are {limits.price_collar_pct} %"
    if command.lots < instrument.minimum_lots(command.ticks):
        least = instrument.qty(instrument.minimum_lots(command.ticks))
        return (
            "below-minimum",
            f"size {instrument.qty(command.lots)} is below the venue's minimum {least} {instrument.base}",
        )
    if command.lots > gate.max_lots:
        return (
            "max-order-qty",
            f"size {instrument.qty(command.lots)} is above {limits.max_order_qty} {instrument.base}",
        )
    if command.ticks * command.lots > gate.max_product:
        value = instrument.value(command.ticks, command.lots)
        return "max-order-value", f"value {value:f} is above {limits.max_order_value} {instrument.quote}"
    if isinstance(command, Amend):
        known = view.amendable.get(command.client_id)
        if known is None:
            return "duplicate", "the order to amend is not live"
        side, others = known[0], open_lots[known[0]] - known[1]
    else:
        side, others = command.side, open_lots[command.side]
    reduces = view.position_lots * side.sign < 0
    to_come = others + command.lots
    if view.is_reducing and (not reduces or to_come > abs(view.position_lots)):
        return "reduce-only", "paused: only orders that reduce the position may be sent"
    worst = abs(view.position_lots * side.sign + to_come)
    if worst > gate.max_position_lots and not (reduces and to_come <= abs(view.position_lots)):
        return (
            "max-position",
            f"worst case {instrument.qty(worst)} is above {limits.max_position} {instrument.base}",
        )
    if isinstance(command, Place):
        if live + 1 > limits.max_open_orders:
            return "max-open-orders", f"{live} orders are live, allowed are {limits.max_open_orders}"
        if (command.side, command.level, command.ticks, command.lots) in seen:
            return "duplicate", "the same order is already on its way"
    if not gate.may_message(view.now_ns):
        return "message-rate", f"more than {limits.max_messages_per_s} orders within a second"
    return None
