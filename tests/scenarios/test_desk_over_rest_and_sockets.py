"""The whole desk in its own processes, driven as a person's scripts do: REST, Socket.IO, signals, files.

One desk serves the tests of this file, each with workers of its own; what a test breaks it sees mended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import socketio

from tests.scenarios.conftest import RECORDED
from tests.scenarios.processes import Family, RunningDesk, alive, family_of, role_of, until
from tests.shared import SHARED

pytestmark = [pytest.mark.redis]

LOG = "orders.db"  # the trade log, when nobody named another place
AT_ONCE_S = 1.0  # start, pause and stop take effect within it
BUS_LOST_S = 1.5
TIGHT = {"spread": 0.002, "quantity": "0.001", "max_orders": 2, "interval": 5}
WIDE = {"spread": 0.2, "quantity": "0.001", "max_orders": 2, "interval": 5}
RELEASE = {"confirm": "RELEASE"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDesk]:
    """A desk on the recorded market at ten times its speed, else on the synthetic one, without its demo
    worker."""
    family = Family(tmp_path_factory.mktemp("desk"))
    tape = SHARED / RECORDED / "spot_btcusdt_20240808.gz"
    market = ("--tape", str(tape), "--speed", "10") if tape.exists() else ()
    rich = family.home / "rich.json"  # one test needs orders larger than what the market takes in a moment
    rich.write_text('{"balances": {"USDT": "100000000", "BTC": "2000"}}')
    try:
        running = family.desk(
            family.home / "data",
            *("--enable-db", "--bus-lost-s", str(BUS_LOST_S), "--paper-instruments", str(rich)),
            *market,
        )
        demo = until(
            lambda: next((w for w in running.get("/api/workers")["workers"] if w["word"] == "QUOTING"), None),
            "the first start's own worker to quote",
        )
        assert (demo["name"], demo["is_demo"]) == ("demo", True)
        assert running.post(f"/api/workers/{demo['id']}/stop")["receipt"]["confirmed"]
        assert running.ask("DELETE", f"/api/workers/{demo['id']}").status_code == 204
        yield running
    finally:
        family.close()


@pytest.fixture
def work(desk: RunningDesk) -> Iterator[Callable[..., str]]:
    """Makes workers that are stopped and deleted afterwards; the id of each."""
    made: list[str] = []

    def make(params: dict[str, Any] = TIGHT, *, start: bool = True, **spec: Any) -> str:
        worker: str = desk.create(params=params, **spec)["id"]
        made.append(worker)
        if start:
            desk.post(f"/api/workers/{worker}/start")
        return worker

    yield make
    for worker in made:
        desk.ask("POST", f"/api/workers/{worker}/stop", {})
        desk.ask("DELETE", f"/api/workers/{worker}")


class Viewer:
    """A plain Socket.IO client that keeps the newest of each topic and the count of all."""

    def __init__(self, desk: RunningDesk, *topics: str) -> None:
        self.newest: dict[str, Any] = {}
        self.seen: dict[str, int] = {}
        self.fills: dict[str, dict[str, Any]] = {}
        self.words: list[str] = []
        self.io = socketio.Client(reconnection=False)
        self.io.on("snapshot", self._hear)
        self.io.on("change", self._hear)
        self.io.connect(desk.url, auth={"token": desk.token})
        self.io.call("subscribe", {"topics": list(topics)}, timeout=10)

    def _hear(self, told: dict[str, Any]) -> None:
        topic, data = told["topic"], told["data"]
        self.newest[topic] = data
        self.seen[topic] = self.seen.get(topic, 0) + 1
        if topic == "fills":
            self.fills.update((fill["trade_id"], fill) for fill in data["fills"])

    def close(self) -> None:
        self.io.disconnect()
        self.io.shutdown()


def rows(path: Path, query: str, *args: object) -> list[tuple[Any, ...]]:
    """A query on one of the desk's files while it runs, without our own code."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        found: list[tuple[Any, ...]] = db.execute(query, args).fetchall()
        return found


def cost_s(desk: RunningDesk) -> float:
    """What one question costs just now, on a busy machine too."""
    began = time.monotonic()
    desk.get("/api/desk")
    return time.monotonic() - began


# ----------------------------------------------------------------------------------------------- the main job


def test_quotes_and_fills_are_the_same_over_rest_sockets_store_and_trade_log(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(start=False)
    viewer = Viewer(desk, f"worker/{worker}", f"orders/{worker}", "book/paper:BTC-USDT", "fills")
    try:
        desk.post(f"/api/workers/{worker}/start")
        desk.quoting(worker)
        until(lambda: viewer.seen.get("book/paper:BTC-USDT", 0) > 3, "books over the socket")
        until(lambda: (viewer.newest.get(f"orders/{worker}") or {}).get("orders"), "orders over the socket")
        order = viewer.newest[f"orders/{worker}"]["orders"][0]
        assert order["worker"] == worker
        assert sum(Decimal(value) for _, value in order["terms"]) == pytest.approx(
            Decimal(order["price"]), abs=Decimal("0.02")
        )
        book = viewer.newest["book/paper:BTC-USDT"]
        assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
        assert book["market"] in ("REPLAY", "SYNTHETIC", "LIVE")
        assert viewer.newest[f"worker/{worker}"]["word"] in ("QUOTING", "ONE-SIDED", "WAITING")
        until(lambda: desk.worker(worker)["stats"]["trades"] >= 10, "ten fills")
        stopped = desk.post(f"/api/workers/{worker}/stop")
        assert stopped["receipt"]["confirmed"]
        told = {fill["trade_id"]: fill for fill in desk.fills(worker)}
        assert len(told) == stopped["stats"]["trades"]
        until(lambda: told.keys() <= viewer.fills.keys(), "every fill over the socket")
    finally:
        viewer.close()
    for trade, fill in told.items():
        assert viewer.fills[trade] == fill
    stored = rows(
        desk.data_dir / "state.db", "SELECT trade_id, client_id, side FROM fills WHERE worker=?", worker
    )
    assert sorted(stored) == sorted((t, f["client_id"], f["side"]) for t, f in told.items())
    logged = until(
        lambda: found if len(found := rows(desk.data_dir / LOG, LOGGED, worker)) >= len(told) else None,
        "every fill in the trade log",
    )
    assert sorted(logged) == sorted(
        (t, f["client_id"], f["side"], f["price"], f["qty"], f["fee"], f["venue_ns"]) for t, f in told.items()
    )
    position = sum(Decimal(f["qty"]) * (1 if f["side"] == "buy" else -1) for f in told.values())
    assert Decimal(stopped["position"]) == position


LOGGED = "SELECT trade_id, client_id, side, price, qty, fee, venue_ns FROM fills WHERE worker=?"


def test_a_parameter_changed_while_it_runs_moves_the_quotes_and_is_a_version(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(TIGHT)
    before = desk.quoting(worker)
    run = before["started_ns"]
    changed = desk.patch(f"/api/workers/{worker}", {"params": {"spread": 0.5}, "reason": "wider for a test"})
    assert changed["params_version"] == 2

    def is_wide() -> bool:
        seen = desk.worker(worker)
        if seen["buy"]["price"] is None or seen["sell"]["price"] is None:
            return False
        width = Decimal(seen["sell"]["price"]) - Decimal(seen["buy"]["price"])
        return width > Decimal("0.004") * Decimal(seen["mid"])

    until(is_wide, "quotes at the new width", within_s=10.0)
    assert desk.worker(worker)["started_ns"] == run, "it went on running"
    versions = desk.get(f"/api/workers/{worker}/versions")["versions"]
    assert [(v["version"], v["reason"], v["params"]["spread"]) for v in versions] == [
        (2, "wider for a test", 0.5),
        (1, "created", 0.002),
    ]


def test_a_pause_keeps_only_what_reduces_and_a_start_quotes_again(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(TIGHT)
    until(lambda: Decimal(desk.worker(worker)["position"]) != 0, "a position")
    allowed_s = AT_ONCE_S + 3 * cost_s(desk)
    began = time.monotonic()
    assert desk.post(f"/api/workers/{worker}/pause")["state"] == "paused"

    def only_reduces() -> bool:
        held = Decimal(desk.worker(worker)["position"])
        live = [order for order in desk.orders(worker) if order["request"] != "cancel"]
        left = sum(Decimal(order["qty"]) - Decimal(order["filled"]) for order in live)
        return all((order["side"] == "sell") is (held > 0) for order in live) and left <= abs(held)

    until(only_reduces, "the pause to take effect", within_s=allowed_s)
    assert time.monotonic() - began < allowed_s
    sent = desk.worker(worker)["stats"]["orders_sent"]
    assert desk.post(f"/api/workers/{worker}/pause")["state"] == "paused", "twice is no error"
    assert desk.worker(worker)["stats"]["orders_sent"] == sent
    assert desk.worker(worker)["word"] in ("PAUSED", "REDUCING")
    assert desk.post(f"/api/workers/{worker}/start")["state"] == "running"
    until(lambda: desk.worker(worker)["stats"]["orders_sent"] > sent, "it quotes again")


def test_a_stop_cancels_within_a_second_with_a_receipt_and_twice_is_no_error(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(WIDE)
    desk.quoting(worker)
    stopped = desk.post(f"/api/workers/{worker}/stop")
    receipt = stopped["receipt"]
    assert stopped["state"] == "stopped"
    assert receipt["confirmed"]
    assert (receipt["remaining"], receipt["unknown"]) == (0, 0)
    assert receipt["asked"] >= 4
    assert receipt["confirmed_ns"] - receipt["at_ns"] < (AT_ONCE_S + cost_s(desk)) * 1e9
    assert desk.orders(worker) == []
    again = desk.post(f"/api/workers/{worker}/stop")
    assert (again["state"], again["receipt"]) == ("stopped", receipt)


def test_two_starts_at_once_are_one_run(desk: RunningDesk, work: Callable[..., str]) -> None:
    worker = work(WIDE, start=False)
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(desk.post(f"/api/workers/{worker}/start")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert [answer["state"] for answer in answers] == ["running"] * 4
    assert len({answer["started_ns"] for answer in answers}) == 1
    desk.quoting(worker)
    assert len(desk.orders(worker)) <= 4
    runs = "SELECT count(*) FROM runs WHERE worker=?"
    until(lambda: rows(desk.data_dir / LOG, runs, worker) == [(1,)], "one run in the trade log")


def test_the_old_consoles_four_endpoints_act_on_the_worker_default(desk: RunningDesk) -> None:
    body = {"exchange": "paper", "symbol": "BTCUSDT", "spread": 0.2, "max_orders": 1, "quantity": 0.001}
    assert desk.get("/api/status")["running"] is False
    assert desk.get("/api/config")["exchanges"] == ["paper"]
    begun = desk.post("/api/start", body)
    assert begun["success"] is True
    try:
        assert desk.ask("POST", "/api/start", body).status_code == 400
        until(lambda: desk.get("/api/status")["stats"].get("current_price"), "numbers in the old shape")
        status = desk.get("/api/status")
        assert (status["running"], status["strategy"]) == (True, "standard")
        assert isinstance(status["stats"]["total_trades"], int)
        assert isinstance(status["stats"]["base_balance"], float)
    finally:
        ended = desk.post("/api/stop")
    assert (ended["success"], ended["receipt"]["confirmed"]) == (True, True)
    assert desk.get("/api/status")["running"] is False
    assert desk.post("/api/stop")["success"] is True
    assert desk.ask("DELETE", f"/api/workers/{begun['worker_id']}").status_code == 204


def test_two_workers_on_one_symbol_never_meet_and_the_later_one_says_that_it_gave_way(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    # the first keeps its large orders where they are while the market moves through them
    stays = {"spread": 0.001, "quantity": "12", "max_orders": 1, "interval": 60, "keep_bps": 1000}
    first = work(stays, limits={"max_position": "1000"})
    desk.quoting(first)
    second = work(TIGHT)

    def gave_way() -> bool:
        touch = {o["side"]: Decimal(o["price"]) for o in desk.orders(first)}
        for order in desk.orders(second):
            price, terms = Decimal(order["price"]), [name for name, _ in order["terms"]]
            if "own other worker" in terms:
                return True
            other = touch.get("sell" if order["side"] == "buy" else "buy")
            assert other is None or price != other
        return False

    until(gave_way, "a quote that gives way", within_s=40.0)
    both = rows(
        desk.data_dir / "state.db",
        "SELECT venue_ns, ticks FROM fills WHERE worker IN (?, ?)"
        " GROUP BY venue_ns, ticks HAVING count(DISTINCT worker) > 1 AND count(DISTINCT side) > 1",
        *(first, second),
    )
    assert both == [], "one worker's buy met the other's sell"


# ------------------------------------------------------------------------------------------------------- kill


def test_a_kill_over_rest_halts_everything_until_it_is_released(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(WIDE)
    desk.quoting(worker)
    receipt = desk.post("/api/kill", {"reason": "a drill"})
    assert (receipt["action"], receipt["confirmed"], receipt["remaining"]) == ("kill", True, 0)
    assert receipt["asked"] >= 4
    halted = desk.worker(worker)
    assert (halted["state"], halted["open_orders"]) == ("halted", 0)
    assert "a drill" in halted["reason"]
    refused = desk.ask("POST", f"/api/workers/{worker}/start", {})
    assert refused.status_code == 409
    assert "killed" in refused.json()["detail"]
    assert desk.ask("POST", "/api/kill/release", {}).status_code == 400
    desk.post("/api/kill/release", RELEASE)
    assert desk.worker(worker)["state"] == "stopped"
    desk.post(f"/api/workers/{worker}/start")
    desk.quoting(worker)


def test_the_kill_file_and_the_kill_signal_do_the_same(desk: RunningDesk, work: Callable[..., str]) -> None:
    worker = work(WIDE)
    desk.quoting(worker)
    file = desk.data_dir / "KILL"
    file.touch()
    until(lambda: desk.worker(worker)["state"] == "halted", "the file to halt it", within_s=5.0)
    until(lambda: desk.worker(worker)["open_orders"] == 0, "no order", within_s=5.0)
    refused = desk.ask("POST", "/api/kill/release", RELEASE)
    assert (refused.status_code, "KILL" in refused.text) == (409, True)
    file.unlink()
    desk.post("/api/kill/release", RELEASE)
    desk.post(f"/api/workers/{worker}/start")
    desk.quoting(worker)
    desk.program.process.send_signal(signal.SIGUSR1)
    until(lambda: desk.worker(worker)["state"] == "halted", "the signal to halt it", within_s=5.0)
    assert "SIGUSR1" in desk.worker(worker)["reason"]
    desk.post("/api/kill/release", RELEASE)


# ----------------------------------------------------------------------------------------- what breaks beside


def test_a_killed_page_comes_back_and_the_desk_kept_quoting(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(TIGHT)
    before = desk.quoting(worker)
    run = desk.get("/api/desk")["run_id"]
    web = next(pid for pid in desk.program.family() if role_of(pid) == "web")
    os.kill(web, signal.SIGKILL)
    killed_ns = time.time_ns()
    until(lambda: not alive([web]), "the page to be gone")
    until(lambda: is_answering(desk), "the page to come back")
    after = desk.worker(worker)
    assert desk.get("/api/desk")["run_id"] == run
    assert (after["state"], after["started_ns"]) == ("running", before["started_ns"])
    back_ns = time.time_ns()
    decided = "SELECT count(*) FROM decisions WHERE worker=? AND at_ns BETWEEN ? AND ?"
    until(
        lambda: rows(desk.data_dir / LOG, decided, worker, killed_ns, back_ns) > [(5,)],
        "decisions of the time without a page",
    )


def is_answering(desk: RunningDesk) -> bool:
    try:
        return desk.ask("GET", "/api/desk", timeout_s=5.0).status_code == 200
    except OSError:
        return False


def test_a_killed_redis_is_started_again_and_everything_comes_back(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(TIGHT)
    before = desk.quoting(worker)
    redis = next(pid for pid in desk.program.family() if role_of(pid) == "redis")
    viewer = Viewer(desk, f"worker/{worker}")
    try:
        os.kill(redis, signal.SIGKILL)
        until(lambda: not alive([redis]), "Redis to be gone")
        until(lambda: is_answering(desk), "the desk to answer")
        seen = viewer.seen.get(f"worker/{worker}", 0)
        until(lambda: viewer.seen.get(f"worker/{worker}", 0) > seen + 2, "news over the socket")
    finally:
        viewer.close()
    desk.quoting(worker)
    assert desk.worker(worker)["started_ns"] == before["started_ns"]


def test_a_desk_that_nobody_can_reach_pulls_its_quotes_and_quotes_again_when_the_bus_is_back(
    desk: RunningDesk, work: Callable[..., str]
) -> None:
    worker = work(WIDE)
    desk.quoting(worker)
    redis = next(pid for pid in desk.program.family() if role_of(pid) == "redis")
    os.kill(redis, signal.SIGSTOP)
    stopped_ns = time.time_ns()
    try:
        pulled = "SELECT count(*) FROM decisions WHERE worker=? AND at_ns > ? AND silent LIKE '%operator%'"
        until(
            lambda: rows(desk.data_dir / LOG, pulled, worker, stopped_ns) > [(0,)],
            "the quotes to be pulled",
            within_s=BUS_LOST_S + 10.0,
        )
    finally:
        os.kill(redis, signal.SIGCONT)
    until(lambda: is_answering(desk), "the desk to answer")
    desk.quoting(worker)
    notices = [notice["text"] for notice in desk.get("/api/notices")["notices"]]
    assert any("bus is lost" in text for text in notices)


def test_every_process_of_the_desk_is_in_one_family(desk: RunningDesk) -> None:
    roles = {role_of(pid) for pid in family_of(desk.program.pid)}
    assert {"supervisor", "desk", "web", "keeper", "redis"} <= roles
    for pid in desk.program.family():
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            assert desk.token.encode() not in told
