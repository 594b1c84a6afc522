/**
 * Numbers, times and names as people read them.
 *
 * Names come from the training program and are hostile until shown otherwise: `name` makes invisible and direction
 * changing characters visible, `plotText` makes a text inert where Plotly would read tags or
 * templates in it.
 */

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** @param {string} text @returns {string} */
export function name(text) {
  return text.replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** The text with its middle left out, at most `most` characters. @param {string} text @param {number} [most] */
export function elide(text, most = 56) {
  const seen = name(text.length > 4 * most ? text.slice(0, 2 * most) + text.slice(-2 * most) : text);
  if (seen.length <= most) return seen;
  const tail = Math.ceil((most - 1) * 0.6);
  return `${seen.slice(0, most - 1 - tail)}…${seen.slice(-tail)}`;
}

const LONGEST_WORD = 72;
const LONG_WORDS = new RegExp(`\\S{${LONGEST_WORD + 1},}`, "g");

/**
 * A sentence: over-long words (names) elided in their middle, the whole cut at its end.
 * @param {string} text
 * @param {number} most
 */
export function cut(text, most) {
  const seen = name(text.replace(LONG_WORDS, (word) => elide(word, LONGEST_WORD)));
  return seen.length <= most ? seen : `${seen.slice(0, most - 1).trimEnd()}…`;
}

/**
 * For Plotly, which reads a little HTML in names, hover texts and ticks.
 * @param {string} text
 * @param {number} [most]
 */
export function plotText(text, most = 56) {
  const safe = elide(text, most).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return safe.replace(/%\{/g, "% {");
}

/**
 * JSON's words for non-finite numbers, as numbers.
 * @param {import("../../types/contract").JsonNumber | null | undefined} value
 */
export function toNumber(value) {
  return value === null || value === undefined ? NaN : Number(value);
}

const WHOLE = new Intl.NumberFormat("en-US");

/** @param {number | null | undefined} value */
export function step(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

/** Four significant digits, non-finite spelled out. @param {number} value */
export function number(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "−Inf";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (Number.isInteger(value) && size < 1e6) return WHOLE.format(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("e+", "e").replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/** @param {number} value singular for one @param {string} one @param {string} [many] */
export function count(value, one, many = `${one}s`) {
  return `${WHOLE.format(value)} ${value === 1 ? one : many}`;
}

/** A span of time in one unit. @param {number} seconds */
export function span(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** @param {string | null} iso @param {number} now milliseconds */
export function ago(iso, now) {
  if (!iso) return "–";
  const seconds = (now - Date.parse(iso)) / 1000;
  return seconds < 2 ? "now" : `${span(seconds)} ago`;
}

/** Local clock time to the second. @param {string | null} iso */
export function clock(iso) {
  return iso ? new Date(iso).toLocaleTimeString("en-GB") : "–";
}

/** `running_mean.min` to "Running mean min". @param {string} stat */
export function label(stat) {
  const text = name(stat).replace(/[._]+/g, " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}
