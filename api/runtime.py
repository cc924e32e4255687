"""Time and threads: the only home of both.

Hides: how a thread is started, named, watched and stopped; how many wall clocks there are. Knows nothing of
trading. Called by every room that waits. Deciding code never imports the clock from here; it is handed
`now_ns`.

- `Clock.now_ns()` is UTC in nanoseconds that never goes back within a run: wall time at the start plus the
  monotonic clock since. `SteppedClock` is the same shape for tapes.
- `Service` is one thread that can be stopped; nothing else makes threads.
- `Inbox` hands events to one consumer: order events in order and never dropped, books conflated per
instrument.
- `Board` keeps the newest value per topic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger("makerdeck.runtime")

T = TypeVar("T")


class ClockLike(Protocol):
    """Anything that tells UTC nanoseconds which never go back."""

    def now_ns(self) -> int: ...


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # on Linux one that counts a suspend as well


class Clock:
    """UTC nanoseconds that never go back within a run."""

    __slots__ = ("_steady_ns", "_wall_ns")

    def __init__(self) -> None:
        self._wall_ns = time.time_ns()
        self._steady_ns = time.clock_gettime_ns(_STEADY)

    def now_ns(self) -> int:
        """Wall time at construction plus steady time since, in nanoseconds."""
        return self._wall_ns + time.clock_gettime_ns(_STEADY) - self._steady_ns


class SteppedClock:
    """A clock that somebody else moves; it refuses to go back (it then stays where it is)."""

    __slots__ = ("_ns",)

    def __init__(self, at_ns: int = 0) -> None:
        self._ns = at_ns

    def now_ns(self) -> int:
        return self._ns

    def step_to(self, at_ns: int) -> None:
        if at_ns > self._ns:
            self._ns = at_ns


class Service:
    """A thread that stops.

    Args:
        name: thread name, shown in logs and health.
        body: called as `body(service)` once; it loops until `service.stopping` and waits with
            `service.wait(seconds)`. on_crash: called from the dying thread with the exception, after it was
            logged. restart_after_s: when given, a crashed body is run again after this pause (feeds); None:
            it stays dead (traders).
    """

    def __init__(
        self,
        name: str,
        body: Callable[[Service], None],
        *,
        on_crash: Callable[[BaseException], None] | None = None,
        restart_after_s: float | None = None,
    ) -> None:
        self.name = name
        self.crashed: BaseException | None = None
        self.restarts = 0
        self.heartbeat_ns = time.monotonic_ns()
        self._body = body
        self._on_crash = on_crash
        self._restart_after_s = restart_after_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """Seconds since the body last called `beat` or `wait`."""
        return (time.monotonic_ns() - self.heartbeat_ns) / 1e9

    def start(self) -> Service:
        if self._thread is not None:
            raise RuntimeError(f"service {self.name} was already started")
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        return self

    def beat(self) -> None:
        """Proof of life from inside the body."""
        self.heartbeat_ns = time.monotonic_ns()

    def wait(self, seconds: float) -> bool:
        """Wait, at most `seconds`; True when the service is asked to stop."""
        self.beat()
        stopped = self._stop.wait(seconds)
        self.beat()
        return stopped

    def stop(self) -> None:
        """Ask the body to end. Idempotent, returns at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; True when it has."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._body(self)
                return
            except Exception as error:  # the one place where any crash is caught: it is shown, and handed on
                self.crashed = error
                log.exception("service=%s crashed", self.name)
                if self._on_crash is not None:
                    self._on_crash(error)
                if self._restart_after_s is None:
                    return
                self.restarts += 1
                self._stop.wait(self._restart_after_s)


class Inbox(Generic[T]):
    """Events for one consuming thread.

    `put` keeps order and drops nothing. `put_latest` keeps only the newest value per key at the place of the
    oldest unread one, so a slow consumer sees fewer books and never an old one; `shed` counts what was
    replaced. Safe for any number of producers; one consumer.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[Hashable | None, T | None]] = deque()
        self._latest: dict[Hashable, T] = {}
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self.shed = 0

    def put(self, item: T) -> None:
        with self._lock:
            self._items.append((None, item))
        self._ready.set()

    def put_latest(self, key: Hashable, item: T) -> None:
        with self._lock:
            if key in self._latest:
                self._latest[key] = item
                self.shed += 1
                return
            self._latest[key] = item
            self._items.append((key, None))
        self._ready.set()

    def put_instead(self, key: Hashable, item: T) -> None:
        """Like `put`, and what waits under `key` is dropped: it is older than this and would be read as
        newer.
        """
        with self._lock:
            if self._latest.pop(key, None) is not None:
                self.shed += 1
                self._items = deque(waiting for waiting in self._items if waiting[0] != key)
            self._items.append((None, item))
        self._ready.set()

    def get(self, timeout_s: float) -> T | None:
        """The next event, or None after `timeout_s` seconds without one."""
        item = self._pop()
        if item is not None:
            return item
        self._ready.clear()
        item = self._pop()  # a producer may have come between the pop and the clear
        if item is not None:
            return item
        self._ready.wait(timeout_s)
        return self._pop()

    def __len__(self) -> int:
        return len(self._items)

    def _pop(self) -> T | None:
        with self._lock:
            if not self._items:
                return None
            key, item = self._items.popleft()
            return item if key is None else self._latest.pop(key)


class Board:
    """The newest immutable value per topic. Readers never block writers for longer than a dict write."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, Any]] = {}
        self._lock = threading.Lock()
        self._version = 0

    def put(self, topic: str, value: Any) -> None:
        with self._lock:
            self._version += 1
            self._values[topic] = (self._version, value)

    def get(self, topic: str) -> Any | None:
        found = self._values.get(topic)
        return None if found is None else found[1]

    def drop(self, topic: str) -> None:
        with self._lock:
            self._values.pop(topic, None)

    def since(self, version: int) -> tuple[int, dict[str, Any]]:
        """Topics that changed after `version`, and the version to ask from next time."""
        with self._lock:
            changed = {topic: value for topic, (seen, value) in self._values.items() if seen > version}
            return self._version, changed
