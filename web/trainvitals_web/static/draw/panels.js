/**
 * All charts of a run: those of the whole run, those of its events, and one group per pinned layer. What charts there
 * are is the server's word; this module only keeps one `Chart` for each and lets the painter commit those in sight.
 */

import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { elide, name as plain } from "../words.js";
import { Chart } from "./chart.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {import("./painter.js").Painter} Painter */

export class Panels {
  /** @param {HTMLElement} element @param {Board} board @param {View} view @param {Painter} painter */
  constructor(element, board, view, painter) {
    this.element = element;
    this.board = board;
    this.view = view;
    this.painter = painter;
    /** @type {Map<string, Chart>} */
    this.charts = new Map();
    this.sight = new IntersectionObserver((entries) => entries.forEach((entry) => this.seen(entry)), {
      rootMargin: "200px",
    });
    this.size = new ResizeObserver(() => this.stale(true));
    this.size.observe(element);
  }

  /** Bring the set of charts in line with the panels declared, the layers pinned and the series there are. */
  arrange() {
    const wide = this.board.panels.filter((panel) => panel.kind !== "heatmap" && panel.scope !== "layer");
    const deep = this.board.panels.filter((panel) => panel.kind !== "heatmap" && panel.scope === "layer");
    const pinned = this.view.pinned().filter(Boolean);
    /** @type {Set<string>} */
    const kept = new Set();
    const all = wide.map((panel) => this.chart(panel, null, kept));
    const groups = pinned.map((layer) => ({ layer, charts: deep.map((panel) => this.chart(panel, layer, kept)) }));
    for (const [key, chart] of this.charts) if (!kept.has(key)) this.drop(key, chart);
    this.board.charts.want([...this.charts.values()].flatMap((chart) => chart.lines.map((line) => line.series.id)));
    this.place(all, groups);
    this.stale(true);
  }

  /** @param {import("../../../types/contract").Panel} panel @param {string | null} layer @param {Set<string>} kept */
  chart(panel, layer, kept) {
    const key = `${panel.id}\n${layer ?? ""}`;
    let chart = this.charts.get(key);
    if (!chart) {
      chart = new Chart(panel, layer, this.board, this.view);
      this.charts.set(key, chart);
      this.painter.commits.push(chart);
      this.sight.observe(chart.element);
    }
    chart.refeed();
    kept.add(key);
    return chart;
  }

  /** @param {string} key @param {Chart} chart */
  drop(key, chart) {
    this.charts.delete(key);
    this.sight.unobserve(chart.element);
    this.painter.commits = this.painter.commits.filter((one) => one !== chart);
    chart.close();
  }

  /** @param {Chart[]} all @param {{layer: string, charts: Chart[]}[]} groups */
  place(all, groups) {
    const shown = (/** @type {Chart[]} */ charts) =>
      charts.filter((chart) => !chart.empty).map((chart) => chart.element);
    render(
      html`<section class="charts" aria-label="Charts of the whole run">${shown(all)}</section>
        ${groups.map(
          ({ layer, charts }) =>
            html`<section class="layer" aria-label=${`Charts of ${elide(layer, 120)}`}>
              <h2>
                <span class="path" title=${plain(layer)}>${elide(layer, 90)}</span>
                <button
                  class="quiet"
                  @click=${() => this.view.togglePin(layer)}
                  aria-label=${`Unpin ${elide(layer, 120)}`}
                >
                  Unpin
                </button>
              </h2>
              ${charts.every((chart) => chart.empty) ? html`<p class="note">No series of this layer yet.</p>` : nothing}
              <div class="charts">${shown(charts)}</div>
            </section>`,
        )}`,
      this.element,
    );
  }

  /** @param {IntersectionObserverEntry} entry */
  seen(entry) {
    for (const chart of this.charts.values()) {
      if (chart.element === entry.target) chart.visible = entry.isIntersecting;
    }
    this.painter.wake();
  }

  /** @param {boolean} urgent the reader is waiting, rather than data flowing by */
  stale(urgent) {
    for (const chart of this.charts.values()) {
      chart.stale = true;
      chart.urgent ||= urgent;
    }
    this.painter.wake();
  }

  overlays() {
    for (const chart of this.charts.values()) chart.overlay();
  }

  close() {
    this.sight.disconnect();
    this.size.disconnect();
    for (const chart of this.charts.values()) chart.close();
  }
}
