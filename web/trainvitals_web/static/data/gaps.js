/**
 * Where a line may not be drawn: over records that were lost, and over steps of which nothing came.
 *
 * A gap goes from step to step. One whose steps the trainer knew names the lost ones; any other lies between the frames
 * at its ends, which were not lost. One that ends where it begins may still go on.
 */

import { count, cut, step as whole } from "../words.js";

/** @typedef {import("./course.js").Course<any>} Course */
/** @typedef {import("../../../types/contract").Gap} Gap */

const STRIDES = 5; // on either side, for the usual distance
const HOLE = 4; // times the usual distance between buckets: something is missing there
const LONGEST_REASON = 160;

/**
 * Whether a line may not join buckets `i - 1` and `i`, for `i` from `start` on.
 * A gap inside a bucket breaks the line behind it, one that touches its first step also before it.
 * @param {Course} buckets
 * @param {Gap[]} gaps
 * @param {number} [start]
 * @returns {(i: number) => boolean}
 */
export function breaks(buckets, gaps, start = 1) {
  const broken = new Uint8Array(Math.max(0, buckets.length - start));
  const edge = buckets.width > 1 ? 1 : 0;
  for (const { from, to } of gaps) {
    if (from === null) continue;
    const first = buckets.indexAt(from - edge) + 1; // the first that starts behind it
    const last = buckets.indexAt(Math.max(from, (to ?? from) - 1 + edge)) + 1; // after the last that starts before its end
    for (let i = Math.max(first, start); i <= Math.min(last, buckets.length - 1); i++) broken[i - start] = 1;
  }
  return (i) => broken[i - start] === 1 || isHole(buckets, i);
}

/** Far more than the usual distance on either side; observing fewer steps, or more, is none. @param {Course} buckets @param {number} i */
function isHole({ columns: { step }, width, length }, i) {
  const distance = step[i] - step[i - 1];
  if (distance <= HOLE * width) return false;
  const around = Math.max(usual(step, i - 1 - STRIDES, i - 1), usual(step, i, Math.min(length - 1, i + STRIDES)));
  return around > 0 && distance > HOLE * Math.max(around, width);
}

/** The median distance among some buckets; 0 where there are not two. @param {Float64Array} step @param {number} from @param {number} to */
function usual(step, from, to) {
  const strides = [];
  for (let i = Math.max(0, from) + 1; i <= to; i++) strides.push(step[i] - step[i - 1]);
  strides.sort((a, b) => a - b);
  return strides.length ? strides[strides.length >> 1] : 0;
}

/**
 * The gap at a step, give or take some.
 * @param {Gap[]} gaps @param {number | null} step @param {number} [slack]
 */
export function gapAt(gaps, step, slack = 0) {
  if (step === null) return undefined;
  return gaps.find(({ from, to }) => from !== null && from - slack <= step && step <= (to ?? from) + slack);
}

/** The gaps within a range of steps. @param {Gap[]} gaps @param {[number, number]} range */
export const gapsWithin = (gaps, [low, high]) =>
  gaps.filter(({ from, to }) => from !== null && from <= high && (to ?? from) >= low);

/** How many, which steps, why. @param {Gap} gap */
export function describeGap({ from, to, count: lost, reason }) {
  const where = from === null ? "" : to === null || to === from ? ` at step ${whole(from)}` : `, steps ${whole(from)} to ${whole(to)}`;
  const what = lost > 0 ? `${count(lost, "record")} lost` : "not received";
  return `${what}${where}${reason ? `: ${cut(reason, LONGEST_REASON)}` : ""}`;
}

/** All of them in one sentence; "" for none. @param {Gap[]} gaps */
export function sumGaps(gaps) {
  const lost = gaps.reduce((sum, gap) => sum + gap.count, 0);
  return lost ? `${count(lost, "record")} lost in ${count(gaps.length, "gap")}` : "";
}
