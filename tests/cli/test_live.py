"""What the live view shows. The real terminal is the subject of test_terminal."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

from api.desk import DeskSilent, WorkerSpec
from api.runtime import SteppedClock
from cli.live import LiveView
from cli.session import Context
from cli.tables import ink_width
from cli.text import Ink, Printer
from tests.cli.conftest import Face


def live(face: Face, clock: SteppedClock, *, chosen: str | None = None) -> LiveView:
    ctx = Context(
        connect=lambda: face.session,
        out=Printer(io.StringIO()),
        err=Printer(io.StringIO()),
        ink=Ink(True),
        is_tty=True,
        ask=lambda prompt: "",
        now_ns=clock.now_ns,
    )
    return LiveView(ctx, chosen)


def heard(view: LiveView, face: Face, *, until: str) -> None:
    """Let the bus deliver what is published, until the frame holds `until`."""
    _within(lambda: any(until in line for line in view.frame(140, 50)), face)


def _within(holds: Callable[[], bool], face: Face, seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "not within the deadline"
        time.sleep(0.01)


def listening(face: Face, chosen: str | None = None) -> tuple[LiveView, SteppedClock]:
    clock = SteppedClock(time.time_ns())
    view = live(face, clock, chosen=chosen)
    for prefix in ("desk", "worker/", "orders/", "book/", "fills", "notices"):
        face.bus.watch(prefix, view._hear)
    clock.step_to(clock.now_ns() + 10_000_000_000)  # past the first look at the desk's list
    return view, clock


def test_a_frame_fits_every_terminal_to_the_cell(face: Face) -> None:
    face.desk.tick(30)
    view, _ = listening(face)
    heard(view, face, until="spread 0.02")
    for cells, lines in ((200, 60), (120, 40), (80, 24), (60, 15), (40, 10), (20, 5)):
        frame = view.frame(cells, lines)
        assert len(frame) <= lines
        if cells >= 80:
            assert max(map(ink_width, frame[-1:])) <= cells
            assert "q leave" in frame[-1]


def test_it_shows_fleet_quotes_with_their_why_book_fills_and_profit(face: Face) -> None:
    face.desk.tick(30)
    view, _ = listening(face)
    heard(view, face, until="t1")
    text = "\n".join(view.frame(160, 50))
    for part in (
        "SYNTHETIC",
        "QUOTING",
        "because mid",
        "half spread",
        "▸",
        "◂",
        "maker",
        "realized",
        "wear rate",
    ):
        assert part in text, part


def test_a_silent_bus_is_shown_as_stale_and_then_as_frozen(face: Face) -> None:
    view, clock = listening(face)
    face.desk.fails = DeskSilent("no answer")
    face.desk.publish()
    heard(view, face, until="FROZEN")
    assert any("this is the past" in line for line in view.frame(140, 40))
    assert any("the desk does not answer: no answer" in line for line in view.frame(140, 40))


def test_a_kill_is_the_loudest_thing_on_the_screen(face: Face) -> None:
    view, _ = listening(face)
    face.desk.kill(reason="a storm", by="test")
    heard(view, face, until="KILLED: a storm")
    assert "KILLED" in view.frame(140, 40)[1]


def test_the_chosen_worker_stays_in_sight_among_many(face: Face) -> None:
    for i in range(30):
        spec = WorkerSpec("market_making", "standard", "paper", "ETH-USDT", {"spread": 0.05}, name=f"n{i}")
        face.desk.create(spec, by="test")
    view, clock = listening(face, chosen="w20")
    frame = view.frame(140, 40)
    assert any("▸w20" in line for line in frame)
    assert any("and 2" in line and "more" in line for line in frame)
    view._move("down")
    assert any("▸w21" in line for line in view.frame(140, 40))


def test_a_deleted_worker_leaves_the_screen(face: Face) -> None:
    view, clock = listening(face)
    view.frame(140, 40)
    face.desk.stop("w1", by="test")
    face.desk.delete("w1", by="test")
    clock.step_to(clock.now_ns() + 3_000_000_000)
    assert any("no workers yet" in line for line in view.frame(140, 40))


def test_a_payload_of_another_version_is_named_and_does_not_end_the_view(face: Face) -> None:
    view, _ = listening(face)
    face.bus.publish("desk", b'{"name": 1}')
    heard(view, face, until="not understood: desk")
