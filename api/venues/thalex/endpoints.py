"""Where Thalex lives, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the other files of this folder and by the doctor. Source: the exchange's API
description (v2); production and testnet have accounts and keys of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` with its path and without a last slash, `socket` whole. `hosts`: the only ones a socket is
    opened to.
    """

    rest: str
    socket: str
    hosts: frozenset[str]


def _of(host: str) -> Endpoints:
    return Endpoints(f"https://{host}/api/v2", f"wss://{host}/ws/api/v2", frozenset({host}))


ENVIRONMENTS: dict[str, Endpoints] = {"live": _of("thalex.com"), "testnet": _of("testnet.thalex.com")}


def endpoints(env: str, *, rest: str = "", socket: str = "", approved: Iterable[str] = ()) -> Endpoints:
    """The addresses of an environment, or other ones.

    Args:
        rest, socket: other addresses; empty: the venue's own.
        approved: hosts that a person has approved by name.

    Raises:
        BadInput: there is no such environment, or a host that is neither the venue's nor approved.
    """
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"Thalex has {', '.join(ENVIRONMENTS)}; not {env!r}")
    allowed = found.hosts | {name.strip().lower() for name in approved if name.strip()}
    for name, url, scheme in (("rest", rest, "https"), ("socket", socket, "wss")):
        if not url:
            continue
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if host not in allowed:
            raise BadInput(
                name,
                f"{host or 'an address without a host'} is not Thalex's host for {env} "
                f"({', '.join(sorted(found.hosts))}); approve it by name to use it all the same",
            )
        if parts.scheme != scheme or parts.username is not None:
            raise BadInput(name, f"must be {scheme}://{host}, without a user name")
    return Endpoints((rest or found.rest).rstrip("/"), socket or found.socket, allowed)


def on_this_machine(rest: str, socket: str) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, socket))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest.rstrip("/"), socket, hosts)
