// Text of numbers and times. Money arrives as decimal text and is never calculated with here beyond rounding for the eye.
// Unknown (null, undefined, "") is a dash, never 0.

export const DASH = "—";

const NS_PER_MS = 1e6;

/** How many decimals a step such as "0.01" or "1E-5" has; what may be shown of a price or a size. */
export function decimalsOf(step) {
  const text = plain(step);
  if (text === null) return 8;
  const dot = text.indexOf(".");
  return dot < 0 ? 0 : text.slice(dot + 1).replace(/0+$/, "").length;
}

/** Decimal text without an exponent ("0E-8" is "0.00000000"), or null when it is no number. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return null;
  const text = String(value);
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text)) return null;
  const [mantissa, exponent] = text.toLowerCase().split("e");
  if (exponent === undefined) return mantissa.replace(/^\+/, "");
  const sign = mantissa.startsWith("-") ? "-" : "";
  let [whole, part = ""] = mantissa.replace(/^[-+]/, "").split(".");
  for (let shift = Number(exponent); shift > 0; shift--) {
    whole += part[0] ?? "0";
    part = part.slice(1);
  }
  for (let shift = Number(exponent); shift < 0; shift++) {
    part = (whole.at(-1) ?? "0") + part;
    whole = whole.slice(0, -1);
  }
  return `${sign}${whole.replace(/^0+(?=\d)/, "") || "0"}${part ? "." + part : ""}`;
}

/** Exactly `decimals` places, thousands parted: digits are padded as text and rounded only where there are more. */
export function fixed(value, decimals, { sign = false } = {}) {
  const text = plain(value);
  if (text === null) return DASH;
  const [, part = ""] = text.split(".");
  let out = text;
  if (part.length > decimals) out = roundText(text, decimals);
  else if (part.length < decimals) out = `${text}${part ? "" : "."}${"0".repeat(decimals - part.length)}`;
  const negative = out.startsWith("-") && /[1-9]/.test(out);
  const [whole, rest] = out.replace(/^-/, "").split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const mark = negative ? "-" : sign && /[1-9]/.test(out) ? "+" : "";
  return `${mark}${grouped}${rest === undefined ? "" : "." + rest}`;
}

function roundText(text, decimals) {
  const negative = text.startsWith("-");
  const [whole, part] = text.replace(/^-/, "").split(".");
  const kept = BigInt(whole + part.slice(0, decimals)) + (part[decimals] >= "5" ? 1n : 0n);
  const digits = String(kept).padStart(decimals + 1, "0");
  const cut = digits.length - decimals;
  return `${negative ? "-" : ""}${digits.slice(0, cut)}${decimals ? "." + digits.slice(cut) : ""}`;
}

/** Number text in two pieces: what matters, and the zeros behind it that are only there to keep columns straight. */
export function dimZeros(text) {
  const found = /^(.*\.\d*?)(0+)$/.exec(text);
  if (!found) return [text, ""];
  return found[1].endsWith(".") ? [found[1].slice(0, -1), "." + found[2]] : [found[1], found[2]];
}

/** +1, -1 or 0; null for unknown. */
export function signOf(value) {
  const text = plain(value);
  if (text === null) return null;
  if (!/[1-9]/.test(text)) return 0;
  return text.startsWith("-") ? -1 : 1;
}

/** Class of a signed amount as shown with that many places. Goes with a written sign, so that colour is never the only mark. */
export function tone(value, decimals) {
  return { 1: "up", "-1": "down" }[signOf(fixed(value, decimals).replaceAll(",", ""))] ?? "";
}

/** For pictures and ratios only. */
export function float(value) {
  const text = plain(value);
  return text === null ? null : Number(text);
}

/** Width between two prices in basis points of their middle; null when either is unknown. */
export function widthBps(low, high) {
  const [a, b] = [float(low), float(high)];
  return a === null || b === null || a + b <= 0 ? null : ((b - a) / ((a + b) / 2)) * 1e4;
}

/** Basis points with two places, three below one, so that a tight market does not read as none. */
export function bpsText(bps) {
  return bps === null ? DASH : fixed(bps.toFixed(4), Math.abs(bps) < 1 ? 3 : 2);
}

/** Seconds as 1:02:03, or 3d 04:05:06. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !(seconds >= 0)) return DASH;
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const clock = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  const days = Math.floor(whole / 86400);
  return days ? `${days}d ${clock}` : clock;
}

/** Local time of day, to tenths where asked. A moment of another day carries its date. */
export function clockTime(ns, { tenths = false } = {}) {
  if (!ns) return DASH;
  const at = new Date(Number(ns) / NS_PER_MS);
  const two = (n) => String(n).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const whole = tenths ? `${time}.${Math.floor(at.getMilliseconds() / 100)}` : time;
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? whole : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${whole}`;
}

/** An age for people: 0.4 s, 12 s, 3 min. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
