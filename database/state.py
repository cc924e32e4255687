"""`state.db`: what a restart begins with, always on, whether the trade log is or not.

Hides: tables, transactions, the writer thread, the spill file `state.spill`, the schema's version. Must not
know: engines, venues, what a limit means. Called by the desk and the gateway from any thread.

Two kinds of writes, one writer thread:

- *Facts* (fills, latches, the kill switch) are never refused. They are queued, written in bursts (one
  `BEGIN IMMEDIATE`, one synced commit), and when SQLite is locked, full or broken they go to an fsynced
  file and from there into SQLite as soon as it works again, at the latest at the next start. `on_trouble`
  tells the desk meanwhile, so that it takes no new risk. Reads see facts at once, committed or not.
- *Orders of the operator* (workers, versions, counters) are committed when the call returns, or raise
  `StateTrouble` and changed nothing.

A kill -9 loses at most the facts of the burst in flight: those fills are asked for at the venue, from a
while before `last_fill_ns`, and a fill that was stored already is stored once (venue, account, symbol,
trade id).
"""

from __future__ import annotations

import os
import re
import secrets
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import Connection, Engine

from api.desk import WorkerSpec
from api.errors import BadInput
from api.types import Fill, Instrument
from database import tables
from database.outbox import Outbox
from database.rows import Identity, KillRow, LatchEvent, LatchRow, StoredFill, VersionRow, WorkerRow
from database.sqlite import DATABASE_ERRORS, cause_of, open_sqlite

DESK_SCOPE = "desk"
KILL_RULE = "kill"
_LATCH_WAIT_S = 2.0  # how long a latch waits to be durable before it goes on without

_TAG = re.compile("[a-z0-9]{4}")

T = TypeVar("T")

_to_json = msgspec.json.Encoder().encode
_FillKey = tuple[str, str, str, str]


class StateTrouble(OSError):
    """`state.db` could not be written just now; nothing was changed."""


class State:
    """The always-on store of one data directory. Made by `open`. Thread-safe."""

    def __init__(self, writer: Engine, reader: Engine, spill_path: Path) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = threading.Lock()
        self._unstored: dict[_FillKey, StoredFill] = {}
        self._latched: dict[tuple[str, str], tuple[LatchRow, str]] = {}
        self._instrument_nos: dict[str, int] = {}
        self._identity = Identity("", 0)
        self.duplicates = 0
        self.outbox: Outbox[tuple[Any, ...]] = Outbox("state", spill_path, encode=_encode, store=self._store)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        desk_tag: str | None = None,
        on_trouble: Callable[[str], None] | None = None,
    ) -> State:
        """The store in the directory `path` (made when absent), or at `path` itself when that ends in ".db".

        Args:
            desk_tag: for a new store, instead of a random one: a run on a tape must not depend on chance.
            on_trouble: see `on_trouble`.

        Raises:
            BadInput: field "data-dir": not writable, path too long, locked, not ours, corrupt, or of a
                newer schema.
        """
        if desk_tag is not None and not _TAG.fullmatch(desk_tag):
            raise ValueError(f"a desk tag is four characters of [a-z0-9], not {desk_tag!r}")
        file = path if path.suffix == ".db" else path / "state.db"
        state: State | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_private(file)
            state = cls(
                open_sqlite(file, writes=True), open_sqlite(file, writes=False), file.with_suffix(".spill")
            )
            with state._writer.begin() as connection:
                tables.prepare(connection, file.name, desk_tag or _new_tag())
            state.outbox.recover()
            state._load()
        except BadInput:
            if state is not None:
                state.close()
            raise
        except (OSError, *DATABASE_ERRORS) as error:
            if state is not None:
                state.close()
            what = error.strerror if isinstance(error, OSError) and error.strerror else cause_of(error)
            raise BadInput("data-dir", f"cannot keep {file.name} in {file.parent}: {what}") from error
        state.outbox.on_trouble = on_trouble
        state.outbox.start()
        return state

    @property
    def on_trouble(self) -> Callable[[str], None] | None:
        """Called from the writer thread with one sentence when facts can't be written to SQLite, and with
        "" when they can again. In between the desk takes no new risk. May be set at any time; look at
        `trouble` after setting it.
        """
        return self.outbox.on_trouble

    @on_trouble.setter
    def on_trouble(self, listener: Callable[[str], None] | None) -> None:
        self.outbox.on_trouble = listener

    @property
    def trouble(self) -> str:
        """What is wrong with writing now; "" when nothing is."""
        return self.outbox.trouble

    # who we are

    def identity(self) -> Identity:
        return self._identity

    def next_run(self) -> int:
        """Count this start: the new run number, from 1, committed. Raises StateTrouble."""

        def count(connection: Connection) -> int:
            return _count_up(connection, "run_no")

        run_no = self._write(count)
        self._identity = Identity(self._identity.desk_tag, run_no)
        return run_no

    def next_worker_no(self) -> int:
        """A number for a new worker, from 1, never given twice. Raises StateTrouble."""
        return self._write(lambda connection: _count_up(connection, "worker_no"))

    # workers and the versions of what they were told

    def save_worker(self, row: WorkerRow) -> None:
        """Write one worker, new or known. Raises StateTrouble."""
        values = {
            "id": row.id,
            "spec": _to_json(row.spec).decode(),
            "state": row.state,
            "resume": row.resume,
            "is_demo": row.is_demo,
            "version": row.version,
            "created_ns": row.created_ns,
            "started_ns": row.started_ns,
            "stopped_ns": row.stopped_ns,
            "reason": row.reason,
            "extra": _to_json(row.extra).decode(),
        }
        statement = (
            upsert(tables.workers).values(values).on_conflict_do_update(index_elements=["id"], set_=values)
        )
        self._write(lambda connection: connection.execute(statement))

    def workers(self) -> list[WorkerRow]:
        """Every worker, in the order they were made."""
        with self._read() as connection:
            rows = connection.execute(select(tables.workers)).mappings().all()
        found = [
            WorkerRow(
                **{
                    **row,
                    "spec": msgspec.json.decode(row["spec"], type=WorkerSpec),
                    "extra": msgspec.json.decode(row["extra"]),
                }
            )
            for row in rows
        ]
        return sorted(found, key=lambda row: (row.created_ns, len(row.id), row.id))

    def delete_worker(self, worker_id: str) -> None:
        """Forget the worker; its versions and fills stay. Unknown: nothing happens. Raises StateTrouble."""
        self._write(
            lambda connection: connection.execute(
                delete(tables.workers).where(tables.workers.c.id == worker_id)
            )
        )

    def add_version(
        self,
        worker_id: str,
        *,
        at_ns: int,
        by: str,
        reason: str,
        params: dict[str, Any],
        limits: dict[str, Any],
    ) -> int:
        """Record what a worker was told and by whom; answers with its number, from 1. Raises StateTrouble."""
        body = {"params": _to_json(params).decode(), "limits": _to_json(limits).decode()}

        def add(connection: Connection) -> int:
            newest = connection.scalar(
                select(func.max(tables.versions.c.version)).where(tables.versions.c.worker == worker_id)
            )
            version = (newest or 0) + 1
            connection.execute(
                insert(tables.versions).values(
                    worker=worker_id, version=version, at_ns=at_ns, by=by, reason=reason, **body
                )
            )
            return version

        return self._write(add)

    def versions(self, worker_id: str) -> list[VersionRow]:
        """Newest first."""
        statement = (
            select(tables.versions)
            .where(tables.versions.c.worker == worker_id)
            .order_by(tables.versions.c.version.desc())
        )
        with self._read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [
            VersionRow(
                **{
                    **row,
                    "params": msgspec.json.decode(row["params"]),
                    "limits": msgspec.json.decode(row["limits"]),
                }
            )
            for row in rows
        ]

    # latches

    def set_kill(self, reason: str, by: str, at_ns: int) -> bool:
        """Latch the kill switch; the first reason stays. Waits up to two seconds for the disk. Never
        raises: True when it is durable, False when it is not yet.
        """
        return self._latch(DESK_SCOPE, KILL_RULE, reason, by, at_ns) and self.flush(_LATCH_WAIT_S)

    def clear_kill(self, by: str, at_ns: int) -> bool:
        """As `set_kill`."""
        return self._unlatch(DESK_SCOPE, KILL_RULE, by, at_ns) and self.flush(_LATCH_WAIT_S)

    def kill(self) -> KillRow | None:
        with self._lock:
            found = self._latched.get((DESK_SCOPE, KILL_RULE))
        return None if found is None else KillRow(found[0].reason, found[1], found[0].at_ns)

    def set_latch(self, scope: str, rule: str, reason: str, at_ns: int, *, by: str = "") -> None:
        """Latch one rule of one scope (a worker id, "venue/account", "desk"); the first reason stays.
        Returns at once, never raises.
        """
        with self._lock:
            known = (scope, rule) in self._latched
        if not known:
            self._latch(scope, rule, reason, by, at_ns)

    def clear_latch(self, scope: str, rule: str, by: str, at_ns: int) -> bool:
        """As `clear_kill`."""
        return self._unlatch(scope, rule, by, at_ns) and self.flush(_LATCH_WAIT_S)

    def latches(self, scope: str | None = None) -> list[LatchRow]:
        """What is latched now, oldest first; the kill switch is not among them."""
        with self._lock:
            rows = [row for key, (row, _) in self._latched.items() if key != (DESK_SCOPE, KILL_RULE)]
        return sorted(
            (row for row in rows if scope is None or row.scope == scope),
            key=lambda row: (row.at_ns, row.scope, row.rule),
        )

    def latch_log(self, limit: int = 100) -> list[LatchEvent]:
        """Who set and cleared which latch, newest first."""
        columns = [column for column in tables.latch_log.c if column.name != "no"]
        with self._read() as connection:
            rows = connection.execute(
                select(*columns).order_by(tables.latch_log.c.no.desc()).limit(limit)
            ).mappings()
            return [LatchEvent(**row) for row in rows]

    # fills

    def record_fill(
        self,
        worker_id: str,
        fill: Fill,
        instrument: Instrument,
        quote_per_fee_asset: Decimal | None = None,
    ) -> None:
        """Keep one fill; returns at once. A fill that is known already changes nothing.

        Args:
            instrument: as it is now; kept with the fill, since ticks and lots mean nothing without it.
            quote_per_fee_asset: the rate the ledger used for a fee in a third asset.
        """
        stored = StoredFill(worker_id, fill, instrument, quote_per_fee_asset)
        with self._lock:
            if fill.key in self._unstored:
                self.duplicates += 1
                return
            self._unstored[fill.key] = stored
        try:
            self.outbox.put(("fill", stored))
        except OSError:
            with self._lock:
                self._unstored.pop(fill.key, None)
            raise

    def insert_fill(
        self,
        worker_id: str,
        fill: Fill,
        instrument: Instrument,
        quote_per_fee_asset: Decimal | None = None,
    ) -> bool:
        """As `record_fill`, committed when it returns: True when the fill is new, False when it was known.
        Raises StateTrouble.
        """
        with self._lock:
            if fill.key in self._unstored:
                return False
        record = _encode(("fill", StoredFill(worker_id, fill, instrument, quote_per_fee_asset)))
        return self._write(lambda connection: self._insert_fills(connection, [record[1]])) == 1

    def flush(self, timeout_s: float) -> bool:
        """True once every fact so far is durable (committed, or fsynced in the spill file)."""
        return self.outbox.flush(timeout_s)

    def fills(
        self,
        worker_id: str | None = None,
        symbol: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> list[StoredFill]:
        """Newest first by exchange time; `before_ns` is exclusive. Fills of one moment stay on one page, so
        a page may be longer than `limit`, and the last fill's `venue_ns` is the next `before_ns`.
        """
        statement = tables.select_fills()
        if worker_id is not None:
            statement = statement.where(tables.fills.c.worker == worker_id)
        if symbol is not None:
            statement = statement.where(tables.fills.c.symbol == symbol)
        if before_ns is not None:
            statement = statement.where(tables.fills.c.venue_ns < before_ns)
        newest = statement.order_by(tables.fills.c.venue_ns.desc()).limit(max(1, limit))
        pending = [
            stored
            for stored in self._pending()
            if (worker_id is None or stored.worker == worker_id)
            and (symbol is None or stored.fill.instrument.symbol == symbol)
            and (before_ns is None or stored.fill.venue_ns < before_ns)
        ]
        with self._read() as connection:
            rows = list(connection.execute(newest))
            if len(rows) >= max(1, limit):
                last_ns = rows[-1].venue_ns
                rows = [row for row in rows if row.venue_ns > last_ns]
                rows += connection.execute(statement.where(tables.fills.c.venue_ns == last_ns))
        found = sorted(_merge(pending, rows), key=lambda stored: stored.order_key, reverse=True)
        if len(found) <= limit:
            return found
        edge_ns = found[max(1, limit) - 1].fill.venue_ns
        return [stored for stored in found if stored.fill.venue_ns >= edge_ns]

    def fills_of(self, worker_id: str) -> list[StoredFill]:
        """All of one worker, oldest first (exchange time, then trade id): what its ledger is built from."""
        pending = [stored for stored in self._pending() if stored.worker == worker_id]
        with self._read() as connection:
            rows = list(connection.execute(tables.select_fills().where(tables.fills.c.worker == worker_id)))
        return sorted(_merge(pending, rows), key=lambda stored: stored.order_key)

    def known_trade_ids(self, venue: str, account: str, symbol: str, since_ns: int = 0) -> set[str]:
        """Trade ids of every stored or queued fill of this market with `venue_ns >= since_ns`."""
        market = (venue, account, symbol)
        known = {
            stored.fill.trade_id
            for stored in self._pending()
            if stored.fill.key[:3] == market and stored.fill.venue_ns >= since_ns
        }
        statement = select(tables.fills.c.trade_id).where(
            *tables.in_market(market), tables.fills.c.venue_ns >= since_ns
        )
        with self._read() as connection:
            known.update(connection.scalars(statement))
        return known

    def last_fill_ns(self, venue: str, account: str, symbol: str) -> int | None:
        """Exchange time of the newest fill of this market; None when there is none. Fills can be heard
        late: ask the venue from well before it, duplicates do no harm.
        """
        market = (venue, account, symbol)
        times = [stored.fill.venue_ns for stored in self._pending() if stored.fill.key[:3] == market]
        with self._read() as connection:
            newest = connection.scalar(
                select(func.max(tables.fills.c.venue_ns)).where(*tables.in_market(market))
            )
        if newest is not None:
            times.append(newest)
        return max(times, default=None)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is queued, end the thread, close the file. True when nothing was lost. Idempotent."""
        kept = self.outbox.close(timeout_s)
        self._reader.dispose()
        self._writer.dispose()
        return kept

    # the writer's side

    def _pending(self) -> list[StoredFill]:
        """Fills on their way; to be taken before the database is read, so that none is missed in between."""
        with self._lock:
            return list(self._unstored.values())

    def _latch(self, scope: str, rule: str, reason: str, by: str, at_ns: int) -> bool:
        with self._lock:  # in memory and in the queue in the same order
            self._latched.setdefault((scope, rule), (LatchRow(scope, rule, reason, at_ns), by))
            return self._put_latch("set", scope, rule, reason, by, at_ns)

    def _unlatch(self, scope: str, rule: str, by: str, at_ns: int) -> bool:
        with self._lock:
            if self._latched.pop((scope, rule), None) is None:
                return True
            return self._put_latch("clear", scope, rule, "", by, at_ns)

    def _put_latch(self, *latch: str | int) -> bool:
        try:
            return self.outbox.put(("latch", *latch))
        except OSError:  # closed: it holds as long as we live
            return False

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """One consistent view. Raises StateTrouble."""
        try:
            with self._reader.connect() as connection:
                yield connection
        except DATABASE_ERRORS as error:
            raise StateTrouble(f"state.db cannot be read: {cause_of(error)}") from error

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction on the writer thread. Raises StateTrouble."""

        def transaction() -> T:
            with self._writer.begin() as connection:
                return work(connection)

        try:
            return self.outbox.call(transaction)
        except DATABASE_ERRORS as error:
            self._instrument_nos.clear()
            raise StateTrouble(f"state.db cannot be written: {cause_of(error)}") from error
        except OSError as error:
            raise StateTrouble(str(error)) from error

    def _store(self, records: list[Any]) -> None:
        """One burst of facts, in order, in one transaction."""
        fills = [body for kind, body in records if kind == "fill"]
        try:
            with self._writer.begin() as connection:
                if fills:
                    self.duplicates += len(fills) - self._insert_fills(connection, fills)
                for kind, body in records:
                    if kind == "latch":
                        _store_latch(connection, *body)
        except BaseException:
            self._instrument_nos.clear()  # the numbers of this transaction were taken back
            raise
        with self._lock:
            for body in fills:
                self._unstored.pop(tuple(body[name] for name in tables.FILL_KEY), None)

    def _insert_fills(self, connection: Connection, bodies: list[dict[str, Any]]) -> int:
        """Answers how many were new."""
        rows = [tables.fill_row(body, self._instrument_no(connection, body["instrument"])) for body in bodies]
        statement = upsert(tables.fills).on_conflict_do_nothing(index_elements=tables.FILL_KEY)
        return connection.execute(statement, rows).rowcount

    def _instrument_no(self, connection: Connection, body: str) -> int:
        known = self._instrument_nos.get(body)
        if known is None:
            connection.execute(upsert(tables.instruments).values(body=body).on_conflict_do_nothing())
            known = connection.scalars(
                select(tables.instruments.c.no).where(tables.instruments.c.body == body)
            ).one()
            self._instrument_nos[body] = known
        return known

    def _load(self) -> None:
        with self._read() as connection:
            settings = {name: value for name, value in connection.execute(select(tables.settings))}
            self._identity = Identity(settings["desk_tag"], int(settings["run_no"]))
            for row in connection.execute(select(tables.latches)):
                self._latched[row.scope, row.rule] = (
                    LatchRow(row.scope, row.rule, row.reason, row.at_ns),
                    row.by,
                )


def _make_private(file: Path) -> None:
    """Only its owner may read what was traded. SQLite gives its journals the same mode."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _new_tag() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(4))


def _count_up(connection: Connection, name: str) -> int:
    value = (
        int(connection.scalars(select(tables.settings.c.value).where(tables.settings.c.name == name)).one())
        + 1
    )
    connection.execute(update(tables.settings).where(tables.settings.c.name == name).values(value=str(value)))
    return value


def _encode(item: tuple[Any, ...]) -> tuple[str, Any]:
    """A queued fact as JSON values."""
    kind, *rest = item
    return (kind, tables.fill_body(rest[0]) if kind == "fill" else rest)


def _store_latch(
    connection: Connection, action: str, scope: str, rule: str, reason: str, by: str, at_ns: int
) -> None:
    event = {"at_ns": at_ns, "scope": scope, "rule": rule, "action": action, "by": by, "reason": reason}
    connection.execute(upsert(tables.latch_log).values(event).on_conflict_do_nothing())
    if action == "set":
        row = {"scope": scope, "rule": rule, "reason": reason, "by": by, "at_ns": at_ns}
        connection.execute(upsert(tables.latches).values(row).on_conflict_do_nothing())
    else:
        connection.execute(
            delete(tables.latches).where(tables.latches.c.scope == scope, tables.latches.c.rule == rule)
        )


def _merge(pending: list[StoredFill], rows: list[Row[Any]]) -> Iterator[StoredFill]:
    """Stored fills, and those on their way that have not arrived while we read."""
    keys = set()
    for row in rows:
        stored = tables.stored_fill(row)
        keys.add(stored.fill.key)
        yield stored
    for stored in pending:
        if stored.fill.key not in keys:
            yield stored
