"""The trade log's writing side: what happened, kept for people. Off unless it is switched on.

Hides: how steps become rows, the writer thread, batches, the spill file, migrations, the kind of database.
Must not know: engines and venues. Called by the composer: `record_step` with every `Step`, `record_run`
when a worker starts or ends. Nothing here may slow trading down or stop it: recording is an append to a
queue.

Fills, orders and runs are never dropped: while the database is locked, full or away they go to
`trade_log.spill` and from there into the database later. Decisions are dropped, and counted, while too much
waits. Switched off, nothing is taken, and what was kept stays. Trading does not rest on any of this;
`database.state` keeps what a restart needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, case, create_engine, inspect, or_, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from api.desk import WorkerView
from api.errors import BadInput
from api.ledger import EXACT, Entry
from api.types import (
    Amend,
    Answered,
    BookChanged,
    Cancel,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    Order,
    OrderHeard,
    Outcome,
    Place,
    Request,
    Status,
    Step,
    Term,
    Traded,
)
from database import models
from database.outbox import Outbox
from database.sqlite import DATABASE_ERRORS, cause_of, sqlite_url, tune_sqlite

FILE_NAME = "orders.db"
SPILL_NAME = "trade_log.spill"
QUEUE_LIMIT = 20_000  # waiting items from which on decisions are dropped
LINGER_S = 0.05  # a burst is gathered for so long: batches of 20 and more cost a tenth of single rows
_FINAL = tuple(status.value for status in Status if status.is_final)
_INT64_MAX = (1 << 63) - 1
_MONEY = frozenset({"price", "qty", "value", "fee", "fee_quote", "contract_size", "filled"})
_NO_LOG = "there is no trade log there yet; it begins when the log is switched on"
_MIGRATIONS = Path(__file__).parent / "migrations"

Row = dict[str, Any]
Rows = list[tuple[str, Row]]
"""(table name, values): amounts are text here, so that a record can go through the spill file."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the log was switched on. `dropped` are decisions only; `spilled` may have been written since."""

    queued: int
    written: int
    spilled: int
    dropped: int
    trouble: str


class TradeLog:
    """The log at one address. Thread-safe.

    Args:
        url: sqlite:///file or postgresql://...; None: `orders.db` in `data_dir`.
        data_dir: where the spill file lives.
        instruments: everything that can be traded; looked up when a step is written.
        on_trouble: called from the writer thread with one sentence when the log can't be written, "" when
            it can again.
    """

    def __init__(
        self,
        url: str | None,
        data_dir: Path,
        instruments: Mapping[InstrumentId, Instrument],
        *,
        on_trouble: Callable[[str], None] | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._url = parse_url(url, data_dir)
        self._spill_path = data_dir / SPILL_NAME
        self._instruments = instruments
        self._on_trouble = on_trouble
        self._queue_limit = queue_limit
        self._switching = threading.Lock()
        self._outbox: Outbox[Callable[[], Rows]] | None = None
        self._engine: Engine | None = None
        self._runs: dict[str, tuple[str, str]] = {}

    @classmethod
    def open(
        cls,
        url: str | None,
        data_dir: Path,
        instruments: Mapping[InstrumentId, Instrument],
        *,
        on_trouble: Callable[[str], None] | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> TradeLog:
        """A log that is switched on. Raises BadInput."""
        log = cls(url, data_dir, instruments, on_trouble=on_trouble, queue_limit=queue_limit)
        log.switch(True)
        return log

    @property
    def is_on(self) -> bool:
        return self._outbox is not None

    @property
    def counters(self) -> Counters:
        outbox = self._outbox
        if outbox is None:
            return Counters(0, 0, 0, 0, "")
        return Counters(outbox.queued, outbox.written, outbox.spilled, outbox.dropped, outbox.trouble)

    def switch(self, on: bool) -> None:
        """On: open the database, bring its tables up to date, start writing. Off: write what waits and let
        go. Idempotent; the runs that `record_run` told of are known either way.

        Raises:
            BadInput: field "DATABASE_URL": it cannot be reached or written, or was made by a newer version.
                The log stays off.
        """
        with self._switching:
            if on and self._outbox is None:
                self._engine = open_engine(self._url, writes=True)
                outbox: Outbox[Callable[[], Rows]] = Outbox(
                    "trade-log",
                    self._spill_path,
                    encode=_rows_of,
                    store=self._store,
                    on_trouble=self._on_trouble,
                    limit=self._queue_limit,
                    linger_s=LINGER_S,
                )
                outbox.start()
                self._outbox = outbox
            elif not on and self._outbox is not None:
                outbox, self._outbox = self._outbox, None
                outbox.close()
                if self._engine is not None:
                    self._engine.dispose()
                    self._engine = None

    def close(self) -> None:
        """As `switch(False)`."""
        self.switch(False)

    def flush(self, timeout_s: float) -> bool:
        """True once everything so far is in the database or in the synced spill file. True when off."""
        outbox = self._outbox
        return outbox is None or outbox.flush(timeout_s)

    def record_run(self, view: WorkerView, what: str) -> None:
        """A worker "started" or "ended". Also while off, so that what follows is attributed when the log is
        switched on.
        """
        run = f"{view.id}/{view.started_ns}"
        if what == "started":
            self._runs[view.id] = (run, view.account)
        if view.started_ns is not None:
            self._put(lambda: [("runs", _run_row(run, view, has_ended=what == "ended"))])

    def record_step(self, step: Step) -> None:
        """What one step says about fills, orders and decisions. Steps that changed no order and heard
        nothing of ours cost next to nothing.
        """
        event = step.event
        has_news = isinstance(event, FillHeard | OrderHeard | Answered)
        if self._outbox is None or not (has_news or step.approved):
            return
        run, account = self._runs.get(step.worker, ("", ""))
        if has_news or any(isinstance(approved.command, Place | Amend) for approved in step.approved):
            self._put(lambda: self._order_rows(step, run, account))
        if step.approved:
            self._put(lambda: [("decisions", _decision_row(step, run, self._instruments))], droppable=True)

    def record_fill(
        self,
        worker: str,
        fill: Fill,
        instrument: Instrument,
        at_ns: int,
        quote_per_fee_asset: Decimal | None = None,
    ) -> None:
        """One fill that came outside a step (found by reconciliation, or of a worker that is gone)."""
        run, _ = self._runs.get(worker, ("", ""))
        self._put(lambda: [("fills", _fill_row(worker, run, fill, instrument, at_ns, quote_per_fee_asset))])

    def record_order(self, worker: str, order: Order, instrument: Instrument, at_ns: int) -> None:
        """One order as it stands now."""
        run, account = self._runs.get(worker, ("", ""))
        self._put(lambda: [("orders", _order_row(worker, run, account, order, instrument, at_ns))])

    def _put(self, rows: Callable[[], Rows], *, droppable: bool = False) -> None:
        """Queue work for the writer thread: what it captures is frozen, so it may be looked at later."""
        outbox = self._outbox
        if outbox is None:
            return
        try:
            outbox.put(rows, droppable=droppable)
        except OSError:
            return  # switched off in this moment

    def _order_rows(self, step: Step, run: str, account: str) -> Rows:
        event = step.event
        rows: Rows = []
        for approved in step.approved:
            command = approved.command
            if isinstance(command, Place):
                instrument = self._instruments[command.instrument]
                rows.append(("orders", _place_row(step, run, account, command, instrument)))
            elif isinstance(command, Amend):
                instrument = self._instruments[command.instrument]
                rows.append(
                    (
                        "orders",
                        {
                            "client_id": command.client_id,
                            "price": str(instrument.price(command.ticks)),
                            "qty": str(instrument.qty(command.lots)),
                            "terms": _json(_terms(command.why)),
                            "changed_ns": event.at_ns,
                        },
                    )
                )
        if isinstance(event, FillHeard):
            instrument = self._instruments[event.fill.instrument]
            rows.append(("fills", _fill_row(step.worker, run, event.fill, instrument, event.at_ns, None)))
        elif isinstance(event, OrderHeard):
            instrument = self._instruments[event.report.instrument]
            rows.append(("orders", _report_row(step.worker, run, account, event, instrument)))
        elif isinstance(event, Answered):
            rows.append(("orders", _answer_row(event)))
        return rows

    def _store(self, records: list[Any]) -> None:
        """One burst in one transaction; a row that is there already is left or brought up to date."""
        fills: list[Row] = []
        decisions: list[Row] = []
        runs: list[Row] = []
        orders: dict[str, Row] = {}
        for rows in records:
            for table, values in rows:
                row = {name: _from_text(name, value) for name, value in values.items()}
                if table == "orders":
                    known = orders.get(row["client_id"])
                    orders[row["client_id"]] = row if known is None else _newer(known, row)
                else:
                    {"fills": fills, "decisions": decisions, "runs": runs}[table].append(row)
        assert self._engine is not None
        with self._engine.begin() as connection:
            insert = _inserter(connection)
            if fills:
                once = insert(models.fills).on_conflict_do_nothing(index_elements=models.FILL_KEY)
                connection.execute(once, fills)
            for run in runs:
                changed = {name: value for name, value in run.items() if name != "run"}
                connection.execute(
                    insert(models.runs)
                    .values(run)
                    .on_conflict_do_update(index_elements=["run"], set_=changed)
                )
            by_columns: dict[frozenset[str], list[Row]] = {}
            for order in orders.values():
                by_columns.setdefault(frozenset(order), []).append(order)
            for columns, same in by_columns.items():
                connection.execute(_order_upsert(insert, columns), same)
            if decisions:
                once = insert(models.decisions).on_conflict_do_nothing(index_elements=models.DECISION_KEY)
                connection.execute(once, decisions)


def parse_url(url: str | None, data_dir: Path) -> URL:
    """Where the trade log is. Raises BadInput; the text of a bad address, which may hold a password, is
    never shown.
    """
    if url is None:
        try:
            return sqlite_url(data_dir / FILE_NAME)
        except OSError as error:
            raise BadInput("data-dir", str(error)) from error
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (NoSuchModuleError, ImportError):
        said = "names a kind of database or a driver that is not there; sqlite and postgresql are known"
        raise BadInput("DATABASE_URL", said) from None
    except (ArgumentError, ValueError):
        said = "not an address such as sqlite:///trades.db or postgresql://host/name"
        raise BadInput("DATABASE_URL", said) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise BadInput("DATABASE_URL", f"{kind} is not supported; sqlite and postgresql are")
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise BadInput("DATABASE_URL", "for sqlite name a plain file: sqlite:///trades.db")
        try:
            return sqlite_url(Path(parsed.database))
        except OSError as error:
            raise BadInput("DATABASE_URL", str(error)) from error
    return parsed


def open_engine(url: URL, *, writes: bool) -> Engine:
    """An engine on the trade log: for a writer made and brought up to date, for a reader looked at and left
    alone.

    Raises:
        BadInput: it cannot be reached, is not a trade log, or is of a newer version.
    """
    shown = url.render_as_string(hide_password=True)
    try:
        if url.get_backend_name() == "sqlite":
            file = Path(url.database or "")
            if writes:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(mode=0o600)
            elif not file.exists():
                raise BadInput("DATABASE_URL", _NO_LOG)
            engine = tune_sqlite(create_engine(url), writes=writes)
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except ImportError as error:
        raise BadInput(
            "DATABASE_URL", f"the driver for {url.drivername} is not installed: {error.name}"
        ) from error
    except (OSError, *DATABASE_ERRORS) as error:
        raise BadInput("DATABASE_URL", f"{shown} cannot be opened: {cause_of(error)}") from error
    try:
        with engine.begin() as connection:
            _check_version(connection, upgrade=writes)
    except BadInput:
        engine.dispose()
        raise
    except (OSError, *DATABASE_ERRORS) as error:
        engine.dispose()
        raise BadInput("DATABASE_URL", f"{shown} cannot be opened: {cause_of(error)}") from error
    return engine


def _check_version(connection: Connection, *, upgrade: bool) -> None:
    """Alembic is slow to import and only needed when there is something to do."""
    tables = inspect(connection).get_table_names()
    found = None
    if "alembic_version" in tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found == models.HEAD:
        return
    if not upgrade:
        raise BadInput(
            "DATABASE_URL", "there is no trade log there yet; it begins when the log is switched on"
        )
    if found is None and set(tables) & set(models.meta.tables):
        raise BadInput("DATABASE_URL", "is a database of something else with tables of the same names")

    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if found is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(found)
        except CommandError:
            raise BadInput("DATABASE_URL", f"was written by a newer version (revision {found})") from None
    command.upgrade(config, "head")


def _rows_of(item: Callable[[], Rows]) -> Rows:
    """On the writer thread. Raises ValueError for a number no database could keep: better here than in a
    batch of good rows.
    """
    with localcontext(EXACT):
        rows = item()
    for table, values in rows:
        for name, value in values.items():
            if isinstance(value, int) and not -_INT64_MAX <= value <= _INT64_MAX:
                raise ValueError(f"{table}.{name} does not fit: {value}")
            if name in _MONEY and value is not None and not Decimal(value).is_finite():
                raise ValueError(f"{table}.{name} is not an amount: {value}")
    return rows


def _inserter(connection: Connection) -> Callable[..., Any]:
    """`insert` with ON CONFLICT in the dialect of this database; both spell it alike."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _order_upsert(insert: Callable[..., Any], columns: frozenset[str]) -> Any:
    """New: all we know. Known: what is newer; a final status is never taken back by a late answer."""
    statement = insert(models.orders)
    fresh = statement.excluded
    changed: dict[str, Any] = {name: fresh[name] for name in columns if name != "client_id"}
    if "status" in changed:
        was_final = or_(
            *(models.orders.c.status == status for status in _FINAL)
        )  # IN has no place in a batch
        is_final = or_(*(fresh.status == status for status in _FINAL))
        changed["status"] = case((was_final & ~is_final, models.orders.c.status), else_=fresh.status)
    return statement.on_conflict_do_update(
        index_elements=["client_id"], set_=changed, where=models.orders.c.changed_ns <= fresh.changed_ns
    )


def _newer(known: Row, row: Row) -> Row:
    """Two rows of one order in one burst as one."""
    if row["changed_ns"] < known["changed_ns"]:
        known, row = row, known
    merged = {**known, **row}
    if known.get("status") in _FINAL and row.get("status") not in _FINAL:
        merged["status"] = known["status"]
    return merged


def _from_text(name: str, value: Any) -> Any:
    return Decimal(value) if name in _MONEY and value is not None else value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _terms(why: tuple[Term, ...]) -> list[list[Any]]:
    return [[name, part] for name, part in why]


def _run_row(run: str, view: WorkerView, *, has_ended: bool) -> Row:
    row: Row = {
        "run": run,
        "worker": view.id,
        "name": view.name,
        "strategy": view.strategy,
        "venue": view.venue,
        "account": view.account,
        "env": view.env,
        "symbol": view.symbol,
        "params_version": view.params_version,
        "params": _json(view.params),
        "limits": _json(view.limits),
        "started_ns": view.started_ns,
    }
    if has_ended:
        row["ended_ns"] = view.stopped_ns if view.stopped_ns is not None else view.published_ns
        row["reason"] = view.reason
        row["receipt"] = None if view.receipt is None else _json(view.receipt)
    return row


def _fill_row(
    worker: str,
    run: str,
    fill: Fill,
    instrument: Instrument,
    at_ns: int,
    quote_per_fee_asset: Decimal | None,
) -> Row:
    entry = Entry.of(fill, instrument, quote_per_fee_asset)
    venue, account, symbol, trade_id = fill.key
    return {
        "run": run,
        "worker": worker,
        "venue": venue,
        "account": account,
        "symbol": symbol,
        "trade_id": trade_id,
        "client_id": fill.client_id,
        "venue_id": fill.venue_id,
        "side": fill.side.value,
        "price": str(entry.price),
        "qty": str(instrument.qty(fill.lots)),
        "value": str(entry.value),
        "fee": str(fill.fee),
        "fee_asset": fill.fee_asset,
        "fee_quote": None if entry.fee_quote is None else str(entry.fee_quote),
        "is_maker": fill.is_maker,
        "base": instrument.base,
        "quote": instrument.quote,
        "market_kind": instrument.kind,
        "contract_size": str(instrument.contract_size),
        "venue_ns": fill.venue_ns,
        "at_ns": at_ns,
    }


def _place_row(step: Step, run: str, account: str, place: Place, instrument: Instrument) -> Row:
    return {
        "client_id": place.client_id,
        "run": run,
        "worker": step.worker,
        "venue": place.instrument.venue,
        "account": account,
        "symbol": place.instrument.symbol,
        "side": place.side.value,
        "price": str(instrument.price(place.ticks)),
        "qty": str(instrument.qty(place.lots)),
        "level": place.level,
        "tif": place.tif.value,
        "post_only": place.post_only,
        "status": Status.UNSEEN.value,
        "is_unknown": False,
        "reason": "",
        "terms": _json(_terms(place.why)),
        "created_ns": step.event.at_ns,
        "changed_ns": step.event.at_ns,
    }


def _report_row(worker: str, run: str, account: str, event: OrderHeard, instrument: Instrument) -> Row:
    report = event.report
    row: Row = {
        "client_id": report.client_id,
        "worker": worker,
        "venue": report.instrument.venue,
        "symbol": report.instrument.symbol,
        "side": report.side.value,
        "price": str(instrument.price(report.ticks)),
        "qty": str(instrument.qty(report.lots)),
        "status": report.status.value,
        "is_unknown": False,
        "venue_ns": report.venue_ns,
        "changed_ns": event.at_ns,
    }
    if run:
        row["run"], row["account"] = run, account
    if report.filled_lots is not None:
        row["filled"] = str(instrument.qty(report.filled_lots))
    if report.venue_id is not None:
        row["venue_id"] = report.venue_id
    if report.reason:
        row["reason"] = report.reason
    return row


def _answer_row(event: Answered) -> Row:
    """What an answer says about the order: refused places end it, an unknown outcome is marked, accepted
    ones open it.
    """
    row: Row = {
        "client_id": event.client_id,
        "venue": event.instrument.venue,
        "symbol": event.instrument.symbol,
        "is_unknown": event.outcome is Outcome.UNKNOWN,
        "changed_ns": event.at_ns,
    }
    if event.venue_id is not None:
        row["venue_id"] = event.venue_id
    if event.error or event.reason:
        row["reason"] = f"{event.error}: {event.reason}" if event.error else event.reason
    if event.request is Request.PLACE:
        if event.outcome is Outcome.ACCEPTED:
            row["status"] = Status.OPEN.value
        elif event.outcome is not Outcome.UNKNOWN:
            row["status"] = Status.REJECTED.value
    return row


def _order_row(worker: str, run: str, account: str, order: Order, instrument: Instrument, at_ns: int) -> Row:
    return {
        "client_id": order.client_id,
        "run": run,
        "worker": worker,
        "venue": order.instrument.venue,
        "account": account,
        "symbol": order.instrument.symbol,
        "venue_id": order.venue_id,
        "side": order.side.value,
        "price": str(instrument.price(order.ticks)),
        "qty": str(instrument.qty(order.lots)),
        "filled": str(instrument.qty(order.filled_lots)),
        "level": order.level,
        "tif": order.tif.value,
        "post_only": order.post_only,
        "status": order.status.value,
        "is_unknown": order.is_unknown,
        "reason": order.reason,
        "terms": _json(_terms(order.why)),
        "created_ns": order.created_ns,
        "changed_ns": at_ns,
    }


def _decision_row(step: Step, run: str, instruments: Mapping[InstrumentId, Instrument]) -> Row:
    event = step.event
    quotes = () if step.targets is None else step.targets.quotes
    return {
        "worker": step.worker,
        "run": run,
        "seq": step.seq,
        "at_ns": event.at_ns,
        "venue_ns": _venue_ns(step),
        "event": type(event).__name__,
        "terms": _json(
            [
                {
                    "side": q.side.value,
                    "level": q.level,
                    "price": q.price,
                    "qty": q.qty,
                    "terms": _terms(q.why),
                }
                for q in quotes
            ]
        ),
        "commands": _json([_command(a.command, instruments) for a in step.approved]),
        "refused": _json(
            [
                {"rule": r.rule, "text": r.text, "command": _command(r.command, instruments)}
                for r in step.refused
            ]
        ),
        "silent": _json([[side.value, rule] for side, rule in step.silent]),
    }


def _venue_ns(step: Step) -> int | None:
    """Exchange time of what the step heard, where it carries one."""
    event = step.event
    if isinstance(event, BookChanged):
        return event.book.venue_ns
    if isinstance(event, Traded):
        return event.trade.venue_ns
    if isinstance(event, FillHeard):
        return event.fill.venue_ns
    if isinstance(event, OrderHeard):
        return event.report.venue_ns
    return None


def _command(command: Place | Amend | Cancel, instruments: Mapping[InstrumentId, Instrument]) -> Row:
    row: Row = {"verb": type(command).__name__.lower(), "client_id": command.client_id}
    if isinstance(command, Cancel):
        return {**row, "why": command.why}
    instrument = instruments[command.instrument]
    row["price"] = str(instrument.price(command.ticks))
    row["qty"] = str(instrument.qty(command.lots))
    if isinstance(command, Place):
        row["side"], row["level"] = command.side.value, command.level
    return row
