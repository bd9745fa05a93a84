"""LangChain's cache of model answers in a space: what one has asked a model, nobody asks again.

    set_llm_cache(MemGangLLMCache(space))

LangChain looks up an answer before it asks a model (`lookup`) and brings the answer afterwards (`update`). A lookup that
finds nothing claims the question, and who asks the same meanwhile waits for the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from memgang.adapters.looks import Looks
from memgang.adapters.spending import spent
from memgang.blocking import BlockingSpace
from memgang.codec import TTL
from memgang.errors import ConfigError
from memgang.model import NO_USAGE, Call, Usage
from memgang.space import Space

try:
    from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
    from langchain_core.messages import message_to_dict, messages_from_dict
    from langchain_core.outputs import ChatGeneration, Generation
except ImportError as error:
    raise ConfigError("LangChain is not installed: pip install 'memgang[langchain]'") from error

TAG = "langchain-cache"
VERSION = "1"  # of what is kept; it goes into every key
ANSWERS = ("ai", "AIMessageChunk")  # messages that are ever read back: bytes of a space are data, and make nothing else


class MemGangLLMCache(BaseCache):
    """A cache for `set_llm_cache`, or for a model's own ``cache=``, that all processes share and whose misses are claimed.

    Safe from many threads, tasks and processes. Of those who look up one question at once the first gets None and
    asks its model; the others wait for its answer, at most ``wait_s`` seconds, then they ask too. If the model fails
    the others go on at once (where it was called without `await`: as soon as that thread looks up anything else, or
    after ``wait_s``); if the process dies, after the space's lease.

    Answers are shared as LangChain means it: also where the model samples, everybody is given the same one.
    An answer that cannot be kept, for want of room or server, or because LangChain cannot read it back, is lost without
    an error. Tokens that the provider has counted go into the log, so that savings can be told.
    """

    def __init__(self, space: Space | BlockingSpace, *, wait_s: float = 120.0, ttl: TTL = "default") -> None:
        """``ttl``: how long answers are kept, ``"default"`` as long as any answer of the space, None for ever.

        Raises:
            ConfigError: no such space, or one of the options is none.
        """
        self._looks = Looks(space, wait_s=wait_s, ttl=ttl, tag=TAG, kind="llm", one_at_a_time=True)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """See `alookup`; blocks."""
        return _read(self._looks.look(_call(prompt, llm_string)))

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer that is there, or that somebody was getting; None where the caller is to ask the model."""
        return _read(await self._looks.alook(_call(prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """See `aupdate`; blocks."""
        call, body = _call(prompt, llm_string), _written(return_val)
        if body is None:
            self._looks.leave(call)
        else:
            self._looks.settle(call, body, usage=self._usage(return_val))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answer, and give it to all who wait."""
        call, body = _call(prompt, llm_string), _written(return_val)
        if body is None:
            self._looks.leave(call)
        else:
            await self._looks.asettle(call, body, usage=self._usage(return_val))

    def clear(self, **kwargs: Any) -> None:
        """See `aclear`; blocks."""
        self._looks.bridge.wait(self._looks.clear())

    async def aclear(self, **kwargs: Any) -> None:
        """Forget all answers of this cache, for all processes."""
        await self._looks.bridge.here(self._looks.clear())

    def _usage(self, generations: Sequence[Generation]) -> Usage:
        settings = self._looks.bridge.space.settings
        for generation in generations:  # each of several choices has the usage of the whole call
            message = getattr(generation, "message", None)
            if counted := getattr(message, "usage_metadata", None):
                told = getattr(message, "response_metadata", None) or {}
                return spent(settings, str(told.get("model_name") or told.get("model") or ""),
                             tokens_in=counted["input_tokens"], tokens_out=counted["output_tokens"],
                             tokens_cached=(counted.get("input_token_details") or {}).get("cache_read") or 0)
        return Usage(llm_calls=1) if generations else NO_USAGE


def _call(prompt: str, llm_string: str) -> Call:
    # The model with its parameters is one text of LangChain's; the prompt is one too, with the ids of messages left out.
    return Call("llm", "langchain:cache", VERSION, messages=prompt, parameters={"llm": llm_string})


def _written(generations: Sequence[Generation]) -> bytes | None:
    """The answer as JSON; None where it would not come back as it was."""
    said = [
        {"text": one.text, "info": one.generation_info,
         "message": message_to_dict(one.message) if isinstance(one, ChatGeneration) else None}
        for one in generations
    ]
    try:
        body = json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):  # a provider's own object among the details
        return None
    return body if _read(body) is not None else None


def _read(body: bytes | None) -> list[Generation] | None:
    if body is None:
        return None
    try:
        return [_generation(one) for one in json.loads(body)]
    except Exception:  # whatever a constructor raises: it is not an answer that can be used, so the model is asked
        return None


def _generation(said: dict[str, Any]) -> Generation:
    if said["message"] is None:
        return Generation(text=said["text"], generation_info=said["info"])
    if said["message"]["type"] not in ANSWERS:
        raise ValueError(f"no answer of a model: {said['message']['type']!r}")
    return ChatGeneration(message=messages_from_dict([said["message"]])[0], generation_info=said["info"])
