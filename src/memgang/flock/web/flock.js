// The flock: agents as birds, shared memory as lights, a run as something to watch, live or again. See `createFlock`.
//
//     records --> reel (each once, in order) --> fold (state at the shown moment) --> picture, numbers, tables
//
// What is shown is a function of the records and the moment; how birds fly there is decoration on top of it.

import { make, say, show } from "./dom.js";
import { furnish } from "./furniture.js";
import { Governor } from "./governor.js";
import { takeHands } from "./hands.js";
import { Hud } from "./hud.js";
import { Looking } from "./looking.js";
import { MovingLayer } from "./moving.js";
import { clip, counted } from "./naming.js";
import { THEMES } from "./palette.js";
import { HUD_S, Player } from "./player.js";
import { phaseOf } from "./roles.js";
import { StillLayer } from "./still.js";
import { progressOf } from "./story.js";
import { Tables } from "./tables.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import { Words } from "./words.js";

const WHAT_TO_RUN = "Nothing to show yet. Start a run:  memgang run FOLDER   or look at one again:  memgang replay RUN";
const TROUBLES = { lost: "The connection is lost; trying again.", refused: "The connection was refused; open the page anew from `memgang dashboard`." };

class Flock extends Player {
  constructor(root, options) {
    super(options.mode === "live" ? "live" : "replay", options);
    this.options = options;
    this.theme = options.theme === "light" ? "light" : "dark";
    this.reduced = options.reduced ?? matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.told = {};
    this.parts = furnish(root);
    this.root = root;
    this.parts.el.classList.add(this.theme);
    this.parts.el.classList.toggle("compact", Boolean(options.compact));
    this.parts.speed.value = String(this.speed);
    this.view = new View();
    this.still = new StillLayer(this.parts.still, this.dial);
    this.moving = new MovingLayer(this.parts.moving, this.dial, this.still, this.birds, this.effects);
    this.words = new Words(this.moving.pen, this.dial, this.birds, this.effects);
    this.timeline = new Timeline(this.parts.stream, this.aliases);
    this.looking = new Looking(this);
    this.hud = new Hud(this.parts, this.aliases, this.dial, (kind, id) => this.looking.chosen(kind, id), options.href);
    this.tables = new Tables(this.hud, this.parts.table);
    this.governor = new Governor();
    this.perf = { on: false, js: [], dt: [], level: 0 };
    this.ratio = 1;
    this.covered = [];
    this.empty();
    this.letGo = takeHands(this.parts, this);
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.parts.el);
    this.watcher.observe(this.parts.stage);
    this.fit();
  }

  empty() {
    super.empty();
    this.looking.reset();
  }

  header(header, now = 0) {
    this.told = { ...header };
    this.tell(now);
    this.urgent = true;
  }

  changed() {
    this.line();
  }

  setSpeed(speed) {
    super.setSpeed(speed);
    this.parts.speed.value = String(this.speed);
  }

  seekAt(x, dragging) {
    this.seek(this.timeline.timeAt(x, this.axis, this.streams.rows.size), dragging);
  }

  // ── drawing ─────────────────────────────────────────────────────────────────────────────────

  // One step of `dt` seconds. The same steps from the same moment draw the same pictures.
  frame(dt) {
    const began = performance.now();
    this.go(dt);
    if (this.view.step(dt)) this.moved();
    this.sinceHud += dt;
    this.drawNow();
    if (this.perf.on) this.perf.js.push(performance.now() - began);
  }

  drawNow() {
    const palette = THEMES[this.theme], whole = this.mode !== "live" || !this.following, told = this.sinceHud >= HUD_S || this.urgent;
    const name = this.fold.phases.at(-1)?.[0] ?? "", phase = phaseOf(name), { head } = this.reel;
    this.still.light(this.fold.ended ? null : phase);
    if (told) { // not each frame: a layer that is touched is composed anew
      this.count();
      this.still.stamp(this.effects.sweep(this.time).map((id) => this.fold.lights.get(id)).filter(Boolean));
    }
    if (this.still.dirty) this.still.draw(this.fold, palette, this.view, this.ratio);
    const ring = phase.rings.at(-1), stood = ring && [this.ringCounts[ring], this.ringTotals[ring]];
    const progress = progressOf(this.fold, head, whole, phase.roles, stood);
    const scene = {
      fold: this.fold, palette, view: this.view, ratio: this.ratio, time: this.time, t: this.t, reduced: this.reduced, level: this.governor.level,
      phase, phaseName: name || "waiting", progress, whole, top: this.top, picked: this.looking.picked, lineage: this.looking.lineage, marks: this.looking.marks(),
      covered: this.covered, ringCounts: this.ringCounts, ringTotals: this.ringTotals, done: Boolean(this.fold.ended), answered: this.ringCounts.ans > 0,
    };
    this.moving.draw(scene);
    this.words.write(scene);
    if (told) {
      this.sinceHud = 0;
      this.writeHud(whole);
    }
    if (told || this.birds.list.length <= 120 && this.governor.level === 0) {
      this.timeline.draw(this.streams, whole ? head.phases : this.fold.phases, palette, this.theme, this.t, this.axisShown ?? this.axis);
    }
    this.urgent = false;
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
    const found = this.looking.sought ? new Set(this.looking.matches.map((match) => match.kind + match.id)) : null;
    this.tables.update(this.fold, this.birds, this.dial, this.aliases, this.t, (kind, id) => !found || found.has(kind + id));
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
    const next = theme === "light" ? "light" : "dark";
    if (next === this.theme) return;
    this.theme = next;
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

  // Fits the picture into the page, and draws it.
  fit() {
    const { el, stage, legend } = this.parts, box = el.getBoundingClientRect();
    el.classList.toggle("narrow", box.width < 820 || Boolean(this.options.compact));
    el.classList.toggle("tight", box.width < 1000 && box.width >= 560);
    el.classList.toggle("slim", box.width < 560);
    const width = stage.clientWidth, height = stage.clientHeight;
    if (!width || !height) return;
    const ratio = this.governor.level > 1 ? 1 : Math.min(window.devicePixelRatio || 1, 2);
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
      this.dial.resize(width, height, side && !this.options.compact ? Math.max(0, 165 - (width - height * 1.5) / 2) : 0);
      this.view.resize(width, height);
      const scale = ry > 1 ? this.dial.ry / ry : 1;
      for (const bird of this.birds.list) {
        bird.x = this.dial.cx + (bird.x - cx) * scale;
        bird.y = this.dial.cy + (bird.y - cy) * scale;
        bird.trail.length = 0;
      }
    }
    this.cover();
    this.hud.measure();
    this.moved();
    // A canvas that was given a size is empty: it is drawn at once, not at the next frame.
    this.drawNow();
  }

  moved() {
    this.parts.stage.classList.toggle("near", this.view.k > 1.02 || Boolean(this.view.goal));
    this.still.dirty = true;
    this.urgent = true;
  }

  // ── connection ──────────────────────────────────────────────────────────────────────────────

  status({ connection, text }) {
    this.connection = connection;
    this.statusText = text ?? "";
    this.line();
    this.urgent = true;
  }

  // The quiet line: what is wrong, or what to run where there is nothing to show.
  line() {
    const { parts, connection } = this, nothing = !this.reel.records.length, wrong = Object.hasOwn(TROUBLES, connection);
    const text = this.statusText || (wrong ? TROUBLES[connection] : nothing && (connection === "empty" || this.mode === "live") ? WHAT_TO_RUN : "");
    parts.line.classList.toggle("middle", nothing);
    parts.line.classList.toggle("bad", wrong);
    show(parts.line, text !== "");
    say(parts.line, text);
    if (wrong && text !== this.saidWrong) say(parts.heard, text);
    this.saidWrong = wrong ? text : "";
    this.cover();
  }

  // What words on the picture must not stand under.
  cover() {
    const { legend, line, stage } = this.parts;
    this.covered = [legend, line, stage.querySelector(".mg-zoom")].filter((node) => node.offsetWidth).map((node) => {
      const box = node.getBoundingClientRect(), whole = stage.getBoundingClientRect();
      return [box.left - whole.left - 4, box.top - whole.top - 4, box.width + 8, box.height + 8];
    });
  }

  // ── going on ────────────────────────────────────────────────────────────────────────────────

  start() {
    if (this.ticking) return;
    this.skip = true;
    const tick = (now) => {
      this.ticking = requestAnimationFrame(tick);
      const dt = this.last ? (now - this.last) / 1000 : 1 / 60;
      this.last = now;
      if (this.perf.on) this.perf.dt.push(dt * 1000);
      if (this.skip || this.resting()) this.governor.forget(); // the frame after a jump says nothing
      else if (this.governor.frame(dt)) this.fit();
      this.skip = false;
      this.perf.level = this.governor.level;
      if (this.resting() && !this.urgent && !this.view.goal && !this.still.dirty) return;
      this.frame(dt);
    };
    this.ticking = requestAnimationFrame(tick);
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
    header: (header, now) => flock.header(header, now), push: (records) => flock.push(records), load: (records) => flock.load(records),
    seek: (ms) => flock.seek(ms), follow: () => flock.follow(), play: () => flock.play(), pause: () => flock.pause(), setSpeed: (speed) => flock.setSpeed(speed),
    playIn: (seconds) => flock.playIn(seconds),
    setTheme: (theme) => flock.setTheme(theme), setReduced: (reduced) => flock.setReduced(reduced), status: (status) => flock.status(status),
    select: (kind, id) => flock.looking.select(kind, id), search: (text) => flock.looking.search(text), state: () => flock.fold,
    labels: () => flock.words.labels.boxes.map((box) => box.slice()),
    birds: () => flock.birds.list.map((bird) => [bird.name, bird.x, bird.y, bird.state]),
    frame: (dt) => flock.frame(dt), png: () => flock.png(), start: () => flock.start(), stop: () => flock.stop(), destroy: () => flock.destroy(),
    perf: flock.perf,
  };
}
