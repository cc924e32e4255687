"""Children of a parent: secrets, the ready word, order of stopping, and nothing that survives a kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.supervise import Child, NotReady, from_parent, scrubbed, spawn, stop_in_order

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-5f1d0c9e77"


def until(claim: Callable[[], bool], within_s: float = 10.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if claim():
            return True
        time.sleep(0.01)
    return claim()


def runs(pid: int) -> bool:
    """A zombie that nobody collects does not run."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start_one(source: str, *, secrets: dict[str, str] | None = None, **more: object) -> Child:
        child = spawn(
            "child",
            [sys.executable, "-c", textwrap.dedent(source)],
            secrets=secrets or {},
            cwd=ROOT,
            **more,  # type: ignore[arg-type]
        )
        children.append(child)
        return child

    yield start_one
    for child in children:
        child.kill()
        child.close()


POLITE = """
    import signal, threading
    from api.supervise import from_parent
    parent = from_parent()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    parent.watch(stop.set)
    parent.ready(secrets=dict(parent.secrets))
    stop.wait()
    parent.say("receipt", {"open_orders": 0})
"""

STUBBORN = """
    import signal, time
    from api.supervise import from_parent
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = from_parent()
    parent.ready()
    time.sleep(60)
"""


def test_a_child_gets_its_secrets_and_says_that_it_is_ready(start: Callable[..., Child]) -> None:
    child = start(POLITE, secrets={"venue": SECRET})
    assert child.wait_ready(10.0) == {"secrets": {"venue": SECRET}}
    assert child.poll() is None


def test_a_secret_stands_neither_in_the_arguments_nor_in_the_environment(
    start: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINANCE_API_SECRET", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@host/db")
    child = start(POLITE, secrets={"venue": SECRET}, env={"MAKERDECK_MODE": "desk", "SOME_TOKEN": SECRET})
    child.wait_ready(10.0)
    environment = Path(f"/proc/{child.pid}/environ")
    if not environment.exists():
        pytest.skip("needs /proc")
    assert SECRET.encode() not in environment.read_bytes()
    assert b"MAKERDECK_MODE=desk" in environment.read_bytes()
    assert SECRET.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()


def test_names_and_values_that_look_secret_are_dropped_from_an_environment() -> None:
    kept = {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "SSL_CERT_FILE": "ca.pem",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=bus",
        "PWD": "here",
        "MAKERDECK_SEED": "7",
        "REDIS_URL": "redis://host:6379/0",
    }
    dropped = {
        "CONSOLE_TOKEN": "x",
        "api_key": "x",
        "OKX_PASSPHRASE": "x",
        "DB_PASSWORD": "x",
        "DB_PWD": "x",
        "GITHUB_AUTH": "x",
        "CACHE": "redis://:pw@host",
        "HTTPS_PROXY": "http://user:pw@proxy:1",
        "DSN": "host=db password=pw",
        "OTHER": "unix:///redis.sock?password=pw",
    }
    assert scrubbed({**kept, **dropped}) == kept


def test_a_child_leads_a_session_of_its_own(start: Callable[..., Child]) -> None:
    child = start(POLITE)
    child.wait_ready(10.0)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_a_child_that_ends_before_it_is_ready_is_told_with_its_exit_code(start: Callable[..., Child]) -> None:
    with pytest.raises(NotReady, match="exit code 3") as failure:
        start("raise SystemExit(3)").wait_ready(10.0)
    assert failure.value.returncode == 3


def test_a_child_that_never_says_ready_is_told_by_the_deadline(start: Callable[..., Child]) -> None:
    child = start("import time; time.sleep(60)")
    with pytest.raises(NotReady, match=r"not ready within 0\.2 s"):
        child.wait_ready(0.2)
    assert child.poll() is None


def test_a_child_that_closes_its_pipe_is_told_by_the_deadline(start: Callable[..., Child]) -> None:
    child = start("import os, time; os.close(int(os.environ['MAKERDECK_READY_FD'])); time.sleep(60)")
    with pytest.raises(NotReady, match="not ready within"):
        child.wait_ready(0.5)


def test_ready_is_found_behind_other_lines_and_rubbish(start: Callable[..., Child]) -> None:
    child = start("""
        import os
        from api.supervise import from_parent
        parent = from_parent()
        os.write(int(parent._ready_fd), b"\\xff\\xfe rubbish\\n\\nready [1]\\nready {broken\\n")
        parent.say("progress", {"percent": 50})
        parent.ready(url="http://localhost:5000")
        """)
    assert child.wait_ready(10.0) == {"url": "http://localhost:5000"}


def test_a_polite_child_ends_in_time_and_leaves_a_receipt(start: Callable[..., Child]) -> None:
    child = start(POLITE)
    child.wait_ready(10.0)
    assert child.terminate(10.0) is True
    assert child.returncode == 0
    assert child.next_line(1.0) == ("receipt", {"open_orders": 0})
    assert child.next_line(0.1) is None
    assert child.terminate(1.0) is True  # twice is fine


def test_children_are_stopped_in_order_and_the_stubborn_are_named(start: Callable[..., Child]) -> None:
    polite, stubborn = start(POLITE), start(STUBBORN)
    polite.wait_ready(10.0)
    stubborn.wait_ready(10.0)
    assert stop_in_order([(stubborn, 0.3), (polite, 10.0)]) == [stubborn]
    assert (stubborn.returncode, polite.returncode) == (-signal.SIGKILL, 0)


def test_what_a_child_started_ends_with_it(start: Callable[..., Child]) -> None:
    child = start("""
        import subprocess, sys
        from api.supervise import from_parent
        parent = from_parent()
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        parent.ready(pid=grandchild.pid)
        grandchild.wait()
        """)
    grandchild = child.wait_ready(10.0)["pid"]
    child.terminate(5.0)
    assert until(lambda: not runs(grandchild))


def test_secrets_that_do_not_fit_the_pipe_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="at most 16000") as failure:
        spawn("desk", ["true"], secrets={"venue": "x" * 20_000})
    assert "xxx" not in str(failure.value)


def test_a_program_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        spawn("desk", ["no-such-program"], secrets={})


def test_a_process_nobody_spawned_has_no_parent() -> None:
    assert from_parent() is None


def test_secrets_do_not_show_in_the_text_of_what_was_inherited(start: Callable[..., Child]) -> None:
    child = start(
        """
        from api.supervise import from_parent
        parent = from_parent()
        parent.ready(text=repr(parent), same=parent is from_parent())
        """,
        secrets={"venue": SECRET},
    )
    said = child.wait_ready(10.0)
    assert SECRET not in said["text"]
    assert said["same"] is True


PARENT = """
    import json, os, sys, time
    from api.supervise import spawn
    from quote.redis_server import start_redis
    redis = start_redis()
    polite = spawn("polite", [sys.executable, "-c", {child!r}], secrets={{}})
    hanging = spawn("hanging", [sys.executable, "-c", {hanging!r}], secrets={{}})
    polite.wait_ready(10.0)
    hanging.wait_ready(10.0)
    pids = [polite.pid, hanging.pid]
    if redis is not None:
        pids.append(redis._keeper.pid)
        with open(f"/proc/{{redis._keeper.pid}}/task/{{redis._keeper.pid}}/children") as children:
            pids += [int(pid) for pid in children.read().split()]
    print(json.dumps(pids), flush=True)
    time.sleep(60)
"""

HANGING = """
    import time
    from api.supervise import from_parent
    parent = from_parent()
    parent.watch(lambda: time.sleep(60), hard_end_s=0.3)
    parent.ready()
    time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process table from /proc")
def test_nothing_survives_a_parent_that_is_killed() -> None:
    source = textwrap.dedent(PARENT).format(child=textwrap.dedent(POLITE), hanging=textwrap.dedent(HANGING))
    parent = subprocess.Popen(
        [sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = json.loads(parent.stdout.readline())
        assert len(pids) in (2, 4)  # two children, the keeper of Redis, Redis
        assert all(runs(pid) for pid in pids)
        parent.kill()
        parent.wait()
    assert until(lambda: not any(runs(pid) for pid in pids)), [pid for pid in pids if runs(pid)]
