"""The order table and one worker's orders, under every order of news."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.orders import NEXT, IllegalMove, OwnOrders
from api.types import Answered, Cancel, Outcome, Request, Side, Status
from tests.makers import BTC, fill, place, report


def orders(*placed: str) -> OwnOrders:
    own = OwnOrders(BTC)
    for client_id in placed:
        own.placing(place(client_id), 1)
    return own


def answered(request: Request, outcome: Outcome, error: str = "", client_id: str = "a") -> Answered:
    return Answered(
        2, client_id, BTC, request, outcome, "v" if outcome is Outcome.ACCEPTED else None, error, "said so"
    )


def test_a_place_that_is_accepted_is_open() -> None:
    own = orders("a")
    own.answered(answered(Request.PLACE, Outcome.ACCEPTED))
    assert (own["a"].status, own["a"].request) == (Status.OPEN, None)


def test_a_fill_after_a_cancel_still_moves_the_position() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN), 2)
    own.heard(report(status=Status.CANCELED), 3)
    assert own.filled(fill(lots=40), 4)
    assert own.position_lots == 40
    assert own["a"].status is Status.CANCELED
    assert own.open_lots(Side.BUY) == 0


def test_a_fill_counts_once_whoever_tells_it() -> None:
    own = orders("a")
    assert own.filled(fill(), 2) and not own.filled(fill(), 3)
    assert (own.position_lots, own.duplicates) == (10, 1)


def test_a_fill_before_the_answer_opens_the_order() -> None:
    own = orders("a")
    own.filled(fill(lots=10), 2)
    assert (own["a"].status, own["a"].open_lots) == (Status.OPEN, 90)


def test_the_last_fill_finishes_the_order() -> None:
    own = orders("a")
    own.filled(fill(lots=100), 2)
    assert own["a"].status is Status.FILLED and own.live_count == 0


def test_an_unknown_outcome_keeps_its_exposure_until_the_venue_speaks() -> None:
    own = orders("a")
    own.answered(answered(Request.PLACE, Outcome.UNKNOWN))
    assert own["a"].is_unknown and own.open_lots(Side.BUY) == 100 and own.unknown_count == 1
    own.heard(report(status=Status.CANCELED), 9)
    assert own.open_lots(Side.BUY) == 0 and own.unknown_count == 0


def test_a_refused_place_is_over_and_a_late_sight_of_it_brings_it_back() -> None:
    own = orders("a")
    own.answered(answered(Request.PLACE, Outcome.REJECTED, "WouldCross"))
    assert own["a"].status is Status.REJECTED and own.live_count == 0
    own.heard(report(status=Status.OPEN), 9)
    assert own["a"].status is Status.OPEN and own.live_count == 1


def test_a_refused_cancel_is_doubt_and_not_proof() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN), 2)
    own.asking(Cancel("a", BTC), 3)
    own.answered(answered(Request.CANCEL, Outcome.REJECTED, "UnknownOrder"))
    assert own["a"].is_live and own["a"].is_unknown and own["a"].request is None


def test_an_accepted_cancel_ends_the_order() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN), 2)
    own.asking(Cancel("a", BTC), 3)
    own.answered(answered(Request.CANCEL, Outcome.ACCEPTED))
    assert own["a"].status is Status.CANCELED


def test_a_cancel_that_never_left_can_be_asked_again() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN), 2)
    own.asking(Cancel("a", BTC), 3)
    own.answered(answered(Request.CANCEL, Outcome.RATE_LIMITED))
    own.asking(Cancel("a", BTC), 5)
    assert own["a"].request is Request.CANCEL


def test_an_illegal_move_of_ours_raises_and_changes_nothing() -> None:
    own = orders("a")
    before = own["a"]
    with pytest.raises(IllegalMove):
        own.placing(place("a"), 3)
    with pytest.raises(IllegalMove):
        own.asking(Cancel("nobody", BTC), 3)
    assert own["a"] is before and own.sent == 1


def test_an_impossible_message_is_counted_and_changes_nothing() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN), 2)
    before = own["a"]
    own.heard(report(status=Status.REJECTED), 3)
    assert own["a"] == before and own.impossible == 1


def test_a_cumulative_figure_without_its_fill_is_noticed() -> None:
    own = orders("a")
    own.heard(report(status=Status.OPEN, filled=30), 2)
    assert own.short_of_fills() == ("a",)
    own.filled(fill(lots=30), 3)
    assert own.short_of_fills() == ()


def test_every_final_status_stays_final_but_for_what_the_venue_proves() -> None:
    for (was, _), becomes in NEXT.items():
        if was.is_final and not becomes.is_final:
            assert was is Status.REJECTED  # only an order we believed refused may come back


NEWS = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(0, 9)),
        st.tuples(st.just("report"), st.sampled_from(list(Status))),
        st.tuples(st.just("answer"), st.sampled_from([(r, o) for r in Request for o in Outcome])),
    ),
    max_size=30,
)


@given(NEWS)
def test_in_any_order_of_news_the_position_is_the_sum_of_distinct_fills(
    news: list[tuple[str, object]],
) -> None:
    own = orders("a")
    seen: set[int] = set()
    for kind, what in news:
        if kind == "fill":
            assert isinstance(what, int)
            own.filled(fill(f"t{what}", lots=what + 1), 3)
            seen.add(what)
        elif kind == "report":
            assert isinstance(what, Status)
            own.heard(report(status=what), 3)
        else:
            assert isinstance(what, tuple)
            own.answered(answered(what[0], what[1]))
        assert own.position_lots == sum(n + 1 for n in seen)
        order = own["a"]
        assert (order.client_id in {o.client_id for o in own.live()}) == order.is_live
        assert own.open_lots(Side.BUY) == (order.open_lots if order.is_live else 0)
        if order.status.is_final:
            assert not order.is_unknown and order.request is None
