"""A log that can be checked: seal it, and say afterwards whether it is what was written.

    async with memgang.open(seal=True) as space: ...     # this process seals what all write, each 10 s
    [f async for f in sealing.verify(space)]             # what is not as it should be

Sealing shows changes made by who can write to the server but cannot sign: the key and the seal file belong to the
user who seals. Against that user himself there is the anchor, a file elsewhere, and the public key kept elsewhere.
Entries younger than the last seal (10 s) are only counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from memgang.errors import MemGangError
from memgang.settings import Settings
from memgang.space import Space
from memgang.store import seals
from memgang.store.sealer import seal_now
from memgang.store.sealfile import SealFile
from memgang.store.seals import Finding
from memgang.store.verify import Totals
from memgang.store.verify import verify as _verify

__all__ = ["Finding", "Report", "Sealed", "report", "seal", "verify"]


class Sealed(msgspec.Struct, frozen=True):
    """What sealing brought: entries sealed now, the number of the last seal, the public key, and where it all lies."""

    entries: int
    seal: int
    key: str
    place: str


class Report(msgspec.Struct, frozen=True):
    """All findings with what was looked at. ``key`` is the fingerprint of the key that signed."""

    space: str
    seals: int
    sealed: int
    unsealed: int
    key: str
    findings: tuple[Finding, ...]

    def ok(self, *, allow_loss: bool = False) -> bool:
        """Whether nothing was tampered with; nor lost, unless that is known and allowed."""
        return not any(f.level == "tampered" or (f.level == "lost" and not allow_loss) for f in self.findings)


async def seal(space: Space) -> Sealed:
    """Seal all that is in the log now, whoever else seals it too.

    Raises:
        ConfigError: the extra ``memgang[audit]`` is not installed.
        LogBroken: the files were changed; nothing is added to them.
        StoreUnavailable: the server does not answer. OSError: the disk takes nothing.
        ServerUnfit: a counter of the server is no number any more; all that is there was sealed nevertheless.
    """
    files = SealFile(space.settings, space.name)
    try:
        await space.flush()
    except MemGangError:
        # What waits here cannot be written, perhaps because somebody wrote over a counter: what is there is sealed
        # nevertheless, and where it is a counter, that is said more clearly than by the script that stumbled over it.
        await seal_now(space.store.wire, space.store.keys, files, space.settings)
        raise
    count = await seal_now(space.store.wire, space.store.keys, files, space.settings)
    return Sealed(count, files.state.n, files.public().hex(), str(files.root))


async def verify(space: Space, *, key: str = "", settings: Settings | None = None) -> AsyncIterator[Finding]:
    """What is not as it should be in the log of the space, its exports, its seals and its anchor; nothing: all is well.

    ``key`` is the public key (64 hex digits) if not the one beside the seals is to be believed.

    Raises:
        ConfigError: the key is none, or there are seals and ``memgang[audit]`` is not installed.
        StoreUnavailable: the server does not answer.
    """
    async for finding in _found(space, key, settings, Totals()):
        yield finding


async def report(space: Space, *, key: str = "", settings: Settings | None = None) -> Report:
    """All findings of `verify`, with what was looked at."""
    totals = Totals()
    found = tuple([finding async for finding in _found(space, key, settings, totals)])
    return Report(space.name, totals.seals, totals.sealed, totals.unsealed, totals.key, found)


async def _found(space: Space, key: str, settings: Settings | None, totals: Totals) -> AsyncIterator[Finding]:
    # A log that was tampered with may take nothing more, and is looked at all the same. A server that is away says so below.
    with contextlib.suppress(MemGangError):
        await space.flush()
    with_ = settings or space.settings
    async for finding in _verify(space.store.wire, space.store.keys, SealFile(with_, space.name), with_,
                                 key=seals.parse_public(key) if key else None, totals=totals):
        yield finding
