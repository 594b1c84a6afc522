/** A command's way, rung by rung: requested, delivered, applied at a step, verified; or where and why it stopped. */

import { progress, RUNGS, STOPPED } from "../data/progress.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { clock, count, cut, elide, name as plain, step as stepNumber } from "../words.js";
import { icon } from "./icons.js";

/** @typedef {import("../../../types/contract").Command} Command */

/** @param {Command} command */
export function ladder(command) {
  const stopped = STOPPED.includes(command.state);
  const reached = stopped ? RUNGS.filter((rung) => command[rung]).length - 1 : progress(command.state);
  const rungs = RUNGS.slice(0, stopped ? reached + 1 : RUNGS.length);
  const why = command.reason ? `: ${cut(command.reason, 200)}` : "";
  return html`<ol class="ladder" aria-label=${`${title(command)}: ${command.state}`} data-state=${command.state}>
    ${rungs.map((rung, i) => step(rung, command, i - reached))}
    ${stopped ? html`<li class="stopped">${icon("critical")}<span>${command.state}${why}</span></li>` : nothing}
  </ol>`;
}

/**
 * @param {typeof RUNGS[number]} rung
 * @param {Command} command
 * @param {number} ahead rungs above the one reached; 0 and less: done
 */
function step(rung, command, ahead) {
  const done = ahead <= 0;
  const where = rung === "applied" && done && command.step !== null ? ` at step ${stepNumber(command.step)}` : "";
  return html`<li class=${done ? "done" : ahead === 1 ? "next" : "later"}>
    ${icon(done ? "ok" : "circle")} <span>${rung}${where}</span>
    ${command[rung] ? html`<time>${clock(command[rung])}</time>` : nothing}
  </li>`;
}

/** @param {Command} command */
export function title(command) {
  if (command.action !== "sanitize") return plain(command.action).replace(/_/g, " ");
  return `${command.strategy === "reset" ? "reset" : "restore"}${command.dry_run ? ", dry run" : ""}`;
}

/** @param {Command[]} commands newest first @param {(command: Command) => unknown} undo what to offer, if anything */
export function auditTable(commands, undo) {
  if (commands.length === 0) return html`<p class="note">No command has been sent to this run.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Commands sent to this run">
    <table class="audit">
      <thead>
        <tr>
          <th>When</th>
          <th>What</th>
          <th>Layers</th>
          <th>Outcome</th>
          <th class="n">Step</th>
          <th>By</th>
          <th><span class="sr">Undo</span></th>
        </tr>
      </thead>
      <tbody>
        ${commands.map(
          (command) =>
            html`<tr data-command=${command.id}>
              <td class="note">${clock(command.requested)}</td>
              <td>${title(command)}</td>
              <td class="path" title=${(command.layers ?? []).map(plain).join("\n").slice(0, 1000)}>
                ${layersOf(command)}
              </td>
              <td class=${STOPPED.includes(command.state) ? "broken" : nothing}>
                ${command.state}${command.reason ? `: ${cut(command.reason, 160)}` : ""}
              </td>
              <td class="n">${stepNumber(command.step)}</td>
              <td>${command.role}</td>
              <td>${undo(command)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** @param {Command} command */
function layersOf({ layers }) {
  if (!layers) return "all broken";
  return layers.length === 1 ? elide(layers[0], 40) : count(layers.length, "layer");
}
