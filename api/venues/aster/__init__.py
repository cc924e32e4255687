"""Aster's perpetuals (quantity in base units), which speak the dialect of Binance USDT-M.

`public` reads market data; `venue` is the `Exchange` and `AccountReads` (`connect(key, env=...)`), with
what only this venue brings; `eip712` the V3 signatures; `endpoints` the addresses. The rest is in the
`usdm_` files beside this package.

Unverified, and kept behind settings or read leniently: how a crossing post-only order is refused, the sign
of commissions (`Settings.fees_paid_are_negative`), the testnet's stream host (`Endpoints.with_stream`), and
the path at which the right to trade is told.
"""

from api.venues.aster.eip712 import AgentKey
from api.venues.aster.endpoints import ENVIRONMENTS, Endpoints, endpoints, on_this_machine
from api.venues.aster.venue import CAPABILITIES, AsterTrading, connect
from api.venues.usdm_account import Settings

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "AgentKey",
    "AsterTrading",
    "Endpoints",
    "Settings",
    "connect",
    "endpoints",
    "on_this_machine",
]
