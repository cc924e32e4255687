"""Thalex's pure half: keys, ids, codes, requests, public and private messages, and every payload of the
fixtures that is of a kind we read.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from api import errors as tree
from api.errors import BadInput, BelowMinimum, OutcomeUnknown, RateLimited, Rejected, Unavailable
from api.exchange import FeeRates
from api.types import Amend, InstrumentId, Place, Side, Status, Tif
from api.venues.thalex import ENVIRONMENTS, MemoryIds, Settings, ThalexKey
from api.venues.thalex import messages as say
from api.venues.thalex import public as pub
from api.venues.thalex import requests as ask
from api.venues.thalex.endpoints import endpoints, on_this_machine
from api.venues.thalex.errors import CODES, error_of
from api.venues.thalex.ids import Numbers
from tests.shared import shared

D = Decimal
FEES = FeeRates(D("0.0002"), D("0.0005"))
PERP = {
    "instrument_name": "BTC-PERPETUAL",
    "product": "FBTCUSD",
    "tick_size": 0.5,
    "volume_tick_size": 0.001,
    "min_order_amount": 0.01,
    "underlying": "BTCUSD",
    "type": "perpetual",
    "base_currency": "USD",
}
FUTURE = {
    **PERP,
    "instrument_name": "ETH-27MAR26",
    "underlying": "ETHUSD",
    "type": "future",
    "expiry_date": "2026-03-27",
    "expiration_timestamp": 1774598400,
    "tick_size": 1e1,
}
BTC = InstrumentId.of("thalex", "BTC-USD-PERP")


def markets(*rows: dict[str, Any]) -> pub.Markets:
    return pub.decode_markets(json.dumps(list(rows) or [PERP, FUTURE]).encode(), FEES)


def btc() -> pub.Market:
    return markets().by_id[BTC]


def payloads(name: str, section: str) -> list[Any]:
    path: Path = shared(f"fixtures/thalex/{name}")
    found = [p["json"] for p in json.loads(path.read_text())["payloads"] if p["section"] == section]
    assert found, f"the fixtures have no {section}"
    return found


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


# ------------------------------------------------------------------------------------ keys


def test_the_login_token_of_the_vector_is_reproduced() -> None:
    (vector,) = json.loads(shared("fixtures/thalex/signing_vectors.json").read_text())["vectors"]
    key = ThalexKey(vector["key_id"], vector["private_key_pem"])
    token = key.token(vector["iat"])

    def parts(text: str) -> list[Any]:
        head, body, signature = text.split(".")
        opened = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (head, body, signature)]
        return [json.loads(opened[0]), json.loads(opened[1]), opened[2], f"{head}.{body}".encode()]

    ours, theirs = parts(token), parts(vector["example_token"])
    assert (ours[0], ours[1]) == (theirs[0], theirs[1])
    public = serialization.load_pem_public_key(vector["public_key_pem"].encode())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(ours[2], ours[3], padding.PKCS1v15(), hashes.SHA512())
    # PKCS#1 v1.5 is deterministic: the same text, signed by us, gives the signature of the vector.
    assert key.sign(theirs[3]) == vector["example_token"].split(".")[2]


def test_a_key_shows_no_secret_and_refuses_another_kind() -> None:
    (vector,) = json.loads(shared("fixtures/thalex/signing_vectors.json").read_text())["vectors"]
    key = ThalexKey(vector["key_id"], vector["private_key_pem"])
    assert repr(key) == "ThalexKey(K123...)"
    with pytest.raises(TypeError):
        key.__reduce__()
    with pytest.raises(BadInput):
        ThalexKey("kid", "no pem")
    with pytest.raises(BadInput):
        ThalexKey("", vector["private_key_pem"])


# ------------------------------------------------------------------------------------ ids, places


@given(
    st.lists(st.integers(min_value=0, max_value=2_000_000_000_000_000_000), min_size=1, max_size=30),
    st.integers(0, 29),
)
def test_numbers_never_come_twice_whatever_the_clock_does(clocks: list[int], restart_at: int) -> None:
    store = MemoryIds()
    numbers = Numbers(store)
    given_out = []
    for n, now_ns in enumerate(clocks):
        if n == restart_at:
            numbers = Numbers(store)
        given_out.append(numbers.assign(f"c{n}", now_ns))
    assert sorted(set(given_out)) == given_out
    assert all(0 < number < 1 << 53 for number in given_out)
    assert [numbers.client_id(number) for number in given_out] == [f"c{n}" for n in range(len(clocks))]


def test_the_memory_table_forgets_the_oldest() -> None:
    store = MemoryIds(kept=2)
    for n in (5, 6, 7):
        store.put(f"c{n}", n)
    assert (store.get("c5"), store.ours(5), store.get("c7"), store.last()) == (None, None, 7, 7)


def test_addresses_are_of_the_environment_or_approved_by_name() -> None:
    assert set(ENVIRONMENTS) == {"live", "testnet"}
    assert endpoints("testnet").socket == "wss://testnet.thalex.com/ws/api/v2"
    assert endpoints("live").hosts == {"thalex.com"}
    with pytest.raises(BadInput):
        endpoints("demo")
    with pytest.raises(BadInput):
        endpoints("live", socket="wss://testnet.thalex.com/ws/api/v2")
    with pytest.raises(BadInput):
        endpoints("live", rest="http://thalex.com/api/v2")
    with pytest.raises(BadInput):
        on_this_machine("http://thalex.com", "ws://127.0.0.1:1")
    other = endpoints("live", rest="https://thalex.example/api/v2/", approved=["thalex.example"])
    assert (other.rest, "thalex.example" in other.hosts) == ("https://thalex.example/api/v2", True)


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"collar": "none"},
        {"stp_level": "x"},
        {"stp_action": "x"},
        {"requests_per_s": 0},
        {"for_cancels": 1.0},
    )
    for wrong in wrongs:
        with pytest.raises(BadInput) as refused:
            Settings(**wrong)
        assert refused.value.field == next(iter(wrong))


# ------------------------------------------------------------------------------------ codes

SHEET = {
    **dict.fromkeys((1, 12), "UnknownOrder"),
    **dict.fromkeys((2, 10, 20), "OutcomeUnknown"),
    **dict.fromkeys((3, 4, 53), "RateLimited"),
    **dict.fromkeys((7, 11), "Unavailable"),
    **dict.fromkeys((19, 26, 28, 42), "Unauthorized"),
    **dict.fromkeys((13, 14, 15, 43), "BelowMinimum"),
    **dict.fromkeys((24, 27, 48, 50), "InsufficientFunds"),
    **dict.fromkeys((5, 6, 8, 9, 17, 22, 23, 25, 31, 37, 41, 44, 45, 49, 52, 57, 58), "Rejected"),
}


def test_the_table_holds_every_code_of_the_sheet_and_no_other() -> None:
    assert {code: kind.__name__ for code, kind in CODES.items()} == SHEET


@pytest.mark.parametrize("code", sorted(SHEET))
def test_each_code_becomes_its_class(code: int) -> None:
    error = error_of(200, code, "", is_write=True)
    assert type(error) is getattr(tree, SHEET[code]) and error.code == str(code) and error.message
    read = error_of(200, code, "said", is_write=False)
    assert type(read) is (Unavailable if SHEET[code] == "OutcomeUnknown" else getattr(tree, SHEET[code]))


def test_what_is_not_in_the_table_is_unknown_for_a_write() -> None:
    assert isinstance(error_of(200, 999, "new", is_write=True), OutcomeUnknown)
    assert isinstance(error_of(200, 999, "new", is_write=False), Unavailable)
    assert isinstance(error_of(200, -32602, "params", is_write=True), Rejected)
    assert isinstance(error_of(200, -32603, "internal", is_write=True), OutcomeUnknown)
    assert isinstance(error_of(502, None, "", is_write=True), OutcomeUnknown)
    assert isinstance(error_of(500, 14, "amount", is_write=True), OutcomeUnknown)
    limited = error_of(429, None, "", is_write=True, retry_after_s=7)
    assert isinstance(limited, RateLimited) and limited.retry_after_s == 7
    for status, kind in ((401, "Unauthorized"), (451, "Unauthorized"), (403, "RateLimited")):
        assert type(error_of(status, None, "", is_write=False)).__name__ == kind


# ------------------------------------------------------------------------------------ instruments


def test_instruments_are_exact_and_named_by_table_both_ways() -> None:
    found = markets()
    perp, future = found.by_id[BTC].instrument, found.by_symbol["ETH-27MAR26"].instrument
    assert (perp.tick, perp.lot, perp.min_qty, perp.kind) == (D("0.5"), D("0.001"), D("0.01"), "perp")
    assert (perp.base, perp.quote, perp.contract_size, perp.min_notional) == ("BTC", "USD", D(1), D(0))
    assert (str(future.tick), future.kind, future.id) == ("10", "future", "thalex:ETH-USD-260327")
    assert found.by_symbol["ETH-27MAR26"].expires_ns == 1774598400 * 10**9
    assert found.canonical("BTC-PERPETUAL") == BTC and found.venue_symbol(BTC) == "BTC-PERPETUAL"


def test_a_row_that_cannot_be_read_is_left_out_and_the_others_stay() -> None:
    bad: list[dict[str, Any]] = [
        {**PERP, "instrument_name": "DOGE-PERPETUAL", "underlying": "DOGEUSD"},
        {**PERP, "tick_size": 0},
        {**FUTURE, "expiry_date": None},
        {"type": "perpetual"},
    ]
    assert list(markets(*bad, PERP).by_symbol) == ["BTC-PERPETUAL"]
    with pytest.raises(pub.UNREADABLE):
        pub.decode_markets(b"<html>", FEES)


def test_options_of_the_fixtures_are_not_offered() -> None:
    for section in ("schema Instrument", "RPC public/instruments response default"):
        for told in payloads("openapi_examples.json", section):
            rows = told["result"] if "result" in told else [told]
            assert [msgspec.convert(row, pub.InstrumentRow, strict=False).type for row in rows] == ["option"]
            assert pub.decode_markets(raw(rows), FEES).by_id == {}


# ------------------------------------------------------------------------------------ public frames


def symbols(channel: str, symbol: str = "BTC-PERPETUAL") -> pub.Symbols:
    return pub.Symbols({channel: symbol})


def test_a_book_message_of_the_fixtures_is_read() -> None:
    section = "schema book.<instrument>.<grouping>.<nlevels>.<delay>_payload"
    (frame,) = payloads("openapi_examples.json", section)
    update = pub.decode(raw(frame), symbols(frame["channel_name"]))
    assert isinstance(update, pub.BookUpdate)
    assert (update.is_snapshot, update.asks) == (False, ())
    assert update.bids == ((9120.5, 0.0), (9121.0, 54.0))
    assert (update.bid_total, update.ask_total) == (45.0, 30.0)
    assert update.venue_ns == 1683901254785744000
    assert [(t.price, t.qty, t.side, t.is_implied) for t in update.trades] == [
        (9120.5, 15.0, Side.BUY, False),
        (9121.0, 30.0, Side.BUY, False),
    ]
    for told in payloads("ws_spec_examples.json", "schema BookNotification"):
        whole = {"channel_name": "book.x", "snapshot": True, **told}
        again = pub.decode(raw(whole), symbols("book.x"))
        assert isinstance(again, pub.BookUpdate) and again.is_snapshot and again.bids == update.bids


def test_touches_of_the_fixtures_are_read() -> None:
    (lwt,) = payloads("ws_spec_examples.json", "schema LwtPayload")
    touch = pub.decode(raw({"channel_name": "lwt.x", "notification": lwt}), symbols("lwt.x"))
    assert touch == pub.Touch("BTC-PERPETUAL", 47240.0, 0.4, 47260.0, 1.0, 65536.16, 47252.64143906124, None)
    one_sided = pub.decode(b'{"channel_name":"lwt.x","notification":{"m":1,"b":[2,3,3]}}', symbols("lwt.x"))
    assert isinstance(one_sided, pub.Touch) and (one_sided.bid, one_sided.ask) == (2.0, None)
    (frame,) = payloads("openapi_examples.json", "schema ticker.<instrument>.<delay>_payload")
    both = pub.decode(raw(frame), symbols(frame["channel_name"]))
    assert isinstance(both, tuple) and isinstance(both[0], pub.Touch) and isinstance(both[1], pub.MarkPrice)
    assert (both[0].bid, both[0].ask_size, both[1].mark) == (47240.0, 1.0, 47238.64)
    assert both[1].venue_ns == 946684800 * 10**9
    empty = {**frame["notification"], "best_bid_price": None, "best_bid_amount": None}
    none = pub.decode(raw({**frame, "notification": empty}), symbols(frame["channel_name"]))
    assert isinstance(none, tuple) and isinstance(none[0], pub.Touch) and none[0].bid is None


def test_public_trades_of_the_fixtures_are_read_with_ids_that_tell_twins_apart() -> None:
    (frame,) = payloads("openapi_examples.json", "schema recent_trades.<target>.<category>_payload")
    (trade,) = pub.decode(raw(frame), symbols(frame["channel_name"]))  # type: ignore[misc]
    assert (trade.symbol, trade.price, trade.side) == ("BTC-11MAY22-32400-C", 400.0, Side.BUY)
    assert trade.venue_ns == 1652187265515000000
    twins = {**frame, "notification": frame["notification"] * 2}
    told = pub.decode(raw(twins), symbols(frame["channel_name"]))
    assert isinstance(told, tuple) and len({t.trade_id for t in told}) == 2  # type: ignore[union-attr]


def test_notices_lists_and_replies_are_told_apart() -> None:
    (system,) = payloads("openapi_examples.json", "schema system_payload")
    none = pub.Symbols()
    assert pub.decode(raw(system), none) == pub.Reconnect()
    listing = {"channel_name": "instruments", "notification": [{"added": PERP}, {"removed": FUTURE}]}
    told = pub.decode(raw(listing), none)
    assert isinstance(told, pub.Listing) and (len(told.added), len(told.removed)) == (1, 1)
    assert json.loads(told.added[0]) == PERP
    reply = {"id": 3, **payloads("openapi_examples.json", "RPC public/subscribe response default")[0]}
    assert pub.decode(raw(reply), none) == pub.Reply(3, ("instruments",), None, "")
    refusal = pub.decode(b'{"id":4,"error":{"code":6,"message":"no"}}', none)
    assert refusal == pub.Reply(4, None, 6, "no")
    assert pub.decode(b'{"channel_name":"book.nobody.asked","notification":{"time":1}}', none) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"<html>",
        b'{"channel_name":"book.x","notification":{"time":1,"bid_changes":[[1',
        b'{"channel_name":"book.x","notification":{"bid_changes":[[1,2,2]]}}',
        b'{"channel_name":"book.x","notification":{"time":1,"bid_changes":[[1]]}}',
        b'{"channel_name":"book.x","notification":{"time":1,"trades":[[1,2,"up",3,false]]}}',
        b'{"channel_name":"book.x","notification":{"time":1,"bid_changes":[["one",2,2]]}}',
    ],
)
def test_a_message_that_cannot_be_read_says_so(bad: bytes) -> None:
    with pytest.raises(pub.UNREADABLE):
        pub.decode(bad, symbols("book.x"))


def test_numbers_as_text_and_new_fields_do_no_harm() -> None:
    frame = (
        b'{"channel_name":"book.x","new":1,"notification":{"time":"1.5","bid_changes":[["2","3",3]],"n":0}}'
    )
    update = pub.decode(frame, symbols("book.x"))
    assert isinstance(update, pub.BookUpdate) and update.bids == ((2.0, 3.0),)


def test_channels_and_subscriptions_are_as_documented() -> None:
    assert pub.channels("BTC-PERPETUAL") == (
        "book.BTC-PERPETUAL.none.all.raw",
        "lwt.BTC-PERPETUAL.raw",
        "ticker.BTC-PERPETUAL.100ms",
    )
    with pytest.raises(ValueError):
        pub.channels("BTC-PERPETUAL", delay="1ms")
    told = json.loads(pub.subscribe(pub.ALWAYS, 2))
    assert told == {
        "method": "public/subscribe",
        "params": {"channels": ["system", "instruments"]},
        "id": 2,
    }
    assert json.loads(pub.unsubscribe(["a"], 3))["method"] == "unsubscribe"


def test_candles_of_every_period_are_read_oldest_first() -> None:
    day = 86_400 * 10**9
    section = "RPC public/mark_price_historical_data request"
    assert payloads("openapi_examples.json", section)[0]["params"]["resolution"] in pub.KLINE_PERIODS
    (told,) = payloads("openapi_examples.json", "GET /public/mark_price_historical_data response 200")
    told["result"]["mark"].reverse()
    candles = pub.decode_klines(raw(told), "BTC-PERPETUAL", "1m", 1736363580 * 10**9)
    assert [c.start_ns for c in candles] == [1736363460 * 10**9, 1736363520 * 10**9]
    first = candles[0]
    assert (first.open, first.high, first.low, first.close) == (94700.0, 94701.0, 94445.0, 94409.0)
    assert [c.is_closed for c in candles] == [True, True]
    (index,) = payloads("openapi_examples.json", "GET /public/index_price_historical_data response 200")
    daily = pub.decode_klines(raw(index), "BTCUSD", "1d", 0)
    assert daily[0].end_ns - daily[0].start_ns == day and not daily[0].is_closed
    for period in ("1m", "5m", "15m", "30m", "1h", "1d", "1w"):
        assert f"resolution={period}" in pub.klines_query("BTC-PERPETUAL", period, 1, 2)
    with pytest.raises(ValueError):
        pub.klines_query("BTC-PERPETUAL", "3m", 1, 2)
    with pytest.raises(ValueError):
        pub.decode_klines(b'{"result":{}}', "x", "1m", 0)


def update(at_ns: int, is_snapshot: bool = False) -> pub.BookUpdate:
    return pub.BookUpdate("x", is_snapshot, (), (), None, None, at_ns, ())


def test_a_book_begins_with_a_snapshot_and_time_does_not_go_back() -> None:
    chain = pub.Continuity()
    fed = [chain.feed(u) for u in (update(5), update(6, True), update(6), update(7), update(6), update(8))]
    step = pub.Step
    assert fed == [step.GAP, step.RESET, step.APPLY, step.APPLY, step.GAP, step.GAP]
    assert chain.feed(update(9, True)) is step.RESET


# ------------------------------------------------------------------------------------ requests


def test_a_post_only_order_is_always_book_or_cancel() -> None:
    told = json.loads(ask.place(Place("md1", BTC, Side.BUY, 90000, 1100), btc(), 7, ask.Terms()).params)
    assert told == {
        "direction": "buy",
        "instrument_name": "BTC-PERPETUAL",
        "amount": 1.1,
        "price": 45000,
        "client_order_id": 7,
        "label": "md1",
        "order_type": "limit",
        "time_in_force": "good_till_cancelled",
        "post_only": True,
        "reject_post_only": True,
        "reduce_only": False,
        "collar": "reject",
    }
    example = payloads("openapi_examples.json", "RPC private/insert request")[0]["params"]
    assert {name: told[name] for name in example} == example


def test_other_orders_say_their_terms() -> None:
    terms = ask.Terms("clamp", "account", "cancel_aggressive_no_fill")
    command = Place("md1", BTC, Side.SELL, 90001, 10, Tif.IOC, False, True)
    told = json.loads(ask.place(command, btc(), 7, terms).params)
    assert (told["time_in_force"], told["post_only"], told["reduce_only"]) == (
        "immediate_or_cancel",
        False,
        True,
    )
    assert (told["collar"], told["stp_level"], told["stp_action"]) == (
        "clamp",
        "account",
        "cancel_aggressive_no_fill",
    )
    assert told["price"] == 45000.5


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Place("a", BTC, Side.BUY, 1, 10, Tif.FOK, False), Rejected),
        (Place("a", BTC, Side.BUY, 1, 10, Tif.IOC, True), Rejected),
        (Place('a"b', BTC, Side.BUY, 1, 10), Rejected),
        (Place("a", BTC, Side.BUY, 0, 10), BelowMinimum),
        (Place("a", BTC, Side.BUY, 1, 9), BelowMinimum),
    ],
)
def test_what_cannot_be_said_is_refused(command: Place, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask.place(command, btc(), 7, ask.Terms())


def test_orders_are_addressed_by_their_id_or_by_the_number_of_the_session() -> None:
    assert ask.cancel(ask.by_id("17")).params == b'{"order_id":"17"}'
    assert ask.cancel(ask.by_number(5)).params == b'{"client_order_id":5}'
    amend = ask.amend(Amend("a", BTC, 80000, 1100), btc(), ask.by_id("1728379719872"), ask.Terms())
    example = payloads("openapi_examples.json", "RPC private/amend request")[0]["params"]
    assert json.loads(amend.params) == {**example, "collar": "reject"}
    assert json.loads(ask.over_socket(amend, 9))["id"] == 9


# ------------------------------------------------------------------------------------ private messages


@pytest.mark.parametrize(
    ("section", "status", "reason"),
    [
        ("RPC private/insert response default", Status.OPEN, ""),
        ("RPC private/amend response default", Status.OPEN, ""),
        ("RPC private/cancel response default", Status.CANCELED, "canceled on request"),
    ],
)
def test_orders_of_the_fixtures_are_read(section: str, status: Status, reason: str) -> None:
    (told,) = payloads("openapi_examples.json", section)
    row = say.decode_order(raw(told["result"]))
    report = say.report_of(row, btc().instrument, "c", 5)
    assert report is not None
    assert (report.status, report.reason, report.lots, report.filled_lots) == (status, reason, 1100, 0)
    assert (report.venue_id, report.instrument) == ("1728379719872", BTC)
    assert report.venue_ns == (5 if status is Status.OPEN else 1702583649379417000)


def test_lists_and_histories_of_the_fixtures_are_read() -> None:
    def answer(method: str) -> Any:
        return payloads("openapi_examples.json", f"RPC private/{method} response default")[0]["result"]

    assert [row.status for row in say.decode_orders(raw(answer("open_orders")))] == ["open"]
    # The description writes some numbers as text with a comma at the end; nothing sends that.
    history = json.dumps(answer("order_history")).replace(',"', '"').encode()
    (ended,) = say.decode_order_page(history.replace(b'0.0,"', b'0.0"')).orders
    assert (ended.status, ended.amount, ended.fills[0].amount) == ("filled", D("0.2"), D("0.2"))
    trades = say.decode_trade_page(raw(answer("trade_history"))).trades
    assert [row.trade_id[-6:] for row in trades] == ["785A2B", "1AD986"]
    (position,) = say.decode_positions(raw(answer("portfolio")))
    held = say.position_of(position, btc().instrument)
    assert held is not None and (held.qty, held.entry_price) == (D(1), D(47260))
    page = say.decode_transaction_page(raw(answer("transaction_history")))
    funding = [row for row in page.transactions if row.transaction_type == "perpetual funding"]
    paid = say.funding_of(funding[0], btc().instrument, 1)
    assert (paid.amount, paid.asset, paid.venue_ns) == (D(643), "USDT", 1629964800012722000)
    assert say.decode_login(raw(answer_of_login())).account_number == "A123456789"


def answer_of_login() -> Any:
    return payloads("openapi_examples.json", "RPC public/login response default")[0]["result"]


def test_a_trade_of_the_fixtures_carries_its_fee_as_paid() -> None:
    (frame,) = payloads("openapi_examples.json", "schema account.trade_history_payload")
    (row,) = say.decode_trades(raw(frame["notification"]))
    fill, is_told = say.fill_of(row, btc().instrument, "main", "c")
    assert (fill.fee, fill.fee_asset, is_told) == (D("1.18"), "USD", True)
    assert (fill.ticks, fill.lots, fill.side) == (94560, 100, Side.BUY)
    assert fill.venue_ns == 1630059868414565300
    liquidated = msgspec.structs.replace(row, liquidation_fee=D(2), fee=D("-0.5"))
    assert say.fee_of(liquidated) == D("1.5")
    untold = msgspec.structs.replace(row, fee=None, fee_basis=D(47200))
    assert say.fee_of(untold) == D("1.18")
    nothing = msgspec.structs.replace(row, fee=None, fee_rate=None)
    guessed, is_told = say.fill_of(nothing, btc().instrument, "main", "c")
    assert (guessed.fee, is_told) == (D("0.0005") * 47280 * D("0.1"), False)


def test_cash_is_free_as_far_as_the_margin_reaches() -> None:
    for name in ("openapi_examples.json", "ws_spec_examples.json"):
        (told,) = payloads(name, "schema AccountSummary")
        (balance,) = say.balances_of(say.decode_summary(raw(told)))
        assert (balance.asset, balance.total) == ("USDT", D("1000000004483.9625"))
        assert balance.free == D("999999991870.2781")
    told = {
        "cash": [
            {"currency": "BTC", "balance": 1, "collateral_factor": 0.5, "collateral_index_price": 40000},
            {"currency": "USDT", "balance": -3},
        ],
        "remaining_margin": 5000,
    }
    btc_cash, debt = say.balances_of(say.decode_summary(raw(told)))
    assert (btc_cash.free, btc_cash.locked, debt.free, debt.locked) == (D("0.25"), D("0.75"), D(-3), D(0))


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("partially_filled", "", Status.OPEN),
        ("filled", "filled", Status.FILLED),
        ("cancelled", "immediate_cancel", Status.EXPIRED),
        ("cancelled_partially_filled", "self_trade_prevention", Status.EXPIRED),
        ("cancelled", "session_end", Status.CANCELED),
        ("cancelled", "a reason of tomorrow", Status.CANCELED),
        ("melted", "", None),
    ],
)
def test_each_status_means_one_of_ours(status: str, reason: str, expected: Status | None) -> None:
    row = say.OrderRow(
        "1", "sell", D("0.1"), D("0.05"), status, "BTC-PERPETUAL", D(100), delete_reason=reason
    )
    report = say.report_of(row, btc().instrument, "c", 5)
    assert (None if report is None else report.status) == expected


def test_text_for_numbers_and_numbers_for_text_are_read_and_nonsense_is_not() -> None:
    told = {
        "order_id": "1",
        "direction": "buy",
        "amount": "1.10",
        "filled_amount": 0,
        "status": "open",
        "client_order_id": 5.0,
        "label": 17,
        "new": {},
    }
    row = say.decode_order(raw(told))
    assert (row.amount, row.client_order_id, row.label) == (D("1.10"), 5, 17)
    for wrong in ({"amount": "much"}, {"status": None}, {"filled_amount": None}):
        with pytest.raises(say.UNREADABLE):
            say.decode_order(raw({**told, **wrong}))
    sideless = say.decode_order(raw({**told, "direction": "up"}))
    with pytest.raises(ValueError):
        say.report_of(sideless, btc().instrument, "c", 5)
