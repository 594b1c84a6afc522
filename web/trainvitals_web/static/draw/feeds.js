/** Which series feed which trace of a declared panel; nothing is drawn here. */

/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("../../../types/contract").Series} Series */
/** @typedef {import("../../../types/contract").Feed} Feed */
/** @typedef {{feed: Feed, series: Series, name: string}} Line */

const MOST_LINES = 12;

/** @param {Series} series @param {import("../../../types/contract").Select} select */
export function selects(series, select) {
  return series.kind === select.kind && (select.stat === undefined || series.stat === select.stat);
}

/**
 * A pinned layer stands for itself, for the tensors directly in it, and, when it is a tensor, for its module.
 * @param {string} pinned @param {string} layer @returns {string | null} what to add to the name, null when unrelated
 */
export function kin(pinned, layer) {
  if (layer === pinned) return "";
  const [outer, inner] = layer.length > pinned.length ? [pinned, layer] : [layer, pinned];
  if (!outer || !inner.startsWith(`${outer}.`)) return null;
  const rest = inner.slice(outer.length + 1);
  if (rest.includes(".")) return null;
  return layer === inner ? rest : "";
}

/**
 * @param {Panel} panel @param {string | null} layer for panels of scope "layer" @param {Iterable<Series>} all
 * @returns {Line[]} in the order of the panel's feeds
 */
export function linesOf(panel, layer, all) {
  const series = [...all];
  return panel.feeds.flatMap((feed) => {
    const { select } = feed;
    if (!select) return [];
    const found = series.filter((one) => selects(one, select)).sort((a, b) => a.order - b.order || a.id - b.id);
    return matched(panel, feed, layer, found).slice(0, MOST_LINES);
  });
}

/** @param {Panel} panel @param {Feed} feed @param {string | null} layer @param {Series[]} found @returns {Line[]} */
function matched(panel, feed, layer, found) {
  const title = panel.figure.data[feed.trace]?.name ?? panel.title;
  /** @type {Line[]} */
  const lines = [];
  for (const series of found) {
    const rest = layer === null ? "" : kin(layer, series.layer);
    if (rest === null) continue;
    const part = rest || (feed.select?.stat === undefined ? series.stat : "");
    lines.push({ feed, series, name: part && found.length > 1 ? part : title });
  }
  return lines;
}
