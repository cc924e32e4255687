// Parameters and limits of a worker, changed while it runs: what was touched carries a dot, nothing leaves before Apply, and
// what the desk refuses is shown at its field with everything unchanged.

import { api, ApiError } from "../api.js";
import { complain } from "../commands.js";
import { h, setText } from "../dom.js";
import { t } from "../i18n.js";
import { schemas } from "../schemas.js";
import { Fields, focusFirstError } from "./form.js";
import { toast } from "./toast.js";

export class ParamsTab {
  #context;
  #element;
  #offs = [];
  #params = null;
  #limits = null;
  #version = null;
  #reason = h("input", { type: "text", autocomplete: "off", placeholder: t("params.reason"), "aria-label": t("params.reason") });
  #apply = h("button.primary", { type: "submit" }, t("params.apply"));
  #discard = h("button", { type: "button", onclick: () => this.#reset() }, t("params.discard"));
  #note = h("span.dim.small", { role: "status" });

  constructor(element, context) {
    this.#context = context;
    this.#element = element;
    element.replaceChildren(h("p.empty", {}, t("loading")));
    this.#build();
  }

  close() { this.#offs.forEach((off) => off()); }

  get #worker() { return this.#context.store.get(`worker/${this.#context.worker.id}`); }

  async #build() {
    let strategy;
    try {
      strategy = (await schemas()).strategies.find(({ name }) => name === this.#worker.strategy);
      if (!strategy) throw new ApiError("refused", { detail: `${this.#worker.strategy}?` });
    } catch (error) {
      this.#element.replaceChildren(h("p.empty", {}, error.message));
      return;
    }
    const oninput = () => this.#mark();
    this.#params = new Fields(strategy.schema, { group: "params", oninput });
    this.#limits = new Fields(strategy.limits_schema, { group: "limits", oninput });
    const form = h("form.params", { novalidate: true },
      h("div.params-actions.row", {}, this.#apply, this.#discard, this.#reason, this.#note),
      h("div.fields", {}, this.#params.elements),
      h("h3", {}, t("params.limits")),
      h("div.fields", {}, this.#limits.elements));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#element.replaceChildren(form);
    this.#offs.push(this.#context.store.watch([`worker/${this.#context.worker.id}`], () => this.#follow()));
    this.#take();
  }

  /** A version somebody else made is taken over, unless a person is in the middle of an edit: then it is only said. */
  #follow() {
    const worker = this.#worker;
    if (!worker || worker.params_version === this.#version) return;
    if (this.#isTouched) setText(this.#note, t("params.changed.elsewhere", { n: worker.params_version }));
    else this.#take();
  }

  #take() {
    const worker = this.#worker;
    this.#version = worker.params_version;
    this.#params.take(worker.params);
    this.#limits.take(worker.limits);
    for (const name of Object.keys(worker.limits)) this.#limits.note(name, worker.limits_derived.includes(name) ? ` · ${t("params.derived")}` : "");
    this.#mark();
  }

  get #isTouched() {
    return Object.keys(this.#params.changed()).length + Object.keys(this.#limits.changed()).length > 0;
  }

  #mark() {
    const count = Object.keys(this.#params.changed()).length + Object.keys(this.#limits.changed()).length;
    this.#apply.disabled = !count;
    this.#discard.disabled = !count;
    setText(this.#note, count ? t("params.touched", { n: count }) : t("params.version", { n: this.#version }));
  }

  #reset() {
    this.#reason.value = "";
    this.#take();
  }

  async #send() {
    const [params, limits] = [this.#params.changed(), this.#limits.changed()];
    const body = { reason: this.#reason.value.trim() };
    if (Object.keys(params).length) body.params = params;
    if (Object.keys(limits).length) body.limits = limits;
    this.#apply.disabled = true;
    try {
      const view = await api.patch(`/api/workers/${encodeURIComponent(this.#worker.id)}`, body);
      this.#context.store.put(`worker/${view.id}`, view);
      this.#reset();
      toast(t("params.applied", { n: view.params_version }), "good");
    } catch (error) {
      const left = this.#limits.complain(this.#params.complain(error.errors ?? []));
      if (left.length || !error.errors?.length) complain(error, t("params.apply"));
      focusFirstError(this.#element);
      this.#apply.disabled = false;
    }
  }
}
