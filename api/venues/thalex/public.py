"""Thalex's public market data: addresses, channels, the shapes of its messages. Pure.

Hides: field names, seconds as floating point, the rule of its books. Must not know: sockets, books, desks.
Called by whoever runs a feed of Thalex, and by `account` for the instruments.

Source: the exchange's API description (v2): requests are `{"method", "params", "id"}`, notifications
`{"channel_name", "notification", "snapshot"?}`, where `snapshot` is there only when true. Numbers are JSON
numbers: prices and sizes are `float` here and go through `Instrument.ticks` and `Instrument.lots`; terms of
instruments are exact.

The book: subscribe to `book.<instrument>.none.all.raw`; the first message is a snapshot, later ones hold the
levels that changed, absolute, 0 removes a level. There are no sequence numbers and no checksum: the order of
TCP is the only chain, so after any reconnection, and after a message that could not be read, the book is
gone until the next snapshot (`Continuity`). The server is not documented to ping; we do (`SILENCE_S`). Ten
seconds or more before it closes a connection it tells `system`: open the successor then. Trades carry no id
of the venue's: one is made of what they say. There are no candles of trades, only of mark and index prices.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
import orjson

from api.exchange import FeeRates
from api.types import Instrument, InstrumentId, Side

log = logging.getLogger("makerdeck.thalex")

NAME = "thalex"
SILENCE_S = 20.0  # without a frame for so long (we ping after half of it) a connection counts as lost
RECONNECT_WITHIN_S = 10.0  # between the notice of a closure and the closure
DELAYS = ("raw", "100ms", "200ms", "500ms", "1000ms", "5000ms", "60000ms")
KLINE_PERIODS: Mapping[str, int] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "1d": 86_400,
    "1w": 604_800,
}
"""Candles of the mark and index price: the period's name -> seconds."""
UNDERLYINGS: Mapping[str, tuple[str, str]] = {"BTCUSD": ("BTC", "USD"), "ETHUSD": ("ETH", "USD")}
"""The venue names an underlying in one word; base and quote of ours. A new one is added here or handed in."""
UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, ArithmeticError)

Levels: TypeAlias = tuple[tuple[float, float], ...]
"""(price, size)."""


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """Absolute sizes: of the whole book when `is_snapshot`, else of the levels that changed.

    `bid_total`, `ask_total`: the size of the whole side after this update, as the venue adds it up (unrounded
    float); None: not told. `venue_ns`: of the last change of the book.
    """

    symbol: str
    is_snapshot: bool
    bids: Levels
    asks: Levels
    bid_total: float | None
    ask_total: float | None
    venue_ns: int
    trades: tuple[PublicTrade, ...]
    """Trades since the last update; in a snapshot older ones, said already."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask; None: that side is empty. `venue_ns`: None where the channel tells no time."""

    symbol: str
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    mark: float | None
    last: float | None
    venue_ns: int | None


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """`funding_rate` is the running one, a fraction; `collar_low` bounds new asks, `collar_high` new bids."""

    symbol: str
    mark: float
    index: float | None
    funding_rate: float | None
    collar_low: float | None
    collar_high: float | None
    venue_ns: int


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """`side` is the taker's, as the venue gives one direction for a trade (which side it means is not
    documented). `is_implied`: the taker was in another book.
    """

    symbol: str
    trade_id: str
    price: float
    qty: float
    side: Side
    is_implied: bool
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Kline:
    """A candle of the mark price (of an instrument) or the index price (of an underlying). No volume."""

    symbol: str
    period: str
    start_ns: int
    end_ns: int
    open: float
    high: float
    low: float
    close: float
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """The list of instruments changed, or came whole (`is_snapshot`): the raw rows, for `decode_markets`."""

    is_snapshot: bool
    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The server will close this connection; open another one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a request: `number` is its id. `channels` of a subscription; `code` when it was refused."""

    number: int | None
    channels: tuple[str, ...] | None
    code: int | None
    text: str


Message: TypeAlias = (
    BookUpdate | Touch | tuple[Touch, MarkPrice] | tuple[PublicTrade, ...] | Listing | Reconnect | Reply
)


# ---------------------------------------------------------------------------------------------- channels


def channels(symbol: str, *, delay: str = "raw") -> tuple[str, ...]:
    """What a market maker hears of one instrument: book (with its trades), touch, ticker.

    Raises:
        ValueError: a delay that the venue does not have.
    """
    if delay not in DELAYS:
        raise ValueError(f"delay must be one of {', '.join(DELAYS)}; not {delay!r}")
    slower = "100ms" if delay == "raw" else delay
    return f"book.{symbol}.none.all.{delay}", f"lwt.{symbol}.{delay}", f"ticker.{symbol}.{slower}"


def trades_channel(symbol: str) -> str:
    return f"recent_trades.{symbol}.single"


ALWAYS = ("system", "instruments")
"""Channels that every connection listens to: notices of closures, and the list of instruments."""


def subscribe(names: Iterable[str], number: int) -> bytes:
    return orjson.dumps({"method": "public/subscribe", "params": {"channels": list(names)}, "id": number})


def unsubscribe(names: Iterable[str], number: int) -> bytes:
    return orjson.dumps({"method": "unsubscribe", "params": {"channels": list(names)}, "id": number})


def klines_query(symbol: str, period: str, start_s: int, end_s: int, *, of_index: bool = False) -> str:
    """Path and query below the REST base. `end_s` is exclusive. Raises ValueError."""
    if period not in KLINE_PERIODS:
        raise ValueError(f"period must be one of {', '.join(KLINE_PERIODS)}; not {period!r}")
    what, name = ("index", "index_name") if of_index else ("mark", "instrument_name")
    path = f"/public/{what}_price_historical_data"
    return f"{path}?{name}={symbol}&from={start_s}&to={end_s}&resolution={period}"


# ---------------------------------------------------------------------------------------------- frames


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    channel_name: str = ""
    notification: msgspec.Raw = msgspec.Raw()
    snapshot: bool = False
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


_Row: TypeAlias = tuple[Any, ...]


class _Book(msgspec.Struct, gc=False):
    time: float
    bid_changes: list[list[float]] = []
    ask_changes: list[list[float]] = []
    total_bid_amount: float | None = None
    total_ask_amount: float | None = None
    trades: list[_Row] = []


class _Lwt(msgspec.Struct, gc=False):
    b: list[float] | None = None
    a: list[float] | None = None
    m: float | None = None
    l: float | None = None  # noqa: E741  (their name)


class _Ticker(msgspec.Struct, gc=False):
    mark_price: float
    mark_timestamp: float
    best_bid_price: float | None = None
    best_bid_amount: float | None = None
    best_ask_price: float | None = None
    best_ask_amount: float | None = None
    last_price: float | None = None
    index: float | None = None
    funding_rate: float | None = None
    collar_low: float | None = None
    collar_high: float | None = None


class _System(msgspec.Struct, gc=False):
    event: str = ""


class _Delta(msgspec.Struct, gc=False):
    added: msgspec.Raw = msgspec.Raw()
    removed: msgspec.Raw = msgspec.Raw()


class _BookFrame(msgspec.Struct, gc=False):
    channel_name: str
    notification: _Book
    snapshot: bool = False


_decode_book_frame = msgspec.json.Decoder(_BookFrame, strict=False).decode
_decode_frame = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_book = msgspec.json.Decoder(_Book, strict=False).decode
_decode_lwt = msgspec.json.Decoder(_Lwt, strict=False).decode
_decode_ticker = msgspec.json.Decoder(_Ticker, strict=False).decode
_decode_trades = msgspec.json.Decoder(list[_Row], strict=False).decode
_decode_system = msgspec.json.Decoder(_System, strict=False).decode
_decode_deltas = msgspec.json.Decoder(list[_Delta], strict=False).decode


def seconds_ns(seconds: float) -> int:
    """A time of theirs in nanoseconds, exact to the microsecond, which is what their floats hold."""
    return round(seconds * 1_000_000) * 1_000


class Symbols:
    """Which instrument a channel is about: a table of the channels we asked for, so that no name is cut."""

    def __init__(self, asked: Mapping[str, str] | None = None) -> None:
        self._of: dict[str, str] = dict(asked or {})

    def add(self, symbol: str, names: Iterable[str]) -> None:
        for name in names:
            self._of[name] = symbol

    def of(self, channel: str) -> str | None:
        return self._of.get(channel)


_BOOK = b'"channel_name":"book.'
_NEAR = 40  # bytes in which the name stands when it comes first, as it does in all examples


def decode(raw: bytes | str, symbols: Symbols) -> Message | None:
    """One frame. None: a channel that nobody asked for, or one without a meaning here.

    Raises:
        UNREADABLE: not a frame of theirs, or a field that we need is missing or of another kind. The book of
            that connection must be dropped then: it may have been an update.
    """
    if isinstance(raw, bytes) and _BOOK in raw[:_NEAR]:  # nearly all frames: read in one go
        found = _decode_book_frame(raw)
        about = symbols.of(found.channel_name)
        return None if about is None else _book(found.notification, about, found.snapshot)
    frame = _decode_frame(raw)
    channel = frame.channel_name
    if not channel:
        return _reply(frame)
    body = bytes(frame.notification)
    if channel == "system":
        return Reconnect() if _decode_system(body).event == "reconnect" else None
    if channel == "instruments":
        deltas = _decode_deltas(body)
        added = tuple(bytes(delta.added) for delta in deltas if bytes(delta.added))
        removed = tuple(bytes(delta.removed) for delta in deltas if bytes(delta.removed))
        return Listing(frame.snapshot, added, removed)
    symbol = symbols.of(channel)
    if symbol is None:
        return None
    if channel.startswith("book."):
        return _book(_decode_book(body), symbol, frame.snapshot)
    if channel.startswith("lwt."):
        return _lwt(_decode_lwt(body), symbol)
    if channel.startswith("ticker."):
        return _ticker(_decode_ticker(body), symbol)
    if channel.startswith("recent_trades."):
        return _trades(_decode_trades(body), symbol)
    return None


def _reply(frame: _Frame) -> Reply | None:
    number = frame.id if isinstance(frame.id, int) else None
    if frame.error is not None:
        return Reply(number, None, frame.error.code, frame.error.message)
    if not bytes(frame.result):
        return None
    told = orjson.loads(bytes(frame.result))
    is_names = isinstance(told, list) and all(isinstance(name, str) for name in told)
    return Reply(number, tuple(told) if is_names else None, None, "")


def _book(found: _Book, symbol: str, is_snapshot: bool) -> BookUpdate:
    return BookUpdate(
        symbol,
        is_snapshot,
        _levels(found.bid_changes),
        _levels(found.ask_changes),
        found.total_bid_amount,
        found.total_ask_amount,
        seconds_ns(found.time),
        _trades(found.trades, symbol) if found.trades else (),
    )


def _levels(rows: list[list[float]]) -> Levels:
    try:
        return tuple([(row[0], row[1]) for row in rows])
    except IndexError:
        raise ValueError("a level without a size") from None


def _lwt(found: _Lwt, symbol: str) -> Touch:
    bid, bid_size = _pair(found.b)
    ask, ask_size = _pair(found.a)
    return Touch(symbol, bid, bid_size, ask, ask_size, found.m, found.l, None)


def _pair(told: list[float] | None) -> tuple[float | None, float | None]:
    if not told:
        return None, None
    if len(told) < 2:
        raise ValueError("a price without a size")
    return told[0], told[1]


def _ticker(found: _Ticker, symbol: str) -> tuple[Touch, MarkPrice]:
    at_ns = seconds_ns(found.mark_timestamp)
    touch = Touch(
        symbol,
        found.best_bid_price,
        found.best_bid_amount,
        found.best_ask_price,
        found.best_ask_amount,
        found.mark_price,
        found.last_price,
        at_ns,
    )
    mark = MarkPrice(
        symbol,
        found.mark_price,
        found.index,
        found.funding_rate,
        found.collar_low,
        found.collar_high,
        at_ns,
    )
    return touch, mark


_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def _trades(rows: Sequence[_Row], symbol: str) -> tuple[PublicTrade, ...]:
    """Rows `[price, size, direction, time, implied]`, or with the instrument's name before `implied`."""
    found: list[PublicTrade] = []
    counts: dict[tuple[Any, ...], int] = {}
    for row in rows:
        price, qty, direction, at_s = row[0], row[1], row[2], row[3]
        side = _SIDES.get(direction) if isinstance(direction, str) else None
        if side is None or not all(isinstance(n, int | float) for n in (price, qty, at_s)):
            raise ValueError("a trade that cannot be read")
        name = row[4] if len(row) > 5 else symbol
        at_ns = seconds_ns(at_s)
        said = (name, at_ns, price, qty, direction)
        counts[said] = nth = counts.get(said, 0) + 1
        trade_id = f"{at_ns}-{direction[0]}-{price}-{qty}-{nth}"
        found.append(PublicTrade(name, trade_id, float(price), float(qty), side, row[-1] is True, at_ns))
    return tuple(found)


class _Answer(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()


class _Klines(msgspec.Struct):
    mark: list[_Row] | None = None
    index: list[_Row] | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_klines = msgspec.json.Decoder(_Klines, strict=False).decode


def decode_klines(raw: bytes, symbol: str, period: str, now_ns: int) -> tuple[Kline, ...]:
    """The answer to `klines_query`, oldest first. A candle is closed when its end is not after `now_ns`."""
    found = _decode_klines(bytes(_decode_answer(raw).result))
    rows = found.mark if found.mark is not None else found.index
    if rows is None:
        raise ValueError("no candles in the answer")
    length_ns = KLINE_PERIODS[period] * 1_000_000_000
    klines = []
    for row in rows:
        start_ns = seconds_ns(row[0])
        prices = (float(row[1]), float(row[2]), float(row[3]), float(row[4]))
        end_ns = start_ns + length_ns
        klines.append(Kline(symbol, period, start_ns, end_ns, *prices, end_ns <= now_ns))
    return tuple(sorted(klines, key=lambda kline: kline.start_ns))


# ---------------------------------------------------------------------------------------------- the book


class Step(enum.Enum):
    """What to do with an update: begin anew with it, fold it in, or drop the book and subscribe again."""

    RESET = "reset"
    APPLY = "apply"
    GAP = "gap"


class Continuity:
    """The chain of updates of one book over one connection. Make a new one for each connection.

    Nothing numbers the updates, so this can only see what must not be: an update before any snapshot, or one
    that is older than the one before it. What else to test is the reader's: a crossed book, the totals of
    the sides, a touch of `lwt` that does not fit; each means to subscribe again.
    """

    __slots__ = ("_last_ns",)

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def feed(self, update: BookUpdate) -> Step:
        """After a GAP nothing fits until the next snapshot."""
        if update.is_snapshot:
            self._last_ns = update.venue_ns
            return Step.RESET
        if self._last_ns is None or update.venue_ns < self._last_ns:
            self._last_ns = None
            return Step.GAP
        self._last_ns = update.venue_ns
        return Step.APPLY


# ---------------------------------------------------------------------------------------------- instruments


class InstrumentRow(msgspec.Struct):
    """One row of `public/instruments`; what bounds our orders."""

    instrument_name: str
    type: str
    tick_size: Decimal
    volume_tick_size: Decimal
    underlying: str = ""
    product: str = ""
    base_currency: str = ""
    min_order_amount: Decimal | None = None
    expiry_date: str | None = None
    expiration_timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """One market: our terms, the product it belongs to, and when it expires (None: never)."""

    instrument: Instrument
    product: str
    expires_ns: int | None


@dataclass(frozen=True, slots=True)
class Markets:
    """Both directions of the names, by table. Only perpetuals and dated futures are in it."""

    by_symbol: Mapping[str, Market]
    by_id: Mapping[InstrumentId, Market]

    def canonical(self, venue_symbol: str) -> InstrumentId:
        """Raises KeyError."""
        return self.by_symbol[venue_symbol].instrument.id

    def venue_symbol(self, instrument: InstrumentId) -> str:
        """Raises KeyError."""
        return self.by_id[instrument].instrument.venue_symbol


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_row = msgspec.json.Decoder(InstrumentRow, strict=False).decode


def decode_markets(
    raw: bytes, fees: FeeRates, underlyings: Mapping[str, tuple[str, str]] = UNDERLYINGS
) -> Markets:
    """A list of instrument rows (the `result` of `public/instruments`). Options and combinations are not
    traded here; a row that cannot be read, or of an underlying that the table does not hold, is left out,
    and logged. Quantities count coins, so the contract size is 1; there is no minimum value.

    Args:
        fees: the venue tells rates only in trades, so these are the account's by setting.

    Raises:
        UNREADABLE: it is no list at all.
    """
    by_symbol: dict[str, Market] = {}
    by_id: dict[InstrumentId, Market] = {}
    for piece in _decode_rows(raw):
        try:
            row = _decode_row(piece)
            if row.type not in ("perpetual", "future"):
                continue
            market = market_of(row, fees, underlyings)
        except UNREADABLE as error:
            log.warning("a market was left out: %s", error)
            continue
        by_symbol[row.instrument_name] = market
        by_id[market.instrument.id] = market
    return Markets(by_symbol, by_id)


def market_of(row: InstrumentRow, fees: FeeRates, underlyings: Mapping[str, tuple[str, str]]) -> Market:
    """Raises ValueError: see `decode_markets`."""
    named = underlyings.get(row.underlying)
    if named is None:
        raise ValueError(f"{row.instrument_name[:40]}: the underlying {row.underlying[:20]!r} is not known")
    base, quote = named
    kind, tail = "perp", "PERP"
    if row.type == "future":
        if not row.expiry_date:
            raise ValueError(f"{row.instrument_name[:40]}: a future without its day")
        kind, tail = "future", date.fromisoformat(row.expiry_date).strftime("%y%m%d")
    lot = plain(row.volume_tick_size)
    least = lot if row.min_order_amount is None else max(lot, plain(row.min_order_amount))
    instrument = Instrument(
        id=InstrumentId.of(NAME, f"{base}-{quote}-{tail}"),
        base=base,
        quote=quote,
        tick=plain(row.tick_size),
        lot=lot,
        min_qty=least,
        min_notional=Decimal(0),
        maker_fee=fees.maker,
        taker_fee=fees.taker,
        venue_symbol=row.instrument_name,
        kind=kind,
        contract_size=Decimal(1),
    )
    expires_s = row.expiration_timestamp if row.type == "future" else None
    return Market(instrument, row.product, None if expires_s is None else expires_s * 1_000_000_000)


def plain(value: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: 0.0100 is 0.01, 1E+1 is 10."""
    if not value.is_finite():
        raise ValueError("a number that is not finite")
    short = value.normalize()
    return short.quantize(Decimal(1)) if int(short.as_tuple().exponent) > 0 else short
