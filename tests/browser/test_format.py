"""Numbers and ages as the page writes them, asked of the modules themselves inside the browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.pages import DeskPage
from tests.browser.site import Site

OpenPage = Callable[..., DeskPage]


@pytest.fixture
def module(site: Site, open_page: OpenPage) -> Callable[[str, str], Any]:
    """`module("format.js", "m.fixed('1', 2)")` in the page."""
    page = open_page(site.link).page

    def run(name: str, expression: str) -> Any:
        return page.evaluate(f"import('/static/js/{name}').then((m) => {expression})")

    return run


def test_numbers_are_exact_text_and_unknown_is_a_dash(module: Callable[[str, str], Any]) -> None:
    cases = {
        "m.fixed('59123.4', 2)": "59,123.40",
        "m.fixed('0.000012345678', 8)": "0.00001235",
        "m.fixed('123456789012345678.995', 2)": "123,456,789,012,345,679.00",
        "m.fixed('-0.004', 2)": "0.00",
        "m.fixed('-0.005', 2)": "-0.01",
        "m.fixed('12', 2, {sign: true})": "+12.00",
        "m.fixed('0', 2, {sign: true})": "0.00",
        "m.fixed('0E-8', 8)": "0.00000000",
        "m.fixed('1E+3', 0)": "1,000",
        "m.fixed('2.5e-7', 8)": "0.00000025",
        "m.fixed(null, 2)": "—",
        "m.fixed(undefined, 2)": "—",
        "m.fixed('', 2)": "—",
        "m.fixed('NaN', 2)": "—",
        "m.fixed(0, 2)": "0.00",
        "m.fixed('999.999', 2)": "1,000.00",
        "m.duration(null)": "—",
        "m.duration(3725.9)": "01:02:05",
        "m.duration(90061)": "1d 01:01:01",
        "m.age(null)": "—",
        "m.age(-0.2)": "0.0 s",
        "m.clockTime(null)": "—",
    }
    assert {expression: module("format.js", expression) for expression in cases} == cases


def test_decimals_follow_the_tick_and_zeros_behind_are_set_apart(module: Callable[[str, str], Any]) -> None:
    assert module("format.js", "['0.01', '0.00001000', '1', '1E-5', '0.5', null].map(m.decimalsOf)") == [
        2,
        5,
        0,
        5,
        1,
        8,
    ]
    assert module("format.js", "['1.50', '1.00', '100', '0.050', '—'].map(m.dimZeros)") == [
        ["1.5", "0"],
        ["1", ".00"],
        ["100", ""],
        ["0.05", "0"],
        ["—", ""],
    ]


def test_the_tone_of_an_amount_is_that_of_the_text_shown(module: Callable[[str, str], Any]) -> None:
    assert module("format.js", "['1234.5', '-3', '0.004', '-0.004', null].map((v) => m.tone(v, 2))") == [
        "up",
        "down",
        "",
        "",
        "",
    ]


def test_ages_have_three_words_and_unknown_counts_as_frozen(module: Callable[[str, str], Any]) -> None:
    assert module("store.js", "[0, 2, 2.1, 5, 5.1, null].map(m.freshness)") == [
        "live",
        "live",
        "stale",
        "stale",
        "frozen",
        "frozen",
    ]


def test_the_store_keeps_the_newest_and_drops_what_comes_late(module: Callable[[str, str], Any]) -> None:
    script = """(() => {
        const store = new m.Store();
        const heard = [[2, 20], [1, 10], [3, 30]];
        return heard.map(([data, at]) => { store.put('a', data, at); return store.get('a'); });
    })()"""
    assert module("store.js", script) == [2, 2, 3]


def test_a_sentence_of_the_desk_is_translated_with_its_numbers(module: Callable[[str, str], Any]) -> None:
    script = """import('/static/js/prefs.js').then(({prefs}) => {
        prefs.lang = 'zh-TW';
        return [
            'stale book: 3.2 s old, allowed are 2 s',
            'the USDT balance is not known yet',
            'something new',
        ].map(m.say);
    })"""
    assert module("i18n.js", script) == [
        "委託簿過舊：3.2 秒，允許 2 秒",
        "USDT 餘額尚未得知",
        "something new",
    ]


def test_a_young_chart_has_holes_where_nothing_was_heard(module: Callable[[str, str], Any]) -> None:
    script = """m.columns([{at_ns: 1e9, mid: 1}, {at_ns: 2e9, mid: 2}, {at_ns: 60e9, mid: 3}], 300).mid"""
    assert module("panels/chart_data.js", script) == [1, 2, None, 3]
