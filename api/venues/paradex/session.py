"""The order thread: one WebSocket to Paradex that carries our orders out and the account's events in.

Hides: connecting, authentication, subscribing, JSON-RPC numbers, signing in time, deadlines, what is said
late, and the venue's dead-man. Must not know: what a message means beyond that (`account`, `messages`),
strategies. Called by `venue`: `submit`, `arm` from any thread; everything else happens in this thread.

Life of a connection: in a thread of its own the clock is measured where it is not known, a fresh token
fetched and the socket opened; then `auth`, the private channels, and cancel-on-disconnect where the dead-man
is armed; when all are confirmed the account link is up. It stays authenticated when the token ends, and the
venue names no greatest age, so a connection lives until it is lost.

The dead-man. Paradex knows no countdown; it cancels the orders of a connection that drops. So `arm`
switches that on for this connection (and for each later one while it is armed) and keeps the countdown
here: when it is not renewed in time the socket is cut without a goodbye. A process that dies drops it by
itself; one that hangs or loses its network is noticed by the venue's ping (every 55 s, 5 s for the pong).
Orders over HTTP may not be covered, so none leave that way while it is armed.

A cancel overtakes orders that still wait to be signed (about 2 ms each), unless one of them is its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from api.errors import ExchangeError, OutcomeUnknown, RateLimited, Unauthorized, Unavailable
from api.runtime import Service
from api.types import LinkChanged
from api.venues.paradex import messages as say
from api.venues.paradex import requests as ask
from api.venues.paradex.account import Account, Job
from api.venues.paradex.errors import NEEDS_LOGIN, socket_error_of
from api.venues.paradex.public import Failure, Frame, decode_frame
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.paradex")

TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
CHANNELS = ("orders.ALL", "fills.ALL", "account", "balance_events", "tradebusts")
AUTH, DEAD_MAN = "auth", "cancel_on_disconnect"


class Line(SocketLine):
    """A WebSocket that can also be dropped."""

    def cut(self) -> None:
        """End it without a goodbye, as a dead process would. Idempotent."""
        self._socket.close()


@dataclass(slots=True, eq=False)
class _Conn:
    line: Line
    token: str
    born: float
    settles_by: float
    is_gone: bool = False
    is_subscribed: bool = False
    is_covered: bool = False
    """Cancel-on-disconnect is on, as far as we know."""
    control: dict[int, str] = field(default_factory=dict)
    """What of the preparation was asked and not answered, by number."""
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
        self.late_answers = 0
        self.cuts = 0
        self._account = account
        self._settings = account.settings
        self._fallback = fallback
        self._carries_orders = carries_orders
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._queued: Counter[str] = Counter()
        self._waker = Waker()
        self._opened: deque[tuple[Line, str] | ExchangeError] = deque()
        self._opener: Service | None = None
        self._conn: _Conn | None = None
        self._late: dict[int, tuple[float, Job]] = {}
        self._number = 0
        self._failures = 0
        self._open_at = 0.0
        self._is_ended = False
        self._is_up = False
        self._told_down = ""
        self._next_turn = 0.0
        self._armed_until = 0.0
        self.service = Service(f"{account.venue}-{account.name}-orders", self._run, restart_after_s=0.5)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self.service.start()

    @property
    def is_armed(self) -> bool:
        return self._armed_until > 0.0

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once."""
        if not job.request.verb:
            if not self.is_open:
                self._account.finish(job, Unavailable("the WebSocket is not connected"))
                return
        elif not self._carries_orders or not self.is_open:
            self._go_around(job)
            return
        name = job.request.client_id
        with self._lock:
            if job.request.is_cancel and not self._queued[name]:
                self._urgent.append(job)
            else:
                self._queued[name] += 1
                self._queue.append(job)
        self._waker.wake()
        if self._is_ended:
            self._refuse_rest()

    def arm(self, timeout_s: float) -> bool:
        """(Re)start the countdown, 0 stops it. True: the connection must be told (`cancel_on_disconnect`)."""
        with self._lock:
            self._armed_until = time.monotonic() + timeout_s if timeout_s else 0.0
            conn = self._conn
            return conn is not None and conn.is_covered is not (timeout_s > 0)

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
                if not isinstance(opened, ExchangeError):
                    opened[0].close()
            self._waker.close()
        self._is_ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        while (job := self._pop()) is not None:
            self._account.finish(job, Unavailable("the venue was closed before this was sent"))

    def _pop(self) -> Job | None:
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            if not self._queue:
                return None
            job = self._queue.popleft()
            name = job.request.client_id
            self._queued[name] -= 1
            if self._queued[name] <= 0:
                del self._queued[name]
            return job

    def _go_around(self, job: Job) -> None:
        """Over HTTP; but nothing that the dead-man might not cover."""
        if self._carries_orders and self.is_armed and not job.request.is_cancel:
            reason = "the WebSocket is down, and over HTTP the dead-man may not cover an order"
            self._account.finish(job, Unavailable(reason))
            return
        self._fallback(job)

    # ------------------------------------------------------------------ the thread

    def _run(self, service: Service) -> None:
        try:
            while not service.stopping:
                self._drain()
                conn = self._conn
                if conn is not None:
                    self._listen(conn)
                now = time.monotonic()
                if now >= self._next_turn:
                    service.beat()
                    self._turn(now)
                    continue
                self._waker.arm()
                if not self._queue and not self._urgent and not self._opened and not service.stopping:
                    lines = [] if self._conn is None else [self._conn.line]
                    wait(lines, self._waker, self._next_turn - now)
                self._waker.clear()
                if self._opened:
                    self._take_opened()
        finally:
            self.is_open = False
            if self._conn is not None:
                self._drop(self._conn, "the session ended", tell=not service.stopping)

    def _drain(self) -> None:
        while (job := self._pop()) is not None:
            conn = self._conn
            if conn is None or not self.is_open:
                if job.request.verb:
                    self._go_around(job)
                else:
                    self._account.finish(job, Unavailable("the WebSocket is not connected"))
            else:
                self._send(conn, job)
                if job.request.terms is not None and not conn.is_gone:
                    self._listen(conn)  # signing takes its time: what came meanwhile is not kept waiting

    def _turn(self, now: float) -> None:
        """All that depends on time: deadlines, silence, the dead-man, connecting."""
        self._next_turn = now + TURN_S
        conn = self._conn
        if conn is not None:
            self._look_at(conn, now)
        if self._late:
            self._late = {number: kept for number, kept in self._late.items() if kept[0] > now}
        if self._opened:
            self._take_opened()
        self._connect_if_due(now)

    def _look_at(self, conn: _Conn, now: float) -> None:
        self._expire(conn, now)
        try:
            conn.line.flush()
            conn.line.watch(self._settings.silence_s)
        except Unavailable as error:
            self._lost(conn, error.message)
            return
        if not conn.is_subscribed and now >= conn.settles_by:
            self._lost(conn, "Paradex did not answer the login or the subscriptions")
        elif self._account.overdue_fills(now):
            self._lost(conn, "a fill came whose order was not told, so its side is not known")
        elif 0.0 < self._armed_until <= now:
            self._ring(conn)
        elif self._armed_until:
            self._next_turn = min(self._next_turn, self._armed_until)

    def _ring(self, conn: _Conn) -> None:
        """Nobody renewed the countdown."""
        with self._lock:
            self._armed_until = 0.0
        if not conn.is_covered:
            log.error("account=%s the dead-man's countdown ran out: cancelling over HTTP", self._account.name)
            self._fallback(Job(ask.cancel_all(None)))
        else:
            log.error(
                "account=%s the dead-man's countdown ran out: cutting the connection", self._account.name
            )
            self.cuts += 1
            conn.line.cut()
            self._lost(conn, "the dead-man's countdown ran out")

    # ------------------------------------------------------------------ sending

    def _send(self, conn: _Conn, job: Job) -> None:
        account, request = self._account, job.request
        try:
            if not job.is_taken:
                account.take(job)
            params = ask.signed(request, account.key, account.stamp_ms())
        except RateLimited as error:
            account.finish(job, error)
            return
        except ValueError as error:
            account.finish(job, Unavailable(f"it could not be signed ({error})"))
            return
        self._number = number = self._number + 1
        try:
            conn.line.send_text(ask.over_socket(request.op, params, number))
        except Unavailable as error:
            self._lost(conn, error.message)
            account.settle(job)
            if request.verb:
                self._go_around(job)  # not a byte of it left
            else:
                account.finish(job, error)
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
            what = OutcomeUnknown(f"Paradex: no answer within {self._settings.answer_s:g} s")
            self._account.finish(job, what)

    # ------------------------------------------------------------------ hearing

    def _listen(self, conn: _Conn) -> None:
        try:
            messages = conn.line.read()
        except Unavailable as error:
            self._lost(conn, error.message)
            return
        for raw in messages:
            try:
                frame = decode_frame(raw)
                if frame.method == "subscription" and frame.params is not None:
                    self._push(frame.params.channel, bytes(frame.params.data))
                elif frame.id is not None and frame.id in conn.control:
                    self._prepared(conn, frame, conn.control.pop(frame.id))
                elif frame.id is not None:
                    self._answered(conn, frame, frame.id)
                elif frame.error is not None:
                    # It names no request of ours, so whatever it meant, what waits is unknown.
                    self._lost(conn, f"Paradex reports an error: {frame.error.message[:200]}")
            except say.UNREADABLE:
                # It may have been a fill or an answer: what was asked is unknown, the gateway reconciles.
                self._account.unread += 1
                self._lost(conn, "Paradex sent a message that could not be read")
            if conn.is_gone:
                return

    def _answered(self, conn: _Conn, frame: Frame, number: int) -> None:
        job = conn.waiting.pop(number, None)
        if job is None:
            kept = self._late.pop(number, None)
            if kept is None:
                return
            job = kept[1]
            self.late_answers += 1
        account, failure = self._account, frame.error
        if failure is None:
            if job.request.op == "order.cancel_on_disconnect":
                conn.is_covered = bool(job.request.params["enabled"])
            account.finish(job, bytes(frame.result))
            return
        error = _error(failure, is_write=True)
        account.limited(error, job.request.costs)
        account.learned(error)
        account.finish(job, error)
        if failure.code in NEEDS_LOGIN:
            self._lost(conn, "Paradex does not know our login any more")

    def _push(self, channel: str, data: bytes) -> None:
        account = self._account
        at_ns = account.clock.now_ns()
        kind = channel.partition(".")[0]
        if kind == "orders":
            for event in account.heard_order(data, at_ns):
                account.tell(event)
        elif kind == "fills":
            for event in account.heard_fill(data, at_ns):
                account.tell(event)
        elif kind in ("account", "balance_events"):
            hear = account.heard_account if kind == "account" else account.heard_balance
            balances = hear(data, at_ns)
            if balances is not None:
                account.tell(balances)
        elif kind == "tradebusts":
            account.heard_bust(data)

    # ------------------------------------------------------------------ login and subscription

    def _prepare(self, conn: _Conn, what: str, op: str, params: ask.Params) -> None:
        self._number = number = self._number + 1
        conn.control[number] = what
        try:
            conn.line.send_text(ask.over_socket(op, params, number))
        except Unavailable as error:
            self._lost(conn, error.message)

    def _prepared(self, conn: _Conn, frame: Frame, what: str) -> None:
        if frame.error is not None:
            self._refused(conn, frame.error, what)
            return
        if what == AUTH:
            for channel in CHANNELS:
                if not conn.is_gone:
                    self._prepare(conn, channel, "subscribe", {"channel": channel})
            if self.is_armed and not conn.is_gone:
                self._prepare(conn, DEAD_MAN, "order.cancel_on_disconnect", {"enabled": True})
        elif what == DEAD_MAN:
            conn.is_covered = True
        if not conn.control and not conn.is_subscribed and not conn.is_gone:
            conn.is_subscribed = True
            self.is_open = True
            self._up()

    def _refused(self, conn: _Conn, failure: Failure, what: str) -> None:
        error = _error(failure, is_write=False)
        account = self._account
        account.learned(error)
        if failure.code in NEEDS_LOGIN:
            # Most likely the token; the next connection brings a fresh one. A key without the right shows
            # there.
            self._lost(conn, f"Paradex refused {what}: {error.message}")
            return
        self._lost(conn, f"Paradex refused {what}: {error.message}")
        if isinstance(error, Unauthorized):
            self._open_at = time.monotonic() + KEY_PAUSE_S
        elif isinstance(error, RateLimited):
            self._open_at = max(self._open_at, time.monotonic() + error.retry_after_s)

    # ------------------------------------------------------------------ connections

    def _connect_if_due(self, now: float) -> None:
        if self._conn is not None or self._opened or (self._opener is not None and self._opener.is_alive):
            return
        if self._account.budget.blocked_s(self._account.venue_ns()):
            return
        if now < self._open_at:
            self._next_turn = min(self._next_turn, self._open_at)
            return
        self.connects += 1
        self._opener = Service(f"{self.service.name}-open", self._open)
        self._opener.start()

    def _open(self, service: Service) -> None:
        """In a thread of its own: connecting waits, and the order thread must not."""
        account = self._account
        try:
            account.need_clock()
            token = account.tokens.renew()
            line = Line(
                account.where.socket,
                account.where.hosts,
                connect_s=self._settings.connect_s,
                proxy=account.proxy,
            )
            opened: tuple[Line, str] | ExchangeError = (line, token)
        except ExchangeError as error:
            opened = error
        self._opened.append(opened)
        self._waker.wake()

    def _take_opened(self) -> None:
        while self._opened:
            opened = self._opened.popleft()
            now = time.monotonic()
            if isinstance(opened, ExchangeError):
                self._down(opened.message)
                refused = isinstance(opened, Unauthorized)
                self._open_at = now + (KEY_PAUSE_S if refused else self._pause_s())
                continue
            conn = _Conn(*opened, now, now + self._settings.connect_s)
            with self._lock:
                self._conn = conn
            self._prepare(conn, AUTH, "auth", {"bearer": conn.token})
            conn.token = ""

    def _pause_s(self) -> float:
        pauses = self._settings.pauses_s
        pause_s = pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        return pause_s

    def _lost(self, conn: _Conn, reason: str) -> None:
        if not conn.is_gone:
            self._drop(conn, reason, tell=True)

    def _drop(self, conn: _Conn, reason: str, *, tell: bool) -> None:
        """Let a connection go. What was asked over it is unknown now."""
        conn.is_gone = True
        if conn.is_covered and self.is_armed:
            conn.line.cut()  # an orderly end may not count as a lost connection
        conn.line.close()
        with self._lock:
            self._conn = None
        self.is_open = False
        self._account.drop_held()
        now = time.monotonic()
        if now - conn.born > STEADY_S:
            self._failures = 0
        self._open_at = now + self._pause_s()
        self._next_turn = 0.0
        if tell:
            self._down(reason)
        waiting, conn.waiting = conn.waiting, {}
        for number, job in waiting.items():
            what = f"the connection was lost before the answer came: {reason}"
            self._late.pop(number, None)
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


def _error(failure: Failure, *, is_write: bool) -> ExchangeError:
    detail = bytes(failure.data).decode("utf-8", "replace")
    text = f"{failure.message} {detail}" if detail not in ("", "null") else failure.message
    return socket_error_of(failure.code, text, is_write=is_write)
