"""What a request to a model's provider asks, how its answer is kept, and what it cost. Nothing here does I/O.

Known are the interfaces of OpenAI (chat completions, responses, embeddings) and Anthropic (messages). A plain and a streamed
request for the same are one call: what is kept is what came, and who asked for the other form is given one made of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from memgang.adapters.spending import spent
from memgang.answers import Answer, begun, is_plain, taken
from memgang.canonical import read_json
from memgang.errors import CodecError, ModelError
from memgang.llms.openai import CALLER_CODES, TRANSIENT_STATUSES
from memgang.model import Call, Usage
from memgang.settings import Settings

VERSION = "2"  # of what is kept; it goes into every key
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
    hides_usage: bool  # it streams and has not asked for the usage, which is asked for all the same: it is the bill
    body: dict[str, Any]

    def answer(self) -> Answer:
        """An answer to this, of which nothing has come yet."""
        return begun(self.interface.rpartition("/")[2].replace("completions", "chat"), self.model,
                     choices=self.body.get("n"), texts=self.body.get("input"))

    def sent(self) -> bytes:
        """The body that goes to the provider, where it ``hides_usage``."""
        return msgspec.json.encode(self.body | {"stream_options": (self.body.get("stream_options") or {}) | {"include_usage": True}})


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
    whole = dict(said)
    streams, model = bool(said.pop("stream", False)), str(said.pop("model", ""))
    options = said.pop("stream_options", None)
    where = {"url": url, "headers": {name: headers[name] for name in KEY_HEADERS if name in headers}}
    samples = interface != "/embeddings" and said.get("seed") is None and said.get("temperature") != 0
    call = Call("llm", f"http:{interface[1:]}", VERSION, where, model,
                messages=said.pop("messages", said.pop("input", None)), tools=said.pop("tools", None), parameters=said)
    hides = streams and interface == "/chat/completions" and not (isinstance(options, dict) and options.get("include_usage"))
    return Asked(call, interface, model, streams, samples, hides, whole)


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
    answer = asked.answer()
    try:
        taken(answer, body)
    except ModelError:
        return None
    counted = answer.usage
    if not answer.whole:
        return None
    return spent(settings, asked.model, tokens_in=counted.tokens_in, tokens_out=counted.tokens_out, tokens_cached=counted.tokens_cached)


# ── as it is kept: the headers in one line of JSON, then the body as it came ──────────────────


def head(headers: Mapping[str, str]) -> bytes:
    """The line with the headers that are kept."""
    return msgspec.json.encode({name: headers[name] for name in KEPT_HEADERS if name in headers}) + b"\n"


def apart(kept: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    line, _, body = kept.partition(b"\n")
    return msgspec.json.decode(line, type=dict[str, str]), body


def in_one_piece(asked: Asked, body: bytes) -> bytes:
    """The answer for who has not asked for a stream."""
    return body if is_plain(body) else taken(asked.answer(), body).plain()


def as_events(asked: Asked, body: bytes) -> list[bytes]:
    """An answer that came in one piece, for who has asked for a stream."""
    return taken(asked.answer(), body).events()
