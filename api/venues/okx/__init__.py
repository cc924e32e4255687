"""OKX: spot (`okx_spot`) and linear swaps and dated futures (`okx_swap`), over API v5.

    key = OkxKey(api_key, secret, passphrase)
    exchange = connect("okx_swap", key, env="demo", ids=store)
    exchange.connect(listener)

`public` reads market data (pure); `venue` is the `Exchange` with `AccountReads`; `session` the order thread,
`http_orders` its way out over HTTP, `account` what both share, `reads` what an account tells, `requests`
and `messages` the pure translations, `errors` the table of codes, `keys` signs, `endpoints` are the
addresses.

Written from the API's documents as of 2026-07. Not verified against the venue, and so said or set here:
whether the first snapshot of a book is still pushed (either way is taken, `public.Continuity`); WebSocket
hosts of the regional sites (`endpoints.regional` asks for them); which field of a funding bill moves in
isolated margin (`messages.funding_of`); under which `instType` a margin account's spot fills are kept
after three days (`account.fetch_fills`); whether an amendment keeps the place in the queue
(`CAPABILITIES`: not relied on); limits of `config`, `trade-fee` and `bills` (`account.READ_LIMITS`).

Not offered: inverse contracts (their value is not price times size), options, algo orders, the VIP book
channels.
"""

from api.venues.okx.account import Settings
from api.venues.okx.endpoints import ENVIRONMENTS, Endpoints, on_this_machine, regional
from api.venues.okx.keys import OkxKey
from api.venues.okx.requests import ClientIds, MemoryClientIds
from api.venues.okx.venue import CAPABILITIES, OkxTrading, connect

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "ClientIds",
    "Endpoints",
    "MemoryClientIds",
    "OkxKey",
    "OkxTrading",
    "Settings",
    "connect",
    "on_this_machine",
    "regional",
]
