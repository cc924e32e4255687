"""The private server: on a short socket, without persistence, gone with its owner."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from api.errors import BadInput
from quote import redis_server
from quote.bus import open_bus
from quote.redis_server import EmbeddedRedis, make_runtime_dir, remove_runtime_dir, start_redis

ROOT = Path(__file__).resolve().parents[2]


def until(claim: Callable[[], bool], within_s: float = 10.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if claim():
            return True
        time.sleep(0.01)
    return claim()


def answers(server: EmbeddedRedis) -> bool:
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(server.url) as client:
        return bool(client.ping())
    return False


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    started = start_redis()
    if started is None:
        pytest.skip("no Redis binary on this machine")
    yield started
    started.stop()


def test_the_server_is_private_bounded_and_keeps_nothing(server: EmbeddedRedis) -> None:
    assert stat.S_IMODE(server.runtime_dir.stat().st_mode) == 0o700
    assert len(str(server.runtime_dir / "redis.sock")) <= redis_server.SOCKET_BYTES
    with redis.Redis.from_url(server.url) as client:
        names = ("port", "save", "appendonly", "maxmemory", "maxmemory-policy", "dir")
        settings = {
            name: client.config_get(name)[name] for name in names
        }  # one by one: Redis 6 knows no list
    assert settings == {
        "port": "0",
        "save": "",
        "appendonly": "no",
        "maxmemory": str(256 * 1024 * 1024),
        "maxmemory-policy": "noeviction",
        "dir": str(server.runtime_dir.resolve()),
    }


def test_a_stopped_server_is_gone_with_its_directory(server: EmbeddedRedis) -> None:
    assert answers(server)
    server.stop()
    assert not answers(server)
    assert not server.is_alive
    assert not server.runtime_dir.exists()
    server.stop()


def test_a_server_that_died_can_be_started_again_at_the_same_address(server: EmbeddedRedis) -> None:
    bus = open_bus(server.url, "mk:test:")
    bus.publish("t", b"1")
    assert until(lambda: bus.latest("t") is not None)
    with redis.Redis.from_url(server.url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert until(lambda: not server.is_alive)
    server.start()
    assert until(lambda: bus.lost_for_s == 0.0)
    assert until(lambda: bus.latest("t") is not None)
    bus.close()


def test_a_directory_that_is_given_stays_and_only_our_files_leave(tmp_path: Path) -> None:
    home = make_runtime_dir()
    inside = home / "run"
    started = start_redis(inside)
    if started is None:
        pytest.skip("no Redis binary on this machine")
    (inside / "theirs").touch()
    assert answers(started)
    started.stop()
    assert [path.name for path in inside.iterdir()] == ["theirs"]
    remove_runtime_dir(home)
    assert not home.exists()


def test_a_directory_too_long_for_a_socket_is_refused_with_its_limit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a Unix socket inside needs at most 92") as refused:
        start_redis(tmp_path / ("x" * 100))
    assert refused.value.field == "runtime_dir"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    home = make_runtime_dir()
    (home / "file").touch()
    with pytest.raises(BadInput, match="cannot be made"):
        start_redis(home / "file" / "run")
    remove_runtime_dir(home)


def test_without_a_binary_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "find_binaries", lambda: iter(()))
    assert start_redis() is None


def test_a_binary_that_does_not_run_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o700)
    absent = tmp_path / "absent"
    good = list(redis_server.find_binaries())
    if not good:
        pytest.skip("no Redis binary on this machine")
    monkeypatch.setattr(redis_server, "find_binaries", lambda: iter([broken, absent, good[0]]))
    server = start_redis()
    assert server is not None
    assert server.binary == good[0]
    server.stop()
    monkeypatch.setattr(redis_server, "find_binaries", lambda: iter([broken]))
    assert start_redis() is None


def test_directories_of_dead_owners_are_swept_and_those_of_living_ones_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = make_runtime_dir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(base))
    source = (
        "import tempfile, time; from quote import redis_server\n"
        f"tempfile.tempdir = {str(base)!r}\n"
        "print(redis_server.make_runtime_dir(), flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        theirs = Path(owner.stdout.readline().decode().strip())
    foreign = base / "mkforeign"
    foreign.mkdir()
    long_ago = time.time() - 3600
    for path in (theirs, foreign):
        os.utime(path, (long_ago, long_ago))
    first = make_runtime_dir()
    assert theirs.exists()
    owner.kill()
    owner.wait()
    second = make_runtime_dir()
    assert not theirs.exists()
    assert foreign.exists()
    assert first.exists()
    for path in (first, second, base):
        remove_runtime_dir(path)
    assert not base.exists()


@pytest.mark.parametrize("victim", ["owner", "keeper"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG for the keeper")
def test_the_server_ends_when_its_owner_or_its_keeper_is_killed(victim: str) -> None:
    source = (
        "import time; from quote.redis_server import start_redis\n"
        "server = start_redis()\n"
        "print(server.url, server._keeper.pid, flush=True) if server else print('none', 0, flush=True)\n"
        "time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        url, keeper = owner.stdout.readline().decode().split()
    if url == "none":
        owner.kill()
        owner.wait()
        pytest.skip("no Redis binary on this machine")

    def is_up() -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    assert is_up()
    os.kill(owner.pid if victim == "owner" else int(keeper), signal.SIGKILL)
    assert until(lambda: not is_up())
    owner.kill()
    owner.wait()
