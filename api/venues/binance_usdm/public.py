"""Public market data of Binance USDT-M futures: which address carries which stream, and the shared decoders
under this venue's name. Pure.

Hides: the three classes of WebSocket addresses. Must not know: sockets, threads, keys, books. Called by
whoever feeds a book from this venue. The messages are those of `api.venues.usdm_public`.

The server pings every 3 minutes and wants its pong within 10; a connection lives 24 h (replace it by overlap)
and takes 10 texts a second. Source: developers.binance.com, derivatives/usds-margined-futures,
"Important WebSocket Change Notice".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlencode

from api.types import Instrument
from api.venues.usdm_public import (
    PERIODS,
    UNREADABLE,
    Continuity,
    Control,
    DepthDiff,
    DepthSnapshot,
    ExchangeRow,
    Kline,
    MarkPrice,
    Message,
    PublicTrade,
    Rates,
    Symbols,
    Touch,
    Verdict,
    Wish,
    decode,
    decode_exchange,
    decode_klines,
    decode_premium,
    decode_snapshot,
    decode_touch,
    stream_url,
    subscribe,
    unsubscribe,
)
from api.venues.usdm_public import instruments_of as _instruments_of

__all__ = [
    "PERIODS",
    "UNREADABLE",
    "Continuity",
    "Control",
    "DepthDiff",
    "DepthSnapshot",
    "Kline",
    "MarkPrice",
    "Message",
    "PublicTrade",
    "Rates",
    "Symbols",
    "Touch",
    "Verdict",
    "Wish",
    "decode",
    "decode_exchange",
    "decode_klines",
    "decode_premium",
    "decode_snapshot",
    "decode_touch",
    "instruments_of",
    "stream_urls",
    "subscribe",
    "unsubscribe",
]

NAME = "binance_usdm"
TITLE = "Binance USDT-M"
MAX_STREAMS = 1024  # per connection
MAX_AGE_S = 23 * 3600.0  # the venue cuts at 24 h
PING_EVERY_S = 180.0  # the server's
EXCHANGE_PATH = "/fapi/v1/exchangeInfo"
SNAPSHOT_LIMIT = 1000  # levels a side; weight 20 of 2400 a minute


class Where(Protocol):
    @property
    def public(self) -> str: ...
    @property
    def market(self) -> str: ...


def stream_urls(where: Where, wishes: Iterable[Wish]) -> tuple[str, ...]:
    """The connections that carry what is wished, one per class that is needed (two, or one where the
    environment does not split them). A stream asked for on the wrong class gives no data.

    Raises:
        ValueError: nothing, something that does not exist, or more than one connection carries.
    """
    listed = list(wishes)
    book = [name for wish in listed for name in wish.book_streams()]
    market = [name for wish in listed for name in wish.market_streams()]
    if where.public == where.market:
        return (stream_url(where.public, [*book, *market], MAX_STREAMS),)
    urls = [stream_url(where.public, book, MAX_STREAMS)] if book else []
    urls += [stream_url(where.market, market, MAX_STREAMS)] if market else []
    if not urls:
        raise ValueError("nothing is wished")
    return tuple(urls)


def snapshot_path(venue_symbol: str, limit: int = SNAPSHOT_LIMIT) -> str:
    """Read the book here; `decode_snapshot` reads the answer."""
    return f"/fapi/v1/depth?{urlencode({'symbol': venue_symbol, 'limit': limit})}"


def klines_path(venue_symbol: str, period: str, limit: int = 500, start_ms: int | None = None) -> str:
    """At most 1500 bars. Raises ValueError for a period that does not exist."""
    if period not in PERIODS:
        raise ValueError(f"no klines of {period}; there are {', '.join(PERIODS)}")
    params: dict[str, str | int] = {"symbol": venue_symbol, "interval": period, "limit": limit}
    if start_ms is not None:
        params["startTime"] = start_ms
    return f"/fapi/v1/klines?{urlencode(params)}"


def instruments_of(exchange: ExchangeRow, rates: Rates) -> tuple[Instrument, ...]:
    """Those that trade now, with the given fee rates."""
    return _instruments_of(NAME, exchange, rates)
