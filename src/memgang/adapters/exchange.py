"""What a request to a model's provider asks, whether its answer is whole, and what it cost. Nothing here does I/O.

Known are the interfaces of OpenAI (chat completions, responses, embeddings) and Anthropic (messages).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from memgang.adapters.spending import spent
from memgang.canonical import read_json
from memgang.errors import CodecError
from memgang.llms.openai import CALLER_CODES, TRANSIENT_STATUSES
from memgang.model import Call, Usage
from memgang.settings import Settings
from memgang.sse import DONE, Frames, data

VERSION = "1"  # of what is kept; it goes into every key
INTERFACES = ("/chat/completions", "/responses", "/embeddings", "/messages")
KEPT_HEADERS = ("content-type", "x-request-id", "request-id")
KEY_HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta")  # with another one the same body may mean something else


class Asked(NamedTuple):
    """A request whose answer can be shared."""

    call: Call
    interface: str
    model: str
    streams: bool
    samples: bool  # the same request may be answered otherwise each time


def asked(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Asked | None:
    """What the request asks; None where it is none whose answer can be shared."""
    path = url.partition("?")[0]
    interface = next((known for known in INTERFACES if path.endswith(known)), "")
    if method != "POST" or not interface:
        return None
    try:
        said = read_json(body)
    except CodecError:
        return None  # the provider will say what is wrong with it
    # What runs at the provider's, or goes on from what is kept there and changes, is no question of its own.
    if not isinstance(said, dict) or said.get("background") or said.get("conversation"):
        return None
    streams, model = bool(said.pop("stream", False)), str(said.pop("model", ""))
    where = {"url": url, "headers": {name: headers[name] for name in KEY_HEADERS if name in headers},
             "stream": said.pop("stream_options", None) if streams else None}
    samples = interface != "/embeddings" and said.get("seed") is None and said.get("temperature") != 0
    call = Call("llm", f"http:{interface[1:]}{' streamed' if streams else ''}", VERSION, where, model,
                messages=said.pop("messages", said.pop("input", None)), tools=said.pop("tools", None), parameters=said)
    return Asked(call, interface, model, streams, samples)


def classified(status: int, body: bytes) -> str:
    """The class of a refusal, as errors of models have it: who may be told, and whether trying again can help."""
    try:
        error = json.loads(body).get("error") or {}
        codes = {error.get("code"), error.get("type")}
    except (ValueError, AttributeError, TypeError):
        codes = set()
    if status in (401, 402, 403) or codes & CALLER_CODES:
        return "caller"
    return "transient" if status in TRANSIENT_STATUSES or status >= 500 else "permanent"


def usage_of(asked: Asked, settings: Settings, body: bytes) -> Usage | None:
    """What a whole answer cost; None where it is not whole, and must not be given to anybody as if it were."""
    try:
        if asked.streams:
            counted = _streamed(asked.interface, list(_events(body)))
        else:
            counted = _plain(asked.interface, json.loads(body))
    except (ValueError, TypeError, AttributeError, KeyError, LookupError):
        return None
    if counted is None:
        return None
    # OpenAI counts what it had cached among the input, Anthropic beside it.
    details = counted.get("prompt_tokens_details") or counted.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    tokens_in = counted.get("prompt_tokens") or counted.get("input_tokens") or 0
    if asked.interface == "/messages":
        cached = counted.get("cache_read_input_tokens") or 0
        tokens_in += cached + (counted.get("cache_creation_input_tokens") or 0)
    return spent(settings, asked.model, tokens_in=tokens_in, tokens_cached=cached,
                 tokens_out=counted.get("completion_tokens") or counted.get("output_tokens") or 0)


def _plain(interface: str, said: dict[str, Any]) -> dict[str, Any] | None:
    """The usage an answer tells of; None where the answer is not whole."""
    whole = {
        "/chat/completions": lambda: bool(said["choices"]) and all(choice.get("finish_reason") for choice in said["choices"]),
        "/responses": lambda: said.get("status") in ("completed", "incomplete"),  # incomplete: as long as was allowed
        "/embeddings": lambda: bool(said["data"]),
        "/messages": lambda: bool(said.get("stop_reason")),
    }[interface]()
    return dict(said.get("usage") or {}) if whole else None


def _streamed(interface: str, events: list[Any]) -> dict[str, Any] | None:
    if interface == "/chat/completions":
        if not events or events[-1] != "[DONE]":
            return None
        finished: dict[int, bool] = {}
        usage: dict[str, Any] = {}
        for event in events[:-1]:
            if event.get("error"):
                return None
            for choice in event.get("choices") or ():
                finished[choice["index"]] = finished.get(choice["index"], False) or bool(choice.get("finish_reason"))
            usage = event.get("usage") or usage
        return usage if finished and all(finished.values()) else None
    if interface == "/responses":
        last: dict[str, Any] = next((event for event in reversed(events) if event != "[DONE]"), {})
        return dict(last["response"].get("usage") or {}) if last.get("type") in ("response.completed", "response.incomplete") else None
    if not events or events[-1].get("type") != "message_stop":
        return None
    usage = {}
    for event in events:
        if event.get("type") == "error":
            return None
        usage |= (event.get("message") or {}).get("usage") or event.get("usage") or {}
    return usage


def _events(body: bytes) -> Iterator[Any]:
    """The data of server-sent events, decoded; the end marker as it is. The last may lack its blank line."""
    frames = Frames()
    for event in (*frames.take(body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")), frames.rest):
        if (text := data(event)) is not None:
            yield "[DONE]" if text == DONE else json.loads(text)
