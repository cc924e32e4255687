"""Aster's perpetuals as a venue: what it brings to the dialect it shares with Binance USDT-M.

Hides: how requests are signed (V3: nonce and EIP-712 by an agent; V1: header and HMAC), and which codes are
this venue's own. Called by whoever holds the key. Source: asterdex/api-docs, V3 and V1; `clock_words` and the
texts of -1000 are from memory and unverified.

- V3 is for agents. It has no time window: a request counts while its nonce lies within 10 s of the venue's
  clock, so one whose answer was lost may arrive for that long, not only for `Settings.answer_s`.
- V1 keys cannot be made since 2026-03-25; old ones work. Whether V1 takes `stpMode` is unverified, so it is
  not sent there.
- What a post-only order meets that would take is undocumented: an answer or an event `EXPIRED`, -5022 and
  -2010 are all read so.
- HTTP 503 always leaves the outcome unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlencode

from api.errors import Rejected, Unauthorized
from api.runtime import ClockLike
from api.signing import Key
from api.venues.aster.eip712 import AgentKey, Nonces
from api.venues.aster.endpoints import Endpoints, endpoints
from api.venues.aster.public import NAME, TITLE
from api.venues.binance_usdm.venue import HeaderSigner
from api.venues.usdm_account import Settings
from api.venues.usdm_errors import ErrorRules
from api.venues.usdm_requests import Dialect
from api.venues.usdm_venue import UsdmTrading, capabilities
from api.wire_http import Proxy

STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "NONE")
CAPABILITIES = capabilities(STP_MODES)
NONCE_EXPIRED = -4225

RULES = ErrorRules(
    TITLE,
    codes={},
    texts=(
        ("invalid symbol", Rejected),
        ("signature check failed", Unauthorized),
        ("no agent found", Unauthorized),
    ),
    clock=frozenset({-1021, NONCE_EXPIRED}),
    clock_words=("nonce",),
    post_only=frozenset({-2010}),
)
V3 = Dialect(
    name=NAME,
    title=TITLE,
    v="/fapi/v3",
    wallet="/fapi/v3",
    errors=RULES,
    stp_param="stpMode",
    stp_modes=STP_MODES,
    rights_path="/fapi/v3/accountWithJoinMargin",
    reads_stp=True,
    delete_in_body=True,
)
V1 = replace(
    V3,
    v="/fapi/v1",
    wallet="/fapi/v2",
    stp_modes=(),
    rights_path="/fapi/v4/account",
    reads_stp=False,
)


class AgentSigner:
    """`nonce`, `user`, `signer`, then the signature of the whole text as it is sent."""

    def __init__(self, key: AgentKey, chain_id: int) -> None:
        self._key = key
        self._domain = key.domain(chain_id)
        self._nonces = Nonces()

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def signs_listen_key(self) -> bool:
        return True

    def form(self, params: Mapping[str, str | int], venue_ns: int) -> str:
        key = self._key
        own = {"nonce": self._nonces.next(venue_ns), "user": key.user, "signer": key.signer}
        text = urlencode({**params, **own}, quote_via=quote)
        return f"{text}&signature={key.sign(self._domain, text.encode())}"

    def frame(self, method: str, number: int, params: Mapping[str, str | int], venue_ns: int) -> bytes:
        raise Rejected("Aster takes no orders over a WebSocket")


class AsterTrading(UsdmTrading):
    """One account.

    Args:
        key: an `AgentKey` (V3), or a `Key` that signs HMAC (V1, for keys made before 2026-03-25).
        env: "live" or "testnet".
        account: our name of the account.
        where: other addresses instead (`Endpoints.with_rest`, tests, benchmarks).

    Raises:
        BadInput: there is no such environment, or no such mode of self-trade prevention.
    """

    def __init__(
        self,
        key: AgentKey | Key,
        *,
        env: str = "testnet",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        chosen = settings or Settings(http_lines=4)
        there = where or endpoints(env)
        is_agent = isinstance(key, AgentKey)
        super().__init__(
            V3 if is_agent else V1,
            AgentSigner(key, there.chain_id)
            if isinstance(key, AgentKey)
            else HeaderSigner(key, chosen.recv_window_s),
            there,
            env=env,
            account=account,
            clock=clock,
            settings=chosen if is_agent else replace(chosen, stp=""),
            proxy=proxy,
        )


def connect(
    key: AgentKey | Key,
    *,
    env: str = "testnet",
    account: str = "main",
    settings: Settings | None = None,
    proxy: Proxy | None = None,
) -> AsterTrading:
    """The venue for one key; its own `connect(heard)` opens the private stream."""
    return AsterTrading(key, env=env, account=account, settings=settings, proxy=proxy)
