"""One paper market: where our resting orders stand in the real queue, and what the real tape and book give
them.

Pure: integer ticks and lots, no clock, no thread, no I/O, no chance. Knows nothing of money, delays or
messages; `core` tells it what arrived and when, and is told of fills and endings through `Desk`. The real
market is read through a `DepthView`.

**The queue.** An order that rests has the displayed size at its price before it (`ahead`); everything added
later stands behind. Trades at the price take from the front: first what is ahead, then us, partially if need
be. A decrease that no trade explains is cancels of others, spread evenly over the queue: `ahead` shrinks in
proportion. That is E. Rigtorp's estimator ("Estimating order queue position", 2013) with f(x) = x, the same
as hftbacktest's `ProbQueueModel` with the identity function (`IdentityProbQueueModel`): of a decrease d of a
level of size q, ahead * d / q lots were ahead of us, rounded against us. Our orders are not part of the
displayed size.

The same execution shows up twice, as a trade and as a smaller level, and on Binance in either order (the best
bid/ask stream usually a few microseconds before the trade, the diffs up to 100 ms after it). Both are netted
within `NETTING_NS`: a trade seen first explains the decrease that follows, and a decrease seen first, taken
for cancels at first, is put back when the trade comes.

**Never better than the tape, never more than it.** We are filled at our own limit price, and by

- a trade at our price: with what is left of it after what stood before us;
- a trade through our price (lower than our bid, higher than our ask): everything at our price must have gone
  first, so we are first, up to the trade's size;
- the book crossing us without a trade (the best ask falls to or below our bid, or the mirror): with the
  displayed size of the levels that cross.

One trade's size is given out once, best price first, then by arrival. A displayed lot is given out once too:
what we took of a level is remembered until the level itself has shed as much or is gone, so a taker cannot
eat it twice; size that is new at the level can be taken.

**Takers** walk the displayed levels and the orders of other accounts that rest here, price by price, and
within a price by queue. Meeting an order of the same account is settled by the self-trade mode.
"""

from __future__ import annotations

from typing import Protocol

from api.exchange import DepthView
from api.types import Instrument, Side, Status, Trade
from api.venues.paper.account import PaperOrder

NETTING_NS = 250_000_000
"""Within this a trade and a decrease of its level are one event: the diff stream's 100 ms, the next one's,
and some jitter."""

SELF_TRADE = "self-trade prevention"


class Desk(Protocol):
    """Who is told. `core.PaperVenue` is one."""

    def filled(self, order: PaperOrder, ticks: int, lots: int, is_maker: bool, at_ns: int) -> None:
        """Book the fill and raise `order.filled` by `lots`."""

    def ended(self, order: PaperOrder, status: Status, reason: str, at_ns: int) -> None:
        """The order left the book for another reason than being filled."""


class _Level:
    """Our orders at one price, by arrival, and what the real level there looks like."""

    __slots__ = ("displayed", "gone", "gone_ns", "orders", "ticks", "traded", "traded_ns")

    def __init__(self, ticks: int, displayed: int) -> None:
        self.ticks = ticks
        self.displayed = displayed
        self.orders: list[PaperOrder] = []
        self.traded = 0  # traded here, not yet seen as a decrease
        self.traded_ns = 0
        self.gone = 0  # decreases not explained by a trade, yet
        self.gone_ns = 0


class PaperMarket:
    """One instrument. Levels of ours are kept best first; there are few of them.

    Args:
        instrument: exact terms; only its id is used for messages.
        desk: told of fills and endings, synchronously.
        self_trade: one of `settings.SELF_TRADE_MODES`.
    """

    def __init__(self, instrument: Instrument, desk: Desk, self_trade: str) -> None:
        self.instrument = instrument
        self.view: DepthView | None = None  # None while the real book is not known
        self._desk = desk
        self._self_trade = self_trade
        self._bids: list[_Level] = []
        self._asks: list[_Level] = []
        self._eaten: dict[tuple[bool, int], list[int]] = {}  # (is_bid, ticks) -> [displayed, taken by us]

    # ------------------------------------------------------------------ what the real market did

    def on_book(self, view: DepthView, at_ns: int) -> None:
        """The real book changed. Called for every change, so it costs next to nothing when no level of ours
        did."""
        if self.view is not view:
            if not view.is_synced:
                self.on_lost()
                return
            self._found(view)
        elif not view.is_synced:
            self.on_lost()
            return
        if self._eaten:
            self._refresh_eaten(view)
        bids, asks = self._bids, self._asks
        if bids:
            for level in bids:
                lots = view.lots_at(True, level.ticks)
                if lots != level.displayed:
                    _resize(level, lots, at_ns)
            best = view.best_ask
            if best is not None and best[0] <= bids[0].ticks:
                self._cross(bids, True, best[0], at_ns)
        if asks:
            for level in asks:
                lots = view.lots_at(False, level.ticks)
                if lots != level.displayed:
                    _resize(level, lots, at_ns)
            best = view.best_bid
            if best is not None and best[0] >= asks[0].ticks:
                self._cross(asks, False, best[0], at_ns)

    def on_trade(self, trade: Trade, at_ns: int) -> None:
        """A public trade printed."""
        is_bid = trade.side is Side.SELL  # the aggressor sold, so a bid was taken
        levels = self._bids if is_bid else self._asks
        ticks = trade.ticks
        if not levels or (levels[0].ticks < ticks if is_bid else levels[0].ticks > ticks):
            return
        left = trade.lots
        for level in tuple(levels):
            if level.ticks == ticks:
                self._trade_at(level, left, trade.lots, at_ns)
                break
            if (level.ticks < ticks) if is_bid else (level.ticks > ticks):
                break
            left = self._give_through(level, left, at_ns)
        self._drop_empty(levels)

    def on_lost(self) -> None:
        """The real book is not known until the next synced `on_book`. Trades still count; takers and new
        orders have to wait."""
        self.view = None
        self._eaten.clear()

    def use(self, view: DepthView) -> None:
        """Read the same book through this view from now on (a copy made for another thread). Nothing
        moves."""
        if self.view is not None:
            self.view = view

    # ------------------------------------------------------------------ what our accounts do

    def crosses(self, is_bid: bool, ticks: int, ignoring: PaperOrder | None = None) -> bool:
        """An order at this price would meet the displayed book or an order of ours."""
        best = None if self.view is None else (self.view.best_ask if is_bid else self.view.best_bid)
        if best is not None and (best[0] <= ticks if is_bid else best[0] >= ticks):
            return True
        for level in self._asks if is_bid else self._bids:
            if (level.ticks > ticks) if is_bid else (level.ticks < ticks):
                return False
            if any(order is not ignoring for order in level.orders):
                return True
        return False

    def can_fill(self, order: PaperOrder) -> bool:
        """Everything open of `order` could be taken at once (fill or kill), self-trade prevention
        considered."""
        left = order.open
        left -= sum(lots for _, lots in self._offered(not order.is_bid, order.ticks))
        for level in self._asks if order.is_bid else self._bids:
            if (level.ticks > order.ticks) if order.is_bid else (level.ticks < order.ticks):
                break
            for maker in level.orders:
                if maker.account != order.account or self._self_trade == "NONE":
                    left -= maker.open
                elif self._self_trade != "EXPIRE_MAKER":
                    return self._reaches_before(order, level.ticks)
        return left <= 0

    def take(self, taker: PaperOrder, at_ns: int) -> None:
        """Match a new order against what crosses it. It may end here by self-trade prevention; else the rest
        is the caller's."""
        is_bid = not taker.is_bid  # the side it takes from
        real = dict(self._offered(is_bid, taker.ticks))
        levels = self._bids if is_bid else self._asks
        ours = {
            level.ticks: level
            for level in levels
            if (level.ticks >= taker.ticks if is_bid else level.ticks <= taker.ticks)
        }
        for ticks in sorted(real.keys() | ours.keys(), reverse=is_bid):
            if not taker.open or taker.status is not Status.OPEN:
                break
            self._take_at(taker, ticks, real.get(ticks, 0), ours.get(ticks), is_bid, at_ns)
        self._drop_empty(levels)

    def rest(self, order: PaperOrder, at_ns: int) -> None:
        """Join the back of the queue at the order's price."""
        view = self.view
        displayed = 0 if view is None else view.lots_at(order.is_bid, order.ticks)
        level = self._level(order, displayed)
        if level.displayed != displayed:
            _resize(level, displayed, at_ns)
        order.ahead = displayed
        order.shed = 0
        level.orders.append(order)

    def remove(self, order: PaperOrder) -> None:
        """Take a resting order out of its queue."""
        levels = self._bids if order.is_bid else self._asks
        for level in levels:
            if level.ticks == order.ticks:
                if order in level.orders:
                    level.orders.remove(order)
                    self._drop_empty(levels)
                return

    def queue_ahead(self, order: PaperOrder) -> int | None:
        """Lots that must trade before this order does: the real ones, and open ones of ours that came
        earlier. None: not resting."""
        for level in self._bids if order.is_bid else self._asks:
            if level.ticks == order.ticks and order in level.orders:
                earlier = level.orders[: level.orders.index(order)]
                return order.ahead + sum(one.open for one in earlier)
        return None

    # ------------------------------------------------------------------ fills of resting orders

    def _trade_at(self, level: _Level, left: int, printed: int, at_ns: int) -> None:
        """A trade of `printed` lots at this price, of which `left` were not given to better prices of
        ours."""
        orders = level.orders
        seen = 0
        if level.gone:
            if at_ns - level.gone_ns <= NETTING_NS:
                seen = min(printed, level.gone)
                for order in orders:
                    back = -(-order.shed * seen // level.gone)
                    order.shed -= back
                    order.ahead += back
                level.gone -= seen
            else:
                _forget_gone(level)
        if printed > seen:
            if at_ns - level.traded_ns > NETTING_NS:
                level.traded = 0
            level.traded += printed - seen
            level.traded_ns = at_ns
        passed = 0
        for order in tuple(orders):
            step = min(left, max(0, order.ahead - passed))
            passed += step
            left -= step
            order.ahead = max(0, order.ahead - passed)
            if left:
                lots = min(left, order.open)
                left -= lots
                self._fill(level, order, order.ticks, lots, at_ns)

    def _give_through(self, level: _Level, left: int, at_ns: int) -> int:
        """Give up to `left` lots to a level that the market has gone through; what is left over.

        What has just gone ahead of us stays remembered (`shed`): the trade that explains it may print after
        the book showed it, and took those lots, not ours.
        """
        for order in tuple(level.orders):
            order.ahead = 0
            if left:
                lots = min(left, order.open)
                left -= lots
                self._fill(level, order, order.ticks, lots, at_ns)
        return left

    def _cross(self, levels: list[_Level], is_bid: bool, best_ticks: int, at_ns: int) -> None:
        """The real book stands on or through our best levels: they take what it displays there, each at its
        own price."""
        view = self.view
        assert view is not None
        own = view.best_bid if is_bid else view.best_ask
        if own is not None and (own[0] >= best_ticks if is_bid else own[0] <= best_ticks):
            return  # the view itself is crossed for a moment: no book to be filled from
        for level in tuple(levels):
            if (level.ticks < best_ticks) if is_bid else (level.ticks > best_ticks):
                break
            for ticks, offered in self._offered(not is_bid, level.ticks):
                left = self._give_through(level, offered, at_ns)
                self._eat(not is_bid, ticks, offered - left)
                if not level.orders:
                    break
            for order in level.orders:
                order.ahead = 0
        self._drop_empty(levels)

    def _fill(self, level: _Level, order: PaperOrder, ticks: int, lots: int, at_ns: int) -> None:
        if order.open == lots:
            level.orders.remove(order)
        self._desk.filled(order, ticks, lots, True, at_ns)

    # ------------------------------------------------------------------ takers

    def _take_at(
        self, taker: PaperOrder, ticks: int, real: int, level: _Level | None, is_bid: bool, at_ns: int
    ) -> None:
        passed = 0
        for maker in tuple(level.orders) if level is not None else ():
            lots = min(real, taker.open, max(0, maker.ahead - passed))
            if lots:
                self._take_real(taker, ticks, lots, is_bid, at_ns)
                real -= lots
                passed += lots
            maker.ahead = max(0, maker.ahead - passed)
            if not taker.open or taker.status is not Status.OPEN:
                continue  # those behind still move up by what was passed
            assert level is not None
            if maker.account == taker.account and self._self_trade != "NONE":
                if self._self_trade != "EXPIRE_TAKER":
                    level.orders.remove(maker)
                    self._desk.ended(maker, Status.EXPIRED, f"{SELF_TRADE}: {self._self_trade}", at_ns)
                if self._self_trade != "EXPIRE_MAKER":
                    self._desk.ended(taker, Status.EXPIRED, f"{SELF_TRADE}: {self._self_trade}", at_ns)
                continue
            lots = min(taker.open, maker.open)
            self._fill(level, maker, ticks, lots, at_ns)
            self._desk.filled(taker, ticks, lots, False, at_ns)
        lots = min(real, taker.open)
        if lots and taker.status is Status.OPEN:
            self._take_real(taker, ticks, lots, is_bid, at_ns)

    def _take_real(self, taker: PaperOrder, ticks: int, lots: int, is_bid: bool, at_ns: int) -> None:
        self._eat(is_bid, ticks, lots)
        self._desk.filled(taker, ticks, lots, False, at_ns)

    def _reaches_before(self, order: PaperOrder, stop_ticks: int) -> bool:
        """The real size strictly better than `stop_ticks`, and others' orders there, cover the order."""
        left = order.open
        for ticks, lots in self._offered(not order.is_bid, order.ticks):
            if (ticks < stop_ticks) if order.is_bid else (ticks > stop_ticks):
                left -= lots
        for level in self._asks if order.is_bid else self._bids:
            if (level.ticks < stop_ticks) if order.is_bid else (level.ticks > stop_ticks):
                left -= sum(maker.open for maker in level.orders)
        return left <= 0

    # ------------------------------------------------------------------ the displayed book, less what we took

    def _offered(self, is_bid: bool, limit_ticks: int) -> list[tuple[int, int]]:
        """(ticks, lots) of the real side, best first, no worse than the limit, that can still be taken.

        The newest touch rules: levels the slower depth stream still shows beyond it are not there any more.
        """
        view = self.view
        if view is None:
            return []
        best = view.best_bid if is_bid else view.best_ask
        if best is None or (best[0] < limit_ticks if is_bid else best[0] > limit_ticks):
            return []
        found = [best]
        for ticks, lots in view.walk(is_bid, limit_ticks):
            if (ticks < best[0]) if is_bid else (ticks > best[0]):
                found.append((ticks, lots))
        if self._eaten:
            found = [
                (ticks, lots - self._eaten[is_bid, ticks][1])
                if (is_bid, ticks) in self._eaten
                else (ticks, lots)
                for ticks, lots in found
            ]
        return [(ticks, lots) for ticks, lots in found if lots > 0]

    def _eat(self, is_bid: bool, ticks: int, lots: int) -> None:
        if lots <= 0:
            return
        known = self._eaten.get((is_bid, ticks))
        if known is not None:
            known[1] += lots
        else:
            assert self.view is not None
            self._eaten[is_bid, ticks] = [_shown(self.view, is_bid, ticks), lots]

    def _refresh_eaten(self, view: DepthView) -> None:
        for (is_bid, ticks), known in tuple(self._eaten.items()):
            lots = _shown(view, is_bid, ticks)
            if lots == known[0]:
                continue
            if lots < known[0]:
                known[1] -= known[0] - lots
            known[0] = lots
            if known[1] <= 0 or lots == 0:
                del self._eaten[is_bid, ticks]

    # ------------------------------------------------------------------ levels

    def _level(self, order: PaperOrder, displayed: int) -> _Level:
        levels = self._bids if order.is_bid else self._asks
        at = 0
        for at, level in enumerate(levels):  # noqa: B007
            if level.ticks == order.ticks:
                return level
            if (level.ticks < order.ticks) if order.is_bid else (level.ticks > order.ticks):
                break
        else:
            at = len(levels)
        made = _Level(order.ticks, displayed)
        levels.insert(at, made)
        return made

    def _drop_empty(self, levels: list[_Level]) -> None:
        for level in tuple(levels):
            if not level.orders:
                levels.remove(level)

    def _found(self, view: DepthView) -> None:
        """The book is known (again): take its sizes as they are; how they came about cannot be told."""
        was_lost = self.view is None
        self.view = view
        if not was_lost:
            return
        for levels, is_bid in ((self._bids, True), (self._asks, False)):
            for level in levels:
                level.displayed = view.lots_at(is_bid, level.ticks)
                level.traded = 0
                _forget_gone(level)
                for order in level.orders:
                    order.ahead = min(order.ahead, level.displayed)


def _resize(level: _Level, lots: int, at_ns: int) -> None:
    """The displayed size of a level of ours changed."""
    drop = level.displayed - lots
    level.displayed = lots
    if drop < 0:
        return  # what is added stands behind us
    if level.traded:
        if at_ns - level.traded_ns > NETTING_NS:
            level.traded = 0
        else:
            netted = min(drop, level.traded)
            level.traded -= netted
            drop -= netted
    if drop:
        if level.gone and at_ns - level.gone_ns > NETTING_NS:
            _forget_gone(level)
        before = lots + drop
        level.gone += drop
        level.gone_ns = at_ns
        for order in level.orders:
            cut = min(drop * order.ahead // before, order.ahead)
            order.ahead -= cut
            order.shed += cut
    for order in level.orders:
        if order.ahead > lots:  # no more can be ahead of us than is displayed
            order.ahead = lots


def _forget_gone(level: _Level) -> None:
    level.gone = 0
    for order in level.orders:
        order.shed = 0


def _shown(view: DepthView, is_bid: bool, ticks: int) -> int:
    """Displayed lots at a price, the newest touch included."""
    best = view.best_bid if is_bid else view.best_ask
    if best is None:
        return 0
    if best[0] == ticks:
        return best[1]
    if (ticks > best[0]) if is_bid else (ticks < best[0]):
        return 0
    return view.lots_at(is_bid, ticks)
