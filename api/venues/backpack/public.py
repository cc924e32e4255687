"""Backpack's public market data: addresses, subscriptions, the shapes of its messages. Pure.

Hides: field names, microseconds, the order of levels, the rule that chains book updates. Must not know:
sockets, books, desks. Called by whoever runs a feed of Backpack, and by `account` for the instruments.

Source: docs.backpack.exchange (OpenAPI description, tag "Streams"): frames are
`{"stream": "<kind>.<symbol>", "data": {"e": "<kind>", ...}}`, amounts come as text, times in microseconds
(the candles' own times are ISO text in UTC without a zone). The server pings every 60 s and closes after
120 s without a pong; before it shuts down it sends a Close frame and stays for 30 s.

The book: subscribe to `depth.<symbol>` and keep what comes; ask for the snapshot; then feed `Continuity`.
Sizes are absolute, 0 removes a level; there is no checksum. The snapshot lists bids from the worst to the
best, so nothing here relies on an order. `depth.200ms`, `.600ms` and `.1000ms` merge several updates into one
with the same chain of ids.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
import orjson

from api.exchange import FeeRates
from api.types import Instrument, InstrumentId, Side
from api.venues.backpack.names import MARKET_TYPE, VENUE_OF, Product

log = logging.getLogger("makerdeck.backpack")

PING_EVERY_S = 60.0  # the server's; a pong is awaited for SILENCE_S
SILENCE_S = 120.0
CLOSE_GRACE_S = 30.0  # between the server's Close frame and the end of the connection
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)  # what `limit` of the snapshot may be
KLINE_PERIODS = (
    *("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w"),
    "1month",
)
AGGREGATIONS = ("", "200ms", "600ms", "1000ms")  # "": every update
US = 1_000  # nanoseconds
TRADING_STATES = ("Open", "LimitOnly", "PostOnly")  # an order of ours may rest in these

Levels: TypeAlias = tuple[tuple[str, str], ...]
"""(price, size) in the venue's own text, in the venue's order."""


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """`GET /api/v1/depth`. It names no market. `last_id`: the update it includes last."""

    last_id: int
    bids: Levels
    asks: Levels
    venue_ns: int


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Absolute sizes of the levels that changed in the updates `first_id..last_id`."""

    symbol: str
    first_id: int
    last_id: int
    bids: Levels
    asks: Levels
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask. `update_id` is of the same kind as the book's."""

    symbol: str
    bid: str
    bid_size: str
    ask: str
    ask_size: str
    update_id: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """`side` is the aggressor's: SELL took a resting bid."""

    symbol: str
    trade_id: str
    price: str
    qty: str
    side: Side
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Kline:
    """A candle; open to close are None while nothing has traded in it."""

    symbol: str
    period: str
    start_ns: int
    end_ns: int
    open: str | None
    high: str | None
    low: str | None
    close: str | None
    volume: str
    trades: int
    is_closed: bool


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """`funding_rate` is the estimate for the running interval, a fraction; `next_funding_ns` its end."""

    symbol: str
    mark: str
    index: str | None
    funding_rate: str | None
    next_funding_ns: int | None
    venue_ns: int


Message: TypeAlias = DepthDiff | Touch | PublicTrade | Kline | MarkPrice


# ---------------------------------------------------------------------------------------------- addresses


def streams(symbol: str, *, aggregation: str = "", klines: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of what a market maker hears of one market: book, touch, trades, and candles if asked for.

    Raises:
        ValueError: an aggregation or a period that the venue does not have.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation is one of {AGGREGATIONS}, not {aggregation!r}")
    names = [f"depth.{aggregation}.{symbol}" if aggregation else f"depth.{symbol}"]
    names += [f"bookTicker.{symbol}", f"trade.{symbol}"]
    for period in klines:
        if period not in KLINE_PERIODS:
            raise ValueError(f"a candle lasts one of {KLINE_PERIODS}, not {period!r}")
        names.append(f"kline.{period}.{symbol}")
    return tuple(names)


def subscribe(names: Sequence[str]) -> bytes:
    """The text frame that starts these streams. Nothing is answered to it."""
    return orjson.dumps({"method": "SUBSCRIBE", "params": list(names)})


def unsubscribe(names: Sequence[str]) -> bytes:
    return orjson.dumps({"method": "UNSUBSCRIBE", "params": list(names)})


def depth_path(symbol: str, limit: int = 1000) -> str:
    """Path and query of the book's snapshot. Raises ValueError for a limit that the venue does not have."""
    if limit not in DEPTHS:
        raise ValueError(f"limit is one of {DEPTHS}, not {limit}")
    return f"/api/v1/depth?symbol={symbol}&limit={limit}"


def klines_path(symbol: str, period: str, start_s: int, end_s: int | None = None) -> str:
    """Path and query of candles; times in **seconds**. 30 requests a minute are allowed (unverified)."""
    if period not in KLINE_PERIODS:
        raise ValueError(f"a candle lasts one of {KLINE_PERIODS}, not {period!r}")
    end = "" if end_s is None else f"&endTime={end_s}"
    return f"/api/v1/klines?symbol={symbol}&interval={period}&startTime={start_s}{end}"


# ---------------------------------------------------------------------------------------------- frames


class _Depth(msgspec.Struct, tag_field="e", tag="depth", gc=False):
    s: str
    U: int
    u: int
    T: int
    b: tuple[tuple[str, str], ...] = ()
    a: tuple[tuple[str, str], ...] = ()


class _Touch(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    s: str
    a: str
    A: str
    b: str
    B: str
    u: int
    T: int


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    s: str
    p: str
    q: str
    t: int
    T: int
    m: bool


class _Kline(msgspec.Struct, tag_field="e", tag="kline", gc=False):
    s: str
    t: str
    T: str
    v: str
    n: int
    X: bool
    o: str | None = None
    c: str | None = None
    h: str | None = None
    l: str | None = None  # noqa: E741


class _Mark(msgspec.Struct, tag_field="e", tag="markPrice", gc=False):
    s: str
    p: str
    T: int
    i: str | None = None
    f: str | None = None
    n: int | None = None


class _Frame(msgspec.Struct, gc=False):
    stream: str
    data: _Depth | _Touch | _Trade | _Kline | _Mark


class _Kind(msgspec.Struct):
    e: str = ""


class _AnyFrame(msgspec.Struct):
    stream: str = ""
    data: _Kind | None = None


class _Snapshot(msgspec.Struct):
    lastUpdateId: int  # their spelling, here and below
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    timestamp: int


class _KlineRow(msgspec.Struct):
    start: str
    end: str
    volume: str
    trades: int
    open: str | None = None
    high: str | None = None
    low: str | None = None
    close: str | None = None


_decode_frame = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_any = msgspec.json.Decoder(_AnyFrame, strict=False).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot, strict=False).decode
_decode_klines = msgspec.json.Decoder(list[_KlineRow], strict=False).decode
_decode_texts = msgspec.json.Decoder(float_hook=str).decode

UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, KeyError, TypeError)
_CONSUMED = frozenset({"depth", "bookTicker", "trade", "kline", "markPrice"})


def decode(raw: bytes) -> Message | None:
    """One frame of the socket as a message; None for a frame that is of no kind we use.

    Numbers where text belongs are read all the same; a field that vanished is not guessed.

    Raises:
        ValueError, msgspec.MsgspecError: it is of a kind we use, and cannot be read (`UNREADABLE`).
    """
    try:
        frame = _decode_frame(raw)
    except msgspec.ValidationError:
        found = _decode_any(raw)
        if found.data is None or found.data.e not in _CONSUMED:
            return None
        frame = msgspec.convert(_as_text(raw), _Frame, strict=False)
    data = frame.data
    kind = type(data)
    if kind is _Depth:
        assert isinstance(data, _Depth)
        return DepthDiff(data.s, data.U, data.u, data.b, data.a, data.T * US)
    if isinstance(data, _Touch):
        return Touch(data.s, data.b, data.B, data.a, data.A, data.u, data.T * US)
    if isinstance(data, _Trade):
        side = Side.SELL if data.m else Side.BUY
        return PublicTrade(data.s, str(data.t), data.p, data.q, side, data.T * US)
    if isinstance(data, _Kline):
        period = frame.stream.split(".", 2)[1] if frame.stream.count(".") >= 2 else ""
        times = (iso_ns(data.t), iso_ns(data.T))
        return Kline(data.s, period, *times, data.o, data.h, data.l, data.c, data.v, data.n, data.X)
    assert isinstance(data, _Mark)
    return MarkPrice(data.s, data.p, data.i, data.f, _funding_ns(data.n), data.T * US)


def decode_snapshot(raw: bytes) -> DepthSnapshot:
    """Raises UNREADABLE for anything that is no snapshot."""
    try:
        found = _decode_snapshot(raw)
    except msgspec.ValidationError:
        found = msgspec.convert(_as_text(raw), _Snapshot, strict=False)
    return DepthSnapshot(found.lastUpdateId, found.bids, found.asks, found.timestamp * US)


def decode_klines(raw: bytes, symbol: str, period: str, now_ns: int) -> tuple[Kline, ...]:
    """`GET /api/v1/klines`, oldest first. A candle is closed when its end is not after `now_ns`."""
    try:
        rows = _decode_klines(raw)
    except msgspec.ValidationError:
        rows = msgspec.convert(_as_text(raw), list[_KlineRow], strict=False)
    found = []
    for row in rows:
        start_ns, end_ns = iso_ns(row.start), iso_ns(row.end)
        prices = (row.open, row.high, row.low, row.close)
        found.append(
            Kline(symbol, period, start_ns, end_ns, *prices, row.volume, row.trades, end_ns <= now_ns)
        )
    return tuple(sorted(found, key=lambda kline: kline.start_ns))


def iso_ns(text: str) -> int:
    """Their ISO times carry no zone and mean UTC; nanoseconds. Raises ValueError."""
    found = datetime.fromisoformat(text.removesuffix("Z"))
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    whole = found.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + found.microsecond * US


def _funding_ns(told: int | None) -> int | None:
    """The documents call it microseconds and show milliseconds: which one is seen by its size."""
    if told is None:
        return None
    return told * US if told > 10**14 else told * US * 1000


def _as_text(raw: bytes) -> Any:
    """The message with every number as text, digit for digit: for messages with numbers in place of text."""
    return _texts(_decode_texts(raw))


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_texts(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


# ---------------------------------------------------------------------------------------------- the book


class Step(enum.Enum):
    """What to do with an update: fold it in, forget it, or drop the book and ask for a snapshot."""

    APPLY = "apply"
    IGNORE = "ignore"
    GAP = "gap"


class Continuity:
    """The chain of updates of one book, from one snapshot on (docs, "Depth").

    Updates that the snapshot includes are old. The first one applied must reach over the snapshot's id
    (`U <= id + 1 <= u`); from then on each must begin where the last one ended (`U == u + 1`).
    """

    __slots__ = ("_is_chained", "last_id")

    def __init__(self, snapshot_id: int) -> None:
        self.last_id = snapshot_id
        self._is_chained = False

    def feed(self, diff: DepthDiff) -> Step:
        """After a GAP nothing fits any more: make a new one from a new snapshot."""
        if diff.last_id <= self.last_id:
            return Step.IGNORE
        is_next = diff.first_id == self.last_id + 1
        if not is_next and (self._is_chained or diff.first_id > self.last_id + 1):
            return Step.GAP
        self._is_chained = True
        self.last_id = diff.last_id
        return Step.APPLY


# ---------------------------------------------------------------------------------------------- instruments


class _Price(msgspec.Struct):
    tickSize: Decimal


class _Quantity(msgspec.Struct):
    stepSize: Decimal
    minQuantity: Decimal
    maxQuantity: Decimal | None = None


class _Filters(msgspec.Struct):
    price: _Price
    quantity: _Quantity


class MarketRow(msgspec.Struct):
    """One entry of `GET /api/v1/markets`; what bounds our orders."""

    symbol: str
    baseSymbol: str
    quoteSymbol: str
    marketType: str
    filters: _Filters
    orderBookState: str = ""
    visible: bool = True
    fundingInterval: int | None = None


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw], strict=False).decode
_decode_row = msgspec.json.Decoder(MarketRow, strict=False).decode


@dataclass(frozen=True, slots=True)
class Market:
    """One market: our terms, and whether an order may rest there now. `funding_interval_s`: None on spot."""

    instrument: Instrument
    state: str
    is_trading: bool
    funding_interval_s: float | None


@dataclass(frozen=True, slots=True)
class Markets:
    """Both directions of the names, by table. Only markets of one product are in it."""

    by_symbol: Mapping[str, Market]
    by_id: Mapping[InstrumentId, Market]

    def canonical(self, venue_symbol: str) -> InstrumentId:
        """Raises KeyError."""
        return self.by_symbol[venue_symbol].instrument.id

    def venue_symbol(self, instrument: InstrumentId) -> str:
        """Raises KeyError."""
        return self.by_id[instrument].instrument.venue_symbol


def decode_markets(raw: bytes, product: Product, fees: FeeRates) -> Markets:
    """`GET /api/v1/markets`. Contract size is 1: quantity counts base units. The venue states no minimum
    value, so `min_notional` is 0. A row that cannot be read is left out, and logged.

    Raises:
        UNREADABLE: the answer is no list of markets at all.
    """
    by_symbol: dict[str, Market] = {}
    by_id: dict[InstrumentId, Market] = {}
    for piece in _decode_rows(raw):
        try:
            row = _decode_row(piece)
            if row.marketType != MARKET_TYPE[product]:
                continue
            market = _market_of(row, product, fees)
        except UNREADABLE as error:
            log.warning("a market was left out: %s", error)
            continue
        by_symbol[row.symbol] = market
        by_id[market.instrument.id] = market
    return Markets(by_symbol, by_id)


def _market_of(row: MarketRow, product: Product, fees: FeeRates) -> Market:
    name = f"{row.baseSymbol}-{row.quoteSymbol}" + ("-PERP" if product == "perp" else "")
    most = row.filters.quantity.maxQuantity
    instrument = Instrument(
        id=InstrumentId.of(VENUE_OF[product], name),
        base=row.baseSymbol,
        quote=row.quoteSymbol,
        tick=plain(row.filters.price.tickSize),
        lot=plain(row.filters.quantity.stepSize),
        min_qty=plain(row.filters.quantity.minQuantity),
        min_notional=Decimal(0),
        maker_fee=fees.maker,
        taker_fee=fees.taker,
        venue_symbol=row.symbol,
        kind=product,
        contract_size=Decimal(1),
        max_qty=None if most is None else plain(most),
    )
    interval_s = None if row.fundingInterval is None else row.fundingInterval / 1000
    return Market(
        instrument, row.orderBookState, row.orderBookState in TRADING_STATES and row.visible, interval_s
    )


def plain(value: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: 0.0100 is 0.01, 10.0 is 10."""
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]
