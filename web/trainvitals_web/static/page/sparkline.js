/** Severity over a run's steps, in a strip of bars whose height says what their colour says. */

import { html, nothing, svg } from "../vendor/lit-html-3.3.3/lit-html.js";

const WIDTH = 120;
const HEIGHT = 18;
const WORDS = ["ok", "info", "warning", "critical"];
const LOST = -1; // nothing is known of these steps: no bar, and no word of health

/** @param {number[]} severity 0 ok, 1 info, 2 warning, 3 critical, -1 lost, oldest first */
export function sparkline(severity) {
  if (severity.length === 0) return nothing;
  const width = WIDTH / severity.length;
  const worst = Math.max(...severity);
  const share = Math.round((100 * severity.filter((one) => one === worst).length) / severity.length);
  const lost = severity.filter((one) => one === LOST).length;
  const missing = lost ? `; records of ${Math.round((100 * lost) / severity.length)} % of the steps were lost` : "";
  const text = `worst: ${WORDS[worst] ?? "unknown"}, in ${share} % of the steps${missing}`;
  const paths = WORDS.map((word, level) => svg`<path class=${word} d=${bars(severity, level, width)} />`);
  return html`<svg class="sparkline" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${text}>
    ${paths}${svg`<path class="lost" d=${marks(severity, width)} />`}
  </svg>`;
}

/** @param {number[]} severity @param {number} level @param {number} width */
function bars(severity, level, width) {
  const height = 3 + (level * (HEIGHT - 3)) / 3;
  return severity
    .map((one, i) =>
      one === level ? `M${(i * width).toFixed(2)} ${HEIGHT}v${-height}h${width.toFixed(2)}v${height}z` : "",
    )
    .join("");
}

/** A dotted line where a bar would say something. @param {number[]} severity @param {number} width */
function marks(severity, width) {
  return severity
    .map((one, i) => (one === LOST ? `M${(i * width).toFixed(2)} ${HEIGHT - 2}h${width.toFixed(2)}` : ""))
    .join("");
}
