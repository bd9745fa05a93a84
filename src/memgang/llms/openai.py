"""``openai:<model>``: any server that speaks the chat completions interface, through the official SDK.

OpenAI, Ollama, vLLM, llama.cpp's server, LM Studio: ``openai_base_url`` says where, ``openai_api_key`` who.
Parameters of a request follow the model's name: ``openai:gpt-5-mini?reasoning_effort=low&seed=7``. The SDK's own
retries are off: MemGang retries under a claim, where the others who wait can see it.
"""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from memgang.errors import ConfigError, ModelError
from memgang.llms.naming import parted
from memgang.llms.wording import estimate, estimate_messages, messages
from memgang.model import Completion, Prompt
from memgang.settings import Settings

if TYPE_CHECKING:
    import openai

VERSION = "1"  # of the wording of messages; it goes into every call key
END = "[DONE]"
NO_KEY = "not-needed"  # local servers want the header, not a key
MESSAGE_CHARACTERS_MAX = 500
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
# 429 means "later" except with these codes, which mean "not with this account".
CALLER_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
)
# Reasoning models refuse a temperature other than their own.
NO_TEMPERATURE = ("gpt-5", "o1", "o3", "o4")
FIXED = frozenset({"model", "messages", "stream", "n", "extra_headers", "extra_query", "extra_body", "timeout"})


class OpenAI:
    """A chat model behind a base URL. Lives as long as the process; ``aclose`` gives its connections back."""

    version = VERSION

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        parameters: Mapping[str, Any] | None = None,
        kind: str = "openai",
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(f"{kind}:<model> needs the openai package: pip install 'memgang[openai]'") from error
        self.kind = kind
        self.name = f"{kind}:{model}"
        self.price_name = model
        self.parameters = dict(parameters or {})
        if refused := sorted(FIXED & set(self.parameters)):
            raise ConfigError(f"{self.name}: {', '.join(refused)} cannot be set as a parameter")
        if "temperature" not in self.parameters and not model.rpartition("/")[2].startswith(NO_TEMPERATURE):
            self.parameters["temperature"] = 0
        self._model = model
        self._secret = api_key or ""
        if not api_key and base_url is None:
            raise ConfigError(
                f"{self.name} needs a key: set OPENAI_API_KEY, or MEMGANG_OPENAI_BASE_URL for a server of your own"
            )
        self._client: openai.AsyncOpenAI = openai.AsyncOpenAI(
            api_key=api_key or NO_KEY, base_url=base_url, timeout=timeout_s, max_retries=0
        )

    @classmethod
    def named(cls, text: str, settings: Settings) -> Self:
        """From ``model`` or ``model?parameter=value&...``; values are JSON where they read as JSON, else text."""
        model, parameters = parted(text)
        if not model:
            raise ConfigError("openai: the name of a model is missing, as in openai:gpt-5-mini")
        return cls(
            model,
            api_key=settings.openai_api_key,
            base_url=settings.openai_base_url,
            timeout_s=settings.llm_timeout_s,
            parameters=parameters,
        )

    def __repr__(self) -> str:
        return f"OpenAI({self._model!r})"

    async def complete(self, prompt: Prompt) -> Completion:
        """The server's answer with the usage it reported; estimated, and marked so, where it reports none.

        Raises:
            ModelError: ``caller`` for key, rights and quota; ``transient`` for 408, 409, 429, 5xx, time-outs, broken
                connections and answers without content; ``permanent`` for any other refusal.
        """
        import openai

        said = messages(prompt)
        try:
            answer = await self._client.chat.completions.create(model=self._model, messages=said, **self.parameters)  # type: ignore[arg-type]
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise self._told(error) from None
        return self._completion(answer, said)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion, None]:
        """The server's answer piece by piece, and last the whole with its usage.

        Whole is what has a finish reason and the server's end marker: the SDK's own stream ends without an error
        where a connection is closed too early, so the events are read here.

        Raises:
            ModelError: as `complete` does; ``transient`` where the stream breaks off or is no stream.
        """
        import openai

        said = messages(prompt)
        options: dict[str, Any] = {"stream_options": {"include_usage": True}, **self.parameters, "stream": True}
        text, refusal = "", ""
        finish = usage = None
        ended = False
        try:
            chats = self._client.chat.completions.with_streaming_response
            async with chats.create(model=self._model, messages=said, **options) as response:  # type: ignore[arg-type]
                async for data in self._events(response):
                    if data == END:
                        ended = True
                        break
                    event = json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields))
                    if (wrong := getattr(event, "error", None)) is not None:
                        raise self._broken(wrong)
                    usage = getattr(event, "usage", None) or usage
                    for choice in getattr(event, "choices", None) or ():
                        finish = getattr(choice, "finish_reason", None) or finish
                        refusal += getattr(choice.delta, "refusal", None) or ""
                        if piece := getattr(choice.delta, "content", None):
                            text += piece
                            yield piece
        except ModelError:
            raise
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise self._told(error) from None
        if not ended or not finish:
            missing = "a finish reason" if ended else "its end marker"
            raise ModelError(self.name, "transient", "cut", f"the stream ended without {missing}, after {len(text):,} characters")
        message = SimpleNamespace(content=text, refusal=refusal)
        yield self._completion(SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=finish)], usage=usage), said)

    async def _events(self, response: Any) -> AsyncGenerator[str, None]:
        """The data of the server-sent events of a response.

        Lines end where the standard says they do: split like Python's lines, a text with U+2028 would be torn.
        """
        rest, lines = b"", list[bytes]()
        blocks = aiter(response.iter_bytes())
        while True:
            try:
                block = await anext(blocks, b"")
            except Exception as error:  # the HTTP client's own, of whichever client the SDK uses
                code = "timeout" if "Timeout" in type(error).__name__ else "connection"
                raise ModelError(self.name, "transient", code, self._redact(f"the stream broke off: {error}")) from None
            if not block:
                return
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                line = line.removesuffix(b"\r")
                if line.startswith(b"data:"):
                    lines.append(line[5:].removeprefix(b" "))
                elif not line and lines:
                    yield b"\n".join(lines).decode()
                    lines = []

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _completion(self, answer: Any, said: list[dict[str, str]]) -> Completion:
        choices = getattr(answer, "choices", None)  # a proxy may answer 200 with something else altogether
        message = choices[0].message if choices else None
        text = (message.content if message is not None else None) or ""
        finish = (choices[0].finish_reason if choices else None) or ""
        if not text and finish != "length":
            refusal = getattr(message, "refusal", None)
            if refusal:
                raise ModelError(self.name, "permanent", "refusal", self._redact(str(refusal)))
            raise ModelError(self.name, "transient", "empty", "the server answered without content")
        usage = getattr(answer, "usage", None)
        tokens_in, tokens_out = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
        details = getattr(usage, "prompt_tokens_details", None)
        return Completion(
            text=text,
            tokens_in=estimate_messages(said) if tokens_in is None else tokens_in,
            tokens_out=estimate(text) if tokens_out is None else tokens_out,
            tokens_cached=getattr(details, "cached_tokens", None) or 0,
            estimated=tokens_in is None or tokens_out is None,
            finish=finish or "unknown",
        )

    def _told(self, error: Exception) -> ModelError:
        """What went wrong, as an error of ours."""
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._refused(error)
        if isinstance(error, openai.APITimeoutError):
            return ModelError(self.name, "transient", "timeout", "no answer in time")
        if isinstance(error, openai.APIConnectionError):
            return ModelError(self.name, "transient", "connection", self._redact(str(error.__cause__ or error)))
        kind = "permanent" if isinstance(error, TypeError) else "transient"
        return ModelError(self.name, kind, type(error).__name__, self._redact(str(error)))

    def _broken(self, wrong: Any) -> ModelError:
        """An error the server has put into its stream, where it has no status any more."""
        code = str(getattr(wrong, "code", None) or getattr(wrong, "type", None) or "error")
        kind = "caller" if code in CALLER_CODES else "transient"
        return ModelError(self.name, kind, self._redact(code), self._redact(str(getattr(wrong, "message", wrong))))

    def _refused(self, error: openai.APIStatusError) -> ModelError:
        status, code = error.status_code, error.code or error.type or ""
        if status in (401, 402, 403) or code in CALLER_CODES or error.type in CALLER_CODES:
            kind = "caller"
        elif status in TRANSIENT_STATUSES or status >= 500:
            kind = "transient"
        else:
            kind = "permanent"
        wait = retry_after_s(error.response.headers) if kind == "transient" else 0.0
        label = f"{status} {code}".strip()
        return ModelError(self.name, kind, self._redact(label), self._redact(error.message), wait)

    def _redact(self, text: str) -> str:
        # Servers quote the key in their complaints; errors are stored and shared.
        if self._secret:
            text = text.replace(self._secret, "[key]")
        return text[:MESSAGE_CHARACTERS_MAX]


def retry_after_s(headers: Mapping[str, str], now: datetime.datetime | None = None) -> float:
    """Seconds a server asks to wait; 0 if it does not say.

    ``Retry-After-Ms`` wins over ``Retry-After``, which holds seconds or a date.
    """
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(ms) / 1000)
    except ValueError:
        pass
    text = (headers.get("retry-after") or "").strip()
    try:
        seconds = float(text)
        return seconds if 0 <= seconds < float("inf") else 0.0
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - (now or datetime.datetime.now(datetime.UTC))).total_seconds())
