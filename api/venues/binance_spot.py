"""Binance spot, its public market data: addresses, the shapes of its messages, and how they are read.

Hides: Binance's field names, stream names and error bodies. Must not know: books, desks, threads; the sockets
themselves are `api.wire`'s. Called by `quote.fold` (decoders), `quote.feed` (addresses, snapshot) and
`quote.tape` (which market a recorded frame is of). Orders are not here yet: as a trading venue Binance spot
is not offered.

Source: binance-spot-api-docs, web-socket-streams.md and rest-api.md: combined streams wrap each message as
`{"stream": "<symbol>@<kind>", "data": {...}}`, symbols in lower case in stream names and in upper case in
messages; numbers that are amounts come as text; times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from api.errors import ExchangeError, RateLimited, Rejected, Unavailable

if TYPE_CHECKING:  # reading a tape needs no HTTP client
    from api.wire import Answer, Http

NAME = "binance_spot"
STREAMS = ("depth@100ms", "bookTicker", "trade")  # what a market needs here: diffs, best bid and ask, trades
MAX_STREAMS = 1024  # per connection
SNAPSHOT_LIMIT = 1000  # levels a side; weight 50 of 6000 a minute
BANNED_S = 120.0  # the shortest ban behind a 418 that names no time
BACK_OFF_S = 10.0  # after a 429 that names no time


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where one environment lives: `rest` with its `/api` prefix, `stream` without a path."""

    rest: str
    stream: str


PUBLIC = Addresses("https://data-api.binance.vision/api", "wss://data-stream.binance.vision")
ENVIRONMENTS = {
    "live": Addresses("https://api.binance.com/api", "wss://stream.binance.com:9443"),
    "testnet": Addresses("https://testnet.binance.vision/api", "wss://stream.testnet.binance.vision"),
    "demo": Addresses("https://demo-api.binance.com/api", "wss://demo-stream.binance.com"),
}
HOSTS = frozenset(
    {
        "data-api.binance.vision",
        "data-stream.binance.vision",
        "api.binance.com",
        "stream.binance.com",
        "testnet.binance.vision",
        "stream.testnet.binance.vision",
        "demo-api.binance.com",
        "demo-stream.binance.com",
    }
)


class Ticker(msgspec.Struct, gc=False):
    """Best bid and ask. Spot sends no time with it."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class PublicTrade(msgspec.Struct, gc=False):
    """`m`: the buyer was the maker, so the aggressor sold."""

    E: int
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class Diff(msgspec.Struct, gc=False):
    """Absolute sizes of the levels that changed in update ids `U..u`."""

    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    pu: int | None = None  # only futures send it: their chain is another one


class Snapshot(msgspec.Struct, gc=False):
    """The REST answer of `GET /v3/depth`. It names no market."""

    lastUpdateId: int  # noqa: N815  (the venue's spelling)
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class TickerFrame(msgspec.Struct, gc=False):
    data: Ticker


class TradeFrame(msgspec.Struct, gc=False):
    data: PublicTrade


class DiffFrame(msgspec.Struct, gc=False):
    data: Diff


class _Marks(msgspec.Struct, gc=False):
    """What tells one product's messages from another's."""

    s: str | None = None
    e: str | None = None
    E: int | None = None
    T: int | None = None
    pu: int | None = None
    t: int | None = None
    U: int | None = None


class Envelope(msgspec.Struct, gc=False):
    """The outside of any message: enough to say what it is."""

    stream: str | None = None
    data: _Marks | None = None
    e: str | None = None
    id: int | str | None = None
    lastUpdateId: int | None = None  # noqa: N815
    T: int | None = None


decode_ticker = msgspec.json.Decoder(TickerFrame).decode
decode_trade = msgspec.json.Decoder(TradeFrame).decode
decode_diff = msgspec.json.Decoder(DiffFrame).decode
decode_snapshot = msgspec.json.Decoder(Snapshot).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode


class _Refusal(msgspec.Struct):
    code: int
    msg: str


def product_of(envelope: Envelope) -> str | None:
    """Which Binance product a message comes from: "spot", "usdm" (USDT-margined futures), or None when it
    does not show.

    Futures carry `T` or `pu` where spot carries neither: in diffs, tickers and the snapshot. A trade shows
    nothing.
    """
    if envelope.lastUpdateId is not None:
        return "usdm" if envelope.T is not None else "spot"
    data, stream = envelope.data, envelope.stream
    if data is None or stream is None:
        return None
    kind = stream.partition("@")[2].partition("@")[0]
    if kind == "depth":
        return "usdm" if data.pu is not None or data.T is not None else "spot"
    if kind == "bookTicker":
        return "usdm" if data.T is not None or data.e is not None else "spot"
    return None


def is_shutdown(raw: bytes) -> bool:
    """True for `serverShutdown`: this connection is about to be closed by the venue, open another at once."""
    return raw.startswith(b'{"e":"serverShutdown"') or (
        b'"serverShutdown"' in raw[:120] and _envelope_event(raw) == "serverShutdown"
    )


def _envelope_event(raw: bytes) -> str | None:
    try:
        envelope = decode_envelope(raw)
    except (msgspec.MsgspecError, ValueError):
        return None
    return envelope.e or (envelope.data.e if envelope.data is not None else None)


def stream_url(base: str, venue_symbols: Iterable[str]) -> str:
    """The address of one combined stream that carries diffs, best bid/ask and trades of the given markets.

    Raises:
        ValueError: no market, or more than one connection may carry.
    """
    names = [f"{symbol.lower()}@{stream}" for symbol in venue_symbols for stream in STREAMS]
    if not names or len(names) > MAX_STREAMS:
        raise ValueError(f"one connection carries 1 to {MAX_STREAMS} streams, asked for {len(names)}")
    return f"{base.rstrip('/')}/stream?streams={'/'.join(names)}"


def fetch_snapshot(http: Http, rest: str, venue_symbol: str, *, limit: int = SNAPSHOT_LIMIT) -> bytes:
    """The book of one market as the venue's own JSON (`Snapshot`), checked to be one.

    Raises:
        RateLimited: with the seconds to wait.
        Rejected: the venue does not know this market, or refuses us.
        Unavailable: no answer, an error of theirs, or something that is no snapshot (a page of HTML).
    """
    query = urlencode({"symbol": venue_symbol, "limit": limit})
    body = checked(http.get(f"{rest}/v3/depth?{query}")).body
    try:
        decode_snapshot(body)
    except (msgspec.MsgspecError, ValueError):
        raise Unavailable(f"the book of {venue_symbol} came back as something that is no book") from None
    return body


def ping(http: Http, rest: str) -> None:
    """Ask for nothing, to see whether the venue can be reached. Raises ExchangeError when not."""
    if checked(http.get(f"{rest}/v3/ping")).body.strip() != b"{}":
        raise Unavailable("something else than Binance answers at its address")


def checked(answer: Answer) -> Answer:
    """The answer itself when it is a success, else the error the venue means by it (rest-api.md, "HTTP Return
    Codes").
    """
    if 200 <= answer.status < 300:
        return answer
    raise error_of(answer)


def error_of(answer: Answer) -> ExchangeError:
    """429 and 418 are rate limits with `Retry-After` in seconds, 403 is their firewall, 5xx their own
    trouble.
    """
    code, text = None, ""
    try:
        refusal = msgspec.json.decode(answer.body, type=_Refusal)
        code, text = str(refusal.code), refusal.msg
    except (msgspec.MsgspecError, ValueError):
        pass  # a page of HTML from something in between: the status alone decides
    status = answer.status
    if status in (418, 429):
        wait_s = answer.retry_after_s
        if wait_s is None:
            wait_s = BANNED_S if status == 418 else BACK_OFF_S
        what = "has banned this address" if status == 418 else "asks for fewer requests"
        return RateLimited(f"Binance {what}; next try in {wait_s:.0f} s", retry_after_s=wait_s, code=code)
    if status == 403:
        return Rejected("Binance's firewall refuses this address", code=code)
    if 400 <= status < 500:
        return Rejected(text or f"Binance refused the request with status {status}", code=code)
    return Unavailable(f"Binance answered with status {status}", code=code)
