"""Small makers of values for tests: one place that knows how to build an instrument, a book, a fill."""

from __future__ import annotations

from decimal import Decimal

from api.types import (
    Book,
    BookChanged,
    Fill,
    Instrument,
    InstrumentId,
    Order,
    OrderReport,
    Place,
    Request,
    Side,
    Status,
    Tif,
)

D = Decimal
BTC = InstrumentId.of("paper", "BTC-USDT")


def instrument(
    tick: str = "0.01", lot: str = "0.00001", min_qty: str = "0.00001", min_notional: str = "5"
) -> Instrument:
    return Instrument(
        BTC, "BTC", "USDT", D(tick), D(lot), D(min_qty), D(min_notional), D("0.0002"), D("0.0005"), "BTCUSDT"
    )


def book(bid: int = 9_999, ask: int = 10_001, *, at_ns: int = 0, lots: int = 100_000) -> Book:
    return Book(BTC, ((bid, lots), (bid - 1, lots)), ((ask, lots), (ask + 1, lots)), at_ns, at_ns, 1)


def changed(bid: int = 9_999, ask: int = 10_001, *, at_ns: int = 0) -> BookChanged:
    return BookChanged(at_ns, book(bid, ask, at_ns=at_ns))


def place(
    client_id: str = "a", side: Side = Side.BUY, ticks: int = 9_990, lots: int = 100, level: int = 0
) -> Place:
    return Place(client_id, BTC, side, ticks, lots, level=level)


def fill(
    trade_id: str = "t1",
    client_id: str = "a",
    side: Side = Side.BUY,
    ticks: int = 9_990,
    lots: int = 10,
    at_ns: int = 5,
) -> Fill:
    return Fill(trade_id, client_id, "v", "main", BTC, side, ticks, lots, D(0), "USDT", True, at_ns)


def report(
    client_id: str = "a",
    status: Status = Status.OPEN,
    filled: int | None = None,
    lots: int = 100,
    ticks: int = 9_990,
) -> OrderReport:
    return OrderReport(client_id, BTC, Side.BUY, ticks, lots, status, filled, "v", 5)


def order(
    client_id: str = "a",
    side: Side = Side.BUY,
    ticks: int = 9_990,
    lots: int = 100,
    level: int = 0,
    status: Status = Status.OPEN,
    request: Request | None = None,
    filled: int = 0,
    is_unknown: bool = False,
) -> Order:
    return Order(
        client_id, BTC, side, ticks, lots, level, True, Tif.GTC, (), 0, status, request, is_unknown, filled
    )
