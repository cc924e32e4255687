"""Words to values, and refusals that name what is wrong and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from api.errors import BadInput, BadInputs
from cli.flags import Flag, Usage, entries, pairs, parse, value, values, whole
from tests.fakes import STRATEGY

FILLS = Usage(
    "fills",
    "[ID]",
    "",
    0,
    1,
    (Flag("--limit", "N", ""), Flag("--only", "X", "", True), Flag("--all", "", "")),
)
SCHEMA: dict[str, Any] = {
    "$defs": {"Mode": {"enum": ["join", "improve"], "type": "string"}},
    "required": ["mode"],
    "properties": {
        "mode": {"$ref": "#/$defs/Mode", "title": "Mode"},
        "size": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}, {"type": "null"}],
            "default": None,
        },
        "levels": {
            "type": "integer",
            "minimum": 1,
            "maximum": 20,
            "default": 3,
            "unit": "orders",
            "live": True,
        },
        "post_only": {"type": "boolean", "default": True},
        "note": {"type": "string", "default": ""},
    },
}


def test_flags_take_their_value_after_them_or_after_an_equals_sign() -> None:
    parsed = parse(FILLS, ["w1", "--limit=5", "--only", "a", "--only", "-b", "--all"])
    assert (parsed.args, parsed.get("--limit"), parsed.values["--only"], parsed.on) == (
        ["w1"],
        "5",
        ["a", "-b"],
        {"--all"},
    )


def test_a_word_after_two_dashes_is_never_a_flag() -> None:
    assert parse(FILLS, ["--", "--all"]).args == ["--all"]


@pytest.mark.parametrize(
    ("words", "field", "part"),
    [
        (["--size", "3"], "--size", "allowed: --limit, --only, --all"),
        (["--limit"], "--limit", "needs a value"),
        (["--limit", "--all"], "--limit", "needs a value"),
        (["--limit", "1", "--limit", "2"], "--limit", "twice"),
        (["--all=yes"], "--all", "takes no value"),
        (["a", "b"], "fills", "does not take 'b'"),
    ],
)
def test_a_wrong_word_is_refused_by_name(words: list[str], field: str, part: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(FILLS, words)
    assert caught.value.field == field
    assert part in caught.value.message


@pytest.mark.parametrize(
    "flag", ["--api-key", "--secret-key", "--SECRET", "--apikey", "--password", "--auth-token"]
)
def test_a_secret_on_the_command_line_is_refused_without_repeating_it(flag: str) -> None:
    for words in ([flag, "hunter2"], [f"{flag}=hunter2"]):
        with pytest.raises(BadInput) as caught:
            parse(Usage("create", "", "", is_open=True), words)
        assert caught.value.field == flag
        assert "hunter2" not in str(caught.value)


def test_a_schema_becomes_flags_with_unit_range_and_default() -> None:
    found = entries(STRATEGY["schema"])
    spread = found["max_orders"]
    assert (spread.flag, spread.unit, spread.range_text, spread.default_text) == (
        "--max-orders", "orders", "1 <= x <= 20, whole", "3",
    )  # fmt: skip
    assert found["spread"].is_required and found["spread"].default_text == "required"
    assert found["quantity"].default_text == "unset"
    assert not found["duration"].is_live


def test_references_and_branches_of_a_schema_are_followed() -> None:
    found = entries(SCHEMA)
    assert found["mode"].choices == ("join", "improve")
    assert found["size"].types == {"number", "string", "null"}
    assert found["size"].range_text == "0 < x"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("mode", "JOIN", "join"),
        ("size", "0.10", "0.10"),
        ("size", "1e-3", "0.001"),
        ("size", "auto", None),
        ("levels", "4", 4),
        ("levels", "4.0", 4),
        ("post_only", "no", False),
        ("post_only", None, True),
        ("note", "", ""),
    ],
)
def test_values_come_in_the_type_of_the_schema(name: str, text: str | None, expected: object) -> None:
    found = value(entries(SCHEMA)[name], text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("mode", "sit", "allowed: join | improve"),
        ("size", "nan", "not a finite number"),
        ("size", "Infinity", "not a finite number"),
        ("size", "0", "out of range; allowed: 0 < x"),
        ("size", "ten", "not a number"),
        ("levels", "2.5", "not a whole number"),
        ("levels", "21", "1 <= x <= 20, whole orders"),
        ("levels", None, "needs a value"),
        ("post_only", "maybe", "true or false"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_is_allowed(
    name: str, text: str | None, part: str
) -> None:
    with pytest.raises(BadInput, match="^" + name) as caught:
        value(entries(SCHEMA)[name], text)
    assert part in caught.value.message


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(BadInputs) as caught:
        values({"levels": "0", "foo_bar": "1"}, entries(SCHEMA), flags=True, where="here")
    assert [error.field for error in caught.value.errors] == ["--levels", "--foo-bar"]


def test_a_switch_can_be_turned_off_by_its_name() -> None:
    assert values({"no_post_only": None}, entries(SCHEMA), flags=True, where="here") == {"post_only": False}


def test_pairs_need_a_name_and_a_value() -> None:
    assert pairs(["max-position=0.1", "note=a=b"], "set") == {"max_position": "0.1", "note": "a=b"}
    for words in (["spread"], ["=1"], ["a=1", "a=2"], ["api_key=hunter2"]):
        with pytest.raises(BadInput) as caught:
            pairs(words, "set")
        assert "hunter2" not in str(caught.value)


def test_a_count_has_a_range() -> None:
    assert whole("5", "--limit", least=1, most=10) == 5
    for text in ("0", "11", "x", "1.5"):
        with pytest.raises(BadInput, match="--limit"):
            whole(text, "--limit", least=1, most=10)
