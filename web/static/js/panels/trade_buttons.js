// Start, pause, stop of one worker. Each tooltip says what the verb does not do. A button waits for its answer, and only
// verbs that make sense now can be pressed.

import { isUnderWay, trade } from "../commands.js";
import { glyph, h, setAttribute } from "../dom.js";
import { t } from "../i18n.js";

const VERBS = ["start", "pause", "stop"];
const ALLOWED = {
  start: (state) => !["running", "stopping"].includes(state),
  pause: (state) => state === "running",
  stop: (state) => state !== "stopped" && state !== "stopping",
};

export class TradeButtons {
  #worker = null;
  #buttons;

  constructor(store, { isSmall = false } = {}) {
    this.#buttons = VERBS.map((verb) => {
      const button = h(isSmall ? "button.icon" : "button", {
        type: "button", dataset: { do: verb }, title: t(`tip.${verb}`), "aria-label": t(`verb.${verb}`),
        onclick: () => this.#worker && trade(store, this.#worker, verb),
      });
      button.append(glyph(verb));
      if (!isSmall) button.append(t(`verb.${verb}`));
      return button;
    });
    this.element = h("div.trade.row.tight", { role: "group", "aria-label": t("col.do") }, this.#buttons);
  }

  set(worker) {
    this.#worker = worker;
    this.#buttons.forEach((button, i) => {
      const verb = VERBS[i];
      const isBusy = isUnderWay(worker.id, verb);
      button.disabled = isBusy || !ALLOWED[verb](worker.state);
      button.classList.toggle("is-busy", isBusy);
      setAttribute(button, "aria-busy", isBusy ? "true" : null);
    });
  }
}
