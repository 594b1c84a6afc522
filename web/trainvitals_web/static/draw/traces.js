/**
 * Buckets to Plotly traces: lines that break over gaps and non-finite values, and the band between smallest and
 * largest that each bucket keeps.
 */

import { breaks } from "../data/gaps.js";

/** @typedef {import("../data/buckets.js").Buckets} Buckets */
/** @typedef {import("../../../types/contract").Gap} Gap */
/** @typedef {"last" | "min" | "max"} Field */

/**
 * The points of one line; null where it breaks.
 * @param {Buckets} buckets @param {Field} field @param {Gap[]} gaps
 */
export function line(buckets, field, gaps) {
  /** @type {number[]} */
  const x = [];
  /** @type {(number | null)[]} */
  const y = [];
  const broken = breaks(buckets, gaps);
  const values = buckets.columns[field];
  for (let i = 0; i < buckets.length; i++) {
    if (i > 0 && broken(i)) {
      x.push(buckets.columns.step[i] - 0.5);
      y.push(null);
    }
    const value = field === "last" && buckets.nonfinite(i) ? NaN : values[i];
    x.push(buckets.middle(i));
    y.push(Number.isFinite(value) ? value : null);
  }
  return { x, y };
}

/**
 * Marker sizes that show points with no neighbour to draw a line to; null when there are none.
 * @param {(number | null)[]} y
 */
export function lonely(y) {
  const sizes = y.map((v, i) => (v !== null && (y[i - 1] ?? null) === null && (y[i + 1] ?? null) === null ? 4 : 0));
  return sizes.some(Boolean) ? sizes : null;
}

/**
 * A closed outline around all buckets between a low and a high column, one polygon per unbroken stretch.
 * @param {Buckets} low @param {Buckets} high @param {Gap[]} gaps @param {boolean} log
 */
export function band(low, high, gaps, log) {
  /** @type {(number | null)[]} */
  const x = [];
  /** @type {(number | null)[]} */
  const y = [];
  const broken = breaks(low, gaps);
  const fits = (/** @type {number} */ v) => Number.isFinite(v) && (!log || v > 0);
  /** @type {number[]} */
  let run = [];
  const flush = () => {
    const back = [...run].reverse();
    for (const i of run) (x.push(low.middle(i)), y.push(high.columns.max[i]));
    for (const i of back) (x.push(low.middle(i)), y.push(low.columns.min[i]));
    if (run.length) (x.push(null), y.push(null));
    run = [];
  };
  const length = Math.min(low.length, high.length);
  for (let i = 0; i < length; i++) {
    if (i > 0 && broken(i)) flush();
    if (fits(low.columns.min[i]) && fits(high.columns.max[i])) run.push(i);
    else flush();
  }
  flush();
  return { x, y };
}

/** @param {{x: (number | null)[], y: (number | null)[]}} outline @param {string} colour */
export function fillTrace(outline, colour) {
  return {
    ...outline,
    type: "scatter",
    mode: "lines",
    fill: "toself",
    fillcolor: colour,
    line: { width: 0 },
    hoverinfo: "skip",
    showlegend: false,
  };
}
