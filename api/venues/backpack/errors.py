"""What Backpack's codes and expiry reasons mean to us: two tables, and the rules for what is not in them.

Hides: codes, messages, HTTP statuses. Called by the other files of this folder. Source: the OpenAPI
description (`ApiErrorCode`, `OrderExpiryReason`) and the support page's API FAQ.

Rules beyond the tables. HTTP 202 says "accepted, not yet executed": nothing is known. A status of 5xx, and an
answer to a write that is not their JSON, tell nothing about the order: unknown; except where a code says that
trading stands still. A code that is not in the table is taken as "unknown" for a write and as "unavailable"
for a read. `INVALID_CLIENT_REQUEST` covers a bad signature, an expired request and a price with too many
decimals alike: its text decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from api.errors import (
    BelowMinimum,
    ExchangeError,
    InsufficientFunds,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    SelfMatch,
    Unauthorized,
    Unavailable,
    UnknownOrder,
    WouldCross,
)

BACK_OFF_S = 10.0  # after a 429 that names no time; the limit counts over a minute
FIREWALL_S = 30.0  # after a 403 without their JSON: the firewall in front counts requests
EXPIRED = "INVALID_CLIENT_REQUEST/expired"  # our mark for "the request came too late": nothing happened
NOT_FOUND = "RESOURCE_NOT_FOUND"
NEEDS_REDEEM = "BORROW_REQUIRES_LEND_REDEEM"

Kind = type[ExchangeError]

CODES: dict[str, Kind] = {
    "TIMEOUT": OutcomeUnknown,
    "SERVER_ERROR": OutcomeUnknown,
    "TOO_MANY_REQUESTS": RateLimited,
    "TRADING_PAUSED": Unavailable,
    "MAINTENANCE": Unavailable,
    "TOO_EARLY": Unavailable,
    "UNAUTHORIZED": Unauthorized,
    "FORBIDDEN": Unauthorized,
    "INVALID_SIGNATURE": Unauthorized,
    "ACCOUNT_DEACTIVATED": Unauthorized,
    "RESOURCE_NOT_FOUND": UnknownOrder,
    "INSUFFICIENT_FUNDS": InsufficientFunds,
    "INSUFFICIENT_MARGIN": InsufficientFunds,
    "INSUFFICIENT_SUPPLY": InsufficientFunds,
    "BORROW_LIMIT": InsufficientFunds,
    "BORROW_REQUIRES_LEND_REDEEM": InsufficientFunds,
    "MAX_LEVERAGE_REACHED": InsufficientFunds,
    "INVALID_PRICE": BelowMinimum,
    "INVALID_QUANTITY": BelowMinimum,
    "INVALID_RANGE": BelowMinimum,
    **dict.fromkeys(
        (
            "INVALID_CLIENT_REQUEST",
            "INVALID_ORDER",
            "INVALID_MARKET",
            "INVALID_SYMBOL",
            "INVALID_ASSET",
            "INVALID_POSITION_ID",
            "INVALID_SOURCE",
            "INVALID_TWO_FACTOR_CODE",
            "ACCOUNT_LIQUIDATING",
            "LEND_LIMIT",
            "LEND_REQUIRES_BORROW_REPAY",
            "NOT_IMPLEMENTED",
            "ORDER_LIMIT",
            "POSITION_LIMIT",
            "PRECONDITION_FAILED",
        ),
        Rejected,
    ),
}

REASONS: dict[str, Kind | None] = {
    # Refused as it came: the order never rested.
    "postonlytaker": WouldCross,
    "postonlymode": Rejected,
    "insufficientfunds": InsufficientFunds,
    "insufficientmargin": InsufficientFunds,
    "insufficientborrowablequantity": InsufficientFunds,
    "borrowrequireslendredeem": InsufficientFunds,
    "invalidprice": BelowMinimum,
    "invalidquantity": BelowMinimum,
    "priceoutofbounds": BelowMinimum,
    "priceband": BelowMinimum,  # the stream's sample spells it PRICE_BAND
    "priceimpact": Rejected,
    "reduceonlynotreduced": Rejected,
    "slippagetoleranceexceeded": Rejected,
    "stopwithoutposition": Rejected,
    "userpermissions": Unauthorized,
    "accounttradingsuspended": Unauthorized,
    "positionlimit": Rejected,
    "maxstopordersperposition": Rejected,
    "negativeequity": InsufficientFunds,
    # How an order that was taken ends.
    "immediateorcancel": None,
    "fillorkill": None,
    "insufficientliquidity": None,
    "selftradeprevention": None,  # the taker's end, or the maker's, by the mode
    "liquidation": None,
    "unknown": None,
}
"""By the letters of the reason alone: REST writes PostOnlyTaker, the stream's sample writes PRICE_BAND."""

_TEXTS: tuple[tuple[re.Pattern[str], Kind | None], ...] = (
    (re.compile(r"expired", re.I), None),  # the request, not the order
    (re.compile(r"signature|x-api-key|api key|verifying key", re.I), Unauthorized),
    (re.compile(r"timestamp|window", re.I), None),
    (re.compile(r"decimal|too long|too small|too large|minimum|maximum|tick|step", re.I), BelowMinimum),
)
_TAKES = re.compile(r"post.?only|immediately match|would take|taker", re.I)
_SELF = re.compile(r"self.?trade", re.I)


def letters(reason: str) -> str:
    """A reason without case and underscores."""
    return reason.replace("_", "").replace(" ", "").lower()


def kind_of(code: str, text: str) -> tuple[Kind | None, str]:
    """The class that a code and its message stand for (None: not in the table), and the code to show."""
    if code == "INVALID_CLIENT_REQUEST":
        for pattern, kind in _TEXTS:
            if pattern.search(text):
                return (kind, code) if kind is not None else (Unavailable, EXPIRED)
    if code == "INVALID_ORDER":
        if _SELF.search(text):
            return SelfMatch, code
        if _TAKES.search(text):
            return WouldCross, code
    return CODES.get(code), code


def told(reason: str | None) -> str:
    """A reason as we tell it: theirs, but for self-trade prevention, which every venue calls otherwise."""
    if not reason:
        return ""
    return "self-trade prevention" if letters(reason) == "selftradeprevention" else reason


def refusal_of(reason: str) -> Kind | None:
    """The class of a refusal that came as an expiry; None for an order that was taken and then ended, and
    for a reason we do not know.
    """
    return REASONS.get(letters(reason))


def error_of(
    status: int, code: str | None, text: str, *, is_write: bool, retry_after_s: float | None = None
) -> ExchangeError:
    """The error that an answer means.

    Args:
        code: Backpack's own, None when the body was not theirs.
        retry_after_s: what the answer itself said about waiting.
    """
    if status == 429 or code == "TOO_MANY_REQUESTS":
        wait_s = BACK_OFF_S if retry_after_s is None else retry_after_s
        return RateLimited("Backpack asks for fewer requests", retry_after_s=wait_s, code=code)
    if status == 202:
        return OutcomeUnknown("Backpack accepted the request and has not executed it yet")
    if code is None:
        if status == 403:
            return RateLimited(
                "Backpack's firewall refuses this address for now",
                retry_after_s=FIREWALL_S if retry_after_s is None else retry_after_s,
            )
        if status == 401:
            return Unauthorized("Backpack refused the key (status 401)")
        if status == 451:
            return Unauthorized("Backpack does not serve this place (status 451)")
        what = f"Backpack answered with status {status} and no reason of its own"
        return OutcomeUnknown(what) if is_write else Unavailable(what)
    kind, shown = kind_of(code, text)
    said = f"Backpack: {text or code}"
    if kind is None:
        said = f"{said} (code {code[:40]}, which we do not know)"
    if kind is None or (status >= 500 and kind is not Unavailable):
        kind = OutcomeUnknown  # of a 5xx: their own trouble, whatever they call it
    if kind is OutcomeUnknown and not is_write:
        kind = Unavailable
    if issubclass(kind, RateLimited):
        return RateLimited(said, retry_after_s=BACK_OFF_S, code=shown)
    return kind(said, code=shown)


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
