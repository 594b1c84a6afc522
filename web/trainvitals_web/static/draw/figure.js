/**
 * A declared panel and the history that feeds it, as the figure Plotly draws: the server's traces and layout, filled
 * with data, in the reader's colours, over the range all charts share.
 */

import { gapsWithin, sumGaps } from "../data/gaps.js";
import { number, plotText } from "../words.js";
import { bars } from "./bars.js";
import { dress, isLog } from "./dress.js";
import { Strip } from "./strip.js";
import { fade, theme } from "./theme.js";
import { band, fillTrace, line, lonely } from "./traces.js";

/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("./feeds.js").Line} Line */
/**
 * @typedef {{id: number, field: "last" | "min" | "max", colour: string, after: number}} Tail what moves after a commit
 */
/** @typedef {{width: number, height: number}} Size in CSS pixels; Plotly does not measure again by itself */
/** @typedef {{data: object[], layout: object, tails: Tail[], summary: string}} Figure */

/** @type {Record<"line" | "low" | "high", "last" | "min" | "max">} */
const FIELD = { line: "last", low: "min", high: "max" };

/**
 * @param {Panel} panel
 * @param {Line[]} lines
 * @param {Board} board
 * @param {[number, number]} range
 * @param {Size} size
 * @returns {Figure}
 */
export function buildFigure(panel, lines, board, range, size) {
  const strip = new Strip();
  const built =
    panel.scope === "events"
      ? bars(panel, board.events.sorted, range, strip, board.charts.gaps)
      : curves(panel, lines, board, strip);
  const seen = gapsWithin(board.charts.gaps, range);
  if (built.summary) strip.collectGaps(seen, range);
  const layout = dress(panel, range, size, {
    strip: !strip.empty,
    named: built.named,
    empty: built.summary === "",
  });
  const words = [built.summary, strip.summary(), built.summary && sumGaps(seen)].filter(Boolean).join("; ");
  return { data: [...built.data, ...strip.traces()], layout, tails: built.tails, summary: words };
}

/** @param {Panel} panel @param {Line[]} lines @param {Board} board @param {Strip} strip */
function curves(panel, lines, board, strip) {
  const { gaps } = board.charts;
  const log = isLog(panel);
  /** @type {object[]} */
  const fills = [];
  const data = [];
  const tails = [];
  const said = [];
  /** @type {Map<string, {line: Line, colour: string}>} */
  const lows = new Map();
  for (const [i, one] of lines.entries()) {
    const buckets = board.charts.series.get(one.series.id);
    if (!buckets) continue;
    const role = one.feed.role ?? "line";
    const base = panel.figure.data[one.feed.trace] ?? {};
    const colour = colourOf(base, i, lines);
    strip.collect(buckets, one.name, log);
    data.push(curve(base, one, line(buckets, FIELD[role], gaps), colour, isShared(lines, one)));
    tails.push({ id: one.series.id, field: FIELD[role], colour, after: buckets.through });
    if (role === "line" && buckets.width > 1)
      fills.push(fillTrace(band(buckets, buckets, gaps, log), fade(colour, 0.2)));
    if (role === "low") lows.set(one.series.layer, { line: one, colour });
    const low = role === "high" ? lows.get(one.series.layer) : undefined;
    const lowBuckets = low && board.charts.series.get(low.line.series.id);
    if (low && lowBuckets) fills.push(fillTrace(band(lowBuckets, buckets, gaps, log), fade(low.colour, 0.16)));
    if (buckets.length) said.push(`${one.name} ${number(buckets.columns.last[buckets.length - 1])}`);
  }
  return { data: [...fills, ...data], tails, named: data.length, summary: said.slice(0, 4).join(", ") };
}

/**
 * @param {Record<string, any>} base
 * @param {Line} one
 * @param {{x: number[], y: (number | null)[]}} points
 * @param {string} colour
 * @param {boolean} shared
 */
function curve(base, one, points, colour, shared) {
  const { fill: _fill, fillcolor: _fillcolor, ...rest } = base;
  const name = plotText(one.name, 40);
  const sizes = lonely(points.y);
  return {
    hovertemplate: "%{y:.4~g}",
    ...rest,
    ...points,
    type: "scatter",
    mode: sizes ? "lines+markers" : "lines",
    connectgaps: false,
    name,
    ...(shared ? { hovertemplate: `${name} %{y:.4~g}<extra></extra>` } : {}),
    line: { width: 1.5, ...base.line, color: colour },
    marker: { size: sizes ?? 4, color: colour, line: { width: 0 } },
  };
}

/** Whether one declared trace is drawn for several series. @param {Line[]} lines @param {Line} one */
const isShared = (lines, one) => lines.filter((other) => other.feed === one.feed).length > 1;

/**
 * The server's colour where it gives one that is not for one trace drawn several times.
 * @param {Record<string, any>} base
 * @param {number} i
 * @param {Line[]} lines
 */
function colourOf(base, i, lines) {
  const given = isShared(lines, lines[i]) ? undefined : base.line?.color;
  return given ?? theme().series[i % theme().series.length];
}
