/** A panel fed by events: bars, or lines between points, over the steps at which they happened. */

import { count, label, number, plotText, toNumber } from "../words.js";
import { theme } from "./theme.js";

/** @typedef {import("../../../types/contract").Event} Event */
/** @typedef {import("../../../types/contract").Feed} Feed */
/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("./strip.js").Strip} Strip */

const BAR = 1 / 60; // of the range, so that a bar is seen at any zoom

/**
 * @param {Panel} panel
 * @param {Event[]} events of the run, by step
 * @param {[number, number]} range
 * @param {Strip} strip takes what is not finite
 * @param {import("../../../types/contract").Gap[]} gaps over which no line is drawn
 */
export function bars(panel, events, range, strip, gaps) {
  const data = [];
  /** @type {string[]} */
  const said = [];
  let total = 0;
  for (const [i, feed] of panel.feeds.entries()) {
    const points = pointsOf(feed, events);
    const base = panel.figure.data[feed.trace] ?? {};
    const title = base.name ?? label(feed.field ?? "");
    for (const { step, value } of points) {
      if (!Number.isFinite(value)) strip.mark(kindOf(value), step, `${plotText(title, 32)}: ${number(value)}`);
    }
    const drawn = base.type === "scatter" ? broken(points, gaps) : points;
    data.push({
      hovertemplate: "%{y:.4~g}",
      type: "bar",
      ...base,
      ...lookOf(base, i, (range[1] - range[0]) * BAR),
      name: plotText(title, 40),
      x: drawn.map(({ step }) => step),
      y: drawn.map(({ value }) => (Number.isFinite(value) ? value : null)),
    });
    total = Math.max(total, points.length);
    if (points.length) said.push(`${title} ${number(points[points.length - 1].value)}`);
  }
  const summary = said.length ? `${count(total, "event")}, newest: ${said.join(", ")}` : "";
  return { data, tails: [], named: data.length, summary };
}

/**
 * With a point without a value wherever records were lost between two.
 * @param {{step: number, value: number}[]} points @param {import("../../../types/contract").Gap[]} gaps
 */
function broken(points, gaps) {
  return points.flatMap((point, i) => {
    const before = points[i - 1]?.step ?? Infinity;
    const lost = gaps.some(({ from, to }) => from !== null && from < point.step && (to ?? from) >= before);
    return lost ? [{ step: (before + point.step) / 2, value: NaN }, point] : [point];
  });
}

/** Events that have the field; null is absent, which is not NaN. @param {Feed} feed @param {Event[]} events */
function pointsOf(feed, events) {
  const points = [];
  for (const event of events) {
    if (event.type !== feed.event) continue;
    const value = fieldOf(event.data, feed.field ?? "");
    if (value !== undefined && value !== null) points.push({ step: event.step, value: toNumber(value) });
  }
  return points;
}

/** @param {Record<string, any>} base @param {number} i @param {number} width */
function lookOf(base, i, width) {
  const color = base.marker?.color ?? base.line?.color ?? theme().series[i % theme().series.length];
  if (base.type !== "scatter") return { width, marker: { ...base.marker, color, line: { width: 0 } } };
  return { mode: "lines+markers", line: { width: 1.5, ...base.line, color }, marker: { size: 5, color } };
}

/** @param {number} value @returns {"nan" | "posinf" | "neginf"} */
const kindOf = (value) => (Number.isNaN(value) ? "nan" : value > 0 ? "posinf" : "neginf");

/** A field by dotted path. @param {Record<string, any>} data @param {string} path */
function fieldOf(data, path) {
  /** @type {any} */
  let at = data;
  for (const key of path.split(".")) at = at && Object.hasOwn(at, key) ? at[key] : undefined;
  return at;
}
