"""A Chromium, a desk with its page, and the promise that no test leaves an error in the browser's console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.pages import WAIT_MS, DeskPage
from tests.browser.site import Site

expect.set_options(timeout=WAIT_MS)

ARTIFACTS = Path(__file__).parent / "artifacts"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever here asks for a page needs a browser."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if Path(item.fspath).parent == Path(__file__).parent and ("open_page" in names or "chrome" in names):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chrome(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.fixture
def open_page(chrome: Browser) -> Iterator[Callable[..., DeskPage]]:
    """`open_page(link, width=, height=, **context options)`: logged in and showing.

    Console errors and violations of the content security policy fail the test at its end.
    """
    opened: list[DeskPage] = []

    def open_one(link: str, *, width: int = 1280, height: int = 800, **options: object) -> DeskPage:
        context = chrome.new_context(viewport={"width": width, "height": height}, locale="en-US", **options)  # type: ignore[arg-type]
        page = DeskPage(context.new_page())
        opened.append(page)
        page.open(link)
        return page

    yield open_one
    troubles = [trouble for page in opened for trouble in page.troubles()]
    for page in opened:
        page.page.context.close()
    assert troubles == []


@pytest.fixture
def shoot() -> Callable[[DeskPage, str], None]:
    """`shoot(page, name)` leaves artifacts/name.png for a person to look at."""

    def take(page: DeskPage, name: str, *, whole: bool = False) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        page.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=whole)

    return take
