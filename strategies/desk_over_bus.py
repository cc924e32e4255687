"""The Desk protocol at a distance: `DeskOverBus` in a face, `serve_desk` beside the LocalDesk.

One JSON request per call over the bus, one JSON answer. Two served names, so that a kill never queues behind
anything else: `desk` and `kill`. Every request carries the desk's run id and a deadline, kill alone has
neither. The errors of `api.desk` cross the bus by name; a bus that is down is `DeskUnreachable`, an answer
that did not come is `DeskSilent`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import msgspec

from api.desk import (
    BookView,
    Desk,
    DeskSilent,
    DeskUnreachable,
    DeskView,
    FeedsView,
    FillsView,
    NoticesView,
    OrdersView,
    ReceiptView,
    SeriesView,
    WorkerSpec,
    WorkerView,
)
from api.errors import BadInput, BadInputs, Conflict, NotFound
from quote.bus import Bus, BusDown, BusTimeout, Served

log = logging.getLogger("makerdeck.desk")

T = TypeVar("T")

READ_S = 5.0
COMMAND_S = 20.0  # longer than the desk's own deadline for a confirmed stop
KILL_S = 30.0

_READS = (
    "health",
    "view",
    "strategies",
    "venues",
    "feeds",
    "workers",
    "worker",
    "orders",
    "fills",
    "versions",
    "book",
)
_CALLS = (*_READS, "series", "notices", "create", "change", "delete", "start", "pause", "stop", "release")


def serve_desk(bus: Bus, desk: Desk, *, run_id: str) -> tuple[Served, Served]:
    """Answer requests on the bus until both are closed."""

    def answer(payload: bytes) -> bytes:
        return _answer(payload, desk, _CALLS)

    def answer_kill(payload: bytes) -> bytes:
        return _answer(payload, desk, ("kill",))

    return bus.serve("desk", answer, run_id=run_id, threads=4), bus.serve(
        "kill", answer_kill, run_id=None, threads=2
    )


def _answer(payload: bytes, desk: Desk, allowed: tuple[str, ...]) -> bytes:
    try:
        request = msgspec.json.decode(payload)
        call, args = request["call"], dict(request["args"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return _error("bad", "the request is not of this desk's form")
    if call not in allowed:
        return _error("bad", f"no such call: {call}")
    try:
        if call == "create":
            args["spec"] = msgspec.convert(args["spec"], WorkerSpec)
        positional = [args.pop("worker_id")] if call not in ("fills",) and "worker_id" in args else []
        for name in ("spec", "instrument"):
            if name in args:
                positional.append(args.pop(name))
        result = getattr(desk, call)(*positional, **args)
    except BadInputs as error:
        return _error("inputs", "", [[e.field, e.message] for e in error.errors])
    except BadInput as error:
        return _error("inputs", "", [[error.field, error.message]])
    except NotFound as error:
        return _error("not-found", str(error.args[0]))
    except Conflict as error:
        return _error("conflict", str(error))
    except msgspec.ValidationError as error:
        return _error("inputs", "", [["body", str(error)]])
    except (
        Exception
    ) as error:  # the request must be answered; the log has the traceback, the face one sentence
        log.exception("call=%s failed", call)
        return _error("failed", f"the desk failed on {call}: {type(error).__name__}")
    return msgspec.json.encode({"ok": result})


def _error(kind: str, text: str, errors: list[list[str]] | None = None) -> bytes:
    return msgspec.json.encode({"error": {"kind": kind, "text": text, "errors": errors or []}})


class DeskOverBus:
    """Every method of `api.desk.Desk`, each one request. Thread-safe.

    Args:
        run_id: tells the present run id of the desk, None while unknown (then no run is demanded).
    """

    def __init__(self, bus: Bus, run_id: Callable[[], str | None]) -> None:
        self._bus = bus
        self._run_id = run_id

    def health(self) -> dict[str, Any]:
        return self._ask("health", dict[str, Any], READ_S)

    def view(self) -> DeskView:
        return self._ask("view", DeskView, READ_S)

    def strategies(self) -> list[dict[str, Any]]:
        return self._ask("strategies", list[dict[str, Any]], READ_S)

    def venues(self) -> list[dict[str, Any]]:
        return self._ask("venues", list[dict[str, Any]], READ_S)

    def feeds(self) -> FeedsView:
        return self._ask("feeds", FeedsView, READ_S)

    def workers(self) -> list[WorkerView]:
        return self._ask("workers", list[WorkerView], READ_S)

    def worker(self, worker_id: str) -> WorkerView:
        return self._ask("worker", WorkerView, READ_S, worker_id=worker_id)

    def create(self, spec: WorkerSpec, *, by: str) -> WorkerView:
        return self._ask("create", WorkerView, COMMAND_S, spec=msgspec.to_builtins(spec), by=by)

    def change(
        self,
        worker_id: str,
        *,
        params: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        name: str | None = None,
        resume_after_restart: bool | None = None,
        reason: str = "",
        by: str,
    ) -> WorkerView:
        return self._ask(
            "change",
            WorkerView,
            COMMAND_S,
            worker_id=worker_id,
            params=params,
            limits=limits,
            name=name,
            resume_after_restart=resume_after_restart,
            reason=reason,
            by=by,
        )

    def delete(self, worker_id: str, *, by: str) -> None:
        self._ask("delete", type(None), COMMAND_S, worker_id=worker_id, by=by)

    def start(self, worker_id: str, *, by: str) -> WorkerView:
        return self._ask("start", WorkerView, COMMAND_S, worker_id=worker_id, by=by)

    def pause(self, worker_id: str, *, by: str) -> WorkerView:
        return self._ask("pause", WorkerView, COMMAND_S, worker_id=worker_id, by=by)

    def stop(self, worker_id: str, *, by: str) -> WorkerView:
        return self._ask("stop", WorkerView, COMMAND_S, worker_id=worker_id, by=by)

    def orders(self, worker_id: str) -> OrdersView:
        return self._ask("orders", OrdersView, READ_S, worker_id=worker_id)

    def fills(
        self,
        *,
        worker_id: str | None = None,
        symbol: str | None = None,
        before_ns: int | None = None,
        limit: int = 100,
    ) -> FillsView:
        return self._ask(
            "fills", FillsView, READ_S, worker_id=worker_id, symbol=symbol, before_ns=before_ns, limit=limit
        )

    def versions(self, worker_id: str) -> list[dict[str, Any]]:
        return self._ask("versions", list[dict[str, Any]], READ_S, worker_id=worker_id)

    def book(self, instrument: str) -> BookView:
        return self._ask("book", BookView, READ_S, instrument=instrument)

    def series(self, worker_id: str) -> SeriesView:
        return self._ask("series", SeriesView, READ_S, worker_id=worker_id)

    def notices(self) -> NoticesView:
        return self._ask("notices", NoticesView, READ_S)

    def kill(self, *, reason: str, by: str) -> ReceiptView:
        return self._ask("kill", ReceiptView, KILL_S, reason=reason, by=by)

    def release(self, *, by: str) -> DeskView:
        return self._ask("release", DeskView, COMMAND_S, by=by)

    def _ask(self, call: str, result: type[T], timeout_s: float, **args: Any) -> T:
        name = "kill" if call == "kill" else "desk"
        payload = msgspec.json.encode({"call": call, "args": args})
        try:
            raw = self._bus.request(
                name,
                payload,
                timeout_s=timeout_s,
                run_id=None if call == "kill" else self._run_id(),
                expires=call != "kill",
            )
        except BusDown as error:
            raise DeskUnreachable(str(error)) from None
        except BusTimeout as error:
            raise DeskSilent(
                f"the desk did not answer {call} in time; whether it happened is unknown"
            ) from error
        answer = msgspec.json.decode(raw)
        if "ok" in answer:
            return msgspec.convert(answer["ok"], result, strict=False)
        _raise(answer["error"])


def _raise(error: dict[str, Any]) -> NoReturn:
    kind, text = error["kind"], error["text"]
    if kind == "inputs":
        raise BadInputs(tuple(BadInput(field, message) for field, message in error["errors"]))
    if kind == "not-found":
        raise NotFound(text)
    if kind == "conflict":
        raise Conflict(text)
    if kind == "bad":
        raise BadInput("request", text)
    raise DeskSilent(text)
