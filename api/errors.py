"""What can go wrong at a venue, sorted by what the caller may do next.

    ExchangeError
    |- Rejected            the venue said no, finally: show the reason
    |    |- WouldCross         a post-only order would have taken
    |    |- BelowMinimum       size, value, tick, lot or another filter of the instrument
    |    |- InsufficientFunds  free balance or margin does not cover it
    |    |- UnknownOrder       no such order (for a cancel: evidence to ask again, not proof of anything)
    |    |- SelfMatch          it would have met an order of ours
    |- RateLimited         not accepted; carries retry_after_s
    |- Unavailable         never sent, or refused before the matching engine saw it; safe to try again
    |- OutcomeUnknown      sent, no answer: never repeat; the exposure stays reserved until there is evidence
    |- Unauthorized        key, signature or right missing: stop this venue

The classes are the retry policy: no caller looks at a code or a message. Each venue file maps its own codes.
`message` is shown to a person; it never carries a secret, a signature or a signed URL.
"""

from __future__ import annotations


class ExchangeError(Exception):
    """Base of everything a venue can do to us.

    Args:
        message: one sentence for a person.
        code: the venue's own code as text, if it gave one (shown, never branched on).
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Rejected(ExchangeError):
    """The venue said no, finally."""


class WouldCross(Rejected):
    """A post-only order would have taken liquidity."""


class BelowMinimum(Rejected):
    """Size, value, tick, lot or another filter of the instrument is violated."""


class InsufficientFunds(Rejected):
    """Free balance does not cover the order."""


class UnknownOrder(Rejected):
    """The venue does not know this order."""


class SelfMatch(Rejected):
    """It would have matched an order of ours and the venue or our gate prevented it."""


class RateLimited(ExchangeError):
    """Not accepted because of a rate limit.

    Args:
        retry_after_s: seconds during which nothing of this pool may be sent.
    """

    def __init__(self, message: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(ExchangeError):
    """Never reached the matching engine; safe to try again."""


class OutcomeUnknown(ExchangeError):
    """Sent, and no answer that tells the outcome. Never repeat it."""


class Unauthorized(ExchangeError):
    """Key, signature or right missing. Stop this venue."""


class BadInput(ValueError):
    """A person gave us something that cannot be done; nothing was changed.

    Args:
        field: name of the field as the person wrote it (a flag, a JSON field, a file key).
        message: what is wrong and what is allowed, with the unit.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class BadInputs(ValueError):
    """Several mistakes, reported at once. `errors` is a tuple of BadInput."""

    def __init__(self, errors: tuple[BadInput, ...]) -> None:
        super().__init__("; ".join(str(e) for e in errors))
        self.errors = errors


class Conflict(Exception):
    """The request is well formed but does not fit the present state (HTTP 409)."""


class NotFound(LookupError):
    """No such worker, order or instrument (HTTP 404). The text names it."""
