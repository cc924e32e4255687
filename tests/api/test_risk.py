"""The risk gate against an oracle, and each rule by name."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import BadInputs
from api.risk import RULES, Gate, Limits, RiskView, check, derive_limits, parse_limits
from api.types import Amend, Cancel, Place, Side
from tests.makers import BTC, D, book, instrument, place

LIMITS = Limits(
    max_order_qty=D("0.01"),
    max_order_value=D(500),
    max_position=D("0.02"),
    price_collar_pct=D(5),
    max_book_age_s=D(2),
    max_messages_per_s=5,
    max_open_orders=4,
)
FINE = instrument(min_notional="0.001")


def view(**changes: object) -> RiskView:
    base = RiskView("w1", 1_000_000_000, book(), 0, 0, 0, 0, False, frozenset())
    return replace(base, **changes)  # type: ignore[arg-type]


def rules(
    commands: list[Place | Cancel | Amend], seen: RiskView | None = None, limits: Limits = LIMITS
) -> list[str]:
    _, refused = check(seen or view(), Gate(limits, FINE), commands)
    return [no.rule for no in refused]


def test_a_plain_order_passes_and_is_wrapped() -> None:
    approved, refused = check(view(), Gate(LIMITS, FINE), [place()])
    assert [a.command for a in approved] == [place()] and refused == ()


@pytest.mark.parametrize(
    ("command", "seen", "rule"),
    [
        (place(), view(book=None), "no-reference"),
        (place(), view(now_ns=3_000_000_000), "stale-book"),
        (place(), view(book=book(10_002, 10_001)), "crossed-book"),
        (place(ticks=9_400), view(), "price-collar"),
        (place(lots=0), view(), "below-minimum"),
        (place(lots=1_001), view(), "max-order-qty"),
        (place(lots=900), view(position_lots=1_500), "max-position"),
        (place(lots=900), view(open_buy_lots=1_200), "max-position"),
        (place(), view(live_orders=4), "max-open-orders"),
        (place(), view(in_flight=frozenset({(Side.BUY, 0, 9_990, 100)})), "duplicate"),
        (place(), view(is_reducing=True), "reduce-only"),
        (
            place(side=Side.SELL, ticks=10_010, lots=200),
            view(is_reducing=True, position_lots=100),
            "reduce-only",
        ),
    ],
)
def test_each_rule_refuses_by_name(command: Place, seen: RiskView, rule: str) -> None:
    assert rules([command], seen) == [rule]
    assert rule in RULES


def test_value_is_limited_apart_from_size() -> None:
    dear = replace(LIMITS, max_order_value=D("0.05"))
    assert rules([place()], None, dear) == ["max-order-value"]


def test_reducing_a_position_is_allowed_even_above_the_limit() -> None:
    assert rules([place(side=Side.SELL, ticks=10_010, lots=900)], view(position_lots=5_000)) == []


def test_opposite_working_orders_are_not_netted() -> None:
    assert rules([place(lots=900)], view(open_buy_lots=1_200, open_sell_lots=1_200)) == ["max-position"]


def test_approvals_count_against_the_next_command() -> None:
    many = [place(f"o{i}", lots=600 + i) for i in range(4)]
    assert rules(list(many)) == ["max-position"]


def test_the_message_rate_refuses_and_recovers_after_a_second() -> None:
    gate = Gate(replace(LIMITS, max_open_orders=100, max_position=D(1)), FINE)
    first = [place(f"o{i}", ticks=9_990 - i, lots=2) for i in range(6)]
    _, refused = check(view(), gate, first)
    assert [no.rule for no in refused] == ["message-rate"]
    _, refused = check(view(now_ns=2_000_000_000), gate, [place("z", lots=2)])
    assert refused == ()


def test_cancels_pass_whatever_is_wrong() -> None:
    worst = view(book=None, live_orders=99, is_reducing=True, position_lots=10**9)
    gate = Gate(LIMITS, FINE)
    approved, refused = check(worst, gate, [Cancel("a", BTC)] * 50)
    assert len(approved) == 50 and refused == ()


def test_an_amend_up_is_counted_like_a_new_order() -> None:
    seen = view(position_lots=1_500, open_buy_lots=100, amendable={"a": (Side.BUY, 100)})
    assert rules([Amend("a", BTC, 9_990, 900)], seen) == ["max-position"]
    assert rules([Amend("a", BTC, 9_990, 50)], seen) == []


ORDERS = st.lists(
    st.builds(
        lambda n, side, away, lots: place(
            f"c{n}", side, 9_999 - away if side is Side.BUY else 10_001 + away, lots, level=n
        ),
        st.integers(0, 10**6),
        st.sampled_from([Side.BUY, Side.SELL]),
        st.integers(0, 900),
        st.integers(0, 1_500),
    ),
    max_size=12,
    unique_by=lambda p: p.client_id,
)


@given(ORDERS, st.integers(-3_000, 3_000), st.integers(0, 3_000), st.integers(0, 3_000))
def test_no_approved_set_can_pass_the_position_limit(
    orders: list[Place], position: int, open_buys: int, open_sells: int
) -> None:
    limits = replace(LIMITS, max_open_orders=1000, max_messages_per_s=1000)
    seen = view(position_lots=position, open_buy_lots=open_buys, open_sell_lots=open_sells)
    approved, _ = check(seen, Gate(limits, FINE), list(orders))
    for side, open_lots in ((Side.BUY, open_buys), (Side.SELL, open_sells)):
        lots = sum(
            a.command.lots for a in approved if isinstance(a.command, Place) and a.command.side is side
        )
        if not lots:
            continue
        worst = position * side.sign + open_lots + lots
        reduces = position * side.sign < 0 and open_lots + lots <= abs(position)
        assert worst <= 2_000 or reduces
        assert abs(worst) <= 2_000 or reduces


def test_missing_limits_are_refused_by_name_when_there_is_no_base() -> None:
    with pytest.raises(BadInputs) as caught:
        parse_limits({"max_position": "1"}, None)
    assert {e.field for e in caught.value.errors} == {
        "limits.max_order_qty",
        "limits.max_order_value",
        "limits.price_collar_pct",
        "limits.max_book_age_s",
        "limits.max_messages_per_s",
        "limits.max_open_orders",
    }


@pytest.mark.parametrize("value", ["NaN", "-1", 0, "abc", True, "1e400", [], "Infinity"])
def test_a_limit_that_is_no_positive_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(BadInputs) as caught:
        parse_limits({"max_position": value}, LIMITS)
    assert [e.field for e in caught.value.errors] == ["limits.max_position"]


def test_an_unknown_limit_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(BadInputs) as caught:
        parse_limits({"max_loss": 5}, LIMITS)
    assert "max_position" in caught.value.errors[0].message


def test_derived_limits_cover_a_full_ladder_and_are_complete() -> None:
    made = derive_limits(
        quantity=D("0.05"),
        max_orders=3,
        mid=D(60_000),
        base_total=D(2),
        quote_total=D(100_000),
        instrument=instrument(),
    )
    assert made.max_order_qty == D("0.1") and made.max_position == D("0.6")
    assert made.max_order_value >= D("0.05") * 60_000
    assert all(Decimal(str(v)) > 0 for v in made.as_dict().values())
    assert parse_limits(made.as_dict(), None) == made
