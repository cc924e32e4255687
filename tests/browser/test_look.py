"""How it looks: nothing jumps, nothing sticks out, all can be read. Leaves pictures in artifacts/."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.pages import DeskPage
from tests.browser.site import Site

OpenPage = Callable[..., DeskPage]
Shoot = Callable[..., None]

TOKENS = Path(__file__).resolve().parents[2] / "web" / "static" / "css" / "tokens.css"
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
SETTLED_MS = 1500

STILL = (
    ".topbar .figure",
    "#kill",
    "#fleet tr:first-child td",
    ".market-head h2",
    ".ladder",
    ".rung",
    ".ladder-middle",
    ".chart",
    ".tabs",
    ".why",
    ".stats",
    ".stat",
)

CUT_TEXTS = """
[...document.querySelectorAll('.stat dt, .rung > span, .topbar .pill, .figure dt, button:not(.link)')]
  .filter((e) => e.offsetParent && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1)
  .map((e) => `${e.className} ${e.textContent}`)
"""


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_nothing_moves_while_numbers_change(site: Site, open_page: OpenPage, width: int, height: int) -> None:
    page = open_page(site.link, width=width, height=height)
    expect(page.market.own_rungs).to_have_count(6)
    page.page.wait_for_timeout(SETTLED_MS)
    price = page.page.locator(".rung-buy .r-price").first
    seen, before = price.inner_text(), page.boxes(*STILL)
    expect(price).not_to_have_text(seen)
    page.page.wait_for_timeout(SETTLED_MS)
    assert page.boxes(*STILL) == before


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_sticks_out_sideways(site: Site, open_page: OpenPage, width: int) -> None:
    page = open_page(site.link, width=width, height=800)
    for language in ("en", "zh-TW", "zh-CN"):
        if width <= 720:
            page.bar.locator(".settings-more").click()
        page.choose_language(language)
        expect(page.market.own_rungs).to_have_count(6)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.page.evaluate(CUT_TEXTS) == []
        kill = page.kill_button.bounding_box()
        assert kill is not None and kill["x"] >= 0 and kill["x"] + kill["width"] <= width


def test_thirty_workers_stay_in_their_place_and_each_row_can_be_reached(
    site: Site, open_page: OpenPage, shoot: Shoot
) -> None:
    site.add(30)
    page = open_page(site.link)
    expect(page.rows).to_have_count(31)
    for _ in range(25):
        page.page.keyboard.press("j")
    expect(page.row("maker 25")).to_be_in_viewport()
    expect(page.page.locator("#market h2").first).to_have_text("maker 25")
    box = page.page.locator("#fleet").bounding_box()
    assert box is not None and box["height"] < 800 / 2
    expect(page.market.fresh).to_have_text("LIVE")
    page.page.wait_for_timeout(SETTLED_MS)
    shoot(page, "many")


def test_pictures_for_a_person(site: Site, open_page: OpenPage, shoot: Shoot) -> None:
    for name, width, height, options in (
        ("dark", 1280, 800, {}),
        ("wide", 1920, 1080, {}),
        ("light", 1280, 800, {"theme": True}),
        ("zh-TW", 1280, 800, {"language": "zh-TW"}),
        ("zh-CN-light-flipped", 1280, 800, {"language": "zh-CN", "theme": True, "flip": True}),
        ("phone", 390, 844, {}),
    ):
        page = open_page(site.link, width=width, height=height)
        if options.get("theme"):
            page.press("theme")
            expect(page.page.locator("html")).to_have_attribute("data-theme", "light")
        if options.get("flip"):
            page.press("flip")
            expect(page.page.locator("html")).to_have_attribute("data-flip", "red-up")
        if "language" in options:
            page.choose_language(str(options["language"]))
        expect(page.market.own_rungs).to_have_count(6)
        page.page.wait_for_timeout(SETTLED_MS)
        shoot(page, name, whole=name == "phone")
    page = open_page(site.link)
    page.market.tab("params")
    page.page.wait_for_timeout(SETTLED_MS)
    shoot(page, "parameters")
    page.market.tab("fills")
    shoot(page, "fills")
    page.new_worker()
    shoot(page, "create")
    page.page.keyboard.press("Escape")
    page.kill_button.click()
    shoot(page, "kill-question")
    page.page.locator("dialog[open] button.danger").click()
    expect(page.kill_banner).to_be_visible()
    page.page.wait_for_timeout(SETTLED_MS)
    shoot(page, "killed")
    site.hold()
    expect(page.market.fresh).to_have_text("FROZEN")
    page.page.wait_for_timeout(SETTLED_MS)
    shoot(page, "frozen")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("surface", ["canvas", "surface", "raised"])
def test_every_text_colour_can_be_read_on_every_surface(theme: str, surface: str) -> None:
    colours = tokens(theme)
    weak = {
        name: round(contrast(colours[name], colours[surface]), 2)
        for name in ("ink", "ink-2", "ink-3", "green", "red", "blue", "amber", "orange")
        if contrast(colours[name], colours[surface]) < LEAST_CONTRAST
    }
    assert weak == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_label_of_a_filled_button_can_be_read(theme: str) -> None:
    colours = tokens(theme)
    for fill in ("danger", "danger-hot", "blue-fill"):
        assert contrast("#ffffff", colours[fill]) >= LEAST_CONTRAST, fill


def tokens(theme: str) -> dict[str, str]:
    """Layer one of a theme: name -> #rrggbb. What the light theme does not name is as in the dark one."""
    dark, light = TOKENS.read_text().split(':root[data-theme="light"]')
    found = dict(_named(dark))
    return found if theme == "dark" else found | dict(_named(light.split("}")[0]))


def _named(text: str) -> list[tuple[str, str]]:
    return re.findall(r"--raw-([\w-]+): (#[0-9a-f]{3,6});", text)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #rgb or #rrggbb colours."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
