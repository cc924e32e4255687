"""Backpack's signed requests over the lean HTTP connection.

Hides: that headers differ from request to request here, and that bodies are JSON. Must not know: what is
signed. Called by `login` (reads) and `orders` (writes). What the errors promise is `api.wire_http`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

from api.wire import ANSWER_S, CONNECT_S, Answer
from api.wire_http import HttpLine, Proxy


class SignedLine(HttpLine):
    """One kept connection whose requests carry headers of their own. For one thread at a time."""

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(base, hosts, connect_s=connect_s, answer_s=answer_s, proxy=proxy)
        self._common = self._plain[: -len(b"\r\n")]

    def ask_signed(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, is_write: bool
    ) -> Answer:
        """As `ask`, with these headers, and a body that is JSON."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        self._plain = b"%b%b\r\n" % (self._common, extra)
        self._form = b"%b%bContent-Type: application/json\r\nContent-Length: " % (self._common, extra)
        return self.ask(method, target, body, is_write=is_write)


class SignedLines:
    """Several kept connections, for reads from any thread: each call takes a free one."""

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
        proxy: Proxy | None = None,
        kept: int = 3,
    ) -> None:
        self._make = partial(SignedLine, base, hosts, connect_s=connect_s, answer_s=answer_s, proxy=proxy)
        self._kept = kept
        self._idle: list[SignedLine] = []
        self._lock = threading.Lock()

    def get(self, target: str, headers: Mapping[str, str]) -> Answer:
        """A read. Raises Unavailable, Rejected."""
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or self._make()
        try:
            return line.ask_signed("GET", target, headers, is_write=False)
        finally:
            with self._lock:
                is_spare = len(self._idle) >= self._kept
                if not is_spare:
                    self._idle.append(line)
            if is_spare:
                line.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()
