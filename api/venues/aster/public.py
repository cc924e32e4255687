"""Public market data of Aster's perpetuals: its one stream address, and the shared decoders under this
venue's name. Pure.

Must not know: sockets, threads, keys, books. Called by whoever feeds a book from this venue. The messages are
those of `api.venues.usdm_public`.

The server pings every 5 minutes and wants its pong within 15; a connection lives 24 h (replace it by
overlap), carries 200 streams and takes 10 texts a second. Source: asterdex/api-docs V3, "Websocket Market
Streams".
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

NAME = "aster_perp"
TITLE = "Aster"
MAX_STREAMS = 200  # per connection
MAX_AGE_S = 23 * 3600.0  # the venue cuts at 24 h
PING_EVERY_S = 300.0  # the server's
EXCHANGE_PATH = "/fapi/v3/exchangeInfo"
SNAPSHOT_LIMIT = 1000  # levels a side


class Where(Protocol):
    @property
    def stream(self) -> str: ...


def stream_urls(where: Where, wishes: Iterable[Wish]) -> tuple[str, ...]:
    """The connections that carry what is wished, 200 streams on each.

    Raises:
        ValueError: nothing, or something that does not exist.
    """
    names = [name for wish in wishes for name in (*wish.book_streams(), *wish.market_streams())]
    parts = [names[start : start + MAX_STREAMS] for start in range(0, len(names), MAX_STREAMS)]
    if not parts:
        raise ValueError("nothing is wished")
    return tuple(stream_url(where.stream, part, MAX_STREAMS) for part in parts)


def snapshot_path(venue_symbol: str, limit: int = SNAPSHOT_LIMIT) -> str:
    """Read the book here; `decode_snapshot` reads the answer."""
    return f"/fapi/v3/depth?{urlencode({'symbol': venue_symbol, 'limit': limit})}"


def klines_path(venue_symbol: str, period: str, limit: int = 500, start_ms: int | None = None) -> str:
    """At most 1500 bars. Raises ValueError for a period that does not exist."""
    if period not in PERIODS:
        raise ValueError(f"no klines of {period}; there are {', '.join(PERIODS)}")
    params: dict[str, str | int] = {"symbol": venue_symbol, "interval": period, "limit": limit}
    if start_ms is not None:
        params["startTime"] = start_ms
    return f"/fapi/v3/klines?{urlencode(params)}"


def instruments_of(exchange: ExchangeRow, rates: Rates) -> tuple[Instrument, ...]:
    """Those that trade now, with the given fee rates."""
    return _instruments_of(NAME, exchange, rates)
