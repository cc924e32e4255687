"""What Binance's codes mean to us: one table, and the rules for what is not in it.

Hides: codes, messages, HTTP and WebSocket-API statuses. Called by the other files of this folder. Source:
binance-spot-api-docs, errors.md and rest-api.md ("HTTP Return Codes").

Rules beyond the table. A status of 5xx, and an answer to a write that is not their JSON, tell nothing about
the order: unknown. Codes of -1100 to -1199 say that the request itself was malformed (errors.md, "11xx -
Request issues"), so one that is not listed is a plain refusal. Any other code that is not listed is taken
as "unknown" for a write and as "unavailable" for a read: the exposure stays reserved and the order is asked
for.
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

BANNED_S = 120.0  # the shortest ban behind a 418 that names no time
BACK_OFF_S = 10.0  # after a 429 that names no time
FIREWALL_S = 30.0  # after a 403: their firewall counts requests over minutes
INVALID_TIMESTAMP = -1021
TOO_MANY_ORDERS = -1015
NOTHING_OPEN = -2011  # for a cancel-all: there was nothing to cancel
ALREADY_SUBSCRIBED = -2035

Kind = type[ExchangeError]

CODES: dict[int, Kind] = {
    # The server may have gone on with it.
    -1000: OutcomeUnknown,
    -1001: OutcomeUnknown,
    -1006: OutcomeUnknown,
    -1007: OutcomeUnknown,
    -2021: OutcomeUnknown,  # a cancel-replace that half happened; we send none
    # Limits.
    -1003: RateLimited,
    -1015: RateLimited,
    -1034: RateLimited,
    -1181: RateLimited,
    # Nothing happened, and it may be tried again.
    -1008: Unavailable,
    -1016: Unavailable,
    -1021: Unavailable,
    -1035: Unavailable,
    -2035: Unavailable,
    -2036: Unavailable,
    -2042: Unavailable,
    # The key.
    -1002: Unauthorized,
    -1022: Unauthorized,
    -2014: Unauthorized,
    -2015: Unauthorized,
    # The order is not there (any more).
    -2011: UnknownOrder,
    -2013: UnknownOrder,
    -2026: UnknownOrder,
    -2039: UnknownOrder,
    # The instrument's rules.
    -1013: BelowMinimum,
    -1111: BelowMinimum,
    # Finally no.
    -2010: Rejected,
    -2016: Rejected,
    -2022: Rejected,
    -2038: Rejected,
    -2043: Rejected,
    **dict.fromkeys((-1014, -1020, -1033, -1112, -1210, -1211), Rejected),
    **dict.fromkeys(range(-1225, -1219), Rejected),
    **dict.fromkeys(range(-1199, -1193), Rejected),
    **dict.fromkeys(range(-1191, -1181), Rejected),
    **dict.fromkeys(range(-1180, -1099), Rejected),
}
CODES[-1111] = BelowMinimum  # too many decimals for the instrument

MESSAGES: tuple[tuple[str, Kind], ...] = (
    ("Order would immediately match and take.", WouldCross),
    ("Account has insufficient balance for requested action.", InsufficientFunds),
    ("Filter failure: ", BelowMinimum),
    ("Price * QTY is zero or less.", BelowMinimum),
    ("Unknown order sent.", UnknownOrder),
    ("Order does not exist.", UnknownOrder),
    ("This account may not place or cancel orders.", Unauthorized),
    ("This action is disabled on this account.", Unauthorized),
    ("FIX API trading is not enabled.", Unauthorized),
    ("self trade", SelfMatch),
)
"""Texts (their beginnings) that say more than the code -1013, -2010, -2011 or -2038 they come with."""

_TELLING = (-1013, -2010, -2011, -2038)
_MAX_FILTERS = re.compile(r"Filter failure: (EXCHANGE_)?MAX_NUM_")


def kind_of(code: int, text: str) -> Kind | None:
    """The class that a code and its message stand for; None when the code is not in the table."""
    if code in _TELLING:
        if _MAX_FILTERS.match(text):
            return Rejected  # too many open orders, amendments or lists: nothing about this order's size
        for start, kind in MESSAGES:
            if text.lower().startswith(start.lower()):
                return kind
        if code in (-1013, -2011):
            return Rejected  # such as "Market is closed."
    found = CODES.get(code)
    if found is None and -1199 <= code <= -1100:
        return Rejected
    return found


def error_of(
    status: int,
    code: int | None,
    text: str,
    *,
    is_write: bool,
    retry_after_s: float | None = None,
) -> ExchangeError:
    """The error that an answer means.

    Args:
        status: of HTTP, or of the WebSocket API, which uses the same numbers.
        code: Binance's own, None when the body was not theirs.
        retry_after_s: what the answer itself said about waiting.
    """
    shown = None if code is None else str(code)
    if status in (418, 429) or code == -1003:
        wait_s = retry_after_s
        if wait_s is None:
            wait_s = BANNED_S if status == 418 else BACK_OFF_S
        what = "has banned this address" if status == 418 else (text or "asks for fewer requests")
        return RateLimited(f"Binance: {what}", retry_after_s=wait_s, code=shown)
    if code is None:
        if status == 403:
            return RateLimited(
                "Binance's firewall refuses this address for now", retry_after_s=retry_after_s or FIREWALL_S
            )
        if status == 451:
            return Unauthorized("Binance does not serve this place (status 451)")
        if status in (401, 407):
            return Unauthorized(f"Binance refused the key (status {status})")
        what = f"Binance answered with status {status} and no reason of its own"
        return OutcomeUnknown(what) if is_write else Unavailable(what)
    if status >= 500 and code not in (-1008, -1016):
        what = f"Binance: {text or 'internal trouble'} (status {status})"
        return OutcomeUnknown(what, code=shown) if is_write else Unavailable(what, code=shown)
    kind = kind_of(code, text)
    said = text or f"code {code}"
    if kind is None:
        said = f"{said} (code {code}, which we do not know)"
        kind = OutcomeUnknown
    if kind is OutcomeUnknown and not is_write:
        kind = Unavailable
    if issubclass(kind, RateLimited):
        return RateLimited(
            said, retry_after_s=BACK_OFF_S if retry_after_s is None else retry_after_s, code=shown
        )
    return kind(said, code=shown)


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
