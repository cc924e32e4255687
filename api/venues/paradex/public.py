"""Paradex's public market data: frames into neutral messages, the book's rule of continuity, subscriptions,
and listings into instruments. Pure.

Hides: Paradex's field names, channels and resolutions. Must not know: sockets, threads, clocks, keys, books.
Called by the other files of this folder and by whoever feeds a book from Paradex.

Source: the AsyncAPI and OpenAPI descriptions of August 2026. What is easily got wrong:

- `deltas` begins with a whole book (`update_type` "s"), then differences ("d"). The book has 15 levels a
  side: a level that leaves the window comes as a delete.
- Neither channel shows RPI orders; `interactive` would, but our orders do not match them.
- The server pings every 55 s and wants the pong within 5 s; the WebSocket line answers by itself. A second
  subscription to the same channel is an error.
- Numbers come as JSON numbers or as text (times and sequences); both are read.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from api.types import Instrument, InstrumentId, Level, Side

VENUE = "paradex"
MS = 1_000_000
SILENCE_S = 75.0  # the server pings every 55 s: without any frame for so long the connection is dead
UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, ArithmeticError)
"""What the decoders raise for a message that is not what Paradex's API says."""

Text: TypeAlias = tuple[str, str]
"""(price in quote per base, size in base), as the venue wrote them; size "0" removes the level."""

PERIODS: Mapping[str, str] = {"1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60"}
"""Our name of a period -> `resolution` of `/markets/klines` (minutes). There is no stream of klines."""


# ------------------------------------------------------------------------------------------- neutral messages


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """All shown levels, best first. `channel` is what it was subscribed as."""

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    seq: int
    venue_ns: int
    channel: str = ""


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Levels that changed, absolute sizes; a deleted one has size "0"."""

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    seq: int
    venue_ns: int
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask, None where a side is empty."""

    venue_symbol: str
    bid: Text | None
    ask: Text | None
    seq: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """`side` is the taker's. `kind`: FILL, LIQUIDATION, RPI..."""

    venue_symbol: str
    trade_id: str
    side: Side
    price: str
    qty: str
    kind: str
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Kline:
    """`volume` in base. Whether the newest one is still open the venue does not say: ask the clock."""

    venue_symbol: str
    period: str
    start_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class Summary:
    """One market's mark price and funding rate of the present period; None: not told."""

    venue_symbol: str
    mark_price: Decimal | None
    funding_rate: Decimal | None


@dataclass(frozen=True, slots=True)
class Control:
    """An answer to one of our requests. `code` 0: it was done; `channel`: the one it was about, if told."""

    number: int
    code: int = 0
    text: str = ""
    channel: str = ""


Message: TypeAlias = DepthSnapshot | DepthDiff | Touch | PublicTrade | Summary | Control


# ------------------------------------------------------------------------------------------------ the wire


class LevelRow(msgspec.Struct, gc=False):
    side: str
    price: str
    size: str = "0"


class BookRow(msgspec.Struct, gc=False):
    seq_no: int
    market: str
    update_type: str
    last_updated_at: int = 0
    inserts: tuple[LevelRow, ...] = ()
    updates: tuple[LevelRow, ...] = ()
    deletes: tuple[LevelRow, ...] = ()


class BboRow(msgspec.Struct, gc=False):
    seq_no: int
    market: str
    last_updated_at: int = 0
    bid: str = ""
    bid_size: str = ""
    ask: str = ""
    ask_size: str = ""


class TradeRow(msgspec.Struct, gc=False):
    id: str
    market: str
    side: str
    size: str
    price: str
    created_at: int
    trade_type: str = "FILL"


class SummaryRow(msgspec.Struct, gc=False):
    symbol: str
    mark_price: str = ""
    funding_rate: str = ""


class Params(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class Failure(msgspec.Struct, gc=False):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class Frame(msgspec.Struct, gc=False):
    """Any JSON-RPC message. `id` is ours; 0 where the venue could not tell it."""

    id: int | None = None
    method: str = ""
    params: Params | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: Failure | None = None


class _BookParams(msgspec.Struct, gc=False):
    channel: str
    data: BookRow


class _BookFrame(msgspec.Struct, gc=False):
    params: _BookParams


class _Subscribed(msgspec.Struct, gc=False):
    channel: str = ""


decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
_decode_book_frame = msgspec.json.Decoder(_BookFrame, strict=False).decode
_decode_bbo = msgspec.json.Decoder(BboRow, strict=False).decode
_decode_trade = msgspec.json.Decoder(TradeRow, strict=False).decode
_decode_summary = msgspec.json.Decoder(SummaryRow, strict=False).decode
_decode_subscribed = msgspec.json.Decoder(_Subscribed, strict=False).decode
_BOOK = b'"channel":"order_book.'
_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}


def decode(raw: bytes) -> tuple[Message, ...]:
    """One frame of a public socket. Empty: a channel we do not read.

    Raises:
        UNREADABLE: it is not what the API says.
    """
    if _BOOK in raw[:120]:
        params = _decode_book_frame(raw).params
        return (book_of(params.data, params.channel),)
    frame = decode_frame(raw)
    if frame.error is not None:
        return (Control(frame.id or 0, frame.error.code or -1, frame.error.message),)
    if frame.params is None:
        if frame.id is None:
            raise ValueError("neither an answer nor a push")
        told = _decode_subscribed(frame.result) if bytes(frame.result).startswith(b"{") else _Subscribed()
        return (Control(frame.id, channel=told.channel),)
    channel, data = frame.params.channel, frame.params.data
    if channel.startswith("order_book."):
        params = _decode_book_frame(raw).params
        return (book_of(params.data, params.channel),)
    if channel.startswith("bbo."):
        return (touch_of(_decode_bbo(data)),)
    if channel.startswith("trades."):
        return (trade_of(_decode_trade(data)),)
    if channel.startswith("markets_summary"):
        row = _decode_summary(data)
        return (Summary(row.symbol, _maybe(row.mark_price), _maybe(row.funding_rate)),)
    return ()


def book_of(row: BookRow, channel: str = "") -> DepthSnapshot | DepthDiff:
    if row.update_type not in ("s", "d"):
        raise ValueError("a book that is neither a snapshot nor a difference")
    bids: list[Text] = []
    asks: list[Text] = []
    for rows in (row.inserts, row.updates):
        for level in rows:
            (bids if _SIDES[level.side] is Side.BUY else asks).append((level.price, level.size))
    for level in row.deletes:
        (bids if _SIDES[level.side] is Side.BUY else asks).append((level.price, "0"))
    at_ns = row.last_updated_at * MS
    if row.update_type == "d":
        return DepthDiff(row.market, tuple(bids), tuple(asks), row.seq_no, at_ns, channel)
    bids.sort(key=lambda text: number(text[0]), reverse=True)
    asks.sort(key=lambda text: number(text[0]))
    return DepthSnapshot(row.market, tuple(bids), tuple(asks), row.seq_no, at_ns, channel)


def touch_of(row: BboRow) -> Touch:
    bid = (row.bid, row.bid_size) if row.bid and row.bid_size else None
    ask = (row.ask, row.ask_size) if row.ask and row.ask_size else None
    return Touch(row.market, bid, ask, row.seq_no, row.last_updated_at * MS)


def trade_of(row: TradeRow) -> PublicTrade:
    return PublicTrade(
        row.market, row.id, _SIDES[row.side], row.price, row.size, row.trade_type, row.created_at * MS
    )


class _RestBook(msgspec.Struct, gc=False):
    market: str
    seq_no: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    last_updated_at: int = 0


class _Trades(msgspec.Struct, gc=False):
    results: tuple[TradeRow, ...]


class _Klines(msgspec.Struct, gc=False):
    results: tuple[tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal], ...]


class _Summaries(msgspec.Struct, gc=False):
    results: tuple[SummaryRow, ...]


_decode_rest_book = msgspec.json.Decoder(_RestBook, strict=False).decode
_decode_rest_trades = msgspec.json.Decoder(_Trades, strict=False).decode
_decode_klines = msgspec.json.Decoder(_Klines, strict=False).decode
_decode_summaries = msgspec.json.Decoder(_Summaries, strict=False).decode


def snapshot_of(body: bytes) -> DepthSnapshot:
    """From `snapshot_path`. Its sequence is of another feed than the sockets' and chains to none of them."""
    row = _decode_rest_book(body)
    return DepthSnapshot(row.market, row.bids, row.asks, row.seq_no, row.last_updated_at * MS)


def trades_of(body: bytes) -> tuple[PublicTrade, ...]:
    """From `/trades?market=`, newest first as the venue gives them. Raises UNREADABLE."""
    return tuple(trade_of(row) for row in _decode_rest_trades(body).results)


def touch_from_rest(body: bytes) -> Touch:
    """From `/bbo/{market}`. Raises UNREADABLE."""
    return touch_of(_decode_bbo(body))


def summaries_of(body: bytes) -> tuple[Summary, ...]:
    """From `/markets/summary`. Raises UNREADABLE."""
    return tuple(
        Summary(row.symbol, _maybe(row.mark_price), _maybe(row.funding_rate))
        for row in _decode_summaries(body).results
    )


def klines_of(venue_symbol: str, period: str, body: bytes) -> tuple[Kline, ...]:
    """From `klines_path`, oldest first. `period` as we spell it. Raises UNREADABLE."""
    if period not in PERIODS:
        raise KeyError(period)
    rows = sorted(_decode_klines(body).results)
    return tuple(Kline(venue_symbol, period, row[0] * MS, *row[1:]) for row in rows)


def snapshot_path(venue_symbol: str, depth: int = 15) -> str:
    return f"/orderbook/{quote(venue_symbol, safe='')}?{urlencode({'depth': depth})}"


def klines_path(venue_symbol: str, period: str, start_ms: int, end_ms: int) -> str:
    """Raises KeyError for a period that Paradex does not have."""
    query = {
        "symbol": venue_symbol,
        "resolution": PERIODS[period],
        "start_at": start_ms,
        "end_at": end_ms,
    }
    return f"/markets/klines?{urlencode(query)}"


# --------------------------------------------------------------------------------------------- subscribing


def book_channel(venue_symbol: str, *, every: str = "50ms") -> str:
    """Differences of 15 levels a side, at most so often ("50ms" or "100ms")."""
    return f"order_book.{venue_symbol}.deltas@15@{every}"


def snapshot_channel(venue_symbol: str, *, every: str = "50ms") -> str:
    """The same levels whole each time: needs no continuity."""
    return f"order_book.{venue_symbol}.snapshot@15@{every}"


def channels(venue_symbol: str, *, every: str = "50ms") -> tuple[str, ...]:
    """What a market needs: book, best bid and ask, trades."""
    return book_channel(venue_symbol, every=every), f"bbo.{venue_symbol}", f"trades.{venue_symbol}"


def request(method: str, params: Mapping[str, object], number: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": number})


def subscriptions(names: Iterable[str], first: int = 1, op: str = "subscribe") -> tuple[bytes, ...]:
    """One message per channel, numbered from `first`."""
    return tuple(request(op, {"channel": name}, first + at) for at, name in enumerate(names))


# ---------------------------------------------------------------------------------------------- continuity


class Verdict(enum.Enum):
    APPLY = "apply"
    IGNORE = "ignore"
    GAP = "gap"


class Continuity:
    """The rule by which a book's messages follow each other on one `deltas` channel.

    A snapshot starts; each difference must carry the next `seq_no`. One that is not newer is IGNOREd. After a
    GAP, and whenever there is doubt (a reconnect, a level off the grid, a crossed book), unsubscribe and
    subscribe again: a new snapshot follows. That the number grows by exactly one is not verified: the
    documents only call it a sequence. If it is wrong the book resubscribes too often, never too rarely; the
    `snapshot` channel is the way out then.
    """

    __slots__ = ("_seq",)

    def __init__(self) -> None:
        self._seq: int | None = None

    @property
    def seq(self) -> int | None:
        """Of what was applied last; None: a snapshot is needed."""
        return self._seq

    def feed(self, message: DepthSnapshot | DepthDiff) -> Verdict:
        if isinstance(message, DepthSnapshot):
            self._seq = message.seq
            return Verdict.APPLY
        last = self._seq
        if last is None:
            return Verdict.GAP
        if message.seq <= last:
            return Verdict.IGNORE
        if message.seq != last + 1:
            self._seq = None
            return Verdict.GAP
        self._seq = message.seq
        return Verdict.APPLY

    def lose(self) -> None:
        """Somebody has doubts: everything is a gap until the next snapshot."""
        self._seq = None


def levels(instrument: Instrument, rows: Iterable[Text]) -> tuple[Level, ...]:
    """Texts as (ticks, lots), exact. Raises ValueError for a price or size off the instrument's grid: its
    terms changed, so the instruments must be read anew.
    """
    tick, lot, found = instrument.tick, instrument.lot, []
    for price, size in rows:
        ticks, off = divmod(number(price), tick)
        lots, rest = divmod(number(size), lot)
        if off or rest:
            raise ValueError(f"{instrument.id}: {price} x {size} is not on its grid of {tick} and {lot}")
        found.append((int(ticks), int(lots)))
    return tuple(found)


# --------------------------------------------------------------------------------------------- instruments


class _Fee(msgspec.Struct, frozen=True, gc=False):
    fee: str = ""


class _Sides(msgspec.Struct, frozen=True, gc=False):
    maker_fee: _Fee | None = None
    taker_fee: _Fee | None = None


class _FeeConfig(msgspec.Struct, frozen=True, gc=False):
    api_fee: _Sides | None = None


class Listing(msgspec.Struct, frozen=True, gc=False):
    """One row of `/markets`. Sizes in base, `min_notional` in USD."""

    symbol: str
    asset_kind: str
    base_currency: str = ""
    quote_currency: str = ""
    settlement_currency: str = ""
    price_tick_size: str = ""
    order_size_increment: str = ""
    min_notional: str = ""
    max_order_size: str = ""
    market_kind: str = "cross"
    trading_mode: str = "STANDARD"
    fee_config: _FeeConfig | None = None


class _Listings(msgspec.Struct, gc=False):
    results: tuple[Listing, ...]


decode_listings = msgspec.json.Decoder(_Listings, strict=False).decode
E8 = Decimal(10) ** 8


@dataclass(frozen=True, slots=True)
class Market:
    """One market: our terms, and a tick and a lot times 10^8, which is how they are signed."""

    instrument: Instrument
    tick_e8: int
    lot_e8: int


def number(text: str) -> Decimal:
    """Raises ValueError for what is no finite number (an empty text neither)."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is no number") from None
    if not value.is_finite():
        raise ValueError(f"{text[:40]!r} is no finite number")
    return value


def _maybe(text: str) -> Decimal | None:
    return number(text) if text else None


def _plain(value: Decimal) -> Decimal:
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]


def _whole_e8(value: Decimal) -> int:
    scaled = value * E8
    if scaled != scaled.to_integral_value():
        raise ValueError("a step with more than eight decimals cannot be signed")
    return int(scaled)


def own_fees(row: Listing) -> tuple[Decimal | None, Decimal | None]:
    """(maker, taker) rates that this market sets for orders of the API; None: the account's rate holds."""
    sides = row.fee_config.api_fee if row.fee_config is not None else None
    if sides is None:
        return None, None
    maker = _maybe(sides.maker_fee.fee) if sides.maker_fee is not None else None
    return maker, _maybe(sides.taker_fee.fee) if sides.taker_fee is not None else None


def market_of(row: Listing, maker_fee: Decimal, taker_fee: Decimal) -> Market:
    """One listing, exact; the fees are the account's, a market's own ones win.

    A perpetual quotes in USD and settles in `settlement_currency`, so it is called `SOL-USDC-PERP`; the names
    come from the fields, never from cutting `symbol`. No minimum quantity is stated: one lot.

    Raises:
        ValueError: terms are missing, or it is of a kind we do not trade (spot, options, isolated margin,
            which needs an account of its own, RFQ alone).
    """
    if row.asset_kind != "PERP":
        raise ValueError(f"kind {row.asset_kind} is not offered")
    if row.market_kind != "cross" or row.trading_mode != "STANDARD":
        raise ValueError(f"{row.market_kind} margin with {row.trading_mode} orders is not offered")
    base, settled = row.base_currency, row.settlement_currency
    if not (base.isalnum() and settled.isalnum()):
        raise ValueError("its currencies are not named")
    own_maker, own_taker = own_fees(row)
    tick, lot = _plain(number(row.price_tick_size)), _plain(number(row.order_size_increment))
    instrument = Instrument(
        id=InstrumentId.of(VENUE, f"{base}-{settled}-PERP"),
        base=base,
        quote=settled,
        tick=tick,
        lot=lot,
        min_qty=lot,
        min_notional=_plain(number(row.min_notional)) if row.min_notional else Decimal(0),
        maker_fee=maker_fee if own_maker is None else own_maker,
        taker_fee=taker_fee if own_taker is None else own_taker,
        venue_symbol=row.symbol,
        kind="perp",
        max_qty=_plain(number(row.max_order_size)) if row.max_order_size else None,
    )
    return Market(instrument, _whole_e8(tick), _whole_e8(lot))


class Symbols:
    """Markets by either name; also by the one that names the quote (`SOL-USD-PERP` for `SOL-USDC-PERP`). Two
    listings of one canonical symbol: the first by name keeps it, the other is named in `left_out`.
    """

    def __init__(self, markets: Iterable[Market] = ()) -> None:
        self.left_out: list[str] = []
        self._ours: dict[InstrumentId, Market] = {}
        self._theirs: dict[str, Market] = {}
        for market in sorted(markets, key=_name_order):
            instrument = market.instrument
            if instrument.id in self._ours:
                self.left_out.append(instrument.venue_symbol)
                continue
            self._ours[instrument.id] = market
            self._theirs[instrument.venue_symbol] = market

    def __len__(self) -> int:
        return len(self._ours)

    def all(self) -> tuple[Market, ...]:
        return tuple(self._ours.values())

    def of(self, instrument: InstrumentId) -> Market | None:
        return self._ours.get(instrument)

    def called(self, venue_symbol: str) -> Market | None:
        return self._theirs.get(venue_symbol)

    def canonical(self, name: str) -> str | None:
        """`SOL-USDC-PERP` for `SOL-USD-PERP` (the venue's name) and for itself; None: not listed."""
        market = self._theirs.get(name) or self._ours.get(InstrumentId.of(VENUE, name))
        return None if market is None else market.instrument.symbol

    def venue_symbol(self, instrument: InstrumentId) -> str | None:
        market = self._ours.get(instrument)
        return None if market is None else market.instrument.venue_symbol


def _name_order(market: Market) -> tuple[int, str]:
    name = market.instrument.venue_symbol
    return len(name), name
