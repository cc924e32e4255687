"""The two ways to a venue: a small HTTP GET, and a WebSocket that stays connected.

Hides: `requests`, `websocket-client`, proxies, certificates, timeouts, pings, reconnecting and the planned
change of a connection that grows too old. Must not know: what the messages mean, any venue's codes (a venue
file turns an `Answer` into an error of the tree), trading. Called by venue files and `quote.feed`.

Rules for every address: its host is on the caller's allow-list, it is `https`/`wss` (plain only to this
machine itself), and no redirect is ever followed. No message made here carries a path or a query: they may be
signed.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import websocket
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies

from api.errors import ExchangeError, Rejected, Unavailable
from api.runtime import ClockLike, Service

log = logging.getLogger("makerdeck.wire")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_S = 5.0  # to reach a host
ANSWER_S = 10.0  # for a whole answer
MAX_BODY = 32 * 1024 * 1024  # bytes of one answer
TURN_S = 0.25  # longest a reader waits before it looks whether it shall stop
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0)  # between attempts to connect; far below 300 in 5 minutes
STEADY_S = 30.0  # a connection that lived this long starts the pauses anew
PING_OPCODES = (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG)


def check_address(url: str, hosts: frozenset[str], schemes: tuple[str, str]) -> str:
    """The host of `url` when we may speak to it.

    Args:
        hosts: the allow-list, lower case.
        schemes: (the encrypted one, the plain one); plain is for this machine only.

    Raises:
        Rejected: another host, scheme, or a user name in the address.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host not in hosts:
        raise Rejected(f"{host or 'an address without a host'} is not a host of this venue")
    if parts.username is not None or parts.password is not None:
        raise Rejected(f"the address of {host} carries a user name")
    if parts.scheme == schemes[0] or (parts.scheme == schemes[1] and host in LOOPBACK):
        return host
    raise Rejected(f"{host} is spoken to by {schemes[0]} only")


def certificates() -> str:
    """The file of certificate authorities: the one the environment names, else the one that comes with
    `requests`.
    """
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    return named or DEFAULT_CA_BUNDLE_PATH


# ----------------------------------------------------------------------------------------------- HTTP


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """Seconds of `Retry-After` (a number or a date, RFC 9110 10.2.3); None when absent or unreadable."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())


class Http:
    """GET requests to the hosts of one venue over a kept connection. For one thread."""

    def __init__(
        self, hosts: frozenset[str], *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
    ) -> None:
        self._hosts = hosts
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._session = requests.Session()
        self._session.trust_env = False  # no netrc; proxies are looked up below, once per host
        self._session.verify = certificates()
        self._session.headers["User-Agent"] = "makerdeck"
        self._proxies: dict[str, dict[str, str]] = {}

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """One answer of any status but a redirect.

        Raises:
            Rejected: the address is not allowed.
            Unavailable: no whole answer within the time limits, too large a one, or a redirect.
        """
        host = check_address(url, self._hosts, ("https", "http"))
        deadline = time.monotonic() + self._answer_s
        try:
            with self._session.get(
                url,
                headers=dict(headers or {}),
                timeout=(self._connect_s, self._answer_s),
                allow_redirects=False,
                stream=True,
                proxies=self._proxies_for(host, url),
            ) as reply:
                if 300 <= reply.status_code < 400 and reply.status_code != 304:
                    raise Unavailable(f"{host} points elsewhere (status {reply.status_code}); not followed")
                body = bytearray()
                for piece in reply.iter_content(1 << 16):
                    body += piece
                    if len(body) > MAX_BODY:
                        raise Unavailable(f"{host} answered with more than {MAX_BODY >> 20} MiB")
                    if time.monotonic() > deadline:
                        raise Unavailable(f"{host} did not finish its answer within {self._answer_s:g} s")
                names = {name.lower(): value for name, value in reply.headers.items()}
                return Answer(reply.status_code, names, bytes(body))
        except requests.Timeout:
            raise Unavailable(f"{host} did not answer within {self._answer_s:g} s") from None
        except requests.RequestException as error:
            raise Unavailable(f"{host} could not be reached ({_kind(error)})") from None

    def close(self) -> None:
        self._session.close()

    def _proxies_for(self, host: str, url: str) -> dict[str, str]:
        if host in LOOPBACK:
            return {}
        if host not in self._proxies:
            self._proxies[host] = {key: text for key, text in get_environ_proxies(url).items() if text}
        return self._proxies[host]


def _kind(error: BaseException) -> str:
    """The innermost cause by its class, as words: never its text, which may quote the address."""
    while error.__cause__ is not None or error.__context__ is not None:
        inner = error.__cause__ or error.__context__
        if inner is None or inner is error:
            break
        error = inner
    return type(error).__name__


# ----------------------------------------------------------------------------------------------- WebSocket


Heard = Callable[[int, bytes], None]
"""(receive time in UTC nanoseconds, the message)."""


class Link:
    """One open WebSocket. `next()` waits at most TURN_S."""

    def __init__(self, url: str, hosts: frozenset[str], *, connect_s: float = CONNECT_S) -> None:
        """Raises Unavailable when it cannot be opened, Rejected when the address is not allowed."""
        self.host = check_address(url, hosts, ("wss", "ws"))
        self._socket = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
        if url.startswith("wss:"):
            context = ssl.create_default_context(cafile=certificates())
            self._socket.sock_opt.sslopt = {"context": context}
        try:
            self._socket.connect(  # type: ignore[no-untyped-call]
                url,
                timeout=connect_s,
                redirect_limit=0,
                suppress_origin=True,
                header={"User-Agent": "makerdeck"},
            )
            self._socket.settimeout(TURN_S)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            self.close()
            raise Unavailable(f"{self.host} did not open its stream ({_kind(error)})") from None
        self.heard_at = time.monotonic()
        self._pinged = False

    def next(self) -> bytes | None:
        """The next message, or None when there was none within TURN_S (pings are answered meanwhile).

        Raises:
            Unavailable: the connection has ended.
        """
        try:
            opcode, frame = self._socket.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise Unavailable(f"{self.host} ended the stream ({_kind(error)})") from None
        self.heard_at = time.monotonic()
        self._pinged = False
        if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            data = frame.data
            return data if isinstance(data, bytes) else bytes(data)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Unavailable(f"{self.host} closed the stream")
        return None

    def watch(self, silence_s: float) -> None:
        """Ask for a sign of life after half of `silence_s` without any frame, give up after the whole.

        Raises:
            Unavailable: silent for too long, or the connection has ended.
        """
        silent_s = time.monotonic() - self.heard_at
        if silent_s >= silence_s:
            raise Unavailable(f"{self.host} was silent for {silent_s:.0f} s")
        if silent_s >= silence_s / 2 and not self._pinged:
            self._pinged = True
            self.send(websocket.ABNF.OPCODE_PING, b"")

    def send(self, opcode: int, payload: bytes) -> None:
        try:
            self._socket.send(payload, opcode)
        except (websocket.WebSocketException, OSError) as error:
            raise Unavailable(f"{self.host} ended the stream ({_kind(error)})") from None

    def send_text(self, text: str) -> None:
        self.send(websocket.ABNF.OPCODE_TEXT, text.encode())

    def close(self) -> None:
        """Close without waiting for the other side. Idempotent."""
        try:
            self._socket.shutdown()  # type: ignore[no-untyped-call]
        except (websocket.WebSocketException, OSError):
            pass  # it is gone already


class Stream:
    """A WebSocket that stays connected, read by the thread that calls `run`.

    A connection that is lost is opened again after a pause. One that reaches `max_age_s`, or for which
    `renew` is called, is replaced by overlap: its successor is opened and listened to beside it for
    `overlap_s`, then what the successor held is delivered, in order. Nothing is missed; the overlapping part
    is delivered twice, so messages need ids of their own.

    Args:
        url: `wss://...` (plain `ws` on this machine only); its host is on `hosts`. heard: called with each
        message. changed: called with (is up, reason) when the connection comes and goes; not for a planned
        replacement. idle: called about four times a second and between messages at most that often.
        silence_s: without any frame, pings included, for this long the connection counts as lost. name: for
        the successor's thread.
    """

    def __init__(
        self,
        url: str,
        hosts: frozenset[str],
        clock: ClockLike,
        *,
        heard: Heard,
        changed: Callable[[bool, str], None],
        idle: Callable[[], None],
        silence_s: float = 30.0,
        max_age_s: float = 23.5 * 3600,
        overlap_s: float = 3.0,
        pauses_s: Sequence[float] = PAUSES_S,
        connect_s: float = CONNECT_S,
        name: str = "stream",
    ) -> None:
        self._url = url
        self._hosts = hosts
        self._clock = clock
        self._heard = heard
        self._changed = changed
        self._idle = idle
        self._silence_s = silence_s
        self._max_age_s = max_age_s
        self._overlap_s = overlap_s
        self._pauses_s = pauses_s
        self._connect_s = connect_s
        self._name = name
        self._renew_reason = ""
        self.connects = 0
        self.renewals = 0

    def renew(self, reason: str) -> None:
        """Replace the connection soon, by overlap (the venue announced that it will close this one)."""
        self._renew_reason = reason

    def run(self, service: Service) -> None:
        """Until the service stops. Raises nothing for what a network can do."""
        failures = 0
        while not service.stopping:
            try:
                link = self._open()
            except ExchangeError as error:
                self._changed(False, error.message)
                failures = self._pause(service, failures)
                continue
            opened_at = time.monotonic()
            try:
                self._changed(True, "connected")
                self._read(service, link)
            except Unavailable as error:
                self._changed(False, error.message)
            if time.monotonic() - opened_at > STEADY_S:
                failures = 0
            failures = self._pause(service, failures)  # returns at once when the service stops

    def _pause(self, service: Service, failures: int) -> int:
        until = time.monotonic() + self._pauses_s[min(failures, len(self._pauses_s) - 1)]
        while time.monotonic() < until and not service.wait(min(TURN_S, max(0.0, until - time.monotonic()))):
            self._idle()
        return failures + 1

    def _open(self) -> Link:
        self.connects += 1
        return Link(self._url, self._hosts, connect_s=self._connect_s)

    def _read(self, service: Service, link: Link) -> None:
        """Read this connection and its planned successors. Raises Unavailable when the last is lost."""
        self._renew_reason = ""
        born = idled = time.monotonic()
        successor: _Successor | None = None
        try:
            while not service.stopping:
                try:
                    message = link.next()
                    if message is None:
                        link.watch(self._silence_s)
                except Unavailable:
                    if successor is None or successor.link is None:
                        raise
                    successor.is_due = (
                        True  # the old one went first; the new one has listened long enough to try
                    )
                    message = None
                now = time.monotonic()
                if message is not None:
                    self._heard(self._clock.now_ns(), message)
                if now - idled >= TURN_S:
                    idled = now
                    service.beat()
                    self._idle()
                if successor is None:
                    if self._renew_reason or now - born >= self._max_age_s:
                        reason = self._renew_reason or "planned before the venue's limit of 24 hours"
                        log.info("stream=%s renewing reason=%s", self._name, reason)
                        self._renew_reason = ""
                        successor = _Successor(f"{self._name}-next", self._open, self._clock, self._overlap_s)
                elif successor.failed:
                    log.warning("stream=%s its successor did not come; trying again", self._name)
                    successor = None
                    born = now - self._max_age_s + 60.0  # the present one still works: once more in a minute
                elif successor.is_due:
                    held = successor.take_over()
                    if successor.link is None:
                        continue  # it failed at the last moment
                    link.close()
                    link, successor, born = successor.link, None, now
                    self.renewals += 1
                    for recv_ns, raw in held:
                        self._heard(recv_ns, raw)
        finally:
            link.close()
            if successor is not None:
                successor.take_over()
                if successor.link is not None:
                    successor.link.close()


class _Successor:
    """A connection opened beside the present one; it keeps what it hears until it takes over."""

    def __init__(self, name: str, open_link: Callable[[], Link], clock: ClockLike, overlap_s: float) -> None:
        self.link: Link | None = None
        self.failed = False
        self.is_due = False
        self._open_link = open_link
        self._clock = clock
        self._overlap_s = overlap_s
        self._held: list[tuple[int, bytes]] = []
        self._service = Service(name, self._listen).start()

    def take_over(self) -> list[tuple[int, bytes]]:
        """Stop listening here; what was heard so far. The caller reads `link` from now on."""
        self._service.stop()
        if not self._service.join(CONNECT_S + ANSWER_S):
            self.link = None
            return []
        return self._held

    def _listen(self, service: Service) -> None:
        try:
            link = self._open_link()
        except ExchangeError:
            self.failed = True
            return
        self.link = link
        started = time.monotonic()
        try:
            while not service.stopping:
                message = link.next()
                service.beat()
                if message is not None:
                    self._held.append((self._clock.now_ns(), message))
                if time.monotonic() - started >= self._overlap_s:
                    self.is_due = True
        except Unavailable:
            self.link = None
            self.failed = True
            link.close()
