// Which workers there are, and which one is looked at. The socket tells of all of them; REST is asked at the start, after a
// reconnect, and when a worker appears. The selected one stands in the address, else it is the first.

import { api } from "./api.js";
import { route } from "./route.js";

const PREFIX = "worker/";

export class Fleet {
  #store;
  #ids = [];
  #watchers = new Set();
  #loading = null;
  #counted = null;
  isKnown = false;

  constructor(store, bus) {
    this.#store = store;
    bus.want(["worker/*", "series/*"]);
    route.watch(() => this.#tell());
    store.listenAll((topic, data) => {
      if (topic === "desk" && data) this.#count(data.workers);
      if (!topic.startsWith(PREFIX)) return;
      const id = topic.slice(PREFIX.length);
      if (this.isKnown && (data === undefined) === this.#ids.includes(id)) this.#change(id, data !== undefined);
    });
  }

  /** Newest views, oldest worker first. */
  get workers() {
    return this.#ids.map((id) => this.#store.get(PREFIX + id)).filter(Boolean);
  }

  get selected() {
    const workers = this.workers;
    return workers.find((worker) => worker.id === route.worker) ?? workers[0] ?? null;
  }

  select(id) { route.go({ w: id }); }

  /** Selects the next (+1) or previous (-1) worker. */
  step(by) {
    const workers = this.workers;
    if (!workers.length) return;
    const at = workers.indexOf(this.selected);
    this.select(workers[(at + by + workers.length) % workers.length].id);
  }

  /** Calls `fn` when workers came, went, or another one was selected. */
  watch(fn) {
    this.#watchers.add(fn);
    fn();
    return () => this.#watchers.delete(fn);
  }

  async refresh() {
    this.#loading ??= this.#load().finally(() => { this.#loading = null; });
    return this.#loading;
  }

  async #load() {
    const { workers } = await api.get("/api/workers");
    const ids = workers.map(({ id }) => id);
    for (const id of this.#ids) if (!ids.includes(id)) this.#store.drop(PREFIX + id);
    this.#ids = ids;
    for (const worker of workers) this.#store.put(PREFIX + worker.id, worker);
    this.isKnown = true;
    this.#tell();
  }

  /** The desk counts another number than before and than we do: something was missed. */
  #count(workers) {
    const isNews = this.isKnown && workers !== this.#counted && workers !== this.#ids.length;
    this.#counted = workers;
    if (isNews) this.refresh();
  }

  #change(id, isThere) {
    this.#ids = isThere ? [...this.#ids, id] : this.#ids.filter((each) => each !== id);
    this.#tell();
  }

  #tell() {
    for (const fn of [...this.#watchers]) fn();
    this.#store.touch("workers");
  }
}
