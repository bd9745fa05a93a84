"""Language models: leaves that are handed a prompt and answer. What they need is imported when it is asked for.

``extractive`` selects sentences and needs nothing, ``openai:<model>`` speaks to any server with the
chat completions interface, ``ollama:<model>`` and its like to those on one's own machine, ``llama_cpp:<path.gguf>`` is
a model in this process, ``simulated`` pretends, for benchmarks and tests.
"""

from __future__ import annotations

from fractions import Fraction

from memgang.errors import ConfigError
from memgang.model import Completion, LanguageModel
from memgang.settings import Price, Settings

KNOWN = ("extractive", "openai:<model>", "llama_cpp:<path.gguf>", "ollama:<model>", "vllm:<model>", "lmstudio:<model>",
         "llama_server:<model>", "simulated[:latency_ms=50,tokens_per_s=200,words=60,fail_rate=0,seed=0,...]")
LOCAL = ("ollama", "vllm", "lmstudio", "llama_server")

__all__ = ["KNOWN", "is_cpu_bound", "load", "price"]


def load(name: str, settings: Settings) -> LanguageModel:
    """The language model a user names.

    Raises:
        ConfigError: no such model, its parameters are wrong, or the package it needs is not installed.
    """
    kind, colon, rest = name.strip().partition(":")
    if kind == "extractive" and not colon:
        from memgang.llms.extractive import Extractive

        return Extractive()
    if kind == "openai" and rest:
        from memgang.llms.openai import OpenAI

        return OpenAI.named(rest, settings)
    if kind == "llama_cpp" and rest:
        from memgang.llms.llama_cpp import LlamaCpp

        return LlamaCpp.named(rest)
    if kind in LOCAL and rest:
        from memgang.llms.localservers import Local

        return Local.named_at(kind, rest, settings)
    if kind == "simulated" and (rest or not colon):
        from memgang.llms.simulated import Simulated

        return Simulated.named(rest)
    raise ConfigError(f"no language model is called {name!r}; there are {'; '.join(KNOWN)}")


def is_cpu_bound(name: str) -> bool:
    """Whether the model of this name computes its answers here. Says so without loading it."""
    return name.strip() == "extractive"


def price(completion: Completion, price: Price) -> int:
    """What a completion costs, in whole micro-dollars.

    Dollars per million tokens are micro-dollars per token, so the sum is exact until it is rounded,
    once, half to even. Tokens from the provider's cache are part of ``tokens_in`` and cost the cached price.
    """
    cached = min(max(completion.tokens_cached, 0), completion.tokens_in)
    exact = (
        (completion.tokens_in - cached) * _exact(price.input)
        + cached * _exact(price.cached)
        + completion.tokens_out * _exact(price.output)
    )
    return round(exact)


def _exact(dollars: float) -> Fraction:
    # Through its shortest text: 0.1 is a tenth, not the double nearest to it.
    return Fraction(str(dollars))
