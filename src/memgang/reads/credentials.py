"""Headers that a caller gives along: what may be given, and their hash, which alone goes into keys.

Any header may be a credential, so all are taken for one: none stands in a key, a record, the log or an error, and what was
fetched with some answers no fetch that does not give the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from memgang.codec import digest
from memgang.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
VALUE_MAX = 8_000

# What the fetcher itself says: limits and validators rest on them.
_OURS = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "range", "if-none-match",
                   "if-modified-since", "if-match", "if-unmodified-since", "if-range", "te", "upgrade", "expect", "user-agent"))


def checked(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers, if they can be sent. Errors name a header and never repeat its value.

    Raises:
        ConfigError: a name or value no header may have, or one the fetcher decides.
    """
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _NAME.match(name):
            raise ConfigError("a header's name must be 1 to 64 letters, digits and marks, as in Authorization")
        if name.lower() in _OURS:
            raise ConfigError(f"header {name} is decided by the fetcher: leave it out (a user agent goes into Manners)")
        if not isinstance(value, str) or len(value) > VALUE_MAX or not value.isascii() or not value.isprintable():
            raise ConfigError(f"the value of header {name} must be at most {VALUE_MAX:,} printable ASCII characters")
        if name.lower() in found:
            raise ConfigError(f"header {name} is given twice")
        found[name.lower()] = value.strip()
    return found


def hashed(what: object, secret: bytes) -> str:
    """A keyed hash: it tells calls apart and says nothing of what it was made from."""
    return digest(msgspec.json.encode(what, order="sorted"), secret)
