"""How a noun becomes routes: one declaration gives the route, the strict reading of its input, and its
OpenAPI entry.

Hides: Flask's plumbing. Must not know any particular noun. Each file beside this one makes a `Routes` and
hands it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request
from msgspec import Struct

from web import present
from web.auth import Caller
from web.problems import Problem

from .schema import NoQuery, Nothing, check, check_query, read_json

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as OpenAPI tells it. `answer` is a type, or None for an answer without a body."""

    name: str
    method: str
    path: str
    summary: str
    body: type[Struct] | None
    query: type[Struct]
    answer: Any
    status: int
    is_public: bool


class Routes:
    """The routes of one noun. Handlers get `body` and `query` by keyword when the declaration names a
    schema.
    """

    def __init__(self, name: str) -> None:
        self.blueprint = Blueprint(name, __name__)
        self.operations: list[Operation] = []

    def on(
        self,
        method: str,
        path: str,
        summary: str,
        *,
        answer: Any,
        body: type[Struct] | None = None,
        query: type[Struct] = NoQuery,
        status: int = 200,
        is_public: bool = False,
        reads_body: bool = True,
    ) -> Callable[[Handler], Handler]:
        """`reads_body=False`: whatever body comes is left alone (the kill)."""

        def declare(handler: Handler) -> Handler:
            schema = body or Nothing

            def view(**given: Any) -> Response:
                if query is not NoQuery or request.args:
                    checked = check_query(request.args, query)
                    if query is not NoQuery:
                        given["query"] = checked
                if method != "GET" and reads_body:
                    read = _body(schema)
                    if body is not None:
                        given["body"] = read
                result = handler(**given)
                if isinstance(result, Response):
                    return result
                if result is None and status == 204:
                    return Response(status=204)
                return Response(present.encode(result), status=status, content_type="application/json")

            name = handler.__name__
            self.blueprint.add_url_rule(path, endpoint=name, view_func=view, methods=[method])
            full = f"{self.blueprint.name}.{name}"
            self.operations.append(
                Operation(full, method, path, summary, body, query, answer, status, is_public)
            )
            return handler

        return declare


def caller() -> Caller:
    """Who sent the request being answered; only on routes that need a login."""
    found: Caller = g.caller
    return found


def _body(schema: type[Struct]) -> Struct:
    raw = request.get_data(cache=False)
    if len(raw) >= (request.max_content_length or len(raw) + 1):
        raise Problem(
            413, "The request body is too large."
        )  # a chunked one is cut at the limit without a word
    if not raw and schema is Nothing:
        return Nothing()
    if request.mimetype != "application/json":
        raise Problem(415, "Send JSON, with the header Content-Type: application/json.")
    return check(read_json(raw), schema)
