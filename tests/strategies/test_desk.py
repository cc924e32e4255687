"""The Desk under faults: a real store, a real paper venue, a synthetic market, no face.

Each case is one that a hostile review broke: a store that can't be written, a lane that dies, a start that
meets a kill, a pause that meets a loss.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.desk import WorkerSpec, WorkerView
from api.errors import BadInputs, Conflict
from api.types import LinkChanged, Trading
from quote.bus import InProcessBus
from strategies.engine import Shown
from strategies.host import Host, HostSettings

SPEC = WorkerSpec(
    "market_making",
    "standard",
    "paper",
    "BTC-USDT",
    {"spread": 0.2, "quantity": "0.01", "max_orders": 2, "interval": 1},
)


def until(done: Callable[[], Any], seconds: float = 8.0) -> Any:
    """What `done()` says as soon as it is true; fails after `seconds`."""
    waiter = threading.Event()
    for _ in range(int(seconds / 0.02)):
        found = done()
        if found:
            return found
        waiter.wait(0.02)
    raise AssertionError("it did not happen in time")


class Rig:
    """A host on one data directory that can be closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.host = self.open()

    def open(self) -> Host:
        settings = HostSettings(name="t", env="paper", version="0", data_dir=self.path, live_market=False)
        self.bus = InProcessBus()
        self.host = Host(settings, self.bus)
        self.host.start()
        return self.host

    def close(self) -> bool:
        clean = self.host.close()
        self.bus.close()
        return clean

    def running(self, **changes: Any) -> WorkerView:
        """A worker with orders at the venue."""
        made = until(lambda: self._created(changes))
        self.host.desk.start(made.id, by="test")
        until(lambda: self.at_venue() == 4)
        return self.host.desk.worker(made.id)

    def _created(self, changes: dict[str, Any]) -> WorkerView | None:
        try:
            return self.host.desk.create(WorkerSpec(**{**_fields(SPEC), **changes}), by="test")
        except BadInputs:
            return None  # no market data yet

    def at_venue(self) -> int:
        return len(self.host.gateway.exchange.fetch_open_orders(None))

    def shown(self, worker_id: str) -> Shown:
        found = self.host.desk.roster.shown(worker_id)
        assert found is not None
        return found


def _fields(spec: WorkerSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def lock(rig: Rig) -> Iterator[sqlite3.Connection]:
    """Another process's hold on state.db; closing it lets the desk write again."""
    held = sqlite3.connect(rig.path / "state.db", isolation_level=None)
    yield held
    held.close()


def test_a_stop_cancels_and_answers_though_the_store_cannot_be_written(
    rig: Rig, lock: sqlite3.Connection
) -> None:
    worker = rig.running()
    lock.execute("BEGIN IMMEDIATE")
    view = rig.host.desk.stop(worker.id, by="test")
    assert view.receipt is not None and view.receipt.confirmed
    assert (view.state, rig.at_venue()) == ("stopped", 0)
    lock.execute("ROLLBACK")
    until(lambda: rig.host.state.workers()[0].state == "stopped")  # written down as soon as it can be


def test_a_pause_reaches_the_engine_though_the_store_cannot_be_written(
    rig: Rig, lock: sqlite3.Connection
) -> None:
    worker = rig.running()
    lock.execute("BEGIN IMMEDIATE")
    assert rig.host.desk.pause(worker.id, by="test").state == "paused"
    assert rig.shown(worker.id).trading is Trading.PAUSE
    until(lambda: rig.at_venue() == 0)
    lock.execute("ROLLBACK")


def test_a_start_or_change_that_cannot_be_written_down_changes_nothing(
    rig: Rig, lock: sqlite3.Connection
) -> None:
    worker = rig.running()
    rig.host.desk.stop(worker.id, by="test")
    before = rig.host.desk.worker(worker.id)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(Conflict, match="nothing was changed"):
        rig.host.desk.start(worker.id, by="test")
    with pytest.raises(Conflict, match="nothing was changed"):
        rig.host.desk.change(worker.id, limits={"max_position": "0.05"}, by="test")
    lock.execute("ROLLBACK")
    after = rig.host.desk.worker(worker.id)
    assert (after.state, after.limits, after.params_version) == (
        before.state,
        before.limits,
        before.params_version,
    )
    assert rig.shown(worker.id).trading is Trading.DISARMED and rig.at_venue() == 0
    changed = rig.host.desk.change(worker.id, limits={"max_position": "0.05"}, by="test")
    assert changed.limits["max_position"] == "0.05"
    assert str(rig.shown(worker.id).limits.max_position) == "0.05"


def test_a_store_in_trouble_pulls_the_quotes_and_lets_them_back(rig: Rig) -> None:
    worker = rig.running()
    inbox, clock = rig.host.lane.inbox, rig.host.clock
    inbox.put(LinkChanged(clock.now_ns(), "desk", "store", False, "database is locked"))
    until(lambda: rig.at_venue() == 0)
    until(lambda: "database is locked" in rig.host.desk.worker(worker.id).reason)
    inbox.put(LinkChanged(clock.now_ns(), "desk", "store", True, "back"))
    until(lambda: rig.at_venue() == 4)


def test_a_dead_lane_leaves_no_order_behind_and_says_so(rig: Rig) -> None:
    worker = rig.running()

    # what routing an event could do wrong, in the lane's own loop and outside of any engine
    rig.host.lane.lane._route = None  # type: ignore[assignment,method-assign]
    rig.host.lane.inbox.put(LinkChanged(rig.host.clock.now_ns(), "desk", "store", True, ""))
    until(lambda: rig.host.desk.worker(worker.id).state == "failed")
    until(lambda: rig.at_venue() == 0)
    with pytest.raises(Conflict, match="trading thread"):
        rig.host.desk.start(worker.id, by="test")
    assert rig.host.desk.health()["status"] == "degraded"


def test_a_start_that_meets_a_kill_is_refused_and_a_release_starts_nobody(rig: Rig) -> None:
    worker = rig.running()
    rig.host.desk.stop(worker.id, by="test")
    desk, saved = rig.host.desk, rig.host.desk.roster.save_first

    def killed_meanwhile(row: Any) -> None:
        saved(row)
        desk.kill(reason="test", by="test")

    desk.roster.save_first = killed_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="killed"):
        desk.start(worker.id, by="test")
    desk.roster.save_first = saved  # type: ignore[method-assign]
    assert desk.worker(worker.id).state == "halted"
    desk.release(by="test")
    until(lambda: rig.shown(worker.id).trading is Trading.DISARMED)
    assert (desk.worker(worker.id).state, rig.at_venue()) == ("stopped", 0)


def test_a_kill_cancels_latches_and_outlives_the_desk(rig: Rig) -> None:
    worker = rig.running()
    receipt = rig.host.desk.kill(reason="enough", by="test")
    assert receipt.confirmed and rig.at_venue() == 0
    assert rig.host.desk.worker(worker.id).receipt == receipt
    rig.close()
    rig.open()
    assert rig.host.desk.view().is_killed and rig.host.desk.worker(worker.id).state == "halted"
    with pytest.raises(Conflict, match="enough"):
        rig.host.desk.start(worker.id, by="test")
    rig.host.desk.release(by="test")
    assert rig.host.desk.start(worker.id, by="test").state == "running"


def test_a_kill_file_is_seen_before_anything_is_started_again(rig: Rig) -> None:
    worker = rig.running(resume_after_restart=True)
    rig.close()
    (rig.path / "KILL").touch()
    rig.open()
    assert rig.host.desk.worker(worker.id).state == "halted" and rig.at_venue() == 0
    with pytest.raises(Conflict, match="KILL"):
        rig.host.desk.release(by="test")


def test_a_worker_told_to_resume_comes_back_as_it_was(rig: Rig) -> None:
    first = rig.running(resume_after_restart=True)
    second = rig._created({"name": "second", "resume_after_restart": True})
    third = rig._created({"name": "third"})
    assert second is not None and third is not None
    rig.host.desk.start(second.id, by="test")
    rig.host.desk.start(third.id, by="test")
    rig.host.desk.pause(second.id, by="test")
    assert rig.close()
    rig.open()
    states = [rig.host.desk.worker(w.id).state for w in (first, second, third)]
    assert states == ["running", "paused", "stopped"]
    until(lambda: rig.at_venue() == 4)
    assert rig.shown(second.id).trading is Trading.PAUSE


def test_deleted_workers_are_gone_after_a_restart_and_their_number_is_not_used_again(rig: Rig) -> None:
    worker = rig.running()
    with pytest.raises(Conflict):
        rig.host.desk.delete(worker.id, by="test")
    rig.host.desk.stop(worker.id, by="test")
    rig.host.desk.delete(worker.id, by="test")
    rig.close()
    rig.open()
    assert rig.host.desk.workers() == []
    assert until(lambda: rig._created({})).id == "w2"


def test_a_new_name_touches_neither_limits_nor_version(rig: Rig) -> None:
    worker = rig.running()
    renamed = rig.host.desk.change(worker.id, name="mine", by="test")
    assert (renamed.name, renamed.params_version, renamed.limits) == ("mine", 1, worker.limits)
    assert rig.host.state.workers()[0].spec.name == "mine"


def test_two_starts_are_one_run(rig: Rig) -> None:
    worker = rig.running()
    rig.host.desk.stop(worker.id, by="test")
    began: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: began.append(rig.host.desk.start(worker.id, by="test").started_ns))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(began) == 4 and len(set(began)) == 1
    until(lambda: rig.at_venue() == 4)


def test_limits_with_absurd_exponents_are_refused_by_name(rig: Rig) -> None:
    worker = rig.running()
    with pytest.raises(BadInputs) as caught:
        rig.host.desk.change(worker.id, limits={"max_position": "1e-999999"}, by="test")
    assert caught.value.errors[0].field == "limits.max_position"
    with pytest.raises(BadInputs):
        rig.host.desk.change(worker.id, params={"quantity": "1e-999999"}, by="test")
