"""Remembered tools and reads: used again only while what they looked at is unchanged."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from memgang import readers
from memgang.engines.processes import engine as engine_of
from memgang.errors import ReadError, WorkFailed
from memgang.reading import read_all, read_text
from memgang.reads import Manners, Reads
from memgang.tools import tool
from tests.gates import Gate, raws, until
from tests.readers.test_web import Site, site  # noqa: F401  # a fixture: a web server of our own

SEED = int(os.environ.get("MEMGANG_SEED", random.randrange(1 << 32)))
ROUNDS = 10_000 if os.environ.get("MEMGANG_SOAK") else 1_000


def rested(path: Path) -> None:
    """Let a file look as if it had been at rest for long. Its change time cannot be set back, so its content decides."""
    os.utime(path, (1_000_000_000, 1_000_000_000))


async def test_a_tool_is_not_repeated_while_its_file_is_unchanged(space, tmp_path) -> None:
    """Same arguments, same content: one run."""
    path, runs = tmp_path / "notes", []
    path.write_text("one")

    @tool(space, reads=lambda source: [source], version="1")
    def words(source: str) -> str:
        runs.append(source)
        return Path(source).read_text()

    assert [await words(str(path)) for _ in range(3)] == ["one"] * 3
    assert (await words.recall(str(path))).how == "hit"
    assert len(runs) == 1


def rewrite(path: Path, text: str, how: str) -> None:
    """Change a file in the way named."""
    before = path.stat()
    match how:
        case "in place":
            path.write_text(text)
        case "same size and times":
            path.write_text(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "replaced by rename":
            new = path.with_suffix(".new")
            new.write_text(text)
            os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
            new.rename(path)
        case "touched, same content":
            os.utime(path)


@pytest.mark.catalogue("B11")
async def test_a_changed_file_is_never_answered_from_memory(space, tmp_path) -> None:
    """Random changes of same size, with times kept, within two seconds, by rename: 0 stale answers; without change: hits."""
    print(f"seed {SEED}")
    draw, path, runs = random.Random(SEED), tmp_path / "world", 0
    now = "0000"
    path.write_text(now)

    @tool(space, reads=lambda source: [source], version="1")
    async def look(source: str) -> str:
        nonlocal runs
        runs += 1
        return Path(source).read_text()

    stale = changes = unchanged = needless = 0
    await look(str(path))
    for round in range(ROUNDS):
        how = draw.choice(["none", "none", "in place", "same size and times", "replaced by rename", "touched, same content"])
        changed = how not in ("none", "touched, same content")
        if changed:
            changes, now = changes + 1, f"{draw.randrange(10_000):04d}"
        rewrite(path, now, how)
        before = runs
        stale += await look(str(path)) != now
        if not changed:
            unchanged += 1
            needless += runs > before

    print(f"{ROUNDS} reads, {changes} changes, {stale} stale, {needless} of {unchanged} unchanged were read again")
    assert stale == 0
    assert needless <= unchanged // 100


async def test_a_tool_that_declares_nothing_is_shared_in_flight_and_never_afterwards(space) -> None:
    """Two who ask at once share one run; who asks later has another."""
    gate = Gate()
    gate.open()

    @tool(space, version="1")
    async def look(what: str) -> str:
        return str(await gate.then(f"saw {what}")())

    first = await asyncio.gather(*(look("it") for _ in range(5)))
    again = await look("it")

    assert first == ["saw it"] * 5 and again == "saw it"
    assert gate.runs == 2


async def test_what_was_computed_while_others_waited_is_theirs_too(opened) -> None:
    """Followers of another process share an answer that nobody could check, as those beside the leader do."""
    gate = Gate()
    async with opened() as here, opened() as there:
        look = [tool(space, version="1", name="look")(gate.then("seen")) for space in (here, there)]
        first = asyncio.create_task(look[0].recall())
        await gate.reached()
        second = asyncio.create_task(look[1].recall())

        async def waits() -> bool:
            return "waits" in await raws(there)

        await until(waits)
        gate.open()

        assert [(await first).how, (await second).how] == ["computed", "joined"]
        assert gate.runs == 1


async def test_a_tool_that_reads_nothing_is_remembered(space) -> None:
    """An empty list says that the arguments decide."""
    runs = []

    @tool(space, reads=(), version="1")
    def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    assert [await double(4), await double(4), await double(5)] == [8, 8, 10]
    assert runs == [4, 5]


async def test_a_tool_whose_source_is_missing_says_so(space, tmp_path) -> None:
    """The error names the file."""
    @tool(space, reads=lambda source: [source], version="1")
    def look(source: str) -> str:
        return Path(source).read_text()

    with pytest.raises((ReadError, WorkFailed), match="gone"):
        await look(str(tmp_path / "gone"))


async def test_one_source_may_be_named_without_a_list(space, tmp_path) -> None:
    """A text alone is one path, and not a path for each of its letters."""
    file = tmp_path / "a.txt"
    file.write_text("one")

    @tool(space, reads=str(file), version="1")
    def content() -> str:
        return file.read_text()

    @tool(space, reads=lambda path: path, version="1")
    def content_of(path: str) -> str:
        return file.read_text()

    assert await content() == await content_of(str(file)) == "one"
    assert (await content_of.recall(str(file))).how == "hit"
    file.write_text("two")
    assert await content() == await content_of(str(file)) == "two"


async def test_a_page_is_asked_for_again_only_after_its_age(space, site: str) -> None:  # noqa: F811
    """Within ``max_age_s`` the server is left alone; after it, a conditional request decides."""
    runs = []

    def page(url: str) -> str:
        runs.append(url)
        return "seen"

    patient = tool(space, reads=lambda url: [url], max_age_s=3600, version="1", name="patient")(page)
    wary = tool(space, reads=lambda url: [url], version="1", name="wary")(page)
    for look in (patient, wary):
        assert [await look(f"{site}/tagged") for _ in range(2)] == ["seen"] * 2
    assert len(runs) == 2

    Site.etag = '"2"'

    assert (await patient.recall(f"{site}/tagged")).how == "hit"
    assert (await wary.recall(f"{site}/tagged")).how == "computed"


def test_one_changed_source_of_several_is_noticed(tmp_path) -> None:
    """The validator of many files is small, and every one of them counts."""
    paths = [tmp_path / str(n) for n in range(100)]
    for path in paths:
        path.write_text("x")
        rested(path)
    names = [str(path) for path in paths]
    validator = readers.fingerprint_all(names)
    assert 0 < len(validator) <= 512
    assert readers.unchanged_all(names, validator)

    paths[57].write_text("y")

    assert not readers.unchanged_all(names, validator)
    assert not readers.unchanged_all(names[:-1], validator)
    assert not readers.unchanged_all(names, b"{")


@pytest.mark.catalogue("B11")
async def test_who_joins_a_tool_at_work_is_not_given_what_has_changed_before_they_asked(space, tmp_path) -> None:
    """The file is read, changed, and asked for again in the same process: the second asker gets what is there now."""
    path, looked, go, runs = tmp_path / "world", asyncio.Event(), asyncio.Event(), 0
    path.write_text("old")

    @tool(space, reads=lambda source: [source], version="1")
    async def look(source: str) -> str:
        nonlocal runs
        runs += 1
        seen = Path(source).read_text()
        looked.set()
        await go.wait()
        return seen

    first = asyncio.create_task(look(str(path)))
    async with asyncio.timeout(30):
        await looked.wait()
        path.write_text("new")
        others = [asyncio.create_task(look(str(path))) for _ in range(5)]
        await asyncio.sleep(0)  # all have joined
        go.set()
        assert [await other for other in others] == ["new"] * 5 and await first == "old"
    assert runs == 2


async def test_a_failed_tool_is_tried_again_as_soon_as_it_is_asked_for(opened, tmp_path) -> None:
    """Its source was not there, and now is: nobody can check a failure, so none is remembered."""
    path = tmp_path / "late"

    async with opened(negative_ttl_ms=600_000) as space:
        @tool(space, reads=lambda source: [source], version="1")
        def look(source: str) -> str:
            return Path(source).read_text()

        with pytest.raises(WorkFailed):
            await look(str(path))
        path.write_text("there")

        async def found() -> bool:
            try:
                return await look(str(path)) == "there"
            except WorkFailed:
                return False

        await until(found)


async def test_nobody_joins_a_fetch_beyond_their_own_reach(space, site) -> None:  # noqa: F811
    """A person's run is fetching a page of the inner network; an agent asks for the same and is refused, not handed the answer."""
    engine = engine_of("asyncio", cpu_bound=False)
    Site.gate.clear()
    run = asyncio.create_task(read_all(Reads(space, Manners(anywhere=True)), [f"{site}/gated"], engine))

    async def asked() -> bool:
        return Site.asked == ["/gated"]

    await until(asked)
    agent = asyncio.create_task(read_text(Reads(space), f"{site}/gated", engine))
    try:
        done, _ = await asyncio.wait([agent], timeout=20)
        assert done, "it waits for the answer of the other"
        with pytest.raises(ReadError, match="is not a public address"):
            await agent
    finally:
        Site.gate.set()
        agent.cancel()
    assert (await run).documents
    await engine.aclose()


async def test_a_page_is_one_text_that_goes_with_its_source(space, site) -> None:  # noqa: F811
    """The text of a page is made from its parts: the same while it is unchanged, gone when the page is invalidated."""
    engine = engine_of("asyncio", cpu_bound=False)
    reads = Reads(space, Manners(allow=[site.removeprefix("http://")]))
    document, ref = await read_text(reads, f"{site}/tagged", engine)

    assert "The gang reads this page over the wire." in await space.get(ref)
    assert (await read_text(reads, f"{site}/tagged", engine))[1] == ref
    assert ref in (await space.invalidate(document.source)).refs
    await engine.aclose()
