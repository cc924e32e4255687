"""Trading on Binance USDT-M over real sockets, against `fake_binance_usdm`: orders, doubts, limits,
clocks, streams. What holds for the dialect is run over both order paths, and for Aster too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from api.errors import BadInput, Rejected, Unauthorized, Unavailable, UnknownOrder
from api.exchange import FeeRates, FundingPayment, KeyRights
from api.types import (
    _GRANT,
    Amend,
    Answered,
    Approved,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    FillHeard,
    InstrumentId,
    LinkChanged,
    Outcome,
    Position,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.paper.faults import Fault
from api.venues.usdm_account import WINDOW_MS
from tests.conformance.rig_aster import AsterRig
from tests.conformance.rig_binance_usdm import ASKS, BIDS, Seat, UsdmRig

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
DAY_MS = 86_400_000


RIGS: dict[str, Callable[..., UsdmRig]] = {
    "binance-socket": UsdmRig,
    "binance-http": lambda **more: UsdmRig("http", **more),
    "aster-v3": AsterRig,
}


@pytest.fixture(params=RIGS)
def seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    rig = RIGS[request.param]()
    try:
        yield Seat(rig).connect()
    finally:
        rig.close()


# ------------------------------------------------------------------------------------ the order's life


def test_the_link_comes_up_before_anything_else(seat: Seat) -> None:
    first = seat.heard[0]
    assert isinstance(first, LinkChanged)
    assert (first.link, first.is_up, first.venue) == ("account", True, seat.rig.venue_name)


def test_an_idle_account_is_told_as_empty_not_as_unknown(seat: Seat) -> None:
    assert seat.venue.fetch_open_orders() == ()
    assert seat.venue.fetch_fills(seat.btc, 0) == ()
    assert seat.venue.fetch_positions() == ()
    assert seat.venue.fetch_funding(seat.btc, 0) == ()
    (usdt,) = seat.venue.fetch_balances()
    assert (usdt.asset, usdt.free, usdt.locked) == ("USDT", D(100_000), D(0))


def test_a_placed_order_is_answered_once_reported_open_and_listed(seat: Seat) -> None:
    seat.send(seat.place("a"))
    answer, report = seat.answer("a"), seat.status("a", Status.OPEN)
    seat.settle()
    assert len(seat.answers("a")) == 1
    assert (answer.outcome, answer.error, answer.instrument) == (Outcome.ACCEPTED, "", seat.btc)
    assert (report.side, report.ticks, report.lots, report.filled_lots) == (BUY, 9_990, 100, 0)
    assert report.venue_id == answer.venue_id is not None
    (listed,) = seat.venue.fetch_open_orders(seat.btc)
    assert (listed.client_id, listed.status, listed.venue_id) == ("a", Status.OPEN, answer.venue_id)
    assert seat.venue.fetch_order(seat.btc, "a").status is Status.OPEN


def test_what_is_sent_says_all_of_it_explicitly(seat: Seat) -> None:
    seat.rest("a")
    (asked,) = seat.sent("order.place")
    stp = seat.venue._account.dialect.stp_param
    own = {k: v for k, v in asked.items() if k not in seat.fake.auth_fields}
    assert own == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.100",
        "price": "99.90",
        "newClientOrderId": "a",
        "newOrderRespType": "RESULT",
        "positionSide": "BOTH",
        stp: "EXPIRE_TAKER",
    }


def test_a_cancel_is_answered_and_the_order_reported_canceled(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("a", Status.CANCELED).filled_lots == 0
    assert seat.venue.fetch_open_orders() == ()


def test_a_cancel_sent_right_behind_its_order_does_not_overtake_it(seat: Seat) -> None:
    seat.send(seat.place("a"))
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.status("a", Status.CANCELED)


def test_fills_come_with_their_fee_and_move_the_position_and_the_wallet(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_990, 240)  # 200 stood before us
    seat.wait(lambda: seat.fills("a"))
    (fill,) = seat.fills("a")
    fee = D("99.90") * D("0.040") * D("0.0002")
    assert (fill.ticks, fill.lots, fill.is_maker, fill.side) == (9_990, 40, True, BUY)
    assert (fill.fee, fill.fee_asset) == (fee.quantize(D("1e-8")), "USDT")
    seat.rig.trade(SELL, 9_900, 500)
    assert seat.status("a", Status.FILLED).filled_lots == 100
    assert seat.venue.fetch_positions() == (Position(seat.btc, D("0.100"), D("99.9")),)
    assert [f.trade_id for f in seat.venue.fetch_fills(seat.btc, 0)] == [f.trade_id for f in seat.fills("a")]
    assert seat.venue.fetch_fills(seat.btc, 0)[0] == fill
    seat.wait(lambda: seat.all(BalancesHeard))
    seat.wait(lambda: seat.all(BalancesHeard)[-1].balances == seat.venue.fetch_balances())


def test_an_amend_moves_price_and_size_and_needs_the_side_only_from_us(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Amend("a", seat.btc, 9_985, 80))
    assert seat.answer("a", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.wait(lambda: (seat.reports("a")[-1].ticks, seat.reports("a")[-1].lots) == (9_985, 80))
    (asked,) = seat.sent("order.modify")
    assert (asked["side"], asked["price"], asked["quantity"]) == ("BUY", "99.85", "0.080")


def test_an_amend_whose_price_would_take_ends_the_order_and_says_so(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Amend("a", seat.btc, 10_010, 100))
    answer = seat.answer("a", Request.AMEND)
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, "WouldCross")
    seat.status("a", Status.CANCELED)
    assert seat.open_ids() == []


def test_an_order_of_an_earlier_run_can_be_amended_once_it_was_listed(seat: Seat) -> None:
    seat.rest("a", SELL, 10_020, 100)
    back = seat.rig.another("main")
    heard: list[Event] = []
    back.connect(heard.append)
    back.send(Approved(Amend("a", seat.btc, 10_025, 100), "w", _GRANT))
    seat.wait(lambda: any(isinstance(e, Answered) and e.error == "UnknownOrder" for e in heard))
    back.fetch_open_orders()
    back.send(Approved(Amend("a", seat.btc, 10_025, 100), "w", _GRANT))
    seat.wait(lambda: any(isinstance(e, Answered) and e.outcome is Outcome.ACCEPTED for e in heard))


def test_a_taker_walks_the_book_and_the_rest_waits(seat: Seat) -> None:
    seat.send(seat.place("t", BUY, 10_010, 400, post_only=False))
    seat.wait(lambda: seat.fills("t"))
    assert [(f.ticks, f.lots, f.is_maker) for f in seat.fills("t")] == [(10_010, 300, False)]
    seat.wait(seat.venue.fetch_open_orders)
    (listed,) = seat.venue.fetch_open_orders()
    assert (listed.filled_lots, listed.lots, listed.status) == (300, 400, Status.OPEN)


def test_immediate_or_cancel_expires_what_it_cannot_take(seat: Seat) -> None:
    seat.send(seat.place("t", SELL, 10_000, 700, tif=Tif.IOC))
    assert seat.status("t", Status.EXPIRED).filled_lots == 500
    assert seat.answer("t").outcome is Outcome.ACCEPTED


def test_fill_or_kill_is_all_or_nothing(seat: Seat) -> None:
    seat.send(seat.place("no", BUY, 10_030, 901, tif=Tif.FOK))
    assert (seat.answer("no").outcome, seat.answer("no").error) == (Outcome.REJECTED, "Rejected")
    seat.send(seat.place("yes", BUY, 10_030, 900, tif=Tif.FOK))
    assert seat.status("yes", Status.FILLED).filled_lots == 900


def test_a_post_only_order_that_expires_in_its_answer_is_refused_as_crossing(seat: Seat) -> None:
    seat.fake.gtx_expires = True
    seat.send(seat.place("x", BUY, 10_010))
    assert (seat.answer("x").outcome, seat.answer("x").error) == (Outcome.REJECTED, "WouldCross")
    assert "taken" in seat.status("x", Status.EXPIRED).reason


def test_meeting_an_own_order_expires_the_taker_and_the_mode_is_read_back(seat: Seat) -> None:
    seat.rest("maker", SELL, 10_005, 100)
    seat.send(seat.place("taker", BUY, 10_005, 100, post_only=False))
    report = seat.status("taker", Status.EXPIRED)
    assert (report.filled_lots, "self-trade" in report.reason) == (0, True)
    assert seat.open_ids() == ["maker"]
    seat.answer("taker")
    assert seat.venue.trouble == ""
    seat.fake.stp_said = "EXPIRE_MAKER"
    seat.send(seat.place("b", BUY, 9_000, 100, post_only=False))
    seat.answer("b")
    assert "self-trade prevention is EXPIRE_MAKER" in seat.venue.trouble


def test_a_refusal_leaves_nothing_behind(seat: Seat) -> None:
    cases: list[tuple[Command, str]] = [
        (seat.place("x", BUY, 10_010), "WouldCross"),
        (seat.place("x", SELL, 10_000), "WouldCross"),
        (seat.place("x", BUY, 9_990, 1), "BelowMinimum"),
        (seat.place("x", BUY, 9_990, 49), "BelowMinimum"),
        (seat.place("x", BUY, 9_990, 1_000_001), "BelowMinimum"),
        (seat.place("x", BUY, 0, 100), "BelowMinimum"),
        (seat.place("x", BUY, 9_990, 0), "BelowMinimum"),
        (seat.place("x", BUY, 9_990, 999_999 + 1), "InsufficientFunds"),
        (seat.place("x", BUY, 9_990, reduce_only=True), "Rejected"),
        (seat.place("x", tif=Tif.IOC, post_only=True), "Rejected"),
        (seat.place("x", instrument=InstrumentId.of(seat.rig.venue_name, "DOGE-USDT-PERP")), "Rejected"),
        (Cancel("nobody", seat.btc), "UnknownOrder"),
        (Amend("nobody", seat.btc, 9_990, 100), "UnknownOrder"),
    ]
    seat.rest("big", BUY, 9_000, 999_000)
    for number, (command, error) in enumerate(cases):
        before = len(seat.all(Answered))
        seat.send(command)
        seat.wait(lambda before=before: len(seat.all(Answered)) > before)  # type: ignore[misc]
        answer = seat.all(Answered)[-1]
        assert (number, answer.outcome, answer.error) == (number, Outcome.REJECTED, error)
        assert answer.reason and answer.venue_id is None
    assert seat.open_ids() == ["big"]
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(seat.btc, "x")
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(seat.btc, "no such id!")
    with pytest.raises(Rejected):
        seat.venue.fetch_fills(InstrumentId.of(seat.rig.venue_name, "DOGE-USDT-PERP"), 0)


@pytest.mark.parametrize("client_id", ["", "a" * 37, "no space", "autoclose-1", "adl_autoclose", "ümlaut"])
def test_a_client_id_of_the_wrong_form_is_not_sent(seat: Seat, client_id: str) -> None:
    seat.send(seat.place(client_id))
    assert seat.answer(client_id).error == "Rejected"
    assert seat.sent("order.place") == []


def test_a_client_id_is_accepted_only_once_even_after_its_order_ended(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", seat.btc))
    seat.status("a", Status.CANCELED)
    seat.send(seat.place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    again = seat.answers("a")[1]
    assert (again.outcome, again.error, "duplicate" in again.reason) == (Outcome.REJECTED, "Rejected", True)


def test_reduce_only_closes_and_never_opens(seat: Seat) -> None:
    seat.send(seat.place("open", BUY, 10_010, 200, tif=Tif.IOC))
    seat.status("open", Status.FILLED)
    seat.send(seat.place("close", SELL, 10_000, 200, tif=Tif.IOC, reduce_only=True))
    seat.status("close", Status.FILLED)
    assert seat.sent("order.place")[-1]["reduceOnly"] == "true"
    assert seat.venue.fetch_positions() == ()


def test_each_of_many_commands_is_answered_exactly_once(seat: Seat) -> None:
    names = [f"n{n}" for n in range(40)]
    for n, name in enumerate(names):
        seat.send(seat.place(name, BUY, 9_990 - n, 60))
    for name in names[::2]:
        seat.send(Cancel(name, seat.btc))
    seat.wait(lambda: len(seat.all(Answered)) >= 60)
    seat.settle()
    assert sorted(a.client_id for a in seat.all(Answered)) == sorted(names + names[::2])
    assert seat.open_ids() == sorted(names[1::2])


def test_batches_are_cut_to_what_the_venue_takes_and_answered_one_by_one(seat: Seat) -> None:
    batch = [seat.place(f"n{n}", BUY, 9_990 - n, 60) for n in range(6)]
    batch[2] = seat.place("n2", BUY, 10_010, 60)  # would take
    seat.venue.send_batch([Approved(command, "w", _GRANT) for command in batch])
    seat.wait(lambda: len(seat.all(Answered)) == 6)
    assert {a.client_id: a.error for a in seat.all(Answered)} == {
        **dict.fromkeys(["n0", "n1", "n3", "n4", "n5"], ""),
        "n2": "WouldCross",
    }
    assert len(seat.sent("batch.place")) == 2
    cancels = [Cancel(f"n{n}", seat.btc) for n in range(12)]
    seat.venue.send_batch([Approved(command, "w", _GRANT) for command in cancels])
    seat.wait(lambda: len(seat.all(Answered)) == 18)
    told = {a.client_id: a.error for a in seat.all(Answered) if a.request is Request.CANCEL}
    assert [name for name, error in sorted(told.items()) if not error] == ["n0", "n1", "n3", "n4", "n5"]
    assert set(told.values()) == {"", "UnknownOrder"}
    assert seat.open_ids() == []


def test_a_bad_order_in_a_batch_does_not_take_the_others_with_it(seat: Seat) -> None:
    batch = [seat.place("good"), seat.place("bad id!")]
    seat.venue.send_batch([Approved(command, "w", _GRANT) for command in batch])
    assert seat.answer("good").outcome is Outcome.ACCEPTED
    assert seat.answer("bad id!").error == "Rejected"


def test_an_id_that_was_used_is_refused_in_a_batch_and_the_others_go(seat: Seat) -> None:
    seat.rest("used")
    batch = [seat.place("new", BUY, 9_980), seat.place("used", BUY, 9_970)]
    seat.venue.send_batch([Approved(command, "w", _GRANT) for command in batch])
    assert seat.answer("new").outcome is Outcome.ACCEPTED
    seat.wait(lambda: len(seat.answers("used")) == 2)
    assert (seat.answers("used")[1].error, seat.open_ids()) == ("Rejected", ["new", "used"])


def test_a_batch_whose_answer_cannot_be_read_is_unknown_for_each(seat: Seat) -> None:
    seat.fake.fault("garbage", "batch.place")
    batch = [seat.place("a"), seat.place("b", BUY, 9_980)]
    seat.venue.send_batch([Approved(command, "w", _GRANT) for command in batch])
    assert [seat.answer(name).outcome for name in "ab"] == [Outcome.UNKNOWN] * 2
    assert seat.open_ids() == ["a", "b"]


def test_cancel_all_takes_every_order_of_this_account_and_no_other(seat: Seat) -> None:
    other = seat.rig.another("other")
    theirs: list[Event] = []
    other.connect(theirs.append)
    seat.wait(lambda: theirs)
    other.send(Approved(seat.place("theirs", BUY, 9_970), "w", _GRANT))
    seat.wait(lambda: any(isinstance(event, Answered) for event in theirs))
    for n in range(3):
        seat.rest(f"a{n}", BUY, 9_990 - n)
    seat.send(seat.place("eth", BUY, 1_000, 2_000, instrument=seat.rig.eth))
    seat.status("eth", Status.OPEN)
    seat.venue.cancel_all(seat.btc)
    seat.wait(lambda: seat.open_ids() == ["eth"])
    seat.venue.cancel_all(None)
    seat.wait(lambda: seat.open_ids() == [])
    seat.venue.cancel_all(seat.btc)  # nothing there: fine
    assert [order.client_id for order in other.fetch_open_orders()] == ["theirs"]


# ------------------------------------------------------------------------------------ dead-man's switch


def test_a_dead_man_that_is_not_renewed_cancels_everything_once(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.arm_dead_man(0.3)
    seat.status("a", Status.CANCELED)
    seat.rest("b")
    seat.settle(0.4)
    assert seat.open_ids() == ["b"]


def test_a_dead_man_that_is_disarmed_cancels_nothing(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.arm_dead_man(0.3)
    seat.venue.arm_dead_man(0)
    seat.settle(0.4)
    assert seat.open_ids() == ["a"]
    with pytest.raises(BadInput):
        seat.venue.arm_dead_man(-1)


def test_an_armed_dead_man_covers_a_market_from_its_first_order_on(seat: Seat) -> None:
    seat.venue.arm_dead_man(0.5)
    seat.rest("a")
    seat.status("a", Status.CANCELED)


def test_a_dead_man_that_could_not_be_armed_says_so(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.fault("garbage", "countdown")
    with pytest.raises(Exception, match="cannot read"):
        seat.venue.arm_dead_man(30)
    seat.venue.arm_dead_man(30)
    seat.venue.arm_dead_man(0)


# ------------------------------------------------------------------------------------ when things go wrong


def test_a_lost_answer_ends_as_unknown_and_the_order_is_found(seat: Seat) -> None:
    seat.rig.fault(Fault.LOST_ANSWER)
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    assert seat.venue.fetch_order(seat.btc, "a").status is Status.OPEN
    seat.settle()
    assert len(seat.answers("a")) == 1 and len(seat.sent("order.place")) == 1


def test_a_lost_command_ends_as_unknown_and_the_order_is_not_found(seat: Seat) -> None:
    seat.rig.fault(Fault.LOST_COMMAND)
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.venue.fetch_open_orders() == ()
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(seat.btc, "a")


def test_a_lost_cancel_leaves_the_order_resting(seat: Seat) -> None:
    seat.rest("a")
    seat.rig.fault(Fault.LOST_COMMAND, on=Request.CANCEL)
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.UNKNOWN
    assert seat.open_ids() == ["a"]


def test_a_server_error_is_unknown_whether_it_was_executed_or_not(seat: Seat) -> None:
    seat.rig.fault(Fault.SERVER_ERROR, 2)
    seat.send(seat.place("done"))
    assert seat.answer("done").outcome is Outcome.UNKNOWN
    seat.send(seat.place("not-done"))
    assert seat.answer("not-done").outcome is Outcome.UNKNOWN
    assert seat.open_ids() == ["done"]


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
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (outcome, error)
    if fault is Fault.RATE_LIMITED:
        assert 0 < answer.retry_after_s <= 1.0
        seat.send(seat.place("b"))  # inside the time asked for: not sent
        assert seat.answer("b").outcome is Outcome.RATE_LIMITED
        seat.settle(1.1)
    seat.send(seat.place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED
    assert len(seat.sent("order.place")) == 1


def test_too_many_orders_stop_new_orders_and_never_cancels(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.fault(
        "error", "order.place", code=-1015, msg="Too many new orders; 300 per 10 SECONDS.", status=429
    )
    seat.send(seat.place("b"))
    assert seat.answer("b").outcome is Outcome.RATE_LIMITED
    seat.send(seat.place("c"))
    assert seat.answer("c").outcome is Outcome.RATE_LIMITED
    if "429" in seat.answer("c").reason:
        raise AssertionError("the code is no reason for a person")
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED


def test_a_duplicated_report_carries_the_same_trade_id(seat: Seat) -> None:
    seat.rig.fault(Fault.DUPLICATE)
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.trade(SELL, 9_900, 500)
    seat.wait(lambda: len(seat.fills("a")) == 2)
    assert len({fill.key for fill in seat.fills("a")}) == 1
    assert len(seat.venue.fetch_fills(seat.btc, 0)) == 1


def test_a_dropped_push_is_found_by_reading(seat: Seat) -> None:
    seat.rig.fault(Fault.DROPPED_PUSH)
    seat.send(seat.place("a", BUY, 9_990, 100))
    seat.answer("a")
    seat.rig.trade(SELL, 9_900, 500)
    seat.settle()
    assert (seat.reports("a"), seat.fills("a")) == ([], [])
    assert [fill.client_id for fill in seat.venue.fetch_fills(seat.btc, 0)] == ["a"]
    assert seat.venue.fetch_order(seat.btc, "a").status is Status.FILLED


def test_what_happened_while_the_stream_was_cut_is_found_by_reading(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.rig.cut(150)
    seat.wait(lambda: not seat.links()[-1])
    seat.rig.trade(SELL, 9_900, 500)
    seat.wait(lambda: seat.links()[-1])
    seat.settle()
    assert seat.fills("a") == []
    assert [fill.client_id for fill in seat.venue.fetch_fills(seat.btc, 0)] == ["a"]
    seat.rest("b", BUY, 9_990, 100)


def test_a_report_older_than_one_told_is_left_out_but_its_fill_is_not(seat: Seat) -> None:
    def update(at_ms: int, status: str, kind: str, done: str, trade: int) -> bytes:
        order = {
            "s": "BTCUSDT",
            "c": "z",
            "S": "BUY",
            "f": "GTC",
            "q": "1",
            "p": "99",
            "x": kind,
            "X": status,
        }
        fill = {"i": 9, "z": done, "T": at_ms, "t": trade, "l": "0.5", "L": "99", "n": "0.1", "N": "USDT"}
        return json.dumps({"e": "ORDER_TRADE_UPDATE", "E": at_ms, "T": at_ms, "o": order | fill}).encode()

    seat.fake.tell_raw(update(5, "FILLED", "TRADE", "1", 2))
    seat.fake.tell_raw(update(4, "PARTIALLY_FILLED", "TRADE", "0.5", 1))
    seat.wait(lambda: len(seat.fills("z")) == 2)
    assert [report.status for report in seat.reports("z")] == [Status.FILLED]


def test_an_event_that_cannot_be_read_makes_the_account_reconcile(seat: Seat) -> None:
    seat.fake.tell_raw(b'{"e":"ORDER_TRADE_UPDATE","E":1,"o":{"s":"BTCUSDT"}}')
    seat.wait(lambda: seat.links() == [True, False, True])
    seat.fake.tell_raw(b'{"e":"SOMETHING_NEW","E":1}')
    seat.fake.tell_raw(b'{"e":"ACCOUNT_CONFIG_UPDATE","E":1,"T":1,"ac":{"s":"BTCUSDT","l":25}}')
    seat.settle()
    assert seat.links() == [True, False, True]


def test_a_listen_key_that_expired_is_replaced(seat: Seat) -> None:
    seat.fake.expire_listen_keys()
    seat.wait(lambda: seat.links() == [True, False, True])
    seat.rest("a")
    assert seat.fake.methods().count("listenKey.start") >= 2


def test_a_read_that_fails_raises_and_never_returns_nothing(seat: Seat) -> None:
    seat.rest("a")
    for kind, more in (("html", {"status": 502}), ("truncate", {}), ("garbage", {}), ("redirect", {})):
        seat.fake.fault(kind, "openOrders", 2, **more)
        with pytest.raises(Unavailable):
            seat.venue.fetch_open_orders()
        seat.fake._faults.clear()
    seat.fake.fault("garbage", "positionRisk")
    with pytest.raises(Unavailable):
        seat.venue.fetch_positions()
    assert seat.open_ids() == ["a"]


def test_a_position_in_a_market_that_is_not_listed_is_no_flat_answer(seat: Seat) -> None:
    seat.account.positions["GONE", "BOTH"] = (D(1), D(5))
    seat.fake.symbols["GONE"] = seat.fake.symbols["BTCUSDT"]
    with pytest.raises(Unavailable, match="GONE"):
        seat.venue.fetch_positions()


# ------------------------------------------------------------------------------------ clocks, keys, modes


def test_a_clock_that_went_wrong_is_measured_and_the_order_sent_once_more(seat: Seat) -> None:
    seat.fake.skew_ms = 60_000
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    offset_ns = seat.venue.clock_offset_ns
    assert offset_ns is not None and abs(offset_ns / 1e9 - 60) < 0.5
    seat.fake.skew_ms = -60_000
    assert seat.open_ids() == ["a"]


def test_a_revoked_key_is_unauthorized_everywhere(seat: Seat) -> None:
    seat.account.revoked = True
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNAUTHORIZED
    with pytest.raises(Unauthorized):
        seat.venue.fetch_balances()
    assert seat.venue.trouble


def test_hedge_mode_opens_long_and_short_and_closes_the_other_way_round(seat: Seat) -> None:
    seat.account.hedge = True
    assert seat.venue.fetch_account_mode().position_mode == "hedge"
    sides = [
        (seat.place("l", BUY, 10_010, 100, tif=Tif.IOC), "LONG"),
        (seat.place("s", SELL, 10_000, 100, tif=Tif.IOC), "SHORT"),
        (seat.place("lx", SELL, 10_000, 50, tif=Tif.IOC, reduce_only=True), "LONG"),
        (seat.place("sx", BUY, 10_010, 50, tif=Tif.IOC, reduce_only=True), "SHORT"),
    ]
    for command, position_side in sides:
        seat.send(command)
        seat.status(command.client_id, Status.FILLED)
        asked = seat.sent("order.place")[-1]
        assert (asked["positionSide"], "reduceOnly" in asked) == (position_side, False)
    assert sorted(p.qty for p in seat.venue.fetch_positions()) == [D("-0.050"), D("0.050")]


def test_a_position_mode_that_changed_is_a_refusal_then_read_anew(seat: Seat) -> None:
    seat.account.hedge = True
    seat.send(seat.place("a"))
    assert (seat.answer("a").outcome, seat.answer("a").error) == (Outcome.REJECTED, "Rejected")
    assert "position mode" in seat.venue.trouble
    seat.wait(lambda: seat.venue._account.is_hedge)
    seat.rest("b")


def test_the_account_tells_rates_rights_and_modes(seat: Seat) -> None:
    assert seat.venue.fetch_fee_rates(seat.btc) == FeeRates(D("0.0002"), D("0.0005"))
    assert seat.venue.fetch_key_rights() == KeyRights(True, None, None)
    seat.account.can_trade = None
    assert seat.venue.fetch_key_rights() == KeyRights(None, None, None)
    mode = seat.venue.fetch_account_mode()
    assert (mode.position_mode, mode.margin_mode, mode.is_unified) == ("one-way", "single-asset", False)
    instrument = next(i for i in seat.venue.fetch_instruments() if i.id == seat.btc)
    assert (instrument.maker_fee, instrument.taker_fee, instrument.contract_size) == (
        D("0.0002"),
        D("0.0005"),
        D(1),
    )
    assert (instrument.tick, instrument.lot, instrument.min_notional) == (D("0.01"), D("0.001"), D(5))
    assert seat.venue.fetch_server_ns() > 0
    assert {pool.name for pool in seat.venue.limits()} >= {"REQUEST_WEIGHT/1M", "ORDERS/10S"}


def test_funding_is_told_paid_positive_and_over_all_pages(seat: Seat) -> None:
    seat.fake.page = 3
    account_page = seat.venue.fetch_server_ns() // 1_000_000
    stamps = [account_page - (7 - n) * 8 * 3_600_000 for n in range(7)]
    for n, at_ms in enumerate(stamps):
        seat.fake.pay_funding(seat.account, "BTCUSDT", "-1.5" if n % 2 else "0.5", at_ms)
    import api.venues.usdm_account as module

    page, module.PAGE = module.PAGE, 3
    try:
        paid = seat.venue.fetch_funding(seat.btc, 0)
    finally:
        module.PAGE = page
    assert [p.venue_ns // 1_000_000 for p in paid] == stamps
    assert paid[1] == FundingPayment(seat.btc, "9000001", D("1.5"), "USDT", stamps[1] * 1_000_000)
    assert paid[0].amount == D("-0.5")


def test_fills_of_weeks_ago_are_found_and_of_many_pages(seat: Seat) -> None:
    for n in range(8):
        seat.send(seat.place(f"t{n}", BUY, 10_010, 60, tif=Tif.IOC))
        seat.rig.book(BIDS, ASKS)
        seat.answer(f"t{n}")
    now_ms = seat.fake.now_ms()
    for n, trade in enumerate(seat.account.trades):
        trade["time"] = now_ms - 40 * DAY_MS + n * 5 * DAY_MS
    fills = seat.venue.fetch_fills(seat.btc, 0)
    assert [fill.client_id for fill in fills] == [f"t{n}" for n in range(8)]
    assert list(fills) == sorted(fills, key=lambda fill: fill.venue_ns)
    later = seat.venue.fetch_fills(seat.btc, fills[3].venue_ns)
    assert later == fills[3:]
    fresh = seat.rig.another("main")  # knows no client id: reads the order history
    assert fresh.fetch_fills(seat.btc, 0) == fills
    asked = [p for p in seat.sent("userTrades") if "startTime" in p]
    assert all(int(p["endTime"]) - int(p["startTime"]) < WINDOW_MS for p in asked)


# ------------------------------------------------------------------------------------ leaving


def test_orders_rest_on_after_close_and_their_fills_are_found_on_return(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.venue.close()
    seat.venue.close()
    seat.rig.trade(SELL, 9_900, 500)
    back = seat.rig.another("main")
    heard: list[Event] = []
    back.connect(heard.append)
    seat.wait(lambda: heard)
    assert [fill.client_id for fill in back.fetch_fills(seat.btc, 0)] == ["a"]
    seat.settle()
    assert not any(isinstance(event, FillHeard) for event in heard)
    seat.send(seat.place("late"))
    assert seat.answer("late").outcome is Outcome.UNAVAILABLE
