"""What each command does to the desk, what it prints, and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from api.desk import DeskSilent, DeskUnreachable, ReceiptView, WorkerSpec, WorkerView
from api.errors import BadInput, Conflict, ExchangeError, OutcomeUnknown
from cli.main import help_text
from cli.session import find
from tests.cli.conftest import Face

READING = (
    ["status"],
    ["list"],
    ["show", "demo"],
    ["orders", "demo"],
    ["fills"],
    ["fills", "w1", "--limit", "2"],
    ["feeds"],
    ["strategies"],
    ["strategies", "standard"],
    ["book", "BTC-USDT"],
)
KEYS = {
    "status": {"schema", "session", "desk", "health", "workers", "notices"},
    "list": {"schema", "workers"},
    "show": {"schema", "worker", "orders"},
    "orders": {"schema", "worker", "published_ns", "orders"},
    "fills": {"schema", "published_ns", "fills"},
    "feeds": {"schema", "published_ns", "feeds"},
    "strategies": {"schema", "strategies"},
    "book": {"schema", "book", "orders"},
}


def commands_of(face: Face) -> list[str]:
    reads = {
        "view",
        "workers",
        "worker",
        "orders",
        "fills",
        "feeds",
        "book",
        "strategies",
        "venues",
        "health",
        "notices",
    }
    return [name for name, _, _ in face.desk.calls if name not in reads]


# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_reading_command_writes_one_json_document_and_nothing_else(
    face: Face, words: list[str]
) -> None:
    face.desk.tick(20)
    assert face(*words, "--json") == 0
    assert set(face.document) == KEYS[words[0]]
    assert face.document["schema"] == 1
    assert face.out.count("\n") == 1
    assert face.err == ""
    assert commands_of(face) == []


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_reading_command_writes_plain_aligned_text_without_a_terminal(
    face: Face, words: list[str]
) -> None:
    face.desk.tick(20)
    assert face(*words) == 0
    assert face.out
    assert "\x1b" not in face.out
    assert "None" not in face.out


def test_decimals_in_documents_are_text_without_an_exponent_and_the_unknown_is_null(face: Face) -> None:
    face("show", "demo", "--json")
    worker = face.document["worker"]
    assert worker["stats"]["net"] == "0.00000000"
    assert worker["tick"] == "0.01"
    assert worker["entry_price"] is None


def test_json_may_stand_before_the_command_too(face: Face) -> None:
    assert face("--json", "list") == 0
    assert face.document["workers"][0]["name"] == "demo"


def test_status_says_where_the_desk_lives_and_what_its_market_is(face: Face) -> None:
    face("status")
    assert "in a running desk" in face.out
    assert "SYNTHETIC" in face.out
    face.session.kind = "own"
    face("status")
    assert "in this process" in face.out


def test_a_price_stands_beside_the_label_of_its_market(face: Face) -> None:
    for words in (["list"], ["show", "demo"], ["book", "btcusdt"]):
        face(*words)
        assert "SYNTHETIC" in face.out, words


def test_show_tells_the_why_of_each_side(face: Face) -> None:
    face("show", "demo")
    lines = [line.strip() for line in face.out.splitlines()]
    assert any(line.startswith("because mid ") and " - half spread " in line for line in lines)
    face.desk.pause("w1", by="test")
    face("show", "demo")
    assert "silent: worker is paused" in face.out


def test_the_book_holds_every_own_order_in_place(face: Face) -> None:
    face("book", "paper:BTC-USDT", "--rows", "10")
    for order in face.desk.orders("w1").orders:
        row = next(line for line in face.out.splitlines() if str(order.price) in line)
        assert "▸" in row or "◂" in row


def test_own_orders_deeper_than_the_book_follow_after_a_gap(face: Face) -> None:
    face.desk.change("w1", params={"spread": 5}, by="test")
    face.desk.start("w1", by="test")
    face("book", "BTC-USDT", "--rows", "8")
    assert "⋮" in face.out
    for order in face.desk.orders("w1").orders:
        assert str(order.price) in face.out


def test_a_symbol_may_be_spelled_as_people_do(face: Face) -> None:
    for text in ("BTC-USDT", "btc_usdt", "BTCUSDT", "paper:BTC-USDT"):
        assert face("book", text) == 0
    assert face("book", "DOGE-USDT") == 3
    assert "paper:BTC-USDT" in face.err


def test_fills_are_as_many_as_asked_for_and_newest_first(face: Face) -> None:
    face.desk.tick(60)
    assert face("fills", "--limit", "3", "--json") == 0
    times = [fill["venue_ns"] for fill in face.document["fills"]]
    assert len(times) == 3
    assert times == sorted(times, reverse=True)
    for bad in ("0", "-1", "nan", "1001"):
        assert face("fills", "--limit", bad) == 2


def test_an_empty_desk_says_how_to_make_a_worker(face: Face) -> None:
    face.desk.stop("w1", by="test")
    face.desk.delete("w1", by="test")
    assert face("list") == 0
    assert "create --symbol" in face.out
    assert face("list", "--json") == 0
    assert face.document["workers"] == []


def test_a_name_of_a_stranger_prints_no_escape_code(face: Face) -> None:
    face.desk.change("w1", name="\x1b[2Jevil\n", by="test")
    for words in (["list"], ["show", "w1"], ["stop", "w1"], ["show", "nobody"]):
        face(*words)
        assert "\x1b" not in face.out + face.err


# ------------------------------------------------------------------------------------------ acting


def test_create_makes_the_worker_its_flags_describe(face: Face) -> None:
    code = face(
        *"create market_making/standard --symbol ETH-USDT --spread 0.05 --max-orders 2".split(),
        *"--quantity 0.1 --name eth --limit max_position=0.5 --json".split(),
    )
    assert code == 0
    worker = face.document["worker"]
    assert (worker["name"], worker["symbol"], worker["state"]) == ("eth", "ETH-USDT", "stopped")
    assert worker["params"] == {
        "spread": 0.05,
        "max_orders": 2,
        "quantity": 0.1,
        "interval": 60,
        "duration": None,
    }
    assert worker["limits"] == {"max_position": "0.5"}


def test_create_can_start_it_too(face: Face) -> None:
    assert face("create", "--symbol", "ETH-USDT", "--spread", "0.05", "--start", "--json") == 0
    assert face.document["workers"][0]["state"] == "running"


def test_create_names_every_wrong_flag_and_what_is_allowed_and_changes_nothing(face: Face) -> None:
    assert face("create", "--spread", "-1", "--foo", "3", "--limit", "max_pos=1") == 2
    assert "--spread: -1 is out of range; allowed: 0 < x <= 50 % of mid" in face.err
    assert "--foo: unknown for market_making/standard; allowed: --spread, --quantity" in face.err
    assert "max_pos: unknown" in face.err
    assert "--symbol: is missing" in face.err
    assert commands_of(face) == []


@pytest.mark.parametrize("spread", ["0", "-1", "NaN", "inf", "wide", ""])
def test_a_senseless_spread_is_refused_by_name(face: Face, spread: str) -> None:
    assert face("create", "--symbol", "BTC-USDT", "--spread", spread, "--json") == 2
    assert face.document["error"]["fields"][0]["field"] == "--spread"
    assert face.document["exit_code"] == 2


def test_what_only_the_desk_can_judge_is_refused_by_the_desk(face: Face) -> None:
    assert face("create", "--symbol", "NOPE-USDT", "--spread", "0.05") == 2
    assert "paper has no 'NOPE-USDT'; it has BTC-USDT, ETH-USDT" in face.err
    assert face("create", "--symbol", "BTC-USDT", "--spread", "0.05", "--venue", "mars") == 2
    assert face("create", "magic", "--symbol", "BTC-USDT") == 2
    assert "allowed: market_making/standard" in face.err


def test_a_secret_never_reaches_the_desk_or_the_output(face: Face) -> None:
    assert face("create", "--symbol", "BTC-USDT", "--spread", "0.05", "--api-key", "hunter2") == 2
    assert "hunter2" not in face.out + face.err
    assert face.connects == 0


def test_create_asks_for_what_is_missing_only_with_a_terminal(face: Face) -> None:
    face.answers = ["0", "wide", "0.05"]
    assert face("create", "--symbol", "BTC-USDT", is_tty=True) == 0
    assert [q.startswith("Spread, % of mid") for q in face.questions] == [True] * 3
    assert face.desk.workers()[-1].params["spread"] == 0.05
    assert face("create", "--symbol", "BTC-USDT", "--json", is_tty=True) == 2
    assert len(face.questions) == 3


def test_giving_up_at_a_question_creates_nothing(face: Face) -> None:
    assert face("create", is_tty=True) == 2
    assert "nothing was created" in face.err
    assert commands_of(face) == []


def test_start_pause_and_stop_take_ids_or_names_and_say_what_happened(face: Face) -> None:
    face.desk.create(
        WorkerSpec("market_making", "standard", "paper", "ETH-USDT", {"spread": 0.05}, name="做市"), by="test"
    )
    assert face("start", "做市", "demo") == 0
    assert face("pause", "w2") == 0
    assert "做市 (w2) paused" in face.out
    assert face("stop", "demo", "做市") == 0
    assert "confirmed by the venue" in face.out
    assert [view.state for view in face.desk.workers()] == ["stopped", "stopped"]
    assert [by for _, _, by in face.desk.calls if by] == ["test", "cli", "cli", "cli", "cli", "cli"]


def test_stop_all_stops_every_running_worker(face: Face) -> None:
    assert face("stop", "--all", "--json") == 0
    assert [worker["id"] for worker in face.document["workers"]] == ["w1"]
    assert face("stop", "--all") == 0
    assert "no worker is running" in face.out
    assert face("stop") == 2
    assert face("stop", "demo", "--all") == 2


def test_one_that_fails_does_not_keep_the_others_from_being_stopped(face: Face) -> None:
    assert face("stop", "nobody", "demo", "--json") == 3
    assert [worker["state"] for worker in face.document["workers"]] == ["stopped"]
    assert face.document["failed"][0]["id"] == "nobody"


def test_nothing_is_started_when_one_of_the_names_is_wrong(face: Face) -> None:
    face.desk.stop("w1", by="test")
    assert face("start", "demo", "nobody") == 3
    assert face.desk.worker("w1").state == "stopped"


def test_an_ambiguous_name_is_refused_with_the_ids(face: Face) -> None:
    one = face.desk.worker("w1")
    two = replace(one, id="w2", symbol="ETH-USDT")  # this desk keeps names apart; another may not
    with pytest.raises(BadInput, match=r"w1 \(BTC-USDT\), w2 \(ETH-USDT\)"):
        find([one, two], "demo")
    assert find([one, two], "w2") is two


def test_set_changes_parameters_and_limits_by_name(face: Face) -> None:
    assert face("set", "demo", "spread=0.1", "max-orders=2", "max_position=0.2", "--reason", "calmer") == 0
    view = face.desk.worker("w1")
    assert (view.params["spread"], view.params["max_orders"], view.limits["max_position"]) == (0.1, 2, "0.2")
    assert "spread 0.02 -> 0.1" in face.out
    assert face.desk.versions("w1")[0]["reason"] == "calmer"


def test_set_refuses_unknown_names_with_what_is_allowed_and_changes_nothing(face: Face) -> None:
    for words in (["spred=1"], ["limits.foo=1"], ["spread=0"], ["spread"], ["resume_after_restart=maybe"]):
        assert face("set", "demo", *words) == 2
    assert face("set", "demo") == 2
    assert commands_of(face) == []


def test_set_says_what_takes_effect_only_at_the_next_start(face: Face) -> None:
    face("set", "demo", "duration=60")
    assert "takes effect at the next start: duration" in face.out


def test_delete_is_refused_while_it_runs(face: Face) -> None:
    assert face("delete", "demo") == 4
    face.desk.stop("w1", by="test")
    assert face("delete", "demo", "--json") == 0
    assert face.document == {"schema": 1, "deleted": "w1"}


def test_kill_latches_until_release_is_confirmed(face: Face) -> None:
    assert face("kill", "--reason", "a storm") == 0
    assert face("status") == 0
    assert "KILLED: a storm" in face.out
    assert face("start", "demo") == 4
    assert face("release") == 2
    assert face("release", "--confirm", "yes") == 2
    assert face.desk.view().is_killed
    assert face("release", "--confirm", "RELEASE", "--json") == 0
    assert not face.document["desk"]["is_killed"]


def test_release_asks_for_the_word_with_a_terminal(face: Face) -> None:
    face("kill")
    face.answers = ["release"]
    assert face("release", is_tty=True) == 2
    assert face.desk.view().is_killed
    face.answers = ["RELEASE"]
    assert face("release", is_tty=True) == 0
    assert not face.desk.view().is_killed


# ------------------------------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (BadInput("redis", "is down"), 2, "bad_input"),
        (Conflict("two desks on one data directory"), 4, "conflict"),
        (DeskUnreachable("gone"), 5, "unreachable"),
        (DeskSilent("no answer"), 6, "unknown"),
        (OutcomeUnknown("late"), 6, "unknown"),
        (ExchangeError("the venue says no"), 4, "refused"),
    ],
)
def test_each_refusal_has_its_exit_code_wherever_it_comes_from(
    face: Face, error: Exception, code: int, kind: str
) -> None:
    face.desk.fails = error
    assert face("status", "--json") == code
    assert face.document["error"]["kind"] == kind
    assert face.document["exit_code"] == code
    face.desk.fails, face.fails = None, error
    assert face("status") == code
    assert face.out == ""
    assert face.err.count("\n") == 1


def test_a_desk_that_falls_silent_in_a_stop_leaves_the_outcome_unknown(face: Face) -> None:
    def silent(name: str) -> None:
        if name == "stop":
            raise DeskSilent("no answer within 15 s")

    face.desk.on_command = silent
    assert face("stop", "demo", "--json") == 6
    assert face.document["failed"][0]["exit_code"] == 6


def test_ctrl_c_is_130(face: Face) -> None:
    def interrupt(name: str) -> None:
        if name == "stop":
            raise KeyboardInterrupt

    face.desk.on_command = interrupt
    assert face("stop", "demo") == 130
    assert face.session.closed == 1


def receipt(**changes: Any) -> ReceiptView:
    return replace(ReceiptView("stop", 0, 3, 2, 0, 0, 0, True, 0, ""), **changes)


@pytest.mark.parametrize(
    "changes", [{"unknown": 1}, {"remaining": 1}, {"confirmed": False, "confirmed_ns": None}]
)
def test_a_stop_that_the_venue_did_not_confirm_is_7(face: Face, changes: dict[str, Any]) -> None:
    stop = face.desk.stop

    def unsure(worker_id: str, *, by: str) -> WorkerView:
        return replace(stop(worker_id, by=by), receipt=receipt(**changes))

    face.desk.stop = unsure  # type: ignore[method-assign]
    assert face("stop", "demo", "nobody") == 7
    assert "confirmed by the venue" not in face.out


def test_a_desk_of_its_own_that_ends_with_orders_in_doubt_is_7(face: Face) -> None:
    face.session.kind, face.session.in_doubt = "own", 2
    assert face("list") == 7
    assert "IN DOUBT at the end: 2 orders" in face.err
    assert face.session.closed == 1


def test_a_desk_of_its_own_says_that_its_workers_end_with_it(face: Face) -> None:
    face.session.kind = "own"
    assert face("list") == 0
    assert "and 1 running worker with it" in face.err


def test_a_second_ctrl_c_while_the_desk_ends_does_not_leave_orders(face: Face) -> None:
    presses = [KeyboardInterrupt()]

    def pressed() -> None:
        if presses:
            raise presses.pop()

    face.session.on_close = pressed
    assert face("list") == 0
    assert face.session.closed == 2


def test_start_without_a_terminal_ends_when_its_workers_do_and_reports(face: Face) -> None:
    face.session.kind = "own"
    face.desk.start("w1", by="test")
    asked = iter(range(10))

    def ends(name: str) -> None:  # the worker's duration is over when it is looked at for the second time
        if name == "worker" and next(asked) == 1:
            face.desk.stop("w1", by="its duration")

    face.desk.on_command = ends
    assert face("start", "demo", "--every", "0.01") == 0
    assert face.out.count("execution  ") == 2
    assert "report after 0:00:00" in face.out


def test_start_with_json_is_refused_where_the_desk_would_end_with_it(face: Face) -> None:
    face.session.kind = "own"
    face.desk.stop("w1", by="test")
    assert face("start", "demo", "--json") == 4
    assert face.desk.worker("w1").state == "stopped"


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["help"], ["help", "create"], ["create", "--help"], ["stop", "-h"]]
)
def test_help_does_not_connect(face: Face, words: list[str]) -> None:
    assert face(*words) == 0
    assert face.connects == 0
    assert face.out.strip()


def test_the_help_holds_every_exit_code() -> None:
    for line in (
        "0  done",
        "2  bad input",
        "3  no such",
        "4  refused",
        "5  the desk",
        "6  sent",
        "7  ended",
        "130  int",
    ):
        assert line in help_text()


def test_without_a_command_and_a_terminal_it_prints_its_help_and_is_2(face: Face) -> None:
    assert face() == 2
    assert "run.py --cli [COMMAND]" in face.err
    assert face.out == ""
    assert face.connects == 0


@pytest.mark.parametrize(
    "words", [["1"], ["9"], ["D"], ["balances"], ["--verbose"], ["shell"], ["live"], ["status", "now"]]
)
def test_what_is_not_there_is_refused_by_name_without_connecting(face: Face, words: list[str]) -> None:
    assert face(*words) == 2
    assert words[0].strip("-") in face.err or words[-1] in face.err
    assert face.connects == 0


def test_watch_writes_changes_as_json_lines(face: Face) -> None:
    assert face("watch", "--for", "0.6", "--topic", "desk", "--topic", "worker/") == 0
    lines = [json.loads(line) for line in face.out.splitlines()]
    assert {line["topic"] for line in lines} == {"desk", "worker/w1"}
    assert lines[0].keys() == {"at_ns", "topic", "value"}
    for bad in ("0", "-1", "nan", "soon"):
        assert face("watch", "--for", bad) == 2
