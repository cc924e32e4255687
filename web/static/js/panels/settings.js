// Language, theme, which way is green, and the help sheet: small choices of this browser.

import { h } from "../dom.js";
import { LANGUAGES, t } from "../i18n.js";
import { prefs } from "../prefs.js";
import { openHelp } from "./help.js";

export function settings() {
  const box = h("div.settings", { id: "settings" });
  const more = h("button.plain.icon.settings-more", {
    type: "button", "aria-label": t("settings"), "aria-expanded": "false", "aria-controls": "settings",
    onclick: () => more.setAttribute("aria-expanded", String(box.classList.toggle("is-open"))),
  }, "⋯");
  const language = h("select", { "aria-label": t("settings.language"), onchange: () => { prefs.lang = language.value; } },
    LANGUAGES.map(([code, name]) => h("option", { value: code, lang: code, selected: code === prefs.lang }, name)));
  const isLight = prefs.theme === "light";
  const isRedUp = prefs.flip === "red-up";
  box.append(
    language,
    h("button.plain.icon", {
      type: "button", title: t(isLight ? "settings.dark" : "settings.light"), "aria-label": t(isLight ? "settings.dark" : "settings.light"),
      dataset: { do: "theme" }, onclick: () => { prefs.theme = isLight ? "dark" : "light"; },
    }, isLight ? "☾" : "☀"),
    h("button.plain.flip", {
      type: "button", title: t("settings.flip"), "aria-label": t("settings.flip"), "aria-pressed": String(isRedUp),
      dataset: { do: "flip" }, onclick: () => { prefs.flip = isRedUp ? "green-up" : "red-up"; },
    }, h("span.up", { "aria-hidden": "true" }, "▲"), h("span.down", { "aria-hidden": "true" }, "▼")),
    h("button.plain.icon", { type: "button", title: t("help"), "aria-label": t("help"), dataset: { do: "help" }, onclick: openHelp }, "?"));
  return h("div.settings-wrap", {}, more, box);
}
