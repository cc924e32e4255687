"""Where Paradex lives, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the other files of this folder and, later, by the doctor. Source: the official SDK
and documents (August 2026). Testnet has accounts and keys of its own; the chain's name is signed with every
order, so a key made for one environment is refused by the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from api.errors import BadInput
from api.venues.paradex.keys import MAINNET, TESTNET
from api.wire import LOOPBACK


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` with `/v1`, the sockets whole. `chain`: what `/system/config` must say, and what is signed.
    `hosts`: the only ones a socket is opened to.
    """

    rest: str
    socket: str
    public_socket: str
    chain: str
    hosts: frozenset[str]


def _of(name: str, chain: str) -> Endpoints:
    api, socket = f"api.{name}.paradex.trade", f"ws.api.{name}.paradex.trade"
    public = f"ws-public.api.{name}.paradex.trade"
    return Endpoints(
        f"https://{api}/v1",
        f"wss://{socket}/v1",
        f"wss://{public}/v1",
        chain,
        frozenset({api, socket, public}),
    )


ENVIRONMENTS: dict[str, Endpoints] = {"live": _of("prod", MAINNET), "testnet": _of("testnet", TESTNET)}


def endpoints(env: str) -> Endpoints:
    """Raises BadInput for an environment that does not exist."""
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"Paradex has {', '.join(ENVIRONMENTS)}; not {env!r}")
    return found


def on_this_machine(rest: str, socket: str, chain: str = TESTNET) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, socket))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, socket, socket, chain, hosts)
