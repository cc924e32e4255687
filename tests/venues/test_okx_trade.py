"""OKX over real sockets, against the fake: orders, reports, reads, and what can go wrong on the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from api.errors import OutcomeUnknown, RateLimited, Rejected, Unauthorized, Unavailable, UnknownOrder
from api.exchange import AccountMode, AccountReads, Exchange, FeeRates, KeyRights
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
    Position,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues import okx
from api.venues.okx import public
from api.venues.okx.public import Verdict
from api.wire_http import HttpLine
from api.wire_ws import SocketLine
from tests.venues.fake_okx import FakeAccount, FakeOkx, Market

D = Decimal
T = TypeVar("T", bound=Event)
SPOT, SWAP = InstrumentId("okx_spot:BTC-USDT"), InstrumentId("okx_swap:BTC-USDT-PERP")
BUY, SELL = Side.BUY, Side.SELL
QUICK = okx.Settings(
    answer_s=0.4,
    read_s=2.0,
    connect_s=2.0,
    pauses_s=(0.02, 0.05),
    overlap_s=0.1,
    silence_s=5.0,
    limit_share=10.0,
)
BIDS, ASKS = {"100": "0.5", "99.9": "0.2"}, {"100.1": "0.3", "100.2": "0.3"}


class Seat:
    """A fake, an account on it, and the venue somebody listens to."""

    def __init__(
        self, venue: str = "okx_spot", settings: okx.Settings = QUICK, *, is_demo: bool = False
    ) -> None:
        swap = Market("BTC-USDT-SWAP", 202, "BTC", "USDT", "SWAP", D("0.01"), D(1), D(1), D(10**6))
        self.swap = replace(swap, ct_val=D("0.01"), ct_type="linear", settle="USDT")
        self.spot = Market("BTC-USDT", 101, "BTC", "USDT")
        self.fake = FakeOkx((self.spot, self.swap), is_demo=is_demo)
        self.keeper = self.fake.account(BTC="100", USDT="100000")
        self.fake.book("BTC-USDT", BIDS, ASKS)
        self.fake.book("BTC-USDT-SWAP", {"100": "500"}, {"100.1": "300"})
        self.heard: list[Event] = []
        self.settings = settings
        self.is_demo = is_demo
        self.id = SPOT if venue == "okx_spot" else SWAP
        self.name = "BTC-USDT" if venue == "okx_spot" else "BTC-USDT-SWAP"
        self.made: list[okx.OkxTrading] = []
        self.venue = self.another(venue)

    def another(self, venue: str, key: okx.OkxKey | None = None, **more: Any) -> okx.OkxTrading:
        where = okx.on_this_machine(self.fake.rest, self.fake.socket, is_demo=self.is_demo)
        key = key or okx.OkxKey("key", "secret", "pass")
        self.made.append(okx.OkxTrading(venue, key, settings=self.settings, where=where, **more))
        return self.made[-1]

    def up(self) -> Seat:
        self.venue.fetch_instruments()
        self.venue.connect(self.heard.append)
        self.wait(lambda: self.links()[-1:] == [True])
        return self

    def wait(self, until: Callable[[], object], at_most_s: float = 5.0) -> None:
        end, pause = time.monotonic() + at_most_s, threading.Event()
        while not until():
            assert time.monotonic() < end, f"never came; heard {self.heard}"
            pause.wait(0.002)

    def settle(self, for_s: float = 0.05) -> None:
        threading.Event().wait(for_s)

    def all(self, kind: type[T]) -> list[T]:
        return [event for event in tuple(self.heard) if isinstance(event, kind)]

    def links(self) -> list[bool]:
        return [event.is_up for event in self.all(LinkChanged)]

    def send(self, command: Command) -> None:
        self.venue.send(Approved(command, "w", _GRANT))

    def place(self, name: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100, **more: Any) -> Place:
        command = Place(name, self.id, side, ticks, lots, **more)
        self.send(command)
        return command

    def answers(self, name: str, request: Request = Request.PLACE) -> list[Answered]:
        return [a for a in self.all(Answered) if (a.client_id, a.request) == (name, request)]

    def answer(self, name: str, request: Request = Request.PLACE, n: int = 0) -> Answered:
        self.wait(lambda: len(self.answers(name, request)) > n)
        return self.answers(name, request)[n]

    def reports(self, name: str) -> list[OrderReport]:
        return [e.report for e in self.all(OrderHeard) if e.report.client_id == name]

    def fills(self, name: str) -> list[Fill]:
        return [e.fill for e in self.all(FillHeard) if e.fill.client_id == name]

    def status(self, name: str, status: Status) -> OrderReport:
        self.wait(lambda: any(r.status is status for r in self.reports(name)))
        return next(r for r in self.reports(name) if r.status is status)

    def rest(self, name: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100) -> None:
        self.place(name, side, ticks, lots)
        assert self.answer(name).outcome is Outcome.ACCEPTED
        self.status(name, Status.OPEN)

    def close(self) -> None:
        for venue in self.made:
            venue.close()
        self.fake.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Seat]]:
    made: list[Seat] = []

    def one(*args: Any, **more: Any) -> Seat:
        made.append(Seat(*args, **more))
        return made[-1]

    yield one
    for seat in made:
        seat.close()


@pytest.fixture
def seat(make: Callable[..., Seat]) -> Seat:
    return make().up()


@pytest.fixture
def perp(make: Callable[..., Seat]) -> Seat:
    return make("okx_swap").up()


# ------------------------------------------------------------------------------------------ orders


def test_it_is_an_exchange_that_also_tells_of_the_account(seat: Seat) -> None:
    exchange: Exchange = seat.venue
    reads: AccountReads = seat.venue
    assert (exchange.venue, exchange.account) == ("okx_spot", "main")
    assert reads.fetch_positions() == () and reads.fetch_funding(SPOT, 0) == ()


def test_an_order_goes_out_by_number_is_answered_reported_and_listed(seat: Seat) -> None:
    seat.rest("md1")
    (call,) = [p for how, op, p in seat.fake.calls if (how, op) == ("socket", "order")]
    assert call["instIdCode"] == 101 and "instId" not in call and call["tdMode"] == "cash"
    assert call["stpMode"] == "cancel_taker" and call["tag"] == "makerdeck" and call["expTime"].isdigit()
    (listed,) = seat.venue.fetch_open_orders(SPOT)
    assert (listed.client_id, listed.ticks, listed.lots) == ("md1", 9_990, 100)
    assert seat.venue.fetch_order(SPOT, "md1").venue_id == seat.answer("md1").venue_id
    assert seat.venue.trouble == ""


def test_an_order_moves_fills_in_part_and_is_canceled(seat: Seat) -> None:
    seat.rest("md1")
    seat.send(Amend("md1", SPOT, 9_985, 90))
    assert seat.answer("md1", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.wait(lambda: (seat.reports("md1")[-1].ticks, seat.reports("md1")[-1].lots) == (9_985, 90))
    seat.fake.trade("BTC-USDT", "sell", "99.8", "0.04")
    seat.wait(lambda: seat.fills("md1"))
    (fill,) = seat.fills("md1")
    assert (fill.ticks, fill.lots, fill.is_maker) == (9_985, 40, True)
    assert (fill.fee, fill.fee_asset) == (D("0.000032"), "BTC")
    seat.send(Cancel("md1", SPOT))
    assert seat.answer("md1", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("md1", Status.CANCELED).filled_lots == 40
    assert seat.venue.fetch_fills(SPOT, 0) == (fill,)
    told = seat.all(BalancesHeard)[-1].balances
    seat.wait(lambda: seat.all(BalancesHeard)[-1].balances == seat.venue.fetch_balances())
    assert {b.asset for b in told} == {"BTC", "USDT"}


@pytest.mark.parametrize("live_first", [False, True])
def test_a_refused_post_only_order_is_accepted_and_then_canceled(seat: Seat, live_first: bool) -> None:
    seat.fake.live_before_refusal = live_first
    seat.place("md1", BUY, 10_010)
    assert seat.answer("md1").outcome is Outcome.ACCEPTED
    report = seat.status("md1", Status.CANCELED)
    assert report.filled_lots == 0 and "post-only" in report.reason
    assert [r.status for r in seat.reports("md1")] == [Status.OPEN] * live_first + [Status.CANCELED]


def test_what_is_left_of_takers_expires(seat: Seat) -> None:
    seat.place("ioc", BUY, 10_010, 400, tif=Tif.IOC, post_only=False)
    assert seat.status("ioc", Status.EXPIRED).filled_lots == 300
    seat.place("fok", BUY, 10_020, 400, tif=Tif.FOK, post_only=False)
    assert seat.status("fok", Status.EXPIRED).filled_lots == 0
    assert [f.is_maker for f in seat.fills("ioc")] == [False]


def test_meeting_an_own_order_ends_the_taker_and_the_mode_is_read_back(seat: Seat) -> None:
    seat.rest("maker", SELL, 10_005)
    seat.place("taker", BUY, 10_005, post_only=False)
    assert "self-trade" in seat.status("taker", Status.EXPIRED).reason
    seat.fake.stp_said = "cancel_maker"
    seat.rest("other", SELL, 10_100)
    seat.wait(lambda: "cancel_maker" in seat.venue.trouble)


@pytest.mark.parametrize(
    ("ticks", "lots", "error"),
    [
        (9_990, 1, "BelowMinimum"),
        (0, 100, "BelowMinimum"),
        (9_990, 10**7, "BelowMinimum"),
        (9_990, 10**6, ""),
    ],
)
def test_refusals_have_their_class(seat: Seat, ticks: int, lots: int, error: str) -> None:
    seat.place("big", BUY, 9_000, 999_000)
    seat.place("x", BUY, ticks, lots)
    answer = seat.answer("x")
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, error or "InsufficientFunds")


def test_a_client_id_is_used_once_here_although_the_venue_would_take_it_again(seat: Seat) -> None:
    seat.rest("md1")
    seat.send(Cancel("md1", SPOT))
    seat.status("md1", Status.CANCELED)
    seat.place("md1")
    again = seat.answer("md1", n=1)
    assert (again.outcome, again.error) == (Outcome.REJECTED, "Rejected") and "duplicate" in again.reason
    seat.place("small", BUY, 9_990, 1)
    assert seat.answer("small").outcome is Outcome.REJECTED
    seat.place("small")
    assert seat.answer("small", n=1).outcome is Outcome.ACCEPTED


def test_an_odd_client_id_keeps_its_name_over_a_restart(make: Callable[..., Seat]) -> None:
    seat = make()
    ids = okx.MemoryClientIds()
    seat.venue = seat.another("okx_spot", ids=ids)
    seat.up()
    seat.rest("not-done")
    assert seat.keeper.orders[0].client_id.startswith("mdx")
    seat.venue.close()
    back = seat.another("okx_spot", ids=ids)
    assert [o.client_id for o in back.fetch_open_orders()] == ["not-done"]
    assert back.fetch_order(SPOT, "not-done").status is Status.OPEN


def test_a_name_that_cannot_be_kept_is_not_sent(make: Callable[..., Seat]) -> None:
    class Full(okx.MemoryClientIds):
        def put(self, ours: str, theirs: str) -> None:
            raise OSError("disk full")

    seat = make()
    seat.venue = seat.another("okx_spot", ids=Full())
    seat.up()
    seat.place("not-done")
    assert seat.answer("not-done").outcome is Outcome.REJECTED
    assert seat.keeper.orders == []


def test_a_market_without_a_number_goes_over_http(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.spot.code = None
    seat.up()
    seat.rest("md1")
    seat.send(Cancel("md1", SPOT))
    seat.status("md1", Status.CANCELED)
    assert seat.fake.ops("socket") == [] and "cancel-order" in seat.fake.ops("http")


def test_orders_go_over_http_by_setting(make: Callable[..., Seat]) -> None:
    seat = make("okx_spot", replace(QUICK, order_path="http"))
    seat.up()
    seat.rest("md1")
    seat.send(Amend("md1", SPOT, 9_980, 100))
    assert seat.answer("md1", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.send(Cancel("md1", SPOT))
    seat.status("md1", Status.CANCELED)
    assert seat.fake.ops("socket") == []
    order = next(p for how, op, p in seat.fake.calls if op == "order")
    assert order["instId"] == "BTC-USDT" and order["expTime"].isdigit()


def test_cancel_all_lists_and_cancels_ours_in_batches_and_leaves_others(seat: Seat) -> None:
    seat.fake.page = 100
    for n in range(45):
        seat.place(f"md{n}", BUY, 9_900 - n, 10)
    seat.wait(lambda: len(seat.keeper.open()) == 45)
    seat.keeper.orders[7].p["tag"] = "byhand"
    seat.venue.cancel_all(SPOT)
    assert [o.client_id for o in seat.keeper.open()] == [seat.keeper.orders[7].client_id]
    assert seat.fake.ops("http").count("batch-cancel-orders") == 44
    seat.wait(
        lambda: sum(r.status is Status.CANCELED for e in seat.all(OrderHeard) for r in [e.report]) == 44
    )


def test_a_failed_cancel_all_says_so(seat: Seat) -> None:
    seat.rest("md1")
    seat.fake.fault("html", "batch-cancel-orders")
    with pytest.raises(OutcomeUnknown):
        seat.venue.cancel_all(None)
    seat.fake.fault(
        "error", "orders-pending", code="50001", msg="Service temporarily unavailable", status=503
    )
    with pytest.raises(Unavailable):
        seat.venue.cancel_all(None)
    seat.venue.cancel_all(None)
    assert seat.keeper.open() == []


def test_the_dead_man_counts_by_tag_in_the_venues_bounds(seat: Seat) -> None:
    seat.fake.time_scale = 0.01
    seat.rest("md1")
    seat.venue.arm_dead_man(0.2)
    seat.venue.arm_dead_man(0.2)
    assert "dead-man" in seat.status("md1", Status.CANCELED).reason
    calls = [p for _, op, p in seat.fake.calls if op == "cancel-all-after"]
    assert [(c["timeOut"], c["tag"]) for c in calls] == [("10", "makerdeck")]
    seat.rest("md2")
    seat.venue.arm_dead_man(500)
    seat.venue.arm_dead_man(0)
    seat.settle(0.15)
    assert [c.client_id for c in seat.keeper.open()] == ["md2"]
    with pytest.raises(Rejected):
        seat.venue.arm_dead_man(-1)


# --------------------------------------------------------------------------------------- contracts


def test_a_swap_is_traded_in_contracts_and_its_position_told_in_base(perp: Seat) -> None:
    (instrument,) = perp.venue.fetch_instruments()
    assert (instrument.id, instrument.contract_size, instrument.kind) == (SWAP, D("0.01"), "perp")
    perp.place("md1", SELL, 10_000, 40, post_only=False)
    perp.wait(lambda: perp.fills("md1"))
    (fill,) = perp.fills("md1")
    assert (fill.lots, fill.fee, fill.fee_asset) == (40, D("100") * 40 * D("0.01") * D("0.001"), "USDT")
    assert perp.venue.fetch_positions() == (Position(SWAP, D("-0.4"), D(100)),)
    perp.place("md2", SELL, 10_000, 10, post_only=False, reduce_only=True)
    assert perp.answer("md2").error == "Rejected"
    perp.place("md3", BUY, 10_010, 40, post_only=False, reduce_only=True)
    perp.status("md3", Status.FILLED)
    assert perp.venue.fetch_positions() == ()


def test_in_hedge_mode_long_and_short_are_two_positions(make: Callable[..., Seat]) -> None:
    seat = make("okx_swap")
    seat.keeper.pos_mode = "long_short_mode"
    seat.up()
    seat.place("a", BUY, 10_010, 20, post_only=False)
    seat.place("b", SELL, 10_000, 30, post_only=False)
    seat.status("b", Status.FILLED)
    assert sorted(p.qty for p in seat.venue.fetch_positions()) == [D("-0.3"), D("0.2")]
    seat.place("c", BUY, 10_010, 30, post_only=False, reduce_only=True)
    seat.status("c", Status.FILLED)
    assert [p.qty for p in seat.venue.fetch_positions()] == [D("0.2")]
    assert seat.venue.fetch_account_mode().position_mode == "hedge"


def test_an_account_for_spot_only_refuses_swaps_before_sending(make: Callable[..., Seat]) -> None:
    seat = make("okx_swap")
    seat.keeper.level = "1"
    seat.up()
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.REJECTED and seat.fake.ops("socket") == []


def test_a_margin_account_trades_spot_crossed_and_its_equity_is_free(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.keeper.level = "3"
    seat.up()
    seat.rest("md1")
    assert seat.keeper.orders[0].p["tdMode"] == "cross"
    assert {b.asset: b.free for b in seat.venue.fetch_balances()}["USDT"] == D(100_000) - D("9.99")


def test_each_product_hears_its_own_markets_only(make: Callable[..., Seat]) -> None:
    seat = make().up()
    other = seat.another("okx_swap")
    other.fetch_instruments()
    theirs: list[Event] = []
    other.connect(theirs.append)
    seat.wait(lambda: theirs)
    seat.rest("md1")
    other.send(Approved(Place("md2", SWAP, BUY, 9_990, 5), "w", _GRANT))
    seat.wait(lambda: any(isinstance(e, OrderHeard) for e in theirs))
    seat.settle()
    assert {e.report.client_id for e in theirs if isinstance(e, OrderHeard)} == {"md2"}
    assert {e.report.client_id for e in seat.all(OrderHeard)} == {"md1"}
    assert [o.client_id for o in other.fetch_open_orders()] == ["md2"]


def test_funding_fees_rights_and_modes_are_told(perp: Seat) -> None:
    perp.fake.fund(perp.keeper, "BTC-USDT-SWAP", "-0.25")
    perp.fake.fund(perp.keeper, "BTC-USDT-SWAP", "0.1")
    perp.fake.fund(perp.keeper, "ETH-USDT-SWAP", "9")
    assert [p.amount for p in perp.venue.fetch_funding(SWAP, 0)] == [D("0.25"), D("-0.1")]
    assert perp.venue.fetch_fee_rates(SWAP) == FeeRates(D("0.0008"), D("0.001"))
    assert perp.venue.fetch_key_rights() == KeyRights(True, False, False)
    assert perp.venue.fetch_account_mode() == AccountMode(
        "one-way", "spot and futures", "cancel_maker", False
    )
    assert perp.venue.self_trade_prevention(SWAP) == "cancel_taker"


def test_long_histories_are_read_by_pages(seat: Seat) -> None:
    seat.rest("md1", SELL, 10_005, 250)
    for _ in range(125):
        seat.fake.trade("BTC-USDT", "buy", "100.05", "0.002")
    fills = seat.venue.fetch_fills(SPOT, 0)
    assert sum(f.lots for f in fills) == 250 and len({f.key for f in fills}) == 125
    assert list(fills) == sorted(fills, key=lambda f: f.venue_ns)
    since = fills[60].venue_ns
    assert seat.venue.fetch_fills(SPOT, since) == tuple(f for f in fills if f.venue_ns >= since)
    seat.wait(lambda: len(seat.fills("md1")) == 125)
    assert {f.key for f in seat.fills("md1")} == {f.key for f in fills}


# ------------------------------------------------------------------------------- when things go wrong


def test_a_lost_answer_is_unknown_and_the_order_is_found(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "order")
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNKNOWN
    assert seat.venue.fetch_order(SPOT, "md1").status is Status.OPEN
    seat.fake.fault("lose_command", "order")
    seat.place("md2")
    assert seat.answer("md2").outcome is Outcome.UNKNOWN
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(SPOT, "md2")


def test_a_late_answer_follows_the_unknown_one(seat: Seat) -> None:
    seat.fake.fault("late_answer", "order", late_s=0.6)
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNKNOWN
    assert seat.answer("md1", n=1).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("kind", ["garbage", "empty", "close_after"])
def test_an_answer_that_says_nothing_is_unknown(seat: Seat, kind: str) -> None:
    seat.fake.fault(kind, "order")
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNKNOWN
    seat.wait(lambda: seat.links()[-1])
    assert seat.venue.fetch_order(SPOT, "md1").status is Status.OPEN


def test_a_truncated_message_costs_the_connection_and_leaves_what_waits_unknown(seat: Seat) -> None:
    seat.fake.fault("truncate", "order")
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNKNOWN
    seat.wait(lambda: seat.links() == [True, False, True])


@pytest.mark.parametrize(
    ("code", "outcome", "error"),
    [
        ("50004", Outcome.UNKNOWN, "OutcomeUnknown"),
        ("50026", Outcome.UNKNOWN, "OutcomeUnknown"),
        ("50011", Outcome.RATE_LIMITED, "RateLimited"),
        ("50036", Outcome.UNAVAILABLE, "Unavailable"),
        ("50111", Outcome.UNAUTHORIZED, "Unauthorized"),
        ("60013", Outcome.REJECTED, "Rejected"),
        ("98765", Outcome.UNKNOWN, "OutcomeUnknown"),
    ],
)
def test_an_answer_as_a_whole_may_be_an_error(seat: Seat, code: str, outcome: Outcome, error: str) -> None:
    seat.fake.fault("error", "order", code=code, msg="said")
    seat.place("md1")
    assert (seat.answer("md1").outcome, seat.answer("md1").error) == (outcome, error)


def test_a_limit_of_the_venue_empties_its_own_pool_and_cancels_still_go(make: Callable[..., Seat]) -> None:
    seat = make("okx_spot", replace(QUICK, limit_share=1.0)).up()
    seat.rest("md1")
    seat.fake.fault("error", "order", code="50011", msg="Rate limit reached.")
    seat.place("md2")
    assert 0 < seat.answer("md2").retry_after_s <= 2.0
    seat.place("md3")
    assert seat.answer("md3").outcome is Outcome.RATE_LIMITED
    assert seat.fake.ops("socket").count("order") == 1  # the third was not even sent
    seat.send(Cancel("md1", SPOT))
    assert seat.answer("md1", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert any(pool.name == "place BTC-USDT" and pool.used >= pool.limit for pool in seat.venue.limits())


def test_our_own_budget_stops_before_the_venue_does(make: Callable[..., Seat]) -> None:
    seat = make("okx_spot", replace(QUICK, limit_share=0.1)).up()
    seat.fake.limits["order"] = 60
    for n in range(20):
        seat.place(f"md{n}", BUY, 9_900 - n, 10)
    seat.wait(lambda: len(seat.all(Answered)) == 20)
    outcomes = [a.outcome for a in seat.all(Answered)]
    assert 6 <= outcomes.count(Outcome.ACCEPTED) <= 12 and set(outcomes) == {
        Outcome.ACCEPTED,
        Outcome.RATE_LIMITED,
    }


def test_nothing_is_sent_inside_a_time_the_venue_asked_for(seat: Seat) -> None:
    seat.fake.fault("error", "balance", code="50011", msg="Too Many Requests", status=429, retry_s=1.0)
    with pytest.raises(RateLimited) as limited:
        seat.venue.fetch_balances()
    assert limited.value.retry_after_s == 1.0
    before = len(seat.fake.calls)
    with pytest.raises(RateLimited):
        seat.venue.fetch_balances()
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.RATE_LIMITED
    assert len(seat.fake.calls) == before


def test_a_cut_leads_back_and_what_happened_meanwhile_is_found_by_reading(seat: Seat) -> None:
    seat.rest("md1")
    seat.fake.refuse_sockets = True
    seat.fake.cut()
    seat.wait(lambda: not seat.links()[-1])
    seat.place("md2", BUY, 9_980)
    assert seat.answer("md2").outcome is Outcome.ACCEPTED  # over HTTP
    seat.fake.trade("BTC-USDT", "sell", "99.85", "5")
    seat.fake.refuse_sockets = False
    seat.wait(lambda: seat.links()[-1])
    assert [f.client_id for f in seat.venue.fetch_fills(SPOT, 0)] == ["md1"]
    assert [o.client_id for o in seat.venue.fetch_open_orders()] == ["md2"]
    seat.rest("md3", BUY, 9_970)
    assert seat.fake.ops("socket")[-1] == "order"


def test_an_announced_upgrade_is_met_by_overlap(seat: Seat) -> None:
    seat.fake.notice()
    seat.wait(lambda: seat.fake.subscribed == 2)
    seat.wait(lambda: seat.fake.subscribed == 1)
    assert seat.links() == [True]
    seat.rest("md1")


def test_a_quiet_line_is_pinged_in_text_and_a_dead_one_replaced(make: Callable[..., Seat]) -> None:
    seat = make("okx_spot", replace(QUICK, silence_s=0.8)).up()
    seat.wait(lambda: seat.fake.pings >= 2)
    assert seat.links() == [True]
    seat.fake.mute()
    seat.wait(lambda: seat.links() == [True, False, True])


def test_duplicates_early_pushes_and_foreign_words_do_no_harm(seat: Seat) -> None:
    seat.fake.pushes_first = True
    seat.fake.repeat_pushes = 2
    seat.place("md1", BUY, 10_010, 100, post_only=False)
    seat.wait(lambda: seat.answers("md1") and len(seat.fills("md1")) == 2)
    assert len({f.key for f in seat.fills("md1")}) == 1
    kinds = [type(e) for e in seat.heard]
    assert kinds.index(FillHeard) < kinds.index(Answered)
    seat.fake.tell_raw(b'{"arg":{"channel":"liquidation-warning"},"data":[{"x":1}]}')
    seat.fake.tell_raw(b'{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"a"}')
    row = {"instId": "DOGE-USDT", "ordId": "1", "side": "buy", "state": "live", "sz": "1"}
    seat.fake.push_all(seat.keeper, "orders", [row])
    seat.settle()
    assert seat.links() == [True] and not seat.reports("")


def test_a_push_that_cannot_be_read_asks_for_reconciliation(seat: Seat) -> None:
    seat.fake.push_all(seat.keeper, "orders", [{"instId": "BTC-USDT", "ordId": 5, "state": "filled"}])
    seat.wait(lambda: seat.links() == [True, False, True])


def test_a_dropped_push_is_found_by_reading(seat: Seat) -> None:
    seat.rest("md1")
    seat.fake.drop_pushes = 1
    seat.fake.trade("BTC-USDT", "sell", "99", "5")
    seat.settle()
    assert seat.fills("md1") == []
    assert [f.client_id for f in seat.venue.fetch_fills(SPOT, 0)] == ["md1"]


@pytest.mark.parametrize("skew_s", [-3600, 45, 3600])
def test_a_wrong_clock_is_measured_and_carries_no_request_astray(
    make: Callable[..., Seat], skew_s: int
) -> None:
    seat = make()
    seat.fake.skew_ms = skew_s * 1000
    seat.up()
    seat.rest("md1")
    offset = seat.venue.clock_offset_ns
    assert offset is not None and abs(offset / 1e9 - skew_s) < 1


def test_a_clock_that_jumps_is_measured_again(seat: Seat) -> None:
    seat.rest("md1")
    seat.fake.skew_ms = 90_000
    assert len(seat.venue.fetch_open_orders()) == 1
    seat.fake.skew_ms = 180_000
    seat.venue.cancel_all(None)
    seat.fake.skew_ms = 270_000
    seat.fake.cut()
    seat.wait(lambda: seat.links()[-2:] == [False, True])


def test_an_order_past_its_deadline_is_not_executed(seat: Seat) -> None:
    seat.fake.skew_ms = 5_000  # the venue's clock ran away since it was measured
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNAVAILABLE
    assert seat.keeper.orders == []
    offset_ns = seat.venue.clock_offset_ns
    seat.wait(lambda: seat.venue.clock_offset_ns != offset_ns)  # measured anew, since it is in doubt
    seat.rest("md2")


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        (("no", "secret", "pass"), "KEY"),
        (("key", "no", "pass"), "sign"),
        (("key", "secret", "no"), "PASSPHRASE"),
    ],
)
def test_a_bad_key_is_said_without_showing_it(seat: Seat, parts: tuple[str, str, str], word: str) -> None:
    venue = seat.another("okx_spot", okx.OkxKey(*parts))
    with pytest.raises(Unauthorized) as error:
        venue.fetch_balances()
    assert word in error.value.message and "secret" not in error.value.message
    heard: list[Event] = []
    venue.connect(heard.append)
    seat.wait(lambda: heard)
    assert isinstance(heard[0], LinkChanged) and not heard[0].is_up


def test_a_live_key_in_the_demo_and_the_reverse_are_refused(make: Callable[..., Seat]) -> None:
    demo = make("okx_spot", is_demo=True).up()
    demo.rest("md1")
    demo.is_demo = False
    with pytest.raises(Unauthorized):
        demo.another("okx_spot").fetch_balances()


def test_a_refused_subscription_keeps_the_link_down(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.fake.refuse_subscriptions = "orders"
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: seat.links())
    assert seat.links()[0] is False
    seat.fake.refuse_subscriptions = ""
    seat.wait(lambda: seat.links()[-1])


@pytest.mark.parametrize("kind", ["html", "truncate", "garbage", "close_after", "redirect"])
def test_a_read_that_comes_back_broken_raises_and_never_guesses(seat: Seat, kind: str) -> None:
    for op, read in (
        ("orders-pending", seat.venue.fetch_open_orders),
        ("balance", seat.venue.fetch_balances),
        ("instruments", seat.venue.fetch_instruments),
    ):
        seat.fake.fault(kind, op, 2)
        with pytest.raises(Unavailable):
            read()
        seat.fake._faults.clear()


@pytest.mark.parametrize("kind", ["html", "truncate", "garbage", "close_after", "redirect"])
def test_a_write_over_http_that_comes_back_broken_is_unknown(make: Callable[..., Seat], kind: str) -> None:
    seat = make("okx_spot", replace(QUICK, order_path="http")).up()
    seat.fake.fault(kind, "order")
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.UNKNOWN
    assert seat.fake.ops("http").count("order") == (0 if kind == "html" else 1)


def test_the_list_of_markets_is_read_anew_when_a_number_was_refused(seat: Seat) -> None:
    seat.spot.code = 777  # the market was listed anew
    seat.place("md1")
    assert seat.answer("md1").outcome is Outcome.REJECTED
    assert seat.venue._account.is_stale
    seat.venue.fetch_instruments()
    seat.rest("md2")


def test_an_unknown_market_and_a_market_that_rests_are_refused(seat: Seat) -> None:
    doge = InstrumentId("okx_spot:DOGE-USDT")
    with pytest.raises(Rejected):
        seat.venue.fetch_fills(doge, 0)
    seat.send(Place("md1", doge, BUY, 1, 1))
    assert seat.answer("md1").outcome is Outcome.REJECTED
    seat.spot.state = "suspend"
    seat.place("md2")
    assert seat.answer("md2").outcome is Outcome.REJECTED
    assert seat.venue.fetch_instruments() == ()


# ---------------------------------------------------------------------------------- the public socket


@pytest.mark.parametrize("is_pushed", [True, False])
def test_a_book_is_followed_from_a_pushed_or_a_read_snapshot(
    make: Callable[..., Seat], is_pushed: bool
) -> None:
    seat = make()
    where = okx.on_this_machine(seat.fake.rest, seat.fake.socket)
    seat.fake.pushes_snapshots = is_pushed
    line, http = SocketLine(where.public, where.hosts), HttpLine(where.rest, where.hosts)
    said: list[public.Message] = []

    def heard() -> list[public.Message]:
        for raw in line.read():
            said.extend(public.decode(raw))
        return said

    for message in public.subscriptions(public.public_args(["BTC-USDT"])):
        line.send_text(message)
    seat.wait(lambda: len(heard()) >= 3 + is_pushed)
    rule = public.Continuity()
    if is_pushed:
        (snapshot,) = [m for m in said if isinstance(m, public.DepthSnapshot)]
    else:
        seat.fake.book("BTC-USDT", {"99": "1"}, ASKS)  # heard, and already in the one that is read
        answer = http.ask("GET", public.snapshot_path("BTC-USDT"), is_write=False)
        snapshot = public.snapshot_of("BTC-USDT", answer.body)
    assert rule.start(snapshot, is_pushed=is_pushed) is Verdict.APPLY
    seat.fake.book("BTC-USDT", BIDS, ASKS)
    seat.fake.heartbeat("BTC-USDT")
    seat.fake.trade("BTC-USDT", "sell", "99.9", "0.1")
    seat.wait(lambda: any(isinstance(m, public.PublicTrade) for m in heard()))
    verdicts = [rule.feed(m) for m in said if isinstance(m, public.DepthDiff)]
    already_there = [] if is_pushed else [Verdict.IGNORE]
    assert verdicts == [*already_there, Verdict.APPLY, Verdict.IGNORE]
    assert rule.seq == seat.spot.seq
    assert any(isinstance(m, public.Touch) for m in said)
    line.send_text(public.PING)
    seat.wait(lambda: public.Control("pong") in heard())
    line.close()
    http.close()


# -------------------------------------------------------------------------------------------- leaving


def test_orders_rest_on_after_close_and_are_found_after_a_restart(seat: Seat) -> None:
    seat.rest("md1")
    seat.venue.close()
    seat.venue.close()
    seat.place("md2")
    assert seat.answer("md2").outcome is Outcome.UNAVAILABLE
    seat.fake.trade("BTC-USDT", "sell", "99.9", "0.23")
    back = seat.another("okx_spot")
    (rests,) = back.fetch_open_orders()
    assert (rests.client_id, rests.filled_lots) == ("md1", 30)
    assert [f.lots for f in back.fetch_fills(SPOT, 0)] == [30]
    heard: list[Event] = []
    back.connect(heard.append)
    seat.wait(lambda: heard)
    back.send(Approved(Cancel("md1", SPOT), "w", _GRANT))
    seat.wait(lambda: any(isinstance(e, Answered) and e.outcome is Outcome.ACCEPTED for e in heard))


def test_what_waits_at_close_is_unknown_and_every_command_has_one_answer(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "order", 3)
    for n in range(3):
        seat.place(f"md{n}", BUY, 9_900, 10)
    seat.settle()
    seat.venue.close()
    assert [a.outcome for a in seat.all(Answered)] == [Outcome.UNKNOWN] * 3


def test_many_commands_are_answered_once_each(seat: Seat) -> None:
    for n in range(40):
        seat.place(f"md{n}", BUY, 9_900 - n, 10)
    for n in range(0, 40, 2):
        seat.send(Cancel(f"md{n}", SPOT))
    seat.wait(lambda: len(seat.all(Answered)) >= 60)
    seat.settle()
    assert len(seat.all(Answered)) == 60
    assert sorted(o.client_id for o in seat.keeper.open()) == sorted(f"md{n}" for n in range(1, 40, 2))


def test_no_secret_is_in_anything_that_is_told_or_raised(
    make: Callable[..., Seat], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    seat = make()
    keeper: FakeAccount = seat.fake.account("other", "SUPERSECRET", "PASSPHRASEWORD", BTC="1", USDT="1")
    venue = seat.another("okx_spot", okx.OkxKey("other", "SUPERSECRET", "PASSPHRASEWORD"))
    venue.fetch_instruments()
    heard: list[Event] = []
    venue.connect(heard.append)
    seat.wait(lambda: heard)
    keeper.revoked = True
    seat.fake.cut()
    seat.wait(lambda: len(heard) > 3)
    with pytest.raises(Unauthorized) as error:
        venue.fetch_balances()
    said = json.dumps([str(heard), str(error.value), caplog.text, repr(venue), str(venue.limits())])
    assert "SUPERSECRET" not in said and "PASSPHRASEWORD" not in said
