"""Our client ids and Backpack's, which are unsigned 32-bit numbers: a durable table between them.

Hides: how a number is chosen so that it never comes twice, how the table is kept on disk. Must not know:
orders, the network. `Numbers` is called by `account` before an order leaves; the store behind it
(`ClientIds`) is handed in by whoever makes the venue: `FileIds`, or one of theirs.

Choosing: each minute since 2024 owns 4096 numbers, over 2**20 minutes (two years), then from the start again.
A number is the one after the last, or the first of the present minute, whichever is later on that circle. So
numbers rise over restarts whatever the clock does, as long as the table is kept; and where the table was lost
they begin behind everything a maker of fewer than 68 new orders a second ever used. Two desks on one account
need one table each and would meet: give them accounts of their own. Whether the venue itself refuses a number
that it has seen is not documented, so a client id of ours is never sent a second time.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import IO, Protocol

from api.errors import BadInput

SPACE = 1 << 32
PER_MINUTE = 4096
MINUTE_NS = 60_000_000_000
EPOCH_NS = 1_704_067_200_000_000_000  # 2024-01-01 UTC
KEPT = 200_000  # newest pairs that are remembered; an older order is found by the venue's own id


class ClientIds(Protocol):
    """The table. Safe from any thread."""

    def put(self, ours: str, theirs: int) -> None:
        """Durable against kill -9 when it returns. Raises OSError: then the order is not sent."""

    def get(self, ours: str) -> int | None: ...

    def ours(self, theirs: int) -> str | None: ...

    def last(self) -> int | None:
        """The number that was put last; None: none ever."""


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
            self._keep(ours, theirs)

    def _keep(self, ours: str, theirs: int) -> None:
        self._numbers[ours] = theirs
        self._texts[theirs] = ours
        self._last = theirs
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


class FileIds(MemoryIds):
    """The table in one file, a line `<number> <client id> <checksum>` per pair, appended by one write.

    A torn last line (a crash within the write) is dropped when the file is opened; it belonged to an order
    that never left. The file is written anew, without what is older than `kept`, when it has grown to twice
    that.

    Raises:
        BadInput: the file cannot be read or written.
    """

    def __init__(self, path: Path, kept: int = KEPT) -> None:
        super().__init__(kept)
        self._path = path
        self.dropped = 0
        self._is_torn = False
        try:
            lines = self._load()
            if lines > 2 * kept or self.dropped:
                self._rewrite()
            self._file: IO[bytes] = open(path, "ab", buffering=0)  # noqa: SIM115  (kept open)
        except OSError as error:
            raise BadInput(
                "client ids", f"the table {path.name} cannot be used ({type(error).__name__})"
            ) from None

    def put(self, ours: str, theirs: int) -> None:
        with self._lock:
            line = _line(ours, theirs)
            whole = b"\n" + line if self._is_torn else line  # a piece of a line must not spoil this one
            self._is_torn = True
            if self._file.write(whole) != len(whole):
                raise OSError("the table of client ids took only a part of a line")
            self._is_torn = False
            self._keep(ours, theirs)

    def close(self) -> None:
        """Idempotent."""
        self._file.close()

    def _load(self) -> int:
        if not self._path.exists():
            return 0
        lines = 0
        for line in self._path.read_bytes().split(b"\n"):
            if not line:
                continue
            lines += 1
            words = line.decode("utf-8", "replace").split(" ")
            if len(words) != 3 or not words[0].isdigit() or _line(words[1], int(words[0])) != line + b"\n":
                self.dropped += 1
                continue
            self._keep(words[1], int(words[0]))
        return lines

    def _rewrite(self) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        with open(fresh, "wb") as file:
            file.writelines(_line(ours, number) for ours, number in self._numbers.items())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)


def _line(ours: str, theirs: int) -> bytes:
    text = f"{theirs} {ours}"
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


def number_after(last: int | None, now_ns: int) -> int:
    """The next number: see the module docstring. Never 0."""
    minute = max(0, now_ns - EPOCH_NS) // MINUTE_NS
    first = minute * PER_MINUTE % SPACE
    chosen = first
    if last is not None:
        following = (last + 1) % SPACE
        is_behind = (first - following) % SPACE < SPACE // 2  # the present minute begins after the last one
        chosen = first if is_behind else following
    return chosen or 1


class Numbers:
    """Gives each client id of ours its number, once. Safe from any thread; shared by both products."""

    def __init__(self, ids: ClientIds) -> None:
        self._ids = ids
        self._lock = threading.Lock()

    def assign(self, client_id: str, now_ns: int) -> int:
        """The number of a new order, durable. Raises OSError."""
        with self._lock:
            number = number_after(self._ids.last(), now_ns)
            self._ids.put(client_id, number)
            return number

    def get(self, client_id: str) -> int | None:
        return self._ids.get(client_id)

    def client_id(self, number: int) -> str | None:
        return self._ids.ours(number)
