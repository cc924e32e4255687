"""Binance USDT-M futures as a venue: what it brings to the shared dialect.

Hides: how requests are signed (header, timestamp and window, HMAC, RSA or Ed25519 over exactly what is sent),
and which codes are this venue's own. Called by whoever holds the key. Source:
developers.binance.com, derivatives/usds-margined-futures, "General Info" and "Error codes".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import orjson

from api.errors import OutcomeUnknown, Unavailable
from api.runtime import ClockLike
from api.signing import Key
from api.venues.binance_usdm.endpoints import Endpoints, endpoints
from api.venues.binance_usdm.public import NAME, TITLE
from api.venues.usdm_account import Settings
from api.venues.usdm_errors import ErrorRules
from api.venues.usdm_public import MS
from api.venues.usdm_requests import Dialect
from api.venues.usdm_venue import UsdmTrading, capabilities
from api.wire_http import Proxy

STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "NONE")
CAPABILITIES = capabilities(STP_MODES)

DIALECT = Dialect(
    name=NAME,
    title=TITLE,
    v="/fapi/v1",
    wallet="/fapi/v3",
    errors=ErrorRules(
        TITLE,
        codes={},
        texts=(
            # -1001 has two texts; with this one nothing happened.
            ("internal error; unable to process your request", Unavailable),
            ("unknown error, please check your request", OutcomeUnknown),
        ),
        failed_503=("service unavailable", "internal error; unable to process your request"),
    ),
    stp_param="selfTradePreventionMode",
    stp_modes=STP_MODES,
    rights_path="/fapi/v1/accountConfig",
)


class HeaderSigner:
    """The key in a header; `timestamp`, `recvWindow` and `signature` in the parameters.

    Over HTTP the parameters are percent-encoded, then signed, then sent as they are; over the WebSocket API
    they are sorted by name and signed unencoded.
    """

    def __init__(self, key: Key, recv_window_s: float) -> None:
        self._key = key
        self._window_ms = round(recv_window_s * 1000)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"X-MBX-APIKEY": self._key.api_key}

    @property
    def signs_listen_key(self) -> bool:
        return False

    def form(self, params: Mapping[str, str | int], venue_ns: int) -> str:
        text = urlencode({**params, "recvWindow": self._window_ms, "timestamp": venue_ns // MS})
        return f"{text}&{urlencode({'signature': self._key.sign(text.encode())})}"

    def frame(self, method: str, number: int, params: Mapping[str, str | int], venue_ns: int) -> bytes:
        signed: dict[str, str | int] = {
            **params,
            "apiKey": self._key.api_key,
            "recvWindow": self._window_ms,
            "timestamp": venue_ns // MS,
        }
        text = "&".join([f"{name}={signed[name]}" for name in sorted(signed)])
        signed["signature"] = self._key.sign(text.encode())
        return orjson.dumps({"id": number, "method": method, "params": signed})


class BinanceUsdmTrading(UsdmTrading):
    """One account.

    Args:
        key: the API key and what signs with it.
        env: "live", "testnet" or "demo"; each has keys of its own.
        account: our name of the account.
        where: other addresses instead (`endpoints.unsplit`, tests, benchmarks).

    Raises:
        BadInput: there is no such environment, or no such mode of self-trade prevention.
    """

    def __init__(
        self,
        key: Key,
        *,
        env: str = "testnet",
        account: str = "main",
        clock: ClockLike | None = None,
        settings: Settings | None = None,
        where: Endpoints | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        chosen = settings or Settings()
        super().__init__(
            DIALECT,
            HeaderSigner(key, chosen.recv_window_s),
            where or endpoints(env),
            env=env,
            account=account,
            clock=clock,
            settings=chosen,
            proxy=proxy,
        )


def connect(
    key: Key,
    *,
    env: str = "testnet",
    account: str = "main",
    settings: Settings | None = None,
    proxy: Proxy | None = None,
) -> BinanceUsdmTrading:
    """The venue for one key; its own `connect(heard)` opens the private stream."""
    return BinanceUsdmTrading(key, env=env, account=account, settings=settings, proxy=proxy)
