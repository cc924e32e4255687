"""The Desk itself: create, start, pause, stop, change, kill; brings workers back after a restart.

`LocalDesk` implements `api.desk.Desk` in the trading process. Commands come from several threads (bus requests, signals, the
terminal); none of them touches an engine: they become events in the lane's inbox, and what they answer is read from the
board. Hides the registry of workers, who may do what when, the two reads that confirm a stop, the housekeeping thread and
the publisher of snapshots. What it needs of the composer is in `Parts`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import msgspec

from api.desk import (
    TOPIC_ORDERS,
    TOPIC_SERIES,
    TOPIC_WORKER,
    BookView,
    DeskView,
    FeedsView,
    FillsView,
    FillView,
    NoticesView,
    NoticeView,
    OrdersView,
    ReceiptView,
    SeriesView,
    WorkerSpec,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, ExchangeError, NotFound
from api.gateway import CONFIRM_GAP_S, Gateway
from api.risk import Limits, limits_schema, parse_limits
from api.runtime import Board, ClockLike, Service
from api.types import Fill, Instrument, InstrumentId, LinkChanged, SetParams, SetTrading, Trading
from database.rows import WorkerRow
from database.state import State
from quote.bus import Bus
from strategies import STRATEGIES
from strategies.base import Params, Strategy
from strategies.defaults import complete_limits
from strategies.engine import Engine, Shown
from strategies.lane import AddEngine, DropEngine, ForWorker, LaneService
from strategies.publisher import Publisher
from strategies.views import Worker, fill_view, orders_view, sample, worker_view

log = logging.getLogger("makerdeck.desk")

ACK_S = 1.0  # a start or pause is seen by the lane within this time, or the answer says so
STOP_S = 10.0  # how long a stop waits for the venue before it says what is in doubt
KILL_S = 5.0  # the same for a kill
MARKET_S = 5.0  # how long creating a worker waits for the first book of its market
SAMPLES_KEPT = 3600  # one a second: the chart's last hour
FILLS_SHOWN = 100
NOTICES_KEPT = 200
KILL_FILE = "KILL"
NAME_MOST = 40


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
    """What the composer hands to the desk. `gateways` by venue; `instruments` everything that can be traded here."""

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


class LocalDesk:
    """See the module docstring. `open()` first, `close()` last."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._lock = threading.RLock()
        self._verbs: dict[str, threading.RLock] = {}
        self._workers: dict[str, Worker] = {}
        self._kill_reason = ""
        self._started_ns = parts.clock.now_ns()
        self._fills: deque[FillView] = deque(maxlen=FILLS_SHOWN)
        self._fill_count = 0
        self._notices: deque[NoticeView] = deque(maxlen=NOTICES_KEPT)
        self._notice_count = 0
        self._has_operator = True
        self._closing = False
        self._trouble: dict[str, str] = {}
        self._keeper = Service("desk-keeper", self._keep, restart_after_s=1.0)
        self._publisher = Publisher(
            parts.bus, parts.board, parts.clock, self, lambda: (self._fill_count, self._notice_count)
        )

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Bring back what outlived the last run: workers disarmed, the kill latch as it was."""
        p = self._p
        killed = p.state.kill()
        if killed is not None:
            self._kill_reason = killed.reason
            for gateway in p.gateways.values():
                gateway.kill(killed.reason)
        rows = p.state.workers()
        for row in rows:
            try:
                self._restore(row)
            except (BadInput, BadInputs, KeyError) as error:
                self.notice("error", row.id, f"worker {row.id} could not be brought back: {error}")
        self._fills.extend(stored.view() for stored in p.state.fills(limit=FILLS_SHOWN))
        self._keeper.start()
        self._publisher.service.start()
        self._resume(rows)

    def close(self, deadline_s: float = STOP_S) -> bool:
        """Stop every worker and confirm; True when nothing of ours is left at any venue."""
        self._closing = True
        clean = True
        for worker in list(self._workers.values()):
            if worker.state in ("running", "paused", "stopping"):
                view = self.stop(worker.id, by="desk", reason="the desk is closing")
                clean = clean and (view.receipt is None or view.receipt.confirmed)
        for gateway in self._p.gateways.values():
            remaining = self._confirm(gateway, None, deadline_s)
            clean = clean and remaining == 0
        self._keeper.stop()
        self._publisher.service.stop()
        self._keeper.join(2.0)
        self._publisher.service.join(2.0)
        return clean

    def _restore(self, row: WorkerRow) -> None:
        spec = row.spec
        instrument = self._instrument(spec.venue, spec.symbol)
        strategy = STRATEGIES[spec.strategy]
        params = strategy.parse(spec.params)
        limits = parse_limits(spec.limits, None)
        worker = Worker(
            id=row.id,
            number=int(row.id[1:]),
            spec=replace(spec, params={}, limits={}),
            instrument=instrument,
            params=params.as_dict(),
            limits=dict(limits.as_dict()),
            derived=tuple(row.extra.get("limits_derived", ())),
            version=row.version,
            is_demo=row.is_demo,
            state="halted" if self._kill_reason else "stopped",
            reason=self._kill_reason or "the desk was started again",
            started_ns=row.started_ns,
            stopped_ns=row.stopped_ns or row.started_ns,
        )
        self._enlist(worker, strategy, params, limits)

    def _resume(self, rows: list[WorkerRow]) -> None:
        if self._kill_reason:
            return
        for row in rows:
            if row.resume and row.state in ("running", "paused") and row.id in self._workers:
                self.notice("info", row.id, "started again after the restart, as it was told to")
                self.start(row.id, by="restart")

    # ------------------------------------------------------------------ reading

    def health(self) -> dict[str, Any]:
        view = self.view()
        checks = dict(self._trouble)
        lane = self._p.lane.service
        if not lane.is_alive or lane.silent_s > 5.0:
            checks["lane"] = "the trading thread does not answer"
        if view.lost_bus_s > 0:
            checks["bus"] = f"lost for {view.lost_bus_s:.1f} s"
        for venue, gateway in self._p.gateways.items():
            if not gateway.is_linked:
                checks[f"venue {venue}"] = "account stream is down"
            elif gateway.trouble:
                checks[f"venue {venue}"] = gateway.trouble
        return {"status": "degraded" if checks else "ok", "desk": msgspec.to_builtins(view), "checks": checks}

    def view(self) -> DeskView:
        p, now_ns = self._p, self._p.clock.now_ns()
        with self._lock:
            workers = list(self._workers.values())
        nets: list[Decimal] = []
        currencies: set[str] = set()
        partial = False
        for worker in workers:
            shown = self._shown(worker.id)
            net = None if shown is None else shown.life.net
            if net is None:
                partial = partial or shown is None or shown.fills > 0
                continue
            nets.append(net)
            currencies.add(worker.instrument.quote)
        return DeskView(
            name=p.name,
            run_id=p.run_id,
            version=p.version,
            env=p.env,
            market=p.market.label,
            started_ns=self._started_ns,
            published_ns=now_ns,
            is_killed=bool(self._kill_reason),
            kill_reason=self._kill_reason,
            workers=len(workers),
            running=sum(1 for w in workers if w.state in ("running", "paused", "stopping")),
            open_orders=sum(g.live_count for g in p.gateways.values()),
            unknown_orders=sum(g.unknown_count for g in p.gateways.values()),
            bus=p.bus.mode,
            database=p.has_trade_log,
            lost_bus_s=round(p.bus.lost_for_s, 1),
            lane_lag_ms=round(p.lane.lag_ns / 1e6, 3),
            net=sum(nets, Decimal(0)) if len(currencies) == 1 or not nets else None,
            net_currency=next(iter(currencies)) if len(currencies) == 1 else "",
            net_is_partial=partial,
        )

    def strategies(self) -> list[dict[str, Any]]:
        return [
            {
                "name": s.name,
                "kind": s.kind,
                "title": s.title,
                "description": s.description,
                "schema": s.schema(),
                "limits_schema": limits_schema(),
            }
            for s in STRATEGIES.values()
        ]

    def venues(self) -> list[dict[str, Any]]:
        return self._p.venues()

    def feeds(self) -> FeedsView:
        return self._p.market.feeds(self._p.clock.now_ns())

    def workers(self) -> list[WorkerView]:
        with self._lock:
            found = sorted(self._workers.values(), key=lambda w: w.number)
        return [self._view(worker) for worker in found]

    def worker(self, worker_id: str) -> WorkerView:
        return self._view(self._worker(worker_id))

    def orders(self, worker_id: str) -> OrdersView:
        worker = self._worker(worker_id)
        return orders_view(worker, self._shown(worker_id), self._p.queue_ahead, self._p.clock.now_ns())

    def fills(
        self,
        *,
        worker_id: str | None = None,
        symbol: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> FillsView:
        if not 1 <= limit <= 1000:
            raise BadInput("limit", f"{limit} is out of range; allowed: 1 to 1000 fills")
        stored = self._p.state.fills(worker_id=worker_id, symbol=symbol, before_ns=before_ns, limit=limit)
        return FillsView(self._p.clock.now_ns(), tuple(fill.view() for fill in stored))

    def versions(self, worker_id: str) -> list[dict[str, Any]]:
        self._worker(worker_id)
        return [asdict(version) for version in self._p.state.versions(worker_id)]

    def book(self, instrument: str) -> BookView:
        found = self._p.market.book(InstrumentId(instrument), self._p.clock.now_ns())
        if found is None:
            raise NotFound(f"no market data for {instrument}")
        return found

    def series(self, worker_id: str) -> SeriesView:
        worker = self._worker(worker_id)
        with self._lock:
            return SeriesView(worker_id, tuple(worker.samples))

    def notices(self) -> NoticesView:
        with self._lock:
            return NoticesView(self._p.clock.now_ns(), tuple(self._notices))

    # ------------------------------------------------------------------ commands

    def create(self, spec: WorkerSpec, *, by: str, is_demo: bool = False) -> WorkerView:
        errors: list[BadInput] = []
        strategy = STRATEGIES.get(spec.strategy)
        if spec.kind != "market_making":
            later = " (not available yet)" if spec.kind in ("self_trade", "hedge") else ""
            errors.append(BadInput("kind", f"{spec.kind!r}{later}; allowed: market_making"))
        if strategy is None:
            errors.append(
                BadInput("strategy", f"{spec.strategy!r} is unknown; allowed: {', '.join(STRATEGIES)}")
            )
        if spec.venue not in self._p.gateways:
            errors.append(
                BadInput("venue", f"{spec.venue!r} is unknown; allowed: {', '.join(self._p.gateways)}")
            )
        if spec.env != self._p.env:
            errors.append(BadInput("env", f"{spec.env!r} does not fit this desk; allowed: {self._p.env}"))
        if spec.account != "main":
            errors.append(BadInput("account", f"{spec.account!r} is unknown; allowed: main"))
        if len(spec.name) > NAME_MOST or any(not c.isprintable() for c in spec.name):
            errors.append(BadInput("name", f"must be up to {NAME_MOST} printable characters"))
        instrument = None
        try:
            instrument = self._instrument(spec.venue, spec.symbol)
        except BadInput as error:
            if spec.venue in self._p.gateways:
                errors.append(error)
        params: Params | None = None
        if strategy is not None:
            try:
                params = strategy.parse(spec.params)
            except BadInputs as error:
                errors.extend(error.errors)
        if errors or strategy is None or instrument is None or params is None:
            raise BadInputs(tuple(errors))
        self._p.market.ensure(instrument)
        limits, derived = self._limits(strategy, params, spec.limits, instrument)
        with self._lock:
            name = spec.name or self._free_name(f"{spec.strategy} {spec.symbol}")
            if any(w.spec.name == name for w in self._workers.values()):
                raise BadInput("name", f"{name!r} is taken by another worker")
            number = self._p.state.next_worker_no()
            worker = Worker(
                id=f"w{number}",
                number=number,
                spec=replace(spec, id=f"w{number}", name=name, params={}, limits={}),
                instrument=instrument,
                params=params.as_dict(),
                limits=dict(limits.as_dict()),
                derived=derived,
                version=1,
                is_demo=is_demo,
                state="halted" if self._kill_reason else "stopped",
                reason=self._kill_reason or "not started",
            )
            self._version(worker, by, "created")
            self._p.state.save_worker(self._row(worker))
            self._enlist(worker, strategy, params, limits)
        stated = ", ".join(f"{k}={v}{' (derived)' if k in derived else ''}" for k, v in worker.limits.items())
        log.info("worker=%s name=%s created by %s limits: %s", worker.id, name, by, stated)
        self.notice("info", worker.id, f"{name} created by {by}; limits: {stated}")
        return self._view(worker)

    def change(
        self,
        worker_id: str,
        *,
        params: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        name: str | None = None,
        resume_after_restart: bool | None = None,
        reason: str = "",
        by: str,
    ) -> WorkerView:
        worker = self._worker(worker_id)
        with self._verb(worker_id):
            strategy = STRATEGIES[worker.spec.strategy]
            errors: list[BadInput] = []
            parsed = strategy.parse(worker.params)
            try:
                parsed = strategy.parse({**worker.params, **(params or {})})
            except BadInputs as error:
                errors.extend(error.errors)
            if name is not None:
                taken = any(w.spec.name == name and w is not worker for w in self._workers.values())
                if not name or len(name) > NAME_MOST or any(not c.isprintable() for c in name) or taken:
                    errors.append(
                        BadInput("name", f"must be 1 to {NAME_MOST} printable characters and not taken")
                    )
            if errors:
                raise BadInputs(tuple(errors))
            given = {k: v for k, v in worker.limits.items() if k not in worker.derived}
            for key, value in (limits or {}).items():
                if value is None:
                    given.pop(key, None)
                else:
                    given[key] = value
            merged, derived = self._limits(strategy, parsed, given, worker.instrument)
            changes_rules = parsed.as_dict() != worker.params or merged.as_dict() != worker.limits
            with self._lock:
                worker.spec = replace(
                    worker.spec,
                    name=worker.spec.name if name is None else name,
                    resume_after_restart=(
                        worker.spec.resume_after_restart
                        if resume_after_restart is None
                        else resume_after_restart
                    ),
                )
                if changes_rules:
                    worker.params = parsed.as_dict()
                    worker.limits = dict(merged.as_dict())
                    worker.derived = derived
                    self._version(worker, by, reason)
                self._p.state.save_worker(self._row(worker))
            if changes_rules:
                now_ns = self._p.clock.now_ns()
                self._tell(worker, SetParams(now_ns, parsed, merged, worker.version))
                self._await(worker, lambda shown: shown.version >= worker.version, ACK_S)
                self.notice(
                    "info", worker.id, f"version {worker.version} by {by}{': ' + reason if reason else ''}"
                )
            return self._view(worker)

    def delete(self, worker_id: str, *, by: str) -> None:
        worker = self._worker(worker_id)
        with self._verb(worker_id):
            if worker.state in ("running", "paused", "stopping"):
                raise Conflict(f"{worker.spec.name} is {worker.state}; stop it first")
            if self._gateway(worker).live_of(worker_id)[0]:
                raise Conflict(f"orders of {worker.spec.name} are still live or in doubt at the venue")
            with self._lock:
                del self._workers[worker_id]
                self._p.state.delete_worker(worker_id)
            self._p.lane.inbox.put(DropEngine(worker_id))
            for prefix in (TOPIC_WORKER, TOPIC_ORDERS, TOPIC_SERIES):
                self._p.bus.drop(prefix + worker_id)
            self._p.board.drop(f"engine/{worker_id}")
            self.notice("info", worker_id, f"{worker.spec.name} deleted by {by}")

    def start(self, worker_id: str, *, by: str) -> WorkerView:
        worker = self._worker(worker_id)
        with self._verb(worker_id):
            if self._kill_reason:
                raise Conflict(f"the desk is killed ({self._kill_reason}); release it first")
            if self._closing:
                raise Conflict("the desk is closing")
            if worker.state == "running":
                return self._view(worker)
            if worker.state == "stopping":
                raise Conflict(f"{worker.spec.name} is stopping; orders are still in doubt")
            if worker.state == "failed":
                self._renew(worker)
            now_ns = self._p.clock.now_ns()
            with self._lock:
                if worker.state != "paused":
                    worker.started_ns, worker.stopped_ns, worker.receipt = now_ns, None, None
                worker.state, worker.reason = "running", f"started by {by}"
                self._p.state.save_worker(self._row(worker))
            self._p.market.ensure(worker.instrument)
            self._tell(worker, SetTrading(now_ns, Trading.RUN, ""))
            self._await(worker, lambda shown: shown.trading is not Trading.DISARMED, ACK_S)
            log.info("worker=%s started by %s limits=%s", worker_id, by, worker.limits)
            self.notice("info", worker_id, f"{worker.spec.name} started by {by}")
            view = self._view(worker)
            self._p.on_run(view, "started")
            return view

    def pause(self, worker_id: str, *, by: str) -> WorkerView:
        worker = self._worker(worker_id)
        with self._verb(worker_id):
            if worker.state == "paused":
                return self._view(worker)
            if worker.state != "running":
                raise Conflict(f"{worker.spec.name} is {worker.state}; only a running worker can be paused")
            with self._lock:
                worker.state, worker.reason = "paused", f"paused by {by}"
                self._p.state.save_worker(self._row(worker))
            self._tell(worker, SetTrading(self._p.clock.now_ns(), Trading.PAUSE, f"paused by {by}"))
            self._await(worker, lambda shown: shown.trading is Trading.PAUSE, ACK_S)
            self.notice("info", worker_id, f"{worker.spec.name} paused by {by}")
            return self._view(worker)

    def stop(self, worker_id: str, *, by: str, reason: str = "") -> WorkerView:
        worker = self._worker(worker_id)
        with self._verb(worker_id):
            if (
                worker.state in ("stopped", "halted", "failed")
                and not self._gateway(worker).live_of(worker_id)[0]
            ):
                return self._view(worker)
            self._stop(worker, reason or f"stopped by {by}", STOP_S)
            return self._view(worker)

    def kill(self, *, reason: str, by: str) -> ReceiptView:
        p = self._p
        reason = reason or f"killed by {by}"
        asked = 0
        for gateway in p.gateways.values():
            asked += gateway.kill(reason)  # before anything else: from here on nothing new leaves
        self._kill_reason = reason
        try:
            p.state.set_kill(reason, by, p.clock.now_ns())
        except OSError as error:
            self._trouble["kill"] = f"the latch could not be stored: {error}"
            log.error("the kill latch could not be stored: %s", error)
        now_ns = p.clock.now_ns()
        fills_before = self._fill_count
        with self._lock:
            workers = list(self._workers.values())
            for worker in workers:
                worker.reason = reason
                if worker.state in ("running", "paused", "stopping"):
                    worker.stopped_ns = now_ns
                worker.state = "halted"
        for worker in workers:
            self._tell(worker, SetTrading(now_ns, Trading.STOP, f"killed: {reason}"))
        remaining: int | None = 0
        for gateway in p.gateways.values():
            left = self._confirm(gateway, None, KILL_S)
            remaining = None if left is None or remaining is None else remaining + left
        for worker in workers:
            self._tell(worker, SetTrading(p.clock.now_ns(), Trading.DISARMED, reason))
            p.state.save_worker(self._row(worker))
        live = sum(g.live_count for g in p.gateways.values())
        unknown = sum(g.unknown_count for g in p.gateways.values())
        confirmed = remaining == 0 and live == 0
        at_ns = p.clock.now_ns()
        receipt = ReceiptView(
            action="kill",
            at_ns=now_ns,
            asked=asked,
            canceled=max(0, asked - live),
            filled=self._fill_count - fills_before,
            remaining=live if remaining is None else remaining,
            unknown=unknown,
            confirmed=confirmed,
            confirmed_ns=at_ns if confirmed else None,
            text=(
                f"{asked} orders canceled everywhere; the venue confirmed none twice"
                if confirmed
                else f"{asked} cancels sent, {live} orders still live or in doubt; canceling goes on"
            )
            + ". Nothing was sold or bought; positions stay.",
        )
        log.error("desk killed by %s: %s; %s", by, reason, receipt.text)
        self.notice("error", "", f"KILL by {by}: {reason}. {receipt.text}")
        return receipt

    def release(self, *, by: str) -> DeskView:
        if (self._p.data_dir / KILL_FILE).exists():
            raise Conflict(f"the file {KILL_FILE} is still in the data directory; remove it first")
        self._p.state.clear_kill(by, self._p.clock.now_ns())
        with self._lock:
            self._kill_reason = ""
            for worker in self._workers.values():
                if worker.state == "halted":
                    worker.state, worker.reason = "stopped", f"kill released by {by}"
                    self._p.state.save_worker(self._row(worker))
        for gateway in self._p.gateways.values():
            gateway.release()
        self.notice("info", "", f"kill released by {by}; every worker stays stopped until it is started")
        return self.view()

    # ------------------------------------------------------------------ what other threads tell the desk

    def heard_fill(self, worker_id: str | None, fill: Fill) -> None:
        """A new fill, once, from the lane: to the store first, then to the faces."""
        instrument = self._p.instruments[fill.instrument]
        self._p.state.record_fill(worker_id or "", fill, instrument)
        with self._lock:
            self._fills.appendleft(fill_view(worker_id or "", fill, instrument))
            self._fill_count += 1

    def crashed(self, worker_id: str, error: BaseException) -> None:
        """The lane lost this engine; its orders are being canceled."""
        with self._lock:
            worker = self._workers.get(worker_id)
            if worker is None:
                return
            worker.state = "failed"
            worker.reason = f"crashed: {type(error).__name__}: {error}"
            worker.stopped_ns = self._p.clock.now_ns()
            self._p.state.save_worker(self._row(worker))
        self.notice("error", worker_id, f"{worker.spec.name} {worker.reason}; its orders are being canceled")

    def owner(self, number: int) -> str | None:
        """The worker with this number in its client ids, None: none now."""
        worker_id = f"w{number}"
        return worker_id if worker_id in self._workers else None

    def notice(self, level: str, worker: str, text: str) -> None:
        """Tell a person."""
        with self._lock:
            self._notices.appendleft(NoticeView(self._p.clock.now_ns(), level, worker, text))
            self._notice_count += 1

    def trouble(self, what: str, text: str) -> None:
        """A lasting problem for health, empty text when it is over."""
        if text:
            if self._trouble.get(what) != text:
                self.notice("error", "", f"{what}: {text}")
            self._trouble[what] = text
        else:
            self._trouble.pop(what, None)

    # ------------------------------------------------------------------ for the publisher

    def worker_ids(self) -> list[str]:
        with self._lock:
            return list(self._workers)

    def newest_fills(self) -> FillsView:
        with self._lock:
            return FillsView(self._p.clock.now_ns(), tuple(self._fills))

    def take_sample(self, worker_id: str, now_ns: int) -> SeriesView | None:
        """Add one point to the chart of a worker that runs; None for one that does not."""
        worker, shown = self._worker(worker_id), self._shown(worker_id)
        if shown is None or worker.state not in ("running", "paused", "stopping"):
            return None
        point = sample(shown, worker.instrument, now_ns)
        with self._lock:
            worker.samples.append(point)
            del worker.samples[:-SAMPLES_KEPT]
        return SeriesView(worker_id, (point,))

    # ------------------------------------------------------------------ inside

    def _worker(self, worker_id: str) -> Worker:
        with self._lock:
            worker = self._workers.get(worker_id)
        if worker is None:
            raise NotFound(f"no worker {worker_id}")
        return worker

    def _verb(self, worker_id: str) -> threading.RLock:
        with self._lock:
            return self._verbs.setdefault(worker_id, threading.RLock())

    def _gateway(self, worker: Worker) -> Gateway:
        return self._p.gateways[worker.spec.venue]

    def _shown(self, worker_id: str) -> Shown | None:
        found = self._p.board.get(f"engine/{worker_id}")
        return found if isinstance(found, Shown) else None

    def _view(self, worker: Worker) -> WorkerView:
        shown = self._shown(worker.id)
        with self._lock:
            return worker_view(worker, shown, market=self._p.market.label, now_ns=self._p.clock.now_ns())

    def _instrument(self, venue: str, symbol: str) -> Instrument:
        found = self._p.instruments.get(InstrumentId.of(venue, symbol))
        if found is None or not self._p.market.carries(found):
            known = sorted(
                i.symbol
                for i in self._p.instruments.values()
                if i.id.venue == venue and self._p.market.carries(i)
            )
            raise BadInput(
                "symbol", f"{symbol!r} is unknown at {venue}; allowed: {', '.join(known) or 'none'}"
            )
        return found

    def _free_name(self, wanted: str) -> str:
        taken = {w.spec.name for w in self._workers.values()}
        name, n = wanted, 2
        while name in taken:
            name, n = f"{wanted} {n}", n + 1
        return name

    def _limits(
        self, strategy: Strategy, params: Params, raw: Mapping[str, Any], instrument: Instrument
    ) -> tuple[Limits, tuple[str, ...]]:
        """Complete limits: what was given, and derived defaults for the rest (paper and testnets only)."""
        mid = self._mid(instrument)
        base, quote = self._balances(instrument)
        return complete_limits(
            strategy, params, raw, instrument=instrument, mid=mid, base_total=base, quote_total=quote
        )

    def _mid(self, instrument: Instrument) -> Decimal:
        waiter = threading.Event()
        for _ in range(int(MARKET_S / 0.05)):
            book = self._p.market.book(instrument.id, self._p.clock.now_ns())
            if book is not None and book.bids and book.asks:
                return (Decimal(book.bids[0][0]) + Decimal(book.asks[0][0])) / 2
            waiter.wait(0.05)
        raise BadInputs(
            (BadInput("symbol", f"there is no market data for {instrument.symbol} yet; try again"),)
        )

    def _balances(self, instrument: Instrument) -> tuple[Decimal, Decimal]:
        try:
            found = {
                b.asset: b.total for b in self._p.gateways[instrument.id.venue].exchange.fetch_balances()
            }
        except ExchangeError as error:
            raise Conflict(f"the balances could not be read: {error.message}") from None
        return found.get(instrument.base, Decimal(0)), found.get(instrument.quote, Decimal(0))

    def _enlist(self, worker: Worker, strategy: Strategy, params: Params, limits: Limits) -> None:
        gateway = self._gateway(worker)
        fills = tuple(s.fill for s in self._p.state.fills_of(worker.id))
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
        with self._lock:
            self._workers[worker.id] = worker
        self._p.board.put(f"engine/{worker.id}", engine.shown(self._p.clock.now_ns()))
        if self._p.market.carries(worker.instrument):
            self._p.market.ensure(worker.instrument)
        self._p.lane.inbox.put(AddEngine(engine, gateway))

    def _renew(self, worker: Worker) -> None:
        """A fresh engine after a crash; its fills come back from the store."""
        if self._gateway(worker).live_of(worker.id)[0]:
            raise Conflict(f"orders of {worker.spec.name} are still live or in doubt at the venue")
        self._p.state.flush(2.0)
        strategy = STRATEGIES[worker.spec.strategy]
        self._enlist(worker, strategy, strategy.parse(worker.params), parse_limits(worker.limits, None))

    def _row(self, worker: Worker) -> WorkerRow:
        return WorkerRow(
            id=worker.id,
            spec=replace(worker.spec, params=worker.params, limits=worker.limits),
            state=worker.state,
            resume=worker.spec.resume_after_restart,
            is_demo=worker.is_demo,
            version=worker.version,
            created_ns=self._p.clock.now_ns(),
            started_ns=worker.started_ns,
            stopped_ns=worker.stopped_ns,
            reason=worker.reason,
            extra={"limits_derived": list(worker.derived)},
        )

    def _version(self, worker: Worker, by: str, reason: str) -> None:
        worker.version = self._p.state.add_version(
            worker.id,
            at_ns=self._p.clock.now_ns(),
            by=by,
            reason=reason,
            params=worker.params,
            limits=worker.limits,
        )

    def _tell(self, worker: Worker, event: SetTrading | SetParams) -> None:
        self._p.lane.inbox.put(ForWorker(worker.id, event))

    def _await(self, worker: Worker, seen: Callable[[Shown], bool], timeout_s: float) -> bool:
        """Wait until the lane shows it, at most `timeout_s`."""
        waiter = threading.Event()
        for _ in range(max(1, int(timeout_s / 0.01))):
            shown = self._shown(worker.id)
            if shown is not None and seen(shown):
                return True
            waiter.wait(0.01)
        return False

    def _stop(self, worker: Worker, reason: str, deadline_s: float) -> None:
        gateway, clock = self._gateway(worker), self._p.clock
        shown = self._shown(worker.id)
        asked, filled_before = gateway.live_of(worker.id)[0], 0 if shown is None else shown.fills
        now_ns = clock.now_ns()
        with self._lock:
            worker.state, worker.reason = "stopping", reason
            worker.stopped_ns = worker.stopped_ns or now_ns
            self._p.state.save_worker(self._row(worker))
        self._tell(worker, SetTrading(now_ns, Trading.STOP, reason))
        self._await(
            worker,
            lambda s: s.trading is Trading.STOP and not s.orders and not gateway.live_of(worker.id)[0],
            deadline_s,
        )
        remaining = self._confirm(gateway, worker, max(0.5, deadline_s - (clock.now_ns() - now_ns) / 1e9))
        live, unknown = gateway.live_of(worker.id)
        confirmed = remaining == 0 and live == 0
        shown = self._shown(worker.id)
        filled = 0 if shown is None else max(0, shown.fills - filled_before)
        with self._lock:
            worker.receipt = ReceiptView(
                action="stop",
                at_ns=now_ns,
                asked=asked,
                canceled=max(0, asked - live),
                filled=filled,
                remaining=live if remaining is None else max(remaining, live),
                unknown=unknown,
                confirmed=confirmed,
                confirmed_ns=clock.now_ns() if confirmed else None,
                text=(
                    f"{asked} orders canceled, none left: the venue said so twice"
                    if confirmed
                    else f"{live} orders still live or in doubt after {deadline_s:.0f} s"
                    + ("; the venue could not be read" if remaining is None else "")
                )
                + ". The position stays.",
            )
            if confirmed:
                worker.state = "halted" if self._kill_reason else "stopped"
            self._p.state.save_worker(self._row(worker))
        if confirmed:
            self._tell(worker, SetTrading(clock.now_ns(), Trading.DISARMED, reason))
            self._await(worker, lambda s: s.trading is Trading.DISARMED, ACK_S)
        level = "info" if confirmed else "error"
        self.notice(level, worker.id, f"{worker.spec.name} {reason}: {worker.receipt.text}")
        self._p.on_run(self._view(worker), "ended")

    def _confirm(self, gateway: Gateway, worker: Worker | None, deadline_s: float) -> int | None:
        """Open orders the venue lists for this worker (None: for the desk): 0 only when two reads agree, None: unreadable."""
        clock, waiter = self._p.clock, threading.Event()
        number = None if worker is None else worker.number
        until_ns = clock.now_ns() + int(deadline_s * 1e9)
        empty, last = 0, None
        while True:
            try:
                last = gateway.count_at_venue(number)
                empty = empty + 1 if last == 0 else 0
            except ExchangeError as error:
                last, empty = None, 0
                log.warning("venue=%s cannot confirm open orders: %s", gateway.exchange.venue, error.message)
            if empty >= 2:
                return 0
            if clock.now_ns() >= until_ns:
                return last if last else (None if last is None else 1)
            waiter.wait(CONFIRM_GAP_S)

    # ------------------------------------------------------------------ keeping house

    def _keep(self, service: Service) -> None:
        """Ends runs whose duration is over, finishes stops that were in doubt, watches the KILL file and the bus."""
        while not service.wait(0.25):
            if not self._kill_reason and (self._p.data_dir / KILL_FILE).exists():
                self.kill(reason=f"file {KILL_FILE} in the data directory", by="file")
            self._watch_bus()
            for worker in list(self._workers.values()):
                shown = self._shown(worker.id)
                if shown is None:
                    continue
                ended = worker.state == "running" and shown.trading is Trading.STOP
                settled = worker.state == "stopping" and not self._gateway(worker).live_of(worker.id)[0]
                if (ended or settled) and self._verb(worker.id).acquire(blocking=False):
                    try:
                        if worker.state in ("running", "stopping"):
                            self._stop(worker, shown.reason or worker.reason, STOP_S)
                    finally:
                        self._verb(worker.id).release()

    def _watch_bus(self) -> None:
        lost_s = self._p.bus.lost_for_s
        has_operator = lost_s < self._p.bus_lost_s
        if has_operator is self._has_operator:
            return
        self._has_operator = has_operator
        reason = (
            ""
            if has_operator
            else f"the bus is lost, no operator can reach this desk (after {self._p.bus_lost_s:g} s)"
        )
        self._p.lane.inbox.put(
            LinkChanged(self._p.clock.now_ns(), "desk", "operator", has_operator, reason or "the bus is back")
        )
        self.notice("info" if has_operator else "error", "", reason or "the bus is back; quoting goes on")
