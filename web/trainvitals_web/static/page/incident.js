/** The written incident: what broke first, what followed, what to change. Each sentence leads to its step. */

import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { count, cut, elide, name as plain, number, step, toNumber } from "../words.js";

/** @typedef {import("../../../types/contract").Incident} Incident */
/** @typedef {import("../data/view.js").View} View */

/** @param {Incident[]} incidents @param {View} view */
export function incidents(incidents, view) {
  if (incidents.length === 0) return nothing;
  return html`<h2>${incidents.length === 1 ? "Incident" : "Incidents"}</h2>
    ${[...incidents]
      .reverse()
      .map((one, i) => html`<details class="incident" ?open=${i === 0}>${written(one, view)}</details>`)}`;
}

/** @param {Incident} one @param {View} view */
function written(one, view) {
  return html`<summary>
      <b>From step ${step(one.first_bad_step)}${one.rank ? ` on rank ${one.rank}` : ""}</b>
      <span class=${one.open ? "broken" : "repaired"}
        >${one.open ? "still open" : `over${one.last_step === null ? "" : ` by step ${step(one.last_step)}`}`}</span
      >
      <span class="path" title=${plain(one.first_bad_layer ?? "").slice(0, 1000)}
        >${elide(one.first_bad_layer ?? "layer unknown", 72)}</span
      >
    </summary>
    <p>${facts(one)}</p>
    <ol class="chain">
      ${one.chain.map(
        (link) =>
          html`<li class=${view.cursor !== null && link.step > view.cursor ? "future" : nothing}>
            <button class="link" @click=${() => view.goTo(link.step)}>${step(link.step)}</button>
            <span>${cut(link.text, 300)}</span>
          </li>`,
      )}
    </ol>
    ${
      one.advice.length
        ? html`<h3>What to change</h3>
            <ul class="advice">
              ${one.advice.map((text) => html`<li>${cut(text, 400)}</li>`)}
            </ul>`
        : nothing
    }`;
}

/** @param {Incident} one */
function facts(one) {
  const parts = [`First non-finite: ${plain(one.kind)}`];
  if (one.channels !== null && one.channels >= 0) parts.push(count(one.channels, "channel"));
  if (one.precision) parts.push(`precision ${plain(one.precision)}`);
  const headroom = toNumber(one.headroom);
  if (one.headroom !== null) parts.push(headroom > 0 ? `headroom before it ${number(headroom)}×` : "no headroom left");
  parts.push(count(one.sanitizations, "repair"));
  return `${parts.join(", ")}.`;
}
