// All words on the picture, drawn over it: the middle, the rings, the axis of the document, what is hot, and the birds.
// The order is the order of importance: who comes later finds less room.

import { RINGS } from "./fold.js";
import { LASTS } from "./effects.js";
import { TYPE, Labels } from "./labels.js";
import { BANDS, RING_NAMES, TURN } from "./layout.js";
import { clip, counted } from "./naming.js";
import { tint } from "./palette.js";
import { birdSize } from "./wings.js";

const VERBS = { read: "reads", reuse: "reuses", think: "thinks", work: "works", write: "writes", wait: "waits for", error: "failed", idle: "rests", gone: "left" };

// What a bird does, in words.
export function doing(bird, dial) {
  if (bird.state === "wait") return `waits for ${bird.leader ? bird.leader.alias : "another"}`;
  if (bird.state === "idle" || bird.state === "gone") return "";
  const verb = VERBS[bird.state] ?? bird.state;
  const spot = bird.agent.obj ? dial.spots.get(bird.agent.obj) : null;
  if (!spot || bird.state === "error") return verb;
  return bird.state === "think" || bird.state === "work" ? `${verb} on ${spot.name}` : `${verb} ${spot.name}`;
}

export class Words {
  constructor(pen, dial, birds, effects) {
    Object.assign(this, { pen, dial, birds, effects });
    this.labels = new Labels(pen);
    this.slots = new Map(); // id of an object -> where its label stands
  }

  // `scene`: what `Flock.drawNow` gives.
  write(scene) {
    Object.assign(this, scene);
    const { labels, view, dial, palette } = this, birds = this.birds.list;
    this.many = birds.length > 120;
    this.some = birds.length > 24;
    this.size = birdSize(birds.length, dial.rx);
    this.zoom = 1 / Math.sqrt(view.k);
    this.tagged = new Set();
    labels.begin(dial.width, dial.height);
    for (const box of this.covered) labels.avoid(...box);
    this.centreWords();
    this.ringWords();
    const reach = this.size * this.zoom * view.k;
    this.pickedWords(reach);
    if (birds.length <= 24) {
      for (const bird of birds) {
        if (bird.state === "gone") continue;
        const [x, y] = view.toScreen(bird.x, bird.y);
        labels.avoid(x - reach, y - reach, reach * 2, reach * 2);
      }
    }
    let named = 0;
    for (const light of this.top.slice(0, this.many ? 5 : 4)) {
      if (light.reuses > 2 && light.saved[1] && this.objectTag(light.id, "×" + counted(light.reuses), palette.goldText, palette.gold)) named++;
    }
    if (birds.length <= 24) for (const bird of birds) this.birdTag(bird, reach + 5, true);
    else if (!this.many) {
      let waiting = 0;
      for (const bird of birds) if (bird.state === "wait" && waiting < (dial.width > 900 ? 10 : 5) && this.birdTag(bird, reach + 5, false)) waiting++;
    }
    let floats = this.some ? 3 : 6;
    for (const float of this.effects.floats.toReversed()) {
      const part = (this.time - float.time) / LASTS.float;
      if (part < 0 || part > 1 || floats-- <= 0) continue;
      const [x, y] = view.toScreen(float.spot.x, float.spot.y);
      labels.words(x, y - 18 - (this.reduced ? 8 : part * 22), float.text, TYPE.float, tint(palette.goldText, Math.min(1, 2 - part * 2)), tint(palette.ground, 0.7 * (1 - part)));
    }
  }

  centreWords() {
    const { pen, palette, dial, progress, view } = this, [x, y] = view.toScreen(dial.cx, dial.cy), r = dial.centre * view.k;
    this.labels.avoid(x - r, y - r, 2 * r, 2 * r);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = palette.ink;
    if (this.answered || this.done) {
      pen.font = dial.centre < 30 ? TYPE.small : TYPE.ringOn;
      pen.fillText(this.answered ? "answer" : "done", x, y);
      return;
    }
    pen.font = dial.centre < 30 ? TYPE.ringOn : TYPE.big;
    pen.fillText(progress[0] === null ? counted(progress[1]) : Math.floor(progress[0] * 100) + "%", x, y - (dial.centre < 30 ? 0 : 5));
    if (dial.centre < 30) return;
    pen.font = TYPE.small;
    pen.fillStyle = palette.mut;
    pen.fillText(clip(this.phaseName, 9), x, y + 10);
  }

  ringWords() {
    const { labels, view, dial, palette, fold, phase } = this;
    const counts = this.ringCounts;
    for (const ring of RINGS) {
      if (ring === "ans") continue;
      const [inner, outer] = BANDS[ring], on = phase.rings.includes(ring) && !this.done;
      const [x, y] = view.toScreen(dial.cx, dial.cy + dial.ry * (inner + outer) / 2);
      const all = this.whole ? this.ringTotals[ring] : 0, count = counts[ring];
      if (!count && !all && !on) continue;
      const text = `${RING_NAMES[ring]}  ${counted(count)}${all > count ? " / " + counted(all) : ""}`;
      labels.words(x, y, text, on ? TYPE.ringOn : TYPE.ring, on ? palette[phase.hue] : palette.mut, tint(palette.ground, 0.85), 4);
    }
    if (!fold.lights.size) return;
    for (const [place, text] of [[0, "start"], [0.25, "25%"], [0.5, "50%"], [0.75, "75%"], [1, "end"]]) {
      const [dx, dy] = dial.point(dial.angleAt(place === 0 || place === 1 ? place : dial.share(place), 1.06), place === 0.5 ? 1.115 : 1.12), [x, y] = view.toScreen(dx, dy);
      labels.words(x + (place === 0 ? -10 : place === 1 ? 10 : 0), y, text, TYPE.axis, palette.dim, null, 2);
    }
  }

  birdTag(bird, away, short) {
    if (this.tagged.has(bird) || bird.state === "gone" || short && bird.state === "idle" && this.birds.list.length > 16) return false;
    const { palette, view } = this, hue = { wait: "wait", idle: "mut", reuse: "goldText", error: "error" }[bird.state] ?? bird.look.hue;
    const small = short && this.dial.ry < 170 && this.birds.list.length > 12;
    const [x, y] = view.toScreen(bird.x, bird.y), text = small ? "" : doing(bird, this.dial);
    const colours = { ground: tint(palette.ground, 0.84), line: tint(palette[hue], 0.55), name: palette[hue], text: palette.ink };
    const drawn = this.labels.tag(x, y, away, bird.alias, text, colours, bird)
      || text !== "" && this.labels.tag(x, y, away, bird.alias, "", colours, bird);
    if (drawn) this.tagged.add(bird);
    return drawn;
  }

  objectTag(id, text, nameColour, lineColour) {
    const spot = this.dial.spots.get(id);
    if (!spot || spot.ring === "ans" || this.tagged.has(spot)) return false;
    let holder = this.slots.get(id);
    if (!holder) this.slots.set(id, holder = { slot: 2 });
    const [x, y] = this.view.toScreen(spot.x, spot.y);
    const colours = { ground: tint(this.palette.ground, 0.84), line: tint(lineColour, 0.55), name: nameColour, text: this.palette.ink };
    const drawn = this.labels.tag(x, y, 10, spot.name, text, colours, holder);
    if (drawn) this.tagged.add(spot);
    return drawn;
  }

  // Rings round what was chosen, is pointed at, or was found.
  pickedWords(reach) {
    const { pen, palette, view, dial } = this;
    for (const mark of this.marks) {
      const bird = mark.kind === "agent" ? this.birds.byName.get(mark.id) : null, spot = mark.kind === "object" ? dial.spots.get(mark.id) : null;
      const at = bird ?? spot;
      if (!at) continue;
      const [x, y] = view.toScreen(at.x, at.y);
      pen.beginPath();
      pen.arc(x, y, bird ? reach + 9 : 10, 0, TURN);
      pen.strokeStyle = tint(palette.ink, mark.how === "found" ? 0.55 : 0.95);
      pen.lineWidth = mark.how === "picked" ? 2 : 1.4;
      pen.stroke();
      if (mark.how === "found") continue;
      if (bird) this.birdTag(bird, reach + 11, false);
      else this.objectTag(mark.id, "", palette.ink, palette.ink);
    }
  }
}
