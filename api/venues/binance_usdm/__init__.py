"""Binance USDT-M futures (perpetuals and dated contracts, quantity in base units).

`public` reads market data; `venue` is the `Exchange` and `AccountReads` (`connect(key, env=...)`), with
what only this venue brings; `endpoints` the addresses. What it shares with Aster is in the `usdm_` files
beside this package: `usdm_public`, `usdm_requests`, `usdm_messages`, `usdm_errors` (pure), `usdm_account`,
`usdm_session`, `usdm_http`, `usdm_venue`.

Unverified, and kept behind settings: the split of WebSocket addresses on testnet and demo
(`endpoints.unsplit`), the exact order limits (read from `exchangeInfo` where it tells), and that
`/sapi/v1/account/apiRestrictions` tells a futures key's rights (else they are shown as not told).
"""

from api.venues.binance_usdm.endpoints import ENVIRONMENTS, Endpoints, endpoints, on_this_machine, unsplit
from api.venues.binance_usdm.venue import CAPABILITIES, BinanceUsdmTrading, connect
from api.venues.usdm_account import Settings

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "BinanceUsdmTrading",
    "Endpoints",
    "Settings",
    "connect",
    "endpoints",
    "on_this_machine",
    "unsplit",
]
