"""The report job: long documents -> one report with citations, written by a gang over one memory.

One team sums up the whole, and one team for each question answers it. Every team reads the documents and takes notes on
their parts, as it would if it were alone; because the notes depend on the text of a part and on nothing else, the
teams find each other's in memory instead of taking them again. Then the first team reduces
notes to sections, sections to volumes, volumes to an overview, and the others find the parts that
their question is about and answer from their text.

What depends on what, and so what an edited paragraph makes stale:

    part -> note -> section -> volume -> overview
    all parts, all notes -> find -> the parts chosen -> answer

An answer is computed again only if the parts chosen for it, or their text, have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from memgang.agents import Agent
from memgang.engines.asyncio_engine import together
from memgang.errors import CallTooLarge, ConfigError, MemGangError, ReadError
from memgang.gang import Failure, Gang
from memgang.jobs import content, pages, prompts, retrieve, statements
from memgang.jobs.outline import Item, Outline, Section, Spot, Volume, plan
from memgang.jobs.pages import Chapter, Failed, Report
from memgang.jobs.progress import Phase, shown_together
from memgang.jobs.statements import Note
from memgang.limits import too_large
from memgang.model import Document, Place, Ref
from memgang.reading import Reading

FAN_IN = 16  # notes that one agent reduces at once; more become a tree
WHOLE = "whole"  # the team that sums up; the others are team-1, team-2, ... in the order of the questions

# An agent's version is made of its own source and of this: whatever prompts, parsing and search do is in its answer.
RULES = hashlib.sha256("".join(
    inspect.getsource(module) for module in (content, prompts, retrieve, statements)).encode()).hexdigest()[:16]


class Shelf(msgspec.Struct, frozen=True):
    """What a question is looked up in: every part under its headings, document by document, and the notes on them."""

    spots: tuple[tuple[Spot, ...], ...]
    notes: tuple[tuple[Ref, Ref], ...]  # part, note


async def report(
    gang: Gang, sources: Sequence[str], questions: Sequence[str] = (), *, title: str = "", agents: int = 16,
    overview: bool = True,
) -> Report:
    """Read the sources and write one report: a summary of the whole and an answer to each question.

    ``agents`` is how many work at once, over all teams; without ``overview`` the questions alone are answered. The
    report is put into the space; two runs over the same documents give the same one. Parts whose work failed, and
    sources that cannot be read, are named in it.

    Raises:
        ReadError: nothing could be read, or there is no text in what could.
        ConfigError: a question is empty, or there is none and no overview is wanted.
        ModelError: the caller's own key, rights or quota.
        WorkFailed: nothing at all could be made of what was read; the first reason.
        CallTooLarge: the same, and the reason is everywhere that the limit of tokens is too small.
    """
    asked = [" ".join(question.split()) for question in questions]
    if not all(asked):
        raise ConfigError("a question is empty")
    gang.engine.start()
    names = [*([WHOLE] if overview else []), *(f"team-{n}" for n in range(1, len(asked) + 1))]
    if not names:
        raise ConfigError("there is nothing to do: neither a question nor an overview is wanted")
    # The teams' gangs take the run from the context, so that all events of a report belong together.
    with gang.space.acting_as(run=gang.run_id):
        each = max(2, -(-agents // len(names)))
        planner = Planner(title)
        teams = [Team(gang, name, at / len(names), each, sources, planner) for at, name in enumerate(names)]
        try:
            with shown_together(gang, [team.gang for team in teams]) as phase:
                return await _written(gang, teams, asked, overview, phase)
        finally:
            gang.failures.extend(failure for team in teams for failure in team.gang.failures)


async def _written(gang: Gang, teams: Sequence[Team], asked: Sequence[str], overview: bool, phase: Phase) -> Report:
    """All teams side by side, phase by phase; the questions are answered while the whole is reduced."""
    first, others = teams[0], teams[1:] if overview else teams
    await phase("read")
    await together([team.read() for team in teams])
    await phase("map")
    await together([team.map() for team in teams])
    if first.outline.items and not first.notes and first.gang.failures:
        raise _why_nothing([first])
    await phase("reduce" if overview else "answer")

    async def reduced() -> tuple[Note, list[Chapter]]:
        made = await first.reduce() if overview else (Note(), [])
        if overview and others:
            await phase("answer")
        return made

    works: list[Coroutine[Any, Any, Any]] = [reduced()]
    works += [team.answer(question) for team, question in zip(others, asked, strict=True)]
    (summary, chapters), *answers = await together(works)
    made = pages.assemble(
        first.outline.title, summary, chapters, list(zip(asked, answers, strict=True)), first.reading.documents,
        first.reading.unreadable, _failed(teams), len(first.outline.items), gang.model.name)
    # Parts that hold nothing to sum up have their notes, empty ones, whatever becomes of the rest.
    if not made.figures.statements and all(answer.failed for answer in made.answers) and any(team.gang.failures for team in teams):
        raise _why_nothing(teams)
    # What it was put together from stands first: the log keeps only the first of many parents.
    parents = [ref for team in teams for ref in team.quoted] + [ref for team in teams for ref in team.made_from]
    await gang.space.put(made, kind="report", parents=list(dict.fromkeys(parents)))
    return made


class Roles:
    """The agents of one team: what each role does. Lives as long as the run."""

    def __init__(self, gang: Gang, agents: int) -> None:
        space = gang.space
        rules = (RULES,)

        @gang.agent(role="note", agents=agents, deps=rules, name="report:note")
        async def note(item: tuple[Ref, bool, bool]) -> Note:
            part, lead, cover = item
            text = content.text_of(await space.get(part, str), lead, cover)
            if not text:
                return Note()
            return prompts.cited(await gang.llm(prompts.for_part(text)), [part])

        @gang.agent(role="section", agents=agents, deps=rules, kind="summary", name="report:section")
        async def section(notes: list[Note], title: str, words: int) -> Note:
            said = [note for note in notes if note.statements]
            if not said or len(said) == 1 and said[0].words <= words:
                return Note(said[0].statements if said else (), title)
            return prompts.led_back(await gang.llm(prompts.for_section(title, said, words)), said, title)

        @gang.agent(role="volume", agents=agents, deps=rules, kind="summary", name="report:volume")
        async def volume(notes: list[Note], title: str, words: int) -> Note:
            said = [note for note in notes if note.statements]
            if not said:
                return Note((), title)
            return prompts.led_back(await gang.llm(prompts.for_volume(title, said, words)), said, title)

        @gang.agent(role="overview", agents=1, deps=rules, kind="summary", name="report:overview")
        async def overview(notes: list[Note], title: str, words: int) -> Note:
            said = [note for note in notes if note.statements]
            if not said:
                return Note((), title)
            answer = await gang.llm(prompts.for_overview(title, said, words))
            whole = prompts.led_back(answer, said, title)
            # A summary of four volumes that is silent about one is not a summary: ask for that one alone. Of many
            # passages only the first must be there, in which a document says what it is about.
            for index in prompts.unmentioned(answer, len(said)):
                if index and len(said) > prompts.COVERED_MAX:
                    break
                more = await gang.llm(prompts.for_overview(title, [said[index]], max(40, words // len(said))))
                whole = prompts.joined(whole, prompts.led_back(more, [said[index]]), said, index)
            return whole

        @gang.agent(role="find", agents=agents, deps=rules, kind="partition", name="report:find")
        async def find(question: str, shelf: Shelf) -> list[Spot]:
            places = [(number, spot) for number, document in enumerate(shelf.spots) for spot in document]
            parts = list(dict.fromkeys(spot.ref for _, spot in places))
            texts = dict(zip(parts, await space.get_many(parts, str), strict=True))
            notes = await space.get_many([note for _, note in shelf.notes], Note)
            noted = {part: " ".join(s.text for s in note.statements)
                     for (part, _), note in zip(shelf.notes, notes, strict=True)}
            entries = [retrieve.Entry(texts[spot.ref], " ".join(spot.headings), noted.get(spot.ref, ""), number)
                       for number, spot in places]
            chosen = [places[index][1] for index in await gang.engine.run(retrieve.choose, question, entries)]
            first: dict[Ref, Spot] = {}  # a text that stands in two documents is read once
            for spot in chosen:
                first.setdefault(spot.ref, spot)
            return list(first.values())

        @gang.agent(role="answer", agents=agents, deps=rules, kind="answer", name="report:answer")
        async def answer(question: str, spots: list[Spot]) -> Note:
            refs = [spot.ref for spot in spots]
            texts = await space.get_many(refs, str)
            passages = [content.passage(text, spot.headings) for spot, text in zip(spots, texts, strict=True)]
            return prompts.cited(await gang.llm(prompts.for_question(question, passages)), refs, question)

        self.note: Agent = note
        self.section: Agent = section
        self.volume: Agent = volume
        self.overview: Agent = overview
        self.find: Agent = find
        self.answer: Agent = answer


class Planner:
    """Plans of a report. Teams that have read the same documents have the same plan, made once."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._made: list[tuple[tuple[Document, ...], Outline]] = []

    def plan(self, documents: tuple[Document, ...]) -> Outline:
        """The plan for these documents."""
        for known, outline in self._made:
            if known == documents:
                return outline
        outline = plan(documents, self._title)
        self._made.append((documents, outline))
        return outline


class Team:
    """Agents that work for one reader: for the whole, or for one question. Holds what it has read and noted.

    ``offset`` (0..1) says where in the documents it starts to take notes: teams that start at different places take
    different notes and find each other's, instead of all waiting for the same one.
    """

    def __init__(self, gang: Gang, name: str, offset: float, agents: int, sources: Sequence[str], planner: Planner) -> None:
        self.gang = Gang(gang.space, gang.model, concurrency=agents, title=gang.title, team=name,
                         engine=gang.engine, prices=None if gang.price is None else {gang.model.price_name: gang.price},
                         limits=gang.limits)
        self.roles = Roles(self.gang, agents)
        self.offset, self.sources, self.planner = offset, sources, planner
        self.reading = Reading()
        self.outline = Outline("", (), ())
        self.notes: dict[Item, Ref] = {}
        self.quoted: list[Ref] = []  # summaries and answers that stand in the report, the last made first
        self.unmade: list[tuple[str, Exception]] = []  # sections and the like that could not be made

    async def read(self) -> None:
        """Read the documents and plan the report. Raises ReadError where there is nothing to work on."""
        self.reading = await self.gang.read_documents(*self.sources)
        if not any(document.places for document in self.reading.documents):
            raise _nothing(self.reading, self.sources)
        self.outline = self.planner.plan(self.reading.documents)

    async def map(self) -> None:
        """Take a note on every part; parts whose work failed have none."""
        items = self.outline.items
        start = int(len(items) * self.offset)
        turned = items[start:] + items[:start]
        found = await self.gang.map(self.roles.note, [(item.ref, item.lead, item.cover) for item in turned])
        refs = {item: ref for item, ref in zip(turned, found, strict=True) if ref is not None}
        self.notes = {item: refs[item] for item in items if item in refs}

    async def reduce(self) -> tuple[Note, list[Chapter]]:
        """Notes to sections, sections to volumes, volumes to the overview."""
        made = await asyncio.gather(*(self._volume(volume) for volume in self.outline.volumes))
        chapters = [chapter for chapter, _ in made]
        below = [ref for _, refs in made for ref in refs]
        overview = await self._reduced(self.roles.overview, below, self.outline.title, prompts.OVERVIEW_WORDS, "the summary")
        return await self._note(overview), chapters

    @property
    def made_from(self) -> list[Ref]:
        """The parts and the notes on them: what is written from them is forgotten with them."""
        return [*self.reading.parts, *self.notes.values()]

    async def answer(self, question: str) -> Note | None:
        """Find the parts a question is about and answer it from them. None where that failed."""
        shelf = await self.gang.space.put(
            Shelf(self.outline.spots, tuple((item.ref, note) for item, note in self.notes.items())), kind="partition",
            parents=self.made_from)
        try:
            return await self._note(await self.roles.answer.ref(question, await self.roles.find.ref(question, shelf)))
        except MemGangError as error:
            self._missing(f"the answer to “{question}”", error)
            return None

    async def _volume(self, volume: Volume) -> tuple[Chapter, list[Ref | None]]:
        """One volume: its sections side by side, then its opening; and the notes the overview is made of.

        These are the openings of the volumes, or, of a single one, what its opening would have been made of.
        """
        sections = await asyncio.gather(*(self._section(section) for section in volume.sections))
        front = [self.notes[item] for item in volume.front if item in self.notes]
        alone = len(self.outline.volumes) == 1
        opening: Ref | None = None
        if not alone:
            opening = await self._reduced(
                self.roles.volume, [*front, *sections], volume.title, prompts.VOLUME_WORDS, f"the summary of {volume.title}")
        notes = [await self._note(ref) for ref in sections]
        parts = frozenset(item.ref for group in (volume.front, *(s.items for s in volume.sections)) for item in group)
        chapter = Chapter(volume.title, await self._note(opening),
                          tuple((s.title, s.depth, note) for s, note in zip(volume.sections, notes, strict=True)), parts)
        return chapter, [*front, *sections] if alone else [opening]

    async def _section(self, section: Section) -> Ref | None:
        refs = [self.notes[item] for item in section.items if item in self.notes]
        return await self._reduced(
            self.roles.section, refs, section.title, prompts.section_words(len(section.items)), f"the section {section.title}")

    async def _reduced(
        self, agent: Agent, notes: Sequence[Ref | None], title: str, words: int, what: str,
    ) -> Ref | None:
        """One note from many, or None where that failed: then the report goes on without, and says so."""
        there = [ref for ref in notes if ref is not None]
        if not there:
            return None
        try:
            return await self.gang.reduce(agent, there, title, words, fan_in=FAN_IN if agent is not self.roles.overview else 64)
        except MemGangError as error:
            self._missing(what, error)
            return None

    def _missing(self, what: str, error: MemGangError) -> None:
        if getattr(error, "kind", "") == "caller":  # our own key or quota: the rest would fail of it too
            raise error
        self.unmade.append((what, error))
        self.gang.failures.append(Failure("report", what, error))

    async def _note(self, ref: Ref | None) -> Note:
        if ref is None:
            return Note()
        self.quoted.insert(0, ref)
        note = await self.gang.space.get(ref, Note)
        assert isinstance(note, Note)
        return note


def _nothing(reading: Reading, sources: Sequence[str]) -> ReadError:
    """Why there is no report: the one reason, or how many sources there were and the first reason."""
    reasons = [(u.source, u.reason) for u in reading.unreadable]
    reasons += [(d.source, "; ".join(d.notes) or "there is no text in it") for d in reading.documents]
    if not reasons:
        return ReadError(", ".join(sources), "there is no file in it")
    if len(reasons) == 1:
        return ReadError(*reasons[0])
    listed = "; ".join(f"{source}: {reason}" for source, reason in reasons[:8])
    more = f"; and {len(reasons) - 8} more" if len(reasons) > 8 else ""
    return ReadError(", ".join(sources), f"none of {len(reasons)} documents holds text ({listed}{more})")


def _why_nothing(teams: Sequence[Team]) -> Exception:
    """Why nothing at all could be made: the first reason, or how large the limit would have to be."""
    failures = [failure for team in teams for failure in team.gang.failures]
    large = [failure.error for failure in failures if isinstance(failure.error, CallTooLarge)]
    if len(large) < len(failures):
        return next(failure.error for failure in failures if not isinstance(failure.error, CallTooLarge))
    count = len({(failure.agent, failure.item) for failure in failures})  # teams fail at the same parts
    if count == 1:
        return large[0]
    return too_large(f"none of {count:,} calls could be made: the largest",
                     max(error.size for error in large), large[0].limit)


def _failed(teams: Sequence[Team]) -> list[Failed]:
    """What is missing from the report because work on it failed, each once, in the order of the documents."""
    errors: dict[Ref, Exception] = {}
    for team in teams:
        for failure in team.gang.failures:
            if isinstance(failure.item, tuple) and failure.item[0] not in errors:
                errors[failure.item[0]] = failure.error
    # A part that failed for one team and was there for another has its note, and nothing is missing.
    noted = {item.ref for item in teams[0].notes}
    found = [Failed(pages.where(document, place), _reason(errors[place.ref]))
             for document, place in _places(teams[0].reading.documents) if place.ref in errors and place.ref not in noted]
    return found + [Failed(what, _reason(error)) for team in teams for what, error in team.unmade]


def _places(documents: Sequence[Document]) -> list[tuple[Document, Place]]:
    return [(document, place) for document in documents for place in document.places]


def _reason(error: Exception) -> str:
    """Why, as one line that is the same for every team that was told of the same failure."""
    return getattr(error, "message", "") or str(error) or type(error).__name__
