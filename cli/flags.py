"""Words of a command line to named values, without surprises.

Hides: how flags are split, how a strategy's JSON Schema becomes flags, prompts and checked values. Must not
know: what a command does, the desk. Called by `cli.main` and `cli.commands`. Every refusal is a `BadInput`
that names the word as it was typed and says what is allowed; a flag that looks like a secret is refused
without repeating its value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from api.errors import BadInput, BadInputs
from cli.text import shortest

_SECRETS = ("key", "secret", "password", "passphrase", "token", "mnemonic", "private")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NONE = frozenset({"", "unset", "none", "null", "auto"})


@dataclass(frozen=True, slots=True)
class Flag:
    """`value` is what the help calls its value, empty for a switch. `is_list`: it may be given several
    times.
    """

    name: str
    value: str
    help: str
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """The shape of one command. `args` is the text of the help; `most` None: any number. `is_open`: further
    flags are kept in `Parsed.extra` for the command to judge.
    """

    name: str
    args: str
    help: str
    least: int = 0
    most: int | None = 0
    flags: tuple[Flag, ...] = ()
    is_open: bool = False


@dataclass(slots=True)
class Parsed:
    """What was typed. Switches are in `on`, flags with values in `values` (the list ones with all of
    theirs).
    """

    args: list[str] = field(default_factory=list)
    on: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    extra: dict[str, str | None] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        found = self.values.get(name)
        return found[-1] if found else default


def parse(usage: Usage, words: Sequence[str], common: Iterable[Flag] = ()) -> Parsed:
    """Split the words of one command.

    A value follows its flag or an `=`. A word after `--` is never a flag.

    Raises:
        BadInput: an unknown flag, a missing or doubled value, too few or too many words.
    """
    known = {flag.name: flag for flag in (*usage.flags, *common)}
    parsed = Parsed()
    rest = list(words)
    while rest:
        token = rest.pop(0)
        if token == "--":
            parsed.args += rest
            break
        if not token.startswith("--"):
            parsed.args.append(token)
            continue
        name, equals, value = token.partition("=")
        flag = known.get(name)
        if flag is None:
            refuse_secret(name)
            if not usage.is_open:
                raise BadInput(name, f"unknown flag of {usage.name}; allowed: {', '.join(known) or 'none'}")
            key = name[2:].replace("-", "_")
            if key in parsed.extra:
                raise BadInput(name, "given twice")
            has_value = equals or (rest and not rest[0].startswith("--"))
            parsed.extra[key] = (value if equals else rest.pop(0)) if has_value else None
        elif not flag.value:
            if equals:
                raise BadInput(name, "is a switch and takes no value")
            parsed.on.add(name)
        else:
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise BadInput(name, f"needs a value: {name} {flag.value}")
                value = rest.pop(0)
            if name in parsed.values and not flag.is_list:
                raise BadInput(name, "given twice")
            parsed.values.setdefault(name, []).append(value)
    if len(parsed.args) < usage.least:
        raise BadInput(usage.name, f"needs {usage.args}")
    if usage.most is not None and len(parsed.args) > usage.most:
        raise BadInput(
            usage.name, f"does not take {parsed.args[usage.most]!r}; its words are: {usage.args or 'none'}"
        )
    return parsed


def refuse_secret(name: str) -> None:
    """Secrets on a command line stay in the shell's history and in the process list: refuse by name, never
    by value.
    """
    words = name.lower().replace("_", "-").strip("-").split("-")
    if any(word in _SECRETS or word.endswith("key") for word in words):
        raise BadInput(
            name, "secrets are not taken on the command line; put them in the environment or in .env"
        )


def pairs(words: Iterable[str], what: str) -> dict[str, str]:
    """`name=value` words; dashes in names become underscores.

    Raises:
        BadInput: a word without `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for item in words:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise BadInput(what, f"expects name=value, got {item!r}")
        key = name.strip().lstrip("-").replace("-", "_")
        refuse_secret(key)
        if key in found:
            raise BadInput(key, "given twice")
        found[key] = value.strip()
    return found


def whole(text: str, name: str, *, least: int, most: int) -> int:
    """A whole number within a range. Raises BadInput."""
    try:
        number = int(text)
    except ValueError:
        raise BadInput(name, f"{text!r} is not a whole number") from None
    if not least <= number <= most:
        raise BadInput(name, f"{number} is not between {least} and {most}")
    return number


def seconds(text: str, name: str) -> float:
    """A positive number of seconds. Raises BadInput."""
    try:
        number = float(text)
    except ValueError:
        raise BadInput(name, f"{text!r} is not a number of seconds") from None
    if not math.isfinite(number) or number <= 0:
        raise BadInput(name, f"{text} is not a positive number of seconds")
    return number


# ---------------------------------------------------------------------------------------------- schemas


@dataclass(frozen=True, slots=True)
class Entry:
    """One property of a JSON Schema, as a person meets it. Bounds are in the unit of the field."""

    name: str
    title: str
    description: str
    unit: str
    types: frozenset[str]
    choices: tuple[Any, ...]
    least: Decimal | None
    most: Decimal | None
    above: Decimal | None
    below: Decimal | None
    default: Any
    is_required: bool
    is_live: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def range_text(self) -> str:
        """What is allowed, in words: `0 < x <= 10`, `a | b`, `true | false`."""
        if self.choices:
            return " | ".join(shortest(c) for c in self.choices)
        if "boolean" in self.types:
            return "true | false"
        low = f"{self.least} <= " if self.least is not None else ""
        low = f"{self.above} < " if self.above is not None else low
        high = f" <= {self.most}" if self.most is not None else ""
        high = f" < {self.below}" if self.below is not None else high
        kind = "whole number" if "integer" in self.types and "number" not in self.types else "number"
        if low or high:
            return f"{low}x{high}" + (", whole" if kind == "whole number" else "")
        return kind if self.is_numeric else "text"

    @property
    def is_numeric(self) -> bool:
        return bool(self.types & {"number", "integer"})

    @property
    def default_text(self) -> str:
        if self.is_required:
            return "required"
        return shortest(self.default)


def entries(schema: Mapping[str, Any] | None) -> dict[str, Entry]:
    """The properties of a JSON Schema by name, in its order. `$ref`, `allOf` and `anyOf` of simple types are
    resolved.
    """
    if not schema:
        return {}
    required = set(schema.get("required", ()))
    found = {}
    for name, raw in (schema.get("properties") or {}).items():
        flat = _flat(raw, schema, 0)
        kinds = flat.get("types", set())
        found[name] = Entry(
            name=name,
            title=str(raw.get("title") or name),
            description=str(raw.get("description") or ""),
            unit=str(raw.get("unit") or ""),
            types=frozenset(kinds),
            choices=tuple(flat.get("enum", ())),
            least=_bound(flat.get("minimum")),
            most=_bound(flat.get("maximum")),
            above=_bound(flat.get("exclusiveMinimum")),
            below=_bound(flat.get("exclusiveMaximum")),
            default=raw.get("default"),
            is_required=name in required,
            is_live=bool(raw.get("live", False)),
        )
    return found


def _flat(raw: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Types, choices and bounds of a property with its branches folded into one."""
    flat: dict[str, Any] = {"types": set()}
    if depth > 8:  # a schema that refers to itself has no flag; the desk still checks the value
        return flat
    branches = [*raw.get("anyOf", ()), *raw.get("oneOf", ()), *raw.get("allOf", ())]
    reference = raw.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for part in reference[2:].split("/"):
            target = target.get(part, {}) if isinstance(target, Mapping) else {}
        branches.append(target)
    for branch in branches:
        for key, value in _flat(branch, root, depth + 1).items():
            if key == "types":
                flat["types"] |= value
            elif value is not None:
                flat.setdefault(key, value)
    kind = raw.get("type")
    flat["types"] |= {kind} if isinstance(kind, str) else set(kind or ())
    for key in ("enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if raw.get(key) is not None:
            flat[key] = raw[key]
    if "const" in raw:
        flat["enum"] = (*flat.get("enum", ()), raw["const"])
    return flat


def _bound(value: Any) -> Decimal | None:
    """A bound in its shortest writing; None when there is none, or none that is a number."""
    try:
        return None if value is None else Decimal(shortest(value))
    except InvalidOperation:
        return None


def value(entry: Entry, text: str | None, shown: str = "") -> Any:
    """The typed text as the schema wants it. Numbers are checked against their range; the desk checks
    everything again.

    Args:
        text: None when the flag came without a value.
        shown: what the refusal calls it; the field's own name by default.

    Raises:
        BadInput: it does not fit, with what is allowed.
    """
    name = shown or entry.name
    unit = f" {entry.unit}" if entry.unit else ""
    allowed = f"allowed: {entry.range_text}{unit}"
    if text is None:
        if "boolean" in entry.types:
            return True
        raise BadInput(name, f"needs a value; {allowed}")
    text = text.strip()
    if "null" in entry.types and text.lower() in _NONE:
        return None
    if entry.choices:
        for choice in entry.choices:
            if str(choice).lower() == text.lower():
                return choice
        raise BadInput(name, f"{text!r} is not one of them; {allowed}")
    if "boolean" in entry.types:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise BadInput(name, f"{text!r} is not true or false")
    if not entry.is_numeric:
        return text
    return _number(entry, text, name, allowed)


def _number(entry: Entry, text: str, name: str, allowed: str) -> Any:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise BadInput(name, f"{text!r} is not a number; {allowed}") from None
    if not number.is_finite():
        raise BadInput(name, f"{text} is not a finite number; {allowed}")
    too_low = (entry.least is not None and number < entry.least) or (
        entry.above is not None and number <= entry.above
    )
    too_high = (entry.most is not None and number > entry.most) or (
        entry.below is not None and number >= entry.below
    )
    if too_low or too_high:
        raise BadInput(name, f"{text} is out of range; {allowed}")
    if "number" not in entry.types:
        if number != number.to_integral_value():
            raise BadInput(name, f"{text} is not a whole number; {allowed}")
        return int(number)
    if "string" in entry.types:  # a Decimal field: its text carries every digit
        return format(number, "f")
    return int(number) if number == number.to_integral_value() and abs(number) < 2**53 else float(number)


def values(
    given: Mapping[str, str | None], known: Mapping[str, Entry], *, flags: bool, where: str
) -> dict[str, Any]:
    """All given names against a schema; every mistake is reported at once.

    Raises:
        BadInput, BadInputs: unknown names (with what is allowed) and values that do not fit.
    """
    found: dict[str, Any] = {}
    wrong: list[BadInput] = []
    for name, text in given.items():
        entry = known.get(name)
        off = (
            known.get(name.removeprefix("no_")) if flags and name.startswith("no_") and text is None else None
        )
        shown = "--" + name.replace("_", "-") if flags else name
        try:
            if entry is not None:
                found[name] = value(entry, text, shown)
            elif off is not None and "boolean" in off.types:
                found[off.name] = False
            else:
                allowed = ", ".join(e.flag if flags else e.name for e in known.values()) or "none"
                raise BadInput(shown, f"unknown for {where}; allowed: {allowed}")
        except BadInput as error:
            wrong.append(error)
    raise_all(wrong)
    return found


def raise_all(wrong: Sequence[BadInput]) -> None:
    """Nothing, the one mistake, or all of them together."""
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise BadInputs(tuple(wrong))
