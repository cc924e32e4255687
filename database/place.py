"""The data directory: made, and held by one desk at a time.

Hides: how it is created, and the lock file that keeps a second desk out and ends with its holder,
however that dies. Must not know what is kept inside. Called by `run.py` before anything of the desk is built.
"""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import tempfile
import time
from pathlib import Path

from config import ConfigErrors, Mistake, Settings, check_data_dir

LOCK_NAME = "desk.lock"
TRADING_LOCK_NAME = "trading.lock"
TRADING_WAIT_S = 35.0  # longer than an orphaned desk may take to end (api.supervise.HARD_END_S)

log = logging.getLogger("makerdeck.place")


class DataDirBusy(ConfigErrors):
    """Another desk holds the data directory. `pid` is its process, None when it cannot be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        whose = "another desk" if pid is None else f"another desk (process {pid})"
        super().__init__(
            [Mistake("data_dir", f"'{path}' is in use by {whose}; stop that one, or give another --data-dir")]
        )


class DataDirLock:
    """Held until `release()` or the end of the process. A context manager."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def release(self) -> None:
        """Let the next desk in. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> DataDirLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_data_dir(settings: Settings) -> Settings:
    """Create the data directory (readable by its owner only) and return the settings that name it.

    A fresh one is a temporary directory; removing it at the end is the caller's part.

    Raises:
        ConfigErrors: it cannot be made or written.
    """
    try:
        if settings.is_data_dir_fresh:
            return dataclasses.replace(
                settings, data_dir=Path(tempfile.mkdtemp(prefix="makerdeck-", dir=settings.data_dir))
            )
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigErrors(
            [Mistake("data_dir", f"'{settings.data_dir}' cannot be made ({error.strerror})")]
        ) from error
    wrong = check_data_dir(settings.data_dir)
    if wrong is not None:
        raise ConfigErrors([Mistake("data_dir", wrong)])
    return settings


def lock_trading(path: Path) -> DataDirLock:
    """Take the files of a desk for the process that trades, inside the directory's lock.

    The supervisor holds the directory; when it is killed its desk lives on for a moment to cancel its orders.
    A new one waits for that end, at most `TRADING_WAIT_S`, instead of sharing its files.

    Raises as `lock_data_dir`.
    """
    return lock_data_dir(path, name=TRADING_LOCK_NAME, wait_s=TRADING_WAIT_S)


def lock_data_dir(path: Path, *, name: str = LOCK_NAME, wait_s: float = 0.0) -> DataDirLock:
    """Take the data directory for this process.

    Args:
        wait_s: how long to wait for somebody else's end.

    Raises:
        DataDirBusy: another desk, named by its process, has it.
        ConfigErrors: the lock file cannot be written, or this file system has no locks.
    """
    end_s = time.monotonic() + wait_s
    is_told = False
    while True:
        try:
            return _lock(path, name)
        except DataDirBusy as busy:
            if time.monotonic() >= end_s:
                raise
            if not is_told:
                is_told = True
                log.warning("waiting for process %s, the desk before this one, to end", busy.pid)
            time.sleep(0.1)


def _lock(path: Path, name: str) -> DataDirLock:
    try:
        handle = os.open(path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigErrors([Mistake("data_dir", f"'{path}' cannot be written ({error.strerror})")]) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        text = os.pread(handle, 32, 0).strip()
        os.close(handle)
        raise DataDirBusy(path, int(text) if text.isdigit() else None) from None
    except OSError as error:
        os.close(handle)
        raise ConfigErrors([Mistake("data_dir", f"'{path}' cannot be locked ({error.strerror})")]) from error
    return DataDirLock(handle)
