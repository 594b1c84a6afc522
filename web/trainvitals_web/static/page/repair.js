/**
 * The Sanitize button and what belongs to it: why it cannot be pressed, the command under way, Undo, the audit rows.
 * The dialog that asks lives in `sanitize.js`.
 */

import { hasEnded } from "../data/board.js";
import { isOver } from "../data/progress.js";
import { ApiError, postJson, runPath } from "../link/api.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { elide, name as plain } from "../words.js";
import { auditTable, ladder, title } from "./ladder.js";

/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {import("../../../types/contract").Command} Command */

/** Why the run cannot be acted on at all, or null. @param {Board} board */
function outOfReach({ run, role, socket }) {
  if (run === null) return "the run is not known yet";
  if (role !== "control") return "this session may only look";
  if (hasEnded(run)) return "the run has ended";
  if (socket.phase !== "open") return "this page is not connected";
  if (!run.connected) return "the trainer is offline";
  return null;
}

/** Why Sanitize cannot be pressed, or null. @param {Board} board */
export function whyNot(board) {
  const far = outOfReach(board);
  if (far !== null || board.run === null) return far;
  if (!board.run.allow.includes("sanitize")) return "this trainer does not allow remote repair";
  if (board.run.nonfinite_layers.length === 0) return "nothing is corrupt";
  return null;
}

/** A key no other request has, also where the page is not served securely. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Board} board @param {object} body @returns {Promise<Command>} */
export async function send(board, body) {
  const command = await postJson(`${runPath(board.id)}/commands`, { ...body, key: freshKey() });
  board.know(command);
  return command;
}

/** Commands that changed or were to change something, newest first. @param {Board} board */
export function acted(board) {
  return [...board.commands.values()]
    .filter((one) => !one.dry_run)
    .sort((a, b) => Date.parse(b.requested) - Date.parse(a.requested));
}

/** @param {Board} board @param {() => void} open */
export function sanitizeButton(board, open) {
  const reason = whyNot(board);
  const broken = board.run?.nonfinite_layers.length ?? 0;
  return html`<div class="sanitize">
    <button class="primary" id="sanitize" ?disabled=${reason !== null} aria-describedby="sanitize-why" @click=${open}>
      Sanitize…
    </button>
    <span id="sanitize-why" class="note">${reason ?? `${broken} broken ${broken === 1 ? "layer" : "layers"}`}</span>
  </div>`;
}

/** The newest command, while it is under way and after. @param {Board} board @param {(text: string) => void} say */
export function underWay(board, say) {
  const [newest] = acted(board);
  if (!newest) return nothing;
  return html`<section class="command" aria-label="Newest command">
    <h2>
      ${title(newest)}
      <span class="path" title=${(newest.layers ?? []).map(plain).join("\n").slice(0, 1000)}
        >${newest.layers?.length === 1 ? elide(newest.layers[0], 60) : ""}</span
      >
    </h2>
    ${ladder(newest)} ${isOver(newest.state) ? undoButton(newest, board, say) : nothing}
  </section>`;
}

/** @param {Command} command @param {Board} board @param {(text: string) => void} say */
function undoButton(command, board, say) {
  if (command.action !== "sanitize" || command.dry_run || command.state !== "verified") return nothing;
  if (!board.run?.allow.includes("undo")) return nothing;
  const undone = [...board.commands.values()].find(
    (one) => one.action === "undo" && one.of === command.id && progressed(one),
  );
  if (undone) return html`<span class="note">undone</span>`;
  const reason = outOfReach(board);
  return html`<button
    class="quiet"
    ?disabled=${reason !== null}
    title=${reason ?? "Put back the statistics as they were before"}
    @click=${() => undo(command, board, say)}
  >
    Undo
  </button>`;
}

/** @param {Command} command */
const progressed = ({ state }) => !["refused", "failed", "expired"].includes(state);

/** @param {Command} command @param {Board} board @param {(text: string) => void} say */
async function undo(command, board, say) {
  try {
    await send(board, { action: "undo", of: command.id });
    say("Undo requested");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(`Undo was not accepted: ${error.message}`);
  }
}

/** @param {Board} board @param {(text: string) => void} say */
export function audit(board, say) {
  return html`<h2>Commands</h2>
    ${auditTable(acted(board), (command) => undoButton(command, board, say))}`;
}
