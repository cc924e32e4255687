"""Backpack, spot and perpetuals: one API, one account, two venue names (`backpack_spot`, `backpack_perp`).

Not registered in `api.venues.VENUES` as a venue to trade on yet. To get one:

    from api.venues.backpack import FileIds, connect, key_from_seed, pair

    key = key_from_seed(public_key_b64, seed_b64)
    spot = connect(key, product="spot", ids=FileIds(path))       # one product
    spot, perp = pair(key, ids=FileIds(path))                    # both, sharing budget, clock and client ids

Facts that shape it (docs.backpack.exchange, August 2026): requests are signed with Ed25519 over an
instruction and their sorted parameters; orders go over HTTP only; client ids are unsigned 32-bit numbers, so
ours are mapped by a durable table (`ids`); there is no amend, no dead-man's switch (a watchdog must stand in:
`Capabilities.dead_man` is False) and no testnet; an order can be asked for by its client id only while it
rests; there is no stream of balances. A post-only order that would take is accepted and expires at once.

Not verified against the live venue, each behind a setting or said where it is used: the largest batch
(`Settings.batch`, 1: not used), the unit of the fee rates (`Settings.fee_unit`, basis points), whether a
client id may come twice (never sent twice by us), the form of an error on the stream, that a subscription
works when nothing is answered to it within `Settings.settle_s`.
"""

from __future__ import annotations

from api.venues.backpack.endpoints import ENVIRONMENTS, Endpoints, endpoints, on_this_machine
from api.venues.backpack.ids import ClientIds, FileIds, MemoryIds
from api.venues.backpack.login import Settings
from api.venues.backpack.names import PERP, SPOT, Product
from api.venues.backpack.signing import key_from_seed
from api.venues.backpack.venue import BackpackTrading, connect, pair

__all__ = [
    "ENVIRONMENTS",
    "PERP",
    "SPOT",
    "BackpackTrading",
    "ClientIds",
    "Endpoints",
    "FileIds",
    "MemoryIds",
    "Product",
    "Settings",
    "connect",
    "endpoints",
    "key_from_seed",
    "on_this_machine",
    "pair",
]
