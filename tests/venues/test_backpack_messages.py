"""Backpack without a socket: every payload of the fixtures that we consume, every vector, every code."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import (
    BadInput,
    BelowMinimum,
    ExchangeError,
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
from api.exchange import FeeRates
from api.types import Cancel, InstrumentId, Place, Side, Status, Tif
from api.venues.backpack import messages as say
from api.venues.backpack import public
from api.venues.backpack import requests as ask
from api.venues.backpack.endpoints import endpoints, on_this_machine
from api.venues.backpack.errors import CODES, EXPIRED, REASONS, error_of, letters, refusal_of
from api.venues.backpack.ids import (
    EPOCH_NS,
    MINUTE_NS,
    PER_MINUTE,
    SPACE,
    FileIds,
    MemoryIds,
    Numbers,
    number_after,
)
from api.venues.backpack.login import Settings
from api.venues.backpack.public import Continuity, DepthDiff, Step
from api.venues.backpack.signing import headers, key_from_seed, subscription, to_sign
from tests.shared import shared

FEES = FeeRates(Decimal("0.0002"), Decimal("0.0005"))
SEED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PUBLIC = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
T_NS = 1_694_687_965_940_999_000


def read(name: str) -> Any:
    return json.loads(shared(f"fixtures/backpack/{name}").read_text("utf-8"))


def documented(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        p["json"] for p in read("docs_streams_and_signing.json")["payloads"] if p["json"].get("e") == kind
    )
    return found


def frame(stream: str, data: Any) -> bytes:
    return json.dumps({"stream": stream, "data": data}).encode()


def answered(description: str) -> Any:
    """A recorded answer. That project reads numbers as text; here they are as it shows them."""
    cases = read("ccxt_responses.json")["cases"]
    return next(case["httpResponse"] for case in cases if case["description"] == description)


# ------------------------------------------------------------------------------------ signing


def test_every_signing_vector_is_reproduced() -> None:
    for vector in read("signing_vectors.json")["vectors"]:
        asked = vector["inputs"]
        text = to_sign(asked["instruction"], asked["params"], asked["timestamp"], asked["window"])
        assert text.decode() == vector["signing_string"]
        key = key_from_seed(vector["public_key_b64"], vector["secret_key_seed_b64"])
        assert key.sign(text) == vector["expected_signature"], vector["name"]


def test_the_documented_batch_is_signed_order_by_order() -> None:
    common = {"symbol": "SOL_USDC_PERP", "side": "Bid", "orderType": "Limit"}
    batch: list[ask.Params] = [
        {**common, "price": "141", "quantity": "12"},
        {**common, "price": "140", "quantity": "11"},
    ]
    key = key_from_seed(PUBLIC, SEED)
    made = headers(key, "orderExecute", batch, 1750793021519, 5000)
    assert made == {
        "X-API-Key": PUBLIC,
        "X-Signature": "/RiVIEmATq6bDKSR8I9tEY3qY/MRt45Y5/Wi4mKYjt3SaqoLFfOiYrYNRddqSXfr"
        "cDdY/b0n3duPew5JKrn/CA==",
        "X-Timestamp": "1750793021519",
        "X-Window": "5000",
    }


def test_a_subscription_carries_its_signature_in_order() -> None:
    assert subscription(key_from_seed(PUBLIC, SEED), 1614550000000, 5000) == [
        PUBLIC,
        "Uf+mBpqN/y/EzT77rzrj7ga4mdvZmzq4XW+Lh+9B0K0wLMFJrInMKcACIpSpVaPNzrFEpPhINxEP2rNI3E92CA==",
        "1614550000000",
        "5000",
    ]


def test_booleans_are_signed_in_lower_case_and_numbers_as_text() -> None:
    text = to_sign("orderExecute", {"postOnly": True, "clientId": 7, "autoLend": False}, 1, 2)
    assert text == b"instruction=orderExecute&autoLend=false&clientId=7&postOnly=true&timestamp=1&window=2"


@pytest.mark.parametrize(
    ("public_half", "secret"),
    [
        (PUBLIC, "not base64!"),
        (PUBLIC, base64.b64encode(b"x" * 31).decode()),
        (base64.b64encode(b"x" * 31).decode(), SEED),
        (PUBLIC, base64.b64encode(b"y" * 32).decode()),  # of another pair
        ("", ""),
    ],
)
def test_a_key_of_the_wrong_form_is_refused_without_repeating_it(public_half: str, secret: str) -> None:
    with pytest.raises(BadInput) as bad:
        key_from_seed(public_half, secret)
    assert secret not in str(bad.value) or not secret
    assert PUBLIC not in str(bad.value)


def test_a_seed_with_its_public_half_behind_it_is_taken() -> None:
    both = base64.b64encode(base64.b64decode(SEED) + base64.b64decode(PUBLIC)).decode()
    assert key_from_seed(PUBLIC, both).sign(b"x") == key_from_seed(PUBLIC, SEED).sign(b"x")


# ------------------------------------------------------------------------------------ public frames


def test_every_documented_public_frame_is_read() -> None:
    assert public.decode(frame("bookTicker.SOL_USDC", documented("bookTicker"))) == public.Touch(
        "SOL_USDC", "18.67", "2.000", "18.70", "1.000", 111063070525358080, T_NS
    )
    assert public.decode(frame("depth.SOL_USDC", documented("depth"))) == DepthDiff(
        "SOL_USDC",
        94978271,
        94978271,
        (("18.67", "0.832"), ("18.68", "0.000")),
        (("18.70", "0.000"),),
        T_NS,
    )
    assert public.decode(frame("trade.SOL_USDC", documented("trade"))) == public.PublicTrade(
        "SOL_USDC", "12345", "18.68", "0.122", Side.SELL, 1_694_688_638_089_000_000
    )
    assert public.decode(frame("kline.1m.SOL_USD", documented("kline"))) == public.Kline(
        "SOL_USD",
        "1m",
        1_726_056_000_000_000_000,
        1_726_056_060_000_000_000,
        "18.75",
        "19.80",
        "18.50",
        "19.25",
        "32123",
        93828,
        False,
    )
    assert public.decode(frame("markPrice.SOL_USDC", documented("markPrice"))) == public.MarkPrice(
        "SOL_USDC", "18.70", "19.70", "1.70", 1_694_687_965_941_000_000, T_NS
    )


def test_frames_of_other_kinds_are_none_of_ours() -> None:
    for payload in read("docs_streams_and_signing.json")["payloads"]:
        kind = payload["json"].get("e")
        if kind not in ("depth", "bookTicker", "trade", "kline", "markPrice", None):
            assert public.decode(frame(f"{kind}.x", payload["json"])) is None
    assert public.decode(b'{"id":null,"result":null}') is None


def test_numbers_in_place_of_text_lose_no_digit() -> None:
    raw = frame("bookTicker.X", documented("bookTicker")).replace(b'"18.70"', b"18.70")
    assert public.decode(raw) == public.decode(frame("bookTicker.X", documented("bookTicker")))
    depth = frame("depth.X", documented("depth")).replace(b"94978271", b'"94978271"')
    assert public.decode(depth) == public.decode(frame("depth.X", documented("depth")))


@pytest.mark.parametrize("kind", ["depth", "bookTicker", "trade", "kline"])
def test_a_field_that_vanished_or_a_cut_frame_is_not_guessed(kind: str) -> None:
    whole = documented(kind)
    for name in ("s", "u", "T", "p", "q", "U", "t", "A"):
        if name in whole and not (kind == "kline" and name in ("p", "q", "A", "u")):
            with pytest.raises(public.UNREADABLE):
                public.decode(frame(f"{kind}.x", {k: v for k, v in whole.items() if k != name}))
    with pytest.raises(public.UNREADABLE):
        public.decode(frame(f"{kind}.x", whole)[:-9])
    assert public.decode(frame(f"{kind}.x", {**whole, "new": [1]})) == public.decode(
        frame(f"{kind}.x", whole)
    )


def test_recorded_candles_are_read() -> None:
    (row,) = public.decode_klines(
        json.dumps(answered("Fetch OHLCV")).encode(), "ETH_USDC", "1m", 1_754_912_339_000_000_000
    )
    assert (row.open, row.high, row.low, row.close) == ("4202.78", "4207.44", "4202.78", "4207.44")
    assert (row.start_ns, row.end_ns) == (1_754_912_280_000_000_000, 1_754_912_340_000_000_000)
    assert (row.trades, row.volume, row.is_closed) == (18, "7.3769", False)


def test_a_snapshot_is_read_whatever_its_order() -> None:
    raw = (
        b'{"asks":[["18.7","1"]],"bids":[["18.6","1"],["18.67","2"]],"lastUpdateId":"94978270","timestamp":5}'
    )
    found = public.decode_snapshot(raw)
    assert (found.last_id, found.bids[-1], found.asks[0], found.venue_ns) == (
        94978270,
        ("18.67", "2"),
        ("18.7", "1"),
        5000,
    )
    with pytest.raises(public.UNREADABLE):
        public.decode_snapshot(b"<html>")


def test_subscriptions_and_paths_are_the_documented_ones() -> None:
    names = public.streams("SOL_USDC", klines=("1m", "1month"))
    assert names == (
        *("depth.SOL_USDC", "bookTicker.SOL_USDC", "trade.SOL_USDC"),
        *("kline.1m.SOL_USDC", "kline.1month.SOL_USDC"),
    )
    assert json.loads(public.subscribe(names)) == {"method": "SUBSCRIBE", "params": list(names)}
    assert json.loads(public.unsubscribe(names[:1])) == {"method": "UNSUBSCRIBE", "params": [names[0]]}
    assert public.streams("X", aggregation="200ms")[0] == "depth.200ms.X"
    assert public.depth_path("X", 5) == "/api/v1/depth?symbol=X&limit=5"
    assert public.klines_path("X", "1h", 7) == "/api/v1/klines?symbol=X&interval=1h&startTime=7"
    for wrong in (
        lambda: public.streams("X", aggregation="1ms"),
        lambda: public.streams("X", klines=("2m",)),
        lambda: public.depth_path("X", 7),
        lambda: public.klines_path("X", "2m", 7),
    ):
        with pytest.raises(ValueError):
            wrong()


# ------------------------------------------------------------------------------------ the book's chain


def diff(first: int, last: int) -> DepthDiff:
    return DepthDiff("X", first, last, (), (), 0)


def test_the_first_update_reaches_over_the_snapshot_and_each_next_one_follows() -> None:
    chain = Continuity(100)
    steps = [chain.feed(diff(*ids)) for ids in ((90, 100), (95, 103), (104, 104), (104, 104), (105, 110))]
    assert steps == [Step.IGNORE, Step.APPLY, Step.APPLY, Step.IGNORE, Step.APPLY]
    assert chain.last_id == 110


def test_what_does_not_follow_is_a_gap() -> None:
    assert Continuity(100).feed(diff(102, 103)) is Step.GAP
    chain = Continuity(100)
    assert chain.feed(diff(101, 105)) is Step.APPLY
    assert chain.feed(diff(104, 108)) is Step.GAP  # overlaps, but does not begin behind the last one
    assert chain.feed(diff(107, 108)) is Step.GAP


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.data())
def test_a_lost_update_never_goes_unseen(widths: list[int], data: st.DataObject) -> None:
    updates, at = [], 1
    for width in widths:
        updates.append(diff(at, at + width - 1))
        at += width
    lost = data.draw(st.integers(0, len(updates) - 1))
    chain = Continuity(0)
    steps = [chain.feed(update) for n, update in enumerate(updates) if n != lost]
    assert steps[:lost] == [Step.APPLY] * lost
    assert all(step is Step.GAP for step in steps[lost:])


# ------------------------------------------------------------------------------------ instruments


def market(symbol: str, kind: str, **changes: Any) -> dict[str, Any]:
    row = {
        "symbol": symbol,
        "baseSymbol": symbol.split("_")[0],
        "quoteSymbol": "USDC",
        "marketType": kind,
        "filters": {
            "price": {"minPrice": "0.01", "maxPrice": None, "tickSize": "0.0100"},
            "quantity": {"minQuantity": "0.01", "maxQuantity": None, "stepSize": "0.01"},
        },
        "imfFunction": None,
        "mmfFunction": None,
        "fundingInterval": 28800000 if kind == "PERP" else None,
        "orderBookState": "Open",
        "createdAt": "2025-01-21T06:34:54.691858",
        "visible": True,
    }
    return {**row, **changes}


def test_instruments_are_exact_and_named_both_ways_by_table() -> None:
    rows = [
        market("SOL_USDC", "SPOT"),
        market("SOL_USDC_PERP", "PERP"),
        market("BTC_USDC_PERP", "PERP", orderBookState="CancelOnly"),
        market("SOL_USDC_RFQ", "RFQ"),
        {"symbol": "BROKEN_USDC"},
        market("BAD_USDC", "SPOT", filters={"price": {"tickSize": "0"}, "quantity": {"stepSize": "1"}}),
    ]
    raw = json.dumps(rows).encode()
    spot, perp = (public.decode_markets(raw, kind, FEES) for kind in ("spot", "perp"))
    assert set(spot.by_symbol) == {"SOL_USDC"} and set(perp.by_symbol) == {"SOL_USDC_PERP", "BTC_USDC_PERP"}
    name = InstrumentId("backpack_perp:SOL-USDC-PERP")
    found = perp.by_id[name]
    assert (perp.canonical("SOL_USDC_PERP"), perp.venue_symbol(name)) == (name, "SOL_USDC_PERP")
    assert spot.canonical("SOL_USDC") == "backpack_spot:SOL-USDC"
    assert (found.instrument.tick, str(found.instrument.tick)) == (Decimal("0.01"), "0.01")
    assert (found.instrument.kind, found.instrument.contract_size, found.instrument.max_qty) == (
        "perp",
        Decimal(1),
        None,
    )
    assert (found.instrument.min_qty, found.instrument.min_notional) == (Decimal("0.01"), Decimal(0))
    assert found.instrument.maker_fee == FEES.maker and found.funding_interval_s == 28800
    assert found.is_trading and not perp.by_symbol["BTC_USDC_PERP"].is_trading


# ------------------------------------------------------------------------------------ account messages

SOL = (
    public.decode_markets(json.dumps([market("SOL_USD", "SPOT")]).encode(), "spot", FEES)
    .by_symbol["SOL_USD"]
    .instrument
)


def test_the_documented_order_update_is_read() -> None:
    sample = documented("orderAccepted")
    update = say.decode_update(json.dumps(sample).encode())
    assert (update.c, update.i, update.X, update.R, update.O) == (
        *(123, "1111343026172067", "New"),
        *("PRICE_BAND", "USER"),
    )
    report = say.report_heard(update, SOL, "md1", None)
    assert report is not None
    assert (report.ticks, report.lots, report.filled_lots, report.status) == (
        *(2000, 3212300),
        *(32100, Status.OPEN),
    )
    assert report.venue_ns == 1_694_687_692_989_999_000
    assert say.fill_heard(update, SOL, "main", "md1") is None
    fill = say.fill_heard(
        say.decode_update(json.dumps({**sample, "e": "orderFill"}).encode()), SOL, "main", "md1"
    )
    assert fill is not None
    assert (fill.trade_id, fill.ticks, fill.lots, fill.fee, fill.fee_asset, fill.is_maker) == (
        *("567", 2000, 123),
        *(Decimal(23), "USD", True),
    )
    for name in ("t", "l", "L", "n", "m"):
        cut = {k: v for k, v in sample.items() if k != name} | {"e": "orderFill"}
        with pytest.raises(ValueError):
            say.fill_heard(say.decode_update(json.dumps(cut).encode()), SOL, "main", "md1")


def test_the_documented_position_update_is_read_with_its_numbers() -> None:
    update = say.decode_position_update(json.dumps(documented("positionOpened")).encode())
    assert (update.s, update.q, update.B, update.e) == (
        *("SOL_USDC_PERP", Decimal(5)),
        *(Decimal(122), "positionOpened"),
    )


def test_a_cancel_without_price_and_size_keeps_what_is_known() -> None:
    told = {"e": "orderCancelled", "s": "SOL_USD", "S": "Ask", "X": "Cancelled", "i": "9", "T": 1, "z": "0"}
    update = say.decode_update(json.dumps(told).encode())
    report = say.report_heard(update, SOL, "md1", (5, 6))
    assert report is not None and (report.ticks, report.lots, report.status) == (5, 6, Status.CANCELED)
    assert say.report_heard(update, SOL, "md1", None) is None
    odd = say.decode_update(json.dumps({**told, "X": "Sleeping"}).encode())
    assert say.report_heard(odd, SOL, "md1", (5, 6)) is None


def test_recorded_answers_of_the_venue_are_read() -> None:
    filled = say.decode_order(json.dumps(answered("order with client order Id")).encode())
    assert (filled.clientId, filled.status, filled.executedQuantity) == (55555, "Filled", Decimal(1))
    assert filled.created_ns == 1_757_675_111_334_000_000 and filled.price is None
    resting = say.decode_order(json.dumps(answered("create swap limit order")).encode())
    assert (resting.clientId, resting.selfTradePrevention) == (None, "RejectTaker")
    assert say.report_of(resting, SOL, "#1").status is Status.OPEN
    capital = say.decode_capital(json.dumps(answered("Fetch balance")).encode())
    assert capital["USDC"].available == Decimal("112.847976936")
    assert say.decode_status(json.dumps(answered("Fetch status")).encode()).status == "Ok"


def test_histories_tell_time_in_text_and_client_ids_in_either_form() -> None:
    row = {
        "clientId": "55",
        "fee": "-0.01",
        "feeSymbol": "USDC",
        "isMaker": True,
        "orderId": "7",
        "price": "18.7",
        "quantity": "0.5",
        "side": "Ask",
        "symbol": "SOL_USD",
        "timestamp": "2026-11-20T10:00:00.123",
        "tradeId": 9,
    }
    (read_row,) = say.decode_fills(json.dumps([row]).encode())
    fill = say.fill_of(read_row, SOL, "main", "md1")
    assert (fill.trade_id, fill.side, fill.fee, fill.venue_ns % 1_000_000_000) == (
        *("9", Side.SELL),
        *(Decimal("-0.01"), 123_000_000),
    )
    (bare,) = say.decode_fills(json.dumps([{**row, "tradeId": 0, "clientId": None}]).encode())
    made = say.fill_of(bare, SOL, "main", "#7").trade_id
    assert made == say.fill_of(bare, SOL, "main", "#7").trade_id != "0"
    history = {
        "id": "7",
        "createdAt": "2026-11-20T10:00:00",
        "orderType": "Limit",
        "price": "18.7",
        "quantity": "1",
        "status": "Expired",
        "side": "Bid",
        "symbol": "SOL_USD",
        "timeInForce": "GTC",
        "expiryReason": "PostOnlyTaker",
        "clientId": 5,
        "selfTradePrevention": "RejectTaker",
    }
    (order,) = say.decode_orders(json.dumps([history]).encode())
    report = say.report_of(order, SOL, "md1")
    assert (report.status, report.reason, report.filled_lots) == (Status.EXPIRED, "PostOnlyTaker", None)


def test_the_time_is_plain_text_and_nothing_else() -> None:
    assert say.decode_time(b"1700000000123") == 1700000000123
    for wrong in (b"<html>", b"", b"1700000000", b"1700000000123000"):
        with pytest.raises(ValueError):
            say.decode_time(wrong)


# ------------------------------------------------------------------------------------ errors


def enum_of(name: str) -> list[str]:
    found: list[str] = read("spec/openapi.json")["components"]["schemas"][name]["enum"]
    return found


def test_every_code_and_every_reason_of_the_description_is_classified() -> None:
    assert set(enum_of("ApiErrorCode")) <= set(CODES)
    assert {letters(reason) for reason in enum_of("OrderExpiryReason")} <= set(REASONS)
    assert set(enum_of("OrderStatus")) == set(say.STATUSES)
    assert tuple(enum_of("SelfTradePrevention")) == ask.STP_MODES
    assert tuple(enum_of("KlineInterval")) == public.KLINE_PERIODS
    assert [int(n) for n in enum_of("DepthLimit")] == list(public.DEPTHS)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("INSUFFICIENT_FUNDS", "", InsufficientFunds),
        ("INSUFFICIENT_MARGIN", "", InsufficientFunds),
        ("BORROW_REQUIRES_LEND_REDEEM", "", InsufficientFunds),
        ("INVALID_PRICE", "", BelowMinimum),
        ("INVALID_QUANTITY", "", BelowMinimum),
        ("INVALID_ORDER", "", Rejected),
        ("INVALID_ORDER", "Order would immediately match and take", WouldCross),
        ("INVALID_ORDER", "Self trade prevented", SelfMatch),
        ("INVALID_CLIENT_REQUEST", "Price decimal too long", BelowMinimum),
        ("INVALID_CLIENT_REQUEST", "Invalid signature", Unauthorized),
        ("INVALID_CLIENT_REQUEST", "Missing X-Signature header", Unauthorized),
        ("INVALID_CLIENT_REQUEST", "Request has expired", Unavailable),
        ("INVALID_CLIENT_REQUEST", "unknown field", Rejected),
        ("INVALID_SIGNATURE", "", Unauthorized),
        ("UNAUTHORIZED", "", Unauthorized),
        ("FORBIDDEN", "", Unauthorized),
        ("RESOURCE_NOT_FOUND", "", UnknownOrder),
        ("ORDER_LIMIT", "", Rejected),
        ("POSITION_LIMIT", "", Rejected),
        ("TOO_MANY_REQUESTS", "", RateLimited),
        ("TRADING_PAUSED", "", Unavailable),
        ("MAINTENANCE", "", Unavailable),
        ("TIMEOUT", "", OutcomeUnknown),
        ("SERVER_ERROR", "", OutcomeUnknown),
        ("NEVER_SEEN", "", OutcomeUnknown),
    ],
)
def test_the_sheet_s_codes_become_their_class(code: str, text: str, kind: type[ExchangeError]) -> None:
    error = error_of(400, code, text, is_write=True)
    assert type(error) is kind
    as_read = error_of(400, code, text, is_write=False)
    assert type(as_read) is (Unavailable if kind is OutcomeUnknown else kind)


def test_statuses_without_a_reason_of_theirs() -> None:
    assert type(error_of(503, None, "", is_write=True)) is OutcomeUnknown
    assert type(error_of(503, None, "", is_write=False)) is Unavailable
    assert type(error_of(503, "MAINTENANCE", "", is_write=True)) is Unavailable
    assert type(error_of(500, "INVALID_ORDER", "", is_write=True)) is OutcomeUnknown
    assert type(error_of(202, None, "", is_write=True)) is OutcomeUnknown
    assert type(error_of(401, None, "", is_write=True)) is Unauthorized
    limited = error_of(429, None, "", is_write=True, retry_after_s=7)
    assert isinstance(limited, RateLimited) and limited.retry_after_s == 7
    assert isinstance(error_of(403, None, "", is_write=True), RateLimited)
    assert error_of(400, "INVALID_CLIENT_REQUEST", "Request has expired", is_write=True).code == EXPIRED


def test_reasons_are_compared_by_their_letters() -> None:
    assert refusal_of("PostOnlyTaker") is refusal_of("POST_ONLY_TAKER") is WouldCross
    assert refusal_of("PRICE_BAND") is BelowMinimum
    assert refusal_of("ImmediateOrCancel") is None is refusal_of("SomethingNew")


# ------------------------------------------------------------------------------------ client ids


def test_numbers_rise_over_restarts_whatever_the_clock_does() -> None:
    now = EPOCH_NS + 1000 * MINUTE_NS
    first = number_after(None, now)
    assert first == 1000 * PER_MINUTE
    assert number_after(first, now) == first + 1
    assert number_after(first, now - 500 * MINUTE_NS) == first + 1
    assert number_after(first, now + MINUTE_NS) == first + PER_MINUTE
    burst = first + 3 * PER_MINUTE
    assert number_after(burst, now + MINUTE_NS) == burst + 1
    assert number_after(SPACE - 1, EPOCH_NS + ((1 << 20) - 1) * MINUTE_NS) == 1  # the circle closes, not on 0
    assert number_after(None, 0) == 1


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=200))
def test_no_number_comes_twice(moves: list[int]) -> None:
    numbers, now, last = set(), EPOCH_NS + ((1 << 20) - 3) * MINUTE_NS, None
    for move in moves:
        now += move * MINUTE_NS // 2
        last = number_after(last, now)
        assert 0 < last < SPACE and last not in numbers
        numbers.add(last)


def test_the_table_survives_a_torn_line_and_is_kept_short(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    ids = FileIds(path, kept=10)
    numbers = Numbers(ids)
    given = {f"md{n}": numbers.assign(f"md{n}", EPOCH_NS + MINUTE_NS) for n in range(25)}
    ids.close()
    path.write_bytes(path.read_bytes() + b"4242 md-to")  # killed in the middle of a line
    back = FileIds(path, kept=10)
    assert back.dropped == 1 and back.last() == given["md24"]
    assert [back.get(f"md{n}") for n in (14, 15, 24)] == [None, given["md15"], given["md24"]]
    assert back.ours(given["md20"]) == "md20"
    assert len(path.read_bytes().splitlines()) == 10
    assert Numbers(back).assign("new", EPOCH_NS) == given["md24"] + 1
    back.close()
    again = FileIds(path, kept=10)
    assert again.get("new") == given["md24"] + 1 and again.dropped == 0
    again.close()
    with pytest.raises(BadInput):
        FileIds(tmp_path / "no" / "ids")


# ------------------------------------------------------------------------------------ requests and addresses


def place(**changes: Any) -> Place:
    common: dict[str, Any] = {"tif": Tif.GTC, "post_only": False, **changes}
    return Place("md1", SOL.id, Side.BUY, 400_000, 1, **common)


def test_orders_have_the_fields_that_the_peer_sends_and_ours_beside_them() -> None:
    """ccxt's createOrder of 0.001 at 4000: the same symbol, side, type, price and quantity; on purpose we add
    the client id, the time in force and the self-trade mode, which it leaves to the venue's defaults.
    """
    terms = (
        public.decode_markets(
            json.dumps(
                [
                    market(
                        "ETH_USDC",
                        "SPOT",
                        filters={
                            "price": {"tickSize": "0.01"},
                            "quantity": {"stepSize": "0.001", "minQuantity": "0.001"},
                        },
                    )
                ]
            ).encode(),
            "spot",
            FEES,
        )
        .by_symbol["ETH_USDC"]
        .instrument
    )
    case = next(
        c for c in read("ccxt_requests.json")["cases"] if c["description"] == "create spot limit order"
    )
    params = ask.place(place(), terms, 7, "RejectTaker", redeems=False, lends=False)
    theirs = json.loads(case["output"])
    assert {name: params[name] for name in theirs} == theirs
    assert set(params) - set(theirs) == {"clientId", "selfTradePrevention", "timeInForce"}
    request = ask.place_one(params)
    assert case["url"].endswith(request.path) and json.loads(request.body) == params
    lent = ask.place(place(post_only=True), terms, 7, "RejectTaker", redeems=True, lends=True)
    assert (lent["autoLendRedeem"], lent["autoLend"], lent["postOnly"]) == (True, True, True)


def test_cancels_and_reads_are_those_of_the_peer() -> None:
    cases = {case["description"]: case for case in read("ccxt_requests.json")["cases"]}
    cancel = ask.cancel("ETH_USDC", order_id="8284661092", number=None)
    asked = json.loads(cases["cancel order"]["output"])
    assert json.loads(cancel.body) == {
        **asked,
        "orderId": str(asked["orderId"]),
    }  # theirs is a number: docs say text
    assert to_sign("orderCancel", json.loads(cancel.body), 1, 2) == to_sign("orderCancel", asked, 1, 2)
    assert json.loads(ask.cancel_all("ETH_USDC").body) == json.loads(cases["cancel all orders"]["output"])
    assert cases["fetch open order"]["url"].endswith(
        "/api/v1/order?" + ask.query({"symbol": "ETH_USDC", "orderId": "8284661092"})
    )
    assert json.loads(ask.cancel("X", order_id=None, number=5).body) == {"symbol": "X", "clientId": 5}
    assert isinstance(Cancel("a", SOL.id), Cancel)


def test_there_is_no_testnet_and_an_unknown_host_needs_its_name_said() -> None:
    assert endpoints().hosts == {"api.backpack.exchange", "ws.backpack.exchange"}
    with pytest.raises(BadInput, match="no testnet"):
        endpoints("testnet")
    with pytest.raises(BadInput, match="api.backpack.work"):
        endpoints(rest="https://api.backpack.work")
    approved = endpoints(rest="https://api.backpack.work/", approved=("API.backpack.work",))
    assert approved.rest == "https://api.backpack.work" and "api.backpack.work" in approved.hosts
    with pytest.raises(BadInput, match="https"):
        endpoints(rest="http://api.backpack.exchange")
    with pytest.raises(BadInput):
        on_this_machine("http://192.0.2.1:1", "ws://127.0.0.1:1")


@pytest.mark.parametrize(
    "wrong",
    [{"stp": "Allow"}, {"lending": "maybe"}, {"window_s": 61}, {"http_lines": 0}, {"batch": 0}],
)
def test_settings_that_the_venue_does_not_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Settings(**wrong)


def test_a_line_that_was_cut_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    ids = FileIds(tmp_path / "ids")
    ids.put("a", 1)
    inner = ids._file

    class Full:
        def write(self, data: bytes) -> int:
            return inner.write(data[:4])

    ids._file = Full()  # type: ignore[assignment]
    with pytest.raises(OSError):
        ids.put("b", 2)
    assert (ids.get("b"), ids.last()) == (None, 1)
    ids._file = inner
    ids.put("c", 3)
    ids.close()
    back = FileIds(tmp_path / "ids")
    assert (back.get("a"), back.get("b"), back.get("c"), back.dropped) == (1, None, 3, 1)
    back.close()


def test_memory_keeps_the_newest_ids_only() -> None:
    ids = MemoryIds(kept=2)
    for n in range(3):
        ids.put(f"m{n}", n)
    assert (ids.get("m0"), ids.ours(0), ids.get("m2"), ids.last()) == (None, None, 2, 2)
