"""Feeds end to end: the live stream against a venue on this machine, recordings, and the synthetic market."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.desk import FeedView
from api.errors import BadInput
from api.runtime import Clock, ClockLike, Service, SteppedClock
from api.types import BookChanged, BookLost, Event, InstrumentId, Traded
from api.venues.binance_spot import Addresses
from quote.feed import Feed, FrameSource, LiveSource, Sink, SyntheticSource, TapeSource, probe_live
from quote.fold import MarketFold
from quote.tape import open_tape
from tests.api.loopback import Peer, Reply, Venue, eventually
from tests.quote import frames as f
from tests.shared import shared

BTC = InstrumentId("paper:BTC-USDT")
ETH = InstrumentId("paper:ETH-USDT")
S = 1_000_000_000


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue() as server:
        yield server


class Running:
    """A feed with everything it told."""

    def __init__(
        self,
        source: FrameSource,
        *bases: str,
        clock: ClockLike | None = None,
        also: tuple[Callable[[Event], None], ...] = (),
        **options: float,
    ) -> None:
        self.clock = clock or Clock()
        self.events: list[Event] = []
        self.fold = MarketFold([f.instrument(base) for base in bases or ("BTC",)])
        self.feed = Feed("test", source, self.fold, self.clock, (self.events.append, *also), **options)

    def __enter__(self) -> Running:
        self.feed.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.stop()
        assert self.feed.join(5.0)

    @property
    def books(self) -> list[BookChanged]:
        return [event for event in list(self.events) if isinstance(event, BookChanged)]

    @property
    def losses(self) -> list[str]:
        return [event.reason for event in list(self.events) if isinstance(event, BookLost)]

    def view(self, at: int = 0) -> FeedView:
        return self.feed.views(self.clock.now_ns())[at]


# ------------------------------------------------------------------------------------------------- live


class Market:
    """A venue's side of one market: numbered diffs to every peer, snapshots by REST."""

    def __init__(self, venue: Venue, symbol: str = "BTCUSDT") -> None:
        self.venue = venue
        self.symbol = symbol
        self.last = 100
        self.size = 1
        venue.routes["/api/v3/depth"] = lambda query: Reply(200, self.snapshot())
        venue.routes["/api/v3/ping"] = Reply(200, b"{}")

    def snapshot(self) -> bytes:
        return f.snapshot(self.last, [("100", str(self.size))], [("101", "2")])

    def step(self, *, lose: bool = False) -> None:
        self.last += 1
        self.size += 1
        if not lose:
            raw = f.diff(self.last, self.last, [("100", str(self.size))], symbol=self.symbol)
            for peer in self.venue.peers:
                if peer.is_open:
                    peer.send(raw)

    def ticking(self) -> Ticking:
        return Ticking(self)


class Ticking:
    """Steps a market every few milliseconds while in the block."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._done.wait(0.005):
            self._market.step()

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(5)


def live(venue: Venue, *bases: str, record_to: Path | None = None, **options: Any) -> LiveSource:
    return LiveSource(
        [f.instrument(base) for base in bases or ("BTC",)],
        Clock(),
        addresses=Addresses(venue.rest, venue.stream),
        record_to=record_to,
        stream_options={"pauses_s": (0.05,), **options},
    )


def test_a_live_market_is_followed_from_its_snapshot_on(venue: Venue) -> None:
    market = Market(venue)
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: len(running.books) > 20)
        view = running.view()
        assert (view.market, view.source, view.state) == ("LIVE", "binance_spot", "running")
        assert view.age_s is not None and view.age_s < 2.0
        assert view.resyncs == 0
    assert running.losses == ["feed stopped"]
    assert running.view().state == "stopped"
    assert venue.peers[0].path.startswith("/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker")
    lots = [event.book.bids[0][1] for event in running.books]
    assert lots == list(range(lots[0], lots[0] + len(lots) * 100_000, 100_000))  # none left out


def test_a_gap_pulls_the_book_until_a_new_snapshot(venue: Venue) -> None:
    market = Market(venue)
    with Running(live(venue)) as running:
        eventually(lambda: running.books)
        market.step()
        market.step(lose=True)
        market.step()
        eventually(lambda: running.fold.stats(BTC).resyncs == 1)
        eventually(lambda: running.fold.builders[BTC].best_bid == (10000, market.size * 100_000))
    assert running.losses[0].startswith("gap: 1 updates missing after")


def test_a_cut_connection_pulls_every_book_and_comes_back(venue: Venue) -> None:
    market = Market(venue)
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: running.books)
        venue.peers[0].cut()
        eventually(lambda: running.losses)
        seen = len(running.books)
        eventually(lambda: len(running.books) > seen + 5)
        assert running.losses[0].startswith("disconnected: 127.0.0.1 ended the stream")
        assert running.view().note == ""


def test_a_silent_market_is_pulled_while_the_connection_lives(venue: Venue) -> None:
    market = Market(venue)
    with Running(live(venue), silence_s=0.6) as running:
        eventually(lambda: running.books)
        eventually(lambda: running.losses)
        (reason,) = running.losses
        assert reason.startswith("no data for ")
        assert (running.view().state, running.view().note) == ("silent", reason)
        assert running.feed.note_of(BTC) == reason
        market.step()
        eventually(lambda: isinstance(running.events[-1], BookChanged))
        assert (running.view().state, running.feed.note_of(BTC)) == ("running", "")


def test_an_announced_shutdown_changes_the_connection_without_losing_the_book(venue: Venue) -> None:
    market = Market(venue)
    with market.ticking(), Running(live(venue, overlap_s=0.2)) as running:
        eventually(lambda: running.books)
        venue.peers[0].send(json.dumps({"e": "serverShutdown", "E": 1_770_123_456_789}).encode())
        eventually(lambda: len(venue.peers) == 2 and not venue.peers[0].is_open)
        seen = len(running.books)
        eventually(lambda: len(running.books) > seen + 20)
        assert running.losses == []
        assert running.fold.stats(BTC).resyncs == 0
    lots = [event.book.bids[0][1] for event in running.books]
    assert lots == list(range(lots[0], lots[0] + len(lots) * 100_000, 100_000))


def test_a_page_of_html_for_a_snapshot_is_asked_for_again(venue: Venue) -> None:
    market = Market(venue)
    answers = [Reply(200, b"<html>maintenance</html>"), Reply(502, b"<html>"), Reply(200, b"{}")]
    venue.routes["/api/v3/depth"] = lambda query: answers.pop(0) if answers else Reply(200, market.snapshot())
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: len(running.books) > 3)
        assert running.view().state == "running"
    assert running.losses == ["feed stopped"]


def test_a_snapshot_older_than_the_stream_is_asked_for_again(venue: Venue) -> None:
    market = Market(venue)
    market.step()
    stale = [f.snapshot(50), f.snapshot(60)]
    venue.routes["/api/v3/depth"] = lambda query: Reply(200, stale.pop(0) if stale else market.snapshot())
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: len(running.books) > 3)
    assert min(event.book.seq for event in running.books[-3:]) > 100


def test_a_rate_limit_is_waited_out_and_frames_go_on_meanwhile(venue: Venue) -> None:
    market = Market(venue)
    limited = [Reply(429, b"", {"Retry-After": "1"})]
    venue.routes["/api/v3/depth"] = lambda query: limited.pop(0) if limited else Reply(200, market.snapshot())
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: len([1 for _, path in venue.requests if "depth?" in path]) == 2)
        eventually(lambda: running.books)
        times = [at for at, path in venue.requests if "v3/depth" in path]
        assert times[1] - times[0] >= 1.0
        assert running.fold.stats(BTC).frames > 50


def test_a_slow_snapshot_does_not_hold_up_the_stream(venue: Venue) -> None:
    market = Market(venue)
    venue.routes["/api/v3/depth"] = lambda query: Reply(200, market.snapshot(), delay_s=1.0)
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: running.fold.stats(BTC).frames > 60)
        assert running.books == []
        eventually(lambda: len(running.books) > 3)
        assert running.fold.stats(BTC).resyncs == 0


def test_rubbish_on_the_stream_is_counted_and_shown_nowhere_else(venue: Venue) -> None:
    market = Market(venue)

    def rubbish(peer: Peer) -> None:
        for raw in (b"<html>", b"", b'{"stream":"btcusdt@trade","data":{}}', b"\xff\xfe", b'{"id":1}'):
            peer.send(raw)

    venue.on_peer = rubbish
    with market.ticking(), Running(live(venue)) as running:
        eventually(lambda: len(running.books) > 3)
        assert running.fold.unknown_frames + running.fold.stats(BTC).unknown_frames == 4
        assert running.losses == []


def test_a_venue_that_is_not_there_is_shown_as_down_and_the_feed_stops_at_once(venue: Venue) -> None:
    venue.close()
    with Running(live(venue)) as running:
        eventually(lambda: running.view().state == "down")
        assert "did not open its stream" in running.view().note
        begun = time.monotonic()
        running.feed.stop()
        assert running.feed.join(2.0)
        assert time.monotonic() - begun < 1.0
    assert running.events == []


def test_what_was_heard_live_can_be_kept_and_played(venue: Venue, tmp_path: Path) -> None:
    market = Market(venue)
    with market.ticking(), Running(live(venue, record_to=tmp_path)) as running:
        eventually(lambda: len(running.books) > 10)
    (path,) = tmp_path.iterdir()
    tape = open_tape([path])
    fold = MarketFold([f.instrument()])
    for ns, symbol, raw in tape.frames():
        fold.fold(raw, ns, ns, symbol)
    assert tape.symbols == ("BTCUSDT",)
    assert fold.stats(BTC).diffs_applied == running.fold.stats(BTC).diffs_applied
    assert fold.builders[BTC].best_bid == (10000, running.books[-1].book.bids[0][1])


def test_more_markets_than_a_connection_carries_are_refused(venue: Venue) -> None:
    with pytest.raises(BadInput, match="1 to 1024 streams"):
        live(venue, *[f"A{i}" for i in range(400)])


def test_the_way_to_the_venue_is_probed_by_its_own_answer(venue: Venue) -> None:
    addresses = Addresses(venue.rest, venue.stream)
    venue.routes["/api/v3/ping"] = Reply(200, b"{}")
    assert probe_live(1.0, addresses)
    for reply in (Reply(200, b"<html>"), Reply(503), Reply(403), Reply(302, b"", {"Location": "/"})):
        venue.routes["/api/v3/ping"] = reply
        assert not probe_live(1.0, addresses)
    venue.routes["/api/v3/ping"] = Reply(429)
    assert probe_live(1.0, addresses)
    venue.routes["/api/v3/ping"] = Reply(200, b"{}", delay_s=1.0)
    assert not probe_live(0.2, addresses)
    venue.close()
    assert not probe_live(1.0, addresses)


# ------------------------------------------------------------------------------------------------- replay


def tape_file(path: Path, seconds: float = 0.2) -> Path:
    step = int(seconds * S / 4)
    path.write_bytes(
        f.lines(
            [
                (f.START_NS, f.snapshot(10)),
                (f.START_NS + step, f.diff(11, 11, [("100", "3")], ms=f.START_NS // 1_000_000 + 1270)),
                (f.START_NS + 2 * step, f.trade(1, "100", "1", ms=f.START_NS // 1_000_000 + 1270)),
                (f.START_NS + 4 * step, f.ticker(12, ("100", "4"), ("101", "5"))),
            ]
        )
    )
    return path


def test_a_tape_plays_at_its_pace_with_its_times_moved_to_now(tmp_path: Path) -> None:
    tape = open_tape([tape_file(tmp_path / "a", 1.2)])
    clock = Clock()
    begun_ns = clock.now_ns()
    with Running(TapeSource(tape, clock, 2.0, "stop"), clock=clock) as running:
        eventually(lambda: running.view().state == "ended")
        taken_s = (clock.now_ns() - begun_ns) / 1e9
        assert 0.6 <= taken_s < 6.0
        times = [event.book.recv_ns for event in running.books]
        assert times == sorted(times) and times[0] >= begun_ns
        assert all(event.at_ns == event.book.recv_ns for event in running.books)
        view = running.view()
        assert (view.market, view.note, view.source) == ("REPLAY", "end of tape", "tape BTCUSDT")
        assert view.age_s is not None and view.age_s >= 0.0
        assert view.clock_offset_ms == pytest.approx(-970, abs=1)
    kinds = [type(event) for event in running.events]
    assert kinds == [BookChanged, BookChanged, Traded, BookChanged, BookLost]
    assert running.losses == ["end of tape"]


def test_a_tape_that_loops_forgets_its_book_and_says_how_often(tmp_path: Path) -> None:
    tape = open_tape([tape_file(tmp_path / "a", 0.04)])
    with Running(TapeSource(tape, Clock(), 1.0, "loop")) as running:
        eventually(lambda: running.view().note.endswith(" times"))  # from the second on
    events = running.events
    second = [type(event) for event in events].index(BookLost)
    assert running.losses[0] == "the tape starts again"
    first_again = events[second + 1]
    assert isinstance(first_again, BookChanged) and first_again.book.seq == 10
    assert running.fold.stats(BTC).trades >= 2
    assert running.fold.stats(BTC).resyncs == 0


def test_a_tape_at_full_speed_plays_a_whole_recording(tmp_path: Path) -> None:
    tape = open_tape([shared("market_data/binance_ws_2024-08/spot_btcusdt_20240808.gz")])
    with Running(TapeSource(tape, Clock(), float("inf"), "stop")) as running:
        eventually(lambda: running.view().state == "ended", 60)
        view = running.view()
    assert (view.diffs_applied, view.trades, view.frames) == (3449, 9757, 41_249)
    assert view.clock_offset_ms == pytest.approx(-1275, abs=1)


def test_a_slow_tape_is_not_mistaken_for_a_silent_market(tmp_path: Path) -> None:
    tape = open_tape([tape_file(tmp_path / "a", 0.1)])
    with Running(TapeSource(tape, Clock(), 0.1, "stop"), silence_s=0.1) as running:
        eventually(lambda: running.view().state == "ended")
    assert running.losses == ["end of tape"]


def test_a_paused_tape_stops_within_a_second(tmp_path: Path) -> None:
    tape = open_tape([tape_file(tmp_path / "a", 4000.0)])
    with Running(TapeSource(tape, Clock(), 1.0, "loop")) as running:
        eventually(lambda: running.books)
        begun = time.monotonic()
        running.feed.stop()
        assert running.feed.join(2.0)
        assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    ("speed", "at_end"), [(0.0, "stop"), (-1.0, "loop"), (float("nan"), "loop"), (1.0, "x")]
)
def test_a_speed_or_an_end_that_cannot_be_is_refused(tmp_path: Path, speed: float, at_end: str) -> None:
    tape = open_tape([tape_file(tmp_path / "a")])
    with pytest.raises(BadInput):
        TapeSource(tape, Clock(), speed, at_end)


# ------------------------------------------------------------------------------------------------- synthetic


def test_the_synthetic_market_runs_in_real_time_under_its_label() -> None:
    instruments = [f.instrument(), f.instrument("ETH", "0.00001")]
    with Running(SyntheticSource(instruments, 7, Clock()), "BTC", "ETH") as running:
        eventually(lambda: {event.book.instrument for event in running.books} == {BTC, ETH})
        eventually(lambda: running.fold.stats(BTC).diffs_applied > 5)
        view = running.view(1)
        assert (view.market, view.source, view.state, view.instrument) == (
            "SYNTHETIC", "synthetic", "running", "paper:ETH-USDT",
        )  # fmt: skip
        assert view.age_s is not None and view.age_s < 2.0


# ------------------------------------------------------------------------------------------------- the feed
# itself


class Script:
    """A source that does what it is told."""

    label = "REPLAY"
    name = "script"
    pace = 1.0

    def __init__(self, play: Callable[[Service, Sink], None]) -> None:
        self.run = play

    def clock_offset_ms(self, symbol: str, measured: float | None) -> float | None:
        return measured


def test_listeners_hear_each_event_in_the_order_they_were_given() -> None:
    heard: list[str] = []

    def play(service: Service, emit: Sink) -> None:
        emit.up("")
        emit("BTCUSDT", 1, f.snapshot(10))
        emit(None, 2, f.diff(11, 11, [("100", "2")]))
        service.wait(5)

    running = Running(Script(play), also=(lambda e: heard.append("venue"), lambda e: heard.append("lane")))
    with running:
        eventually(lambda: len(heard) == 4)
    assert heard[:4] == ["venue", "lane", "venue", "lane"]


def test_a_crash_pulls_the_books_and_the_feed_starts_itself_again() -> None:
    runs = []

    def play(service: Service, emit: Sink) -> None:
        runs.append(service.restarts)
        emit.up("")
        emit("BTCUSDT", 1, f.snapshot(10))
        if len(runs) == 1:
            raise RuntimeError("a listener choked")
        service.wait(5)

    with Running(Script(play), restart_s=0.05) as running:
        eventually(lambda: len(runs) == 2)
        eventually(lambda: len(running.books) == 2)
    assert [type(event) for event in running.events[:3]] == [BookChanged, BookLost, BookChanged]
    assert runs == [0, 1]


def test_silence_is_told_once_a_market_and_ends_with_its_next_book() -> None:
    clock = SteppedClock(S)

    def idle_at(seconds: int) -> Callable[[Sink], None]:
        def step(emit: Sink) -> None:
            clock.step_to(seconds * S)
            emit.idle()

        return step

    steps: list[Callable[[Sink], None]] = [
        lambda emit: emit.up(""),
        lambda emit: emit("BTCUSDT", S, f.snapshot(10)),
        lambda emit: emit("ETHUSDT", S, f.snapshot(10)),
        idle_at(12),
        idle_at(14),
        lambda emit: emit(None, 14 * S, f.diff(11, 11, [("100", "2")])),
        idle_at(30),
    ]

    def play(service: Service, emit: Sink) -> None:
        for step in steps:
            step(emit)
        steps.clear()
        service.wait(5)

    with Running(Script(play), "BTC", "ETH", clock=clock) as running:
        eventually(lambda: not steps)
    told = [(event.instrument, event.reason) for event in running.events[:-2] if isinstance(event, BookLost)]
    assert told == [(BTC, "no data for 11 s"), (ETH, "no data for 11 s"), (BTC, "no data for 16 s")]
