// A form out of a JSON Schema: every property becomes a field with its label, unit, range, default, when it takes effect,
// and the place where its error is shown. Ranges are checked by the desk, so that there is one judge; here text is only
// turned into JSON.

import { h, setAttribute, setText } from "../dom.js";
import { decimalsOf, fixed, plain } from "../format.js";
import { field as named, t } from "../i18n.js";

const ENDLESS = 1e9; // bounds beyond it only keep out nonsense; no person needs to read them

let made = 0;

export class Fields {
  #fields = new Map();

  /** `group` prefixes the names the desk uses in errors: "params" or "limits". */
  constructor(schema, { group, oninput = () => {} }) {
    const required = new Set(schema?.required ?? []);
    for (const [name, rule] of Object.entries(schema?.properties ?? {})) {
      this.#fields.set(name, new Field(name, rule, { group, isRequired: required.has(name), oninput }));
    }
    this.elements = [...this.#fields.values()].map((each) => each.element);
  }

  /** What stands in the form, as JSON. A blank field that has a default, or may be absent, is left out. */
  filled() {
    return Object.fromEntries([...this.#fields].filter(([, each]) => !each.isBlank).map(([name, each]) => [name, each.value]));
  }

  /** Shows these values and takes them as what "changed" is measured against. */
  take(values) {
    for (const [name, each] of this.#fields) each.take(values[name]);
  }

  /** Only what a person changed since `take`. */
  changed() {
    return Object.fromEntries([...this.#fields].filter(([, each]) => each.isChanged).map(([name, each]) => [name, each.value]));
  }

  discard() {
    for (const each of this.#fields.values()) each.discard();
  }

  /** Puts messages to their fields; returns those that found none. */
  complain(errors) {
    for (const each of this.#fields.values()) each.complain("");
    return errors.filter(({ field, message }) => {
      const [group, name] = field.split(".");
      const found = [...this.#fields.values()].find((each) => each.group === group && each.name === name);
      found?.complain(message);
      return !found;
    });
  }

  note(name, text) { this.#fields.get(name)?.note(text); }
}

export class Field {
  #input;
  #error;
  #dot = h("span.changed-dot", { hidden: true, role: "img", "aria-label": t("form.changed"), title: t("form.changed") });
  #note = h("span.faint.small", { hidden: true });
  #rule;
  #types;
  #taken = "";

  constructor(name, rule, { group = "", isRequired = false, oninput = () => {} } = {}) {
    this.name = name;
    this.group = group;
    this.#rule = rule;
    this.#types = typesOf(rule);
    const id = `field-${group}-${name}-${++made}`;
    this.#error = h("span.field-error", { id: `${id}-error`, role: "alert" });
    this.#input = this.#makeInput(id, isRequired);
    this.#input.addEventListener("input", () => {
      this.complain("");
      this.#mark();
      oninput();
    });
    const hint = [rangeText(rule, this.#types), defaultText(rule)].filter(Boolean).join(" · ");
    const unit = rule.unit ? h("span.unit", {}, named(rule.unit, "unit", rule.unit)) : null;
    const when = "live" in rule ? h("span.when", { dataset: { live: String(Boolean(rule.live)) }, title: t(rule.live ? "form.live.help" : "form.restart.help") }, t(rule.live ? "form.live" : "form.restart")) : null;
    this.element = h("div.field", { dataset: { field: group ? `${group}.${name}` : name } },
      h("label", { for: id }, h("span", {}, named(name, "title", rule.title ?? name)), this.#dot, when),
      h("div.field-input", {}, this.#input, unit),
      h("span.hint.faint.small", { id: `${id}-hint` }, hint, this.#note),
      this.#error,
      rule.description ? h("span.help.dim.small", {}, named(name, "help", rule.description)) : null);
  }

  #makeInput(id, isRequired) {
    const shared = { id, name: this.name, "aria-describedby": `${id}-hint ${id}-error`, "aria-required": isRequired ? "true" : null };
    if (this.#rule.enum) {
      return h("select", shared, this.#rule.enum.map((value) => h("option", { value: String(value) }, this.#rule.labels?.[value] ?? String(value))));
    }
    if (this.#types.includes("boolean")) return h("input", { ...shared, type: "checkbox", checked: this.#rule.default === true });
    const isNumber = this.#types.includes("number") || this.#types.includes("integer") || "unit" in this.#rule;
    const list = this.#rule.suggestions && h("datalist", { id: `${id}-list` }, this.#rule.suggestions.map((value) => h("option", { value })));
    const input = h("input", {
      ...shared, type: "text", autocomplete: "off", spellcheck: "false", inputmode: isNumber ? "decimal" : null, list: list ? list.id : null,
      placeholder: textOf(this.#rule.default) || (this.#types.includes("null") ? t("form.automatic") : null),
    });
    if (list) input.append(list);
    return input;
  }

  get #text() {
    return this.#input.type === "checkbox" ? String(this.#input.checked) : this.#input.value.trim();
  }

  set #text(text) {
    if (this.#input.type === "checkbox") this.#input.checked = text === "true";
    else this.#input.value = text;
    this.#mark();
  }

  get isBlank() { return this.#text === ""; }
  get isChanged() { return this.#text !== this.#taken; }

  /** As JSON: text stays text where the schema allows it (decimals), so no digit is lost. */
  get value() {
    const text = this.#text;
    if (text === "") return null;
    if (this.#input.type === "checkbox") return this.#input.checked;
    const isNumber = this.#types.includes("number") || this.#types.includes("integer");
    return isNumber && !this.#types.includes("string") && plain(text) !== null ? Number(text) : text;
  }

  set value(value) { this.#text = textOf(value); }

  take(value) {
    this.#taken = this.#input.type === "checkbox" ? String(value === true) : textOf(value);
    this.#text = this.#taken;
    this.complain("");
  }

  discard() {
    this.#text = this.#taken;
    this.complain("");
  }

  complain(message) {
    setText(this.#error, message);
    setAttribute(this.#input, "aria-invalid", message ? "true" : null);
  }

  note(text) {
    setText(this.#note, text);
    this.#note.hidden = !text;
  }

  focus() { this.#input.focus(); }

  #mark() { this.#dot.hidden = !this.isChanged; }
}

function typesOf(rule) {
  const listed = rule.anyOf ? rule.anyOf.map((option) => option.type) : [rule.type ?? "string"];
  return listed.flat();
}

function textOf(value) {
  return value === null || value === undefined ? "" : String(value);
}

function rangeText(rule, types) {
  const bounds = { ...Object.assign({}, ...(rule.anyOf ?? [])), ...rule };
  const parts = [];
  if (bounds.exclusiveMinimum !== undefined) parts.push(t("range.above", { n: shown(bounds.exclusiveMinimum) }));
  else if (bounds.minimum !== undefined) parts.push(t("range.from", { n: shown(bounds.minimum) }));
  if (bounds.exclusiveMaximum !== undefined) parts.push(t("range.below", { n: shown(bounds.exclusiveMaximum) }));
  else if (bounds.maximum !== undefined && Number(bounds.maximum) < ENDLESS) parts.push(t("range.to", { n: shown(bounds.maximum) }));
  if (types.includes("integer")) parts.push(t("range.whole"));
  return parts.join(", ");
}

function shown(bound) {
  return fixed(bound, decimalsOf(bound));
}

function defaultText(rule) {
  if (!("default" in rule)) return "";
  return t("form.default", { value: rule.default === null ? t("form.automatic") : String(rule.default) });
}

/** Moves the person to the first complaint. */
export function focusFirstError(element) {
  element.querySelector("[aria-invalid='true']")?.focus();
}
