// Sets theme, language and colour direction before the first paint, so that the page does not flash. A classic script in the
// head: the same keys as prefs.js, which is the module that changes them.
(() => {
  const root = document.documentElement;
  const read = (key) => {
    try { return localStorage.getItem(`makerdeck.${key}`); } catch { return null; }
  };
  root.dataset.theme = read("theme") === "light" ? "light" : "dark";
  root.dataset.flip = read("flip") === "red-up" ? "red-up" : "green-up";
  const wanted = read("lang") || navigator.language || "en";
  root.lang = /^zh\b.*(TW|HK|MO|Hant)/i.test(wanted) ? "zh-TW" : /^zh\b/i.test(wanted) ? "zh-CN" : "en";
})();
