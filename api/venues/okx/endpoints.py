"""Where OKX lives, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the other files of this folder and, later, by the doctor. Source: OKX API v5,
"Overview" and its change log (2026-05-20: `openapi.okx.com`). Demo trading is the same REST host with the
header `x-simulated-trading: 1`, other WebSocket hosts, and keys of its own; a key of one environment is
refused by the other (50101). Accounts of a region (US, EEA, TR) have REST hosts of their own; their
WebSocket hosts are not known to us (unverified), so they are given by the operator through `regional`.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK

DEMO_HEADER = ("x-simulated-trading", "1")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` without a path, the three sockets whole. `hosts`: the only ones a socket is opened to."""

    rest: str
    public: str
    private: str
    business: str
    hosts: frozenset[str]
    is_demo: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """What every request and every handshake carries besides the key."""
        return dict([DEMO_HEADER]) if self.is_demo else {}


def _sockets(root: str) -> tuple[str, str, str]:
    return f"{root}/ws/v5/public", f"{root}/ws/v5/private", f"{root}/ws/v5/business"


_LIVE = frozenset({"openapi.okx.com", "www.okx.com", "ws.okx.com"})
_DEMO = frozenset({"openapi.okx.com", "www.okx.com", "wspap.okx.com"})

ENVIRONMENTS: dict[str, Endpoints] = {
    "live": Endpoints("https://openapi.okx.com", *_sockets("wss://ws.okx.com:8443"), _LIVE),
    "demo": Endpoints("https://openapi.okx.com", *_sockets("wss://wspap.okx.com:8443"), _DEMO, True),
}
REGIONAL_REST = ("us.okx.com", "eea.okx.com", "tr.okx.com", "www.okx.com", "openapi.okx.com")


def endpoints(env: str) -> Endpoints:
    """Raises BadInput for an environment that does not exist."""
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"OKX has {', '.join(ENVIRONMENTS)}; not {env!r}")
    return found


def regional(rest_host: str, socket_host: str, *, is_demo: bool = False) -> Endpoints:
    """Addresses of one region: a REST host of the known list, and the WebSocket host (with its port) that OKX
    names for that region's accounts, under okx.com. Raises BadInput.
    """
    if rest_host not in REGIONAL_REST:
        raise BadInput("rest_host", f"must be one of {', '.join(REGIONAL_REST)}")
    name, _, port = socket_host.partition(":")
    if not name.endswith(".okx.com") or not (port or "443").isdigit():
        raise BadInput("socket_host", "must be a host of okx.com, with its port when it has one")
    hosts = frozenset({rest_host, name})
    return Endpoints(f"https://{rest_host}", *_sockets(f"wss://{socket_host}"), hosts, is_demo)


def on_this_machine(rest: str, socket: str, *, is_demo: bool = False) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput.

    Args:
        socket: `ws://host:port` without a path.
    """
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, socket))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, *_sockets(socket), hosts, is_demo)
