"""Profit by parts, totals by day, and the figures a face shows. Pure: ledgers and entries in, value types
out.

Must not know databases, threads or clocks. Called by the desk for `StatsView`, and by `queries` for reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext

from api.desk import StatsView
from api.ledger import EXACT, Entry, Ledger

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the money of one worker in one market went; quote currency, fees paid positive.

    net = realized + unrealized - maker_fees - taker_fees. `unconverted_fees` (asset, amount) are in none of
    the sums.
    """

    realized: Decimal
    unrealized: Decimal | None
    maker_fees: Decimal
    taker_fees: Decimal
    unconverted_fees: tuple[tuple[str, Decimal], ...]
    net: Decimal | None
    traded_quote: Decimal
    wear_rate: Decimal | None
    position: Decimal
    entry_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of one worker in one market. `realized` is first in first out over the whole history, so
    a lot bought on an earlier day counts on the day it is sold. `net` = realized - fees; `wear_rate` =
    -net/traded x 100 (a cost is positive), None on a day without trades.
    """

    day: str
    worker: str
    market: str
    buys: int
    sells: int
    maker_buy_base: Decimal
    maker_sell_base: Decimal
    taker_buy_base: Decimal
    taker_sell_base: Decimal
    traded_quote: Decimal
    realized: Decimal
    maker_fees: Decimal
    taker_fees: Decimal
    unconverted_fees: tuple[tuple[str, Decimal], ...]
    net: Decimal
    wear_rate: Decimal | None
    position: Decimal


def parts(ledger: Ledger, mid: Decimal | None) -> Parts:
    """The ledger's sums with the position valued at `mid` (quote per base; None: unknown)."""
    return Parts(
        realized=ledger.realized,
        unrealized=ledger.unrealized(mid),
        maker_fees=ledger.maker_fees,
        taker_fees=ledger.taker_fees,
        unconverted_fees=tuple(sorted(ledger.unconverted_fees.items())),
        net=ledger.net(mid),
        traded_quote=ledger.traded_quote,
        wear_rate=ledger.wear_rate(mid),
        position=ledger.position,
        entry_price=ledger.entry_price,
    )


def stats(
    ledger: Ledger,
    run_ledger: Ledger,
    mid: Decimal | None,
    *,
    orders_sent: int,
    cancels_sent: int,
    refused: int,
) -> StatsView:
    """What a face shows of one worker: its whole life, and the run (a ledger made by `Ledger.carry` at the
    start).
    """
    return StatsView(
        trades=ledger.trades,
        buys=ledger.buys,
        sells=ledger.sells,
        maker_buy_base=ledger.maker_buy_base,
        maker_sell_base=ledger.maker_sell_base,
        taker_buy_base=ledger.taker_buy_base,
        taker_sell_base=ledger.taker_sell_base,
        traded_quote=ledger.traded_quote,
        fees=ledger.fees,
        realized=ledger.realized,
        unrealized=ledger.unrealized(mid),
        net=ledger.net(mid),
        wear_rate=ledger.wear_rate(mid),
        run_realized=run_ledger.realized,
        run_fees=run_ledger.fees,
        run_traded_quote=run_ledger.traded_quote,
        run_trades=run_ledger.trades,
        orders_sent=orders_sent,
        cancels_sent=cancels_sent,
        refused=refused,
    )


def utc_day(at_ns: int) -> str:
    """The UTC date of a moment, as 2024-08-31."""
    return datetime.fromtimestamp(at_ns // _NS, UTC).strftime("%Y-%m-%d")


def daily(worker: str, market: str, entries: Iterable[Entry]) -> Iterator[Day]:
    """Totals of each UTC day with trades, oldest first.

    Args:
        entries: every fill of this worker in this market, oldest first (exchange time, then trade id).
    """
    ledger = Ledger()
    before = _Counts.of(ledger)
    today = ""
    for entry in entries:
        day = utc_day(entry.at_ns)
        if today and day != today:
            yield before.until(ledger, today, worker, market)
            before = _Counts.of(ledger)
        today = day
        ledger.book(entry)
    if today:
        yield before.until(ledger, today, worker, market)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a ledger had counted at one moment."""

    buys: int
    sells: int
    maker_buy_base: Decimal
    maker_sell_base: Decimal
    taker_buy_base: Decimal
    taker_sell_base: Decimal
    traded_quote: Decimal
    realized: Decimal
    maker_fees: Decimal
    taker_fees: Decimal
    unconverted: dict[str, Decimal]

    @classmethod
    def of(cls, ledger: Ledger) -> _Counts:
        return cls(
            buys=ledger.buys,
            sells=ledger.sells,
            maker_buy_base=ledger.maker_buy_base,
            maker_sell_base=ledger.maker_sell_base,
            taker_buy_base=ledger.taker_buy_base,
            taker_sell_base=ledger.taker_sell_base,
            traded_quote=ledger.traded_quote,
            realized=ledger.realized,
            maker_fees=ledger.maker_fees,
            taker_fees=ledger.taker_fees,
            unconverted=ledger.unconverted_fees,
        )

    def until(self, ledger: Ledger, day: str, worker: str, market: str) -> Day:
        """The day between that moment and what the ledger says now."""
        with localcontext(EXACT):
            realized = ledger.realized - self.realized
            maker_fees = ledger.maker_fees - self.maker_fees
            taker_fees = ledger.taker_fees - self.taker_fees
            traded = ledger.traded_quote - self.traded_quote
            net = realized - maker_fees - taker_fees
            volumes = {
                name: getattr(ledger, name) - getattr(self, name)
                for name in ("maker_buy_base", "maker_sell_base", "taker_buy_base", "taker_sell_base")
            }
            unconverted = tuple(
                (asset, amount - self.unconverted.get(asset, Decimal(0)))
                for asset, amount in sorted(ledger.unconverted_fees.items())
            )
        return Day(
            day=day,
            worker=worker,
            market=market,
            buys=ledger.buys - self.buys,
            sells=ledger.sells - self.sells,
            **volumes,
            traded_quote=traded,
            realized=realized,
            maker_fees=maker_fees,
            taker_fees=taker_fees,
            unconverted_fees=tuple((asset, amount) for asset, amount in unconverted if amount),
            net=net,
            wear_rate=-net / traded * 100 if traded and net else (Decimal(0) if traded else None),
            position=ledger.position,
        )
