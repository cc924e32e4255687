"""The queue in front of a database: order, durability, and who is told what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from database import outbox as outbox_module
from database.outbox import Outbox, OutboxClosed
from tests.database.common import until


class Shelf:
    """A store that can be closed, and remembers in which order things came."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.is_open = True
        self.bursts = 0

    def store(self, records: list[Any]) -> None:
        if not self.is_open:
            raise OSError("the shelf is closed")
        self.bursts += 1
        self.kept += records


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


Make = Callable[..., Outbox[int]]


@pytest.fixture
def make(shelf: Shelf, tmp_path: Path) -> Iterator[Make]:
    made: list[Outbox[int]] = []

    def one(**changes: Any) -> Outbox[int]:
        settings: dict[str, Any] = {"encode": lambda item: item, "store": shelf.store, **changes}
        made.append(Outbox("shelf", tmp_path / "spill", **settings))
        return made[-1]

    yield one
    for outbox in made:
        outbox.close()


def test_items_are_stored_once_in_order_and_in_bursts(make: Make, shelf: Shelf) -> None:
    outbox = make(linger_s=0.02)
    outbox.start()
    for no in range(3000):
        assert outbox.put(no)
    assert outbox.flush(5)
    assert shelf.kept == list(range(3000))
    assert shelf.bursts < 30
    assert (outbox.queued, outbox.written, outbox.spilled, outbox.dropped) == (0, 3000, 0, 0)


def test_the_order_stays_through_the_spill_file_and_back(make: Make, shelf: Shelf, tmp_path: Path) -> None:
    told: list[str] = []
    outbox = make(on_trouble=told.append)
    outbox.start()
    for no in range(100):
        if no == 20:
            assert outbox.flush(5)
            shelf.is_open = False
        if no == 60:
            assert outbox.flush(5)
            shelf.is_open = True
        outbox.put(no)
    assert until(lambda: len(shelf.kept) == 100)
    assert shelf.kept == list(range(100))
    assert until(lambda: told == ["shelf cannot be written: the shelf is closed", ""])
    assert until(lambda: (tmp_path / "spill").stat().st_size == 0)


def test_what_waits_in_the_spill_file_is_stored_without_new_items(make: Make, shelf: Shelf) -> None:
    outbox = make()
    outbox.start()
    shelf.is_open = False
    outbox.put(1)
    assert outbox.flush(5)
    shelf.is_open = True
    assert until(lambda: shelf.kept == [1])


def test_a_spill_file_larger_than_one_read_is_stored_in_order(
    make: Make, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_SPILL_READ", 100)
    monkeypatch.setattr(outbox_module, "BATCH", 7)
    shelf.is_open = False
    first = make()
    first.start()
    for no in range(500):
        first.put(no)
    assert first.close()
    shelf.is_open = True
    second = make()
    assert second.recover() == 500
    assert shelf.kept == list(range(500))


def test_only_droppable_items_are_dropped_when_too_much_waits(make: Make, shelf: Shelf) -> None:
    outbox = make(limit=3)
    kept = [no for no in range(6) if outbox.put(no, droppable=no % 2 == 1)]
    assert kept == [0, 1, 2, 4]
    assert (outbox.queued, outbox.dropped) == (4, 2)
    outbox.start()
    assert outbox.flush(5)
    assert shelf.kept == kept


def test_with_nowhere_to_write_items_stay_in_memory_and_the_end_says_so(
    make: Make, shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spill").mkdir()
    told: list[str] = []
    with pytest.raises(IsADirectoryError):
        make()
    (tmp_path / "spill").rmdir()
    outbox = make(on_trouble=told.append)
    (tmp_path / "spill").mkdir()
    shelf.is_open = False
    outbox.start()
    for no in range(5):
        outbox.put(no)
    assert not outbox.flush(0.3)
    assert until(lambda: bool(told))
    assert told == ["shelf cannot be written: the shelf is closed; nor can its spill file: Is a directory"]
    assert outbox.queued == 5
    assert not outbox.close()
    assert "lost=5" in caplog.text


def test_a_call_runs_on_the_writer_and_hands_back_what_it_returns_or_raises(make: Make) -> None:
    outbox = make()
    outbox.start()
    assert outbox.call(lambda: threading.current_thread().name) == "shelf"
    assert outbox.call(lambda: outbox.call(lambda: outbox.flush(0)))
    with pytest.raises(ZeroDivisionError):
        outbox.call(lambda: 1 // 0)
    assert outbox.close() and outbox.close()
    with pytest.raises(OutboxClosed):
        outbox.call(lambda: 1)
    with pytest.raises(OutboxClosed):
        outbox.put(1)


def test_a_call_nobody_takes_ends_and_is_never_run_later(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "CALL_S", 0.05)
    outbox = make()
    ran: list[int] = []
    with pytest.raises(TimeoutError):
        outbox.call(lambda: ran.append(1))
    outbox.start()
    outbox.put(1)
    assert outbox.flush(5)
    assert ran == []


def test_a_call_that_waits_while_the_store_closes_is_told(make: Make) -> None:
    outbox = make()
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            outbox.call(lambda: 1)
        except OSError as error:
            caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert until(lambda: len(outbox._calls) == 1)
    assert outbox.close()
    asking.join(5)
    assert [type(error) for error in caught] == [OutboxClosed]


def test_closing_twice_and_before_the_first_turn_still_writes(make: Make, shelf: Shelf) -> None:
    never_started = make()
    never_started.put(1)
    assert never_started.close()
    quick = make()
    quick.start()
    quick.put(2)
    assert quick.close() and quick.close()
    assert shelf.kept == [1, 2]


def test_a_listener_that_fails_does_not_stop_the_writer(
    make: Make, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(_trouble: str) -> None:
        raise RuntimeError("mine")

    outbox = make(on_trouble=listener)
    outbox.start()
    shelf.is_open = False
    outbox.put(1)
    assert outbox.flush(5)
    shelf.is_open = True
    assert until(lambda: shelf.kept == [1])
    assert until(lambda: caplog.text.count("the listener for trouble failed") == 2)


def test_an_idle_writer_stops_at_once(make: Make) -> None:
    outbox = make()
    outbox.start()
    assert outbox.is_alive
    started = time.monotonic()
    assert outbox.close()
    assert time.monotonic() - started < 1.0
