"""The outermost layer of the browser face: what holds for every request, whoever answers it.

Hides: that Flask, Socket.IO and static files are three programs behind one door. Every request passes
here: the Host header (DNS rebinding), foreign origins, forwarded headers (dropped: no proxy is trusted),
the number of requests worked on at once, the security headers of every answer, and a crash of last
resort. Must not know what any route does. Called by the server as the WSGI application; built by
`web.app`.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .auth import Auth
from .problems import MEDIA_TYPE, Problem, body_of
from .settings import REST_SLOTS, SOCKET_SLACK, WebSettings

log = logging.getLogger("makerdeck.web")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Wsgi = Callable[[Environ, StartResponse], Iterable[bytes]]

SOCKET_PATH = "/socket.io"
KILL_PATH = "/api/kill"
WIRE = "makerdeck.wire"

QUIET_S = 100  # a viewer that says nothing for so long, not even an answer to our ping, is gone
SEND_S = 10  # a viewer that takes nothing for so long is dropped

_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_")


class Wire:
    """The TCP connection of one WebSocket viewer, shared by its reader, its writer and the pusher.

    Whole frames only: a frame that the system took in part is finished before anything else is sent.
    `offer` never waits, so one slow viewer does not hold up the others.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._rest = b""
        self._can_offer = not isinstance(sock, ssl.SSLSocket)
        for option, seconds in ((socket.SO_RCVTIMEO, QUIET_S), (socket.SO_SNDTIMEO, SEND_S)):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))

    @property
    def can_offer(self) -> bool:
        return self._can_offer

    def send(self, frame: bytes) -> int:
        """Send all of it, waiting at most SEND_S for room.

        Raises BrokenPipeError when the viewer takes nothing or is gone: of all errors of a socket the one
        that the WebSocket library expects when it says goodbye.
        """
        with self._lock:
            try:
                if self._rest:
                    rest, self._rest = self._rest, b""
                    self._sock.sendall(rest)
                self._sock.sendall(frame)
            except OSError as error:
                self.cut()
                raise BrokenPipeError(str(error)) from None
        return len(frame)

    def offer(self, frame: bytes) -> bool:
        """Send it if that takes no waiting; False when the viewer is behind, and nothing of it was sent.

        Raises OSError when the connection is gone.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._rest:
                sent = self._sock.send(self._rest, socket.MSG_DONTWAIT)
                self._rest = self._rest[sent:]
                if self._rest:
                    return False
            sent = self._sock.send(frame, socket.MSG_DONTWAIT)
            self._rest = frame[sent:]
            return True
        except BlockingIOError:
            return False
        finally:
            self._lock.release()

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def cut(self) -> None:
        """End the connection from any thread; reader and writer notice."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was gone already

    def close(self) -> None:
        self.cut()
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()


class Gate:
    """WSGI around WSGI.

    Args:
        wires: where the wire of an upgrade is put under the Engine.IO session it belongs to.
    """

    def __init__(self, inner: Wsgi, auth: Auth, settings: WebSettings, wires: dict[str, Wire]) -> None:
        self._inner = inner
        self._auth = auth
        self._settings = settings
        self._wires = wires
        self._rest_slots = threading.BoundedSemaphore(REST_SLOTS)
        self._socket_slots = threading.BoundedSemaphore(settings.max_viewers + SOCKET_SLACK)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        for name in [n for n in environ if n.startswith(_FORWARDED)]:
            del environ[name]

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, self._with_headers(environ, headers), exc_info)

        if not self._auth.is_own_host(environ):
            return _refuse(start, Problem(400, "This desk is not served under that host name."))
        if "HTTP_ORIGIN" in environ and not self._auth.is_own_page(environ, default=True):
            return _refuse(start, Problem(403, "This does not come from the desk's own page."))
        path = str(environ.get("PATH_INFO", ""))
        if path == KILL_PATH:
            return self._inner(environ, start)
        is_socket = path.startswith(SOCKET_PATH)
        slots = self._socket_slots if is_socket else self._rest_slots
        if not slots.acquire(blocking=False):
            busy = f"This desk has {self._settings.max_viewers} viewers, its limit." if is_socket else "Busy."
            return _refuse(start, Problem(503, busy, headers={"Retry-After": "2"}))
        try:
            if is_socket:
                return self._socket(environ, start)
            return self._inner(environ, start)
        finally:
            slots.release()

    def _socket(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        is_upgrade = str(environ.get("HTTP_UPGRADE", "")).lower() == "websocket"
        if is_upgrade and "gunicorn.socket" in environ:
            # compressing each frame for each viewer costs more than sending it
            environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
            environ["gunicorn.socket"] = environ[WIRE] = wire = Wire(environ["gunicorn.socket"])
            sid = _query_value(str(environ.get("QUERY_STRING", "")), "sid")
            if sid:
                self._wires[sid] = wire
        try:
            return self._inner(environ, start)
        except StopIteration:
            raise  # how a finished WebSocket leaves the server
        except Exception as error:  # a broken packet ends its sender and nothing else
            log.warning("socket=broken address=%s error=%s", environ.get("REMOTE_ADDR"), type(error).__name__)
            if is_upgrade:
                raise StopIteration from None
            return _refuse(start, Problem(400, "That is no Socket.IO packet."))

    def _with_headers(self, environ: Environ, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        there = {name.lower() for name, _ in headers}
        return headers + [(n, v) for n, v in self._security_headers(environ) if n.lower() not in there]

    def _security_headers(self, environ: Environ) -> list[tuple[str, str]]:
        found = [
            ("Content-Security-Policy", csp(str(environ.get("HTTP_HOST", "")), self._settings.is_tls)),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()"),
            ("Cache-Control", "no-store"),
        ]
        if self._settings.is_tls:
            found.append(("Strict-Transport-Security", "max-age=31536000"))
        return found


def csp(host: str, is_tls: bool, script_hashes: tuple[str, ...] = ()) -> str:
    """The content security policy: everything from here, and no inline script but those with these hashes."""
    # the host was checked to be a name of ours; the characters are checked so that it cannot add a directive
    safe = host if all(c.isalnum() or c in ".-:[]_" for c in host) else ""
    socket_url = f" {'wss' if is_tls else 'ws'}://{safe}" if safe else ""
    scripts = "".join(f" '{one}'" for one in script_hashes)
    return (
        f"default-src 'none'; script-src 'self'{scripts}; style-src 'self'; img-src 'self' data:; "
        f"font-src 'self'; connect-src 'self'{socket_url}; manifest-src 'self'; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _refuse(start: StartResponse, problem: Problem) -> list[bytes]:
    body = msgspec.json.encode(body_of(problem))
    names = {400: "400 Bad Request", 403: "403 Forbidden", 503: "503 Service Unavailable"}
    headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), *problem.headers.items()]
    start(names[problem.status], headers, sys.exc_info() if sys.exc_info()[0] else None)
    return [body]


def _query_value(query: str, name: str) -> str | None:
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return value
    return None
