"""The face in a real process: on a pseudo-terminal, without one, and what it imports."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.shared import ROOT

DEADLINE_S = 30.0
HEAVY = ("rich", "flask", "sqlalchemy", "prompt_toolkit", "redis", "pydantic", "requests")
# makes the terminal on standard input the controlling one, so that Ctrl-C is a signal
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, sys.argv[1:])
"""


class Terminal:
    """A process on a pseudo-terminal, read and typed at with deadlines."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.fd = fd
        self.text = ""

    def interrupt(self, pattern: str) -> None:
        """Ctrl-C until the pattern appears. Again and again, as a person would: Python's own line reader
        misses one that comes between its echo of a key and its wait for the next.
        """
        ends = time.monotonic() + DEADLINE_S
        while True:
            self.type("\x03")
            try:
                return self.wait_for(pattern, seconds=2.0)
            except AssertionError:
                if time.monotonic() > ends:
                    raise

    def wait_for(self, pattern: str, *, seconds: float = DEADLINE_S) -> None:
        """Read until the pattern appears in what was not matched yet."""
        ends = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            left = ends - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; last: {self.text[-2000:]!r}"
            if select.select([self.fd], [], [], min(left, 0.5))[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:  # the process is gone
                    assert re.search(pattern, self.text), f"ended without {pattern!r}: {self.text[-2000:]!r}"
        self.text = self.text[found.end() if found else 0 :]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def code(self) -> int:
        """Exit code, within the deadline, while its output is drained."""
        ends = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < ends, f"does not end; last: {self.text[-2000:]!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    pass
        return self.process.wait()


@contextmanager
def terminal(*words: str, cells: int = 120, lines: int = 40) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, cells, 0, 0))
    command = [sys.executable, "-c", _CONTROLLED, sys.executable, "-m", "tests.cli.face", *words]
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_the_live_view_redraws_by_itself_and_q_leaves_it_with_the_workers_running() -> None:
    with terminal("attached", "live") as face:
        face.wait_for(r"\x1b\[\?1049h")
        face.wait_for("QUOTING")
        face.wait_for("because mid")
        for _ in range(3):
            face.wait_for(r"q leave \(workers go on\)")
        face.type("q")
        assert face.code() == 0
        assert "\x1b[?1049l" in face.text and "\x1b[?25h" in face.text
        assert "closed; running 1" in face.text
        assert "ends now" not in face.text


def test_ctrl_c_leaves_the_live_view_of_a_desk_of_its_own_and_says_that_it_ends() -> None:
    with terminal("own", "live", "demo", cells=80, lines=24) as face:
        face.wait_for("its workers stop")
        face.type("\x03")
        assert face.code() == 130
        assert "and 1 running worker with it" in face.text
        assert "\x1b[?1049l" in face.text
        assert "Traceback" not in face.text


def test_the_prompt_does_commands_and_asks_before_it_ends_a_desk_with_running_workers() -> None:
    with terminal("own") as face:
        face.wait_for("makerdeck> ")
        face.type("show demo\r")
        face.wait_for("because mid")
        face.wait_for("makerdeck> ")
        face.type("7\r")
        face.wait_for("'7' is not a command")
        face.type('open "quote\r')
        face.wait_for("not understood")
        face.wait_for("makerdeck> ")
        face.type("half a line")
        face.wait_for("half a line")
        face.interrupt("makerdeck> ")
        face.type("kill\r")
        face.wait_for(r"makerdeck \[KILLED\]> ")
        face.type("release\r")
        face.wait_for("type RELEASE")
        face.type("RELEASE\r")
        face.wait_for("released")
        face.type("start demo\r")
        face.wait_for("demo \\(w1\\) running")
        face.type("live\r")
        face.wait_for("q leave")
        face.type("q")
        face.wait_for("workers of this desk go on")
        face.type("quit\r")
        face.wait_for(r"leave\? \[y/N\] ")
        face.type("n\r")
        face.wait_for("makerdeck> ")
        face.type("stop --all\r")
        face.wait_for("confirmed by the venue")
        face.type("quit\r")
        assert face.code() == 0
        assert "Traceback" not in face.text


def test_the_end_of_input_leaves_the_prompt() -> None:
    with terminal("attached", "shell") as face:
        face.wait_for("makerdeck> ")
        face.type("\x04")
        assert face.code() == 0


def test_create_asks_on_a_terminal() -> None:
    with terminal("attached", "create") as face:
        face.wait_for("symbol .BTC-USDT, ETH-USDT.: ")
        face.type("ETH-USDT\r")
        face.wait_for("Spread, % of mid")
        face.type("0\r")
        face.wait_for("out of range")
        face.type("0.05\r")
        for title in ("Quantity", "Orders a side", "Interval", "Duration"):
            face.wait_for(title)
            face.type("\r")
        face.wait_for("created w2")
        assert face.code() == 0


def run(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cli.face", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **changes},
    )


def test_start_without_a_terminal_stays_with_a_desk_of_its_own_until_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.face", "own", "start", "demo"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        until(process, "execution ")
        process.send_signal(2)
        rest = process.communicate(timeout=DEADLINE_S)[0]
        assert process.returncode == 130
        assert "report after" in rest and "confirmed by the venue" in rest
        assert "closed; running 0" in rest and "Traceback" not in rest
    finally:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], part: str) -> None:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if part in line:
            return
    pytest.fail(f"ended without {part!r}: {''.join(lines)}")


def test_an_output_without_unicode_still_gets_its_answer() -> None:
    done = run("attached", "show", "demo", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "because mid" in done.stdout
    assert done.stdout.isascii()


def test_a_reader_that_closes_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.face", "attached", "watch"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["topic"]
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
        assert "Error" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def loaded(code: str) -> list[str]:
    """Heavy modules that are loaded after `code` ran in a process of its own."""
    check = f"\nimport sys\nprint('\\n'.join(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


@pytest.mark.parametrize(
    "words", [["--help"], ["help", "create"], ["status", "--json"], ["list"], ["fills"]], ids=" ".join
)
def test_what_a_script_uses_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import io, types
from cli.main import main
from api.desk import DeskView, FillsView, NoticesView
view = DeskView(
    "d", "r", "v", "paper", "LIVE", 0, 0, False, "", 0, 0, 0, 0, "redis", False, 0.0, 0.0, None, "USDT", False
)
desk = types.SimpleNamespace(
    view=lambda: view, workers=lambda: [], health=lambda: dict(status="ok", checks=dict()),
    notices=lambda: NoticesView(0, ()), fills=lambda **_: FillsView(0, ()),
)
session = types.SimpleNamespace(desk=desk, bus=None, kind="attached", close=lambda: 0)
assert main({words!r}, lambda: session, out=io.StringIO(), err=io.StringIO(), is_tty=False) == 0
"""
    assert loaded(code) == []
