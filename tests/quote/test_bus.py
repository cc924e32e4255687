"""What both implementations of the bus promise: topics with an age, watches, requests with answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api.runtime import SteppedClock
from quote.bus import (
    Bus,
    BusDown,
    BusTimeout,
    InProcessBus,
    Latest,
    Request,
    Served,
    open_bus,
    pack_request,
    pack_value,
    unpack_answer,
    unpack_request,
    unpack_value,
)
from quote.redis_server import EmbeddedRedis, start_redis


def until(claim: Callable[[], bool], within_s: float = 5.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if claim():
            return True
        time.sleep(0.005)
    return claim()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    started = start_redis()
    if started is None:
        pytest.skip("no Redis binary on this machine")
    yield started
    started.stop()


class Pair:
    """The two ends: a desk that publishes and serves, a face that reads and asks."""

    def __init__(self, desk: Bus, face: Bus) -> None:
        self.desk = desk
        self.face = face

    def close(self) -> None:
        self.desk.close()
        self.face.close()


@pytest.fixture(params=["in-process", "redis"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if request.param == "redis":
        url = request.getfixturevalue("server").url
        namespace = f"mk:{request.node.name}:"
        made = Pair(open_bus(url, namespace), open_bus(url, namespace))
    else:
        bus = InProcessBus("mk:test:")
        made = Pair(bus, bus)
    assert made.desk.mode == request.param
    yield made
    made.close()


def test_what_is_published_can_be_read_with_its_age(pair: Pair) -> None:
    before_ns = time.time_ns()
    pair.desk.publish("book/BTC-USDT", b"\x00 \xff\nbytes")
    assert until(lambda: pair.face.latest("book/BTC-USDT") is not None)
    latest = pair.face.latest("book/BTC-USDT")
    assert latest is not None
    assert (latest.topic, latest.payload, latest.seq) == ("book/BTC-USDT", b"\x00 \xff\nbytes", 1)
    assert abs(latest.published_ns - before_ns) / 1e9 < 5.0
    assert latest.age_s(latest.published_ns + 1_500_000_000) == 1.5


def test_an_age_is_never_negative() -> None:
    assert Latest("t", b"", published_ns=10**18, seq=1).age_s(10**18 - 1) == 0.0


def test_a_topic_without_a_value_is_none(pair: Pair) -> None:
    assert pair.face.latest("nothing") is None
    assert pair.face.latest_many(["nothing", "neither"]) == {}
    assert pair.face.latest_many([]) == {}
    assert pair.face.topics("") == []


def test_a_value_ends_after_its_ttl(pair: Pair) -> None:
    pair.desk.publish("short", b"1", ttl_s=0.3)
    pair.desk.publish("long", b"1", ttl_s=60.0)
    assert until(lambda: pair.face.topics("") == ["long", "short"])
    assert until(lambda: pair.face.latest("short") is None)
    assert pair.face.topics("") == ["long"]


def test_sequence_numbers_rise_and_the_newest_value_wins(pair: Pair) -> None:
    for n in range(2_000):
        pair.desk.publish("book", str(n).encode())
    assert until(lambda: (v := pair.face.latest("book")) is not None and v.payload == b"1999")
    latest = pair.face.latest("book")
    assert latest is not None
    assert latest.seq == 2_000


def test_many_topics_are_read_at_once_and_by_prefix(pair: Pair) -> None:
    names = [f"book/{n}" for n in range(700)] + ["bo*k/[x]", "worker/1"]
    for name in names:
        pair.desk.publish(name, name.encode())
    assert until(lambda: len(pair.face.topics("")) == len(names))
    assert pair.face.topics("bo*") == ["bo*k/[x]"]
    assert pair.face.topics("worker/") == ["worker/1"]
    found = pair.face.latest_many([*names, "absent"])
    assert {name: latest.payload for name, latest in found.items()} == {n: n.encode() for n in names}


def test_a_dropped_topic_is_gone(pair: Pair) -> None:
    pair.desk.publish("worker/1", b"1")
    assert until(lambda: pair.face.latest("worker/1") is not None)
    pair.desk.drop("worker/1")
    pair.desk.drop("never there")
    assert until(lambda: pair.face.latest("worker/1") is None)


def test_a_watch_hears_what_is_there_and_then_each_change_once(pair: Pair) -> None:
    pair.desk.publish("book/a", b"1")
    pair.desk.publish("other", b"1")
    assert until(lambda: len(pair.face.topics("")) == 2)
    heard: list[tuple[str, bytes]] = []
    watch = pair.face.watch("book/", lambda latest: heard.append((latest.topic, latest.payload)))
    assert until(lambda: heard == [("book/a", b"1")])
    pair.desk.publish("book/b", b"2")
    assert until(lambda: len(heard) == 2)
    pair.desk.publish("book/a", b"3")
    pair.desk.publish("other", b"2")
    assert until(lambda: len(heard) == 3)
    assert heard == [("book/a", b"1"), ("book/b", b"2"), ("book/a", b"3")]
    watch.close()
    watch.close()
    pair.desk.publish("book/a", b"4")
    assert until(lambda: (v := pair.face.latest("book/a")) is not None and v.payload == b"4")
    assert heard[-1] == ("book/a", b"3")


def test_two_watches_of_one_prefix_each_hear_everything_and_end_apart(pair: Pair) -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    watch = pair.face.watch("w/", lambda latest: first.append(latest.payload))
    pair.desk.publish("w/1", b"1")
    assert until(lambda: first == [b"1"])
    pair.face.watch("w/", lambda latest: second.append(latest.payload))
    assert until(lambda: second == [b"1"])
    watch.close()
    pair.desk.publish("w/1", b"2")
    assert until(lambda: second == [b"1", b"2"])
    assert first == [b"1"]


def test_overlapping_watches_each_hear_a_change_once(pair: Pair) -> None:
    wide: list[bytes] = []
    narrow: list[bytes] = []
    pair.face.watch("", lambda latest: wide.append(latest.payload))
    pair.face.watch("book/", lambda latest: narrow.append(latest.payload))
    for n in range(3):
        pair.desk.publish("book/a", str(n).encode())
        assert until(lambda n=n: wide[-1:] == narrow[-1:] == [str(n).encode()])  # type: ignore[misc]
    assert wide == narrow == [b"0", b"1", b"2"]


def test_a_reader_that_fails_silences_neither_itself_nor_others(pair: Pair) -> None:
    heard: list[bytes] = []

    def fails(latest: Latest) -> None:
        raise RuntimeError("a mistake in the reader")

    broken = pair.face.watch("", fails)
    pair.face.watch("", lambda latest: heard.append(latest.payload))
    for n in range(3):
        pair.desk.publish("t", str(n).encode())
        assert until(lambda n=n: heard[-1:] == [str(n).encode()])  # type: ignore[misc]
    assert broken.failures == 3


def test_a_watch_may_be_closed_by_what_it_heard(pair: Pair) -> None:
    heard: list[bytes] = []

    def once(latest: Latest) -> None:
        heard.append(latest.payload)
        watch.close()

    watch = pair.face.watch("", once)
    others: list[bytes] = []
    pair.face.watch("", lambda latest: others.append(latest.payload))
    pair.desk.publish("t", b"1")
    assert until(lambda: others == [b"1"])
    pair.desk.publish("t", b"2")
    assert until(lambda: others == [b"1", b"2"])
    assert heard == [b"1"]


def test_a_request_is_answered(pair: Pair) -> None:
    pair.desk.serve("desk", lambda payload: b"re: " + payload)
    assert pair.face.request("desk", b"\x00\nhello", timeout_s=5.0) == b"re: \x00\nhello"


def test_many_requests_at_once_each_get_their_own_answer(pair: Pair) -> None:
    pair.desk.serve("desk", lambda payload: b"re: " + payload, threads=3)
    wrong: list[int] = []

    def ask(n: int) -> None:
        if pair.face.request("desk", str(n).encode(), timeout_s=10.0) != f"re: {n}".encode():
            wrong.append(n)

    askers = [threading.Thread(target=ask, args=(n,)) for n in range(40)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert wrong == []


def test_a_request_nobody_serves_is_told_as_not_sent(pair: Pair) -> None:
    with pytest.raises(BusDown, match="nobody serves desk"):
        pair.face.request("desk", b"", timeout_s=0.3)


def test_a_request_without_an_answer_in_time_is_told_as_unknown(pair: Pair) -> None:
    release = threading.Event()
    calls: list[bytes] = []

    def slow(payload: bytes) -> bytes:
        calls.append(payload)
        release.wait(10.0)
        return b"late"

    pair.desk.serve("desk", slow)
    with pytest.raises(BusTimeout, match="outcome is unknown") as unknown:
        pair.face.request("desk", b"1", timeout_s=0.2)
    release.set()
    # asking again by the same id gets the first answer and does nothing twice
    again = pair.face.request("desk", b"1", timeout_s=5.0, request_id=unknown.value.request_id)
    assert again == b"late"
    assert calls == [b"1"]


def test_a_repeated_id_returns_the_first_answer(pair: Pair) -> None:
    count = iter(range(100))
    pair.desk.serve("desk", lambda payload: str(next(count)).encode())
    answers = [pair.face.request("desk", b"", timeout_s=5.0, request_id="same") for _ in range(3)]
    assert answers == [b"0", b"0", b"0"]
    assert pair.face.request("desk", b"", timeout_s=5.0) == b"1"


def test_a_repeat_while_the_first_is_worked_on_waits_for_its_answer(pair: Pair) -> None:
    release = threading.Event()
    began = threading.Event()
    calls: list[bytes] = []

    def slow(payload: bytes) -> bytes:
        calls.append(payload)
        began.set()
        release.wait(10.0)
        return b"done"

    pair.desk.serve("desk", slow)
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(pair.face.request("desk", b"1", timeout_s=10.0, request_id="same"))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    assert began.wait(5.0)
    release.set()
    for asker in askers:
        asker.join()
    assert answers == [b"done"] * 3
    assert calls == [b"1"]


def test_a_request_meant_for_another_run_is_ignored(pair: Pair) -> None:
    calls: list[bytes] = []
    pair.desk.serve("desk", lambda payload: calls.append(payload) or b"ok", run_id="run-2")  # type: ignore[func-returns-value]
    with pytest.raises(BusTimeout):
        pair.face.request("desk", b"old", timeout_s=0.3, run_id="run-1")
    assert pair.face.request("desk", b"mine", timeout_s=5.0, run_id="run-2") == b"ok"
    assert pair.face.request("desk", b"any", timeout_s=5.0) == b"ok"
    assert calls == [b"mine", b"any"]


def test_a_handler_that_fails_leaves_the_outcome_unknown_at_once(pair: Pair) -> None:
    def fails(payload: bytes) -> bytes:
        raise RuntimeError("a mistake in the desk")

    pair.desk.serve("desk", fails, threads=1)
    began_s = time.monotonic()
    for _ in range(2):
        with pytest.raises(BusTimeout, match="failed while it worked"):
            pair.face.request("desk", b"", timeout_s=10.0)
    assert time.monotonic() - began_s < 5.0


def test_a_kill_never_waits_for_slow_requests(pair: Pair) -> None:
    release = threading.Event()
    busy = threading.Semaphore(0)

    def slow(payload: bytes) -> bytes:
        busy.release()
        release.wait(10.0)
        return b""

    pair.desk.serve("desk", slow, threads=2)
    pair.desk.serve("kill", lambda payload: b"killed", threads=1)

    def ask() -> None:
        with pytest.raises(BusTimeout):
            pair.face.request("desk", b"", timeout_s=1.0)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    assert busy.acquire(timeout=5.0)
    assert busy.acquire(timeout=5.0)
    began_s = time.monotonic()
    assert pair.face.request("kill", b"", timeout_s=5.0, expires=False) == b"killed"
    assert time.monotonic() - began_s < 0.5
    for asker in askers:
        asker.join()
    release.set()


def test_a_slow_watch_does_not_hold_up_a_kill(pair: Pair) -> None:
    release = threading.Event()
    hears = threading.Event()

    def slow(latest: Latest) -> None:
        hears.set()
        release.wait(10.0)

    pair.desk.watch("", slow)
    pair.desk.publish("t", b"1")
    assert hears.wait(5.0)
    pair.desk.serve("kill", lambda payload: b"killed")
    assert pair.face.request("kill", b"", timeout_s=2.0, expires=False) == b"killed"
    release.set()


def test_a_name_is_served_once_and_can_be_served_again_after_its_end(pair: Pair) -> None:
    served = pair.desk.serve("desk", lambda payload: b"1")
    with pytest.raises(ValueError, match="already served"):
        pair.desk.serve("desk", lambda payload: b"2")
    served.close()
    served.close()
    with pytest.raises(BusDown):
        pair.face.request("desk", b"", timeout_s=0.5)
    pair.desk.serve("desk", lambda payload: b"3")
    assert pair.face.request("desk", b"", timeout_s=5.0) == b"3"


def test_a_link_that_works_is_lost_for_no_time(pair: Pair) -> None:
    assert until(lambda: pair.desk.lost_for_s == pair.face.lost_for_s == 0.0)


def test_closing_ends_a_waiting_request_and_everything_after_it(pair: Pair) -> None:
    release = threading.Event()
    began = threading.Event()

    def slow(payload: bytes) -> bytes:
        began.set()
        release.wait(10.0)
        return b""

    pair.desk.serve("desk", slow)
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            pair.face.request("desk", b"", timeout_s=30.0)
        except BusTimeout as unknown:
            outcome.append(unknown)

    asker = threading.Thread(target=ask)
    asker.start()
    assert began.wait(5.0)
    pair.face.close()
    asker.join(5.0)
    assert len(outcome) == 1
    release.set()
    pair.face.publish("t", b"after the end")
    pair.face.drop("t")
    with pytest.raises(BusDown, match="closed"):
        pair.face.latest("t")
    with pytest.raises(BusDown, match="closed"):
        pair.face.request("desk", b"", timeout_s=1.0)
    pair.face.close()


# the serving side by itself, in stepped time


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Served, list[tuple[str, bytes]], list[bytes]]]]:
    made: list[Served] = []

    def make(clock: SteppedClock, **more: Any) -> tuple[Served, list[tuple[str, bytes]], list[bytes]]:
        answers: list[tuple[str, bytes]] = []
        calls: list[bytes] = []

        def handler(payload: bytes) -> bytes:
            calls.append(payload)
            return b"ok"

        served = Served(
            "desk",
            handler,
            threads=1,
            run_id="run",
            clock=clock,
            send=lambda reply_to, frame: answers.append((reply_to, frame)),
            on_close=lambda served: None,
            **more,
        )
        made.append(served)
        return served, answers, calls

    yield make
    for served in made:
        served.close()


def test_a_request_past_its_deadline_is_ignored_and_one_without_is_obeyed(serve: Any) -> None:
    served, answers, calls = serve(SteppedClock(1_000))
    served.offer(pack_request(Request("late", "run", 999, "me", b"late")))
    served.offer(pack_request(Request("kill", "run", None, "me", b"kill")))
    served.offer(pack_request(Request("just", "run", 1_000, "me", b"just")))
    assert until(lambda: len(answers) == 2)
    assert calls == [b"kill", b"just"]
    assert served.ignored == 1


def test_what_is_no_request_is_ignored_and_the_next_one_is_served(serve: Any) -> None:
    served, answers, calls = serve(SteppedClock(0))
    rubbish = [
        b"",
        b"\x80\x04\x95pickle",
        b"{}\n",
        b"[" * 100_000,
        b'{"v":1,"id":7,"run":null,"end_ns":null,"to":"x"}\n',
        b'{"v":1,"id":"a","run":null,"end_ns":"soon","to":"x"}\n',
        b'{"v":2,"id":"a","run":null,"end_ns":null,"to":"x"}\n',
    ]
    for frame in rubbish:
        served.offer(frame)
    served.offer(pack_request(Request("a", None, None, "me", b"good")))
    assert until(lambda: len(answers) == 1)
    assert calls == [b"good"]
    assert served.ignored == len(rubbish)
    assert unpack_answer(answers[0][1]) == ("a", True, b"ok")


def test_the_memory_of_answers_is_bounded(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quote.bus.ANSWERS_KEPT", 2)
    served, answers, calls = serve(SteppedClock(0))
    for id_ in ("a", "b", "c", "c", "a"):
        served.offer(pack_request(Request(id_, None, None, "me", id_.encode())))
    assert until(lambda: len(answers) == 5)
    assert calls == [b"a", b"b", b"c", b"a"]


def test_a_request_survives_its_frame() -> None:
    request = Request("id", None, 7, "to", b"\n\x00{}")
    assert unpack_request(pack_request(request)) == request


def test_a_value_survives_its_frame_and_rubbish_is_no_value() -> None:
    raw = pack_value(5, 6, b"12345678", b"payload")
    assert unpack_value("t", raw) == (Latest("t", b"payload", 5, 6), b"12345678")
    assert unpack_value("t", b"") is None
    assert unpack_value("t", raw[:24]) is None
    assert unpack_value("t", b"\x80" + raw[1:]) is None
