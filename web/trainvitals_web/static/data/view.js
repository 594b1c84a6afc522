/**
 * What the reader looks at: range, cursor, pinned layers, heatmap settings. All of it lives in the address, so that a
 * link shows another person the same thing, and one range and one cursor serve every chart.
 */

import { hasEnded } from "./board.js";

/** @typedef {import("./board.js").Board} Board */

const ADDRESS_DELAY_MS = 250;
const SPARE = 0.08; // of a live range, to the right, so that axes move seldom
const LEAST_SPARE = 12;
const LEAST_SPAN = 4;
const MOST_PINS = 8;

export class View {
  /** @param {Board} board @param {(topic: string) => void} mark */
  constructor(board, mark) {
    this.board = board;
    this.mark = mark;
    const query = new URLSearchParams(window.location.search);
    /** null: the run's own end @type {number | null} */
    this.from = read(query, "from");
    /** @type {number | null} */
    this.to = read(query, "to");
    /** the step looked at; null: the newest, live @type {number | null} */
    this.cursor = read(query, "step");
    /** step under the pointer @type {number | null} */
    this.hover = null;
    /** null: chosen by the page until the reader chooses @type {string[] | null} */
    this.pins = query.has("pin") ? query.getAll("pin").slice(0, MOST_PINS) : null;
    this.metric = query.get("metric") ?? "";
    /** "worst" or "order" @type {string} */
    this.sort = query.get("sort") ?? "worst";
    this.search = query.get("layers") ?? "";
    this.end = -Infinity;
    this.timer = 0;
    this.applyRange();
  }

  /** The range all charts share, in steps. @returns {[number, number]} */
  span() {
    const [first, last] = this.board.extent();
    if (hasEnded(this.board.run)) this.end = last + (last - first) * 0.005;
    else if (last > this.end) this.end = last + Math.max(LEAST_SPARE, (last - first) * SPARE);
    const from = this.from ?? first - (this.end - first) * 0.005;
    return [from, Math.max(this.to ?? this.end, from + 1)];
  }

  /** @param {number | null} from @param {number | null} to */
  zoom(from, to) {
    const [first, last] = this.board.extent();
    if (from !== null && to !== null) {
      const wide = Math.max(to - from, LEAST_SPAN);
      from = Math.max(first - wide / 2, Math.min(from, last));
      to = from + wide;
      if (from <= first && to >= last) from = to = null;
    }
    this.from = from;
    this.to = to;
    this.applyRange();
    this.changed("range");
  }

  /** A little more than what is seen is asked for, so that lines reach the edges. */
  applyRange() {
    const pad = this.from !== null && this.to !== null ? (this.to - this.from) * 0.02 : 0;
    const from = this.from === null ? null : Math.max(0, Math.floor(this.from - pad));
    const to = this.to === null ? null : Math.ceil(this.to + pad);
    this.board.charts.show(from, to);
    this.board.heat.show(from, to);
  }

  /** @param {number} share of the span, to the right when positive */
  pan(share) {
    const [from, to] = this.span();
    const [first, last] = this.board.extent();
    const by = Math.max(first - from, Math.min((to - from) * share, last - to));
    this.zoom(from + by, to + by);
  }

  /** About the cursor, or the middle. @param {number} factor below 1 to see less */
  scale(factor) {
    const [from, to] = this.span();
    const centre = this.cursor !== null && this.cursor >= from && this.cursor <= to ? this.cursor : (from + to) / 2;
    this.zoom(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }

  /** @param {number | null} step */
  goTo(step) {
    const [first, last] = this.board.extent();
    this.cursor = step === null ? null : Math.round(Math.max(first, Math.min(step, last)));
    if (this.cursor !== null) this.reveal(this.cursor);
    this.changed("cursor");
  }

  /** Keep the cursor in sight. @param {number} step */
  reveal(step) {
    if (this.from === null || this.to === null || (step >= this.from && step <= this.to)) return;
    const half = (this.to - this.from) / 2;
    this.zoom(step - half, step + half);
  }

  /** @param {number | null} step */
  point(step) {
    if (step === this.hover) return;
    this.hover = step;
    this.mark("hover");
  }

  /** The pinned layers; until the reader chooses, the first that went bad, else the first two. @returns {string[]} */
  pinned() {
    if (this.pins) return this.pins;
    const bad = this.board.run?.first_bad_layer;
    if (bad) return [bad];
    /** @type {string[]} */
    const layers = [];
    for (const one of [...this.board.series.values()].sort((a, b) => a.order - b.order)) {
      if (one.kind === "norm" && !layers.includes(one.layer)) layers.push(one.layer);
      if (layers.length === 2) break;
    }
    return layers;
  }

  /** @param {string} layer */
  togglePin(layer) {
    const pins = this.pinned();
    this.pins = pins.includes(layer) ? pins.filter((one) => one !== layer) : [layer, ...pins].slice(0, MOST_PINS);
    this.changed("pins");
  }

  /** @param {"metric" | "sort" | "search"} what @param {string} value */
  set(what, value) {
    this[what] = value;
    this.changed("heat-settings");
  }

  /** @param {string} topic */
  changed(topic) {
    this.mark(topic);
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.write(), ADDRESS_DELAY_MS);
  }

  write() {
    const query = new URLSearchParams();
    if (this.cursor !== null) query.set("step", String(this.cursor));
    if (this.from !== null) query.set("from", String(Math.round(this.from)));
    if (this.to !== null) query.set("to", String(Math.round(this.to)));
    for (const pin of this.pins ?? []) query.append("pin", pin);
    if (this.pins?.length === 0) query.set("pin", "");
    if (this.metric) query.set("metric", this.metric);
    if (this.sort !== "worst") query.set("sort", this.sort);
    if (this.search) query.set("layers", this.search);
    const text = query.toString();
    window.history.replaceState(null, "", window.location.pathname + (text ? `?${text}` : ""));
  }

  close() {
    window.clearTimeout(this.timer);
  }
}

/** @param {URLSearchParams} query @param {string} key */
function read(query, key) {
  const value = Number.parseFloat(query.get(key) ?? "");
  return Number.isFinite(value) ? value : null;
}
