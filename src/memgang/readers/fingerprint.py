"""Validators: is a source still what it was when it was read?

For a file the cheap answer is its stat; the sure one the hash of its content. A stat is believed only
if the file was at rest when it was recorded: a file system's clock may be as coarse as two seconds, so
a file written again within that time can look the same and not be. For a URL the server is asked.
What was made of several sources has one validator for all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import blake3
import msgspec

from memgang.errors import ReadError
from memgang.readers import web
from memgang.readers.reach import Reach

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
    ctime_ns: int = 0  # of a change to the file or its times; unlike mtime nobody can set it back
    hash: str = ""  # BLAKE3 of the content, 32 hex digits
    at_ns: int = 0
    etag: str = ""
    last_modified: str = ""


def fingerprint(source: str) -> bytes:
    """The fingerprint of a file or URL as JSON, at most 512 bytes.

    Take it *before* reading: a change in between then shows as a change, and is read again.

    Raises:
        ReadError: the source is not there, or is no file.
    """
    if web.is_url(source):
        return of_fetched(web.fetch(source))
    path = Path(source)
    taken = time.time_ns()
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            digest = _hash(path)
    except OSError as error:
        raise ReadError(source, (error.strerror or str(error)).lower()) from error
    return _encoded(Fingerprint(dev=stat.st_dev, ino=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns,
                                ctime_ns=stat.st_ctime_ns, hash=digest, at_ns=taken))


def of_fetched(fetched: web.Fetched) -> bytes:
    """The fingerprint of a page that was just fetched, so that it need not be fetched twice."""
    # A mark cut short would be a different mark; one too long is left out, and the page read again.
    etag = fetched.etag if len(fetched.etag) <= _HEADER_MAX else ""
    modified = fetched.last_modified if len(fetched.last_modified) <= _HEADER_MAX else ""
    return _encoded(Fingerprint(kind="url", size=len(fetched.body), hash=blake3.blake3(fetched.body).hexdigest()[:32],
                                at_ns=time.time_ns(), etag=etag, last_modified=modified))


def of_content(stat: os.stat_result, body: bytes, taken_ns: int) -> Fingerprint:
    """The fingerprint of a file that was just read: its stat, and the time, from before that."""
    return Fingerprint(dev=stat.st_dev, ino=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns,
                       hash=blake3.blake3(body).hexdigest()[:32], at_ns=taken_ns)


def looked(path: str, old: Fingerprint) -> Literal["at rest", "same", "touched", "changed"]:
    """How a file stands to what it was. ``at rest``: its stat says that it is the same, and is believed. ``same``: its content
    says so; so it does for ``touched``, whose stat of now would be believed the next time. ``changed`` in doubt."""
    if old.kind != "file":
        return "changed"
    try:
        stat = os.stat(path)
        now = Fingerprint(dev=stat.st_dev, ino=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns, ctime_ns=stat.st_ctime_ns)
        if _stat_of(now) == _stat_of(old) and _rested(old, old.at_ns):
            return "at rest"
        if stat.st_size != old.size or _hash(Path(path)) != old.hash:
            return "changed"
        return "touched" if _rested(now, time.time_ns()) else "same"
    except OSError:
        return "changed"


def _stat_of(f: Fingerprint) -> tuple[int, ...]:
    return f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns


def _rested(f: Fingerprint, at_ns: int) -> bool:
    return at_ns - max(f.mtime_ns, f.ctime_ns) > AT_REST_NS


def unchanged(source: str, fingerprint_bytes: bytes, *, reach: Reach | None = None) -> bool:
    """Whether the source still has the content it had. False in doubt: then it is read again. ``reach``: see `web.fetch`."""
    try:
        old = msgspec.json.decode(fingerprint_bytes, type=Fingerprint)
    except msgspec.DecodeError:
        return False
    if web.is_url(source):
        return old.kind == "url" and web.unchanged(source, old.etag, old.last_modified, reach)
    return looked(source, old) != "changed"


class _Several(msgspec.Struct, frozen=True, omit_defaults=True):
    """All sources of one result. Their stats and contents are one hash each; what a server must be asked stands apart."""

    stats: str = ""
    contents: str = ""
    rested: bool = False  # all files were at rest when this was taken
    urls: list[Fingerprint] = []
    at_ns: int = 0


def fingerprint_all(sources: Sequence[str]) -> bytes:
    """One validator for all sources together, at most 512 bytes; empty where too many URLs are among them.

    Take it *before* they are used.

    Raises:
        ReadError: one of them is not there, or is no file.
    """
    found = [msgspec.json.decode(fingerprint(source), type=Fingerprint) for source in sources]
    files = [(source, f) for source, f in zip(sources, found, strict=True) if f.kind == "file"]
    data = msgspec.json.encode(_Several(
        stats=_digest([[source, f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns] for source, f in files]),
        contents=_digest([[source, f.hash] for source, f in files]),
        rested=all(f.at_ns - max(f.mtime_ns, f.ctime_ns) > AT_REST_NS for _, f in files),
        urls=[f for f in found if f.kind == "url"], at_ns=time.time_ns()))
    return data if len(data) <= BYTES_MAX else b""


def unchanged_all(sources: Sequence[str], validator: bytes, *, max_age_s: float = 0.0) -> bool:
    """Whether all sources have the content they had. URLs fetched within ``max_age_s`` are not asked again. False in doubt."""
    try:
        old = msgspec.json.decode(validator, type=_Several)
    except msgspec.DecodeError:
        return False
    files = [source for source in sources if not web.is_url(source)]
    urls = [source for source in sources if web.is_url(source)]
    if len(urls) != len(old.urls):
        return False
    try:
        stats = [os.stat(path) for path in files]
        same = old.rested and old.stats == _digest([
            [path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in zip(files, stats, strict=True)])
        if not same and old.contents != _digest([[path, _hash(Path(path))] for path in files]):
            return False
    except OSError:
        return False
    young = 0 <= time.time_ns() - old.at_ns < max_age_s * 1e9
    return young or all(web.unchanged(url, f.etag, f.last_modified) for url, f in zip(urls, old.urls, strict=True))


def _digest(what: list[list[Any]]) -> str:
    return blake3.blake3(msgspec.json.encode(what)).hexdigest()[:32]


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
