"""The catalogue of texts: complete in three languages, nothing in it that nobody shows. Needs no browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from api.desk import MARKET_LABELS, WORDS
from api.risk import LIMIT_FIELDS
from api.types import Request, Status
from strategies import STRATEGIES

JS = Path(__file__).resolve().parents[2] / "web" / "static" / "js"
OWN = [path for path in sorted(JS.rglob("*.js")) if path.name not in ("catalogue.js", "login.js")]
SOURCE = "\n".join(path.read_text() for path in OWN)

# Words of the desk, translated by `word`, `termName`, `field` and `say`: family -> who says them.
SPOKEN = {
    "word",
    "wordhelp",
    "market",
    "status",
    "request",
    "strategy",
    "level",
    "term",
    "field",
    "help",
    "unit",
    "say",
}


def catalogue() -> dict[str, list[str]]:
    text = (JS / "catalogue.js").read_text()
    body = (
        text[text.index("export const catalogue = ") + len("export const catalogue = ") :]
        .rstrip()
        .rstrip(";")
    )
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
    return dict(pairs)


CATALOGUE = catalogue()


def family(key: str) -> str:
    return key.partition(".")[0]


def test_every_key_has_a_text_in_each_of_the_three_languages() -> None:
    lacking = [
        key for key, texts in CATALOGUE.items() if len(texts) != 3 or not all(text.strip() for text in texts)
    ]
    assert lacking == []


def test_a_text_has_the_same_holes_in_every_language() -> None:
    def holes(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    wrong = [
        key
        for key, (first, *others) in CATALOGUE.items()
        if any(holes(first) != holes(text) for text in others)
    ]
    assert wrong == []


def test_chinese_texts_use_the_characters_of_their_own_script() -> None:
    only_traditional, only_simplified = (
        set("單價報權與個數據開關啟動餘額"),
        set("单价报权与个数据开关启动余额"),
    )
    shared = only_traditional & only_simplified
    wrong = [
        key
        for key, (_, traditional, simplified) in CATALOGUE.items()
        if set(traditional) & (only_simplified - shared) or set(simplified) & (only_traditional - shared)
    ]
    assert wrong == []


def test_every_key_the_page_names_is_in_the_catalogue() -> None:
    named = set(re.findall(r'\bt\(\s*"([\w.-]+)"', SOURCE))
    for first, second in re.findall(r'\bt\([^"`)]*\? "([\w.-]+)" : "([\w.-]+)"', SOURCE):
        named |= {first, second}
    assert named
    assert sorted(named - CATALOGUE.keys()) == []


def test_no_key_is_unused() -> None:
    literals = set(re.findall(r'"([\w.-]+)"', SOURCE))
    patterns = [
        re.compile(re.escape(made).replace("HOLE", r"[\w.-]+"))
        for made in (
            re.sub(r"\$\{[^}]*\}", "HOLE", text) for text in re.findall(r"\bt\(\s*`([^`]+)`", SOURCE)
        )
    ]
    # a template such as `col.${name}` is only a use of the names that the code really has
    names = (
        literals
        | set(WORDS)
        | {"paper", "testnet", "live"}
        | {name for name in re.findall(r"\b([a-z_]+): ", SOURCE)}
    )
    unused = []
    for key in CATALOGUE:
        if key in literals or family(key) in SPOKEN:
            continue
        rest = key.removeprefix(family(key) + ".").removesuffix(".help")
        if not (any(pattern.fullmatch(key) for pattern in patterns) and (rest in names)):
            unused.append(key)
    assert unused == []


@pytest.mark.parametrize(
    ("spoken", "words"),
    [
        ("word", WORDS),
        ("wordhelp", WORDS),
        ("market", (*MARKET_LABELS, "help")),
        ("status", tuple(status.value for status in Status)),
        ("request", tuple(request.value for request in Request)),
        ("strategy", tuple(STRATEGIES)),
        ("level", ("info", "warning", "error")),
    ],
)
def test_a_closed_vocabulary_of_the_desk_is_translated_whole(spoken: str, words: tuple[str, ...]) -> None:
    known = {key.removeprefix(f"{spoken}.") for key in CATALOGUE if family(key) == spoken}
    assert known == set(words)


def test_every_parameter_and_limit_has_a_title_and_a_help_in_every_language() -> None:
    params = {name for strategy in STRATEGIES.values() for name in strategy.schema()["properties"]}
    names = params | {field.name for field in LIMIT_FIELDS}
    assert {key.removeprefix("field.") for key in CATALOGUE if family(key) == "field"} == names
    assert {key for key in CATALOGUE if re.fullmatch(r"help\.[a-z]+_?\w*", key)} >= {
        f"help.{name}" for name in names
    }


def test_no_module_writes_markup_and_none_is_long() -> None:
    for path in OWN:
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), (
            path.name
        )
        assert len(text.splitlines()) <= 250, path.name
