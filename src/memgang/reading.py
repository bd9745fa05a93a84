"""Documents read into parts: each source once, remembered for as long as it stays as it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from memgang import readers
from memgang.engines.asyncio_engine import run_all
from memgang.engines.calls import Crashed, OverLimit
from memgang.engines.processes import Engine
from memgang.errors import MemGangError, ReadError, WorkFailed
from memgang.model import Call, Document, Parsed, Place, Ref, Unreadable, Usage, current_work
from memgang.parsing import PARSE
from memgang.readers import Reach, web
from memgang.space import Space

CONCURRENCY = 12  # enough that parsers need not wait for what was parsed to be stored


class Reading(msgspec.Struct, frozen=True):
    """What reading has brought, in the order of the sources."""

    documents: tuple[Document, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def parts(self) -> list[Ref]:
        """All parts in order; a text that stands at several places once."""
        return list(dict.fromkeys(place.ref for document in self.documents for place in document.places))


async def read_all(space: Space, sources: Sequence[str], engine: Engine, reach: Reach | None = None) -> Reading:
    """Read files, folders, globs and URLs. A source that cannot be read is listed and stops nothing.

    What is parsed may come from strangers, so it is done in a worker process under limits, with any engine. With
    ``reach`` only addresses it allows are asked: for URLs that somebody else has named.
    """
    named = await asyncio.to_thread(readers.expand, sources)
    outcomes = await run_all(
        named, lambda source: _read(space, source, engine, reach), CONCURRENCY, stop=lambda error: not isinstance(error, WorkFailed))
    documents: list[Document] = []
    unreadable: list[Unreadable] = []
    for source, outcome in zip(named, outcomes, strict=True):
        match outcome:
            case Document():
                documents.append(msgspec.structs.replace(outcome, source=source))  # known by another path, perhaps
            case Unreadable():
                unreadable.append(Unreadable(source=source, reason=outcome.reason))
            case WorkFailed():  # a reader stumbled over it: a mistake of ours, of which the others know nothing
                unreadable.append(Unreadable(source=source, reason=f"the reader failed: {outcome.message}"))
            case Exception():
                raise outcome
    return Reading(tuple(documents), tuple(unreadable))


async def read_text(space: Space, source: str, engine: Engine, reach: Reach | None = None) -> tuple[Document, Ref]:
    """One source as one text: its document, and the reference of its parts joined.

    The text is made from the parts, so `Space.invalidate` of the source takes it along.

    Raises:
        ReadError: it cannot be read, or has nothing to read.
        ConfigError: a URL holds a user or password.
    """
    found = await read_all(space, [source], engine, reach)
    if not found.documents:
        reason = found.unreadable[0].reason if found.unreadable else "there is nothing to read"
        raise ReadError(source, reason)
    document = found.documents[0]
    refs = [place.ref for place in document.places]
    text = "\n\n".join(await space.get_many(refs)) if refs else ""
    if not text:
        raise ReadError(source, "there is no text in it")
    return document, await space.put(text, kind="page", parents=list(dict.fromkeys(refs)))


async def _read(space: Space, source: str, engine: Engine, reach: Reach | None) -> Document | Unreadable:
    real = source.partition("#")[0] if web.is_url(source) else os.path.realpath(source)
    asked = {"source": real}
    if reach is not None and web.is_url(source):
        # A call of its own: who may not ask an address must not be given what somebody who may has fetched from it.
        asked["reach"] = " ".join(sorted(reach.hosts)) or "public"
    call = Call("read", "memgang.readers:read", readers.VERSION, asked)
    fingerprint = b""

    async def compute() -> Document | Unreadable:
        nonlocal fingerprint
        try:
            fingerprint, parsed, size = await _parsed(engine, real, reach)
        except ReadError as error:
            # An answer without a validator: shared with those who wait for it now, and never used again.
            fingerprint = b""
            return Unreadable(source=source, reason=error.reason)
        if (work := current_work.get()) is not None:
            work.own = work.own + Usage(bytes=size)
        refs = await space.put_many([part.text for part in parsed.parts], kind="part",
                                    pos=[part.pos for part in parsed.parts], parents=())
        places = tuple(Place(ref=ref, **_place(part)) for ref, part in zip(refs, parsed.parts, strict=True))
        # As it is named everywhere, so that `Space.invalidate` finds it; who asks is given back the source as given.
        return Document(source=real, title=parsed.title, media_type=parsed.media_type, places=places,
                        notes=parsed.notes)

    async def check(validator: bytes) -> bool:
        return await asyncio.to_thread(readers.unchanged, real, validator, reach=reach)

    # Kept as long as its parts are: who wants to forget a source finds them by its document.
    recalled = await space.recall(call, compute, ttl=None, kind="document", check=check, validate=lambda: fingerprint)
    value = await recalled.value()
    if not isinstance(value, Document | Unreadable):
        raise MemGangError(f"the memory of {source} is not a document: {type(value).__name__}")
    # One that was made here just now, by us or by whom we joined, has its parts; a remembered one may have lost some since.
    if recalled.encoded is None and isinstance(value, Document):
        records = await space.describe_many([place.ref for place in value.places])
        if any(record is None for record in records):  # somebody has forgotten a part: put all again
            value = await compute()
    assert isinstance(value, Document | Unreadable)
    return value


async def _parsed(engine: Engine, source: str, reach: Reach | None) -> tuple[bytes, Parsed, int]:
    """The fingerprint, taken before reading, what is in the source, and its size; a page is fetched once for all."""
    try:
        if web.is_url(source):
            fetched = await asyncio.to_thread(web.fetch, source, reach=reach)
            parsed = await engine.read(readers.read_fetched, source, fetched, limits=PARSE)
            return readers.of_fetched(fetched), parsed, len(fetched.body)
        found: tuple[bytes, Parsed, int] = await engine.read(readers.read_file, source, limits=PARSE)
        return found
    except OverLimit as error:
        raise ReadError(source, f"the parser {error.what}") from None
    except Crashed as error:
        raise ReadError(source, f"the parser crashed on it ({error.how})") from error


def _place(part: Any) -> dict[str, Any]:
    return {"pos": part.pos, "page": part.page, "page_end": part.page_end, "headings": part.headings,
            "line": part.line}
