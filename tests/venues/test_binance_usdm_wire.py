"""What is Binance USDT-M's own on the wire, against `fake_binance_usdm`: two sockets and HTTP, listen keys,
bans, statuses, signatures, codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

from api.errors import BadInput, Unavailable
from api.exchange import KeyRights
from api.signing import Ed25519Key, HmacKey
from api.types import (
    _GRANT,
    Answered,
    Approved,
    BalancesHeard,
    Cancel,
    Event,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    Outcome,
    Place,
    Request,
    Side,
    Status,
)
from api.venues import usdm_messages as say
from api.venues import usdm_requests as ask
from api.venues.binance_usdm import BinanceUsdmTrading, Settings, on_this_machine
from api.venues.binance_usdm.venue import DIALECT, HeaderSigner
from api.venues.paper.faults import Fault
from api.venues.usdm_public import decode_exchange
from tests.conformance.rig_binance_usdm import KEYS, QUICK, Seat, UsdmRig
from tests.shared import shared

D = Decimal
BUY = Side.BUY


@pytest.fixture
def make() -> Iterator[Callable[..., Seat]]:
    rigs: list[UsdmRig] = []

    def made(path: str = "socket", **more: Any) -> Seat:
        rigs.append(UsdmRig(path, **more))
        return Seat(rigs[-1])

    yield made
    for rig in rigs:
        rig.close()


def test_sending_before_connecting_is_a_mistake_of_the_caller(make: Callable[..., Seat]) -> None:
    with pytest.raises(RuntimeError):
        make().send(Cancel("a", InstrumentId.of("binance_usdm", "BTC-USDT-PERP")))


# ------------------------------------------------------------------------------------ the socket's own


def test_a_late_answer_follows_the_unknown_one(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.rig.fault(Fault.LATE_ANSWER)
    seat.send(seat.place("a"))
    seat.wait(lambda: len(seat.answers("a")) == 2)
    assert [a.outcome for a in seat.answers("a")] == [Outcome.UNKNOWN, Outcome.ACCEPTED]


def test_a_fill_may_come_before_its_answer(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.rig.fault(Fault.EARLY_FILL)
    seat.send(seat.place("a", BUY, 10_010, 100, post_only=False))
    seat.answer("a")
    kinds = [type(e) for e in seat.heard if not isinstance(e, LinkChanged | BalancesHeard)]
    assert kinds.index(FillHeard) < kinds.index(Answered)


def test_without_the_order_socket_orders_leave_over_http_and_the_link_stays(
    make: Callable[..., Seat],
) -> None:
    seat = make().connect()
    seat.fake.refuse_sockets = "api"
    seat.fake.cut("api")
    seat.wait(lambda: seat.venue._session is not None and not seat.venue._session.is_open)
    seat.rest("a")
    assert [how for how, method, _ in seat.fake.calls if method == "order.place"] == ["http"]
    assert seat.links() == [True]
    seat.fake.refuse_sockets = ""
    seat.wait(lambda: seat.venue._session is not None and seat.venue._session.is_open)
    seat.rest("b", BUY, 9_980)
    assert [how for how, method, _ in seat.fake.calls if method == "order.place"] == ["http", "socket"]


def test_a_connection_lost_with_an_order_on_it_is_unknown(make: Callable[..., Seat]) -> None:
    seat = make().connect()
    seat.fake.fault("close_after", "order.place")
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.venue.fetch_order(seat.btc, "a").status is Status.OPEN


@pytest.mark.parametrize("kind", ["garbage", "truncate"])
def test_an_answer_that_cannot_be_read_is_unknown(make: Callable[..., Seat], kind: str) -> None:
    seat = make().connect()
    seat.fake.fault(kind, "order.place")
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is Outcome.UNKNOWN
    assert seat.open_ids() == ["a"]


def test_connections_that_grow_old_are_replaced_by_overlap(make: Callable[..., Seat]) -> None:
    seat = make(max_age_s=0.3).connect()
    seat.wait(lambda: seat.venue._session is not None and seat.venue._session.renewals >= 2)
    seat.rest("a")
    assert seat.links() == [True]


def test_a_silent_private_stream_counts_as_lost(make: Callable[..., Seat]) -> None:
    seat = make(silence_s=0.4).connect()
    seat.settle(0.7)
    assert seat.links() == [True]  # pings are answered
    seat.fake.mute()
    seat.wait(lambda: seat.links() == [True, False, True])


def test_the_listen_key_is_extended_and_replaced_when_it_is_gone(make: Callable[..., Seat]) -> None:
    seat = make(listen_key_s=0.15).connect()
    seat.wait(lambda: seat.fake.methods().count("listenKey.keep") >= 2)
    assert seat.links() == [True]
    seat.fake.expire_listen_keys(say_so=False)
    seat.wait(lambda: seat.links() == [True, False, True])
    seat.rest("a")


def test_a_ban_is_waited_for_and_nothing_leaves_meanwhile(make: Callable[..., Seat]) -> None:
    seat = make("http").connect()
    until = seat.fake.now_ms() + 1_200
    text = f"Way too many requests; IP banned until {until}."
    seat.fake.fault("error", "order.place", code=-1003, msg=text, status=418)
    seat.send(seat.place("a"))
    answer = seat.answer("a")
    assert answer.outcome is Outcome.RATE_LIMITED and 0.5 < answer.retry_after_s <= 1.3
    before = len(seat.fake.calls)
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.RATE_LIMITED
    assert len(seat.fake.calls) == before
    seat.settle(1.3)
    seat.rest("b")


def test_the_last_share_of_the_weight_is_for_cancels(make: Callable[..., Seat]) -> None:
    seat = make("http").connect()
    seat.fake.weight_limit = 400
    seat.venue.fetch_instruments()
    seat.rest("a")
    budget = seat.venue._account.budget
    budget.settle((), (("REQUEST_WEIGHT/1M", 325),), seat.venue._account.venue_ns())
    seat.send(seat.place("b"))
    assert seat.answer("b").outcome is Outcome.RATE_LIMITED
    seat.send(Cancel("a", seat.btc))
    assert seat.answer("a", Request.CANCEL).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (503, "Unknown error, please check your request or try again later.", Outcome.UNKNOWN),
        (503, "Service Unavailable.", Outcome.UNAVAILABLE),
        (503, "Internal error; unable to process your request. Please try again.", Outcome.UNAVAILABLE),
        (503, "<html><h1>503 Service Unavailable</h1></html>", Outcome.UNKNOWN),
        (502, "<html>Bad Gateway</html>", Outcome.UNKNOWN),
        (504, "", Outcome.UNKNOWN),
        (408, "Request Timeout", Outcome.UNKNOWN),
        (403, "<html>WAF</html>", Outcome.RATE_LIMITED),
        (451, "", Outcome.UNAUTHORIZED),
        (200, "<html>hello</html>", Outcome.UNKNOWN),
    ],
)
def test_what_comes_without_their_code_is_typed_by_its_status(
    make: Callable[..., Seat], status: int, text: str, outcome: Outcome
) -> None:
    seat = make("http").connect()
    seat.fake.fault("plain", "order.place", status=status, text=text)
    seat.send(seat.place("a"))
    assert seat.answer("a").outcome is outcome


def test_the_keys_own_rights_are_told_where_another_host_tells_them(make: Callable[..., Seat]) -> None:
    seat = make()
    where = replace(on_this_machine(seat.fake.rest, "", seat.fake.stream), sapi=seat.fake.rest)
    venue = BinanceUsdmTrading(HmacKey(*KEYS["main"]), where=where, settings=Settings(**QUICK))
    assert venue.fetch_key_rights() == KeyRights(True, False, True)
    seat.fake.fault("html", "apiRestrictions", status=404)
    assert venue.fetch_key_rights() == KeyRights(True, None, None)
    venue.close()


def test_an_ed25519_key_trades_over_both_ways(make: Callable[..., Seat]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seat = make()
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    seat.fake.ed25519_account("ed-key", private.public_key(), USDT="1000")
    where = on_this_machine(seat.fake.rest, seat.fake.socket, seat.fake.stream)
    venue = BinanceUsdmTrading(
        Ed25519Key.from_seed("ed-key", bytes(range(32))), where=where, settings=Settings(**QUICK)
    )
    heard: list[Event] = []
    assert venue.fetch_balances()[0].free == D(1000)
    venue.fetch_instruments()
    venue.connect(heard.append)
    seat.wait(lambda: venue._session is not None and venue._session.is_open)
    venue.send(Approved(seat.place("a", BUY, 1_000, 500), "w", _GRANT))
    seat.wait(lambda: any(isinstance(e, Answered) and e.outcome is Outcome.ACCEPTED for e in heard))
    venue.close()


def test_a_dated_contract_trades_like_a_perpetual(make: Callable[..., Seat]) -> None:
    from tests.venues.fake_binance_usdm import Symbol

    seat = make()
    seat.fake.symbols["BTCUSDT_261225"] = Symbol(
        "BTCUSDT_261225", "BTC", "USDT", contract="CURRENT_QUARTER", delivery_ms=1798185600000
    )
    found = {i.symbol: (i.venue_symbol, i.kind) for i in seat.venue.fetch_instruments()}
    assert found["BTC-USDT-261225"] == ("BTCUSDT_261225", "future")


def test_settings_that_cannot_be_are_refused() -> None:
    where = on_this_machine("http://127.0.0.1:1", "", "ws://127.0.0.1:1")
    with pytest.raises(BadInput, match="stp"):
        BinanceUsdmTrading(HmacKey("k", "s"), where=where, settings=Settings(stp="DECREMENT"))
    with pytest.raises(BadInput, match="env"):
        BinanceUsdmTrading(HmacKey("k", "s"), env="moon")
    with pytest.raises(BadInput, match="order_path"):
        Settings(order_path="pigeon")
    with pytest.raises(BadInput, match="this machine"):
        on_this_machine("https://fapi.binance.com", "", "ws://127.0.0.1:1")


# ------------------------------------------------------------------------------------ what is signed


def test_the_documented_signature_is_reproduced() -> None:
    told = json.loads(shared("fixtures/binance_usdm/signing_vectors.json").read_text())["vectors"]
    for vector in told:
        key = HmacKey(vector["api_key"], vector["secret_key"])
        params = {k: v for k, v in vector["params"] if k not in ("timestamp", "recvWindow")}
        stamp_ns = int(dict(vector["params"])["timestamp"]) * 1_000_000
        text = HeaderSigner(key, 5.0).form(params, stamp_ns)
        assert text == f"{vector['payload']}&signature={vector['expected_signature']}"


def test_the_order_is_that_of_another_client_but_for_what_we_say_explicitly() -> None:
    cases = json.loads(shared("fixtures/binance_usdm/ccxt_requests.json").read_text())["cases"]
    (theirs,) = [
        dict(parse_qsl(case["output"]))
        for case in cases
        if case["method"] == "createOrder" and "LIMIT" in case["output"]
    ]
    ltc = replace(terms("LTCUSDT"), tick=D("0.01"), lot=D("0.001"))
    command = Place(theirs["newClientOrderId"], ltc.id, BUY, 5_023, 132, post_only=False)
    ours = ask.order_params(command, ask.MarketTexts.of(ltc), DIALECT, "EXPIRE_TAKER", is_hedge=False)
    told = {k: v for k, v in theirs.items() if k not in ("timestamp", "recvWindow", "signature")}
    assert ours == told | {"positionSide": "BOTH", "selfTradePreventionMode": "EXPIRE_TAKER"}


# ------------------------------------------------------------------------------------ codes


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (-5022, "Post Only order will be rejected.", "WouldCross"),
        (-5021, "FOK order has been rejected.", "Rejected"),
        (-2018, "Balance is insufficient.", "InsufficientFunds"),
        (-2019, "Margin is insufficient.", "InsufficientFunds"),
        (-2022, "ReduceOnly Order is rejected.", "Rejected"),
        (-2011, "Unknown order sent.", "UnknownOrder"),
        (-2013, "Order does not exist.", "UnknownOrder"),
        (-4164, "Order's notional must be no smaller than 5.", "BelowMinimum"),
        (-4061, "Order's position side does not match user's setting.", "Rejected"),
        (-4067, "Position side cannot be changed if there exists open orders.", "Rejected"),
        (-4068, "Position side cannot be changed if there exists position.", "Rejected"),
        (-4120, "Order type not supported for this endpoint.", "Rejected"),
        (-1111, "Precision is over the maximum.", "BelowMinimum"),
        (-4014, "Price not increased by tick size.", "BelowMinimum"),
        (-4003, "Quantity less than zero.", "BelowMinimum"),
        (-1008, "Server is currently overloaded.", "Unavailable"),
        (-1015, "Too many new orders.", "RateLimited"),
        (-1003, "Too many requests.", "RateLimited"),
        (-1021, "Timestamp is outside of the recvWindow.", "Unavailable"),
        (-5028, "The recvWindow check failed.", "Unavailable"),
        (-1007, "Timeout waiting for response from backend server.", "OutcomeUnknown"),
        (-1006, "An unexpected response was received.", "OutcomeUnknown"),
        (-1000, "An unknown error occurred.", "OutcomeUnknown"),
        (-1001, "Internal error; unable to process your request. Please try again.", "Unavailable"),
        (-1001, "Disconnected.", "OutcomeUnknown"),
        (-1022, "Signature for this request is not valid.", "Unauthorized"),
        (-2014, "API-key format invalid.", "Unauthorized"),
        (-2015, "Invalid API-key, IP, or permissions for action.", "Unauthorized"),
        (-1125, "This listenKey does not exist.", "Unavailable"),
        (-1102, "Mandatory parameter.", "Rejected"),
        (-4116, "clientOrderId is duplicated.", "Rejected"),
        (-5027, "No need to modify the order.", "Rejected"),
        (-9999, "Something of tomorrow.", "OutcomeUnknown"),
    ],
)
def test_each_code_of_the_sheet_has_its_class(code: int, text: str, error: str) -> None:
    made = DIALECT.errors.error_of(400, code, text, is_write=True)
    assert (type(made).__name__, made.code) == (error, str(code))
    if error == "OutcomeUnknown":
        assert type(DIALECT.errors.error_of(400, code, text, is_write=False)) is Unavailable


def documented(section: str) -> Iterator[tuple[str, bytes]]:
    path = shared("fixtures/binance_usdm/docs_rest_and_ws_api.json")
    for entry in json.loads(path.read_text())["payloads"]:
        if entry["section"].startswith(section):
            yield entry["section"], json.dumps(entry["json"]).encode()


def another_project(name: str) -> bytes:
    return shared(f"fixtures/binance_usdm/nautilus/{name}.json").read_bytes()


def test_every_documented_answer_we_consume_is_read() -> None:
    readers: list[tuple[str, Callable[[bytes], Any]]] = [
        ("New Order(TRADE) > Response", _either),
        ("Cancel Order (TRADE) > Response", _either),
        ("Modify Order (TRADE) > Response", _either),
        ("Query Order (USER_DATA) > Response", _either),
        ("All Orders", say.decode_orders),
        ("Current All Open Orders", say.decode_orders),
        ("Account Trade List", say.decode_trades),
        ("Futures Account Balance V3", say.decode_balances),
        ("Position Information V3", say.decode_positions),
        ("User Commission Rate", say.decode_commission),
        ("Get Income", say.decode_income),
        ("Get Current Position Mode", say.decode_position_mode),
        ("Get Current Multi-Assets Mode", say.decode_assets_mode),
        ("Futures Account Configuration", say.decode_rights),
        ("Cancel All Open Orders", say.decode_done),
        ("Auto-Cancel All Open Orders", say.decode_countdown),
        ("Modify Multiple Orders", say.decode_batch),
    ]
    read = 0
    for section, reader in readers:
        for name, raw in documented(section):
            reader(raw)
            read += 1
            assert name
    assert read >= 15


def _either(raw: bytes) -> say.OrderRow:
    """An order as an answer over HTTP, or inside one of the WebSocket API."""
    return say.decode_order(bytes(say.decode_frame(raw).result) if b'"result"' in raw else raw)


def test_recorded_rows_of_another_project_are_read() -> None:
    trades = say.decode_trades(another_project("t_http_futures_account_trades"))
    assert (trades[0].commission, trades[0].side, trades[0].maker) == (D("0.00555670"), "SELL", False)
    (balance,) = say.decode_balances(another_project("c_balance"))
    assert say.balance_of(balance).total == D("122.12345678")
    for name in ("positions_hedge", "positions_one_way"):
        assert say.decode_positions(another_project(f"t_http_futures_account_{name}"))
    for name in ("btcusdt", "ethusdt"):
        rates = say.decode_commission(another_project(f"t_http_futures_wallet_commission_rate_{name}"))
        assert rates.makerCommissionRate > 0
    assert say.decode_orders(another_project("t_http_futures_account_orders"))
    assert decode_exchange(another_project("t_http_futures_market_exchange_info")).symbols


@pytest.mark.parametrize(
    ("name", "fills", "status"),
    [
        ("c_order_update_trade", 1, "open"),
        ("c_order_update_trade_partial", 1, "open"),
        ("c_order_update_adl", 1, None),
        ("c_order_update_calculated_pending", 0, "open"),
        ("c_order_update_settlement", 1, "filled"),
        ("t_ws_futures_order_update_settlement", 1, "filled"),
        ("t_ws_futures_order_update_liquidation", 1, "filled"),
        ("t_ws_futures_order_update_new_stop_limit_price_match", 0, "open"),
        ("t_ws_futures_order_update_new_limit_if_touched_price_match", 0, "open"),
    ],
)
def test_order_updates_of_every_kind_are_read(name: str, fills: int, status: str | None) -> None:
    raw = another_project(name)
    pushed = say.decode_pushed(raw)
    update = say.decode_update(raw if pushed.e else bytes(pushed.data)).o
    events = say.heard(update, terms(update.s), "main", 1, 1)
    assert len([event for event in events if isinstance(event, FillHeard)]) == fills
    told = [event.report.status.value for event in events if isinstance(event, OrderHeard)]
    assert told == ([status] if status else [])


def test_events_that_move_money_are_read() -> None:
    assert say.decode_account(another_project("c_account_update_bnfcr")).a.B[0].wb == D("5001.28983031")
    assert say.decode_pushed(another_project("c_trade_lite")).e == "TRADE_LITE"


def terms(symbol: str) -> Instrument:
    return Instrument(
        InstrumentId.of("binance_usdm", f"{symbol}-PERP"),
        *("BTC", "USDT", D("0.01"), D("0.001"), D("0.001"), D(5), D(0), D(0), symbol, "perp"),
    )
