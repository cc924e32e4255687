"""The tables of the trade log, for SQLite and PostgreSQL.

Must not know who writes or reads them. Called by `journal`, `queries` and the migrations; `HEAD` names the
newest of those.

Times: `venue_ns` is the exchange's, `at_ns`, `created_ns`, `changed_ns`, `started_ns`, `ended_ns` are ours;
UTC nanoseconds. Amounts are decimal text. `qty` is the venue's quantity; base quantity is `qty` x
`contract_size`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from database.sqlite import DecimalText

HEAD = "0001"

meta = MetaData()

FILL_KEY = ("venue", "account", "symbol", "trade_id")
DECISION_KEY = ("worker", "seq", "at_ns")

_serial = BigInteger().with_variant(
    Integer, "sqlite"
)  # SQLite numbers rows by itself only in an INTEGER column

fills = Table(
    "fills",
    meta,
    Column("id", _serial, primary_key=True),
    Column("run", String, nullable=False),
    Column("worker", String, nullable=False),
    Column("venue", String, nullable=False),
    Column("account", String, nullable=False),
    Column("symbol", String, nullable=False),
    Column("trade_id", String, nullable=False),
    Column("client_id", String, nullable=False),
    Column("venue_id", String, nullable=False),
    Column("side", String, nullable=False),
    Column("price", DecimalText, nullable=False),
    Column("qty", DecimalText, nullable=False),
    Column("value", DecimalText, nullable=False),
    Column("fee", DecimalText, nullable=False),
    Column("fee_asset", String, nullable=False),
    Column("fee_quote", DecimalText),
    Column("is_maker", Boolean, nullable=False),
    Column("base", String, nullable=False),
    Column("quote", String, nullable=False),
    Column("market_kind", String, nullable=False),
    Column("contract_size", DecimalText, nullable=False),
    Column("venue_ns", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    UniqueConstraint(*FILL_KEY, name="fills_once"),
    Index("fills_by_time", "venue_ns"),
    Index("fills_by_worker", "worker", "venue_ns"),
    Index("fills_by_order", "client_id"),
)

orders = Table(
    "orders",
    meta,
    Column("client_id", String, primary_key=True),
    Column("run", String),
    Column("worker", String),
    Column("venue", String),
    Column("account", String),
    Column("symbol", String),
    Column("venue_id", String),
    Column("side", String),
    Column("price", DecimalText),
    Column("qty", DecimalText),
    Column("filled", DecimalText),
    Column("level", Integer),
    Column("tif", String),
    Column("post_only", Boolean),
    Column("status", String),
    Column("is_unknown", Boolean),
    Column("reason", Text),
    Column("terms", Text),
    Column("created_ns", BigInteger),
    Column("venue_ns", BigInteger),
    Column("changed_ns", BigInteger, nullable=False),
    Index("orders_by_time", "changed_ns"),
    Index("orders_by_worker", "worker", "changed_ns"),
)

runs = Table(
    "runs",
    meta,
    Column("run", String, primary_key=True),
    Column("worker", String, nullable=False),
    Column("name", String, nullable=False),
    Column("strategy", String, nullable=False),
    Column("venue", String, nullable=False),
    Column("account", String, nullable=False),
    Column("env", String, nullable=False),
    Column("symbol", String, nullable=False),
    Column("params_version", Integer, nullable=False),
    Column("params", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("reason", Text),
    Column("receipt", Text),
    Index("runs_by_time", "started_ns"),
)

decisions = Table(
    "decisions",
    meta,
    Column("id", _serial, primary_key=True),
    Column("worker", String, nullable=False),
    Column("run", String, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("venue_ns", BigInteger),
    Column("event", String, nullable=False),
    Column("terms", Text, nullable=False),
    Column("commands", Text, nullable=False),
    Column("refused", Text, nullable=False),
    Column("silent", Text, nullable=False),
    UniqueConstraint(*DECISION_KEY, name="decisions_once"),
    Index("decisions_by_time", "at_ns"),
    Index("decisions_by_worker", "worker", "at_ns"),
)
