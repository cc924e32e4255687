// Answers to what a person just did. Announced to screen readers; good news leaves by itself, trouble stays until closed.

import { h } from "../dom.js";
import { t } from "../i18n.js";

const SHOWN_MS = 5000;
const KEPT = 4;

let region = null;

export function mountToasts(element) {
  region = element;
}

export function toast(text, kind = "good") {
  const close = () => box.remove();
  const box = h("div.toast", { dataset: { kind }, role: kind === "bad" ? "alert" : "status" },
    h("span", {}, text),
    h("button.plain.icon", { type: "button", onclick: close, "aria-label": t("close") }, "×"));
  region.append(box);
  while (region.children.length > KEPT) region.firstChild.remove();
  if (kind !== "bad") setTimeout(close, SHOWN_MS);
}
