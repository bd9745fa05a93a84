"""Sources: what is remembered of a file, a folder, a glob or a URL, whether it still exists or not."""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from memgang.codec import decode
from memgang.errors import CodecError, ConfigError, IntegrityError, UnknownReference
from memgang.lineage.reach import Reach
from memgang.model import Document, Original, Ref
from memgang.store import scripts
from memgang.store.store import Store

AT_ONCE = 64


class Readings(msgspec.Struct, frozen=True):
    """What is remembered of a source: the documents and their parts, the calls that read them, and what others share."""

    roots: tuple[Ref, ...] = ()
    calls: tuple[str, ...] = ()
    shared: tuple[Ref, ...] = ()


async def readings(store: Store, source: str) -> Readings:
    """The documents that were read from a file, a folder, a glob or a URL, older versions too, and their parts.

    A part that a document from elsewhere holds too, and that is still what reading there would bring, is shared.

    Raises:
        ConfigError: the source is empty, which as a path would be the folder we are in.
    """
    if not source.strip():
        raise ConfigError("no source is named: it is empty; the folder you are in is '.'")
    reach = Reach(store, ())
    await reach.walk()
    documents = await _documents(store, reach.of_kind("document") | reach.of_kind("original"))
    matches = _matcher(source)
    ours = {ref: document for ref, (document, _) in documents.items() if matches(document.source)}
    parts = dict.fromkeys(part for document in ours.values() for part in _held(document))
    elsewhere: dict[Ref, None] = {}
    for ref, (document, call) in documents.items():
        held = [part for part in _held(document) if part in parts]
        if ref not in ours and held and call and await store.wire.call("HGET", store.keys.flight(call), "answer") == ref.id.encode():
            elsewhere.update(dict.fromkeys(held))
    calls = dict.fromkeys(documents[ref][1] for ref in ours if documents[ref][1])
    # The documents last: by them a repeat finds the rest.
    return Readings((*(part for part in parts if part not in elsewhere), *ours), tuple(calls), tuple(elsewhere))


def _held(read: Document | Original) -> list[Ref]:
    """The objects with what was read: the parts of a document, the body of a page or file."""
    return [read.ref] if isinstance(read, Original) else [place.ref for place in read.places]


async def _documents(store: Store, found: dict[str, scripts.Kin]) -> dict[Ref, tuple[Document | Original, str]]:
    """The documents, pages and files that are there, each with the key of the call that read it."""
    async def one(ref: Ref) -> Any:
        try:
            kept = await store.objects.get(ref)
            return decode(kept.media_type, kept.body)
        except (UnknownReference, IntegrityError, CodecError):
            return None

    out: dict[Ref, tuple[Document | Original, str]] = {}
    refs = [Ref("mg:" + ident) for ident in found]
    for start in range(0, len(refs), AT_ONCE):
        some = refs[start:start + AT_ONCE]
        for ref, value in zip(some, await asyncio.gather(*map(one, some)), strict=True):
            if isinstance(value, Document | Original):
                out[ref] = (value, found[ref.id].call)
    return out


def _matcher(source: str) -> Callable[[str], bool]:
    """Whether a document was read from this source: one URL, one file, anything below a folder, or what fits a glob."""
    if re.match(r"(?i)https?://", source):
        from memgang.readers import web  # here: every process has a space, and few ever forget a page

        named = {source.partition("#")[0], web.shown(source).partition("#")[0]}  # credentials in it were not kept
        return lambda read: read.partition("#")[0] in named
    given = os.path.expanduser(source)
    if glob.has_magic(given) and not os.path.lexists(given):
        steps = Path(given).parts
        plain = next(n for n, step in enumerate(steps) if glob.has_magic(step))
        pattern = (*Path(os.path.realpath(Path(*steps[:plain]))).parts, *steps[plain:])
        return lambda read: _fits(Path(read).parts, pattern)
    real = os.path.realpath(given)
    return lambda read: read == real or read.startswith(real.rstrip(os.sep) + os.sep)


def _fits(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    """As `glob` with recursion: ``**`` stands for any number of folders, everything else for one step."""
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return _fits(steps, pattern[1:]) or (bool(steps) and _fits(steps[1:], pattern))
    return bool(steps) and fnmatch.fnmatchcase(steps[0], pattern[0]) and _fits(steps[1:], pattern[1:])
