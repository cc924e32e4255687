"""From our commands to Backpack's requests. Pure.

Hides: parameter names, instructions, how numbers become text. Called by the other files of this folder.
Source: the OpenAPI description (`OrderExecutePayload`, `OrderCancelPayload`, `OrderCancelAllPayload`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from api.budget import Cost
from api.errors import BelowMinimum, Rejected
from api.exchange import quantity_text
from api.types import Instrument, Place, Side, Tif
from api.venues.backpack.signing import text_of

POOL = "REQUESTS/1M"  # per subaccount, over all the standard endpoints (API FAQ: 2000)
COST: tuple[Cost, ...] = ((POOL, 1),)
STP_MODES = ("RejectTaker", "RejectMaker", "RejectBoth")

Params = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Request:
    """One write, unsigned. `params`: of one body, or of each order of a batch."""

    instruction: str
    verb: str
    path: str
    params: Params | list[Params]
    is_cancel: bool = False

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.params)


def place(
    command: Place, instrument: Instrument, number: int, stp: str, *, redeems: bool, lends: bool
) -> Params:
    """The body of one new order.

    Args:
        redeems: funds that are lent out may be called back for it. lends: what it brings is lent. Spot only.

    Raises:
        Rejected, BelowMinimum: this venue cannot do it; nothing is sent then.
    """
    if command.reduce_only and instrument.kind == "spot":
        raise Rejected("reduce-only does not exist on spot")
    if command.post_only and command.tif is not Tif.GTC:
        raise Rejected(f"post-only and {command.tif.name} exclude each other")
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    params: Params = {
        "clientId": number,
        "orderType": "Limit",
        "price": quantity_text(instrument.price(command.ticks)),
        "quantity": quantity_text(instrument.qty(command.lots)),
        "selfTradePrevention": stp,
        "side": "Bid" if command.side is Side.BUY else "Ask",
        "symbol": instrument.venue_symbol,
        "timeInForce": command.tif.name,
    }
    if command.post_only:
        params["postOnly"] = True
    if command.reduce_only:
        params["reduceOnly"] = True
    if instrument.kind == "spot":
        if redeems:
            params["autoLendRedeem"] = True
        if lends:
            params["autoLend"] = True
    return params


def place_one(params: Params) -> Request:
    return Request("orderExecute", "POST", "/api/v1/order", params)


def place_batch(params: list[Params]) -> Request:
    return Request("orderExecute", "POST", "/api/v1/orders", params)


def cancel(symbol: str, *, order_id: str | None, number: int | None) -> Request:
    """By the venue's id where it is known, else by the client's number; never both (docs: refused)."""
    params: Params = {"symbol": symbol}
    if order_id is not None:
        params["orderId"] = order_id
    else:
        assert number is not None
        params["clientId"] = number
    return Request("orderCancel", "DELETE", "/api/v1/order", params, is_cancel=True)


def cancel_all(symbol: str) -> Request:
    """Every order of the account in one market, resting and conditional."""
    return Request("orderCancelAll", "DELETE", "/api/v1/orders", {"symbol": symbol}, is_cancel=True)


def query(params: dict[str, Any]) -> str:
    """Sorted; symbols, numbers and their words need no percent-encoding."""
    return "&".join(f"{name}={text_of(params[name])}" for name in sorted(params))
