"""The Responses interface: its last event carries the whole answer, so the plain answer is there as it was sent."""

from __future__ import annotations

from typing import Any

from memgang import sse
from memgang.answers.answer import broken, cut, encoded, read_object, used
from memgang.errors import CodecError, ModelError
from memgang.model import Usage

# An answer that was cut at the length that was asked for is whole: asked again, it would end there again.
_WHOLE = ("completed", "incomplete")
# An item of whose content nothing has come yet.
_EMPTY: dict[str, dict[str, Any]] = {"message": {"content": []}, "function_call": {"arguments": ""}}


class Responses:
    """One response while it comes."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._response: dict[str, Any] | None = None
        self._body: bytes | None = None

    @property
    def whole(self) -> bool:
        """The event that ends it has come, or the answer in one piece."""
        return self._response is not None

    @property
    def usage(self) -> Usage:
        """What the provider bills."""
        said = self._response.get("usage") if self._response is not None else None
        return used(said, "input_tokens", "output_tokens", "input_tokens_details")

    def take(self, event: bytes) -> None:
        """One more event. Raises ModelError."""
        try:
            fields = sse.read(event)
        except CodecError as error:
            raise ModelError(self._model, "transient", "bad_json", f"an event of the stream is none: {str(error)[:200]}") from None
        if fields is None:
            return
        kind, response = fields.get("type"), fields.get("response")
        if kind == "error" or fields.get("error"):
            raise broken(self._model, fields.get("error") or fields)
        if kind == "response.failed":
            raise broken(self._model, response.get("error") if isinstance(response, dict) else None)
        if kind in ("response.completed", "response.incomplete"):
            self._end(response)

    def take_plain(self, body: bytes) -> None:
        """The answer in one piece. Raises ModelError."""
        self._end(read_object(self._model, body))
        self._body = body

    def _end(self, response: Any) -> None:
        if not (isinstance(response, dict) and response.get("status", "completed") in _WHOLE and isinstance(response.get("output"), list)):
            raise cut(self._model, "its output")
        self._response = response

    def plain(self) -> bytes:
        """The answer in one piece."""
        return self._body if self._body is not None else encoded(self._response)

    def events(self) -> list[bytes]:
        """The answer as the events a server sends that makes it at one stroke."""
        response = self._response or {}
        out: list[bytes] = []

        def say(kind: str, **fields: Any) -> None:
            out.append(sse.written(encoded({"type": kind, "sequence_number": len(out), **fields}), kind))

        began = response | {"status": "in_progress", "output": [], "usage": None}
        say("response.created", response=began)
        say("response.in_progress", response=began)
        for index, item in enumerate(response.get("output", ())):
            if not isinstance(item, dict):
                continue
            at: dict[str, Any] = {"output_index": index, "item_id": item.get("id", "")}
            empty = _EMPTY.get(str(item.get("type")), {})
            say("response.output_item.added", output_index=index, item=item | empty | {"status": "in_progress"})
            if item.get("type") == "function_call":
                say("response.function_call_arguments.delta", **at, delta=item.get("arguments", ""))
                say("response.function_call_arguments.done", **at, name=item.get("name", ""), arguments=item.get("arguments", ""))
            elif item.get("type") == "message":
                for number, part in enumerate(item.get("content") or ()):
                    _part(say, at | {"content_index": number}, part)
            say("response.output_item.done", output_index=index, item=item)
        say(f"response.{response.get('status', 'completed')}", response=response)
        return out


def _part(say: Any, at: dict[str, Any], part: Any) -> None:
    """One part of a message."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "output_text":
        say("response.content_part.added", **at, part=part | {"text": "", "annotations": []})
        say("response.output_text.delta", **at, delta=part.get("text", ""), logprobs=[])
        say("response.output_text.done", **at, text=part.get("text", ""), logprobs=[])
    elif kind == "refusal":
        say("response.content_part.added", **at, part=part | {"refusal": ""})
        say("response.refusal.delta", **at, delta=part.get("refusal", ""))
        say("response.refusal.done", **at, refusal=part.get("refusal", ""))
    else:
        say("response.content_part.added", **at, part=part)
    say("response.content_part.done", **at, part=part)
