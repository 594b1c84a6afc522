/** What the server says: the JSON of its REST resources and of its live socket. Times are ISO-8601 UTC. */

export type Level = "ok" | "warning" | "critical" | "unknown";
export type RunState = "starting" | "live" | "stalled" | "finished" | "failed" | "lost" | "imported";
/** JSON cannot hold NaN or an infinity: they come as words. */
export type JsonNumber = number | "NaN" | "Infinity" | "-Infinity";

export interface Verdict {
  level: Level;
  text: string;
}

export interface Run {
  id: string;
  name: string;
  project: string;
  state: RunState;
  connected: boolean;
  verdict: Verdict;
  step: number | null;
  first_step: number | null;
  steps_per_s: number | null;
  created: string;
  last_seen: string | null;
  ended: string | null;
  reason: string;
  open_alerts: number;
  first_bad_step: number | null;
  first_bad_layer: string | null;
  sanitizations: number;
  altered: boolean;
  nonfinite_layers: string[];
  allow: string[];
  auto_sanitize: string;
  pinned?: boolean; // kept whatever retention says
  outcome?: string; // of an imported run: the state it had where it came from
  /** 0 ok to 3 critical; -1 where all records were lost */
  severity: number[];
  lost: { records: number; gaps: number; reasons: LossReason[] };
  quarantined: number;
  set_aside: { reason: string; count: number }[];
  ranks?: { size: number; troubled: { rank: number; state: string; step: number | null; reason: string }[] };
}

export interface LossReason {
  reason: string;
  records: number;
  gaps: number;
  from: number;
  to: number;
}

/** Why nothing can be stored now, and what may become a reason; "" for neither. */
export interface StoreHealth {
  trouble: string;
  warning: string;
}

export interface Series {
  id: number;
  layer: string;
  kind: string;
  stat: string;
  order: number;
}

export interface Event {
  id: number;
  run: string;
  producer: string;
  rank: number;
  seq: number;
  step: number;
  time: string;
  type: string;
  layer: string | null;
  data: Record<string, any>;
}

export interface Alert {
  id: string | number;
  run: string;
  rule: string;
  title: string;
  layer: string | null;
  severity: "info" | "warning" | "critical";
  status: "firing" | "acknowledged" | "resolved" | "regressed";
  first_step: number;
  last_step: number;
  count: number;
  value: JsonNumber | null;
  threshold: JsonNumber | null;
  text: string;
  opened: string;
  updated: string;
}

export interface Repair {
  layer: string;
  channels: number;
  total: number;
  strategy: "restore" | "reset";
  buffers: string[];
  snapshot_step?: number | null;
  before?: Record<string, JsonNumber[]>;
  after?: Record<string, JsonNumber[]>;
}

export interface Command {
  id: string;
  run: string;
  producer: string;
  action: string;
  strategy: string | null;
  layers: string[] | null;
  dry_run: boolean;
  of: string | null;
  key: string;
  state: string;
  reason: string;
  step: number | null;
  result: { dry_run?: boolean; repairs?: Repair[]; [key: string]: unknown };
  requested: string;
  delivered: string | null;
  applied: string | null;
  verified: string | null;
  expires: string;
  role: string;
}

export interface Incident {
  first_bad_step: number;
  first_bad_layer: string | null;
  channels: number | null;
  kind: string;
  precision: string | null;
  headroom: JsonNumber | null;
  open: boolean;
  last_step: number | null;
  chain: { step: number; time: string; type: string; layer: string | null; text: string }[];
  sanitizations: number;
  advice: string[];
  origin: string | null;
  origin_layer: string | null;
  rank: number;
}

export interface At {
  step: number;
  time: string | null;
  values: Record<string, JsonNumber>;
  validation: Event | null;
  nonfinite_layers: string[];
  verdict: Verdict;
  events: Event[];
}

export interface Gap {
  from: number | null;
  to: number | null;
  count: number;
  reason: string;
}

export interface Select {
  kind: string;
  stat?: string;
}

export interface Feed {
  trace: number;
  select?: Select;
  role?: "line" | "low" | "high";
  event?: string;
  field?: string;
}

export interface Metric {
  id: string;
  title: string;
  select: Select;
  bad: "high" | "low" | "nonfinite";
  scale: "log" | "linear";
}

export interface Panel {
  id: string;
  title: string;
  help: string;
  scope: "run" | "layer" | "events";
  kind: "lines" | "band" | "bars" | "heatmap";
  figure: { data: Record<string, any>[]; layout: Record<string, any> };
  feeds: Feed[];
  metrics?: Metric[];
}

export type LiveMessage =
  | { type: "config"; panels: Panel[]; version: string; role: "view" | "control"; time: string; store?: StoreHealth }
  | { type: "runs"; runs: Run[] }
  | { type: "run"; run: Run }
  | { type: "series"; series: Series[] }
  | { type: "layout"; layout: number; series: number[] }
  | { type: "events"; events: Event[] }
  | { type: "alerts"; alerts: Alert[] }
  | { type: "command"; command: Command }
  | { type: "dropped"; from: number; to: number }
  | { type: "notice"; code: string; text: string }
  | { type: "heartbeat"; time: string; store?: StoreHealth };

/** One step of one layout, as decoded from a binary message. `present` is null where every column is. */
export interface Frame {
  layout: number;
  step: number;
  time: number;
  rank: number;
  values: Float32Array;
  present: Uint8Array | null;
}
