// The one red button. Held for a second it fires; clicked it asks first. It is a plain POST, so it works while the socket is
// down, and it is one-way: the banner it leaves can only be released by typing, and starts nothing.

import { api } from "../api.js";
import { complain, receiptLine } from "../commands.js";
import { glyph, h, setText } from "../dom.js";
import { clockTime } from "../format.js";
import { say, t } from "../i18n.js";
import { confirmDialog } from "./dialog.js";
import { toast } from "./toast.js";

const HOLD_MS = 1000;
const RELEASE_WORD = "RELEASE";
const RECEIPT_KEY = "makerdeck.kill-receipt";

export class KillButton {
  #store;
  #timer = 0;
  #hasFired = false;

  constructor(store) {
    this.#store = store;
    this.element = h("button.danger.kill", { type: "button", id: "kill", title: t("kill.help") },
      h("span.kill-fill", { "aria-hidden": "true" }), glyph("stopsign"), h("span", {}, t("kill.button")));
    const on = (name, fn) => this.element.addEventListener(name, fn);
    on("pointerdown", (event) => this.#press(event));
    for (const name of ["pointerup", "pointerleave", "pointercancel"]) on(name, () => this.#lift());
    on("click", () => this.#click());
    on("contextmenu", (event) => event.preventDefault());
  }

  #press(event) {
    if (event.button !== 0) return;
    this.#hasFired = false;
    this.element.classList.add("is-held");
    this.#timer = setTimeout(() => {
      this.#hasFired = true;
      this.#lift();
      kill(this.#store, "red button held on the page");
    }, HOLD_MS);
  }

  #lift() {
    clearTimeout(this.#timer);
    this.element.classList.remove("is-held");
  }

  #click() {
    if (this.#hasFired) {
      this.#hasFired = false;
      return;
    }
    confirmDialog({
      title: t("kill.title"),
      lines: [t("kill.does"), t("kill.not"), t("kill.hold")],
      action: t("kill.button"),
      act: () => kill(this.#store, "red button confirmed on the page"),
    });
  }
}

async function kill(store, reason) {
  document.body.classList.add("is-killing");
  try {
    const receipt = await api.post("/api/kill", { reason });
    remember(receipt);
    store.put("desk", await api.get("/api/desk")); // the socket may be down: the banner must show all the same
    // confirmed, the banner says it; in doubt it is said twice
    if (!receipt.confirmed) toast(`${t("kill.done")} ${receiptLine(receipt)}`, "bad");
  } catch (error) {
    complain(error, t("verb.kill"));
    toast(t("kill.otherways"), "bad");
  } finally {
    document.body.classList.remove("is-killing");
  }
}

/** The banner of a killed desk: what was done, what was not, and the way out. */
export class KillBanner {
  #store;
  #off;
  #element;
  #why = h("span", {});
  #receipt = h("span.num", {});

  constructor(element, { store }) {
    this.#store = store;
    this.#element = element;
    element.replaceChildren(
      h("strong", {}, glyph("stopsign"), " ", t("killed.title")),
      this.#why, this.#receipt, h("span.dim", {}, t("kill.not")),
      h("button.push", { type: "button", dataset: { do: "release" }, onclick: () => this.#ask() }, t("release.button")));
    this.#off = store.watch(["desk"], () => this.render());
  }

  close() { this.#off(); }

  render() {
    const desk = this.#store.get("desk");
    this.#element.hidden = !desk?.is_killed;
    if (!desk?.is_killed) return;
    setText(this.#why, desk.kill_reason ? t("killed.why", { reason: say(desk.kill_reason) }) : "");
    const receipt = recall();
    setText(this.#receipt, receipt && receipt.at_ns >= desk.started_ns ? `${clockTime(receipt.at_ns)} ${receiptLine(receipt)}` : "");
  }

  #ask() {
    confirmDialog({
      title: t("release.title"),
      lines: [t("release.does"), t("release.not")],
      action: t("release.button"),
      danger: false,
      typed: RELEASE_WORD,
      act: () => this.#release(),
    });
  }

  async #release() {
    try {
      this.#store.put("desk", await api.post("/api/kill/release", { confirm: RELEASE_WORD }));
      toast(t("release.done"), "good");
    } catch (error) {
      complain(error, t("verb.release"));
    }
  }
}

function remember(receipt) {
  try { sessionStorage.setItem(RECEIPT_KEY, JSON.stringify(receipt)); } catch { /* shown in the toast all the same */ }
}

function recall() {
  try { return JSON.parse(sessionStorage.getItem(RECEIPT_KEY)); } catch { return null; }
}
