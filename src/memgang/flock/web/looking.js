// Looking closer: what is pointed at, chosen, or searched for, and the flight to it.

import { make, say, show } from "./dom.js";
import { lineageOf } from "./lineage.js";
import { clip, counted, lasted, sized } from "./naming.js";
import { doing } from "./words.js";

export class Looking {
  constructor(flock) {
    this.flock = flock;
    this.reset();
  }

  reset() {
    this.picked = this.pointed = this.lineage = null; // {kind: "agent" or "object", id}
    this.matches = [];
    this.matchAt = 0;
    this.sought = "";
  }

  marks() {
    const marks = this.matches.slice(0, 60).filter((match) => this.present(match)).map((match) => ({ ...match, how: "found" }));
    if (this.picked) marks.unshift({ ...this.picked, how: "picked" });
    if (this.pointed && !(this.picked && this.pointed.id === this.picked.id)) marks.unshift({ ...this.pointed, how: "pointed" });
    return marks;
  }

  present({ kind, id }) {
    return kind === "agent" ? this.flock.birds.byName.has(id) : this.flock.fold.lights.has(id) && this.flock.dial.spots.has(id);
  }

  // What is at a place of the stage.
  point(x, y) {
    let best = null, nearest = 22 * 22;
    for (const bird of this.flock.birds.list) {
      if (bird.state === "gone") continue;
      const [bx, by] = this.flock.view.toScreen(bird.x, bird.y), far = (bx - x) ** 2 + (by - y) ** 2;
      if (far < nearest) [nearest, best] = [far, { kind: "agent", id: bird.name }];
    }
    nearest = Math.min(nearest, 11 * 11);
    for (const id of this.flock.fold.lights.keys()) {
      const spot = this.flock.dial.spots.get(id);
      if (!spot) continue;
      const [sx, sy] = this.flock.view.toScreen(spot.x, spot.y), reach = spot.ring === "ans" ? this.flock.dial.centre * this.flock.view.k : 0;
      const far = Math.max(0, Math.hypot(sx - x, sy - y) - reach) ** 2;
      if (far < nearest) [nearest, best] = [far, { kind: "object", id }];
    }
    return best;
  }

  hover(x, y) {
    const found = this.point(x, y), { tip, stage } = this.flock.parts;
    stage.classList.toggle("over", Boolean(found));
    show(tip, Boolean(found));
    if (found) {
      tip.replaceChildren(...this.facts(found).map((text, i) => make(i ? "span" : "b", {}, text)));
      tip.style.left = Math.max(6, Math.min(x + 16, this.flock.dial.width - tip.offsetWidth - 6)) + "px";
      tip.style.top = Math.max(6, Math.min(y + 16, this.flock.dial.height - tip.offsetHeight - 6)) + "px";
    }
    if (found?.id !== this.pointed?.id) this.flock.urgent = true;
    this.pointed = found;
  }

  // Lines about an agent or an object.
  facts({ kind, id }) {
    if (kind === "agent") {
      const bird = this.flock.birds.byName.get(id), { agent } = bird;
      return [clip(id, 80), `${agent.role || "no role"} \u00b7 ${bird.state === "idle" ? "rests" : doing(bird, this.flock.dial)}`,
        `read ${agent.reads} \u00b7 wrote ${agent.writes} \u00b7 reused ${agent.reuses} \u00b7 asked ${agent.asked}`,
        `saved ${counted(agent.saved[2] + agent.saved[3])} tokens${agent.wait_ms ? ` \u00b7 waited ${lasted(agent.wait_ms)}` : ""}${agent.errors ? ` \u00b7 ${agent.errors} ${agent.errors === 1 ? "error" : "errors"}` : ""}`];
    }
    const light = this.flock.fold.lights.get(id);
    return [`${this.flock.hud.nameOf(id)}  ${id}`, `${light.by ? "by " + this.flock.aliases.of(light.by) : light.written ? "" : "not written in this run so far"}`,
      `${light.tok ? counted(light.tok) + " tok \u00b7 " : ""}${light.bytes ? sized(light.bytes) + " \u00b7 " : ""}read ${light.reads} \u00b7 reused ${light.reuses}`,
      light.src.length ? `from ${light.src.slice(0, 3).map((parent) => this.flock.hud.nameOf(parent)).join(", ")}${light.src.length > 3 ? ` and ${light.src.length - 3} more` : ""}` : "",
      light.gone ? `gone: ${light.gone}` : ""].filter(Boolean);
  }

  pick(x, y) {
    const found = this.point(x, y);
    if (found) this.chosen(found.kind, found.id, false);
    else this.clear();
  }

  // By the viewer: marked, and told to whoever embeds the flock.
  chosen(kind, id, fly = true) {
    if (!id) return;
    this.select(kind, id, fly);
    this.flock.options.onSelect?.({ kind, id });
  }

  select(kind, id, fly = true) {
    if (!id) {
      this.clear();
      return;
    }
    const known = kind === "object" && !this.flock.reel.head.lights.has(id) ? id.slice(0, 10) : id;
    this.picked = { kind, id: known };
    this.lineage = kind === "object" ? lineageOf(this.flock.fold, known) : null;
    if (fly) this.flyTo(this.picked);
    this.flock.urgent = true;
  }

  flyTo({ kind, id }) {
    const at = kind === "agent" ? this.flock.birds.byName.get(id) : this.flock.dial.spots.get(id);
    if (!at) return;
    this.flock.view.fly(at.x, at.y, Math.max(this.flock.view.k, this.flock.dial.spots.size > 400 ? 3.2 : 2), this.flock.reduced);
    this.flock.moved();
  }

  clear() {
    this.picked = this.lineage = this.pointed = null;
    if (this.sought) this.search("");
    this.flock.parts.search.value = "";
    this.home();
  }

  home() {
    this.flock.view.home(this.flock.reduced);
    this.flock.moved();
  }

  moved() {
    this.still.dirty = true;
    this.flock.urgent = true;
  }

  // Finds agents and objects by name, id, kind or role; flies to the first. Returns how many there are.
  search(text) {
    const sought = this.sought = text.trim().toLowerCase().slice(0, 200);
    this.matches = [];
    this.matchAt = 0;
    if (sought) {
      const exact = [], others = [];
      const test = (kind, id, ...names) => {
        const lower = names.map((name) => name.toLowerCase());
        if (lower.includes(sought)) exact.push({ kind, id });
        else if (lower.some((name) => name.includes(sought))) others.push({ kind, id });
      };
      for (const bird of this.flock.birds.list) test("agent", bird.name, bird.name, bird.alias, bird.agent.role);
      for (const light of this.flock.fold.lights.values()) test("object", light.id, light.id, this.flock.hud.nameOf(light.id), light.kind);
      this.matches = [...exact, ...others];
      if (this.matches.length && this.matches.length <= 2000) this.flyTo(this.matches[0]);
    }
    say(this.flock.parts.found, sought ? (this.matches.length ? `${Math.min(1, this.matches.length)}/${counted(this.matches.length)}` : "none") : "");
    this.flock.urgent = true;
    return this.matches.length;
  }

  // The next that was found.
  next() {
    if (!this.matches.length) return;
    const match = this.matches[this.matchAt % this.matches.length];
    this.select(match.kind, match.id);
    say(this.flock.parts.found, `${this.matchAt % this.matches.length + 1}/${counted(this.matches.length)}`);
    this.matchAt++;
  }
}
