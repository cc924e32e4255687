"""The paper venue in a process of its own, so that a desk can be killed without touching it.

Hides who is connected. It owns a `ThreadedPaper` and the market that feeds it, and serves both over a
loopback socket: to an account its commands, reads and events; to a frames reader the raw market, so that the
desk rebuilds the book itself. Orders of a client that went away rest on, unless it armed the dead-man. Knows
no feed and no fold: both are handed in. Called by `run.py` (`serve-paper`) and by tests.

Every connection proves itself with the token first. An account belongs to the newest connection that claims
it; an older one is told so and ended. Events while nobody is connected are not pushed later: they are found
by reading.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from api.errors import BadInput, ExchangeError, Rejected
from api.exchange import DepthView, quantity_text
from api.runtime import ClockLike, Service
from api.types import Event, Instrument, InstrumentId, Request
from api.venues.paper import wire
from api.venues.paper.faults import Fault
from api.venues.paper.settings import PaperSettings
from api.venues.paper.venue import ThreadedPaper

log = logging.getLogger("makerdeck.paper")

MIN_TOKEN = 16  # characters
MAX_QUEUED = 64_000_000  # bytes waiting for one reader; past that it is cut
POLL_S = 0.1  # how often a waiting reader looks whether it should stop


class FrameSource(Protocol):
    """Where the market comes from: a tape at a speed, a synthetic market (`quote.feed` has them). It hands
    frames to `emit(venue symbol or None, receive time in UTC ns, raw)` and tells of itself by the other verbs
    of `Sink`."""

    @property
    def label(self) -> str: ...

    def run(self, service: Service, emit: Sink) -> None: ...


class Fold(Protocol):
    """What turns frames into books and trades (`quote.fold.MarketFold` is one)."""

    @property
    def builders(self) -> Mapping[InstrumentId, DepthView]: ...

    def fold(self, raw: bytes, recv_ns: int, at_ns: int, symbol: str | None = None) -> Iterable[Event]: ...

    def drop(self, reason: str, at_ns: int) -> Iterable[Event]: ...

    def restart(self, reason: str, at_ns: int) -> Iterable[Event]: ...

    def wants_snapshot(self) -> tuple[InstrumentId, ...]: ...


Snapshot = Callable[[DepthView], tuple[str, bytes]]
"""A frame (venue symbol, raw) from which a reader that joins later can start its book."""


def binance_snapshot(view: DepthView) -> tuple[str, bytes]:
    """The book as Binance's REST answer `{"lastUpdateId", "bids", "asks"}`. The view must also tell
    `last_id`, the update id of its newest diff."""
    terms = view.instrument
    sides = (
        [
            [quantity_text(terms.price(ticks)), quantity_text(terms.qty(lots))]
            for ticks, lots in view.walk(side, None)
        ]
        for side in (True, False)
    )
    bids, asks = sides
    told = {"lastUpdateId": view.last_id, "bids": bids, "asks": asks}  # type: ignore[attr-defined]
    return terms.venue_symbol, json.dumps(told, separators=(",", ":")).encode()


class PaperServer:
    """See the module docstring.

    Args:
        source, fold: the market. `fold.builders` are the books the venue matches against.
        listen: `127.0.0.1:PORT` (0: a free one) or `unix:/path`.
        token: what a client must say, at least `MIN_TOKEN` characters. Never logged.
        snapshot: makes the frame a late reader starts from.

    Raises:
        BadInput: the address or the token is not usable.
    """

    def __init__(
        self,
        source: FrameSource,
        fold: Fold,
        instruments: Iterable[Instrument],
        balances: Mapping[str, Decimal],
        *,
        listen: str,
        token: str,
        clock: ClockLike,
        settings: PaperSettings | None = None,
        seed: int = 0,
        snapshot: Snapshot = binance_snapshot,
    ) -> None:
        if len(token) < MIN_TOKEN:
            raise BadInput("token", f"must have at least {MIN_TOKEN} characters")
        # the client keeps the deadline of each answer, as with a real venue
        kept = replace(settings or PaperSettings(), answer_timeout_ms=None)
        self.paper = ThreadedPaper(fold.builders, instruments, balances, kept, seed, clock=clock)
        self.token = token
        self.snapshot = snapshot
        self._fold = fold
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: set[_Peer] = set()
        self._accounts: dict[str, _Peer] = {}
        self._readers: tuple[_Peer, ...] = ()
        self._is_closed = False
        self._has_ended = False
        self._standing: bytes | None = None  # what a reader that joins now must know of the source
        self._listener, self.address = wire.listen_on(listen)
        self._listener.settimeout(POLL_S)
        self._accepting = Service("paper-accept", self._accept, restart_after_s=0.5)
        self._market = Service("paper-market", self._play)

    def start(self) -> PaperServer:
        self.paper.start()
        self._accepting.start()
        self._market.start()
        return self

    @property
    def has_ended(self) -> bool:
        """The market's source came to its end (the venue goes on: orders can be cancelled, fills read)."""
        return self._has_ended

    @property
    def crashed(self) -> BaseException | None:
        """What ended the market's thread, if it did not end by itself."""
        return self._market.crashed

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop serving. Idempotent."""
        self._is_closed = True
        services = (self._market, self._accepting)
        for service in services:
            service.stop()
        with self._lock:
            peers = tuple(self._peers)
        for peer in peers:
            peer.close()
        for service in services:
            service.join(timeout_s)
        for peer in peers:
            peer.join(timeout_s)
        self.paper.close(timeout_s)
        self._listener.close()
        wire.forget(self.address)

    # ------------------------------------------------------------------ the market's thread

    def _play(self, service: Service) -> None:
        sink = Sink(self, service)
        self._source.run(service, sink)
        if not self._has_ended and not service.stopping:
            sink.end("the source came to its end")

    def frame(self, symbol: str | None, recv_ns: int, raw: bytes) -> None:
        for event in self._fold.fold(raw, recv_ns, recv_ns, symbol):
            self.paper.on_market(event)
        readers = self._readers
        if readers:
            sent = wire.frame(symbol, recv_ns, raw)
            for peer in readers:
                if peer.owed:
                    self._send_snapshots(peer, recv_ns)
                peer.put(sent)

    def note(self, verb: str, reason: str, note: str = "") -> None:
        """The source came up, went down, began again or ended."""
        at_ns = self._clock.now_ns()
        if verb == "restart":
            events = self._fold.restart(reason, at_ns)
        else:
            events = () if verb == "up" else self._fold.drop(reason, at_ns)
        for event in events:
            self.paper.on_market(event)
        told = wire.message(wire.Note(verb, reason, note))
        with self._lock:
            self._has_ended = verb == "end"
            self._standing = told if verb in ("down", "end") else None
            readers = self._readers
        for peer in readers:
            peer.put(told)

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        return self._fold.wants_snapshot()

    def _send_snapshots(self, peer: _Peer, recv_ns: int) -> None:
        """What a reader that joined late is owed, as far as the books are known by now."""
        for instrument in tuple(peer.owed):
            view = self._fold.builders[instrument]
            if view.is_synced:
                symbol, raw = self.snapshot(view)
                peer.put(wire.frame(symbol, recv_ns, raw))
                peer.owed.discard(instrument)

    # ------------------------------------------------------------------ connections

    def _accept(self, service: Service) -> None:
        while not service.stopping:
            service.beat()
            try:
                link, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._is_closed:
                    return
                raise
            peer = _Peer(self, link)
            with self._lock:
                self._peers.add(peer)
            peer.start()

    def joined(self, peer: _Peer, hello: wire.Hello) -> None:
        """A connection proved itself."""
        peer.put(wire.message(wire.Welcome(self._source.label, self.paper.core.settings.venue_run)))
        if hello.want == "frames":
            peer.owed = set(self._fold.builders)
            with self._lock:
                self._readers = (*self._readers, peer)
                standing = self._standing
            if standing is not None:
                peer.put(standing)
            return
        self.paper.exchange(hello.account)
        with self._lock:
            older = self._accounts.get(hello.account)
            self._accounts[hello.account] = peer
        if older is not None:
            older.finish(wire.Failed(0, "Unauthorized", "another connection took this account"))
        peer.account = hello.account
        if hello.listens:
            self.paper.attach(hello.account, peer.listener)

    def left(self, peer: _Peer) -> None:
        """A connection ended; what it ordered rests on."""
        with self._lock:
            self._peers.discard(peer)
            self._readers = tuple(one for one in self._readers if one is not peer)
            if peer.account is not None and self._accounts.get(peer.account) is peer:
                del self._accounts[peer.account]
        if peer.account is not None:
            self.paper.detach(peer.account, peer.listener)

    def call(self, account: str, name: str, args: dict[str, Any]) -> Any:
        """One request of an account's connection. Raises ExchangeError or BadInput."""
        paper = self.paper
        instrument = None if args.get("instrument") is None else InstrumentId(args["instrument"])
        if name == "open_orders":
            return paper.open_orders(account, instrument)
        if name == "balances":
            return paper.balances(account)
        if name == "instruments":
            return paper.listed()
        if name == "server_ns":
            return paper.now_ns()
        if name == "queue_ahead":
            return paper.queue_ahead(str(args["client_id"]))
        if name == "cancel_all":
            return paper.cancel_all(account, instrument)
        if name == "arm_dead_man":
            return paper.arm_dead_man(account, float(args["timeout_s"]))
        if name == "ledger":
            return paper.ledger()
        if name == "fault":
            on = args.get("on")
            return paper.fault(Fault(args["fault"]), int(args["n"]), on=None if on is None else Request(on))
        if name == "cut_stream":
            return paper.cut_stream(account, args.get("for_ms"))
        if instrument is not None and name == "order":
            return paper.order(account, instrument, str(args["client_id"]))
        if instrument is not None and name == "fills":
            return paper.fills(account, instrument, int(args["since_ns"]))
        raise Rejected(f"there is no call {name!r} with these arguments")


class Sink:
    """What a source tells the server: the same verbs as `quote.feed.Sink`. Only for the market's thread."""

    def __init__(self, server: PaperServer, service: Service) -> None:
        self._server = server
        self._service = service

    def __call__(self, symbol: str | None, recv_ns: int, raw: bytes) -> None:
        self._server.frame(symbol, recv_ns, raw)

    def idle(self) -> None:
        self._service.beat()

    def up(self, note: str) -> None:
        self._server.note("up", note)

    def down(self, reason: str) -> None:
        self._server.note("down", reason)

    def restart(self, reason: str, note: str) -> None:
        self._server.note("restart", reason, note)

    def end(self, reason: str) -> None:
        self._server.note("end", reason)

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        return self._server.wants_snapshot()


class _Peer:
    """One connection: a thread that reads and one that writes."""

    def __init__(self, server: PaperServer, link: socket.socket) -> None:
        link.settimeout(POLL_S)
        self.account: str | None = None
        self.owed: set[InstrumentId] = set()
        self._is_reader = False
        self.listener = self._heard  # one object, so that it can be recognised
        self._server = server
        self._link = link
        self._out: deque[bytes] = deque()
        self._queued = 0
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._reading = Service("paper-peer-read", self._read)
        self._writing = Service("paper-peer-write", self._write)

    def start(self) -> None:
        self._writing.start()
        self._reading.start()

    def close(self) -> None:
        self._reading.stop()
        self._writing.stop()
        self._ready.set()

    def join(self, timeout_s: float) -> None:
        self._reading.join(timeout_s)
        self._writing.join(timeout_s)

    def put(self, data: bytes) -> None:
        """Queue for writing; never blocks. A reader that lets too much pile up is cut."""
        with self._lock:
            self._queued += len(data)
            self._out.append(data)
            is_slow = self._queued > MAX_QUEUED
        self._ready.set()
        if is_slow:
            log.warning("paper reader=slow queued_bytes=%d cut", self._queued)
            self.close()

    def finish(self, message: wire.Failed) -> None:
        """Say a last word, then end."""
        self.put(wire.message(message))
        self.put(b"")

    def _heard(self, event: Event) -> None:
        self.put(wire.heard(event))

    def _write(self, service: Service) -> None:
        try:
            while not service.stopping:
                self._ready.wait(POLL_S)
                service.beat()
                self._ready.clear()
                while not service.stopping:
                    with self._lock:
                        if not self._out:
                            break
                        data = self._out.popleft()
                        self._queued -= len(data)
                    if not data:
                        return  # `finish`
                    if not self._push(data, service):
                        return
        except OSError:
            return  # the reader notices too, and cleans up
        finally:
            self._reading.stop()

    def _push(self, data: bytes, service: Service) -> bool:
        view = memoryview(data)
        while view and not service.stopping:
            try:
                view = view[self._link.send(view) :]
            except TimeoutError:
                service.beat()
        return not view

    def _read(self, service: Service) -> None:
        packets = wire.Packets()
        waited = 0.0
        try:
            while not service.stopping:
                service.beat()
                try:
                    data = self._link.recv(262_144)
                except TimeoutError:
                    waited += POLL_S
                    if self.account is None and not self._is_reader and waited > wire.HELLO_S:
                        return
                    continue
                if not data:
                    return
                for kind, payload in packets.feed(data):
                    if kind != wire.MESSAGE or not self._handle(wire.decode_to_server(payload)):
                        return
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.info("paper peer=%s ended reason=%s", self.account or "-", type(error).__name__)
        finally:
            self._writing.stop()
            self._ready.set()
            self._writing.join(1.0)
            self._link.close()
            self._server.left(self)

    def _handle(self, message: wire.ToServer) -> bool:
        """False ends the connection."""
        if isinstance(message, wire.Hello):
            is_good = hmac.compare_digest(message.token.encode(), self._server.token.encode())
            fits = message.want == "frames" or (message.want == "account" and message.account)
            if not is_good or not fits or self.account is not None or self._is_reader:
                reason = (
                    "the token is not the venue's" if not is_good else "a hello that asks for nothing known"
                )
                self._last(wire.Failed(0, "Unauthorized" if not is_good else "Rejected", reason))
                return False
            self._is_reader = message.want == "frames"
            self._server.joined(self, message)
            return True
        if self.account is None:
            self._last(wire.Failed(0, "Unauthorized", "say hello first"))
            return False
        if isinstance(message, wire.Listen):
            self._server.paper.attach(self.account, self.listener)
        elif isinstance(message, wire.Send):
            command = wire.command_of(message)
            if command is None:
                return False
            self._server.paper.send(self.account, command)
        else:
            self._answer(self.account, message)
        return True

    def _answer(self, account: str, call: wire.Call) -> None:
        try:
            value = self._server.call(account, call.name, call.args)
        except (ExchangeError, BadInput) as error:
            self.put(wire.message(wire.failed(call.n, error)))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{call.name}: malformed arguments ({type(error).__name__})"
            self.put(wire.message(wire.Failed(call.n, "Rejected", reason)))
        else:
            self.put(wire.message(wire.Result(call.n, msgspec.Raw(wire.encoded(value)))))

    def _last(self, message: wire.Failed) -> None:
        """Say why before the connection ends."""
        try:
            self._link.sendall(wire.message(message))
        except OSError:
            return  # it does not want to know


def serve(
    source: FrameSource,
    fold: Fold,
    instruments: Iterable[Instrument],
    balances: Mapping[str, Decimal],
    *,
    listen: str,
    token: str,
    clock: ClockLike,
    wait: Callable[[float], bool],
    announce: Callable[[str], None],
    settings: PaperSettings | None = None,
    seed: int = 0,
    snapshot: Snapshot = binance_snapshot,
) -> int:
    """Run a paper venue until `wait(seconds)` says True (a signal came). What `run.py --cli serve-paper`
    calls.

    `announce` is called once with the address, when clients can connect. Returns an exit code: 0, or 1 when
    the market's thread crashed.
    """
    server = PaperServer(
        source,
        fold,
        instruments,
        balances,
        listen=listen,
        token=token,
        clock=clock,
        settings=settings,
        seed=seed,
        snapshot=snapshot,
    ).start()
    try:
        announce(server.address)
        while not wait(0.2):
            if server.crashed is not None:
                return 1
        return 0
    finally:
        server.close()
