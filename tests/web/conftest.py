"""A whole browser face over a fake desk, on a free loopback port, spoken to over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from api.runtime import Clock, Service
from quote.bus import Bus, BusDown, InProcessBus
from tests.fakes import FakeBus, FakeDesk
from tests.web.face import CONSOLE, TOKEN, Face, Serve, until
from web.app import create_app
from web.serve import run_server
from web.settings import WebSettings


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts faces; ends them all."""
    running: list[tuple[Face, Service, threading.Event, Bus | FakeBus]] = []

    def start(*, bus: FakeBus | None = None, **settings: Any) -> Face:
        values: dict[str, Any] = {
            "login_token": TOKEN,
            "console_token": CONSOLE,
            "port": 0,
            "rate_hz": 20.0,
            **settings,
        }
        told = WebSettings(**values)
        used: Any = bus if bus is not None else InProcessBus()
        desk = FakeDesk(used, now_ns=Clock().now_ns)
        app, _ = create_app(desk, used, told)
        stop = threading.Event()
        ports: list[int] = []
        tls = (told.tls_cert, told.tls_key) if told.tls_cert and told.tls_key else None
        server = Service(
            "server",
            lambda service: run_server(app, told.host, 0, told.threads, ports.append, stop, tls=tls),
        ).start()
        until(lambda: ports or server.crashed, "the server")
        assert server.crashed is None
        http = requests.Session()
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        scheme = "https" if tls else "http"
        face = Face(app, desk, f"{scheme}://127.0.0.1:{ports[0]}", ports[0], told, http)
        face.keep(http)
        running.append((face, server, stop, used))
        return face

    yield start
    for face, server, stop, bus in running:
        face.close()
        stop.set()
        assert server.join(10.0), "the server did not end"
        assert server.crashed is None
        if isinstance(bus, InProcessBus):
            bus.close()


@pytest.fixture
def face(serve: Serve) -> Face:
    return serve()


@pytest.fixture
def cut_bus() -> FakeBus:
    """A bus that can be lost."""
    return FakeBus(now_ns=Clock().now_ns, down=BusDown)
