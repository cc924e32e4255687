"""The order thread: one private WebSocket to OKX that carries our orders out and the account's events in.

Hides: connecting, login, subscribing, matching answers to requests, deadlines, what is said twice or late,
the text `ping`, renewing the connection by overlap. Must not know: what a message means beyond that
(`account`, `messages`), strategies. Called by `venue`: `submit` from any thread; everything else happens
in the thread of this session.

Life of a connection: the clock is measured over HTTP where it is not known (a login must be within 30 s of
the venue's time); open; log in; subscribe to orders and balances; then the account link is up. One that
grows old, or whose server announces an upgrade (notice 64008), is replaced by overlap: its successor
subscribes first, then takes over; the old one is heard until it has answered what it was asked. In the
overlap events come twice; they carry ids.

An answer that did not come in time, or whose connection was lost, is "unknown"; if it comes later, it is told
then. While there is no connection, orders leave over HTTP (`fallback`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from api.errors import ExchangeError, OutcomeUnknown, RateLimited, Unauthorized, Unavailable
from api.runtime import Service
from api.types import LinkChanged
from api.venues.okx import messages as say
from api.venues.okx import requests as ask
from api.venues.okx.account import Account, Job
from api.venues.okx.errors import EXPIRED_STAMP, NEEDS_LOGIN, error_of
from api.venues.okx.public import PING, PONG
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.okx")

TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
RENEW_AGAIN_S = 60.0  # before another successor is tried, when one did not come
SUBSCRIPTIONS = (
    {"channel": "orders", "instType": "ANY"},  # a spot order of a margin account is told as MARGIN
    {"channel": "account"},
)
SUBSCRIBE = orjson.dumps({"op": "subscribe", "args": SUBSCRIPTIONS})


@dataclass(slots=True, eq=False)
class _Conn:
    line: SocketLine
    born: float
    is_gone: bool = False
    is_logged_in: bool = False
    is_subscribed: bool = False
    settles_by: float = 0.0  # until when login and subscriptions must have been answered
    pinged_at: float | None = None
    missing: set[str] = field(default_factory=set)
    """Channels whose subscription was not confirmed yet."""
    retire_at: float = 0.0
    waiting: dict[int, Job] = field(default_factory=dict)
    """What was asked over it and not answered, by number, oldest first."""


class OrderSession:
    """See the module docstring.

    Args:
        fallback: takes a job that cannot leave here.
        carries_orders: False: orders go over HTTP by setting, and this listens only.
    """

    def __init__(self, account: Account, fallback: Callable[[Job], None], *, carries_orders: bool) -> None:
        self.is_open = False
        self.connects = 0
        self.renewals = 0
        self.late_answers = 0
        self._account = account
        self._settings = account.settings
        self._fallback = fallback
        self._carries_orders = carries_orders
        self._queue: deque[Job] = deque()
        self._waker = Waker()
        self._opened: deque[SocketLine | ExchangeError] = deque()
        self._opener: Service | None = None
        self._current: _Conn | None = None
        self._next: _Conn | None = None
        self._old: list[_Conn] = []
        self._late: dict[int, tuple[float, Job]] = {}
        self._number = 0
        self._failures = 0
        self._open_at = 0.0
        self._renew_at = 0.0
        self._renew_why = ""
        self._is_ended = False
        self._is_up = False
        self._told_down = ""
        self._next_turn = 0.0
        self.service = Service(f"{account.venue}-{account.name}-orders", self._run, restart_after_s=0.5)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self.service.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once."""
        if not self._carries_orders or not self.is_open or not job.request.fits_socket:
            self._fallback(job)
            return
        self._queue.append(job)
        self._waker.wake()
        if self._is_ended:
            self._refuse_rest()

    def stop(self) -> None:
        self.service.stop()
        self._waker.arm()
        self._waker.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread; what it never sent is answered as never sent."""
        if self.service.join(timeout_s):
            if self._opener is not None:
                self._opener.join(self._settings.connect_s)
            while self._opened:
                opened = self._opened.popleft()
                if isinstance(opened, SocketLine):
                    opened.close()
            self._waker.close()
        self._is_ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        while self._queue:
            try:
                job = self._queue.popleft()
            except IndexError:
                return  # another thread took it
            self._account.finish(job, Unavailable("the venue was closed before this was sent"))

    # ------------------------------------------------------------------ the thread

    def _run(self, service: Service) -> None:
        try:
            while not service.stopping:
                self._drain()
                for conn in self._conns():
                    self._listen(conn)
                now = time.monotonic()
                if now >= self._next_turn:
                    service.beat()
                    self._turn(now)
                    continue
                self._waker.arm()
                if not self._queue and not self._opened and not service.stopping:
                    wait([conn.line for conn in self._conns()], self._waker, self._next_turn - now)
                self._waker.clear()
                if self._opened:
                    self._take_opened()
        finally:
            self.is_open = False
            for conn in self._conns():
                self._drop(conn, "the session ended", tell=not service.stopping)

    def _conns(self) -> list[_Conn]:
        found = [conn for conn in (self._current, self._next) if conn is not None]
        return found + self._old if self._old else found

    def _drain(self) -> None:
        queue = self._queue
        while queue:
            job = queue.popleft()
            conn = self._current
            if conn is None or not self.is_open:
                self._fallback(job)
            else:
                self._send(conn, job)

    def _turn(self, now: float) -> None:
        """All that depends on time: deadlines, silence, renewing, connecting."""
        self._next_turn = now + TURN_S
        for conn in self._conns():
            self._expire(conn, now)
            try:
                conn.line.flush()
                self._watch(conn, now)
            except Unavailable as error:
                self._lost(conn, error.message)
                continue
            if not conn.is_subscribed and not conn.is_gone and now >= conn.settles_by:
                self._lost(conn, "OKX did not answer the login or the subscriptions")
        for conn in list(self._old):
            if now >= conn.retire_at and not conn.waiting:
                self._drop(conn, "replaced", tell=False)
        if self._late:
            self._late = {number: kept for number, kept in self._late.items() if kept[0] > now}
        if self._opened:
            self._take_opened()
        self._connect_if_due(now)

    def _watch(self, conn: _Conn, now: float) -> None:
        """OKX wants a text `ping` of the client before 30 s of silence, and answers `pong`."""
        silence_s = self._settings.silence_s
        silent_s = now - conn.line.heard_at
        if silent_s >= silence_s:
            raise Unavailable(f"{conn.line.host} was silent for {silent_s:.0f} s")
        if silent_s < silence_s / 2:
            conn.pinged_at = None
        elif conn.pinged_at is None:
            conn.pinged_at = now
            conn.line.send_text(PING)

    # ------------------------------------------------------------------ sending

    def _send(self, conn: _Conn, job: Job) -> None:
        account = self._account
        try:
            if not job.is_taken:
                account.take(job)
        except RateLimited as error:
            account.finish(job, error)
            return
        self._number = number = self._number + 1
        try:
            conn.line.send_text(ask.over_socket(job.request, number, account.deadline_ms()))
        except Unavailable as error:
            self._lost(conn, error.message)
            account.settle(job)
            self._fallback(job)  # not a byte of it left
            return
        job.deadline = time.monotonic() + self._settings.answer_s
        if job.deadline < self._next_turn:
            self._next_turn = job.deadline
        conn.waiting[number] = job

    def _expire(self, conn: _Conn, now: float) -> None:
        while conn.waiting:
            number, job = next(iter(conn.waiting.items()))
            if job.deadline > now:
                self._next_turn = min(self._next_turn, job.deadline)
                return
            del conn.waiting[number]
            self._late[number] = (now + self._settings.late_s, job)
            self._account.finish(job, OutcomeUnknown(f"OKX: no answer within {self._settings.answer_s:g} s"))

    # ------------------------------------------------------------------ hearing

    def _listen(self, conn: _Conn) -> None:
        try:
            messages = conn.line.read()
        except Unavailable as error:
            self._lost(conn, error.message)
            return
        for raw in messages:
            if raw == PONG:
                continue
            try:
                frame = say.decode_frame(raw)
                if frame.op:
                    self._answered(conn, frame)
                elif frame.event:
                    self._event(conn, frame)
                elif frame.arg is not None:
                    self._push(frame.arg.channel, bytes(frame.data))
            except say.UNREADABLE:
                # It may have been a fill, or an answer: what was asked is unknown, and the gateway
                # reconciles. self._account.unread += 1
                self._lost(conn, "OKX sent a message that could not be read")
            if conn.is_gone:
                return

    def _answered(self, conn: _Conn, frame: say.Frame) -> None:
        number = int(frame.id) if frame.id and frame.id.isascii() and frame.id.isdigit() else 0
        job = conn.waiting.pop(number, None)
        if job is None:
            kept = self._late.pop(number, None)
            if kept is None:
                return
            job = kept[1]
            self.late_answers += 1
        account = self._account
        account.finish(job, account.items_of(frame.code, frame.msg, bytes(frame.data), job.request.costs))
        if frame.code == NEEDS_LOGIN:
            self._lost(conn, "OKX does not know our login any more")

    def _push(self, channel: str, data: bytes) -> None:
        account = self._account
        at_ns = account.clock.now_ns()
        if channel == "orders":
            for event in account.heard_orders(data, at_ns):
                account.tell(event)
        elif channel == "account":
            balances = account.heard_balances(data, at_ns)
            if balances is not None:
                account.tell(balances)

    def _event(self, conn: _Conn, frame: say.Frame) -> None:
        event = frame.event
        if event == "login" and frame.code in ("", "0"):
            conn.is_logged_in = True
            conn.missing = {arg["channel"] for arg in SUBSCRIPTIONS}
            self._write(conn, SUBSCRIBE)
        elif event == "subscribe":
            conn.missing.discard(frame.arg.channel if frame.arg is not None else "")
            if conn.is_logged_in and not conn.missing and not conn.is_subscribed:
                self._subscribed(conn)
        elif event in ("error", "login", "channel-conn-count-error"):
            self._refused(conn, frame)
        elif event == "notice":
            log.warning("account=%s OKX says %s: %s", self._account.name, frame.code, frame.msg[:200])
            if conn is self._current:
                self._renew("OKX announced the end of the connection")

    def _refused(self, conn: _Conn, frame: say.Frame) -> None:
        """Login or a subscription was refused, or a message of ours not understood."""
        if frame.event == "channel-conn-count-error":
            error: ExchangeError = Unavailable("OKX: too many connections listen to this account")
        else:
            error = error_of(200, frame.code, frame.msg, is_write=False)
        if frame.code in EXPIRED_STAMP:
            self._account.offset_ns = None  # measured again before the next login
        if conn.is_subscribed:
            # It names no request of ours, so whatever it meant, what waits is unknown.
            self._lost(conn, error.message)
            return
        self._lost(conn, error.message)
        if isinstance(error, Unauthorized):
            self._open_at = time.monotonic() + KEY_PAUSE_S
        elif isinstance(error, RateLimited):
            self._open_at = max(self._open_at, time.monotonic() + error.retry_after_s)

    # ------------------------------------------------------------------ login and subscription

    def _write(self, conn: _Conn, payload: bytes) -> None:
        try:
            conn.line.send_text(payload)
        except Unavailable as error:
            self._lost(conn, error.message)

    def _log_in(self, conn: _Conn) -> None:
        account = self._account
        login = account.key.login(account.stamp_ms() // 1000)
        conn.settles_by = time.monotonic() + self._settings.connect_s
        self._write(conn, orjson.dumps({"op": "login", "args": [login]}))

    def _subscribed(self, conn: _Conn) -> None:
        conn.is_subscribed = True
        if conn is self._next:
            old, self._current, self._next = self._current, conn, None
            self.renewals += 1
            if old is not None:
                old.retire_at = time.monotonic() + self._settings.overlap_s
                self._old.append(old)
        self.is_open = True
        self._renew_at, self._renew_why = conn.born + self._settings.max_age_s, ""
        self._up()

    # ------------------------------------------------------------------ connections

    def _renew(self, why: str) -> None:
        self._renew_why = why
        self._renew_at = 0.0
        self._next_turn = 0.0

    def _connect_if_due(self, now: float) -> None:
        if self._opener is not None and self._opener.is_alive or self._opened:
            return
        if self._account.budget.blocked_s(self._account.venue_ns()):
            return
        if self._current is None:
            if now < self._open_at:
                self._next_turn = min(self._next_turn, self._open_at)
                return
        elif self._next is not None or not self._current.is_subscribed or now < self._renew_at:
            return
        else:
            log.info("account=%s renewing its connection: %s", self._account.name, self._renew_why or "age")
            self._renew_at = now + RENEW_AGAIN_S
        self.connects += 1
        opener = Service(f"{self.service.name}-open", self._open)
        self._opener = opener
        opener.start()

    def _open(self, service: Service) -> None:
        """In a thread of its own: connecting waits, and the order thread must not."""
        account = self._account
        try:
            if account.offset_ns is None:
                account.sync_clock()
            opened: SocketLine | ExchangeError = SocketLine(
                account.where.private,
                account.where.hosts,
                headers=account.where.headers,
                connect_s=self._settings.connect_s,
                proxy=account.proxy,
            )
        except ExchangeError as error:
            opened = error
        self._opened.append(opened)
        self._waker.wake()

    def _take_opened(self) -> None:
        while self._opened:
            opened = self._opened.popleft()
            now = time.monotonic()
            if isinstance(opened, ExchangeError):
                if self._current is None:
                    self._down(opened.message)
                    self._open_at = now + self._pause_s()
                continue
            conn = _Conn(opened, now)
            if self._current is None:
                self._current = conn
            else:
                self._next = conn
            self._log_in(conn)

    def _pause_s(self) -> float:
        pauses = self._settings.pauses_s
        pause_s = pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        return pause_s

    def _lost(self, conn: _Conn, reason: str) -> None:
        if not conn.is_gone:
            self._drop(conn, reason, tell=True)

    def _drop(self, conn: _Conn, reason: str, *, tell: bool) -> None:
        """Let a connection go. What was asked over it is unknown now; a successor takes its place."""
        conn.is_gone = True
        conn.line.close()
        if conn in self._old:
            self._old.remove(conn)
        elif conn is self._next:
            self._next = None
        elif conn is self._current:
            self._current = None
            self.is_open = False
            now = time.monotonic()
            if now - conn.born > STEADY_S:
                self._failures = 0
            self._open_at = now + self._pause_s()
            self._next_turn = 0.0
            if self._next is not None:
                self._current, self._next = self._next, None
            if tell:
                self._down(reason)
        waiting, conn.waiting = conn.waiting, {}
        for job in waiting.values():
            what = f"the connection was lost before the answer came: {reason}"
            self._account.finish(job, OutcomeUnknown(what))

    def _up(self) -> None:
        self._told_down = ""
        if not self._is_up:
            self._is_up = True
            self._tell_link(True, "subscribed")

    def _down(self, reason: str) -> None:
        if self._is_up or reason != self._told_down:
            self._is_up = False
            self._told_down = reason
            self._tell_link(False, reason)

    def _tell_link(self, is_up: bool, reason: str) -> None:
        account = self._account
        account.tell(LinkChanged(account.clock.now_ns(), account.venue, "account", is_up, reason))
