"""What is on the page: the totals of all processes, as the space and the ledger have them, and no name that could be many."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang.errors import ConfigError, MemGangError
from memgang.gang import Gang
from memgang.metrics import FAMILIES, Scraper
from memgang.metrics.page import Collector
from memgang.model import Call, Ref
from memgang.savings import CAUSES, fold
from memgang.space import Space
from memgang.store import tallies
from tests.gates import Gate, until
from tests.metrics.conftest import OPEN, TEXT, Model, samples, value
from tests.recall.conftest import Own

LABELS = {"kind", "outcome", "cause", "type", "log", "what", "state", "limit", "agent"}
SECRET = "payload-canary-5b11"


async def worked(space: Space, model: Model) -> None:
    """A gang that maps, shares, stumbles, fails, joins, reads and leaves references unopened."""
    gang = Gang(space, llm=model, concurrency=4)  # type: ignore[arg-type]

    @gang.agent(role="note", agents=3)
    async def note(part: str, hint: int) -> str:
        return await gang.llm(f"note {part}")

    @gang.agent(role="edit")
    async def edit(notes: list[Ref]) -> str:
        return await gang.llm("merge")

    async with gang.run("metrics"):
        parts = [await space.put(f"part {n}") for n in range(6)] + [await space.put("stumble")]
        for hint in (1, 2):  # the second round is another call with the same question inside
            notes = await gang.map(note, parts, hint)
        await gang.map(note, parts, 2)
        await gang.reduce(edit, notes)
        with pytest.raises(MemGangError):
            await gang.llm("refuse")
        model.gate, model.reached = asyncio.Event(), asyncio.Event()
        both = [asyncio.create_task(gang.llm("joined by two")) for _ in range(2)]
        await model.reached.wait()
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(*both)
        await space.recall(Call("tool", "look", "1"), lambda: asyncio.sleep(0, "seen"))
        await space.recall(Call("tool", "look", "1"), lambda: asyncio.sleep(0, "seen"))
    await gang.aclose()


async def test_the_page_is_what_stats_and_the_ledger_say_of_a_gang(space: Space, scraped: Any, space_name: str) -> None:
    """Tokens, money, calls by kind and outcome, causes, losses: to the token, on the page, in `stats --json` and from the log."""
    await worked(space, Model())
    page = await scraped(space)
    ledger = fold([event async for event in space.events()])
    done = subprocess.run([sys.executable, "-m", "memgang", "stats", "--json", "--space", space_name], capture_output=True, text=True)
    stats = json.loads(done.stdout)

    for family in FAMILIES:
        for labels, reading in family.readings.items():
            if family.kind == "counter" and reading not in ("overhead_us", "seq", "reads_seq"):  # these grow by the look itself
                shown = value(page, family.shown, **dict(zip(family.labels, labels, strict=True)))
                assert shown == stats.get(reading, 0) / family.divisor, reading
    spent, lost = ledger.physical, ledger.lost
    assert (value(page, "memgang_spent_tokens_total", type="input"), value(page, "memgang_spent_tokens_total", type="output"),
            value(page, "memgang_spent_cached_tokens_total"), value(page, "memgang_spent_llm_calls_total")) == (
                spent.tokens_in, spent.tokens_out, spent.tokens_cached, spent.llm_calls)
    assert value(page, "memgang_spent_dollars_total") == spent.micro_usd / 1e6 > 0
    assert value(page, "memgang_spent_seconds_total") == spent.ms / 1000
    assert (value(page, "memgang_lost_tokens_total"), value(page, "memgang_lost_dollars_total")) == (lost.tokens, lost.usd)
    for cause in CAUSES:
        saved = ledger.avoided[cause]
        assert value(page, "memgang_saved_tokens_total", cause=cause) == saved.tokens
        assert value(page, "memgang_saved_dollars_total", cause=cause) == saved.usd
        assert value(page, "memgang_saved_calls_total", cause=cause) == saved.calls
        assert value(page, "memgang_saved_bytes_total", cause=cause) == saved.bytes
    assert ledger.avoided["hit"].tokens > 0 and ledger.avoided["joined"].tokens > 0 and ledger.avoided["reference"].bytes > 0
    counts = ledger.counts
    assert value(page, "memgang_calls_total", outcome="hit") == counts.hits > 0
    assert value(page, "memgang_calls_total", outcome="joined") == counts.joined == 1
    assert value(page, "memgang_calls_total", outcome="failed") == counts.failed >= 2
    assert (value(page, "memgang_reads_total"), value(page, "memgang_waits_total")) == (counts.reads, counts.waits)
    assert value(page, "memgang_calls_total", outcome="computed", kind="llm") == spent.llm_calls == 9
    assert value(page, "memgang_calls_total", outcome="hit", kind="tool") == 1


async def test_lost_attempts_are_counted_as_the_ledger_counts_them(space: Space, scraped: Any) -> None:
    """What was paid for and then failed, or was given up, is in lost and in nothing else."""
    from memgang.model import Usage, current_work

    async def pays(error: BaseException | None) -> str:
        work = current_work.get()
        assert work is not None
        work.own = Usage(llm_calls=1, tokens_in=70, tokens_out=7, micro_usd=90)
        if error is not None:
            raise error
        return "ok"

    with pytest.raises(MemGangError):
        await space.recall(Call("function", "f", "1"), lambda: pays(ValueError("no")))
    with pytest.raises(asyncio.CancelledError):
        await space.recall(Call("function", "g", "1"), lambda: pays(asyncio.CancelledError()))
    await space.recall(Call("function", "h", "1"), lambda: pays(None))
    page = await scraped(space)
    ledger = fold([event async for event in space.events()])

    assert value(page, "memgang_lost_tokens_total") == ledger.lost.tokens == 154
    assert value(page, "memgang_lost_dollars_total") == ledger.lost.usd == 180e-6
    assert value(page, "memgang_spent_tokens_total") == ledger.physical.tokens == 77
    assert (value(page, "memgang_calls_total", kind="function", outcome="failed"), value(page, "memgang_released_total")) == (1, 1)


async def test_counters_are_those_of_all_processes_and_never_fall(opened: Callable[..., Any], scraped: Any) -> None:
    """Two openers, four shards: the sum on either's page, monotonic while they work, and the same after both have gone."""
    async def look(space: Space, n: int) -> None:
        @space.once(version="1")
        async def square(x: int) -> int:
            return x * x

        for x in range(20 * n, 20 * n + 30):
            await square(x)

    before: dict[Any, float] = {}
    async with opened(shards=4) as one, opened() as two:
        for n in range(3):
            await look(one, n)
            await look(two, n)
            await one.flush()
            now = await scraped(two)
            for key, was in before.items():
                assert not key[0].endswith("_total") or now[key] >= was, key
            before = now
        assert value(before, "memgang_calls_total", outcome="computed") == 70
        assert value(before, "memgang_calls_total", outcome="hit") == 110
    async with opened() as later:
        after = await scraped(later)

    assert {k: v for k, v in after.items() if k[0] == "memgang_calls_total"} == {
        k: v for k, v in before.items() if k[0] == "memgang_calls_total"}


async def test_both_parsers_read_it_and_the_asker_chooses(space: Space) -> None:
    """Text for who names nothing, OpenMetrics for who asks; the same numbers, and types, units and names as the table has them."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    await space.put("x")
    await space.flush()
    scraper = Scraper(space)
    plain, newer = await scraper.page(), await scraper.page(OPEN)
    chosen = await scraper.page(f"{OPEN};q=0.6,{TEXT};q=0.3,*/*;q=0.1")

    assert plain.content_type.startswith("text/plain; version=0.0.4") and not plain.body.endswith(b"# EOF\n")
    assert newer.content_type.startswith("application/openmetrics-text; version=1.0.0") and newer.body.endswith(b"# EOF\n")
    assert chosen.content_type == newer.content_type
    changing = ("memgang_janitor", "memgang_overhead", "memgang_host")  # also while nobody does anything
    first, second = ({k: v for k, v in samples(page.body.decode()).items() if not k[0].startswith(changing)} for page in (plain, newer))
    assert first == second
    table = {family.name: family for family in FAMILIES}
    for family in text_string_to_metric_families(newer.body.decode()):
        assert (family.type, family.unit, family.documentation) == (
            table[family.name].kind, table[family.name].unit, table[family.name].help)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_as_prometheus_wants_them(family: Any) -> None:
    """Lower case under our prefix, base units at the end, no _total in a gauge, a sentence of help."""
    assert re.fullmatch(r"memgang_[a-z]+(_[a-z]+)*", family.name)
    assert not family.name.endswith("_total") and not re.search(r"_(ms|us|millis|kb|mb|usd|ratio)(_|$)", family.name)
    assert family.unit == "" or family.name.endswith(f"_{family.unit}")
    assert family.help.endswith(".") and set(family.labels) <= LABELS


@pytest.mark.catalogue("D15")
async def test_no_name_and_no_content_is_on_the_page(space: Space, scraped: Any) -> None:
    """However many agents, functions, runs and references there are, the series are the same; a canary is in none of them."""
    few = set(await scraped(space)) | {("memgang_janitor_age_seconds", (("space", space.name),))}  # not yet, at first
    for n in range(40):
        with space.acting_as(agent=f"agent-{n}", run=f"run-{n}", role=f"role-{n}"):
            await space.put(f"{SECRET} {n}", name=f"names/n{n}", tags=[f"tag-{n}"])
            await space.recall(Call("function", f"https://u:{SECRET}@h/{n}", "1"), lambda: asyncio.sleep(0, SECRET))
            await space.recall(Call("nonsense", f"{n}", "1"), lambda: asyncio.sleep(0, 1))  # type: ignore[arg-type]
    await space.flush()
    page = (await Scraper(space).page()).body.decode()

    assert set(samples(page)) <= few
    assert not re.search(rf"{SECRET}|agent-\d|run-\d|role-\d|mg:|names/|tag-\d|https?:", page)
    assert len([1 for name, _ in await scraped(space, agents=True) if name == "memgang_agent_bytes"]) == 40


def test_labels_are_escaped() -> None:
    """Quotes, backslashes and line ends in a name come out of both parsers as they went in."""
    from prometheus_client import generate_latest
    from prometheus_client.openmetrics.exposition import generate_latest as generate_open

    nasty = 'a"b\\c\nd{}=,# é'
    collector = Collector("s", {"up": 1, f"agent:{nasty}": 7}, {"limit": (), "agent": (nasty,)})
    for text in (generate_latest(collector), generate_open(collector)):  # type: ignore[arg-type]
        assert value(samples(text.decode()), "memgang_agent_bytes", agent=nasty) == 7


async def test_what_went_is_counted(opened: Callable[..., Any], scraped: Any) -> None:
    """Evicted for room, and expired: objects and bytes; and the budget is shown where there is one."""
    async with opened(budget_bytes=10_000, guard_ms=1, janitor_ms=50) as space:
        for n in range(8):
            await space.put(f"{n}" * 3000, keep=False)
        ended = await space.put("short", ttl=0.05)

        async def swept() -> bool:
            return (await space.describe_many([ended]))[0] is None and (await space.stats()).get("expired", 0) == 1

        await until(swept)
        page = await scraped(space)
        log = [event.raw async for event in space.events()]

        assert value(page, "memgang_evictions_total") == log.count("evicted") > 0
        assert value(page, "memgang_evicted_bytes_total") == 3000 * log.count("evicted")
        assert value(page, "memgang_expirations_total") == log.count("expired") == 1
        assert value(page, "memgang_budget_bytes") == 10_000
        assert 0 <= value(page, "memgang_janitor_age_seconds") < 60


async def test_a_limit_that_was_named_is_shown(space: Space, scraped: Any) -> None:
    """How many run and wait behind a shared limit; one that nobody uses is all zeros."""
    from memgang.limits import Limits

    model = Model()
    model.gate = asyncio.Event()
    async with Gang(space, llm=model, limits=Limits(concurrency=1, name="shared")) as gang:  # type: ignore[arg-type]
        asked = [asyncio.create_task(gang.llm(f"question {n}")) for n in range(3)]
        await model.reached.wait()

        async def line() -> bool:
            page = await scraped(space, limits=["shared", "unused"])
            return value(page, "memgang_limit_waiting_calls", limit="shared") >= 1

        await until(line)
        page = await scraped(space, limits=["shared", "unused"])
        model.gate.set()
        await asyncio.gather(*asked)

    assert value(page, "memgang_limit_running_calls", limit="shared") == 1
    assert value(page, "memgang_limit_running_calls", limit="unused") == 0
    assert value(page, "memgang_limit_pause_seconds", limit="shared") == 0


def test_the_name_of_a_limit_is_checked(space: Space) -> None:
    """None, and one of a page's length: a sentence. One with a colon is that of a model."""
    Scraper(space, limits=["openai:gpt-5-mini"])
    for name in ("", "x" * 201):
        with pytest.raises(ConfigError, match="name of a limit"):
            Scraper(space, limits=[name])


async def test_without_the_server_the_page_says_so(own: Own, opened: Callable[..., Any]) -> None:
    """up is 0 and no counter is made up; when the server is back, it is 1 again."""
    async with opened(url=own.url, patience_ms=100, janitor_ms=100) as space:
        scraper = Scraper(space)
        assert (await scraper.page()).up
        own.go_away()
        page = await scraper.page()
        found = samples(page.body.decode())

        assert not page.up and not await scraper.well()
        assert value(found, "memgang_up") == 0 and not [name for name, _ in found if name.endswith("_total")]
        own.start()
        await until(scraper.well)
        assert value(samples((await scraper.page()).body.decode()), "memgang_up") == 1


async def test_a_counter_somebody_has_written_over_hides_no_other(space: Space, scraped: Any) -> None:
    """Garbage, a huge number, nan: shown as 0, and the rest is there."""
    await space.put("x")
    await space.store.wire.call("HSET", space.store.keys.at(0, "u"), "hits:llm", "many", "reads", "1e999", "usd", "nan")
    page = await scraped(space)

    assert value(page, "memgang_calls_total", kind="llm", outcome="hit") == 0
    assert (value(page, "memgang_reads_total"), value(page, "memgang_spent_dollars_total"), value(page, "memgang_objects")) == (0, 0, 1)


async def test_waits_end_in_seconds(space: Space, scraped: Any, opened: Callable[..., Any]) -> None:
    """Who joined a flight of another process has waited as long as its event says."""
    gate = Gate()
    call = Call("read", "slow", "1")
    async with opened() as other:
        first = asyncio.create_task(space.recall(call, gate.then("done")))
        await gate.reached()
        second = asyncio.create_task(other.recall(call, gate.then("never")))

        async def waits() -> bool:
            return (await other.stats()).get("waits", 0) == 1

        await until(waits)
        gate.open()
        await asyncio.gather(first, second)
        await other.flush()
    page = await scraped(space)
    waited = sum([event.dur_ms async for event in space.events() if event.raw == "joined"])

    assert value(page, "memgang_wait_seconds_total") == pytest.approx(waited / 1000)
    assert value(page, "memgang_calls_total", kind="read", outcome="joined") == 1


def test_lines_of_an_older_version_are_counted() -> None:
    """A ring that a process of before left has lines without a kind."""
    line = ["hit", 1, 0, "o", "c", 0, 0, "hit", [1, 1, 10, 5, 0, 7, 3, 0, 0], "", "", "f"]

    assert tallies.tally([line]) == {
        "hits": 1, "hits:other": 1, "saved_calls": 1, "saved_tok": 15, "saved_usd": 7, "saved_ms": 3, "saved_calls:hit": 1,
        "saved_llm_calls:hit": 1, "saved_tok_in:hit": 10, "saved_tok_out:hit": 5, "saved_usd:hit": 7, "saved_ms:hit": 3}


def test_the_causes_are_the_ledgers() -> None:
    """The store cannot see the ledger; both must name the same causes."""
    assert tallies.CAUSES == CAUSES and Path(tallies.__file__).parent.name == "store"
