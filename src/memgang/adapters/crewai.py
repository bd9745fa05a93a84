"""A language model of CrewAI that recalls what anybody has asked it, whichever one it wraps.

    agent = Agent(role="Reviewer", goal="...", backstory="...", llm=MemGangLLM(LLM("openai/gpt-5-mini"), space))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from memgang.adapters.calling import Asked, Calls, Whole
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.credentials import public
from memgang.errors import ConfigError
from memgang.model import Call
from memgang.space import Space

try:
    from crewai import BaseLLM
    from pydantic import BaseModel, PrivateAttr
except ImportError as error:
    raise ConfigError("CrewAI is not installed: pip install crewai") from error

VERSION = "1"  # of what is kept; it goes into every key
# Of a model's settings: how a request travels.
_ASIDE = frozenset({"timeout", "max_retries", "default_headers", "headers", "stream", "callbacks", "metadata", "user", "stop"})
# What carries the requests, and hooks of the user's own.
_MEANS = frozenset({"interceptor", "http_client", "async_http_client", "client", "async_client"})
_UNLIKE = "another"  # what stands for an answer that has no JSON form


class MemGangLLM(BaseLLM):
    """A language model whose answers all processes share. Safe from many threads, tasks and event loops.

    Answers are texts, tool calls (in OpenAI's form, as dicts) and structured outputs. A call that runs tools itself
    (``available_functions``) goes to the wrapped model directly. What is recalled comes whole and CrewAI is told of no model call; its
    own counters have what was really spent. Where the model samples (no seed, a temperature other than 0) the
    i-th ask of one named agent of the space shares the i-th answer; who has no name shares one. Errors are the wrapped model's own.
    """

    _wrapped: BaseLLM = PrivateAttr()
    _calls: Calls = PrivateAttr()

    def __init__(self, llm: BaseLLM, space: Space | BlockingSpace, *, ttl: TTL = "default") -> None:
        """``space``: that of `memgang.connect`, since crews call models from threads.

        Raises:
            ConfigError: no such space, no such model, or the time to live is none.
        """
        if not isinstance(llm, BaseLLM):
            raise ConfigError(f"an LLM of CrewAI is needed, not {type(llm).__name__}: crewai.LLM takes names")
        calls = Calls(space, ttl)
        super().__init__(model=llm.model, temperature=llm.temperature, stop=llm.stop, provider=llm.provider, base_url=llm.base_url)
        self._wrapped, self._calls = llm, calls

    def call(
        self, messages: Any, tools: Any = None, callbacks: Any = None, available_functions: Any = None, from_task: Any = None,
        from_agent: Any = None, response_model: Any = None,
    ) -> Any:
        """The answer, recalled if anybody has had it. Blocks."""
        aside = {"callbacks": callbacks, "from_task": from_task, "from_agent": from_agent, "response_model": response_model}
        asked = self._asked(messages, tools, available_functions, response_model)
        if asked is None:
            return self._wrapped.call(messages, tools=tools, available_functions=available_functions, **aside)
        made: list[Any] = []

        def ask() -> Whole:
            one = self._one()
            made[:] = [one.call(messages, tools=tools, **aside)]
            return self._whole(one, made[0])

        return _read(self._calls.whole_blocking(asked, ask), response_model, made)

    async def acall(
        self, messages: Any, tools: Any = None, callbacks: Any = None, available_functions: Any = None, from_task: Any = None,
        from_agent: Any = None, response_model: Any = None,
    ) -> Any:
        """The answer, recalled if anybody has had it."""
        aside = {"callbacks": callbacks, "from_task": from_task, "from_agent": from_agent, "response_model": response_model}
        asked = self._asked(messages, tools, available_functions, response_model)
        if asked is None:
            return await self._wrapped.acall(messages, tools=tools, available_functions=available_functions, **aside)
        made: list[Any] = []

        async def ask() -> Whole:
            one = self._one()
            made[:] = [await one.acall(messages, tools=tools, **aside)]
            return self._whole(one, made[0])

        return _read(await self._calls.whole(asked, ask), response_model, made)

    def _one(self) -> BaseLLM:
        """The wrapped model for one call: with the stop words of this one, and counters of its own, so that its tokens can be told."""
        one = self._wrapped.model_copy()
        one.stop = list(self.stop_sequences)
        one._token_usage = dict.fromkeys(self._wrapped._token_usage, 0)
        return one

    def _asked(self, messages: Any, tools: Any, functions: Any, response_model: Any) -> Asked | None:
        """None where the answer is not to be shared."""
        if functions:
            return None
        given = {name: getattr(self._wrapped, name) for name in type(self._wrapped).model_fields if name not in _ASIDE}
        if isinstance(made := given.get("client_params"), dict):
            given["client_params"] = {name: value for name, value in made.items() if name not in _ASIDE}
        try:
            settings = _described(public({name: value for name, value in given.items() if value is not None}))
            response = _described(response_model)
            said = json.loads(json.dumps(messages, default=_plain))
            described = json.loads(json.dumps(tools, default=_plain)) if tools else None
        except (TypeError, ValueError):  # files, clients under names of their own: nobody can say whether two of these are the same
            return None
        where = {"class": f"{type(self._wrapped).__module__}.{type(self._wrapped).__qualname__}", "url": settings.pop("base_url", "")}
        call = Call("llm", "crewai:llm", VERSION, where, str(settings.pop("model")), messages=said, tools=described,
                    parameters=settings | {"stop": list(self.stop_sequences), "response": response})
        return Asked(call, settings.get("temperature") != 0 and settings.get("seed") is None)

    def _whole(self, one: BaseLLM, answer: Any) -> Whole:
        used = one._token_usage
        for name, number in used.items():
            self._wrapped._token_usage[name] = self._wrapped._token_usage.get(name, 0) + number
        kind, said = _written(answer)
        return Whole(json.dumps({kind: said}).encode(), self._wrapped.model, used["prompt_tokens"], used["completion_tokens"],
                     used["cached_prompt_tokens"], keep=kind != _UNLIKE)

    # ── all else is the wrapped model's ───────────────────────────────────────────────────────

    def get_token_usage_summary(self) -> Any:
        """What the wrapped model has really used."""
        return self._wrapped.get_token_usage_summary()

    def supports_function_calling(self) -> bool:
        """As the wrapped model."""
        supports: Callable[[], bool] | None = getattr(self._wrapped, "supports_function_calling", None)
        return bool(supports and supports())

    def supports_stop_words(self) -> bool:
        """As the wrapped model."""
        return bool(self._wrapped.supports_stop_words())

    def supports_multimodal(self) -> bool:
        """As the wrapped model."""
        return bool(self._wrapped.supports_multimodal())

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        """As the wrapped model counts."""
        return int(self._wrapped.get_input_tokens_count(messages, tools, response_model))

    def get_context_window_size(self) -> int:
        """That of the wrapped model."""
        return int(self._wrapped.get_context_window_size())


def _described(value: Any) -> Any:
    """A setting in JSON, without clients and hooks. TypeError: something else in it has no JSON form."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    if isinstance(value, dict):
        return {str(name): _described(inner) for name, inner in value.items() if name not in _MEANS}
    if isinstance(value, list | tuple):
        return [_described(inner) for inner in value]
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _written(answer: Any) -> tuple[str, Any]:
    """The answer by its kind."""
    if isinstance(answer, str):
        return "text", answer
    if isinstance(answer, BaseModel):
        return "output", answer.model_dump(mode="json")
    if isinstance(answer, list) and answer:
        calls = [_tool_call(one) for one in answer]
        if all(call is not None for call in calls):
            return "calls", calls
    return _UNLIKE, None


def _tool_call(one: Any) -> Any:
    """A tool call as a dict, which CrewAI reads as it reads the objects of providers; None where it is of a kind it does not."""
    if isinstance(one, dict):
        return one
    if (function := getattr(one, "function", None)) is not None:
        return {"id": one.id, "type": "function", "function": {"name": function.name, "arguments": function.arguments}}
    return one.model_dump(mode="json") if isinstance(one, BaseModel) and hasattr(one, "input") else None


def _read(line: bytes, response_model: Any, made: list[Any]) -> Any:
    [(kind, said)] = json.loads(line).items()
    if kind == _UNLIKE:
        return made[0]  # never kept, so it was made here
    return response_model.model_validate(said) if kind == "output" else said
