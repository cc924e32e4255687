"""OKX's signatures, order requests, private rows and codes, without a socket."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any

import msgspec
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
    Unauthorized,
    Unavailable,
    UnknownOrder,
    WouldCross,
)
from api.exchange import AccountMode, FeeRates, KeyRights
from api.types import (
    Amend,
    Balance,
    Cancel,
    Fill,
    FillHeard,
    InstrumentId,
    OrderHeard,
    Place,
    Side,
    Status,
    Tif,
)
from api.venues.okx import messages as say
from api.venues.okx import public
from api.venues.okx import requests as ask
from api.venues.okx.endpoints import ENVIRONMENTS, endpoints, on_this_machine, regional
from api.venues.okx.errors import error_of, kind_of
from api.venues.okx.keys import OkxKey, iso
from tests.shared import shared

D = Decimal
BTC = InstrumentId("okx_swap:BTC-USDT-PERP")
ROW = {
    "instType": "SWAP",
    "instId": "BTC-USDT-SWAP",
    "instIdCode": 7,
    "tickSz": "0.1",
    "lotSz": "0.01",
    "minSz": "0.01",
    "state": "live",
    "settleCcy": "USDT",
    "ctVal": "0.01",
    "ctValCcy": "BTC",
    "ctType": "linear",
}
SPOT_ROW = ROW | {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "baseCcy": "BTC",
    "quoteCcy": "USDT",
    "lotSz": "0.0001",
}
SWAP = public.market_of(msgspec.convert(ROW, public.Listing), D(0), D(0))
SPOT = public.market_of(msgspec.convert(SPOT_ROW, public.Listing), D(0), D(0))


def terms(market: public.Market = SWAP, *, mode: str = "cross", is_hedged: bool = False) -> ask.Terms:
    return ask.Terms.of(market, mode, is_hedged, "cancel_taker", "makerdeck")


def placed(**changes: Any) -> Place:
    return Place(
        **{"client_id": "md1", "instrument": BTC, "side": Side.BUY, "ticks": 1_000, "lots": 5, **changes}
    )


def documented(*, where: str) -> list[dict[str, Any]]:
    payloads = json.loads(shared("fixtures/okx/docs_v5_en.json").read_text())["payloads"]
    return [p["json"] for p in payloads if where in p["section"] and isinstance(p["json"], dict)]


def nautilus(name: str) -> Any:
    return json.loads(shared(f"fixtures/okx/nautilus/{name}.json").read_text())


# --------------------------------------------------------------------------------------------- signing


def test_every_signing_vector_is_reproduced() -> None:
    vectors = json.loads(shared("fixtures/okx/signing_vectors.json").read_text())["vectors"]
    assert len(vectors) == 2
    for v in vectors:
        key = OkxKey("k", v["secret_key"], "p")
        payload = v["timestamp"] + v["method"] + v["request_path"] + v["body"]
        assert key.sign(payload.encode()) == v["expected_signature"]


def test_the_sheets_vectors_come_out_of_the_headers_and_the_login_themselves() -> None:
    key = OkxKey("k", "22582BD0CFF14C41EDBF1AB98506286D", "p")
    at_ms = 1607418537715
    assert iso(at_ms) == "2020-12-08T09:08:57.715Z"
    read = key.headers(at_ms, "GET", "/api/v5/account/balance?ccy=BTC")
    assert read["OK-ACCESS-SIGN"] == "HiZhvSfMtWJA3uUIVXV3a/bSXNPCWvYFXoGCVS8V4zY="
    body = b'{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"post_only","px":"1000","sz":"0.01"}'
    write = key.headers(at_ms, "POST", "/api/v5/trade/order", body)
    assert write["OK-ACCESS-SIGN"] == "bKkNMejOziCRWsyzEaM+GE7CD6uwNXxL7jVYIeIAC7c="
    assert key.login(1538054050)["sign"] == "+LdIr8lkkvhr5hoA3g9TMC0+uQJ849ftAcocA/ouu4M="


def test_a_key_shows_and_pickles_nothing_and_needs_its_three_parts() -> None:
    key = OkxKey("abcdef", "the-secret", "the-phrase")
    assert "secret" not in repr(key) and "phrase" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    for parts in (("", "s", "p"), ("k", "", "p"), ("k", "s", ""), ("k", "s", "a\r\nb"), ("k k", "s", "p")):
        with pytest.raises(BadInput):
            OkxKey(*parts)


# -------------------------------------------------------------------------------------------- requests


def test_a_spot_order_over_the_socket_names_the_market_by_its_number() -> None:
    request = ask.place(placed(), terms(SPOT, mode="cash"), "md1")
    assert json.loads(ask.over_socket(request, 12, 99)) == {
        "id": "12",
        "op": "order",
        "args": [
            {
                "instIdCode": 7,
                "tdMode": "cash",
                "side": "buy",
                "ordType": "post_only",
                "px": "100.0",
                "sz": "0.0005",
                "clOrdId": "md1",
                "stpMode": "cancel_taker",
                "tag": "makerdeck",
            }
        ],
        "expTime": "99",
    }
    over_http = json.loads(ask.over_http(request))
    assert over_http["instId"] == "BTC-USDT" and "instIdCode" not in over_http


def test_swaps_take_the_position_side_in_hedge_mode_and_reduce_only_in_net_mode() -> None:
    def item(side: Side, reduce: bool, is_hedged: bool) -> dict[str, Any]:
        request = ask.place(placed(side=side, reduce_only=reduce), terms(is_hedged=is_hedged), "a")
        return request.items[0]

    assert "posSide" not in item(Side.BUY, False, False) and "reduceOnly" not in item(Side.BUY, False, False)
    assert item(Side.SELL, True, False)["reduceOnly"] is True
    assert [item(side, reduce, True)["posSide"] for side in Side for reduce in (False, True)] == [
        "long",
        "short",
        "short",
        "long",
    ]
    assert "reduceOnly" not in item(Side.SELL, True, True)


def test_kinds_of_orders_and_what_cannot_be_asked() -> None:
    kinds = {
        tif: ask.place(placed(tif=tif, post_only=False), terms(), "a").items[0]["ordType"] for tif in Tif
    }
    assert kinds == {Tif.GTC: "limit", Tif.IOC: "ioc", Tif.FOK: "fok"}
    for command, at in (
        (placed(tif=Tif.IOC), terms()),
        (placed(reduce_only=True), terms(SPOT, mode="cash")),
        (placed(), terms(mode="")),
    ):
        with pytest.raises(Rejected):
            ask.place(command, at, "a")
    for command in (placed(ticks=0), placed(lots=0)):
        with pytest.raises(BelowMinimum):
            ask.place(command, terms(), "a")


def test_an_amendment_sends_what_changes_and_the_whole_size() -> None:
    def item(ticks: int, lots: int) -> dict[str, Any]:
        return ask.amend(Amend("a", BTC, ticks, lots), terms(), "a", (1_000, 5)).items[0]

    assert item(1_000, 4) == {"clOrdId": "a", "newSz": "0.04"}
    assert item(1_001, 5) == {"clOrdId": "a", "newPx": "100.1"}
    assert item(1_001, 4) == {"clOrdId": "a", "newPx": "100.1", "newSz": "0.04"}
    assert item(1_000, 5) == {"clOrdId": "a", "newPx": "100.0"}
    with pytest.raises(UnknownOrder):
        ask.amend(Amend("a", BTC, 1, 1), terms(), "a", None)


def test_cancels_batches_and_the_dead_man() -> None:
    one = ask.cancel(Cancel("a", BTC), terms(), "a")
    assert json.loads(ask.over_socket(one, 1, 5)) == {
        "id": "1",
        "op": "cancel-order",
        "args": [{"instIdCode": 7, "clOrdId": "a"}],
    }
    batch = ask.cancel_batch((("A-B", 1, "10"), ("C-D", None, "11")))
    assert json.loads(ask.over_http(batch)) == [
        {"instId": "A-B", "ordId": "10"},
        {"instId": "C-D", "ordId": "11"},
    ]
    assert not batch.fits_socket and one.fits_socket
    assert json.loads(ask.over_http(ask.cancel_all_after(10, "x"))) == {"timeOut": "10", "tag": "x"}


def test_a_client_id_of_our_form_travels_as_it_is_and_others_are_translated_alike_each_time() -> None:
    assert ask.theirs_of("mdabc0000001") == "mdabc0000001"
    for odd in ("not-done", "x" * 33, "mdx1", "", "ü"):
        theirs = ask.theirs_of(odd)
        assert ask.OWN_FORM.fullmatch(theirs) and theirs == ask.theirs_of(odd) != odd


@given(st.lists(st.text(max_size=40), unique=True, max_size=20))
def test_no_two_client_ids_become_one(names: list[str]) -> None:
    assert len({ask.theirs_of(name) for name in names}) == len(names)


@given(st.integers(1, 10**12), st.sampled_from(["0.01", "1", "10", "0.00000001", "0.5", "25"]))
def test_steps_become_exact_text(steps: int, step: str) -> None:
    assert D(ask.StepText(D(step))(steps)) == steps * D(step)


def test_the_other_clients_spot_order_is_ours_but_for_named_differences() -> None:
    cases = json.loads(shared("fixtures/okx/ccxt_requests.json").read_text())["cases"]
    theirs = json.loads(next(c for c in cases if c["description"] == "Spot limit buy order")["output"])[0]
    command = placed(ticks=500, lots=20_000, post_only=False, client_id=theirs["clOrdId"])
    request = ask.place(command, terms(SPOT, mode="cash"), ask.theirs_of(theirs["clOrdId"]))
    ours = json.loads(ask.over_http(request))
    # They tag the order as their broker's, name `tgtCcy` (which counts for market orders only), set no STP.
    other = ("instId", "tag", "tgtCcy", "stpMode", "px", "sz")
    assert {k: v for k, v in theirs.items() if k not in other} == {
        k: v for k, v in ours.items() if k not in other
    }
    assert (D(ours["px"]), D(ours["sz"])) == (D(theirs["px"]), D(theirs["sz"]))


# ------------------------------------------------------------------------------------------------ rows


def test_every_documented_order_row_is_read() -> None:
    rows = 0
    for payload in documented(where="Order Book Trading > Trade"):
        data: Any = payload.get("data")
        is_row = isinstance(data, list) and data and isinstance(data[0], dict) and "accFillSz" in data[0]
        if is_row and data[0].get("state"):
            for row in say.decode_orders(json.dumps(data).encode()):
                report = say.report_of(row, SPOT.instrument, row.clOrdId, 1)
                assert report.status in (Status.OPEN, Status.FILLED, Status.CANCELED)
                rows += 1
    assert rows >= 3
    for name in ("c_ws_orders_fok", "c_ws_orders_trigger", "c_http_get_orders_pending"):
        (row,) = say.decode_orders(json.dumps(nautilus(name)["data"]).encode())
        assert say.report_of(row, SWAP.instrument, row.clOrdId, 1).venue_id == row.ordId
    (row,) = say.decode_orders(
        json.dumps(nautilus("c_http_get_orders_pending_with_attached_tp_sl")["data"]).encode()
    )


def test_the_documented_fill_push_is_a_fill_with_its_fee_turned() -> None:
    payload = next(p for p in documented(where="WS / Order channel") if "data" in p)
    (row,) = say.decode_orders(json.dumps(payload["data"]).encode())
    fill, report = say.heard(row, SPOT.instrument, "main", "mine", 9)
    assert isinstance(fill, FillHeard) and isinstance(report, OrderHeard)
    assert fill.fill == Fill(
        "242589207-452197707845865472",
        "mine",
        "452197707845865472",
        "main",
        SPOT.instrument.id,
        Side.SELL,
        315_271,
        10,
        D("0.02522168"),
        "USDT",
        True,
        1654084353263_000_000,
    )
    assert (report.report.status, report.report.filled_lots) == (Status.FILLED, 10)


def order_row(**changes: str) -> say.OrderRow:
    row = {"instId": "BTC-USDT-SWAP", "ordId": "5", "side": "buy", "state": "live", "sz": "1", "px": "100"}
    return msgspec.convert(row | {"accFillSz": "0", "uTime": "7"} | changes, say.OrderRow)


@pytest.mark.parametrize(
    ("source", "status", "word"),
    [
        ("1", Status.CANCELED, "request"),
        ("13", Status.EXPIRED, "fill-or-kill"),
        ("14", Status.EXPIRED, "immediate"),
        ("20", Status.CANCELED, "dead-man"),
        ("31", Status.CANCELED, "post-only"),
        ("32", Status.EXPIRED, "self-trade"),
        ("77", Status.CANCELED, "77"),
        ("", Status.CANCELED, ""),
    ],
)
def test_why_an_order_was_canceled_is_told(source: str, status: Status, word: str) -> None:
    row = order_row(state="canceled", cancelSource=source)
    report = say.report_of(row, SWAP.instrument, "a", 1)
    assert report.status is status and word in report.reason


def test_a_pushed_fill_without_its_fee_is_left_to_be_asked_for() -> None:
    partial = {
        "tradeId": "9",
        "fillSz": "0.5",
        "fillPx": "100",
        "accFillSz": "0.7",
        "state": "partially_filled",
    }
    (only,) = say.heard(order_row(**partial), SWAP.instrument, "main", "a", 1)
    assert isinstance(only, OrderHeard) and only.report.filled_lots == 70
    single = partial | {"accFillSz": "0.5", "fee": "-0.1", "feeCcy": "USDT"}
    fill, _ = say.heard(order_row(**single), SWAP.instrument, "main", "a", 1)
    assert isinstance(fill, FillHeard) and fill.fill.fee == D("0.1")


def test_a_state_of_tomorrow_is_no_report_and_a_failed_amendment_says_so() -> None:
    assert say.heard(order_row(state="resting_quietly"), SWAP.instrument, "main", "a", 1) == []
    report = say.report_of(order_row(amendResult="-1", msg="too late"), SWAP.instrument, "a", 1)
    assert (report.status, report.reason) == (Status.OPEN, "the amendment failed: too late")
    with pytest.raises(say.UNREADABLE):
        say.report_of(order_row(sz="much"), SWAP.instrument, "a", 1)
    with pytest.raises(say.UNREADABLE):
        say.decode_orders(b'[{"instId":"A","ordId":5,"side":"buy","state":"live"}]')


def test_fill_rows_turn_the_sign_and_an_empty_fee_is_none_charged() -> None:
    payload = next(p for p in documented(where="Transaction details") if "data" in p)
    (row,) = say.decode_fills(json.dumps(payload["data"]).encode())
    fill = say.fill_of(row, SPOT.instrument, "main", "a")
    assert (fill.fee, fill.fee_asset, fill.is_maker) == (D("0.00000192834"), "BTC", False)
    assert fill.venue_ns == 1708587373361_000_000
    rows = json.dumps(
        [nautilus("c_http_transaction_detail"), nautilus("c_http_transaction_detail_empty_fee")]
    )
    rebate, free = (say.fill_of(r, SPOT.instrument, "main", "a") for r in say.decode_fills(rows.encode()))
    assert (rebate.fee, free.fee) == (D("-0.042"), D(0))


def test_every_documented_balance_is_read_and_the_level_says_which_is_free() -> None:
    found = []
    pages = documented(where="Get balance") + documented(where="Account channel") + [nautilus("c_ws_account")]
    for payload in pages:
        if "data" in payload:
            for account in say.decode_accounts(json.dumps(payload["data"]).encode()):
                found += [say.balance_of(detail, "2") for detail in account.details]
    assert Balance("USDT", D("4834.317093622894"), D("158.573")) in found
    detail = say.Detail("USDT", availBal="5", availEq="7", frozenBal="")
    assert say.balance_of(detail, "3") == Balance("USDT", D(7), D(0))
    assert say.balance_of(say.Detail("USDT", availBal="5"), "4").free == 5
    with pytest.raises(ValueError):
        say.balance_of(say.Detail("USDT"), "1")


def test_every_documented_position_is_read_and_shorts_are_negative() -> None:
    pages = documented(where="Get positions >") + documented(where="Positions channel")
    rows = [r for p in pages if "data" in p for r in say.decode_positions(json.dumps(p["data"]).encode())]
    assert len(rows) >= 3
    assert all(say.position_of(row, SWAP.instrument) is not None for row in rows)

    def position(pos: str, side: str) -> Decimal | None:
        found = say.position_of(say.PositionRow("x", pos, side, "100"), SWAP.instrument)
        return None if found is None else found.qty

    assert [position("3", "short"), position("-3", "net"), position("3", "long"), position("0", "net")] == [
        D("-0.03"),
        D("-0.03"),
        D("0.03"),
        None,
    ]


def test_fee_rates_of_both_forms_are_turned() -> None:
    for payload in documented(where="Get fee rates") + [nautilus("c_http_get_trade_fee_response")]:
        for row in say.decode_fees(json.dumps(payload["data"]).encode()):
            assert say.fees_of(row) == ({}, FeeRates(D("0.0008"), D("0.001")))
    grouped = say.FeeRow(feeGroup=[say.FeeGroup("3", "0.00005", "-0.0002")])
    assert say.fees_of(grouped) == ({"3": FeeRates(D("-0.00005"), D("0.0002"))}, None)


def test_the_documented_account_is_hedged_stops_makers_and_may_withdraw() -> None:
    payload = next(p for p in documented(where="account configuration") if "data" in p)
    (row,) = say.decode_configs(json.dumps(payload["data"]).encode())
    assert say.mode_of(row) == say.Mode("2", True)
    assert say.rights_of(row) == KeyRights(True, True, False)
    assert say.account_mode_of(row) == AccountMode("hedge", "spot and futures", "cancel_maker", False)
    assert say.rights_of(say.ConfigRow("1")) == KeyRights(None, None, None)


def test_funding_bills_are_told_with_paid_positive() -> None:
    payload = next(p for p in documented(where="Get bills details (last 7 days)") if "data" in p)
    say.decode_bills(json.dumps(payload["data"]).encode())
    payment = say.funding_of(say.BillRow("9", "USDT", "-0.25", "173", 5), BTC)
    assert (payment.amount, payment.asset, payment.payment_id) == (D("0.25"), "USDT", "9")


def test_every_documented_answer_to_an_order_is_read_by_its_items() -> None:
    seen = 0
    for payload in documented(where="WS / "):
        if payload.get("op") in (
            "order",
            "batch-orders",
            "cancel-order",
            "batch-cancel-orders",
            "amend-order",
        ):
            if "code" not in payload:
                continue
            frame = say.decode_frame(json.dumps(payload).encode())
            items = say.decode_items(frame.data)
            assert (frame.code == "0") == bool(items and all(item.sCode == "0" for item in items))
            seen += 1
    assert seen >= 10


def test_every_documented_rest_answer_to_a_write_is_read_by_its_items() -> None:
    seen = 0
    for payload in documented(where="Order Book Trading > Trade > POST"):
        answer = say.decode_answer(json.dumps(payload).encode())
        if "sCode" in json.dumps(payload["data"]):
            assert all(item.sCode == "0" for item in say.decode_items(answer.data))
            seen += 1
    assert seen >= 5
    item = json.dumps([nautilus("c_http_place_order_response")]).encode()
    assert say.decode_items(item)[0].ordId == "12345678901234567890"


def test_the_documented_time_and_bills_are_read() -> None:
    (time_,) = [p for p in documented(where="Get system time") if "data" in p]
    assert say.decode_times(json.dumps(time_["data"]).encode())[0].ts == 1597026383085
    for payload in documented(where="Get bills details"):
        if "billId" in json.dumps(payload):
            assert say.decode_bills(json.dumps(payload["data"]).encode())


# ---------------------------------------------------------------------------------------------- errors


def test_every_published_code_has_a_class() -> None:
    codes = json.loads(shared("fixtures/okx/error_codes.json").read_text())["codes"]
    unknown = {
        str(row["code"]) for row in codes if str(row["code"]) != "0" and kind_of(str(row["code"])) is None
    }
    assert len(codes) == 974 and unknown == set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("51008", InsufficientFunds),
        ("51006", BelowMinimum),
        ("51020", BelowMinimum),
        ("51121", BelowMinimum),
        ("51016", OutcomeUnknown),
        ("51102", Rejected),
        ("51103", Rejected),
        ("51169", Rejected),
        ("51010", Unauthorized),
        ("51400", UnknownOrder),
        ("51410", UnknownOrder),
        ("51503", UnknownOrder),
        ("51603", UnknownOrder),
        ("51511", WouldCross),
        ("50004", OutcomeUnknown),
        ("51149", OutcomeUnknown),
        ("50001", OutcomeUnknown),
        ("50013", OutcomeUnknown),
        ("50026", OutcomeUnknown),
        ("50011", RateLimited),
        ("50061", RateLimited),
        ("50102", Unavailable),
        ("50036", Unavailable),
        ("50101", Unauthorized),
        ("50103", Unauthorized),
        ("50104", Unauthorized),
        ("50105", Unauthorized),
        ("50111", Unauthorized),
        ("50113", Unauthorized),
        ("60009", Unauthorized),
        ("60011", Unavailable),
        ("60012", Rejected),
        ("60014", RateLimited),
        ("60018", Rejected),
        ("64003", Rejected),
    ],
)
def test_the_sheets_codes_mean_what_it_says(code: str, kind: type[ExchangeError]) -> None:
    error = error_of(200, code, "text", is_write=True)
    assert type(error) is kind and error.code == code
    if kind is OutcomeUnknown:
        assert type(error_of(200, code, "text", is_write=False)) is Unavailable


@pytest.mark.parametrize(
    ("status", "code", "write", "read"),
    [
        (502, "", OutcomeUnknown, Unavailable),
        (404, "", OutcomeUnknown, Unavailable),
        (429, "", RateLimited, RateLimited),
        (403, "", RateLimited, RateLimited),
        (401, "", Unauthorized, Unauthorized),
        (451, "", Unauthorized, Unauthorized),
        (500, "51008", OutcomeUnknown, Unavailable),
        (503, "50011", RateLimited, RateLimited),
        (200, "99999", OutcomeUnknown, Unavailable),
        (200, "abc", OutcomeUnknown, Unavailable),
    ],
)
def test_a_status_or_a_code_nobody_knows_is_unknown_for_a_write(
    status: int, code: str, write: type[ExchangeError], read: type[ExchangeError]
) -> None:
    assert type(error_of(status, code, "", is_write=True)) is write
    assert type(error_of(status, code, "", is_write=False)) is read


# ----------------------------------------------------------------------------------------- environments


def test_each_environment_has_its_own_hosts_and_demo_its_header() -> None:
    assert endpoints("live").headers == {} and endpoints("demo").headers == {"x-simulated-trading": "1"}
    assert (
        "ws.okx.com" not in ENVIRONMENTS["demo"].hosts and "wspap.okx.com" not in ENVIRONMENTS["live"].hosts
    )
    assert all(e.rest == "https://openapi.okx.com" for e in ENVIRONMENTS.values())
    with pytest.raises(BadInput):
        endpoints("testnet")


def test_other_addresses_are_of_this_machine_or_of_a_region_of_okx() -> None:
    found = regional("eea.okx.com", "wseea.okx.com:8443")
    assert found.private == "wss://wseea.okx.com:8443/ws/v5/private" and "wseea.okx.com" in found.hosts
    for rest, socket in (
        ("evil.com", "ws.okx.com"),
        ("us.okx.com", "ws.evil.com"),
        ("us.okx.com", "okx.com.evil.com"),
    ):
        with pytest.raises(BadInput):
            regional(rest, socket)
    with pytest.raises(BadInput):
        on_this_machine("http://10.0.0.1", "ws://127.0.0.1")
