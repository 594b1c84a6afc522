/**
 * What a chart knows of one series: of the server's pyramid the counters, the last value as it came, and min and max
 * over finite values only.
 */

import { Course } from "./course.js";

export const FIELDS = /** @type {const} */ (["n", "min", "max", "last", "n_nan", "n_posinf", "n_neginf"]);
const COUNTERS = /** @type {const} */ (["n", "n_nan", "n_posinf", "n_neginf"]);

/** @typedef {Record<"step" | (typeof FIELDS)[number], Float64Array>} Fields `n`: values present, non-finite included */

/** @extends {Course<Fields>} */
export class Buckets extends Course {
  /** Those the server told. @param {number} width @param {Record<string, Float64Array>} columns @param {number} through */
  static of(width, columns, through) {
    return new Buckets(width, /** @type {Fields} */ (columns), through);
  }

  /** None yet. @param {number} width */
  static empty(width) {
    const columns = Object.fromEntries(["step", ...FIELDS].map((field) => [field, new Float64Array(0)]));
    return Buckets.of(width, columns, -Infinity);
  }

  /** @param {number} at @override */
  clear(at) {
    const c = this.columns;
    c.min[at] = c.max[at] = c.last[at] = NaN;
    for (const field of COUNTERS) c[field][at] = 0;
  }

  /** @param {number} at @param {number} value @override */
  add(at, value) {
    const c = this.columns;
    c.n[at] += 1;
    c.last[at] = value;
    if (Number.isNaN(value)) c.n_nan[at] += 1;
    else if (value === Infinity) c.n_posinf[at] += 1;
    else if (value === -Infinity) c.n_neginf[at] += 1;
    else this.stretch(at, value, value);
  }

  /** @param {number} at @param {Fields} fine @param {number} i @override */
  absorb(at, fine, i) {
    const c = this.columns;
    for (const field of COUNTERS) c[field][at] += fine[field][i];
    c.last[at] = fine.last[i];
    if (!Number.isNaN(fine.min[i])) this.stretch(at, fine.min[i], fine.max[i]);
  }

  /** @param {number} at @param {number} low @param {number} high */
  stretch(at, low, high) {
    const c = this.columns;
    if (!(c.min[at] <= low)) c.min[at] = low;
    if (!(c.max[at] >= high)) c.max[at] = high;
  }

  /** Values of bucket `i` that were not finite. @param {number} i */
  nonfinite(i) {
    const c = this.columns;
    return c.n_nan[i] + c.n_posinf[i] + c.n_neginf[i];
  }
}
