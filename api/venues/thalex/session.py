"""The session: one WebSocket to Thalex that carries our orders out and the account's events in.

Hides: connecting, login, arming, subscribing, matching answers to requests, deadlines, what is said late,
replacing the connection by overlap, the dead-man. Must not know: what a message means beyond that (`account`,
`messages`), strategies. Called by `venue`: `submit`, `arm` from any thread; everything else happens in the
thread of this session.

Life of a connection: the clock is measured where it is not known; open; log in; arm the dead-man if it is
wanted, since it covers only orders that are sent later; subscribe to orders, trades and balances; then the
account link is up. When the server announces that it will close, a successor goes through all of that first,
then takes over; the old one is heard until it has answered what it was asked. In the overlap events come
twice; they carry ids.

The dead-man (`private/set_cancel_on_disconnect`): the venue deletes the orders that were sent after it when
this connection ends or is silent for too long. So the connection is kept from silence only as long as the
caller refreshes the countdown. When the caller stops, everything is cancelled here (`cancel_session`,
`cancel_all`), and where that is not confirmed the connection is closed, which makes the venue do it. The
venue has no way back from it: a session that was armed once stays so, and closing it takes its orders along,
also after `arm(0)`, which only ends the countdown here.

An answer that did not come in time, or whose connection was lost, is "unknown"; if it comes later, it is
told then. There is no second way out for orders: their numbers live in the session, so without one nothing
is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from api.errors import ExchangeError, OutcomeUnknown, RateLimited, Rejected, Unauthorized, Unavailable
from api.runtime import Service
from api.types import Event, LinkChanged
from api.venues.thalex import messages as say
from api.venues.thalex import requests as ask
from api.venues.thalex.account import Account, Job
from api.venues.thalex.errors import ALREADY_SUBSCRIBED, NOT_LOGGED_IN
from api.venues.thalex.public import NAME
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.thalex")

TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
ARM_AGAIN_S = 1.0  # before the venue is told again that the dead-man is wanted
RENEW_AGAIN_S = 5.0  # before another successor is tried, when one did not come
SESSION_EXHAUSTED = 11


@dataclass(slots=True, eq=False)
class _Conn:
    line: SocketLine
    number: int
    born: float
    is_gone: bool = False
    is_ready: bool = False
    settles_by: float = 0.0
    """Until when it must be logged in and subscribed."""
    armed_s: int = 0
    is_arming: bool = False
    arm_at: float = 0.0
    sent_at: float = 0.0
    retire_at: float = 0.0
    waiting: dict[int, Job] = field(default_factory=dict)
    """What was asked over it and not answered, by number, oldest first."""


class OrderSession:
    """See the module docstring."""

    def __init__(self, account: Account) -> None:
        self.is_open = False
        self.connects = 0
        self.renewals = 0
        self.late_answers = 0
        self.fired = 0
        self._account = account
        self._settings = account.settings
        self._queue: deque[Job] = deque()
        self._waker = Waker()
        self._opened: deque[SocketLine | ExchangeError] = deque()
        self._opener: Service | None = None
        self._current: _Conn | None = None
        self._next: _Conn | None = None
        self._old: list[_Conn] = []
        self._late: dict[int, tuple[float, Job]] = {}
        self._held: list[Event] = []
        self._number = 0
        self._failures = 0
        self._open_at = 0.0
        self._renew_at: float | None = None
        self._is_ended = False
        self._is_up = False
        self._told_down = ""
        self._next_turn = 0.0
        self._countdown = threading.Lock()
        self._armed_s = 0
        self._armed_until = 0.0
        self.service = Service(f"{NAME}-{account.name}-orders", self._run, restart_after_s=0.5)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self.service.start()

    def submit(self, job: Job) -> bool:
        """Hand over a job; returns at once. False: there is no connection that works; nothing was taken."""
        if not self.is_open:
            return False
        self._queue.append(job)
        self._waker.wake()
        if self._is_ended:
            self._refuse_rest()
        return True

    def arm(self, seconds: int, until_s: float) -> None:
        """(Re)start the countdown: `until_s` seconds from now, of which the venue is told `seconds`; 0 ends
        it. Where the venue has to be told, waits until it has confirmed; while there is no connection that
        works, the next one tells it before anything else.

        Raises:
            ExchangeError: it was not confirmed. The countdown runs here all the same, and the venue is told
                again.
        """
        conn, now = self._current, time.monotonic()
        if conn is not None:
            conn.arm_at = now + 2 * self._settings.answer_s + ARM_AGAIN_S  # told from here, not by `_beat`
        with self._countdown:
            self._armed_s = seconds
            self._armed_until = now + until_s
        self._next_turn = 0.0
        self._waker.wake()
        if not seconds or conn is None or not conn.is_ready or conn.armed_s == seconds:
            return
        ended = threading.Event()
        results: list[bytes | ExchangeError] = []

        def done(result: bytes | ExchangeError) -> None:
            results.append(result)
            ended.set()

        if not self.submit(self._arming(seconds, done)):
            return
        if not ended.wait(2 * self._settings.answer_s):
            raise Unavailable("Thalex did not answer whether the dead-man is armed")
        if isinstance(results[0], ExchangeError):
            conn.arm_at = 0.0
            raise results[0]

    def _arming(self, seconds: int, done: Callable[[bytes | ExchangeError], None]) -> Job:
        job = Job(ask.cancel_on_disconnect(seconds))

        def ended(result: bytes | ExchangeError) -> None:
            for conn in self._conns():
                if conn.number == job.session:
                    conn.is_arming = False
                    if not isinstance(result, ExchangeError):
                        conn.armed_s = seconds
            done(result)

        job.done = ended
        return job

    @property
    def is_armed(self) -> bool:
        """The venue watches the present connection."""
        conn = self._current
        return conn is not None and conn.armed_s > 0

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
                self._account.finish(job, Unavailable("there is no connection to Thalex"))
            else:
                self._send(conn, job)

    def _turn(self, now: float) -> None:
        """All that depends on time: deadlines, silence, the dead-man, renewing, connecting."""
        self._next_turn = now + TURN_S
        self._watch_countdown(now)
        for conn in self._conns():
            self._expire(conn, now)
            try:
                conn.line.flush()
                conn.line.watch(self._settings.silence_s)
                self._beat(conn, now)
            except Unavailable as error:
                self._lost(conn, error.message)
                continue
            if not conn.is_ready and not conn.is_gone and now >= conn.settles_by:
                self._lost(conn, "Thalex did not answer the login or the subscriptions")
        for conn in list(self._old):
            if now >= conn.retire_at and not conn.waiting:
                self._drop(conn, "replaced", tell=False)
        if self._late:
            self._late = {number: kept for number, kept in self._late.items() if kept[0] > now}
        if self._opened:
            self._take_opened()
        self._connect_if_due(now)

    # ------------------------------------------------------------------ the dead-man

    def _wanted(self, now: float) -> int:
        """Seconds of the countdown that runs; 0: none does."""
        with self._countdown:
            return self._armed_s if self._armed_s and now < self._armed_until else 0

    def _watch_countdown(self, now: float) -> None:
        with self._countdown:
            if not self._armed_s:
                return
            if now < self._armed_until:
                self._next_turn = min(self._next_turn, self._armed_until)
                return
            self._armed_s = 0
        self.fired += 1
        account = self._account
        account.trouble = "the dead-man was not refreshed in time: all orders are cancelled"
        log.error("account=%s %s", account.name, account.trouble)
        conn = self._current
        if conn is None or not self.is_open:
            return  # the connection is gone, and with it what the venue watched for us

        def ended(result: bytes | ExchangeError) -> None:
            if isinstance(result, ExchangeError):
                self._lost(conn, f"cancelling everything was not confirmed: {result.message}")

        if conn.armed_s:
            self._send(conn, Job(ask.CANCEL_SESSION, done=ended))
        if not conn.is_gone:
            self._send(conn, Job(ask.CANCEL_ALL, done=ended))

    def _beat(self, conn: _Conn, now: float) -> None:
        """The venue counts our silence, not its own; only a countdown that runs keeps the session alive."""
        wanted = self._wanted(now)
        if wanted and conn is self._current and conn.is_ready and conn.armed_s == 0 and now >= conn.arm_at:
            # It began to count while this connection was being made, or the venue did not confirm.
            if not conn.is_arming:
                conn.is_arming = True
                conn.arm_at = now + ARM_AGAIN_S
                self._send(conn, self._arming(wanted, lambda _: None))
        if not conn.armed_s or conn.is_gone:
            return
        with self._countdown:
            is_over = self._armed_s > 0 and now >= self._armed_until
        due = conn.sent_at + conn.armed_s / 3
        if is_over:
            return
        if now >= due:
            self._send(conn, Job(ask.BEAT))
        else:
            self._next_turn = min(self._next_turn, due)

    # ------------------------------------------------------------------ sending

    def _send(self, conn: _Conn, job: Job) -> None:
        account = self._account
        if conn.is_gone:
            account.finish(job, Unavailable("the connection has ended"))
            return
        try:
            account.take(job)
            request = job.request
            if request is None:
                assert job.command is not None
                request = account.request_for(job.command, conn.number)
        except (RateLimited, Rejected, Unavailable) as error:
            account.finish(job, error)
            return
        self._number = number = self._number + 1
        try:
            conn.line.send_text(ask.over_socket(request, number))
        except Unavailable as error:
            account.finish(job, error)  # not a byte of it left
            self._lost(conn, error.message)
            return
        conn.sent_at = now = time.monotonic()
        job.session = conn.number
        job.deadline = now + (job.wait_s or self._settings.answer_s)
        if job.deadline < self._next_turn:
            self._next_turn = job.deadline
        conn.waiting[number] = job

    def _expire(self, conn: _Conn, now: float) -> None:
        expired = []
        for number, job in conn.waiting.items():
            if job.deadline <= now:
                expired.append((number, job))
            else:
                self._next_turn = min(self._next_turn, job.deadline)
        for number, job in expired:
            if conn.waiting.pop(number, None) is None:
                continue  # the end of an earlier one took the connection down
            self._late[number] = (now + self._settings.late_s, job)
            what = f"Thalex: no answer within {job.wait_s or self._settings.answer_s:g} s"
            job.is_late = True
            self._account.finish(job, OutcomeUnknown(what) if job.is_write else Unavailable(what))

    # ------------------------------------------------------------------ hearing

    def _listen(self, conn: _Conn) -> None:
        try:
            messages = conn.line.read()
        except Unavailable as error:
            self._lost(conn, error.message)
            return
        for raw in messages:
            try:
                frame = say.decode_frame(raw)
                if frame.channel_name:
                    self._push(frame)
                elif frame.id is not None:
                    self._answered(conn, frame.id, frame)
                elif frame.error is not None:
                    # It names no request of ours, so whatever it meant, what waits is unknown.
                    self._lost(conn, f"Thalex: {frame.error.message[:200] or frame.error.code}")
            except say.UNREADABLE:
                # It may have been a fill, or an answer: what was asked is unknown, and the gateway
                # reconciles.
                self._account.unread += 1
                self._lost(conn, "Thalex sent a message that could not be read")
            if conn.is_gone:
                return

    def _answered(self, conn: _Conn, number: int, frame: say.Frame) -> None:
        job = conn.waiting.pop(number, None)
        if job is None:
            kept = self._late.pop(number, None)
            if kept is None:
                return
            job = kept[1]
            if job.command is None:
                return  # its caller has gone
            self.late_answers += 1
        account = self._account
        refusal = frame.error
        if refusal is None:
            result = bytes(frame.result)
            if result:
                account.finish(job, result)
                return
            what = "Thalex answered without a result or a reason"
            account.finish(job, OutcomeUnknown(what) if job.is_write else Unavailable(what))
            return
        error = account.error_from(200, refusal.code, refusal.message, is_write=job.is_write)
        account.finish(job, error)
        if refusal.code in (NOT_LOGGED_IN, SESSION_EXHAUSTED):
            self._lost(conn, error.message)

    def _push(self, frame: say.Frame) -> None:
        account = self._account
        at_ns = account.clock.now_ns()
        channel, body = frame.channel_name, bytes(frame.notification)
        events: list[Event] = []
        if channel == ask.ORDERS:
            events = account.heard_orders(body, at_ns)
        elif channel == ask.TRADES:
            events = account.heard_trades(body, at_ns)
        elif channel == ask.SUMMARY:
            events = [account.heard_summary(body, at_ns)]
        elif channel == ask.SYSTEM and say.decode_system(body).event == "reconnect":
            log.info("account=%s Thalex will close the connection", account.name)
            self._renew_at = 0.0
            self._next_turn = 0.0
        if not self._is_up:
            self._held.extend(events)  # the snapshots of the subscriptions: told when the link is up
            return
        for event in events:
            account.tell(event)

    # ------------------------------------------------------------------ from opening to up

    def _log_in(self, conn: _Conn) -> None:
        """Everything is asked at once: the venue answers in order, and takes requests in order."""
        now = time.monotonic()
        conn.settles_by = now + 2 * self._settings.answer_s
        account = self._account
        missing: set[str] = set()

        def part(name: str, request: ask.Request, seconds: int = 0) -> Job:
            missing.add(name)

            def ended(result: bytes | ExchangeError) -> None:
                if isinstance(result, ExchangeError):
                    if result.code != str(ALREADY_SUBSCRIBED):
                        self._refused(conn, name, result)
                        return
                elif seconds:
                    conn.armed_s = seconds
                missing.discard(name)
                if not missing:
                    self._ready(conn)

            return Job(request, done=ended)

        jobs = [part("login", account.login())]
        wanted = self._wanted(now)
        if wanted:
            jobs.append(part("dead-man", ask.cancel_on_disconnect(wanted), wanted))
        jobs.append(part("subscription", ask.SUBSCRIBE_PRIVATE))
        jobs.append(part("notices", ask.SUBSCRIBE_PUBLIC))
        for job in jobs:
            if not conn.is_gone:
                self._send(conn, job)

    def _refused(self, conn: _Conn, name: str, error: ExchangeError) -> None:
        if conn.is_gone:
            return
        was_next = conn is self._next
        self._lost(conn, f"{name}: {error.message}")
        if isinstance(error, Unauthorized):
            self._account.offset_ns = None  # the token's time may have been the reason: measured again
            pause_s = KEY_PAUSE_S
        elif isinstance(error, RateLimited):
            pause_s = error.retry_after_s
        else:
            return
        if was_next:
            self._renew_at = time.monotonic() + pause_s
        else:
            self._open_at = max(self._open_at, time.monotonic() + pause_s)

    def _ready(self, conn: _Conn) -> None:
        if conn.is_gone:
            return
        conn.is_ready = True
        if conn is self._next:
            old, self._current, self._next = self._current, conn, None
            self.renewals += 1
            self._renew_at = None
            if old is not None:
                old.retire_at = time.monotonic() + self._settings.overlap_s
                self._old.append(old)
        self.is_open = True
        self._up()

    # ------------------------------------------------------------------ connections

    def _connect_if_due(self, now: float) -> None:
        if (self._opener is not None and self._opener.is_alive) or self._opened:
            return
        if self._account.budget.blocked_s(self._account.venue_ns()):
            return  # a login is a request too
        if self._current is None:
            if now < self._open_at:
                self._next_turn = min(self._next_turn, self._open_at)
                return
        elif (
            self._renew_at is None
            or now < self._renew_at
            or self._next is not None
            or not self._current.is_ready
        ):
            return
        else:
            self._renew_at = now + RENEW_AGAIN_S
        self.connects += 1
        opener = Service(f"{self.service.name}-open", self._open)
        self._opener = opener
        opener.start()

    def _open(self, service: Service) -> None:
        """In a thread of its own: connecting waits, and the order thread must not."""
        account = self._account
        account.sync_clock_if_old()
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
            conn = _Conn(opened, self.connects, now)
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
            self._renew_at = None
            now = time.monotonic()
            if now - conn.born > STEADY_S:
                self._failures = 0
            self._open_at = now + self._pause_s()
            self._next_turn = 0.0
            self._held.clear()
            if self._next is not None:
                self._current, self._next = self._next, None
            if tell:
                self._down(reason)
        waiting, conn.waiting = conn.waiting, {}
        for job in waiting.values():
            what = f"the connection was lost before the answer came: {reason}"
            self._account.finish(job, OutcomeUnknown(what) if job.is_write else Unavailable(what))

    def _up(self) -> None:
        self._told_down = ""
        if self._is_up:
            return
        self._tell_link(True, "subscribed")
        self._is_up = True
        held, self._held = self._held, []
        for event in held:
            self._account.tell(event)

    def _down(self, reason: str) -> None:
        if self._is_up or reason != self._told_down:
            self._is_up = False
            self._told_down = reason
            self._tell_link(False, reason)

    def _tell_link(self, is_up: bool, reason: str) -> None:
        account = self._account
        account.tell(LinkChanged(account.clock.now_ns(), NAME, "account", is_up, reason))
