"""Is one log what was sealed? Its entries against the exports, its numbers against the counter of the scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from redis.exceptions import ResponseError

from memgang.settings import Settings
from memgang.store import seals
from memgang.store.counters import Counter, count_of, wrong_kind
from memgang.store.keys import Keys
from memgang.store.replies import number, word, written
from memgang.store.sealfile import Piece, SealFile, State
from memgang.store.seals import Entry, Finding, Segment
from memgang.store.trimming import KEEP_AT_LEAST_MS
from memgang.store.wire import Wire

PAGE = 1_000
NOT_THERE = "not there any more, and nothing sealed says what they were"


class LogCheck:
    """One log while it is verified."""

    def __init__(self, wire: Wire, keys: Keys, files: SealFile, settings: Settings, log: str, state: State, now: int,
                 counted: Counter, broken: set[Segment]) -> None:
        self.wire, self.keys, self.files, self.settings = wire, keys, files, settings
        self.log, self.key, self.now, self.counted, self.broken = log, keys.log(log), now, counted, broken
        self.pieces, self.upto = state.pieces.get(log, []), state.upto.get(log, 0)
        self.sealing = state.n > 0
        self.unsealed = 0
        self._batches: dict[bytes, int] = {}
        self._trimmed: tuple[int, int] | None = None  # the last seq that is not there any more at the beginning, and its time

    async def findings(self) -> AsyncIterator[Finding]:
        """All that is wrong with this log; where something else stands in its place, that."""
        try:
            async for finding in self._findings():
                yield finding
        except ResponseError as error:
            if not wrong_kind(error):
                raise
            yield self._tell("replaced", 0, 0, f"under {self.key} stands no log but something else")

    async def _findings(self) -> AsyncIterator[Finding]:
        """Sealed pieces in order, then what is not sealed, then the ends."""
        seen = 0
        for piece in self.pieces:
            for finding in await self._piece(piece, seen):
                yield finding
            seen = piece.last
        last = self.upto
        async for entries in self._tail():
            for finding in self._contiguous(entries, last):
                yield finding
            last = seals.seq_of(entries[-1][0])
            self.unsealed += len(entries)
        for finding in await self._ends(last):
            yield finding

    async def _piece(self, piece: Piece, seen: int) -> list[Finding]:
        segment = piece.segment
        low = max(seen + 1, segment.first)
        there = await self._range(low, piece.last)
        whole = segment.last == piece.last and low == segment.first
        leaves = [seals.leaf(self.log, entry) for entry in there]
        if whole and seals.root(leaves) == segment.root:
            return self._batched(there) + self._jumps(there, seen)
        if segment in self.broken:
            # Which of the entries it is cannot be said: there is nothing whole to compare with.
            return [] if not there or not whole else [self._tell("edited", low, piece.last, "the server's entries are not those "
                                                                  "that were sealed, and the export is damaged")]
        kept = [e for e in await asyncio.to_thread(self.files.sealed, segment) if low <= seals.seq_of(e[0]) <= piece.last]
        start, end = await self._bounds()
        by_id = {bytes(ident): words for ident, words in there}
        found = []
        for ident, words in kept:
            seq = seals.seq_of(ident)
            if ident not in by_id:
                if seq < start:
                    self._trimmed = seq, written(words)
                elif seq > end:
                    found.append(self._tell("truncated", seq, seq, f"sealed, and the server's log ends with {end}"))
                else:
                    found.append(self._tell("removed", seq, seq, "sealed, and not on the server"))
            elif seals.leaf(self.log, (ident, by_id[ident])) != seals.leaf(self.log, (ident, words)):
                found.append(self._tell("edited", seq, seq, "not what was sealed"))
        known = {ident for ident, _ in kept}
        found += [self._tell("inserted", seals.seq_of(i), seals.seq_of(i), "was not there when this was sealed")
                  for i, _ in there if bytes(i) not in known]
        return found + self._batched(kept) + self._jumps(kept, seen)

    def _jumps(self, entries: Sequence[Entry], seen: int) -> list[Finding]:
        """Numbers that were missing already when it was sealed."""
        first = seals.seq_of(entries[0][0]) if entries else 1
        found = [Finding("note", "start", self.log, 1, first - 1, NOT_THERE)] if not seen and first > 1 else []
        return found + list(self._contiguous(entries, seen or first - 1, batches=False))

    async def _tail(self) -> AsyncIterator[list[Entry]]:
        position = self.upto
        while page := await self.wire.call("XRANGE", self.key, f"({position}-{seals.LAST_PART}", "+", "COUNT", PAGE):
            entries = [(i, w) for i, w in page]
            yield entries
            position = seals.seq_of(entries[-1][0])

    def _contiguous(self, entries: Sequence[Entry], last: int, batches: bool = True) -> Iterator[Finding]:
        for ident, _ in entries:
            seq = seals.seq_of(ident)
            if seq > last + 1:
                if last == 0 and not self.pieces:
                    yield Finding("note", "start", self.log, 1, seq - 1, NOT_THERE)
                else:
                    yield self._tell("gap", last + 1, seq - 1, "missing")
            elif seq <= last or not ident.endswith(b"-0"):
                yield self._tell("inserted", seq, seq, f"entry {ident.decode()} has no number of its own")
            last = seq
        if batches:
            yield from self._batched(entries)

    def _batched(self, entries: Sequence[Entry]) -> list[Finding]:
        """Batches of reads are numbered by who wrote them: none may be there twice, none may be missing between two."""
        if self.log[0] != "h":
            return []
        found = []
        for ident, words in entries:
            source, _, digits = word(words, b"id").rpartition(b"#")
            if (n := number(digits)) is None:
                continue
            before, seq = self._batches.get(source), seals.seq_of(ident)
            if before is not None and n <= before:
                found.append(self._tell("batch", seq, seq, f"batch {n} of {source.decode('utf-8', 'replace')} is in the log twice"))
            elif before is not None and n > before + 1:
                found.append(Finding("lost", "batch", self.log, seq, seq, f"batches {before + 1} to {n - 1} of "
                                     f"{source.decode('utf-8', 'replace')} are missing"))
            self._batches[source] = max(n, before or 0)
        return found

    async def _ends(self, last: int) -> list[Finding]:
        found = []
        now = await count_of(self.wire, self.keys, self.log)
        if wrong := now.wrong or self.counted.wrong:
            found.append(self._tell("counter", 0, 0, wrong))
        # Without a counter the log itself has to say how far it came, and then its end rests on the seals alone.
        counter = now.value if now.value is not None else max(last, self.upto)
        counted = self.counted.value if self.counted.value is not None else last
        if counter < self.upto:
            found.append(self._tell("rolled-back", counter + 1, self.upto, f"sealed up to {self.upto}, and the server counts "
                                    f"only {counter}: it holds an older state"))
        elif last < counted:
            if self.sealing or last or not await self.wire.call("EXISTS", self.key):  # only what is sealed is trimmed to the end
                found.append(self._tell("truncated", last + 1, counted, f"counted {counted}, and the log ends with {last}"))
            else:
                found.append(Finding("note", "start", self.log, 1, counted, NOT_THERE))
        if last > counter >= self.upto:
            found.append(self._tell("counter", counter + 1, last, f"the log ends with {last}, and the server counts only {counter}"))
        if self._trimmed and not self._may_be_trimmed(*self._trimmed, counter):
            found.append(self._tell("removed", 1, self._trimmed[0], "gone from the beginning of the log, and too young to be trimmed"))
        return found

    def _may_be_trimmed(self, seq: int, at: int, counter: int) -> bool:
        """Whether the janitor could have trimmed up to this entry by the settings we know."""
        age = self.now - at
        return age > self.settings.log_keep_hours * 3_600_000 or (
            age > KEEP_AT_LEAST_MS and counter - seq >= self.settings.log_entries_max)

    async def _range(self, first: int, last: int) -> list[Entry]:
        return [(i, w) for i, w in await self.wire.call("XRANGE", self.key, f"{first}-0", f"{last}-{seals.LAST_PART}")]

    async def _bounds(self) -> tuple[int, int]:
        """The first and the last seq on the server now; of an empty log (counter + 1, counter)."""
        first, last = await asyncio.gather(
            self.wire.call("XRANGE", self.key, "-", "+", "COUNT", 1), self.wire.call("XREVRANGE", self.key, "+", "-", "COUNT", 1))
        if not first or not last:
            count = (await count_of(self.wire, self.keys, self.log)).value
            counter = count if count is not None else self.upto
            return counter + 1, counter
        return seals.seq_of(first[0][0]), seals.seq_of(last[0][0])

    def _tell(self, what: str, first: int, last: int, detail: str) -> Finding:
        return Finding("tampered", what, self.log, first, last, detail)
