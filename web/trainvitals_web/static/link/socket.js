/**
 * The live socket: subscribes, comes back by itself, and says how the connection is.
 *
 * It knows nothing of what the messages mean: JSON goes to `onMessage`, frames to `onFrame`, and every change between
 * connecting, open and closed to `onChange`. `heard` is when the server last said anything.
 */

import { decodeFrame } from "./frames.js";

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 4000;

/** @typedef {"connecting" | "open" | "closed"} Phase */
/**
 * @typedef {object} Handlers
 * @property {(message: import("../../../types/contract").LiveMessage) => void} onMessage
 * @property {(frame: import("../../../types/contract").Frame) => void} onFrame
 * @property {(phase: Phase) => void} onChange
 */

export class Socket {
  /** @param {string | null} run the run to follow, or null for the list @param {Handlers} handlers */
  constructor(run, handlers) {
    this.run = run;
    this.handlers = handlers;
    /** @type {Phase} */
    this.phase = "connecting";
    this.heard = Date.now();
    /** when the connection was lost, or null while there is one @type {number | null} */
    this.lost = null;
    this.opened = 0;
    /** milliseconds by which the server's clock is ahead of this one */
    this.skew = 0;
    this.wait = FIRST_WAIT_MS;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.ended = false;
    this.timer = 0;
    this.connect();
  }

  connect() {
    const address = new URL("/ws/live", window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ type: "subscribe", run: this.run }));
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => this.retry();
    this.socket = socket;
  }

  /** @param {string | ArrayBuffer} data */
  receive(data) {
    this.heard = Date.now();
    if (this.phase !== "open") this.greeted();
    if (typeof data !== "string") return this.handlers.onFrame(decodeFrame(data));
    const message = JSON.parse(data);
    if (message.time) this.skew = Date.parse(message.time) - this.heard;
    this.handlers.onMessage(message);
  }

  /** The time by the server's clock, in milliseconds. */
  now() {
    return Date.now() + this.skew;
  }

  /** Only a message proves that the subscription stands; an open TCP connection does not. */
  greeted() {
    this.wait = FIRST_WAIT_MS;
    this.lost = null;
    this.opened += 1;
    this.change("open");
  }

  retry() {
    if (this.ended) return;
    this.lost ??= Date.now();
    this.change("closed");
    this.timer = window.setTimeout(() => this.connect(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 1.7);
  }

  /** @param {Phase} phase */
  change(phase) {
    this.phase = phase;
    this.handlers.onChange(phase);
  }

  close() {
    this.ended = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
  }
}
