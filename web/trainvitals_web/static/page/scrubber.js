/** The replay controls: a slider over the run's steps, play, jumps, and the exact step. */

import { hasEnded } from "../data/board.js";
import { html, nothing } from "../vendor/lit-html-3.3.3/lit-html.js";
import { step } from "../words.js";
import { icon } from "./icons.js";
import { SPEEDS } from "./player.js";

/**
 * @param {import("../data/board.js").Board} board
 * @param {import("../data/view.js").View} view
 * @param {import("./player.js").Player} player
 */
export function scrubber(board, view, player) {
  const [first, last] = board.extent();
  const ended = hasEnded(board.run);
  const at = view.cursor ?? last;
  const bad = board.run?.first_bad_step ?? null;
  const number = (/** @type {any} */ event) => Number.parseInt(event.target.value, 10);
  const seek = (/** @type {any} */ event) => Number.isFinite(number(event)) && player.seek(number(event));
  if (board.run === null || (!ended && view.cursor === null)) return nothing;
  return html`<section class="scrubber" aria-label="Replay">
    <button class="square" @click=${() => player.jump(-1)} title="Previous event ( , )" aria-label="Previous event">
      ${icon("back")}
    </button>
    <button class="play" @click=${() => player.toggle()} title="Space" aria-label=${player.playing ? "Pause" : "Play"}>
      ${icon(player.playing ? "pause" : "play", !player.playing)}
    </button>
    <button class="square" @click=${() => player.jump(1)} title="Next event ( . )" aria-label="Next event">
      ${icon("forward")}
    </button>
    <input
      type="range"
      min=${first}
      max=${last}
      step="1"
      .value=${String(at)}
      aria-label="Step"
      aria-valuetext=${`step ${step(at)}`}
      @input=${seek}
    />
    <label>Step <input type="number" min=${first} max=${last} .value=${String(at)} @change=${seek} /></label>
    <label
      >Speed
      <select @change=${(/** @type {any} */ event) => (player.speed = number(event))}>
        ${SPEEDS.map((speed) => html`<option value=${speed} ?selected=${speed === player.speed}>${speed}×</option>`)}
      </select></label
    >
    ${bad !== null ? html`<button @click=${() => player.seek(bad)}>First bad step</button>` : nothing}
    <button @click=${() => player.seek(ended ? last : null)}>${ended ? "End" : "Back to live"}</button>
  </section>`;
}
