// The flock: agents as birds, shared memory as lights, a run as something to watch, live or again. See `createFlock`.
//
//     records --> reel (each once, in order) --> fold (state at the shown moment) --> picture, numbers, tables
//
// What is shown is a function of the records and the moment; how birds fly there is decoration on top of it.

import { Fold, RINGS } from "./fold.js";
import { Birds } from "./birds.js";
import { Effects } from "./effects.js";
import { furnish } from "./furniture.js";
import { takeHands } from "./hands.js";
import { Hud } from "./hud.js";
import { Dial } from "./layout.js";
import { lineageOf } from "./lineage.js";
import { MovingLayer, doing } from "./moving.js";
import { Aliases, clip, counted, lasted, sized } from "./naming.js";
import { THEMES } from "./palette.js";
import { Reel } from "./reel.js";
import { phaseOf } from "./roles.js";
import { StillLayer } from "./still.js";
import { mostReused, progressOf } from "./story.js";
import { Tables } from "./tables.js";
import { Streams, Timeline } from "./timeline.js";
import { View } from "./view.js";
import { make, say, show } from "./dom.js";

const BEHIND_MS = 250; // live is shown so late that what comes in bursts looks like flight
const JUMP_MS = 5000; // and is jumped to when it is further behind
const SHORT_S = 24, LONG_S = 75; // a replay takes so long at 1x; runs in between are shown in real time
const AFTER_S = 1.6; // a replay goes on so long after the last record
const HUD_S = 0.2, ECHO_S = 0.9;
const SLOW_MS = 26, QUICK_MS = 18.5, LEVEL_MAX = 2;
const WHAT_TO_RUN = "Nothing to show yet. Start a run:  memgang run FOLDER   or look at one again:  memgang replay RUN";

class Flock {
  constructor(root, options) {
    this.options = options;
    this.mode = options.mode === "live" ? "live" : "replay";
    this.theme = options.theme === "light" ? "light" : "dark";
    this.reduced = options.reduced ?? matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.playing = options.autoplay !== false;
    this.following = this.mode === "live";
    this.speed = options.speed || 1;
    this.told = {};
    this.connection = this.mode === "live" ? "live" : "";
    this.parts = furnish(root);
    this.root = root;
    this.parts.el.classList.add(this.theme);
    this.parts.el.classList.toggle("compact", Boolean(options.compact));
    this.parts.speed.value = String(this.speed);
    this.dial = new Dial();
    this.view = new View();
    this.effects = new Effects();
    this.aliases = new Aliases();
    this.birds = new Birds(this.dial, this.aliases);
    this.still = new StillLayer(this.parts.still, this.dial);
    this.moving = new MovingLayer(this.parts.moving, this.dial, this.still, this.birds, this.effects);
    this.timeline = new Timeline(this.parts.stream, this.aliases);
    this.hud = new Hud(this.parts, this.aliases, this.dial, (kind, id) => this.chosen(kind, id), options.href);
    this.tables = new Tables(this.hud, this.parts.table);
    this.perf = { on: false, js: [], dt: [], level: 0 };
    this.level = 0;
    this.ratio = 1;
    this.empty();
    this.letGo = takeHands(this.parts, this);
    this.watcher = new ResizeObserver(() => this.size());
    this.watcher.observe(this.parts.el);
    this.size();
  }

  empty() {
    this.reel = new Reel();
    this.streams = new Streams();
    this.dial.clear();
    this.aliases.names.clear();
    this.aliases.given.clear();
    this.t = this.clock = this.nowAt = 0;
    this.picked = this.pointed = this.lineage = null;
    this.matches = [];
    this.matchAt = 0;
    this.rewind();
  }

  // To the first record, with nothing on the stage.
  rewind() {
    this.fold = new Fold();
    this.place = 0; // records before it are in the fold
    this.time = 0; // seconds of the viewer's, for all that moves
    this.sinceHud = HUD_S;
    this.restS = 0;
    this.top = [];
    this.ringCounts = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
    this.birds.clear();
    this.effects.clear();
    this.moving.slots.clear();
    this.still.dirty = true;
    this.urgent = true;
  }

  // ── records ─────────────────────────────────────────────────────────────────────────────────

  header(header) {
    this.told = { ...header };
    this.urgent = true;
  }

  push(records) {
    if (this.mode !== "live") {
      this.load([...this.reel.records, ...records]);
      return;
    }
    const touched = new Map();
    this.reel.add(records, (place, record) => {
      this.streams.note(record, this.reel.head);
      if (record.obj) touched.set(record.obj, null);
      if (place < this.place) { // it comes late: its moment has been shown
        this.place++;
        this.take(record, false);
      }
    });
    const lights = [];
    for (const id of touched.keys()) {
      const light = this.reel.head.lights.get(id);
      if (light) lights.push(light);
    }
    if (this.dial.learn(lights, false)) this.still.dirty = true;
    this.nowAt = Math.max(this.nowAt, this.reel.end);
    this.totals = null;
    this.urgent = true;
    this.line();
  }

  load(records) {
    this.empty();
    this.reel.add(records, (_, record) => this.streams.note(record, this.reel.head));
    this.dial.learn(this.reel.head.lights.values(), this.mode !== "live");
    this.nowAt = this.reel.end;
    this.totals = null;
    this.line();
    this.size();
  }

  // ── the moment ──────────────────────────────────────────────────────────────────────────────

  // ms of the run in a ms of the viewer's.
  get pace() {
    if (this.mode === "live" && this.following) return 1;
    const seconds = this.reel.end / 1000;
    return (seconds > 0 ? seconds / Math.max(SHORT_S, Math.min(LONG_S, seconds)) : 1) * this.speed;
  }

  get axis() {
    return Math.max(this.reel.end, this.mode === "live" && !this.reel.head.ended ? this.t : 0, 1);
  }

  take(record, seen) {
    const { fold } = this, gone = record.op === "evict" || record.op === "expire";
    fold.apply(record);
    if (record.agent && !this.birds.byName.has(record.agent)) this.birds.meet(fold);
    if (!seen || gone) {
      this.still.dirty = true;
      return;
    }
    const spot = record.obj ? this.dial.spots.get(record.obj) : null;
    this.effects.take(record, this.birds.byName.get(record.agent), spot, this.time, this.birds.list.length);
    if (spot && record.op === "write") this.still.threadsOf(fold.lights.get(record.obj) ?? { src: [] }, spot, fold);
  }

  advance(to, seen) {
    const { records } = this.reel;
    while (this.place < records.length && records[this.place].t <= to) this.take(records[this.place++], seen);
    this.t = to;
  }

  seek(ms, dragging = false) {
    const t = Math.max(0, Math.min(this.reel.end, Number(ms) || 0));
    if (this.mode === "live") this.following = false;
    const ahead = t >= this.t && this.place > 0, before = [this.fold, this.place];
    this.rewind();
    if (ahead) [this.fold, this.place] = before; // the same fold as from the start, sooner
    this.clock = t;
    const { records } = this.reel, until = this.reel.until(t);
    while (this.place < until) this.fold.apply(records[this.place++]);
    this.t = t;
    this.count();
    this.birds.meet(this.fold, true);
    this.birds.settle(this.fold, t, this.pace, dragging || this.fold.agents.size > 120 ? 10 : 30, 0);
    this.echo();
    this.quiet = true; // a jump is not news
    this.skip = true;
    this.drawNow();
    this.quiet = false;
  }

  // What happened just before, so that a still picture tells the story too.
  echo() {
    const { records } = this.reel, from = this.t - ECHO_S * 1000 * this.pace;
    let first = this.place;
    while (first > 0 && this.place - first < 500 && records[first - 1].t > from) first--;
    for (let i = first; i < this.place; i++) {
      const record = records[i], spot = record.obj ? this.dial.spots.get(record.obj) : null;
      this.effects.take(record, this.birds.byName.get(record.agent), spot, -(this.t - record.t) / 1000 / this.pace, this.birds.list.length);
    }
  }

  seekAt(x, dragging) {
    this.seek(this.timeline.timeAt(x, this.axis, this.streams.rows.size), dragging);
  }

  seekShare(share) {
    this.seek(this.reel.end * share);
  }

  // Seconds of the viewer's, at 1x.
  seekBy(seconds) {
    const pace = this.mode === "live" && this.following ? 1 : this.pace / this.speed;
    this.seek(this.t + seconds * 1000 * pace);
  }

  follow() {
    this.following = true;
    this.playing = true;
    this.jump(Math.max(0, this.nowAt - BEHIND_MS));
  }

  // To a later moment, without what lies between.
  jump(to) {
    const settle = !this.birds.list.length || to - this.t > JUMP_MS;
    this.advance(to, false);
    this.clock = to;
    if (settle) this.birds.settle(this.fold, to, this.pace, 20, this.time);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.mode !== "live" && this.t >= this.reel.end) this.seek(0);
    this.playing = true;
    this.skip = true;
    this.urgent = true;
  }

  pause() {
    if (this.mode === "live" && this.following) this.following = false;
    this.playing = false;
    this.urgent = true;
  }

  setSpeed(speed) {
    this.speed = Math.max(0.05, Math.min(64, Number(speed) || 1));
    this.parts.speed.value = String(this.speed);
    this.urgent = true;
  }

  // ── a step ──────────────────────────────────────────────────────────────────────────────────

  frame(dt) {
    const began = performance.now();
    this.nowAt += this.connection === "live" && !this.reel.head.ended ? dt * 1000 : 0;
    if (this.mode === "live" && this.following) this.frameLive(dt);
    else if (this.playing) {
      const last = this.reel.end + AFTER_S * 1000 * this.pace;
      this.clock += Math.min(dt, 0.25) * 1000 * this.pace;
      this.advance(Math.min(this.clock, this.reel.end), true);
      if (this.clock >= last) this.playing = false;
    }
    const step = Math.min(dt, 0.05);
    if (this.playing) this.time += step;
    this.restS = this.fold.ended ? this.restS + dt : 0;
    this.birds.observe(this.fold, this.t, this.pace);
    if (this.playing) this.birds.step(step, this.time, this.reduced);
    if (this.view.step(dt)) this.still.dirty = true;
    this.sinceHud += dt;
    this.drawNow();
    if (this.perf.on) this.perf.js.push(performance.now() - began);
  }

  frameLive(dt) {
    const target = this.connection === "live" && !this.reel.head.ended ? this.nowAt - BEHIND_MS : this.reel.end, lag = target - this.t;
    if (lag > JUMP_MS) this.jump(target);
    else if (lag > 0) this.advance(Math.min(target, this.t + dt * 1000 * (lag > 2000 ? 1 + lag / 1000 : 1.02)), true);
    this.clock = this.t;
  }

  drawNow() {
    const palette = THEMES[this.theme], whole = this.mode !== "live" || !this.following;
    if (this.sinceHud >= HUD_S || this.urgent) this.count();
    this.effects.sweep(this.time, (spot) => {
      const light = this.fold.lights.get(spot.id);
      if (light) this.still.stamp(light, spot);
    });
    if (this.still.dirty) this.still.draw(this.fold, palette, this.view, this.ratio);
    const name = this.fold.phases.at(-1)?.[0] ?? "", phase = phaseOf(name), { head } = this.reel;
    const progress = phase.rings[0] === "src"
      ? [whole && this.ringTotals.src ? this.ringCounts.src / this.ringTotals.src : null, this.ringCounts.src, 0]
      : progressOf(this.fold, head, whole, phase.roles);
    this.moving.draw({
      fold: this.fold, palette, view: this.view, ratio: this.ratio, time: this.time, t: this.t, reduced: this.reduced, level: this.level,
      phase, phaseName: name || "waiting", progress, whole, top: this.top, picked: this.picked, lineage: this.lineage, marks: this.marks(),
      covered: this.covered, ringCounts: this.ringCounts, ringTotals: this.ringTotals, done: Boolean(this.fold.ended), answered: this.ringCounts.ans > 0,
    });
    if (this.sinceHud >= HUD_S || this.urgent) {
      this.sinceHud = 0;
      this.writeHud(whole);
    }
    this.timeline.draw(this.streams, whole ? head.phases : this.fold.phases, palette, this.theme, this.t, this.axisShown ?? this.axis);
    this.urgent = false;
  }

  // What is counted over all objects, a few times a second.
  count() {
    const counts = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
    for (const light of this.fold.lights.values()) if (light.written && light.ring in counts) counts[light.ring]++;
    this.ringCounts = counts;
    if (!this.totals) {
      this.totals = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
      for (const light of this.reel.head.lights.values()) if (light.written && light.ring in this.totals) this.totals[light.ring]++;
    }
    this.ringTotals = this.totals;
    this.top = mostReused(this.fold, 40);
    const large = new Set(this.top.map((light) => light.id));
    this.still.large = large;
    this.still.hottest = this.top.reduce((most, light) => Math.max(most, light.reuses), 6);
  }

  writeHud(whole) {
    const pace = this.pace / this.speed, slowed = whole && this.reel.records.length && (pace < 0.9 || pace > 1.1)
      ? pace < 1 ? `1\u00d7 is slowed ${counted(1 / pace)} times` : `1\u00d7 is ${pace.toFixed(pace < 10 ? 1 : 0)} times as fast` : "";
    this.axisShown = this.axis;
    this.hud.update({
      header: this.told, fold: this.fold, head: this.reel.head, records: this.reel.records, place: this.place, t: this.t, end: this.axis, mode: this.mode,
      following: this.following, playing: this.playing && !this.resting(), connection: this.connection, whole, slowed, birds: this.birds, quiet: this.quiet,
    });
    const high = this.timeline.heightFor(this.streams.rows.size, this.parts.el.classList.contains("narrow"));
    if (high !== this.streamHigh) {
      this.streamHigh = high;
      this.parts.slider.style.setProperty("--mg-stream", high + "px"); // the stage gets what is left, and the observer tells
    }
    this.timeline.resize(this.parts.slider.clientWidth, this.parts.slider.clientHeight, this.ratio);
    if (!this.parts.table.hidden) this.writeTables();
  }

  writeTables() {
    const found = this.matches.length || this.sought ? new Set(this.matches.map((match) => match.kind + match.id)) : null;
    this.tables.update(this.fold, this.birds, this.dial, this.aliases, this.t, (kind, id) => !found || found.has(kind + id));
  }

  // ── looking ─────────────────────────────────────────────────────────────────────────────────

  marks() {
    const marks = this.matches.slice(0, 60).filter((match) => this.present(match)).map((match) => ({ ...match, how: "found" }));
    if (this.picked) marks.unshift({ ...this.picked, how: "picked" });
    if (this.pointed && !(this.picked && this.pointed.id === this.picked.id)) marks.unshift({ ...this.pointed, how: "pointed" });
    return marks;
  }

  present({ kind, id }) {
    return kind === "agent" ? this.birds.byName.has(id) : this.fold.lights.has(id) && this.dial.spots.has(id);
  }

  // What is at a place of the stage.
  point(x, y) {
    let best = null, nearest = 22 * 22;
    for (const bird of this.birds.list) {
      if (bird.state === "gone") continue;
      const [bx, by] = this.view.toScreen(bird.x, bird.y), far = (bx - x) ** 2 + (by - y) ** 2;
      if (far < nearest) [nearest, best] = [far, { kind: "agent", id: bird.name }];
    }
    nearest = Math.min(nearest, 11 * 11);
    for (const id of this.fold.lights.keys()) {
      const spot = this.dial.spots.get(id);
      if (!spot) continue;
      const [sx, sy] = this.view.toScreen(spot.x, spot.y), reach = spot.ring === "ans" ? this.dial.centre * this.view.k : 0;
      const far = Math.max(0, Math.hypot(sx - x, sy - y) - reach) ** 2;
      if (far < nearest) [nearest, best] = [far, { kind: "object", id }];
    }
    return best;
  }

  hover(x, y) {
    const found = this.point(x, y), { tip, stage } = this.parts;
    stage.classList.toggle("over", Boolean(found));
    show(tip, Boolean(found));
    if (found) {
      tip.replaceChildren(...this.facts(found).map((text, i) => make(i ? "span" : "b", {}, text)));
      tip.style.left = Math.max(6, Math.min(x + 16, this.dial.width - tip.offsetWidth - 6)) + "px";
      tip.style.top = Math.max(6, Math.min(y + 16, this.dial.height - tip.offsetHeight - 6)) + "px";
    }
    if (found?.id !== this.pointed?.id) this.urgent = true;
    this.pointed = found;
  }

  // Lines about an agent or an object.
  facts({ kind, id }) {
    if (kind === "agent") {
      const bird = this.birds.byName.get(id), { agent } = bird;
      return [clip(id, 80), `${agent.role || "no role"} \u00b7 ${bird.state === "idle" ? "rests" : doing(bird, this.dial)}`,
        `read ${agent.reads} \u00b7 wrote ${agent.writes} \u00b7 reused ${agent.reuses} \u00b7 asked ${agent.asked}`,
        `saved ${counted(agent.saved[2] + agent.saved[3])} tokens${agent.wait_ms ? ` \u00b7 waited ${lasted(agent.wait_ms)}` : ""}${agent.errors ? ` \u00b7 ${agent.errors} errors` : ""}`];
    }
    const light = this.fold.lights.get(id);
    return [`${this.hud.nameOf(id)}  ${id}`, `${light.by ? "by " + this.aliases.of(light.by) : light.written ? "" : "not written in this run so far"}`,
      `${light.tok ? counted(light.tok) + " tok \u00b7 " : ""}${light.bytes ? sized(light.bytes) + " \u00b7 " : ""}read ${light.reads} \u00b7 reused ${light.reuses}`,
      light.src.length ? `from ${light.src.slice(0, 3).map((parent) => this.hud.nameOf(parent)).join(", ")}${light.src.length > 3 ? ` and ${light.src.length - 3} more` : ""}` : "",
      light.gone ? `gone: ${light.gone}` : ""].filter(Boolean);
  }

  pick(x, y) {
    const found = this.point(x, y);
    if (found) this.chosen(found.kind, found.id, false);
    else this.clear();
  }

  // By the viewer: marked, and told to whoever embeds the flock.
  chosen(kind, id, fly = true) {
    if (!id) return;
    this.select(kind, id, fly);
    this.options.onSelect?.({ kind, id });
  }

  select(kind, id, fly = true) {
    if (!id) {
      this.clear();
      return;
    }
    const known = kind === "object" && !this.reel.head.lights.has(id) ? id.slice(0, 10) : id;
    this.picked = { kind, id: known };
    this.lineage = kind === "object" ? lineageOf(this.fold, known) : null;
    if (fly) this.flyTo(this.picked);
    this.urgent = true;
  }

  flyTo({ kind, id }) {
    const at = kind === "agent" ? this.birds.byName.get(id) : this.dial.spots.get(id);
    if (!at) return;
    this.view.fly(at.x, at.y, Math.max(this.view.k, this.dial.spots.size > 400 ? 3.2 : 2), this.reduced);
    this.moved();
  }

  clear() {
    this.picked = this.lineage = this.pointed = null;
    if (this.sought) this.search("");
    this.parts.search.value = "";
    this.home();
  }

  home() {
    this.view.home(this.reduced);
    this.moved();
  }

  moved() {
    this.still.dirty = true;
    this.urgent = true;
  }

  // Finds agents and objects by name, id, kind or role; flies to the first. Returns how many there are.
  search(text) {
    const sought = this.sought = text.trim().toLowerCase().slice(0, 200);
    this.matches = [];
    this.matchAt = 0;
    if (sought) {
      const exact = [], others = [];
      const test = (kind, id, ...names) => {
        const lower = names.map((name) => name.toLowerCase());
        if (lower.includes(sought)) exact.push({ kind, id });
        else if (lower.some((name) => name.includes(sought))) others.push({ kind, id });
      };
      for (const bird of this.birds.list) test("agent", bird.name, bird.name, bird.alias, bird.agent.role);
      for (const light of this.fold.lights.values()) test("object", light.id, light.id, this.hud.nameOf(light.id), light.kind);
      this.matches = [...exact, ...others];
      if (this.matches.length && this.matches.length <= 2000) this.flyTo(this.matches[0]);
    }
    say(this.parts.found, sought ? (this.matches.length ? `${Math.min(1, this.matches.length)}/${counted(this.matches.length)}` : "none") : "");
    this.urgent = true;
    return this.matches.length;
  }

  // The next that was found.
  next() {
    if (!this.matches.length) return;
    const match = this.matches[this.matchAt % this.matches.length];
    this.select(match.kind, match.id);
    say(this.parts.found, `${this.matchAt % this.matches.length + 1}/${counted(this.matches.length)}`);
    this.matchAt++;
  }

  turnTable() {
    const visible = this.parts.table.hidden;
    show(this.parts.table, visible);
    this.parts.tables.setAttribute("aria-pressed", String(visible));
    say(this.parts.tables, visible ? "Picture" : "Table");
    if (visible) {
      this.writeTables();
      this.parts.table.focus();
    }
  }

  // ── how it looks ────────────────────────────────────────────────────────────────────────────

  setTheme(theme) {
    this.theme = theme === "light" ? "light" : "dark";
    this.parts.el.classList.toggle("light", this.theme === "light");
    this.parts.el.classList.toggle("dark", this.theme === "dark");
    this.still.glows.clear();
    this.moving.glows.clear();
    this.moved();
    this.drawNow();
  }

  setReduced(reduced) {
    this.reduced = Boolean(reduced);
    for (const bird of this.birds.list) bird.trail.length = 0;
    this.moved();
  }

  size() {
    const { el, stage, legend } = this.parts, box = el.getBoundingClientRect();
    el.classList.toggle("narrow", box.width < 820 || Boolean(this.options.compact));
    el.classList.toggle("slim", box.width < 560);
    el.classList.toggle("low", box.height < 700);
    const width = stage.clientWidth, height = stage.clientHeight;
    if (!width || !height) return;
    const ratio = this.level > 1 ? 1 : Math.min(window.devicePixelRatio || 1, 2);
    const side = width > 680 && height > 430;
    show(legend, side && !this.options.compact);
    if (width !== this.dial.width || height !== this.dial.height || ratio !== this.ratio || !this.sized) {
      this.sized = true;
      const { cx, cy, ry } = this.dial;
      this.ratio = ratio;
      for (const canvas of [this.parts.still, this.parts.moving]) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      this.dial.resize(width, height, side && !this.options.compact ? Math.max(0, 150 - (width - height * 1.55) / 2) : 0);
      this.view.resize(width, height);
      const scale = ry > 1 ? this.dial.ry / ry : 1;
      for (const bird of this.birds.list) {
        bird.x = this.dial.cx + (bird.x - cx) * scale;
        bird.y = this.dial.cy + (bird.y - cy) * scale;
        bird.trail.length = 0;
      }
    }
    this.covered = [legend, stage.querySelector(".mg-zoom"), this.parts.line].filter((node) => node.offsetWidth)
      .map((node) => [node.offsetLeft - 4, node.offsetTop - 4, node.offsetWidth + 8, node.offsetHeight + 8]);
    this.moved();
    // A canvas that was given a size is empty: it is drawn at once, not at the next frame.
    this.drawNow();
  }

  // ── connection ──────────────────────────────────────────────────────────────────────────────

  status({ connection, text }) {
    this.connection = connection;
    this.statusText = text ?? "";
    this.line();
    this.urgent = true;
  }

  line() {
    const { parts } = this, nothing = !this.reel.records.length;
    const text = this.statusText || (this.connection === "lost" ? "The connection is lost; trying again." : this.connection === "refused" ? "The connection was refused; open the page anew from `memgang dashboard`."
      : nothing && (this.connection === "empty" || this.mode === "live" || this.loadedNothing) ? WHAT_TO_RUN : "");
    const visible = Boolean(text) && (this.connection === "lost" || this.connection === "refused" || nothing || Boolean(this.statusText));
    parts.line.classList.toggle("middle", nothing);
    parts.line.classList.toggle("bad", this.connection === "lost" || this.connection === "refused");
    show(parts.line, visible);
    say(parts.line, text);
    if (visible && (this.connection === "lost" || this.connection === "refused")) say(parts.heard, text);
    if (this.sized) this.covered = this.covered.filter((box) => box !== this.lineBox);
    if (visible && this.sized) {
      this.lineBox = [parts.line.offsetLeft - 4, parts.line.offsetTop - 4, parts.line.offsetWidth + 8, parts.line.offsetHeight + 8];
      this.covered.push(this.lineBox);
    }
  }

  // ── going on ────────────────────────────────────────────────────────────────────────────────

  // Nothing moves: a run that is over is not flown round for ever.
  resting() {
    if (this.mode === "live" && this.following) return this.restS > 8;
    return !this.playing;
  }

  start() {
    if (this.ticking) return;
    this.skip = true;
    const tick = (now) => {
      this.ticking = requestAnimationFrame(tick);
      const dt = this.last ? (now - this.last) / 1000 : 1 / 60;
      this.last = now;
      this.govern(dt);
      if (this.resting() && !this.urgent && !this.view.goal && !this.still.dirty) return;
      this.frame(dt);
    };
    this.ticking = requestAnimationFrame(tick);
  }

  // Fewer arcs, then no trails and one pixel a pixel, where frames come late; back again, slowly, where they do not.
  govern(dt) {
    if (this.perf.on) this.perf.dt.push(dt * 1000);
    if (this.skip || dt > 0.25 || this.resting()) { // the frame after a jump says nothing
      this.skip = false;
      this.spent = this.frames = 0;
      return;
    }
    this.spent = (this.spent || 0) + dt * 1000;
    this.frames = (this.frames || 0) + 1;
    if (this.frames < 45) return;
    const mean = this.spent / this.frames;
    this.spent = this.frames = 0;
    this.calm = mean < QUICK_MS ? (this.calm || 0) + 1 : 0;
    const before = this.level;
    if (mean > SLOW_MS) this.level = Math.min(LEVEL_MAX, this.level + 1);
    else if (this.calm >= 12 && this.level > 0) {
      this.level--;
      this.calm = -12; // twice as long before the next step, so that it does not go to and fro
    }
    this.perf.level = this.level;
    if ((before > 1) !== (this.level > 1)) this.size();
  }

  stop() {
    cancelAnimationFrame(this.ticking);
    this.ticking = 0;
    this.last = 0;
  }

  destroy() {
    this.stop();
    this.letGo();
    this.watcher.disconnect();
    this.root.replaceChildren();
  }

  // The stage as a picture, with what it is a picture of.
  png() {
    const { still, moving } = this.parts, canvas = make("canvas"), foot = Math.round(26 * this.ratio), palette = THEMES[this.theme];
    canvas.width = still.width;
    canvas.height = still.height + foot;
    const pen = canvas.getContext("2d");
    pen.fillStyle = palette.ground;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(still, 0, 0);
    pen.drawImage(moving, 0, 0);
    pen.font = `500 ${11 * this.ratio}px Inter,system-ui,sans-serif`;
    pen.fillStyle = palette.mut;
    pen.textBaseline = "middle";
    const { told } = this, day = told.started ? new Date(told.started).toISOString().slice(0, 10) : "";
    pen.fillText([clip(told.title || this.fold.title || "", 60), clip(told.run || "", 40), day, told.version && `MemGang ${told.version}`, told.synthetic && "synthetic"]
      .filter(Boolean).join("  \u00b7  "), 12 * this.ratio, still.height + foot / 2);
    return canvas.toDataURL("image/png");
  }
}

// Builds a flock in `root`. Options: mode "live" or "replay", theme "dark" or "light", reduced (motion; asks the system),
// autoplay, speed (1 = a run of 24 to 75 s in real time, others fitted to that), compact (without the column of numbers),
// onSelect({kind, id}) after a click, href({kind, id}) -> address of the page of an agent or object, or null.
export function createFlock(root, options = {}) {
  const flock = new Flock(root, options);
  return {
    header: (header) => flock.header(header), push: (records) => flock.push(records), load: (records) => flock.load(records),
    seek: (ms) => flock.seek(ms), play: () => flock.play(), pause: () => flock.pause(), setSpeed: (speed) => flock.setSpeed(speed),
    setTheme: (theme) => flock.setTheme(theme), setReduced: (reduced) => flock.setReduced(reduced), status: (status) => flock.status(status),
    select: (kind, id) => flock.select(kind, id), search: (text) => flock.search(text), state: () => flock.fold,
    labels: () => flock.moving.labels.boxes.map((box) => box.slice()),
    birds: () => flock.birds.list.map((bird) => [bird.name, bird.x, bird.y, bird.state]),
    frame: (dt) => flock.frame(dt), png: () => flock.png(), start: () => flock.start(), stop: () => flock.stop(), destroy: () => flock.destroy(),
    perf: flock.perf,
  };
}
