"""A GGUF file: what is in it says which model it is, wherever it lies and whatever it is called.

Two hosts with the same file share answers, and a file that was replaced never answers for the old one. So all of it is
hashed, once in a process: a header alone is the same for every fine-tuning of a model.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from memgang.errors import ConfigError

MAGIC = b"GGUF"
# Large models come in parts, and are opened by the first of them.
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z")
NAME_MAX = 80
STRING_MAX = 65_536  # bytes of a text in the header that is looked at
STRING, ARRAY = 8, 9  # types of values in the header
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of the others, in bytes

Stamp = tuple[tuple[int, int, int, int], ...]

_hashed: dict[tuple[Path, Stamp], str] = {}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model on the disk, as it was when it was hashed."""

    path: Path
    name: str  # what the model calls itself; empty where it does not
    digest: str
    stamp: Stamp

    def replaced(self) -> bool:
        """Whether another file lies at its path by now, or none."""
        return self._now() != self.stamp

    def altered(self) -> bool:
        """Whether the file itself was written to. One that was moved aside is what it was, and mapped by who uses it."""
        now = self._now()
        return any(before[0] == after[0] and before != after for before, after in zip(self.stamp, now, strict=False))

    def _now(self) -> Stamp:
        try:
            return _stamp(_parts(self.path))
        except ConfigError:
            return ()


def look(path: Path) -> ModelFile:
    """Hash a model file, or what was found when it was last hashed here. Reads all of it.

    Raises:
        ConfigError: there is no such file, a part is missing, or it is no GGUF.
    """
    path = path.expanduser().absolute()
    parts = _parts(path)
    stamp = _stamp(parts)
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ConfigError(f"{path} is not a GGUF file: it does not begin with the letters GGUF")
            name = _name(file)
        if (path, stamp) not in _hashed:
            whole = blake3(b"".join(blake3(max_threads=blake3.AUTO).update_mmap(part).digest() for part in parts))
            if _stamp(parts) != stamp:
                raise ConfigError(f"{path} was written to while it was read: try again when it is whole")
            _hashed[path, stamp] = whole.hexdigest(16)
    except OSError as error:
        raise ConfigError(f"cannot read the model file {path}: {error.strerror or error}") from error
    return ModelFile(path, name, _hashed[path, stamp], stamp)


def _parts(path: Path) -> list[Path]:
    match = PART.search(path.name)
    if match is None:
        return [path]
    if match[1] != "00001":
        raise ConfigError(f"{path} is part {int(match[1])} of {int(match[2])}: name the first part, which leads to the others")
    before = path.name[: match.start()]
    return [path.with_name(f"{before}-{number:05d}-of-{match[2]}.gguf") for number in range(1, int(match[2]) + 1)]


def _stamp(parts: list[Path]) -> Stamp:
    found = []
    for part in parts:
        try:
            now = part.stat()
        except OSError as error:
            raise ConfigError(f"cannot read the model file {part}: {error.strerror or error}") from error
        found.append((now.st_ino, now.st_size, now.st_mtime_ns, now.st_dev))
    return tuple(found)


def _name(file: BinaryIO) -> str:
    """``general.name`` of the header, behind the magic; empty where it does not stand among the first plain values."""
    try:
        _, _, count = struct.unpack("<IQQ", file.read(20))
        for _ in range(count):
            key = _string(file)
            (kind,) = struct.unpack("<I", file.read(4))
            if kind == ARRAY:  # the vocabulary: what is general stands before it
                return ""
            if kind == STRING:
                value = _string(file)
                if key == "general.name":
                    return "".join(c for c in value if c.isprintable())[:NAME_MAX].strip()
            else:
                file.read(SIZES[kind])
    except (struct.error, KeyError, ValueError):
        pass  # whether it is a model is for llama.cpp to say; here it is a name to be shown
    return ""


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > STRING_MAX:
        raise ValueError(length)
    return file.read(length).decode("utf-8", "replace")
