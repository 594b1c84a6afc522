/** Packed answers: the length of a JSON header, the header, then arrays of numbers one after another, little-endian. */

/** @typedef {import("../../../types/contract").Gap} Gap */
/**
 * @typedef {object} Told what an answer says of itself
 * @property {number} width steps per bucket
 * @property {number} through the newest step told
 * @property {string} mark for the next question, which then asks only for what has changed
 * @property {number | null} since the step from which on it replaces what was told before; null: it is whole
 * @property {Gap[]} gaps
 */
/** @typedef {Record<string, Float64Array>} Columns one series' buckets: an array per field, `step` among them */
/** @typedef {Told & {series: Map<number, Columns>}} Data */
/**
 * @typedef {Told & {start: number, columns: number, series: number[], planes: Map<string, Float32Array | Uint8Array>}} Heatmap
 * planes row by row: values as they are, NaN for none; counts, of which 255 is no value and 254 that many or more
 */

/** @param {ArrayBuffer} bytes @returns {{head: any, at: number, told: Told}} */
function open(bytes) {
  const length = new DataView(bytes).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const { steps_per_bucket: width, through, mark, since, gaps } = head;
  return { head, at: 4 + length, told: { width, through, mark, since, gaps } };
}

/** @param {ArrayBuffer} bytes @returns {Data} */
export function decodeData(bytes) {
  let { head, at, told } = open(bytes);
  const series = new Map();
  for (const { id, buckets } of head.series) {
    /** @type {Columns} */
    const columns = {};
    for (const field of head.fields) {
      columns[field] = new Float64Array(bytes, at, buckets);
      at += 8 * buckets;
    }
    series.set(id, columns);
  }
  return { ...told, series };
}

/** @param {ArrayBuffer} bytes @returns {Heatmap} */
export function decodeHeatmap(bytes) {
  let { head, at, told } = open(bytes);
  const cells = head.series.length * head.columns;
  const planes = new Map();
  for (const name of head.planes) {
    const plane = name.startsWith("n_") ? new Uint8Array(bytes, at, cells) : new Float32Array(bytes, at, cells);
    planes.set(name, plane);
    at += plane.byteLength;
  }
  return { ...told, start: head.start, columns: head.columns, series: head.series, planes };
}
