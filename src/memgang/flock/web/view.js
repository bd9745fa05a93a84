// What part of the dial is seen: drag, wheel, pinch, and a flight to what was looked for.

const CLOSEST = 14;

export class View {
  constructor() {
    this.k = 1;
    this.x = this.y = 0;
    this.goal = null;
    this.width = this.height = 1;
  }

  resize(width, height) {
    this.width = width;
    this.height = height;
    this.hold();
  }

  toScreen(x, y) {
    return [x * this.k + this.x, y * this.k + this.y];
  }

  toDial(x, y) {
    return [(x - this.x) / this.k, (y - this.y) / this.k];
  }

  // Zooms by a factor and keeps what is under (x, y) there.
  zoom(factor, x, y) {
    const k = Math.max(1, Math.min(CLOSEST, this.k * factor)), real = k / this.k;
    this.x = x - (x - this.x) * real;
    this.y = y - (y - this.y) * real;
    this.k = k;
    this.goal = null;
    this.hold();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.goal = null;
    this.hold();
  }

  // The dial does not leave the stage.
  hold() {
    this.x = Math.min(0, Math.max(this.width * (1 - this.k), this.x));
    this.y = Math.min(0, Math.max(this.height * (1 - this.k), this.y));
  }

  // Sets out for a place of the dial; `at once` without the flight.
  fly(x, y, k, atOnce) {
    const inside = (size, at) => Math.min(0, Math.max(size * (1 - k), size / 2 - at * k));
    this.goal = { x: inside(this.width, x), y: inside(this.height, y), k };
    if (atOnce) {
      Object.assign(this, this.goal);
      this.goal = null;
      this.hold();
    }
  }

  home(atOnce) {
    this.fly(this.width / 2, this.height / 2, 1, atOnce);
  }

  // A step of the flight; true while it goes on.
  step(dt) {
    if (!this.goal) return false;
    const part = 1 - Math.exp(-dt * 6.5), { goal } = this;
    this.k += (goal.k - this.k) * part;
    this.x += (goal.x - this.x) * part;
    this.y += (goal.y - this.y) * part;
    if (Math.abs(goal.k - this.k) < 0.004 * goal.k && Math.abs(goal.x - this.x) + Math.abs(goal.y - this.y) < 0.8) {
      Object.assign(this, { k: goal.k, x: goal.x, y: goal.y });
      this.goal = null;
    }
    this.hold();
    return true;
  }
}
