"""Binance spot's account messages: their shapes, and what they mean in our words. Pure.

Hides: field names, milliseconds, statuses. Called by the other files of this folder. Source:
binance-spot-api-docs, rest-api.md, web-socket-api.md, user-data-stream.md, filters.md.

Numbers come as text, and sometimes text as numbers; both are read. A field that is new is ignored. A field
that vanished makes the message unreadable, which the caller types: unknown for a write, unavailable for a
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import msgspec

from api.types import (
    Balance,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    OrderHeard,
    OrderReport,
    Side,
    Status,
)
from api.venues.binance_spot import NAME

MS = 1_000_000  # nanoseconds
ZERO = Decimal(0)
NOTHING = msgspec.Raw()  # a field that was not there
UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, KeyError)

STATUSES: dict[str, Status] = {
    "NEW": Status.OPEN,
    "PENDING_NEW": Status.OPEN,  # a part of an order list that waits for another one
    "PARTIALLY_FILLED": Status.OPEN,
    "PENDING_CANCEL": Status.OPEN,  # "currently unused"; until it is canceled it may trade
    "FILLED": Status.FILLED,
    "CANCELED": Status.CANCELED,
    "REJECTED": Status.REJECTED,
    "EXPIRED": Status.EXPIRED,
    "EXPIRED_IN_MATCH": Status.EXPIRED,  # self-trade prevention
}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}


class Refusal(msgspec.Struct):
    """The body of an error, over HTTP and in a WebSocket answer."""

    code: int
    msg: str = ""
    data: msgspec.Raw = NOTHING


class Used(msgspec.Struct):
    """One entry of `rateLimits`: in `exchangeInfo` without a count; in the documents' sample empty."""

    rateLimitType: str = ""  # the venue's spelling, here and below
    interval: str = ""
    intervalNum: int = 0
    limit: int = 0
    count: int | None = None


class Frame(msgspec.Struct):
    """Anything that comes over the WebSocket API: an answer (`id`, `status`) or a push (`event`)."""

    id: int | str | None = None
    status: int | None = None
    result: msgspec.Raw = NOTHING
    error: Refusal | None = None
    rateLimits: list[Used] | None = None
    event: msgspec.Raw = NOTHING
    subscriptionId: int | None = None
    e: str | None = None


class Kind(msgspec.Struct):
    e: str


class RetryAfter(msgspec.Struct):
    """`data` of a rate-limit error on the WebSocket API; times in milliseconds."""

    retryAfter: int | None = None
    serverTime: int | None = None


class ServerTime(msgspec.Struct):
    serverTime: int


class Subscribed(msgspec.Struct):
    subscriptionId: int


class OrderRow(msgspec.Struct):
    """An order as answers and lists show it. `transactTime` in answers to writes, `updateTime` in reads."""

    symbol: str
    orderId: int
    clientOrderId: str = ""
    origClientOrderId: str = ""
    price: Decimal = ZERO
    origQty: Decimal = ZERO
    executedQty: Decimal = ZERO
    status: str = ""
    side: str = ""
    time: int = 0
    updateTime: int = 0
    transactTime: int = 0
    selfTradePreventionMode: str = ""

    @property
    def own_id(self) -> str:
        """The order's client id: after a cancel `clientOrderId` names the cancel."""
        return self.origClientOrderId or self.clientOrderId


class Listed(msgspec.Struct):
    """One entry of a cancel-all: an order, or an order list with reports of its own."""

    symbol: str = ""
    orderReports: list[OrderRow] | None = None


class Amended(msgspec.Struct):
    """Answer to `order.amend.keepPriority`; `qty` is the new total."""

    amendedOrder: AmendedOrder
    transactTime: int = 0


class AmendedOrder(msgspec.Struct):
    symbol: str
    orderId: int
    clientOrderId: str
    qty: Decimal
    status: str
    origClientOrderId: str = ""
    executedQty: Decimal = ZERO


class TradeRow(msgspec.Struct):
    """A row of `myTrades`. It does not name the client id."""

    symbol: str
    id: int
    orderId: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str
    time: int
    isBuyer: bool
    isMaker: bool


class BalanceRow(msgspec.Struct):
    asset: str
    free: Decimal
    locked: Decimal


class Rates(msgspec.Struct):
    maker: Decimal = ZERO
    taker: Decimal = ZERO
    buyer: Decimal = ZERO
    seller: Decimal = ZERO


class AccountRow(msgspec.Struct):
    """`GET /api/v3/account`. Older answers give `makerCommission` in basis points only."""

    balances: list[BalanceRow]
    canTrade: bool = True
    commissionRates: Rates | None = None
    makerCommission: Decimal | None = None
    takerCommission: Decimal | None = None
    requireSelfTradePrevention: bool = False
    updateTime: int = 0
    uid: int | None = None


class Discount(msgspec.Struct):
    enabledForAccount: bool = False
    enabledForSymbol: bool = False
    discountAsset: str = ""
    discount: Decimal = ZERO


class CommissionRow(msgspec.Struct):
    """`GET /api/v3/account/commission`."""

    symbol: str
    standardCommission: Rates
    specialCommission: Rates = msgspec.field(default_factory=Rates)
    taxCommission: Rates = msgspec.field(default_factory=Rates)
    discount: Discount = msgspec.field(default_factory=Discount)


class Filter(msgspec.Struct):
    """Those fields of a symbol filter that bound what we send; filters of other types carry none of them."""

    filterType: str
    tickSize: Decimal | None = None
    stepSize: Decimal | None = None
    minQty: Decimal | None = None
    maxQty: Decimal | None = None
    minNotional: Decimal | None = None


class SymbolRow(msgspec.Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter]
    baseAssetPrecision: int = 8
    quoteAssetPrecision: int = 8
    orderTypes: list[str] = []
    isSpotTradingAllowed: bool = True
    amendAllowed: bool = False
    defaultSelfTradePreventionMode: str = ""
    allowedSelfTradePreventionModes: list[str] = []


class ExchangeRow(msgspec.Struct):
    symbols: list[SymbolRow]
    rateLimits: list[Used] = []


class Execution(msgspec.Struct):
    """`executionReport`."""

    s: str
    c: str
    S: str
    q: Decimal
    p: Decimal
    x: str
    X: str
    i: int
    z: Decimal
    T: int
    C: str = ""
    r: str = "NONE"
    l: Decimal = ZERO  # noqa: E741
    L: Decimal = ZERO
    n: Decimal | None = None
    N: str | None = None
    t: int = -1
    m: bool = False
    V: str = ""
    eR: str | None = None


class PositionBalance(msgspec.Struct):
    a: str
    f: Decimal
    l: Decimal  # noqa: E741


class AccountPosition(msgspec.Struct):
    """`outboundAccountPosition`: the assets that an event touched."""

    B: list[PositionBalance]
    u: int = 0


decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
decode_kind = msgspec.json.Decoder(Kind, strict=False).decode
decode_refusal = msgspec.json.Decoder(Refusal, strict=False).decode
decode_retry_after = msgspec.json.Decoder(RetryAfter, strict=False).decode
decode_time = msgspec.json.Decoder(ServerTime, strict=False).decode
decode_subscribed = msgspec.json.Decoder(Subscribed, strict=False).decode
decode_order = msgspec.json.Decoder(OrderRow, strict=False).decode
decode_orders = msgspec.json.Decoder(list[OrderRow], strict=False).decode
decode_listed = msgspec.json.Decoder(list[msgspec.Raw], strict=False).decode
decode_list_entry = msgspec.json.Decoder(Listed, strict=False).decode
decode_amended = msgspec.json.Decoder(Amended, strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_account = msgspec.json.Decoder(AccountRow, strict=False).decode
decode_commission = msgspec.json.Decoder(CommissionRow, strict=False).decode
decode_exchange = msgspec.json.Decoder(ExchangeRow, strict=False).decode
decode_execution = msgspec.json.Decoder(Execution, strict=False).decode
decode_position = msgspec.json.Decoder(AccountPosition, strict=False).decode


@dataclass(frozen=True, slots=True)
class Market:
    """One market of the venue: our terms, and what only this venue's files need."""

    instrument: Instrument
    is_trading: bool
    can_amend: bool
    has_post_only: bool
    stp_modes: tuple[str, ...]
    stp_default: str


def plain(value: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent: 0.01000000 is 0.01, 10.0 is 10."""
    short = value.normalize()
    return short if short.as_tuple().exponent <= 0 else short.quantize(Decimal(1))  # type: ignore[operator]


def market_of(row: SymbolRow, maker_fee: Decimal, taker_fee: Decimal) -> Market:
    """One symbol of `exchangeInfo`, exact.

    A tick or step of 0 means that the rule is off (filters.md): then the assets' own precision bounds it. Of
    `NOTIONAL` and the older `MIN_NOTIONAL` either may be there; with both the larger minimum holds. The
    reverse of a symbol is looked up by its assets, never by cutting its name.
    """
    tick = step = min_qty = max_qty = None
    min_notional = ZERO
    for rule in row.filters:
        if rule.filterType == "PRICE_FILTER":
            tick = rule.tickSize
        elif rule.filterType == "LOT_SIZE":
            step, min_qty, max_qty = rule.stepSize, rule.minQty, rule.maxQty
        elif rule.filterType in ("NOTIONAL", "MIN_NOTIONAL") and rule.minNotional is not None:
            min_notional = max(min_notional, rule.minNotional)
    instrument = Instrument(
        id=InstrumentId.of(NAME, f"{row.baseAsset}-{row.quoteAsset}"),
        base=row.baseAsset,
        quote=row.quoteAsset,
        tick=plain(tick) if tick else Decimal(1).scaleb(-row.quoteAssetPrecision),
        lot=plain(step) if step else Decimal(1).scaleb(-row.baseAssetPrecision),
        min_qty=plain(min_qty or ZERO),
        min_notional=plain(min_notional),
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        venue_symbol=row.symbol,
        max_qty=plain(max_qty) if max_qty else None,
    )
    return Market(
        instrument,
        row.status == "TRADING" and row.isSpotTradingAllowed,
        row.amendAllowed,
        "LIMIT_MAKER" in row.orderTypes,
        tuple(row.allowedSelfTradePreventionModes),
        row.defaultSelfTradePreventionMode,
    )


def account_fees(account: AccountRow) -> tuple[Decimal, Decimal]:
    """(maker, taker) of the account as fractions of value, the dearer of buying and selling included.

    Raises:
        ValueError: the answer names no rates (unknown is not zero).
    """
    rates = account.commissionRates
    if rates is not None:
        side = max(rates.buyer, rates.seller)
        return plain(rates.maker + side), plain(rates.taker + side)
    if account.makerCommission is None or account.takerCommission is None:
        raise ValueError("the account names no commission rates")
    return plain(account.makerCommission / 10_000), plain(account.takerCommission / 10_000)


def commission_fees(row: CommissionRow) -> tuple[Decimal, Decimal]:
    """(maker, taker) of one symbol: standard, special and tax rates together, the dearer side; a discount for
    paying in another asset is not taken off (commission_faq.md: it lowers the standard rate only, and only
    while that asset lasts).
    """
    parts = (row.standardCommission, row.specialCommission, row.taxCommission)
    side = max(sum((p.buyer for p in parts), ZERO), sum((p.seller for p in parts), ZERO))
    maker = sum((p.maker for p in parts), ZERO)
    taker = sum((p.taker for p in parts), ZERO)
    return plain(maker + side), plain(taker + side)


def balances_of(account: AccountRow) -> tuple[Balance, ...]:
    return tuple(Balance(row.asset, row.free, row.locked) for row in account.balances)


def report_of(row: OrderRow, instrument: Instrument, now_ns: int) -> OrderReport:
    """An order row as a report. Raises KeyError for a status or side that we do not know."""
    side = SIDES[row.side]
    at_ms = row.updateTime or row.transactTime or row.time
    reason = "self-trade prevention" if row.status == "EXPIRED_IN_MATCH" else ""
    return OrderReport(
        row.own_id,
        instrument.id,
        side,
        instrument.ticks(row.price, side),
        instrument.lots(row.origQty),
        STATUSES[row.status],
        instrument.lots(row.executedQty),
        str(row.orderId),
        at_ms * MS if at_ms else now_ns,
        reason,
    )


def fill_of(row: TradeRow, instrument: Instrument, account: str, client_id: str) -> Fill:
    side = Side.BUY if row.isBuyer else Side.SELL
    return Fill(
        str(row.id),
        client_id,
        str(row.orderId),
        account,
        instrument.id,
        side,
        instrument.ticks(row.price, side),
        instrument.lots(row.qty),
        row.commission,
        row.commissionAsset,
        row.isMaker,
        row.time * MS,
    )


def own_id(execution: Execution) -> str:
    """The order's client id: when `C` is filled, `c` names the cancel (or the amendment) itself."""
    return execution.C or execution.c


def heard(execution: Execution, instrument: Instrument, account: str, at_ns: int) -> list[Event]:
    """An execution report as events: the fill first, then what it makes of the order.

    A status that we do not know gives no report; the fill, if there is one, is told all the same.
    """
    side = SIDES[execution.S]
    events: list[Event] = []
    client_id, venue_id = own_id(execution), str(execution.i)
    if execution.x == "TRADE" and execution.t >= 0 and execution.l > 0:
        fill = Fill(
            str(execution.t),
            client_id,
            venue_id,
            account,
            instrument.id,
            side,
            instrument.ticks(execution.L, side),
            instrument.lots(execution.l),
            execution.n or ZERO,
            execution.N or "",
            execution.m,
            execution.T * MS,
        )
        events.append(FillHeard(at_ns, fill))
    status = STATUSES.get(execution.X)
    if status is not None:
        report = OrderReport(
            client_id,
            instrument.id,
            side,
            instrument.ticks(execution.p, side),
            instrument.lots(execution.q),
            status,
            instrument.lots(execution.z),
            venue_id,
            execution.T * MS,
            _reason(execution),
        )
        events.append(OrderHeard(at_ns, report))
    return events


def _reason(execution: Execution) -> str:
    if execution.X == "EXPIRED_IN_MATCH" or execution.x == "TRADE_PREVENTION":
        return "self-trade prevention"
    if execution.r not in ("", "NONE"):
        return execution.r
    return execution.eR or ""
