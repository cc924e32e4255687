"""The desk's workers and everything that is known of them: registry, views, notices, fills. And what the
composer hands in.

`Roster` is the state behind the Desk's commands. It hides locks, the store's rows and how an engine is
reached: whoever wants something of an engine puts an event into the lane's inbox (`tell`) and waits for its
picture on the board (`wait_for`). Called by `strategies.desk`, `.stopping`, `.keeper` and the publisher.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from api.desk import (
    BookView,
    FeedsView,
    FillsView,
    FillView,
    NoticesView,
    NoticeView,
    SeriesView,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, ExchangeError, NotFound
from api.gateway import Gateway
from api.risk import Limits, parse_limits
from api.runtime import Board, ClockLike
from api.types import Fill, Instrument, InstrumentId, SetParams, SetTrading
from database.rows import WorkerRow
from database.state import State
from quote.bus import Bus
from strategies import STRATEGIES
from strategies.base import Params, Strategy
from strategies.defaults import complete_limits
from strategies.engine import Engine, Shown
from strategies.lane import AddEngine, ForWorker, LaneService
from strategies.views import Worker, fill_view, sample, worker_view

log = logging.getLogger("makerdeck.desk")

MARKET_S = 5.0  # how long creating a worker waits for the first book of its market
SAMPLES_KEPT = 3600  # one a second: the chart's last hour
FILLS_SHOWN = 100
NOTICES_KEPT = 200
RUNNING = ("running", "paused", "stopping")


class MarketRoom(Protocol):
    """The desk's feeds, as `run.py` composed them."""

    @property
    def label(self) -> str:
        """LIVE, REPLAY or SYNTHETIC."""

    def ensure(self, instrument: Instrument) -> None:
        """Make sure this market is being listened to. Raises BadInput when the source does not carry it."""

    def carries(self, instrument: Instrument) -> bool: ...

    def feeds(self, now_ns: int) -> FeedsView: ...

    def book(self, instrument: InstrumentId, now_ns: int) -> BookView | None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the composer hands to the desk. `gateways` by venue; `instruments` everything that can be traded
    here.
    """

    name: str
    env: str
    version: str
    run_id: str
    data_dir: Path
    clock: ClockLike
    state: State
    bus: Bus
    board: Board
    lane: LaneService
    gateways: Mapping[str, Gateway]
    instruments: Mapping[InstrumentId, Instrument]
    market: MarketRoom
    queue_ahead: Callable[[str], int | None]
    venues: Callable[[], list[dict[str, Any]]]
    bus_lost_s: float
    has_trade_log: bool
    on_run: Callable[[WorkerView, str], None]


class Roster:
    """See the module docstring. Thread-safe.

    Locks: `lock` guards the registry, the kill reason and each worker's state, together with what is told to
    the lane about them; the store is never called under it. One lock per worker makes its verbs follow one
    another and may be held for as long as a verb takes. `_news` is a leaf: the lane and the store's writer
    thread come here.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.lock = threading.RLock()
        self._news = threading.Lock()
        self._unsaved: set[str] = set()
        self.workers: dict[str, Worker] = {}
        self.kill_reason = ""
        self.fill_count = 0
        self.notice_count = 0
        self.troubles: dict[str, str] = {}
        self._verbs: dict[str, threading.RLock] = {}
        self._fills: deque[FillView] = deque(maxlen=FILLS_SHOWN)
        self._notices: deque[NoticeView] = deque(maxlen=NOTICES_KEPT)

    def worker(self, worker_id: str) -> Worker:
        with self.lock:
            worker = self.workers.get(worker_id)
        if worker is None:
            raise NotFound(f"no worker {worker_id}")
        return worker

    def verb(self, worker_id: str) -> threading.RLock:
        with self.lock:
            return self._verbs.setdefault(worker_id, threading.RLock())

    def gateway(self, worker: Worker) -> Gateway:
        return self.parts.gateways[worker.spec.venue]

    def shown(self, worker_id: str) -> Shown | None:
        found = self.parts.board.get(f"engine/{worker_id}")
        return found if isinstance(found, Shown) else None

    def view(self, worker: Worker) -> WorkerView:
        shown = self.shown(worker.id)
        with self.lock:
            return worker_view(
                worker, shown, market=self.parts.market.label, now_ns=self.parts.clock.now_ns()
            )

    def instrument(self, venue: str, symbol: str) -> Instrument:
        found = self.parts.instruments.get(InstrumentId.of(venue, symbol))
        if found is None or not self.parts.market.carries(found):
            known = sorted(
                i.symbol
                for i in self.parts.instruments.values()
                if i.id.venue == venue and self.parts.market.carries(i)
            )
            raise BadInput(
                "symbol", f"{symbol!r} is unknown at {venue}; allowed: {', '.join(known) or 'none'}"
            )
        return found

    def free_name(self, wanted: str) -> str:
        taken = {w.spec.name for w in self.workers.values()}
        name, n = wanted, 2
        while name in taken:
            name, n = f"{wanted} {n}", n + 1
        return name

    def limits(
        self, strategy: Strategy, params: Params, raw: Mapping[str, Any], instrument: Instrument
    ) -> tuple[Limits, tuple[str, ...]]:
        """Complete limits: what was given, and derived defaults for the rest (paper and testnets only)."""
        mid = self.mid(instrument)
        base, quote = self.balances(instrument)
        return complete_limits(
            strategy, params, raw, instrument=instrument, mid=mid, base_total=base, quote_total=quote
        )

    def mid(self, instrument: Instrument) -> Decimal:
        waiter = threading.Event()
        for _ in range(int(MARKET_S / 0.05)):
            book = self.parts.market.book(instrument.id, self.parts.clock.now_ns())
            if book is not None and book.bids and book.asks:
                return (Decimal(book.bids[0][0]) + Decimal(book.asks[0][0])) / 2
            waiter.wait(0.05)
        raise BadInputs(
            (BadInput("symbol", f"there is no market data for {instrument.symbol} yet; try again"),)
        )

    def balances(self, instrument: Instrument) -> tuple[Decimal, Decimal]:
        try:
            found = {
                b.asset: b.total for b in self.parts.gateways[instrument.id.venue].exchange.fetch_balances()
            }
        except ExchangeError as error:
            raise Conflict(f"the balances could not be read: {error.message}") from None
        return found.get(instrument.base, Decimal(0)), found.get(instrument.quote, Decimal(0))

    def enlist(self, worker: Worker, strategy: Strategy, params: Params, limits: Limits) -> None:
        """Build its engine from the stored fills and hand it to the lane, which adds what came meanwhile."""
        gateway = self.gateway(worker)
        fills = tuple(s.fill for s in self.parts.state.fills_of(worker.id))
        engine = Engine(
            worker.id,
            worker.instrument,
            strategy,
            params,
            limits,
            version=worker.version,
            next_id=lambda: gateway.next_client_id(worker.number),
            others_touch=lambda: gateway.others_touch(worker.instrument.id, worker.id),
            fills=fills,
        )
        with self.lock:
            self.workers[worker.id] = worker
        self.parts.board.put(f"engine/{worker.id}", engine.shown(self.parts.clock.now_ns()))
        if self.parts.market.carries(worker.instrument):
            self.parts.market.ensure(worker.instrument)
        self.parts.lane.inbox.put(AddEngine(engine, gateway))

    def renew(self, worker: Worker) -> None:
        """A fresh engine after a crash; its fills come back from the store."""
        if self.gateway(worker).live_of(worker.id)[0]:
            raise Conflict(f"orders of {worker.spec.name} are still live or in doubt at the venue")
        self.parts.state.flush(2.0)
        strategy = STRATEGIES[worker.spec.strategy]
        self.enlist(worker, strategy, strategy.parse(worker.params), parse_limits(worker.limits, None))

    def row(self, worker: Worker) -> WorkerRow:
        return WorkerRow(
            id=worker.id,
            spec=replace(worker.spec, params=worker.params, limits=worker.limits),
            state=worker.state,
            resume=worker.spec.resume_after_restart,
            is_demo=worker.is_demo,
            version=worker.version,
            created_ns=self.parts.clock.now_ns(),
            started_ns=worker.started_ns,
            stopped_ns=worker.stopped_ns,
            reason=worker.reason,
            extra={"limits_derived": list(worker.derived)},
        )

    def save(self, worker: Worker) -> bool:
        """Write the worker down as it is now; False when that failed: the keeper tries again. For verbs that
        reduce risk, which nothing may hold up.
        """
        with self.lock:
            row = self.row(worker) if worker.id in self.workers else None
        try:
            if row is not None:
                self.parts.state.save_worker(row)
        except OSError as error:
            with self.lock:
                self._unsaved.add(worker.id)
            self.trouble("store", f"{worker.id} could not be written down: {error}")
            return False
        return True

    def save_as(self, worker_id: str, state: str) -> None:
        """Write the worker down in another state than it has; only logged when that fails."""
        worker = self.workers[worker_id]
        try:
            self.parts.state.save_worker(replace(self.row(worker), state=state))
        except OSError as error:
            log.error("worker=%s could not be written down: %s", worker_id, error)

    def save_unsaved(self) -> None:
        """Write down what could not be written before."""
        with self.lock:
            unsaved, self._unsaved = self._unsaved, set()
            workers = [self.workers[key] for key in unsaved if key in self.workers]
        if workers and all([self.save(worker) for worker in workers]):
            self.trouble("store", "")

    def save_first(self, row: WorkerRow) -> None:
        """Write a row that is to become true. For verbs that raise risk: Conflict when it can't be written,
        and nothing was changed.
        """
        try:
            self.parts.state.save_worker(row)
        except OSError as error:
            raise Conflict(f"this cannot be written down, so nothing was changed: {error}") from error

    def new_version(
        self, worker_id: str, params: dict[str, Any], limits: dict[str, Any], by: str, reason: str
    ) -> int:
        """Record what a worker is to be told; the version's number. Raises Conflict as `save_first`."""
        try:
            return self.parts.state.add_version(
                worker_id, at_ns=self.parts.clock.now_ns(), by=by, reason=reason, params=params, limits=limits
            )
        except OSError as error:
            raise Conflict(f"this cannot be written down, so nothing was changed: {error}") from error

    def tell(self, worker: Worker, event: SetTrading | SetParams) -> None:
        self.parts.lane.inbox.put(ForWorker(worker.id, event))

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `done()`, at most `timeout_s`."""
        waiter = threading.Event()
        until_ns = self.parts.clock.now_ns() + int(timeout_s * 1e9)
        while not done():
            if self.parts.clock.now_ns() >= until_ns:
                return False
            waiter.wait(0.01)
        return True

    def wait_for(self, worker: Worker, seen: Callable[[Shown], bool], timeout_s: float) -> bool:
        """Wait until the lane shows it, at most `timeout_s`."""

        def is_seen() -> bool:
            shown = self.shown(worker.id)
            return shown is not None and seen(shown)

        return self.wait_until(is_seen, timeout_s)

    def heard_fill(self, worker_id: str | None, fill: Fill) -> None:
        """A new fill, once, from the lane: to the store first, then to the faces."""
        instrument = self.parts.instruments[fill.instrument]
        self.parts.state.record_fill(worker_id or "", fill, instrument)
        with self._news:
            self._fills.appendleft(fill_view(worker_id or "", fill, instrument))
            self.fill_count += 1

    def crashed(self, worker_id: str, error: BaseException) -> None:
        """The lane lost this engine; its orders are being canceled. Called in the lane: no store, no wait."""
        self.fail(worker_id, f"crashed: {type(error).__name__}: {error}")

    def fail(self, worker_id: str, reason: str) -> None:
        """This worker trades no more until a person starts it; the gateway sees to its orders."""
        with self.lock:
            worker = self.workers.get(worker_id)
            if worker is None or worker.state == "failed":
                return
            worker.state, worker.reason = "failed", reason
            worker.stopped_ns = worker.stopped_ns or self.parts.clock.now_ns()
            self._unsaved.add(worker_id)
        self.notice("error", worker_id, f"{worker.spec.name} {reason}; its orders are being canceled")

    def owner(self, number: int) -> str:
        """The worker whose number is in a client id. It may be deleted: numbers are never used again, and its
        fills stay its own.
        """
        return f"w{number}"

    def notices(self) -> NoticesView:
        with self._news:
            return NoticesView(self.parts.clock.now_ns(), tuple(self._notices))

    def notice(self, level: str, worker: str, text: str) -> None:
        """Tell a person."""
        with self._news:
            self._notices.appendleft(NoticeView(self.parts.clock.now_ns(), level, worker, text))
            self.notice_count += 1

    def trouble(self, what: str, text: str) -> None:
        """A lasting problem for health, empty text when it is over."""
        if text:
            if self.troubles.get(what) != text:
                self.notice("error", "", f"{what}: {text}")
            self.troubles[what] = text
        else:
            self.troubles.pop(what, None)

    def worker_ids(self) -> list[str]:
        with self.lock:
            return list(self.workers)

    def show_stored_fills(self) -> None:
        """Begin with the newest fills of earlier runs."""
        views = [stored.view() for stored in self.parts.state.fills(limit=FILLS_SHOWN)]
        with self._news:
            self._fills.extend(views)

    def newest_fills(self) -> FillsView:
        with self._news:
            return FillsView(self.parts.clock.now_ns(), tuple(self._fills))

    def take_sample(self, worker_id: str, now_ns: int) -> SeriesView | None:
        """Add one point to the chart of a worker that runs; None for one that does not."""
        worker, shown = self.worker(worker_id), self.shown(worker_id)
        if shown is None or worker.state not in ("running", "paused", "stopping"):
            return None
        point = sample(shown, worker.instrument, now_ns)
        with self.lock:
            worker.samples.append(point)
            del worker.samples[:-SAMPLES_KEPT]
        return SeriesView(worker_id, (point,))
