// One catalogue, three languages. `t` takes a key of ours; `say` takes text that came from the desk and translates it where
// the catalogue knows it, else shows it as it came; `field` does so for the names a schema gives.

import { catalogue, LANGUAGES } from "./catalogue.js";
import { prefs } from "./prefs.js";

export { LANGUAGES };

/** The text of `key` in the chosen language; `{name}` is replaced by `values.name`. */
export function t(key, values = {}) {
  return fill(pick(catalogue[key]) ?? key, values);
}

/** A word of a closed vocabulary of the desk (`word.QUOTING`, `state.running`): the word itself where we have no text. */
export function word(family, name) {
  if (name === null || name === undefined || name === "") return "";
  return pick(catalogue[`${family}.${name}`]) ?? String(name);
}

/** Name of a term of a price. Of "level 3" and the like the word is translated, its number kept. */
export function termName(name) {
  const [, head, number] = /^(.*?)(?: (\d+))?$/.exec(name);
  return number === undefined ? word("term", name) : `${word("term", head)} ${number}`;
}

/** A sentence of the desk. What the catalogue does not know is shown as it came. */
export function say(text) {
  if (!text || prefs.lang === "en") return text ?? "";
  for (const { pattern, names, key } of SENTENCES) {
    const found = pattern.exec(text);
    if (found) return fill(pick(catalogue[key]), Object.fromEntries(names.map((name, i) => [name, say(found[i + 1])])));
  }
  return text;
}

/** Title, help or unit of a schema field: in English the schema's own words, else our translation; each for want of the other. */
export function field(name, part, fallback) {
  const family = { title: "field", help: "help", unit: "unit" }[part];
  const ours = pick(catalogue[`${family}.${name}`]);
  return (prefs.lang === "en" ? (fallback ?? ours) : (ours ?? fallback)) ?? name.replaceAll("_", " ");
}

/** The `say` entries as patterns: a hole such as {0} takes any text. */
const SENTENCES = Object.keys(catalogue).filter((key) => key.startsWith("say.")).map((key) => {
  const names = [];
  const source = key.slice(4).split(/(\{\w+\})/).map((part) => {
    if (!/^\{\w+\}$/.test(part)) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    names.push(part.slice(1, -1));
    return "(.+?)";
  }).join("");
  return { key, names, pattern: new RegExp(`^${source}$`) };
});

function pick(entry) {
  return entry?.[Math.max(0, LANGUAGES.findIndex(([code]) => code === prefs.lang))];
}

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
