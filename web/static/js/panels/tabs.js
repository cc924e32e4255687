// The tabs under the chart. Which one is open stands in the address; arrow keys move between them.

import { h, setAttribute } from "../dom.js";
import { t } from "../i18n.js";
import { route } from "../route.js";
import { FillsTab } from "./fills.js";
import { NoticesTab } from "./notices.js";
import { OrdersTab } from "./orders.js";
import { ParamsTab } from "./params.js";
import { VersionsTab } from "./versions.js";

const TABS = [["orders", OrdersTab], ["fills", FillsTab], ["params", ParamsTab], ["versions", VersionsTab], ["notices", NoticesTab]];
export const TAB_NAMES = TABS.map(([name]) => name);

export class Tabs {
  #context;
  #buttons = new Map();
  #body = h("div.tab-body", { role: "tabpanel", tabindex: "0", id: "tab-body" });
  #open = null;
  #name = null;
  #off;

  constructor(element, context) {
    this.#context = context;
    const list = h("div.tab-list", { role: "tablist", "aria-label": t("tabs") });
    for (const name of TAB_NAMES) {
      const button = h("button.tab", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tab-body", onclick: () => route.go({ tab: name }) }, t(`tab.${name}`));
      this.#buttons.set(name, button);
      list.append(button);
    }
    list.addEventListener("keydown", (event) => this.#move(event));
    element.replaceChildren(list, this.#body);
    this.#off = route.watch(() => this.#show());
    this.#show();
  }

  close() {
    this.#off();
    this.#open?.close();
  }

  #show() {
    const name = TAB_NAMES.includes(route.tab) ? route.tab : "orders";
    if (name === this.#name) return;
    this.#name = name;
    for (const [each, button] of this.#buttons) {
      setAttribute(button, "aria-selected", String(each === name));
      button.tabIndex = each === name ? 0 : -1;
    }
    setAttribute(this.#body, "aria-labelledby", `tab-${name}`);
    this.#open?.close();
    this.#body.replaceChildren();
    const Tab = TABS.find(([each]) => each === name)[1];
    this.#open = new Tab(this.#body, this.#context);
  }

  #move(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const next = TAB_NAMES[(TAB_NAMES.indexOf(this.#name) + by + TAB_NAMES.length) % TAB_NAMES.length];
    route.go({ tab: next });
    this.#buttons.get(next).focus();
  }
}
