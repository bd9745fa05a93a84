// The dial. Radius is the distance to the answer: each ring is a band. Angle is the place in the document, clockwise from the
// bottom, where a gap is left for the names of the rings. Where an object stands follows from what is known of the run, and from
// nothing that was drawn before: two pictures of the same moment are the same.

import { RINGS } from "./fold.js";
import { nounOf } from "./naming.js";

export const TURN = Math.PI * 2;
export const BANDS = { src: [0.93, 1.06], map: [0.71, 0.8], fact: [0.56, 0.63], part: [0.42, 0.48], red: [0.26, 0.31], ans: [0, 0] };
export const RING_NAMES = { src: "source parts", map: "model answers", fact: "facts", part: "partitions", red: "summaries", ans: "report" };
const ONE_ROW = 120, ROWS_MAX = 14, GAP_PX = 76;

class Spot {
  constructor(id, ring, index) {
    this.id = id;
    this.ring = ring;
    this.index = index;
    this.pos = null;
    this.noun = "";
    this.name = "";
    this.slot = 0;
    this.x = this.y = this.angle = 0;
    this.room = 40; // px to the next one
  }
}

export class Dial {
  constructor() {
    this.width = this.height = 1;
    this.cx = this.cy = this.rx = this.ry = this.centre = 1;
    this.clear();
  }

  clear() {
    this.spots = new Map();
    this.rings = Object.fromEntries(RINGS.map((ring) => [ring, { spots: [], places: 0, taken: null, rows: 1 }]));
    this.numbers = new Map();
    this.sources = []; // places of the source parts, sorted
  }

  // A place in the document -> its share of the way round. Where parts of the source are close together there is more room, on
  // all rings alike: so a result stands straight inside what it was made from.
  share(pos) {
    const { sources } = this;
    if (sources.length < 8) return Math.max(0, Math.min(1, pos));
    let low = 0, high = sources.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sources[middle] < pos) low = middle + 1;
      else high = middle;
    }
    let last = low;
    while (last < sources.length && sources[last] === pos) last++;
    if (last > low) return (low + last) / 2 / sources.length;
    const before = low ? sources[low - 1] : 0, after = low < sources.length ? sources[low] : 1;
    return (low - 0.5 + (after > before ? (pos - before) / (after - before) : 0.5)) / sources.length;
  }

  // `left`: px at the left that something else covers.
  resize(width, height, left) {
    this.width = width;
    this.height = height;
    const roomy = width > 620;
    this.cx = width / 2 + left * 0.3;
    this.cy = height / 2 + (roomy ? 1 : 0);
    this.rx = Math.max(60, Math.min((width - (roomy ? 100 : 56)) / 2 - left * 0.3, height * 0.85) / 1.07);
    this.ry = Math.max(60, (height / 2 - (roomy ? 24 : 20)) / 1.09);
    this.centre = Math.max(22, Math.min(43, Math.min(this.rx, this.ry) * 0.17));
    for (const ring of RINGS) this.placeRing(ring);
  }

  // Half the angle of the gap at the bottom, at a part of the radius.
  gap(radius) {
    return Math.min(0.95, Math.asin(Math.min(0.95, Math.min(GAP_PX, this.rx * 0.24) / (this.rx * radius))));
  }

  point(angle, radius) {
    return [this.cx + Math.cos(angle) * this.rx * radius, this.cy + Math.sin(angle) * this.ry * radius];
  }

  // The angle of a place 0..1 in the document.
  angleAt(place, radius) {
    const gap = this.gap(radius);
    return Math.PI / 2 + gap + (TURN - 2 * gap) * place;
  }

  // Takes objects, those of the whole run where it is known (`exact`), or those that came last. True: others had to move.
  learn(lights, exact) {
    const crowded = new Set();
    for (const light of lights) {
      let spot = this.spots.get(light.id);
      const ring = Object.hasOwn(BANDS, light.ring) ? light.ring : "map";
      if (!spot) {
        spot = new Spot(light.id, ring, this.spots.size);
        this.spots.set(light.id, spot);
      } else if (spot.ring === ring && (spot.pos === light.pos || light.pos === null)) {
        this.call(spot, light);
        continue;
      } else {
        const left = this.rings[spot.ring];
        left.spots.splice(left.spots.indexOf(spot), 1);
        crowded.add(spot.ring);
      }
      spot.ring = ring;
      spot.pos = light.pos;
      this.call(spot, light);
      const there = this.rings[ring];
      there.spots.push(spot);
      if (exact || there.spots.length > there.places || !this.squeeze(there, spot)) crowded.add(ring);
      else this.place(spot);
    }
    if (exact && crowded.has("src")) {
      this.arrangeAll(true);
      return true;
    }
    for (const ring of crowded) {
      this.arrange(this.rings[ring], exact);
      this.placeRing(ring);
    }
    return crowded.size > 0;
  }

  // Gives all places anew, by what is known of the document by now: at the beginning of a phase, and at the end.
  arrangeAll(exact) {
    this.sources = this.rings.src.spots.filter((spot) => spot.pos !== null).map((spot) => spot.pos).sort((one, other) => one - other);
    for (const ring of RINGS) {
      if (!this.rings[ring].spots.length) continue;
      this.arrange(this.rings[ring], exact);
      this.placeRing(ring);
    }
  }

  call(spot, light) {
    const noun = nounOf(light);
    if (noun === spot.noun) return;
    const number = (this.numbers.get(noun) ?? 0) + 1;
    this.numbers.set(noun, number);
    spot.noun = noun;
    spot.name = noun === "report" && number === 1 ? noun : `${noun} ${number}`;
  }

  // The free place nearest to where it belongs.
  squeeze(there, spot) {
    const { places, taken } = there;
    if (!taken) return false;
    const want = Math.min(places - 1, Math.floor((spot.pos === null ? (there.spots.length - 0.5) / places : this.share(spot.pos)) * places));
    for (let away = 0; away < places; away++) {
      for (const slot of away ? [want + away, want - away] : [want]) {
        if (slot >= 0 && slot < places && !taken[slot]) {
          taken[slot] = 1;
          spot.slot = slot;
          return true;
        }
      }
    }
    return false;
  }

  // Gives all places of a ring anew: those with a place in the document in that order, each as near to it as the others let it;
  // those without one, by order, in what is left.
  arrange(there, exact) {
    const count = there.spots.length, wanted = new Map();
    const known = there.spots.filter((spot) => spot.pos !== null).sort((one, other) => one.pos - other.pos || one.index - other.index);
    for (const spot of known) wanted.set(spot, Math.max(0, Math.min(0.9999, this.share(spot.pos))));
    // So many places that where they stand closest each still finds one near its own.
    const parts = new Array(12).fill(0);
    for (const share of wanted.values()) parts[Math.floor(share * 12)]++;
    let places = Math.max(8, count, Math.ceil(Math.min(count * 2.2, Math.max(...parts) * 12)));
    if (!exact) for (places = 16; places < count; places = Math.ceil(places * 1.6)); // reserve: not every new one may move the others
    there.places = places;
    const taken = there.taken = new Uint8Array(places);
    let last = -1;
    for (const spot of known) {
      last = Math.max(last + 1, Math.floor(wanted.get(spot) * places));
      spot.slot = last;
    }
    let limit = places;
    for (let i = known.length - 1; i >= 0; i--) {
      limit = Math.min(known[i].slot, limit - 1);
      known[i].slot = limit;
      taken[limit] = 1;
    }
    const others = there.spots.filter((spot) => spot.pos === null);
    const free = [];
    for (let slot = 0; slot < places; slot++) if (!taken[slot]) free.push(slot);
    others.forEach((spot, i) => {
      spot.slot = free[Math.min(free.length - 1, Math.floor((i + 0.5) * free.length / others.length))];
      taken[spot.slot] = 1;
    });
  }

  placeRing(ring) {
    const there = this.rings[ring];
    if (!there.places) return;
    const [inner, outer] = BANDS[ring], middle = (inner + outer) / 2;
    const arc = (TURN - 2 * this.gap(Math.max(middle, 0.1))) * Math.sqrt((this.rx * this.rx + this.ry * this.ry) / 2) * middle;
    const deep = there.places * (outer - inner) * (this.rx + this.ry) / 2 / Math.max(arc, 1);
    there.rows = there.places <= ONE_ROW && arc / there.places > 5 ? 1 : Math.max(2, Math.min(ROWS_MAX, Math.ceil(Math.sqrt(deep))));
    there.columns = Math.ceil(there.places / there.rows);
    there.middle = middle;
    there.room = Math.min(arc / there.columns, there.rows > 1 ? (outer - inner) * this.ry / (there.rows - 1) : 99);
    for (const spot of there.spots) this.place(spot);
  }

  place(spot) {
    const there = this.rings[spot.ring];
    spot.room = there.room ?? 40;
    if (spot.ring === "ans") {
      [spot.x, spot.y] = [this.cx, this.cy];
      return;
    }
    const [inner, outer] = BANDS[spot.ring];
    const column = Math.floor(spot.slot / there.rows), row = spot.slot % there.rows;
    const radius = there.rows === 1 ? there.middle : outer + (inner - outer) * row / (there.rows - 1);
    spot.angle = this.angleAt((column + 0.5) / there.columns, there.middle);
    [spot.x, spot.y] = this.point(spot.angle, radius);
  }
}
