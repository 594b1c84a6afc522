/** Where the page starts: the address says which page, and that page's modules are fetched. */

import { leaveFields } from "./page/keys.js";

const RUN = /^\/runs\/([^/]+)\/?$/;
const LINK = /^#(\/runs\/[^/]+)$/; // a sign-in link ends on the list and carries where it meant to go

async function start() {
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  const run = RUN.exec(window.location.pathname);
  leaveFields();
  const link = run ? null : LINK.exec(window.location.hash);
  if (link) return window.location.replace(link[1]);
  if (run) (await import("./page/run.js")).open(root, decodeURIComponent(run[1]));
  else (await import("./page/runs.js")).open(root);
}

void start();
