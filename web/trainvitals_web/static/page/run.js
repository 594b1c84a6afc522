/** One run: what the page consists of, and which part is drawn again when what changes. */

import { Board, hasEnded } from "../data/board.js";
import { Moment } from "../data/moment.js";
import { View } from "../data/view.js";
import { Heatmap } from "../draw/heatmap.js";
import { Painter } from "../draw/painter.js";
import { Panels } from "../draw/panels.js";
import { loadPlotly } from "../draw/plotly.js";
import { onTheme } from "../draw/theme.js";
import { html, nothing, render } from "../vendor/lit-html-3.3.3/lit-html.js";
import { cut, elide, name as plain } from "../words.js";
import { alertStrip } from "./alerts.js";
import { banner } from "./banner.js";
import { head, notFound, say, signIn } from "./frame.js";
import { incidents } from "./incident.js";
import { focusFilter, listenKeys, showHelp } from "./keys.js";
import { log } from "./log.js";
import { losses, troubledRanks } from "./losses.js";
import { numbers } from "./numbers.js";
import { Player } from "./player.js";
import { audit, sanitizeButton, underWay } from "./repair.js";
import { SanitizeDialog } from "./sanitize.js";
import { scrubber } from "./scrubber.js";
import { badge, browserLink, connection, levelWord, sentence, unlessSilent } from "./status.js";
import { timeline } from "./timeline.js";
import { traces } from "./trace.js";

const TICK_MS = 1000;
const ABOVE = ["banner", "verdict", "trace", "alerts", "command", "numbers"];
const LEFT = ["replay", "timeline", "heatmap"]; // of the incident, where there is room
const BELOW = ["panels", "audit", "log"];

class RunPage {
  /** @param {HTMLElement} root @param {string} id */
  constructor(root, id) {
    this.painter = new Painter();
    const mark = (/** @type {string} */ topic) => this.mark(topic);
    this.parts = skeleton(root);
    this.board = new Board(id, mark);
    this.view = new View(this.board, mark);
    this.moment = new Moment(this.board, this.view, () => mark("moment"));
    this.player = new Player(this.board, this.view, mark);
    this.panels = new Panels(this.parts.panels, this.board, this.view, this.painter);
    this.heatmap = new Heatmap(this.parts.heatmap, this.board, this.view, this.painter, (id) => this.moment.value(id));
    this.dialog = new SanitizeDialog(
      /** @type {HTMLDialogElement} */ (document.getElementById("ask")),
      this.board,
      (text) => this.say(text),
    );
    this.bindings = this.keys();
    this.spoken = "";
    this.end = -Infinity;
    listenKeys(this.bindings);
    this.jobs();
    onTheme(() => this.restyle());
    new ResizeObserver(() => this.painter.mark("size")).observe(this.parts.timeline);
    window.setInterval(() => this.mark("clock"), TICK_MS);
    requestAnimationFrame(() => requestAnimationFrame(() => loadPlotly().then(() => this.restyle())));
  }

  /** Topic to drawing: the page's table of contents. */
  jobs() {
    const { board, view, painter, parts } = this;
    const say = (/** @type {string} */ text) => this.say(text);
    const into = (/** @type {string} */ part, /** @type {() => unknown} */ content) => () =>
      render(content(), parts[part]);
    painter.job(
      ["run", "link", "clock", "cursor", "panels", "store"],
      into("head", () => this.head()),
      100,
    );
    painter.job(
      ["store"],
      into("banner", () => banner(board.store)),
    );
    painter.job(
      ["run", "events"],
      into("trace", () => traces(board, (at) => view.goTo(at), say)),
      200,
    );
    painter.job(
      ["run", "moment", "cursor", "link", "clock", "store"],
      into("verdict", () => this.verdict()),
      100,
    );
    painter.job(
      ["alerts", "panels"],
      into("alerts", () => alertStrip(board, view, say)),
      200,
    );
    painter.job(
      ["commands", "run", "panels", "link"],
      into("command", () => underWay(board, say)),
      100,
    );
    painter.job(
      ["run", "series", "frames", "moment", "cursor"],
      into("numbers", () => numbers(board, this.moment, view)),
      100,
    );
    painter.job(
      ["run", "cursor"],
      into("replay", () => scrubber(board, view, this.player)),
      50,
    );
    painter.job(
      ["events", "range", "run", "size", "cursor", "history", "gaps"],
      into("timeline", () => timeline(board, view, this.trackWidth())),
      200,
    );
    painter.job(
      ["incidents", "cursor"],
      into("incident", () => incidents(board.incidents, view)),
      200,
    );
    painter.job(
      ["commands", "run", "panels"],
      into("audit", () => audit(board, say)),
      250,
    );
    painter.job(
      ["events", "cursor"],
      into("log", () => log(board, view)),
      400,
    );
    painter.job(["panels", "series", "pins", "first-bad"], () => this.panels.arrange(), 300);
    painter.job(["panels", "series", "pins", "heat-settings"], () => this.heatmap.arrange(), 300);
    painter.job(["heat", "gaps"], () => this.heatmap.judge());
    painter.job(["frames"], () => this.heatmap.judge(), 1500);
    painter.job(["frames", "heat-scroll", "moment", "pins"], () => this.heatmap.draw(), 250);
    painter.job(["frames", "cursor", "hover", "events", "gaps"], () => this.panels.overlays());
    painter.job(["cursor", "hover"], () => this.heatmap.overlay());
    painter.job(["commands"], () => this.dialog.draw(), 100);
    painter.job(["frames", "range", "history", "events", "run"], () => this.advance(), 100);
  }

  /** @param {string} topic */
  mark(topic) {
    if (topic === "cursor" || topic === "run") this.moment?.follow();
    if (topic === "range" || topic === "history" || topic === "gaps") this.panels?.stale(true);
    if (topic === "range") this.heatmap?.touch();
    if (topic === "frames" || topic === "events") this.panels?.stale(false);
    this.painter.mark(topic);
  }

  /** When the live range grows, every axis moves together. */
  advance() {
    const [, end] = this.view.span();
    if (end === this.end) return;
    this.end = end;
    this.painter.mark("size");
    this.panels.stale(true);
    this.heatmap.touch();
  }

  head() {
    const { run, error } = this.board;
    const name = run ? elide(run.name, 60) : "…";
    document.title = `${run ? `${levelWord(run.verdict.level)}: ${elide(run.name, 40)}` : "Run"} · trainvitals`;
    this.parts.body.hidden = error !== null;
    this.parts.notice.hidden = error === null;
    if (error) render(error.status === 401 ? signIn() : notFound(error.message), this.parts.notice);
    const crumbs = html`<a href="/">Runs</a> <span aria-hidden="true">/</span>
      <span aria-current="page" title=${plain(run?.name ?? "").slice(0, 1000)}><bdi>${name}</bdi></span>`;
    return head(
      crumbs,
      connection(this.board, this.view, Date.now()),
      sanitizeButton(this.board, () => this.dialog.open()),
      () => this.help(),
    );
  }

  verdict() {
    const { run } = this.board;
    const verdict = this.verdictNow();
    const text = sentence(verdict);
    this.announce(verdict.level, `${levelWord(verdict.level)}: ${text}`);
    return html`<div class=${`verdict ${verdict.level}`}>
      <h1>${badge(verdict)} <span>${cut(text, 400)}</span></h1>
      ${
        run
          ? html`<p class="note">
              ${run.state}${run.reason ? `: ${cut(run.reason, 240)}` : ""} · project ${elide(run.project, 40)} ·
              <span class="path">${elide(run.id, 40)}</span> · automatic repair
              ${run.auto_sanitize}${run.altered ? " · altered by repairs" : ""}
              </p>
              ${troubledRanks(run)} ${losses(run)}`
          : nothing
      }
    </div>`;
  }

  verdictNow() {
    const { run, socket, store } = this.board;
    const now = this.moment.verdict();
    if (this.view.cursor !== null || hasEnded(run)) return now; // the past stays what it was
    return unlessSilent(now, browserLink(socket, Date.now()), store.trouble);
  }

  trackWidth() {
    const track = this.parts.timeline.querySelector(".track");
    return track?.clientWidth || Math.max(120, this.parts.timeline.clientWidth - 100);
  }

  keys() {
    const { view, player } = this;
    return [
      { keys: [","], show: ",", text: "previous event", act: () => player.jump(-1) },
      { keys: ["."], show: ".", text: "next event", act: () => player.jump(1) },
      { keys: [" "], show: "Space", text: "play or pause", act: () => player.toggle() },
      { keys: ["a", "A"], show: "A", text: "pan left", act: () => view.pan(-0.25) },
      { keys: ["d", "D"], show: "D", text: "pan right", act: () => view.pan(0.25) },
      { keys: ["w", "W"], show: "W", text: "zoom in", act: () => view.scale(0.5) },
      { keys: ["s", "S"], show: "S", text: "zoom out", act: () => view.scale(2) },
      { keys: ["/"], show: "/", text: "find a layer", act: () => focusFilter(this.parts.heatmap) },
      { keys: ["?"], show: "?", text: "these keys", act: () => this.help() },
    ];
  }

  help() {
    showHelp(/** @type {HTMLDialogElement} */ (document.getElementById("help")), this.bindings);
  }

  restyle() {
    this.panels.stale(true);
    this.heatmap.touch();
    for (const topic of ["hover", "events", "heat"]) this.painter.mark(topic);
  }

  /** A change of level is spoken, once; numbers are not. @param {string} level @param {string} text */
  announce(level, text) {
    if (level === this.spoken || this.player.playing) return;
    this.spoken = level;
    /** @type {HTMLElement} */ (document.getElementById("announce")).textContent = text;
  }

  /** A short message that goes away. @param {string} text */
  say(text) {
    say(text);
  }
}

/** @param {string} part */
const place = (part) => html`<div class="part" data-part=${part}></div>`;

/** @param {HTMLElement} root @returns {Record<string, HTMLElement>} */
function skeleton(root) {
  render(
    html`<header class="top" data-part="head"></header>
      <div data-part="notice" hidden></div>
      <main class="run" data-part="body">
        ${ABOVE.map(place)}
        <div class="pair">
          <div class="left">${LEFT.map(place)}</div>
          ${place("incident")}
        </div>
        ${BELOW.map(place)}
      </main>`,
    root,
  );
  const parts = [...root.querySelectorAll("[data-part]")];
  return Object.fromEntries(
    parts.map((part) => [/** @type {HTMLElement} */ (part).dataset.part, /** @type {HTMLElement} */ (part)]),
  );
}

/** @param {HTMLElement} root @param {string} id */
export function open(root, id) {
  return new RunPage(root, id);
}
