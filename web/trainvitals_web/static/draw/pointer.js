/** What a pointer does on a chart: drag to zoom every chart, double-click for everything, click to set the cursor. */

import { areaOf } from "./overlay.js";

/** @typedef {import("../../../types/plotly").PlotElement} PlotElement */
/** @typedef {import("../data/view.js").View} View */

const STILL_PX = 4;
const DOUBLE_CLICK_MS = 240; // a click waits this long to see whether it is half of a double one

/** @param {PlotElement} plot @param {HTMLElement} box @param {View} view */
export function listen(plot, box, view) {
  plot.on("plotly_relayout", (change) => {
    const from = Number(change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0]);
    const to = Number(change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1]);
    if (Number.isFinite(from) && Number.isFinite(to)) view.zoom(from, to);
  });
  plot.on("plotly_doubleclick", () => view.zoom(null, null));
  box.addEventListener("pointermove", (event) => view.point(stepAt(plot, box, event)));
  box.addEventListener("pointerleave", () => view.point(null));
  let [downX, downY] = [0, 0];
  let timer = 0;
  box.addEventListener("pointerdown", (event) => ([downX, downY] = [event.clientX, event.clientY]), { capture: true });
  box.addEventListener(
    "click",
    (event) => {
      if (Math.hypot(event.clientX - downX, event.clientY - downY) > STILL_PX) return;
      const step = stepAt(plot, box, event);
      window.clearTimeout(timer);
      if (step !== null && event.detail === 1) timer = window.setTimeout(() => view.goTo(step), DOUBLE_CLICK_MS);
    },
    { capture: true },
  );
}

/**
 * The step under the pointer, or null outside the plot area.
 * @param {PlotElement} plot
 * @param {HTMLElement} box
 * @param {MouseEvent} event
 */
export function stepAt(plot, box, event) {
  const area = areaOf(plot);
  if (!area) return null;
  const share = (event.clientX - box.getBoundingClientRect().left - area.left) / area.width;
  if (share < 0 || share > 1) return null;
  const [from, to] = /** @type {{xaxis: {range: [number, number]}}} */ (plot._fullLayout).xaxis.range;
  return Math.round(from + share * (to - from));
}
