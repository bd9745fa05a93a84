"""Tools of the memory: put, get, list, find, search, names, forget."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from memgang.canonical import read_json
from memgang.codec import parse_ttl
from memgang.doors.mcp.door import Door
from memgang.doors.mcp.results import Card, Encoding, Marked, Result, Stored, card, moment, stored
from memgang.errors import CodecError, ConfigError
from memgang.jobs.search import search
from memgang.model import Ref
from memgang.peeking import tokens
from memgang.space import Found

LIMIT_MAX = 200

Reference = Annotated[str, Field(
    min_length=1, max_length=600, description="A reference (mg:...), its beginning (mg: and 8 characters or more), or a name.")]
Name = Annotated[str, Field(min_length=1, max_length=600, description="A name, as in notes/audit.")]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="How many at most.")]
Cursor = Annotated[str, Field(description="Go on where an earlier result ended.")]
Expect = Annotated[int, Field(
    ge=-1, description="The version of the name seen last, 0 for a new name; then it is only moved if it is still there. -1: any.")]


class Put(Result):
    """What was stored."""

    ref: str = Field(description="The reference. The same content always has the same.")
    bytes: int
    tokens: int = Field(description="An estimate, four bytes for one.")
    tokens_estimated: Literal[True] = True
    name: str = ""
    version: int = Field(default=0, description="The version of the name, for the next compare-and-set.")


class Cards(Marked):
    """Objects, the newest first."""

    objects: list[Card]
    looked_at: int = Field(description="How many records were looked at.")
    cursor: str = Field(description="Go on with it; empty: there is no more.")


class Hit(Card):
    """An object that speaks of what was looked for."""

    score: float = Field(description="How well; only to be compared within this result.")
    excerpt: str = Field(description="Where it speaks of it.")


class Hits(Marked):
    """What was found, the best first."""

    hits: list[Hit]
    looked_at: int = Field(description="How many objects were looked at, the newest first.")
    all: bool = Field(description="Whether that was all there is.")


class Named(BaseModel):
    """A name and where it points."""

    name: str
    ref: str = Field(description="Empty: the name was taken away.")
    version: int = Field(default=0, description="For compare-and-set; 0 in a list of names.")
    by: str = ""
    at: str = ""


class Names(Marked):
    """Names in alphabetical order, or the versions of one, the newest first."""

    names: list[Named]
    more: bool = Field(description="Whether some were left out: ask with a longer prefix or a higher limit.")


class Moved(Result):
    """Where a name points now."""

    name: str
    ref: str
    version: int


class Gone(Marked):
    """What was forgotten, or with dry_run what would be."""

    refs: list[str]
    bytes: int
    answers: int = Field(description="Calls whose answers went with it; they are computed again when asked for.")
    names: list[str] = Field(description="Names that point at what is gone.")
    pinned: list[str]
    dry_run: bool


class Memory:
    """The tools of one door. ``whole_bytes``: larger values are given as a reference and a preview."""

    def __init__(self, door: Door, whole_bytes: int) -> None:
        self._space, self._whole = door.space, whole_bytes
        door.offer(self.put, "memgang_put", "Store a value")
        door.offer(self.get, "memgang_get", "Read a value", reads=True, repeats=True)
        door.offer(self.newest, "memgang_list", "List the newest objects", reads=True, repeats=True)
        door.offer(self.find, "memgang_find", "Find objects by what they are", reads=True, repeats=True)
        door.offer(self.search, "memgang_search", "Search the stored texts", reads=True, repeats=True)
        door.offer(self.names, "memgang_names", "List names and their versions", reads=True, repeats=True)
        door.offer(self.set_name, "memgang_set_name", "Point a name at an object")
        door.offer(self.forget, "memgang_forget", "Forget an object for good", destroys=True, repeats=True)

    async def put(
        self, text: Annotated[str, Field(description="The value: text, JSON as text, or bytes in base64.")],
        encoding: Annotated[Encoding, Field(description="How it is written.")] = "text",
        name: Annotated[str, Field(max_length=600, description="Point this name at it, as in notes/audit.")] = "",
        expect: Expect = -1,
        tags: Annotated[list[str], Field(max_length=32, description="Labels to find it by.")] = [],  # noqa: B006  # copied for each call
        ttl: Annotated[str, Field(description="When it ends, such as 15m or 7d; empty: it stays.")] = "",
        kind: Annotated[str, Field(description="What kind of object it is, in one word.")] = "other",
    ) -> Put:
        """Store a text, a JSON value or bytes in the memory all agents share, and get the reference to pass on.

        The same content gives the same reference. With a name, others find it without knowing the reference.
        """
        value = _value(text, encoding)
        version = 0
        ref = await self._space.put(value, ttl=ttl or None, tags=tags, kind=kind)
        if name:
            version = await self._space.set_name(name, ref, expect=None if expect < 0 else expect)
        size = (await self._space.describe(ref)).size
        return Put(ref=ref, bytes=size, tokens=tokens(size), name=name, version=version)

    async def get(self, ref: Reference) -> Stored:
        """Read a value by reference or name. A large one comes as how it begins: read what you need of it with memgang_peek."""
        whole = await self._space.resolve(ref)
        record = await self._space.describe(whole)
        return stored(record, await self._space.get(whole), self._whole)

    async def newest(self, limit: Limit = 20, cursor: Cursor = "") -> Cards:
        """List the newest objects, without their values."""
        return _cards(await self._space.find(limit=limit, cursor=cursor))

    async def find(
        self, tag: Annotated[str, Field(description="With this tag.")] = "",
        by: Annotated[str, Field(description="Written by this agent.")] = "",
        type: Annotated[str, Field(description="Whose media type begins so, as in text/.")] = "",
        kind: Annotated[str, Field(description="Of this kind: page, part, fact, report, claim, other ...")] = "",
        run: Annotated[str, Field(description="Made in this run.")] = "",
        since: Annotated[str, Field(description="Not older than this, such as 1h.")] = "",
        limit: Limit = 20, cursor: Cursor = "",
    ) -> Cards:
        """Find objects by tag, writer, type, kind, run or age; all that are given must fit. The newest first."""
        after = self._space.store.log.server_ms() - parse_ttl(since) if since else None
        return _cards(await self._space.find(
            tag=tag or None, agent=by or None, media_type=type or None, kind=kind or None, run=run or None, since=after,
            limit=limit, cursor=cursor))

    async def search(
        self, query: Annotated[str, Field(min_length=1, max_length=1_000, description="A question or some words.")],
        tag: Annotated[str, Field(description="Only with this tag.")] = "",
        kind: Annotated[str, Field(description="Only of this kind.")] = "",
        by: Annotated[str, Field(description="Only written by this agent.")] = "",
        limit: Annotated[int, Field(ge=1, le=50, description="How many at most.")] = 10,
    ) -> Hits:
        """Search the newest 1,000 stored texts and JSON values for words (BM25, no embeddings), the best first with an excerpt."""
        found = await search(self._space, query, tag=tag or None, kind=kind or None, agent=by or None, limit=limit)
        return Hits(hits=[Hit(**card(hit.record), score=hit.score, excerpt=hit.excerpt) for hit in found.hits],
                    looked_at=found.looked_at, all=found.all)

    async def names(
        self, prefix: Annotated[str, Field(description="Only names that begin so.")] = "",
        history_of: Annotated[str, Field(description="Instead: the versions of this one name.")] = "", limit: Limit = 100,
    ) -> Names:
        """List names and the references they point at, or the versions of one name with who moved it and when."""
        if history_of:
            versions = await self._space.history(history_of, limit + 1)
            told = [Named(name=v.name, ref=v.ref or "", version=v.version, by=v.who, at=moment(v.at)) for v in versions]
        else:
            told = [Named(name=name, ref=ref) for name, ref in (await self._space.names(prefix)).items()]
        return Names(names=told[:limit], more=len(told) > limit)

    async def set_name(
        self, name: Name, ref: Annotated[str, Field(description="What it is to point at; empty: take the name away.")], expect: Expect = -1,
    ) -> Moved:
        """Point a name at an object by compare-and-set, or take it away. Its history stays."""
        whole = await self._space.resolve(ref) if ref else None
        version = await self._space.set_name(name, whole, expect=None if expect < 0 else expect)
        return Moved(name=name, ref=whole or "", version=version)

    async def forget(
        self, ref: Reference,
        cascade: Annotated[bool, Field(description="And everything that was made from it.")] = False,
        dry_run: Annotated[bool, Field(description="Only say what would go.")] = False,
        reason: Annotated[str, Field(max_length=200, description="Why; it goes into the log.")] = "",
    ) -> Gone:
        """Remove an object from the memory of all agents, for good. Look first with dry_run. What is gone already is no error."""
        whole = await self._space.resolve(ref)
        found = await self._space.forget(whole, reason, cascade=cascade, dry_run=dry_run)
        return Gone(refs=_texts(found.refs), bytes=found.bytes, answers=len(found.answers), names=[*found.names],
                    pinned=_texts(found.pinned), dry_run=dry_run)


def _value(text: str, encoding: Encoding) -> Any:
    match encoding:
        case "json":
            try:
                return read_json(text)
            except ValueError as error:
                raise CodecError(f"this is not JSON: {error}") from None
        case "base64":
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigError("this is not base64") from None
    return text


def _cards(found: Found) -> Cards:
    return Cards(objects=[Card(**card(record)) for record in found.objects], looked_at=found.looked_at, cursor=found.cursor)


def _texts(refs: tuple[Ref, ...]) -> list[str]:
    return [str(ref) for ref in refs]
