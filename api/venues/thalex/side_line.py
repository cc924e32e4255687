"""A second connection to Thalex, logged in, for calls while the session is not there: before `connect`, and
while the session's connection is lost.

Hides: opening, logging in, waiting for one answer. Must not know: orders, budgets, codes. Called by
`account`, from any thread; one call at a time. The REST interface would do for most of this, but how a key
is shown to it is not documented, so the WebSocket is used, which is.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable

import msgspec

from api.errors import ExchangeError, OutcomeUnknown, Unavailable
from api.venues.thalex import requests as ask
from api.venues.thalex.errors import error_of
from api.venues.thalex.messages import UNREADABLE, Error
from api.wire_http import Proxy
from api.wire_ws import SocketLine

IDLE_S = 15.0  # a connection unused for longer is opened anew


class _Head(msgspec.Struct, gc=False):
    id: int | None = None
    error: Error | None = None


_decode_head = msgspec.json.Decoder(_Head, strict=False).decode


class SideLine:
    """See the module docstring. `login`: makes a fresh login request."""

    def __init__(
        self,
        url: str,
        hosts: frozenset[str],
        login: Callable[[], ask.Request],
        *,
        connect_s: float,
        proxy: Proxy | None = None,
    ) -> None:
        self._url = url
        self._hosts = hosts
        self._login = login
        self._connect_s = connect_s
        self._proxy = proxy
        self._line: SocketLine | None = None
        self._used_at = 0.0
        self._number = 0
        self._lock = threading.Lock()

    def call(self, request: ask.Request, wait_s: float) -> bytes:
        """The whole answer frame.

        Raises:
            Unavailable: nothing was sent, or a read got no answer. OutcomeUnknown: a write got none.
            Another ExchangeError: the login was refused.
        """
        with self._lock:
            line = self._open()
            try:
                raw, _ = self._exchange(line, request, wait_s)
            except ExchangeError:
                self._drop()
                raise
            self._used_at = time.monotonic()
            return raw

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _open(self) -> SocketLine:
        line = self._line
        if line is not None and time.monotonic() - self._used_at < IDLE_S:
            try:
                line.read()
                return line
            except Unavailable:
                pass  # it was closed meanwhile, before anything was asked: a fresh one
        self._drop()
        login = self._login()
        line = SocketLine(self._url, self._hosts, connect_s=self._connect_s, proxy=self._proxy)
        self._line = line
        try:
            _, head = self._exchange(line, login, self._connect_s)
        except ExchangeError:
            self._drop()
            raise
        if head.error is not None:
            self._drop()
            raise error_of(200, head.error.code, head.error.message, is_write=False)
        return line

    def _exchange(self, line: SocketLine, request: ask.Request, wait_s: float) -> tuple[bytes, _Head]:
        self._number += 1
        line.send_text(ask.over_socket(request, self._number))
        until = time.monotonic() + wait_s
        poll = select.poll()
        try:
            while True:
                line.flush()
                for raw in line.read():
                    head = _decode_head(raw)
                    if head.id == self._number:
                        return raw, head
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise Unavailable(f"{line.host} did not answer within {wait_s:g} s")
                poll.register(line, select.POLLIN | (select.POLLOUT if line.wants_to_write else 0))
                poll.poll(left_s * 1000)
        except Unavailable as error:
            if request.is_write:
                raise OutcomeUnknown(error.message) from None
            raise
        except UNREADABLE:
            what = f"{line.host} answered in words that we cannot read"
            raise (OutcomeUnknown(what) if request.is_write else Unavailable(what)) from None
