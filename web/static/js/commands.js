// Start, pause, stop, delete, kill, release: sent by REST, the answer put into the store at once, trouble said aloud.
// A second click while the first is under way does nothing.

import { api } from "./api.js";
import { clockTime } from "./format.js";
import { t } from "./i18n.js";
import { toast } from "./panels/toast.js";

const underWay = new Map();

/** True while `verb` of `worker` has no answer yet. */
export function isUnderWay(worker, verb) {
  return underWay.get(worker) === verb;
}

export async function trade(store, worker, verb) {
  if (underWay.has(worker.id)) return;
  underWay.set(worker.id, verb);
  store.touch(`worker/${worker.id}`);
  try {
    const view = await api.post(`/api/workers/${encodeURIComponent(worker.id)}/${verb}`);
    store.put(`worker/${worker.id}`, view);
    toast(receiptText(view, verb), "good");
  } catch (error) {
    complain(error, t(`verb.${verb}`), worker.name);
  } finally {
    underWay.delete(worker.id);
    store.touch(`worker/${worker.id}`);
  }
}

function receiptText(view, verb) {
  const said = t(`done.${verb}`, { name: view.name });
  return verb !== "start" && view.receipt ? `${said} ${receiptLine(view.receipt)}` : said;
}

/** One line of what stopping or killing really did. */
export function receiptLine(receipt) {
  const counted = t("receipt.counts", receipt);
  const unsure = receipt.unknown > 0 ? " " + t("receipt.unknown", receipt) : "";
  return `${counted}${unsure} ${t(receipt.confirmed ? "receipt.confirmed" : "receipt.unconfirmed")}`;
}

/** The same in a few words, for a place that is narrow. */
export function receiptShort(receipt) {
  const key = receipt.confirmed ? "receipt.short" : "receipt.short.unconfirmed";
  return t(key, { ...receipt, time: clockTime(receipt.confirmed_ns ?? receipt.at_ns, { tenths: true }) });
}

/** Says what went wrong, and how sure we are that nothing happened. */
export function complain(error, what, name = "") {
  const how = { unreachable: "fail.unreachable", unknown: "fail.unknown" }[error.outcome] ?? "fail.refused";
  const fields = (error.errors ?? []).map(({ field, message }) => `${field}: ${message}`).join("; ");
  toast(`${t(how, { what, name })} ${fields || error.message}`, "bad");
}
