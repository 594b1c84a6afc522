/** Colours, read from the style sheet so that light and dark are decided in one place. */

const NAMES = /** @type {const} */ ([
  "paper",
  "sheet",
  "ink",
  "soft",
  "line",
  "grid",
  "accent",
  "ok",
  "warning",
  "critical",
  "nan",
  "inf",
  "nodata",
  "sound",
  "shade",
]);

/** @typedef {Record<typeof NAMES[number], string> & {series: string[], font: string}} Theme */

/** @type {Theme | null} */
let current = null;

/** @returns {Theme} */
export function theme() {
  if (current) return current;
  const style = getComputedStyle(document.documentElement);
  const read = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  const colours = Object.fromEntries(NAMES.map((name) => [name, read(name)]));
  const series = [1, 2, 3, 4, 5, 6].map((i) => read(`series-${i}`));
  current = /** @type {Theme} */ ({ ...colours, series, font: style.fontFamily });
  return current;
}

/** Call `changed` whenever the reader's colour scheme changes. @param {() => void} changed */
export function onTheme(changed) {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    current = null;
    changed();
  });
}

export const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A colour with less opacity. @param {string} hex `#rrggbb` @param {number} alpha */
export function fade(hex, alpha) {
  const value = /^#([0-9a-f]{6})$/i.exec(hex)?.[1];
  if (!value) return hex;
  const [r, g, b] = [0, 2, 4].map((i) => parseInt(value.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

// Cividis (Nuñez, Anderton, Renslow 2018): even in lightness, and the same to readers with colour vision deficiency.
const CIVIDIS = [
  [0, 32, 76],
  [0, 42, 102],
  [0, 52, 110],
  [39, 63, 108],
  [60, 74, 107],
  [76, 85, 107],
  [91, 95, 109],
  [104, 106, 112],
  [117, 117, 117],
  [131, 129, 120],
  [146, 140, 120],
  [161, 152, 118],
  [176, 165, 114],
  [192, 177, 109],
  [209, 191, 102],
  [225, 204, 92],
  [243, 219, 79],
  [255, 233, 69],
];

/** 256 colours as 0xAABBGGRR, the order of bytes in an `ImageData`. */
export const cividis = Uint32Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (CIVIDIS.length - 1);
  const low = Math.min(CIVIDIS.length - 2, Math.floor(at));
  const [r, g, b] = CIVIDIS[low].map((c, k) => Math.round(c + (CIVIDIS[low + 1][k] - c) * (at - low)));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
});

/** @returns {string} the scale as a CSS gradient, for legends */
export function cividisGradient() {
  return `linear-gradient(90deg, ${CIVIDIS.map((c) => `rgb(${c.join(",")})`).join(", ")})`;
}
