"""The paper venue as an `Exchange`, in two hosts.

`SteppedPaper` lives in one thread with a tape: the loop says what the market did and what time it is, and
events are handed to the listeners synchronously, in order, at their own moment. `ThreadedPaper` lives in a
running desk: the feed's thread tells it of the market, any thread may send, one thread of its own runs what
is due and is the only one that calls listeners.

Hides the lock, and which view of the book may be read by which thread. Knows neither feeds nor engines: it is
given `views`, the rebuilt books by instrument (`quote`'s builders). Built by `run.py` or by `server.py`.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from api.exchange import Capabilities, DepthView, Listener
from api.runtime import ClockLike, Service, SteppedClock
from api.types import (
    Answered,
    Approved,
    Balance,
    Book,
    BookChanged,
    BookLost,
    Command,
    Event,
    Fill,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderReport,
    Outcome,
    Request,
    Traded,
)
from api.venues.paper.core import PaperVenue, request_of
from api.venues.paper.faults import Fault, Faults
from api.venues.paper.instruments import VENUE
from api.venues.paper.settings import SELF_TRADE_MODES, PaperSettings

log = logging.getLogger("makerdeck.paper")

IDLE_S = 0.25  # the longest sleep of the threaded host: bounds how late it notices that it should stop
DEEP_EVERY_NS = (
    100_000_000  # a large book is copied whole at most this often; its published top is always newest
)
SMALL_BOOK = 400  # levels; smaller books are copied each time


class _Host(Protocol):
    """What `PaperExchange` needs of either host. Each method is safe from the threads that host serves."""

    def attach(self, account: str, heard: Listener) -> None: ...
    def detach(self, account: str, heard: Listener) -> None: ...
    def send(self, account: str, command: Command) -> None: ...
    def cancel_all(self, account: str, instrument: InstrumentId | None) -> None: ...
    def arm_dead_man(self, account: str, timeout_s: float) -> None: ...
    def open_orders(self, account: str, instrument: InstrumentId | None) -> tuple[OrderReport, ...]: ...
    def order(self, account: str, instrument: InstrumentId, client_id: str) -> OrderReport: ...
    def fills(self, account: str, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]: ...
    def balances(self, account: str) -> tuple[Balance, ...]: ...
    def queue_ahead(self, client_id: str) -> int | None: ...
    def listed(self) -> tuple[Instrument, ...]: ...
    def now_ns(self) -> int: ...


class PaperExchange:
    """One account at a paper venue of this process; `api.exchange` says what each call promises."""

    def __init__(self, host: _Host, account: str) -> None:
        self._host = host
        self._account = account
        self._heard: Listener | None = None
        self._is_closed = False

    @property
    def venue(self) -> str:
        return VENUE

    @property
    def account(self) -> str:
        return self._account

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self._host.listed())

    def connect(self, heard: Listener) -> None:
        self._heard = heard
        self._is_closed = False
        self._host.attach(self._account, heard)

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`: then no answer could be told to anybody."""
        heard = self._heard
        if heard is None:
            raise RuntimeError(f"paper account {self._account}: connect before sending")
        if self._is_closed:
            heard(never_sent(approved.command, self._host.now_ns(), "the venue was closed"))
            return
        self._host.send(self._account, approved.command)

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        self._host.cancel_all(self._account, instrument)

    def arm_dead_man(self, timeout_s: float) -> None:
        self._host.arm_dead_man(self._account, timeout_s)

    def fetch_instruments(self) -> tuple[Instrument, ...]:
        return self._host.listed()

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        return self._host.open_orders(self._account, instrument)

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        return self._host.order(self._account, instrument, client_id)

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        return self._host.fills(self._account, instrument, since_ns)

    def fetch_balances(self) -> tuple[Balance, ...]:
        return self._host.balances(self._account)

    def fetch_server_ns(self) -> int:
        return self._host.now_ns()

    def queue_ahead(self, client_id: str) -> int | None:
        """Lots that must trade before this order does; None when it does not rest."""
        return self._host.queue_ahead(client_id)

    def close(self) -> None:
        """Stop listening. Orders rest on, as at a real venue."""
        if not self._is_closed and self._heard is not None:
            self._is_closed = True
            self._host.detach(self._account, self._heard)


def capabilities_of(instruments: Iterable[Instrument]) -> Capabilities:
    """What a paper venue with these instruments can do."""
    return Capabilities(
        amend=True,
        amend_keeps_queue=True,
        cancel_all=True,
        self_trade_prevention=SELF_TRADE_MODES,
        dead_man=True,
        maker_rebates=any(one.maker_fee < 0 for one in instruments),
        is_simulated=True,
    )


def never_sent(command: Command, at_ns: int, reason: str) -> Answered:
    """The answer to a command that did not leave."""
    return Answered(
        at_ns,
        command.client_id,
        command.instrument,
        request_of(command),
        Outcome.UNAVAILABLE,
        error="Unavailable",
        reason=reason,
    )


class SteppedPaper:
    """The venue of a tape: single-threaded, deterministic.

    The loop calls `advance(t)` before it folds the frame of time t into the views, then `on_market` with what
    came of it: so a command that arrived before t is matched against the book as it was. Both run what is due
    and hand it over first.

    Args:
        views: the rebuilt books by instrument, read at each event.
        balances: what each new account starts with.
        seed: of the stream of chance that `fault_odds` are drawn from.
        clock: if given, moved to each moment before its events are handed over, so that a listener reads the
            right time.
    """

    def __init__(
        self,
        views: Mapping[InstrumentId, DepthView],
        instruments: Iterable[Instrument],
        balances: Mapping[str, Decimal],
        settings: PaperSettings | None = None,
        seed: int = 0,
        *,
        fault_odds: Mapping[Fault, float] | None = None,
        clock: SteppedClock | None = None,
    ) -> None:
        self.core = PaperVenue(instruments, balances, settings, _faults(seed, fault_odds))
        self._views = views
        self._clock = clock
        self._heard: dict[str, Listener] = {}
        self._exchanges: dict[str, PaperExchange] = {}

    def exchange(self, account: str = "main", balances: Mapping[str, Decimal] | None = None) -> PaperExchange:
        """The account of that name; `balances` replace the start balances when it is new (see
        `instruments.settled`)."""
        self.core.open_account(account, balances)
        return self._exchanges.setdefault(account, PaperExchange(self, account))

    # ------------------------------------------------------------------ the tape's loop

    def on_market(self, event: Event) -> None:
        """`BookChanged`, `Traded` and `BookLost` of listed instruments matter, everything else is passed
        over."""
        core = self.core
        at_ns = event.at_ns
        self.advance(at_ns)
        kind = type(event)
        if kind is BookChanged:
            view = self._views.get(event.book.instrument)  # type: ignore[union-attr]
            if view is not None:
                core.on_book(view, at_ns)
        elif kind is Traded:
            core.on_trade(event.trade, at_ns)  # type: ignore[union-attr]
        elif kind is BookLost:
            core.on_book_lost(event.instrument)  # type: ignore[union-attr]
        due_ns = core.next_due_ns
        if due_ns is not None and due_ns <= at_ns:  # with no hearing delay fills are heard now
            self.advance(at_ns)

    def advance(self, now_ns: int) -> None:
        """Run and hand over everything due at `now_ns`."""
        core = self.core
        while core.run_next(now_ns):
            if core.outbox:
                self._hand_over()

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        """The next `n` commands or reads meet this fault."""
        self.core.faults.next(fault, n, on=on)

    def cut_stream(self, account: str, for_ms: float | None = None) -> None:
        self.core.cut_stream(account, self.core.now_ns, for_ms)

    def ledger(self) -> dict[str, Any]:
        """Everything the venue knows, by account (see `ledger_of`)."""
        return ledger_of(self.core)

    # ------------------------------------------------------------------ for PaperExchange

    def attach(self, account: str, heard: Listener) -> None:
        self._heard[account] = heard
        heard(LinkChanged(self.core.now_ns, VENUE, "account", True, "connected"))

    def detach(self, account: str, heard: Listener) -> None:
        if self._heard.get(account) is heard:
            del self._heard[account]

    def send(self, account: str, command: Command) -> None:
        self.core.submit(account, command, self.core.now_ns)

    def cancel_all(self, account: str, instrument: InstrumentId | None) -> None:
        self.core.check_read()
        self.core.submit_cancel_all(account, instrument, self.core.now_ns)

    def arm_dead_man(self, account: str, timeout_s: float) -> None:
        self.core.check_read()
        self.core.arm_dead_man(account, timeout_s, self.core.now_ns)

    def open_orders(self, account: str, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        self.core.check_read()
        return self.core.open_orders(account, instrument, self.core.now_ns)

    def order(self, account: str, instrument: InstrumentId, client_id: str) -> OrderReport:
        self.core.check_read()
        return self.core.order(account, instrument, client_id)

    def fills(self, account: str, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        self.core.check_read()
        return self.core.fills(account, instrument, since_ns)

    def balances(self, account: str) -> tuple[Balance, ...]:
        self.core.check_read()
        return self.core.balances(account)

    def queue_ahead(self, client_id: str) -> int | None:
        return _queue_ahead(self.core, client_id)

    def listed(self) -> tuple[Instrument, ...]:
        return tuple(market.instrument for market in self.core.markets.values())

    def now_ns(self) -> int:
        return self.core.now_ns

    def _hand_over(self) -> None:
        told, self.core.outbox = self.core.outbox, []
        for account, event in told:
            if self._clock is not None:
                self._clock.step_to(event.at_ns)
            heard = self._heard.get(account)
            if heard is not None:
                heard(event)


class ThreadedPaper:
    """The venue of a running desk. One lock guards the core; listeners are called outside it, from the
    venue's own thread.

    The builders behind `views` are changed by the feed's thread, so only `on_market`, which that thread
    calls, reads them. It leaves a copy behind for everybody else: the published top of each `BookChanged`,
    over a copy of the whole book that is at most `DEEP_EVERY_NS` old (only the displayed sizes far from the
    touch can be that old).
    """

    def __init__(
        self,
        views: Mapping[InstrumentId, DepthView],
        instruments: Iterable[Instrument],
        balances: Mapping[str, Decimal],
        settings: PaperSettings | None = None,
        seed: int = 0,
        *,
        clock: ClockLike,
        fault_odds: Mapping[Fault, float] | None = None,
    ) -> None:
        self.core = PaperVenue(instruments, balances, settings, _faults(seed, fault_odds))
        self._views = views
        self._clock = clock
        self._heard: dict[str, Listener] = {}
        self._exchanges: dict[str, PaperExchange] = {}
        self._deep: dict[InstrumentId, _Deep] = {}
        self._told: deque[tuple[Listener | None, str, Event]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._planned_ns = 0
        self._service: Service | None = None

    def start(self) -> ThreadedPaper:
        """Start the venue's thread. Idempotent."""
        with self._lock:
            if self._service is None:
                self._service = Service("paper-venue", self._run, restart_after_s=0.1)
                self._service.start()
        return self

    @property
    def services(self) -> tuple[Service, ...]:
        """For health: the thread, once started."""
        return () if self._service is None else (self._service,)

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop the thread. Nothing is cancelled: cancel before, if nothing shall rest. Idempotent."""
        service = self._service
        if service is not None:
            service.stop()
            self._wake.set()
            service.join(timeout_s)

    def exchange(self, account: str = "main", balances: Mapping[str, Decimal] | None = None) -> PaperExchange:
        """The account of that name; `balances` replace the start balances when it is new (see
        `instruments.settled`)."""
        with self._lock:
            self.core.open_account(account, balances)
            return self._exchanges.setdefault(account, PaperExchange(self, account))

    # ------------------------------------------------------------------ the feed's thread

    def on_market(self, event: Event) -> None:
        """Tell what the market did. Only from the thread that changes the builders."""
        kind = type(event)
        with self._lock:
            core = self.core
            at_ns = self._clock.now_ns()
            while core.run_next(at_ns):
                pass
            if kind is BookChanged:
                book: Book = event.book  # type: ignore[union-attr]
                view = self._views.get(book.instrument)
                market = core.markets.get(book.instrument)
                if view is not None and market is not None:
                    core.on_book(view, at_ns)
                    market.use(self._copied(view, book, at_ns))
            elif kind is Traded:
                core.on_trade(event.trade, at_ns)  # type: ignore[union-attr]
            elif kind is BookLost:
                core.on_book_lost(event.instrument)  # type: ignore[union-attr]
            self._wake_if_needed()

    def _copied(self, view: DepthView, book: Book, at_ns: int) -> DepthView:
        deep = self._deep.get(book.instrument)
        if deep is None or deep.size <= SMALL_BOOK or at_ns - deep.at_ns >= DEEP_EVERY_NS:
            deep = self._deep[book.instrument] = _Deep(view, at_ns)
        return _Copy(view.instrument, book, view.best_bid, view.best_ask, deep)

    # ------------------------------------------------------------------ any thread

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        """The next `n` commands or reads meet this fault."""
        with self._lock:
            self.core.faults.next(fault, n, on=on)

    def cut_stream(self, account: str, for_ms: float | None = None) -> None:
        with self._lock:
            self.core.cut_stream(account, self._clock.now_ns(), for_ms)
            self._wake_if_needed()

    def ledger(self) -> dict[str, Any]:
        """Everything the venue knows, by account (see `ledger_of`)."""
        with self._lock:
            return ledger_of(self.core)

    def attach(self, account: str, heard: Listener) -> None:
        self.start()
        with self._lock:
            self._heard[account] = heard
            up = LinkChanged(self._clock.now_ns(), VENUE, "account", True, "connected")
            self._told.append((heard, account, up))
        self._wake.set()

    def detach(self, account: str, heard: Listener) -> None:
        with self._lock:
            if self._heard.get(account) is heard:
                del self._heard[account]

    def send(self, account: str, command: Command) -> None:
        with self._lock:
            self.core.submit(account, command, self._clock.now_ns())
            self._wake_if_needed()

    def cancel_all(self, account: str, instrument: InstrumentId | None) -> None:
        with self._lock:
            self.core.check_read()
            self.core.submit_cancel_all(account, instrument, self._clock.now_ns())
            self._wake_if_needed()

    def arm_dead_man(self, account: str, timeout_s: float) -> None:
        with self._lock:
            self.core.check_read()
            self.core.arm_dead_man(account, timeout_s, self._clock.now_ns())
            self._wake_if_needed()

    def open_orders(self, account: str, instrument: InstrumentId | None) -> tuple[OrderReport, ...]:
        with self._lock:
            self.core.check_read()
            return self.core.open_orders(account, instrument, self._clock.now_ns())

    def order(self, account: str, instrument: InstrumentId, client_id: str) -> OrderReport:
        with self._lock:
            self.core.check_read()
            return self.core.order(account, instrument, client_id)

    def fills(self, account: str, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        with self._lock:
            self.core.check_read()
            return self.core.fills(account, instrument, since_ns)

    def balances(self, account: str) -> tuple[Balance, ...]:
        with self._lock:
            self.core.check_read()
            return self.core.balances(account)

    def queue_ahead(self, client_id: str) -> int | None:
        with self._lock:
            return _queue_ahead(self.core, client_id)

    def listed(self) -> tuple[Instrument, ...]:
        return tuple(market.instrument for market in self.core.markets.values())

    def now_ns(self) -> int:
        return self._clock.now_ns()

    # ------------------------------------------------------------------ the venue's own thread

    def _wake_if_needed(self) -> None:
        core = self.core
        due_ns = core.next_due_ns
        if core.outbox or (due_ns is not None and due_ns < self._planned_ns):
            self._planned_ns = 0  # once is enough
            self._wake.set()

    def _run(self, service: Service) -> None:
        while not service.stopping:
            self._wake.clear()
            with self._lock:
                now_ns = self._clock.now_ns()
                while self.core.run_next(now_ns):
                    pass
                told, self.core.outbox = self.core.outbox, []
                self._told.extend((self._heard.get(account), account, event) for account, event in told)
                due_ns = self.core.next_due_ns
                self._planned_ns = now_ns + int(IDLE_S * 1e9) if due_ns is None else due_ns
            service.beat()
            if self._told:
                while self._told:
                    heard, _, event = self._told.popleft()
                    if heard is not None:
                        heard(event)
                continue  # handing over took time: something may be due
            wait_s = IDLE_S if due_ns is None else (due_ns - now_ns) / 1e9
            self._wake.wait(min(IDLE_S, wait_s))


class _Deep:
    """A copy of a whole book, made by the feed's thread."""

    __slots__ = ("_lots", "asks", "at_ns", "bids")

    def __init__(self, view: DepthView, at_ns: int) -> None:
        self.at_ns = at_ns
        self.bids = view.walk(True, None)
        self.asks = view.walk(False, None)
        self._lots: tuple[dict[int, int], dict[int, int]] | None = None

    @property
    def size(self) -> int:
        return len(self.bids) + len(self.asks)

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        if self._lots is None:  # most copies are never asked
            self._lots = (dict(self.bids), dict(self.asks))
        return self._lots[not is_bid].get(ticks, 0)


class _Copy:
    """A `DepthView` that nobody changes: the newest published top over an older whole book. Read under the
    host's lock."""

    __slots__ = ("_book", "_deep", "_instrument", "best_ask", "best_bid")

    def __init__(
        self,
        instrument: Instrument,
        book: Book,
        best_bid: tuple[int, int] | None,
        best_ask: tuple[int, int] | None,
        deep: _Deep,
    ) -> None:
        self._instrument = instrument
        self._book = book
        self._deep = deep
        self.best_bid = best_bid
        self.best_ask = best_ask

    @property
    def instrument(self) -> Instrument:
        return self._instrument

    @property
    def is_synced(self) -> bool:
        return True  # a lost book has no copy

    def lots_at(self, is_bid: bool, ticks: int) -> int:
        top = self._book.bids if is_bid else self._book.asks
        if top and (ticks >= top[-1][0] if is_bid else ticks <= top[-1][0]):
            return next((lots for at, lots in top if at == ticks), 0)
        return self._deep.lots_at(is_bid, ticks)

    def walk(self, is_bid: bool, limit_ticks: int | None) -> tuple[tuple[int, int], ...]:
        top = self._book.bids if is_bid else self._book.asks
        deep = self._deep.bids if is_bid else self._deep.asks
        if top:
            last = top[-1][0]
            deep = tuple(level for level in deep if (level[0] < last if is_bid else level[0] > last))
        if limit_ticks is None:
            return top + deep
        return tuple(
            level for level in top + deep if (level[0] >= limit_ticks if is_bid else level[0] <= limit_ticks)
        )


def ledger_of(core: PaperVenue) -> dict[str, Any]:
    """`{account: {"fills": (Fill, ...), "open_orders": (OrderReport, ...), "balances": (Balance, ...)}}`,
    everything, now."""
    return {
        name: {
            "fills": tuple(
                sorted(
                    (fill for fills in account.fills.values() for fill in fills),
                    key=lambda fill: int(fill.trade_id.rpartition("-")[2]),
                )
            ),
            "open_orders": account.open_reports(None, core.now_ns, core.now_ns),
            "balances": account.balances(),
        }
        for name, account in sorted(core.accounts.items())
    }


def _queue_ahead(core: PaperVenue, client_id: str) -> int | None:
    for name in core.accounts:
        ahead = core.queue_ahead(name, client_id)
        if ahead is not None:
            return ahead
    return None


def _faults(seed: int, odds: Mapping[Fault, float] | None) -> Faults:
    return Faults(random.Random(f"{seed}/paper/faults"), odds)
