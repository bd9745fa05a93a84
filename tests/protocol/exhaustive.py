"""All states of a small world: two leaders, a follower, one crash, one restart of the server, one lost reply.

    python -m tests.protocol.exhaustive [--restarts N] [--losses N]

Breadth first over the model's own states. Time moves in the steps that matter: to the next instant that something
waits for. What differs only in the names of fences and owners, or in how long ago all began, is one state:
fences are written as their rank, instants as their distance from now. I1-I6 are judged on every edge.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from typing import Any, NamedTuple

from tests.protocol.calls import Request, Shard
from tests.protocol.keyspace import State
from tests.protocol.model import MODEL, Model

SHARD = Shard()
FLIGHT, CHUNKS = SHARD.flight("c")[2:]
LEASE, BEAT, HOLD, TTL = 2, 1, 5, 3  # in ticks; what the scripts call a ms
MOST_ATTEMPTS = 2
START = 1_000_000


class Actor(NamedTuple):
    """A client: where it stands. ``kind``: a leader leads where it can, a follower only asks."""

    place: str  # ask | wait | work | publish | done | dead
    owner: str = ""
    fence: str = ""
    owners: int = 0  # how many it has used


class World(NamedTuple):
    """All of it; ``flight`` and ``records`` are the server's keys."""

    now: int
    flight: tuple[tuple[str, str], ...] | None
    dead: int | None
    records: frozenset[str]
    actors: tuple[Actor, ...]
    crashes: int
    restarts: int
    losses: int
    committed: tuple[tuple[str, str], ...]  # fence, answer: of all time
    last: tuple[str, str] | None
    highest: int
    lease_end: int
    gone: bool  # released, failed or committed since the last claim


class Broken(AssertionError):
    """An invariant does not hold; with the way that led there."""


def start(leaders: int, followers: int, crashes: int, restarts: int, losses: int) -> World:
    """Nobody has asked yet."""
    return World(START, None, None, frozenset(), (Actor("ask"),) * (leaders + followers), crashes, restarts, losses, (), None, 0, 0, False)


class Search:
    """The search, with what it has seen."""

    def __init__(self, model: Model, leaders: int = 2, followers: int = 1, crashes: int = 1, restarts: int = 1, losses: int = 0,
                 most: int = 2_000_000) -> None:
        self.model, self.leaders, self.most = model, leaders, most
        self.first = start(leaders, followers, crashes, restarts, losses)
        self.edges = 0
        self.seen: set[Any] = set()

    def run(self) -> int:
        """Visit everything; how many states there are.

        Raises:
            Broken: an invariant does not hold.
        """
        queue = deque([self.first])
        self.seen.add(self.canonical(self.first))
        while queue:
            world = queue.popleft()
            for after in self.successors(world):
                self.edges += 1
                form = self.canonical(after)
                if form not in self.seen:
                    self.seen.add(form)
                    queue.append(after)
                    if len(self.seen) > self.most:
                        raise AssertionError(f"more than {self.most} states: the bounds are too wide")
        return len(self.seen)

    # ── one step ──────────────────────────────────────────────────────────────────────────────

    def successors(self, w: World) -> list[World]:
        """All that can happen next."""
        out: list[World] = []
        for i, actor in enumerate(w.actors):
            if actor.place in ("done", "dead"):
                continue
            for lost in (False, True) if w.losses else (False,):
                out += self.act(w, i, actor, lost)
            if w.crashes:
                out.append(self.put(w, i, Actor("dead"), crashes=w.crashes - 1))
        if w.restarts:  # comes back empty, a moment later
            out.append(w._replace(now=w.now + 1, flight=None, dead=None, records=frozenset(), restarts=w.restarts - 1,
                                  last=None, gone=True, lease_end=0))
        later = self.later(w)
        if later is not None:
            out.append(later)
        return out

    def later(self, w: World) -> World | None:
        """Time passes to the next instant that matters."""
        h = dict(w.flight or ())
        ahead = [int(h[f]) for f in ("until", "expires", "resume") if f in h and int(h[f]) > w.now]
        if "since" in h and h.get("state") == "running":
            ahead.append(int(h["since"]) + HOLD)
        if h.get("state") == "running" and h.get("until") not in (None, "0"):
            ahead.append(int(h["until"]) - LEASE + BEAT)
        ahead = [at for at in ahead if at > w.now]
        return w._replace(now=min(ahead)) if ahead else None

    def put(self, w: World, i: int, actor: Actor, **changes: Any) -> World:
        return w._replace(actors=(*w.actors[:i], actor, *w.actors[i + 1:]), **changes)

    def act(self, w: World, i: int, a: Actor, lost: bool) -> list[World]:
        """One request of one client, and what it makes of the reply; a lost reply leaves it where it was."""
        losses = w.losses - lost
        if a.place in ("ask", "wait"):
            owner = a.owner or f"{i}.{a.owners}"
            asked = a._replace(owner=owner, owners=a.owners + (not a.owner))
            request = SHARD.claim("c", f"u/{i}", owner, f"i{i}", LEASE, MOST_ATTEMPTS, HOLD)
            reply, after = self.serve(w, request)
            if i >= self.leaders and after.last != w.last:
                return []  # it would lead; a follower asks when there is somebody to follow
            if lost:
                return [self.put(after, i, asked, losses=losses)]
            match reply[0]:
                case "answered" | "failed":
                    return [self.put(after, i, Actor("done"), losses=losses)]
                case "claimed":
                    return [self.put(after, i, asked._replace(place="work", fence=reply[1]), losses=losses)]
                case _:
                    return [self.put(after, i, asked._replace(place="wait"), losses=losses)]
        out = []
        if a.place == "work":
            for request, then in (
                (SHARD.beat("c", f"u/{i}", a.owner, a.fence, LEASE), a),
                (SHARD.put(f"a{a.owner}", f"u/{i}", f"op{a.owner}", "b"), a._replace(place="publish")),
                (SHARD.release("c", f"u/{i}", a.owner, a.fence), Actor("done")),
                (SHARD.fail("c", f"u/{i}", a.owner, a.fence, "transient", "{}", 1), a._replace(place="ask", owner="", fence="")),
            ):
                _, after = self.serve(w, request)
                out.append(self.put(after, i, a if lost else then, losses=losses))
        elif a.place == "publish":
            reply, after = self.serve(w, SHARD.commit("c", f"u/{i}", a.owner, a.fence, f"a{a.owner}", TTL))
            again = a._replace(place="ask", owner="", fence="")
            then = {"committed": Actor("done"), "absent": a._replace(place="work")}.get(reply[0], again)
            out.append(self.put(after, i, a if lost else then, losses=losses))
        return out

    # ── the server and the judge ──────────────────────────────────────────────────────────────

    def serve(self, w: World, r: Request) -> tuple[list[Any], World]:
        state = State()
        if w.flight is not None:
            state.db[FLIGHT] = dict(w.flight)
        if w.dead is not None:
            state.dead[FLIGHT] = w.dead
        for ident in w.records:
            state.db[SHARD.record(ident)] = {"size": "1", "op": "op" + ident[1:]}
            state.db[f"{SHARD.at}b:{ident}"] = "b"
        reply = self.model.apply(state, w.now * 1000, *r)
        flight = tuple(sorted(state.db[FLIGHT].items())) if FLIGHT in state.db else None
        records = frozenset(key.rpartition(":")[2] for key in state.db if ":o:" in key)
        after = w._replace(flight=flight, dead=state.dead.get(FLIGHT), records=records)
        if flight is None and w.flight is not None:
            w = w._replace(last=None, gone=True)
            after = after._replace(last=None, gone=True)
        return reply, self.judged(w, after, r, reply)

    def judged(self, w: World, after: World, r: Request, reply: list[Any]) -> World:
        word, owner, fence = reply[0], r.args[2], r.args[3]
        committed = dict(w.committed)

        def require(true: bool, what: str) -> None:
            if not true:
                raise Broken(f"{what}: {r.script} {r.args} -> {reply} in {w}")

        if r.script == "claim":
            if word == "claimed" and reply[3] != "replay":
                require(int(reply[1]) > w.highest, "I3")
                require(w.last is None or w.gone or w.lease_end <= w.now, "I5")
                return after._replace(last=(owner, reply[1]), highest=int(reply[1]), lease_end=w.now + LEASE, gone=False)
            if word == "claimed":
                require(w.last == (owner, reply[1]) and not w.gone, "I4")
            if word == "answered":
                require(committed.get(reply[2]) == reply[1], "I2")
        elif r.script == "beat" and word == "held":
            require(w.last == (owner, fence) and not w.gone, "I4")
            return after._replace(lease_end=w.now + LEASE)
        elif r.script == "commit" and word == "committed":
            if committed.get(fence) == r.args[4]:
                return after
            require(fence not in committed, "I1")
            require(w.last == (owner, fence), "I4")
            require(r.args[4] in w.records, "I6")
            return after._replace(committed=(*w.committed, (fence, r.args[4])), gone=True)
        elif r.script == "release" and word == "released":
            require(w.last == (owner, fence), "I4")
            return after._replace(gone=True)
        elif r.script == "fail" and word == "recorded":
            require(w.last == (owner, fence), "I4")
            return after._replace(gone=True)
        return after

    # ── what is one state ─────────────────────────────────────────────────────────────────────

    def canonical(self, w: World) -> Any:
        """The state up to renaming: fences by rank, instants by distance from now, owners by who uses them, leaders sorted."""
        best = None
        for order in self.orders(w):
            form = self.form(w, order)
            if best is None or form < best:
                best = form
        return best

    def orders(self, w: World) -> list[tuple[int, ...]]:
        rest = tuple(range(self.leaders, len(w.actors)))
        if self.leaders != 2:
            return [tuple(range(len(w.actors)))]
        return [(0, 1, *rest), (1, 0, *rest)]

    def form(self, w: World, order: tuple[int, ...]) -> Any:
        h = dict(w.flight or ())
        fences = {f for f in (h.get("fence"), w.last[1] if w.last else None, *(a.fence for a in w.actors)) if f}
        rank = {f: n for n, f in enumerate(sorted(fences, key=int))}
        rank[""] = -1
        owners = {"": ""}
        place = {old: new for new, old in enumerate(order)}

        def named(owner: str) -> str:
            if owner not in owners:
                number = place[int(owner.partition(".")[0])]
                owners[owner] = f"{number}.{sum(o.startswith(f'{number}.') for o in owners.values())}"
            return owners[owner]

        actors = tuple((a.place, named(a.owner), rank[a.fence]) for a in (w.actors[i] for i in order))
        flight: list[Any] = []
        for field, value in sorted(h.items()):
            if field in ("until", "expires", "resume", "since"):
                flight.append((field, "0" if value == "0" else str(max(int(value) - w.now, -HOLD - 1))))
            elif field == "fence":
                flight.append((field, str(rank[value])))
            elif field == "owner":
                flight.append((field, named(value)))
            elif field == "answer":
                flight.append((field, named(value[1:])))
            elif field in ("state", "attempt", "pause", "refused"):
                flight.append((field, str(rank.get(value, -2)) if field == "refused" else value))
        used = {h.get("answer"), *("a" + a.owner for a in w.actors)}
        records = tuple(sorted(named(ident[1:]) for ident in w.records if ident in used))
        committed = tuple(sorted((rank[f], named(answer[1:])) for f, answer in w.committed if f in rank))
        last = (named(w.last[0]), rank[w.last[1]]) if w.last else ()
        return (actors, tuple(flight), w.dead is None, records, w.crashes, w.restarts, w.losses, committed, last,
                max(w.lease_end - w.now, 0), w.gone)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("leaders", 2), ("followers", 1), ("crashes", 1), ("restarts", 1), ("losses", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    args = parser.parse_args()
    search, began = Search(MODEL, **vars(args), most=20_000_000), time.perf_counter()
    states = search.run()
    print(f"{vars(args)}: {states:,} states, {search.edges:,} edges, {time.perf_counter() - began:.1f} s, no invariant broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
