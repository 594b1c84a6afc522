/**
 * The layer × step heatmap: a list of layers, cells on a canvas beside it, and above the cells a transparent Plotly
 * figure for the axis, zoom and cursor that all charts share.
 */

import { describeGap, gapAt, gapsWithin } from "../data/gaps.js";
import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { elide, step } from "../words.js";
import { heatAxis } from "./heat_axis.js";
import { drawCells, RIBBON, ROW } from "./heat_canvas.js";
import { controls, layerRow, legend, reading, summarize } from "./heat_list.js";
import { metricsOf, rowsOf, scaleOf, seriesOf } from "./heat_rows.js";
import { areaOf, clearCanvas, drawCursor } from "./overlay.js";
import { PLOT_CONFIG } from "./plotly.js";
import { listen, stepAt } from "./pointer.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {import("./heat_rows.js").Row} Row */
/** @typedef {import("../../../types/plotly").PlotElement} PlotElement */

const MOST_ROWS = 20; // seen at once; the rest scrolls

export class Heatmap {
  /**
   * @param {HTMLElement} element
   * @param {Board} board
   * @param {View} view
   * @param {import("./painter.js").Painter} painter
   * @param {import("./heat_list.js").ValueOf} valueOf
   */
  constructor(element, board, view, painter, valueOf) {
    this.element = element;
    this.board = board;
    this.view = view;
    this.painter = painter;
    this.valueOf = valueOf;
    this.stale = this.urgent = this.visible = true;
    this.drawn = -Infinity;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {[number, number] | null} */
    this.scale = null;
    this.scroll = 0;
    this.focus = 0;
    this.across = 0; // pixels
    this.cells = part("canvas", "cells");
    this.plot = /** @type {PlotElement} */ (/** @type {unknown} */ (part("div", "plot")));
    this.over = part("canvas", "overlay");
    this.tipBox = part("div", "tip");
    this.tipBox.hidden = true;
    this.box = part("div", "heat-plot");
    this.cells.setAttribute("role", "img");
    this.over.setAttribute("aria-hidden", "true");
    this.box.append(this.cells, this.plot, this.over, this.tipBox);
    this.box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.box.addEventListener("pointermove", (event) => this.hover(event));
    this.box.addEventListener("pointerleave", () => (this.tipBox.hidden = true));
    new ResizeObserver(([{ contentRect }]) => this.fit(contentRect.width)).observe(this.box);
    painter.commits.push(this);
  }

  get metric() {
    const metrics = metricsOf(this.board);
    return (
      metrics.find((one) => one.id === this.view.metric) ??
      metrics.find((one) => seriesOf(this.board, one).length) ??
      metrics[0]
    );
  }

  /** The metric, the layers or their order changed. */
  arrange() {
    const metric = this.metric;
    if (!metric) return;
    this.list(metric);
    this.ask();
    this.sort();
    this.touch();
  }

  /** As many columns as there are pixels, once it is known how many that is. */
  ask() {
    const metric = this.metric;
    if (!metric || this.across === 0) return;
    const ids = seriesOf(this.board, metric).map((one) => one.id);
    this.board.heat.cover(metric, ids, this.across);
  }

  /** @param {number} width of the plot, in pixels */
  fit(width) {
    this.across = width;
    this.ask();
    this.touch();
  }

  sort() {
    const metric = this.metric;
    if (!metric) return;
    this.rows = rowsOf(this.board, metric, this.view.sort === "order" ? "order" : "worst", this.view.search);
    this.scale = scaleOf(this.rows, metric);
  }

  /** Order and colours are judged anew, which is dear and makes rows jump: seldom. */
  judge() {
    this.sort();
    this.draw();
  }

  touch() {
    this.stale = this.urgent = true;
    this.painter.wake();
  }

  /** Cells and list, from what is there; the axis only when its range or size changed. */
  draw() {
    const metric = this.metric;
    if (!metric) return;
    for (const row of this.rows) row.cells = this.board.heat.series.get(row.series.id);
    this.list(metric);
    const area = areaOf(this.plot);
    if (!area) return;
    const range = /** @type {{xaxis: {range: [number, number]}}} */ (this.plot._fullLayout).xaxis.range;
    const { gaps } = this.board.heat;
    drawCells(this.cells, area, { rows: this.rows, metric, scale: this.scale, scroll: this.scroll, range, gaps });
    this.cells.setAttribute("aria-label", summarize(metric, this.rows, gapsWithin(gaps, range)));
    this.overlay();
  }

  overlay() {
    const area = areaOf(this.plot);
    if (!area) return;
    const whole = { ...area, top: 0, height: area.top + area.height };
    drawCursor(clearCanvas(this.over, area.box), whole, this.view);
  }

  /** The axis. */
  commit() {
    if (!window.Plotly || !this.metric) return;
    const first = !this.plot._fullLayout;
    const layout = heatAxis(this.plot, this.view.span());
    void window.Plotly.react(this.plot, [{ type: "scatter", x: [], y: [] }], layout, PLOT_CONFIG);
    if (first) listen(this.plot, this.box, this.view);
    this.draw();
  }

  /** @param {import("../../../types/contract").Metric} metric */
  list(metric) {
    const height = RIBBON + Math.max(1, Math.min(this.rows.length, MOST_ROWS)) * ROW;
    const from = Math.max(0, Math.floor(this.scroll / ROW) - 1);
    const seen = this.rows.slice(from, from + MOST_ROWS + 3);
    const pinned = new Set(this.view.pinned());
    render(
      html`${controls(this.board, this.view, metric, this.rows.length)}
        <div class="heat" style=${`--heat-height: ${height}px`}>
          <div
            class="heat-rows"
            @scroll=${(/** @type {any} */ event) => this.scrolled(event.currentTarget.scrollTop)}
            @keydown=${(/** @type {KeyboardEvent} */ event) => this.key(event, metric)}
          >
            <ul style=${`height: ${this.rows.length * ROW}px`} aria-label="Layers">
              ${seen.map((row, i) => this.row(row, from + i, pinned))}
            </ul>
          </div>
          ${this.box}
        </div>
        ${legend(metric, this.scale)}`,
      this.element,
    );
  }

  /** @param {Row} row @param {number} i @param {Set<string>} pinned */
  row(row, i, pinned) {
    const { layer, id } = row.series;
    const pin = () => this.view.togglePin(layer);
    return layerRow(row, i, { pinned: pinned.has(layer), focus: i === this.focus, value: this.valueOf(id), pin });
  }

  /** @param {number} top */
  scrolled(top) {
    this.scroll = top;
    this.painter.mark("heat-scroll");
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    const list = this.element.querySelector(".heat-rows");
    if (!list || list.scrollHeight <= list.clientHeight) return;
    event.preventDefault();
    list.scrollTop += event.deltaY;
  }

  /** @param {KeyboardEvent} event @param {import("../../../types/contract").Metric} metric */
  key(event, metric) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: MOST_ROWS, PageUp: -MOST_ROWS }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.focus = Math.max(0, Math.min(this.rows.length - 1, this.focus + by));
    const list = /** @type {HTMLElement} */ (this.element.querySelector(".heat-rows"));
    const top = this.focus * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    this.scroll = list.scrollTop;
    this.list(metric);
    /** @type {HTMLElement | null} */ (list.querySelector(`[data-row="${this.focus}"]`))?.focus({
      preventScroll: true,
    });
  }

  /** @param {PointerEvent} event */
  hover(event) {
    const at = stepAt(this.plot, this.box, event);
    const box = this.box.getBoundingClientRect();
    const y = event.clientY - box.top;
    const row = this.rows[Math.floor((y - RIBBON + this.scroll) / ROW)];
    this.tipBox.hidden = at === null || y < RIBBON || !row;
    if (at === null || !row) return;
    const { cells } = row;
    const i = cells?.indexAt(at) ?? -1;
    const gap = gapAt(this.board.heat.gaps, at);
    const told = cells && i >= 0 && at < cells.columns.step[i] + cells.width;
    const said = gap && !told ? describeGap(gap) : i < 0 || !cells ? "no data" : reading(cells, i);
    this.tipBox.textContent = `${elide(row.series.layer, 64)} · step ${step(at)} · ${said}`;
    const left = Math.min(event.clientX - box.left + 12, box.width - this.tipBox.offsetWidth - 4);
    this.tipBox.style.transform = `translate(${Math.max(0, left)}px, ${y + 14}px)`;
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} className
 * @returns {HTMLElementTagNameMap[T]}
 */
function part(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
