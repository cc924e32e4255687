"""What the keeper ends, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.types import Trading
from strategies.keeper import Keeper
from strategies.roster import Roster


class Gateway:
    def live_of(self, worker_id: str) -> tuple[int, int]:
        return (1, 0)


def look(tmp_path: Path, worker: SimpleNamespace, shown: SimpleNamespace) -> list[str]:
    """Workers one round of the keeper ends."""
    parts = SimpleNamespace(
        data_dir=tmp_path,
        bus=SimpleNamespace(lost_for_s=0.0),
        bus_lost_s=5.0,
        state=SimpleNamespace(trouble=""),
        lane=SimpleNamespace(is_well=True),
    )
    roster: Any = SimpleNamespace(
        parts=parts,
        kill_reason="",
        workers={worker.id: worker},
        shown=lambda worker_id: shown,
        gateway=lambda one: Gateway(),
        save_unsaved=lambda: None,
    )
    ended: list[str] = []
    Keeper(cast(Roster, roster), lambda reason: None, lambda one, reason: ended.append(one.id)).look()
    return ended


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_run_that_ended_by_itself_is_finished(tmp_path: Path, state: str) -> None:
    worker = SimpleNamespace(id="w1", state=state, started_ns=7, reason="")
    shown = SimpleNamespace(trading=Trading.STOP, started_ns=7, reason="duration of 3 s is over")
    assert look(tmp_path, worker, shown) == ["w1"]


def test_a_picture_of_the_run_before_ends_no_new_run(tmp_path: Path) -> None:
    worker = SimpleNamespace(id="w1", state="running", started_ns=8, reason="")
    shown = SimpleNamespace(trading=Trading.STOP, started_ns=7, reason="stopped")
    assert look(tmp_path, worker, shown) == []
