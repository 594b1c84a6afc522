/**
 * The strip above a chart on which every bucket that holds a non-finite value has its own mark, at any zoom. On a
 * logarithmic axis, values at or below zero have no place either and are marked there too, and so is what was lost.
 */

import { describeGap, gapsWithin } from "../data/gaps.js";
import { count, number, plotText, step } from "../words.js";
import { theme } from "./theme.js";

/** @typedef {import("../data/buckets.js").Buckets} Buckets */
/** @typedef {import("../../../types/contract").Gap} Gap */
/** @typedef {"nan" | "posinf" | "neginf" | "zero" | "lost"} Kind */

const KINDS = {
  nan: { name: "NaN", symbol: "x-thin-open", field: "n_nan" },
  posinf: { name: "+Inf", symbol: "triangle-up", field: "n_posinf" },
  neginf: { name: "−Inf", symbol: "triangle-down", field: "n_neginf" },
  zero: { name: "≤ 0", symbol: "circle-open", field: null },
  lost: { name: "lost records", symbol: "line-ew-open", field: null },
};

const ORDER = /** @type {Kind[]} */ (["nan", "posinf", "neginf", "zero"]); // what a bucket may hold

export class Strip {
  constructor() {
    /** @type {Map<Kind, Map<number, string[]>>} */
    this.marks = new Map();
  }

  get empty() {
    return this.marks.size === 0;
  }

  /** @param {Kind} kind @param {number} x @param {string} text */
  mark(kind, x, text) {
    let marks = this.marks.get(kind);
    if (!marks) this.marks.set(kind, (marks = new Map()));
    const texts = marks.get(x);
    if (texts) texts.push(text);
    else marks.set(x, [text]);
  }

  /** @param {Buckets} buckets @param {string} name @param {boolean} log */
  collect(buckets, name, log) {
    const c = buckets.columns;
    for (let i = 0; i < buckets.length; i++) {
      const x = buckets.middle(i);
      for (const kind of ORDER) {
        const { field } = KINDS[kind];
        const hits = field ? c[/** @type {"n_nan"} */ (field)][i] : Number(log && c.min[i] <= 0);
        if (hits > 0) this.mark(kind, x, said(kind, name, hits, c.n[i], c.step[i], c.min[i]));
      }
    }
  }

  /** What is missing, in the middle of what is seen of it. @param {Gap[]} gaps @param {[number, number]} range */
  collectGaps(gaps, range) {
    for (const gap of gapsWithin(gaps, range)) {
      const [from, to] = [Math.max(Number(gap.from), range[0]), Math.min(Number(gap.to ?? gap.from), range[1])];
      this.mark("lost", (from + to) / 2, plotText(describeGap(gap), 240));
    }
  }

  /** One Plotly trace per kind of mark, on the axis `y9`. */
  traces() {
    const { nan, inf, soft } = theme();
    const colour = { nan, posinf: inf, neginf: inf, zero: soft, lost: soft };
    return [...this.marks].map(([kind, marks]) => {
      const xs = [...marks.keys()].sort((a, b) => a - b);
      return {
        type: "scatter",
        mode: "markers",
        name: KINDS[kind].name,
        x: xs,
        y: xs.map(() => 0.5),
        yaxis: "y9",
        text: xs.map((x) => (marks.get(x) ?? []).slice(0, 6).join("<br>")),
        hovertemplate: "%{text}<extra></extra>",
        marker: { symbol: KINDS[kind].symbol, size: 8, color: colour[kind], line: { width: 2, color: colour[kind] } },
        showlegend: true,
        cliponaxis: false,
      };
    });
  }

  /** In words, for the chart's summary. */
  summary() {
    return [...this.marks]
      .filter(([kind]) => kind !== "lost") // whoever knows the gaps says how many records
      .map(([kind, marks]) => `${KINDS[kind].name} in ${count(marks.size, "place")}`)
      .join(", ");
  }
}

/**
 * @param {Kind} kind
 * @param {string} name
 * @param {number} hits
 * @param {number} n
 * @param {number} first
 * @param {number} least
 */
function said(kind, name, hits, n, first, least) {
  const title = plotText(name, 32);
  if (kind === "zero") return `${title}: ${number(least)}, which a log axis cannot show`;
  return n > 1
    ? `${title}: ${KINDS[kind].name}, ${hits} of ${n} values from step ${step(first)}`
    : `${title}: ${KINDS[kind].name}`;
}
