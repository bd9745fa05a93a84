"""References in messages: ``{{mg:...}}`` in a text stands for what is stored under it, so agents pass long texts on by name.

Only whole references, in the text of messages and inputs. What is put in is not looked through again: a text that
somebody has stored cannot pull in others.
"""

from __future__ import annotations

import re
from typing import Any

from memgang.codec import encode
from memgang.errors import CodecError, TooLarge
from memgang.model import Ref
from memgang.space import Space

_MARK = re.compile(r"\{\{(mg:[a-z2-7]{32})\}\}")
SIGN = b"{{mg:"  # a body without it has none
PUT_IN_MAX = 16 * 1024 * 1024  # characters in one request

_TEXTS = frozenset({"content", "text", "input", "instructions", "output"})


async def put_in(space: Space, body: dict[str, Any]) -> tuple[dict[str, Any], tuple[Ref, ...]]:
    """The body with what its references stand for, and the references.

    Raises:
        UnknownReference: there is nothing under one of them.
        CodecError: what is there is no text.
        TooLarge: it is too much for one request.
    """
    found: dict[str, str] = {}
    named = {name: body[name] for name in ("messages", "input", "instructions") if name in body}

    def note(text: str) -> str:
        found.update(dict.fromkeys(_MARK.findall(text), ""))
        return text

    _walk(named, note)
    if not found:
        return body, ()
    for ref in found:
        found[ref] = _text(await space.get(Ref(ref)), ref)
        if (size := sum(map(len, found.values()))) > PUT_IN_MAX:
            raise TooLarge("what the references of one request stand for", size, PUT_IN_MAX)
    return body | _walk(named, lambda text: _MARK.sub(lambda mark: found[mark[1]], text)), tuple(map(Ref, found))


def _text(value: Any, ref: str) -> str:
    if isinstance(value, str):
        return value
    form = encode(value)
    if form.media_type.partition(";")[0] != "application/json":
        raise CodecError(f"{ref} is {form.media_type}, which is no text that can stand in a message")
    return form.whole.decode()


def _walk(value: Any, change: Any, *, text: bool = False) -> Any:
    """The value with its texts changed: those under a name for text, at any depth."""
    if isinstance(value, str):
        return change(value) if text else value
    if isinstance(value, dict):
        return {name: _walk(item, change, text=name in _TEXTS) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, change, text=text) for item in value]
    return value
