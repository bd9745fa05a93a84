"""The finished report as frozen values, and how statements become one. Pure.

A report names its sources by number, in the order in which a reader meets them; each number leads to a part (a
reference that ``memgang show`` takes), its page and headings, and the file or address it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from memgang.jobs import content
from memgang.jobs.statements import Note, Statement
from memgang.model import Document, Place, Ref, Unreadable


class Source(msgspec.Struct, frozen=True):
    """What a citation leads to. ``also`` counts other places that hold the very same text."""

    number: int
    ref: Ref
    title: str
    source: str
    headings: tuple[str, ...] = ()
    page: int = 0
    page_end: int = 0
    line: int = 0
    also: int = 0


class Section(msgspec.Struct, frozen=True):
    """A heading and what stands under it. ``level`` is that of a Markdown heading: 2 opens a volume, if there are several."""

    title: str
    level: int
    statements: tuple[Statement, ...]


class Answer(msgspec.Struct, frozen=True):
    """A question and what the documents say to it. No statements: nothing was found, or the work on it failed."""

    question: str
    statements: tuple[Statement, ...]
    failed: bool = False


class Failed(msgspec.Struct, frozen=True):
    """A part whose work failed: where it stands, and why it is missing from the report."""

    place: str
    reason: str


class Paragraph(msgspec.Struct, frozen=True):
    """Some statements of the overview; ``title`` is that of the volume they are about, empty if there is only one."""

    title: str
    statements: tuple[Statement, ...]


class Figures(msgspec.Struct, frozen=True):
    """What went into a report: the same for every run over the same documents."""

    documents: int = 0
    volumes: int = 0
    parts: int = 0
    parts_summed_up: int = 0
    statements: int = 0
    invented_citations: int = 0
    model: str = ""


class Report(msgspec.Struct, frozen=True):
    """A report, ready to be written out. Two runs over the same documents give the same value."""

    title: str
    overview: tuple[Paragraph, ...]
    sections: tuple[Section, ...]
    answers: tuple[Answer, ...]
    sources: tuple[Source, ...]
    unreadable: tuple[Unreadable, ...]
    failures: tuple[Failed, ...]
    figures: Figures
    remarks: tuple[str, ...] = ()  # what readers of the documents said: "3 pages hold only images"


class Chapter(msgspec.Struct, frozen=True):
    """A volume as its team hands it in: an opening, and title, depth and text of each section."""

    title: str
    opening: Note
    sections: tuple[tuple[str, int, Note], ...]
    parts: frozenset[Ref] = frozenset()


def assemble(
    title: str, overview: Note, chapters: Sequence[Chapter], answers: Sequence[tuple[str, Note | None]], documents: Sequence[Document],
    unreadable: Sequence[Unreadable], failures: Sequence[Failed], summed_up: int, model: str,
) -> Report:
    """Put the pieces together in reading order; an answer that is None is one whose work failed.

    The opening of a volume is left out where there is only one.
    """
    sections: list[Section] = []
    chapters = _unrepeated(chapters)
    for chapter in chapters:
        if len(chapters) > 1:
            sections.append(Section(chapter.title, 2, chapter.opening.statements))
        base = 2 if len(chapters) > 1 else 1
        sections.extend(Section(name, min(6, base + depth), note.statements)
                        for name, depth, note in chapter.sections if note.statements)
    if len(sections) == 1 and set(sections[0].statements) <= set(overview.statements):
        sections = []  # a short text: the summary says it all
    replies = tuple(Answer(q, note.statements if note is not None else (), note is None) for q, note in answers)
    paragraphs = _paragraphs(overview.statements, chapters)
    groups = [*(p.statements for p in paragraphs), *(a.statements for a in replies), *(s.statements for s in sections)]
    notes = [overview, *(note for _, note in answers if note is not None)]
    notes += [note for chapter in chapters for note in (chapter.opening, *(n for *_, n in chapter.sections))]
    read = [document for document in documents if document.places]
    return Report(
        title=title, overview=tuple(paragraphs), sections=tuple(sections), answers=replies,
        sources=tuple(_sources((ref for group in groups for s in group for ref in s.cites), documents)),
        unreadable=tuple(unreadable), failures=tuple(failures),
        figures=Figures(
            documents=len(read), volumes=len(chapters), parts=sum(len(d.places) for d in read), parts_summed_up=summed_up,
            statements=sum(len(group) for group in groups), invented_citations=sum(note.dropped for note in notes), model=model),
        remarks=tuple(f"{d.source}: {remark}" for d in documents for remark in d.notes),
    )


def where(document: Document, place: Place) -> str:
    """A place as people write it: title, page, headings."""
    page = f", p. {place.page}" if place.page else ""
    path = "".join(f" › {content.heading_text(heading)}" for heading in place.headings)
    return f"{content.heading_text(document.title)}{path}{page}"


def _unrepeated(chapters: Sequence[Chapter]) -> list[Chapter]:
    """The chapters without the sentences that an earlier volume has printed: companion volumes share their abstracts.

    Inside a volume a sentence may stand in the opening and in its section; a group never becomes empty.
    """
    said: set[str] = set()
    found: list[Chapter] = []

    def fresh(note: Note) -> Note:
        kept = tuple(s for s in note.statements if s.text not in said)
        return msgspec.structs.replace(note, statements=kept or note.statements)

    for chapter in chapters:
        shown = msgspec.structs.replace(
            chapter, opening=fresh(chapter.opening), sections=tuple((name, depth, fresh(note)) for name, depth, note in chapter.sections))
        said.update(s.text for note in (chapter.opening, *(n for *_, n in chapter.sections)) for s in note.statements)
        found.append(shown)
    return found


def _paragraphs(statements: Sequence[Statement], chapters: Sequence[Chapter]) -> list[Paragraph]:
    """Statements that stand on the same volume side by side make a paragraph."""
    found: list[tuple[int, list[Statement]]] = []
    home = 0
    for statement in statements:
        # A text that stands in several volumes belongs where we are, or to the first.
        homes = [i for i, chapter in enumerate(chapters) if statement.cites and statement.cites[0] in chapter.parts]
        home = home if home in homes or not homes else homes[0]
        if not found or found[-1][0] != home:
            found.append((home, []))
        found[-1][1].append(statement)
    return [Paragraph(chapters[home].title if len(chapters) > 1 else "", tuple(group)) for home, group in found]


def _sources(refs: Iterable[Ref], documents: Sequence[Document]) -> list[Source]:
    """The parts that are cited, numbered in the order of their first citation."""
    places: dict[Ref, list[tuple[Document, Place]]] = {}
    for document in documents:
        for place in document.places:
            places.setdefault(place.ref, []).append((document, place))
    found: list[Source] = []
    for ref in dict.fromkeys(refs):
        known = places.get(ref)
        if not known:  # cannot happen: agents cite what they were handed
            continue
        document, place = known[0]
        found.append(Source(
            number=len(found) + 1, ref=ref, title=content.heading_text(document.title), source=document.source,
            headings=tuple(content.heading_text(heading) for heading in place.headings), page=place.page,
            page_end=place.page_end, line=place.line, also=len(known) - 1))
    return found
