/** What the charts show: series by id, in buckets that keep smallest, largest and last. */

import { runPath } from "../link/api.js";
import { decodeData } from "../link/packed.js";
import { Buckets, FIELDS } from "./buckets.js";
import { History } from "./history.js";

const POINTS = 360; // about as many as a chart has pixels; the answer has at most two buckets for each

/** @extends {History<Buckets>} */
export class Curves extends History {
  /** @param {string} run @param {() => void} changed after an answer */
  constructor(run, changed) {
    super(run, 2 * POINTS, changed);
  }

  /** @override */
  question() {
    const query = { series: [...this.wanted].join(","), points: String(POINTS), fields: FIELDS.join(","), ...this.ends() };
    return `${runPath(this.run)}/data?${new URLSearchParams(query)}`;
  }

  /** @param {ArrayBuffer} bytes @override */
  decode(bytes) {
    const data = decodeData(bytes);
    const series = new Map(
      [...data.series].map(([id, columns]) => [id, Buckets.of(data.width, columns, data.through)]),
    );
    return { ...data, series };
  }
}
