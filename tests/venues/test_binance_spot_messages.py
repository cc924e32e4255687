"""Binance spot's payloads and codes: every kind we consume, parsed; every code, classified; requests as the
documents have them.
"""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import errors
from api.signing import HmacKey
from api.types import Amend, Cancel, FillHeard, InstrumentId, OrderHeard, Place, Side, Status, Tif
from api.venues.binance_spot_trading import ENVIRONMENTS, Settings
from api.venues.binance_spot_trading import messages as say
from api.venues.binance_spot_trading import requests as ask
from api.venues.binance_spot_trading.endpoints import endpoints, on_this_machine
from api.venues.binance_spot_trading.errors import CODES, error_of, kind_of
from tests.shared import shared

D = Decimal
HERE = "fixtures/binance_spot"


def document(name: str) -> list[Any]:
    return [p["json"] for p in json.loads(shared(f"{HERE}/{name}").read_text("utf-8"))["payloads"]]


def section(name: str, wanted: str) -> list[bytes]:
    """The documents' payloads of one section, as text."""
    rows = json.loads(shared(f"{HERE}/{name}").read_text("utf-8"))["payloads"]
    found = [json.dumps(row["json"]).encode() for row in rows if row["section"].endswith(wanted)]
    assert found, f"{name} has no section {wanted}"
    return found


def nautilus(pattern: str) -> list[tuple[str, bytes]]:
    folder: Path = shared(f"{HERE}/nautilus")
    found = [(path.name, path.read_bytes()) for path in sorted(folder.glob(pattern))]
    assert found, pattern
    return found


def symbol_row(**changes: Any) -> dict[str, Any]:
    row = {
        "symbol": "ETHUSDT",
        "status": "TRADING",
        "baseAsset": "ETH",
        "quoteAsset": "USDT",
        "orderTypes": ["LIMIT", "LIMIT_MAKER"],
        "isSpotTradingAllowed": True,
        "amendAllowed": True,
        "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER"],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01",
                "maxPrice": "1000000",
                "tickSize": "0.01000000",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00010000", "maxQty": "9000.0", "stepSize": "0.00010000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.0"},
        ],
    }
    return row | changes


def market(**changes: Any) -> say.Market:
    body = json.dumps({"symbols": [symbol_row(**changes)], "rateLimits": []}).encode()
    return say.market_of(say.decode_exchange(body).symbols[0], D("0.001"), D("0.001"))


ETH = market()
TEXTS = ask.MarketTexts.of(ETH, "EXPIRE_TAKER")
ID = InstrumentId.of("binance_spot", "ETH-USDT")


# ------------------------------------------------------------------------------------ execution reports


def executions() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, raw in nautilus("*execution_report*"):
        told = json.loads(raw)
        found.append((name, told.get("data", told)))
    for told in document("docs_user_data_stream.json"):
        if told["event"]["e"] == "executionReport":
            found.append(("documents", told["event"]))
    return found


def test_every_execution_report_is_parsed_and_means_what_it_says() -> None:
    seen = []
    for name, told in executions():
        execution = say.decode_execution(json.dumps(told).encode())
        events = say.heard(execution, ETH.instrument, "main", 7)
        reports = [e.report for e in events if isinstance(e, OrderHeard)]
        fills = [e.fill for e in events if isinstance(e, FillHeard)]
        assert [report.client_id for report in reports] == [told["C"] or told["c"]], name
        assert reports[0].venue_id == str(told["i"])
        assert ETH.instrument.price(reports[0].ticks) == D(told["p"]).quantize(D("0.01"), "ROUND_FLOOR")
        assert bool(fills) == (told["x"] == "TRADE" and D(told["l"]) > 0), name
        if fills:
            assert isinstance(events[0], FillHeard), "the fill comes before what it makes of the order"
            assert fills[0].fee == D(told["n"]) and fills[0].fee_asset == told["N"]
            assert fills[0].trade_id == str(told["t"]) and fills[0].venue_ns == told["T"] * 1_000_000
        seen.append((told["x"], told["X"], reports[0].status))
    assert {status for _, _, status in seen} == {
        Status.OPEN,
        Status.FILLED,
        Status.CANCELED,
        Status.EXPIRED,
        Status.REJECTED,
    }


def execution(**changes: Any) -> say.Execution:
    base = next(told for _, told in executions() if told["x"] == "NEW")
    return say.decode_execution(json.dumps({**base, **changes}).encode())


def test_a_cancel_names_the_order_and_not_the_cancel() -> None:
    (event,) = say.heard(
        execution(x="CANCELED", X="CANCELED", C="ours", c="the-cancel"), ETH.instrument, "a", 0
    )
    assert isinstance(event, OrderHeard)
    assert (event.report.client_id, event.report.status) == ("ours", Status.CANCELED)


def test_self_trade_prevention_is_told_as_expired_for_that_reason() -> None:
    events = say.heard(execution(x="TRADE_PREVENTION", X="EXPIRED_IN_MATCH"), ETH.instrument, "a", 0)
    (event,) = events
    assert isinstance(event, OrderHeard)
    assert (event.report.status, event.report.reason) == (Status.EXPIRED, "self-trade prevention")


def test_a_status_of_tomorrow_gives_no_report_and_keeps_the_fill() -> None:
    told = execution(x="TRADE", X="HALF_BAKED", t=5, l="0.1", L="2500", n="0.1", N="BNB")
    (event,) = say.heard(told, ETH.instrument, "a", 0)
    assert isinstance(event, FillHeard) and event.fill.fee_asset == "BNB"


def test_numbers_as_text_and_text_as_numbers_are_both_read() -> None:
    told = execution(i="12345678901", T="1499405658657", q=1, p=0.5, z=0, new_field={"x": 1})
    assert (told.i, told.q, told.p) == (12345678901, D(1), D("0.5"))


@pytest.mark.parametrize("gone", ["s", "S", "q", "p", "x", "X", "i", "z", "T", "c"])
def test_a_field_that_vanished_makes_it_unreadable_and_is_not_guessed(gone: str) -> None:
    base = dict(next(told for _, told in executions() if told["x"] == "NEW"))
    del base[gone]
    with pytest.raises(say.UNREADABLE):
        say.decode_execution(json.dumps(base).encode())


# ------------------------------------------------------------------------------------ other messages


def test_every_account_event_of_the_documents_is_told_apart_by_its_kind() -> None:
    kinds = set()
    for told in document("docs_user_data_stream.json"):
        frame = say.decode_frame(json.dumps(told).encode())
        kinds.add(say.decode_kind(bytes(frame.event)).e)
        if told["event"]["e"] == "outboundAccountPosition":
            position = say.decode_position(bytes(frame.event))
            assert [(row.a, row.f, row.l) for row in position.B] == [
                ("ETH", D("10000.000000"), D("0.000000"))
            ]
    assert kinds >= {"executionReport", "outboundAccountPosition", "eventStreamTerminated", "balanceUpdate"}
    for _, raw in nautilus("c_account_position.json"):
        assert [row.a for row in say.decode_position(raw).B] == ["USDT", "ETH"]
    shutdown = say.decode_frame(section("docs_web_socket_api.json", "Server Shutdown")[0])
    assert say.decode_kind(bytes(shutdown.event)).e == "serverShutdown"


def test_every_answer_of_the_socket_documents_is_an_answer() -> None:
    answers = 0
    for told in document("docs_web_socket_api.json"):
        if not isinstance(told, dict) or "status" not in told:
            continue
        frame = say.decode_frame(json.dumps(told).encode())
        answers += 1
        assert (frame.status, frame.error is None) == (told["status"], "error" not in told)
        if frame.error is not None:
            assert isinstance(
                error_of(frame.status or 0, frame.error.code, frame.error.msg, is_write=True),
                errors.ExchangeError,
            )
        for row, used in zip(told.get("rateLimits", []), frame.rateLimits or [], strict=True):
            assert (used.rateLimitType, used.count) == (row["rateLimitType"], row["count"])
    assert answers > 20


def test_order_answers_and_lists_are_parsed_over_both_ways() -> None:
    rows = [
        *section("docs_rest_api.json", "New order (TRADE)"),
        *section("docs_rest_api.json", "Cancel order (TRADE)")[:1],
        *(raw for _, raw in nautilus("c_order_response.json")),
        *(raw for _, raw in nautilus("c_cancel_order_response.json")),
    ]
    rows += [json.dumps(case["httpResponse"]).encode() for case in responses()]
    for raw in rows:
        told, row = json.loads(raw), say.decode_order(raw)
        assert row.orderId == int(told["orderId"])
        assert row.own_id == told.get("origClientOrderId", told["clientOrderId"])
    for told in document("docs_web_socket_api.json"):
        result = told.get("result") if isinstance(told, dict) else None
        if isinstance(result, dict) and "orderId" in result and "amendedOrder" not in result:
            frame = say.decode_frame(json.dumps(told).encode())
            assert say.decode_order(bytes(frame.result)).orderId == result["orderId"]
    (listed,) = section("docs_rest_api.json", "Current open orders (USER_DATA)")
    (row,) = say.decode_orders(listed)
    report = say.report_of(row, ETH.instrument, 0)
    assert (report.client_id, report.status, report.ticks, report.lots) == (
        "myOrder1",
        Status.OPEN,
        10,
        10_000,
    )


def responses() -> list[Any]:
    found: list[Any] = json.loads(shared(f"{HERE}/ccxt_responses.json").read_text("utf-8"))["cases"]
    return found


def test_a_state_of_an_order_that_we_do_not_know_is_not_guessed() -> None:
    row = say.decode_order(
        json.dumps({"symbol": "ETHUSDT", "orderId": 1, "status": "ODD", "side": "BUY"}).encode()
    )
    with pytest.raises(KeyError):
        say.report_of(row, ETH.instrument, 0)


def test_amendments_trades_balances_and_fees_are_parsed() -> None:
    amended = say.decode_amended(section("docs_rest_api.json", "Order Amend Keep Priority (TRADE)")[0])
    assert (amended.amendedOrder.orderId, amended.amendedOrder.qty) == (33, D(5))
    (trade,) = say.decode_trades(section("docs_rest_api.json", "Account trade list (USER_DATA)")[0])
    fill = say.fill_of(trade, ETH.instrument, "main", "ours")
    assert (fill.trade_id, fill.side, fill.fee, fill.fee_asset) == ("28457", Side.BUY, D("10.1"), "BNB")
    assert (fill.is_maker, fill.venue_ns, fill.client_id) == (False, 1499865549590 * 1_000_000, "ours")
    account = say.decode_account(section("docs_rest_api.json", "Account information (USER_DATA)")[0])
    assert say.account_fees(account) == (D("0.0015"), D("0.0015"))
    assert [(b.asset, b.free) for b in say.balances_of(account)][0] == ("BTC", D("4723846.89208129"))
    older = say.decode_account(nautilus("t_http_spot_wallet_account.json")[0][1])
    assert say.account_fees(older) == (D("0.0015"), D("0.0015"))
    with pytest.raises(ValueError, match="no commission"):
        say.account_fees(say.decode_account(b'{"balances":[]}'))


def test_commission_adds_all_its_parts_and_takes_no_discount_off() -> None:
    row = say.decode_commission(
        b'{"symbol":"BTCUSDT","standardCommission":{"maker":"0.00000010","taker":"0.00000020",'
        b'"buyer":"0.00000030","seller":"0.00000040"},"specialCommission":{"maker":"0.01","taker":"0.02",'
        b'"buyer":"0.03","seller":"0.04"},"taxCommission":{"maker":"0.00000112","taker":"0.00000114",'
        b'"buyer":"0.00000118","seller":"0.00000116"},"discount":{"enabledForAccount":true,'
        b'"enabledForSymbol":true,"discountAsset":"BNB","discount":"0.75"}}'
    )
    seller = D("0.00000040") + D("0.04") + D("0.00000116")
    assert say.commission_fees(row) == (D("0.01000122") + seller, D("0.02000134") + seller)


# ------------------------------------------------------------------------------------ instruments


def test_every_symbol_of_a_recorded_exchange_info_becomes_an_exact_instrument() -> None:
    path = shared(f"{HERE}/captures/2021-10-12/BINANCE.0.gz")
    line = next(row for row in gzip.open(path, "rt", encoding="utf-8") if "/exchangeInfo -> " in row)
    told = json.loads(line.partition(": ")[2])
    parsed = say.decode_exchange(json.dumps(told).encode())
    markets = [say.market_of(row, D("0.001"), D("0.001")) for row in parsed.symbols]
    assert len(markets) == len(told["symbols"]) > 1000
    assert len({m.instrument.id for m in markets if m.is_trading}) == sum(m.is_trading for m in markets)
    for row, made in zip(told["symbols"], markets, strict=True):
        filters = {f["filterType"]: f for f in row["filters"]}
        instrument = made.instrument
        assert instrument.id == f"binance_spot:{row['baseAsset']}-{row['quoteAsset']}"
        assert instrument.tick == D(filters["PRICE_FILTER"]["tickSize"])
        assert instrument.lot == D(filters["LOT_SIZE"]["stepSize"])
        assert instrument.min_notional == D(filters["MIN_NOTIONAL"]["minNotional"])
        assert format(instrument.tick, "f") == format(instrument.tick.normalize(), "f")
    weights = {(u.rateLimitType, u.interval, u.intervalNum): u.limit for u in parsed.rateLimits}
    assert weights[("REQUEST_WEIGHT", "MINUTE", 1)] == 1200


def test_the_documents_exchange_info_with_its_empty_parts_is_read() -> None:
    parsed = say.decode_exchange(section("docs_rest_api.json", "Exchange information")[0])
    made = say.market_of(parsed.symbols[0], D(0), D(0))
    assert (made.instrument.tick, made.instrument.lot) == (
        D("1E-8"),
        D("1E-8"),
    )  # no filters: the assets' precision
    assert [u.limit for u in parsed.rateLimits] == [0]


def test_both_kinds_of_smallest_value_and_unknown_filters_are_understood() -> None:
    filters = symbol_row()["filters"]
    old = [*filters[:2], {"filterType": "MIN_NOTIONAL", "minNotional": "10.0", "applyToMarket": True}]
    assert market(filters=old).instrument.min_notional == 10
    both = [
        *filters,
        {"filterType": "MIN_NOTIONAL", "minNotional": "7"},
        {"filterType": "NEW_ONE", "limit": "x"},
    ]
    assert market(filters=both).instrument.min_notional == 7
    for told in document("docs_filters.json"):
        assert market(filters=[*filters, told]).instrument.tick > 0


def test_a_rule_that_is_off_is_bounded_by_the_assets_precision() -> None:
    off = [
        {"filterType": "PRICE_FILTER", "minPrice": "0", "maxPrice": "0", "tickSize": "0.00000000"},
        {"filterType": "LOT_SIZE", "minQty": "0", "maxQty": "0", "stepSize": "0"},
    ]
    made = market(filters=off, quoteAssetPrecision=4, baseAssetPrecision=6).instrument
    assert (made.tick, made.lot, made.min_qty, made.max_qty) == (D("0.0001"), D("0.000001"), D(0), None)


@given(
    st.sampled_from(["0.01", "0.00000001", "1", "10", "0.5", "0.25", "1000"]).map(D),
    st.integers(0, 10**12),
)
def test_steps_become_plain_exact_text(step: Decimal, steps: int) -> None:
    text = ask.StepText(say.plain(step))(steps)
    assert D(text) == step * steps
    assert set(text) <= set("0123456789.")


# ------------------------------------------------------------------------------------ requests


KEY = HmacKey("the-key", "the-secret")


def test_an_order_says_everything_explicitly() -> None:
    order = Place("id-1", ID, Side.BUY, 250_000, 12_345, post_only=True)
    request = ask.place(order, TEXTS, 3000, (("w", 1),))
    assert (request.method, request.verb, request.path) == ("order.place", "POST", "/v3/order")
    assert request.params == {
        "symbol": "ETHUSDT",
        "side": "BUY",
        "type": "LIMIT_MAKER",
        "quantity": "1.2345",
        "price": "2500.00",
        "newClientOrderId": "id-1",
        "newOrderRespType": "RESULT",
        "recvWindow": 3000,
        "selfTradePreventionMode": "EXPIRE_TAKER",
    }
    for tif in Tif:
        taking = Place("id-1", ID, Side.SELL, 1, 1, tif, post_only=False)
        assert ask.place(taking, TEXTS, 3000, ()).params | {
            "type": "LIMIT",
            "timeInForce": tif.name,
            "side": "SELL",
        } == (ask.place(taking, TEXTS, 3000, ()).params)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (Place("sp ace", ID, Side.BUY, 1, 1), errors.Rejected),
        (Place("x" * 37, ID, Side.BUY, 1, 1), errors.Rejected),
        (Place('a","x":"', ID, Side.BUY, 1, 1), errors.Rejected),
        (Place("a", ID, Side.BUY, 1, 1, reduce_only=True), errors.Rejected),
        (Place("a", ID, Side.BUY, 1, 1, Tif.IOC, post_only=True), errors.Rejected),
        (Place("a", ID, Side.BUY, 0, 1), errors.BelowMinimum),
        (Place("a", ID, Side.BUY, 1, 0), errors.BelowMinimum),
    ],
)
def test_what_the_venue_cannot_do_is_refused_before_it_is_sent(command: Place, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask.place(command, TEXTS, 3000, ())


def test_only_a_smaller_size_at_the_same_price_is_an_amendment() -> None:
    amend = Amend("a", ID, 100, 50)
    request = ask.amend(amend, TEXTS, (100, 60), 3000)
    assert request.params["newQty"] == "0.0050" and request.params["newClientOrderId"] == "a"
    for rests in ((101, 60), (100, 50), (100, 40)):
        with pytest.raises(errors.Rejected):
            ask.amend(amend, TEXTS, rests, 3000)
    with pytest.raises(errors.UnknownOrder):
        ask.amend(amend, TEXTS, None, 3000)
    with pytest.raises(errors.Rejected, match="no amendments"):
        ask.amend(amend, ask.MarketTexts.of(market(amendAllowed=False), ""), (100, 60), 3000)


def test_both_ways_sign_what_they_send() -> None:
    request = ask.cancel(Cancel("a", ID), "１２３４５６", 3000)
    told = json.loads(ask.over_socket(request, 7, 1645423376532, KEY))
    params = told["params"]
    assert (told["id"], told["method"]) == (7, "order.cancel")
    signed = "apiKey=the-key&origClientOrderId=a&recvWindow=3000&symbol=１２３４５６&timestamp=1645423376532"
    assert params["signature"] == KEY.sign(signed.encode())
    text = ask.over_http(request.params, 1645423376532, KEY)
    signed, _, signature = text.rpartition("&signature=")
    assert signed.startswith("symbol=%EF%BC%91%EF%BC%92") and signature == KEY.sign(signed.encode())


def test_a_signature_in_base64_is_percent_encoded_over_http() -> None:
    key = HmacKey("k", "s", encoding="base64")
    stamps = range(1645423376532, 1645423376632)
    texts = [ask.over_http({"symbol": "X"}, stamp, key) for stamp in stamps]
    assert any("%2B" in text or "%2F" in text for text in texts)
    assert all("+" not in text and "/" not in text for text in texts)


def test_our_orders_are_those_that_ccxt_makes_but_for_stated_differences() -> None:
    """Different on purpose: we name the self-trade prevention mode, ask for RESULT instead of FULL, and bring
    a shorter window and our own client id.
    """
    cases = json.loads(shared(f"{HERE}/ccxt_requests.json").read_text("utf-8"))["cases"]
    compared = 0
    for case in cases:
        their = dict(pair.split("=", 1) for pair in case["output"].split("&"))
        if their["type"] not in ("LIMIT", "LIMIT_MAKER") or "icebergQty" in their or "." in their["price"]:
            continue
        lots = int(D(their["quantity"]) * 10_000)
        command = Place(
            their["newClientOrderId"],
            ID,
            Side.BUY if their["side"] == "BUY" else Side.SELL,
            int(D(their["price"]) * 100),
            lots,
            post_only=their["type"] == "LIMIT_MAKER",
        )
        ours = {k: str(v) for k, v in ask.place(command, TEXTS, 3000, ()).params.items()}
        for name in ("newOrderRespType", "recvWindow", "selfTradePreventionMode", "symbol"):
            ours.pop(name, None)
            their.pop(name, None)
        for name in ("timestamp", "signature"):
            their.pop(name)
        ours["price"], ours["quantity"] = (
            str(D(ours["price"]).normalize()),
            str(D(ours["quantity"]).normalize()),
        )
        their["price"], their["quantity"] = (
            str(D(their["price"]).normalize()),
            str(D(their["quantity"]).normalize()),
        )
        assert ours == their, case["description"]
        compared += 1
    assert compared >= 2


# ------------------------------------------------------------------------------------ codes


def test_every_code_of_the_documents_is_classified() -> None:
    rows = json.loads(shared(f"{HERE}/error_codes.json").read_text("utf-8"))
    missing = [row["code"] for row in rows["codes"] if row["code"] not in CODES]
    assert missing == []
    assert len(rows["codes"]) > 90
    for row in rows["codes"]:
        for text in row["msg"] or [""]:
            error = error_of(400, row["code"], text, is_write=True)
            assert (error.code, error.message != "") == (str(row["code"]), True)


def test_every_message_of_the_documents_has_a_class_with_its_code() -> None:
    rows = json.loads(shared(f"{HERE}/error_codes.json").read_text("utf-8"))
    for row in rows["messages"]:
        for code in (-1013, -2010, -2011):
            kind = kind_of(code, row["msg"])
            assert kind is not None and issubclass(kind, errors.ExchangeError)


@pytest.mark.parametrize(
    ("status", "code", "text", "is_write", "kind"),
    [
        (400, -2010, "Order would immediately match and take.", True, errors.WouldCross),
        (
            400,
            -2010,
            "Account has insufficient balance for requested action.",
            True,
            errors.InsufficientFunds,
        ),
        (400, -2010, "Duplicate order sent.", True, errors.Rejected),
        (400, -2010, "Filter failure: MAX_NUM_ORDERS", True, errors.Rejected),
        (400, -2010, "This account may not place or cancel orders.", True, errors.Unauthorized),
        (400, -1013, "Filter failure: NOTIONAL", True, errors.BelowMinimum),
        (400, -1013, "Market is closed.", True, errors.Rejected),
        (400, -1111, "Parameter 'price' has too much precision.", True, errors.BelowMinimum),
        (400, -2011, "Unknown order sent.", True, errors.UnknownOrder),
        (400, -2011, "Order was not canceled due to cancel restrictions.", True, errors.Rejected),
        (400, -2013, "Order does not exist.", False, errors.UnknownOrder),
        (400, -2026, "Order was canceled or expired over 90 days ago", False, errors.UnknownOrder),
        (400, -1021, "Timestamp for this request is outside of the recvWindow.", True, errors.Unavailable),
        (400, -1022, "Signature for this request is not valid.", True, errors.Unauthorized),
        (401, -2015, "Invalid API-key, IP, or permissions for action.", False, errors.Unauthorized),
        (400, -2014, "API-key format invalid.", False, errors.Unauthorized),
        (429, -1003, "Too much request weight used", True, errors.RateLimited),
        (418, -1003, "Way too much request weight used", True, errors.RateLimited),
        (429, -1015, "Too many new orders", True, errors.RateLimited),
        (503, -1008, "Server is currently overloaded", True, errors.Unavailable),
        (400, -1006, "An unexpected response was received", True, errors.OutcomeUnknown),
        (400, -1007, "Timeout waiting for response", True, errors.OutcomeUnknown),
        (400, -1007, "Timeout waiting for response", False, errors.Unavailable),
        (500, -1000, "An unknown error occurred", True, errors.OutcomeUnknown),
        (503, None, "", True, errors.OutcomeUnknown),
        (502, None, "", False, errors.Unavailable),
        (403, None, "", True, errors.RateLimited),
        (451, None, "", True, errors.Unauthorized),
        (200, None, "", True, errors.OutcomeUnknown),
        (400, -9999, "Something of tomorrow", True, errors.OutcomeUnknown),
        (400, -9999, "Something of tomorrow", False, errors.Unavailable),
        (400, -1198, "A malformed request of tomorrow", True, errors.Rejected),
        (400, -2038, "Order amend (quantity increase) is not supported.", True, errors.Rejected),
    ],
)
def test_a_code_means_what_the_caller_may_do_next(
    status: int, code: int | None, text: str, is_write: bool, kind: type[errors.ExchangeError]
) -> None:
    assert type(error_of(status, code, text, is_write=is_write)) is kind


def test_waiting_is_what_the_venue_says_and_else_long_enough() -> None:
    assert isinstance(
        error := error_of(429, -1003, "x", is_write=True, retry_after_s=7.5), errors.RateLimited
    )
    assert error.retry_after_s == 7.5
    assert isinstance(banned := error_of(418, None, "", is_write=True), errors.RateLimited)
    assert banned.retry_after_s >= 120


# ------------------------------------------------------------------------------------ environments and
# settings


def test_each_environment_speaks_only_to_its_own_hosts() -> None:
    hosts = [where.hosts for where in ENVIRONMENTS.values()]
    assert set(ENVIRONMENTS) == {"live", "testnet", "demo"}
    assert not any(a & b for i, a in enumerate(hosts) for b in hosts[i + 1 :])
    for where in ENVIRONMENTS.values():
        assert where.rest.startswith("https://") and where.socket.startswith("wss://")
    with pytest.raises(errors.BadInput, match="testnet"):
        endpoints("production")
    with pytest.raises(errors.BadInput):
        on_this_machine("http://127.0.0.1:1/api", "wss://ws-api.binance.com/ws-api/v3")


@pytest.mark.parametrize(
    "wrong",
    [{"order_path": "fax"}, {"stp": "MAYBE"}, {"recv_window_s": 0}, {"recv_window_s": 61}, {"http_lines": 0}],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput, match=next(iter(wrong))):
        Settings(**wrong)
