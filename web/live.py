"""Socket.IO: a snapshot of each topic on subscribing, then its changes at a fixed rate, from one pusher.

Hides: the bus, who wants which topic, what each viewer has seen, and how a frame gets out without waiting for
anybody. Must not know what trading is; the old console's two events come ready from `web.present`. Built by
`web.app`; `web.serve` starts and stops it with the server.

Client to server (an answer to each as acknowledgement when asked for):

    subscribe {topics: [..]}     names or `noun/*`; `snapshot` of each comes at once
    unsubscribe {topics: [..]}
    ping                         answered by `pong`

Server to client:

    connected {message, desk, viewer, topics, rate_hz}
    snapshot {topic, seq, published_ns, data}     the first value of a topic
    change   {topic, seq, published_ns, data}     same shape, whole again, only when it changed
    gone     {topic}                              it has no value any more (deleted, or its writer is)
    status_update, stats_update                   per worker, the old console's (`web.present`)
    error    {message}                            for a person
    pong

The topics are those of `api/desk.py`, and `link` {bus, lost_for_s} about the bus itself. `published_ns`
and `seq` are the publisher's: a value that stays old shows its age. Everything is the newest state, so a
viewer that falls behind gets fewer changes and never old ones; one that takes nothing for BEHIND_S is
dropped. A frame is encoded once for all.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from engineio.packet import MESSAGE as MESSAGE_TYPE
from engineio.packet import Packet
from flask import request
from flask_socketio import ConnectionRefusedError as Refused
from flask_socketio import SocketIO

from api import desk as topics_of
from api.desk import WorkerView
from api.runtime import Service
from quote.bus import Bus, BusDown, Latest

from . import present
from .auth import Auth, Caller
from .gate import WIRE, Wire
from .problems import Problem
from .settings import WebSettings

log = logging.getLogger("makerdeck.live")

LINK = "link"
DEFAULT_TOPICS = ("desk", "worker/*", "feeds", "notices", "fills", LINK)
TOPICS_MAX = 256  # subscriptions of one viewer
TOPIC_CHARS = 128
QUEUE_MAX = 64  # frames waiting for a viewer that does not use WebSocket yet
BEHIND_S = 10.0
UNKNOWN_S = 10.0  # a connection that has not said who it is
LIST_S = 0.5  # how often the bus is asked which topics there are
SECOND_S = 1.0
EVENTS_PER_S = 50  # of one viewer; more is no person

_SINGLE = frozenset(
    {
        topics_of.TOPIC_DESK,
        topics_of.TOPIC_FEEDS,
        topics_of.TOPIC_FILLS,
        topics_of.TOPIC_NOTICES,
        LINK,
    }
)
_NOUNS = (
    topics_of.TOPIC_WORKER,
    topics_of.TOPIC_ORDERS,
    topics_of.TOPIC_BOOK,
    topics_of.TOPIC_TRADES,
    topics_of.TOPIC_SERIES,
)
_NAME = re.compile(r"[^\x00-\x20*\x7f]+")

_worker_view = msgspec.json.Decoder(WorkerView)


class Frame:
    """One event, encoded once: as an Engine.IO packet for queues, as a WebSocket frame for wires."""

    __slots__ = ("packet", "wire")

    def __init__(self, event: str, body: bytes) -> None:
        text = f'2["{event}",{body.decode()}]'
        self.packet = Packet(MESSAGE_TYPE, text)
        self.wire = _websocket_frame(self.packet.encode().encode())


@dataclass(frozen=True, slots=True)
class Value:
    """The newest state of one topic: `first` for who has none of it, `next` for who has an older one."""

    version: int
    first: Frame
    next: Frame


@dataclass(slots=True)
class Viewer:
    """One connection. Written by the pusher, but for `patterns` and `is_new`, which its own thread
    changes.
    """

    sid: str
    eio_sid: str
    caller: Caller
    patterns: frozenset[str]
    is_new: bool = True
    seen: dict[str, int] = field(default_factory=dict)
    queued_s: float = 0.0
    behind_since_s: float | None = None
    events: deque[float] = field(default_factory=deque)


class Live:
    """The Socket.IO half of the face. `start` and `stop` are called once each."""

    def __init__(
        self,
        io: SocketIO,
        bus: Bus,
        auth: Auth,
        settings: WebSettings,
        wires: dict[str, Wire],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._io = io
        self._bus = bus
        self._auth = auth
        self._settings = settings
        self._wires = wires
        self._now_s = now_s
        self._lock = threading.Lock()
        self._viewers: dict[str, Viewer] = {}
        self._values: dict[str, Value] = {}  # topics, and `stats:`, `status:`, `error:` of our own
        self._stamps: dict[str, tuple[int, int]] = {}
        self._workers: dict[str, tuple[str, str]] = {}  # topic -> what its status said
        self._stats: dict[str, WorkerView] = {}
        self._said: dict[str, bytes] = {}
        self._there: frozenset[str] = frozenset()
        self._version = 0
        self._lost_since_s: float | None = None
        self._unknown: dict[str, float] = {}
        self._wake = threading.Event()
        self._service: Service | None = None
        self._say_link(True, 0.0)
        io.on_event("connect", self._connect)
        io.on_event("disconnect", self._disconnect)
        io.on_event("subscribe", self._subscribe)
        io.on_event("unsubscribe", self._unsubscribe)
        io.on_event("ping", self._ping)
        io.on_error_default(self._failed)

    @property
    def is_linked(self) -> bool:
        """Whether the bus worked when it was last asked."""
        return self._lost_since_s is None

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def start(self) -> None:
        self._service = Service("web-pusher", self._push, restart_after_s=1.0).start()

    def stop(self) -> None:
        """End the pusher and every connection. Idempotent."""
        if self._service is not None:
            self._service.stop()
            self._wake.set()
            self._service.join(2.0)
        for eio_sid in list(self._io.server.eio.sockets):
            self._drop(eio_sid)

    # ------------------------------------------------------------------------------------- what clients say

    def _connect(self, auth: Any = None) -> None:
        caller = self._caller(auth)
        eio_sid = self._io.server.manager.eio_sid_from_sid(request.sid, "/")  # type: ignore[attr-defined]
        with self._lock:
            if len(self._viewers) >= self._settings.max_viewers:
                raise Refused(f"This desk has {self._settings.max_viewers} viewers, its limit.")
            viewer = Viewer(request.sid, eio_sid, caller, frozenset(DEFAULT_TOPICS))  # type: ignore[attr-defined]
            self._viewers[viewer.sid] = viewer
        self._io.emit(
            "connected",
            {
                "message": f"connected to desk {self._settings.desk}",
                "desk": self._settings.desk,
                "viewer": caller.how,
                "topics": list(DEFAULT_TOPICS),
                "rate_hz": self._settings.rate_hz,
            },
            to=viewer.sid,
        )
        viewer.queued_s = self._now_s()
        self._wake.set()

    def _caller(self, auth: Any) -> Caller:
        """Who connects, by token or by cookie. A cookie alone is not enough: the page must be ours."""
        address = request.remote_addr or "unknown"
        try:
            token = auth.get("token") if isinstance(auth, dict) else None
            if token is not None:
                if isinstance(token, str) and self._auth.check_token(token, address):
                    return Caller("token", address)
                raise Refused("That is not the right token.")
            if request.headers.get("Authorization"):
                caller = self._auth.caller(request.environ, {})
            elif self._auth.is_own_page(request.environ, default=False):
                caller = self._auth.caller_of_cookie(request.cookies, address)
            else:
                caller = None
        except Problem as problem:
            raise Refused(problem.detail) from None
        if caller is None:
            raise Refused('Not logged in: send {"token": ...} as auth.')
        return caller

    def _disconnect(self, *reason: Any) -> None:
        with self._lock:
            viewer = self._viewers.pop(request.sid, None)  # type: ignore[attr-defined]
        if viewer is not None:
            self._wires.pop(viewer.eio_sid, None)

    def _subscribe(self, given: Any = None) -> dict[str, Any]:
        return self._changed_topics(given, lambda have, named: have | named)

    def _unsubscribe(self, given: Any = None) -> dict[str, Any]:
        return self._changed_topics(given, lambda have, named: have - named)

    def _changed_topics(
        self, given: Any, change: Callable[[frozenset[str], frozenset[str]], frozenset[str]]
    ) -> dict[str, Any]:
        viewer = self._heard()
        if viewer is None:
            return {"error": "not connected"}
        try:
            patterns = change(viewer.patterns, _named_topics(given))
            if len(patterns) > TOPICS_MAX:
                raise ValueError(f"more than {TOPICS_MAX} topics")
        except ValueError as error:
            message = f"topics: {error}"
            self._io.emit("error", {"message": message}, to=viewer.sid)
            return {"error": message}
        viewer.patterns = patterns
        viewer.is_new = True
        self._wake.set()
        return {"topics": sorted(patterns)}

    def _ping(self, *ignored: Any) -> None:
        viewer = self._heard()
        if viewer is not None:
            self._io.emit("pong", to=viewer.sid)

    def _heard(self) -> Viewer | None:
        """The viewer that speaks, unless it speaks too much: then it is dropped."""
        with self._lock:
            viewer = self._viewers.get(request.sid)  # type: ignore[attr-defined]
        if viewer is None:
            return None
        now = self._now_s()
        viewer.events.append(now)
        while viewer.events[0] < now - SECOND_S:
            viewer.events.popleft()
        if len(viewer.events) > EVENTS_PER_S:
            log.warning("viewer=%s dropped: more than %d events a second", viewer.caller.by, EVENTS_PER_S)
            self._drop(viewer.eio_sid)
            return None
        return viewer

    def _failed(self, error: Exception) -> dict[str, Any]:
        log.error("socket event failed", exc_info=error)
        return {"error": "Something failed in the console; its log has the reason."}

    # -------------------------------------------------------------------------------------------- the pusher

    def _push(self, service: Service) -> None:
        period_s = 1.0 / self._settings.rate_hz
        due_s = listed_s = second_s = 0.0
        while not service.stopping:
            service.beat()
            now = self._now_s()
            with self._lock:
                viewers = list(self._viewers.values())
            fresh = [viewer for viewer in viewers if viewer.is_new]
            if now >= due_s:
                due_s = max(due_s + period_s, now)
                if now - second_s >= SECOND_S:
                    second_s = now
                    self._each_second(viewers, now)
                if now - listed_s >= LIST_S:
                    listed_s = now
                    self._list()
                self._read(self._wanted(viewers))
                for viewer in viewers:
                    self._deliver(viewer, now)
            elif fresh:
                # whoever just came or subscribed does not wait for the beat
                self._list()
                self._read(self._wanted(fresh))
                for viewer in fresh:
                    self._deliver(viewer, now)
            self._wake.wait(max(0.0, due_s - self._now_s()))
            self._wake.clear()

    def _wanted(self, viewers: Iterable[Viewer]) -> set[str]:
        """Names of the topics to read. Without viewers the desk's own one, to know whether the bus works."""
        wanted = {topics_of.TOPIC_DESK}
        for patterns in {viewer.patterns for viewer in viewers}:
            wanted |= self._expanded(patterns)
            wanted |= {t for t in self._there if t.startswith(topics_of.TOPIC_WORKER)}
        wanted.discard(LINK)
        return wanted

    def _expanded(self, patterns: frozenset[str]) -> set[str]:
        found = set()
        for pattern in patterns:
            if pattern.endswith("*"):
                prefix = pattern[:-1]
                found |= {topic for topic in self._there if topic.startswith(prefix)}
            else:
                found.add(pattern)
        return found

    def _list(self) -> None:
        try:
            self._there = frozenset(self._bus.topics(""))
        except BusDown:
            return  # the read that follows says so

    def _read(self, wanted: set[str]) -> None:
        try:
            lost_s = self._bus.lost_for_s
            latest = self._bus.latest_many(sorted(wanted))
        except BusDown as error:
            self._lost(str(error))
            return
        if lost_s > 0:
            self._lost("no answer from the bus")
        elif self._lost_since_s is not None:
            log.warning("bus=back")
            self._lost_since_s = None
            self._values.pop("error:bus", None)
            self._say_link(True, 0.0)
        for topic, value in latest.items():
            self._take(topic, value)
        if lost_s == 0:
            for topic in self._stamps.keys() - latest.keys():
                if topic in wanted or topic not in self._there:  # a wildcard no longer lists what is gone
                    self._forget(topic)

    def _take(self, topic: str, latest: Latest) -> None:
        stamp = (latest.published_ns, latest.seq)
        if self._stamps.get(topic) == stamp:
            return
        self._stamps[topic] = stamp
        try:
            if topic.startswith(topics_of.TOPIC_WORKER):
                self._take_worker(topic, _worker_view.decode(latest.payload))
            else:
                msgspec.json.decode(latest.payload)  # what is not JSON must not reach a browser
        except (msgspec.MsgspecError, RecursionError) as error:
            log.warning("topic=%r is not what it should be: %s", topic, error)
            return
        head = f'{{"topic":{json.dumps(topic)},"seq":{latest.seq},"published_ns":{latest.published_ns},'
        body = head.encode() + b'"data":' + latest.payload + b"}"
        self._put(topic, Frame("snapshot", body), Frame("change", body))

    def _take_worker(self, topic: str, worker: WorkerView) -> None:
        status = present.legacy_status(worker)
        said = (status["state"], status["message"])
        if self._workers.get(topic) != said:
            self._workers[topic] = said
            frame = Frame("status_update", msgspec.json.encode(status))
            self._put(f"status:{topic}", frame, frame)
            self._put_stats(topic, worker)
        self._stats[topic] = worker

    def _put_stats(self, topic: str, worker: WorkerView) -> None:
        body = msgspec.json.encode(present.legacy_stats(worker))
        if self._said.get(topic) != body:
            self._said[topic] = body
            frame = Frame("stats_update", body)
            self._put(f"stats:{topic}", frame, frame)

    def _forget(self, topic: str) -> None:
        self._stamps.pop(topic, None)
        self._values.pop(topic, None)
        for mark in ("status:", "stats:"):
            self._values.pop(mark + topic, None)
        for kept in (self._workers, self._stats, self._said):
            kept.pop(topic, None)

    def _lost(self, why: str) -> None:
        now = self._now_s()
        if self._lost_since_s is None:
            log.warning("bus=lost error=%s", why)
            self._lost_since_s = now
            message = f"The link to the desk is lost; what you see is old. {why}"
            frame = Frame("error", msgspec.json.encode({"message": message}))
            self._put("error:bus", frame, frame)
            self._say_link(False, 0.0)

    def _say_link(self, is_up: bool, lost_for_s: float) -> None:
        data = {"bus": is_up, "lost_for_s": round(lost_for_s, 1)}
        body = {"topic": LINK, "seq": self._version + 1, "published_ns": time.time_ns(), "data": data}
        raw = msgspec.json.encode(body)
        self._put(LINK, Frame("snapshot", raw), Frame("change", raw))

    def _put(self, topic: str, first: Frame, following: Frame) -> None:
        self._version += 1
        self._values[topic] = Value(self._version, first, following)

    def _each_second(self, viewers: list[Viewer], now: float) -> None:
        if self._lost_since_s is not None:
            self._say_link(False, now - self._lost_since_s)
        elif viewers:
            for topic, worker in self._stats.items():
                self._put_stats(topic, worker)
        for viewer in viewers:
            session = viewer.caller.session
            if session is not None and not self._auth.is_alive(session):
                self._io.emit("error", {"message": "This login has ended."}, to=viewer.sid)
                self._io.server.disconnect(viewer.sid)
        self._drop_unknown({viewer.eio_sid for viewer in viewers}, now)

    def _drop_unknown(self, known: set[str], now: float) -> None:
        """A connection that never says who it is holds a thread: it does not keep it."""
        unknown = [eio_sid for eio_sid in list(self._io.server.eio.sockets) if eio_sid not in known]
        self._unknown = {eio_sid: self._unknown.get(eio_sid, now) for eio_sid in unknown}
        for eio_sid, since_s in self._unknown.items():
            if now - since_s > UNKNOWN_S:
                self._drop(eio_sid)
        for eio_sid in list(self._wires):
            if eio_sid not in self._io.server.eio.sockets:
                self._wires.pop(eio_sid, None)

    def _deliver(self, viewer: Viewer, now: float) -> None:
        """Whatever this viewer has not seen yet, if it can take it."""
        viewer.is_new = False
        wanted = self._expanded(viewer.patterns)
        due: list[tuple[str, Value, Frame]] = []
        for topic, value in self._values.items():
            if ":" in topic and topic.startswith(("status:", "stats:", "error:")) or topic in wanted:
                seen = viewer.seen.get(topic)
                if seen is None:
                    due.append((topic, value, value.first))
                elif seen != value.version:
                    due.append((topic, value, value.next))
        gone = [topic for topic in viewer.seen if topic not in self._values]
        for topic in gone:
            del viewer.seen[topic]
        for topic in [t for t in viewer.seen if t in self._stamps and t not in wanted]:
            del viewer.seen[topic]  # unsubscribed: coming back it gets a snapshot again
        frames = [Frame("gone", msgspec.json.encode({"topic": t})) for t in gone if _is_topic(t)]
        frames += [frame for _, _, frame in due]
        if not frames:
            return
        if self._send(viewer, frames, now):
            viewer.behind_since_s = None
            for topic, value, _ in due:
                viewer.seen[topic] = value.version
            return
        if viewer.behind_since_s is None:
            viewer.behind_since_s = now
        elif now - viewer.behind_since_s > BEHIND_S:
            log.warning("viewer=%s dropped: takes nothing for %.0f s", viewer.caller.by, BEHIND_S)
            self._drop(viewer.eio_sid)

    def _send(self, viewer: Viewer, frames: list[Frame], now: float) -> bool:
        """False: it takes no more just now, and none of these was sent."""
        sock = self._io.server.eio.sockets.get(viewer.eio_sid)
        if sock is None or sock.closed:
            return True  # on its way out; the disconnect event follows
        waiting = sock.queue.qsize()
        wire = self._wire(viewer.eio_sid)
        # the direct way only when nothing we queued can still be on its way: what comes later must not
        # overtake it
        if (
            wire is not None
            and wire.can_offer
            and sock.upgraded
            and waiting == 0
            and now - viewer.queued_s > 0.1
        ):
            try:
                return wire.offer(b"".join(frame.wire for frame in frames))
            except OSError:
                return True  # its reader notices too
        if waiting + len(frames) > max(QUEUE_MAX, len(frames)):
            return False
        try:
            for frame in frames:
                self._io.server.eio.send_packet(viewer.eio_sid, frame.packet)
        except (
            Exception
        ) as error:  # it closed between the two lines; nothing else can be wrong with a ready packet
            log.debug("viewer=%s left: %s", viewer.sid, error)
        viewer.queued_s = now
        return True

    def _wire(self, eio_sid: str) -> Wire | None:
        """The TCP connection of a WebSocket: known by the upgrade's session, or by the handshake's
        environment.
        """
        wire = self._wires.get(eio_sid)
        if wire is None:
            environ = self._io.server.environ.get(eio_sid)
            wire = environ.get(WIRE) if environ is not None else None
            if wire is not None:
                self._wires[eio_sid] = wire
        return wire

    def _drop(self, eio_sid: str) -> None:
        """End a connection without waiting for it."""
        wire = self._wire(eio_sid)
        if wire is not None:
            wire.cut()
        sock = self._io.server.eio.sockets.get(eio_sid)
        if sock is not None:
            sock.close(wait=False, abort=True, reason="server disconnect")


def _named_topics(given: Any) -> frozenset[str]:
    """The topics a client named. Raises ValueError telling what is wrong; then nothing changes."""
    named = given.get("topics") if isinstance(given, dict) else None
    if not isinstance(named, list) or not named:
        raise ValueError('send {"topics": ["desk", "worker/*", ...]}')
    if len(named) > TOPICS_MAX:
        raise ValueError(f"more than {TOPICS_MAX} topics")
    for topic in named:
        if not isinstance(topic, str) or not _is_subscribable(topic):
            shown = repr(topic)[:80]
            nouns = ", ".join(f"{noun}<id>" for noun in _NOUNS)
            raise ValueError(f"there is no {shown}; known: {', '.join(sorted(_SINGLE))}, {nouns}")
    return frozenset(named)


def _is_subscribable(topic: str) -> bool:
    if topic in _SINGLE:
        return True
    if len(topic) > TOPIC_CHARS or not topic.startswith(_NOUNS):
        return False
    name = topic.partition("/")[2]
    return bool(_NAME.fullmatch(name[:-1] if name.endswith("*") and len(name) > 1 else name)) or name == "*"


def _is_topic(name: str) -> bool:
    return not name.startswith(("status:", "stats:", "error:"))


def _websocket_frame(payload: bytes) -> bytes:
    """One unmasked text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x81, size))
    elif size < 65536:
        head = bytes((0x81, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x81, 127)) + size.to_bytes(8, "big")
    return head + payload
