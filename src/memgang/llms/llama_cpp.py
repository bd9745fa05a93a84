"""``llama_cpp:<path.gguf>``: a model in this process, by llama.cpp. Needs no server, no key and no network.

Parameters follow the path: ``llama_cpp:qwen.gguf?n_ctx=16384&temperature=0.7``. The model's own chat template is used,
thoughts of a model that thinks are left out, and at temperature 0, the default, the likeliest token is always taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Self

from memgang.errors import ConfigError, ModelError
from memgang.llms import llama_engine, modelfile
from memgang.llms.llama_engine import Options
from memgang.llms.naming import parted
from memgang.llms.wording import messages
from memgang.model import Completion, Prompt

VERSION = "1"  # of the wording of messages and of what is asked of llama.cpp; it goes into every call key
LOADING = ("n_ctx", "n_threads", "n_gpu_layers")
# llama.cpp passes over what it does not know: a slip of the pen would be another call, and change nothing.
SAMPLING = frozenset(
    "temperature dynatemp_range dynatemp_exponent top_k top_p min_p typical_p top_n_sigma xtc_probability xtc_threshold samplers seed "
    "repeat_penalty repeat_last_n presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n "
    "dry_sequence_breakers mirostat mirostat_tau mirostat_eta max_tokens stop ignore_eos logit_bias grammar json_schema "
    "response_format cache_prompt reasoning_format chat_template_kwargs".split())
# Small models may not find an end. Reports ask for some hundred words.
DEFAULTS = {"temperature": 0, "max_tokens": 2048}
SEED = 0  # sent at temperature 0, where it decides nothing any more: asked again, it answers the same


class LlamaCpp:
    """A chat model from a GGUF file. It is read here, to know which model it is, and loaded at the first question.

    Cancelling `complete`, or leaving a `stream`, ends the computation with the token, or the block of the prompt, that is
    under way. ``aclose`` frees the memory when nobody else in this process uses the model.
    """

    price_name = "local"

    def __init__(self, path: Path | str, *, parameters: Mapping[str, Any] | None = None) -> None:
        try:
            import xllamacpp  # noqa: F401  # told now, not at the first question
        except ImportError as error:
            raise ConfigError("llama_cpp:<path.gguf> needs the xllamacpp package: pip install 'memgang[llama-cpp]'") from error
        given = {**DEFAULTS, **(parameters or {})}
        if unknown := sorted(set(given) - SAMPLING - set(LOADING)):
            raise ConfigError(f"llama_cpp: unknown parameter {', '.join(unknown)}; known are {', '.join([*LOADING, *sorted(SAMPLING)])}")
        loading = {key: given.pop(key) for key in LOADING if key in given}
        if wrong := [f"{key}={value!r}" for key, value in loading.items() if type(value) is not int]:
            raise ConfigError(f"llama_cpp: {', '.join(wrong)} must be a whole number")
        self._options = Options(**loading)
        if self._options.n_ctx < 1:
            raise ConfigError(f"llama_cpp: n_ctx={self._options.n_ctx} must be 1 or more: tokens of prompt and answer together")
        if given["temperature"] == 0:
            given.setdefault("seed", SEED)
        self._file = modelfile.look(Path(path))
        self.name = f"llama_cpp:{self._file.name or self._file.digest[:12]}"
        self.version = f"{VERSION}+{self._file.digest}"
        self.parameters: dict[str, Any] = {**given, "n_ctx": self._options.n_ctx}
        self._request = given
        self._engine: llama_engine.Engine | None = None

    @classmethod
    def named(cls, text: str) -> Self:
        """From ``path`` or ``path?parameter=value&...``.

        Raises:
            ConfigError: the package or the file is missing, the file is no GGUF, or a parameter is unknown.
        """
        path, parameters = parted(text)
        if not path:
            raise ConfigError("llama_cpp: the path of a model is missing, as in llama_cpp:models/qwen2.5-7b-instruct-q4_k_m.gguf")
        return cls(path, parameters=parameters)

    def __repr__(self) -> str:
        return f"LlamaCpp({str(self._file.path)!r})"

    async def complete(self, prompt: Prompt) -> Completion:
        """The whole answer, with the tokens that were read and written.

        Raises:
            ModelError: ``caller`` where this host cannot load the model; ``permanent`` for what it cannot be asked, as a
                prompt that is longer than ``n_ctx``; ``transient`` where the answer broke off.
        """
        async with contextlib.aclosing(self.stream(prompt)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a stream ends with its answer or an error")

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion, None]:
        """The answer token by token, and last the whole. Raises what `complete` does."""
        text, finish, usage = "", "", dict[str, Any]()
        async with contextlib.aclosing(self._events(self._asked(prompt))) as events:
            async for event in events:
                if "error" in event:
                    raise self._refused(event["error"])
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    finish = choice.get("finish_reason") or finish
                    if piece := choice.get("delta", {}).get("content"):
                        text += piece
                        yield piece
        if not finish:
            raise ModelError(self.name, "transient", "cut", f"the answer broke off after {len(text):,} characters")
        yield Completion(
            text=text, tokens_in=usage["prompt_tokens"], tokens_out=usage["completion_tokens"],
            tokens_cached=usage.get("prompt_tokens_details", {}).get("cached_tokens", 0), finish=finish)

    async def aclose(self) -> None:
        """Free the memory of the model, if nobody else in this process uses it."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(llama_engine.leave, engine)

    def _asked(self, prompt: Prompt) -> dict[str, Any]:
        # Progress: without it llama.cpp says nothing, and asks nothing, before the whole prompt is read.
        return {**self._request, "messages": messages(prompt), "stream": True, "stream_options": {"include_usage": True},
                "return_progress": True}

    async def _events(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What llama.cpp says, from its thread into this loop. Whoever stops listening stops it."""
        if self._engine is None:
            self._engine = llama_engine.enter(self.name, self._file, self._options)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stop = threading.Event()

        def hand(event: dict[str, Any] | None) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop was closed without waiting for us
                stop.set()

        work = self._engine.generate(request, hand, stop)
        work.add_done_callback(lambda _: hand(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            work.result()
        finally:
            stop.set()
            work.cancel()

    def _refused(self, error: Mapping[str, Any]) -> ModelError:
        code, message = error.get("code", 0), str(error.get("message", error))[:500]
        if error.get("type") == "exceed_context_size_error":
            message += f": llama_cpp:<path>?n_ctx={int(error.get('n_prompt_tokens', 0)) + self.parameters['max_tokens']}"
        kind = "permanent" if isinstance(code, int) and 400 <= code < 500 else "transient"
        return ModelError(self.name, kind, str(code), message)
