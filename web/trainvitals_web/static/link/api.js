/** REST, as promises. A refusal becomes an `ApiError` with the server's one line. */

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

/** An answer as packed numbers; `packed.js` reads it. @param {string} path */
export async function getPacked(path) {
  return (await request(path, { headers: { Accept: "application/octet-stream" } })).arrayBuffer();
}
