"""HTTP lines whose requests each carry headers of their own and JSON: OKX signs every request in its headers.

Hides: that `api.wire_http.HttpLine` was made for headers that never change. Must not know: keys (the headers
come in ready), what a request means. Called by `account` and `http_orders`. The promises about what was sent
are `HttpLine`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from api.wire import ANSWER_S, CONNECT_S, Answer
from api.wire_http import HttpLine, Proxy


class SignedLine(HttpLine):
    """One kept connection, for one thread at a time."""

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(base, hosts, headers=headers, connect_s=connect_s, answer_s=answer_s, proxy=proxy)
        lines = {"Host": urlsplit(base).netloc, "User-Agent": "makerdeck", "Accept": "application/json"}
        lines.update(headers or {})
        self._lead = " HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def ask_with(
        self, headers: Mapping[str, str], method: str, target: str, body: bytes = b"", *, is_write: bool
    ) -> Answer:
        """As `ask`, with these headers too; `body` is JSON."""
        own = self._lead + "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        own += "Content-Type: application/json\r\n"
        self._plain = f"{own}\r\n".encode()
        self._form = f"{own}Content-Length: ".encode()
        return self.ask(method, target, body, is_write=is_write)


class SignedLines:
    """Several kept connections, for reads from any thread. `kept`: how many idle ones at most."""

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        headers: Mapping[str, str],
        connect_s: float,
        answer_s: float,
        proxy: Proxy | None,
        kept: int = 3,
    ) -> None:
        self._make = partial(
            SignedLine, base, hosts, headers=headers, connect_s=connect_s, answer_s=answer_s, proxy=proxy
        )
        self._kept = kept
        self._idle: list[SignedLine] = []
        self._lock = threading.Lock()

    def ask_with(
        self,
        headers: Mapping[str, str],
        method: str,
        target: str,
        body: bytes = b"",
        *,
        is_write: bool = False,
    ) -> Answer:
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or self._make()
        try:
            return line.ask_with(headers, method, target, body, is_write=is_write)
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
