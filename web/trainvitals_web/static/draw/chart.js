/** One declared panel on the page: title, Plotly figure, overlay canvas, and its words for those who cannot see it. */

import { describeGap, gapAt, gapsWithin } from "../data/gaps.js";
import { elide, name as plain, number, step } from "../words.js";
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { linesOf } from "./feeds.js";
import { buildFigure } from "./figure.js";
import { areaOf, drawOverlay, sizeOf } from "./overlay.js";
import { PLOT_CONFIG } from "./plotly.js";
import { listen } from "./pointer.js";

/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {import("../../../types/plotly").PlotElement} PlotElement */

const BAND = "The band is the smallest and largest value of each point's steps, the line their last";

const NEAR_PX = 3;
const LISTED = 5; // gaps

export class Chart {
  /** @param {Panel} panel @param {string | null} layer @param {Board} board @param {View} view */
  constructor(panel, layer, board, view) {
    this.panel = panel;
    this.layer = layer;
    this.board = board;
    this.view = view;
    this.stale = true;
    this.urgent = true;
    this.visible = false;
    this.drawn = -Infinity;
    /** @type {import("./feeds.js").Line[]} */
    this.lines = [];
    /** @type {import("./figure.js").Tail[]} */
    this.tails = [];
    this.summary = "";
    this.element = document.createElement("section");
    this.element.className = "chart";
    this.element.dataset.panel = panel.id;
    this.plot = /** @type {PlotElement} */ (
      /** @type {unknown} */ (Object.assign(document.createElement("div"), { className: "plot" }))
    );
    this.plot.setAttribute("role", "img");
    this.canvas = document.createElement("canvas");
    this.canvas.className = "overlay";
    this.canvas.setAttribute("aria-hidden", "true");
    this.box = Object.assign(document.createElement("div"), { className: "chart-box" });
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    this.box.append(this.plot, this.canvas, this.tip);
    this.refeed();
    this.describe();
  }

  /** Which series feed it may change as layers come and go. */
  refeed() {
    this.lines = linesOf(this.panel, this.layer, this.board.series.values());
  }

  /** Nothing to show at all: neither series nor events of its own. */
  get empty() {
    return this.panel.scope !== "events" && this.lines.length === 0;
  }

  /** Draw everything by Plotly. */
  commit() {
    const Plotly = window.Plotly;
    if (!Plotly) return;
    const first = !this.plot._fullLayout;
    const figure = buildFigure(this.panel, this.lines, this.board, this.view.span(), sizeOf(this.plot));
    void Plotly.react(this.plot, figure.data, figure.layout, PLOT_CONFIG);
    if (first) listen(this.plot, this.box, this.view);
    this.tails = figure.tails;
    this.summary = figure.summary;
    this.box.classList.toggle("nothing", this.summary === "");
    this.describe();
    this.overlay();
  }

  overlay() {
    const area = this.visible && areaOf(this.plot);
    if (!area) return;
    drawOverlay(this.canvas, area, this.board, this.view, this.tails);
    this.pointOut(area);
  }

  /** What is missing under the pointer. @param {import("./overlay.js").Area} area */
  pointOut(area) {
    const { hover } = this.view;
    const here = hover !== null && this.box.matches(":hover");
    const [from, to] = this.view.span();
    const gap = here ? gapAt(this.board.charts.gaps, hover, ((to - from) / area.width) * NEAR_PX) : undefined;
    this.tip.hidden = gap === undefined;
    if (!gap || hover === null) return;
    this.tip.textContent = describeGap(gap);
    const left = Math.min(area.x(hover) + 8, area.box.width - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(0, left)}px, ${area.top + 4}px)`;
  }

  /** The records missing in the range shown, in words. */
  missing() {
    const gaps = gapsWithin(this.board.charts.gaps, this.view.span());
    if (gaps.length === 0) return nothing;
    return html`<p>Missing here, and never drawn over:</p>
      <ul>
        ${gaps.slice(0, LISTED).map((gap) => html`<li>${describeGap(gap)}</li>`)}
        ${gaps.length > LISTED ? html`<li>and ${gaps.length - LISTED} more gaps</li>` : nothing}
      </ul>`;
  }

  describe() {
    const { panel, layer } = this;
    const width = this.panel.scope === "events" ? 1 : this.board.charts.width;
    const about = `${panel.title}${layer ? `, ${plain(layer)}` : ""}`;
    this.plot.setAttribute("aria-label", elide(`${about}: ${this.summary || "no data yet"}`, 400));
    render(
      html`<header>
          <h3>${panel.title}</h3>
          <details class="about">
            <summary aria-label=${`About ${panel.title}`}>?</summary>
            <div class="help"><p>${panel.help}</p> ${this.missing()}</div>
          </details>
          ${width > 1 ? html`<span class="note" title=${BAND}>1 point = ${step(width)} steps</span>` : nothing}
          <span class="reading">${this.reading()}</span>
        </header>
        ${this.box}`,
      this.element,
    );
  }

  /** The value of a single line, in the title's row. */
  reading() {
    if (this.lines.length !== 1) return nothing;
    const value = this.board.latest.get(this.lines[0].series.id);
    return value === undefined || this.view.cursor !== null ? nothing : number(value);
  }

  close() {
    window.Plotly?.purge(this.plot);
    this.element.remove();
  }
}
