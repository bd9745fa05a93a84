// Where an object comes from, and what was made of it: pairs [from, to] of ids.

const PAIRS_MAX = 800;

export function lineageOf(fold, id) {
  const children = new Map();
  for (const light of fold.lights.values()) {
    for (const parent of light.src) {
      const list = children.get(parent);
      if (list) list.push(light.id);
      else children.set(parent, [light.id]);
    }
  }
  return {
    up: walk(id, (at) => fold.lights.get(at)?.src ?? [], (at, parent) => [parent, at]),
    down: walk(id, (at) => children.get(at) ?? [], (at, child) => [at, child]),
  };
}

function walk(start, next, pair) {
  const pairs = [], seen = new Set([start]), ahead = [start];
  for (let i = 0; i < ahead.length && pairs.length < PAIRS_MAX; i++) {
    for (const other of next(ahead[i])) {
      if (pairs.length >= PAIRS_MAX) break;
      pairs.push(pair(ahead[i], other));
      if (!seen.has(other)) {
        seen.add(other);
        ahead.push(other);
      }
    }
  }
  return pairs;
}
