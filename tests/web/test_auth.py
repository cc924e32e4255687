"""Logins, sessions, throttling, hosts and origins."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from api.errors import BadInputs
from tests.web.face import CONSOLE, PASSWORD, TOKEN, Face, Serve
from web.auth import Auth
from web.problems import Problem
from web.settings import WebSettings, check_settings


class Watch:
    """Seconds that only move when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def judged(auth: Auth, token: str, address: str) -> str:
    try:
        return "right" if auth.check_token(token, address) else "wrong"
    except Problem as problem:
        return str(problem.status)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def auth(watch: Watch) -> Auth:
    return Auth(WebSettings(login_token=TOKEN, console_token="chosen-word", password=PASSWORD), now_s=watch)


# ---------------------------------------------------------------------- sessions


def test_a_cookie_is_for_this_desk_alone_and_out_of_reach_of_scripts(face: Face) -> None:
    answer = face.session().post(face.url + "/api/session", json={"token": TOKEN})
    header = answer.headers["Set-Cookie"]
    assert header.startswith("makerdeck_main=")
    for part in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert part in header
    value = header.split("=", 1)[1].split(";")[0]
    assert len(value) >= 43  # 256 bits in base64
    assert TOKEN not in answer.text + str(answer.headers)


def test_the_link_logs_in_any_number_of_times_and_each_login_is_new(face: Face) -> None:
    first, _ = face.page()
    second, _ = face.page()
    values = {str(one.cookies.get("makerdeck_main")) for one in (first, second)}
    assert len(values) == 2
    for one in (first, second):
        assert one.get(face.url + "/api/workers").status_code == 200


def test_logging_in_again_ends_the_login_of_before(face: Face) -> None:
    page, _ = face.page()
    before = str(page.cookies.get("makerdeck_main"))
    page.post(face.url + "/api/session", json={"token": TOKEN})
    stolen = face.session()
    stolen.cookies.set("makerdeck_main", before)
    assert stolen.get(face.url + "/api/workers").status_code == 401


def test_a_value_brought_along_never_becomes_a_login(face: Face) -> None:
    fixed = face.session()
    fixed.cookies.set("makerdeck_main", "chosen-by-the-attacker")
    fixed.post(face.url + "/api/session", json={"token": TOKEN})
    other = face.session()
    other.cookies.set("makerdeck_main", "chosen-by-the-attacker")
    assert other.get(face.url + "/api/workers").status_code == 401


def test_logging_out_ends_it_here_and_everywhere(face: Face) -> None:
    page, csrf = face.page()
    value = str(page.cookies.get("makerdeck_main"))
    answer = page.delete(face.url + "/api/session", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    copy = face.session()
    copy.cookies.set("makerdeck_main", value)
    assert copy.get(face.url + "/api/workers").status_code == 401


def test_the_session_tells_its_forgery_token_and_its_end(face: Face) -> None:
    page, csrf = face.page()
    told = page.get(face.url + "/api/session").json()
    assert told["csrf"] == csrf
    assert told["desk"] == "main"
    assert 0 < told["expires_in_s"] <= face.settings.session_idle_s


def test_a_session_ends_when_idle_and_when_old(auth: Auth, watch: Watch) -> None:
    settings = WebSettings(login_token=TOKEN)
    value, caller = auth.open_session("127.0.0.1")
    assert caller.session is not None
    watch.now += settings.session_idle_s - 1
    assert auth.caller_of_cookie({settings.cookie: value}, "127.0.0.1") is not None
    watch.now += settings.session_idle_s + 1
    assert auth.caller_of_cookie({settings.cookie: value}, "127.0.0.1") is None

    value, caller = auth.open_session("127.0.0.1")
    for _ in range(int(settings.session_life_s / settings.session_idle_s) + 1):
        watch.now += settings.session_idle_s
        auth.caller_of_cookie({settings.cookie: value}, "127.0.0.1")
    assert auth.caller_of_cookie({settings.cookie: value}, "127.0.0.1") is None


def test_the_number_of_sessions_is_bounded_and_the_newest_stay(auth: Auth, watch: Watch) -> None:
    settings = WebSettings(login_token=TOKEN)
    for _ in range(1100):
        watch.now += 1
        value, _ = auth.open_session("127.0.0.1")
    assert auth.caller_of_cookie({settings.cookie: value}, "127.0.0.1") is not None
    assert len(auth._sessions) == 1000


# ---------------------------------------------------------------------- throttling


def test_ten_wrong_tries_a_minute_for_an_address_and_sixty_in_all(auth: Auth, watch: Watch) -> None:
    looked_at = 0
    for i in range(10_000):
        answer = judged(auth, "guess", f"10.0.0.{i % 100}")
        assert answer in ("wrong", "429")
        looked_at += answer == "wrong"
    assert looked_at == 60
    one = [judged(auth, "guess", "10.9.9.9") for _ in range(20)]
    assert one == ["429"] * 20
    watch.now += 61
    one = [judged(auth, "guess", "10.9.9.9") for _ in range(20)]
    assert one == ["wrong"] * 10 + ["429"] * 10


def test_the_owner_with_the_right_token_gets_in_during_a_flood(auth: Auth) -> None:
    for i in range(1000):
        judged(auth, "guess", f"10.0.0.{i % 100}")
    assert judged(auth, TOKEN, "10.0.0.1") == "right"


def test_a_short_secret_is_not_looked_at_while_there_are_no_tries_left(auth: Auth) -> None:
    for _ in range(10):
        judged(auth, "guess", "10.0.0.1")
    assert judged(auth, "chosen-word", "10.0.0.1") == "429"
    assert judged(auth, "chosen-word", "10.0.0.2") == "right"


def test_right_tries_do_not_use_up_the_tries(auth: Auth) -> None:
    assert [judged(auth, "chosen-word", "10.0.0.1") for _ in range(50)] == ["right"] * 50


def test_an_address_that_logged_in_before_is_spared_the_flood_from_elsewhere(auth: Auth) -> None:
    assert auth.check_password(PASSWORD, "192.0.2.7")
    for i in range(1000):
        judged(auth, "guess", f"10.0.0.{i % 100}")
    assert auth.check_password(PASSWORD, "192.0.2.7")
    with pytest.raises(Problem) as refused:
        auth.check_password(PASSWORD, "192.0.2.8")
    assert refused.value.status == 429


def test_guessing_over_http_ends_in_429_and_the_link_still_works(face: Face) -> None:
    codes = [
        face.session().post(face.url + "/api/session", json={"token": f"guess {i}"}).status_code
        for i in range(15)
    ]
    assert codes == [401] * 10 + [429] * 5
    blocked = face.session().get(face.url + "/api/workers", headers={"Authorization": "Bearer guess"})
    assert blocked.status_code == 429
    assert blocked.headers["Retry-After"] == "60"
    assert face.session().post(face.url + "/api/session", json={"token": TOKEN}).status_code == 200
    console = {"Authorization": f"Bearer {CONSOLE}"}
    assert face.session().get(face.url + "/api/workers", headers=console).status_code == 200


# ---------------------------------------------------------------------- password, one of two


def test_a_password_logs_in_when_one_is_set_and_none_when_not(serve: Serve) -> None:
    without, having = serve(), serve(password=PASSWORD)
    answers = [
        one.session().post(one.url + "/api/session", json={"password": PASSWORD}).status_code
        for one in (without, having)
    ]
    assert answers == [401, 200]
    wrong = having.session().post(having.url + "/api/session", json={"password": PASSWORD + "!"})
    assert wrong.status_code == 401


@pytest.mark.parametrize("body", [{}, {"token": "a", "password": "b"}, {"token": ""}])
def test_a_login_needs_exactly_one_secret(face: Face, body: dict[str, str]) -> None:
    assert face.session().post(face.url + "/api/session", json=body).status_code == 400


# ---------------------------------------------------------------------- hosts and origins


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("[::1]:5000", True),
        ("127.8.9.10", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:5000", False),
        ("192.0.2.1", False),
        ("user@127.0.0.1", False),
        ("127.0.0.1:5000:1", False),
        ("127.0.0.1:x", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_only_our_own_names_are_served(auth: Auth, host: str, is_ours: bool) -> None:
    assert auth.is_own_host({"HTTP_HOST": host}) is is_ours


def test_a_name_that_was_rebound_to_us_gets_nothing(face: Face) -> None:
    for path in ("/", "/login", "/api/health", "/api/workers", "/socket.io/?EIO=4&transport=polling"):
        answer = face.http.get(face.url + path, headers={"Host": "evil.example"})
        assert answer.status_code == 400, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_open_address_may_be_called_by_figures_and_by_its_configured_names() -> None:
    auth = Auth(WebSettings(login_token=TOKEN, host="0.0.0.0", hosts=("desk.example",)))
    assert auth.is_own_host({"HTTP_HOST": "192.0.2.1:5000"})
    assert auth.is_own_host({"HTTP_HOST": "desk.example"})
    assert not auth.is_own_host({"HTTP_HOST": "other.example"})


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", ""]
)
def test_a_foreign_origin_is_refused_whatever_it_carries(face: Face, origin: str) -> None:
    for method, path in (("GET", "/api/workers"), ("POST", "/api/kill"), ("POST", "/api/session")):
        answer = face.http.request(method, face.url + path, headers={"Origin": origin}, json={"token": TOKEN})
        assert answer.status_code == 403, (method, path)
    assert face.desk.calls == []


def test_a_forwarded_header_changes_nothing(face: Face) -> None:
    forwarded = {
        "X-Forwarded-For": "10.1.2.3",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=10.1.2.3;host=evil.example",
    }
    for i in range(12):
        forwarded["X-Forwarded-For"] = f"10.1.2.{i}"
        last = face.session().post(face.url + "/api/session", json={"token": "guess"}, headers=forwarded)
    assert last.status_code == 429
    page, csrf = face.page()
    foreign = {"Origin": "https://evil.example", "X-CSRF-Token": csrf, **forwarded}
    assert page.post(face.url + "/api/kill", headers=foreign).status_code == 403


def test_no_preflight_is_ever_granted(face: Face) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/api/kill", "/socket.io/?EIO=4&transport=polling"):
        answer = face.session().options(face.url + path, headers=asked)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# ---------------------------------------------------------------------- settings, secrets


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.1", "password": PASSWORD},
        {"host": "::", "password": PASSWORD},
        {"host": "", "password": PASSWORD},
        {"host": "desk.example"},
        {"login_token": ""},
        {"console_token": "short"},
        {"max_viewers": 0},
        {"rate_hz": 0.0},
        {"tls_cert": "cert.pem"},
    ],
)
def test_unsafe_settings_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInputs) as refused:
        check_settings(WebSettings(**{"login_token": TOKEN, **settings}))
    assert refused.value.errors
    assert TOKEN not in str(refused.value)


def test_the_token_is_in_the_fragment_of_the_link_and_nowhere_in_settings_shown() -> None:
    settings = WebSettings(login_token=TOKEN, console_token=CONSOLE, password=PASSWORD)
    address, _, fragment = settings.link(5000).partition("#")
    assert address == "http://127.0.0.1:5000/login"
    assert fragment == f"token={TOKEN}"
    for secret in (TOKEN, CONSOLE, PASSWORD):
        assert secret not in repr(settings)


def test_no_secret_is_in_any_answer_or_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    face = serve(password=PASSWORD)
    page, csrf = face.page()
    secrets = [TOKEN, CONSOLE, PASSWORD, str(page.cookies.get("makerdeck_main"))]
    seen = []
    for who in (face.http, page, face.session()):
        for path in ("/", "/login", "/api/health", "/api/session", "/api/desk", "/api/openapi.json", "/nope"):
            answer = who.get(face.url + path)
            seen.append(answer.text + str(answer.headers))
    bad = face.session().post(face.url + "/api/session", json={"token": TOKEN + "x"})
    seen.append(bad.text)
    heard = face.client()
    heard.wait_for("connected")
    seen.append(str(heard.events))
    for secret in secrets:
        assert not [text for text in seen if secret in text]
        assert secret not in caplog.text.replace(f"{TOKEN}x", "")
