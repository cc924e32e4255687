"""From our commands to Paradex's order requests, for either way they may travel. Pure.

Hides: parameter names, instructions, flags, how steps become text, what is signed. Must not know: keys (a
request says what is to be signed; `signed` is handed one), sockets. Called by the other files of this folder.
Source: OpenRPC `order.*` and OpenAPI `/orders` of August 2026.

A request is signed when it leaves, not before: the venue takes it only within `recv_window` of the
signature's time, so that an order cannot appear long after we gave it up.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from api.budget import Cost
from api.errors import BelowMinimum, Rejected, UnknownOrder
from api.types import Amend, Cancel, Place, Side, Tif
from api.venues.paradex.keys import ParadexKey
from api.venues.paradex.public import Market

STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
OWN_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAPPED = "mdx."  # how a client id begins that we had to translate
ORDER_COSTS: tuple[Cost, ...] = (("orders/s", 1), ("orders/min", 1))
MIN_WINDOW_MS = 10

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
    """For tests, and for desks whose ids always fit (1 to 64 of letters, digits and `._-`): nothing needs
    keeping then.
    """

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def put(self, ours: str, theirs: str) -> None:
        self._ours[theirs] = ours

    def get(self, theirs: str) -> str | None:
        return self._ours.get(theirs)


def theirs_of(client_id: str) -> str:
    """The id as the venue takes it: itself where it fits, else `mdx.` and 40 hex digits of its SHA-256: the
    same one after every restart, and no other id of ours has it.
    """
    if OWN_FORM.fullmatch(client_id) is not None and not client_id.startswith(MAPPED):
        return client_id
    return MAPPED + hashlib.sha256(client_id.encode()).hexdigest()[:40]


def text_e8(value: int) -> str:
    """A whole number of 10^-8 as plain decimal text: exactly what is signed."""
    whole, rest = divmod(value, 100_000_000)
    return f"{whole}.{rest:08d}".rstrip("0") if rest else str(whole)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be signed. `order_id`: of a modification; empty: a new order."""

    market: str
    side: Side
    size_e8: int
    price_e8: int
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `op` is its method over the WebSocket (empty: HTTP only), `verb` and `path` its way over
    HTTP (empty: WebSocket only). `client_id`: the order it is about, in our form.
    """

    op: str
    verb: str
    path: str
    params: Params
    terms: Terms | None = None
    costs: tuple[Cost, ...] = ORDER_COSTS
    is_cancel: bool = False
    client_id: str = ""

    @property
    def has_body(self) -> bool:
        return self.verb in ("POST", "PUT")


def place(command: Place, market: Market, theirs: str, stp: str, window_ms: int) -> Request:
    """Raises Rejected (or BelowMinimum) for what this venue cannot do: nothing is sent then."""
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    if command.tif is Tif.FOK:
        raise Rejected("Paradex has no fill-or-kill")
    if command.post_only and command.tif is not Tif.GTC:
        raise Rejected(f"post-only and {command.tif.name} exclude each other")
    if (
        market.instrument.max_qty is not None
        and market.instrument.qty(command.lots) > market.instrument.max_qty
    ):
        raise BelowMinimum(f"the largest order here is {market.instrument.max_qty} {market.instrument.base}")
    terms = _terms(market, command.side, command.ticks, command.lots)
    params = _order(terms)
    params["instruction"] = "POST_ONLY" if command.post_only else command.tif.name
    params["client_id"] = theirs
    params["stp"] = stp
    params["recv_window"] = max(MIN_WINDOW_MS, window_ms)
    if command.reduce_only:
        params["flags"] = ["REDUCE_ONLY"]
    return Request("order.create", "POST", "/orders", params, terms, client_id=command.client_id)


def amend(command: Amend, market: Market, side: Side, order_id: str) -> Request:
    """The size is the order's whole size (`size` of an order counts its filled part too; that a modification
    means the same is not verified). Raises BelowMinimum, UnknownOrder.
    """
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    if not order_id:
        raise UnknownOrder("the order to amend is not known here")
    terms = _terms(market, side, command.ticks, command.lots, order_id)
    params = {"id": order_id, **_order(terms)}
    path = f"/orders/{quote(order_id, safe='')}"
    return Request("order.modify", "PUT", path, params, terms, client_id=command.client_id)


def cancel(command: Cancel, market: Market, theirs: str, order_id: str = "") -> Request:
    """By the client's id, or by the venue's for an order that carries none."""
    if order_id:
        path = f"/orders/{quote(order_id, safe='')}"
        params = {"id": order_id}
        return Request("order.cancel", "DELETE", path, params, is_cancel=True, client_id=command.client_id)
    name = market.instrument.venue_symbol
    path = f"/orders/by_client_id/{quote(theirs, safe='')}?{urlencode({'market': name})}"
    params = {"client_id": theirs, "market": name}
    return Request("order.cancel", "DELETE", path, params, is_cancel=True, client_id=command.client_id)


def cancel_all(venue_symbol: str | None) -> Request:
    """None: in every market of the account."""
    params = {} if venue_symbol is None else {"market": venue_symbol}
    path = f"/orders?{urlencode(params)}" if params else "/orders"
    return Request("order.cancel_all", "DELETE", path, params, is_cancel=True)


def cancel_on_disconnect(enabled: bool) -> Request:
    return Request("order.cancel_on_disconnect", "", "", {"enabled": enabled}, costs=(), is_cancel=True)


def signed(request: Request, key: ParadexKey, at_ms: int) -> Params:
    """The parameters as they leave now. About 2 ms where something is to be signed."""
    terms = request.terms
    if terms is None:
        return request.params
    numbers = (terms.size_e8, terms.price_e8)
    if terms.order_id:
        signature = key.modify(at_ms, terms.market, terms.side, *numbers, terms.order_id)
    else:
        signature = key.order(at_ms, terms.market, terms.side, *numbers)
    return {**request.params, "signature": signature, "signature_timestamp": at_ms}


def over_socket(op: str, params: Params, number: int) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": op, "params": params, "id": number})


def _terms(market: Market, side: Side, ticks: int, lots: int, order_id: str = "") -> Terms:
    name = market.instrument.venue_symbol
    return Terms(name, side, lots * market.lot_e8, ticks * market.tick_e8, order_id)


def _order(terms: Terms) -> Params:
    return {
        "market": terms.market,
        "side": "BUY" if terms.side is Side.BUY else "SELL",
        "type": "LIMIT",
        "size": text_e8(terms.size_e8),
        "price": text_e8(terms.price_e8),
    }
