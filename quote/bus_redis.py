"""The bus over a Redis or Valkey server; its promises and its key layout stand in `quote/bus.py`.

Hides: what is written when, how a gap is mended, how the link is watched. Must not know: what the payloads
mean. Called by `quote.bus.open_bus` only.

Threads of one bus: the writer (pipelines of what was published), the link (a heartbeat through the server to
ourselves each second), two listeners (one for requests and answers, which runs nobody else's code, so that a
kill never waits for a slow reader; one for watches), and those of each served name.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import InvalidResponse, ResponseError

from api.runtime import Clock, ClockLike, Service

from .bus import (
    TOPICS_MAX,
    BusDown,
    Calls,
    Latest,
    Served,
    Watch,
    make_request,
    pack_request,
    pack_value,
    unpack_value,
)
from .bus_wire import (
    CONNECT_S,
    LINK_ERRORS,
    POLL_S,
    REPLY_S,
    SILENCE_S,
    Address,
    Command,
    Listener,
    Pool,
    Unsure,
    explain,
    parse_address,
    probe,
)

log = logging.getLogger("makerdeck.bus")

CHECK_EVERY_S = 1.0  # heartbeat through the server
FLUSH_EVERY_S = 0.005  # shortest time between two writes: bounds what a fast publisher costs its own process
AWAKE_TURNS = 20  # the writer looks by itself for so long after a write: waking it costs a publisher 2 us
RETRY_S = 0.25  # between attempts to write while the server fails or refuses
BATCH_TOPICS = 256  # per pipeline
MARKER_MS = 15_000
SUBSCRIBE_S = 1.0  # how long serve, watch and request wait for a subscription to stand


def open_redis_bus(url: str, namespace: str, *, clock: ClockLike | None = None) -> RedisBus:
    """See `quote.bus.open_bus`."""
    address = parse_address(url)
    if not namespace or not namespace.isprintable() or " " in namespace:
        raise ValueError("namespace: printable text without spaces, such as mk:desk:")
    probe(address, namespace)
    return RedisBus(address, namespace, clock=clock)


# payload (None: drop the topic), published_ns, seq, ttl in seconds
Entry = tuple[bytes | None, int, int, float]


class RedisBus:
    """The bus over one server. Made by `open_bus`."""

    mode = "redis"

    def __init__(self, address: Address, namespace: str, *, clock: ClockLike | None = None) -> None:
        self.namespace = namespace
        self._address = address
        self._clock = clock if clock is not None else Clock()
        self._id = uuid.uuid4().hex[:16]
        self._source = bytes.fromhex(self._id)
        self._closed = False
        self.refused = 0  # values not taken because too many topics wait
        self._pool = Pool(address)
        self._troubles: dict[str, set[str]] = {}

        self._lock = threading.Lock()
        self._seq = 0
        self._waiting: dict[str, Entry] = {}
        self._written: dict[str, Entry] = {}  # the writer's own: what must be written again after a flush
        self._pruned_s = time.monotonic()
        self._wake = threading.Event()
        self._forgotten = threading.Event()  # the server lost its memory

        self._calls = Calls()
        self._served: dict[bytes, Served] = {}
        self._watches: dict[bytes, tuple[Watch, ...]] = {}  # by pattern
        self._unread: list[Watch] = []  # watches that are owed what is there now

        self._beat_at = self._key("h", self._id)
        self._answers_at = self._key("a", self._id)
        self._beat_s = time.monotonic()
        self._failing = False
        self._nudge = threading.Event()

        self._requests = Listener(
            "bus-requests",
            self._pool.fresh,
            self._beat_at,
            heard=self._hear_request,
            stands=lambda name: self._nudge.set(),  # a heartbeat now, not in a second: the link is back
            note=self._requests_lost,
        )
        self._requests.want(self._answers_at)
        self._changes: Listener | None = None  # begins with the first watch
        self._writer = Service("bus-writer", self._write, restart_after_s=0.5).start()
        self._link = Service("bus-link", self._check, restart_after_s=0.5).start()

    # topics

    def publish(self, topic: str, payload: bytes, *, ttl_s: float = 60.0) -> None:
        self._put(topic, payload, ttl_s)

    def drop(self, topic: str) -> None:
        self._put(topic, None, 0.0)

    def latest(self, topic: str) -> Latest | None:
        key = self._key("t", topic)
        (raw,) = self._ask([(b"GET", key)])
        if isinstance(raw, ResponseError):
            if str(raw).startswith("WRONGTYPE"):
                raise BusDown(self._foreign(key))
            raise BusDown(explain(raw, self._address))
        if raw is None:
            return None
        value = unpack_value(topic, raw) if isinstance(raw, bytes) else None
        if value is None:
            raise BusDown(self._foreign(key))
        return value[0]

    def latest_many(self, topics: Sequence[str]) -> dict[str, Latest]:
        return {topic: latest for topic, (latest, _) in self._read(topics).items()}

    def topics(self, prefix: str) -> list[str]:
        start = len(self._key("t", ""))
        pattern = self._pattern("t", prefix)
        found: set[bytes] = set()
        cursor: bytes | int = 0
        while True:
            (reply,) = self._ask([(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", 1000)])
            match reply:
                case [bytes() as cursor, list(keys)]:
                    found.update(keys)
                case ResponseError():
                    raise BusDown(explain(reply, self._address))
                case _:
                    raise BusDown(explain(InvalidResponse(), self._address))
            if cursor == b"0":
                return sorted(key[start:].decode("utf-8", "replace") for key in found)

    def watch(self, prefix: str, heard: Callable[[Latest], None]) -> Watch:
        watch = Watch(prefix, heard, self._forget)
        pattern = self._pattern("c", prefix)
        with self._lock:
            if self._changes is None:
                self._changes = Listener(
                    "bus-watches",
                    self._pool.fresh,
                    self._beat_at,
                    heard=self._hear_change,
                    stands=self._owe_snapshots,
                    turn=self._pay_snapshots,
                    note=lambda error: self._trouble("watches", error),
                )
            self._watches[pattern] = (*self._watches.get(pattern, ()), watch)
            self._unread.append(watch)
            self._changes.want(pattern, pattern=True)
        self._nudge.set()  # the heartbeat makes the listener look
        return watch

    # requests

    def serve(
        self, name: str, handler: Callable[[bytes], bytes], *, threads: int = 4, run_id: str | None = None
    ) -> Served:
        channel = self._key("q", name)
        with self._lock:
            if channel in self._served:
                raise ValueError(f"{name} is already served on this bus")
            served = Served(
                name,
                handler,
                threads=threads,
                run_id=run_id,
                clock=self._clock,
                send=self._send_answer,
                on_close=self._withdraw,
            )
            self._served[channel] = served
        self._requests.want(channel)
        self._nudge.set()
        self._requests.wait_live(channel, SUBSCRIBE_S)  # else it stands as soon as the server is back
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
        if self._closed:
            raise BusDown("the bus is closed")
        began_s = time.monotonic()
        end_s = began_s + timeout_s
        patience_s = began_s + min(timeout_s, SUBSCRIBE_S)  # who serves may be just coming back
        reply_to = self._answers_at.decode()
        request = make_request(
            payload, self._clock, timeout_s, run_id, expires, request_id, reply_to=reply_to
        )
        channel, frame = self._key("q", name), pack_request(request)
        if not self._requests.wait_live(self._answers_at, patience_s - began_s):
            raise BusDown(f"there is no link to the server at {self._address.where}; nothing was sent")
        with self._calls.waiting(request.id) as call:
            receivers, unsure = 0, False
            while not receivers:
                try:
                    receivers = self._pool.publish(channel, frame)
                except Unsure:
                    unsure = True  # sending it again is safe: the id makes it one request
                except BusDown:
                    if not unsure:
                        raise
                if not receivers:
                    if call.wait(POLL_S) or time.monotonic() >= (end_s if unsure else patience_s):
                        break
            if not receivers and not unsure:
                raise BusDown(f"nobody serves {name}; nothing was sent")
            return call.answer(name, end_s - time.monotonic())

    @property
    def lost_for_s(self) -> float:
        silent_s = time.monotonic() - self._beat_s
        return silent_s if self._failing or silent_s > SILENCE_S else 0.0

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            served = list(self._served.values())
        for one in served:
            one.close()
        self._calls.give_up()
        parts: list[Service | Listener] = [self._writer, self._link, self._requests]
        if self._changes is not None:
            parts.append(self._changes)
        for part in parts:
            part.stop()
        self._wake.set()
        self._nudge.set()
        for part in parts:
            part.join(2 * REPLY_S + CONNECT_S)
        self._pool.close()

    # writing

    def _put(self, topic: str, payload: bytes | None, ttl_s: float) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            if self._closed:
                return
            if len(self._waiting) >= TOPICS_MAX and topic not in self._waiting:
                self.refused += 1
                return
            self._seq += 1
            self._waiting[topic] = (payload, now_ns, self._seq, ttl_s)
        if not self._wake.is_set():
            self._wake.set()

    def _write(self, service: Service) -> None:
        """Body of the writer: one pipeline at a time; what failed goes back unless it was replaced."""
        idle_turns = 0
        while True:
            last = service.stopping  # what was published before the stop is still written, once
            service.beat()
            if self._forgotten.is_set():
                self._forgotten.clear()
                self._put_back(self._written)
            with self._lock:
                topics = list(islice(self._waiting, BATCH_TOPICS))
                batch = {topic: self._waiting.pop(topic) for topic in topics}
            if batch:
                idle_turns = 0
                failed = self._flush(batch)
                self._put_back(failed)
                if last and failed:
                    return
                service.wait(RETRY_S if failed else FLUSH_EVERY_S)
            elif last:
                return
            elif idle_turns < AWAKE_TURNS:
                idle_turns += 1
                service.wait(FLUSH_EVERY_S)
            else:  # nothing for a while: sleep until a publisher wakes us
                self._wake.clear()
                if not self._waiting and self._wake.wait(0.5):
                    idle_turns = 0

    def _flush(self, batch: dict[str, Entry]) -> dict[str, Entry]:
        """Write these; returns those that must be tried again."""
        now_ns = self._clock.now_ns()
        commands: list[Command] = []
        stores: list[tuple[int, str]] = []  # place of the command that stores, topic
        for topic, (payload, published_ns, seq, ttl_s) in batch.items():
            key = self._key("t", topic)
            if payload is None:
                stores.append((len(commands), topic))
                commands.append((b"DEL", key))
                continue
            try:
                left_ms = int(ttl_s * 1000) - (now_ns - published_ns) // 1_000_000
                raw = pack_value(published_ns, seq, self._source, payload)
            except (TypeError, ValueError, OverflowError):  # not bytes, or a ttl that is no time
                log.exception("topic=%s cannot be written", topic)
                continue
            if left_ms > 0:
                stores.append((len(commands), topic))
                commands.append((b"SET", key, raw, b"PX", left_ms))
                commands.append((b"PUBLISH", self._key("c", topic), raw))
        if not commands:
            return {}
        try:
            replies = self._pool.ask(commands)
        except LINK_ERRORS as error:
            self._trouble("writes", error)
            return batch
        refusals = [reply for reply in replies if isinstance(reply, ResponseError)]
        self._trouble("writes", refusals[0] if refusals else None)
        failed: dict[str, Entry] = {}
        for place, topic in stores:
            entry = batch[topic]
            if isinstance(replies[place], ResponseError):
                failed[topic] = entry
            elif entry[0] is None:
                self._written.pop(topic, None)
            else:
                self._written[topic] = entry
        if time.monotonic() - self._pruned_s > 30.0:
            self._pruned_s = time.monotonic()
            self._written = {t: e for t, e in self._written.items() if now_ns - e[1] < e[3] * 1e9}
        return failed

    def _put_back(self, entries: dict[str, Entry]) -> None:
        with self._lock:
            for topic, entry in entries.items():
                self._waiting.setdefault(topic, entry)

    # reading

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if self._closed:
            raise BusDown("the bus is closed")
        try:
            return self._pool.ask(commands)
        except LINK_ERRORS as error:
            raise BusDown(explain(error, self._address)) from None

    def _read(self, topics: Sequence[str]) -> dict[str, tuple[Latest, bytes]]:
        """Newest values with the bus that published each; what is not ours is left out."""
        found: dict[str, tuple[Latest, bytes]] = {}
        for begin in range(0, len(topics), 500):
            part = topics[begin : begin + 500]
            (raws,) = self._ask([(b"MGET", *(self._key("t", topic) for topic in part))])
            if isinstance(raws, ResponseError):
                raise BusDown(explain(raws, self._address))
            for topic, raw in zip(part, raws, strict=True):
                value = unpack_value(topic, raw) if isinstance(raw, bytes) else None
                if value is not None:
                    found[topic] = value
        return found

    # hearing

    def _hear_request(self, wanted: bytes, channel: bytes, message: bytes) -> None:
        if channel == self._beat_at:
            self._beat_s = time.monotonic()
            self._failing = False
            self._trouble("link", None)
        elif channel == self._answers_at:
            self._calls.hear(message)
        else:
            served = self._served.get(channel)
            if served is not None:
                served.offer(message)

    def _requests_lost(self, error: Exception) -> None:
        self._failing = True
        self._trouble("link", error)

    def _hear_change(self, pattern: bytes, channel: bytes, message: bytes) -> None:
        if channel == self._beat_at:
            self._trouble("watches", None)
            return
        topic = channel[len(self._key("c", "")) :].decode("utf-8", "replace")
        value = unpack_value(topic, message)
        if value is None:
            return
        for watch in self._watches.get(pattern, ()):
            watch.deliver(*value)

    def _owe_snapshots(self, pattern: bytes) -> None:
        with self._lock:
            self._unread += [w for w in self._watches.get(pattern, ()) if w not in self._unread]

    def _pay_snapshots(self) -> None:
        changes = self._changes
        if not self._unread or changes is None:
            return
        with self._lock:
            ready = [w for w in self._unread if changes.is_live(self._pattern("c", w.prefix))]
        for watch in ready:
            for latest, source in self._read(self.topics(watch.prefix)).values():
                watch.deliver(latest, source)
        with self._lock:
            self._unread = [w for w in self._unread if w not in ready]

    def _forget(self, watch: Watch) -> None:
        pattern = self._pattern("c", watch.prefix)
        with self._lock:
            self._unread = [w for w in self._unread if w is not watch]
            left = tuple(w for w in self._watches.get(pattern, ()) if w is not watch)
            if left:
                self._watches[pattern] = left
            elif self._watches.pop(pattern, None) is not None and self._changes is not None:
                self._changes.unwant(pattern)

    def _withdraw(self, served: Served) -> None:
        channel = self._key("q", served.name)
        with self._lock:
            if self._served.get(channel) is not served:
                return
            del self._served[channel]
            self._requests.unwant(channel)
        self._nudge.set()
        self._requests.wait_gone(channel, 0.3)  # so that whoever asks from now on hears that nobody serves

    def _send_answer(self, reply_to: str, frame: bytes) -> None:
        channel = reply_to.encode("utf-8", "replace")
        for _ in range(2):
            try:
                self._pool.publish(channel, frame)
                return
            except (BusDown, Unsure) as error:
                why = str(error)
        log.warning("an answer could not be delivered; whoever asked may ask again by its id: %s", why)

    # the link

    def _check(self, service: Service) -> None:
        """Body of the link: heartbeat to ourselves, and a marker that tells of a lost memory."""
        marker = self._key("m", self._id)
        marked = False
        while not service.stopping:
            try:
                _, seen, written = self._pool.ask(
                    [
                        (b"PUBLISH", self._beat_at, b""),
                        (b"GET", marker),
                        (b"SET", marker, b"1", b"PX", MARKER_MS),
                    ]
                )
                if seen is None and marked:
                    self._forgotten.set()
                    self._wake.set()
                marked = not isinstance(written, ResponseError)
            except LINK_ERRORS as error:
                self._failing = True
                self._trouble("link", error)
            self._nudge.wait(CHECK_EVERY_S)
            self._nudge.clear()
            service.beat()

    def _trouble(self, what: str, error: Exception | None) -> None:
        """Log each sentence about a failure once from its beginning to its end, and its end."""
        told = self._troubles.setdefault(what, set())
        if error is None:
            if told:
                told.clear()
                log.info("bus=%s works again", what)
        elif not self._closed:
            sentence = explain(error, self._address)
            if sentence not in told:
                told.add(sentence)
                log.warning("bus=%s failing: %s", what, sentence)

    # names

    def _key(self, kind: str, name: str) -> bytes:
        return f"{self.namespace}{kind}:{name}".encode("utf-8", "replace")

    def _pattern(self, kind: str, prefix: str) -> bytes:
        return re.sub(rb"([*?\[\]\\])", rb"\\\1", self._key(kind, prefix)) + b"*"

    def _foreign(self, key: bytes) -> str:
        name = key.decode("utf-8", "replace")
        return (
            f"the server at {self._address.where} holds something at {name} that this program did not write"
        )
