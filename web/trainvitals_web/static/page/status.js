/** How things are, in a word, an icon and a sentence: the verdict on a run, and the state of the connection. */

import { hasEnded } from "../data/board.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { ago, name as plain, span, step } from "../words.js";
import { icon } from "./icons.js";

/** @typedef {import("../../../types/contract").Verdict} Verdict */
/** @typedef {import("../../../types/contract").Run} Run */
/** @typedef {import("../link/socket.js").Socket} Socket */
/** @typedef {{tone: "good" | "busy" | "bad" | "still", word: string, detail: string}} Link */

const WORDS = { ok: "Healthy", warning: "Warning", critical: "Critical", unknown: "Unknown" };
const STALE_MS = 12_000; // the server says something every 5 s
const LOST_MS = 10_000;

/** @param {string} level @returns {keyof typeof WORDS} */
const known = (level) => (Object.hasOwn(WORDS, level) ? /** @type {keyof typeof WORDS} */ (level) : "unknown");

/** @param {string} level */
export const levelWord = (level) => WORDS[known(level)];

/**
 * The verdict's sentence without the level at its start, since the badge beside it says that.
 * @param {Verdict} verdict
 */
export function sentence({ level, text }) {
  const said = `${level}:`;
  const rest = text.toLowerCase().startsWith(said) ? text.slice(said.length).trimStart() : text;
  const isWord = /^[a-z]+[ ,]/.test(rest); // and not the name of a layer, which stays as it is
  return isWord ? rest.charAt(0).toUpperCase() + rest.slice(1) : rest;
}

/** @param {Verdict} verdict */
export function badge({ level }) {
  return html`<span class=${`badge ${known(level)}`}>${icon(known(level))} ${levelWord(level)}</span>`;
}

/**
 * Between browser and server; null while all is well.
 * @param {Socket} socket
 * @param {number} now
 * @returns {Link | null}
 */
export function browserLink(socket, now) {
  if (socket.phase === "closed" || socket.lost !== null) {
    const lost = now - (socket.lost ?? now);
    if (lost < LOST_MS)
      return { tone: "busy", word: "Reconnecting", detail: "this page lost its connection to the server" };
    return { tone: "bad", word: "Server lost", detail: `no connection for ${span(lost / 1000)}; trying again` };
  }
  if (socket.phase === "connecting") return { tone: "busy", word: "Connecting", detail: "" };
  const silent = now - socket.heard;
  if (silent > STALE_MS)
    return { tone: "bad", word: `Stale since ${span(silent / 1000)}`, detail: "the server says nothing" };
  return null;
}

/**
 * The verdict, unless the server has fallen silent or stores nothing: what was well then need not be well now.
 * @param {Verdict} verdict
 * @param {Link | null} link
 * @param {string} trouble of the store
 * @returns {Verdict}
 */
export function unlessSilent(verdict, link, trouble) {
  if (verdict.level === "critical" || (link?.tone !== "bad" && !trouble)) return verdict;
  const why = trouble ? "Nothing can be stored now" : "Nothing is heard from the server";
  return { level: "unknown", text: `${why}; the last word was: ${sentence(verdict)}` };
}

/** Between trainer and server. @param {Run | null} run @param {number} now by the server's clock @returns {Link} */
export function trainerLink(run, now) {
  if (run === null) return { tone: "busy", word: "Connecting", detail: "" };
  if (hasEnded(run))
    return {
      tone: "still",
      word: "Trainer ended",
      detail: `${run.state}${run.reason ? `: ${plain(run.reason)}` : ""}`,
    };
  if (run.state === "stalled" && run.connected)
    return { tone: "bad", word: "Trainer stalled", detail: plain(run.reason).slice(0, 400) };
  if (run.state === "lost" || run.state === "stalled" || !run.connected) {
    const since = run.last_seen ? ` for ${span((now - Date.parse(run.last_seen)) / 1000)}` : "";
    return {
      tone: "bad",
      word: `Trainer silent${since}`,
      detail: plain(run.reason).slice(0, 400) || "the server hears nothing from it; it may be writing to its own disk",
    };
  }
  return { tone: "good", word: "Live", detail: `last heard ${ago(run.last_seen, now)}` };
}

/**
 * @param {import("../data/board.js").Board} board
 * @param {import("../data/view.js").View} view
 * @param {number} now
 * @returns {Link}
 */
export function connection(board, view, now) {
  const browser = browserLink(board.socket, now);
  if (browser) return browser;
  const { trouble } = board.store;
  if (trouble && !hasEnded(board.run)) return { tone: "bad", word: "Not storing", detail: plain(trouble).slice(0, 400) };
  const trainer = trainerLink(board.run, board.socket.now());
  if (view.cursor === null || trainer.tone !== "good") return trainer;
  const behind = Math.max(0, board.extent()[1] - view.cursor);
  return {
    tone: "still",
    word: `Paused, ${step(behind)} steps behind`,
    detail: "the run goes on; this page shows an earlier step",
  };
}

/** @param {Link} link */
export function chip({ tone, word, detail }) {
  return html`<span class=${`chip ${tone}`} title=${detail} data-link=${word}><i aria-hidden="true"></i>${word}</span>
    ${detail ? html`<span class="sr">${detail}</span>` : nothing}`;
}
