/** What every page has: the head with the product's name, the way back, the state of the connection, help. */

import { html } from "../vendor/lit-html-3.3.3/lit-html.js";
import { icon } from "./icons.js";
import { chip } from "./status.js";

/**
 * @param {unknown} crumbs
 * @param {import("./status.js").Link} link
 * @param {unknown} actions
 * @param {() => void} help
 */
export function head(crumbs, link, actions, help) {
  return html`<div class="brand">
      <a href="/" aria-label="trainvitals, all runs">${icon("pulse")}<b>trainvitals</b></a>
    </div>
    <nav aria-label="Where you are">${crumbs}</nav>
    <span class="status">${chip(link)}</span>
    ${actions}
    <button class="square quiet" aria-label="Help: keys" title="Keys ( ? )" @click=${help}>?</button>`;
}

/** A short message that goes away. @param {string} text @param {number} [milliseconds] */
export function say(text, milliseconds = 5000) {
  const toast = /** @type {HTMLElement} */ (document.getElementById("toast"));
  toast.textContent = text;
  toast.hidden = false;
  window.setTimeout(() => (toast.hidden = true), milliseconds);
}

/** Shown where the server does not know this browser. */
export function signIn() {
  return html`<section class="notice" role="status">
    <h1>Not signed in</h1>
    <p>This browser has no session. On the machine where the server runs, ask for a sign-in link:</p>
    <pre><code>trainvitals open</code></pre>
    <p class="note">The page goes on by itself once you are signed in.</p>
  </section>`;
}

/** @param {string} detail */
export function notFound(detail) {
  return html`<section class="notice" role="status">
    <h1>No such run</h1>
    <p>${detail}</p>
    <p><a href="/">All runs</a></p>
  </section>`;
}
