"""Keep, replace, cancel: the plan as a pure function."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from api.types import Cancel, Command, Order, Place, Quote, Request, Side
from strategies.plan import Market, Wish, cancel_what_adds, plan, wishes
from tests.makers import instrument, order


def ids() -> Iterator[str]:
    n = 0
    while True:
        n += 1
        yield f"n{n}"


def made(
    wished: list[Wish],
    live: tuple[Order, ...],
    *,
    keep: float = 5.0,
    rising: bool = False,
    hold: Side | None = None,
) -> tuple[Command, ...]:
    fresh = ids()
    return plan(
        wished,
        live,
        instrument=instrument(),
        keep_ticks=keep,
        is_rising=rising,
        may_place=lambda side: side is not hold,
        next_id=lambda: next(fresh),
    ).commands


def wish(side: Side = Side.BUY, ticks: int = 9_990, lots: int = 100, level: int = 0) -> Wish:
    return Wish(side, level, ticks, lots, ())


def test_vector_4_an_order_within_the_tolerance_is_kept_and_beyond_it_replaced() -> None:
    keep_ticks = 10_000 * 5 / 10_000  # 5 bp of 100.00 at a tick of 0.01
    assert made([wish(ticks=10_004)], (order(ticks=10_000),), keep=keep_ticks) == ()
    commands = made([wish(ticks=10_006)], (order(ticks=10_000),), keep=keep_ticks)
    assert [type(c) for c in commands] == [Cancel, Place]


def test_nothing_rests_and_everything_is_placed() -> None:
    commands = made([wish(), wish(Side.SELL, 10_010)], ())
    assert [(c.side, c.ticks) for c in commands if isinstance(c, Place)] == [
        (Side.BUY, 9_990),
        (Side.SELL, 10_010),
    ]


def test_an_order_in_flight_is_waited_for() -> None:
    assert made([wish(ticks=9_000)], (order(request=Request.PLACE),)) == ()


def test_an_unknown_order_holds_its_place_and_is_not_doubled() -> None:
    assert made([wish(ticks=9_000)], (order(is_unknown=True),)) == ()


def test_a_mostly_filled_order_is_replaced() -> None:
    commands = made([wish()], (order(filled=60),))
    assert [type(c) for c in commands] == [Cancel, Place]
    assert made([wish()], (order(filled=40),)) == ()


def test_levels_that_are_not_wished_any_more_are_canceled() -> None:
    assert made([wish()], (order("a"), order("b", level=1))) == (
        Cancel("b", order().instrument, "not wished any more"),
    )


def test_the_retreating_side_goes_first() -> None:
    live = (order("b", Side.BUY, 9_990), order("s", Side.SELL, 10_010))
    wanted = [wish(Side.BUY, 10_090), wish(Side.SELL, 10_110)]
    rising = [c.client_id for c in made(wanted, live, rising=True) if isinstance(c, Cancel)]
    falling = [c.client_id for c in made(wanted, live, rising=False) if isinstance(c, Cancel)]
    assert (rising, falling) == (["s", "b"], ["b", "s"])


def test_no_third_order_is_placed_while_two_cancels_of_a_level_are_under_way() -> None:
    live = (order("a", request=Request.CANCEL), order("b", ticks=9_000))
    assert [type(c) for c in made([wish()], live)] == [Cancel]


def test_a_replacement_waits_while_it_would_meet_an_order_of_ours_that_is_being_canceled() -> None:
    live = (order("old", Side.SELL, 10_010, request=Request.CANCEL),)
    assert made([wish(Side.BUY, 10_020)], live) == ()
    assert [type(c) for c in made([wish(Side.BUY, 10_009)], live)] == [Place]


def test_a_side_on_hold_is_still_canceled_when_wrong() -> None:
    assert [type(c) for c in made([wish()], (order(ticks=9_000),), hold=Side.BUY)] == [Cancel]


def test_a_quote_that_would_meet_another_worker_is_clamped_and_says_so() -> None:
    quotes = (Quote(Side.BUY, 0, 99.98, 1.0, (("mid", 99.98),)),)
    wished, lost, notes = wishes(quotes, instrument(), Market(9_990, 10_001, others_ask=9_995))
    assert [w.ticks for w in wished] == [9_994] and lost == []
    assert wished[0].why[-1][0] == "own other worker" and "another worker" in notes[0]


def test_a_size_below_the_minimum_silences_the_side_with_the_figures() -> None:
    quotes = (Quote(Side.BUY, 0, 99.98, 0.00001, ()),)
    _, lost, _ = wishes(quotes, instrument(), Market(9_990, 10_001))
    assert lost[0][0] is Side.BUY and "minimum" in lost[0][1]


def test_pause_keeps_what_reduces_the_position_and_nothing_more() -> None:
    live = (order("b"), order("s0", Side.SELL, 10_010, 100), order("s1", Side.SELL, 10_020, 100, level=1))
    canceled = {c.client_id for c in cancel_what_adds(live, 150, "paused")}
    assert canceled == {"b", "s1"}
    assert {c.client_id for c in cancel_what_adds(live, 0, "paused")} == {"b", "s0", "s1"}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(9_900, 9_999), st.integers(1, 500)), max_size=5),
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.integers(9_900, 9_999),
            st.integers(1, 500),
            st.sampled_from([None, *Request]),
        ),
        max_size=8,
    ),
)
def test_after_the_plan_each_wished_level_has_an_order_or_a_reason_to_wait(
    wanted: list[tuple[int, int, int]], resting: list[tuple[int, int, int, Request | None]]
) -> None:
    wished = [wish(ticks=t, lots=n, level=level) for level, t, n in {w[0]: w for w in wanted}.values()]
    live = tuple(
        order(f"l{i}", ticks=t, lots=n, level=level, request=r) for i, (level, t, n, r) in enumerate(resting)
    )
    commands = made(wished, live)
    canceled = {c.client_id for c in commands if isinstance(c, Cancel)}
    assert all(o.request is None for o in live if o.client_id in canceled)
    assert len(canceled) == len([c for c in commands if isinstance(c, Cancel)])
    for w in wished:
        placed = [c for c in commands if isinstance(c, Place) and c.level == w.level]
        stays = [
            o
            for o in live
            if o.level == w.level and o.client_id not in canceled and o.request is not Request.CANCEL
        ]
        going = [
            o for o in live if o.level == w.level and (o.client_id in canceled or o.request is Request.CANCEL)
        ]
        assert len(placed) <= 1
        assert placed or stays or len(going) >= 2
        if placed:
            assert not stays and (placed[0].ticks, placed[0].lots) == (w.ticks, w.lots)
