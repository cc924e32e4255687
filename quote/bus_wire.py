"""Connections to a Redis or Valkey server, one level below the client of the library.

Hides: the library, the reuse of connections, what each failure of a server means. Must not know: topics and
requests. Called by `quote/bus_redis.py` only.

It stays below the library's client because a request that broke while it was sent must be told apart from one
that was never sent; a retry inside the library would blur that. Cluster mode and Sentinel addresses are
refused: a bus is one server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from api.runtime import Service

from .bus import BusDown

CONNECT_S = 1.0  # longest wait for a connection
REPLY_S = 1.0  # longest wait for a reply; a slower server counts as down
SILENCE_S = 3.5  # no heartbeat for so long: the connection is dead though nobody said so
POLL_S = 0.1
IDLE_WIRES = 8

_FORM = "expected redis://[[user]:password@]host[:port][/db], rediss://... or unix:///path/to/socket[?db=0]"
_SSL_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
LINK_ERRORS = (RedisError, OSError)

Command = tuple[bytes | str | int, ...]


class Silent(ConnectionError):
    """Connected, and yet nothing arrives."""


class Unsure(Exception):
    """It broke after the first byte may have left."""


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


def probe(address: Address, namespace: str) -> None:
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
    except LINK_ERRORS as error:
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
    if isinstance(error, Silent):
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


class Pool:
    """Connections for short questions, reused when they are still good."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Wire] = []
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in order. Only for what may be asked twice. Raises LINK_ERRORS."""
        wire = self._take()
        if wire is not None:
            try:
                return self._ask(wire, commands)
            except ConnectionError:  # it may have died while it lay idle; a fresh one tells
                pass
        return self._ask(self.fresh(), commands)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Number of receivers. Raises BusDown when it surely did not leave, Unsure when it may have."""
        try:
            wire = self._take() or self.fresh()
        except LINK_ERRORS as error:
            raise BusDown(f"{explain(error, self._address)}; nothing was sent") from None
        try:
            (reply,) = self._ask(wire, [(b"PUBLISH", channel, message)])
        except LINK_ERRORS as error:
            raise Unsure(explain(error, self._address)) from None
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
            except LINK_ERRORS:
                pass
            wire.close()


class Listener:
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
            except (*LINK_ERRORS, BusDown) as error:
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
                raise Silent("no heartbeat")

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
