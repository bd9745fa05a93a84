"""``ollama:``, ``vllm:``, ``lmstudio:``, ``llama_server:``: the servers people run on their own machine.

Each speaks the chat completions interface, so a shorthand is an address, and what to type when nobody is at home there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from memgang.errors import ConfigError, ModelError
from memgang.llms.naming import parted
from memgang.llms.openai import OpenAI
from memgang.settings import Settings


@dataclass(frozen=True, slots=True)
class LocalServer:
    """One kind of server: where it listens unless told, and how it is started."""

    title: str
    url: str
    start: str


KINDS = {
    "ollama": LocalServer("Ollama", "http://127.0.0.1:11434/v1", "ollama serve, and once for each model: ollama pull {model}"),
    "vllm": LocalServer("vLLM", "http://127.0.0.1:8000/v1", "vllm serve {model}"),
    "lmstudio": LocalServer("LM Studio", "http://127.0.0.1:1234/v1", "lms server start, and: lms load {model}"),
    "llama_server": LocalServer("llama.cpp's server", "http://127.0.0.1:8080/v1", "llama-server --model {model}.gguf"),
}


def address(kind: str, given: str | None) -> str:
    """Where the servers of a kind are asked. ``given`` are words ``KIND=URL``, parted by spaces.

    Raises:
        ConfigError: a word is none, names no kind, or its address is no plain http(s) one.
    """
    found = {name: one.url for name, one in KINDS.items()}
    for word in (given or "").split():
        name, _, url = word.partition("=")
        if name not in KINDS or not _plain(url):
            raise ConfigError(f"MEMGANG_LOCAL_SERVERS: {word.rpartition('@')[2][:100]!r} must be KIND=http(s)://host:port/v1, without user "
                              f"and password; kinds are {', '.join(KINDS)}")
        found[name] = url.rstrip("/")
    return found[kind]


def _plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False


class Local(OpenAI):
    """A model of such a server. It is sent no key, least of all that of a provider."""

    @classmethod
    def named_at(cls, kind: str, text: str, settings: Settings) -> Self:
        """From ``model`` or ``model?parameter=value&...`` behind the kind's name.

        Raises:
            ConfigError: the package is missing, a parameter cannot be set, or an address in the settings is none.
        """
        model, parameters = parted(text)
        if not model:
            raise ConfigError(f"{kind}: the name of a model is missing, as in {kind}:qwen3")
        made = cls(model, base_url=address(kind, settings.local_servers), timeout_s=settings.llm_timeout_s,
                   parameters=parameters, kind=kind)
        made.price_name = "local"
        return made

    def _told(self, error: Exception) -> ModelError:
        import openai

        if isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError):
            kind = KINDS[self.kind]
            return ModelError(
                self.name, "transient", "connection",
                f"nothing answers at {str(self._client.base_url).rstrip('/')}. Start {kind.title}: {kind.start.format(model=self._model)}. "
                f"If it listens elsewhere: MEMGANG_LOCAL_SERVERS={self.kind}=http://host:port/v1")
        return super()._told(error)
