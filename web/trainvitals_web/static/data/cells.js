/** What the heatmap knows of one layer: of each bucket its worst finite value, and how many values were not finite. */

import { Course } from "./course.js";

/** @typedef {import("../link/packed.js").Heatmap} Heatmap */
/**
 * @typedef {object} Fields
 * @property {Float64Array} step
 * @property {Float32Array} value the worst, NaN where none is finite
 * @property {Uint8Array} n_nan @property {Uint8Array} n_posinf @property {Uint8Array} n_neginf
 */

export const COUNTERS = /** @type {const} */ (["n_nan", "n_posinf", "n_neginf"]);
export const MANY = 254; // that many or more
const NO_VALUE = 255;

/** @extends {Course<Fields & import("./course.js").AnyColumns>} */
export class Cells extends Course {
  /** @param {number} width @param {Fields} columns @param {number} through @param {boolean} low whether low is what is bad */
  constructor(width, columns, through, low) {
    super(width, /** @type {Fields & import("./course.js").AnyColumns} */ (columns), through);
    this.low = low;
  }

  /** One row of the server's map; cells without a value are left out. @param {Heatmap} map @param {number} row @param {boolean} low */
  static of(map, row, low) {
    const { start, width, columns, planes } = map;
    const plane = (/** @type {string} */ name) => planes.get(name)?.subarray(row * columns, (row + 1) * columns) ?? [];
    const values = plane(low ? "min" : "max");
    const counts = COUNTERS.map(plane);
    /** @type {number[]} */
    const some = [];
    for (let i = 0; i < columns; i++) if (counts[0][i] !== NO_VALUE) some.push(i);
    const [n_nan, n_posinf, n_neginf] = counts.map((one) => Uint8Array.from(some, (i) => one[i]));
    const step = Float64Array.from(some, (i) => start + i * width);
    const value = Float32Array.from(some, (i) => values[i]);
    return new Cells(width, { step, value, n_nan, n_posinf, n_neginf }, map.through, low);
  }

  /** @param {number} at @override */
  clear(at) {
    this.columns.value[at] = NaN;
    for (const field of COUNTERS) this.columns[field][at] = 0;
  }

  /** @param {number} at @param {number} value @override */
  add(at, value) {
    if (Number.isFinite(value)) return this.worsen(at, value);
    this.count(Number.isNaN(value) ? "n_nan" : value > 0 ? "n_posinf" : "n_neginf", at, 1);
  }

  /** @param {number} at @param {Fields} fine @param {number} i @override */
  absorb(at, fine, i) {
    for (const field of COUNTERS) this.count(field, at, fine[field][i]);
    if (!Number.isNaN(fine.value[i])) this.worsen(at, fine.value[i]);
  }

  /** @param {(typeof COUNTERS)[number]} field @param {number} at @param {number} more */
  count(field, at, more) {
    this.columns[field][at] = Math.min(MANY, this.columns[field][at] + more);
  }

  /** @param {number} at @param {number} value */
  worsen(at, value) {
    const old = this.columns.value[at];
    if (Number.isNaN(old) || (this.low ? value < old : value > old)) this.columns.value[at] = value;
  }
}
