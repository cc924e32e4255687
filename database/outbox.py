"""One writer thread in front of a database that may be slow, locked, full or gone.

Hides: the queue, batching, the spill file and its way back, retries. Must not know what a record means.
Called by `state` and `journal`, each with its own `encode` and `store`.

    put() -> queue -> [writer] encode -> store (one transaction a burst) -> written
                                 |  fails: spill file, fsynced -> spilled; tried again, oldest first
                                 |  that fails too (disk full): held in memory and tried again
Records reach the database in the order of `put`, except that those of one failed burst may be stored twice
after a crash: `store` must take a record a second time without harm. What is `droppable` may be dropped
when the queue is full, and is counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from api.runtime import Service
from database.lines import LineFile, encode_line, replay
from database.sqlite import cause_of

log = logging.getLogger("makerdeck.database")

T = TypeVar("T")
R = TypeVar("R")

BATCH = 1000  # records a transaction
RETRY_S = 0.5  # between attempts at a database in trouble
CALL_S = 10.0  # how long `call` waits for the writer: longer than any wait of the database itself
_IDLE_S = 1.0  # heartbeat of an idle writer
_SPILL_READ = 4 << 20  # bytes of the spill file in memory at once

Record = Any
"""What `encode` makes and `store` takes: JSON values, so that it can go through the spill file."""


class OutboxClosed(OSError):
    """Nothing more is taken."""


class _Call(Generic[R]):
    __slots__ = ("_taken", "done", "error", "fn", "lock", "result")

    def __init__(self, fn: Callable[[], R]) -> None:
        self.fn = fn
        self.done = threading.Event()
        self.result: R | None = None
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        """True for whoever comes first: the writer that runs it, or the caller that gives up."""
        with self.lock:
            first, self._taken = not self._taken, True
            return first

    def run(self) -> None:
        if not self.take():
            return
        try:
            self.result = self.fn()
        except Exception as error:  # belongs to the caller, who gets it
            self.error = error
        self.done.set()


class Outbox(Generic[T]):
    """Records for one database, written by one thread.

    Args:
        name: of the thread, and `store=` in log lines.
        spill_path: the spill file; made when first needed.
        encode: item -> record, run on the writer thread so that `put` stays cheap.
        store: writes records in one transaction, or raises and has changed nothing.
        on_trouble: called from the writer thread with a sentence when writing stops working, and with ""
            when it works again.
        limit: droppable items are dropped while this many items wait.
        linger_s: how long a burst is allowed to grow before it is written; 0: written at once.

    Raises:
        OSError: the spill file of an earlier life is there and cannot be read.
    """

    def __init__(
        self,
        name: str,
        spill_path: Path,
        *,
        encode: Callable[[T], Record],
        store: Callable[[list[Record]], None],
        on_trouble: Callable[[str], None] | None = None,
        limit: int = 20_000,
        linger_s: float = 0.0,
    ) -> None:
        self.on_trouble = on_trouble
        self.trouble = ""
        self.written = 0
        self.spilled = 0
        self.dropped = 0
        self.damaged = 0
        self.broken = 0
        self._name = name
        self._spill_path = spill_path
        self._encode = encode
        self._store = store
        self._limit = limit
        self._linger_s = linger_s
        self._queue: deque[T] = deque()
        self._calls: deque[_Call[Any]] = deque()
        self._held: list[Record] = []
        self._spill: LineFile | None = None
        self._unspilled = 0  # bytes of the spill file that are in the database already
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._taken = 0  # items ever queued
        self._safe = 0  # items that are committed or in the fsynced spill file
        self._closing = False
        self._closed = False
        self._writer = 0
        if spill_path.exists():
            self._spill = LineFile(spill_path)
        self._service = Service(name, self._body, on_crash=self._crashed, restart_after_s=RETRY_S)

    @property
    def queued(self) -> int:
        """Items that are neither written nor spilled yet."""
        return len(self._queue) + len(self._held)

    @property
    def is_alive(self) -> bool:
        return self._service.is_alive

    def recover(self) -> int:
        """Before `start`: store what an earlier life spilled; answers how many. Raises like `store`."""
        before = self.written
        self._drain_spill()
        return self.written - before

    def start(self) -> None:
        self._service.start()

    def put(self, item: T, *, droppable: bool = False) -> bool:
        """Queue one item; returns at once. False when it was dropped. Raises OutboxClosed after `close`."""
        with self._lock:
            if self._closing:
                raise OutboxClosed(f"{self._name} is closed")
            if droppable and len(self._queue) >= self._limit:
                self.dropped += 1
                return False
            self._queue.append(item)
            self._taken += 1
        if not self._linger_s and not self._wake.is_set():
            self._wake.set()  # costs the caller a few microseconds; a writer that lingers comes by itself
        return True

    def call(self, fn: Callable[[], R]) -> R:
        """Run `fn` on the writer thread between two bursts and hand back what it returns or raises.

        Raises:
            OutboxClosed: after `close`.
            TimeoutError: the writer did not get to it in time; it was not run and never will be.
        """
        if threading.get_ident() == self._writer:
            return fn()
        call: _Call[R] = _Call(fn)
        with self._lock:
            if self._closing:
                raise OutboxClosed(f"{self._name} is closed")
            self._calls.append(call)
        self._wake.set()
        if not call.done.wait(CALL_S) and call.take():
            raise TimeoutError(f"{self._name} did not answer within {CALL_S:g} s")
        call.done.wait()  # it had begun: every wait of a database inside it is bounded
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def flush(self, timeout_s: float) -> bool:
        """True once everything put so far is durable: committed, or fsynced in the spill file. False after
        `timeout_s`, and when asked from the writer thread itself (it cannot wait for its own work).
        """
        self._wake.set()
        with self._lock:
            target = self._taken
            if threading.get_ident() == self._writer:
                return self._safe >= target
            self._lock.wait_for(lambda: self._safe >= target or self._closed, timeout_s)
            return self._safe >= target

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write or spill what is left and end the thread. True when nothing was lost. Idempotent."""
        with self._lock:
            self._closing = True
        self._service.stop()
        self._wake.set()
        ended = self._service.join(timeout_s)
        if ended:
            self._work()  # a thread stopped before its first turn, or after a crash, has left it to us
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for call in self._calls:
            if call.take():
                call.error = OutboxClosed(f"{self._name} is closed")
                call.done.set()
        if ended and self._spill is not None:
            self._spill.close()
            self._spill = None
        lost = self.queued
        if lost:
            log.error("store=%s lost=%d closed before they could be written anywhere", self._name, lost)
        return ended and not lost

    def _body(self, service: Service) -> None:
        self._writer = threading.get_ident()
        while True:
            idle = not (self._held or self._spill_waits or self.trouble)
            self._wake.wait(self._linger_s or (_IDLE_S if idle else RETRY_S))
            self._wake.clear()
            service.beat()
            last = service.stopping
            while self._calls:
                self._calls.popleft().run()
            self._work()
            if last:
                return

    @property
    def _spill_waits(self) -> bool:
        return self._spill is not None and self._spill.size > self._unspilled

    def _work(self) -> None:
        """One attempt at everything there is."""
        self._take_queue()
        if self.trouble:
            self._spill_held()  # durable first: the database may be slow to fail again
        if not self._held and not self._spill_waits:
            self._tell("")
            return
        try:
            self._drain_spill()
            while self._held:
                batch = self._held[:BATCH]
                self._store(batch)
                del self._held[: len(batch)]
                self.written += len(batch)
                self._count_safe(len(batch))
        except Exception as error:  # whatever it is: the records are kept, and a person is told
            spill_error = self._spill_held()
            self._tell(f"{self._name} cannot be written: {cause_of(error)}{spill_error}")
        else:
            self._tell("")

    def _take_queue(self) -> None:
        while self._queue:
            item = self._queue[0]
            try:
                record = self._encode(item)
                encode_line(record)  # a record that could not be spilled must not get as far as that
                self._held.append(record)
            except Exception:  # a mistake of ours about one record must not stop all others; the log keeps it
                self.broken += 1
                self._count_safe(1)
                log.exception("store=%s broken_record=%r", self._name, item)
            self._queue.popleft()  # only now: at every moment it is in one place at least

    def _spill_held(self) -> str:
        """Everything held into the spill file, synced. When even that fails it stays held; answers with the
        reason.
        """
        if not self._held:
            return ""
        try:
            if self._spill is None:
                self._spill = LineFile(self._spill_path)
            self._spill.append(b"".join(encode_line(record) for record in self._held))
            self._spill.sync()
        except OSError as error:
            return f"; nor can its spill file: {error.strerror or error}"
        count = len(self._held)
        self.spilled += count
        self._held.clear()
        self._count_safe(count)
        return ""

    def _drain_spill(self) -> None:
        """Store what the spill file holds, oldest first, then empty it."""
        spill = self._spill
        if spill is None or not self._spill_waits:
            return
        while lines := spill.read_lines(self._unspilled, _SPILL_READ):
            found = replay(lines)
            if bad := found.torn + len(found.damaged):
                self.damaged += bad
                log.warning("store=%s spill_damaged=%d skipped", self._name, bad)
            for start in range(0, len(found.payloads), BATCH):
                self._store(list(found.payloads[start : start + BATCH]))
            self.written += len(found.payloads)
            self._unspilled += len(lines)
        spill.clear()
        self._unspilled = 0

    def _count_safe(self, count: int) -> None:
        with self._lock:
            self._safe += count
            self._lock.notify_all()

    def _tell(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble:
            log.error(
                "store=%s trouble=%r queued=%d spilled=%d", self._name, trouble, self.queued, self.spilled
            )
        else:
            log.warning("store=%s works again written=%d", self._name, self.written)
        if self.on_trouble is not None:
            try:
                self.on_trouble(trouble)
            except Exception:  # the listener's mistake; the records still have to be written
                log.exception("store=%s the listener for trouble failed", self._name)

    def _crashed(self, error: BaseException) -> None:
        self._tell(f"{self._name} crashed: {error}")
