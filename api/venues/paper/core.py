"""The paper venue itself: commands of several accounts in, events for each of them out, on a clock that
others move.

Pure: no clock, no thread, no I/O; chance only inside the `Faults` handed in. Hides delays, answers, rejects,
what a fault does to each of them, and the order of simultaneous things. Must not know who carries commands or
events: `venue.py` does (one thread or several), and `server.py` over a socket.

Time. Everything that is to happen later is one entry of a heap, ordered by its due time and then by the order
in which it was decided. A command sent at t arrives at t + place_delay (cancel_delay), never before an
earlier command for the same client id; what the venue decides at t is heard at t + hear_delay. Due things run
before the market event of the same nanosecond. The host calls `run_next(now)` until it says False, and after
each True hands over what is in `outbox`, so that what is heard at a moment may be answered at that moment.
Each event's `at_ns` is when it is heard, `venue_ns` in it when it happened.

What one command leads to, in this order: Answered, OrderHeard(OPEN), then for each execution FillHeard and
OrderHeard, then BalancesHeard (all assets of the account). A reject is only Answered. Fees are charged in the
quote asset (see `instruments`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from api.errors import RateLimited, Rejected, Unavailable, UnknownOrder
from api.exchange import DepthView
from api.types import (
    Amend,
    Answered,
    Balance,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Request,
    Status,
    Tif,
    Trade,
)
from api.venues.paper.account import PaperAccount, PaperOrder
from api.venues.paper.faults import Fault, Faults
from api.venues.paper.instruments import VENUE
from api.venues.paper.matching import PaperMarket
from api.venues.paper.settings import PaperSettings

NS_PER_MS = 1_000_000

_UNHEARD = frozenset({Fault.LOST_ANSWER, Fault.LOST_COMMAND, Fault.LATE_ANSWER})
_NOT_EXECUTED: dict[Fault, tuple[Outcome, str, str]] = {
    Fault.RATE_LIMITED: (Outcome.RATE_LIMITED, "RateLimited", "too many requests (injected)"),
    Fault.UNAVAILABLE: (Outcome.UNAVAILABLE, "Unavailable", "the connection was refused (injected)"),
    Fault.UNAUTHORIZED: (Outcome.UNAUTHORIZED, "Unauthorized", "the key is not accepted (injected)"),
}
_OUTCOMES = {"RateLimited": Outcome.RATE_LIMITED, "Unavailable": Outcome.UNAVAILABLE}  # the rest: REJECTED


class _No(Exception):
    """A reject on its way to `Answered`."""

    def __init__(self, error: str, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.retry_after_s = retry_after_s


class PaperVenue:
    """See the module docstring.

    Args:
        instruments: what is listed.
        balances: what each account starts with, unless `open_account` is told otherwise.
        settings, faults: how it behaves, and what goes wrong.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        balances: Mapping[str, Decimal],
        settings: PaperSettings | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.settings = settings or PaperSettings()
        self.faults = faults or Faults()
        self.markets = {one.id: PaperMarket(one, self, self.settings.self_trade) for one in instruments}
        self.accounts: dict[str, PaperAccount] = {}
        self.outbox: list[tuple[str, Event]] = []
        self._start = dict(balances)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._seq = 0
        self._now_ns = 0
        self._orders = 0
        self._trades = 0
        self._errors = 0
        self._changed = False
        self._place_ns = round(self.settings.place_delay_ms * NS_PER_MS)
        self._cancel_ns = round(self.settings.cancel_delay_ms * NS_PER_MS)
        self._hear_ns = round(self.settings.hear_delay_ms * NS_PER_MS)

    # ------------------------------------------------------------------ time

    @property
    def now_ns(self) -> int:
        """The newest moment the venue was told of."""
        return self._now_ns

    @property
    def next_due_ns(self) -> int | None:
        """When the next thing happens by itself."""
        return self._heap[0][0] if self._heap else None

    def run_next(self, at_ns: int) -> bool:
        """Do the next thing that is due at `at_ns`; False when there is none (the clock then stands at
        `at_ns`)."""
        heap = self._heap
        if heap and heap[0][0] <= at_ns:
            due_ns, _, do, args = heapq.heappop(heap)
            self._now_ns = max(self._now_ns, due_ns)
            do(due_ns, *args)
            if self._changed:
                self._tell_balances(due_ns)
            return True
        self._now_ns = max(self._now_ns, at_ns)
        return False

    def advance(self, at_ns: int) -> list[tuple[str, Event]]:
        """Run everything due at `at_ns` and hand over all (account, event) in order."""
        while self.run_next(at_ns):
            pass
        told, self.outbox = self.outbox, []
        return told

    # ------------------------------------------------------------------ the real market

    def on_book(self, view: DepthView, at_ns: int) -> None:
        """The real book changed. Run what is due at `at_ns` first."""
        market = self.markets.get(view.instrument.id)
        if market is not None:
            market.on_book(view, at_ns)
            if self._changed:
                self._tell_balances(at_ns)

    def on_trade(self, trade: Trade, at_ns: int) -> None:
        """A public trade printed. Run what is due at `at_ns` first."""
        market = self.markets.get(trade.instrument)
        if market is not None:
            market.on_trade(trade, at_ns)
            if self._changed:
                self._tell_balances(at_ns)

    def on_book_lost(self, instrument: InstrumentId) -> None:
        """The real book is not known until the next `on_book`."""
        market = self.markets.get(instrument)
        if market is not None:
            market.on_lost()

    # ------------------------------------------------------------------ accounts

    def open_account(self, name: str, balances: Mapping[str, Decimal] | None = None) -> PaperAccount:
        """The account of that name; made with `balances` (default: the venue's start balances) when it is
        new."""
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = PaperAccount(name, self._start if balances is None else balances)
        return account

    def submit(self, name: str, command: Command, at_ns: int) -> None:
        """An account sends one command. Exactly one Answered follows (and a late one after an UNKNOWN)."""
        account = self.open_account(name)
        request = request_of(command)
        fault = self.faults.draw(request)
        if fault is not None and fault in _NOT_EXECUTED:
            outcome, error, reason = _NOT_EXECUTED[fault]
            wait_s = self.settings.retry_after_s if fault is Fault.RATE_LIMITED else 0.0
            due_ns = at_ns if fault is Fault.UNAVAILABLE else at_ns + self._place_ns + self._hear_ns
            self._answer(due_ns, name, command, outcome, error=error, reason=reason, retry_after_s=wait_s)
            return
        if fault in _UNHEARD and self.settings.answer_timeout_ms is not None:
            due_ns = at_ns + round(self.settings.answer_timeout_ms * NS_PER_MS)
            reason = f"no answer within {self.settings.answer_timeout_ms / 1000:g} s"
            self._answer(due_ns, name, command, Outcome.UNKNOWN, error="OutcomeUnknown", reason=reason)
        delay_ns = self._cancel_ns if request is Request.CANCEL else self._place_ns
        arrive_ns = max(at_ns + delay_ns, account.arrivals.get(command.client_id, 0))
        if fault is Fault.SERVER_ERROR:
            self._errors += 1
            reason = "HTTP 503, execution status unknown (injected)"
            self._answer(
                arrive_ns + self._hear_ns,
                name,
                command,
                Outcome.UNKNOWN,
                error="OutcomeUnknown",
                reason=reason,
            )
            if self._errors % 2 == 0:
                return
        if fault is not Fault.LOST_COMMAND:
            account.arrivals[command.client_id] = arrive_ns
            self._at(arrive_ns, self._arrive, account, command, fault, at_ns)

    def submit_cancel_all(self, name: str, instrument: InstrumentId | None, at_ns: int) -> None:
        """Cancel every open order of the account in `instrument` (None: everywhere), `cancel_delay` from
        now."""
        self._at(at_ns + self._cancel_ns, self._cancel_all, self.open_account(name), instrument, "cancel all")

    def arm_dead_man(self, name: str, timeout_s: float, at_ns: int) -> None:
        """(Re)start the account's countdown: it cancels everything of the account when it ends, and is off
        then. 0 disarms."""
        account = self.open_account(name)
        if not timeout_s > 0:
            account.dead_man_ns = None
            return
        account.dead_man_ns = at_ns + round(timeout_s * 1e9)
        self._at(account.dead_man_ns, self._dead_man, account)

    def cut_stream(self, name: str, at_ns: int, for_ms: float | None = None) -> None:
        """Cut the account's private stream now; it comes back after `for_ms` (default: the setting). What
        would have been pushed meanwhile is lost to the stream."""
        account = self.open_account(name)
        account.cut_from_ns = at_ns
        account.cut_until_ns = at_ns + round((self.settings.cut_ms if for_ms is None else for_ms) * NS_PER_MS)
        self._at(at_ns, self._link, account, False)
        self._at(account.cut_until_ns, self._link, account, True)

    # ------------------------------------------------------------------ reads (what a REST call would say
    # now)

    def check_read(self) -> None:
        """Raises what an injected fault makes of the next read or account call."""
        fault = self.faults.draw_read()
        if fault is Fault.READ_FAILED:
            raise Unavailable("the venue cannot be reached (injected)")
        if fault is Fault.READ_LIMITED:
            raise RateLimited("too many requests (injected)", retry_after_s=self.settings.retry_after_s)

    def open_orders(self, name: str, instrument: InstrumentId | None, at_ns: int) -> tuple[OrderReport, ...]:
        """Open orders, oldest first; as of earlier where lists lag."""
        account = self.open_account(name)
        as_of_ns = at_ns - round(self.settings.list_lag_ms * NS_PER_MS)
        if at_ns < account.list_until_ns:
            as_of_ns = min(as_of_ns, account.list_as_of_ns)
        return account.open_reports(instrument, as_of_ns, at_ns)

    def order(self, name: str, instrument: InstrumentId, client_id: str) -> OrderReport:
        """Raises UnknownOrder."""
        found = self.open_account(name).find(client_id)
        if found is None or found.instrument.id != instrument:
            raise UnknownOrder(f"paper knows no order {client_id} in {instrument.symbol}")
        return found.report()

    def fills(self, name: str, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        if instrument not in self.markets:
            raise Rejected(self._unlisted(instrument))
        return self.open_account(name).fills_since(instrument, since_ns)

    def balances(self, name: str) -> tuple[Balance, ...]:
        return self.open_account(name).balances()

    def queue_ahead(self, name: str, client_id: str) -> int | None:
        """Lots that must trade before this order does; None when it does not rest here."""
        order = self.open_account(name).open.get(client_id)
        return None if order is None else self.markets[order.instrument.id].queue_ahead(order)

    # ------------------------------------------------------------------ told by the markets

    def filled(self, order: PaperOrder, ticks: int, lots: int, is_maker: bool, at_ns: int) -> None:
        """Book one execution and tell of it (`matching.Desk`)."""
        account, instrument = self.accounts[order.account], order.instrument
        rate = instrument.maker_fee if is_maker else instrument.taker_fee
        fee = instrument.value(ticks, lots) * rate
        account.settle(order, ticks, lots, fee)
        order.changed_ns = at_ns
        self._trades += 1
        fill = Fill(
            f"{self.settings.venue_run}-{self._trades}",
            order.client_id,
            order.venue_id,
            order.account,
            instrument.id,
            order.side,
            ticks,
            lots,
            fee,
            instrument.quote,
            is_maker,
            at_ns,
        )
        account.add_fill(fill)
        if not order.open:
            order.status = Status.FILLED
            account.close(order, at_ns)
        self._changed = True
        heard_ns = at_ns + self._hear_ns
        self._push(heard_ns, order, FillHeard(heard_ns, fill))
        self._push(heard_ns, order, OrderHeard(heard_ns, order.report()))

    def ended(self, order: PaperOrder, status: Status, reason: str, at_ns: int) -> None:
        """An order left the book (`matching.Desk`)."""
        order.status = status
        order.reason = reason
        self.accounts[order.account].close(order, at_ns)
        self._changed = True
        heard_ns = at_ns + self._hear_ns
        self._push(heard_ns, order, OrderHeard(heard_ns, order.report()))

    # ------------------------------------------------------------------ commands, as they arrive

    def _arrive(
        self, at_ns: int, account: PaperAccount, command: Command, fault: Fault | None, sent_ns: int
    ) -> None:
        if account.arrivals.get(command.client_id) == at_ns:
            del account.arrivals[command.client_id]
        heard_ns: int | None = at_ns + self._hear_ns
        if fault is Fault.LOST_ANSWER or fault is Fault.SERVER_ERROR:
            heard_ns = None
        elif fault is Fault.LATE_ANSWER:
            heard_ns = max(at_ns + self._hear_ns, sent_ns + round(self.settings.late_answer_ms * NS_PER_MS))
        elif fault is Fault.EARLY_FILL:
            heard_ns = at_ns + self._hear_ns + round(self.settings.early_fill_ms * NS_PER_MS)
        elif fault is Fault.CUT_STREAM:
            self.cut_stream(account.name, at_ns)
        elif fault is Fault.STALE_LIST:
            account.list_as_of_ns = at_ns - 1
            account.list_until_ns = at_ns + round(self.settings.stale_ms * NS_PER_MS)
        try:
            if isinstance(command, Place):
                self._place(account, command, fault, heard_ns, at_ns)
            elif isinstance(command, Amend):
                self._amend(account, command, fault, heard_ns, at_ns)
            else:
                order = self._open_order(account, command.client_id, command.instrument)
                _mark(order, fault)
                self._accept(heard_ns, command, order, fault, at_ns)
                self.markets[order.instrument.id].remove(order)
                self.ended(order, Status.CANCELED, "", at_ns)
        except _No as no:
            if heard_ns is not None:
                self._answer(
                    heard_ns,
                    account.name,
                    command,
                    _OUTCOMES.get(no.error, Outcome.REJECTED),
                    error=no.error,
                    reason=no.reason,
                    retry_after_s=no.retry_after_s,
                )

    def _place(
        self, account: PaperAccount, place: Place, fault: Fault | None, heard_ns: int | None, at_ns: int
    ) -> None:
        market = self._check_terms(place.instrument, place.ticks, place.lots)
        if place.post_only and place.tif is not Tif.GTC:
            raise _No("Rejected", f"post-only and {place.tif.value.upper()} exclude each other")
        if place.reduce_only:
            raise _No("Rejected", "reduce-only does not exist on spot")
        if account.knows(place.client_id):
            raise _No("Rejected", f"duplicate client id {place.client_id}")
        self._check_rate(account, at_ns)
        here = sum(1 for order in account.open.values() if order.instrument is market.instrument)
        if here >= self.settings.max_open_orders:
            raise _No("Rejected", f"{here} orders are open in {place.instrument.symbol}, the most allowed")
        self._check_crossing(market, place.side.sign > 0, place.ticks, place.post_only, None)
        self._orders += 1
        order = PaperOrder(
            account.name,
            market.instrument,
            place.client_id,
            f"{self.settings.venue_run}-{self._orders}",
            place.side,
            place.ticks,
            place.lots,
            place.post_only,
            at_ns,
        )
        if not account.lock(order):
            self._orders -= 1
            raise self._too_poor(account, order)
        self._changed = True
        account.add(order)
        _mark(order, fault)
        self._accept(heard_ns, place, order, fault, at_ns)
        self._match(market, order, place.tif, at_ns)

    def _amend(
        self, account: PaperAccount, amend: Amend, fault: Fault | None, heard_ns: int | None, at_ns: int
    ) -> None:
        order = self._open_order(account, amend.client_id, amend.instrument)
        market = self._check_terms(amend.instrument, amend.ticks, amend.lots)
        if amend.lots <= order.filled:
            raise _No("Rejected", f"{order.filled} lots are filled already, the new size must be larger")
        self._check_rate(account, at_ns)
        keeps_place = amend.ticks == order.ticks and amend.lots <= order.lots
        if not keeps_place:
            self._check_crossing(market, order.is_bid, amend.ticks, order.post_only, order)
        was = (order.ticks, order.lots)
        order.ticks, order.lots = amend.ticks, amend.lots
        if not account.lock(order):
            no = self._too_poor(account, order)
            order.ticks, order.lots = was
            raise no
        order.changed_ns = at_ns
        self._changed = True
        if keeps_place:
            _mark(order, fault)
            self._accept(heard_ns, amend, order, fault, at_ns)
            return
        order.ticks = was[0]
        market.remove(order)
        order.ticks = amend.ticks
        _mark(order, fault)
        self._accept(heard_ns, amend, order, fault, at_ns)
        self._match(market, order, Tif.GTC, at_ns)

    def _match(self, market: PaperMarket, order: PaperOrder, tif: Tif, at_ns: int) -> None:
        if not order.post_only and market.crosses(order.is_bid, order.ticks, order):
            if tif is Tif.FOK and not market.can_fill(order):
                self.ended(order, Status.EXPIRED, "fill or kill: not enough in the book", at_ns)
                return
            market.take(order, at_ns)
        if order.status is not Status.OPEN:
            return
        if tif is Tif.GTC:
            market.rest(order, at_ns)
        else:
            self.ended(order, Status.EXPIRED, f"{tif.value.upper()}: the rest was not there to take", at_ns)

    def _check_terms(self, instrument_id: InstrumentId, ticks: int, lots: int) -> PaperMarket:
        market = self.markets.get(instrument_id)
        if market is None:
            raise _No("Rejected", self._unlisted(instrument_id))
        terms = market.instrument
        if ticks <= 0 or lots <= 0:
            raise _No("BelowMinimum", f"price and size must be positive, got {ticks} ticks and {lots} lots")
        qty = terms.qty(lots)
        if qty < terms.min_qty:
            raise _No("BelowMinimum", f"quantity {qty:f} is below the minimum {terms.min_qty:f} {terms.base}")
        if terms.max_qty is not None and qty > terms.max_qty:
            raise _No("BelowMinimum", f"quantity {qty:f} is above the maximum {terms.max_qty:f} {terms.base}")
        value = terms.value(ticks, lots)
        if value < terms.min_notional:
            raise _No(
                "BelowMinimum", f"value {value:f} is below the minimum {terms.min_notional:f} {terms.quote}"
            )
        return market

    def _check_crossing(
        self, market: PaperMarket, is_bid: bool, ticks: int, post_only: bool, ignoring: PaperOrder | None
    ) -> None:
        if market.view is None:
            raise _No("Unavailable", "the market's book is not known at the moment")
        if post_only and market.crosses(is_bid, ticks, ignoring):
            raise _No("WouldCross", "post-only order would match immediately")

    def _check_rate(self, account: PaperAccount, at_ns: int) -> None:
        limit = self.settings.rate_limit
        if limit is None:
            return
        window_ns = round(self.settings.rate_window_s * 1e9)
        window = at_ns // window_ns
        if window != account.rate_window:
            account.rate_window, account.rate_used = window, 0
        if account.rate_used >= limit:
            wait_s = ((window + 1) * window_ns - at_ns) / 1e9
            reason = f"more than {limit} orders in {self.settings.rate_window_s:g} s"
            raise _No("RateLimited", reason, retry_after_s=wait_s)
        account.rate_used += 1

    def _open_order(self, account: PaperAccount, client_id: str, instrument: InstrumentId) -> PaperOrder:
        order = account.open.get(client_id)
        if order is None or order.instrument.id != instrument:
            raise _No("UnknownOrder", f"no open order {client_id} in {instrument.symbol}")
        return order

    def _too_poor(self, account: PaperAccount, order: PaperOrder) -> _No:
        asset = order.instrument.quote if order.is_bid else order.instrument.base
        with_fee = " with its fee reserve" if order.is_bid else ""
        reason = f"{account.free(asset):f} {asset} free does not cover the order{with_fee}"
        return _No("InsufficientFunds", reason)

    def _unlisted(self, instrument: InstrumentId) -> str:
        listed = ", ".join(one.symbol for one in self.markets)
        return f"unknown symbol {instrument.symbol}; paper has {listed}"

    def _cancel_all(
        self, at_ns: int, account: PaperAccount, instrument: InstrumentId | None, reason: str
    ) -> None:
        for order in tuple(account.open.values()):
            if instrument is None or order.instrument.id == instrument:
                self.markets[order.instrument.id].remove(order)
                self.ended(order, Status.CANCELED, reason, at_ns)

    def _dead_man(self, at_ns: int, account: PaperAccount) -> None:
        if account.dead_man_ns == at_ns:  # else it was re-armed or disarmed since
            account.dead_man_ns = None
            self._cancel_all(at_ns, account, None, "dead-man: nobody renewed it")

    # ------------------------------------------------------------------ telling

    def _accept(
        self, heard_ns: int | None, command: Command, order: PaperOrder, fault: Fault | None, at_ns: int
    ) -> None:
        """The answer ACCEPTED, and for an order that is now open its report."""
        if heard_ns is not None:
            self._answer(heard_ns, order.account, command, Outcome.ACCEPTED, venue_id=order.venue_id)
        if not isinstance(command, Cancel):
            told_ns = at_ns + self._hear_ns
            if fault is Fault.EARLY_FILL and heard_ns is not None:
                told_ns = heard_ns  # held back with the answer
            self._push(told_ns, order, OrderHeard(told_ns, order.report()))

    def _answer(
        self,
        heard_ns: int,
        name: str,
        command: Command,
        outcome: Outcome,
        *,
        venue_id: str | None = None,
        error: str = "",
        reason: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        answer = Answered(
            heard_ns,
            command.client_id,
            command.instrument,
            request_of(command),
            outcome,
            venue_id,
            error,
            reason,
            retry_after_s,
        )
        self._at(heard_ns, self._hand_over, name, answer)

    def _push(self, heard_ns: int, order: PaperOrder, event: Event) -> None:
        if order.is_mute:
            return
        account = self.accounts[order.account]
        self._at(heard_ns, self._hand_push, account, event)
        if order.is_twice:
            self._at(heard_ns, self._hand_push, account, event)

    def _tell_balances(self, at_ns: int) -> None:
        self._changed = False
        heard_ns = at_ns + self._hear_ns
        for account in self.accounts.values():
            if account.is_changed:
                account.is_changed = False
                event = BalancesHeard(heard_ns, VENUE, account.name, account.balances())
                self._at(heard_ns, self._hand_push, account, event)

    def _link(self, at_ns: int, account: PaperAccount, is_up: bool) -> None:
        if is_up and at_ns < account.cut_until_ns:
            return  # cut again meanwhile
        reason = "the private stream is back" if is_up else "the private stream was cut (injected)"
        self.outbox.append((account.name, LinkChanged(at_ns, VENUE, "account", is_up, reason)))

    def _hand_over(self, _at_ns: int, name: str, event: Event) -> None:
        self.outbox.append((name, event))

    def _hand_push(self, at_ns: int, account: PaperAccount, event: Event) -> None:
        if not account.cut_from_ns <= at_ns < account.cut_until_ns:
            self.outbox.append((account.name, event))

    def _at(self, due_ns: int, do: Callable[..., None], *args: Any) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (due_ns, self._seq, do, args))


def request_of(command: Command) -> Request:
    if isinstance(command, Place):
        return Request.PLACE
    return Request.AMEND if isinstance(command, Amend) else Request.CANCEL


def _mark(order: PaperOrder, fault: Fault | None) -> None:
    """What a fault does to everything pushed about this order."""
    if fault is Fault.DUPLICATE:
        order.is_twice = True
    elif fault is Fault.DROPPED_PUSH:
        order.is_mute = True
