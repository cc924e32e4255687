"""Trading on Binance spot. Market data is `api.venues.binance_spot`'s.

`venue` is the `Exchange`; `session` the order thread, `http_orders` its way out over HTTP, `account` what
both share and the reads, `requests` and `messages` the pure translations, `errors` the table of codes,
`endpoints` the addresses.
"""

from api.venues.binance_spot_trading.account import Commission, Settings
from api.venues.binance_spot_trading.endpoints import ENVIRONMENTS, Endpoints, on_this_machine
from api.venues.binance_spot_trading.venue import CAPABILITIES, BinanceSpotTrading

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "BinanceSpotTrading",
    "Commission",
    "Endpoints",
    "Settings",
    "on_this_machine",
]
