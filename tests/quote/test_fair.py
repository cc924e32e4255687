"""Opinions about the price."""

from __future__ import annotations

import pytest

from api.types import Book, Side
from quote.fair import Source, depth_mid, depth_vwap, microprice, mid, reference
from tests.quote.frames import instrument

BTC = instrument()
S = 1_000_000_000


def book(bids: tuple[tuple[int, int], ...], asks: tuple[tuple[int, int], ...]) -> Book:
    return Book(BTC.id, bids, asks, 0, 0, 1)


FULL = book(((10_000, 100_000), (9_990, 300_000)), ((10_010, 300_000), (10_030, 100_000)))


def test_the_mid_lies_half_way() -> None:
    assert mid(BTC, FULL) == pytest.approx(100.05)


def test_the_microprice_leans_to_the_thin_side() -> None:
    assert microprice(BTC, FULL) == pytest.approx((100.10 * 1 + 100.00 * 3) / 4)


def test_a_one_sided_book_has_no_opinion() -> None:
    half = book((), ((10_010, 1),))
    assert (mid(BTC, half), microprice(BTC, half), depth_mid(BTC, half, 0.1)) == (None, None, None)


def test_depth_is_paid_level_by_level() -> None:
    assert depth_vwap(BTC, FULL, Side.BUY, 3.5) == pytest.approx((100.10 * 3 + 100.30 * 0.5) / 3.5)
    assert depth_vwap(BTC, FULL, Side.SELL, 2.0) == pytest.approx((100.00 + 99.90) / 2)
    assert depth_mid(BTC, FULL, 1.0) == pytest.approx(100.05)


@pytest.mark.parametrize("qty", [4.1, 0.0, -1.0, float("nan")])
def test_more_than_the_book_holds_or_nothing_has_no_price(qty: float) -> None:
    assert depth_vwap(BTC, FULL, Side.BUY, qty) is None


def test_a_reference_is_the_weighted_mean_of_what_is_fresh() -> None:
    found = reference(
        [
            Source("a", 100.0, 9 * S, 3.0),
            Source("b", 104.0, 10 * S, 1.0),
            Source("old", 90.0, 1 * S),
            Source("mute", None, 10 * S),
            Source("idle", 100.0, 10 * S, 0.0),
            Source("ahead", 100.0, 99 * S),
        ],
        10 * S,
        max_age_s=2.0,
    )
    assert found is not None
    assert (found.price, found.used, found.age_s) == (101.0, ("a", "b"), 1.0)
    assert [name for name, _ in found.left_out] == ["old", "mute", "idle", "ahead"]
    assert found.left_out[0][1] == "9.0 s old, allowed are 2 s"


def test_a_source_far_from_the_others_is_left_out() -> None:
    sources = [Source("a", 100.0, 0), Source("b", 100.1, 0), Source("wild", 120.0, 0)]
    found = reference(sources, 0, max_age_s=1.0, max_apart=0.01)
    assert found is not None
    assert found.used == ("a", "b")
    assert found.price == pytest.approx(100.05)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_too_few_sources_give_no_reference(least: int) -> None:
    found = reference([Source("a", 1.0, 0), Source("b", 1.0, 0)], 0, max_age_s=1.0, least=least)
    assert (found is None) == (least == 3)


def test_no_source_at_all_gives_no_reference() -> None:
    assert reference([], 0, max_age_s=1.0, max_apart=0.1) is None
