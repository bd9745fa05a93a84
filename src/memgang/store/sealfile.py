"""Where a sealed log lies: the chain of seals and the exported entries, in files outside the server.

    <state_dir>/seals/<space>/      0700
        seals.jsonl       one seal a line, only ever appended to, each line forced to disk
        a00.jsonl ...     the entries of each log, a line each; a seal says where its segments lie
        key  key.pub      Ed25519, made with the first seal; the private half is 0600
        lock              held while something is written

Both kinds go on in a new part when they are large (`rolled.py`); here they are one file each.

The order of writing is the whole of crash safety. The export first, then the seal that speaks for it: bytes
behind the last seal are the rest of a round that did not end, and the next round cuts them off and writes them
again. A seal without its newline is such a rest too. So a kill at any step loses nothing and doubles nothing.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from memgang.errors import ConfigError, LogBroken, StoreUnavailable
from memgang.settings import Settings
from memgang.store import seals
from memgang.store.house import close_lock, open_lock, private_directory, try_lock, write_private
from memgang.store.replies import shown
from memgang.store.rolled import Rolled
from memgang.store.seals import Entry, Seal, Segment

_ANCHOR_TAIL = 1 << 16


class Piece(NamedTuple):
    """A sealed segment that stands for the log as it is now, from its first seq to ``last``."""

    segment: Segment
    last: int  # less than the segment's own where a later generation begins inside it


class State:
    """What a chain says so far, folded from its seals in order."""

    def __init__(self) -> None:
        self.n, self.head, self.gen, self.epoch, self.at = 0, seals.NOTHING, 0, "", 0
        self.upto: dict[str, int] = {}  # last sealed seq of each log, in this epoch
        self.tails: dict[str, str] = {}
        self.ends: dict[str, int] = {}  # length of each export, all epochs
        self.pieces: dict[str, list[Piece]] = {}

    def take(self, seal: Seal, line: bytes) -> None:
        """Fold one more seal in."""
        if self.epoch != seal.epoch:
            self.upto, self.tails, self.pieces = {}, {}, {}
        for log, begin in seal.begins.items():
            self.upto[log] = begin - 1
            # What was sealed from there on stays in the export, and does not stand for the log any more.
            kept = (Piece(p.segment, min(p.last, begin - 1)) for p in self.pieces.get(log, []))
            self.pieces[log] = [piece for piece in kept if piece.segment.first <= piece.last]
            self.tails.pop(log, None)
        for segment in seal.segments:
            self.upto[segment.log], self.tails[segment.log] = segment.last, segment.tail
            self.ends[segment.log] = segment.start + segment.size
            self.pieces.setdefault(segment.log, []).append(Piece(segment, segment.last))
        self.n, self.head, self.gen, self.epoch, self.at = seal.n, seals.hash_of(line), seal.gen, seal.epoch, seal.at


class SealFile:
    """The files of one space's seals. Making one touches nothing. Not for two threads at once."""

    def __init__(self, settings: Settings, space: str) -> None:
        self.space = space
        self.root = settings.state_dir.expanduser().absolute() / "seals" / space
        self.seals, self.key_file = self.root / "seals.jsonl", self.root / "key"
        self.public_file = self.root / "key.pub"
        self.chain = Rolled(self.seals)
        self.anchor = settings.seal_anchor
        self.state = State()
        self._reading = threading.Lock()  # `older` is asked for many logs at once, each in a thread
        self._folded = 0  # bytes of the seal file that are in the state

    def export(self, log: str) -> Path:
        """The exported entries of one log."""
        return self.root / f"{log}.jsonl"

    def exists(self) -> bool:
        """Whether anything was ever sealed here."""
        return self.seals.exists() or bool(self.chain.ends())

    # ── keys ──────────────────────────────────────────────────────────────────────────────────

    def private(self) -> bytes:
        """The private key, made when there is none. Alone with the files.

        Raises:
            StoreUnavailable: the file is not ours alone. ConfigError: the extra is not installed.
            LogBroken: it is gone, and there are seals that were signed with it.
        """
        try:
            fd = os.open(self.key_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            seals.need_library()
            if self.exists():
                raise LogBroken(f"{self.key_file} is gone, and {self.seals} was signed with it") from None
            write_private(self.key_file, seals.new_private_key().hex() + "\n")
            return self.private()
        except OSError as error:
            raise StoreUnavailable(f"{self.key_file} cannot be read: {error.strerror}") from error
        with os.fdopen(fd, "rb") as file:
            about = os.fstat(fd)
            if about.st_uid != os.geteuid() or about.st_mode & 0o077 or not stat.S_ISREG(about.st_mode):
                raise StoreUnavailable(f"{self.key_file} must be a file that only its owner can read")
            key = seals.parse_public(file.read(200).decode("ascii", "replace"))  # of the same form
        public = seals.public_of(key).hex() + "\n"
        if not self.public_file.exists() or self.public_file.read_text("ascii") != public:
            write_private(self.public_file, public)
        return key

    def public(self) -> bytes:
        """The public key that lies beside the seals.

        Raises:
            LogBroken: there is none, or it is no key.
        """
        try:
            return seals.parse_public(self.public_file.read_text("ascii", "replace"))
        except OSError as error:
            raise LogBroken(f"the public key {self.public_file} cannot be read: {error.strerror}") from error
        except ConfigError as error:
            raise LogBroken(f"in {self.public_file}: {error}") from error

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    def refresh(self) -> State:
        """Fold in what was appended since; the state. A line without its end does not count.

        Raises:
            LogBroken: a line is no seal, or does not follow the one before it. Signatures are not verified here.
        """
        size = self.chain.size()
        if size < self._folded:
            self.state, self._folded = State(), 0
        if size > self._folded:
            for line in self.lines(self._folded):
                try:
                    seal, _, _ = seals.opened(line)
                except LogBroken as error:
                    raise LogBroken(f"{self.seals}: behind seal {self.state.n} stands {shown(line.rstrip())}: {error}") from error
                if seal.n != self.state.n + 1 or seal.prev != self.state.head or seal.space != self.space:
                    raise LogBroken(f"{self.seals}: behind seal {self.state.n} stands seal {seal.n} of space "
                                    f"{seal.space!r}, which does not follow it")
                self.state.take(seal, line)
                self._folded += len(line)
        return self.state

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """The whole lines of the seal file, from a place in bytes."""
        return self.chain.lines(start)

    def torn(self) -> bool:
        """Whether the seal file ends in the middle of a line."""
        with contextlib.suppress(FileNotFoundError), self.seals.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read() not in (b"", b"\n")
        return False

    def sealed(self, segment: Segment) -> list[Entry]:
        """The entries of a segment, from the export.

        Raises:
            LogBroken: the export is not there, too short, or not of this form.
        """
        try:
            body = Rolled(self.export(segment.log)).read(segment.start, segment.size)
        except OSError as error:
            raise LogBroken(f"{self.export(segment.log)} cannot be read: {error.strerror}") from error
        if len(body) < segment.size:
            raise LogBroken(f"{self.export(segment.log)} ends at {segment.start + len(body):,} bytes, "
                            f"and was sealed up to {segment.start + segment.size:,}")
        return decoded(body)

    def older(self, log: str, epoch: str, after: int, before: int, most: int) -> list[Entry]:
        """Sealed entries behind ``after`` and before ``before``, at most about ``most``: for who finds them trimmed."""
        with self._reading:
            state = self.refresh()
            pieces = list(state.pieces.get(log, [])) if state.epoch == epoch else []
        found = list[Entry]()
        for piece in pieces[bisect_left(pieces, after + 1, key=lambda p: p.last):]:
            if piece.segment.first >= before or len(found) >= most:
                break
            last = min(piece.last, before - 1)
            found += [e for e in self.sealed(piece.segment) if after < seals.seq_of(e[0]) <= last]
        return found[:most]

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def try_lock(self) -> int | None:
        """Be alone with the files: of all processes of this host, one writes. Free it with `close_lock`.

        Raises:
            StoreUnavailable: the directory is not ours alone.
        """
        private_directory(self.root.parents[1], exact=False)
        private_directory(self.root.parent)
        private_directory(self.root)
        fd = open_lock(self.root / "lock")
        if try_lock(fd):
            return fd
        close_lock(fd)
        return None

    def append(
        self, taken: Mapping[str, Sequence[Entry]], *, epoch: str, at: int, opened: str = "",
        begins: Mapping[str, int] | None = None,
    ) -> Seal:
        """Seal one segment of each log given: the export, then the seal, each forced to disk. Alone with the files.

        Raises:
            OSError: no room; nothing was sealed, and the next time begins where this one did.
            LogBroken: the files are not as they were written.
        """
        private = self.private()
        now = self.refresh()
        parts, segments = dict[str, bytes](), list[Segment]()
        for log, entries in taken.items():
            parts[log] = encoded(entries)
            leaves = [seals.leaf(log, entry) for entry in entries]
            segments.append(Segment(
                log, seals.seq_of(entries[0][0]), seals.seq_of(entries[-1][0]), len(entries), seals.root(leaves),
                leaves[-1].hex(), now.ends.get(log, 0), len(parts[log])))
        seal = Seal(now.n + 1, now.head, self.space, seals.fingerprint(seals.public_of(private)), epoch,
                    now.gen + bool(opened), at, tuple(segments), opened, dict(begins or {}))
        for log, body in parts.items():
            Rolled(self.export(log)).write(now.ends.get(log, 0), body)
        line = seals.signed(seal, private)
        self.chain.write(self._folded, line)
        now.take(seal, line)
        self._folded += len(line)
        return seal

    def anchored(self) -> None:
        """Give the head to the anchor, if it has not got it: n, head and key, which is all that who checks needs.

        Raises:
            OSError: it cannot be reached now.
        """
        if self.anchor is None or self.state.n == 0:
            return
        line = msgspec.json.encode({"space": self.space, "n": self.state.n, "head": self.state.head,
                                    "key": seals.fingerprint(self.public())}) + b"\n"
        # Several spaces may share one anchor, so it is appended to, and the rest of a torn line gets its end.
        fd = os.open(self.anchor, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            last = os.pread(fd, _ANCHOR_TAIL, max(0, size - _ANCHOR_TAIL))
            if line not in last:
                os.write(fd, line if not last or last.endswith(b"\n") else b"\n" + line)
                os.fsync(fd)
        finally:
            os.close(fd)


# ── entries as lines ──────────────────────────────────────────────────────────────────────────────


def encoded(entries: Sequence[Entry]) -> bytes:
    """Entries as lines of JSON: the id, then names and values in turn; what is not UTF-8 as {"b64": ...}."""
    return b"".join([msgspec.json.encode([ident.decode(), [_word(w) for w in words]]) + b"\n" for ident, words in entries])


def decoded(body: bytes) -> list[Entry]:
    """The inverse of `encoded`.

    Raises:
        LogBroken: a line is not of this form.
    """
    try:
        return [(ident.encode(), [w.encode() if isinstance(w, str) else base64.b64decode(w["b64"], validate=True) for w in words])
                for ident, words in (_LINE.decode(line) for line in body.splitlines())]
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise LogBroken(f"a line of the export is not an entry: {error}") from error


_LINE = msgspec.json.Decoder(tuple[str, list[str | dict[str, str]]])


def _word(word: bytes) -> str | dict[str, str]:
    try:
        return word.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(word).decode()}
