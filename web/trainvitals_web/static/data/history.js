/**
 * What the charts show: some series of a run over a range of steps, from the store and from the live socket.
 *
 * `load` asks the store and is latest-wins. Frames that arrive are folded in at once, and kept until the next answer,
 * so that an answer which is older than they are loses nothing. Whatever cannot be merged here (a step that goes back
 * after a resume, frames the server dropped, a reconnect) marks the history stale, and a stale history is asked anew.
 */

import { ApiError, getData } from "../link/api.js";
import { isPresent } from "../link/frames.js";
import { Buckets } from "./buckets.js";

/** @typedef {import("../../../types/contract").Frame} Frame */
/** @typedef {import("../../../types/contract").Gap} Gap */

const SERIES_PER_QUERY = 200;
const KEPT_FRAMES = 4096;
const RETRY_MS = 1500;
const SETTLE_MS = 120;

export class History {
  /** @param {string} run @param {number} points across the screen @param {() => void} changed after an answer */
  constructor(run, points, changed) {
    this.run = run;
    this.points = points;
    this.changed = changed;
    /** @type {Map<number, Buckets>} */
    this.series = new Map();
    /** @type {Gap[]} */
    this.gaps = [];
    /** @type {Set<number>} */
    this.wanted = new Set();
    /** @type {{from: number | null, to: number | null}} */
    this.range = { from: null, to: null };
    /** @type {{frame: Frame, columns: number[]}[]} */
    this.recent = [];
    this.width = 1;
    this.loads = 0;
    this.timer = 0;
    this.loaded = false;
    /** the open gap that was asked about @type {Gap | undefined} */
    this.settled = undefined;
  }

  /** The series to hold. @param {Iterable<number>} ids */
  want(ids) {
    const wanted = new Set(ids);
    const same = wanted.size === this.wanted.size && [...wanted].every((id) => this.wanted.has(id));
    if (same) return;
    const missing = [...wanted].some((id) => !this.series.has(id));
    this.wanted = wanted;
    for (const id of this.series.keys()) if (!wanted.has(id)) this.series.delete(id);
    if (missing) this.refresh();
  }

  /** Steps to show; null follows the run's own end. @param {number | null} from @param {number | null} to */
  show(from, to) {
    if (from === this.range.from && to === this.range.to) return;
    this.range = { from, to };
    this.refresh();
  }

  /**
   * Something between these steps is missing here, whether for good or not: nothing is drawn over it until the store,
   * asked again, says what there is.
   * @param {Gap} gap
   */
  doubt(gap) {
    this.gaps = [...this.gaps, gap];
    this.refresh();
  }

  /** Ask the store again, soon; several reasons at once cost one query. */
  refresh(after = SETTLE_MS) {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.load(), this.loaded ? after : 0);
  }

  async load() {
    const load = ++this.loads;
    const ids = [...this.wanted];
    if (ids.length === 0) return;
    try {
      const answers = [];
      for (let at = 0; at < ids.length; at += SERIES_PER_QUERY) {
        const part = ids.slice(at, at + SERIES_PER_QUERY);
        answers.push(await getData(this.run, part, { ...this.range, points: this.points }));
        if (load !== this.loads) return;
      }
      this.adopt(answers);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const transient = error.status === 0 || error.status >= 500 || error.status === 429;
      if (load === this.loads && transient) this.refresh(RETRY_MS);
    }
  }

  /** @param {import("../link/api.js").Data[]} answers */
  adopt(answers) {
    this.width = Math.max(...answers.map((answer) => answer.width));
    this.gaps = answers[0].gaps;
    const last = this.gaps.at(-1);
    if (last && this.settled?.from === last.from) this.settled = last; // asked once for each
    this.series.clear();
    for (const answer of answers) {
      for (const [id, columns] of answer.series) {
        if (!this.wanted.has(id)) continue;
        const buckets = Buckets.of(answer.width, columns, newest(columns, answer));
        buckets.coarsen(this.width);
        this.series.set(id, buckets);
      }
    }
    this.loaded = true;
    for (const { frame, columns } of this.recent) this.merge(frame, columns);
    this.recent.length = 0;
    this.thin();
    this.changed();
  }

  /**
   * A frame from the live socket; `columns` are the series ids of its layout.
   * @param {Frame} frame
   * @param {number[]} columns
   */
  fold(frame, columns) {
    this.recent.push({ frame, columns });
    this.settleGap(frame.step);
    if (this.recent.length > KEPT_FRAMES) this.recent.splice(0, KEPT_FRAMES / 2);
    this.merge(frame, columns);
    this.thin();
  }

  /** A gap that went on to the end of what was known has an end now; the store knows which. @param {number} step */
  settleGap(step) {
    const last = this.gaps.at(-1);
    if (!last || last.from === null || (last.to ?? last.from) > last.from || step <= last.from) return;
    if (this.settled === last) return;
    this.settled = last;
    this.refresh();
  }

  /** @param {Frame} frame @param {number[]} columns */
  merge(frame, columns) {
    const { from, to } = this.range;
    if ((from !== null && frame.step < from) || (to !== null && frame.step > to)) return;
    for (let i = 0; i < frame.values.length; i++) {
      if (isPresent(frame.present, i)) this.series.get(columns[i])?.fold(frame.step, frame.values[i]);
    }
  }

  /** Double the width once there are more than two buckets per point. */
  thin() {
    let most = 0;
    for (const buckets of this.series.values()) most = Math.max(most, buckets.length);
    if (most <= 2 * this.points) return;
    this.width *= 2;
    for (const buckets of this.series.values()) buckets.coarsen(this.width);
  }

  close() {
    this.loads += 1;
    window.clearTimeout(this.timer);
  }
}

/**
 * The newest step an answer covers for a series: to the end of its last bucket, unless the answer ends before.
 * @param {import("../link/api.js").Columns} columns @param {import("../link/api.js").Data} answer
 */
function newest(columns, answer) {
  const end = columns.step.length ? columns.step[columns.step.length - 1] + answer.width - 1 : -Infinity;
  return Math.min(end, answer.to);
}
