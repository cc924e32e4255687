// Dialogs: the browser's own <dialog>. Questions are modal. Forms and sheets that stay open for long are not, so that the red
// button in the bar is never out of reach.

import { h } from "../dom.js";
import { t } from "../i18n.js";

/** Opens `content` (a form or a div) and removes it when closed. Returns the dialog. */
export function openDialog(title, content, { isModal = true, onclose = null } = {}) {
  const id = `dialog-${performance.now().toFixed(0)}`;
  const heading = h("h2", { id }, title);
  content.prepend(heading);
  const dialog = h(isModal ? "dialog.small" : "dialog.sheet", { "aria-labelledby": id }, content);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (!isModal) before?.focus?.(); // a modal one does so by itself
    onclose?.();
  });
  dialog.addEventListener("keydown", (event) => { if (event.key === "Escape" && !isModal) dialog.close(); });
  document.body.append(dialog);
  if (isModal) dialog.showModal();
  else dialog.show();
  return dialog;
}

/** Asks before something that cannot be taken back. `typed`: a word that must be typed first. Calls `act` when agreed. */
export function confirmDialog({ title, lines, action, danger = true, typed = null, act }) {
  const input = typed && h("input", { type: "text", autocomplete: "off", spellcheck: "false", "aria-label": t("confirm.type", { word: typed }) });
  const agree = h(danger ? "button.danger" : "button.primary", { type: "submit", disabled: Boolean(typed) }, action);
  const form = h("form", { method: "dialog" },
    lines.map((line) => h("p", {}, line)),
    input && h("label", {}, t("confirm.type", { word: typed }), input),
    h("div.actions", {},
      h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), agree));
  input?.addEventListener("input", () => { agree.disabled = input.value.trim() !== typed; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (agree.disabled) return;
    dialog.close();
    act();
  });
  const dialog = openDialog(title, form);
  (input ?? agree).focus();
  return dialog;
}
