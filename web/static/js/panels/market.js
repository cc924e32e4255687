// One worker in full: its head with the three verbs, then ladder, chart, the why of each side, stats and tabs. Rebuilt when
// another worker is selected; the parts watch their own topics.

import { h, setAttribute, setText } from "../dom.js";
import { duration } from "../format.js";
import { History } from "../history.js";
import { say, t, word } from "../i18n.js";
import { freshness } from "../store.js";
import { receiptLine, receiptShort } from "../commands.js";
import { Chart } from "./chart.js";
import { askDelete } from "./demo.js";
import { Ladder } from "./ladder.js";
import { Stats } from "./stats.js";
import { Tabs } from "./tabs.js";
import { TradeButtons } from "./trade_buttons.js";
import { Why } from "./why.js";
import { WORD_TONES } from "./words.js";

export class MarketPanel {
  #element;
  #context;
  #view = null;
  #off;

  constructor(element, context) {
    this.#element = element;
    this.#context = context;
    this.#off = context.fleet.watch(() => this.#choose());
  }

  close() {
    this.#off();
    this.#view?.close();
  }

  /** Shows the selected worker; keeps what is there when it is the same one on the same market. */
  #choose() {
    const worker = this.#context.fleet.selected;
    const key = worker && `${worker.id}|${worker.instrument}`;
    if (key === (this.#view?.key ?? null)) return;
    this.#view?.close();
    this.#view = worker ? new MarketView(this.#element, worker, this.#context) : null;
    this.#element.hidden = !worker;
  }
}

class MarketView {
  #id;
  #store;
  #offs = [];
  #parts;
  #element;
  #title = h("h2.cut", {});
  #pair = h("span.dim.cut", {});
  #word = h("span.pill.live", { dataset: { part: "word" } });
  #market = h("span.pill", { dataset: { part: "market" } });
  #fresh = h("span.pill", { dataset: { part: "fresh" }, role: "status" });
  #reason = h("span.reason.cut", {});
  #time = h("span.num.dim", { title: t("stat.running.help") });
  #buttons;
  #delete;

  constructor(element, worker, { store, bus, fleet }) {
    this.key = `${worker.id}|${worker.instrument}`;
    this.#id = worker.id;
    this.#store = store;
    this.#element = element;
    this.#buttons = new TradeButtons(store);
    this.#delete = h("button.plain", {
      type: "button", title: t("tip.delete"), dataset: { do: "delete" },
      onclick: () => askDelete(this.#store.get(`worker/${this.#id}`), fleet),
    }, t("verb.delete"));
    const history = new History(worker.id, store);
    const place = (name, label) => h(`section.panel.${name}`, { "aria-label": label });
    const [ladder, chart, tabs, why, stats] = [
      place("ladder", t("ladder")), place("chart", t("chart")), place("tabs", t("tabs")), place("why", t("why")), place("stats", t("stats")),
    ];
    element.replaceChildren(
      h("header.market-head", {}, this.#title, this.#pair, this.#market, this.#word, this.#reason,
        h("span.push", {}), this.#fresh, this.#time, this.#buttons.element, this.#delete),
      h("div.market-grid", {}, ladder, h("div.market-middle", {}, chart, tabs), h("div.market-side", {}, why, stats)));
    const context = { store, bus, fleet, history, worker };
    this.#parts = [new Ladder(ladder, context), new Chart(chart, context), new Tabs(tabs, context), new Why(why, context), new Stats(stats, context), history];
    this.#offs.push(
      bus.want([`orders/${worker.id}`, `book/${worker.instrument}`, `trades/${worker.instrument}`]),
      store.watch([`worker/${worker.id}`], () => this.render()),
      store.watch(["tick"], () => this.#age()));
  }

  close() {
    this.#offs.forEach((off) => off());
    this.#parts.forEach((part) => part.close());
  }

  render() {
    const worker = this.#store.get(`worker/${this.#id}`);
    if (!worker) return;
    setText(this.#title, worker.name);
    setText(this.#pair, `${worker.symbol} · ${worker.venue} · ${word("strategy", worker.strategy)}`);
    setText(this.#word, word("word", worker.word));
    setAttribute(this.#word, "data-tone", WORD_TONES[worker.word] ?? "off");
    setAttribute(this.#word, "title", t(`wordhelp.${worker.word}`));
    setText(this.#market, word("market", worker.market));
    setAttribute(this.#market, "data-tone", worker.market === "LIVE" ? "good" : "warn");
    const text = worker.receipt && worker.state !== "running"
      ? receiptShort(worker.receipt) : say(worker.reason);
    setText(this.#reason, text);
    setAttribute(this.#reason, "title", [say(worker.reason), worker.receipt && receiptLine(worker.receipt)].filter(Boolean).join("\n"));
    setText(this.#time, duration(worker.running_s));
    this.#buttons.set(worker);
    this.#delete.hidden = worker.state !== "stopped";
    this.#age();
  }

  /** Old is shown as old: the whole view turns grey, and a word says since when. */
  #age() {
    const worker = this.#store.get(`worker/${this.#id}`);
    const topicAge = this.#store.ageS(`worker/${this.#id}`);
    const fresh = freshness(Math.max(topicAge ?? Infinity, this.#store.marketAgeS(`book/${worker?.instrument}`) ?? topicAge ?? Infinity));
    setAttribute(this.#element, "data-fresh", fresh);
    setText(this.#fresh, t(`fresh.${fresh}`));
    setAttribute(this.#fresh, "data-tone", { live: "good", stale: "warn", frozen: "bad" }[fresh]);
    setAttribute(this.#fresh, "title", t("fresh.help"));
  }
}
