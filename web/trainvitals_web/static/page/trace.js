/**
 * What the trainer left to read: the exception that ended the run with its traceback, or the stack of the place where
 * it hangs. Text of the training program: it stays text, whatever it says.
 */

import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { clock, cut, name as plain, step } from "../words.js";
import { icon } from "./icons.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {{title: string, text: string, trace: string, step: number, time: string, tone: "critical" | "warning"}} Trace */

const OPEN = ["starting", "live", "stalled", "lost"];
const MOST = 60_000; // characters shown and copied

/** @param {Board} board @returns {Trace | null} */
export function failureOf({ run, events }) {
  if (!run) return null;
  const failed = events.sorted.filter(({ type, data }) => type === "lifecycle" && data.state === "failed");
  const ranks = run.ranks?.troubled.filter((one) => one.state === "failed" && one.rank).map((one) => one.rank) ?? [];
  const event =
    run.state === "failed" ? failed.findLast(({ rank }) => rank === 0) : failed.findLast(({ rank }) => ranks.includes(rank));
  if (!event) return null;
  const { error, reason, traceback } = event.data;
  return {
    title: event.rank ? `Rank ${event.rank} failed` : "The run failed",
    text: String(error || reason),
    trace: String(traceback ?? ""),
    step: event.step,
    time: event.time,
    tone: "critical",
  };
}

/** Where it hangs, while no step has ended since. @param {Board} board @returns {Trace | null} */
export function hangingOf({ run, events }) {
  if (!run || !OPEN.includes(run.state)) return null;
  const event = events.sorted.findLast(({ type, rank, data }) => type === "notice" && rank === 0 && data.code === "hung");
  if (!event || event.step < (run.step ?? 0)) return null;
  const [text, ...stack] = String(event.data.text).split("\n");
  return { title: "Training hangs", text, trace: stack.join("\n"), step: event.step, time: event.time, tone: "warning" };
}

/** @param {Board} board @param {(step: number) => void} goTo @param {(text: string) => void} say */
export function traces(board, goTo, say) {
  return [failureOf(board), hangingOf(board)].map((one) => (one ? block(one, goTo, say) : nothing));
}

/** @param {Trace} trace @param {(step: number) => void} goTo @param {(text: string) => void} say */
function block(trace, goTo, say) {
  const { title, text, tone } = trace;
  const [first, rest] = split(text);
  return html`<section class=${`blame ${tone}`} aria-label=${title}>
    <header>
      <h2>${icon(tone)} ${title}</h2>
      <span class="note"
        >at step <button class="link" @click=${() => goTo(trace.step)}>${step(trace.step)}</button>,
        ${clock(trace.time)}</span
      >
      <button class="quiet" @click=${() => copy(trace, say)}>Copy</button>
    </header>
    <p class="text">${cut(first, 600)}</p>
    ${
      trace.trace || rest
        ? html`<details ?open=${trace.trace.length < 6000}>
            <summary>${tone === "critical" ? "Traceback" : "Stack of the training thread"}</summary>
            <pre tabindex="0" role="region" aria-label=${`${title}: details`}>${lines(trace.trace || rest)}</pre>
          </details>`
        : nothing
    }
  </section>`;
}

/** The first line, and the rest of a message of many. @param {string} text @returns {[string, string]} */
function split(text) {
  const at = text.indexOf("\n");
  return at < 0 ? [text, ""] : [text.slice(0, at), text];
}

/** Line breaks stay; whatever else cannot be seen is spelled out. @param {string} text */
const lines = (text) => text.slice(0, MOST).split("\n").map(plain).join("\n");

/** @param {Trace} trace @param {(text: string) => void} say */
async function copy({ text, trace }, say) {
  const whole = trace.includes(text) ? trace : `${text}\n${trace}`;
  const done = await navigator.clipboard?.writeText(whole).then(
    () => true,
    () => false,
  );
  say(done ? "Copied" : "Not copied: the browser does not allow it here");
}
