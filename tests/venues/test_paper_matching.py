"""One paper market: queue position, fills by tape and by book, takers, self-trade modes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from api.types import Side, Status
from api.venues.paper.account import PaperOrder
from api.venues.paper.matching import NETTING_NS, PaperMarket
from tests.conformance.market import HandBook, printed, terms

BUY, SELL = Side.BUY, Side.SELL
BIDS = {10_000: 100, 9_999: 50, 9_998: 70}
ASKS = {10_010: 40, 10_011: 60, 10_013: 80}


class Bench:
    """A market, its book, and what it told: fills as (id, ticks, lots, maker or taker), ends as (id,
    status)."""

    def __init__(self, mode: str = "EXPIRE_TAKER") -> None:
        self.now_ns = 0
        self.fills: list[tuple[str, int, int, str]] = []
        self.ends: list[tuple[str, Status]] = []
        self.view = HandBook(terms())
        self.market = PaperMarket(self.view.instrument, self, mode)
        self.book(BIDS, ASKS)

    def filled(self, order: PaperOrder, ticks: int, lots: int, is_maker: bool, at_ns: int) -> None:
        order.filled += lots
        if not order.open:
            order.status = Status.FILLED
        self.fills.append((order.client_id, ticks, lots, "maker" if is_maker else "taker"))

    def ended(self, order: PaperOrder, status: Status, reason: str, at_ns: int) -> None:
        order.status = status
        self.ends.append((order.client_id, status))

    def book(self, bids: dict[int, int], asks: dict[int, int], after_ns: int = 1_000) -> None:
        self.now_ns += after_ns
        self.view.set(bids, asks)
        self.market.on_book(self.view, self.now_ns)

    def bid(self, ticks: int, lots: int, after_ns: int = 1_000) -> None:
        """The bid at one price has this size from now on."""
        self.book({**self.view.bids, ticks: lots}, self.view.asks, after_ns)

    def trade(self, side: Side, ticks: int, lots: int, after_ns: int = 1_000) -> None:
        self.now_ns += after_ns
        self.market.on_trade(printed(side, ticks, lots, self.now_ns).trade, self.now_ns)

    def order(self, name: str, side: Side, ticks: int, lots: int, account: str = "a") -> PaperOrder:
        return PaperOrder(account, self.view.instrument, name, "1-1", side, ticks, lots, False, self.now_ns)

    def rest(self, name: str, side: Side, ticks: int, lots: int, account: str = "a") -> PaperOrder:
        order = self.order(name, side, ticks, lots, account)
        self.market.rest(order, self.now_ns)
        return order

    def take(self, name: str, side: Side, ticks: int, lots: int, account: str = "a") -> PaperOrder:
        order = self.order(name, side, ticks, lots, account)
        self.market.take(order, self.now_ns)
        return order


# ---------------------------------------------------------------------------------------- the queue


def test_an_order_stands_behind_the_displayed_size() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    assert bench.market.queue_ahead(order) == 100


def test_a_trade_takes_what_is_ahead_first_and_then_fills_partially() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.trade(SELL, 10_000, 60)
    assert (bench.fills, order.ahead) == ([], 40)
    bench.trade(SELL, 10_000, 44)
    assert bench.fills == [("x", 10_000, 4, "maker")]
    bench.trade(SELL, 10_000, 100)
    assert bench.fills[1:] == [("x", 10_000, 6, "maker")]
    assert bench.market.queue_ahead(order) is None


def test_what_is_added_later_stands_behind() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 500)
    assert order.ahead == 100


def test_cancels_of_others_shrink_the_queue_in_proportion() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 400)  # 100 ahead, 300 behind
    bench.bid(10_000, 200)  # half of everything leaves
    assert order.ahead == 50


def test_rounding_of_the_proportion_is_against_us() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 300)
    bench.bid(10_000, 299)  # a third of a lot
    assert order.ahead == 100


def test_never_more_is_ahead_than_is_displayed() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 7)
    assert order.ahead == 7
    bench.bid(10_000, 0)
    assert order.ahead == 0


def test_a_trade_followed_by_its_decrease_counts_once() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 200)
    bench.trade(SELL, 10_000, 40)
    assert order.ahead == 60
    bench.bid(10_000, 160, after_ns=100_000_000)  # the diff of the same execution
    assert order.ahead == 60
    bench.bid(10_000, 80)  # now others cancel half
    assert order.ahead == 30


def test_a_decrease_followed_by_its_trade_counts_once() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 200)
    bench.bid(10_000, 160)  # the touch tells first: taken for cancels
    assert order.ahead == 80
    bench.trade(SELL, 10_000, 40)
    assert order.ahead == 60
    bench.bid(10_000, 80)
    assert order.ahead == 30


def test_a_swept_level_is_put_back_when_its_trades_come() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.book({9_999: 50}, ASKS)  # the touch says it is gone
    assert order.ahead == 0
    bench.trade(SELL, 10_000, 60)
    assert (bench.fills, order.ahead) == ([], 0)  # 60 of the 100 that were ahead; no more than is displayed
    bench.trade(SELL, 10_000, 45)
    assert bench.fills == [("x", 10_000, 5, "maker")]


@pytest.mark.parametrize("is_book_first", [True, False])
def test_a_sweep_that_rests_behind_us_gives_only_what_it_left_over(is_book_first: bool) -> None:
    bench = Bench()
    bench.book({10_000: 5, 9_999: 50}, ASKS)
    bench.rest("mine", BUY, 10_000, 10)

    def told_by_book() -> None:  # a sell of 7: 5 traded, 2 now rest as an ask at our price
        bench.book({9_999: 50}, {10_000: 2, **ASKS})

    if is_book_first:
        told_by_book()
        bench.trade(SELL, 10_000, 5)
    else:
        bench.trade(SELL, 10_000, 5)
        told_by_book()
    assert sum(lots for _, _, lots, _ in bench.fills) == 2


def test_an_old_trade_does_not_explain_a_decrease() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 200)
    bench.trade(SELL, 10_000, 40)
    bench.bid(10_000, 160, after_ns=NETTING_NS + 1)
    assert order.ahead == 48


def test_an_old_decrease_is_not_put_back() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(10_000, 50)
    bench.trade(SELL, 10_000, 20, after_ns=NETTING_NS + 1)
    assert order.ahead == 30


def test_size_at_the_price_of_others_does_not_move_us() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.bid(9_999, 0)
    bench.trade(SELL, 10_001, 500)
    bench.trade(BUY, 10_010, 500)
    assert (bench.fills, order.ahead) == ([], 100)


def test_our_orders_at_one_price_share_a_trade_by_arrival() -> None:
    bench = Bench()
    bench.rest("first", BUY, 10_000, 10)
    bench.bid(10_000, 120)
    second = bench.rest("second", BUY, 10_000, 10)
    assert bench.market.queue_ahead(second) == 130
    bench.trade(SELL, 10_000, 115)  # 100 ahead, 10 for the first, 5 of the 20 between
    assert bench.fills == [("first", 10_000, 10, "maker")]
    assert second.ahead == 15
    bench.trade(SELL, 10_000, 18)
    assert bench.fills[1:] == [("second", 10_000, 3, "maker")]


# ---------------------------------------------------------------------------------------- through and across


def test_a_trade_through_our_price_fills_us_at_our_price_up_to_its_size() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.trade(SELL, 9_997, 4)
    assert (bench.fills, order.ahead) == ([("x", 10_000, 4, "maker")], 0)


def test_one_trade_is_given_out_once_best_price_first() -> None:
    bench = Bench()
    bench.rest("low", BUY, 9_999, 10)
    bench.rest("high", BUY, 10_000, 10)
    bench.rest("at", BUY, 9_998, 10)
    bench.trade(SELL, 9_998, 15)
    assert bench.fills == [("high", 10_000, 10, "maker"), ("low", 9_999, 5, "maker")]


def test_the_mirror_for_asks() -> None:
    bench = Bench()
    bench.rest("x", SELL, 10_010, 10)
    bench.trade(BUY, 10_010, 45)
    bench.trade(BUY, 10_020, 3)
    assert bench.fills == [("x", 10_010, 5, "maker"), ("x", 10_010, 3, "maker")]


def test_a_trade_of_the_other_side_never_fills() -> None:
    bench = Bench()
    bench.rest("x", BUY, 10_000, 10)
    bench.trade(BUY, 9_000, 1_000)
    assert bench.fills == []


def test_a_book_that_crosses_us_fills_at_our_price_up_to_what_it_displays() -> None:
    bench = Bench()
    bench.rest("x", BUY, 10_000, 10)
    bench.book({9_990: 5}, {9_999: 4, 10_000: 3, 10_001: 9})
    assert bench.fills == [("x", 10_000, 4, "maker"), ("x", 10_000, 3, "maker")]


def test_a_crossing_book_that_does_not_change_gives_nothing_twice() -> None:
    bench = Bench()
    bench.rest("x", BUY, 10_000, 10)
    for _ in range(3):
        bench.book({9_990: 5}, {10_000: 4, 10_001: 9})
    assert bench.fills == [("x", 10_000, 4, "maker")]
    bench.book({9_990: 5}, {10_000: 6, 10_001: 9})
    assert bench.fills[1:] == [("x", 10_000, 2, "maker")]


def test_a_view_that_is_itself_crossed_fills_nobody() -> None:
    bench = Bench()
    bench.rest("x", BUY, 10_000, 10)
    bench.book({10_005: 5}, {10_000: 4})
    assert bench.fills == []


def test_after_a_lost_book_the_queue_is_taken_as_found() -> None:
    bench = Bench()
    order = bench.rest("x", BUY, 10_000, 10)
    bench.view.is_synced = False
    bench.market.on_book(bench.view, bench.now_ns)
    assert bench.market.view is None
    bench.book({10_000: 30}, ASKS)
    assert order.ahead == 30
    bench.bid(10_000, 500)
    assert order.ahead == 30


# ---------------------------------------------------------------------------------------- takers


def test_a_taker_walks_the_book() -> None:
    bench = Bench()
    order = bench.take("t", BUY, 10_011, 70)
    assert bench.fills == [("t", 10_010, 40, "taker"), ("t", 10_011, 30, "taker")]
    assert order.status is Status.FILLED


def test_what_a_taker_ate_cannot_be_eaten_twice() -> None:
    bench = Bench()
    bench.take("a", BUY, 10_010, 30)
    bench.take("b", BUY, 10_010, 30)
    assert bench.fills == [("a", 10_010, 30, "taker"), ("b", 10_010, 10, "taker")]
    bench.book(BIDS, ASKS)
    bench.take("c", BUY, 10_010, 30)
    assert bench.fills[2:] == []


def test_only_new_size_at_an_eaten_level_can_be_taken() -> None:
    bench = Bench()
    bench.take("a", BUY, 10_010, 40)
    bench.book(BIDS, {**ASKS, 10_010: 25})  # others took or cancelled 15 of what we had taken
    bench.take("b", BUY, 10_010, 40)
    assert bench.fills[1:] == []
    bench.book(BIDS, {**ASKS, 10_010: 32})
    bench.take("c", BUY, 10_010, 40)
    assert bench.fills[1:] == [("c", 10_010, 7, "taker")]


def test_an_eaten_level_that_vanished_is_new_when_it_returns() -> None:
    bench = Bench()
    bench.take("a", BUY, 10_010, 40)
    bench.book(BIDS, {10_011: 60})
    bench.book(BIDS, ASKS)
    bench.take("b", BUY, 10_010, 40)
    assert bench.fills[1:] == [("b", 10_010, 40, "taker")]


def test_a_taker_meets_another_account_after_the_real_size_ahead_of_it() -> None:
    bench = Bench()
    bench.rest("m", SELL, 10_010, 10, account="b")
    bench.take("t", BUY, 10_010, 45)
    assert bench.fills == [("t", 10_010, 40, "taker"), ("m", 10_010, 5, "maker"), ("t", 10_010, 5, "taker")]


def test_a_better_price_of_another_account_comes_first() -> None:
    bench = Bench()
    bench.rest("m", SELL, 10_005, 10, account="b")
    bench.take("t", BUY, 10_010, 15)
    assert bench.fills == [("m", 10_005, 10, "maker"), ("t", 10_005, 10, "taker"), ("t", 10_010, 5, "taker")]


@pytest.mark.parametrize(
    ("mode", "fills", "ends"),
    [
        ("EXPIRE_TAKER", [("t", 10_010, 40, "taker")], [("t", Status.EXPIRED)]),
        (
            "EXPIRE_MAKER",
            [("t", 10_010, 40, "taker"), ("t", 10_011, 20, "taker")],
            [("m", Status.EXPIRED)],
        ),
        ("EXPIRE_BOTH", [("t", 10_010, 40, "taker")], [("m", Status.EXPIRED), ("t", Status.EXPIRED)]),
        (
            "NONE",
            [
                ("t", 10_010, 40, "taker"),
                ("m", 10_010, 10, "maker"),
                ("t", 10_010, 10, "taker"),
                ("t", 10_011, 10, "taker"),
            ],
            [],
        ),
    ],
)
def test_meeting_an_order_of_the_same_account_follows_the_mode(
    mode: str, fills: list[tuple[str, int, int, str]], ends: list[tuple[str, Status]]
) -> None:
    bench = Bench(mode)
    bench.rest("m", SELL, 10_010, 10)
    bench.take("t", BUY, 10_011, 60)
    assert (bench.fills, bench.ends) == (fills, ends)


def test_fill_or_kill_counts_what_self_trade_prevention_leaves() -> None:
    bench = Bench()
    bench.rest("m", SELL, 10_011, 10)
    assert bench.market.can_fill(bench.order("t", BUY, 10_013, 40))
    assert not bench.market.can_fill(bench.order("t", BUY, 10_013, 41 + 60))
    assert not bench.market.can_fill(bench.order("t", BUY, 10_013, 500))
    assert bench.market.can_fill(bench.order("t", BUY, 10_013, 190, account="other"))


def test_orders_are_kept_best_first_whatever_their_arrival() -> None:
    bench = Bench()
    for ticks in (9_990, 9_995, 9_992, 9_999):
        bench.rest(str(ticks), BUY, ticks, 1)
    bench.trade(SELL, 9_000, 4)
    assert [fill[0] for fill in bench.fills] == ["9999", "9995", "9992", "9990"]


def test_an_empty_market_has_nothing_to_take_or_cross() -> None:
    bench = Bench()
    bench.book({}, {})
    assert not bench.market.crosses(True, 1 << 40)
    bench.take("t", BUY, 1 << 40, 5)
    assert bench.fills == []


def test_fees_and_money_are_no_part_of_a_market() -> None:
    assert not any(isinstance(value, Decimal) for value in vars(Bench().market).values())
