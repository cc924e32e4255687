"""The order session: one WebSocket to Binance's WS API that carries our orders out and the account's
events in.

Hides: connecting, subscribing, matching answers to requests, deadlines, what is said twice or late, the
measured clock, renewing the connection by overlap. Must not know: what a message means beyond that
(`account`, `messages`), strategies. Called by `venue`: `submit` from any thread. A thread of its own reads
the socket, keeps the time, and writes what could not be written at once.

Life of a connection: open; ask the time, which gives the clock's offset; subscribe to the account's events
by signature (listen keys are gone since 2026-02-20); then the account link is up. One that grows old, or
whose server says it will shut down, is replaced by overlap: its successor subscribes first, then takes
over; the old one is heard until it has answered what it was asked. In the overlap events come twice; they
carry ids.

An answer that did not come in time, or whose connection was lost, is "unknown"; if it comes later, it is
told then. While there is no connection, orders leave over HTTP (`fallback`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from api.errors import ExchangeError, OutcomeUnknown, RateLimited, Unauthorized, Unavailable
from api.runtime import Service
from api.types import LinkChanged
from api.venues.binance_spot import NAME
from api.venues.binance_spot_trading import messages as say
from api.venues.binance_spot_trading import requests as ask
from api.venues.binance_spot_trading.account import Account, Job, pool_name
from api.venues.binance_spot_trading.errors import ALREADY_SUBSCRIBED, INVALID_TIMESTAMP
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.binance_spot")

TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
RENEW_AGAIN_S = 60.0  # before another successor is tried, when one did not come
TIME = ask.Request("time", "", "", {}, ((ask.WEIGHT, 1),))


@dataclass(slots=True, eq=False)
class _Conn:
    line: SocketLine
    born: float
    is_gone: bool = False
    is_timed: bool = False
    is_subscribed: bool = False
    subscribe_at: float = 0.0
    time_at: float = 0.0  # when the time is to be asked next
    is_asking: bool = False  # the time or a subscription is asked and not answered
    retire_at: float = 0.0
    waiting: dict[int, Job] = field(default_factory=dict)
    """What was asked over it and not answered, by number, oldest first."""


class OrderSession:
    """See the module docstring.

    Args:
        fallback: takes a job that cannot leave here, because there is no connection.
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
        self._wire = (
            threading.Lock()
        )  # over the sockets and what is asked over them; never held while telling
        self._queue: deque[Job] = deque()
        self._waker = Waker()
        self._opened: deque[SocketLine | ExchangeError] = deque()
        self._opener: Service | None = None
        self._current: _Conn | None = None
        self._next: _Conn | None = None
        self._old: list[_Conn] = []
        self._late: dict[int, tuple[float, Job]] = {}
        self._again: list[tuple[_Conn, Job]] = []
        self._number = 0
        self._failures = 0
        self._open_at = 0.0
        self._renew_at = 0.0
        self._renew_why = ""
        self._is_ended = False
        self._is_up = False
        self._told_down = ""
        self._next_turn = 0.0
        self.service = Service(f"binance_spot-{account.name}-orders", self._run, restart_after_s=0.5)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self.service.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once.

        It is written to the socket here and now when nothing stands before it and nobody uses the socket: a
        socket that does not wait takes it in microseconds, and waking another thread costs more than that.
        """
        if not self._carries_orders or not self.is_open:
            self._fallback(job)
            return
        if not self._queue and self._wire.acquire(blocking=False):
            failed: RateLimited | Unavailable | None = Unavailable("not now")
            try:
                conn = self._current
                if conn is not None and self.is_open and not self._queue:
                    failed = self._write(conn, job)
                    if conn.line.wants_to_write:
                        self._waker.wake()  # the rest is the thread's
            finally:
                self._wire.release()
            if failed is None:
                return
            if isinstance(failed, RateLimited):
                self._account.finish(job, failed)
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
                conns = self._conns()
                for conn in conns:
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
        while self._queue:
            conn = self._current
            if conn is None or not self.is_open:
                self._fallback(self._queue.popleft())
                continue
            with self._wire:  # taken from the queue and written as one: nothing overtakes it
                job = self._queue.popleft()
                failed = self._write(conn, job)
            if failed is not None:
                self._unsent(conn, job, failed)

    def _turn(self, now: float) -> None:
        """All that depends on time: deadlines, silence, the clock, renewing, connecting."""
        self._next_turn = now + TURN_S
        for conn in self._conns():
            self._expire(conn, now)
            if conn.is_gone:
                continue
            try:
                with self._wire:
                    conn.line.watch(self._settings.silence_s)
            except Unavailable as error:
                self._lost(conn, error.message)
        for conn in list(self._old):
            if now >= conn.retire_at and not conn.waiting:
                self._drop(conn, "replaced", tell=False)
        for due in (self._current, self._next):
            if due is not None:
                self._ask_what_is_due(due, now)
        if self._late:
            self._late = {number: kept for number, kept in self._late.items() if kept[0] > now}
        if self._opened:
            self._take_opened()
        self._connect_if_due(now)

    # ------------------------------------------------------------------ sending

    def _send(self, conn: _Conn, job: Job) -> None:
        with self._wire:
            failed = self._write(conn, job)
        if failed is not None:
            self._unsent(conn, job, failed)

    def _write(self, conn: _Conn, job: Job) -> RateLimited | Unavailable | None:
        """Sign and write one request; under the lock, by any thread. None: it is on its way."""
        account = self._account
        if conn.is_gone:
            return Unavailable("the connection has ended")
        try:
            if not job.is_taken:
                account.take(job)
        except RateLimited as error:
            return error
        self._number = number = self._number + 1
        request = job.request
        if request is TIME:
            payload = b'{"id":%d,"method":"time"}' % number
        else:
            payload = ask.over_socket(request, number, account.stamp_ms(), account.key)
        try:
            conn.line.send_text(payload)
        except Unavailable as error:
            account.settle(job)
            return error
        job.deadline = time.monotonic() + self._settings.answer_s
        conn.waiting[number] = job
        return None

    def _unsent(self, conn: _Conn, job: Job, failed: RateLimited | Unavailable) -> None:
        """Not a byte of it left."""
        if isinstance(failed, RateLimited):
            self._account.finish(job, failed)
            return
        self._lost(conn, failed.message)
        if job.request.path:
            self._fallback(job)

    def _expire(self, conn: _Conn, now: float) -> None:
        expired: list[tuple[int, Job]] = []
        with self._wire:
            for number, job in conn.waiting.items():
                if job.deadline > now:
                    self._next_turn = min(self._next_turn, job.deadline)
                    break
                expired.append((number, job))
            for number, _ in expired:
                del conn.waiting[number]
        for number, job in expired:
            self._late[number] = (now + self._settings.late_s, job)
            what = f"no answer within {self._settings.answer_s:g} s"
            self._account.finish(job, OutcomeUnknown(f"Binance: {what}"))

    # ------------------------------------------------------------------ hearing

    def _listen(self, conn: _Conn) -> None:
        try:
            with self._wire:
                conn.line.flush()
                messages = conn.line.read()
        except Unavailable as error:
            self._lost(conn, error.message)
            return
        for raw in messages:
            try:
                frame = say.decode_frame(raw)
            except say.UNREADABLE:
                self._account.unread += 1
                self._lost(conn, "Binance sent a message that could not be read")
                return
            if bytes(frame.event):
                self._push(conn, bytes(frame.event))
            elif frame.e is not None:
                self._push(conn, raw)
            elif isinstance(frame.id, int):
                self._answered(conn, frame.id, frame)
            elif frame.error is not None:
                self._lost(conn, f"Binance ended the session: {frame.error.msg}")
            if conn.is_gone:
                return

    def _answered(self, conn: _Conn, number: int, frame: say.Frame) -> None:
        job = conn.waiting.pop(number, None)
        if job is None:
            kept = self._late.pop(number, None)
            if kept is None:
                return
            job = kept[1]
            self.late_answers += 1
        account = self._account
        if frame.rateLimits:
            used = tuple((pool_name(row), row.count) for row in frame.rateLimits if row.count is not None)
            account.budget.settle(job.request.costs if job.is_taken else (), used, account.venue_ns())
            job.is_taken = False
        if frame.status == 200 and bytes(frame.result) not in (b"", b"null"):
            account.finish(job, bytes(frame.result))
            return
        refusal = frame.error
        if refusal is None:
            account.finish(job, OutcomeUnknown("Binance answered without a result or a reason"))
            return
        if refusal.code == INVALID_TIMESTAMP and not job.is_retried and job.request is not TIME:
            job.is_retried = True  # nothing happened: once more, when the clock is known better
            account.settle(job)
            self._again.append((conn, job))
            conn.time_at = 0.0
            self._next_turn = 0.0
            return
        is_write = job.command is not None or bool(job.request.path)
        error = account.error_from(
            frame.status or 400, refusal.code, refusal.msg, is_write=is_write, wait_s=self._wait_of(refusal)
        )
        account.finish(job, error)

    def _wait_of(self, refusal: say.Refusal) -> float | None:
        if not bytes(refusal.data):
            return None
        try:
            told = say.decode_retry_after(bytes(refusal.data))
        except say.UNREADABLE:
            return None
        if told.retryAfter is None:
            return None
        now_ms = told.serverTime or self._account.stamp_ms()
        return max(0.0, (told.retryAfter - now_ms) / 1000)

    def _push(self, conn: _Conn, raw: bytes) -> None:
        account = self._account
        at_ns = account.clock.now_ns()
        try:
            kind = say.decode_kind(raw).e
            if kind == "executionReport":
                for event in account.heard_execution(raw, at_ns):
                    account.tell(event)
            elif kind == "outboundAccountPosition":
                account.tell(account.heard_position(raw, at_ns))
            elif kind == "serverShutdown":
                self._renew("its server will shut down")
            elif kind == "eventStreamTerminated":
                self._unsubscribed(conn)
        except say.UNREADABLE:
            account.unread += 1
            self._lost(
                conn, "Binance sent an event that could not be read"
            )  # it may have been a fill: reconcile

    def _unsubscribed(self, conn: _Conn) -> None:
        conn.is_subscribed = False
        if conn is self._current:
            self._down("Binance ended the subscription")
            conn.subscribe_at = 0.0
            self._next_turn = 0.0

    # ------------------------------------------------------------------ time and subscription

    def _ask_what_is_due(self, conn: _Conn, now: float) -> None:
        if conn.is_asking:
            return
        if now >= conn.time_at:
            conn.is_asking = True
            sent_ns = self._account.clock.now_ns()
            self._send(conn, Job(TIME, done=lambda result: self._timed(conn, sent_ns, result)))
        elif conn.is_timed and not conn.is_subscribed and now >= conn.subscribe_at:
            conn.is_asking = True
            request = ask.subscribe(self._account.recv_window_ms)
            self._send(conn, Job(request, done=lambda result: self._subscribed(conn, result)))

    def _timed(self, conn: _Conn, sent_ns: int, result: bytes | ExchangeError) -> None:
        conn.is_asking = False
        now = time.monotonic()
        conn.time_at = now + self._settings.clock_every_s
        self._next_turn = 0.0
        account = self._account
        if isinstance(result, RateLimited):
            conn.time_at = now + result.retry_after_s
            self._give_up_again(conn, "Binance found our clock wrong, and will not tell its own now")
            return
        if isinstance(result, ExchangeError):
            self._lost(conn, f"the time was asked for: {result.message}")
            return
        try:
            account.measured(say.decode_time(result).serverTime, sent_ns, account.clock.now_ns())
        except say.UNREADABLE:
            self._lost(conn, "the time came back as something else")
            return
        conn.is_timed = True
        if conn is self._current:
            self.is_open = True
        again, self._again = self._again, []
        for asked_over, job in again:
            self._send(asked_over, job)

    def _give_up_again(self, conn: _Conn, reason: str) -> None:
        """What waits for the clock to be sent once more was not executed, and will not be sent."""
        given_up = [job for asked_over, job in self._again if asked_over is conn]
        self._again = [waiting for waiting in self._again if waiting[0] is not conn]
        for job in given_up:
            self._account.finish(job, Unavailable(reason))

    def _subscribed(self, conn: _Conn, result: bytes | ExchangeError) -> None:
        conn.is_asking = False
        now = time.monotonic()
        if isinstance(result, ExchangeError) and result.code != str(ALREADY_SUBSCRIBED):
            if isinstance(result, OutcomeUnknown):
                self._lost(conn, f"the subscription was asked for: {result.message}")
                return
            pause_s = self._pause_s()
            if isinstance(result, RateLimited):
                pause_s = max(pause_s, result.retry_after_s)
            elif isinstance(result, Unauthorized):
                pause_s = KEY_PAUSE_S
            conn.subscribe_at = now + pause_s
            if conn is self._next:
                self._drop(conn, result.message, tell=False)
            else:
                self._down(f"Binance refuses the account's events: {result.message}")
            return
        conn.is_subscribed = True
        if conn is self._next:
            old, self._current, self._next = self._current, conn, None
            self.is_open = True
            self.renewals += 1
            if old is not None:
                old.retire_at = now + self._settings.overlap_s
                self._old.append(old)
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
            return  # connecting costs weight too, and a ban only grows
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
            opened: SocketLine | ExchangeError = SocketLine(
                account.where.socket,
                account.where.hosts,
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
            self._ask_what_is_due(conn, now)

    def _pause_s(self) -> float:
        pauses = self._settings.pauses_s
        pause_s = pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        return pause_s

    def _lost(self, conn: _Conn, reason: str) -> None:
        self._drop(conn, reason, tell=True)

    def _drop(self, conn: _Conn, reason: str, *, tell: bool) -> None:
        """Let a connection go. What was asked over it is unknown now; a successor takes its place."""
        if conn.is_gone:
            return
        was_current = conn is self._current
        with self._wire:
            conn.is_gone = True
            conn.line.close()
            waiting, conn.waiting = conn.waiting, {}
            if was_current:
                self._current, self._next = self._next, None
                self.is_open = self._current is not None and self._current.is_timed
        if conn in self._old:
            self._old.remove(conn)
        elif conn is self._next:
            self._next = None
        if was_current:
            now = time.monotonic()
            if now - conn.born > STEADY_S:
                self._failures = 0
            self._open_at = now + self._pause_s()
            self._next_turn = 0.0
            if tell:
                self._down(reason)
        self._give_up_again(conn, "the connection was lost while the clock was measured")
        for job in waiting.values():
            is_write = job.command is not None or bool(job.request.path)
            what = f"the connection was lost before the answer came: {reason}"
            self._account.finish(job, OutcomeUnknown(what) if is_write else Unavailable(what))

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
        account.tell(LinkChanged(account.clock.now_ns(), NAME, "account", is_up, reason))
