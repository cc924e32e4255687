"""Recordings of a market: reading them, and writing new ones.

Hides: the file format, compression, how several files make one tape. Must not know: books, clocks, who plays
it. Called by `quote.feed` (the web face), by a direct run, and by `run.py`, which shows a person what is
wrong.

One line a frame: receive time in UTC nanoseconds, a space, the message as it was received, a newline; plain
or gzip. A file carries one market; one line may be the REST snapshot, which names none. Everything is read
once before anything is played, so a tape that begins to play also ends.
"""

from __future__ import annotations

import gzip
import heapq
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from api.errors import BadInput
from api.types import Instrument
from api.venues import binance_spot as wire

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 8 * 1024 * 1024  # bytes; a snapshot of 5000 levels a side is a tenth of it
EARLIEST_NS = 1_230_768_000 * 1_000_000_000  # 2009: before it there was nothing to record
SEGMENT_BYTES = 64 * 1024 * 1024  # of a recording's file before the next one is begun
FORMAT = "lines of '<receive time in ns> <message>' as recorded from Binance's combined stream, plain or gzip"

Frame = tuple[int, str, bytes]
"""(receive time in ns, venue symbol of the market, raw message)."""


@dataclass(frozen=True, slots=True)
class TapeFile:
    """What one file holds. `clock_offset_ms`: receive time minus exchange time at its smallest."""

    path: Path
    symbol: str
    first_ns: int
    last_ns: int
    frames: int
    has_snapshot: bool
    clock_offset_ms: float | None


class Tape:
    """One or more validated recordings, ready to play any number of times. Made by `open_tape`."""

    def __init__(self, markets: Sequence[Sequence[TapeFile]]) -> None:
        self._markets = tuple(tuple(files) for files in markets)
        every = [file for files in self._markets for file in files]
        self.files = tuple(every)
        self.symbols = tuple(files[0].symbol for files in self._markets)
        self.first_ns = min(file.first_ns for file in every)
        self.last_ns = max(file.last_ns for file in every)
        self.frame_count = sum(file.frames for file in every)

    def frames(self) -> Iterator[Frame]:
        """All frames by receive time; at the same nanosecond in the order the files were named. Raises
        BadInput when a file has changed since it was opened.
        """
        streams = [_frames_of(files) for files in self._markets]
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=_recv_ns)

    def carried(self, listed: Iterable[Instrument]) -> tuple[Instrument, ...]:
        """Those of the venue's instruments that are on the tape, in the venue's order.

        Raises BadInput when a market of the tape is not listed.
        """
        known = tuple(listed)
        found = tuple(one for one in known if one.venue_symbol in self.symbols)
        strange = sorted(set(self.symbols) - {one.venue_symbol for one in found})
        if strange:
            raise BadInput(
                "tape",
                f"the paper venue does not list {', '.join(strange)}; listed: "
                f"{', '.join(one.venue_symbol for one in known)}",
            )
        return found

    def clock_offset_ms(self, symbol: str) -> float | None:
        """Receive time minus exchange time of this market at its smallest, ms; negative when the recorder's
        clock ran behind. None when no message told a time.
        """
        told = [f.clock_offset_ms for f in self.files if f.symbol == symbol and f.clock_offset_ms is not None]
        return min(told, default=None)


def open_tape(paths: Sequence[Path]) -> Tape:
    """Read and check whole files, and put them in order.

    Several files of one market play one after the other by their first receive time; several markets are
    merged by receive time.

    Raises:
        BadInput: naming the file, the line where there is one, and what is allowed.
    """
    if not paths:
        raise BadInput("tape", "name at least one file")
    markets: dict[str, list[TapeFile]] = {}
    for path in paths:
        found = _examine(Path(path))
        markets.setdefault(found.symbol, []).append(found)
    for symbol, files in markets.items():
        files.sort(key=lambda file: file.first_ns)
        for before, after in zip(files, files[1:], strict=False):
            if after.first_ns <= before.last_ns:
                raise _bad(
                    after.path,
                    f"overlaps {before.path} in time; files of one market ({symbol}) must follow each other",
                )
        if not files[0].has_snapshot:
            raise _bad(
                files[0].path,
                f"has no snapshot of the book of {symbol}, so the book can't be rebuilt; the first file of a"
                " market needs the REST depth answer on one of its lines",
            )
    return Tape(list(markets.values()))


def _bad(path: Path, text: str, line: int | None = None) -> BadInput:
    where = f"{path}, line {line}" if line is not None else str(path)
    return BadInput("tape", f"{where}: {text}")


def _recv_ns(frame: Frame) -> int:
    return frame[0]


def _open(path: Path) -> BinaryIO:
    plain = path.open("rb")
    if plain.read(2) == GZIP_MAGIC:
        plain.close()
        return cast(BinaryIO, gzip.open(path, "rb"))
    plain.seek(0)
    return plain


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of one file, their newline included. Raises BadInput for what the file system or gzip have to
    say.
    """
    try:
        if path.is_dir():
            raise _bad(path, "is a directory; name the files in it")
        with _open(path) as file:
            while line := file.readline(MAX_LINE):
                yield line
    except FileNotFoundError:
        raise _bad(path, "there is no such file") from None
    except EOFError:
        raise _bad(path, "is cut short: the gzip stream has no end; get the whole file") from None
    except (gzip.BadGzipFile, zlib.error):
        raise _bad(path, "is damaged: its gzip stream cannot be unpacked") from None
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror or type(error).__name__})") from None


def _examine(path: Path) -> TapeFile:
    symbol: str | None = None
    first_ns = last_ns = 0
    count = 0
    has_snapshot = False
    offset_ns: int | None = None
    decode = wire.decode_envelope
    for number, line in enumerate(_lines(path), 1):
        text, space, raw = line.partition(b" ")
        if not space or not text.isdigit() or not EARLIEST_NS <= (recv_ns := int(text[:20])) < 1 << 63:
            raise _bad(path, f"this is not a recording; allowed are {FORMAT}", number)
        try:
            envelope = decode(raw)
        except (msgspec.MsgspecError, ValueError):
            what = "is not a whole message" if line.endswith(b"\n") else "is cut short"
            raise _bad(path, f"the line {what}; allowed are {FORMAT}", number) from None
        if recv_ns < last_ns:
            raise _bad(
                path, "its receive time is before that of the line above; it must never go back", number
            )
        if wire.product_of(envelope) == "usdm":
            raise _bad(
                path,
                "is a recording of USDT-margined futures, which cannot be played yet; spot recordings can",
                number,
            )
        if envelope.lastUpdateId is not None:
            has_snapshot = True
        elif envelope.stream is not None and envelope.data is not None:
            named = envelope.stream.partition("@")[0].upper()
            if symbol is None:
                symbol = named
            elif named != symbol:
                raise _bad(
                    path, f"is of {named}, the lines before of {symbol}; a file carries one market", number
                )
            if envelope.data.E is not None:
                behind_ns = recv_ns - envelope.data.E * 1_000_000
                offset_ns = behind_ns if offset_ns is None else min(offset_ns, behind_ns)
        last_ns = recv_ns
        first_ns = first_ns or recv_ns
        count += 1
    if symbol is None:
        raise _bad(path, f"names no market; allowed are {FORMAT}")
    return TapeFile(
        path,
        symbol,
        first_ns,
        last_ns,
        count,
        has_snapshot,
        None if offset_ns is None else offset_ns / 1_000_000,
    )


def _frames_of(files: Sequence[TapeFile]) -> Iterator[Frame]:
    for file in files:
        symbol = file.symbol
        for line in _lines(file.path):
            text, _, raw = line.partition(b" ")
            try:
                recv_ns = int(text)
            except ValueError:
                raise _bad(file.path, "has changed since it was opened") from None
            yield recv_ns, symbol, raw.rstrip(b"\r\n")


class TapeWriter:
    """Writes raw frames of one market to segment files of about SEGMENT_BYTES, readable by `open_tape`.

    A segment is `<name>_<first receive time>.tape.part` while it grows and loses `.part` when it is whole, so
    a file without it is never cut. Later segments carry no snapshot: play them together with the first. For
    one thread.

    Raises:
        OSError: the directory or a file cannot be written; the caller decides whether to go on without.
    """

    def __init__(self, directory: Path, name: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._name = name
        self._segment_bytes = segment_bytes
        self._file: BinaryIO | None = None
        self._part = Path()
        self._written = 0
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, recv_ns: int, raw: bytes) -> None:
        """Append one frame. A newline inside would end the line, and JSON needs none: it becomes a space."""
        if self._file is None or self._written >= self._segment_bytes:
            self.close()
            self._part = self._directory / f"{self._name}_{recv_ns}.tape.part"
            self._file = self._part.open("wb", buffering=1 << 16)
            self._written = 0
        if b"\n" in raw:
            raw = raw.replace(b"\n", b" ")
        self._written += self._file.write(b"%d %s\n" % (recv_ns, raw))

    def close(self) -> None:
        """Finish the present segment. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            with file:
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._part, self._part.with_suffix(""))
