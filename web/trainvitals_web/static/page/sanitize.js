/**
 * The dialog behind the Sanitize button. It asks the trainer first (a dry run for the strategy chosen), lists what
 * would be replaced by what, and only then offers a button that says what it does.
 */

import { isOver } from "../data/progress.js";
import { ApiError } from "../link/api.js";
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { count, elide, name as plain, number, step, toNumber } from "../words.js";
import { icon } from "./icons.js";
import { ladder } from "./ladder.js";
import { send } from "./repair.js";

/** @typedef {import("../../../types/contract").Command} Command */
/** @typedef {import("../../../types/contract").Repair} Repair */
/** @typedef {import("../data/board.js").Board} Board */
/** @typedef {"restore" | "reset"} Strategy */

const STRATEGIES = /** @type {const} */ ([
  ["restore", "Restore", "the last good statistics, channel by channel; where none are kept, mean 0 and variance 1"],
  ["reset", "Reset", "mean 0 and variance 1; validation is off until they have settled again"],
]);

export class SanitizeDialog {
  /** @param {HTMLDialogElement} element @param {Board} board @param {(text: string) => void} say */
  constructor(element, board, say) {
    this.element = element;
    this.board = board;
    this.say = say;
    /** @type {Strategy} */
    this.strategy = "restore";
    /** @type {string | null} */
    this.dryRun = null;
    this.problem = "";
    this.sending = false;
  }

  open() {
    this.strategy = "restore";
    this.element.showModal();
    void this.ask();
  }

  /** @param {Strategy} strategy */
  choose(strategy) {
    this.strategy = strategy;
    void this.ask();
  }

  /** The dry run. */
  async ask() {
    this.dryRun = null;
    this.problem = "";
    this.draw();
    const strategy = this.strategy;
    try {
      const command = await send(this.board, { action: "sanitize", strategy, dry_run: true });
      if (strategy === this.strategy) this.dryRun = command.id;
    } catch (error) {
      this.problem = reasonOf(error);
    }
    this.draw();
  }

  /** @returns {Command | null} */
  get answer() {
    return this.dryRun === null ? null : (this.board.commands.get(this.dryRun) ?? null);
  }

  /** @param {Repair[]} repairs */
  async act(repairs) {
    this.sending = true;
    this.draw();
    try {
      await send(this.board, {
        action: "sanitize",
        strategy: this.strategy,
        layers: repairs.map((one) => one.layer),
        dry_run: false,
      });
      this.say(`${this.strategy === "reset" ? "Reset" : "Restore"} requested`);
      this.element.close();
    } catch (error) {
      this.problem = reasonOf(error);
    }
    this.sending = false;
    this.draw();
  }

  draw() {
    if (!this.element.open) return;
    const { answer } = this;
    const repairs = answer?.state === "verified" ? (answer.result.repairs ?? []) : null;
    render(
      html`<form method="dialog" aria-labelledby="sanitize-title">
        <h2 id="sanitize-title">Sanitize normalization statistics</h2>
        <fieldset>
          <legend>Replace non-finite channels by</legend>
          ${STRATEGIES.map(([value, word, text]) => this.choice(value, word, text))}
        </fieldset>
        <div class="plan" aria-live="polite">${this.plan(answer, repairs)}</div>
        <footer>
          <button type="button" @click=${() => this.element.close()}>Cancel</button>
          ${repairs?.length ? this.confirmation(repairs) : nothing}
        </footer>
      </form>`,
      this.element,
    );
  }

  /** @param {Strategy} value @param {string} word @param {string} text */
  choice(value, word, text) {
    return html`<label>
      <input
        type="radio"
        name="strategy"
        value=${value}
        .checked=${this.strategy === value}
        @change=${() => this.choose(value)}
      />
      <b>${word}</b> <span>${text}</span>
    </label>`;
  }

  /** @param {Repair[]} repairs */
  confirmation(repairs) {
    const verb = this.strategy === "reset" ? "Reset" : "Restore";
    const act = () => this.act(repairs);
    return html`<button type="button" class="primary" id="confirm" ?disabled=${this.sending} @click=${act}>
      ${verb} ${count(repairs.length, "layer")}
    </button>`;
  }

  /** @param {Command | null} answer @param {Repair[] | null} repairs */
  plan(answer, repairs) {
    if (this.problem) return html`<p class="broken">${icon("critical")} ${this.problem}</p>`;
    if (repairs) return this.table(repairs);
    const over = answer !== null && isOver(answer.state);
    return html`<p>${over ? "The trainer did not do the dry run." : "Asking the trainer what it would replace…"}</p>
      ${answer ? ladder(answer) : nothing}`;
  }

  /** @param {Repair[]} repairs */
  table(repairs) {
    if (repairs.length === 0) return html`<p>${icon("ok")} The trainer finds nothing to replace.</p>`;
    return html`<div class="scroll" tabindex="0" role="region" aria-label="What would be replaced">
      <table>
        <thead>
          <tr>
            <th>Layer and buffers</th>
            <th class="n">Bad channels</th>
            <th>Now</th>
            <th>Becomes</th>
          </tr>
        </thead>
        <tbody>
          ${repairs.map(
            (one) =>
              html`<tr>
                <td>
                  <span class="path" title=${plain(one.layer).slice(0, 1000)}>${elide(one.layer, 52)}</span><br /><span
                    class="note"
                    >${one.buffers.map((buffer) => elide(buffer, 40)).join(", ")}</span
                  >
                </td>
                <td class="n">${one.channels} of ${one.total}</td>
                <td class="ranges" data-title="now">${ranges(one.before)}</td>
                <td class="ranges" data-title="becomes">
                  ${ranges(one.after)}<span class="note">${this.origin(one)}</span>
                </td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
  }

  /** Where the replacement comes from, and how old it is. @param {Repair} one */
  origin(one) {
    if (one.strategy === "reset")
      return this.strategy === "restore" ? "reset: no good statistics are kept" : "reset: mean 0, variance 1";
    if (one.snapshot_step === null || one.snapshot_step === undefined) return "last good statistics";
    const age = Math.max(0, this.board.extent()[1] - one.snapshot_step);
    return `from step ${step(one.snapshot_step)}, ${count(age, "step")} old`;
  }
}

/** @param {Repair["before"]} buffers */
function ranges(buffers) {
  return Object.entries(buffers ?? {}).map(([buffer, values]) => {
    const [low, high] = values.map((value) => number(toNumber(value)));
    const short = buffer.split(".").at(-1) ?? buffer;
    return html`<span>${elide(short, 24)} ${low === high || high === undefined ? low : `${low} to ${high}`}</span>`;
  });
}

/** @param {unknown} error */
function reasonOf(error) {
  if (!(error instanceof ApiError)) throw error;
  return error.message;
}
