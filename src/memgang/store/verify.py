"""Is the log what was written? The server's logs, the exports, the seals and the anchors held against each other.

Sealed entries are compared one by one; of what is younger than the last seal, the numbers have to rise without a gap
up to the counter that the scripts keep. What a sealer cannot know is said as a note, never passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from memgang.errors import LogBroken
from memgang.settings import Settings
from memgang.store import seals
from memgang.store.janitor import KEEP_AT_LEAST_MS
from memgang.store.keys import STORE_ID, Keys
from memgang.store.sealer import counter_of
from memgang.store.sealfile import Piece, SealFile, State
from memgang.store.seals import Entry, Finding, Seal, Segment
from memgang.store.wire import Wire, translated

PAGE = 1_000
NOT_THERE = "not there any more, and nothing sealed says what they were"


class Chain(msgspec.Struct):
    """What the seal file says, as far as it is signed and whole."""

    state: State
    heads: list[str]  # of all lines, also those that are not believed
    trusted: list[Seal]
    findings: list[Finding]


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
        epoch, now, mark, counted = await _server(wire, keys)
        chain = await asyncio.to_thread(_chain, files, key)
        totals.seals, totals.sealed = len(chain.trusted), sum(s.count for seal in chain.trusted for s in seal.segments)
        totals.key = chain.trusted[-1].key if chain.trusted else ""
        for finding in (*chain.findings, *_anchors(files, chain), *_marks(files, chain, mark)):
            yield finding
        state = chain.state
        if state.n and state.epoch != epoch:
            yield Finding("lost", "epoch", "", 0, 0, "the server's data began a new life since the last seal: "
                          "it came back without what it held, or the space was erased")
            state = State()
        broken = set[Segment]()
        for finding in await asyncio.to_thread(_exports, files, chain, broken):
            yield finding
        for log in keys.logs():
            check = _Log(wire, keys, files, settings, log, state, now, counted[log], broken)
            async for finding in _merged(check.findings()):
                yield finding
            totals.unsealed += check.unsealed
    except RedisError as error:
        raise translated(error, "read the log") from error
    if totals.unsealed:
        since = f" since seal {chain.state.n}" if chain.state.n else ": this log was never sealed here"
        yield Finding("note", "unsealed", "", 0, 0, f"not yet sealed: {totals.unsealed:,} entries{since}")


# ── files ─────────────────────────────────────────────────────────────────────────────────────────


def _chain(files: SealFile, key: bytes | None) -> Chain:
    """Every line with its signature; seals that are not believed are not folded in."""
    chain = Chain(State(), [], [], [])
    if not files.exists():
        return chain
    seals.need_library()
    try:
        public = key if key is not None else files.public()
    except LogBroken as error:
        chain.findings.append(_of_seal(0, str(error)))
        return chain
    prev, before = seals.NOTHING, None
    for number, line in enumerate(files.lines(), 1):
        wrong = ""
        try:
            seal, body, signature = seals.opened(line)
        except LogBroken as error:
            chain.findings.append(_of_seal(number, str(error)))
            prev = seals.hash_of(line)
            chain.heads.append(prev)
            continue
        if not seals.fits(body, signature, public):
            wrong = f"seal {seal.n} is not signed with the key {seals.fingerprint(public)}"
        elif seal.space != files.space:
            wrong = f"seal {seal.n} is of the space {seal.space[:40]!r}"
        elif seal.n != number or seal.prev != prev:
            wrong = f"seal {seal.n} does not follow what stands before it: seals were removed, moved or put in"
        prev = seals.hash_of(line)
        chain.heads.append(prev)
        if wrong:
            chain.findings.append(_of_seal(number, wrong))
        # One that is signed and stands in the wrong place still says what was sealed, unless it is an old one again.
        if wrong and ("follow" not in wrong or seal.n <= chain.state.n):
            continue
        if seal.opened and seal.opened != "first":
            lost = before is not None and before.epoch != seal.epoch and not seal.begins
            chain.findings.append(Finding("lost" if lost else "tampered", "epoch" if lost else "rolled-back", "", 0, 0,
                                          f"seal {seal.n} says: {seal.opened}"))
        chain.state.take(seal, line)
        chain.trusted.append(seal)
        before = seal
    size = files.seals.stat().st_size
    if size and files.seals.read_bytes()[-1:] != b"\n":
        chain.findings.append(Finding("note", "seal", "", 0, 0, "the last line of the seal file has no end: "
                                      "a sealer was killed, and the next round writes it again"))
    return chain


def _of_seal(number: int, detail: str) -> Finding:
    return Finding("tampered", "seal", "", 0, 0, f"line {number} of the seal file: {detail}")


def _anchors(files: SealFile, chain: Chain) -> Iterator[Finding]:
    """Each head the anchor holds has to be that of a line."""
    if files.anchor is None or not (files.exists() or files.anchor.exists()):
        return
    try:
        lines = files.anchor.read_bytes().splitlines()
    except OSError as error:
        yield Finding("tampered", "anchor", "", 0, 0, f"the anchor {files.anchor} cannot be read: {error.strerror}")
        return
    held = 0
    for number, line in enumerate(lines, 1):
        try:
            words = msgspec.json.decode(line, type=dict[str, Any]) if line else {}
        except msgspec.MsgspecError:
            if number < len(lines):  # the last one may still be under way
                yield Finding("note", "anchor", "", 0, 0, f"line {number} of the anchor is not whole")
            continue
        if words.get("space") != files.space:
            continue
        n, held = int(words["n"]), held + 1
        if n > len(chain.heads):
            yield Finding("tampered", "truncated", "", 0, 0, f"the anchor holds seal {n}, and the seal file ends with {len(chain.heads)}")
        elif chain.heads[n - 1] != words["head"]:
            yield Finding("tampered", "anchor", "", 0, 0, f"seal {n} is not the one the anchor holds")
    if chain.heads and not held:
        yield Finding("tampered", "anchor", "", 0, 0, f"the anchor {files.anchor} holds nothing of this space")


def _marks(files: SealFile, chain: Chain, mark: dict[bytes, bytes]) -> Iterator[Finding]:
    """The server was told how many seals there are; it is no witness against who may write to it, but costs nothing."""
    mine = {seal.key for seal in chain.trusted}
    with contextlib.suppress(LogBroken):
        mine.add(seals.fingerprint(files.public()))
    for name, number in mark.items():
        told, made = name.decode("utf-8", "replace"), int(number) if number.isdigit() else 0
        if not told.startswith("n:") or made <= len(chain.heads):
            continue
        if told[2:] in mine:
            yield Finding("tampered", "truncated", "", 0, 0, f"{made} seals were made with key {told[2:]}, and the seal file "
                          f"ends with {len(chain.heads)}")
        elif not chain.heads:
            yield Finding("lost", "elsewhere", "", 0, 0, f"{made} seals were made with key {told[2:]}: their files are on another "
                          "host or were removed; verify where they are")


def _exports(files: SealFile, chain: Chain, broken: set[Segment]) -> list[Finding]:
    """Every segment that was ever sealed, of all epochs, against its root."""
    found = []
    for seal in chain.trusted:
        for segment in seal.segments:
            detail = ""
            try:
                entries = files.sealed(segment)
                if seals.root([seals.leaf(segment.log, entry) for entry in entries]) != segment.root:
                    detail = "the exported entries are not those that were sealed"
            except LogBroken as error:
                detail = str(error)
            if detail:
                broken.add(segment)
                found.append(Finding("tampered", "export", segment.log, segment.first, segment.last, f"{detail} (seal {seal.n})"))
    return found


# ── the server ────────────────────────────────────────────────────────────────────────────────────


async def _server(wire: Wire, keys: Keys) -> tuple[str, int, dict[bytes, bytes], dict[str, int]]:
    asked = [wire.call("GET", STORE_ID), wire.call("TIME"), wire.call("HGETALL", Keys.sealed(keys.space))]
    store_id, (seconds, _), flat = await asyncio.gather(*asked)
    counts = await asyncio.gather(*(_counter(wire, keys, log) for log in keys.logs()))
    mark = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    return (seals.epoch_of(store_id or b"", keys.secret), int(seconds) * 1000, mark,
            dict(zip(keys.logs(), counts, strict=True)))


async def _counter(wire: Wire, keys: Keys, log: str) -> int:
    return int(await wire.call("HGET", keys.at(int(log[1:], 16), "u"), counter_of(log)) or 0)


class _Log:
    """One log while it is verified."""

    def __init__(self, wire: Wire, keys: Keys, files: SealFile, settings: Settings, log: str, state: State, now: int,
                 counted: int, broken: set[Segment]) -> None:
        self.wire, self.keys, self.files, self.settings = wire, keys, files, settings
        self.log, self.key, self.now, self.counted, self.broken = log, keys.log(log), now, counted, broken
        self.pieces, self.upto = state.pieces.get(log, []), state.upto.get(log, 0)
        self.sealing = state.n > 0
        self.unsealed = 0
        self._batches: dict[bytes, int] = {}
        self._trimmed: tuple[int, int] | None = None  # the last seq that is not there any more at the beginning, and its time

    async def findings(self) -> AsyncIterator[Finding]:
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
                    self._trimmed = seq, _at(words)
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
            source, _, number = _field(words, b"id").rpartition(b"#")
            if not number.isdigit():
                continue
            n, before = int(number), self._batches.get(source)
            seq = seals.seq_of(ident)
            if before is not None and n <= before:
                found.append(self._tell("batch", seq, seq, f"batch {n} of {source.decode('utf-8', 'replace')} is in the log twice"))
            elif before is not None and n > before + 1:
                found.append(Finding("lost", "batch", self.log, seq, seq, f"batches {before + 1} to {n - 1} of "
                                     f"{source.decode('utf-8', 'replace')} are missing"))
            self._batches[source] = max(n, before or 0)
        return found

    async def _ends(self, last: int) -> list[Finding]:
        found = []
        counter = await _counter(self.wire, self.keys, self.log)
        if counter < self.upto:
            found.append(self._tell("rolled-back", counter + 1, self.upto, f"sealed up to {self.upto}, and the server counts "
                                    f"only {counter}: it holds an older state"))
        elif last < self.counted:
            if self.sealing or last or not await self.wire.call("EXISTS", self.key):  # only what is sealed is trimmed to the end
                found.append(self._tell("truncated", last + 1, self.counted, f"counted {self.counted}, and the log ends with {last}"))
            else:
                found.append(Finding("note", "start", self.log, 1, self.counted, NOT_THERE))
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
            counter = await _counter(self.wire, self.keys, self.log)
            return counter + 1, counter
        return seals.seq_of(first[0][0]), seals.seq_of(last[0][0])

    def _tell(self, what: str, first: int, last: int, detail: str) -> Finding:
        return Finding("tampered", what, self.log, first, last, detail)


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


def _field(words: Sequence[bytes], name: bytes) -> bytes:
    return next((value for key, value in zip(words[::2], words[1::2], strict=False) if key == name), b"")


def _at(words: Sequence[bytes]) -> int:
    text = _field(words, b"at")
    return int(text) if text.isdigit() else 0
