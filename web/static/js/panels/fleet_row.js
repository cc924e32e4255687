// One worker in the fleet table. It paints itself when its own snapshot changes and leaves the others alone.

import { h, Num, setAttribute, setText } from "../dom.js";
import { bpsText, decimalsOf, duration, fixed, float, tone, widthBps } from "../format.js";
import { say, t, word } from "../i18n.js";
import { freshness } from "../store.js";
import { PositionBar } from "./position_bar.js";
import { Spark } from "./spark.js";
import { TradeButtons } from "./trade_buttons.js";
import { WORD_TONES } from "./words.js";

export class FleetRow {
  #id;
  #store;
  #fleet;
  #offs;
  #name = h("button.link.cut", { type: "button" });
  #strategy = h("div.faint.small.cut", {});
  #pair = h("div.cut", {});
  #venue = h("div.faint.small.cut", {});
  #word = h("span.pill.live", {});
  #market = h("div.faint.small", {});
  #buy = side("buy");
  #sell = side("sell");
  #spread = new Num("div");
  #touch = new Num("div");
  #position = new Num("div");
  #bar = new PositionBar();
  #net = new Num("div");
  #spark;
  #fills = new Num("div");
  #running = new Num("div");
  #buttons;

  constructor(id, { store, fleet }) {
    this.#id = id;
    this.#store = store;
    this.#fleet = fleet;
    this.#spark = new Spark(id, store);
    this.#buttons = new TradeButtons(store, { isSmall: true });
    const cell = (name, ...children) => h(`td.c-${name}`, { role: "cell", "data-label": t(`col.${name}`) }, ...children);
    this.element = h("tr", { role: "row", dataset: { worker: id } },
      cell("name", this.#name, this.#strategy),
      cell("pair", this.#pair, this.#venue),
      cell("word", this.#word, this.#market),
      cell("sides", this.#buy.element, this.#sell.element),
      cell("spread", this.#spread.element, this.#touch.element),
      cell("position", this.#position.element, this.#bar.element),
      cell("net", h("div.net-spark", {}, this.#spark.element, this.#net.element)),
      cell("fills", this.#fills.element),
      cell("running", this.#running.element),
      cell("do", this.#buttons.element));
    this.element.addEventListener("click", (event) => { if (!event.target.closest(".trade")) fleet.select(id); });
    this.#offs = [store.watch([`worker/${id}`, "workers"], () => this.render())];
  }

  close() {
    this.#offs.forEach((off) => off());
    this.#spark.close();
  }

  set() { /* the row watches its own topic */ }

  age() {
    setAttribute(this.element, "data-fresh", freshness(this.#store.ageS(`worker/${this.#id}`)));
  }

  render() {
    const worker = this.#store.get(`worker/${this.#id}`);
    if (!worker) return;
    const isSelected = this.#fleet.selected?.id === this.#id;
    if (isSelected && this.element.getAttribute("aria-selected") === "false") this.element.scrollIntoView({ block: "nearest" });
    setAttribute(this.element, "aria-selected", String(isSelected));
    setAttribute(this.#name, "aria-current", isSelected ? "true" : null);
    setText(this.#name, worker.name);
    setText(this.#strategy, word("strategy", worker.strategy));
    setText(this.#pair, worker.symbol);
    setText(this.#venue, `${worker.venue} · ${t(`mode.${worker.env}`)}`);
    setText(this.#word, word("word", worker.word));
    setAttribute(this.#word, "data-tone", WORD_TONES[worker.word] ?? "off");
    setAttribute(this.#word, "title", [t(`wordhelp.${worker.word}`), say(worker.reason)].filter(Boolean).join("\n"));
    setText(this.#market, word("market", worker.market));
    this.#renderSides(worker);
    this.#renderMoney(worker);
    this.#buttons.set(worker);
    this.age();
  }

  #renderSides(worker) {
    setAttribute(this.element, "data-state", worker.state);
    const decimals = decimalsOf(worker.tick);
    this.#buy.set(worker.buy, decimals);
    this.#sell.set(worker.sell, decimals);
    const ours = worker.buy.is_quoting && worker.sell.is_quoting ? widthBps(worker.buy.price, worker.sell.price) : null;
    this.#spread.set(bpsText(ours), { unit: t("bps") });
    this.#touch.set(bpsText(widthBps(worker.best_bid, worker.best_ask)), { unit: t("bps"), tone: "faint" });
  }

  #renderMoney(worker) {
    const position = fixed(worker.position, decimalsOf(worker.lot), { sign: true });
    this.#position.set(position, { unit: worker.base });
    this.#bar.set(float(worker.position), float(worker.limits.max_position), worker.base);
    this.#net.set(fixed(worker.stats.net, 2, { sign: true }), { tone: tone(worker.stats.net, 2), unit: worker.quote });
    this.#fills.set(fixed(worker.stats.trades, 0));
    this.#running.set(duration(worker.running_s));
  }
}

function side(name) {
  const arrow = h(`span.${name === "buy" ? "up" : "down"}`, { "aria-hidden": "true" }, name === "buy" ? "▲" : "▼");
  const price = new Num("span");
  const reason = h("span.silent.live.cut", {});
  const element = h("div.side", {}, arrow, h("span.visually-hidden", {}, t(`side.${name}`)), price.element, reason);
  return {
    element,
    set(view, decimals) {
      price.element.hidden = !view.is_quoting;
      reason.hidden = view.is_quoting;
      if (view.is_quoting) price.set(fixed(view.price, decimals), { unit: `×${view.orders}` });
      else setText(reason, say(view.reason) || t("side.silent"));
      setAttribute(element, "title", view.is_quoting ? null : say(view.reason));
    },
  };
}
