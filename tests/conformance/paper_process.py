"""A paper venue in a process of its own for tests: `python -m tests.conformance.paper_process ADDRESS`.

Its market is what standard input says, a JSON line a frame: a book, a trade, or a verb of the source. It
prints its address, then `ok` after each line. The token comes from PAPER_TEST_TOKEN. It ends with its
standard input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from api.exchange import DepthView
from api.runtime import Clock, Service
from api.types import BookLost, Event, InstrumentId, Side
from api.venues.paper.server import Sink, serve
from tests.conformance.market import BTC, HandBook, printed, terms
from tests.conformance.rigs import BALANCES, QUICK


class HandFold:
    """What a fold is, for frames of the kind above."""

    def __init__(self, view: HandBook) -> None:
        self.view = view
        self.trades = 0

    @property
    def builders(self) -> Mapping[InstrumentId, DepthView]:
        return {BTC: self.view}

    def fold(self, raw: bytes, recv_ns: int, at_ns: int, symbol: str | None = None) -> Iterable[Event]:
        told: dict[str, Any] = json.loads(raw)
        if "bids" in told:
            self.view.set(dict(told["bids"]), dict(told["asks"]))
            return (self.view.changed(at_ns),)
        self.trades += 1
        return (printed(Side(told["side"]), told["ticks"], told["lots"], at_ns, trade_id=str(self.trades)),)

    def drop(self, reason: str, at_ns: int) -> Iterable[Event]:
        self.view.is_synced = False
        return (BookLost(at_ns, BTC, reason),)

    restart = drop

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        return ()


def snapshot(view: DepthView) -> tuple[str, bytes]:
    """The book as such a frame."""
    told = {"bids": view.walk(True, None), "asks": view.walk(False, None)}
    return "BTCUSDT", json.dumps(told).encode()


class HandSource:
    label = "SYNTHETIC"

    def __init__(self, clock: Clock, ended: threading.Event) -> None:
        self._clock = clock
        self._ended = ended

    def run(self, service: Service, emit: Sink) -> None:
        emit.up("")
        for line in sys.stdin.buffer:
            verb = json.loads(line).get("verb")
            if verb is None:
                emit(None, self._clock.now_ns(), line.strip())
            elif verb == "restart":
                emit.restart("told to", "")
            elif verb == "up":
                emit.up("")
            elif verb == "end":
                emit.end("told to")
            else:
                emit.down("told to")
            print("ok", flush=True)
        self._ended.set()


def main(listen: str) -> int:
    clock, ended = Clock(), threading.Event()
    fold = HandFold(HandBook(terms()))
    return serve(
        HandSource(clock, ended),
        fold,
        [fold.view.instrument],
        BALANCES,
        listen=listen,
        token=os.environ["PAPER_TEST_TOKEN"],
        clock=clock,
        wait=ended.wait,
        announce=lambda address: print(address, flush=True),
        settings=QUICK,
        snapshot=snapshot,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
