// How birds fly. Each goes to what its agent works on and circles there; those at rest circle together, inside. Seeded by name,
// stepped by the viewer's time: a moment that is sought twice is the same picture twice.

import { chanceOf, idleLook, lookOf } from "./roles.js";
import { BANDS, TURN } from "./layout.js";

// What is done in an instant is shown so long, in ms of the viewer's time; then the agent is at rest.
const SHOWN_MS = { read: 1500, write: 1300, reuse: 1900, error: 2400 };
const TRAIL = 14;

class Bird {
  constructor(name, index, alias) {
    this.name = name;
    this.index = index;
    this.alias = alias;
    this.agent = null;
    this.phase = chanceOf(name) * TURN;
    this.spin = chanceOf(name + "'") < 0.5 ? -1 : 1;
    this.state = "idle";
    this.look = idleLook();
    this.x = this.y = this.vx = this.vy = this.heading = this.turn = 0;
    this.beat = this.phase;
    this.trail = [];
    this.slot = 0; // where its label stands
    this.spot = null; // the object it is at
    this.leader = null; // the bird it waits for
    this.rank = 0; // which it is of those round the same thing
    this.company = 1;
  }
}

export class Birds {
  constructor(dial, aliases) {
    this.dial = dial;
    this.aliases = aliases;
    this.clear();
  }

  clear() {
    this.list = [];
    this.byName = new Map();
  }

  // Meets the agents of a fold; new ones start in the middle of the flock, or, where `land`, all start where they work.
  meet(fold, land = false) {
    if (land || fold.agents.size !== this.list.length) {
      for (const agent of fold.agents.values()) {
        let bird = this.byName.get(agent.name);
        if (!bird) {
          bird = new Bird(agent.name, this.list.length, this.aliases.of(agent.name));
          this.list.push(bird);
          this.byName.set(agent.name, bird);
          this.start(bird);
        }
        bird.agent = agent;
      }
    }
  }

  start(bird) {
    const radius = 0.3 + 0.12 * chanceOf(bird.name + "r");
    [bird.x, bird.y] = this.dial.point(bird.phase, radius);
    bird.vx = Math.cos(bird.phase + 1.6) * 40;
    bird.vy = Math.sin(bird.phase + 1.6) * 40;
    bird.heading = bird.phase + 1.6;
    bird.trail.length = 0;
  }

  // What each does at `t`. `pace`: ms of the run in a ms of the viewer's.
  observe(fold, t, pace) {
    const busy = new Set();
    for (const flight of fold.flights.values()) busy.add(flight.agent);
    const round = new Map();
    for (const bird of this.list) {
      const agent = bird.agent;
      let state = agent.state;
      if (state in SHOWN_MS && t - agent.at > SHOWN_MS[state] * pace) state = "idle";
      if (state === "idle" && busy.has(agent.name)) state = "work"; // its last line ended one call; another goes on
      bird.state = state;
      bird.look = state === "idle" ? idleLook() : lookOf(agent.role);
      bird.spot = state === "idle" || state === "gone" || !agent.obj ? null : this.dial.spots.get(agent.obj) ?? null;
      bird.leader = null;
      if (state === "wait") {
        const flight = fold.flights.get(agent.call), leads = flight ? flight.agent : agent.by;
        const leader = leads && leads !== bird.name ? this.byName.get(leads) : null;
        // Two that wait for each other would chase each other off the picture.
        if (leader && leader.agent.state !== "wait") bird.leader = leader;
      }
      const at = bird.leader ?? bird.spot;
      const others = at ? round.get(at) : null;
      if (others) others.push(bird);
      else if (at) round.set(at, [bird]);
    }
    for (const company of round.values()) {
      company.forEach((bird, rank) => {
        bird.rank = rank;
        bird.company = company.length;
      });
    }
  }

  // Puts all at what they do now, and lets them find their places.
  settle(fold, t, pace, steps, time) {
    for (const bird of this.list) this.start(bird);
    this.observe(fold, t, pace);
    for (const bird of this.list) {
      const [x, y] = this.aim(bird, time);
      bird.x = x;
      bird.y = y;
    }
    for (let i = 0; i < steps; i++) this.step(1 / 30, time - (steps - i) / 30, false);
    for (const bird of this.list) bird.trail.length = 0;
  }

  aim(bird, time) {
    const { dial } = this, count = this.list.length, many = count > 120;
    const at = bird.leader ?? bird.spot;
    if (!at) { // round the middle, but not across the names of the rings
      const wide = Math.min(0.86, 0.22 + count / 500), along = (bird.index / Math.max(count, 1) * wide + time * 0.03) % 1;
      return dial.point(dial.angleAt(0.05 + along * 0.9, 0.36), 0.365 + 0.05 * Math.sin(bird.phase + time * 0.7));
    }
    const thinks = bird.state === "think" || bird.state === "work", waits = bird.state === "wait";
    // Those at one thing fly round it in circles, evenly.
    const each = many ? 12 : 7, shell = Math.floor(bird.rank / each), inShell = Math.min(each, bird.company - shell * each);
    let radius = (many ? 11 : count > 24 ? 17 : 22) + (waits ? 10 : 0) + (many ? 11 : count > 24 ? 17 : 30) * shell;
    if (inShell > 3) radius += (inShell - 3) * (many ? 0.6 : count > 24 ? 2 : 4.5);
    if (bird.spot && !bird.leader && bird.spot.ring === "ans") radius += dial.centre * 1.2;
    const turn = TURN * (bird.rank % each) / inShell, first = bird.company > 1 ? shell : bird.phase;
    const along = first + turn + time * (waits ? 1.2 : 1.7) * (shell % 2 ? -1 : 1) * (bird.company > 1 ? 1 : bird.spin);
    // From the inside, so that birds do not hide what they are at.
    const inwards = bird.leader ? 0 : thinks ? 0.08 : 0.02;
    return [at.x + (dial.cx - at.x) * inwards + Math.cos(along) * radius, at.y + (dial.cy - at.y) * inwards + Math.sin(along) * radius];
  }

  step(dt, time, reduced) {
    const birds = this.list, { dial } = this, count = birds.length, many = count > 120, cell = many ? 34 : 60;
    const grid = new Map();
    for (const bird of birds) {
      const key = Math.floor(bird.x / cell) * 4096 + Math.floor(bird.y / cell);
      const there = grid.get(key);
      if (there) there.push(bird);
      else grid.set(key, [bird]);
    }
    const fastest = Math.min(dial.rx, dial.ry) * (reduced ? 0.35 : 1.5);
    const apart = many ? 13 : count > 20 ? 26 : 44, keepOut = dial.centre * 1.5;
    for (const bird of birds) {
      const [tx, ty] = this.aim(bird, time);
      const dx = tx - bird.x, dy = ty - bird.y, far = Math.hypot(dx, dy) || 1, want = Math.min(fastest, far * 3.2 + 18);
      let ax = (dx / far * want - bird.vx) * 3.4, ay = (dy / far * want - bird.vy) * 3.4, mx = 0, my = 0, mates = 0;
      const gx = Math.floor(bird.x / cell), gy = Math.floor(bird.y / cell);
      for (let i = -1; i <= 1; i++) {
        for (let j = -1; j <= 1; j++) {
          const near = grid.get((gx + i) * 4096 + gy + j);
          if (!near) continue;
          for (let n = 0; n < near.length && n < 14; n++) {
            const other = near[n];
            if (other === bird) continue;
            const ex = bird.x - other.x, ey = bird.y - other.y, square = ex * ex + ey * ey;
            if (square < apart * apart && square > 0.01) {
              const between = Math.sqrt(square), push = (apart - between) / apart * fastest * 2.2 / between;
              ax += ex * push;
              ay += ey * push;
            }
            if (other.look === bird.look) {
              mx += other.vx;
              my += other.vy;
              mates++;
            }
          }
        }
      }
      if (mates) {
        ax += (mx / mates - bird.vx) * 0.7;
        ay += (my / mates - bird.vy) * 0.7;
      }
      const cx = bird.x - dial.cx, cy = bird.y - dial.cy, out = Math.hypot(cx, cy) || 1;
      if (out < keepOut) {
        const push = (keepOut - out) / keepOut * fastest * 6;
        ax += cx / out * push;
        ay += cy / out * push;
      }
      ax -= cy * 0.1; // one slow turn for all
      ay += cx * 0.1;
      bird.vx += ax * dt;
      bird.vy += ay * dt;
      const speed = Math.hypot(bird.vx, bird.vy);
      if (speed > fastest) {
        bird.vx *= fastest / speed;
        bird.vy *= fastest / speed;
      }
      bird.x += bird.vx * dt;
      bird.y += bird.vy * dt;
      const rim = BANDS.src[1] + 0.05, over = Math.hypot((bird.x - dial.cx) / dial.rx, (bird.y - dial.cy) / dial.ry);
      if (over > rim) {
        bird.x = dial.cx + (bird.x - dial.cx) * rim / over;
        bird.y = dial.cy + (bird.y - dial.cy) * rim / over;
      }
      bird.beat += dt * (7 + speed * 0.045);
      const heading = Math.atan2(bird.vy, bird.vx);
      bird.turn = ((heading - bird.heading) % TURN + TURN * 1.5) % TURN - Math.PI;
      bird.heading += bird.turn * Math.min(1, dt * 9);
      if (!reduced && count <= 500) {
        bird.trail.push(bird.x, bird.y);
        if (bird.trail.length > (many ? TRAIL : TRAIL * 2)) bird.trail.splice(0, 2);
      }
    }
  }
}
