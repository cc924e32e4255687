"""The ledger against examples by hand and against a naive oracle."""

from __future__ import annotations

import random
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.ledger import Ledger
from api.types import Fill, Instrument, InstrumentId, Side

D = Decimal


def an_instrument(**changes: object) -> Instrument:
    fields: dict[str, object] = dict(
        id=InstrumentId("paper:BTC-USDT"),
        base="BTC",
        quote="USDT",
        tick=D("0.01"),
        lot=D("0.001"),
        min_qty=D("0.001"),
        min_notional=D("5"),
        maker_fee=D("0.001"),
        taker_fee=D("0.001"),
        venue_symbol="BTCUSDT",
    )
    return Instrument(**(fields | changes))  # type: ignore[arg-type]


BTC = an_instrument()


def a_fill(
    no: int,
    side: str,
    price: str,
    qty: str,
    *,
    fee: str = "0",
    fee_asset: str = "USDT",
    is_maker: bool = True,
    at_ns: int | None = None,
    trade_id: str | None = None,
    instrument: Instrument = BTC,
) -> Fill:
    return Fill(
        trade_id=str(no) if trade_id is None else trade_id,
        client_id="c",
        venue_id="v",
        account="main",
        instrument=instrument.id,
        side=Side(side),
        ticks=int(D(price) / instrument.tick),
        lots=int(D(qty) / instrument.lot),
        fee=D(fee),
        fee_asset=fee_asset,
        is_maker=is_maker,
        venue_ns=no if at_ns is None else at_ns,
    )


def booked(*fills: Fill, rate: Decimal | None = None, instrument: Instrument = BTC) -> Ledger:
    ledger = Ledger()
    for fill in fills:
        ledger.apply(fill, instrument, rate)
    return ledger


def summary(ledger: Ledger) -> tuple[object, ...]:
    return (
        ledger.position,
        ledger.entry_price,
        ledger.realized,
        ledger.maker_fees,
        ledger.taker_fees,
        ledger.unconverted_fees,
        ledger.traded_quote,
        ledger.buys,
        ledger.sells,
        ledger.maker_buy_base,
        ledger.maker_sell_base,
        ledger.taker_buy_base,
        ledger.taker_sell_base,
        tuple(ledger._lots),
    )


def test_an_empty_ledger_is_flat_and_knows_no_rate() -> None:
    ledger = Ledger()
    assert [ledger.position, ledger.entry_price, ledger.realized, ledger.fees] == [0, None, 0, 0]
    assert ledger.unrealized(None) == 0
    assert ledger.net(None) == 0
    assert ledger.wear_rate(D(100)) is None
    assert ledger.last_ns is None


def test_a_sale_closes_the_oldest_lots_first() -> None:
    ledger = booked(
        a_fill(1, "buy", "100", "1"), a_fill(2, "buy", "110", "1"), a_fill(3, "sell", "120", "1.5")
    )
    assert ledger.realized == D(25)  # 1 x 20 + 0.5 x 10
    assert ledger.position == D("0.5")
    assert ledger.entry_price == D(110)
    assert ledger.unrealized(D(100)) == D(-5)


def test_a_short_profits_from_a_fall_and_turns_long_through_zero() -> None:
    ledger = booked(a_fill(1, "sell", "100", "1"), a_fill(2, "buy", "90", "3"))
    assert (ledger.realized, ledger.position, ledger.entry_price) == (D(10), D(2), D(90))
    assert ledger.unrealized(D(91)) == D(2)


def test_a_short_that_is_held_has_an_unrealized_profit_of_its_own() -> None:
    ledger = booked(a_fill(1, "sell", "100", "2"))
    assert (ledger.position, ledger.entry_price, ledger.unrealized(D(95))) == (D(-2), D(100), D(10))


def test_an_unknown_mid_makes_the_net_unknown_only_while_something_is_held() -> None:
    held = booked(a_fill(1, "buy", "100", "1"))
    assert (held.unrealized(None), held.net(None), held.wear_rate(None)) == (None, None, None)
    flat = booked(a_fill(1, "buy", "100", "1"), a_fill(2, "sell", "101", "1"))
    assert (flat.unrealized(None), flat.net(None)) == (D(0), D(1))


def test_fees_in_quote_count_one_to_one_and_rebates_are_negative() -> None:
    ledger = booked(
        a_fill(1, "buy", "100", "1", fee="0.1", is_maker=False), a_fill(2, "sell", "100", "1", fee="-0.02")
    )
    assert (ledger.taker_fees, ledger.maker_fees, ledger.fees) == (D("0.1"), D("-0.02"), D("0.08"))
    assert ledger.net(None) == D("-0.08")
    assert ledger.wear_rate(None) == D("0.04")  # 0.08 of 200, a cost is positive


def test_a_fee_in_base_leaves_the_position_and_the_net_is_what_the_wallet_gained() -> None:
    ledger = booked(a_fill(1, "buy", "100", "1", fee="0.001", fee_asset="BTC"))
    assert ledger.position == D("0.999")
    assert ledger.fees == D("0.1")
    assert ledger.entry_price == D(100)
    assert ledger.net(D(200)) == D("0.999") * 200 - 100


def test_a_fee_in_base_that_closes_a_short_leaves_the_rest_short() -> None:
    ledger = booked(a_fill(1, "sell", "100", "1"), a_fill(2, "buy", "90", "1", fee="0.001", fee_asset="BTC"))
    assert ledger.position == D("-0.001")
    assert ledger.net(D(50)) == D(10) - D("0.05")


def test_a_rebate_in_base_adds_to_the_position() -> None:
    ledger = booked(a_fill(1, "buy", "100", "1", fee="-0.001", fee_asset="BTC"))
    assert (ledger.position, ledger.fees) == (D("1.001"), D("-0.1"))


def test_a_fee_in_base_on_a_perpetual_comes_out_of_the_margin() -> None:
    perp = an_instrument(id=InstrumentId("paper:BTC-PERP"), kind="perp", contract_size=D("0.1"))
    ledger = booked(
        a_fill(1, "buy", "100", "1", fee="0.001", fee_asset="BTC", instrument=perp), instrument=perp
    )
    assert (ledger.position, ledger.fees, ledger.traded_quote) == (D("0.1"), D("0.1"), D(10))


def test_a_fee_in_a_third_asset_uses_the_rate_it_is_given() -> None:
    ledger = booked(a_fill(1, "buy", "100", "1", fee="0.002", fee_asset="BNB"), rate=D(500))
    assert (ledger.fees, ledger.fees_are_partial) == (D(1), False)


@pytest.mark.parametrize("rate", [None, D(0), D(-1), D("NaN"), D("Infinity")])
def test_a_fee_without_a_usable_rate_is_kept_apart_and_never_counts_as_zero(rate: Decimal | None) -> None:
    ledger = booked(
        a_fill(1, "buy", "100", "1", fee="0.002", fee_asset="BNB"),
        a_fill(2, "sell", "100", "1", fee="0.003", fee_asset="BNB"),
        a_fill(3, "sell", "100", "1", fee="0", fee_asset="XYZ"),
        rate=rate,
    )
    assert ledger.unconverted_fees == {"BNB": D("0.005")}
    assert ledger.fees_are_partial
    assert ledger.fees == 0


def test_volumes_are_counted_by_side_and_by_maker_or_taker() -> None:
    ledger = booked(
        a_fill(1, "buy", "100", "1"),
        a_fill(2, "buy", "100", "2", is_maker=False),
        a_fill(3, "sell", "100", "3"),
        a_fill(4, "sell", "100", "4", is_maker=False),
    )
    assert (ledger.trades, ledger.buys, ledger.sells, ledger.traded_quote) == (4, 2, 2, D(1000))
    assert (ledger.maker_buy_base, ledger.taker_buy_base) == (D(1), D(2))
    assert (ledger.maker_sell_base, ledger.taker_sell_base) == (D(3), D(4))


def test_a_fill_heard_twice_counts_once() -> None:
    ledger = Ledger()
    assert ledger.apply(a_fill(1, "buy", "100", "1"), BTC, None)
    assert not ledger.apply(a_fill(1, "buy", "100", "1"), BTC, None)
    assert not ledger.apply(a_fill(1, "buy", "100", "1", at_ns=7), BTC, None)
    assert (ledger.position, ledger.trades) == (D(1), 1)


def test_another_instrument_and_an_impossible_fill_are_refused_and_change_nothing() -> None:
    ledger = booked(a_fill(1, "buy", "100", "1"))
    before = summary(ledger)
    with pytest.raises(ValueError, match="not paper:ETH-USDT"):
        ledger.apply(a_fill(2, "buy", "100", "1"), an_instrument(id=InstrumentId("paper:ETH-USDT")), None)
    for impossible in (
        a_fill(3, "buy", "100", "0"),
        a_fill(4, "buy", "-1", "1"),
        a_fill(5, "buy", "1", "1", fee="NaN"),
    ):
        with pytest.raises(ValueError, match="impossible fill"):
            ledger.apply(impossible, BTC, None)
    assert summary(ledger) == before


def test_a_late_fill_takes_its_place_in_time() -> None:
    fills = [a_fill(1, "buy", "100", "1"), a_fill(2, "buy", "110", "1"), a_fill(3, "sell", "120", "1")]
    late = booked(fills[1], fills[2], fills[0])
    assert late.realized == D(20)
    assert summary(late) == summary(booked(*fills))


def test_fills_of_one_moment_count_by_trade_id_as_a_number() -> None:
    ten = a_fill(0, "buy", "110", "1", at_ns=5, trade_id="10")
    nine = a_fill(0, "buy", "100", "1", at_ns=5, trade_id="9")
    sale = a_fill(0, "sell", "120", "1", at_ns=6, trade_id="11")
    assert booked(ten, nine, sale).realized == D(20)


def test_sums_beyond_28_digits_stay_exact() -> None:
    fine = an_instrument(lot=D("1e-18"), tick=D("1e-18"))
    big = Fill("1", "c", "v", "main", fine.id, Side.BUY, 10**30 + 1, 10**30 + 1, D("1e-18"), "USDT", True, 1)
    small = Fill("2", "c", "v", "main", fine.id, Side.BUY, 1, 1, D("1e12"), "USDT", True, 2)
    ledger = booked(big, small, instrument=fine)
    with localcontext() as context:
        context.prec = 200
        assert ledger.position == (D(10) ** 30 + 2) / D(10) ** 18
        assert ledger.traded_quote == ((D(10) ** 30 + 1) ** 2 + 1) / D(10) ** 36
        assert ledger.fees == D("1000000000000.000000000000000001")
    assert getcontext().prec == 28


def test_a_run_that_starts_with_something_held_knows_what_it_cost() -> None:
    life = booked(a_fill(1, "buy", "100", "1", fee="1"))
    run = life.carry()
    assert [run.position, run.entry_price, run.fees, run.trades, run.realized] == [1, 100, 0, 0, 0]
    sale = a_fill(2, "sell", "130", "1")
    assert life.apply(sale, BTC, None) and run.apply(sale, BTC, None)
    assert not run.apply(a_fill(1, "buy", "100", "1", fee="1"), BTC, None)
    assert (run.realized, life.realized, run.trades, life.trades) == (D(30), D(30), 1, 2)
    earlier = a_fill(0, "buy", "90", "1")
    assert run.apply(earlier, BTC, None)
    assert run.position == D(1)


def test_thousands_of_fills_in_any_order_give_the_same_ledger() -> None:
    dice = random.Random(3)
    fills = [
        a_fill(
            no, dice.choice(["buy", "sell"]), str(dice.randint(90, 110)), "0.5", fee="0.0001", fee_asset="BTC"
        )
        for no in range(1, 6000)
    ]
    in_order = booked(*fills)
    nearly = fills[:]
    for _ in range(60):
        fill = nearly.pop(dice.randrange(len(nearly)))
        nearly.insert(dice.randrange(len(nearly)), fill)
    assert summary(booked(*nearly)) == summary(in_order)


FILLS = st.lists(
    st.tuples(
        st.integers(1, 20),  # time
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 500),  # ticks
        st.integers(1, 50),  # lots
        st.integers(-20, 20),  # fee in 1e-5
        st.sampled_from(["BTC", "USDT", "BNB"]),
        st.booleans(),
    ),
    max_size=40,
)


def oracle(fills: list[Fill], rate: Decimal | None) -> dict[str, Decimal]:
    """Unit by unit: every 1e-5 of base is a thing of its own, matched first in first out."""
    unit = D("0.00001")
    held: list[tuple[int, Decimal]] = []
    out = dict(position=D(0), realized=D(0), fees=D(0), unknown=D(0), traded=D(0), cash=D(0))
    for fill in sorted(fills, key=lambda f: (f.venue_ns, int(f.trade_id))):
        price, qty = fill.ticks * BTC.tick, fill.lots * BTC.lot
        delta = fill.side.sign * qty
        out["cash"] -= fill.side.sign * qty * price
        out["traded"] += qty * price
        if fill.fee_asset == "BTC":
            delta -= fill.fee
            out["fees"] += fill.fee * price
        elif fill.fee_asset == "USDT":
            out["fees"] += fill.fee
            out["cash"] -= fill.fee
        elif rate is not None:
            out["fees"] += fill.fee * rate
            out["cash"] -= fill.fee * rate
        else:
            out["unknown"] += fill.fee
        out["position"] += delta
        sign = 1 if delta > 0 else -1
        for _ in range(int(abs(delta) / unit)):
            if held and held[0][0] != sign:
                was, paid = held.pop(0)
                out["realized"] += was * (price - paid) * unit
            else:
                held.append((sign, price))
    out["open_cost"] = sum((was * paid * unit for was, paid in held), D(0))
    return out


@settings(max_examples=150, deadline=None)
@given(FILLS, st.sampled_from([None, D("3.5")]), st.randoms(use_true_random=False))
def test_it_agrees_with_the_oracle_in_any_order_of_arrival(
    rows: list[tuple[int, str, int, int, int, str, bool]], rate: Decimal | None, dice: random.Random
) -> None:
    fills = [
        Fill(
            str(no),
            "c",
            "v",
            "main",
            BTC.id,
            Side(side),
            ticks,
            lots,
            fee * D("0.00001"),
            asset,
            maker,
            at_ns,
        )
        for no, (at_ns, side, ticks, lots, fee, asset, maker) in enumerate(rows)
    ]
    expected = oracle(fills, rate)
    arrival = fills + fills[: len(fills) // 2]
    dice.shuffle(arrival)
    ledger = booked(*arrival, rate=rate)
    assert ledger.position == expected["position"]
    assert ledger.realized == expected["realized"]
    assert ledger.fees == expected["fees"]
    assert ledger.unconverted_fees.get("BNB", D(0)) == expected["unknown"]
    assert ledger.traded_quote == expected["traded"]
    mid = D("2.345")
    assert ledger.unrealized(mid) == expected["position"] * mid - expected["open_cost"]
    assert ledger.net(mid) == expected["cash"] + expected["position"] * mid
    if ledger.position:
        assert ledger.entry_price == expected["open_cost"] / expected["position"]
    assert ledger.buys + ledger.sells == len(fills)
    assert summary(ledger) == summary(booked(*fills, rate=rate))
