"""A model of the OpenAI Agents SDK that recalls what anybody has asked it, whichever model it wraps.

    Agent(name="reviewer", model=MemGangModel(OpenAIResponsesModel("gpt-5-mini", openai.AsyncOpenAI()), space))
    Runner.run(agent, text, run_config=RunConfig(model_provider=MemGangProvider(MultiProvider(), space)))

The memory of a conversation is `memgang.adapters.sessions.MemGangSession`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from memgang.adapters.bridge import Bridge
from memgang.adapters.calling import Asked, Calls, Whole
from memgang.answers import begun, taken
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.credentials import public
from memgang.errors import ConfigError
from memgang.model import Call
from memgang.space import Space
from memgang.sse import data

try:
    from agents import FunctionTool, Model, ModelProvider, ModelResponse, Usage
    from agents.items import TResponseOutputItem, TResponseStreamEvent
    from openai._models import construct_type
    from pydantic import TypeAdapter
except ImportError as error:
    raise ConfigError("the OpenAI Agents SDK is not installed: pip install 'memgang[agents]'") from error

VERSION = "1"  # of what is kept; it goes into every key
WHOLE = ("response.completed", "response.incomplete")  # incomplete: as long as was allowed
# They say how a request travels and what is told of it, never what the answer is.
_ASIDE = ("metadata", "include_usage", "retry", "timeout", "preserve_raw_usage", "prompt_cache_retention", "prompt_cache_options",
          "extra_headers")

_usage = TypeAdapter(Usage)


class MemGangModel(Model):
    """A model whose answers all processes share. Safe from many tasks, threads and event loops.

    Plain and streamed runs share. Output, tool calls and usage are those of the answer that was computed; who joins a stream is
    given its events from the first, then as they come. What depends on a conversation that the provider keeps, and tools that
    are no plain description, go to the wrapped model directly. Where the model samples (a temperature other than 0) the i-th ask
    of one named agent of the space shares the i-th answer; who has no name shares one. Errors are the wrapped model's own.
    Streams are asked for their usage, where ``ModelSettings(include_usage=False)`` does not forbid it.
    """

    def __init__(self, model: Model, space: Space | BlockingSpace, *, ttl: TTL = "default", name: str = "") -> None:
        """``name`` is what the key knows the model by; without one it is the model's class, name and address.

        Raises:
            ConfigError: no such space, no such model, the time to live is none, or the model has neither name nor address and is given no
                name.
        """
        if not isinstance(model, Model):
            raise ConfigError(f"a Model of the Agents SDK is needed, not {type(model).__name__}: MemGangProvider takes names")
        self.wrapped, self._calls, self._name = model, Calls(space, ttl), name
        if not (name or self.model or self._url):  # all of its class would answer for each other
            raise ConfigError(f"{type(model).__name__} has neither a model's name nor an address to know it by: give it a name=")

    async def get_response(
        self, system_instructions: str | None, input: Any, model_settings: Any, tools: list[Any], output_schema: Any,
        handoffs: list[Any], tracing: Any, *, previous_response_id: str | None = None, conversation_id: str | None = None,
        prompt: Any = None,
    ) -> ModelResponse:
        """The answer, recalled if anybody has had it."""
        given = (system_instructions, input, model_settings, tools, output_schema, handoffs, tracing)
        named = {"previous_response_id": previous_response_id, "conversation_id": conversation_id, "prompt": prompt}
        asked = self._asked(*given[:6], **named)
        if asked is None:
            return await self.wrapped.get_response(*given, **named)

        async def ask() -> Whole:
            return self._whole(await self.wrapped.get_response(*given, **named))

        return _answer(json.loads(await self._calls.whole(asked, ask)))

    async def stream_response(
        self, system_instructions: str | None, input: Any, model_settings: Any, tools: list[Any], output_schema: Any,
        handoffs: list[Any], tracing: Any, *, previous_response_id: str | None = None, conversation_id: str | None = None,
        prompt: Any = None,
    ) -> AsyncIterator[TResponseStreamEvent]:
        """The answer's events, recalled if anybody has had it or is being given it."""
        given = (system_instructions, input, model_settings, tools, output_schema, handoffs, tracing)
        named = {"previous_response_id": previous_response_id, "conversation_id": conversation_id, "prompt": prompt}
        asked = self._asked(*given[:6], **named)
        if asked is None:
            async for event in self.wrapped.stream_response(*given, **named):
                yield event
            return

        if model_settings.include_usage is None:  # it is the bill, and a plain run that shares this has it
            given = (*given[:2], dataclasses.replace(model_settings, include_usage=True), *given[3:])

        async def ask() -> AsyncIterator[bytes | Whole]:
            whole: Whole | None = None
            async for event in self.wrapped.stream_response(*given, **named):
                yield msgspec.json.encode(_plain(event))
                if event.type in WHOLE:
                    whole = self._whole(_answer_of(getattr(event, "response", None)))
            if whole is not None:
                yield whole

        events = 0
        async for line in self._calls.lines(asked, ask):
            said = json.loads(line)
            if "type" in said:
                events += 1
                yield _made(TResponseStreamEvent, said)
            elif not events:
                for made in _events_of(said, self.model):
                    yield _made(TResponseStreamEvent, made)

    async def close(self) -> None:
        """Close the wrapped model."""
        await self.wrapped.close()

    def get_retry_advice(self, request: Any) -> Any:
        """What the wrapped model advises."""
        return self.wrapped.get_retry_advice(request)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self.wrapped._cleanup_on_run_end(owner)

    # ── what is asked ─────────────────────────────────────────────────────────────────────────

    @property
    def model(self) -> str:
        """The wrapped model's name; empty where it has none."""
        return str(getattr(self.wrapped, "model", "") or "")

    @property
    def _url(self) -> str:
        client = getattr(self.wrapped, "_client", None)
        return str(getattr(client, "base_url", None) or getattr(self.wrapped, "base_url", None) or "")

    def _asked(
        self, system: str | None, input: Any, settings: Any, tools: list[Any], output: Any, handoffs: list[Any], *,
        previous_response_id: str | None, conversation_id: str | None, prompt: Any,
    ) -> Asked | None:
        """None where the answer is not to be shared."""
        if conversation_id is not None:
            return None
        try:
            said = {name: value for name, value in settings.to_json_dict().items() if value is not None and name not in _ASIDE}
            for extra in ("extra_args", "extra_body"):  # it finds the provider's cache, never the answer
                if isinstance(said.get(extra), dict):
                    said[extra] = {name: value for name, value in said[extra].items() if name != "prompt_cache_key"}
            said = {name: value for name, value in public(said).items() if value != {}}
            described = [_described(tool) for tool in tools]
            described += [{"handoff": one.tool_name, "description": one.tool_description, "parameters": one.input_json_schema,
                           "strict": one.strict_json_schema} for one in handoffs]
            messages = input if isinstance(input, str) else msgspec.to_builtins(input)
            parameters = said | _present(previous=previous_response_id, prompt=prompt and msgspec.to_builtins(prompt))
        except (TypeError, ValueError):  # of a kind that has no description: nobody can say whether two are the same
            return None
        if output is not None and not output.is_plain_text():
            parameters["output"] = [output.name(), output.json_schema(), output.is_strict_json_schema()]
        where = {"name": self._name} if self._name else {
            "class": f"{type(self.wrapped).__module__}.{type(self.wrapped).__qualname__}", "url": self._url}
        call = Call("llm", "agents:model", VERSION, where, self.model, system=system or "", messages=messages,
                    tools=described or None, parameters=parameters)
        return Asked(call, said.get("temperature") != 0)

    def _whole(self, answer: ModelResponse) -> Whole:
        used = answer.usage
        said = {"output": [_plain(item) for item in answer.output], "usage": _usage.dump_python(used, mode="json", warnings=False),
                "response_id": answer.response_id, "request_id": answer.request_id, "raw_usage": answer.raw_usage}
        return Whole(msgspec.json.encode(said), self.model, used.input_tokens, used.output_tokens,
                     used.input_tokens_details.cached_tokens or 0)


class MemGangProvider(ModelProvider):
    """A provider of models by name, each of which is a `MemGangModel` around that of another provider."""

    def __init__(self, provider: ModelProvider, space: Space | BlockingSpace, *, ttl: TTL = "default", name: str = "") -> None:
        """See `MemGangModel`. ``name`` is that of the provider: its models are known by it and the name they are asked for by."""
        self.provider, self._space, self._ttl, self._name = provider, space, ttl, name
        Bridge(space)  # what is wrong with it is told here, not at the first run

    def get_model(self, model_name: str | None) -> Model:
        """The model of that name, whose answers are shared."""
        name = f"{self._name}/{model_name or ''}" if self._name else ""
        return MemGangModel(self.provider.get_model(model_name), self._space, ttl=self._ttl, name=name)

    async def aclose(self) -> None:
        """Close the wrapped provider."""
        await self.provider.aclose()


def _described(tool: Any) -> Any:
    """All a model is told of a tool. TypeError: it is more than a description."""
    if isinstance(tool, FunctionTool):
        return {"name": tool.name, "description": tool.description, "parameters": tool.params_json_schema,
                "strict": tool.strict_json_schema}
    return [type(tool).__name__, msgspec.to_builtins(tool)]


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(found: Any) -> Any:
    """An object of the provider's SDK as it travels."""
    return found if isinstance(found, dict) else found.to_dict(mode="json", exclude_unset=True, warnings=False)


def _made(kind: Any, said: Any) -> Any:
    """An object of the provider's SDK, as it reads what is sent to it: a field that a server leaves out is no error."""
    return construct_type(type_=kind, value=said)


def _answer(said: dict[str, Any]) -> ModelResponse:
    """An answer as it was kept."""
    output = [_made(TResponseOutputItem, item) for item in said["output"]]
    return ModelResponse(**said | {"output": output, "usage": _usage.validate_python(said["usage"])})


def _answer_of(response: Any) -> ModelResponse:
    """What the SDK makes of the event that ends a stream."""
    used = response.usage
    usage = Usage() if used is None else Usage(
        requests=1, input_tokens=used.input_tokens, output_tokens=used.output_tokens, total_tokens=used.total_tokens,
        input_tokens_details=used.input_tokens_details, output_tokens_details=used.output_tokens_details)
    return ModelResponse(output=response.output, usage=usage, response_id=response.id)


def _events_of(answer: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The events of an answer that came without any."""
    used = answer["usage"]
    names = ("input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details")
    response = {
        "id": answer["response_id"] or "", "object": "response", "created_at": int(time.time()), "model": model, "status": "completed",
        "output": answer["output"], "tool_choice": "auto", "tools": [], "parallel_tool_calls": False,
        "usage": {name: used[name] for name in names}}
    whole = taken(begun("responses", model), msgspec.json.encode(response))
    return [json.loads(found) for event in whole.events() if (found := data(event)) is not None]
