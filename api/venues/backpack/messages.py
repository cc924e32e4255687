"""Backpack's account messages: their shapes, and what they mean in our words. Pure.

Hides: field names, three units of time (microseconds in the stream, milliseconds in answers, ISO text in
histories), statuses. Called by the other files of this folder. Source: the OpenAPI description, tags
"Streams", "Order", "History", "Capital".

Numbers come as text, and sometimes text as numbers; both are read. A field that is new is ignored. A field
that vanished makes the message unreadable, which the caller types: unknown for a write, unavailable for a
read.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from api.exchange import FundingPayment
from api.types import Fill, Instrument, InstrumentId, OrderReport, Position, Side, Status
from api.venues.backpack.errors import told
from api.venues.backpack.public import UNREADABLE, US, iso_ns

__all__ = ["UNREADABLE"]

MS = 1_000_000  # nanoseconds
ZERO = Decimal(0)

STATUSES: dict[str, Status] = {
    "New": Status.OPEN,
    "PartiallyFilled": Status.OPEN,
    "TriggerPending": Status.OPEN,  # a conditional order that somebody placed by hand
    "Filled": Status.FILLED,
    "Cancelled": Status.CANCELED,
    "Expired": Status.EXPIRED,
    "TriggerFailed": Status.EXPIRED,
}
SIDES = {"Bid": Side.BUY, "Ask": Side.SELL}


class Refusal(msgspec.Struct):
    code: str
    message: str = ""


class OrderRow(msgspec.Struct):
    """An order in answers to writes, in the list of open ones (`createdAt` in milliseconds) and in the
    history (ISO text). Answers to writes do not say why an order expired; the history does.
    """

    id: str
    symbol: str
    side: str
    status: str
    createdAt: str | int  # their spelling, here and below
    clientId: int | None = None
    price: Decimal | None = None
    quantity: Decimal | None = None
    executedQuantity: Decimal | None = None
    expiryReason: str | None = None
    selfTradePrevention: str = ""
    timeInForce: str = ""
    postOnly: bool | None = None

    @property
    def created_ns(self) -> int:
        if isinstance(self.createdAt, int):
            return self.createdAt * MS
        text = self.createdAt
        return int(text) * MS if text.isdigit() else iso_ns(text)


class BatchRow(msgspec.Struct):
    """One result of a batch: an order (`operation` Ok), or why there is none (Err)."""

    operation: str
    code: str = ""
    message: str = ""
    id: str = ""
    clientId: int | None = None


class FillRow(msgspec.Struct):
    """A row of the fill history. `fee` is positive when paid. Fills by the system (a liquidation) carry no
    client id; those before November 2025 may carry no trade id, or 0.
    """

    orderId: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    feeSymbol: str
    isMaker: bool
    timestamp: str
    clientId: int | None = None
    tradeId: int | None = None
    systemOrderType: str | None = None


class Capital(msgspec.Struct):
    available: Decimal
    locked: Decimal
    staked: Decimal = ZERO


class CollateralRow(msgspec.Struct):
    symbol: str
    totalQuantity: Decimal
    lendQuantity: Decimal
    availableQuantity: Decimal
    openOrderQuantity: Decimal = ZERO
    balanceNotional: Decimal = ZERO
    collateralValue: Decimal = ZERO


class MarginRow(msgspec.Struct):
    collateral: list[CollateralRow]
    netEquity: Decimal
    netEquityAvailable: Decimal
    imf: Decimal
    mmf: Decimal
    marginFraction: Decimal | None = None
    unsettledEquity: Decimal = ZERO
    pnlUnrealized: Decimal = ZERO


class AccountRow(msgspec.Struct):
    """Fees in basis points by the document (`Settings.fee_unit`), negative for a rebate."""

    spotMakerFee: Decimal
    spotTakerFee: Decimal
    futuresMakerFee: Decimal
    futuresTakerFee: Decimal
    autoLend: bool
    liquidating: bool = False


class PositionRow(msgspec.Struct):
    symbol: str
    netQuantity: Decimal
    entryPrice: Decimal


class FundingRow(msgspec.Struct):
    """`quantity` is positive when received."""

    symbol: str
    quantity: Decimal
    intervalEndTimestamp: str
    fundingRate: Decimal = ZERO


class AddressRow(msgspec.Struct):
    address: str


class StatusRow(msgspec.Struct):
    status: str
    message: str | None = None


class Update(msgspec.Struct):
    """`account.orderUpdate`. Times in microseconds. `Q`, of a market order by value, is not needed."""

    e: str
    s: str
    S: str
    X: str
    i: str
    T: int
    c: int | None = None
    q: Decimal | None = None
    p: Decimal | None = None
    z: Decimal | None = None
    R: str | None = None
    t: int | None = None
    l: Decimal | None = None  # noqa: E741
    L: Decimal | None = None
    m: bool | None = None
    n: Decimal | None = None
    N: str | None = None
    V: str = ""
    O: str = "USER"  # noqa: E741


class PositionUpdate(msgspec.Struct):
    """`account.positionUpdate`; without `e` it is the snapshot after the subscription."""

    s: str
    q: Decimal
    B: Decimal
    T: int | None = None
    e: str | None = None


class StreamRefusal(msgspec.Struct):
    code: int | str = ""
    message: str = ""


class Frame(msgspec.Struct):
    """Anything on the private socket. How an error looks is not documented: both likely forms are read."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    error: StreamRefusal | str | None = None
    code: int | str | None = None
    message: str = ""


decode_refusal = msgspec.json.Decoder(Refusal, strict=False).decode
decode_order = msgspec.json.Decoder(OrderRow, strict=False).decode
decode_orders = msgspec.json.Decoder(list[OrderRow], strict=False).decode
decode_batch = msgspec.json.Decoder(list[msgspec.Raw], strict=False).decode
decode_batch_row = msgspec.json.Decoder(BatchRow, strict=False).decode
decode_fills = msgspec.json.Decoder(list[FillRow], strict=False).decode
decode_capital = msgspec.json.Decoder(dict[str, Capital], strict=False).decode
decode_margin = msgspec.json.Decoder(MarginRow, strict=False).decode
decode_account = msgspec.json.Decoder(AccountRow, strict=False).decode
decode_positions = msgspec.json.Decoder(list[PositionRow], strict=False).decode
decode_funding = msgspec.json.Decoder(list[FundingRow], strict=False).decode
decode_address = msgspec.json.Decoder(AddressRow, strict=False).decode
decode_status = msgspec.json.Decoder(StatusRow, strict=False).decode
decode_update = msgspec.json.Decoder(Update, strict=False).decode
decode_position_update = msgspec.json.Decoder(PositionUpdate, strict=False).decode
decode_frame = msgspec.json.Decoder(Frame, strict=False).decode


def decode_time(body: bytes) -> int:
    """`GET /api/v1/time` is plain text: milliseconds. Raises ValueError."""
    text = body.decode("ascii").strip().strip('"')
    if not text.isdigit() or not 10**12 <= int(text) < 10**14:
        raise ValueError("no time in milliseconds")
    return int(text)


def report_of(row: OrderRow, instrument: Instrument, client_id: str) -> OrderReport:
    """An order row as a report. Raises KeyError for a status or side that we do not know, ValueError for an
    order without price or size (a market order by value: none of ours).
    """
    side = SIDES[row.side]
    if row.quantity is None:
        raise ValueError(f"order {row.id} names no quantity")
    filled = row.executedQuantity
    return OrderReport(
        client_id,
        instrument.id,
        side,
        0 if row.price is None else instrument.ticks(row.price, side),
        instrument.lots(row.quantity),
        STATUSES[row.status],
        None if filled is None else instrument.lots(filled),
        row.id,
        row.created_ns,
        told(row.expiryReason),
    )


def fill_of(row: FillRow, instrument: Instrument, account: str, client_id: str) -> Fill:
    """A row without a trade id gets one made of what it says, the same each time."""
    side = SIDES[row.side]
    return Fill(
        str(row.tradeId) if row.tradeId else f"{row.orderId}/{row.timestamp}/{row.price}/{row.quantity}",
        client_id,
        row.orderId,
        account,
        instrument.id,
        side,
        instrument.ticks(row.price, side),
        instrument.lots(row.quantity),
        row.fee,
        row.feeSymbol,
        row.isMaker,
        iso_ns(row.timestamp),
    )


def fill_heard(update: Update, instrument: Instrument, account: str, client_id: str) -> Fill | None:
    """The fill that an `orderFill` brings; None for other kinds. Raises ValueError when it is not whole."""
    if update.e != "orderFill":
        return None
    qty, price, fee = update.l, update.L, update.n
    if update.t is None or qty is None or price is None or fee is None or update.m is None:
        raise ValueError("a fill that does not name its trade, size, price, side or fee")
    side = SIDES[update.S]
    return Fill(
        str(update.t),
        client_id,
        update.i,
        account,
        instrument.id,
        side,
        instrument.ticks(price, side),
        instrument.lots(qty),
        fee,
        update.N or "",
        update.m,
        update.T * US,
    )


def report_heard(
    update: Update, instrument: Instrument, client_id: str, rests: tuple[int, int] | None
) -> OrderReport | None:
    """An update as a report; None for a state we do not know, or an order by value, which has no size.

    Args:
        rests: (ticks, lots) as known before, for the kinds that do not repeat them.
    """
    status, side = STATUSES.get(update.X), SIDES[update.S]
    if status is None:
        return None
    ticks, lots = rests or (0, 0)
    if update.p is not None:
        ticks = instrument.ticks(update.p, side)
    if update.q is not None:
        lots = instrument.lots(update.q)
    if lots <= 0:
        return None
    return OrderReport(
        client_id,
        instrument.id,
        side,
        ticks,
        lots,
        status,
        None if update.z is None else instrument.lots(update.z),
        update.i,
        update.T * US,
        told(update.R),
    )


def position_of(row: PositionRow, instrument: InstrumentId) -> Position:
    return Position(instrument, row.netQuantity, row.entryPrice if row.netQuantity else None)


def funding_of(row: FundingRow, instrument: Instrument) -> FundingPayment:
    """Ours is positive when paid, theirs when received. Paid in the quote asset."""
    return FundingPayment(
        instrument.id,
        f"{row.symbol}/{row.intervalEndTimestamp}",
        -row.quantity,
        instrument.quote,
        iso_ns(row.intervalEndTimestamp),
    )
