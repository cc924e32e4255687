"""The desk's side of a paper venue in another process: an `Exchange`, and its market as a source of frames.

Hides the socket, reconnecting, and what the end of a connection means for each request: a command that could
not be written is UNAVAILABLE, one that was written and whose answer did not come (in time, or before the
connection ended) is UNKNOWN, and its answer may still follow. Knows nothing of books: the frames go to the
desk's own fold. Called by the gateway (`PaperClient`) and by a feed (`PaperFrames`).

Two threads serve a client: one reads, one writes and keeps deadlines. Listeners are called from both, one
event at a time.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from typing import Any, Protocol

import msgspec

from api.errors import ExchangeError, OutcomeUnknown, Unauthorized, Unavailable
from api.exchange import Capabilities, Listener
from api.runtime import ClockLike, Service
from api.types import (
    Answered,
    Approved,
    Balance,
    Command,
    Event,
    Fill,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderReport,
    Outcome,
    Request,
)
from api.venues.paper import wire
from api.venues.paper.core import request_of
from api.venues.paper.faults import Fault
from api.venues.paper.instruments import VENUE
from api.venues.paper.venue import capabilities_of, never_sent

log = logging.getLogger("makerdeck.paper")

ANSWER_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 5.0
RECONNECT_S = 0.2
REFUSED_RETRY_S = 5.0  # after a refused token or a lost account: somebody has to change something first
POLL_S = 0.05  # how exactly deadlines are kept
_READS = frozenset(
    {"open_orders", "balances", "instruments", "server_ns", "queue_ahead", "order", "fills", "ledger"}
)

_Key = tuple[str, Request]


class PaperClient:
    """One account at a paper venue in another process; `api.exchange` says what each call promises.

    Args:
        address: as the server announced it.
        token: never logged, never part of a message to a person.
        answer_timeout_s: an answer that takes longer makes the outcome UNKNOWN.
        call_timeout_s: how long reads and account calls wait, a connection included.
    """

    def __init__(
        self,
        address: str,
        token: str,
        account: str = "main",
        *,
        clock: ClockLike,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self._address = address
        self._token = token
        self._account = account
        self._clock = clock
        self._answer_timeout_s = answer_timeout_s
        self._call_timeout_s = call_timeout_s
        self._reconnect_s = reconnect_s
        self._heard: Listener | None = None
        self._hearing = threading.RLock()  # one event at a time; a listener may close us
        self._lock = threading.Lock()
        self._linked = threading.Event()
        self._ready = threading.Event()
        self._link: socket.socket | None = None
        self._refusal = ""
        self._out: deque[tuple[Command | None, bytes]] = deque()
        self._waiting: dict[_Key, deque[tuple[int, Command]]] = {}
        self._calls: dict[int, _Pending] = {}
        self._next_call = 0
        self._was_up = False
        self._instruments: tuple[Instrument, ...] = ()
        self._is_closed = False
        self._reading: Service | None = None
        self._writing: Service | None = None

    @property
    def venue(self) -> str:
        return VENUE

    @property
    def account(self) -> str:
        return self._account

    @property
    def capabilities(self) -> Capabilities:
        return capabilities_of(self._instruments)

    @property
    def services(self) -> tuple[Service, ...]:
        """For health: the threads, once started."""
        return tuple(one for one in (self._reading, self._writing) if one is not None)

    # ------------------------------------------------------------------ Exchange

    def connect(self, heard: Listener) -> None:
        """Returns at once; `LinkChanged` up tells when the connection stands."""
        with self._lock:
            self._heard = heard
            has_link = self._link is not None
        if has_link:
            self._put(None, wire.message(wire.Listen()))
        self._start()

    def send(self, approved: Approved) -> None:
        """Raises RuntimeError when nobody called `connect`."""
        if self._heard is None:
            raise RuntimeError(f"paper account {self._account}: connect before sending")
        command = approved.command
        if self._is_closed:
            self._tell(never_sent(command, self._clock.now_ns(), "the venue was closed"))
            return
        self._put(command, wire.message(wire.sending(command)))

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        self._call("cancel_all", {"instrument": instrument})

    def arm_dead_man(self, timeout_s: float) -> None:
        self._call("arm_dead_man", {"timeout_s": timeout_s})

    def fetch_instruments(self) -> tuple[Instrument, ...]:
        found: tuple[Instrument, ...] = self._call("instruments", {}, tuple[Instrument, ...])
        self._instruments = found
        return found

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        found: tuple[OrderReport, ...] = self._call(
            "open_orders", {"instrument": instrument}, tuple[OrderReport, ...]
        )
        return found

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        found: OrderReport = self._call(
            "order", {"instrument": instrument, "client_id": client_id}, OrderReport
        )
        return found

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        found: tuple[Fill, ...] = self._call(
            "fills", {"instrument": instrument, "since_ns": since_ns}, tuple[Fill, ...]
        )
        return found

    def fetch_balances(self) -> tuple[Balance, ...]:
        found: tuple[Balance, ...] = self._call("balances", {}, tuple[Balance, ...])
        return found

    def fetch_server_ns(self) -> int:
        found: int = self._call("server_ns", {}, int)
        return found

    def close(self) -> None:
        """Stop; orders rest on at the venue. Commands without an answer end as UNKNOWN. Idempotent."""
        self._is_closed = True
        for service in self.services:
            service.stop()
        self._ready.set()
        for service in self.services:
            service.join(2.0)
        self._lost("closed")

    # ------------------------------------------------------------------ beyond Exchange

    def queue_ahead(self, client_id: str) -> int | None:
        """Lots that must trade before this order does; None when it does not rest. Goes to the venue."""
        found: int | None = self._call("queue_ahead", {"client_id": client_id}, int | None)
        return found

    def fetch_ledger(self) -> dict[str, Ledger]:
        """The venue's own record of every account: what a test compares ours with."""
        found: dict[str, Ledger] = self._call("ledger", {}, dict[str, Ledger])
        return found

    def fault(self, fault: Fault, n: int = 1, *, on: Request | None = None) -> None:
        """The next `n` commands or reads meet this fault."""
        self._call("fault", {"fault": fault.value, "n": n, "on": None if on is None else on.value})

    def cut_stream(self, for_ms: float | None = None) -> None:
        """The venue cuts this account's private stream for a while (the socket stays)."""
        self._call("cut_stream", {"for_ms": for_ms})

    def frames(self) -> PaperFrames:
        """The venue's market as a frame source, over a connection of its own."""
        return PaperFrames(self._address, self._token, reconnect_s=self._reconnect_s)

    # ------------------------------------------------------------------ calls

    def _call(self, name: str, args: dict[str, Any], kind: Any = None) -> Any:
        self._start()
        deadline_ns = self._clock.now_ns() + int(self._call_timeout_s * 1e9)
        if self._is_closed or not self._linked.wait(self._call_timeout_s):
            if self._refusal:
                raise Unauthorized(self._refusal)
            raise Unavailable(f"no connection to the paper venue at {self._address}")
        pending = _Pending()
        with self._lock:
            self._next_call += 1
            n = self._next_call
            self._calls[n] = pending
        self._put(None, wire.message(wire.Call(n, name, args)))
        left_s = max(0.001, (deadline_ns - self._clock.now_ns()) / 1e9)
        is_done = pending.done.wait(left_s)
        with self._lock:
            self._calls.pop(n, None)
        if not is_done or pending.answer is None:
            reason = pending.reason or f"no answer within {self._call_timeout_s:g} s"
            if name in _READS:
                raise Unavailable(f"{name}: {reason}")
            raise OutcomeUnknown(f"{name}: {reason}")
        if isinstance(pending.answer, wire.Failed):
            raise wire.error_of(pending.answer)
        return None if kind is None else wire.decoded(pending.answer.value, kind)

    # ------------------------------------------------------------------ the writing thread

    def _start(self) -> None:
        with self._lock:
            if self._reading is not None or self._is_closed:
                return
            self._reading = Service("paper-client-read", self._read, restart_after_s=self._reconnect_s)
            self._writing = Service("paper-client-write", self._write, restart_after_s=0.05)
        self._writing.start()
        self._reading.start()

    def _put(self, command: Command | None, data: bytes) -> None:
        self._out.append((command, data))
        self._ready.set()

    def _write(self, service: Service) -> None:
        while not service.stopping:
            self._ready.wait(POLL_S)
            self._ready.clear()
            service.beat()
            while self._out and not service.stopping:
                command, data = self._out.popleft()
                self._write_one(command, data)
            self._check_deadlines()

    def _write_one(self, command: Command | None, data: bytes) -> None:
        link = self._link
        if link is None:
            if command is not None:
                self._not_written(command)
            return  # a call without a connection is ended by its own deadline
        if command is not None:
            deadline_ns = self._clock.now_ns() + int(self._answer_timeout_s * 1e9)
            with self._lock:
                key = (command.client_id, request_of(command))
                self._waiting.setdefault(key, deque()).append((deadline_ns, command))
        try:
            _send_all(link, data, self._answer_timeout_s, self._clock)
        except OSError:
            # not all of it was taken, so the venue has no complete packet and will never act on it
            if command is not None and self._forget(command):
                self._not_written(command)
            self._break(link)

    def _not_written(self, command: Command) -> None:
        now_ns = self._clock.now_ns()
        if not self._refusal:
            self._tell(never_sent(command, now_ns, "no connection to the paper venue"))
            return
        answer = Answered(
            now_ns,
            command.client_id,
            command.instrument,
            request_of(command),
            Outcome.UNAUTHORIZED,
            error="Unauthorized",
            reason=self._refusal,
        )
        self._tell(answer)

    def _check_deadlines(self) -> None:
        now_ns = self._clock.now_ns()
        late: list[Command] = []
        with self._lock:
            for key in tuple(self._waiting):
                waiting = self._waiting[key]
                while waiting and waiting[0][0] <= now_ns:
                    late.append(waiting.popleft()[1])
                if not waiting:
                    del self._waiting[key]
        for command in late:
            self._tell(_unknown(command, now_ns, f"no answer within {self._answer_timeout_s:g} s"))

    def _forget(self, command: Command) -> bool:
        """Take a command off the waiting ones; False when its end was told already."""
        key = (command.client_id, request_of(command))
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting:
                for held in waiting:
                    if held[1] is command:
                        waiting.remove(held)
                        if not waiting:
                            del self._waiting[key]
                        return True
        return False

    # ------------------------------------------------------------------ the reading thread

    def _read(self, service: Service) -> None:
        while not service.stopping:
            try:
                link, _ = _opened(
                    self._address,
                    wire.Hello(self._token, "account", self._account, self._heard is not None),
                )
            except Unauthorized as error:
                self._refusal = error.message
                service.wait(max(REFUSED_RETRY_S, self._reconnect_s))
                continue
            except ExchangeError:
                service.wait(self._reconnect_s)
                continue
            listens = self._heard is not None
            self._refusal = ""
            with self._lock:
                self._link = link
            self._linked.set()
            if not listens and self._heard is not None:  # `connect` came while we said hello
                self._put(None, wire.message(wire.Listen()))
            reason = "the connection ended"
            pause_s = self._reconnect_s
            try:
                self._listen(service, link)
            except ExchangeError as error:
                reason = self._refusal = error.message
                pause_s = max(REFUSED_RETRY_S, pause_s)
            except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
                reason = f"the connection broke ({type(error).__name__})"
            finally:
                self._lost(reason)
            service.wait(pause_s)

    def _listen(self, service: Service, link: socket.socket) -> None:
        packets = wire.Packets()
        while not service.stopping:
            service.beat()
            try:
                data = link.recv(262_144)
            except TimeoutError:
                continue
            if not data:
                return
            for _, payload in packets.feed(data):
                message = wire.decode_to_client(payload)
                if isinstance(message, wire.Heard):
                    self._hear(wire.event_of(message))
                elif isinstance(message, wire.Failed) and message.n == 0:
                    raise wire.error_of(message)  # about the connection itself
                elif isinstance(message, wire.Result | wire.Failed):
                    with self._lock:
                        pending = self._calls.pop(message.n, None)
                    if pending is not None:
                        pending.end(message)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Answered):
            with self._lock:
                key = (event.client_id, event.request)
                waiting = self._waiting.get(key)
                if waiting:
                    waiting.popleft()
                    if not waiting:
                        del self._waiting[key]
        elif isinstance(event, LinkChanged):
            self._was_up = event.is_up
        self._tell(event)

    def _lost(self, reason: str) -> None:
        with self._lock:
            link, self._link = self._link, None
            self._linked.clear()
            commands = [command for waiting in self._waiting.values() for _, command in waiting]
            self._waiting.clear()
            calls, self._calls = self._calls, {}
        if link is not None:
            link.close()
        now_ns = self._clock.now_ns()
        if self._was_up:
            self._was_up = False
            self._tell(LinkChanged(now_ns, VENUE, "account", False, reason))
        for command in commands:
            self._tell(_unknown(command, now_ns, f"{reason} before the answer came"))
        while self._is_closed and self._out:
            command_left, _ = self._out.popleft()
            if command_left is not None:
                self._tell(never_sent(command_left, now_ns, "the venue was closed"))
        for pending in calls.values():
            pending.end(None, reason)

    def _break(self, link: socket.socket) -> None:
        """Wake the reader, which cleans up."""
        try:
            link.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is down already

    def _tell(self, event: Event) -> None:
        heard = self._heard
        if heard is not None:
            with self._hearing:
                heard(event)


class Ledger(msgspec.Struct):
    """One account as the venue itself knows it."""

    fills: tuple[Fill, ...]
    open_orders: tuple[OrderReport, ...]
    balances: tuple[Balance, ...]


class FeedSink(Protocol):
    """What `PaperFrames` tells its feed; `quote.feed.Feed` is one."""

    def __call__(self, symbol: str | None, recv_ns: int, raw: bytes) -> None: ...
    def idle(self) -> None: ...
    def up(self, note: str) -> None: ...
    def down(self, reason: str) -> None: ...
    def restart(self, reason: str, note: str) -> None: ...
    def end(self, reason: str) -> None: ...


class PaperFrames:
    """The market of a paper venue in another process: a frame source for the desk's feed, over a connection
    of its own. Each connection starts the books from a snapshot; what happened to the venue's own source is
    passed on.

    `label` (REPLAY or SYNTHETIC) is what the venue said last; `fetch_label` asks it.
    """

    name = "paper venue"
    pace = 1.0

    def __init__(
        self, address: str, token: str, *, reconnect_s: float = RECONNECT_S, label: str = "REPLAY"
    ) -> None:
        self.label = label
        self._address = address
        self._token = token
        self._reconnect_s = reconnect_s

    def fetch_label(self) -> str:
        """Ask the venue where its market comes from. Raises ExchangeError."""
        link, self.label = _opened(self._address, wire.Hello(self._token, "frames"))
        link.close()
        return self.label

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        """Not known here: the times were moved by the venue's own source."""
        return None

    def run(self, service: Service, emit: FeedSink) -> None:
        """Hand over frames until the service stops; every loss of the connection is told and mended here.

        Raises:
            Unauthorized: the token is refused.
        """
        while not service.stopping:
            try:
                link, self.label = _opened(self._address, wire.Hello(self._token, "frames"))
            except Unauthorized:
                raise
            except ExchangeError as error:
                emit.down(error.message)
                service.wait(self._reconnect_s)
                continue
            emit.up("")
            reason = "the connection to the paper venue ended"
            try:
                self._read(service, link, emit)
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                reason = f"the connection to the paper venue broke ({type(error).__name__})"
            finally:
                link.close()
            if not service.stopping:
                emit.down(reason)
                service.wait(self._reconnect_s)

    def _read(self, service: Service, link: socket.socket, emit: FeedSink) -> None:
        packets = wire.Packets()
        while not service.stopping:
            service.beat()
            try:
                data = link.recv(262_144)
            except TimeoutError:
                emit.idle()
                continue
            if not data:
                return
            for kind, payload in packets.feed(data):
                if kind == wire.FRAME:
                    emit(*wire.frame_of(payload))
                else:
                    _pass_on(wire.decode_to_client(payload), emit)
            emit.idle()


def _pass_on(message: wire.ToClient, emit: FeedSink) -> None:
    if not isinstance(message, wire.Note):
        return
    if message.verb == "restart":
        emit.restart(message.reason, message.note)
    elif message.verb == "up":
        emit.up(message.reason)
    elif message.verb == "end":
        emit.end(message.reason)
    else:
        emit.down(message.reason)


class _Pending:
    """A call that waits for its answer."""

    __slots__ = ("answer", "done", "reason")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: wire.Result | wire.Failed | None = None
        self.reason = ""

    def end(self, answer: wire.Result | wire.Failed | None, reason: str = "") -> None:
        self.answer = answer
        self.reason = reason
        self.done.set()


def _opened(address: str, hello: wire.Hello) -> tuple[socket.socket, str]:
    """A connection that was welcomed, and the market's label. Raises Unauthorized or Unavailable.

    The welcome is the first packet on the connection, and read exactly, so that nothing behind it is lost.
    """
    link = wire.connected_to(address, wire.HELLO_S)
    try:
        link.sendall(wire.message(hello))
        size = int.from_bytes(_exactly(link, 4), "big")
        if not 1 <= size <= wire.MAX_PACKET:
            raise Unavailable(f"what answers at {address} is not a paper venue")
        message = wire.decode_to_client(_exactly(link, size)[1:])
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        link.close()
        raise Unavailable(f"no welcome from {address} ({type(error).__name__})") from None
    except ExchangeError:
        link.close()
        raise
    if isinstance(message, wire.Welcome):
        link.settimeout(POLL_S)
        return link, message.label
    link.close()
    if isinstance(message, wire.Failed):
        raise wire.error_of(message)
    raise Unavailable(f"what answers at {address} is not a paper venue")


def _exactly(link: socket.socket, size: int) -> bytes:
    held = b""
    while len(held) < size:
        data = link.recv(size - len(held))
        if not data:
            raise EOFError
        held += data
    return held


def _send_all(link: socket.socket, data: bytes, timeout_s: float, clock: ClockLike) -> None:
    """Write everything, for as long as an answer would be waited for. Raises OSError (TimeoutError when time
    is up)."""
    view = memoryview(data)
    until_ns = clock.now_ns() + int(timeout_s * 1e9)
    while view:
        try:
            view = view[link.send(view) :]
        except TimeoutError:
            if clock.now_ns() >= until_ns:
                raise


def _unknown(command: Command, at_ns: int, reason: str) -> Answered:
    return Answered(
        at_ns,
        command.client_id,
        command.instrument,
        request_of(command),
        Outcome.UNKNOWN,
        error="OutcomeUnknown",
        reason=reason,
    )
