"""Paradex's frames, rows, requests and codes, without a socket: every payload of the fixtures that is of a
kind we read, and what must not be guessed.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import (
    BadInput,
    BelowMinimum,
    InsufficientFunds,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    SelfMatch,
    Unauthorized,
    Unavailable,
    UnknownOrder,
    WouldCross,
)
from api.exchange import FundingPayment
from api.types import Cancel, InstrumentId, Place, Position, Side, Status, Tif
from api.venues import paradex
from api.venues.paradex import messages as say
from api.venues.paradex import public
from api.venues.paradex import requests as ask
from api.venues.paradex.account import counted_in
from api.venues.paradex.endpoints import ENVIRONMENTS, endpoints, on_this_machine
from api.venues.paradex.errors import CODES, SOCKET_CODES, code_in, error_of, refusal_of, socket_error_of
from api.venues.paradex.public import Control, DepthDiff, DepthSnapshot, Verdict
from tests.shared import shared

D = Decimal
BTC = InstrumentId("paradex:BTC-USDC-PERP")
LISTING: dict[str, Any] = {
    "symbol": "BTC-USD-PERP", "asset_kind": "PERP", "base_currency": "BTC", "quote_currency": "USD",
    "settlement_currency": "USDC", "price_tick_size": "0.1", "order_size_increment": "0.001",
    "min_notional": "500", "max_order_size": "100", "market_kind": "cross", "trading_mode": "STANDARD",
}  # fmt: skip
ORDER: dict[str, Any] = {
    "id": "1", "market": "BTC-USD-PERP", "side": "BUY", "type": "LIMIT", "size": "0.3",
    "remaining_size": "0.3", "price": "50", "status": "OPEN", "client_id": "a", "last_updated_at": 1,
}  # fmt: skip


def payloads(name: str) -> list[dict[str, Any]]:
    found = json.loads(shared(f"fixtures/paradex/{name}").read_text())["payloads"]
    assert isinstance(found, list)
    return found


def of_section(name: str, section: str) -> bytes:
    (found,) = [p["json"] for p in payloads(name) if p["section"] == section]
    return json.dumps(found).encode()


def rest(section: str) -> bytes:
    return of_section("openapi_rest_examples.json", section)


def pushed(section: str) -> bytes:
    return of_section("asyncapi_ws_examples.json", section)


def recorded(method: str) -> bytes:
    cases = json.loads(shared("fixtures/paradex/ccxt_responses.json").read_text())["cases"]
    (found,) = [case["httpResponse"] for case in cases if case["method"] == method]
    return json.dumps(found).encode()


def market(**more: Any) -> public.Market:
    return public.market_of(msgspec.convert({**LISTING, **more}, public.Listing), D("0"), D("0.00045"))


def order(**more: Any) -> say.OrderRow:
    return say.decode_order(json.dumps({**ORDER, **more}).encode())


# ------------------------------------------------------------------------------------------ fixtures


def test_every_recorded_answer_of_a_kind_we_read_is_read() -> None:
    (btc,) = public.decode_listings(recorded("fetchMarkets")).results
    made = public.market_of(btc, D("0"), D("0.0003")).instrument
    assert (made.id, made.venue_symbol, made.kind) == (BTC, "BTC-USD-PERP", "perp")
    assert (made.tick, made.lot, made.min_qty, made.min_notional) == (
        D("0.1"),
        D("0.001"),
        D("0.001"),
        D(500),
    )
    assert (made.max_qty, made.contract_size, made.base, made.quote) == (D(100), D(1), "BTC", "USDC")
    book = public.snapshot_of(recorded("fetchOrderBook"))
    assert (book.bids[0], book.asks[0], book.seq) == (("66810", "0.078"), ("67643.2", "3.734"), 14139427)
    assert public.levels(made, book.bids[:1]) == ((668_100, 78),)
    (trade,) = public.trades_of(recorded("fetchTrades"))
    assert (trade.side, trade.price, trade.qty, trade.venue_ns) == (
        Side.BUY, "67643.2", "0.026", 1718377985388 * 10**6,
    )  # fmt: skip
    (summary,) = public.summaries_of(recorded("fetchTicker"))
    assert (summary.mark_price, summary.funding_rate) == (D("67275.25940213"), D("0.00689938923192"))
    config = say.decode_config(recorded("system config"))
    assert config.starknet_chain_id == ENVIRONMENTS["testnet"].chain
    (row,) = say.decode_orders(recorded("fetchOrders")).results
    assert say.status_of(row, rested=False) is Status.REJECTED
    assert refusal_of(row.cancel_reason) is BelowMinimum
    assert say.decode_state(recorded("fetchStatus")).status == "ok"


def test_every_rest_example_of_a_kind_we_read_is_read() -> None:
    assert say.decode_account(rest("GET /account response 200")).free_collateral == "73276.47229774"
    (info,) = say.decode_infos(rest("GET /account/info response 200")).results
    assert info.fees is not None and info.fees.maker_rate == "0.0001"
    (balance,) = say.decode_balances(rest("GET /balance response 200")).results
    assert (balance.token, D(balance.size)) == ("USDC", D("123003.620"))
    (position,) = say.decode_positions(rest("GET /positions response 200")).results
    assert say.position_of(position, BTC) == Position(BTC, D("-0.345"), D("29001.34"))
    fills = say.decode_fills(rest("GET /fills response 200"))
    fine = market(price_tick_size="0.01").instrument
    fill = say.fill_of(fills.results[0], fine, "main", "x1234", Side.SELL)
    assert (fill.trade_id, fill.fee, fill.fee_asset, fill.side) == (
        "8615262148007718462", D("7.56"), "USDC", Side.SELL,
    )  # fmt: skip
    assert fills.next
    (payment,) = say.decode_fundings(rest("GET /funding/payments response 200")).results
    told = say.funding_of(payment, BTC, "USDC", -1)
    assert told == FundingPayment(BTC, payment.id, D("-34.4490622"), "USDC", 1681375481000 * 10**6)
    for section in ("GET /orders response 200", "GET /orders-history response 200"):
        (row,) = say.decode_orders(rest(section)).results
        assert row.client_id == "x1234"
    for section in (
        "GET /orders/by_client_id/{client_id} response 200",
        "GET /orders/{order_id} response 200",
    ):
        assert say.decode_order(rest(section)).id == "123456"
    assert say.expiry_of(say.decode_token(rest("POST /auth response 200")).jwt_token) == 1681452907
    (eth,) = public.decode_listings(rest("GET /markets response 200")).results
    assert eth.base_currency == "ETH"
    assert public.touch_from_rest(rest("GET /bbo/{market} response 200")).bid == ("30112.22", "0.04")
    assert len(public.trades_of(rest("GET /trades response 200"))) == 1
    assert len(public.summaries_of(rest("GET /markets/summary response 200"))) == 1
    (subkey,) = say.decode_subkeys(rest("GET /account/keys/subkeys response 200")).results
    assert subkey.public_key == "0xabcdef1234567890abcdef"
    config = say.decode_config(rest("GET /system/config response 200"))
    assert config.starknet_chain_id


def test_every_error_of_the_examples_is_read_and_sorted() -> None:
    errors = [p["json"] for p in payloads("openapi_rest_examples.json") if "error" in p["json"]]
    assert errors
    for told in errors:
        row = say.decode_error(json.dumps(told).encode())
        assert isinstance(error_of(400, row.error, row.message, is_write=True), Unauthorized)


def test_every_push_example_of_a_kind_we_read_is_read() -> None:
    def frame(channel: str, data: bytes) -> bytes:
        head = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"%b","data":%b}}'
        return head % (channel.encode(), data)

    (touch,) = public.decode(frame("bbo.BTC-USD-PERP", pushed("subscribe /bbo.{market_symbol}")))
    assert isinstance(touch, public.Touch) and (touch.ask, touch.seq) == (("30130.15", "0.05"), 20784)
    (trade,) = public.decode(frame("trades.ALL", pushed("subscribe /trades.{market_symbol}")))
    assert isinstance(trade, public.PublicTrade) and trade.side is Side.BUY
    (summary,) = public.decode(
        frame("markets_summary", pushed("subscribe /markets_summary[.{market_symbol}]"))
    )
    assert isinstance(summary, public.Summary) and summary.mark_price == D("29799.70877478")
    assert public.decode(frame("funding_data.BTC-USD-PERP", b"{}")) == ()
    with pytest.raises(public.UNREADABLE):  # the assembled book lacks prices: not guessed
        public.decode(
            frame(
                "order_book.X.deltas@15@50ms",
                pushed("subscribe /order_book.{market_symbol}.{feed_type}@15@{refresh_rate}[@{price_tick}]"),
            )
        )
    assert say.decode_fill(pushed("subscribe /fills.{market_symbol}")).liquidity == "TAKER"
    assert say.decode_account(pushed("subscribe /account")).settlement_asset == "USDC"
    event = say.decode_balance_event(pushed("subscribe /balance_events"))
    assert event.settlement_asset_name == "USDC"
    assert say.decode_bust(pushed("subscribe /tradebusts")).busted_fill_id == "12342345"
    for section in ("subscribe /order.create", "subscribe /order.modify"):
        assert say.decode_taken(pushed(section)).order.id == "1234567890"
    assert say.decode_cancelled(pushed("subscribe /order.cancel")).order_id == "1234567890"


def test_the_examples_of_the_documents_prose_are_read_as_answers() -> None:
    told = [p["json"] for p in payloads("docs_pages.json")]
    answers = [public.decode(json.dumps(one).encode()) for one in told if "result" in one or "error" in one]
    codes = sorted({control.code for (control,) in answers if isinstance(control, Control)})
    assert len(answers) == 7 and codes == [-32602, -32601, 0, 40111]
    (subscribe,) = [one for one in told if one.get("method") == "subscribe"]
    assert json.loads(public.subscriptions(["CHANNEL_NAME"])[0]) == subscribe


def test_requests_of_the_peer_are_built_alike() -> None:
    cases = json.loads(shared("fixtures/paradex/ccxt_requests.json").read_text())["cases"]
    base = ENVIRONMENTS["testnet"].rest
    by = {case["method"]: case["url"] for case in cases}
    assert by["fetchMarkets"] == f"{base}/markets"
    ours = base + public.klines_path("BTC-USD-PERP", "1m", 1719993276989, 1719993576989)
    assert sorted(ours.partition("?")[2].split("&")) == sorted(by["fetchOHLCV"].partition("?")[2].split("&"))
    assert ours.partition("?")[0] == by["fetchOHLCV"].partition("?")[0]


def test_every_code_of_the_description_is_in_the_table() -> None:
    spec = json.loads(shared("fixtures/paradex/spec/openapi_prod_rest.json").read_text())
    codes = spec["components"]["schemas"]["responses.ErrorCode"]["enum"]
    assert len(codes) > 100 and [code for code in codes if code not in CODES] == []
    rpc = json.loads(shared("fixtures/paradex/spec/openrpc_prod_ws.json").read_text())
    told = {error["code"] for method in rpc["methods"] for error in method.get("errors", [])}
    assert told <= set(SOCKET_CODES)
    instructions = spec["components"]["schemas"]["responses.OrderInstruction"]["enum"]
    assert "FOK" not in instructions and {"GTC", "IOC", "POST_ONLY"} <= set(instructions)
    assert set(spec["components"]["schemas"]["responses.STPMode"]["enum"]) == set(ask.STP_MODES)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("status", "code", "is_write", "kind"),
    [
        (400, "ORDER_ID_NOT_FOUND", True, UnknownOrder),
        (400, "ORDER_IS_CLOSED", True, UnknownOrder),
        (400, "DUPLICATED_CLIENT_ID", True, OutcomeUnknown),
        (400, "INVALID_ORDER_SIZE", True, BelowMinimum),
        (400, "INVALID_ORDER_SIGNATURE", True, Unauthorized),
        (400, "INVALID_TIMESTAMP", True, Unavailable),
        (400, "SYSTEM_STATUS_POST_ONLY", True, Unavailable),
        (401, "INVALID_TOKEN", True, Unavailable),
        (401, "", True, Unavailable),
        (403, "GEO_IP_BLOCK", False, Unauthorized),
        (403, "", False, Unauthorized),
        (429, "", True, RateLimited),
        (500, "INTERNAL_ERROR", True, OutcomeUnknown),
        (500, "VALIDATION_ERROR", True, OutcomeUnknown),
        (500, "INTERNAL_ERROR", False, Unavailable),
        (502, "", True, OutcomeUnknown),
        (502, "", False, Unavailable),
        (400, "SOMETHING_NEW", True, OutcomeUnknown),
        (400, "SOMETHING_NEW", False, Unavailable),
        (400, "", True, OutcomeUnknown),
    ],
)
def test_answers_over_http_get_their_class(status: int, code: str, is_write: bool, kind: type) -> None:
    assert type(error_of(status, code, "text", is_write=is_write)) is kind


def test_names_in_a_sockets_text_decide_and_unknown_codes_are_unknown() -> None:
    assert code_in("failed: ORDER_ID_NOT_FOUND (id 5)") == "ORDER_ID_NOT_FOUND" and code_in("OH NO") == ""
    assert type(socket_error_of(-32602, "ORDER_IS_NOT_OPEN", is_write=True)) is UnknownOrder
    assert type(socket_error_of(-32602, "bad", is_write=True)) is Rejected
    assert type(socket_error_of(40300, "no", is_write=True)) is Unauthorized
    assert type(socket_error_of(42901, "slow", is_write=True)) is RateLimited
    assert type(socket_error_of(77, "what", is_write=True)) is OutcomeUnknown
    assert type(socket_error_of(77, "what", is_write=False)) is Unavailable


@pytest.mark.parametrize(
    ("more", "rested", "status"),
    [
        ({"status": "NEW"}, False, Status.OPEN),
        ({"status": "CLOSED", "remaining_size": "0"}, True, Status.FILLED),
        ({"status": "CLOSED", "cancel_reason": "USER_CANCELED"}, True, Status.CANCELED),
        (
            {"status": "CLOSED", "cancel_reason": "USER_CANCELED", "remaining_size": "0.1"},
            True,
            Status.CANCELED,
        ),
        ({"status": "CLOSED", "cancel_reason": "POST_ONLY_WOULD_CROSS"}, False, Status.REJECTED),
        ({"status": "CLOSED", "cancel_reason": "CANCELED_POST_ONLY"}, False, Status.REJECTED),
        ({"status": "CLOSED", "cancel_reason": "NOT_ENOUGH_MARGIN"}, False, Status.REJECTED),
        ({"status": "CLOSED", "cancel_reason": "NOT_ENOUGH_MARGIN"}, True, Status.CANCELED),
        (
            {"status": "CLOSED", "cancel_reason": "NOT_ENOUGH_MARGIN", "remaining_size": "0.1"},
            False,
            Status.CANCELED,
        ),
        ({"status": "CLOSED", "cancel_reason": "ORDER_EXCEEDS_POSITION_LIMIT"}, False, Status.REJECTED),
        ({"status": "CLOSED", "cancel_reason": "SELF_TRADE"}, False, Status.EXPIRED),
        ({"status": "CLOSED", "cancel_reason": "WHO_KNOWS"}, False, Status.CANCELED),
        ({"status": "CLOSED", "cancel_reason": "WHO_KNOWS", "instruction": "IOC"}, False, Status.EXPIRED),
    ],
)  # fmt: skip
def test_states_and_reasons_of_an_order(more: dict[str, Any], rested: bool, status: Status) -> None:
    assert say.status_of(order(**more), rested=rested) is status


def test_reasons_have_classes_and_states_that_are_new_are_not_guessed() -> None:
    assert refusal_of("NOT_ENOUGH_MARGIN") is InsufficientFunds and refusal_of("POST_ONLY_X") is WouldCross
    assert refusal_of("SELF_TRADE") is SelfMatch and refusal_of("USER_CANCELED") is None
    with pytest.raises(say.UNREADABLE):
        say.status_of(order(status="PAUSED"), rested=False)
    with pytest.raises(say.UNREADABLE):
        say.report_of(order(size="NaN"), market().instrument, "a", rested=False)
    with pytest.raises(say.UNREADABLE):
        say.decode_order(json.dumps({**ORDER, "size": 5}).encode())
    with pytest.raises(say.UNREADABLE):
        say.position_of(say.PositionRow("X", "UP", "1"), BTC)


def test_a_fill_off_the_grid_is_not_rounded() -> None:
    row = {
        "id": "1", "order_id": "2", "market": "BTC-USD-PERP", "side": "BUY", "size": "0.001", "price": "10.1",
        "fee": "-0.1", "fee_currency": "USDC", "liquidity": "MAKER", "created_at": 1,
    }  # fmt: skip

    def read(**more: str) -> Decimal:
        made = say.decode_fill(json.dumps({**row, **more}).encode())
        return say.fill_of(made, market().instrument, "main", "a", Side.SELL).fee

    assert read() == D("-0.1") and read(price="10.15", fill_type="LIQUIDATION") == D("-0.1")
    for more in ({"size": "0.0015"}, {"price": "10.15"}, {"size": "x"}, {"fee": "none"}):
        with pytest.raises(say.UNREADABLE):
            read(**more)


def test_numbers_as_text_and_new_fields_are_read_alike() -> None:
    assert order(last_updated_at="1721903808521", seq_no="5", brand_new={"x": 1}).seq_no == 5
    assert order(last_updated_at=1721903808521, seq_no=5) == order(
        last_updated_at="1721903808521", seq_no="5"
    )


def test_tokens_whose_end_cannot_be_read_tell_nothing() -> None:
    assert [say.expiry_of(token) for token in ("", "a.b", "a.!!!.c", "a.e30.c", "a.W10.c")] == [None] * 5


# ------------------------------------------------------------------------------------------ public


def delta(seq: int, kind: str = "d") -> bytes:
    rows = {
        "seq_no": seq, "market": "BTC-USD-PERP", "update_type": kind, "last_updated_at": 5,
        "inserts": [{"side": "BUY", "price": "9", "size": "1"}, {"side": "BUY", "price": "10", "size": "1"}],
        "updates": [{"side": "SELL", "price": "11", "size": "2"}],
        "deletes": [{"side": "SELL", "price": "12", "size": "3"}],
    }  # fmt: skip
    params = {"channel": "order_book.BTC-USD-PERP.deltas@15@50ms", "data": rows}
    return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}).encode()


def test_a_book_begins_whole_and_goes_on_by_differences() -> None:
    (whole,), (diff,) = public.decode(delta(1, "s")), public.decode(delta(2))
    assert isinstance(whole, DepthSnapshot) and isinstance(diff, DepthDiff)
    assert whole.bids == (("10", "1"), ("9", "1"))  # best first
    assert diff.asks == (("11", "2"), ("12", "0")) and diff.seq == 2
    compact = delta(3).replace(b" ", b"")
    assert public.decode(compact) == public.decode(delta(3))
    for bad in (delta(1, "x"), delta(1).replace(b"SELL", b"NONE"), delta(1)[:-9], b"{}", b"<html>"):
        with pytest.raises(public.UNREADABLE):
            public.decode(bad)


def test_continuity_applies_the_next_ignores_the_old_and_drops_a_gap() -> None:
    whole = DepthSnapshot("X", (), (), 10, 0)
    line = public.Continuity()
    assert line.feed(DepthDiff("X", (), (), 10, 0)) is Verdict.GAP
    assert line.feed(whole) is Verdict.APPLY
    told = [line.feed(DepthDiff("X", (), (), seq, 0)) for seq in (11, 11, 9, 12, 14, 15)]
    apply, ignore, gap = Verdict.APPLY, Verdict.IGNORE, Verdict.GAP
    assert told == [apply, ignore, ignore, apply, gap, gap] and line.seq is None
    line.feed(whole)
    line.lose()
    assert line.feed(DepthDiff("X", (), (), 11, 0)) is gap


@given(st.lists(st.integers(0, 30), max_size=40))
def test_continuity_never_applies_out_of_order(numbers: list[int]) -> None:
    line, last = public.Continuity(), 0
    line.feed(DepthSnapshot("X", (), (), 0, 0))
    for number in numbers:
        verdict = line.feed(DepthDiff("X", (), (), number, 0))
        if verdict is Verdict.APPLY:
            assert number == last + 1
            last = number
        if verdict is Verdict.GAP:
            return


def test_names_go_both_ways_by_table_and_twins_are_left_out() -> None:
    names = public.Symbols([market(), market(symbol="BTC-USD-PERP2")])
    assert names.left_out == ["BTC-USD-PERP2"] and len(names) == 1
    for name in ("BTC-USD-PERP", "BTC-USDC-PERP"):
        assert names.canonical(name) == "BTC-USDC-PERP"
    assert names.venue_symbol(BTC) == "BTC-USD-PERP" and names.canonical("DOGE") is None


@pytest.mark.parametrize(
    "more",
    [
        {"asset_kind": "SPOT"}, {"asset_kind": "PERP_OPTION"}, {"market_kind": "isolated_margin"},
        {"trading_mode": "RFQ_ONLY"}, {"price_tick_size": ""}, {"order_size_increment": "NaN"},
        {"price_tick_size": "0.0000000001"}, {"settlement_currency": ""}, {"price_tick_size": "0"},
    ],
)  # fmt: skip
def test_markets_that_cannot_be_traded_here_are_left_out(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        market(**more)


def test_klines_come_oldest_first_in_every_period() -> None:
    body = b'{"results":[[60000,2,3,1,2.5,10],[0,"1","2","0.5","2",7]]}'
    for period in public.PERIODS:
        first, second = public.klines_of("X", period, body)
        assert (first.start_ns, second.open, second.close, second.volume) == (0, D(2), D("2.5"), D(10))
        assert f"resolution={public.PERIODS[period]}" in public.klines_path("X", period, 0, 1)
    with pytest.raises(KeyError):
        public.klines_of("X", "1d", body)


# ------------------------------------------------------------------------------------------ requests


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_what_is_written_is_exactly_what_is_signed(ticks: int, lots: int) -> None:
    made = ask.place(
        Place("a", BTC, Side.SELL, ticks, min(lots, 100_000)), market(), "a", "EXPIRE_TAKER", 3000
    )
    assert made.terms is not None
    assert D(made.params["price"]) * 10**8 == made.terms.price_e8
    assert D(made.params["size"]) * 10**8 == made.terms.size_e8
    assert D(made.params["price"]) == market().instrument.price(ticks)
    assert "e" not in made.params["price"].lower()


def test_orders_carry_instruction_flags_and_window() -> None:
    command = Place("a", BTC, Side.BUY, 10, 5, Tif.IOC, False, True)
    made = ask.place(command, market(), "a", "EXPIRE_BOTH", 1)
    assert made.params == {
        "market": "BTC-USD-PERP", "side": "BUY", "type": "LIMIT", "size": "0.005", "price": "1",
        "instruction": "IOC", "client_id": "a", "stp": "EXPIRE_BOTH", "recv_window": 10,
        "flags": ["REDUCE_ONLY"],
    }  # fmt: skip
    cancel = ask.cancel(Cancel("a/b c", BTC), market(), ask.theirs_of("a/b c"))
    assert cancel.path.startswith("/orders/by_client_id/mdx.") and "?market=BTC-USD-PERP" in cancel.path


def test_client_ids_fit_the_venue_and_never_meet() -> None:
    fits = ("md1-x", "a" * 64)
    odd = ("", "a" * 65, "ü", "a b", "mdx.sneaky", "a/b")
    theirs = [ask.theirs_of(name) for name in (*fits, *odd)]
    assert theirs[:2] == list(fits) and len(set(theirs)) == len(theirs)
    assert all(ask.OWN_FORM.fullmatch(name) for name in theirs)
    assert theirs == [ask.theirs_of(name) for name in (*fits, *odd)]


def test_the_venues_counts_name_their_pool_by_the_limit() -> None:
    headers = {"x-ratelimit-limit": "120", "x-ratelimit-remaining": "100"}
    costs = (("reads/s", 1), ("reads/min", 1))
    assert counted_in(headers, costs) == (("reads/s", 20),)
    assert counted_in({"x-ratelimit-limit": "600", "x-ratelimit-remaining": "599"}, costs) == (
        ("reads/min", 1),
    )
    assert counted_in({"x-ratelimit-limit": "many"}, costs) == () and counted_in({}, costs) == ()


def test_environments_have_hosts_of_their_own_and_nothing_else_is_spoken_to() -> None:
    live, test = ENVIRONMENTS["live"], ENVIRONMENTS["testnet"]
    assert live.hosts.isdisjoint(test.hosts) and live.chain != test.chain
    assert (live.rest, test.socket) == (
        "https://api.prod.paradex.trade/v1", "wss://ws.api.testnet.paradex.trade/v1",
    )  # fmt: skip
    with pytest.raises(BadInput):
        endpoints("demo")
    with pytest.raises(BadInput):
        on_this_machine("http://example.com", "ws://127.0.0.1")


@pytest.mark.parametrize(
    "more",
    [
        {"order_path": "fax"}, {"stp": "none"}, {"http_lines": 0}, {"answer_s": 0.0}, {"answer_s": 31.0},
        {"funding_paid_sign": 0},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(more: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as bad:
        paradex.Settings(**more)
    assert bad.value.field in more
