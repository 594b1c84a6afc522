/** REST, as promises. A refusal becomes an `ApiError` with the server's one line; `data` answers in columns. */

/** @typedef {import("../../../types/contract").Gap} Gap */

/** Raised for every answer that is not a success. `status` is 0 where no answer came. */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @param {string} run */
export const runPath = (run) => `/api/runs/${encodeURIComponent(run)}`;

/** @param {string} path @param {RequestInit} [init] */
async function request(path, init) {
  const response = await fetch(path, { credentials: "same-origin", ...init }).catch((error) => {
    throw new ApiError(0, `no answer from the server (${error.message})`);
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const detail = typeof body.detail === "string" ? body.detail : `the server answered ${response.status}`;
  throw new ApiError(response.status, detail);
}

/** @param {string} path @returns {Promise<any>} */
export async function getJson(path) {
  return (await request(path)).json();
}

/** @param {string} path @param {object} [body] @returns {Promise<any>} */
export async function postJson(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/**
 * @typedef {object} Columns one series' buckets, one array per field
 * @property {Float64Array} step first step of the bucket
 * @property {Float64Array} n values present, non-finite included
 * @property {Float64Array} min @property {Float64Array} max @property {Float64Array} first
 * @property {Float64Array} last @property {Float64Array} sum
 * @property {Float64Array} n_nan @property {Float64Array} n_posinf @property {Float64Array} n_neginf
 */

/** @typedef {{from: number, to: number, width: number, series: Map<number, Columns>, gaps: Gap[]}} Data */

/**
 * The buckets of `series` between two steps (null: the run's own ends), at most two per point.
 * @param {string} run @param {number[]} series
 * @param {{from: number | null, to: number | null, points: number}} range
 * @returns {Promise<Data>}
 */
export async function getData(run, series, { from, to, points }) {
  const query = new URLSearchParams({ series: series.join(","), points: String(points) });
  if (from !== null) query.set("from", String(Math.floor(from)));
  if (to !== null) query.set("to", String(Math.ceil(to)));
  const response = await request(`${runPath(run)}/data?${query}`, { headers: { Accept: "application/octet-stream" } });
  return decodeData(await response.arrayBuffer());
}

/** @param {ArrayBuffer} bytes @returns {Data} */
export function decodeData(bytes) {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  let at = 4 + length;
  const series = new Map();
  for (const { id, buckets } of header.series) {
    /** @type {Record<string, Float64Array>} */
    const columns = {};
    for (const field of header.fields) {
      columns[field] = new Float64Array(bytes, at, buckets);
      at += 8 * buckets;
    }
    series.set(id, columns);
  }
  return { from: header.from, to: header.to, width: header.steps_per_bucket, series, gaps: header.gaps };
}
