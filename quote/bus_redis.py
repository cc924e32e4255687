"""The bus over a Redis or Valkey server; its promises and its key layout stand in `quote/bus.py`.

Hides: the client library, connections and their reuse, what each failure of a server means. Must not know:
what the payloads mean. Called by `quote.bus.open_bus` only.

Threads of one bus: the writer (pipelines of what was published), the link (a heartbeat through the server to
ourselves each second), two listeners (one for requests and answers, which runs nobody else's code, so that a
kill never waits for a slow reader; one for watches), and those of each served name. Connections are taken one
level below the library's client: a request that broke while it was sent must be told apart from one that was
never sent, and a retry inside the library would blur that.

Cluster mode and Sentinel addresses are refused: a bus is one server.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from api.errors import BadInput
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

log = logging.getLogger("makerdeck.bus")

CONNECT_S = 1.0  # longest wait for a connection
REPLY_S = 1.0  # longest wait for a reply; a slower server counts as down
CHECK_EVERY_S = 1.0  # heartbeat through the server
SILENCE_S = 3.5  # no heartbeat for so long: the connection is dead though nobody said so
FLUSH_EVERY_S = 0.005  # shortest time between two writes: bounds what a fast publisher costs its own process
AWAKE_TURNS = 20  # the writer looks by itself for so long after a write: waking it costs a publisher 2 us
RETRY_S = 0.25  # between attempts to write while the server fails or refuses
BATCH_TOPICS = 256  # per pipeline
MARKER_MS = 15_000
SUBSCRIBE_S = 1.0  # how long serve, watch and request wait for a subscription to stand
POLL_S = 0.1
IDLE_WIRES = 8

_FORM = "expected redis://[[user]:password@]host[:port][/db], rediss://... or unix:///path/to/socket[?db=0]"
_SSL_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_LINK_ERRORS = (RedisError, OSError)

Command = tuple[bytes | str | int, ...]


class _Silent(ConnectionError):
    """Connected, and yet nothing arrives."""


class _Unsure(Exception):
    """It broke after the first byte may have left."""


def open_redis_bus(url: str, namespace: str, *, clock: ClockLike | None = None) -> RedisBus:
    """See `quote.bus.open_bus`."""
    address = parse_address(url)
    if not namespace or not namespace.isprintable() or " " in namespace:
        raise ValueError("namespace: printable text without spaces, such as mk:desk:")
    _probe(address, namespace)
    return RedisBus(address, namespace, clock=clock)


Kind = type[Connection] | type[SSLConnection] | type[UnixDomainSocketConnection]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is. `where` is what may be shown."""

    where: str
    kind: Kind
    options: dict[str, Any] = field(repr=False)

    @property
    def has_password(self) -> bool:
        return bool(self.options.get("password"))

    def wire(self) -> Wire:
        return Wire(
            self.kind(
                socket_connect_timeout=CONNECT_S,
                socket_timeout=REPLY_S,
                protocol=2,
                driver_info=None,
                **self.options,
            )
        )


def parse_address(url: str) -> Address:
    """Take an address apart. Raises BadInput; the message never repeats any part of a malformed address."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its text may hold a piece of a password
        raise BadInput("redis", f"not a Redis address; {_FORM}") from None
    if parts.scheme not in ("redis", "rediss", "unix") or parts.fragment:
        hint = "; write # in a password as %23" if parts.fragment else ""
        raise BadInput("redis", f"not a Redis address; {_FORM}{hint}")
    options: dict[str, Any] = {}
    kind: Kind
    if parts.username:
        options["username"] = unquote(parts.username)
    password = parts.password or query.pop("password", "")
    if password:
        options["password"] = unquote(password) if parts.password else password
    db = query.pop("db", "")
    if parts.scheme == "unix":
        path = unquote(parts.path)
        if parts.hostname or not path.startswith("/") or len(path) < 2:
            raise BadInput("redis", f"a Unix socket needs an absolute path; {_FORM}")
        options["path"] = path
        where, kind = path, UnixDomainSocketConnection
    else:
        db = db or parts.path.strip("/")
        options["host"] = parts.hostname or "localhost"
        options["port"] = port or 6379
        where = f"{options['host']}:{options['port']}"
        kind = Connection if parts.scheme == "redis" else SSLConnection
        if parts.scheme == "rediss":
            options.update({name: query.pop(name) for name in _SSL_OPTIONS if name in query})
    if db:
        if not (db.isascii() and db.isdigit()):
            raise BadInput("redis", f"the database is a whole number; {_FORM}")
        options["db"] = int(db)
    if query:
        raise BadInput("redis", f"unknown option in the address: {', '.join(sorted(query))}")
    return Address(where, kind, options)


def _probe(address: Address, namespace: str) -> None:
    """One visit: is it there, is it Redis, may we write. Raises BadInput."""
    wire: Wire | None = None
    try:
        wire = address.wire()
        wire.connect()
        pong, about = wire.ask([("PING",), ("INFO",)])
        if isinstance(pong, ResponseError):
            raise pong
        facts = about if isinstance(about, bytes) else b""
        denied = isinstance(about, NoPermissionError)  # an account without the right to INFO is fine
        if pong != b"PONG" or not (denied or b"redis_version:" in facts):
            raise InvalidResponse("not Redis")
        for mode in (b"sentinel", b"cluster"):
            if b"redis_mode:" + mode in facts:
                name = mode.decode()
                raise BadInput(
                    "redis", f"the server at {address.where} runs in {name} mode; one server is needed"
                )
        (written,) = wire.ask([("SET", f"{namespace}probe", "1", "PX", 1000)])
        if isinstance(written, ResponseError):
            raise written
    except _LINK_ERRORS as error:
        raise BadInput("redis", explain(error, address)) from None
    except BadInput:
        raise
    except ValueError:  # a host name or path no socket takes
        raise BadInput("redis", f"no server can be named {address.where[:80]!r}; {_FORM}") from None
    finally:
        if wire is not None:
            wire.close()


def explain(error: Exception, address: Address) -> str:
    """What a failure means, as one sentence for a person, without any secret."""
    if isinstance(error, BusDown):
        return str(error)
    where = f"the server at {address.where}"
    text = " ".join(str(error).split())[:160]
    if isinstance(error, AuthenticationError):
        return (
            f"{where} refuses the user or password" if address.has_password else f"{where} needs a password"
        )
    if isinstance(error, NoPermissionError):
        return f"{where} does not give this account the rights it needs: {text}"
    if isinstance(error, BusyLoadingError):
        return f"{where} is still loading its data"
    if isinstance(error, OutOfMemoryError):
        return f"{where} is full (its maxmemory is reached); raise maxmemory or free memory"
    if isinstance(error, ReadOnlyError):
        return f"{where} is a read-only replica; the primary is needed"
    if isinstance(error, ResponseError):
        return f"{where} refuses: {text}"
    if isinstance(error, InvalidResponse):
        return f"what answers at {address.where} is not a Redis or Valkey server"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer within {REPLY_S:g} s"
    if isinstance(error, _Silent):
        return f"{where} fell silent"
    if "max number of clients" in text:
        return f"{where} takes no more clients (its maxclients is reached)"
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(cause, OSError) and not isinstance(cause, ConnectionResetError | BrokenPipeError):
        return f"no server can be reached at {address.where}: {cause.strerror or cause}"
    return f"{where} closed the connection"


class Wire:
    """One connection, used by one thread at a time. After any exception it is only good for `close`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def connect(self) -> None:
        self._connection.connect()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in order; a refusal is returned in its place as a ResponseError, not raised."""
        self.send(commands)
        return [self.read() for _ in commands]

    def send(self, commands: Sequence[Command]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def read(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as refusal:
            return refusal

    def has_reply(self, timeout_s: float) -> bool:
        return bool(self._connection.can_read(timeout_s))

    def close(self) -> None:
        self._connection.disconnect()


class _Pool:
    """Connections for short questions, reused when they are still good."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Wire] = []
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in order. Only for what may be asked twice. Raises _LINK_ERRORS."""
        wire = self._take()
        if wire is not None:
            try:
                return self._ask(wire, commands)
            except ConnectionError:  # it may have died while it lay idle; a fresh one tells
                pass
        return self._ask(self.fresh(), commands)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Number of receivers. Raises BusDown when it surely did not leave, _Unsure when it may have."""
        try:
            wire = self._take() or self.fresh()
        except _LINK_ERRORS as error:
            raise BusDown(f"{explain(error, self._address)}; nothing was sent") from None
        try:
            (reply,) = self._ask(wire, [(b"PUBLISH", channel, message)])
        except _LINK_ERRORS as error:
            raise _Unsure(explain(error, self._address)) from None
        if isinstance(reply, ResponseError):
            raise BusDown(f"{explain(reply, self._address)}; nothing was sent")
        return int(reply)

    def fresh(self) -> Wire:
        wire = self._address.wire()
        try:
            wire.connect()
        except BaseException:
            wire.close()
            raise
        return wire

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def _ask(self, wire: Wire, commands: Sequence[Command]) -> list[Any]:
        try:
            replies = wire.ask(commands)
        except BaseException:
            wire.close()
            raise
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_WIRES:
                self._idle.append(wire)
                return replies
        wire.close()
        return replies

    def _take(self) -> Wire | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                wire = self._idle.pop()
            try:
                if not wire.has_reply(0):  # closed by the server, or an answer nobody waits for: useless
                    return wire
            except _LINK_ERRORS:
                pass
            wire.close()


class _Listener:
    """One connection that hears channels and patterns, and comes back by itself after every failure.

    Args:
        beat: channel that is heard about every second while the connection is good.
        heard: called with (channel or pattern as it was wanted, channel, message).
        stands: called when a subscription stands, again after each gap.
        turn: called between messages and at least every `POLL_S` seconds.
        note: called with the error that ended the connection.
    """

    def __init__(
        self,
        name: str,
        fresh: Callable[[], Wire],
        beat: bytes,
        *,
        heard: Callable[[bytes, bytes, bytes], None],
        stands: Callable[[bytes], None] = lambda wanted: None,
        turn: Callable[[], None] = lambda: None,
        note: Callable[[Exception], None],
    ) -> None:
        self._fresh = fresh
        self._heard = heard
        self._stands = stands
        self._turn = turn
        self._note = note
        self._wanted = {beat: b"SUBSCRIBE"}
        self._live: set[bytes] = set()
        self._state = threading.Condition()
        self._service = Service(name, self._run, restart_after_s=0.5).start()

    def want(self, wanted: bytes, *, pattern: bool = False) -> None:
        with self._state:
            self._wanted[wanted] = b"PSUBSCRIBE" if pattern else b"SUBSCRIBE"

    def unwant(self, wanted: bytes) -> None:
        with self._state:
            self._wanted.pop(wanted, None)

    def is_live(self, wanted: bytes) -> bool:
        return wanted in self._live

    def wait_live(self, wanted: bytes, timeout_s: float) -> bool:
        with self._state:
            return self._state.wait_for(lambda: wanted in self._live, timeout_s)

    def wait_gone(self, wanted: bytes, timeout_s: float) -> bool:
        with self._state:
            return self._state.wait_for(lambda: wanted not in self._live, timeout_s)

    def stop(self) -> None:
        self._service.stop()

    def join(self, timeout_s: float) -> bool:
        return self._service.join(timeout_s)

    def _run(self, service: Service) -> None:
        pause_s = 0.05
        while not service.stopping:
            began_s = time.monotonic()
            wire: Wire | None = None
            try:
                wire = self._fresh()
                self._listen(service, wire)
            except (*_LINK_ERRORS, BusDown) as error:
                self._note(error)
            finally:
                with self._state:
                    self._live.clear()
                    self._state.notify_all()
                if wire is not None:
                    wire.close()
            pause_s = 0.05 if time.monotonic() - began_s > 5.0 else min(pause_s * 2, 1.0)
            service.wait(pause_s)

    def _listen(self, service: Service, wire: Wire) -> None:
        asked: dict[bytes, bytes] = {}
        quiet_since_s = time.monotonic()
        while not service.stopping:
            service.beat()
            with self._state:
                wanted = dict(self._wanted)
            if wanted != asked:
                changes = [(b"UN" + verb, name) for name, verb in asked.items() if name not in wanted]
                changes += [(verb, name) for name, verb in wanted.items() if name not in asked]
                wire.send(changes)
                asked = wanted
            self._turn()
            if wire.has_reply(POLL_S):
                self._take(wire.read(), asked)
                quiet_since_s = time.monotonic()
            elif time.monotonic() - quiet_since_s > SILENCE_S:
                raise _Silent("no heartbeat")

    def _take(self, message: Any, asked: dict[bytes, bytes]) -> None:
        match message:
            case [b"message", bytes(channel), bytes(data)]:
                self._heard(channel, channel, data)
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(data)]:
                self._heard(pattern, channel, data)
            case [b"subscribe" | b"psubscribe", bytes(name), _]:
                with self._state:
                    self._live.add(name)
                    self._state.notify_all()
                self._stands(name)
            case [b"unsubscribe" | b"punsubscribe", bytes(name), _]:
                with self._state:
                    if name not in asked:
                        self._live.discard(name)
                        self._state.notify_all()
            case ResponseError():
                raise message
            case _:
                raise InvalidResponse("not a message")


Entry = tuple[
    bytes | None, int, int, float
]  # payload (None: drop the topic), published_ns, seq, ttl in seconds


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
        self._pool = _Pool(address)
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

        self._requests = _Listener(
            "bus-requests",
            self._pool.fresh,
            self._beat_at,
            heard=self._hear_request,
            stands=lambda name: self._nudge.set(),  # a heartbeat now, not in a second: the link is back
            note=self._requests_lost,
        )
        self._requests.want(self._answers_at)
        self._changes: _Listener | None = None  # begins with the first watch
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
                self._changes = _Listener(
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
                except _Unsure:
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
        parts: list[Service | _Listener] = [self._writer, self._link, self._requests]
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
        except _LINK_ERRORS as error:
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
        except _LINK_ERRORS as error:
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
            except (BusDown, _Unsure) as error:
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
            except _LINK_ERRORS as error:
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
