// Every version of parameters and limits: who changed what, when and why. Only what differs from the one before is shown.

import { api } from "../api.js";
import { h } from "../dom.js";
import { clockTime, DASH } from "../format.js";
import { field, t } from "../i18n.js";

export class VersionsTab {
  #context;
  #element;
  #off;
  #shown = null;

  constructor(element, context) {
    this.#context = context;
    this.#element = element;
    this.#off = context.store.watch([`worker/${context.worker.id}`], () => this.#refresh());
  }

  close() { this.#off(); }

  async #refresh() {
    const version = this.#context.store.get(`worker/${this.#context.worker.id}`)?.params_version;
    if (version === this.#shown) return;
    this.#shown = version;
    try {
      const { versions } = await api.get(`/api/workers/${encodeURIComponent(this.#context.worker.id)}/versions`);
      this.#render(versions);
    } catch (error) {
      this.#shown = null;
      this.#element.replaceChildren(h("p.empty", {}, error.message));
    }
  }

  #render(versions) {
    const rows = versions.map((version, i) => h("tr", {},
      h("td.num", {}, String(version.version)), h("td.num", {}, clockTime(version.at_ns)), h("td", {}, version.by),
      h("td", {}, version.reason || DASH), h("td.changes", {}, changes(versions[i + 1], version).map((text) => h("div", {}, text)))));
    const titles = ["number", "time", "by", "reason", "changes"].map((name) => h(`th${name === "number" || name === "time" ? ".num" : ""}`, { scope: "col" }, t(`version.${name}`)));
    this.#element.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, titles)), h("tbody", {}, rows)));
  }
}

function changes(before, after) {
  const lines = [];
  for (const part of ["params", "limits"]) {
    for (const [name, value] of Object.entries(after[part] ?? {})) {
      const old = before?.[part]?.[name];
      if (before && String(old) === String(value)) continue;
      const label = field(name, "title");
      lines.push(before ? `${label} ${shown(old)} → ${shown(value)}` : `${label} ${shown(value)}`);
    }
  }
  return lines.length ? lines : [DASH];
}

function shown(value) {
  return value === null || value === undefined ? DASH : String(value);
}
