"""Views of the desk as lines of text: fleet, one worker, book, orders, fills, feeds.

Hides: which fields a trader wants beside each other, and in what order. Must not know: commands, the
terminal, where the views came from. Called by `cli.commands`, `cli.live` and `cli.direct`. A price has the
decimals of its tick, LIVE, REPLAY or SYNTHETIC stands beside it, and what is not known is a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from api.desk import (
    BookView,
    DeskView,
    FeedsView,
    FillView,
    NoticeView,
    OrderView,
    ReceiptView,
    SideView,
    WorkerView,
)
from cli.flags import Entry
from cli.text import (
    DASH,
    Cell,
    Column,
    Ink,
    age,
    bar,
    clean,
    clock,
    count,
    digits,
    exact,
    fit,
    fixed,
    gain,
    money,
    price,
    shortest,
    signed,
    span,
    stamp,
    table,
    width,
    word,
)

ACTIVE = frozenset({"running", "paused", "stopping"})
LABEL = 11  # cells of the names at the left of a worker's sheet


def named(view: WorkerView) -> str:
    """Name and id, or the id alone where that is its name too."""
    return f"{clean(view.name)} ({clean(view.id)})" if view.name and view.name != view.id else clean(view.id)


def is_active(view: WorkerView) -> bool:
    """It quotes, may quote again by itself, or still has orders to take back."""
    return view.state in ACTIVE


def desk_lines(
    view: DeskView, ink: Ink, *, is_own: bool, health: Mapping[str, Any] | None = None
) -> list[str]:
    """The desk in three or four lines; a latched kill first."""
    lines = []
    if view.is_killed:
        lines.append(
            ink(
                f" KILLED: {clean(view.kill_reason) or 'no reason given'}; nothing is sent until `release` ",
                "alarm",
            )
        )
    market = word(view.market)
    doubt = f", {view.unknown_orders} UNKNOWN" if view.unknown_orders else ""
    net = gain(view.net)
    partial = " (not every worker could be valued)" if view.net_is_partial else ""
    where = "this process" if is_own else "a running desk"
    lines += [
        f"{ink(clean(view.name), 'bold')}  {clean(view.env)}  {ink(market.text, market.style)}  "
        f"version {clean(view.version)}  in {where}  since {stamp(view.started_ns)} UTC",
        f"workers {view.running} running of {view.workers}   orders {view.open_orders} open{doubt}   "
        f"net {ink(net.text, net.style)} {clean(view.net_currency)}{partial}".rstrip(),
        f"bus {clean(view.bus)}"
        + (f" LOST for {age(view.lost_bus_s)}" if view.lost_bus_s > 0 else "")
        + f"   trade log {'on' if view.database else 'off'}   lane lag {view.lane_lag_ms:.1f} ms",
    ]
    if health is not None:
        status = str(health.get("status", "?"))
        checks = health.get("checks") or {}
        told = "; ".join(f"{clean(str(k))}: {clean(str(v))}" for k, v in checks.items())
        lines.append(
            f"health {ink(clean(status), 'green' if status == 'ok' else 'yellow')}"
            + (f"   {told}" if told else "")
        )
    return lines


FLEET = (
    Column("ID"),
    Column("NAME", flex=True),
    Column("SYMBOL"),
    Column("MARKET", rank=1),
    Column("STATE"),
    Column("OUR BID", right=True, rank=3),
    Column("MID", right=True, rank=2),
    Column("OUR ASK", right=True, rank=3),
    Column("POSITION", right=True),
    Column("NET", right=True),
    Column("ORDERS", right=True, rank=4),
    Column("TRADES", right=True, rank=4),
    Column("RUNNING", right=True, rank=5),
    Column("WHY", rank=6, flex=True),
)


def fleet(
    views: Sequence[WorkerView], ink: Ink, *, cells: int | None = None, chosen: str | None = None
) -> list[str]:
    """One line a worker. `chosen` marks one by its id (for the live view)."""
    rows = []
    for view in views:
        mark = "" if chosen is None else "▸" if view.id == chosen else " "
        net = gain(view.stats.net)
        doubt = f"+{view.unknown_orders}?" if view.unknown_orders else ""
        rows.append(
            [
                Cell(mark + clean(view.id), "bold" if view.id == chosen else ""),
                Cell(clean(view.name) + (" (demo)" if view.is_demo and view.name != "demo" else "")),
                Cell(f"{clean(view.venue)}:{clean(view.symbol)}"),
                word(view.market),
                word(view.word),
                Cell(price(view.buy.price, view.tick)),
                Cell(mid(view)),
                Cell(price(view.sell.price, view.tick)),
                Cell(position(view)),
                Cell(f"{net.text} {clean(view.quote)}", net.style),
                Cell(f"{view.open_orders}{doubt}", "red" if doubt else ""),
                Cell(str(view.stats.trades)),
                Cell(span(view.running_s)),
                Cell(clean(view.reason) or DASH, "" if view.reason else "dim"),
            ]
        )
    return table(FLEET, rows, ink, cells=cells)


def mid(view: WorkerView) -> str:
    """Half way between best bid and ask has one decimal more than the tick."""
    if view.mid is None:
        return DASH
    places = digits(view.tick) + 1
    text = format(view.mid, f".{places}f")
    return text[:-1] if places > 1 and text.endswith("0") else text.removesuffix(".0")


def position(view: WorkerView) -> str:
    """Signed base quantity in the decimals of the lot."""
    return signed(view.position, digits(view.lot))


def side_lines(name: str, side: SideView, view: WorkerView, ink: Ink) -> list[str]:
    """What a side does and why: its orders and the terms of the price, or the rule that silences it."""
    head = _label(name, ink, word(name).style)
    if not side.is_quoting:
        return [f"{head}silent: {clean(side.reason or 'no reason told')}"]
    more = f" in {side.orders} orders" if side.orders != 1 else ""
    lines = [f"{head}{price(side.price, view.tick)} × {exact(side.qty)} {clean(view.base)}{more}"]
    if side.terms:
        lines.append(_label("", ink) + "because " + terms(side.terms) + f" = {price(side.price, view.tick)}")
    if side.reason:
        lines.append(_label("", ink) + clean(side.reason))
    return lines


def terms(parts: Sequence[tuple[str, str]]) -> str:
    """The named parts of a price, each after the first with its sign: `mid 100.5 - half spread 0.02`."""
    shown = []
    for place, (name, amount) in enumerate(parts):
        amount = clean(amount)
        sign = "- " if amount.startswith("-") else "+ "
        shown.append(
            f"{clean(name)} {amount}" if place == 0 else f"{sign}{clean(name)} {amount.lstrip('+-')}"
        )
    return " ".join(shown)


def worker_lines(view: WorkerView, ink: Ink) -> list[str]:
    """Everything about one worker, the trade first."""
    market, state, s = word(view.market), word(view.word), view.stats
    lines = [
        f"{ink(named(view), 'bold')}  {clean(view.kind)}/{clean(view.strategy)}  {clean(view.instrument)}  "
        f"{clean(view.env)}, account {clean(view.account)}",
        _label("state", ink)
        + ink(state.text, state.style)
        + (f"  {clean(view.reason)}" if view.reason else "")
        + (f"   running {span(view.running_s)}" if view.started_ns is not None else ""),
        _label("market", ink)
        + ink(market.text, market.style)
        + f"  bid {price(view.best_bid, view.tick)}  ask {price(view.best_ask, view.tick)}  mid {mid(view)}"
        + (f"   {clock(view.market_ns)} UTC" if view.market_ns is not None else ""),
        *side_lines("BUY", view.buy, view, ink),
        *side_lines("SELL", view.sell, view, ink),
        _label("orders", ink)
        + f"{view.open_orders} open"
        + (ink(f", {view.unknown_orders} UNKNOWN", "red") if view.unknown_orders else "")
        + f"   sent {s.orders_sent}, cancelled {s.cancels_sent}, refused by us {s.refused}",
        *holding_lines(view, ink),
        *pnl_lines(view, ink),
        _label("traded", ink)
        + f"{money(s.traded_quote)} {clean(view.quote)} in {s.trades} trades, "
        + f"{s.buys} buys and {s.sells} sells",
        _label("", ink)
        + f"maker {exact(s.maker_buy_base)} bought, {exact(s.maker_sell_base)} sold   "
        + f"taker {exact(s.taker_buy_base)} bought, {exact(s.taker_sell_base)} sold  ({clean(view.base)})",
        _label("this run", ink)
        + f"{s.run_trades} trades, {money(s.run_traded_quote)} {clean(view.quote)} traded, "
        + f"realized {money(s.run_realized, sign=True)}, fees {money(s.run_fees)}",
        _label("params", ink) + _named(view.params) + f"   (version {view.params_version})",
        _label("limits", ink) + _named(view.limits, frozenset(view.limits_derived)),
        _label("restart", ink)
        + (
            "quotes again by itself after a restart"
            if view.resume_after_restart
            else "stays disarmed after a restart"
        ),
    ]
    if view.receipt is not None:
        lines.append(_label("receipt", ink) + receipt_text(view.receipt, ink))
    return lines


def holding_lines(view: WorkerView, ink: Ink) -> list[str]:
    """What the worker holds and what the account behind it is worth."""
    entry = f" at {fixed(view.entry_price, digits(view.tick))}" if view.entry_price is not None else ""
    return [
        _label("position", ink) + f"{position(view)} {clean(view.base)}{entry}",
        _label("balance", ink)
        + f"{exact(view.base_balance)} {clean(view.base)} + {money(view.quote_balance)} {clean(view.quote)}"
        + f"   worth {money(view.total_quote)} {clean(view.quote)}",
    ]


def pnl_lines(view: WorkerView, ink: Ink) -> list[str]:
    """Net and its parts. Fees paid are positive and are taken off; wear rate positive is cost."""
    s, quote = view.stats, clean(view.quote)
    net, realized, unrealized = gain(s.net), gain(s.realized), gain(s.unrealized)
    wear = DASH if s.wear_rate is None else f"{money(s.wear_rate, sign=True)} % of what was traded"
    return [
        _label("net", ink)
        + f"{ink(net.text, net.style)} {quote}   realized {ink(realized.text, realized.style)}   "
        + f"unrealized {ink(unrealized.text, unrealized.style)}",
        _label("cost", ink) + f"fees {money(s.fees)} {quote}   wear rate {wear}",
    ]


def receipt_text(receipt: ReceiptView, ink: Ink) -> str:
    """What a stop really did, with a word for how sure we are."""
    if receipt.unknown:
        sure = ink(f"IN DOUBT: {count(receipt.unknown, 'order')} unknown", "red")
    elif receipt.remaining:
        sure = ink(f"remaining: {count(receipt.remaining, 'order')}", "yellow")
    elif receipt.confirmed:
        sure = ink("confirmed by the venue", "green")
    else:
        sure = ink("NOT CONFIRMED", "red")
    return (
        f"{clean(receipt.action)} at {clock(receipt.at_ns)} UTC: "
        f"{receipt.canceled} of {receipt.asked} cancelled, {receipt.filled} filled; {sure}"
        + (f". {clean(receipt.text)}" if receipt.text else "")
    )


def _named(amounts: Mapping[str, Any], derived: frozenset[str] = frozenset()) -> str:
    shown = []
    for name, amount in amounts.items():
        shown.append(f"{clean(name)}={shortest(amount)}" + ("*" if name in derived else ""))
    return (
        "  ".join(shown) + ("   (* default of ours)" if derived & set(amounts) else "") if shown else "none"
    )


def _label(name: str, ink: Ink, style: str = "dim") -> str:
    return "  " + ink(name, style) + " " * max(1, LABEL - 2 - width(name))


# ---------------------------------------------------------------------------------------- orders, fills


def orders_table(orders: Iterable[OrderView], ink: Ink, *, cells: int | None = None) -> list[str]:
    """Live orders of one worker, sells above buys as on a ladder."""
    columns = (
        Column("SIDE"),
        Column("LEVEL", right=True, rank=2),
        Column("PRICE", right=True),
        Column("SIZE", right=True),
        Column("FILLED", right=True),
        Column("AHEAD", right=True, rank=1),
        Column("STATE"),
        Column("SINCE (UTC)", rank=3),
        Column("CLIENT ID", rank=4),
        Column("WHY", rank=5, flex=True),
    )
    ranked = sorted(orders, key=lambda o: (o.side.upper() != "SELL", -o.price))
    rows = []
    for order in ranked:
        state = "UNKNOWN" if order.is_unknown else order.status.upper()
        if order.request:
            state += f", {order.request} sent"
        rows.append(
            [
                word(order.side.upper()),
                Cell(str(order.level)),
                Cell(exact(order.price)),
                Cell(exact(order.qty)),
                Cell(exact(order.filled)),
                Cell(exact(order.queue_ahead)),
                Cell(clean(state), "red" if order.is_unknown else ""),
                Cell(clock(order.created_ns)),
                Cell(clean(order.client_id)),
                Cell(terms(order.terms) or DASH),
            ]
        )
    return table(columns, rows, ink, cells=cells) if rows else ["no live orders"]


def fills_table(
    fills: Sequence[FillView], ink: Ink, *, names: Mapping[str, str], cells: int | None = None
) -> list[str]:
    """Fills as they come, newest first. `names` gives a worker's name for its id."""
    columns = (
        Column("TIME (UTC)"),
        Column("WORKER", rank=2, flex=True),
        Column("SYMBOL", rank=1),
        Column("SIDE"),
        Column("PRICE", right=True),
        Column("SIZE", right=True),
        Column("VALUE", right=True, rank=3),
        Column("FEE", right=True, rank=4),
        Column("", rank=4),
        Column("AS", rank=3),
        Column("TRADE ID", rank=5),
    )
    rows = [
        [
            stamp(fill.venue_ns) + f".{fill.venue_ns // 1_000_000 % 1000:03d}",
            clean(names.get(fill.worker) or fill.worker),
            clean(f"{fill.venue}:{fill.symbol}"),
            word(fill.side.upper()),
            exact(fill.price),
            exact(fill.qty),
            money(fill.value),
            money(fill.fee),
            clean(fill.fee_asset),
            "maker" if fill.is_maker else "taker",
            clean(fill.trade_id),
        ]
        for fill in fills
    ]
    return table(columns, rows, ink, cells=cells) if rows else ["no fills"]


def feeds_table(view: FeedsView, ink: Ink, *, cells: int | None = None) -> list[str]:
    """One line a feed. Clock: receive time minus exchange time at its smallest; negative: our recorder ran
    behind.
    """
    columns = (
        Column("INSTRUMENT"),
        Column("MARKET"),
        Column("STATE"),
        Column("AGE", right=True),
        Column("FRAMES", right=True, rank=3),
        Column("DIFFS", right=True, rank=2),
        Column("TRADES", right=True, rank=2),
        Column("RESYNCS", right=True, rank=1),
        Column("CLOCK ms", right=True, rank=3),
        Column("SOURCE", rank=4, flex=True),
        Column("NOTE", rank=5, flex=True),
    )
    rows: list[list[Cell | str]] = [
        [
            clean(feed.instrument),
            word(feed.market),
            clean(feed.state),
            age(feed.age_s),
            str(feed.frames),
            str(feed.diffs_applied),
            str(feed.trades),
            str(feed.resyncs),
            DASH if feed.clock_offset_ms is None else f"{feed.clock_offset_ms:+.1f}",
            clean(feed.source),
            clean(feed.note) or DASH,
        ]
        for feed in view.feeds
    ]
    return table(columns, rows, ink, cells=cells) if rows else ["no feeds"]


def notice_lines(notices: Iterable[NoticeView], ink: Ink, *, names: Mapping[str, str]) -> list[str]:
    """What a person should read, newest first."""
    styles = {"error": "red", "warning": "yellow"}
    lines = []
    for notice in notices:
        who = clean(names.get(notice.worker) or notice.worker)
        level = ink(clean(notice.level.upper()), styles.get(notice.level.lower(), "dim"))
        lines.append(f"{clock(notice.at_ns)}  {level}  {who + ': ' if who else ''}{clean(notice.text)}")
    return lines


# --------------------------------------------------------------------------------------------- the book


def book_lines(
    book: BookView, orders: Sequence[OrderView], ink: Ink, *, rows: int, cells: int | None = None
) -> list[str]:
    """Bids at the left, asks at the right, best first, own orders in place; own prices beyond the shown
    depth follow after a gap, so none of ours is ever left out while there is room.
    """
    bids = _ladder(book.bids, [o for o in orders if o.side.upper() == "BUY"], rows, best_first=-1)
    asks = _ladder(book.asks, [o for o in orders if o.side.upper() == "SELL"], rows, best_first=1)
    largest = max(
        (size for side in (bids, asks) for _, size, _ in side if size is not None), default=Decimal(0)
    )
    columns = (
        Column("OURS", right=True),
        Column("", right=True, rank=1),
        Column("SIZE", right=True),
        Column("BID", right=True),
        Column("ASK"),
        Column("SIZE", right=True),
        Column("", rank=1),
        Column("OURS"),
    )
    body = []
    for place in range(max(len(bids), len(asks))):
        body.append(
            [*_half(bids, place, largest, book, "green")[::-1], *_half(asks, place, largest, book, "red")]
        )
    market = word(book.market)
    state = "" if book.is_synced else ink("  NOT SYNCED", "red")
    note = f"  {clean(book.note)}" if book.note else ""
    head = (
        f"{ink(clean(book.instrument), 'bold')}  {ink(market.text, market.style)}{state}  "
        f"{clock(book.market_ns)} UTC  {spread_text(book)}{note}"
    )
    return [head, *table(columns, body, ink, cells=cells)]


def spread_text(book: BookView) -> str:
    """Best ask minus best bid, in quote currency and basis points of the mid."""
    if not book.bids or not book.asks:
        return "one-sided" if book.bids or book.asks else "empty"
    bid, ask = Decimal(book.bids[0][0]), Decimal(book.asks[0][0])
    return f"spread {bps_text(bid, ask)}"


def bps_text(bid: Decimal, ask: Decimal) -> str:
    """`0.01 (0.002 bps)`."""
    total = bid + ask
    share = f" ({(ask - bid) * 20_000 / total:.3f} bps)" if total > 0 else ""
    return f"{ask - bid:f}{share}"


_Row = tuple[Decimal | None, Decimal | None, str]  # price, market size, our size; a price of None is a gap


def _ladder(
    levels: Sequence[tuple[str, str]], orders: Sequence[OrderView], rows: int, *, best_first: int
) -> list[_Row]:
    """Market levels and own orders merged, best first, at most `rows`."""
    ours: dict[Decimal, list[OrderView]] = {}
    for order in orders:
        ours.setdefault(order.price, []).append(order)
    market = {Decimal(p): Decimal(q) for p, q in levels}
    depth = max((best_first * p for p in market), default=None)
    beyond = [p for p in ours if depth is None or best_first * p > depth]
    inside = {*market, *(p for p in ours if p not in beyond)}
    ranked = sorted(inside, key=lambda p: best_first * p)
    room = max(1, rows - (min(len(beyond), rows // 2) + 1 if beyond else 0))
    cut = [p for p in ranked[room:] if p in ours]
    tail = sorted([*cut, *beyond], key=lambda p: best_first * p)
    if tail:
        room = max(1, rows - 1 - min(len(tail), rows // 2))
        cut = [p for p in ranked[room:] if p in ours]
        tail = sorted([*cut, *beyond], key=lambda p: best_first * p)
    merged: list[_Row] = [(p, market.get(p), _ours(ours.get(p, ()))) for p in ranked[:room]]
    if tail:
        merged.append((None, None, ""))
        merged += [(p, market.get(p), _ours(ours[p])) for p in tail[: max(1, rows - room - 1)]]
    return merged


def _ours(orders: Sequence[OrderView]) -> str:
    if not orders:
        return ""
    left = sum((o.qty - o.filled for o in orders), Decimal(0))
    return f"{left:f}" + ("?" if any(o.is_unknown for o in orders) else "")


def _half(side: Sequence[_Row], place: int, largest: Decimal, book: BookView, style: str) -> list[Cell]:
    """Price, size, bar and ours of one row of one side, from the middle outwards."""
    if place >= len(side):
        return [Cell(""), Cell(""), Cell(""), Cell("")]
    at, size, ours = side[place]
    if at is None:
        return [Cell("⋮", "dim"), Cell(""), Cell(""), Cell("")]
    share = float(size / largest) if size is not None and largest > 0 else 0.0
    shown = "" if size is None else f"{size:.{digits(book.lot)}f}"
    return [
        Cell(price(at, book.tick), "bold" if ours else style),
        Cell(shown),
        Cell(bar(share, 8, leftwards=style == "green"), style),
        Cell(
            ("◂ " if style == "red" else "") + ours + (" ▸" if style == "green" else "") if ours else "",
            "bold",
        ),
    ]


# ------------------------------------------------------------------------------------------- strategies


def strategies_table(found: Sequence[Mapping[str, Any]], ink: Ink, *, cells: int | None = None) -> list[str]:
    """One line a strategy."""
    columns = (Column("STRATEGY"), Column("TITLE"), Column("DESCRIPTION", rank=1, flex=True))
    rows = [
        [
            clean(f"{s.get('kind')}/{s.get('name')}"),
            clean(str(s.get("title", ""))),
            clean(str(s.get("description", ""))),
        ]
        for s in found
    ]
    return table(columns, rows, ink, cells=cells) if rows else ["no strategies"]


def entries_table(found: Iterable[Entry], ink: Ink, *, is_flag: bool, cells: int | None = None) -> list[str]:
    """The parameters (or limits) of a strategy: how to write each, its unit, range and default, when it
    takes effect.
    """
    columns = (
        Column("FLAG" if is_flag else "LIMIT"),
        Column("UNIT"),
        Column("ALLOWED"),
        Column("DEFAULT"),
        Column("CHANGE", rank=1),
        Column("MEANING", rank=2, flex=True),
    )
    rows = []
    for entry in found:
        told = clean(entry.title)
        if entry.description and entry.description != entry.title:
            told += f": {clean(entry.description)}"
        when = "live" if entry.is_live else "at restart"
        name = entry.flag if is_flag else entry.name
        rows.append(
            [name, clean(entry.unit) or DASH, clean(entry.range_text), clean(entry.default_text), when, told]
        )
    return table(columns, rows, ink, cells=cells)


def beside(left: Sequence[str], right: Sequence[str], left_cells: int, right_cells: int) -> list[str]:
    """Two blocks of plain or inked lines next to each other."""
    lines = []
    for place in range(max(len(left), len(right))):
        first = left[place] if place < len(left) else ""
        second = right[place] if place < len(right) else ""
        gap = max(0, left_cells - ink_width(first))
        lines.append(first + " " * gap + "  " + second if second else first)
    return lines


def ink_width(text: str) -> int:
    """Cells of a line that may carry our own colour codes."""
    return width(strip_ink(text))


def strip_ink(text: str) -> str:
    """The line without our colour codes (`Ink` writes nothing but `ESC [ ... m`)."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def cut(text: str, cells: int) -> str:
    """An inked line cut to `cells`; colours end where it is cut."""
    if ink_width(text) <= cells:
        return text
    kept, used = "", 0
    parts = text.split("\x1b[")
    for place, part in enumerate(parts):
        code, plain = ("", part) if place == 0 else (part.partition("m")[0], part.partition("m")[2])
        kept += f"\x1b[{code}m" if code else ""
        room = cells - used
        if width(plain) >= room:
            return kept + (fit(plain, room) if room > 0 else "") + ("\x1b[0m" if len(parts) > 1 else "")
        kept += plain
        used += width(plain)
    return kept
