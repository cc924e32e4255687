"""What Backpack's two products are called, here and there.

Hides nothing. Called by every file of this folder. One account, one key, one rate limit for both products;
two venue names, because a worker trades one kind of instrument.
"""

from __future__ import annotations

from typing import Literal

Product = Literal["spot", "perp"]

SPOT = "backpack_spot"
PERP = "backpack_perp"
VENUE_OF: dict[str, str] = {"spot": SPOT, "perp": PERP}
MARKET_TYPE: dict[str, str] = {"spot": "SPOT", "perp": "PERP"}
"""Their word in `marketType`; IPERP, DATED, PREDICTION and RFQ markets are not offered here."""
