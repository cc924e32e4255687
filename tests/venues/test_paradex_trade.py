"""Paradex over real sockets, against the fake: orders, reports, reads, and what can go wrong on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from api.errors import (
    BadInput,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    UnknownOrder,
)
from api.exchange import AccountMode, AccountReads, Exchange, FeeRates, KeyRights
from api.types import (
    _GRANT,
    Amend,
    Answered,
    Approved,
    Balance,
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
from api.venues import paradex
from tests.venues.fake_paradex import CHAIN, FakeAccount, FakeParadex, Market

D = Decimal
T = TypeVar("T", bound=Event)
BTC = InstrumentId("paradex:BTC-USDC-PERP")
BUY, SELL = Side.BUY, Side.SELL
ADDRESS, PRIVATE = "0x129c135ed63df9353885e292be4426b8ed6122b13c6c0e1bb787288a1f5adfa", 0x1234567890ABCDEF
QUICK = paradex.Settings(
    answer_s=0.4, read_s=2.0, connect_s=2.0, pauses_s=(0.02, 0.05), silence_s=5.0, limit_share=10.0
)
BIDS, ASKS = {"100": "0.5", "99.9": "0.2"}, {"100.1": "0.3", "100.2": "0.3"}


class Seat:
    """A fake, an account on it, and the venue somebody listens to."""

    def __init__(self, settings: paradex.Settings = QUICK) -> None:
        self.fake = FakeParadex([Market(), Market("ETH-USD-PERP", "ETH"), Market("BTC-USD", kind="SPOT")])
        self.keeper: FakeAccount = self.fake.account(ADDRESS, PRIVATE, USDC="100000")
        self.fake.book("BTC-USD-PERP", BIDS, ASKS)
        self.heard: list[Event] = []
        self.settings = settings
        self.made: list[paradex.ParadexTrading] = []
        self.venue = self.another()

    def another(self, private: int = PRIVATE, **more: Any) -> paradex.ParadexTrading:
        key = paradex.ParadexKey(ADDRESS, hex(private), CHAIN)
        where = paradex.on_this_machine(self.fake.rest, self.fake.socket)
        settings = more.pop("settings", self.settings)
        self.made.append(paradex.ParadexTrading(key, settings=settings, where=where, **more))
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
        """Up and down; a further reason for the same state is left out."""
        told = [event.is_up for event in self.all(LinkChanged)]
        return [state for at, state in enumerate(told) if not at or told[at - 1] is not state]

    def send(self, command: Command) -> None:
        self.venue.send(Approved(command, "w", _GRANT))

    def place(self, name: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100, **more: Any) -> None:
        self.send(Place(name, BTC, side, ticks, lots, **more))

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


# ------------------------------------------------------------------------------------------ orders


def test_it_is_an_exchange_that_also_tells_of_the_account(seat: Seat) -> None:
    exchange: Exchange = seat.venue
    reads: AccountReads = seat.venue
    assert (exchange.venue, exchange.account) == ("paradex", "main")
    assert [i.symbol for i in exchange.fetch_instruments()] == ["BTC-USDC-PERP", "ETH-USDC-PERP"]
    assert reads.fetch_positions() == () and reads.fetch_funding(BTC, 0) == ()


def test_an_order_leaves_signed_is_answered_reported_and_listed(seat: Seat) -> None:
    seat.rest("md-1")
    (call,) = [p for how, op, p in seat.fake.calls if (how, op) == ("socket", "order.create")]
    assert (call["instruction"], call["stp"], call["size"], call["price"]) == (
        "POST_ONLY", "EXPIRE_TAKER", "0.1", "99.9",
    )  # fmt: skip
    assert call["client_id"] == "md-1" and call["recv_window"] == 400 and "flags" not in call
    (listed,) = seat.venue.fetch_open_orders(BTC)
    assert (listed.client_id, listed.ticks, listed.lots) == ("md-1", 9_990, 100)
    assert seat.venue.fetch_order(BTC, "md-1").venue_id == seat.answer("md-1").venue_id
    assert seat.venue.trouble == ""


def test_an_order_is_modified_with_a_new_signature_fills_in_part_and_is_canceled(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Amend("a", BTC, 9_985, 90))
    assert seat.answer("a", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.wait(lambda: (seat.reports("a")[-1].ticks, seat.reports("a")[-1].lots) == (9_985, 90))
    seat.fake.trade("BTC-USD-PERP", "SELL", "99.8", "0.04")
    seat.wait(lambda: seat.fills("a"))
    (fill,) = seat.fills("a")
    assert (fill.ticks, fill.lots, fill.is_maker, fill.side) == (9_985, 40, True, BUY)
    assert (fill.fee, fill.fee_asset) == (D("99.85") * D("0.04") * D("0.0002"), "USDC")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("a", Status.CANCELED).filled_lots == 40
    assert seat.venue.fetch_positions() == (Position(BTC, D("0.04"), D("99.85")),)
    told = seat.all(BalancesHeard)
    assert told == []  # until both halves of the account were read once
    seat.venue.fetch_balances()
    seat.rest("b")
    seat.fake.trade("BTC-USD-PERP", "SELL", "99.8", "0.04")
    seat.wait(lambda: seat.all(BalancesHeard))


def test_a_post_only_order_that_would_take_is_queued_and_then_refused(seat: Seat) -> None:
    seat.place("a", BUY, 10_010)
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    report = seat.status("a", Status.REJECTED)
    assert (report.filled_lots, report.reason) == (0, "POST_ONLY_WOULD_CROSS")
    assert seat.venue.fetch_order(BTC, "a").status is Status.REJECTED


def test_what_cannot_be_traded_here_is_refused_before_it_leaves(seat: Seat) -> None:
    seat.place("fok", tif=Tif.FOK, post_only=False)
    seat.place("ioc", tif=Tif.IOC, post_only=True)
    seat.place("big", lots=1_000_001)
    seat.send(Amend("nobody", BTC, 9_990, 100))
    told = [(seat.answer(name).outcome, seat.answer(name).error) for name in ("fok", "ioc", "big")]
    rejected = Outcome.REJECTED
    assert told == [(rejected, "Rejected"), (rejected, "Rejected"), (rejected, "BelowMinimum")]
    assert seat.answer("nobody", Request.AMEND).error == "UnknownOrder"
    assert not any(op.startswith("order.") for _, op, _ in seat.fake.calls)


def test_reduce_only_travels_as_a_flag_and_immediate_orders_expire(seat: Seat) -> None:
    seat.place("a", SELL, 10_000, 700, tif=Tif.IOC, post_only=False, reduce_only=True)
    assert seat.status("a", Status.EXPIRED).filled_lots == 500
    (call,) = [p for _, op, p in seat.fake.calls if op == "order.create"]
    assert (call["flags"], call["instruction"]) == (["REDUCE_ONLY"], "IOC")
    assert [fill.side for fill in seat.fills("a")] == [SELL]


def test_ids_that_do_not_fit_are_translated_and_found_again_by_another_process(seat: Seat) -> None:
    ids = paradex.MemoryClientIds()
    seat.venue.close()
    seat.heard.clear()
    seat.venue = seat.another(ids=ids)
    seat.up()
    name = "a name: with / everything" * 4
    seat.rest(name)
    again = seat.another(ids=ids)
    assert [order.client_id for order in again.fetch_open_orders()] == [name]
    assert again.fetch_order(BTC, name).client_id == name


def test_a_cancel_overtakes_orders_that_wait_but_not_its_own(seat: Seat) -> None:
    seat.rest("old")
    for n in range(12):
        seat.place(f"n{n}", ticks=9_900 - n)
    seat.send(Cancel("old", BTC))
    seat.send(Cancel("n11", BTC))
    assert seat.answer("n11", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.status("n11", Status.CANCELED)
    ops = [(op, p["client_id"]) for _, op, p in seat.fake.calls if op in ("order.create", "order.cancel")]
    assert ops.index(("order.cancel", "old")) < ops.index(("order.create", "n11"))
    assert ops.index(("order.cancel", "n11")) > ops.index(("order.create", "n11"))


def test_an_order_without_a_client_id_is_told_and_cancelled_by_the_venues_own(seat: Seat) -> None:
    seat.rest("a")
    seat.keeper.open()[0].p["client_id"] = ""
    (found,) = seat.venue.fetch_open_orders()
    assert found.client_id == f"#{found.venue_id}"
    assert seat.venue.fetch_order(BTC, found.client_id).status is Status.OPEN
    seat.send(Cancel(found.client_id, BTC))
    assert seat.answer(found.client_id, Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.venue.fetch_open_orders() == ()


def test_an_id_that_rests_already_is_unknown_and_found_by_asking(make: Callable[..., Seat]) -> None:
    seat = make().up()
    seat.rest("a")
    seat.venue.close()
    seat.heard.clear()
    seat.venue = seat.another()  # as after a restart that forgot
    seat.up()
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.venue.fetch_order(BTC, "a").status is Status.OPEN


def test_cancel_all_asks_for_one_market_or_for_every_one(seat: Seat) -> None:
    seat.rest("a")
    seat.rest("b", SELL, 10_020)
    seat.venue.cancel_all(BTC)
    seat.status("a", Status.CANCELED)
    seat.status("b", Status.CANCELED)
    seat.venue.cancel_all(None)
    told = [p["market"] for _, op, p in seat.fake.calls if op == "order.cancel_all"]
    assert told == ["BTC-USD-PERP", None]


def test_orders_go_over_http_where_it_is_set_so(make: Callable[..., Seat]) -> None:
    seat = make(replace(QUICK, order_path="http")).up()
    seat.rest("a")
    seat.send(Amend("a", BTC, 9_980, 100))
    assert seat.answer("a", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.status("a", Status.CANCELED)
    assert {how for how, op, _ in seat.fake.calls if op.startswith("order.")} == {"http"}
    with pytest.raises(Unavailable):
        seat.venue.arm_dead_man(5)


# ------------------------------------------------------------------------------------ whose side, twice


def test_the_side_of_a_makers_fill_is_that_of_its_order_also_after_a_restart(seat: Seat) -> None:
    seat.rest("a", SELL, 10_010, 60)
    seat.fake.trade("BTC-USD-PERP", "BUY", "100.2", "0.06")
    seat.status("a", Status.FILLED)
    assert seat.keeper.fills[0]["side"] == "BUY"  # the taker's
    assert [fill.side for fill in seat.fills("a")] == [SELL]
    assert [fill.side for fill in seat.another().fetch_fills(BTC, 0)] == [SELL]


def test_a_fill_whose_order_is_not_told_waits_for_it_and_then_costs_the_link(seat: Seat) -> None:
    other = seat.another()
    other.fetch_instruments()
    told: list[Event] = []
    other.connect(told.append)
    seat.wait(lambda: [e for e in told if isinstance(e, LinkChanged)])
    seat.fake.hold_orders = True
    seat.place("a")
    seat.answer("a")
    seat.fake.trade("BTC-USD-PERP", "SELL", "99.8", "0.05")
    seat.wait(lambda: seat.fills("a"))  # its sender knows the side
    assert not [event for event in told if isinstance(event, FillHeard)]

    def links() -> list[LinkChanged]:
        return [event for event in tuple(told) if isinstance(event, LinkChanged)]

    seat.wait(lambda: [e for e in links() if not e.is_up and "side is not known" in e.reason])
    assert [fill.side for fill in other.fetch_fills(BTC, 0)] == [BUY]


def test_what_is_told_twice_is_told_once_for_orders_and_by_one_id_for_fills(seat: Seat) -> None:
    seat.fake.repeat_pushes = 10
    seat.rest("a")
    seat.fake.trade("BTC-USD-PERP", "SELL", "99.8", "0.1")
    seat.status("a", Status.FILLED)
    seat.wait(lambda: len(seat.fills("a")) == 2)
    assert len({fill.key for fill in seat.fills("a")}) == 1
    assert [report.status for report in seat.reports("a")] == [Status.OPEN, Status.FILLED]


def test_histories_are_read_to_their_last_page(seat: Seat) -> None:
    seat.fake.page = 2
    seat.rest("a", BUY, 9_990, 100)
    for _ in range(5):
        seat.fake.trade("BTC-USD-PERP", "SELL", "99.8", "0.01")
    fills = seat.venue.fetch_fills(BTC, 0)
    assert len(fills) == 5 and list(fills) == sorted(fills, key=lambda f: (f.venue_ns, int(f.trade_id)))
    assert seat.venue.fetch_fills(BTC, fills[-1].venue_ns + 1) == ()


def test_a_busted_fill_is_a_trouble_that_a_person_must_see(seat: Seat) -> None:
    seat.fake.bust(ADDRESS, "77")
    seat.wait(lambda: "undid fill 77" in seat.venue.trouble)


def test_a_self_trade_mode_that_the_venue_changed_is_seen(seat: Seat) -> None:
    seat.fake.stp_told = "EXPIRE_MAKER"
    seat.rest("a")
    assert "EXPIRE_MAKER" in seat.venue.trouble


# ------------------------------------------------------------------------------------ reads


def test_the_account_tells_rates_mode_rights_funding_and_status(seat: Seat) -> None:
    reads = seat.venue
    assert reads.fetch_fee_rates(BTC) == FeeRates(D("0.0002"), D("0.0005"))
    assert reads.fetch_account_mode() == AccountMode("one-way", "cross_margin", "EXPIRE_TAKER")
    assert reads.fetch_key_rights() == KeyRights(True, True, None)
    mine = {"public_key": seat.keeper.public, "allowed_cidrs": ["1.2.3.0/24"], "revoked_at": 0}
    seat.keeper.subkeys = [mine]
    assert reads.fetch_key_rights() == KeyRights(True, False, True)
    row = {"id": "9", "market": "BTC-USD-PERP", "payment": "-1.5", "created_at": 1_700_000_000_000}
    seat.keeper.payments = [row]
    (payment,) = reads.fetch_funding(BTC, 0)
    assert (payment.amount, payment.asset) == (D("1.5"), "USDC")
    assert reads.fetch_balances() == (Balance("USDC", D(100000), D(0)),)
    assert reads.fetch_status() == "ok"
    assert reads.fetch_server_ns() > 0 and reads.clock_offset_ns is not None


def test_a_market_with_rates_of_its_own_wins_over_the_account(make: Callable[..., Seat]) -> None:
    seat = make()
    fees = {"maker_fee": {"fee": "-0.0001"}, "taker_fee": {"fee": "0.0003"}}
    seat.fake.markets["ETH-USD-PERP"].fee_config = {"api_fee": fees}
    btc, eth = seat.venue.fetch_instruments()
    assert (btc.maker_fee, eth.maker_fee, eth.taker_fee) == (D("0.0002"), D("-0.0001"), D("0.0003"))
    assert seat.venue.fetch_fee_rates(eth.id) == FeeRates(D("-0.0001"), D("0.0003"))


def test_onboarding_is_signed_and_asked_once(seat: Seat) -> None:
    seat.venue.onboard("0x" + "ab" * 20)
    assert seat.fake.onboarded == [seat.keeper.public]
    with pytest.raises(BadInput):
        seat.venue.onboard("not an address\r\nX: y")


def test_another_chain_a_foreign_key_and_an_unknown_account_are_refused(make: Callable[..., Seat]) -> None:
    seat = make()
    with pytest.raises(Unauthorized):
        seat.another(private=0x999).fetch_balances()
    seat.fake.chain = "PRIVATE_SN_OTHER"
    with pytest.raises(Unauthorized):
        seat.another().fetch_instruments()
    seat.fake.accounts.clear()
    with pytest.raises(Unauthorized):
        seat.another().fetch_balances()
    with pytest.raises(BadInput):
        paradex.ParadexTrading(paradex.ParadexKey(ADDRESS, "0x5", CHAIN), env="live")


def test_a_page_of_html_or_a_broken_answer_is_an_error_and_never_nothing(seat: Seat) -> None:
    seat.fake.fault("html", "orders")
    with pytest.raises(Unavailable):
        seat.venue.fetch_open_orders()
    for body in (b'{"results": [{"id": "1"', b'{"results": [{"id": "1"}]}', b'{"rows": []}', b"[]"):
        seat.fake.fault("answer", "orders", body=body)
        with pytest.raises(Unavailable):
            seat.venue.fetch_open_orders()
    seat.fake.fault("answer", "positions", body=b'{"results": [{"market": "BTC-USD-PERP", "side": "UP", "size": "1"}]}')  # fmt: skip  # noqa: E501
    with pytest.raises(Unavailable):
        seat.venue.fetch_positions()


# ------------------------------------------------------------------------------------ tokens and clock


def test_a_token_that_ends_is_renewed_without_a_word(seat: Seat) -> None:
    seat.fake.end_tokens()
    assert seat.venue.fetch_open_orders() == ()
    seat.rest("a")  # the connection stays authenticated
    assert seat.links() == [True]


def test_a_token_is_renewed_before_its_end_in_the_background(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.fake.token_life_s = 1.5
    seat.up()
    first = seat.venue._account.tokens.renewals
    seat.wait(lambda: seat.venue._account.tokens.renewals > first)
    assert seat.links() == [True]


def test_a_write_over_http_with_a_dead_token_leaves_once_more_with_a_fresh_one(
    make: Callable[..., Seat],
) -> None:
    seat = make(replace(QUICK, order_path="http")).up()
    seat.fake.end_tokens()
    seat.rest("a")
    assert len([1 for _, op, _ in seat.fake.calls if op == "order.create"]) == 1


def test_a_wrong_clock_is_measured_before_anything_is_signed(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.fake.clock_skew_ms = 3_600_000
    seat.up()
    seat.rest("a")
    offset = seat.venue.clock_offset_ns
    assert offset is not None and abs(offset - 3_600 * 10**9) < 10**9


def test_a_clock_that_jumps_costs_one_order_and_is_measured_again(seat: Seat) -> None:
    seat.fake.clock_skew_ms = 60_000
    seat.place("late")
    answer = seat.answer("late")
    assert (answer.outcome, answer.error) == (Outcome.UNAVAILABLE, "Unavailable")
    seat.wait(lambda: (seat.venue.clock_offset_ns or 0) > 50 * 10**9)
    seat.place("late")  # nothing had come of it: the id may be used again
    assert seat.answer("late", n=1).outcome is Outcome.ACCEPTED


# ------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("code", "message", "outcome", "error"),
    [
        (-32603, "internal error", Outcome.UNKNOWN, "OutcomeUnknown"),
        (-32602, "Invalid parameters", Outcome.REJECTED, "Rejected"),
        (-32000, "INVALID_ORDER_SIZE: too small", Outcome.REJECTED, "BelowMinimum"),
        (-32000, "SYSTEM_STATUS_CANCEL_ONLY", Outcome.UNAVAILABLE, "Unavailable"),
        (-32000, "INVALID_ORDER_SIGNATURE", Outcome.UNAUTHORIZED, "Unauthorized"),
        (-32000, "something that nobody described", Outcome.UNKNOWN, "OutcomeUnknown"),
    ],
)
def test_errors_over_the_socket_get_their_class(
    seat: Seat, code: int, message: str, outcome: Outcome, error: str
) -> None:
    seat.fake.fault("error", "order.create", code=code, message=message)
    seat.place("a")
    assert (seat.answer("a").outcome, seat.answer("a").error) == (outcome, error)
    assert seat.links() == [True]


def test_a_limit_of_the_socket_empties_the_second_and_spares_the_venue(seat: Seat) -> None:
    seat.fake.fault("error", "order.create", code=42901, message="rate limit exceeded")
    seat.place("a")
    answer = seat.answer("a")
    assert answer.outcome is Outcome.RATE_LIMITED and 0 < answer.retry_after_s <= 1.0


def test_a_retry_after_holds_for_everything(seat: Seat) -> None:
    seat.fake.fault("error", "orders", error="", status=429, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as limited:
        seat.venue.fetch_open_orders()
    assert limited.value.retry_after_s == 7.0
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.RATE_LIMITED and seat.answer("a").retry_after_s > 5
    assert not [1 for _, op, _ in seat.fake.calls if op == "order.create"]


def test_the_venues_own_count_is_what_the_console_shows(seat: Seat) -> None:
    seat.venue.fetch_open_orders()
    shown = {pool.name: pool for pool in seat.venue.limits()}
    assert set(shown) == {"orders/s", "orders/min", "reads/s", "reads/min", "public/min", "auth/min"}
    assert shown["auth/min"].used >= 1


@pytest.mark.parametrize("kind", ["lose_answer", "lose_command"])
def test_a_lost_answer_is_unknown_and_the_truth_is_found_by_reading(seat: Seat, kind: str) -> None:
    seat.fake.fault(kind, "order.create")
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    if kind == "lose_answer":
        assert seat.venue.fetch_order(BTC, "a").status is Status.OPEN
    else:
        with pytest.raises(UnknownOrder):
            seat.venue.fetch_order(BTC, "a")


def test_a_late_answer_follows_the_unknown_one(seat: Seat) -> None:
    seat.fake.fault("late", "order.create", seconds=0.6)
    seat.place("a")
    assert [seat.answer("a", n=n).outcome for n in (0, 1)] == [Outcome.UNKNOWN, Outcome.ACCEPTED]


@pytest.mark.parametrize("kind", ["error_after", "lose_answer", "html"])
def test_over_http_a_5xx_or_a_lost_answer_is_unknown(make: Callable[..., Seat], kind: str) -> None:
    seat = make(replace(QUICK, order_path="http")).up()
    seat.fake.fault(kind, "order.create")
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert len([1 for _, op, _ in seat.fake.calls if op == "order.create"]) <= 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"{", b'{"jsonrpc":"2.0","result":{"order":{}},"id":"x"}', b"[1]"]
)
def test_a_frame_that_cannot_be_read_costs_the_connection_and_leaves_the_order_unknown(
    seat: Seat, body: bytes
) -> None:
    seat.fake.fault("raw", "order.create", body=body)
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    seat.wait(lambda: seat.links() == [True, False, True])
    seat.rest("b")


def test_an_answer_without_an_order_is_unknown(seat: Seat) -> None:
    seat.fake.fault("raw", "order.create", body=b'{"jsonrpc":"2.0","result":{},"id":9999}')
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.links() == [True]


def test_fills_while_the_stream_was_cut_are_found_by_reading(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.cut(0.1)
    seat.wait(lambda: seat.links() == [True, False])
    seat.fake.trade("BTC-USD-PERP", "SELL", "99.0", "0.5")
    seat.wait(lambda: seat.links() == [True, False, True])
    assert [fill.client_id for fill in seat.venue.fetch_fills(BTC, 0)] == ["a"]
    assert seat.venue.fetch_order(BTC, "a").status is Status.FILLED


def test_while_the_socket_is_down_orders_leave_over_http(seat: Seat) -> None:
    seat.fake.refuse_sockets = True
    seat.fake.cut()
    seat.wait(lambda: seat.links() == [True, False])
    seat.place("a")
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED


def test_a_login_that_is_refused_is_told_and_tried_again_with_a_fresh_token(
    make: Callable[..., Seat],
) -> None:
    seat = make()
    seat.fake.fault("error", "auth", code=40111, message="Invalid Bearer Token")
    seat.venue.fetch_instruments()
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: seat.links() == [False, True])


def test_maintenance_is_unavailable_and_cancels_go_on(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.status = "cancel_only"
    seat.place("b")
    assert seat.answer("b").outcome is Outcome.UNAVAILABLE
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.venue.fetch_status() == "cancel_only"


# ------------------------------------------------------------------------------------ dead-man, stop


def covered(seat: Seat) -> list[bool]:
    return [p["enabled"] for _, op, p in seat.fake.calls if op == "order.cancel_on_disconnect"]


def test_a_dead_man_that_is_not_renewed_cuts_the_connection_and_the_venue_cancels(seat: Seat) -> None:
    seat.venue.arm_dead_man(0.3)
    seat.rest("a")
    seat.wait(lambda: seat.links() == [True, False, True])
    assert seat.venue.fetch_open_orders() == ()
    assert seat.venue.fetch_order(BTC, "a").status is Status.CANCELED
    assert seat.venue.fetch_order(BTC, "a").reason == "CANCEL_ON_DISCONNECT"
    seat.rest("b")
    seat.settle(0.5)
    assert covered(seat) == [True] and len(seat.venue.fetch_open_orders()) == 1


def test_a_dead_man_that_is_renewed_speaks_once_and_disarmed_cancels_nothing(seat: Seat) -> None:
    seat.rest("a")
    for _ in range(4):
        seat.venue.arm_dead_man(0.4)
        seat.settle(0.15)
    seat.venue.arm_dead_man(0)
    seat.settle(0.6)
    assert covered(seat) == [True, False] and seat.links() == [True]
    assert len(seat.venue.fetch_open_orders()) == 1


def test_an_armed_dead_man_is_set_again_on_the_next_connection_and_nothing_leaves_over_http(
    seat: Seat,
) -> None:
    seat.venue.arm_dead_man(30)
    seat.rest("a")
    seat.fake.cut(0.15)
    seat.wait(lambda: seat.links() == [True, False])
    seat.place("b")
    assert seat.answer("b").outcome is Outcome.UNAVAILABLE
    with pytest.raises(Unavailable):
        seat.venue.arm_dead_man(30)
    seat.wait(lambda: seat.links() == [True, False, True])
    assert covered(seat) == [True, True]
    assert seat.venue.fetch_open_orders() == ()  # the venue took them with the connection
    seat.rest("c")


def test_a_dead_man_that_the_venue_refused_is_an_error_and_still_cancels_when_it_runs_out(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.fault("error", "order.cancel_on_disconnect", code=-32603, message="Internal error")
    with pytest.raises(OutcomeUnknown):
        seat.venue.arm_dead_man(0.3)
    seat.status("a", Status.CANCELED)
    assert seat.links() == [True] and ("http", "order.cancel_all", {"market": None}) in seat.fake.calls


def test_orders_rest_on_after_close_unless_the_dead_man_is_armed(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    seat.venue.close()
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.UNAVAILABLE
    seat.heard.clear()
    seat.venue = seat.another()
    seat.up()
    assert [order.client_id for order in seat.venue.fetch_open_orders()] == ["a"]
    seat.venue.arm_dead_man(30)
    seat.rest("b")
    seat.venue.close()
    seat.wait(lambda: [o.p["client_id"] for o in seat.keeper.open()] == ["a"])


def test_nothing_that_is_shown_carries_the_key_or_a_token(seat: Seat) -> None:
    secret = hex(PRIVATE)[2:]
    key = paradex.ParadexKey(ADDRESS, hex(PRIVATE), CHAIN)
    assert secret not in repr(key) and secret not in str(key)
    with pytest.raises(BadInput) as bad:
        paradex.ParadexKey(ADDRESS, "0x" + "zz" + secret, CHAIN)
    assert secret not in str(bad.value)
    with pytest.raises(RuntimeError):
        seat.another().send(Approved(Cancel("a", BTC), "w", _GRANT))
    with pytest.raises((Rejected, OutcomeUnknown)):
        seat.venue.fetch_order(InstrumentId("paradex:DOGE-USDC-PERP"), "a")
