"""The page as a person sees it: what can be read and clicked, by role and name rather than by markup.

Hides selectors and waiting. Every wait is Playwright's own, with a deadline. Must not know which desk is
behind: the same objects drive the fake one and the real one.
"""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

WAIT_MS = 10_000
HOLD_MS = 1300  # the red button fires after a second

# Refusals that tests ask for; the browser reports each as a console error.
REFUSALS = frozenset({400, 409, 502, 503, 504})
_STATUS = re.compile(r"status of (\d{3})")

_WATCH_POLICY = """
window.policyViolations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.policyViolations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


class DeskPage:
    """The whole page. `open` follows the login link."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(WAIT_MS)
        self.expected = set(REFUSALS)
        self._said: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._said.append(f"uncaught: {error}"))
        page.add_init_script(_WATCH_POLICY)

    def open(self, link: str) -> None:
        self.page.goto(link)
        self.bar.get_by_text("Cancel everything").or_(self.page.locator("#kill")).first.wait_for()
        expect(self.page.locator("#bar [data-part=mode]")).not_to_have_text("—")

    def reload(self) -> None:
        self.page.reload()
        expect(self.page.locator("#bar [data-part=mode]")).not_to_have_text("—")

    def troubles(self) -> list[str]:
        """Console errors, uncaught exceptions and violations of the content security policy so far."""
        return self._said + [f"policy: {one}" for one in self.page.evaluate("window.policyViolations ?? []")]

    def _hear(self, message: ConsoleMessage) -> None:
        status = _STATUS.search(message.text)
        is_answer = status is not None and int(status[1]) in self.expected
        is_cut = "net::ERR_" in message.text or "WebSocket connection" in message.text
        if message.type in ("error", "warning") and not is_answer and not is_cut:
            self._said.append(f"{message.type}: {message.text}")

    # --- the bar

    @property
    def bar(self) -> Locator:
        return self.page.locator("#bar")

    def pill(self, part: str) -> Locator:
        """One of mode, market, feed, link."""
        return self.bar.locator(f"[data-part={part}]")

    def choose_language(self, code: str) -> None:
        self.bar.locator("select").select_option(code)
        expect(self.page.locator("html")).to_have_attribute("lang", code)

    def press(self, what: str) -> None:
        """theme, flip or help."""
        self.bar.locator(f"[data-do={what}]").click()

    # --- the red button

    @property
    def kill_button(self) -> Locator:
        return self.page.locator("#kill")

    @property
    def kill_banner(self) -> Locator:
        return self.page.locator("#killed")

    def kill_by_dialog(self) -> None:
        self.kill_button.click()
        self.page.locator("dialog[open] button.danger").click()

    def kill_by_holding(self) -> None:
        self.kill_button.hover()
        self.page.mouse.down()
        self.page.wait_for_timeout(HOLD_MS)
        self.page.mouse.up()

    def release(self, typed: str = "RELEASE") -> None:
        self.kill_banner.locator("[data-do=release]").click()
        dialog = self.page.locator("dialog[open]")
        dialog.locator("input").fill(typed)
        dialog.locator("button[type=submit]").click()

    # --- fleet and market

    @property
    def rows(self) -> Locator:
        return self.page.locator("#fleet tbody tr")

    def row(self, name: str) -> Locator:
        return self.rows.filter(has=self.page.get_by_role("button", name=name, exact=True))

    def select(self, name: str) -> MarketView:
        self.row(name).get_by_role("button", name=name, exact=True).click()
        expect(self.page.locator("#market h2").first).to_have_text(name)
        return self.market

    @property
    def market(self) -> MarketView:
        return MarketView(self.page)

    @property
    def demo_banner(self) -> Locator:
        return self.page.locator("#demo")

    @property
    def toasts(self) -> Locator:
        return self.page.locator(".toast")

    def new_worker(self) -> CreateForm:
        self.page.locator("#create").click()
        form = CreateForm(self.page.locator("dialog[open] form"))
        form.submit_button.wait_for()
        return form

    def words(self) -> str:
        """Every visible text, for looking for what must not be there."""
        return str(self.page.evaluate("document.body.innerText"))

    def boxes(self, *selectors: str) -> list[Any]:
        """Where these elements are and how large, in whole pixels of the document."""
        script = """(all) => all.map((one) => [...document.querySelectorAll(one)].map((e) => {
            const b = e.getBoundingClientRect();
            return [one, ...[b.x + scrollX, b.y + scrollY, b.width, b.height].map(Math.round)];
        }))"""
        return list(self.page.evaluate(script, list(selectors)))


class MarketView:
    """The selected worker in full."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.locator("#market")

    @property
    def word(self) -> Locator:
        """QUOTING and so on."""
        return self.root.locator(".market-head [data-part=word]")

    @property
    def fresh(self) -> Locator:
        """LIVE, STALE or FROZEN."""
        return self.root.locator(".market-head [data-part=fresh]")

    @property
    def reason(self) -> Locator:
        """Why it is as it is; after a stop the receipt."""
        return self.root.locator(".market-head .reason")

    def do(self, verb: str) -> None:
        """start, pause, stop or delete."""
        self.root.locator(f".market-head [data-do={verb}]").click()

    def stat(self, name: str) -> Locator:
        """A figure since the worker was made."""
        return self.root.locator(f"[data-stat={name}] dd:last-child")

    def run_stat(self, name: str) -> Locator:
        """A figure of this run."""
        return self.root.locator(f"[data-stat={name}] dd").first

    @property
    def own_rungs(self) -> Locator:
        return self.root.locator(".rung[data-own]")

    def why(self, side: str) -> Locator:
        """buy or sell."""
        return self.root.locator(f".why-side[data-side={side}]")

    def tab(self, name: str) -> Locator:
        """Open orders, fills, params, versions or notices; its content."""
        self.root.locator(f"#tab-{name}").click()
        expect(self.root.locator(f"#tab-{name}")).to_have_attribute("aria-selected", "true")
        return self.root.locator("#tab-body")

    def parameters(self) -> Form:
        form = Form(self.tab("params").locator("form"))
        form.submit_button.wait_for()
        return form


class Form:
    """A form out of a schema. Fields are named as in errors: `params.spread`, `symbol` and so on."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    @property
    def submit_button(self) -> Locator:
        return self.root.locator("button[type=submit]")

    def field(self, name: str) -> Locator:
        return self.root.locator(f'[data-field="{name}"]')

    def input(self, name: str) -> Locator:
        return self.field(name).locator("input, select").first

    def fill(self, name: str, text: str) -> None:
        self.input(name).fill(text)

    def error(self, name: str) -> Locator:
        return self.field(name).locator(".field-error")

    def dot(self, name: str) -> Locator:
        return self.field(name).locator(".changed-dot")

    def submit(self) -> None:
        self.submit_button.click()

    def discard(self) -> None:
        self.root.locator("button[type=button]").first.click()


class CreateForm(Form):
    """The form that makes a worker."""

    def start_at_once(self) -> None:
        self.root.locator("input[name=starts]").check()
