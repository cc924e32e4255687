"""The value types everything speaks in. Standard library only; knows no venue, no thread, no clock.

Three kinds of number in three zones, with two doors: `float` for opinion (fair value, targets), `int` ticks
and lots for books, own orders and comparison, `Decimal` for money, the wire, the database and JSON (as
text). `Instrument.ticks` / `Instrument.lots` are door one, `Instrument.price` / `Instrument.qty` door
two. Ticks never leave the process.

All types are frozen and slotted; collections in them are tuples. Times are UTC nanoseconds: `venue_ns` is
what the venue wrote, `recv_ns` when we received it, `at_ns` when the deciding code is told.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

SNAP = 1e-6  # share of one tick or lot within which a number counts as exactly on it (float noise, not money)


class Side(enum.Enum):
    BUY = "buy"
    SELL = "sell"

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python code

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell: what a fill does to the position."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class InstrumentId(str):
    """`venue:SYMBOL` in canonical form, such as `paper:BTC-USDT`. A `str`, so it hashes and serialises as
    one.
    """

    __slots__ = ()

    @classmethod
    def of(cls, venue: str, symbol: str) -> InstrumentId:
        return cls(f"{venue}:{symbol}")

    @property
    def venue(self) -> str:
        return self.partition(":")[0]

    @property
    def symbol(self) -> str:
        return self.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Instrument:
    """What can be traded, exactly. Amounts in `base` and `quote` units; fees as fractions of value, paid is
    positive.

    `venue_symbol` is the venue's own spelling. `contract_size` is base units per lot-unit of quantity (1 for
    spot).
    """

    id: InstrumentId
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_qty: Decimal
    min_notional: Decimal
    maker_fee: Decimal
    taker_fee: Decimal
    venue_symbol: str
    kind: str = "spot"
    contract_size: Decimal = Decimal(1)
    max_qty: Decimal | None = None
    tick_float: float = field(init=False, repr=False, compare=False)
    lot_float: float = field(init=False, repr=False, compare=False)
    unit_value: Decimal = field(init=False, repr=False, compare=False)
    """Quote value of one lot at one tick; `ticks * lots * unit_value` is the value of an order, exactly."""
    _least_lots: int = field(init=False, repr=False, compare=False)
    _least_product: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tick <= 0 or self.lot <= 0:
            raise ValueError(f"{self.id}: tick and lot must be positive, got {self.tick} and {self.lot}")
        object.__setattr__(self, "tick_float", float(self.tick))
        object.__setattr__(self, "lot_float", float(self.lot))
        object.__setattr__(self, "unit_value", self.tick * self.lot * self.contract_size)
        object.__setattr__(self, "_least_lots", max(1, math.ceil(self.min_qty / self.lot)))
        object.__setattr__(self, "_least_product", math.ceil(self.min_notional / self.unit_value))

    @property
    def symbol(self) -> str:
        return self.id.symbol

    def ticks(self, price: Decimal | float | str, side: Side) -> int:
        """Door one: a price in quote per base to ticks. On a tick within a millionth of it: that tick; else
        rounded away from the market (a buy down, a sell up), so that rounding never makes a quote more
        aggressive.

        Raises:
            ValueError: the price is not a finite number.
        """
        if isinstance(price, float):
            ratio = price / self.tick_float
            nearest = round(ratio)
            if abs(ratio - nearest) <= SNAP:
                return nearest
            return math.floor(ratio) if side is Side.BUY else math.ceil(ratio)
        exact = Decimal(price) / self.tick
        if not exact.is_finite():
            raise ValueError(f"{self.id}: price {price} is not finite")
        whole = round(exact)
        if abs(exact - whole) <= Decimal("0.000001"):
            return whole
        return math.floor(exact) if side is Side.BUY else math.ceil(exact)

    def price(self, ticks: int) -> Decimal:
        """Door two: ticks to a price in quote per base, with the tick's own number of decimals."""
        return self.tick * ticks

    def lots(self, qty: Decimal | float | str) -> int:
        """Base quantity to whole lots, rounded down (snapped when within a millionth of a lot)."""
        if isinstance(qty, float):
            ratio = qty / self.lot_float
            nearest = round(ratio)
            return nearest if abs(ratio - nearest) <= SNAP else math.floor(ratio)
        exact = Decimal(qty) / self.lot
        whole = round(exact)
        return whole if abs(exact - whole) <= Decimal("0.000001") else math.floor(exact)

    def qty(self, lots: int) -> Decimal:
        """Lots to a base quantity."""
        return self.lot * lots

    def value(self, ticks: int, lots: int) -> Decimal:
        """Quote value of `lots` at `ticks`, exact."""
        return self.unit_value * (ticks * lots)

    def minimum_lots(self, ticks: int) -> int:
        """The smallest number of lots that meets both minimum quantity and minimum value at this price."""
        if ticks <= 0:
            return self._least_lots
        return max(self._least_lots, -(-self._least_product // ticks))


Level: TypeAlias = tuple[int, int]
"""(ticks, lots)."""


@dataclass(frozen=True, slots=True)
class Book:
    """The best levels of one market at one moment, best first. Never crossed, may be one-sided or empty.

    `seq` is the venue's update id. `levels` beyond the published depth are not here.
    """

    instrument: InstrumentId
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    venue_ns: int
    recv_ns: int
    seq: int

    @property
    def is_two_sided(self) -> bool:
        return bool(self.bids) and bool(self.asks)

    @property
    def mid_ticks(self) -> float:
        """Half way between best bid and ask, in ticks. Only of a two-sided book."""
        return (self.bids[0][0] + self.asks[0][0]) / 2


@dataclass(frozen=True, slots=True)
class Trade:
    """One public trade. `side` is the aggressor's side: SELL took a resting bid."""

    instrument: InstrumentId
    trade_id: str
    side: Side
    ticks: int
    lots: int
    venue_ns: int
    recv_ns: int


Term: TypeAlias = tuple[str, float]
"""One named part of a price, in quote currency. The terms of a quote, summed, are its price."""


@dataclass(frozen=True, slots=True)
class Quote:
    """An ideal order: unrounded price (quote per base) and size (base), with the terms of the price."""

    side: Side
    level: int
    price: float
    qty: float
    why: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What a strategy wants to rest now. A side without quotes says the rule that silenced it in `silent`."""

    quotes: tuple[Quote, ...]
    silent: tuple[tuple[Side, str], ...] = ()


class Tif(enum.Enum):
    __hash__ = object.__hash__

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


@dataclass(frozen=True, slots=True)
class Place:
    client_id: str
    instrument: InstrumentId
    side: Side
    ticks: int
    lots: int
    tif: Tif = Tif.GTC
    post_only: bool = True
    reduce_only: bool = False
    level: int = 0
    why: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Amend:
    client_id: str
    instrument: InstrumentId
    ticks: int
    lots: int
    why: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    client_id: str
    instrument: InstrumentId
    why: str = ""


Command: TypeAlias = Place | Amend | Cancel

_GRANT = object()  # handed to risk.check alone; see tests/test_architecture.py


@dataclass(frozen=True, slots=True)
class Approved:
    """A command that passed the risk gate. Made only by `api.risk.check`; only it fits `Gateway.send`."""

    command: Command
    worker: str
    grant: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.grant is not _GRANT:
            raise PermissionError("only api.risk.check approves commands")


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that did not pass. `rule` is from the closed list in `api.risk`; `text` tells a person the
    numbers.
    """

    command: Command
    rule: str
    text: str


class Status(enum.Enum):
    """What the venue last said about an order."""

    __hash__ = object.__hash__

    UNSEEN = "unseen"
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED})


class Request(enum.Enum):
    """What we asked of the venue and have not heard about."""

    __hash__ = object.__hash__

    PLACE = "place"
    AMEND = "amend"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Order:
    """One order of ours. Two axes: `status` (what the venue last said) and `request` (what is unanswered).

    `is_unknown`: the last request ended without an answer that tells the outcome; exposure stays reserved.
    """

    client_id: str
    instrument: InstrumentId
    side: Side
    ticks: int
    lots: int
    level: int
    post_only: bool
    tif: Tif
    why: tuple[Term, ...]
    created_ns: int
    status: Status = Status.UNSEEN
    request: Request | None = None
    is_unknown: bool = False
    filled_lots: int = 0
    venue_id: str | None = None
    changed_ns: int = 0
    reason: str = ""

    @property
    def is_live(self) -> bool:
        """It may still trade, as far as we know."""
        return not self.status.is_final

    @property
    def open_lots(self) -> int:
        return max(0, self.lots - self.filled_lots) if self.is_live else 0


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of an order of ours. `fee` paid is positive, a rebate negative, in `fee_asset`.

    Identity: (venue, account, symbol, trade_id).
    """

    trade_id: str
    client_id: str
    venue_id: str
    account: str
    instrument: InstrumentId
    side: Side
    ticks: int
    lots: int
    fee: Decimal
    fee_asset: str
    is_maker: bool
    venue_ns: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.instrument.venue, self.account, self.instrument.symbol, self.trade_id)


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What a venue says about one order of ours, pushed or asked for. `filled_lots` is cumulative, None: not
    told.
    """

    client_id: str
    instrument: InstrumentId
    side: Side
    ticks: int
    lots: int
    status: Status
    filled_lots: int | None
    venue_id: str | None
    venue_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """One asset of one account. `total` = `free` + `locked`."""

    asset: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass(frozen=True, slots=True)
class Position:
    """Signed base quantity with its average entry price; None price when flat."""

    instrument: InstrumentId
    qty: Decimal
    entry_price: Decimal | None


class Trading(enum.Enum):
    """The operator's switch on one worker."""

    __hash__ = object.__hash__

    RUN = "run"
    PAUSE = "pause"  # cancel what would add risk, keep what reduces it, open nothing new
    STOP = "stop"  # cancel everything, open nothing
    DISARMED = "disarmed"  # the state before the first start, and after a confirmed stop


# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class BookChanged:
    at_ns: int
    book: Book


@dataclass(frozen=True, slots=True)
class BookLost:
    """The book of this market is not known just now (gap, disconnect, end of tape); pull until the next
    BookChanged.
    """

    at_ns: int
    instrument: InstrumentId
    reason: str


@dataclass(frozen=True, slots=True)
class Traded:
    at_ns: int
    trade: Trade


@dataclass(frozen=True, slots=True)
class FillHeard:
    at_ns: int
    fill: Fill


@dataclass(frozen=True, slots=True)
class OrderHeard:
    at_ns: int
    report: OrderReport


class Outcome(enum.Enum):
    """How a request ended. The first five mirror the error tree (`api.errors`)."""

    __hash__ = object.__hash__

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of one request of ours. `error` is the class name in `api.errors` when it was not accepted."""

    at_ns: int
    client_id: str
    instrument: InstrumentId
    request: Request
    outcome: Outcome
    venue_id: str | None = None
    error: str = ""
    reason: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """`link` is "market" or "account". While the account link is down or being reconciled nothing new is
    sent.
    """

    at_ns: int
    venue: str
    link: str
    is_up: bool
    reason: str


@dataclass(frozen=True, slots=True)
class BalancesHeard:
    at_ns: int
    venue: str
    account: str
    balances: tuple[Balance, ...]


@dataclass(frozen=True, slots=True)
class Timer:
    at_ns: int


@dataclass(frozen=True, slots=True)
class SetTrading:
    at_ns: int
    trading: Trading
    reason: str


@dataclass(frozen=True, slots=True)
class SetParams:
    """`params` is the validated Params object of the worker's strategy, `limits` an `api.risk.Limits`."""

    at_ns: int
    params: Any
    limits: Any
    version: int


@dataclass(frozen=True, slots=True)
class CancelAll:
    at_ns: int
    reason: str


Event: TypeAlias = (
    BookChanged
    | BookLost
    | Traded
    | FillHeard
    | OrderHeard
    | Answered
    | LinkChanged
    | BalancesHeard
    | Timer
    | SetTrading
    | SetParams
    | CancelAll
)


@dataclass(frozen=True, slots=True)
class Step:
    """The record of one decision: what was heard, what was wished and why, what was sent, what was refused.

    `silent` holds, per side without a quote, the first rule that silenced it. Log, console and replay show
    this.
    """

    worker: str
    seq: int
    event: Event
    targets: Targets | None
    approved: tuple[Approved, ...]
    refused: tuple[Refused, ...]
    silent: tuple[tuple[Side, str], ...]
    notes: tuple[str, ...] = ()
