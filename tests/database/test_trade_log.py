"""The trade log: what it writes, what it survives, and what its reading side says."""

from __future__ import annotations

import dataclasses
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql

import api.types as types
from api.desk import ReceiptView, SideView, StatsView, WorkerView
from api.errors import BadInput
from api.types import (
    Amend,
    Answered,
    Approved,
    Book,
    BookChanged,
    Cancel,
    Command,
    Event,
    FillHeard,
    InstrumentId,
    Order,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Quote,
    Refused,
    Request,
    Side,
    Status,
    Step,
    Targets,
    Tif,
    Timer,
)
from database import journal, models
from database.journal import FILE_NAME, SPILL_NAME, TradeLog, parse_url
from database.queries import LoggedDecision, LoggedFill, LoggedOrder, LoggedRun, Queries
from tests.database.common import BTC, a_fill, program, run_program, until

D = Decimal
INSTRUMENTS = {BTC.id: BTC}
DAY_NS = 86_400 * 10**9


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TradeLog]:
    opened = TradeLog.open(None, tmp_path, INSTRUMENTS)
    yield opened
    opened.close()


def read(tmp_path: Path) -> Queries:
    return Queries.open(None, tmp_path)


def a_step(
    event: Event,
    *commands: Command,
    seq: int = 1,
    targets: Targets | None = None,
    refused: tuple[Refused, ...] = (),
) -> Step:
    approved = tuple(Approved(command, "w1", types._GRANT) for command in commands)
    return Step("w1", seq, event, targets, approved, refused, ((Side.SELL, "position limit"),))


def heard(no: int, at_ns: int | None = None, **changes: Any) -> Step:
    fill = a_fill(no, **changes)
    return a_step(FillHeard(fill.venue_ns + 5 if at_ns is None else at_ns, fill))


def reported(no: str, status: Status, at_ns: int, filled: int | None = None, reason: str = "") -> Step:
    report = OrderReport(no, BTC.id, Side.BUY, 6_000_000, 100, status, filled, "v9", at_ns - 3, reason)
    return a_step(OrderHeard(at_ns, report))


def answered(no: str, outcome: Outcome, at_ns: int, request: Request = Request.PLACE, **more: Any) -> Step:
    return a_step(Answered(at_ns, no, BTC.id, request, outcome, **more))


def placed(no: str, at_ns: int) -> Step:
    place = Place(no, BTC.id, Side.BUY, 6_000_000, 100, level=1, why=(("mid", 60010.0), ("spread", -10.0)))
    return a_step(Timer(at_ns), place, seq=at_ns)


def a_view(**changes: Any) -> WorkerView:
    side = SideView(False, None, None, None, 0, ())
    zero = D(0)
    stats = StatsView(
        0, 0, 0, zero, zero, zero, zero, zero, zero, zero, zero, zero, None, zero, zero, zero, 0, 0, 0, 0
    )
    view = WorkerView(
        id="w1", name="first", kind="market_making", strategy="standard", venue="paper", account="main",
        env="paper", symbol="BTC-USDT", instrument="paper:BTC-USDT", base="BTC", quote="USDT", tick=BTC.tick,
        lot=BTC.lot, params={"spread": 0.05}, params_version=3, limits={"max_order_value": "100"},
        limits_derived=(), resume_after_restart=False, is_demo=False, state="running", word="QUOTING",
        reason="",
        market="LIVE", buy=side, sell=side, position=zero, entry_price=None, mid=None, best_bid=None,
        best_ask=None, base_balance=None, quote_balance=None, total_quote=None, market_ns=None,
        published_ns=99, stats=stats, open_orders=0, unknown_orders=0, started_ns=50,
        stopped_ns=None, running_s=0.0, receipt=None,
    )  # fmt: skip
    return dataclasses.replace(view, **changes)


# what it writes


def test_a_run_with_its_decisions_orders_and_fills_can_be_read_back(log: TradeLog, tmp_path: Path) -> None:
    log.record_run(a_view(), "started")
    why = (("mid", 60010.0), ("spread", -10.0))
    quote = Quote(Side.BUY, 0, 60000.0, 0.001, why)
    place = Place("c1", BTC.id, Side.BUY, 6_000_000, 100, why=why)
    refusal = Refused(Place("c2", BTC.id, Side.SELL, 6_100_000, 100), "max_position", "0.5 of 0.4 BTC")
    book = BookChanged(100, Book(BTC.id, ((1, 1),), ((2, 1),), 90, 95, 1))
    log.record_step(a_step(book, place, seq=7, targets=Targets((quote,)), refused=(refusal,)))
    log.record_step(answered("c1", Outcome.ACCEPTED, 110, venue_id="v1"))
    log.record_step(heard(1, at_ns=1_100, fee="0.00001", fee_asset="BTC"))
    log.record_step(reported("c1", Status.FILLED, 1_101, filled=100))
    receipt = ReceiptView("stop", 2_000, 1, 1, 0, 0, 0, True, 2_001, "1 order cancelled")
    log.record_run(a_view(state="stopped", stopped_ns=2_002, reason="asked", receipt=receipt), "ended")
    assert log.flush(5)
    log.close()
    logged = read(tmp_path)
    assert logged.fills() == [
        LoggedFill(
            run="w1/50", worker="w1", venue="paper", account="main", symbol="BTC-USDT", trade_id="t1",
            client_id="c1", venue_id="v1", side="buy", price=D("60000.00"), qty=D("0.00100"), value=D("60"),
            fee=D("0.00001"), fee_asset="BTC", fee_quote=D("0.6"), is_maker=True, base="BTC", quote="USDT",
            market_kind="spot", contract_size=D(1), venue_ns=1_001, at_ns=1_100,
        )
    ]  # fmt: skip
    assert logged.orders() == [
        LoggedOrder(
            client_id="c1", run="w1/50", worker="w1", venue="paper", account="main", symbol="BTC-USDT",
            venue_id="v9", side="buy", price=D("60000.00"), qty=D("0.00100"), filled=D("0.00100"), level=0,
            tif="gtc", post_only=True, status="filled", is_unknown=False, reason="",
            terms=[["mid", 60010.0], ["spread", -10.0]], created_ns=100, venue_ns=1_098, changed_ns=1_101,
        )
    ]  # fmt: skip
    assert logged.runs() == [
        LoggedRun(
            run="w1/50", worker="w1", name="first", strategy="standard", venue="paper", account="main",
            env="paper", symbol="BTC-USDT", params_version=3, params={"spread": 0.05},
            limits={"max_order_value": "100"}, started_ns=50, ended_ns=2_002, reason="asked",
            receipt=dataclasses.asdict(receipt),
        )
    ]  # fmt: skip
    sent = {
        "verb": "place",
        "client_id": "c1",
        "price": "60000.00",
        "qty": "0.00100",
        "side": "buy",
        "level": 0,
    }
    kept = {
        "verb": "place",
        "client_id": "c2",
        "price": "61000.00",
        "qty": "0.00100",
        "side": "sell",
        "level": 0,
    }
    assert logged.decisions() == [
        LoggedDecision(
            worker="w1", run="w1/50", seq=7, at_ns=100, venue_ns=90, event="BookChanged",
            terms=[{"side": "buy", "level": 0, "price": 60000.0, "qty": 0.001,
                    "terms": [list(t) for t in why]}],
            commands=[sent],
            refused=[{"rule": "max_position", "text": "0.5 of 0.4 BTC", "command": kept}],
            silent=[["sell", "position limit"]],
        )
    ]  # fmt: skip
    assert logged.fills()[0].entry().fee_base == D("0.00001")
    assert logged.counts() == {"decisions": 1, "fills": 1, "orders": 1, "runs": 1}
    logged.close()


def test_steps_that_changed_no_order_and_heard_nothing_of_ours_are_not_kept(
    log: TradeLog, tmp_path: Path
) -> None:
    log.record_step(a_step(Timer(1), targets=Targets(())))
    assert log.flush(5)
    assert read(tmp_path).counts() == {"decisions": 0, "fills": 0, "orders": 0, "runs": 0}


def test_a_fill_from_stream_and_from_reconciliation_is_kept_once(log: TradeLog, tmp_path: Path) -> None:
    log.record_step(heard(1))
    assert log.flush(5)
    log.record_step(heard(1, at_ns=9_999))
    log.record_fill("w1", a_fill(1), BTC, 10_000)
    log.record_fill("w1", a_fill(1, account="second"), BTC, 10_000)
    assert log.flush(5)
    assert [(f.account, f.at_ns) for f in read(tmp_path).fills()] == [
        ("second", 10_000),
        ("main", 1_006),
    ] or [(f.account, f.at_ns) for f in read(tmp_path).fills()] == [("main", 1_006), ("second", 10_000)]


@pytest.mark.parametrize("in_one_burst", [True, False])
def test_an_order_shows_its_last_state_whatever_came_late(
    log: TradeLog, tmp_path: Path, in_one_burst: bool
) -> None:
    steps = [
        placed("filled", 10),
        reported("filled", Status.FILLED, 11, filled=100),
        answered("filled", Outcome.ACCEPTED, 12, venue_id="v9"),
        placed("refused", 20),
        answered("refused", Outcome.REJECTED, 21, error="WouldCross", reason="would take"),
        placed("lost", 30),
        answered("lost", Outcome.UNKNOWN, 31, error="OutcomeUnknown", reason="no answer"),
        placed("canceled", 40),
        answered("canceled", Outcome.ACCEPTED, 41),
        reported("canceled", Status.CANCELED, 42, filled=30),
        answered("canceled", Outcome.ACCEPTED, 43, request=Request.CANCEL),
        placed("moved", 50),
        a_step(Timer(51), Amend("moved", BTC.id, 5_999_000, 50, why=(("mid", 1.0),)), seq=51),
        reported("older", Status.CANCELED, 60, filled=0, reason="self trade"),
        reported("older", Status.OPEN, 55),
    ]
    for step in steps:
        log.record_step(step)
        if not in_one_burst:
            assert log.flush(5)
    assert log.flush(5)
    found = {order.client_id: order for order in read(tmp_path).orders()}
    assert [(name, o.status, o.is_unknown, o.reason) for name, o in sorted(found.items())] == [
        ("canceled", "canceled", False, ""),
        ("filled", "filled", False, ""),
        ("lost", "unseen", True, "OutcomeUnknown: no answer"),
        ("moved", "unseen", False, ""),
        ("older", "canceled", False, "self trade"),
        ("refused", "rejected", False, "WouldCross: would take"),
    ]
    assert found["canceled"].filled == D("0.00030")
    assert (found["moved"].price, found["moved"].qty, found["moved"].side) == (
        D("59990.00"),
        D("0.00050"),
        "buy",
    )
    assert found["older"].level is None, "never told"


def test_an_order_can_be_written_as_it_stands(log: TradeLog, tmp_path: Path) -> None:
    order = Order("c1", BTC.id, Side.SELL, 6_000_001, 7, 2, False, Tif.IOC, (("mid", 1.5),), 5, Status.OPEN,
                  filled_lots=3, venue_id="v1", reason="r")  # fmt: skip
    log.record_order("w1", order, BTC, 9)
    assert log.flush(5)
    (found,) = read(tmp_path).orders()
    assert (found.filled, found.tif, found.terms, found.changed_ns) == (
        D("0.00003"),
        "ioc",
        [["mid", 1.5]],
        9,
    )


def test_amounts_of_18_decimals_survive(tmp_path: Path) -> None:
    fine = dataclasses.replace(BTC, tick=D("1e-18"), lot=D("1e-18"))
    log = TradeLog.open(None, tmp_path, {BTC.id: fine})
    log.record_step(heard(1, ticks=10**30 + 1, lots=10**20 + 1, fee="1e-18"))
    log.record_fill("w1", a_fill(2, fee="-0.5", fee_asset="BNB"), BTC, 5, D("600.000000000000000001"))
    log.record_fill("w1", a_fill(3, fee="0.5", fee_asset="BNB"), BTC, 5)
    assert log.flush(5)
    third, second, first = read(tmp_path).fills()
    assert (str(first.price), str(first.qty)) == (
        "1000000000000.000000000000000001",
        "100.000000000000000001",
    )
    assert first.fee == D("1e-18")
    assert second.fee_quote == D("-300.0000000000000000005")
    assert third.fee_quote is None, "an unknown rate is not 0"
    log.close()


def test_numbers_no_database_could_keep_are_logged_and_stop_no_other(
    log: TradeLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.record_step(heard(1, at_ns=1 << 70))
    log.record_step(heard(2, fee="NaN"))
    log.record_step(a_step(Timer(1), Place("c9", InstrumentId("paper:GONE-USDT"), Side.BUY, 1, 1)))
    log.record_step(heard(3))
    assert log.flush(5)
    assert [fill.trade_id for fill in read(tmp_path).fills()] == ["t3"]
    assert caplog.text.count("broken_record") == 4
    assert log.counters.trouble == ""


# switching


def test_it_is_off_until_switched_on_and_may_be_switched_at_run_time(tmp_path: Path) -> None:
    log = TradeLog(None, tmp_path, INSTRUMENTS)
    log.record_run(a_view(), "started")
    log.record_step(heard(1))
    assert (log.is_on, log.flush(0)) == (False, True)
    assert list(tmp_path.iterdir()) == []
    for no in (2, 3):
        log.switch(True)
        log.switch(True)
        assert log.counters.trouble == ""
        log.record_step(heard(no))
        log.switch(False)
        log.switch(False)
        log.record_step(heard(no + 10))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert [(f.trade_id, f.run) for f in read(tmp_path).fills()] == [("t3", "w1/50"), ("t2", "w1/50")]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


def test_a_step_costs_the_trading_thread_microseconds(log: TradeLog) -> None:
    steps = [heard(no) for no in range(2000)]
    quiet = a_step(Timer(1))
    best = quiet_best = 1.0
    for start in range(0, 2000, 200):
        started = time.perf_counter()
        for step in steps[start : start + 200]:
            log.record_step(step)
        best = min(best, time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(200):
            log.record_step(quiet)
        quiet_best = min(quiet_best, time.perf_counter() - started)
    assert best / 200 < 50e-6
    assert quiet_best / 200 < 10e-6


# trouble


def locked(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_while_locked_fills_and_orders_spill_and_only_decisions_are_dropped(tmp_path: Path) -> None:
    told: list[str] = []
    log = TradeLog.open(None, tmp_path, INSTRUMENTS, on_trouble=told.append, queue_limit=50)
    log.record_run(a_view(), "started")
    other = locked(tmp_path)
    for no in range(1, 400):
        log.record_step(placed(f"c{no}", no))
        log.record_step(heard(no))
    assert log.flush(10)
    counters = log.counters
    assert "locked" in counters.trouble
    assert until(lambda: told == [counters.trouble])
    assert counters.dropped > 0 and counters.spilled > 0 and counters.queued == 0
    other.execute("ROLLBACK")
    other.close()
    assert until(lambda: log.counters.trouble == "")
    assert until(lambda: told[-1] == "")
    log.record_step(heard(1))
    assert log.flush(5)
    log.close()
    logged = read(tmp_path)
    counts = logged.counts()
    assert (counts["fills"], counts["orders"], counts["runs"]) == (399, 399, 1)
    assert counts["decisions"] == 399 - counters.dropped
    assert (tmp_path / SPILL_NAME).stat().st_size == 0
    logged.close()


def test_a_full_database_loses_nothing(tmp_path: Path) -> None:
    log = TradeLog.open(None, tmp_path, INSTRUMENTS)
    assert log._engine is not None
    with log._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    for no in range(300):
        log.record_step(heard(no))
    assert log.flush(5)
    assert until(lambda: "full" in log.counters.trouble)
    with log._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert until(lambda: log.counters.trouble == "")
    assert read(tmp_path).counts()["fills"] == 300
    log.close()


def test_what_was_spilled_when_the_process_was_killed_is_written_by_the_next(tmp_path: Path) -> None:
    run_program(
        """
        import os, sqlite3, sys
        from pathlib import Path
        from api.types import FillHeard, Step
        from database.journal import TradeLog, FILE_NAME
        from tests.database.common import BTC, a_fill
        path = Path(sys.argv[1])
        log = TradeLog.open(None, path, {BTC.id: BTC})
        other = sqlite3.connect(path / FILE_NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for no in range(1500):
            log.record_step(Step("w1", no, FillHeard(1, a_fill(no)), None, (), (), ()))
        assert log.flush(20)
        os._exit(0)
        """,
        tmp_path,
    )
    log = TradeLog.open(None, tmp_path, INSTRUMENTS)
    assert until(lambda: log.counters.written == 1500)
    assert read(tmp_path).counts()["fills"] == 1500
    log.close()


def test_kill_9_in_the_middle_of_commits_doubles_nothing_and_loses_nothing_flushed(tmp_path: Path) -> None:
    dice = random.Random(3)
    code = """
        import sys
        from pathlib import Path
        from api.types import FillHeard, Step
        from database.journal import TradeLog
        from tests.database.common import BTC, a_fill
        log = TradeLog.open(None, Path(sys.argv[1]), {BTC.id: BTC})
        no = max(0, int(sys.argv[2]) - 50)
        while True:
            for _ in range(10):
                log.record_step(Step("w1", no, FillHeard(1, a_fill(no)), None, (), (), ()))
                no += 1
            log.flush(10)
            sys.stdout.write(f"{no}\\n")
            sys.stdout.flush()
        """
    promised = 0
    for _ in range(4):
        with subprocess.Popen([*program(code), str(tmp_path), str(promised)], stdout=subprocess.PIPE) as desk:
            assert desk.stdout is not None
            first = desk.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.2))
            desk.send_signal(signal.SIGKILL)
            said = (first + desk.stdout.read()).decode().split("\n")[:-1]
        promised = max(promised, *map(int, said))
        logged = read(tmp_path)
        found = {int(fill.trade_id[1:]) for fill in logged.fills(limit=100_000)}
        assert len(found) == logged.counts()["fills"]
        assert found >= set(range(promised))
        logged.close()


# the address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense with s3cret", "not an address such as"),
        ("postgresql://u:s3cret@h:port/db", "not an address such as"),
        ("mysql://u:s3cret@h/db", "sqlite and postgresql are"),
        ("frobnicate://u:s3cret@h/db", "sqlite and postgresql are"),
        ("sqlite://", "name a plain file"),
        ("sqlite:///:memory:", "name a plain file"),
        ("sqlite:////" + "d" * 600 + "/s3cret.db", "too long for SQLite"),
        ("sqlite:////dev/null/x/s3cret", "cannot be opened: "),
    ],
)
def test_a_bad_address_gets_one_message_that_never_shows_a_password(
    tmp_path: Path, url: str, says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        TradeLog.open(url, tmp_path, INSTRUMENTS)
    assert caught.value.field == "DATABASE_URL"
    assert says in caught.value.message
    assert "s3cret@" not in str(caught.value) and "with s3cret" not in str(caught.value)


def test_a_named_sqlite_file_is_used_and_its_directory_made(tmp_path: Path) -> None:
    log = TradeLog.open(f"sqlite:///{tmp_path}/100%/logs/mine.db", tmp_path, INSTRUMENTS)
    log.record_step(heard(1))
    log.close()
    assert len(Queries.open(f"sqlite:///{tmp_path}/100%/logs/mine.db", tmp_path).fills()) == 1
    assert not (tmp_path / FILE_NAME).exists()


def test_a_locked_damaged_foreign_or_newer_file_refuses_the_switch_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    log = TradeLog(None, tmp_path, INSTRUMENTS)

    def refusal() -> str:
        with pytest.raises(BadInput) as caught:
            log.switch(True)
        assert not log.is_on
        return caught.value.message

    file.write_text("a diary " * 500)
    assert "file is not a database" in refusal()
    assert file.read_text() == "a diary " * 500
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE fills (id INTEGER)")
    other.close()
    assert "something else" in refusal()
    file.unlink()
    log.switch(True)
    log.switch(False)
    with sqlite3.connect(file) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.close()
    assert "newer version (revision 9999)" in refusal()
    with sqlite3.connect(file) as other:
        other.execute("UPDATE alembic_version SET version_num = '0001'")
    other.close()
    other = locked(tmp_path)
    assert "locked" in refusal()
    other.close()


def test_a_log_never_switched_on_says_so_to_a_reader(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no trade log there yet"):
        read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_migrations_make_exactly_the_tables_of_the_models(log: TradeLog, tmp_path: Path) -> None:
    with sa.create_engine(f"sqlite:///{tmp_path / FILE_NAME}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), models.meta) == []
        connection.engine.dispose()
    config = Config()
    config.set_main_option("script_location", str(Path(journal.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == models.HEAD


def test_an_up_to_date_log_opens_without_importing_alembic(tmp_path: Path) -> None:
    TradeLog.open(None, tmp_path, INSTRUMENTS).close()
    out = run_program(
        """
        import sys
        from pathlib import Path
        from database.journal import TradeLog
        TradeLog.open(None, Path(sys.argv[1]), {}).close()
        print("alembic" in sys.modules, "sqlalchemy.orm" in sys.modules)
        """,
        tmp_path,
    )
    assert out == "False False\n"


def test_the_statements_are_ones_postgresql_understands() -> None:
    columns = frozenset({"client_id", "status", "changed_ns"})
    statement = journal._order_upsert(postgresql.insert, columns)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    compiled = str(statement.compile(dialect=dialect, column_keys=sorted(columns)))
    assert "ON CONFLICT (client_id) DO UPDATE SET" in compiled and "CASE WHEN" in compiled
    assert parse_url("postgresql://u:p@h/db", Path(".")).get_backend_name() == "postgresql"


# reading


def test_pages_cover_every_row_once(log: TradeLog, tmp_path: Path) -> None:
    for no in range(50):
        log.record_step(heard(no, at_ns=no // 4))
        log.record_step(placed(f"c{no:02}", no // 4))
        log.record_run(a_view(id=f"w{no}", started_ns=no // 4), "started")
    assert log.flush(5)
    logged = read(tmp_path)
    for limit in (1, 3, 4, 7, 100):
        orders: list[LoggedOrder] = []
        runs: list[LoggedRun] = []
        fills: list[LoggedFill] = []
        while order_page := logged.orders(before_ns=orders[-1].changed_ns if orders else None, limit=limit):
            orders += order_page
        while run_page := logged.runs(before_ns=runs[-1].started_ns if runs else None, limit=limit):
            runs += run_page
        while fill_page := logged.fills(before_ns=fills[-1].venue_ns if fills else None, limit=limit):
            fills += fill_page
        assert len({o.client_id for o in orders}) == len(orders) == 50
        assert len({r.run for r in runs}) == len(runs) == 50
        assert [f.trade_id for f in fills] == [f"t{no}" for no in reversed(range(50))]
    assert [o.client_id for o in logged.orders(status="filled")] == []
    assert len(logged.fills(worker="w1", symbol="BTC-USDT", client_id="c7")) == 1
    assert logged.fills(worker="w2") == []
    logged.close()


def test_days_are_utc_and_rest_on_all_history(log: TradeLog, tmp_path: Path) -> None:
    eth = InstrumentId("paper:ETH-USDT")
    rows = [
        heard(1, at_ns=0, ticks=1_000_000, lots=100_000, fee="1", trade_id="9"),
        heard(2, side=Side.SELL, ticks=1_200_000, lots=50_000, fee="2", is_maker=False),
        heard(3, side=Side.SELL, ticks=900_000, lots=50_000, fee="0.1", fee_asset="BNB"),
    ]
    for day, step in enumerate(rows):
        assert isinstance(step.event, FillHeard)
        fill = dataclasses.replace(step.event.fill, venue_ns=DAY_NS * (day + 2) - (1 if day == 0 else 0))
        log.record_step(dataclasses.replace(step, event=FillHeard(1, fill)))
    log.record_fill("w2", a_fill(1, instrument=eth), dataclasses.replace(BTC, id=eth), 5)
    assert log.flush(5)
    logged = read(tmp_path)
    first, *rest = logged.days()
    assert (first.day, first.worker, first.market) == ("1970-01-01", "w2", "paper:ETH-USDT")
    assert [
        (
            d.day,
            d.buys,
            d.sells,
            d.realized,
            d.maker_fees,
            d.taker_fees,
            d.net,
            d.position,
            d.unconverted_fees,
        )
        for d in rest
    ] == [
        ("1970-01-02", 1, 0, D(0), D(1), D(0), D(-1), D(1), ()),
        ("1970-01-04", 0, 1, D(1000), D(0), D(2), D(998), D("0.5"), ()),
        ("1970-01-05", 0, 1, D(-500), D(0), D(0), D(-500), D(0), (("BNB", D("0.1")),)),
    ]
    assert rest[0].wear_rate == D("0.01") and rest[1].taker_sell_base == D("0.5")
    assert [d.day for d in logged.days(worker="w1", since_ns=3 * DAY_NS, before_ns=4 * DAY_NS)] == [
        "1970-01-04"
    ]
    assert logged.days(symbol="none") == []
    logged.close()


def test_a_cancel_is_a_decision_too(log: TradeLog, tmp_path: Path) -> None:
    log.record_step(a_step(Timer(5), Cancel("c1", BTC.id, "stale book"), seq=3))
    log.record_step(a_step(Timer(5), Cancel("c1", BTC.id, "stale book"), seq=3))
    assert log.flush(5)
    (found,) = read(tmp_path).decisions(worker="w1")
    assert found.commands == [{"verb": "cancel", "client_id": "c1", "why": "stale book"}]
    assert read(tmp_path).orders() == []
