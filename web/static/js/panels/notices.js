// What a person should read: notices of this worker and of the desk, newest first.

import { h, setText } from "../dom.js";
import { clockTime } from "../format.js";
import { say, t, word } from "../i18n.js";

const LEVEL_TONES = { info: "select", warning: "warn", error: "bad" };

export class NoticesTab {
  #context;
  #off;
  #isAll = false;
  #list = h("ol.notices", {});
  #empty = h("p.empty", {}, t("notices.empty"));
  #last = "";

  constructor(element, context) {
    this.#context = context;
    const all = h("input", { type: "checkbox", onchange: () => { this.#isAll = all.checked; this.render(); } });
    element.replaceChildren(h("label.row.tight.notices-all", {}, all, t("notices.all")), this.#list, this.#empty);
    this.#off = context.store.watch(["notices"], () => this.render());
  }

  close() { this.#off(); }

  render() {
    const { store, worker } = this.#context;
    const notices = (store.get("notices")?.notices ?? []).filter((n) => this.#isAll || n.worker === worker.id || n.worker === "");
    this.#empty.hidden = notices.length > 0;
    const key = `${this.#isAll} ${notices.length} ${notices[0]?.at_ns}`;
    if (key === this.#last) return;
    this.#last = key;
    this.#list.replaceChildren(...notices.map((notice) => {
      const text = h("span", {});
      setText(text, say(notice.text));
      return h("li", {},
        h("span.num.faint", {}, clockTime(notice.at_ns)),
        h("span.pill.tiny", { dataset: { tone: LEVEL_TONES[notice.level] ?? "off" } }, word("level", notice.level)),
        h("span.dim", {}, store.get(`worker/${notice.worker}`)?.name ?? notice.worker), text);
    }));
  }
}
