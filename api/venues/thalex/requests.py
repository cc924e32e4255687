"""What we ask of Thalex, as its JSON-RPC wants it. Pure.

Hides: names of methods and parameters, how a number is written. Must not know: sockets, threads. Called by
the other files of this folder. Source: the exchange's API description (v2), "Trading", "Session management".

`post_only` alone lets the venue move a crossing price to one tick from the touch; with `reject_post_only` it
is book-or-cancel, which is what we mean, so both are always sent together. There is no fill-or-kill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from api.errors import BelowMinimum, Rejected
from api.exchange import quantity_text
from api.types import Amend, Place, Tif
from api.venues.thalex.public import Market

LABEL_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
STP_LEVELS = ("", "customer", "account", "disabled")
STP_ACTIONS = ("", "cancel_aggressive_partial_fill", "cancel_aggressive_no_fill")
COLLARS = ("reject", "clamp", "ignore")
ORDERS = "account.orders"
TRADES = "account.trade_history"
SUMMARY = "account.summary"
SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `params` is its JSON object."""

    method: str
    params: bytes
    is_write: bool = False
    is_cancel: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """How the orders of one account are placed. Empty STP fields: the account's own setting applies."""

    collar: str = "reject"
    stp_level: str = ""
    stp_action: str = ""


def over_socket(request: Request, number: int) -> bytes:
    return b'{"method":"%b","params":%b,"id":%d}' % (request.method.encode(), request.params, number)


def _ask(method: str, params: dict[str, Any] | None = None) -> Request:
    return Request(method, orjson.dumps(params or {}))


# ---------------------------------------------------------------------------------------------- session


def login(token: str, account: str) -> Request:
    """`account`: the venue's number of the account; empty: the key's default one."""
    return _ask("public/login", {"token": token, **({"account": account} if account else {})})


def cancel_on_disconnect(seconds: int) -> Request:
    return _ask("private/set_cancel_on_disconnect", {"timeout_secs": seconds})


SUBSCRIBE_PRIVATE = _ask("private/subscribe", {"channels": [ORDERS, TRADES, SUMMARY]})
SUBSCRIBE_PUBLIC = _ask("public/subscribe", {"channels": [SYSTEM]})
BEAT = _ask("public/system_info")


# ---------------------------------------------------------------------------------------------- orders


def place(command: Place, market: Market, number: int, terms: Terms) -> Request:
    """Raises Rejected: it cannot be said here. `number`: the client order id."""
    if command.tif is Tif.FOK:
        raise Rejected("Thalex has no fill-or-kill")
    if command.post_only and command.tif is not Tif.GTC:
        raise Rejected("an immediate order cannot be post-only")
    if LABEL_FORM.fullmatch(command.client_id) is None:
        raise Rejected("a client id must be 1 to 64 letters, digits, dots, colons, dashes or underscores")
    instrument = market.instrument
    price, amount = _price_and_amount(command, market)
    tif = b"immediate_or_cancel" if command.tif is Tif.IOC else b"good_till_cancelled"
    return Request(
        "private/insert",
        b'{"direction":"%b","instrument_name":%b,"amount":%b,"price":%b,"client_order_id":%d,"label":"%b",'
        b'"order_type":"limit","time_in_force":"%b","post_only":%b,"reject_post_only":%b,"reduce_only":%b,'
        b'"collar":"%b"%b%b}'
        % (
            command.side.value.encode(),
            orjson.dumps(instrument.venue_symbol),
            amount,
            price,
            number,
            command.client_id.encode(),
            tif,
            b"true" if command.post_only else b"false",
            b"true" if command.post_only else b"false",
            b"true" if command.reduce_only else b"false",
            terms.collar.encode(),
            b',"stp_level":"%b"' % terms.stp_level.encode() if terms.stp_level else b"",
            b',"stp_action":"%b"' % terms.stp_action.encode() if terms.stp_action else b"",
        ),
        is_write=True,
    )


def amend(command: Amend, market: Market, order: bytes, terms: Terms) -> Request:
    """`order`: see `by_id` and `by_number`. The amount is the new total, what was filled included."""
    price, amount = _price_and_amount(command, market)
    collar = terms.collar.encode()
    return Request(
        "private/amend",
        b'{%b,"price":%b,"amount":%b,"collar":"%b"}' % (order, price, amount, collar),
        is_write=True,
    )


def cancel(order: bytes) -> Request:
    return Request("private/cancel", b"{%b}" % order, is_write=True, is_cancel=True)


def by_id(order_id: str) -> bytes:
    return b'"order_id":%b' % orjson.dumps(order_id)


def by_number(number: int) -> bytes:
    """Only within the session that placed it."""
    return b'"client_order_id":%d' % number


CANCEL_ALL = Request("private/cancel_all", b"{}", is_write=True, is_cancel=True)
CANCEL_SESSION = Request("private/cancel_session", b"{}", is_write=True, is_cancel=True)


def _price_and_amount(command: Place | Amend, market: Market) -> tuple[bytes, bytes]:
    """Raises BelowMinimum for what the instrument cannot hold."""
    instrument = market.instrument
    if command.ticks <= 0:
        raise BelowMinimum(f"{instrument.symbol}: the price must be above 0")
    if command.lots < instrument.minimum_lots(command.ticks):
        raise BelowMinimum(
            f"{instrument.symbol}: {instrument.qty(command.lots)} is below the smallest size "
            f"{instrument.min_qty}"
        )
    price = quantity_text(instrument.price(command.ticks))
    return price.encode(), quantity_text(instrument.qty(command.lots)).encode()


# ---------------------------------------------------------------------------------------------- reads


OPEN_ORDERS = _ask("private/open_orders")
PORTFOLIO = _ask("private/portfolio")
ACCOUNT_SUMMARY = _ask("private/account_summary")


def history(
    what: str,
    *,
    symbols: Iterable[str] = (),
    since_s: int | None = None,
    label: str = "",
    types: str = "",
    is_ascending: bool = True,
    limit: int = 1000,
    bookmark: str = "",
) -> Request:
    """One page of `trade_history`, `order_history` or `transaction_history`. `since_s`: inclusive."""
    params: dict[str, Any] = {"limit": limit, "sort": "ascending" if is_ascending else "descending"}
    names = ",".join(symbols)
    if names:
        params["instrument_names"] = names
    if since_s is not None:
        params["time_low"] = since_s
    if label:
        params["label"] = label
    if types:
        params["types"] = types
    if bookmark:
        params["bookmark"] = bookmark
    return _ask(f"private/{what}", params)
