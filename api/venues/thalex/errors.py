"""What Thalex's codes mean to us: one table, and the rules for what is not in it.

Hides: codes of JSON-RPC errors, the reasons for which an order is deleted, HTTP statuses. Called by the other
files of this folder. Source: the list of codes gathered by thalex_rust_sdk; no official table was to be had.

Rules beyond the table. A status of 5xx, and an answer to a write that is not their JSON, tell nothing about
the order: unknown. A code that is not listed is "unknown" for a write and "unavailable" for a read: the
exposure stays reserved and the order is looked for. The codes of JSON-RPC 2.0 itself (-32768 to -32000) say
that a request was not understood, but for the internal error.
"""

from __future__ import annotations

from collections.abc import Mapping

from api.errors import (
    BelowMinimum,
    ExchangeError,
    InsufficientFunds,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    UnknownOrder,
)

BACK_OFF_S = 1.0  # Thalex names no time to wait, nor its windows
FIREWALL_S = 30.0  # after a 403 that is not their JSON
NOT_LOGGED_IN = 7
ALREADY_SUBSCRIBED = 8
BAD_MARKETS = frozenset({5, 13, 14, 15})
"""The instruments should be read anew."""

Kind = type[ExchangeError]

_ROWS: tuple[tuple[Kind, tuple[int, ...]], ...] = (
    # It may have been done: 2 says that an order of this number lives in the session; it is looked for.
    (OutcomeUnknown, (2, 10, 20)),
    # Limits: too many pending requests, throttle, connections.
    (RateLimited, (3, 4, 53)),
    # Nothing happened, and it may be tried again: not logged in (a new session logs in by itself), session
    # exhausted.
    (Unavailable, (NOT_LOGGED_IN, 11)),
    # The key, the account, the right, the place.
    (Unauthorized, (19, 26, 28, 42)),
    # Order not found; an order id that cannot be one.
    (UnknownOrder, (1, 12)),
    # The instrument's rules: price, amount, tick, collar.
    (BelowMinimum, (13, 14, 15, 43)),
    # Margin, funds, fee funds, total order size.
    (InsufficientFunds, (24, 27, 48, 50)),
    # Finally no.
    (Rejected, (5, 6, ALREADY_SUBSCRIBED, 9, 17, 22, 23, 25, 31, 37, 41, 44, 45, 49, 52, 57, 58)),
)
CODES: Mapping[int, Kind] = {code: kind for kind, codes in _ROWS for code in codes}

CODES_SAID: Mapping[int, str] = {
    1: "order not found",
    2: "duplicate order id",
    3: "too many pending requests",
    4: "throttle exceeded",
    7: "not logged in",
    10: "partition unavailable",
    19: "authentication failed",
    20: "temporary failure",
    24: "insufficient margin",
    28: "unauthorized",
    43: "price collar breach",
    57: "reduce-only mode: only orders that reduce are taken",
}
"""What to show where an answer carries a code without words."""

DELETED: Mapping[str, str] = {
    "client_cancel": "canceled on request",
    "client_bulk_cancel": "canceled on request, with all others",
    "session_end": "the venue's dead-man switch: the session ended",
    "instrument_deactivated": "the instrument was deactivated",
    "mm_protection": "market maker protection",
    "failover": "the matching engine failed over",
    "margin_breach": "canceled: liquidation of the account",
    "filled": "filled",
    "immediate_cancel": "the rest could not be filled at once",
    "admin_cancel": "canceled by the venue",
    "replaced": "replaced",
    "self_trade_prevention": "self-trade prevention",
}
"""`delete_reason` of an order -> what we tell."""
ENDED_BY_ITSELF = frozenset({"immediate_cancel", "self_trade_prevention"})
"""Reasons that mean "expired" with us: the order's own terms ended it."""


def kind_of(code: int) -> Kind | None:
    """The class that a code stands for; None when neither table nor rules know it."""
    found = CODES.get(code)
    if found is None and -32768 <= code <= -32000 and code != -32603:
        return Rejected
    return found


def error_of(
    status: int,
    code: int | None,
    text: str,
    *,
    is_write: bool,
    retry_after_s: float | None = None,
    back_off_s: float = BACK_OFF_S,
) -> ExchangeError:
    """The error that an answer means.

    Args:
        status: of HTTP; 200 for what came over the WebSocket.
        code: Thalex's own, None when the body was not theirs.
        retry_after_s: what the answer itself said about waiting.
        back_off_s: to wait where it said nothing.
    """
    wait_s = back_off_s if retry_after_s is None else retry_after_s
    if code is None:
        return _without_code(status, is_write, wait_s, retry_after_s)
    kind = kind_of(code)
    said = text or CODES_SAID.get(code) or f"code {code}"
    if kind is None:
        said = f"{said} (code {code}, which we do not know)"
        kind = OutcomeUnknown
    if status >= 500 and kind is not RateLimited:
        kind = OutcomeUnknown  # whatever it says, their own trouble came between
    if kind is OutcomeUnknown and not is_write:
        kind = Unavailable
    if issubclass(kind, RateLimited):
        return RateLimited(f"Thalex: {said}", retry_after_s=wait_s, code=str(code))
    return kind(f"Thalex: {said}", code=str(code))


def _without_code(status: int, is_write: bool, wait_s: float, told_s: float | None) -> ExchangeError:
    if status == 429:
        return RateLimited("Thalex asks for fewer requests", retry_after_s=wait_s)
    if status == 403:
        return RateLimited(
            "Thalex's firewall refuses this address for now",
            retry_after_s=FIREWALL_S if told_s is None else told_s,
        )
    if status in (401, 407):
        return Unauthorized(f"Thalex refused the key (status {status})")
    if status == 451:
        return Unauthorized("Thalex does not serve this place (status 451)")
    what = f"Thalex answered with status {status} and no reason of its own"
    return OutcomeUnknown(what) if is_write else Unavailable(what)


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
