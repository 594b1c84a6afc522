/** The heatmap's Plotly layout: nothing but the step axis that all charts share, over the cells. */

import { ticksFor } from "./dress.js";
import { sizeOf } from "./overlay.js";
import { theme } from "./theme.js";

const AXIS_HEIGHT = 24;
const CLEAR = "rgba(0,0,0,0)";

/** @param {HTMLElement} plot @param {[number, number]} range */
export function heatAxis(plot, range) {
  const { soft, line, font } = theme();
  const size = sizeOf(plot);
  return {
    ...size,
    uirevision: "constant",
    paper_bgcolor: CLEAR,
    plot_bgcolor: CLEAR,
    showlegend: false,
    dragmode: "zoom",
    hovermode: false,
    margin: { l: 0, r: 12, t: 0, b: AXIS_HEIGHT },
    font: { family: font, size: 11, color: soft },
    xaxis: {
      range,
      autorange: false,
      uirevision: range.join(":"),
      showgrid: false,
      zeroline: false,
      ticks: "outside",
      ticklen: 3,
      tickcolor: line,
      tickformat: ",~d",
      nticks: ticksFor(size.width),
      tickangle: 0,
    },
    yaxis: { range: [0, 1], fixedrange: true, visible: false },
  };
}
