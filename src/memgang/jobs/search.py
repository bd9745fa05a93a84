"""Search: which of the newest texts of a space speak of something. A walk and BM25; nothing is kept, nothing is learned."""

from __future__ import annotations

import asyncio
import re

import msgspec

from memgang.errors import ConfigError, UnknownReference
from memgang.jobs.retrieve import Entry, rank
from memgang.model import Document, MemoryObject, Ref
from memgang.peeking import AROUND
from memgang.space import Space

OBJECTS_MAX = 1_000  # looked at, the newest first
BYTES_MAX = 32 * 1024 * 1024  # of text, all together
TEXT_BYTES_MAX = 1024 * 1024  # larger texts are left out: look into them with their reference
PAGE = 200
_TEXTS = ("text/", "application/json")
_OWN = frozenset({"claim", "document", "run"})  # kinds that hold records of ours, not texts


class Hit(msgspec.Struct, frozen=True):
    """One object that speaks of it: how well (only to be compared within one search), and where it begins to."""

    record: MemoryObject
    score: float
    excerpt: str


class Hits(msgspec.Struct, frozen=True):
    """The best first. ``looked_at`` objects were looked at; ``all`` says that there were no more."""

    hits: list[Hit]
    looked_at: int
    all: bool


async def search(
    space: Space, question: str, *, tag: str | None = None, kind: str | None = None, agent: str | None = None, limit: int = 10,
) -> Hits:
    """The objects that speak of it, among the newest 1,000 texts and JSON values of the space that fit the filters.

    Raises:
        ConfigError: nothing is looked for.
    """
    if not question.strip():
        raise ConfigError("there is nothing to look for: give some words")
    records, texts, looked, size, cursor = list[MemoryObject](), list[str](), 0, 0, ""
    while looked < OBJECTS_MAX and size < BYTES_MAX:
        page = await space.find(tag=tag, kind=kind, agent=agent, limit=PAGE, cursor=cursor)
        wanted = [record for record in page.objects if _is_text(record) and (kind or record.meta.get("kind") not in _OWN)]
        for record, text in zip(wanted, await _texts(space, [record.ref for record in wanted]), strict=True):
            if text:
                records.append(record)
                texts.append(text)
                size += len(text)
        looked, cursor = looked + page.looked_at, page.cursor
        if not cursor:
            break
    ranked = await asyncio.to_thread(rank, question, [Entry(text) for text in texts])
    hits = [Hit(records[at], round(score, 3), _excerpt(texts[at], question)) for at, score in ranked[:limit]]
    return Hits(hits, looked, not cursor)


def _is_text(record: MemoryObject) -> bool:
    return record.size <= TEXT_BYTES_MAX and record.media_type.startswith(_TEXTS)


async def _texts(space: Space, refs: list[Ref]) -> list[str]:
    try:
        values = await space.get_many(refs)
    except UnknownReference:  # one has ended since: the others one by one
        values = [await _or_nothing(space, ref) for ref in refs]
    return [value if isinstance(value, str) else _as_json(value) for value in values]


async def _or_nothing(space: Space, ref: Ref) -> object:
    try:
        return await space.get(ref)
    except UnknownReference:
        return ""


def _as_json(value: object) -> str:
    if isinstance(value, Document | bytes):
        return ""
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return ""


def _excerpt(text: str, question: str) -> str:
    """Where the first of the words stands, with what is around it, in one line."""
    words = sorted(set(re.findall(r"\w+", question.lower())), key=len, reverse=True)
    lower = text.lower()
    at = next((place for word in words if (place := lower.find(word)) >= 0), 0)
    return " ".join(text[max(0, at - AROUND):at + 2 * AROUND].split())
