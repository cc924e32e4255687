// topic -> newest snapshot. Watchers run once a frame however many snapshots came; listeners run for each. Knows ages:
// since a snapshot arrived by this browser's clock, plus how old it was when it came. Knows neither socket nor page.

/** Up to here a number counts as current, then as old, then it must not be read as a price at all (DESIGN.md section 10). */
export const LIVE_S = 2;
export const STALE_S = 5;

const NS_PER_S = 1e9;
const SANE_LAG_S = 86400; // beyond it the two times belong to different clocks (a tape's and ours)

export class Store {
  #topics = new Map();
  #watchers = new Set();
  #listeners = new Set();
  #dirty = new Set();
  #frame = 0;
  #serverAheadMs = 0;

  get(topic) {
    return this.#topics.get(topic)?.data;
  }

  /** Newest data of a topic. An older one than we have (out of order) is dropped. */
  put(topic, data, publishedNs = data?.published_ns ?? null) {
    const had = this.#topics.get(topic);
    if (had && publishedNs !== null && had.publishedNs !== null && publishedNs < had.publishedNs) return;
    const now = performance.now();
    const isMoved = !had || publishedNs === null || publishedNs !== had.publishedNs;
    this.#topics.set(topic, {
      data,
      publishedNs,
      heardMs: isMoved ? now : had.heardMs,
      oldS: isMoved ? this.#oldOnArrival(publishedNs) : had.oldS,
    });
    this.#tell(topic, data);
  }

  drop(topic) {
    if (this.#topics.delete(topic)) this.#tell(topic, undefined);
  }

  /** How far the server's clock is ahead of ours; known from its answers. */
  set serverAheadMs(value) { this.#serverAheadMs = value; }

  /** Now, by the server's clock, in ns. */
  nowNs() { return (Date.now() + this.#serverAheadMs) * 1e6; }

  /** Seconds since the desk last said anything new on this topic; null when it never did. */
  ageS(topic) {
    const entry = this.#topics.get(topic);
    return entry ? (performance.now() - entry.heardMs) / 1000 + entry.oldS : null;
  }

  /** Seconds since the market behind this topic last moved: age of the topic plus how old the market was in it. */
  marketAgeS(topic) {
    const since = this.ageS(topic);
    const data = this.get(topic);
    if (since === null || !data?.market_ns) return null;
    const lag = (data.published_ns - data.market_ns) / NS_PER_S;
    return since + (lag > 0 && lag < SANE_LAG_S ? lag : 0);
  }

  /** Calls `fn()` in the next frame after any of `topics` changed, and once soon. Returns the way to stop that. */
  watch(topics, fn) {
    const watcher = { topics: new Set(topics), fn };
    this.#watchers.add(watcher);
    this.touch(topics[0]);
    return () => this.#watchers.delete(watcher);
  }

  /** Calls `fn(data)` at once for every snapshot of `topic`: for what must not miss one (charts, fills). */
  listen(topic, fn) {
    return this.listenAll((each, data) => { if (each === topic && data !== undefined) fn(data); });
  }

  /** Calls `fn(topic, data)` at once for every snapshot of every topic; data undefined: the topic is gone. */
  listenAll(fn) {
    this.#listeners.add(fn);
    return () => this.#listeners.delete(fn);
  }

  touch(topic) {
    this.#dirty.add(topic);
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  #tell(topic, data) {
    for (const fn of [...this.#listeners]) fn(topic, data);
    this.touch(topic);
  }

  #paint() {
    this.#frame = 0;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    for (const watcher of [...this.#watchers]) {
      if (this.#watchers.has(watcher) && [...watcher.topics].some((topic) => dirty.has(topic))) watcher.fn();
    }
  }

  #oldOnArrival(publishedNs) {
    if (publishedNs === null) return 0;
    const lag = (this.nowNs() - publishedNs) / NS_PER_S;
    return lag > LIVE_S ? lag : 0; // less than that is the difference of two clocks
  }
}

/** "live", "stale" or "frozen" for an age in seconds; unknown counts as frozen. */
export function freshness(ageS) {
  if (ageS === null || ageS > STALE_S) return "frozen";
  return ageS <= LIVE_S ? "live" : "stale";
}
