"""HTTP and WebSocket against a server on this machine."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from api.errors import ExchangeError, Rejected, Unavailable
from api.runtime import Clock, Service
from api.wire import LOOPBACK, Answer, Http, Link, Stream, check_address
from tests.api.loopback import PING, PONG, Peer, Reply, Venue, eventually


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue() as server:
        yield server


# ---------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/api",
        "http://data-api.binance.vision/api",
        "https://data-api.binance.vision@evil.example/api",
        "https://me:secret@data-api.binance.vision/api",
        "ftp://data-api.binance.vision/api",
        "https:///api",
        "data-api.binance.vision",
    ],
)
def test_an_address_off_the_list_or_unencrypted_is_refused(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_address(url, frozenset({"data-api.binance.vision"}), ("https", "http"))
    assert "secret" not in caught.value.message


def test_plain_addresses_are_for_this_machine_only() -> None:
    assert check_address("http://127.0.0.1:1/x", LOOPBACK, ("https", "http")) == "127.0.0.1"
    assert check_address("https://API.binance.com/x", frozenset({"api.binance.com"}), ("https", "http"))


# ---------------------------------------------------------------------------------------------- HTTP


def test_an_answer_of_any_status_is_handed_over(venue: Venue) -> None:
    venue.routes["/api/x"] = Reply(418, b"tea", {"Retry-After": "7"})
    answer = Http(LOOPBACK).get(f"{venue.rest}/x?signature=abc")
    assert (answer.status, answer.body, answer.retry_after_s) == (418, b"tea", 7.0)


def test_a_redirect_is_not_followed(venue: Venue) -> None:
    venue.routes["/api/x"] = Reply(302, b"", {"Location": f"{venue.rest}/y"})
    with pytest.raises(Unavailable, match="not followed"):
        Http(LOOPBACK).get(f"{venue.rest}/x")
    assert [path for _, path in venue.requests] == ["/api/x"]


def test_a_host_off_the_list_is_never_asked(venue: Venue) -> None:
    with pytest.raises(Rejected):
        Http(frozenset({"localhost"})).get(f"{venue.rest}/x")
    assert venue.requests == []


def test_a_slow_answer_is_unavailable_and_says_nothing_of_the_query(venue: Venue) -> None:
    venue.routes["/api/x"] = Reply(delay_s=1.0)
    with pytest.raises(Unavailable) as caught:
        Http(LOOPBACK, answer_s=0.2).get(f"{venue.rest}/x?signature=abc")
    assert caught.value.message == "127.0.0.1 did not answer within 0.2 s"


def test_a_dead_port_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        Http(LOOPBACK).get(f"http://127.0.0.1:{port}/x?signature=abc")
    assert "signature" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "seconds"), [("12", 12.0), ("", None), ("soon", None), ("-3", None), ("nan", None)]
)
def test_retry_after_is_seconds_or_nothing(text: str, seconds: float | None) -> None:
    assert Answer(429, {"retry-after": text}, b"").retry_after_s == seconds


def test_retry_after_may_be_a_date() -> None:
    answer = Answer(429, {"retry-after": formatdate(time.time() + 60, usegmt=True)}, b"")
    assert answer.retry_after_s == pytest.approx(60, abs=3)
    assert Answer(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"").retry_after_s == 0.0


# ---------------------------------------------------------------------------------------------- WebSocket


class Ear:
    """A stream in its thread, and what it said."""

    def __init__(self, venue: Venue, **options: float | tuple[float, ...]) -> None:
        self.messages: list[bytes] = []
        self.times: list[int] = []
        self.changes: list[tuple[bool, str]] = []
        self.idles = 0
        self.stream = Stream(
            f"{venue.stream}/stream?streams=x",
            LOOPBACK,
            Clock(),
            heard=self._heard,
            changed=lambda is_up, reason: self.changes.append((is_up, reason)),
            idle=self._idle,
            **{"pauses_s": (0.05,), **options},  # type: ignore[arg-type]
        )
        self.service = Service("test-stream", self.stream.run).start()

    def _heard(self, recv_ns: int, message: bytes) -> None:
        self.times.append(recv_ns)
        self.messages.append(message)

    def _idle(self) -> None:
        self.idles += 1

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()
        assert self.service.join(3.0)
        assert self.service.crashed is None


def test_messages_of_every_length_arrive_in_order(venue: Venue) -> None:
    sent = [b"x" * size for size in (0, 1, 125, 126, 65_535, 65_536, 300_000)]

    def send_all(peer: Peer) -> None:
        for one in sent:
            peer.send(one)

    venue.on_peer = send_all
    with Ear(venue) as ear:
        eventually(lambda: len(ear.messages) == len(sent))
        assert ear.messages == sent
        assert ear.times == sorted(ear.times)
        assert ear.changes == [(True, "connected")]
    assert venue.peers[0].path == "/stream?streams=x"


def test_a_ping_is_answered_with_its_own_payload(venue: Venue) -> None:
    venue.on_peer = lambda peer: peer.send(b"20s", PING)
    with Ear(venue):
        eventually(lambda: venue.peers and (PONG, b"20s") in venue.peers[0].heard)


def test_a_stop_takes_effect_within_a_second_and_closes_the_socket(venue: Venue) -> None:
    with Ear(venue) as ear:
        eventually(lambda: venue.peers)
        begun = time.monotonic()
        ear.service.stop()
        assert ear.service.join(2.0)
        assert time.monotonic() - begun < 1.0
        eventually(lambda: not venue.peers[0].is_open)


def test_silence_is_asked_about_and_then_ends_the_connection(venue: Venue) -> None:
    with Ear(venue, silence_s=0.8) as ear:
        eventually(lambda: len(venue.peers) >= 2)
        assert venue.peers[0].heard[0] == (PING, b"")
        assert ear.changes[1][1].startswith("127.0.0.1 was silent for")


def test_a_quiet_connection_that_answers_pings_lives_on(venue: Venue) -> None:
    def answer(peer: Peer) -> None:
        answered = 0
        while peer.is_open:
            asked = sum(opcode == PING for opcode, _ in peer.heard)
            if asked > answered:
                answered += 1
                peer.send(b"", PONG)
            time.sleep(0.01)

    venue.on_peer = answer
    with Ear(venue, silence_s=2.0) as ear:
        eventually(lambda: venue.peers and sum(op == PING for op, _ in venue.peers[0].heard) >= 3)
        assert ear.changes == [(True, "connected")]


@pytest.mark.parametrize("how", ["cut", "close frame", "rubbish", "half a frame", "endless frame"])
def test_a_lost_connection_is_told_and_opened_again(venue: Venue, how: str) -> None:
    def first(peer: Peer) -> None:
        peer.send(b"one")
        if how == "cut":
            time.sleep(0.1)
            peer.cut()
        elif how == "close frame":
            peer.send(struct.pack(">H", 1001) + b"bye", 8)
        elif how == "rubbish":
            peer.send_raw(b"\x83\x00")
        elif how == "endless frame":
            peer.send_raw(b"\x81\x7f" + b"\x7f" * 8 + b"x" * 100)
        else:
            peer.send_raw(b"\x81\x7e\x01\x00half")
            time.sleep(0.1)
            peer.cut()

    def on_peer(peer: Peer) -> None:
        first(peer) if peer is venue.peers[0] else peer.send(b"two")

    venue.on_peer = on_peer
    with Ear(venue, silence_s=1.0) as ear:
        eventually(lambda: ear.messages == [b"one", b"two"])
        assert [is_up for is_up, _ in ear.changes] == [True, False, True]


def test_a_frame_that_comes_in_two_parts_seconds_apart_is_one_message(venue: Venue) -> None:
    def slowly(peer: Peer) -> None:
        for part in (b"\x81", b"\x7e\x01", b"\x00" + b"a" * 100, b"a" * 156):
            peer.send_raw(part)
            time.sleep(0.4)

    venue.on_peer = slowly
    with Ear(venue) as ear:
        eventually(lambda: ear.messages == [b"a" * 256])
        assert ear.changes == [(True, "connected")]


def test_a_connection_grown_old_is_replaced_by_overlap_and_nothing_is_missed(venue: Venue) -> None:
    """The venue numbers its messages for all who listen; every number arrives, some twice, never one left
    out.
    """
    lock = threading.Lock()
    done = threading.Event()

    def broadcast() -> None:
        for number in range(10_000):
            if done.wait(0.005):
                return
            with lock:
                for peer in venue.peers:
                    if peer.is_open:
                        peer.send(b"%d" % number)

    sender = threading.Thread(target=broadcast, daemon=True)
    with Ear(venue, max_age_s=0.5, overlap_s=0.3) as ear:
        eventually(lambda: venue.peers)
        sender.start()
        eventually(lambda: ear.stream.renewals >= 2)
        seen = len(ear.messages)
        eventually(lambda: len(ear.messages) > seen + 20)
        done.set()
        sender.join(5)
        newest = -1
        for message in list(ear.messages):
            assert int(message) <= newest + 1
            newest = max(newest, int(message))
        assert newest > 100
        assert ear.changes == [(True, "connected")]
        assert sum(peer.is_open for peer in venue.peers) <= 2


def test_a_planned_replacement_that_cannot_connect_leaves_the_present_one(venue: Venue) -> None:
    with Ear(venue, overlap_s=0.1) as ear:
        eventually(lambda: ear.changes)
        venue.refuse_upgrade = Reply(503, b"no")
        ear.stream.renew("the venue says so")
        eventually(lambda: ear.stream.connects == 2)
        venue.peers[0].send(b"still here")
        eventually(lambda: ear.messages == [b"still here"])
        assert ear.changes == [(True, "connected")]


def test_an_announced_end_is_met_by_a_new_connection_at_once(venue: Venue) -> None:
    with Ear(venue, overlap_s=5.0) as ear:
        eventually(lambda: ear.changes)
        ear.stream.renew("announced")
        eventually(lambda: len(venue.peers) == 2)
        venue.peers[1].send(b"held")
        time.sleep(0.5)
        venue.peers[0].cut()
        eventually(lambda: ear.messages == [b"held"])
        assert ear.changes == [(True, "connected")]


@pytest.mark.parametrize(
    "reply", [Reply(302, b"", {"Location": "ws://127.0.0.1:9/"}), Reply(429, b""), Reply(200, b"<html>")]
)
def test_a_refused_handshake_or_a_redirect_is_an_error_and_tried_again(venue: Venue, reply: Reply) -> None:
    venue.refuse_upgrade = reply
    with pytest.raises(Unavailable, match="did not open its stream"):
        Link(f"{venue.stream}/stream", LOOPBACK)
    with Ear(venue) as ear:
        eventually(lambda: len(ear.changes) >= 3)
        assert not any(is_up for is_up, _ in ear.changes)
        venue.refuse_upgrade = None
        eventually(lambda: ear.changes[-1] == (True, "connected"))


def test_a_host_off_the_list_is_refused_before_a_connection() -> None:
    with pytest.raises(ExchangeError):
        Link("wss://evil.example/stream", LOOPBACK)
