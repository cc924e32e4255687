"""Our client ids and Thalex's, which are unsigned 64-bit numbers that live in one WebSocket session.

Hides: how a number is chosen. Must not know: orders, the network. `Numbers` is called by `account`; the store
behind it (`ClientIds`) is handed in by whoever makes the venue.

A number is the present microsecond, or the one after the last number, whichever is later: it never comes
twice, over sessions and restarts, whatever the clock does while the store is kept, and without a store as
long as the clock does not go back. It stays below 2**53, since the venue's documents warn of readers that
turn large numbers into floating point. Our text goes out as the order's `label` too, so that an order is
known again where the store was lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

US = 1_000  # nanoseconds
KEPT = 200_000  # newest pairs that `MemoryIds` remembers


class ClientIds(Protocol):
    """The table. Safe from any thread."""

    def put(self, ours: str, theirs: int) -> None:
        """Durable against kill -9 when it returns. Raises OSError: then the order is not sent."""

    def get(self, ours: str) -> int | None: ...

    def ours(self, theirs: int) -> str | None: ...

    def last(self) -> int | None:
        """The largest number that was put; None: none ever."""


class MemoryIds:
    """The table without a disk: for tests, and for accounts that only read."""

    def __init__(self, kept: int = KEPT) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._texts: dict[int, str] = {}
        self._kept = kept
        self._last: int | None = None
        self._lock = threading.Lock()

    def put(self, ours: str, theirs: int) -> None:
        with self._lock:
            self._numbers[ours] = theirs
            self._numbers.move_to_end(ours)
            self._texts[theirs] = ours
            self._last = max(self._last or 0, theirs)
            while len(self._numbers) > self._kept:
                old, number = self._numbers.popitem(last=False)
                if self._texts.get(number) == old:
                    del self._texts[number]

    def get(self, ours: str) -> int | None:
        return self._numbers.get(ours)

    def ours(self, theirs: int) -> str | None:
        return self._texts.get(theirs)

    def last(self) -> int | None:
        return self._last


class Numbers:
    """Gives each order of ours its number. Safe from any thread."""

    def __init__(self, ids: ClientIds) -> None:
        self._ids = ids
        self._lock = threading.Lock()

    def assign(self, client_id: str, now_ns: int) -> int:
        """The number of a new order, durable. Raises OSError."""
        with self._lock:
            last = self._ids.last()
            number = max(now_ns // US, 1 if last is None else last + 1)
            self._ids.put(client_id, number)
            return number

    def get(self, client_id: str) -> int | None:
        return self._ids.get(client_id)

    def client_id(self, number: int) -> str | None:
        return self._ids.ours(number)
