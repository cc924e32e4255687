"""Public market data in the dialect that Binance USDT-M futures and Aster share: frames into neutral
messages, the book's rule of continuity, stream names, and listings into instruments. Pure.

Hides: field names, milliseconds, filters. Must not know: which of the two venues speaks, addresses, sockets,
threads, clocks, keys, books. Called by `api.venues.binance_usdm.public` and `api.venues.aster.public`.

Source: developers.binance.com, derivatives/usds-margined-futures (market streams, "How to manage a local
order book correctly", exchangeInfo); asterdex/api-docs V3, same sections. What is easily got wrong:

- The chain of diffs is `pu`: each event's `pu` is the `u` of the one before it, whatever `U` says. Spot has
  another rule.
- `pricePrecision` and `quantityPrecision` are neither tick nor lot; those are in the filters.
- `MIN_NOTIONAL` names its number `notional` (spot: `minNotional`); either is read.
- Since 2026-06-30 a message may carry `st`: 2 is the COIN-margined universe, which is not ours.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

import msgspec

from api.types import Instrument, InstrumentId, Side

MS = 1_000_000  # nanoseconds
ZERO = Decimal(0)
COIN_MARGINED = 2
PERIODS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
"""Every period that klines have, in the venues' spelling; they begin by UTC."""
PERPETUAL = ("PERPETUAL", "TRADIFI_PERPETUAL")
UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, KeyError)
"""What the decoders raise for a message that is not what the API says."""

Text: TypeAlias = tuple[str, str]
"""(price in quote per base, size in base), as the venue wrote them."""


# ------------------------------------------------------------------------------------ neutral messages


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """A whole side each, best first. `venue_symbol` is empty where the answer names none (REST)."""

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    last_id: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Levels that changed in the updates `first_id` to `last_id`, absolute sizes, 0 removes; `prev_id` is the
    `last_id` of the event before it.
    """

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    first_id: int
    last_id: int
    prev_id: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask; None where a side is empty."""

    venue_symbol: str
    bid: Text | None
    ask: Text | None
    update_id: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """Trades of one taker at one price (`aggTrade`). `side` is the taker's."""

    venue_symbol: str
    trade_id: str
    side: Side
    price: str
    qty: str
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Kline:
    """`volume` in base, `quote_volume` in quote units; `start_ns` is the period's begin."""

    venue_symbol: str
    period: str
    start_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    is_closed: bool


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """`funding_rate`: fraction of value, paid by longs when positive, due at `next_funding_ns` (0: none)."""

    venue_symbol: str
    mark: Decimal
    index: Decimal | None
    funding_rate: Decimal | None
    next_funding_ns: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Control:
    """The answer to a subscription, `error` empty: it was taken."""

    request_id: str
    error: str


Message: TypeAlias = DepthSnapshot | DepthDiff | Touch | PublicTrade | Kline | MarkPrice | Control


# -------------------------------------------------------------------------------------------- the wire


class _Depth(msgspec.Struct, tag="depthUpdate", tag_field="e", gc=False):
    E: int
    s: str
    U: int
    u: int
    pu: int
    b: tuple[Text, ...]
    a: tuple[Text, ...]
    st: int = 1


class _Ticker(msgspec.Struct, tag="bookTicker", tag_field="e", gc=False):
    s: str
    u: int
    b: str
    B: str
    a: str
    A: str
    E: int = 0
    st: int = 1


class _Trade(msgspec.Struct, tag="aggTrade", tag_field="e", gc=False):
    E: int
    s: str
    a: int
    p: str
    q: str
    T: int
    m: bool
    st: int = 1


class _Bar(msgspec.Struct, gc=False):
    t: int
    i: str
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741
    c: Decimal
    v: Decimal
    q: Decimal
    x: bool


class _Kline(msgspec.Struct, tag="kline", tag_field="e", gc=False):
    s: str
    k: _Bar
    st: int = 1


class _Mark(msgspec.Struct, tag="markPriceUpdate", tag_field="e", gc=False):
    E: int
    s: str
    p: Decimal
    i: str = ""
    r: str = ""
    T: int = 0
    st: int = 1


_Any: TypeAlias = _Depth | _Ticker | _Trade | _Kline | _Mark


class _Combined(msgspec.Struct, gc=False):
    stream: str
    data: _Any


class _Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Other(msgspec.Struct):
    """Enough of any other message to say what it is."""

    e: str | None = None
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Refusal | None = None
    code: int | None = None
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()
    stream: str | None = None


class _Book(msgspec.Struct, gc=False):
    """`GET .../depth`."""

    lastUpdateId: int  # noqa: N815  (the venue's spelling, here and below)
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    E: int = 0


class _TickerRow(msgspec.Struct, gc=False):
    """`GET .../ticker/bookTicker`."""

    symbol: str
    bidPrice: str  # noqa: N815
    bidQty: str  # noqa: N815
    askPrice: str  # noqa: N815
    askQty: str  # noqa: N815
    time: int = 0
    lastUpdateId: int = 0  # noqa: N815


class _PremiumRow(msgspec.Struct, gc=False):
    """`GET .../premiumIndex`."""

    symbol: str
    markPrice: Decimal  # noqa: N815
    indexPrice: str = ""  # noqa: N815
    lastFundingRate: str = ""  # noqa: N815
    nextFundingTime: int = 0  # noqa: N815
    time: int = 0


class Limit(msgspec.Struct):
    """One entry of `rateLimits`; `count` only in WebSocket answers."""

    rateLimitType: str = ""  # noqa: N815
    interval: str = ""
    intervalNum: int = 0  # noqa: N815
    limit: int = 0
    count: int | None = None


class Filter(msgspec.Struct):
    filterType: str  # noqa: N815
    tickSize: Decimal | None = None  # noqa: N815
    stepSize: Decimal | None = None  # noqa: N815
    minQty: Decimal | None = None  # noqa: N815
    maxQty: Decimal | None = None  # noqa: N815
    notional: Decimal | None = None
    minNotional: Decimal | None = None  # noqa: N815


class SymbolRow(msgspec.Struct):
    symbol: str
    status: str
    contractType: str  # noqa: N815
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[Filter]
    marginAsset: str = ""  # noqa: N815
    deliveryDate: int = 0  # noqa: N815
    timeInForce: list[str] = []  # noqa: N815


class ExchangeRow(msgspec.Struct):
    symbols: list[SymbolRow]
    rateLimits: list[Limit] = []  # noqa: N815


_decode_combined = msgspec.json.Decoder(_Combined).decode
_decode_plain = msgspec.json.Decoder(_Any).decode
_decode_other = msgspec.json.Decoder(_Other, strict=False).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_touch = msgspec.json.Decoder(_TickerRow, strict=False).decode
_decode_premium = msgspec.json.Decoder(_PremiumRow, strict=False).decode
_decode_bars_loosely = msgspec.json.Decoder(list[list[int | float | str]]).decode
decode_exchange = msgspec.json.Decoder(ExchangeRow, strict=False).decode


def decode(raw: bytes) -> Message | None:
    """One text of a public socket, combined or plain. None: something we do not read (another event, the
    COIN-margined universe).

    Raises:
        UNREADABLE: it is not what the API says.
    """
    stream = ""
    data: _Any
    try:
        if raw.startswith(b'{"stream"'):
            combined = _decode_combined(raw)
            stream, data = combined.stream, combined.data
        else:
            data = _decode_plain(raw)
    except msgspec.ValidationError:
        return _decode_rest(raw)
    if data.st == COIN_MARGINED:
        return None
    return _KINDS[type(data)](data, stream)


def _decode_rest(raw: bytes) -> Message | None:
    """A text that is none of the five events, or is a broken one of them."""
    if raw.lstrip()[:1] == b"[":
        return None  # the all-market streams; we subscribe to none
    other = _decode_other(raw)
    if bytes(other.data):
        inner = _decode_other(bytes(other.data)) if bytes(other.data)[:1] == b"{" else _Other(e="list")
        if inner.e in _EVENTS:
            raise ValueError(f"a {inner.e} that lacks what it should carry")
        return None
    if other.e is not None:
        if other.e in _EVENTS:
            raise ValueError(f"a {other.e} that lacks what it should carry")
        return None
    if other.error is not None:
        return Control(str(other.id), other.error.msg or f"code {other.error.code}")
    if other.code is not None:
        return Control(str(other.id), other.msg or f"code {other.code}")
    if other.id is not None:
        return Control(str(other.id), "")
    raise ValueError("neither an event nor an answer")


def _depth(row: _Depth, stream: str) -> Message:
    if stream and stream.partition("@")[2].partition("@")[0] in ("depth5", "depth10", "depth20"):
        return DepthSnapshot(row.s, row.b, row.a, row.u, row.E * MS)
    return DepthDiff(row.s, row.b, row.a, row.U, row.u, row.pu, row.E * MS)


def _ticker(row: _Ticker, stream: str) -> Message:
    return Touch(row.s, _level(row.b, row.B), _level(row.a, row.A), row.u, row.E * MS)


def _level(price: str, qty: str) -> Text | None:
    """None where nothing rests: the venues write zeros."""
    return (price, qty) if float(price) > 0 and float(qty) > 0 else None


def _trade(row: _Trade, stream: str) -> Message:
    return PublicTrade(row.s, str(row.a), Side.SELL if row.m else Side.BUY, row.p, row.q, row.T * MS)


def _kline(row: _Kline, stream: str) -> Message:
    bar = row.k
    return Kline(row.s, bar.i, bar.t * MS, bar.o, bar.h, bar.l, bar.c, bar.v, bar.q, bar.x)


def _mark(row: _Mark, stream: str) -> Message:
    return MarkPrice(row.s, row.p, _maybe(row.i), _maybe(row.r), row.T * MS, row.E * MS)


def _maybe(text: str) -> Decimal | None:
    return Decimal(text) if text else None  # dated contracts carry no funding: the text is empty then


_KINDS: dict[type, Callable[..., Message]] = {
    _Depth: _depth,
    _Ticker: _ticker,
    _Trade: _trade,
    _Kline: _kline,
    _Mark: _mark,
}
_EVENTS = frozenset({"depthUpdate", "bookTicker", "aggTrade", "kline", "markPriceUpdate"})


def decode_snapshot(raw: bytes, venue_symbol: str = "") -> DepthSnapshot:
    """The answer of `GET .../depth`, which names no market. Raises UNREADABLE."""
    book = _decode_book(raw)
    return DepthSnapshot(venue_symbol, book.bids, book.asks, book.lastUpdateId, book.E * MS)


def decode_touch(raw: bytes) -> Touch:
    """The answer of `GET .../ticker/bookTicker` for one market. Raises UNREADABLE."""
    row = _decode_touch(raw)
    bid, ask = _level(row.bidPrice, row.bidQty), _level(row.askPrice, row.askQty)
    return Touch(row.symbol, bid, ask, row.lastUpdateId, row.time * MS)


def decode_premium(raw: bytes) -> MarkPrice:
    """The answer of `GET .../premiumIndex` for one market. Raises UNREADABLE."""
    row = _decode_premium(raw)
    index, rate = _maybe(row.indexPrice), _maybe(row.lastFundingRate)
    return MarkPrice(row.symbol, row.markPrice, index, rate, row.nextFundingTime * MS, row.time * MS)


def decode_klines(raw: bytes, venue_symbol: str, period: str, now_ns: int) -> tuple[Kline, ...]:
    """The answer of `GET .../klines`, oldest first; the last is still open while its end lies ahead of
    `now_ns` (UTC). Raises UNREADABLE.
    """
    bars = []
    for row in _decode_bars_loosely(raw):
        start_ms, end_ms = int(row[0]), int(row[6])
        first, high, low, last, volume, value = (Decimal(str(row[n])) for n in (1, 2, 3, 4, 5, 7))
        is_closed = end_ms * MS < now_ns
        bars.append(
            Kline(venue_symbol, period, start_ms * MS, first, high, low, last, volume, value, is_closed)
        )
    return tuple(bars)


# ------------------------------------------------------------------------------------- the book's rule


class Verdict(enum.Enum):
    APPLY = "apply"
    IGNORE = "ignore"  # older than what the book holds
    GAP = "gap"  # drop the book and take a new snapshot


class Continuity:
    """Says of each diff of one market whether it follows. Buffer diffs, take a snapshot, tell its id, feed
    the buffered diffs and then all that come.

    Rule ("How to manage a local order book correctly"): drop what has `u < lastUpdateId`; the first applied
    has `U <= lastUpdateId <= u`; from then on `pu` is the `u` before.
    """

    __slots__ = ("_is_chained", "_last_id")

    def __init__(self) -> None:
        self._last_id = -1
        self._is_chained = False

    def snapshot(self, last_id: int) -> None:
        self._last_id = last_id
        self._is_chained = False

    def feed(self, diff: DepthDiff) -> Verdict:
        """GAP also before the first snapshot, and from a gap on until the next one."""
        last_id = self._last_id
        if last_id < 0:
            return Verdict.GAP
        if self._is_chained:
            if diff.prev_id == last_id:
                self._last_id = diff.last_id
                return Verdict.APPLY
            if diff.last_id <= last_id:
                return Verdict.IGNORE
        else:
            if diff.last_id < last_id:
                return Verdict.IGNORE
            if diff.first_id <= last_id:
                self._last_id = diff.last_id
                self._is_chained = True
                return Verdict.APPLY
        self._last_id = -1
        return Verdict.GAP


# --------------------------------------------------------------------------------------- subscriptions


@dataclass(frozen=True, slots=True)
class Wish:
    """What to hear of one market. `depth_ms`: 100, 250 or 500, 0: no diffs."""

    venue_symbol: str
    depth_ms: int = 100
    touch: bool = True
    trades: bool = True
    mark: bool = False
    periods: tuple[str, ...] = ()

    def book_streams(self) -> list[str]:
        """Raises ValueError for a pace that does not exist."""
        name = self.venue_symbol.lower()
        pace = {0: None, 100: "@depth@100ms", 250: "@depth", 500: "@depth@500ms"}
        if self.depth_ms not in pace:
            raise ValueError(f"diffs come every 100, 250 or 500 ms, not {self.depth_ms}")
        found = [f"{name}{pace[self.depth_ms]}"] if self.depth_ms else []
        return [*found, f"{name}@bookTicker"] if self.touch else found

    def market_streams(self) -> list[str]:
        """Raises ValueError for a period that does not exist."""
        name = self.venue_symbol.lower()
        unknown = set(self.periods) - set(PERIODS)
        if unknown:
            raise ValueError(f"no klines of {', '.join(sorted(unknown))}; there are {', '.join(PERIODS)}")
        found = [f"{name}@aggTrade"] if self.trades else []
        found += [f"{name}@markPrice@1s"] if self.mark else []
        return found + [f"{name}@kline_{period}" for period in self.periods]


def stream_url(base: str, streams: Iterable[str], most: int) -> str:
    """The address of one combined stream. Raises ValueError: none, or more than a connection carries."""
    names = list(streams)
    if not names or len(names) > most:
        raise ValueError(f"one connection carries 1 to {most} streams, asked for {len(names)}")
    return f"{base.rstrip('/')}/stream?streams={'/'.join(names)}"


def subscribe(streams: Iterable[str], request_id: int) -> bytes:
    """The text that adds streams to an open connection (at most 10 texts a second)."""
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": list(streams), "id": request_id})


def unsubscribe(streams: Iterable[str], request_id: int) -> bytes:
    return msgspec.json.encode({"method": "UNSUBSCRIBE", "params": list(streams), "id": request_id})


# ----------------------------------------------------------------------------------------- instruments


@dataclass(frozen=True, slots=True)
class Rates:
    """Fractions of value; paid is positive."""

    maker: Decimal
    taker: Decimal


def plain(value: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: 0.01000000 is 0.01, 10.0 is 10."""
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]


def canonical(row: SymbolRow) -> str:
    """`BTC-USDT-PERP`, or `BTC-USDT-261225` for a contract that is delivered on that day (UTC). Made of the
    assets and the delivery date, never of the name.
    """
    if row.contractType in PERPETUAL:
        return f"{row.baseAsset}-{row.quoteAsset}-PERP"
    if row.deliveryDate <= 0:
        raise ValueError(f"{row.symbol} is neither perpetual nor delivered")
    day = datetime.fromtimestamp(row.deliveryDate / 1000, UTC)
    return f"{row.baseAsset}-{row.quoteAsset}-{day:%y%m%d}"


def instrument_of(venue: str, row: SymbolRow, rates: Rates) -> Instrument:
    """One symbol of `exchangeInfo`, exact. Quantity is in base units: contract size 1 (`1000SHIB` is an asset
    of its own). Raises ValueError: it lacks tick or lot.
    """
    tick = step = min_qty = max_qty = None
    min_notional = ZERO
    for rule in row.filters:
        if rule.filterType == "PRICE_FILTER":
            tick = rule.tickSize
        elif rule.filterType == "LOT_SIZE":
            step, min_qty, max_qty = rule.stepSize, rule.minQty, rule.maxQty
        elif rule.filterType == "MIN_NOTIONAL":
            min_notional = max(min_notional, rule.notional or ZERO, rule.minNotional or ZERO)
    if not tick or not step:
        raise ValueError(f"{row.symbol} has no tick or no lot")
    return Instrument(
        id=InstrumentId.of(venue, canonical(row)),
        base=row.baseAsset,
        quote=row.quoteAsset,
        tick=plain(tick),
        lot=plain(step),
        min_qty=plain(min_qty or ZERO),
        min_notional=plain(min_notional),
        maker_fee=rates.maker,
        taker_fee=rates.taker,
        venue_symbol=row.symbol,
        kind="perp" if row.contractType in PERPETUAL else "future",
        max_qty=plain(max_qty) if max_qty else None,
    )


class Symbols:
    """Canonical symbols both ways, by table. Later rows do not displace earlier ones (a symbol that is being
    settled may share its assets with the one that follows it).
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._ours: dict[str, Instrument] = {}
        self._theirs: dict[str, Instrument] = {}
        for instrument in instruments:
            self._ours.setdefault(instrument.symbol, instrument)
            self._theirs.setdefault(instrument.venue_symbol, instrument)

    def venue_symbol(self, symbol: str) -> str | None:
        found = self._ours.get(symbol)
        return None if found is None else found.venue_symbol

    def symbol(self, venue_symbol: str) -> str | None:
        found = self._theirs.get(venue_symbol)
        return None if found is None else found.symbol


def instruments_of(
    venue: str, exchange: ExchangeRow, rates: Rates, by_quote: Mapping[str, Rates] | None = None
) -> tuple[Instrument, ...]:
    """Those that trade now, by symbol. Rows that cannot be understood are left out."""
    found: dict[str, Instrument] = {}
    for row in exchange.symbols:
        if row.status != "TRADING":
            continue
        try:
            instrument = instrument_of(venue, row, (by_quote or {}).get(row.quoteAsset, rates))
        except ValueError:
            continue
        found.setdefault(instrument.symbol, instrument)
    return tuple(sorted(found.values(), key=lambda i: i.symbol))
