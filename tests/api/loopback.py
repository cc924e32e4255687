"""A venue on this machine, for tests of the client side: plain sockets, nothing shared with what is tested.

`Venue` answers HTTP GETs from a table and speaks the WebSocket protocol by hand: the handshake of RFC 6455
section 4, unmasked frames to the client, masked ones from it.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def eventually(true: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until `true()` is; fail after `within_s`."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class Peer:
    """The server's end of one WebSocket. What the client sends is in `heard` as (opcode, payload)."""

    def __init__(self, link: socket.socket, path: str) -> None:
        self.link = link
        self.path = path
        self.heard: list[tuple[int, bytes]] = []
        self.is_open = True
        self._lock = threading.Lock()

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        size = len(payload)
        head = bytes([0x80 | opcode])
        if size < 126:
            head += bytes([size])
        elif size < 1 << 16:
            head += bytes([126]) + struct.pack(">H", size)
        else:
            head += bytes([127]) + struct.pack(">Q", size)
        with self._lock:
            try:
                self.link.sendall(head + payload)
            except OSError:
                self.is_open = False

    def send_raw(self, data: bytes) -> None:
        self.link.sendall(data)

    def cut(self) -> None:
        """End it without a word."""
        self.is_open = False
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.link.close()

    def read(self) -> None:
        stream = self.link.makefile("rb")
        try:
            while True:
                first, second = stream.read(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack(">H", stream.read(2))
                mask = stream.read(4)
                payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream.read(size)))
                self.heard.append((first & 0x0F, payload))
        except (OSError, ValueError):
            self.is_open = False


class Venue:
    """A server on a free port. `routes` maps a path without its query to a Reply or a function of it."""

    def __init__(self) -> None:
        self.routes: dict[str, Reply | Callable[[str], Reply]] = {}
        self.requests: list[tuple[float, str]] = []
        self.peers: list[Peer] = []
        self.on_peer: Callable[[Peer], None] = lambda peer: None
        self.refuse_upgrade: Reply | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = True
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def stream(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._open = False
        try:
            self._listener.shutdown(
                socket.SHUT_RDWR
            )  # a thread waits in accept: closing alone would not end that
        except OSError:
            pass
        self._listener.close()
        for link in self._links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            link.close()

    def __enter__(self) -> Venue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while self._open:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        try:
            self._speak(link)
        except (OSError, ValueError, IndexError):
            pass  # the client went away, as clients do

    def _speak(self, link: socket.socket) -> None:
        while True:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = link.recv(4096)
                if not piece:
                    return
                request += piece
            lines = request.split(b"\r\n")
            path = lines[0].split(b" ")[1].decode()
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
            self.requests.append((time.monotonic(), path))
            if headers.get(b"upgrade") == b"websocket" and self.refuse_upgrade is None:
                key = next(
                    line.split(b": ")[1] for line in lines if line.lower().startswith(b"sec-websocket-key")
                )
                accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
                link.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                peer = Peer(link, path)
                self.peers.append(peer)
                threading.Thread(target=self.on_peer, args=(peer,), daemon=True).start()
                peer.read()
                return
            if headers.get(b"upgrade") == b"websocket" and self.refuse_upgrade is not None:
                reply = self.refuse_upgrade
            else:
                route = self.routes.get(path.partition("?")[0], Reply(404, b"<html>no</html>"))
                reply = route(path.partition("?")[2]) if callable(route) else route
            time.sleep(reply.delay_s)
            extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            link.sendall(
                f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(reply.body)}\r\n{extra}\r\n".encode()
                + reply.body
            )
