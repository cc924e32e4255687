"""OKX's public market data, for spot and for swaps and futures: frames into neutral messages, the book's
rule of continuity, subscriptions, and listings into instruments. Pure.

Hides: OKX's field names, channels, periods and contract terms. Must not know: sockets, threads, clocks,
keys, books. Called by the other files of this folder and by whoever feeds a book from OKX.

Source: OKX API v5, "Order Book Trading > Market Data", "Public Data", change log up to 2026-07. What is
easily got wrong:

- A level is `[price, size, "0", orders]` in text; size 0 removes it. Sizes of swaps and futures are
  **contracts**.
- The book's checksum is a constant 0 since 2026-06-23. Nothing here reads it.
- From August 2026 the first snapshot is no longer promised on the socket: `Continuity` takes either the
  pushed one (`prevSeqId` -1) or one from `GET /api/v5/market/books`, which carries a `seqId`
  (`snapshot_path`).
- The server cuts a connection that is silent for 30 s: send `PING` when it was quiet for `PING_S`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec

from api.types import Instrument, InstrumentId, Level, Side

SPOT, SWAP = "okx_spot", "okx_swap"
INST_TYPES: Mapping[str, tuple[str, ...]] = {SPOT: ("SPOT",), SWAP: ("SWAP", "FUTURES")}
MS = 1_000_000
PING, PONG = b"ping", b"pong"
PING_S = 15.0
MAX_SUBSCRIBE_BYTES = 64 * 1024
SUBSCRIBE_BYTES = 60_000  # of one message, with a margin below the venue's 64 KiB
BOOK_DEPTH = 400
UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, ArithmeticError)
"""What the decoders raise for a message that is not what OKX's API says."""

Text: TypeAlias = tuple[str, ...]
"""(price in quote per base, size in base or contracts, ...), as the venue wrote them; what follows is not
read."""

PERIODS: Mapping[str, str] = {
    "1s": "1s",
    "1m": "1m",
    "3m": "3m",
    "5m": "5m",
    "15m": "15m",
    "30m": "30m",
    "1h": "1H",
    "2h": "2H",
    "4h": "4H",
    "6h": "6Hutc",
    "12h": "12Hutc",
    "1d": "1Dutc",
    "2d": "2Dutc",
    "3d": "3Dutc",
    "5d": "5Dutc",
    "1w": "1Wutc",
    "1M": "1Mutc",
    "3M": "3Mutc",
    "6h+8": "6H",
    "12h+8": "12H",
    "1d+8": "1D",
    "2d+8": "2D",
    "3d+8": "3D",
    "5d+8": "5D",
    "1w+8": "1W",
    "1M+8": "1M",
    "3M+8": "3M",
}
"""Our name of a period -> OKX's. Six hours and longer begin by UTC; `+8` marks those that begin by Hong
Kong time.
"""
_PERIOD_OF = {theirs: ours for ours, theirs in PERIODS.items()}


# ------------------------------------------------------------------------------------------- neutral messages


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """A whole side each, best first. `seq` None: the venue gave none, so no diff can be chained to it."""

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    seq: int | None
    venue_ns: int


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Levels that changed, absolute sizes, between two sequences; None: not told, so nothing chains."""

    venue_symbol: str
    bids: tuple[Text, ...]
    asks: tuple[Text, ...]
    prev_seq: int | None
    seq: int | None
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask, None where a side is empty."""

    venue_symbol: str
    bid: Text | None
    ask: Text | None
    seq: int | None
    venue_ns: int


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """One trade of channel `trades-all`, or `count` matches of one taker in `trades`. `side` is the
    taker's."""

    venue_symbol: str
    trade_id: str
    side: Side
    price: str
    qty: str
    count: int
    venue_ns: int


@dataclass(frozen=True, slots=True)
class Kline:
    """`volume` in contracts for swaps and futures, in base for spot; `quote_volume` in quote."""

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
class Listings:
    """Markets whose terms changed: read the instruments anew (also their `instIdCode`)."""

    rows: tuple[Listing, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """Anything but data. `event`: subscribe, unsubscribe, login, error, notice, channel-conn-count, pong
    ..."""

    event: str
    code: str = ""
    text: str = ""
    channel: str = ""
    venue_symbol: str = ""

    @property
    def is_closing(self) -> bool:
        """The venue will close this connection for an upgrade: open another now."""
        return self.event == "notice" and self.code == "64008"


Message: TypeAlias = DepthSnapshot | DepthDiff | Touch | PublicTrade | Kline | Listings | Control


# ------------------------------------------------------------------------------------------------ the wire


class Arg(msgspec.Struct, gc=False):
    channel: str = ""
    instId: str = ""  # noqa: N815  (the venue's spelling, here and below)
    instType: str = ""  # noqa: N815


class Frame(msgspec.Struct, gc=False):
    arg: Arg | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    event: str = ""
    code: str = ""
    msg: str = ""


class Depth(msgspec.Struct, gc=False):
    asks: tuple[Text, ...]
    bids: tuple[Text, ...]
    ts: int
    seqId: int | None = None  # noqa: N815
    prevSeqId: int | None = None  # noqa: N815


class BookFrame(msgspec.Struct, gc=False):
    """A push of the one channel that matters for speed, in one pass."""

    arg: Arg
    data: tuple[Depth, ...]
    action: str = ""


class Ticker(msgspec.Struct, gc=False):
    instId: str  # noqa: N815
    bidPx: str  # noqa: N815
    bidSz: str  # noqa: N815
    askPx: str  # noqa: N815
    askSz: str  # noqa: N815
    ts: int


class TradeRow(msgspec.Struct, gc=False):
    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: str
    ts: int
    count: int = 1


class Listing(msgspec.Struct, frozen=True, gc=False):
    """One row of `/public/instruments`. `instIdCode` names the market in order operations over WebSocket."""

    instType: str  # noqa: N815
    instId: str  # noqa: N815
    tickSz: str = ""  # noqa: N815
    lotSz: str = ""  # noqa: N815
    minSz: str = ""  # noqa: N815
    state: str = ""
    instIdCode: int | None = None  # noqa: N815
    baseCcy: str = ""  # noqa: N815
    quoteCcy: str = ""  # noqa: N815
    settleCcy: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815
    ctMult: str = ""  # noqa: N815
    ctValCcy: str = ""  # noqa: N815
    ctType: str = ""  # noqa: N815
    maxLmtSz: str = ""  # noqa: N815
    expTime: str = ""  # noqa: N815
    groupId: str = ""  # noqa: N815
    instFamily: str = ""  # noqa: N815


decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
decode_depths = msgspec.json.Decoder(list[Depth], strict=False).decode
decode_tickers = msgspec.json.Decoder(list[Ticker], strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_candles = msgspec.json.Decoder(list[tuple[str, ...]], strict=False).decode
decode_listings = msgspec.json.Decoder(list[Listing], strict=False).decode


def decode(raw: bytes) -> tuple[Message, ...]:
    """One frame of a public or business socket. Empty: a channel we do not read.

    Raises:
        UNREADABLE: it is not what the API says.
    """
    if raw.startswith(_BOOK):
        book = decode_book(raw)
        return tuple([_depth(book.arg.instId, book.action, row) for row in book.data])
    if raw == PONG:
        return (Control("pong"),)
    frame = decode_frame(raw)
    if frame.event:
        channel, symbol = (frame.arg.channel, frame.arg.instId) if frame.arg else ("", "")
        return (Control(frame.event, frame.code, frame.msg, channel, symbol),)
    if frame.arg is None:
        raise ValueError("neither an event nor a channel")
    channel, symbol = frame.arg.channel, frame.arg.instId
    if channel in ("books", "books-l2-tbt", "books50-l2-tbt"):
        return tuple(_depth(symbol, frame.action, row) for row in decode_depths(frame.data))
    if channel == "bbo-tbt":
        return tuple(_touch(symbol, row) for row in decode_depths(frame.data))
    if channel == "books5":
        return tuple(_whole(symbol, row) for row in decode_depths(frame.data))
    if channel in ("trades", "trades-all"):
        return tuple(_trade(row) for row in decode_trades(frame.data))
    if channel == "tickers":
        return tuple(_from_ticker(row) for row in decode_tickers(frame.data))
    if channel.startswith("candle"):
        return tuple(kline_of(symbol, channel[6:], row) for row in decode_candles(frame.data))
    if channel == "instruments":
        return (Listings(tuple(decode_listings(frame.data))),)
    return ()


def _whole(symbol: str, row: Depth) -> DepthSnapshot:
    return DepthSnapshot(symbol, row.bids, row.asks, row.seqId, row.ts * MS)


def _depth(symbol: str, action: str, row: Depth) -> DepthSnapshot | DepthDiff:
    if action == "snapshot":
        return _whole(symbol, row)
    if action != "update":
        raise ValueError("a book that is neither a snapshot nor an update")
    return DepthDiff(symbol, row.bids, row.asks, row.prevSeqId, row.seqId, row.ts * MS)


def _touch(symbol: str, row: Depth) -> Touch:
    bid, ask = row.bids[0] if row.bids else None, row.asks[0] if row.asks else None
    return Touch(symbol, bid, ask, row.seqId, row.ts * MS)


def _from_ticker(row: Ticker) -> Touch:
    bid = (row.bidPx, row.bidSz) if row.bidPx else None
    ask = (row.askPx, row.askSz) if row.askPx else None
    return Touch(row.instId, bid, ask, None, row.ts * MS)


_BOOK = b'{"arg":{"channel":"books","'
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def _trade(row: TradeRow) -> PublicTrade:
    return PublicTrade(row.instId, row.tradeId, _SIDES[row.side], row.px, row.sz, row.count, row.ts * MS)


def kline_of(symbol: str, period: str, row: Sequence[str]) -> Kline:
    """A candle of a push or of `/market/candles` (newest first there). `period` as OKX spells it."""
    if len(row) < 9:
        raise ValueError("a candle has nine fields")
    o, h, low, c, volume, _, quote = (Decimal(text) for text in row[1:8])
    return Kline(symbol, _PERIOD_OF[period], int(row[0]) * MS, o, h, low, c, volume, quote, row[8] == "1")


class _Rows(msgspec.Struct, gc=False):
    code: str
    data: msgspec.Raw = msgspec.Raw(b"[]")
    msg: str = ""


decode_answer = msgspec.json.Decoder(_Rows, strict=False).decode


def rows_of(body: bytes) -> msgspec.Raw:
    """The `data` of a REST answer that is a success. Raises UNREADABLE for anything else."""
    answer = decode_answer(body)
    if answer.code != "0":
        raise ValueError(f"OKX answered with code {answer.code}")
    return answer.data


def snapshot_of(venue_symbol: str, body: bytes) -> DepthSnapshot:
    """From the answer of `snapshot_path`. Raises UNREADABLE."""
    rows = decode_depths(rows_of(body))
    if len(rows) != 1:
        raise ValueError("not one book")
    return _whole(venue_symbol, rows[0])


def klines_of(venue_symbol: str, period: str, body: bytes) -> tuple[Kline, ...]:
    """From the answer of `klines_path`, oldest first. `period` as we spell it. Raises UNREADABLE."""
    rows = decode_candles(rows_of(body))
    return tuple(kline_of(venue_symbol, PERIODS[period], row) for row in reversed(rows))


def listings_path(inst_type: str) -> str:
    """20 per 2 s and address; `inst_type` of `INST_TYPES`. Its `data` is for `decode_listings`."""
    return f"/api/v5/public/instruments?{urlencode({'instType': inst_type})}"


def snapshot_path(venue_symbol: str, depth: int = BOOK_DEPTH) -> str:
    """40 per 2 s and address."""
    return f"/api/v5/market/books?{urlencode({'instId': venue_symbol, 'sz': depth})}"


def klines_path(venue_symbol: str, period: str, limit: int = 300) -> str:
    """40 per 2 s and address. Raises KeyError for a period that OKX does not have."""
    query = {"instId": venue_symbol, "bar": PERIODS[period], "limit": limit}
    return f"/api/v5/market/candles?{urlencode(query)}"


# --------------------------------------------------------------------------------------------- subscribing


def public_args(
    venue_symbols: Iterable[str], channels: Sequence[str] = ("books", "bbo-tbt", "trades")
) -> tuple[dict[str, str], ...]:
    """What a market needs on the public socket."""
    return tuple({"channel": channel, "instId": s} for s in venue_symbols for channel in channels)


def kline_args(venue_symbols: Iterable[str], period: str) -> tuple[dict[str, str], ...]:
    """For the **business** socket. Raises KeyError for a period that OKX does not have."""
    return tuple({"channel": f"candle{PERIODS[period]}", "instId": s} for s in venue_symbols)


def subscriptions(args: Iterable[Mapping[str, str]], op: str = "subscribe") -> tuple[bytes, ...]:
    """As few messages as the limit of 64 KiB each allows. 480 of them an hour and connection, logins
    included.
    """
    messages: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for arg in args:
        text = msgspec.json.encode(arg)
        if batch and size + len(text) > SUBSCRIBE_BYTES:
            messages.append(b'{"op":"%b","args":[%b]}' % (op.encode(), b",".join(batch)))
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        messages.append(b'{"op":"%b","args":[%b]}' % (op.encode(), b",".join(batch)))
    return tuple(messages)


# ---------------------------------------------------------------------------------------------- continuity


class Verdict(enum.Enum):
    APPLY = "apply"
    IGNORE = "ignore"
    GAP = "gap"


class Continuity:
    """The rule by which a book's diffs follow each other ("Order book channel > Sequence ID").

    Start with `start` for a snapshot (pushed, or read); then `feed` each diff: APPLY it, IGNORE it
    (already in the snapshot, or a heartbeat of a quiet market), or GAP: drop the book and begin anew.
    Every diff's `prev_seq` must be the `seq` before it. A `seq` below its own `prev_seq` is the venue's
    reset after maintenance and valid as long as it chains. The first diff after a *read* snapshot may
    begin before it, since the read one comes from a cache at another moment: it must end behind it.
    """

    __slots__ = ("_is_bridged", "_seq")

    def __init__(self) -> None:
        self._seq: int | None = None
        self._is_bridged = False

    @property
    def seq(self) -> int | None:
        """Of what was applied last; None: a snapshot is needed."""
        return self._seq

    def start(self, snapshot: DepthSnapshot, *, is_pushed: bool) -> Verdict:
        """APPLY, or GAP for a snapshot that carries no sequence."""
        self._seq = snapshot.seq
        self._is_bridged = is_pushed
        return Verdict.GAP if snapshot.seq is None else Verdict.APPLY

    def feed(self, diff: DepthDiff) -> Verdict:
        last = self._seq
        if last is None or diff.seq is None or diff.prev_seq is None:
            self._seq = None
            return Verdict.GAP
        if diff.prev_seq == last:
            self._is_bridged = True
            self._seq = diff.seq
            is_heartbeat = diff.seq == last and not diff.bids and not diff.asks
            return Verdict.IGNORE if is_heartbeat else Verdict.APPLY
        if not self._is_bridged:
            if diff.prev_seq <= diff.seq <= last:
                return Verdict.IGNORE
            if diff.prev_seq < last < diff.seq:
                self._is_bridged = True
                self._seq = diff.seq
                return Verdict.APPLY
        self._seq = None
        return Verdict.GAP


def levels(instrument: Instrument, rows: Iterable[Text]) -> tuple[Level, ...]:
    """Texts as (ticks, lots), exact. Raises ValueError for a price or size off the instrument's grid: its
    terms changed, so the instruments must be read anew.
    """
    tick, lot, found = instrument.tick, instrument.lot, []
    for row in rows:
        price, size = row[0], row[1]
        ticks, off = divmod(number(price), tick)
        lots, rest = divmod(number(size), lot)
        if off or rest:
            raise ValueError(f"{instrument.id}: {price} x {size} is not on its grid of {tick} and {lot}")
        found.append((int(ticks), int(lots)))
    return tuple(found)


# --------------------------------------------------------------------------------------------- instruments


@dataclass(frozen=True, slots=True)
class Market:
    """One market: our terms, and what only this venue's files need. `code` None: not told, so its orders
    leave over HTTP.
    """

    instrument: Instrument
    inst_type: str
    code: int | None
    group: str
    family: str
    state: str

    @property
    def is_trading(self) -> bool:
        return self.state in ("live", "post_only")


def number(text: str) -> Decimal:
    """Raises ValueError for what is no finite number (an empty text neither)."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is no number") from None
    if not value.is_finite():
        raise ValueError(f"{text[:40]!r} is no finite number")
    return value


def _plain(value: Decimal) -> Decimal:
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]


_CURRENCY = re.compile(r"[A-Za-z0-9]{1,30}")


def market_of(row: Listing, maker_fee: Decimal, taker_fee: Decimal) -> Market:
    """One listing, exact. Sizes of swaps and futures stay in contracts: `lot`, `min_qty`, `max_qty` count
    contracts and `contract_size` is base units per contract (`ctVal` x `ctMult`).

    The canonical symbol comes from the currencies' own fields, never from cutting `instId`; a dated future
    is named by the UTC day on which it expires.

    Raises:
        ValueError: terms are missing, it is an inverse contract (its value is not price times size, which
            is what an `Instrument` says), or it is of a type we do not trade.
    """
    if row.instType == "SPOT":
        venue, kind, base, quote, size = SPOT, "spot", row.baseCcy, row.quoteCcy, Decimal(1)
        symbol = f"{base}-{quote}"
    elif row.instType in ("SWAP", "FUTURES"):
        if row.ctType != "linear":
            raise ValueError(f"{row.ctType or 'unnamed'} contracts are not offered")
        venue, base, quote = SWAP, row.ctValCcy, row.settleCcy
        size = number(row.ctVal) * (number(row.ctMult) if row.ctMult else Decimal(1))
        if size <= 0:
            raise ValueError("a contract of no size")
        kind, tail = "perp", "PERP"
        if row.instType == "FUTURES":
            kind = "future"
            tail = datetime.fromtimestamp(int(row.expTime) / 1000, UTC).strftime("%y%m%d")
        symbol = f"{base}-{quote}-{tail}"
    else:
        raise ValueError(f"type {row.instType} is not offered")
    if _CURRENCY.fullmatch(base) is None or _CURRENCY.fullmatch(quote) is None:
        raise ValueError("its currencies are not named")
    instrument = Instrument(
        id=InstrumentId.of(venue, symbol),
        base=base,
        quote=quote,
        tick=_plain(number(row.tickSz)),
        lot=_plain(number(row.lotSz)),
        min_qty=_plain(number(row.minSz)),
        min_notional=Decimal(0),
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        venue_symbol=row.instId,
        kind=kind,
        contract_size=_plain(size),
        max_qty=_plain(number(row.maxLmtSz)) if row.maxLmtSz else None,
    )
    return Market(instrument, row.instType, row.instIdCode, row.groupId, row.instFamily, row.state)


class Symbols:
    """Markets by either name. Two listings of one canonical symbol (a second contract family on the same
    coins): the first by `instId` keeps it, the other is left out and named in `left_out`.
    """

    def __init__(self, markets: Iterable[Market]) -> None:
        self.left_out: list[str] = []
        self._ours: dict[InstrumentId, Market] = {}
        self._theirs: dict[str, Market] = {}
        for market in sorted(
            markets, key=lambda m: (len(m.instrument.venue_symbol), m.instrument.venue_symbol)
        ):
            if market.instrument.id in self._ours:
                self.left_out.append(market.instrument.venue_symbol)
                continue
            self._ours[market.instrument.id] = market
            self._theirs[market.instrument.venue_symbol] = market

    def __len__(self) -> int:
        return len(self._ours)

    def all(self) -> tuple[Market, ...]:
        return tuple(self._ours.values())

    def of(self, instrument: InstrumentId) -> Market | None:
        return self._ours.get(instrument)

    def called(self, venue_symbol: str) -> Market | None:
        return self._theirs.get(venue_symbol)

    def canonical(self, venue_symbol: str) -> str | None:
        """`SOL-USDC-PERP` for `SOL-USDC-SWAP`; None: not listed."""
        market = self._theirs.get(venue_symbol)
        return None if market is None else market.instrument.symbol

    def venue_symbol(self, instrument: InstrumentId) -> str | None:
        market = self._ours.get(instrument)
        return None if market is None else market.instrument.venue_symbol
