"""Which files a person means: folders, globs, and the order in which to read them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from memgang.errors import ConfigError
from memgang.readers.web import carries_secret, is_url


def expand(sources: Sequence[str]) -> list[str]:
    """The files behind paths, folders and globs, each once, in the order given.

    A folder gives its files in natural order (``sec2`` before ``sec10``), files before the folders
    inside it; hidden ones are skipped. URLs, and paths that do not exist, are kept as they are, so that
    reading them names what is wrong.

    Raises:
        ConfigError: a URL holds a user or password.
    """
    refuse_secrets(sources)
    found: list[str] = []
    for source in sources:
        if is_url(source):
            found.append(source)
        elif os.path.isdir(os.path.expanduser(source)):
            found.extend(_folder(Path(os.path.expanduser(source))) or [source])
        elif not os.path.exists(os.path.expanduser(source)) and glob.has_magic(source):
            matches = sorted(glob.glob(os.path.expanduser(source), recursive=True), key=natural)
            files = [file for match in matches for file in ([match] if os.path.isfile(match) else [])]
            found.extend(files or [source])
        else:
            found.append(os.path.expanduser(source))
    return list(dict.fromkeys(found))


def refuse_secrets(sources: Sequence[str]) -> None:
    """Refuse addresses that hold a user or password, without repeating them.

    Raises:
        ConfigError: one does.
    """
    if any(carries_secret(source) for source in sources):
        raise ConfigError("a URL holds a user or password, which would be kept in the report and in memory; "
                          "fetch the page yourself and name the file")


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key under which numbers inside a name count as numbers."""
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece.casefold())
            for piece in re.findall(r"[0-9]+|[^0-9]+", text)]


def _folder(folder: Path) -> list[str]:
    files: list[str] = []
    folders: list[Path] = []
    # Links to folders are not followed: one that leads upwards would never end.
    for entry in sorted(os.scandir(folder), key=lambda entry: natural(entry.name)):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            folders.append(Path(entry.path))
        elif entry.is_file():
            files.append(entry.path)
    return files + [file for inner in folders for file in _folder(inner)]
