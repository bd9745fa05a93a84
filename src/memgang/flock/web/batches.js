// Drawing many things with few calls: what has the same look is put into one path.

import { TURN } from "./layout.js";
import { tint } from "./palette.js";

// Numbers gathered under a key, e.g. "gold|3" -> [x, y, r, x, y, r, ...].
export class Batches {
  constructor() {
    this.lists = new Map();
  }

  list(key) {
    let list = this.lists.get(key);
    if (!list) this.lists.set(key, list = []);
    return list;
  }

  add(key, ...numbers) {
    this.list(key).push(...numbers);
  }

  // Each key in turn, cut at "|": `draw(list, hue, level)`.
  each(draw) {
    for (const [key, list] of this.lists) {
      const cut = key.indexOf("|");
      draw(list, cut < 0 ? key : key.slice(0, cut), cut < 0 ? 0 : Number(key.slice(cut + 1)));
    }
  }
}

// Circles [x, y, r, ...] as one path; small ones as squares where there are very many.
export function circles(pen, list, square = false) {
  pen.beginPath();
  for (let i = 0; i < list.length; i += 3) {
    const x = list[i], y = list[i + 1], r = list[i + 2];
    if (square) pen.rect(x - r, y - r, 2 * r, 2 * r);
    else {
      pen.moveTo(x + r, y);
      pen.arc(x, y, r, 0, TURN);
    }
  }
}

// Soft lights, drawn once for a colour and a size and stamped from then on.
export class Glows {
  constructor() {
    this.stamps = new Map();
  }

  clear() {
    this.stamps.clear();
  }

  stamp(pen, colour, strength, x, y, radius) {
    const size = Math.max(4, Math.round(radius)), key = colour + size;
    let stamp = this.stamps.get(key);
    if (!stamp) {
      stamp = document.createElement("canvas");
      stamp.width = stamp.height = size * 2;
      const soft = stamp.getContext("2d"), fade = soft.createRadialGradient(size, size, 0, size, size, size);
      fade.addColorStop(0, tint(colour, strength[0]));
      fade.addColorStop(0.35, tint(colour, strength[1]));
      fade.addColorStop(1, tint(colour, 0));
      soft.fillStyle = fade;
      soft.fillRect(0, 0, size * 2, size * 2);
      if (this.stamps.size > 400) this.stamps.clear();
      this.stamps.set(key, stamp);
    }
    pen.drawImage(stamp, x - radius, y - radius, radius * 2, radius * 2);
  }
}
