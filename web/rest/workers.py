"""Workers over REST: create, read, change, delete, start, pause, stop, and what each has to show.

Hides nothing but HTTP; every decision is the desk's.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from api.desk import Desk, OrdersView, SeriesView, WorkerSpec, WorkerView
from web.problems import Problem

from .routes import Routes, caller
from .schema import WorkerBody, WorkerChange


def routes(desk: Desk) -> Routes:
    on = Routes("workers")

    @on.on("GET", "/api/workers", "All workers", answer={"workers": list[WorkerView]})
    def workers() -> dict[str, Any]:
        return {"workers": desk.workers()}

    @on.on("POST", "/api/workers", "Create a worker, stopped", answer=WorkerView, body=WorkerBody, status=201)
    def create(body: WorkerBody) -> WorkerView:
        spec = WorkerSpec(
            kind=body.kind,
            strategy=body.strategy,
            venue=body.venue,
            symbol=body.symbol,
            params=body.params,
            limits=body.limits,
            name=body.name,
            account=body.account,
            env=body.env,
            resume_after_restart=body.resume_after_restart,
        )
        return desk.create(spec, by=caller().by)

    @on.on("GET", "/api/workers/<worker_id>", "One worker", answer=WorkerView)
    def worker(worker_id: str) -> WorkerView:
        return desk.worker(worker_id)

    @on.on(
        "PATCH",
        "/api/workers/<worker_id>",
        "Change what is named, also while it runs",
        answer=WorkerView,
        body=WorkerChange,
    )
    def change(worker_id: str, body: WorkerChange) -> WorkerView:
        named = {
            field: value
            for field in ("params", "limits", "name", "resume_after_restart")
            if (value := getattr(body, field)) is not UNSET
        }
        if not named:
            raise Problem(400, "Nothing to change: name params, limits, name or resume_after_restart.")
        return desk.change(worker_id, **named, reason=body.reason, by=caller().by)

    @on.on(
        "DELETE",
        "/api/workers/<worker_id>",
        "Delete a stopped worker; its fills stay",
        answer=None,
        status=204,
    )
    def delete(worker_id: str) -> None:
        desk.delete(worker_id, by=caller().by)

    @on.on("POST", "/api/workers/<worker_id>/start", "Quote; already running is no error", answer=WorkerView)
    def start(worker_id: str) -> WorkerView:
        return desk.start(worker_id, by=caller().by)

    @on.on(
        "POST",
        "/api/workers/<worker_id>/pause",
        "Cancel what would add risk, open nothing new",
        answer=WorkerView,
    )
    def pause(worker_id: str) -> WorkerView:
        return desk.pause(worker_id, by=caller().by)

    @on.on(
        "POST", "/api/workers/<worker_id>/stop", "Cancel, confirm, answer with the receipt", answer=WorkerView
    )
    def stop(worker_id: str) -> WorkerView:
        return desk.stop(worker_id, by=caller().by)

    @on.on("GET", "/api/workers/<worker_id>/orders", "Its live orders", answer=OrdersView)
    def orders(worker_id: str) -> OrdersView:
        return desk.orders(worker_id)

    @on.on("GET", "/api/workers/<worker_id>/series", "The history its charts show", answer=SeriesView)
    def series(worker_id: str) -> SeriesView:
        return desk.series(worker_id)

    @on.on(
        "GET",
        "/api/workers/<worker_id>/versions",
        "Its parameters and limits over time, newest first",
        answer={"versions": list[dict[str, Any]]},
    )
    def versions(worker_id: str) -> dict[str, Any]:
        return {"versions": desk.versions(worker_id)}

    return on
