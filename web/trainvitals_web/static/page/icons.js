/** Signs drawn as paths, so that they look alike everywhere; each stands beside a word, never alone. */

import { html } from "../vendor/lit-html-3.3.3/lit-html.js";

/** Outlines in a box of 16 by 16. */
const PATHS = {
  ok: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13ZM4.9 8.2l2.2 2.2l4-4.6",
  warning: "M8 2l6.5 12h-13ZM8 6.4v3.8M8 11.8v.4",
  critical: "M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3ZM5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8",
  unknown: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13ZM6 6.2a2 2 0 1 1 2.6 1.9q-.6.3-.6 1.2M8 11.4v.4",
  cross: "M3 3l10 10M13 3L3 13",
  plus: "M8 2v12M2 8h12",
  circle: "M8 3a5 5 0 1 0 0 10a5 5 0 0 0 0-10Z",
  square: "M3.5 3.5h9v9h-9Z",
  triangle: "M8 2.5l6 11H2Z",
  diamond: "M8 1.5l6.5 6.5L8 14.5L1.5 8Z",
  play: "M4 2.5l9 5.5l-9 5.5Z",
  pause: "M5 3v10M11 3v10",
  back: "M10.5 3L5.5 8l5 5",
  forward: "M5.5 3l5 5l-5 5",
  pulse: "M1 8.5h3.2l1.8-5l3 9.5l2-6.5l1 2h3",
};

/** @typedef {keyof typeof PATHS} Icon */

/** @param {Icon} name @param {boolean} [filled] */
export function icon(name, filled = false) {
  return html`<svg class=${filled ? "icon filled" : "icon"} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;
}
