"""What may be sent to the REST face, and the strict reading of it. One schema feeds validation and OpenAPI.

Hides: that JSON as Python reads it is too forgiving (NaN, duplicate keys, lone surrogates, unbounded
depth and digits), and the wording of the validation library. Must not know what the fields mean: the desk
checks params and limits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from werkzeug.datastructures import MultiDict

from web.problems import Problem

DEPTH_MAX = 16  # levels of nesting; our deepest body has three
DIGITS_MAX = 40  # digits of an integer; a nanosecond time has 19

T = TypeVar("T", bound=Struct)

Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Text = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Name = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class WorkerBody(Struct):
    """A worker to create. `params` and `limits` use the names and units of `GET /api/strategies`."""

    kind: Word
    strategy: Word
    venue: Word
    symbol: Word
    params: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    name: Name = ""
    account: Word = "main"
    env: Literal["paper", "testnet", "live"] = "paper"
    resume_after_restart: bool = False


class WorkerChange(Struct):
    """A partial change of a worker; what is not named keeps its value."""

    params: dict[str, Any] | UnsetType = UNSET
    limits: dict[str, Any] | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    resume_after_restart: bool | UnsetType = UNSET
    reason: Text = ""


Figure = int | float | Annotated[str, Meta(max_length=40)] | None


class LegacyStart(Struct):
    """`POST /api/start` of the old console; `web.rest.legacy` says what became of each field."""

    exchange: Word
    symbol: Word
    spread: Figure
    quantity: Figure = None
    max_orders: Figure = 3
    duration: Figure = 3600
    interval: Figure = 60
    market_type: Word = "spot"
    strategy: Word = "standard"
    enable_db: bool = False
    target_position: Figure = None
    max_position: Figure = None
    position_threshold: Figure = None
    inventory_skew: Figure = None
    stop_loss: Figure = None
    take_profit: Figure = None
    enable_rebalance: bool = False
    base_asset_target: Figure = None
    rebalance_threshold: Figure = None


class Release(Struct):
    """Undoing the kill takes a typed word."""

    confirm: Literal["RELEASE"]


class Login(Struct):
    """One of the two."""

    token: Annotated[str, Meta(max_length=512)] = ""
    password: Annotated[str, Meta(max_length=512)] = ""


class Nothing(Struct):
    """A verb that needs no body; an empty object is the same."""


class FillsQuery(Struct):
    worker: Name | None = None
    symbol: Name | None = None
    before_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class NoQuery(Struct):
    """No query parameters."""


def read_json(raw: bytes) -> Any:
    """Strict JSON. Raises Problem 400 naming the field where there is one."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_depth(value, DEPTH_MAX)
        json.dumps(value, ensure_ascii=False).encode(
            "utf-8"
        )  # a lone surrogate would fail much later, far away
    except UnicodeError:
        raise Problem(400, "The body is not valid UTF-8 text.") from None
    except RecursionError:
        raise Problem(400, f"The body is nested deeper than {DEPTH_MAX} levels.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Problem(400, f"The body is not JSON: {error.msg} at {where}.") from None
    return value


def check(given: Any, schema: type[T], *, is_query: bool = False) -> T:
    """`given` as `schema`, or Problem 400 with every wrong, missing and unknown field."""
    if not isinstance(given, dict):
        raise Problem(400, f"The body must be a JSON object, not {_kind(given)}.")
    fields = {field.encode_name: field for field in msgspec.structs.fields(schema)}
    known = f"known: {', '.join(fields)}" if fields else "none is known here"
    errors = [(_shown(name), f"there is no such field; {known}") for name in given if name not in fields]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in given:
            if field.required:
                errors.append((name, "is required"))
            continue
        try:
            values[field.name] = msgspec.convert(given[name], field.type, strict=not is_query)
        except (msgspec.ValidationError, RecursionError) as error:
            where, message = _worded(str(error))
            errors.append((name + where, message))
    if errors:
        detail = "; ".join(f"{field}: {message}" for field, message in errors[:5])
        raise Problem(400, detail, tuple(errors))
    return schema(**values)


def check_query(args: MultiDict[str, str], schema: type[T]) -> T:
    """The query string as `schema`; a parameter given twice is refused, not guessed at."""
    twice = [(_shown(name), "is given more than once") for name in args if len(args.getlist(name)) > 1]
    if twice:
        raise Problem(400, f"{twice[0][0]}: {twice[0][1]}", tuple(twice))
    return check(dict(args.items()), schema, is_query=True)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Problem(400, f"{_shown(name)}: is given twice", ((_shown(name), "is given twice"),))
        if isinstance(value, _Bad):
            raise Problem(400, f"{_shown(name)}: {value.message}", ((_shown(name), value.message),))
        found[name] = value
    return found


class _Bad:
    """A number JSON or we do not have, until the field it stands in is known."""

    def __init__(self, message: str) -> None:
        self.message = message


def _constant(text: str) -> _Bad:
    return _Bad(f"{text} is not a number")


def _float(text: str) -> float | _Bad:
    value = float(text)
    return value if math.isfinite(value) else _Bad("is too large a number")


def _int(text: str) -> int | _Bad:
    return int(text) if len(text) <= DIGITS_MAX else _Bad("is too large a number")


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise RecursionError
    if isinstance(value, _Bad):
        raise Problem(400, f"A number in a list of the body: {value.message}.")
    if isinstance(value, dict):
        for inner in value.values():
            _check_depth(inner, left - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_depth(inner, left - 1)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), type(value).__name__)


def _shown(name: str) -> str:
    """A field name of theirs, short and printable, for our answer and our log."""
    return re.sub(r"[^\x20-\x7e]", "?", name)[:64]


_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`\Z")


def _worded(message: str) -> tuple[str, str]:
    """The library's message as (path inside the field, our words)."""
    found = _PATH.search(message)
    where = found["path"] if found else ""
    text = _PATH.sub("", message).replace("`", "")
    text = text.replace(r"matching regex '^[^\\x00-\\x1f\\x7f]*\\Z'", "without control characters")
    for theirs, ours in (("str", "text"), ("int", "integer"), ("bool", "true or false"), ("float", "number")):
        text = re.sub(rf"\b{theirs}\b", ours, text)
    return where, text[:1].lower() + text[1:]
