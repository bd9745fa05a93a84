"""Is the log what was written? The server's logs, the exports, the seals and the anchors held against each other.

Sealed entries are compared one by one; of what is younger than the last seal, the numbers have to rise without a gap
up to the counter that the scripts keep. What a sealer cannot know is said as a note, never passed over.
The files are looked at in `verify_files`, each log in `verify_log`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from redis.exceptions import RedisError

from memgang.settings import Settings
from memgang.store.counters import count_of
from memgang.store.keys import Keys
from memgang.store.replies import translated
from memgang.store.sealer import facts
from memgang.store.sealfile import SealFile, State
from memgang.store.seals import Finding, Segment
from memgang.store.verify_files import anchors, exports, marks, read_chain
from memgang.store.verify_log import LogCheck
from memgang.store.wire import Wire


class Totals(msgspec.Struct):
    """How much was looked at."""

    seals: int = 0
    sealed: int = 0
    unsealed: int = 0
    key: str = ""


async def verify(
    wire: Wire, keys: Keys, files: SealFile, settings: Settings, *, key: bytes | None = None, totals: Totals | None = None
) -> AsyncIterator[Finding]:
    """All findings, those of the files first, then log by log. ``key`` is the public key if not the one beside the seals.

    Raises:
        ConfigError: there are seals, and the extra with the signatures is not installed.
        StoreUnavailable: the server does not answer.
    """
    totals = totals if totals is not None else Totals()
    try:
        # The counters before the files: what is sealed meanwhile is then more than what was counted, never less.
        epoch, now, mark = await facts(wire, keys)
        counted = await asyncio.gather(*(count_of(wire, keys, log) for log in keys.logs()))
        chain = await asyncio.to_thread(read_chain, files, key)
        totals.seals, totals.sealed = len(chain.trusted), sum(s.count for seal in chain.trusted for s in seal.segments)
        totals.key = chain.trusted[-1].key if chain.trusted else ""
        for finding in (*chain.findings, *anchors(files, chain, key), *marks(files, chain, mark, Keys.sealed(keys.space))):
            yield finding
        state = chain.state
        if state.n and state.epoch != epoch:
            yield Finding("lost", "epoch", "", 0, 0, "the server's data began a new life since the last seal: "
                          "it came back without what it held, or the space was erased")
            state = State()
        broken = set[Segment]()
        for finding in await asyncio.to_thread(exports, files, chain, broken):
            yield finding
        for log, count in zip(keys.logs(), counted, strict=True):
            check = LogCheck(wire, keys, files, settings, log, state, now, count, broken)
            async for finding in _merged(check.findings()):
                yield finding
            totals.unsealed += check.unsealed
    except RedisError as error:
        raise translated(error, "read the log") from error
    if totals.unsealed:
        since = f" since seal {chain.state.n}" if chain.state.n else ": this log was never sealed here"
        yield Finding("note", "unsealed", "", 0, 0, f"not yet sealed: {totals.unsealed:,} entries{since}")


async def _merged(findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """One finding for a run of entries with the same fault."""
    run: Finding | None = None
    async for finding in findings:
        if run is not None and (run.what, run.detail, run.level) == (finding.what, finding.detail, finding.level) \
                and finding.first == run.last + 1:
            run = msgspec.structs.replace(run, last=finding.last)
            continue
        if run is not None:
            yield run
        run = finding
    if run is not None:
        yield run
