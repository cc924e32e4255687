// Net result of one worker as a small line: the shape of its last hour, not its size.

import { api } from "../api.js";
import { h, setAttribute, svg } from "../dom.js";
import { t } from "../i18n.js";

const WIDTH = 72;
const HEIGHT = 20;
const POINTS = 60;
const KEPT = 3600;
const REPAINT_MS = 2000;

// histories are fetched one after the other, so that thirty workers do not ask at once
let queue = Promise.resolve();

export class Spark {
  #line = svg("polyline", { fill: "none", "stroke-width": "1.25", "vector-effect": "non-scaling-stroke" });
  #zero = svg("line", { x1: 0, x2: WIDTH, class: "spark-zero" });
  #values = [];
  #offs;
  #paintedMs = 0;
  #isClosed = false;
  element;

  constructor(id, store) {
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true", class: "spark bar" });
    picture.append(this.#zero, this.#line);
    this.element = h("span", { title: t("spark.help") }, picture);
    this.#offs = store.listen(`series/${id}`, ({ samples }) => this.#add(samples));
    queue = queue.then(() => this.#load(id)).catch(() => { /* the line then begins now */ });
  }

  close() {
    this.#isClosed = true;
    this.#offs();
  }

  async #load(id) {
    if (this.#isClosed) return;
    const { samples } = await api.get(`/api/workers/${encodeURIComponent(id)}/series`);
    this.#values = [];
    this.#add(samples);
  }

  #add(samples) {
    for (const { net } of samples) if (net !== null) this.#values.push(net);
    if (this.#values.length > KEPT) this.#values.splice(0, this.#values.length - KEPT);
    const now = performance.now();
    if (now - this.#paintedMs < REPAINT_MS && samples.length === 1) return;
    this.#paintedMs = now;
    this.#paint();
  }

  #paint() {
    const values = thinned(this.#values, POINTS);
    if (values.length < 2) return;
    const low = Math.min(0, ...values);
    const high = Math.max(0, ...values);
    const y = (value) => HEIGHT - 2 - ((value - low) / (high - low || 1)) * (HEIGHT - 4);
    const points = values.map((value, i) => `${((i / (values.length - 1)) * WIDTH).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    setAttribute(this.#line, "points", points);
    setAttribute(this.#line, "class", values.at(-1) >= 0 ? "spark-up" : "spark-down");
    setAttribute(this.#zero, "y1", y(0).toFixed(1));
    setAttribute(this.#zero, "y2", y(0).toFixed(1));
  }
}

/** At most `count` values, the last of each stretch. */
function thinned(values, count) {
  if (values.length <= count) return values;
  return Array.from({ length: count }, (_, i) => values[Math.floor(((i + 1) * values.length) / count) - 1]);
}
