/** What the heatmap shows: one statistic of all layers, in about as many columns as there are pixels. */

import { runPath } from "../link/api.js";
import { decodeHeatmap } from "../link/packed.js";
import { Cells, COUNTERS } from "./cells.js";
import { History } from "./history.js";

/** @typedef {import("../../../types/contract").Metric} Metric */

const MOST_CELLS = 300_000; // of one answer: then it is about half a megabyte
const PIXELS = 50; // a window dragged wider asks again only now and then
const BITS = 12; // of a value: more than three digits, and a tenth of a colour

/** @extends {History<Cells>} */
export class Heat extends History {
  /** @param {string} run @param {() => void} changed after an answer */
  constructor(run, changed) {
    super(run, PIXELS, changed);
    /** @type {Metric | null} */
    this.metric = null;
  }

  /** The metric to hold, its series, and how many pixels there are for it. @param {Metric} metric @param {number[]} ids @param {number} pixels */
  cover(metric, ids, pixels) {
    const across = Math.max(1, Math.floor(pixels / PIXELS)) * PIXELS;
    this.limit(Math.max(2, Math.min(across, Math.floor(MOST_CELLS / Math.max(1, ids.length)))));
    this.metric = metric;
    this.want(ids);
  }

  get low() {
    return this.metric?.bad === "low";
  }

  /** @override */
  question() {
    const { kind, stat } = /** @type {Metric} */ (this.metric).select;
    const reduce = [this.low ? "min" : "max", ...COUNTERS].join(",");
    const size = { columns: String(this.most), bits: String(BITS) };
    const query = { kind, stat: stat ?? "", reduce, ...size, ...this.ends() };
    return `${runPath(this.run)}/heatmap?${new URLSearchParams(query)}`;
  }

  /** @param {ArrayBuffer} bytes @override */
  decode(bytes) {
    const map = decodeHeatmap(bytes);
    return { ...map, series: new Map(map.series.map((id, row) => [id, Cells.of(map, row, this.low)])) };
  }
}
