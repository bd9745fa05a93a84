// What flashes by: arcs between birds and objects, rings that widen, words that rise. All times are seconds of the viewer.

import { tokensOf } from "./story.js";
import { counted } from "./naming.js";
import { chanceOf, lookOf } from "./roles.js";

const ARCS_MAX = 320, ARCS_FEW = 140;
export const LASTS = { read: 1.0, write: 1.1, gold: 1.6, bloom: 0.9, float: 1.5 };

export class Effects {
  constructor() {
    this.clear();
  }

  clear() {
    this.arcs = [];
    this.blooms = [];
    this.floats = [];
    this.hot = new Map(); // spot -> when it was touched last
  }

  // A record as something to see at `time`; `bird` did it to `spot`.
  take(record, bird, spot, time, crowd) {
    const raw = record.raw || record.op;
    if (spot) this.hot.set(spot, time);
    switch (record.op) {
      case "read":
        if (bird && spot) this.arc(record, bird, spot, "read", "read", time, crowd);
        break;
      case "write":
        if (!bird || !spot) break;
        this.arc(record, bird, spot, "write", lookOf(record.role ?? "").hue, time, crowd);
        this.bloom(spot, lookOf(record.role ?? "").hue, time, crowd);
        break;
      case "hit":
        if (!bird || !spot || raw !== "hit" && raw !== "joined") break;
        this.arc(record, bird, spot, "gold", "gold", time, crowd);
        this.bloom(spot, "gold", time, crowd);
        if (crowd <= 60 && tokensOf(record) > 0) {
          this.floats.push({ spot, time, text: `+${counted(tokensOf(record))} tok saved` });
          if (this.floats.length > 24) this.floats.shift();
        }
        break;
      case "error":
        if (bird) this.bloom(bird, "error", time, crowd);
        break;
    }
  }

  arc(record, bird, spot, kind, hue, time, crowd) {
    const most = crowd > 120 ? ARCS_FEW : ARCS_MAX, chance = chanceOf(record.id ?? String(record.t));
    if (this.arcs.length >= most) {
      if (kind !== "gold" && chance < 0.82) return; // a fair few of too many; gold is not left out
      const place = this.arcs.findIndex((arc) => arc.kind !== "gold");
      this.arcs.splice(Math.max(0, place), 1);
    }
    this.arcs.push({ bird, spot, kind, hue, time, bend: (chance * 7 % 1 - 0.5) * 0.5 });
  }

  bloom(at, hue, time, crowd) {
    if (this.blooms.length > (crowd > 120 ? 60 : crowd > 24 ? 110 : 200)) this.blooms.shift();
    this.blooms.push({ at, hue, time });
  }

  // Forgets what is over, and returns the objects that have cooled: they are to be drawn where things stand still.
  sweep(time) {
    const cooled = [];
    this.arcs = this.arcs.filter((arc) => time - arc.time < LASTS[arc.kind]);
    this.blooms = this.blooms.filter((bloom) => time - bloom.time < LASTS.bloom);
    this.floats = this.floats.filter((float) => time - float.time < LASTS.float);
    for (const [spot, at] of this.hot) {
      if (time - at < 1.3) continue;
      this.hot.delete(spot);
      cooled.push(spot.id);
    }
    return cooled;
  }
}
