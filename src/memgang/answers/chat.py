"""Chat completions: whole with a finish reason for every choice and the end marker; a plain answer made of its events.

Nothing is made of known fields alone: whatever a server adds to its pieces (reasoning, citations, log probabilities,
tool calls in parts) is put together by the same rule. Texts are joined, lists joined or merged by their ``index``, all
else is the last that was said.
"""

from __future__ import annotations

from typing import Any

from memgang import sse
from memgang.answers.answer import broken, cut, encoded, read_object, used
from memgang.errors import CodecError, ModelError
from memgang.model import Usage

# Texts that are said whole each time, also by servers that repeat them with every piece.
_SAID_WHOLE = frozenset({"role", "type", "id", "format"})
_OF_EVENTS = frozenset({"choices", "object", "usage", "obfuscation"})


class Chat:
    """One chat completion while it comes."""

    def __init__(self, model: str, choices: int) -> None:
        self._model, self._asked = model, choices
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None
        self._ended = False
        self._body: bytes | None = None

    @property
    def whole(self) -> bool:
        """A finish reason for each choice, and the end marker or an answer in one piece."""
        return (self._ended and len(self._choices) >= self._asked
                and all(isinstance(c.get("finish_reason"), str) for c in self._choices.values()))

    @property
    def usage(self) -> Usage:
        """What the provider bills."""
        return used(self._usage, "prompt_tokens", "completion_tokens", "prompt_tokens_details")

    def take(self, event: bytes) -> None:
        """One more event. Raises ModelError."""
        text = sse.data(event)
        if text is None:
            return
        if text.strip() == sse.DONE:
            self._ended = True
            if not self.whole:
                raise cut(self._model, "a finish reason for every choice")
            return
        try:
            fields = sse.brought(text)
            if fields.get("error"):
                raise broken(self._model, fields["error"])
            self._usage = fields.get("usage") or self._usage
            for name, value in fields.items():
                if name not in _OF_EVENTS and (value is not None or name not in self._top):
                    self._top[name] = value
            for choice in fields.get("choices") or ():
                known = self._choices.setdefault(choice["index"], {"index": choice["index"], "message": {}})
                merge(known["message"], choice.get("delta") or {})
                merge(known, {name: value for name, value in choice.items() if name not in ("index", "delta", "finish_reason")})
                known["finish_reason"] = choice.get("finish_reason") or known.get("finish_reason")
        except (CodecError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(self._model, "transient", "bad_json", f"an event of the stream is none: {str(error)[:200]}") from None

    def take_plain(self, body: bytes) -> None:
        """The answer in one piece. Raises ModelError."""
        fields = read_object(self._model, body)
        choices = fields.get("choices")
        if not isinstance(choices, list) or not all(isinstance(c, dict) and isinstance(c.get("message"), dict) for c in choices):
            raise cut(self._model, "choices")
        self._choices = dict(enumerate(choices))
        self._top = {name: value for name, value in fields.items() if name not in _OF_EVENTS}
        self._usage, self._body, self._ended = fields.get("usage"), body, True
        if not self.whole:
            raise cut(self._model, "a finish reason for every choice")

    def plain(self) -> bytes:
        """The answer in one piece: as it came, or made of its events."""
        if self._body is not None:
            return self._body
        choices = []
        for _, choice in sorted(self._choices.items()):
            message = {"role": "assistant", "content": None, **choice["message"]}
            if isinstance(message.get("tool_calls"), list):
                message["tool_calls"] = [{name: value for name, value in one.items() if name != "index"} if isinstance(one, dict) else one
                                         for one in message["tool_calls"]]
            choices.append({"index": choice["index"], "message": message, "logprobs": None}
                           | {name: value for name, value in choice.items() if name not in ("index", "message")})
        whole = {"id": self._top.get("id"), "object": "chat.completion"} | self._top | {"choices": choices}
        return encoded(whole | ({"usage": self._usage} if self._usage else {}))

    def events(self) -> list[bytes]:
        """The answer as events: each choice in one piece, its finish reason, the usage and the end marker."""
        top = self._top | {"object": "chat.completion.chunk"}
        pieces: list[dict[str, Any]] = []
        for number, choice in sorted(self._choices.items()):
            delta = dict(choice["message"])
            if isinstance(delta.get("tool_calls"), list):
                delta["tool_calls"] = [{"index": at, **one} for at, one in enumerate(delta["tool_calls"])]
            index = choice.get("index", number)
            rest = {name: value for name, value in choice.items() if name not in ("index", "message", "finish_reason")}
            pieces.append({"index": index, "delta": delta, **rest, "finish_reason": None})
            pieces.append({"index": index, "delta": {}, "finish_reason": choice["finish_reason"]})
        out = [sse.written(encoded(top | {"choices": [piece]})) for piece in pieces]
        if self._usage:
            out.append(sse.written(encoded(top | {"choices": [], "usage": self._usage})))
        return [*out, sse.written(sse.DONE)]


def merge(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Put a piece to what has come before."""
    for name, value in more.items():
        before = known.get(name)
        if value is None:
            known.setdefault(name, None)
        elif isinstance(value, dict):
            if not isinstance(before, dict):
                before = known[name] = {}
            merge(before, value)
        elif isinstance(value, list):
            if not isinstance(before, list):
                before = known[name] = []
            _merge_list(before, value)
        elif isinstance(value, str) and isinstance(before, str) and name not in _SAID_WHOLE:
            known[name] = before + value
        else:
            known[name] = value


def _merge_list(known: list[Any], more: list[Any]) -> None:
    for item in more:
        if not isinstance(item, dict) or not isinstance(index := item.get("index"), int):
            known.append(item)
            continue
        same = next((k for k in known if isinstance(k, dict) and k.get("index") == index), None)
        if same is None:
            known.append(same := {})
        merge(same, item)


def only_usage(event: bytes) -> bool:
    """Whether the event brings nothing but the usage, which only those are sent who asked for it."""
    if b'"usage"' not in event:
        return False
    fields = sse.read(event) or {}
    return bool(fields.get("usage")) and not fields.get("choices")
