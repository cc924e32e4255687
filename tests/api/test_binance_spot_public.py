"""Binance spot's public data: addresses, shapes as documented, and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from api.errors import BadInput, RateLimited, Rejected, Unavailable
from api.venues import VENUES, load, trading_venues
from api.venues import binance_spot as spot
from api.wire import LOOPBACK, Answer, Http
from tests.api.loopback import Reply, Venue
from tests.shared import shared


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue() as server:
        yield server


def test_the_registry_offers_paper_for_trading_and_knows_binance_for_data() -> None:
    assert [entry.name for entry in trading_venues()] == ["paper"]
    assert VENUES["binance_spot"].trades is False
    assert load("binance_spot") is spot
    with pytest.raises(BadInput, match="there is no venue 'binance'; there are: binance_spot, paper"):
        load("binance")


def test_one_address_carries_diffs_touch_and_trades_of_each_market() -> None:
    assert spot.stream_url("wss://data-stream.binance.vision/", ["BTCUSDT", "ETHUSDT"]) == (
        "wss://data-stream.binance.vision/stream?streams="
        "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade/"
        "ethusdt@depth@100ms/ethusdt@bookTicker/ethusdt@trade"
    )


@pytest.mark.parametrize("count", [0, 342])
def test_a_connection_carries_some_markets_but_not_any_number(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024 streams"):
        spot.stream_url("wss://x", [f"A{i}USDT" for i in range(count)])


def test_every_host_it_names_is_on_its_own_list() -> None:
    for addresses in (spot.PUBLIC, *spot.ENVIRONMENTS.values()):
        for address in (addresses.rest, addresses.stream):
            assert address.split("/")[2].partition(":")[0] in spot.HOSTS


def _documented(kind: str) -> bytes:
    told = json.loads(shared("fixtures/binance_spot/docs_web_socket_streams.json").read_text())
    payload = next(p["json"] for p in told["payloads"] if kind in p["section"] and "Payload" in p["context"])
    return json.dumps({"stream": "bnbbtc@x", "data": payload}).encode()


def test_the_documented_messages_are_read() -> None:
    trade = spot.decode_trade(_documented("> Trade Streams")).data
    assert (trade.s, trade.t, trade.p, trade.q, trade.T, trade.m) == (
        "BNBBTC", 12345, "0.001", "100", 1672515782136, True,
    )  # fmt: skip
    ticker = spot.decode_ticker(_documented("Individual Symbol Book Ticker")).data
    assert (ticker.u, ticker.s, ticker.b, ticker.B, ticker.a, ticker.A) == (
        400900217, "BNBUSDT", "25.35190000", "31.21000000", "25.36520000", "40.66000000",
    )  # fmt: skip
    diff = spot.decode_diff(_documented("Diff. Depth Stream")).data
    assert (diff.U, diff.u, diff.b, diff.a) == (157, 160, [("0.0024", "10")], [("0.0026", "100")])


def test_products_are_told_apart_by_what_only_futures_send() -> None:
    def product(text: str) -> str | None:
        return spot.product_of(spot.decode_envelope(text.encode()))

    assert product('{"stream":"x@depth@100ms","data":{"s":"X","U":1,"u":2}}') == "spot"
    assert product('{"stream":"x@depth@0ms","data":{"s":"X","U":1,"u":2,"pu":0}}') == "usdm"
    assert product('{"stream":"x@bookTicker","data":{"u":1,"s":"X"}}') == "spot"
    assert product('{"stream":"x@bookTicker","data":{"e":"bookTicker","u":1,"s":"X","T":3}}') == "usdm"
    assert product('{"lastUpdateId":1,"bids":[],"asks":[]}') == "spot"
    assert product('{"lastUpdateId":1,"E":2,"T":2,"bids":[],"asks":[]}') == "usdm"
    assert product('{"stream":"x@trade","data":{"e":"trade","T":3}}') is None
    assert product('{"id":1,"result":null}') is None


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (b'{"e":"serverShutdown","E":1770123456789}', True),
        (b'{"E":1,"e":"serverShutdown"}', True),
        (b'{"stream":"x","data":{"e":"serverShutdown","E":1}}', True),
        (b'{"stream":"x@trade","data":{"e":"trade"}}', False),
        (b'"serverShutdown"', False),
    ],
)
def test_an_announced_shutdown_is_recognised(raw: bytes, is_one: bool) -> None:
    assert spot.is_shutdown(raw) is is_one


def test_a_snapshot_is_fetched_and_handed_over_as_it_came(venue: Venue) -> None:
    body = b'{"lastUpdateId":5,"bids":[["1.0","2.0"]],"asks":[]}'
    venue.routes["/api/v3/depth"] = Reply(200, body)
    assert spot.fetch_snapshot(Http(LOOPBACK), venue.rest, "BTCUSDT", limit=50) == body
    assert venue.requests[0][1] == "/api/v3/depth?symbol=BTCUSDT&limit=50"


@pytest.mark.parametrize(
    "body", [b"<html>maintenance</html>", b"", b"{}", b'{"lastUpdateId":1,"bids":[[1,2]]}']
)
def test_a_body_that_is_no_book_is_unavailable(venue: Venue, body: bytes) -> None:
    venue.routes["/api/v3/depth"] = Reply(200, body)
    with pytest.raises(Unavailable, match="the book of BTCUSDT came back as something that is no book"):
        spot.fetch_snapshot(Http(LOOPBACK), venue.rest, "BTCUSDT")


def test_a_ping_that_is_not_answered_as_binance_would_is_unavailable(venue: Venue) -> None:
    venue.routes["/api/v3/ping"] = Reply(200, b"<html>log in to this hotel</html>")
    with pytest.raises(Unavailable, match="something else than Binance"):
        spot.ping(Http(LOOPBACK), venue.rest)


def error(status: int, body: bytes = b"", **headers: str) -> Exception:
    return spot.error_of(Answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, body))


def test_statuses_become_the_errors_that_say_what_to_do() -> None:
    limited = error(429, retry_after="17")
    assert isinstance(limited, RateLimited) and limited.retry_after_s == 17.0
    silent = error(429)
    assert isinstance(silent, RateLimited) and silent.retry_after_s == spot.BACK_OFF_S
    banned = error(418)
    assert isinstance(banned, RateLimited) and banned.retry_after_s == spot.BANNED_S
    refused = error(400, b'{"code":-1121,"msg":"Invalid symbol."}')
    assert isinstance(refused, Rejected) and (refused.code, refused.message) == ("-1121", "Invalid symbol.")
    assert isinstance(error(403, b"<html>"), Rejected)
    assert isinstance(error(503, b"<html>"), Unavailable)
