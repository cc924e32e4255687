// Three panes on one time axis: mid with our quotes as a band and fills as triangles; inventory; net result. uPlot draws;
// what is drawn comes from History, so it is there after a reload. Colours are read from the tokens.

import uPlot from "uplot";
import { h, setAttribute } from "../dom.js";
import { decimalsOf, fixed } from "../format.js";
import { t } from "../i18n.js";
import { prefs } from "../prefs.js";
import { columns, fillMarks } from "./chart_data.js";

const SPANS_S = [300, 900, 3600];
const AXIS_PX = 76;
const LABEL_PX = 17; // room above a pane for its name
const REDRAW_MS = 500;
const SHORTEST_S = 60; // a young worker's chart is this wide at least

let spanS = SPANS_S[0];

export class Chart {
  #history;
  #worker;
  #offs = [];
  #resize;
  #plots = [];
  #place = h("div.chart-place", {});
  #spans = SPANS_S.map((span) => h("button.plain.span", {
    type: "button", "aria-pressed": String(span === spanS), onclick: () => this.#choose(span),
  }, span < 3600 ? `${span / 60}m` : "1h"));
  #empty = h("p.chart-empty", {}, t("chart.empty"));
  #timer = 0;
  #marks = { buys: [], sells: [] };

  constructor(element, { history, worker }) {
    this.#history = history;
    this.#worker = worker;
    const key = (name, mark) => h("span.key", { dataset: { key: name } }, h("i", { "aria-hidden": "true" }, mark), t(`chart.${name}`));
    element.replaceChildren(
      h("header", {}, key("mid", "—"), key("band", "▒"), key("buys", "▲"), key("sells", "▼"), h("span.row.tight.push", { role: "group", "aria-label": t("chart.span") }, this.#spans)),
      this.#place, this.#empty);
    this.#resize = new ResizeObserver(() => this.#build());
    this.#resize.observe(this.#place);
    this.#offs.push(history.watch(() => this.#soon()), prefs.watch(() => this.#build()));
  }

  close() {
    this.#resize.disconnect();
    this.#offs.forEach((off) => off());
    clearTimeout(this.#timer);
    this.#plots.forEach((plot) => plot.destroy());
  }

  #choose(span) {
    spanS = span;
    this.#spans.forEach((button, i) => button.setAttribute("aria-pressed", String(SPANS_S[i] === span)));
    this.#draw();
  }

  #soon() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#draw();
    }, REDRAW_MS);
  }

  #build() {
    this.#plots.forEach((plot) => plot.destroy());
    this.#plots = [];
    const { clientWidth: width, clientHeight: height } = this.#place;
    if (width < 50 || height < 50) return;
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    const small = Math.max(60, Math.round(height * 0.19));
    const sync = uPlot.sync(`worker-${this.#worker.id}`);
    const base = (size, hasTime, top = LABEL_PX) => ({
      width, height: size, legend: { show: false }, padding: [top, 0, hasTime ? 0 : 6, 8],
      cursor: { sync: { key: sync.key }, drag: { x: false, y: false }, y: false, points: { size: 5 } },
      scales: { x: { time: true } },
    });
    const axes = (decimals, hasTime, space = 16) => [
      { show: hasTime, stroke: colour("ink-3"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, size: 22, space: 84, font: font(), values: (_, ticks) => ticks.map(timeOf) },
      { side: 1, size: AXIS_PX, stroke: colour("ink-3"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: font(), space, values: (_, ticks) => ticks.map((v) => fixed(v.toFixed(decimals), decimals)) },
    ];
    const price = {
      ...base(height - 2 * small, false, 8),
      series: [{}, { stroke: colour("own"), width: 1 }, { stroke: colour("own"), width: 1 }, { stroke: colour("ink"), width: 1.25 }],
      bands: [{ series: [2, 1], fill: colour("own-wash") }],
      axes: axes(decimalsOf(this.#worker.tick), false, 26),
      hooks: { draw: [(plot) => this.#drawFills(plot, colour)] },
    };
    const inventory = {
      ...base(small, false),
      series: [{}, { stroke: colour("select"), width: 1, fill: colour("select-wash"), paths: uPlot.paths.stepped({ align: 1 }) }],
      axes: axes(Math.min(4, decimalsOf(this.#worker.lot)), false),
      scales: { x: { time: true }, y: { range: (_, low, high) => withZero(low, high) } },
      hooks: { draw: [(plot) => label(plot, t("chart.inventory", { base: this.#worker.base }), colour("ink-2"))] },
    };
    const net = {
      ...base(small + 22, true),
      series: [{}, { stroke: colour("ink-2"), width: 1.25 }],
      axes: axes(2, true),
      scales: { x: { time: true }, y: { range: (_, low, high) => withZero(low, high) } },
      hooks: { draw: [(plot) => label(plot, t("chart.net", { quote: this.#worker.quote }), colour("ink-2"))] },
    };
    price.height -= 22;
    const none = [[0], [null], [null], [null]];
    this.#plots = [
      new uPlot(price, none, this.#place), new uPlot(inventory, none.slice(0, 2), this.#place), new uPlot(net, none.slice(0, 2), this.#place),
    ];
    this.#draw();
  }

  #draw() {
    const data = columns(this.#history.samples, spanS);
    this.#empty.hidden = data.time.length > 1 || !this.#history.isLoaded;
    setAttribute(this.#place, "data-empty", data.time.length > 1 ? null : "yes");
    if (!this.#plots.length || !data.time.length) return;
    const [low, high] = [Math.max(data.endS - spanS, Math.min(data.time[0], data.endS - SHORTEST_S)), data.endS];
    this.#marks = fillMarks(this.#history.fills, low, high);
    const sets = [[data.time, data.bid, data.ask, data.mid], [data.time, data.position], [data.time, data.net]];
    this.#plots.forEach((plot, i) => plot.batch(() => {
      plot.setData(sets[i]);
      plot.setScale("x", { min: low, max: high });
    }));
  }

  #drawFills(plot, colour) {
    const context = plot.ctx;
    const size = 5 * devicePixelRatio;
    const { left, top, width, height } = plot.bbox;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    for (const [marks, tone, sign] of [[this.#marks.buys, "up", 1], [this.#marks.sells, "down", -1]]) {
      context.fillStyle = colour(tone);
      context.strokeStyle = colour("surface");
      context.lineWidth = devicePixelRatio;
      for (const [at, priceOf] of marks) {
        const x = plot.valToPos(at, "x", true);
        const y = plot.valToPos(priceOf, "y", true);
        context.beginPath();
        context.moveTo(x, y - sign * size);
        context.lineTo(x - size, y + sign * size * 0.8);
        context.lineTo(x + size, y + sign * size * 0.8);
        context.closePath();
        context.fill();
        context.stroke();
      }
    }
    context.restore();
  }
}

function font() { return "11px ui-monospace, 'Noto Sans Mono', 'Liberation Mono', monospace"; }

function withZero(low, high) {
  const [a, b] = [Math.min(0, low ?? 0), Math.max(0, high ?? 0)];
  const room = (b - a || 1) * 0.12;
  return [a < 0 ? a - room : a, b > 0 ? b + room : b || room];
}

function timeOf(seconds) {
  const at = new Date(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function label(plot, text, colour) {
  const context = plot.ctx;
  context.save();
  context.font = `${11 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
  context.fillStyle = colour;
  context.textBaseline = "bottom";
  context.fillText(text, plot.bbox.left, plot.bbox.top - 2 * devicePixelRatio);
  context.restore();
}
