"""A direct run on a tape written here: order of things, time, the report, the hash."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.desk import FillView, OrdersView, WorkerView
from api.errors import BadInput, BadInputs
from database.state import State
from strategies.backtest import plain
from strategies.tape_session import TapeEnd, TapeSession
from strategies.trace import Trace
from tests.makers import place
from tests.quote.frames import START_NS, diff, lines, snapshot, ticker, trade

S = 1_000_000_000
STEP_NS = S // 10
PARAMS: dict[str, Any] = {"spread": 0.002, "quantity": "0.01", "max_orders": 2, "interval": 5}


def price(cents: int) -> str:
    return f"{cents / 100:.2f}"


def swung(mid: int, n: int) -> int:
    return mid + round(mid * 5e-4 * math.sin(2 * math.pi * n / 60))


def write_tape(path: Path, *, seconds: float = 20, symbol: str = "BTCUSDT", mid: int = 6_000_000) -> Path:
    """A market of one tick's spread that swings 5 bps up and down every 6 s; each step prints a trade on both
    sides. The touch is told by diff and ticker alike."""
    frames = [(START_NS, snapshot(100, [(price(mid), "2")], [(price(mid + 1), "2")]))]
    bid, ask, last = mid, mid + 1, 100
    for n in range(1, int(seconds * S / STEP_NS)):
        at_ns = START_NS + n * STEP_NS
        ms = at_ns // 1_000_000
        wanted = swung(mid, n)
        bids, asks = [(price(wanted), "2")], [(price(wanted + 1), "2")]
        if bid != wanted:
            bids.append((price(bid), "0"))
            asks.append((price(ask), "0"))
        bid, ask = wanted, wanted + 1
        frames.append((at_ns, diff(last + 1, last + 1, bids, asks, symbol=symbol, ms=ms)))
        last += 1
        touch = ((price(bid), "2"), (price(ask), "2"))
        frames.append((at_ns + 1_000, ticker(last, *touch, symbol=symbol)))
        frames.append(
            (at_ns + 2_000, trade(2 * n, price(bid), "0.5", buyer_is_maker=True, symbol=symbol, ms=ms))
        )
        frames.append((at_ns + 3_000, trade(2 * n + 1, price(ask), "0.5", symbol=symbol, ms=ms)))
    path.write_bytes(lines(frames))
    return path


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tape(tmp_path_factory.mktemp("tape") / "btc")


def session(*tapes: Path, symbols: tuple[str, ...] = ("BTC-USDT",), **more: Any) -> TapeSession:
    terms: dict[str, Any] = {
        "strategy": "standard",
        "params": PARAMS,
        "duration_s": None,
        "interval_s": 5.0,
        "seed": 7,
        "paper_file": None,
        **more,
    }
    return TapeSession.open(tapes=tapes, symbols=symbols, **terms)


def play(
    made: TapeSession,
    data_dir: Path,
    *,
    stopping: Callable[[], bool] = lambda: False,
    pace: float | None = None,
    wait: Callable[[float], bool] = lambda seconds: False,
    show: Callable[[WorkerView, OrdersView, tuple[FillView, ...], int], None] | None = None,
) -> TapeEnd:
    data_dir.mkdir(exist_ok=True)
    return made.run(data_dir, stopping=stopping, wait=wait, pace=pace, show=show)


def stored(data_dir: Path) -> list[Any]:
    state = State.open(data_dir, desk_tag="tape")
    try:
        return [one.fill for one in state.fills(limit=10_000)]
    finally:
        state.close()


def test_a_run_trades_to_the_end_and_leaves_no_order(tape: Path, tmp_path: Path) -> None:
    ended = play(session(tape), tmp_path / "d")
    report = ended.report
    assert ended.remaining == 0
    assert report["fills"] > 10
    assert report["orders_sent"] > report["fills"] // 3
    fills = stored(tmp_path / "d")
    assert len(fills) == report["fills"]
    held = sum(f.side.sign * f.lots for f in fills) * Decimal("0.00001")
    assert Decimal(report["position"]["BTC-USDT"]) == held
    pnl = {key: Decimal(report["pnl"][key]) for key in ("total", "realized", "unrealized", "fees")}
    assert pnl["total"] == pnl["realized"] + pnl["unrealized"] - pnl["fees"]
    assert pnl["fees"] == sum(f.fee for f in fills)
    view = ended.views[0]
    assert (view.state, view.open_orders, view.position) == ("stopped", 0, held)


def test_the_market_is_told_as_the_tape_has_it(tape: Path, tmp_path: Path) -> None:
    market = play(session(tape), tmp_path / "d").report["markets"]["BTC-USDT"]
    steps = 20 * 10 - 1
    assert (market["diffs_applied"], market["trades"], market["resyncs"]) == (steps, 2 * steps, 0)
    assert (market["base_volume"], market["taker_buy_volume"]) == (
        plain(Decimal(steps)),
        plain(Decimal(steps) / 2),
    )
    assert (market["book_ticker_checked"], market["book_ticker_mismatches"]) == (steps, 0)
    last = swung(6_000_000, steps)
    assert market["best_bid"] == [plain(Decimal(last) / 100), "2"]
    assert market["best_ask"] == [plain(Decimal(last + 1) / 100), "2"]


def test_the_same_run_is_the_same_report_in_any_directory_and_again_in_the_same(
    tape: Path, tmp_path: Path
) -> None:
    reports = [play(session(tape), tmp_path / name).report for name in ("a", "b", "a")]
    assert reports[0] == reports[1] == reports[2]
    fills = stored(tmp_path / "a")
    assert len(fills) == 2 * reports[0]["fills"], "each run keeps its own fills"


def test_pace_changes_nothing_but_the_waiting(tape: Path, tmp_path: Path) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    slow = play(session(tape), tmp_path / "a", pace=2.0, wait=wait).report
    assert slow == play(session(tape), tmp_path / "b").report
    assert sum(waited) == pytest.approx(19.9 / 2, abs=0.1)


def test_other_parameters_are_another_hash(tape: Path, tmp_path: Path) -> None:
    one = play(session(tape), tmp_path / "a").report
    other = play(session(tape, params={**PARAMS, "spread": 0.003}), tmp_path / "b").report
    assert one["event_hash"] != other["event_hash"]
    assert one["markets"] == other["markets"]


def test_the_duration_is_tape_time_and_the_market_is_followed_to_the_end(tape: Path, tmp_path: Path) -> None:
    ended = play(session(tape, duration_s=7.0), tmp_path / "d")
    assert ended.remaining == 0
    assert ended.seconds == pytest.approx(7.0, abs=0.2)
    assert max(f.venue_ns for f in stored(tmp_path / "d")) < START_NS + 7.1 * S
    assert ended.report["markets"]["BTC-USDT"]["trades"] == 398


def test_rounds_come_every_interval_of_tape_time(tape: Path, tmp_path: Path) -> None:
    rounds: list[int] = []

    def show(view: WorkerView, orders: OrdersView, fills: tuple[FillView, ...], now_ns: int) -> None:
        rounds.append(now_ns)

    play(session(tape), tmp_path / "d", show=show)
    assert [round((at_ns - START_NS) / S) for at_ns in rounds] == [5, 10, 15]


def test_a_stop_in_the_middle_cancels_everything_and_reports(tape: Path, tmp_path: Path) -> None:
    looks = iter(range(10_000))
    ended = play(session(tape), tmp_path / "d", stopping=lambda: next(looks) > 200)
    assert ended.remaining == 0
    assert 0 < ended.report["orders_sent"]
    assert ended.report["markets"]["BTC-USDT"]["trades"] < 300
    assert ended.views[0].open_orders == 0


def test_nothing_is_filled_before_it_could_have_arrived_and_been_heard(tape: Path, tmp_path: Path) -> None:
    play(session(tape), tmp_path / "d")
    first = min(f.venue_ns for f in stored(tmp_path / "d"))
    assert first >= START_NS + STEP_NS, "the first quotes need a book and 20 ms to the venue"


def test_two_markets_and_two_workers_share_one_account(tmp_path: Path) -> None:
    btc = write_tape(tmp_path / "btc", seconds=12)
    eth = write_tape(tmp_path / "eth", seconds=12, symbol="ETHUSDT", mid=250_000)
    params = {**PARAMS, "quantity": "0.05"}
    both = ("BTC-USDT", "ETH-USDT")
    ended = play(session(btc, eth, symbols=both, params=params), tmp_path / "d")
    assert ended.remaining == 0
    assert set(ended.report["position"]) == set(ended.report["markets"]) == set(both)
    assert {f.instrument.symbol for f in stored(tmp_path / "d")} == set(both)
    alone = play(session(btc, eth, symbols=both[:1], params=params), tmp_path / "e")
    assert alone.report["markets"] == ended.report["markets"], "a market nobody traded is told all the same"
    assert set(alone.report["position"]) == {"BTC-USDT"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"symbols": ("ETH-USDT",)}, "'ETH-USDT' is not on the tape; allowed: BTC-USDT"),
        ({"symbols": ("NO-SUCH",)}, "'NO-SUCH' is unknown; allowed: BTC-USDT"),
        ({"params": {**PARAMS, "quantity": "0.000001"}}, "below the venue's minimum"),
        ({"params": {**PARAMS, "spread": 0}}, "params.spread"),
        ({"params": {**PARAMS, "bogus": 1}}, "unknown parameter"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(
    tape: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises((BadInput, BadInputs)) as refused:
        session(tape, **change)
    assert says in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_trace_knows_no_run_number() -> None:
    traces = []
    for client_id in ("mdtape0010001000007", "mdtape001000z000007", "mdtape0010001000008"):
        trace = Trace()
        trace(place(client_id))
        traces.append(trace.hexdigest())
    assert traces[0] == traces[1] != traces[2]
