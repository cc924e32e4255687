"""One canonical line per engine event, command and venue answer, and the hash over them.

Two runs are the same run exactly when their hashes are equal. The lines are made of market, order and
operator facts in tape time only: no wall clock, process id, path, object identity or set order comes in, and
no run number, which our client ids and the paper venue's ids carry so that they are unique over the runs on
one data directory. The line format is versioned with `SCHEMA`; changing it changes every hash.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from decimal import Decimal
from enum import Enum

from api.types import BookChanged
from strategies.base import Params
from strategies.lane import ForWorker

SCHEMA = 1

_OURS = re.compile(r"\b(md[0-9a-z]{4}[0-9a-z]{3})[0-9a-z]{4}([0-9a-z]{6})\b")  # see api.gateway
_THEIRS = re.compile(r"\b(trade_id|venue_id)=[0-9]+-")  # see api.venues.paper.core


class Trace:
    """Feeds a SHA-256 with canonical lines. `hexdigest()` may be asked at any time."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(f"makerdeck trace {SCHEMA}\n".encode())
        self.lines = 0

    def __call__(self, item: object) -> None:
        self.lines += 1
        self._hash.update(line(item).encode())
        self._hash.update(b"\n")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def line(item: object) -> str:
    """The canonical text of one event (with its worker) or command."""
    if isinstance(item, ForWorker):
        event = item.event
        if isinstance(event, BookChanged):  # by far the most frequent: spelled out
            book = event.book
            return (
                f"E {item.worker} BookChanged {event.at_ns} {book.instrument} {book.seq} "
                f"{book.venue_ns} {book.recv_ns} {book.bids} {book.asks}"
            )
        return _without_run(f"E {item.worker} {text(event)}")
    return _without_run(f"C {text(item)}")


def _without_run(made: str) -> str:
    return _THEIRS.sub(r"\1=", _OURS.sub(r"\1\2", made))


def text(value: object) -> str:
    """Plain text of a value type, fields in the order of their declaration."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return "(" + ",".join(text(v) for v in value) + ")"
    if isinstance(value, Params):
        return text(tuple(sorted((k, str(v)) for k, v in value.as_dict().items())))
    made = " ".join(f"{f.name}={text(getattr(value, f.name))}" for f in fields(value) if f.compare)  # type: ignore[arg-type]
    return f"{type(value).__name__} {made}"
