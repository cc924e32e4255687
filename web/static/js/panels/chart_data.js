// Samples and fills as the columns a chart wants: seconds, oldest first, with a hole where the worker was silent for long.

const GAP_S = 10; // samples come once a second: a longer silence is a hole, not a line

/** Columns of the last `spanS` seconds before the newest sample. */
export function columns(samples, spanS) {
  const out = { time: [], bid: [], ask: [], mid: [], position: [], net: [], endS: 0 };
  if (!samples.length) return out;
  out.endS = samples.at(-1).at_ns / 1e9;
  const from = out.endS - spanS;
  let last = null;
  for (const sample of samples) {
    const at = sample.at_ns / 1e9;
    if (at < from) continue;
    if (last !== null && at - last > GAP_S) push(out, last + GAP_S / 2, {});
    push(out, at, sample);
    last = at;
  }
  return out;
}

function push(out, at, { bid = null, ask = null, mid = null, position = null, net = null }) {
  out.time.push(at);
  out.bid.push(bid);
  out.ask.push(ask);
  out.mid.push(mid);
  out.position.push(position);
  out.net.push(net);
}

/** [seconds, price] of the fills between `low` and `high`. */
export function fillMarks(fills, low, high) {
  const marks = { buys: [], sells: [] };
  for (const fill of fills) {
    const at = Number(fill.venue_ns) / 1e9;
    if (at >= low && at <= high) marks[fill.side === "buy" ? "buys" : "sells"].push([at, Number(fill.price)]);
  }
  return marks;
}
