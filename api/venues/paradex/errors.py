"""What Paradex's error texts, WebSocket codes and cancel reasons mean to us: tables, and rules for the rest.

Hides: codes, HTTP statuses, JSON-RPC. Called by the other files of this folder. Source: `ErrorCode` of the
OpenAPI description, the error pages of the WebSocket documents (August 2026).

Rules beyond the tables. A status of 5xx, an internal error, and an answer to a write that is not theirs tell
nothing about the order: unknown. A code that is not in the table is "unknown" for a write, "unavailable" for
a read. Over the WebSocket the documents name only numbers; where the text names an `ErrorCode`, that decides.
An order that was taken (201 only means queued) may still end at once: then its cancel reason is the refusal.
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

BACK_OFF_S = 1.0  # after a limit that names no time: the orders' limit counts by the second
BAD_TOKEN = "INVALID_TOKEN"
BAD_TIME = "INVALID_TIMESTAMP"
BAD_MARKETS = frozenset(("INVALID_SYMBOL", "MARKET_NOT_FOUND", "MARKET_NOT_OPEN", "INVALID_ORDER_SIZE"))

Kind = type[ExchangeError]

CODES: dict[str, Kind] = {
    "INTERNAL_ERROR": OutcomeUnknown,
    "SERVICE_UNAVAILABLE": OutcomeUnknown,
    # Ids are used once here, so only an order of ours that was thought lost can bear it: ask for it.
    "DUPLICATED_CLIENT_ID": OutcomeUnknown,
    "SYSTEM_STATUS_POST_ONLY": Unavailable,
    "SYSTEM_STATUS_CANCEL_ONLY": Unavailable,
    "MARKET_NOT_OPEN": Unavailable,
    BAD_TIME: Unavailable,  # not executed; the clock is measured again
    BAD_TOKEN: Unavailable,  # not executed; the token is renewed
    "ONBOARDING_RATE_LIMITED": RateLimited,
    "ORDER_ID_NOT_FOUND": UnknownOrder,
    "CLIENT_ORDER_ID_NOT_FOUND": UnknownOrder,
    "ORDER_IS_CLOSED": UnknownOrder,
    "ORDER_IS_NOT_OPEN": UnknownOrder,
    "NOT_FOUND": UnknownOrder,
    "INVALID_ORDER_SIZE": BelowMinimum,
    **dict.fromkeys(
        (
            "NOT_ONBOARDED",
            "GEO_IP_BLOCK",
            "IP_NOT_ALLOWED",
            "INVALID_ORDER_SIGNATURE",
            "INVALID_STARKNET_SIGNATURE",
            "INVALID_STARKNET_ADDRESS",
            "STARKNET_SIGNATURE_VERIFICATION_FAILED",
            "INVALID_ETHEREUM_ADDRESS",
            "INVALID_ETHEREUM_SIGNATURE",
            "ETHEREUM_ADDRESS_BLOCKED",
            "ETHEREUM_SIGNER_MISMATCH",
            "ETHEREUM_HASH_MISMATCH",
            "UNAUTHORIZED_ETHEREUM_ADDRESS",
            "UNAUTHORIZED_ERROR",
            "ACCOUNT_NOT_FOUND",
            "PUBLIC_KEY_INVALID",
            "INVALID_SUBKEY",
            "SUBKEY_NOT_ACTIVATABLE",
            "INVALID_TOKEN_SCOPE",
            "INVALID_EVM_SIGNATURE",
            "EVM_SIGNATURE_VERIFICATION_FAILED",
            "INVALID_CHAIN",
            "ONBOARDING_PERIOD_EXPIRED",
        ),
        Unauthorized,
    ),
    **dict.fromkeys(
        (
            "VALIDATION_ERROR",
            "BINDING_ERROR",
            "INVALID_REQUEST_PARAMETER",
            "INVALID_SYMBOL",
            "INVALID_BLOCK_EXPIRATION",
            "MEDIA_NOT_FOUND",
            "ETHEREUM_ADDRESS_ALREADY_ONBOARDED",
            "EVM_ADDRESS_ALREADY_ONBOARDED",
            "MARKET_NOT_FOUND",
            "MARKET_NOT_SETTLED",
            "ALLOWLIST_ENTRY_NOT_FOUND",
            "USERNAME_IN_USE",
            "PROGRAM_NOT_FOUND",
            "PROGRAM_NOT_SUPPORTED",
            "INVALID_DASHBOARD",
            "INVALID_REFERRAL_CODE",
            "REQUEST_NOT_ALLOWED",
            "PARENT_ADDRESS_ALREADY_ONBOARDED",
            "INVALID_PARENT_ACCOUNT",
            "INVALID_VAULT_OPERATOR_CHAIN",
            "VAULT_OPERATOR_ALREADY_ONBOARDED",
            "VAULT_NAME_IN_USE",
            "VAULT_NOT_FOUND",
            "VAULT_STRATEGY_NOT_FOUND",
            "VAULT_LIMIT_REACHED",
            "VAULT_DATA_PRIVATE",
            "BATCH_SIZE_OUT_OF_RANGE",
            "ISOLATED_MARKET_ACCOUNT_MISMATCH",
            "NO_ACCESS_TO_MARKET",
            "POINTS_SUMMARY_NOT_FOUND",
            "ALGO_ID_NOT_FOUND",
            "INVALID_DERIVATION_PATH",
            "PROFILE_STATS_NOT_FOUND",
            "INVALID_LAYERSWAP_SWAP",
            "SOCIAL_USERNAME_IN_USE",
            "INVALID_OAUTH_REQUEST",
            "RPI_ACCOUNT_NOT_WHITELISTED",
            "INVALID_MARKETING_CODE",
            "OFFER_NOT_FOUND",
            "MARKET_MARGIN_RESTRICTED",
            "NOT_UNIQUE",
            "ACCOUNT_ALREADY_REFERRED",
            "SUBACCOUNTS_LIMIT_EXCEEDED",
            "INSUFFICIENT_MIN_CHAIN_BALANCE",
            "INSUFFICIENT_EVM_BALANCE",
            "PORTFOLIO_MARGIN_ONBOARDING_DISABLED",
            "PORTFOLIO_MARGIN_INVALID_ACCOUNT_KIND",
            "PORTFOLIO_MARGIN_CONFIG_NOT_FOUND",
            "EVM_VAULT_OPERATORS_DISABLED",
            "TOKEN_LIMIT_REACHED",
            "INSUFFICIENT_TRANSFERRABLE_XP",
            "TRANSFER_LIMIT_REACHED",
            "XP_TRANSFERS_DISABLED",
            *(
                f"BLOCK_TRADE_{what}"
                for what in (
                    "NOT_FOUND NOT_ENABLED EXPIRED ALREADY_CANCELLED INVALID_STATUS UNAUTHORIZED "
                    "MISSING_TRADES MISSING_SIGNERS MISSING_SIGNATURE ACCOUNT_MISMATCH INVALID_SIGNATURE "
                    "SIGNER_KEY_UNAUTHORIZED REPLAYED_SIGNATURE"
                ).split()
            ),
            "OFFER_ALREADY_CANCELLED",
            "OFFER_INVALID_STATUS",
            "OFFER_UNAUTHORIZED",
            "OFFER_PARENT_MISMATCH",
            "OFFER_PARENT_NOT_ACCEPTING",
        ),
        Rejected,
    ),
}

SOCKET_CODES: dict[int, Kind] = {
    -32700: Rejected,  # could not be read, so nothing was done
    -32600: Rejected,
    -32601: Rejected,
    -32602: Rejected,
    -32603: OutcomeUnknown,
    40110: Unavailable,  # the bearer token: a fresh one is fetched and the connection opened anew
    40111: Unavailable,
    40112: Unauthorized,  # this place is not served
    40300: Unauthorized,
    42901: RateLimited,
}
NEEDS_LOGIN = frozenset((40110, 40111, 40300))

REASONS: dict[str, Kind] = {
    "NOT_ENOUGH_MARGIN": InsufficientFunds,
    "INSUFFICIENT_MARGIN": InsufficientFunds,
    "ORDER_EXCEEDS_POSITION_LIMIT": Rejected,
    "ORDER_SIZE_BELOW_MIN": BelowMinimum,
    "ORDER_SIZE_ABOVE_MAX": BelowMinimum,
    "POST_ONLY_WOULD_CROSS": WouldCross,
}
"""Cancel reasons that refuse an order as it came. The venue's list is not published; see `refusal_of`."""
_NOT_FILLED_AT_ONCE = re.compile(r"IOC|IMMEDIATE|NOT_FILLED|NO_LIQUIDITY|EXPIRED", re.I)
_BY_US = re.compile(r"USER_CANCELED|CANCEL_ON_DISCONNECT|CANCELED_BY_USER", re.I)


def refusal_of(reason: str) -> Kind | None:
    """The class of a refusal that came as the cancel reason of an order that never rested; None for any
    other end.
    """
    upper = reason.upper()
    kind = REASONS.get(upper)
    if kind is not None:
        return kind
    if "POST_ONLY" in upper:  # the exact text is not verified
        return WouldCross
    if "SELF" in upper or "STP" in upper:
        return SelfMatch
    if "MARGIN" in upper:
        return InsufficientFunds
    if "BELOW_MIN" in upper or "ABOVE_MAX" in upper or "PRICE_BAND" in upper:
        return BelowMinimum
    return Rejected if "REDUCE_ONLY" in upper or "POSITION_LIMIT" in upper else None


def is_expiry(reason: str) -> bool:
    """An order that ended because it could not trade at once, or met one of ours."""
    upper = reason.upper()
    return bool(_NOT_FILLED_AT_ONCE.search(upper)) or "SELF" in upper or "STP" in upper


def is_cancel(reason: str) -> bool:
    """Somebody cancelled it, or a lost connection did."""
    return not reason or _BY_US.search(reason) is not None


_NAME = re.compile(r"[A-Z][A-Z_]{4,}[A-Z]")


def code_in(text: str) -> str:
    """The `ErrorCode` that a text names; empty: none."""
    return next((word for word in _NAME.findall(text) if word in CODES), "")


def error_of(
    status: int, code: str, text: str, *, is_write: bool, retry_after_s: float | None = None
) -> ExchangeError:
    """The error that an answer over HTTP means. `code`: empty when the body was not theirs."""
    said = f"Paradex: {(text or code)[:300]}"
    if status == 429 or CODES.get(code) is RateLimited:
        wait_s = BACK_OFF_S if retry_after_s is None else retry_after_s
        return RateLimited("Paradex asks for fewer requests", retry_after_s=wait_s, code=code or None)
    if not code:
        if status == 401:
            return Unavailable("Paradex refused the token", code=BAD_TOKEN)
        if status in (403, 451):
            return Unauthorized(f"Paradex does not serve this address (status {status})")
        what = f"Paradex answered with status {status} and no reason of its own"
        return OutcomeUnknown(what) if is_write else Unavailable(what)
    kind = CODES.get(code)
    if kind is None or status >= 500:
        said = said if kind is not None else f"{said} (code {code[:40]}, which we do not know)"
        kind = OutcomeUnknown  # of a 5xx: their own trouble, whatever they call it
    if kind is OutcomeUnknown and not is_write:
        kind = Unavailable
    return kind(said, code=code)


def socket_error_of(code: int, text: str, *, is_write: bool) -> ExchangeError:
    """The error that an answer over the WebSocket means."""
    named = code_in(text)
    shown = named or str(code)
    said = f"Paradex: {text[:300]} (code {code})"
    kind = CODES.get(named) if named else SOCKET_CODES.get(code)
    if code == -32603:
        kind = OutcomeUnknown
    if kind is RateLimited or code == 42901:
        return RateLimited("Paradex asks for fewer requests", retry_after_s=BACK_OFF_S, code=shown)
    if kind is None or (kind is OutcomeUnknown and not is_write):
        kind = OutcomeUnknown if is_write else Unavailable
    return kind(said, code=shown)


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
