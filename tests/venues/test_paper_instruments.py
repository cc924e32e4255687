"""What the paper venue lists, and the file that replaces it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.errors import BadInput
from api.types import Fill, InstrumentId, Side
from api.venues.paper.instruments import BUILTIN, START_BALANCES, Listing, load_instruments, settled

GOOD: dict[str, Any] = {
    "symbol": "BTC-USDT",
    "tick": "0.1",
    "lot": "0.001",
    "min_qty": "0.001",
    "min_notional": 10,
    "maker_fee": "-0.0001",
    "taker_fee": 0.0004,
}


def written(tmp_path: Path, what: object) -> Path:
    path = tmp_path / "listing.json"
    path.write_text(what if isinstance(what, str) else json.dumps(what), "utf-8")
    return path


def test_the_built_in_markets_have_canonical_names_and_money_for_both_sides() -> None:
    assert BUILTIN[0].id == "paper:BTC-USDT" and BUILTIN[0].venue_symbol == "BTCUSDT"
    assert len({one.id for one in BUILTIN}) == len(BUILTIN) >= 5
    for one in BUILTIN:
        assert one.id == InstrumentId.of("paper", f"{one.base}-{one.quote}")
        assert START_BALANCES[one.base] > 0 and START_BALANCES[one.quote] > 0
        assert one.min_notional == 5 and one.maker_fee < one.taker_fee


def test_a_file_replaces_instruments_and_balances(tmp_path: Path) -> None:
    path = written(tmp_path, {"instruments": [GOOD], "balances": {"USDT": "250.5"}})
    listing = load_instruments(path)
    (one,) = listing.instruments
    assert (one.symbol, one.tick, one.min_notional, one.maker_fee, one.taker_fee) == (
        "BTC-USDT",
        Decimal("0.1"),
        Decimal(10),
        Decimal("-0.0001"),
        Decimal("0.0004"),
    )
    assert one.venue_symbol == "BTCUSDT" and one.max_qty is None
    assert listing.balances == {"USDT": Decimal("250.5")}


def test_what_a_file_leaves_out_stays_built_in(tmp_path: Path) -> None:
    assert load_instruments(written(tmp_path, {})) == Listing()
    assert load_instruments(written(tmp_path, {"balances": {}})).instruments == BUILTIN


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"tick": "0"}, "tick", "USDT per BTC"),
        ({"tick": "abc"}, "tick", "a number"),
        ({"tick": True}, "tick", "a number"),
        ({"lot": "-1"}, "lot", "BTC"),
        ({"lot": "NaN"}, "lot", "BTC"),
        ({"min_qty": None}, "min_qty", "a number"),
        ({"min_notional": "1e400"}, "min_notional", "USDT"),
        ({"maker_fee": "0.2"}, "maker_fee", "fraction of value"),
        ({"taker_fee": "-0.02"}, "taker_fee", "from -0.01 to 0.1"),
        ({"symbol": "BTCUSDT"}, "symbol", "BASE-QUOTE"),
        ({"symbol": "BTC-BTC"}, "symbol", "differ"),
        ({"max_qty": "0.0001"}, "max_qty", "BTC"),
        ({"venue_symbol": "a b"}, "venue_symbol", "letters"),
        ({"color": "red"}, "color", "allowed: symbol, tick"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tmp_path: Path, change: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(BadInput) as bad:
        load_instruments(written(tmp_path, {"instruments": [{**GOOD, **change}]}))
    assert bad.value.field.endswith(f"instruments[0].{field}")
    assert said in bad.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"markets": []}', "allowed: instruments, balances"),
        ('{"instruments": []}', "at least one"),
        ('{"instruments": [1]}', "must be an object"),
        ('{"balances": []}', "must be an object"),
        ('{"balances": {"USDT": "-1"}}', "from 0"),
        ('{"balances": {"usdt": "1"}}', "capital letters"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_file_is_one_clear_message(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(BadInput) as bad:
        load_instruments(written(tmp_path, content))
    assert said in str(bad.value)


def test_a_missing_field_a_repeated_symbol_and_an_absent_file_are_named(tmp_path: Path) -> None:
    short = {key: value for key, value in GOOD.items() if key != "lot"}
    with pytest.raises(BadInput, match=r"instruments\[0\].lot: is missing"):
        load_instruments(written(tmp_path, {"instruments": [short]}))
    with pytest.raises(BadInput, match="listed twice"):
        load_instruments(written(tmp_path, {"instruments": [GOOD, GOOD]}))
    with pytest.raises(BadInput, match="cannot be read"):
        load_instruments(tmp_path / "none.json")
    with pytest.raises(BadInput, match="cannot be read"):
        load_instruments(tmp_path)


def test_a_number_in_the_file_means_its_own_digits(tmp_path: Path) -> None:
    listing = load_instruments(written(tmp_path, '{"balances": {"USDT": 0.1}}'))
    assert listing.balances["USDT"] == Decimal("0.1")


def test_settled_balances_never_fall_below_zero_and_pass_over_unlisted_markets() -> None:
    def fill(symbol: str) -> Fill:
        instrument = InstrumentId.of("paper", symbol)
        return Fill("1", "c", "v", "main", instrument, Side.BUY, 100, 10, Decimal(0), "USDT", True, 1)

    start = {"USDT": Decimal("0.00001"), "BTC": Decimal(1)}
    after = settled(start, [fill("BTC-USDT"), fill("OLD-USDT")], BUILTIN)
    assert after == {"USDT": Decimal(0), "BTC": Decimal("1.0001")}
