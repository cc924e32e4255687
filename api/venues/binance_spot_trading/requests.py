"""From our commands to Binance spot's requests, signed for either way they may travel. Pure but for the
key.

Hides: parameter names, order types, how numbers become text, what exactly is signed. Called by the other
files of this folder. Source: rest-api.md and web-socket-api.md of binance-spot-api-docs ("Request
security", "Trading").

Over the WebSocket API all parameters are sorted by name and signed as they are; over HTTP they are
percent-encoded first, and exactly the signed text is sent (since 2026-01-15 anything else is -1022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

import orjson

from api.budget import Cost
from api.errors import BelowMinimum, Rejected, UnknownOrder
from api.signing import Key
from api.types import Amend, Cancel, Place, Side, Tif
from api.venues.binance_spot_trading.messages import Market

WEIGHT = "REQUEST_WEIGHT/1M"
CLIENT_ID = re.compile(r"[a-zA-Z0-9\-_]{1,36}")
POST_ONLY = "LIMIT_MAKER"  # rests or is refused; takes no timeInForce

Params = dict[str, str | int]


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
    """One request, unsigned. `params` without `apiKey`, `timestamp`, `signature`; `costs` by pool of the
    budget.
    """

    method: str
    verb: str
    path: str
    params: Params
    costs: tuple[Cost, ...]
    is_cancel: bool = False


@dataclass(frozen=True, slots=True)
class MarketTexts:
    """What the order path needs of one market, made once. `stp`: the mode to ask for, empty: the venue offers
    none here.
    """

    market: Market
    price: StepText
    qty: StepText
    stp: str

    @classmethod
    def of(cls, market: Market, stp: str) -> MarketTexts:
        return cls(market, StepText(market.instrument.tick), StepText(market.instrument.lot), stp)


def place(command: Place, texts: MarketTexts, recv_window_ms: int, costs: tuple[Cost, ...]) -> Request:
    """Raises Rejected (or BelowMinimum) for what this venue cannot do: nothing is sent then."""
    if CLIENT_ID.fullmatch(command.client_id) is None:
        raise Rejected("a client id here has 1 to 36 of A-Z a-z 0-9 - _")
    if command.reduce_only:
        raise Rejected("reduce-only does not exist on spot")
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    params: Params = {
        "symbol": texts.market.instrument.venue_symbol,
        "side": "BUY" if command.side is Side.BUY else "SELL",
        "quantity": texts.qty(command.lots),
        "price": texts.price(command.ticks),
        "newClientOrderId": command.client_id,
        "newOrderRespType": "RESULT",  # carries the self-trade prevention mode, which we read back
        "recvWindow": recv_window_ms,
    }
    if command.post_only:
        if command.tif is not Tif.GTC:
            raise Rejected(f"post-only and {command.tif.name} exclude each other")
        if not texts.market.has_post_only:
            raise Rejected(f"{texts.market.instrument.symbol} takes no post-only orders")
        params["type"] = POST_ONLY
    else:
        params["type"] = "LIMIT"
        params["timeInForce"] = command.tif.name
    if texts.stp:
        params["selfTradePreventionMode"] = texts.stp
    return Request("order.place", "POST", "/v3/order", params, costs)


def cancel(command: Cancel, symbol: str, recv_window_ms: int) -> Request:
    params: Params = {
        "symbol": symbol,
        "origClientOrderId": command.client_id,
        "recvWindow": recv_window_ms,
    }
    return Request("order.cancel", "DELETE", "/v3/order", params, ((WEIGHT, 1),), is_cancel=True)


def amend(command: Amend, texts: MarketTexts, rests: tuple[int, int] | None, recv_window_ms: int) -> Request:
    """To a smaller size at the same price, which keeps the place in the queue; Binance spot amends nothing
    else.

    Args:
        rests: (ticks, lots) of the order as far as we know.

    Raises:
        UnknownOrder: we do not know what rests, so nothing is sent. Rejected: anything else was asked for.
    """
    if not texts.market.can_amend:
        raise Rejected(f"{texts.market.instrument.symbol} takes no amendments")
    if rests is None:
        raise UnknownOrder("the order to amend is not known here")
    if command.ticks != rests[0] or not 0 < command.lots < rests[1]:
        raise Rejected("Binance spot amends only to a smaller size at the same price")
    params: Params = {
        "symbol": texts.market.instrument.venue_symbol,
        "origClientOrderId": command.client_id,
        "newClientOrderId": command.client_id,  # else the venue gives the order a random one
        "newQty": texts.qty(command.lots),
        "recvWindow": recv_window_ms,
    }
    return Request("order.amend.keepPriority", "PUT", "/v3/order/amend/keepPriority", params, ((WEIGHT, 4),))


def cancel_all(symbol: str, recv_window_ms: int) -> Request:
    params: Params = {"symbol": symbol, "recvWindow": recv_window_ms}
    return Request("openOrders.cancelAll", "DELETE", "/v3/openOrders", params, ((WEIGHT, 1),), is_cancel=True)


def subscribe(recv_window_ms: int) -> Request:
    params: Params = {"recvWindow": recv_window_ms}
    return Request("userDataStream.subscribe.signature", "", "", params, ((WEIGHT, 2),))


def to_sign(params: Mapping[str, str | int]) -> bytes:
    """What the WebSocket API wants signed: all but the signature, sorted, not percent-encoded, UTF-8."""
    return "&".join([f"{name}={params[name]}" for name in sorted(params)]).encode()


def over_socket(request: Request, number: int, stamp_ms: int, key: Key) -> bytes:
    """The request as one signed JSON text."""
    params = {**request.params, "apiKey": key.api_key, "timestamp": stamp_ms}
    params["signature"] = key.sign(to_sign(params))
    return orjson.dumps({"id": number, "method": request.method, "params": params})


def over_http(params: Mapping[str, str | int], stamp_ms: int, key: Key) -> str:
    """The parameters as one signed, percent-encoded text: a query or a form, to be sent exactly like this."""
    text = urlencode({**params, "timestamp": stamp_ms})
    return f"{text}&{urlencode({'signature': key.sign(text.encode())})}"
