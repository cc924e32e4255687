"""Where Backpack lives, and which hosts may be spoken to.

Hides nothing. Called by the venue and by the doctor. There is no testnet (none is documented): only "live".
Old `.env` files carry `api.backpack.work`, a host that is not on the list; another base address works only
when a person approves its host by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK

REST = "https://api.backpack.exchange"
SOCKET = "wss://ws.backpack.exchange"
HOSTS = frozenset({"api.backpack.exchange", "ws.backpack.exchange"})


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` without a path, `socket` whole. `hosts`: the only ones a socket is opened to."""

    rest: str
    socket: str
    hosts: frozenset[str]


ENVIRONMENTS: dict[str, Endpoints] = {"live": Endpoints(REST, SOCKET, HOSTS)}


def endpoints(
    env: str = "live", *, rest: str = "", socket: str = "", approved: Iterable[str] = ()
) -> Endpoints:
    """The addresses of an environment, or other ones.

    Args:
        rest, socket: other addresses; empty: the venue's own.
        approved: hosts that a person has approved by name.

    Raises:
        BadInput: there is no such environment, or a host that is neither the venue's nor approved.
    """
    if env not in ENVIRONMENTS:
        raise BadInput("env", f"Backpack has no testnet, only live; not {env!r}")
    allowed = HOSTS | {name.strip().lower() for name in approved if name.strip()}
    for name, url, scheme in (("rest", rest, "https"), ("socket", socket, "wss")):
        if not url:
            continue
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if host not in allowed:
            raise BadInput(
                name,
                f"{host or 'an address without a host'} is not a host of Backpack "
                f"({', '.join(sorted(HOSTS))}); approve it by name to use it all the same",
            )
        if parts.scheme != scheme or parts.username is not None:
            raise BadInput(name, f"must be {scheme}://{host}, without a user name")
    return Endpoints((rest or REST).rstrip("/"), socket or SOCKET, allowed)


def on_this_machine(rest: str, socket: str) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, socket))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, socket, hosts)
