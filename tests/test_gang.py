"""The gang: agents, maps, reductions, runs and readings, on a real space."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memgang.agents import Agent, Pool
from memgang.engines.asyncio_engine import run_all, together
from memgang.errors import ConfigError, ModelError, ReadError, WorkFailed
from memgang.gang import Gang, run_id
from memgang.llms.simulated import Simulated
from memgang.model import Completion, Document, Event, Prompt, Ref
from memgang.parameters import Parameters, references
from memgang.settings import Price
from memgang.space import Space


class Note(msgspec.Struct, frozen=True):
    """A record at module level, so that annotations can name it."""

    words: tuple[str, ...]


class Counting:
    """A language model that counts how often it is asked and says what it was told."""

    price_name, version, deterministic = "counting", "1", True

    def __init__(self, name: str = "counting", error: Exception | None = None) -> None:
        self.name, self.error, self.asked, self.most, self._now = name, error, 0, 0, 0
        self.parameters: dict[str, Any] = {}

    async def complete(self, prompt: Prompt) -> Completion:
        """Answer in capitals."""
        self.asked += 1
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        if self.error is not None:
            raise self.error
        return Completion(text=prompt.instruction.upper(), tokens_in=1000, tokens_out=100, tokens_cached=400)

    async def aclose(self) -> None:
        """Nothing to give back."""


async def log(space: Space) -> list[Event]:
    """All events so far."""
    return [event async for event in space.events()]


# ── agents ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_gets_the_value_behind_a_reference_and_is_not_asked_twice(space: Space) -> None:
    """A value and a reference to it are the same argument, so the second call is recalled."""
    gang, seen = Gang(space), []

    @gang.agent(version="1")
    async def shout(part: str) -> str:
        seen.append(part)
        return part.upper()

    text = "a sentence that is longer than what stays readable in outlines"
    ref = await space.put(text)
    assert await shout(ref) == text.upper()
    assert await shout(text) == text.upper()
    assert await shout(part=ref) == text.upper()
    assert seen == [text]
    assert (gang.progress.computed, gang.progress.hits) == (1, 2)


async def test_a_parameter_annotated_ref_is_given_the_reference_and_its_bytes_do_not_travel(space: Space) -> None:
    """What was handed on unopened is a `reference` event with the size; what was opened is not."""
    gang = Gang(space)

    @gang.agent(version="1")
    async def choose(candidates: list[Ref]) -> str:
        await space.get(candidates[0])
        return str(candidates[1])

    first, second = await space.put("one"), await space.put("the second")
    assert await choose([first, second]) == second
    noted = [event for event in await log(space) if event.raw == "reference"]
    assert [(event.obj.removeprefix("mg:"), event.saved.bytes) for event in noted] == [(second.id, len("the second"))]


async def test_lists_of_references_are_opened_as_the_class_the_annotation_names(space: Space) -> None:
    """A list of references, a reference to a list, and plain values in between all arrive as records."""
    gang = Gang(space)

    @gang.agent(version="1")
    async def count(notes: list[Note]) -> int:
        assert all(isinstance(note, Note) for note in notes)
        return sum(len(note.words) for note in notes)

    refs = [await space.put(Note(("a", "b"))), await space.put({"words": ["c"]})]
    assert await count(refs) == 3
    assert await count([refs[0], Note(("d",))]) == 3
    assert await count(await space.put([Note(("e",))])) == 1


async def test_what_an_agent_has_read_becomes_the_parents_and_the_place_of_its_answer(space: Space) -> None:
    """The store records them; the place is the mean of the parents' places."""
    gang = Gang(space)

    @gang.agent(version="1")
    async def join(parts: list[str]) -> str:
        return " ".join(parts)

    refs = await space.put_many(["one", "two"], kind="part", pos=[0.2, 0.6])
    record = await space.describe(await join.ref(refs))
    assert set(record.parents) == set(refs)
    assert record.meta["pos"] == pytest.approx(0.4)
    assert record.meta["run"] == gang.run_id


async def test_events_carry_the_worker_the_role_and_the_run_also_when_recalled(space: Space) -> None:
    """A hit is stamped with an identity of the pool, under the team's name."""
    gang = Gang(space, team="team-1")

    @gang.agent(role="note", agents=2, version="1")
    async def note(part: str) -> str:
        return part

    await note("x")
    await note("x")
    hits = [event for event in await log(space) if event.raw == "hit"]
    assert [(h.agent, h.role, h.run) for h in hits] == [("team-1.note-2", "note", gang.run_id)]
    joined = [event.agent for event in await log(space) if event.raw == "join"]
    assert joined == ["team-1.note-1", "team-1.note-2"]


async def test_agents_that_call_agents_never_wait_for_each_other(space: Space) -> None:
    """One place and one identity for each role are enough for any depth, even for recursion."""
    gang = Gang(space, Counting(), concurrency=1)

    @gang.agent(agents=1, version="1")
    async def inner(n: int) -> str:
        return str(await gang.llm(f"q {n}"))

    @gang.agent(agents=1, version="1")
    async def outer(n: int) -> str:
        if n:
            return str(await outer(n - 1)) + str(await inner(n))
        return "".join([str(await space.get(ref)) for ref in await gang.map(inner, [1, 2]) if ref])

    async with asyncio.timeout(20):
        assert await outer(2) == "Q 1Q 2Q 1Q 2"


async def test_a_role_has_no_more_calls_under_way_than_agents_and_the_gang_than_places(space: Space) -> None:
    """Twenty calls at once of each of two roles with three agents; four places in all."""
    gang, now, most = Gang(space, concurrency=4), {"a": 0, "b": 0}, {"a": 0, "b": 0, "all": 0}

    async def work(role: str) -> None:
        now[role] += 1
        most[role] = max(most[role], now[role])
        most["all"] = max(most["all"], sum(now.values()))
        await asyncio.sleep(0.002)
        now[role] -= 1

    @gang.agent(role="a", agents=3, version="1")
    async def a(n: int) -> int:
        await work("a")
        return n

    @gang.agent(role="b", agents=3, version="1")
    async def b(n: int) -> int:
        await work("b")
        return n

    await asyncio.gather(*(a(n) for n in range(20)), *(b(n) for n in range(20)))
    assert most == {"a": 3, "b": 3, "all": 4}
    assert gang.progress.active == 0


async def test_a_plain_function_runs_in_a_thread_with_its_context(space: Space) -> None:
    """It blocks a thread, not the loop, and knows who it is."""
    gang = Gang(space)

    @gang.agent(role="plain", agents=1, version="1")
    def plain(x: int) -> list[Any]:
        return [x + 1, space.context.agent, threading.current_thread() is threading.main_thread()]

    assert await plain(1) == [2, "plain-1", False]


async def test_a_failing_agent_is_an_error_that_names_it_and_keeps_the_cause(space: Space) -> None:
    """A ValueError is permanent; it is not tried again."""
    gang, calls = Gang(space), []

    @gang.agent(version="1", name="bad")
    async def bad(x: int) -> int:
        calls.append(x)
        raise ValueError("no good")

    with pytest.raises(WorkFailed, match="no good") as caught:
        await bad(1)
    assert isinstance(caught.value.__cause__, ValueError)
    assert calls == [1]
    assert gang.progress.failed == 1


async def test_work_with_side_effects_is_done_every_time_and_tried_again_after_what_may_pass(space: Space) -> None:
    """`share=False` is marked in the log and its result is an object with parents."""
    gang, calls = Gang(space), []

    @gang.agent(share=False, retries=1, version="1")
    async def send(part: str) -> str:
        calls.append(part)
        if len(calls) == 1:
            raise TimeoutError("passes")
        return f"sent {part}"

    ref = await space.put("letter")
    assert await send(ref) == "sent letter"
    again = await send.ref(ref)
    assert calls == ["letter"] * 3
    assert (await space.describe(again)).parents == (ref,)
    assert [e.raw for e in await log(space) if e.raw in ("began", "ended")] == ["began", "ended"] * 2


def test_the_arguments_are_bound_as_python_does_with_defaults_put_in() -> None:
    """So that f(1), f(a=1) and f(1, 2) with the default 2 are one call."""

    def f(a: int, b: int = 2, *rest: int, c: int = 3) -> None: ...

    parameters = Parameters(f)
    assert parameters.bind((1,), {}) == parameters.bind((), {"a": 1}) == {"a": 1, "b": 2, "rest": (), "c": 3}
    assert parameters.spread(parameters.bind((1, 2, 9), {"c": 4})) == ([1, 2, 9], {"c": 4})
    with pytest.raises(TypeError):
        parameters.bind((), {})


def test_what_a_parameter_wants_is_read_from_its_annotation() -> None:
    """References wherever Ref is named, classes where a record is, also behind `| None`."""

    def f(a: Ref, b: list[Ref] | None, c: dict[str, Ref], d: str, e: list[Note], g: Note | None,
          h: list[Note] | None, i: list[Unseen], j: Unseen[Ref]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    wanted = Parameters(f).wanted
    assert [name for name, w in wanted.items() if w.references] == ["a", "b", "c", "j"]
    assert wanted["e"].item is Note and wanted["e"].whole == list[Note]
    assert wanted["g"].whole == Note | None and wanted["h"].item is Note
    assert wanted["d"].whole is wanted["i"].item is None
    ref = Ref("mg:" + "a" * 32)
    assert list(references({"x": [ref, (ref,)], "y": 1})) == [ref, ref]


async def test_the_version_of_an_agent_follows_the_model_and_the_agents_it_closes_over(space: Space) -> None:
    """Made at the first call, so that agents may name each other in any order, even in a circle."""

    def pair(llm: Counting, text: str) -> tuple[Agent, Agent]:
        gang = Gang(space, llm)

        @gang.agent
        async def first(x: int) -> str:
            return str(await second(x)) if x else ""

        @gang.agent
        async def second(x: int, said: str = text) -> str:
            return said + str(await first(x - 1)) + await gang.llm("q")

        return first, second

    one, again = pair(Counting(), "a"), pair(Counting(), "a")
    assert one[0].version != again[1].version  # asked in one order here, in the other there
    assert (one[0].version, one[1].version) == (again[0].version, again[1].version)
    assert pair(Counting(), "b")[0].version != one[0].version
    assert pair(Counting("other"), "a")[0].version != one[0].version


async def test_an_identity_handed_over_to_a_cancelled_call_is_not_lost() -> None:
    """The next in line gets it."""
    pool = Pool(["only"])
    assert await pool.take() == "only"
    waiting = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    pool.give("only")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        assert await pool.take() == "only"


# ── the model ──────────────────────────────────────────────────────────────────────────────────


async def test_a_question_to_the_model_is_recalled_counted_and_priced(space: Space) -> None:
    """Cached tokens have their own price; another sample is another question."""
    model = Counting()
    gang = Gang(space, model, prices={"counting": Price(1.0, 2.0, 0.5, "made up")})
    assert await gang.llm("hello") == await gang.llm(Prompt(instruction="hello")) == "HELLO"
    assert model.asked == 1
    spent = gang.progress.spent
    assert (spent.llm_calls, spent.tokens_in, spent.tokens_out) == (1, 1000, 100)
    assert spent.micro_usd == 600 * 1 + 400 * 0.5 + 100 * 2
    assert gang.progress.saved.micro_usd == spent.micro_usd
    await gang.llm("hello", sample=1)
    assert model.asked == 2


async def test_a_model_without_a_price_costs_nothing_and_says_so(space: Space) -> None:
    """Money is 0 where no price is known."""
    gang = Gang(space, Counting(), prices={})
    await gang.llm("hello")
    assert gang.price is None and gang.progress.spent.micro_usd == 0


async def test_no_more_questions_than_places_are_asked_at_once(space: Space) -> None:
    """An agent that asks many things at once does not flood the provider."""
    model = Counting()
    gang = Gang(space, model, concurrency=3)

    @gang.agent(version="1")
    async def curious(n: int) -> list[str]:
        return list(await asyncio.gather(*(gang.llm(f"q{k}") for k in range(n))))

    assert await curious(12) == [f"Q{k}" for k in range(12)]
    assert model.most == 3


async def test_what_a_hit_on_an_agent_saves_is_what_is_inside_it(space: Space) -> None:
    """The tokens are spent in the model's call and saved by a hit on the agent's."""
    gang = Gang(space, "simulated:latency_ms=0,tokens_per_s=0")

    @gang.agent(version="1")
    async def ask(part: str) -> str:
        return await gang.llm(f"Summarise.\n\n{part}")

    await ask("The audit found three faults in the pumps of the station.")
    await ask("The audit found three faults in the pumps of the station.")
    assert isinstance(gang.model, Simulated)
    assert gang.progress.saved.tokens == gang.progress.spent.tokens > 0


# ── map, shuffle, reduce ───────────────────────────────────────────────────────────────────────


async def test_map_keeps_the_order_and_lists_what_failed(space: Space) -> None:
    """None stands where an item failed; the failure names the role, the item and the error."""
    gang = Gang(space)

    @gang.agent(role="half", version="1")
    async def half(n: int, plus: int) -> int:
        if n == 3:
            raise ValueError("three")
        await asyncio.sleep(0.001 * (5 - n))
        return n + plus

    refs = await gang.map(half, range(5), 10)
    assert [None if ref is None else await space.get(ref) for ref in refs] == [10, 11, 12, None, 14]
    [failure] = gang.failures
    assert (failure.agent, failure.item) == ("half", 3) and isinstance(failure.error, WorkFailed)
    step = gang.progress.roles["half"]
    assert (step.planned, step.done, step.failed) == (5, 5, 1)
    with pytest.raises(WorkFailed, match="three"):
        await gang.map(half, [3], 11, on_error="raise")


async def test_an_error_that_every_item_would_meet_ends_the_map(space: Space) -> None:
    """A wrong key is not skipped a thousand times."""
    model = Counting(error=ModelError("m", "caller", "401", "the key is not valid"))
    gang = Gang(space, model)

    @gang.agent(version="1", agents=1)
    async def ask(n: int) -> str:
        return await gang.llm(f"{n}")

    with pytest.raises(ModelError, match="the key is not valid"):
        await gang.map(ask, range(50))
    assert model.asked < 50


async def test_shuffle_groups_references_by_what_the_values_say(space: Space) -> None:
    """Under each of several keys, in the order in which keys appear."""
    gang = Gang(space)
    refs = await space.put_many(["apple", "bee", "avocado"])
    groups = await gang.shuffle([refs[0], None, *refs[1:]], by=lambda text: [text[0], len(text)])
    assert groups == {"a": [refs[0], refs[2]], 5: [refs[0]], "b": [refs[1]], 3: [refs[1]], 7: [refs[2]]}


def adder(gang: Gang, calls: list[list[int]]) -> Agent:
    """An agent that adds up."""

    @gang.agent(role="add", version="1", name="add")
    async def add(numbers: list[int]) -> int:
        calls.append(numbers)
        return sum(numbers)

    return add


async def test_a_changed_input_changes_its_path_up_the_tree_and_nothing_else(space: Space) -> None:
    """Twenty-seven leaves, three to a group: thirteen calls at first, three after one edit."""
    gang, calls = Gang(space), list[list[int]]()
    add = adder(gang, calls)
    refs = await space.put_many(list(range(100, 127)))
    assert await space.get(await gang.reduce(add, refs, fan_in=3)) == sum(range(100, 127))
    assert len(calls) == 9 + 3 + 1
    calls.clear()
    refs[13] = await space.put(1000)
    assert await space.get(await gang.reduce(add, refs, fan_in=3)) == sum(range(100, 127)) - 113 + 1000
    assert len(calls) == 3


async def test_reduce_leaves_out_none_keeps_groups_and_passes_a_lone_input_up(space: Space) -> None:
    """One group where all fit in; nothing at all is an error that says so."""
    gang, calls = Gang(space), list[list[int]]()
    add = adder(gang, calls)
    one, two, three = await space.put_many([1, 2, 3])
    assert await space.get(await gang.reduce(add, [one, None, two], fan_in=3)) == 3
    assert await space.get(await gang.reduce(add, [one, two, three], fan_in=2)) == 6
    assert calls == [[1, 2], [3, 3]]  # 1 + 2 was known; 3 was alone
    assert await space.get(await gang.reduce(add, [three])) == 3
    for nothing in ([], [None, None]):
        with pytest.raises(ConfigError, match="nothing for add"):
            await gang.reduce(add, nothing)
    with pytest.raises(ConfigError, match="fan_in"):
        await gang.reduce(add, [one], fan_in=1)


async def test_a_reduction_starts_before_the_last_map_has_ended(space: Space) -> None:
    """The last part waits for the first group's answer: it would never come if reduce waited for all."""
    gang, reduced = Gang(space), asyncio.Event()

    @gang.agent(version="1", agents=1)
    async def number(n: int) -> int:
        if n == 3:
            await reduced.wait()
        return n

    @gang.agent(version="1")
    async def add(numbers: list[int]) -> int:
        reduced.set()
        return sum(numbers)

    async with asyncio.timeout(20):
        assert await space.get(await gang.map_reduce(range(4), map=number, reduce=add, fan_in=2)) == 6


async def test_a_failing_reduction_is_raised_with_its_cause_and_ends_the_map(space: Space) -> None:
    """As the error it is, not as a group of errors."""
    gang = Gang(space)

    @gang.agent(version="1", agents=2)
    async def number(n: int) -> int:
        if n > 1:
            await asyncio.Event().wait()  # for ever: only being cancelled ends it
        return n

    @gang.agent(version="1")
    async def add(numbers: list[int]) -> int:
        raise ValueError("cannot add")

    async with asyncio.timeout(20):
        with pytest.raises(WorkFailed, match="cannot add") as caught:
            await gang.map_reduce(range(4), map=number, reduce=add, fan_in=2)
    assert isinstance(caught.value.__cause__, ValueError)


# ── the engine ─────────────────────────────────────────────────────────────────────────────────


async def test_run_all_draws_items_only_when_a_worker_is_free() -> None:
    """Two workers never have more than two items out."""
    drawn = done = 0

    def items() -> Any:
        nonlocal drawn
        for n in range(50):
            drawn += 1
            yield n

    async def work(n: int) -> int:
        nonlocal done
        assert drawn - done <= 2
        await asyncio.sleep(0)
        done += 1
        if n == 7:
            raise ValueError(n)
        return n

    outcomes = await run_all(items(), work, 2)
    assert [o for o in outcomes if not isinstance(o, Exception)] == [n for n in range(50) if n != 7]
    assert isinstance(outcomes[7], ValueError)


async def test_cancelling_run_all_cancels_its_work_and_waits_for_it() -> None:
    """When it has returned, nothing of it runs any more."""
    ended, begun = [], asyncio.Event()

    async def work(n: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    task = asyncio.create_task(run_all(range(9), work, 3))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1, 2]


async def test_together_raises_the_first_error_as_it_is() -> None:
    """With the cause it was raised with."""

    async def fails() -> None:
        raise ValueError("out") from KeyError("in")

    with pytest.raises(ValueError, match="out") as caught:
        await together([fails(), asyncio.sleep(60)])
    assert isinstance(caught.value.__cause__, KeyError)


# ── reading ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A document of two paragraphs."""
    path = tmp_path / "report.md"
    path.write_text("# Pumps\n\nThe audit found three faults in the pumps of the station.\n", "utf-8")
    return path


async def test_a_document_is_read_once_until_it_changes(
    space: Space, report: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second reading, by another path, is recalled and carries the path as given."""
    from memgang import reading

    gang, real, read = Gang(space), reading._guarded, []

    async def counted(engine: Any, source: str, *call: Any) -> Any:
        read.append(source)
        return await real(engine, source, *call)

    monkeypatch.setattr(reading, "_guarded", counted)
    [first] = (await gang.read_documents(str(report))).documents
    other = report.parent / "link.md"
    other.symlink_to(report)
    [second] = (await gang.read_documents(str(other))).documents
    assert len(read) == 1
    assert (second.source, second.places) == (str(other), first.places)
    assert "three faults" in await space.get(first.places[0].ref)
    report.write_text("# Pumps\n\nThe audit found four faults in the pumps of the station.\n", "utf-8")
    [part] = await gang.read(str(report))
    assert "four faults" in await space.get(part)
    await space.forget(part)
    assert await gang.read(str(report)) == [part]
    assert "four faults" in await space.get(part)


async def test_what_cannot_be_read_is_listed_stops_nothing_and_is_not_held_against_it(
    space: Space, report: Path,
) -> None:
    """A source that is mended is read at once; the failure is not remembered."""
    gang, broken, missing = Gang(space), report.parent / "broken.md", report.parent / "missing.md"
    broken.write_bytes(b"")
    reading = await gang.read_documents(str(broken), str(missing), str(report))
    assert [type(d) for d in reading.documents] == [Document]
    assert [(u.source, u.reason) for u in reading.unreadable] == [
        (str(broken), "the file is empty"), (str(missing), "there is no such file")]
    with pytest.raises(ReadError, match="the file is empty"):
        await gang.read(str(broken))
    broken.write_text("Now there is a whole sentence in this file.\n", "utf-8")
    assert len(await gang.read(str(broken))) == 1


# ── runs ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_has_a_name_a_record_and_its_marks_in_the_log(space: Space) -> None:
    """Running at first, done at the end, with the result; all its events carry its id."""
    gang, seen = Gang(space, title="audit"), []
    gang.on_progress = lambda progress: seen.append(progress.done)

    @gang.agent(role="say", version="1")
    async def say(x: int) -> int:
        return x

    async with gang.run(command="memgang sum", expect={"say": 1}) as run:
        assert (await space.get(f"runs/{run.id}"))["state"] == "running"
        await gang.phase("map")
        run.result = await say.ref(1)
    record = await space.get(f"runs/{run.id}")
    assert (record["state"], record["title"], record["command"]) == ("done", "audit", "memgang sum")
    assert record["result"] == run.result and record["ended"] >= record["started"] > 0
    marks = [(e.raw, e.text) for e in await log(space) if e.run == run.id
             and e.raw in ("run_start", "run_end", "phase", "join", "leave")]
    assert marks == [("run_start", "audit"), ("phase", "map"), ("join", "say"), ("leave", ""), ("run_end", "done")]
    assert seen[-1] == 1 and gang.run_id == run.id


@pytest.mark.parametrize(("error", "state"), [(ValueError, "failed"), (asyncio.CancelledError, "stopped")])
async def test_a_run_that_ends_badly_says_so(space: Space, error: type[BaseException], state: str) -> None:
    """The error goes on its way; the record says how it ended."""
    gang = Gang(space)
    with pytest.raises(error):
        async with gang.run("t") as run:
            raise error
    assert (await space.get(f"runs/{run.id}"))["state"] == state


def test_run_ids_sort_by_time_and_are_labels() -> None:
    """So that a listing of names is in the order of the runs."""
    from memgang.store.keys import check_label

    assert check_label("run", run_id())[8] == "-"
    assert len({run_id() for _ in range(50)}) == 50


async def test_the_savings_are_those_of_the_run(space: Space) -> None:
    """A second gang that asks the same thing spends nothing and saves what the first one spent."""

    async def asked() -> Any:
        gang = Gang(space, "simulated:latency_ms=0,tokens_per_s=0")

        @gang.agent(version="1", name="ask")
        async def ask(part: str) -> str:
            return await gang.llm(f"Summarise.\n\n{part}")

        async with gang.run("t"):
            await ask("The audit found three faults in the pumps of the station.")
        return gang.progress, await gang.savings()

    first, second = await asked(), await asked()
    assert first[1].physical.tokens == first[0].spent.tokens > 0
    assert second[1].physical.tokens == 0
    assert second[1].virtual.tokens == first[1].physical.tokens


async def test_two_processes_worth_of_gangs_share_one_computation(opened: Callable[..., Any]) -> None:
    """Two spaces opened apart, the same agent: one computes, the other joins or is given the answer."""
    calls = []
    async with opened() as one, opened() as two:

        def agent_of(space: Space) -> Agent:
            gang = Gang(space)

            @gang.agent(version="1", name="slow")
            async def slow(n: int) -> int:
                calls.append(n)
                await asyncio.sleep(0.05)
                return n

            return slow

        assert list(await asyncio.gather(agent_of(one)(1), agent_of(two)(1))) == [1, 1]
    assert calls == [1]
