// The task stream: what each agent did when, by state; above 24 agents, how many did what. It is the scrubber too.
// It is painted whole into a buffer when there is something new; a frame copies that and draws where we are.

import { clip } from "./naming.js";
import { STATE_HUES, tint } from "./palette.js";
import { phaseOf } from "./roles.js";

const STATES = ["think", "work", "read", "write", "reuse", "wait", "error"];
const BRIEF = new Set(["read", "write", "reuse", "error"]); // done in an instant: shown so long that it can be seen
const HEAD = 15, STREAM_ROWS = 24, NAMES_MAX = 12;
const STREAM_FONT = "Inter,system-ui,-apple-system,'Segoe UI',sans-serif";

// Changes of state, by agent, in order of time.
export class Streams {
  constructor() {
    this.rows = new Map(); // name -> {times: [], states: []}
    this.version = 0;
  }

  // After `fold` has taken `record`.
  note(record, fold) {
    if (record.op === "run_end") {
      for (const agent of fold.agents.values()) this.change(agent, record.t);
    } else if (record.agent) {
      const agent = fold.agents.get(record.agent);
      if (agent) this.change(agent, record.t, record.op);
    }
  }

  change(agent, t, op = "") {
    let row = this.rows.get(agent.name);
    if (!row) this.rows.set(agent.name, row = { times: [], states: [] });
    const last = row.states.length - 1;
    // The same again is worth a mark of its own where it is brief.
    if (last >= 0 && row.states[last] === agent.state && !(BRIEF.has(agent.state) && op && agent.at === t)) return;
    if (last >= 0 && t < row.times[last]) return;
    row.times.push(t);
    row.states.push(agent.state);
    this.version++;
  }

  // Each stretch of a row: `tell(from, to, state)`.
  each(row, end, brief, tell) {
    const { times, states } = row;
    for (let i = 0; i < times.length; i++) {
      const state = states[i], to = i + 1 < times.length ? times[i + 1] : end;
      if (state === "idle" || state === "gone") continue;
      tell(times[i], BRIEF.has(state) ? Math.min(to, times[i] + brief) : to, state);
    }
  }

  // How many agents were in each state, on average, in each of `count` parts of the run.
  histogram(count, end, brief) {
    const parts = STATES.map(() => new Float32Array(count)), wide = Math.max(end, 1) / count;
    for (const row of this.rows.values()) {
      this.each(row, end, brief, (from, to, state) => {
        const list = parts[STATES.indexOf(state)];
        if (!list) return;
        const first = Math.max(0, Math.min(count - 1, Math.floor(from / wide))), last = Math.max(0, Math.min(count - 1, Math.floor(to / wide)));
        for (let i = first; i <= last; i++) list[i] += Math.max(0, Math.min(to, (i + 1) * wide) - Math.max(from, i * wide)) / wide;
      });
    }
    return parts;
  }
}

export class Timeline {
  constructor(canvas, aliases) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.buffer = document.createElement("canvas");
    this.aliases = aliases;
    this.painted = "";
  }

  // px it should be high, by how many agents there are.
  heightFor(agents, narrow) {
    if (!agents) return 46;
    if (agents <= NAMES_MAX) return HEAD + Math.max(3, agents) * 12;
    if (agents <= STREAM_ROWS) return HEAD + agents * (narrow ? 4 : 5);
    return narrow ? 66 : 92;
  }

  gutter(agents) {
    return agents && agents <= NAMES_MAX && this.width > 420 ? 78 : 0;
  }

  resize(width, height, ratio) {
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    Object.assign(this, { width, height, ratio });
    for (const canvas of [this.canvas, this.buffer]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.painted = "";
  }

  timeAt(x, end, agents) {
    const gutter = this.gutter(agents);
    return Math.max(0, Math.min(1, (x - gutter) / Math.max(1, this.width - gutter))) * end;
  }

  // `end`: the end of the axis, ms.
  draw(streams, phases, palette, theme, t, end) {
    if (!this.width) return;
    const state = `${theme} ${streams.version} ${end} ${phases.length}`;
    if (state !== this.painted) {
      this.painted = state;
      this.paint(streams, phases, palette, end);
    }
    const { pen, width, height, ratio } = this, agents = streams.rows.size, gutter = this.gutter(agents);
    const x = gutter + Math.min(1, t / end) * (width - gutter);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.buffer, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = tint(palette.deep, 0.68); // what is to come
    pen.fillRect(x, 0, width - x, height);
    pen.fillStyle = palette.ink;
    pen.fillRect(x - 0.75, 0, 1.5, height);
    pen.beginPath();
    pen.moveTo(x - 5, 0);
    pen.lineTo(x + 5, 0);
    pen.lineTo(x, 6);
    pen.fill();
  }

  paint(streams, phases, palette, end) {
    const { width, height, ratio } = this, pen = this.buffer.getContext("2d");
    const agents = streams.rows.size, gutter = this.gutter(agents), X = (t) => gutter + t / end * (width - gutter);
    const brief = Math.max(end / 160, 4);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    for (const [name, from, to] of phases) {
      const left = X(Math.max(0, from)), wide = X(Math.min(end, to ?? end)) - left, colour = palette[phaseOf(name).hue];
      pen.fillStyle = tint(colour, 0.1);
      pen.fillRect(left, 0, wide, height);
      pen.fillStyle = colour;
      pen.fillRect(left, 0, wide, 2);
      pen.font = `600 10px ${STREAM_FONT}`;
      const long = pen.measureText(clip(name, 16)).width, corner = agents > STREAM_ROWS ? 78 : 0; // where the scale stands
      if (wide > long + 12 && left + long + 10 < width - corner) pen.fillText(clip(name, 16), left + 5, 9);
    }
    if (agents && agents <= STREAM_ROWS) this.rows(pen, streams, palette, end, brief, X, gutter);
    else if (agents) this.stack(pen, streams, palette, end, brief, X, gutter);
  }

  rows(pen, streams, palette, end, brief, X, gutter) {
    const high = (this.height - HEAD) / Math.max(3, streams.rows.size);
    let top = HEAD;
    for (const [name, row] of streams.rows) {
      if (gutter) {
        pen.font = `500 10px ${STREAM_FONT}`;
        pen.fillStyle = palette.mut;
        pen.fillText(clip(this.aliases.of(name), 14), 2, top + high / 2 + 0.5);
      }
      streams.each(row, end, brief, (from, to, state) => {
        if (!(state in STATE_HUES)) return;
        const left = X(from);
        pen.fillStyle = palette[STATE_HUES[state]];
        pen.globalAlpha = state === "work" ? 0.55 : 1;
        pen.fillRect(left, top + 1, Math.max(state === "reuse" || state === "error" ? 2.4 : 1.1, X(to) - left), Math.max(1, high - 2));
      });
      pen.globalAlpha = 1;
      top += high;
    }
  }

  stack(pen, streams, palette, end, brief, X, gutter) {
    const count = Math.max(20, Math.min(480, Math.floor((this.width - gutter) / 3))), parts = streams.histogram(count, end, brief);
    let most = 1;
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (const list of parts) sum += list[i];
      most = Math.max(most, sum);
    }
    const wide = (this.width - gutter) / count, scale = (this.height - HEAD - 3) / most, base = new Float32Array(count);
    STATES.forEach((state, place) => {
      pen.fillStyle = palette[STATE_HUES[state]];
      pen.globalAlpha = state === "work" ? 0.55 : 1;
      for (let i = 0; i < count; i++) {
        const high = parts[place][i] * scale;
        if (high > 0) pen.fillRect(gutter + i * wide, this.height - base[i] - high, wide - (wide > 2.5 ? 0.6 : 0), high);
        base[i] += high;
      }
    });
    pen.globalAlpha = 1;
    pen.font = `500 10px ${STREAM_FONT}`;
    pen.fillStyle = palette.dim;
    pen.textAlign = "right";
    pen.fillText(`${Math.round(most)} at work`, this.width - 4, 9);
    pen.textAlign = "left";
  }
}
