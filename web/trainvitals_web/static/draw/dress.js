/**
 * What a figure wears: the server's layout in the reader's colours, over the range all charts share, with a strip above
 * for what is not finite.
 */

import { theme } from "./theme.js";

/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("./figure.js").Size} Size */

const STRIP = { y: [0, 0.86], strip: [0.9, 1] };
const CLEAR = "rgba(0,0,0,0)";

/** @param {Panel} panel */
export const isLog = (panel) => panel.figure.layout?.yaxis?.type === "log";

/** As many step labels as stay apart. @param {number} width */
export const ticksFor = (width) => Math.max(2, Math.floor(width / 75));

/**
 * @param {Panel} panel
 * @param {[number, number]} range
 * @param {Size} size
 * @param {{strip: boolean, named: number, empty: boolean}} parts whether there is a strip; how many traces the legend
 * would name; whether there is nothing to draw
 */
export function dress(panel, range, size, { strip, named, empty }) {
  const { template: _template, title: _title, width: _width, height: _height, ...given } = panel.figure.layout ?? {};
  const { ink, font, sheet, line: rule, soft } = theme();
  const axis = axisLook();
  const others = Object.keys(given)
    .filter((key) => /^yaxis\d+$/.test(key))
    .map((key) => [key, { ...given[key], ...axis, tickmode: "auto", visible: !empty }]);
  return {
    barmode: "stack",
    hovermode: "x unified",
    ...given,
    ...Object.fromEntries(others),
    ...size,
    uirevision: "constant",
    paper_bgcolor: CLEAR,
    plot_bgcolor: CLEAR,
    margin: { l: 52, r: 12, t: 6, b: 24, pad: 0 },
    font: { family: font, size: 11, color: ink },
    showlegend: named > 1 || strip,
    legend: { ...LEGEND, font: { size: 11, color: soft } },
    hoverlabel: { bgcolor: sheet, bordercolor: rule, font: { family: font, size: 11, color: ink }, namelength: 40 },
    dragmode: "zoom",
    xaxis: { ...given.xaxis, ...axis, ...stepAxis(range, size) },
    yaxis: {
      ...given.yaxis,
      ...axis,
      domain: strip ? STRIP.y : [0, 1],
      nticks: 5,
      fixedrange: false,
      tickformat: ".6~g",
      zeroline: !isLog(panel) && !empty,
    },
    yaxis9: { domain: STRIP.strip, range: [0, 1], fixedrange: true, visible: false, anchor: "x" },
  };
}

const LEGEND = {
  orientation: "h",
  x: 0,
  y: 1.02,
  yanchor: "bottom",
  bgcolor: CLEAR,
  itemwidth: 30,
  traceorder: "normal",
};

function axisLook() {
  const { soft, line, grid } = theme();
  return {
    gridcolor: grid,
    linecolor: line,
    tickcolor: line,
    zerolinecolor: line,
    automargin: false,
    showline: false,
    tickfont: { size: 11, color: soft },
    ticks: "",
    title: { text: "" },
  };
}

/**
 * `uirevision` follows the range: only then does Plotly prefer ours to the one the reader dragged.
 * @param {[number, number]} range
 * @param {Size} size
 */
function stepAxis(range, size) {
  return {
    range: [...range],
    autorange: false,
    uirevision: range.join(":"),
    hoverformat: ",.0f",
    tickformat: ",~d",
    nticks: ticksFor(size.width),
    tickangle: 0,
    zeroline: false,
    showspikes: false,
    unifiedhovertitle: { text: "step %{x:,.0f}" },
  };
}
