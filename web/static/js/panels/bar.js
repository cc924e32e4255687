// The top bar: whose desk, which money, which market, how much, how fresh, and the one red button. Never scrolls away.

import { h, Num, setAttribute, setText } from "../dom.js";
import { age, DASH, fixed, tone } from "../format.js";
import { t, word } from "../i18n.js";
import { freshness } from "../store.js";
import { KillButton } from "./kill.js";
import { settings } from "./settings.js";

const LINK_TONES = { up: "good", connecting: "warn", down: "bad", refused: "bad", silent: "bad" };

/** The line as a person sees it: of the socket, else "silent" when it is up and the desk says nothing through it. */
export function linkState(bus, store) {
  if (bus.link !== "up") return bus.link;
  const isLost = store.get("link")?.bus === false;
  const age = store.ageS("desk");
  return isLost || (age !== null && freshness(age) === "frozen") ? "silent" : "up";
}

export class Bar {
  #store;
  #bus;
  #offs = [];
  #name = h("strong.brand.cut", {}, "makerdeck");
  #mode = h("span.pill", { dataset: { part: "mode" } }, DASH);
  #market = h("span.pill", { dataset: { part: "market" } }, DASH);
  #single = h("span.pill", { dataset: { part: "single", tone: "warn" }, hidden: true }, t("single"));
  #net = new Num("span");
  #orders = new Num("span");
  #running = new Num("span");
  #feed = h("span.pill", { dataset: { part: "feed" } }, DASH);
  #link = h("span.pill", { dataset: { part: "link" }, role: "status" }, DASH);

  constructor(element, { store, bus }) {
    this.#store = store;
    this.#bus = bus;
    element.replaceChildren(
      h("div.bar-group.bar-name", {}, this.#name, this.#mode, this.#market, this.#single),
      h("dl.bar-group.bar-figures", {},
        figure(t("bar.net"), this.#net.element, t("bar.net.help")),
        figure(t("bar.running"), this.#running.element, t("bar.running.help")),
        figure(t("bar.orders"), this.#orders.element, t("bar.orders.help")),
        figure(t("bar.feed"), this.#feed, t("bar.feed.help")),
        figure(t("bar.link"), this.#link, t("bar.link.help"))),
      settings(),
      new KillButton(store).element);
    this.#offs.push(store.watch(["desk", "feeds", "link"], () => this.render()));
  }

  close() { this.#offs.forEach((off) => off()); }

  render() {
    const desk = this.#store.get("desk");
    if (desk) this.#renderDesk(desk);
    this.#renderFeed();
    this.#renderLink();
  }

  #renderDesk(desk) {
    const isPaper = desk.env === "paper";
    setText(this.#name, desk.name);
    setText(this.#mode, t(`mode.${desk.env}`));
    setAttribute(this.#mode, "data-tone", isPaper ? "good" : desk.env === "live" ? "bad" : "warn");
    setAttribute(this.#mode, "title", t(isPaper ? "mode.paper.help" : "mode.other.help"));
    setText(this.#market, word("market", desk.market));
    setAttribute(this.#market, "data-tone", desk.market === "LIVE" ? "good" : "warn");
    setAttribute(this.#market, "title", t("market.help"));
    setAttribute(this.#single, "title", t("single.help"));
    this.#single.hidden = desk.bus !== "in-process";
    const unit = desk.net_currency + (desk.net_is_partial ? ` ${t("partial")}` : "");
    this.#net.set(fixed(desk.net, 2, { sign: true }), { tone: tone(desk.net, 2), unit });
    this.#running.set(`${desk.running}/${desk.workers}`);
    const unsure = desk.unknown_orders ? t("orders.unknown", { n: desk.unknown_orders }) : "";
    this.#orders.set(String(desk.open_orders), { tone: unsure && "warn", unit: unsure });
    setAttribute(this.#net.element.closest("dl"), "data-fresh", freshness(this.#store.ageS("desk")));
  }

  #renderFeed() {
    const view = this.#store.get("feeds");
    const since = this.#store.ageS("feeds");
    const ages = (view?.feeds ?? []).map((feed) => (feed.age_s === null ? null : feed.age_s + since));
    const worst = !ages.length || ages.includes(null) ? null : Math.max(...ages);
    const fresh = freshness(worst);
    const text = view && !ages.length ? t("feed.none") : `${t(`fresh.${fresh}`)} ${age(worst)}`;
    setText(this.#feed, text);
    setAttribute(this.#feed, "data-tone", { live: "good", stale: "warn", frozen: view && !ages.length ? "off" : "bad" }[fresh]);
    const lines = (view?.feeds ?? []).map((f) => `${f.instrument} ${f.market} ${f.state} ${age(f.age_s)} ${f.note}`.trim());
    setAttribute(this.#feed, "title", [t("bar.feed.help"), ...lines].join("\n"));
  }

  #renderLink() {
    const state = linkState(this.#bus, this.#store);
    setText(this.#link, t(`link.${state}`));
    setAttribute(this.#link, "data-tone", LINK_TONES[state]);
    const lost = this.#store.get("desk")?.bus;
    setAttribute(this.#link, "title", lost ? `${t("bar.link.help")} (${lost})` : t("bar.link.help"));
  }
}

function figure(label, value, help) {
  return h("div.figure", { title: help }, h("dt", {}, label), h("dd", {}, value));
}
