"""Any text as a step of a name, and back: MemGang's names hold fewer characters than other people's keys.

Letters, digits, ``-`` and ``.`` stay as they are, all else becomes ``_`` and two digits for each byte of its UTF-8, so
that different texts have different steps. A path that is too deep or too long for a name becomes
``<root>/_/<digest>``: `unpacked` cannot read that one back, whoever keeps it says in the object what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memgang.codec import digest, json_bytes
from memgang.errors import CodecError, ConfigError
from memgang.store.keys import check_name

FOLDED = "_"  # no text is written so: after "_" there are always two digits, or the dash of NOTHING
NOTHING = "_-"  # the empty text

_OTHER = re.compile(rb"[^A-Za-z0-9.-]")
_ESCAPE = re.compile(rb"_([0-9a-f]{2})")
_DOT = re.compile(rb"\A\.")


def packed(root: str, path: Sequence[str]) -> str:
    """The name of a path of texts below the root.

    Raises:
        CodecError: one of them holds half of a surrogate pair.
    """
    name = "/".join((root, *(_step(text) for text in path)))
    try:
        return check_name(name)
    except ConfigError:
        return check_name(f"{root}/{FOLDED}/{digest(json_bytes(list(path)))}")


def below(root: str, path: Sequence[str]) -> tuple[str, ...]:
    """What the names begin with that may lie below a path: the first if they can be read back, the second if they cannot."""
    return "/".join((root, *(_step(text) for text in path))) + "/", f"{root}/{FOLDED}/"


def unpacked(root: str, name: str) -> tuple[str, ...] | None:
    """The path of a name that `packed` has given; None where only the object can tell."""
    steps = name[len(root) + 1:].split("/")
    if steps[0] == FOLDED:
        return None
    return tuple(
        "" if step == NOTHING
        else _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), step.encode()).decode("utf-8", "replace")
        for step in steps)


def _step(text: str) -> str:
    if not text:
        return NOTHING
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise CodecError(f"the key {text[:40]!r} holds half of a surrogate pair, which no UTF-8 has") from None
    # A dot in front is written out too, so that neither "." nor ".." is ever a step.
    return _DOT.sub(b"_2e", _OTHER.sub(lambda found: b"_%02x" % found[0][0], raw)).decode()
