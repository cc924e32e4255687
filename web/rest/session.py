"""Logging in and out. Hides the cookie's attributes. Must not know what a session is good for."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from web import present
from web.auth import Auth, Caller
from web.problems import Problem
from web.settings import WebSettings

from .routes import Routes, caller
from .schema import Login


def routes(auth: Auth, settings: WebSettings) -> Routes:
    on = Routes("session")

    def body_of(who: Caller) -> dict[str, Any]:
        left = auth.session_left_s(who.session) if who.session is not None else None
        return {"desk": settings.desk, "csrf": who.csrf, "by": who.by, "expires_in_s": left}

    @on.on(
        "POST",
        "/api/session",
        "Log in with the token or the password",
        answer=dict,
        body=Login,
        is_public=True,
    )
    def login(body: Login) -> Response:
        address = request.remote_addr or "unknown"
        if bool(body.token) == bool(body.password):
            raise Problem(
                400, "token: give either token or password", (("token", "or password, one of them"),)
            )
        if body.token:
            is_right = auth.check_token(body.token, address)
        else:
            is_right = auth.check_password(body.password, address)
        if not is_right:
            raise Problem(401, "That is not the right secret.")
        # a session is new at each login: an old one in this browser ends
        old = auth.caller_of_cookie(request.cookies, address)
        if old is not None:
            auth.end_session(old.session)
        value, who = auth.open_session(address)
        response = Response(present.encode(body_of(who)), content_type="application/json")
        response.set_cookie(
            settings.cookie,
            value,
            max_age=int(settings.session_life_s),
            path="/",
            secure=settings.is_tls,
            httponly=True,
            samesite="Strict",
        )
        return response

    @on.on("GET", "/api/session", "Who is logged in, and the CSRF token of this login", answer=dict)
    def session() -> dict[str, Any]:
        return body_of(caller())

    @on.on("DELETE", "/api/session", "Log out", answer=None, status=204)
    def logout() -> Response:
        auth.end_session(caller().session)
        response = Response(status=204)
        response.delete_cookie(
            settings.cookie, path="/", secure=settings.is_tls, httponly=True, samesite="Strict"
        )
        return response

    return on
