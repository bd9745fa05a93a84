"""The atomic steps: loads lua/*.lua; one typed async function for each file; replies become model values.

A script's file says what it does; its function here says how to ask. Every script may run twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import msgspec
from redis.exceptions import NoScriptError, RedisError

from memgang.errors import Conflict, Fenced, IntegrityError, StoreFull, StoreUnavailable, UnknownReference
from memgang.model import NO_USAGE, Answered, Backoff, Claimed, Failed, Follow, Outcome, Ref, Usage
from memgang.store import tallies
from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.wire import Argument, Command, Wire

LUA = resources.files("memgang.store") / "lua"


def assembled(name: str) -> str:
    """A script as the server gets it: its first line (the flags), the prelude, then the rest."""
    first, rest = (LUA / f"{name}.lua").read_text("utf-8").split("\n", 1)
    return f"{first}\n{(LUA / '_prelude.lua').read_text('utf-8')}{rest}"


@cache
def script_names() -> tuple[str, ...]:
    """The names of all scripts."""
    return tuple(sorted(p.name[:-4] for p in LUA.iterdir() if p.name.endswith(".lua") and not p.name.startswith("_")))


@cache
def _sources() -> dict[str, tuple[str, str]]:
    return {n: (source := assembled(n), hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
            for n in script_names()}


async def load(wire: Wire) -> None:
    """Hand all scripts to the server."""
    for reply in [wire.call("SCRIPT", "LOAD", source) for source, _ in _sources().values()]:
        try:
            await reply
        except RedisError as error:
            raise translated(error, "load scripts") from error


async def _run(wire: Wire, name: str, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
    return await _answer(wire, name, ("EVALSHA", _sources()[name][1], len(keys), *keys, *args))


async def _answer(wire: Wire, name: str, command: Command, sent: Awaitable[Any] | None = None) -> list[Any]:
    """The reply to a script; a server that has forgotten it is given it again."""
    try:
        try:
            reply = await (sent if sent is not None else wire.call(*command))
        except NoScriptError:
            await load(wire)
            reply = await wire.call(*command)
    except RedisError as error:
        raise translated(error, name) from error
    return reply  # type: ignore[no-any-return]  # lists that begin with a word, as the contract says


class Stored(NamedTuple):
    """What `put` answers: new | known | replay, and when the object expires (0: never)."""

    how: str
    expires: int


class Body(msgspec.Struct, frozen=True, gc=False):
    """What `get` answers when the object is there.

    ``body`` is None where it is to be fetched: in so many ``parts`` (0: piece by piece), or (-1) it is not at the server:
    ``host`` is where it was put.
    """

    media_type: str
    size: int
    expires: int
    meta: bytes
    cost_s: float
    body: bytes | None
    parts: int
    host: str = ""


def _number(reply: bytes | int | str) -> int:
    return int(reply)


def _usage(text: bytes) -> Usage:
    return msgspec.json.decode(text, type=Usage) if text else NO_USAGE


def _flight(keys: Keys, call: str) -> list[str]:
    shard = keys.shard_of(call)
    return [*keys.head(shard), keys.at(shard, f"f:{call}"), keys.at(shard, f"s:{call}")]


async def claim(
    wire: Wire, keys: Keys, call: str, *, who: str, note: bytes, owner: str, inc: str,
    lease_ms: int, attempts: int, hold_ms: int, unusable: Answered | None = None, keep_ms: int = 0, first: bool = True,
) -> Outcome:
    """Ask who computes this call. ``unusable`` is an answer the caller has checked and refuses.

    With ``keep_ms`` an answer that is computed anew is kept meanwhile: all are given it until its end, and who
    would take it for ``keep_ms`` longer is told of it. ``first``: before whatever else waits to be sent.
    """
    refused = (unusable.ref.id, str(unusable.fence)) if unusable else ("", "")
    names = _flight(keys, call)
    command: Command = ("EVALSHA", _sources()["claim"][1], len(names), *names,
                        who, note, owner, inc, lease_ms, attempts, hold_ms, *refused, keep_ms)
    sent = wire.call_first(*command) if first else wire.call(*command)
    try:
        reply = await _answer(wire, "claim", command, asyncio.shield(sent))
    except asyncio.CancelledError:
        def give_up(done: asyncio.Future[Any]) -> None:
            # It was on its way and has made us the leader of what we no longer want: others need not wait for the lease.
            if not done.cancelled() and done.exception() is None and done.result()[0] == b"claimed":
                release_soon(wire, keys, call, who=who, note=note, owner=owner, fence=int(done.result()[1]))

        sent.add_done_callback(give_up)
        raise
    try:
        return _outcome(reply)
    except (ValueError, msgspec.MsgspecError):
        # Not written by any of our scripts. Everybody who asks for this call would stumble over it, for ever.
        await _run(wire, "drop", names, [who, note, "damaged"])
        return _outcome(await _answer(wire, "claim", command))


def _outcome(reply: list[Any]) -> Outcome:
    match reply:
        case [b"answered", *answer]:
            return _answered(answer)
        case [b"follow", ms, fence, leader, by, *old]:
            return Follow(int(ms), int(fence), leader.decode(), by.decode(), _old(old))
        case [b"backoff", ms, fence, *old]:
            return Backoff(int(ms), int(fence), _old(old))
        case [b"claimed", fence, ms, how, attempt, *old]:
            return Claimed(int(fence), int(ms), how.decode(), int(attempt), _old(old))
        case [b"failed", error, fence, ms, *old]:
            return Failed(error, int(fence or 0), int(ms), _old(old))
    raise _surprise("claim", reply)


def _answered(words: Sequence[bytes]) -> Answered:
    if len(words) != 6:
        raise _surprise("claim", words)
    ref, fence, expires, validator, usage, by = words
    return Answered(Ref("mg:" + ref.decode()), int(fence), int(expires), validator, _usage(usage), by.decode())


def _old(words: Sequence[bytes]) -> Answered | None:
    return _answered(words) if words else None


def commit_command(
    keys: Keys, call: str, *, who: str, note: bytes, owner: str, fence: int, answer: Ref,
    ttl_ms: int, own: Usage, validator: bytes, usage: Usage, stale_ms: int = 0, kind: str = "",
) -> Command:
    """The commit as a command, to be sent behind a `put` or alone. ``kind`` is that of the call."""
    names = _flight(keys, call)
    if keys.shard_of(answer.id) == keys.shard_of(call):
        names.append(keys.record(answer))  # one shard: the script itself sees whether the object is there
    return ("EVALSHA", _sources()["commit"][1], len(names), *names, who, note, owner, str(fence), answer.id, ttl_ms, own.ms,
            own.micro_usd, validator, msgspec.json.encode(usage), stale_ms, tallies.committed(kind, own), tallies.lost(own))


async def commit(wire: Wire, command: Command, call: str, fence: int, sent: asyncio.Future[Any] | None = None) -> int:
    """Publish the answer; when it expires (0: never). ``sent`` is the reply of a command under way.

    Raises:
        Fenced: somebody claimed since; nothing visible was changed.
        UnknownReference: the object is not there (any more).
    """
    match await _answer(wire, "commit", command, sent):
        case [b"committed", expires]:
            return _number(expires)
        case [b"fenced", newest]:
            raise Fenced(call, fence, int(newest))
        case [b"absent", ref]:
            raise UnknownReference("mg:" + ref.decode(), "it was gone before the answer could point at it")
        case reply:
            raise _surprise("commit", reply)


def beat_source() -> str:
    """The beat's script, to be loaded where the server has forgotten it."""
    return _sources()["beat"][0]


async def fail(
    wire: Wire, keys: Keys, call: str, *, who: str, note: bytes, owner: str, fence: int,
    kind: Literal["permanent", "transient"], error: bytes, pause_ms: int, call_kind: str = "", own: Usage = NO_USAGE,
) -> bool:
    """End this attempt with an error. False: somebody newer leads, nothing was changed. ``own`` is what it spent."""
    reply = await _run(wire, "fail", _flight(keys, call)[:3], [
        who, note, owner, str(fence), kind, error, pause_ms, tallies.failed(call_kind, own)])
    return bool(reply[0] == b"recorded")


async def release(
    wire: Wire, keys: Keys, call: str, *, who: str, note: bytes, owner: str, fence: int, own: Usage = NO_USAGE,
) -> bool:
    """Give the flight up without an error. False: somebody newer leads, nothing was changed. ``own`` is what was spent."""
    reply = await _run(wire, "release", _flight(keys, call)[:3], [who, note, owner, str(fence), tallies.released(own)])
    return bool(reply[0] == b"released")


def release_soon(wire: Wire, keys: Keys, call: str, *, who: str, note: bytes, owner: str, fence: int) -> None:
    """As `release`, for who is leaving and cannot wait for the reply. If it does not arrive, the lease ends the claim."""
    names = _flight(keys, call)[:3]
    gone = wire.call("EVALSHA", _sources()["release"][1], 3, *names, who, note, owner, str(fence), tallies.released(NO_USAGE))
    gone.add_done_callback(lambda reply: reply.cancelled() or reply.exception())


async def release_dead(wire: Wire, keys: Keys, call: str, *, who: str, note: bytes, inc: str) -> bool:
    """Give up the flight of a process that is proved to be dead. False: somebody else leads by now."""
    reply = await _run(wire, "release", _flight(keys, call)[:3], [who, note, "", inc, tallies.DIED])
    return bool(reply[0] == b"released")


async def drop(
    wire: Wire, keys: Keys, shard: int, calls: Sequence[tuple[str, str]], *, who: str, note: bytes, reason: str
) -> list[str | None]:
    """Forget what at most 64 calls of one shard answered; what each had answered ('' for nothing yet), None where nothing went.

    With each call comes the id of the answer it must hold; ``"!"`` drops an error only, ``""`` whatever is there.
    """
    flights = [k for call, _ in calls for k in (keys.at(shard, f"f:{call}"), keys.at(shard, f"s:{call}"))]
    reply = await _run(wire, "drop", [*keys.head(shard), *flights], [who, note, reason, *(only for _, only in calls)])
    return [None if answer == b"-" else answer.decode() for answer in reply[1:]]


def beat_command(keys: Keys, call: str, *, who: str, owner: str, fence: int, lease_ms: int) -> tuple[str, list[Argument]]:
    """The beat as hash and arguments for a connection that is not the wire's (beats have their own thread)."""
    names = _flight(keys, call)[:3]
    return _sources()["beat"][1], [len(names), *names, who, b"", owner, str(fence), lease_ms]


def put_command(
    keys: Keys, ref: Ref, *, who: str, note: bytes, op: str, media_type: str, size: int,
    how: Literal["inline", "laid", "host"], what: bytes | int | str, ttl_ms: int, cost_s: float, limit: int,
    guard_ms: int, keep: bool, call: str, meta: bytes, parents: Sequence[Ref], laid: str = "", share: int = 0,
) -> Command:
    """The put of an object whose bytes come along, have been laid, or are in a file of this host, as a command.

    ``share``: how many bytes ``who`` may have in this shard, 0: any.
    """
    shard = keys.shard_of(ref.id)
    return ("EVALSHA", _sources()["put"][1], 8, *keys.of_put(shard, ref, laid),
            who, note, op, media_type, size, how, what, ttl_ms, repr(cost_s), limit, guard_ms, int(keep), 0, call, meta,
            " ".join(p.id for p in parents[:64]), share)


async def put(wire: Wire, command: Command, ref: Ref, size: int, sent: asyncio.Future[Any] | None = None) -> Stored | None:
    """Record an object. None: laid bytes are gone, lay them again. ``sent`` is the reply of a command under way.

    Raises:
        StoreFull: the budget of the space or of the agent is used up; nothing was written.
        IntegrityError: the id is taken by an object of another size.
    """
    match await _answer(wire, "put", command, sent):
        case [b"stored", word, expires]:
            return Stored(word.decode(), int(expires))
        case [b"full", used, most, *agent]:
            raise StoreFull(f"{size:,} bytes", int(used), int(most), *(name.decode() for name in agent))
        case [b"unlaid"]:
            return None
        case [b"conflict", other]:
            raise IntegrityError(ref, f"an object of {int(other):,} bytes has this id, ours has {size:,}")
        case reply:
            raise _surprise("put", reply)


def put_many_command(
    keys: Keys, each: Sequence[tuple[Ref, str, bytes, bytes, bytes]], *, who: str, op: str, ttl_ms: int, cost_s: float,
    limit: int, guard_ms: int, keep: bool, parents: Sequence[Ref], share: int,
) -> Command:
    """The put of at most 64 small objects of one shard, none of them twice: reference, media type, bytes, meta and note of each.

    ``share``: as in `put_command`.
    """
    shard = keys.shard_of(each[0][0].id)
    own: list[str] = []
    told: list[Argument] = []
    for ref, media_type, body, meta, note in each:
        own += keys.of_object(shard, ref)
        told += media_type, body, meta, note
    return ("EVALSHA", _sources()["put_many"][1], 5 + len(own), *_indexes(keys, shard), *own,
            who, "", op, ttl_ms, repr(cost_s), limit, guard_ms, int(keep), " ".join(p.id for p in parents), share, *told)


async def put_many(wire: Wire, command: Command, sent: asyncio.Future[Any]) -> tuple[int, list[bytes]]:
    """When those that are new expire (0: never); of each: ``new``, ``replay``, or ``left`` to be put by itself."""
    match await _answer(wire, "put", command, sent):
        case [b"stored", expires, *words]:
            return _number(expires), words
        case reply:
            raise _surprise("put_many", reply)


def get_command(keys: Keys, shard: int, refs: Sequence[Ref], most_bytes: int) -> Command:
    """The read of at most 64 bodies of one shard, as a command. More than so many bytes come in no reply, but for the first's."""
    own: list[str] = []
    for ref in refs:
        own += keys.of_object(shard, ref)
    return ("EVALSHA", _sources()["get"][1], 2 + len(own), *keys.head(shard), *own, "", "", most_bytes)


def found(words: list[Any]) -> Body | Literal["absent", "expired", "lost", "later", "damaged"]:
    """What `get` says of one object: its body by the server's clock, or why there is none.

    Raises:
        StoreUnavailable: none of the words of the script.
    """
    try:
        match words:
            case [b"here", kind, size, expires, meta, cost, body]:
                return Body(kind.decode(), int(size), int(expires), meta or b"", float(cost or 0), body, 0)
            case [b"parts", kind, size, expires, meta, cost, parts]:
                return Body(kind.decode(), int(size), int(expires), meta or b"", float(cost or 0), None, int(parts))
            case [b"elsewhere", kind, size, expires, meta, cost, host]:
                return Body(kind.decode(), int(size), int(expires), meta or b"", float(cost or 0), None, -1, host.decode())
    except (ValueError, AttributeError):  # no number, or a field that is not there
        return "damaged"
    match words:
        case [b"absent"]:
            return "absent"
        case [b"expired"]:
            return "expired"
        case [b"lost"]:
            return "lost"
        case [b"later"]:
            return "later"
    raise _surprise("get", words)


async def pin(wire: Wire, keys: Keys, ref: Ref, *, who: str, note: bytes, holder: str, ms: int) -> int | None:
    """Pin for ``ms`` (0 unpins); the deadline by the server's clock, 0 when unpinned, None when the object is not there."""
    reply = await _run(wire, "pin", [*keys.head(keys.shard_of(ref.id)), keys.record(ref), keys.pins(ref)],
                       [who, note, holder, str(ms)])
    match reply:
        case [b"pinned", deadline]:
            return _number(deadline)
        case [b"unpinned"]:
            return 0
        case [b"absent"]:
            return None
    raise _surprise("pin", reply)


async def name(
    wire: Wire, keys: Keys, text: str, *, who: str, note: bytes, op: str, ref: Ref | None, expect: int | None, kept: int = 1000,
) -> int:
    """Point a name at an object; the new version.

    Raises:
        Conflict: the name is not at the version expected.
    """
    hashed = keys.name_hash(text)
    shard = keys.shard_of(hashed)
    reply = await _run(wire, "name", [
        *keys.head(shard), keys.at(shard, f"n:{hashed}"), keys.at(shard, "m"), keys.at(shard, f"v:{hashed}"),
    ], [who, note, op, ref.id if ref else "", "*" if expect is None else str(expect), text, kept])
    match reply:
        case [b"named", version]:
            return _number(version)
        case [b"changed", ref_id, version]:
            raise Conflict(text, expect or 0, int(version), f"mg:{ref_id.decode()}" if ref_id else "")
    raise _surprise("name", reply)


def _indexes(keys: Keys, shard: int) -> list[str]:
    return [*keys.head(shard), keys.at(shard, "x"), keys.at(shard, "r"), keys.at(shard, "l")]


async def forget(
    wire: Wire, keys: Keys, shard: int, refs: Sequence[Ref], *, who: str, note: bytes, why: str, op: str,
    root: str, mark_ms: int,
) -> list[int | None]:
    """Remove at most 64 objects of one shard now; the size of each, None where there was none. Safe to repeat with its ``op``.

    Each leaves a mark for ``mark_ms``. With a ``root``, what was being made from it meanwhile must go as well.
    """
    own = [k for r in refs for k in (keys.record(r), keys.body(r), keys.pins(r), keys.mark(r))]
    reply = await _run(wire, "forget", [*_indexes(keys, shard), *own],
                       [who, note, _short(why, 256), op, root or "-", mark_ms])
    return [None if size == -1 else int(size) for size in reply[1:]]


def marked(keys: Keys, refs: Sequence[Ref]) -> list[Command]:
    """Commands whose replies are 0 where none of these objects was forgotten of late."""
    by_shard: dict[int, list[str]] = {}
    for ref in refs:
        by_shard.setdefault(keys.shard_of(ref.id), []).append(keys.mark(ref))
    return [("EXISTS", *own) for own in by_shard.values()]


class Kin(NamedTuple):
    """What an object was made from, and what else a walk along the lineage asks of a record."""

    parents: tuple[str, ...]
    size: int
    call: str
    meta: bytes
    pinned: bool
    incomplete: bool  # it has more parents than a record holds


async def kin(wire: Wire, keys: Keys, shard: int, ids: Sequence[str]) -> list[Kin | None]:
    """The kin of at most 128 objects of one shard; None where there is none."""
    own = [keys.at(shard, f"{kind}:{ident}") for ident in ids for kind in "op"]
    reply = await _run(wire, "kin", [*keys.head(shard), *own], ["", ""])
    return [Kin(tuple(found[0].decode().split()), int(found[1]), found[2].decode(), found[3], bool(found[4]), bool(found[5]))
            if found else None for found in reply[1:]]


async def evict(
    wire: Wire, keys: Keys, shard: int, candidates: Sequence[Ref], *, who: str, note: bytes, needed: int, of: str = ""
) -> tuple[int, int, list[Ref]]:
    """Remove the first of at most 32 candidates that nothing protects, until ``needed`` bytes are free.

    With ``of`` only what this agent was first to write.
    Returns the bytes that are free now, how many were protected, and the victims.
    """
    own = [k for ref in candidates for k in (keys.record(ref), keys.body(ref), keys.pins(ref))]
    reply = await _run(wire, "evict", [*_indexes(keys, shard), *own], [who, note, needed, of])
    return int(reply[1]), int(reply[2]), [Ref("mg:" + i.decode()) for i in reply[3:]]


def _short(text: str, most: int) -> str:
    """The text, cut to so many bytes."""
    return text.encode()[:most].decode("utf-8", "ignore")


async def touch(
    wire: Wire, keys: Keys, shard: int, *, who: str, contexts: bytes, inc: str, number: int, events: bytes,
    counters: dict[str, int], reads: dict[Ref, int],
) -> bool:
    """Log a batch of events that change nothing. False: this batch is in the log already."""
    reply = await _run(wire, "touch", [
        keys.at(shard, "u"), keys.at(shard, "h"), keys.at(shard, "q"), keys.at(shard, "r"), *map(keys.record, reads),
    ], [who, contexts, inc, number, events, msgspec.json.encode(counters), *reads.values()])
    return bool(reply[0] == b"touched")


async def sweep(
    wire: Wire, keys: Keys, shard: int, candidates: Sequence[Ref], *, who: str, note: bytes
) -> tuple[int, int] | None:
    """Remove what has expired among at most 32 candidates: (objects, bytes). None: the clock stepped back."""
    own = [k for ref in candidates for k in (keys.record(ref), keys.body(ref), keys.pins(ref))]
    reply = await _run(wire, "sweep", [
        *keys.head(shard), keys.at(shard, "x"), keys.at(shard, "r"), keys.at(shard, "l"), *own], [who, note])
    return (int(reply[1]), int(reply[2])) if reply[0] == b"swept" else None


def _surprise(script: str, reply: Any) -> StoreUnavailable:
    return StoreUnavailable(f"script {script} answered {reply!r:.200}: is another program using these keys?")
