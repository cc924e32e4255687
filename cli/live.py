"""The live view: fleet, one worker's market and quotes, fills, redrawn four times a second.

Hides: `rich`, the alternate screen, single keys, how newest values are gathered from the bus, what is shown
when it falls silent. Must not know: trading; it gives no command to the desk. Called by `cli.commands` with
a terminal only. Leaving it leaves the desk as it is.

The bus delivers each change on a thread of its own; this file only stores the newest payload per topic
there, and decodes
what it draws on the caller's thread. A desk that goes silent is shown with the age of what is still on the
screen:
LIVE up to 2 s, STALE up to 5 s, then FROZEN.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from api.desk import (
    TOPIC_BOOK,
    TOPIC_DESK,
    TOPIC_FILLS,
    TOPIC_NOTICES,
    TOPIC_ORDERS,
    TOPIC_WORKER,
    BookView,
    DeskSilent,
    DeskUnreachable,
    DeskView,
    FillsView,
    NoticesView,
    OrdersView,
    WorkerView,
)
from cli import tables
from cli.session import Context, Published, names
from cli.text import Ink, age, clean, clock, gain, word

FRAME_S = 0.25
STALE_S, FROZEN_S = 2.0, 5.0
DESK_AGE_S = 2.0  # the desk is asked for its workers so often: a deleted one says nothing on the bus
LEFT_CELLS, RIGHT_CELLS = 78, 66  # what a book, and a worker's sheet beside it, need at most and at least
LEAST_CELLS, LEAST_LINES = 40, 10
_KEYS = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"\t": "down",
}
_LEAVING = (b"q", b"Q")

V = TypeVar("V")


class LiveView:
    """Args:
    chosen: id of the worker shown in full; the first active one when None.
    """

    def __init__(self, ctx: Context, chosen: str | None = None) -> None:
        self._ctx = ctx
        self._chosen = chosen
        self._newest: dict[str, tuple[bytes, int]] = {}
        self._decoded: dict[str, tuple[bytes, Any]] = {}
        self._known: list[WorkerView] = []
        self._asked_ns = 0
        self._trouble = ""

    def run(self) -> bool:
        """Draw until a person leaves. True when by a key, False when by Ctrl-C.

        Raises what the desk raises on the first look; later trouble is shown on the screen instead.
        """
        ctx = self._ctx
        self._known = ctx.desk.workers()
        self._asked_ns = ctx.now_ns()
        prefixes = (TOPIC_DESK, TOPIC_WORKER, TOPIC_ORDERS, TOPIC_BOOK, TOPIC_FILLS, TOPIC_NOTICES)
        watches = [ctx.session.bus.watch(prefix, self._hear) for prefix in prefixes]
        console = Console(file=ctx.out.stream, force_terminal=True, highlight=False, legacy_windows=False)
        try:
            with _single_keys() as key, Live(console=console, screen=True, auto_refresh=False) as screen:
                while not ctx.out.is_closed:
                    screen.update(self._drawn(console), refresh=True)
                    pressed = key(FRAME_S)
                    if pressed == b"\x03":
                        return False
                    if pressed in _LEAVING:
                        return True
                    self._move(_KEYS.get(pressed, ""))
        except KeyboardInterrupt:
            return False
        finally:
            for one in watches:
                one.close()
        return True

    # ------------------------------------------------------------------------------------- what is known

    def _hear(self, heard: Published) -> None:
        self._newest[heard.topic] = (heard.payload, heard.published_ns)

    def _view(self, topic: str, kind: type[V]) -> V | None:
        found = self._newest.get(topic)
        if found is None:
            return None
        seen = self._decoded.get(topic)
        if seen is None or seen[0] is not found[0]:
            try:
                self._decoded[topic] = (found[0], msgspec.json.decode(found[0], type=kind))
            except msgspec.MsgspecError as error:  # a desk of another version: say so, keep what was there
                self._trouble = f"not understood: {topic}: {error}"
                return seen[1] if seen is not None else None
        view = self._decoded[topic][1]
        return view if isinstance(view, kind) else None

    def _workers(self) -> list[WorkerView]:
        """The desk's list with each worker as new as the bus has it."""
        ctx = self._ctx
        if ctx.now_ns() - self._asked_ns > DESK_AGE_S * 1e9:
            try:
                self._known = ctx.desk.workers()
                self._trouble = ""
            except (DeskUnreachable, DeskSilent) as error:
                self._trouble = f"the desk does not answer: {error}"
            self._asked_ns = ctx.now_ns()
        fresh = []
        for known in self._known:
            heard = self._view(TOPIC_WORKER + known.id, WorkerView)
            fresh.append(heard if heard is not None and heard.published_ns >= known.published_ns else known)
        return fresh

    def _move(self, way: str) -> None:
        ids = [view.id for view in self._known]
        if way and self._chosen in ids:
            place = ids.index(self._chosen) + (1 if way == "down" else -1)
            self._chosen = ids[place % len(ids)]

    # ------------------------------------------------------------------------------------- what is drawn

    def _drawn(self, console: Console) -> Text:
        size = console.size
        lines = self.frame(size.width, size.height)
        text = "\n".join(
            tables.cut(self._ctx.out.encodable(line), size.width) for line in lines[: size.height]
        )
        drawn = Text.from_ansi(text)
        drawn.no_wrap, drawn.overflow = True, "crop"
        return drawn

    def frame(self, cells: int, lines: int) -> list[str]:
        """The whole screen as inked lines, at most `lines` of them."""
        ink = self._ctx.ink
        if cells < LEAST_CELLS or lines < LEAST_LINES:
            return [f"too small: {cells}x{lines}, needs {LEAST_CELLS}x{LEAST_LINES}"]
        workers = self._workers()
        if self._chosen not in [view.id for view in workers]:
            active = [view for view in workers if tables.is_active(view)]
            self._chosen = (active or workers)[0].id if workers else None
        foot = self._foot(ink)
        top = [*self._head(workers, ink), ""]
        top += self._fleet(workers, cells, max(2, min(len(workers) + 1, lines // 4)), ink)
        room = lines - len(top) - len(foot) - 1
        chosen = next((view for view in workers if view.id == self._chosen), None)
        middle = self._middle(chosen, cells, room, ink) if chosen is not None else ["no workers yet"]
        left = room - len(middle) - 2
        last = self._last(workers, cells, left, ink) if left >= 2 else []
        body = [*top, "", *middle, *([""] if last else []), *last][: lines - len(foot)]
        return [*body, *[""] * (lines - len(foot) - len(body)), *foot]

    def _head(self, workers: Sequence[WorkerView], ink: Ink) -> list[str]:
        desk, now = self._view(TOPIC_DESK, DeskView), self._ctx.now_ns()
        if desk is None:
            lines = [f"{ink('makerdeck', 'bold')}  waiting for the desk to say something on its bus"]
        else:
            market, net = word(desk.market), gain(desk.net)
            doubt = ink(f" +{desk.unknown_orders} UNKNOWN", "red") if desk.unknown_orders else ""
            partial = " (partial)" if desk.net_is_partial else ""
            fresh = _freshness((now - self._newest[TOPIC_DESK][1]) / 1e9, ink)
            lines = [
                f"{ink(clean(desk.name), 'bold')}  {clean(desk.env)}  {ink(market.text, market.style)}  "
                f"{fresh}  {desk.running}/{desk.workers} running  {desk.open_orders} orders{doubt}  "
                f"net {ink(net.text, net.style)} {clean(desk.net_currency)}{partial}  {clock(now)[:8]} UTC"
            ]
            if desk.is_killed:
                why = clean(desk.kill_reason) or "no reason given"
                lines.append(ink(f" KILLED: {why}; nothing is sent until `release` ", "alarm"))
        if self._trouble:
            lines.append(ink(clean(self._trouble), "red"))
        return lines

    def _fleet(self, workers: Sequence[WorkerView], cells: int, rows: int, ink: Ink) -> list[str]:
        """As many workers as fit, the chosen one among them."""
        ids = [view.id for view in workers]
        place = ids.index(self._chosen) if self._chosen in ids else 0
        shown = max(1, rows - 1)
        first = max(0, min(place - shown // 2, len(workers) - shown))
        lines = tables.fleet(workers[first : first + shown], ink, cells=cells, chosen=self._chosen)
        hidden = len(workers) - shown
        return [*lines, ink(f"  and {hidden} more", "dim")] if hidden > 0 else lines

    def _middle(self, view: WorkerView, cells: int, room: int, ink: Ink) -> list[str]:
        """The chosen worker: its quotes with their why beside the book, or above it where there is no room
        beside.
        """
        found = self._view(TOPIC_ORDERS + view.id, OrdersView)
        orders = found.orders if found is not None else ()
        book = self._view(TOPIC_BOOK + view.instrument, BookView)
        name, state = ink(clean(view.name or view.id), "bold"), word(view.word)
        sheet = [
            f"{name}  {ink(state.text, state.style)}  {clean(view.reason)}".rstrip(),
            *tables.side_lines("BUY", view.buy, view, ink),
            *tables.side_lines("SELL", view.sell, view, ink),
            *tables.holding_lines(view, ink),
            *tables.pnl_lines(view, ink),
        ]
        is_wide = cells >= LEFT_CELLS + RIGHT_CELLS
        rows = max(3, min(12, room // 2 if is_wide else (room - len(sheet)) * 2 // 3))
        if book is None:
            ladder = [f"{clean(view.instrument)}: no book heard yet"]
        else:
            ladder = tables.book_lines(book, orders, ink, rows=rows, cells=LEFT_CELLS if is_wide else cells)
        if not is_wide:
            return [*sheet, "", *ladder][: max(0, room)]
        wide = max(tables.ink_width(line) for line in ladder)
        right = [tables.cut(line, cells - wide - 3) for line in sheet]
        return tables.beside(ladder, right, wide + 1, cells - wide - 3)[: max(0, room)]

    def _last(self, workers: Sequence[WorkerView], cells: int, room: int, ink: Ink) -> list[str]:
        """The newest fills of all workers, and notices where there is room."""
        fills = self._view(TOPIC_FILLS, FillsView)
        shown = fills.fills[: room - 1] if fills is not None else ()
        lines = (
            tables.fills_table(shown, ink, names=names(workers), cells=cells)
            if shown
            else [ink("no fills yet", "dim")]
        )
        notices = self._view(TOPIC_NOTICES, NoticesView)
        left = room - len(lines) - 1
        if notices is not None and notices.notices and left > 0:
            lines += ["", *tables.notice_lines(notices.notices[:left], ink, names=names(workers))]
        return lines[: max(0, room)]

    def _foot(self, ink: Ink) -> list[str]:
        ctx = self._ctx
        leave = (
            "q leave (its workers stop: this desk lives here)"
            if ctx.is_own and not ctx.in_shell
            else "q leave (workers go on)"
        )
        return [ink(f"{leave}   ↑ ↓ worker", "dim")]


def _freshness(old_s: float, ink: Ink) -> str:
    """How far the screen may be believed, by the age of the desk's own last word."""
    if old_s <= STALE_S:
        return ink("live", "green")
    if old_s <= FROZEN_S:
        return ink(f"STALE {age(old_s)}", "yellow")
    return ink(f" FROZEN {age(old_s)}: this is the past ", "alarm")


@contextlib.contextmanager
def _single_keys() -> Iterator[Callable[[float], bytes]]:
    """A function that waits up to so many seconds for a key. The terminal is put back however this ends."""
    try:
        source = sys.stdin.fileno()
        before = termios.tcgetattr(source)
    except (OSError, ValueError, termios.error):  # no keys here: Ctrl-C still leaves
        never = threading.Event()
        yield lambda wait_s: b"" if never.wait(wait_s) else b""
        return

    def key(wait_s: float) -> bytes:
        ready, _, _ = select.select([source], [], [], wait_s)
        if not ready:
            return b""
        return os.read(source, 16) or b"q"  # the terminal is gone

    try:
        tty.setcbreak(source)
        yield key
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
