"""Who may speak to this face: logins, bearer tokens, forgery, origins, throttling.

Hides: sessions (in memory, by reference), how secrets are compared, how often a wrong one may be tried.
Must not know what a route does. Called by `web.app` before every route, by `web.live` at every connect
and each second after it, and by `web.gate` for host names and origins.

- A login is 256 random bits in an HttpOnly, SameSite=Strict cookie named per desk; here only its hash is
  kept. It ends at logout, after `session_idle_s` without a request, and after `session_life_s` in any
  case.
- A mutation that rests on the cookie needs the session's `X-CSRF-Token` and must not come from another
  origin; one that rests on a bearer token needs neither, since no browser sends that by itself.
- Wrong secrets: 10 a minute for one address, 60 in all. A long random secret that is right always gets
  in, so nobody locks the owner out; a short or chosen one (a password) is only looked at while there are
  tries left.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .problems import Problem
from .settings import WebSettings, is_loopback

log = logging.getLogger("makerdeck.auth")

WINDOW_S = 60.0
TRIES_PER_ADDRESS = 10
TRIES_IN_ALL = 60
SESSIONS_MAX = 1000
STRONG_CHARS = 22  # random text this long (128 bits in base64) cannot be guessed; shorter ones are throttled
SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # about 50 ms a try


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `session` is the hash of the session when the cookie says so, None with a bearer
    token.
    """

    how: str
    address: str
    session: bytes | None = None
    csrf: str = ""

    @property
    def by(self) -> str:
        """As the desk's record shows it."""
        return f"{self.how} {self.address}"


@dataclass(slots=True)
class _Session:
    csrf: str
    born_s: float
    seen_s: float


class Throttle:
    """Counts wrong secrets in a sliding window. An address that logged in before is spared the total, so
    that a flood from elsewhere does not keep its owner out.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._all: deque[float] = deque()
        self._by_address: dict[str, deque[float]] = {}
        self._known: set[str] = set()

    def take(self, address: str) -> bool:
        """Take one try; False when there is none left. Given back by `succeeded`."""
        with self._lock:
            now = self._now_s()
            mine = self._by_address.setdefault(address, deque())
            _forget_before(mine, now - WINDOW_S)
            _forget_before(self._all, now - WINDOW_S)
            if len(mine) >= TRIES_PER_ADDRESS:
                return False
            if len(self._all) >= TRIES_IN_ALL and address not in self._known:
                return False
            mine.append(now)
            self._all.append(now)
            if len(self._by_address) > 10 * TRIES_IN_ALL:
                self._by_address = {a: times for a, times in self._by_address.items() if times}
            return True

    def succeeded(self, address: str, *, took: bool) -> None:
        with self._lock:
            if len(self._known) < SESSIONS_MAX:
                self._known.add(address)
            mine = self._by_address.get(address)
            if took and mine:
                mine.pop()
                if self._all:
                    self._all.pop()


class Auth:
    """The one judge of who may do what here. Safe from any thread.

    Args:
        now_s: monotonic seconds; handed in by tests.
    """

    def __init__(self, settings: WebSettings, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now_s = now_s
        self._tokens = [t for t in (settings.login_token, settings.console_token) if t]
        self._salt = secrets.token_bytes(16)
        self._password = self._hashed(settings.password) if settings.password else None
        self._sessions: dict[bytes, _Session] = {}
        self._lock = threading.Lock()
        self.throttle = Throttle(now_s)

    @property
    def has_password(self) -> bool:
        return self._password is not None

    # ---------------------------------------------------------------------------------------------- secrets

    def check_token(self, token: str, address: str) -> bool:
        """Whether this is the login token or the console token. Raises Problem 429 when there are no
        tries left.
        """
        right = self._matches(token, strong=True)
        if right:
            self.throttle.succeeded(address, took=False)
            return True
        self._take(address)
        right = self._matches(token, strong=False)
        if right:
            self.throttle.succeeded(address, took=True)
        else:
            log.warning("auth=refused how=token address=%s", address)
        return right

    def check_password(self, password: str, address: str) -> bool:
        """Whether this is the password. Raises Problem 429 when there are no tries left."""
        self._take(address)
        right = self._password is not None and hmac.compare_digest(self._hashed(password), self._password)
        if right:
            self.throttle.succeeded(address, took=True)
        else:
            log.warning("auth=refused how=password address=%s", address)
        return right

    def _take(self, address: str) -> None:
        if not self.throttle.take(address):
            log.warning("auth=throttled address=%s", address)
            wait = {"Retry-After": str(int(WINDOW_S))}
            raise Problem(429, "Too many wrong secrets; wait a minute.", headers=wait)

    def _matches(self, token: str, *, strong: bool) -> bool:
        given = token.encode("utf-8", "replace")
        found = False
        for one in self._tokens:
            if (len(one) >= STRONG_CHARS) == strong:
                found |= hmac.compare_digest(given, one.encode())
        return found

    def _hashed(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode("utf-8", "replace"), salt=self._salt, **SCRYPT)

    # --------------------------------------------------------------------------------------------- sessions

    def open_session(self, address: str) -> tuple[str, Caller]:
        """A new session: the cookie's value, and its caller. The value is never kept."""
        value = secrets.token_urlsafe(32)
        session = _Session(secrets.token_urlsafe(32), self._now_s(), self._now_s())
        with self._lock:
            if len(self._sessions) >= SESSIONS_MAX:
                oldest = min(self._sessions, key=lambda key: self._sessions[key].seen_s)
                del self._sessions[oldest]
            self._sessions[_reference(value)] = session
        log.info("auth=login address=%s", address)
        return value, Caller("page", address, _reference(value), session.csrf)

    def end_session(self, session: bytes | None) -> None:
        """Log out. Idempotent."""
        with self._lock:
            if session is not None and self._sessions.pop(session, None) is not None:
                log.info("auth=logout")

    def is_alive(self, session: bytes, *, touch: bool = False) -> bool:
        """Whether this session still counts; `touch` is a sign of life from its person."""
        now = self._now_s()
        with self._lock:
            found = self._sessions.get(session)
            if found is None:
                return False
            idle, life = now - found.seen_s, now - found.born_s
            if idle > self._settings.session_idle_s or life > self._settings.session_life_s:
                del self._sessions[session]
                return False
            if touch:
                found.seen_s = now
            return True

    def session_left_s(self, session: bytes) -> float:
        """Seconds until this session ends for want of requests or of age; 0 when it has."""
        with self._lock:
            found = self._sessions.get(session)
            if found is None:
                return 0.0
            now = self._now_s()
            idle = self._settings.session_idle_s - (now - found.seen_s)
            return max(0.0, min(idle, self._settings.session_life_s - (now - found.born_s)))

    # ---------------------------------------------------------------------------------------------- callers

    def caller(self, environ: Mapping[str, Any], cookies: Mapping[str, str]) -> Caller | None:
        """Who sends this request, or None. A bearer token, right or wrong, is looked at instead of the
        cookie.

        Raises Problem 429 when there were too many wrong secrets.
        """
        address = str(environ.get("REMOTE_ADDR") or "unknown")
        header = str(environ.get("HTTP_AUTHORIZATION") or "")
        if header:
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer" and self.check_token(token.strip(), address):
                return Caller("token", address)
            return None
        return self.caller_of_cookie(cookies, address)

    def caller_of_cookie(self, cookies: Mapping[str, str], address: str) -> Caller | None:
        value = cookies.get(self._settings.cookie)
        if not value:
            return None
        reference = _reference(value)
        if not self.is_alive(reference, touch=True):
            return None
        with self._lock:
            found = self._sessions.get(reference)
        return None if found is None else Caller("page", address, reference, found.csrf)

    def check_forgery(self, caller: Caller, environ: Mapping[str, Any]) -> None:
        """Raises Problem 403 when this mutation may have been started by somebody else's page."""
        if caller.session is None:
            return
        if not self.is_own_page(environ, default=True):
            log.warning("auth=refused how=origin address=%s", caller.address)
            raise Problem(403, "This does not come from the desk's own page.")
        token = str(environ.get("HTTP_X_CSRF_TOKEN") or "")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), caller.csrf.encode()):
            log.warning("auth=refused how=csrf address=%s", caller.address)
            raise Problem(
                403,
                "The X-CSRF-Token header is missing or wrong; GET /api/session has it.",
                (("X-CSRF-Token", "is missing or wrong"),),
            )

    # ------------------------------------------------------------------------------------- hosts and origins

    def is_own_host(self, environ: Mapping[str, Any]) -> bool:
        """Whether the Host header is a name of this face. A foreign name that resolves to us (DNS
        rebinding) is not.
        """
        name = _host_name(str(environ.get("HTTP_HOST") or ""))
        if name is None:
            return False
        settings = self._settings
        if is_loopback(name) or name in {host.lower() for host in (settings.host, *settings.hosts) if host}:
            return True
        if settings.is_loopback:
            return False
        try:
            ipaddress.ip_address(name)  # an address in figures cannot be rebound
        except ValueError:
            return False
        return True

    def is_own_page(self, environ: Mapping[str, Any], *, default: bool) -> bool:
        """Whether a page of ours sent this; `default` when the request does not tell."""
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None:
            own = f"{environ.get('wsgi.url_scheme')}://{environ.get('HTTP_HOST')}".lower()
            theirs = str(origin).lower()
            return theirs == own or theirs in {one.lower() for one in self._settings.origins}
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site is not None:
            return bool(site == "same-origin")
        return default


def _host_name(header: str) -> str | None:
    """`name` of `name:port`, lower case; None when it is no host header."""
    name, port = header, ""
    if header.startswith("["):
        name, bracket, port = header[1:].partition("]")
        if not bracket:
            return None
    elif ":" in header:
        name, _, port = header.partition(":")
    if port.startswith(":"):
        port = port[1:]
    if not name or (port and not (port.isascii() and port.isdigit())):
        return None
    return name.lower().rstrip(".")


def _reference(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()


def _forget_before(times: deque[float], at_s: float) -> None:
    while times and times[0] < at_s:
        times.popleft()
