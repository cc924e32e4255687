"""The budget of a venue's rate limits: windows, what is in flight, the share of cancels, and silence when
asked for.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.budget import Budget, Pool

S = 1_000_000_000
MINUTE = Pool("weight", 100, 60 * S, for_cancels=0.2)
ORDERS = Pool("orders", 10, 10 * S)


def test_the_share_of_cancels_is_left_to_them() -> None:
    budget = Budget([MINUTE])
    assert budget.take([("weight", 80)], 0) == 0.0
    assert budget.take([("weight", 1)], S) == 59.0
    assert budget.take([("weight", 20)], S, is_cancel=True) == 0.0
    assert budget.take([("weight", 1)], S, is_cancel=True) == 59.0


def test_a_new_window_begins_at_whole_multiples_and_keeps_what_flies() -> None:
    budget = Budget([MINUTE])
    budget.take([("weight", 70)], 59 * S)
    assert budget.take([("weight", 20)], 60 * S) > 0  # the 70 may be counted in the new minute
    budget.settle([("weight", 70)], [("weight", 5)], 61 * S)
    assert budget.take([("weight", 75)], 61 * S) == 0.0


def test_what_the_venue_counts_replaces_what_we_counted() -> None:
    budget = Budget([MINUTE, ORDERS])
    budget.take([("weight", 1), ("orders", 1)], 0)
    budget.settle([("weight", 1), ("orders", 1)], [("weight", 0)], 0)
    shown = {pool.name: (pool.used, pool.limit, pool.resets_s) for pool in budget.shown(S)}
    assert shown == {"weight": (0, 100, 59.0), "orders": (1, 10, 9.0)}


def test_all_costs_are_taken_or_none() -> None:
    budget = Budget([MINUTE, ORDERS])
    assert budget.take([("weight", 1), ("orders", 11)], 0) == 10.0
    assert [pool.used for pool in budget.shown(0)] == [0, 0]
    assert budget.take([("weight", 1), ("nothing of ours", 5)], 0) == 0.0


def test_nothing_leaves_while_the_venue_asked_for_silence_cancels_neither() -> None:
    budget = Budget([MINUTE])
    budget.block(5.0, "429", 0)
    budget.block(1.0, "429", 0)  # the longer one holds
    assert budget.take([("weight", 1)], 2 * S, is_cancel=True) == 3.0
    assert (budget.blocked_s(2 * S), budget.blocked_s(5 * S)) == (3.0, 0.0)
    assert budget.take([("weight", 1)], 5 * S) == 0.0


def test_a_pool_that_the_venue_calls_exhausted_is_so_until_its_window_ends() -> None:
    budget = Budget([MINUTE, ORDERS])
    assert budget.exhaust("orders", 3 * S) == 7.0
    assert budget.take([("orders", 1)], 4 * S) == 6.0
    assert budget.take([("weight", 1)], 4 * S) == 0.0
    assert budget.take([("orders", 1)], 10 * S) == 0.0
    assert budget.exhaust("unknown", 0) == 0.0


def test_new_limits_keep_the_counts_of_pools_that_stay() -> None:
    budget = Budget([MINUTE, ORDERS])
    budget.take([("weight", 50)], 0)
    budget.set_pools([Pool("weight", 60, 60 * S)])
    assert [(pool.name, pool.used, pool.limit) for pool in budget.shown(0)] == [("weight", 50, 60)]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 20)), max_size=60))
def test_never_more_than_the_limit_is_taken_in_one_window(asked: list[tuple[int, bool, int]]) -> None:
    budget = Budget([Pool("p", 30, 10 * S, for_cancels=0.3)])
    now = 0
    taken: dict[int, int] = {}
    for units, is_cancel, wait_s in asked:
        now += wait_s * S // 4
        if budget.take([("p", units)], now, is_cancel=is_cancel) == 0.0:
            budget.settle([("p", units)], [], now)
            window = now // (10 * S)
            taken[window] = taken.get(window, 0) + units
            assert taken[window] <= 30
