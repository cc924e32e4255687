"""The bus against a real server that dies, hangs, is full, is flushed, or is no Redis at all."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from api.errors import BadInput
from quote.bus import Bus, BusDown, BusTimeout, open_bus
from quote.redis_server import find_binaries

NS = "mk:test:"


def until(claim: Callable[[], bool], within_s: float = 10.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if claim():
            return True
        time.sleep(0.01)
    return claim()


class Server:
    """A server on a TCP port that can be killed, stopped in its tracks and started again."""

    def __init__(self, home: Path, *settings: str) -> None:
        self.port = 65_535
        while self.port > 55_000:  # a cluster node also needs the port 10,000 above its own
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.home = home
        self.settings = settings
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        binary = next(iter(find_binaries()), None)
        if binary is None:
            pytest.skip("no Redis binary on this machine")
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [str(binary), *words, "--dir", str(self.home), *self.settings],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

        def listens() -> bool:
            with socket.socket() as link:
                return link.connect_ex(("127.0.0.1", self.port)) == 0

        assert until(listens)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*settings: str) -> Server:
        servers.append(Server(tmp_path, *settings))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture
def opened() -> Iterator[Callable[..., Bus]]:
    buses: list[Bus] = []

    def open_one(url: str) -> Bus:
        buses.append(open_bus(url, NS))
        return buses[-1]

    yield open_one
    for bus in buses:
        bus.close()


Opened = Callable[..., Bus]


def test_a_server_that_dies_is_told_at_once_and_everything_comes_back_with_it(
    server: Server, opened: Opened
) -> None:
    desk, face = opened(server.url), opened(server.url)
    heard: list[bytes] = []
    face.watch("", lambda latest: heard.append(latest.payload))
    desk.serve("kill", lambda payload: b"killed")
    desk.publish("book", b"1")
    assert until(lambda: heard == [b"1"])
    assert face.request("kill", b"", timeout_s=5.0) == b"killed"

    server.kill()
    assert until(lambda: desk.lost_for_s > 0.0, within_s=2.0)
    with pytest.raises(BusDown, match=r"no server can be reached at 127.0.0.1:\d+: Connection refused"):
        face.latest("book")
    with pytest.raises(BusDown, match="nothing was sent"):
        face.request("kill", b"", timeout_s=0.5)
    began_s = time.monotonic()
    for n in range(1_000):
        desk.publish("book", str(n).encode())
    assert time.monotonic() - began_s < 0.5
    assert until(lambda: desk.lost_for_s > 1.0, within_s=5.0)

    server.start()
    assert until(lambda: desk.lost_for_s == face.lost_for_s == 0.0, within_s=5.0)
    assert until(lambda: heard[-1:] == [b"999"])
    assert until(lambda: (v := face.latest("book")) is not None and v.payload == b"999")
    assert face.request("kill", b"", timeout_s=5.0) == b"killed"
    desk.publish("book", b"live again")
    assert until(lambda: heard[-1] == b"live again")


def test_the_bus_outlives_many_restarts(server: Server, opened: Opened) -> None:
    desk, face = opened(server.url), opened(server.url)
    heard: list[bytes] = []
    face.watch("", lambda latest: heard.append(latest.payload))
    desk.serve("kill", lambda payload: payload)
    for n in range(5):
        server.kill()
        server.start()
        desk.publish("t", str(n).encode())
        assert until(lambda n=n: heard[-1:] == [str(n).encode()])  # type: ignore[misc]
        assert until(lambda: desk.lost_for_s == face.lost_for_s == 0.0)
        assert face.request("kill", str(n).encode(), timeout_s=5.0) == str(n).encode()
    assert heard == [b"0", b"1", b"2", b"3", b"4"]


def test_values_are_written_again_after_a_restart_with_their_first_stamp(
    server: Server, opened: Opened
) -> None:
    desk, face = opened(server.url), opened(server.url)
    desk.publish("worker/1", b"quiet")
    assert until(lambda: face.latest("worker/1") is not None)
    first = face.latest("worker/1")
    assert until(lambda: server.client().exists(f"{NS}m:{desk._id}") == 1)  # type: ignore[attr-defined]
    server.kill()
    server.start()

    def is_back() -> bool:
        with contextlib.suppress(BusDown):
            return face.latest("worker/1") == first
        return False

    assert until(is_back)


def test_values_are_written_again_after_a_flush_and_heard_only_once(server: Server, opened: Opened) -> None:
    desk, face = opened(server.url), opened(server.url)
    heard: list[bytes] = []
    face.watch("", lambda latest: heard.append(latest.payload))
    desk.publish("worker/1", b"quiet")
    desk.publish("worker/2", b"dropped")
    desk.publish("worker/3", b"over", ttl_s=1.0)
    assert until(lambda: len(heard) == 3)
    desk.drop("worker/2")
    client = server.client()
    assert until(lambda: client.exists(f"{NS}m:{desk._id}") == 1)  # type: ignore[attr-defined]
    assert until(lambda: face.topics("") == ["worker/1"])
    client.flushall()
    assert face.latest("worker/1") is None
    assert until(lambda: face.latest("worker/1") is not None)
    assert face.topics("") == ["worker/1"]
    desk.publish("worker/4", b"end")
    assert until(lambda: heard[-1] == b"end")
    assert sorted(heard) == [b"dropped", b"end", b"over", b"quiet"]
    client.close()


def test_a_server_that_hangs_is_slow_for_readers_and_nothing_for_publishers(
    server: Server, opened: Opened
) -> None:
    desk = opened(server.url)
    desk.publish("book", b"1")
    assert until(lambda: desk.latest("book") is not None)
    desk.serve("desk", lambda payload: payload)
    server.send(signal.SIGSTOP)
    slowest_s = 0.0
    for n in range(200):
        began_s = time.monotonic()
        desk.publish("book", str(n).encode())
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        time.sleep(0.001)
    assert slowest_s < 0.2
    with pytest.raises(BusDown, match="does not answer within 1 s"):
        desk.latest("book")
    with pytest.raises(BusTimeout, match="outcome is unknown"):
        desk.request("desk", b"", timeout_s=0.5)
    assert until(lambda: desk.lost_for_s > 2.0)
    server.send(signal.SIGCONT)
    assert until(lambda: desk.lost_for_s == 0.0)
    assert until(lambda: (v := desk.latest("book")) is not None and v.payload == b"199")
    assert desk.request("desk", b"again", timeout_s=5.0) == b"again"


def test_a_request_cut_in_the_middle_is_done_once_when_the_server_comes_back(
    server: Server, opened: Opened
) -> None:
    desk, face = opened(server.url), opened(server.url)
    release = threading.Event()
    began = threading.Event()
    calls: list[bytes] = []

    def slow(payload: bytes) -> bytes:
        calls.append(payload)
        began.set()
        release.wait(10.0)
        return b"done"

    desk.serve("desk", slow)
    unknown: list[BusTimeout] = []

    def ask() -> None:
        try:
            face.request("desk", b"stop", timeout_s=1.0)
        except BusTimeout as error:
            unknown.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    assert began.wait(5.0)
    server.kill()
    asker.join()
    assert len(unknown) == 1
    release.set()
    server.start()
    assert until(lambda: desk.lost_for_s == face.lost_for_s == 0.0)
    assert face.request("desk", b"stop", timeout_s=5.0, request_id=unknown[0].request_id) == b"done"
    assert calls == [b"stop"]


def test_a_full_server_still_carries_changes_and_the_kill(
    start_server: Callable[..., Server], opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--maxmemory-policy", "noeviction")
    desk, face = opened(server.url), opened(server.url)
    heard: list[bytes] = []
    face.watch("", lambda latest: heard.append(latest.payload))
    desk.serve("kill", lambda payload: b"killed")
    client = server.client()
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        client.set("full", b"1")
    with caplog.at_level(logging.WARNING):
        desk.publish("book", b"1")
        assert until(lambda: heard == [b"1"])
        assert until(lambda: "is full (its maxmemory is reached)" in caplog.text)
    assert face.latest("book") is None
    assert face.request("kill", b"", timeout_s=5.0, expires=False) == b"killed"
    assert desk.lost_for_s == 0.0
    with pytest.raises(BadInput, match="is full"):
        open_bus(server.url, NS)
    client.config_set("maxmemory", 0)
    client.close()
    assert until(lambda: (v := face.latest("book")) is not None and v.payload == b"1")
    assert heard == [b"1"]


def test_keys_of_another_kind_or_author_are_told_by_name_and_mended_by_the_next_write(
    server: Server, opened: Opened
) -> None:
    bus = opened(server.url)
    with server.client() as client:
        client.hset(f"{NS}t:hash", "a", "b")
        client.set(f"{NS}t:pickle", b"\x80\x04\x95rubbish that must never be unpickled")
        client.publish(f"{NS}c:pickle", b"\x80\x04")
        client.publish(f"{NS}q:desk", b"\x80\x04")
    heard: list[str] = []
    bus.watch("", lambda latest: heard.append(latest.topic))
    for name in ("hash", "pickle"):
        with pytest.raises(BusDown, match=f"holds something at {NS}t:{name} that this program did not write"):
            bus.latest(name)
    assert bus.latest_many(["hash", "pickle"]) == {}
    bus.publish("hash", b"ours")
    assert until(lambda: (v := bus.latest_many(["hash"]).get("hash")) is not None and v.payload == b"ours")
    assert until(lambda: heard == ["hash"])


def test_a_fast_publisher_is_written_in_few_pipelines(server: Server, opened: Opened) -> None:
    desk, face = opened(server.url), opened(server.url)
    heard: list[int] = []
    face.watch("", lambda latest: heard.append(latest.seq))
    assert until(lambda: face.lost_for_s == 0.0)
    for n in range(20_000):
        desk.publish("book", str(n).encode())
    assert until(lambda: heard[-1:] == [20_000])
    assert heard == sorted(heard)
    assert len(heard) < 2_000


def test_what_was_published_just_before_the_end_is_still_written(server: Server, opened: Opened) -> None:
    desk, face = opened(server.url), opened(server.url)
    for n in range(600):
        desk.publish(f"t/{n}", b"last")
    desk.close()
    assert len(face.topics("t/")) == 600


def test_a_bus_closes_soon_though_its_server_is_gone(server: Server) -> None:
    bus = open_bus(server.url, NS)
    bus.watch("", lambda latest: None)
    bus.serve("desk", lambda payload: payload)
    server.kill()
    bus.publish("t", b"1")
    began_s = time.monotonic()
    bus.close()
    assert time.monotonic() - began_s < 4.0


def test_two_desks_on_one_server_do_not_hear_each_other(server: Server) -> None:
    one, other = open_bus(server.url, "mk:one:"), open_bus(server.url, "mk:other:")
    heard: list[bytes] = []
    other.watch("", lambda latest: heard.append(latest.payload))
    one.serve("kill", lambda payload: b"one")
    other.serve("kill", lambda payload: b"other")
    one.publish("t", b"1")
    assert until(lambda: one.latest("t") is not None)
    assert other.latest("t") is None
    assert other.topics("") == []
    assert (one.request("kill", b"", timeout_s=5.0), other.request("kill", b"", timeout_s=5.0)) == (
        b"one",
        b"other",
    )
    assert heard == []
    one.close()
    other.close()


# opening: each mistake gets one clear message, and no message holds a password


def refusal(url: str) -> str:
    with pytest.raises(BadInput) as refused:
        open_bus(url, NS)
    assert refused.value.field == "redis"
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    return refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://:hun#ter2@localhost",
        "redis://:hunter2/x@localhost:6379",
        "redis://localhost:99999",
        "redis://localhost:port",
        "redis://localhost/first",
        "redis://[::1",
        "unix://relative.sock",
        "unix://",
    ],
)
def test_a_malformed_address_is_refused_with_the_expected_form(url: str) -> None:
    assert "expected redis://" in refusal(url)


def test_an_unknown_option_of_an_address_is_refused_by_name() -> None:
    said = refusal("redis://:hunter2@localhost/0?decode_responses=1&protocol=3")
    assert said == "unknown option in the address: decode_responses, protocol"


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = refusal(f"redis://me:hunter2@127.0.0.1:{port}")
    assert said == f"no server can be reached at 127.0.0.1:{port}: Connection refused"
    assert refusal(f"unix://{tmp_path}/no.sock").endswith("no.sock: No such file or directory")
    assert "no server can be" in refusal("unix:///" + "x" * 120)
    assert "no server can be" in refusal("redis://" + "x" * 80 + "/0")


def test_a_password_that_is_missing_wrong_or_right(start_server: Callable[..., Server]) -> None:
    server = start_server("--requirepass", "pass word/#1")
    where = f"127.0.0.1:{server.port}"
    assert refusal(f"redis://{where}") == f"the server at {where} needs a password"
    assert refusal(f"redis://:hunter2@{where}") == f"the server at {where} refuses the user or password"
    bus = open_bus(f"redis://:pass%20word%2F%231@{where}/3", NS)
    bus.publish("t", b"1")
    assert until(lambda: bus.latest("t") is not None)
    bus.close()


def test_a_replica_that_may_not_be_written_is_refused(start_server: Callable[..., Server]) -> None:
    server = start_server("--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes")
    assert "read-only replica" in refusal(server.url)


def test_a_cluster_node_is_refused(start_server: Callable[..., Server]) -> None:
    server = start_server("--cluster-enabled", "yes")
    assert "runs in cluster mode" in refusal(server.url)


class Impostor:
    """A TCP server that answers each piece of input with the same bytes."""

    def __init__(self, answer: bytes | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.url = f"redis://:hunter2@127.0.0.1:{self._listener.getsockname()[1]}"
        self._links: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._links.append(link)
                with contextlib.suppress(OSError):
                    while self._answer is not None and link.recv(4096):
                        if not self._answer:
                            break
                        link.sendall(self._answer)
                if self._answer == b"":
                    link.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._thread.join(5.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "is not a Redis or Valkey server"),
        (b"220 mail ready\r\n", "is not a Redis or Valkey server"),
        (b"\x16\x03\x01\x00\x00", "is not a Redis or Valkey server"),
        (b"ERROR\r\n", "is not a Redis or Valkey server"),
        (b"+OK\r\n+HELLO\r\n+HELLO\r\n", "is not a Redis or Valkey server"),
        (b"-ERR unknown command\r\n" * 3, "refuses"),
        (b"", "closed the connection"),
        (None, "does not answer within 1 s"),
    ],
)
def test_a_server_of_another_kind_is_refused(answer: bytes | None, said: str) -> None:
    impostor = Impostor(answer)
    try:
        assert said in refusal(impostor.url)
    finally:
        impostor.close()


def test_a_server_that_turns_into_something_else_and_back_is_survived(server: Server, opened: Opened) -> None:
    bus = opened(server.url)
    bus.serve("kill", lambda payload: b"killed")
    heard: list[bytes] = []
    bus.watch("", lambda latest: heard.append(latest.payload))
    bus.publish("t", b"1")
    assert until(lambda: heard == [b"1"])
    server.kill()
    listener = socket.create_server(("127.0.0.1", server.port))
    stop = threading.Event()

    def rubbish() -> None:
        listener.settimeout(0.05)
        links = []
        while not stop.is_set():
            with contextlib.suppress(OSError):
                link, _ = listener.accept()
                links.append(link)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        for link in links:
            link.close()
        listener.close()

    impostor = threading.Thread(target=rubbish)
    impostor.start()
    assert until(lambda: bus.lost_for_s > 1.0)

    def is_told() -> bool:
        try:
            bus.latest("t")
        except BusDown as error:
            return "not a Redis" in str(error)
        return False

    assert until(is_told)
    bus.publish("t", b"2")
    stop.set()
    impostor.join()
    server.start()
    assert until(lambda: bus.lost_for_s == 0.0)
    assert until(lambda: heard[-1] == b"2")
    assert bus.request("kill", b"", timeout_s=5.0) == b"killed"


def test_a_listener_that_is_cut_off_comes_back_and_reads_what_it_missed(
    server: Server, opened: Opened
) -> None:
    desk, face = opened(server.url), opened(server.url)
    heard: list[bytes] = []
    face.watch("", lambda latest: heard.append(latest.payload))
    desk.serve("kill", lambda payload: b"killed")
    with server.client() as client:
        for n in range(5):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            desk.publish("t", str(n).encode())
            assert until(lambda n=n: heard[-1:] == [str(n).encode()])  # type: ignore[misc]
    assert heard == [b"0", b"1", b"2", b"3", b"4"]
    assert face.request("kill", b"", timeout_s=5.0) == b"killed"


def test_the_kinds_of_trouble_are_logged_once_each(
    server: Server, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="makerdeck.bus"):
        bus = opened(server.url)
        assert until(lambda: bus.lost_for_s == 0.0)
        server.kill()
        bus.publish("t", b"1")
        assert until(lambda: bus.lost_for_s > 2.5)
        server.start()
        assert until(lambda: bus.lost_for_s == 0.0)
        assert until(lambda: "bus=writes works again" in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line.startswith("bus=link failing")]) <= 2, lines
    assert len([line for line in lines if line.startswith("bus=writes failing")]) == 1, lines
    assert "bus=link works again" in lines


def test_the_path_of_the_binary_does_not_come_from_an_import() -> None:
    found = list(find_binaries())
    assert all(os.access(binary, os.X_OK) for binary in found)
    on_path = shutil.which("redis-server")
    assert on_path is None or Path(on_path) in found
