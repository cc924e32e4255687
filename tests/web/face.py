"""A running browser face and those who speak to it, for the tests of this folder."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import socketio
from flask import Flask

from tests.fakes import FakeDesk
from web.settings import WebSettings

TOKEN = "login-" + secrets.token_urlsafe(32)
CONSOLE = "console-" + secrets.token_urlsafe(32)
PASSWORD = "correct horse battery"


def until(holds: Callable[[], Any], what: str, *, within_s: float = 5.0) -> Any:
    """The first true value of `holds`; fails after `within_s` seconds."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        found = holds()
        if found:
            return found
        time.sleep(0.01)
    pytest.fail(f"waited {within_s} s for {what}")


@dataclass
class Face:
    """A running face. `http` speaks with the login token as bearer; `page()` is logged in by cookie."""

    app: Flask
    desk: FakeDesk
    url: str
    port: int
    settings: WebSettings
    http: requests.Session
    _open: list[Any] = field(default_factory=list)

    def session(self) -> requests.Session:
        """A client that is nobody yet."""
        found = requests.Session()
        found.trust_env = False
        self._open.append(found)
        return found

    def page(self) -> tuple[requests.Session, str]:
        """A client logged in by cookie, and its CSRF token."""
        found = self.session()
        answer = found.post(f"{self.url}/api/session", json={"token": TOKEN})
        assert answer.status_code == 200, answer.text
        return found, answer.json()["csrf"]

    def client(self, **connect: Any) -> Heard:
        """A connected Python Socket.IO client that keeps what it hears."""
        heard = Heard()
        self._open.append(heard)
        connect.setdefault("auth", {"token": TOKEN})
        heard.io.connect(self.url, **connect)
        return heard

    def secure_client(self, cert: str) -> Heard:
        """The same over TLS, trusting this certificate."""
        verified = requests.Session()
        verified.trust_env = False
        verified.verify = cert
        self.keep(verified)
        heard = Heard(http_session=verified)
        self.keep(heard)
        heard.io.connect(self.url, auth={"token": TOKEN})
        return heard

    def keep(self, one: Any) -> None:
        """Close it at the end."""
        self._open.append(one)

    def close(self) -> None:
        for one in self._open:
            one.close()


class Heard:
    """A Socket.IO client and its events, in order."""

    def __init__(self, **options: Any) -> None:
        self.io = socketio.Client(reconnection=False, **options)
        self.events: list[tuple[str, Any]] = []
        self.io.on("*", lambda event, *data: self.events.append((event, data[0] if data else None)))

    def of(self, event: str, topic: str | None = None) -> list[Any]:
        return [
            data
            for name, data in list(self.events)
            if name == event and (topic is None or (isinstance(data, dict) and data.get("topic") == topic))
        ]

    def wait_for(self, event: str, topic: str | None = None, *, count: int = 1) -> Any:
        """The newest of at least `count` such events."""
        until(lambda: len(self.of(event, topic)) >= count, f"{count} {event} {topic or ''}")
        return self.of(event, topic)[-1]

    def close(self) -> None:
        wires = [self.io.eio.ws]
        self.io.disconnect()
        self.io.shutdown()
        for wire in {*wires, self.io.eio.ws} - {None}:
            wire.shutdown()  # the library leaves it to the garbage when the server hangs up first


Serve = Callable[..., Face]
