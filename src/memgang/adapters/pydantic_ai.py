"""A model of pydantic-ai that recalls what anybody has asked it, whichever model it wraps.

    agent = Agent(MemGangModel("openai-chat:gpt-5-mini", space))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from memgang.adapters.calling import Asked, Calls, Whole
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.credentials import public
from memgang.errors import ConfigError
from memgang.model import Call
from memgang.space import Space

try:
    from pydantic import TypeAdapter
    from pydantic_ai.messages import (
        ModelMessagesTypeAdapter,
        ModelResponse,
        ModelResponseStreamEvent,
        PartDeltaEvent,
        PartStartEvent,
    )
    from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.models.wrapper import WrapperModel
    from pydantic_ai.settings import merge_model_settings
except ImportError as error:
    raise ConfigError("pydantic-ai is not installed: pip install 'memgang[pydantic-ai]'") from error

VERSION = "1"  # of what is kept; it goes into every key
# Of messages and their parts: when and for which run they were made. What a model is told has none of it.
_ASIDE = frozenset({"timestamp", "run_id", "conversation_id", "metadata", "usage"})
# Of settings: how a request travels.
_TRAVEL = frozenset({"timeout", "request_timeout", "first_event_timeout", "extra_headers"})

_response = TypeAdapter(ModelResponse)
_event: TypeAdapter[Any] = TypeAdapter(ModelResponseStreamEvent)
_parameters = TypeAdapter(ModelRequestParameters)


class MemGangModel(WrapperModel):
    """A model whose answers all processes share. Safe from many tasks, threads and event loops.

    Plain and streamed requests share. Parts, tool calls and usage are those of the answer that was computed; who joins a stream
    is given its events from the first, then as they come. A request that cannot be described in JSON goes to the
    wrapped model directly, and an answer that is not complete is given to who has asked alone. Where the model samples (no
    seed, a temperature other than 0) the i-th ask of one named agent of the space shares the i-th answer; who has no name shares one.
    Errors are the wrapped model's own.
    """

    def __init__(self, wrapped: Model | str, space: Space | BlockingSpace, *, ttl: TTL = "default") -> None:
        """``wrapped`` as pydantic-ai takes it: a model, or its name.

        Raises:
            ConfigError: no such space, or the time to live is none.
        """
        super().__init__(wrapped)
        self._calls = Calls(space, ttl)

    async def request(self, messages: list[Any], model_settings: Any, model_request_parameters: Any) -> ModelResponse:
        """The answer, recalled if anybody has had it."""
        given = (messages, model_settings, model_request_parameters)
        if (asked := self._asked(*given)) is None:
            return await self.wrapped.request(*given)

        async def ask() -> Whole:
            return _whole(await self.wrapped.request(*given), self.model_name)

        return _response.validate_json(await self._calls.whole(asked, ask))

    @asynccontextmanager
    async def request_stream(
        self, messages: list[Any], model_settings: Any, model_request_parameters: Any, run_context: Any = None
    ) -> AsyncGenerator[StreamedResponse]:
        """The answer as it comes, recalled if anybody has had it or is being given it."""
        given = (messages, model_settings, model_request_parameters, run_context)
        if (asked := self._asked(*given[:3])) is None:
            async with self.wrapped.request_stream(*given) as stream:
                yield stream
            return

        async def ask() -> AsyncIterator[bytes | Whole]:
            async with self.wrapped.request_stream(*given) as stream:
                async for event in stream:
                    if isinstance(event, PartStartEvent | PartDeltaEvent):  # the others are made of these, at each reader
                        yield _event.dump_json(event)
                yield _whole(stream.get(), self.model_name)

        lines = self._calls.lines(asked, ask)
        try:
            # Here and not at the first event: agents expect errors of a request where it is made.
            yield _Followed(await anext(lines), lines, model_request_parameters)
        finally:
            await lines.aclose()

    def _asked(self, messages: list[Any], settings: Any, parameters: Any) -> Asked | None:
        """None where the answer is not to be shared."""
        merged: dict[str, Any] = dict(merge_model_settings(self.wrapped.settings, settings) or {})
        try:
            said = [_bare(message) for message in ModelMessagesTypeAdapter.dump_python(messages, mode="json")]
            wanted = _parameters.dump_python(parameters, mode="json", exclude_defaults=True)
            options = TypeAdapter(dict[str, Any]).dump_python(
                public({name: value for name, value in merged.items() if name not in _TRAVEL}), mode="json")
        except ValueError:  # PydanticSerializationError is one: nobody can say whether two of these are the same
            return None
        where = {"system": self.system, "url": self.base_url or "", "class": type(self.wrapped).__qualname__}
        call = Call("llm", "pydantic-ai:model", VERSION, where, self.model_name, messages=said,
                    tools=wanted.pop("function_tools", None), parameters=options | {"wanted": wanted})
        return Asked(call, merged.get("temperature") != 0 and merged.get("seed") is None)


class _Followed(CompletedStreamedResponse):
    """A stream of lines: events, and the answer behind them; or the answer alone."""

    def __init__(self, first: bytes, lines: AsyncGenerator[bytes, None], parameters: ModelRequestParameters) -> None:
        answer = None if _is_event(first) else _response.validate_json(first)
        super().__init__(answer or ModelResponse(parts=[]), model_request_parameters=parameters, replay_events=True)
        self._first, self._lines, self._answer = first, lines, answer

    async def _get_event_iterator(self) -> AsyncIterator[Any]:
        if self._answer is not None:
            async for event in super()._get_event_iterator():
                yield event
            return
        line: bytes | None = self._first
        while line is not None:
            if _is_event(line):
                event = _event.validate_json(line)
                self._parts_manager.apply_event(event)
                yield event
            else:
                self.response = self._answer = _response.validate_json(line)
                self.state, self.canonical_system = self._answer.state, self._answer.canonical_system
            line = await anext(self._lines, None)

    async def close_stream(self) -> None:
        """Leave the stream. Others go on with it."""
        await self._lines.aclose()

    def get(self) -> ModelResponse:
        """What has come so far; at the end the answer as it is for all."""
        return super().get() if self._answer is not None else StreamedResponse.get(self)


def _whole(answer: ModelResponse, model: str) -> Whole:
    used = answer.usage
    return Whole(_response.dump_json(answer), model, used.input_tokens, used.output_tokens, used.cache_read_tokens,
                 keep=answer.state == "complete")


def _is_event(line: bytes) -> bool:
    return b'"event_kind"' in line and "event_kind" in TypeAdapter(dict[str, Any]).validate_json(line)


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is of its run. Of the contents of its parts nothing is left out."""
    return {name: value for name, value in message.items() if name not in _ASIDE and name != "parts"} | {
        "parts": [{name: value for name, value in part.items() if name not in _ASIDE} for part in message["parts"]]}
