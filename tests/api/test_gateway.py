"""The gateway against a venue that loses, delays, repeats and forgets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from api.errors import ExchangeError, Unavailable, UnknownOrder
from api.exchange import Capabilities
from api.gateway import AccountLimits, DeskBudget, Gateway
from api.types import (
    _GRANT,
    Answered,
    Approved,
    Balance,
    BalancesHeard,
    Cancel,
    Event,
    Fill,
    FillHeard,
    Instrument,
    InstrumentId,
    LinkChanged,
    OrderHeard,
    OrderReport,
    Outcome,
    Place,
    Request,
    Side,
    Status,
)
from tests.makers import BTC, fill, instrument, place, report

S = 1_000_000_000
DESK, RUN = "tst1", 7


@dataclass
class Clock:
    ns: int = 1_000 * S

    def now_ns(self) -> int:
        return self.ns


class Venue:
    """An exchange whose state a test writes down; commands are kept, nothing answers by itself."""

    venue, account = "paper", "main"
    capabilities = Capabilities(cancel_all=True)

    def __init__(self) -> None:
        self.sent: list[Place | Cancel] = []
        self.open: dict[str, OrderReport] = {}
        self.known: dict[str, OrderReport] = {}
        self.fills: list[Fill] = []
        self.fails: ExchangeError | None = None
        self.asked: list[str] = []
        self.since: list[int] = []
        self.canceled_all = 0
        self.on_send: Callable[[], None] = lambda: None

    def send(self, approved: Approved) -> None:
        self.on_send()
        assert isinstance(approved.command, Place | Cancel)
        self.sent.append(approved.command)

    def cancel_all(self, instrument: InstrumentId | None) -> None:
        self.canceled_all += 1

    def fetch_open_orders(self, instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        self._may_fail()
        return tuple(self.open.values())

    def fetch_order(self, instrument: InstrumentId, client_id: str) -> OrderReport:
        self._may_fail()
        self.asked.append(client_id)
        found = self.known.get(client_id) or self.open.get(client_id)
        if found is None:
            raise UnknownOrder("no such order")
        return found

    def fetch_fills(self, instrument: InstrumentId, since_ns: int) -> tuple[Fill, ...]:
        self._may_fail()
        self.since.append(since_ns)
        return tuple(f for f in self.fills if f.venue_ns >= since_ns)

    def fetch_balances(self) -> tuple[Balance, ...]:
        self._may_fail()
        return (Balance("USDT", Decimal(10), Decimal(0)),)

    def connect(self, heard: Callable[[Event], None]) -> None: ...
    def arm_dead_man(self, timeout_s: float) -> None: ...
    def close(self) -> None: ...
    def fetch_instruments(self) -> tuple[Instrument, ...]:
        return ()

    def fetch_server_ns(self) -> int:
        return 0

    def _may_fail(self) -> None:
        if self.fails is not None:
            raise self.fails

    @property
    def canceled(self) -> list[str]:
        return [c.client_id for c in self.sent if isinstance(c, Cancel)]


class Intents:
    """An intent log in memory; `broken` makes it refuse."""

    def __init__(self) -> None:
        self.placed: list[str] = []
        self.done: list[str] = []
        self.broken = False

    def record_place(self, worker: str, account: str, place: Place, at_ns: int) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.placed.append(place.client_id)

    def record_done(self, client_id: str, at_ns: int) -> None:
        self.done.append(client_id)


class Rig:
    """A gateway with one worker `w1` (number 1), and its lane: what is delivered is heard at once."""

    def __init__(
        self,
        *,
        open_intents: tuple[tuple[str, Place, int], ...] = (),
        known: tuple[Fill, ...] = (),
        limits: AccountLimits | None = None,
        budget: DeskBudget | None = None,
        is_up: bool = True,
    ) -> None:
        self.clock, self.venue, self.intents = Clock(), Venue(), Intents()
        self.told: list[Event] = []
        self.booked: list[tuple[str | None, str]] = []
        self.gateway = Gateway(
            self.venue,
            [instrument()],
            clock=self.clock,
            intents=self.intents,
            desk_tag=DESK,
            run_no=RUN,
            deliver=self.hear_later,
            on_fill=lambda worker, f: self.booked.append((worker, f.trade_id)),
            resolve_worker=lambda number: "w1" if number == 1 else None,
            known_trades=[f.key for f in known],
            last_fill_ns={BTC: max(f.venue_ns for f in known)} if known else {},
            open_intents=open_intents,
            limits=limits,
            budget=budget,
        )
        self.gateway.watch(BTC)
        if is_up:
            self.link(True)
            self.poll()

    def hear(self, event: Event) -> str | None:
        """As the lane does it."""
        self.told.append(event)
        owner = self.gateway.heard(event)
        if isinstance(event, FillHeard):
            self.gateway.fill_once(event.fill)
        return owner

    def hear_later(self, event: Event) -> None:
        self.hear(event)

    def link(self, is_up: bool) -> None:
        self.hear(LinkChanged(self.clock.ns, "paper", "account", is_up, ""))

    def poll(self, after_s: float = 0.0) -> None:
        self.clock.ns += int(after_s * S)
        self.gateway.poll(self.clock.ns)

    def pass_time(self, seconds: float, step_s: float = 0.1) -> None:
        for _ in range(round(seconds / step_s)):
            self.poll(step_s)

    def place(self, **terms: object) -> tuple[str, Answered | None]:
        client_id = self.gateway.next_client_id(1)
        made = replace(place(client_id), **terms)  # type: ignore[arg-type]
        return client_id, self.gateway.send(Approved(made, "w1", _GRANT))

    def answer(
        self, client_id: str, outcome: Outcome, request: Request = Request.PLACE, **more: object
    ) -> None:
        self.hear(Answered(self.clock.ns, client_id, BTC, request, outcome, **more))  # type: ignore[arg-type]

    def ends(self) -> list[OrderReport]:
        return [e.report for e in self.told if isinstance(e, OrderHeard) and e.report.status.is_final]

    def is_up(self) -> bool:
        return any(isinstance(e, LinkChanged) and e.link == "orders" and e.is_up for e in self.told)


# ---------------------------------------------------------------------------------------------------- sending


def test_a_client_id_names_desk_worker_and_run_and_is_never_used_twice() -> None:
    rig = Rig()
    ids = [rig.gateway.next_client_id(1) for _ in range(100)]
    assert len(set(ids)) == 100
    assert ids[0] == f"md{DESK}0010007000001"
    assert all(len(i) == 19 and i.isalnum() for i in ids)


def test_nothing_is_sent_before_the_account_was_read() -> None:
    rig = Rig(is_up=False)
    _, answer = rig.place()
    assert answer is not None
    assert (answer.outcome, answer.error) == (Outcome.UNAVAILABLE, "Unavailable")
    rig.link(True)
    _, answer = rig.place()
    assert answer is not None
    assert "reconciled" in answer.reason
    rig.poll()
    _, answer = rig.place()
    assert answer is None
    assert rig.intents.placed == [rig.venue.sent[0].client_id]


def test_an_intent_that_cannot_be_written_is_not_sent_and_reserves_nothing() -> None:
    rig = Rig()
    rig.intents.broken = True
    _, answer = rig.place()
    assert answer is not None
    assert "No space left" in answer.reason
    assert rig.venue.sent == []
    assert rig.gateway.live_count == 0
    assert "intent log" in rig.gateway.trouble
    rig.intents.broken = False
    assert rig.place()[1] is None
    assert rig.gateway.trouble == ""


def test_the_intent_is_written_before_the_order_leaves() -> None:
    rig = Rig()
    order: list[str] = []
    rig.venue.on_send = lambda: order.append(f"sent after {len(rig.intents.placed)} intents")
    rig.place()
    assert order == ["sent after 1 intents"]


def test_the_account_takes_no_more_orders_and_no_more_value_than_it_may() -> None:
    value = instrument().value(9_990, 100)
    rig = Rig(limits=AccountLimits(max_open_orders=2, max_open_value=value * 10))
    first, _ = rig.place()
    assert rig.place(ticks=9_980)[1] is None
    answer = rig.place(ticks=9_970)[1]
    assert answer is not None
    assert (answer.error, len(rig.venue.sent)) == ("AccountLimit", 2)
    rig.answer(first, Outcome.REJECTED, error="Rejected")
    answer = rig.place(lots=2_000)[1]
    assert answer is not None
    assert "open value" in answer.reason
    assert rig.place(ticks=9_970)[1] is None


def test_two_accounts_share_the_desks_budget_and_give_it_back() -> None:
    value = instrument().value(9_990, 100)
    budget = DeskBudget(max_open_value=value * Decimal("1.5"))
    one, two = Rig(budget=budget), Rig(budget=budget)
    first, answer = one.place()
    assert answer is None
    refused = two.place()[1]
    assert refused is not None
    assert refused.error == "DeskLimit"
    one.answer(first, Outcome.ACCEPTED, Request.CANCEL)
    assert two.place()[1] is None


def test_a_race_of_threads_never_passes_the_budget() -> None:
    value = instrument().value(9_990, 100)
    budget = DeskBudget(max_open_value=value * 20)
    rigs = [Rig(budget=budget) for _ in range(4)]
    threads = [threading.Thread(target=lambda r=r: [r.place() for _ in range(50)]) for r in rigs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(rig.venue.sent) for rig in rigs) == 20


def test_orders_of_our_own_never_meet_each_other() -> None:
    rig = Rig()
    buy, _ = rig.place(ticks=9_990)
    answer = rig.place(side=Side.SELL, ticks=9_990)[1]
    assert answer is not None
    assert (answer.outcome, answer.error) == (Outcome.UNAVAILABLE, "SelfMatch")
    assert rig.place(side=Side.SELL, ticks=9_991)[1] is None
    assert rig.gateway.others_touch(BTC, "w2") == (9_990, 9_991)
    assert rig.gateway.others_touch(BTC, "w1") == (None, None)
    rig.answer(buy, Outcome.ACCEPTED, Request.CANCEL)
    assert rig.gateway.others_touch(BTC, "w2") == (None, 9_991)


def test_after_a_429_nothing_new_is_sent_until_the_venue_allows_it_but_cancels_go() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.RATE_LIMITED, error="RateLimited", retry_after_s=3.0)
    other, answer = rig.place()
    assert answer is not None
    assert answer.error == "RateLimited"
    rig.gateway.send(Approved(Cancel("x", BTC), "w1", _GRANT))
    assert rig.venue.canceled == ["x"]
    rig.clock.ns += 3 * S
    assert rig.place()[1] is None


def test_a_refused_key_stops_the_venue_until_a_new_link() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.UNAUTHORIZED, error="Unauthorized", reason="key revoked")
    rig.clock.ns += 60 * S
    _, answer = rig.place()
    assert answer is not None and answer.error == "Unauthorized" and "key revoked" in answer.reason
    rig.gateway.send(Approved(Cancel("x", BTC), "w1", _GRANT))
    assert rig.venue.canceled == ["x"]
    rig.link(False)
    rig.link(True)
    rig.poll()
    assert rig.place()[1] is None


def test_a_dropped_fill_is_found_after_reads_that_failed_for_long() -> None:
    rig = Rig()
    client_id, _ = rig.place(lots=1_000)
    rig.answer(client_id, Outcome.ACCEPTED, venue_id="v")
    rig.venue.open[client_id] = replace(report(client_id, lots=1_000))
    dropped = fill("dropped", client_id, at_ns=rig.clock.ns + S)
    rig.venue.fills.append(dropped)  # the stream never tells it
    rig.venue.fails = Unavailable("no answer")
    for n in range(8):  # others come, so the newest fill heard moves on
        rig.pass_time(10)
        heard = fill(f"t{n}", client_id, at_ns=rig.clock.ns)
        rig.venue.fills.append(heard)
        rig.hear(FillHeard(rig.clock.ns, heard))
    rig.venue.fails = None
    rig.pass_time(35)
    assert ("w1", "dropped") in rig.booked


# ------------------------------------------------------------------------------------------- unknown outcomes


def test_an_order_that_never_arrived_is_closed_by_two_reads_apart_and_not_sooner() -> None:
    rig = Rig()
    lost, _ = rig.place()
    rig.answer(lost, Outcome.UNKNOWN)
    rig.pass_time(2.9)
    assert rig.gateway.live_of("w1") == (1, 1)
    assert rig.ends() == []
    rig.pass_time(2.0)
    assert [(r.client_id, r.status) for r in rig.ends()] == [(lost, Status.REJECTED)]
    assert rig.gateway.live_of("w1") == (0, 0)
    assert rig.intents.done == [lost]
    assert len(rig.venue.asked) >= 2


def test_a_read_that_fails_is_no_evidence() -> None:
    rig = Rig()
    lost, _ = rig.place()
    rig.answer(lost, Outcome.UNKNOWN)
    rig.venue.fails = Unavailable("down")
    rig.pass_time(20)
    assert rig.gateway.live_of("w1") == (1, 1)
    assert "Unavailable" in rig.gateway.trouble
    rig.venue.fails = None
    rig.venue.known[lost] = report(lost, Status.OPEN)
    rig.pass_time(2)
    assert rig.gateway.live_of("w1") == (1, 0)


def test_a_lost_answer_of_an_order_that_filled_finds_its_fill_and_its_end() -> None:
    rig = Rig()
    lost, _ = rig.place()
    rig.answer(lost, Outcome.UNKNOWN)
    rig.venue.fills = [fill("t1", lost, lots=100, at_ns=rig.clock.ns)]
    rig.venue.known[lost] = report(lost, Status.FILLED, filled=100)
    rig.pass_time(1)
    assert rig.booked == [("w1", "t1")]
    assert rig.gateway.live_count == 0


def test_an_order_gone_from_the_venue_with_a_fill_in_its_history_keeps_the_fill() -> None:
    rig = Rig()
    lost, _ = rig.place()
    rig.answer(lost, Outcome.UNKNOWN)
    rig.venue.fills = [fill("t1", lost, lots=40, at_ns=rig.clock.ns)]
    rig.pass_time(6)
    assert rig.booked == [("w1", "t1")]
    assert [r.status for r in rig.ends()] == [Status.CANCELED]


def test_an_order_nobody_ever_answers_becomes_unknown_by_itself() -> None:
    rig = Rig()
    silent, _ = rig.place()
    rig.venue.open[silent] = report(silent)
    rig.pass_time(4.9)
    assert rig.gateway.live_of("w1") == (1, 0)
    assert rig.venue.asked == []
    rig.pass_time(1.0)
    assert rig.venue.asked == [silent]
    assert rig.gateway.live_of("w1") == (1, 0)


def test_an_order_that_arrives_after_it_was_given_up_is_found_and_canceled() -> None:
    rig = Rig()
    late, _ = rig.place()
    rig.answer(late, Outcome.UNKNOWN)
    rig.pass_time(6)
    assert rig.gateway.live_count == 0
    rig.venue.open[late] = report(late)
    rig.answer(late, Outcome.ACCEPTED, venue_id="v")
    rig.pass_time(1.2)
    assert set(rig.venue.canceled) == {late}
    assert rig.gateway.live_of("w1") == (1, 0)
    del rig.venue.open[late]
    rig.answer(late, Outcome.ACCEPTED, Request.CANCEL)
    assert rig.gateway.live_count == 0


def test_a_refused_cancel_is_a_question_and_not_an_end() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    rig.answer(first, Outcome.REJECTED, Request.CANCEL, error="UnknownOrder")
    assert rig.gateway.live_of("w1") == (1, 1)
    rig.venue.known[first] = report(first, Status.FILLED, filled=100)
    rig.venue.fills = [fill("t9", first, lots=100, at_ns=rig.clock.ns)]
    rig.pass_time(0.5)
    assert rig.booked == [("w1", "t9")]
    assert rig.gateway.live_count == 0


# -------------------------------------------------------------------------------------------- after a restart


def left(client_id: str = "mdtst10010006000001", at_ns: int = 400 * S) -> tuple[str, Place, int]:
    return "w1", place(client_id), at_ns


def test_what_an_earlier_run_left_is_canceled_before_anything_new_is_sent() -> None:
    rig = Rig(open_intents=(left(),), is_up=False)
    old = left()[1].client_id
    rig.venue.open[old] = report(old)
    rig.link(True)
    rig.poll()
    assert rig.venue.canceled == [old]
    assert not rig.is_up()
    answer = rig.place()[1]
    assert answer is not None
    assert "reconciled" in answer.reason
    del rig.venue.open[old]
    rig.answer(old, Outcome.ACCEPTED, Request.CANCEL)
    rig.poll(0.1)
    assert rig.is_up()
    assert rig.place()[1] is None


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome.UNKNOWN, ""), (Outcome.RATE_LIMITED, "RateLimited"), (Outcome.UNAVAILABLE, "Unavailable")],
)
def test_an_orphan_whose_cancel_fails_is_canceled_again(outcome: Outcome, error: str) -> None:
    rig = Rig()
    rig.venue.open["mdtst10020003000009"] = report("mdtst10020003000009")
    rig.pass_time(31)
    assert rig.venue.canceled[0] == "mdtst10020003000009"
    before = len(rig.venue.canceled)
    rig.answer("mdtst10020003000009", outcome, Request.CANCEL, error=error)
    rig.pass_time(2.2)
    assert len(rig.venue.canceled) >= before + 2


def test_an_order_of_an_earlier_run_that_never_reached_the_venue_holds_nothing_up_for_long() -> None:
    rig = Rig(open_intents=(left(),), is_up=False)
    rig.link(True)
    rig.pass_time(5)
    assert rig.is_up()
    assert rig.gateway.live_count == 0
    assert rig.intents.done == [left()[1].client_id]


def test_fills_since_the_oldest_open_intent_are_read_again_and_booked_once_to_their_worker() -> None:
    known = fill("t1", left()[1].client_id, lots=10, at_ns=900 * S)
    rig = Rig(open_intents=(left(),), known=(known,), is_up=False)
    new = fill("t2", left()[1].client_id, lots=10, at_ns=410 * S)
    other = fill("t3", "somebody-else", lots=10, at_ns=950 * S)
    rig.venue.fills = [new, known, other]
    rig.link(True)
    rig.poll()
    assert rig.venue.since[0] <= 400 * S
    assert rig.booked == [("w1", "t2")]
    rig.pass_time(31)
    assert rig.booked == [("w1", "t2")]


def test_a_duplicate_fill_is_booked_once_from_stream_history_and_both() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    one = fill("t1", first, lots=30, at_ns=rig.clock.ns)
    rig.venue.fills = [one]
    rig.venue.open[first] = report(first, filled=30)
    rig.hear(FillHeard(rig.clock.ns, one))
    rig.hear(FillHeard(rig.clock.ns, one))
    rig.pass_time(31)
    assert rig.booked == [("w1", "t1")]


def test_a_fill_the_stream_dropped_is_found_within_half_a_minute() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    rig.venue.open[first] = report(first, filled=30)
    rig.venue.fills = [fill("t1", first, lots=30, at_ns=rig.clock.ns)]
    rig.pass_time(30.5)
    assert rig.booked == [("w1", "t1")]


def test_a_filled_order_keeps_its_intent_open_until_the_fill_is_stored() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    rig.hear(FillHeard(rig.clock.ns, fill("t1", first, lots=100, at_ns=rig.clock.ns)))
    assert rig.gateway.live_count == 0
    assert rig.intents.done == []
    rig.gateway.settle(lambda: False)
    assert rig.intents.done == []
    rig.gateway.settle(lambda: True)
    assert rig.intents.done == [first]


def test_orders_of_other_programs_are_left_alone() -> None:
    rig = Rig(is_up=False)
    rig.venue.open["mine-by-hand"] = report("mine-by-hand")
    rig.venue.open["mdelse0010001000001"] = report("mdelse0010001000001")
    rig.link(True)
    rig.pass_time(3)
    assert rig.venue.canceled == []
    assert rig.gateway.live_count == 0
    assert rig.is_up()


def test_an_order_that_ended_while_the_list_was_under_way_is_no_orphan() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    rig.venue.open[first] = report(first)
    listing = rig.venue.fetch_open_orders

    def slow(instrument: InstrumentId | None = None) -> tuple[OrderReport, ...]:
        found = listing(instrument)
        rig.clock.ns += S // 10
        rig.hear(OrderHeard(rig.clock.ns, report(first, Status.CANCELED)))
        return found

    rig.venue.fetch_open_orders = slow  # type: ignore[method-assign]
    rig.poll(30.1)
    assert rig.venue.canceled == []
    assert rig.gateway.live_count == 0


def test_a_link_that_comes_back_is_read_before_anything_is_sent() -> None:
    rig = Rig()
    rig.link(False)
    assert rig.place()[1] is not None
    rig.link(True)
    assert rig.place()[1] is not None
    rig.told.clear()
    rig.poll()
    assert rig.is_up()
    assert any(isinstance(event, BalancesHeard) for event in rig.told)
    assert rig.place()[1] is None


def test_a_venue_that_limits_reads_is_asked_again_when_it_allows_it() -> None:
    rig = Rig(is_up=False)
    rig.venue.fails = Unavailable("busy")
    rig.link(True)
    rig.poll()
    assert not rig.is_up()
    assert "busy" in rig.gateway.trouble
    rig.venue.fails = None
    rig.poll(1.1)
    assert rig.is_up()
    assert rig.gateway.trouble == ""


# ------------------------------------------------------------------------------------------------------- kill


def test_a_kill_cancels_what_is_live_refuses_what_is_new_and_says_why() -> None:
    rig = Rig()
    first, _ = rig.place()
    second, _ = rig.place(ticks=9_980)
    assert rig.gateway.kill("told to") == 2
    assert sorted(rig.venue.canceled) == sorted([first, second])
    assert rig.venue.canceled_all == 1
    answer = rig.place()[1]
    assert answer is not None
    assert answer.error == "Killed"
    assert "told to" in answer.reason
    rig.gateway.release()
    assert rig.place(ticks=9_970)[1] is None


def test_a_cancel_that_is_lost_after_a_kill_is_sent_again_until_the_order_is_gone() -> None:
    rig = Rig()
    first, _ = rig.place()
    rig.answer(first, Outcome.ACCEPTED)
    rig.venue.open[first] = report(first)
    rig.gateway.kill("told to")
    rig.pass_time(3.2)
    assert len(rig.venue.canceled) >= 3
    rig.answer(first, Outcome.ACCEPTED, Request.CANCEL)
    before = len(rig.venue.canceled)
    rig.pass_time(3)
    assert len(rig.venue.canceled) == before


def test_a_kill_in_the_middle_of_a_send_comes_before_it_or_cancels_it() -> None:
    rig = Rig()
    killed = threading.Event()

    def kill() -> None:
        rig.gateway.kill("now")
        killed.set()

    thread = threading.Thread(target=kill)
    began: list[bool] = []

    def on_send() -> None:
        if not began:
            began.append(True)
            thread.start()
            killed.wait(0.2)  # it cannot come in between

    rig.venue.on_send = on_send
    client_id, answer = rig.place()
    thread.join()
    assert answer is None
    names = [(type(c).__name__, c.client_id) for c in rig.venue.sent]
    assert names == [("Place", client_id), ("Cancel", client_id)]


def test_a_kill_of_an_earlier_run_is_latched_without_the_venue_and_cancels_once_it_is_there() -> None:
    rig = Rig(open_intents=(left(),), is_up=False)
    assert rig.gateway.latch("before") == 1
    assert rig.venue.sent == []
    rig.venue.open[left()[1].client_id] = report(left()[1].client_id)
    rig.link(True)
    rig.poll()
    assert rig.venue.canceled == [left()[1].client_id]
    assert rig.gateway.is_killed


def test_a_workers_orders_that_nobody_sees_to_any_more_are_canceled_and_others_stay() -> None:
    rig = Rig()
    mine, _ = rig.place()
    theirs = rig.gateway.next_client_id(2)
    rig.gateway.send(Approved(place(theirs, ticks=9_980), "w2", _GRANT))
    rig.gateway.abandon("w1", "it crashed")
    assert rig.venue.canceled == [mine]
    rig.pass_time(1.2)
    assert rig.venue.canceled == [mine, mine]


def test_counting_at_the_venue_counts_our_own_prefix_only_and_raises_what_it_cannot_read() -> None:
    rig = Rig()
    for client_id in ("mdtst10010007000001", "mdtst10020007000002", "mdelse0010001000001"):
        rig.venue.open[client_id] = report(client_id)
    assert rig.gateway.count_at_venue(None) == 2
    assert rig.gateway.count_at_venue(2) == 1
    rig.venue.fails = Unavailable("down")
    with pytest.raises(Unavailable):
        rig.gateway.count_at_venue(None)
