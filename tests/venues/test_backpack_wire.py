"""Backpack, trading: the adapter against a server of its protocol on this machine, over real sockets."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.errors import (
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    UnknownOrder,
)
from api.exchange import AccountMode, AccountReads, Exchange, FeeRates
from api.types import (
    _GRANT,
    Amend,
    Answered,
    Approved,
    Balance,
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
    Place,
    Position,
    Request,
    Side,
    Status,
    Tif,
)
from api.venues.backpack.endpoints import on_this_machine
from api.venues.backpack.ids import ClientIds, FileIds, MemoryIds
from api.venues.backpack.login import Settings
from api.venues.backpack.signing import key_from_seed
from api.venues.backpack.venue import BackpackTrading, connect, pair
from tests.venues.fake_backpack import FakeAccount, FakeBackpack

SEED = bytes(range(32))
SEED_B64 = base64.b64encode(SEED).decode()
PUBLIC = base64.b64encode(Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()).decode()
SPOT = InstrumentId.of("backpack_spot", "SOL-USDC")
PERP = InstrumentId.of("backpack_perp", "SOL-USDC-PERP")
BUY, SELL = Side.BUY, Side.SELL
QUICK = Settings(
    answer_s=0.4,
    window_s=3.0,
    read_s=2.0,
    settle_s=0.03,
    balances_gap_s=0.01,
    pauses_s=(0.02, 0.05),
)
PATIENCE_S = 5.0

E = TypeVar("E")


class Seat:
    """A connected account, what it heard, and questions about that."""

    def __init__(
        self,
        fake: FakeBackpack,
        account: FakeAccount,
        *,
        product: str = "spot",
        settings: Settings = QUICK,
        ids: ClientIds | None = None,
        clock: Any = None,
    ) -> None:
        self.fake, self.theirs = fake, account
        self.heard: list[Any] = []
        self.exchange: BackpackTrading = connect(
            key_from_seed(PUBLIC, SEED_B64),
            product=product,  # type: ignore[arg-type]
            ids=ids or MemoryIds(),
            clock=clock,
            settings=settings,
            where=on_this_machine(fake.rest, fake.socket),
        )
        self.market = SPOT if product == "spot" else PERP

    def connect(self) -> Seat:
        self.exchange.connect(self.heard.append)
        self.wait(lambda: self.is_up)
        return self

    @property
    def links(self) -> list[LinkChanged]:
        return self.all_of(LinkChanged)

    @property
    def is_up(self) -> bool:
        return bool(self.links) and self.links[-1].is_up

    def all_of(self, kind: type[E]) -> list[E]:
        return [event for event in tuple(self.heard) if isinstance(event, kind)]

    def wait(self, until: Callable[[], object], at_most_s: float = PATIENCE_S) -> None:
        pause, end = threading.Event(), time.monotonic() + at_most_s
        while not until():
            assert time.monotonic() < end, f"never came; heard {self.heard}"
            pause.wait(0.002)

    def settle(self, for_s: float = 0.05) -> None:
        threading.Event().wait(for_s)

    def send(self, command: Command) -> None:
        self.exchange.send(Approved(command, "w", _GRANT))

    def place(
        self,
        client_id: str,
        side: Side = BUY,
        ticks: int = 9_990,
        lots: int = 100,
        *,
        tif: Tif = Tif.GTC,
        post_only: bool | None = None,
        reduce_only: bool = False,
    ) -> Place:
        only = tif is Tif.GTC if post_only is None else post_only
        return Place(client_id, self.market, side, ticks, lots, tif, only, reduce_only)

    def answers(self, client_id: str, request: Request = Request.PLACE) -> list[Answered]:
        return [a for a in self.all_of(Answered) if (a.client_id, a.request) == (client_id, request)]

    def answer(self, client_id: str, request: Request = Request.PLACE) -> Answered:
        self.wait(lambda: self.answers(client_id, request))
        return self.answers(client_id, request)[0]

    def reports(self, client_id: str) -> list[OrderReport]:
        return [e.report for e in self.all_of(OrderHeard) if e.report.client_id == client_id]

    def fills(self, client_id: str) -> list[Fill]:
        return [e.fill for e in self.all_of(FillHeard) if e.fill.client_id == client_id]

    def status(self, client_id: str, status: Status) -> OrderReport:
        self.wait(lambda: any(r.status is status for r in self.reports(client_id)))
        return next(r for r in self.reports(client_id) if r.status is status)

    def rest(self, client_id: str, side: Side = BUY, ticks: int = 9_990, lots: int = 100) -> Answered:
        self.send(self.place(client_id, side, ticks, lots))
        answer = self.answer(client_id)
        assert answer.outcome is Outcome.ACCEPTED, answer
        self.status(client_id, Status.OPEN)
        return answer


def book(fake: FakeBackpack) -> None:
    for symbol in ("SOL_USDC", "SOL_USDC_PERP"):
        fake.book(symbol, {"100.00": "0.5", "99.90": "0.2"}, {"100.10": "0.3", "100.20": "0.3"})


@pytest.fixture
def fake() -> Iterator[FakeBackpack]:
    made = FakeBackpack()
    book(made)
    yield made
    made.close()


@pytest.fixture
def account(fake: FakeBackpack) -> FakeAccount:
    return fake.account(PUBLIC, USDC="100000", SOL="100")


@pytest.fixture
def open_seat(fake: FakeBackpack, account: FakeAccount) -> Iterator[Callable[..., Seat]]:
    seats: list[Seat] = []

    def open_one(**options: Any) -> Seat:
        seats.append(Seat(fake, account, **options))
        return seats[-1]

    yield open_one
    for seat in seats:
        seat.exchange.close()


@pytest.fixture
def seat(open_seat: Callable[..., Seat]) -> Seat:
    return open_seat().connect()


@pytest.fixture
def perp(open_seat: Callable[..., Seat]) -> Seat:
    return open_seat(product="perp").connect()


# ------------------------------------------------------------------------------------ orders and events


def test_it_keeps_both_contracts(seat: Seat) -> None:
    exchange: Exchange = seat.exchange
    reads: AccountReads = seat.exchange
    assert reads.fetch_positions() == ()
    able = exchange.capabilities
    assert (exchange.venue, exchange.account) == ("backpack_spot", "main")
    assert able.cancel_all and able.post_only and able.ioc and able.fok
    assert not able.dead_man and not able.amend and able.max_batch == 1
    with pytest.raises(Rejected):
        exchange.arm_dead_man(5)


def test_a_placed_order_is_answered_once_reported_open_and_listed(seat: Seat) -> None:
    answer = seat.rest("md1")
    seat.settle()
    assert len(seat.answers("md1")) == 1
    report = seat.reports("md1")[0]
    assert (report.ticks, report.lots, report.filled_lots, report.venue_id) == (
        9_990,
        100,
        0,
        answer.venue_id,
    )
    (listed,) = seat.exchange.fetch_open_orders(SPOT)
    assert (listed.client_id, listed.status, listed.venue_id) == ("md1", Status.OPEN, answer.venue_id)
    call, sent = next(c for c in seat.fake.calls if c[0] == "place")
    assert sent.pop("clientId") > 0
    assert (call, sent) == (
        "place",
        {
            "orderType": "Limit",
            "postOnly": True,
            "price": "99.9",
            "quantity": "0.1",
            "selfTradePrevention": "RejectTaker",
            "side": "Bid",
            "symbol": "SOL_USDC",
            "timeInForce": "GTC",
        },
    )


def test_a_cancel_sent_right_behind_its_order_does_not_overtake_it(seat: Seat) -> None:
    seat.send(seat.place("a"))
    seat.send(Cancel("a", SPOT))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.status("a", Status.CANCELED).filled_lots == 0
    assert seat.exchange.fetch_open_orders() == ()
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.CANCELED


def test_a_fill_is_told_and_found_in_the_history_as_the_same(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.trade("SOL_USDC", "Ask", "99.90", "0.240")  # 0.2 stood before us
    seat.wait(lambda: seat.fills("a"))
    (fill,) = seat.fills("a")
    assert (fill.ticks, fill.lots, fill.is_maker, fill.side) == (9_990, 40, True, BUY)
    assert (fill.fee, fill.fee_asset) == (Decimal("99.90") * Decimal("0.040") * Decimal("0.0002"), "USDC")
    seat.wait(lambda: seat.reports("a")[-1].filled_lots == 40)
    assert seat.exchange.fetch_fills(SPOT, 0) == (fill,)
    seat.fake.trade("SOL_USDC", "Ask", "99.80", "9")
    seat.status("a", Status.FILLED)
    assert [f.lots for f in seat.exchange.fetch_fills(SPOT, 0)] == [40, 60]
    assert [f.lots for f in seat.exchange.fetch_fills(SPOT, seat.fills("a")[1].venue_ns)] == [60]
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.FILLED
    seat.wait(
        lambda: (
            seat.all_of(BalancesHeard)[-1].balances
            == tuple(sorted(seat.exchange.fetch_balances(), key=lambda b: b.asset))
        )
    )


def test_a_post_only_order_that_would_take_is_refused_by_its_class(seat: Seat) -> None:
    seat.send(seat.place("a", BUY, 10_010))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, "WouldCross")
    seat.wait(lambda: seat.reports("a"))
    assert [r.status for r in seat.reports("a")] == [Status.REJECTED]
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.REJECTED
    assert seat.exchange.fetch_open_orders() == ()


def test_the_reason_of_an_expiry_is_waited_for_when_the_stream_is_slower(seat: Seat) -> None:
    seat.fake.push_delay_s = 0.05
    seat.rest("own", SELL, 10_005)
    seat.send(seat.place("a", BUY, 10_005, post_only=False))
    assert seat.answer("a").outcome is Outcome.ACCEPTED  # taken, and ended by self-trade prevention
    assert seat.status("a", Status.EXPIRED).reason == "self-trade prevention"
    seat.fake.hold_pushes = True
    seat.send(seat.place("b", BUY, 10_010))
    answer = seat.answer("b")
    assert (answer.outcome, answer.error) == (Outcome.REJECTED, "WouldCross")


def test_immediate_orders_end_as_expired_and_are_no_refusal(seat: Seat) -> None:
    seat.send(seat.place("ioc", SELL, 10_000, 700, tif=Tif.IOC))
    assert seat.status("ioc", Status.EXPIRED).filled_lots == 500
    assert seat.answer("ioc").outcome is Outcome.ACCEPTED
    seat.send(seat.place("fok", BUY, 10_020, 601, tif=Tif.FOK))
    assert seat.status("fok", Status.EXPIRED).filled_lots == 0
    assert seat.answer("fok").outcome is Outcome.ACCEPTED
    seat.send(seat.place("yes", BUY, 10_020, 600, tif=Tif.FOK))
    assert seat.status("yes", Status.FILLED).filled_lots == 600


def test_what_cannot_be_done_here_is_refused_before_it_leaves(seat: Seat) -> None:
    seat.rest("a")
    seat.send(Amend("a", SPOT, 9_980, 100))
    assert seat.answer("a", Request.AMEND).error == "Rejected"
    seat.send(seat.place("b", tif=Tif.IOC, post_only=True))
    assert seat.answer("b").error == "Rejected"
    seat.send(seat.place("c", reduce_only=True))
    assert seat.answer("c").error == "Rejected"
    seat.send(seat.place("d", lots=0))
    assert seat.answer("d").error == "BelowMinimum"
    seat.send(Cancel("nobody", SPOT))
    assert seat.answer("nobody", Request.CANCEL).error == "UnknownOrder"
    seat.send(replace(seat.place("e"), instrument=InstrumentId.of("backpack_spot", "DOGE-USDC")))
    assert seat.answer("e").error == "Rejected"
    assert seat.fake.methods().count("place") == 1


@pytest.mark.parametrize(
    ("lots", "ticks", "error"),
    [(1, 9_990, "BelowMinimum"), (1_000_001, 9_990, "BelowMinimum"), (999_000, 9_999, "InsufficientFunds")],
)
def test_the_venue_s_own_refusals_come_by_their_class(seat: Seat, lots: int, ticks: int, error: str) -> None:
    seat.theirs.free["USDC"] = Decimal(50)
    seat.send(seat.place("x", BUY, ticks, lots))
    assert (seat.answer("x").outcome, seat.answer("x").error) == (Outcome.REJECTED, error)
    with pytest.raises(UnknownOrder):
        seat.exchange.fetch_order(SPOT, "x")


def test_a_client_id_is_sent_once_even_after_a_restart(
    open_seat: Callable[..., Seat], tmp_path: Path
) -> None:
    ids = FileIds(tmp_path / "ids")
    seat = open_seat(ids=ids).connect()
    seat.rest("md1")
    seat.rest("md2", BUY, 9_980)
    seat.send(Cancel("md1", SPOT))
    seat.answer("md1", Request.CANCEL)
    seat.send(seat.place("md1"))
    seat.wait(lambda: len(seat.answers("md1")) == 2)
    assert (seat.answers("md1")[1].error, "duplicate" in seat.answers("md1")[1].reason) == ("Rejected", True)
    seat.exchange.close()
    ids.close()
    seat.fake.trade("SOL_USDC", "Ask", "99.80", "0.05")  # a fill while away
    again = FileIds(tmp_path / "ids")
    back = open_seat(ids=again).connect()
    assert [r.client_id for r in back.exchange.fetch_open_orders()] == ["md2"]
    assert [f.client_id for f in back.exchange.fetch_fills(SPOT, 0)] == ["md2"]
    back.send(back.place("md2"))
    assert "duplicate" in back.answer("md2").reason
    back.rest("md3", BUY, 9_970)
    back.send(Cancel("md2", SPOT))
    assert back.answer("md2", Request.CANCEL).outcome is Outcome.ACCEPTED
    numbers = [order.client_id for order in back.theirs.orders]
    assert len(set(numbers)) == 3 and numbers == sorted(n for n in numbers if n)
    back.exchange.close()
    again.close()


def test_when_the_table_of_ids_cannot_be_written_nothing_is_sent(open_seat: Callable[..., Seat]) -> None:
    class Full(MemoryIds):
        def put(self, ours: str, theirs: int) -> None:
            raise OSError("disk full")

    seat = open_seat(ids=Full()).connect()
    seat.send(seat.place("a"))
    assert (seat.answer("a").outcome, seat.answer("a").error) == (Outcome.UNAVAILABLE, "Unavailable")
    assert "place" not in seat.fake.methods()


def test_orders_that_are_not_ours_are_told_and_can_be_cancelled(seat: Seat, fake: FakeBackpack) -> None:
    by_hand = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "99.5", "quantity": "1"}
    with fake.lock:
        row, events = fake.handle("place", by_hand, seat.theirs)
        fake._push_all(seat.theirs, events)
    name = f"#{row['id']}"
    assert seat.status(name, Status.OPEN).venue_id == row["id"]
    assert [r.client_id for r in seat.exchange.fetch_open_orders()] == [name]
    assert seat.exchange.fetch_order(SPOT, name).status is Status.OPEN
    seat.send(Cancel(name, SPOT))
    assert seat.answer(name, Request.CANCEL).outcome is Outcome.ACCEPTED
    assert seat.exchange.fetch_order(SPOT, name).status is Status.CANCELED


def test_cancel_all_takes_each_market_of_this_product_and_waits_for_no_order(
    fake: FakeBackpack, seat: Seat
) -> None:
    for n in range(4):
        seat.rest(f"a{n}", BUY, 9_990 - n)
    fake.fault("lose_answer", "place", n=3)
    for n in range(3):
        seat.send(seat.place(f"hung{n}", BUY, 9_900 - n))
    started = time.monotonic()
    seat.exchange.cancel_all(None)
    assert time.monotonic() - started < 0.3
    seat.exchange.cancel_all(SPOT)
    seat.wait(lambda: seat.exchange.fetch_open_orders() == ())
    for n in range(4):
        seat.status(f"a{n}", Status.CANCELED)
    fake.fault("error", "cancel_all", code="SERVER_ERROR", message="oops", status=500)
    with pytest.raises(OutcomeUnknown):
        seat.exchange.cancel_all(SPOT)
    fake.fault("accepted", "cancel_all")
    with pytest.raises(OutcomeUnknown):
        seat.exchange.cancel_all(SPOT)


def test_a_batch_goes_out_together_and_each_order_gets_its_own_answer(
    open_seat: Callable[..., Seat],
) -> None:
    seat = open_seat(settings=replace(QUICK, batch=5, http_lines=1)).connect()
    assert seat.exchange.capabilities.max_batch == 5
    seat.fake.fault("slow", "place", late_s=0.15)
    seat.send(seat.place("first", BUY, 9_900))
    seat.settle(0.03)
    for n in range(3):
        seat.send(seat.place(f"b{n}", BUY, 9_800 - n))
    seat.send(seat.place("bad", BUY, 9_800, 1))
    seat.send(Cancel("b0", SPOT))
    assert seat.answer("b0", Request.CANCEL).outcome is Outcome.ACCEPTED
    for n in range(3):
        assert seat.answer(f"b{n}").outcome is Outcome.ACCEPTED
    assert seat.answer("bad").error == "BelowMinimum"
    assert seat.fake.methods().count("batch") == 1
    seat.fake.fault("slow", "place", late_s=0.15)
    seat.fake.fault("garbage", "batch")
    seat.send(seat.place("again", BUY, 9_700))
    seat.settle(0.03)
    seat.send(seat.place("c0", BUY, 9_600))
    seat.send(seat.place("c1", BUY, 9_601))
    assert [seat.answer(name).outcome for name in ("c0", "c1")] == [Outcome.UNKNOWN] * 2


# ------------------------------------------------------------------------------------ lending


def test_lent_funds_are_called_back_when_lending_is_on(
    open_seat: Callable[..., Seat], account: FakeAccount
) -> None:
    account.lend_all()
    seat = open_seat().connect()
    balances = {b.asset: b for b in seat.exchange.fetch_balances()}
    assert balances["USDC"] == Balance("USDC", Decimal(100_000), Decimal(0))
    seat.rest("a")
    sent = [params for call, params in seat.fake.calls if call == "place"]
    assert [params.get("autoLendRedeem") for params in sent] == [True]
    margin = seat.exchange.fetch_margin()
    assert {row.symbol: row.lendQuantity for row in margin.collateral}["SOL"] == 100


def test_an_order_that_needs_lent_funds_is_sent_once_more_with_their_redemption(
    seat: Seat, account: FakeAccount
) -> None:
    account.lend_all()  # after the account was read
    seat.rest("a")
    sent = [params for call, params in seat.fake.calls if call == "place"]
    assert [params.get("autoLendRedeem") for params in sent] == [None, True]
    assert sent[0]["clientId"] == sent[1]["clientId"]
    seat.rest("b", BUY, 9_980)
    assert [p.get("autoLendRedeem") for c, p in seat.fake.calls if c == "place"][2:] == [True]


def test_with_lending_forbidden_the_refusal_stands(
    open_seat: Callable[..., Seat], account: FakeAccount
) -> None:
    account.lend_all()
    seat = open_seat(settings=replace(QUICK, lending="never")).connect()
    assert {b.asset: b.free for b in seat.exchange.fetch_balances()}["USDC"] == 0
    seat.send(seat.place("a"))
    assert seat.answer("a").error == "InsufficientFunds"
    assert seat.fake.methods().count("place") == 1


# ------------------------------------------------------------------------------------ perpetuals


def test_a_perpetual_trades_with_positions_reduce_only_and_funding(perp: Seat) -> None:
    perp.send(perp.place("a", BUY, 10_010, 100, tif=Tif.IOC))
    perp.status("a", Status.FILLED)
    assert perp.exchange.fetch_positions() == (Position(PERP, Decimal("0.100"), Decimal("100.10")),)
    perp.send(perp.place("r", SELL, 10_050, 100, reduce_only=True))
    assert perp.answer("r").outcome is Outcome.ACCEPTED
    perp.status("r", Status.OPEN)
    venue_id = perp.answer("r").venue_id
    assert venue_id is not None
    perp.fake.shrink(venue_id, "0.05")
    perp.wait(lambda: perp.reports("r")[-1].lots == 50)
    perp.send(perp.place("no", BUY, 9_900, 100, reduce_only=True))
    assert (perp.answer("no").outcome, perp.answer("no").error) == (Outcome.REJECTED, "Rejected")
    perp.fake.expire(venue_id, "Liquidation")
    assert perp.status("r", Status.EXPIRED).reason == "Liquidation"
    for hour in range(3):
        perp.theirs.funding.append(
            {
                "userId": 1,
                "symbol": "SOL_USDC_PERP",
                "quantity": "-0.25" if hour else "0.5",
                "intervalEndTimestamp": f"2026-11-20T0{hour}:00:00",
                "fundingRate": "0.0001",
            }
        )
    payments = perp.exchange.fetch_funding(PERP, 0)
    assert [(p.amount, p.asset) for p in payments] == [
        (Decimal("-0.5"), "USDC"),
        (Decimal("0.25"), "USDC"),
        (Decimal("0.25"), "USDC"),
    ]
    assert perp.exchange.fetch_funding(PERP, payments[2].venue_ns) == payments[2:]
    assert perp.exchange.fetch_account_mode() == AccountMode("one-way", "cross", "RejectTaker", True)


def test_an_order_that_rested_and_expires_is_expired_and_not_refused(seat: Seat) -> None:
    venue_id = seat.rest("a").venue_id
    assert venue_id is not None
    seat.fake.expire(venue_id, "SelfTradePrevention")
    assert seat.status("a", Status.EXPIRED).reason == "self-trade prevention"


def test_flat_is_told_as_no_positions_and_a_failed_read_never_is(perp: Seat) -> None:
    assert perp.exchange.fetch_positions() == ()
    perp.fake.fault("error", "position", code="RESOURCE_NOT_FOUND", message="Position not found", status=404)
    assert perp.exchange.fetch_positions() == ()
    perp.fake.fault("html", "position", status=404)
    with pytest.raises(Unavailable):
        perp.exchange.fetch_positions()


def test_both_products_share_one_login_and_hear_only_their_own(
    fake: FakeBackpack, account: FakeAccount
) -> None:
    spot, perp = pair(
        key_from_seed(PUBLIC, SEED_B64),
        ids=MemoryIds(),
        settings=QUICK,
        where=on_this_machine(fake.rest, fake.socket),
    )
    heard: dict[str, list[Any]] = {"spot": [], "perp": []}
    seat = Seat(fake, account)
    try:
        spot.connect(heard["spot"].append)
        perp.connect(heard["perp"].append)
        seat.wait(lambda: fake.subscribed == 2 and all(heard.values()))
        command = Place("s", SPOT, BUY, 9_990, 100)
        spot.send(Approved(command, "w", _GRANT))
        perp.send(Approved(replace(command, client_id="p", instrument=PERP), "w", _GRANT))
        for name, own in (("spot", "s"), ("perp", "p")):
            seat.wait(lambda name=name: any(isinstance(e, OrderHeard) for e in heard[name]))  # type: ignore[misc]
            seat.wait(lambda name=name: any(isinstance(e, Answered) for e in heard[name]))  # type: ignore[misc]
            assert {e.report.client_id for e in heard[name] if isinstance(e, OrderHeard)} == {own}
        assert [r.instrument for r in spot.fetch_open_orders()] == [SPOT]
        assert [r.instrument for r in perp.fetch_open_orders()] == [PERP]
        assert len({order.client_id for order in account.orders}) == 2
        perp.cancel_all(None)
        assert (len(spot.fetch_open_orders()), len(perp.fetch_open_orders())) == (1, 0)
        assert spot.limits()[0].used == perp.limits()[0].used > 0
    finally:
        spot.close()
        perp.close()


# ------------------------------------------------------------------------------------ reads


def test_instruments_fees_modes_and_addresses_are_read(seat: Seat, perp: Seat) -> None:
    (spot,) = seat.exchange.fetch_instruments()
    (future,) = perp.exchange.fetch_instruments()
    assert (spot.id, spot.tick, spot.lot, spot.kind) == (SPOT, Decimal("0.01"), Decimal("0.001"), "spot")
    assert (future.id, future.kind, future.contract_size) == (PERP, "perp", Decimal(1))
    assert seat.exchange.fetch_fee_rates(SPOT) == FeeRates(Decimal("0.0002"), Decimal("0.0005"))
    assert (spot.maker_fee, spot.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))
    assert seat.exchange.fetch_account_mode() == AccountMode(None, None, "RejectTaker", True)
    assert seat.exchange.fetch_key_rights().can_withdraw is None
    assert seat.exchange.fetch_deposit_address("Solana") == "SolanaAddress111"
    assert seat.exchange.fetch_status().status == "Ok"
    assert seat.exchange.fetch_positions() == () == seat.exchange.fetch_funding(SPOT, 0)
    assert seat.exchange.self_trade_prevention(SPOT) == "RejectTaker"
    with pytest.raises(Rejected):
        seat.exchange.fetch_fills(InstrumentId.of("backpack_spot", "DOGE-USDC"), 0)


def test_fills_are_read_to_the_last_page(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.venues.backpack.account.PAGE", 3)
    seat.rest("a", BUY, 9_990, 900)
    for _ in range(7):
        seat.fake.trade("SOL_USDC", "Ask", "99.80", "0.01")
    fills = seat.exchange.fetch_fills(SPOT, 0)
    assert [fill.lots for fill in fills] == [10] * 7
    assert list(fills) == sorted(fills, key=lambda fill: fill.venue_ns)


def test_a_history_that_lags_behind_the_book_is_no_end_of_an_order(seat: Seat) -> None:
    venue_id = seat.rest("a").venue_id
    assert venue_id is not None
    seat.send(Cancel("a", SPOT))
    seat.status("a", Status.CANCELED)
    seat.fake.history_lag.add(venue_id)
    with pytest.raises(Unavailable):
        seat.exchange.fetch_order(SPOT, "a")
    seat.fake.history_lag.clear()
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.CANCELED


def test_an_order_whose_answer_was_lost_is_found_by_its_number(seat: Seat, fake: FakeBackpack) -> None:
    fake.hold_pushes = True
    fake.fault("lose_answer", "place")
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.OPEN
    fake.fault("lose_answer", "place")
    seat.send(seat.place("ended", BUY, 10_010, 100, tif=Tif.IOC, post_only=False))
    assert seat.answer("ended").outcome is Outcome.UNKNOWN
    assert seat.exchange.fetch_order(SPOT, "ended").status is Status.FILLED  # by pages of the history
    seat.send(Cancel("a", SPOT))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED


# ------------------------------------------------------------------------------------ when things go wrong


def test_a_lost_command_is_unknown_and_the_order_is_not_found(seat: Seat) -> None:
    seat.fake.fault("lose_command", "place")
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    with pytest.raises(UnknownOrder):
        seat.exchange.fetch_order(SPOT, "a")
    seat.settle(0.1)
    assert len(seat.answers("a")) == 1 and seat.fake.methods().count("place") == 0


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("error", {"code": "TIMEOUT", "message": "Timed out", "status": 500}),
        ("error", {"code": "TIMEOUT", "message": "Timed out", "status": 400}),
        ("error", {"code": "SERVER_ERROR", "message": "Internal", "status": 500}),
        ("error", {"code": "BRAND_NEW", "message": "?", "status": 400}),
        ("error_after", {"code": "SERVER_ERROR", "message": "Internal", "status": 500}),
        ("accepted", {}),
        ("html", {"status": 502}),
        ("html", {"status": 503}),
        ("html", {"status": 200}),
        ("garbage", {}),
        ("truncate", {}),
        ("close_after", {}),
        ("redirect", {}),
    ],
)
def test_what_does_not_tell_the_outcome_is_unknown(seat: Seat, kind: str, args: dict[str, Any]) -> None:
    seat.fake.fault(kind, "place", **args)
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert (answer.outcome, answer.error) == (Outcome.UNKNOWN, "OutcomeUnknown")
    seat.send(seat.place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert "duplicate" in seat.answers("a")[1].reason  # never repeated


@pytest.mark.parametrize(
    ("args", "outcome"),
    [
        ({"code": "TOO_MANY_REQUESTS", "message": "x", "status": 429, "retry_s": 1}, Outcome.RATE_LIMITED),
        ({"code": "TRADING_PAUSED", "message": "x", "status": 503}, Outcome.UNAVAILABLE),
        ({"code": "MAINTENANCE", "message": "x", "status": 503}, Outcome.UNAVAILABLE),
        ({"code": "UNAUTHORIZED", "message": "x", "status": 401}, Outcome.UNAUTHORIZED),
        ({"code": "FORBIDDEN", "message": "x", "status": 403}, Outcome.UNAUTHORIZED),
        ({"code": "INVALID_CLIENT_REQUEST", "message": "Invalid signature"}, Outcome.UNAUTHORIZED),
    ],
)
def test_what_never_reached_the_engine_may_be_sent_again_under_its_id(
    seat: Seat, args: dict[str, Any], outcome: Outcome
) -> None:
    seat.fake.fault("error", "place", **args)
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert answer.outcome is outcome
    assert answer.retry_after_s == (1.0 if outcome is Outcome.RATE_LIMITED else 0.0)
    seat.settle(answer.retry_after_s + 0.05)
    seat.send(seat.place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert seat.answers("a")[1].outcome is Outcome.ACCEPTED


def test_nothing_leaves_inside_the_time_a_429_asks_for(seat: Seat) -> None:
    seat.fake.fault("error", "place", code="TOO_MANY_REQUESTS", message="x", status=429, retry_s=1)
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.RATE_LIMITED
    seat.settle(0.05)
    before = len(seat.fake.calls)
    seat.send(Cancel("a", SPOT))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.RATE_LIMITED
    with pytest.raises(RateLimited):
        seat.exchange.fetch_balances()
    assert len(seat.fake.calls) == before


def test_a_share_of_the_limit_is_kept_for_cancels(open_seat: Callable[..., Seat]) -> None:
    seat = open_seat(
        settings=replace(QUICK, requests_per_minute=40, for_cancels=0.5, balances_every_s=1e9)
    ).connect()
    for n in range(30):
        seat.send(seat.place(f"a{n}", BUY, 9_000 - n))
    for n in range(30):
        seat.answer(f"a{n}")
    limited = [n for n in range(30) if seat.answer(f"a{n}").outcome is Outcome.RATE_LIMITED]
    assert limited
    seat.send(Cancel("a0", SPOT))
    assert seat.answer("a0", Request.CANCEL).outcome in (Outcome.ACCEPTED, Outcome.REJECTED)
    (pool,) = seat.exchange.limits()
    assert (pool.name, pool.limit) == ("REQUESTS/1M", 40) and pool.used >= 20


def test_a_clock_that_is_wrong_is_measured_and_the_order_sent_once_more(seat: Seat) -> None:
    seat.rest("before")
    seat.fake.skew_ms = 30_000
    seat.send(seat.place("a", BUY, 9_980))
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    offset = seat.exchange.clock_offset_ns
    assert offset is not None and abs(offset - 30_000_000_000) < 500_000_000
    seat.fake.skew_ms = -30_000
    assert len(seat.exchange.fetch_open_orders()) == 2


def test_a_request_that_goes_on_being_too_late_was_not_executed(seat: Seat) -> None:
    seat.fake.fault("error", "place", n=2, code="INVALID_CLIENT_REQUEST", message="Request has expired")
    seat.send(seat.place("a"))
    assert (seat.answer("a").outcome, seat.answer("a").error) == (Outcome.UNAVAILABLE, "Unavailable")


def test_each_of_many_commands_is_answered_exactly_once(seat: Seat) -> None:
    names = [f"n{n}" for n in range(40)]
    for n, name in enumerate(names):
        seat.send(seat.place(name, BUY, 9_990 - n, 60))
    for name in names[::2]:
        seat.send(Cancel(name, SPOT))
    seat.wait(lambda: len(seat.all_of(Answered)) >= 60)
    seat.settle()
    assert sorted(a.client_id for a in seat.all_of(Answered)) == sorted(names + names[::2])
    assert sorted(o.client_id for o in seat.exchange.fetch_open_orders()) == sorted(names[1::2])


def test_another_self_trade_mode_than_asked_for_is_shouted(seat: Seat) -> None:
    seat.fake.stp_said = "RejectMaker"
    seat.rest("a")
    assert "RejectMaker" in seat.exchange.trouble


# ------------------------------------------------------------------------------------ the stream


def test_a_cut_stream_comes_back_and_what_was_missed_is_read(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.refuse_sockets = True
    seat.fake.cut()
    seat.wait(lambda: not seat.is_up)
    seat.fake.trade("SOL_USDC", "Ask", "99.80", "9")
    seat.fake.refuse_sockets = False
    seat.wait(lambda: seat.is_up)
    assert seat.fills("a") == []
    assert [fill.client_id for fill in seat.exchange.fetch_fills(SPOT, 0)] == ["a"]
    seat.rest("b")


def test_a_close_frame_before_a_shutdown_makes_another_connection(seat: Seat) -> None:
    before = seat.fake.connections
    seat.fake.close_frames()
    seat.wait(lambda: [link.is_up for link in seat.links] == [True, False, True])
    assert seat.fake.connections > before
    seat.rest("a")


def test_a_silent_stream_is_dropped(open_seat: Callable[..., Seat]) -> None:
    seat = open_seat(settings=replace(QUICK, silence_s=0.6)).connect()
    seat.settle(0.7)
    assert [link.is_up for link in seat.links] == [True]  # pongs are enough
    seat.fake.mute()
    seat.wait(lambda: not all(link.is_up for link in seat.links))
    seat.wait(lambda: seat.is_up)
    assert "silent" in next(link.reason for link in seat.links if not link.is_up)


def test_pings_are_answered(seat: Seat) -> None:
    seat.fake.ping_all()
    seat.wait(lambda: seat.fake.pongs() == 1)


def test_an_event_that_cannot_be_read_drops_the_stream_so_that_somebody_reconciles(seat: Seat) -> None:
    for text in (
        b'{"stream":"account.orderUpdate","data":{"e":"orderFill","s":"SOL_USDC"}}',
        b'{"stream":"account.orderUpdate","data":{"e":"orderFi',
        b"<html>",
    ):
        ups = len(seat.links)
        seat.fake.tell_raw(text)
        seat.wait(lambda ups=ups: len(seat.links) == ups + 2)  # type: ignore[misc]
        assert [link.is_up for link in seat.links[-2:]] == [False, True]
    seat.fake.tell_raw(b'{"stream":"account.rfqUpdate","data":{"e":"rfqActive"}}')
    seat.fake.tell_raw(b'{"id":1,"result":null}')
    seat.rest("a")
    assert seat.is_up


def test_a_duplicated_push_carries_the_same_trade(seat: Seat) -> None:
    seat.rest("a")
    seat.fake.repeat_pushes = 1
    seat.fake.trade("SOL_USDC", "Ask", "99.80", "9")
    seat.wait(lambda: len(seat.fills("a")) == 2)
    assert len({fill.key for fill in seat.fills("a")}) == 1
    assert len(seat.exchange.fetch_fills(SPOT, 0)) == 1


def test_a_dropped_push_is_found_by_reading(seat: Seat) -> None:
    seat.fake.drop_pushes = 2
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.ACCEPTED
    seat.fake.trade("SOL_USDC", "Ask", "99.80", "9")
    seat.settle()
    assert (seat.reports("a"), seat.fills("a")) == ([], [])
    assert seat.exchange.fetch_order(SPOT, "a").status is Status.FILLED


def test_an_answer_may_come_before_its_events(seat: Seat) -> None:
    seat.fake.push_delay_s = 0.05
    seat.send(seat.place("a", BUY, 10_010, 100, post_only=False))
    seat.status("a", Status.FILLED)
    kinds = [type(e) for e in seat.heard if not isinstance(e, LinkChanged | BalancesHeard)]
    assert kinds == [Answered, FillHeard, OrderHeard]


@pytest.mark.parametrize("how", ["error", "plain"])
def test_a_refused_subscription_leaves_the_link_down_with_its_reason(
    fake: FakeBackpack, account: FakeAccount, open_seat: Callable[..., Seat], how: str
) -> None:
    fake.stream_error = how
    seat = open_seat()
    fake.fault("error", "subscribe", code="INVALID_CLIENT_REQUEST", message="Invalid signature")
    seat.exchange.connect(seat.heard.append)
    seat.wait(lambda: seat.links)
    assert [link.is_up for link in seat.links] == [False]
    assert "signature" in seat.links[0].reason.lower()


def test_a_subscription_that_came_too_late_is_signed_anew(
    fake: FakeBackpack, open_seat: Callable[..., Seat]
) -> None:
    fake.fault("error", "subscribe", code="INVALID_CLIENT_REQUEST", message="Request has expired")
    seat = open_seat()
    seat.exchange.connect(seat.heard.append)
    seat.wait(lambda: seat.is_up)


def test_a_revoked_key_stops_everything_by_its_class(seat: Seat, account: FakeAccount) -> None:
    account.revoked = True
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNAUTHORIZED
    with pytest.raises(Unauthorized):
        seat.exchange.fetch_balances()


def test_after_close_nothing_is_sent_and_orders_rest_on(seat: Seat) -> None:
    seat.rest("a")
    seat.exchange.close()
    seat.exchange.close()
    seat.send(seat.place("b"))
    assert seat.answer("b").outcome is Outcome.UNAVAILABLE
    assert len(seat.theirs.open()) == 1
    assert not any(service.is_alive for service in seat.exchange.services)


def test_before_connect_nothing_can_be_sent(open_seat: Callable[..., Seat]) -> None:
    seat = open_seat()
    with pytest.raises(RuntimeError):
        seat.send(seat.place("a"))
    seat.fake.fault("lose_command", "account")
    seat.exchange.connect(seat.heard.append)
    seat.send(seat.place("early"))
    assert seat.answer("early").outcome is Outcome.UNAVAILABLE  # markets are not known yet
    seat.exchange.close()
    assert seat.exchange.fetch_open_orders() == ()  # reads need no connection
    seat.exchange.cancel_all(SPOT)  # and the emergency neither


@pytest.mark.parametrize("call", ["capital", "open", "fills", "history", "account", "markets"])
@pytest.mark.parametrize("kind", ["html", "garbage", "truncate", "close_after"])
def test_a_read_that_fails_raises_and_never_returns_nothing(seat: Seat, call: str, kind: str) -> None:
    reads: dict[str, Callable[[], object]] = {
        "capital": seat.exchange.fetch_balances,
        "open": seat.exchange.fetch_open_orders,
        "fills": lambda: seat.exchange.fetch_fills(SPOT, 0),
        "history": lambda: seat.exchange.fetch_order(SPOT, "#123"),
        "account": seat.exchange.fetch_account_mode,
        "markets": seat.exchange.fetch_instruments,
    }
    seat.settle(0.02)
    seat.fake.fault(kind, call, n=2)
    with pytest.raises(Unavailable):
        reads[call]()
