// The help sheet: keys, words and colours. Keys only move around; none touches an order.

import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { openDialog } from "./dialog.js";

export const KEYS = [
  ["?", "key.help"],
  ["j / k", "key.workers"],
  ["1 … 5", "key.tabs"],
  ["n", "key.new"],
  ["f", "key.fleet"],
  ["m", "key.market"],
  ["Esc", "key.close"],
];

const WORDS = ["QUOTING", "ONE-SIDED", "WAITING", "PAUSED", "REDUCING", "HALTED", "STOPPING", "DISCONNECTED", "STOPPED", "FAILED"];

let shown = null;

export function openHelp() {
  if (shown) return;
  const pairs = (rows) => h("dl.pairs", {}, rows.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  const content = h("div", {},
    h("section", {}, h("h3", {}, t("help.keys")), pairs(KEYS.map(([key, text]) => [h("kbd", {}, key), t(text)]))),
    h("section", {}, h("h3", {}, t("help.verbs")), pairs(["start", "pause", "stop", "kill"].map((verb) => [t(`verb.${verb}`), t(`tip.${verb}`)]))),
    h("section", {}, h("h3", {}, t("help.words")), pairs(WORDS.map((name) => [word("word", name), t(`wordhelp.${name}`)]))),
    h("section", {}, h("h3", {}, t("help.numbers")), h("p.dim", {}, t("help.numbers.text"))));
  const close = h("button.primary", { type: "button", onclick: () => shown?.close() }, t("close"));
  content.append(h("div.actions", {}, close));
  shown = openDialog(t("help.title"), content, { isModal: false, onclose: () => { shown = null; } });
  close.focus();
}
