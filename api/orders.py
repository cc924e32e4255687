"""The life of an order, as a table, and `OwnOrders`: the orders, fills and position of one worker.

Theory of operation. An order has two axes. `status` is what the venue last said; `request` is what we asked
and have not heard about. Three kinds of news arrive, in any order, late, twice, or never: answers to our
requests, order reports, fills. Answers and reports move `status` through `NEXT`; fills move the position and
apply once per trade id, in any status, since a fill after a cancel does happen. An impossible message from
the venue changes nothing, is counted in `impossible`, and the gateway is asked to reconcile; an illegal move
by us raises and changes nothing.

What lives here must not know a clock, a thread, a venue or a strategy. Called by the engine and by nobody
else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

from api.types import (
    Amend,
    Answered,
    Cancel,
    Fill,
    InstrumentId,
    Order,
    OrderReport,
    Outcome,
    Place,
    Request,
    Side,
    Status,
)

KEPT_DONE = 2000  # finished orders remembered, so that late fills and repeated reports still find their order

_U, _O, _F, _C, _E, _R = (
    Status.UNSEEN,
    Status.OPEN,
    Status.FILLED,
    Status.CANCELED,
    Status.EXPIRED,
    Status.REJECTED,
)

NEXT: dict[tuple[Status, Status], Status] = {
    (_U, _O): _O,
    (_U, _F): _F,  # the fill overtook the acknowledgement
    (_U, _C): _C,  # a refused post-only order that the venue reports as canceled without ever open
    (_U, _E): _E,
    (_U, _R): _R,
    (_O, _O): _O,  # a repeat, or a partial fill
    (_O, _F): _F,
    (_O, _C): _C,
    (_O, _E): _E,
    (_F, _F): _F,
    (_F, _O): _F,  # an old report came late
    (_F, _C): _F,  # the cancel lost the race
    (_F, _E): _F,
    (_C, _C): _C,
    (_C, _O): _C,  # an old report came late
    (_C, _F): _F,  # filled while the cancel was under way, told in the wrong order
    (_C, _E): _C,
    (_E, _E): _E,
    (_E, _O): _E,
    (_E, _F): _F,
    (_E, _C): _E,
    (_R, _R): _R,
    (_R, _O): _O,  # we had concluded it never arrived, and the venue shows it: the venue is right
    (_R, _F): _F,
    (_R, _C): _C,
    (_R, _E): _E,
    # (OPEN|FILLED|CANCELED|EXPIRED, REJECTED) is missing on purpose: what rested cannot have been refused.
}


class IllegalMove(RuntimeError):
    """Our own bug: a request that does not fit the order's state. Nothing was changed."""


class OwnOrders:
    """Orders, fills and position of one worker in one instrument. Lots and ticks only; single-threaded."""

    def __init__(self, instrument: InstrumentId) -> None:
        self.instrument = instrument
        self.position_lots = 0
        self.impossible = 0
        self.duplicates = 0
        self.sent = 0
        self.cancels_sent = 0
        self.ended_filled = 0
        self._live: dict[str, Order] = {}
        self._done: OrderedDict[str, Order] = OrderedDict()
        self._fill_lots: dict[str, int] = {}
        self._trades: set[tuple[str, str, str, str]] = set()
        self._short: set[str] = set()

    # ------------------------------------------------------------------ reading

    def __getitem__(self, client_id: str) -> Order:
        order = self._live.get(client_id) or self._done.get(client_id)
        if order is None:
            raise KeyError(client_id)
        return order

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._live or client_id in self._done

    def live(self) -> Iterator[Order]:
        """Orders that may still trade, as far as we know: unseen, open and unknown ones."""
        return iter(self._live.values())

    @property
    def live_count(self) -> int:
        return len(self._live)

    @property
    def unknown_count(self) -> int:
        return sum(1 for order in self._live.values() if order.is_unknown)

    def open_lots(self, side: Side) -> int:
        """Worst case still to come on one side: working, in-flight and unknown lots together."""
        return sum(order.open_lots for order in self._live.values() if order.side is side)

    def short_of_fills(self) -> tuple[str, ...]:
        """Orders of which the venue said more was filled than we have heard fills for: a fill is missing."""
        return tuple(sorted(self._short))

    # ------------------------------------------------------------------ what we do

    def placing(self, place: Place, at_ns: int) -> Order:
        """Book an order that is about to leave. Raises IllegalMove when the client id was used before."""
        if place.client_id in self:
            raise IllegalMove(f"client id {place.client_id} was used before")
        order = Order(
            client_id=place.client_id,
            instrument=place.instrument,
            side=place.side,
            ticks=place.ticks,
            lots=place.lots,
            level=place.level,
            post_only=place.post_only,
            tif=place.tif,
            why=place.why,
            created_ns=at_ns,
            request=Request.PLACE,
            changed_ns=at_ns,
        )
        self._live[place.client_id] = order
        self.sent += 1
        return order

    def asking(self, command: Cancel | Amend, at_ns: int) -> Order:
        """Book a cancel or amend that is about to leave. Raises IllegalMove for an order that is not live, or
        that already has an unanswered cancel.
        """
        order = self._live.get(command.client_id)
        if order is None:
            raise IllegalMove(f"order {command.client_id} is not live")
        request = Request.CANCEL if isinstance(command, Cancel) else Request.AMEND
        if order.request is Request.CANCEL:
            raise IllegalMove(f"order {command.client_id} already waits for a cancel")
        if request is Request.CANCEL:
            self.cancels_sent += 1
        return self._put(replace(order, request=request, changed_ns=at_ns))

    # ------------------------------------------------------------------ what we hear

    def answered(self, answer: Answered) -> Order | None:
        """Apply the end of a request. None: not an order of ours."""
        order = self._live.get(answer.client_id) or self._done.get(answer.client_id)
        if order is None:
            return None
        outcome = answer.outcome
        if answer.request is Request.PLACE:
            if outcome is Outcome.ACCEPTED:
                return self._move(order, _O, answer.at_ns, venue_id=answer.venue_id, answers=Request.PLACE)
            if outcome is Outcome.UNKNOWN:
                return self._doubt(order, answer, Request.PLACE)
            if order.status is not _U:
                # Refused, yet it was seen at the venue: two statements that exclude each other.
                self.impossible += 1
                return self._doubt(order, answer, Request.PLACE)
            return self._move(order, _R, answer.at_ns, reason=answer.reason, answers=Request.PLACE)
        if answer.request is Request.CANCEL:
            if outcome is Outcome.ACCEPTED:
                return self._move(order, _C, answer.at_ns, reason=answer.reason, answers=Request.CANCEL)
            if outcome is Outcome.UNKNOWN or answer.error == "UnknownOrder":
                # A refused cancel is a reason to ask about the order, not proof of life or death.
                return self._doubt(order, answer, Request.CANCEL)
            return self._settle(order, Request.CANCEL, answer.at_ns)
        if outcome is Outcome.UNKNOWN or answer.error == "UnknownOrder":
            return self._doubt(order, answer, Request.AMEND)
        return self._settle(order, Request.AMEND, answer.at_ns)

    def heard(self, report: OrderReport, at_ns: int) -> Order | None:
        """Apply an order report. None: not an order of ours."""
        order = self._live.get(report.client_id) or self._done.get(report.client_id)
        if order is None:
            return None
        if (
            order.status.is_final is False
            and report.lots > 0
            and (report.lots, report.ticks) != (order.lots, order.ticks)
        ):
            order = replace(order, lots=report.lots, ticks=report.ticks)  # an amend took effect
        filled = (
            order.filled_lots if report.filled_lots is None else max(order.filled_lots, report.filled_lots)
        )
        if filled > self._fill_lots.get(order.client_id, 0):
            self._short.add(order.client_id)
        return self._move(
            order,
            report.status,
            at_ns,
            venue_id=report.venue_id,
            reason=report.reason,
            filled_lots=filled,
            answers=None,
        )

    def filled(self, fill: Fill, at_ns: int) -> bool:
        """Apply one fill to order and position. False: this trade id was applied before, nothing changed.

        A fill of an order we do not know (placed before a restart) still moves the position: it carries our
        id.
        """
        if fill.key in self._trades:
            self.duplicates += 1
            return False
        self._trades.add(fill.key)
        self.position_lots += fill.side.sign * fill.lots
        total = self._fill_lots.get(fill.client_id, 0) + fill.lots
        self._fill_lots[fill.client_id] = total
        order = self._live.get(fill.client_id) or self._done.get(fill.client_id)
        if order is not None:
            filled_lots = max(order.filled_lots, total)
            if total >= filled_lots:
                self._short.discard(fill.client_id)
            status = order.status
            if filled_lots >= order.lots:
                status = _F
            elif status is _U or status is _R:
                status = _O
            self._put(
                replace(
                    order,
                    filled_lots=filled_lots,
                    status=status,
                    is_unknown=False if status is _F else order.is_unknown,
                    venue_id=order.venue_id or fill.venue_id,
                    changed_ns=at_ns,
                )
            )
        return True

    def restore(self, fills: tuple[Fill, ...]) -> None:
        """Rebuild position and known trade ids from stored fills. Only before the first order."""
        for fill in fills:
            self.filled(fill, fill.venue_ns)

    # ------------------------------------------------------------------ inside

    def _move(
        self,
        order: Order,
        said: Status,
        at_ns: int,
        *,
        answers: Request | None,
        venue_id: str | None = None,
        reason: str = "",
        filled_lots: int | None = None,
    ) -> Order:
        status = NEXT.get((order.status, said))
        if status is None:
            self.impossible += 1
            return order
        request = None if status.is_final or order.request is answers else order.request
        if answers is None and order.request is Request.PLACE and status is not _U:
            request = None  # a report about it proves that the place arrived
        filled = order.filled_lots if filled_lots is None else filled_lots
        if status is _O and filled >= order.lots:
            status = _F
        return self._put(
            replace(
                order,
                status=status,
                request=request,
                is_unknown=False,
                filled_lots=filled,
                venue_id=venue_id or order.venue_id,
                reason=reason or order.reason,
                changed_ns=at_ns,
            )
        )

    def _doubt(self, order: Order, answer: Answered, request: Request) -> Order:
        if order.status.is_final:
            return order
        cleared = None if order.request is request else order.request
        return self._put(
            replace(order, is_unknown=True, request=cleared, reason=answer.reason, changed_ns=answer.at_ns)
        )

    def _settle(self, order: Order, request: Request, at_ns: int) -> Order:
        if order.status.is_final or order.request is not request:
            return order
        return self._put(replace(order, request=None, changed_ns=at_ns))

    def _put(self, order: Order) -> Order:
        if order.is_live:
            self._done.pop(order.client_id, None)
            self._live[order.client_id] = order
            return order
        was_live = self._live.pop(order.client_id, None) is not None
        self.ended_filled += was_live and order.status is _F
        self._done[order.client_id] = order
        self._done.move_to_end(order.client_id)
        while len(self._done) > KEPT_DONE:
            gone, _ = self._done.popitem(last=False)
            self._fill_lots.pop(gone, None)
            self._short.discard(gone)
        return order
