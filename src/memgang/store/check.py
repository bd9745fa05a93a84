"""The start-up check: can this server keep what MemGang promises?

``open()`` runs it and refuses on a ``fail``; ``memgang doctor`` prints every line. Rights are not
read from a list but tried, on a key of their own that is gone afterwards.

A server that hides a fact (managed ones forbid CONFIG or INFO) gets a ``warn``: not seeing is not failing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import redis
from redis import exceptions as failures

from memgang.errors import ServerUnfit
from memgang.store.binary import OLDEST, Version, parse_version

CLOCK_OFFSET_S_MAX = 1.0

# First releases with the fixes for CVE-2025-49844, -46817, -46818 and -46819 (errors in the Lua
# interpreter that let a user who may run scripts take over the server), by release line. A line not
# listed never got them, or, when newer than the last, always had them.
_LUA_FIXED: dict[str, tuple[Version, ...]] = {
    "redis": ((7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4), (9, 0, 0)),
}

# Tries what the scripts and the clients use, each command by itself, so that the answer names what is refused.
# Like those scripts it declares its keys and its shebang; then it takes its keys away again.
_PROBE = """#!lua
local k, other = KEYS[1], KEYS[2]
local refused = {}
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then refused[#refused + 1] = ({...})[1] end
end
try('DEL', k)
try('HSET', k, 'a', '1') try('HGET', k, 'a') try('HMGET', k, 'a') try('HGETALL', k) try('HLEN', k) try('HVALS', k)
try('HINCRBY', k, 'a', 1) try('HSETNX', k, 'c', '1') try('HDEL', k, 'b')
try('EXISTS', k) try('TYPE', k) try('PEXPIRE', k, 60000) try('PERSIST', k) try('RENAME', k, other) try('UNLINK', other)
try('SET', k, 'x', 'PX', 60000) try('GET', k) try('STRLEN', k) try('GETRANGE', k, 0, 0) try('DEL', k)
try('ZADD', k, 1, 'm') try('ZSCORE', k, 'm') try('ZRANGE', k, 0, -1)
try('ZRANGEBYSCORE', k, 0, 1) try('ZREVRANGE', k, 0, 0) try('ZCARD', k) try('ZREMRANGEBYSCORE', k, 2, 3)
try('ZREM', k, 'm') try('DEL', k)
try('XADD', k, '1-0', 'f', 'v') try('XRANGE', k, '-', '+') try('XREVRANGE', k, '+', '-')
try('XLEN', k) try('XTRIM', k, 'MINID', '2-0') try('UNLINK', k, other)
try('TIME') try('SPUBLISH', k, 'probe')
return refused
"""

# What clients send outside scripts, on a key that does not exist. Reads only.
_READS: tuple[tuple[str, ...], ...] = (
    ("GET",), ("STRLEN",), ("GETRANGE", "0", "0"), ("EXISTS",), ("PTTL",), ("HGET", "f"), ("HGETALL",), ("HMGET", "f"),
    ("HSCAN", "0"), ("ZRANGE", "0", "0"), ("ZSCAN", "0"), ("XRANGE", "-", "+"), ("XREVRANGE", "+", "-"),
)

Level = Literal["ok", "warn", "fail"]
Ask = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check: what was looked at, what was seen, and what to do about it ('' when all is well)."""

    level: Level
    what: str
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}" + (f"; {self.fix}" if self.fix else "")


def check(client: redis.Redis, space: str = "default") -> list[Finding]:
    """Look at a server through a client that can reach it. ``space`` names the keys that are tried.

    Raises:
        redis.exceptions.ConnectionError and the like: it cannot be reached; see ``address.unreachable``.
    """
    def ask(*command: str) -> Any:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    return _examine(ask, space)


def demand(findings: Iterable[Finding]) -> None:
    """Refuse a server with a ``fail``.

    Raises:
        ServerUnfit: one line with every failure and its remedy.
    """
    if failed := [str(finding) for finding in findings if finding.level == "fail"]:
        raise ServerUnfit("the server cannot be used: " + " | ".join(failed))


def _examine(ask: Ask, space: str) -> list[Finding]:
    info = _Facts()
    for section in ("server", "memory", "persistence"):
        info.add(_asked(ask, "INFO", section))
    config = _Facts()
    for name in ("maxmemory-policy", "appendonly", "appendfsync", "save"):
        config.add(_asked(ask, "CONFIG GET", name))
    return [
        _version(ask, info),
        *_lua(_name_and_version(ask, info)),
        _policy(config.get("maxmemory-policy") or info.get("maxmemory_policy")),
        _persistence(info, config),
        *_rights(ask, space),
        _clock(ask),
    ]


class _Facts(dict[str, str]):
    """What the server says about itself, as text, whichever reply type and decoding the client is set to."""

    def add(self, reply: object) -> None:
        if isinstance(reply, dict):
            self.update({_text(key): _text(value) for key, value in reply.items()})
        elif isinstance(reply, list | tuple):
            self.update({_text(reply[i]): _text(reply[i + 1]) for i in range(0, len(reply) - 1, 2)})


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _asked(ask: Ask, *command: str) -> Any:
    """The reply, or None when the server does not let us ask: no right, or no such command there."""
    try:
        return ask(*command)
    except failures.BusyLoadingError:
        raise
    except failures.ResponseError:
        return None


def _name_and_version(ask: Ask, info: _Facts) -> tuple[str, Version | None]:
    if info.get("valkey_version"):
        return "valkey", parse_version(info["valkey_version"])
    if info.get("redis_version"):
        return "redis", parse_version(info["redis_version"])
    hello = _Facts()  # answered to everybody, whatever their rights
    hello.add(_asked(ask, "HELLO"))
    return ("valkey" if hello.get("server") == "valkey" else "redis"), parse_version(hello.get("version", ""))


def _version(ask: Ask, info: _Facts) -> Finding:
    name, version = _name_and_version(ask, info)
    if version is None:
        return Finding("warn", "version", "cannot be seen: INFO is not allowed",
                       "make sure it is Redis 7.0 or Valkey 7.2, or newer")
    shown = f"{name} {_dotted(version)}"
    if version < OLDEST[name]:
        return Finding("fail", "version", f"{shown} is too old", f"use {name} {_dotted(OLDEST[name][:2])} or newer")
    return Finding("ok", "version", shown)


def _lua(found: tuple[str, Version | None]) -> list[Finding]:
    name, version = found
    if version is None:
        return []
    lines = _LUA_FIXED[name]
    fixed = [line for line in lines if line[:2] == version[:2]]
    if version >= lines[-1] or any(version >= line for line in fixed):
        return []
    return [Finding(
        "warn", "security", f"by its number, {name} {_dotted(version)} lacks the fixes for CVE-2025-49844 and its kin",
        f"update to {_dotted(min(line for line in lines if line > version))} or newer, "
        "unless your distribution has back-ported them")]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _policy(policy: str | None) -> Finding:
    if policy is None:
        return Finding("warn", "eviction", "maxmemory-policy cannot be seen: INFO and CONFIG are not allowed",
                       "make sure that it is noeviction")
    if policy.startswith("allkeys-"):
        return Finding("fail", "eviction", f"maxmemory-policy is {policy}: the server would drop records at will",
                       "run CONFIG SET maxmemory-policy noeviction")
    if policy.startswith("volatile-"):
        return Finding("warn", "eviction", f"maxmemory-policy is {policy}: a full server may drop running work",
                       "run CONFIG SET maxmemory-policy noeviction")
    return Finding("ok", "eviction", policy)


def _persistence(info: _Facts, config: _Facts) -> Finding:
    aof = config.get("appendonly") or {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""))
    if aof is None:
        return Finding("warn", "persistence", "cannot be seen: INFO and CONFIG are not allowed",
                       "make sure that appendonly is on")
    if aof == "yes":
        sync = config.get("appendfsync", "")
        if sync == "no":
            return Finding("warn", "persistence", "appendfsync is no: a power failure may lose minutes",
                           "run CONFIG SET appendfsync everysec")
        return Finding("ok", "persistence", f"append-only file{f', appendfsync {sync}' if sync else ''}")
    if config.get("save"):
        return Finding("warn", "persistence", "snapshots only: what came after the last one dies with the server",
                       "run CONFIG SET appendonly yes")
    unseen = "" if "save" in config else " (whether there are snapshots cannot be seen)"
    return Finding("warn", "persistence", f"append-only file is off{unseen}: what is stored may die with the server",
                   "run CONFIG SET appendonly yes")


def _rights(ask: Ask, space: str) -> list[Finding]:
    token = secrets.token_hex(8)
    keys = [f"mg:{{{space}.00}}:probe:{token}", f"mg:{{{space}.00}}:probe:{token}:2"]
    # The list is for one space; `memgang acl` prints the whole rule.
    fix = (f"grant the user of MEMGANG_URL ~mg:store ~mg:{{{space}}}:* ~mg:{{{space}.*}}:* &mg:{{{space}.*}}:* "
           "and the commands")
    try:
        digest = _text(ask("SCRIPT LOAD", _PROBE))
        refused = sorted({_text(name) for name in ask("EVALSHA", digest, "2", *keys)})
    except failures.ReadOnlyError:
        return [Finding("fail", "rights", "this server is a read-only replica", "name its primary in MEMGANG_URL")]
    except failures.OutOfMemoryError:
        return [Finding("warn", "memory", "the server is out of memory: new objects are refused",
                        "raise maxmemory, or forget what is not needed")]
    except failures.BusyLoadingError:
        raise
    except failures.NoPermissionError as error:
        return [Finding("fail", "rights", f"scripts or keys mg:* are not allowed: {_first_line(error)}", fix)]
    except failures.ResponseError as error:  # MISCONF, NOREPLICAS, a server without the new kind of scripts
        return [Finding("fail", "scripts", f"the server does not run them: {_first_line(error)}",
                        "see the server's log, and correct what it names")]
    for name, *rest in (*_READS, ("XREAD",)):
        command = ("XREAD", "STREAMS", keys[0], "0") if name == "XREAD" else (name, keys[0], *rest)
        refused += _no_right(ask, name, *command)
    for key in ("mg:store", f"mg:{{{space}}}:cfg"):
        refused += _no_right(ask, f"EXISTS {key}", "EXISTS", key)
    if refused:
        return [Finding("fail", "rights", f"refused: {' '.join(dict.fromkeys(refused))}", fix)]
    return [Finding("ok", "rights", f"scripts run, keys of space {space} can be written and read")]


def _no_right(ask: Ask, name: str, *command: str) -> list[str]:
    try:
        ask(*command)
    except failures.NoPermissionError:
        return [name]
    return []


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _clock(ask: Ask) -> Finding:
    before = time.time()
    reply = _asked(ask, "TIME")
    after = time.time()
    if reply is None:
        return Finding("warn", "clock", "cannot be compared: TIME is not allowed", "allow the command TIME")
    server = int(reply[0]) + int(reply[1]) / 1e6
    # The server looked at its clock at some moment in between.
    offset = server - after if server > after else server - before if server < before else 0.0
    if abs(offset) > CLOCK_OFFSET_S_MAX:
        where = "ahead of" if offset > 0 else "behind"
        return Finding("warn", "clock", f"the server's clock is {abs(offset):.1f} s {where} ours",
                       "let both keep time by NTP: expiry and the times shown follow the server's")
    return Finding("ok", "clock", "agrees with ours" if not offset else f"{abs(offset) * 1000:.0f} ms off")
