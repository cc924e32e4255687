"""The server: addresses, idle and slow connections, stopping, TLS."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

from api.errors import BadInput
from quote.bus import InProcessBus
from tests.fakes import FakeDesk
from tests.web.face import PASSWORD, TOKEN, Face, Serve
from web.app import create_app
from web.serve import run_server
from web.settings import WebSettings


def never(port: int) -> None:
    raise AssertionError(f"it served on {port}")


def test_a_port_in_use_is_refused_by_name(face: Face) -> None:
    bus = InProcessBus()
    app, _ = create_app(FakeDesk(), bus, WebSettings(login_token=TOKEN))
    with pytest.raises(BadInput, match=f"port {face.port} cannot be opened"):
        run_server(app, "127.0.0.1", face.port, 8, never, threading.Event())
    with pytest.raises(BadInput, match="not an address"):
        run_server(app, "no.such.host.invalid", 0, 8, never, threading.Event())
    with pytest.raises(BadInput, match="cannot be read"):
        missing = (Path("no-cert.pem"), Path("no-key.pem"))
        run_server(app, "127.0.0.1", 0, 8, never, threading.Event(), tls=missing)
    bus.close()


def test_connections_that_say_nothing_take_no_thread_from_those_that_speak(face: Face) -> None:
    idle = [socket.create_connection(("127.0.0.1", face.port)) for _ in range(2 * face.settings.threads)]
    try:
        began = time.monotonic()
        assert face.http.post(face.url + "/api/kill").status_code == 200
        assert time.monotonic() - began < 1.0
    finally:
        for one in idle:
            one.close()


def test_a_client_that_never_finishes_its_request_is_cut_off(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.serve.HEADER_S", 1)
    with socket.create_connection(("127.0.0.1", face.port), timeout=10) as slow:
        slow.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ")
        began = time.monotonic()
        while slow.recv(4096):
            pass
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://evil.example/api/health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_broken_requests_are_refused_and_hurt_nobody(face: Face, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", face.port), timeout=10) as client:
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        said = b""
        while part := client.recv(4096):
            said += part
    assert said == b"" or said.startswith(b"HTTP/1.1 4"), said[:200]
    assert b"Traceback" not in said
    assert face.http.get(face.url + "/api/health").status_code == 200


def test_it_ends_soon_with_viewers_and_idle_connections(serve: Serve) -> None:
    bus = InProcessBus()
    settings = WebSettings(login_token=TOKEN)
    app, _ = create_app(FakeDesk(bus), bus, settings)
    stop, ports = threading.Event(), list[int]()
    server = threading.Thread(
        target=run_server, args=(app, "127.0.0.1", 0, settings.threads, ports.append, stop)
    )
    server.start()
    while not ports:
        time.sleep(0.01)
    face = Face(app, FakeDesk(), f"http://127.0.0.1:{ports[0]}", ports[0], settings, requests.Session())
    for transport in ("websocket", "polling"):
        face.client(transports=[transport]).wait_for("connected")
    idle = socket.create_connection(("127.0.0.1", ports[0]))
    kept = face.session()
    kept.get(face.url + "/api/health")
    began = time.monotonic()
    stop.set()
    server.join(10)
    took_s = time.monotonic() - began
    idle.close()
    face.close()
    bus.close()
    assert not server.is_alive()
    assert took_s < 4.0


def test_tls_serves_https_with_a_host_cookie(serve: Serve, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    face = serve(tls_cert=cert, tls_key=key, password=PASSWORD)
    client = face.session()
    client.verify = str(cert)
    answer = client.post(face.url + "/api/session", json={"password": PASSWORD})
    assert answer.status_code == 200
    assert answer.headers["Set-Cookie"].startswith("__Host-makerdeck_main=")
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"]
    assert client.get(face.url + "/api/workers").status_code == 200
    assert "wss://" in client.get(face.url + "/").headers["Content-Security-Policy"]
    heard = face.secure_client(str(cert))
    heard.wait_for("snapshot", "worker/w1")
    face.desk.tick()
    heard.wait_for("change", "worker/w1")
    with pytest.raises((ssl.SSLError, OSError)):
        requests.get(face.url.replace("https", "http") + "/api/health", timeout=5)
