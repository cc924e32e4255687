// The first row of a new desk: why something is trading already, within which limits, and how to end it.

import { complain, trade } from "../commands.js";
import { h, setAttribute, setText } from "../dom.js";
import { field, t } from "../i18n.js";
import { api } from "../api.js";
import { confirmDialog } from "./dialog.js";

export class DemoBanner {
  #fleet;
  #store;
  #element;
  #offs = [];
  #worker = null;
  #text = h("span", {});
  #limits = h("span.dim", {});
  #stop = h("button", { type: "button", dataset: { do: "demo-stop" }, title: t("tip.stop"), onclick: () => trade(this.#store, this.#worker, "stop") }, t("demo.stop"));
  #delete = h("button", { type: "button", dataset: { do: "demo-delete" }, title: t("tip.delete"), onclick: () => askDelete(this.#worker, this.#fleet) }, t("demo.delete"));

  constructor(element, { store, fleet }) {
    this.#store = store;
    this.#fleet = fleet;
    this.#element = element;
    element.replaceChildren(h("strong", {}, t("demo.title")), this.#text, this.#limits, h("span.row.tight.push", {}, this.#stop, this.#delete));
    this.#offs.push(fleet.watch(() => this.render()), store.watch(["workers", "tick"], () => this.render()));
  }

  close() { this.#offs.forEach((off) => off()); }

  render() {
    const worker = this.#fleet.workers.find((each) => each.is_demo);
    this.#worker = worker;
    this.#element.hidden = !worker;
    if (!worker) return;
    const isStopped = worker.state === "stopped";
    setText(this.#text, t(isStopped ? "demo.stopped" : "demo.text", { name: worker.name }));
    setText(this.#limits, t("demo.limits", { limits: limitTexts(worker, STATED).join(" · ") }));
    setAttribute(this.#limits, "title", limitTexts(worker, Object.keys(worker.limits)).join("\n"));
    this.#stop.hidden = isStopped;
    this.#delete.disabled = !isStopped;
  }
}

const STATED = ["max_order_value", "max_position", "max_open_orders"]; // the others in the tooltip, all under Parameters

function limitTexts(worker, names) {
  const units = { max_order_value: worker.quote, max_order_qty: worker.base, max_position: worker.base };
  return names.filter((name) => name in worker.limits)
    .map((name) => [field(name, "title"), worker.limits[name], units[name]].filter((part) => part !== undefined).join(" "));
}

/** Deleting is only for stopped workers, and asked twice. */
export function askDelete(worker, fleet) {
  confirmDialog({
    title: t("delete.title", { name: worker.name }),
    lines: [t("delete.does"), t("delete.not")],
    action: t("verb.delete"),
    act: async () => {
      try {
        await api.remove(`/api/workers/${encodeURIComponent(worker.id)}`);
      } catch (error) {
        complain(error, t("verb.delete"), worker.name);
      }
      fleet.refresh();
    },
  });
}
