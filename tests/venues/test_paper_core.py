"""The paper venue as a whole: delays, the order of things, money, limits, faults, what it remembers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from api.errors import BadInput
from api.types import (
    Amend,
    Answered,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Fill,
    FillHeard,
    LinkChanged,
    OrderHeard,
    Outcome,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.paper.core import PaperVenue
from api.venues.paper.faults import Fault, Faults
from api.venues.paper.instruments import needed, settled
from api.venues.paper.settings import PaperSettings
from tests.conformance.market import BTC, MS, HandBook, printed, terms
from tests.conformance.rigs import place

BUY, SELL = Side.BUY, Side.SELL
BIDS = {10_000: 500, 9_990: 200}
ASKS = {10_010: 300, 10_020: 300}


class Desk:
    """A venue with one market, two accounts, and everything they heard as (account, event)."""

    def __init__(
        self, *, maker: str = "0.0002", taker: str = "0.0005", faults: Faults | None = None, **settings: Any
    ) -> None:
        self.view = HandBook(terms(maker, taker))
        self.venue = PaperVenue(
            [self.view.instrument],
            {"USDT": Decimal(10_000), "BTC": Decimal(10)},
            PaperSettings(**settings),
            faults,
        )
        self.told: list[tuple[str, Event]] = []
        self.book(BIDS, ASKS, at_ms=0)

    def book(self, bids: dict[int, int], asks: dict[int, int], at_ms: float) -> None:
        self.to(at_ms)
        self.view.set(bids, asks)
        self.venue.on_book(self.view, int(at_ms * MS))

    def trade(self, side: Side, ticks: int, lots: int, at_ms: float) -> None:
        self.to(at_ms)
        self.venue.on_trade(printed(side, ticks, lots, int(at_ms * MS)).trade, int(at_ms * MS))

    def send(self, command: Command, at_ms: float, account: str = "a") -> None:
        self.to(at_ms)
        self.venue.submit(account, command, int(at_ms * MS))

    def to(self, at_ms: float) -> list[tuple[float, Event]]:
        """Go to that moment; everything heard so far as (ms, event)."""
        self.told += self.venue.advance(int(at_ms * MS))
        return [(event.at_ns / MS, event) for _, event in self.told]

    def heard(self, kind: type) -> list[Any]:
        return [event for _, event in self.told if isinstance(event, kind)]

    def amounts(self, account: str = "a") -> dict[str, tuple[Decimal, Decimal]]:
        return {b.asset: (b.free, b.locked) for b in self.venue.balances(account)}


# ------------------------------------------------------------------------------------ time


def test_a_command_takes_the_way_there_and_the_answer_the_way_back() -> None:
    desk = Desk(place_delay_ms=20, cancel_delay_ms=5, hear_delay_ms=10)
    desk.send(place("x"), 100)
    assert desk.to(129.9) == []
    told = desk.to(130)
    assert [(at, type(event)) for at, event in told] == [
        (130, Answered),
        (130, OrderHeard),
        (130, BalancesHeard),
    ]
    desk.send(Cancel("x", BTC), 200)
    assert [at for at, event in desk.to(300) if isinstance(event, Answered)] == [130, 215]


def test_an_order_is_matched_against_the_book_of_its_arrival() -> None:
    desk = Desk(place_delay_ms=20)
    desk.send(place("x", BUY, 10_005, 100), 100)
    desk.book({10_000: 500}, {10_005: 7}, 110)
    desk.to(200)
    (answer,) = desk.heard(Answered)
    assert answer.error == "WouldCross"


def test_a_trade_that_printed_before_the_arrival_does_not_fill() -> None:
    desk = Desk(place_delay_ms=20)
    desk.send(place("x", BUY, 9_990, 100), 100)
    desk.trade(SELL, 9_900, 999, 119)
    desk.trade(SELL, 9_900, 5, 121)
    desk.to(200)
    assert [event.fill.lots for event in desk.heard(FillHeard)] == [5]


def test_a_command_due_at_the_moment_of_a_trade_comes_first() -> None:
    desk = Desk(place_delay_ms=20)
    desk.send(place("x", BUY, 9_990, 100), 100)
    desk.trade(SELL, 9_900, 5, 120)
    desk.to(200)
    assert len(desk.heard(FillHeard)) == 1


def test_a_fast_cancel_does_not_overtake_the_order_it_cancels() -> None:
    desk = Desk(place_delay_ms=50, cancel_delay_ms=0)
    desk.send(place("x"), 100)
    desk.send(Cancel("x", BTC), 101)
    desk.to(300)
    assert [a.outcome for a in desk.heard(Answered)] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert desk.heard(OrderHeard)[-1].report.status is Status.CANCELED


def test_a_fast_cancel_of_an_older_order_overtakes_a_newer_order() -> None:
    desk = Desk(place_delay_ms=50, cancel_delay_ms=0, hear_delay_ms=0)
    desk.send(place("old"), 0)
    desk.send(place("new"), 100)
    desk.send(Cancel("old", BTC), 101)
    desk.to(300)
    assert [(a.client_id, a.at_ns / MS) for a in desk.heard(Answered)] == [
        ("old", 50),
        ("old", 101),
        ("new", 150),
    ]


def test_without_delays_everything_is_heard_at_its_moment_in_order() -> None:
    desk = Desk(place_delay_ms=0, cancel_delay_ms=0, hear_delay_ms=0)
    desk.send(place("x", BUY, 10_010, 400, post_only=False), 7)
    told = desk.to(7)
    assert [at for at, _ in told] == [7] * len(told)
    assert [type(event) for _, event in told] == [Answered, OrderHeard, FillHeard, OrderHeard, BalancesHeard]


def test_time_never_goes_back() -> None:
    desk = Desk()
    desk.to(100)
    desk.to(50)
    assert desk.venue.now_ns == 100 * MS


# ------------------------------------------------------------------------------------ money


def test_a_resting_buy_locks_its_value_and_the_worse_fee() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 100), 0)
    desk.to(100)
    locked = Decimal("9.99") * Decimal("1.0005")
    assert desk.amounts()["USDT"] == (Decimal(10_000) - locked, locked)


def test_a_resting_sell_locks_its_quantity() -> None:
    desk = Desk()
    desk.send(place("x", SELL, 10_010, 100), 0)
    desk.to(100)
    assert desk.amounts()["BTC"] == (Decimal("9.9"), Decimal("0.1"))


def test_nothing_stays_locked_when_nothing_rests() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 100), 0)
    desk.trade(SELL, 9_980, 33, 50)
    desk.send(Amend("x", BTC, 9_985, 80), 60)
    desk.send(Cancel("x", BTC), 100)
    desk.to(200)
    amounts = desk.amounts()
    value = Decimal("99.90") * Decimal("0.033")
    assert amounts["BTC"] == (Decimal("10.033"), Decimal(0))
    assert amounts["USDT"] == (Decimal(10_000) - value * Decimal("1.0002"), Decimal(0))


def test_a_rebate_is_credited() -> None:
    desk = Desk(maker="-0.0001")
    desk.send(place("x", SELL, 10_010, 100), 0)
    desk.trade(BUY, 10_020, 100, 50)
    desk.to(100)
    (heard,) = desk.heard(FillHeard)
    assert heard.fill.fee == Decimal("-0.001001")
    assert desk.amounts()["USDT"][0] == Decimal(10_000) + Decimal("10.01") + Decimal("0.001001")


def test_the_last_coin_can_be_spent_and_no_more() -> None:
    desk = Desk()
    all_in = int(Decimal(10_000) / (Decimal("0.0999") * Decimal("1.0005")))
    desk.send(place("x", BUY, 9_990, all_in + 1), 0)
    desk.send(place("y", BUY, 9_990, all_in), 0)
    desk.to(100)
    assert [a.error for a in desk.heard(Answered)] == ["InsufficientFunds", ""]
    desk.trade(SELL, 9_980, all_in, 200)
    desk.to(300)
    assert all(min(pair) >= 0 for pair in desk.amounts().values())


def test_an_amend_that_is_not_covered_changes_nothing() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 50_000), 0)
    desk.send(Amend("x", BTC, 9_990, 200_000), 50)
    desk.to(200)
    assert desk.heard(Answered)[-1].error == "InsufficientFunds"
    order = desk.venue.accounts["a"].open["x"]
    assert (order.ticks, order.lots) == (9_990, 50_000)
    assert needed(order.instrument, BUY, 9_990, 50_000)[1] == desk.amounts()["USDT"][1]


def test_accounts_have_their_own_money_and_trade_with_each_other() -> None:
    desk = Desk(place_delay_ms=0, hear_delay_ms=0)
    desk.send(place("m", SELL, 10_005, 100), 0, "b")
    desk.send(place("t", BUY, 10_005, 100, tif=Tif.IOC), 1, "a")
    desk.to(10)
    fills = {event.fill.account: event.fill for event in desk.heard(FillHeard)}
    assert (fills["a"].is_maker, fills["b"].is_maker) == (False, True)
    assert fills["a"].trade_id != fills["b"].trade_id
    assert desk.amounts("a")["BTC"][0] == Decimal("10.1")
    assert desk.amounts("b")["BTC"][0] == Decimal("9.9")


def test_balances_can_be_built_again_from_the_fills() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 100), 0)
    desk.send(place("y", SELL, 10_010, 100), 0)
    desk.trade(SELL, 9_980, 70, 50)
    desk.trade(BUY, 10_030, 100, 60)
    desk.to(100)
    fills: list[Fill] = [event.fill for event in desk.heard(FillHeard)]
    again = settled({"USDT": Decimal(10_000), "BTC": Decimal(10)}, fills, [desk.view.instrument])
    assert again == {asset: free + locked for asset, (free, locked) in desk.amounts().items()}


# ------------------------------------------------------------------------------------ limits and refusals


def test_the_rate_limit_refuses_orders_but_not_cancels() -> None:
    desk = Desk(rate_limit=2, rate_window_s=1.0, place_delay_ms=0, cancel_delay_ms=0, hear_delay_ms=0)
    for n in range(3):
        desk.send(place(f"x{n}", BUY, 9_990 - n), 100)
    desk.send(Cancel("x0", BTC), 100)
    desk.to(100)
    answers = desk.heard(Answered)
    assert [a.outcome for a in answers] == [
        Outcome.ACCEPTED,
        Outcome.ACCEPTED,
        Outcome.RATE_LIMITED,
        Outcome.ACCEPTED,
    ]
    assert (answers[2].error, answers[2].retry_after_s) == ("RateLimited", 0.9)
    desk.send(place("x3"), 1_000)
    desk.to(1_000)
    assert desk.heard(Answered)[-1].outcome is Outcome.ACCEPTED


def test_no_more_orders_rest_than_the_venue_allows() -> None:
    desk = Desk(max_open_orders=2)
    for n in range(3):
        desk.send(place(f"x{n}", BUY, 9_990 - n), n)
    desk.to(100)
    assert [a.error for a in desk.heard(Answered)] == ["", "", "Rejected"]


def test_an_amend_below_what_is_filled_is_refused() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 100), 0)
    desk.trade(SELL, 9_980, 60, 50)
    desk.send(Amend("x", BTC, 9_990, 60), 60)
    desk.to(200)
    assert desk.heard(Answered)[-1].error == "Rejected"
    assert desk.venue.accounts["a"].open["x"].open == 40


def test_before_the_first_book_nothing_is_accepted() -> None:
    desk = Desk()
    desk.venue.on_book_lost(BTC)
    desk.send(place("x"), 0)
    desk.to(100)
    (answer,) = desk.heard(Answered)
    assert (answer.outcome, answer.error) == (Outcome.UNAVAILABLE, "Unavailable")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("place_delay_ms", -1),
        ("hear_delay_ms", float("nan")),
        ("answer_timeout_ms", 0),
        ("self_trade", "MAYBE"),
        ("rate_limit", 0),
        ("rate_window_s", float("inf")),
        ("max_open_orders", 0),
        ("venue_run", -1),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(BadInput) as bad:
        PaperSettings(**{field: value})  # type: ignore[arg-type]
    assert bad.value.field == field


# ------------------------------------------------------------------------------------ faults


def test_a_scripted_fault_waits_for_its_kind_of_request() -> None:
    faults = Faults()
    faults.next(Fault.LOST_COMMAND, on=Request.CANCEL)
    faults.next(Fault.READ_FAILED)
    assert [faults.draw(r) for r in (Request.PLACE, Request.CANCEL, Request.CANCEL)] == [
        None,
        Fault.LOST_COMMAND,
        None,
    ]
    assert (faults.draw_read(), faults.draw_read()) == (Fault.READ_FAILED, None)


class Numbers:
    def __init__(self, *numbers: float) -> None:
        self._left = list(numbers)

    def random(self) -> float:
        return self._left.pop(0)


def test_chance_draws_faults_by_their_share() -> None:
    odds = {Fault.LOST_ANSWER: 0.25, Fault.DUPLICATE: 0.5}
    faults = Faults(Numbers(0.0, 0.49, 0.5, 0.74, 0.75), odds)
    assert [faults.draw(Request.PLACE) for _ in range(5)] == [
        Fault.DUPLICATE,
        Fault.DUPLICATE,
        Fault.LOST_ANSWER,
        Fault.LOST_ANSWER,
        None,
    ]


@pytest.mark.parametrize("odds", [{Fault.DUPLICATE: 1.1}, {Fault.DUPLICATE: 0.6, Fault.LOST_ANSWER: 0.6}])
def test_shares_that_cannot_be_are_refused(odds: dict[Fault, float]) -> None:
    with pytest.raises(BadInput):
        Faults(Numbers(), odds)


def test_a_cut_during_a_cut_makes_one_long_one() -> None:
    desk = Desk(hear_delay_ms=0)
    desk.venue.cut_stream("a", 0, 100)
    desk.to(50)
    desk.venue.cut_stream("a", 50 * MS, 100)
    desk.to(500)
    assert [(e.at_ns / MS, e.is_up) for e in desk.heard(LinkChanged)] == [
        (0, False),
        (50, False),
        (150, True),
    ]


def test_lists_that_always_lag_show_the_past() -> None:
    desk = Desk(list_lag_ms=100, place_delay_ms=0, cancel_delay_ms=0)
    desk.send(place("x", BUY, 9_990, 100), 1_000)
    desk.trade(SELL, 9_980, 30, 1_040)
    desk.trade(SELL, 9_980, 30, 1_060)
    desk.send(Cancel("x", BTC), 1_080)
    desk.to(1_300)

    def listed(at_ms: int) -> list[tuple[str, int | None, Status]]:
        reports = desk.venue.open_orders("a", BTC, at_ms * MS)
        return [(report.client_id, report.filled_lots, report.status) for report in reports]

    assert listed(1_099) == []
    assert listed(1_150) == [("x", 30, Status.OPEN)]
    assert listed(1_170) == [("x", 60, Status.OPEN)]
    assert listed(1_180) == []


# ------------------------------------------------------------------------------------ identity


def test_ids_never_repeat_over_restarts() -> None:
    keys = []
    for run in (1, 2):
        desk = Desk(venue_run=run)
        desk.send(place("x", BUY, 10_010, 100, post_only=False), 0)
        desk.to(100)
        (heard,) = desk.heard(FillHeard)
        keys.append((heard.fill.trade_id, heard.fill.venue_id))
    assert keys == [("1-1", "1-1"), ("2-1", "2-1")]


def test_the_queue_before_an_order_can_be_asked() -> None:
    desk = Desk()
    desk.send(place("x", BUY, 9_990, 100), 0)
    assert desk.venue.queue_ahead("a", "x") is None
    desk.to(50)
    assert desk.venue.queue_ahead("a", "x") == 200
    desk.trade(SELL, 9_990, 50, 60)
    assert desk.venue.queue_ahead("a", "x") == 150
