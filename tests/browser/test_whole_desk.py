"""The whole desk behind the page: `run.py` with Redis, store, recorded market and page, driven by clicking.

What the scenario over REST and Socket.IO does, a person does here: makes a worker, watches quotes and fills
come, changes a parameter while it runs, pauses, stops with a receipt; in English and in Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.pages import DeskPage
from tests.scenarios.processes import Family, RunningDesk
from tests.shared import shared

OpenPage = Callable[..., DeskPage]
FILL_MS = 60_000  # the recorded market at five times its speed fills a tight maker within seconds


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDesk]:
    home = tmp_path_factory.mktemp("whole-desk")
    tape = shared("market_data/binance_ws_2024-08/spot_btcusdt_20240808.gz")
    family = Family(home)
    yield family.desk(home / "data", "--tape", str(tape), "--speed", "5", "--enable-db")
    family.close()


def link(desk: RunningDesk) -> str:
    found = re.search(r"http\S+login#token=\S+", desk.program.out)
    assert found is not None
    return found.group(0)


@pytest.mark.redis
@pytest.mark.parametrize(("language", "quoting"), [("en", "QUOTING"), ("zh-TW", "報價中")])
def test_a_worker_lives_its_life_by_clicks(
    desk: RunningDesk,
    open_page: OpenPage,
    shoot: Callable[[DeskPage, str], None],
    language: str,
    quoting: str,
) -> None:
    page = open_page(link(desk), width=1600, height=1000)
    page.choose_language(language)
    expect(page.demo_banner).to_contain_text("demo")

    form = page.new_worker()
    form.fill("symbol", "BTC-USDT")
    form.fill("params.spread", "-1")
    form.submit()
    expect(form.error("params.spread")).not_to_be_empty()
    form.fill("params.spread", "0.002")
    form.fill("params.quantity", "0.001")
    form.fill("params.max_orders", "2")
    form.fill("name", f"by hand {language}")
    form.start_at_once()
    form.submit()
    expect(page.row(f"by hand {language}")).to_contain_text(quoting)
    market = page.market
    expect(market.own_rungs.first).to_be_visible()
    expect(page.pill("market")).not_to_have_text("—")

    fills = market.tab("fills").locator("tbody tr")
    expect(fills.first).to_be_visible(timeout=FILL_MS)
    shoot(page, f"whole-desk-{language}")

    parameters = market.parameters()
    parameters.fill("params.max_orders", "3")
    parameters.submit()
    expect(market.tab("versions")).to_contain_text("2")
    worker = next(w for w in desk.get("/api/workers")["workers"] if w["name"] == f"by hand {language}")
    assert (worker["params"]["max_orders"], worker["params_version"]) == (3, 2)

    market.do("pause")
    expect(market.word).not_to_have_text(quoting)
    market.do("start")
    expect(market.word).to_have_text(quoting)
    market.do("stop")
    expect(market.reason).to_contain_text(re.compile(r"\d+/\d+.*\d\d:\d\d:\d\d"))
    stopped = desk.worker(worker["id"])
    assert stopped["state"] == "stopped" and stopped["receipt"]["confirmed"]
    shoot(page, f"whole-desk-{language}-stopped")

    page.reload()
    assert desk.fills(worker["id"])
    page.select(f"by hand {language}")
    expect(market.tab("fills").locator("tbody tr").first).to_be_visible()
