// The fold: what a run had come to after some of its records. `../fold.py` is the same in Python, line for line; what
// records are stands in `../records.py`. Pure: no clock, no page, no drawing.

export const RINGS = ["src", "map", "fact", "part", "red", "ans"];
export const CAUSES = ["hit", "joined", "read", "reference", "prefix"];
export const FIGURES = ["calls", "llm_calls", "tokens_in", "tokens_out", "tokens_cached", "micro_usd", "ms", "bytes", "estimated"];
const COUNTS = ["events", "reads", "hits", "joined", "writes", "known_writes", "bytes_read", "bytes_written", "bytes_known",
  "waits", "wait_us", "takeovers", "died", "failed", "refused", "expired", "damaged"];
const ENDS = { committed: "physical", ended: "physical", failed: "lost", released: "lost", fenced: "lost" };
const COUNTED = new Set(["died", "failed", "refused", "expired", "damaged"]);
const NO_FIGURES = Object.freeze([]);

export const newSum = () => new Array(FIGURES.length).fill(0);

export function addUsage(sum, usage) {
  for (let i = 0; i < usage.length; i++) sum[i] += usage[i];
}

export function toldSum(sum) {
  const named = {};
  FIGURES.forEach((name, i) => { named[name] = sum[i]; });
  named.estimated = sum[8] > 0;
  return named;
}

export class Fold {
  constructor() {
    this.t = 0;
    this.title = "";
    this.phases = []; // [name, from, to or null]
    this.ended = "";
    this.running = 0; // runs that have begun and not ended: of the log of a whole space there may be several
    this.agents = new Map();
    this.lights = new Map();
    this.flights = new Map();
    this.roles = new Map();
    this.physical = newSum();
    this.lost = newSum();
    this.avoided = Object.fromEntries(CAUSES.map((cause) => [cause, newSum()]));
    this.counts = Object.fromEntries(COUNTS.map((name) => [name, 0]));
    this.overhead_us = 0;
  }

  // Take one record. Each is to be given once.
  apply(rec) {
    const t = rec.t;
    if (t > this.t) this.t = t;
    const raw = rec.raw || rec.op;
    this.count(rec, raw);
    this.book(rec, raw);
    switch (rec.op) {
      case "run_start":
        this.title = rec.text ?? "";
        this.ended = "";
        this.running++;
        break;
      case "run_end": this.end(rec); break;
      case "phase": this.phase(rec.text ?? "", t); break;
      case "planned": this.role(rec).planned += whole(rec.text ?? ""); break;
      default: this.agentsAndLights(rec.op, raw, rec, t);
    }
  }

  // ── what happens ────────────────────────────────────────────────────────────────────────────

  agentsAndLights(op, raw, rec, t) {
    const light = rec.obj && op !== "name" && op !== "done" && op !== "think_end" ? this.light(rec, t) : null;
    if (op === "evict" || op === "expire") { // by the janitor, or whoever made room: nothing an agent of the run does
      if (light) light.gone = raw;
      return;
    }
    if (!rec.agent || op === "name" || op === "agg" || op === "other") return;
    const agent = this.agent(rec, t), call = rec.call ?? "";
    switch (op) {
      case "join": this.now(agent, "idle", t); break;
      case "leave": this.now(agent, "gone", t); break;
      case "read":
        agent.reads++;
        if (light) light.reads++;
        this.now(agent, "read", t, rec);
        break;
      case "think_start":
        this.begin(rec, call, t, raw);
        if (!agent.thinking.size) agent.since = t;
        agent.thinking.set(call, t);
        this.now(agent, "think", t, rec);
        break;
      case "lease":
        this.begin(rec, call, t, raw);
        this.now(agent, "work", t, rec);
        break;
      case "think_end":
        this.flights.delete(call);
        agent.thinking.delete(call);
        agent.asked++;
        if (raw === "failed") agent.errors++;
        this.now(agent, raw === "failed" ? "error" : "idle", t);
        break;
      case "done":
        this.flights.delete(call);
        if (rec.ck === "function" && raw === "committed") this.role(rec).done++;
        this.now(agent, "idle", t);
        break;
      case "wait": {
        agent.waits++;
        const flight = this.flights.get(call);
        if (flight && !flight.waiting.includes(agent.name)) flight.waiting.push(agent.name);
        this.now(agent, "wait", t, rec);
        break;
      }
      case "hit": this.reuse(agent, light, raw, rec, t); break;
      case "write":
        agent.writes++;
        if (light) this.written(light, agent, rec, t);
        this.now(agent, "write", t, rec);
        break;
      case "error":
        if ((raw === "died" || raw === "exhausted") && this.flights.has(call)) {
          this.leaderGone(call, t); // told by somebody else: whoever was at it is gone
          this.flights.delete(call);
          break;
        }
        this.flights.delete(call);
        agent.errors++;
        if (raw === "failed" && rec.ck === "function") this.role(rec).failed++;
        this.now(agent, "error", t, rec);
        break;
    }
  }

  reuse(agent, light, raw, rec, t) {
    const flight = this.flights.get(rec.call ?? "");
    if (flight) {
      const place = flight.waiting.indexOf(agent.name);
      if (place >= 0) flight.waiting.splice(place, 1);
    }
    if (raw !== "hit" && raw !== "joined") return; // a reference that was never opened: no call
    agent.reuses++;
    if (raw === "joined") agent.wait_ms += rec.ms ?? 0;
    addUsage(agent.saved, rec.saved ?? NO_FIGURES);
    if (light) {
      light.reuses++;
      addUsage(light.saved, rec.saved ?? NO_FIGURES);
    }
    if (rec.ck === "function") {
      const role = this.role(rec);
      role.done++;
      role.reused++;
    }
    this.now(agent, "reuse", t, rec);
  }

  written(light, agent, rec, t) {
    if (!light.written || t < light.born) { // who writes it again may have made it from something else
      light.by = agent.name;
      light.born = t;
      light.src = rec.src ?? light.src;
    }
    light.written = true;
    light.gone = "";
    light.ring = rec.ring ?? light.ring;
    light.kind = rec.kind ?? light.kind;
    light.bytes = rec.bytes ?? light.bytes;
    light.tok = rec.tok ?? light.tok;
    if (rec.pos !== undefined) light.pos = rec.pos;
    else if (light.pos === null) { // it is where that is what it was made from
      let sum = 0, n = 0;
      for (const parent of light.src) {
        const from = this.lights.get(parent);
        if (from && from.pos !== null) { sum += from.pos; n++; }
      }
      light.pos = n ? Math.round(sum / n * 1e6) / 1e6 : null;
    }
  }

  phase(name, t) {
    const last = this.phases.at(-1);
    if (last && last[2] === null) last[2] = t;
    this.phases.push([name, t, null]);
  }

  end(rec) {
    this.running = Math.max(0, this.running - 1);
    if (this.running) return;
    this.ended = rec.text || "done";
    const last = this.phases.at(-1);
    if (last && last[2] === null) last[2] = rec.t;
    this.flights.clear();
    for (const agent of this.agents.values()) {
      agent.thinking.clear();
      if (agent.state !== "gone") {
        agent.state = "idle";
        agent.obj = agent.call = agent.by = "";
      }
    }
  }

  // ── what there is ───────────────────────────────────────────────────────────────────────────

  agent(rec, t) {
    let agent = this.agents.get(rec.agent);
    if (!agent) {
      agent = { name: rec.agent, first: t, role: "", state: "idle", obj: "", call: "", by: "", since: 0, at: -1, thinking: new Map(),
        reads: 0, writes: 0, reuses: 0, asked: 0, waits: 0, wait_ms: 0, errors: 0, spent: newSum(), saved: newSum() };
      this.agents.set(rec.agent, agent);
    }
    agent.role = rec.role ?? agent.role;
    return agent;
  }

  light(rec, t) {
    let light = this.lights.get(rec.obj);
    if (!light) {
      light = { id: rec.obj, ring: rec.ring ?? "map", kind: "", pos: null, by: "", born: t, written: false, bytes: 0, tok: 0,
        reads: 0, reuses: 0, saved: newSum(), src: NO_FIGURES, gone: "" };
      this.lights.set(rec.obj, light);
    }
    return light;
  }

  role(rec) {
    const name = rec.role ?? "";
    let role = this.roles.get(name);
    if (!role) this.roles.set(name, role = { planned: 0, done: 0, reused: 0, failed: 0 });
    return role;
  }

  begin(rec, call, t, raw) {
    const waiting = this.flights.get(call)?.waiting ?? [];
    if (raw === "taken") this.leaderGone(call, t);
    this.flights.set(call, { call, fn: rec.fn ?? "", kind: rec.ck ?? "", agent: rec.agent, since: t, waiting });
  }

  // Whoever led this call has died, or is overtaken: it is not at it any more.
  leaderGone(call, t) {
    const flight = this.flights.get(call), leader = flight && this.agents.get(flight.agent);
    if (!leader) return;
    leader.thinking.delete(call);
    leader.errors++;
    if (leader.call === call) this.now(leader, "error", t);
  }

  now(agent, state, t, rec) {
    if (t < agent.at || this.ended) return; // a line that comes late
    agent.at = t;
    if (state === "idle" && agent.thinking.size) state = "think";
    if (state !== agent.state) {
      agent.state = state;
      agent.since = t;
    }
    agent.by = rec ? rec.by ?? "" : "";
    if (rec) {
      agent.obj = rec.obj ?? agent.obj;
      agent.call = rec.call ?? agent.call;
    }
  }

  // ── what it cost ────────────────────────────────────────────────────────────────────────────

  book(rec, raw) {
    if (rec.own && Object.hasOwn(ENDS, raw)) {
      addUsage(ENDS[raw] === "physical" ? this.physical : this.lost, rec.own);
      if (rec.agent) addUsage(this.agent(rec, rec.t).spent, rec.own);
    }
    if (rec.saved) {
      const why = rec.why ?? "";
      addUsage(this.avoided[CAUSES.includes(why) ? why : raw === "joined" ? "joined" : "hit"], rec.saved);
    }
  }

  count(rec, raw) {
    const counts = this.counts, size = rec.bytes ?? 0;
    counts.events++;
    switch (raw) {
      case "read": counts.reads++; counts.bytes_read += size; break;
      case "hit": counts.hits++; break;
      case "joined": counts.joined++; counts.wait_us += Math.round((rec.ms ?? 0) * 1000); break;
      case "put":
        counts.writes++;
        counts.known_writes += rec.known ?? 0;
        counts[rec.known ? "bytes_known" : "bytes_written"] += size;
        break;
      case "waits": counts.waits++; break;
      case "taken": counts.takeovers++; break;
      case "overhead": this.overhead_us += rec.us ?? 0; break;
      default: if (COUNTED.has(raw)) counts[raw]++;
    }
  }

  // ── telling ─────────────────────────────────────────────────────────────────────────────────

  avoidedTotal() {
    const all = newSum();
    for (const cause of CAUSES) addUsage(all, this.avoided[cause]);
    return all;
  }

  // What was spent, avoided and lost, in the form of `memgang stats --run RUN --json`.
  totals() {
    const avoided = this.avoidedTotal(), virtual = newSum();
    addUsage(virtual, this.physical);
    addUsage(virtual, avoided);
    return {
      virtual: toldSum(virtual), physical: toldSum(this.physical), avoided: toldSum(avoided), lost: toldSum(this.lost),
      avoided_by_cause: Object.fromEntries(CAUSES.map((cause) => [cause, toldSum(this.avoided[cause])])),
      counts: { ...this.counts }, overhead_us: this.overhead_us,
    };
  }

  // Everything, as plain values: what the two languages are compared by.
  told() {
    const rings = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
    for (const light of this.lights.values()) if (light.written && light.ring in rings) rings[light.ring]++;
    return {
      t: this.t, title: this.title, phases: this.phases, ended: this.ended, totals: this.totals(),
      agents: named(this.agents, (a) => ({
        role: a.role, state: a.state, obj: a.obj, call: a.call, by: a.by, since: a.since, first: a.first,
        thinking: Object.fromEntries(a.thinking), reads: a.reads, writes: a.writes, reuses: a.reuses, asked: a.asked, waits: a.waits,
        wait_ms: Math.round(a.wait_ms * 1000) / 1000, errors: a.errors, spent: toldSum(a.spent), saved: toldSum(a.saved) })),
      lights: named(this.lights, (o) => ({
        ring: o.ring, kind: o.kind, pos: o.pos, by: o.by, born: o.born, written: o.written, bytes: o.bytes, tok: o.tok,
        reads: o.reads, reuses: o.reuses, saved: toldSum(o.saved), src: o.src, gone: o.gone })),
      flights: named(this.flights, (f) => ({ fn: f.fn, kind: f.kind, agent: f.agent, since: f.since, waiting: f.waiting })),
      roles: named(this.roles, (r) => ({ ...r })),
      rings,
    };
  }
}

function named(map, tell) {
  const out = {};
  for (const [name, value] of map) out[name] = tell(value);
  return out;
}

function whole(text) {
  return /^-?[0-9]{1,9}$/.test(text) ? parseInt(text, 10) : 0;
}
