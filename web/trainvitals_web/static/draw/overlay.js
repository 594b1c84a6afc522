/**
 * The canvas over a chart, for what moves between Plotly's commits: the newest points, the cursor, the step under the
 * pointer, events, gaps, and the veil over what lies in the cursor's future. Drawing it costs a fraction of a commit.
 */

import { severity } from "../data/events.js";
import { breaks } from "../data/gaps.js";
import { hatch } from "./hatch.js";
import { fade, theme } from "./theme.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../data/view.js").View} View */
/** @typedef {import("./figure.js").Tail} Tail */
/**
 * @typedef {object} Area the plot area, in CSS pixels within the figure
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {(step: number) => number} x
 * @property {(value: number) => number} y
 * @property {Size} box the whole figure
 */
/** @typedef {import("./figure.js").Size} Size */

/**
 * Where Plotly drew the plot area, in CSS pixels.
 * @param {import("../../../types/plotly").PlotElement} element
 * @returns {Area | null}
 */
export function areaOf(element) {
  const full = element._fullLayout;
  if (!full?.xaxis?._length) return null;
  const { xaxis, yaxis } = full;
  const [from, to] = xaxis.range;
  return {
    box: { width: full.width, height: full.height },
    left: xaxis._offset,
    top: full.yaxis9 ? Math.min(yaxis._offset, full.yaxis9._offset) : yaxis._offset,
    width: xaxis._length,
    height: yaxis._offset + yaxis._length - Math.min(yaxis._offset, full.yaxis9?._offset ?? yaxis._offset),
    x: (step) => xaxis._offset + ((step - from) / (to - from)) * xaxis._length,
    y: (value) => yaxis._offset + yaxis.d2p(value),
  };
}

/** @param {HTMLElement} element */
export const sizeOf = (element) => ({
  width: Math.max(80, element.clientWidth),
  height: Math.max(60, element.clientHeight),
});

/**
 * Size a canvas in device pixels and clear it. The size is told, since measuring would make the browser lay out.
 * @param {HTMLCanvasElement} canvas @param {Size} size in CSS pixels
 */
export function clearCanvas(canvas, size) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, size.width, size.height);
  return context;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Area} area
 * @param {Board} board
 * @param {View} view
 * @param {Tail[]} tails
 */
export function drawOverlay(canvas, area, board, view, tails) {
  const context = clearCanvas(canvas, area.box);
  context.save();
  context.beginPath();
  context.rect(area.left, 0, area.width, area.top + area.height + 1);
  context.clip();
  drawGaps(context, area, board);
  for (const tail of tails) drawTail(context, area, board, tail);
  drawEvents(context, area, board);
  drawCursor(context, area, view);
  context.restore();
}

const LEAST_GAP_PX = 3;

/** @param {CanvasRenderingContext2D} context @param {Area} area @param {Board} board */
function drawGaps(context, area, board) {
  for (const { from, to } of board.charts.gaps) {
    if (from === null) continue;
    const left = area.x(from);
    const width = Math.max(LEAST_GAP_PX, area.x(to ?? from) - left);
    if (left > area.left + area.width || left + width < area.left) continue;
    for (const style of [theme().shade, hatch(context, "lost")]) {
      context.fillStyle = style;
      context.fillRect(left, area.top, width, area.height);
    }
  }
}

/**
 * What came since the last commit, joined to what that drew.
 * @param {CanvasRenderingContext2D} context
 * @param {Area} area
 * @param {Board} board
 * @param {Tail} tail
 */
function drawTail(context, area, board, tail) {
  const buckets = board.charts.series.get(tail.id);
  if (!buckets || buckets.through <= tail.after) return;
  const values = buckets.columns[tail.field];
  context.strokeStyle = tail.colour;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  let drawing = false;
  const start = Math.max(0, buckets.indexAt(tail.after));
  const broken = breaks(buckets, board.charts.gaps, start + 1);
  for (let i = start; i < buckets.length; i++) {
    if (i > start && broken(i)) drawing = false;
    const y = buckets.nonfinite(i) ? NaN : area.y(values[i]);
    if (!Number.isFinite(y)) drawing = false;
    else if (drawing) context.lineTo(area.x(buckets.middle(i)), y);
    else context.moveTo(area.x(buckets.middle(i)), y);
    drawing = Number.isFinite(y);
  }
  context.stroke();
  drawNonfinite(context, area, buckets, tail.after);
}

/**
 * A fault must not wait for the next commit.
 * @param {CanvasRenderingContext2D} context
 * @param {Area} area
 * @param {import("../data/buckets.js").Buckets} buckets
 * @param {number} after
 */
function drawNonfinite(context, area, buckets, after) {
  context.fillStyle = theme().nan;
  for (let i = Math.max(0, buckets.indexAt(after)); i < buckets.length; i++) {
    if (buckets.nonfinite(i)) context.fillRect(area.x(buckets.middle(i)) - 1, area.top, 3, 8);
  }
}

/** @param {CanvasRenderingContext2D} context @param {Area} area @param {Board} board */
function drawEvents(context, area, board) {
  const { soft, ok, warning, critical } = theme();
  const colours = [soft, ok, warning, critical];
  /** the worst event of each pixel column @type {Map<number, number>} */
  const columns = new Map();
  for (const event of board.events.notable) {
    const x = Math.round(area.x(event.step));
    if (x < area.left || x > area.left + area.width) continue;
    columns.set(x, Math.max(columns.get(x) ?? 0, severity(event)));
  }
  for (const [x, worst] of columns) {
    context.fillStyle = fade(colours[worst], 0.3);
    context.fillRect(x, area.top, 1, area.height);
    context.fillStyle = colours[worst];
    context.fillRect(x - 1, area.top + area.height - 5, 3, 5);
  }
}

/** @param {CanvasRenderingContext2D} context @param {Area} area @param {View} view */
export function drawCursor(context, area, view) {
  const { accent, soft, sheet } = theme();
  if (view.hover !== null) {
    context.fillStyle = fade(soft, 0.5);
    context.fillRect(Math.round(area.x(view.hover)), area.top, 1, area.height);
  }
  if (view.cursor === null) return;
  const x = Math.round(area.x(view.cursor));
  const right = area.left + area.width;
  context.fillStyle = fade(sheet, 0.72);
  if (x < right)
    context.fillRect(Math.max(area.left, x + 1), 0, right - Math.max(area.left, x), area.top + area.height);
  context.fillStyle = accent;
  context.fillRect(x - 0.5, area.top, 1.5, area.height);
}
