"""The money arithmetic of one worker in one market: fills in, position and profit out. Pure, exact `Decimal`.

Hides: FIFO matching in time order whatever order the fills arrive in, where a fee is taken, and how each
amount stays exact beyond 28 digits. Must not know: orders, books, threads, clocks, how fills are stored.
Called by the engine on each fill and by `database.analytics` on stored ones.

**Order.** Fills count in the order of exchange time, then trade id (shorter ids first, so that decimal
numbers sort as numbers). A late one is put in its place and what came after it is folded again, from a
checkpoint close by.

**Fees.** Paid is positive, a rebate negative. In quote: 1:1. In base: at the fill's own price. In another
asset: at the rate handed in; without one the amount is kept in `unconverted_fees` and `fees_are_partial`
says so: it never counts as 0.

**Fees taken in base.** A spot venue takes them out of the asset itself, so the position changes by the
signed quantity minus that fee: a buy of 1 with a fee of 0.001 leaves 0.999. Both halves are booked: the lot
(or what it closes) is the reduced quantity at the fill's price, and `fees` carries 0.001 x price. Then
realized + unrealized - fees is exactly what the wallet gained. Anywhere but on spot the fee comes out of
the margin and the position is the plain sum.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from api.types import Fill, Instrument, InstrumentId, Side

EXACT = Context(prec=150)  # sums and products of real prices and sizes never come near: nothing is rounded
_CHECKPOINT_EVERY = 512  # fills; bounds what one late fill costs
_CHECKPOINTS_KEPT = 8
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One fill as money: `price` in quote per base, quantities in base.

    `fee_quote` is the fee's value in quote, None when no rate is known. `fee_base` is what the venue took
    out of the position.
    """

    at_ns: int
    account: str
    trade_id: str
    side: Side
    price: Decimal
    base_qty: Decimal
    is_maker: bool
    fee: Decimal
    fee_asset: str
    fee_quote: Decimal | None
    fee_base: Decimal

    @classmethod
    def of(cls, fill: Fill, instrument: Instrument, quote_per_fee_asset: Decimal | None) -> Entry:
        """What `fill` means in money. The rate is only looked at for a fee in neither base nor quote; one
        that is not a positive number counts as unknown.

        Raises:
            ValueError: a size that is not positive, a negative price, or a fee that is not a number.
        """
        if fill.lots <= 0 or fill.ticks < 0 or not fill.fee.is_finite():
            raise ValueError(
                f"{instrument.id}: impossible fill {fill.trade_id}: {fill.lots} lots at {fill.ticks} ticks, "
                f"fee {fill.fee}"
            )
        with localcontext(EXACT):
            price = instrument.price(fill.ticks)
            base_qty = instrument.qty(fill.lots) * instrument.contract_size
            fee_base = _ZERO
            fee_quote: Decimal | None
            if not fill.fee or fill.fee_asset == instrument.quote:
                fee_quote = fill.fee
            elif fill.fee_asset == instrument.base:
                fee_quote = fill.fee * price
                fee_base = fill.fee if instrument.kind == "spot" else _ZERO
            elif (
                quote_per_fee_asset is not None
                and quote_per_fee_asset.is_finite()
                and quote_per_fee_asset > 0
            ):
                fee_quote = fill.fee * quote_per_fee_asset
            else:
                fee_quote = None
        return cls(
            at_ns=fill.venue_ns,
            account=fill.account,
            trade_id=fill.trade_id,
            side=fill.side,
            price=price,
            base_qty=base_qty,
            is_maker=fill.is_maker,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            fee_quote=fee_quote,
            fee_base=fee_base,
        )

    @property
    def key(self) -> tuple[int, int, str, str]:
        """Where it belongs: exchange time, then trade id."""
        return (self.at_ns, len(self.trade_id), self.trade_id, self.account)

    @property
    def value(self) -> Decimal:
        """Quote that changed hands, fees aside."""
        with localcontext(EXACT):
            return self.price * self.base_qty


@dataclass(slots=True)
class _Totals:
    """Everything a fold changes, but for the lots."""

    position: Decimal = _ZERO
    cost: Decimal = _ZERO
    realized: Decimal = _ZERO
    maker_fees: Decimal = _ZERO
    taker_fees: Decimal = _ZERO
    traded_quote: Decimal = _ZERO
    maker_buy_base: Decimal = _ZERO
    maker_sell_base: Decimal = _ZERO
    taker_buy_base: Decimal = _ZERO
    taker_sell_base: Decimal = _ZERO
    buys: int = 0
    sells: int = 0

    def copy(self) -> _Totals:
        return _Totals(*(getattr(self, name) for name in _Totals.__slots__))


_Lot = tuple[Decimal, Decimal]  # signed base still open, price
_Checkpoint = tuple[
    int, tuple[_Lot, ...], _Totals, dict[str, Decimal]
]  # entries folded, and the state after them


class Ledger:
    """FIFO profit and position of one worker in one instrument, long and short. Base amounts in base, all
    else in quote.

    Not thread-safe: it belongs to the thread that steps the engine.
    """

    def __init__(self) -> None:
        self._instrument: InstrumentId | None = None
        self._entries: list[Entry] = []
        self._seen: set[tuple[str, str]] = set()
        self._lots: deque[_Lot] = deque()
        self._totals = _Totals()
        self._unconverted: dict[str, Decimal] = {}
        self._checkpoints: list[_Checkpoint] = [self._checkpoint()]

    def apply(self, fill: Fill, instrument: Instrument, quote_per_fee_asset: Decimal | None = None) -> bool:
        """Book one fill, in its place in time. True when it counted, False when that trade id was booked
        before.

        Args:
            quote_per_fee_asset: quote currency per unit of the fee's asset, for a fee in neither base nor
                quote.

        Raises:
            ValueError: another instrument than before, or an impossible fill; nothing was changed.
        """
        if self._instrument is not None and instrument.id != self._instrument:
            raise ValueError(f"this ledger counts {self._instrument}, not {instrument.id}")
        booked = self.book(Entry.of(fill, instrument, quote_per_fee_asset))
        self._instrument = instrument.id
        return booked

    def book(self, entry: Entry) -> bool:
        """Like `apply`, for a fill that is an `Entry` already. The caller keeps instruments apart."""
        identity = (entry.account, entry.trade_id)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        with localcontext(EXACT):
            if not self._entries or self._entries[-1].key <= entry.key:
                self._entries.append(entry)
                self._fold(entry)
                return True
            place = bisect.bisect_right(self._entries, entry.key, key=lambda e: e.key)
            self._entries.insert(place, entry)
            self._restore(place)
        return True

    def carry(self) -> Ledger:
        """The ledger of a run that starts now: the same open lots (so what is held keeps its price), every
        counter at zero.
        """
        run = Ledger()
        run._instrument = self._instrument
        run._seen = set(self._seen)
        run._lots = deque(self._lots)
        run._totals = _Totals(position=self._totals.position, cost=self._totals.cost)
        run._checkpoints = [run._checkpoint()]
        return run

    @property
    def position(self) -> Decimal:
        """Signed base held because of these fills: the exact sum, fees taken in base included."""
        return self._totals.position

    @property
    def entry_price(self) -> Decimal | None:
        """Average price of the open lots; None when flat."""
        return self._totals.cost / self._totals.position if self._totals.position else None

    @property
    def realized(self) -> Decimal:
        """Profit of what was closed, first in first out, before fees."""
        return self._totals.realized

    @property
    def fees(self) -> Decimal:
        """Every fee whose value in quote is known; see `fees_are_partial`."""
        with localcontext(EXACT):
            return self._totals.maker_fees + self._totals.taker_fees

    @property
    def maker_fees(self) -> Decimal:
        return self._totals.maker_fees

    @property
    def taker_fees(self) -> Decimal:
        return self._totals.taker_fees

    @property
    def unconverted_fees(self) -> dict[str, Decimal]:
        """Fees without a known rate, by asset, in that asset. A copy."""
        return dict(self._unconverted)

    @property
    def fees_are_partial(self) -> bool:
        """Some fee has no known value in quote; `fees`, `net` and `wear_rate` leave it out."""
        return bool(self._unconverted)

    @property
    def trades(self) -> int:
        return self._totals.buys + self._totals.sells

    @property
    def buys(self) -> int:
        return self._totals.buys

    @property
    def sells(self) -> int:
        return self._totals.sells

    @property
    def maker_buy_base(self) -> Decimal:
        return self._totals.maker_buy_base

    @property
    def maker_sell_base(self) -> Decimal:
        return self._totals.maker_sell_base

    @property
    def taker_buy_base(self) -> Decimal:
        return self._totals.taker_buy_base

    @property
    def taker_sell_base(self) -> Decimal:
        return self._totals.taker_sell_base

    @property
    def traded_quote(self) -> Decimal:
        """Sum of price x quantity over both sides."""
        return self._totals.traded_quote

    @property
    def last_ns(self) -> int | None:
        """Exchange time of the newest fill."""
        return self._entries[-1].at_ns if self._entries else None

    def unrealized(self, mid: Decimal | None) -> Decimal | None:
        """Profit if the position were closed at `mid`: 0 when flat, None when held and `mid` is unknown."""
        if not self._totals.position:
            return _ZERO
        if mid is None:
            return None
        with localcontext(EXACT):
            return self._totals.position * mid - self._totals.cost

    def net(self, mid: Decimal | None) -> Decimal | None:
        """realized + unrealized - fees; None when unrealized is unknown."""
        unrealized = self.unrealized(mid)
        if unrealized is None:
            return None
        with localcontext(EXACT):
            return self._totals.realized + unrealized - self.fees

    def wear_rate(self, mid: Decimal | None) -> Decimal | None:
        """-net / traded x 100, percent: what trading cost, so a loss is positive. None before the first
        trade.
        """
        net = self.net(mid)
        if net is None or not self._totals.traded_quote:
            return None
        return -net / self._totals.traded_quote * 100 if net else _ZERO

    def _fold(self, entry: Entry) -> None:
        """Add the newest entry to the state. Runs in the exact context."""
        totals = self._totals
        self._add_to_lots(entry.side.sign * entry.base_qty - entry.fee_base, entry.price)
        if entry.fee_quote is None:
            self._unconverted[entry.fee_asset] = self._unconverted.get(entry.fee_asset, _ZERO) + entry.fee
        elif entry.is_maker:
            totals.maker_fees += entry.fee_quote
        else:
            totals.taker_fees += entry.fee_quote
        totals.traded_quote += entry.price * entry.base_qty
        if entry.side is Side.BUY:
            totals.buys += 1
            if entry.is_maker:
                totals.maker_buy_base += entry.base_qty
            else:
                totals.taker_buy_base += entry.base_qty
        else:
            totals.sells += 1
            if entry.is_maker:
                totals.maker_sell_base += entry.base_qty
            else:
                totals.taker_sell_base += entry.base_qty
        if len(self._entries) >= self._checkpoints[-1][0] + _CHECKPOINT_EVERY:
            self._checkpoints.append(self._checkpoint())
            if len(self._checkpoints) > _CHECKPOINTS_KEPT:
                del self._checkpoints[1]  # the first one is where everything begins

    def _add_to_lots(self, delta: Decimal, price: Decimal) -> None:
        """Close the oldest lots of the other sign with `delta` (signed base), open a lot with the rest."""
        totals, lots = self._totals, self._lots
        totals.position += delta
        left = delta
        while left and lots and (lots[0][0] > 0) != (left > 0):
            held, paid = lots[0]
            if abs(held) <= abs(left):
                closed = held
                lots.popleft()
            else:
                closed = -left
                lots[0] = (held - closed, paid)
            left += closed
            totals.realized += closed * (price - paid)
            totals.cost -= closed * paid
        if left:
            lots.append((left, price))
            totals.cost += left * price

    def _checkpoint(self) -> _Checkpoint:
        return (len(self._entries), tuple(self._lots), self._totals.copy(), dict(self._unconverted))

    def _restore(self, place: int) -> None:
        """Fold again everything from the newest checkpoint at or before `place`."""
        while self._checkpoints[-1][0] > place:
            self._checkpoints.pop()
        folded, lots, totals, unconverted = self._checkpoints[-1]
        self._lots = deque(lots)
        self._totals = totals.copy()
        self._unconverted = dict(unconverted)
        again, self._entries = self._entries[folded:], self._entries[:folded]
        for entry in again:
            self._entries.append(entry)
            self._fold(entry)
