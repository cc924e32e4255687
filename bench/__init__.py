"""Benchmarks. `python -m bench [names]` runs them; each prints ratios against a limit or a peer of the same
run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    `ratio` is `value` over the value of `against`, measured in the same run; None where there is nothing to
    compare with.
    """

    bench: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""
    note: str = ""
