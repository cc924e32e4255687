"""`intents.log`: every order we are about to send, written down before its first byte leaves.

Hides: the records, replay, compaction. Must not know: gateways, venues, what an answer means. Called by the
gateway (`record_place`, `record_done`) from any thread, and by whoever groups fsyncs (`sync`). It
implements `api.exchange.IntentStore`. Only the desk that holds the data directory (`database.place`) may
open it: a second one would compact the file away under the first.

A record is one appended line, not fsynced by itself: it survives kill -9 of the process at the moment
`record_place` returns. A power cut may take the last ones; their orders are found at the venue by our
client-id prefix. `record_done` may be lost: the venue is asked again then. An intent that is still open at
the next start is exactly what must be asked about.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.errors import BadInput
from api.types import InstrumentId, Place, Side, Tif
from database.lines import LineFile, Replay, decode_line, encode_line, replay, sync_directory

log = logging.getLogger("makerdeck.intents")

SCHEMA = 1
COMPACT_BYTES = 32 << 20  # about 100,000 orders; `sync` rewrites the file when it has grown past this


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that may have been sent and has no recorded end. `place.why` is not kept."""

    worker: str
    account: str
    place: Place
    at_ns: int


class IntentLog:
    """Opens, replays and compacts the log at `path`; created when absent.

    `torn` counts unfinished last lines (nothing was sent for those), `damaged` records that had to be
    skipped: the file as it was is then kept beside the new one, as `<name>.damaged-<n>`, and a warning is
    logged. Thread-safe.

    Raises:
        BadInput: field "data-dir": not writable, or written by a newer version.
    """

    def __init__(self, path: Path, *, compact_bytes: int = COMPACT_BYTES) -> None:
        self.path = path
        self.torn = 0
        self.damaged = 0
        self.lost_done = 0
        self._compact_bytes = compact_bytes
        self._compact_at = compact_bytes
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._open: dict[str, bytes] = {}
        self._file: LineFile | None = None
        try:
            self._begin()
        except BadInput:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise BadInput("data-dir", f"cannot keep {path.name} there: {error.strerror or error}") from error

    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None:
        """Durable against kill -9 when it returns.

        Raises:
            OSError: it could not be written (disk full, file gone bad, closed): nothing may be sent.
        """
        line = encode_line(
            (
                "p",
                at_ns,
                worker,
                account,
                place.client_id,
                str(place.instrument),
                place.side.value,
                place.ticks,
                place.lots,
                place.tif.value,
                place.post_only,
                place.reduce_only,
                place.level,
            )
        )
        with self._lock:
            self._append(line)
            self._open[place.client_id] = line

    def record_done(self, client_id: str, at_ns: int) -> None:
        """The venue told the end of this order. Never raises: a record that cannot be written is counted in
        `lost_done`, and the next start asks the venue once more.
        """
        with self._lock:
            if self._open.pop(client_id, None) is None:
                return
            try:
                self._append(encode_line(("d", at_ns, client_id)))
            except OSError:
                self.lost_done += 1

    def open_intents(self) -> tuple[Intent, ...]:
        """Intents without an end, oldest first: right after the start, those of the earlier life."""
        with self._lock:
            lines = tuple(self._open.values())
        return tuple(_intent(decode_line(line[:-1])) for line in lines)

    def sync(self) -> None:
        """Make everything so far survive a power cut; rewrite the file when it has grown large. Called now
        and then from a thread that may wait for a disk. Raises OSError.
        """
        with self._syncing:
            file = self._file
            if file is None:
                return
            file.sync()
            if file.size > self._compact_at:
                self._compact(file)

    def close(self) -> None:
        """Idempotent. Records after it raise OSError."""
        with self._syncing, self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.sync()
                self._file.close()
                self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise OSError(f"{self.path.name} is closed")
        self._file.append(line)

    def _begin(self) -> None:
        """Replay what is there, keep a damaged file aside, write the open intents to a new one."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        found = replay(data)
        self.torn = found.torn
        unreadable = self._take(found)
        self.damaged = len(found.damaged) + unreadable
        if self.torn:
            log.warning("intents torn=%d nothing was sent for an unfinished record", self.torn)
        if self.damaged:
            aside = _free_name(self.path)
            aside.touch(mode=0o600)
            aside.write_bytes(data)
            log.warning("intents damaged=%d kept=%s ask the venue by client id", self.damaged, aside.name)
        self._file = self._write_new(self._open.values())
        self._file.path = self._file.path.replace(self.path)
        sync_directory(self.path.parent)

    def _take(self, found: Replay) -> int:
        """Fold the records into `_open`; answers how many made no sense."""
        unreadable = 0
        for payload in found.payloads:
            match payload:
                case ["h", int(schema)]:
                    if schema > SCHEMA:
                        text = f"was written by a newer version (schema {schema}, this one reads {SCHEMA})"
                        raise BadInput("data-dir", f"{self.path.name} {text}")
                case ["p", *_]:
                    try:
                        intent = _intent(payload)
                    except (ValueError, TypeError):
                        unreadable += 1
                        continue
                    self._open[intent.place.client_id] = encode_line(payload)
                case ["d", int(), str(client_id)]:
                    self._open.pop(client_id, None)
                case _:
                    unreadable += 1
        return unreadable

    def _compact(self, file: LineFile) -> None:
        """Rewrite while others go on recording: the long part without their lock, then the lines they added
        meanwhile.
        """
        with self._lock:
            kept = tuple(self._open.values())
            copied = file.size
        fresh = self._write_new(kept)
        try:
            with self._lock:
                if tail := file.read(copied):
                    fresh.append(tail)
                fresh.path = fresh.path.replace(self.path)
                self._file = fresh
        except OSError:
            fresh.close()
            fresh.path.unlink(missing_ok=True)
            raise
        file.close()
        self._compact_at = max(self._compact_bytes, 2 * fresh.size)
        fresh.sync()
        sync_directory(self.path.parent)

    def _write_new(self, lines: Iterable[bytes]) -> LineFile:
        """A synced file beside the log with a header and `lines`."""
        path = self.path.with_name(self.path.name + ".new")
        path.unlink(missing_ok=True)
        fresh = LineFile(path)
        try:
            fresh.append(encode_line(("h", SCHEMA)) + b"".join(lines))
            fresh.sync()
        except OSError:
            fresh.close()
            path.unlink(missing_ok=True)
            raise
        return fresh


def _intent(payload: list[Any]) -> Intent:
    _, at_ns, worker, account, client_id, instrument, side, ticks, lots, tif, *flags = payload
    post_only, reduce_only, level = flags
    place = Place(
        client_id=client_id,
        instrument=InstrumentId(instrument),
        side=Side(side),
        ticks=ticks,
        lots=lots,
        tif=Tif(tif),
        post_only=post_only,
        reduce_only=reduce_only,
        level=level,
    )
    return Intent(worker, account, place, at_ns)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
