"""What is wrong is refused with a 4xx that names it, changes nothing, and is never a 5xx or a traceback."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.web.face import TOKEN, Face
from web.problems import Problem
from web.rest.schema import FillsQuery, LegacyStart, Login, WorkerBody, WorkerChange, check, read_json

GOOD: dict[str, Any] = {
    "kind": "market_making",
    "strategy": "standard",
    "venue": "paper",
    "symbol": "BTC-USDT",
    "params": {"spread": 0.1},
}
JSON = {"Content-Type": "application/json"}


def body(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


RAW = {
    "nothing": (b"", None),
    "no JSON": (b"spread=1", None),
    "half of it": (b'{"kind": "market_ma', None),
    "not UTF-8": (b'{"kind": "\xff\xfe"}', None),
    "a list": (b"[]", None),
    "text": (b'"BTC-USDT"', None),
    "null": (b"null", None),
    "NaN": (body(params={"spread": float("nan")}), "spread"),
    "Infinity": (body(params={"spread": float("inf")}), "spread"),
    "minus Infinity": (body(params={"spread": float("-inf")}), "spread"),
    "1e400": (b'{"kind": "x", "params": {"spread": 1e400}}', "spread"),
    "a number of 5000 digits": (b'{"params": {"max_orders": ' + b"9" * 5000 + b"}}", "max_orders"),
    "a NaN in a list": (b'{"params": {"x": [NaN]}}', None),
    "a field twice": (b'{"kind": "a", "kind": "b"}', "kind"),
    "a field twice inside": (b'{"params": {"spread": 1, "spread": 2}}', "spread"),
    "depth 20": (b'{"params": ' + b'{"a":' * 20 + b"1" + b"}" * 20 + b"}", None),
    "depth 20000": (b"[" * 20000 + b"]" * 20000, None),
    "a lone surrogate": (b'{"kind": "\\ud800"}', None),
    "an unknown field": (body(is_admin=True), "is_admin"),
    "the id of another": (body(id="w1"), "id"),
    "a number for a name": (body(kind=5), "kind"),
    "null for a name": (body(venue=None), "venue"),
    "an empty name": (body(symbol=""), "symbol"),
    "a long name": (body(name="x" * 65), "name"),
    "a line feed in a name": (body(name="a\nb"), "name"),
    "a NUL in a symbol": (body(symbol="BTC\x00USDT"), "symbol"),
    "a list for params": (body(params=[]), "params"),
    "text for true": (body(resume_after_restart="yes"), "resume_after_restart"),
    "an unknown env": (body(env="moon"), "env"),
    "an unknown symbol": (body(symbol="DOGE-EUR"), "symbol"),
    "an unknown venue": (body(venue="moon"), "venue"),
    "an unknown strategy": (body(strategy="magic"), "strategy"),
    "an unknown kind": (body(kind="magic"), "kind"),
    "spread 0": (body(params={"spread": 0}), "params.spread"),
    "spread -1": (body(params={"spread": -1}), "params.spread"),
    "spread as text": (body(params={"spread": "wide"}), "params.spread"),
    "an unknown parameter": (body(params={"spread": 1, "luck": 7}), "params.luck"),
    "an unknown limit": (body(limits={"luck": 7}), "limits.luck"),
}


@pytest.mark.parametrize("case", RAW)
def test_a_bad_worker_is_refused_and_nothing_is_made(face: Face, case: str) -> None:
    raw, field = RAW[case]
    answer = face.http.post(face.url + "/api/workers", data=raw, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "errors"}
    assert problem["status"] == 400
    assert "Traceback" not in answer.text
    if field is not None:
        assert field in [error["field"] for error in problem["errors"]]
    assert len(face.http.get(face.url + "/api/workers").json()["workers"]) == 1


def test_every_wrong_field_is_named_at_once(face: Face) -> None:
    answer = face.http.post(face.url + "/api/workers", json={"kind": 5, "luck": 7, "venue": "paper"})
    fields = [error["field"] for error in answer.json()["errors"]]
    assert sorted(fields) == ["kind", "luck", "strategy", "symbol"]


def test_a_body_that_is_not_declared_as_json_is_refused(face: Face) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = face.http.post(face.url + "/api/workers", data=body(), headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert face.http.post(face.url + "/api/workers", files={"kind": "x"}).status_code == 415
    assert [call[0] for call in face.desk.calls] == []


def test_a_large_body_is_refused_whether_it_says_its_size_or_not(face: Face) -> None:
    large = body(name="x" * 70_000)
    chunks = (large[i : i + 1000] for i in range(0, len(large), 1000))
    headers = {**JSON, "Authorization": f"Bearer {TOKEN}"}
    for sent in (large, chunks):
        # each on a connection of its own: the server does not read the rest, and hangs up
        answer = face.session().post(face.url + "/api/workers", data=sent, headers=headers)
        assert answer.status_code == 413
    assert face.desk.calls == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("before_ns=-1", "before_ns"),
        ("before_ns=1.5", "before_ns"),
        ("before_ns=" + "9" * 30, "before_ns"),
        ("before=1", "before"),
        ("worker=" + "x" * 100, "worker"),
        ("symbol=%00", "symbol"),
    ],
)
def test_a_bad_query_is_refused_by_name(face: Face, query: str, field: str) -> None:
    answer = face.http.get(f"{face.url}/api/fills?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert face.desk.calls == []


def test_a_query_where_none_is_known_is_refused(face: Face) -> None:
    assert face.http.get(face.url + "/api/workers?verbose=1").status_code == 400
    assert face.http.post(face.url + "/api/workers/w1/stop?force=1").status_code == 400


def test_a_verb_takes_no_fields(face: Face) -> None:
    answer = face.http.post(face.url + "/api/workers/w1/stop", json={"force": True})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "force"
    assert face.http.post(face.url + "/api/workers/w1/stop", json={}).status_code == 200


def test_a_change_of_nothing_is_refused(face: Face) -> None:
    assert face.http.patch(face.url + "/api/workers/w1", json={}).status_code == 400
    assert face.http.patch(face.url + "/api/workers/w1", json={"reason": "why not"}).status_code == 400
    assert face.http.patch(face.url + "/api/workers/w1", json={"state": "running"}).status_code == 400
    assert face.desk.calls == []


def test_release_takes_the_typed_word(face: Face) -> None:
    face.desk.kill(reason="test", by="test")
    for wrong in ({}, {"confirm": "release"}, {"confirm": True}, {"confirm": "RELEASE", "now": 1}):
        assert face.http.post(face.url + "/api/kill/release", json=wrong).status_code == 400
    assert face.desk.view().is_killed


@pytest.mark.parametrize("raw", [b"", b"{", b"[[[[", b'{"reason": 5}', b"\xff" * 100, b'{"reason": "a\\nb"}'])
def test_no_body_stops_a_kill(face: Face, raw: bytes) -> None:
    answer = face.http.post(face.url + "/api/kill", data=raw, headers=JSON)
    assert answer.status_code == 200
    assert answer.json()["confirmed"] is True
    assert face.desk.view().is_killed
    assert "\n" not in face.desk.view().kill_reason


def test_strange_ids_are_not_found_and_nothing_worse(face: Face) -> None:
    for strange in ("%00", "%ff", "..%2f..%2fetc", "%F0%9F%92%A9", "w1%0a", "x" * 2000, "'; drop table--"):
        answer = face.http.get(f"{face.url}/api/workers/{strange}")
        assert answer.status_code == 404, strange
        assert "Traceback" not in answer.text
    assert face.http.get(face.url + "/static/..%2fapp.py").status_code == 404
    assert face.http.get(face.url + "/static/js/%00").status_code == 404


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)
SCHEMAS = (WorkerBody, WorkerChange, LegacyStart, Login, FillsQuery)


@given(
    schema=st.sampled_from(SCHEMAS),
    fields=st.dictionaries(
        st.sampled_from([*GOOD, "name", "limits", "spread", "exchange", "limit", "token"])
        | st.text(max_size=20),
        VALUES,
        max_size=8,
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_object_is_taken_or_refused_with_reasons(schema: Any, fields: dict[str, Any]) -> None:
    try:
        check(fields, schema)
    except Problem as problem:
        assert problem.status == 400
        assert problem.errors
        assert all(field.isprintable() and message for field, message in problem.errors)


@given(
    raw=st.binary(max_size=200)
    | st.text(alphabet='{}[]":,0123456789.eE-NaIfintyrul \\', max_size=80).map(str.encode)
)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_json_or_a_problem(raw: bytes) -> None:
    try:
        read_json(raw)
    except Problem as problem:
        assert problem.status == 400
