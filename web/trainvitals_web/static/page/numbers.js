/** The run in numbers, now or at the cursor: whatever series of the whole run there are, in the order declared. */

import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { elide, label, number, step } from "../words.js";

const MOST = 14;

/**
 * @param {import("../data/board.js").Board} board
 * @param {import("../data/moment.js").Moment} moment
 * @param {import("../data/view.js").View} view
 */
export function numbers(board, moment, view) {
  const { run } = board;
  const wanted = [...board.series.values()]
    .filter((one) => one.layer === "")
    .sort((a, b) => a.order - b.order || a.id - b.id);
  const at = view.cursor ?? (run ? board.extent()[1] : null);
  const broken = view.cursor === null ? run?.nonfinite_layers : (moment.at?.nonfinite_layers ?? run?.nonfinite_layers);
  return html`<dl class="numbers">
    ${cell("Step", step(run?.step === null ? null : at), true)}
    ${cell("Steps/s", run?.steps_per_s ? number(run.steps_per_s) : "–")}
    ${wanted.slice(0, MOST).map((one) => {
      const value = moment.value(one.id);
      return cell(
        label(one.stat),
        value === undefined ? "–" : number(value),
        false,
        value !== undefined && !Number.isFinite(value),
      );
    })}
    ${cell("Broken layers", String(broken?.length ?? "–"), false, Boolean(broken?.length))}
    ${cell("Repairs", String(run?.sanitizations ?? "–"))}
  </dl>`;
}

/** @param {string} title @param {string} value @param {boolean} [main] @param {boolean} [bad] */
function cell(title, value, main = false, bad = false) {
  return html`<div class=${main ? "main" : nothing}>
    <dt title=${title}>${elide(title, 24)}</dt>
    <dd class=${bad ? "bad" : nothing}>${value}</dd>
  </div>`;
}
