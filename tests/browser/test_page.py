"""The page in a real Chromium, over the real web face, with a desk in memory behind it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.pages import DeskPage
from tests.browser.site import Site

OpenPage = Callable[..., DeskPage]


def test_it_loads_shows_the_fleet_and_leaves_the_console_empty(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    expect(page.rows).to_have_count(1)
    expect(page.row("demo")).to_contain_text("QUOTING")
    expect(page.pill("mode")).to_have_text("PAPER")
    expect(page.pill("market")).to_have_text("SYNTHETIC")
    expect(page.pill("feed")).to_contain_text("LIVE")
    expect(page.pill("link")).to_have_text("connected")
    expect(page.demo_banner).to_contain_text("demo")
    expect(page.market.fresh).to_have_text("LIVE")
    expect(page.page.locator(".rung[data-own]")).to_have_count(6)
    expect(page.page.locator("#market canvas")).to_have_count(3)
    assert "token" not in page.page.url


def test_a_worker_is_made_by_the_form_which_first_shows_what_is_wrong_at_its_field(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    form = page.new_worker()
    form.fill("symbol", "NOPE-USDT")
    form.fill("params.spread", "-1")
    form.fill("params.max_orders", "two")
    form.submit()
    expect(form.error("symbol")).to_contain_text("NOPE-USDT")
    expect(form.error("params.spread")).to_contain_text("above 0")
    expect(form.error("params.max_orders")).not_to_be_empty()
    expect(form.input("symbol")).to_be_focused()
    expect(page.rows).to_have_count(1)
    form.fill("symbol", "ETH-USDT")
    form.fill("params.spread", "0.05")
    form.fill("params.max_orders", "2")
    form.fill("name", "ether")
    form.start_at_once()
    expect(form.error("symbol")).to_be_empty()
    form.submit()
    expect(page.row("ether")).to_contain_text("QUOTING")
    expect(page.page.locator("dialog[open]")).to_have_count(0)
    expect(page.page.locator("#market h2").first).to_have_text("ether")
    expect(page.market.own_rungs).to_have_count(4)


def test_the_form_shows_every_field_of_the_schema_with_unit_range_default_and_when_it_counts(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    form = page.new_worker()
    strategy = site.desk.strategies()[0]
    for group, schema in (("params", strategy["schema"]), ("limits", strategy["limits_schema"])):
        for name, rule in schema["properties"].items():
            field = form.field(f"{group}.{name}")
            expect(field).to_contain_text(rule["title"])
            expect(field).to_contain_text(rule["unit"])
            expect(field).to_contain_text("live" if rule["live"] else "next start")
            if rule.get("default") is not None:
                expect(field).to_contain_text(f"default {rule['default']}")
            if "maximum" in rule:
                expect(field).to_contain_text(f"up to {rule['maximum']:,}")


def test_pause_stop_and_start_do_what_they_say_and_stop_leaves_its_receipt(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    market = page.market
    expect(market.word).to_have_text("QUOTING")
    market.do("pause")
    expect(market.word).to_have_text("PAUSED")
    market.do("start")
    expect(market.word).to_have_text("QUOTING")
    market.do("stop")
    expect(market.word).to_have_text("STOPPED")
    expect(market.reason).to_contain_text(re.compile(r"6/6 cancelled, confirmed \d\d:\d\d:\d\d\.\d"))
    expect(market.own_rungs).to_have_count(0)
    expect(market.why("buy")).to_contain_text("worker is stopped")
    expect(page.bar).to_contain_text("0/1")
    page.row("demo").locator("[data-do=start]").click()
    expect(market.word).to_have_text("QUOTING")
    assert [name for name, *_ in site.desk.calls if name in ("start", "pause", "stop")] == [
        "pause",
        "start",
        "stop",
        "start",
    ]


def test_the_terms_of_a_side_add_up_to_its_price(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    site.hold()
    page.page.wait_for_timeout(500)  # the last change is drawn
    numbers = page.market.why("sell").locator(".term .num").all_inner_texts()
    *terms, price = [float(text.replace(",", "").replace("=", "")) for text in numbers]
    assert len(terms) == 2
    assert abs(sum(terms) - price) <= 0.01


def test_a_second_click_before_the_answer_sends_nothing_more(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    expect(page.market.word).to_have_text("QUOTING")
    page.page.evaluate(
        "document.querySelectorAll('.market-head [data-do=stop]').forEach((b) => { b.click(); b.click(); })"
    )
    expect(page.market.word).to_have_text("STOPPED")
    assert [name for name, *_ in site.desk.calls].count("stop") == 1


def test_a_parameter_is_changed_while_it_runs_and_a_bad_one_is_refused_at_its_field(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    form = page.market.parameters()
    expect(form.submit_button).to_be_disabled()
    form.fill("params.spread", "0")
    expect(form.dot("params.spread")).to_be_visible()
    form.submit()
    expect(form.error("params.spread")).to_contain_text("above 0")
    form.fill("params.spread", "0.1")
    form.fill("params.max_orders", "2")
    form.submit()
    expect(form.dot("params.spread")).to_be_hidden()
    expect(page.market.own_rungs).to_have_count(4)
    expect(page.market.word).to_have_text("QUOTING")
    form.fill("params.spread", "7")
    form.discard()
    expect(form.input("params.spread")).to_have_value("0.1")
    versions = page.market.tab("versions")
    expect(versions.locator("tbody tr")).to_have_count(2)
    expect(versions.locator("tbody tr").first).to_contain_text("0.02 → 0.1")


def test_an_edit_is_not_overwritten_when_somebody_else_changes_the_worker(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    form = page.market.parameters()
    form.fill("params.max_orders", "4")
    site.desk.change("w1", params={"spread": 0.5}, by="test")
    expect(form.root).to_contain_text("Changed elsewhere")
    expect(form.input("params.max_orders")).to_have_value("4")
    form.discard()
    expect(form.input("params.spread")).to_have_value("0.5")
    expect(form.input("params.max_orders")).to_have_value("3")


def test_the_red_button_asks_cancels_everything_latches_and_is_released_by_typing(
    site: Site, open_page: OpenPage
) -> None:
    site.add(2)
    page = open_page(site.link)
    expect(page.rows).to_have_count(3)
    page.kill_button.click()
    expect(page.page.locator("dialog[open]")).to_contain_text("does not sell what you hold")
    page.page.locator("dialog[open] button.danger").click()
    expect(page.kill_banner).to_be_visible()
    expect(page.kill_banner).to_contain_text("18/18 orders cancelled")
    expect(page.market.word).to_have_text("STOPPED")
    page.market.do("start")
    expect(page.toasts.filter(has_text="killed")).to_be_visible()
    page.kill_banner.locator("[data-do=release]").click()
    dialog = page.page.locator("dialog[open]")
    dialog.locator("input").fill("release")
    expect(dialog.locator("button[type=submit]")).to_be_disabled()
    dialog.locator("input").fill("RELEASE")
    dialog.locator("button[type=submit]").click()
    expect(page.kill_banner).to_be_hidden()
    expect(page.market.word).to_have_text("STOPPED")


def test_the_red_button_fires_when_held_and_asks_nothing(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    page.kill_by_holding()
    expect(page.kill_banner).to_be_visible()
    expect(page.page.locator("dialog[open]")).to_have_count(0)
    assert [name for name, *_ in site.desk.calls].count("kill") == 1


def test_the_red_button_works_while_the_socket_is_down(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    page.page.route("**/socket.io/**", lambda route: route.abort())
    page.page.route_web_socket("**/socket.io/**", lambda socket: socket.close())
    page.page.reload()
    expect(page.pill("link")).to_have_text(re.compile("connecting"))
    page.kill_by_dialog()
    expect(page.kill_banner).to_contain_text("6/6 orders cancelled")
    assert site.desk.view().is_killed


def test_the_red_button_is_never_covered(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    page.new_worker()
    page.kill_by_holding()
    expect(page.kill_banner).to_be_visible()


def test_a_kill_whose_answer_is_lost_is_called_unknown_and_names_other_ways(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)

    def lose(route: Route) -> None:
        route.fulfill(
            status=504,
            content_type="application/problem+json",
            body='{"title": "Outcome unknown", "status": 504}',
        )

    page.page.route("**/api/kill", lose)
    page.kill_by_dialog()
    expect(page.toasts.filter(has_text="unknown")).to_be_visible()
    expect(page.toasts.filter(has_text="KILL")).to_be_visible()


@pytest.mark.parametrize(
    ("code", "quoting", "kill", "stopped"),
    [
        ("en", "QUOTING", "Cancel everything", "STOPPED"),
        ("zh-TW", "報價中", "全部撤單", "已停止"),
        ("zh-CN", "报价中", "全部撤单", "已停止"),
    ],
)
def test_it_speaks_three_languages_and_remembers_which(
    site: Site, open_page: OpenPage, code: str, quoting: str, kill: str, stopped: str
) -> None:
    page = open_page(site.link)
    page.choose_language(code)
    expect(page.row("demo")).to_contain_text(quoting)
    expect(page.kill_button).to_have_text(kill)
    page.reload()
    expect(page.page.locator("html")).to_have_attribute("lang", code)
    expect(page.kill_button).to_have_text(kill)
    page.market.do("stop")
    expect(page.market.word).to_have_text(stopped)
    for tab in ("orders", "fills", "params", "versions", "notices"):
        page.market.tab(tab)
        page.page.wait_for_timeout(100)
        # a key without a text would show itself
        assert not re.search(r"\b(col|stat|tab|fill|order|params|form|bar|why)\.[a-z]", page.words())


def test_what_is_old_turns_grey_and_says_so_and_comes_back(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    expect(page.market.fresh).to_have_text("LIVE")
    site.hold()
    expect(page.market.fresh).to_have_text("STALE")
    expect(page.market.fresh).to_have_text("FROZEN")
    expect(page.row("demo")).to_have_attribute("data-fresh", "frozen")
    expect(page.pill("feed")).to_contain_text("FROZEN")
    expect(page.pill("link")).to_have_text("desk silent")
    expect(page.page.locator("#notice")).to_contain_text("stopped telling")
    opacity = page.page.evaluate("getComputedStyle(document.querySelector('.rung .num')).opacity")
    assert float(opacity) < 1
    site.go_on()
    expect(page.market.fresh).to_have_text("LIVE")
    expect(page.page.locator("#notice")).to_be_hidden()


def test_figures_fills_and_chart_are_still_there_after_stop_and_reload(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    page.market.do("stop")
    expect(page.market.word).to_have_text("STOPPED")
    names = ("realized", "fees", "traded", "trades", "buys", "maker_buy", "maker_sell", "quote", "position")
    before = {name: page.market.stat(name).inner_text() for name in names}
    fills = page.market.tab("fills").locator("tbody tr")
    count = fills.count()
    assert count > 10
    page.reload()
    expect(page.market.word).to_have_text("STOPPED")
    expect(page.page.locator("#tab-fills")).to_have_attribute("aria-selected", "true")
    expect(fills).to_have_count(count)
    for name, text in before.items():
        expect(page.market.stat(name)).to_have_text(text)
    assert "—" not in before["trades"]
    expect(page.page.locator(".chart-empty")).to_be_hidden()


def test_the_address_holds_the_worker_and_the_tab(site: Site, open_page: OpenPage) -> None:
    site.add(2)
    page = open_page(site.link)
    page.select("maker 2")
    page.market.tab("fills")
    assert page.page.url.endswith("#w=w3&tab=fills")
    page.page.goto(site.url + "/#w=w2&tab=notices")
    expect(page.page.locator("#market h2").first).to_have_text("maker 1")
    expect(page.page.locator("#tab-notices")).to_have_attribute("aria-selected", "true")


def test_workers_made_and_deleted_elsewhere_appear_and_leave_by_themselves(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    expect(page.rows).to_have_count(1)
    site.add(1)
    expect(page.rows).to_have_count(2)
    site.desk.stop("w2", by="test")
    site.desk.delete("w2", by="test")
    expect(page.rows).to_have_count(1)


def test_the_demo_worker_is_stopped_and_deleted_from_the_first_row_and_an_empty_desk_helps(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page(site.link)
    expect(page.demo_banner).to_contain_text("Largest position 0.1 BTC")
    page.demo_banner.locator("[data-do=demo-stop]").click()
    expect(page.market.word).to_have_text("STOPPED")
    page.demo_banner.locator("[data-do=demo-delete]").click()
    page.page.locator("dialog[open] button.danger").click()
    expect(page.rows).to_have_count(0)
    expect(page.demo_banner).to_be_hidden()
    expect(page.page.locator("#fleet")).to_contain_text("No worker yet")
    expect(page.page.locator("#market")).to_be_hidden()
    page.page.locator("#fleet .empty button").click()
    expect(page.page.locator("dialog[open] form")).to_be_visible()


def test_text_of_the_desk_is_never_read_as_markup(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    name = "<img src=x onerror=alert(1)><b>bold"
    site.desk.change("w1", name=name, by="test")
    expect(page.page.locator("#market h2").first).to_have_text(name)
    assert page.page.locator("img").count() == 0


def test_keys_move_around_and_are_dead_while_one_writes(site: Site, open_page: OpenPage) -> None:
    site.add(1)
    page = open_page(site.link)
    expect(page.rows).to_have_count(2)
    page.page.keyboard.press("?")
    expect(page.page.locator("dialog[open]")).to_contain_text("How to read this page")
    page.page.keyboard.press("Escape")
    expect(page.page.locator("dialog[open]")).to_have_count(0)
    page.page.keyboard.press("j")
    expect(page.page.locator("#market h2").first).to_have_text("maker 1")
    page.page.keyboard.press("2")
    expect(page.page.locator("#tab-fills")).to_have_attribute("aria-selected", "true")
    page.page.keyboard.press("n")
    form = page.page.locator("dialog[open] form")
    form.locator("[data-field=name] input").fill("jk2?")
    expect(page.page.locator("#market h2").first).to_have_text("maker 1")
    assert [name for name, *_ in site.desk.calls if name in ("start", "pause", "stop", "kill")] == ["start"]


def test_a_login_that_has_ended_leads_to_the_login_page(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.link)
    page.expected.add(401)
    page.page.evaluate(
        "fetch('/api/session').then((r) => r.json())"
        ".then(({csrf}) => fetch('/api/session', {method: 'DELETE', headers: {'X-CSRF-Token': csrf}}))"
    )
    page.page.wait_for_url("**/login")
