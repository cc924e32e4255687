"""Trading on Binance spot over real sockets, against `fake_binance_spot`: orders, doubts, limits, clocks,
streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from api.errors import OutcomeUnknown, RateLimited, Rejected, Unauthorized, Unavailable, UnknownOrder
from api.gateway import Gateway
from api.runtime import Clock
from api.signing import Ed25519Key, HmacKey
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
from api.venues.binance_spot_trading import BinanceSpotTrading, Settings, on_this_machine
from tests.venues.fake_binance_spot import FakeBinanceSpot, Symbol

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
BTC = InstrumentId.of("binance_spot", "BTC-USDT")
ETH = InstrumentId.of("binance_spot", "ETH-USDT")
PATIENCE_S = 8.0
QUICK: dict[str, Any] = {
    "answer_s": 0.6,
    "read_s": 2.0,
    "connect_s": 1.0,
    "pauses_s": (0.05, 0.1, 0.2),
    "overlap_s": 0.2,
}
BIDS = {"100.00": "0.5", "99.90": "0.2", "99.80": "0.4"}
ASKS = {"100.10": "0.3", "100.20": "0.3", "100.30": "0.3"}
API_KEY, SECRET = "the-api-key-of-a-test", "the-secret-of-a-test"
E = TypeVar("E")


class Seat:
    """A venue of ours at a fake of theirs, and questions about what was heard."""

    def __init__(
        self, path: str = "socket", *, key: Any = None, fake: FakeBinanceSpot | None = None, **more: Any
    ):
        self.fake = fake or FakeBinanceSpot(
            [Symbol("BTCUSDT", "BTC", "USDT"), Symbol("ETHUSDT", "ETH", "USDT", old_notional=True)]
        )
        if fake is None:
            self.account = self.fake.hmac_account(API_KEY, SECRET, BTC="100", USDT="100000", ETH="100")
            self.fake.book("BTCUSDT", BIDS, ASKS)
            self.fake.book("ETHUSDT", BIDS, ASKS)
        self.heard: list[Event] = []
        self.venue = self.another(path, key, **more)

    def another(self, path: str = "socket", key: Any = None, **more: Any) -> BinanceSpotTrading:
        return BinanceSpotTrading(
            key or HmacKey(API_KEY, SECRET),
            settings=Settings(order_path=path, **{**QUICK, **more}),
            where=on_this_machine(self.fake.rest, self.fake.socket),
        )

    def connect(self) -> Seat:
        self.venue.fetch_instruments()
        self.venue.connect(self.heard.append)
        self.wait(lambda: self.links()[-1:] == [True])
        return self

    def close(self) -> None:
        self.venue.close()
        self.fake.close()

    def wait(self, until: Callable[[], object], at_most_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + at_most_s
        while not until():
            assert time.monotonic() < end, f"never came; heard {self.heard}"
            time.sleep(0.002)

    def settle(self, for_s: float = 0.1) -> None:
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

    def rest(self, client_id: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100) -> None:
        self.send(place(client_id, side, ticks, lots))
        assert self.answer(client_id).outcome is Outcome.ACCEPTED
        self.status(client_id, Status.OPEN)

    def open_ids(self) -> list[str]:
        return [report.client_id for report in self.venue.fetch_open_orders()]


def place(
    client_id: str,
    side: Side = BUY,
    ticks: int = 9_990,
    lots: int = 100,
    *,
    tif: Tif = Tif.GTC,
    post_only: bool | None = None,
    instrument: InstrumentId = BTC,
) -> Place:
    only = tif is Tif.GTC if post_only is None else post_only
    return Place(client_id, instrument, side, ticks, lots, tif, only)


@pytest.fixture(params=["socket", "http"])
def seat(request: pytest.FixtureRequest) -> Iterator[Seat]:
    made = Seat(request.param)
    try:
        yield made.connect()
    finally:
        made.close()


@pytest.fixture
def socket_seat() -> Iterator[Seat]:
    made = Seat("socket")
    try:
        yield made.connect()
    finally:
        made.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Seat]]:
    made: list[Seat] = []

    def one(*args: Any, **more: Any) -> Seat:
        made.append(Seat(*args, **more))
        return made[-1]

    yield one
    for seat in made:
        seat.close()


def over(seat: Seat) -> str:
    return seat.venue.settings.order_path


# ------------------------------------------------------------------------------------ reads


def test_an_idle_account_is_told_as_empty_not_as_unknown(seat: Seat) -> None:
    assert seat.venue.fetch_open_orders() == ()
    assert seat.venue.fetch_fills(BTC, 0) == ()
    assert {b.asset: (b.free, b.locked) for b in seat.venue.fetch_balances()} == {
        "BTC": (D(100), D(0)),
        "ETH": (D(100), D(0)),
        "USDT": (D(100_000), D(0)),
    }


def test_instruments_are_exact_with_the_accounts_fees(seat: Seat) -> None:
    btc, eth = seat.venue.fetch_instruments()
    assert (btc.id, btc.venue_symbol, btc.tick, btc.lot) == (BTC, "BTCUSDT", D("0.01"), D("0.001"))
    assert (btc.min_qty, btc.max_qty, btc.min_notional) == (D("0.002"), D(1000), D(5))
    assert (btc.maker_fee, btc.taker_fee, eth.min_notional) == (D("0.0002"), D("0.0005"), D(5))
    fees = seat.venue.fetch_commission(BTC)
    assert (fees.maker, fees.taker) == (D("0.000201"), D("0.0005"))
    assert (fees.discount, fees.discount_asset) == (D("0.75"), "BNB")


def test_unknown_orders_and_markets_are_errors_and_not_guesses(seat: Seat) -> None:
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(BTC, "nobody")
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(BTC, "no such id!")
    with pytest.raises(Rejected):
        seat.venue.fetch_fills(InstrumentId.of("binance_spot", "DOGE-USDT"), 0)
    with pytest.raises(Rejected):
        seat.venue.arm_dead_man(1.0)


def test_the_venue_tells_its_time_and_our_distance_from_it(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.fake.skew_ms = 1_234_567
    before = time.time_ns()
    told = seat.venue.fetch_server_ns()
    assert abs(told - before - 1_234_567 * 10**6) < 10**9
    assert seat.venue.clock_offset_ns is not None
    assert abs(seat.venue.clock_offset_ns - 1_234_567 * 10**6) < 10**9


def test_a_read_that_fails_raises_and_never_returns_nothing(seat: Seat) -> None:
    seat.rest("a")
    on = "openOrders.status"
    for kind, args in (
        ("html", {"status": 502}),
        ("garbage", {}),
        ("truncate", {}),
        ("redirect", {}),
        ("error", {"code": -1000, "msg": "?", "status": 500}),
    ):
        seat.fake.fault(kind, on, **args)
        with pytest.raises(Unavailable):
            seat.venue.fetch_open_orders()
    assert seat.open_ids() == ["a"]
    seat.fake.fault("chunked", on)
    assert seat.open_ids() == ["a"]


def test_a_key_that_is_refused_is_unauthorized(make: Callable[..., Seat]) -> None:
    seat = make(key=HmacKey(API_KEY, "another secret"))
    with pytest.raises(Unauthorized) as wrong:
        seat.venue.fetch_balances()
    assert "secret" not in str(wrong.value)
    revoked = make()
    revoked.account.revoked = True
    with pytest.raises(Unauthorized):
        revoked.venue.fetch_instruments()
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: seat.all(LinkChanged))
    assert (seat.links(), "Signature" in seat.all(LinkChanged)[0].reason) == ([False], True)
    seat.settle(0.3)
    assert len([m for m in seat.fake.methods("socket")]) == len(seat.fake.methods("socket")) <= 3  # no storm


# ------------------------------------------------------------------------------------ the order's life


def test_a_placed_order_is_answered_once_reported_open_and_listed(seat: Seat) -> None:
    seat.send(place("a", BUY, 9_990, 100))
    answer, report = seat.answer("a"), seat.status("a", Status.OPEN)
    seat.settle()
    assert len(seat.answers("a")) == 1
    assert (answer.outcome, answer.error, answer.instrument) == (Outcome.ACCEPTED, "", BTC)
    assert (report.side, report.ticks, report.lots, report.filled_lots) == (BUY, 9_990, 100, 0)
    assert report.venue_id == answer.venue_id is not None
    (listed,) = seat.venue.fetch_open_orders(BTC)
    assert (listed.client_id, listed.status, listed.venue_id) == ("a", Status.OPEN, answer.venue_id)
    assert ((over(seat), "order.place") in {(how, m) for how, m, _ in seat.fake.calls}) is True
    sent = next(params for _, m, params in seat.fake.calls if m == "order.place")
    assert (sent["type"], sent["selfTradePreventionMode"]) == ("LIMIT_MAKER", "EXPIRE_TAKER")


def test_the_first_word_is_that_the_link_is_up(seat: Seat) -> None:
    seat.rest("a")
    first = seat.heard[0]
    assert isinstance(first, LinkChanged)
    assert (first.venue, first.link, first.is_up) == ("binance_spot", "account", True)


def test_a_cancel_is_answered_and_the_order_reported_canceled(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("a", Status.CANCELED).filled_lots == 0
    assert seat.open_ids() == []
    assert seat.venue.fetch_order(BTC, "a").status is Status.CANCELED


def test_a_cancel_sent_right_behind_its_order_does_not_overtake_it(seat: Seat) -> None:
    for n in range(10):
        seat.send(place(f"a{n}", BUY, 9_990 - n))
        seat.send(Cancel(f"a{n}", BTC))
    for n in range(10):
        assert seat.answer(f"a{n}", Request.CANCEL).outcome is Outcome.ACCEPTED
        seat.status(f"a{n}", Status.CANCELED)


def test_a_partial_fill_keeps_the_order_open(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.fake.trade("BTCUSDT", "SELL", "99.90", "0.240")  # 0.2 stood before us
    seat.wait(lambda: seat.fills("a"))
    (fill,) = seat.fills("a")
    assert (fill.ticks, fill.lots, fill.is_maker, fill.side) == (9_990, 40, True, BUY)
    assert (fill.fee, fill.fee_asset) == (D("0.040") * D("0.0002"), "BTC")
    seat.wait(lambda: seat.reports("a")[-1].filled_lots == 40)
    assert seat.venue.fetch_order(BTC, "a").filled_lots == 40
    seat.send(Cancel("a", BTC))
    assert seat.status("a", Status.CANCELED).filled_lots == 40


def test_a_full_fill_ends_the_order_and_moves_both_assets(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.fake.trade("BTCUSDT", "SELL", "99.80", "0.150")
    assert seat.status("a", Status.FILLED).filled_lots == 100
    (fill,) = seat.venue.fetch_fills(BTC, 0)
    assert [fill] == seat.fills("a")
    told = {b.asset: b for b in seat.venue.fetch_balances()}
    assert told["BTC"].free == D("100.1") - fill.fee
    seat.wait(lambda: seat.all(BalancesHeard)[-1].balances and _same(seat, told))


def _same(seat: Seat, told: dict[str, Any]) -> bool:
    heard = {b.asset: b.total for b in seat.all(BalancesHeard)[-1].balances}
    return heard == {asset: balance.total for asset, balance in told.items()}


def test_balances_heard_name_every_asset_that_was_read_before(seat: Seat) -> None:
    seat.venue.fetch_balances()
    seat.rest("a")
    seat.wait(lambda: seat.all(BalancesHeard))
    assert {b.asset for b in seat.all(BalancesHeard)[-1].balances} == {"BTC", "ETH", "USDT"}


def test_a_taker_walks_the_book_and_its_rest_waits(seat: Seat) -> None:
    seat.send(place("t", BUY, 10_020, 700, post_only=False))
    seat.wait(lambda: len(seat.fills("t")) == 2)
    assert [(f.ticks, f.lots, f.is_maker) for f in seat.fills("t")] == [
        (10_010, 300, False),
        (10_020, 300, False),
    ]
    seat.wait(lambda: seat.reports("t")[-1].filled_lots == 600)
    (listed,) = seat.venue.fetch_open_orders()
    assert (listed.filled_lots, listed.lots, listed.status) == (600, 700, Status.OPEN)


def test_immediate_or_cancel_and_fill_or_kill_end_as_expired(seat: Seat) -> None:
    seat.send(place("ioc", SELL, 10_000, 700, tif=Tif.IOC))
    assert seat.status("ioc", Status.EXPIRED).filled_lots == 500
    assert seat.answer("ioc").outcome is Outcome.ACCEPTED
    seat.send(place("no", BUY, 10_030, 901, tif=Tif.FOK))
    assert (seat.status("no", Status.EXPIRED).filled_lots, seat.fills("no")) == (0, [])
    seat.send(place("yes", BUY, 10_030, 900, tif=Tif.FOK))
    assert seat.status("yes", Status.FILLED).filled_lots == 900


def test_amending_the_size_down_keeps_the_place_and_the_client_id(seat: Seat) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(Amend("a", BTC, 9_990, 80))
    assert seat.answer("a", Request.AMEND).outcome is Outcome.ACCEPTED
    seat.wait(lambda: seat.reports("a")[-1].lots == 80)
    seat.fake.trade("BTCUSDT", "SELL", "99.90", "0.210")
    seat.wait(lambda: seat.fills("a"))
    assert [fill.lots for fill in seat.fills("a")] == [10]
    assert seat.open_ids() == ["a"]


@pytest.mark.parametrize("amend", [Amend("a", BTC, 9_985, 80), Amend("a", BTC, 9_990, 120)])
def test_any_other_amendment_is_refused_and_changes_nothing(seat: Seat, amend: Amend) -> None:
    seat.rest("a", BUY, 9_990, 100)
    seat.send(amend)
    answer = seat.answer("a", Request.AMEND)
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, "Rejected")
    (listed,) = seat.venue.fetch_open_orders()
    assert (listed.ticks, listed.lots) == (9_990, 100)


def test_an_own_order_that_would_meet_another_expires(seat: Seat) -> None:
    seat.rest("maker", SELL, 10_005, 100)
    seat.send(place("taker", BUY, 10_005, 100, post_only=False))
    report = seat.status("taker", Status.EXPIRED)
    assert (report.filled_lots, report.reason) == (0, "self-trade prevention")
    assert seat.open_ids() == ["maker"]


def test_the_self_trade_mode_is_read_back_and_a_difference_is_trouble(make: Callable[..., Seat]) -> None:
    seat = make(stp="EXPIRE_BOTH").connect()
    assert seat.venue.self_trade_prevention(BTC) == "EXPIRE_BOTH"
    seat.rest("a")
    assert seat.venue.trouble == ""
    seat.fake.stp_said = "NONE"
    seat.rest("b", BUY, 9_980)
    assert seat.venue.trouble == "self-trade prevention is NONE, asked for EXPIRE_BOTH"


def test_a_mode_that_a_market_does_not_offer_gives_way_to_the_strictest_it_does(
    make: Callable[..., Seat],
) -> None:
    seat = make()
    seat.fake.symbols["ETHUSDT"].stp = ("NONE", "EXPIRE_MAKER")
    assert seat.venue.self_trade_prevention(BTC) == "EXPIRE_TAKER"
    assert seat.venue.self_trade_prevention(ETH) == "EXPIRE_MAKER"


def test_cancel_all_takes_every_order_of_a_market_or_of_all(seat: Seat) -> None:
    for n in range(3):
        seat.rest(f"b{n}", BUY, 9_990 - n, 100)
    seat.send(place("eth", instrument=ETH))
    seat.status("eth", Status.OPEN)
    seat.venue.cancel_all(BTC)
    for n in range(3):
        seat.status(f"b{n}", Status.CANCELED)
    assert seat.open_ids() == ["eth"]
    seat.venue.cancel_all(BTC)  # nothing is open there: no error
    seat.venue.cancel_all(None)
    assert seat.open_ids() == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (place("x", BUY, 10_010), "WouldCross"),
        (place("x", SELL, 10_000), "WouldCross"),
        (place("x", BUY, 9_990, 1), "BelowMinimum"),
        (place("x", BUY, 9_990, 49), "BelowMinimum"),
        (place("x", BUY, 9_990, 1_000_001), "BelowMinimum"),
        (place("x", BUY, 0, 100), "BelowMinimum"),
        (place("x", BUY, 1_000_000, 1_000_000), "InsufficientFunds"),
        (place("x", SELL, 10_020, 100_001), "InsufficientFunds"),
        (place("x", instrument=ETH, lots=49), "BelowMinimum"),
        (place("x", instrument=InstrumentId.of("binance_spot", "DOGE-USDT")), "Rejected"),
        (place("x", tif=Tif.IOC, post_only=True), "Rejected"),
        (Cancel("nobody", BTC), "UnknownOrder"),
        (Amend("nobody", BTC, 9_990, 100), "UnknownOrder"),
    ],
)
def test_what_cannot_be_done_is_rejected_by_its_class(seat: Seat, command: Command, error: str) -> None:
    if error == "InsufficientFunds":
        seat.fake.book("BTCUSDT", {}, {})
    seat.send(command)
    seat.wait(lambda: [a for a in seat.all(Answered) if a.client_id == command.client_id])
    (answer,) = [a for a in seat.all(Answered) if a.client_id == command.client_id]
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, error)
    assert answer.reason and answer.venue_id is None
    assert seat.open_ids() == []


def test_a_client_id_is_accepted_only_once_even_after_its_order_ended(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Cancel("a", BTC))
    seat.status("a", Status.CANCELED)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    again = seat.answers("a")[1]
    assert (again.outcome, again.error, "duplicate" in again.reason) == (Outcome.REJECTED, "Rejected", True)
    assert seat.open_ids() == []


def test_canceling_a_finished_order_is_an_unknown_order(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.5")
    seat.status("a", Status.FILLED)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).error == "UnknownOrder"
    assert seat.venue.fetch_order(BTC, "a").status is Status.FILLED


def test_each_of_many_commands_from_several_threads_is_answered_exactly_once(seat: Seat) -> None:
    def work(name: str) -> None:
        for n in range(15):
            seat.send(place(f"{name}{n}", BUY, 9_990 - n, 60))
            if n % 2:
                seat.send(Cancel(f"{name}{n}", BTC))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seat.wait(lambda: len(seat.all(Answered)) >= 88)
    seat.settle()
    answered = [(a.client_id, a.request) for a in seat.all(Answered)]
    assert len(answered) == len(set(answered)) == 88
    assert {a.outcome for a in seat.all(Answered)} == {Outcome.ACCEPTED}
    assert len(seat.open_ids()) == 32


def test_sending_never_waits_for_the_network(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "order.place", n=20)
    began = time.monotonic()
    for n in range(20):
        seat.send(place(f"a{n}", BUY, 9_990 - n))
    assert time.monotonic() - began < 0.2


# ------------------------------------------------------------------------------------ fills and pages


def test_fills_come_in_pages_each_with_its_client_id(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.fake.page = 4
    for n in range(9):
        seat.rest(f"a{n}", BUY, 9_990, 60)
        seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.06")
        seat.status(f"a{n}", Status.FILLED)
    fresh = seat.another()  # knows no order's number
    monkey = pytest.MonkeyPatch()
    monkey.setattr("api.venues.binance_spot_trading.account.PAGE", 4)
    fills = fresh.fetch_fills(BTC, 0)
    assert [fill.client_id for fill in fills] == [f"a{n}" for n in range(9)]
    assert list(fills) == sorted(fills, key=lambda f: (f.venue_ns, int(f.trade_id)))
    recent = fresh.fetch_fills(BTC, fills[4].venue_ns)
    assert recent == tuple(f for f in fills if f.venue_ns >= fills[4].venue_ns)
    week = fresh.fetch_fills(BTC, time.time_ns() - 7 * 86_400 * 10**9)
    assert week == fills
    assert fresh.fetch_fills(ETH, 0) == ()
    monkey.undo()
    fresh.close()


# ------------------------------------------------------------------------------------ when things go wrong


def test_a_lost_answer_ends_as_unknown_and_the_order_is_found(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "order.place")
    seat.send(place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    assert seat.venue.fetch_order(BTC, "a").status is Status.OPEN
    seat.settle(0.5)
    assert len(seat.answers("a")) == 1
    assert seat.fake.methods().count("order.place") == 1


def test_a_lost_command_ends_as_unknown_and_the_order_is_not_found(seat: Seat) -> None:
    seat.fake.fault("lose_command", "order.place")
    seat.send(place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    with pytest.raises(UnknownOrder):
        seat.venue.fetch_order(BTC, "a")


def test_a_late_answer_follows_the_unknown_one(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.fake.fault("late_answer", "order.place", late_s=1.0)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert [a.outcome for a in seat.answers("a")] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert seat.answers("a")[1].venue_id == seat.venue.fetch_order(BTC, "a").venue_id


def test_a_lost_cancel_leaves_the_order_resting(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.fault("lose_command", "order.cancel")
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.UNKNOWN
    assert seat.open_ids() == ["a"]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("error_after", {"status": 503, "code": -1007, "msg": "Timeout; execution status unknown."}),
        ("error_after", {"status": 400, "code": -1006, "msg": "Execution status unknown."}),
        ("error_after", {"status": 500, "code": -1000, "msg": "An unknown error occurred."}),
        ("error_after", {"status": 400, "code": -7777, "msg": "Of tomorrow."}),
        ("garbage", {}),
        ("close_after", {}),
        ("truncate", {}),
    ],
)
def test_an_answer_that_does_not_tell_the_outcome_is_unknown_and_the_order_rests(
    seat: Seat, kind: str, args: dict[str, Any]
) -> None:
    seat.fake.fault(kind, "order.place", **args)
    seat.send(place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    seat.wait(lambda: seat.links()[-1])
    assert seat.venue.fetch_order(BTC, "a").status is Status.OPEN
    assert seat.fake.methods().count("order.place") == 1
    seat.send(place("b", BUY, 9_980))
    seat.wait(lambda: seat.answers("b"))
    seat.settle()
    assert len(seat.answers("a")) == 1


def test_html_instead_of_an_answer_is_unknown_for_an_order(make: Callable[..., Seat]) -> None:
    seat = make("http").connect()
    for n, status in enumerate((500, 502, 200, 404)):
        seat.fake.fault("html", "order.place", status=status)
        seat.send(place(f"a{n}"))
        assert seat.answer(f"a{n}").outcome is Outcome.UNKNOWN
    seat.fake.fault("redirect", "order.place")
    seat.send(place("b"))
    assert seat.answer("b").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("code", "status", "outcome", "error"),
    [
        (-1008, 503, Outcome.UNAVAILABLE, "Unavailable"),
        (-1022, 400, Outcome.UNAUTHORIZED, "Unauthorized"),
        (-2015, 401, Outcome.UNAUTHORIZED, "Unauthorized"),
    ],
)
def test_what_was_not_accepted_says_so_and_can_be_sent_again(
    seat: Seat, code: int, status: int, outcome: Outcome, error: str
) -> None:
    seat.fake.fault("error", "order.place", code=code, status=status, msg="no")
    seat.send(place("a"))
    assert (seat.answer("a").outcome, seat.answer("a").error) == (outcome, error)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED


def test_a_duplicated_push_carries_the_same_trade_id(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.repeat_pushes = 9
    seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.5")
    seat.wait(lambda: len(seat.fills("a")) == 2)
    assert len({fill.key for fill in seat.fills("a")}) == 1
    assert len(seat.venue.fetch_fills(BTC, 0)) == 1


def test_a_fill_may_come_before_its_answer(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.fake.pushes_first = True
    seat.send(place("a", BUY, 10_010, 100, post_only=False))
    seat.answer("a")
    kinds = [type(event) for event in seat.heard]
    assert kinds.index(FillHeard) < kinds.index(Answered)


def test_a_dropped_push_is_found_by_reading(seat: Seat) -> None:
    seat.fake.drop_pushes = 2
    seat.send(place("a"))
    seat.answer("a")
    seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.5")
    seat.settle()
    assert (seat.reports("a"), seat.fills("a")) == ([], [])
    assert [fill.client_id for fill in seat.venue.fetch_fills(BTC, 0)] == ["a"]
    assert seat.venue.fetch_order(BTC, "a").status is Status.FILLED


# ------------------------------------------------------------------------------------ the clock


def test_a_clock_that_is_hours_off_is_measured_before_the_first_order(make: Callable[..., Seat]) -> None:
    for skew_ms in (-7_200_000, 7_200_000):
        seat = make()
        seat.fake.skew_ms = skew_ms
        seat.connect().rest("a")
        assert seat.fake.methods().count("order.place") == 1


def test_a_clock_that_jumps_is_measured_again_and_the_order_sent_once_more(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.skew_ms = 3_600_000
    seat.send(place("b", BUY, 9_980))
    assert seat.answer("b").outcome is Outcome.ACCEPTED
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.fake.skew_ms = 0
    assert seat.open_ids() == ["b"]
    assert len(seat.answers("b")) == 1


def test_a_venue_that_goes_on_refusing_our_time_ends_as_never_sent(seat: Seat) -> None:
    msg = "Timestamp for this request is outside of the recvWindow."
    seat.fake.fault("error", "order.place", n=5, code=-1021, status=400, msg=msg)
    seat.send(place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNAVAILABLE, "Unavailable")
    seat.settle()
    assert (len(seat.answers("a")), len(seat.fake._faults)) == (1, 3)  # twice in all


def test_the_clock_is_measured_again_and_again(make: Callable[..., Seat]) -> None:
    seat = make(clock_every_s=0.3).connect()
    seat.wait(lambda: seat.fake.methods("socket").count("time") >= 4)
    assert seat.fake.methods("socket").count("userDataStream.subscribe.signature") == 1


# ------------------------------------------------------------------------------------ limits


def test_nothing_leaves_inside_the_time_that_the_venue_asked_for(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.retry_s = 1.0
    seat.fake.fault(
        "error", "order.place", code=-1003, status=429, msg="Too much request weight used.", retry_s=1.0
    )
    seat.send(place("b", BUY, 9_980))
    answer = seat.answer("b")
    assert (answer.outcome, answer.error) == (Outcome.RATE_LIMITED, "RateLimited")
    assert 0.8 <= answer.retry_after_s <= 1.0
    before = len(seat.fake.calls)
    seat.send(place("c", BUY, 9_970))
    seat.send(Cancel("a", BTC))
    assert seat.answer("c").outcome is Outcome.RATE_LIMITED
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.RATE_LIMITED
    assert 0 < seat.answer("a", Request.CANCEL).retry_after_s <= 1.0
    with pytest.raises(RateLimited):
        seat.venue.fetch_balances()
    with pytest.raises(RateLimited):
        seat.venue.cancel_all(BTC)
    assert len(seat.fake.calls) == before
    seat.settle(1.05)
    seat.send(place("c", BUY, 9_970))
    seat.wait(lambda: len(seat.answers("c")) == 2)
    assert seat.answers("c")[1].outcome is Outcome.ACCEPTED


def test_a_ban_is_kept_for_as_long_as_its_text_says(make: Callable[..., Seat]) -> None:
    seat = make("http").connect()
    until = time.time() + 0.8
    text = f"Way too much request weight used; IP banned until {int(until * 1000)}."
    seat.fake.fault("error", "order.place", code=-1003, status=418, msg=text)
    seat.send(place("a"))
    assert 0.2 < seat.answer("a").retry_after_s <= 0.9
    seat.wait(lambda: time.time() > until + 0.1)
    seat.send(place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED


def test_our_own_budget_stops_reads_and_orders_before_the_venue_does_and_keeps_a_share_for_cancels(
    make: Callable[..., Seat],
) -> None:
    seat = make()
    seat.fake.weight_limit = 400
    seat.connect().rest("a")
    if time.time() % 60 > 50:
        seat.wait(lambda: time.time() % 60 < 5, 15)  # so that the minute does not end meanwhile
    with pytest.raises(RateLimited) as limited:
        for _ in range(30):
            seat.venue.fetch_balances()
    assert 0 < limited.value.retry_after_s <= 60
    used = next(pool for pool in seat.venue.limits() if pool.name == "REQUEST_WEIGHT/1M")
    assert (300 < used.used <= 320, used.limit) == (True, 400)
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.fake.banned_until == 0


def test_too_many_orders_stop_new_orders_and_not_cancels(make: Callable[..., Seat]) -> None:
    seat = make()
    seat.fake.orders_limit = 5
    seat.connect()
    if time.time() % 10 > 7:
        seat.wait(lambda: time.time() % 10 < 2)
    for n in range(8):
        seat.send(place(f"a{n}", BUY, 9_990 - n))
    seat.wait(lambda: len(seat.all(Answered)) == 8)
    outcomes = [seat.answer(f"a{n}").outcome for n in range(8)]
    assert outcomes == [Outcome.ACCEPTED] * 5 + [Outcome.RATE_LIMITED] * 3
    assert 0 < seat.answer("a7").retry_after_s <= 10
    seat.send(Cancel("a0", BTC))
    assert seat.answer("a0", Request.CANCEL).outcome is Outcome.ACCEPTED


# ------------------------------------------------------------------------------------ the stream


def test_a_cut_stream_is_told_and_comes_back_and_what_it_missed_is_found_by_reading(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.refuse_sockets = True
    seat.fake.cut()
    seat.wait(lambda: not seat.links()[-1])
    seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.5")
    seat.settle(0.2)
    seat.fake.refuse_sockets = False
    seat.wait(lambda: seat.links()[-1])
    assert seat.fills("a") == []
    assert [fill.client_id for fill in seat.venue.fetch_fills(BTC, 0)] == ["a"]
    seat.rest("b")


def test_while_there_is_no_socket_orders_and_cancels_leave_over_http(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.rest("a")
    seat.fake.refuse_sockets = True
    seat.fake.cut()
    seat.wait(lambda: not seat.links()[-1])
    seat.send(Cancel("a", BTC))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    seat.send(place("b"))
    assert seat.answer("b").outcome is Outcome.ACCEPTED
    seat.venue.cancel_all(None)
    assert seat.open_ids() == []
    assert set(seat.fake.methods("http")) >= {"order.cancel", "order.place", "openOrders.cancelAll"}
    seat.fake.refuse_sockets = False
    seat.wait(lambda: seat.links()[-1])
    seat.rest("c")
    assert seat.fake.calls[-1][:2] == ("socket", "order.place")


def test_a_command_whose_connection_is_cut_is_unknown_at_once(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.fake.fault("close_after", "order.place")
    began = time.monotonic()
    seat.send(place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert time.monotonic() - began < 0.5
    seat.wait(lambda: seat.links() == [True, False, True])
    assert seat.open_ids() == ["a"]


def test_a_stream_that_is_open_and_silent_is_found_out(make: Callable[..., Seat]) -> None:
    seat = make(silence_s=0.6).connect()
    seat.settle(1.0)
    assert seat.links() == [True], "pongs are signs of life"
    seat.fake.mute()
    began = time.monotonic()
    seat.wait(lambda: seat.links() == [True, False, True])
    assert time.monotonic() - began < 3
    seat.rest("a")


def test_pings_of_the_server_are_answered(socket_seat: Seat) -> None:
    socket_seat.fake.ping_all()
    socket_seat.wait(lambda: socket_seat.fake.pongs() == 1)


def test_an_old_connection_is_replaced_by_overlap_and_nobody_notices(make: Callable[..., Seat]) -> None:
    seat = make(max_age_s=0.5).connect()
    stop = time.monotonic() + 2.0
    n = 0
    while time.monotonic() < stop:
        seat.send(place(f"a{n}", BUY, 9_990 - n, 60))
        seat.settle(0.02)
        n += 1
    seat.wait(lambda: len(seat.all(Answered)) == n)
    assert {a.outcome for a in seat.all(Answered)} == {Outcome.ACCEPTED}
    assert seat.links() == [True]
    assert seat.fake.methods("socket").count("userDataStream.subscribe.signature") >= 3
    assert set(seat.fake.methods()) & {"order.place"} and "order.place" not in seat.fake.methods("http")
    seat.wait(lambda: len({r.client_id for e in seat.all(OrderHeard) for r in [e.report]}) == n)
    seat.wait(lambda: seat.fake.sockets <= 2)


def test_a_shutdown_notice_renews_the_connection_at_once(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.fake.tell_all({"e": "serverShutdown", "E": 1770123456789})
    seat.wait(lambda: seat.fake.methods("socket").count("userDataStream.subscribe.signature") == 2)
    seat.wait(lambda: seat.fake.sockets == 1)
    assert seat.links() == [True]
    seat.rest("a")


def test_a_subscription_that_the_venue_ended_is_made_again(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.fake.end_subscriptions()
    seat.wait(lambda: seat.links() == [True, False, True])
    assert seat.fake.connections < 10
    seat.rest("a")


def test_a_subscription_that_is_refused_is_told_and_tried_again(make: Callable[..., Seat]) -> None:
    seat = make()
    on = "userDataStream.subscribe.signature"
    seat.fake.fault("error", on, n=2, code=-1008, status=503, msg="Server is currently overloaded.")
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: seat.links()[-1:] == [True])
    assert seat.links() == [False, True]
    assert "overloaded" in seat.all(LinkChanged)[0].reason


def test_an_event_that_cannot_be_read_makes_the_account_be_reconciled(socket_seat: Seat) -> None:
    seat = socket_seat
    for text in (
        b'{"event":{"e":"executionReport","s":"BTCUSDT"}}',
        b"<html>",
        b'{"event":{"e":"executionRep',
    ):
        before = len(seat.links())
        seat.fake.tell_raw(text)
        seat.wait(lambda: len(seat.links()) == before + 2)  # noqa: B023
    assert seat.links() == [True] + [False, True] * 3


def test_events_of_other_kinds_and_markets_and_answers_to_nobody_are_let_be(socket_seat: Seat) -> None:
    seat = socket_seat
    seat.fake.tell_all({"e": "balanceUpdate", "E": 1, "a": "BTC", "d": "1", "T": 1})
    seat.fake.tell_all({"e": "listStatus", "E": 1, "s": "ETHBTC"})
    seat.fake.tell_all({"e": "somethingNew", "E": 1})
    seat.fake.tell_raw(b'{"id":987654,"status":200,"result":{}}')
    seat.settle()
    seat.rest("a")
    assert seat.links() == [True]


# ------------------------------------------------------------------------------------ coming and going


def test_orders_rest_on_after_close_and_their_fills_are_found_on_return(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    seat.venue.close()
    seat.fake.trade("BTCUSDT", "SELL", "99.00", "0.5")
    seat.settle()
    assert seat.fills("a") == []
    back = seat.another()
    heard: list[Event] = []
    back.connect(heard.append)
    seat.wait(lambda: heard)
    assert isinstance(heard[0], LinkChanged) and heard[0].is_up
    assert [fill.client_id for fill in back.fetch_fills(BTC, 0)] == ["a"]
    back.close()


def test_a_command_after_close_was_never_sent_and_one_under_way_is_unknown(seat: Seat) -> None:
    seat.fake.fault("lose_answer", "order.place")
    seat.send(place("a"))
    seat.wait(lambda: "order.place" in seat.fake.methods())
    seat.venue.close()
    seat.send(place("b"))
    assert seat.answer("b").outcome is Outcome.UNAVAILABLE
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    seat.settle()
    assert (len(seat.answers("a")), len(seat.answers("b"))) == (1, 1)


def test_closing_amid_a_storm_of_commands_answers_each_of_them_once(seat: Seat) -> None:
    stop = threading.Event()
    sent: list[str] = []

    def storm() -> None:
        n = 0
        while not stop.is_set():
            seat.send(place(f"s{n}", BUY, 9_990 - n % 50, 60))
            sent.append(f"s{n}")
            n += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=storm)
    thread.start()
    seat.settle(0.1)
    seat.venue.close()
    seat.settle(0.05)
    stop.set()
    thread.join()
    seat.wait(lambda: len(seat.all(Answered)) >= len(sent))
    answered = [a.client_id for a in seat.all(Answered)]
    assert sorted(answered) == sorted(sent)


def test_a_closed_venue_can_be_connected_again(seat: Seat) -> None:
    seat.rest("a")
    seat.venue.close()
    seat.heard.clear()
    seat.venue.connect(seat.heard.append)
    seat.wait(lambda: seat.links() == [True])
    seat.rest("b", BUY, 9_980)
    assert sorted(seat.open_ids()) == ["a", "b"]


def test_sending_before_connecting_is_our_own_mistake(make: Callable[..., Seat]) -> None:
    seat = make()
    with pytest.raises(RuntimeError, match="connect"):
        seat.send(place("a"))
    with pytest.raises(Unavailable):
        seat.venue.cancel_all(BTC)


def test_an_ed25519_key_trades_over_both_ways(make: Callable[..., Seat]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = bytes(range(32))
    for path in ("socket", "http"):
        seat = make(path, key=Ed25519Key.from_seed("an-ed25519-key", seed))
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
        seat.fake.ed25519_account("an-ed25519-key", public, BTC="1", USDT="1000")
        seat.connect()
        for n in range(20):  # some signatures hold + and /, which must be percent-encoded
            seat.rest(f"a{n}", BUY, 9_990 - n, 60)


def test_no_secret_and_no_signature_is_in_what_is_told_or_logged(
    make: Callable[..., Seat], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for path in ("socket", "http"):
        seat = make(path).connect()
        for kind in ("lose_answer", "close_after", "garbage"):
            seat.fake.fault(kind, "order.place")
            seat.send(place(f"{kind}"))
            seat.answer(kind)
        signatures = [params["signature"] for _, _, params in seat.fake.calls if "signature" in params]
        told = repr(seat.heard) + caplog.text + repr(seat.venue.settings)
        assert SECRET not in told and API_KEY not in told
        assert signatures and not any(signature in told for signature in signatures)


def test_all_threads_are_services_that_end(make: Callable[..., Seat]) -> None:
    seat = make("http").connect()
    services = seat.venue.services
    assert len(services) == 3 and all(service.is_alive for service in services)
    seat.venue.close()
    assert not any(service.is_alive for service in services)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        seat.venue.cancel_all(BTC)


# ------------------------------------------------------------------------------------ behind the gateway


class NoIntents:
    """Keeps nothing."""

    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None: ...

    def record_done(self, client_id: str, at_ns: int) -> None: ...


def test_the_gateway_resolves_what_the_venue_left_unknown(seat: Seat) -> None:
    clock, told = Clock(), []  # type: ignore[var-annotated]
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
            gateway.heard(told.pop(0))

    def until(condition: Callable[[], bool]) -> None:
        def look() -> bool:
            turn()
            return condition()

        seat.wait(look, 15.0)

    until(lambda: gateway.is_reconciled)
    there, lost = gateway.next_client_id(1), gateway.next_client_id(1)
    for client_id, kind, ticks in ((there, "lose_answer", 9_990), (lost, "lose_command", 9_980)):
        seat.fake.fault(kind, "order.place")
        assert gateway.send(Approved(place(client_id, BUY, ticks), "w", _GRANT)) is None
        until(lambda: gateway.unknown_count == 1)
        until(lambda: gateway.unknown_count == 0)
    assert gateway.live_of("w") == (1, 0)
    assert gateway.kill("test") == 1
    until(lambda: gateway.live_count == 0)
    assert gateway.count_at_venue(None) == 0
    assert seat.fake.methods().count("order.place") == 1
