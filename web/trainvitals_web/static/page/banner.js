/** Said on every page while the server's store is in trouble, or about to be; gone by itself when it is not. */

import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { cut } from "../words.js";
import { icon } from "./icons.js";

const MEANS = "Trainers keep their records and send them again; training goes on, and this page stands still until then.";

/** @param {import("../../../types/contract").StoreHealth} store */
export function banner({ trouble, warning }) {
  if (!trouble && !warning) return nothing;
  const tone = trouble ? "critical" : "warning";
  return html`<div class=${`banner ${tone}`} role="status">
    ${icon(tone)}
    <p>
      <b>${trouble ? "The server cannot store anything" : "The server's store needs attention"}:</b>
      ${cut(trouble || warning, 300)}${trouble ? `. ${MEANS}` : ""}
    </p>
  </div>`;
}
