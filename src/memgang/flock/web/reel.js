// The reel: all records of a run that have come, each once and in order of time, and what they come to at the end.

import { Fold } from "./fold.js";

export class Reel {
  constructor() {
    this.records = [];
    this.ids = new Set();
    this.head = new Fold(); // after the last record that is known
    this.end = 0;
  }

  // Takes records, drops those it has had. Tells, of each that is new, its place: `placed(place, record)`.
  add(list, placed = null) {
    const fresh = [];
    for (const record of list) {
      if (record && typeof record.t === "number" && typeof record.op === "string" && !(record.id && this.ids.has(record.id))) {
        if (record.id) this.ids.add(record.id);
        fresh.push(record);
      }
    }
    // Batches are written up to 100 ms after their lines happened; within one, order is nearly that of time.
    fresh.sort((one, other) => one.t - other.t);
    for (const record of fresh) {
      let place = this.records.length;
      while (place > 0 && this.records[place - 1].t > record.t) place--;
      if (place === this.records.length) this.records.push(record);
      else this.records.splice(place, 0, record);
      this.head.apply(record);
      if (record.t > this.end) this.end = record.t;
      if (placed) placed(place, record);
    }
    return fresh;
  }

  // How many records there are up to and with `t`.
  until(t) {
    let low = 0, high = this.records.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.records[middle].t <= t) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
