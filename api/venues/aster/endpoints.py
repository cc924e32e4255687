"""Where Aster's perpetuals live, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the venue, by whoever feeds a book and, later, by the doctor. Source:
asterdex/api-docs. The documents name two hosts for REST (`fapi`, `fapi3`) and two for the testnet's streams;
both are allowed and either may be chosen (`with_rest`, `with_stream`). Unverified: which of the testnet's
stream hosts answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` without a path; `stream` carries everything, public and private. `chain_id` is signed into every
    V3 request.
    """

    rest: str
    stream: str
    chain_id: int
    hosts: frozenset[str]

    @property
    def socket(self) -> str:
        """There is no WebSocket for orders."""
        return ""

    @property
    def private(self) -> str:
        return self.stream

    @property
    def sapi(self) -> str:
        """A key's own rights are told nowhere."""
        return ""

    def with_rest(self, rest: str) -> Endpoints:
        """Another of the allowed hosts. Raises BadInput."""
        return replace(self, rest=self._allowed(rest))

    def with_stream(self, stream: str) -> Endpoints:
        """Another of the allowed hosts. Raises BadInput."""
        return replace(self, stream=self._allowed(stream))

    def _allowed(self, url: str) -> str:
        if urlsplit(url).hostname not in self.hosts:
            raise BadInput("url", f"must be one of {', '.join(sorted(self.hosts))}")
        return url


ENVIRONMENTS: dict[str, Endpoints] = {
    "live": Endpoints(
        "https://fapi.asterdex.com",
        "wss://fstream.asterdex.com",
        1666,
        frozenset({"fapi.asterdex.com", "fapi3.asterdex.com", "fstream.asterdex.com"}),
    ),
    "testnet": Endpoints(
        "https://fapi.asterdex-testnet.com",
        "wss://fstream5.asterdex-testnet.com",
        714,
        frozenset(
            {"fapi.asterdex-testnet.com", "fstream5.asterdex-testnet.com", "fstream.asterdex-testnet.com"}
        ),
    ),
}


def endpoints(env: str) -> Endpoints:
    """Raises BadInput for an environment that does not exist."""
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"Aster has {', '.join(ENVIRONMENTS)}; not {env!r}")
    return found


def on_this_machine(rest: str, stream: str, chain_id: int = 714) -> Endpoints:
    """For tests and benchmarks: both addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, stream))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, stream, chain_id, hosts)
