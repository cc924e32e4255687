"""The lean HTTP line against a scripted server: what had left, what came back, and what is never repeated."""

from __future__ import annotations

import base64
import datetime
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.errors import BadInput, ExchangeError, OutcomeUnknown, Rejected, Unavailable
from api.wire import LOOPBACK
from api.wire_http import HttpLine, HttpLines, Proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mbx-Used: 7\r\n\r\n{}"
SECRET = "signature=5ec2e7"


class Scripted:
    """A server whose connections each follow a script: what to answer to the n-th request on it.

    An answer is bytes; None hangs up without one; a callable is handed the socket.
    """

    def __init__(self) -> None:
        self.scripts: list[list[bytes | None | Callable[[socket.socket], None]]] = []
        self.requests: list[bytes] = []
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(made)
            script = self.scripts.pop(0) if self.scripts else [OK] * 100
            threading.Thread(target=self._serve, args=(made, script), daemon=True).start()

    def _serve(
        self, made: socket.socket, script: list[bytes | None | Callable[[socket.socket], None]]
    ) -> None:
        try:
            for answer in script:
                request = self._request(made)
                if not request:
                    return
                self.requests.append(request)
                if answer is None:
                    return
                if callable(answer):
                    answer(made)
                else:
                    made.sendall(answer)
        except OSError:
            pass
        finally:
            made.close()

    def _request(self, made: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = made.recv(65536)
            if not piece:
                return b""
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        size = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        while len(body) < size:
            body += made.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.close()
        for made in self._open:
            made.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


@pytest.fixture
def line(server: Scripted) -> Iterator[HttpLine]:
    made = HttpLine(server.url, LOOPBACK, headers={"X-MBX-APIKEY": "kkk"}, connect_s=1.0, answer_s=0.3)
    yield made
    made.close()


def read(line: HttpLine) -> bytes:
    return line.ask("GET", f"/v3/x?{SECRET}", is_write=False).body


def write(line: HttpLine) -> bytes:
    return line.ask("POST", "/v3/order", SECRET.encode(), is_write=True).body


def test_requests_over_one_kept_connection_carry_exactly_what_was_given(
    server: Scripted, line: HttpLine
) -> None:
    answer = line.ask("GET", "/v3/x?a=1", is_write=False)
    assert (answer.status, answer.body, answer.headers["x-mbx-used"]) == (200, b"{}", "7")
    write(line)
    line.ask("DELETE", "/v3/order?b=2", is_write=True)
    line.ask("PUT", "/v3/order", b"", is_write=True)
    assert server.accepted == 1
    starts = [request.split(b"\r\n")[0] for request in server.requests]
    assert starts == [
        b"GET /api/v3/x?a=1 HTTP/1.1",
        b"POST /api/v3/order HTTP/1.1",
        b"DELETE /api/v3/order?b=2 HTTP/1.1",
        b"PUT /api/v3/order HTTP/1.1",
    ]
    assert server.requests[1].endswith(b"\r\nContent-Length: 16\r\n\r\n" + SECRET.encode())
    assert all(b"\r\nX-MBX-APIKEY: kkk\r\n" in request for request in server.requests)
    assert server.requests[3].endswith(b"Content-Length: 0\r\n\r\n")


def test_an_answer_in_chunks_and_one_that_ends_with_the_connection_are_whole(
    server: Scripted, line: HttpLine
) -> None:
    def half_and_half(made: socket.socket) -> None:
        made.sendall(b"HTTP/1.1 500 X\r\n\r\nhalf")
        made.sendall(b" and half")
        made.close()

    server.scripts = [
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            half_and_half,
        ]
    ]
    assert read(line) == b"abcde"
    assert line.ask("GET", "/v3/x", is_write=False).status == 204
    last = line.ask("GET", "/v3/x", is_write=False)
    assert (last.status, last.body) == (500, b"half and half")


def test_a_read_over_a_connection_that_was_closed_meanwhile_is_asked_once_more(
    server: Scripted, line: HttpLine
) -> None:
    server.scripts = [[OK, None], [OK]]
    assert read(line) == b"{}"
    assert read(line) == b"{}"
    assert server.accepted == 2


def test_a_write_without_an_answer_is_unknown_and_never_repeated(server: Scripted, line: HttpLine) -> None:
    server.scripts = [[OK, None], [OK]]
    read(line)
    with pytest.raises(OutcomeUnknown):
        write(line)
    assert len(server.requests) == 2
    assert write(line) == b"{}"  # the next one takes a fresh connection


def test_a_write_over_a_connection_seen_to_be_closed_takes_a_fresh_one_first(
    server: Scripted, line: HttpLine
) -> None:
    closed = threading.Event()

    def answer_and_hang_up(made: socket.socket) -> None:
        made.sendall(OK)
        made.shutdown(socket.SHUT_RDWR)
        closed.set()

    server.scripts = [[answer_and_hang_up], [OK]]
    read(line)
    assert closed.wait(5)
    assert write(line) == b"{}"
    assert server.accepted == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        b"<html>who are you</html>\r\n\r\n",
        b"X" * 70_000,
        b"HTTP/1.1 200",
    ],
)
def test_an_answer_that_is_none_is_unknown_for_a_write_and_unavailable_for_a_read(
    server: Scripted, line: HttpLine, answer: bytes
) -> None:
    def hang_up(made: socket.socket) -> None:
        made.sendall(answer)
        made.close()

    server.scripts = [[hang_up], [hang_up], [OK]]
    with pytest.raises(Unavailable) as unavailable:
        read(line)
    with pytest.raises(OutcomeUnknown) as unknown:
        write(line)
    for error in (unavailable.value, unknown.value):
        assert "5ec2e7" not in str(error) and "/v3" not in str(error)
        assert error.__cause__ is None
    assert read(line) == b"{}"


def test_silence_ends_after_the_time_for_an_answer(server: Scripted, line: HttpLine) -> None:
    wait = threading.Event()
    server.scripts = [[lambda made: wait.wait(3) and None], [lambda made: wait.wait(3) and None]]  # type: ignore[list-item]
    with pytest.raises(OutcomeUnknown, match=r"0\.3 s"):
        write(line)
    with pytest.raises(Unavailable, match=r"0\.3 s"):
        read(line)
    wait.set()


def test_an_answer_that_trickles_ends_after_the_time_for_the_whole_of_it(
    server: Scripted, line: HttpLine
) -> None:
    stop = threading.Event()

    def trickle(made: socket.socket) -> None:
        made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not stop.wait(0.05):
            made.sendall(b".")

    server.scripts = [[trickle]]
    with pytest.raises(OutcomeUnknown, match="did not finish"):
        write(line)
    stop.set()


def test_nobody_listening_is_unavailable_also_for_a_write() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    line = HttpLine(f"http://127.0.0.1:{port}", LOOPBACK, connect_s=1.0)
    with pytest.raises(Unavailable):
        write(line)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/api",
        "http://api.binance.com/api",
        "https://user:pw@api.binance.com/api",
        "https://api.binance.com.evil.example/api",
        "ftp://api.binance.com/api",
    ],
)
def test_an_address_that_is_not_on_the_list_is_refused_before_any_socket(url: str) -> None:
    with pytest.raises(Rejected) as refused:
        HttpLine(url, frozenset({"api.binance.com"}))
    assert "pw" not in str(refused.value)


def test_lines_are_shared_by_threads_and_kept(server: Scripted) -> None:
    lines = HttpLines(server.url, LOOPBACK, kept=2)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(lines.ask("GET", "/x").body)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [b"{}"] * 8
    before = server.accepted
    assert lines.ask("GET", "/x").body == b"{}"
    assert server.accepted == before
    lines.close()
    lines.close()


# ------------------------------------------------------------------------------------ proxies


def test_a_proxy_is_parsed_and_its_password_shown_nowhere() -> None:
    proxy = Proxy.parse("http://me:p%40ss@10.0.0.1:3128")
    assert (proxy.host, proxy.port, proxy.credentials) == ("10.0.0.1", 3128, "me:p@ss")
    assert "p@ss" not in repr(proxy)
    for bad in ("socks5://x:1", "http://x", "x:1", "http://me:secret@x:port", ""):
        with pytest.raises(BadInput) as refused:
            Proxy.parse(bad)
        assert "secret" not in str(refused.value)


# ------------------------------------------------------------------------------------ TLS


def self_signed(directory: Path, name: str) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = directory / f"{name}.pem", directory / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


class TlsServer(Scripted):
    def __init__(self, cert: Path, key: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        super().__init__()

    def _serve(
        self, made: socket.socket, script: list[bytes | None | Callable[[socket.socket], None]]
    ) -> None:
        try:
            super()._serve(self._context.wrap_socket(made, server_side=True), script)
        except OSError:
            made.close()


def test_tls_is_spoken_to_whom_the_certificate_names_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, good_key = self_signed(tmp_path, "localhost")
    other, other_key = self_signed(tmp_path, "elsewhere")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(good))
    server, liar = TlsServer(good, good_key), TlsServer(other, other_key)
    try:
        line = HttpLine(f"https://localhost:{server.port}", LOOPBACK, answer_s=2.0)
        assert read(line) == b"{}"
        assert write(line) == b"{}"  # over the same connection, session tickets or not
        assert (line.opened, len(server.requests)) == (1, 2)
        line.close()
        with pytest.raises(Unavailable):
            write(HttpLine(f"https://localhost:{liar.port}", LOOPBACK, answer_s=2.0))
        assert liar.requests == []
    finally:
        server.close()
        liar.close()


def test_a_proxy_tunnels_and_tls_is_spoken_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = self_signed(tmp_path, "venue.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(cert))
    venue, proxy = TlsServer(cert, key), Scripted()

    def tunnel(made: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", venue.port))
        made.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def pipe(a: socket.socket, b: socket.socket) -> None:
            try:
                while piece := a.recv(65536):
                    b.sendall(piece)
            except OSError:
                pass

        threading.Thread(target=pipe, args=(far, made), daemon=True).start()
        pipe(made, far)
        far.close()

    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    proxy.scripts = [[tunnel], [refusal]]
    through = Proxy.parse(f"http://me:pw@127.0.0.1:{proxy.port}")
    try:
        line = HttpLine("https://venue.example", frozenset({"venue.example"}), answer_s=2.0, proxy=through)
        assert read(line) == b"{}"
        line.close()
        asked = proxy.requests[0].decode()
        assert asked.startswith("CONNECT venue.example:443 HTTP/1.1\r\n")
        assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:pw').decode()}" in asked
        with pytest.raises(ExchangeError) as refused:
            line.ask("POST", "/x", b"y", is_write=True)
        assert isinstance(refused.value, Unavailable) and "pw" not in str(refused.value)
    finally:
        venue.close()
        proxy.close()
