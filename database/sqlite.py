"""What our SQLite files have in common: how they are opened, and column types that lose nothing.

Hides: pragmas, transaction control of the driver, how exact decimals and wide integers are kept. Must not
know any table. Called by `state`, `journal` and `queries`.
"""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, String, TypeDecorator, create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect
from sqlalchemy.exc import SQLAlchemyError, StatementError

BUSY_S = 1.0  # how long a write waits for another process before it counts as trouble (reliability.md F20)
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)  # the second comes bare out of connection hooks
_PATH_BYTES = 500  # SQLite's own limit is 512 with the suffix of its journal


class DecimalText(TypeDecorator[Decimal]):
    """A `Decimal` as plain text, digit by digit: `Numeric` on SQLite goes through a float and loses some."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Decimal) or not value.is_finite():
            raise TypeError(f"money is a finite Decimal, not {value!r}")
        return format(value, "f")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class WideInt(TypeDecorator[int]):
    """An integer of any size as text: ticks and lots of a market with 18 decimals do not fit in 64 bits."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(int(value))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


def sqlite_url(path: Path) -> URL:
    """Raises OSError when SQLite could not open a path of this length."""
    if len(str(path.absolute()).encode()) > _PATH_BYTES:
        raise OSError(f"the path of {path.name} is too long for SQLite (at most {_PATH_BYTES} bytes)")
    return URL.create("sqlite", database=str(path))


def tune_sqlite(engine: Engine, *, writes: bool) -> Engine:
    """WAL, every commit synced (`synchronous=FULL`), bounded waits; a writer takes its lock when it begins,
    so that a transaction never fails half way for a reader turned writer.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would be deferred
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
        if writes:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def open_sqlite(path: Path, *, writes: bool) -> Engine:
    """An engine on one file, created when absent (by a writer). Nothing is opened before the first use."""
    return tune_sqlite(create_engine(sqlite_url(path)), writes=writes)


def cause_of(error: BaseException) -> str:
    """What the driver said, without the statement and its parameters that SQLAlchemy adds."""
    return str(error.orig) if isinstance(error, StatementError) else str(error)
