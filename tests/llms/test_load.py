"""Models by name, what they cost, and the simulated one."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang import llms
from memgang.errors import ConfigError, ModelError
from memgang.llms.simulated import Simulated
from memgang.model import Completion, LanguageModel, Prompt
from memgang.settings import Price, Settings

TEXT = "The lease ends after ten seconds of silence. The fence of a flight outlives every lease that was given on it."


def test_known_names_load_and_are_language_models() -> None:
    """Every kind loads, says its name, and has a row of the price table to look for."""
    settings = Settings(openai_api_key="k")
    for name, row in (
        ("extractive", "extractive"),
        ("simulated", "simulated"),
        ("simulated:latency_ms=0", "simulated"),
        ("openai:gpt-5-mini", "gpt-5-mini"),
    ):
        model = llms.load(name, settings)
        assert isinstance(model, LanguageModel)
        assert model.price_name == row
        assert model.name.startswith(name.partition(":")[0])


@pytest.mark.parametrize("name", ["", "gpt-5", "openai", "openai:", "extractive:x", "simulated:", "llama"])
def test_an_unknown_name_says_what_there_is(name: str) -> None:
    """The error names all kinds, so that the next try is right."""
    with pytest.raises(ConfigError, match=r"extractive.*openai:<model>.*simulated"):
        llms.load(name, Settings())


@pytest.mark.parametrize(
    "name",
    [
        "simulated:speed=3",
        "simulated:latency_ms=soon",
        "simulated:latency_ms=-1",
        "simulated:fail_rate=2",
        "simulated:words=nan",
        "simulated:latency_ms=inf",
    ],
)
def test_wrong_parameters_of_the_simulated_model_are_refused(name: str) -> None:
    """Unknown names, values that are no numbers, and numbers out of range."""
    with pytest.raises(ConfigError, match="simulated"):
        llms.load(name, Settings())


def test_cached_tokens_cost_the_cached_price_and_halves_go_to_even() -> None:
    """One rounding, at the end: half a micro-dollar goes to the even neighbour."""
    price = Price(0.25, 2.00, 0.025, "today")
    assert llms.price(Completion(text="", tokens_in=1_000_000, tokens_out=0), price) == 250_000
    assert llms.price(Completion(text="", tokens_in=1_000, tokens_cached=800, tokens_out=100), price) == 50 + 20 + 200
    assert llms.price(Completion(text="", tokens_in=2), price) == 0  # 0.5
    assert llms.price(Completion(text="", tokens_in=6), price) == 2  # 1.5


@given(
    st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**5), st.integers(0, 10**5)
)
def test_a_price_is_never_off_by_more_than_half_a_micro_dollar(
    tin: int, cached: int, tout: int, a: int, b: int
) -> None:
    """Exact arithmetic at any size; cached tokens never exceed those that went in."""
    price = Price(a / 1000, b / 1000, a / 10_000, "today")
    cached = min(cached, tin)
    exact = (tin - cached) * Fraction(a, 1000) + cached * Fraction(a, 10_000) + tout * Fraction(b, 1000)
    assert abs(
        llms.price(Completion(text="", tokens_in=tin, tokens_cached=cached, tokens_out=tout), price) - exact
    ) <= Fraction(1, 2)


async def test_the_simulated_model_says_the_same_to_all_at_once() -> None:
    """Fifty calls at once get one answer with the same tokens, within the words it was told."""
    model = Simulated(latency_ms=0, tokens_per_s=0, words=10)
    done = await asyncio.gather(*(model.complete(Prompt(instruction="a", passages=(TEXT,))) for _ in range(50)))
    assert len({(d.text, d.tokens_in, d.tokens_out) for d in done}) == 1
    assert done[0].text == "The lease ends after ten seconds of silence. [1]"
    assert done[0].estimated


async def test_simulated_failures_are_the_same_for_the_same_seed_and_pass() -> None:
    """About the share asked for fails, once each, as something that may be tried again."""
    prompts = [Prompt(instruction=f"{n}", passages=(TEXT,)) for n in range(200)]

    async def failing(seed: int) -> list[int]:
        model = Simulated(latency_ms=0, tokens_per_s=0, fail_rate=0.3, seed=seed)
        failed = []
        for n, prompt in enumerate(prompts):
            try:
                await model.complete(prompt)
            except ModelError as error:
                assert error.kind == "transient"
                failed.append(n)
                await model.complete(prompt)
        return failed

    first = await failing(1)
    assert first == await failing(1) != await failing(2)
    assert 30 <= len(first) <= 90
