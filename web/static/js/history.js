// What the selected worker did before this page was opened: its chart samples and its fills, asked for by REST and then grown
// by the socket. So stats and pictures survive stop and reload. One object per selected worker; closed when another is chosen.

import { api } from "./api.js";

const SAMPLES_KEPT = 3600; // an hour at one a second, as much as the desk keeps
const FILLS_KEPT = 10_000;
const PAGE = 200;
const RESTART_NS = 5e9; // a step back this long is a new beginning, not disorder

export class History {
  samples = [];
  fills = [];
  hasOlderFills = false;
  isLoaded = false;
  #watchers = new Set();
  #offs = [];
  #seen = new Set();
  #older = null; // as text: a nanosecond time has more digits than a JavaScript number keeps

  constructor(id, store) {
    this.id = id;
    this.#offs.push(store.listen(`series/${id}`, (series) => this.#addSamples(series.samples)));
    this.#offs.push(store.listen("fills", (view) => this.#addFills(view.fills)));
    const known = store.get("fills");
    if (known) this.#addFills(known.fills);
    this.#load();
  }

  watch(fn) {
    this.#watchers.add(fn);
    return () => this.#watchers.delete(fn);
  }

  close() {
    this.#offs.forEach((off) => off());
    this.#watchers.clear();
  }

  /** One more page of fills, older than what is here. */
  async loadOlderFills() {
    const before = this.#older ? `&before_ns=${this.#older}` : "";
    const page = await api.get(`/api/fills?worker=${encodeURIComponent(this.id)}&limit=${PAGE}${before}`);
    this.#addFills(page.fills);
    this.#older = page.next_before_ns;
    this.hasOlderFills = this.#older !== null && this.fills.length < FILLS_KEPT;
    this.#tell();
  }

  async #load() {
    const ask = `/api/workers/${encodeURIComponent(this.id)}/series`;
    const [series] = await Promise.allSettled([api.get(ask), this.loadOlderFills()]);
    if (series.status === "fulfilled") this.#addSamples(series.value.samples);
    this.isLoaded = true;
    this.#tell();
  }

  #addSamples(samples) {
    const newest = this.samples.at(-1)?.at_ns ?? 0;
    if (samples.length === 1 && samples[0].at_ns < newest - RESTART_NS) this.samples = []; // a tape began again
    const oldest = this.samples[0]?.at_ns ?? Infinity;
    const after = samples.filter((sample) => sample.at_ns > (this.samples.at(-1)?.at_ns ?? 0));
    const before = samples.filter((sample) => sample.at_ns < oldest && sample.at_ns <= newest);
    if (!after.length && !before.length) return;
    this.samples = [...before, ...this.samples, ...after].slice(-SAMPLES_KEPT);
    this.#tell();
  }

  #addFills(fills) {
    const fresh = fills.filter((fill) => fill.worker === this.id && !this.#seen.has(keyOf(fill)));
    if (!fresh.length) return 0;
    fresh.forEach((fill) => this.#seen.add(keyOf(fill)));
    this.fills = [...fresh, ...this.fills].sort((a, b) => b.venue_ns - a.venue_ns).slice(0, FILLS_KEPT);
    if (this.#seen.size > 2 * FILLS_KEPT) this.#seen = new Set(this.fills.map(keyOf));
    this.#tell();
    return fresh.length;
  }

  #tell() {
    for (const fn of [...this.#watchers]) fn();
  }
}

function keyOf(fill) {
  return `${fill.venue}|${fill.account}|${fill.symbol}|${fill.trade_id}`;
}
