// Inventory around zero: grows right when long, left when short, the full half is the position limit.

import { h, setAttribute, setShare } from "../dom.js";
import { t } from "../i18n.js";

export class PositionBar {
  #short = h("span.pos-short.bar", {});
  #long = h("span.pos-long.bar", {});
  element = h("div.pos", { role: "img" }, this.#short, h("span.pos-zero", {}), this.#long);

  set(position, limit, base) {
    const isKnown = position !== null && limit > 0;
    const share = isKnown ? Math.abs(position) / limit : 0;
    setShare(this.#long, position > 0 ? share : 0);
    setShare(this.#short, position < 0 ? share : 0);
    const text = isKnown ? t("position.share", { percent: Math.round(share * 100), limit: `${limit} ${base}` }) : t("position.unknown");
    setAttribute(this.element, "aria-label", text);
    setAttribute(this.element, "title", text);
    setAttribute(this.element, "data-near", isKnown && share >= 0.8 ? "yes" : null);
  }
}
