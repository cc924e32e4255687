"""The browser face, put together: Flask, REST, Socket.IO, the page, behind one gate.

Hides: how they are stacked, and the content security policy's hash of the import map. No global state:
everything hangs on what is handed in. Must not know what a desk is made of, nor where its settings come
from. Called by `run.py`, served by `web.serve`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, redirect, render_template, request, send_from_directory
from flask_socketio import SocketIO
from markupsafe import Markup

from api.desk import Desk
from quote.bus import Bus

from .auth import Auth
from .gate import Gate, Wire, csp
from .live import Live
from .problems import Problem, install
from .rest import all_routes
from .settings import WebSettings, check_settings

HERE = Path(__file__).resolve().parent
LIVE = "makerdeck.live"  # where `web.serve` finds what it starts and stops

# Bare names that modules of the page import; everything is served from here.
IMPORT_MAP = {
    "imports": {
        "socket.io-client": "/static/vendor/socket.io.esm.min.js",
        "uplot": "/static/vendor/uPlot.esm.js",
    }
}

# What may be had without a login: what it takes to log in.
PUBLIC_FILES = frozenset({"js/login.js", "css/login.css", "icon.svg"})

LANGUAGES = ("en", "zh-TW", "zh-CN")

_MIME_TYPES = {  # some systems' tables say otherwise, and browsers refuse a module of another type
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_INLINE_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.S)

PING_INTERVAL_S = 25
PING_TIMEOUT_S = 60


def create_app(desk: Desk, bus: Bus, settings: WebSettings) -> tuple[Flask, SocketIO]:
    """The whole face over `desk` and `bus`.

    Raises BadInputs when the settings are unsafe to serve (`web.settings.check_settings`).
    """
    check_settings(settings)
    app = Flask("makerdeck", static_folder=None, template_folder=str(HERE / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = settings.body_max
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.body_max
    auth = Auth(settings)
    wires: dict[str, Wire] = {}
    io = _socket_server(app, settings)
    live = Live(io, bus, auth, settings, wires)
    app.extensions[LIVE] = live
    install(app)

    public = {"login", "static"}
    for routes in all_routes(desk, auth, settings, lambda: live.is_linked):
        app.register_blueprint(routes.blueprint)
        public |= {operation.name for operation in routes.operations if operation.is_public}
    _pages(app, auth, settings)

    @app.before_request
    def admit() -> Any:
        """Nobody passes unknown, but to what it takes to log in."""
        endpoint = request.endpoint
        is_public = endpoint in public
        if endpoint == "static":
            is_public = (request.view_args or {}).get("path") in PUBLIC_FILES
        caller = None if endpoint == "session.login" else _caller(auth, is_public)
        g.caller = caller
        if is_public:
            return None
        if caller is None:
            if endpoint == "index":
                return redirect("/login")
            raise Problem(401, "Log in first.", headers={"WWW-Authenticate": 'Bearer realm="makerdeck"'})
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            auth.check_forgery(caller, request.environ)
        return None

    app.wsgi_app = Gate(app.wsgi_app, auth, settings, wires)  # type: ignore[method-assign]
    return app, io


def _caller(auth: Auth, is_public: bool) -> Any:
    try:
        return auth.caller(request.environ, request.cookies)
    except Problem:
        if is_public:
            return None  # a wrong secret is no reason to withhold what needs none
        raise


def _socket_server(app: Flask, settings: WebSettings) -> SocketIO:
    quiet = logging.getLogger("makerdeck.socketio")
    quiet.addFilter(_one_line)
    quiet.setLevel(logging.ERROR)
    return SocketIO(
        app,
        async_mode="threading",
        cors_allowed_origins=[],  # the gate refuses foreign origins; no CORS header is ever sent
        async_handlers=False,
        manage_session=False,
        ping_interval=PING_INTERVAL_S,
        ping_timeout=PING_TIMEOUT_S,
        max_http_buffer_size=settings.body_max,
        http_compression=False,
        logger=quiet,
        engineio_logger=quiet,
    )


def _one_line(record: logging.LogRecord) -> bool:
    """Broken packets come from outside: a line in the log, not a page of traceback."""
    record.exc_info = None
    record.exc_text = None
    return True


def _pages(app: Flask, auth: Auth, settings: WebSettings) -> None:
    map_text = json.dumps(IMPORT_MAP, separators=(",", ":"))

    @app.get("/", endpoint="index")
    def index() -> Response:
        page = render_template(
            "index.html", importmap_json=Markup(map_text), desk_name=settings.desk, lang=_language()
        )
        response = Response(page, content_type="text/html; charset=utf-8")
        # only the import map we made may stand inline, in whatever white space the template puts around it
        found = tuple(text for text in _INLINE_MAP.findall(page) if text.strip() == map_text)
        hashes = tuple(script_hash(text) for text in found)
        response.headers["Content-Security-Policy"] = csp(request.host, settings.is_tls, hashes)
        return response

    @app.get("/login", endpoint="login")
    def login() -> Response:
        page = render_template(
            "login.html",
            desk_name=settings.desk,
            lang=_language(),
            has_password=auth.has_password,
            is_logged_in=g.caller is not None,
        )
        return Response(page, content_type="text/html; charset=utf-8")

    @app.get("/static/<path:path>", endpoint="static")
    def static(path: str) -> Response:
        response = send_from_directory(HERE / "static", path, conditional=True, max_age=0)
        suffix = Path(path).suffix.lower()
        if suffix in _MIME_TYPES:
            response.headers["Content-Type"] = _MIME_TYPES[suffix]
        response.headers["Cache-Control"] = "no-cache"  # kept, but asked about: a new version shows at once
        return response


def script_hash(text: str) -> str:
    """The source expression of an inline script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _language() -> str:
    """The language of the first paint, by what the browser asks for; the page itself may choose another."""
    for wanted, _ in request.accept_languages:
        tag = wanted.lower()
        if tag.startswith("zh"):
            return "zh-TW" if re.search(r"tw|hk|mo|hant", tag) else "zh-CN"
        if tag.startswith("en"):
            return "en"
    return LANGUAGES[0]
