"""Complete limits for one worker: what a person gave, and stated defaults for the rest. Pure.

Called when a worker is made or changed, by the desk and by direct runs. Defaults exist on paper and testnets
only: on live money a missing limit is refused by name (`api.risk.parse_limits` without a base).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from api.errors import BadInput, BadInputs
from api.risk import Limits, derive_limits, parse_limits
from api.types import Instrument
from strategies.base import Params, Strategy


def complete_limits(
    strategy: Strategy,
    params: Params,
    raw: Mapping[str, Any],
    *,
    instrument: Instrument,
    mid: Decimal,
    base_total: Decimal,
    quote_total: Decimal,
) -> tuple[Limits, tuple[str, ...]]:
    """Limits, and the names of those that were derived.

    Raises:
        BadInputs: the order size (given, or sized from the balance) is below the venue's minimum, or a limit
            is wrong.
    """
    quantity, orders = strategy.order_size(params)
    if quantity is None:
        share = Decimal(str(strategy.auto_share(params)))
        quantity = max(base_total * share, quote_total * share / mid)
        quantity = (quantity / instrument.lot).to_integral_value(rounding=ROUND_DOWN) * instrument.lot
    least = instrument.qty(instrument.minimum_lots(int(mid / instrument.tick)))
    if quantity < least:
        text = f"{quantity:f} {instrument.base} is below the venue's minimum; allowed: at least {least:f}"
        raise BadInputs((BadInput("params.quantity", text),))
    base = derive_limits(
        quantity=quantity,
        max_orders=orders,
        mid=mid,
        base_total=base_total,
        quote_total=quote_total,
        instrument=instrument,
    )
    limits = parse_limits(raw, base)
    given = {name for name, value in raw.items() if value is not None}
    return limits, tuple(name for name in limits.as_dict() if name not in given)
