"""Account messages of Binance USDT-M futures and Aster: their shapes, and what they mean in our words. Pure.

Hides: field names, milliseconds, statuses. Must not know: which of the two venues speaks. Called by the other
`usdm_` files. Source: developers.binance.com, derivatives/usds-margined-futures (account, trade, user data
streams); asterdex/api-docs V3, same sections.

Numbers come as text, and sometimes text as numbers; both are read. A field that is new is ignored. A field
that vanished makes the message unreadable, which the caller types: unknown for a write, unavailable for a
read. Answers to writes carry no average and no value since 2026-07-15 (Binance): fills come from the stream
and from `userTrades`, never from an answer.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from api.types import (
    Balance,
    Event,
    Fill,
    FillHeard,
    Instrument,
    OrderHeard,
    OrderReport,
    Position,
    Side,
    Status,
)
from api.venues.usdm_public import MS, UNREADABLE, ZERO, Limit

__all__ = ["MS", "UNREADABLE", "ZERO"]

STATUSES: dict[str, Status] = {
    "NEW": Status.OPEN,
    "PENDING_NEW": Status.OPEN,
    "PARTIALLY_FILLED": Status.OPEN,
    "PENDING_CANCEL": Status.OPEN,  # until it is canceled it may trade
    "FILLED": Status.FILLED,
    "CANCELED": Status.CANCELED,
    "REJECTED": Status.REJECTED,
    "EXPIRED": Status.EXPIRED,
    "EXPIRED_IN_MATCH": Status.EXPIRED,  # self-trade prevention
}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
POST_ONLY = "GTX"
NOTHING = msgspec.Raw()  # a field that was not there


class Refusal(msgspec.Struct):
    """The body of an error, over HTTP and in a WebSocket answer."""

    code: int
    msg: str = ""
    data: msgspec.Raw = NOTHING


class Frame(msgspec.Struct):
    """An answer of the WebSocket API."""

    id: int | str | None = None
    status: int | None = None
    result: msgspec.Raw = NOTHING
    error: Refusal | None = None
    rateLimits: list[Limit] | None = None  # noqa: N815  (the venue's spelling, here and below)


class RetryAfter(msgspec.Struct):
    """`data` of a rate-limit error on the WebSocket API; times in milliseconds."""

    retryAfter: int | None = None  # noqa: N815
    serverTime: int | None = None  # noqa: N815


class ServerTime(msgspec.Struct):
    serverTime: int  # noqa: N815


class ListenKey(msgspec.Struct):
    listenKey: str  # noqa: N815


class OrderRow(msgspec.Struct):
    """An order as answers and lists show it."""

    symbol: str
    orderId: int  # noqa: N815
    status: str
    clientOrderId: str = ""  # noqa: N815
    price: Decimal = ZERO
    origQty: Decimal = ZERO  # noqa: N815
    executedQty: Decimal = ZERO  # noqa: N815
    side: str = ""
    timeInForce: str = ""  # noqa: N815
    time: int = 0
    updateTime: int = 0  # noqa: N815
    selfTradePreventionMode: str = ""  # noqa: N815
    stpMode: str = ""  # noqa: N815

    @property
    def stp(self) -> str:
        return self.selfTradePreventionMode or self.stpMode


class TradeRow(msgspec.Struct):
    """A row of `userTrades`. It does not name the client id."""

    symbol: str
    id: int
    orderId: int  # noqa: N815
    side: str
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str  # noqa: N815
    time: int
    maker: bool


class BalanceRow(msgspec.Struct):
    asset: str
    balance: Decimal
    availableBalance: Decimal  # noqa: N815


class PositionRow(msgspec.Struct):
    symbol: str
    positionAmt: Decimal  # noqa: N815
    entryPrice: Decimal  # noqa: N815
    positionSide: str = "BOTH"  # noqa: N815


class CommissionRow(msgspec.Struct):
    symbol: str
    makerCommissionRate: Decimal  # noqa: N815
    takerCommissionRate: Decimal  # noqa: N815


class IncomeRow(msgspec.Struct):
    incomeType: str  # noqa: N815
    income: Decimal
    asset: str
    time: int
    tranId: int | str  # noqa: N815
    symbol: str = ""


class PositionMode(msgspec.Struct):
    dualSidePosition: bool  # noqa: N815


class AssetsMode(msgspec.Struct):
    multiAssetsMargin: bool  # noqa: N815


class StpMode(msgspec.Struct):
    stpMode: str  # noqa: N815


class Rights(msgspec.Struct):
    """`accountConfig`, or the head of an account answer."""

    canTrade: bool | None = None  # noqa: N815


class KeyRow(msgspec.Struct):
    """`GET /sapi/v1/account/apiRestrictions`."""

    enableFutures: bool | None = None  # noqa: N815
    enableWithdrawals: bool | None = None  # noqa: N815
    ipRestrict: bool | None = None  # noqa: N815


class Done(msgspec.Struct):
    """`{"code": 200, "msg": ...}`: accepted. Aster writes the code as text."""

    code: int = 200


class Countdown(msgspec.Struct):
    symbol: str
    countdownTime: int  # noqa: N815


class Update(msgspec.Struct):
    """`o` of `ORDER_TRADE_UPDATE`."""

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
    f: str = ""
    l: Decimal | None = None  # noqa: E741
    L: Decimal | None = None
    n: Decimal | None = None
    N: str | None = None
    t: int = 0
    m: bool = False
    V: str | None = None
    er: str | int | None = None


class OrderUpdate(msgspec.Struct):
    E: int
    o: Update


class _Moved(msgspec.Struct):
    a: str
    wb: Decimal


class _Account(msgspec.Struct):
    m: str = ""
    B: list[_Moved] = []


class AccountUpdate(msgspec.Struct):
    """`ACCOUNT_UPDATE`: wallet balances after what moved them (`a.m`). What is free it does not say."""

    E: int
    a: _Account


class Pushed(msgspec.Struct):
    """Anything on the private stream, plain or wrapped as a combined stream wraps it."""

    e: str | None = None
    data: msgspec.Raw = NOTHING
    st: int = 1


decode_refusal = msgspec.json.Decoder(Refusal, strict=False).decode
decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
decode_retry_after = msgspec.json.Decoder(RetryAfter, strict=False).decode
decode_time = msgspec.json.Decoder(ServerTime, strict=False).decode
decode_listen_key = msgspec.json.Decoder(ListenKey, strict=False).decode
decode_order = msgspec.json.Decoder(OrderRow, strict=False).decode
decode_orders = msgspec.json.Decoder(list[OrderRow], strict=False).decode
decode_batch = msgspec.json.Decoder(list[msgspec.Raw], strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_balances = msgspec.json.Decoder(list[BalanceRow], strict=False).decode
decode_positions = msgspec.json.Decoder(list[PositionRow], strict=False).decode
decode_commission = msgspec.json.Decoder(CommissionRow, strict=False).decode
decode_income = msgspec.json.Decoder(list[IncomeRow], strict=False).decode
decode_position_mode = msgspec.json.Decoder(PositionMode, strict=False).decode
decode_assets_mode = msgspec.json.Decoder(AssetsMode, strict=False).decode
decode_stp_mode = msgspec.json.Decoder(StpMode, strict=False).decode
decode_rights = msgspec.json.Decoder(Rights, strict=False).decode
decode_key = msgspec.json.Decoder(KeyRow, strict=False).decode
decode_done = msgspec.json.Decoder(Done, strict=False).decode
decode_countdown = msgspec.json.Decoder(Countdown, strict=False).decode
decode_update = msgspec.json.Decoder(OrderUpdate, strict=False).decode
decode_account = msgspec.json.Decoder(AccountUpdate, strict=False).decode
decode_pushed = msgspec.json.Decoder(Pushed, strict=False).decode


def balance_of(row: BalanceRow) -> Balance:
    """`total` is the wallet; `free` what may back new orders, but no more than the wallet and no less than
    nothing: unrealised profit can make more available than there is, and in multi-assets mode other assets
    count too.
    """
    free = max(ZERO, min(row.availableBalance, row.balance))
    return Balance(row.asset, free, row.balance - free)


def position_of(row: PositionRow, instrument: Instrument) -> Position:
    return Position(instrument.id, row.positionAmt, row.entryPrice if row.positionAmt else None)


def report_of(row: OrderRow, instrument: Instrument, now_ns: int) -> OrderReport:
    """An order row as a report. Raises KeyError for a status or side that we do not know."""
    side = SIDES[row.side]
    at_ms = row.updateTime or row.time
    return OrderReport(
        row.clientOrderId,
        instrument.id,
        side,
        instrument.ticks(row.price, side),
        instrument.lots(row.origQty),
        STATUSES[row.status],
        instrument.lots(row.executedQty),
        str(row.orderId),
        at_ms * MS if at_ms else now_ns,
        _why_ended(row.status, row.timeInForce, row.executedQty, None),
    )


def fill_of(row: TradeRow, instrument: Instrument, account: str, client_id: str, fee_sign: int) -> Fill:
    side = SIDES[row.side]
    return Fill(
        str(row.id),
        client_id,
        str(row.orderId),
        account,
        instrument.id,
        side,
        instrument.ticks(row.price, side),
        instrument.lots(row.qty),
        row.commission * fee_sign,
        row.commissionAsset,
        row.maker,
        row.time * MS,
    )


def heard(update: Update, instrument: Instrument, account: str, at_ns: int, fee_sign: int) -> list[Event]:
    """An order update as events: the fill first, then what it makes of the order.

    A liquidation, a deleveraging or a settlement (execution type CALCULATED, client ids of the venue's own)
    fills too. A status that we do not know gives no report; the fill, if there is one, is told all the same.
    """
    side = SIDES[update.S]
    venue_id = str(update.i)
    events: list[Event] = []
    if update.x in ("TRADE", "CALCULATED") and update.t > 0 and update.l and update.L is not None:
        fill = Fill(
            str(update.t),
            update.c,
            venue_id,
            account,
            instrument.id,
            side,
            instrument.ticks(update.L, side),
            instrument.lots(update.l),
            (update.n or ZERO) * fee_sign,
            update.N or instrument.quote,
            update.m,
            update.T * MS,
        )
        events.append(FillHeard(at_ns, fill))
    status = STATUSES.get(update.X)
    if status is not None:
        report = OrderReport(
            update.c,
            instrument.id,
            side,
            instrument.ticks(update.p, side),
            instrument.lots(update.q),
            status,
            instrument.lots(update.z),
            venue_id,
            update.T * MS,
            _why_ended(update.X, update.f, update.z, update.er),
        )
        events.append(OrderHeard(at_ns, report))
    return events


def _why_ended(status: str, tif: str, done: Decimal, told: str | int | None) -> str:
    if status == "EXPIRED_IN_MATCH":
        return "self-trade prevention"
    if status not in ("EXPIRED", "REJECTED"):
        return ""
    if tif == POST_ONLY and not done:
        return "post-only: it would have taken"
    return "" if told in (None, "", 0, "0") else f"expiry reason {told}"
