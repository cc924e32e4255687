"""What the paper venue lists, what an account starts with, and the file that replaces both.

Hides the file's format. Knows no market, no account. Called by `run.py` and the registry.

Tick, lot and minimums are those of the Binance spot symbols of the same name. Fees imitate the regular tier
of Binance's USD-M schedule: maker 0.02 %, taker 0.05 % of value. (Binance spot's own entry tier is 0.1 %
each, at which nobody can quote a spread of 0.05 %; a file sets other fees, a negative maker fee is a rebate.)
Fees are always charged in the quote asset: Binance takes them from the asset received. That difference is on
purpose, it keeps every fee of a market in one currency.

The file is JSON; either key may be left out, and then the built-in value stays:

    {"instruments": [{"symbol": "BTC-USDT", "tick": "0.01", "lot": "0.00001", "min_qty": "0.00001",
                      "min_notional": "5", "maker_fee": "-0.0001", "taker_fee": "0.0004",
                      "venue_symbol": "BTCUSDT", "max_qty": "9000"}],
     "balances": {"USDT": "100000", "BTC": "2"}}

`venue_symbol` (default: the symbol without the dash) and `max_qty` (default: none) are optional. Amounts are
decimal text or numbers; text is exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from api.errors import BadInput
from api.types import Fill, Instrument, InstrumentId, Side

VENUE = "paper"
MAKER_FEE = Decimal("0.0002")
TAKER_FEE = Decimal("0.0005")

_SYMBOL = re.compile(r"[A-Z0-9]{2,12}-[A-Z0-9]{2,12}")
_ASSET = re.compile(r"[A-Z0-9]{2,12}")
_REQUIRED = ("symbol", "tick", "lot", "min_qty", "min_notional", "maker_fee", "taker_fee")
_OPTIONAL = ("venue_symbol", "max_qty")
_FILE_LIMIT_BYTES = 4_000_000


def _spot(symbol: str, tick: str, lot: str, min_qty: str, max_qty: str) -> Instrument:
    base, _, quote = symbol.partition("-")
    return Instrument(
        id=InstrumentId.of(VENUE, symbol),
        base=base,
        quote=quote,
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_qty=Decimal(min_qty),
        min_notional=Decimal(5),
        maker_fee=MAKER_FEE,
        taker_fee=TAKER_FEE,
        venue_symbol=base + quote,
        max_qty=Decimal(max_qty),
    )


BUILTIN: tuple[Instrument, ...] = (
    _spot("BTC-USDT", "0.01", "0.00001", "0.00001", "9000"),
    _spot("ETH-USDT", "0.01", "0.0001", "0.0001", "9000"),
    _spot("SOL-USDT", "0.01", "0.001", "0.001", "90000"),
    _spot("SOL-USDC", "0.01", "0.001", "0.001", "90000"),
    _spot("BNB-USDT", "0.01", "0.001", "0.001", "90000"),
    _spot("XRP-USDT", "0.0001", "0.1", "0.1", "9000000"),
)
"""Quantities in base units, minimum value 5 quote units."""

START_BALANCES: dict[str, Decimal] = {
    "USDT": Decimal(100_000),
    "USDC": Decimal(100_000),
    "BTC": Decimal(2),
    "ETH": Decimal(40),
    "SOL": Decimal(700),
    "BNB": Decimal(170),
    "XRP": Decimal(160_000),
}
"""Of each new account: about as much in coins as in dollars at the prices of 2024, so that both sides can
quote."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a venue trades and what a new account gets."""

    instruments: tuple[Instrument, ...] = BUILTIN
    balances: Mapping[str, Decimal] = field(default_factory=lambda: dict(START_BALANCES))


def load_instruments(path: str | Path) -> Listing:
    """Read the file described above.

    Raises:
        BadInput: names the file and the field in it, what is wrong, and what is allowed. Nothing is half
        loaded.
    """
    where = str(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(_FILE_LIMIT_BYTES + 1)
        if len(raw) > _FILE_LIMIT_BYTES:
            raise BadInput(
                where, f"is larger than {_FILE_LIMIT_BYTES} bytes; an instruments file is a few kilobytes"
            )
        # numbers become Decimal from their own text, so that 0.1 in the file is 0.1
        told = json.loads(raw, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal)
    except OSError as error:
        raise BadInput(where, f"cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadInput(where, f"is not JSON: {error}") from None
    if not isinstance(told, dict):
        raise BadInput(where, 'must be an object with "instruments" and/or "balances"')
    _known(told, ("instruments", "balances"), where)
    instruments: tuple[Instrument, ...] = BUILTIN
    balances = dict(START_BALANCES)
    if "instruments" in told:
        rows = told["instruments"]
        if not isinstance(rows, list) or not rows:
            raise BadInput(f"{where}: instruments", "must be a list with at least one instrument")
        instruments = tuple(_instrument(row, f"{where}: instruments[{n}]") for n, row in enumerate(rows))
        seen: set[str] = set()
        for n, one in enumerate(instruments):
            if one.id in seen:
                raise BadInput(f"{where}: instruments[{n}].symbol", f"{one.symbol} is listed twice")
            seen.add(one.id)
    if "balances" in told:
        rows = told["balances"]
        if not isinstance(rows, dict):
            raise BadInput(f"{where}: balances", 'must be an object such as {"USDT": "100000"}')
        balances = {}
        for asset, amount in rows.items():
            field = f"{where}: balances.{asset}"
            if not _ASSET.fullmatch(asset):
                raise BadInput(field, "asset names are 2 to 12 capital letters or digits")
            balances[asset] = _amount(amount, field, f"{asset} units", least=Decimal(0))
    return Listing(instruments, balances)


def settled(
    start: Mapping[str, Decimal], fills: Iterable[Fill], instruments: Iterable[Instrument]
) -> dict[str, Decimal]:
    """Balances after these fills, for a venue that is built again: what an account started with and its own
    record.

    Fills of instruments that are no longer listed are left out; an asset never goes below zero (which can
    only happen when the file's start balances were lowered since).
    """
    terms = {one.id: one for one in instruments}
    amounts = dict(start)
    for fill in fills:
        instrument = terms.get(fill.instrument)
        if instrument is None:
            continue
        sign = fill.side.sign
        base, quote = instrument.base, instrument.quote
        amounts[base] = amounts.get(base, Decimal(0)) + sign * instrument.qty(fill.lots)
        value = instrument.value(fill.ticks, fill.lots)
        amounts[quote] = amounts.get(quote, Decimal(0)) - sign * value - fill.fee
    return {asset: max(amount, Decimal(0)) for asset, amount in amounts.items()}


def reserve_rate(instrument: Instrument) -> Decimal:
    """Share of value a buy reserves for its fee: the worse of the two fees, and nothing for rebates."""
    return max(instrument.maker_fee, instrument.taker_fee, Decimal(0))


def needed(instrument: Instrument, side: Side, ticks: int, lots: int) -> tuple[str, Decimal]:
    """(asset, amount) that an order of `lots` at `ticks` keeps locked."""
    if side is Side.SELL:
        return instrument.base, instrument.qty(lots)
    return instrument.quote, instrument.value(ticks, lots) * (1 + reserve_rate(instrument))


def _instrument(row: Any, where: str) -> Instrument:
    if not isinstance(row, dict):
        raise BadInput(where, f"must be an object with {', '.join(_REQUIRED)}")
    _known(row, _REQUIRED + _OPTIONAL, where)
    for name in _REQUIRED:
        if name not in row:
            raise BadInput(f"{where}.{name}", "is missing")
    symbol = row["symbol"]
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise BadInput(f"{where}.symbol", f"must be BASE-QUOTE in capital letters or digits, got {symbol!r}")
    base, _, quote = symbol.partition("-")
    if base == quote:
        raise BadInput(f"{where}.symbol", "base and quote must differ")
    above_zero = Decimal("1e-18")
    units = {
        "tick": f"{quote} per {base}",
        "lot": base,
        "min_qty": base,
        "min_notional": quote,
        "max_qty": base,
    }
    tick = _amount(row["tick"], f"{where}.tick", units["tick"], least=above_zero)
    lot = _amount(row["lot"], f"{where}.lot", units["lot"], least=above_zero)
    min_qty = _amount(row["min_qty"], f"{where}.min_qty", units["min_qty"], least=Decimal(0))
    min_notional = _amount(
        row["min_notional"], f"{where}.min_notional", units["min_notional"], least=Decimal(0)
    )
    fees = {
        name: _amount(
            row[name],
            f"{where}.{name}",
            "as a fraction of value",
            least=Decimal("-0.01"),
            most=Decimal("0.1"),
        )
        for name in ("maker_fee", "taker_fee")
    }
    max_qty = None
    if row.get("max_qty") is not None:
        max_qty = _amount(row["max_qty"], f"{where}.max_qty", units["max_qty"], least=max(min_qty, lot))
    venue_symbol = row.get("venue_symbol", base + quote)
    if not isinstance(venue_symbol, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", venue_symbol):
        raise BadInput(f"{where}.venue_symbol", "must be 1 to 32 letters, digits, dashes or underscores")
    return Instrument(
        id=InstrumentId.of(VENUE, symbol),
        base=base,
        quote=quote,
        tick=tick,
        lot=lot,
        min_qty=min_qty,
        min_notional=min_notional,
        maker_fee=fees["maker_fee"],
        taker_fee=fees["taker_fee"],
        venue_symbol=venue_symbol,
        max_qty=max_qty,
    )


def _known(told: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for name in told:
        if name not in allowed:
            raise BadInput(f"{where}.{name}", f"there is no such field; allowed: {', '.join(allowed)}")


def _amount(told: Any, field: str, unit: str, *, least: Decimal, most: Decimal = Decimal("1e15")) -> Decimal:
    allowed = f"a number from {_plain(least)} to {_plain(most)} ({unit})"
    if isinstance(told, bool) or not isinstance(told, (str, Decimal)):
        raise BadInput(field, f"must be {allowed}, got {told!r}")
    try:
        value = Decimal(told)
    except InvalidOperation:
        raise BadInput(field, f"must be {allowed}, got {told!r}") from None
    if not value.is_finite() or not least <= value <= most:
        raise BadInput(field, f"must be {allowed}, got {told}")
    return value


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
