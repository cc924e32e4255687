"""The data directory: made for its owner, held by one desk."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from config import ConfigErrors, Settings
from database.place import DataDirBusy, lock_data_dir, open_data_dir
from tests.shared import ROOT

HOLD = """
import pathlib, sys, database.place
lock = database.place.lock_data_dir(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_it_is_made_for_its_owner_only_and_opening_twice_is_fine(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a" / "b")
    assert open_data_dir(settings) == settings
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert open_data_dir(settings) == settings


def test_a_fresh_one_is_new_each_time(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, is_data_dir_fresh=True)
    first, second = open_data_dir(settings), open_data_dir(settings)
    assert first.data_dir != second.data_dir
    assert first == replace(settings, data_dir=first.data_dir)
    assert first.data_dir.parent == tmp_path and list(first.data_dir.iterdir()) == []


def test_one_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigErrors, match="data_dir: .*file.* cannot be made"):
        open_data_dir(Settings(data_dir=tmp_path / "file"))


def test_a_second_desk_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with lock_data_dir(tmp_path):
        with pytest.raises(DataDirBusy) as caught:
            lock_data_dir(tmp_path)
    assert caught.value.pid == os.getpid()
    assert str(caught.value) == (
        f"data_dir: '{tmp_path}' is in use by another desk (process {os.getpid()}); "
        "stop that one, or give another --data-dir"
    )
    lock_data_dir(tmp_path).release()


def test_the_lock_ends_with_a_killed_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirBusy) as caught:
            lock_data_dir(tmp_path)
        assert caught.value.pid == holder.pid
        holder.kill()
    lock = lock_data_dir(tmp_path)
    lock.release()
    lock.release()


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be written"):
        lock_data_dir(tmp_path / "gone")
