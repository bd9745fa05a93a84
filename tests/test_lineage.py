"""Forgetting with lineage: what was made from an object goes with it, and nothing that was made meanwhile stays."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang.errors import ConfigError, UnknownReference, WorkFailed
from memgang.gang import Gang
from memgang.lineage import forgetting
from memgang.lineage.reach import Reach
from memgang.model import Call, Ref
from memgang.space import Space
from memgang.store import scripts
from memgang.store.objects import Objects
from memgang.store.process import fresh
from tests.gates import Gate

SEED = int(os.environ.get("MEMGANG_SEED") or random.randrange(1 << 32))
SOAK = os.environ.get("MEMGANG_SOAK") == "1"


def work(space: Space, text: str, *parents: Ref) -> Callable[[], Awaitable[str]]:
    """Work that reads its parents and answers with a text."""
    async def compute() -> str:
        await space.get_many(parents)
        return text

    return compute


async def make(space: Space, text: str, *parents: Ref) -> Ref:
    """A recalled answer, made from its parents."""
    call = Call("function", "tests:make", "1", {"text": text, "parents": list(parents)})
    return (await space.recall(call, work(space, text, *parents), kind="fact")).ref


async def there(space: Space, *refs: Ref) -> list[bool]:
    """Which of them are there."""
    return [record is not None for record in await space.describe_many(refs)]


async def test_what_was_made_from_an_object_goes_with_it(space: Space) -> None:
    """Three levels down, through an answer with two parents; what was made from others stays, and so do their answers."""
    part, other = await space.put("part"), await space.put("other")
    fact, beside = await make(space, "fact", part), await make(space, "beside", other)
    both = await make(space, "both", fact, beside)
    report = await make(space, "report", both)

    gone = await space.forget(part, "asked to", cascade=True)

    assert set(gone.refs) == {part, fact, both, report} and gone.refs[0] == part
    assert gone and gone.bytes == len("partfactbothreport") and gone.kinds == {"fact": 3, "other": 1}
    assert len(gone.answers) == 3
    assert await there(space, part, fact, both, report, other, beside) == [False] * 4 + [True] * 2
    assert not await space.forget(part, cascade=True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_model_said_of_a_part_goes_with_it(space: Space, streamed: bool) -> None:
    """An answer quotes what the agent had read before it asked, though the prompt holds text and no reference."""
    async with Gang(space, llm="extractive") as gang:
        @gang.agent(role="note")
        async def note(part: str) -> str:
            prompt = memgang.Prompt(instruction="Say it shorter.", passages=(part,), words=20)
            if streamed:
                return "noted: " + "".join([piece async for piece in gang.stream(prompt)])
            return "noted: " + await gang.llm(prompt)

        part, other = await space.put("The audit found two open doors in the north."), await space.put("The roof is new and dry.")
        noted = await gang.map(note, [part, other])

        gone = await space.forget(part, cascade=True)

        assert noted[0] in gone.refs and noted[1] not in gone.refs
        assert gone.kinds == {"other": 1, "fact": 1, "answer": 1}
        left = [await space.get(record.ref) for record in (await space.find(limit=100)).objects]
        assert sorted(text for text in left if isinstance(text, str) and "door" in text) == []


async def test_a_dry_run_shows_the_same_and_changes_nothing(space: Space) -> None:
    """Objects, bytes, kinds, answers, names, runs and pins as the real one; the totals and the log stay as they were."""
    with space.acting_as(run="run-1"):
        part = await space.put("part", name="the/part", kind="part")
        fact = await make(space, "fact", part)
    await space.pin(fact, "1h")
    await space.flush()
    before = await space.stats()

    shown = await space.forget(part, cascade=True, dry_run=True)

    assert shown and shown.dry_run and await space.stats() == before
    gone = await space.forget(part, cascade=True)
    assert shown.refs == gone.refs == (part, fact)
    for field in ("bytes", "kinds", "answers", "names", "runs", "pinned"):
        assert getattr(shown, field) == getattr(gone, field), field
    assert gone.names == ("the/part",) and gone.runs == ("run-1",) and gone.pinned == (fact,) and len(gone.answers) == 1
    assert (await space.names())["the/part"] == part  # it stays and says where it pointed


async def test_names_are_taken_away_where_asked(space: Space) -> None:
    """With remove_names no name points at what is gone; names of other objects stay."""
    part = await space.put("part", name="the/part")
    await space.put("other", name="another")

    assert (await space.forget(part, cascade=True, remove_names=True)).names == ("the/part",)
    assert list(await space.names()) == ["another"]


async def test_the_log_says_what_went_and_from_which_root(space: Space) -> None:
    """Each object has its line with reason and root; the answer its own; a plain forget has no root."""
    part, alone = await space.put("part"), await space.put("alone")
    fact = await make(space, "fact", part)

    await space.forget(part, "a wish", cascade=True)
    await space.forget(alone, "another")

    lines = [(e.raw, e.obj or e.call, e.text, e.why) async for e in space.events() if e.raw in ("forgotten", "dropped")]
    assert [line for line in lines if line[0] == "forgotten"] == [
        ("forgotten", fact.id, part.id, "a wish"), ("forgotten", part.id, part.id, "a wish"), ("forgotten", alone.id, "", "another")]
    assert [(raw, text, why) for raw, _, text, why in lines if raw == "dropped"] == [("dropped", part.id, "a wish")]


async def test_an_object_made_from_more_parents_than_a_record_names_is_found_by_the_last(space: Space) -> None:
    """The list of its parents stands between: it goes, and the object with it."""
    parts = await space.put_many([f"part {n}" for n in range(150)])
    whole = await make(space, "whole", *parts)

    gone = await space.forget(parts[-1], cascade=True)

    assert whole in gone.refs and await there(space, whole, parts[0]) == [False, True]


async def test_an_answer_that_many_calls_came_to_is_found_by_each_of_their_parents(space: Space) -> None:
    """The same text from 300 parts is one object with 300 parents: none is left out of its record."""
    parts = await space.put_many([f"part {n}" for n in range(300)])
    nothing = [await make(space, "nothing found", part) for part in parts]
    assert len(set(nothing)) == 1

    reaches = [await space.forget(part, cascade=True, dry_run=True) for part in (parts[0], parts[70], parts[-1])]

    assert all(nothing[0] in reach.refs and not reach.unsure for reach in reaches)


async def test_an_object_that_is_older_than_what_it_was_made_from_is_found(space: Space) -> None:
    """The same text made again later, from something new: the walk does not begin at the age of the root."""
    old = await space.put("first")
    fact = await make(space, "the same", old)
    late = await space.put("second")
    assert await make(space, "the same", late) == fact

    assert fact in (await space.forget(late, cascade=True)).refs


async def test_what_was_made_from_an_object_that_is_gone_already_goes(space: Space) -> None:
    """The root has expired or was forgotten alone: its children are found all the same."""
    part = await space.put("part")
    fact = await make(space, "fact", part)
    assert await space.forget(part) and await there(space, fact) == [True]

    gone = await space.forget(part, cascade=True)

    assert gone.refs == (fact,) and await there(space, fact) == [False]


async def test_lineage_goes_across_shards(opened: Any) -> None:
    """Parents, children and answers lie in different shards."""
    async with opened(shards=8, lease_ms=1000, beat_ms=250) as space:
        part = await space.put("part")
        level = [part]
        refs = [part]
        for n in range(3):
            level = [await make(space, f"{n} {m}", *level) for m in range(5)]
            refs += level
        assert len({space.store.keys.shard_of(ref.id) for ref in refs}) > 3

        assert set((await space.forget(part, cascade=True)).refs) == set(refs)
        assert (await space.stats())["bytes"] == 0 and (await space.stats())["count"] == 0


# ── work under way ────────────────────────────────────────────────────────────────────────────────


async def test_work_that_had_read_what_was_forgotten_puts_nothing(space: Space) -> None:
    """Its writer is told, its answer is not remembered, and nothing of it is there."""
    part, gate = await space.put("part"), Gate()

    async def compute() -> str:
        text = await space.get(part)
        await gate.then(None)()
        return f"made from {text}"

    call = Call("function", "tests:late", "1", {})
    late = asyncio.create_task(space.recall(call, compute))
    await gate.reached()
    await space.forget(part, cascade=True)
    gate.open()

    with pytest.raises(WorkFailed, match="UnknownReference"):
        await late
    totals = await space.stats()
    assert (totals["count"], totals["bytes"]) == (0, 0)
    assert await space.store.wire.call("HGET", space.store.keys.flight(space.key(call)), "answer") is None


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_put_made_from_what_was_forgotten_is_refused(space: Space, size: int) -> None:
    """Also one without a call, small or large; after the part was put anew it is taken."""
    part = await space.put("part")
    await space.forget(part, cascade=True)

    with pytest.raises(UnknownReference, match="forgotten"):
        await space.put("x" * size, parents=[part])
    assert (await space.stats())["count"] == 0

    await space.put("part")
    assert await there(space, await space.put("x" * size, parents=[part])) == [True]


async def test_a_plain_forget_later_does_not_take_back_the_refusal(space: Space) -> None:
    """The part was forgotten with all that was made from it, put anew, and forgotten alone: old work is still refused."""
    part = await space.put("part")
    await space.forget(part, cascade=True)
    await space.put("part")
    await space.forget(part)

    with pytest.raises(UnknownReference, match="forgotten"):
        await space.put("late", parents=[part])


async def test_a_put_made_from_what_was_forgotten_alone_is_taken(space: Space) -> None:
    """Without a cascade, what was made from an object stays; so does what comes later."""
    part = await space.put("part")
    await space.forget(part)

    assert await there(space, await space.put("made", parents=[part])) == [True]


async def test_what_a_killed_writer_left_is_found_by_a_repeat(space: Space) -> None:
    """It was killed between its put and its look at the marks: the next forget of the root takes it away."""
    part = await space.put("part")
    fact = await make(space, "fact", part)
    await space.forget(part, cascade=True)
    keys, left = space.store.keys, Ref("mg:" + "a" * 32)
    command = scripts.put_command(
        keys, left, who="u/killed", note=b"{}", op=fresh(), media_type="text/plain", size=4, how="inline", what=b"left",
        ttl_ms=0, cost_s=0.1, limit=0, guard_ms=60_000, keep=False, call="", meta=b"{}", parents=[fact])
    await scripts.put(space.store.wire, command, left, 4)

    assert (await space.forget(part, cascade=True)).refs == (left,)
    assert (await space.stats())["count"] == 0


async def test_a_cascade_leaves_nothing_of_what_a_busy_gang_makes_meanwhile(opened: Any) -> None:
    """Agents go on making objects from one another; wherever the cascade meets them, none stays that hangs on the root."""
    for round_ in range(20 if SOAK else 4):
        seed = SEED + round_
        rng = random.Random(seed)
        async with opened(lease_ms=1000, beat_ms=250, shards=1) as space, opened(lease_ms=1000, beat_ms=250) as second:
            root = await space.put(f"root {seed}")
            others = await space.put_many([f"{seed} other {n}" for n in range(5)])
            made: list[Ref] = [root]
            stopped = asyncio.Event()

            async def agent(own: Space, who: int, rng: random.Random = rng, made: list[Ref] = made,
                            others: list[Ref] = others, stopped: asyncio.Event = stopped, seed: int = seed) -> None:
                n = 0
                while not stopped.is_set():
                    parents = rng.sample(made, min(len(made), 1 + rng.randrange(2))) + rng.sample(others, 1)
                    n += 1
                    try:
                        made.append(await make(own, f"{seed} {who} {n % 40}", *parents))
                    except (WorkFailed, UnknownReference):
                        made[:] = made[-50:]
                        await asyncio.sleep(0)

            agents = [asyncio.create_task(agent(own, who)) for who, own in enumerate((space, second) * 4)]
            while len(made) < 100:
                await asyncio.sleep(0.005)
            gone = await space.forget(root, cascade=True)
            stopped.set()
            await asyncio.gather(*agents)

            assert gone.refs, f"MEMGANG_SEED={SEED}"
            left = await records(space)
            hang = {ref for ref in left if await hangs_on(left, ref, root)}
            assert not hang, f"MEMGANG_SEED={SEED} round {round_}: {len(hang)} objects hang on the root"
            await check_totals(space)
            for ref in left:
                await space.forget(ref)


async def test_what_is_made_again_from_elsewhere_while_a_cascade_runs_stays(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal content from an unrelated part, put behind its removal: it hangs on nothing that went, and the cascade ends."""
    part, other = await space.put("part"), await space.put("other")
    same = await make(space, "nothing found", part)
    above = await make(space, "above", same)
    news, rounds = Reach.news, 0

    async def busy(self: Reach) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            assert await make(space, "nothing found", other) == same
        await news(self)

    monkeypatch.setattr(Reach, "news", busy)
    gone = await space.forget(part, cascade=True)

    assert rounds == 1 and set(gone.refs) == {part, same, above}
    assert await there(space, same, part, above) == [True, False, False]


async def records(space: Space) -> dict[Ref, tuple[Ref, ...]]:
    """Every object of the space with its parents."""
    found = await space.find(limit=100_000)
    return {o.ref: o.parents for o in found.objects}


async def hangs_on(left: dict[Ref, tuple[Ref, ...]], ref: Ref, root: Ref) -> bool:
    """Whether the root, or something that is not there any more, is among what it was made from."""
    return any(parent == root or parent not in left for parent in left[ref])


async def check_totals(space: Space) -> None:
    """The totals are the sums over the records, and every body belongs to one."""
    found = (await space.find(limit=100_000)).objects
    totals = await space.stats()
    assert (totals["count"], totals["bytes"]) == (len(found), sum(o.size for o in found))


async def test_an_interrupted_cascade_leaves_a_consistent_space_and_a_repeat_does_the_rest(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each batch in turn: whatever is left has all it was made from; then all of it goes."""
    monkeypatch.setattr(forgetting, "REMOVE_BATCH", 7)
    rng = random.Random(SEED)
    root = await space.put("root")
    made = [root]
    for n in range(40):
        made.append(await make(space, f"made {n}", *rng.sample(made, min(3, len(made)))))
    allowed = 0
    whole = Objects.forget

    async def stopping(self: Objects, *args: Any, **kwargs: Any) -> Any:
        nonlocal allowed
        if allowed == 0:
            raise asyncio.CancelledError
        allowed -= 1
        return await whole(self, *args, **kwargs)

    monkeypatch.setattr(Objects, "forget", stopping)
    for stop in (0, 1, 2, 0, 1):
        allowed = stop
        with pytest.raises(asyncio.CancelledError):
            await space.forget(root, cascade=True)
        left = await records(space)
        assert root in left, f"MEMGANG_SEED={SEED}"
        for ref in left:  # each still hangs on the root by a chain that is there
            assert ref == root or any(p in left for p in left[ref]), f"MEMGANG_SEED={SEED} {ref}"
        await check_totals(space)
    monkeypatch.setattr(Objects, "forget", whole)
    await space.forget(root, cascade=True)

    assert await records(space) == {}


async def test_forgetting_twice_with_one_op_is_forgetting_once(space: Space) -> None:
    """A reply was lost and the command sent again: the same sizes, one line in the log, totals lowered once."""
    refs = [await space.put("one"), await space.put("two!")]
    store, op = space.store, fresh()

    async def ask(op: str) -> list[int | None]:
        return await scripts.forget(store.wire, store.keys, 0, refs, who="u/a", note=b"{}", why="", op=op, root="", mark_ms=60_000)

    assert [await ask(op), await ask(op), await ask(fresh())] == [[3, 4], [3, 4], [None, None]]
    assert [e.raw async for e in space.events()].count("forgotten") == 2
    assert (await space.stats())["bytes"] == 0


# ── sources ───────────────────────────────────────────────────────────────────────────────────────

CONSTANT = "\n\n".join(f"The same words stand in both files, and this is the paragraph with number {n} of them all." for n in range(20))


def story(name: str) -> str:
    """A document with a paragraph of its own under its own heading."""
    return f"# {name}\n\n" + f"The {name} has a story that nobody else tells, with {name} in every line. " * 30 + "\n"


async def digest(space: Space, parts: list[Ref]) -> list[Ref]:
    """A fact of each part, and a report of all."""
    facts = [await make(space, f"fact of {part}", part) for part in parts]
    return [*facts, await make(space, "report of " + facts[0], *facts)]


async def test_invalidating_a_file_takes_its_parts_and_all_that_was_made_from_them(space: Space, tmp_path: Path) -> None:
    """Another file stays with its facts; what was made of both goes; read again, all is there again."""
    one, two = tmp_path / "one.md", tmp_path / "two.md"
    one.write_text(story("bridge"))
    two.write_text(story("tunnel"))
    gang = Gang(space)
    ones, twos = await gang.read(str(one)), await gang.read(str(two))
    of_one, of_two = await digest(space, ones), await digest(space, twos)
    both = await make(space, "both", of_one[-1], of_two[-1])

    shown = await space.invalidate(str(one), dry_run=True)
    gone = await space.invalidate(str(one), "it was withdrawn")

    assert shown.refs == gone.refs and not gone.shared
    assert {*ones, *of_one, both} < set(gone.refs) and gone.kinds["document"] == 1
    assert await there(space, *twos, *of_two) == [True] * (len(twos) + len(of_two))
    assert await gang.read(str(one)) == ones and await there(space, *ones) == [True] * len(ones)


async def test_invalidating_reaches_older_versions_and_files_that_are_gone(space: Space, tmp_path: Path) -> None:
    """The file was read, changed, read again and deleted: the parts of both versions go."""
    file = tmp_path / "one.md"
    gang = Gang(space)
    file.write_text(story("bridge"))
    first = await gang.read(str(file))
    file.write_text(story("harbour"))
    second = await gang.read(str(file))
    file.unlink()

    gone = await space.invalidate(str(file))

    assert {*first, *second} < set(gone.refs) and await there(space, *first, *second) == [False] * (len(first) + len(second))


async def test_a_part_that_another_document_has_too_stays(space: Space, tmp_path: Path) -> None:
    """It was read there as well; forgetting its reference takes it from both."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text(story(name) + f"\n# Shared\n\n{CONSTANT}\n")
    gang = Gang(space)
    ones, twos = await gang.read(str(tmp_path / "one.md")), await gang.read(str(tmp_path / "two.md"))
    shared = set(ones) & set(twos)
    assert shared and shared != set(ones)

    gone = await space.invalidate(str(tmp_path / "one.md"))

    assert set(gone.shared) == shared and not shared & set(gone.refs)
    assert await there(space, *twos) == [True] * len(twos)
    again = await space.invalidate(str(tmp_path / "two.md"))  # nobody else remembers it now
    assert shared < set(again.refs)


@pytest.mark.parametrize(("source", "hit"), [
    (".", "abc"), ("sub", "bc"), ("*.md", "a"), ("**/*.md", "abc"), ("sub/?.md", "bc"), ("link/b.md", "b"), ("sub/", "bc"),
])
async def test_a_source_is_a_file_a_folder_or_a_glob(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, hit: str
) -> None:
    """Relative to where one stands, through links, with or without a slash at the end."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub")
    files = {"a": tmp_path / "a.md", "b": tmp_path / "sub" / "b.md", "c": tmp_path / "sub" / "c.md"}
    gang = Gang(space)
    parts = {}
    for name, file in files.items():
        file.write_text(story(name * 9))
        parts[name] = (await gang.read(str(file)))[0]
    monkeypatch.chdir(tmp_path)

    gone = await space.invalidate(source)

    assert {name for name, part in parts.items() if part in gone.refs} == set(hit)


async def test_invalidating_what_was_never_read_says_so(space: Space, tmp_path: Path) -> None:
    """An error, and nothing else happens; a name stands for its object."""
    with pytest.raises(UnknownReference, match="nothing that was read from there"):
        await space.invalidate(str(tmp_path / "never.md"))
    ref = await space.put("x", name="my/name")

    assert (await space.invalidate("my/name")).refs == (ref,)


async def test_an_empty_source_is_not_the_folder_we_are_in(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a shell that is not set must not forget everything below."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("# A\n\nThe roof is new and dry.\n")
    async with Gang(space, llm="extractive") as gang:
        (part,) = await gang.read("a.md")
    for empty in ("", "  "):
        with pytest.raises(ConfigError, match="no source"):
            await space.invalidate(empty)
    assert await there(space, part) == [True]


def test_it_is_there_without_async_too(space_name: str) -> None:
    """The blocking space forgets with lineage as well."""
    with memgang.connect(space=space_name) as space:
        part = space.put("part", name="its/name")

        assert space.forget("its/name", cascade=True, dry_run=True).refs == (part,)
        assert space.invalidate("its/name", remove_names=True).names == ("its/name",) and space.names() == {}


async def test_invalidating_the_only_source_leaves_nothing_of_its_report(space: Space, tmp_path: Path) -> None:
    """The main job: after its source is invalidated no object holds a sentence of it, the report least of all."""
    from memgang.jobs.report import report

    source = tmp_path / "audit.md"
    source.write_text("# Audit\n\nThe audit found two open doors in the north wing of the building.\n\n# Roof\n\nThe roof is new.\n")
    async with Gang(space, llm="extractive", engine="asyncio") as gang, gang.run("t"):
        await report(gang, [str(source)], ["What did the audit find?"])

    await space.invalidate(str(source))

    left = (await space.find(limit=1000)).objects
    assert {record.meta.get("kind") for record in left} <= {"run"}, [(r.meta, r.ref) for r in left]
