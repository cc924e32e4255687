"""The production server in our own process: gunicorn's threaded worker, without its master, fork or
control socket.

Hides: gunicorn. Without the fork the face keeps the bus, threads and liveness pipe it was started with,
and can share a process with the desk where no Redis is to be had. Must not know what is served. Called by
`run.py`.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flask import Flask
from gunicorn import util
from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from api.errors import BadInput

from .app import LIVE
from .live import Live

log = logging.getLogger("makerdeck.server")

BACKLOG = 256
KEEPALIVE_S = 30
HEADER_S = 10  # between two pieces of a request; a client slower than that is cut off
GRACE_S = 2
LINGER_S = 0.5
CONNECTIONS_MAX = 2000
POLL_S = 0.2


class Stop(Protocol):
    """Anything that tells whether it is time to end; a `threading.Event` does."""

    def is_set(self) -> bool: ...


def run_server(
    app: Flask,
    host: str,
    port: int,
    threads: int,
    ready: Callable[[int], None],
    stop: Stop,
    *,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve `app` until `stop` is set, in the calling thread; its pusher starts and stops with it.

    Args:
        threads: `WebSettings.threads`: more than the viewers, so that the kill route always has one.
        ready: called once with the port, when connections are accepted (`port` 0: any free one).
        tls: certificate and key file (PEM).

    Raises BadInput when the address cannot be bound or the certificate not be read.
    """
    config = _config(threads, tls)
    listener = _listener(host, port)
    live: Live = app.extensions[LIVE]
    try:
        worker = _Worker(app, listener, config, stop)
        live.start()
        worker.serve(lambda: ready(listener.getsockname()[1]), live.stop)
    finally:
        live.stop()
        listener.close()


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise BadInput("host", f"{host} is not an address of this machine: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BadInput("port", f"{host} port {port} cannot be opened: {error.strerror}") from None
    return listener


def _config(threads: int, tls: tuple[Path, Path] | None) -> Config:
    config = Config()
    config.set("threads", threads)
    config.set("worker_connections", CONNECTIONS_MAX + threads)
    config.set("keepalive", KEEPALIVE_S)
    config.set("graceful_timeout", GRACE_S)
    config.set("forwarded_allow_ips", "")  # no proxy is believed
    config.set("secure_scheme_headers", {})
    if tls is not None:
        for path in tls:
            if not os.access(path, os.R_OK):
                raise BadInput("tls", f"{path} cannot be read")
        config.set("certfile", str(tls[0]))
        config.set("keyfile", str(tls[1]))
    return config


class _App:
    """What the worker asks for its WSGI application."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def wsgi(self) -> Flask:
        return self._app


class _Log:
    """gunicorn's log, one line an event into ours, and no access log: paths are not worth a line each."""

    def access(self, *ignored: Any) -> None:
        pass

    def exception(self, message: Any, *args: Any) -> None:
        log.warning(str(message), *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(log, name)


class _Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """The threaded worker without the process around it."""

    def __init__(self, app: Flask, listener: socket.socket, config: Config, stop: Stop) -> None:
        super().__init__(0, os.getppid(), [listener], _App(app), 0, config, _Log())
        self._stop = stop

    def serve(self, ready: Callable[[], None], before_end: Callable[[], None]) -> None:
        """Accept and answer until it is time to stop.

        Args:
            before_end: ends the connections that would never end by themselves (the WebSockets).
        """
        self._before_end = before_end
        self.tpool = self.get_thread_pool()
        self.poller = selectors.DefaultSelector()
        self.method_queue.init()
        self.load_wsgi()
        self.booted = True
        ready()
        try:
            self.run()
        finally:
            for conn in self.pending_conns:
                util.close(conn.sock)
            self.tmp.close()

    def notify(self) -> None:
        """There is no master that wants to hear from us."""

    def is_parent_alive(self) -> bool:
        """The loop asks this once a round; here it means: go on?"""
        if not self._stop.is_set():
            return True
        self.alive = False
        self._before_end()
        return False

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, POLL_S))

    def enqueue_req(self, conn: Any) -> None:
        """A new connection that has said nothing yet waits in the poller, not in a thread: connections
        that are only held open must not take the threads of those that speak.
        """
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.close = partial(self._close, conn)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", HEADER_S, 0))
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + KEEPALIVE_S
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """Close a connection without holding up the loop that accepts the others: the linger that lets
        the last answer arrive is waited for in a thread.
        """
        if graceful:
            try:
                self.tpool.submit(util.close_graceful, conn.sock, timeout=LINGER_S)
                return
            except RuntimeError:
                pass  # the pool has ended: so do we, at once
        util.close(conn.sock)
