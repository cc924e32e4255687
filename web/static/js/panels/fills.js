// Fills of the worker, newest first, from the store of the desk: they survive stop, reload and restart. Older ones on demand.

import { complain } from "../commands.js";
import { h, keyed, Num, setAttribute, setText } from "../dom.js";
import { clockTime, decimalsOf, fixed } from "../format.js";
import { t } from "../i18n.js";

const COLUMNS = ["time", "side", "price", "qty", "value", "fee", "role", "id"];
const NUMBERS = ["time", "price", "qty", "value", "fee"];
const SHOWN = 200; // rows in the page at once; more come by the button

export class FillsTab {
  #context;
  #off;
  #sync;
  #shown = SHOWN;
  #frame = 0;
  #table;
  #empty = h("p.empty", {});
  #more = h("button", { type: "button", onclick: () => this.#older() }, t("fills.older"));

  constructor(element, context) {
    this.#context = context;
    const body = h("tbody", {});
    this.#table = h("table.fills", {}, h("thead", {}, h("tr", {}, COLUMNS.map((name) => h(`th${NUMBERS.includes(name) ? ".num" : ""}`, { scope: "col" }, t(`fill.${name}`))))), body);
    element.replaceChildren(this.#table, this.#empty, h("div.row.more", {}, this.#more));
    this.#sync = keyed(body, () => new FillRow(context.worker));
    this.#off = context.history.watch(() => { this.#frame ||= requestAnimationFrame(() => this.render()); });
    this.render();
  }

  close() {
    this.#off();
    cancelAnimationFrame(this.#frame);
  }

  render() {
    this.#frame = 0;
    const { fills, hasOlderFills, isLoaded } = this.#context.history;
    this.#sync(fills.slice(0, this.#shown), (fill) => `${fill.venue}|${fill.account}|${fill.trade_id}`);
    this.#table.hidden = !fills.length;
    this.#empty.hidden = fills.length > 0;
    setText(this.#empty, t(isLoaded ? "fills.empty" : "loading"));
    this.#more.hidden = !(hasOlderFills || fills.length > this.#shown);
  }

  async #older() {
    this.#shown += SHOWN;
    try {
      if (this.#context.history.fills.length < this.#shown) await this.#context.history.loadOlderFills();
    } catch (error) {
      complain(error, t("fills.older"));
    }
    this.render();
  }
}

class FillRow {
  #cells = Object.fromEntries(NUMBERS.map((name) => [name, new Num("td")]));
  #side = h("td", {});
  #role = h("td", {});
  #id = h("td.faint.small.cut", {});
  #worker;

  constructor(worker) {
    this.#worker = worker;
    const cell = { side: this.#side, role: this.#role, id: this.#id };
    this.element = h("tr", {}, COLUMNS.map((name) => cell[name] ?? this.#cells[name].element));
  }

  set(fill) {
    const isBuy = fill.side === "buy";
    this.#cells.time.set(clockTime(fill.venue_ns, { tenths: true }));
    setText(this.#side, `${isBuy ? "▲" : "▼"} ${t(`side.${fill.side}`)}`);
    setAttribute(this.#side, "class", isBuy ? "up" : "down");
    this.#cells.price.set(fixed(fill.price, decimalsOf(this.#worker.tick)));
    this.#cells.qty.set(fixed(fill.qty, decimalsOf(this.#worker.lot)));
    this.#cells.value.set(fixed(fill.value, 2));
    this.#cells.fee.set(fixed(fill.fee, 6), { unit: fill.fee_asset });
    setText(this.#role, t(fill.is_maker ? "fill.maker" : "fill.taker"));
    setText(this.#id, fill.trade_id);
  }
}
