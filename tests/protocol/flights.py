"""The scripts of flights, line by line: claim, beat, commit, fail, release, drop, chunk.

Each takes the state, the server's time in microseconds, KEYS and ARGV (both from 1), changes the state
and returns the reply. `None` ends a reply, as nil does in Lua.
"""

from __future__ import annotations

import json
from typing import Any

from tests.protocol.keyspace import State, Texts, last, num


def holds(h: dict[str, str], owner: str, fence: str) -> tuple[bool, str | None, str]:
    """`holds` of the prelude."""
    state, newest = h.get("state"), h.get("fence")
    return state == "running" and h.get("owner") == owner and newest == fence, state, newest or "0"


def too(A: Texts, place: int) -> dict[str, float]:
    """`counted_too` of the prelude."""
    return json.loads(A[place]) if place < len(A) else {}


def claim(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """claim.lua"""
    now = us // 1000
    f, lease, keep = K[3], int(A[5]), num(A[10])
    h = s.db.get(f) or {}
    state, fence, by = h.get("state"), h.get("fence"), h.get("who")

    answer, expires = h.get("answer"), 0
    afence, aby = (fence, by) if state == "done" else (h.get("oldfence"), h.get("oldwho"))
    refused = answer == A[8] and afence == A[9]
    old: list[Any] = []
    if answer is not None and afence is not None:
        expires = num(h.get("expires"))
        if expires > now + num(h.get("ttl")):
            s.met["clamped expires"] += 1
            expires = now + num(h.get("ttl"))
            h["expires"] = str(expires)
        it = [answer, afence, expires, h.get("valid") or "", h.get("usage") or "", aby or ""]
        if not refused and (expires == 0 or expires > now):
            return ["answered", *it]
        if not refused and keep > 0 and expires + keep > now:
            s.met["stale offered"] += 1
            old = it

    rest = num(h.get("resume")) - now
    if rest > num(h.get("pause")):
        s.met["clamped resume"] += 1
        rest = num(h.get("pause"))
        h["resume"] = str(now + rest)
    if rest > 0 and state == "error":
        return ["failed", h.get("error"), fence, rest, *old]
    if rest > 0 and state == "running":
        return ["backoff", rest, fence, *old]

    if state == "running":
        left = num(h.get("until")) - now
        if left > num(h.get("lease")):
            s.met["clamped until"] += 1
            left = num(h.get("lease"))
            h["until"] = str(now + left)
        if left > 0 and h.get("owner") == A[3]:
            return ["claimed", fence, left, "replay", num(h.get("attempt")), *old]
        if left > 0:
            return ["follow", left, fence, h.get("inc"), by or "", *old]

    n = num(h.get("attempt")) + 1 if state == "running" else 1
    if n > int(A[6]):
        error = h.get("error") or '{"class":"transient","code":"attempts_exhausted"}'
        s.hash(f).update(state="error", error=error, resume=str(now + 1000), pause="1000")
        s.log(now, K, A, "exhausted", last(f), fence or "")
        s.wake(f, "failed")
        return ["failed", error, fence, 1000, *old]
    new = str(max(num(fence) + 1, us))
    h = s.hash(f)
    h.update(state="running", owner=A[3], inc=A[4], who=A[1], fence=new, until=str(now + lease), lease=str(lease),
             hold=A[7], attempt=str(n), since=str(now), streamed="0")
    life = max(20 * lease, 2 * int(A[7]), 600_000)
    if state:
        if answer is not None and afence is not None and (keep > 0 or (state != "done" and not refused)):
            s.met["answer kept"] += 1
            h.update(oldfence=afence, oldwho=aby or "")
            if expires > 0:
                life = max(life, expires + keep - now)
        else:
            for field in ("answer", "expires", "ttl", "valid", "usage", "oldfence", "oldwho"):
                h.pop(field, None)
        h.pop("resume", None)
        h.pop("pause", None)
        if n == 1:
            h.pop("error", None)
    s.unlink(K[4])
    s.expire(f, now + life)
    s.log(now, K, A, "taken" if state == "running" else "claimed", last(f), new)
    if state == "running":
        s.incr(K[1], "takeovers")
        s.wake(f, "taken")
        return ["claimed", new, lease, "taken", n, *old]
    return ["claimed", new, lease, "new", n, *old]


def beat(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """beat.lua"""
    now = us // 1000
    f = K[3]
    h = s.db.get(f) or {}
    held, _, newest = holds(h, A[3], A[4])
    if not held or h.get("until") == "0":
        return ["lost", newest]
    since = num(h.get("since"))
    if since > now:
        s.met["clamped since"] += 1
        since = now
        h["since"] = str(now)
    if now >= since + num(h.get("hold")):
        s.met["held too long"] += 1
        return ["lost", newest]
    h["until"], h["lease"] = str(now + int(A[5])), A[5]
    s.expire(f, now + max(20 * int(A[5]), 2 * num(h.get("hold")), 600_000))
    return ["held", int(A[5])]


def commit(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """commit.lua"""
    now = us // 1000
    f, ttl = K[3], int(A[6])
    h = s.db.get(f) or {}
    held, state, newest = holds(h, A[3], A[4])
    if not held:
        if state == "done" and h.get("owner") == A[3] and newest == A[4] and h.get("answer") == A[5]:
            s.met["commit repeated"] += 1
            return ["committed", num(h.get("expires"))]
        if h.get("refused") == A[4]:
            s.met["fenced repeated"] += 1
            return ["fenced", newest]
        s.hash(f)["refused"] = A[4]
        if not state:
            s.expire(f, now + 600_000)
        s.log(now, K, A, "fenced", last(f), A[4], s.raised(K, fenced=1, **too(A, 13)))
        return ["fenced", newest]
    if len(K) > 5 and K[5] not in s.db:
        return ["absent", A[5]]
    expires = now + ttl if ttl > 0 else 0
    h.update(state="done", answer=A[5], expires=str(expires), ttl=A[6], valid=A[9], usage=A[10])
    h.pop("oldfence", None)
    h.pop("oldwho", None)
    if num(h.get("attempt")) > 1:
        for field in ("error", "resume", "pause"):
            h.pop(field, None)
    if ttl > 0:
        s.expire(f, now + ttl + num(A[11]))
    else:
        s.dead.pop(f, None)
    if h.get("streamed") != "0":
        s.expire(K[4], now + (min(ttl, 60_000) if ttl > 0 else 60_000))
    seq = s.raised(K, executions=1, cost=num(A[7]), usd=num(A[8]), **too(A, 12))
    s.log(now, K, A, "committed", last(f), f"{A[5]} {A[4]}", seq)
    s.wake(f, "done")
    return ["committed", expires]


def fail(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """fail.lua"""
    now = us // 1000
    f = K[3]
    h = s.db.get(f) or {}
    held, state, newest = holds(h, A[3], A[4])
    if h.get("owner") == A[3] and newest == A[4] and (state == "error" or h.get("until") == "0"):
        s.met["fail repeated"] += 1
        return ["recorded"]
    if not held:
        return ["fenced", newest]
    permanent = A[5] == "permanent"
    h.update(state="error" if permanent else "running", until="0", error=A[6], resume=str(now + int(A[7])), pause=A[7])
    s.log(now, K, A, "failed", last(f), A[5], s.raised(K, **too(A, 8)))
    s.wake(f, "failed" if permanent else "open")
    return ["recorded"]


def release(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """release.lua"""
    f = K[3]
    h = s.db.get(f) or {}
    fence = h.get("fence")
    mine = h.get("inc") == A[4] if A[3] == "" else h.get("owner") == A[3] and fence == A[4]
    if h.get("state") != "running" or not mine:
        return ["fenced", fence or "0"]
    if h.get("until") == "0":
        s.met["release repeated"] += 1
        return ["released"]
    h["until"] = "0"
    if A[3] != "":
        h["attempt"] = str(num(h.get("attempt")) - 1)
    s.log(us // 1000, K, A, "released" if A[3] != "" else "died", last(f), fence or "", s.raised(K, **too(A, 5)))
    s.wake(f, "open")
    return ["released"]


def drop(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """drop.lua"""
    now, out = us // 1000, ["dropped"]
    for i in range(3, len(K), 2):
        f, place, found = K[i], (i - 3) // 2 + 4, "-"
        only = A[place] if place < len(A) else ""
        h = s.db.get(f) or {}
        state, answer, error = h.get("state"), h.get("answer"), h.get("error")
        if only == "!" and state == "running":
            if error:
                del h["error"]
        elif state and (only == "" or (only == "!" and error) or (state == "done" and only == answer)):
            s.unlink(f, K[i + 1])
            s.log(now, K, A, "dropped", last(f), A[3])
            s.wake(f, "gone")
            found = answer or ""
        elif not state and only == "" and s.unlink(f, K[i + 1]) > 0:
            s.log(now, K, A, "dropped", last(f), A[3])
            found = ""
        out.append(found)
    return out


def chunk(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """chunk.lua"""
    now = us // 1000
    f, seq = K[3], int(A[5])
    h = s.db.get(f) or {}
    held, _, newest = holds(h, A[3], A[4])
    if not held or h.get("until") == "0":
        return ["lost", newest]
    stream = s.db.get(K[4]) or []
    end = int(stream[-1][0][:-2]) if stream else 0
    if seq <= end:
        old = next((fields for entry, fields in stream if entry == f"{seq}-0"), None)
        s.met["chunk repeated"] += 1
        return ["written" if old and old[1] == A[6] and old[3] == A[7] else "conflict"]
    if seq > end + 1:
        return ["gap", end]
    so_far = num(h.get("streamed"))
    if A[6] == "data" and so_far + len(A[7]) > int(A[8]):
        return ["full", so_far]
    s.stream(K[4]).append((f"{seq}-0", ("k", A[6], "d", A[7])))
    h["streamed"] = str(so_far + len(A[7]))
    if seq == 1:
        s.expire(K[4], now + max(s.dead[f] - now if f in s.dead else -1, 1))
    if A[9] == "1":
        s.wake(f, "chunk")
    return ["written"]


SCRIPTS = {"claim": claim, "beat": beat, "commit": commit, "fail": fail, "release": release, "drop": drop, "chunk": chunk}
