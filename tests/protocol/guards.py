# ruff: noqa: E501  (a line of the table shows what stands where, side by side)
"""Every guard of the scripts, how it is taken out, and who has to notice.

A guard is one comparison or one line that closes a race, a lost reply, a step of the clock or an overrun. `lua` is a
place in its script (or in the prelude) and what stands there instead; `model` the same place in the test's own model.
``seen`` says who notices: "sim" the simulator, "diff" the comparison of script and model. Nothing of this is in the
product: a changed script runs under a hash of its own on the test's server, and only in its test.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """One guard."""

    script: str  # "" for the prelude: then `via` is a script that uses it
    what: str
    lua: tuple[str, str]
    model: tuple[str, str]
    sim: bool = True  # also noticed by the simulator: it breaks an invariant, not only the contract
    via: str = ""

    @property
    def name(self) -> str:
        return f"{self.script or 'prelude'}: {self.what}"

    @property
    def runs(self) -> str:
        """The script to be changed and run."""
        return self.script or self.via


GUARDS = (
    # ── the comparison on which safety rests ──────────────────────────────────────────────────
    Guard("", "state compared", ("return h[1] == 'running' and h[2]", "return h[2]"),
          ('return state == "running" and h.get("owner")', 'return h.get("owner")'), via="commit"),
    Guard("", "owner compared", ("and h[2] == owner and", "and"),
          ('and h.get("owner") == owner and newest == fence, state', 'and newest == fence, state'), sim=False, via="commit"),
    Guard("", "fence compared", ("h[2] == owner and h[3] == fence, h[1]", "h[2] == owner, h[1]"),
          ('== owner and newest == fence, state', '== owner, state'), via="commit"),
    Guard("", "owner and fence compared", ("h[1] == 'running' and h[2] == owner and h[3] == fence, h[1]", "h[1] == 'running', h[1]"),
          ('state == "running" and h.get("owner") == owner and newest == fence, state', 'state == "running", state'), via="commit"),
    # ── claim ─────────────────────────────────────────────────────────────────────────────────
    Guard("claim", "expires brought back after a step of the clock", ("if expires > now + num(ttl) then ", "if false then "),
          ('if expires > now + num(h.get("ttl")):\n            s.met["clamped expires"]', 'if False:\n            s.met["clamped expires"]')),
    Guard("claim", "answered only before its end", ("and (expires == 0 or expires > now) then return {'answered'", "then return {'answered'"),
          ("if not refused and (expires == 0 or expires > now):", "if not refused:")),
    Guard("claim", "unusable needs the answer", ("local refused = answer == ARGV[8] and afence", "local refused = afence"),
          ("refused = answer == A[8] and afence == A[9]", "refused = afence == A[9]"), sim=False),
    Guard("claim", "unusable needs the fence", ("answer == ARGV[8] and afence == ARGV[9]", "answer == ARGV[8]"),
          ("refused = answer == A[8] and afence == A[9]", "refused = answer == A[8]"), sim=False),
    Guard("claim", "unusable is not given again", ("local refused = answer == ARGV[8] and afence == ARGV[9]", "local refused = false"),
          ("refused = answer == A[8] and afence == A[9]", "refused = False")),
    Guard("claim", "an old answer only as long as the caller says", ("keep > 0 and expires + keep > now then", "keep > 0 then"),
          ("if not refused and keep > 0 and expires + keep > now:", "if not refused and keep > 0:")),
    Guard("claim", "resume brought back", ("if rest > num(pause) then ", "if false then "),
          ('if rest > num(h.get("pause")):', "if False:")),
    Guard("claim", "backoff after a failed attempt", ("if rest > 0 and state == 'running' then", "if false then"),
          ('if rest > 0 and state == "running":', "if False:")),
    Guard("claim", "an error is told while it lasts", ("if rest > 0 and state == 'error' then", "if false then"),
          ('if rest > 0 and state == "error":', "if False:")),
    Guard("claim", "until brought back", ("if left > num(span) then ", "if false then "),
          ('if left > num(h.get("lease")):', "if False:")),
    Guard("claim", "a lost reply: the same owner is told again", ("if left > 0 and owner == ARGV[3] then", "if false then"),
          ('if left > 0 and h.get("owner") == A[3]:', "if False:"), sim=False),
    Guard("claim", "nobody leads beside a living lease", ("if left > 0 then return {'follow'", "if false then return {'follow'"),
          ('if left > 0:\n            return ["follow"', 'if False:\n            return ["follow"')),
    Guard("claim", "attempts counted", ("(state == 'running') and num(attempt) + 1 or 1", "1"),
          ('n = num(h.get("attempt")) + 1 if state == "running" else 1', "n = 1")),
    Guard("claim", "attempts limited", ("if n > tonumber(ARGV[6]) then", "if false then"), ("if n > int(A[6]):", "if False:")),
    Guard("claim", "fence above the last", ("math.max(num(fence) + 1, T[1] * 1000000 + T[2])", "math.max(num(fence), T[1] * 1000000 + T[2])"),
          ("max(num(fence) + 1, us)", "max(num(fence), us)")),
    Guard("claim", "fence above the last after a step of the clock", ("math.max(num(fence) + 1, T[1] * 1000000 + T[2])", "T[1] * 1000000 + T[2]"),
          ("str(max(num(fence) + 1, us))", "str(us)")),
    Guard("claim", "fence above that of a lost record", ("math.max(num(fence) + 1, T[1] * 1000000 + T[2])", "num(fence) + 1"),
          ("str(max(num(fence) + 1, us))", "str(num(fence) + 1)")),
    Guard("claim", "an old answer goes when nobody may have it", ("redis.call('HDEL', f, 'answer', 'expires',", "redis.call('HDEL', f, 'expires',"),
          ('for field in ("answer", "expires", "ttl", "valid", "usage", "oldfence", "oldwho"):',
           'for field in ("expires", "ttl", "valid", "usage", "oldfence", "oldwho"):'), sim=False),
    Guard("claim", "a kept answer has its own fence", ("if state ~= 'done' then afence, aby = oldfence, oldby end", ""),
          ('if state == "done" else (h.get("oldfence"), h.get("oldwho"))', "")),
    Guard("claim", "a pause ends with the next claim", ("redis.call('HDEL', f, 'resume', 'pause')", ""),
          ('        h.pop("resume", None)\n        h.pop("pause", None)\n        if n == 1', "        if n == 1"), sim=False),
    Guard("claim", "pieces of an earlier attempt go", ("redis.call('UNLINK', KEYS[4])", ""), ("    s.unlink(K[4])\n    s.expire(f, now + life)",
                                                                                            "    s.expire(f, now + life)")),
    # ── beat ──────────────────────────────────────────────────────────────────────────────────
    Guard("beat", "only who holds it", ("if not held or till == '0' then", "if till == '0' then"),
          ('if not held or h.get("until") == "0":\n        return ["lost", newest]\n    since', 'if h.get("until") == "0":\n        return ["lost", newest]\n    since')),
    Guard("beat", "not after it was given up", ("if not held or till == '0' then", "if not held then"),
          ('if not held or h.get("until") == "0":\n        return ["lost", newest]\n    since', 'if not held:\n        return ["lost", newest]\n    since')),
    Guard("beat", "since brought back", ("if num(since) > now then ", "if false then "), ("if since > now:", "if False:")),
    Guard("beat", "work that hangs", ("if now >= num(since) + num(hold) then", "if false then"),
          ('if now >= since + num(h.get("hold")):', "if False:")),
    # ── commit ────────────────────────────────────────────────────────────────────────────────
    Guard("commit", "only who holds it", ("if not held then\n", "if false then\n"),
          ('    if not held:\n        if state == "done"', '    if False:\n        if state == "done"')),
    Guard("commit", "a lost reply: the same commit is taken again", ("if state == 'done' and owner", "if false and owner"),
          ('if state == "done" and h.get("owner") == A[3] and newest', 'if False and newest')),
    Guard("commit", "a repeat has the same answer", (" and answer == ARGV[5] then", " then"),
          ('and newest == A[4] and h.get("answer") == A[5]:', "and newest == A[4]:"), sim=False),
    Guard("commit", "a repeat has the same owner", ("if state == 'done' and owner == ARGV[3] and", "if state == 'done' and"),
          ('if state == "done" and h.get("owner") == A[3] and newest', 'if state == "done" and newest'), sim=False),
    Guard("commit", "a lost reply: told once that it was fenced", ("if refused == ARGV[4] then", "if false then"),
          ('if h.get("refused") == A[4]:', "if False:")),
    Guard("commit", "the object is there", ("if KEYS[5] and redis.call('EXISTS', KEYS[5]) == 0 then", "if false then"),
          ("if len(K) > 5 and K[5] not in s.db:", "if False:")),
    # ── fail and release ──────────────────────────────────────────────────────────────────────
    Guard("fail", "a lost reply: recorded once", ("if owner == ARGV[3] and newest == ARGV[4] and (state == 'error' or till == '0') then", "if false then"),
          ('if h.get("owner") == A[3] and newest == A[4] and (state == "error" or h.get("until") == "0"):', "if False:")),
    Guard("fail", "only who holds it", ("if not held then return {'fenced', newest} end", ""),
          ('    if not held:\n        return ["fenced", newest]\n    permanent', "    permanent")),
    Guard("release", "only who leads", ("else mine = owner == ARGV[3] and fence == ARGV[4] end", "else mine = true end"),
          ('else h.get("owner") == A[3] and fence == A[4]', "else True")),
    Guard("release", "owner compared", ("mine = owner == ARGV[3] and fence == ARGV[4]", "mine = fence == ARGV[4]"),
          ('else h.get("owner") == A[3] and fence == A[4]', "else fence == A[4]"), sim=False),
    Guard("release", "fence compared", ("mine = owner == ARGV[3] and fence == ARGV[4]", "mine = owner == ARGV[3]"),
          ('else h.get("owner") == A[3] and fence == A[4]', 'else h.get("owner") == A[3]'), sim=False),
    Guard("release", "only what is running", ("if state ~= 'running' or not mine then", "if not mine then"),
          ('if h.get("state") != "running" or not mine:', "if not mine:")),
    Guard("release", "only the flight of the dead", ("mine = inc == ARGV[4] else", "mine = true else"),
          ('mine = h.get("inc") == A[4] if A[3] == "" else', 'mine = True if A[3] == "" else')),
    Guard("release", "a lost reply: released once", ("if till == '0' then return {'released'} end", ""),
          ('    if h.get("until") == "0":\n        s.met["release repeated"] += 1\n        return ["released"]\n', "")),
    Guard("release", "giving up is no failed attempt", ("num(attempt) - 1", "num(attempt)"),
          ('str(num(h.get("attempt")) - 1)', 'str(num(h.get("attempt")))')),
    Guard("release", "dying is a failed attempt", ("if ARGV[3] ~= '' then redis.call('HSET', f, 'attempt'", "if true then redis.call('HSET', f, 'attempt'"),
          ('    if A[3] != "":\n        h["attempt"]', '    if True:\n        h["attempt"]')),
    # ── drop ──────────────────────────────────────────────────────────────────────────────────
    Guard("drop", "only the answer that is meant", ("(state == 'done' and only == answer)", "state == 'done'"),
          ('(state == "done" and only == answer)', 'state == "done"'), sim=False),
    Guard("drop", "an answer only when done", ("(state == 'done' and only == answer)", "only == answer"),
          ('(state == "done" and only == answer)', "only == answer"), sim=False),
    Guard("drop", "an error of a running call leaves the call", ("if only == '!' and state == 'running' then", "if false then"),
          ('if only == "!" and state == "running":', "if False:"), sim=False),
    # ── chunk ─────────────────────────────────────────────────────────────────────────────────
    Guard("chunk", "only who leads", ("if not held or redis.call('HGET', f, 'until') == '0' then", "if redis.call('HGET', f, 'until') == '0' then"),
          ('if not held or h.get("until") == "0":\n        return ["lost", newest]\n    stream', 'if h.get("until") == "0":\n        return ["lost", newest]\n    stream')),
    Guard("chunk", "not after it was given up", ("if not held or redis.call('HGET', f, 'until') == '0' then", "if not held then"),
          ('if not held or h.get("until") == "0":\n        return ["lost", newest]\n    stream', 'if not held:\n        return ["lost", newest]\n    stream')),
    Guard("chunk", "a lost reply: the same piece is written once", ("if seq <= last then", "if seq < last then"),
          ("    if seq <= end:", "    if seq < end:"), sim=False),
    Guard("chunk", "a repeat has the same bytes", ("and old[2][4] == ARGV[7])", ")"), ("and old[1] == A[6] and old[3] == A[7]", "and old[1] == A[6]"), sim=False),
    Guard("chunk", "a repeat has the same kind", ("old and old[2][2] == ARGV[6] and", "old and"), ("if old and old[1] == A[6] and", "if old and"), sim=False),
    Guard("chunk", "no piece left out", ("if seq > last + 1 then", "if false then"), ("if seq > end + 1:", "if False:"), sim=False),
    Guard("chunk", "limit of a stream", ("if ARGV[6] == 'data' and so_far", "if false and so_far"), ('if A[6] == "data" and so_far', "if False and so_far"), sim=False),
    Guard("chunk", "never outlives its flight", ("if seq == 1 then redis.call('PEXPIRE'", "if false then redis.call('PEXPIRE'"),
          ("    if seq == 1:\n", "    if False:\n"), sim=False),
    # ── put and get ───────────────────────────────────────────────────────────────────────────
    Guard("put", "a lost reply: put once", ("if op == ARGV[3] then", "if false then"), ('if h.get("op") == A[3]:\n        s.met["put repeated', 'if False:\n        s.met["put repeated')),
    Guard("put", "another size is another object", ("if old_size and tonumber(old_size) ~= size then", "if false then"),
          ("if old_size and int(old_size) != size:", "if False:")),
    Guard("put", "the budget", ("if not old_size and limit > 0 and used + size > limit then", "if false then"),
          ("if not old_size and limit > 0 and used + size > limit:", "if False:")),
    Guard("put", "what is known takes no room", ("if not old_size and limit > 0", "if limit > 0"), ("if not old_size and limit > 0", "if limit > 0"), sim=False),
    Guard("put", "laid bytes are whole", ("if not whole then", "if false then"), ("if not whole:", "if laid is None and not (laid := '') and False:"), sim=False),
    Guard("put", "a body that is there stays", ("and redis.call('EXISTS', KEYS[4]) == 0 then", "then"),
          ('if A[6] != "host" and K[4] not in s.db:', 'if A[6] != "host":'), sim=False),
    Guard("put", "the longer life wins", ("math.max(fresh, math.min(num(expires), now + num(redis.call('HGET', record, 'ttl'))))", "fresh"),
          ('max(fresh, min(expires, now + num(h.get("ttl"))))', "fresh"), sim=False),
    Guard("put", "for ever stays for ever", ("num(expires) == 0 and 0 or", "false and 0 or"), ("0 if expires == 0 else", "0 if False else"), sim=False),
    Guard("put", "expires brought back", ("math.min(num(expires), now + num(redis.call('HGET', record, 'ttl')))", "num(expires)"),
          ('min(expires, now + num(h.get("ttl")))', "expires"), sim=False),
    Guard("put", "keep stays", ("(keep == '1' or ARGV[12] == '1')", "(ARGV[12] == '1')"), ('if h.get("keep") == "1" or A[12] == "1"', 'if A[12] == "1"'), sim=False),
    Guard("put_many", "a lost reply: put once", ("if was == op then", "if false then"), ('if h.get("op") == A[3]:\n            s.met["put_many', 'if False:\n            s.met["put_many'), sim=False),
    Guard("put_many", "what is there is left to put", ("elseif size or (limit > 0", "elseif (limit > 0"),
          ('elif h.get("size") or (limit > 0', "elif (limit > 0"), sim=False),
    Guard("put_many", "the budget", ("(limit > 0 and used + more > limit)", "false"), ("(limit > 0 and used + len(A[2 * i - 1]) > limit)", "False")),
    Guard("put_many", "the budget counts what came before", ("new[#new + 1], used = i, used + more", "new[#new + 1], used = i, used"),
          ("            used += len(A[2 * i - 1])\n", ""), sim=False),
    Guard("get", "expires brought back", ("if expires > now + num(ttl) then expires = now + num(ttl) end", ""),
          ('    if expires > now + num(h.get("ttl")):\n        s.met["clamped read"] += 1\n        expires = now + num(h.get("ttl"))\n', "")),
    Guard("get", "nothing after its end", ("if expires > 0 and expires <= now then", "if false then"), ("    if 0 < expires <= now:\n        return [\"expired\"], 0\n", "")),
    Guard("get", "no more than was asked for", ("if num(size) > left and not first then", "if false then"), ("if left is not None and int(size) > left:", "if False:"), sim=False),
    Guard("get", "the first comes whatever its size", ("num(size) > left and not first", "num(size) > left"), ("left if i > 3 else None", "left"), sim=False),
    Guard("get", "what came counts", ("  left = left - num(size)\n", ""), ("        left -= size\n", ""), sim=False),
    Guard("pin", "only what is there", ("if redis.call('EXISTS', KEYS[3]) == 0 then", "if false then"),
          ('    if K[3] not in s.db:\n        return ["absent"]\n    if A[4]', "    if A[4]"), sim=False),
    # ── leaving ───────────────────────────────────────────────────────────────────────────────
    Guard("forget", "totals lowered", ("redis.call('HINCRBY', KEYS[1], 'bytes', 0 - size); redis.call('HINCRBY', KEYS[1], 'count', -1)", ""),
          ('    s.incr(K[1], "bytes", -int(size))\n    s.incr(K[1], "count", -1)\n', "")),
    Guard("forget", "a lost reply: told its size again", ("elseif op == ARGV[4] then size = was end", "end"),
          ("            size = was\n", ""), sim=False),
    Guard("forget", "a repeat leaves the mark", ("if op ~= ARGV[4] and (size", "if (size"), ("if op != A[4] and (size", "if (size"), sim=False),
    Guard("forget", "a plain forget leaves the mark of a root", ("and (ARGV[5] ~= '-' or (root or '-') == '-') then", "then"),
          ('and (A[5] != "-" or (root or "-") == "-"):', ":"), sim=False),
    Guard("sweep", "only what has expired", ("elseif expires > 0 and expires <= now then", "elseif expires > 0 then"),
          ("        elif 0 < expires <= now:", "        elif 0 < expires:")),
    Guard("sweep", "what never expires stays", ("elseif expires > 0 and expires <= now then", "elseif expires <= now then"),
          ("        elif 0 < expires <= now:", "        elif expires <= now:")),
    Guard("sweep", "expires brought back", ("elseif expires > now + num(ttl) then", "elseif false then"),
          ("        elif expires > now + ttl:", "        elif False:"), sim=False),
    Guard("sweep", "a step of the clock is told", ("if now < swept - 1000 then return {'stepped'} end", ""),
          ('    if now < swept - 1000:\n        s.met["stepped"] += 1\n        return ["stepped"]\n', ""), sim=False),
    Guard("evict", "no more than is needed", ("if freed >= tonumber(ARGV[3]) then break end", ""),
          ("        if freed >= int(A[3]):\n            break\n", ""), sim=False),
    # Kept objects have no rank, and are looked at besides: only without both does one go.
    Guard("evict", "what is kept stays", ("size and rank and keep ~= '1' and", "size and (rank or 0) and"),
          ('rank is not None and h.get("keep") != "1" and not now', "not now"), sim=False),
    Guard("evict", "what is guarded stays", ("and not (num(guard) > now and num(guard) <= now + num(guard_ms))", ""),
          (' and not now < guard <= now + num(h.get("guard_ms"))', ""), sim=False),
    Guard("evict", "a guard ends after a step of the clock", ("and num(guard) <= now + num(guard_ms))", ")"),
          ('not now < guard <= now + num(h.get("guard_ms"))', "not now < guard"), sim=False),
    Guard("evict", "what is pinned stays", ("do if num(deadline) > now then free = false end end", "do end"),
          ("            free = False\n", "            pass\n")),
    Guard("touch", "a batch is counted once", ("if tonumber(ARGV[4]) <= num(redis.call('HGET', KEYS[3], ARGV[3])) then return {'replay'} end", ""),
          ('    if int(A[4]) <= num((s.db.get(K[3]) or {}).get(A[3])):\n        s.met["touch repeated"] += 1\n        return ["replay"]\n', "")),
    Guard("touch", "only what is there is ranked", ("  if size then\n", "  if true then\n"), ("        if size:\n            freq", "        if True:\n            freq"), sim=False),
    # ── names ─────────────────────────────────────────────────────────────────────────────────
    Guard("name", "a lost reply: named once", ("if past[2][4] == ARGV[3] then", "if false then"), ("if past[3] == A[3]:", "if False:")),
    Guard("name", "the version the caller saw", ("if ARGV[5] ~= '*' and ARGV[5] ~= seen then", "if false then"), ('if A[5] not in ("*", seen):', "if False:")),
    Guard("name", "versions rise after a step of the clock", ("math.max(num(version) + 1, T[1] * 1000000 + T[2])", "T[1] * 1000000 + T[2]"),
          ("max(num(version) + 1, us)", "us")),
)
