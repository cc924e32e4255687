"""The Desk itself: create, start, pause, stop, change, kill; brings workers back after a restart.

`LocalDesk` implements `api.desk.Desk` in the trading process. Commands come from several threads (bus
requests, signals, the terminal); none of them touches an engine: they become events in the lane's inbox, and
what they answer is read from the board. One lock per worker makes its verbs follow one another, so that two
starts are one start.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import msgspec

from api.desk import (
    TOPIC_ORDERS,
    TOPIC_SERIES,
    TOPIC_WORKER,
    BookView,
    DeskView,
    FeedsView,
    FillsView,
    NoticesView,
    OrdersView,
    ReceiptView,
    SeriesView,
    WorkerSpec,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, NotFound
from api.risk import Limits, limits_schema, parse_limits
from api.runtime import Service
from api.types import Instrument, InstrumentId, SetParams, SetTrading, Trading
from database.rows import WorkerRow
from strategies import STRATEGIES
from strategies.base import Params, Strategy
from strategies.keeper import KILL_FILE, Keeper
from strategies.lane import DropEngine
from strategies.publisher import Publisher
from strategies.roster import RUNNING, Parts, Roster
from strategies.stopping import ACK_S, confirm_none, kill_all, stop_all
from strategies.views import Worker, orders_view

log = logging.getLogger("makerdeck.desk")

STOP_S = 10.0  # how long a stop waits for the venue before it says what is in doubt
KILL_S = 5.0  # the same for a kill
NAME_MOST = 40


class LocalDesk:
    """See the module docstring. `open()` first, `close()` last."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._roster = Roster(parts)
        self._started_ns = parts.clock.now_ns()
        self._closing = False
        self._coming: set[str] = set()
        self._finishing: set[str] = set()
        self._keeper = Keeper(self._roster, lambda reason: self._kill_by_file(reason), self._finish)
        self._publisher = Publisher(parts.bus, parts.board, parts.clock, self, self._roster)

    @property
    def roster(self) -> Roster:
        """For the composer: what the lane and the store tell the desk goes there."""
        return self._roster

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Bring back what outlived the last run: workers disarmed, the kill latch as it was."""
        p, roster = self._p, self._roster
        killed = p.state.kill()
        if killed is not None:
            roster.kill_reason = killed.reason
            for gateway in p.gateways.values():
                gateway.latch(killed.reason)
        elif (p.data_dir / KILL_FILE).exists():  # before anything is started again
            self._kill_by_file(f"file {KILL_FILE} in the data directory")
        rows = p.state.workers()
        for row in rows:
            try:
                self._restore(row)
            except (BadInput, BadInputs, KeyError) as error:
                roster.notice("error", row.id, f"worker {row.id} could not be brought back: {error}")
        roster.show_stored_fills()
        self._keeper.service.start()
        self._publisher.service.start()
        self._resume(rows)

    def close(self, deadline_s: float = STOP_S) -> bool:
        """Stop every worker and confirm; True when nothing of ours is left at any venue."""
        self._closing = True
        self._keeper.service.stop()
        self._keeper.service.join(2.0)
        roster = self._roster
        running = [w for w in list(roster.workers.values()) if w.state in RUNNING]
        to_resume = {w.id: w.state for w in running if w.spec.resume_after_restart and w.state != "stopping"}
        clean = stop_all(roster, running, "the desk is closing", deadline_s) if running else True
        for gateway in self._p.gateways.values():
            if gateway.live_count:
                gateway.latch(
                    "the desk is closing"
                )  # whatever the engines did: nothing new, everything canceled
            clean = confirm_none(gateway, None, self._p.clock, deadline_s) == 0 and clean
        roster.save_unsaved()
        for worker_id, state in to_resume.items():  # the next start finds it as it was
            roster.save_as(worker_id, state)
        self._publisher.service.stop()
        self._publisher.service.join(2.0)
        return clean

    def _restore(self, row: WorkerRow) -> None:
        spec = row.spec
        instrument = self._roster.instrument(spec.venue, spec.symbol)
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
            state="halted" if self._roster.kill_reason else "stopped",
            reason=self._roster.kill_reason or "the desk was started again",
            started_ns=row.started_ns,
            stopped_ns=row.stopped_ns or row.started_ns,
        )
        self._roster.enlist(worker, strategy, params, limits)

    def _resume(self, rows: list[WorkerRow]) -> None:
        """Workers that were told to come back do: running ones start again, paused ones stay paused."""
        if self._roster.kill_reason:
            return
        for row in rows:
            worker = self._roster.workers.get(row.id)
            if worker is None or not row.resume:
                continue
            if row.state == "running":
                self._roster.notice("info", row.id, "started again after the restart, as it was told to")
                self.start(row.id, by="restart")
            elif row.state == "paused":
                with self._roster.lock:
                    worker.state, worker.reason, worker.stopped_ns = (
                        "paused",
                        "paused before the restart",
                        None,
                    )
                    self._roster.tell(
                        worker, SetTrading(self._p.clock.now_ns(), Trading.PAUSE, worker.reason)
                    )

    # ------------------------------------------------------------------ reading

    def health(self) -> dict[str, Any]:
        view = self.view()
        checks = dict(self._roster.troubles)
        if not self._p.lane.is_well:
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
        with self._roster.lock:
            workers = list(self._roster.workers.values())
        nets: list[Decimal] = []
        currencies: set[str] = set()
        partial = False
        for worker in workers:
            shown = self._roster.shown(worker.id)
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
            is_killed=bool(self._roster.kill_reason),
            kill_reason=self._roster.kill_reason,
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
        with self._roster.lock:
            found = sorted(self._roster.workers.values(), key=lambda w: w.number)
        return [self._roster.view(worker) for worker in found]

    def worker(self, worker_id: str) -> WorkerView:
        return self._roster.view(self._roster.worker(worker_id))

    def orders(self, worker_id: str) -> OrdersView:
        worker = self._roster.worker(worker_id)
        return orders_view(worker, self._roster.shown(worker_id), self._p.queue_ahead, self._p.clock.now_ns())

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
        self._roster.worker(worker_id)
        return [asdict(version) for version in self._p.state.versions(worker_id)]

    def book(self, instrument: str) -> BookView:
        found = self._p.market.book(InstrumentId(instrument), self._p.clock.now_ns())
        if found is None:
            raise NotFound(f"no market data for {instrument}")
        return found

    def series(self, worker_id: str) -> SeriesView:
        worker = self._roster.worker(worker_id)
        with self._roster.lock:
            return SeriesView(worker_id, tuple(worker.samples))

    def notices(self) -> NoticesView:
        return self._roster.notices()

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
            instrument = self._roster.instrument(spec.venue, spec.symbol)
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
        limits, derived = self._roster.limits(strategy, params, spec.limits, instrument)
        with self._roster.lock:
            name = spec.name or self._roster.free_name(f"{spec.strategy} {spec.symbol}")
            if any(w.spec.name == name for w in self._roster.workers.values()) or name in self._coming:
                raise BadInput("name", f"{name!r} is taken by another worker")
            self._coming.add(name)
        try:
            worker = self._made(spec, name, instrument, params, limits, derived, by, is_demo)
            self._roster.enlist(worker, strategy, params, limits)
        finally:
            with self._roster.lock:
                self._coming.discard(name)
        stated = ", ".join(f"{k}={v}{' (derived)' if k in derived else ''}" for k, v in worker.limits.items())
        log.info("worker=%s name=%s created by %s limits: %s", worker.id, name, by, stated)
        self._roster.notice("info", worker.id, f"{name} created by {by}; limits: {stated}")
        return self._roster.view(worker)

    def _made(
        self,
        spec: WorkerSpec,
        name: str,
        instrument: Instrument,
        params: Params,
        limits: Limits,
        derived: tuple[str, ...],
        by: str,
        is_demo: bool,
    ) -> Worker:
        """A worker that is written down. Raises Conflict when it can't be."""
        try:
            number = self._p.state.next_worker_no()
        except OSError as error:
            raise Conflict(f"this cannot be written down, so nothing was made: {error}") from error
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
            state="halted" if self._roster.kill_reason else "stopped",
            reason=self._roster.kill_reason or "not started",
        )
        worker.version = self._roster.new_version(worker.id, worker.params, worker.limits, by, "created")
        self._roster.save_first(self._roster.row(worker))
        return worker

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
        worker = self._roster.worker(worker_id)
        with self._roster.verb(worker_id):
            strategy = STRATEGIES[worker.spec.strategy]
            errors: list[BadInput] = []
            parsed = strategy.parse(worker.params)
            try:
                parsed = strategy.parse({**worker.params, **(params or {})})
            except BadInputs as error:
                errors.extend(error.errors)
            if name is not None:
                taken = any(w.spec.name == name and w is not worker for w in self._roster.workers.values())
                if not name or len(name) > NAME_MOST or any(not c.isprintable() for c in name) or taken:
                    errors.append(
                        BadInput("name", f"must be 1 to {NAME_MOST} printable characters and not taken")
                    )
            if errors:
                raise BadInputs(tuple(errors))
            spec = replace(
                worker.spec,
                name=worker.spec.name if name is None else name,
                resume_after_restart=(
                    worker.spec.resume_after_restart if resume_after_restart is None else resume_after_restart
                ),
            )
            if params is None and limits is None:
                self._roster.save_first(replace(self._roster.row(worker), **_row_of(spec, worker)))
                with self._roster.lock:
                    worker.spec = spec
                return self._roster.view(worker)
            self._change_rules(worker, spec, strategy, parsed, limits or {}, by, reason)
            return self._roster.view(worker)

    def _change_rules(
        self,
        worker: Worker,
        spec: WorkerSpec,
        strategy: Strategy,
        parsed: Params,
        limits: dict[str, Any],
        by: str,
        reason: str,
    ) -> None:
        """New parameters or limits: written down as a version first, then known here, then told."""
        given = {k: v for k, v in worker.limits.items() if k not in worker.derived}
        for key, value in limits.items():
            if value is None:
                given.pop(key, None)
            else:
                given[key] = value
        merged, derived = self._roster.limits(strategy, parsed, given, worker.instrument)
        shown = self._roster.shown(worker.id)
        is_known = shown is not None and (shown.params, shown.limits) == (parsed, merged)
        version = worker.version
        new_params, new_limits = parsed.as_dict(), dict(merged.as_dict())
        if (new_params, new_limits) != (worker.params, worker.limits):
            version = self._roster.new_version(worker.id, new_params, new_limits, by, reason)
        row = replace(
            self._roster.row(worker),
            spec=replace(spec, params=new_params, limits=new_limits),
            resume=spec.resume_after_restart,
            version=version,
            extra={"limits_derived": list(derived)},
        )
        self._roster.save_first(row)
        with self._roster.lock:
            is_new = version != worker.version
            worker.spec, worker.params, worker.limits = spec, new_params, new_limits
            worker.derived, worker.version = derived, version
            if is_new or not is_known:
                self._roster.tell(worker, SetParams(self._p.clock.now_ns(), parsed, merged, version))
        if is_new or not is_known:
            self._roster.wait_for(worker, lambda s: s.version >= version and s.limits == merged, ACK_S)
        if is_new:
            text = f"version {version} by {by}{': ' + reason if reason else ''}"
            self._roster.notice("info", worker.id, text)

    def delete(self, worker_id: str, *, by: str) -> None:
        self._roster.worker(worker_id)
        with self._roster.verb(worker_id):
            worker = self._roster.worker(worker_id)
            if worker.state in RUNNING:
                raise Conflict(f"{worker.spec.name} is {worker.state}; stop it first")
            if self._roster.gateway(worker).live_of(worker_id)[0]:
                raise Conflict(f"orders of {worker.spec.name} are still live or in doubt at the venue")
            try:
                self._p.state.delete_worker(worker_id)
            except OSError as error:
                raise Conflict(f"this cannot be written down, so nothing was changed: {error}") from error
            with self._roster.lock:
                del self._roster.workers[worker_id]
            self._p.lane.inbox.put(DropEngine(worker_id))
            for prefix in (TOPIC_WORKER, TOPIC_ORDERS, TOPIC_SERIES):
                self._p.bus.drop(prefix + worker_id)
            self._p.board.drop(f"engine/{worker_id}")
            self._roster.notice("info", worker_id, f"{worker.spec.name} deleted by {by}")

    def start(self, worker_id: str, *, by: str) -> WorkerView:
        self._roster.worker(worker_id)
        with self._roster.verb(worker_id):
            worker = self._roster.worker(worker_id)
            if worker.state == "running":
                return self._roster.view(worker)
            if worker.state == "stopping":
                raise Conflict(f"{worker.spec.name} is stopping; orders are still in doubt")
            self._refuse_if_halted()
            if worker.state == "failed":
                self._roster.renew(worker)
            self._p.market.ensure(worker.instrument)
            now_ns = self._p.clock.now_ns()
            is_new_run = worker.state != "paused"
            began_ns = now_ns if is_new_run else worker.started_ns
            row = replace(self._roster.row(worker), state="running", started_ns=began_ns, stopped_ns=None)
            self._roster.save_first(row)
            with self._roster.lock:  # a kill comes before this, and refuses it, or after it, and stops it
                if not self._roster.kill_reason and not self._closing:
                    if is_new_run:
                        worker.started_ns, worker.stopped_ns, worker.receipt = now_ns, None, None
                    worker.state, worker.reason = "running", f"started by {by}"
                    self._roster.tell(worker, SetTrading(now_ns, Trading.RUN, ""))
            if worker.state != "running":
                self._roster.save(worker)
            self._refuse_if_halted()
            self._roster.wait_for(worker, lambda shown: shown.trading is not Trading.DISARMED, ACK_S)
            log.info("worker=%s started by %s limits=%s", worker_id, by, worker.limits)
            self._roster.notice("info", worker_id, f"{worker.spec.name} started by {by}")
            view = self._roster.view(worker)
            self._p.on_run(view, "started")
            return view

    def _refuse_if_halted(self) -> None:
        if self._roster.kill_reason:
            raise Conflict(f"the desk is killed ({self._roster.kill_reason}); release it first")
        if self._closing:
            raise Conflict("the desk is closing")
        if not self._p.lane.is_well:
            raise Conflict("the trading thread does not answer; start the desk anew")

    def pause(self, worker_id: str, *, by: str) -> WorkerView:
        self._roster.worker(worker_id)
        with self._roster.verb(worker_id):
            worker = self._roster.worker(worker_id)
            if worker.state == "paused":
                return self._roster.view(worker)
            with self._roster.lock:
                if worker.state != "running":
                    text = f"{worker.spec.name} is {worker.state}; only a running worker can be paused"
                    raise Conflict(text)
                worker.state, worker.reason = "paused", f"paused by {by}"
                self._roster.tell(worker, SetTrading(self._p.clock.now_ns(), Trading.PAUSE, worker.reason))
            self._roster.wait_for(worker, lambda shown: shown.trading is Trading.PAUSE, ACK_S)
            self._roster.save(worker)
            self._roster.notice("info", worker_id, f"{worker.spec.name} paused by {by}")
            return self._roster.view(worker)

    def stop(self, worker_id: str, *, by: str) -> WorkerView:
        self._roster.worker(worker_id)
        with self._roster.verb(worker_id):
            worker = self._roster.worker(worker_id)
            shown = self._roster.shown(worker_id)
            is_still = worker.state in ("stopped", "halted", "failed") and not (
                self._roster.gateway(worker).live_of(worker_id)[0]
                or (
                    shown is not None
                    and shown.trading in (Trading.RUN, Trading.PAUSE)
                    and worker.state != "failed"
                )
            )
            if not is_still:
                stop_all(self._roster, [worker], f"stopped by {by}", STOP_S)
            return self._roster.view(worker)

    def kill(self, *, reason: str, by: str) -> ReceiptView:
        reason = reason or f"killed by {by}"
        receipt = kill_all(self._roster, reason, by, KILL_S)
        log.error("desk killed by %s: %s; %s", by, reason, receipt.text)
        self._roster.notice("error", "", f"KILL by {by}: {reason}. {receipt.text}")
        return receipt

    def release(self, *, by: str) -> DeskView:
        if (self._p.data_dir / KILL_FILE).exists():
            raise Conflict(f"the file {KILL_FILE} is still in the data directory; remove it first")
        try:
            self._p.state.clear_kill(by, self._p.clock.now_ns())
        except OSError as error:
            raise Conflict(f"this cannot be written down, so nothing was changed: {error}") from error
        roster, now_ns = self._roster, self._p.clock.now_ns()
        with roster.lock:
            workers = list(roster.workers.values())
            for worker in workers:  # whatever raced the kill: nobody quotes because of a release
                roster.tell(worker, SetTrading(now_ns, Trading.STOP, "killed"))
                roster.tell(worker, SetTrading(now_ns, Trading.DISARMED, f"kill released by {by}"))
                if worker.state == "halted":
                    worker.state, worker.reason = "stopped", f"kill released by {by}"
            roster.kill_reason = ""
            for gateway in self._p.gateways.values():
                gateway.release()
        for worker in workers:
            roster.save(worker)
        roster.notice("info", "", f"kill released by {by}; every worker stays stopped until it is started")
        return self.view()

    # ------------------------------------------------------------------ for the keeper

    def _kill_by_file(self, reason: str) -> None:
        self.kill(reason=reason, by="file")

    def _finish(self, worker: Worker, reason: str) -> None:
        """End a run that ended by itself, on a thread of its own; nothing when somebody is busy with it."""
        with self._roster.lock:
            if worker.id in self._finishing:
                return
            self._finishing.add(worker.id)

        def finish(service: Service) -> None:
            try:
                with self._roster.verb(worker.id):
                    if worker.state in ("running", "paused", "stopping") and not service.stopping:
                        stop_all(self._roster, [worker], reason, STOP_S)
            finally:
                with self._roster.lock:
                    self._finishing.discard(worker.id)

        Service(f"finish-{worker.id}", finish).start()


def _row_of(spec: WorkerSpec, worker: Worker) -> dict[str, Any]:
    """The fields of a row that a new name or resume flag changes."""
    kept = replace(spec, params=worker.params, limits=worker.limits)
    return {"spec": kept, "resume": spec.resume_after_restart}
