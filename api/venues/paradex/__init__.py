"""Paradex perpetuals (`paradex`): a Starknet chain with a central book; every order carries a signature.

    key = ParadexKey(account_address, subkey, ENVIRONMENTS["testnet"].chain)
    exchange = connect(key, env="testnet", ids=store)
    exchange.connect(listener)

`public` reads market data (pure); `venue` is the `Exchange` with `AccountReads`; `session` the order thread,
`http_orders` the way out over HTTP and the keeper of clock and token, `account` what they share and the
reads, `tokens` the login, `requests` and `messages` the pure translations, `errors` the tables of codes,
`keys` signs over `stark` (the curve in plain Python: not constant-time), `derive` makes a Stark key of an
Ethereum one, `endpoints` are the addresses. Use a subkey: it trades and cannot withdraw.

Written from the documents as of August 2026. Not verified against the venue, and so said or set here:
whether a book's `seq_no` grows by exactly one (`public.Continuity`); the text of a refused post-only order
(`errors.refusal_of` looks for POST_ONLY); the texts of order errors over the WebSocket (`errors.code_in`
finds the names of HTTP's); whose side a maker's fill carries (`account` asks the order); the sign of a rebate
in `fee` and of a payment in funding (`Settings.funding_paid_sign`); whether the size of a modification counts
what is filled (`requests.amend`); whether cancel-on-disconnect covers orders over HTTP (none are sent that
way while it is armed); whether an amendment keeps the place in the queue (not relied on); the form of
`X-Ratelimit-Window` (not read: the limit's number tells the pool); the largest batch (not used).

Not offered: fill-or-kill (the venue has none), spot, options, isolated margin, RPI orders, vaults.
"""

from api.venues.paradex.account import Settings
from api.venues.paradex.endpoints import ENVIRONMENTS, Endpoints, on_this_machine
from api.venues.paradex.keys import ParadexKey
from api.venues.paradex.requests import ClientIds, MemoryClientIds
from api.venues.paradex.venue import CAPABILITIES, ParadexTrading, connect

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "ClientIds",
    "Endpoints",
    "MemoryClientIds",
    "ParadexKey",
    "ParadexTrading",
    "Settings",
    "connect",
    "on_this_machine",
]
