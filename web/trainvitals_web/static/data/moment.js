/**
 * The run as it was at the step looked at: the newest values of every series at or before it, the verdict, what was
 * broken. Asked from the server, one question at a time, always for the step wanted last; answers are kept.
 */

import { getJson, runPath } from "../link/api.js";
import { toNumber } from "../words.js";

/** @typedef {import("../../../types/contract").At} At */

const KEPT = 300;

export class Moment {
  /** @param {import("./board.js").Board} board @param {import("./view.js").View} view @param {() => void} changed */
  constructor(board, view, changed) {
    this.board = board;
    this.view = view;
    this.changed = changed;
    /** @type {At | null} */
    this.at = null;
    /** @type {Map<number, At>} */
    this.kept = new Map();
    /** @type {number | null} */
    this.wanted = null;
    this.asking = false;
  }

  /** Follow the cursor; without one, a page that has heard no frame yet still wants the newest values. */
  follow() {
    const { cursor } = this.view;
    const newest = this.board.run?.step ?? null;
    const step = cursor ?? (this.board.latest.size === 0 ? newest : null);
    if (step === null) {
      this.at = null;
      return;
    }
    this.wanted = step;
    const kept = this.kept.get(step);
    if (kept) this.at = kept;
    else if (!this.asking) void this.ask(step);
  }

  /** @param {number} step */
  async ask(step) {
    this.asking = true;
    const answer = await getJson(`${runPath(this.board.id)}/at?step=${step}`).catch(() => null);
    this.asking = false;
    if (answer) {
      this.keep(step, answer);
      this.at = answer;
      this.changed();
      if (this.wanted !== null && this.wanted !== step) this.follow();
    }
  }

  /** Only what can no longer change is kept. @param {number} step @param {At} answer */
  keep(step, answer) {
    if (step >= this.board.newest && this.board.run?.connected) return;
    if (this.kept.size >= KEPT) this.kept.delete(/** @type {number} */ (this.kept.keys().next().value));
    this.kept.set(step, answer);
  }

  /** A series' value at the cursor, or the newest. @param {number} id @returns {number | undefined} */
  value(id) {
    const live = this.view.cursor === null ? this.board.latest.get(id) : undefined;
    if (live !== undefined) return live;
    const value = this.at?.values[String(id)];
    return value === undefined ? undefined : toNumber(value);
  }

  verdict() {
    const now = this.board.run?.verdict ?? { level: /** @type {const} */ ("unknown"), text: "Nothing is known yet" };
    return this.view.cursor === null ? now : (this.at?.verdict ?? now);
  }
}
