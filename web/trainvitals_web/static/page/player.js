/** Replay: moves the cursor through a run at a multiple of the pace at which it was recorded. */

import { hasEnded } from "../data/board.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */

export const SPEEDS = [1, 5, 20, 100, 1000];
const UNKNOWN_PACE = 10; // steps per second, for a run that does not say

export class Player {
  /** @param {Board} board @param {View} view @param {(topic: string) => void} mark */
  constructor(board, view, mark) {
    this.board = board;
    this.view = view;
    this.mark = mark;
    this.playing = false;
    this.speed = 20;
    this.position = 0;
    this.last = 0;
  }

  /** Steps per second as recorded. */
  pace() {
    const { run } = this.board;
    const [first, last] = this.board.extent();
    const seconds = run?.last_seen ? (Date.parse(run.ended ?? run.last_seen) - Date.parse(run.created)) / 1000 : 0;
    return seconds > 0 ? (last - first) / seconds : UNKNOWN_PACE;
  }

  toggle() {
    if (this.playing) return this.stop();
    const [first, last] = this.board.extent();
    const at = this.view.cursor ?? last;
    if (!hasEnded(this.board.run) && this.view.cursor === null) return this.view.goTo(last);
    this.position = at >= last ? first : at;
    this.playing = true;
    this.last = performance.now();
    requestAnimationFrame((now) => this.tick(now));
    this.mark("cursor");
  }

  stop() {
    this.playing = false;
    this.mark("cursor");
  }

  /** @param {number} now */
  tick(now) {
    if (!this.playing) return;
    this.position += (Math.max(0, now - this.last) / 1000) * this.pace() * this.speed;
    this.last = now;
    const end = this.board.extent()[1];
    if (Math.round(this.position) !== this.view.cursor) this.view.goTo(Math.min(this.position, end));
    if (this.position >= end) return this.stop();
    requestAnimationFrame((next) => this.tick(next));
  }

  /** To the next notable step, or the one before. @param {1 | -1} direction */
  jump(direction) {
    const steps = this.board.events.steps();
    const at = this.view.cursor ?? this.board.extent()[1] + 1;
    const found = direction > 0 ? steps.find((one) => one > at) : steps.findLast((one) => one < at);
    if (found !== undefined) this.seek(found);
  }

  /** @param {number | null} step */
  seek(step) {
    if (this.playing) this.stop();
    this.view.goTo(step);
  }
}
