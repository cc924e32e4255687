"""Profit by parts, days and the figures of a face."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from api.desk import StatsView
from api.ledger import Entry, Ledger
from api.types import Side
from database.analytics import Parts, daily, parts, stats, utc_day
from tests.database.common import BTC, a_fill

D = Decimal


def a_ledger() -> Ledger:
    ledger = Ledger()
    ledger.apply(a_fill(1, ticks=10_000, lots=100_000, fee="0.1"), BTC)
    ledger.apply(a_fill(2, side=Side.SELL, ticks=11_000, lots=50_000, fee="-0.02", is_maker=False), BTC)
    ledger.apply(a_fill(3, side=Side.SELL, ticks=11_000, lots=10_000, fee="0.01", fee_asset="BNB"), BTC)
    return ledger


def test_the_parts_add_up_to_the_net() -> None:
    assert parts(a_ledger(), D(105)) == Parts(
        realized=D(6),
        unrealized=D(2),
        maker_fees=D("0.1"),
        taker_fees=D("-0.02"),
        unconverted_fees=(("BNB", D("0.01")),),
        net=D("7.92"),
        traded_quote=D(166),
        wear_rate=-D("7.92") / 166 * 100,
        position=D("0.4"),
        entry_price=D(100),
    )
    unknown = parts(a_ledger(), None)
    assert (unknown.unrealized, unknown.net, unknown.wear_rate) == (None, None, None)


def test_the_figures_of_a_face_tell_life_and_run_apart() -> None:
    life = a_ledger()
    run = life.carry()
    sale = a_fill(4, side=Side.SELL, ticks=12_000, lots=40_000, fee="0.05")
    life.apply(sale, BTC)
    run.apply(sale, BTC)
    assert stats(life, run, None, orders_sent=5, cancels_sent=4, refused=1) == StatsView(
        trades=4,
        buys=1,
        sells=3,
        maker_buy_base=D(1),
        maker_sell_base=D("0.5"),
        taker_buy_base=D(0),
        taker_sell_base=D("0.5"),
        traded_quote=D(214),
        fees=D("0.13"),
        realized=D(14),
        unrealized=D(0),
        net=D("13.87"),
        wear_rate=-D("13.87") / 214 * 100,
        run_realized=D(8),
        run_fees=D("0.05"),
        run_traded_quote=D(48),
        run_trades=1,
        orders_sent=5,
        cancels_sent=4,
        refused=1,
    )


def test_a_day_without_trades_is_not_there_and_the_days_add_up() -> None:
    day_ns = 86_400 * 10**9
    assert utc_day(1_725_148_799_999_999_999) == "2024-08-31"
    entries = [
        Entry.of(dataclasses.replace(a_fill(no), venue_ns=at_ns), BTC, None)
        for no, at_ns in enumerate((0, 1, day_ns - 1, day_ns, 5 * day_ns))
    ]
    found = list(daily("w1", "paper:BTC-USDT", entries))
    assert [(day.day, day.buys) for day in found] == [("1970-01-01", 3), ("1970-01-02", 1), ("1970-01-06", 1)]
    assert sum(day.traded_quote for day in found) == 300
    assert list(daily("w1", "paper:BTC-USDT", [])) == []
