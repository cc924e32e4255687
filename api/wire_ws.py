"""A WebSocket for requests: one thread reads and writes it, and never waits for either.

Hides: the handshake, frames, masks, fragments, pings (RFC 6455), the bytes that a full socket buffer left
over. Must not know: what a message means. Called by the order path of a venue file, whose thread waits on
several of these and on its own queue with `wait`. For listening to a stream of market data there is
`api.wire.Stream`; this one is for a socket on which orders leave, where a thread that sits in a blocking
read could not send.

TLS objects must not be read and written by two threads at once: here one thread owns the socket, so none
does.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from api.errors import Unavailable
from api.wire import CONNECT_S
from api.wire_http import MAX_HEAD, Proxy, open_socket

MAX_MESSAGE = 16 << 20  # bytes of one message
MAX_UNSENT = 1 << 20  # bytes waiting for a venue that does not read
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole masked frame, as a client must send it (RFC 6455 5.3)."""
    size = len(payload)
    key = os.urandom(4)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    if not size:
        return head + key
    mask = (key * ((size >> 2) + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + key + masked.to_bytes(size, "big")


class SocketLine:
    """One open WebSocket, owned by one thread after it was made. Nothing here waits, but the constructor.

    Args:
        url: `wss://...` (plain `ws` on this machine only). headers: added to the handshake.

    Raises:
        Rejected: the address is not allowed.
        Unavailable: it could not be opened within `connect_s`.
    """

    def __init__(
        self,
        url: str,
        hosts: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        connect_s: float = CONNECT_S,
        proxy: Proxy | None = None,
    ) -> None:
        self._socket = open_socket(url, hosts, ("wss", "ws"), connect_s=connect_s, proxy=proxy)
        self.host = urlsplit(url).hostname or ""
        self.heard_at = time.monotonic()
        self._in = b""
        self._out = b""
        self._ended = ""
        self._parts: list[bytes] = []
        self._pinged_at: float | None = None
        try:
            self._shake(url, headers or {}, time.monotonic() + connect_s)
        except (OSError, ValueError) as error:
            self._socket.close()
            raise Unavailable(f"{self.host} did not open a WebSocket ({type(error).__name__})") from None
        except Unavailable:
            self._socket.close()
            raise
        self._socket.settimeout(0.0)

    def _shake(self, url: str, headers: Mapping[str, str], until: float) -> None:
        parts = urlsplit(url)
        key = base64.b64encode(os.urandom(16))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {
            "Host": parts.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13",
            "User-Agent": "makerdeck",
        }
        lines.update(headers)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            left_s = until - time.monotonic()
            if left_s <= 0 or len(answer) > MAX_HEAD:
                raise Unavailable(f"{self.host} did not answer the handshake")
            self._socket.settimeout(left_s)
            piece = self._socket.recv(4096)
            if not piece:
                raise Unavailable(f"{self.host} hung up during the handshake")
            answer += piece
        told, self._in = answer.split(b"\r\n\r\n", 1)
        first, *rest = told.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) < 2 or words[1] != "101":
            status = words[1] if len(words) > 1 and words[1].isdigit() else "unknown"
            raise Unavailable(f"{self.host} refused a WebSocket (status {status})")
        named = {line.partition(":")[0].strip().lower(): line.partition(":")[2].strip() for line in rest}
        wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        if named.get("sec-websocket-accept") != wanted:
            raise Unavailable(f"{self.host} answered the handshake wrongly")

    # ------------------------------------------------------------------ the owner's thread

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def send_text(self, payload: bytes) -> None:
        """Hand one text message to the network now; what does not fit into its buffer follows in `flush`.

        Raises:
            Unavailable: the connection had ended before a byte of this message left, or takes no more.
        """
        self._push(frame(_TEXT, payload))

    def flush(self) -> None:
        """Send what waits. Raises Unavailable when the connection has ended."""
        if self._out:
            out, self._out = self._out, b""
            self._push(out)

    def read(self) -> list[bytes]:
        """All messages that are here now, oldest first; pings are answered.

        Raises:
            Unavailable: the connection has ended, and nothing that came whole before its end is left to tell.
        """
        if self._ended:
            raise Unavailable(self._ended)
        messages: list[bytes] = []
        while True:
            try:
                piece = self._socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                return self._end(messages, f"{self.host} ended the connection ({type(error).__name__})")
            if not piece:
                return self._end(messages, f"{self.host} closed the connection")
            self.heard_at = time.monotonic()
            self._pinged_at = None
            self._in = self._in + piece if self._in else piece
            closed = self._unpack(messages)
            if closed:
                return self._end(messages, closed)
            if len(piece) < 65536 and not isinstance(self._socket, ssl.SSLSocket):
                break  # the buffer is empty; saves a call that would only say so
        if self._in and not messages:
            closed = self._unpack(messages)  # what came together with the handshake
            if closed:
                return self._end(messages, closed)
        return messages

    def watch(self, silence_s: float) -> None:
        """Ping after half of `silence_s` without a frame. Raises Unavailable after the whole of it."""
        now = time.monotonic()
        silent_s = now - self.heard_at
        if silent_s >= silence_s:
            raise Unavailable(f"{self.host} was silent for {silent_s:.0f} s")
        if silent_s >= silence_s / 2 and self._pinged_at is None:
            self._pinged_at = now
            self._push(frame(_PING, b""))

    def close(self) -> None:
        """Say goodbye if that is possible without waiting, and close. Idempotent."""
        if self._socket.fileno() < 0:
            return
        try:
            if not self._out:
                self._socket.send(frame(_CLOSE, b"\x03\xe8"))
        except OSError:
            pass  # it is gone already
        self._socket.close()

    # ------------------------------------------------------------------ inside

    def _end(self, messages: list[bytes], reason: str) -> list[bytes]:
        self._ended = reason
        if not messages:
            raise Unavailable(reason)
        return (
            messages  # what came whole before the end is still worth hearing; the next read tells of the end
        )

    def _push(self, data: bytes) -> None:
        if self._out:
            if len(self._out) + len(data) > MAX_UNSENT:
                raise Unavailable(f"{self.host} does not read what it is sent")
            self._out += data
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError as error:
            raise Unavailable(f"{self.host} ended the connection ({type(error).__name__})") from None
        if sent < len(data):
            self._out = data[sent:]

    def _unpack(self, messages: list[bytes]) -> str:
        """Whole messages out of what was received; a reason when the other side closes or breaks a rule."""
        data, at, have = self._in, 0, len(self._in)
        reason = ""
        while have - at >= 2 and not reason:
            first, second = data[at], data[at + 1]
            size, start = second & 0x7F, at + 2
            if size == 126:
                if have - at < 4:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                if have - at < 10:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if second & 0x80 or first & 0x70 or size > MAX_MESSAGE:
                reason = f"{self.host} sent a frame that breaks the protocol"
                break
            if have - start < size:
                break
            payload = data[start : start + size]
            at = start + size
            reason = self._take(first & 0x0F, bool(first & 0x80), payload, messages)
        self._in = data[at:] if at else data
        return reason

    def _take(self, opcode: int, is_last: bool, payload: bytes, messages: list[bytes]) -> str:
        if opcode in (_TEXT, _BINARY) and is_last:
            messages.append(payload)
        elif opcode in (_TEXT, _BINARY, _CONTINUED):
            if opcode != _CONTINUED:
                self._parts.clear()
            self._parts.append(payload)
            if sum(map(len, self._parts)) > MAX_MESSAGE:
                return f"{self.host} sent too long a message"
            if is_last:
                messages.append(b"".join(self._parts))
                self._parts.clear()
        elif opcode == _PING:
            self._push(frame(_PONG, payload))
        elif opcode == _CLOSE:
            return f"{self.host} closed the connection"
        elif opcode != _PONG:
            return f"{self.host} sent a frame that breaks the protocol"
        return ""


class Waker:
    """Wakes a thread that sits in `wait`. `wake` is for any thread and costs nothing while nobody waits."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._waits = False

    def fileno(self) -> int:
        return self._near.fileno()

    def wake(self) -> None:
        if self._waits:
            self._waits = False
            try:
                self._far.send(b"w")
            except OSError:
                pass  # full: it is awake already; closed: nobody waits any more

    def arm(self) -> None:
        """From now on `wake` reaches the waiting thread. Look at the queue once more after this."""
        self._waits = True

    def clear(self) -> None:
        if self._waits:
            self._waits = False
            return  # nobody called; a call that comes just now leaves a byte, which ends the next wait early
        try:
            self._near.recv(64)
        except OSError:
            pass

    def close(self) -> None:
        self._near.close()
        self._far.close()


def wait(lines: Sequence[SocketLine], waker: Waker, seconds: float) -> None:
    """Until one of `lines` can be read, or written where something waits, or `waker` is woken, or the time is
    over.
    """
    poll = select.poll()
    poll.register(waker, select.POLLIN)
    for line in lines:
        poll.register(line, select.POLLIN | (select.POLLOUT if line.wants_to_write else 0))
    poll.poll(max(0.0, seconds) * 1000)
