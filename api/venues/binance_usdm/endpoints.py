"""Where Binance USDT-M futures live, per environment, and which hosts may be spoken to there.

Hides nothing. Called by the venue, by whoever feeds a book and, later, by the doctor. Source: derivatives
documentation; the split of the WebSocket addresses is the notice of 2026-03-06 (the un-prefixed ones were
retired on 2026-04-23). Each environment has keys of its own.

Unverified: whether the split exists on testnet and demo (`is_split` False addresses everything without a
prefix, and can be set by hand with `unsplit` and `split`), and a WebSocket API on demo: orders go over HTTP
there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from api.errors import BadInput
from api.wire import LOOPBACK


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`rest` without a path. `socket`: the WebSocket API whole, empty: none. `public` carries books and best
    prices, `market` all else that is public, `private` the account's events: one connection serves one
    class. `hosts`: the only ones a socket is opened to. `sapi`: where a key's rights are told, empty:
    nowhere.
    """

    rest: str
    socket: str
    public: str
    market: str
    private: str
    hosts: frozenset[str]
    sapi: str = ""


def split(stream: str) -> tuple[str, str, str]:
    """(public, market, private) of a stream base, as since 2026-04-23."""
    return f"{stream}/public", f"{stream}/market", f"{stream}/private"


def unsplit(where: Endpoints, stream: str) -> Endpoints:
    """The same with one un-prefixed base for all three classes."""
    return replace(where, public=stream, market=stream, private=stream)


ENVIRONMENTS: dict[str, Endpoints] = {
    "live": Endpoints(
        "https://fapi.binance.com",
        "wss://ws-fapi.binance.com/ws-fapi/v1",
        *split("wss://fstream.binance.com"),
        frozenset({"fapi.binance.com", "ws-fapi.binance.com", "fstream.binance.com", "api.binance.com"}),
        "https://api.binance.com",
    ),
    "testnet": Endpoints(
        "https://testnet.binancefuture.com",
        "wss://testnet.binancefuture.com/ws-fapi/v1",
        *("wss://fstream.binancefuture.com",) * 3,
        frozenset({"testnet.binancefuture.com", "fstream.binancefuture.com"}),
    ),
    "demo": Endpoints(
        "https://demo-fapi.binance.com",
        "",
        *("wss://demo-fstream.binance.com",) * 3,
        frozenset({"demo-fapi.binance.com", "demo-fstream.binance.com"}),
    ),
}


def endpoints(env: str) -> Endpoints:
    """Raises BadInput for an environment that does not exist."""
    found = ENVIRONMENTS.get(env)
    if found is None:
        raise BadInput("env", f"Binance USDT-M has {', '.join(ENVIRONMENTS)}; not {env!r}")
    return found


def on_this_machine(rest: str, socket: str, stream: str) -> Endpoints:
    """For tests and benchmarks: all addresses must be of this machine. Raises BadInput."""
    hosts = frozenset((urlsplit(url).hostname or "") for url in (rest, stream, socket or rest))
    if not hosts <= LOOPBACK:
        raise BadInput("env", "only addresses of this machine may be given by hand")
    return Endpoints(rest, socket, *split(stream), hosts)
