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
from memgang.model import Call, Document, Original, Parsed, Place, Ref, Unreadable, Usage, current_work
from memgang.parsing import PARSE
from memgang.readers import web
from memgang.reads import Reads, disk

CONCURRENCY = 12  # enough that parsers need not wait for what was parsed to be stored


class Reading(msgspec.Struct, frozen=True):
    """What reading has brought, in the order of the sources."""

    documents: tuple[Document, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def parts(self) -> list[Ref]:
        """All parts in order; a text that stands at several places once."""
        return list(dict.fromkeys(place.ref for document in self.documents for place in document.places))


async def read_all(reads: Reads, sources: Sequence[str], engine: Engine) -> Reading:
    """Read files, folders, globs and URLs. A source that cannot be read is listed and stops nothing.

    What is parsed may come from strangers, so it is done in a worker process under limits, with any engine. Pages are
    fetched by ``reads``, with its manners.
    """
    named = await asyncio.to_thread(readers.expand, sources)
    outcomes = await run_all(
        named, lambda source: _read(reads, source, engine), CONCURRENCY, stop=lambda error: not isinstance(error, WorkFailed))
    documents: list[Document] = []
    unreadable: list[Unreadable] = []
    for source, outcome in zip(named, outcomes, strict=True):
        match outcome:
            case Document():
                documents.append(msgspec.structs.replace(outcome, source=source))  # known by another path, perhaps
            case Unreadable():
                unreadable.append(Unreadable(source=source, reason=outcome.reason, code=outcome.code))
            case WorkFailed():  # a reader stumbled over it: a mistake of ours, of which the others know nothing
                unreadable.append(Unreadable(source=source, reason=f"the reader failed: {outcome.message}"))
            case Exception():
                raise outcome
    return Reading(tuple(documents), tuple(unreadable))


async def read_text(reads: Reads, source: str, engine: Engine) -> tuple[Document, Ref]:
    """One source as one text: its document, and the reference of its parts joined.

    The text is made from the parts, so `Space.invalidate` of the source takes it along.

    Raises:
        ReadError: it cannot be read, or has nothing to read.
        ConfigError: a URL holds a user or password.
    """
    space, found = reads.space, await read_all(reads, [source], engine)
    if not found.documents:
        if found.unreadable:
            raise ReadError(web.shown(source), found.unreadable[0].reason, found.unreadable[0].code)
        raise ReadError(source, "there is nothing to read")
    document = found.documents[0]
    refs = [place.ref for place in document.places]
    text = "\n\n".join(await space.get_many(refs)) if refs else ""
    if not text:
        raise ReadError(source, "there is no text in it")
    return document, await space.put(text, kind="page", parents=list(dict.fromkeys(refs)))


async def _read(reads: Reads, source: str, engine: Engine) -> Document | Unreadable:
    space = reads.space
    real = source.partition("#")[0] if web.is_url(source) else os.path.realpath(source)
    way: _Page | _File = _Page(reads, real, engine) if web.is_url(source) else _File(real, engine)

    async def compute() -> Document | Unreadable:
        try:
            parsed, size = await way.parsed()
        except ReadError as error:
            # An answer without a validator: shared with those who wait for it now, and never used again.
            way.validator = b""
            return Unreadable(source=web.shown(source), reason=error.reason, code=error.code, asker=way.asker(error.code))
        if (work := current_work.get()) is not None:
            work.own = work.own + Usage(bytes=size)
        refs = await space.put_many([part.text for part in parsed.parts], kind="part",
                                    pos=[part.pos for part in parsed.parts], parents=())
        places = tuple(Place(ref=ref, **_place(part)) for ref, part in zip(refs, parsed.parts, strict=True))
        # As it is named everywhere, so that `Space.invalidate` finds it; who asks is given back the source as given.
        return Document(source=web.shown(real), title=parsed.title, media_type=parsed.media_type, places=places,
                        notes=parsed.notes)

    # Kept as long as its parts are: who wants to forget a source finds them by its document.
    while True:
        recalled = await space.recall(way.call(), compute, ttl=None, kind="document", check=way.check, validate=lambda: way.validator)
        value = await recalled.value()
        if not isinstance(value, Unreadable) or value.asker == way.asker(value.code):
            break  # else another user, or one with other limits, could not read it
    if not isinstance(value, Document | Unreadable):
        raise MemGangError(f"the memory of {web.shown(source)} is not a document: {type(value).__name__}")
    # One that was made here just now, by us or by whom we joined, has its parts; a remembered one may have lost some since.
    if recalled.encoded is None and isinstance(value, Document):
        records = await space.describe_many([place.ref for place in value.places])
        if any(record is None for record in records):  # somebody has forgotten a part: put all again
            value = await compute()
    assert isinstance(value, Document | Unreadable)
    return value


class _File:
    """How a file comes to be parsed: in a worker process, which reads it itself, since it may be large."""

    def __init__(self, real: str, engine: Engine) -> None:
        self._real, self._engine, self.validator = real, engine, b""

    def call(self) -> Call:
        """The call of its document."""
        return Call("read", "memgang.readers:read", readers.VERSION, {"source": self._real})

    async def parsed(self) -> tuple[Parsed, int]:
        """What is in it, and its size; its fingerprint, from before, is the validator."""
        found: tuple[bytes, Parsed, int] = await _guarded(self._engine, self._real, readers.read_file, self._real)
        self.validator = found[0]
        return found[1], found[2]

    def asker(self, code: str) -> str:
        """See `Unreadable`."""
        return disk.asker(0)

    async def check(self, validator: bytes) -> bool:
        """Whether it is still what it was."""
        return await asyncio.to_thread(readers.unchanged, self._real, validator)


class _Page:
    """How a page comes to be parsed: what `Reads.fetch` brings. The document is good for as long as that brings the same."""

    def __init__(self, reads: Reads, url: str, engine: Engine) -> None:
        self._reads, self._url, self._engine, self.validator = reads, url, engine, b""
        self._fetched: Original | ReadError | None = None
        self._refused = b""

    def call(self) -> Call:
        """The call of its document: of its own for each reach, as the call of the page is."""
        return Call("read", "memgang.readers:read", readers.VERSION, self._reads.asked(self._url))

    async def parsed(self) -> tuple[Parsed, int]:
        """What is in it; its bytes were counted where they were fetched."""
        page = self._fetched or await self._fetch()
        self._fetched = None  # whoever computes again fetches again
        if isinstance(page, ReadError):
            raise page
        body = await self._reads.body(page)
        fetched = web.Fetched(body, page.media_type, page.charset, page.etag, page.last_modified, page.final_url)
        parsed: Parsed = await _guarded(self._engine, page.source, readers.read_fetched, page.source, fetched)
        self.validator = page.ref.encode()
        return parsed, 0

    def asker(self, code: str) -> str:
        """See `Unreadable`."""
        return self._reads.manners.asker(code)

    async def check(self, validator: bytes) -> bool:
        """Whether the page is still what it was: of all who want to know, one asks its server, if that need be asked at all."""
        # The host tier and the server may both show the same answer; another one is of somebody who has fetched since.
        if validator == self._refused:
            return False
        page = await self._fetch()
        if isinstance(page, Original) and page.ref.encode() == validator:
            return True
        self._refused = validator
        return False

    async def _fetch(self) -> Original | ReadError:
        try:
            self._fetched = await self._reads.fetch(self._url)
        except ReadError as error:
            self._fetched = error
        return self._fetched


async def _guarded(engine: Engine, source: str, function: Any, *args: Any) -> Any:
    """The function in a worker process, under limits."""
    try:
        return await engine.read(function, *args, limits=PARSE)
    except OverLimit as error:
        raise ReadError(source, f"the parser {error.what}") from None
    except Crashed as error:
        raise ReadError(source, f"the parser crashed on it ({error.how})") from error


def _place(part: Any) -> dict[str, Any]:
    return {"pos": part.pos, "page": part.page, "page_end": part.page_end, "headings": part.headings,
            "line": part.line}
