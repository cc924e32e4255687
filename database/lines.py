"""A file of checksummed lines that survives kill -9, torn writes and a full disk.

Hides: the line format (`crc32 in hex, space, JSON, newline`), how a half-written line is undone, how a
damaged one is found. Must not know what the lines mean. Called by `intents` and by `outbox` (its spill
file).

One line is one `os.write` on a descriptor in append mode: once the call returned the line survives the
death of the process, and `sync` makes it survive a power cut.
"""

from __future__ import annotations

import errno
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_HEAD = 9  # eight hex digits and a space


@dataclass(frozen=True, slots=True)
class Replay:
    """What a file held. `torn`: an unfinished last line (its write never returned). `damaged`: numbers of
    lines, from 1, whose checksum or shape is wrong and that were skipped.
    """

    payloads: tuple[Any, ...]
    torn: int
    damaged: tuple[int, ...]


def encode_line(payload: Any) -> bytes:
    """`payload` (JSON values) as one line, newline included."""
    body = _encode(payload)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def decode_line(line: bytes) -> Any:
    """The payload of one line without its newline. Raises ValueError when it is damaged."""
    body = line[_HEAD:]
    if len(line) <= _HEAD or line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(body):
        raise ValueError("checksum does not match")
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def replay(data: bytes) -> Replay:
    """Read what `LineFile` wrote, whatever happened to it since."""
    payloads: list[Any] = []
    damaged: list[int] = []
    lines = data.split(b"\n")
    torn = 1 if lines.pop() else 0
    for number, line in enumerate(lines, 1):
        if not line:
            continue  # the newline that ended a torn line
        try:
            payloads.append(decode_line(line))
        except ValueError:
            damaged.append(number)
    return Replay(tuple(payloads), torn, tuple(damaged))


class LineFile:
    """Append lines; not thread-safe (the owner holds a lock or has one thread).

    Raises:
        OSError: from every method, when the disk says no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._fd).st_size
        # a torn end from an earlier life must not swallow the next line
        self._needs_newline = self.size > 0 and os.pread(self._fd, 1, self.size - 1) != b"\n"

    def append(self, lines: bytes) -> None:
        """Write whole lines at once. On OSError none of them is there."""
        if self._needs_newline:
            lines = b"\n" + lines
        wrote = os.write(self._fd, lines)
        if wrote == len(lines):
            self.size += wrote
            self._needs_newline = False
            return
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.size += wrote
            self._needs_newline = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def read(self, offset: int) -> bytes:
        """Everything from `offset` (bytes) on."""
        parts = []
        while part := os.pread(self._fd, 1 << 20, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def read_lines(self, offset: int, at_least: int) -> bytes:
        """Whole lines from `offset` on: those of the next `at_least` bytes (more when a line is longer), at
        the end of the file whatever is there. Empty at the end.
        """
        data = os.pread(self._fd, at_least, offset)
        while (end := data.rfind(b"\n")) < 0 and (more := os.pread(self._fd, at_least, offset + len(data))):
            data += more
        return data[: end + 1] or data

    def sync(self) -> None:
        """Make every line so far survive a power cut."""
        os.fsync(self._fd)

    def clear(self) -> None:
        """Forget every line."""
        os.ftruncate(self._fd, 0)
        self.size = 0
        self._needs_newline = False

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in this directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
