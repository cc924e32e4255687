"""The desk itself over REST: health, kill and release, and everything that is only read.

Hides nothing but HTTP. The kill reads no body it does not need, has threads of its own (`web.gate`), and
answers with what really happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, g, request

from api.desk import (
    BookView,
    Desk,
    DeskSilent,
    DeskUnreachable,
    DeskView,
    FeedsView,
    FillsView,
    NoticesView,
    ReceiptView,
)
from web import present

from .routes import Routes, caller
from .schema import FillsQuery, Release, read_json

REASON_MAX = 200


def routes(desk: Desk, is_linked: Callable[[], bool]) -> Routes:
    """`is_linked`: whether the bus between this face and the desk works just now."""
    on = Routes("desk")

    @on.on("GET", "/api/health", "Alive? With a login: why, or why not", answer=dict, is_public=True)
    def health() -> Any:
        status = "ok" if is_linked() else "degraded"
        if g.get("caller") is None:
            return {"status": status}  # nothing a stranger could use, and nothing that waits for the desk
        try:
            found = desk.health()
        except DeskUnreachable:
            found = {"status": "unreachable", "desk": None, "checks": {"desk": "cannot be reached"}}
        except DeskSilent:
            found = {"status": "unreachable", "desk": None, "checks": {"desk": "does not answer"}}
        if found["status"] == "ok" and status != "ok":
            found = {**found, "status": status, "checks": {**found.get("checks", {}), "bus": "lost"}}
        code = 503 if found["status"] == "unreachable" else 200
        return Response(present.encode(found), status=code, content_type="application/json")

    @on.on("GET", "/api/desk", "The desk at one glance", answer=DeskView)
    def view() -> DeskView:
        return desk.view()

    @on.on(
        "POST", "/api/kill", "Cancel everything everywhere and latch", answer=ReceiptView, reads_body=False
    )
    def kill() -> ReceiptView:
        return desk.kill(reason=_reason(), by=caller().by)

    @on.on("POST", "/api/kill/release", "Undo the latch; workers stay stopped", answer=DeskView, body=Release)
    def release(body: Release) -> DeskView:
        return desk.release(by=caller().by)

    @on.on(
        "GET",
        "/api/strategies",
        "Strategies with the JSON Schema of their parameters and limits",
        answer={"strategies": list[dict[str, Any]]},
    )
    def strategies() -> dict[str, Any]:
        return {"strategies": desk.strategies()}

    @on.on("GET", "/api/venues", "Venues and what each has", answer={"venues": list[dict[str, Any]]})
    def venues() -> dict[str, Any]:
        return {"venues": desk.venues()}

    @on.on("GET", "/api/feeds", "Market data sources and their health", answer=FeedsView)
    def feeds() -> FeedsView:
        return desk.feeds()

    @on.on(
        "GET",
        "/api/books/<instrument>",
        "The book of one instrument, such as paper:BTC-USDT",
        answer=BookView,
    )
    def book(instrument: str) -> BookView:
        return desk.book(instrument)

    @on.on(
        "GET",
        "/api/fills",
        "Fills, newest first; page with next_before_ns",
        answer=FillsView,
        query=FillsQuery,
    )
    def fills(query: FillsQuery) -> dict[str, Any]:
        found = desk.fills(
            worker_id=query.worker, symbol=query.symbol, before_ns=query.before_ns, limit=query.limit
        )
        # as text: a nanosecond time has more digits than a JavaScript number keeps
        more = str(found.fills[-1].venue_ns) if len(found.fills) >= query.limit else None
        return {**present.plain(found), "next_before_ns": more}

    @on.on("GET", "/api/notices", "What a person should read, newest first", answer=NoticesView)
    def notices() -> NoticesView:
        return desk.notices()

    return on


def _reason() -> str:
    """The reason in the body, if there is one that can be read; a bad body never stops a kill."""
    try:
        given = read_json(request.get_data(cache=False))
        reason = given.get("reason") if isinstance(given, dict) else None
    except Exception:  # whatever is wrong with the body, the kill goes on
        reason = None
    text = reason if isinstance(reason, str) else ""
    return "".join(c for c in text if c.isprintable())[:REASON_MAX] or "kill switch"
