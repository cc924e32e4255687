"""A paper venue in another process: what a killed desk, a killed venue, a refused token and a bad address
lead to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.errors import BadInput, OutcomeUnknown, Unauthorized, Unavailable
from api.runtime import Clock, Service
from api.types import (
    Answered,
    Cancel,
    Event,
    FillHeard,
    LinkChanged,
    OrderHeard,
    Outcome,
    Request,
    Side,
    Status,
)
from api.venues.paper import wire
from api.venues.paper.client import PaperClient, PaperFrames
from api.venues.paper.faults import Fault
from tests.conformance.market import BTC
from tests.conformance.rigs import PATIENCE_S, TOKEN, PaperProcess, all_of, approved, place, poll
from tests.shared import ROOT

BUY, SELL = Side.BUY, Side.SELL
BIDS = {10_000: 500, 9_990: 200}
ASKS = {10_010: 300, 10_020: 300}

KILLED_DESK = """
import sys, threading
from api.runtime import Clock
from api.types import Answered
from api.venues.paper.client import PaperClient
from tests.conformance.rigs import approved, place
client = PaperClient(sys.argv[1], sys.argv[2], "main", clock=Clock())
said = threading.Event()
client.connect(lambda event: said.set() if isinstance(event, Answered) else None)
client.fetch_balances()
if len(sys.argv) > 3:
    client.arm_dead_man(float(sys.argv[3]))
client.send(approved(place("a")))
said.wait(10)
print("placed", flush=True)
threading.Event().wait(60)
"""


def client_of(process: PaperProcess, account: str = "main", token: str = TOKEN) -> PaperClient:
    return PaperClient(
        process.address,
        token,
        account,
        clock=Clock(),
        answer_timeout_s=0.5,
        call_timeout_s=1.0,
        reconnect_s=0.02,
    )


@pytest.fixture
def process() -> Iterator[PaperProcess]:
    made = PaperProcess.next()
    try:
        made.book(BIDS, ASKS)
        yield made
    finally:
        made.close()


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def client(process: PaperProcess, heard: list[Event]) -> Iterator[PaperClient]:
    made = client_of(process)
    made.connect(heard.append)
    assert poll(lambda: bool(all_of(heard, LinkChanged)), PATIENCE_S)
    yield made
    made.close()


def answered(heard: list[Event], client_id: str, request: Request = Request.PLACE) -> Answered:
    def found() -> list[Answered]:
        return [a for a in all_of(heard, Answered) if (a.client_id, a.request) == (client_id, request)]

    assert poll(lambda: bool(found()), PATIENCE_S), heard
    return found()[0]


def desk_process(process: PaperProcess, *more: str) -> subprocess.Popen[bytes]:
    """Another process that connects, places one order, says so, and waits to be killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED_DESK, process.address, TOKEN, *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"placed\n"
    child.stdout.close()
    return child


# ------------------------------------------------------------------------------------ the desk dies


def test_the_orders_of_a_killed_desk_rest_on_and_their_fills_are_found(
    process: PaperProcess, heard: list[Event]
) -> None:
    desk = desk_process(process)
    desk.send_signal(signal.SIGKILL)
    desk.wait(10)
    process.trade(SELL, 9_990, 240)
    with contextlib.closing(client_of(process)) as back:
        back.connect(heard.append)
        assert [(order.client_id, order.filled_lots) for order in back.fetch_open_orders()] == [("a", 40)]
        (fill,) = back.fetch_fills(BTC, 0)
        ledger = back.fetch_ledger()["main"]
        assert (ledger.fills, ledger.open_orders, ledger.balances) == (
            (fill,),
            back.fetch_open_orders(),
            back.fetch_balances(),
        )
        # the trade may have come after we were there: then it was pushed as well, and it is the same fill
        assert all(event.fill == fill for event in all_of(heard, FillHeard))
        back.send(approved(Cancel("a", BTC)))
        assert answered(heard, "a", Request.CANCEL).outcome is Outcome.ACCEPTED


def test_an_armed_dead_man_cancels_for_a_killed_desk(process: PaperProcess, heard: list[Event]) -> None:
    desk = desk_process(process, "0.5")
    desk.send_signal(signal.SIGKILL)
    desk.wait(10)
    watcher = client_of(process)
    watcher.connect(heard.append)
    with contextlib.closing(watcher):
        assert poll(lambda: watcher.fetch_open_orders() == (), PATIENCE_S)
        assert watcher.fetch_order(BTC, "a").status is Status.CANCELED


# ------------------------------------------------------------------------------------ the venue dies or hangs


def test_a_killed_venue_takes_the_link_down_and_leaves_answers_unknown(
    process: PaperProcess, client: PaperClient, heard: list[Event]
) -> None:
    client.fault(Fault.LOST_ANSWER)
    client.send(approved(place("a")))
    assert poll(lambda: bool(all_of(heard, OrderHeard)), PATIENCE_S)
    process.child.kill()
    assert answered(heard, "a").outcome is Outcome.UNKNOWN
    assert poll(lambda: not all_of(heard, LinkChanged)[-1].is_up, PATIENCE_S)
    client.send(approved(place("b")))
    assert answered(heard, "b").outcome is Outcome.UNAVAILABLE
    with pytest.raises(Unavailable):
        client.fetch_open_orders()


def test_a_venue_that_hangs_makes_outcomes_unknown_and_answers_late(
    process: PaperProcess, client: PaperClient, heard: list[Event]
) -> None:
    process.child.send_signal(signal.SIGSTOP)
    client.send(approved(place("a")))
    assert answered(heard, "a").outcome is Outcome.UNKNOWN
    with pytest.raises(Unavailable):
        client.fetch_balances()
    with pytest.raises(OutcomeUnknown):
        client.cancel_all(None)
    process.child.send_signal(signal.SIGCONT)
    assert poll(lambda: len(all_of(heard, Answered)) == 2, PATIENCE_S)
    assert all_of(heard, Answered)[1].outcome is Outcome.ACCEPTED
    assert [link.is_up for link in all_of(heard, LinkChanged)] == [True]


def test_a_venue_that_comes_back_brings_the_link_up_again(tmp_path: Path, heard: list[Event]) -> None:
    address = f"unix:{tmp_path}/paper.sock"
    first = PaperProcess(address)
    client = client_of(first)
    client.connect(heard.append)
    assert poll(lambda: bool(all_of(heard, LinkChanged)), PATIENCE_S)
    first.child.kill()
    first.child.wait(10)
    second = PaperProcess(address)  # over the socket file that the first left behind
    second.book(BIDS, ASKS)
    assert poll(lambda: [e.is_up for e in all_of(heard, LinkChanged)] == [True, False, True], PATIENCE_S)
    client.send(approved(place("a")))
    assert answered(heard, "a").outcome is Outcome.ACCEPTED
    client.close()
    first.close()
    second.close()


# ------------------------------------------------------------------------------------ who may connect


def test_a_wrong_token_is_refused_and_never_repeated(process: PaperProcess, heard: list[Event]) -> None:
    wrong = "not-the-token-0123456789"
    stranger = client_of(process, token=wrong)
    stranger.connect(heard.append)
    with pytest.raises(Unauthorized) as refused:
        stranger.fetch_balances()
    stranger.send(approved(place("a")))
    answer = answered(heard, "a")
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert wrong not in f"{refused.value} {answer}"
    with pytest.raises(Unauthorized):
        PaperFrames(process.address, wrong).fetch_label()
    stranger.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        wire.packet(wire.MESSAGE, b"{}"),
        wire.packet(wire.MESSAGE, b'{"type":"send"}'),
        wire.message(wire.Call(1, "ledger")),
        wire.message(wire.Hello(TOKEN, "everything")),
        wire.message(wire.Hello(TOKEN, "account", "")),
        wire.frame("X", 1, b"x"),
    ],
)
def test_rubbish_ends_its_own_connection_only(
    process: PaperProcess, client: PaperClient, sent: bytes
) -> None:
    link = wire.connected_to(process.address, 5.0)
    link.sendall(sent)
    while link.recv(4096):
        pass
    link.close()
    assert len(client.fetch_balances()) == 2


def test_a_call_with_rubbish_arguments_is_refused_and_the_connection_stays(client: PaperClient) -> None:
    for name, args in (
        ("nothing", {}),
        ("order", {}),
        ("fault", {"fault": "x", "n": 1}),
        ("arm_dead_man", {}),
    ):
        with pytest.raises(Exception, match=name):
            client._call(name, args)
    assert len(client.fetch_balances()) == 2


def test_an_account_belongs_to_its_newest_connection(
    process: PaperProcess, client: PaperClient, heard: list[Event]
) -> None:
    newer_heard: list[Event] = []
    newer = client_of(process)
    newer.connect(newer_heard.append)
    assert poll(lambda: not all_of(heard, LinkChanged)[-1].is_up, PATIENCE_S)
    assert all_of(heard, LinkChanged)[-1].reason == "another connection took this account"
    client.send(approved(place("a")))
    assert answered(heard, "a").outcome is Outcome.UNAUTHORIZED
    assert newer.fetch_open_orders() == ()
    assert [event.is_up for event in all_of(newer_heard, LinkChanged)] == [True]
    newer.close()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:5000",
        "example.com:80",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "unix:",
        "unix:/" + "x" * 200,
    ],
)
def test_only_loopback_addresses_are_taken(address: str) -> None:
    with pytest.raises(BadInput):
        wire.listen_on(address)
    with pytest.raises(BadInput):
        wire.connected_to(address, 1.0)


def test_a_path_that_is_used_is_not_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(BadInput, match="not a socket"):
        wire.listen_on(f"unix:{file}")
    assert file.read_text() == "data"
    listener, _ = wire.listen_on(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput, match="another paper venue"):
        wire.listen_on(f"unix:{tmp_path}/s")
    listener.close()


# ------------------------------------------------------------------------------------ the market


class Told:
    """A feed's sink that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def __call__(self, symbol: str | None, recv_ns: int, raw: bytes) -> None:
        self.said.append(("frame", symbol, json.loads(raw)))

    def idle(self) -> None:
        pass

    def up(self, note: str) -> None:
        self.said.append(("up", note))

    def down(self, reason: str) -> None:
        self.said.append(("down",))

    def restart(self, reason: str, note: str) -> None:
        self.said.append(("restart", reason, note))

    def end(self, reason: str) -> None:
        self.said.append(("end", reason))


def test_a_reader_that_joins_late_starts_from_a_snapshot(process: PaperProcess) -> None:
    told = Told()
    frames = PaperFrames(process.address, TOKEN, reconnect_s=0.02)
    service = Service("frames", lambda s: frames.run(s, told)).start()
    assert poll(lambda: ("up", "") in told.said, PATIENCE_S)
    poll(lambda: False, 0.05)  # the server has taken it as a reader by then
    process.trade(BUY, 10_010, 7)
    assert poll(lambda: len(told.said) >= 3, PATIENCE_S)
    snapshot = {
        "bids": [list(level) for level in BIDS.items()],
        "asks": [list(level) for level in ASKS.items()],
    }
    assert told.said == [
        ("up", ""),
        ("frame", "BTCUSDT", snapshot),
        ("frame", None, {"side": "buy", "ticks": 10_010, "lots": 7}),
    ]
    assert frames.label == "SYNTHETIC" == frames.fetch_label()
    process.note("restart")
    process.note("down")
    process.note("up")
    process.note("end")
    assert poll(lambda: len(told.said) >= 7, PATIENCE_S)
    assert told.said[3:] == [("restart", "told to", ""), ("down",), ("up", ""), ("end", "told to")]
    late = Told()
    second = Service("frames-2", lambda s: frames.run(s, late)).start()
    assert poll(lambda: ("end", "told to") in late.said, PATIENCE_S)
    process.child.kill()
    assert poll(lambda: ("down",) in told.said[7:], PATIENCE_S)
    for one in (service, second):
        one.stop()
        assert one.join(5)


# ------------------------------------------------------------------------------------ many at once


def test_commands_of_many_threads_are_each_answered_once(
    process: PaperProcess, client: PaperClient, heard: list[Event]
) -> None:
    def work(service: Service) -> None:
        for n in range(40):
            client.send(approved(place(f"{service.name}-{n}", BUY, 9_900 - n, 60)))
            if n % 10 == 0:
                client.fetch_open_orders()

    workers = [Service(f"w{k}", work).start() for k in range(4)]
    assert all(worker.join(20) for worker in workers)
    assert all(worker.crashed is None for worker in workers)
    assert poll(lambda: len(all_of(heard, Answered)) == 160, PATIENCE_S)
    assert len({answer.client_id for answer in all_of(heard, Answered)}) == 160
    assert len(client.fetch_open_orders()) == 160


def test_close_is_quick_and_leaves_no_thread(process: PaperProcess, heard: list[Event]) -> None:
    client = client_of(process)
    client.connect(heard.append)
    assert poll(lambda: bool(heard), PATIENCE_S)
    clock = Clock()
    begun_ns = clock.now_ns()
    client.close()
    client.close()
    assert clock.now_ns() - begun_ns < 1_000_000_000
    assert not any(thread.name.startswith("paper-client") for thread in threading.enumerate())
    assert not all_of(heard, LinkChanged)[-1].is_up
