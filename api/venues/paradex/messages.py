"""Paradex's private rows, pushed or asked for, into our events and values. Pure.

Hides: field names, order states and cancel reasons, signs, numbers that come as text or as numbers. Must not
know: sockets, threads, clocks (times are handed in). Called by the other files of this folder.

Source: OpenAPI and AsyncAPI of August 2026. Fees are paid positive as the documents say ("Fee paid by the
user"); the sign of a rebate follows from that and is not verified. A fill's `side` is described as the
taker's: who the fill is of decides (`account`), so the side is handed in here. Paid funding is taken to be
negative in `payment`, since every other amount there is profit positive: not verified (`Settings`).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import msgspec

from api.exchange import FundingPayment
from api.types import Balance, Fill, Instrument, InstrumentId, OrderReport, Position, Side, Status
from api.venues.paradex.errors import is_cancel, is_expiry, refusal_of
from api.venues.paradex.public import MS, UNREADABLE, number

__all__ = ["UNREADABLE"]

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
BOOKED = ("FILL", "RPI")  # fills of orders in the book; others come from liquidations, settlements and blocks


class OrderRow(msgspec.Struct, gc=False):
    id: str
    market: str
    side: str
    size: str
    remaining_size: str
    price: str
    status: str
    client_id: str = ""
    cancel_reason: str = ""
    instruction: str = ""
    stp: str = ""
    type: str = "LIMIT"
    last_updated_at: int = 0
    seq_no: int = 0


class FillRow(msgspec.Struct, gc=False):
    id: str
    order_id: str
    market: str
    side: str
    size: str
    price: str
    fee: str
    fee_currency: str
    liquidity: str
    created_at: int
    client_id: str = ""
    fill_type: str = "FILL"


class AccountRow(msgspec.Struct, gc=False):
    free_collateral: str = ""
    settlement_asset: str = "USDC"
    status: str = ""


class BalanceRow(msgspec.Struct, gc=False):
    token: str
    size: str


class BalanceEventRow(msgspec.Struct, gc=False):
    settlement_asset_name: str = ""
    settlement_asset_balance_after: str = ""


class PositionRow(msgspec.Struct, gc=False):
    market: str
    side: str
    size: str
    status: str = "OPEN"
    average_entry_price: str = ""


class FundingRow(msgspec.Struct, gc=False):
    id: str
    market: str
    payment: str
    created_at: int


class FeesRow(msgspec.Struct, gc=False):
    maker_rate: str = ""
    taker_rate: str = ""


class InfoRow(msgspec.Struct, gc=False):
    account: str
    fees: FeesRow | None = None
    kind: str = ""
    public_key: str = ""


class SubkeyRow(msgspec.Struct, gc=False):
    public_key: str
    allowed_cidrs: list[str] | None = None
    revoked_at: int = 0
    state: str = ""


class MarginRow(msgspec.Struct, gc=False):
    margin_methodology: str = ""


class BustRow(msgspec.Struct, gc=False):
    busted_fill_id: str


class ConfigRow(msgspec.Struct, gc=False):
    starknet_chain_id: str
    l1_chain_id: str = ""
    paraclear_account_hash: str = ""
    paraclear_account_proxy_hash: str = ""


class TimeRow(msgspec.Struct, gc=False):
    server_time: int


class StateRow(msgspec.Struct, gc=False):
    status: str


class TokenRow(msgspec.Struct, gc=False):
    jwt_token: str


class ErrorRow(msgspec.Struct, gc=False):
    error: str
    message: str = ""


class CancelledRow(msgspec.Struct, gc=False):
    """Answer to a cancel over the WebSocket."""

    order_id: str = ""
    status: str = ""


class TakenRow(msgspec.Struct, gc=False):
    """Answer to a new order or a modification over the WebSocket."""

    order: OrderRow


class Orders(msgspec.Struct, gc=False):
    results: list[OrderRow]
    next: str | None = None


class Fills(msgspec.Struct, gc=False):
    results: list[FillRow]
    next: str | None = None


class Fundings(msgspec.Struct, gc=False):
    results: list[FundingRow]
    next: str | None = None


class Balances(msgspec.Struct, gc=False):
    results: list[BalanceRow]


class Positions(msgspec.Struct, gc=False):
    results: list[PositionRow]


class Infos(msgspec.Struct, gc=False):
    results: list[InfoRow]


class Subkeys(msgspec.Struct, gc=False):
    results: list[SubkeyRow]


class _Claims(msgspec.Struct, gc=False):
    exp: int | None = None


T = TypeVar("T")


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind, strict=False)


decode_order = _decoder(OrderRow).decode
decode_orders = _decoder(Orders).decode
decode_fill = _decoder(FillRow).decode
decode_fills = _decoder(Fills).decode
decode_fundings = _decoder(Fundings).decode
decode_account = _decoder(AccountRow).decode
decode_balances = _decoder(Balances).decode
decode_balance_event = _decoder(BalanceEventRow).decode
decode_positions = _decoder(Positions).decode
decode_infos = _decoder(Infos).decode
decode_subkeys = _decoder(Subkeys).decode
decode_margin = _decoder(MarginRow).decode
decode_bust = _decoder(BustRow).decode
decode_config = _decoder(ConfigRow).decode
decode_time = _decoder(TimeRow).decode
decode_state = _decoder(StateRow).decode
decode_token = _decoder(TokenRow).decode
decode_error = _decoder(ErrorRow).decode
decode_taken = _decoder(TakenRow).decode
decode_cancelled = _decoder(CancelledRow).decode
_decode_claims = _decoder(_Claims).decode


def expiry_of(token: str) -> int | None:
    """`exp` of a JWT in epoch seconds; None: unreadable. The signature is the venue's business."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return _decode_claims(raw).exp
    except UNREADABLE:
        return None


def status_of(row: OrderRow, *, rested: bool) -> Status:
    """What an order's state says. `rested`: it was told as open before, so it cannot have been refused."""
    if row.status in ("NEW", "UNTRIGGERED", "OPEN"):
        return Status.OPEN
    if row.status != "CLOSED":
        raise ValueError(f"an order in state {row.status[:40]!r}")
    remaining = number(row.remaining_size)
    if remaining == 0:
        return Status.FILLED
    reason = row.cancel_reason
    if is_cancel(reason) and row.instruction != "IOC":
        return Status.CANCELED
    if is_expiry(reason):
        return Status.EXPIRED
    is_refused = not rested and remaining == number(row.size) and refusal_of(reason) is not None
    if is_refused:
        return Status.REJECTED
    return Status.EXPIRED if row.instruction == "IOC" else Status.CANCELED


def report_of(row: OrderRow, instrument: Instrument, client_id: str, *, rested: bool) -> OrderReport:
    """Raises UNREADABLE."""
    side, size = SIDES[row.side], number(row.size)
    price = number(row.price) if row.price else Decimal(0)
    status = status_of(row, rested=rested)
    filled = size - number(row.remaining_size)
    return OrderReport(
        client_id,
        instrument.id,
        side,
        instrument.ticks(price, side),
        instrument.lots(size),
        status,
        instrument.lots(filled),
        row.id,
        row.last_updated_at * MS,
        reason_of(row.cancel_reason) if row.status == "CLOSED" else "",
    )


def reason_of(cancel_reason: str) -> str:
    """The venue's word, with ours where it is about meeting an own order."""
    shown = cancel_reason[:80]
    return f"self-trade prevention ({shown})" if "SELF" in shown or "STP" in shown else shown


def trade_id_of(row: FillRow) -> str:
    """Ids are unique per type of fill."""
    return row.id if row.fill_type in ("", "FILL") else f"{row.fill_type}:{row.id}"


def fill_of(row: FillRow, instrument: Instrument, account: str, client_id: str, side: Side) -> Fill:
    """Raises UNREADABLE; also for a size, or the price of a trade in the book, off the instrument's grid: its
    terms changed, and money is not rounded.
    """
    price, size = number(row.price), number(row.size)
    if size % instrument.lot or (row.fill_type in BOOKED and price % instrument.tick):
        raise ValueError(f"fill {row.id[:40]} is not on the grid of {instrument.id}")
    return Fill(
        trade_id_of(row),
        client_id,
        row.order_id,
        account,
        instrument.id,
        side,
        instrument.ticks(price, side),
        instrument.lots(size),
        number(row.fee) if row.fee else Decimal(0),
        row.fee_currency,
        row.liquidity == "MAKER",
        row.created_at * MS,
    )


def position_of(row: PositionRow, instrument: InstrumentId) -> Position | None:
    """None: closed. The side decides the sign, whether the size is signed or not."""
    size = abs(number(row.size))
    if row.status != "OPEN" or not size:
        return None
    if row.side not in ("LONG", "SHORT"):
        raise ValueError(f"a position of side {row.side[:20]!r}")
    entry = number(row.average_entry_price) if row.average_entry_price else None
    return Position(instrument, size if row.side == "LONG" else -size, entry)


def funding_of(row: FundingRow, instrument: InstrumentId, asset: str, paid_sign: int) -> FundingPayment:
    """`paid_sign`: the sign that a payment of ours has in `payment`."""
    return FundingPayment(instrument, row.id, number(row.payment) * paid_sign, asset, row.created_at * MS)


@dataclass(frozen=True, slots=True)
class Money:
    """What is held by token, and how much of the settlement asset is free; None: not told yet."""

    held: dict[str, Decimal]
    asset: str
    free: Decimal | None

    def balances(self) -> tuple[Balance, ...]:
        """The settlement asset's free part is the free collateral, as far as it is held at all."""
        found = []
        for token, held in sorted(self.held.items()):
            free = held
            if token == self.asset and self.free is not None:
                free = max(Decimal(0), min(held, self.free))
            found.append(Balance(token, free, held - free))
        return tuple(found)
