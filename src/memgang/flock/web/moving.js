// The layer that moves, drawn anew each frame: what is hot, arcs, blooms, the birds. Words go over it: `words.js`.
// Budget: the governor takes arcs, then trails, away where frames come late.

import { Batches, Glows, circles } from "./batches.js";
import { LASTS } from "./effects.js";
import { BANDS, TURN } from "./layout.js";
import { tint } from "./palette.js";
import { birdPath, birdSize } from "./wings.js";

const BRIGHT = new Set(["think", "reuse"]);

export class MovingLayer {
  constructor(canvas, dial, still, birds, effects) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    Object.assign(this, { dial, still, birds, effects });
    this.glows = new Glows();
  }

  // `scene`: what `Flock.drawNow` gives.
  draw(scene) {
    const { pen } = this, { view, ratio } = scene;
    Object.assign(this, scene);
    const count = this.birds.list.length;
    this.many = count > 120;
    this.some = count > 24;
    this.size = birdSize(count, this.dial.rx);
    this.zoom = 1 / Math.sqrt(view.k);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.setTransform(ratio * view.k, 0, 0, ratio * view.k, ratio * view.x, ratio * view.y);
    pen.lineCap = "round";
    this.halos();
    this.threadsOfPicked();
    this.hotObjects();
    if (!this.reduced && this.level < 2) this.trails();
    this.arcs();
    this.flights();
    this.blooms();
    this.centre();
    this.flyers();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  // ── objects ─────────────────────────────────────────────────────────────────────────────────

  halos() {
    const { pen, palette, dial, still } = this;
    pen.globalCompositeOperation = palette.blend;
    for (const light of this.top) {
      const spot = dial.spots.get(light.id);
      if (!spot || spot.ring === "ans") continue;
      // What spared no model call, such as a document read once for all, glows less; where they stand close, lights add up.
      const reach = light.saved[1] ? Math.min(this.many ? 46 : 52, Math.max(spot.room * 1.7, 9)) : 9;
      pen.globalAlpha = Math.min(1, Math.max(0.3, spot.room / 18));
      this.glows.stamp(pen, palette.gold, palette.glow, spot.x, spot.y, (6 + reach * still.heat(light)) * this.zoom);
    }
    pen.globalAlpha = 1;
    pen.globalCompositeOperation = "source-over";
  }

  hotObjects() {
    const { pen, palette, fold, effects, still, time } = this;
    const dots = new Batches();
    let glows = this.many || this.level > 1 ? 0 : this.some ? 60 : 200;
    const crowded = Math.min(1, Math.sqrt(24 / Math.max(1, effects.hot.size)));
    pen.globalCompositeOperation = palette.blend;
    for (const [spot, at] of effects.hot) {
      const light = fold.lights.get(spot.id), fresh = 1 - (time - at) / 1.3;
      if (!light || spot.ring === "ans") continue;
      const hue = still.hueOf(light, spot);
      if (fresh > 0 && glows-- > 0) {
        pen.globalAlpha = Math.min(1, fresh) * crowded;
        this.glows.stamp(pen, palette[hue], palette.glow, spot.x, spot.y, (11 + 11 * fresh) * this.zoom);
      }
      dots.add(hue, spot.x, spot.y, still.radiusOf(light, spot) * this.zoom + Math.min(1, spot.room * 0.06));
    }
    pen.globalAlpha = 1;
    pen.globalCompositeOperation = "source-over";
    dots.each((list, hue) => {
      circles(pen, list, this.many && list.length > 300);
      pen.fillStyle = palette[hue];
      pen.fill();
    });
  }

  // Where the chosen object comes from and what was made of it.
  threadsOfPicked() {
    const { pen, dial, palette, lineage, picked } = this;
    if (!lineage || !picked) return;
    for (const [pairs, hue] of [[lineage.down, "dim"], [lineage.up, "ink"]]) {
      pen.beginPath();
      for (const [from, to] of pairs) {
        const one = dial.spots.get(from), other = dial.spots.get(to);
        if (one && other) this.still.thread(pen, one, other);
      }
      pen.strokeStyle = tint(palette[hue], 0.75);
      pen.lineWidth = 1.2 * this.zoom;
      pen.stroke();
    }
  }

  // ── what goes between ───────────────────────────────────────────────────────────────────────

  trails() {
    const { pen, palette } = this, parts = new Batches();
    for (const bird of this.birds.list) {
      const trail = bird.trail, points = trail.length / 2;
      if (points < 3 || bird.state === "gone" || this.many && bird.state === "idle") continue;
      const cuts = this.many ? 2 : 3;
      for (let part = 0; part < cuts; part++) {
        parts.list(`${bird.look.hue}|${part + 3 - cuts}`).push(trail, Math.floor((points - 1) * part / cuts), Math.floor((points - 1) * (part + 1) / cuts));
      }
    }
    parts.each((list, hue, part) => {
      pen.beginPath();
      for (let i = 0; i < list.length; i += 3) {
        const trail = list[i];
        pen.moveTo(trail[list[i + 1] * 2], trail[list[i + 1] * 2 + 1]);
        for (let j = list[i + 1] + 1; j <= list[i + 2]; j++) pen.lineTo(trail[j * 2], trail[j * 2 + 1]);
      }
      pen.strokeStyle = tint(palette[hue], [0.1, 0.24, 0.45][part] * (this.many ? 0.8 : 1) * (hue === "idle" ? 0.5 : 1));
      pen.lineWidth = (part + 1) * (this.many ? 0.45 : this.some ? 0.8 : 1.15) * this.zoom;
      pen.stroke();
    });
  }

  arcs() {
    const { pen, palette, dial, time } = this;
    const most = this.level > 1 ? 60 : this.level > 0 ? 110 : 320, arcs = this.effects.arcs.slice(-most);
    const dim = Math.max(0.42, Math.sqrt(45 / Math.max(45, arcs.length)));
    const lines = new Batches(), points = new Batches();
    const bent = this.many ? 0.42 : this.some ? 0.25 : 0;
    for (const arc of arcs) {
      const part = (time - arc.time) / LASTS[arc.kind];
      if (part < 0 || part > 1) continue;
      const { bird, spot } = arc, dx = spot.x - bird.x, dy = spot.y - bird.y;
      const bend = bent * Math.min(1, Math.hypot(dx, dy) / (dial.ry * 0.9)), free = arc.bend * (1 - bend);
      const px = (bird.x + spot.x) / 2 - dy * free, py = (bird.y + spot.y) / 2 + dx * free;
      const mx = px + (dial.cx - px) * bend, my = py + (dial.cy - py) * bend;
      const key = `${arc.kind === "read" ? "read" : arc.hue}|${Math.max(1, Math.ceil((part < 0.15 ? part / 0.15 : 1 - (part - 0.15) / 0.85) * 4))}`;
      lines.add(key, bird.x, bird.y, mx, my, spot.x, spot.y);
      if (this.reduced || this.level > 1 || this.many && arc.kind !== "gold") continue;
      const dots = this.many ? 1 : this.some ? 2 : 3;
      for (let i = 0; i < dots; i++) {
        let u = (part * 1.5 + i / dots) % 1;
        if (arc.kind !== "write") u = 1 - u; // towards the bird
        const v = 1 - u, r = (arc.kind === "gold" ? 2.6 : 1.9) * (this.many ? 0.55 : 1) * this.zoom;
        points.add(key, v * v * bird.x + 2 * v * u * mx + u * u * spot.x, v * v * bird.y + 2 * v * u * my + u * u * spot.y, r);
      }
    }
    lines.each((list, hue, level) => {
      const dashed = hue === "read" && !this.some;
      pen.beginPath();
      for (let i = 0; i < list.length; i += 6) {
        pen.moveTo(list[i], list[i + 1]);
        pen.quadraticCurveTo(list[i + 2], list[i + 3], list[i + 4], list[i + 5]);
      }
      pen.strokeStyle = tint(palette[hue], level / 4 * dim * (hue === "gold" ? 0.85 : 0.5));
      pen.lineWidth = (hue === "gold" ? 2.2 : 1.3) * (this.many ? 0.55 : this.some ? 0.75 : 1) * this.zoom;
      if (dashed) pen.setLineDash([5, 4]);
      pen.stroke();
      if (dashed) pen.setLineDash([]);
    });
    points.each((list, hue, level) => {
      circles(pen, list, this.many);
      pen.fillStyle = tint(palette[hue], level / 4);
      pen.fill();
    });
  }

  // One computes, others wait: an orange ring that turns round the one, and tethers to it.
  flights() {
    const { pen, palette, time } = this, led = new Set();
    pen.strokeStyle = tint(palette.wait, this.many ? 0.5 : 0.85);
    pen.lineWidth = (this.many ? 0.8 : 1.3) * this.zoom;
    if (!this.many) pen.setLineDash([2, 5]);
    pen.beginPath();
    for (const bird of this.birds.list) {
      if (bird.state !== "wait") continue;
      const to = bird.leader ?? bird.spot;
      if (!to) continue;
      if (bird.leader) led.add(bird.leader);
      pen.moveTo(bird.x, bird.y);
      pen.lineTo(to.x, to.y);
    }
    pen.stroke();
    pen.lineWidth = 1.8 * this.zoom;
    pen.strokeStyle = palette.wait;
    if (!this.many) {
      pen.setLineDash([4, 4]);
      pen.lineDashOffset = this.reduced ? 0 : -time * 22;
    }
    pen.beginPath();
    for (const bird of led) {
      const r = this.size * 1.45;
      pen.moveTo(bird.x + r, bird.y);
      pen.arc(bird.x, bird.y, r, 0, TURN);
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  blooms() {
    const { pen, palette, time } = this, rings = new Batches();
    for (const bloom of this.effects.blooms) {
      const part = (time - bloom.time) / LASTS.bloom;
      if (part < 0 || part > 1) continue;
      rings.add(`${bloom.hue}|${Math.ceil((1 - part) * 4)}`, bloom.at.x, bloom.at.y,
        (4 + part * (bloom.hue === "gold" ? 24 : 16) * (this.many ? 0.4 : 1)) * this.zoom);
    }
    rings.each((list, hue, level) => {
      circles(pen, list);
      pen.strokeStyle = tint(palette[hue] ?? palette.ink, level / 4 * 0.85);
      pen.lineWidth = (this.many ? 0.8 : 0.5 + level * 0.4) * this.zoom;
      pen.stroke();
    });
  }

  // ── the middle: how far the phase is, then the answer ───────────────────────────────────────

  centre() {
    const { pen, palette, dial, progress } = this, { cx, cy } = dial, r = dial.centre;
    pen.beginPath();
    pen.arc(cx, cy, r, 0, TURN);
    pen.fillStyle = tint(palette.ground, 0.86);
    pen.fill();
    const answered = this.answered;
    if (answered) {
      pen.globalCompositeOperation = palette.blend;
      this.glows.stamp(pen, palette.reduce, palette.glow, cx, cy, r * 1.75);
      pen.globalCompositeOperation = "source-over";
    }
    pen.lineWidth = Math.max(3, r * 0.115);
    pen.strokeStyle = tint(palette.dim, 0.24);
    pen.beginPath();
    pen.arc(cx, cy, r * 0.79, 0, TURN);
    pen.stroke();
    const share = this.done ? 1 : progress[0] ?? 0;
    if (share > 0) {
      pen.strokeStyle = palette[this.done ? "reduce" : this.phase.hue];
      pen.beginPath();
      pen.arc(cx, cy, r * 0.79, -Math.PI / 2, -Math.PI / 2 + TURN * share);
      pen.stroke();
    }
  }

  // ── birds ───────────────────────────────────────────────────────────────────────────────────

  flyers() {
    const { pen, palette, time, size } = this, groups = new Map();
    for (const bird of this.birds.list) {
      if (bird.state === "gone") continue;
      const group = groups.get(bird.look);
      if (group) group.push(bird);
      else groups.set(bird.look, [bird]);
    }
    if (!this.many && this.level < 2) {
      pen.globalCompositeOperation = palette.blend;
      for (const bird of this.birds.list) {
        if (!BRIGHT.has(bird.state)) continue;
        pen.globalAlpha = bird.state === "reuse" ? 0.9 : this.reduced ? 0.5 : 0.45 + 0.25 * Math.sin(time * 5 + bird.phase);
        const hue = bird.state === "reuse" ? "gold" : bird.look.hue;
        this.glows.stamp(pen, palette[hue], palette.glow, bird.x, bird.y, size * 2.3 * this.zoom);
      }
      pen.globalAlpha = 1;
      pen.globalCompositeOperation = "source-over";
    }
    const drawn = [...groups].sort(([one], [other]) => (one.hue === "idle" ? 0 : 1) - (other.hue === "idle" ? 0 : 1));
    for (const [look, birds] of drawn) {
      pen.beginPath();
      const scale = size * this.zoom * (look.hue === "idle" ? 0.8 : 1);
      for (const bird of birds) birdPath(pen, bird, scale, look.wing, this.reduced);
      pen.globalAlpha = look.hue === "idle" ? 0.75 : 1;
      pen.fillStyle = palette[look.hue];
      pen.fill();
      if (!this.many) {
        pen.lineWidth = (palette.blend === "lighter" ? 0.9 : 1.1) * this.zoom;
        pen.strokeStyle = palette.edge;
        pen.stroke();
      }
      pen.globalAlpha = 1;
    }
    this.thinkingRings();
    this.crosses();
  }

  // How long a call of the model has gone on, as a share of how long they take in this run.
  thinkingRings() {
    if (this.some) return;
    const { pen, palette, fold } = this, calls = fold.physical[1], usual = calls ? Math.max(fold.physical[6] / calls, 1) : 0;
    if (!usual) return;
    pen.lineWidth = 2 * this.zoom;
    for (const bird of this.birds.list) {
      if (bird.state !== "think" || !bird.agent.thinking.size) continue;
      let since = this.t;
      for (const began of bird.agent.thinking.values()) since = Math.min(since, began);
      pen.strokeStyle = tint(palette[bird.look.hue], 0.9);
      pen.beginPath();
      pen.arc(bird.x, bird.y, this.size * 1.75 * this.zoom, -Math.PI / 2, -Math.PI / 2 + TURN * Math.min(1, (this.t - since) / usual));
      pen.stroke();
    }
  }

  // An error is a cross first and red second.
  crosses() {
    const { pen, palette } = this, arm = Math.max(3.5, this.size * 0.42) * this.zoom;
    pen.beginPath();
    for (const bird of this.birds.list) {
      if (bird.state !== "error") continue;
      const x = bird.x, y = bird.y - this.size * 1.5 * this.zoom;
      pen.moveTo(x - arm, y - arm);
      pen.lineTo(x + arm, y + arm);
      pen.moveTo(x + arm, y - arm);
      pen.lineTo(x - arm, y + arm);
    }
    pen.strokeStyle = palette.error;
    pen.lineWidth = 2.4 * this.zoom;
    pen.stroke();
  }
}
