"""Anthropic's messages: whole with a reason to stop and the event that ends them; plain and as events."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from memgang import sse
from memgang.answers.answer import broken, count, cut, encoded, read_object
from memgang.errors import CodecError, ModelError
from memgang.model import Usage

# Where a block's text grows, by the type of what is added to it.
_GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_INPUT = "input_json_delta"


class Messages:
    """One message while it comes."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}  # arguments of tools: pieces of one JSON text
        self._ended = False
        self._body: bytes | None = None

    @property
    def whole(self) -> bool:
        """It says why it stopped, and the event that ends it has come, or all of it in one piece."""
        return self._ended and self._message is not None and bool(self._message.get("stop_reason"))

    @property
    def usage(self) -> Usage:
        """What the provider bills. What it had cached it counts beside the input, not among it."""
        said = (self._message or {}).get("usage")
        if not isinstance(said, dict):
            return Usage(llm_calls=1)
        cached = count(said.get("cache_read_input_tokens"))
        return Usage(llm_calls=1, tokens_in=count(said.get("input_tokens")) + cached + count(said.get("cache_creation_input_tokens")),
                     tokens_out=count(said.get("output_tokens")), tokens_cached=cached)

    def take(self, event: bytes) -> None:
        """One more event. Raises ModelError."""
        try:
            fields = sse.read(event)
            if fields is not None:
                self._take(str(fields.get("type")), fields)
        except (CodecError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(self._model, "transient", "bad_json", f"an event of the stream is none: {str(error)[:200]}") from None

    def _take(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "error":
            raise broken(self._model, fields.get("error"))
        if kind == "message_start":
            self._message = dict(fields["message"])
        elif kind == "content_block_start":
            self._blocks[fields["index"]] = dict(fields["content_block"])
        elif kind == "content_block_delta":
            self._grow(fields["index"], dict(fields["delta"]))
        elif kind == "message_delta":
            _begun(self._message).update(fields.get("delta") or {})
            known = _begun(self._message).get("usage") or {}
            _begun(self._message)["usage"] = known | (fields.get("usage") or {})
            for name in fields.keys() - {"type", "delta", "usage"}:
                _begun(self._message)[name] = fields[name]
        elif kind == "message_stop":
            self._ended = True
            if not self.whole:
                raise cut(self._model, "a reason to stop")

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        block, kind = self._blocks[index], delta.pop("type", "")
        if kind == _INPUT:
            self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif kind in _GROWS:
            block[_GROWS[kind]] = (block.get(_GROWS[kind]) or "") + delta[_GROWS[kind]]
        else:  # a kind that is new: texts are joined, all else is the last that was said
            for name, value in delta.items():
                before = block.get(name)
                block[name] = before + value if isinstance(before, str) and isinstance(value, str) else value

    def take_plain(self, body: bytes) -> None:
        """The answer in one piece. Raises ModelError."""
        fields = read_object(self._model, body)
        content = fields.get("content")
        if not isinstance(content, list) or not all(isinstance(block, dict) for block in content) or not fields.get("stop_reason"):
            raise cut(self._model, "a reason to stop")
        self._message, self._blocks, self._body, self._ended = fields, dict(enumerate(content)), body, True

    def plain(self) -> bytes:
        """The answer in one piece: as it came, or made of its events."""
        if self._body is not None:
            return self._body
        content = []
        for index, block in sorted(self._blocks.items()):
            if said := self._inputs.get(index):
                # The model may stop amid its arguments (`max_tokens`); the message is whole all the same, and this input stays as it began.
                with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
                    block = block | {"input": msgspec.json.decode(said)}
            content.append(block)
        return encoded(_begun(self._message) | {"content": content})

    def events(self) -> list[bytes]:
        """The answer as events: each block in one piece."""
        message = _begun(self._message)
        out: list[bytes] = []

        def say(kind: str, **fields: Any) -> None:
            out.append(sse.written(encoded({"type": kind, **fields}), kind))

        end = {"stop_reason": message.get("stop_reason"), "stop_sequence": message.get("stop_sequence")}
        say("message_start", message=message | {"content": [], "stop_reason": None, "stop_sequence": None})
        for index, block in sorted(self._blocks.items()):
            empty, deltas = _apart(block)
            say("content_block_start", index=index, content_block=empty)
            for delta in deltas:
                say("content_block_delta", index=index, delta=delta)
            say("content_block_stop", index=index)
        say("message_delta", delta=end, usage=message.get("usage") or {"output_tokens": 0})
        say("message_stop")
        return out


def _begun(message: dict[str, Any] | None) -> dict[str, Any]:
    """The message that has begun. Raises ValueError where it has not."""
    if message is None:
        raise ValueError("the message has not begun")
    return message


def _apart(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what is added to it. One that does not grow begins as it is."""
    kind = block.get("type")
    if kind == "text":
        cited = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations") or ()]
        empty = block | {"text": ""} | ({"citations": []} if cited else {})
        return empty, [*cited, {"type": "text_delta", "text": block.get("text", "")}]
    if kind == "thinking":
        return block | {"thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": block.get("thinking", "")},
            {"type": "signature_delta", "signature": block.get("signature", "")}]
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        return block | {"input": {}}, [{"type": _INPUT, "partial_json": encoded(block.get("input") or {}).decode()}]
    return block, []
