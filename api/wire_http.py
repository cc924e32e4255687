"""The lean way to a venue over HTTP: one kept connection, requests built by hand, and an honest word about
what was sent.

Hides: sockets, TLS, proxies, HTTP/1.1 framing, timeouts. Must not know: what a request means, any venue's
codes, keys (a header value or a query may hold one; no message made here carries any of them). Called by
venue files: for orders on their order path, for signed reads through `HttpLines`. `requests` costs twenty
times the CPU for the same call (`python -m bench tick`).

What the errors promise. `Unavailable`: the venue did not get the whole request, so nothing happened; for a
read also: no whole answer came. `OutcomeUnknown`: a write left and no whole answer came. A write is never
repeated. A read is repeated once, on a fresh connection, when the kept one turned out to be closed. The
host is checked against the allow-list where the socket is opened; no redirect is followed.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from urllib.parse import unquote, urlsplit

from api.errors import BadInput, OutcomeUnknown, Unavailable
from api.wire import ANSWER_S, CONNECT_S, LOOPBACK, MAX_BODY, Answer, certificates, check_address

MAX_HEAD = 64 * 1024  # bytes of status line and headers
IDLE_S = 50.0  # a connection unused for longer is opened anew: servers close theirs after a minute or so


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that tunnels (CONNECT, RFC 9110 9.3.6). Credentials are not shown."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """From `http://[user:password@]host:port`.

        Raises:
            BadInput: another form; the text is not repeated, it may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadInput("proxy", "must be http://[user:password@]host:port") from None
        if parts.scheme != "http" or not parts.hostname or port is None:
            raise BadInput("proxy", "must be http://[user:password@]host:port")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.hostname, port, f"{user}:{password}" if user else "")


@lru_cache(maxsize=4)
def _tls(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)  # reading the authorities takes milliseconds


def open_socket(
    url: str,
    hosts: frozenset[str],
    schemes: tuple[str, str],
    *,
    connect_s: float,
    proxy: Proxy | None = None,
) -> socket.socket:
    """A connected socket to the host of `url`, with TLS when its scheme asks for it; Nagle off.

    Raises:
        Rejected: the address is not allowed (see `api.wire.check_address`).
        Unavailable: it cannot be reached, or its certificate is not good.
    """
    host = check_address(url, hosts, schemes)
    parts = urlsplit(url)
    is_tls = parts.scheme == schemes[0]
    port = parts.port or (443 if is_tls else 80)
    opened: socket.socket | None = None
    try:
        via = None if host in LOOPBACK else proxy
        target = (host, port) if via is None else (via.host, via.port)
        opened = socket.create_connection(target, timeout=connect_s)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if via is not None:
            _tunnel(opened, via, host, port, connect_s)
        if is_tls:
            opened = _tls(certificates()).wrap_socket(opened, server_hostname=host)
        return opened
    except (OSError, ValueError) as error:
        if opened is not None:
            opened.close()
        raise Unavailable(f"{host} could not be reached ({type(error).__name__})") from None


def _tunnel(opened: socket.socket, proxy: Proxy, host: str, port: int, within_s: float) -> None:
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
    if proxy.credentials:
        head += f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}\r\n"
    opened.sendall(head.encode() + b"\r\n")
    answer = b""
    until = time.monotonic() + within_s
    while not answer.endswith(b"\r\n\r\n"):
        if len(answer) > MAX_HEAD or time.monotonic() > until:
            raise OSError("the proxy did not answer")
        piece = opened.recv(1)  # byte by byte: what follows is not the proxy's
        if not piece:
            raise OSError("the proxy hung up")
        answer += piece
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise OSError("the proxy refused")


class _Ended(Exception):
    """The connection did not bring a whole answer. `any_byte`: some of it came; `is_end`: it was closed in
    order.
    """

    def __init__(self, what: str, any_byte: bool, is_end: bool = False) -> None:
        super().__init__(what)
        self.any_byte = any_byte
        self.is_end = is_end


class HttpLine:
    """One kept connection to one host. For one thread at a time; `HttpLines` shares several.

    Args:
        base: `https://host[:port][/prefix]` (plain `http` on this machine only). headers: sent with every
        request.
        answer_s: for a whole answer, from the moment the request has left.
    """

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
        idle_s: float = IDLE_S,
        proxy: Proxy | None = None,
    ) -> None:
        self.host = check_address(base, hosts, ("https", "http"))
        self.opened = 0
        self._base = base
        self._hosts = hosts
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._idle_s = idle_s
        self._proxy = proxy
        parts = urlsplit(base)
        self._prefix = parts.path.rstrip("/")
        lines = {"Host": parts.netloc, "User-Agent": "makerdeck", "Accept": "application/json"}
        lines.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._plain = f" HTTP/1.1\r\n{head}\r\n".encode()
        self._form = (
            f" HTTP/1.1\r\n{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
        ).encode()
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self._rest = b""

    def warm(self) -> None:
        """Connect now, if not connected. Raises Unavailable or Rejected."""
        if self._socket is None:
            self._open()

    def ask(self, method: str, target: str, body: bytes = b"", *, is_write: bool) -> Answer:
        """Send one request and wait for its whole answer, whatever its status but a redirect.

        Args:
            target: path and query below the base, percent-encoded.
            body: a form, percent-encoded; sent with its length when given or when the method is POST or PUT.
            is_write: it may change something at the venue: never sent twice.

        Raises:
            Unavailable, OutcomeUnknown: see the module docstring. Rejected: the address is not allowed.
        """
        start = f"{method} {self._prefix}{target}".encode()
        if body or method in ("POST", "PUT"):
            request = b"%b%b%d\r\n\r\n%b" % (start, self._form, len(body), body)
        else:
            request = start + self._plain
        is_kept = self._keep()
        try:
            return self._exchange(request, is_write)
        except _Ended as ended:
            self.close()
            if is_write:
                raise OutcomeUnknown(f"{self.host} {ended}; the request had left") from None
            if not is_kept or ended.any_byte:
                raise Unavailable(f"{self.host} {ended}") from None
        self._open()  # a read over a connection that had been closed meanwhile: once more
        try:
            return self._exchange(request, is_write)
        except _Ended as ended:
            self.close()
            raise Unavailable(f"{self.host} {ended}") from None

    def close(self) -> None:
        """Idempotent."""
        opened, self._socket = self._socket, None
        self._rest = b""
        if opened is not None:
            opened.close()

    def _open(self) -> None:
        self.close()
        self._socket = open_socket(
            self._base, self._hosts, ("https", "http"), connect_s=self._connect_s, proxy=self._proxy
        )
        self.opened += 1
        self._used_at = time.monotonic()

    def _keep(self) -> bool:
        """True when the kept connection still looks good; else a fresh one is opened. A closed one is seen
        before the request leaves, which is what keeps most lost writes from happening.
        """
        opened = self._socket
        if opened is not None and time.monotonic() - self._used_at < self._idle_s and not self._rest:
            poll = select.poll()
            poll.register(opened, select.POLLIN)
            if not poll.poll(0) or self._is_quiet(opened):
                return True
        self._open()
        return False

    def _is_quiet(self, opened: socket.socket) -> bool:
        """Readable without a request: the end of it, or (TLS 1.3) only a session ticket."""
        if not isinstance(opened, ssl.SSLSocket):
            return False
        opened.settimeout(0.0)
        try:
            opened.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            return False
        return False

    def _exchange(self, request: bytes, is_write: bool) -> Answer:
        opened = self._socket
        assert opened is not None
        opened.settimeout(self._answer_s)
        sent = 0
        try:
            while sent < len(request):
                sent += opened.send(request[sent:] if sent else request)
        except OSError as error:
            self.close()
            what = f"{self.host} did not take the request ({type(error).__name__})"
            if is_write and (sent or isinstance(error, TimeoutError)):
                raise OutcomeUnknown(f"{what}, of which a part had left") from None
            raise Unavailable(what) from None
        answer = self._read(opened, time.monotonic() + self._answer_s)
        self._used_at = time.monotonic()
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        if 300 <= answer.status < 400 and answer.status != 304:
            self.close()
            raise _Ended(f"points elsewhere (status {answer.status}); not followed", True)
        return answer

    def _read(self, opened: socket.socket, deadline: float) -> Answer:
        data = self._rest
        self._rest = b""
        any_byte = False

        def more(data: bytes) -> bytes:
            nonlocal any_byte
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise _Ended(f"did not finish its answer within {self._answer_s:g} s", any_byte)
            try:
                opened.settimeout(left_s)
                piece = opened.recv(65536)
            except TimeoutError:
                what = "did not finish its answer" if any_byte else "did not answer"
                raise _Ended(f"{what} within {self._answer_s:g} s", True) from None
            except OSError as error:
                raise _Ended(f"ended the connection ({type(error).__name__})", any_byte) from None
            if not piece:
                raise _Ended("ended the connection before its answer was whole", any_byte, True)
            any_byte = True
            return data + piece if data else piece

        while True:
            end = data.find(b"\r\n\r\n")
            while end < 0:
                if len(data) > MAX_HEAD:
                    raise _Ended("sent something that is no HTTP answer", True)
                data = more(data)
                end = data.find(b"\r\n\r\n")
            status, headers = self._head(data[:end])
            data = data[end + 4 :]
            if status >= 200:
                break  # 1xx are notices; the answer follows
        if status in (204, 304):
            self._rest = data
            return Answer(status, headers, b"")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body, self._rest = self._chunks(data, more)
            return Answer(status, headers, body)
        length = headers.get("content-length")
        if length is None:
            return Answer(status, headers, self._until_end(data, more))
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
            raise _Ended("sent an answer of no sensible length", True)
        size = int(length)
        if len(data) < size:
            pieces, have = [data], len(data)
            while have < size:
                pieces.append(more(b""))
                have += len(pieces[-1])
            data = b"".join(pieces)
        self._rest = data[size:]
        return Answer(status, headers, data[:size])

    def _head(self, raw: bytes) -> tuple[int, dict[str, str]]:
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise _Ended("sent something that is no HTTP answer", True)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if words[0] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(words[1]), headers

    def _chunks(self, data: bytes, more: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
        body = bytearray()
        while True:
            while b"\r\n" not in data:
                data = more(data)
            line, _, data = data.partition(b"\r\n")
            try:
                size = int(line.split(b";")[0].strip(), 16)
            except ValueError:
                raise _Ended("sent chunks without a size", True) from None
            if len(body) + size > MAX_BODY:
                raise _Ended(f"answered with more than {MAX_BODY >> 20} MiB", True)
            while len(data) < size + 2:
                data = more(data)
            body += data[:size]
            data = data[size + 2 :]
            if size == 0:
                return bytes(body), data

    def _until_end(self, data: bytes, more: Callable[[bytes], bytes]) -> bytes:
        """Without a length the end of the connection ends the body (RFC 9112 6.3). Whether it is whole only
        its reader can tell: a cut JSON text does not parse.
        """
        pieces = [data]
        try:
            while sum(map(len, pieces)) <= MAX_BODY:
                pieces.append(more(b""))
        except _Ended as ended:
            self.close()
            if ended.is_end:
                return b"".join(pieces)
            raise
        raise _Ended(f"answered with more than {MAX_BODY >> 20} MiB", True)


class HttpLines:
    """Several kept connections to one host, for reads from any thread: each call takes a free one.

    Args:
        kept: how many idle connections are kept at most. The others are `HttpLine`'s.
    """

    def __init__(
        self,
        base: str,
        hosts: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
        proxy: Proxy | None = None,
        kept: int = 3,
    ) -> None:
        check_address(base, hosts, ("https", "http"))
        self._make = partial(
            HttpLine, base, hosts, headers=headers, connect_s=connect_s, answer_s=answer_s, proxy=proxy
        )
        self._kept = kept
        self._idle: list[HttpLine] = []
        self._lock = threading.Lock()

    def ask(self, method: str, target: str, body: bytes = b"", *, is_write: bool = False) -> Answer:
        """As `HttpLine.ask`, over any free connection."""
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or self._make()
        try:
            return line.ask(method, target, body, is_write=is_write)
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
