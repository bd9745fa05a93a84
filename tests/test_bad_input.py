"""Bad input and foreign values: an error with a type and a reason, nothing already stored is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.codec import encode, ref_of
from memgang.errors import ConfigError, MemGangError, UnknownReference
from memgang.model import Call, Ref
from memgang.space import Space
from tests.gates import ready, until

PATHS = ["mg://a/../../etc/passwd", "mg:%2e%2e%2f", "/etc/passwd", "../../etc/passwd", "mg:" + "a" * 31, "mg:" + "A" * 32, "mg:" + "a" * 33,
         "a/./b", "a/../b", ".", "..", "a//b", "/a", "a/", "", "\0", "a\nb", "a" * 1_000_000, "mg:*", "mg:a*aaaaaaa", "mg:[a-z]aaaaaa"]
PATTERNS = ["{", "}", "*", "[", "a b", "a\nb", "{a.00}", "a?b", "mg:{x}", "é", "A" * 65]


@pytest.mark.catalogue("C6", "C7")
@pytest.mark.parametrize("text", PATHS, ids=lambda text: repr(text[:20]))
async def test_what_is_no_reference_names_nothing(space: Space, text: str) -> None:
    """No text becomes a path or a pattern: it is refused, as a reference and as a name."""
    await space.put("there")
    with pytest.raises(UnknownReference):
        await space.get(text)
    if not text.startswith("mg:"):
        with pytest.raises(ConfigError):
            await space.set_name(text, await space.put("there"))


@pytest.mark.catalogue("C6")
async def test_names_that_look_like_paths_touch_no_file(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is a key, whatever lies in the working directory under the same words: file, link, directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "q3").symlink_to("/etc/hostname")
    ref = await space.put("ours")

    await space.set_name("reports/q3", ref)

    assert await space.get("reports/q3") == "ours"
    assert (tmp_path / "reports" / "q3").is_symlink()


@pytest.mark.catalogue("C7")
@pytest.mark.parametrize("text", PATTERNS)
async def test_a_label_holds_no_pattern(opened: Any, text: str) -> None:
    """Names of spaces, agents, runs and tags hold nothing that a key pattern or a hash tag could be widened with."""
    with pytest.raises(ConfigError):
        async with opened(space=text):
            pass
    async with opened() as space:
        for changes in ({"agent": text}, {"run": text}, {"role": text}):
            with pytest.raises(ConfigError), space.acting_as(**changes):
                pass
        with pytest.raises(ConfigError):
            await space.put("x", tags=[text])


CORRUPT: list[tuple[str, tuple[Any, ...]]] = [
    ("record is a string", ("SET", "o", "x")), ("record is a list", ("RPUSH", "o", "x")),
    ("size is no number", ("HSET", "o", "size", "many")), ("size is another", ("HSET", "o", "size", "3")),
    ("expiry is no number", ("HSET", "o", "expires", "soon")), ("meta is no JSON", ("HSET", "o", "meta", "{")),
    ("type is unknown", ("HSET", "o", "type", "application/x-python-pickle")), ("type is gone", ("HDEL", "o", "type")),
    ("cost is no number", ("HSET", "o", "cost", "much")), ("parents are no ids", ("HSET", "o", "parents", "x ../.. {y}")),
    ("writers are gone", ("HDEL", "o", "writers")), ("body is other bytes", ("SET", "b", "other")), ("body is a list", ("RPUSH", "b", "x")),
    ("body is empty parts", ("HSET", "b", "0", "")), ("body is gone", ("DEL", "b")),
    ("pins are a string", ("SET", "p", "x")), ("a pin's deadline is no number", ("HSET", "p", "me", "later")),
]


@pytest.mark.catalogue("C11")
@pytest.mark.parametrize("what, command", CORRUPT, ids=[what for what, _ in CORRUPT])
async def test_a_corrupt_object_is_an_error_and_hides_no_other(
    opened: Any, what: str, command: tuple[Any, ...]
) -> None:
    """Reading it raises or brings the right value, never another; the others are not touched."""
    async with opened(verify="always") as space:
        await corrupted(space, command)


async def corrupted(space: Space, command: tuple[Any, ...]) -> None:
    """Damage one object, then look at everything."""
    good, bad = await space.put("good"), await space.put("bad")
    await space.flush()
    keys, wire = space.store.keys, space.store.wire
    key = {"o": keys.record(bad), "b": keys.body(bad), "p": keys.pins(bad)}[command[1]]
    if command[0] in ("SET", "RPUSH", "HSET") and command[1] == "b" or command[0] in ("SET", "RPUSH"):
        await wire.call("DEL", key)
    await wire.call(command[0], key, *command[2:])

    looks: list[Callable[[], Any]] = [lambda: space.get(bad), lambda: space.describe(bad), space.find]
    for look in looks:
        try:
            found = await look()
        except MemGangError as error:
            assert str(error)
        else:
            assert not isinstance(found, str) or found == "bad"
    assert await space.get(good) == "good"
    assert good in [record.ref for record in (await space.find()).objects]


@pytest.mark.catalogue("C11")
@pytest.mark.parametrize("field, value", [
    ("state", "odd"), ("fence", "x"), ("until", "soon"), ("answer", "../.."), ("expires", "never"), ("usage", "{"), ("valid", "\xff"),
    ("attempt", "many"), ("lease", ""), ("error", "{")])
async def test_a_corrupt_flight_is_an_error_or_computed_again(space: Space, field: str, value: str) -> None:
    """Foreign values in a flight never become an answer, and dropping the flight is the way out."""
    call = Call("function", "f", "1")
    await space.recall(call, ready("right"))
    key = space.store.keys.flight(space.key(call))
    await space.store.wire.call("HSET", key, field, value)

    try:
        recalled = await space.recall(call, ready("right"))
    except MemGangError as error:
        assert str(error)
    else:
        assert await recalled.value() == "right"
    await space.store.wire.call("DEL", key)
    assert await (await space.recall(call, ready("right"))).value() == "right"


@pytest.mark.catalogue("C5")
@pytest.mark.parametrize("text", [
    "a\0b", "\u202eevil", "e\u0301", "\u00e9", "\ud83e\udd86"[0:0] + "🦆", "\r\n\t\x1b[31m", "<script>", "${x}", "{}", "x" * 1_000_000])
async def test_payloads_are_kept_as_they_are(space: Space, text: str) -> None:
    """Whatever a text holds comes back to the character; look-alikes stay two objects."""
    assert await space.get(await space.put(text)) == text
    assert await space.put("e\u0301") != await space.put("\u00e9")


@pytest.mark.catalogue("C4")
async def test_a_declared_length_that_is_wrong_is_refused(space: Space) -> None:
    """A record whose size is not that of its body hands out nothing."""
    ref = await space.put(random.Random(4).randbytes(200_000))
    await space.store.wire.call("APPEND", space.store.keys.body(ref), "more")
    space.store.objects._verified.clear()
    space.store.tier.take_out([ref.id])  # the host's own is whole

    with pytest.raises(MemGangError):
        await space.get(ref)


@pytest.mark.catalogue("D5")
async def test_similar_calls_do_not_answer_each_other(space: Space) -> None:
    """A letter, a space, the order of words, a system prompt: each is a call of its own."""
    base = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "model": "m"}
    near = [base, base | {"messages": [{"role": "user", "content": "What is the capital of France ?"}]},
            base | {"messages": [{"role": "user", "content": "what is the capital of France?"}]}, base | {"system": "Lie."},
            base | {"model": "m2"}]
    got = [await space.recall(Call("llm", "ask", "1", **words), ready(f"answer {n}")) for n, words in enumerate(near)]

    assert [g.how for g in got] == ["computed"] * len(near)
    assert [await g.value() for g in got] == [f"answer {n}" for n in range(len(near))]


def test_an_id_with_the_right_form_is_only_a_name_for_bytes() -> None:
    """A Ref is checked by its form; its content is checked when it is read."""
    assert Ref(ref_of(*encode("x"))) == ref_of(*encode("x"))
    with pytest.raises(ValueError):
        Ref("mg:../../../../etc/passwd")


@pytest.mark.catalogue("C11")
async def test_what_is_no_id_in_an_index_does_not_stop_the_sweep(opened: Any) -> None:
    """Another program's words stand first among what is due: what has expired behind them goes all the same."""
    async with opened(janitor_ms=50) as space:
        keys, wire = space.store.keys, space.store.wire
        await wire.call("ZADD", keys.at(0, "x"), 1, "none of ours", 2, b"\xff\xfe")
        ref = await space.put("short", ttl=0.1)

        async def gone() -> bool:
            return not await wire.call("EXISTS", keys.record(ref))

        await until(gone)
        assert await wire.call("ZCARD", keys.at(0, "x")) == 0
