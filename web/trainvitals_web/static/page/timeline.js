/** The event timeline: one lane per kind of event, neighbours that would overlap joined into one mark with a count. */

import { describe, severity } from "../data/events.js";
import { describeGap } from "../data/gaps.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { cut, span as seconds, step } from "../words.js";
import { icon } from "./icons.js";

/** @typedef {import("../../../types/contract").Event} Event */
/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {{share: number, events: Event[], worst: Event}} Mark */

const NEAR_PX = 13;
const TONES = ["routine", "repaired", "uneasy", "broken"];

/** @type {{title: string, icon: import("./icons.js").Icon, types: string[]}[]} */
const LANES = [
  { title: "Non-finite", icon: "cross", types: ["nonfinite", "origin", "health"] },
  { title: "Repairs", icon: "plus", types: ["sanitized", "command"] },
  { title: "Validation", icon: "circle", types: ["validation"] },
  { title: "Checkpoints", icon: "square", types: ["checkpoint"] },
  { title: "Trainer", icon: "triangle", types: ["lifecycle", "notice", "fault", "gap"] },
];

/** @param {Board} board @param {View} view @param {number} width of the lanes in CSS pixels */
export function timeline(board, view, width) {
  const [from, to] = view.span();
  const share = (/** @type {number} */ at) => (at - from) / (to - from);
  const lanes = LANES.map((lane) => ({ ...lane, marks: marksOf(board, lane.types, share, width) }));
  const cursor = view.cursor === null ? -1 : share(view.cursor);
  let first = true;
  return html`<div class="timeline" @keydown=${rove}>
      ${lostSpans(board, share)}
      ${lanes.map(
        (lane) =>
          html`<div class="lane">
            <span class="title">${lane.title}</span>
            <div class="track">
              ${lane.marks.map((mark) => {
                const button = markButton(mark, lane.icon, view, first);
                first = false;
                return button;
              })}
            </div>
          </div>`,
      )}
      ${cursor >= 0 && cursor <= 1 ? html`<i class="cursor" style=${`--share: ${cursor}`}></i>` : nothing}
    </div>
    ${atCursor(board, view)}`;
}

/** Steps whose records were lost, over all lanes: an empty lane there is no quiet one. @param {Board} board @param {(step: number) => number} share */
function lostSpans(board, share) {
  return board.charts.gaps.map((gap) => {
    if (gap.from === null) return nothing;
    const [from, to] = [Math.max(0, share(gap.from)), Math.min(1, share(gap.to ?? gap.from))];
    if (from > 1 || to < 0) return nothing;
    return html`<i class="lost" title=${describeGap(gap)} style=${`--share: ${from}; --reach: ${to - from}`}></i>`;
  });
}

/**
 * @param {Board} board
 * @param {string[]} types
 * @param {(step: number) => number} share
 * @param {number} width
 * @returns {Mark[]}
 */
function marksOf(board, types, share, width) {
  /** @type {Mark[]} */
  const marks = [];
  for (const event of board.events.marked) {
    if (!types.includes(event.type)) continue;
    const at = share(event.step);
    if (at < 0 || at > 1) continue;
    const last = marks.at(-1);
    if (last && (at - last.share) * width < NEAR_PX) {
      last.events.push(event);
      if (severity(event) > severity(last.worst)) last.worst = event;
    } else marks.push({ share: at, events: [event], worst: event });
  }
  return marks;
}

/** @param {Mark} mark @param {import("./icons.js").Icon} sign @param {View} view @param {boolean} first */
function markButton({ share, events, worst }, sign, view, first) {
  const shown = events
    .slice(0, 5)
    .map((event) => `Step ${step(event.step)}, ${event.type}: ${cut(describe(event), 160)}`);
  if (events.length > 5) shown.push(`and ${events.length - 5} more`);
  const label = `${events.length > 1 ? `${events.length} events: ` : ""}${shown.join("; ")}`;
  const future = view.cursor !== null && worst.step > view.cursor;
  return html`<button
    class=${`event ${TONES[severity(worst)]} ${future ? "future" : ""}`}
    style=${`--share: ${share}`}
    tabindex=${first ? 0 : -1}
    title=${shown.join("\n")}
    aria-label=${label}
    data-type=${worst.type}
    @click=${() => view.goTo(worst.step)}
  >
    ${icon(sign)}${events.length > 1 ? html`<small>${events.length}</small>` : nothing}
  </button>`;
}

/** Left and right go from mark to mark. @param {KeyboardEvent} event */
function rove(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const root = /** @type {HTMLElement} */ (event.currentTarget);
  const marks = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("button.event")]);
  const at = marks.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (by === undefined || at < 0) return;
  event.preventDefault();
  marks[Math.max(0, Math.min(marks.length - 1, at + by))].focus();
}

/** What happened at the cursor's step, in words. @param {Board} board @param {View} view */
function atCursor(board, view) {
  if (view.cursor === null) return nothing;
  const events = board.events.sorted.filter((event) => event.step === view.cursor);
  const into = board.run && events[0] ? (Date.parse(events[0].time) - Date.parse(board.run.created)) / 1000 : NaN;
  return html`<p class="at-cursor">
    <b>Step ${step(view.cursor)}</b>
    ${events.length === 0 ? html`<span class="note">no event</span>` : nothing}
    ${events
      .slice(0, 8)
      .map((event) => html`<span class=${TONES[severity(event)]}>${event.type}: ${cut(describe(event), 160)}</span>`)}
    ${events.length > 8 ? html`<span class="note">and ${events.length - 8} more</span>` : nothing}
    ${into >= 0 ? html`<span class="note">${seconds(into)} into the run</span>` : nothing}
  </p>`;
}
