"""The wire between processes: topics with a latest value, and requests with answers.

Hides: which of the two implementations carries it (Redis, or the memory of this process), how values are
stamped and framed, how an answer finds its way back. Must not know: what the payloads mean, what trading is.
Called by feeds and the desk (publish, serve), by the faces (latest, watch, request) and by `run.py`
(`open_bus`).

A publisher is never held up: `publish` stores the value in a dict and returns; the bus's own threads write. A
reader learns the age of what it gets. A request that could not be sent (`BusDown`) is told apart from one
whose outcome nobody knows (`BusTimeout`).

Key layout in Redis; `ns` is the namespace given at construction, for example `mk:desk:`

    {ns}t:{topic}   string    newest value of a topic; expires after the ttl given to `publish`
    {ns}c:{topic}   channel   the same bytes at each write
    {ns}q:{name}    channel   requests to whoever serves `name`
    {ns}a:{bus}     channel   answers to the requests of one bus object
    {ns}h:{bus}     channel   heartbeat of one bus object to itself: proves the way there and back
    {ns}m:{bus}     string    marker; gone means the server lost its memory: the bus writes its values again
    {ns}probe       string    written once by `open_bus` to see that writing works

Stamp and value are one string, so they cannot tear: byte 1 (version), `published_ns` and `seq` as unsigned 64
bit big endian, 8 bytes naming the publishing bus, then the payload. Requests and answers are one line of
JSON, a newline, and the payload. Requests and answers travel as messages, never as keys: a server whose
memory is full still carries them. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import queue
import struct
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from api.runtime import Clock, ClockLike, Service

log = logging.getLogger("makerdeck.bus")

ANSWERS_KEPT = 1024  # repeated ids are recognised among this many last answers of one served name
REQUESTS_QUEUED = 1024  # waiting requests per served name; further ones are dropped: BusTimeout over there
TOPICS_MAX = 50_000  # topics waiting to be written; a topic is a noun (a book, a worker), not an event
_STAMP = struct.Struct(">BQQ8s")
_VERSION = 1


class BusDown(Exception):
    """It could not be sent, or not be read: nothing happened. The text is one sentence for a person."""


class BusTimeout(Exception):
    """It was sent and there was no answer before the deadline: the outcome is unknown.

    Args:
        message: one sentence for a person.
        request_id: id of the request; asking again with this id never does it twice.
    """

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of a topic.

    `published_ns` is UTC at the publisher. `seq` rises with each publish of one bus object; gaps are values
    that were replaced before they were written, or other topics.
    """

    topic: str
    payload: bytes
    published_ns: int
    seq: int

    def age_s(self, now_ns: int) -> float:
        """Seconds since it was published; never negative, also when the publisher's clock is ahead."""
        return max(0, now_ns - self.published_ns) / 1e9


class Watch:
    """A standing interest in all topics that begin with `prefix`; ends with `close`."""

    def __init__(
        self, prefix: str, heard: Callable[[Latest], None], on_close: Callable[[Watch], None]
    ) -> None:
        self.prefix = prefix
        self._heard = heard
        self._on_close = on_close
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._closed = False
        self.failures = 0

    def close(self) -> None:
        """Idempotent. A call of `heard` that is already running still ends; none begins afterwards."""
        if not self._closed:
            self._closed = True
            self._on_close(self)

    def deliver(self, latest: Latest, source: bytes) -> None:
        """For the bus: hand over one change unless that was done before; survives whatever `heard` does."""
        seen = self._seen.get(latest.topic)
        if self._closed or (seen is not None and seen[0] == source and seen[1] >= latest.seq):
            return
        if len(self._seen) >= TOPICS_MAX:
            self._seen.clear()  # costs a repeated delivery, never a lost one
        self._seen[latest.topic] = (source, latest.seq)
        try:
            self._heard(latest)
        except Exception:  # the reader's mistake must not silence the other readers
            self.failures = n = self.failures + 1
            if n == 1 or n % 1000 == 0:
                log.exception("watch=%s topic=%s failures=%d reader failed", self.prefix, latest.topic, n)


class Bus(Protocol):
    """Topics and requests between processes. Every method may be called from any thread."""

    @property
    def mode(self) -> str:
        """`redis` or `in-process`."""

    def publish(self, topic: str, payload: bytes, *, ttl_s: float = 60.0) -> None:
        """Make `payload` the newest value of `topic` for `ttl_s` seconds. Never blocks, never raises.

        Values of one topic that arrive faster than they can be written replace each other. While the link is
        down the newest value of each topic waits, as long as its ttl allows.
        """

    def latest(self, topic: str) -> Latest | None:
        """The newest value, or None: never published, dropped or expired. Raises BusDown."""

    def latest_many(self, topics: Sequence[str]) -> dict[str, Latest]:
        """The newest values of those topics that have one, in one read. Raises BusDown."""

    def topics(self, prefix: str) -> list[str]:
        """Sorted names of the topics with a value that begin with `prefix`. Raises BusDown."""

    def drop(self, topic: str) -> None:
        """Forget the value of `topic`. Never blocks, never raises. Watchers are not told."""

    def watch(self, prefix: str, heard: Callable[[Latest], None]) -> Watch:
        """Call `heard` with what is there now and then with each change, on a thread of the bus.

        After a gap (a lost link) the topics are read again, and what changed meanwhile is handed over. The
        same change is handed over once. `heard` should be quick: all watches of a bus share one thread.
        """

    def serve(
        self, name: str, handler: Callable[[bytes], bytes], *, threads: int = 4, run_id: str | None = None
    ) -> Served:
        """Answer requests to `name` on `threads` threads of its own: one name never waits for another.

        Args:
            run_id: run of this desk. Requests that name another run are ignored.

        Raises ValueError when this bus already serves `name`.
        """

    def request(
        self,
        name: str,
        payload: bytes,
        *,
        timeout_s: float,
        run_id: str | None = None,
        expires: bool = True,
        request_id: str | None = None,
    ) -> bytes:
        """Ask whoever serves `name` and wait for the answer, at most `timeout_s` seconds.

        Args:
            run_id: the run this is meant for; None: any run.
            expires: False sends it without a deadline: it is obeyed however late it arrives (the kill).
            request_id: id of an earlier attempt (`BusTimeout.request_id`): it is not done twice, its answer
                comes.

        The deadline is wall time: between machines the clocks must agree to a fraction of `timeout_s`. A
        server that hangs may hold this up about two seconds longer than `timeout_s`.

        Raises BusDown (nothing happened) or BusTimeout (unknown).
        """

    @property
    def lost_for_s(self) -> float:
        """0.0 while the link works in both directions, else seconds since it was last seen working.

        It is checked about every second. A server that is full is not lost: requests and changes still pass.
        """

    def close(self) -> None:
        """Write what waits (at most about a second), end all threads. Idempotent."""


def open_bus(url: str, namespace: str) -> Bus:
    """A bus over the Redis or Valkey server at `url` (`redis://`, `rediss://` or `unix://`).

    Raises BadInput("redis", ...) when the address is malformed, nothing answers, a password is needed or
    wrong, the server is full or read-only, or is no Redis. The message never holds a password.
    """
    from .bus_redis import open_redis_bus  # here: the client library is only loaded where it is used

    return open_redis_bus(url, namespace)


class InProcessBus:
    """The bus inside one process: the same promises, nothing outside it can read or ask."""

    mode = "in-process"

    def __init__(self, namespace: str = "", *, clock: ClockLike | None = None) -> None:
        self.namespace = namespace
        self._clock = clock if clock is not None else Clock()
        self._lock = threading.Lock()
        self._seq = 0
        self._values: dict[str, tuple[Latest, float]] = {}  # value, monotonic second of its end
        self._watches: list[Watch] = []
        self._changed: dict[str, Latest] = {}
        self._unread: list[tuple[Watch, list[Latest]]] = []  # snapshots owed to new watches
        self._served: dict[str, Served] = {}
        self._calls = Calls()
        self._wake = threading.Event()
        self._closed = False
        self._listener = Service("bus-listener", self._listen, restart_after_s=0.2)
        self._listener.start()

    def publish(self, topic: str, payload: bytes, *, ttl_s: float = 60.0) -> None:
        now_ns = self._clock.now_ns()
        ends_s = time.monotonic() + ttl_s
        with self._lock:
            if self._closed:
                return
            self._seq += 1
            latest = Latest(topic, payload, now_ns, self._seq)
            self._values[topic] = (latest, ends_s)
            if not self._watches:
                return
            self._changed[topic] = latest
        if not self._wake.is_set():
            self._wake.set()

    def latest(self, topic: str) -> Latest | None:
        return self.latest_many((topic,)).get(topic)

    def latest_many(self, topics: Sequence[str]) -> dict[str, Latest]:
        self._refuse_when_closed()
        now_s = time.monotonic()
        with self._lock:
            found = ((topic, self._values.get(topic)) for topic in topics)
            return {topic: value[0] for topic, value in found if value is not None and value[1] > now_s}

    def topics(self, prefix: str) -> list[str]:
        self._refuse_when_closed()
        now_s = time.monotonic()
        with self._lock:
            alive = [topic for topic, (_, ends_s) in self._values.items() if ends_s > now_s]
        return sorted(topic for topic in alive if topic.startswith(prefix))

    def drop(self, topic: str) -> None:
        with self._lock:
            self._values.pop(topic, None)
            self._changed.pop(topic, None)

    def watch(self, prefix: str, heard: Callable[[Latest], None]) -> Watch:
        watch = Watch(prefix, heard, self._forget)
        now_s = time.monotonic()
        with self._lock:
            there = [v for t, (v, ends_s) in self._values.items() if t.startswith(prefix) and ends_s > now_s]
            self._watches.append(watch)
            self._unread.append((watch, there))
        self._wake.set()
        return watch

    def serve(
        self, name: str, handler: Callable[[bytes], bytes], *, threads: int = 4, run_id: str | None = None
    ) -> Served:
        with self._lock:
            if name in self._served:
                raise ValueError(f"{name} is already served on this bus")
            served = Served(
                name,
                handler,
                threads=threads,
                run_id=run_id,
                clock=self._clock,
                send=lambda reply_to, frame: self._calls.hear(frame),
                on_close=self._withdraw,
            )
            self._served[name] = served
            return served

    def request(
        self,
        name: str,
        payload: bytes,
        *,
        timeout_s: float,
        run_id: str | None = None,
        expires: bool = True,
        request_id: str | None = None,
    ) -> bytes:
        self._refuse_when_closed()
        request = make_request(payload, self._clock, timeout_s, run_id, expires, request_id, reply_to="")
        with self._lock:
            served = self._served.get(name)
        if served is None:
            raise BusDown(f"nobody serves {name}; nothing was sent")
        with self._calls.waiting(request.id) as call:
            served.offer(pack_request(request))
            return call.answer(name, timeout_s)

    @property
    def lost_for_s(self) -> float:
        return 0.0

    def close(self) -> None:
        with self._lock:
            self._closed = True
            served = list(self._served.values())
        for one in served:
            one.close()
        self._calls.give_up()
        self._listener.stop()
        self._wake.set()
        self._listener.join(2.0)

    def _listen(self, service: Service) -> None:
        swept_s = time.monotonic()
        while not service.stopping:
            self._wake.wait(0.5)
            self._wake.clear()
            service.beat()
            with self._lock:
                unread, self._unread = self._unread, []
                changed, self._changed = self._changed, {}
                watches = list(self._watches)
            for watch, there in unread:
                for latest in there:
                    watch.deliver(latest, b"")
            for topic, latest in changed.items():
                for watch in watches:
                    if topic.startswith(watch.prefix):
                        watch.deliver(latest, b"")
            now_s = time.monotonic()
            if now_s - swept_s > 1.0:
                swept_s = now_s
                with self._lock:
                    for topic in [t for t, (_, ends_s) in self._values.items() if ends_s <= now_s]:
                        del self._values[topic]

    def _forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches = [w for w in self._watches if w is not watch]

    def _withdraw(self, served: Served) -> None:
        with self._lock:
            if self._served.get(served.name) is served:
                del self._served[served.name]

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise BusDown("the bus is closed")


# What follows is shared by both implementations: the frames, and who answers what.


def pack_value(published_ns: int, seq: int, source: bytes, payload: bytes) -> bytes:
    """Stamp and payload as the one string that is stored and sent."""
    return _STAMP.pack(_VERSION, published_ns, seq, source) + payload


def unpack_value(topic: str, raw: bytes) -> tuple[Latest, bytes] | None:
    """The value and the 8 bytes naming its publisher; None when this was not written by us."""
    if len(raw) < _STAMP.size or raw[0] != _VERSION:
        return None
    _, published_ns, seq, source = _STAMP.unpack_from(raw)
    return Latest(topic, raw[_STAMP.size :], published_ns, seq), source


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it travels. `deadline_ns` is UTC; None: obey it however late."""

    id: str
    run_id: str | None
    deadline_ns: int | None
    reply_to: str
    payload: bytes = field(repr=False)


def make_request(
    payload: bytes,
    clock: ClockLike,
    timeout_s: float,
    run_id: str | None,
    expires: bool,
    request_id: str | None,
    *,
    reply_to: str,
) -> Request:
    deadline_ns = clock.now_ns() + int(timeout_s * 1e9) if expires else None
    return Request(request_id or uuid.uuid4().hex, run_id, deadline_ns, reply_to, payload)


def pack_request(request: Request) -> bytes:
    head = {
        "v": _VERSION,
        "id": request.id,
        "run": request.run_id,
        "end_ns": request.deadline_ns,
        "to": request.reply_to,
    }
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + request.payload


def unpack_request(frame: bytes) -> Request | None:
    """None when the frame is not a request of ours."""
    head, payload = _unpack(frame)
    match head:
        case {
            "v": 1,
            "id": str(id_),
            "run": str() | None as run,
            "end_ns": int() | None as end_ns,
            "to": str(to),
        }:
            return Request(id_, run, end_ns, to, payload)
    return None


def pack_answer(request_id: str, ok: bool, payload: bytes) -> bytes:
    head = {"v": _VERSION, "id": request_id, "ok": ok}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + payload


def unpack_answer(frame: bytes) -> tuple[str, bool, bytes] | None:
    """(request id, handler came to its end, payload); None when the frame is not an answer of ours."""
    head, payload = _unpack(frame)
    match head:
        case {"v": 1, "id": str(id_), "ok": bool(ok)}:
            return id_, ok, payload
    return None


def _unpack(frame: bytes) -> tuple[object, bytes]:
    line, _, payload = frame.partition(b"\n")
    try:
        return json.loads(line), payload
    except (ValueError, RecursionError):
        return None, b""


class Served:
    """One served name: its queue, its threads, its memory of answers. Made by `Bus.serve`; ends with `close`.

    Ignored without an answer: what is not a request, what names another run, what is past its deadline when
    its turn comes. A repeated id gets the first answer; while the first is still being worked on, the repeat
    waits for it.

    Args:
        send: delivers one answer frame to the address the request gave; may block shortly, must not raise.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[[bytes], bytes],
        *,
        threads: int,
        run_id: str | None,
        clock: ClockLike,
        send: Callable[[str, bytes], None],
        on_close: Callable[[Served], None],
    ) -> None:
        if threads < 1:
            raise ValueError("threads: at least 1")
        self.name = name
        self.ignored = 0
        self._handler = handler
        self._run_id = run_id
        self._clock = clock
        self._send = send
        self._on_close = on_close
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._running: dict[str, set[str]] = {}  # request id -> addresses that wait for its answer
        self._queue: queue.Queue[bytes | None] = queue.Queue(REQUESTS_QUEUED)
        self._services = [Service(f"bus-{name}-{n}", self._work, restart_after_s=0.1) for n in range(threads)]
        for service in self._services:
            service.start()

    def offer(self, frame: bytes) -> None:
        """For the bus: take one request frame. Never blocks; when too many wait it is dropped and counted."""
        try:
            self._queue.put_nowait(frame)
        except queue.Full:
            self._ignore("too many requests wait")

    def close(self) -> None:
        """No new request is taken; waits at most a second for the handlers that run. Idempotent."""
        self._on_close(self)
        for service in self._services:
            service.stop()
        for _ in self._services:
            try:
                self._queue.put_nowait(None)  # only wakes them sooner
            except queue.Full:
                break
        end_s = time.monotonic() + 1.0
        for service in self._services:
            service.join(max(0.0, end_s - time.monotonic()))

    def _work(self, service: Service) -> None:
        while not service.stopping:
            try:
                frame = self._queue.get(timeout=0.5)
            except queue.Empty:
                frame = None
            service.beat()
            if frame is not None and not service.stopping:
                self._answer(frame)

    def _answer(self, frame: bytes) -> None:
        request = unpack_request(frame)
        if request is None:
            return self._ignore("not a request")
        if request.run_id is not None and self._run_id is not None and request.run_id != self._run_id:
            return self._ignore("meant for another run")
        if request.deadline_ns is not None and self._clock.now_ns() > request.deadline_ns:
            return self._ignore("past its deadline")
        with self._lock:
            first = self._answers.get(request.id)
            if first is None:
                waiting = self._running.get(request.id)
                if waiting is not None:
                    waiting.add(request.reply_to)
                    return None
                self._running[request.id] = {request.reply_to}
        if first is not None:
            return self._send(request.reply_to, first)
        answer = self._handle(request)
        with self._lock:
            self._answers[request.id] = answer
            while len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
            waiting = self._running.pop(request.id)
        for reply_to in waiting:
            self._send(reply_to, answer)
        return None

    def _handle(self, request: Request) -> bytes:
        try:
            return pack_answer(request.id, True, self._handler(request.payload))
        except Exception:  # the requester is told that the outcome is unknown, which is what it is
            log.exception("served=%s request=%s handler failed", self.name, request.id)
            return pack_answer(request.id, False, b"")

    def _ignore(self, why: str) -> None:
        self.ignored += 1
        log.info("served=%s ignored=%d request ignored: %s", self.name, self.ignored, why)


class Call:
    """One requester waiting for one answer."""

    __slots__ = ("_done", "_ok", "_payload", "_request_id")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._done = threading.Event()
        self._ok: bool | None = None
        self._payload = b""

    @property
    def is_answered(self) -> bool:
        return self._done.is_set()

    def resolve(self, ok: bool | None, payload: bytes) -> None:
        if not self._done.is_set():
            self._ok, self._payload = ok, payload
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """True when the answer is there."""
        return self._done.wait(max(0.0, timeout_s))

    def answer(self, name: str, timeout_s: float) -> bytes:
        """The answer's payload, waiting at most `timeout_s` seconds. Raises BusTimeout."""
        if not self.wait(timeout_s):
            why = f"{name} did not answer in time"
        elif self._ok is None:
            why = f"the bus closed before {name} answered"
        elif not self._ok:
            why = f"{name} failed while it worked on this"
        else:
            return self._payload
        raise BusTimeout(f"{why}; the outcome is unknown", self._request_id)


class Calls:
    """The requests of one bus that wait for an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Call]] = {}

    @contextmanager
    def waiting(self, request_id: str) -> Iterator[Call]:
        call = Call(request_id)
        with self._lock:
            self._waiting.setdefault(request_id, []).append(call)
        try:
            yield call
        finally:
            with self._lock:
                calls = self._waiting[request_id]
                calls.remove(call)
                if not calls:
                    del self._waiting[request_id]

    def hear(self, frame: bytes) -> None:
        """Hand an answer frame to those who wait for it; late and foreign ones are dropped."""
        answer = unpack_answer(frame)
        if answer is None:
            return
        request_id, ok, payload = answer
        with self._lock:
            calls = list(self._waiting.get(request_id, ()))
        for call in calls:
            call.resolve(ok, payload)

    def give_up(self) -> None:
        """The bus closes: nobody will answer any more."""
        with self._lock:
            calls = [call for waiting in self._waiting.values() for call in waiting]
        for call in calls:
            call.resolve(None, b"")
