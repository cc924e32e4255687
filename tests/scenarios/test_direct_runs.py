"""Direct runs as a person starts them: real processes on the recorded market, and on the synthetic one."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.processes import Family, Program, until

Cut = Callable[[Path, float], Path]

TICK, LOT = Decimal("0.01"), Decimal("0.00001")  # of BTC-USDT at the paper venue
TIGHT = ("--exchange", "paper", "--spread", "0.002", "--max-orders", "3", "--quantity", "0.01", "--seed", "7")
AMOUNTS = ("total", "realized", "unrealized", "fees")
Touch = tuple[Decimal, Decimal, Decimal, Decimal]  # bid, its size, ask, its size
MARKET_KEYS = {
    "diffs_applied",
    "resyncs",
    "trades",
    "base_volume",
    "taker_buy_volume",
    "vwap",
    "best_bid",
    "best_ask",
    "book_ticker_checked",
    "book_ticker_mismatches",
}


def report_of(program: Program, *, within_s: float = 90.0) -> dict[str, Any]:
    """The one object of a run that ended well; its standard output holds nothing else."""
    assert program.code(within_s=within_s) == 0, program.err
    report: dict[str, Any] = json.loads(program.out)
    assert program.out.count("\n") == 1
    return report


def is_plain(text: Any) -> bool:
    """Decimal text without exponent or a needless zero."""
    return isinstance(text, str) and format(Decimal(text), "f") == text and not text.startswith("+")


def on_tape(family: Family, *words: str, tape: Path, **more: Any) -> Program:
    return family.run(*TIGHT, "--tape", str(tape), "--speed", "max", "--json", *words, **more)


# --------------------------------------------------------------------------------------- the whole recordings


@pytest.mark.slow
def test_both_recordings_together_play_to_their_end_and_every_book_ticker_agrees(
    family: Family, btc_tape: Path, eth_tape: Path
) -> None:
    program = family.run(
        *TIGHT,
        *("--symbol", "BTC-USDT", "--symbol", "ETH-USDT", "--tape", str(btc_tape), str(eth_tape)),
        *("--speed", "max", "--json"),
    )
    report = report_of(program, within_s=110.0)
    assert set(report) == {"schema", "event_hash", "orders_sent", "fills", "position", "pnl", "markets"}
    assert report["schema"] == 1
    assert len(bytes.fromhex(report["event_hash"])) == 32
    assert report["orders_sent"] > 500
    assert report["fills"] > 100
    assert set(report["position"]) == {"BTC-USDT", "ETH-USDT"}
    assert all(is_plain(held) for held in report["position"].values())
    assert set(report["pnl"]) == {*AMOUNTS, "currency"}
    assert all(is_plain(report["pnl"][name]) for name in AMOUNTS)
    pnl = {name: Decimal(report["pnl"][name]) for name in AMOUNTS}
    assert pnl["total"] == pnl["realized"] + pnl["unrealized"] - pnl["fees"]
    assert report["pnl"]["currency"] == "USDT"
    assert set(report["markets"]) == {"BTC-USDT", "ETH-USDT"}
    for tape, symbol in ((btc_tape, "BTC-USDT"), (eth_tape, "ETH-USDT")):
        market = report["markets"][symbol]
        assert set(market) == MARKET_KEYS
        assert market["resyncs"] == 0
        assert market["book_ticker_checked"] > 300
        assert market["book_ticker_mismatches"] == 0
        told = totals(tape)
        assert market["trades"] == told.trades
        assert Decimal(market["base_volume"]) == told.base
        assert Decimal(market["taker_buy_volume"]) == told.bought
        assert market["vwap"] == format((told.quote / told.base).quantize(Decimal("1e-8")), "f")
        assert Decimal(market["best_bid"][0]) < Decimal(market["best_ask"][0])
        assert market["diffs_applied"] > 3_400


# ------------------------------------------------------------------------------------------------ determinism


def test_the_same_run_has_the_same_hash_whatever_surrounds_it(
    family: Family, btc_tape: Path, cut: Cut, tmp_path: Path
) -> None:
    tape = cut(btc_tape, 40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = on_tape(family, "--symbol", "BTC-USDT", tape=tape, env={"PYTHONHASHSEED": "1"})
    second = on_tape(
        family,
        *("--symbol", "BTC-USDT", "--data-dir", str(tmp_path / "kept")),
        tape=tape,
        env={"PYTHONHASHSEED": "4242", "TZ": "Asia/Taipei", "LC_ALL": "C"},
        cwd=elsewhere,
    )
    one, two = report_of(first), report_of(second)
    assert one == two
    assert one["fills"] > 20


def test_another_spread_or_another_seat_is_another_hash(
    family: Family, btc_tape: Path, eth_tape: Path, cut: Cut
) -> None:
    tape, other = cut(btc_tape, 20), cut(eth_tape, 20)
    wide = on_tape(family, "--symbol", "BTC-USDT", "--enable-db", tape=tape)
    words = ("--exchange", "paper", "--symbol", "BTC-USDT", "--spread", "0.003", "--quantity", "0.01")
    near = family.run(*words, "--tape", str(tape), "--speed", "max", "--json", "--seed", "7")
    both = on_tape(family, "--symbol", "BTC-USDT", tape=tape, env={"MAKERDECK_TAPE": str(other)})
    reports = [report_of(program) for program in (wide, near, both)]
    assert reports[0]["event_hash"] != reports[1]["event_hash"]
    # the environment's tape gives way to the flag's
    assert reports[0] == reports[2]


# --------------------------------------------------------------------------------------- against the raw tape


def test_no_fill_is_better_than_the_raw_tape_allows(
    family: Family, btc_tape: Path, cut: Cut, tmp_path: Path
) -> None:
    tape = cut(btc_tape, 90)
    kept = tmp_path / "kept"
    report = report_of(on_tape(family, "--symbol", "BTC-USDT", "--data-dir", str(kept), tape=tape))
    fills = fills_of(kept / "state.db")
    assert len(fills) == report["fills"]
    assert len(fills) > 50
    assert Decimal(report["position"]["BTC-USDT"]) == sum(fill.signed for fill in fills)
    at: dict[int, list[StoredFill]] = {}
    for fill in fills:
        assert fill.is_maker, "a standard maker only posts"
        at.setdefault(fill.venue_ns, []).append(fill)
    explained = 0
    for moment in replay(tape):
        mine = at.pop(moment.ns, [])
        for is_bid in (True, False):
            side = [fill for fill in mine if fill.is_buy is is_bid]
            if not side:
                continue
            explained += len(side)
            assert_possible(side, is_bid, moment)
    assert not at, "a fill at a moment the tape does not have"
    assert explained == len(fills)


@dataclass
class Moment:
    """Everything the tape says at one receive time: its trades, and the sizes on both sides."""

    ns: int
    trades: list[tuple[bool, Decimal, Decimal]] = field(default_factory=list)  # seller aggressed, price, size
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    touch: Touch | None = None


@dataclass(frozen=True)
class StoredFill:
    is_buy: bool
    price: Decimal
    qty: Decimal
    is_maker: bool
    venue_ns: int

    @property
    def signed(self) -> Decimal:
        return self.qty if self.is_buy else -self.qty


def fills_of(path: Path) -> list[StoredFill]:
    """Every fill of a state.db, read without our own code."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT side, ticks, lots, is_maker, venue_ns FROM fills ORDER BY no").fetchall()
    db.close()
    return [
        StoredFill(side == "buy", TICK * int(t), LOT * int(n), bool(m), int(ns)) for side, t, n, m, ns in rows
    ]


def replay(tape: Path) -> Iterator[Moment]:
    """The raw tape, moment by moment, by a reader of its own: a dict a side, nothing clever."""
    bids: dict[Decimal, Decimal] = {}
    asks: dict[Decimal, Decimal] = {}
    touch: Touch | None = None
    moment: Moment | None = None
    for line in tape.read_bytes().splitlines():
        ns, _, raw = line.partition(b" ")
        told = json.loads(raw)
        if moment is None or moment.ns != int(ns):
            if moment is not None:
                yield moment
            moment = Moment(int(ns), bids=bids, asks=asks, touch=touch)
        data = told.get("data", told)
        if "lastUpdateId" in data:
            bids.update((Decimal(p), Decimal(q)) for p, q in data["bids"])
            asks.update((Decimal(p), Decimal(q)) for p, q in data["asks"])
        elif data.get("e") == "depthUpdate":
            for levels, book in ((data["b"], bids), (data["a"], asks)):
                for p, q in levels:
                    book[Decimal(p)] = Decimal(q)
        elif data.get("e") == "trade":
            moment.trades.append((data["m"], Decimal(data["p"]), Decimal(data["q"])))
        else:
            touch = (Decimal(data["b"]), Decimal(data["B"]), Decimal(data["a"]), Decimal(data["A"]))
            moment.touch = touch
    if moment is not None:
        yield moment


def assert_possible(fills: list[StoredFill], is_bid: bool, moment: Moment) -> None:
    """Fills of one side at one moment: each was reached by a trade or by the opposite side's touch, and all
    of them together are no more than what traded or stood there.
    """
    reached = [(price, size) for seller_aggressed, price, size in moment.trades if seller_aggressed is is_bid]
    standing = {p: q for p, q in (moment.asks if is_bid else moment.bids).items() if q}
    if moment.touch is not None:
        bid, bid_size, ask, ask_size = moment.touch
        standing[ask if is_bid else bid] = ask_size if is_bid else bid_size
    for fill in fills:
        prices = [price for price, _ in reached] + list(standing)
        assert any(price <= fill.price if is_bid else price >= fill.price for price in prices), (
            fill,
            moment.ns,
        )
    limit = max(fill.price for fill in fills) if is_bid else min(fill.price for fill in fills)
    offered = [*reached, *standing.items()]
    there = sum(q for p, q in offered if (p <= limit if is_bid else p >= limit))
    assert sum(fill.qty for fill in fills) <= there, (fills, moment.ns)


@dataclass
class Totals:
    trades: int = 0
    base: Decimal = Decimal(0)
    bought: Decimal = Decimal(0)
    quote: Decimal = Decimal(0)


def totals(tape: Path) -> Totals:
    """Trades of a recording, added up from its raw lines."""
    found = Totals()
    with gzip.open(tape, "rb") as lines:
        for line in lines:
            if b'"e":"trade"' not in line:
                continue
            data = json.loads(line.partition(b" ")[2])["data"]
            size = Decimal(data["q"])
            found.trades += 1
            found.base += size
            found.bought += 0 if data["m"] else size
            found.quote += size * Decimal(data["p"])
    return found


# ------------------------------------------------------------------------------------------ time, stop, words


def test_duration_and_interval_count_the_tapes_own_time(family: Family, btc_tape: Path, cut: Cut) -> None:
    tape = cut(btc_tape, 40)
    # tape seconds: 20 of them take well under a second at full speed, and the market is followed to its end
    program = family.run(
        *TIGHT,
        *("--symbol", "BTC-USDT", "--tape", str(tape), "--speed", "max"),
        *("--duration", "20", "--interval", "5"),
    )
    assert program.code() == 0, program.err
    rounds = program.out.count("\nmarket ") + program.out.startswith("market ")
    assert rounds == 3, program.out
    assert "report after 0:00:20" in program.out
    for word in ("market", "prices", "decision", "execution"):
        assert f"\n{word} " in program.out
    assert "REPLAY" in program.out
    assert "Traceback" not in program.err


def test_ctrl_c_in_the_middle_ends_with_no_own_order_and_a_report(
    family: Family, btc_tape: Path, cut: Cut, tmp_path: Path
) -> None:
    program = family.run(
        *TIGHT,
        *("--symbol", "BTC-USDT", "--tape", str(cut(btc_tape, 60)), "--speed", "4", "--interval", "1"),
        *("--json", "--data-dir", str(tmp_path / "kept")),
    )
    until(lambda: (tmp_path / "kept" / "intents.log").exists() and intents(tmp_path / "kept"), "first orders")
    program.process.send_signal(signal.SIGINT)
    report = report_of(program, within_s=10.0)
    assert report["orders_sent"] > 0
    assert "report after" in program.err
    placed, done = intents(tmp_path / "kept", "p"), intents(tmp_path / "kept", "d")
    assert len(placed) == report["orders_sent"]
    assert sorted(placed) == sorted(done), "each order that left has its end"


def intents(data_dir: Path, kind: str = "p") -> list[str]:
    """Client ids in an intent log's records of one kind, read as text."""
    found = []
    for line in (data_dir / "intents.log").read_bytes().splitlines():
        row = json.loads(line[line.index(b"[") : line.rindex(b"]") + 1]) if b"[" in line else []
        if row and row[0] == kind:
            found.append(row[4] if kind == "p" else row[2])
    return found


def test_a_run_without_a_tape_trades_the_synthetic_market_for_its_seconds(family: Family) -> None:
    program = family.run(
        *("--exchange", "paper", "--symbol", "BTC-USDT", "--spread", "0.02", "--max-orders", "2"),
        *("--duration", "3", "--interval", "1"),
    )
    assert program.code() == 0, program.err
    assert "makerdeck direct run on paper, BTC-USDT" in program.out
    assert "report after 0:00:0" in program.out
    assert "SYNTHETIC" in program.out or "LIVE" in program.out
    assert "confirmed" in program.out
