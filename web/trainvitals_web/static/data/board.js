/**
 * Everything the page knows about one run, and who wants to know when it changes.
 *
 * Messages of the live socket and answers of REST come in; `mark(topic)` goes out, and what draws reads the fields.
 * Topics: run, first-bad, link, panels, series, frames, gaps, history, heat, events, alerts, commands, incidents,
 * cursor, range, pins, hover, clock, store.
 */

import { ApiError, getJson, runPath } from "../link/api.js";
import { isPresent } from "../link/frames.js";
import { Socket } from "../link/socket.js";
import { Curves } from "./curves.js";
import { Events } from "./events.js";
import { Heat } from "./heat.js";
import { progress } from "./progress.js";

/** @typedef {import("../../../types/contract").Run} Run */
/** @typedef {import("../../../types/contract").Series} Series */
/** @typedef {import("../../../types/contract").Panel} Panel */
/** @typedef {import("../../../types/contract").Frame} Frame */
/** @typedef {import("../../../types/contract").LiveMessage} LiveMessage */

const INCIDENT_DELAY_MS = 400;
const ENDED = new Set(["finished", "failed", "imported"]);

const DROPPED = "this browser was too slow for them; they are being asked for again";
const AWAY = "this page was not connected; they are being asked for again";

/** @param {Run | null} run */
export const hasEnded = (run) => run !== null && ENDED.has(run.state);

export class Board {
  /** @param {string} id @param {(topic: string) => void} mark */
  constructor(id, mark) {
    this.id = id;
    this.mark = mark;
    /** @type {Run | null} */
    this.run = null;
    /** @type {ApiError | null} */
    this.error = null;
    /** @type {"view" | "control"} */
    this.role = "view";
    /** @type {Panel[]} */
    this.panels = [];
    /** @type {Map<number, Series>} */
    this.series = new Map();
    /** @type {Map<number, number[]>} */
    this.layouts = new Map();
    /** newest value of each series @type {Map<number, number>} */
    this.latest = new Map();
    this.newest = -Infinity;
    /** @type {Map<string | number, import("../../../types/contract").Alert>} */
    this.alerts = new Map();
    /** @type {Map<string, import("../../../types/contract").Command>} */
    this.commands = new Map();
    /** @type {import("../../../types/contract").Incident[]} */
    this.incidents = [];
    /** what is wrong with the server's store @type {import("../../../types/contract").StoreHealth} */
    this.store = { trouble: "", warning: "" };
    this.events = new Events(id, () => mark("events"));
    this.charts = new Curves(id, () => mark("history"));
    this.heat = new Heat(id, () => mark("heat"));
    this.incidentTimer = 0;
    this.socket = new Socket(id, {
      onMessage: (message) => this.receive(message),
      onFrame: (frame) => this.fold(frame),
      onChange: (phase) => this.connection(phase),
    });
    this.describe();
  }

  /** Once by REST as well: it says plainly when there is no such run, or no session. */
  async describe() {
    try {
      this.update(await getJson(runPath(this.id)));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401 || error.status === 404) this.error = error;
      this.mark("run");
    }
  }

  /** @param {import("../link/socket.js").Phase} phase */
  connection(phase) {
    this.mark("link");
    if (phase === "open" && this.socket.opened > 1) {
      this.doubt({ from: this.newest, to: null, count: 0, reason: AWAY });
      this.refetch();
    }
    if (phase === "open") this.catchUp();
    if (phase === "closed") void this.describe(); // it knows whether we are signed out or the server is gone
  }

  /** What the live socket says once and REST must say again after a break. */
  refetch() {
    this.charts.refresh();
    this.heat.refresh();
    this.layouts.clear();
  }

  async catchUp() {
    this.investigate();
    await this.events.load();
    const answer = await getJson(`${runPath(this.id)}/commands`).catch(() => ({ commands: [] }));
    for (const command of answer.commands) this.know(command);
  }

  /** A late answer never sets a command back. @param {import("../../../types/contract").Command} command */
  know(command) {
    const known = this.commands.get(command.id);
    if (known && progress(known.state) > progress(command.state)) return;
    this.commands.set(command.id, command);
    if (command.dry_run) this.events.hush(command.id);
    this.mark("commands");
  }

  /** @param {LiveMessage} message */
  receive(message) {
    switch (message.type) {
      case "config":
        this.panels = message.panels;
        this.role = message.role;
        this.say(message.store);
        return this.mark("panels");
      case "heartbeat":
        return this.say(message.store);
      case "run":
        return this.update(message.run);
      case "series":
        for (const one of message.series) this.series.set(one.id, one);
        return this.mark("series");
      case "layout":
        this.layouts.set(message.layout, message.series);
        return;
      case "events":
        this.events.add(message.events);
        for (const event of message.events) if (event.type === "gap") this.lose(event);
        return this.investigate();
      case "alerts":
        for (const alert of message.alerts) this.alerts.set(alert.id, alert);
        return this.mark("alerts");
      case "command":
        return this.know(message.command);
      case "notice":
        return void this.describe(); // such as that the run is gone
      case "dropped":
        return this.doubt({ from: message.from, to: message.to, count: 0, reason: DROPPED });
    }
  }

  /** Records were lost for good: no line may be drawn over them, from now on. @param {import("../../../types/contract").Event} event */
  lose({ rank, step, data }) {
    if (rank !== 0) return;
    const from = data.first_step ?? step;
    this.doubt({ from, to: data.last_step ?? from, count: data.count, reason: data.reason });
  }

  /** @param {import("../../../types/contract").Gap} gap */
  doubt(gap) {
    if (gap.from === null || !Number.isFinite(gap.from)) return this.refetchData();
    this.charts.doubt(gap);
    this.heat.doubt(gap);
    this.mark("gaps");
  }

  /** @param {import("../../../types/contract").StoreHealth | undefined} store */
  say(store) {
    if (!store || (store.trouble === this.store.trouble && store.warning === this.store.warning)) return;
    this.store = store;
    this.mark("store");
  }

  refetchData() {
    this.charts.refresh();
    this.heat.refresh();
  }

  /** @param {Run} run */
  update(run) {
    if (run.first_bad_layer !== (this.run?.first_bad_layer ?? null)) this.mark("first-bad");
    this.run = run;
    this.error = null;
    if (run.step !== null) this.newest = Math.max(this.newest, run.step);
    this.mark("run");
  }

  /** @param {Frame} frame */
  fold(frame) {
    const columns = this.layouts.get(frame.layout);
    if (!columns || frame.rank !== 0) return;
    if (columns.length !== frame.values.length) return this.refetchData();
    for (let i = 0; i < columns.length; i++) {
      if (isPresent(frame.present, i)) this.latest.set(columns[i], frame.values[i]);
    }
    this.newest = Math.max(this.newest, frame.step);
    this.charts.fold(frame, columns);
    this.heat.fold(frame, columns);
    this.mark("frames");
  }

  /** The written incidents change with events; asked once per burst of them. */
  investigate() {
    window.clearTimeout(this.incidentTimer);
    this.incidentTimer = window.setTimeout(async () => {
      const answer = await getJson(`${runPath(this.id)}/incidents`).catch(() => null);
      if (!answer) return;
      this.incidents = answer.incidents;
      this.mark("incidents");
    }, INCIDENT_DELAY_MS);
  }

  /** The run's ends as far as they are known, at least one step apart. @returns {[number, number]} */
  extent() {
    const first = this.run?.first_step ?? 0;
    const last = Math.max(Number.isFinite(this.newest) ? this.newest : first, this.run?.step ?? first);
    return [first, Math.max(last, first + 1)];
  }

  close() {
    window.clearTimeout(this.incidentTimer);
    this.charts.close();
    this.heat.close();
    this.socket.close();
  }
}
