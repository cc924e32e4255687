"""Every route against every kind of caller, generated from the application: a route without a row fails."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from flask import Flask

from quote.bus import InProcessBus
from tests.fakes import FakeDesk
from tests.web.face import CONSOLE, TOKEN, Face, Serve
from web.app import create_app
from web.settings import WebSettings

WORKER = {"kind": "market_making", "strategy": "standard", "venue": "paper", "symbol": "ETH-USDT"}

# (method, rule): (path, body, status for who may). 200 unless said.
ROWS: dict[tuple[str, str], tuple[str, Any, int]] = {
    ("GET", "/"): ("/", None, 200),
    ("GET", "/api/books/<instrument>"): ("/api/books/paper:BTC-USDT", None, 200),
    ("GET", "/api/config"): ("/api/config", None, 200),
    ("GET", "/api/desk"): ("/api/desk", None, 200),
    ("GET", "/api/feeds"): ("/api/feeds", None, 200),
    ("GET", "/api/fills"): ("/api/fills?limit=5", None, 200),
    ("POST", "/api/kill"): ("/api/kill", None, 200),
    ("POST", "/api/kill/release"): ("/api/kill/release", {"confirm": "RELEASE"}, 200),
    ("GET", "/api/notices"): ("/api/notices", None, 200),
    ("GET", "/api/openapi.json"): ("/api/openapi.json", None, 200),
    ("GET", "/api/session"): ("/api/session", None, 200),
    ("DELETE", "/api/session"): ("/api/session", None, 204),
    ("POST", "/api/start"): ("/api/start", {"exchange": "paper", "symbol": "ETH_USDT", "spread": 0.1}, 200),
    ("GET", "/api/status"): ("/api/status", None, 200),
    ("POST", "/api/stop"): ("/api/stop", None, 200),
    ("GET", "/api/strategies"): ("/api/strategies", None, 200),
    ("GET", "/api/venues"): ("/api/venues", None, 200),
    ("GET", "/api/workers"): ("/api/workers", None, 200),
    ("POST", "/api/workers"): ("/api/workers", {**WORKER, "params": {"spread": 0.1}}, 201),
    ("GET", "/api/workers/<worker_id>"): ("/api/workers/w1", None, 200),
    ("PATCH", "/api/workers/<worker_id>"): ("/api/workers/w1", {"name": "other"}, 200),
    ("DELETE", "/api/workers/<worker_id>"): ("/api/workers/w1", None, 204),
    ("GET", "/api/workers/<worker_id>/orders"): ("/api/workers/w1/orders", None, 200),
    ("POST", "/api/workers/<worker_id>/pause"): ("/api/workers/w1/pause", None, 200),
    ("GET", "/api/workers/<worker_id>/series"): ("/api/workers/w1/series", None, 200),
    ("POST", "/api/workers/<worker_id>/start"): ("/api/workers/w1/start", None, 200),
    ("POST", "/api/workers/<worker_id>/stop"): ("/api/workers/w1/stop", None, 200),
    ("GET", "/api/workers/<worker_id>/versions"): ("/api/workers/w1/versions", None, 200),
    ("GET", "/static/<path:path>"): ("/static/js/store.js", None, 200),
}

# What may be had without a login, on purpose, and what a stranger gets there.
OPEN: dict[tuple[str, str], str] = {
    ("GET", "/login"): "the page to log in with",
    ("POST", "/api/session"): "logging in",
    ("GET", "/api/health"): "alive or not, and no more",
}


def routes_of(app: Flask) -> set[tuple[str, str]]:
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_a_row_here() -> None:
    bus = InProcessBus()
    app, _ = create_app(FakeDesk(), bus, WebSettings(login_token=TOKEN))
    bus.close()
    assert routes_of(app) == set(ROWS) | set(OPEN)


@pytest.fixture
def prepared(serve: Serve) -> Face:
    """`w1` is stopped for DELETE to be allowed; nothing else depends on its state."""
    face = serve()
    face.desk.stop("w1", by="test")
    face.desk.calls.clear()
    return face


def ask(who: requests.Session, face: Face, row: tuple[str, str], **headers: str) -> requests.Response:
    path, body, _ = ROWS[row]
    return who.request(row[0], face.url + path, json=body, headers=headers, allow_redirects=False)


@pytest.mark.parametrize("row", sorted(ROWS), ids=" ".join)
def test_who_may_ask(prepared: Face, row: tuple[str, str]) -> None:
    nobody = prepared.session()
    is_page = row == ("GET", "/")
    refused = 302 if is_page else 401

    assert ask(nobody, prepared, row).status_code == refused
    assert ask(nobody, prepared, row, Authorization="Bearer wrong").status_code == refused
    assert ask(nobody, prepared, row, Authorization=f"Basic {TOKEN}").status_code == refused
    assert ask(nobody, prepared, row, Cookie=f"{prepared.settings.cookie}=made-up").status_code == refused
    assert prepared.desk.calls == []

    page, csrf = prepared.page()
    if row[0] != "GET":
        assert ask(page, prepared, row).status_code == 403
        assert ask(page, prepared, row, **{"X-CSRF-Token": "wrong"}).status_code == 403
        foreign = {"X-CSRF-Token": csrf, "Origin": "http://localhost:3000"}
        assert ask(page, prepared, row, **foreign).status_code == 403
        elsewhere = {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}
        assert ask(page, prepared, row, **elsewhere).status_code == 403
        assert prepared.desk.calls == []
    own = {"X-CSRF-Token": csrf, "Origin": prepared.url, "Sec-Fetch-Site": "same-origin"}
    expected = ROWS[row][2]
    assert ask(page, prepared, row, **own).status_code == expected


@pytest.mark.parametrize("token", [TOKEN, CONSOLE], ids=["login token", "console token"])
@pytest.mark.parametrize("row", sorted(ROWS), ids=" ".join)
def test_a_bearer_token_needs_no_forgery_token(prepared: Face, row: tuple[str, str], token: str) -> None:
    answer = ask(prepared.session(), prepared, row, Authorization=f"Bearer {token}")
    assert answer.status_code == ROWS[row][2]


def test_unknown_addresses_are_not_told_apart_without_a_login(face: Face) -> None:
    nobody = face.session()
    assert nobody.get(face.url + "/api/nothing").status_code == 401
    assert nobody.get(face.url + "/static/js/nothing.js").status_code == 401
    assert face.http.get(face.url + "/api/nothing").status_code == 404
    assert face.http.post(face.url + "/api/desk").status_code == 405


def test_nothing_is_changed_by_get(face: Face) -> None:
    for verb in ("start", "pause", "stop"):
        assert face.http.get(f"{face.url}/api/workers/w1/{verb}").status_code == 405
    assert face.http.get(face.url + "/api/kill").status_code == 405
    assert face.http.get(face.url + "/api/kill/release").status_code == 405
    assert face.desk.calls == []


def test_a_stranger_learns_of_health_only_that_we_live(face: Face) -> None:
    assert face.session().get(face.url + "/api/health").json() == {"status": "ok"}
    assert face.desk.calls == []
    full = face.http.get(face.url + "/api/health").json()
    assert full["status"] == "ok"
    assert full["desk"]["name"] == "fake"


def test_the_login_page_and_its_own_files_need_no_login(face: Face) -> None:
    nobody = face.session()
    for path in ("/login", "/static/js/login.js", "/static/css/login.css", "/static/icon.svg"):
        assert nobody.get(face.url + path).status_code == 200, path
