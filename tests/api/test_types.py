"""Door one and door two between numbers of opinion and numbers of money."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.types import Approved, Cancel, Side
from tests.makers import BTC, D, instrument

SIDES = st.sampled_from([Side.BUY, Side.SELL])


def test_a_price_on_a_tick_stays_there_whatever_float_noise_says() -> None:
    tenth = instrument(tick="0.1")
    assert tenth.ticks(0.3, Side.BUY) == 3
    assert tenth.ticks(0.1 + 0.2, Side.SELL) == 3
    assert tenth.ticks(D("0.3"), Side.BUY) == 3


def test_a_price_between_ticks_rounds_away_from_the_market() -> None:
    i = instrument()
    assert i.ticks(99.735, Side.BUY) == 9973
    assert i.ticks(99.735, Side.SELL) == 9974
    assert i.ticks("99.735", Side.SELL) == 9974


@given(st.integers(1, 10**9), SIDES)
def test_ticks_survive_the_way_out_and_back(ticks: int, side: Side) -> None:
    i = instrument()
    assert i.ticks(i.price(ticks), side) == ticks
    assert i.ticks(float(i.price(ticks)), side) == ticks


@given(st.floats(0.01, 1e6, allow_nan=False), SIDES)
def test_rounding_never_makes_a_quote_more_aggressive(price: float, side: Side) -> None:
    i = instrument()
    rounded = float(i.price(i.ticks(price, side)))
    slack = 0.01 * 2e-6 + price * 1e-12
    assert (price - rounded) * side.sign >= -slack


@given(st.floats(0, 1e4, allow_nan=False))
def test_lots_never_exceed_the_quantity(qty: float) -> None:
    i = instrument()
    assert i.lots(qty) * 0.00001 <= qty + 0.00001 * 2e-6 + qty * 1e-12


def test_a_price_that_is_not_a_number_raises() -> None:
    with pytest.raises(ValueError):
        instrument().ticks(math.nan, Side.BUY)
    with pytest.raises(ValueError):
        instrument().ticks(Decimal("Infinity"), Side.BUY)


def test_the_minimum_meets_quantity_and_value() -> None:
    i = instrument(min_qty="0.001", min_notional="5")
    assert i.minimum_lots(10_000_000) == 100  # 0.001 base at 100000 is worth 100
    assert i.minimum_lots(100) == 500_000  # 5 quote at 1.00


def test_only_the_risk_gate_can_approve() -> None:
    with pytest.raises(PermissionError):
        Approved(Cancel("a", BTC), "w1", object())
