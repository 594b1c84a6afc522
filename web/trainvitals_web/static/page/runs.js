/** The list of runs, worst first; when there is none, the three lines that make one. */

import { ApiError, getJson } from "../link/api.js";
import { Socket } from "../link/socket.js";
import { Painter } from "../draw/painter.js";
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { ago, cut, elide, name as plain, number, step } from "../words.js";
import { banner } from "./banner.js";
import { head, say, signIn } from "./frame.js";
import { focusFilter, listenKeys, showHelp } from "./keys.js";
import { sparkline } from "./sparkline.js";
import { badge, browserLink, sentence, trainerLink } from "./status.js";

/** @typedef {import("../../../types/contract").Run} Run */

const TICK_MS = 1000;
const TOLD = new Set(["failed", "lost", "stalled"]); // whose reason belongs beside the verdict
const ALTERED = "Its statistics were repaired at least once";
const SNIPPET = `import trainvitals

watch = trainvitals.watch(model, optimizer, scaler=scaler)
# ... your training loop, unchanged ...
watch.close()`;

class RunsPage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Run[] | null} */
    this.runs = null;
    this.signedOut = false;
    /** @type {import("../../../types/contract").StoreHealth} */
    this.store = { trouble: "", warning: "" };
    this.search = new URLSearchParams(window.location.search).get("q") ?? "";
    this.copied = false;
    this.painter = new Painter();
    this.bindings = [
      { keys: ["/"], show: "/", text: "find a run", act: () => focusFilter(root) },
      { keys: ["?"], show: "?", text: "these keys", act: () => this.help() },
    ];
    listenKeys(this.bindings);
    this.painter.job(["runs"], () => this.draw(), 100);
    this.socket = new Socket(null, {
      onMessage: (message) => this.receive(message),
      onFrame: () => {},
      onChange: (phase) => this.connection(phase),
    });
    void this.load();
    window.setInterval(() => this.painter.mark("runs"), TICK_MS);
  }

  async load() {
    try {
      this.take((await getJson("/api/runs")).runs);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.signedOut = error.status === 401;
      this.painter.mark("runs");
    }
  }

  /** @param {import("../../../types/contract").LiveMessage} message */
  receive(message) {
    if (message.type === "runs") this.take(message.runs);
    if (message.type === "notice") say(message.text, 20_000);
    if ((message.type === "config" || message.type === "heartbeat") && message.store) {
      this.store = message.store;
      this.painter.mark("runs");
    }
  }

  /** @param {Run[]} runs */
  take(runs) {
    this.runs = runs;
    this.signedOut = false;
    this.painter.mark("runs");
  }

  /** @param {import("../link/socket.js").Phase} phase */
  connection(phase) {
    if (phase === "closed") void this.load(); // it knows whether we are signed out or the server is gone
    this.painter.mark("runs");
  }

  help() {
    showHelp(/** @type {HTMLDialogElement} */ (document.getElementById("help")), this.bindings);
  }

  draw() {
    const now = this.socket.now();
    const link = browserLink(this.socket, Date.now()) ?? {
      tone: /** @type {const} */ ("good"),
      word: "Live",
      detail: "",
    };
    document.title = this.title();
    render(
      html`<header class="top">
          ${head(html`<span aria-current="page">Runs</span>`, link, nothing, () => this.help())}
        </header>
        <main class="runs">${banner(this.store)} ${this.body(now)}</main>`,
      this.root,
    );
  }

  /** @param {number} now */
  body(now) {
    if (this.signedOut) return signIn();
    if (this.runs === null) return html`<p class="note">Asking the server…</p>`;
    return this.runs.length ? this.list(this.runs, now) : this.empty();
  }

  title() {
    const critical = (this.runs ?? []).filter((run) => run.verdict.level === "critical").length;
    return `${critical ? `(${critical}) ` : ""}Runs · trainvitals`;
  }

  /** @param {Run[]} runs @param {number} now */
  list(runs, now) {
    const wanted = this.search.trim().toLowerCase();
    const shown = runs.filter((run) =>
      `${run.name} ${run.project} ${run.id} ${run.state} ${run.verdict.level}`.toLowerCase().includes(wanted),
    );
    return html`<div class="bar">
        <h1>Runs</h1>
        <label
          >Find
          <input
            type="search"
            data-filter
            .value=${this.search}
            placeholder="name, project, state"
            @input=${(/** @type {any} */ event) => this.find(event.target.value)}
        /></label>
        <span class="note"
          >${shown.length === runs.length ? step(runs.length) : `${step(shown.length)} of ${step(runs.length)}`}, worst
          first</span
        >
      </div>
      <div class="scroll" tabindex="0" role="region" aria-label="Runs">
        <table class="runs-table">
          <thead>
            <tr>
              <th>Verdict</th>
              <th>Run</th>
              <th>State</th>
              <th class="n">Step</th>
              <th class="n">Steps/s</th>
              <th>Last seen</th>
              <th class="n">Alerts</th>
              <th class="n">First bad step</th>
              <th>Severity</th>
            </tr>
          </thead>
          <tbody>
            ${shown.map((run) => this.row(run, now))}
          </tbody>
        </table>
      </div>
      ${shown.length === 0 ? html`<p class="note">No run matches.</p>` : nothing}`;
  }

  /** @param {Run} run @param {number} now */
  row(run, now) {
    const address = `/runs/${encodeURIComponent(run.id)}`;
    const trainer = trainerLink(run, now);
    const bad = run.first_bad_step;
    return html`<tr data-run=${run.id}>
      <td>${badge(run.verdict)}</td>
      <td class="what">
        <a href=${address} title=${plain(run.name).slice(0, 1000)}><bdi>${elide(run.name, 48)}</bdi></a>
        <span class="note">${elide(run.project, 32)} · <span class="path">${elide(run.id, 20)}</span></span>
        <span class="text" title=${plain(run.verdict.text).slice(0, 1000)}>${cut(sentence(run.verdict), 160)}</span>
        ${TOLD.has(run.state) && run.reason ? html`<span class="text reason">${cut(run.reason, 200)}</span>` : nothing}
      </td>
      <td>
        <span class=${`state ${trainer.tone}`} title=${plain(run.reason).slice(0, 1000)}>${run.state}</span>
        ${run.altered ? html`<span class="note" title=${ALTERED}>altered</span>` : nothing}
      </td>
      <td class="n" data-title="step">${step(run.step)}</td>
      <td class="n" data-title="steps/s">${run.steps_per_s ? number(run.steps_per_s) : "–"}</td>
      <td class="note" data-title="seen">${ago(run.last_seen, now)}</td>
      <td class="n" data-title="alerts">${run.open_alerts ? html`<b>${run.open_alerts}</b>` : "0"}</td>
      <td class="n" data-title="first bad step">
        ${bad === null ? "–" : html`<a href=${`${address}?step=${bad}`}>${step(bad)}</a>`}
      </td>
      <td>${sparkline(run.severity)}</td>
    </tr>`;
  }

  /** @param {string} text */
  find(text) {
    this.search = text;
    window.history.replaceState(null, "", text ? `/?q=${encodeURIComponent(text)}` : "/");
    this.painter.mark("runs");
  }

  empty() {
    return html`<section class="notice">
      <h1>No runs yet</h1>
      <p>Add these lines to a training script and start it. This page turns into the list by itself.</p>
      <div class="snippet">
        <pre tabindex="0" role="region" aria-label="Python code"><code>${SNIPPET}</code></pre>
        <button @click=${() => this.copy()}>${this.copied ? "Copied" : "Copy"}</button>
      </div>
      <p class="waiting" role="status"><i aria-hidden="true"></i>Waiting for the first step</p>
      <p class="note">Or see a run break and recover: <code>trainvitals demo</code></p>
    </section>`;
  }

  async copy() {
    await navigator.clipboard?.writeText(SNIPPET).catch(() => {});
    this.copied = true;
    this.painter.mark("runs");
  }
}

/** @param {HTMLElement} root */
export function open(root) {
  return new RunsPage(root);
}
