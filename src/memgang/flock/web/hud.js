// Everything that is said in words and numbers. Written five times a second at most, and only what has changed.

import { make, rowsOf, safeAddress, say, show } from "./dom.js";
import { counted, dollars, lasted, moment, clip } from "./naming.js";
import { lookOf, phaseOf, phasesToCome } from "./roles.js";
import { lately, mostReused, savedShare, tokensOf, waitingOf } from "./story.js";
import { doing } from "./words.js";

const BAD = new Set(["failed", "connection lost", "refused"]);
const FIGURE_NAMES = ["calls", "tokens", "cost", "time"];

export class Hud {
  // `choose(kind, id)` is called where a name is clicked; `href({kind, id})` gives the address of its page, or null.
  constructor(parts, aliases, dial, choose, href) {
    Object.assign(this, { parts, aliases, dial, choose, href });
    this.figures = {};
    for (const name of FIGURE_NAMES) {
      const value = make("dd"), text = make("dt");
      parts.figures.append(make("div", {}, text, value));
      this.figures[name] = [value, text];
    }
    this.heard = { phases: 0, errors: 0, ended: "" };
    this.high = 0;
  }

  // `now`: header, fold, head, records, place, t, end, mode, following, playing, connection, whole, slowed, birds, quiet
  update(now) {
    this.head(now);
    this.saved(now.fold);
    const room = this.room();
    this.hot(now.fold, room.hot);
    this.waits(now, room.wait);
    this.agents(now, room.agents);
    this.now(now, room.now);
    this.foot(now);
    if (!now.quiet) this.tell(now);
    else this.heard = { phases: now.fold.phases.length, errors: now.fold.counts.failed + now.fold.counts.refused, ended: now.fold.ended };
  }

  // After the page has changed its size.
  measure() {
    this.high = this.parts.side.clientHeight;
  }

  // How many rows each list may have: rows are left out, never cut in half.
  room() {
    const left = this.high - 214, narrow = this.parts.el.classList.contains("narrow");
    if (narrow) return { hot: 3, wait: 2, agents: 0, now: 0 };
    // [title and gap, px of a row, at least, at most]; first what each needs, in order of importance, then what is left over.
    const lists = { hot: [36, 25, 2, 5], wait: [36, 19, 1, 3], agents: [36, 20, 3, 10], now: [36, 21, 2, 7] }, room = { hot: 0, wait: 0, agents: 0, now: 0 };
    let free = left;
    for (const [name, [title, row, least]] of Object.entries(lists)) {
      if (title + row * least > free) continue;
      room[name] = least;
      free -= title + row * least;
    }
    for (let grown = true; grown;) {
      grown = false;
      for (const [name, [, row, , most]] of Object.entries(lists)) {
        if (!room[name] || room[name] >= most || row > free) continue;
        room[name]++;
        free -= row;
        grown = true;
      }
    }
    return room;
  }

  head({ header, fold, head, mode, following, connection, whole }) {
    const { parts } = this;
    say(parts.title, clip(header.title || fold.title || head.title || header.run || "No run yet", 200));
    parts.title.title = clip(header.title || fold.title || header.run || "", 300);
    const badge = badgeOf(mode, connection, following, fold, header);
    say(parts.badgeText, badge);
    parts.badge.className = "mg-badge" + (badge === "live" ? " on" : BAD.has(badge) ? " bad" : "");
    const chips = [header.synthetic && "synthetic", header.masked && "names hidden"].filter(Boolean);
    const rows = rowsOf(parts.chips, chips.length, () => make("span", { class: "mg-chip" }));
    chips.forEach((text, i) => say(rows[i], text));
    const seen = (whole ? head : fold).phases.map(([name]) => name).filter((name, i, all) => name !== "done" && all.indexOf(name) === i);
    const names = (seen.length ? (whole ? seen : phasesToCome(seen)) : []).slice(0, 7);
    const current = fold.phases.at(-1)?.[0] ?? "", place = fold.ended ? names.length : names.indexOf(current);
    const steps = rowsOf(parts.phases, names.length, () => make("li"));
    names.forEach((name, i) => {
      say(steps[i], clip(name, 16));
      steps[i].className = i < place ? "past" : i === place ? "now" : "";
      steps[i].setAttribute("aria-current", i === place ? "step" : "false");
      steps[i].style.setProperty("--c", `var(--mg-${phaseOf(name).hue})`);
    });
  }

  saved(fold) {
    const { parts, figures } = this, avoided = fold.avoidedTotal(), made = fold.physical, share = savedShare(fold);
    const percent = share === null ? 0 : share * 100;
    say(parts.share, share === null ? "\u2013" : (percent > 0 && percent < 1 ? "<1" : String(Math.floor(percent))) + "%");
    parts.made.style.width = 100 - percent + "%";
    parts.unmade.style.width = percent + "%";
    const set = (name, value, text) => {
      say(figures[name][0], value);
      say(figures[name][1], text);
    };
    const about = avoided[8] ? "\u2248" : "";
    set("calls", counted(avoided[1]), `of ${counted(avoided[1] + made[1])} calls`);
    set("tokens", about + counted(avoided[2] + avoided[3]), `of ${counted(avoided[2] + avoided[3] + made[2] + made[3])} tokens`);
    const priced = avoided[5] || made[5];
    set("cost", priced ? dollars(avoided[5]) : "\u2013", priced ? `of ${dollars(avoided[5] + made[5])}` : "no price known");
    set("time", lasted(avoided[6]), "agent time");
    const counts = fold.counts, notes = [];
    if (counts.joined) notes.push(`${counted(counts.joined)} joined a call under way, ${lasted(counts.wait_us / 1000)} waited`);
    if (counts.failed) notes.push(`${counted(counts.failed)} failed`);
    if (fold.overhead_us) notes.push(`MemGang's own time ${lasted(fold.overhead_us / 1000)}`);
    say(parts.note, notes.join(" \u00b7 "));
  }

  // A name that leads to its page, where there is one, and is chosen where not.
  name(kind) {
    const node = make("a", { class: "mg-name", tabindex: "0", role: "button" });
    const go = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      if (node.hasAttribute("href") && (event.metaKey || event.ctrlKey)) return;
      event.preventDefault();
      event.stopPropagation();
      this.choose(kind, node.dataset.id);
    };
    node.addEventListener("click", go);
    node.addEventListener("keydown", go);
    return node;
  }

  setName(node, kind, id, text) {
    say(node, text);
    if (node.dataset.id === id) return;
    node.dataset.id = id;
    node.tabIndex = 0;
    node.title = clip(id, 300);
    const address = this.href ? safeAddress(this.href({ kind, id })) : null;
    if (address) {
      node.setAttribute("href", address);
      node.removeAttribute("role"); // it is a link then
    } else {
      node.removeAttribute("href");
      node.setAttribute("role", "button");
    }
  }

  nameOf(id) {
    return this.dial.spots.get(id)?.name ?? clip(id, 12);
  }

  hot(fold, most) {
    const { parts } = this, top = mostReused(fold, 5).slice(0, most), first = Math.max(1, ...top.map((light) => light.reuses));
    show(parts.hotBox, most > 0);
    if (top.length && parts.hot.contains(parts.hot.getRootNode().activeElement)) return; // what has the focus does not become something else
    const rows = rowsOf(parts.hot, Math.max(top.length, 1), () => make("div", {}, this.name("object"), make("em"), make("u", { "aria-hidden": "true" })));
    if (!top.length) {
      say(rows[0].children[0], "nothing reused yet");
      rows[0].className = "none";
      say(rows[0].children[1], "");
      for (const name of ["data-id", "href", "role", "tabindex", "title"]) rows[0].children[0].removeAttribute(name); // a text, and no button
      rows[0].children[2].style.width = "0";
      return;
    }
    top.forEach((light, i) => {
      const [name, times, bar] = rows[i].children;
      rows[i].className = "";
      this.setName(name, "object", light.id, this.nameOf(light.id) + (light.by ? `  by ${this.aliases.of(light.by)}` : ""));
      say(times, "\u00d7" + counted(light.reuses));
      bar.style.width = light.reuses / first * 100 + "%";
    });
  }

  waits({ fold, t }, most) {
    const { parts } = this, all = waitingOf(fold).sort((one, other) => one.since - other.since), shown = all.slice(0, Math.max(1, most));
    show(parts.waitBox, most > 0);
    say(parts.waitHead, all.length > shown.length ? `Who waits for whom (${all.length})` : "Who waits for whom");
    const rows = rowsOf(parts.wait, Math.max(1, shown.length), () => make("div", {}, make("span"), make("em")));
    if (!shown.length) {
      const { counts } = fold;
      rows[0].className = "none";
      say(rows[0].children[0], counts.waits || counts.joined ? "nobody at the moment" : "nobody has waited");
      say(rows[0].children[1], "");
    }
    shown.forEach((wait, i) => {
      rows[i].className = "";
      say(rows[i].children[0], `${this.aliases.of(wait.agent)} waits for ${wait.by ? this.aliases.of(wait.by) : "another"}`);
      say(rows[i].children[1], lasted(t - wait.since));
    });
  }

  agents({ birds }, most) {
    const { parts } = this, all = birds.list.filter((bird) => bird.state !== "gone"), few = all.length <= most;
    show(parts.agentsBox, most > 0 && all.length > 0);
    const rank = (bird) => bird.agent.saved[2] + bird.agent.saved[3];
    const rests = (bird) => bird.state === "idle" ? 1 : 0;
    const list = few ? all : all.slice().sort((one, other) => rank(other) - rank(one) || rests(one) - rests(other) || one.index - other.index).slice(0, most);
    say(parts.agentsHead, few ? "Agents" : `${list.some(rank) ? "Top savers of" : "Some of"} ${all.length} agents`);
    const rows = rowsOf(parts.agents, list.length, () => make("div", {}, make("i", { "aria-hidden": "true" }), this.name("agent"), make("span"), make("em")));
    list.forEach((bird, i) => {
      const [dot, name, does, saved] = rows[i].children;
      dot.style.background = `var(--mg-${{ wait: "wait", error: "error" }[bird.state] ?? bird.look.hue})`;
      this.setName(name, "agent", bird.name, bird.alias);
      say(does, bird.state === "idle" ? "rests" : doing(bird, this.dial));
      say(saved, rank(bird) ? counted(rank(bird)) + " tok" : "");
    });
  }

  now({ records, place }, most) {
    const { parts } = this, list = most ? lately(records, place, most) : [];
    show(parts.nowBox, list.length > 0);
    const rows = rowsOf(parts.now, list.length, () => make("div", {}, make("b"), " ", make("span")));
    list.forEach((record, i) => {
      const [who, what] = rows[i].children, [text, hue] = this.sentence(record);
      rows[i].style.setProperty("--c", `var(--mg-${hue})`);
      say(who, record.op === "phase" || record.op === "run_end" ? "" : record.agent ? this.aliases.of(record.agent) : "");
      say(what, text);
    });
  }

  sentence(record) {
    const raw = record.raw || record.op, at = record.obj ? this.nameOf(record.obj) : "", by = record.by ? this.aliases.of(record.by) : "";
    const { hue } = lookOf(record.role ?? "");
    switch (record.op) {
      case "hit": return [`${raw === "joined" ? "was given" : "reused"} ${at}${by ? " by " + by : ""}${tokensOf(record) ? ` \u00b7 ${counted(tokensOf(record))} tok saved` : ""}`, "gold"];
      case "wait": return [`waits for ${by || "another"}`, "wait"];
      case "error": return [`${raw}${record.why ? ": " + clip(record.why, 60) : ""}`, "error"];
      case "think_start": return [`asks ${clip(record.model || record.fn || "the model", 24)}`, hue];
      case "write": return [`wrote ${at}${record.src?.length ? ` from ${record.src.length}` : ""}`, hue];
      case "phase": return [`Phase ${clip(record.text ?? "", 40)} begins`, "line"];
      case "run_end": return ["The run is over", "line"];
      default: return [`${raw} ${at}`, "dim"];
    }
  }

  foot({ fold, t, end, mode, following, playing, slowed, birds, connection }) {
    const { parts } = this;
    const live = mode === "live" && following;
    show(parts.play, true);
    say(parts.play, playing ? "\u275a\u275a" : "\u25b6");
    parts.play.setAttribute("aria-label", playing ? "Pause" : "Play");
    show(parts.speed, !live);
    show(parts["now-live"], mode === "live" && !following);
    const clock = live && connection === "live" && !fold.ended ? moment(t, Math.max(end, 10_000)) : `${moment(t, end)} / ${moment(end, end)}`;
    say(parts.clock, clock);
    say(parts.sizes, `${slowed ? `${slowed} \u00b7 ` : ""}${counted(birds.list.length)} agents \u00b7 ${fold.lights.size.toLocaleString("en")} objects \u00b7 ${fold.counts.events.toLocaleString("en")} events`);
    const { slider } = parts, phase = fold.phases.at(-1)?.[0] ?? "";
    slider.setAttribute("aria-valuemax", String(Math.round(end)));
    slider.setAttribute("aria-valuenow", String(Math.round(t)));
    slider.setAttribute("aria-valuetext", `${moment(t, end)} of ${moment(end, end)}${phase ? ", phase " + clip(phase, 40) : ""}, ${fold.avoidedTotal()[1]} LLM calls not made`);
  }

  // What a screen reader says: phases, errors, the end. Never each event.
  tell({ fold }) {
    const errors = fold.counts.failed + fold.counts.refused, { heard, parts } = this;
    if (fold.ended !== heard.ended && fold.ended) say(parts.heard, `The run is over: ${fold.ended}`);
    else if (fold.phases.length > heard.phases) say(parts.heard, `Phase ${clip(fold.phases.at(-1)[0], 40)} begins`);
    else if (errors > heard.errors) say(parts.heard, `${errors} ${errors === 1 ? "call has" : "calls have"} failed so far`);
    this.heard = { phases: fold.phases.length, errors, ended: fold.ended };
  }
}

// How it stands with what is shown, in a word or two.
function badgeOf(mode, connection, following, fold, header) {
  if (mode !== "live") return "replay";
  if (connection === "lost") return "connection lost";
  if (connection === "refused") return "refused";
  if (connection === "empty") return "no run";
  if (fold.ended) return fold.ended === "failed" || fold.ended === "stopped" ? fold.ended : "finished";
  if (connection === "ended") return clip(header.state || "finished", 24);
  return following ? "live" : "looking back";
}
