"""OKX's public market data: recorded and documented frames, the book's rule, listings."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.types import InstrumentId, Side
from api.venues.okx import public as okx
from api.venues.okx.public import Continuity, DepthDiff, DepthSnapshot, Verdict
from tests.shared import shared

D = Decimal
CHANNELS = ("books", "bbo-tbt", "trades", "trades-all", "tickers", "instruments")


def documented() -> list[dict[str, Any]]:
    payloads = json.loads(shared("fixtures/okx/docs_v5_en.json").read_text())["payloads"]
    return [payload["json"] for payload in payloads if isinstance(payload["json"], dict)]


def listing(**changes: Any) -> okx.Listing:
    row = {
        "instType": "SWAP",
        "instId": "ETH-USDT-SWAP",
        "instIdCode": 10461,
        "tickSz": "0.01",
        "lotSz": "0.01",
        "minSz": "0.01",
        "state": "live",
        "settleCcy": "USDT",
        "ctVal": "0.1",
        "ctMult": "1",
        "ctValCcy": "ETH",
        "ctType": "linear",
        "maxLmtSz": "100000000",
        "groupId": "4",
        **changes,
    }
    return msgspec.convert(row, okx.Listing)


# ---------------------------------------------------------------------------------------------- frames


def test_a_recording_of_the_live_venue_is_read_whole() -> None:
    path = shared("fixtures/okx/captures/2022-05-13/OKX.ws.1.0.gz")
    kinds: Counter[str] = Counter()
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if line.startswith("wss"):
                continue
            for message in okx.decode(line.split(": ", 1)[1].strip().encode()):
                kinds[type(message).__name__] += 1
    assert kinds == {"DepthDiff": 287, "DepthSnapshot": 3, "PublicTrade": 74, "Touch": 28, "Control": 18}


def test_every_documented_push_of_a_channel_we_read_is_read() -> None:
    seen = set()
    for payload in documented():
        channel = payload.get("arg", {}).get("channel", "") if "data" in payload else ""
        if channel in CHANNELS or channel.startswith("candle"):
            messages = okx.decode(json.dumps(payload).encode())
            assert messages and not isinstance(messages[0], okx.Control)
            seen.add("candle" if channel.startswith("candle") else channel)
    assert seen == {*CHANNELS, "candle"} - {"trades"}  # whose push the saved page does not show


def test_every_documented_event_is_a_control() -> None:
    events = {}
    for payload in documented():
        if "event" in payload:
            (control,) = okx.decode(json.dumps(payload).encode())
            assert isinstance(control, okx.Control)
            events[control.event] = control
    assert set(events) >= {"subscribe", "error", "notice", "login", "channel-conn-count"}
    assert events["notice"].is_closing and not events["error"].is_closing


def test_every_public_push_of_the_other_project_is_read() -> None:
    for name in (
        "c_ws_bbo_tbt",
        "c_ws_books_snapshot",
        "c_ws_books_update",
        "c_ws_instruments",
        "c_ws_tickers",
    ):
        assert okx.decode(shared(f"fixtures/okx/nautilus/{name}.json").read_bytes())
    assert okx.decode(shared("fixtures/okx/nautilus/c_ws_funding_rate.json").read_bytes()) == ()


def test_a_snapshot_an_update_and_a_touch_keep_the_venues_texts_and_sequences() -> None:
    level = ["100.1", "2", "0", "3"]
    raw = {"arg": {"channel": "books", "instId": "A-B"}, "action": "update"}
    row = {"asks": [level], "bids": [], "ts": "1597026383085", "checksum": 0, "prevSeqId": 7, "seqId": 9}
    (diff,) = okx.decode(json.dumps(raw | {"data": [row]}).encode())
    assert isinstance(diff, DepthDiff)
    assert (diff.venue_symbol, diff.prev_seq, diff.seq, diff.venue_ns) == ("A-B", 7, 9, 1597026383085_000_000)
    assert (diff.asks[0][:2], diff.bids) == (("100.1", "2"), ())
    raw = {"arg": {"channel": "bbo-tbt", "instId": "A-B"}}
    (touch,) = okx.decode(
        json.dumps(raw | {"data": [{"asks": [level], "bids": [], "ts": "1", "seqId": 4}]}).encode()
    )
    assert isinstance(touch, okx.Touch)
    assert touch.bid is None and touch.ask is not None and touch.ask[0] == "100.1"


def test_the_taker_and_the_number_of_matches_of_a_trade_are_told() -> None:
    row = {"instId": "A-B", "tradeId": "5", "px": "1.5", "sz": "2", "side": "sell", "ts": "3", "count": "2"}
    (trade,) = okx.decode(json.dumps({"arg": {"channel": "trades", "instId": "A-B"}, "data": [row]}).encode())
    assert trade == okx.PublicTrade("A-B", "5", Side.SELL, "1.5", "2", 2, 3_000_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>502</html>",
        b'{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[]',
        b'{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[]}]}',
        b'{"arg":{"channel":"books","instId":"A"},"action":"else","data":[{"asks":[],"bids":[],"ts":"1"}]}',
        b'{"arg":{"channel":"trades","instId":"A"},"data":[{"instId":"A"}]}',
        b'{"arg":{"channel":"candle1m","instId":"A"},"data":[["1","2"]]}',
        b'{"arg":{"channel":"candle9y","instId":"A"},"data":[["1","2","2","2","2","2","2","2","1"]]}',
        b'{"surprise":1}',
    ],
)
def test_what_is_not_the_venues_language_is_refused_in_one_way(raw: bytes) -> None:
    with pytest.raises(okx.UNREADABLE):
        okx.decode(raw)


def test_a_new_field_and_a_channel_we_do_not_read_disturb_nobody() -> None:
    assert okx.decode(b'{"arg":{"channel":"open-interest","instId":"A"},"data":[{"x":1}]}') == ()
    row = '{"asks":[],"bids":[],"ts":"1","seqId":2,"prevSeqId":1,"new":{"a":[1]}}'
    raw = '{"arg":{"channel":"books","instId":"A","n":1},"action":"update","data":[' + row + '],"later":1}'
    assert len(okx.decode(raw.encode())) == 1
    assert okx.decode(b"pong") == (okx.Control("pong"),)


def test_books_and_candles_of_rest_are_read() -> None:
    for payload in documented():
        data = payload.get("data")
        if payload.get("code") == "0" and isinstance(data, list) and data and isinstance(data[0], list):
            if len(data[0]) == 9:
                klines = okx.klines_of("A-B", "1m", json.dumps(payload).encode())
                assert [k.is_closed for k in klines] == [row[8] == "1" for row in reversed(data)]
        elif (
            isinstance(data, list)
            and data
            and isinstance(data[0], dict)
            and "asks" in data[0]
            and "code" in payload
        ):
            snapshot = okx.snapshot_of("A-B", json.dumps(payload).encode())
            assert snapshot.seq is None and snapshot.asks
    live = json.loads(shared("fixtures/okx/live_rest_2026-02/fetch_ohlcv_BTC_USDT.json").read_text())
    klines = okx.klines_of("BTC-USDT", "1h", json.dumps(live["http_response"]).encode())
    assert (klines[0].open, klines[-1].is_closed, klines[0].period) == (D("69101.1"), False, "1h")
    trades = json.loads(shared("fixtures/okx/live_rest_2026-02/fetch_trades_BTC_USDT.json").read_text())
    assert len(okx.decode_trades(json.dumps(trades["http_response"]["data"]).encode())) == 5
    with pytest.raises(okx.UNREADABLE):
        okx.snapshot_of("A-B", b'{"code":"51001","data":[],"msg":"no such"}')


def test_every_period_has_one_channel_and_both_names() -> None:
    assert len(set(okx.PERIODS.values())) == len(okx.PERIODS) == 27
    for ours, theirs in okx.PERIODS.items():
        row = ["1597026383085", "1", "2", "0.5", "1.5", "10", "11", "12", "1"]
        assert okx.kline_of("A-B", theirs, row).period == ours
    assert okx.kline_args(["A-B"], "1d") == ({"channel": "candle1Dutc", "instId": "A-B"},)


def test_subscriptions_stay_below_the_limit_of_a_message() -> None:
    args = okx.public_args([f"COIN{n}-USDT-SWAP" for n in range(900)])
    messages = okx.subscriptions(args)
    assert len(messages) > 1 and all(len(m) <= okx.MAX_SUBSCRIBE_BYTES for m in messages)
    assert sum(len(json.loads(m)["args"]) for m in messages) == len(args) == 2700
    assert okx.subscriptions([], "unsubscribe") == ()


# ------------------------------------------------------------------------------------------ continuity


def diff(prev: int | None, seq: int | None, *, levels: bool = True) -> DepthDiff:
    return DepthDiff("A", (("1", "1"),) if levels else (), (), prev, seq, 1)


def started(seq: int | None, *, is_pushed: bool = True) -> Continuity:
    rule = Continuity()
    rule.start(DepthSnapshot("A", (), (), seq, 1), is_pushed=is_pushed)
    return rule


def test_updates_chain_on_the_pushed_snapshot_and_a_heartbeat_changes_nothing() -> None:
    rule = started(10)
    assert rule.feed(diff(10, 15)) is Verdict.APPLY
    assert rule.feed(diff(15, 15, levels=False)) is Verdict.IGNORE
    assert rule.feed(diff(15, 16)) is Verdict.APPLY
    assert rule.seq == 16


def test_a_reset_after_maintenance_is_valid_when_it_chains() -> None:
    rule = started(1000)
    assert rule.feed(diff(1000, 3)) is Verdict.APPLY
    assert rule.feed(diff(3, 5)) is Verdict.APPLY


@pytest.mark.parametrize("bad", [diff(9, 15), diff(11, 15), diff(None, 15), diff(10, None)])
def test_any_mismatch_is_a_gap_until_the_next_snapshot(bad: DepthDiff) -> None:
    rule = started(10)
    assert rule.feed(bad) is Verdict.GAP
    assert rule.feed(diff(10, 11)) is Verdict.GAP
    rule.start(DepthSnapshot("A", (), (), 20, 1), is_pushed=True)
    assert rule.feed(diff(20, 21)) is Verdict.APPLY


def test_a_diff_before_any_snapshot_is_a_gap_and_so_is_a_snapshot_without_a_sequence() -> None:
    assert Continuity().feed(diff(-1, 5)) is Verdict.GAP
    assert Continuity().start(DepthSnapshot("A", (), (), None, 1), is_pushed=False) is Verdict.GAP


def test_a_read_snapshot_takes_up_the_buffered_diffs_at_its_place() -> None:
    rule = started(12, is_pushed=False)
    verdicts = [rule.feed(d) for d in (diff(5, 8), diff(8, 12), diff(12, 14), diff(14, 15))]
    assert verdicts == [Verdict.IGNORE, Verdict.IGNORE, Verdict.APPLY, Verdict.APPLY]
    inside = started(10, is_pushed=False)
    assert [inside.feed(d) for d in (diff(8, 12), diff(12, 13))] == [Verdict.APPLY, Verdict.APPLY]


def test_a_read_snapshot_older_than_the_first_diff_is_a_gap() -> None:
    assert started(5, is_pushed=False).feed(diff(8, 12)) is Verdict.GAP


@given(st.lists(st.integers(1, 50), min_size=2, max_size=30), st.data())
def test_a_lost_diff_is_always_seen(steps: list[int], data: st.DataObject) -> None:
    seqs = [100]
    for step in steps:
        seqs.append(seqs[-1] + step)
    diffs = [diff(a, b) for a, b in zip(seqs, seqs[1:], strict=False)]
    lost = data.draw(st.integers(0, len(diffs) - 2))
    rule = started(100)
    verdicts = [rule.feed(d) for n, d in enumerate(diffs) if n != lost]
    assert verdicts[:lost] == [Verdict.APPLY] * lost
    assert verdicts[lost] is Verdict.GAP


# ----------------------------------------------------------------------------------------- instruments


def test_a_linear_swap_is_counted_in_contracts_of_their_size() -> None:
    market = okx.market_of(listing(ctMult="10"), D("0.0002"), D("0.0005"))
    instrument = market.instrument
    assert instrument.id == InstrumentId("okx_swap:ETH-USDT-PERP")
    assert (instrument.kind, instrument.contract_size, instrument.lot) == ("perp", D(1), D("0.01"))
    assert instrument.value(200_000, 100) == D(2000)  # one contract of one coin at 2000.00
    assert (market.code, market.group, instrument.max_qty) == (10461, "4", D(100_000_000))


def test_a_dated_future_is_named_by_its_day_and_spot_by_its_coins() -> None:
    future = okx.market_of(
        listing(instType="FUTURES", instId="BTC-USDT-261225", ctValCcy="BTC", expTime="1798185600000"),
        D(0),
        D(0),
    )
    assert (future.instrument.symbol, future.instrument.kind) == ("BTC-USDT-261225", "future")
    spot = okx.market_of(
        listing(
            instType="SPOT", instId="SOL-USDC", baseCcy="SOL", quoteCcy="USDC", ctType="", tickSz="0.010"
        ),
        D(0),
        D(0),
    )
    assert (spot.instrument.id, spot.instrument.kind) == (InstrumentId("okx_spot:SOL-USDC"), "spot")
    assert (str(spot.instrument.tick), spot.instrument.contract_size) == ("0.01", D(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"ctType": "inverse", "settleCcy": "BTC"},
        {"ctType": ""},
        {"ctVal": ""},
        {"ctVal": "0"},
        {"tickSz": ""},
        {"lotSz": "NaN"},
        {"instType": "OPTION"},
        {"ctValCcy": ""},
        {"instType": "FUTURES", "expTime": ""},
    ],
)
def test_a_listing_without_sound_terms_is_left_out(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        okx.market_of(listing(**changes), D(0), D(0))


def test_symbols_go_both_ways_by_table_and_a_second_family_is_left_out() -> None:
    rows = [
        listing(),
        listing(instId="ETH-USD_UM-SWAP", instIdCode=9),
        listing(instId="SOL-X", ctValCcy="SOL"),
    ]
    symbols = okx.Symbols(okx.market_of(row, D(0), D(0)) for row in rows)
    eth = InstrumentId("okx_swap:ETH-USDT-PERP")
    assert symbols.venue_symbol(eth) == "ETH-USDT-SWAP"
    assert symbols.canonical("SOL-X") == "SOL-USDT-PERP"
    assert symbols.left_out == ["ETH-USD_UM-SWAP"]
    assert symbols.canonical("ETH-USD_UM-SWAP") is None
    assert symbols.venue_symbol(InstrumentId("okx_swap:NO-USDT-PERP")) is None


def test_all_listings_of_the_live_venue_become_instruments_or_say_why_not() -> None:
    path = shared("fixtures/okx/captures/2022-05-13/OKX.0.gz")
    rows: dict[str, okx.Listing] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if "public/instruments" not in line or " -> " not in line:
                continue
            body = line.split(": ", 1)[1].strip().encode()
            rows.update((row.instId, row) for row in okx.decode_listings(okx.rows_of(body)))
    made, reasons = [], Counter[str]()
    for row in rows.values():
        try:
            made.append(okx.market_of(row, D(0), D(0)))
        except ValueError as error:
            reasons[str(error)] += 1
    kinds = Counter(market.instrument.kind for market in made)
    assert kinds["spot"] > 300 and kinds["perp"] > 100 and kinds["future"] > 10
    assert set(reasons) == {"inverse contracts are not offered", "type OPTION is not offered"}
    symbols = okx.Symbols(made)
    assert symbols.left_out == []
    for market in symbols.all():
        assert symbols.canonical(market.instrument.venue_symbol) == market.instrument.symbol


def test_every_other_listing_of_the_fixtures_is_read() -> None:
    rows: list[okx.Listing] = []
    for payload in documented():
        data = payload.get("data")
        if isinstance(data, list) and data and isinstance(data[0], dict) and "tickSz" in data[0]:
            rows += okx.decode_listings(json.dumps(data).encode())
    for name in ("swap", "margin", "option"):
        path = shared(f"fixtures/okx/nautilus/c_http_get_instruments_{name}.json")
        rows += okx.decode_listings(okx.rows_of(path.read_bytes()))
    with gzip.open(shared("fixtures/okx/live_rest_2026-02/fetch_markets.json.gz")) as live:
        found = json.load(live)["http_response"]
    rows += okx.decode_listings(okx.rows_of(json.dumps(found).encode()))
    made = {}
    for row in rows:
        try:
            made[row.instId] = okx.market_of(row, D(0), D(0))
        except ValueError:
            assert row.instType in ("MARGIN", "OPTION") or row.ctType == "inverse"
    assert len(rows) > 780 and {"BTC-USDT", "BTC-EUR", "ETH-USDT-SWAP"} <= set(made)
    eth = made["ETH-USDT-SWAP"]
    assert (eth.code, eth.instrument.contract_size, eth.instrument.lot) == (10461, D("0.1"), D("0.01"))


def test_trades_of_rest_are_read() -> None:
    rows = okx.rows_of(shared("fixtures/okx/nautilus/c_http_get_trades.json").read_bytes())
    assert [row.side for row in okx.decode_trades(rows)] == ["sell", "buy"]


def test_levels_are_exact_and_off_the_grid_is_an_error() -> None:
    instrument = okx.market_of(listing(), D(0), D(0)).instrument
    assert okx.levels(instrument, [("2000.01", "1.25", "0", "3"), ("1999", "0")]) == (
        (200_001, 125),
        (199_900, 0),
    )
    for bad in (("2000.001", "1"), ("2000", "0.001"), ("x", "1"), ("1", "")):
        with pytest.raises(ValueError):
            okx.levels(instrument, [bad])
