"""What a person can get wrong at the start: one clear line per mistake, exit code 2, and nothing changed."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import find_redis_server
from tests.scenarios.processes import RUN, Family, alive, until

Cut = Callable[[Path, float], Path]

DIRECT = ("--exchange", "paper", "--symbol", "BTC-USDT")
GOOD = (*DIRECT, "--spread", "0.05")


def attempt(
    *words: str, cwd: Path, env: dict[str, str] | None = None, within_s: float = 30.0
) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the lines of standard error of one start."""
    ended = subprocess.run(
        [sys.executable, RUN, *words],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
    )
    return ended.returncode, ended.stdout, ended.stderr.splitlines()


def refused(*words: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The one line of a refused start; everything around it is checked."""
    before = snapshot(cwd)
    code, out, lines = attempt(*words, cwd=cwd, env={"TMPDIR": str(cwd), **(env or {})})
    assert (code, out, len(lines)) == (2, "", 1), (code, out, lines)
    assert lines[0].startswith("makerdeck: ")
    assert snapshot(cwd) == before, "a refused start changed something"
    return lines[0]


def snapshot(place: Path) -> dict[str, bytes]:
    """Every file below, with what is in it."""
    return {str(p.relative_to(place)): p.read_bytes() if p.is_file() else b"" for p in place.rglob("*")}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--symbol", "NO-SUCH", "--spread", "0.05"), ("symbol", "'NO-SUCH'", "BTC-USDT")),
        ((*GOOD, "--strategy", "guess"), ("strategy", "'guess'", "standard")),
        ((*GOOD, "--strategy", "grid"), ("strategy", "not available yet", "standard")),
        (("--exchange", "mtgox", "--symbol", "BTC-USDT", "--spread", "1"), ("exchange", "'mtgox'", "paper")),
        ((*GOOD, "--env", "live"), ("env", "not available yet", "paper")),
        ((*GOOD, "--market-type", "perp"), ("market_type", "not available yet", "spot")),
        ((*GOOD, "--bogus", "1"), ("--bogus", "no such flag")),
        ((*GOOD, "--stop-loss", "1"), ("--stop-loss", "not available yet")),
        ((*DIRECT, "--spread", "0"), ("spread", "'0'", "more than 0", "percent")),
        ((*DIRECT, "--spread", "-1"), ("spread", "'-1'", "more than 0", "percent")),
        ((*DIRECT, "--spread", "nan"), ("spread", "'nan'", "more than 0", "percent")),
        ((*GOOD, "--quantity", "0.000001"), ("quantity", "0.000001", "minimum", "BTC")),
        ((*GOOD, "--quantity", "-2"), ("quantity", "'-2'")),
        ((*GOOD, "--max-orders", "0"), ("max_orders", "1 to 50")),
        ((*GOOD, "--duration", "forever"), ("duration", "'forever'", "seconds")),
        (DIRECT, ("spread", "needs it")),
        ((*GOOD, "--host", "0.0.0.0"), ("--host", "only with --web")),
        (("--web", "--host", "0.0.0.0"), ("host", "'0.0.0.0'", "TLS_CERT", "127.0.0.1")),
        (("--web", "--port", "70000"), ("port", "'70000'", "65535")),
        ((*GOOD, "--speed", "2"), ("speed", "--tape")),
        (("--web", "--redis", "http://x"), ("redis", "redis://")),
    ],
)
def test_a_flag_that_cannot_be_is_named_with_what_is_allowed(
    tmp_path: Path, words: tuple[str, ...], says: tuple[str, ...]
) -> None:
    line = refused(*words, cwd=tmp_path)
    assert all(part in line for part in says), line


def test_several_mistakes_are_told_at_once_one_line_each(tmp_path: Path) -> None:
    code, out, lines = attempt(
        "--symbol", "BTC-USDT", "--spread", "0", "--bogus", "--seed", "x", cwd=tmp_path
    )
    assert (code, out) == (2, "")
    assert sorted(line.split(":")[1].strip() for line in lines) == ["--bogus", "seed", "spread"]


@pytest.mark.parametrize(
    "words",
    [
        ("--api-key", "sk-canary-123"),
        ("--paper-token=sk-canary-123",),
        ("--console-password", "sk-canary-123"),
        ("--redis", "redis://:sk-canary-123@127.0.0.1:1/0"),
        ("--database-url", "postgresql://u:sk-canary-123@127.0.0.1/x"),
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    line = refused("--web", *words, cwd=tmp_path)
    assert "secret is never taken from here" in line or "no such flag" in line
    assert "canary" not in line


# ------------------------------------------------------------------------------------------------------ tapes


def tape_file(home: Path, name: str, content: bytes) -> str:
    path = home / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("mode", ["direct", "web"])
def test_a_tape_that_cannot_be_played_is_named_and_nothing_is_made(
    tmp_path: Path, btc_tape: Path, cut: Cut, mode: str
) -> None:
    good = cut(btc_tape, 5).read_bytes()
    whole = gzip.compress(good)
    data = str(tmp_path / "data")
    start = (*GOOD, "--speed", "max", "--json") if mode == "direct" else ("--web", "--no-browser")
    later = b"\n".join(line for line in good.split(b"\n") if b"lastUpdateId" not in line)
    cases = {
        "absent": (str(tmp_path / "absent"), "No such file"),
        "cut": (tape_file(tmp_path, "cut", whole[: len(whole) // 2]), "cut"),
        "torn": (tape_file(tmp_path, "torn", good[:-20]), "torn"),
        "other": (tape_file(tmp_path, "other", b"time,price\n1,2\n"), "Binance"),
        "empty": (tape_file(tmp_path, "empty", b""), "empty"),
        "bytes": (tape_file(tmp_path, "bytes", bytes(range(256)) * 40), "bytes"),
        "bookless": (tape_file(tmp_path, "bookless", later), "snapshot"),
    }
    for name, (path, says) in cases.items():
        line = refused(*start, "--data-dir", data, "--tape", path, cwd=tmp_path)
        assert line.startswith("makerdeck: tape: "), (name, line)
        assert says in line, (name, line)
        assert not Path(data).exists(), name


def test_a_symbol_that_is_not_on_the_tape_is_told_what_is(tmp_path: Path, btc_tape: Path, cut: Cut) -> None:
    tape = str(cut(btc_tape, 5))
    words = ("--spread", "0.05", "--tape", tape, "--speed", "max", "--json")
    line = refused("--symbol", "ETH-USDT", *words, cwd=tmp_path)
    assert all(part in line for part in ("symbol", "'ETH-USDT'", "not on the tape", "BTC-USDT")), line
    line = refused("--symbol", "DOGE-USDT", *words, cwd=tmp_path)
    assert all(part in line for part in ("symbol", "'DOGE-USDT'", "unknown", "BTC-USDT")), line
    line = refused("--symbol", "BTC-USDT", "--quantity", "0.000001", *words, cwd=tmp_path)
    assert all(part in line for part in ("quantity", "minimum", "BTC")), line


# --------------------------------------------------------------------------------------------- data directory


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    line = refused("--web", "--data-dir", str(file), cwd=tmp_path)
    assert all(part in line for part in ("data_dir", str(file), "not a directory")), line
    long = tmp_path.joinpath(*["d" * 100] * 6)
    line = refused("--web", "--data-dir", str(long), cwd=tmp_path)
    assert all(part in line for part in ("data_dir", "too long", "440")), line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    line = refused("--web", "--data-dir", str(closed), cwd=tmp_path)
    assert all(part in line for part in ("data_dir", str(closed), "cannot be written")), line


def test_a_file_system_that_takes_no_writes_is_named() -> None:
    unwritable = Path("/proc/self/makerdeck")
    if not unwritable.parent.exists():
        pytest.skip("there is no /proc here")
    code, out, lines = attempt("--web", "--data-dir", str(unwritable), cwd=Path("/"))
    assert (code, out, len(lines)) == (2, "", 1), lines
    assert all(part in lines[0] for part in ("data_dir", "/proc", "cannot be written")), lines


def test_a_foreign_file_in_the_place_of_the_store_is_left_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "state.db").write_text("a diary, not a database; " * 50)
    (data / "desk.lock").touch()
    code, _, lines = attempt(*GOOD, "--duration", "1", "--data-dir", str(data), cwd=tmp_path)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert "state.db" in lines[0]
    assert (data / "state.db").read_text().startswith("a diary")


def test_a_second_desk_on_the_same_directory_is_told_who_has_it(
    family: Family, tmp_path: Path, btc_tape: Path, cut: Cut
) -> None:
    data = tmp_path / "data"
    first = family.run(
        *GOOD, "--tape", str(cut(btc_tape, 60)), "--speed", "1", "--json", "--data-dir", str(data)
    )
    until(lambda: (data / "intents.log").exists(), "the first run")
    kept = sorted(os.listdir(data))
    for words in (("--web", "--no-browser"), (*GOOD, "--duration", "1"), ("--no-browser",)):
        code, out, lines = attempt(*words, "--data-dir", str(data), cwd=tmp_path)
        assert (code, out, len(lines)) == (2, "", 1), lines
        assert all(part in lines[0] for part in ("data_dir", str(data), f"process {first.pid}")), lines
    assert sorted(os.listdir(data)) == kept
    first.process.send_signal(signal.SIGTERM)
    assert first.code(within_s=15.0) == 0


# ------------------------------------------------------------------------------------------------------ Redis


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    """A server that says `answer` to whatever it is told."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            with link:
                try:
                    link.settimeout(5.0)
                    link.recv(4096)
                    link.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5.0)


@contextmanager
def redis_on(home: Path, *words: str) -> Iterator[str]:
    """A real Redis of somebody else."""
    binary = find_redis_server()
    if binary is None:
        pytest.skip("no Redis or Valkey server on this machine")
    path = Path(os.path.realpath(home)) / "r.sock"
    with subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(home), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            until(path.exists, "the other Redis")
            yield f"unix://{path}"
        finally:
            server.kill()


def web_with(redis: str, home: Path) -> str:
    """What a desk says to this Redis."""
    code, out, lines = attempt(
        "--no-browser", "--data-dir", str(home / "data"), cwd=home, env={"REDIS_URL": redis}
    )
    assert (code, out, len(lines)) == (2, "", 1), (code, out, lines)
    assert not (home / "data" / "state.db").exists()
    assert not (home / "data" / "intents.log").exists()
    return lines[0]


def test_a_redis_that_is_down_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = web_with(f"redis://:canary-word@127.0.0.1:{port}/0", tmp_path)
    assert "redis" in line.lower()
    assert str(port) in line
    assert "canary" not in line


def test_something_that_is_no_redis_is_named(tmp_path: Path) -> None:
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        line = web_with(f"redis://127.0.0.1:{port}/0", tmp_path)
    assert "redis" in line.lower()
    assert str(port) in line


@pytest.mark.redis
def test_a_redis_that_is_full_or_locked_is_named(tmp_path: Path) -> None:
    short = tmp_path / "s"
    short.mkdir()
    with redis_on(short, "--maxmemory", "1", "--maxmemory-policy", "noeviction") as url:
        line = web_with(url, tmp_path)
        assert "memory" in line.lower() or "full" in line.lower(), line
    locked = tmp_path / "l"
    locked.mkdir()
    with redis_on(locked, "--requirepass", "not-told-to-us") as url:
        line = web_with(url, tmp_path)
        assert "password" in line.lower() or "auth" in line.lower(), line


# ------------------------------------------------------------------------------------------------ paper venue


def test_a_paper_venue_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    env = {"PAPER_URL": f"127.0.0.1:{port}", "PAPER_TOKEN": "only-for-tests-0123456789"}
    code, _, lines = attempt(*GOOD, "--duration", "1", cwd=tmp_path, env=env)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert str(port) in lines[0]


def test_a_paper_venue_needs_a_token_from_the_environment(tmp_path: Path) -> None:
    line = refused("--cli", "serve-paper", "127.0.0.1:0", cwd=tmp_path)
    assert "PAPER_TOKEN" in line
    assert "16" in line


def test_a_refused_start_leaves_no_process(family: Family, tmp_path: Path) -> None:
    program = family.run(
        "--web", "--no-browser", "--data-dir", str(tmp_path / "d"), "--redis", "redis://127.0.0.1:1"
    )
    members = program.family()
    assert program.code() == 2
    until(lambda: not alive(members), "every process to end")
