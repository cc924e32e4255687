// The book as rungs, best in the middle, with our own orders in place: their size, what waits ahead of them, and rungs of
// their own where the book shows none. The number of rungs depends on the room, never on the data, so nothing jumps.

import { h, Num, setAttribute, setShare, setText } from "../dom.js";
import { bpsText, decimalsOf, fixed, float, widthBps } from "../format.js";
import { say, t, word } from "../i18n.js";
import { freshness } from "../store.js";

const RUNG_PX = 20;
const MIDDLE_PX = 46;
const FEWEST = 6;
const MOST = 24;

export class Ladder {
  #store;
  #worker;
  #offs = [];
  #resize;
  #rungs = { sell: [], buy: [] };
  #body = h("div.rungs", { role: "table", "aria-label": t("ladder") });
  #last = new Num("span", { flashes: true });
  #lastArrow = h("span.arrow", {});
  #market = h("span.pill.tiny", {});
  #spread = new Num("span");
  #note = h("p.ladder-note.warn", { role: "status" });
  #element;

  constructor(element, { store, worker }) {
    this.#store = store;
    this.#worker = worker;
    this.#element = element;
    const head = ["mine", "ahead", "price", "size"].map((name) => h(`span.r-${name}`, { role: "columnheader", title: t(`ladder.${name}.help`) }, t(`ladder.${name}`)));
    element.replaceChildren(h("div.rung.rung-head", { role: "row" }, head), this.#body, this.#note);
    this.#resize = new ResizeObserver(() => this.#fit());
    this.#resize.observe(this.#body);
    this.#offs.push(store.watch([`book/${worker.instrument}`, `orders/${worker.id}`, `trades/${worker.instrument}`, "tick"], () => this.render()));
  }

  close() {
    this.#resize.disconnect();
    this.#offs.forEach((off) => off());
  }

  #fit() {
    const room = Math.floor((this.#body.clientHeight - MIDDLE_PX) / RUNG_PX / 2);
    const count = Math.max(FEWEST, Math.min(MOST, room));
    if (count === this.#rungs.buy.length) return;
    const make = (side) => Array.from({ length: count }, () => new Rung(side));
    this.#rungs = { sell: make("sell"), buy: make("buy") };
    const middle = h("div.ladder-middle", {},
      h("div.row.tight", {}, this.#lastArrow, this.#last.element, this.#market),
      h("div.row.tight.small", {}, h("span.faint", {}, t("ladder.spread")), this.#spread.element));
    this.#body.replaceChildren(...this.#rungs.sell.map((r) => r.element).reverse(), middle, ...this.#rungs.buy.map((r) => r.element));
    this.render();
  }

  render() {
    const book = this.#store.get(`book/${this.#worker.instrument}`);
    const worker = this.#store.get(`worker/${this.#worker.id}`);
    if (!worker || !this.#rungs.buy.length) return;
    const orders = this.#store.get(`orders/${worker.id}`)?.orders ?? [];
    const scale = { price: decimalsOf(worker.tick), size: decimalsOf(worker.lot) };
    const count = this.#rungs.buy.length;
    const asks = rungsOf(book?.asks ?? [], orders.filter((o) => o.side === "sell"), 1, count, scale.price);
    const bids = rungsOf(book?.bids ?? [], orders.filter((o) => o.side === "buy"), -1, count, scale.price);
    const largest = Math.max(...[...asks, ...bids].map((rung) => rung.size ?? 0), 0);
    this.#rungs.sell.forEach((rung, i) => rung.set(asks[i], largest, scale));
    this.#rungs.buy.forEach((rung, i) => rung.set(bids[i], largest, scale));
    this.#renderMiddle(book, worker, scale);
    setAttribute(this.#element, "data-fresh", freshness(this.#store.marketAgeS(`book/${worker.instrument}`)));
    setText(this.#note, !book ? t("ladder.nobook") : book.is_synced ? "" : say(book.note) || t("ladder.unsynced"));
  }

  #renderMiddle(book, worker, scale) {
    const trade = this.#store.get(`trades/${worker.instrument}`)?.trades[0];
    const isBuy = trade?.[1] === "buy";
    this.#last.set(fixed(trade?.[2], scale.price), { tone: trade && (isBuy ? "up" : "down") });
    setText(this.#lastArrow, trade ? (isBuy ? "▲" : "▼") : "");
    setAttribute(this.#lastArrow, "class", `arrow ${trade ? (isBuy ? "up" : "down") : ""}`);
    setAttribute(this.#lastArrow, "title", trade ? t(isBuy ? "ladder.bought" : "ladder.sold") : null);
    setText(this.#market, word("market", book?.market ?? worker.market));
    const [bid, ask] = [book?.bids[0]?.[0], book?.asks[0]?.[0]];
    const width = bid && ask ? (Number(ask) - Number(bid)).toFixed(scale.price) : null;
    const bps = widthBps(bid, ask);
    this.#spread.set(fixed(width, scale.price), { unit: bps === null ? "" : `${bpsText(bps)} ${t("bps")}` });
  }
}

/** The nearest `count` rungs of one side, our own always among them: those further out take the last places. */
function rungsOf(levels, orders, sign, count, decimals) {
  const rungs = new Map();
  const at = (price) => {
    const key = Number(price).toFixed(decimals);
    if (!rungs.has(key)) rungs.set(key, { price, size: null, mine: 0, ahead: null, isUnknown: false });
    return rungs.get(key);
  };
  for (const [price, size] of levels) at(price).size = Number(size);
  for (const order of orders) {
    const rung = at(order.price);
    rung.mine += Number(order.qty) - Number(order.filled);
    if (order.queue_ahead !== null) rung.ahead = Math.max(rung.ahead ?? 0, float(order.queue_ahead));
    rung.isUnknown ||= order.is_unknown;
  }
  const sorted = [...rungs.values()].sort((a, b) => sign * (Number(a.price) - Number(b.price)));
  const near = sorted.slice(0, count);
  const far = sorted.slice(count).filter((rung) => rung.mine > 0).slice(0, Math.floor(count / 2));
  if (!far.length) return near;
  const isFree = (rung) => rung.mine === 0;
  const kept = near.slice();
  for (let i = kept.length - 1; i >= 0 && kept.length + far.length > count; i--) if (isFree(kept[i])) kept.splice(i, 1);
  far[0].isGap = true;
  return [...kept, ...far].slice(0, count);
}

class Rung {
  #mine = new Num("span");
  #ahead = new Num("span");
  #price = new Num("span");
  #size = new Num("span");
  #bar = h("span.size-bar.bar", { "aria-hidden": "true" });

  constructor(side) {
    const cell = (name, ...children) => h(`span.r-${name}`, { role: "cell" }, ...children);
    this.element = h(`div.rung.rung-${side}`, { role: "row", dataset: { side } },
      cell("mine", this.#mine.element), cell("ahead", this.#ahead.element),
      cell("price", this.#price.element), cell("size", this.#bar, this.#size.element));
    this.side = side;
  }

  set(rung, largest, scale) {
    const isOwn = Boolean(rung?.mine);
    this.#price.set(rung ? fixed(rung.price, scale.price) : "", { tone: this.side === "buy" ? "up" : "down" });
    this.#size.set(rung?.size ? fixed(rung.size.toFixed(scale.size), scale.size) : "");
    this.#mine.set(isOwn ? fixed(rung.mine.toFixed(scale.size), scale.size) : "");
    this.#ahead.set(isOwn && rung.ahead !== null ? fixed(rung.ahead.toFixed(scale.size), scale.size) : isOwn ? "—" : "", { tone: "faint" });
    setShare(this.#bar, rung?.size ? rung.size / largest : 0);
    setAttribute(this.element, "data-own", isOwn ? (rung.isUnknown ? "unknown" : "yes") : null);
    setAttribute(this.element, "data-gap", rung?.isGap ? "yes" : null);
    setAttribute(this.element, "title", isOwn ? t(rung.isUnknown ? "ladder.own.unknown" : "ladder.own") : null);
  }
}
