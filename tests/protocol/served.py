"""The real scripts on a real server, with the clock, the ends of keys and the messages in the test's hands.

The text that runs is the assembled script behind a few lines that put a table of their own in the place of `redis`:
TIME answers what the test gave as the last two ARGV, PEXPIRE and its kind write to a hash beside the keys, and
SPUBLISH writes to a list. So the test can step the clock by an hour and see everything that a script has done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis

from memgang.store.scripts import assembled
from tests.protocol.calls import Request
from tests.protocol.keyspace import Ranked, State, shown

ASIDE = """local _us, _s = table.remove(ARGV), table.remove(ARGV)
local _call, _at = redis.call, string.match(KEYS[1], '^(.*:)[^:]+$')
local _dead, _sent, _now = _at .. 'dead', _at .. 'sent', tonumber(_s) * 1000 + math.floor(tonumber(_us) / 1000)
local redis = {call = function(command, key, ...)
  if command == 'TIME' then return {_s, _us} end
  if command == 'SPUBLISH' then _call('RPUSH', _sent, key .. ' ' .. (...)); return 0 end
  if command == 'PEXPIRE' then
    if _call('EXISTS', key) == 0 then return 0 end
    return _call('HSET', _dead, key, string.format('%.0f', _now + (...)))
  end
  if command == 'PTTL' then
    local at = _call('HGET', _dead, key)
    return at and at - _now or _call('EXISTS', key) - 2
  end
  if command == 'PERSIST' then return _call('HDEL', _dead, key) end
  if command == 'UNLINK' then _call('HDEL', _dead, key, ...) end
  if command == 'SET' then
    local value, px, ms = ...
    _call('HDEL', _dead, key)
    if px then assert(px == 'PX'); _call('HSET', _dead, key, string.format('%.0f', _now + ms)) end
    return _call('SET', key, value)
  end
  return _call(command, key, ...)
end}
"""

DUMP = """#!lua flags=no-writes
local out = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then out[i] = {kind, redis.call('GET', key)}
  elseif kind == 'hash' then out[i] = {kind, redis.call('HGETALL', key)}
  elseif kind == 'stream' then out[i] = {kind, redis.call('XRANGE', key, '-', '+')}
  elseif kind == 'zset' then out[i] = {kind, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')}
  elseif kind == 'list' then out[i] = {kind, redis.call('LRANGE', key, 0, -1)}
  else out[i] = {kind} end
end
return out"""


def aside(source: str) -> str:
    """A script, its surroundings in the test's hands."""
    first, rest = source.split("\n", 1)
    return f"{first}\n{ASIDE}{rest}"


class Served:
    """The scripts on a server, some of them changed."""

    def __init__(self, client: redis.Redis, names: Sequence[str], changed: dict[str, str] | None = None) -> None:
        self._client = client
        sources = {n: aside((changed or {}).get(n) or assembled(n)) for n in names}
        self._hashes = {n: hashlib.sha1(s.encode()).hexdigest() for n, s in sources.items()}
        for source in (*sources.values(), DUMP):
            client.script_load(source)
        self._dump = hashlib.sha1(DUMP.encode()).hexdigest()

    def run(self, steps: Sequence[tuple[int, list[str], Request]], keys: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """Carry out (now in us, keys collected before it, request); the replies, and the keys at the end. Then all is removed."""
        pipe = self._client.pipeline(transaction=False)
        aside = _aside_keys(keys[0])
        for us, collected, request in steps:
            if collected:
                pipe.execute_command("UNLINK", *collected)
                pipe.execute_command("HDEL", aside[0], *collected)
            if request.script == "lay":  # as the client does it: a plain SET
                pipe.execute_command("SET", request.keys[0], request.args[0])
                continue
            if request.script == "age":
                pipe.execute_command("HDEL", request.keys[0], *request.args)
                continue
            args = [a.encode("latin-1") for a in request.args]
            pipe.execute_command("EVALSHA", self._hashes[request.script], len(request.keys), *request.keys, *args,
                                 str(us // 1_000_000), str(us % 1_000_000))
        everything = (*keys, *aside)
        pipe.execute_command("EVALSHA", self._dump, len(everything), *everything)
        pipe.execute_command("UNLINK", *everything)
        replies = [_text(r) for r in pipe.execute(raise_on_error=False)]
        kept, place = [], 0
        for _, collected, _ in steps:
            place += 2 if collected else 0
            kept.append(replies[place])
            place += 1
        return kept, {key: _shown(found) for key, found in zip(everything, replies[place], strict=True) if found[0] != "none"}


def _aside_keys(key: str) -> tuple[str, str]:
    at = key[:key.rindex(":") + 1]
    return at + "dead", at + "sent"


def dumped(state: State, key: str) -> dict[str, Any]:
    """What the server should hold, as `Served.run` gives it."""
    dead, sent = _aside_keys(key)
    found = {k: shown(v) for k, v in state.db.items() if v or isinstance(v, str)}
    if state.dead:
        found[dead] = {k: str(at) for k, at in state.dead.items()}
    if state.sent:
        found[sent] = [f"{channel} {word}" for channel, word in state.sent]
    return found


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode("latin-1")
    if isinstance(reply, list):
        return [_text(r) for r in reply]
    return f"{type(reply).__name__}: {reply}" if isinstance(reply, Exception) else reply


def _shown(found: list[Any]) -> Any:
    kind, *content = found
    if kind == "hash":
        return shown(dict(zip(content[0][::2], content[0][1::2], strict=True)))
    if kind == "zset":
        return shown(Ranked(zip(content[0][::2], map(float, content[0][1::2]), strict=True)))
    return shown(content[0]) if kind == "stream" else content[0]
