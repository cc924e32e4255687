"""The contract in the docstring of `api/exchange.py`, against every venue in `rigs.RIGS`."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from api.errors import RateLimited, Rejected, Unavailable, UnknownOrder
from api.types import (
    Amend,
    Answered,
    BalancesHeard,
    Cancel,
    Command,
    Fill,
    FillHeard,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.paper.faults import Fault
from tests.conformance.market import BTC
from tests.conformance.rigs import PATIENCE_S, RIGS, Rig, all_of, approved, place

BUY, SELL = Side.BUY, Side.SELL
BIDS = {10_000: 500, 9_990: 200, 9_980: 400}
ASKS = {10_010: 300, 10_020: 300, 10_030: 300}


class Seat:
    """A rig somebody listens to: commands in, and questions about what was heard."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.exchange = rig.exchange
        self.heard = rig.heard

    def connect(self) -> None:
        self.exchange.connect(self.heard.append)
        self.wait(lambda: any(event.is_up for event in all_of(self.heard, LinkChanged)))

    def wait(self, until: object, at_most_s: float = PATIENCE_S) -> None:
        assert callable(until)
        assert self.rig.pass_time(lambda: bool(until()), at_most_s), f"never came; heard {self.heard}"

    def settle(self, for_s: float = 0.03) -> None:
        """Let everything come that is on its way."""
        self.rig.pass_time(lambda: False, for_s)

    def send(self, command: Command) -> None:
        self.exchange.send(approved(command))

    def answers(self, client_id: str, request: Request = Request.PLACE) -> list[Answered]:
        return [a for a in all_of(self.heard, Answered) if (a.client_id, a.request) == (client_id, request)]

    def answer(self, client_id: str, request: Request = Request.PLACE) -> Answered:
        self.wait(lambda: self.answers(client_id, request))
        return self.answers(client_id, request)[0]

    def reports(self, client_id: str) -> list[OrderReport]:
        return [e.report for e in all_of(self.heard, OrderHeard) if e.report.client_id == client_id]

    def fills(self, client_id: str) -> list[Fill]:
        return [e.fill for e in all_of(self.heard, FillHeard) if e.fill.client_id == client_id]

    def status(self, client_id: str, status: Status) -> OrderReport:
        """Wait until the order is reported so."""
        self.wait(lambda: any(report.status is status for report in self.reports(client_id)))
        return next(report for report in self.reports(client_id) if report.status is status)

    def rest(self, client_id: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100) -> None:
        self.send(place(client_id, side, ticks, lots))
        assert self.answer(client_id).outcome is Outcome.ACCEPTED
        self.status(client_id, Status.OPEN)

    def free(self, asset: str) -> Decimal:
        return next(b.free for b in self.exchange.fetch_balances() if b.asset == asset)


@pytest.fixture(params=RIGS)
def seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    rig = RIGS[request.param]()
    try:
        rig.book(BIDS, ASKS)
        seat = Seat(rig)
        seat.connect()
        yield seat
    finally:
        rig.close()


# ------------------------------------------------------------------------------------ links and reads


def test_the_link_comes_up_before_anything_else(seat: Seat) -> None:
    seat.rest("a")
    first = seat.heard[0]
    assert isinstance(first, LinkChanged)
    assert (first.link, first.is_up, first.venue) == ("account", True, "paper")


def test_an_idle_account_is_told_as_empty_not_as_unknown(seat: Seat) -> None:
    assert seat.exchange.fetch_open_orders() == ()
    assert seat.exchange.fetch_fills(BTC, 0) == ()
    assert {b.asset: (b.free, b.locked) for b in seat.exchange.fetch_balances()} == {
        "BTC": (Decimal(100), Decimal(0)),
        "USDT": (Decimal(100_000), Decimal(0)),
    }


def test_the_venue_names_itself_its_account_and_what_it_can_do(seat: Seat) -> None:
    (instrument,) = seat.exchange.fetch_instruments()
    able = seat.exchange.capabilities
    assert (seat.exchange.venue, seat.exchange.account, instrument.id) == ("paper", "main", BTC)
    assert able.post_only and able.ioc and able.fok and able.amend and able.cancel_all and able.dead_man
    assert able.is_simulated and not able.maker_rebates


def test_the_venue_tells_its_time(seat: Seat) -> None:
    before = seat.exchange.fetch_server_ns()
    seat.settle(0.005)
    assert seat.exchange.fetch_server_ns() > before > 0


def test_an_unknown_order_is_an_error_and_not_a_guess(seat: Seat) -> None:
    with pytest.raises(UnknownOrder):
        seat.exchange.fetch_order(BTC, "nobody")


# ------------------------------------------------------------------------------------ the order's life


def test_a_placed_order_is_answered_once_reported_open_and_listed(seat: Seat) -> None:
    seat.send(place("a", BUY, 9_990, 100))
    answer = seat.answer("a")
    report = seat.status("a", Status.OPEN)
    seat.settle()
    assert len(seat.answers("a")) == 1
    assert (answer.outcome, answer.error, answer.instrument) == (Outcome.ACCEPTED, "", BTC)
    assert (report.side, report.ticks, report.lots, report.filled_lots) == (BUY, 9_990, 100, 0)
    assert report.venue_id == answer.venue_id is not None
    (listed,) = seat.exchange.fetch_open_orders(BTC)
    assert (listed.client_id, listed.status, listed.venue_id) == ("a", Status.OPEN, answer.venue_id)
    assert seat.exchange.fetch_order(BTC, "a").status is Status.OPEN


def test_a_cancel_is_answered_and_the_order_reported_canceled(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("a", Status.CANCELED).filled_lots == 0
    assert seat.exchange.fetch_open_orders() == ()
    assert seat.exchange.fetch_order(BTC, "a").status is Status.CANCELED


def test_a_cancel_sent_right_behind_its_order_does_not_overtake_it(seat: Seat) -> None:
    seat.send(place("a"))
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.status("a", Status.CANCELED)


def test_a_partial_fill_keeps_the_order_open(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_990, 240)  # 200 stood before us
    seat.wait(lambda: seat.fills("a"))
    (fill,) = seat.fills("a")
    assert (fill.ticks, fill.lots, fill.is_maker, fill.side) == (9_990, 40, True, BUY)
    assert (fill.fee, fill.fee_asset) == (Decimal("99.90") * Decimal("0.040") * Decimal("0.0002"), "USDT")
    seat.wait(lambda: seat.reports("a")[-1].filled_lots == 40)
    assert seat.exchange.fetch_order(BTC, "a").status is Status.OPEN
    seat.send(Cancel("a", BTC))
    assert seat.status("a", Status.CANCELED).filled_lots == 40


def test_a_full_fill_ends_the_order_and_moves_both_assets(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_980, 150)  # through our price
    assert seat.status("a", Status.FILLED).filled_lots == 100
    (fill,) = seat.exchange.fetch_fills(BTC, 0)
    assert [fill] == seat.fills("a")
    assert seat.free("BTC") == Decimal("100.1")
    assert seat.free("USDT") == Decimal(100_000) - Decimal("9.99") - fill.fee
    told = [e for e in all_of(seat.heard, BalancesHeard)][-1]
    assert {b.asset: b.free for b in told.balances} == {"BTC": seat.free("BTC"), "USDT": seat.free("USDT")}


def test_trade_ids_are_unique_and_history_is_oldest_first(seat: Seat) -> None:
    seat.rest("a", SELL, 10_010, 60)
    seat.rest("b", BUY, 10_000, 60)
    for _ in range(3):
        seat.rig.trade(BUY, 10_020, 10)
        seat.rig.trade(SELL, 9_900, 10)
    seat.wait(lambda: len(seat.fills("a")) == 3 and len(seat.fills("b")) == 3)
    fills = seat.exchange.fetch_fills(BTC, 0)
    assert len({fill.key for fill in fills}) == 6
    assert list(fills) == sorted(fills, key=lambda fill: fill.venue_ns)
    since = fills[3].venue_ns
    assert seat.exchange.fetch_fills(BTC, since) == tuple(f for f in fills if f.venue_ns >= since)


def test_amending_the_size_down_keeps_the_place_and_up_loses_it(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.book({**BIDS, 9_990: 700}, ASKS)  # 500 more behind us
    seat.send(Amend("a", BTC, 9_990, 80))
    assert seat.answer("a", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.wait(lambda: seat.reports("a")[-1].lots == 80)
    seat.rig.trade(SELL, 9_990, 210)
    seat.wait(lambda: seat.fills("a"))
    assert [fill.lots for fill in seat.fills("a")] == [10]
    seat.send(Amend("a", BTC, 9_990, 90))
    seat.wait(lambda: len(seat.answers("a", Request.AMEND)) == 2)
    seat.rig.trade(SELL, 9_990, 210)
    seat.settle()
    assert len(seat.fills("a")) == 1


def test_amending_the_price_moves_the_order(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Amend("a", BTC, 9_985, 100))
    seat.wait(lambda: seat.reports("a")[-1].ticks == 9_985)
    (listed,) = seat.exchange.fetch_open_orders()
    assert (listed.ticks, listed.venue_id) == (9_985, seat.answer("a").venue_id)


def test_an_amend_that_would_cross_changes_nothing(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Amend("a", BTC, 10_010, 100))
    answer = seat.answer("a", Request.AMEND)
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, "WouldCross")
    (listed,) = seat.exchange.fetch_open_orders()
    assert (listed.ticks, listed.lots) == (9_990, 100)


def test_a_taker_walks_the_book_and_pays_the_taker_fee(seat: Seat) -> None:
    seat.send(place("t", BUY, 10_020, 400, post_only=False))
    seat.status("t", Status.FILLED)
    fills = seat.fills("t")
    assert [(f.ticks, f.lots, f.is_maker) for f in fills] == [(10_010, 300, False), (10_020, 100, False)]
    assert fills[0].fee == Decimal("100.10") * Decimal("0.300") * Decimal("0.0005")


def test_the_rest_of_a_crossing_order_waits_in_the_book(seat: Seat) -> None:
    seat.send(place("t", BUY, 10_010, 400, post_only=False))
    seat.wait(lambda: seat.fills("t"))
    (listed,) = seat.exchange.fetch_open_orders()
    assert (listed.filled_lots, listed.lots, listed.status) == (300, 400, Status.OPEN)


def test_immediate_or_cancel_expires_what_it_cannot_take(seat: Seat) -> None:
    seat.send(place("t", SELL, 10_000, 700, tif=Tif.IOC))
    assert seat.status("t", Status.EXPIRED).filled_lots == 500
    assert seat.answer("t").outcome is Outcome.ACCEPTED
    assert seat.exchange.fetch_open_orders() == ()


def test_fill_or_kill_is_all_or_nothing(seat: Seat) -> None:
    seat.send(place("no", BUY, 10_030, 901, tif=Tif.FOK))
    assert seat.status("no", Status.EXPIRED).filled_lots == 0
    assert seat.fills("no") == []
    seat.send(place("yes", BUY, 10_030, 900, tif=Tif.FOK))
    assert seat.status("yes", Status.FILLED).filled_lots == 900


def test_cancel_all_takes_every_order_of_this_account_and_no_other(seat: Seat) -> None:
    other = seat.rig.another("other")
    theirs: list[object] = []
    other.connect(theirs.append)
    seat.wait(lambda: theirs)
    other.send(approved(place("theirs", BUY, 9_970, 100)))
    seat.wait(lambda: any(isinstance(event, Answered) for event in theirs))
    for n in range(5):
        seat.rest(f"a{n}", BUY, 9_990 - n, 100)
    seat.exchange.cancel_all(BTC)
    seat.wait(lambda: seat.exchange.fetch_open_orders() == ())
    for n in range(5):
        seat.status(f"a{n}", Status.CANCELED)
    assert [order.client_id for order in other.fetch_open_orders()] == ["theirs"]
    assert not any(isinstance(event, OrderHeard) and event.report.client_id == "a0" for event in theirs)


def test_a_dead_man_that_is_not_renewed_cancels_everything_once(seat: Seat) -> None:
    seat.rest("a")
    seat.exchange.arm_dead_man(0.2)
    seat.status("a", Status.CANCELED)
    seat.rest("b")
    seat.settle(0.4)
    assert [order.client_id for order in seat.exchange.fetch_open_orders()] == ["b"]


def test_a_dead_man_that_is_disarmed_cancels_nothing(seat: Seat) -> None:
    seat.rest("a")
    seat.exchange.arm_dead_man(0.2)
    seat.exchange.arm_dead_man(0)
    seat.settle(0.4)
    assert [order.client_id for order in seat.exchange.fetch_open_orders()] == ["a"]


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (place("x", BUY, 10_010), "WouldCross"),
        (place("x", SELL, 10_000), "WouldCross"),
        (place("x", BUY, 9_990, 1), "BelowMinimum"),  # below the smallest size
        (place("x", BUY, 9_990, 49), "BelowMinimum"),  # worth 4.8951
        (place("x", BUY, 9_990, 1_000_001), "BelowMinimum"),  # above the largest size
        (place("x", BUY, 0, 100), "BelowMinimum"),
        (place("x", BUY, 9_990, 999_999 + 1), "InsufficientFunds"),
        (place("x", SELL, 10_020, 100_001), "InsufficientFunds"),
        (place("x", instrument=InstrumentId.of("paper", "DOGE-USDT")), "Rejected"),
        (place("x", tif=Tif.IOC, post_only=True), "Rejected"),
        (Cancel("nobody", BTC), "UnknownOrder"),
        (Amend("nobody", BTC, 9_990, 100), "UnknownOrder"),
    ],
)
def test_what_cannot_be_done_is_rejected_by_its_class(seat: Seat, command: Command, error: str) -> None:
    if error == "InsufficientFunds" and command.side is BUY:  # type: ignore[union-attr]
        seat.rest("big", BUY, 9_000, 999_000)
    seat.send(command)
    seat.wait(lambda: [a for a in all_of(seat.heard, Answered) if a.client_id == command.client_id])
    (answer,) = [a for a in all_of(seat.heard, Answered) if a.client_id == command.client_id]
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, error)
    assert answer.reason and answer.venue_id is None
    assert "x" not in {order.client_id for order in seat.exchange.fetch_open_orders()}
    with pytest.raises(UnknownOrder):
        seat.exchange.fetch_order(BTC, command.client_id)


def test_a_client_id_is_accepted_only_once_even_after_its_order_ended(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", BTC))
    seat.status("a", Status.CANCELED)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    again = seat.answers("a")[1]
    assert (again.outcome, again.error) == (Outcome.REJECTED, "Rejected")
    assert "duplicate" in again.reason
    assert seat.exchange.fetch_open_orders() == ()


def test_canceling_a_finished_order_is_an_unknown_order(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_900, 500)
    seat.status("a", Status.FILLED)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).error == "UnknownOrder"
    assert seat.exchange.fetch_order(BTC, "a").status is Status.FILLED


def test_meeting_an_own_order_expires_the_taker(seat: Seat) -> None:
    seat.rest("maker", SELL, 10_005, 100)
    seat.send(place("taker", BUY, 10_005, 100, post_only=False))
    report = seat.status("taker", Status.EXPIRED)
    assert (report.filled_lots, "self-trade" in report.reason) == (0, True)
    assert [order.client_id for order in seat.exchange.fetch_open_orders()] == ["maker"]


def test_history_of_an_unknown_symbol_is_an_error(seat: Seat) -> None:
    with pytest.raises(Rejected):
        seat.exchange.fetch_fills(InstrumentId.of("paper", "DOGE-USDT"), 0)


# ------------------------------------------------------------------------------------ when things go wrong


def test_a_lost_answer_ends_as_unknown_and_the_order_is_found(seat: Seat) -> None:
    seat.rig.fault(Fault.LOST_ANSWER)
    seat.send(place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    assert seat.exchange.fetch_order(BTC, "a").status is Status.OPEN
    seat.settle(0.5)
    assert len(seat.answers("a")) == 1


def test_a_lost_command_ends_as_unknown_and_the_order_is_not_found(seat: Seat) -> None:
    seat.rig.fault(Fault.LOST_COMMAND)
    seat.send(place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.exchange.fetch_open_orders() == ()
    with pytest.raises(UnknownOrder):
        seat.exchange.fetch_order(BTC, "a")


def test_a_late_answer_follows_the_unknown_one(seat: Seat) -> None:
    seat.rig.fault(Fault.LATE_ANSWER)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert [a.outcome for a in seat.answers("a")] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert seat.answers("a")[1].venue_id == seat.exchange.fetch_order(BTC, "a").venue_id


def test_a_lost_cancel_leaves_the_order_resting(seat: Seat) -> None:
    seat.rest("a")
    seat.rig.fault(Fault.LOST_COMMAND, on=Request.CANCEL)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.UNKNOWN
    assert seat.exchange.fetch_order(BTC, "a").status is Status.OPEN


def test_a_server_error_is_unknown_whether_it_was_executed_or_not(seat: Seat) -> None:
    seat.rig.fault(Fault.SERVER_ERROR, 2)
    seat.send(place("done"))
    assert seat.answer("done").outcome is Outcome.UNKNOWN
    seat.send(place("not-done"))
    assert seat.answer("not-done").outcome is Outcome.UNKNOWN
    assert [order.client_id for order in seat.exchange.fetch_open_orders()] == ["done"]


@pytest.mark.parametrize(
    ("fault", "outcome", "error"),
    [
        (Fault.RATE_LIMITED, Outcome.RATE_LIMITED, "RateLimited"),
        (Fault.UNAVAILABLE, Outcome.UNAVAILABLE, "Unavailable"),
        (Fault.UNAUTHORIZED, Outcome.UNAUTHORIZED, "Unauthorized"),
    ],
)
def test_what_was_not_accepted_says_so_and_can_be_sent_again(
    seat: Seat, fault: Fault, outcome: Outcome, error: str
) -> None:
    seat.rig.fault(fault)
    seat.send(place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (outcome, error)
    assert answer.retry_after_s == (0.25 if fault is Fault.RATE_LIMITED else 0.0)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED


def test_a_duplicated_report_carries_the_same_trade_id(seat: Seat) -> None:
    seat.rig.fault(Fault.DUPLICATE)
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_900, 500)
    seat.wait(lambda: len(seat.fills("a")) == 2)
    assert len({fill.key for fill in seat.fills("a")}) == 1
    assert len(seat.exchange.fetch_fills(BTC, 0)) == 1


def test_a_fill_may_come_before_its_answer(seat: Seat) -> None:
    seat.rig.fault(Fault.EARLY_FILL)
    seat.send(place("a", BUY, 10_010, 100, post_only=False))
    seat.wait(lambda: seat.answers("a"))
    kinds = [type(event) for event in seat.heard if not isinstance(event, LinkChanged | BalancesHeard)]
    assert kinds.index(FillHeard) < kinds.index(Answered)
    assert seat.answer("a").outcome is Outcome.ACCEPTED


def test_a_dropped_push_is_found_by_reading(seat: Seat) -> None:
    seat.rig.fault(Fault.DROPPED_PUSH)
    seat.send(place("a", BUY, 9_990, 100))
    seat.answer("a")
    seat.rig.trade(SELL, 9_900, 500)
    seat.settle()
    assert (seat.reports("a"), seat.fills("a")) == ([], [])
    assert [fill.client_id for fill in seat.exchange.fetch_fills(BTC, 0)] == ["a"]
    assert seat.exchange.fetch_order(BTC, "a").status is Status.FILLED


def test_what_happened_while_the_stream_was_cut_is_found_by_reading(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.cut(150)
    seat.wait(lambda: not all_of(seat.heard, LinkChanged)[-1].is_up)
    seat.rig.trade(SELL, 9_900, 500)
    seat.wait(lambda: all_of(seat.heard, LinkChanged)[-1].is_up)
    seat.settle()
    assert seat.fills("a") == []
    assert [fill.client_id for fill in seat.exchange.fetch_fills(BTC, 0)] == ["a"]
    seat.rest("b", BUY, 9_990, 100)


def test_a_command_that_meets_a_cut_stream_is_answered_all_the_same(seat: Seat) -> None:
    seat.rig.fault(Fault.CUT_STREAM)
    seat.send(place("a"))
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    seat.wait(lambda: [event.is_up for event in all_of(seat.heard, LinkChanged)] == [True, False, True])
    assert seat.reports("a") == []
    assert [order.client_id for order in seat.exchange.fetch_open_orders()] == ["a"]


def test_a_list_may_lag_while_the_order_itself_is_known(seat: Seat) -> None:
    seat.rig.fault(Fault.STALE_LIST)
    seat.rest("a")
    assert seat.exchange.fetch_open_orders() == ()
    assert seat.exchange.fetch_order(BTC, "a").status is Status.OPEN
    seat.wait(lambda: [order.client_id for order in seat.exchange.fetch_open_orders()] == ["a"])


def test_a_list_may_still_show_what_is_gone(seat: Seat) -> None:
    seat.rest("a")
    seat.rig.fault(Fault.STALE_LIST)
    seat.send(Cancel("a", BTC))
    seat.status("a", Status.CANCELED)
    (ghost,) = seat.exchange.fetch_open_orders()
    assert (ghost.client_id, ghost.status) == ("a", Status.OPEN)
    seat.wait(lambda: seat.exchange.fetch_open_orders() == ())


def test_a_read_that_fails_raises_and_never_returns_nothing(seat: Seat) -> None:
    seat.rest("a")
    seat.rig.fault(Fault.READ_FAILED, 2)
    with pytest.raises(Unavailable):
        seat.exchange.fetch_open_orders()
    with pytest.raises(Unavailable):
        seat.exchange.cancel_all(None)
    seat.rig.fault(Fault.READ_LIMITED)
    with pytest.raises(RateLimited) as limited:
        seat.exchange.fetch_balances()
    assert limited.value.retry_after_s == 0.25
    assert len(seat.exchange.fetch_open_orders()) == 1


def test_each_of_many_commands_is_answered_exactly_once(seat: Seat) -> None:
    names = [f"n{n}" for n in range(60)]
    for n, name in enumerate(names):
        seat.send(place(name, BUY, 9_990 - n, 60))
    for name in names[::2]:
        seat.send(Cancel(name, BTC))
    seat.wait(lambda: len(all_of(seat.heard, Answered)) >= 90)
    seat.settle()
    assert sorted(a.client_id for a in all_of(seat.heard, Answered)) == sorted(names + names[::2])
    assert sorted(o.client_id for o in seat.exchange.fetch_open_orders()) == sorted(names[1::2])


# ------------------------------------------------------------------------------------ leaving


def test_orders_rest_on_after_close_and_their_fills_are_found_on_return(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.exchange.close()
    seat.exchange.close()
    seat.rig.trade(SELL, 9_900, 500)
    seat.settle()
    assert seat.fills("a") == []
    back = seat.rig.another("main")
    heard: list[object] = []
    back.connect(heard.append)
    seat.wait(lambda: heard)
    assert isinstance(heard[0], LinkChanged) and heard[0].is_up
    assert [fill.client_id for fill in back.fetch_fills(BTC, 0)] == ["a"]
    seat.settle()
    assert not any(isinstance(event, FillHeard) for event in heard)


def test_a_command_after_close_was_never_sent(seat: Seat) -> None:
    seat.exchange.close()
    seat.send(place("a"))
    assert seat.answer("a").outcome is Outcome.UNAVAILABLE
    seat.settle()
    assert len(seat.answers("a")) == 1


def test_while_the_book_is_not_known_nothing_new_is_accepted_but_cancels_are(seat: Seat) -> None:
    seat.rest("a")
    if not hasattr(seat.rig, "process"):
        seat.rig.view.is_synced = False  # type: ignore[attr-defined]
        view = seat.rig.view  # type: ignore[attr-defined]
        seat.rig.paper.on_market(view.changed(seat.exchange.fetch_server_ns()))  # type: ignore[attr-defined]
    else:
        seat.rig.process.note("down")
    seat.send(place("b"))
    assert (seat.answer("b").outcome, seat.answer("b").error) == (Outcome.UNAVAILABLE, "Unavailable")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
