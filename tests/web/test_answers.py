"""What REST answers: statuses, headers, what a silent or lost desk becomes, the OpenAPI document, numbers
as text.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from api.desk import DeskSilent, DeskUnreachable, SideView, WorkerView
from api.errors import OutcomeUnknown, Rejected
from tests.web.face import TOKEN, Face, Serve
from web import present

CREATE = {
    "kind": "market_making",
    "strategy": "standard",
    "venue": "paper",
    "symbol": "BTC-USDT",
    "params": {"spread": 0.1},
}


def test_a_worker_lives_from_creation_to_deletion(face: Face) -> None:
    made = face.http.post(
        face.url + "/api/workers", json={**CREATE, "name": "one", "limits": {"max_position": "0.5"}}
    )
    assert made.status_code == 201
    worker = made.json()
    assert (worker["name"], worker["state"], worker["limits"]["max_position"]) == ("one", "stopped", "0.5")
    at = f"{face.url}/api/workers/{worker['id']}"
    assert [face.http.post(f"{at}/start").json()["state"] for _ in range(2)] == ["running", "running"]
    changed = face.http.patch(at, json={"params": {"spread": 0.2}, "reason": "wider"}).json()
    assert (changed["params"]["spread"], changed["params_version"]) == (0.2, 2)
    versions = face.http.get(f"{at}/versions").json()["versions"]
    assert [(one["version"], one["reason"]) for one in versions] == [(2, "wider"), (1, "created")]
    assert len(face.http.get(f"{at}/orders").json()["orders"]) == 6
    assert face.http.delete(at).status_code == 409
    assert [face.http.post(f"{at}/pause").json()["state"] for _ in range(2)] == ["paused", "paused"]
    stopped = [face.http.post(f"{at}/stop").json() for _ in range(2)]
    assert [one["state"] for one in stopped] == ["stopped", "stopped"]
    assert face.http.delete(at).status_code == 204
    assert face.http.get(at).status_code == 404
    assert face.http.delete(at).status_code == 404


def test_the_desk_hears_who_asked(face: Face) -> None:
    page, csrf = face.page()
    page.post(face.url + "/api/workers/w1/pause", headers={"X-CSRF-Token": csrf})
    face.http.post(face.url + "/api/workers/w1/stop")
    assert face.desk.calls == [("pause", "w1", "page 127.0.0.1"), ("stop", "w1", "token 127.0.0.1")]


def test_fills_are_paged_without_loss_or_double(face: Face) -> None:
    face.desk.tick(100)
    everything = face.http.get(face.url + "/api/fills?limit=1000").json()
    assert everything["next_before_ns"] is None
    seen: list[str] = []
    query = ""
    while True:
        page = face.http.get(f"{face.url}/api/fills?limit=7&worker=w1&symbol=BTC-USDT{query}").json()
        seen += [fill["trade_id"] for fill in page["fills"]]
        if page["next_before_ns"] is None:
            break
        assert isinstance(page["next_before_ns"], str)
        query = f"&before_ns={page['next_before_ns']}"
    assert seen == [fill["trade_id"] for fill in everything["fills"]]
    assert face.http.get(face.url + "/api/fills?worker=other").json()["fills"] == []


def test_kill_and_release(face: Face) -> None:
    receipt = face.http.post(face.url + "/api/kill", json={"reason": "drill"}).json()
    assert receipt["confirmed"] is True
    assert face.http.get(face.url + "/api/desk").json()["kill_reason"] == "drill"
    assert face.http.post(face.url + "/api/workers/w1/start").status_code == 409
    assert face.http.post(face.url + "/api/kill").status_code == 200
    desk = face.http.post(face.url + "/api/kill/release", json={"confirm": "RELEASE"}).json()
    assert desk["is_killed"] is False
    assert face.http.get(face.url + "/api/workers/w1").json()["state"] == "stopped"


COMMANDS = [
    ("GET", "/api/workers"),
    ("POST", "/api/workers/w1/stop"),
    ("POST", "/api/kill"),
    ("POST", "/api/stop"),
    ("GET", "/api/desk"),
]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeskSilent(), 504),
        (DeskUnreachable(), 503),
        (Rejected("the venue says no"), 502),
        (OutcomeUnknown("nobody knows"), 502),
        (RuntimeError("secret inside"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_desk_cannot_answer_is_a_problem_that_says_how_sure_we_are(
    face: Face, error: Exception, status: int
) -> None:
    face.desk.fails = error
    for method, path in COMMANDS:
        answer = face.http.request(method, face.url + path)
        assert answer.status_code == status, path
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "secret inside" not in answer.text
        assert "Traceback" not in answer.text
    words = {504: "unknown whether it happened", 503: "nothing happened"}
    assert words.get(status, "") in face.http.get(face.url + "/api/desk").json()["detail"]


@pytest.mark.parametrize("error", [DeskSilent(), DeskUnreachable()])
def test_health_answers_also_without_the_desk(face: Face, error: Exception) -> None:
    face.desk.fails = error
    answer = face.http.get(face.url + "/api/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unreachable"
    assert face.session().get(face.url + "/api/health").json() == {"status": "ok"}


# ---------------------------------------------------------------------- headers

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/login", 200),
        ("GET", "/api/workers", 200),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/desk", 405),
        ("POST", "/api/workers", 415),
        ("GET", "/static/js/store.js", 200),
        ("GET", "/static/js/nothing.js", 404),
        ("GET", "/socket.io/?EIO=4&transport=polling", 200),
        ("GET", "/socket.io/?EIO=3", 400),
        ("GET", "/socket.io/?EIO=4&transport=polling&sid=made-up", 400),
    ],
)
def test_every_answer_has_the_security_headers(face: Face, method: str, path: str, status: int) -> None:
    answer = face.http.request(method, face.url + path)
    assert answer.status_code == status
    for name, value in EVERYWHERE.items():
        assert answer.headers[name] == value
    policy = answer.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert f"connect-src 'self' ws://127.0.0.1:{face.port};" in policy
    assert answer.headers["Cache-Control"] == ("no-cache" if "store.js" in path else "no-store")
    assert not re.search(r"\d", answer.headers["Server"])
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


def test_the_only_inline_script_of_the_page_is_the_import_map_with_its_hash(face: Face) -> None:
    answer = face.http.get(face.url + "/")
    inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", answer.text, re.S)
    assert len(inline) == 1
    assert "socket.io-client" in msgspec.json.decode(inline[0])["imports"]
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in answer.headers["Content-Security-Policy"]
    assert not re.findall(r"\son\w+=|style=|javascript:", answer.text)
    for path in msgspec.json.decode(inline[0])["imports"].values():
        assert path.startswith("/static/vendor/")


def test_the_login_page_has_no_inline_code_and_no_secret(face: Face) -> None:
    text = face.session().get(face.url + "/login").text
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert TOKEN not in text


@pytest.mark.parametrize(
    ("asked", "lang"),
    [
        ("en-GB,en;q=0.8", "en"),
        ("zh-TW,zh;q=0.9", "zh-TW"),
        ("zh-Hant-HK", "zh-TW"),
        ("zh-CN", "zh-CN"),
        ("fr", "en"),
    ],
)
def test_the_first_paint_speaks_the_readers_language(face: Face, asked: str, lang: str) -> None:
    assert (
        f'lang="{lang}"' in face.session().get(face.url + "/login", headers={"Accept-Language": asked}).text
    )


def test_files_have_the_types_browsers_insist_on(face: Face) -> None:
    types = {
        path: face.http.get(face.url + path).headers["Content-Type"]
        for path in ("/static/js/store.js", "/static/css/login.css", "/static/icon.svg")
    }
    assert types == {
        "/static/js/store.js": "text/javascript; charset=utf-8",
        "/static/css/login.css": "text/css; charset=utf-8",
        "/static/icon.svg": "image/svg+xml",
    }
    tag = face.http.get(face.url + "/static/js/store.js").headers["ETag"]
    again = face.http.get(face.url + "/static/js/store.js", headers={"If-None-Match": tag})
    assert again.status_code == 304


def test_a_crash_is_logged_whole_and_answered_bare(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    face.desk.fails = ZeroDivisionError("inside")
    with caplog.at_level(logging.ERROR):
        answer = face.http.get(face.url + "/api/workers")
    assert answer.status_code == 500
    assert "inside" not in answer.text
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------------- OpenAPI and numbers


def test_the_document_describes_every_route_and_only_those(face: Face) -> None:
    document = face.http.get(face.url + "/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in face.app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert told == routes
    body = document["paths"]["/api/workers"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    worker = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert worker["required"] == ["kind", "strategy", "venue", "symbol"]
    raw = msgspec.json.encode(document).decode()
    for name in re.findall(r'"#/components/schemas/([^"]+)"', raw):
        assert name in document["components"]["schemas"]


def test_amounts_leave_as_text_without_exponent_and_unknown_as_null() -> None:
    side = SideView(False, "book is stale", None, Decimal("1E-8"), 0, (("mid", "1"),))
    assert present.plain(side) == {
        "is_quoting": False,
        "reason": "book is stale",
        "price": None,
        "qty": "0.00000001",
        "orders": 0,
        "terms": [["mid", "1"]],
    }
    assert present.encode({"a": Decimal("NaN"), "b": float("inf"), "c": Decimal("0E-8")}) == (
        b'{"a":null,"b":null,"c":"0.00000000"}'
    )


def test_what_is_not_known_is_null_in_the_old_fields_and_never_0(face: Face) -> None:
    known: Any = msgspec.to_builtins(face.desk.worker("w1"))
    for name in ("mid", "total_quote", "base_balance", "quote_balance", "position"):
        known[name] = None
    known["stats"]["net"] = known["stats"]["unrealized"] = known["stats"]["wear_rate"] = None
    stats = present.legacy_stats(msgspec.convert(known, WorkerView))
    for name in (
        "current_price",
        "total_balance_usd",
        "base_balance",
        "unrealized_pnl",
        "total_pnl",
        "wear_rate",
    ):
        assert stats[name] is None
    assert set(present.SCOPES) <= set(stats)


def test_times_leave_as_iso_text() -> None:
    assert present.iso(1_725_000_000_123_456_789) == "2024-08-30T06:40:00.123456+00:00"
    assert present.iso(None) is None


def test_two_desks_on_one_machine_do_not_log_each_other_out(serve: Serve) -> None:
    one, two = serve(desk="alpha"), serve(desk="be ta")
    both = one.session()
    for face in (one, two):
        assert both.post(face.url + "/api/session", json={"token": TOKEN}).status_code == 200
    for face in (one, two):
        assert both.get(face.url + "/api/workers").status_code == 200
    assert set(both.cookies.keys()) == {"makerdeck_alpha", "makerdeck_be_ta"}
