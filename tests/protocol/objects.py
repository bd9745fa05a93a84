"""The scripts of objects and names, line by line: put, put_many, get, pin, forget, sweep, evict, touch, name, kin."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.protocol.keyspace import State, Texts, last, num, txt, union

_MARK = re.compile(r"(\S+) (\S+) (\S+)\Z")


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
    limit = int(A[10])
    totals = s.db.get(K[1]) or {}
    used = num(totals.get("bytes"))
    if not old_size and limit > 0 and used + size > limit:
        return ["full", used, limit]

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
        "writers": union(h.get("writers"), A[1], 16), "trust": txt(max(num(h.get("trust")), num(A[13]))),
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
    if not old_size:
        new |= {"at": str(now), "call": A[14], "meta": A[15], "freq": "1"}
    freq = num(h.get("freq"))
    s.hash(record).update(new)
    if not old_size:
        s.zadd(K[8], now, ident)
    if fresh > 0:
        s.zadd(K[6], fresh, ident)
    elif old_size:
        s.zrem(K[6], ident)
    if hold == "0":
        s.zadd(K[7], float(totals.get("clock", 0)) + max(freq, 1) * seconds / max(size, 1), ident)
    elif old_size:
        s.zrem(K[7], ident)
    if old_size:
        s.log(now, K, A, "put", ident, A[3] + " known")
    else:
        s.log(now, K, A, "put", ident, A[3] + " new", s.raised(K, bytes=size, count=1))
    return ["stored", "known" if old_size else "new", fresh]


def put_many(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """put_many.lua"""
    now, ttl, limit = us // 1000, int(A[4]), int(A[6])
    totals = s.db.get(K[1]) or {}
    used, clock = num(totals.get("bytes")), float(totals.get("clock", 0))
    fresh = now + ttl if ttl > 0 else 0
    words, new = [], []
    for i in range(6, len(K), 2):
        h = s.db.get(K[i]) or {}
        if h.get("op") == A[3]:
            s.met["put_many repeated"] += 1
            words.append("replay")
        elif h.get("size") or (limit > 0 and used + len(A[2 * i - 1]) > limit):
            words.append("left")
        else:
            words.append("new")
            used += len(A[2 * i - 1])
            new.append(i)
    for i in new:
        kind, body, meta, note = A[2 * i - 2:2 * i + 2]
        ident, size, seconds = last(K[i]), len(body), float(A[5])
        s.db[K[i + 1]] = body
        s.hash(K[i]).update({
            "type": kind, "size": str(size), "op": A[3], "expires": str(fresh), "cost": txt(seconds), "keep": A[8],
            "guard": str(now + int(A[7])), "guard_ms": A[7], "ttl": A[4], "writers": A[1], "trust": "0",
            "parents": union("", A[9], 127), "at": str(now), "call": "", "meta": meta, "freq": "1"})
        s.zadd(K[5], now, ident)
        if fresh > 0:
            s.zadd(K[3], fresh, ident)
        if A[8] != "1":
            s.zadd(K[4], clock + seconds / max(size, 1), ident)
        s.log(now, K, ("", A[1], note), "put", ident, A[3] + " new", s.raised(K, bytes=size, count=1))
    return ["stored", fresh, *words]


def get(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """get.lua"""
    now, left = us // 1000, int(A[3])
    out: list[Any] = ["got"]
    for i in range(3, len(K), 2):
        found, size = _look(s, now, K[i], K[i + 1], left if i > 3 else None)
        out.append(found)
        left -= size
    return out


def _look(s: State, now: int, record: str, at: str, left: int | None) -> tuple[list[Any], int]:
    h = s.db.get(record) or {}
    size = h.get("size")
    if not size:
        return ["absent"], 0
    expires = num(h.get("expires"))
    if expires > now + num(h.get("ttl")):
        s.met["clamped read"] += 1
        expires = now + num(h.get("ttl"))
    if 0 < expires <= now:
        return ["expired"], 0
    if left is not None and int(size) > left:
        return ["later"], 0
    body = s.db.get(at)
    if isinstance(body, str):
        return ["here", h.get("type"), int(size), expires, h.get("meta"), h.get("cost"), body], int(size)
    if isinstance(body, dict):
        return ["parts", h.get("type"), int(size), expires, h.get("meta"), h.get("cost"), len(body)], int(size)
    return ["lost"], int(size)


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


def _remove(s: State, K: Texts, i: int, ident: str, size: str) -> None:
    s.unlink(K[i], K[i + 1], K[i + 2])
    s.zrem(K[3], ident)
    s.zrem(K[4], ident)
    s.zrem(K[5], ident)
    s.incr(K[1], "bytes", -int(size))
    s.incr(K[1], "count", -1)


def forget(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """forget.lua"""
    now, out = us // 1000, ["forgotten"]
    for i in range(6, len(K), 4):
        ident, size = last(K[i]), (s.db.get(K[i]) or {}).get("size")
        root, op, was = m.groups() if (m := _MARK.match(s.db.get(K[i + 3], ""))) else (None, None, None)
        if size:
            _remove(s, K, i, ident, size)
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
            _remove(s, K, i, ident, size)
            s.log(now, K, A, "expired", ident, size)
            n += 1
            freed += int(size)
    return ["swept", n, freed]


def evict(s: State, us: int, K: Texts, A: Texts) -> list[Any]:
    """evict.lua"""
    now = us // 1000
    out: list[Any] = ["evicted", 0, 0]
    freed = spared = 0
    for i in range(6, len(K), 3):
        if freed >= int(A[3]):
            break
        ident, h = last(K[i]), s.db.get(K[i]) or {}
        size, guard = h.get("size"), num(h.get("guard"))
        rank = (s.db.get(K[4]) or {}).get(ident)
        free = bool(size) and rank is not None and h.get("keep") != "1" and not now < guard <= now + num(h.get("guard_ms"))
        if not size:
            s.zrem(K[4], ident)
        if any(num(deadline) > now for deadline in (s.db.get(K[i + 2]) or {}).values()):
            free = False
        if free:
            _remove(s, K, i, ident, size or "0")
            if rank > float(s.hash(K[1]).get("clock", 0)):
                s.hash(K[1])["clock"] = txt(rank)
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
    clock = float((s.db.get(K[1]) or {}).get("clock", 0))
    for i in range(5, len(K)):
        h = s.db.get(K[i]) or {}
        size = h.get("size")
        if size:
            freq = s.incr(K[i], "freq", int(A[i + 2]))
            h["read"] = str(now)
            if h.get("keep") != "1":
                s.zadd(K[4], clock + freq * num(h.get("cost")) / max(num(size), 1), last(K[i]))
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
