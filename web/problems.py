"""Every error of the REST face as problem details (RFC 9457), naming the field. Nothing else answers an
error.

Hides: which exception of the desk becomes which status. Must not show: a traceback, an exception's repr,
a secret. All bad input is 400, whether it is malformed or merely impossible, so that a script sees one
code.

| status | when |
| --- | --- |
| 400 | body, field or query is not as the schema says, or the desk refuses it (`errors` names fields) |
| 401, 403, 429 | not logged in; logged in but not from our page; too many wrong secrets |
| 404, 409 | no such thing; well formed but not now |
| 413, 415 | body too large; not JSON |
| 502 | the venue said no |
| 503 | nothing happened: desk not reachable, or this face is full |
| 504 | sent to the desk and no answer: whether it happened is unknown |
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api.desk import DeskSilent, DeskUnreachable
from api.errors import BadInput, BadInputs, Conflict, ExchangeError, NotFound

log = logging.getLogger("makerdeck.web")

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "Bad input",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    415: "Not JSON",
    429: "Too many tries",
    500: "Internal error",
    502: "The venue refused",
    503: "Not available",
    504: "Outcome unknown",
}


class Problem(Exception):
    """An error answer.

    Args:
        detail: one sentence for a person. errors: (field, message) pairs. headers: added to the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: tuple[tuple[str, str], ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


def body_of(problem: Problem) -> dict[str, Any]:
    """The JSON object of a problem."""
    title = _TITLES.get(problem.status, "Error")
    return {
        "type": "urn:makerdeck:problem:" + title.lower().replace(" ", "-"),
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        "errors": [{"field": field, "message": message} for field, message in problem.errors],
    }


def answer(problem: Problem) -> Response:
    """The HTTP answer of a problem. On the four old endpoints it also has their `success` and `message`."""
    if request.blueprint == "legacy":
        problem = _in_old_words(problem)
        body = body_of(problem) | {"success": False, "message": problem.detail}
    else:
        body = body_of(problem)
    response = Response(msgspec.json.encode(body), status=problem.status, content_type=MEDIA_TYPE)
    response.headers.update(problem.headers)
    return response


def _in_old_words(problem: Problem) -> Problem:
    """The old endpoints know 400 for a second start, and fields without the `params` they have here."""
    return Problem(
        400 if problem.status == 409 else problem.status,
        problem.detail.replace("params.", ""),
        tuple((field.removeprefix("params."), message) for field, message in problem.errors),
        problem.headers,
    )


def problem_of(error: Exception) -> Problem:
    """Which problem an exception is."""
    match error:
        case Problem():
            return error
        case BadInput():
            return Problem(400, str(error), ((error.field, error.message),))
        case BadInputs():
            return Problem(400, str(error), tuple((one.field, one.message) for one in error.errors))
        case NotFound():
            return Problem(404, str(error) or "no such thing")
        case Conflict():
            return Problem(409, str(error))
        case DeskSilent():
            return Problem(
                504, "The desk got the command and did not answer in time: unknown whether it happened."
            )
        case DeskUnreachable():
            return Problem(503, "The desk cannot be reached; nothing happened.")
        case ExchangeError():
            return Problem(502, error.message)
        case HTTPException():
            code = error.code or 500
            headers = {k: v for k, v in error.get_headers() if k in ("Allow", "Retry-After")}
            details = {404: "There is nothing at this address.", 413: "The request body is too large."}
            return Problem(code, details.get(code) or error.name, headers=headers)
        case _:
            # the last resort: the log has the whole story, the answer none of it
            log.error("method=%s path=%r failed", request.method, request.path, exc_info=error)
            return Problem(500, "Something failed in the console; its log has the reason.")


def install(app: Flask) -> None:
    """Answer every exception of this app as a problem."""
    app.register_error_handler(Exception, lambda error: _handled(error))


def _handled(error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.response is not None:
        return error.response  # type: ignore[return-value]  # a finished answer, such as a redirect
    return answer(problem_of(error))
