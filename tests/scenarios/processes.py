"""Real processes for scenarios: started, spoken to with deadlines, and never left behind.

Hides: how a program's family is found, where its output goes, how a desk tells its address. A `Family` ends
everything it started, and everything those started, whatever the test did.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from tests.shared import ROOT

RUN = str(ROOT / "run.py")
PATIENCE_S = 40.0  # two busy cores: a desk with Redis and a page is up after 3 to 15 s
PAPER_TOKEN = "paper-scenario-0123456789"
CONSOLE_TOKEN = "console-scenario-0123456789"


def until(holds: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S) -> Any:
    """The first true value of `holds`; AssertionError with `what` after `within_s` seconds."""
    end_s = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {within_s:g} s for {what}")
        time.sleep(0.02)


def parents() -> dict[int, int]:
    """Every process now: its parent's id by its own. Zombies are dead and left out."""
    found: dict[int, int] = {}
    if os.path.isdir("/proc/self"):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    found[int(name)] = int(parent)
        return found
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    for line in told.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        if not state.startswith("Z"):
            found[int(pid)] = int(parent)
    return found


def family_of(pid: int) -> tuple[int, ...]:
    """This process and all its descendants that live, the eldest first."""
    above = parents()
    members = [pid] if pid in above else []
    for one in members:
        members.extend(child for child, parent in above.items() if parent == one)
    return tuple(members)


def alive(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that still live."""
    now = parents()
    return [pid for pid in pids if pid in now]


def command_line(pid: int) -> str:
    """The words of a process's command line; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    told = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One `run.py`, its output in files."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
        self.out_path, self.err_path = out, err
        with out.open("wb") as o, err.open("wb") as e:
            self.process = subprocess.Popen(
                [sys.executable, RUN, *words],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=o,
                stderr=e,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    def wait_out(self, pattern: str, *, within_s: float = PATIENCE_S) -> re.Match[str]:
        """The first match in what it printed."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.out)
            if match is None and self.process.poll() is not None:
                match = re.search(pattern, self.out)
                assert match is not None, f"ended with {self.process.returncode}: {self.err[-3000:]}"
            return match

        match: re.Match[str] = until(found, f"{pattern!r} in its output", within_s=within_s)
        return match

    def code(self, *, within_s: float = PATIENCE_S) -> int:
        """Its exit code, once it ended."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"process {self.pid} does not end within {within_s:g} s; it said: {self.err[-2000:]}"
            ) from None

    def family(self) -> tuple[int, ...]:
        return family_of(self.pid)

    def end(self) -> None:
        """SIGKILL to it and to everything it started."""
        members = self.family()
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class RunningDesk:
    """A desk with a page, and those who speak to it over HTTP."""

    def __init__(self, program: Program, data_dir: Path, url: str, token: str) -> None:
        self.program = program
        self.data_dir = data_dir
        self.url = url
        self.token = token
        self.members = {
            role: pid for pid in program.family() for role in (role_of(pid),) if role not in ("", "keeper")
        }

    def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> requests.Response:
        """One request with the token; a connection of its own."""
        return requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout_s,
            proxies={"http": "", "https": ""},
        )

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = self.ask("POST", path, {} if body is None else body)
        assert answer.status_code == status, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def patch(self, path: str, body: Any) -> Any:
        answer = self.ask("PATCH", path, body)
        assert answer.status_code == 200, f"PATCH {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def create(self, **spec: Any) -> dict[str, Any]:
        """A standard maker on BTC-USDT, stopped; `spec` on top."""
        made: dict[str, Any] = self.post(
            "/api/workers",
            {
                "kind": "market_making",
                "strategy": "standard",
                "venue": "paper",
                "symbol": "BTC-USDT",
                "params": {"spread": 0.02, "quantity": "0.001", "max_orders": 2, "interval": 5},
                "limits": {},
                **spec,
            },
            status=201,
        )
        return made

    def worker(self, worker_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/workers/{worker_id}")
        return found

    def orders(self, worker_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/api/workers/{worker_id}/orders")["orders"]
        return found

    def quoting(self, worker_id: str, *, within_s: float = 20.0) -> dict[str, Any]:
        """The worker once both its sides quote."""

        def both() -> dict[str, Any] | None:
            seen = self.worker(worker_id)
            return seen if seen["word"] == "QUOTING" else None

        found: dict[str, Any] = until(both, f"{worker_id} quoting", within_s=within_s)
        return found

    def fills(self, worker_id: str) -> list[dict[str, Any]]:
        """All its fills over REST, oldest first, page by page."""
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self.get(f"/api/fills?worker={worker_id}&limit=1000{before}")
            known = {fill["trade_id"] for fill in found}
            found += [fill for fill in page["fills"] if fill["trade_id"] not in known]
            if page["next_before_ns"] is None:
                return found[::-1]
            before = f"&before_ns={page['next_before_ns']}"


def role_of(pid: int) -> str:
    """`supervisor`, `desk`, `web`, `keeper` or `redis`; empty for anything else."""
    words = command_line(pid)
    if "run.py" in words:
        with contextlib.suppress(OSError):
            env = Path(f"/proc/{pid}/environ").read_bytes()
            for role in ("desk", "web"):
                if f"MAKERDECK_ROLE={role}".encode() in env:
                    return role
        return "supervisor"
    if "quote.redis_server" in words:
        return "keeper"
    return "redis" if re.search("(redis|valkey)-server", words) else ""


class Family:
    """Starts programs and ends them all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._programs: list[Program] = []
        self._seen: set[int] = set()

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, name: str = "run"
    ) -> Program:
        """Start `run.py` with these words."""
        n = len(self._programs)
        program = Program(
            words,
            {**os.environ, **(env or {})},
            cwd or self.home,
            self.home / f"{name}-{n}.out",
            self.home / f"{name}-{n}.err",
        )
        self._programs.append(program)
        return program

    def paper(self, *words: str) -> tuple[Program, str]:
        """A paper venue in a process of its own, and its address."""
        program = self.run(
            *words, "--cli", "serve-paper", "127.0.0.1:0", env={"PAPER_TOKEN": PAPER_TOKEN}, name="venue"
        )
        return program, program.wait_out(r"paper venue at (\S+)").group(1)

    def desk(self, data_dir: Path, *words: str, env: Mapping[str, str] | None = None) -> RunningDesk:
        """A desk with its page, once it told its link."""
        return self.opened(self.begin_desk(data_dir, *words, env=env), data_dir)

    def begin_desk(self, data_dir: Path, *words: str, env: Mapping[str, str] | None = None) -> Program:
        """The same, not waited for."""
        port = str(free_port())
        return self.run(
            "--data-dir", str(data_dir), "--no-browser", "--port", port, *words, env=env, name="desk"
        )

    def opened(self, program: Program, data_dir: Path) -> RunningDesk:
        """Wait for the link of a desk that was begun."""
        link = program.wait_out(r"(http://\S+)/login#token=(\S+)")
        self._seen.update(program.family())
        return RunningDesk(program, data_dir, link.group(1), link.group(2))

    def close(self) -> None:
        """Kill what is left, whatever it is."""
        for program in self._programs:
            program.end()
        for pid in alive(sorted(self._seen)):
            if role_of(pid):  # still one of ours, not a number that was given away again
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
