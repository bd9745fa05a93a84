// The layer that stands still: rings, threads of lineage, objects. It is drawn whole when the view, the theme or the places change;
// in between, an object that has cooled is stamped on it once.

import { RINGS } from "./fold.js";
import { Batches, Glows, circles } from "./batches.js";
import { BANDS, TURN } from "./layout.js";
import { tint } from "./palette.js";

const THREADS_MANY = 350, THREADS_MAX = 24000;

export class StillLayer {
  constructor(canvas, dial) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.dial = dial;
    this.glows = new Glows();
    this.haloed = new Set();
    this.hottest = 6;
    this.large = new Set(); // ids whose halo the moving layer draws
    this.dirty = true;
    this.phase = null; // whose rings are lit
    this.waiting = new Batches(); // threads that are to be drawn
  }

  // Another phase lights other rings.
  light(phase) {
    if (phase === this.phase) return;
    this.phase = phase;
    this.dirty = true;
  }

  // px of an object's dot before the view's zoom.
  radiusOf(light, spot) {
    const full = Math.sqrt(Math.max(light.tok, light.bytes / 4, 60)) / 13;
    let radius = Math.max(spot.room > 8 ? 2.1 : 1.15, Math.min(3.8, full));
    if (spot.ring === "fact" && spot.room > 12) radius += 0.8;
    if (light.reuses) radius += (spot.ring === "fact" ? 4.2 : 2.6) * this.heat(light);
    return Math.min(radius, Math.max(1.1, spot.room * 0.4), 9);
  }

  // Times reused, beside the object that was reused most: 0..1.
  heat(light) {
    return Math.min(1, Math.sqrt(light.reuses / Math.max(6, this.hottest)));
  }

  hueOf(light, spot) {
    return light.reuses > 1 ? "gold" : spot.ring;
  }

  draw(fold, palette, view, ratio) {
    const { pen, dial } = this;
    this.dirty = false;
    this.palette = palette;
    this.zoom = 1 / Math.sqrt(view.k);
    this.haloed.clear();
    this.waiting = new Batches();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.setTransform(ratio * view.k, 0, 0, ratio * view.k, ratio * view.x, ratio * view.y);
    this.rings(dial, palette);
    this.allThreads(fold);
    const dots = new Batches();
    for (const light of fold.lights.values()) {
      const spot = dial.spots.get(light.id);
      if (spot && spot.ring !== "ans" && !light.gone) this.dot(light, spot, dots);
    }
    this.fill(dots);
  }

  rings(dial, palette) {
    const { pen } = this, glow = pen.createRadialGradient(0, 0, 0, 0, 0, 1);
    glow.addColorStop(0, tint(palette.map, 0.07));
    glow.addColorStop(0.55, tint(palette.map, 0.022));
    glow.addColorStop(1, tint(palette.map, 0));
    pen.save();
    pen.translate(dial.cx, dial.cy);
    pen.scale(dial.rx * 1.12, dial.ry * 1.12);
    pen.fillStyle = glow;
    pen.beginPath();
    pen.arc(0, 0, 1, 0, TURN);
    pen.fill();
    pen.restore();
    for (const ring of RINGS) {
      if (ring === "ans") continue;
      const [inner, outer] = BANDS[ring], middle = (inner + outer) / 2, gap = dial.gap(middle), wide = Math.max(0.012, (outer - inner) * 0.5);
      const from = Math.PI / 2 + gap, to = Math.PI / 2 - gap + TURN;
      pen.beginPath();
      pen.ellipse(dial.cx, dial.cy, dial.rx * (middle + wide), dial.ry * (middle + wide), 0, from, to);
      pen.ellipse(dial.cx, dial.cy, dial.rx * (middle - wide), dial.ry * (middle - wide), 0, to, from, true);
      pen.closePath();
      pen.fillStyle = tint(palette.dim, palette.blend === "lighter" ? 0.055 : 0.06);
      pen.fill();
      pen.beginPath();
      pen.ellipse(dial.cx, dial.cy, dial.rx * middle, dial.ry * middle, 0, from, to);
      const lit = this.phase?.rings.includes(ring);
      pen.strokeStyle = lit ? tint(palette[this.phase.hue], 0.55) : tint(palette.dim, palette.blend === "lighter" ? 0.2 : 0.26);
      pen.lineWidth = lit ? 1.4 * this.zoom : 1;
      pen.stroke();
    }
  }

  allThreads(fold) {
    const { dial } = this, byHue = new Batches();
    let all = 0;
    for (const light of fold.lights.values()) all += light.src.length;
    this.faint = Math.max(0.22, Math.min(1, Math.sqrt(THREADS_MANY / Math.max(all, 1)))); // the more, the fainter
    const stride = Math.ceil(all / THREADS_MAX); // each object keeps some of its threads
    for (const light of fold.lights.values()) {
      const spot = light.gone ? null : dial.spots.get(light.id);
      if (!spot) continue;
      for (let i = 0; i < light.src.length; i += stride) {
        const parent = dial.spots.get(light.src[i]);
        if (parent && fold.lights.has(parent.id)) byHue.list(spot.ring === "ans" ? "red" : spot.ring).push(parent, spot);
      }
    }
    byHue.each((pairs, hue) => {
      for (let i = 0; i < pairs.length; i += 400) this.strokeThreads(pairs.slice(i, i + 400), hue);
    });
  }

  // The threads of an object that was just written: drawn when next the layer is touched, which is not each frame.
  threadsOf(light, spot, fold) {
    if (this.dirty || !this.palette) return;
    const list = light.src.length ? this.waiting.list(spot.ring === "ans" ? "red" : spot.ring) : null;
    for (const id of light.src) {
      const parent = this.dial.spots.get(id);
      if (parent && fold.lights.has(id)) list.push(parent, spot);
    }
  }

  strokeThreads(pairs, hue) {
    const { pen, palette } = this;
    pen.beginPath();
    for (let i = 0; i < pairs.length; i += 2) this.thread(pen, pairs[i], pairs[i + 1]);
    pen.strokeStyle = tint(palette[hue], (palette.blend === "lighter" ? 0.3 : 0.24) * this.faint);
    pen.lineWidth = (this.faint < 0.5 ? 0.65 : 0.9) * this.zoom * this.zoom; // as thin from near
    pen.stroke();
  }

  // From what it was made of to an object, bent towards the centre as far as it goes round.
  thread(pen, parent, spot) {
    const { dial } = this, across = Math.hypot(parent.x - spot.x, parent.y - spot.y) / (dial.rx + dial.ry), bend = Math.min(0.6, across * 0.55);
    const mx = (parent.x + spot.x) / 2, my = (parent.y + spot.y) / 2;
    pen.moveTo(parent.x, parent.y);
    pen.quadraticCurveTo(mx + (dial.cx - mx) * bend, my + (dial.cy - my) * bend, spot.x, spot.y);
  }

  // Adds what has come since: threads, and objects as they are now.
  stamp(lights) {
    if (this.dirty || !this.palette) return;
    this.waiting.each((pairs, hue) => this.strokeThreads(pairs, hue));
    this.waiting = new Batches();
    const dots = new Batches();
    for (const light of lights) {
      const spot = this.dial.spots.get(light.id);
      if (spot && spot.ring !== "ans" && !light.gone) this.dot(light, spot, dots);
    }
    this.fill(dots);
  }

  dot(light, spot, dots) {
    const { palette, pen } = this, radius = this.radiusOf(light, spot) * this.zoom;
    if (light.reuses && !this.large.has(light.id) && !this.haloed.has(light.id)) {
      this.haloed.add(light.id);
      pen.globalCompositeOperation = palette.blend;
      pen.globalAlpha = Math.min(1, spot.room / 18); // where they stand close, lights add up
      const wide = Math.max(5, Math.min(8 + Math.sqrt(light.reuses) * 4, 20, spot.room * 2.4));
      this.glows.stamp(pen, palette.gold, palette.glow, spot.x, spot.y, wide);
      pen.globalAlpha = 1;
      pen.globalCompositeOperation = "source-over";
    }
    const solid = light.written || spot.ring === "src" ? 4 : 1;
    if (light.reuses) {
      dots.add("gold|4", spot.x, spot.y, radius);
      if (light.reuses < 2 && radius > 1.6) dots.add(`core ${spot.ring}|4`, spot.x, spot.y, radius * 0.62);
    } else dots.add(`${spot.ring}|${solid}`, spot.x, spot.y, radius);
  }

  fill(dots) {
    const { pen, palette } = this;
    const cores = [];
    dots.each((list, hue, level) => {
      if (hue.startsWith("core ")) {
        cores.push([hue.slice(5), list]);
        return;
      }
      circles(pen, list);
      pen.fillStyle = tint(palette[hue], level / 4);
      pen.fill();
      if (level < 4) {
        pen.strokeStyle = tint(palette[hue], 0.6);
        pen.lineWidth = 0.8 * this.zoom;
        pen.stroke();
      }
    });
    for (const [hue, list] of cores) {
      circles(pen, list);
      pen.fillStyle = palette[hue];
      pen.fill();
    }
  }
}
