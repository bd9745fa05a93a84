"""Files that agents may read: below given folders, a text as it stands, anything else as its text."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from memgang.engines.processes import Engine
from memgang.errors import ConfigError, ReadError
from memgang.model import Ref
from memgang.reading import read_text
from memgang.reads import Reads

SNIFFED_BYTES = 8 * 1024


class Roots:
    """The folders below which files may be read. Without any, none may."""

    def __init__(self, folders: Iterable[str | Path] = ()) -> None:
        """Each of ``folders`` must be there.

        Raises:
            ConfigError: one is not there, or is no folder.
        """
        self.folders = tuple(os.path.realpath(os.path.expanduser(folder)) for folder in folders)
        for folder in self.folders:
            if not os.path.isdir(folder):
                raise ConfigError(f"root {folder!r} is not a folder")

    def resolve(self, path: str) -> str:
        """The real path of a file below one of the roots; one that is not absolute is looked for below each.

        Raises:
            ReadError: there is no such file below a root. What lies elsewhere is not told apart from what does not exist.
        """
        if not self.folders:
            raise ReadError(path, "no folder may be read here; the server was started without --root")
        if "\0" not in path:
            for folder in self.folders:
                # Links are followed first and judged by where they lead.
                real = os.path.realpath(os.path.join(folder, path))
                if os.path.commonpath([folder, real]) == folder and real != folder and _is_file(real):
                    return real
        raise ReadError(path, "there is no such file below the folders that may be read")


async def read_file(reads: Reads, roots: Roots, path: str, engine: Engine) -> tuple[str, Ref]:
    """The real path, and the reference of the file's text: as it stands if it is UTF-8, else of its parts (PDF and the like).

    It is read once for all who ask while it stays as it is, and again when it has changed.

    Raises:
        ReadError: it may not, or cannot be read, or is larger than the manners of ``reads`` allow.
    """
    real = await asyncio.to_thread(roots.resolve, path)
    if not await asyncio.to_thread(_looks_like_text, real):
        return real, (await read_text(reads, real, engine))[1]
    # A link that was put in its place, or in that of a folder above, since it was judged may lead out of the roots.
    original = await reads.read_file(real, follow=False)
    if not original.charset:
        raise ReadError(path, "it is not a text in UTF-8")
    return real, original.ref


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _looks_like_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise ReadError(path, (error.strerror or str(error)).lower()) from error
    if b"\0" in start or start.startswith(b"%PDF"):
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end == len(start) == SNIFFED_BYTES and error.start > len(start) - 4  # a character cut in two
    return True
