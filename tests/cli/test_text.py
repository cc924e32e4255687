"""How values look in a terminal."""

from __future__ import annotations

import io
from decimal import Decimal

import hypothesis.strategies as st
from hypothesis import given

from cli.tables import cut, ink_width, strip_ink
from cli.text import (
    Cell,
    Column,
    Ink,
    Printer,
    age,
    bar,
    clean,
    clock,
    fit,
    fixed,
    gain,
    money,
    pad,
    price,
    signed,
    span,
    table,
    width,
)

TICK = Decimal("0.01")


def test_a_price_has_the_decimals_of_its_tick() -> None:
    assert price(Decimal("59000.1"), TICK) == "59000.10"
    assert price(Decimal("59000"), Decimal("0.5")) == "59000.0"
    assert price(Decimal("59000"), Decimal("10")) == "59000"
    assert price(Decimal("0.000012"), Decimal("0.000001")) == "0.000012"


def test_a_price_between_ticks_is_not_rounded_to_another() -> None:
    assert price(Decimal("59000.125"), TICK) == "59000.125"


def test_the_unknown_is_a_dash_and_never_zero() -> None:
    assert [price(None, TICK), money(None), signed(None, 2), age(None), clock(None)] == ["—"] * 5
    assert gain(None) == Cell("—", "")


def test_profit_has_its_sign_beside_its_colour() -> None:
    assert gain(Decimal("1.2")) == Cell("+1.2000", "green")
    assert gain(Decimal("-1.2")) == Cell("-1.2000", "red")
    assert gain(Decimal("0E-8")) == Cell("0.0000", "")


def test_an_amount_too_small_for_four_decimals_gets_eight() -> None:
    assert money(Decimal("0.00001234"), sign=True) == "+0.00001234"
    assert money(Decimal("-0.000000001"), sign=True) == "0.00000000"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**9), max_value=10**9))
def test_no_number_is_written_with_an_exponent(value: Decimal) -> None:
    for text in (fixed(value, 2), money(value, sign=True), signed(value, 8)):
        assert "E" not in text.upper()
        assert abs(Decimal(text) - value) <= Decimal("0.00005")


def test_a_wide_character_takes_two_cells() -> None:
    assert width("做市 BTC") == 8
    assert width("e\u0301") == 1
    assert pad("做市", 6) == "做市  "
    assert fit("做市商台", 5) == "做市…"


@given(st.text(max_size=40), st.integers(0, 30))
def test_a_padded_text_is_exactly_as_wide_as_asked(text: str, cells: int) -> None:
    assert width(pad(clean(text), cells)) == cells


def test_columns_are_aligned_whatever_the_script() -> None:
    lines = table(
        [Column("NAME"), Column("NET", right=True)], [["做市", "1.00"], ["demo", "-10.00"]], Ink(False)
    )
    assert lines == ["NAME     NET", "做市    1.00", "demo  -10.00"]


def test_a_narrow_terminal_loses_the_least_needed_column_first() -> None:
    columns = [Column("ID"), Column("MID", rank=1), Column("WHY", rank=2, flex=True)]
    rows = [["w1", "59000.00", "a long sentence about the reason"]]
    assert table(columns, rows, Ink(False), cells=24) == ["ID  MID       WHY", "w1  59000.00  a long se…"]
    assert table(columns, rows, Ink(False), cells=14) == ["ID  MID", "w1  59000.00"]
    assert table(columns, rows, Ink(False), cells=4) == ["ID", "w1"]


def test_text_of_a_stranger_cannot_reach_the_terminal_as_an_escape_code() -> None:
    assert clean("a\x1b[2Jb\x07\nc\u202ed\x9b") == "a?[2Jb? c?d?"


def test_without_colours_there_are_no_codes() -> None:
    assert Ink(False)("x", "red") == "x"
    assert Ink(True)("x", "red") == "\x1b[31mx\x1b[0m"


@given(
    st.lists(st.tuples(st.text("ab做", max_size=6), st.sampled_from(["", "red"])), max_size=5),
    st.integers(1, 20),
)
def test_an_inked_line_is_cut_without_losing_the_end_of_its_colour(
    parts: list[tuple[str, str]], cells: int
) -> None:
    line = "".join(Ink(True)(text, style) for text, style in parts)
    shorter = cut(line, cells)
    assert ink_width(shorter) <= cells
    assert shorter.rfind("\x1b[31m") <= shorter.rfind("\x1b[0m")
    assert strip_ink(line) == "".join(text for text, _ in parts)


def test_an_output_that_lacks_a_character_gets_a_plain_one() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Printer(stream).line("— × … 做")
    assert raw.getvalue().decode() == "- x ~ ?\n"


def test_a_reader_that_went_away_is_not_an_error() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    printer = Printer(Closed())
    printer.line("one")
    printer.line("two")
    assert printer.is_closed


def test_ages_and_spans_are_short() -> None:
    assert [age(s) for s in (-1, 0.25, 12, 300, 7300, 400_000)] == [
        "0.0 s",
        "0.2 s",
        "12 s",
        "5 min",
        "2 h",
        "5 d",
    ]
    assert [span(s) for s in (0, 83.9, 3_723, 93_784)] == ["0:00:00", "0:01:23", "1:02:03", "1d 02:03:04"]
    assert clock(1_725_000_000_123_456_789) == "06:40:00.123"


def test_a_bar_grows_by_half_blocks_to_either_side() -> None:
    assert [bar(0, 4), bar(0.4, 4), bar(1, 4), bar(9, 2)] == ["", "█▌", "████", "██"]
    assert bar(0.4, 4, leftwards=True) == "▐█"
