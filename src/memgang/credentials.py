"""Which settings are credentials, by their names: they say who pays and who is let in, and must be readable nowhere in a space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# `maxTokens`, `APIKey` and `x-api-key` by their words. Only ASCII folds: K has a sign of its own, and bytes are searched too.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", re.ASCII)
_WHOSE = r"(?:x|api|access|auth|secret|private|client|session|refresh|bearer|subscription|master|account)"
# No plural of `token` alone: `max_tokens` is a limit. Nor the marks of a model's vocabulary.
_NAMES = re.compile(
    rf"(?:^|_)(?:{_WHOSE}*(?:key|secret|(?<!eos_)(?<!bos_)(?<!pad_)(?<!unk_)(?<!stop_)token)|(?:{_WHOSE}_?)+(?:keys|tokens)|secrets"
    r"|passwords?|passwd|pwd|passphrase|credentials?|auth|authorization|authentication|bearer|cookies?)(?:_|$)")
_HEADERS = re.compile(r"(?:^|_)headers?$")
# One of them is in every name of either kind; looked for one by one first: most calls have none, and that is much faster.
_PARTS = (b"key", b"token", b"secret", b"passw", b"pwd", b"passphrase", b"credential", b"auth", b"bearer", b"cookie", b"header")
_HINT = re.compile(b"(?:" + b"|".join(_PARTS) + b')[^"]*":')
_LET_IN = re.compile(r"(?i)(?:^|_)(?:tools|mcp_?servers)$")
# Where a schema has the names of fields. What it says of a field called `key` is part of what is asked.
_FIELDS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired"})


def is_credential(name: str) -> bool:
    """Whether a setting of this name holds a key, a token, a password or their like."""
    return _NAMES.search(_WORDS.sub("_", name).lower()) is not None


def are_headers(name: str) -> bool:
    """Whether a setting of this name holds headers of HTTP, of which any may be a credential."""
    return _HEADERS.search(_WORDS.sub("_", name).lower()) is not None


def may_have_some(text: bytes) -> bool:
    """Whether JSON without escapes may have such a name. Fast, and in doubt yes."""
    low = text.lower()
    for part in _PARTS:
        if part in low:
            return _HINT.search(low) is not None
    return False


def public(settings: Mapping[str, Any], *, fields: bool = False) -> dict[str, Any]:
    """Settings without credentials, at any depth, in lists too.

    Numbers stay, whatever their name (``stop_token_ids``), and so do the fields of schemas: they say what the answer will be. Tools
    and servers of tools stay whole: what they are let in with decides what they see, so another's is another call.
    """
    return {name: _public(value, name) for name, value in settings.items() if not _left_out(name, value, fields)}


def _public(value: Any, name: Any) -> Any:
    if isinstance(name, str) and _LET_IN.search(name):
        return value
    if isinstance(value, Mapping):
        return public(value, fields=isinstance(name, str) and name in _FIELDS)
    return [_public(item, "") for item in value] if isinstance(value, list | tuple) else value


def _left_out(name: Any, value: Any, fields: bool) -> bool:
    if not isinstance(name, str) or not is_credential(name):
        return False
    return not (fields and isinstance(value, Mapping | list)) and not _is_numbers(value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list | tuple) and all(map(_is_numbers, value)))
