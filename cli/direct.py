"""What a run without a face says: four lines a round, and a report at the end.

Hides: the layout. Must not know: who runs the workers, how often, on which clock. Called by `run.py` for
direct runs, and by `start` in the foreground.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TextIO

from api.desk import FillView, OrdersView, OrderView, SideView, WorkerView
from cli import tables
from cli.text import (
    DASH,
    Cell,
    Column,
    Ink,
    Printer,
    age,
    clean,
    clock,
    count,
    exact,
    gain,
    money,
    price,
    span,
    table,
    terminal_cells,
    wants_colour,
    word,
)

FILLS_SHOWN = 3  # of one round; the rest is counted
_LABEL = 11
REPORT = (
    Column("WORKER"),
    Column("MARKET"),
    Column("LABEL"),
    Column("TRADES", right=True),
    Column("TRADED", right=True),
    Column("REALIZED", right=True),
    Column("UNREALIZED", right=True),
    Column("FEES", right=True),
    Column("NET", right=True),
    Column("WEAR %", right=True),
    Column("POSITION", right=True),
    Column("SENT", right=True),
    Column("CANCELLED", right=True),
    Column("LEFT", right=True),
)


class RoundPrinter:
    """Prints rounds and reports to one stream. Keeps per worker what was sent before, so that a round shows
    its own part.
    """

    def __init__(self, out: TextIO, is_tty: bool) -> None:
        self._out = Printer(out)
        self._is_tty = is_tty
        self._ink = Ink(wants_colour(is_tty))
        self._before: dict[str, tuple[int, int, int]] = {}

    def round(
        self, view: WorkerView, orders: OrdersView, fills_since: tuple[FillView, ...], now_ns: int
    ) -> None:
        """One block: market, prices, decision with its why, execution.

        Args:
            fills_since: fills since the last round, oldest first.
            now_ns: now on the clock of the market (a tape's own), for the age of its data.
        """
        cells = terminal_cells(self._out.stream) if self._is_tty else None
        blocks = (
            ("market", self._market(view, now_ns)),
            ("prices", self._prices(view, orders)),
            ("decision", self._decision(view)),
            ("execution", self._execution(view, fills_since)),
        )
        lines = []
        for name, parts in blocks:
            lines += _wrapped(self._ink(name, "dim") + " " * (_LABEL - len(name)), parts, cells)
        self._out.lines([*lines, ""])

    def report(self, views: Sequence[WorkerView], seconds: float) -> str:
        """`report` in the colours and the width of this stream; it is returned, not printed."""
        cells = terminal_cells(self._out.stream) if self._is_tty else None
        return report(views, seconds, ink=self._ink, cells=cells)

    def _market(self, view: WorkerView, now_ns: int) -> list[str]:
        label = word(view.market)
        head = f"{clean(view.instrument)} {self._ink(label.text, label.style)}"
        if view.best_bid is None or view.best_ask is None or view.market_ns is None:
            since = "" if view.market_ns is None else f" since {clock(view.market_ns)} UTC"
            return [head, f"no two-sided book{since}"]
        return [
            head,
            f"bid {price(view.best_bid, view.tick)}  ask {price(view.best_ask, view.tick)}",
            f"mid {tables.mid(view)}",
            f"spread {tables.bps_text(view.best_bid, view.best_ask)}",
            f"{clock(view.market_ns)} UTC, {age(max(0, now_ns - view.market_ns) / 1e9)} old",
        ]

    def _prices(self, view: WorkerView, orders: OrdersView) -> list[str]:
        return [
            self._ladder(side, [o for o in orders.orders if o.side.upper() == side], view)
            for side in ("BUY", "SELL")
        ]

    def _ladder(self, side: str, orders: Sequence[OrderView], view: WorkerView) -> str:
        name = word(side)
        ranked = sorted(orders, key=lambda o: -o.price if side == "BUY" else o.price)
        if not ranked:
            return f"{self._ink(name.text, name.style)} {DASH}"
        sizes = {o.qty - o.filled for o in ranked}
        size = (
            f" × {exact(sizes.pop())}"
            if len(sizes) == 1
            else f" × {exact(min(sizes))} to {exact(max(sizes))}"
        )
        doubt = f" {sum(o.is_unknown for o in ranked)} UNKNOWN" if any(o.is_unknown for o in ranked) else ""
        return (
            f"{self._ink(name.text, name.style)} {' '.join(price(o.price, view.tick) for o in ranked[:3])}"
            + (f" .. {price(ranked[-1].price, view.tick)}" if len(ranked) > 3 else "")
            + size
            + self._ink(doubt, "red")
        )

    def _decision(self, view: WorkerView) -> list[str]:
        state = word(view.word)
        reason = f" {clean(view.reason)}" if view.reason else ""
        return [
            f"{self._ink(state.text, state.style)}{reason}",
            f"BUY {_why(view.buy, view)}",
            f"SELL {_why(view.sell, view)}",
        ]

    def _execution(self, view: WorkerView, fills: Sequence[FillView]) -> list[str]:
        s = view.stats
        sent, canceled, refused = self._before.get(view.id, (0, 0, 0))
        self._before[view.id] = (s.orders_sent, s.cancels_sent, s.refused)
        counts = [f"{_part(s.orders_sent, sent)} sent", f"{_part(s.cancels_sent, canceled)} cancelled"]
        if _part(s.refused, refused):
            counts.append(f"{_part(s.refused, refused)} refused")
        counts.append(count(len(fills), "fill"))
        if len(fills) > FILLS_SHOWN:
            counts.append("the newest")
        net = gain(s.net)
        parts = [", ".join(counts) + (":" if fills else "")]
        parts += [
            f"{self._ink(f.side.upper(), word(f.side).style)} {exact(f.qty)} @ {exact(f.price)} "
            f"{'maker' if f.is_maker else 'taker'}"
            for f in fills[-FILLS_SHOWN:]
        ]
        parts.append(f"position {tables.position(view)} {clean(view.base)}")
        parts.append(f"net {self._ink(net.text, net.style)} {clean(view.quote)}")
        if view.unknown_orders:
            parts.append(self._ink(f"UNKNOWN: {count(view.unknown_orders, 'order')}", "red"))
        return parts


def _wrapped(label: str, parts: Sequence[str], cells: int | None) -> list[str]:
    """The parts on one line, or on as many as a narrow terminal needs, below each other."""
    lines = [label]
    for place, part in enumerate(parts):
        gap = "   " if place else ""
        if cells is not None and place and tables.ink_width(lines[-1] + gap + part) > cells:
            lines.append(" " * _LABEL + part)
        else:
            lines[-1] += gap + part
    return lines


def report(
    views: Sequence[WorkerView], seconds: float, *, ink: Ink | None = None, cells: int | None = None
) -> str:
    """The end of a run as text, without a newline at its end: what was traded, what it made, what is left.

    Args:
        seconds: how long it ran, on the clock of the market.
        cells: width of the terminal; where the workers' lines do not fit each worker becomes a column.

    Wear rate is -net/traded in percent, so positive is cost.
    """
    ink = ink or Ink(False)
    rows: list[list[Cell]] = [
        [
            Cell(clean(view.name or view.id)),
            Cell(clean(view.instrument)),
            word(view.market),
            Cell(str(view.stats.trades)),
            Cell(f"{money(view.stats.traded_quote)} {clean(view.quote)}"),
            Cell(money(view.stats.realized, sign=True)),
            Cell(money(view.stats.unrealized, sign=True)),
            Cell(money(view.stats.fees)),
            Cell(f"{gain(view.stats.net).text} {clean(view.quote)}", gain(view.stats.net).style),
            Cell(money(view.stats.wear_rate, sign=True)),
            Cell(f"{tables.position(view)} {clean(view.base)}"),
            Cell(str(view.stats.orders_sent)),
            Cell(str(view.stats.cancels_sent)),
            Cell(str(view.open_orders) + (f"+{view.unknown_orders}?" if view.unknown_orders else "")),
        ]
        for view in views
    ]
    body = table(REPORT, rows, ink)
    if cells is not None and max(map(tables.ink_width, body)) > cells:
        turned = [[Cell(c.title, "dim"), *(row[i] for row in rows)] for i, c in enumerate(REPORT)]
        body = table([Column(""), *(Column("", right=True) for _ in rows)], turned, ink)[1:]
    lines = [ink(f"report after {span(seconds)}", "bold"), *body]
    lines += _totals(views, ink) if len(views) > 1 else []
    for view in views:
        if view.receipt is not None:
            lines.append(f"{clean(view.name or view.id)}: {tables.receipt_text(view.receipt, ink)}")
    return "\n".join(lines)


def _totals(views: Sequence[WorkerView], ink: Ink) -> list[str]:
    """Net per quote currency; currencies are never added up, and one unknown part makes its sum unknown."""
    lines = []
    for quote in dict.fromkeys(view.quote for view in views):
        nets = [view.stats.net for view in views if view.quote == quote]
        known = [net for net in nets if net is not None]
        total = gain(sum(known, Decimal(0)) if len(known) == len(nets) else None)
        lines.append(f"total net {ink(total.text, total.style)} {clean(quote)}")
    return lines


def _why(side: SideView, view: WorkerView) -> str:
    if not side.is_quoting:
        return f"silent: {clean(side.reason or 'no reason told')}"
    total = price(side.price, view.tick)
    told = f"{tables.terms(side.terms)} = {total}" if side.terms else total
    return told + (f" ({clean(side.reason)})" if side.reason else "")


def _part(now: int, before: int) -> int:
    """What this round added; a worker that began anew counts from zero."""
    return now - before if now >= before else now
