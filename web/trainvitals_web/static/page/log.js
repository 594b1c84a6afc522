/** Every event in words, newest first: the table behind the timeline. */

import { describe, severity } from "../data/events.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { clock, cut, elide, name as plain, step } from "../words.js";

const ROWS = 200;
const TONES = ["routine", "repaired", "uneasy", "broken"];

/** @param {import("../data/board.js").Board} board @param {import("../data/view.js").View} view */
export function log(board, view) {
  const { sorted } = board.events;
  const shown = sorted.slice(-ROWS).reverse();
  return html`<h2>Events <span class="note">${step(sorted.length)}</span></h2>
    ${shown.length === 0 ? html`<p class="note">Nothing has happened yet.</p>` : nothing}
    <div class="scroll" tabindex="0" role="region" aria-label="All events" ?hidden=${shown.length === 0}>
      <table>
        <thead>
          <tr>
            <th class="n">Step</th>
            <th>Time</th>
            <th>What</th>
            <th>Layer</th>
            <th>In words</th>
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (event) =>
              html`<tr class=${view.cursor !== null && event.step > view.cursor ? "future" : nothing}>
                <td class="n">
                  <button class="link" @click=${() => view.goTo(event.step)}>${step(event.step)}</button>
                </td>
                <td class="note">${clock(event.time)}</td>
                <td class=${TONES[severity(event)]}>${plain(event.type)}</td>
                <td class="path" title=${event.layer ? plain(event.layer).slice(0, 1000) : nothing}>
                  ${event.layer ? elide(event.layer, 48) : ""}
                </td>
                <td>${cut(describe(event), 200)}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${sorted.length > ROWS ? html`<p class="note">The newest ${ROWS}; the timeline shows all.</p>` : nothing}`;
}
