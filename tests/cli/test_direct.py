"""The four lines of a round, and the report at the end."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

from api.desk import OrdersView, WorkerSpec, WorkerView
from cli.direct import RoundPrinter, report
from tests.fakes import START_NS, FakeDesk


def one(desk: FakeDesk) -> WorkerView:
    return desk.worker("w1")


def block(
    view: WorkerView, desk: FakeDesk, printer: RoundPrinter, out: io.StringIO, fills: int = 0
) -> list[str]:
    out.seek(0)
    out.truncate()
    newest = tuple(reversed(desk.fills(worker_id=view.id, limit=max(1, fills)).fills))[:fills]
    printer.round(view, desk.orders(view.id), newest, desk.view().published_ns)
    return out.getvalue().splitlines()


def test_a_round_is_four_lines_market_prices_decision_and_execution() -> None:
    desk, out = FakeDesk(), io.StringIO()
    lines = block(one(desk), desk, RoundPrinter(out, False), out)
    assert lines == [
        "market     paper:BTC-USDT SYNTHETIC   bid 58999.24  ask 58999.26   mid 58999.25   "
        "spread 0.02 (0.003 bps)   06:39:59.980 UTC, 0.0 s old",
        "prices     BUY 58993.35 58993.33 58993.31 × 0.002   SELL 59005.15 59005.17 59005.19 × 0.002",
        "decision   QUOTING   BUY mid 58999.2452 - half spread 5.8999 = 58993.35   "
        "SELL mid 58999.2452 + half spread 5.8999 = 59005.15",
        "execution  6 sent, 0 cancelled, 0 fills   position 0.00000 BTC   net 0.0000 USDT",
        "",
    ]


def test_a_round_counts_what_was_sent_since_the_round_before() -> None:
    desk, out = FakeDesk(), io.StringIO()
    printer = RoundPrinter(out, False)
    block(one(desk), desk, printer, out)
    desk.tick()
    assert block(one(desk), desk, printer, out)[3].startswith("execution  6 sent, 6 cancelled, 0 fills")


def test_the_newest_fills_of_a_round_are_told_and_the_rest_counted() -> None:
    desk, out = FakeDesk(), io.StringIO()
    desk.tick(60)
    line = block(one(desk), desk, RoundPrinter(out, False), out, fills=5)[3]
    assert "5 fills, the newest:" in line
    assert line.count(" @ ") == 3


def test_a_silent_side_says_the_rule_that_silenced_it() -> None:
    desk, out = FakeDesk(), io.StringIO()
    desk.pause("w1", by="test")
    lines = block(one(desk), desk, RoundPrinter(out, False), out)
    assert lines[1] == "prices     BUY —   SELL —"
    assert lines[2].startswith("decision   PAUSED paused by the operator   BUY silent: worker is paused")


def test_a_market_that_is_not_known_says_so_and_shows_no_price() -> None:
    desk, out = FakeDesk(), io.StringIO()
    blank = replace(one(desk), best_bid=None, mid=None, market_ns=None, position=None)
    blank = replace(blank, stats=replace(blank.stats, net=None))
    lines = block(blank, desk, RoundPrinter(out, False), out)
    assert lines[0] == "market     paper:BTC-USDT SYNTHETIC   no two-sided book"
    assert "position — BTC   net — USDT" in lines[3]


def test_orders_whose_fate_is_unknown_are_named() -> None:
    desk, out = FakeDesk(), io.StringIO()
    orders = desk.orders("w1").orders
    lost = OrdersView("w1", START_NS, (replace(orders[0], is_unknown=True), *orders[1:]))
    RoundPrinter(out, False).round(replace(one(desk), unknown_orders=1), lost, (), START_NS)
    assert "1 UNKNOWN" in out.getvalue()
    assert "UNKNOWN: 1 order" in out.getvalue()


def test_the_report_tells_what_was_traded_what_it_made_and_what_is_left() -> None:
    desk = FakeDesk()
    spec = WorkerSpec("market_making", "standard", "paper", "ETH-USDT", {"spread": 0.05}, name="做市")
    desk.start(desk.create(spec, by="test").id, by="test")
    desk.tick(50)
    for worker in desk.workers():
        desk.stop(worker.id, by="test")
    views = desk.workers()
    text = report(views, 75.2)
    assert text.startswith("report after 0:01:15\nWORKER  MARKET")
    total = sum((view.stats.net or Decimal(0) for view in views), Decimal(0))
    assert f"total net {total:+.4f} USDT" in text
    assert text.count("confirmed by the venue") == 2
    assert not text.endswith("\n")


def test_one_unknown_part_makes_the_sum_unknown_and_currencies_are_never_added_up() -> None:
    desk = FakeDesk()
    view = one(desk)
    known = replace(view, stats=replace(view.stats, net=Decimal(1)))
    unknown = replace(view, stats=replace(view.stats, net=None))
    assert "total net — USDT" in report([known, unknown], 1)
    text = report([known, replace(known, quote="EUR")], 1)
    assert "total net +1.0000 USDT\ntotal net +1.0000 EUR" in text


def test_the_report_fits_a_narrow_terminal_by_turning_workers_into_columns() -> None:
    lines = report([one(FakeDesk())], 1, cells=60).splitlines()
    assert lines[1].split() == ["WORKER", "demo"]
    assert max(map(len, lines)) <= 60
