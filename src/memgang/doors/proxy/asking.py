"""A request as the call it is: what of it says what the answer will be, and what only says how it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memgang.answers import Answer, begun
from memgang.answers.answer import encoded
from memgang.doors.proxy import controls
from memgang.doors.proxy.controls import Controls
from memgang.doors.proxy.upstream import Upstream
from memgang.errors import CodecError
from memgang.model import Call, Ref
from memgang.recall import Formed

VERSION = "1"  # of how a request becomes a call; it goes into every key
PATHS = {"/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings"}
TURNS = {"chat": "messages", "responses": "input", "embeddings": "input"}

# Ours, or words by which a caller would choose where the request goes and who pays. Never sent on.
OURS = frozenset({"cache", "api_base", "base_url", "api_key", "api_type", "api_version"})
# They find the provider's cache and its abusers, never the answer. What travels and who asks, the canonical form leaves out.
_ASIDE = frozenset({"safety_identifier", "prompt_cache_key", "prompt_cache_retention", "model", "tools", "instructions", *OURS})
# Without effect on any server, so the same as left out. Other defaults are the provider's own and may change.
_NO_EFFECT: dict[str, tuple[Any, ...]] = {
    "n": (1,), "presence_penalty": (0,), "frequency_penalty": (0,), "logprobs": (False,), "logit_bias": ({},)}
_FLOATS = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_CALLS = frozenset({"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that may be shared. ``samples``: the same request may be answered differently each time."""

    route: str
    path: str
    upstream: Upstream
    model: str
    body: dict[str, Any]
    call: Call
    controls: Controls
    streaming: bool
    include_usage: bool
    samples: bool
    refs: tuple[Ref, ...] = ()
    formed: Formed | None = None  # the call in canonical form, where that is known already

    def sent(self, *, streamed: bool) -> bytes:
        """The body that goes to the upstream. ``streamed``: it is asked for events, whatever the caller asked for."""
        body = self.body | {"model": self.model}
        for name in ("stream", "stream_options"):
            body.pop(name, None)
        if streamed:
            body["stream"] = True
            options = self.body.get("stream_options")
            options = options if isinstance(options, dict) else {}
            if self.route == "chat":  # the usage is the bill; those who did not ask for it are not sent it
                options = options | {"include_usage": True}
            if options:
                body["stream_options"] = options
        return encoded(body)

    def answer(self) -> Answer:
        """An answer to this, of which nothing has come yet."""
        return begun(self.route, self.model, choices=self.body.get("n"), texts=self.body.get("input"))


def shareable(path: str, body: Any) -> bool:
    """Whether this is a request that can be answered with somebody else's answer.

    What works in the background has no answer yet, and what belongs to a conversation changes it: they are passed through.
    """
    if path not in PATHS or not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return False
    return not (path == "/responses" and (body.get("background") or body.get("conversation")))


def asked(
    path: str, body: dict[str, Any], upstream: Upstream, *, scope: str, beta: str = "", cache_control: str = "",
    refs: tuple[Ref, ...] = (),
) -> Asked:
    """The request as a call. ``scope`` is from authentication, never from the request.

    Raises:
        CodecError: a control is none.
    """
    route = PATHS[path]
    says = controls.of_field(controls.of_header(cache_control), body.get("cache"))
    if upstream.prefix and not isinstance(body["model"], str):
        raise CodecError("model must be text")
    model = upstream.model(body["model"])
    parameters = {name: _number(name, value) for name, value in body.items()
                  if name not in _ASIDE and name != TURNS[route] and not _idle(name, value)}
    turns = body.get(TURNS[route])
    if route != "embeddings":
        turns = renamed(turns)
    where = {"upstream": upstream.url} | ({"beta": beta} if beta else {}) | ({"namespace": says.namespace} if says.namespace else {})
    system = body.get("instructions")
    if system is not None and not isinstance(system, str):
        parameters["instructions"], system = system, None
    call = Call("llm", f"openai:{route}", VERSION, where, model=model, system=system or "", messages=turns,
                tools=body.get("tools") or None, parameters=parameters, scope=scope)
    options = body.get("stream_options")
    return Asked(
        route, path, upstream, model, {name: value for name, value in body.items() if name not in OURS}, call, says,
        streaming=body.get("stream") is True and route != "embeddings",
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        samples=route != "embeddings" and body.get("temperature") != 0 and body.get("seed") is None, refs=refs)


def _idle(name: str, value: Any) -> bool:
    return value is None or any(value == idle and type(value) in (type(idle), float) for idle in _NO_EFFECT.get(name, ()))


def _number(name: str, value: Any) -> Any:
    return float(value) if name in _FLOATS and type(value) is int and abs(value) < 2**53 else value


def renamed(turns: Any) -> Any:
    """Messages or items with their ids told from each other, and no more: providers draw them at random.

    Ids by which a server finds something that it keeps (reasoning, files, earlier responses) stay as they are.
    """
    if not isinstance(turns, list):
        return turns
    names: dict[str, str] = {}

    def name(ident: Any) -> Any:
        return names.setdefault(ident, f"call_{len(names)}") if isinstance(ident, str) else ident

    return [_renamed(turn, name) if isinstance(turn, dict) else turn for turn in turns]


def _renamed(turn: dict[str, Any], name: Any) -> dict[str, Any]:
    kind = turn.get("type", "message")
    if kind not in _CALLS and kind != "message":
        return turn
    turn = {key: value for key, value in turn.items() if key != "id" and not (key == "status" and value == "completed")}
    for key in ("tool_call_id", "call_id"):
        if key in turn:
            turn[key] = name(turn[key])
    if isinstance(calls := turn.get("tool_calls"), list):
        turn["tool_calls"] = [one | {"id": name(one["id"])} if isinstance(one, dict) and "id" in one else one for one in calls]
    return turn
