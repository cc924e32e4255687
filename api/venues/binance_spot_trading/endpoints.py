"""Where Binance spot takes orders, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the venue and, later, by the doctor. Source: rest-api.md, web-socket-api.md,
testnet/ and demo-mode/ of binance-spot-api-docs. Live, testnet and demo have keys of their own; a key of
one is refused by the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` with its `/api` prefix, `socket` whole. `hosts`: the only ones a socket is opened to."""

    rest: str
    socket: str
    hosts: frozenset[str]


ENVIRONMENTS: dict[str, Endpoints] = {
    "live": Endpoints(
        "https://api.binance.com/api",
        "wss://ws-api.binance.com:443/ws-api/v3",
        frozenset({"api.binance.com", "ws-api.binance.com"}),
    ),
    "testnet": Endpoints(
        "https://testnet.binance.vision/api",
        "wss://ws-api.testnet.binance.vision/ws-api/v3",
        frozenset({"testnet.binance.vision", "ws-api.testnet.binance.vision"}),
    ),
    "demo": Endpoints(
        "https://demo-api.binance.com/api",
        "wss://demo-ws-api.binance.com/ws-api/v3",
        frozenset({"demo-api.binance.com", "demo-ws-api.binance.com"}),
    ),
}


def endpoints(env: str) -> Endpoints:
    """Raises BadInput for an environment that does not exist."""
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"Binance spot has {', '.join(ENVIRONMENTS)}; not {env!r}")
    return found


def on_this_machine(rest: str, socket: str) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, socket))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, socket, hosts)
