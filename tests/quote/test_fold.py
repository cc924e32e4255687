"""From raw frames to events, on made-up frames and on the recordings."""

from __future__ import annotations

from decimal import Decimal

import pytest

from api.types import (
    Book,
    BookChanged,
    BookLost,
    Event,
    Instrument,
    InstrumentId,
    Side,
    Trade,
    Traded,
)
from quote.fold import Grid, MarketFold, OffGrid
from quote.tape import open_tape
from tests.quote import frames as f
from tests.shared import shared

BTC = InstrumentId("paper:BTC-USDT")
ETH = InstrumentId("paper:ETH-USDT")


def fold_all(fold: MarketFold, *raws: bytes, symbol: str | None = "BTCUSDT") -> list[Event]:
    return [event for ns, raw in enumerate(raws, 1) for event in fold.fold(raw, ns, ns + 100, symbol)]


def started() -> MarketFold:
    fold = MarketFold([f.instrument()])
    fold_all(fold, f.snapshot(10, [("100", "1"), ("99.5", "2")], [("101", "2")]))
    return fold


def test_a_snapshot_diff_ticker_and_trade_become_events_in_ticks_and_lots() -> None:
    events = fold_all(
        MarketFold([f.instrument()]),
        f.snapshot(10),
        f.diff(11, 12, [("100.01", "0.5")], [("101", "0")], ms=5),
        f.ticker(13, ("100.02", "3"), ("102", "4")),
        f.trade(7, "100.02", "0.1", buyer_is_maker=True, ms=6),
    )
    bids = ((10001, 50_000), (10000, 100_000))
    assert events == [
        BookChanged(101, Book(BTC, ((10000, 100_000),), ((10100, 200_000),), 0, 1, 10)),
        BookChanged(102, Book(BTC, bids, (), 5_000_000, 2, 12)),
        BookChanged(103, Book(BTC, ((10002, 300_000), *bids), ((10200, 400_000),), 5_000_000, 3, 13)),
        Traded(104, Trade(BTC, "7", Side.SELL, 10002, 10_000, 6_000_000, 4)),
    ]


def test_a_gap_is_told_once_and_mended_by_the_next_snapshot() -> None:
    fold = started()
    events = fold_all(
        fold,
        f.diff(12, 13, [("100", "3")]),
        f.diff(14, 15, [("100", "4")]),
        f.ticker(15, ("100", "4"), ("101", "2")),
        f.snapshot(13),
    )
    assert events == [
        BookLost(101, BTC, "gap: 1 updates missing after 10"),
        BookChanged(104, Book(BTC, ((10000, 400_000),), ((10100, 200_000),), 1_000_000_000, 2, 15)),
    ]
    assert fold.wants_snapshot() == ()
    assert fold.stats(BTC).resyncs == 1


def test_wanted_snapshots_are_named_and_may_be_given_by_instrument() -> None:
    fold = MarketFold([f.instrument(), f.instrument("ETH")])
    assert fold.wants_snapshot() == (BTC, ETH)
    assert len(fold.fold_snapshot(ETH, f.snapshot(5), 1, 1)) == 1
    assert fold.wants_snapshot() == (BTC,)


BAD_FRAMES = {
    "nothing": b"",
    "a page of HTML": b"<html><body>502 Bad Gateway</body></html>",
    "a cut frame": f.diff(11, 12, [("100.01", "1")])[:-9],
    "a number that is not text": f.diff(11, 12).replace(b'"b":[]', b'"b":[[100.01,"1"]]'),
    "a missing field": f.diff(11, 12).replace(b'"U":11,', b""),
    "a level of three": f.diff(11, 12).replace(b'"b":[]', b'"b":[["100.01","1","x"]]'),
    "an id that is text": f.diff(11, 12).replace(b'"U":11', b'"U":"11"'),
    "an id beyond 64 bits": f.diff(11, 12).replace(b'"u":12', b'"u":123456789012345678901234567890'),
    "ids the wrong way round": f.diff(12, 11),
    "a price between ticks": f.diff(11, 12, [("100.015", "1")]),
    "a price of zero": f.diff(11, 12, [("0", "1")]),
    "a negative size": f.diff(11, 12).replace(b'"b":[]', b'"b":[["100.00000000","-1.00000000"]]'),
    "not a number": f.diff(11, 12).replace(b'"b":[]', b'"b":[["NaN","1.00000000"]]'),
    "an exponent": f.diff(11, 12).replace(b'"b":[]', b'"b":[["1e2","1.00000000"]]'),
    "a futures diff": f.diff(11, 12).replace(b'"u":12', b'"u":12,"pu":10'),
    "another market under our stream's name": f.diff(11, 12).replace(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'),
    "a ticker without its sizes": f.ticker(11, ("100", "1"), ("101", "1")).replace(b'"B":', b'"Z":'),
    "a trade without a side": f.trade(1, "100", "1").replace(b'"m":false', b'"m":null'),
    "null": b"null",
    "a list": b"[1,2]",
    "broken text": b'{"stream":"btcusdt@trade","data":{"s":"\xff\xfe"}}',
    "deep nesting": b"[" * 100_000,
    "an unknown stream": f.framed("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT"}),
    "a market that is not ours": f.trade(1, "100", "1", symbol="SOLUSDT"),
    "a stream alone": b'{"stream":"btcusdt@trade"}',
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_frame_that_is_not_what_it_should_be_is_counted_and_changes_nothing(name: str) -> None:
    fold = started()
    before = fold.builders[BTC].book()
    assert fold.fold(BAD_FRAMES[name], 9, 9, "BTCUSDT") == ()
    assert fold.builders[BTC].book() == before
    assert fold.stats(BTC).unknown_frames + fold.unknown_frames == 1
    assert fold.fold(f.diff(11, 11, [("100", "7")]), 10, 10) != ()


def test_a_snapshot_of_nobody_knows_what_is_counted_and_not_used() -> None:
    fold = MarketFold([f.instrument()])
    assert fold.fold(f.snapshot(10), 1, 1) == ()
    assert (fold.unknown_frames, fold.wants_snapshot()) == (1, (BTC,))


def test_answers_to_our_own_requests_are_not_unknown_frames() -> None:
    fold = started()
    fold_all(fold, b'{"result":null,"id":1}', b'{"e":"serverShutdown","E":1770123456789}')
    assert (fold.control_frames, fold.unknown_frames, fold.stats(BTC).unknown_frames) == (2, 0, 0)


def test_a_frame_with_its_keys_in_another_order_is_read_all_the_same() -> None:
    raw = f.trade(3, "100", "1")
    stream, data = raw[1:].split(b',"data":', 1)
    fold = started()
    events = fold.fold(b'{"data":' + data[:-1] + b"," + stream + b"}", 4, 5)
    assert events == (Traded(5, Trade(BTC, "3", Side.BUY, 10000, 100_000, 1_000_000_000, 4)),)
    assert fold.stats(BTC).trades == 1


def test_trades_told_twice_count_once_and_a_venue_that_starts_over_counts_again() -> None:
    fold = started()
    raws = [f.trade(500_000, "100", "1"), f.trade(500_000, "100", "1"), f.trade(499_999, "100", "1")]
    assert len(fold_all(fold, *raws)) == 1
    assert len(fold_all(fold, f.trade(3, "100", "1"), f.trade(3, "100", "1"))) == 1
    assert fold.stats(BTC).trades == 2


def test_statistics_add_up_exactly() -> None:
    fold = started()
    fold_all(
        fold,
        f.trade(1, "100.01", "0.5"),
        f.trade(2, "99.99", "1.5", buyer_is_maker=True),
        f.diff(11, 11, [("100", "3")], ms=0),
        b"rubbish",
    )
    stats = fold.stats(BTC)
    assert (stats.trades, stats.base_lots, stats.taker_buy_lots) == (2, 200_000, 50_000)
    assert stats.quote_ticks_lots == 10001 * 50_000 + 9999 * 150_000
    assert (stats.diffs_applied, stats.frames, stats.unknown_frames) == (1, 5, 1)
    assert (stats.best_bid, stats.best_ask) == ((10000, 300_000), (10100, 200_000))
    assert stats.clock_offset_ms == pytest.approx((1 - 1_000_000_000) / 1e6)


def test_a_loss_is_told_for_books_that_were_known_and_a_restart_forgets_trade_ids() -> None:
    fold = MarketFold([f.instrument(), f.instrument("ETH")])
    fold_all(fold, f.snapshot(10), f.trade(5, "100", "1"))
    assert fold.drop("disconnected", 50) == (BookLost(50, BTC, "disconnected"),)
    assert fold.drop("disconnected", 51) == ()
    assert fold_all(fold, f.trade(5, "100", "1")) == []
    assert fold.restart("again", 52) == ()
    assert len(fold_all(fold, f.trade(5, "100", "1"))) == 1


def test_two_instruments_of_one_venue_symbol_are_refused() -> None:
    with pytest.raises(ValueError, match="BTCUSDT"):
        MarketFold([f.instrument(), f.instrument()])


def test_a_grid_reads_text_exactly_and_nothing_else() -> None:
    price = Grid(Decimal("0.05"), is_price=True)
    assert [price[text] for text in ("0.05", "61750", "61750.10", "61750.10000000", "1.000000000000")] == [
        1,
        1_235_000,
        1_235_002,
        1_235_002,
        20,
    ]
    for text in (
        "0.07",
        "0",
        "",
        ".",
        "-1",
        "+1",
        "1_0",
        " 1",
        "1e3",
        "0x1",
        "\u0661",
        "1" * 50,
        "0.00000001",
    ):
        with pytest.raises(OffGrid):
            price[text]


def test_a_size_between_two_lots_is_rounded_down_but_never_to_nothing() -> None:
    size = Grid(Decimal("0.001"), is_price=False)
    assert [size[text] for text in ("1.2349", "0.0004", "0.00000000", "0.0010")] == [1234, 1, 0, 1]


@pytest.mark.parametrize(
    ("file", "base", "lot", "diffs", "trades", "checked", "volume", "buy_volume", "best"),
    [
        (
            "spot_btcusdt_20240808.gz", "BTC", "0.00001", 3449, 9757, 564,
            "212.03315", "96.65118", ((6168599, 125_869), (6168600, 244_807)),
        ),
        (
            "spot_ethusdt_20240808.gz", "ETH", "0.0001", 3432, 6106, 577,
            "2261.3149", "953.0359", ((268250, 33_168), (268251, 509_739)),
        ),
    ],
)  # fmt: skip
def test_a_recording_folds_without_a_gap_and_every_ticker_agrees(
    file: str,
    base: str,
    lot: str,
    diffs: int,
    trades: int,
    checked: int,
    volume: str,
    buy_volume: str,
    best: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    tape = open_tape([shared(f"market_data/binance_ws_2024-08/{file}")])
    instrument: Instrument = f.instrument(base, lot)
    fold = MarketFold([instrument])
    worst = -(10**9)
    for recv_ns, symbol, raw in tape.frames():
        for event in fold.fold(raw, recv_ns, recv_ns, symbol):
            if isinstance(event, BookChanged):
                book = event.book
                worst = max(worst, book.bids[0][0] - book.asks[0][0])
                assert len(book.bids) == len(book.asks) == 25
            else:
                assert isinstance(event, Traded)
    stats = fold.stats(instrument.id)
    assert (stats.diffs_applied, stats.trades, stats.resyncs) == (diffs, trades, 0)
    assert (stats.ticker_checked, stats.ticker_mismatches) == (checked, 0)
    assert (stats.frames, stats.unknown_frames, fold.unknown_frames) == (tape.frame_count, 0, 0)
    assert instrument.qty(stats.base_lots) == Decimal(volume)
    assert instrument.qty(stats.taker_buy_lots) == Decimal(buy_volume)
    assert (stats.best_bid, stats.best_ask) == best
    assert worst < 0
    assert stats.clock_offset_ms == pytest.approx(-1275, abs=1)
