"""Every strategy by name. A new one is one file beside this one and one line here."""

from __future__ import annotations

from strategies import standard
from strategies.base import Strategy

STRATEGIES: dict[str, Strategy] = {
    standard.STRATEGY.name: standard.STRATEGY,
}
