"""Answers of model providers: when one is whole, what it cost, and its two forms, in one piece and as events.

    answer.py      what all kinds have in common
    chat.py responses.py embeddings.py    OpenAI's interfaces
    messages.py    Anthropic's

Nothing here does I/O. The proxy and the wrapped clients both keep an answer as it came, and make the other form of it for
those who have asked for that one.
"""

from __future__ import annotations

from typing import Any

from memgang.answers.answer import Answer
from memgang.answers.chat import Chat
from memgang.answers.embeddings import Embeddings
from memgang.answers.messages import Messages
from memgang.answers.responses import Responses
from memgang.sse import Frames

__all__ = ["Answer", "begun", "is_plain", "taken"]


def begun(interface: str, model: str, *, choices: Any = None, texts: Any = None) -> Answer:
    """An answer of which nothing has come yet. ``interface``: chat, responses, messages or embeddings.

    ``choices`` is the request's ``n``, ``texts`` the input of embeddings.
    """
    match interface:
        case "chat":
            return Chat(model, choices if isinstance(choices, int) else 1)
        case "responses":
            return Responses(model)
        case "messages":
            return Messages(model)
        case _:
            # A list of numbers is one text, as tokens.
            many = isinstance(texts, list) and not any(isinstance(text, int) for text in texts)
            return Embeddings(model, len(texts) if many else 1)


def is_plain(block: bytes) -> bool:
    """Whether this begins an answer in one piece; an event begins with the name of a field."""
    return block.lstrip()[:1] == b"{"


def taken(answer: Answer, body: bytes) -> Answer:
    """The answer once all of it has come, in whichever form.

    Raises:
        ModelError: it is none, or an error of the provider.
    """
    if is_plain(body):
        answer.take_plain(body)
        return answer
    frames = Frames()
    for event in frames.take(body):
        answer.take(event)
    if not answer.whole and frames.rest.strip():  # some servers leave out the blank line behind the last
        answer.take(frames.rest + b"\n\n")
    return answer
