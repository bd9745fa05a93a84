"""Are the files what the sealer wrote? The seal file line by line, the anchor, the exports, and what the server was told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import msgspec

from memgang.errors import LogBroken
from memgang.store import sealmarks, seals
from memgang.store.replies import number, shown
from memgang.store.rolled import Rolled
from memgang.store.sealfile import SealFile, State
from memgang.store.seals import Finding, Seal, Segment


class Chain(msgspec.Struct):
    """What the seal file says, as far as it is signed and whole."""

    state: State
    heads: dict[int, set[str]]  # of all lines that could be read, by the number they give themselves; also if not believed
    trusted: list[Seal]
    findings: list[Finding]

    @property
    def end(self) -> int:
        """The highest number a line of the file gives itself."""
        return max(self.heads, default=0)


class Anchored(msgspec.Struct):
    """A line of the anchor: the head of one seal."""

    space: str
    n: Annotated[int, msgspec.Meta(ge=1)]
    head: str
    key: str = ""


WAIT_DAYS = sealmarks.WAIT_MS // (24 * 3_600_000)
_TORN = b'{"space":"'  # how a line begins that was to become one


def read_chain(files: SealFile, key: bytes | None) -> Chain:
    """Every line with its signature; seals that are not believed are not folded in."""
    read = Chain(State(), {}, [], [])
    if not files.exists():
        return read
    seals.need_library()
    try:
        public = key if key is not None else files.public()
    except LogBroken as error:
        read.findings.append(_of_seal(0, str(error)))
        return read
    prev, before = seals.NOTHING, None
    for at, line in enumerate(files.lines(), 1):
        wrong = ""
        try:
            seal, body, signature = seals.opened(line)
        except LogBroken as error:
            # It takes no number of its own: was it put in, the next seal follows the one before it; was it a seal, it does not.
            read.findings.append(_of_seal(at, f"{error}: {shown(line.rstrip())}"))
            continue
        if not seals.fits(body, signature, public):
            wrong = f"seal {seal.n} is not signed with the key {seals.fingerprint(public)}"
        elif seal.space != files.space:
            wrong = f"seal {seal.n} is of the space {seal.space[:40]!r}"
        elif seal.n != read.state.n + 1 or seal.prev != prev:
            wrong = f"seal {seal.n} does not follow what stands before it: seals were removed, moved or put in"
        head = seals.hash_of(line)
        read.heads.setdefault(seal.n, set()).add(head)
        if wrong:
            read.findings.append(_of_seal(at, wrong))
        # One that is signed and stands in the wrong place still says what was sealed, unless it is an old one again.
        if wrong and ("follow" not in wrong or seal.n <= read.state.n):
            continue
        if seal.opened and seal.opened != "first":
            lost = before is not None and before.epoch != seal.epoch and not seal.begins
            read.findings.append(Finding("lost" if lost else "tampered", "epoch" if lost else "rolled-back", "", 0, 0,
                                          f"seal {seal.n} says: {seal.opened}"))
        read.state.take(seal, line)
        prev = head
        read.trusted.append(seal)
        before = seal
    read.findings += [Finding("tampered", "seal", "", 0, 0, wrong) for wrong in files.chain.wrong()]
    if files.torn():
        read.findings.append(Finding("note", "seal", "", 0, 0, "the last line of the seal file has no end: "
                                      "a sealer was killed, and the next round writes it again"))
    return read


def _of_seal(at: int, detail: str) -> Finding:
    return Finding("tampered", "seal", "", 0, 0, f"line {at} of the seal file: {detail}")


def anchors(files: SealFile, chain: Chain, key: bytes | None = None) -> Iterator[Finding]:
    """Each head the anchor holds has to be that of a line.

    ``key`` is the public key that is known from elsewhere, if one is: then lines of other keys are those of another host.
    Without it they are not passed over, or who makes the chain anew, with a key of his own, would have the anchor's consent.
    """
    if files.anchor is None or not (files.exists() or files.anchor.exists()):
        return
    try:
        lines = files.anchor.read_bytes().split(b"\n")
    except OSError as error:
        yield _of_anchor(f"the anchor {files.anchor} cannot be read: {error.strerror}")
        return
    known = seals.fingerprint(key) if key is not None else ""
    held = others = 0
    for at, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            told = msgspec.json.decode(line, type=Anchored)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            if not _torn(line, error):
                yield _of_anchor(f"line {at} of the anchor is none that a sealer writes: {shown(line)}")
            elif at < len(lines):  # the last one may still be under way
                yield Finding("note", "anchor", "", 0, 0, f"line {at} of the anchor is not whole")
            continue
        if told.space != files.space:
            continue
        if known and told.key != known:
            others += 1
            continue
        held += 1
        if told.head in chain.heads.get(told.n, ()):
            continue
        if told.n > chain.end:
            yield Finding("tampered", "truncated", "", 0, 0, f"the anchor holds seal {told.n}, and the seal file ends with {chain.end}")
        else:
            whose = "" if told.key in {seal.key for seal in chain.trusted} else (
                f"; that was signed with another key, {shown(told.key.encode())}: another host's, which is told apart with --key")
            yield _of_anchor(f"seal {told.n} is not the one the anchor holds in line {at}{whose}")
    if others:
        yield Finding("note", "elsewhere", "", 0, 0, f"the anchor holds {others} seals of other keys: verify them where they were made")
    if chain.heads and not held:
        yield _of_anchor(f"the anchor {files.anchor} holds nothing of this space" + (f" and the key {known}" if known else ""))


def _torn(line: bytes, error: Exception) -> bool:
    """Whether a sealer that was killed could have left this: the beginning of a line, and not another value."""
    return not isinstance(error, msgspec.ValidationError | RecursionError) and line[:len(_TORN)] == _TORN[:len(line)]


def _of_anchor(detail: str) -> Finding:
    return Finding("tampered", "anchor", "", 0, 0, detail)


def marks(files: SealFile, chain: Chain, mark: dict[bytes, bytes] | None, key: str) -> Iterator[Finding]:
    """The server was told how many seals there are; it is no witness against who may write to it, but costs nothing."""
    if mark is None:
        yield _of_mark(f"under {key} stands something else than what the sealers tell")
        return
    mine = {seal.key for seal in chain.trusted}
    with contextlib.suppress(LogBroken):
        mine.add(seals.fingerprint(files.public()))
    for name, words in mark.items():
        field = name.decode("utf-8", "replace")
        if not field.startswith("n:"):
            continue
        made = number(words)
        if made is None:
            yield _of_mark(f"the number of seals {shown(name)} in {key} is {shown(words)} and not a number: somebody has written "
                           "over it; that sealer puts it right with its next seal")
        elif made > chain.end and field[2:] in mine:
            yield Finding("tampered", "truncated", "", 0, 0, f"{made} seals were made with key {field[2:]}, and the seal file "
                          f"ends with {chain.end}")
        elif made and not chain.heads:
            yield Finding("lost", "elsewhere", "", 0, 0, f"{made} seals were made with key {shown(name[2:])}: their files are on "
                          "another host or were removed; verify where they are")
    for sealer, words in sealmarks.sealers(mark).items():
        if sealmarks.told(words) is None:
            yield _of_mark(f"how far key {shown(sealer)} has sealed is {shown(words)} in {key}, which no sealer writes; "
                           "that sealer puts it right with its next seal")
        elif chain.heads and sealer.decode("utf-8", "replace") not in mine:
            yield Finding("note", "elsewhere", "", 0, 0, f"another host seals this space too, with key {shown(sealer)}: "
                          f"verify its seals there (who seals nothing for {WAIT_DAYS} days is not waited for)")


def _of_mark(detail: str) -> Finding:
    return Finding("tampered", "mark", "", 0, 0, detail)


def exports(files: SealFile, chain: Chain, broken: set[Segment]) -> list[Finding]:
    """Every segment that was ever sealed, of all epochs, against its root."""
    found = [Finding("tampered", "export", log, 0, 0, wrong) for log in sorted(chain.state.ends)
             for wrong in Rolled(files.export(log)).wrong()]
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
