// The budget of a frame. Fewer arcs, then no trails and one pixel a pixel, where frames come late; back again, slowly, where
// they do not.

const SLOW_MS = 26, QUICK_MS = 18.5, LEVEL_MAX = 2, FRAMES = 45;

export class Governor {
  constructor() {
    this.level = 0;
    this.calm = 0;
    this.forget();
  }

  // What was measured until now says nothing: a jump, or a page that was hidden.
  forget() {
    this.spent = this.frames = 0;
  }

  // After a frame that took `dt` seconds. True where the level has changed.
  frame(dt) {
    if (dt > 0.25) this.forget();
    else {
      this.spent += dt * 1000;
      this.frames++;
    }
    if (this.frames < FRAMES) return false;
    const mean = this.spent / this.frames, before = this.level;
    this.forget();
    this.calm = mean < QUICK_MS ? this.calm + 1 : 0;
    if (mean > SLOW_MS) this.level = Math.min(LEVEL_MAX, this.level + 1);
    else if (this.calm >= 12 && this.level > 0) {
      this.level--;
      this.calm = -12; // twice as long before the next step, so that it does not go to and fro
    }
    return this.level !== before;
  }
}
