"""One account at the paper venue: its money, its orders, its fills.

Hides what is locked for what, and what the venue still remembers of finished orders. Pure, single-threaded;
knows no market and no delay. Called by `core` only.

Locks: a sell locks its base quantity; a buy locks its value plus the worse of the two fees on it, so that a
fill can always be paid and no balance ever goes below zero. What a better price or a lower fee leaves over is
released with the fill.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Mapping
from decimal import Decimal

from api.types import Balance, Fill, Instrument, InstrumentId, OrderReport, Side, Status
from api.venues.paper.instruments import needed

KEPT_CLOSED = 20_000  # finished orders that `fetch_order` still finds; a real venue archives them too
KEPT_IDS = 200_000  # client ids that a second order may not use again

ZERO = Decimal(0)


class PaperOrder:
    """One accepted order. `ahead` is the real size that stands before it in its queue, in lots."""

    __slots__ = (
        "account",
        "accepted_ns",
        "ahead",
        "changed_ns",
        "client_id",
        "closed_ns",
        "filled",
        "instrument",
        "is_bid",
        "is_mute",
        "is_twice",
        "locked",
        "lots",
        "post_only",
        "reason",
        "shed",
        "side",
        "status",
        "ticks",
        "venue_id",
    )

    def __init__(
        self,
        account: str,
        instrument: Instrument,
        client_id: str,
        venue_id: str,
        side: Side,
        ticks: int,
        lots: int,
        post_only: bool,
        accepted_ns: int,
    ) -> None:
        self.account = account
        self.instrument = instrument
        self.client_id = client_id
        self.venue_id = venue_id
        self.side = side
        self.is_bid = side is Side.BUY
        self.ticks = ticks
        self.lots = lots
        self.filled = 0
        self.ahead = 0
        self.shed = 0  # lots taken off `ahead` by decreases that no trade has explained yet
        self.post_only = post_only
        self.status = Status.OPEN
        self.reason = ""
        self.accepted_ns = self.changed_ns = accepted_ns
        self.closed_ns = 0
        self.is_twice = False
        self.is_mute = False
        self.locked = ZERO

    @property
    def open(self) -> int:
        """Lots that may still fill."""
        return self.lots - self.filled

    def report(self) -> OrderReport:
        """As it is, with the time of its last change."""
        return OrderReport(
            self.client_id,
            self.instrument.id,
            self.side,
            self.ticks,
            self.lots,
            self.status,
            self.filled,
            self.venue_id,
            self.changed_ns,
            self.reason,
        )


class PaperAccount:
    """See the module docstring. Amounts are exact decimals in units of the asset."""

    def __init__(self, name: str, balances: Mapping[str, Decimal]) -> None:
        self.name = name
        self.open: dict[str, PaperOrder] = {}
        self.fills: dict[InstrumentId, list[Fill]] = {}
        self.arrivals: dict[
            str, int
        ] = {}  # client id -> when its newest command arrives: later ones stay behind it
        self.is_changed = False  # balances moved since they were last told
        self.cut_from_ns = self.cut_until_ns = 0
        self.dead_man_ns: int | None = None
        self.list_as_of_ns = self.list_until_ns = 0
        self.rate_window = -1
        self.rate_used = 0
        self._free = dict(balances)
        self._locked: dict[str, Decimal] = dict.fromkeys(balances, ZERO)
        self._told: dict[str, Balance] = {}
        self._closed: OrderedDict[str, PaperOrder] = OrderedDict()
        self._ids: set[str] = set()
        self._ids_order: deque[str] = deque()

    # ------------------------------------------------------------------ money

    def free(self, asset: str) -> Decimal:
        return self._free.get(asset, ZERO)

    def balances(self) -> tuple[Balance, ...]:
        """Every asset of the account, sorted by name."""
        told = []
        for asset in sorted(self._free):
            free, locked = self._free[asset], self._locked.get(asset, ZERO)
            known = self._told.get(asset)
            if known is None or known.free != free or known.locked != locked:
                known = self._told[asset] = Balance(asset, free, locked)
            told.append(known)
        return tuple(told)

    def lock(self, order: PaperOrder) -> bool:
        """Make the order's lock fit its price and open lots. False, and nothing changed, when free funds do
        not cover it."""
        asset, amount = needed(order.instrument, order.side, order.ticks, order.open)
        more = amount - order.locked
        if more > self._free.get(asset, ZERO):
            return False
        self._move(asset, more)
        order.locked = amount
        return True

    def release(self, order: PaperOrder) -> None:
        """Give back whatever a finished order still holds."""
        asset = order.instrument.quote if order.is_bid else order.instrument.base
        self._move(asset, -order.locked)
        order.locked = ZERO

    def settle(self, order: PaperOrder, ticks: int, lots: int, fee: Decimal) -> None:
        """Book one fill: the order's lock shrinks to what is still open, the assets change hands, the fee is
        paid in quote."""
        instrument = order.instrument
        value, qty = instrument.value(ticks, lots), instrument.qty(lots)
        order.filled += lots
        self.lock(order)  # only ever gives back here: what is open has shrunk
        if order.is_bid:
            self._free[instrument.quote] -= value + fee
            self._free[instrument.base] = self._free.get(instrument.base, ZERO) + qty
        else:
            self._free[instrument.base] -= qty
            self._free[instrument.quote] = self._free.get(instrument.quote, ZERO) + value - fee
        self.is_changed = True

    def _move(self, asset: str, amount: Decimal) -> None:
        """From free to locked (negative: back)."""
        if amount:
            self._free[asset] = self._free.get(asset, ZERO) - amount
            self._locked[asset] = self._locked.get(asset, ZERO) + amount
            self.is_changed = True

    # ------------------------------------------------------------------ orders and fills

    def knows(self, client_id: str) -> bool:
        """An order with this id was accepted before."""
        return client_id in self._ids

    def add(self, order: PaperOrder) -> None:
        self.open[order.client_id] = order
        self._ids.add(order.client_id)
        self._ids_order.append(order.client_id)
        if len(self._ids_order) > KEPT_IDS:
            self._ids.discard(self._ids_order.popleft())

    def close(self, order: PaperOrder, at_ns: int) -> None:
        self.open.pop(order.client_id, None)
        order.closed_ns = order.changed_ns = at_ns
        self.release(order)
        self._closed[order.client_id] = order
        if len(self._closed) > KEPT_CLOSED:
            self._closed.popitem(last=False)

    def find(self, client_id: str) -> PaperOrder | None:
        return self.open.get(client_id) or self._closed.get(client_id)

    def add_fill(self, fill: Fill) -> None:
        self.fills.setdefault(fill.instrument, []).append(fill)

    def fills_since(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        fills = self.fills.get(instrument, [])
        return tuple(fills[bisect_left(fills, since_ns, key=lambda fill: fill.venue_ns) :])

    def open_reports(
        self, instrument: InstrumentId | None, as_of_ns: int, at_ns: int
    ) -> tuple[OrderReport, ...]:
        """Open orders as they were at `as_of_ns` (as they are, when that is not in the past), oldest
        first."""
        found = [order for order in self.open.values() if order.accepted_ns <= as_of_ns]
        if as_of_ns < at_ns:
            for order in reversed(self._closed.values()):
                if order.closed_ns <= as_of_ns:
                    break
                if order.accepted_ns <= as_of_ns:
                    found.append(order)
        found.sort(key=lambda order: (order.accepted_ns, int(order.venue_id.rpartition("-")[2])))
        return tuple(
            self._report_as_of(order, as_of_ns)
            for order in found
            if instrument is None or order.instrument.id == instrument
        )

    def _report_as_of(self, order: PaperOrder, as_of_ns: int) -> OrderReport:
        since = sum(
            fill.lots
            for fill in self.fills_since(order.instrument.id, as_of_ns + 1)
            if fill.client_id == order.client_id
        )
        return OrderReport(
            order.client_id,
            order.instrument.id,
            order.side,
            order.ticks,
            order.lots,
            Status.OPEN,
            order.filled - since,
            order.venue_id,
            min(order.changed_ns, as_of_ns),
        )
