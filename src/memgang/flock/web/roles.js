// What a role looks like: its hue and its wings. Roles are the functions agents are set to; one agent may change role.

// span, sweep, tail, body: lengths in parts of the bird's size.
const SWEPT = [1.45, 0.85, 0.5, 0.17]; // map: forked tail
const LONG = [1.95, 0.42, 0.22, 0.13]; // shuffle: long and straight
const BROAD = [1.2, 0.62, 0.12, 0.3]; // reduce: broad body
const PLAIN = [1.3, 0.3, 0.1, 0.2];
const RESTING = [1.35, 0.7, 0.4, 0.16];

const LOOKS = {
  pale: { hue: "pale", wing: PLAIN, name: "read" },
  map: { hue: "map", wing: SWEPT, name: "map" },
  shuffle: { hue: "shuffle", wing: LONG, name: "shuffle" },
  reduce: { hue: "reduce", wing: BROAD, name: "reduce" },
  idle: { hue: "idle", wing: RESTING, name: "idle" },
};

const LOOK_OF = {
  "": "pale", read: "pale", plan: "pale", verify: "pale", check: "pale", review: "pale",
  note: "map", map: "map", extract: "map", scan: "map", search: "map",
  find: "shuffle", shuffle: "shuffle", partition: "shuffle", group: "shuffle", sort: "shuffle",
  section: "reduce", volume: "reduce", overview: "reduce", answer: "reduce", reduce: "reduce", merge: "reduce", write: "reduce",
};

// A phase is as its main role; the ring it fills; the roles whose calls it is counted by.
const PHASES = {
  read: { hue: "pale", rings: ["src"], roles: [] },
  plan: { hue: "pale", rings: ["src"], roles: ["plan"] },
  map: { hue: "map", rings: ["map", "fact"], roles: ["note", "map", "extract"] },
  find: { hue: "shuffle", rings: ["part"], roles: ["find"] },
  shuffle: { hue: "shuffle", rings: ["part"], roles: ["find", "shuffle", "partition"] },
  reduce: { hue: "reduce", rings: ["red"], roles: ["find", "section", "volume", "overview", "answer", "reduce"] },
  answer: { hue: "reduce", rings: ["ans"], roles: ["answer", "overview"] },
};

const others = new Map();

// The look of a role; one that is not known gets one of three, always the same.
export function lookOf(role) {
  return LOOKS[Object.hasOwn(LOOK_OF, role) ? LOOK_OF[role] : ["map", "shuffle", "reduce"][hashOf(role) % 3]];
}

export function idleLook() {
  return LOOKS.idle;
}

export function legendLooks() {
  return [LOOKS.map, LOOKS.shuffle, LOOKS.reduce, LOOKS.pale, LOOKS.idle];
}

export function phaseOf(name) {
  if (Object.hasOwn(PHASES, name)) return PHASES[name];
  let phase = others.get(name);
  if (!phase) others.set(name, phase = { hue: lookOf(name).hue, rings: [], roles: [name] });
  return phase;
}

// Phases that are to come, where those seen so far are the usual ones.
export function phasesToCome(seen) {
  const usual = ["read", "map", "reduce", "answer"];
  return seen.every((name) => usual.includes(name)) ? usual : seen;
}

// FNV-1a: the same for a name on every machine; what is drawn by chance is drawn by it.
export function hashOf(text) {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822519);
  return (hash ^ hash >>> 13) >>> 0;
}

// A number in 0..1 that belongs to a name.
export function chanceOf(text) {
  return hashOf(text) / 4294967296;
}
