/**
 * When things are drawn: in animation frames, within a budget of time, never because a message came.
 *
 * Two lanes. *Jobs* are cheap (text, canvas): they run when one of their topics was marked, each at most every so many
 * milliseconds, in turn, until the frame's budget is spent. *Commits* are dear (one Plotly chart costs about 13 ms):
 * one at a time, the one drawn longest ago first, 150 ms apart while data merely arrives, one per frame after the
 * reader did something.
 */

const BUDGET_MS = 8;
const COMMIT_GAP_MS = 150;

/** @typedef {{topics: Set<string>, draw: () => void, every: number, last: number, dirty: boolean}} Job */
/** @typedef {{stale: boolean, urgent: boolean, visible: boolean, drawn: number, commit: () => void}} Commit */

export class Painter {
  constructor() {
    /** @type {Job[]} */
    this.jobs = [];
    /** @type {Commit[]} */
    this.commits = [];
    this.nextJob = 0;
    this.lastCommit = -Infinity;
    this.frame = 0;
    this.timer = 0;
    this.ended = false;
  }

  /**
   * Draw when one of `topics` is marked.
   * @param {string[]} topics
   * @param {() => void} draw
   * @param {number} [every] ms
   */
  job(topics, draw, every = 0) {
    this.jobs.push({ topics: new Set(topics), draw, every, last: -Infinity, dirty: true });
    this.wake();
  }

  /** @param {string} topic */
  mark(topic) {
    for (const job of this.jobs) if (job.topics.has(topic)) job.dirty = true;
    this.wake();
  }

  wake() {
    if (this.frame || this.ended) return;
    this.frame = requestAnimationFrame((now) => this.paint(now));
  }

  /** @param {number} now */
  paint(now) {
    this.frame = 0;
    const end = performance.now() + BUDGET_MS;
    for (let tried = 0; tried < this.jobs.length && performance.now() < end; tried++) {
      const job = this.jobs[this.nextJob % this.jobs.length];
      this.nextJob += 1;
      if (!job.dirty || now - job.last < job.every) continue;
      job.dirty = false;
      job.last = now;
      job.draw();
    }
    this.commitOne(now);
    this.restOrGoOn(now);
  }

  /** @param {number} now */
  commitOne(now) {
    const waiting = this.waiting();
    if (waiting.length === 0) return;
    const urgent = waiting.filter((one) => one.urgent);
    if (urgent.length === 0 && now - this.lastCommit < COMMIT_GAP_MS) return;
    const pool = urgent.length ? urgent : waiting;
    const chosen = pool.reduce((oldest, one) => (one.drawn < oldest.drawn ? one : oldest));
    chosen.stale = chosen.urgent = false;
    this.lastCommit = chosen.drawn = now;
    chosen.commit();
  }

  waiting() {
    return this.commits.filter((one) => one.stale && one.visible);
  }

  /**
   * With nothing due now but something due later, a timer wakes us; otherwise the next mark does.
   * @param {number} now
   */
  restOrGoOn(now) {
    const waiting = this.waiting();
    if (waiting.some((one) => one.urgent)) return this.wake();
    const due = this.jobs.filter((job) => job.dirty).map((job) => job.last + job.every - now);
    if (waiting.length) due.push(this.lastCommit + COMMIT_GAP_MS - now);
    if (due.length === 0) return;
    const wait = Math.min(...due);
    if (wait <= 16) return this.wake();
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.wake(), wait);
  }

  close() {
    this.ended = true;
    window.clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
  }
}
