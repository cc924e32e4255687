"""The socket on which orders leave, against a hand-driven server."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Rejected, Unavailable
from api.wire import LOOPBACK
from api.wire_ws import SocketLine, Waker, frame, wait
from tests.api.test_wire_http import self_signed

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(head: bytes) -> bytes:
    key = next(
        line.split(b":", 1)[1].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def upgrade(head: bytes) -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(head) + b"\r\n\r\n"
    )


def served(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """One frame as a server sends it."""
    size = len(payload)
    head = bytes(((0x80 if is_last else 0) | opcode,))
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 65536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


def unmasked(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each client frame; fails on one without a mask."""
    found = []
    while data:
        assert data[1] & 0x80
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        mask, body = data[at : at + 4], data[at + 4 : at + 4 + size]
        found.append((data[0] & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(body))))
        data = data[at + 4 + size :]
    return found


class Pair:
    """A line of ours and the server's end of it."""

    def __init__(self, answer: Callable[[bytes], bytes] = upgrade) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws-api/v3"
        self._answer = answer
        self.head = b""
        self.waker = Waker()
        self.far: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        try:
            self.line = SocketLine(self.url, LOOPBACK, connect_s=1.0)
        except Exception:
            self.close()
            raise
        self._thread.join(5)

    def _accept(self) -> None:
        self.far, _ = self._listener.accept()
        while b"\r\n\r\n" not in self.head:
            self.head += self.far.recv(4096)
        self.far.sendall(self._answer(self.head))

    def send(self, data: bytes) -> None:
        assert self.far is not None
        self.far.sendall(data)

    def heard(self, count: int) -> list[bytes]:
        """The next `count` messages of ours."""
        found: list[bytes] = []
        end = time.monotonic() + 5
        while len(found) < count and time.monotonic() < end:
            wait([self.line], self.waker, 0.05)
            found += self.line.read()
        return found

    def close(self) -> None:
        if hasattr(self, "line"):
            self.line.close()
        if self.far is not None:
            self.far.close()
        self._listener.close()
        self.waker.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@given(st.integers(0, 70_000))
def test_a_frame_of_any_size_is_masked_and_means_its_payload(size: int) -> None:
    payload = (b"0123456789" * 7_000)[:size]
    assert unmasked(frame(1, payload)) == [(1, payload)]


def test_text_goes_both_ways(pair: Pair) -> None:
    assert pair.far is not None
    assert pair.head.startswith(b"GET /ws-api/v3 HTTP/1.1\r\nHost: 127.0.0.1:")
    pair.line.send_text(b'{"id":1}')
    assert unmasked(pair.far.recv(1024)) == [(1, b'{"id":1}')]
    pair.send(served(1, b"a") + served(1, b"b" * 300) + served(1, b"c" * 70_000))
    assert pair.heard(3) == [b"a", b"b" * 300, b"c" * 70_000]
    assert pair.line.read() == []


def test_messages_in_pieces_and_torn_frames_come_out_whole(pair: Pair) -> None:
    whole = (
        served(1, b"he", is_last=False) + served(9, b"?") + served(0, b"ll", is_last=False) + served(0, b"o")
    )
    for n in range(len(whole)):
        pair.send(whole[n : n + 1])
        wait([pair.line], pair.waker, 0.2)
        found = pair.line.read()
        assert found == ([b"hello"] if n == len(whole) - 1 else [])
    assert pair.far is not None
    assert unmasked(pair.far.recv(1024)) == [(0xA, b"?")]


def test_what_came_with_the_handshake_is_not_lost() -> None:
    pair = Pair(lambda head: upgrade(head) + served(1, b"early"))
    assert pair.line.read() == [b"early"]
    pair.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda head: b"HTTP/1.1 403 Forbidden\r\n\r\n",
        lambda head: b"<html>",
        lambda head: b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        lambda head: b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n",
        lambda head: b"X" * 70_000,
    ],
)
def test_a_handshake_that_is_none_is_unavailable(answer: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unavailable):
        Pair(answer)


def test_an_address_that_is_not_on_the_list_is_refused() -> None:
    for url in ("wss://evil.example/ws", "ws://api.binance.com/ws", "http://127.0.0.1/ws"):
        with pytest.raises(Rejected):
            SocketLine(url, frozenset({"api.binance.com", "127.0.0.1"}))


def test_what_came_before_the_end_is_heard_and_then_the_end(pair: Pair) -> None:
    pair.send(served(1, b"last words") + served(8, b"\x03\xe8"))
    assert pair.heard(1) == [b"last words"]
    with pytest.raises(Unavailable, match="closed"):
        pair.line.read()
    with pytest.raises(Unavailable, match="closed"):
        pair.line.read()


@pytest.mark.parametrize("bad", [b"\x81\x85abcdhello", b"\xf1\x01x", b"\x83\x01x", b"\x81\x7f" + b"\xff" * 8])
def test_a_frame_that_breaks_the_protocol_ends_the_connection(pair: Pair, bad: bytes) -> None:
    pair.send(bad)
    wait([pair.line], pair.waker, 1.0)
    with pytest.raises(Unavailable, match="breaks the protocol"):
        pair.line.read()


def test_silence_is_asked_about_and_then_taken_for_a_loss(pair: Pair) -> None:
    assert pair.far is not None
    end = time.monotonic() + 5
    with pytest.raises(Unavailable, match="silent"):
        while time.monotonic() < end:
            pair.line.watch(0.2)
            time.sleep(0.01)
    assert unmasked(pair.far.recv(1024)) == [(0x9, b"")]  # once


def test_a_pong_is_a_sign_of_life(pair: Pair) -> None:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pair.line.watch(0.2)
        pair.send(served(0xA, b""))
        wait([pair.line], pair.waker, 0.05)
        assert pair.line.read() == []


def test_a_server_that_does_not_read_is_given_up_without_waiting(pair: Pair) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not read"):
        for _ in range(10_000):
            pair.line.send_text(b"x" * 10_000)
    assert pair.line.wants_to_write
    assert time.monotonic() - began < 3


def test_what_the_network_did_not_take_follows_in_order(pair: Pair) -> None:
    assert pair.far is not None
    sent = 0
    while not pair.line.wants_to_write:
        pair.line.send_text(b"%09d" % sent * 1000)
        sent += 1
    pair.far.settimeout(0.2)
    data = b""
    end = time.monotonic() + 10
    is_quiet = False
    while not is_quiet and time.monotonic() < end:
        pair.line.flush()
        try:
            data += pair.far.recv(1 << 20)
        except TimeoutError:
            is_quiet = not pair.line.wants_to_write
    assert [payload[:9] for _, payload in unmasked(data)] == [b"%09d" % n for n in range(sent)]


def test_a_waker_ends_a_wait_from_another_thread_and_costs_nothing_else(pair: Pair) -> None:
    woken = Waker()
    woken.wake()  # nobody waits: nothing is written
    woken.arm()
    threading.Timer(0.05, woken.wake).start()
    began = time.monotonic()
    wait([pair.line], woken, 5.0)
    assert time.monotonic() - began < 2
    woken.clear()
    woken.arm()
    began = time.monotonic()
    wait([pair.line], woken, 0.1)
    assert 0.05 < time.monotonic() - began < 2
    woken.close()


def test_closing_says_goodbye_and_is_idempotent(pair: Pair) -> None:
    assert pair.far is not None
    pair.line.close()
    pair.line.close()
    assert unmasked(pair.far.recv(1024)) == [(8, b"\x03\xe8")]
    assert pair.far.recv(1024) == b""


def test_over_tls_nothing_is_left_unread_and_nothing_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = self_signed(tmp_path, "localhost")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    far: list[ssl.SSLSocket] = []

    def accept() -> None:
        far.append(context.wrap_socket(listener.accept()[0], server_side=True))
        head = b""
        while b"\r\n\r\n" not in head:
            head += far[0].recv(4096)
        far[0].sendall(upgrade(head))

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    line = SocketLine(f"wss://localhost:{listener.getsockname()[1]}/x", LOOPBACK, connect_s=2.0)
    thread.join(5)
    woken = Waker()
    try:
        assert line.read() == []
        line.send_text(b"hello")
        assert unmasked(far[0].recv(1024)) == [(1, b"hello")]
        far[0].sendall(b"".join(served(1, b"%06d" % n * 100) for n in range(500)))  # many TLS records
        found: list[bytes] = []
        end = time.monotonic() + 5
        while len(found) < 500 and time.monotonic() < end:
            wait([line], woken, 0.5)
            found += line.read()
        assert [message[:6] for message in found] == [b"%06d" % n for n in range(500)]
        far[0].close()
        wait([line], woken, 1.0)
        with pytest.raises(Unavailable):
            line.read()
    finally:
        line.close()
        woken.close()
        for made in far:
            made.close()
        listener.close()
