/** The states of a command, in their order. */

export const RUNGS = /** @type {const} */ (["requested", "delivered", "applied", "verified"]);
export const STOPPED = ["refused", "failed", "expired", "unknown"];

/** @param {string} state */
export const isOver = (state) => state === "verified" || STOPPED.includes(state);

/**
 * How far along, so that of two messages the later state wins. `expired` is only what the server believes while the
 * trainer is silent: whatever the trainer reports afterwards counts for more.
 * @param {string} state
 */
export function progress(state) {
  if (state === "expired") return 0.5;
  const rung = RUNGS.indexOf(/** @type {typeof RUNGS[number]} */ (state));
  return rung < 0 ? RUNGS.length - 1 : rung;
}
