/**
 * One series over steps, in buckets of equal width aligned to multiples of that width, which is a power of two.
 *
 * The same buckets as the server's pyramid: min, max and sum over finite values only, first and last as they came, and
 * counters of what was not finite. Two neighbours merge exactly, so a NaN or a spike survives any coarsening.
 */

/** @typedef {import("../link/api.js").Columns} Columns */

const FIELDS = /** @type {const} */ ([
  "step",
  "n",
  "min",
  "max",
  "first",
  "last",
  "sum",
  "n_nan",
  "n_posinf",
  "n_neginf",
]);
const COUNTERS = /** @type {const} */ (["n", "n_nan", "n_posinf", "n_neginf"]);
const FIRST_CAPACITY = 256;

/** @param {number} capacity @param {Columns} [from] @param {number} [length] @returns {Columns} */
function allocate(capacity, from, length = 0) {
  const columns = /** @type {Columns} */ ({});
  for (const field of FIELDS) {
    columns[field] = new Float64Array(capacity);
    if (from) columns[field].set(from[field].subarray(0, length));
  }
  return columns;
}

export class Buckets {
  /** @param {number} width steps per bucket */
  constructor(width) {
    this.width = width;
    this.length = 0;
    this.columns = allocate(FIRST_CAPACITY);
    /** the newest step inside */
    this.through = -Infinity;
  }

  /** Take over columns the server sent. @param {number} width @param {Columns} columns @param {number} through */
  static of(width, columns, through) {
    const buckets = new Buckets(width);
    buckets.columns = columns;
    buckets.length = columns.step.length;
    buckets.through = through;
    return buckets;
  }

  /**
   * Add a value newer than all others; an older one is left to a new query, which knows better.
   * @param {number} step
   * @param {number} value
   */
  fold(step, value) {
    if (step <= this.through) return false;
    this.through = step;
    const start = Math.floor(step / this.width) * this.width;
    if (this.length === 0 || this.columns.step[this.length - 1] < start) this.open(start, value);
    this.add(this.length - 1, value);
    return true;
  }

  /** @param {number} start @param {number} value */
  open(start, value) {
    const at = this.length;
    if (at >= this.columns.step.length) this.columns = allocate(Math.max(FIRST_CAPACITY, 2 * at), this.columns, at);
    const c = this.columns;
    c.step[at] = start;
    c.first[at] = value;
    c.min[at] = c.max[at] = NaN;
    c.sum[at] = 0;
    for (const field of COUNTERS) c[field][at] = 0;
    this.length += 1;
  }

  /** @param {number} i @param {number} value */
  add(i, value) {
    const c = this.columns;
    c.n[i] += 1;
    c.last[i] = value;
    if (Number.isNaN(value)) c.n_nan[i] += 1;
    else if (value === Infinity) c.n_posinf[i] += 1;
    else if (value === -Infinity) c.n_neginf[i] += 1;
    else {
      c.sum[i] = (Number.isNaN(c.sum[i]) ? 0 : c.sum[i]) + value;
      if (!(c.min[i] <= value)) c.min[i] = value;
      if (!(c.max[i] >= value)) c.max[i] = value;
    }
  }

  /** Merge neighbours until buckets are `width` steps wide. @param {number} width */
  coarsen(width) {
    if (width <= this.width) return;
    const fine = this.columns;
    const rows = this.length;
    this.columns = allocate(Math.max(FIRST_CAPACITY, rows));
    this.width = width;
    this.length = 0;
    for (let i = 0; i < rows; i++) this.absorb(fine, i);
  }

  /** @param {Columns} fine @param {number} i */
  absorb(fine, i) {
    const start = Math.floor(fine.step[i] / this.width) * this.width;
    if (this.length === 0 || this.columns.step[this.length - 1] < start) this.open(start, fine.first[i]);
    const c = this.columns;
    const at = this.length - 1;
    for (const field of COUNTERS) c[field][at] += fine[field][i];
    c.last[at] = fine.last[i];
    c.sum[at] += Number.isNaN(fine.sum[i]) ? 0 : fine.sum[i];
    if (!(c.min[at] <= fine.min[i])) c.min[at] = Number.isNaN(fine.min[i]) ? c.min[at] : fine.min[i];
    if (!(c.max[at] >= fine.max[i])) c.max[at] = Number.isNaN(fine.max[i]) ? c.max[at] : fine.max[i];
  }

  /** Values of bucket `i` that were not finite. @param {number} i */
  nonfinite(i) {
    const c = this.columns;
    return c.n_nan[i] + c.n_posinf[i] + c.n_neginf[i];
  }

  /** Where bucket `i` is drawn: the middle of its steps. @param {number} i */
  middle(i) {
    return this.columns.step[i] + (this.width - 1) / 2;
  }

  /** The last bucket that starts at or before `step`, or -1. @param {number} step */
  indexAt(step) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.columns.step[mid] <= step) low = mid + 1;
      else high = mid;
    }
    return low - 1;
  }
}
