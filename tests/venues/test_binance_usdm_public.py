"""What Binance USDT-M futures' public streams and listings say: recordings, documents and broken texts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from api.types import Side
from api.venues.binance_usdm import public
from api.venues.binance_usdm.endpoints import ENVIRONMENTS, endpoints, unsplit
from api.venues.binance_usdm.public import (
    Continuity,
    Control,
    DepthDiff,
    DepthSnapshot,
    Kline,
    MarkPrice,
    PublicTrade,
    Rates,
    Touch,
    Verdict,
    Wish,
    decode,
)
from tests.shared import shared

RATES = Rates(Decimal("0.0002"), Decimal("0.0005"))
READ = {"depthUpdate", "bookTicker", "aggTrade", "kline", "markPriceUpdate"}


def recorded(name: str) -> list[str]:
    path = shared(f"fixtures/binance_usdm/captures/2021-07-22/BINANCE_FUTURES.{name}.gz")
    return gzip.open(path, "rt").read().splitlines()


def frames() -> Iterator[bytes]:
    for line in recorded("ws.1.0"):
        time, _, text = line.partition(": ")
        if time.replace(".", "").isdigit():
            yield text.encode()


def documented(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shared(f"fixtures/binance_usdm/{name}.json").read_text())[
        "payloads"
    ]
    return found


def payload(section: str, context: str | None = None) -> bytes:
    for entry in documented("docs_rest_and_ws_api"):
        if entry["section"].startswith(section) and context in (None, entry["context"]):
            return json.dumps(entry["json"]).encode()
    raise AssertionError(section)


def test_every_recorded_frame_is_read() -> None:
    kinds = [type(decode(raw)) for raw in frames()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        Touch: 613,
        DepthDiff: 764,
        Kline: 67,
        PublicTrade: 91,
    }


def test_every_recorded_snapshot_is_bridged_by_the_diffs_without_a_break() -> None:
    diffs: dict[str, list[DepthDiff]] = {}
    for raw in frames():
        message = decode(raw)
        if isinstance(message, DepthDiff):
            diffs.setdefault(message.venue_symbol, []).append(message)
    bridged = 0
    for line in recorded("http.0.0"):
        if "/fapi/v1/depth" not in line:
            continue
        symbol = line.partition("symbol=")[2].partition("&")[0]
        book = public.decode_snapshot(line.partition(": ")[2].encode(), symbol)
        rule = Continuity()
        rule.snapshot(book.last_id)
        verdicts = [rule.feed(diff) for diff in diffs[symbol]]
        assert Verdict.GAP not in verdicts and verdicts.count(Verdict.APPLY) > 10
        assert len(book.bids) > 100 and book.venue_ns > 0
        bridged += 1
    assert bridged == 4


def diff(first: int, last: int, prev: int) -> DepthDiff:
    return DepthDiff("BTCUSDT", (), (), first, last, prev, 0)


@pytest.mark.parametrize(
    ("fed", "verdicts"),
    [
        ([(90, 99, 89)], ["ignore"]),
        ([(95, 105, 94), (110, 120, 105)], ["apply", "apply"]),
        ([(95, 100, 94), (101, 103, 100)], ["apply", "apply"]),
        ([(101, 105, 100)], ["gap"]),
        ([(95, 105, 94), (107, 120, 106)], ["apply", "gap"]),
        ([(95, 105, 94), (95, 105, 94), (106, 107, 105)], ["apply", "ignore", "apply"]),
        ([(95, 105, 94), (107, 120, 106), (121, 122, 120)], ["apply", "gap", "gap"]),
    ],
)
def test_the_chain_of_diffs_is_held_by_pu(fed: list[tuple[int, int, int]], verdicts: list[str]) -> None:
    rule = Continuity()
    rule.snapshot(100)
    assert [rule.feed(diff(*ids)).value for ids in fed] == verdicts


def test_before_a_snapshot_nothing_follows() -> None:
    assert Continuity().feed(diff(1, 2, 0)) is Verdict.GAP


def test_the_recorded_listing_becomes_instruments_both_ways() -> None:
    (line,) = [line for line in recorded("0") if "/exchangeInfo" in line]
    exchange = public.decode_exchange(line.partition(": ")[2].encode())
    found = public.instruments_of(exchange, RATES)
    names = public.Symbols(found)
    btc = next(i for i in found if i.symbol == "BTC-USDT-PERP")
    assert (btc.id, btc.venue_symbol, btc.kind) == ("binance_usdm:BTC-USDT-PERP", "BTCUSDT", "perp")
    assert (str(btc.tick), str(btc.lot), btc.contract_size) == ("0.01", "0.001", Decimal(1))
    assert (btc.min_qty, btc.min_notional, btc.max_qty) == (Decimal("0.001"), Decimal(5), Decimal(1000))
    assert (btc.maker_fee, btc.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))
    dated = [i for i in found if i.kind == "future"]
    assert [(i.symbol, i.venue_symbol) for i in dated] == [
        ("BTC-USDT-210924", "BTCUSDT_210924"),
        ("ETH-USDT-210924", "ETHUSDT_210924"),
    ]
    for instrument in found:
        assert names.symbol(instrument.venue_symbol) == instrument.symbol
        assert names.venue_symbol(instrument.symbol) == instrument.venue_symbol
    assert names.symbol("NOPE") is None and names.venue_symbol("NOPE") is None


def test_every_documented_stream_message_is_read_or_left_alone() -> None:
    for entry in documented("asyncapi_streams"):
        raw = json.dumps(entry["json"]).encode()
        event = entry["json"].get("e") if isinstance(entry["json"], dict) else None
        try:
            message = decode(raw)
        except public.UNREADABLE:
            assert event is None and "id" not in entry["json"], entry["section"]
            continue
        assert (message is not None) == (event in READ or "id" in entry["json"]), entry["section"]


@pytest.mark.parametrize(
    "name",
    [
        "c_book_ticker_stream",
        "c_mark_price_stream",
        "t_ws_futures_book_ticker",
        "t_ws_futures_depth_diff_update",
    ],
)
def test_messages_of_another_project_are_read(name: str) -> None:
    assert decode(shared(f"fixtures/binance_usdm/nautilus/{name}.json").read_bytes()) is not None


@pytest.mark.parametrize("name", ["c_ticker_stream", "c_liquidation_stream", "t_ws_futures_ticker_24hr"])
def test_events_we_do_not_consume_are_left_alone(name: str) -> None:
    assert decode(shared(f"fixtures/binance_usdm/nautilus/{name}.json").read_bytes()) is None


def test_documented_reads_are_read() -> None:
    book = public.decode_snapshot(payload("Order Book"), "BTCUSDT")
    assert (book.last_id, book.bids) == (1027024, (("4.00000000", "431.00000000"),))
    touch = public.decode_touch(payload("Symbol Order Book Ticker"))
    assert (touch.bid, touch.ask) == (("4.00000000", "431.00000000"), ("4.00000200", "9.00000000"))
    mark = public.decode_premium(payload("Mark Price > Response", "Response:"))
    assert mark.mark == Decimal("11793.63104562") and mark.funding_rate == Decimal("0.00038246")
    (bar,) = public.decode_klines(payload("Kline/Candlestick"), "BTCUSDT", "1w", 0)
    assert (bar.open, bar.volume, bar.is_closed) == (Decimal("0.01634790"), Decimal("148976.11427815"), False)
    listing = public.instruments_of(public.decode_exchange(payload("Exchange Information")), RATES)
    assert [(i.symbol, str(i.tick), i.lot, i.min_notional) for i in listing] == [
        ("BLZ-USDT-PERP", "0.0001", Decimal(1), Decimal(5))
    ]


def test_a_trade_tells_the_takers_side_and_a_partial_book_is_a_snapshot() -> None:
    trade = decode(
        b'{"e":"aggTrade","E":2,"s":"X","a":7,"p":"1","q":"2","f":1,"l":1,"T":1,"m":true,"nq":"1"}'
    )
    assert trade == PublicTrade("X", "7", Side.SELL, "1", "2", 1_000_000)
    body = b'{"e":"depthUpdate","E":1,"T":1,"s":"X","U":1,"u":9,"pu":0,"b":[["1","2"]],"a":[]}'
    assert decode(b'{"stream":"x@depth5@100ms","data":' + body + b"}") == DepthSnapshot(
        "X", (("1", "2"),), (), 9, 1_000_000
    )
    assert isinstance(decode(b'{"stream":"x@depth@100ms","data":' + body + b"}"), DepthDiff)


def test_the_other_universe_is_filtered_out_and_an_empty_side_is_none() -> None:
    ticker = b'{"e":"bookTicker","u":1,"s":"X","b":"1","B":"2","a":"0","A":"0","T":1,"E":1,"st":%d}'
    assert decode(ticker % 2) is None
    assert decode(ticker % 1) == Touch("X", ("1", "2"), None, 1, 1_000_000)


def test_a_dated_contract_has_no_funding() -> None:
    mark = decode(b'{"e":"markPriceUpdate","E":1,"s":"X","p":"5","i":"","P":"","r":"","T":0}')
    assert mark == MarkPrice("X", Decimal(5), None, None, 0, 1_000_000)


def test_answers_to_subscriptions_are_told() -> None:
    assert decode(b'{"result":null,"id":1}') == Control("1", "")
    assert decode(b'{"error":{"code":2,"msg":"Invalid request"},"id":1}') == Control("1", "Invalid request")
    assert decode(b'{"id":9,"code":3,"msg":"Invalid JSON"}') == Control("9", "Invalid JSON")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"{}",
        b"7",
        b'{"e":"bookTicker","s":"X"}',
        b'{"stream":"x@depth","data":{"e":"depthUpdate","E":1,"s":"X","U":1,"u":2,"b":[],"a":[]}}',
        b'{"e":"aggTrade","E":2,"s":"X","a":7,"p":"1","q":"2","T":"soon","m":true}',
        b'{"e":"bookTicker","u":1,"s":"X","b":"one","B":"2","a":"3","A":"4"}',
        b'{"stream":"x@depth","data":{"e":"depthUpd',
    ],
)
def test_a_broken_text_is_unreadable_and_never_a_guess(raw: bytes) -> None:
    with pytest.raises(public.UNREADABLE):
        decode(raw)


def test_books_and_the_rest_take_two_connections() -> None:
    where = ENVIRONMENTS["live"]
    wish = Wish("BTCUSDT", mark=True, periods=("1m", "1M"))
    assert public.stream_urls(where, [wish]) == (
        "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker",
        "wss://fstream.binance.com/market/stream?streams="
        "btcusdt@aggTrade/btcusdt@markPrice@1s/btcusdt@kline_1m/btcusdt@kline_1M",
    )
    assert len(public.stream_urls(unsplit(where, "wss://fstream.binance.com"), [wish])) == 1
    with pytest.raises(ValueError, match="no klines"):
        public.stream_urls(where, [Wish("BTCUSDT", periods=("7m",))])
    with pytest.raises(ValueError, match="100, 250 or 500"):
        public.stream_urls(where, [Wish("BTCUSDT", depth_ms=1000)])
    with pytest.raises(ValueError, match="nothing"):
        public.stream_urls(where, [])
    with pytest.raises(ValueError, match="1024"):
        public.stream_urls(where, [wish] * 600)
    with pytest.raises(ValueError, match="live, testnet, demo"):
        endpoints("nowhere")  # BadInput is a ValueError


def test_subscribing_on_an_open_connection() -> None:
    assert json.loads(public.subscribe(["btcusdt@depth"], 3)) == {
        "method": "SUBSCRIBE",
        "params": ["btcusdt@depth"],
        "id": 3,
    }
    assert json.loads(public.unsubscribe(["x"], 4))["method"] == "UNSUBSCRIBE"


def test_reads_have_their_paths() -> None:
    assert public.snapshot_path("BTCUSDT") == "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    assert public.klines_path("BTCUSDT", "1m", 5, 7) == (
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5&startTime=7"
    )
