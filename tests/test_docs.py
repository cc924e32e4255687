"""The documents against the program: links, flags, routes, named tests; the examples against a real desk."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
from api.runtime import Service
from api.venues.paper.instruments import load_instruments
from quote.bus import InProcessBus
from strategies.host import Host, HostSettings
from strategies.standard import STRATEGY
from tests.fakes import FakeDesk
from tests.web.face import CONSOLE, TOKEN, until
from web.app import create_app
from web.rest.schema import LegacyStart, WorkerBody, check
from web.serve import run_server
from web.settings import WebSettings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
EXAMPLES = ROOT / "examples"
BODIES = sorted(EXAMPLES.glob("worker-*.json"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PROSE_CHARS = 160  # of a line that is neither a table row nor code


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line for line in without_code(text).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# ---------------------------------------------------------------------------------------------- all documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    targets = [urllib.parse.unquote(t) for t in LINK.findall(without_code(document.read_text("utf-8")))]
    lost = [
        t
        for t in targets
        if not re.match(r"[a-z]+:|#", t) and not (document.parent / t.partition("#")[0]).exists()
    ]
    assert not lost


def test_the_two_readmes_lead_to_the_same_documents() -> None:
    found = {
        name: {t for t in LINK.findall((ROOT / name).read_text("utf-8")) if t.startswith("docs/")}
        for name in ("README.md", "README.zh-TW.md")
    }
    assert found["README.zh-TW.md"] <= found["README.md"]
    assert found["README.md"] >= {
        f"docs/{one}.md" for one in ("operating", "api", "paper", "parity", "reliability")
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_prose_stays_within_a_screen(document: Path) -> None:
    lines = without_code(document.read_text("utf-8")).splitlines()
    assert not [line for line in lines if len(line) > PROSE_CHARS and not line.startswith("|")]


# ----------------------------------------------------------------------------------------------- operating.md


def test_the_table_of_settings_is_the_programs_own() -> None:
    told: dict[str, tuple[str, set[str], str]] = {}
    for cells in rows(text_of("operating.md")):
        if len(cells) == 6 and cells[1].startswith("`"):
            names = set(re.findall(r"[A-Z_]{3,}", cells[1]))
            told[" ".join(sorted(names))] = (cells[0].strip("`"), names, cells[2].strip("`"))
    for option in config.OPTIONS.values():
        row = next((row for row in told.values() if row[1] & set(option.variables)), None)
        assert row is not None, f"{option.key} has no row"
        assert row[1] <= set(option.variables), option.key
        assert row[0] == ("-" if option.is_secret else option.flag)
        assert row[2] == ("-" if option.is_secret else option.key)
    assert len(told) == len(config.OPTIONS)


def test_the_defaults_told_are_the_defaults() -> None:
    """Those that are plain numbers or words."""
    by_flag = {option.flag: option for option in config.OPTIONS.values() if not option.is_secret}
    for cells in rows(text_of("operating.md")):
        option = by_flag.get(cells[0].strip("`"))
        told = re.fullmatch(r"`([^`]+)`(;.*)?", cells[3]) if option is not None and len(cells) == 6 else None
        if option is not None and told is not None:
            assert option.parse(told.group(1)) == option.default, option.key


def test_every_flag_a_document_names_exists() -> None:
    terminal = " ".join(path.read_text("utf-8") for path in (ROOT / "cli").glob("*.py"))
    known = {option.flag for option in config.OPTIONS.values()} | {
        "--web",
        "--cli",
        "--config",
        "--disable-db",
    }
    for document in DOCUMENTS:
        if "decisions" in document.parts or document.name in ("parity.md", "architecture.md"):
            continue  # they name flags of other programs
        flags = set(re.findall(r"(?:run\.py|`)[^\n`]*?(--[a-z][a-z-]+)", document.read_text("utf-8")))
        strange = {flag for flag in flags - known if f'"{flag}"' not in terminal}
        assert not strange - set(config._LATER_FLAGS) - _OTHERS, document.name


# flags of scripts, of pytest and of curl that the documents show, and a secret that is shown being refused
_OTHERS = {"--api-key", "--seconds", "--url", "--book", "--tb", "--json", "--param", "--limit"}


def test_every_exit_code_of_the_program_is_told() -> None:
    tree = ast.parse((ROOT / "run.py").read_text("utf-8"))
    told = {cells[0] for cells in rows(text_of("operating.md"))}
    codes = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and ast.unparse(node.targets[0]).startswith("(OK, BAD_INPUT")
    ]
    assert codes and isinstance(codes[0], ast.Tuple)
    assert {ast.unparse(code) for code in codes[0].elts} <= told


# ----------------------------------------------------------------------------------------------------- api.md


def test_every_route_is_told_and_every_route_told_exists() -> None:
    app, _ = create_app(FakeDesk(), InProcessBus(), WebSettings(login_token=TOKEN))
    there = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    told = {
        cells[0].strip("`")
        for cells in rows(text_of("api.md"))
        if re.fullmatch(r"`(GET|POST|PATCH|DELETE) /api/[^`]*`", cells[0])
    }
    assert told == there


def test_every_parameter_and_limit_has_a_row_with_its_unit() -> None:
    table = {
        cells[0].strip("`"): cells
        for cells in rows((ROOT / "docs/strategies/standard.md").read_text("utf-8"))
    }
    for name, rule in STRATEGY.schema()["properties"].items():
        assert name in table
        first_word = rule["unit"].split()[0]
        assert first_word in table[name][1]
        assert table[name][4] == ("live" if rule["live"] else "next start")
    from api.risk import LIMIT_FIELDS

    assert {limit.name for limit in LIMIT_FIELDS} <= table.keys()


# --------------------------------------------------------------------------------------- parity, reliability


@pytest.mark.parametrize("name", ["parity.md", "reliability.md", "strategies/standard.md"])
def test_every_test_a_document_names_exists(name: str) -> None:
    found = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text_of(name)))
    assert found or name == "strategies/standard.md"
    lost = []
    for path, test in sorted(found):
        file = ROOT / path
        if not file.exists() or (test and f"def {test}(" not in file.read_text("utf-8")):
            lost.append(f"{path}::{test}")
    assert not lost


def test_parity_has_a_row_for_each_requirement_with_a_verdict_and_a_test() -> None:
    seen = set()
    for cells in rows(text_of("parity.md")):
        if re.fullmatch(r"P\d+(, P\d+)*", cells[0]):
            seen |= set(cells[0].split(", "))
        if len(cells) == 4 and cells[0] not in ("id", "line", "---"):
            assert re.match(r"(same|better|different|not yet \(issue [34]\)|not wanted)", cells[1]), cells[0]
            assert cells[3] == "no test" or cells[3].startswith("`tests/"), cells[0]
    assert seen == {f"P{n}" for n in range(1, 28)}


# ------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("body", BODIES, ids=lambda p: p.stem)
def test_every_body_is_what_the_rest_face_and_the_strategy_take(body: Path) -> None:
    given = json.loads(body.read_text("utf-8"))
    checked = check(given, WorkerBody)
    STRATEGY.parse(checked.params)
    from api.risk import limits_schema

    assert set(checked.limits) <= set(limits_schema()["properties"])


def test_the_old_consoles_body_is_taken() -> None:
    check(json.loads((EXAMPLES / "start-old-console.json").read_text("utf-8")), LegacyStart)


def test_the_instruments_file_is_loaded_whole() -> None:
    listing = load_instruments(EXAMPLES / "paper-instruments.json")
    assert [one.symbol for one in listing.instruments] == ["BTC-USDT", "ETH-USDT"]
    assert listing.instruments[0].maker_fee < 0
    assert set(listing.balances) == {"USDT", "BTC", "ETH"}


def test_the_settings_file_starts_a_page(tmp_path: Path) -> None:
    words = ["--config", str(EXAMPLES / "makerdeck.toml"), "--data-dir", str(tmp_path)]
    found = config.load(words, {}, beside=tmp_path)
    assert (found.mode, found.port, found.db_enabled, found.at_end) == ("web", 5000, True, "loop")


def run_example(command: list[str], token: str | None = CONSOLE) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k != "CONSOLE_TOKEN"}
    environ |= {"NO_PROXY": "*"} | ({} if token is None else {"CONSOLE_TOKEN": token})
    return subprocess.run(command, env=environ, cwd=ROOT, text=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, str]]:
    """A real desk on the synthetic market with its web face, in this process; and the address of the face."""
    bus = InProcessBus()
    host = Host(HostSettings("docs", "paper", "0", tmp_path_factory.mktemp("desk"), live_market=False), bus)
    app, _ = create_app(host.desk, bus, WebSettings(login_token=TOKEN, console_token=CONSOLE, port=0))
    stop = threading.Event()
    ports: list[int] = []
    server = Service("server", lambda _: run_server(app, "127.0.0.1", 0, 80, ports.append, stop))
    host.start()
    host.make_demo()
    server.start()
    try:
        until(
            lambda: ports and any(w.word == "QUOTING" for w in host.desk.workers()), "the desk", within_s=20
        )
        yield host, f"http://127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        server.stop()
        server.join(10)
        assert host.close()
        bus.close()


@pytest.mark.parametrize("body", BODIES, ids=lambda p: p.stem)
def test_the_script_creates_runs_and_removes_a_worker(desk: tuple[Host, str], body: Path) -> None:
    host, url = desk
    workers = len(host.desk.workers())
    script = [
        sys.executable,
        str(EXAMPLES / "run_a_worker.py"),
        str(body),
        "--url",
        url,
        "--seconds",
        "1",
    ]
    done = run_example(script)
    assert done.returncode == 0, done.stderr
    assert "QUOTING" in done.stdout and "none left: the venue said so twice" in done.stdout
    assert len(host.desk.workers()) == workers


def test_the_script_says_what_is_wrong(desk: tuple[Host, str], tmp_path: Path) -> None:
    _, url = desk
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"kind": "market_making", "strategy": "standard", "symbol": "BTC-USDT"}))
    script = [sys.executable, str(EXAMPLES / "run_a_worker.py"), str(body), "--url", url]
    done = run_example(script)
    assert (done.returncode, "venue: is required" in done.stderr) == (1, True)
    assert run_example(script, token=None).returncode == 2


def test_the_reader_hears_status_and_the_book(desk: tuple[Host, str]) -> None:
    _, url = desk
    script = [sys.executable, str(EXAMPLES / "watch_stats.py"), "--url", url, "--book", "paper:BTC-USDT"]
    done = run_example([*script, "--seconds", "1.5"])
    assert done.returncode == 0, done.stderr
    assert "connected to" in done.stdout and "book/paper:BTC-USDT" in done.stdout
    assert run_example(script, token="not-the-right-token-at-all").returncode == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_lines_go_through(desk: tuple[Host, str]) -> None:
    _, url = desk
    text = (EXAMPLES / "desk.sh").read_text("utf-8")
    assert "\nsleep 5\n" in text
    done = run_example(["sh", "-c", text.replace("\nsleep 5\n", "\n"), str(EXAMPLES / "desk.sh"), url])
    assert done.returncode == 0, done.stderr
    assert "urn:makerdeck:problem" not in done.stdout
    assert '"receipt":{' in done.stdout
