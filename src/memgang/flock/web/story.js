// What the records say in words, and in the few figures that are shown everywhere.

const TOLD = new Set(["hit", "wait", "error", "think_start", "write", "phase", "run_end", "evict", "expire"]);

export function tokensOf(record) {
  const saved = record.saved;
  return saved ? (saved[2] ?? 0) + (saved[3] ?? 0) : 0;
}

// The last `most` records before `place` that are worth a line.
export function lately(records, place, most, look = 3000) {
  const found = [];
  let thought = 0;
  for (let i = place - 1; i >= 0 && found.length < most && look > 0; i--, look--) {
    const record = records[i], raw = record.raw || record.op;
    if (!TOLD.has(record.op) || record.op === "hit" && raw !== "hit" && raw !== "joined") continue;
    if (record.op === "think_start" && thought++ > 1) continue;
    if (record.op === "write" && (record.ring === "src" || !record.obj)) continue;
    found.push(record);
  }
  return found;
}

// How far a phase is: [share or null, done, of how many]. Planned calls are in the log; of a run that is over (`whole`), what was
// done in the end counts. `stood`: objects written in the ring the phase fills, now and in the end, for phases without calls.
export function progressOf(fold, head, whole, roles, stood) {
  const sum = (names) => {
    let done = 0, planned = 0;
    for (const name of names) {
      const role = fold.roles.get(name), end = head.roles.get(name);
      done += role?.done ?? 0;
      planned += Math.max(role?.planned ?? 0, end?.planned ?? 0, whole ? end?.done ?? 0 : 0);
    }
    return [done, planned];
  };
  let [done, planned] = sum(roles);
  if (!planned && !done) [done, planned] = stood ? [stood[0], whole ? stood[1] : 0] : sum(new Set([...fold.roles.keys(), ...head.roles.keys()]));
  return planned ? [Math.min(1, done / planned), done, planned] : [null, done, 0];
}

// The share of LLM calls that were not made; null before there was any.
export function savedShare(fold) {
  const avoided = fold.avoidedTotal()[1], made = fold.physical[1];
  return avoided + made ? avoided / (avoided + made) : null;
}

// The objects that were reused most: first those that spared calls of a model.
export function mostReused(fold, most) {
  const top = [], rank = (light) => light.saved[1] * 1e6 + light.reuses;
  for (const light of fold.lights.values()) {
    if (!light.reuses) continue;
    if (top.length === most && rank(light) <= rank(top[most - 1])) continue;
    let place = top.length;
    while (place && rank(top[place - 1]) < rank(light)) place--;
    top.splice(place, 0, light);
    if (top.length > most) top.pop();
  }
  return top;
}

// Who waits for whom: {agent, by, call, since}.
export function waitingOf(fold) {
  const found = [];
  for (const agent of fold.agents.values()) {
    if (agent.state !== "wait") continue;
    const flight = fold.flights.get(agent.call);
    found.push({ agent: agent.name, by: flight?.agent || agent.by, call: agent.call, since: agent.since });
  }
  return found;
}
