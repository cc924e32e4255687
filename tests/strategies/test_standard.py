"""The standard maker's prices and sizes, with the vectors of the facts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import BadInputs
from api.types import Side, Targets
from strategies.base import State
from strategies.plan import Market, wishes
from strategies.standard import STRATEGY, StandardParams, auto_share, targets
from tests.makers import book, instrument


def state(
    bid: int = 9_999, ask: int = 10_001, base: float | None = 2.0, quote: float | None = 100_000.0
) -> State:
    return State(instrument(), book(bid, ask), 0, 0.0, base, quote)


def ladder(made: Targets, side: Side) -> list[str]:
    i = instrument()
    wished, _, _ = wishes(made.quotes, i, Market(9_999, 10_001))
    return [str(i.price(w.ticks)) for w in wished if w.side is side]


def test_vector_3_three_levels_round_away_from_the_market() -> None:
    made = targets(state(), StandardParams(spread=0.5, quantity=Decimal(1), max_orders=3))
    assert ladder(made, Side.BUY) == ["99.75", "99.73", "99.70"]
    assert ladder(made, Side.SELL) == ["100.25", "100.27", "100.30"]


def test_the_terms_of_every_quote_sum_to_its_price() -> None:
    for quote in targets(state(), StandardParams(spread=0.37, max_orders=5)).quotes:
        assert sum(value for _, value in quote.why) == pytest.approx(quote.price, rel=1e-12)


def test_auto_size_is_a_share_of_total_balance_per_order() -> None:
    params = StandardParams(spread=0.5, max_orders=10)
    assert auto_share(params) == 0.025
    quotes = targets(state(), params).quotes
    buy = next(q for q in quotes if q.side is Side.BUY)
    sell = next(q for q in quotes if q.side is Side.SELL)
    assert buy.qty == pytest.approx(100_000 * 0.025 / 99.75)
    assert sell.qty == pytest.approx(2.0 * 0.025)
    assert auto_share(StandardParams(max_orders=3)) == 0.05


def test_an_unknown_balance_silences_the_side_and_says_so() -> None:
    made = targets(state(base=None), StandardParams(spread=0.5))
    assert {q.side for q in made.quotes} == {Side.BUY}
    assert made.silent == ((Side.SELL, "the BTC balance is not known yet"),)


@pytest.mark.parametrize(
    "raw",
    [
        {"spread": 0},
        {"spread": -1},
        {"spread": "NaN"},
        {"spread": float("inf")},
        {"spread": 51},
        {"spread": True},
        {"spread": "wide"},
        {"spread": None},
        {"quantity": 0},
        {"quantity": "-1"},
        {"quantity": "NaN"},
        {"max_orders": 0},
        {"max_orders": 51},
        {"max_orders": 1.5},
        {"interval": 0},
        {"duration": -5},
        {"keep_bps": -1},
        {"sprad": 1},
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(raw: dict[str, Any]) -> None:
    with pytest.raises(BadInputs) as caught:
        STRATEGY.parse(raw)
    assert [e.field for e in caught.value.errors] == [f"params.{next(iter(raw))}"]
    assert caught.value.errors[0].message


def test_every_property_of_the_schema_has_unit_title_and_says_when_it_takes_effect() -> None:
    schema = STRATEGY.schema()
    assert set(schema["properties"]) == set(StandardParams.model_fields)
    for prop in schema["properties"].values():
        assert prop["unit"] and prop["title"] and prop["description"] and isinstance(prop["live"], bool)
        assert "anyOf" not in prop


@given(
    st.integers(2, 10**7),
    st.integers(1, 1000),
    st.floats(0.0001, 50),
    st.integers(1, 50),
)
def test_it_never_crosses_itself_or_the_market(bid: int, width: int, spread: float, orders: int) -> None:
    market = Market(bid, bid + width)
    seen = State(instrument(), book(bid, bid + width), 0, 0.0, 1e6, 1e12)
    made = targets(seen, StandardParams(spread=spread, quantity=Decimal(10**6), max_orders=orders))
    wished, _, _ = wishes(made.quotes, instrument(), market)
    buys = [w.ticks for w in wished if w.side is Side.BUY]
    sells = [w.ticks for w in wished if w.side is Side.SELL]
    assert all(t < market.best_ask for t in buys) and all(t > market.best_bid for t in sells)
    assert buys == sorted(set(buys), reverse=True) and sells == sorted(set(sells))
    if buys and sells:
        assert buys[0] < sells[0]
