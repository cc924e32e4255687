"""What a strategy is: a name, a parameter model and one pure function from state to targets.

Hides how parameters are declared and checked. Must not know threads, venues, orders on the wire or faces. One
`Params` model makes the form, the validation, the CLI flags and the OpenAPI schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.errors import BadInput, BadInputs
from api.types import Book, Instrument, Targets


def param(default: Any, *, title: str, unit: str, description: str, live: bool = True, **limits: Any) -> Any:
    """One parameter: `unit` and `live` (False: takes effect at the next start) go into the JSON Schema."""
    return Field(
        default,
        title=title,
        description=description,
        json_schema_extra={"unit": unit, "live": live},
        **limits,
    )


class Params(BaseModel):
    """Base of every strategy's parameters. Unknown names, NaN, infinities and booleans for numbers are
    refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            for name, value in raw.items():
                found = cls.model_fields.get(name)
                if isinstance(value, bool) and found is not None and found.annotation is not bool:
                    raise ValueError(f"{name}: must be a number, got {str(value).lower()}")
        return raw

    def as_dict(self) -> dict[str, Any]:
        """JSON form; decimals as text."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class State:
    """Everything a strategy may look at. The book is fresh and two-sided; our own orders are not in it.

    `position` is this worker's own net base quantity. Balances are those of the whole account, base and
    quote, free plus locked; None: not known yet.
    """

    instrument: Instrument
    book: Book
    now_ns: int
    position: float
    base_total: float | None
    quote_total: float | None


@dataclass(frozen=True, slots=True)
class Shared:
    """Options which every quoting strategy shares, read by the plan and the engine.

    `keep_bps`: an order within this distance of its wished price is kept; `interval_s`: longest silence
    between two decisions; `duration_s`: the run ends by itself after this time, None: never.
    """

    keep_bps: float
    interval_s: float
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Strategy:
    """One entry of the registry.

    `targets(state, params)` is pure. `reads_depth` False: it looks only at the best bid and ask, so a change
    deeper in the book needs no decision. `order_size(params)` gives the size per order in base and the number
    of orders per side, size None when it follows the balance; limits are derived from it.
    `auto_share(params)` is the share of the balance per order then.
    """

    name: str
    kind: str
    title: str
    description: str
    params: type[Params]
    targets: Callable[[State, Any], Targets]
    shared: Callable[[Any], Shared]
    order_size: Callable[[Any], tuple[Decimal | None, int]]
    auto_share: Callable[[Any], float]
    reads_depth: bool = False

    def parse(self, raw: Mapping[str, Any]) -> Params:
        """Parameters from what a person wrote.

        Raises:
            BadInputs: one entry per field, named `params.x`, with the unit and what is allowed.
        """
        try:
            return self.params.model_validate(dict(raw))
        except ValidationError as error:
            raise BadInputs(tuple(_explain(self.params, e) for e in error.errors())) from None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters, with `unit` and `live` on each property."""
        made = self.params.model_json_schema()
        made.pop("title", None)
        made.pop("description", None)
        for prop in made["properties"].values():
            _flatten_optional(prop)
        return made


def _flatten_optional(prop: dict[str, Any]) -> None:
    """`anyOf [number, string, null]` to one type list with its bounds, easier to read for forms and CLIs."""
    options = prop.pop("anyOf", None)
    if options is None:
        return
    kinds: list[str] = []
    for option in options:
        kind = option.get("type")
        if kind is not None and kind not in kinds:
            kinds.append(kind)
        for key, value in option.items():
            if key not in ("type", "pattern"):
                prop.setdefault(key, value)
    prop["type"] = kinds


def _explain(model: type[Params], error: Any) -> BadInput:
    name = str(error["loc"][0]) if error["loc"] else ""
    text = str(error["msg"])
    if not name and text.startswith("Value error, "):
        name, _, text = text.removeprefix("Value error, ").partition(": ")
    text = text.removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return BadInput(f"params.{name}", f"unknown parameter; allowed: {', '.join(model.model_fields)}")
    found = model.model_fields.get(name)
    if found is None:
        return BadInput("params", text)
    extra = found.json_schema_extra if isinstance(found.json_schema_extra, dict) else {}
    bounds = [
        f"{word} {getattr(m, attribute)}"
        for m in found.metadata
        for attribute, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
        if getattr(m, attribute, None) is not None
    ]
    allowed = " and ".join(bounds)
    unit = extra.get("unit", "")
    given = "" if error["type"] == "missing" else f", got {error.get('input')!r}"
    tail = f" (unit: {unit}" + (f"; allowed: {allowed})" if allowed else ")")
    return BadInput(f"params.{name}", f"{text[0].lower()}{text[1:]}{given}{tail}")
