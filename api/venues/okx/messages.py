"""OKX's private messages and account answers as typed rows, and what they mean to us. Pure.

Hides: field names, states, the sign of fees, contracts. Must not know: sockets, threads, clocks, keys. Called
by the other files of this folder. Source: OKX API v5, "Trading Account", "Order Book Trading > Trade".

Everything is text there, and an empty text is a null. A fee or a rate that is negative was paid; here what is
paid is positive. Sizes of swaps and futures are contracts: lots here, times `contract_size` where a base
quantity is told.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from api.exchange import AccountMode, FeeRates, FundingPayment, KeyRights
from api.types import (
    Balance,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    OrderHeard,
    OrderReport,
    Position,
    Side,
    Status,
)
from api.venues.okx.errors import CANCEL_SOURCES, ENDED_BY_ITSELF
from api.venues.okx.public import MS, UNREADABLE, Arg, number, rows_of

__all__ = ["MS", "UNREADABLE", "rows_of"]

log = logging.getLogger("makerdeck.okx")

ZERO = Decimal(0)
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
STATUSES = {
    "live": Status.OPEN,
    "partially_filled": Status.OPEN,
    "filled": Status.FILLED,
    "canceled": Status.CANCELED,
    "mmp_canceled": Status.CANCELED,
}
FUNDING = frozenset({"173", "174"})  # bill sub-types: funding paid, funding received
MARGIN_MODES = frozenset({"3", "4"})  # account levels in which `availEq` says what is free


class Frame(msgspec.Struct, gc=False):
    """The outside of any frame of the private socket."""

    event: str = ""
    id: str | None = None
    op: str = ""
    code: str = ""
    msg: str = ""
    arg: Arg | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class Item(msgspec.Struct, gc=False):
    """One item of an answer to an order request. Its own `sCode` decides, not the answer's `code`."""

    sCode: str  # noqa: N815  (the venue's spelling, here and below)
    sMsg: str = ""  # noqa: N815
    ordId: str = ""  # noqa: N815
    clOrdId: str = ""  # noqa: N815


class Answer(msgspec.Struct, gc=False):
    """The outside of any REST answer."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class OrderRow(msgspec.Struct, gc=False):
    """An order, of channel `orders` or of a REST list. The fill fields are the push's."""

    instId: str  # noqa: N815
    ordId: str  # noqa: N815
    side: str
    state: str
    sz: str
    px: str = ""
    clOrdId: str = ""  # noqa: N815
    accFillSz: str = ""  # noqa: N815
    uTime: str = ""  # noqa: N815
    cTime: str = ""  # noqa: N815
    ordType: str = ""  # noqa: N815
    cancelSource: str = ""  # noqa: N815
    stpMode: str = ""  # noqa: N815
    tag: str = ""
    tradeId: str = ""  # noqa: N815
    fillPx: str = ""  # noqa: N815
    fillSz: str = ""  # noqa: N815
    fillFee: str = ""  # noqa: N815
    fillFeeCcy: str = ""  # noqa: N815
    fillTime: str = ""  # noqa: N815
    fee: str = ""
    feeCcy: str = ""  # noqa: N815
    execType: str = ""  # noqa: N815
    amendResult: str = ""  # noqa: N815
    msg: str = ""


class FillRow(msgspec.Struct, gc=False):
    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    ordId: str  # noqa: N815
    fillPx: str  # noqa: N815
    fillSz: str  # noqa: N815
    side: str
    billId: str  # noqa: N815
    ts: int
    fee: str = ""
    feeCcy: str = ""  # noqa: N815
    clOrdId: str = ""  # noqa: N815
    execType: str = ""  # noqa: N815
    fillTime: str = ""  # noqa: N815


class Detail(msgspec.Struct, gc=False):
    ccy: str
    cashBal: str = ""  # noqa: N815
    availBal: str = ""  # noqa: N815
    availEq: str = ""  # noqa: N815
    frozenBal: str = ""  # noqa: N815


class AccountRow(msgspec.Struct, gc=False):
    details: list[Detail]


class PositionRow(msgspec.Struct, gc=False):
    instId: str  # noqa: N815
    pos: str
    posSide: str  # noqa: N815
    avgPx: str = ""  # noqa: N815
    instType: str = ""  # noqa: N815


class FeeGroup(msgspec.Struct, gc=False):
    groupId: str  # noqa: N815
    maker: str
    taker: str


class FeeRow(msgspec.Struct, gc=False):
    """`maker` and `taker` are the older, flat form."""

    maker: str = ""
    taker: str = ""
    feeGroup: list[FeeGroup] = []  # noqa: N815


class ConfigRow(msgspec.Struct, gc=False):
    acctLv: str  # noqa: N815
    posMode: str = ""  # noqa: N815
    perm: str = ""
    ip: str | None = None
    acctStpMode: str = ""  # noqa: N815
    uid: str = ""


class BillRow(msgspec.Struct, gc=False):
    billId: str  # noqa: N815
    ccy: str
    balChg: str  # noqa: N815
    subType: str  # noqa: N815
    ts: int
    instId: str = ""  # noqa: N815
    posBalChg: str = ""  # noqa: N815


class TimeRow(msgspec.Struct, gc=False):
    ts: int


decode_frame = msgspec.json.Decoder(Frame, strict=False).decode
decode_items = msgspec.json.Decoder(list[Item], strict=False).decode
decode_answer = msgspec.json.Decoder(Answer, strict=False).decode
decode_orders = msgspec.json.Decoder(list[OrderRow], strict=False).decode
decode_fills = msgspec.json.Decoder(list[FillRow], strict=False).decode
decode_accounts = msgspec.json.Decoder(list[AccountRow], strict=False).decode
decode_positions = msgspec.json.Decoder(list[PositionRow], strict=False).decode
decode_fees = msgspec.json.Decoder(list[FeeRow], strict=False).decode
decode_configs = msgspec.json.Decoder(list[ConfigRow], strict=False).decode
decode_bills = msgspec.json.Decoder(list[BillRow], strict=False).decode
decode_times = msgspec.json.Decoder(list[TimeRow], strict=False).decode


@dataclass(frozen=True, slots=True)
class Mode:
    """The account's settings that orders depend on. `level`: OKX's `acctLv`, "1" spot only to "4"
    portfolio."""

    level: str
    is_hedged: bool


# ------------------------------------------------------------------------------------------------ orders


def status_of(row: OrderRow) -> Status | None:
    """None: a state that we do not know."""
    status = STATUSES.get(row.state)
    if status is Status.CANCELED and row.cancelSource in ENDED_BY_ITSELF:
        return Status.EXPIRED
    return status


def reason_of(row: OrderRow) -> str:
    if row.state == "mmp_canceled":
        return "canceled: market maker protection"
    if row.state == "canceled" and row.cancelSource:
        return CANCEL_SOURCES.get(row.cancelSource, f"canceled for reason {row.cancelSource[:8]}")
    if row.amendResult == "-1":
        return f"the amendment failed: {row.msg}" if row.msg else "the amendment failed"
    return ""


def report_of(row: OrderRow, instrument: Instrument, client_id: str, now_ns: int) -> OrderReport:
    """An order row as a report. An order without a price (somebody's market order) shows 0 ticks.

    Raises:
        KeyError: a status or side that we do not know. ValueError: a number that is none.
    """
    side = SIDES[row.side]
    status = status_of(row)
    if status is None:
        raise KeyError(f"state {row.state[:40]}")
    at = row.uTime or row.cTime
    return OrderReport(
        client_id,
        instrument.id,
        side,
        instrument.ticks(number(row.px), side) if row.px and row.px != "-1" else 0,
        instrument.lots(number(row.sz)),
        status,
        instrument.lots(number(row.accFillSz)) if row.accFillSz else None,
        row.ordId,
        int(at) * MS if at else now_ns,
        reason_of(row),
    )


def trade_key(trade_id: str, order_id: str) -> str:
    """A trade id alone names a match, of which two orders of ours could be the two sides."""
    return f"{trade_id}-{order_id}"


def fill_in(row: OrderRow, instrument: Instrument, account: str, client_id: str) -> Fill | None:
    """The execution that a pushed row tells, if it tells one. None also when it does not say its fee (a
    single fill's total fee counts as told): the report's filled size makes the fill be asked for.
    """
    if not row.tradeId or row.tradeId == "0" or not row.fillSz or number(row.fillSz) <= 0:
        return None
    fee, asset = row.fillFee, row.fillFeeCcy or row.feeCcy
    if not fee and row.fillSz == row.accFillSz:
        fee = row.fee
    if not fee or not asset:
        log.warning("order=%s a fill came without its fee; it will be asked for", client_id)
        return None
    side = SIDES[row.side]
    at = row.fillTime or row.uTime
    return Fill(
        trade_key(row.tradeId, row.ordId),
        client_id,
        row.ordId,
        account,
        instrument.id,
        side,
        instrument.ticks(number(row.fillPx), side),
        instrument.lots(number(row.fillSz)),
        ZERO - number(fee),
        asset,
        row.execType == "M",
        int(at) * MS,
    )


def heard(row: OrderRow, instrument: Instrument, account: str, client_id: str, at_ns: int) -> list[Event]:
    """A pushed row as events: the fill first, then what it makes of the order. A state that we do not know
    gives no report; the fill, if there is one, is told all the same. Raises UNREADABLE.
    """
    events: list[Event] = []
    fill = fill_in(row, instrument, account, client_id)
    if fill is not None:
        events.append(FillHeard(at_ns, fill))
    if status_of(row) is None:
        log.warning("order=%s has a state we do not know: %s", client_id, row.state[:40])
    else:
        events.append(OrderHeard(at_ns, report_of(row, instrument, client_id, at_ns)))
    return events


def fill_of(row: FillRow, instrument: Instrument, account: str, client_id: str) -> Fill:
    """A row of `/trade/fills`. A fee left empty there (their null) was not charged; it is logged. Raises
    UNREADABLE.
    """
    side = SIDES[row.side]
    if not row.fee:
        log.warning("order=%s fill=%s has no fee", client_id, row.tradeId)
    return Fill(
        trade_key(row.tradeId, row.ordId),
        client_id,
        row.ordId,
        account,
        instrument.id,
        side,
        instrument.ticks(number(row.fillPx), side),
        instrument.lots(number(row.fillSz)),
        ZERO - number(row.fee) if row.fee else ZERO,
        row.feeCcy,
        row.execType == "M",
        (int(row.fillTime) if row.fillTime else row.ts) * MS,
    )


# ----------------------------------------------------------------------------------------------- account


def balance_of(row: Detail, level: str) -> Balance:
    """Free is `availEq` in the margin levels, `availBal` in the others. Raises ValueError when neither is
    told."""
    free = row.availEq if level in MARGIN_MODES and row.availEq else row.availBal
    return Balance(row.ccy, number(free), number(row.frozenBal) if row.frozenBal else ZERO)


def position_of(row: PositionRow, instrument: Instrument) -> Position | None:
    """Base quantity, signed: in `long_short_mode` a short one is told as positive. None: flat."""
    contracts = number(row.pos) if row.pos else ZERO
    if not contracts:
        return None
    if row.posSide == "short":
        contracts = -abs(contracts)
    price = number(row.avgPx) if row.avgPx else None
    return Position(instrument.id, contracts * instrument.contract_size, price)


def fees_of(row: FeeRow) -> tuple[dict[str, FeeRates], FeeRates | None]:
    """(by group, the flat pair if it is told); paid is positive."""
    groups = {g.groupId: FeeRates(ZERO - number(g.maker), ZERO - number(g.taker)) for g in row.feeGroup}
    flat = FeeRates(ZERO - number(row.maker), ZERO - number(row.taker)) if row.maker and row.taker else None
    return groups, flat


def rights_of(row: ConfigRow) -> KeyRights:
    """`perm` is a list such as `read_only,withdraw,trade`; empty: not told."""
    rights = {word.strip() for word in row.perm.split(",") if word.strip()}
    told = bool(rights)
    return KeyRights(
        "trade" in rights if told else None,
        "withdraw" in rights if told else None,
        None if row.ip is None else bool(row.ip),
    )


_LEVELS = {
    "1": "spot",
    "2": "spot and futures",
    "3": "multi-currency margin",
    "4": "portfolio margin",
}


def mode_of(row: ConfigRow) -> Mode:
    return Mode(row.acctLv, row.posMode == "long_short_mode")


def account_mode_of(row: ConfigRow) -> AccountMode:
    position = {"net_mode": "one-way", "long_short_mode": "hedge"}.get(row.posMode)
    return AccountMode(position, _LEVELS.get(row.acctLv), row.acctStpMode or None, row.acctLv in MARGIN_MODES)


def funding_of(row: BillRow, instrument: InstrumentId) -> FundingPayment:
    """What a funding bill moved: of the balance in cross margin, of the position's margin in isolated
    (unverified which one OKX fills there, so both are added; one of them is 0).
    """
    moved = number(row.balChg) + (number(row.posBalChg) if row.posBalChg else ZERO)
    return FundingPayment(instrument, row.billId, ZERO - moved, row.ccy, row.ts * MS)
