"""Files, folders, globs and URLs -> parts cut by content.

``expand`` says which sources are meant, ``read`` turns one into a title and parts, ``fingerprint`` and
``unchanged`` say whether a source is still what it was. All are plain functions that block: call them
in threads, and what parses (``read``, ``read_file``, ``read_fetched``) in a worker process with limits, if the
source may come from a stranger. Whatever is wrong with a source is a ReadError that names it.

Parsers are imported by the first function that parses: a process whose workers do it needs none of them.
"""

from __future__ import annotations

import os

from memgang.model import Parsed
from memgang.readers import web
from memgang.readers.fingerprint import (
    Fingerprint,
    fingerprint,
    fingerprint_all,
    looked,
    of_content,
    of_fetched,
    unchanged,
    unchanged_all,
)
from memgang.readers.reach import Reach
from memgang.readers.sources import expand, natural, refuse_secrets

__all__ = ["VERSION", "Fingerprint", "Reach", "expand", "fingerprint", "fingerprint_all", "looked", "natural", "of_content",
           "of_fetched", "read", "read_fetched", "read_file", "refuse_secrets", "unchanged", "unchanged_all"]

# Goes into the keys of remembered readings: raise it whenever the same bytes give other parts.
VERSION = "1"


def read(source: str, timeout_s: float = 60) -> Parsed:
    """Read one file or URL and cut it into parts. ``timeout_s`` is for the way to the page.

    A document that holds nothing but links and headings has no parts, and a note that says so.

    Raises:
        ReadError: there is nothing to read, and why, in words for a person.
    """
    from memgang.readers import parse

    if web.is_url(source):
        return parse.fetched(source, web.fetch(source, timeout_s))
    return parse.file(source)


def read_file(source: str) -> tuple[bytes, Parsed, int]:
    """The fingerprint of a file, taken before it is read, what is in it, and its size in bytes.

    Raises:
        ReadError: as ``read``.
    """
    from memgang.readers import parse

    is_file = os.path.isfile(source)
    taken = fingerprint(source) if is_file else b""
    return taken, parse.file(source), os.path.getsize(source) if is_file else 0


def read_fetched(url: str, fetched: web.Fetched) -> Parsed:
    """Read a page that was fetched already. Its content type decides how.

    Raises:
        ReadError: as ``read``.
    """
    from memgang.readers import parse

    return parse.fetched(url, fetched)
