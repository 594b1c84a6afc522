/** The strip of open alerts: what fired, where, since when, and a button to say that it has been seen. */

import { ApiError, postJson } from "../link/api.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { cut, name as plain, number, step, toNumber } from "../words.js";
import { icon } from "./icons.js";

/** @typedef {import("../../../types/contract").Alert} Alert */
/** @typedef {import("../data/board.js").Board} Board */

const SHOWN = 3;
const LISTED = 40; // of the others
const RANK = { critical: 0, warning: 1, info: 2 };
const ICONS = /** @type {const} */ ({ critical: "critical", warning: "warning", info: "unknown" });
const STATUS = { firing: "new", acknowledged: "seen", regressed: "came back", resolved: "resolved" };

/** Open alerts, most severe first, then newest. @param {Board} board */
export function openAlerts(board) {
  return [...board.alerts.values()]
    .filter((alert) => alert.status !== "resolved")
    .sort((a, b) => RANK[a.severity] - RANK[b.severity] || b.last_step - a.last_step);
}

/** @param {Board} board @param {import("../data/view.js").View} view @param {(text: string) => void} say */
export function alertStrip(board, view, say) {
  const open = openAlerts(board);
  if (open.length === 0) return nothing;
  const more = open.length - SHOWN;
  return html`<section class="alerts" aria-label="Open alerts">
    <ul>
      ${open.slice(0, SHOWN).map((alert) => row(alert, board, view, say))}
    </ul>
    ${
      more > 0
        ? html`<details>
            <summary>${more} more</summary>
            <ul>
              ${open.slice(SHOWN, SHOWN + LISTED).map((alert) => row(alert, board, view, say))}
            </ul>
            ${more > LISTED ? html`<p class="note">and ${more - LISTED} less severe</p>` : nothing}
          </details>`
        : nothing
    }
  </section>`;
}

/**
 * @param {Alert} alert
 * @param {Board} board
 * @param {import("../data/view.js").View} view
 * @param {(text: string) => void} say
 */
function row(alert, board, view, say) {
  const steps =
    alert.first_step === alert.last_step
      ? step(alert.first_step)
      : `${step(alert.first_step)} to ${step(alert.last_step)}`;
  const fresh = alert.status !== "acknowledged";
  return html`<li class=${`alert ${alert.severity}`} data-rule=${plain(alert.rule)}>
    <span class="sign">${icon(ICONS[alert.severity] ?? "unknown")} ${alert.severity}</span>
    <div class="what">
      <p>
        <b>${cut(alert.title, 120)}</b>
        <span class="text" title=${plain(alert.text).slice(0, 1000)}>${cut(alert.text, 220)}</span>
      </p>
      <span class="note"
        >${STATUS[alert.status]} · ${alert.count > 1 ? `${step(alert.count)} times, ` : ""}step
        ${steps}${limits(alert)}</span
      >
    </div>
    <button class="quiet" @click=${() => view.goTo(alert.first_step)}>Show</button>
    ${fresh ? acknowledgeButton(alert, board, say) : nothing}
  </li>`;
}

/** @param {Alert} alert @param {Board} board @param {(text: string) => void} say */
function acknowledgeButton(alert, board, say) {
  const may = board.role === "control";
  return html`<button
    ?disabled=${!may}
    title=${may ? nothing : "This session may only look"}
    @click=${() => acknowledge(alert, board, say)}
  >
    Acknowledge
  </button>`;
}

/** @param {Alert} alert */
function limits({ value, threshold }) {
  if (value === null || threshold === null) return "";
  return ` · ${number(toNumber(value))} against ${number(toNumber(threshold))}`;
}

/** @param {Alert} alert @param {Board} board @param {(text: string) => void} say */
async function acknowledge(alert, board, say) {
  try {
    const seen = await postJson(`/api/alerts/${encodeURIComponent(String(alert.id))}/ack`);
    board.alerts.set(seen.id, seen);
    board.mark("alerts");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(`Not acknowledged: ${error.message}`);
  }
}
