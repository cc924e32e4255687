"""A feed: one thread that takes frames from a source, folds them, and tells its listeners.

Hides: which source it is (the venue's live stream, a recording, the synthetic market), how snapshots are
fetched beside the stream, how a recording is paced and its times moved to now, how silence and crashes are
noticed. Must not know: orders, strategies, the bus. Called by `run.py`, which chooses the source, and by the
desk, which shows `views`.

Listeners are called in the feed's thread, in the order given, one event after the other: the simulated venue
first, so that it has matched before a strategy hears of the same moment. They must only hand over.

Every source says what its data is, and the label travels with every price: LIVE, REPLAY or SYNTHETIC.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from api.desk import FeedView
from api.errors import BadInput, ExchangeError, RateLimited
from api.runtime import ClockLike, Inbox, Service
from api.types import BookChanged, BookLost, Event, Instrument, InstrumentId
from api.venues import binance_spot as venue
from api.wire import LOOPBACK, Http, Stream
from quote.fold import MarketFold
from quote.synthetic import SyntheticMarket
from quote.tape import Tape, TapeWriter

log = logging.getLogger("makerdeck.feed")

Listener = Callable[[Event], None]

SILENCE_S = 10.0  # without a frame of a market for this long its book is not to be trusted
RESTART_S = 2.0  # between a crash of the feed and its next start
WATCH_NS = 250_000_000  # how often silence and wanted snapshots are looked at
SNAPSHOT_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # between snapshots of one market that did not help
NEVER_NS = 1 << 62

STATES = ("starting", "syncing", "running", "silent", "down", "ended", "stopped")
"""Of one market of a feed: before the first book; waiting for a snapshot; fresh; no frame for a while; no
connection; a recording that is over; the feed was stopped.
"""


class Sink(Protocol):
    """What a source may tell its feed. Calling it hands over one frame: (venue symbol or None, receive time,
    raw).

    The symbol is needed only for frames that name no market (snapshots). Only for the thread that runs the
    source.
    """

    def __call__(self, symbol: str | None, recv_ns: int, raw: bytes) -> None: ...

    def idle(self) -> None:
        """Call this at least four times a second: it notices silence."""

    def up(self, note: str) -> None:
        """There is a connection."""

    def down(self, reason: str) -> None:
        """There is none: every book is lost."""

    def restart(self, reason: str, note: str) -> None:
        """The same recording begins again."""

    def end(self, reason: str) -> None:
        """Nothing will follow: every book is lost."""

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        """The markets that wait for one."""


class FrameSource(Protocol):
    """Where frames come from. `label` is one of `api.desk.MARKET_LABELS`; `pace` is market time per real
    time.
    """

    @property
    def label(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def pace(self) -> float: ...

    def run(self, service: Service, emit: Sink) -> None:
        """Hand over frames until the service stops."""

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        """What to show as receive time minus exchange time, given what the fold measured."""


# ----------------------------------------------------------------------------------------------- the feed


class Feed:
    """One source, its fold, and those who listen. `start`, then `stop` and `join`.

    Args:
        name: of the thread and in logs.
        source: where frames come from.
        fold: the markets; the feed's thread is the only one that folds.
        listeners: called with each event, in this order.
        silence_s: seconds of market time without a frame of a market after which its book counts as lost.
    """

    def __init__(
        self,
        name: str,
        source: FrameSource,
        fold: MarketFold,
        clock: ClockLike,
        listeners: Sequence[Listener],
        *,
        silence_s: float = SILENCE_S,
        restart_s: float = RESTART_S,
    ) -> None:
        self.name = name
        self.source = source
        self.fold = fold
        self._clock = clock
        self._listeners = tuple(listeners)
        self._silence_ns = int(silence_s / min(1.0, max(source.pace, 1e-6)) * 1e9)
        self._service = Service(f"feed-{name}", self._run, restart_after_s=restart_s)
        self._state = "starting"
        self._note = ""
        self._silent: set[InstrumentId] = set()
        self._lost: dict[InstrumentId, str] = {}
        self._next_watch_ns = 0
        self._up_ns = 0

    @property
    def label(self) -> str:
        """LIVE, REPLAY or SYNTHETIC."""
        return self.source.label

    @property
    def service(self) -> Service:
        return self._service

    @property
    def instruments(self) -> tuple[InstrumentId, ...]:
        return tuple(self.fold.builders)

    def add_listener(self, listener: Listener) -> None:
        """One more, called after those before it."""
        self._listeners = (*self._listeners, listener)

    def start(self) -> Feed:
        self._service.start()
        return self

    def stop(self) -> None:
        """Ask it to end; the books are lost then, and listeners hear it. Idempotent, returns at once."""
        self._service.stop()

    def join(self, timeout_s: float) -> bool:
        return self._service.join(timeout_s)

    def note_of(self, instrument: InstrumentId) -> str:
        """Why this market is not to be trusted just now, "" when it is; for the page."""
        return self._lost.get(instrument, "")

    def views(self, now_ns: int) -> tuple[FeedView, ...]:
        """One view a market. Safe from any thread."""
        views = []
        for key, builder in self.fold.builders.items():
            stats = self.fold.stats(key)
            last_ns = self.fold.last_market_ns(key)
            symbol = builder.instrument.venue_symbol
            views.append(
                FeedView(
                    instrument=str(key),
                    source=self.source.name,
                    market=self.source.label,
                    state=self._state_of(key, builder.is_synced),
                    note=self._lost.get(key) or self._note,
                    frames=stats.frames,
                    diffs_applied=stats.diffs_applied,
                    trades=stats.trades,
                    resyncs=stats.resyncs,
                    last_market_ns=last_ns,
                    age_s=None if last_ns is None else max(0.0, (now_ns - last_ns) / 1e9),
                    clock_offset_ms=self.source.clock_offset_ms(symbol, stats.clock_offset_ms),
                )
            )
        return tuple(views)

    def _state_of(self, key: InstrumentId, is_synced: bool) -> str:
        if self._state != "running":
            return self._state
        if key in self._silent:
            return "silent"
        return "running" if is_synced else "syncing"

    # ---- the feed's own thread

    def _run(self, service: Service) -> None:
        if service.restarts:
            self.restart("the feed crashed and starts again", f"restarted {service.restarts} times")
        self._state = "starting"
        try:
            self.source.run(service, self)
        finally:
            if self._state != "ended":
                self._state = "stopped"
                self._tell(self.fold.drop("feed stopped", self._clock.now_ns()))

    def __call__(self, symbol: str | None, recv_ns: int, raw: bytes) -> None:
        events = self.fold.fold(raw, recv_ns, recv_ns, symbol)
        if events:
            self._tell(events)
        if recv_ns >= self._next_watch_ns:
            self._watch(recv_ns)

    def idle(self) -> None:
        self._service.beat()
        now_ns = self._clock.now_ns()
        if now_ns >= self._next_watch_ns:
            self._watch(now_ns)

    def up(self, note: str) -> None:
        self._state = "running"
        self._note = note
        self._up_ns = self._clock.now_ns()

    def down(self, reason: str) -> None:
        self._state = "down"
        self._note = reason
        self._silent.clear()
        self._tell(self.fold.drop(reason, self._clock.now_ns()))

    def restart(self, reason: str, note: str) -> None:
        self._note = note
        self._silent.clear()
        self._tell(self.fold.restart(reason, self._clock.now_ns()))

    def end(self, reason: str) -> None:
        self._state = "ended"
        self._note = reason
        self._tell(self.fold.drop(reason, self._clock.now_ns()))

    def wants_snapshot(self) -> tuple[InstrumentId, ...]:
        return self.fold.wants_snapshot()

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, BookChanged):
                key = event.book.instrument
                if self._lost:
                    self._lost.pop(key, None)
                if self._silent:
                    self._silent.discard(key)
            elif isinstance(event, BookLost):
                self._lost[event.instrument] = event.reason
                log.warning("feed=%s instrument=%s book lost: %s", self.name, event.instrument, event.reason)
            for listener in self._listeners:
                listener(event)

    def _watch(self, now_ns: int) -> None:
        self._next_watch_ns = now_ns + WATCH_NS
        if self._state != "running":
            return
        for key, builder in self.fold.builders.items():
            since_ns = max(self.fold.last_market_ns(key) or 0, self._up_ns)
            if now_ns - since_ns > self._silence_ns and key not in self._silent:
                self._silent.add(key)
                if builder.is_synced:
                    seconds = (now_ns - since_ns) / 1e9
                    self._tell((BookLost(now_ns, key, f"no data for {seconds:.0f} s"),))


# ----------------------------------------------------------------------------------------------- live


class LiveSource:
    """Binance spot's public stream: diffs, best bid/ask and trades of each market over one connection,
    snapshots by REST.

    Args:
        instruments: what to listen to; `venue_symbol` is Binance's name of it. addresses: where; a plain
        address is possible on this machine only. record_to: a directory in which every frame is kept as a
        tape, one file a market. When it cannot be written the
            recording ends, not the feed.
        stream_options: for `api.wire.Stream` (silence, age, overlap, pauses).

    Raises:
        BadInput: more markets than one connection carries.
    """

    label = "LIVE"
    pace = 1.0

    def __init__(
        self,
        instruments: Sequence[Instrument],
        clock: ClockLike,
        *,
        addresses: venue.Addresses = venue.PUBLIC,
        record_to: Path | None = None,
        stream_options: dict[str, float | Sequence[float]] | None = None,
    ) -> None:
        self.name = venue.NAME
        self._clock = clock
        self._addresses = addresses
        self._hosts = venue.HOSTS | LOOPBACK
        self._options = dict(stream_options or {})
        self._symbols = {instrument.id: instrument.venue_symbol for instrument in instruments}
        try:
            self._url = venue.stream_url(addresses.stream, self._symbols.values())
        except ValueError as error:
            raise BadInput("symbol", str(error)) from None
        self._record_to = record_to
        self._writers: dict[bytes, TapeWriter] = {}

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        return measured

    def run(self, service: Service, emit: Sink) -> None:
        """Listen until the service stops; every loss of the connection is told and mended here."""
        snapshots = _Snapshots(self._addresses.rest, self._hosts, self._symbols, self._clock)
        next_look_ns = 0
        is_up = False

        def heard(recv_ns: int, raw: bytes) -> None:
            nonlocal next_look_ns
            if venue.is_shutdown(raw):
                stream.renew("the venue announced that it closes this connection")
                return
            if self._record_to is not None:
                self._record(recv_ns, raw)
            emit(None, recv_ns, raw)
            if snapshots.came or recv_ns >= next_look_ns:
                look(recv_ns)

        def look(now_ns: int) -> None:
            nonlocal next_look_ns
            next_look_ns = now_ns + WATCH_NS // 2
            while snapshots.came:
                symbol, body = snapshots.take()
                if body is not None:
                    if self._record_to is not None:
                        self._record(now_ns, body, symbol)
                    emit(symbol, now_ns, body)
            if is_up:
                snapshots.ask(emit.wants_snapshot())

        def idle() -> None:
            emit.idle()
            look(self._clock.now_ns())

        def changed(is_connected: bool, reason: str) -> None:
            nonlocal is_up
            is_up = is_connected
            if is_connected:
                log.info("source=%s connected markets=%d", self.name, len(self._symbols))
                snapshots.begin()
                emit.up("")
            else:
                log.warning("source=%s disconnected: %s", self.name, reason)
                emit.down(f"disconnected: {reason}")

        stream = Stream(
            self._url,
            self._hosts,
            self._clock,
            heard=heard,
            changed=changed,
            idle=idle,
            name=f"{self.name}-stream",
            **self._options,  # type: ignore[arg-type]
        )
        try:
            stream.run(service)
        finally:
            snapshots.close()
            self._stop_recording()

    def _record(self, recv_ns: int, raw: bytes, symbol: str | None = None) -> None:
        key = symbol.lower().encode() if symbol is not None else raw[11 : raw.find(b"@", 11, 48)]
        try:
            writer = self._writers.get(key)
            if writer is None:
                if key.upper().decode("ascii", "replace") not in self._symbols.values():
                    return  # an answer or a notice, of no market
                assert self._record_to is not None
                writer = self._writers[key] = TapeWriter(self._record_to, f"spot_{key.decode()}")
            writer.write(recv_ns, raw)
        except OSError as error:
            log.warning("recording ends: %s", error.strerror or type(error).__name__)
            self._record_to = None
            self._stop_recording()

    def _stop_recording(self) -> None:
        for writer in self._writers.values():
            try:
                writer.close()
            except OSError as error:
                log.warning("a recording was not finished: %s", error.strerror or type(error).__name__)
        self._writers.clear()


class _Snapshots:
    """Fetches snapshots in a thread of its own, so that the stream goes on being read meanwhile.

    Each connection is an epoch: an answer asked for before it is thrown away. A market is asked for at
    growing pauses; a rate limit silences all of them for as long as the venue says.
    """

    def __init__(
        self, rest: str, hosts: frozenset[str], symbols: dict[InstrumentId, str], clock: ClockLike
    ) -> None:
        self._rest = rest
        self._symbols = symbols
        self._clock = clock
        self._http = Http(hosts)
        self._wanted: Inbox[tuple[int, InstrumentId]] = Inbox()
        self.came: deque[tuple[int, InstrumentId, bytes | None]] = deque()
        self._in_flight: set[InstrumentId] = set()
        self._not_before_ns: dict[InstrumentId, int] = {}
        self._tries: dict[InstrumentId, int] = {}
        self._epoch = 0
        self._limited_until_ns = 0
        self._lock = threading.Lock()  # around _limited_until_ns, which the fetching thread sets
        self._service = Service(f"{venue.NAME}-snapshots", self._fetch, restart_after_s=1.0).start()

    def begin(self) -> None:
        """A new connection: what was asked for before does not count."""
        self._epoch += 1
        self._in_flight.clear()
        self._tries.clear()
        self._not_before_ns.clear()

    def ask(self, wanted: Sequence[InstrumentId]) -> None:
        """These markets need one; those that are due are asked for."""
        now_ns = self._clock.now_ns()
        with self._lock:
            if now_ns < self._limited_until_ns:
                return
        for key in wanted:
            if key in self._in_flight or now_ns < self._not_before_ns.get(key, 0):
                continue
            tries = self._tries.get(key, 0)
            pause_s = SNAPSHOT_PAUSES_S[min(tries, len(SNAPSHOT_PAUSES_S) - 1)]
            self._tries[key] = tries + 1
            self._not_before_ns[key] = now_ns + int(pause_s * 1e9)
            self._in_flight.add(key)
            self._wanted.put((self._epoch, key))
        for key in [key for key in self._tries if key not in wanted]:
            del self._tries[key]

    def take(self) -> tuple[str, bytes | None]:
        """The next answer: (venue symbol, body); None for one that failed or came too late."""
        epoch, key, body = self.came.popleft()
        if epoch != self._epoch:
            return self._symbols[key], None
        self._in_flight.discard(key)
        return self._symbols[key], body

    def close(self) -> None:
        self._service.stop()
        self._service.join(1.0)  # an answer in flight may take longer; nobody waits for it

    def _fetch(self, service: Service) -> None:
        while not service.stopping:
            service.beat()
            item = self._wanted.get(0.2)
            if item is None:
                continue
            epoch, key = item
            body: bytes | None = None
            try:
                body = venue.fetch_snapshot(self._http, self._rest, self._symbols[key])
            except RateLimited as error:
                log.warning("snapshot of %s: %s", key, error.message)
                with self._lock:
                    self._limited_until_ns = self._clock.now_ns() + int(error.retry_after_s * 1e9)
            except ExchangeError as error:
                log.warning("snapshot of %s: %s", key, error.message)
            finally:
                self.came.append((epoch, key, body))  # whatever happened, it is no longer in flight
        self._http.close()


def probe_live(timeout_s: float = 3.0, addresses: venue.Addresses = venue.PUBLIC) -> bool:
    """Is there a way to the venue: does its public REST answer within `timeout_s`? Never raises.

    Asked in a thread of its own: looking up a host's address knows no time limit.
    """
    reached: list[bool] = []

    def ask(service: Service) -> None:
        http = Http(venue.HOSTS | LOOPBACK, connect_s=timeout_s, answer_s=timeout_s)
        try:
            venue.ping(http, addresses.rest)
            reached.append(True)
        except RateLimited:
            reached.append(True)  # it is there, and asks for patience
        except ExchangeError as error:
            log.info("no way to the venue: %s", error.message)
        finally:
            http.close()

    Service("probe-live", ask).start().join(timeout_s)
    return bool(reached)


# ----------------------------------------------------------------------------------------------- replay


class TapeSource:
    """A recording, at any speed, its receive times moved to now.

    Args:
        speed: market time per real time; infinite plays as fast as the listeners take it.
        at_end: "loop" begins again (after every book was lost once), "stop" stays at the end and says so.
    """

    label = "REPLAY"

    def __init__(self, tape: Tape, clock: ClockLike, speed: float = 1.0, at_end: str = "loop") -> None:
        if not speed > 0:
            raise BadInput("speed", f"must be above 0 (1 is real time) or max, got {speed:g}")
        if at_end not in ("loop", "stop"):
            raise BadInput("at_end", f"must be loop or stop, got {at_end!r}")
        self.name = "tape " + " ".join(tape.symbols)
        self.tape = tape
        self.pace = 1.0 if math.isinf(speed) else speed
        self._clock = clock
        self._speed = speed
        self._at_end = at_end
        self._loops = 0

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        """The recording's own: what the fold measures is against the moved times."""
        return self.tape.clock_offset_ms(symbol)

    def run(self, service: Service, emit: Sink) -> None:
        while not service.stopping:
            emit.up(self._note())
            if not self._play(service, emit):
                return
            if self._at_end == "stop":
                emit.end("end of tape")
                while not service.wait(1.0):
                    pass
                return
            self._loops += 1
            emit.restart("the tape starts again", self._note())

    def _note(self) -> str:
        if not self._loops:
            return ""
        return "looped once" if self._loops == 1 else f"looped {self._loops} times"

    def _play(self, service: Service, emit: Sink) -> bool:
        """Once from beginning to end; False when the service was stopped."""
        clock, speed = self._clock, self._speed
        begun_ns, first_ns = clock.now_ns(), self.tape.first_ns
        beat_ns = 0
        for tape_ns, symbol, raw in self.tape.frames():
            now_ns = clock.now_ns()
            due_ns = begun_ns + int((tape_ns - first_ns) / speed)
            while due_ns > now_ns:
                if service.wait(min(0.2, (due_ns - now_ns) / 1e9)):
                    return False
                emit.idle()
                now_ns = clock.now_ns()
            if now_ns - beat_ns > WATCH_NS:
                beat_ns = now_ns
                service.beat()
                if service.stopping:
                    return False
            emit(symbol, now_ns, raw)
        return True


# ----------------------------------------------------------------------------------------------- synthetic


class SyntheticSource:
    """The synthetic market in real time: one `SyntheticMarket` per instrument, each with a stream of chance
    of its own.
    """

    label = "SYNTHETIC"
    name = "synthetic"
    pace = 1.0
    STEP_S = 0.02  # how often it is asked for what happened since
    BEHIND_NS = 3_000_000_000  # further behind than this (the machine slept) the time between is left out

    def __init__(self, instruments: Sequence[Instrument], seed: int, clock: ClockLike) -> None:
        self._instruments = tuple(instruments)
        self._seed = seed
        self._clock = clock
        self._runs = 0

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        return measured

    def run(self, service: Service, emit: Sink) -> None:
        begun_ns = self._clock.now_ns()
        self._runs += 1
        markets = [
            SyntheticMarket(instrument, seed=self._seed + self._runs - 1, start_ns=begun_ns)
            for instrument in self._instruments
        ]
        emit.up("")
        while not service.stopping:
            now_ns = self._clock.now_ns()
            for market in markets:
                if now_ns - market.now_ns > self.BEHIND_NS:
                    market.skip_to(now_ns)
                for _, raw in market.step(now_ns):
                    emit(market.symbol, self._clock.now_ns(), raw)
            if emit.wants_snapshot():  # cannot be, unless a listener or the fold was restarted
                for market in markets:
                    emit(market.symbol, self._clock.now_ns(), market.snapshot())
            emit.idle()
            service.wait(self.STEP_S)
