// What the page shows stands in its address: #w=w1&tab=fills. So a view can be bookmarked, sent and reloaded.

function parse() {
  return new URLSearchParams(location.hash.replace(/^#\/?/, ""));
}

export const route = {
  get worker() { return parse().get("w"); },
  get tab() { return parse().get("tab") ?? "orders"; },

  /** Changes the named parts, keeps the others. */
  go(changes) {
    const parts = parse();
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) parts.delete(key);
      else parts.set(key, value);
    }
    const hash = `#${parts}`;
    if (hash !== location.hash) location.hash = hash;
  },

  watch(fn) {
    window.addEventListener("hashchange", fn);
    return () => window.removeEventListener("hashchange", fn);
  },
};
