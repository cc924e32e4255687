"""Thalex: perpetuals and dated futures (`thalex`), over its JSON-RPC on a WebSocket.

Not registered in `api.venues.VENUES` as a venue to trade on yet. To get one:

    key = ThalexKey(key_id, pem)
    exchange = connect(key, env="testnet", ids=store)
    exchange.arm_dead_man(10)
    exchange.connect(listener)

`public` reads market data (pure); `venue` is the `Exchange` with `AccountReads`; `session` the connection
that carries orders and events, `side_line` another one for calls while that is not there, `account` what both
share and the reads, `requests` and `messages` the pure translations, `ids` the numbers of orders, `errors`
the table of codes, `keys` signs the login, `endpoints` are the addresses.

Facts that shape it (API description of 2026-05, client of 2026-01): client ids are unsigned 64-bit numbers
that live in one session, so a durable table maps ours (`ids.ClientIds`) and our text goes along as the label;
an order is looked for among the open ones and in the history, there is no request for one by client id; the
dead-man covers only orders sent after it was armed; books have no sequence numbers; an order's push tells a
fill sooner than the trade that carries its fee: fills are told from trades, and the report of the order tells
at once how much was filled.

Not verified against the venue, each behind a setting or said where it is used: rate limits
(`Settings.requests_per_s`) and what to wait after a refusal (`Settings.back_off_s`), how far a login's time
may be off (the clock is measured to the second, by the `Date` of an HTTP answer, there being no request for
the time), STP levels (`Settings.stp_level`: need to be enabled for the account; never told back by the
venue), fee rates (`Settings.fees`: the venue tells them only in trades) and the sign of fees (described as
paid), bounds of the dead-man's seconds, the longest label, whose direction a public trade gives, whether an
amendment of a post-only order stays post-only. The venue tells nothing of a key's rights.

Not offered: options, combinations, mass quotes, RFQs, conditional orders, bots.
"""

from api.venues.thalex.account import Settings
from api.venues.thalex.endpoints import ENVIRONMENTS, Endpoints, on_this_machine
from api.venues.thalex.ids import ClientIds, MemoryIds
from api.venues.thalex.keys import ThalexKey
from api.venues.thalex.venue import CAPABILITIES, ThalexTrading, connect

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENTS",
    "ClientIds",
    "Endpoints",
    "MemoryIds",
    "Settings",
    "ThalexKey",
    "ThalexTrading",
    "connect",
    "on_this_machine",
]
