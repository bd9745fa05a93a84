"""The scripts of objects and names, line by line: put, put_many, get, pin, forget, sweep, evict, touch, name, kin."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tests.protocol.keyspace import State, Texts, last, num, txt, union

_MARK = re.compile(r"(\S+) (\S+) (\S+)\Z")


class Standing:
    """`standing` of the prelude: the totals that change with a rank."""

    def __init__(self, s: State, K: Texts, agent: str) -> None:
        h = s.db.get(K[1]) or {}
        self.bytes, self.evicted, self.own = num(h.get("bytes")), num(h.get("evicted_bytes")), num(h.get(f"b:{agent}"))
        self.clock = float(h.get("clock", 0))


def worth(uses: int, seconds: float, size: int) -> float:
    """`worth` of the prelude."""
    saved = max(0, uses * seconds / max(size, 1))
    return saved * math.sqrt(saved)


def counted(h: dict[str, str]) -> int:
    """`counted` of the prelude."""
    if "uses" in h:
        return int(h["uses"])
    return 1 if "seen" in h else min(max(num(h.get("freq")), 1), 4)


def again(t: Standing, uses: int, seen: str | None) -> int:
    """`again` of the prelude."""
    return min(uses + 1, 4) if t.evicted - num(seen) >= t.bytes else uses


def ranked(s: State, ranks: str, ident: str, t: Standing, uses: int, seconds: float, size: int) -> None:
    """`ranked` of the prelude."""
    rank = t.clock + worth(uses, seconds, size)
    s.zadd(ranks, rank, ident)
    t.clock = t.clock + rank * 2.0**-51


def owner(writers: str | None) -> str:
    """`owner` of the prelude."""
    return (writers or "").split(" ")[0]


def owes(s: State, K: Texts, agent: str, size: int) -> None:
    """`owes` of the prelude."""
    if size != 0 and s.incr(K[1], f"b:{agent}", size) == 0:
        s.without(K[1], f"b:{agent}")


def put(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """put.lua"""
    now = us // 1000
    record, ident, size, ttl = K[3], last(K[3]), int(A[5]), int(A[8])
    h = s.db.get(record) or {}
    old_size = h.get("size")
    if h.get("op") == A[3]:
        s.met["put repeated"] += 1
        return ["stored", "replay", num(h.get("expires"))]
    if old_size and int(old_size) != size:
        return ["conflict", int(old_size)]
    limit, share, t = int(A[10]), num(A[17]), Standing(s, K, A[1])
    if not old_size and share > 0 and t.own + size > share:
        return ["full", t.own, share, A[1]]
    if not old_size and limit > 0 and t.bytes + size > limit:
        return ["full", t.bytes, limit]

    if A[6] != "host" and K[4] not in s.db:
        if A[6] == "inline":
            s.db[K[4]] = A[7]
        else:
            laid = s.db.get(K[5])
            whole = len(laid) == size if isinstance(laid, str) else isinstance(laid, dict) and len(laid) == int(A[7])
            if not whole:
                return ["unlaid"]
            s.db[K[4]] = laid
            s.unlink(K[5])
    elif A[6] == "laid":
        s.unlink(K[5])

    fresh = now + ttl if ttl > 0 else 0
    if old_size and fresh > 0:
        expires = num(h.get("expires"))
        fresh = 0 if expires == 0 else max(fresh, min(expires, now + num(h.get("ttl"))))
    seconds = max(num(h.get("cost")), float(A[9]))
    hold = "1" if h.get("keep") == "1" or A[12] == "1" else "0"
    new = {
        "type": A[4], "size": A[5], "op": A[3], "expires": str(fresh), "cost": txt(seconds), "keep": hold,
        "guard": str(now + int(A[11])), "guard_ms": A[11], "ttl": str(max(ttl, fresh - now) if fresh > 0 else 0),
        "seen": str(t.evicted), "writers": union(h.get("writers"), A[1], 16), "trust": txt(max(num(h.get("trust")), num(A[13]))),
    }
    place = num(h.get("more"))
    field: str | None = f"parents{place}" if place > 0 else "parents"
    has = h.get(field or "")
    if len(has or "") >= 64 * 33 - 1 and A[16] not in (has or ""):
        if place < 63:
            field, has = f"parents{place + 1}", None
            new["more"] = str(place + 1)
        else:
            field = None
            new["over"] = "1"
    if field:
        new[field] = union(has, A[16], 127)
    if A[6] == "host":
        new["loc:" + A[7]] = str(now)
    uses, unseen, first = counted(h), "seen" not in h, owner(h.get("writers"))
    if uses > 1 and "uses" not in h:
        new["uses"] = str(uses)
    if not old_size:
        new |= {"at": str(now), "call": A[14], "meta": A[15], "freq": "1"}
    s.hash(record).update(new)
    if not old_size:
        s.zadd(K[8], now, ident)
    if fresh > 0:
        s.zadd(K[6], fresh, ident)
    elif old_size:
        s.zrem(K[6], ident)
    if not old_size:
        t.bytes += size
        owes(s, K, A[1], size)
    elif unseen:
        owes(s, K, first, size)
    if hold == "0":
        ranked(s, K[7], ident, t, uses, seconds, size)
    elif old_size:
        s.zrem(K[7], ident)
    s.hash(K[1])["clock"] = txt(t.clock)
    if old_size:
        s.log(now, K, A, "put", ident, A[3] + " known")
    else:
        s.log(now, K, A, "put", ident, A[3] + " new", s.raised(K, bytes=size, count=1))
    return ["stored", "known" if old_size else "new", fresh]


def put_many(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """put_many.lua"""
    now, ttl, limit, share, t = us // 1000, int(A[4]), int(A[6]), num(A[10]), Standing(s, K, A[1])
    fresh, added = now + ttl if ttl > 0 else 0, 0
    words, new = [], []
    for i in range(6, len(K), 2):
        h = s.db.get(K[i]) or {}
        more = added + len(A[2 * i])
        if h.get("op") == A[3]:
            s.met["put_many repeated"] += 1
            words.append("replay")
        elif h.get("size") or (limit > 0 and t.bytes + more > limit) or (share > 0 and t.own + more > share):
            words.append("left")
        else:
            words.append("new")
            added = more
            new.append(i)
    for i in new:
        kind, body, meta, note = A[2 * i - 1:2 * i + 3]
        ident, size, seconds = last(K[i]), len(body), float(A[5])
        s.db[K[i + 1]] = body
        s.hash(K[i]).update({
            "type": kind, "size": str(size), "op": A[3], "expires": str(fresh), "cost": txt(seconds), "keep": A[8],
            "guard": str(now + int(A[7])), "guard_ms": A[7], "ttl": A[4], "seen": str(t.evicted), "writers": A[1], "trust": "0",
            "parents": union("", A[9], 127), "at": str(now), "call": "", "meta": meta, "freq": "1"})
        s.zadd(K[5], now, ident)
        if fresh > 0:
            s.zadd(K[3], fresh, ident)
        if A[8] != "1":
            ranked(s, K[4], ident, t, 1, seconds, size)
        s.log(now, K, ("", A[1], note), "put", ident, A[3] + " new", s.raised(K, bytes=size, count=1))
    if new:
        owes(s, K, A[1], added)
        s.hash(K[1])["clock"] = txt(t.clock)
    return ["stored", fresh, *words]


def get(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """get.lua"""
    now, most = us // 1000, int(A[3])
    out, left = list[Any](["got"]), most
    for i in range(3, len(K), 2):
        found = _look(s, now, K[i], K[i + 1], most, left)
        out.append(found)
        left -= found[2] if found[0] == "here" else 0
    return out


def _look(s: State, now: int, record: str, at: str, most: int, left: int) -> list[Any]:
    h = s.db.get(record) or {}
    size = h.get("size")
    if not size:
        return ["absent"]
    expires = num(h.get("expires"))
    if expires > now + num(h.get("ttl")):
        s.met["clamped read"] += 1
        expires = now + num(h.get("ttl"))
    if 0 < expires <= now:
        return ["expired"]
    body = s.db.get(at)
    about = [h.get("type"), int(size), expires, h.get("meta"), h.get("cost")]
    if isinstance(body, str):
        if int(size) > most:
            return ["parts", *about, 0]
        return ["here", *about, body] if int(size) <= left else ["later"]
    if isinstance(body, dict):
        return ["parts", *about, len(body)]
    for field in h:
        if field.startswith("loc:"):
            return ["elsewhere", *about, field[4:]]
    return ["lost"]


def pin(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """pin.lua"""
    now = us // 1000
    if K[3] not in s.db:
        return ["absent"]
    if A[4] == "0":
        if s.without(K[4], A[3]):
            s.log(now, K, A, "unpinned", last(K[3]))
        return ["unpinned"]
    pins = s.hash(K[4])
    known = A[3] in pins
    pins[A[3]] = str(now + int(A[4]))
    if not known:
        s.log(now, K, A, "pinned", last(K[3]))
    return ["pinned", now + int(A[4])]


def removed(s: State, K: Texts, i: int) -> None:
    """`removed` of the prelude."""
    h, ident = s.db[K[i]], last(K[i])
    size = int(h["size"])
    s.unlink(K[i], K[i + 1], K[i + 2])
    s.zrem(K[3], ident)
    s.zrem(K[4], ident)
    s.zrem(K[5], ident)
    s.incr(K[1], "bytes", -size)
    s.incr(K[1], "count", -1)
    if "seen" in h:
        owes(s, K, owner(h.get("writers")), -size)


def forget(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """forget.lua"""
    now, out = us // 1000, ["forgotten"]
    for i in range(6, len(K), 4):
        ident, size = last(K[i]), (s.db.get(K[i]) or {}).get("size")
        root, op, was = m.groups() if (m := _MARK.match(s.db.get(K[i + 3], ""))) else (None, None, None)
        if size:
            removed(s, K, i)
            s.log(now, K, A, "forgotten", ident, A[3])
        elif op == A[4]:
            s.met["forget repeated"] += 1
            size = was
        if op != A[4] and (size or A[5] != "-") and (A[5] != "-" or (root or "-") == "-"):
            s.db[K[i + 3]] = f"{A[5]} {A[4]} {size or -1}"
            s.expire(K[i + 3], now + int(A[6]))
        out.append(int(size or -1))
    return out


def sweep(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """sweep.lua"""
    now = us // 1000
    totals = s.hash(K[1])
    swept = num(totals.get("swept"))
    totals["swept"] = str(now)
    if now < swept - 1000:
        s.met["stepped"] += 1
        return ["stepped"]
    n = freed = 0
    for i in range(6, len(K), 3):
        ident, h = last(K[i]), s.db.get(K[i]) or {}
        size, expires, ttl = h.get("size"), num(h.get("expires")), num(h.get("ttl"))
        if not size:
            s.zrem(K[3], ident)
        elif expires > now + ttl:
            s.met["clamped record"] += 1
            h["expires"] = str(now + ttl)
            s.zadd(K[3], now + ttl, ident)
        elif 0 < expires <= now:
            removed(s, K, i)
            s.incr(K[1], "expired")
            s.log(now, K, A, "expired", ident, size)
            n += 1
            freed += int(size)
    return ["swept", n, freed]


def evict(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """evict.lua"""
    now = us // 1000
    out: list[Any] = ["evicted", 0, 0]
    freed = spared = 0
    t = Standing(s, K, A[4])
    for i in range(6, len(K), 3):
        if freed >= int(A[3]):
            break
        ident, h = last(K[i]), s.db.get(K[i]) or {}
        size, guard = h.get("size"), num(h.get("guard"))
        rank = (s.db.get(K[4]) or {}).get(ident)
        free = bool(size) and rank is not None and h.get("keep") != "1" and not now < guard <= now + num(h.get("guard_ms"))
        if A[4] != "" and owner(h.get("writers")) != A[4]:
            free = False
        if not size:
            s.zrem(K[4], ident)
        if any(num(deadline) > now for deadline in (s.db.get(K[i + 2]) or {}).values()):
            free = False
        if free:
            to = float(rank or 0)
            if A[4] != "":
                to = t.clock + (to - t.clock) * t.own / max(t.bytes, 1)
            weight = int(size or 0)
            t.clock, t.bytes, t.own, t.evicted = max(t.clock, to), t.bytes - weight, t.own - weight, t.evicted + weight
            s.hash(K[1]).update(clock=txt(t.clock), evicted_bytes=str(t.evicted))
            removed(s, K, i)
            s.incr(K[1], "evictions")
            s.log(now, K, A, "evicted", ident, size or "")
            freed += int(size or 0)
            out.append(ident)
        elif size and rank is not None:
            spared += 1
    out[1:3] = freed, spared
    return out


def touch(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """touch.lua"""
    now = us // 1000
    if int(A[4]) <= num((s.db.get(K[3]) or {}).get(A[3])):
        s.met["touch repeated"] += 1
        return ["replay"]
    s.hash(K[3])[A[3]] = A[4]
    t = Standing(s, K, "")
    clock = t.clock
    for i in range(5, len(K)):
        h = s.db.get(K[i]) or {}
        size = h.get("size")
        if size:
            uses, unseen = again(t, counted(h), h.get("seen")), "seen" not in h
            h.update(freq=str(num(h.get("freq")) + int(A[i + 2])), read=str(now), seen=str(t.evicted))
            if uses != num(h.get("uses", "1")):
                h["uses"] = str(uses)
            if unseen:
                owes(s, K, owner(h.get("writers")), num(size))
            if h.get("keep") != "1":
                ranked(s, K[4], last(K[i]), t, uses, num(h.get("cost")), num(size))
    if t.clock != clock:
        s.hash(K[1])["clock"] = txt(t.clock)
    for counter, by in json.loads(A[6]).items():
        s.incr(K[1], counter, by)
    seq = s.incr(K[1], "reads_seq")
    s.stream(K[2]).append((f"{seq}-0", ("at", str(now), "who", A[1], "id", f"{A[3]}#{A[4]}", "x", A[5], "n", A[2])))
    return ["touched"]


def name(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """name.lua"""
    now = us // 1000
    for entry, past in reversed((s.db.get(K[5]) or [])[-16:]):
        if past[3] == A[3]:
            s.met["name repeated"] += 1
            return ["named", entry[:-2]]
    h = s.db.get(K[3]) or {}
    ident, version = h.get("id"), h.get("version")
    seen = version if ident else "0"
    if A[5] not in ("*", seen):
        return ["changed", ident or "", seen]
    new = str(max(num(version) + 1, us))
    s.hash(K[3]).update(id=A[4], version=new, who=A[1], at=str(now))
    s.stream(K[5]).append((f"{new}-0", ("id", A[4], "op", A[3], "who", A[1], "at", str(now))))
    if A[4] == "":
        s.without(K[4], A[6])
    else:
        s.hash(K[4])[A[6]] = A[4]
    s.log(now, K, A, "named", last(K[3]), f"{A[4]} {new}")
    return ["named", new]


def kin(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """kin.lua"""
    now = us // 1000
    out: list[Any] = ["kin"]
    for i in range(3, len(K), 2):
        h = s.db.get(K[i]) or {}
        parents = h.get("parents")
        if not h.get("size"):
            out.append([])
            continue
        for field in range(1, num(h.get("more")) + 1):
            parents = f"{parents or ''} {h.get(f'parents{field}', '')}"
        pinned = any(num(deadline) > now for deadline in (s.db.get(K[i + 1]) or {}).values())
        out.append([parents or "", int(h["size"]), h.get("call", ""), h.get("meta", ""), int(pinned), int("over" in h)])
    return out


SCRIPTS = {
    "put": put, "put_many": put_many, "get": get, "pin": pin, "forget": forget, "sweep": sweep, "evict": evict, "touch": touch,
    "name": name, "kin": kin}
