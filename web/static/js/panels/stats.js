// Every figure of a worker, once for this run and once for its whole life. Money exact to four places, volumes to the lot.

import { h, Num, setAttribute } from "../dom.js";
import { clockTime, decimalsOf, duration, fixed, tone } from "../format.js";
import { t } from "../i18n.js";

const MONEY = 4;

/** Groups of rows: name, then the text for this run (null: no such figure) and since the worker was made. */
const GROUPS = [
  ["result", (w, s) => [
    ["net", null, money(s.net, true), tone(s.net, MONEY)],
    ["realized", money(s.run_realized, true), money(s.realized, true), tone(s.realized, MONEY), tone(s.run_realized, MONEY)],
    ["unrealized", null, money(s.unrealized, true), tone(s.unrealized, MONEY)],
    ["fees", money(s.run_fees), money(s.fees)],
    ["traded", fixed(s.run_traded_quote, 2), fixed(s.traded_quote, 2)],
    ["wear", null, fixed(s.wear_rate, 4), "", "", "%"],
  ]],
  ["holding", (w) => [
    ["total", null, fixed(w.total_quote, 2), "", "", w.quote],
    ["quote", null, fixed(w.quote_balance, 2), "", "", w.quote],
    ["base", null, lots(w, w.base_balance), "", "", w.base],
    ["position", null, lots(w, w.position, true), "", "", w.base],
    ["entry", null, price(w, w.entry_price), "", "", w.quote],
    ["mid", null, price(w, w.mid, 1), "", "", w.quote],
  ]],
  ["activity", (w, s) => [
    ["trades", fixed(s.run_trades, 0), fixed(s.trades, 0)],
    ["buys", null, `${fixed(s.buys, 0)} / ${fixed(s.sells, 0)}`],
    ["maker_buy", null, lots(w, s.maker_buy_base), "", "", w.base],
    ["maker_sell", null, lots(w, s.maker_sell_base), "", "", w.base],
    ["taker_buy", null, lots(w, s.taker_buy_base), "", "", w.base],
    ["taker_sell", null, lots(w, s.taker_sell_base), "", "", w.base],
    ["sent", null, fixed(s.orders_sent, 0)],
    ["cancels", null, fixed(s.cancels_sent, 0)],
    ["refused", null, fixed(s.refused, 0), s.refused > 0 ? "warn" : ""],
    ["unknown", null, fixed(w.unknown_orders, 0), w.unknown_orders > 0 ? "warn" : ""],
  ]],
  ["time", (w) => [
    ["running", duration(w.running_s), null],
    ["started", clockTime(w.started_ns), null],
    ["stopped", w.stopped_ns ? clockTime(w.stopped_ns) : null, null],
  ]],
];

function money(value, sign = false) { return fixed(value, MONEY, { sign }); }
function lots(worker, value, sign = false) { return fixed(value, decimalsOf(worker.lot), { sign }); }
function price(worker, value, finer = 0) { return fixed(value, decimalsOf(worker.tick) + finer); }

export class Stats {
  #store;
  #worker;
  #off;
  #rows = new Map();

  constructor(element, { store, worker }) {
    this.#store = store;
    this.#worker = worker;
    const body = h("div.stat-groups.scroll", { tabindex: "0", role: "group", "aria-label": t("stats") });
    for (const [group, rowsOf] of GROUPS) {
      const lines = rowsOf(worker, worker.stats).map(([name]) => {
        const row = { run: new Num("dd"), life: new Num("dd") };
        row.element = h("div.stat", { title: t(`stat.${name}.help`), dataset: { stat: name } }, h("dt", {}, t(`stat.${name}`)), row.run.element, row.life.element);
        this.#rows.set(name, row);
        return row.element;
      });
      body.append(h("h3", {}, h("span", {}, t(`stats.${group}`)), group === "holding" ? null : h("span.stat-scopes", {},
        h("span", {}, t("stats.run")), h("span", {}, group === "time" ? "" : t("stats.life")))), h("dl", {}, lines));
    }
    element.replaceChildren(h("header", {}, h("h2", {}, t("stats")), h("span.faint.small.push", {}, t("stats.unit", { quote: worker.quote }))), body);
    this.#off = store.watch([`worker/${worker.id}`], () => this.render());
  }

  close() { this.#off(); }

  render() {
    const worker = this.#store.get(`worker/${this.#worker.id}`);
    if (!worker) return;
    for (const [, rowsOf] of GROUPS) {
      for (const [name, run, life, lifeTone = "", runTone = "", unit = ""] of rowsOf(worker, worker.stats)) {
        const row = this.#rows.get(name);
        row.run.set(run ?? "", { tone: runTone });
        row.life.set(life ?? "", { tone: lifeTone, unit });
        setAttribute(row.life.element, "data-value", life);
      }
    }
  }
}
