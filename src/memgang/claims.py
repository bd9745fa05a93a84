"""Claims: who is at a piece of work, since when, and what came of it, so that nobody begins it a second time.

    claims = Claims(space)
    claim = await claims.claim("port/login-page", ttl="20m", note="moving it to the new forms")
    if claim.token:
        ...
        await claims.finish("port/login-page", claim.token, outcome="done in two files", result=ref)
    else:
        print(f"{claim.who} is at it since {claim.since}")

A claim is a name (``work/...``) that points at an object which ends by itself. The name is moved by compare-and-set, so
of two who claim at the same time one has it; the object's end, by the server's clock, is the claim's end, so one whose
holder died is free again without anybody clearing up. A claim is advice: it keeps nobody from working.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Any, Literal, NamedTuple

import blake3
import msgspec

from memgang.codec import TTL, parse_ttl
from memgang.errors import ClaimLost, ConfigError, Conflict, UnknownReference
from memgang.model import NameVersion, Ref
from memgang.space import Space

PREFIX = "work/"
TTL_MIN_MS = 1_000
TEXT_MAX = 2_000  # characters of a note or an outcome; what is longer is an object of its own, and its reference goes in
LOOK_S, LOOK_MAX_S = 0.05, 0.5  # how often who waits looks: often at first, since most wait for something short

State = Literal["free", "running", "done", "failed", "given_up", "expired"]
Ending = Literal["done", "failed", "given_up"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work as it stands. Times are ms of the server's clock.

    ``free``: nobody has it, and nobody has done it. ``expired``: ``who`` was the last to write here, and was not heard of
    again; or what came of it is longer ago than it is kept.
    ``until`` is when a running claim ends unless it is claimed again by its holder, and when an ended one is forgotten.
    ``token`` is the right to renew and to finish it; only who was just given the claim sees it, empty for everybody else.
    """

    work: str
    state: State
    who: str = ""
    note: str = ""
    since: int = 0
    until: int = 0
    outcome: str = ""
    result: Ref | None = None
    version: int = 0
    token: str = ""


class _Seen(NamedTuple):
    """What a look brought: the claim, the version of its name for compare-and-set, and a hash of its holder's token."""

    claim: Claim
    expect: int
    holder: str


class Claims:
    """The claims of one space. Lives as long as the space; holds nothing of its own."""

    def __init__(self, space: Space) -> None:
        self._space = space

    async def claim(
        self, work: str, ttl: TTL = "10m", note: str = "", *, token: str = "", again: bool = False
    ) -> Claim:
        """Claim a piece of work, or see who has it. Whoever is given it finds a ``token`` in what comes back.

        With the token of a running claim it is renewed for another ``ttl``. What is done is not given again, unless
        ``again``; what failed, was given up or has expired is.

        Raises:
            ConfigError: no such name can be (see `Space.set_name`), ttl is no time, or the note is too long.
        """
        name = named(work)
        _check("note", note)
        if ttl is None or parse_ttl(ttl) < TTL_MIN_MS:
            raise ConfigError(f"ttl={ttl!r}: a claim needs a time to end of a second or more, such as '10m'; else one whose "
                              "holder dies would stay for ever")
        while True:
            seen = await self._look(work, name)
            mine = seen.claim.state == "running" and _fits(token, seen.holder)
            if seen.claim.state == "running" and not mine or seen.claim.state == "done" and not again:
                return seen.claim
            secret = _secret(token) if mine else secrets.token_urlsafe(16)
            now = self._space.store.log.server_ms()
            record = {"work": work, "state": "running", "who": self._space.context.who, "note": note or seen.claim.note * mine,
                      "since": seen.claim.since if mine else now, "holder": _hashed(secret)}
            version = await self._write(name, record, ttl, seen.expect)
            if version is not None:
                given = (await self._look(work, name)).claim
                if given.version == version:
                    return msgspec.structs.replace(given, token=f"{version}.{secret}")
            # Somebody was quicker: look who.

    async def finish(
        self, work: str, token: str, outcome: str = "", result: Ref | None = None, *, state: Ending = "done", keep: TTL = "1d",
    ) -> Claim:
        """Say what came of it, for as long as ``keep``. Who had forgotten to renew may still do so while nobody else has it.

        Raises:
            ClaimLost: the claim is somebody else's by now, or has ended already.
            ConfigError: no such name can be, or the outcome is too long.
            UnknownReference: the result is not there.
        """
        name = named(work)
        _check("outcome", outcome)
        if state not in ("done", "failed", "given_up"):
            raise ConfigError(f"state {str(state)[:40]!r} must be done, failed or given_up")
        if result is not None:
            await self._space.describe(result)
        seen = await self._look(work, name)
        late = seen.claim.state == "expired" and token.partition(".")[0] == str(seen.claim.version)
        if not late and not (seen.claim.state == "running" and _fits(token, seen.holder)):
            raise ClaimLost(work, seen.claim.state, seen.claim.who)
        record = {"work": work, "state": state, "who": seen.claim.who, "note": seen.claim.note, "since": seen.claim.since,
                  "outcome": outcome, "result": result, "ended": self._space.store.log.server_ms(), "holder": ""}
        if await self._write(name, record, keep, seen.expect, [result] if result is not None else []) is None:
            now = (await self._look(work, name)).claim
            raise ClaimLost(work, now.state, now.who)
        return (await self._look(work, name)).claim

    async def status(self, work: str) -> Claim:
        """The piece of work as it stands.

        Raises:
            ConfigError: no such name can be.
        """
        return (await self._look(work, named(work))).claim

    async def all(self, prefix: str = "", limit: int = 100) -> list[Claim]:
        """The work whose name begins so, that is claimed, was claimed or has ended, in alphabetical order."""
        names = list(await self._space.names(PREFIX + prefix))[:limit]
        return [await self.status(name.removeprefix(PREFIX)) for name in names]

    async def wait(self, work: str, timeout_s: float) -> Claim:
        """The piece of work once nobody is at it any more, or as it stands when the time is over.

        Raises:
            ConfigError: no such name can be.
        """
        name, loop = named(work), asyncio.get_running_loop()
        ends, pause = loop.time() + timeout_s, LOOK_S
        while True:
            claim = (await self._look(work, name)).claim
            left = ends - loop.time()
            if claim.state != "running" or left <= 0:
                return claim
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LOOK_MAX_S)

    async def _write(self, name: str, record: dict[str, Any], ttl: TTL, expect: int, parents: list[Ref] | None = None) -> int | None:
        """The new version, or None where somebody else has written since."""
        # Two claims with the same words at the same millisecond would be the same object, with the time to live of the first.
        ref = await self._space.put(record | {"nonce": secrets.token_hex(8)}, ttl=ttl, kind="claim", parents=parents or [])
        try:
            return await self._space.set_name(name, ref, expect=expect)
        except Conflict:
            return None
        except UnknownReference:  # so short a time to live that it is over already
            return None

    async def _look(self, work: str, name: str) -> _Seen:
        while True:
            at = await self._space.version(name)
            if at is None or at.ref is None:
                return _Seen(Claim(work=work, state="free"), 0, "")
            found = (await self._space.describe_many([at.ref]))[0]
            if found is None:
                return _Seen(_expired(work, at), at.version, "")
            try:
                record = await self._space.get(at.ref)
            except UnknownReference:  # it ended between the two looks
                continue
            if not isinstance(record, dict) or record.get("work") != work:
                raise ConfigError(f"name {name!r} points at something that is not a claim; take the name away, or claim another")
            known = {f: record[f] for f in Claim.__struct_fields__ if f in record}
            claim = msgspec.convert(known | {"until": found.expires, "version": at.version, "result": None, "token": ""}, Claim)
            if (result := record.get("result")) and Ref.is_ref(result):
                claim = msgspec.structs.replace(claim, result=Ref(result))
            return _Seen(claim, at.version, str(record.get("holder", "")))


def named(work: str) -> str:
    """The name a piece of work has in the space."""
    return PREFIX + work


def _expired(work: str, at: NameVersion) -> Claim:
    return Claim(work=work, state="expired", who=at.who, since=at.at, version=at.version)


def _secret(token: str) -> str:
    return token.partition(".")[2]


def _hashed(secret: str) -> str:
    return blake3.blake3(secret.encode()).hexdigest()[:32]


def _fits(token: str, holder: str) -> bool:
    # The record is open to all who read the space, so it holds a hash and not the token.
    return bool(token) and bool(holder) and hmac.compare_digest(_hashed(_secret(token)), holder)


def _check(what: str, text: str) -> None:
    if len(text) > TEXT_MAX:
        raise ConfigError(f"the {what} has {len(text):,} characters, the limit is {TEXT_MAX:,}: put it, and give its reference")
