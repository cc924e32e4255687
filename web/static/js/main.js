// Builds the page: one store, one socket, one fleet, and the panels on their elements. Panels are taken down and put up again
// when the language changes, which is the whole of translation at run time.

import { openSession } from "./api.js";
import { Bus } from "./bus.js";
import { Fleet } from "./fleet.js";
import { say, t } from "./i18n.js";
import { listenToKeys } from "./keys.js";
import { Bar, linkState } from "./panels/bar.js";
import { DemoBanner } from "./panels/demo.js";
import { FleetPanel } from "./panels/fleet.js";
import { KillBanner } from "./panels/kill.js";
import { MarketPanel } from "./panels/market.js";
import { mountToasts, toast } from "./panels/toast.js";
import { prefs } from "./prefs.js";
import { Store } from "./store.js";

const TICK_MS = 500; // how often ages are looked at
const RETRY_MS = 2000;

const PANELS = [["bar", Bar], ["killed", KillBanner], ["demo", DemoBanner], ["fleet", FleetPanel], ["market", MarketPanel]];

const store = new Store();
const bus = new Bus(store, (link) => {
  store.touch("link");
  notice();
  // after a break a desk may be another, and after a refusal the login may be over
  if (link === "refused" || (link === "up" && fleet.isKnown)) begin();
});
const fleet = new Fleet(store, bus);
const context = { store, bus, fleet };
let panels = [];
let shownLang = null;
let newestNotice = null; // ns

function mount() {
  if (shownLang === prefs.lang && panels.length) {
    panels[0].close();
    panels[0] = new Bar(document.getElementById("bar"), context); // theme and flip only change its buttons
    return;
  }
  shownLang = prefs.lang;
  panels.forEach((panel) => panel.close());
  panels = PANELS.map(([id, Panel]) => new Panel(document.getElementById(id), context));
  document.getElementById("skip").textContent = t("skip");
  notice();
}

/** What the whole page must say about its line to the desk. */
function notice() {
  const element = document.getElementById("notice");
  const key = { silent: "link.silent.long", down: "link.down.long", refused: "link.refused.long" }[linkState(bus, store)];
  const text = key && t(key, { reason: bus.reason });
  element.hidden = !text;
  if (text && element.textContent !== text) element.textContent = text;
}

async function begin() {
  try {
    const session = await openSession();
    store.serverAheadMs = session.serverAheadMs;
    await fleet.refresh();
  } catch (error) {
    if (error.status !== 401) setTimeout(begin, RETRY_MS);
  }
}

/** Errors that come while the page is open are said aloud, whichever tab is shown. */
function announce({ notices }) {
  const fresh = newestNotice === null ? [] : notices.filter(({ at_ns: at, level }) => at > newestNotice && level === "error");
  newestNotice = Math.max(newestNotice ?? 0, ...notices.map(({ at_ns: at }) => at));
  if (store.get("desk")?.is_killed) return; // the banner says it all
  for (const notice of fresh.slice(0, 3)) toast(say(notice.text), "bad");
}

function title() {
  const desk = store.get("desk");
  if (!desk) return;
  const mark = desk.is_killed ? "■" : desk.running ? "▶" : "○";
  const text = `${mark} ${desk.running}/${desk.workers} ${desk.name}`;
  if (document.title !== text) document.title = text;
}

mountToasts(document.getElementById("toasts"));
bus.want(["desk", "feeds", "fills", "notices"]);
mount();
prefs.watch(mount);
listenToKeys(context);
store.watch(["desk"], title);
store.listen("notices", announce);
setInterval(() => {
  store.touch("tick");
  store.touch("link");
  notice();
}, TICK_MS);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address belongs to the route
  document.getElementById("market").focus();
});
begin();
