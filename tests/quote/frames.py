"""Frames as Binance would send them, for tests of books, folds, tapes and feeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from api.types import Instrument, InstrumentId

Pairs = Sequence[tuple[str, str]]
START_NS = 1_723_161_600_000_000_000


def instrument(base: str = "BTC", lot: str = "0.00001", tick: str = "0.01") -> Instrument:
    return Instrument(
        InstrumentId.of("paper", f"{base}-USDT"),
        base,
        "USDT",
        Decimal(tick),
        Decimal(lot),
        Decimal(lot),
        Decimal(5),
        Decimal("0.0002"),
        Decimal("0.0005"),
        f"{base}USDT",
    )


def _amounts(pairs: Pairs) -> list[list[str]]:
    return [[f"{Decimal(price):.8f}", f"{Decimal(size):.8f}"] for price, size in pairs]


def framed(stream: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def diff(
    first: int, last: int, bids: Pairs = (), asks: Pairs = (), *, symbol: str = "BTCUSDT", ms: int = 1_000
) -> bytes:
    return framed(
        f"{symbol.lower()}@depth@100ms",
        {
            "e": "depthUpdate",
            "E": ms,
            "s": symbol,
            "U": first,
            "u": last,
            "b": _amounts(bids),
            "a": _amounts(asks),
        },
    )


def ticker(update_id: int, bid: tuple[str, str], ask: tuple[str, str], *, symbol: str = "BTCUSDT") -> bytes:
    ((b, bq),), ((a, aq),) = _amounts([bid]), _amounts([ask])
    return framed(
        f"{symbol.lower()}@bookTicker", {"u": update_id, "s": symbol, "b": b, "B": bq, "a": a, "A": aq}
    )


def trade(
    number: int,
    price: str,
    size: str,
    *,
    buyer_is_maker: bool = False,
    symbol: str = "BTCUSDT",
    ms: int = 1_000,
) -> bytes:
    ((p, q),) = _amounts([(price, size)])
    return framed(
        f"{symbol.lower()}@trade",
        {
            "e": "trade",
            "E": ms,
            "s": symbol,
            "t": number,
            "p": p,
            "q": q,
            "T": ms,
            "m": buyer_is_maker,
            "M": True,
        },
    )


def snapshot(last_id: int, bids: Pairs = (("100", "1"),), asks: Pairs = (("101", "2"),)) -> bytes:
    told = {"lastUpdateId": last_id, "bids": _amounts(bids), "asks": _amounts(asks)}
    return json.dumps(told, separators=(",", ":")).encode()


def lines(frames: Iterable[tuple[int, bytes]]) -> bytes:
    """The text of a tape file."""
    return b"".join(b"%d %s\n" % frame for frame in frames)
