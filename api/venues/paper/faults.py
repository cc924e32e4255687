"""What may go wrong at the paper venue on request: by script ("the next two orders") and by seeded chance.

Hides nothing but the choosing; what each fault does is done by `core`. Pure: chance comes from the stream
handed in. Called by `core` once per command and once per read, by tests and by the drill commands.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

from api.errors import BadInput
from api.types import Request


class Fault(enum.Enum):
    """F numbers are those of the fault table in the reliability notes."""

    LOST_ANSWER = "lost_answer"
    """Executed; no answer ever comes: UNKNOWN after the deadline (F1). The private stream still tells of
    it."""
    LOST_COMMAND = "lost_command"
    """Never arrived; no answer: UNKNOWN after the deadline (F2)."""
    LATE_ANSWER = "late_answer"
    """Executed; UNKNOWN after the deadline, and later the true answer (F3)."""
    SERVER_ERROR = "server_error"
    """A 5xx whose outcome is unknown, answered at once. Every second one was executed, beginning with the
    first (F16)."""
    RATE_LIMITED = "rate_limited"
    """429, not accepted (F13)."""
    UNAVAILABLE = "unavailable"
    """Never sent."""
    UNAUTHORIZED = "unauthorized"
    """Key refused."""
    DUPLICATE = "duplicate"
    """Every report and fill of this order is pushed twice (F6)."""
    EARLY_FILL = "early_fill"
    """The answer and the OPEN report are held back, so that a fill overtakes them (F7)."""
    DROPPED_PUSH = "dropped_push"
    """Nothing about this order is pushed although the stream is healthy; answers and reads tell (F8)."""
    CUT_STREAM = "cut_stream"
    """The private stream is cut as this command arrives, and comes back; what happened meanwhile is only
    found by reading (F9)."""
    STALE_LIST = "stale_list"
    """`fetch_open_orders` goes on telling the state before this command (F17)."""
    READ_FAILED = "read_failed"
    """The next read, cancel-all or dead-man call raises Unavailable."""
    READ_LIMITED = "read_limited"
    """The next read, cancel-all or dead-man call raises RateLimited."""


READ_FAULTS = frozenset({Fault.READ_FAILED, Fault.READ_LIMITED})


class Chance(Protocol):
    """A seeded stream of numbers in [0, 1); `random.Random` is one."""

    def random(self) -> float: ...


class Faults:
    """Draws at most one fault per command and per read. Scripted faults come first, in the order they were
    asked for.

    Args:
        chance: seeded stream; may be None when there are no probabilities.
        probabilities: chance of each fault per command (per read for the READ_ ones). Their sum must not pass
            1.
    """

    def __init__(
        self, chance: Chance | None = None, probabilities: Mapping[Fault, float] | None = None
    ) -> None:
        self._chance = chance
        self._script: list[list[object]] = []
        self._odds: dict[bool, list[tuple[Fault, float]]] = {False: [], True: []}
        for fault, share in (probabilities or {}).items():
            if not 0 <= share <= 1:
                raise BadInput(fault.value, f"a probability is from 0 to 1, got {share}")
            if share > 0:
                self._odds[fault in READ_FAULTS].append((fault, share))
        for odds in self._odds.values():
            odds.sort(key=lambda item: item[0].value)  # the order of a mapping must not change a run
            if sum(share for _, share in odds) > 1:
                raise BadInput("probabilities", "their sum must not pass 1")
        if chance is None and any(self._odds.values()):
            raise BadInput("probabilities", "need a seeded stream")

    def next(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        """The next `n` commands (only requests of kind `on`, if given), or reads for a READ_ fault, meet this
        fault."""
        if n < 1:
            raise BadInput("n", f"must be at least 1, got {n}")
        self._script.append([fault, n, on])

    def clear(self) -> None:
        """Forget what the script still holds."""
        self._script.clear()

    def draw(self, request: Request) -> Fault | None:
        """The fault this command meets."""
        return self._draw(False, request)

    def draw_read(self) -> Fault | None:
        """The fault this read meets."""
        return self._draw(True, None)

    def _draw(self, is_read: bool, request: Request | None) -> Fault | None:
        if self._script:
            for row in self._script:
                fault, n, on = row
                assert isinstance(fault, Fault) and isinstance(n, int)
                if (fault in READ_FAULTS) is not is_read or (on is not None and on is not request):
                    continue
                row[1] = n - 1
                if n == 1:
                    self._script.remove(row)
                return fault
        odds = self._odds[is_read]
        if odds and self._chance is not None:
            at = (
                self._chance.random()
            )  # one number per command, so that a script in between shifts nothing else
            for fault, share in odds:
                at -= share
                if at < 0:
                    return fault
        return None
