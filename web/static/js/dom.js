// Small tools for elements. Text goes in as text: there is no way from data to markup here. Writes happen only when something
// differs, because most of the page repeats itself ten times a second.

import { DASH, dimZeros } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("button.primary", {type: "button", onclick}, "Start")`. Booleans set or omit an attribute. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A part of `element` grown to `share` of its size (0..1) without a layout. */
export function setShare(element, share) {
  const value = `scaleX(${Math.max(0, Math.min(1, share || 0)).toFixed(4)})`;
  if (element.style.transform !== value) element.style.transform = value;
}

const GLYPHS = {
  start: "M2 1l9 5-9 5z",
  pause: "M2 1h3v10H2zM7 1h3v10H7z",
  stop: "M2 2h8v8H2z",
  busy: "M6 0a6 6 0 1 0 6 6h-2a4 4 0 1 1-4-4z",
  plus: "M5 1h2v4h4v2H7v4H5V7H1V5h4z",
  stopsign: "M4 0h4l4 4v4l-4 4H4L0 8V4z",
};

export function glyph(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", "glyph");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", GLYPHS[name]);
  svg.append(path);
  return svg;
}

export function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A place for one number: `place.set("1,234.500", {tone: "up", unit: "USDT"})` dims the zeros and keeps the rest still. */
export class Num {
  #head = document.createTextNode("");
  #zeros = h("span.z");
  #unit = h("span.u");
  #last = "";
  #flip = false;

  constructor(tag = "span", { flashes = false, label = null } = {}) {
    this.element = h(`${tag}.num`, { "aria-label": label }, this.#head, this.#zeros);
    this.flashes = flashes;
  }

  set(text, { tone = "", unit = "" } = {}) {
    const key = `${text}|${tone}|${unit}`;
    if (key === this.#last) return;
    const moved = this.flashes && this.#last !== "" && !this.#last.startsWith(`${text}|`);
    this.#last = key;
    const [head, zeros] = dimZeros(text);
    if (this.#head.data !== head) this.#head.data = head;
    setText(this.#zeros, zeros);
    if (unit && text !== DASH) {
      setText(this.#unit, unit);
      if (!this.#unit.isConnected) this.element.append(this.#unit);
    } else this.#unit.remove();
    if (moved) this.#flip = !this.#flip;
    this.element.className = ["num", tone, moved ? (this.#flip ? "flash-a" : "flash-b") : ""].filter(Boolean).join(" ");
  }
}

/** A table row factory kept in step with a list: rows are reused by key and moved only when the order changed. */
export function keyed(parent, make) {
  const rows = new Map();
  const sync = (items, keyOf) => {
    const wanted = new Set();
    items.forEach((item, index) => {
      const key = keyOf(item);
      wanted.add(key);
      if (!rows.has(key)) rows.set(key, make(item));
      const row = rows.get(key);
      if (parent.children[index] !== row.element) parent.insertBefore(row.element, parent.children[index] ?? null);
      row.set(item, index);
    });
    for (const [key, row] of rows) {
      if (wanted.has(key)) continue;
      row.element.remove();
      row.close?.();
      rows.delete(key);
    }
  };
  sync.rows = rows;
  return sync;
}
