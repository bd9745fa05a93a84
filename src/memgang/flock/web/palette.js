// Colours. Gold means a call not made, and nothing else. `tests/flock/test_palette.py` measures that the hues of `APART` stay
// apart for every kind of sight (Machado 2009, CIE76) and stand out from the ground; `flock.css` has the same values.

export const THEMES = {
  dark: {
    ground: "#0a1020", deep: "#060a15", ink: "#e9eefb", mut: "#93a1c2", dim: "#7480a6", line: "#24304d",
    src: "#7d8cb4", map: "#56b4e9", fact: "#dfe6fb", part: "#e07bb8", red: "#2fcf9f", ans: "#e9eefb",
    shuffle: "#e07bb8", reduce: "#2fcf9f", pale: "#c9cfe6",
    gold: "#ffd166", goldText: "#ffd166", wait: "#ff8a4c", error: "#ff6b6b", read: "#e8eeff", idle: "#66708f",
    think: "#7468f2", write: "#cf8bff",
    edge: "rgba(255,255,255,.62)", blend: "lighter", glow: [0.75, 0.22],
  },
  light: {
    ground: "#f7f9fd", deep: "#e9eef8", ink: "#141b30", mut: "#4d5a7d", dim: "#66718f", line: "#d5dced",
    src: "#8490b0", map: "#1479c4", fact: "#39425e", part: "#a8407f", red: "#00795a", ans: "#141b30",
    shuffle: "#a8407f", reduce: "#00795a", pale: "#535d7d",
    gold: "#c47f00", goldText: "#9a6000", wait: "#b83a00", error: "#7a0019", read: "#2c3553", idle: "#828ba5",
    think: "#5a3fe0", write: "#b04fe0",
    edge: "rgba(255,255,255,.95)", blend: "source-over", glow: [0.42, 0.16],
  },
};

// Sets of hues that are seen side by side and must not be mistaken for each other.
export const APART = {
  flock: ["map", "shuffle", "reduce", "gold", "wait", "error", "read", "idle"],
  stream: ["think", "idle", "read", "write", "gold", "wait", "error"],
};

// What an agent does -> its hue in the task stream.
export const STATE_HUES = {
  think: "think", work: "idle", read: "read", write: "write", reuse: "gold", wait: "wait", error: "error",
};

const tints = new Map();

// A colour of the form #rrggbb with an alpha.
export function tint(hex, alpha) {
  const key = hex + alpha;
  let text = tints.get(key);
  if (!text) {
    const number = parseInt(hex.slice(1), 16);
    text = `rgba(${number >> 16},${number >> 8 & 255},${number & 255},${alpha})`;
    if (tints.size > 4000) tints.clear();
    tints.set(key, text);
  }
  return text;
}
