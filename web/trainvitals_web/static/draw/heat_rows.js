/** The heatmap's rows: which layers a metric has, how bad each was, in which order they are shown. No drawing here. */

import { selects } from "./feeds.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/buckets.js").Buckets} Buckets */
/** @typedef {import("../../../types/contract").Metric} Metric */
/** @typedef {import("../../../types/contract").Series} Series */
/** @typedef {{series: Series, buckets: Buckets | undefined, firstBad: number, worst: number}} Row */

/** Metrics of all declared heatmaps. @param {Board} board @returns {Metric[]} */
export function metricsOf(board) {
  return board.panels.flatMap((panel) => (panel.kind === "heatmap" ? (panel.metrics ?? []) : []));
}

/** @param {Board} board @param {Metric} metric */
export function seriesOf(board, metric) {
  return [...board.series.values()].filter((one) => selects(one, metric.select));
}

// The wire's words for statistics that count faults.
const FAULT_COUNTERS = new Set(["nonfinite_channels", "negative_channels"]);

/**
 * A metric that counts non-finite values is itself finite: there, anything above zero is a fault.
 * @param {Metric} metric
 */
export const countsFaults = ({ bad, select }) => bad === "nonfinite" || FAULT_COUNTERS.has(select.stat ?? "");

/** The value that stands for a bucket: its worst. @param {Metric} metric @returns {"min" | "max"} */
export const worstField = (metric) => (metric.bad === "low" ? "min" : "max");

/**
 * @param {Board} board
 * @param {Metric} metric
 * @param {"worst" | "order"} sort
 * @param {string} search
 * @returns {Row[]}
 */
export function rowsOf(board, metric, sort, search) {
  const wanted = search.trim().toLowerCase();
  const rows = seriesOf(board, metric)
    .filter((one) => one.layer.toLowerCase().includes(wanted))
    .map((one) => judge(one, board.heat.series.get(one.id), metric));
  const byOrder = (/** @type {Row} */ a, /** @type {Row} */ b) =>
    a.series.order - b.series.order || a.series.id - b.series.id;
  if (sort === "order") return rows.sort(byOrder);
  return rows.sort((a, b) => compare(a.firstBad, b.firstBad) || compare(b.worst, a.worst) || byOrder(a, b));
}

/** @param {number} a @param {number} b */
const compare = (a, b) => (a === b ? 0 : a < b ? -1 : 1);

/** @param {Series} series @param {Buckets | undefined} buckets @param {Metric} metric @returns {Row} */
function judge(series, buckets, metric) {
  let firstBad = Infinity;
  let worst = -Infinity;
  const values = buckets?.columns[worstField(metric)] ?? [];
  for (let i = 0; i < (buckets?.length ?? 0); i++) {
    const value = metric.bad === "low" ? -values[i] : values[i];
    if (value > worst) worst = value;
    if (firstBad === Infinity && isFault(/** @type {Buckets} */ (buckets), i, metric)) {
      firstBad = /** @type {Buckets} */ (buckets).columns.step[i];
    }
  }
  return { series, buckets, firstBad, worst };
}

/** @param {Buckets} buckets @param {number} i @param {Metric} metric */
export function isFault(buckets, i, metric) {
  const c = buckets.columns;
  return c.n_nan[i] + c.n_posinf[i] + c.n_neginf[i] > 0 || (countsFaults(metric) && c.max[i] > 0);
}

/**
 * Smallest and largest value among all rows on the metric's scale, for colours; null when there is none.
 * @param {Row[]} rows
 * @param {Metric} metric
 * @returns {[number, number] | null}
 */
export function scaleOf(rows, metric) {
  let low = Infinity;
  let high = -Infinity;
  for (const { buckets } of rows) {
    if (!buckets) continue;
    const values = buckets.columns[worstField(metric)];
    for (let i = 0; i < buckets.length; i++) {
      const value = values[i];
      if (!Number.isFinite(value) || (metric.scale === "log" && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low > high ? null : [low, high];
}
