/**
 * Some series of a run over a range of steps, from the store and from the live socket.
 *
 * `load` asks the store and is latest-wins. Frames that arrive are folded in at once, and kept until the next answer,
 * so that an answer which is older than they are loses nothing. Whatever cannot be merged here (a step that goes back
 * after a resume, frames the server dropped, a reconnect) makes the history ask again. Where the question is the same
 * as before, the mark of the last answer goes with it, and only what has changed since comes back.
 *
 * What is asked and how it is answered is for those to say who extend this: `question` and `decode`.
 */

import { ApiError, getPacked } from "../link/api.js";
import { isPresent } from "../link/frames.js";

/** @typedef {import("../../../types/contract").Frame} Frame */
/** @typedef {import("../../../types/contract").Gap} Gap */
/**
 * @template {import("./course.js").Course<any>} T
 * @typedef {import("../link/packed.js").Told & {series: Map<number, T>}} Answer
 */

const KEPT_FRAMES = 4096;
const RETRY_MS = 1500;
const SETTLE_MS = 120;

/** @template {import("./course.js").Course<any>} T */
export class History {
  /** @param {string} run @param {number} most buckets of one series @param {() => void} changed after an answer */
  constructor(run, most, changed) {
    this.run = run;
    this.most = most;
    this.changed = changed;
    /** @type {Map<number, T>} */
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
    /** the question that what is here answers, "" where it must be asked in full; and that answer's mark */
    this.asked = "";
    this.mark = "";
    /** the open gap that was asked about @type {Gap | undefined} */
    this.settled = undefined;
  }

  /** The path and query that ask for everything wanted. @returns {string} */
  question() {
    throw new TypeError("expected a history that says what to ask");
  }

  /** @param {ArrayBuffer} _bytes @returns {Answer<T>} */
  decode(_bytes) {
    throw new TypeError("expected a history that says how it is answered");
  }

  /** The range, as part of a question. */
  ends() {
    const { from, to } = this.range;
    return { ...(from === null ? {} : { from: String(from) }), ...(to === null ? {} : { to: String(to) }) };
  }

  /** The series to hold. @param {Iterable<number>} ids */
  want(ids) {
    const wanted = new Set(ids);
    const same = wanted.size === this.wanted.size && [...wanted].every((id) => this.wanted.has(id));
    if (same) return;
    this.wanted = wanted;
    for (const id of this.series.keys()) if (!wanted.has(id)) this.series.delete(id);
    if ([...wanted].every((id) => this.series.has(id))) return;
    this.asked = "";
    this.refresh();
  }

  /** How many buckets of a series are enough. @param {number} most */
  limit(most) {
    if (most === this.most) return;
    this.most = most;
    this.refresh();
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
    if (this.wanted.size === 0) return;
    const question = this.question();
    const since = question === this.asked ? `&since=${encodeURIComponent(this.mark)}` : "";
    try {
      const answer = this.decode(await getPacked(question + since));
      if (load !== this.loads) return;
      this.adopt(answer);
      this.asked = answer.mark && question;
      this.mark = answer.mark;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const transient = error.status === 0 || error.status >= 500 || error.status === 429;
      if (load === this.loads && transient) this.refresh(RETRY_MS);
    }
  }

  /** @param {Answer<T>} answer */
  adopt(answer) {
    this.width = answer.width;
    this.gaps = answer.gaps;
    const last = this.gaps.at(-1);
    if (last && this.settled?.from === last.from) this.settled = last; // asked once for each
    if (answer.since === null) this.series.clear();
    for (const [id, part] of answer.series) {
      const known = this.series.get(id);
      if (known && answer.since !== null) known.replace(answer.since, part);
      else if (this.wanted.has(id)) this.series.set(id, part);
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

  /** Double the width once there are too many buckets; what the mark stands for is then gone. */
  thin() {
    let most = 0;
    for (const buckets of this.series.values()) most = Math.max(most, buckets.length);
    if (most <= this.most) return;
    this.asked = "";
    this.width *= 2;
    for (const buckets of this.series.values()) buckets.coarsen(this.width);
  }

  close() {
    this.loads += 1;
    window.clearTimeout(this.timer);
  }
}
