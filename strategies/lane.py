"""A trading thread: inbox -> step of each engine it carries -> gateway, journal, board.

`Lane` is the thread-free part, driven by one caller at a time: the tape's loop, or `LaneService`, which is
the thread. Hides which event reaches which engine. A crash of one engine pulls that worker's orders and is
shown; the others go on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from api.gateway import Gateway
from api.runtime import Board, ClockLike, Inbox, Service
from api.types import (
    Answered,
    BalancesHeard,
    BookChanged,
    BookLost,
    Event,
    FillHeard,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    Step,
    Timer,
    Traded,
)
from strategies.engine import NEVER_NS, Engine

log = logging.getLogger("makerdeck.lane")

SHOW_EVERY_NS = 100_000_000  # a changed engine is shown at most this often
EARLY_KEPT = 1000  # fills kept for a worker without an engine
WELL_S = 5.0  # a lane that did not come round for so long is not well
IDLE_S = 0.25  # longest wait for an event: bounds the time until a stop or a timer is seen


@dataclass(frozen=True, slots=True)
class ForWorker:
    """An event for one engine only, from the operator."""

    worker: str
    event: Event


@dataclass(frozen=True, slots=True)
class AddEngine:
    engine: Engine
    gateway: Gateway


@dataclass(frozen=True, slots=True)
class DropEngine:
    worker: str


LaneItem = Event | ForWorker | AddEngine | DropEngine


class Lane:
    """Engines and the routing between them and their gateways. Single-threaded.

    Args:
        record: called with each Step that decided something, after its commands left.
        trace: called once per event that reached an engine or a gateway and once per command sent, in order.
    """

    def __init__(
        self,
        clock: ClockLike,
        *,
        record: Callable[[Step], None],
        trace: Callable[[object], None] | None = None,
        crashed: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self.engines: dict[str, Engine] = {}
        self.changed: set[str] = set()
        self.failed: dict[str, str] = {}
        self._clock = clock
        self._record = record
        self._trace = trace
        self._crashed = crashed
        self._gateways: dict[str, Gateway] = {}
        self._of_market: dict[InstrumentId, list[Engine]] = {}
        self._links: dict[tuple[str, str], LinkChanged] = {}
        self._balances: dict[str, BalancesHeard] = {}
        self._queue: deque[tuple[Engine, Event]] = deque()
        self._early: dict[str, list[Event]] = {}

    def add_gateway(self, gateway: Gateway) -> None:
        """Route this venue's order events to this gateway."""
        self._gateways[gateway.exchange.venue] = gateway

    def handle(self, item: LaneItem) -> None:
        """Route one item, step who is concerned, send what was approved, until nothing follows from it."""
        if isinstance(item, BookChanged):
            for engine in self._of_market.get(item.book.instrument, ()):
                self._queue.append((engine, item))
        else:
            self._route(item)
        while self._queue:
            engine, event = self._queue.popleft()
            self._step(engine, event)

    def wake_ns(self) -> int:
        """When the next engine wants a timer."""
        return min((engine.wake_ns for engine in self.engines.values()), default=NEVER_NS)

    def timers(self, now_ns: int) -> None:
        """Give a Timer to each engine whose time has come."""
        for engine in list(self.engines.values()):
            if engine.wake_ns <= now_ns:
                self.handle(ForWorker(engine.worker, Timer(now_ns)))

    # ------------------------------------------------------------------ inside

    def _route(self, item: LaneItem) -> None:
        if isinstance(item, ForWorker):
            engine = self.engines.get(item.worker)
            if engine is not None:
                self._queue.append((engine, item.event))
        elif isinstance(item, AddEngine):
            self._add(item)
        elif isinstance(item, DropEngine):
            self._drop(item.worker)
        elif isinstance(item, BookLost):
            for engine in self._of_market.get(item.instrument, ()):
                self._queue.append((engine, item))
        elif isinstance(item, FillHeard):
            gateway = self._gateways[item.fill.instrument.venue]
            owner = gateway.heard(item)  # before it is booked: the last fill closes the gateway's entry
            if gateway.fill_once(item.fill):
                self._give(owner, item)
        elif isinstance(item, OrderHeard):
            self._give(self._gateways[item.report.instrument.venue].heard(item), item)
        elif isinstance(item, Answered):
            self._give(self._gateways[item.instrument.venue].heard(item), item)
        elif isinstance(item, LinkChanged):
            self._route_link(item)
        elif isinstance(item, BalancesHeard):
            self._balances[item.venue] = item
            for engine in self.engines.values():
                if engine.instrument.id.venue == item.venue:
                    self._queue.append((engine, item))
        elif not isinstance(item, Traded):
            for engine in self.engines.values():
                self._queue.append((engine, item))

    def _route_link(self, item: LinkChanged) -> None:
        gateway = self._gateways.get(item.venue)
        if gateway is not None:
            gateway.heard(item)
        self._links[(item.venue, item.link)] = item
        if item.link == "account":
            self._links.pop((item.venue, "orders"), None)
        for engine in self.engines.values():
            if item.venue == "desk" or engine.instrument.id.venue == item.venue:
                self._queue.append((engine, item))

    def _give(self, worker: str | None, event: Event) -> None:
        if not worker:
            return
        engine = self.engines.get(worker)
        if engine is not None:
            self._queue.append((engine, event))
        elif isinstance(event, FillHeard):
            # Its engine is being built from the stored fills, or it has none any more: kept for the next one.
            kept = self._early.setdefault(worker, [])
            kept.append(event)
            del kept[:-EARLY_KEPT]

    def _add(self, item: AddEngine) -> None:
        engine = item.engine
        self.engines[engine.worker] = engine
        self._of_market.setdefault(engine.instrument.id, []).append(engine)
        item.gateway.watch(engine.instrument.id)
        venue = engine.instrument.id.venue
        for (of, _), link in sorted(self._links.items()):
            if of in (venue, "desk"):
                self._queue.append((engine, link))
        if venue in self._balances:
            self._queue.append((engine, self._balances[venue]))
        for early in self._early.pop(engine.worker, ()):
            self._queue.append((engine, early))  # one that was stored in time as well is counted once
        self.changed.add(engine.worker)

    def _drop(self, worker: str) -> None:
        engine = self.engines.pop(worker, None)
        if engine is not None:
            self._of_market[engine.instrument.id].remove(engine)
            self.changed.discard(worker)

    def _step(self, engine: Engine, event: Event) -> None:
        if self.engines.get(engine.worker) is not engine:
            return  # it crashed or was dropped while this event waited
        if self._trace is not None:
            self._trace(ForWorker(engine.worker, event))
        try:
            step = engine.step(event)
        except Exception as error:  # one worker's crash must not stop the others: pull its orders and show it
            self._fail(engine, error)
            return
        if step is None:
            return
        self.changed.add(engine.worker)
        gateway = self._gateways[engine.instrument.id.venue]
        for approved in step.approved:
            if self._trace is not None:
                self._trace(approved.command)
            answer = gateway.send(approved)
            if answer is not None:
                self._queue.append((engine, answer))
        if engine.needs_reconcile:
            engine.needs_reconcile = False
            gateway.reconcile_soon()
        if step.approved or step.refused or not isinstance(event, (BookChanged, Timer)):
            self._record(step)

    def _fail(self, engine: Engine, error: Exception) -> None:
        log.exception("worker=%s crashed; its orders are being canceled", engine.worker)
        self.failed[engine.worker] = f"{type(error).__name__}: {error}"
        self._drop(engine.worker)
        self._gateways[engine.instrument.id.venue].abandon(engine.worker, "the worker crashed")
        if self._crashed is not None:
            self._crashed(engine.worker, error)


class LaneService:
    """The thread of one lane.

    Args:
        board: changed engines are shown here under `engine/{worker}`.
    """

    def __init__(self, name: str, lane: Lane, inbox: Inbox[LaneItem], clock: ClockLike, board: Board) -> None:
        self.lane = lane
        self.inbox = inbox
        self.lag_ns = 0
        self._clock = clock
        self._board = board
        self._shown_ns = 0
        self.service = Service(name, self._run)

    @property
    def is_well(self) -> bool:
        """The thread runs and came round lately."""
        return self.service.is_alive and self.service.silent_s < WELL_S

    def _run(self, service: Service) -> None:
        lane, inbox, clock = self.lane, self.inbox, self._clock
        while not service.stopping:
            wait_s = min(IDLE_S, max(0.0, (lane.wake_ns() - clock.now_ns()) / 1e9))
            if lane.changed:
                wait_s = min(wait_s, SHOW_EVERY_NS / 1e9)
            item = inbox.get(wait_s)
            service.beat()
            if item is not None:
                if isinstance(item, BookChanged):
                    now_ns = clock.now_ns()
                    self.lag_ns = max(now_ns - item.at_ns, self.lag_ns * 99 // 100)
                    item = BookChanged(now_ns, item.book)  # a book that waited here is as old as it is
                lane.handle(item)
            now_ns = clock.now_ns()
            if lane.wake_ns() <= now_ns:
                lane.timers(now_ns)
            if lane.changed and now_ns - self._shown_ns >= SHOW_EVERY_NS:
                self.show(now_ns)

    def show(self, now_ns: int) -> None:
        """Put a picture of each engine that changed on the board."""
        self._shown_ns = now_ns
        changed, self.lane.changed = self.lane.changed, set()
        for worker in changed:
            engine = self.lane.engines.get(worker)
            if engine is not None:
                self._board.put(f"engine/{worker}", engine.shown(now_ns))
