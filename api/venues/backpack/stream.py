"""The account's events: one WebSocket that listens, and the balances, for which there is no stream.

Hides: connecting, the signed subscription, silence, errors that the documents do not describe. Must not know:
what an event means (`account` does). Called by `venue`.

Life of a connection: the clock is measured if it is not known; open; SUBSCRIBE with a signature to
`account.orderUpdate`. Nothing is answered to that (undocumented), so the link counts as up when no error came
within `Settings.settle_s`; who trades is reconciled then. The server pings every 60 s; we ping after half of
`silence_s` without a frame. Before it shuts down the server sends a Close frame: that ends the connection
here, and another one is opened at once.
"""

from __future__ import annotations

import logging
import time

import orjson

from api.errors import ExchangeError, Rejected, Unauthorized, Unavailable
from api.runtime import Service
from api.types import LinkChanged
from api.venues.backpack import messages as say
from api.venues.backpack.account import Account
from api.venues.backpack.errors import EXPIRED
from api.venues.backpack.signing import subscription
from api.wire_ws import SocketLine, Waker, wait

log = logging.getLogger("makerdeck.backpack")

ORDERS = "account.orderUpdate"
TURN_S = 0.25  # longest the thread waits before it looks whether it shall stop
KEY_PAUSE_S = 60.0  # before the key is tried again after it was refused
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew


class Stream:
    """See the module docstring."""

    def __init__(self, account: Account) -> None:
        self.connects = 0
        self._account = account
        self._settings = account.settings
        self._waker = Waker()
        self._line: SocketLine | None = None
        self._born = 0.0
        self._settled_at: float | None = None
        self._failures = 0
        self._open_at = 0.0
        self._is_up = False
        self._told_down = ""
        self.service = Service(f"{account.venue}-{account.name}-stream", self._run, restart_after_s=0.5)

    def start(self) -> None:
        self.service.start()

    def stop(self) -> None:
        self.service.stop()
        self._waker.arm()
        self._waker.wake()

    def join(self, timeout_s: float) -> None:
        if self.service.join(timeout_s):
            self._waker.close()

    # ------------------------------------------------------------------ the thread

    def _run(self, service: Service) -> None:
        try:
            while not service.stopping:
                service.beat()
                line, now = self._line, time.monotonic()
                if line is None:
                    if now < self._open_at:
                        service.wait(min(TURN_S, self._open_at - now))
                    else:
                        self._open()
                    continue
                due_s = TURN_S if self._settled_at is None else max(0.0, self._settled_at - now)
                self._waker.arm()
                if not service.stopping:
                    wait([line], self._waker, min(TURN_S, due_s))
                self._waker.clear()
                self._turn(line)
        finally:
            if self._line is not None:
                self._line.close()
                self._line = None
            if service.stopping:
                self._waker.close()  # here too: whoever joins may not wait for a read that hangs
            else:
                self._down("the stream's thread ended")

    def _open(self) -> None:
        account, login = self._account, self._account.login
        self.connects += 1
        try:
            account.need_markets()  # without them an event could not be told
            if login.is_clock_due:
                login.sync_clock()
            line = SocketLine(
                login.where.socket,
                login.where.hosts,
                connect_s=self._settings.connect_s,
                proxy=login.ws_proxy,
            )
        except ExchangeError as error:
            self._fail(error)
            return
        self._line, self._born = line, time.monotonic()
        signature = subscription(login.key, login.stamp_ms(), login.window_ms)
        frame = {"method": "SUBSCRIBE", "params": [ORDERS], "signature": signature}
        try:
            line.send_text(orjson.dumps(frame))
        except Unavailable as error:
            self._lost(error)
            return
        self._settled_at = self._born + self._settings.settle_s

    def _turn(self, line: SocketLine) -> None:
        try:
            for raw in line.read():
                self._heard(raw)
                if self._line is not line:
                    return
            line.flush()
            line.watch(self._settings.silence_s)
        except Unavailable as error:
            self._lost(error)
            return
        if self._settled_at is not None and time.monotonic() >= self._settled_at:
            self._up()

    def _heard(self, raw: bytes) -> None:
        account = self._account
        try:
            frame = say.decode_frame(raw)
            if frame.stream.startswith(ORDERS):
                for event in account.heard_update(bytes(frame.data), account.clock.now_ns()):
                    account.tell(event)
                if self._settled_at is not None:
                    self._up()  # an event is the proof of a subscription
                return
        except say.UNREADABLE:
            account.login.unread += 1  # it may have been a fill: reconcile
            self._lost(Unavailable("Backpack sent an event that could not be read"))
            return
        error = frame.error
        if error is None and frame.code is None:
            return  # an acknowledgement, or a stream we did not ask for
        code, text = frame.code, frame.message
        if isinstance(error, say.StreamRefusal):
            code, text = error.code, error.message
        elif isinstance(error, str):
            text = error
        self._refused(str(code or ""), text)

    def _refused(self, code: str, text: str) -> None:
        """The venue refuses something we asked over this socket: only the subscription is asked."""
        known = self._account.login.error_from(400, "INVALID_CLIENT_REQUEST", text, is_write=False)
        if known.code == EXPIRED:
            self._account.login.offset_ns = None  # measured anew before the next attempt
        if isinstance(known, Rejected):
            known = Unauthorized(f"Backpack refuses the account's events: {text or code}")
        self._lost(known)

    # ------------------------------------------------------------------ up and down

    def _fail(self, error: ExchangeError) -> None:
        pauses = self._settings.pauses_s
        pause_s = pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1
        if isinstance(error, Unauthorized):
            pause_s = KEY_PAUSE_S
        pause_s = max(pause_s, getattr(error, "retry_after_s", 0.0))
        self._open_at = time.monotonic() + pause_s
        self._down(error.message)

    def _lost(self, error: ExchangeError) -> None:
        line, self._line = self._line, None
        self._settled_at = None
        if line is not None:
            line.close()
            if time.monotonic() - self._born > STEADY_S:
                self._failures = 0
        self._fail(error)

    def _up(self) -> None:
        self._settled_at = None
        self._told_down = ""
        if not self._is_up:
            self._is_up = True
            self._tell(True, "subscribed")
        self._account.is_linked = True
        self._account.touched.set()

    def _down(self, reason: str) -> None:
        if self._is_up or reason != self._told_down:
            self._is_up = self._account.is_linked = False
            self._told_down = reason
            self._tell(False, reason)

    def _tell(self, is_up: bool, reason: str) -> None:
        account = self._account
        account.tell(LinkChanged(account.clock.now_ns(), account.venue, "account", is_up, reason))


class BalancesPoll:
    """Reads the balances when an event may have changed them, and now and then, and tells of them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.service = Service(f"{account.venue}-{account.name}-balances", self._run, restart_after_s=1.0)

    def start(self) -> None:
        self.service.start()

    def stop(self) -> None:
        self.service.stop()
        self._account.touched.set()

    def join(self, timeout_s: float) -> None:
        self.service.join(timeout_s)

    def _run(self, service: Service) -> None:
        account, settings = self._account, self._account.settings
        touched = account.touched
        idle_s = 0.0
        while not service.stopping:
            service.beat()
            if not touched.wait(TURN_S):
                idle_s += TURN_S
                if idle_s < settings.balances_every_s:
                    continue
            touched.clear()
            idle_s = 0.0
            if not account.is_linked:
                continue  # the first news is of the link; after a loss everything is read anew
            if service.wait(0.0):
                return
            try:
                account.tell(account.balances_event())
            except ExchangeError as error:
                log.info("account=%s balances could not be read: %s", account.name, error.message)
            if service.wait(settings.balances_gap_s):
                return
