// Why each side stands where it stands: the named terms that made the price, in order, and their sum; or the first rule
// that silenced it.

import { h, Num, setAttribute, setText } from "../dom.js";
import { DASH, decimalsOf, fixed, plain, signOf } from "../format.js";
import { say, t, termName } from "../i18n.js";

export class Why {
  #store;
  #worker;
  #off;
  #buy = new Side("buy");
  #sell = new Side("sell");

  constructor(element, { store, worker }) {
    this.#store = store;
    this.#worker = worker;
    element.replaceChildren(h("header", {}, h("h2", {}, t("why"))), h("div.why-sides", {}, this.#sell.element, this.#buy.element));
    this.#off = store.watch([`worker/${worker.id}`], () => this.render());
  }

  close() { this.#off(); }

  render() {
    const worker = this.#store.get(`worker/${this.#worker.id}`);
    if (!worker) return;
    this.#buy.set(worker.buy, worker);
    this.#sell.set(worker.sell, worker);
  }
}

class Side {
  #state = h("span.why-state.cut", {});
  #terms = h("div.terms", {});
  #shown = [];

  constructor(name) {
    const isBuy = name === "buy";
    this.element = h("div.why-side", { dataset: { side: name } },
      h("div.why-head", {},
        h(`strong.${isBuy ? "up" : "down"}`, {}, isBuy ? "▲ " : "▼ ", t(`side.${name}`)), this.#state),
      this.#terms);
  }

  set(side, worker) {
    const decimals = decimalsOf(worker.tick);
    const size = `${fixed(side.qty, decimalsOf(worker.lot))} ${worker.base}`;
    setText(this.#state, side.is_quoting ? t("why.quoting", { n: side.orders, size }) : t("why.silent"));
    setAttribute(this.element, "data-silent", side.is_quoting ? null : "yes");
    const rows = side.is_quoting
      ? [...side.terms.map(([name, value], i) => ({ name: termName(name), value, isFirst: i === 0 })), { name: t("why.price"), value: side.price, isSum: true }]
      : [{ name: say(side.reason) || DASH, isReason: true }];
    this.#fit(rows.length);
    rows.forEach((row, i) => this.#shown[i].set(row, decimals));
  }

  #fit(count) {
    while (this.#shown.length < count) {
      const line = new Line();
      this.#shown.push(line);
      this.#terms.append(line.element);
    }
    while (this.#shown.length > count) this.#shown.pop().element.remove();
  }
}

class Line {
  #name = h("span", {});
  #value = new Num("span");
  element = h("div.term", {}, this.#name, this.#value.element);

  set({ name, value, isFirst, isSum, isReason }, decimals) {
    setText(this.#name, name);
    setAttribute(this.element, "data-kind", isReason ? "reason" : isSum ? "sum" : null);
    const isNumber = plain(value) !== null;
    // terms are opinions: two places finer than the tick, so that their sum can be followed before it is rounded to one
    const text = isReason ? "" : !isNumber ? say(value ?? "") || DASH : fixed(value, isSum ? decimals : decimals + 2, { sign: !isFirst && !isSum });
    this.#value.set(isSum && signOf(value) !== null ? `= ${text}` : text);
  }
}
