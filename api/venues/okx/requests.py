"""From our commands to OKX's order requests, for either way they may travel. Pure.

Hides: parameter names, order types, trade modes, position sides, how numbers become text, which counter a
request is counted in. Called by the other files of this folder. Source: OKX API v5, "Order Book Trading >
Trade".

Over the WebSocket a market is named by `instIdCode` (an integer; `instId` is refused there since 2026-04-07),
over HTTP by `instId`. New orders and amendments carry `expTime`: arriving later, they are refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import orjson

from api.budget import Cost
from api.errors import BelowMinimum, Rejected, UnknownOrder
from api.types import Amend, Cancel, Place, Side, Tif
from api.venues.okx.public import Market

MAX_BATCH = 20
OWN_FORM = re.compile(r"[A-Za-z0-9]{1,32}")
TAG_FORM = re.compile(r"[A-Za-z0-9]{0,16}")
MAPPED = "mdx"  # how a client id begins that we had to translate
STP_MODES = ("cancel_taker", "cancel_maker", "cancel_both")
ACCOUNT_POOL = "orders"

Params = dict[str, Any]


class ClientIds(Protocol):
    """Where the translations of client ids are kept that do not fit the venue's form. Durable: after a
    restart an order must find its name.
    """

    def put(self, ours: str, theirs: str) -> None:
        """Durable when it returns. Raises OSError when it cannot be: then nothing is sent."""

    def get(self, theirs: str) -> str | None:
        """Our id for the venue's; None: not one of ours."""


class MemoryClientIds:
    """For tests, and for desks whose ids always fit (1 to 32 letters and digits): nothing needs keeping
    then."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def put(self, ours: str, theirs: str) -> None:
        self._ours[theirs] = ours

    def get(self, theirs: str) -> str | None:
        return self._ours.get(theirs)


def theirs_of(client_id: str) -> str:
    """The id as the venue takes it: itself where it fits, else 29 hex digits of its SHA-256 behind `mdx`: the
    same one after every restart, and no other id of ours has it.
    """
    if OWN_FORM.fullmatch(client_id) is not None and not client_id.startswith(MAPPED):
        return client_id
    return MAPPED + hashlib.sha256(client_id.encode()).hexdigest()[:29]


class StepText:
    """Whole steps to plain decimal text, exactly, without Decimal: 12345 steps of 0.01 are "123.45"."""

    __slots__ = ("_factor", "_places")

    def __init__(self, step: Decimal) -> None:
        _, digits, exponent = step.as_tuple()
        assert isinstance(exponent, int)
        self._factor = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
        self._places = max(-exponent, 0)

    def __call__(self, steps: int) -> str:
        text, places = str(steps * self._factor), self._places
        if not places:
            return text
        if len(text) <= places:
            text = text.rjust(places + 1, "0")
        return f"{text[:-places]}.{text[-places:]}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `items` without the market's name; `names` is (instId, instIdCode) for each of them.

    `op` is empty for what only HTTP takes. `deadline`: it carries `expTime`.
    """

    op: str
    path: str
    items: tuple[Params, ...]
    names: tuple[tuple[str, int | None], ...]
    costs: tuple[Cost, ...]
    is_cancel: bool = False
    is_batch: bool = False
    deadline: bool = False

    @property
    def fits_socket(self) -> bool:
        return bool(self.op) and all(code is not None for _, code in self.names)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the order path needs of one market and of the account, made once.

    `trade_mode`: cash, cross or isolated; empty: this account cannot trade it. `is_hedged`: long and short
    positions are separate (`long_short_mode`).
    """

    market: Market
    price: StepText
    size: StepText
    trade_mode: str
    is_hedged: bool
    stp: str
    tag: str

    @classmethod
    def of(cls, market: Market, trade_mode: str, is_hedged: bool, stp: str, tag: str) -> Terms:
        texts = StepText(market.instrument.tick), StepText(market.instrument.lot)
        return cls(market, *texts, trade_mode, is_hedged, stp, tag)

    @property
    def name(self) -> tuple[str, int | None]:
        return (self.market.instrument.venue_symbol, self.market.code)


def place_pool(venue_symbol: str) -> str:
    return f"place {venue_symbol}"


def amend_pool(venue_symbol: str) -> str:
    return f"amend {venue_symbol}"


def cancel_pool(venue_symbol: str) -> str:
    return f"cancel {venue_symbol}"


def place(command: Place, terms: Terms, theirs: str) -> Request:
    """Raises Rejected (or BelowMinimum) for what this venue cannot do: nothing is sent then."""
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    if not terms.trade_mode:
        raise Rejected("the account's mode does not allow this product (acctLv 1 trades spot only)")
    if command.post_only and command.tif is not Tif.GTC:
        raise Rejected(f"post-only and {command.tif.name} exclude each other")
    kind = "post_only" if command.post_only else _ORDER_TYPES[command.tif]
    item: Params = {
        "tdMode": terms.trade_mode,
        "side": "buy" if command.side is Side.BUY else "sell",
        "ordType": kind,
        "px": terms.price(command.ticks),
        "sz": terms.size(command.lots),
        "clOrdId": theirs,
        "stpMode": terms.stp,
    }
    if terms.tag:
        item["tag"] = terms.tag
    if terms.market.inst_type == "SPOT":
        if command.reduce_only:
            raise Rejected("reduce-only does not exist on spot")
    elif terms.is_hedged:
        opens_long = (command.side is Side.BUY) is not command.reduce_only
        item["posSide"] = "long" if opens_long else "short"
    elif command.reduce_only:
        item["reduceOnly"] = True
    symbol = terms.name[0]
    costs = ((place_pool(symbol), 1), (ACCOUNT_POOL, 1))
    return Request("order", "/api/v5/trade/order", (item,), (terms.name,), costs, deadline=True)


_ORDER_TYPES = {Tif.GTC: "limit", Tif.IOC: "ioc", Tif.FOK: "fok"}


def cancel(command: Cancel, terms: Terms, theirs: str) -> Request:
    costs = ((cancel_pool(terms.name[0]), 1),)
    item: Params = {"clOrdId": theirs}
    return Request(
        "cancel-order", "/api/v5/trade/cancel-order", (item,), (terms.name,), costs, is_cancel=True
    )


def amend(command: Amend, terms: Terms, theirs: str, rests: tuple[int, int] | None) -> Request:
    """Only what changes is sent, as far as we know what rests. The size is the order's whole size, filled
    part included. Raises BelowMinimum, UnknownOrder.
    """
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    if rests is None:
        raise UnknownOrder("the order to amend is not known here")
    item: Params = {"clOrdId": theirs}
    if rests[0] != command.ticks or rests == (command.ticks, command.lots):
        item["newPx"] = terms.price(command.ticks)
    if rests[1] != command.lots:
        item["newSz"] = terms.size(command.lots)
    costs = ((amend_pool(terms.name[0]), 1), (ACCOUNT_POOL, 1))
    return Request("amend-order", "/api/v5/trade/amend-order", (item,), (terms.name,), costs, deadline=True)


def cancel_batch(orders: tuple[tuple[str, int | None, str], ...]) -> Request:
    """`orders`: (instId, instIdCode, ordId), at most `MAX_BATCH`."""
    items = tuple({"ordId": order_id} for _, _, order_id in orders)
    return Request(
        "batch-cancel-orders",
        "/api/v5/trade/cancel-batch-orders",
        items,
        tuple((symbol, code) for symbol, code, _ in orders),
        (("cancel-batch-orders", len(orders)),),
        is_cancel=True,
        is_batch=True,
    )


def cancel_all_after(timeout_s: int, tag: str) -> Request:
    """0 disarms; else 10 to 120 s. Without a tag it covers the whole account."""
    item: Params = {"timeOut": str(timeout_s)}
    if tag:
        item["tag"] = tag
    return Request(
        "", "/api/v5/trade/cancel-all-after", (item,), (), (("cancel-all-after", 1),), is_cancel=True
    )


def over_socket(request: Request, number: int, deadline_ms: int) -> bytes:
    args = [{"instIdCode": name[1], **item} for name, item in zip(request.names, request.items, strict=True)]
    message: Params = {"id": str(number), "op": request.op, "args": args}
    if request.deadline:
        message["expTime"] = str(deadline_ms)
    return orjson.dumps(message)


def over_http(request: Request) -> bytes:
    """The body, to be signed and sent exactly like this."""
    if not request.names:
        return orjson.dumps(request.items[0])
    items = [{"instId": name[0], **item} for name, item in zip(request.names, request.items, strict=True)]
    return orjson.dumps(items if request.is_batch else items[0])
