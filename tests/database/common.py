"""What the tests of this room share: an instrument, fills, and programs to be killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from api.types import Fill, Instrument, InstrumentId, Place, Side

ROOT = Path(__file__).resolve().parents[2]

BTC = Instrument(
    id=InstrumentId("paper:BTC-USDT"),
    base="BTC",
    quote="USDT",
    tick=Decimal("0.01"),
    lot=Decimal("0.00001"),
    min_qty=Decimal("0.00001"),
    min_notional=Decimal(5),
    maker_fee=Decimal("0.001"),
    taker_fee=Decimal("0.001"),
    venue_symbol="BTCUSDT",
)


def a_fill(
    no: int,
    *,
    side: Side = Side.BUY,
    ticks: int = 6_000_000,
    lots: int = 100,
    fee: str = "0.006",
    fee_asset: str = "USDT",
    is_maker: bool = True,
    at_ns: int | None = None,
    trade_id: str | None = None,
    account: str = "main",
    instrument: InstrumentId = BTC.id,
) -> Fill:
    return Fill(
        trade_id=f"t{no}" if trade_id is None else trade_id,
        client_id=f"c{no}",
        venue_id=f"v{no}",
        account=account,
        instrument=instrument,
        side=side,
        ticks=ticks,
        lots=lots,
        fee=Decimal(fee),
        fee_asset=fee_asset,
        is_maker=is_maker,
        venue_ns=1_000 + no if at_ns is None else at_ns,
    )


def a_place(no: int) -> Place:
    return Place(f"desk-1-{no}", BTC.id, Side.SELL, 6_000_000 + no, 100, level=2)


def program(code: str) -> list[str]:
    """A Python program that sees this project and these helpers."""
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return [sys.executable, "-c", head + textwrap.dedent(code)]


def run_program(code: str, *args: object, timeout_s: float = 60.0) -> str:
    """Run it to its end; its standard output. It must succeed."""
    done = subprocess.run(
        [*program(code), *map(str, args)], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(claim: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Poll until the claim holds; False when it never did."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
