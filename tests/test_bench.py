"""The benchmarks run, and say what they compare with."""

from __future__ import annotations

import pytest

from bench import Result, tick
from bench.__main__ import main, table


def test_a_name_that_does_not_exist_is_refused_and_the_others_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tick", "tock"]) == 2
    assert "tock" in (said := capsys.readouterr().err) and "feed, paper, tick" in said


def test_the_table_shows_each_ratio_beside_what_it_is_against() -> None:
    text = table([Result("b", "ours", 12.34, "us", 0.5, "theirs", "goal"), Result("b", "x", 20_000.0, "1/s")])
    assert text.splitlines()[1].split() == ["b", "ours", "12.3", "us", "0.500", "theirs", "goal"]
    assert text.splitlines()[2].split() == ["b", "x", "20,000", "1/s"]


@pytest.mark.slow
def test_a_tick_becomes_a_verified_order_with_every_candidate() -> None:
    results = tick.run(rounds=1, ticks=5)
    assert {result.name for result in results if result.name.endswith("p50")} == {
        f"{name} p50" for name in tick.CANDIDATES
    }
    assert all(result.value > 0 and result.ratio and result.against for result in results)
