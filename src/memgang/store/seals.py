"""Seals: what makes a change of the log visible afterwards. Pure: no server, no files.

A **segment** is a run of entries of one log; its root is the Merkle tree hash of RFC 6962, section 2.1
(SHA-256; a leaf is hashed behind a 0 byte and a node behind a 1 byte, so that neither passes for the other).
A **seal** is one line: the segments of one round, the hash of the line before it, and an Ed25519 signature.
Who cannot sign cannot change a sealed entry; who cuts off the end leaves an older head than the anchors hold.

    {"seal": {"n": 7, "prev": "...", "space": "default", "segments": [...], ...}, "sig": "..."}
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memgang.errors import ConfigError, LogBroken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VERSION = 1
DOMAIN = b"memgang seal 1\n"  # before what is signed: a signature made for another purpose does not fit
NOTHING = hashlib.sha256(b"").hexdigest()  # before the first line, and the root of no entries (RFC 6962)
LAST_PART = (1 << 64) - 1

Entry = tuple[bytes, Sequence[bytes]]  # as Redis gives it: the id, then names and values in turn


class Segment(msgspec.Struct, frozen=True):
    """Some entries of one log, in order. ``start`` and ``size`` say where they lie in its export, in bytes."""

    log: str  # "a00": changes of shard 0, "h00": its reads
    first: int
    last: int
    count: int
    root: str
    tail: str  # the leaf of the last entry: a server rolled back and grown again has another one there
    start: int
    size: int


class Seal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One round of the sealer. ``opened`` says why a new generation begins with this seal, '' when none does.

    ``begins`` has, for a new generation, the first seq of each log that belongs to it; a log not named goes on.
    """

    n: int
    prev: str
    space: str
    key: str
    epoch: str  # of the server's data: another one after the data was lost
    gen: int
    at: int  # ms of the server's clock
    segments: tuple[Segment, ...] = ()
    opened: str = ""
    begins: dict[str, int] = {}
    v: int = VERSION


class Line(msgspec.Struct, frozen=True):
    """A line of the seal file. The seal is kept as the very bytes that were signed."""

    seal: msgspec.Raw
    sig: str


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be; ``first`` and ``last`` are seqs of the log (0: it is about no entry).

    ``tampered``: it cannot have come about by what MemGang does. ``lost``: the server came back without its data,
    or without the end of it. ``note``: worth knowing, nothing is wrong.
    """

    level: Literal["tampered", "lost", "note"]
    what: str  # edited removed inserted truncated rolled-back gap counter batch seal export anchor epoch unsealed ...
    log: str
    first: int
    last: int
    detail: str

    @property
    def shard(self) -> int | None:
        """The shard of the log it is about."""
        return int(self.log[1:], 16) if self.log else None


# ── hashes ────────────────────────────────────────────────────────────────────────────────────────


def leaf(log: str, entry: Entry) -> bytes:
    """The hash of an entry: its log, its id and all its fields in their order, each with its length."""
    words = [log.encode(), entry[0], *entry[1]]
    return hashlib.sha256(b"\0" + b"".join([len(word).to_bytes(8, "big") + word for word in words])).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def root(leaves: Iterable[bytes]) -> str:
    """The Merkle tree hash of RFC 6962 over leaves, in hex."""
    # Complete subtrees from left to right, each with its height: two of one height become one of the next.
    stack: list[tuple[int, bytes]] = []
    for hashed in leaves:
        height = 0
        while stack and stack[-1][0] == height:
            hashed = _node(stack.pop()[1], hashed)
            height += 1
        stack.append((height, hashed))
    if not stack:
        return NOTHING
    right = stack.pop()[1]
    while stack:
        right = _node(stack.pop()[1], right)
    return right.hex()


def seq_of(entry_id: bytes) -> int:
    """The number of an entry."""
    return int(entry_id.partition(b"-")[0])


def epoch_of(store_id: bytes, secret: bytes) -> str:
    """One life of the server's data. It gives nothing away of the secret."""
    return hashlib.sha256(b"memgang epoch\n" + store_id + b"\n" + secret).hexdigest()[:32]


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────


def signed(seal: Seal, private: bytes) -> bytes:
    """A seal as its line, with the newline."""
    body = msgspec.json.encode(seal)
    return msgspec.json.encode(Line(msgspec.Raw(body), _private(private).sign(DOMAIN + body).hex())) + b"\n"


def hash_of(line: bytes) -> str:
    """What the next line holds as ``prev``, and an anchor as head."""
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def opened(line: bytes) -> tuple[Seal, bytes, bytes]:
    """A line as (seal, the bytes that were signed, signature). Nothing is verified.

    Raises:
        LogBroken: it is not a line of a seal file.
    """
    try:
        whole = msgspec.json.decode(line, type=Line)
        seal = msgspec.json.decode(whole.seal, type=Seal)
        if seal.v != VERSION:
            raise ValueError(f"it is of version {seal.v}, and this program knows version {VERSION} only")
        # All of the line is signed: nothing may stand beside the seal that a reader could take for part of it.
        if msgspec.json.encode(whole) != line.rstrip(b"\n"):
            raise ValueError("it holds more than a seal")
        return seal, bytes(whole.seal), bytes.fromhex(whole.sig)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # the last: brackets, thousands deep
        raise LogBroken(f"a line of the seal file is not a seal: {error}") from error


def fits(body: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the holder of the key signed these bytes."""
    from cryptography.exceptions import InvalidSignature
    try:
        _public(public).verify(signature, DOMAIN + body)
    except InvalidSignature:
        return False
    return True


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def need_library() -> None:
    """Say in time what is not installed.

    Raises:
        ConfigError: the extra with the signatures is missing.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise ConfigError("sealing the log needs Ed25519 signatures: pip install 'memgang[audit]'") from error


def new_private_key() -> bytes:
    """32 random bytes, as Ed25519 takes them."""
    need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The 32 bytes that verify what the private key signs."""
    return _private(private).public_key().public_bytes_raw()


def fingerprint(public: bytes) -> str:
    """A short name of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def parse_public(text: str) -> bytes:
    """A public key as `memgang log seal` prints it: 64 hex digits.

    Raises:
        ConfigError: it is none.
    """
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{text[:70]!r} is not a public key: it has 64 hex digits, as `memgang log seal` prints them")
    return key


@functools.lru_cache(maxsize=8)
def _private(raw: bytes) -> Ed25519PrivateKey:
    need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    return Ed25519PrivateKey.from_private_bytes(raw)


@functools.lru_cache(maxsize=8)
def _public(raw: bytes) -> Any:
    need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    return Ed25519PublicKey.from_public_bytes(raw)
