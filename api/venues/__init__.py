"""Which venues there are, without importing any of them.

Hides nothing but the addresses of the code: a venue is imported when it is first used (`load`). Called by
`run.py`, the Desk and the conformance tests. Adding a venue is one file and one line here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from api.errors import BadInput


@dataclass(frozen=True, slots=True)
class VenueEntry:
    """One venue: its title for a person, the environments it offers, the module that speaks to it.

    `trades`: orders can be sent there; False for a venue we only listen to.
    """

    name: str
    title: str
    envs: tuple[str, ...]
    module: str
    trades: bool


VENUES: dict[str, VenueEntry] = {
    entry.name: entry
    for entry in (
        VenueEntry("paper", "Paper", ("paper",), "api.venues.paper", True),
        VenueEntry("binance_spot", "Binance Spot", ("live",), "api.venues.binance_spot", False),
    )
}


def trading_venues() -> tuple[VenueEntry, ...]:
    """The venues a worker may name."""
    return tuple(entry for entry in VENUES.values() if entry.trades)


def load(name: str) -> ModuleType:
    """The module of one venue, imported now.

    Raises:
        BadInput: there is no such venue; the message lists those there are.
    """
    entry = VENUES.get(name)
    if entry is None:
        known = ", ".join(sorted(VENUES))
        raise BadInput("venue", f"there is no venue {name!r}; there are: {known}")
    return importlib.import_module(entry.module)
