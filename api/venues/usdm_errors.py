"""What the codes of Binance USDT-M futures and Aster mean to us: one table for what both share, and rules for
what is not in it.

Hides: codes, messages, HTTP and WebSocket-API statuses. Must not know: which of the two venues speaks (it
hands in its `ErrorRules`). Called by the other `usdm_` files. Source: developers.binance.com,
derivatives/usds-margined-futures, "Error codes" and "HTTP Return Codes"; asterdex/api-docs V3, "Error Codes".

Rules beyond the table. 503 has three meanings: with the texts in `ErrorRules.failed_503` the request failed
and nothing happened; with -1008 it was turned away for overload; with anything else its outcome is unknown.
Other 5xx, 408, and an answer to a write that is not their JSON, tell nothing about the order: unknown. Codes
of -1100 to -1199 ("request issues") and -4000 to -4499 ("filters and other issues") are refusals; any other
code that is not listed is taken as "unknown" for a write and as "unavailable" for a read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

BANNED_S = 120.0  # the shortest ban behind a 418 that names no time
BACK_OFF_S = 10.0  # after a 429 that names no time
FIREWALL_S = 30.0  # after a 403: their firewall counts requests over minutes
OVERLOADED = -1008
TOO_MANY_ORDERS = -1015
NO_LISTEN_KEY = -1125
WRONG_POSITION_SIDE = -4061

Kind = type[ExchangeError]

CODES: dict[int, Kind] = {
    # The server may have gone on with it.
    -1000: OutcomeUnknown,
    -1001: OutcomeUnknown,
    -1006: OutcomeUnknown,
    -1007: OutcomeUnknown,
    -1010: OutcomeUnknown,
    # Limits.
    -1003: RateLimited,
    -1015: RateLimited,
    # Nothing happened, and it may be tried again.
    -1008: Unavailable,
    -1016: Unavailable,
    -1021: Unavailable,
    -1125: Unavailable,
    -5028: Unavailable,
    # The key.
    **dict.fromkeys((-1002, -1004, -1005, -1011, -1022, -1099), Unauthorized),
    **dict.fromkeys((-2014, -2015, -2017, -4056, -4057, -4088), Unauthorized),
    # The order is not there (any more).
    -2011: UnknownOrder,
    -2013: UnknownOrder,
    # The instrument's rules.
    -1111: BelowMinimum,
    **dict.fromkeys((-4001, -4002, -4003, -4004, -4005, -4013, -4014, -4016, -4023, -4024), BelowMinimum),
    **dict.fromkeys((-4131, -4164, -4183, -4184, -5060, -5076), BelowMinimum),
    # Money.
    **dict.fromkeys((-2018, -2019, -2028, -4050, -4051), InsufficientFunds),
    # Finally no.
    -5022: WouldCross,
    **dict.fromkeys((-1013, -1014, -1020, -1023), Rejected),
    **dict.fromkeys((-2010, -2012, -2016, -2020, -2021, -2022, -2023, -2024), Rejected),
    **dict.fromkeys((-2025, -2026, -2027, -5021, -5023, -5024, -5025, -5026, -5027), Rejected),
    **dict.fromkeys(range(-5042, -5036), Rejected),
}


@dataclass(frozen=True, slots=True)
class ErrorRules:
    """What one venue adds.

    Attributes:
        codes: put over the shared table.
        texts: beginnings of messages that say more than their code.
        clock: codes with which nothing happened because of the time or the nonce: measure, then once more.
        clock_words: the same, said in a text by any code.
        failed_503: beginnings of texts of a 503 with which nothing happened.
        post_only: codes that mean `WouldCross` when they refuse a post-only order.
    """

    title: str
    codes: Mapping[int, Kind]
    texts: tuple[tuple[str, Kind], ...] = ()
    clock: frozenset[int] = frozenset({-1021, -5028})
    clock_words: tuple[str, ...] = ()
    failed_503: tuple[str, ...] = ()
    post_only: frozenset[int] = frozenset()

    def is_clock(self, code: str | None, text: str) -> bool:
        """Nothing happened because of the time or the nonce."""
        if code is None or not code.lstrip("-").isdigit():
            return False
        return int(code) in self.clock or any(word in text.lower() for word in self.clock_words)

    def kind_of(self, code: int, text: str) -> Kind | None:
        """None: a code that nobody lists."""
        low = text.lower()
        if any(word in low for word in self.clock_words):
            return Unavailable
        for start, kind in self.texts:
            if low.startswith(start):
                return kind
        found = self.codes.get(code) or CODES.get(code)
        if found is None and (-1199 <= code <= -1100 or -4499 <= code <= -4000):
            return Rejected
        return found

    def error_of(
        self, status: int, code: int | None, text: str, *, is_write: bool, retry_after_s: float | None = None
    ) -> ExchangeError:
        """The error that an answer means.

        Args:
            status: of HTTP, or of the WebSocket API, which uses the same numbers.
            code: the venue's own, None when the body was not theirs; then `text` is the body's beginning.
            retry_after_s: what the answer itself said about waiting.
        """
        title = self.title
        shown = None if code is None else str(code)
        if status in (418, 429) or code == -1003:
            wait_s = retry_after_s
            if wait_s is None:
                wait_s = BANNED_S if status == 418 else BACK_OFF_S
            said = text if code is not None and text else "asks for fewer requests"
            what = "has banned this address" if status == 418 else said
            return RateLimited(f"{title}: {what}", retry_after_s=wait_s, code=shown)
        if status == 503 and code != OVERLOADED:
            if text.strip().lower().startswith(self.failed_503) and self.failed_503:
                return Unavailable(f"{title} could not do it (status 503)", code=shown)
            what = f"{title} does not say what became of the request (status 503)"
            return OutcomeUnknown(what, code=shown) if is_write else Unavailable(what, code=shown)
        if code is None:
            if status == 403:
                return RateLimited(
                    f"{title}'s firewall refuses this address for now",
                    retry_after_s=retry_after_s or FIREWALL_S,
                )
            if status == 451:
                return Unauthorized(f"{title} does not serve this place (status 451)")
            if status in (401, 407):
                return Unauthorized(f"{title} refused the key (status {status})")
            what = f"{title} answered with status {status} and no reason of its own"
            return OutcomeUnknown(what) if is_write else Unavailable(what)
        if (status >= 500 or status == 408) and code not in (OVERLOADED, -1016):
            what = f"{title}: {text or 'internal trouble'} (status {status})"
            return OutcomeUnknown(what, code=shown) if is_write else Unavailable(what, code=shown)
        return self._by_code(code, text, is_write, retry_after_s)

    def _by_code(self, code: int, text: str, is_write: bool, retry_after_s: float | None) -> ExchangeError:
        kind = self.kind_of(code, text)
        said = text or f"code {code}"
        if kind is None:
            said = f"{said} (code {code}, which we do not know)"
            kind = OutcomeUnknown
        if kind is OutcomeUnknown and not is_write:
            kind = Unavailable
        if issubclass(kind, RateLimited):
            wait_s = BACK_OFF_S if retry_after_s is None else retry_after_s
            return RateLimited(said, retry_after_s=wait_s, code=str(code))
        return kind(said, code=str(code))


OUTCOMES: Mapping[Kind, str] = {
    RateLimited: "rate_limited",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
    Unauthorized: "unauthorized",
}
"""The `Outcome` (its value) that each class becomes in an `Answered`; every `Rejected` is "rejected"."""
