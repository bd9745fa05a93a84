"""The proxy's interface in OpenAPI's words, as it is served at /openapi.json: what it looks at itself, and what it answers.

Requests hold much more, which goes to the upstream as it came; so nothing here says that there are no further fields.
"""

from __future__ import annotations

from typing import Any

import memgang
from memgang.doors.metrics import app as exporter

PATH = "/openapi.json"

_TEXT: dict[str, Any] = {"type": "string"}
_EVENT = {"type": "object", "required": ["data"], "properties": {"event": _TEXT, "data": _TEXT}, "description": "One event of the stream."}
_MODEL = {"type": "string", "minLength": 1, "description": "Its beginning chooses the upstream, where there are several."}
_STREAM = {"type": ["boolean", "null"], "description": "Events as they come, also those of a call that is under way."}
_TOKENS = {"type": ["integer", "null"], "minimum": 1}
_TEMPERATURE = {"type": ["number", "null"], "minimum": 0, "maximum": 2, "description": "0 is shared by all, as is a seed."}
_OPTIONS = {"type": ["object", "null"], "properties": {"include_usage": {"type": "boolean"}}}
_TOOLS = {"type": ["array", "null"], "items": {"type": "object"}}
_CACHE = {
    "type": "object", "description": "What the caller wants of the memory. Not sent on.",
    "properties": {
        "no-cache": {"type": "boolean", "description": "Ask anew; the answer replaces the one there is."},
        "no-store": {"type": "boolean", "description": "Pass through: nothing is read from memory or kept."},
        "s-maxage": {"type": ["number", "null"], "minimum": 0, "maximum": 1e10, "description": "Seconds; older answers are asked anew."},
        "ttl": {"type": ["number", "null"], "minimum": 0, "maximum": 1e10, "description": "Seconds for which the answer may be used."},
        "namespace": {"type": "string", "description": "Shared only with those who say the same."}}}

_REQUESTS: dict[str, dict[str, Any]] = {
    "Chat": {
        "required": ["model", "messages"], "properties": {
            "model": _MODEL, "stream": _STREAM, "stream_options": _OPTIONS, "temperature": _TEMPERATURE, "cache": _CACHE, "tools": _TOOLS,
            "seed": {"type": ["integer", "null"]}, "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
            "max_tokens": _TOKENS, "max_completion_tokens": _TOKENS,
            "messages": {"type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["role"], "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                    "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
                    "tool_call_id": _TEXT, "tool_calls": {"type": "array", "items": {"type": "object"}}}}}}},
    "Response": {
        "required": ["model", "input"], "properties": {
            "model": _MODEL, "stream": _STREAM, "temperature": _TEMPERATURE, "cache": _CACHE, "tools": _TOOLS,
            "input": {"type": ["string", "array"], "items": {"type": "object"}}, "instructions": {"type": ["string", "null"]},
            "background": {"type": ["boolean", "null"], "description": "Passed through, as is a conversation."},
            "max_output_tokens": _TOKENS}},
    "Embedding": {
        "required": ["model", "input"], "properties": {
            "model": _MODEL, "cache": _CACHE, "input": {"type": ["string", "array"], "minLength": 1, "minItems": 1, "items": _TEXT}}},
    "Completion": {
        "required": ["model", "prompt"], "properties": {
            "model": _MODEL, "stream": _STREAM, "max_tokens": _TOKENS, "prompt": {"type": ["string", "array"], "items": _TEXT}}}}

_REFUSALS = {
    400: "The request is none, or the upstream refuses it.", 401: "A token of the space is needed.",
    403: "This Host, Origin or token may not.", 404: "No upstream serves the model, or it knows nothing by that name.",
    408: "The request did not arrive in time.", 413: "The request is too large.",
    429: "More than the token, or the upstream, allows; Retry-After says when to ask again.",
    502: "The upstream failed.", 503: "The memory's server is away and nothing goes on without it.", 504: "The upstream was too slow."}

_REFUSED = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_PAGES = ("text/plain", "application/openmetrics-text")  # by what the asker accepts

_HEADERS = {
    "x-memgang-cache": {"description": "Where the answer comes from.",
                        "schema": {"enum": ["hit", "joined", "miss", "bypass", "degraded"]}},
    "x-memgang-key": {"description": "The key of the call.", "schema": _TEXT},
    "x-memgang-ref": {"description": "The answer as a memory object.", "schema": _TEXT},
    "x-memgang-saved-tokens": {"description": "What a hit or a joined call has saved.", "schema": _TEXT}}


def _named(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


_LABEL = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
_WHO = [_named("x-memgang-agent", "Who asks, where no token says so.", _LABEL), _named("x-memgang-run", "In which run.", _LABEL),
        _named("cache-control", "no-cache, no-store or max-age, as HTTP means them.",
               {"type": "string", "pattern": r"^(no-cache|no-store|max-age=[0-9]{1,9})$"})]


def _operation(name: str, summary: str, request: str = "", *, streams: bool = False, parameters: tuple[dict[str, Any], ...] = ()) -> Any:
    content = {"application/json": {"schema": {"type": "object"}}} | ({"text/event-stream": {"schema": _EVENT}} if streams else {})
    found: dict[str, Any] = {
        "operationId": name, "summary": summary, "parameters": [*(_WHO if request else []), *parameters],
        "responses": {"200": {"description": "The answer.", "headers": _HEADERS, "content": content}}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in _REFUSALS}}
    if request:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}}}
    return found


def _metrics() -> dict[str, Any]:
    found: dict[str, Any] = _operation("metrics", "The memory in numbers, for Prometheus. Not for a token with a scope.")
    found["responses"]["200"] = {"description": "The page.", "content": {kind: {"schema": _TEXT} for kind in _PAGES}}
    found["responses"]["501"] = {"description": "What makes the page is not installed.", "content": _REFUSED}
    return found


def description() -> dict[str, Any]:
    """The whole of it."""
    error = {"type": "object", "required": ["error"], "properties": {"error": {
        "type": "object", "required": ["message", "type", "code"], "properties": {
            "message": _TEXT, "type": {"type": ["string", "null"]}, "param": {}, "code": {"type": ["string", "integer", "null"]}}}}}
    ident = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "MemGang proxy", "version": memgang.__version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "OpenAI's interface, answered from a memory that agents share. All paths below /v1 that are not named "
                                "here are passed through to the upstream."},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            "/v1/chat/completions": {"post": _operation("chat", "A chat completion, shared.", "Chat", streams=True)},
            "/v1/responses": {"post": _operation("respond", "A response, shared.", "Response", streams=True)},
            "/v1/embeddings": {"post": _operation("embed", "Embeddings, shared.", "Embedding")},
            "/v1/completions": {"post": _operation("complete", "A text completion, passed through.", "Completion", streams=True)},
            "/v1/models": {"get": _operation("models", "The models of the upstream.")},
            "/v1/models/{model}": {"get": _operation("model", "One of them.", parameters=(ident,))},
            PATH: {"get": _operation("openapi", "This description.")},
            exporter.PATH: {"get": _metrics()}},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of the space (`memgang token create`)."}},
            "schemas": {"Error": error} | {name: {"type": "object"} | fields for name, fields in _REQUESTS.items()},
            "responses": {str(status): {"description": text, "content": _REFUSED} for status, text in _REFUSALS.items()}}}
