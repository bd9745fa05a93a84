"""What a model call of somebody else's client has cost, in the words of the log."""

from __future__ import annotations

from memgang import llms
from memgang.model import Completion, Usage
from memgang.settings import Settings


def spent(settings: Settings, model: str, *, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> Usage:
    """One call of a model with the tokens its provider has counted. A model of unknown price costs 0.

    ``gpt-5-mini-2026-01-01`` is priced as ``gpt-5-mini``, where that is the longest name in the table it begins with.
    """
    table = settings.price_table()
    named = [name for name in table if model == name or model.startswith(name + "-")]
    answer = Completion(text="", tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=tokens_cached)
    return Usage(llm_calls=1, tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=tokens_cached,
                 micro_usd=llms.price(answer, table[max(named, key=len)]) if named else 0)
