// Live orders of the worker: what rests where, what is under way, what we do not know, and why each price is what it is.

import { h, keyed, Num, setAttribute, setText } from "../dom.js";
import { age, decimalsOf, fixed, plain } from "../format.js";
import { t, termName, word } from "../i18n.js";

const COLUMNS = ["side", "level", "price", "qty", "filled", "ahead", "status", "age", "terms"];
const NUMBERS = new Set(["level", "price", "qty", "filled", "ahead", "age"]);

export class OrdersTab {
  #context;
  #off;
  #sync;
  #table;
  #empty = h("p.empty", {}, t("orders.empty"));

  constructor(element, context) {
    this.#context = context;
    const body = h("tbody", {});
    this.#table = h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map((name) => h(`th${NUMBERS.has(name) ? ".num" : ""}`, { scope: "col" }, t(`order.${name}`))))), body);
    element.replaceChildren(this.#table, this.#empty);
    this.#sync = keyed(body, () => new OrderRow(context));
    this.#off = context.store.watch([`orders/${context.worker.id}`, "tick"], () => this.render());
  }

  close() { this.#off(); }

  render() {
    const orders = [...(this.#context.store.get(`orders/${this.#context.worker.id}`)?.orders ?? [])];
    // as on the ladder: highest price first
    orders.sort((a, b) => Number(b.price) - Number(a.price));
    this.#sync(orders, (order) => `${order.side}${order.level}`);
    this.#table.hidden = !orders.length;
    this.#empty.hidden = orders.length > 0;
  }
}

class OrderRow {
  #side = h("td", {});
  #status = h("td", {});
  #terms = h("td.terms-line.faint.small", {});
  #cells = Object.fromEntries([...NUMBERS].map((name) => [name, new Num("td")]));
  #context;

  constructor(context) {
    this.#context = context;
    const cell = { side: this.#side, status: this.#status, terms: this.#terms };
    this.element = h("tr", {}, COLUMNS.map((name) => cell[name] ?? this.#cells[name].element));
  }

  set(order) {
    const { worker, store } = this.#context;
    const [price, size] = [decimalsOf(worker.tick), decimalsOf(worker.lot)];
    const isBuy = order.side === "buy";
    setText(this.#side, `${isBuy ? "▲" : "▼"} ${t(`side.${order.side}`)}`);
    setAttribute(this.#side, "class", isBuy ? "up" : "down");
    this.#cells.level.set(String(order.level));
    this.#cells.price.set(fixed(order.price, price));
    this.#cells.qty.set(fixed(order.qty, size));
    this.#cells.filled.set(fixed(order.filled, size));
    this.#cells.ahead.set(fixed(order.queue_ahead, size));
    this.#cells.age.set(age((store.nowNs() - order.created_ns) / 1e9));
    const status = order.is_unknown ? t("order.unknown") : order.request ? t("order.asked", { status: word("status", order.status), request: word("request", order.request) }) : word("status", order.status);
    setText(this.#status, status);
    setAttribute(this.#status, "class", order.is_unknown ? "warn" : "");
    const terms = order.terms.map(([name, value], i) => `${termName(name)} ${plain(value) === null ? value : fixed(value, price + 2, { sign: i > 0 })}`).join(" · ");
    setText(this.#terms, terms);
  }
}
