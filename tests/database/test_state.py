"""state.db: what it keeps, what it refuses, and what happens when SQLite can't write."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from api.desk import FillView, WorkerSpec
from api.errors import BadInput
from api.ledger import Ledger
from api.types import Fill, Instrument, InstrumentId, Side
from database.rows import KillRow, LatchRow, StoredFill, VersionRow, WorkerRow
from database.state import State, StateTrouble
from tests.database.common import BTC, a_fill, program, run_program, until

SPEC = WorkerSpec(
    kind="market_making",
    strategy="standard",
    venue="paper",
    symbol="BTC-USDT",
    params={"spread": 0.05, "quantity": "0.001", "max_orders": 3, "duration": None},
    limits={"max_order_value": "100"},
    name="first",
    id="w1",
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path)
    yield opened
    opened.close()


def reopened(state: State, tmp_path: Path) -> State:
    assert state.close()
    return State.open(tmp_path)


def ids(fills: list[StoredFill]) -> list[str]:
    return [stored.fill.trade_id for stored in fills]


def locked(path: Path) -> sqlite3.Connection:
    """A second program that holds the write lock (a connection of its own behaves as one)."""
    other = sqlite3.connect(path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


# identity


def test_a_new_directory_gets_a_tag_that_stays_and_runs_are_counted(tmp_path: Path) -> None:
    state = State.open(tmp_path / "new" / "deep")
    tag = state.identity().desk_tag
    assert len(tag) == 4 and set(tag) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert state.identity().run_no == 0
    assert state.next_run() == 1
    again = reopened(state, tmp_path / "new" / "deep")
    assert again.identity().desk_tag == tag
    assert (again.next_run(), again.identity().run_no) == (2, 2)
    again.close()


def test_a_run_on_a_tape_may_fix_the_tag(tmp_path: Path) -> None:
    state = State.open(tmp_path, desk_tag="tape")
    assert state.identity().desk_tag == "tape"
    state.close()
    with pytest.raises(ValueError, match="four characters"):
        State.open(tmp_path, desk_tag="Tape!")


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    State.open(tmp_path / "other.db").close()
    assert (tmp_path / "other.db").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_worker_numbers_are_never_given_twice(state: State, tmp_path: Path) -> None:
    assert [state.next_worker_no() for _ in range(3)] == [1, 2, 3]
    state.delete_worker("w3")
    again = reopened(state, tmp_path)
    assert again.next_worker_no() == 4
    again.close()


# workers, versions


def test_workers_come_back_as_they_were_written_last(state: State, tmp_path: Path) -> None:
    row = WorkerRow("w1", SPEC, "running", resume=True, created_ns=1, extra={"orders_sent": 3})
    state.save_worker(row)
    stopped = dataclasses.replace(row, state="stopped", stopped_ns=9, reason="asked", version=2)
    state.save_worker(stopped)
    demo = WorkerRow("w10", dataclasses.replace(SPEC, id="w10"), "stopped", is_demo=True, created_ns=1)
    state.save_worker(demo)
    state.save_worker(dataclasses.replace(demo, id="w2"))
    state.delete_worker("w2")
    state.delete_worker("never")
    again = reopened(state, tmp_path)
    assert again.workers() == [stopped, demo]
    again.close()


def test_versions_are_numbered_and_newest_first(state: State, tmp_path: Path) -> None:
    params = {"spread": 0.05}
    assert state.add_version("w1", at_ns=5, by="me", reason="", params=params, limits={}) == 1
    assert state.add_version("w2", at_ns=6, by="me", reason="", params=params, limits={}) == 1
    second = state.add_version(
        "w1", at_ns=7, by="api", reason="wider", params={"spread": 0.1}, limits={"a": 1}
    )
    assert second == 2
    again = reopened(state, tmp_path)
    assert again.versions("w1") == [
        VersionRow("w1", 2, 7, "api", "wider", {"spread": 0.1}, {"a": 1}),
        VersionRow("w1", 1, 5, "me", "", params, {}),
    ]
    assert again.versions("none") == []
    again.close()


# latches


def test_the_kill_switch_stays_over_a_restart_with_its_first_reason(state: State, tmp_path: Path) -> None:
    assert state.kill() is None
    assert state.set_kill("loss", "risk", 5)
    assert state.set_kill("again", "me", 6)
    again = reopened(state, tmp_path)
    assert again.kill() == KillRow("loss", "risk", 5)
    assert again.clear_kill("me", 9)
    assert again.clear_kill("me", 10)
    assert again.kill() is None
    last = reopened(again, tmp_path)
    assert last.kill() is None
    assert [(e.at_ns, e.action, e.by, e.reason) for e in last.latch_log()] == [
        (9, "clear", "me", ""),
        (6, "set", "me", "again"),
        (5, "set", "risk", "loss"),
    ]
    last.close()


def test_latched_limits_stay_until_a_person_clears_them(state: State, tmp_path: Path) -> None:
    state.set_latch("w1", "max_loss", "-100", 3)
    state.set_latch("w1", "max_loss", "-101", 4)
    state.set_latch("paper/main", "message_rate", "too fast", 2)
    state.set_kill("k", "me", 1)
    again = reopened(state, tmp_path)
    rate = LatchRow("paper/main", "message_rate", "too fast", 2)
    assert again.latches() == [rate, LatchRow("w1", "max_loss", "-100", 3)]
    assert again.latches("paper/main") == [rate]
    assert again.clear_latch("w1", "max_loss", "me", 7)
    assert again.latches() == [rate]
    again.close()


# fills


def test_a_fill_comes_back_digit_by_digit_with_the_instrument_of_its_time(
    state: State, tmp_path: Path
) -> None:
    fine = dataclasses.replace(BTC, tick=Decimal("1e-18"), lot=Decimal("1e-18"), max_qty=Decimal("1e9"))
    fill = a_fill(1, ticks=10**30 + 1, lots=10**24 + 7, fee="-1e-18", fee_asset="BNB", side=Side.SELL)
    state.record_fill("w1", fill, fine, Decimal("600.000000000000000001"))
    state.record_fill("w1", a_fill(2), BTC)
    again = reopened(state, tmp_path)
    assert again.fills_of("w1") == [
        StoredFill("w1", fill, fine, Decimal("600.000000000000000001")),
        StoredFill("w1", a_fill(2), BTC, None),
    ]
    again.close()


def test_fills_are_seen_at_once_and_durable_after_flush(state: State, tmp_path: Path) -> None:
    for no in range(50):
        state.record_fill("w1", a_fill(no), BTC)
        assert len(state.fills_of("w1")) == no + 1
    assert state.flush(5)
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert other.execute("SELECT count(*), count(DISTINCT instrument_no) FROM fills").fetchone() == (
            50,
            1,
        )
    other.close()


def test_a_fill_heard_twice_is_stored_once(state: State, tmp_path: Path) -> None:
    assert state.insert_fill("w1", a_fill(1), BTC)
    assert not state.insert_fill("w1", a_fill(1), BTC)
    state.record_fill("w1", a_fill(1), BTC)
    state.record_fill("w1", a_fill(2), BTC)
    assert not state.insert_fill("w1", a_fill(2), BTC)
    state.record_fill("w1", a_fill(2), BTC)
    again = reopened(state, tmp_path)
    again.record_fill("w1", a_fill(2), BTC)
    again.record_fill("w2", a_fill(1), BTC)
    assert again.flush(5)
    assert ids(again.fills_of("w1")) == ["t1", "t2"]
    assert again.fills_of("w2") == []
    assert again.duplicates == 2
    # the same number elsewhere is another fill
    assert again.insert_fill("w1", a_fill(1, account="second"), BTC)
    assert again.insert_fill("w1", a_fill(1, instrument=InstrumentId("paper:ETH-USDT")), BTC)
    again.close()


def test_fills_come_in_time_order_whatever_order_they_were_heard_in(state: State) -> None:
    numbers = [3, 10, 9, 1, 2]
    for no in numbers:
        state.record_fill("w1", a_fill(no, at_ns=max(no, 9), trade_id=str(no)), BTC)
    assert ids(state.fills_of("w1")) == ["1", "2", "3", "9", "10"]
    state.flush(5)
    assert ids(state.fills_of("w1")) == ["1", "2", "3", "9", "10"]
    ledger = Ledger()
    assert all(ledger.book(stored.entry()) for stored in state.fills_of("w1"))
    assert ledger.position == Decimal("0.005")


def test_pages_cover_every_fill_once_even_within_one_moment(state: State) -> None:
    dice = random.Random(2)
    for no in range(60):
        state.record_fill(f"w{no % 2}", a_fill(no, at_ns=no // 7), BTC)
        if dice.random() < 0.2:
            state.flush(5)
    for limit in (1, 3, 7, 8, 100):
        seen: list[str] = []
        before_ns = None
        while page := state.fills(before_ns=before_ns, limit=limit):
            assert len(page) >= min(limit, 60 - len(seen))
            seen += ids(page)
            before_ns = page[-1].fill.venue_ns
        assert seen == ids(sorted(state.fills(limit=100), key=lambda s: s.order_key, reverse=True))
        assert len(set(seen)) == len(seen) == 60
    assert {stored.worker for stored in state.fills("w1", limit=100)} == {"w1"}
    assert state.fills(symbol="ETH-USDT") == []
    assert len(state.fills(symbol="BTC-USDT", limit=100)) == 60


def test_it_knows_the_trade_ids_and_the_newest_time_of_a_market(state: State) -> None:
    assert state.last_fill_ns("paper", "main", "BTC-USDT") is None
    state.insert_fill("w1", a_fill(1), BTC)
    state.record_fill("w2", a_fill(5), BTC)
    state.record_fill("w2", a_fill(9, account="second"), BTC)
    for _ in range(2):
        assert state.known_trade_ids("paper", "main", "BTC-USDT") == {"t1", "t5"}
        assert state.known_trade_ids("paper", "main", "BTC-USDT", since_ns=1_002) == {"t5"}
        assert state.last_fill_ns("paper", "main", "BTC-USDT") == 1_005
        state.flush(5)


def test_a_stored_fill_is_shown_to_a_face_as_text_and_decimals(state: State) -> None:
    state.record_fill("w1", a_fill(1), BTC)
    assert state.fills()[0].view() == FillView(
        trade_id="t1",
        worker="w1",
        client_id="c1",
        venue="paper",
        account="main",
        symbol="BTC-USDT",
        side="buy",
        price=Decimal("60000.00"),
        qty=Decimal("0.00100"),
        value=Decimal("60"),
        fee=Decimal("0.006"),
        fee_asset="USDT",
        is_maker=True,
        venue_ns=1_001,
    )


def test_a_fill_no_database_could_keep_is_logged_and_stops_no_other(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    state.record_fill("w1", a_fill(1, fee="NaN"), BTC)
    state.record_fill("w1", a_fill(2, at_ns=1 << 70), BTC)
    state.record_fill("w1", a_fill(3, trade_id="\ud800"), BTC)
    state.record_fill("w1", a_fill(4), BTC)
    assert state.flush(5)
    assert (state.outbox.broken, state.outbox.written) == (3, 1)
    assert caplog.text.count("broken_record") == 3


def test_after_close_a_fill_is_refused_aloud(state: State) -> None:
    assert state.close()
    with pytest.raises(OSError, match="closed"):
        state.record_fill("w1", a_fill(1), BTC)
    with pytest.raises(StateTrouble, match="closed"):
        state.next_run()
    assert not state.set_kill("late", "me", 1)
    assert state.kill() == KillRow("late", "me", 1)
    assert state.close()


def test_a_store_closed_right_after_a_fill_has_it(tmp_path: Path) -> None:
    for no in range(30):
        state = State.open(tmp_path)
        state.record_fill("w1", a_fill(no), BTC)
        assert state.close()
    again = State.open(tmp_path)
    assert len(again.fills_of("w1")) == 30
    again.close()


def test_many_threads_write_and_read_at_once(state: State) -> None:
    def work(first: int) -> None:
        for no in range(first, first + 200):
            state.record_fill(f"w{first}", a_fill(no), BTC)
            if no % 50 == 0:
                state.next_worker_no()
                state.fills(limit=5)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.flush(10)
    assert len(state.fills(limit=10_000)) == 700
    assert state.next_worker_no() == 17


# when SQLite can't write


def test_fills_spill_while_another_program_holds_the_lock_and_come_back(tmp_path: Path) -> None:
    heard: list[str] = []
    state = State.open(tmp_path, on_trouble=heard.append)
    state.record_fill("w1", a_fill(0), BTC)
    assert state.flush(5)
    other = locked(tmp_path)
    started = time.monotonic()
    for no in range(1, 40):
        state.record_fill("w1", a_fill(no), BTC)
    state.set_latch("w1", "max_loss", "-1", 5)
    assert state.flush(5), "durable in the spill file"
    assert time.monotonic() - started < 5.0
    assert until(lambda: bool(heard))
    assert "database is locked" in heard[0] and state.trouble == heard[0]
    assert (tmp_path / "state.spill").stat().st_size > 0
    assert len(state.fills_of("w1")) == 40, "readers see them all the same"
    with pytest.raises(StateTrouble, match="locked"):
        state.save_worker(WorkerRow("w1", SPEC, "running"))
    assert state.set_kill("while locked", "me", 6)
    other.execute("ROLLBACK")
    released = time.monotonic()
    assert until(lambda: state.trouble == "")
    assert time.monotonic() - released < 5.0
    assert until(lambda: heard[-1] == "")
    assert other.execute("SELECT count(*) FROM fills").fetchone() == (40,)
    assert (tmp_path / "state.spill").stat().st_size == 0
    other.close()
    again = reopened(state, tmp_path)
    assert len(again.fills_of("w1")) == 40
    assert again.kill() == KillRow("while locked", "me", 6)
    assert again.latches() == [LatchRow("w1", "max_loss", "-1", 5)]
    assert again.workers() == []
    again.close()


def test_what_spilled_before_a_kill_is_read_at_the_next_start(tmp_path: Path) -> None:
    run_program(
        """
        import os, signal, sqlite3, sys
        from pathlib import Path
        from database.state import State
        from tests.database.common import BTC, a_fill
        state = State.open(Path(sys.argv[1]))
        other = sqlite3.connect(Path(sys.argv[1]) / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for no in range(2500):
            state.record_fill("w1", a_fill(no), BTC)
        state.set_kill("before the end", "me", 3)
        assert state.flush(20)
        os._exit(0)
        """,
        tmp_path,
    )
    spill = tmp_path / "state.spill"
    spill.write_bytes(spill.read_bytes() + b"0123abcd {torn")
    state = State.open(tmp_path)
    assert len(state.fills_of("w1")) == 2500
    assert state.kill() == KillRow("before the end", "me", 3)
    assert state.outbox.damaged == 1
    assert spill.stat().st_size == 0
    state.close()


def test_a_full_database_spills_and_recovers(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    with state._writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    for no in range(400):
        state.record_fill("w1", a_fill(no), BTC)
    assert state.flush(5)
    assert until(lambda: "full" in state.trouble)
    assert len(state.fills_of("w1")) == 400
    with pytest.raises(StateTrouble, match="full"):
        state.save_worker(WorkerRow("w1", dataclasses.replace(SPEC, name="x" * 100_000), "stopped"))
    with state._writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert until(lambda: state.trouble == "")
    again = reopened(state, tmp_path)
    assert ids(again.fills_of("w1")) == [f"t{no}" for no in range(400)]
    again.close()


def test_a_full_disk_keeps_fills_in_memory_until_there_is_room(tmp_path: Path) -> None:
    out = run_program(
        """
        import resource, sys
        from pathlib import Path
        from database.state import State
        from tests.database.common import BTC, a_fill, until
        heard = []
        state = State.open(Path(sys.argv[1]), on_trouble=heard.append)
        state.record_fill("w1", a_fill(0), BTC)
        assert state.flush(5)
        big = max(p.stat().st_size for p in Path(sys.argv[1]).iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for no in range(1, 500):
            state.record_fill("w1", a_fill(no), BTC)
            if no % 50 == 0:
                state.flush(0.2)
        assert not state.flush(1.0)
        assert until(lambda: "nor can its spill file" in state.trouble), state.trouble
        assert not state.set_kill("no room", "me", 1) and state.kill() is not None
        assert len(state.fills_of("w1")) == 500
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert state.flush(10)
        assert until(lambda: heard[-1] == "")
        assert state.close()
        print(len(heard), state.outbox.written, heard[-1] == "")
        """,
        tmp_path,
    )
    assert out.split()[1:] == ["501", "True"]
    assert int(out.split()[0]) < 12, "one sentence for each change, not one for each attempt"
    state = State.open(tmp_path)
    assert len(state.fills_of("w1")) == 500
    assert state.kill() == KillRow("no room", "me", 1)
    state.close()


def test_a_listener_may_latch_and_may_fail_without_stopping_the_writer(tmp_path: Path) -> None:
    state = State.open(tmp_path)

    def listener(trouble: str) -> None:
        state.set_kill(trouble, "store", 4)
        state.next_worker_no() if not trouble else None
        raise RuntimeError("a mistake of the listener")

    state.on_trouble = listener
    other = locked(tmp_path)
    state.record_fill("w1", a_fill(1), BTC)
    assert until(lambda: state.trouble != "")
    other.execute("ROLLBACK")
    other.close()
    assert until(lambda: state.trouble == "")
    assert state.flush(5)
    again = reopened(state, tmp_path)
    assert again.kill() is not None and len(again.fills_of("w1")) == 1
    assert again.next_worker_no() == 2
    again.close()


def test_every_flushed_fill_survives_kill_9_and_none_is_doubled(tmp_path: Path) -> None:
    dice = random.Random(11)
    code = """
        import sys
        from pathlib import Path
        from database.state import State
        from tests.database.common import BTC, a_fill
        state = State.open(Path(sys.argv[1]))
        known = {int(t[1:]) for t in state.known_trade_ids("paper", "main", "BTC-USDT")}
        no = 0
        while True:
            for _ in range(5):  # from the beginning each time, as a reconciliation would
                state.record_fill("w1", a_fill(no), BTC)
                no += 1
            if no % 20 == 0 and no > max(known, default=0):
                state.flush(10)
                sys.stdout.write(f"{no}\\n")
                sys.stdout.flush()
        """
    promised = 0
    for _ in range(6):
        with subprocess.Popen([*program(code), str(tmp_path)], stdout=subprocess.PIPE) as desk:
            assert desk.stdout is not None
            first = desk.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.03))
            desk.send_signal(signal.SIGKILL)
            said = (first + desk.stdout.read()).decode().split("\n")[:-1]
        promised = max(promised, *map(int, said))
        state = State.open(tmp_path)
        found = ids(state.fills_of("w1"))
        state.close()
        assert len(found) == len(set(found))
        assert found == [f"t{no}" for no in range(len(found))]
        assert len(found) >= promised


# what is refused at the start


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        State.open(path)
    assert caught.value.field == "data-dir"
    return caught.value.message


def test_a_directory_that_cannot_be_written_gets_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "File exists" in refusal(tmp_path / "file") or "Not a directory" in refusal(tmp_path / "file")
    out = run_program(
        """
        import os, sys
        from pathlib import Path
        import sqlite3, sqlalchemy.dialects.sqlite.pysqlite
        from database.state import State
        from api.errors import BadInput
        target = Path(sys.argv[1]) / "closed"
        target.mkdir(mode=0o555)
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            State.open(target)
        except BadInput as error:
            print(error)
        """,
        tmp_path,
    )
    assert out.startswith("data-dir: cannot keep state.db in ") and "Permission denied" in out


def test_a_path_too_long_for_sqlite_says_so(tmp_path: Path) -> None:
    assert "too long for SQLite" in refusal(tmp_path.joinpath(*["d" * 100] * 6))
    assert "File name too long" in refusal(tmp_path / ("d" * 300))


def test_a_file_that_is_no_database_or_damaged_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_text("my diary, " * 1000)
    assert "file is not a database" in refusal(tmp_path)
    assert file.read_text() == "my diary, " * 1000
    file.unlink()
    state = State.open(tmp_path)
    for no in range(500):
        state.record_fill("w1", a_fill(no), BTC)
    state.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + os.urandom(4096 * 4) + whole[8192 + 4096 * 4 :])
    assert "damaged" in refusal(tmp_path) or "malformed" in refusal(tmp_path)


def test_a_database_of_something_else_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    assert "a database of something else" in refusal(tmp_path)
    (tmp_path / "state.db").unlink()
    State.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("PRAGMA user_version=7")
    other.close()
    assert "newer version (schema 7, this one reads 1)" in refusal(tmp_path)


def test_a_locked_database_refuses_the_start_in_bounded_time(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    other = locked(tmp_path)
    started = time.monotonic()
    assert "locked" in refusal(tmp_path)
    assert time.monotonic() - started < 3
    other.close()


def test_importing_it_brings_neither_the_orm_nor_alembic(tmp_path: Path) -> None:
    out = run_program(
        """
        import sys
        from pathlib import Path
        from database.state import State
        from database.intents import IntentLog
        State.open(Path(sys.argv[1])).close()
        unwanted = ("sqlalchemy.orm", "alembic", "mako", "database.models")
        print([name for name in unwanted if name in sys.modules])
        """,
        tmp_path,
    )
    assert out == "[]\n"


def test_queueing_a_fill_costs_microseconds(state: State) -> None:
    fills = [a_fill(no) for no in range(2000)]
    best = min(_seconds_for(state, fills[start : start + 200], BTC) for start in range(0, 2000, 200))
    assert best / 200 < 50e-6


def _seconds_for(state: State, fills: list[Fill], instrument: Instrument) -> float:
    started = time.perf_counter()
    for fill in fills:
        state.record_fill("w1", fill, instrument)
    return time.perf_counter() - started


def test_an_instrument_written_by_a_version_with_other_fields_is_still_read(
    state: State, tmp_path: Path
) -> None:
    state.record_fill("w1", a_fill(1), BTC)
    assert state.flush(5)
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("UPDATE instruments SET body = json_set(json_remove(body, '$.kind'), '$.moon', 'full')")
    other.close()
    assert state.fills_of("w1") == [StoredFill("w1", a_fill(1), BTC)]
