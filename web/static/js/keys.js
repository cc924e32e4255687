// Keys that move around. None of them touches an order, so they are always on; they are dead while one writes.

import { openCreate } from "./panels/create.js";
import { openHelp } from "./panels/help.js";
import { TAB_NAMES } from "./panels/tabs.js";
import { route } from "./route.js";

export function listenToKeys(context) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
    const act = actionOf(event.key, context);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function actionOf(key, context) {
  const show = (id) => () => {
    const element = document.getElementById(id);
    element.scrollIntoView({ block: "start" });
    element.focus({ preventScroll: true });
  };
  const tab = TAB_NAMES[Number(key) - 1];
  if (tab) return () => route.go({ tab });
  return {
    "?": openHelp,
    j: () => context.fleet.step(1),
    k: () => context.fleet.step(-1),
    n: () => openCreate(context),
    f: show("fleet"),
    m: show("market"),
  }[key];
}
