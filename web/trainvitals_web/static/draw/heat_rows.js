/** The heatmap's rows: which layers a metric has, how bad each was, in which order they are shown. No drawing here. */

import { selects } from "./feeds.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/cells.js").Cells} Cells */
/** @typedef {import("../../../types/contract").Metric} Metric */
/** @typedef {import("../../../types/contract").Series} Series */
/** @typedef {{series: Series, cells: Cells | undefined, firstBad: number, worst: number}} Row */

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

/** @param {Series} series @param {Cells | undefined} cells @param {Metric} metric @returns {Row} */
function judge(series, cells, metric) {
  let firstBad = Infinity;
  let worst = -Infinity;
  for (let i = 0; i < (cells?.length ?? 0); i++) {
    const { step, value } = /** @type {Cells} */ (cells).columns;
    const bad = metric.bad === "low" ? -value[i] : value[i];
    if (bad > worst) worst = bad;
    if (firstBad === Infinity && isFault(/** @type {Cells} */ (cells), i, metric)) firstBad = step[i];
  }
  return { series, cells, firstBad, worst };
}

/** @param {Cells} cells @param {number} i @param {Metric} metric */
export function isFault({ columns: c }, i, metric) {
  return c.n_nan[i] + c.n_posinf[i] + c.n_neginf[i] > 0 || (countsFaults(metric) && c.value[i] > 0);
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
  for (const { cells } of rows) {
    for (let i = 0; i < (cells?.length ?? 0); i++) {
      const value = /** @type {Cells} */ (cells).columns.value[i];
      if (!Number.isFinite(value) || (metric.scale === "log" && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low > high ? null : [low, high];
}
