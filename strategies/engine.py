"""One worker's engine: `step(event) -> Step`. No I/O, no clock, no thread.

Hides: when a decision is due, which rule silences a side, holds after refusals, the join of strategy, plan
and risk. It is told the time by each event's `at_ns` and speaks only through the Step it returns; the
lane sends what was approved.

A decision is due on everything that may change it: a new touch, a fill, an answer, a report, a link, the
operator, a timer. `wake_ns` says when it wants a Timer if nothing else comes. The rules that silence, in
order: not started, stopping, paused, duration over, account stream, reconciliation, the operator's way
in, the store, no book, one-sided, crossed, stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from api.ledger import Ledger
from api.orders import OwnOrders
from api.risk import Gate, Limits, RiskView, check
from api.types import (
    Amend,
    Answered,
    Approved,
    BalancesHeard,
    Book,
    BookChanged,
    BookLost,
    Cancel,
    CancelAll,
    Command,
    Event,
    Fill,
    FillHeard,
    Instrument,
    LinkChanged,
    Order,
    OrderHeard,
    Outcome,
    Place,
    Refused,
    Request,
    SetParams,
    SetTrading,
    Side,
    Step,
    Targets,
    Term,
    Trading,
)
from strategies.base import Params, Shared, State, Strategy
from strategies.plan import Market, cancel_everything, cancel_what_adds, plan, wishes

REFUSED_HOLD_S = 1.0  # pause of a side after the venue or the gate refused an order of it
FUNDS_HOLD_S = 5.0  # and after it refused for lack of funds
CANCEL_AGAIN_S = 1.0  # how soon a cancel that failed or is in doubt is sent again
MISSING_FILL_S = (
    1.0  # a report that names more than the fills we heard: how long the fills may still be under way
)
NEVER_NS = 2**63 - 1
BOTH = (Side.BUY, Side.SELL)
_LINKS = (
    ("account", "account stream"),
    ("orders", "account"),
    ("operator", "operator's way in"),
    ("store", "store"),
)


@dataclass(frozen=True, slots=True)
class SideShown:
    """One side as it stands: the best wished price with its terms, and why it is silent."""

    reason: str | None
    ticks: int | None
    lots: int
    orders: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """A ledger's figures at one moment; quote currency, base amounts in base, `wear_rate` in percent."""

    position: Decimal
    entry_price: Decimal | None
    realized: Decimal
    unrealized: Decimal | None
    fees: Decimal
    net: Decimal | None
    wear_rate: Decimal | None
    traded_quote: Decimal
    trades: int
    buys: int
    sells: int
    maker_buy_base: Decimal
    maker_sell_base: Decimal
    taker_buy_base: Decimal
    taker_sell_base: Decimal


def figures(ledger: Ledger, mid: Decimal | None) -> Figures:
    """What the ledger says now, with the position valued at `mid` (None: unknown)."""
    return Figures(
        position=ledger.position,
        entry_price=ledger.entry_price,
        realized=ledger.realized,
        unrealized=ledger.unrealized(mid),
        fees=ledger.fees,
        net=ledger.net(mid),
        wear_rate=ledger.wear_rate(mid),
        traded_quote=ledger.traded_quote,
        trades=ledger.trades,
        buys=ledger.buys,
        sells=ledger.sells,
        maker_buy_base=ledger.maker_buy_base,
        maker_sell_base=ledger.maker_sell_base,
        taker_buy_base=ledger.taker_buy_base,
        taker_sell_base=ledger.taker_sell_base,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """An immutable picture of an engine, made by the lane for everybody else."""

    worker: str
    at_ns: int
    trading: Trading
    reason: str
    word: str
    buy: SideShown
    sell: SideShown
    book: Book | None
    mid: Decimal | None
    position_lots: int
    orders: tuple[Order, ...]
    base_total: Decimal | None
    quote_total: Decimal | None
    sent: int
    canceled: int
    refused: int
    unknown: int
    ended_filled: int
    params: Params
    limits: Limits
    version: int
    started_ns: int | None
    life: Figures
    run: Figures
    fills: int


class Engine:
    """See the module docstring.

    Args:
        next_id: a fresh client id of this worker.
        others_touch: best bid and ask ticks of our other workers here.
        fills: what the store knows of earlier runs, in time order.
    """

    def __init__(
        self,
        worker: str,
        instrument: Instrument,
        strategy: Strategy,
        params: Params,
        limits: Limits,
        *,
        version: int,
        next_id: Callable[[], str],
        others_touch: Callable[[], tuple[int | None, int | None]],
        fills: tuple[Fill, ...] = (),
    ) -> None:
        self.worker = worker
        self.instrument = instrument
        self.strategy = strategy
        self.params = params
        self.gate = Gate(limits, instrument)
        self.version = version
        self.orders = OwnOrders(instrument.id)
        self.ledger = Ledger()
        self.run_ledger = Ledger()
        self.trading = Trading.DISARMED
        self.reason = "not started"
        self.started_ns: int | None = None
        self.wake_ns = NEVER_NS
        self.refused_count = 0
        self.fill_count = 0
        self.needs_reconcile = False
        self.book: Book | None = None
        self._book_reason = "no market data yet"
        self._shared: Shared = strategy.shared(params)
        self._links = {
            "account": "not connected yet",
            "orders": "not reconciled yet",
            "operator": "",
            "store": "",
        }
        self._base_total: Decimal | None = None
        self._quote_total: Decimal | None = None
        self._touch: tuple[int, int] = (0, 0)
        self._mid_sum = 0
        self._rising = False
        self._holds: dict[Side, tuple[int, str]] = {}
        self._cancel_hold_ns = 0
        self._doubt_cancel_ns = 0
        self._limits_given = limits
        self._seq = 0
        self._wished: Targets | None = None
        self._silent: tuple[tuple[Side, str], ...] = tuple((side, "not started") for side in BOTH)
        self._best: dict[Side, tuple[int, tuple[Term, ...]]] = {}
        self._next_id = next_id
        self._others_touch = others_touch
        self._dirty = False
        self._is_silenced = True
        self._short_ns: int | None = None
        self._refused: set[tuple[str, int | str]] = set()
        self.orders.restore(fills)
        for fill in fills:
            self.ledger.apply(fill, instrument)
            self.fill_count += 1

    # ------------------------------------------------------------------ the one entry

    def step(self, event: Event) -> Step | None:
        """Hear one event, decide if it matters. None: heard, and nothing to decide."""
        if isinstance(event, BookChanged):
            if not self._hear_book(event):
                return None
        else:
            self._hear(event)
        return self._decide(event)

    # ------------------------------------------------------------------ hearing

    def _hear_book(self, event: BookChanged) -> bool:
        book = event.book
        self.book = book
        if not book.is_two_sided:
            return True
        touch = (book.bids[0][0], book.asks[0][0])
        if (
            touch == self._touch
            and not self.strategy.reads_depth
            and not self._dirty
            and not self._is_silenced
            and event.at_ns < self.wake_ns
        ):
            return False
        self._touch = touch
        total = touch[0] + touch[1]
        if total != self._mid_sum:
            self._rising = total > self._mid_sum
            self._mid_sum = total
        return True

    def _hear(self, event: Event) -> None:
        if isinstance(event, FillHeard):
            if self.orders.filled(event.fill, event.at_ns):
                self.ledger.apply(event.fill, self.instrument)
                self.run_ledger.apply(event.fill, self.instrument)
                self.fill_count += 1
        elif isinstance(event, Answered):
            self._hear_answer(event)
        elif isinstance(event, OrderHeard):
            before = self.orders.impossible
            self.orders.heard(event.report, event.at_ns)
            self.needs_reconcile = self.needs_reconcile or self.orders.impossible > before
        elif isinstance(event, BookLost):
            self.book, self._book_reason, self._touch = None, event.reason, (0, 0)
        elif isinstance(event, LinkChanged):
            self._links[event.link] = "" if event.is_up else event.reason or "down"
            if event.link == "account":
                self._links["orders"] = "not reconciled yet"
        elif isinstance(event, BalancesHeard):
            for balance in event.balances:
                if balance.asset == self.instrument.base:
                    self._base_total = balance.total
                elif balance.asset == self.instrument.quote:
                    self._quote_total = balance.total
        elif isinstance(event, SetTrading):
            self._set_trading(event)
        elif isinstance(event, SetParams):
            self.params, self.version = event.params, event.version
            self._shared = self.strategy.shared(event.params)
            if event.limits != self._limits_given:
                self._limits_given = event.limits
                self.gate = Gate(event.limits, self.instrument)

    def _hear_answer(self, answer: Answered) -> None:
        before = self.orders.impossible
        order = self.orders.answered(answer)
        self.needs_reconcile = self.needs_reconcile or self.orders.impossible > before
        if answer.outcome is Outcome.ACCEPTED or order is None:
            return
        if answer.request is Request.CANCEL:
            if answer.error != "UnknownOrder" and answer.outcome is not Outcome.UNKNOWN:
                pause_ns = int(max(answer.retry_after_s, CANCEL_AGAIN_S) * 1e9)
                self._cancel_hold_ns = answer.at_ns + pause_ns
            return
        self.refused_count += 1
        if answer.error == "WouldCross":
            return  # the book moved under it; the next book decides again
        pause_s = FUNDS_HOLD_S if answer.error == "InsufficientFunds" else REFUSED_HOLD_S
        until_ns = answer.at_ns + int(max(pause_s, answer.retry_after_s) * 1e9)
        sides = BOTH if answer.outcome in (Outcome.RATE_LIMITED, Outcome.UNAUTHORIZED) else (order.side,)
        for side in sides:
            self._holds[side] = (
                until_ns,
                f"on hold after {answer.error or answer.outcome.value}: {answer.reason}",
            )

    def _set_trading(self, event: SetTrading) -> None:
        if event.trading is Trading.RUN and self.trading in (Trading.DISARMED, Trading.STOP):
            self.started_ns = event.at_ns
            self.run_ledger = self.ledger.carry()
            self._holds.clear()
        if event.trading is Trading.DISARMED and self.orders.live_count:
            return  # it is disarmed when nothing of it is left, not before
        self.trading = event.trading
        self.reason = event.reason

    # ------------------------------------------------------------------ deciding

    def _decide(self, event: Event) -> Step:
        now_ns = event.at_ns
        self._seq += 1
        self._dirty = False
        live = tuple(self.orders.live())
        self._best.clear()
        self._wished = None
        notes: tuple[str, ...] = ()
        silence, commands = self._silenced(event, live, now_ns)
        self._is_silenced = silence is not None  # a fresh book may end it, also one with the same touch
        self._silent = tuple((side, silence) for side in BOTH) if silence else ()
        if silence is None:
            commands, notes = self._quote(live, now_ns)
        if now_ns < self._cancel_hold_ns:
            commands = tuple(c for c in commands if not isinstance(c, Cancel))
        approved, refused = self._check(commands, live, now_ns)
        for grant in approved:
            command = grant.command
            if isinstance(command, Place):
                self.orders.placing(command, now_ns)
            else:
                self.orders.asking(command, now_ns)
        if refused:
            self._note_refusals(refused, now_ns)
        elif commands:
            self._refused = set()
        self._look_for_missing_fills(now_ns)
        self._set_wake(now_ns)
        return Step(self.worker, self._seq, event, self._wished, approved, refused, self._silent, notes)

    def _silenced(
        self, event: Event, live: tuple[Order, ...], now_ns: int
    ) -> tuple[str | None, tuple[Command, ...]]:
        """The first rule that silences everything, and the cancels it asks for."""
        doubtful_too = now_ns - self._doubt_cancel_ns >= int(CANCEL_AGAIN_S * 1e9)
        if self.trading in (Trading.RUN, Trading.PAUSE) and self._is_over(now_ns):
            self.trading = Trading.STOP
            self.reason = f"duration of {self._shared.duration_s:g} s is over"
        if self.trading is Trading.PAUSE and self._first_loss(event, now_ns) is None:
            self._doubt_cancel_ns = now_ns if doubtful_too else self._doubt_cancel_ns
            adding = cancel_what_adds(live, self.orders.position_lots, "paused", doubtful_too=doubtful_too)
            return self.reason or "paused", adding
        silence = self._first_rule(event, now_ns)
        if silence is None:
            return None, ()
        if not live:
            return silence, ()
        self._doubt_cancel_ns = now_ns if doubtful_too else self._doubt_cancel_ns
        return silence, cancel_everything(live, silence, doubtful_too=doubtful_too)

    def _first_rule(self, event: Event, now_ns: int) -> str | None:
        if self.trading is Trading.PAUSE:
            return self._first_loss(event, now_ns)
        if self.trading is not Trading.RUN:
            return self.reason or self.trading.value
        return self._first_loss(event, now_ns)

    def _first_loss(self, event: Event, now_ns: int) -> str | None:
        """What is missing for any order to rest, first rule first: a link, the store, a fresh book."""
        if isinstance(event, CancelAll):
            return event.reason
        for link, what in _LINKS:
            if self._links[link]:
                return f"{what}: {self._links[link]}"
        book = self.book
        if book is None:
            return self._book_reason
        if not book.is_two_sided:
            return "the book has only one side" if book.bids or book.asks else "the book is empty"
        if book.bids[0][0] >= book.asks[0][0]:
            return "the book is crossed"
        age_ns = now_ns - book.recv_ns
        if age_ns > self.gate.max_age_ns:
            return f"stale book: {age_ns / 1e9:.1f} s old, allowed are {self.gate.limits.max_book_age_s:f} s"
        return None

    def _is_over(self, now_ns: int) -> bool:
        duration_s, started_ns = self._shared.duration_s, self.started_ns
        return (
            duration_s is not None and started_ns is not None and now_ns - started_ns >= int(duration_s * 1e9)
        )

    def _quote(self, live: tuple[Order, ...], now_ns: int) -> tuple[tuple[Command, ...], tuple[str, ...]]:
        book = self.book
        assert book is not None
        instrument = self.instrument
        state = State(
            instrument=instrument,
            book=book,
            now_ns=now_ns,
            position=self.orders.position_lots * instrument.lot_float,
            base_total=None if self._base_total is None else float(self._base_total),
            quote_total=None if self._quote_total is None else float(self._quote_total),
        )
        self._wished = self.strategy.targets(state, self.params)
        others = self._others_touch()
        market = Market(book.bids[0][0], book.asks[0][0], others[0], others[1])
        wished, lost, notes = wishes(self._wished.quotes, instrument, market)
        for wish in wished:
            if wish.side not in self._best:
                self._best[wish.side] = (wish.ticks, wish.why)
        made = plan(
            wished,
            live,
            instrument=instrument,
            keep_ticks=book.mid_ticks * self._shared.keep_bps / 10_000.0,
            is_rising=self._rising,
            may_place=lambda side: self._hold(side, now_ns) is None,
            next_id=self._next_id,
        )
        silent = list(self._wished.silent) + lost
        for side in BOTH:
            hold = self._hold(side, now_ns)
            if hold is not None and all(s is not side for s, _ in silent):
                silent.append((side, hold))
        self._silent = tuple(silent)
        return made.commands, tuple(notes)

    def _hold(self, side: Side, now_ns: int) -> str | None:
        hold = self._holds.get(side)
        if hold is None:
            return None
        if now_ns >= hold[0]:
            del self._holds[side]
            return None
        return hold[1]

    def _check(
        self, commands: tuple[Command, ...], live: tuple[Order, ...], now_ns: int
    ) -> tuple[tuple[Approved, ...], tuple[Refused, ...]]:
        if not commands:
            return (), ()
        in_flight = frozenset((o.side, o.level, o.ticks, o.lots) for o in live if o.request is Request.PLACE)
        view = RiskView(
            worker=self.worker,
            now_ns=now_ns,
            book=self.book,
            position_lots=self.orders.position_lots,
            open_buy_lots=self.orders.open_lots(Side.BUY),
            open_sell_lots=self.orders.open_lots(Side.SELL),
            live_orders=len(live),
            is_reducing=self.trading is Trading.PAUSE,
            in_flight=in_flight,
        )
        return check(view, self.gate, commands)

    def _note_refusals(self, refused: tuple[Refused, ...], now_ns: int) -> None:
        silent = list(self._silent)
        named: set[tuple[str, int | str]] = set()
        for no in refused:
            if isinstance(no.command, Place):
                named.add((f"{no.rule} {no.command.side.value}", no.command.level))
            elif isinstance(no.command, Amend):
                named.add((no.rule, no.command.client_id))
        self.refused_count += len(named - self._refused)  # a refusal that goes on is one refusal
        self._refused = named
        for no in refused:
            if not isinstance(no.command, Place):
                continue
            side = no.command.side
            if all(s is not side for s, _ in silent) and not any(o.side is side for o in self.orders.live()):
                silent.append((side, f"{no.rule}: {no.text}"))
            if no.rule == "message-rate":
                self._dirty = True  # try again at the next book, whatever its touch
        self._silent = tuple(silent)

    def _look_for_missing_fills(self, now_ns: int) -> None:
        """Ask for reconciliation, once, when a fill that a report implies does not come."""
        if not self.orders.short_of_fills():
            self._short_ns = None
        elif self._short_ns is None:
            self._short_ns = now_ns
        elif now_ns - self._short_ns >= int(MISSING_FILL_S * 1e9):
            self._short_ns = now_ns
            self.needs_reconcile = True

    def _set_wake(self, now_ns: int) -> None:
        wake = NEVER_NS if self._short_ns is None else self._short_ns + int(MISSING_FILL_S * 1e9)
        if self.trading in (Trading.RUN, Trading.PAUSE):
            wake = min(wake, now_ns + int(self._shared.interval_s * 1e9))
            if self.book is not None:
                stale = self.book.recv_ns + self.gate.max_age_ns + 1
                if stale > now_ns:
                    wake = min(wake, stale)
            for until_ns, _ in self._holds.values():
                wake = min(wake, until_ns)
            if self._shared.duration_s is not None and self.started_ns is not None:
                wake = min(wake, self.started_ns + int(self._shared.duration_s * 1e9))
            if self._dirty:
                wake = min(wake, now_ns + 100_000_000)
        if self.orders.live_count and (self.trading is not Trading.RUN or self._silent):
            wake = min(wake, now_ns + int(CANCEL_AGAIN_S * 1e9))
        self.wake_ns = max(wake, now_ns + 1)

    # ------------------------------------------------------------------ showing

    def shown(self, at_ns: int) -> Shown:
        """A picture of this moment."""
        book, mid = self.book, None
        if book is not None and book.is_two_sided:
            mid = self.instrument.tick * (book.bids[0][0] + book.asks[0][0]) / 2
        live = tuple(self.orders.live())
        buy, sell = self._side(Side.BUY, live), self._side(Side.SELL, live)
        return Shown(
            worker=self.worker,
            at_ns=at_ns,
            trading=self.trading,
            reason=self.reason,
            word=self._word(buy, sell, bool(live)),
            buy=buy,
            sell=sell,
            book=book,
            mid=mid,
            position_lots=self.orders.position_lots,
            orders=live,
            base_total=self._base_total,
            quote_total=self._quote_total,
            sent=self.orders.sent,
            canceled=self.orders.cancels_sent,
            refused=self.refused_count,
            unknown=self.orders.unknown_count,
            ended_filled=self.orders.ended_filled,
            params=self.params,
            limits=self.gate.limits,
            version=self.version,
            started_ns=self.started_ns,
            life=figures(self.ledger, mid),
            run=figures(self.run_ledger, mid),
            fills=self.fill_count,
        )

    def _side(self, side: Side, live: tuple[Order, ...]) -> SideShown:
        mine = [o for o in live if o.side is side and o.request is not Request.CANCEL]
        reason = next((text for s, text in self._silent if s is side), None)
        best = self._best.get(side)
        if mine:
            top = min(mine, key=lambda o: o.level)
            lots = sum(o.open_lots for o in mine)
            return SideShown(
                None if self.trading is Trading.RUN else reason, top.ticks, lots, len(mine), top.why
            )
        if best is not None and reason is None:
            return SideShown("placing", best[0], 0, 0, best[1])
        return SideShown(reason or "nothing to quote", None, 0, 0, ())

    def _word(self, buy: SideShown, sell: SideShown, has_live: bool) -> str:
        if self.trading is Trading.DISARMED:
            return "STOPPED"
        if self.trading is Trading.STOP:
            return "STOPPING" if has_live else "STOPPED"
        if self.trading is Trading.PAUSE:
            return "REDUCING" if has_live else "PAUSED"
        if self._links["account"]:
            return "DISCONNECTED"
        quoting = bool(buy.orders) + bool(sell.orders)
        return ("WAITING", "ONE-SIDED", "QUOTING")[quoting]
