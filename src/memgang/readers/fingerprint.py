"""Validators: is a source still what it was when it was read?

For a file the cheap answer is its stat; the sure one the hash of its content. A stat is believed only
if the file was at rest when it was recorded: a file system's clock may be as coarse as two seconds, so
a file written again within that time can look the same and not be. For a URL the server is asked.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import blake3
import httpx
import msgspec

from memgang.errors import ReadError
from memgang.readers import web

BYTES_MAX = 512  # a validator is kept in the flight; the protocol gives it this much
AT_REST_NS = 2_000_000_000
_HEADER_MAX = 160


class Fingerprint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What identifies the content of a source. Times: ``mtime_ns`` of the file, ``at_ns`` when it was taken."""

    kind: str = "file"  # file, url
    dev: int = 0
    ino: int = 0
    size: int = 0
    mtime_ns: int = 0
    hash: str = ""  # BLAKE3 of the content, 32 hex digits
    at_ns: int = 0
    etag: str = ""
    last_modified: str = ""


def fingerprint(source: str, *, http: httpx.Client | None = None) -> bytes:
    """The fingerprint of a file or URL as JSON, at most 512 bytes.

    Take it *before* reading: a change in between then shows as a change, and is read again.

    Raises:
        ReadError: the source is not there, or is no file.
    """
    if web.is_url(source):
        fetched = web.fetch(source, http)
        return of_fetched(fetched)
    path = Path(source)
    taken = time.time_ns()
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            digest = _hash(path)
    except OSError as error:
        raise ReadError(source, (error.strerror or str(error)).lower()) from error
    return _encoded(Fingerprint(dev=stat.st_dev, ino=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns,
                                hash=digest, at_ns=taken))


def of_fetched(fetched: web.Fetched) -> bytes:
    """The fingerprint of a page that was just fetched, so that it need not be fetched twice."""
    # A mark cut short would be a different mark; one too long is left out, and the page read again.
    etag = fetched.etag if len(fetched.etag) <= _HEADER_MAX else ""
    modified = fetched.last_modified if len(fetched.last_modified) <= _HEADER_MAX else ""
    return _encoded(Fingerprint(kind="url", size=len(fetched.body), hash=blake3.blake3(fetched.body).hexdigest()[:32],
                                at_ns=time.time_ns(), etag=etag, last_modified=modified))


def unchanged(source: str, fingerprint_bytes: bytes, *, http: httpx.Client | None = None) -> bool:
    """Whether the source still has the content it had. False in doubt: then it is read again."""
    try:
        old = msgspec.json.decode(fingerprint_bytes, type=Fingerprint)
    except msgspec.DecodeError:
        return False
    if web.is_url(source):
        return old.kind == "url" and web.unchanged(source, old.etag, old.last_modified, http)
    if old.kind != "file":
        return False
    path = Path(source)
    try:
        stat = path.stat()
        same = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) == (old.dev, old.ino, old.size, old.mtime_ns)
        if same and old.at_ns - old.mtime_ns > AT_REST_NS:
            return True
        return stat.st_size == old.size and _hash(path) == old.hash
    except OSError:
        return False


def _hash(path: Path) -> str:
    digest = blake3.blake3()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _encoded(found: Fingerprint) -> bytes:
    data = msgspec.json.encode(found)
    assert len(data) <= BYTES_MAX, "a fingerprint must fit into the flight"
    return data
