/** The keyboard: one table of keys, what each does, and the help that lists them. */

import { html, render } from "../vendor/lit-html-3.3.3/lit-html.js";

/** @typedef {{keys: string[], show: string, text: string, act: () => void}} Binding */

/** Keys that a control under focus needs for itself. @param {KeyboardEvent} event */
function isTaken(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  if (target.closest("input:not([type=range]), textarea, select")) return true;
  if (event.key === " " && target.closest("button, a, summary, input")) return true;
  return document.querySelector("dialog[open]") !== null;
}

/** @param {Binding[]} bindings @returns {() => void} stops listening */
export function listenKeys(bindings) {
  const press = (/** @type {KeyboardEvent} */ event) => {
    if (isTaken(event)) return;
    const found = bindings.find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.act();
  };
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", press);
}

/** @param {HTMLDialogElement} dialog @param {Binding[]} bindings */
export function showHelp(dialog, bindings) {
  render(
    html`<form method="dialog">
      <h2 id="help-title">Keys</h2>
      <dl class="keys">
        ${bindings.map(
          ({ show, text }) =>
            html`<div>
              <dt><kbd>${show}</kbd></dt>
              <dd>${text}</dd>
            </div>`,
        )}
        <div>
          <dt><kbd>Esc</kbd></dt>
          <dd>close what is open, leave a field</dd>
        </div>
      </dl>
      <p class="note">
        Drag over a chart to zoom all of them, double-click to see everything, click to set the cursor.
      </p>
      <footer><button class="primary">Close</button></footer>
    </form>`,
    dialog,
  );
  dialog.showModal();
}

/** Focus the page's filter. @param {ParentNode} root */
export function focusFilter(root) {
  const field = /** @type {HTMLInputElement | null} */ (root.querySelector("[data-filter]"));
  field?.focus();
  field?.select();
}

/** Escape leaves a field, since `isTaken` keeps other keys inside it. */
export function leaveFields() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.key === "Escape" && target.matches("input, select")) target.blur();
  });
}
