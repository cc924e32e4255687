// The form that makes a worker: strategy, market, and every parameter and limit of the schema. Errors stand at their fields
// and nothing was made while there is one.

import { api } from "../api.js";
import { complain, trade } from "../commands.js";
import { h, setText } from "../dom.js";
import { t } from "../i18n.js";
import { schemas } from "../schemas.js";
import { openDialog } from "./dialog.js";
import { Field, Fields, focusFirstError } from "./form.js";
import { toast } from "./toast.js";

let opened = null;

export async function openCreate(context) {
  if (opened) return;
  let known;
  try {
    known = await schemas();
    if (opened) return; // asked twice while waiting
  } catch (error) {
    complain(error, t("create.open"));
    return;
  }
  new CreateForm(context, known);
}

class CreateForm {
  #store;
  #fleet;
  #known;
  #dialog;
  #head = new Map();
  #params;
  #limits;
  #headPlace = h("div.fields", {});
  #paramsPlace = h("div.fields", {});
  #limitsPlace = h("div.fields", {});
  #error = h("p.field-error", { role: "alert" });
  #starts = h("input", { type: "checkbox", name: "starts" });
  #submit = h("button.primary", { type: "submit" }, t("create.make"));

  constructor({ store, fleet }, known) {
    this.#store = store;
    this.#fleet = fleet;
    this.#known = known;
    this.#add("strategy", { title: t("create.strategy"), enum: known.strategies.map(({ name }) => name), labels: labels(known.strategies) }, () => this.#schema());
    this.#add("venue", { title: t("create.venue"), enum: known.venues.map(({ name }) => name), labels: labels(known.venues) }, () => this.#venue());
    this.#head.get("venue").value = known.venues.find(({ configured }) => configured)?.name ?? known.venues[0]?.name;
    this.#venue();
    const form = h("form.create", { novalidate: true, "aria-label": t("create.open") },
      h("p.dim", {}, t("create.paper")),
      this.#headPlace,
      h("h3", {}, t("create.params")), this.#paramsPlace,
      h("h3", {}, t("create.limits")), h("p.dim.small", {}, t("create.limits.help")), this.#limitsPlace,
      this.#error,
      h("div.actions", {},
        h("label.row.tight", {}, this.#starts, t("create.starts")),
        h("span.push", {}),
        h("button", { type: "button", onclick: () => this.#dialog.close() }, t("cancel")), this.#submit));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(form);
    });
    this.#schema();
    this.#dialog = openDialog(t("create.open"), form, { isModal: false, onclose: () => { opened = null; } });
    opened = this.#dialog;
    this.#head.get("symbol").focus();
  }

  #add(name, rule, oninput = () => {}) {
    this.#head.set(name, new Field(name, { type: "string", ...rule }, { oninput }));
  }

  /** What depends on the venue: its symbols, and whose money it may be. */
  #venue() {
    const venue = this.#known.venues.find(({ name }) => name === this.#head.get("venue").value);
    const envs = venue?.envs?.length ? venue.envs : ["paper"];
    this.#add("symbol", { title: t("create.symbol"), description: t("create.symbol.help"), suggestions: venue?.symbols ?? [] });
    const shown = this.#fleet.selected?.symbol;
    this.#head.get("symbol").value = venue?.symbols?.includes(shown) ? shown : (venue?.symbols?.[0] ?? "");
    this.#add("env", { title: t("create.env"), description: t("create.env.help"), enum: envs, labels: Object.fromEntries(envs.map((env) => [env, t(`mode.${env}`)])) });
    this.#add("name", { title: t("create.name"), description: t("create.name.help") });
    this.#add("account", { title: t("create.account"), description: t("create.account.help") });
    this.#head.get("account").value = "main";
    this.#add("resume_after_restart", { title: t("create.resume"), description: t("create.resume.help"), type: "boolean" });
    this.#headPlace.replaceChildren(...[...this.#head.values()].map((each) => each.element));
  }

  get #strategy() {
    return this.#known.strategies.find(({ name }) => name === this.#head.get("strategy").value) ?? this.#known.strategies[0];
  }

  #schema() {
    this.#params = new Fields(this.#strategy.schema, { group: "params" });
    this.#limits = new Fields(this.#strategy.limits_schema, { group: "limits" });
    this.#paramsPlace.replaceChildren(...this.#params.elements);
    this.#limitsPlace.replaceChildren(...this.#limits.elements);
  }

  async #send(form) {
    const head = Object.fromEntries([...this.#head].map(([name, each]) => [name, each.value ?? ""]));
    const body = { kind: this.#strategy.kind, ...head, params: this.#params.filled(), limits: this.#limits.filled() };
    this.#submit.disabled = true;
    setText(this.#error, "");
    try {
      const view = await api.post("/api/workers", body);
      await this.#fleet.refresh();
      this.#fleet.select(view.id);
      this.#dialog.close();
      if (this.#starts.checked) await trade(this.#store, view, "start");
      else toast(t("create.done", { name: view.name }), "good");
    } catch (error) {
      this.#complain(error);
      focusFirstError(form);
    } finally {
      this.#submit.disabled = false;
    }
  }

  #complain(error) {
    let left = this.#limits.complain(this.#params.complain(error.errors ?? []));
    for (const each of this.#head.values()) each.complain("");
    left = left.filter(({ field, message }) => {
      this.#head.get(field)?.complain(message);
      return !this.#head.has(field);
    });
    const rest = left.map(({ field, message }) => `${field}: ${message}`).join("; ");
    const how = { unreachable: "fail.unreachable", unknown: "fail.unknown" }[error.outcome];
    if (how) setText(this.#error, t(how, { what: t("create.make"), name: "" }));
    else setText(this.#error, rest || (error.errors?.length ? t("create.fix") : error.message));
  }
}

function labels(entries) {
  return Object.fromEntries(entries.map(({ name, title }) => [name, title ?? name]));
}
