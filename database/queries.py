"""The trade log's reading side: pages, newest first, and totals by day.

Hides: the SQL. Must not know who asks, nor write. Called by faces and reports, never from a trading thread;
in a process of its own where the log is large. It only needs the address, so it works while the desk
writes, and after it ended.

Pages: `before_ns` is exclusive and rows of one moment stay on one page, so a page may be longer than
`limit`; the last row's time is the next `before_ns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Column, Engine, Select, Table, func, select

from api.ledger import EXACT, Entry
from api.types import Side
from database import models
from database.analytics import Day, daily, utc_day
from database.journal import open_engine, parse_url


@dataclass(frozen=True, slots=True)
class LoggedFill:
    """`qty` as the venue counts it, `value`, `price` and `fee_quote` in `quote`; `fee_quote` None: no rate
    was known.
    """

    run: str
    worker: str
    venue: str
    account: str
    symbol: str
    trade_id: str
    client_id: str
    venue_id: str
    side: str
    price: Decimal
    qty: Decimal
    value: Decimal
    fee: Decimal
    fee_asset: str
    fee_quote: Decimal | None
    is_maker: bool
    base: str
    quote: str
    market_kind: str
    contract_size: Decimal
    venue_ns: int
    at_ns: int

    def entry(self) -> Entry:
        """As money, for `api.ledger.Ledger.book`."""
        with localcontext(EXACT):
            base_qty = self.qty * self.contract_size
        in_base = self.fee_asset == self.base and self.fee_asset != self.quote and self.market_kind == "spot"
        return Entry(
            at_ns=self.venue_ns,
            account=self.account,
            trade_id=self.trade_id,
            side=Side(self.side),
            price=self.price,
            base_qty=base_qty,
            is_maker=self.is_maker,
            fee=self.fee,
            fee_asset=self.fee_asset,
            fee_quote=self.fee_quote,
            fee_base=self.fee if in_base else Decimal(0),
        )


@dataclass(frozen=True, slots=True)
class LoggedOrder:
    """The last we know of one order; what was never told is None. `filled` is what the venue reported,
    cumulative.
    """

    client_id: str
    run: str | None
    worker: str | None
    venue: str | None
    account: str | None
    symbol: str | None
    venue_id: str | None
    side: str | None
    price: Decimal | None
    qty: Decimal | None
    filled: Decimal | None
    level: int | None
    tif: str | None
    post_only: bool | None
    status: str | None
    is_unknown: bool | None
    reason: str | None
    terms: Any
    created_ns: int | None
    venue_ns: int | None
    changed_ns: int


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One life of a worker between start and stop; `ended_ns` None: it runs, or ended without our having
    seen it.
    """

    run: str
    worker: str
    name: str
    strategy: str
    venue: str
    account: str
    env: str
    symbol: str
    params_version: int
    params: Any
    limits: Any
    started_ns: int
    ended_ns: int | None
    reason: str | None
    receipt: Any


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One step that changed an order: what it heard, the terms of each quote it wished, what it sent and
    what was refused.
    """

    worker: str
    run: str
    seq: int
    at_ns: int
    venue_ns: int | None
    event: str
    terms: Any
    commands: Any
    refused: Any
    silent: Any


class Queries:
    """Reads one trade log. Thread-safe.

    Raises:
        BadInput: field "DATABASE_URL" (from `open`): not reachable, or there is no trade log yet.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str | None, data_dir: Path) -> Queries:
        """The log at `url`; None: the file in `data_dir`. Changes nothing there."""
        return cls(open_engine(parse_url(url, data_dir), writes=False))

    def close(self) -> None:
        self._engine.dispose()

    def fills(
        self,
        *,
        worker: str | None = None,
        symbol: str | None = None,
        run: str | None = None,
        client_id: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> list[LoggedFill]:
        """By exchange time."""
        table = models.fills
        wanted = {"worker": worker, "symbol": symbol, "run": run, "client_id": client_id}
        found = [LoggedFill(**row) for row in self._page(table, table.c.venue_ns, wanted, before_ns, limit)]
        return sorted(
            found, key=lambda fill: (fill.venue_ns, len(fill.trade_id), fill.trade_id), reverse=True
        )

    def orders(
        self,
        *,
        worker: str | None = None,
        symbol: str | None = None,
        run: str | None = None,
        status: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> list[LoggedOrder]:
        """By the time of their last change (ours)."""
        table = models.orders
        wanted = {"worker": worker, "symbol": symbol, "run": run, "status": status}
        return [
            LoggedOrder(**_parsed(row, "terms"))
            for row in self._page(table, table.c.changed_ns, wanted, before_ns, limit)
        ]

    def runs(
        self, *, worker: str | None = None, before_ns: int | None = None, limit: int = 100
    ) -> list[LoggedRun]:
        """By the time of their start."""
        table = models.runs
        return [
            LoggedRun(**_parsed(row, "params", "limits", "receipt"))
            for row in self._page(table, table.c.started_ns, {"worker": worker}, before_ns, limit)
        ]

    def decisions(
        self,
        *,
        worker: str | None = None,
        run: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> list[LoggedDecision]:
        """By our time; of one moment the later one first."""
        table = models.decisions
        found = [
            LoggedDecision(**_parsed(row, "terms", "commands", "refused", "silent"))
            for row in self._page(table, table.c.at_ns, {"worker": worker, "run": run}, before_ns, limit)
        ]
        return sorted(found, key=lambda decision: (decision.at_ns, decision.seq), reverse=True)

    def counts(self) -> dict[str, int]:
        """Rows in each table."""
        with self._engine.connect() as connection:
            return {
                name: connection.scalar(select(func.count()).select_from(table)) or 0
                for name, table in sorted(models.meta.tables.items())
            }

    def days(
        self,
        *,
        worker: str | None = None,
        symbol: str | None = None,
        since_ns: int | None = None,
        before_ns: int | None = None,
    ) -> list[Day]:
        """Totals by UTC day, worker and market, oldest first. Computed from the fills each time, since the
        profit of a day rests on every fill before it; `since_ns` and `before_ns` choose the days that are
        shown (those that touch the span).
        """
        fills = models.fills
        markets = select(fills.c.worker, fills.c.venue, fills.c.symbol).distinct()
        if worker is not None:
            markets = markets.where(fills.c.worker == worker)
        if symbol is not None:
            markets = markets.where(fills.c.symbol == symbol)
        found: list[Day] = []
        with self._engine.connect() as connection:
            for one_worker, venue, one_symbol in connection.execute(markets).all():
                history = (
                    select(*_columns(fills))
                    .where(fills.c.worker == one_worker, fills.c.venue == venue, fills.c.symbol == one_symbol)
                    .order_by(fills.c.venue_ns, func.length(fills.c.trade_id), fills.c.trade_id)
                )
                if before_ns is not None:
                    history = history.where(fills.c.venue_ns < before_ns)
                rows = connection.execute(history.execution_options(yield_per=1000)).mappings()
                entries = (LoggedFill(**row).entry() for row in rows)
                found += daily(one_worker, f"{venue}:{one_symbol}", entries)
        first_day = "" if since_ns is None else utc_day(since_ns)
        return sorted(
            (day for day in found if day.day >= first_day), key=lambda day: (day.day, day.worker, day.market)
        )

    def _page(
        self,
        table: Table,
        time: Column[int],
        wanted: dict[str, str | None],
        before_ns: int | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        statement: Select[Any] = select(*_columns(table)).order_by(time.desc())
        for name, value in wanted.items():
            if value is not None:
                statement = statement.where(table.c[name] == value)
        if before_ns is not None:
            statement = statement.where(time < before_ns)
        limit = max(1, limit)
        with self._engine.connect() as connection:
            rows: list[dict[str, Any]] = [
                dict(row) for row in connection.execute(statement.limit(limit)).mappings()
            ]
            if len(rows) == limit:
                last_ns = rows[-1][time.name]
                rows = [row for row in rows if row[time.name] > last_ns]
                rows += [dict(row) for row in connection.execute(statement.where(time == last_ns)).mappings()]
        return rows


def _columns(table: Table) -> Sequence[Column[Any]]:
    return [column for column in table.c if column.name != "id"]


def _parsed(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**row, **{name: None if row[name] is None else msgspec.json.decode(row[name]) for name in names}}
