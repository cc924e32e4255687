// What a person chose for this browser: language, theme, which way is green. Kept in localStorage, worn by <html>.

const root = document.documentElement;

function keep(key, value) {
  try { localStorage.setItem(`makerdeck.${key}`, value); } catch { /* private window: lasts until reload */ }
}

function tell() {
  window.dispatchEvent(new CustomEvent("prefs"));
}

export const prefs = {
  get lang() { return root.lang; },
  set lang(value) { root.lang = value; keep("lang", value); tell(); },

  get theme() { return root.dataset.theme; },
  set theme(value) { root.dataset.theme = value; keep("theme", value); tell(); },

  get flip() { return root.dataset.flip; },
  set flip(value) { root.dataset.flip = value; keep("flip", value); tell(); },

  /** Calls `fn` after each change; returns the way to stop that. */
  watch(fn) {
    window.addEventListener("prefs", fn);
    return () => window.removeEventListener("prefs", fn);
  },
};
