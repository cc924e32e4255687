"""Socket.IO over real sockets: snapshots, changes, rates, refusals, slow and broken viewers, a lost bus."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from typing import Any

import pytest
import requests
import socketio

from tests.fakes import FakeBus
from tests.web.face import CONSOLE, TOKEN, Face, Heard, Serve, until

TRANSPORTS: list[list[str] | None] = [["websocket"], ["polling"], None]


@pytest.mark.parametrize("transports", TRANSPORTS, ids=["websocket", "polling", "polling, then websocket"])
def test_a_plain_client_sees_the_desk_at_once_and_then_what_changes(
    face: Face, transports: list[str] | None
) -> None:
    face.desk.tick()
    heard = face.client(transports=transports)
    greeting = heard.wait_for("connected")
    assert greeting["desk"] == "main"
    assert "message" in greeting
    for topic in ("desk", "feeds", "fills", "notices", "link", "worker/w1"):
        first = heard.wait_for("snapshot", topic)
        assert set(first) == {"topic", "seq", "published_ns", "data"}
    before = heard.wait_for("snapshot", "worker/w1")["data"]["stats"]["orders_sent"]
    face.desk.tick()
    after = heard.wait_for("change", "worker/w1")["data"]["stats"]["orders_sent"]
    assert after > before


def test_subscribing_brings_a_snapshot_and_unsubscribing_ends_it(face: Face) -> None:
    heard = face.client(transports=["websocket"])
    heard.wait_for("connected")
    answer = heard.io.call(
        "subscribe", {"topics": ["book/paper:BTC-USDT", "orders/w1", "series/*"]}, timeout=5
    )
    assert "book/paper:BTC-USDT" in answer["topics"]
    face.desk.tick()
    book = heard.wait_for("snapshot", "book/paper:BTC-USDT")["data"]
    assert book["instrument"] == "paper:BTC-USDT"
    assert len(heard.wait_for("snapshot", "orders/w1")["data"]["orders"]) == 6
    heard.wait_for("snapshot", "series/w1")
    assert heard.of("snapshot", "book/paper:ETH-USDT") == []

    heard.io.call("unsubscribe", {"topics": ["book/paper:BTC-USDT"]}, timeout=5)
    count = len(heard.of("change", "book/paper:BTC-USDT"))
    for _ in range(3):
        face.desk.tick()
        heard.wait_for("change", "orders/w1")
    assert len(heard.of("change", "book/paper:BTC-USDT")) <= count + 1

    heard.io.call("subscribe", {"topics": ["book/paper:BTC-USDT"]}, timeout=5)
    heard.wait_for("snapshot", "book/paper:BTC-USDT", count=2)


def test_what_does_not_change_is_not_sent(face: Face) -> None:
    heard = face.client()
    heard.wait_for("snapshot", "worker/w1")
    until(lambda: heard.of("snapshot", "notices"), "notices")
    time.sleep(0.5)  # ten rounds of the pusher
    assert heard.of("change") == []


def test_changes_come_at_the_rate_and_are_the_newest(serve: Serve) -> None:
    face = serve(rate_hz=5.0)
    heard = face.client(transports=["websocket"])
    heard.wait_for("snapshot", "worker/w1")
    heard.events.clear()
    began = time.monotonic()
    while time.monotonic() - began < 2.0:
        face.desk.tick()
        time.sleep(0.01)
    changes = heard.of("change", "worker/w1")
    assert 6 <= len(changes) <= 12
    seqs = [change["seq"] for change in changes]
    assert seqs == sorted(seqs)
    assert seqs[-1] - seqs[0] > 10 * len(changes)


def test_the_old_events_come_for_each_worker_with_numbers(face: Face) -> None:
    heard = face.client()
    status = heard.wait_for("status_update")
    assert status["status"] == "running"
    assert status["worker_id"] == "w1"
    stats = heard.wait_for("stats_update")
    assert stats["worker_id"] == "w1"
    assert isinstance(stats["current_price"], float)
    assert isinstance(stats["total_trades"], int)
    assert stats["scopes"]["session_realized_pnl"] == "run"
    face.desk.stop("w1", by="test")
    until(lambda: heard.of("status_update")[-1]["status"] == "stopped", "the stop")
    for _ in range(3):
        face.desk.tick()
    assert heard.wait_for("stats_update")["symbol"] == "BTC-USDT"
    late = face.client()
    assert late.wait_for("stats_update")["worker_id"] == "w1"
    assert late.wait_for("status_update")["status"] == "stopped"


def test_stats_come_about_once_a_second(face: Face) -> None:
    heard = face.client()
    heard.wait_for("stats_update")
    heard.events.clear()
    began = time.monotonic()
    while time.monotonic() - began < 3.0:
        face.desk.tick()
        time.sleep(0.05)
    assert 2 <= len(heard.of("stats_update")) <= 4


def test_a_new_worker_appears_and_a_deleted_one_is_gone(face: Face) -> None:
    heard = face.client()
    heard.wait_for("snapshot", "worker/w1")
    body = {"kind": "market_making", "strategy": "standard", "venue": "paper", "symbol": "ETH-USDT"}
    made = face.http.post(face.url + "/api/workers", json={**body, "params": {"spread": 0.1}}).json()
    topic = f"worker/{made['id']}"
    assert heard.wait_for("snapshot", topic)["data"]["symbol"] == "ETH-USDT"
    assert face.http.delete(f"{face.url}/api/workers/{made['id']}").status_code == 204
    heard.wait_for("gone", topic)
    fresh = face.client()
    fresh.wait_for("snapshot", "worker/w1")
    assert fresh.of("snapshot", topic) == []
    assert {stats["worker_id"] for stats in fresh.of("stats_update")} == {"w1"}


def test_ping_is_answered(face: Face) -> None:
    heard = face.client()
    heard.wait_for("connected")
    heard.io.emit("ping")
    heard.wait_for("pong")


# ---------------------------------------------------------------------- who may connect


def refusal(face: Face, **connect: Any) -> str:
    heard = Heard()
    face.keep(heard)
    reasons: list[Any] = []
    heard.io.on("connect_error", reasons.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        heard.io.connect(face.url, **connect)
    assert heard.events == []
    return str(reasons)


@pytest.mark.parametrize("transports", TRANSPORTS[:2], ids=["websocket", "polling"])
@pytest.mark.parametrize(
    "auth",
    [
        None,
        {},
        {"token": ""},
        {"token": "wrong"},
        {"token": None},
        {"token": 5},
        {"token": [TOKEN]},
        TOKEN,
        [TOKEN],
    ],
    ids=lambda auth: repr(auth).replace(TOKEN, "right"),
)
def test_nobody_connects_without_the_right_token(face: Face, transports: list[str], auth: Any) -> None:
    reason = refusal(face, auth=auth, transports=transports)
    assert "token" in reason


def test_the_console_token_and_the_header_connect(face: Face) -> None:
    face.client(auth={"token": CONSOLE}).wait_for("snapshot", "desk")
    face.client(auth=None, headers={"Authorization": f"Bearer {TOKEN}"}).wait_for("snapshot", "desk")


def test_a_cookie_connects_only_from_our_own_page(face: Face) -> None:
    page, _ = face.page()
    cookie = {"Cookie": f"makerdeck_main={page.cookies.get('makerdeck_main')}"}
    own = {
        **cookie,
        "Origin": face.url,
    }  # the Python client sends it by itself when it begins with a WebSocket
    for headers, transport in ((cookie, "websocket"), (own, "polling")):
        face.client(auth=None, headers=headers, transports=[transport]).wait_for("snapshot", "desk")
    refusal(face, headers=cookie, transports=["polling"])
    refusal(face, headers={"Cookie": "makerdeck_main=made-up"}, transports=["websocket"])


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_origin_never_gets_a_handshake(face: Face, origin: str) -> None:
    page, _ = face.page()
    for who in (face.http, page, face.session()):
        answer = who.get(face.url + "/socket.io/?EIO=4&transport=polling", headers={"Origin": origin})
        assert answer.status_code == 403
    refusal(face, auth={"token": TOKEN}, headers={"Origin": origin}, transports=["websocket"])


def test_a_login_that_ends_ends_its_sockets(face: Face) -> None:
    page, csrf = face.page()
    cookie = {"Cookie": f"makerdeck_main={page.cookies.get('makerdeck_main')}"}
    heard = face.client(auth=None, headers=cookie, transports=["websocket"])
    heard.wait_for("snapshot", "desk")
    assert page.delete(face.url + "/api/session", headers={"X-CSRF-Token": csrf}).status_code == 204
    until(lambda: not heard.io.connected, "the end of the connection")
    assert heard.of("error")


def test_one_viewer_too_many_is_told_so_and_a_place_becomes_free_again(serve: Serve) -> None:
    face = serve(max_viewers=3)
    viewers = [face.client(transports=["websocket"]) for _ in range(3)]
    for viewer in viewers:
        viewer.wait_for("connected")
    assert "3 viewers" in refusal(face, auth={"token": TOKEN}, transports=["websocket"])
    viewers[0].close()
    live = face.app.extensions["makerdeck.live"]
    until(lambda: live.viewers == 2, "the place")
    face.client(transports=["websocket"]).wait_for("snapshot", "desk")


def test_the_kill_gets_through_with_all_places_taken_and_the_desk_silent(serve: Serve) -> None:
    face = serve(max_viewers=2)
    for _ in range(2):
        face.client(transports=["websocket"]).wait_for("connected")
    held = threading.Event()

    def hold(name: str) -> None:
        if name != "kill":
            held.wait(20)

    face.desk.on_command = hold
    slow = [
        threading.Thread(target=lambda: requests.get(face.url + "/api/workers", headers=bearer(), timeout=30))
        for _ in range(80)
    ]
    for one in slow:
        one.start()
    try:
        time.sleep(0.5)
        began = time.monotonic()
        answer = requests.post(face.url + "/api/kill", headers=bearer(), timeout=10)
        took_s = time.monotonic() - began
    finally:
        held.set()
        for one in slow:
            one.join()
    assert answer.status_code == 200
    assert took_s < 1.0


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}


# ---------------------------------------------------------------------- bad and broken clients


@pytest.mark.parametrize(
    "given",
    [
        None,
        "desk",
        ["desk"],
        {},
        {"topics": "desk"},
        {"topics": []},
        {"topics": [1]},
        {"topics": ["*"]},
        {"topics": ["secrets"]},
        {"topics": ["worker"]},
        {"topics": ["worker/"]},
        {"topics": ["worker/a b"]},
        {"topics": ["worker/**"]},
        {"topics": ["book/" + "x" * 200]},
        {"topics": ["desk", "nonsense"]},
        {"topics": [f"book/{i}" for i in range(300)]},
    ],
    ids=lambda given: repr(given)[:40],
)
def test_bad_topics_are_refused_and_change_nothing(face: Face, given: Any) -> None:
    heard = face.client()
    heard.wait_for("connected")
    answer = heard.io.call("subscribe", given, timeout=5)
    assert answer["error"].startswith("topics:")
    assert heard.wait_for("error")["message"] == answer["error"]
    kept = heard.io.call("subscribe", {"topics": ["desk"]}, timeout=5)["topics"]
    assert kept == sorted(["desk", "worker/*", "feeds", "notices", "fills", "link"])


def test_unknown_events_and_odd_arguments_do_no_harm(face: Face) -> None:
    heard = face.client()
    heard.wait_for("connected")
    heard.io.emit("kill")
    heard.io.emit("connect", {"token": TOKEN})
    heard.io.emit("ping", ({"a": 1}, 2))
    heard.wait_for("pong")
    assert face.desk.calls == []


class Raw:
    """A WebSocket that says what it is told to."""

    def __init__(self, face: Face, *, login: bool = True, receive_bytes: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(15)
        self.sock.connect(("127.0.0.1", face.port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
            f"Host: 127.0.0.1:{face.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Extensions: permessage-deflate",
            f"Sec-WebSocket-Key: {key}",
        )
        self.sock.sendall("\r\n".join((*lines, "", "")).encode())
        self.head = self.sock.recv(4096)
        if login:
            self.say('40{"token":"' + TOKEN + '"}')
        face.keep(self)

    def say(self, text: str | bytes) -> None:
        raw = text.encode() if isinstance(text, str) else text
        size = bytes((0x80 | len(raw),)) if len(raw) < 126 else b"\xfe" + len(raw).to_bytes(2, "big")
        self.sock.sendall(b"\x81" + size + b"\0\0\0\0" + raw)

    def is_cut(self) -> bool:
        """Whether the server hangs up; reads whatever it still says."""
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()


@pytest.mark.parametrize(
    "packet",
    [
        "x",
        "99",
        "4",
        "4x",
        "42",
        '42["subscribe"',
        "42{}",
        "42[]",
        "42[5]",
        '451-["subscribe",{"_placeholder":true,"num":0}]',
        "45999999-[]",
        "42" + "[" * 5000,
        '42["subscribe",' + '{"a":' * 2000,
        '44"error"',
        "40/admin,",
        b"\xff\xfe",
        "\x00",
    ],
    ids=lambda packet: repr(packet)[:30],
)
def test_a_broken_packet_hurts_nobody_else(face: Face, packet: str | bytes) -> None:
    good = face.client(transports=["websocket"])
    good.wait_for("snapshot", "desk")
    raw = Raw(face)
    raw.say(packet)
    face.desk.tick()
    good.wait_for("change", "desk")
    raw.close()
    assert face.http.get(face.url + "/api/health").status_code == 200


def test_a_client_that_talks_too_much_is_dropped(face: Face) -> None:
    raw = Raw(face)
    for _ in range(200):
        try:
            raw.say('42["ping"]')
        except OSError:
            break  # cut in the middle of it
    assert raw.is_cut()
    face.client().wait_for("snapshot", "desk")


def test_frames_are_not_compressed_for_each_viewer(face: Face) -> None:
    assert b"101" in (raw := Raw(face)).head
    assert b"permessage-deflate" not in raw.head


def test_a_connection_that_never_says_who_it_is_is_cut(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.live.UNKNOWN_S", 0.5)
    assert Raw(face, login=False).is_cut()


def test_a_viewer_that_takes_nothing_is_dropped_and_delays_nobody(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.live.BEHIND_S", 1.0)
    slow = Raw(face, receive_bytes=4096)
    slow.say('42["subscribe",{"topics":["book/*","trades/*","orders/*"]}]')
    good = face.client(transports=["websocket"])
    good.wait_for("snapshot", "desk")
    live = face.app.extensions["makerdeck.live"]
    until(lambda: live.viewers == 2, "both")
    late_s = 0.0
    end_s = time.monotonic() + 60
    while live.viewers == 2 and time.monotonic() < end_s:
        count = len(good.of("change", "desk"))
        asked = time.monotonic()
        face.desk.tick()
        good.wait_for("change", "desk", count=count + 1)
        late_s = max(late_s, time.monotonic() - asked)
    assert live.viewers == 1
    assert late_s < 1.0


# ---------------------------------------------------------------------- a lost bus


def test_a_lost_bus_is_said_and_its_return_too(serve: Serve, cut_bus: FakeBus) -> None:
    face = serve(bus=cut_bus)
    heard = face.client(transports=["websocket"])
    heard.wait_for("snapshot", "worker/w1")
    assert heard.wait_for("snapshot", "link")["data"] == {"bus": True, "lost_for_s": 0.0}
    cut_bus.cut()
    assert heard.wait_for("change", "link")["data"]["bus"] is False
    assert "lost" in heard.wait_for("error")["message"]
    assert face.session().get(face.url + "/api/health").json() == {"status": "degraded"}
    until(lambda: heard.of("change", "link")[-1]["data"]["lost_for_s"] >= 1.0, "the count")

    late = face.client(transports=["websocket"])
    assert late.wait_for("snapshot", "link")["data"]["bus"] is False
    late.wait_for("error")

    cut_bus.mend()
    face.desk.tick()
    until(lambda: heard.of("change", "link")[-1]["data"]["bus"] is True, "the return")
    count = len(heard.of("change", "worker/w1"))
    face.desk.tick()
    heard.wait_for("change", "worker/w1", count=count + 1)
    assert len(heard.of("error")) == 1


def test_junk_on_the_bus_never_reaches_a_viewer(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    heard = face.client()
    heard.wait_for("snapshot", "desk")
    bus = face.desk._bus
    assert bus is not None
    bus.publish("desk", b"\x80\x04pickled", ttl_s=60)
    bus.publish("worker/w1", b'{"id": 5}', ttl_s=60)
    bus.publish("feeds", b'{"a":1}],["x"', ttl_s=60)
    until(lambda: caplog.text.count("is not what it should be") >= 3, "the warnings")
    face.desk.tick()
    heard.wait_for("change", "desk")
    assert all(json.dumps(data) for _, data in heard.events)
    assert not [1 for change in heard.of("change", "feeds") if "a" in change["data"]]
