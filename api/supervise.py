"""Child processes: start them, know that they live, end them in order.

Hides: how a child learns that its parent is gone, how secrets reach it without standing in its arguments or
its environment, how it says that it is ready. Must not know: what the children do. The parent's side
(`spawn`, `Child`, `stop_in_order`) is called by `run.py`; the child's side (`from_parent`) first thing in a
child's main.

Each child has two pipes. Down: one line of JSON with the secrets, then nothing; its end of file means that
the parent died, whichever way. Up: lines `word {json}`, the first usually `ready {...}`. A child leads a
session of its own, so Ctrl-C reaches the parent alone, and the parent ends the children in the order it
wants.

A child that hears the end of its parent is not killed at once: a desk has orders to cancel. It runs its
orderly end and, should that hang, is gone for good after a stated time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from .runtime import Service

log = logging.getLogger("makerdeck.supervise")

PARENT_FD = "MAKERDECK_PARENT_FD"
READY_FD = "MAKERDECK_READY_FD"
SECRETS_BYTES = 16_000  # a pipe holds at least 16 KiB before anyone reads, so handing over never blocks
LINE_BYTES = 65_536  # longest line a child may say
SECRETS_WAIT_S = 10.0
HARD_END_S = 30.0
_GONE_CODE = 70  # exit code of a child whose orderly end after its parent's death hung

# Dropped from a child's environment: every variable with one of these in its name, and every variable whose
# value is an address or a connection string with a user or a password in it (DATABASE_URL, REDIS_URL, a
# proxy). Harmless variables that match are dropped too; what a child needs of them is given as a secret.
SECRET_NAMES = (
    "AUTH", "COOKIE", "CREDENTIAL", "JWT", "KEY", "MNEMONIC", "PASS", "PHRASE", "PRIVATE", "SECRET",
    "SIGNATURE", "TOKEN", "WEBHOOK", "_PIN", "_PWD",
)  # fmt: skip
_SECRET_VALUE = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/\s]*@|(?:^|[?&;\s])(?:pass|passwd|password|pwd|secret|token|key)=", re.IGNORECASE
)


class NotReady(Exception):
    """The child ended, or did not say `ready` in time.

    Args:
        returncode: its exit code (negative: the signal that ended it), or None while it still runs.
    """

    def __init__(self, message: str, returncode: int | None) -> None:
        super().__init__(message)
        self.returncode = returncode


def scrubbed(env: Mapping[str, str]) -> dict[str, str]:
    """`env` without anything that looks like a key, a secret or a token (`SECRET_NAMES`, and values)."""
    return {
        name: value
        for name, value in env.items()
        if not any(word in name.upper() for word in SECRET_NAMES) and not _SECRET_VALUE.search(value)
    }


class Child:
    """A running child, seen from its parent. Made by `spawn`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], alive_fd: int, lines_fd: int) -> None:
        self.name = name
        self._process = process
        self._alive_fd = alive_fd  # open as long as this process lives: that is its whole purpose
        self._lines_fd = lines_fd
        self._heard = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs (as far as `poll` knows)."""
        return self._process.returncode

    def poll(self) -> int | None:
        """Look now: its exit code, or None while it runs."""
        if self._process.poll() is not None:
            self._end_session()
        return self._process.returncode

    def next_line(self, timeout_s: float) -> tuple[str, Mapping[str, Any]] | None:
        """The next `word {json}` the child said; None when none comes within `timeout_s` seconds.

        What a child said before it ended can still be read afterwards. Lines of another form are skipped.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                parsed = _parsed(line)
                if parsed is not None:
                    return parsed
                continue
            if self._lines_fd < 0 or not _readable(self._lines_fd, end_s - time.monotonic()):
                return None
            said = os.read(self._lines_fd, LINE_BYTES)
            if not said:  # every holder of the other end is gone
                self._close_lines()
                return None
            self._heard = (self._heard + said)[-2 * LINE_BYTES :]

    def wait_ready(self, timeout_s: float) -> Mapping[str, Any]:
        """What the child said with `ready`. Other lines before it are skipped. Raises NotReady."""
        end_s = time.monotonic() + timeout_s
        while True:
            ended = self.poll() is not None  # looked at first: what it said before it ended is still read
            line = self.next_line(min(0.05, max(0.0, end_s - time.monotonic())))
            if line is not None and line[0] == "ready":
                return line[1]
            if line is None and ended:
                raise NotReady(
                    f"{self.name} ended before it was ready ({_ending(self.returncode)})", self.returncode
                )
            if line is None and self._lines_fd < 0:
                time.sleep(0.01)  # it closed its pipe and still runs
            if time.monotonic() >= end_s:
                raise NotReady(f"{self.name} was not ready within {timeout_s:g} s", self.returncode)

    def wait(self, timeout_s: float) -> bool:
        """Wait, at most `timeout_s` seconds; True when it has ended."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        self._end_session()
        return True

    def terminate(self, deadline_s: float) -> bool:
        """Ask it to end (SIGTERM), wait at most `deadline_s` seconds, then kill it and all it started.

        True when it ended by itself in time. Idempotent; a child that has ended already counts as ended.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        in_time = self.wait(deadline_s)
        if not in_time:
            log.warning("child=%s pid=%d did not end within %g s, killed", self.name, self.pid, deadline_s)
            self.kill()
        return in_time

    def kill(self) -> None:
        """End it and whatever it started in its session, at once. Idempotent."""
        self._end_session()
        self._process.wait()

    def close(self) -> None:
        """Stop listening to what it said. For a parent that starts many children in its life."""
        self._close_lines()

    def _end_session(self) -> None:
        """Kill what is left of the session, once: later its number may belong to somebody else."""
        handle, self._alive_fd = self._alive_fd, -1
        if handle >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            os.close(handle)

    def _close_lines(self) -> None:
        if self._lines_fd >= 0:
            os.close(self._lines_fd)
            self._lines_fd = -1


def spawn(
    name: str,
    argv: Sequence[str],
    *,
    secrets: Mapping[str, str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    output: IO[bytes] | int | None = None,
) -> Child:
    """Start a child that ends when we do.

    Args:
        name: shown in logs and messages.
        argv: program and arguments; no secrets, everybody on the machine can read them.
        secrets: handed over the pipe; at most `SECRETS_BYTES` bytes as JSON.
        env: variables on top of our own environment; both are scrubbed (`scrubbed`).
        output: where its standard output and error go; None: where ours go.

    Raises OSError when the program cannot be started, ValueError when the secrets are too long.
    """
    handed = json.dumps(dict(secrets)).encode() + b"\n"
    if len(handed) > SECRETS_BYTES:
        raise ValueError(f"the secrets for {name} take {len(handed)} bytes, at most {SECRETS_BYTES} fit")
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    try:
        os.write(down_write, handed)
        process = subprocess.Popen(
            list(argv),
            env={
                **scrubbed({**os.environ, **(env or {})}),
                PARENT_FD: str(down_read),
                READY_FD: str(up_write),
            },
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(down_read, up_write),  # and no other descriptor of ours
            start_new_session=True,
        )
    except BaseException:
        os.close(down_write)
        os.close(up_read)
        raise
    finally:
        os.close(down_read)
        os.close(up_write)
    return Child(name, process, down_write, up_read)


def stop_in_order(plan: Sequence[tuple[Child, float]]) -> list[Child]:
    """End each child, in this order, each with its own deadline in seconds. Returns those it had to kill."""
    return [child for child, deadline_s in plan if not child.terminate(deadline_s)]


@dataclass(slots=True)
class Inherited:
    """What a child got from its parent."""

    secrets: Mapping[str, str] = field(repr=False)
    _parent_fd: int
    _ready_fd: int

    def say(self, word: str, facts: Mapping[str, Any] | None = None) -> bool:
        """Tell the parent `word {json}`; never blocks. False when nobody reads any more."""
        line = f"{word} {json.dumps(dict(facts or {}))}\n".encode()
        try:
            return os.write(self._ready_fd, line) == len(line)
        except OSError:  # full, or the parent is gone
            return False

    def ready(self, **facts: Any) -> bool:
        """Tell the parent that this child does its work now."""
        return self.say("ready", facts)

    def watch(self, on_eof: Callable[[], None], *, hard_end_s: float | None = HARD_END_S) -> Service:
        """Call `on_eof` once, on a thread of its own, when the parent is gone.

        Args:
            hard_end_s: when this process still runs so many seconds after that, it is ended without further
                ado, so that nothing survives its parent; None: never.
        """

        def body(service: Service) -> None:
            while not self._is_orphan(0.5):
                service.beat()
                if service.stopping:
                    return
            log.warning("the parent process is gone; ending")
            began_s = time.monotonic()
            try:
                if hard_end_s is not None:
                    Service("parent-gone", lambda last: _end_hard(last, hard_end_s)).start()
                on_eof()
            finally:
                log.info("orderly end asked for after %.3f s", time.monotonic() - began_s)

        return Service("parent-watch", body).start()

    def _is_orphan(self, timeout_s: float) -> bool:
        return _readable(self._parent_fd, timeout_s) and not os.read(self._parent_fd, 4096)


_inherited: Inherited | None = None


def from_parent() -> Inherited | None:
    """In a child of `spawn`: its secrets and the way back. None in a process that nobody spawned.

    The secrets are read once; later calls give the same object. Raises ConnectionError when the parent died,
    or does not hand them over in time.
    """
    global _inherited
    if _inherited is None and PARENT_FD in os.environ and READY_FD in os.environ:
        parent_fd, ready_fd = int(os.environ.pop(PARENT_FD)), int(os.environ.pop(READY_FD))
        for handle in (parent_fd, ready_fd):
            os.set_inheritable(handle, False)  # they are ours, not our children's
        os.set_blocking(ready_fd, False)
        _inherited = Inherited(_read_secrets(parent_fd), parent_fd, ready_fd)
    return _inherited


def _read_secrets(handle: int) -> dict[str, str]:
    handed = b""
    end_s = time.monotonic() + SECRETS_WAIT_S
    while not handed.endswith(b"\n"):
        if not _readable(handle, end_s - time.monotonic()):
            raise ConnectionError("the parent process did not hand over what this process needs")
        piece = os.read(handle, SECRETS_BYTES)
        if not piece:
            raise ConnectionError("the parent process ended while it started this one")
        handed += piece
    secrets = json.loads(handed)
    return {str(name): str(value) for name, value in secrets.items()}


def _readable(handle: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(max(0.0, timeout_s) * 1000))


def _end_hard(service: Service, after_s: float) -> None:
    service.wait(after_s)
    log.error("the orderly end took more than %g s; ending now", after_s)
    os._exit(_GONE_CODE)


def _parsed(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    word, _, rest = line.decode("utf-8", "replace").partition(" ")
    try:
        facts = json.loads(rest) if rest else {}
    except ValueError:
        return None
    return (word, facts) if word.isidentifier() and isinstance(facts, dict) else None


def _ending(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"
