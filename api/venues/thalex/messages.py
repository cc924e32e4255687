"""Thalex's private messages and account answers as typed rows, and what they mean to us. Pure.

Hides: field names, states, seconds as numbers. Must not know: sockets, threads, clocks, keys. Called by the
other files of this folder. Source: the exchange's API description (v2), "Accounting" and the private
channels.

Numbers are read as exact decimals, from JSON numbers or from text. A fee is told as paid, which is our sign
too (not verified); what is credited to the account is positive there, and negative here where it is a
payment.
"""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec

from api.exchange import FundingPayment
from api.types import Balance, Fill, Instrument, OrderReport, Position, Side, Status
from api.venues.thalex.errors import DELETED, ENDED_BY_ITSELF
from api.venues.thalex.public import UNREADABLE

__all__ = ["UNREADABLE"]

log = logging.getLogger("makerdeck.thalex")

ZERO = Decimal(0)
NS = 1_000_000_000
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
STATUSES = {
    "open": Status.OPEN,
    "partially_filled": Status.OPEN,
    "filled": Status.FILLED,
    "cancelled": Status.CANCELED,
    "cancelled_partially_filled": Status.CANCELED,
}
FILLS = frozenset({"normal", "block", "combo", "rfq", "liquidation"})
"""Types of trades that are executions of an order."""
CORRECTIONS = frozenset({"amend", "delete"})
"""Types by which the venue changes trades that it told before."""


class Error(msgspec.Struct, gc=False):
    code: int | None = None
    message: str = ""


class Frame(msgspec.Struct, gc=False):
    """The outside of any frame of the socket."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: Error | None = None
    channel_name: str = ""
    notification: msgspec.Raw = msgspec.Raw()
    snapshot: bool = False


class OrderFill(msgspec.Struct, gc=False):
    trade_id: str
    price: Decimal
    amount: Decimal
    maker_taker: str = ""
    time: Decimal | None = None


class OrderRow(msgspec.Struct, gc=False):
    """An order as answers, `account.orders`, `open_orders` and `order_history` tell it."""

    order_id: str
    direction: str
    amount: Decimal
    filled_amount: Decimal
    status: str
    instrument_name: str = ""
    price: Decimal | None = None
    client_order_id: int | None = None
    label: str | float | None = ""
    fills: list[OrderFill] = []
    change_reason: str = ""
    delete_reason: str = ""
    create_time: Decimal | None = None
    close_time: Decimal | None = None
    persistent: bool | None = None


class TradeRow(msgspec.Struct, gc=False):
    """A trade of the account, once it is booked."""

    trade_id: str
    instrument_name: str
    direction: str
    price: Decimal
    amount: Decimal
    time: Decimal
    trade_type: str = "normal"
    order_id: str = ""
    client_order_id: int | None = None
    label: str | float | None = ""
    fee: Decimal | None = None
    fee_rate: Decimal | None = None
    fee_basis: Decimal | None = None
    liquidation_fee: Decimal | None = None
    maker_taker: str = ""


class PositionRow(msgspec.Struct, gc=False):
    instrument_name: str
    position: Decimal
    average_price: Decimal | None = None


class CashRow(msgspec.Struct, gc=False):
    currency: str
    balance: Decimal
    collateral_factor: Decimal | None = None
    collateral_index_price: Decimal | None = None


class Summary(msgspec.Struct, gc=False):
    cash: list[CashRow]
    remaining_margin: Decimal
    margin: Decimal | None = None
    required_margin: Decimal | None = None


class TransactionRow(msgspec.Struct, gc=False):
    asset: str
    time: Decimal
    amount: Decimal
    transaction_type: str = ""
    instrument_name: str = ""


class LoggedIn(msgspec.Struct, gc=False):
    account_number: str = ""


class _Orders(msgspec.Struct, gc=False):
    orders: list[OrderRow]
    bookmark: str | None = None


class _Trades(msgspec.Struct, gc=False):
    trades: list[TradeRow]
    bookmark: str | None = None


class _Transactions(msgspec.Struct, gc=False):
    transactions: list[TransactionRow]
    bookmark: str | None = None


class _System(msgspec.Struct, gc=False):
    event: str = ""


decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
decode_order = msgspec.json.Decoder(OrderRow, strict=False).decode
decode_orders = msgspec.json.Decoder(list[OrderRow], strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradeRow], strict=False).decode
decode_order_page = msgspec.json.Decoder(_Orders, strict=False).decode
decode_trade_page = msgspec.json.Decoder(_Trades, strict=False).decode
decode_transaction_page = msgspec.json.Decoder(_Transactions, strict=False).decode
decode_positions = msgspec.json.Decoder(list[PositionRow], strict=False).decode
decode_summary = msgspec.json.Decoder(Summary, strict=False).decode
decode_system = msgspec.json.Decoder(_System, strict=False).decode
decode_login = msgspec.json.Decoder(LoggedIn, strict=False).decode


def time_ns(seconds: Decimal) -> int:
    return int(seconds * NS)


def is_refused_post_only(row: OrderRow) -> bool:
    """Book-or-cancel ends so when it would have taken; an immediate order without a fill does, too."""
    return row.delete_reason == "immediate_cancel" and row.filled_amount == 0


def report_of(row: OrderRow, instrument: Instrument, client_id: str, at_ns: int) -> OrderReport | None:
    """None: a state that we do not know (logged); nothing is concluded from it.

    Raises:
        ValueError: a direction that is neither, or a number that is no number.
    """
    status = STATUSES.get(row.status)
    if status is None:
        log.warning("order=%s has a status we do not know: %s", client_id, row.status[:40])
        return None
    side = SIDES.get(row.direction)
    if side is None:
        raise ValueError("an order without a side")
    if status is Status.CANCELED and row.delete_reason in ENDED_BY_ITSELF:
        status = Status.EXPIRED
    times = [fill.time for fill in row.fills if fill.time is not None]
    told = row.close_time or (max(times) if times else row.create_time)
    return OrderReport(
        client_id=client_id,
        instrument=instrument.id,
        side=side,
        ticks=0 if row.price is None else instrument.ticks(row.price, side),
        lots=instrument.lots(row.amount),
        status=status,
        filled_lots=instrument.lots(row.filled_amount),
        venue_id=row.order_id,
        venue_ns=at_ns if told is None else time_ns(told),
        reason=DELETED.get(row.delete_reason, row.delete_reason) if status.is_final else "",
    )


def fee_of(row: TradeRow) -> Decimal | None:
    """Paid is positive; None: the row does not tell."""
    fee = row.fee
    if fee is None and row.fee_rate is not None and row.fee_basis is not None:
        fee = row.fee_basis * row.fee_rate * row.amount
    if fee is None:
        return None
    return fee + (row.liquidation_fee or ZERO)


def fill_of(row: TradeRow, instrument: Instrument, account: str, client_id: str) -> tuple[Fill, bool]:
    """The fill, and whether its fee is what the venue told. Where it told none (older trades), the account's
    rate by setting stands in: never zero.

    Raises:
        ValueError: a direction that is neither, or a number that is no number.
    """
    side = SIDES.get(row.direction)
    if side is None:
        raise ValueError("a trade without a side")
    is_maker = row.maker_taker == "maker"
    fee = fee_of(row)
    is_told = fee is not None
    if fee is None:
        fee = (instrument.maker_fee if is_maker else instrument.taker_fee) * row.price * row.amount
    fill = Fill(
        trade_id=row.trade_id,
        client_id=client_id,
        venue_id=row.order_id,
        account=account,
        instrument=instrument.id,
        side=side,
        ticks=instrument.ticks(row.price, side),
        lots=instrument.lots(row.amount),
        fee=fee,
        fee_asset=instrument.quote,
        is_maker=is_maker,
        venue_ns=time_ns(row.time),
    )
    return fill, is_told


def balances_of(told: Summary) -> tuple[Balance, ...]:
    """Cash by currency. `free` is how much of it could go without the margin falling short: the remaining
    margin in that currency (collateral factor and index price applied), at most the balance. A debt is
    all free and negative.
    """
    found = []
    for row in told.cash:
        worth = (row.collateral_index_price or Decimal(1)) * (
            Decimal(1) if row.collateral_factor is None else row.collateral_factor
        )
        free = row.balance
        if row.balance > 0 and worth > 0:
            free = min(row.balance, max(ZERO, told.remaining_margin / worth))
        found.append(Balance(row.currency, free, row.balance - free))
    return tuple(found)


def position_of(row: PositionRow, instrument: Instrument) -> Position | None:
    """None: flat."""
    if row.position == 0:
        return None
    return Position(instrument.id, row.position, row.average_price)


def funding_of(row: TransactionRow, instrument: Instrument, nth: int) -> FundingPayment:
    """`nth`: counts rows of the same time, instrument and asset; the venue gives them no id."""
    at_ns = time_ns(row.time)
    payment_id = f"{at_ns}-{row.instrument_name}-{row.asset}-{nth}"
    return FundingPayment(instrument.id, payment_id, -row.amount, row.asset, at_ns)
