"""`GET /api/openapi.json`, generated from the declarations that also validate. Must not say what they do
not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from web.problems import MEDIA_TYPE

from .routes import Operation, Routes
from .schema import NoQuery

_PARAMETER = re.compile(r"<([a-z_]+)>")

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(one): schema for one, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for op in operations:
        path = _PARAMETER.sub(r"{\1}", op.path)
        paths.setdefault(path, {})[op.method.lower()] = _operation(op, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "makerdeck", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "makerdeck_<desk>"},
            },
        },
        "security": [{"bearer": []}, {"cookie": []}],
    }


def routes(others: Sequence[Routes], version: str) -> Routes:
    on = Routes("openapi")

    @on.on("GET", "/api/openapi.json", "This document", answer=dict)
    def openapi() -> dict[str, Any]:
        return document([op for one in (*others, on) for op in one.operations], version)

    return on


def _operation(op: Operation, by_type: dict[int, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": op.name,
        "summary": op.summary,
        "parameters": _parameters(op),
        "responses": {
            str(op.status): _answer(op, by_type),
            "default": {
                "description": "Problem details (RFC 9457)",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if op.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": by_type[id(op.body)]}},
        }
    if op.is_public:
        found["security"] = [{}]
    return found


def _parameters(op: Operation) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in _PARAMETER.findall(op.path)
    ]
    if op.query is not NoQuery:
        (schema,), components = msgspec.json.schema_components([op.query])
        properties = components[schema["$ref"].rpartition("/")[2]]["properties"]
        found += [
            {"name": name, "in": "query", "required": False, "schema": rule}
            for name, rule in properties.items()
        ]
    return found


def _answer(op: Operation, by_type: dict[int, dict[str, Any]]) -> dict[str, Any]:
    if op.answer is None:
        return {"description": "Done; no body"}
    if isinstance(op.answer, dict):
        rule: dict[str, Any] = {
            "type": "object",
            "required": list(op.answer),
            "properties": {name: by_type[id(inner)] for name, inner in op.answer.items()},
        }
    else:
        rule = by_type[id(op.answer)]
    return {"description": "Done", "content": {"application/json": {"schema": rule}}}


def _types(operations: Sequence[Operation]) -> list[Any]:
    found: dict[int, Any] = {}
    for op in operations:
        answers = op.answer.values() if isinstance(op.answer, dict) else (op.answer,)
        for one in (op.body, *answers):
            if one is not None:
                found[id(one)] = one
    return list(found.values())
