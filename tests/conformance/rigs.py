"""The venues that keep the contract of `api/exchange.py`, each with a market that a test moves by hand.

A rig is a venue in one of its hosts. A later venue joins by one line in `RIGS`: a scripted server of it, with
the same few verbs. Prices are in ticks of 0.01, sizes in lots of 0.001, delays a few milliseconds, answers
are waited for 0.4 s and late ones come after 0.7 s.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, Protocol, TypeVar

from api.exchange import Exchange
from api.runtime import Clock
from api.types import (
    _GRANT,
    Approved,
    Command,
    Event,
    Instrument,
    InstrumentId,
    Place,
    Request,
    Side,
    Tif,
)
from api.venues.paper.client import PaperClient
from api.venues.paper.faults import Fault
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import SteppedPaper, ThreadedPaper
from tests.conformance.market import BTC, MS, HandBook, printed, terms
from tests.shared import ROOT

BALANCES = {"USDT": Decimal(100_000), "BTC": Decimal(100)}
ANSWER_S = 0.4
LATE_S = 0.7
QUICK = PaperSettings(
    place_delay_ms=2,
    cancel_delay_ms=2,
    hear_delay_ms=1,
    answer_timeout_ms=ANSWER_S * 1000,
    late_answer_ms=LATE_S * 1000,
    early_fill_ms=150,
    cut_ms=200,
    stale_ms=400,
    retry_after_s=0.25,
)
PATIENCE_S = 10.0
TOKEN = "only-for-this-test-0123456789"

Levels = Mapping[int, int]
E = TypeVar("E")


class Rig(Protocol):
    """What a conformance test may do."""

    heard: list[Event]

    @property
    def exchange(self) -> Exchange: ...
    def book(self, bids: Levels, asks: Levels) -> None: ...
    def trade(self, side: Side, ticks: int, lots: int) -> None: ...
    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None: ...
    def cut(self, for_ms: float) -> None: ...
    def another(self, account: str) -> Exchange: ...
    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        """Let time pass until the condition holds; False when it never did."""

    def close(self) -> None: ...


class SteppedRig:
    """The paper venue in one thread with the test."""

    def __init__(self, settings: PaperSettings = QUICK, instrument: Instrument | None = None) -> None:
        self.heard: list[Event] = []
        self.view = HandBook(instrument or terms())
        self.paper = SteppedPaper({BTC: self.view}, [self.view.instrument], BALANCES, settings, 7)
        self._exchange = self.paper.exchange("main")
        self._now_ns = 1_000 * MS
        self.paper.advance(self._now_ns)

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Levels, asks: Levels) -> None:
        self.view.set(bids, asks)
        self.paper.on_market(self.view.changed(self._now_ns))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.paper.on_market(printed(side, ticks, lots, self._now_ns))

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        self.paper.fault(fault, n, on=on)

    def cut(self, for_ms: float) -> None:
        self.paper.cut_stream("main", for_ms)

    def another(self, account: str) -> Exchange:
        return self.paper.exchange(account)

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        end_ns = self._now_ns + int(at_most_s * 1e9)
        while not until():
            if self._now_ns >= end_ns:
                return False
            self._now_ns += MS // 2
            self.paper.advance(self._now_ns)
        return True

    def close(self) -> None:
        self._exchange.close()


class ThreadedRig:
    """The paper venue with a thread of its own; the test is the feed's thread."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.view = HandBook(terms())
        self.clock = Clock()
        self.paper = ThreadedPaper(
            {BTC: self.view}, [self.view.instrument], BALANCES, QUICK, 7, clock=self.clock
        )
        self._exchange = self.paper.exchange("main")

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def book(self, bids: Levels, asks: Levels) -> None:
        self.view.set(bids, asks)
        self.paper.on_market(self.view.changed(self.clock.now_ns()))

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.paper.on_market(printed(side, ticks, lots, self.clock.now_ns()))

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        self.paper.fault(fault, n, on=on)

    def cut(self, for_ms: float) -> None:
        self.paper.cut_stream("main", for_ms)

    def another(self, account: str) -> Exchange:
        return self.paper.exchange(account)

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        return poll(until, at_most_s)

    def close(self) -> None:
        self._exchange.close()
        self.paper.close()


class SocketRig:
    """The paper venue in a process of its own (`tests/conformance/paper_process.py`), spoken to by
    `PaperClient`."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.clock = Clock()
        self.process = PaperProcess.next()
        self.client = self._client("main")
        self._others: list[PaperClient] = []

    def _client(self, account: str) -> PaperClient:
        return PaperClient(
            self.process.address,
            TOKEN,
            account,
            clock=self.clock,
            answer_timeout_s=ANSWER_S,
            call_timeout_s=3.0,
            reconnect_s=0.02,
        )

    @property
    def exchange(self) -> Exchange:
        return self.client

    def book(self, bids: Levels, asks: Levels) -> None:
        self.process.book(bids, asks)

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self.process.trade(side, ticks, lots)

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        self.client.fault(fault, n, on=on)

    def cut(self, for_ms: float) -> None:
        self.client.cut_stream(for_ms)

    def another(self, account: str) -> Exchange:
        self._others.append(self._client(account))
        return self._others[-1]

    def pass_time(self, until: Callable[[], bool], at_most_s: float) -> bool:
        return poll(until, at_most_s)

    def close(self) -> None:
        for client in (self.client, *self._others):
            client.close()
        self.process.close()


RIGS: dict[str, Callable[[], Rig]] = {
    "paper-stepped": SteppedRig,
    "paper-threaded": ThreadedRig,
    "paper-socket": SocketRig,
    "backpack": lambda: importlib.import_module("tests.conformance.rig_backpack").BackpackRig(),
    "okx_spot": lambda: importlib.import_module("tests.conformance.rig_okx").OkxRig(),
    "binance_usdm": lambda: importlib.import_module("tests.conformance.rig_binance_usdm").rig(),
    "aster_perp": lambda: importlib.import_module("tests.conformance.rig_aster").rig(),
    "thalex": lambda: importlib.import_module("tests.conformance.rig_thalex").ThalexRig(),
    "paradex": lambda: importlib.import_module("tests.conformance.rig_paradex").ParadexRig(),
}


class PaperProcess:
    """A paper venue in a child process whose market is moved through its standard input."""

    _spare: ClassVar[PaperProcess | None] = None

    @classmethod
    def next(cls) -> PaperProcess:
        """A fresh one. The one after it is started already, so that no test waits for an interpreter."""
        if cls._spare is None:
            atexit.register(cls._drop_spare)
        taken = cls._spare or cls()
        cls._spare = cls()
        return taken

    @classmethod
    def _drop_spare(cls) -> None:
        if cls._spare is not None:
            cls._spare.close()

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        environ = {**os.environ, "PAPER_TEST_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.paper_process", listen],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._address = ""

    @property
    def address(self) -> str:
        """Where it listens; waits for it the first time."""
        self._address = self._address or self._answer()
        return self._address

    def book(self, bids: Levels, asks: Levels) -> None:
        self._tell({"bids": list(bids.items()), "asks": list(asks.items())})

    def trade(self, side: Side, ticks: int, lots: int) -> None:
        self._tell({"side": side.value, "ticks": ticks, "lots": lots})

    def note(self, verb: str) -> None:
        """The market's source says up, down, restart or end."""
        self._tell({"verb": verb})

    def close(self) -> None:
        """End it at once; nothing of it is kept."""
        self.child.kill()
        self.child.wait(10)
        if PaperProcess._spare is self:
            PaperProcess._spare = None
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()

    def _tell(self, what: dict[str, Any]) -> None:
        assert self.address, "the paper venue's process did not start"
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(what).encode() + b"\n")
        self.child.stdin.flush()
        assert self._answer() == "ok"

    def _answer(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().decode().strip()


# ---------------------------------------------------------------------------------------------------- verbs


def poll(until: Callable[[], bool], at_most_s: float) -> bool:
    """Look every millisecond until the condition holds; False when it never did."""
    clock, pause = Clock(), threading.Event()
    end_ns = clock.now_ns() + int(at_most_s * 1e9)
    while not until():
        if clock.now_ns() > end_ns:
            return False
        pause.wait(0.001)
    return True


def approved(command: Command) -> Approved:
    """As if the risk gate had said yes."""
    return Approved(command, "w", _GRANT)


def place(
    client_id: str,
    side: Side = Side.BUY,
    ticks: int = 9_990,
    lots: int = 100,
    *,
    tif: Tif = Tif.GTC,
    post_only: bool | None = None,
    instrument: InstrumentId = BTC,
) -> Place:
    """Post-only unless the time in force says otherwise."""
    only = tif is Tif.GTC if post_only is None else post_only
    return Place(client_id, instrument, side, ticks, lots, tif, only)


def all_of(heard: list[Event], kind: type[E]) -> list[E]:
    return [event for event in tuple(heard) if isinstance(event, kind)]


def with_settings(**changes: Any) -> PaperSettings:
    return replace(QUICK, **changes)
