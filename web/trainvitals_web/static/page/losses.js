/** What a run lacks, and why: ranks that are gone, gaps, and records that were set aside as nothing can read them. */

import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { count, cut, step } from "../words.js";

/** Ranks that are not well, each in a line. @param {import("../../../types/contract").Run} run */
export function troubledRanks({ ranks }) {
  if (!ranks || ranks.size < 2) return nothing;
  return ranks.troubled.map(
    ({ rank, state, step: at, reason }) =>
      html`<p class="note rank">
        <span class="uneasy">rank ${rank} ${state}</span> at step ${step(at)}${reason ? `: ${cut(reason, 240)}` : ""}
      </p>`,
  );
}

/** @param {import("../../../types/contract").Run} run */
export function losses({ lost, quarantined, set_aside: aside }) {
  const parts = [];
  if (lost?.gaps) parts.push(`${count(lost.records, "record")} lost in ${count(lost.gaps, "gap")}`);
  if (quarantined) parts.push(`${count(quarantined, "record")} ${quarantined === 1 ? "was" : "were"} set aside`);
  if (parts.length === 0) return nothing;
  return html`<details class="losses">
    <summary class="uneasy">${parts.join("; ")}</summary>
    <ul>
      ${(lost?.reasons ?? []).map(
        ({ records, reason, from, to }) =>
          html`<li>
            ${count(records, "record")}, ${from === to ? `at step ${step(from)}` : `steps ${step(from)} to ${step(to)}`}:
            ${cut(reason, 300)}
          </li>`,
      )}
      ${(aside ?? []).map(({ count: n, reason }) => html`<li>${count(n, "record")} set aside: ${cut(reason, 300)}</li>`)}
    </ul>
  </details>`;
}
