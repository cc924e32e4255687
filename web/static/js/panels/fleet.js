// The fleet: one row a worker, what it does and why it is silent, side by side. A row is chosen by click or Enter.

import { glyph, h, keyed, setText } from "../dom.js";
import { t } from "../i18n.js";
import { openCreate } from "./create.js";
import { FleetRow } from "./fleet_row.js";

const COLUMNS = ["name", "pair", "word", "sides", "spread", "position", "net", "fills", "running", "do"];

export class FleetPanel {
  #fleet;
  #offs = [];
  #sync;
  #table;
  #empty;
  #count = h("span.faint.small", {});

  constructor(element, { store, fleet }) {
    this.#fleet = fleet;
    const create = () => openCreate({ store, fleet });
    const body = h("tbody", { role: "rowgroup" });
    const titles = COLUMNS.map((name) =>
      h("th", { role: "columnheader", scope: "col", class: `c-${name}${NUMBERS.has(name) ? " num" : ""}`, title: t(`col.${name}.help`) }, t(`col.${name}`)));
    this.#table = h("table.fleet", { role: "table", "aria-label": t("fleet") },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, titles)), body);
    this.#empty = h("div.empty", {},
      h("p", {}, h("strong", {}, t("fleet.empty"))), h("p", {}, t("fleet.empty.help")),
      h("button.primary", { type: "button", onclick: create }, glyph("plus"), t("create.open")));
    element.replaceChildren(
      h("header", {}, h("h2", {}, t("fleet")), this.#count,
        h("button.push", { type: "button", id: "create", onclick: create }, glyph("plus"), t("create.open"))),
      h("div.scroll.fleet-scroll", {}, this.#table), this.#empty);
    this.#sync = keyed(body, (worker) => new FleetRow(worker.id, { store, fleet }));
    this.#offs.push(fleet.watch(() => this.render()), store.watch(["tick"], () => this.#tick()));
  }

  close() {
    this.#offs.forEach((off) => off());
    this.#sync.rows.forEach((row) => row.close());
  }

  render() {
    const workers = this.#fleet.workers;
    this.#sync(workers, (worker) => worker.id);
    this.#table.hidden = !workers.length;
    this.#empty.hidden = !this.#fleet.isKnown || workers.length > 0;
    setText(this.#count, workers.length > 1 ? t("fleet.count", { n: workers.length }) : "");
  }

  #tick() {
    for (const row of this.#sync.rows.values()) row.age();
  }
}

const NUMBERS = new Set(["spread", "position", "net", "fills", "running"]);
