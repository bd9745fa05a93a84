"""Are the files what the sealer wrote? The seal file line by line, the anchor, the exports, and what the server was told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from memgang.errors import LogBroken
from memgang.store import seals
from memgang.store.sealfile import SealFile, State
from memgang.store.seals import Finding, Seal, Segment


class Chain(msgspec.Struct):
    """What the seal file says, as far as it is signed and whole."""

    state: State
    heads: list[str]  # of all lines, also those that are not believed
    trusted: list[Seal]
    findings: list[Finding]


def read_chain(files: SealFile, key: bytes | None) -> Chain:
    """Every line with its signature; seals that are not believed are not folded in."""
    read = Chain(State(), [], [], [])
    if not files.exists():
        return read
    seals.need_library()
    try:
        public = key if key is not None else files.public()
    except LogBroken as error:
        read.findings.append(_of_seal(0, str(error)))
        return read
    prev, before = seals.NOTHING, None
    for number, line in enumerate(files.lines(), 1):
        wrong = ""
        try:
            seal, body, signature = seals.opened(line)
        except LogBroken as error:
            read.findings.append(_of_seal(number, str(error)))
            prev = seals.hash_of(line)
            read.heads.append(prev)
            continue
        if not seals.fits(body, signature, public):
            wrong = f"seal {seal.n} is not signed with the key {seals.fingerprint(public)}"
        elif seal.space != files.space:
            wrong = f"seal {seal.n} is of the space {seal.space[:40]!r}"
        elif seal.n != number or seal.prev != prev:
            wrong = f"seal {seal.n} does not follow what stands before it: seals were removed, moved or put in"
        prev = seals.hash_of(line)
        read.heads.append(prev)
        if wrong:
            read.findings.append(_of_seal(number, wrong))
        # One that is signed and stands in the wrong place still says what was sealed, unless it is an old one again.
        if wrong and ("follow" not in wrong or seal.n <= read.state.n):
            continue
        if seal.opened and seal.opened != "first":
            lost = before is not None and before.epoch != seal.epoch and not seal.begins
            read.findings.append(Finding("lost" if lost else "tampered", "epoch" if lost else "rolled-back", "", 0, 0,
                                          f"seal {seal.n} says: {seal.opened}"))
        read.state.take(seal, line)
        read.trusted.append(seal)
        before = seal
    size = files.seals.stat().st_size
    if size and files.seals.read_bytes()[-1:] != b"\n":
        read.findings.append(Finding("note", "seal", "", 0, 0, "the last line of the seal file has no end: "
                                      "a sealer was killed, and the next round writes it again"))
    return read


def _of_seal(number: int, detail: str) -> Finding:
    return Finding("tampered", "seal", "", 0, 0, f"line {number} of the seal file: {detail}")


def anchors(files: SealFile, chain: Chain) -> Iterator[Finding]:
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


def marks(files: SealFile, chain: Chain, mark: dict[bytes, bytes]) -> Iterator[Finding]:
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


def exports(files: SealFile, chain: Chain, broken: set[Segment]) -> list[Finding]:
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
