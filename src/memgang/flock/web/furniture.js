// The page round the picture: its parts, built once. What stands in them is `hud.js`.

import { make, makeSvg } from "./dom.js";
import { legendLooks } from "./roles.js";

const HIDDEN = { "aria-hidden": "true" };

// Builds all inside `root` and returns the parts by name.
export function furnish(root) {
  const parts = {};
  const part = (name, node) => (parts[name] = node);
  const section = (title, name, extra = null) => part(name + "Box", make("section", { class: `mg-${name}-box` },
    part(name + "Head", make("h4", {}, title)), part(name, make("div", { class: `mg-${name}` })), ...(extra ? [extra] : [])));
  const button = (name, text, label) => part(name, make("button", { type: "button", class: `mg-${name}`, "aria-label": label, title: label }, text));

  const top = make("header", { class: "mg-top" },
    part("title", make("span", { class: "mg-title" })),
    part("badge", make("span", { class: "mg-badge" }, make("i", HIDDEN), part("badgeText", make("span")))),
    part("chips", make("span", { class: "mg-chips" })),
    part("phases", make("ol", { class: "mg-phases", "aria-label": "Phases" })),
    make("span", { class: "mg-tools" },
      part("search", make("input", { type: "search", class: "mg-search", placeholder: "Search  /", "aria-label": "Search agents and memory", autocomplete: "off", spellcheck: "false" })),
      part("found", make("span", { class: "mg-found", role: "status" })),
      button("tables", "Table", "Show agents and memory as tables")));

  const stage = part("stage", make("div", { class: "mg-stage", tabindex: "0", role: "group", "aria-label": "Picture of the flock; the numbers and tables say the same in words" },
    part("still", make("canvas", HIDDEN)), part("moving", make("canvas", HIDDEN)),
    part("legend", make("div", { class: "mg-legend", ...HIDDEN })),
    make("div", { class: "mg-zoom" }, button("closer", "+", "Zoom in"), button("farther", "\u2212", "Zoom out"), button("whole", "\u25a2", "Show the whole dial")),
    part("line", make("p", { class: "mg-line", hidden: true })),
    part("tip", make("div", { class: "mg-tip", hidden: true, ...HIDDEN })),
    part("table", make("div", { class: "mg-table", hidden: true, tabindex: "-1" }))));

  const side = part("side", make("aside", { class: "mg-side", "aria-label": "Numbers" },
    make("section", { class: "mg-saved-box" }, make("h4", {}, "Saved by sharing"),
      make("p", { class: "mg-big" }, part("share", make("b")), " ", make("small", {}, "of LLM calls not made")),
      make("div", { class: "mg-bar", ...HIDDEN }, part("made", make("i", { class: "mg-made" })), part("unmade", make("i", { class: "mg-unmade" }))),
      part("figures", make("dl", { class: "mg-figures" })), part("note", make("p", { class: "mg-note" }))),
    section("Most reused memory", "hot"), section("Who waits for whom", "wait"), section("Agents", "agents"), section("Now", "now")));

  const slider = part("slider", make("div", { class: "mg-slider", tabindex: "0", role: "slider", "aria-label": "Moment of the run", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" },
    part("stream", make("canvas", HIDDEN))));
  const bottom = part("bottom", make("footer", { class: "mg-bottom" },
    make("div", { class: "mg-controls" }, button("play", "", "Play or pause"),
      part("speed", make("select", { class: "mg-speed", "aria-label": "Speed" }, ...[0.25, 0.5, 1, 2, 4, 8].map((x) => make("option", { value: x }, x + "\u00d7")))),
      button("now-live", "Live", "Back to what happens now"), part("clock", make("span", { class: "mg-clock" })), part("sizes", make("span", { class: "mg-sizes" }))),
    part("key", make("div", { class: "mg-key", ...HIDDEN })), slider));

  const heard = part("heard", make("div", { class: "mg-heard", role: "status", "aria-live": "polite" }));
  parts.el = make("div", { class: "mg", role: "group", "aria-label": "MemGang flock: agents and their shared memory" }, top, stage, side, bottom, heard);
  legendOf(parts.legend);
  for (const [name, hue] of [["think", "think"], ["at work", "idle"], ["read", "read"], ["write", "write"], ["reuse", "gold"], ["wait", "wait"], ["error", "error"]]) {
    parts.key.append(make("span", {}, make("i", { style: `background:var(--mg-${hue})` }), name));
  }
  root.replaceChildren(parts.el);
  return parts;
}

function legendOf(box) {
  const sample = (node) => makeSvg("svg", { width: 26, height: 18, viewBox: "-13 -9 26 18" }, node);
  const line = (hue, more = {}) => sample(makeSvg("path", { d: "M-11 5Q0 -9 11 3", fill: "none", stroke: `var(--mg-${hue})`, "stroke-width": 2, ...more }));
  const row = (picture, text) => make("div", {}, picture, text);
  box.append(make("h5", {}, "Agents"));
  for (const look of legendLooks()) box.append(row(sample(makeSvg("path", { d: outline(look.wing, 6.6), fill: `var(--mg-${look.hue})`, transform: "rotate(-35)" })), look.name === "idle" ? "at rest" : look.name));
  box.append(make("h5", {}, "Memory"), row(line("read", { "stroke-dasharray": "4 3" }), "read"), row(line("map"), "write"),
    row(line("gold"), "reuse: a call not made"),
    row(sample(makeSvg("circle", { r: 5.5, fill: "none", stroke: "var(--mg-wait)", "stroke-width": 1.7, "stroke-dasharray": "3 3" })), "others wait for it"),
    row(sample(makeSvg("g", {}, makeSvg("circle", { r: 8, fill: "var(--mg-gold)", opacity: 0.3 }), makeSvg("circle", { r: 4, fill: "var(--mg-gold)" }))), "glow: times reused"));
}

// The bird of `wings.js`, standing still, as an SVG path.
function outline([span, sweep, tail, body], s) {
  const wing = span * s * 0.86, b = body * s, back = -sweep * s;
  return `M${s} 0Q${s * 0.62} ${b * 1.3} ${s * 0.34} ${b * 1.15}Q${s * 0.38} ${wing * 0.62} ${back} ${wing}Q${s * 0.02} ${wing * 0.5} ${-s * 0.28} ${b}`
    + `L${-s * 1.2} ${tail * s * 0.62}L${-s * 0.82} 0L${-s * 1.2} ${-tail * s * 0.62}L${-s * 0.28} ${-b}`
    + `Q${s * 0.02} ${-wing * 0.5} ${back} ${-wing}Q${s * 0.38} ${-wing * 0.62} ${s * 0.34} ${-b * 1.15}Q${s * 0.62} ${-b * 1.3} ${s} 0Z`;
}
