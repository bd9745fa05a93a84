// How things are called on the page: short names for long ones, and numbers as people read them.

const NOUNS = { src: "source", map: "result", fact: "fact", part: "partition", red: "summary", ans: "report" };

export function clip(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

// "team-1.note-12" -> "t1 note-12", "whole.note-3" -> "w note-3"; other names keep their end.
export function aliasOf(name) {
  const dot = name.indexOf(".");
  if (dot > 0 && name.length <= 200) {
    const team = name.slice(0, dot), rest = name.slice(dot + 1);
    const number = /(\d+)$/.exec(team);
    return `${team[0]}${number ? number[1] : ""} ${clip(rest, 12)}`;
  }
  return name.length > 14 ? clip(name, 13) : name;
}

// Short names that nobody else has: the second "t1 note-3" becomes "t1 note-3·2".
export class Aliases {
  constructor() {
    this.names = new Map();
    this.given = new Map();
  }

  of(name) {
    let alias = this.names.get(name);
    if (alias === undefined) {
      const base = aliasOf(name) || "?", often = (this.given.get(base) ?? 0) + 1;
      this.given.set(base, often);
      alias = often > 1 ? `${base}·${often}` : base;
      this.names.set(name, alias);
    }
    return alias;
  }
}

// What an object is called in a word: its kind as its writer called it, or what stands in its ring.
export function nounOf(light) {
  return light.kind ? clip(light.kind, 18) : Object.hasOwn(NOUNS, light.ring) ? NOUNS[light.ring] : "object";
}

export function counted(number) {
  const size = Math.abs(number);
  if (size >= 999_500) return (number / 1e6).toFixed(size >= 1e7 ? 1 : 2) + " M";
  if (size >= 9_950) return Math.round(number / 1e3) + " k";
  if (size >= 1_000) return (number / 1e3).toFixed(1) + " k";
  return String(Math.round(number));
}

export function dollars(micro) {
  const usd = micro / 1e6;
  return "$" + (usd >= 100 ? usd.toFixed(0) : usd >= 0.095 || usd === 0 ? usd.toFixed(2) : usd.toPrecision(2));
}

export function sized(bytes) {
  return bytes >= 1e6 ? (bytes / 1e6).toFixed(1) + " MB" : bytes >= 1e3 ? (bytes / 1e3).toFixed(1) + " kB" : bytes + " B";
}

// A length of time.
export function lasted(ms) {
  if (ms < 1) return "0 s";
  if (ms < 100) return Math.round(ms) + " ms";
  if (ms < 9_950) return (ms / 1e3).toFixed(1) + " s";
  if (ms < 90_000) return Math.round(ms / 1e3) + " s";
  if (ms < 5_400_000) return (ms / 6e4).toFixed(1) + " min";
  return (ms / 3.6e6).toFixed(1) + " h";
}

// A place in the run, as fine as the run is short.
export function moment(ms, whole) {
  const seconds = Math.max(0, ms) / 1e3;
  if (whole < 10_000) return seconds.toFixed(2) + " s";
  if (whole < 120_000) return seconds.toFixed(1) + " s";
  const minutes = Math.floor(seconds / 60), rest = String(Math.floor(seconds % 60)).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
