"""The order thread of Binance USDT-M futures or Aster: the WebSocket on which orders leave (where there is
one), and the private stream on which the account's events come in.

Hides: connecting, matching answers to requests, deadlines, what is said late, the measured clock, renewing
connections by overlap, listen keys that ended. Must not know: what a message means beyond that
(`usdm_account`, `usdm_messages`), strategies. Called by `usdm_venue`: `submit` from any thread; everything
else happens in the thread of this session, but connecting and extending the listen key, which wait and have
threads of their own.

The private stream needs a listen key (`POST listenKey`), which lives for 60 minutes and is extended every
`Settings.listen_key_s`. When it does not exist any more (-1125, or the event `listenKeyExpired`) another is
made and a new connection opened. The stream gives no snapshot and no word of welcome: the account link is up
when the connection stands and the clock is measured, and the gateway reconciles.

A connection that grows old is replaced by overlap: its successor stands before the old one goes; in the
overlap events come twice and carry ids. An answer that did not come in time, or whose connection was lost, is
"unknown"; if it comes later, it is told then. While there is no order connection, orders leave over HTTP
(`fallback`): the account link does not depend on it.
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
from api.types import BalancesHeard, LinkChanged
from api.venues import usdm_messages as say
from api.venues import usdm_requests as ask
from api.venues.usdm_account import Account, Job, pool_name
from api.venues.usdm_errors import NO_LISTEN_KEY
from api.venues.usdm_public import UNREADABLE
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.usdm")

TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
RENEW_AGAIN_S = 60.0  # before another successor is tried, when one did not come
KEEP_AGAIN_S = 30.0  # before a listen key is extended again, when that failed
KEEPER_TURN_S = 0.1
TIME = ask.Request("time", "", "", {}, ((ask.WEIGHT, 1),))


@dataclass(slots=True, eq=False)
class _Conn:
    line: SocketLine
    slot: _Slot
    born: float
    is_gone: bool = False
    is_timed: bool = False
    time_at: float = 0.0  # when the time is to be asked next
    is_asking: bool = False
    retire_at: float = 0.0
    waiting: dict[int, Job] = field(default_factory=dict)
    """What was asked over it and not answered, by number, oldest first."""


@dataclass(slots=True, eq=False)
class _Slot:
    """One purpose, its connection and the successor of that. `carries_orders`: else it is the private
    stream.
    """

    carries_orders: bool
    current: _Conn | None = None
    next: _Conn | None = None
    opener: Service | None = None
    opened: deque[SocketLine | ExchangeError] = field(default_factory=deque)
    failures: int = 0
    open_at: float = 0.0
    renew_at: float = 0.0


class Session:
    """See the module docstring.

    Args:
        fallback: takes a job that cannot leave here.
        carries_orders: False: orders go over HTTP, and this listens only.
    """

    def __init__(self, account: Account, fallback: Callable[[Job], None], *, carries_orders: bool) -> None:
        self.is_open = False
        self.connects = 0
        self.renewals = 0
        self.late_answers = 0
        self.listen_keys = 0
        self._account = account
        self._settings = account.settings
        self._fallback = fallback
        self._queue: deque[Job] = deque()
        self._waker = Waker()
        self._private = _Slot(carries_orders=False)
        self._orders = _Slot(carries_orders=True) if carries_orders else None
        self._slots = (self._private,) if self._orders is None else (self._orders, self._private)
        self._old: list[_Conn] = []
        self._late: dict[int, tuple[float, Job]] = {}
        self._again: list[tuple[_Conn, Job]] = []
        self._number = 0
        self._is_ended = False
        self._is_up = False
        self._told_down = ""
        self._next_turn = 0.0
        self._key_lost = threading.Event()
        self._has_key = False
        name = f"{account.dialect.name}-{account.name}"
        self.service = Service(f"{name}-orders", self._run, restart_after_s=0.5)
        self.keeper = Service(f"{name}-keeper", self._keep, restart_after_s=0.5)

    # ------------------------------------------------------------------ any thread

    def start(self) -> None:
        self.service.start()
        self.keeper.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once."""
        if not self.is_open or not job.request.method:
            self._fallback(job)
            return
        self._queue.append(job)
        self._waker.wake()
        if self._is_ended:
            self._refuse_rest()

    def stop(self) -> None:
        self.keeper.stop()
        self.service.stop()
        self._waker.arm()
        self._waker.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads; what was never sent is answered as never sent."""
        self.keeper.join(timeout_s)
        if self.service.join(timeout_s):
            for slot in self._slots:
                if slot.opener is not None:
                    slot.opener.join(self._settings.connect_s)
                while slot.opened:
                    opened = slot.opened.popleft()
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

    # ------------------------------------------------------------------ the order thread

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
                if not self._queue and not self._has_opened() and not service.stopping:
                    wait([conn.line for conn in self._conns()], self._waker, self._next_turn - now)
                self._waker.clear()
                if self._has_opened():
                    self._take_opened()
        finally:
            self.is_open = False
            for conn in self._conns():
                self._drop(conn, "the session ended", tell=not service.stopping)

    def _conns(self) -> list[_Conn]:
        found = [conn for slot in self._slots for conn in (slot.current, slot.next) if conn is not None]
        return found + self._old if self._old else found

    def _has_opened(self) -> bool:
        return any(slot.opened for slot in self._slots)

    def _drain(self) -> None:
        queue = self._queue
        while queue:
            job = queue.popleft()
            conn = self._orders.current if self._orders is not None else None
            if conn is None or not self.is_open:
                self._fallback(job)
            else:
                self._send(conn, job)

    def _turn(self, now: float) -> None:
        """All that depends on time: deadlines, silence, the clock, renewing, connecting."""
        self._next_turn = now + TURN_S
        for conn in self._conns():
            self._expire(conn, now)
            try:
                conn.line.flush()
                conn.line.watch(self._settings.silence_s)
            except Unavailable as error:
                self._drop(conn, error.message, tell=True)
        for conn in list(self._old):
            if now >= conn.retire_at and not conn.waiting:
                self._drop(conn, "replaced", tell=False)
        if self._key_lost.is_set():
            self._key_lost.clear()
            self._listen_key_ended("the listen key does not exist any more")
        if self._orders is not None:
            for due in (self._orders.current, self._orders.next):
                if due is not None and not due.is_asking and now >= due.time_at:
                    self._ask_time(due)
        if self._late:
            self._late = {number: kept for number, kept in self._late.items() if kept[0] > now}
        if self._has_opened():
            self._take_opened()
        for slot in self._slots:
            self._connect_if_due(slot, now)

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
        request = job.request
        if request is TIME:
            payload = b'{"id":%d,"method":"time"}' % number
        else:
            payload = account.signer.frame(request.method, number, request.params, account.venue_ns())
        try:
            conn.line.send_text(payload)
        except Unavailable as error:
            self._drop(conn, error.message, tell=True)
            account.settle(job)
            if request.path:
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
            what = f"no answer within {self._settings.answer_s:g} s"
            self._account.finish(job, OutcomeUnknown(f"{self._account.dialect.title}: {what}"))

    # ------------------------------------------------------------------ hearing

    def _listen(self, conn: _Conn) -> None:
        try:
            messages = conn.line.read()
        except Unavailable as error:
            self._drop(conn, error.message, tell=True)
            return
        for raw in messages:
            if conn.slot.carries_orders:
                self._heard_answer(conn, raw)
            else:
                self._heard_event(conn, raw)
            if conn.is_gone:
                return

    def _heard_answer(self, conn: _Conn, raw: bytes) -> None:
        title = self._account.dialect.title
        try:
            frame = say.decode_frame(raw)
        except UNREADABLE:
            self._account.unread += 1
            self._drop(conn, f"{title} sent a message that could not be read", tell=True)
            return
        if isinstance(frame.id, int):
            self._answered(conn, frame.id, frame)
        elif frame.error is not None:
            self._drop(conn, f"{title} ended the session: {frame.error.msg}", tell=True)

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
            what = f"{account.dialect.title} answered without a result or a reason"
            account.finish(job, OutcomeUnknown(what))
            return
        is_write = bool(job.request.path)
        error = account.error_from(
            frame.status or 400, refusal.code, refusal.msg, is_write=is_write, wait_s=self._wait_of(refusal)
        )
        if account.is_clock(error) and not job.is_retried and job.request is not TIME and not conn.is_gone:
            job.is_retried = True  # nothing happened: once more, when the clock is known better
            account.settle(job)
            self._again.append((conn, job))
            conn.time_at = 0.0
            self._next_turn = 0.0
            return
        account.finish(job, error)

    def _wait_of(self, refusal: say.Refusal) -> float | None:
        if not bytes(refusal.data):
            return None
        try:
            told = say.decode_retry_after(bytes(refusal.data))
        except UNREADABLE:
            return None
        if told.retryAfter is None:
            return None
        now_ms = told.serverTime or self._account.venue_ns() // say.MS
        return max(0.0, (told.retryAfter - now_ms) / 1000)

    def _heard_event(self, conn: _Conn, raw: bytes) -> None:
        account = self._account
        at_ns = account.clock.now_ns()
        try:
            pushed = say.decode_pushed(raw)
            if pushed.e is None and bytes(pushed.data):
                raw = bytes(pushed.data)
                pushed = say.decode_pushed(raw)
            if pushed.e == "ORDER_TRADE_UPDATE":
                for event in account.heard_update(raw, at_ns):
                    account.tell(event)
            elif pushed.e == "ACCOUNT_UPDATE":
                account.heard_account(raw)
            elif pushed.e == "listenKeyExpired":
                self._listen_key_ended("the listen key expired")
        except UNREADABLE:
            account.unread += 1
            what = f"{account.dialect.title} sent an event that could not be read"
            self._drop(conn, what, tell=True)  # it may have been a fill: reconcile

    def _listen_key_ended(self, reason: str) -> None:
        """What was opened with it hears nothing any more."""
        self._has_key = False
        for conn in self._conns():
            if not conn.slot.carries_orders:
                self._drop(conn, reason, tell=True)
        self._private.open_at = 0.0
        self._next_turn = 0.0

    # ------------------------------------------------------------------ time

    def _ask_time(self, conn: _Conn) -> None:
        conn.is_asking = True
        sent_ns = self._account.clock.now_ns()
        self._send(conn, Job(TIME, done=lambda result: self._timed(conn, sent_ns, result)))

    def _timed(self, conn: _Conn, sent_ns: int, result: bytes | ExchangeError) -> None:
        conn.is_asking = False
        now = time.monotonic()
        conn.time_at = now + self._settings.clock_every_s
        self._next_turn = 0.0
        account = self._account
        if isinstance(result, RateLimited):
            conn.time_at = now + result.retry_after_s
            self._give_up_again("our clock was found wrong, and the venue will not tell its own now")
            return
        if isinstance(result, ExchangeError):
            self._drop(conn, f"the time was asked for: {result.message}", tell=True)
            return
        try:
            account.measured(say.decode_time(result).serverTime, sent_ns, account.clock.now_ns())
        except UNREADABLE:
            self._drop(conn, "the time came back as something else", tell=True)
            return
        is_first = not conn.is_timed
        conn.is_timed = True
        if is_first:
            self._stands(conn)
        again, self._again = self._again, []
        for asked_over, job in again:
            if not asked_over.is_gone:
                self._send(asked_over, job)
            else:
                account.finish(job, Unavailable("the connection was lost while the clock was measured"))

    def _give_up_again(self, reason: str) -> None:
        """What waits for the clock to be sent once more was not executed, and will not be sent."""
        again, self._again = self._again, []
        for _, job in again:
            self._account.finish(job, Unavailable(reason))

    # ------------------------------------------------------------------ connections

    def _connect_if_due(self, slot: _Slot, now: float) -> None:
        if slot.opener is not None and slot.opener.is_alive or slot.opened:
            return
        if self._account.budget.blocked_s(self._account.venue_ns()):
            return  # connecting costs weight too, and a ban only grows
        if slot.current is None:
            if now < slot.open_at:
                self._next_turn = min(self._next_turn, slot.open_at)
                return
        elif slot.next is not None or now < slot.renew_at:
            return
        else:
            log.info("account=%s renewing a connection that grew old", self._account.name)
            slot.renew_at = now + RENEW_AGAIN_S
        self.connects += 1
        slot.opener = Service(f"{self.service.name}-open", lambda service: self._open(slot))
        slot.opener.start()

    def _open(self, slot: _Slot) -> None:
        """In a thread of its own: connecting waits, and the order thread must not."""
        account = self._account
        opened: SocketLine | ExchangeError
        try:
            url = account.where.socket
            if not slot.carries_orders:
                url = account.private_url(account.listen_key())
                self.listen_keys += 1
                self._has_key = True
            opened = SocketLine(
                url, account.where.hosts, connect_s=self._settings.connect_s, proxy=account.proxy
            )
        except ExchangeError as error:
            opened = error
        slot.opened.append(opened)
        self._waker.wake()

    def _take_opened(self) -> None:
        for slot in self._slots:
            while slot.opened:
                opened = slot.opened.popleft()
                now = time.monotonic()
                if isinstance(opened, ExchangeError):
                    self._not_opened(slot, opened, now)
                    continue
                conn = _Conn(opened, slot, now)
                if slot.current is None:
                    slot.current = conn
                else:
                    slot.next = conn
                if slot.carries_orders:
                    self._ask_time(conn)  # it stands when this is answered
                else:
                    self._stands(conn)

    def _not_opened(self, slot: _Slot, error: ExchangeError, now: float) -> None:
        if slot.current is not None:
            return
        pause_s = self._pause_s(slot)
        if isinstance(error, RateLimited):
            pause_s = max(pause_s, error.retry_after_s)
        elif isinstance(error, Unauthorized):
            pause_s = KEY_PAUSE_S
        slot.open_at = now + pause_s
        if not slot.carries_orders:
            self._down(error.message)

    def _stands(self, conn: _Conn) -> None:
        """A connection can be used: it takes its place, and the one it succeeds retires."""
        slot = conn.slot
        if conn is slot.next:
            old, slot.current, slot.next = slot.current, conn, None
            self.renewals += 1
            if old is not None:
                old.retire_at = time.monotonic() + self._settings.overlap_s
                self._old.append(old)
        slot.renew_at = conn.born + self._settings.max_age_s
        if slot.carries_orders:
            self.is_open = True
        else:
            self._up()

    def _pause_s(self, slot: _Slot) -> float:
        pauses = self._settings.pauses_s
        pause_s = pauses[min(slot.failures, len(pauses) - 1)]
        slot.failures += 1
        return pause_s

    def _drop(self, conn: _Conn, reason: str, *, tell: bool) -> None:
        """Let a connection go. What was asked over it is unknown now; a successor takes its place."""
        if conn.is_gone:
            return
        conn.is_gone = True
        conn.line.close()
        slot = conn.slot
        if conn in self._old:
            self._old.remove(conn)
        elif conn is slot.next:
            slot.next = None
        elif conn is slot.current:
            slot.current = None
            now = time.monotonic()
            if now - conn.born > STEADY_S:
                slot.failures = 0
            slot.open_at = now + self._pause_s(slot)
            self._next_turn = 0.0
            if slot.next is not None:
                slot.current, slot.next = slot.next, None
            if slot.carries_orders:
                self.is_open = slot.current is not None and slot.current.is_timed
            if tell and not slot.carries_orders:
                self._down(reason)  # events may have been missed, whoever comes next
                if slot.current is not None:
                    self._up()
        if self._orders is not None and self._orders.current is None:
            self._give_up_again("the connection was lost while the clock was measured")
        waiting, conn.waiting = conn.waiting, {}
        for job in waiting.values():
            what = f"the connection was lost before the answer came: {reason}"
            self._account.finish(job, OutcomeUnknown(what) if job.request.path else Unavailable(what))

    def _up(self) -> None:
        self._told_down = ""
        if not self._is_up:
            self._is_up = True
            self._tell_link(True, "listening")

    def _down(self, reason: str) -> None:
        if self._is_up or reason != self._told_down:
            self._is_up = False
            self._told_down = reason
            self._tell_link(False, reason)

    def _tell_link(self, is_up: bool, reason: str) -> None:
        account = self._account
        account.tell(LinkChanged(account.clock.now_ns(), account.dialect.name, "account", is_up, reason))

    # ------------------------------------------------------------------ the keeper's thread

    def _keep(self, service: Service) -> None:
        """Extends the listen key, measures the clock, reads balances after money moved: all of it waits."""
        settings, account = self._settings, self._account
        now = time.monotonic()
        keep_at, clock_at, balances_at = now + settings.listen_key_s, now + settings.clock_every_s, 0.0
        while not service.wait(KEEPER_TURN_S):
            now = time.monotonic()
            if now >= keep_at:
                keep_at = now + (settings.listen_key_s if self._extended() else KEEP_AGAIN_S)
            if now >= clock_at and not self.is_open:
                clock_at = now + settings.clock_every_s
                self._quietly(account.sync_clock)
            if account.is_mode_due:
                self._quietly(account.read_position_mode)
            if account.balances_due.is_set() and now >= balances_at:
                account.balances_due.clear()
                balances_at = now + settings.balances_every_s
                self._quietly(self._tell_balances)

    def _extended(self) -> bool:
        if not self._has_key:
            return True  # the one that is made next is fresh
        try:
            self._account.keep_listen_key()
        except ExchangeError as error:
            log.warning("account=%s the listen key was not extended: %s", self._account.name, error.message)
            if error.code != str(NO_LISTEN_KEY):
                return False
            self._key_lost.set()
            self._waker.wake()
        return True

    def _tell_balances(self) -> None:
        account = self._account
        balances = account.fetch_balances()
        name = account.dialect.name
        account.tell(BalancesHeard(account.clock.now_ns(), name, account.name, balances))

    def _quietly(self, read: Callable[[], object]) -> None:
        try:
            read()
        except ExchangeError as error:
            log.warning("account=%s a read of the keeper failed: %s", self._account.name, error.message)
