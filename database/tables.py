"""The tables of `state.db`, how a new file is made, and how a fill becomes a row and a row a fill.

Hides: the schema and its version. Must not know threads or transactions. Called by `database.state` alone.
"""

from __future__ import annotations

import dataclasses
import functools
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
)
from sqlalchemy.engine import Connection

from api.errors import BadInput
from api.types import Fill, Instrument, InstrumentId, Side
from database.rows import StoredFill
from database.sqlite import DecimalText, WideInt

SCHEMA = 1
APPLICATION_ID = 0x4D4B4431  # "MKD1": marks the file as ours
_INT64_MAX = (1 << 63) - 1
_INSTRUMENT_FIELDS = tuple(field for field in dataclasses.fields(Instrument) if field.init)

meta = MetaData()

settings = Table(
    "settings", meta, Column("name", String, primary_key=True), Column("value", String, nullable=False)
)

workers = Table(
    "workers",
    meta,
    Column("id", String, primary_key=True),
    Column("spec", String, nullable=False),
    Column("state", String, nullable=False),
    Column("resume", Boolean, nullable=False),
    Column("is_demo", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
    Column("stopped_ns", BigInteger),
    Column("reason", String, nullable=False),
    Column("extra", String, nullable=False),
)

versions = Table(
    "versions",
    meta,
    Column("worker", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("params", String, nullable=False),
    Column("limits", String, nullable=False),
)

latches = Table(
    "latches",
    meta,
    Column("scope", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("reason", String, nullable=False),
    Column("by", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

latch_log = Table(
    "latch_log",
    meta,
    Column("no", Integer, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("scope", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("action", String, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
    UniqueConstraint("at_ns", "scope", "rule", "action", "by", "reason"),
)

instruments = Table(
    "instruments",
    meta,
    Column("no", Integer, primary_key=True),
    Column("body", String, nullable=False, unique=True),
)

FILL_KEY = ("venue", "account", "symbol", "trade_id")

fills = Table(
    "fills",
    meta,
    Column("no", Integer, primary_key=True),
    Column("venue", String, nullable=False),
    Column("account", String, nullable=False),
    Column("symbol", String, nullable=False),
    Column("trade_id", String, nullable=False),
    Column("worker", String, nullable=False),
    Column("client_id", String, nullable=False),
    Column("venue_id", String, nullable=False),
    Column("side", String, nullable=False),
    Column("ticks", WideInt, nullable=False),
    Column("lots", WideInt, nullable=False),
    Column("fee", DecimalText, nullable=False),
    Column("fee_asset", String, nullable=False),
    Column("quote_per_fee_asset", DecimalText),
    Column("is_maker", Boolean, nullable=False),
    Column("venue_ns", BigInteger, nullable=False),
    Column("instrument_no", Integer, nullable=False),
    UniqueConstraint(*FILL_KEY),
    Index("fills_by_worker", "worker", "venue_ns"),
    Index("fills_by_time", "venue_ns"),
    Index("fills_by_market", "venue", "account", "symbol", "venue_ns"),
)


def prepare(connection: Connection, name: str, desk_tag: str) -> None:
    """Make the tables in a new file; refuse a file that is not ours, is newer, or is damaged. One
    transaction: a start that is killed half way leaves nothing.
    """
    application_id = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    schema = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if tables and application_id != APPLICATION_ID:
        raise BadInput("data-dir", f"{name} there is a database of something else; name another directory")
    if schema > SCHEMA:
        raise BadInput(
            "data-dir", f"{name} was written by a newer version (schema {schema}, this one reads {SCHEMA})"
        )
    if tables:
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if verdict != "ok":
            raise BadInput(
                "data-dir", f"{name} is damaged ({verdict}); restore it from a copy or name another directory"
            )
        return
    meta.create_all(connection)
    connection.execute(
        insert(settings),
        [
            {"name": "desk_tag", "value": desk_tag},
            {"name": "run_no", "value": "0"},
            {"name": "worker_no", "value": "0"},
        ],
    )
    connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")


def fill_body(stored: StoredFill) -> dict[str, Any]:
    """A fill as JSON values. Raises ValueError for one that no database could keep."""
    fill = stored.fill
    if not fill.fee.is_finite() or not -_INT64_MAX <= fill.venue_ns <= _INT64_MAX:
        raise ValueError(f"fill {fill.trade_id} has fee {fill.fee} at {fill.venue_ns} ns")
    rate = stored.quote_per_fee_asset
    venue, account, symbol, trade_id = fill.key
    return {
        "venue": venue,
        "account": account,
        "symbol": symbol,
        "trade_id": trade_id,
        "worker": stored.worker,
        "client_id": fill.client_id,
        "venue_id": fill.venue_id,
        "side": fill.side.value,
        "ticks": str(fill.ticks),
        "lots": str(fill.lots),
        "fee": str(fill.fee),
        "fee_asset": fill.fee_asset,
        "quote_per_fee_asset": None if rate is None or not rate.is_finite() else str(rate),
        "is_maker": fill.is_maker,
        "venue_ns": fill.venue_ns,
        "instrument": instrument_text(stored.instrument),
    }


def fill_row(body: dict[str, Any], instrument_no: int) -> dict[str, Any]:
    """A body as the values of one row of `fills`."""
    rate = body["quote_per_fee_asset"]
    row = {
        **body,
        "ticks": int(body["ticks"]),
        "lots": int(body["lots"]),
        "fee": Decimal(body["fee"]),
        "quote_per_fee_asset": None if rate is None else Decimal(rate),
        "instrument_no": instrument_no,
    }
    del row["instrument"]
    return row


def stored_fill(row: Row[Any]) -> StoredFill:
    fill = Fill(
        trade_id=row.trade_id,
        client_id=row.client_id,
        venue_id=row.venue_id,
        account=row.account,
        instrument=InstrumentId.of(row.venue, row.symbol),
        side=Side(row.side),
        ticks=row.ticks,
        lots=row.lots,
        fee=row.fee,
        fee_asset=row.fee_asset,
        is_maker=row.is_maker,
        venue_ns=row.venue_ns,
    )
    return StoredFill(row.worker, fill, _instrument(row.body), row.quote_per_fee_asset)


def select_fills() -> Select[Any]:
    return select(fills, instruments.c.body).join(instruments, instruments.c.no == fills.c.instrument_no)


def in_market(market: tuple[str, str, str]) -> tuple[Any, Any, Any]:
    venue, account, symbol = market
    return (fills.c.venue == venue, fills.c.account == account, fills.c.symbol == symbol)


@functools.lru_cache(maxsize=256)
def instrument_text(instrument: Instrument) -> str:
    """Everything an instrument was made of, as JSON; what it derives for itself is left out."""
    made_of = {field.name: getattr(instrument, field.name) for field in _INSTRUMENT_FIELDS}
    return msgspec.json.encode({**made_of, "id": str(instrument.id)}).decode()


@functools.lru_cache(maxsize=256)
def _instrument(text: str) -> Instrument:
    """The way back; a field this version does not know is left out, one it misses takes its default."""
    kept = msgspec.json.decode(text)
    values: dict[str, Any] = {}
    for field in _INSTRUMENT_FIELDS:
        value = kept.get(field.name)
        if value is not None:
            values[field.name] = Decimal(value) if "Decimal" in str(field.type) else value
    return Instrument(**{**values, "id": InstrumentId(kept["id"])})
