/**
 * The run in numbers, now or at the cursor: whatever series of the whole run there are, the loss and the hook's own in
 * the order declared, then what the user passed. A chart of one series gives it its name.
 */

import { selects } from "../draw/feeds.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { elide, label, number, step } from "../words.js";

/** @typedef {import("../../../types/contract").Series} Series */

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
    .sort((a, b) => place(a, b, "kind") || place(a, b, "stat") || a.order - b.order || a.id - b.id);
  const at = view.cursor ?? (run ? board.extent()[1] : null);
  const broken = view.cursor === null ? run?.nonfinite_layers : (moment.at?.nonfinite_layers ?? run?.nonfinite_layers);
  return html`<dl class="numbers">
    ${cell("Step", step(run?.step === null ? null : at), true)}
    ${cell("Steps/s", run?.steps_per_s ? number(run.steps_per_s) : "–")}
    ${wanted.slice(0, MOST).map((one) => {
      const value = moment.value(one.id);
      return cell(
        titleOf(board, one),
        value === undefined ? "–" : number(value),
        false,
        value !== undefined && !Number.isFinite(value),
      );
    })}
    ${cell("Broken layers", String(broken?.length ?? "–"), false, Boolean(broken?.length))}
    ${cell("Repairs", String(run?.sanitizations ?? "–"))}
  </dl>`;
}

// The wire's words: the whole run before the user's own metrics, the loss before all.
const FIRST = { kind: "run", stat: "loss" };

/** @param {Series} a @param {Series} b @param {"kind" | "stat"} what */
const place = (a, b, what) => Number(b[what] === FIRST[what]) - Number(a[what] === FIRST[what]);

/** @param {import("../data/board.js").Board} board @param {Series} series */
function titleOf(board, series) {
  const own = board.panels.find(({ feeds }) => {
    const select = feeds.length === 1 ? feeds[0].select : undefined;
    return select?.stat !== undefined && selects(series, select);
  });
  return own?.title ?? label(series.stat);
}

/** @param {string} title @param {string} value @param {boolean} [main] @param {boolean} [bad] */
function cell(title, value, main = false, bad = false) {
  return html`<div class=${main ? "main" : nothing}>
    <dt title=${title}>${elide(title, 24)}</dt>
    <dd class=${bad ? "bad" : nothing}>${value}</dd>
  </div>`;
}
