"""From our commands to requests in the dialect of Binance USDT-M futures and Aster. Pure.

Hides: parameter names, order types, position sides, how numbers become text. Must not know: how a request is
signed (`Signer`), which venue it goes to (`Dialect` says what differs). Called by the other `usdm_` files.
Source: developers.binance.com, derivatives/usds-margined-futures, "Trade"; asterdex/api-docs V3.

Hedge mode: an order that does not reduce opens LONG with a buy and SHORT with a sell; one that reduces closes
the other way round, and `reduceOnly` is not sent (the venues refuse it there).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import msgspec

from api.budget import Cost
from api.errors import BelowMinimum, Rejected, UnknownOrder
from api.types import Amend, Cancel, Instrument, Place, Side, Tif
from api.venues.usdm_errors import ErrorRules
from api.venues.usdm_messages import POST_ONLY

WEIGHT = "REQUEST_WEIGHT/1M"
CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
MAX_BATCH_PLACE = 5
MAX_BATCH_CANCEL = 10
OWN_PREFIXES = ("autoclose-", "adl_autoclose", "settlement_autoclose-")
"""Client ids that a venue gives to orders of its own making."""

Params = dict[str, str | int]


class Signer(Protocol):
    """How one venue's requests are authenticated."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent with every request of the account."""

    @property
    def signs_listen_key(self) -> bool:
        """False: a listen key is given for the header alone."""

    def form(self, params: Mapping[str, str | int], venue_ns: int) -> str:
        """The parameters as one signed, percent-encoded text, to be sent exactly like this."""

    def frame(self, method: str, number: int, params: Mapping[str, str | int], venue_ns: int) -> bytes:
        """The request as one signed text of the WebSocket API."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one venue does differently. `v`: path prefix; `wallet`: prefix of balance and positions.

    `stp_param`: the parameter that sets self-trade prevention; `rights_path`: where the account's right to
    trade is told; `reads_stp`: the account's own mode can be read.
    """

    name: str
    title: str
    v: str
    wallet: str
    errors: ErrorRules
    stp_param: str
    stp_modes: tuple[str, ...]
    rights_path: str
    reads_stp: bool = False
    delete_in_body: bool = False


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
    """One request, unsigned. `method`: its name on the WebSocket API, empty: over HTTP only. `path` empty: a
    read.
    """

    method: str
    verb: str
    path: str
    params: Params
    costs: tuple[Cost, ...]
    is_cancel: bool = False


@dataclass(frozen=True, slots=True)
class MarketTexts:
    """What the order path needs of one market, made once."""

    instrument: Instrument
    price: StepText
    qty: StepText

    @classmethod
    def of(cls, instrument: Instrument) -> MarketTexts:
        return cls(instrument, StepText(instrument.tick), StepText(instrument.lot))


@dataclass(frozen=True, slots=True)
class Resting:
    """An order of ours as far as we know."""

    side: Side
    ticks: int
    lots: int


def order_params(command: Place, texts: MarketTexts, dialect: Dialect, stp: str, is_hedge: bool) -> Params:
    """Raises Rejected (or BelowMinimum) for what these venues cannot do: nothing is sent then."""
    if CLIENT_ID.fullmatch(command.client_id) is None:
        raise Rejected("a client id here has 1 to 36 of A-Z a-z 0-9 . : / _ -")
    if command.client_id.startswith(OWN_PREFIXES):
        raise Rejected("a client id that begins so is the venue's own")
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    if command.post_only and command.tif is not Tif.GTC:
        raise Rejected(f"post-only and {command.tif.name} exclude each other")
    is_buy = command.side is Side.BUY
    params: Params = {
        "symbol": texts.instrument.venue_symbol,
        "side": "BUY" if is_buy else "SELL",
        "type": "LIMIT",
        "timeInForce": POST_ONLY if command.post_only else command.tif.name,
        "quantity": texts.qty(command.lots),
        "price": texts.price(command.ticks),
        "newClientOrderId": command.client_id,
        "newOrderRespType": "RESULT",  # the final state of what cannot rest, and the STP mode to read back
    }
    if is_hedge:
        params["positionSide"] = "LONG" if is_buy != command.reduce_only else "SHORT"
    else:
        params["positionSide"] = "BOTH"
        if command.reduce_only:
            params["reduceOnly"] = "true"
    if stp:
        params[dialect.stp_param] = stp
    return params


def place(
    command: Place,
    texts: MarketTexts,
    dialect: Dialect,
    stp: str,
    is_hedge: bool,
    costs: tuple[Cost, ...],
) -> Request:
    """As `order_params`."""
    params = order_params(command, texts, dialect, stp, is_hedge)
    return Request("order.place", "POST", f"{dialect.v}/order", params, costs)


def cancel(command: Cancel, symbol: str, dialect: Dialect) -> Request:
    params: Params = {"symbol": symbol, "origClientOrderId": command.client_id}
    return Request("order.cancel", "DELETE", f"{dialect.v}/order", params, ((WEIGHT, 1),), is_cancel=True)


def amend(
    command: Amend, texts: MarketTexts, rests: Resting | None, dialect: Dialect, costs: tuple[Cost, ...]
) -> Request:
    """New price and total size; loses the place in the queue. A post-only order whose new price would take is
    canceled by the venue.

    Raises:
        UnknownOrder: we do not know the order's side, so nothing is sent. BelowMinimum: price or size of
            nothing.
    """
    if rests is None:
        raise UnknownOrder("the order to amend is not known here")
    if command.ticks <= 0 or command.lots <= 0:
        raise BelowMinimum("price and size must be above zero")
    params: Params = {
        "symbol": texts.instrument.venue_symbol,
        "side": "BUY" if rests.side is Side.BUY else "SELL",
        "quantity": texts.qty(command.lots),
        "price": texts.price(command.ticks),
        "origClientOrderId": command.client_id,
    }
    return Request("order.modify", "PUT", f"{dialect.v}/order", params, costs)


def place_batch(orders: Sequence[Params], dialect: Dialect, costs: tuple[Cost, ...]) -> Request:
    """At most `MAX_BATCH_PLACE` orders in one request; each is taken or refused for itself."""
    listed = msgspec.json.encode(list(orders)).decode()
    return Request("", "POST", f"{dialect.v}/batchOrders", {"batchOrders": listed}, costs)


def cancel_batch(client_ids: Sequence[str], symbol: str, dialect: Dialect) -> Request:
    """At most `MAX_BATCH_CANCEL` orders of one market; each is taken or refused for itself."""
    listed = msgspec.json.encode(list(client_ids)).decode()
    params: Params = {"symbol": symbol, "origClientOrderIdList": listed}
    return Request("", "DELETE", f"{dialect.v}/batchOrders", params, ((WEIGHT, 1),), is_cancel=True)


def cancel_all(symbol: str, dialect: Dialect) -> Request:
    path = f"{dialect.v}/allOpenOrders"
    return Request("", "DELETE", path, {"symbol": symbol}, ((WEIGHT, 1),), is_cancel=True)


def countdown(symbol: str, timeout_s: float, dialect: Dialect) -> Request:
    """(Re)start the venue's countdown for one market; 0 stops it."""
    params: Params = {"symbol": symbol, "countdownTime": round(timeout_s * 1000)}
    path = f"{dialect.v}/countdownCancelAll"
    return Request("", "POST", path, params, ((WEIGHT, 10),), is_cancel=True)
