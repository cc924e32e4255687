"""Trading on Thalex over real sockets, against `fake_thalex`: sessions, the dead-man, doubts, limits, clocks,
restarts, histories.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from api.errors import OutcomeUnknown, RateLimited, Rejected, Unauthorized, Unavailable, UnknownOrder
from api.gateway import Gateway
from api.runtime import Clock
from api.types import (
    _GRANT,
    Amend,
    Answered,
    Approved,
    BalancesHeard,
    Cancel,
    Command,
    Event,
    Fill,
    FillHeard,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues import thalex
from tests.conformance.rig_thalex import rsa_pair
from tests.venues.fake_thalex import FakeThalex, Market

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
BTC = InstrumentId.of("thalex", "BTC-USD-PERP")
ETH = InstrumentId.of("thalex", "ETH-USD-260327")
PERP = "BTC-PERPETUAL"
PATIENCE_S = 8.0
QUICK: dict[str, Any] = {
    "answer_s": 0.5,
    "read_s": 1.0,
    "connect_s": 1.0,
    "pauses_s": (0.03, 0.06, 0.1),
    "overlap_s": 0.1,
    "requests_per_s": 1000,
    "back_off_s": 0.2,
}
BIDS = {"100.00": "0.5", "99.90": "0.2", "99.80": "0.4"}
ASKS = {"100.10": "0.3", "100.20": "0.3", "100.30": "0.3"}
E = TypeVar("E")


class Seat:
    """A venue of ours at a fake of theirs, and questions about what was heard."""

    def __init__(self, **more: Any) -> None:
        future = Market("ETH-27MAR26", "future", underlying="ETHUSD", product="FETHUSD", expiry="2026-03-27")
        self.fake = FakeThalex([Market(PERP), future])
        self.private, self.public = rsa_pair()
        self.account = self.fake.add_key("kid", self.public, {"USD": D(100_000)}, "A1")
        self.fake.book(PERP, BIDS, ASKS)
        self.ids = thalex.MemoryIds()
        self.heard: list[Event] = []
        self._made: list[thalex.ThalexTrading] = []
        self.venue = self.another(**more)

    def another(self, *, kid: str = "kid", ids: Any = None, clock: Any = None, **more: Any) -> Any:
        made = thalex.ThalexTrading(
            thalex.ThalexKey(kid, self.private),
            settings=thalex.Settings(**{**QUICK, **more}),
            ids=ids or self.ids,
            clock=clock,
            where=thalex.on_this_machine(self.fake.rest, self.fake.socket),
        )
        self._made.append(made)
        return made

    def connect(self) -> Seat:
        self.venue.fetch_instruments()
        self.venue.connect(self.heard.append)
        self.wait(lambda: self.links()[-1:] == [True])
        return self

    def close(self) -> None:
        for made in self._made:
            made.close()
        self.fake.close()

    def wait(self, until: Callable[[], object], at_most_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + at_most_s
        while not until():
            assert time.monotonic() < end, f"never came; heard {self.heard}"
            time.sleep(0.002)

    def settle(self, for_s: float = 0.05) -> None:
        time.sleep(for_s)

    def send(self, command: Command) -> None:
        self.venue.send(Approved(command, "w", _GRANT))

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in tuple(self.heard) if isinstance(event, kind)]

    def links(self) -> list[bool]:
        return [event.is_up for event in self.all(LinkChanged)]

    def answers(self, client_id: str, request: Request = Request.PLACE) -> list[Answered]:
        return [a for a in self.all(Answered) if (a.client_id, a.request) == (client_id, request)]

    def answer(self, client_id: str, request: Request = Request.PLACE) -> Answered:
        self.wait(lambda: self.answers(client_id, request))
        return self.answers(client_id, request)[0]

    def reports(self, client_id: str) -> list[OrderReport]:
        return [e.report for e in self.all(OrderHeard) if e.report.client_id == client_id]

    def fills(self, client_id: str) -> list[Fill]:
        return [e.fill for e in self.all(FillHeard) if e.fill.client_id == client_id]

    def status(self, client_id: str, status: Status) -> OrderReport:
        self.wait(lambda: any(report.status is status for report in self.reports(client_id)))
        return next(report for report in self.reports(client_id) if report.status is status)

    def place(self, client_id: str, ticks: int = 9_990, **more: Any) -> None:
        self.send(Place(client_id, BTC, more.pop("side", BUY), ticks, more.pop("lots", 100), **more))

    def rest(self, client_id: str, ticks: int = 9_990, **more: Any) -> None:
        self.place(client_id, ticks, **more)
        assert self.answer(client_id).outcome is Outcome.ACCEPTED
        self.status(client_id, Status.OPEN)

    def open_ids(self) -> list[str]:
        return [report.client_id for report in self.venue.fetch_open_orders()]


@pytest.fixture
def seat() -> Iterator[Seat]:
    made = Seat()
    try:
        yield made.connect()
    finally:
        made.close()


@pytest.fixture
def bare() -> Iterator[Seat]:
    """Not connected yet."""
    made = Seat()
    try:
        made.venue.fetch_instruments()
        yield made
    finally:
        made.close()


# ------------------------------------------------------------------------------------ session


def test_a_session_logs_in_subscribes_and_tells_balances(seat: Seat) -> None:
    methods = [name for name, _ in seat.fake.calls if not name.startswith("public/in")]
    assert methods[-3:] == ["public/login", "private/subscribe", "public/subscribe"]
    seat.wait(lambda: seat.all(BalancesHeard))
    (balance,) = seat.all(BalancesHeard)[0].balances
    assert (balance.asset, balance.free) == ("USD", D(100_000))
    assert isinstance(seat.heard[0], LinkChanged)
    assert seat.venue.limits()[0].limit == 1000 and seat.venue.services[0].is_alive


def test_the_chosen_account_is_asked_for_and_another_one_is_refused(bare: Seat) -> None:
    wrong = bare.another(account="A9")
    with pytest.raises(Unauthorized):
        wrong.fetch_balances()
    assert bare.another(account="A1").fetch_balances()[0].total == D(100_000)


def test_a_key_that_is_refused_keeps_the_link_down_and_is_not_hammered(bare: Seat) -> None:
    stranger = bare.another(kid="nobody")
    stranger.fetch_instruments()
    told: list[Event] = []
    stranger.connect(told.append)
    bare.wait(lambda: told)
    bare.settle(0.3)
    assert [type(event) for event in told] == [LinkChanged]
    assert isinstance(told[0], LinkChanged) and not told[0].is_up and "authentication" in told[0].reason
    assert len(bare.fake.asked("public/login")) == 1
    with pytest.raises(Unauthorized):
        stranger.fetch_key_rights()


def test_an_order_leaves_with_its_label_and_a_number_that_the_table_keeps(seat: Seat) -> None:
    seat.rest("md1a")
    (asked,) = seat.fake.asked("private/insert")
    assert asked["label"] == "md1a" and seat.ids.get("md1a") == asked["client_order_id"]
    assert asked["post_only"] is True and asked["reject_post_only"] is True


def test_a_number_that_cannot_be_kept_stops_the_order_before_it_leaves(seat: Seat) -> None:
    def broken(ours: str, theirs: int) -> None:
        raise OSError("disk full")

    seat.ids.put = broken  # type: ignore[method-assign]
    seat.place("a")
    assert (seat.answer("a").outcome, seat.fake.asked("private/insert")) == (Outcome.UNAVAILABLE, [])


def test_a_cancel_in_flight_behind_its_order_goes_by_number_and_later_by_id(seat: Seat) -> None:
    seat.fake.fault("late", "private/insert", seconds=0.1)
    seat.place("a")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.rest("b")
    seat.send(Amend("b", BTC, 9_985, 100))
    assert seat.answer("b", Request.AMEND).outcome is Outcome.ACCEPTED
    assert "client_order_id" in seat.fake.asked("private/cancel")[0]
    assert "order_id" in seat.fake.asked("private/amend")[0]


def test_nothing_is_sent_while_there_is_no_connection(seat: Seat) -> None:
    seat.fake.cut(0.2)
    seat.wait(lambda: seat.links()[-1] is False)
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNAVAILABLE
    seat.wait(lambda: seat.links()[-1] is True)
    seat.rest("a2")
    assert seat.open_ids() == ["a2"]


def test_orders_of_an_earlier_session_are_reported_again_and_cancelled_by_id(seat: Seat) -> None:
    seat.rest("a")
    before = len(seat.reports("a"))
    seat.fake.cut()
    seat.wait(lambda: len(seat.links()) == 3 and seat.links()[-1])
    seat.wait(lambda: len(seat.reports("a")) > before)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED


def test_a_restart_finds_its_orders_by_the_table_or_by_the_label(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    for ids in (seat.ids, thalex.MemoryIds()):
        again = seat.another(ids=ids)
        again.fetch_instruments()
        assert [r.client_id for r in again.fetch_open_orders()] == ["a"]
    heard: list[Event] = []
    again.connect(heard.append)
    seat.wait(lambda: any(isinstance(e, OrderHeard) and e.report.client_id == "a" for e in heard))
    again.send(Approved(Cancel("a", BTC), "w", _GRANT))
    seat.wait(lambda: again.fetch_open_orders() == ())


def test_a_client_id_is_not_used_twice_over_a_restart(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    seat.venue = seat.another()
    seat.venue.fetch_instruments()
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: len(seat.links()) == 2)
    seat.place("a")
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert "duplicate" in seat.answers("a")[1].reason


def test_an_announced_end_is_met_by_overlap_without_a_gap(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.announce_end()
    seat.wait(lambda: seat.fake.logins == 2 and seat.fake.open_sessions == 1)
    seat.rest("b", 9_980)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.links() == [True]


def test_a_silent_connection_is_pinged_and_a_dead_one_replaced() -> None:
    made = Seat(silence_s=0.4)
    try:
        made.connect()
        made.settle(1.0)
        assert made.links() == [True]
        made.fake.answers_pings = False
        made.wait(lambda: made.links()[:3] == [True, False, True])
    finally:
        made.close()


# ------------------------------------------------------------------------------------ dead-man


def test_armed_before_connecting_it_covers_the_first_order(bare: Seat) -> None:
    bare.venue.arm_dead_man(5)
    bare.connect()
    names = [name for name, _ in bare.fake.calls]
    assert names.index("private/set_cancel_on_disconnect") < names.index("private/subscribe")
    bare.rest("a")
    bare.fake.cut()
    bare.wait(lambda: bare.links()[-1] and len(bare.links()) == 3)
    assert bare.open_ids() == []
    assert len(bare.fake.asked("private/set_cancel_on_disconnect")) == 2  # the countdown still runs


def test_without_it_orders_survive_the_connection(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.cut()
    seat.wait(lambda: seat.links()[-1] and len(seat.links()) == 3)
    assert seat.open_ids() == ["a"]


def test_refreshed_it_keeps_the_session_alive_and_asks_the_venue_only_once(seat: Seat) -> None:
    seat.venue.arm_dead_man(1)
    seat.rest("a")
    end = time.monotonic() + 1.25
    while time.monotonic() < end:
        seat.venue.arm_dead_man(1)
        time.sleep(0.1)
    assert seat.links() == [True] and seat.open_ids() == ["a"]
    assert len(seat.fake.asked("private/set_cancel_on_disconnect")) == 1


def test_not_refreshed_everything_is_cancelled_orders_from_before_included(seat: Seat) -> None:
    seat.rest("before")
    seat.venue.arm_dead_man(0.3)
    seat.rest("after", 9_980)
    assert "dead-man" in seat.status("after", Status.CANCELED).reason
    seat.status("before", Status.CANCELED)
    assert "dead-man" in seat.venue.trouble
    seat.rest("next")
    seat.settle(0.4)
    assert seat.open_ids() == ["next"]


def test_where_its_cancelling_is_not_confirmed_the_connection_is_closed(seat: Seat) -> None:
    seat.venue.arm_dead_man(0.2)
    seat.rest("a")
    seat.fake.fault("lose_command", "private/cancel_session")
    seat.fake.fault("lose_command", "private/cancel_all")
    seat.wait(lambda: False in seat.links())
    seat.wait(lambda: seat.links()[-1])
    assert seat.open_ids() == []


def test_an_arming_that_is_refused_is_said_and_tried_again(seat: Seat) -> None:
    seat.fake.fault("error", "private/set_cancel_on_disconnect", code=20)
    with pytest.raises(Unavailable):
        seat.venue.arm_dead_man(3)
    seat.wait(lambda: len(seat.fake.asked("private/set_cancel_on_disconnect")) == 2)
    seat.rest("a")
    seat.fake.cut()
    seat.wait(lambda: seat.links() == [True, False, True])
    assert seat.open_ids() == []


def test_cancel_all_asks_for_all_orders_even_where_the_session_refuses(seat: Seat) -> None:
    seat.venue.arm_dead_man(5)
    seat.rest("a")
    seat.fake.fault("error", "private/cancel_session", code=52)
    with pytest.raises(Rejected):
        seat.venue.cancel_all(None)
    assert seat.account.open() == []
    seat.venue.cancel_all(None)


def test_disarmed_it_cancels_nothing(seat: Seat) -> None:
    seat.venue.arm_dead_man(0.2)
    seat.rest("a")
    seat.venue.arm_dead_man(0)
    seat.settle(0.4)
    assert seat.open_ids() == ["a"]


# ------------------------------------------------------------------------------------ orders


def test_a_post_only_order_that_would_take_is_refused_and_never_reported(seat: Seat) -> None:
    for name, first in (("early", True), ("later", False)):
        seat.fake.pushes_first = first
        seat.place(name, 10_010)
        assert (seat.answer(name).outcome, seat.answer(name).error) == (Outcome.REJECTED, "WouldCross")
    seat.settle()
    assert seat.reports("early") == seat.reports("later") == []


def test_a_post_only_order_refused_in_a_lost_answer_is_reported_expired(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "private/insert")
    seat.place("a", 10_010)
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.status("a", Status.EXPIRED).filled_lots == 0
    assert seat.venue.fetch_order(BTC, "a").status is Status.EXPIRED


def test_a_late_refusal_after_the_report_contradicts_nothing(seat: Seat) -> None:
    seat.fake.fault("late", "private/insert", seconds=0.7)
    seat.place("a", 10_010)
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert [a.outcome for a in seat.answers("a")] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert [r.status for r in seat.reports("a")] == [Status.EXPIRED]


def test_reduce_only_is_passed_on_and_the_cut_amount_reported(seat: Seat) -> None:
    seat.place("no", 10_020, side=SELL, post_only=False, reduce_only=True)
    assert (seat.answer("no").outcome, seat.answer("no").error) == (Outcome.REJECTED, "Rejected")
    seat.place("buy", 10_010, post_only=False)
    seat.status("buy", Status.FILLED)
    seat.place("cut", 10_020, side=SELL, lots=200, reduce_only=True)
    assert seat.status("cut", Status.OPEN).lots == 100


def test_the_collar_margin_and_unknown_instruments_have_their_classes(seat: Seat) -> None:
    seat.fake.markets[PERP].collar = (D(90), D(110))
    seat.place("collar", 11_100, post_only=False)
    seat.place("margin", 9_990, lots=90_000_000)
    seat.answer("margin")
    del seat.fake.markets[PERP]
    seat.place("gone")
    told = [seat.answer(name).error for name in ("collar", "margin", "gone")]
    assert told == ["BelowMinimum", "InsufficientFunds", "Rejected"]


def test_stp_levels_leave_with_each_order_only_when_set() -> None:
    made = Seat(stp_level="account")
    try:
        made.connect()
        made.rest("maker", 10_005, side=SELL)
        assert made.fake.asked("private/insert")[0]["stp_level"] == "account"
        made.place("taker", 10_005, post_only=False)
        assert "self-trade" in made.status("taker", Status.EXPIRED).reason
        assert made.venue.fetch_account_mode().self_trade_prevention == "account"
        assert made.venue.self_trade_prevention(BTC) == "account"
    finally:
        made.close()


def test_cancel_all_in_one_market_leaves_the_others(seat: Seat) -> None:
    seat.rest("a")
    seat.rest("b", 9_980)
    seat.send(Place("c", ETH, BUY, 9_000, 100))
    assert seat.answer("c").outcome is Outcome.ACCEPTED
    seat.venue.cancel_all(BTC)
    assert seat.open_ids() == ["c"]
    seat.venue.cancel_all(None)
    assert seat.open_ids() == [] and len(seat.fake.asked("private/cancel_all")) == 1


def test_cancel_all_goes_through_while_the_session_is_lost(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.fault("error", "private/subscribe", n=50, code=20)  # no session comes up any more
    seat.fake.cut()
    seat.wait(lambda: not seat.links()[-1])
    seat.venue.cancel_all(None)
    assert seat.account.open() == []


# ------------------------------------------------------------------------------------ doubts


@pytest.mark.parametrize(
    ("fault", "args", "is_there"),
    [
        ("error", {"code": 20}, False),
        ("error_after", {"code": 10}, True),
        ("error", {"code": 999, "message": "new"}, False),
        ("cut_after", {}, True),
        ("cut_before", {}, False),
        ("raw", {"raw": '{"id":NUMBER}'}, True),
        ("raw", {"raw": '{"id":NUMBER,"result":{"order_id":5}}'}, True),
        ("raw", {"raw": "<html>Bad Gateway</html>"}, True),
        ("raw", {"raw": '{"id":NUMBER,"result":{"order_'}, True),
    ],
)
def test_an_outcome_that_is_not_told_stays_unknown(
    seat: Seat, fault: str, args: dict[str, Any], is_there: bool
) -> None:
    seat.fake.fault(fault, "private/insert", **args)
    seat.place("a")
    assert (seat.answer("a").outcome, len(seat.answers("a"))) == (Outcome.UNKNOWN, 1)
    seat.wait(lambda: seat.links()[-1])
    assert seat.open_ids() == (["a"] if is_there else [])
    if not is_there:
        with pytest.raises(UnknownOrder):
            seat.venue.fetch_order(BTC, "a")
    assert len(seat.fake.asked("private/insert")) == 1


def test_an_error_that_names_no_request_leaves_what_waits_unknown(seat: Seat) -> None:
    seat.fake.fault("raw", "private/insert", raw='{"id":null,"error":{"code":6,"message":"parse"}}')
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    seat.wait(lambda: seat.links() == [True, False, True])


def test_a_session_that_forgot_the_login_is_replaced(seat: Seat) -> None:
    seat.fake.fault("error", "private/insert", code=7, message="not logged in")
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNAVAILABLE
    seat.wait(lambda: seat.links() == [True, False, True])
    seat.rest("a2")


def test_an_unreadable_push_brings_the_link_down_and_up_again(seat: Seat) -> None:
    seat.fake.push_raw("account.trade_history", None, '{"channel_name":"account.trade_history","notific')
    seat.wait(lambda: seat.links() == [True, False, True])


def test_rate_limits_are_waited_out_and_nothing_is_sent_meanwhile(seat: Seat) -> None:
    seat.fake.fault("error", "private/insert", code=4, message="throttle exceeded")
    seat.place("a")
    answer = seat.answer("a")
    assert (answer.outcome, answer.retry_after_s) == (Outcome.RATE_LIMITED, 0.2)
    seat.place("b")
    assert seat.answer("b").outcome is Outcome.RATE_LIMITED and len(seat.fake.asked("private/insert")) == 1
    seat.settle(0.25)
    seat.place("a")
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED


def test_our_own_budget_keeps_a_share_for_cancels() -> None:
    made = Seat(requests_per_s=12, for_cancels=0.5)
    try:
        made.connect()
        made.settle(1.05)  # what connecting took is of another window
        for n in range(8):
            made.place(f"n{n}", 9_990 - n)
        made.wait(lambda: len(made.all(Answered)) == 8)
        refused = [a.client_id for a in made.all(Answered) if a.outcome is Outcome.RATE_LIMITED]
        assert refused and len(made.fake.asked("private/insert")) == 8 - len(refused)
        made.send(Cancel("n0", BTC))
        assert made.answer("n0", Request.CANCEL).outcome is Outcome.ACCEPTED
    finally:
        made.close()


# ------------------------------------------------------------------------------------ clock


def test_a_clock_that_is_off_is_measured_before_the_login() -> None:
    made = Seat()
    try:
        made.fake.skew_s = 300.0
        made.connect()
        offset_ns = made.venue.clock_offset_ns
        assert offset_ns is not None and abs(offset_ns - 300 * 10**9) < 2 * 10**9
        assert abs(made.venue.fetch_server_ns() - Clock().now_ns() - 300 * 10**9) < 2 * 10**9
    finally:
        made.close()


def test_a_venue_that_tells_no_time_is_logged_in_to_by_our_own_clock(bare: Seat) -> None:
    bare.fake.tells_date = False
    bare.connect()
    assert bare.venue.clock_offset_ns is None
    with pytest.raises(Unavailable):
        bare.venue.fetch_server_ns()


# ------------------------------------------------------------------------------------ reads


def test_reads_work_before_connecting_over_a_connection_of_their_own(bare: Seat) -> None:
    assert bare.venue.fetch_balances()[0].total == D(100_000)
    assert bare.venue.fetch_positions() == ()
    assert bare.fake.logins == 1
    with pytest.raises(RuntimeError):
        bare.place("a")
    bare.fake.cut()
    assert bare.venue.fetch_open_orders() == () and bare.fake.logins == 2


def test_a_read_that_fails_raises_and_never_returns_nothing(seat: Seat) -> None:
    seat.rest("a")
    for fault, args in (("error", {"code": 20}), ("lose_answer", {}), ("result", {"result": {"no": 1}})):
        seat.fake.fault(fault, "private/open_orders", **args)
        with pytest.raises(Unavailable):
            seat.venue.fetch_open_orders()
    seat.fake.fault("error", "private/cancel_all", code=20)
    with pytest.raises(OutcomeUnknown):
        seat.venue.cancel_all(None)
    seat.fake.fault("error", "private/account_summary", code=4)
    with pytest.raises(RateLimited) as limited:
        seat.venue.fetch_balances()
    assert limited.value.retry_after_s == 0.2
    seat.settle(0.25)
    assert seat.open_ids() == ["a"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, "<html>Bad Gateway</html>", Unavailable),
        (200, "<html>maintenance</html>", Unavailable),
        (200, '{"result": {"not": "a list"}}', Unavailable),
        (403, "<html>no</html>", RateLimited),
        (429, "", RateLimited),
        (401, "", Unauthorized),
    ],
)
def test_instruments_that_cannot_be_read_are_an_error(
    bare: Seat, status: int, body: str, error: type[Exception]
) -> None:
    bare.fake.http_fault(status, body)
    with pytest.raises(error):
        bare.venue.fetch_instruments()


def test_fills_are_paged_by_bookmark_without_doubles(seat: Seat) -> None:
    seat.rest("a", lots=1000)
    for _ in range(7):
        seat.fake.trade(PERP, "sell", "99.80", "0.01")
    seat.wait(lambda: len(seat.fills("a")) == 7)
    seat.fake.page = 3
    fills = seat.venue.fetch_fills(BTC, 0)
    assert [f.key for f in fills] == [f.key for f in seat.fills("a")] and len(fills) == 7
    assert [call.get("bookmark") for call in seat.fake.asked("private/trade_history")] == [None, "3", "6"]
    assert seat.venue.fetch_fills(BTC, fills[4].venue_ns) == fills[4:]
    with pytest.raises(Rejected):
        seat.venue.fetch_fills(InstrumentId.of("thalex", "DOGE-USD-PERP"), 0)


def test_what_happened_while_away_is_found_by_reading(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.cut(0.1)
    seat.wait(lambda: not seat.links()[-1])
    seat.fake.trade(PERP, "sell", "99.00", "0.5")
    seat.wait(lambda: seat.links()[-1])
    assert seat.fills("a") == []
    (fill,) = seat.venue.fetch_fills(BTC, 0)
    assert (fill.client_id, fill.lots, fill.fee, fill.fee_asset) == ("a", 100, D("0.001998"), "USD")
    assert seat.venue.fetch_order(BTC, "a").status is Status.FILLED
    (position,) = seat.venue.fetch_positions()
    assert (position.instrument, position.qty, position.entry_price) == (BTC, D("0.1"), D("99.9"))


def test_a_trade_without_its_fee_is_charged_the_careful_rate_and_said(seat: Seat) -> None:
    seat.fake.tells_fees = False
    seat.rest("a")
    seat.fake.trade(PERP, "sell", "99.00", "0.5")
    seat.wait(lambda: seat.fills("a"))
    assert seat.fills("a")[0].fee == D("0.0005") * D("99.9") * D("0.1")
    assert "without its fee" in seat.venue.trouble


def test_a_corrected_trade_is_said_and_no_settlement_becomes_a_fill(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.trade(PERP, "sell", "99.00", "0.5")
    seat.wait(lambda: seat.fills("a"))
    row = seat.account.trades[0]
    for kind in ("daily_mark", "expiration", "delete"):
        seat.account.trades.append({**row, "trade_type": kind, "trade_id": kind})
    assert len(seat.venue.fetch_fills(BTC, 0)) == 1
    assert "corrected" in seat.venue.trouble


def test_fee_rates_are_those_of_the_newest_trades(seat: Seat) -> None:
    assert seat.venue.fetch_fee_rates(BTC).maker == D("0.0005")  # by setting: nothing was traded yet
    seat.rest("m")
    seat.fake.trade(PERP, "sell", "99.00", "0.5")
    seat.place("t", 10_010, tif=Tif.IOC, post_only=False)
    seat.status("t", Status.FILLED)
    rates = seat.venue.fetch_fee_rates(BTC)
    assert (rates.maker, rates.taker) == (D("0.0002"), D("0.0005"))


def test_funding_is_paid_positive_and_of_the_asked_market(seat: Seat) -> None:
    row = {"asset": "USD", "time": 1000.5, "amount": -3, "instrument_name": PERP, "description": ""}
    seat.account.transactions = [
        {**row, "transaction_type": "perpetual funding"},
        {**row, "transaction_type": "perpetual funding", "amount": 1},
        {**row, "transaction_type": "session settlement"},
        {**row, "transaction_type": "perpetual funding", "time": 999.0},
    ]
    paid = seat.venue.fetch_funding(BTC, 1000 * 10**9)
    assert [p.amount for p in paid] == [D(3), D(-1)]
    assert len({p.payment_id for p in paid}) == 2


def test_orders_of_others_in_the_account_are_reported_under_their_own_names(seat: Seat) -> None:
    other = seat.another(ids=thalex.MemoryIds())
    other.fetch_instruments()
    other.connect(lambda event: None)
    seat.wait(lambda: seat.fake.logins == 2 and len(seat.fake.asked("private/subscribe")) == 2)
    seat.settle()
    other.send(Approved(Place("theirs", BTC, BUY, 9_970, 100), "w", _GRANT))
    seat.status("theirs", Status.OPEN)
    assert seat.open_ids() == ["theirs"]


def test_a_closed_venue_sends_nothing_and_closes_twice(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    seat.venue.close()
    seat.place("b")
    assert seat.answer("b").outcome is Outcome.UNAVAILABLE
    assert [o.p["label"] for o in seat.account.open()] == ["a"]


# ------------------------------------------------------------------------------------ with the gateway


class NoIntents:
    """An intent store that forgets."""

    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None: ...

    def record_done(self, client_id: str, at_ns: int) -> None: ...


def test_the_gateway_resolves_what_the_venue_left_unknown(seat: Seat) -> None:
    clock = Clock()
    told: list[Event] = []
    fills: list[Fill] = []
    gateway = Gateway(
        seat.venue,
        seat.venue.fetch_instruments(),
        clock=clock,
        intents=NoIntents(),
        desk_tag="test",
        run_no=1,
        deliver=told.append,
        on_fill=lambda worker, fill: None,
        resolve_worker=lambda number: "w",
    )

    def turn() -> None:
        while seat.heard:
            gateway.heard(seat.heard.pop(0))
        gateway.poll(clock.now_ns())
        while told:
            event = told.pop(0)
            if isinstance(event, FillHeard):
                fills.append(event.fill)
            gateway.heard(event)

    def until(condition: Callable[[], bool]) -> None:
        def look() -> bool:
            turn()
            return condition()

        seat.wait(look, 15.0)

    until(lambda: gateway.is_reconciled)
    there, lost = gateway.next_client_id(1), gateway.next_client_id(1)
    for client_id, kind, ticks in ((there, "lose_answer", 9_990), (lost, "lose_command", 9_980)):
        seat.fake.fault(kind, "private/insert")
        assert gateway.send(Approved(Place(client_id, BTC, BUY, ticks, 100), "w", _GRANT)) is None
        until(lambda: gateway.unknown_count == 1)
        until(lambda: gateway.unknown_count == 0)
    assert gateway.live_of("w") == (1, 0)
    seat.fake.cut(0.1)
    until(lambda: not gateway.is_reconciled)
    seat.fake.trade(PERP, "sell", "99.90", "0.24")
    until(lambda: gateway.is_reconciled and [fill.lots for fill in fills] == [40])
    assert gateway.kill("test") == 1
    until(lambda: gateway.live_count == 0)
    assert gateway.count_at_venue(None) == 0 and seat.account.open() == []
    assert len(seat.fake.asked("private/insert")) == 2
