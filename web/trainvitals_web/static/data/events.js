/** The events of a run, by step, and what each says in one line. Never thinned: all of them are asked for. */

import { getJson, runPath } from "../link/api.js";
import { count, name, number, toNumber } from "../words.js";

/** @typedef {import("../../../types/contract").Event} Event */

const PAGE = 1000;

export class Events {
  /** @param {string} run @param {() => void} changed */
  constructor(run, changed) {
    this.run = run;
    this.changed = changed;
    /** @type {Map<number, Event>} */
    this.byId = new Map();
    /** sorted by step, then by id @type {Event[]} */
    this.sorted = [];
    /** those for the timeline: without commands on their way, or that only ask @type {Event[]} */
    this.marked = [];
    /** those to jump to, and to mark on every chart @type {Event[]} */
    this.notable = [];
    /** ids of commands that were dry runs @type {Set<string>} */
    this.dryRuns = new Set();
  }

  /** @param {Event[]} events */
  add(events) {
    let fresh = 0;
    for (const event of events) {
      if (this.byId.has(event.id)) continue;
      this.byId.set(event.id, event);
      fresh += 1;
    }
    if (fresh === 0) return;
    this.sorted = [...this.byId.values()].sort((a, b) => a.step - b.step || a.id - b.id);
    this.sift();
  }

  /** A dry run changes nothing and is not worth a mark. @param {string} command its id */
  hush(command) {
    if (this.dryRuns.has(command)) return;
    this.dryRuns.add(command);
    this.sift();
  }

  sift() {
    this.marked = this.sorted.filter((event) => !this.isStep(event) && !isRoutineCheck(event));
    this.notable = this.marked.filter(isNotable);
    this.changed();
  }

  /** A command on its way, or one that was only asked what it would do. @param {Event} event */
  isStep({ type, data }) {
    return type === "command" && (data.state === "delivered" || data.state === "applied" || this.dryRuns.has(data.id));
  }

  /** All events of the run, page by page. */
  async load() {
    /** @type {number | null} */
    let after = 0;
    while (after !== null) {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (after) query.set("after", String(after));
      const answer = await getJson(`${runPath(this.run)}/events?${query}`).catch(() => null);
      if (!answer) return;
      this.add(answer.events);
      after = answer.next;
    }
  }

  /** Steps at which something notable happened, ascending, each once. */
  steps() {
    return [...new Set(this.notable.map((event) => event.step))];
  }
}

/** Health checks come every few steps and before each validation; a healthy one is no mark among the faults.
 * @param {Event} event */
const isRoutineCheck = ({ type, data }) => type === "health" && data.healthy !== false;

/**
 * Routine events (a healthy check, a saved checkpoint, an ordinary validation) are shown but not jumped to.
 * @param {Event} event
 */
function isNotable(event) {
  const { type, data } = event;
  if (type === "health") return data.healthy === false;
  if (type === "validation") return !isClean(data);
  if (type === "checkpoint") return data.outcome !== "saved";
  return true;
}

/** @param {Record<string, any>} data of a validation */
const isClean = (data) => data.errors === 0 && data.nonfinite === 0 && !data.tainted;

/** What follows is a stack, or the rest of a long message. @param {unknown} text */
const firstLine = (text) => String(text).split("\n", 1)[0];

/** @type {Record<string, (data: Record<string, any>, layer: string | null) => string>} */
const TEXTS = {
  nonfinite: (data, layer) => {
    const kind = { nan: "NaN", inf: "Inf", negative: "negative variance" }[String(data.kind)] ?? data.kind;
    const where = data.count >= 0 ? ` in ${data.count} of ${data.total}` : "";
    return `${String(data.signal).replace(/_/g, " ")}: ${kind}${where}${layer ? ` at ${name(layer)}` : ""}`;
  },
  origin: (data, layer) => {
    const who = { input: "the input", loss: "the loss", loss_scale: "the loss scale", elsewhere: "another rank" }[
      String(data.place)
    ];
    if (!who && !layer) return "what broke first is unknown";
    const kind = data.type ? ` (${name(String(data.type))})` : "";
    const side = { backward: ", in backward", weights: ", its weights", statistics: ", its statistics" }[String(data.place)] ?? "";
    return `broke first: ${who ?? name(String(layer))}${kind}${side}${data.precision ? ` in ${data.precision}` : ""}`;
  },
  sanitized: (data) => {
    const repairs = data.repairs ?? [];
    const channels = repairs.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.channels, 0);
    const verb = data.strategy === "reset" ? "reset" : "restored";
    return `${verb} ${count(channels, "channel")} in ${count(repairs.length, "layer")} (${data.origin})`;
  },
  health: (data) =>
    data.healthy ? `healthy (${data.origin})` : `${count(data.count || (data.keys ?? []).length, "corrupt tensor")} (${data.origin})`,
  validation: (data) => {
    const parts = [`${data.valid} of ${data.total ?? data.valid + data.errors + data.nonfinite} batches valid`];
    if (data.errors) parts.push(count(data.errors, "error"));
    if (data.nonfinite) parts.push(`${data.nonfinite} non-finite`);
    if (data.tainted) parts.push("tainted");
    for (const [key, value] of Object.entries(data.metrics ?? {}))
      parts.push(`${name(key)} ${number(toNumber(value))}`);
    return parts.join(", ");
  },
  checkpoint: (data) => {
    const why = data.key ? ` because of ${name(data.key)}` : data.reason ? `: ${name(data.reason)}` : "";
    return `${data.outcome}${data.best ? " as best" : ""}${why}`;
  },
  command: (data) => `command ${data.state}${data.reason ? `: ${name(data.reason)}` : ""}`,
  lifecycle: (data) =>
    `trainer ${data.state}${data.error ? `: ${name(firstLine(data.error))}` : data.reason ? `: ${name(data.reason)}` : ""}`,
  fault: (data) =>
    `probe ${name(String(data.probe))} raised${data.disabled ? " and is disabled" : ""}: ${name(String(data.error))}`,
  notice: (data) => name(firstLine(data.text)),
  gap: (data) => `${count(data.count ?? 0, "record")} lost: ${name(String(data.reason ?? ""))}`,
};

/** @param {Event} event */
export function describe(event) {
  return Object.hasOwn(TEXTS, event.type) ? TEXTS[event.type](event.data, event.layer) : name(event.type);
}

/** How bad, for its colour: 0 routine, 1 repaired or notable, 2 warning, 3 broken. @param {Event} event */
export function severity({ type, data }) {
  if (type === "nonfinite") return 3;
  if (type === "origin") return data.place === "loss_scale" ? 1 : 3;
  if (type === "validation") return data.valid === 0 || data.tainted ? 3 : isClean(data) ? 0 : 2;
  if (type === "checkpoint") return data.outcome === "saved" ? 0 : 3;
  if (type === "health") return data.healthy ? 0 : 3;
  if (type === "lifecycle") return data.state === "failed" ? 3 : 0;
  if (type === "sanitized") return 1;
  return type === "command" ? 1 : 2;
}
