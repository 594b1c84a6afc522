/** The heatmap's words: its controls, the list of layers beside the cells, the legend, the summary, the reading. */

import { MANY } from "../data/cells.js";
import { sumGaps } from "../data/gaps.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { count, elide, label, name as plain, number, step } from "../words.js";
import { ROW } from "./heat_canvas.js";
import { countsFaults, metricsOf } from "./heat_rows.js";
import { cividisGradient } from "./theme.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/cells.js").Cells} Cells */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {import("./heat_rows.js").Row} Row */
/** @typedef {import("../../../types/contract").Gap} Gap */
/** @typedef {import("../../../types/contract").Metric} Metric */
/** @typedef {(id: number) => number | undefined} ValueOf the value of a series at the cursor */

/** Whether a layer was ever at fault in the range shown. @param {Row} row */
const isFaulty = (row) => row.firstBad !== Infinity;

/**
 * @param {Board} board
 * @param {View} view
 * @param {Metric} metric the one shown
 * @param {number} layers shown
 */
export function controls(board, view, metric, layers) {
  const set = (/** @type {"metric" | "sort" | "search"} */ what) => (/** @type {any} */ event) =>
    view.set(what, event.target.value);
  const option = (/** @type {string} */ value, /** @type {string} */ title, /** @type {boolean} */ selected) =>
    html`<option value=${value} ?selected=${selected}>${title}</option>`;
  const { width } = board.heat;
  return html`<header class="bar">
    <h2>Layers</h2>
    <label>
      Metric
      <select @change=${set("metric")}>
        ${metricsOf(board).map((one) => option(one.id, one.title, one === metric))}
      </select>
    </label>
    <label>
      Order
      <select @change=${set("sort")}>
        ${option("worst", "worst first", view.sort === "worst")}
        ${option("order", "forward order", view.sort === "order")}
      </select>
    </label>
    <label>
      Find
      <input type="search" data-filter .value=${view.search} placeholder="layer name" @input=${set("search")} />
    </label>
    <span class="note"> ${count(layers, "layer")}${width > 1 ? `, 1 cell = ${step(width)} steps or more` : ""} </span>
  </header>`;
}

/**
 * One layer: pinned by a click, told apart by a sign when it was at fault.
 * @param {Row} row
 * @param {number} i its place
 * @param {{pinned: boolean, focus: boolean, value: number | undefined, pin: () => void}} look
 */
export function layerRow(row, i, { pinned, focus, value, pin }) {
  const { layer } = row.series;
  const fault = isFaulty(row) ? `faulty from step ${step(row.firstBad)}` : "";
  return html`<li style=${`top: ${i * ROW}px`}>
    <button
      data-row=${i}
      tabindex=${focus ? 0 : -1}
      aria-pressed=${pinned}
      title=${fault ? `${plain(layer)}: ${fault}` : plain(layer)}
      @click=${pin}
    >
      <span class=${fault ? "mark fault" : "mark"} aria-hidden="true">${fault ? "✕" : pinned ? "•" : ""}</span>
      <span class="path"><bdi>${elide(layer, 44)}</bdi></span>
      <span class="value">${value === undefined ? "" : number(value)}</span>
      ${fault ? html`<span class="sr">${fault}</span>` : nothing}
    </button>
  </li>`;
}

/** @param {Metric} metric @param {[number, number] | null} scale */
export function legend(metric, scale) {
  const key = (/** @type {string} */ look, /** @type {string} */ word) =>
    html`<i class=${`key ${look}`}></i><span>${word}</span>`;
  const keys = countsFaults(metric)
    ? [key("sound", "none"), key("nan", "faulty")]
    : [scale ? ramp(metric, scale) : nothing, key("nan", "NaN"), key("inf", "±Inf")];
  return html`<p class="legend" aria-hidden="true">
    <span>${label(metric.title)}</span> ${keys} ${key("none", "no data")} ${key("lost", "lost")}
  </p>`;
}

/** The scale, mirrored where low is what is bad. @param {Metric} metric @param {[number, number]} scale */
function ramp(metric, [low, high]) {
  const flip = metric.bad === "low" ? "scaleX(-1)" : "none";
  return html`<span>${number(low)}</span>
    <i class="ramp" style=${`background: ${cividisGradient()}; transform: ${flip}`}></i>
    <span>${number(high)}${metric.scale === "log" ? " (log)" : ""}</span>`;
}

/** For those who cannot see the cells. @param {Metric} metric @param {Row[]} rows @param {Gap[]} gaps */
export function summarize(metric, rows, gaps) {
  const bad = rows.filter(isFaulty);
  const which = bad.slice(0, 3).map((row) => `${elide(row.series.layer)} from step ${step(row.firstBad)}`);
  const faults = bad.length ? `${bad.length} with faults, first ${which.join(", ")}` : "no faults";
  return `Heatmap of ${metric.title} for ${count(rows.length, "layer")}: ${[faults, sumGaps(gaps)].filter(Boolean).join("; ")}`;
}

/** What cell `i` holds. @param {Cells} cells @param {number} i */
export function reading({ columns: c, width, low }, i) {
  const words = /** @type {const} */ ([
    ["NaN", "n_nan"],
    ["+Inf", "n_posinf"],
    ["−Inf", "n_neginf"],
  ]);
  const said = words
    .filter(([, field]) => c[field][i] > 0)
    .map(([word, field]) => (width > 1 ? `${c[field][i]}${c[field][i] === MANY ? " or more" : ""} ${word}` : word));
  const value = c.value[i];
  if (!Number.isNaN(value)) said.push(width > 1 ? `${low ? "lowest" : "highest"} ${number(value)}` : number(value));
  return said.join(", ") || "no data";
}
