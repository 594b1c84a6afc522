/**
 * Heatmap cells on a canvas. Each row is reduced to the pixels it has before anything is coloured: a pixel takes the
 * worst of the cells that fall on it, and one faulty value among thousands still makes its pixel faulty.
 */

import { breaks } from "../data/gaps.js";
import { hatch } from "./hatch.js";
import { clearCanvas } from "./overlay.js";
import { countsFaults, isFault } from "./heat_rows.js";
import { cividis, theme } from "./theme.js";

/** @typedef {import("./heat_rows.js").Row} Row */
/** @typedef {import("../data/cells.js").Cells} Cells */
/** @typedef {import("./overlay.js").Area} Area */
/** @typedef {import("../../../types/contract").Metric} Metric */
/**
 * @typedef {object} Scene
 * @property {Row[]} rows all of them; those out of sight still count for the ribbon
 * @property {Metric} metric
 * @property {[number, number] | null} scale smallest and largest value, for colours
 * @property {number} scroll pixels
 * @property {[number, number]} range of steps
 * @property {import("../../../types/contract").Gap[]} gaps
 */

export const ROW = 20;
export const RIBBON = 10;
const LEAST_FAULT_PX = 3;
const JOIN = 4; // a value stands until the next one, unless that is this many bucket distances away

const NONE = 0;
const NAN = 1;
const INF = 2;

/** One row by pixels: its worst value there, and its worst fault. */
class Pixels {
  /** @param {number} width */
  constructor(width) {
    this.values = new Float64Array(width);
    this.faults = new Uint8Array(width);
  }

  /** @param {Row} row @param {Scene} scene */
  fill(row, { metric, range, gaps }) {
    this.values.fill(NaN);
    this.faults.fill(NONE);
    const { cells } = row;
    if (!cells || cells.length === 0) return;
    const { step, value } = cells.columns;
    const scale = this.values.length / (range[1] - range[0]);
    const usual = usualStride(cells);
    const broken = breaks(cells, gaps);
    for (let i = 0; i < cells.length; i++) {
      const start = (step[i] - range[0]) * scale;
      const end = start + extentOf(cells, i, usual, broken) * scale;
      if (end < 0 || start > this.values.length) continue;
      const fault = isFault(cells, i, metric) ? faultOf(cells, i, metric) : NONE;
      this.put(Math.floor(start), Math.max(Math.floor(start) + 1, Math.floor(end)), value[i], fault, metric);
    }
  }

  /** @param {number} from @param {number} to @param {number} value @param {number} fault @param {Metric} metric */
  put(from, to, value, fault, metric) {
    const sign = metric.bad === "low" ? -1 : 1;
    const last = Math.min(this.values.length, fault ? Math.max(to, from + LEAST_FAULT_PX) : to);
    for (let x = Math.max(0, from); x < last; x++) {
      if (!(sign * this.values[x] >= sign * value)) this.values[x] = Number.isNaN(value) ? this.values[x] : value;
      if (fault && this.faults[x] !== NAN) this.faults[x] = fault;
    }
  }
}

/** @param {Cells} cells */
function usualStride({ columns: { step }, width, length }) {
  return length < 2 ? width : Math.max(width, (step[length - 1] - step[0]) / (length - 1));
}

/**
 * Steps for which cell `i` speaks.
 * @param {Cells} cells @param {number} i @param {number} usual @param {(i: number) => boolean} broken
 */
function extentOf({ columns: { step }, length }, i, usual, broken) {
  if (i + 1 >= length) return usual;
  const next = step[i + 1] - step[i];
  if (broken(i + 1)) return Math.min(usual, next);
  return next > JOIN * usual ? usual : next;
}

/** @param {Cells} cells @param {number} i @param {Metric} metric */
const faultOf = (cells, i, metric) => (cells.columns.n_nan[i] > 0 || countsFaults(metric) ? NAN : INF);

/** @param {HTMLCanvasElement} canvas @param {Area} area @param {Scene} scene */
export function drawCells(canvas, area, scene) {
  const size = { width: area.box.width, height: area.top + area.height };
  const context = clearCanvas(canvas, size);
  const width = Math.max(1, Math.round(area.width));
  const pixels = new Pixels(width);
  const ribbon = new Uint8Array(width);
  const told = new Uint8Array(width); // whether any row has a value there
  const strip = Object.assign(document.createElement("canvas"), { width, height: 1 });
  const stripContext = /** @type {CanvasRenderingContext2D} */ (strip.getContext("2d"));
  const colour = colourer(scene);
  context.imageSmoothingEnabled = false;
  scene.rows.forEach((row, i) => {
    pixels.fill(row, scene);
    for (let x = 0; x < width; x++) {
      if (pixels.faults[x] && ribbon[x] !== NAN) ribbon[x] = pixels.faults[x];
      if (!Number.isNaN(pixels.values[x])) told[x] = 1;
    }
    const y = RIBBON + i * ROW - scene.scroll;
    if (y > size.height || y + ROW < RIBBON) return;
    const image = stripContext.createImageData(width, 1);
    const words = new Uint32Array(image.data.buffer);
    for (let x = 0; x < width; x++) words[x] = colour(pixels.values[x]);
    stripContext.putImageData(image, 0, 0);
    context.fillStyle = theme().nodata;
    context.fillRect(area.left, y, width, ROW - 1);
    context.drawImage(strip, area.left, y, width, ROW - 1);
    drawFaults(context, pixels.faults, area.left, y, ROW - 1);
  });
  drawLost(context, scene, told, { left: area.left, height: Math.min(size.height, RIBBON + scene.rows.length * ROW) });
  context.clearRect(0, 0, size.width, RIBBON);
  context.fillStyle = theme().grid;
  context.fillRect(area.left, 1, width, RIBBON - 4);
  drawFaults(context, ribbon, area.left, 1, RIBBON - 4);
}

/**
 * Lost columns, told from those without data; one that shares all its pixels with others still has a few to itself.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Uint8Array} told
 * @param {{left: number, height: number}} place
 */
function drawLost(context, { gaps, range }, told, { left, height }) {
  const scale = told.length / (range[1] - range[0]);
  context.fillStyle = hatch(context, "lost");
  for (const { from, to } of gaps) {
    if (from === null) continue;
    const [low, high] = [(from - range[0]) * scale, ((to ?? from) + 1 - range[0]) * scale];
    if (high < 0 || low > told.length) continue;
    let [first, last] = [Math.max(0, Math.floor(low)), Math.min(told.length, Math.ceil(high))];
    while (first < last && told[first]) first += 1;
    while (last > first && told[last - 1]) last -= 1;
    if (last - first < LEAST_FAULT_PX) first = Math.max(0, Math.round((low + high) / 2) - 1);
    context.fillRect(left + first, RIBBON, Math.max(LEAST_FAULT_PX, last - first), height - RIBBON);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Uint8Array} faults
 * @param {number} left
 * @param {number} top
 * @param {number} height
 */
function drawFaults(context, faults, left, top, height) {
  for (let x = 0; x < faults.length;) {
    let end = x + 1;
    while (end < faults.length && faults[end] === faults[x]) end += 1;
    if (faults[x] !== NONE) {
      context.fillStyle = hatch(context, faults[x] === NAN ? "nan" : "inf");
      context.fillRect(left + x, top, end - x, height);
    }
    x = end;
  }
}

/** A colour as the bytes of an `ImageData`. @param {string} hex `#rrggbb` */
function word(hex) {
  const value = Number.parseInt(hex.slice(1), 16);
  return ((255 << 24) | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

/**
 * Value to colour word; transparent where there is no value.
 * @param {Scene} scene
 * @returns {(value: number) => number}
 */
function colourer({ metric, scale }) {
  const sound = word(theme().sound);
  if (countsFaults(metric)) return (value) => (Number.isNaN(value) ? 0 : sound);
  if (!scale) return () => 0;
  const log = metric.scale === "log";
  const place = (/** @type {number} */ v) => (log ? Math.log10(v) : v);
  const [low, high] = scale.map(place);
  const reach = high - low || 1;
  return (value) => {
    if (Number.isNaN(value)) return 0;
    const share = log && value <= 0 ? 0 : Math.min(1, Math.max(0, (place(value) - low) / reach));
    return cividis[Math.round(255 * (metric.bad === "low" ? 1 - share : share))];
  };
}
