"""References are recognised exactly, sums of usage are exact, and frozen words stay frozen."""

from __future__ import annotations

import contextvars
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.model import NO_USAGE, Call, Context, Event, LanguageModel, Ref, Usage, current_context, current_work

TEXT = "mg:" + "a2" * 16

counts = st.integers(0, 10**12)
usages = st.builds(
    Usage,
    calls=counts,
    llm_calls=counts,
    tokens_in=counts,
    tokens_out=counts,
    tokens_cached=counts,
    micro_usd=counts,
    ms=counts,
    bytes=counts,
)


def test_a_reference_is_text_with_parts() -> None:
    """It compares, hashes, prints and travels in JSON as its text; id and short are parts of it."""
    ref = Ref(TEXT)
    assert ref == TEXT and hash(ref) == hash(TEXT) and f"{ref}" == TEXT and json.dumps([ref]) == f'["{TEXT}"]'
    assert ref.id == "a2" * 16 and ref.short == TEXT[:13] and Ref.is_ref(ref)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mg:",
        TEXT[:-1],
        TEXT + "a",
        TEXT.upper(),
        TEXT.replace("2", "1"),
        " " + TEXT,
        TEXT + "\n",
        TEXT[3:],
        "mg:" + "é" * 32,
        "reports/q3",
    ],
)
def test_what_is_not_a_reference_is_refused(text: str) -> None:
    """Length, alphabet and prefix are exact, a line end behind it included; the message shows what was given."""
    assert not Ref.is_ref(text)
    with pytest.raises(ValueError, match="not a reference"):
        Ref(text)


@given(st.lists(usages, max_size=6), st.randoms())
def test_usage_adds_up_in_any_order(parts: list[Usage], random: object) -> None:
    """Sums are whole numbers: the same in any order, and what was added can be taken away."""
    total = sum(parts, NO_USAGE)
    assert sum(reversed(parts), NO_USAGE) == total
    for part in parts:
        total = total - part
    assert total == NO_USAGE


def test_an_estimate_stays_an_estimate() -> None:
    """One estimated part makes the sum estimated; tokens and dollars are what the parts say."""
    total = Usage(tokens_in=3, micro_usd=1_500_000) + Usage(tokens_out=4, estimated=True)
    assert total.estimated and total.tokens == 7 and total.usd == 1.5


@given(usages)
def test_usage_survives_json_and_msgpack(usage: Usage) -> None:
    """What the log holds is what was counted."""
    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(usage), type=Usage) == usage


def test_words_are_frozen() -> None:
    """A call, a usage and a context cannot be changed by whom they are handed to."""
    for word, name in ((Call(kind="tool", function="f"), "function"), (NO_USAGE, "calls"), (Context(), "who")):
        with pytest.raises(AttributeError):
            setattr(word, name, "x")


def test_structs_do_not_share_defaults() -> None:
    """Two calls made without parameters have two dicts."""
    one, other = Call(kind="tool", function="f"), Call(kind="tool", function="f")
    one.parameters["a"] = 1
    assert other.parameters == {}


def test_an_event_holds_only_what_is_set() -> None:
    """Lines of the log stay short: defaults are not written."""
    assert msgspec.json.encode(Event(op="read")) == b'{"op":"read"}'


@pytest.mark.parametrize(
    ("who", "agent"), [("acme/summarise-3", "summarise-3"), ("plan", "plan"), ("", ""), ("a/b/c", "c")]
)
def test_the_agent_is_the_last_part_of_who(who: str, agent: str) -> None:
    """Principal and agent are joined by a slash; the agent is what pictures show."""
    assert Context(who=who).agent == agent


def test_context_and_work_are_unset_at_first() -> None:
    """Nobody acts until a door, a space or a gang says who."""
    fresh = contextvars.Context()
    assert fresh.run(current_context.get) is None and fresh.run(current_work.get) is None


def test_a_language_model_is_recognised_by_its_shape() -> None:
    """Anything with the names and methods of the protocol is one; nothing has to be inherited."""

    class Echo:
        name = price_name = version = "echo"
        parameters: dict[str, object] = {}

        async def complete(self, prompt: object) -> None: ...
        async def aclose(self) -> None: ...

    assert isinstance(Echo(), LanguageModel) and not isinstance(object(), LanguageModel)
