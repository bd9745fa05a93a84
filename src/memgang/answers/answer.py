"""What all kinds of answers have in common: they come as events or as one piece, and are whole or not."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from memgang.canonical import read_json
from memgang.errors import CodecError, ModelError
from memgang.model import Usage

# What a provider says in a stream when it means the account, not the moment.
CALLER_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})


class Answer(Protocol):
    """One answer while it comes. Only a whole one is kept."""

    @property
    def whole(self) -> bool:
        """Whether it is complete."""
        ...

    @property
    def usage(self) -> Usage:
        """What the provider bills for it, as far as it said."""
        ...

    def take(self, event: bytes) -> None:
        """One more event.

        Raises:
            ModelError: the provider put an error into its stream, or what is no event of this kind.
        """
        ...

    def take_plain(self, body: bytes) -> None:
        """The answer in one piece, from a server that was not asked for a stream or has none.

        Raises:
            ModelError: it is none.
        """
        ...

    def plain(self) -> bytes:
        """The answer as who has not asked for a stream gets it."""
        ...

    def events(self) -> list[bytes]:
        """The answer as events, where it came in one piece."""
        ...


def encoded(value: Any) -> bytes:
    """JSON, in the order of the value."""
    return msgspec.json.encode(value)


def read_object(model: str, body: bytes) -> dict[str, Any]:
    """An answer in one piece, as an object.

    Raises:
        ModelError: it is none; trying again may help.
    """
    try:
        value = read_json(body)
    except CodecError as error:
        raise ModelError(model, "transient", "bad_json", f"the server answered what is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ModelError(model, "transient", "bad_json", f"the server answered {type(value).__name__}, not an object")
    if value.get("error"):  # with status 200, as some do
        raise broken(model, value["error"])
    return value


def broken(model: str, wrong: Any) -> ModelError:
    """An error the server has put into its answer, where it has no status any more."""
    fields = wrong if isinstance(wrong, dict) else {"message": wrong}
    code = str(fields.get("code") or fields.get("type") or "error")[:100]
    kind = "caller" if code in CALLER_CODES else "transient"
    return ModelError(model, kind, code, str(fields.get("message") or "the server broke off its answer")[:500])


def cut(model: str, missing: str) -> ModelError:
    """What came is not the whole answer."""
    return ModelError(model, "transient", "cut", f"the answer ended without {missing}")


def count(value: Any) -> int:
    """A number of tokens as a provider says it; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def used(fields: Any, tokens_in: str, tokens_out: str, details: str) -> Usage:
    """What the provider bills, from its words for it."""
    if not isinstance(fields, dict):
        return Usage(llm_calls=1)
    more = fields.get(details)
    return Usage(llm_calls=1, tokens_in=count(fields.get(tokens_in)), tokens_out=count(fields.get(tokens_out)),
                 tokens_cached=count(more.get("cached_tokens")) if isinstance(more, dict) else 0)
