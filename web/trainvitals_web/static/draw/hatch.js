/** Hatched fills for cells that hold no ordinary number, told apart by their lines and not by colour alone. */

import { theme } from "./theme.js";

const SIZE = 6;

/** @typedef {"nan" | "inf" | "lost"} Fault */

/** @type {Map<string, CanvasPattern | string>} */
const made = new Map();

/** NaN: diagonals; ±Inf: horizontal bars; lost: wide diagonals on nothing, the other way. @param {CanvasRenderingContext2D} context @param {Fault} fault */
export function hatch(context, fault) {
  const { nan, inf, soft } = theme();
  const colour = { nan, inf, lost: soft }[fault];
  const key = fault + colour;
  let pattern = made.get(key);
  if (!pattern) made.set(key, (pattern = context.createPattern(tile(fault, colour), "repeat") ?? colour));
  return pattern;
}

/** @param {Fault} fault @param {string} colour */
function tile(fault, colour) {
  if (fault === "lost") return sparse(colour);
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = colour;
  context.fillRect(0, 0, SIZE, SIZE);
  context.strokeStyle = "rgba(255,255,255,0.75)";
  context.lineWidth = 1.2;
  context.beginPath();
  for (let k = -SIZE; k <= SIZE; k += SIZE) {
    if (fault === "nan") (context.moveTo(k - 1, SIZE + 1), context.lineTo(k + SIZE + 1, -1));
    else (context.moveTo(0, k + SIZE / 2), context.lineTo(SIZE, k + SIZE / 2));
  }
  context.stroke();
  return canvas;
}

/** @param {string} colour */
function sparse(colour) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.strokeStyle = colour;
  context.globalAlpha = 0.75;
  context.lineWidth = 1;
  context.beginPath();
  for (let k = -SIZE; k <= SIZE; k += SIZE) (context.moveTo(k - 1, -1), context.lineTo(k + SIZE + 1, SIZE + 1));
  context.stroke();
  return canvas;
}
