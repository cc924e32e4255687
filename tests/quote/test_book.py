"""The order book builder: continuity, the overlay of the best bid/ask stream, and what readers see."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.exchange import DepthView
from api.types import Book, InstrumentId, Level
from quote.book import BookBuilder, assembler
from tests.quote.frames import instrument

BIDS: tuple[Level, ...] = ((100, 5), (99, 6), (97, 7))
ASKS: tuple[Level, ...] = ((101, 1), (103, 2), (104, 3))


def synced(last_id: int = 10) -> BookBuilder:
    builder = BookBuilder(instrument())
    assert builder.snapshot(last_id, BIDS, ASKS, 1)
    return builder


def test_a_new_builder_knows_nothing_and_wants_a_snapshot() -> None:
    builder = BookBuilder(instrument())
    view: DepthView = builder
    assert (view.is_synced, builder.needs_snapshot, view.best_bid, view.best_ask) == (False, True, None, None)
    assert builder.lost_reason == "no snapshot yet"


def test_a_snapshot_gives_the_book_best_first() -> None:
    builder = synced()
    assert builder.book() == Book(InstrumentId("paper:BTC-USDT"), BIDS, ASKS, 0, 1, 10)
    assert not builder.needs_snapshot


def test_a_diff_sets_adds_and_removes_levels() -> None:
    builder = synced()
    assert builder.diff(11, 12, [(99, 0), (98, 4), (100, 9)], [(102, 8)], 7, 8)
    assert builder.book() == Book(
        InstrumentId("paper:BTC-USDT"),
        ((100, 9), (98, 4), (97, 7)),
        ((101, 1), (102, 8), (103, 2), (104, 3)),
        7,
        8,
        12,
    )
    assert builder.diffs_applied == 1


def test_diffs_before_the_snapshot_wait_and_those_it_covers_are_dropped() -> None:
    builder = BookBuilder(instrument())
    assert not builder.diff(5, 8, [(96, 1)], [], 1, 1)
    assert not builder.diff(9, 12, [(100, 4)], [], 2, 2)
    assert not builder.diff(13, 14, [(99, 3)], [], 3, 3)
    assert builder.snapshot(10, BIDS, ASKS, 4)
    assert builder.book().bids == ((100, 4), (99, 3), (97, 7))
    assert (builder.diffs_applied, builder.last_id, builder.resyncs) == (2, 14, 0)


def test_a_snapshot_older_than_the_first_waiting_diff_is_not_used() -> None:
    builder = BookBuilder(instrument())
    builder.diff(20, 22, [(100, 4)], [], 1, 1)
    assert not builder.snapshot(10, BIDS, ASKS, 2)
    assert builder.needs_snapshot
    assert builder.snapshot(21, BIDS, ASKS, 3)
    assert builder.last_id == 22


def test_a_snapshot_that_ends_right_before_the_first_waiting_diff_is_used() -> None:
    builder = BookBuilder(instrument())
    builder.diff(11, 12, [(100, 4)], [], 1, 1)
    assert builder.snapshot(10, BIDS, ASKS, 2)
    assert builder.book().bids[0] == (100, 4)


def test_a_gap_drops_the_book_and_the_next_snapshot_mends_it() -> None:
    builder = synced()
    assert not builder.diff(13, 15, [(98, 1)], [], 5, 5)
    assert not builder.is_synced
    assert builder.lost_reason == "gap: 2 updates missing after 10"
    assert builder.best_bid is None
    builder.diff(16, 17, [(97, 0)], [], 6, 6)
    assert builder.snapshot(14, BIDS, ASKS, 7)
    assert builder.book().bids == ((100, 5), (99, 6), (98, 1))
    assert (builder.last_id, builder.resyncs) == (17, 1)


def test_a_hole_among_waiting_diffs_needs_a_snapshot_from_after_it() -> None:
    builder = BookBuilder(instrument())
    builder.diff(11, 12, [], [(101, 7)], 1, 1)
    builder.diff(20, 21, [], [(101, 8)], 2, 2)
    assert not builder.snapshot(11, BIDS, ASKS, 3)
    assert builder.snapshot(20, BIDS, ASKS, 4)
    assert builder.best_ask == (101, 8)


def test_duplicates_and_old_diffs_change_nothing() -> None:
    builder = synced()
    assert builder.diff(11, 12, [(100, 1)], [], 1, 1)
    assert not builder.diff(11, 12, [(100, 9)], [], 2, 2)
    assert not builder.diff(3, 9, [(100, 9)], [], 2, 2)
    assert (builder.best_bid, builder.diffs_applied, builder.recv_ns) == ((100, 1), 1, 1)


def test_a_diff_that_begins_before_and_ends_after_the_book_is_applied() -> None:
    builder = synced()
    assert builder.diff(8, 11, [(100, 1)], [], 1, 1)
    assert builder.best_bid == (100, 1)


def test_a_crossed_book_is_dropped() -> None:
    builder = synced()
    assert not builder.diff(11, 11, [(101, 1)], [], 1, 1)
    assert (builder.is_synced, builder.lost_reason) == (False, "crossed book")


def test_a_crossed_snapshot_is_not_used() -> None:
    builder = BookBuilder(instrument())
    assert not builder.snapshot(5, [(101, 1)], [(101, 1)], 1)
    assert (builder.needs_snapshot, builder.lost_reason) == (True, "crossed snapshot")


def test_a_second_snapshot_counts_only_when_it_is_newer_than_the_book() -> None:
    builder = synced()
    builder.diff(11, 15, [(100, 1)], [], 1, 1)
    assert not builder.snapshot(12, BIDS, ASKS, 2)
    assert builder.best_bid == (100, 1)
    assert builder.snapshot(20, BIDS, ASKS, 3)
    assert (builder.best_bid, builder.last_id) == ((100, 5), 20)


def test_a_newer_touch_hides_better_levels_and_shows_its_own_size() -> None:
    builder = synced()
    assert builder.touch(11, 99, 2, 102, 4, 9)
    assert builder.book() == Book(
        InstrumentId("paper:BTC-USDT"), ((99, 2), (97, 7)), ((102, 4), (103, 2), (104, 3)), 0, 9, 11
    )
    assert (builder.best_bid, builder.best_ask) == ((99, 2), (102, 4))
    assert [builder.lots_at(True, ticks) for ticks in (100, 99, 98, 97)] == [0, 2, 0, 7]
    assert [builder.lots_at(False, ticks) for ticks in (101, 102, 103)] == [0, 4, 2]
    assert builder.walk(True, 98) == ((99, 2),)
    assert builder.walk(False, None) == ((102, 4), (103, 2), (104, 3))


def test_the_diff_that_reaches_the_touch_removes_the_overlay() -> None:
    builder = synced()
    builder.touch(12, 99, 2, 102, 4, 9)
    builder.diff(11, 11, [(97, 1)], [], 10, 10)
    assert builder.best_bid == (99, 2)
    builder.diff(12, 12, [(100, 0), (99, 2)], [(101, 0), (102, 4)], 11, 11)
    assert builder.book().bids == ((99, 2), (97, 1))
    assert (builder.ticker_checked, builder.ticker_mismatches, builder.seq) == (1, 0, 12)


def test_a_touch_that_is_not_newer_than_the_book_is_only_evidence() -> None:
    builder = synced()
    builder.diff(11, 15, [(100, 4)], [], 1, 1)
    assert not builder.touch(14, 90, 1, 120, 1, 2)
    assert not builder.touch(15, 100, 4, 101, 1, 2)
    assert not builder.touch(15, 100, 3, 101, 1, 2)
    assert (builder.ticker_checked, builder.ticker_mismatches) == (2, 1)
    assert builder.best_bid == (100, 4)


def test_touches_out_of_order_keep_the_newest() -> None:
    builder = synced()
    assert builder.touch(13, 99, 2, 101, 1, 2)
    assert not builder.touch(12, 98, 2, 101, 1, 3)
    assert builder.best_bid == (99, 2)


def test_a_touch_with_an_empty_side_shows_that_side_as_empty() -> None:
    builder = synced()
    assert builder.touch(11, 0, 0, 101, 1, 2)
    assert builder.book().bids == ()
    assert (builder.best_bid, builder.lots_at(True, 100), builder.walk(True, None)) == (None, 0, ())
    assert builder.best_ask == (101, 1)


def test_a_crossed_touch_drops_the_book() -> None:
    builder = synced()
    assert not builder.touch(11, 105, 1, 104, 1, 2)
    assert (builder.is_synced, builder.lost_reason) == (False, "crossed best bid and ask")


def test_a_touch_before_the_first_snapshot_is_ignored() -> None:
    builder = BookBuilder(instrument())
    assert not builder.touch(11, 100, 1, 101, 1, 2)
    assert builder.best_bid is None


def test_reset_forgets_the_market_but_keeps_the_counters() -> None:
    builder = synced()
    builder.diff(11, 11, [], [], 1, 1)
    builder.reset("the tape starts again")
    assert (builder.is_synced, builder.diffs_applied, builder.venue_ns) == (False, 1, 0)
    assert builder.snapshot(3, BIDS, ASKS, 1)
    assert builder.resyncs == 0


def test_an_assembled_book_is_like_any_other() -> None:
    made = assembler(Book)(InstrumentId("paper:BTC-USDT"), BIDS, ASKS, 1, 2, 3)
    plain = Book(InstrumentId("paper:BTC-USDT"), BIDS, ASKS, 1, 2, 3)
    assert type(made) is Book
    assert (made, hash(made), repr(made)) == (plain, hash(plain), repr(plain))
    with pytest.raises(FrozenInstanceError):
        made.seq = 4  # type: ignore[misc]


LEVELS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=8)
TOUCH = st.tuples(st.integers(1, 120), st.integers(0, 4), st.integers(1, 120), st.integers(0, 4))


@given(st.lists(st.tuples(LEVELS, LEVELS, st.none() | TOUCH, st.integers(1, 40)), max_size=12))
def test_what_is_read_is_always_what_a_naive_book_would_show(
    steps: list[tuple[list[Level], list[Level], tuple[int, int, int, int] | None, int]],
) -> None:
    """Bids live in 1..60, asks in 61..120; each way of reading agrees with sorting two dicts."""
    builder = BookBuilder(instrument())
    start = [(ticks, 1) for ticks in range(1, 61, 2)]
    bids = dict(start)
    asks = {ticks + 60: lots for ticks, lots in start}
    builder.snapshot(1, start, list(asks.items()), 0)
    number = 1
    for bid_levels, ask_levels, touch, depth in steps:
        number += 1
        shifted = [(ticks + 60, lots) for ticks, lots in ask_levels]
        assert builder.diff(number, number, bid_levels, shifted, number, number)
        for book, levels in ((bids, bid_levels), (asks, shifted)):
            for ticks, lots in levels:
                book[ticks] = lots
        shown_bids = sorted(((t, n) for t, n in bids.items() if n), reverse=True)
        shown_asks = sorted((t, n) for t, n in asks.items() if n)
        if touch is not None:
            bid, bid_lots, ask, ask_lots = touch
            if bid_lots and ask_lots and bid >= ask:
                continue
            builder.touch(number + 1, *touch, number)
            shown_bids = [(bid, bid_lots)] + [x for x in shown_bids if x[0] < bid] if bid_lots else []
            shown_asks = [(ask, ask_lots)] + [x for x in shown_asks if x[0] > ask] if ask_lots else []
        book_read = builder.book(depth)
        assert book_read.bids == tuple(shown_bids[:depth])
        assert book_read.asks == tuple(shown_asks[:depth])
        assert builder.walk(True, None) == tuple(shown_bids)
        assert builder.walk(False, None) == tuple(shown_asks)
        assert builder.walk(True, 30) == tuple(x for x in shown_bids if x[0] >= 30)
        assert builder.walk(False, 90) == tuple(x for x in shown_asks if x[0] <= 90)
        assert builder.best_bid == (shown_bids[0] if shown_bids else None)
        assert builder.best_ask == (shown_asks[0] if shown_asks else None)
        assert {t: builder.lots_at(True, t) for t in range(1, 121)} == {
            t: dict(shown_bids).get(t, 0) for t in range(1, 121)
        }
