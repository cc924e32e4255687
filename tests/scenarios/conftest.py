"""Fixtures of scenarios: families of real processes, and recordings cut to a length."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.processes import Family
from tests.shared import shared

RECORDED = "market_data/binance_ws_2024-08"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """Programs of one test; all of them are gone afterwards."""
    made = Family(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def btc_tape() -> Path:
    """The recorded spot market of BTC, 346 s."""
    return shared(f"{RECORDED}/spot_btcusdt_20240808.gz")


@pytest.fixture(scope="session")
def eth_tape() -> Path:
    """The recorded spot market of ETH, 346 s."""
    return shared(f"{RECORDED}/spot_ethusdt_20240808.gz")


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, float], Path]:
    """The first seconds of a recording as a tape of its own."""
    home = tmp_path_factory.mktemp("tapes")

    def make(tape: Path, seconds: float) -> Path:
        short = home / f"{tape.stem}-{seconds:g}s"
        if not short.exists():
            with gzip.open(tape, "rb") as lines, short.open("wb") as file:
                first_ns = None
                for line in lines:
                    at_ns = int(line.split(b" ", 1)[0])
                    first_ns = at_ns if first_ns is None else first_ns
                    if at_ns > first_ns + seconds * 1e9:
                        break
                    file.write(line)
        return short

    return make
