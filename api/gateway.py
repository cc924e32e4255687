"""The one narrow gate to an account: sends what risk approved, and turns answers, and their absence, into
events.

Hides: client ids, the intent log, reservations of account and desk limits, self-match prevention among our
own workers, the resolution of unknown outcomes, reconciliation, orphans. Must not know a strategy, a book
or a face. Called by the lane (`send`, `heard`), by the desk (`kill`, `confirm_none`) and by its own
polling loop (`poll`), from several threads: one lock guards the registry, never held over a network read.

Client ids are `md` + desk tag (4) + worker number (3) + run number (4) + counter (6), all base 36 and
alphanumeric: 19 characters that name their owner, unique over restarts because the run number is raised
durably at each start.

Unknown outcomes. An order whose answer never came keeps its exposure. `poll` asks for it by client id: found,
it goes on from what the venue says; not found on two reads that are `ABSENT_GAP_S` apart, the first no sooner
than `ABSENT_FIRST_S` after the doubt arose, with no fill under its id in the account's history, it is closed
as never arrived. A read that fails is no evidence. If the venue shows it after all, the order table takes the
venue's word.

Doomed orders. What must go without an engine to see to it is `doomed`: everything an earlier run left, orders
without an owner, those of a crashed worker, and all after a kill. `poll` cancels each again every
`CANCEL_AGAIN_S` until the venue says that it is gone, and after a start nothing is sent before none is left.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from api.errors import ExchangeError, UnknownOrder
from api.exchange import Exchange, IntentStore
from api.runtime import ClockLike
from api.types import (
    _GRANT,
    Amend,
    Answered,
    Approved,
    BalancesHeard,
    Cancel,
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
    Side,
    Status,
)

log = logging.getLogger("makerdeck.gateway")

ABSENT_FIRST_S = 1.0  # a venue may list an order later than it accepted it
ABSENT_GAP_S = 2.0  # two reads this far apart must agree before absence counts
UNKNOWN_AFTER_S = (
    5.0  # no answer and no report for this long: the outcome is unknown, whoever failed to say so
)
RECONCILE_EVERY_S = 30.0  # finds the fill that a healthy-looking stream dropped
RECONCILE_OVERLAP_S = 60.0  # how far behind the last reading the history is read again
FIRST_READ_S = 86_400.0  # and how far behind the newest stored fill at the first reading of a run
CANCEL_AGAIN_S = 1.0  # how soon a doomed order is canceled again
SOON_S = 1.0  # no two reconciliations are closer than this, whatever asks for them
ENDED_KEPT = 2_000  # ended orders remembered, so that an old list does not make orphans of them
CONFIRM_GAP_S = 0.2  # between the two reads that confirm an empty list

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int, width: int) -> str:
    """`number` in base 36, padded. Raises OverflowError when it needs more than `width` digits."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    if len(text) > width:
        raise OverflowError("client id counter is exhausted; start the desk again")
    return text.rjust(width, "0")


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Limits over all workers of one account, and over all accounts of the desk. Value in quote currency,
    worst case of everything live. Reserved under the gateway's lock before an order leaves.
    """

    max_open_orders: int = 400
    max_open_value: Decimal = Decimal(2_000_000)


@dataclass(slots=True)
class DeskBudget:
    """What all gateways of a desk share: open value over every account. Guarded by its own lock."""

    max_open_value: Decimal = Decimal(5_000_000)
    _open: Decimal = Decimal(0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, value: Decimal) -> bool:
        with self._lock:
            if self._open + value > self.max_open_value:
                return False
            self._open += value
            return True

    def count(self, value: Decimal) -> None:
        """Reserve what already rests at a venue, whatever the limit says."""
        with self._lock:
            self._open += value

    def release(self, value: Decimal) -> None:
        with self._lock:
            self._open -= value


@dataclass(slots=True)
class _Entry:
    """What the gateway remembers of one live order.

    `answered`: its outcome needs no deadline any more. `is_seen`: the venue showed it, so it did arrive.
    `doomed`: why the gateway itself cancels it, empty: its engine sees to it.
    """

    worker: str
    instrument: InstrumentId
    side: Side
    ticks: int
    value: Decimal
    sent_ns: int
    open_lots: int
    answered: bool = False
    doubt_ns: int | None = None
    first_absent_ns: int | None = None
    next_ask_ns: int = 0
    doomed: str = ""
    next_cancel_ns: int = 0
    is_seen: bool = False
    has_fills: bool = False


class Gateway:
    """One account. See the module docstring.

    Args:
        exchange: the venue's adaptor.
        instruments: exact terms of each instrument traded here.
        intents: where an intent is written before the order leaves.
        desk_tag: 4 characters [a-z0-9] of this desk; run_no: raised at each start.
        deliver: hands an event (from polls and the venue) to the lane's inbox. Never called under the lock.
        on_fill: called once for each new fill, before it is delivered, with the owner's id or None.
        resolve_worker: worker id for a worker number in a client id, None: nobody.
        open_intents: (worker, place, at_ns) of an earlier run without a recorded end. Each is in doubt until
            the venue was asked; fills are looked for from the oldest of them on.
    """

    def __init__(
        self,
        exchange: Exchange,
        instruments: Iterable[Instrument],
        *,
        clock: ClockLike,
        intents: IntentStore,
        desk_tag: str,
        run_no: int,
        deliver: Callable[[Event], None],
        on_fill: Callable[[str | None, Fill], None],
        resolve_worker: Callable[[int], str | None],
        known_trades: Iterable[tuple[str, str, str, str]] = (),
        last_fill_ns: dict[InstrumentId, int] | None = None,
        open_intents: Iterable[tuple[str, Place, int]] = (),
        limits: AccountLimits | None = None,
        budget: DeskBudget | None = None,
    ) -> None:
        self.exchange = exchange
        self.instruments = {i.id: i for i in instruments}
        self.limits = limits or AccountLimits()
        self.budget = budget or DeskBudget()
        self.foreign_orders = 0
        self.orphans_canceled = 0
        self.is_linked = False
        self.is_reconciled = False
        self.trouble = ""
        self._clock = clock
        self._intents = intents
        self._prefix = f"md{desk_tag}"
        self._run = base36(run_no, 4)
        self._counter = 0
        self._deliver = deliver
        self._on_fill = on_fill
        self._resolve = resolve_worker
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._open_value = Decimal(0)
        self._trades = set(known_trades)
        self._last_fill_ns = dict(last_fill_ns or {})
        self._started_ns = clock.now_ns()
        self._killed = ""
        self._unauthorized = ""
        self._blocked_until_ns = 0
        self._next_reconcile_ns = 0
        self._reconciled_ns = -(10**18)
        self._has_read = False
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._settling: list[str] = []
        self._watched: set[InstrumentId] = set(self._last_fill_ns)
        self._oldest_ns: dict[InstrumentId, int] = {}
        self._fills_read_ns: dict[InstrumentId, int] = {}
        self._link_epoch = 0
        for worker, place, at_ns in open_intents:
            self._adopt(worker, place, at_ns)

    # ------------------------------------------------------------------ sending (lane thread)

    def next_client_id(self, worker_no: int) -> str:
        """A client id that names its owner and was never used before."""
        with self._lock:
            self._counter += 1
            return f"{self._prefix}{base36(worker_no, 3)}{self._run}{base36(self._counter, 6)}"

    def send(self, approved: Approved) -> Answered | None:
        """Send one approved command. Returns an answer of our own when it did not leave (nothing was sent
        then).
        """
        command, now_ns = approved.command, self._clock.now_ns()
        if isinstance(command, Cancel):
            self.exchange.send(approved)
            return None
        with self._lock:  # a kill comes before the reservation or after the order left, never in between
            refusal = self._reserve(approved.worker, command, now_ns)
            if refusal is None:
                self.exchange.send(approved)
                return None
        request = Request.PLACE if isinstance(command, Place) else Request.AMEND
        return Answered(
            now_ns,
            command.client_id,
            command.instrument,
            request,
            Outcome.UNAVAILABLE,
            error=refusal[0],
            reason=refusal[1],
            retry_after_s=1.0,
        )

    def others_touch(self, instrument: InstrumentId, worker: str) -> tuple[int | None, int | None]:
        """Best bid and ask (ticks) among live orders of our *other* workers here: what this worker must not
        meet.
        """
        best_bid: int | None = None
        best_ask: int | None = None
        with self._lock:
            for entry in self._entries.values():
                if entry.worker == worker or entry.instrument != instrument:
                    continue
                if entry.side is Side.BUY:
                    best_bid = entry.ticks if best_bid is None else max(best_bid, entry.ticks)
                else:
                    best_ask = entry.ticks if best_ask is None else min(best_ask, entry.ticks)
        return best_bid, best_ask

    def _reserve(self, worker: str, command: Place | Amend, now_ns: int) -> tuple[str, str] | None:
        with self._lock:
            if self._killed:
                return "Killed", f"the desk is killed: {self._killed}"
            if not self.is_linked:
                return "Unavailable", "the account's stream is down"
            if not self.is_reconciled:
                return "Unavailable", "the account is being reconciled"
            if self._unauthorized:
                return "Unauthorized", f"the venue refuses our key: {self._unauthorized}"
            if now_ns < self._blocked_until_ns:
                return "RateLimited", "the venue asked us to wait"
            if isinstance(command, Amend):
                return None
            if len(self._entries) + 1 > self.limits.max_open_orders:
                return "AccountLimit", f"{len(self._entries)} orders are live on this account"
            value = self.instruments[command.instrument].value(command.ticks, command.lots)
            if self._open_value + value > self.limits.max_open_value:
                return "AccountLimit", f"open value would pass {self.limits.max_open_value} on this account"
            for entry in self._entries.values():
                if entry.instrument != command.instrument or entry.side is command.side:
                    continue
                meets = (
                    entry.ticks <= command.ticks if command.side is Side.BUY else entry.ticks >= command.ticks
                )
                if meets:
                    return "SelfMatch", "it would meet an order of our own"
            if not self.budget.reserve(value):
                return "DeskLimit", f"open value would pass {self.budget.max_open_value} over the desk"
            try:
                self._intents.record_place(worker, self.exchange.account, command, now_ns)
            except OSError as error:
                self.budget.release(value)
                self.trouble = (
                    f"the intent log cannot be written ({error.strerror or error}); nothing new is sent"
                )
                return "Unavailable", self.trouble
            if self.trouble:
                self.trouble = ""
            self._watched.add(command.instrument)
            self._open_value += value
            self._entries[command.client_id] = _Entry(
                worker, command.instrument, command.side, command.ticks, value, now_ns, command.lots
            )
            return None

    def _adopt(self, worker: str, place: Place, at_ns: int) -> None:
        """An order of an earlier run that may be live: doubt it, cancel it when it turns up."""
        instrument = self.instruments.get(place.instrument)
        if instrument is None:
            log.warning(
                "order=%s of an instrument that is listed no more: %s", place.client_id, place.instrument
            )
            return  # should it be open still, the first reading finds it and dooms it
        value = instrument.value(place.ticks, place.lots)
        entry = _Entry(
            worker,
            place.instrument,
            place.side,
            place.ticks,
            value,
            at_ns,
            place.lots,
            answered=True,
            doomed="left by an earlier run",
        )
        self._doubt(entry, self._started_ns)
        self._entries[place.client_id] = entry
        self._open_value += value
        self.budget.count(value)
        self._watched.add(place.instrument)
        self._oldest_ns[place.instrument] = min(at_ns, self._oldest_ns.get(place.instrument, at_ns))

    # ------------------------------------------------------------------ hearing (lane thread)

    def heard(self, event: Event) -> str | None:
        """Note what the venue said; the id of the worker it belongs to, None: nobody (or everybody)."""
        if isinstance(event, Answered):
            return self._heard_answer(event)
        if isinstance(event, OrderHeard):
            return self._heard_report(event.report)
        if isinstance(event, FillHeard):
            return self._heard_fill(event.fill)
        if isinstance(event, LinkChanged) and event.link == "account":
            with self._lock:
                self.is_linked = event.is_up
                self.is_reconciled = self._has_read = False
                self._next_reconcile_ns = 0
                self._link_epoch += 1
                self._unauthorized = ""
        return None

    def is_new(self, fill: Fill) -> bool:
        """True exactly once per trade: across stream, backfill and restarts."""
        with self._lock:
            if fill.key in self._trades:
                return False
            self._trades.add(fill.key)
            return True

    def _heard_answer(self, answer: Answered) -> str | None:
        with self._lock:
            entry = self._entries.get(answer.client_id)
            worker = entry.worker if entry is not None else self._owner(answer.client_id)
            if answer.outcome is Outcome.UNAUTHORIZED and not self._unauthorized:
                self._unauthorized = answer.reason or "no reason given"  # nothing new until a new link
                log.error("venue=%s unauthorized: %s", self.exchange.venue, self._unauthorized)
            if answer.outcome is Outcome.RATE_LIMITED:
                until = answer.at_ns + int(answer.retry_after_s * 1e9)
                self._blocked_until_ns = max(self._blocked_until_ns, until)
            if entry is None:
                if answer.outcome is Outcome.ACCEPTED and answer.request is not Request.CANCEL:
                    self._look_soon(answer.client_id)
                return worker
            entry.answered = True
            if answer.outcome is Outcome.UNKNOWN or answer.error == "UnknownOrder":
                self._doubt(entry, answer.at_ns)
            elif answer.request is Request.PLACE and answer.outcome is not Outcome.ACCEPTED:
                if entry.doubt_ns is None:
                    self._close(answer.client_id)
            elif answer.request is Request.CANCEL and answer.outcome is Outcome.ACCEPTED:
                self._close(answer.client_id)
            elif answer.outcome is Outcome.ACCEPTED:
                entry.doubt_ns = entry.first_absent_ns = None
                entry.is_seen = True
            return worker

    def _heard_report(self, report: OrderReport) -> str | None:
        with self._lock:
            entry = self._entries.get(report.client_id)
            if entry is None:
                if not report.client_id.startswith(self._prefix):
                    self.foreign_orders += 1
                elif not report.status.is_final:
                    self._look_soon(report.client_id)
                return self._owner(report.client_id)
            entry.answered = True
            is_absent = entry.first_absent_ns is not None and report.venue_id is None
            entry.is_seen = entry.is_seen or not is_absent
            entry.doubt_ns = entry.first_absent_ns = None
            if report.status.is_final:
                self._close(report.client_id, by_venue=not is_absent)
            else:
                entry.ticks = report.ticks or entry.ticks
            return entry.worker

    def _heard_fill(self, fill: Fill) -> str | None:
        with self._lock:
            entry = self._entries.get(fill.client_id)
            return entry.worker if entry is not None else self._owner(fill.client_id)

    def fill_once(self, fill: Fill) -> bool:
        """Book a fill that was just heard: False when it was known before. New ones go to the store first;
        one that could not be handed to it counts as not heard.
        """
        if not self.is_new(fill):
            return False
        try:
            self._on_fill(self._heard_fill(fill), fill)
        except Exception:
            with self._lock:
                self._trades.discard(fill.key)
                self._next_reconcile_ns = 0
            raise
        with self._lock:
            entry = self._entries.get(fill.client_id)
            if entry is not None:
                entry.is_seen = entry.has_fills = True
                entry.open_lots -= fill.lots
                if entry.open_lots <= 0:
                    self._close(fill.client_id)
        return True

    def _owner(self, client_id: str) -> str | None:
        if not client_id.startswith(self._prefix) or len(client_id) < 9:
            return None
        try:
            number = int(client_id[6:9], 36)
        except ValueError:
            return None
        return self._resolve(number)

    def _doubt(self, entry: _Entry, at_ns: int) -> None:
        if entry.doubt_ns is None:
            entry.doubt_ns = at_ns
            entry.first_absent_ns = None
            entry.next_ask_ns = at_ns + 250_000_000

    def _close(self, client_id: str, *, by_venue: bool = True) -> None:
        entry = self._entries.pop(client_id, None)
        if entry is None:
            return
        now_ns = self._clock.now_ns()
        self._open_value -= entry.value
        self.budget.release(entry.value)
        if by_venue:
            self._ended[client_id] = now_ns
            while len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)
        if entry.has_fills:
            self._settling.append(client_id)
        else:
            self._intents.record_done(client_id, now_ns)

    def settle(self, is_stored: Callable[[], bool]) -> None:
        """Record the end of orders that were filled, once `is_stored` says that every fill so far is durable.

        Until then a restart takes such an order for open and reads its fills at the venue again, so that no
        fill is lost between the two files.
        """
        with self._lock:
            settling, self._settling = self._settling, []
        if settling and not is_stored():
            with self._lock:
                self._settling = settling + self._settling
            return
        now_ns = self._clock.now_ns()
        for client_id in settling:
            self._intents.record_done(client_id, now_ns)

    def _look_soon(self, client_id: str) -> None:
        """The venue speaks of an order as open that we hold for gone: read what is open there. An old message
        that came late costs one reading.
        """
        if client_id.startswith(self._prefix):
            self.reconcile_soon()

    # ------------------------------------------------------------------ asking (polling thread, or the tape's
    # loop)

    @property
    def live_count(self) -> int:
        return len(self._entries)

    @property
    def unknown_count(self) -> int:
        with self._lock:
            return sum(1 for e in self._entries.values() if e.doubt_ns is not None)

    def watch(self, instrument: InstrumentId) -> None:
        """Include this instrument's fill history in reconciliation from now on."""
        with self._lock:
            self._watched.add(instrument)

    def reconcile_soon(self) -> None:
        """Something did not add up: read orders and fills at the next poll, `SOON_S` after the last time."""
        with self._lock:
            soon_ns = self._reconciled_ns + int(SOON_S * 1e9)
            self._next_reconcile_ns = min(self._next_reconcile_ns, soon_ns)

    def poll(self, now_ns: int) -> None:
        """Do what is due: cancel what is doomed, reconcile after a (re)connect and every `RECONCILE_EVERY_S`,
        resolve unknown orders.

        Blocks for as long as the venue's reads do. A read that fails leaves everything as it was and is tried
        again.
        """
        if not self.is_linked:
            return
        self._cancel_doomed(now_ns)
        is_due = False
        try:
            with self._lock:
                is_due, epoch = now_ns >= self._next_reconcile_ns, self._link_epoch
                if is_due:
                    self._next_reconcile_ns = now_ns + int(RECONCILE_EVERY_S * 1e9)
                    self._reconciled_ns = now_ns
            if is_due:
                self._reconcile(now_ns)
                with self._lock:
                    if epoch == self._link_epoch:  # else the link was cut under the reading: once more
                        self._has_read = True
                    self.trouble = ""
                self._cancel_doomed(now_ns)
            self._resolve_unknown(now_ns)
            self._say_reconciled(now_ns)
        except ExchangeError as error:
            with self._lock:
                self.trouble = f"{type(error).__name__}: {error.message}"
                wait_s = getattr(error, "retry_after_s", 1.0)
                if not self._has_read or is_due:
                    self._next_reconcile_ns = now_ns + int(wait_s * 1e9)
            log.warning("venue=%s reading failed: %s", self.exchange.venue, self.trouble)

    def _say_reconciled(self, now_ns: int) -> None:
        """Trading may begin: the venue was read since the link came up, and nothing of an earlier run is left
        there.
        """
        with self._lock:
            left = any(e.doomed and e.sent_ns < self._started_ns for e in self._entries.values())
            if self.is_reconciled or not self._has_read or left:
                return
            self.is_reconciled = True
        self._deliver(LinkChanged(now_ns, self.exchange.venue, "orders", True, "reconciled"))

    def _cancel_doomed(self, now_ns: int) -> None:
        with self._lock:
            due = []
            for client_id, entry in self._entries.items():
                if entry.doomed and entry.next_cancel_ns <= now_ns:
                    entry.next_cancel_ns = now_ns + int(CANCEL_AGAIN_S * 1e9)
                    due.append((client_id, entry.instrument, entry.doomed))
        for client_id, instrument, why in due:
            self.cancel_now(client_id, instrument, why)

    def _reconcile(self, now_ns: int) -> None:
        reads_from_ns = now_ns
        reports = self.exchange.fetch_open_orders(None)
        self._deliver(
            BalancesHeard(now_ns, self.exchange.venue, self.exchange.account, self.exchange.fetch_balances())
        )
        open_ids = {r.client_id for r in reports}
        for report in reports:
            self._sort_open(report, now_ns, reads_from_ns)
        for instrument in sorted(self._watched):
            for fill in self.exchange.fetch_fills(instrument, self._fills_since(instrument)):
                if fill.client_id.startswith(self._prefix) and fill.key not in self._trades:
                    self._deliver(FillHeard(now_ns, fill))
            self._fills_read_ns[instrument] = reads_from_ns
        with self._lock:
            missing = [
                (client_id, e.instrument)
                for client_id, e in self._entries.items()
                if client_id not in open_ids and e.answered and e.sent_ns < reads_from_ns - 1_000_000_000
            ]
            for client_id, _ in missing:
                self._doubt(self._entries[client_id], now_ns)

    def _fills_since(self, instrument: InstrumentId) -> int:
        """From when to read the fills of a market: the last time that worked, never the newest fill heard,
        since an older one may have been dropped. The first read of a run goes back a day, or to the oldest
        intent without an end.
        """
        read_ns = self._fills_read_ns.get(instrument)
        if read_ns is not None:
            return read_ns - int(RECONCILE_OVERLAP_S * 1e9)
        since_ns = self._last_fill_ns.get(instrument, self._started_ns) - int(FIRST_READ_S * 1e9)
        return min(since_ns, self._oldest_ns.get(instrument, since_ns) - int(RECONCILE_OVERLAP_S * 1e9))

    def _sort_open(self, report: OrderReport, now_ns: int, reads_from_ns: int) -> None:
        """An open order at the venue: ours and known, ours without an owner (doomed), or somebody else's
        (leave it).
        """
        client_id = report.client_id
        with self._lock:
            if client_id not in self._entries:
                if not client_id.startswith(self._prefix):
                    self.foreign_orders += 1
                    return
                if self._ended.get(client_id, -1) >= reads_from_ns:
                    return  # it ended while the list was under way
                self._doom_orphan(report, now_ns)
        self._deliver(OrderHeard(now_ns, report))

    def _doom_orphan(self, report: OrderReport, now_ns: int) -> None:
        log.warning("order=%s without an owner at %s: canceling it", report.client_id, self.exchange.venue)
        self.orphans_canceled += 1
        instrument = self.instruments.get(report.instrument)
        value = Decimal(0)  # of an instrument that is listed no more; its order is canceled all the same
        if instrument is not None:
            self._watched.add(report.instrument)
            value = instrument.value(report.ticks, report.lots)
        self.budget.count(value)
        self._open_value += value
        self._entries[report.client_id] = _Entry(
            self._owner(report.client_id) or "",
            report.instrument,
            report.side,
            report.ticks,
            value,
            now_ns,
            report.lots - (report.filled_lots or 0),
            answered=True,
            is_seen=True,
            doomed="an order without an owner",
        )

    def _resolve_unknown(self, now_ns: int) -> None:
        late_ns = now_ns - int(UNKNOWN_AFTER_S * 1e9)
        with self._lock:
            for entry in self._entries.values():
                if not entry.answered and entry.doubt_ns is None and entry.sent_ns < late_ns:
                    self._doubt(entry, now_ns)
            due = [
                (client_id, entry)
                for client_id, entry in self._entries.items()
                if entry.doubt_ns is not None and entry.next_ask_ns <= now_ns
            ]
        for client_id, entry in due:
            entry.next_ask_ns = now_ns + 1_000_000_000
            try:
                report = self.exchange.fetch_order(entry.instrument, client_id)
            except UnknownOrder:
                self._absent(client_id, entry, now_ns)
                continue
            for fill in self._unseen_fills(client_id, entry):
                self._deliver(FillHeard(now_ns, fill))
            self._deliver(OrderHeard(now_ns, report))

    def _absent(self, client_id: str, entry: _Entry, now_ns: int) -> None:
        doubt_ns = entry.doubt_ns if entry.doubt_ns is not None else now_ns
        if now_ns - doubt_ns < int(ABSENT_FIRST_S * 1e9):
            return
        if entry.first_absent_ns is None:
            entry.first_absent_ns = now_ns
            return
        if now_ns - entry.first_absent_ns < int(ABSENT_GAP_S * 1e9):
            return
        fills = self._unseen_fills(client_id, entry)
        for fill in fills:
            self._deliver(FillHeard(now_ns, fill))
        if fills or entry.is_seen:
            status, reason = Status.CANCELED, "gone from the venue's list; its fills are those of its history"
        else:  # not canceled: should the venue show it after all, the order table believes the venue
            status, reason = Status.REJECTED, "not at the venue on two reads, and no fill in its history"
        instrument = entry.instrument
        self._deliver(
            OrderHeard(
                now_ns,
                OrderReport(client_id, instrument, entry.side, 0, 0, status, None, None, now_ns, reason),
            )
        )

    def _unseen_fills(self, client_id: str, entry: _Entry) -> list[Fill]:
        since_ns = entry.sent_ns - int(RECONCILE_OVERLAP_S * 1e9)
        return [
            fill
            for fill in self.exchange.fetch_fills(entry.instrument, since_ns)
            if fill.client_id == client_id and fill.key not in self._trades
        ]

    # ------------------------------------------------------------------ stopping

    def cancel_now(self, client_id: str, instrument: InstrumentId, why: str) -> None:
        """Cancel one order outside any engine (orphans, kill). Cancels need no approval of risk."""
        self.exchange.send(Approved(Cancel(client_id, instrument, why), "", _GRANT))

    def kill(self, reason: str) -> int:
        """Refuse every new order from this moment and cancel all that is live; the number of cancels sent.

        Safe from any thread, needs no lane: the flag is set before the first cancel leaves.
        """
        live = self.latch(reason)
        self._cancel_doomed(self._clock.now_ns())
        if self.exchange.capabilities.cancel_all:
            try:
                self.exchange.cancel_all(None)
            except ExchangeError as error:
                log.error("venue=%s cancel-all failed: %s", self.exchange.venue, error.message)
        return live

    def latch(self, reason: str) -> int:
        """The part of a kill that needs no venue: refuse every new order and doom what is live (the number of
        it); `poll` cancels it. For a start under a kill of an earlier run.
        """
        self._killed = reason or "killed"
        with self._lock:
            for entry in self._entries.values():
                entry.doomed = entry.doomed or "kill"
            return len(self._entries)

    def release(self) -> None:
        self._killed = ""

    def abandon(self, worker: str, why: str) -> None:
        """Nobody sees to this worker's orders any more: cancel them, again and again until they are gone."""
        with self._lock:
            for entry in self._entries.values():
                if entry.worker == worker:
                    entry.doomed = entry.doomed or why
        self._cancel_doomed(self._clock.now_ns())

    @property
    def is_killed(self) -> bool:
        return bool(self._killed)

    def live_of(self, worker: str | None) -> tuple[int, int]:
        """(live, unknown) orders of one worker, None: of all, as far as the gateway knows."""
        with self._lock:
            mine = [e for e in self._entries.values() if worker is None or e.worker == worker]
            return len(mine), sum(1 for e in mine if e.doubt_ns is not None)

    def count_at_venue(self, worker_no: int | None) -> int:
        """One read of the venue's open orders: how many carry this worker's number (None: any of this desk).

        Raises ExchangeError when the venue cannot say.
        """
        prefix = self._prefix if worker_no is None else f"{self._prefix}{base36(worker_no, 3)}"
        return sum(1 for r in self.exchange.fetch_open_orders(None) if r.client_id.startswith(prefix))
