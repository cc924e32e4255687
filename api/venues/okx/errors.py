"""What OKX's codes mean to us: one table, and the rules for what is not in it.

Hides: codes of answers, of single items in them, of WebSocket events, and HTTP statuses. Called by the other
files of this folder. Source: OKX API v5, "Error Code", and the treatment column of its order documents.

Rules beyond the table. OKX tells "no" with HTTP 200 and a code; a status of 5xx, and an answer to a write
that is not their JSON, tell nothing about the order: unknown. Codes of 51000 to 59999 and of 70000 to
79999 are refusals of one request by a product's rules, so one that is not listed is a plain refusal. Any
other code that is not listed is "unknown" for a write and "unavailable" for a read: the exposure stays
reserved and the order is asked for.
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
    WouldCross,
)

BACK_OFF_S = 2.0  # OKX counts in windows of two seconds and names no time to wait
FIREWALL_S = 30.0  # after a 403 that is not their JSON: their firewall counts over minutes
EXPIRED_STAMP = frozenset({"50102", "50112", "60004", "60006"})
"""Our clock was found wrong; nothing was executed."""
LATE = frozenset({"50036", "50037"})  # past its own deadline: slow, or our clock is wrong
NEEDS_LOGIN = "60011"
ACCOUNT_LIMIT = "50061"  # new orders and amendments of the whole account
BAD_MARKETS = frozenset({"51020", "51121", "51001", "51000", "60013"})
"""The instruments should be read anew: sizes, or the number that names the market, may have changed."""

Kind = type[ExchangeError]


def _table(*rows: tuple[Kind, str]) -> dict[str, Kind]:
    return {code: kind for kind, codes in rows for code in codes.split()}


CODES: Mapping[str, Kind] = _table(
    # The server may have gone on with it. 51016 says that an order of this id lives: it is asked for.
    (OutcomeUnknown, "50001 50004 50013 50026 50042 51016 51054 51149 51412"),
    # Limits.
    (RateLimited, "50011 50040 50061 60014 60023"),
    # Nothing happened, and it may be tried again.
    (Unavailable, "50005 50036 50037 50046 50057 50062 50064 50102 50112 60004 60006 60011 63999"),
    # The key, the account, the right, or a setting of the account that only its owner can change.
    (
        Unauthorized,
        """50007 50008 50009 50010 50012 50027 50028 50029 50030 50035 50038 50041 50051 50059 50060 50067
        50100 50101 50103 50104 50105 50106 50107 50108 50109 50110 50111 50113 50114 50116 50118 50119
        50120 50121 51009 51010 51024 60005 60007 60009 60020 60024 60025 60032""",
    ),
    # The order is not there (any more).
    (UnknownOrder, "51063 51400 51401 51402 51405 51410 51416 51503 51509 51510 51603"),
    # The instrument's rules: size, value, tick, lot, price band.
    (
        BelowMinimum,
        """50122 51005 51006 51007 51020 51031 51033 51101 51116 51120 51121 51122 51123 51132 51137 51138
        51150 51185 51201 51202 51203""",
    ),
    (InsufficientFunds, "51008 51017 51109 51127 51131 51143 51502 59200 59201"),
    (WouldCross, "51511"),
    # Finally no: malformed, frozen for a time, or not offered.
    (
        Rejected,
        """1 2 50000 50002 50006 50014 50015 50016 50017 50018 50019 50020 50021 50022 50023 50024 50025
        50032 50033 50039 50044 50045 50047 50048 50049 50050 50052 50053 50055 50056 50058 50063 50115
        60008 60012 60013 60018 60019 60021 60022 60026 60027 60028 60029 60030 60031
        64000 64001 64002 64003""",
    ),
)

CANCEL_SOURCES: Mapping[str, str] = {
    "0": "canceled by the venue",
    "1": "canceled on request",
    "2": "canceled: liquidation of the account",
    "3": "canceled: liquidation of the position",
    "13": "fill-or-kill could not be filled at once",
    "14": "the rest of an immediate-or-cancel order",
    "15": "the price is outside of the venue's limits",
    "20": "the venue's dead-man switch",
    "31": "post-only: it would have taken",
    "32": "self-trade prevention",
}
"""`cancelSource` of an order row -> what we tell."""
ENDED_BY_ITSELF = frozenset({"13", "14", "32"})
"""Cancel sources that mean "expired" with us: the order's own terms ended it."""


def kind_of(code: str) -> Kind | None:
    """The class that a code stands for; None when neither table nor rules know it."""
    found = CODES.get(code)
    if found is None and len(code) == 5 and code.isdigit() and code[:2] in _PRODUCT_RULES:
        return Rejected
    return found


_PRODUCT_RULES = frozenset([str(n) for n in (*range(51, 60), *range(70, 80))])


def error_of(
    status: int, code: str, text: str, *, is_write: bool, retry_after_s: float | None = None
) -> ExchangeError:
    """The error that an answer, or one item of it, means.

    Args:
        status: of HTTP; 200 for what came over a WebSocket.
        code: OKX's own, empty when the body was not theirs.
        retry_after_s: what the answer itself said about waiting.
    """
    if not code:
        return _without_code(status, is_write, retry_after_s)
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
        wait_s = BACK_OFF_S if retry_after_s is None else retry_after_s
        return RateLimited(f"OKX: {said}", retry_after_s=wait_s, code=code)
    return kind(f"OKX: {said}", code=code)


CODES_SAID: Mapping[str, str] = {"1": "all items failed", "2": "some items failed", "60009": "login failed"}


def _without_code(status: int, is_write: bool, retry_after_s: float | None) -> ExchangeError:
    if status == 429:
        wait_s = BACK_OFF_S if retry_after_s is None else retry_after_s
        return RateLimited("OKX asks for fewer requests", retry_after_s=wait_s)
    if status == 403:
        wait_s = FIREWALL_S if retry_after_s is None else retry_after_s
        return RateLimited("OKX's firewall refuses this address for now", retry_after_s=wait_s)
    if status in (401, 407):
        return Unauthorized(f"OKX refused the key (status {status})")
    if status == 451:
        return Unauthorized("OKX does not serve this place (status 451)")
    what = f"OKX answered with status {status} and no reason of its own"
    return OutcomeUnknown(what) if is_write else Unavailable(what)


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
