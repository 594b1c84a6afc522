/** Plotly, fetched once, after the first paint. */

/** @typedef {import("../../../types/plotly").PlotlyStatic} PlotlyStatic */

const ADDRESS = new URL("../vendor/plotly.js-cartesian-dist-min-4.1.1/plotly-cartesian.min.js", import.meta.url).href;

/** @type {Promise<PlotlyStatic> | null} */
let loading = null;

/** @returns {Promise<PlotlyStatic>} */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = ADDRESS;
    script.onload = () => (window.Plotly ? resolve(window.Plotly) : reject(new Error("Plotly did not define itself")));
    script.onerror = () => reject(new Error(`Plotly could not be fetched from ${ADDRESS}`));
    document.head.append(script);
  });
  return loading;
}

/** No mode bar: its buttons have no names for a screen reader; keys and the page's own buttons do the same. */
export const PLOT_CONFIG = {
  displayModeBar: false,
  displaylogo: false,
  responsive: false,
  doubleClick: false,
  showTips: false,
};
