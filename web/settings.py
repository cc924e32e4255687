"""What the browser face is told at start. Hides nothing, decides one thing: what is too open to serve.

Must not know: where the values come from (flags, environment, files); `run.py` fills it. Secrets do not
show in `repr`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from api.errors import BadInput, BadInputs

SOCKET_SLACK = 8  # sockets that are shaking hands, or being told that there are too many viewers
REST_SLOTS = 64  # requests worked on at once, the kill route not counted
KILL_SLOTS = 8  # threads that only the kill route may use

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Settings of one browser face.

    Args:
        desk: name of the desk; part of the cookie's name, so that two desks on one machine do not log
            each other out.
        login_token: random text, in the fragment of the printed link; also good as a bearer token.
        console_token: bearer token for scripts (CONSOLE_TOKEN), if any.
        password: a second way to log in, if any.
        tls_cert, tls_key: PEM files; both or none.
        hosts: further names this face may be called by (beside loopback and `host`).
        origins: further origins whose pages are ours (`https://desk.example`), for a TLS proxy in front.
        max_viewers: Socket.IO connections; the next one is refused with the reason.
        rate_hz: how often changes are pushed.
        session_idle_s, session_life_s: a login ends after this long without a request, and after this
            long in any case.
        body_max: largest request body, bytes.
    """

    login_token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 5000
    desk: str = "main"
    console_token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_viewers: int = 64
    rate_hz: float = 5.0
    session_idle_s: float = 12 * 3600.0
    session_life_s: float = 7 * 24 * 3600.0
    body_max: int = 64 * 1024

    @property
    def is_tls(self) -> bool:
        return self.tls_cert is not None and self.tls_key is not None

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def threads(self) -> int:
        """Threads the server needs so that viewers and slow requests together never take the kill route's."""
        return self.max_viewers + SOCKET_SLACK + REST_SLOTS + KILL_SLOTS

    @property
    def cookie(self) -> str:
        name = "makerdeck_" + re.sub(r"[^A-Za-z0-9_-]", "_", self.desk)
        return f"__Host-{name}" if self.is_tls else name

    def link(self, port: int) -> str:
        """The link to print. The token is in the fragment: browsers do not send it, so no log and no
        referrer has it.
        """
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.is_tls else 'http'}://{host}:{port}/login#token={self.login_token}"


def check_settings(settings: WebSettings) -> None:
    """Raises BadInputs naming every setting that makes this face unsafe or impossible to serve."""
    errors = []
    if not settings.login_token:
        errors.append(BadInput("login_token", "must not be empty"))
    if (settings.tls_cert is None) != (settings.tls_key is None):
        errors.append(BadInput("tls", "needs both a certificate and a key file"))
    if not settings.is_loopback:
        if not settings.is_tls:
            errors.append(BadInput("host", f"{settings.host} is open to the network; that needs TLS"))
        if not settings.password:
            errors.append(BadInput("host", f"{settings.host} is open to the network; that needs a password"))
    if settings.password is not None and not settings.is_loopback and len(settings.password) < 12:
        errors.append(BadInput("password", "needs at least 12 characters on an address open to the network"))
    if settings.console_token is not None and len(settings.console_token) < 8:
        errors.append(BadInput("CONSOLE_TOKEN", "needs at least 8 characters"))
    if not 1 <= settings.max_viewers <= 1000:
        errors.append(BadInput("max_viewers", "must be 1 to 1000"))
    if not 0 < settings.rate_hz <= 50:
        errors.append(BadInput("rate_hz", "must be above 0 and at most 50 a second"))
    if errors:
        raise BadInputs(tuple(errors))


def is_loopback(host: str) -> bool:
    """Whether this name or address of a host is this machine and nothing else."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
