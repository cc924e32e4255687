"""Kill -9: the paper venue lives in a process of its own that the kill does not touch, so its ledger is the
truth that ours must equal afterwards: no fill lost or doubled, no order without an owner, no intent twice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from api.runtime import Clock
from api.types import Fill, Request
from api.venues.paper.client import ANSWER_TIMEOUT_S, PaperClient
from api.venues.paper.faults import Fault
from tests.scenarios.conftest import RECORDED
from tests.scenarios.processes import PAPER_TOKEN, Family, RunningDesk, alive, until
from tests.shared import SHARED

pytestmark = [pytest.mark.slow, pytest.mark.redis]

CONTACT_S = 5.0  # no order without an owner longer than this after contact with the venue
TIGHT = {"spread": 0.002, "quantity": "0.01", "max_orders": 3, "interval": 5}
WIDE_LIMITS = {"max_position": "1.5"}

Terms = tuple[str, str, int, int, Decimal, str, bool, int]


@dataclass
class Venue:
    """The venue's process, and a reader of its ledger."""

    address: str
    reader: PaperClient

    @property
    def env(self) -> dict[str, str]:
        return {"PAPER_URL": self.address, "PAPER_TOKEN": PAPER_TOKEN}

    @property
    def fills(self) -> tuple[Fill, ...]:
        found = self.reader.fetch_ledger().get("main")
        return () if found is None else found.fills

    @property
    def open_ids(self) -> list[str]:
        found = self.reader.fetch_ledger().get("main")
        return [] if found is None else [report.client_id for report in found.open_orders]


@pytest.fixture
def venue(family: Family) -> Iterator[Venue]:
    """A paper venue with its own market: the recording at ten times its speed, else the synthetic one."""
    tape = SHARED / RECORDED / "spot_btcusdt_20240808.gz"
    words = ("--tape", str(tape), "--speed", "10") if tape.exists() else ()
    _, address = family.paper(*words)
    reader = PaperClient(address, PAPER_TOKEN, "auditor", clock=Clock())
    yield Venue(address, reader)
    reader.close()


def ours(data_dir: Path, symbol: str = "BTC-USDT") -> dict[str, Terms]:
    """Every fill of our store by trade id, read without our own code; a doubled one fails here."""
    with contextlib.closing(sqlite3.connect(data_dir / "state.db")) as db:
        rows = db.execute(
            "SELECT trade_id, worker, client_id, side, ticks, lots, fee, fee_asset, is_maker, venue_ns"
            " FROM fills WHERE symbol = ?",
            (symbol,),
        ).fetchall()
    assert len({row[0] for row in rows}) == len(rows)
    return {
        trade: (client_id, side, int(ticks), int(lots), Decimal(fee), asset, bool(maker), int(ns))
        for trade, _, client_id, side, ticks, lots, fee, asset, maker, ns in rows
    }


def workers_of(data_dir: Path) -> dict[str, str]:
    """The worker of each stored fill, by trade id."""
    with contextlib.closing(sqlite3.connect(data_dir / "state.db")) as db:
        return dict(db.execute("SELECT trade_id, worker FROM fills").fetchall())


def theirs(fills: tuple[Fill, ...]) -> dict[str, Terms]:
    return {
        f.trade_id: (f.client_id, f.side.value, f.ticks, f.lots, f.fee, f.fee_asset, f.is_maker, f.venue_ns)
        for f in fills
    }


def same_ledgers(venue: Venue, desk: RunningDesk, worker: str) -> int:
    """Wait until nothing is open or on its way, then compare everything with everything; the number of
    fills."""
    until(lambda: not venue.open_ids, "no order at the venue", within_s=15.0)
    until(lambda: len(ours(desk.data_dir)) >= len(venue.fills), "every fill in the store", within_s=35.0)
    truth = theirs(venue.fills)
    stored = ours(desk.data_dir)
    lost, made_up = truth.keys() - stored.keys(), stored.keys() - truth.keys()
    assert (sorted(lost), sorted(made_up)) == ([], [])
    assert stored == truth
    owners = workers_of(desk.data_dir)
    assert owners == {trade: f"w{int(terms[0][6:9], 36)}" for trade, terms in truth.items()}
    told = desk.fills(worker)
    mine = {trade: truth[trade] for trade, owner in owners.items() if owner == worker}
    assert Counter(f["trade_id"] for f in told) == Counter(mine.keys())
    position = sum(Decimal(f["qty"]) * (1 if f["side"] == "buy" else -1) for f in told)
    assert Decimal(desk.worker(worker)["position"]) == position
    lots = sum(terms[3] if terms[1] == "buy" else -terms[3] for terms in mine.values())
    assert position == lots * Decimal("0.00001")
    per_order: Counter[str] = Counter()
    for fill in venue.fills:
        per_order[fill.client_id] += fill.lots
    assert max(per_order.values(), default=0) <= 1_000, "more was filled than one order asked for"
    return len(truth)


def kill_9(desk: RunningDesk) -> None:
    """SIGKILL to the supervisor and to the desk, in either order; what else there was ends by itself."""
    members = desk.program.family()
    victims = [desk.members["supervisor"], desk.members["desk"]]
    random.shuffle(victims)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    desk.program.process.wait()
    until(lambda: not alive(members), "the rest of the family to end", within_s=15.0)


def wait_for_fills(venue: Venue, more: int, *, within_s: float = 40.0) -> None:
    have = len(venue.fills)
    until(lambda: len(venue.fills) >= have + more, f"{more} more fills", within_s=within_s)


def no_stranger_at_the_venue(venue: Venue, allowed: Callable[[str], bool]) -> None:
    """Every order of an earlier run is gone within the bound, counted from now."""
    until(
        lambda: all(map(allowed, venue.open_ids)),
        f"orphans to be canceled; open are {venue.open_ids}",
        within_s=CONTACT_S,
    )


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="2"), pytest.param(25, id="25", marks=pytest.mark.long)]
)
def test_after_kill_9_in_the_middle_our_ledger_is_the_venues(
    family: Family, venue: Venue, tmp_path: Path, rounds: int
) -> None:
    data = tmp_path / "data"
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    desk = family.desk(data, env=venue.env)
    settle_demo(desk)
    worker = desk.create(params=TIGHT, limits=WIDE_LIMITS)["id"]
    for turn in range(rounds):
        desk.post(f"/api/workers/{worker}/start")
        wait_for_fills(venue, 5)
        time.sleep(chance.uniform(0, 0.5))
        kill_9(desk)
        left = set(venue.open_ids)
        program = family.begin_desk(data, env=venue.env)
        if turn == 1:  # once more, in the middle of its recovery
            time.sleep(chance.uniform(0.2, 2.0))
            program.end()
            program = family.begin_desk(data, env=venue.env)
        desk = family.opened(program, data)
        no_stranger_at_the_venue(venue, lambda client_id, left=left: client_id not in left)  # type: ignore[misc]
        seen = desk.worker(worker)
        assert seen["state"] == "stopped", "a worker came back armed"
        assert venue.open_ids == []
    fills = same_ledgers(venue, desk, worker)
    assert fills >= 5 * rounds
    desk.program.process.send_signal(signal.SIGTERM)
    assert desk.program.code(within_s=30.0) == 0
    assert venue.open_ids == []


def settle_demo(desk: RunningDesk) -> None:
    """The first start's own worker out of the way."""
    found = until(
        lambda: [
            w for w in desk.get("/api/workers")["workers"] if w["name"] == "demo" and w["state"] == "running"
        ],
        "the demo worker",
    )
    desk.post(f"/api/workers/{found[0]['id']}/stop")
    assert desk.ask("DELETE", f"/api/workers/{found[0]['id']}").status_code == 204


def test_a_worker_that_was_told_to_quotes_again_after_a_kill_9(
    family: Family, venue: Venue, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    desk = family.desk(data, env=venue.env)
    settle_demo(desk)
    worker = desk.create(params=TIGHT, limits=WIDE_LIMITS, resume_after_restart=True)["id"]
    desk.post(f"/api/workers/{worker}/start")
    wait_for_fills(venue, 3)
    before = desk.members["desk"]
    os.kill(before, signal.SIGKILL)  # only the desk: its supervisor starts it again
    until(lambda: not alive([before]), "the desk's end")
    left = set(venue.open_ids)
    until(
        lambda: (ids := venue.open_ids) and not left & set(ids),
        "quotes of the new run, and none of the old",
        within_s=30.0,
    )
    until(lambda: desk.ask("GET", f"/api/workers/{worker}").status_code == 200, "the page")
    desk.quoting(worker)
    desk.post(f"/api/workers/{worker}/stop")
    same_ledgers(venue, desk, worker)


FAULTS = (
    (Fault.LOST_ANSWER, Request.PLACE),
    (Fault.LATE_ANSWER, Request.PLACE),
    (Fault.LOST_COMMAND, Request.PLACE),
    (Fault.DUPLICATE, Request.PLACE),
    (Fault.DROPPED_PUSH, Request.PLACE),
    (Fault.EARLY_FILL, Request.PLACE),
    (Fault.LOST_ANSWER, Request.CANCEL),
    (Fault.LATE_ANSWER, Request.CANCEL),
    (Fault.LOST_COMMAND, Request.CANCEL),
    (Fault.STALE_LIST, Request.CANCEL),
    (Fault.SERVER_ERROR, None),
    (Fault.RATE_LIMITED, None),
    (Fault.UNAVAILABLE, None),
    (Fault.CUT_STREAM, None),
    (Fault.READ_FAILED, None),
    (Fault.READ_LIMITED, None),
)


@pytest.mark.parametrize(
    "seconds", [pytest.param(0, id="once"), pytest.param(80, id="80s", marks=pytest.mark.long)]
)
def test_under_faults_unknown_outcomes_resolve_and_the_ledgers_agree(
    family: Family, venue: Venue, tmp_path: Path, seconds: float
) -> None:
    data = tmp_path / "data"
    chance = random.Random(os.environ.get("KILL_SEED", "7"))
    desk = family.desk(data, env=venue.env)
    settle_demo(desk)
    worker = desk.create(params=TIGHT, limits=WIDE_LIMITS)["id"]
    desk.post(f"/api/workers/{worker}/start")
    desk.quoting(worker)
    for fault, on in FAULTS:
        venue.reader.fault(fault, 2, on=on)
    wait_for_fills(venue, 15)
    time.sleep(ANSWER_TIMEOUT_S + 1.0)  # so long the desk waits for an answer before it doubts
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        fault, on = chance.choice(FAULTS)
        venue.reader.fault(fault, chance.randrange(1, 4), on=on)
        time.sleep(chance.uniform(0.1, 1.0))
    receipt = desk.post(f"/api/workers/{worker}/stop", status=200)["receipt"]
    until(lambda: desk.worker(worker)["unknown_orders"] == 0, "unknown outcomes to resolve", within_s=30.0)
    until(lambda: desk.worker(worker)["state"] == "stopped", f"the stop ({receipt})", within_s=20.0)
    same_ledgers(venue, desk, worker)


def test_sigterm_leaves_no_order_at_the_venue_and_says_so(
    family: Family, venue: Venue, tmp_path: Path
) -> None:
    desk = family.desk(tmp_path / "data", env=venue.env)
    until(lambda: venue.open_ids, "the demo worker's orders")
    members = desk.program.family()
    desk.program.process.send_signal(signal.SIGTERM)
    assert desk.program.code(within_s=30.0) == 0
    assert venue.open_ids == []
    assert "no order of ours is left" in desk.program.err
    until(lambda: not alive(members), "every process to end", within_s=5.0)


def test_kill_9_of_the_supervisor_ends_every_process_and_cancels_every_order(
    family: Family, venue: Venue, tmp_path: Path
) -> None:
    desk = family.desk(tmp_path / "data", env=venue.env)
    until(lambda: venue.open_ids, "the demo worker's orders")
    members = desk.program.family()
    assert {"supervisor", "desk", "web", "redis"} <= set(desk.members)
    os.kill(desk.program.pid, signal.SIGKILL)
    until(lambda: not alive(members), "every process to end", within_s=15.0)
    assert venue.open_ids == []


def test_a_desk_waits_for_the_end_of_the_one_before_instead_of_sharing_its_files(
    family: Family, venue: Venue, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    desk = family.desk(data, env=venue.env)
    until(lambda: venue.open_ids, "the demo worker's orders")
    os.kill(desk.members["desk"], signal.SIGSTOP)  # an end that takes its time
    os.kill(desk.program.pid, signal.SIGKILL)
    again = family.begin_desk(data, env=venue.env)
    until(lambda: f"waiting for process {desk.members['desk']}" in again.err, "it says that it waits")
    left = set(venue.open_ids)
    os.kill(desk.members["desk"], signal.SIGCONT)
    family.opened(again, data)
    assert not alive([desk.members["desk"]])
    assert not left & set(venue.open_ids)
