// A run at a moment: which records are in the fold, how the birds came there, and how the moment goes on, live or again.
// `flock.js` builds on it: it has the layers (`still`, `words`), and is asked to draw (`drawNow`), to fit what it draws into the page
// (`fit`), and told that records have come (`changed`).

import { Fold, RINGS } from "./fold.js";
import { Birds } from "./birds.js";
import { Effects } from "./effects.js";
import { Dial } from "./layout.js";
import { Aliases } from "./naming.js";
import { Reel } from "./reel.js";
import { mostReused } from "./story.js";
import { Streams } from "./timeline.js";

const BEHIND_MS = 250; // live is shown so late that what comes in bursts looks like flight
const JUMP_MS = 5000; // and is jumped to when it is further behind
const SHORT_S = 24, LONG_S = 75; // a replay takes so long at 1x; runs in between are shown in real time
const AFTER_S = 1.6; // a replay goes on so long after the last record
const ECHO_S = 0.9;
export const HUD_S = 0.2;

export class Player {
  constructor(mode, options) {
    this.mode = mode;
    this.playing = mode === "live" || options.autoplay !== false;
    this.following = mode === "live";
    this.speed = options.speed || 1;
    this.connection = mode === "live" ? "live" : "";
    this.reduced = false;
    this.dial = new Dial();
    this.effects = new Effects();
    this.aliases = new Aliases();
    this.birds = new Birds(this.dial, this.aliases);
  }

  empty() {
    this.reel = new Reel();
    this.streams = new Streams();
    this.dial.clear();
    this.aliases.names.clear();
    this.aliases.given.clear();
    this.t = this.clock = this.nowAt = 0;
    this.totals = null;
    this.arranged = 0;
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
    this.words.slots.clear();
    this.still.dirty = true;
    this.urgent = true;
  }

  // ── records ─────────────────────────────────────────────────────────────────────────────────

  push(records) {
    if (this.mode !== "live") {
      this.load([...this.reel.records, ...records]);
      return;
    }
    const touched = new Map();
    this.reel.add(records, (place, record) => {
      this.streams.note(record, this.reel.head);
      if (record.obj) touched.set(record.obj, null);
      // It comes late: its moment has been shown, which may be the very one that is looked at.
      if (place < this.place || (place === this.place && !this.playing && record.t <= this.t)) {
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
    const { head } = this.reel, step = head.ended ? Infinity : head.phases.length;
    if (step !== this.arranged) { // between two phases, things may move
      this.arranged = step;
      this.dial.arrangeAll(step === Infinity);
      this.still.dirty = true;
    }
    this.nowAt = Math.max(this.nowAt, this.reel.end);
    this.catchUp();
    this.totals = null;
    this.urgent = true;
    this.changed();
  }

  // Where it stands by the server's clock, in ms since the run began: the newest record may be from long ago.
  tell(now) {
    if (this.mode === "live") this.nowAt = Math.max(this.nowAt, Number(now) || 0);
  }

  // What is long past by the time it comes is in the fold at once: to a page that is opened, all that was before.
  catchUp() {
    const { records } = this.reel, before = this.place;
    while (this.following && this.place < records.length && records[this.place].t < this.t - JUMP_MS) this.take(records[this.place++], false);
    if (this.place > before) this.birds.settle(this.fold, this.t, this.pace, 20, this.time);
  }

  load(records) {
    this.empty();
    this.reel.add(records, (_, record) => this.streams.note(record, this.reel.head));
    this.dial.learn(this.reel.head.lights.values(), true);
    this.nowAt = this.reel.end;
    this.totals = null;
    this.changed();
    this.fit();
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

  // A replay of the whole takes so long.
  playIn(seconds) {
    this.setSpeed(Math.max(SHORT_S, Math.min(LONG_S, this.reel.end / 1000)) / seconds);
    this.play();
  }

  setSpeed(speed) {
    this.speed = Math.max(0.05, Math.min(64, Number(speed) || 1));
    this.urgent = true;
  }

  // ── a step ──────────────────────────────────────────────────────────────────────────────────

  // Goes on by `dt` seconds of the viewer's.
  go(dt) {
    this.nowAt += this.connection === "live" && !this.reel.head.ended ? dt * 1000 : 0;
    if (this.mode === "live" && this.following) this.goLive(dt);
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
  }

  goLive(dt) {
    const target = this.connection === "live" && !this.reel.head.ended ? this.nowAt - BEHIND_MS : this.reel.end, lag = target - this.t;
    if (lag > JUMP_MS) this.jump(target);
    // Never back, but also where the clock stands: a run's last records may come when their moment has been reached.
    else this.advance(Math.max(this.t, Math.min(target, this.t + dt * 1000 * (lag > 2000 ? 1 + lag / 1000 : 1.02))), true);
    this.clock = this.t;
  }

  // What is counted over all objects, a few times a second.
  count() {
    const counts = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
    for (const light of this.fold.lights.values()) if (light.written && Object.hasOwn(counts, light.ring)) counts[light.ring]++;
    this.ringCounts = counts;
    if (!this.totals) {
      this.totals = Object.fromEntries(RINGS.map((ring) => [ring, 0]));
      for (const light of this.reel.head.lights.values()) if (light.written && Object.hasOwn(this.totals, light.ring)) this.totals[light.ring]++;
    }
    this.ringTotals = this.totals;
    this.top = mostReused(this.fold, 40);
    const large = new Set(this.top.map((light) => light.id));
    this.still.large = large;
    this.still.hottest = this.top.reduce((most, light) => Math.max(most, light.reuses), 6);
  }

  // Nothing moves: a run that is over is not flown round for ever. But what has come and is not shown yet has frames to come in:
  // of a whole space, the next run begins long after the last has ended.
  resting() {
    if (this.mode === "live" && this.following) return this.restS > 8 && this.place === this.reel.records.length;
    return !this.playing;
  }
}
