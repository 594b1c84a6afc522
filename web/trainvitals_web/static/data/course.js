/**
 * One series over steps, in buckets of equal width aligned to multiples of that width, which is a power of two.
 *
 * Neighbours merge exactly, so a NaN or a spike survives any coarsening. What a bucket holds is for those to say who
 * extend this: how it begins (`clear`), takes a value (`add`), takes another bucket (`absorb`). Only buckets that hold
 * something are kept.
 */

/** @typedef {Float64Array | Float32Array | Uint8Array} Column */
/** @typedef {{step: Float64Array} & Record<string, Column>} AnyColumns */

const FIRST_CAPACITY = 64;

/** @template {AnyColumns} C */
export class Course {
  /**
   * @param {number} width steps per bucket
   * @param {C} columns `step`, the first of each bucket, and what else there is of it; taken over
   * @param {number} through the newest step that may be inside
   */
  constructor(width, columns, through) {
    this.width = width;
    this.columns = columns;
    this.length = columns.step.length;
    /** the newest step inside */
    this.through = Math.min(through, this.end());
  }

  /** An empty bucket. @param {number} _at */
  clear(_at) {
    throw new TypeError("expected a course that says what a bucket holds");
  }

  /** @param {number} _at @param {number} _value */
  add(_at, _value) {
    throw new TypeError("expected a course that says how a value is added");
  }

  /** @param {number} _at @param {C} _fine @param {number} _i */
  absorb(_at, _fine, _i) {
    throw new TypeError("expected a course that says how buckets merge");
  }

  /** The last step of the last bucket. */
  end() {
    return this.length ? this.columns.step[this.length - 1] + this.width - 1 : -Infinity;
  }

  /**
   * Add a value newer than all others; an older one is left to a new query, which knows better.
   * @param {number} step
   * @param {number} value
   */
  fold(step, value) {
    if (step <= this.through) return;
    this.through = step;
    this.add(this.place(step), value);
  }

  /** The bucket for a step at or behind the last one. @param {number} step */
  place(step) {
    const start = Math.floor(step / this.width) * this.width;
    const at = this.length;
    if (at > 0 && this.columns.step[at - 1] >= start) return at - 1;
    if (at >= this.columns.step.length) this.columns = grown(this.columns, Math.max(FIRST_CAPACITY, 2 * at), at);
    this.columns.step[at] = start;
    this.clear(at);
    this.length += 1;
    return at;
  }

  /** Merge neighbours until buckets are `width` steps wide. @param {number} width */
  coarsen(width) {
    if (width <= this.width) return;
    const fine = this.columns;
    const rows = this.length;
    this.columns = grown(fine, Math.max(FIRST_CAPACITY, rows), 0);
    this.width = width;
    this.length = 0;
    for (let i = 0; i < rows; i++) this.absorb(this.place(fine.step[i]), fine, i);
  }

  /** What was told anew from a step on stands in place of what was there. @param {number} from @param {Course<C>} part */
  replace(from, part) {
    const kept = this.indexAt(from - 1) + 1;
    this.length = kept + part.length;
    if (this.length > this.columns.step.length) this.columns = grown(this.columns, 2 * this.length, kept);
    for (const name of Object.keys(this.columns)) this.columns[name].set(part.columns[name].subarray(0, part.length), kept);
    this.through = part.length ? part.through : Math.min(this.through, this.end());
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

/**
 * Room for more, with the first `length` buckets in it.
 * @template {AnyColumns} C
 * @param {C} columns @param {number} capacity @param {number} length
 * @returns {C}
 */
function grown(columns, capacity, length) {
  /** @type {Record<string, Column>} */
  const made = {};
  for (const [name, old] of Object.entries(columns)) {
    const Kind = /** @type {new (capacity: number) => Column} */ (old.constructor);
    made[name] = new Kind(capacity);
    made[name].set(old.subarray(0, length));
  }
  return /** @type {C} */ (made);
}
