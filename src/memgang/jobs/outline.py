"""The plan of a report: which parts make a section, which sections a volume, in the order of the documents. Pure.

A folder whose files are numbered chapters, or many small files, is one volume with a section a file. Any other
document is a volume with a section for each of its main headings; where it has none, or very many, a
section is a run of neighbouring parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from statistics import median
from urllib.parse import urlsplit

import msgspec

from memgang.jobs import content
from memgang.model import Document, Ref

SECTIONS_MAX = 24  # of one volume: more than that nobody reads
FRONT_MAX = 8  # parts of the authors' own summary that go into that of a volume
PARTS_MAX = 30  # in one section, if lower headings can divide it
PARTS_WANTED = 10  # in a section that no heading decides
SMALL_DOCUMENT_PARTS = 6
_INDEX_NAMES = frozenset(("readme", "index", "cover", "00_index"))


class Item(msgspec.Struct, frozen=True):
    """A part that is summed up: which text, and how much of it (see ``content.text_of``)."""

    ref: Ref
    lead: bool = True
    cover: bool = False


class Section(msgspec.Struct, frozen=True):
    """Parts that are summed up together. ``depth`` 1 is a main heading, 2 and 3 stand under one."""

    title: str
    items: tuple[Item, ...]
    depth: int = 1


class Volume(msgspec.Struct, frozen=True):
    """What belongs together between two covers. ``front`` holds the authors' own summary, if there is one."""

    title: str
    sections: tuple[Section, ...]
    front: tuple[Item, ...] = ()


class Spot(msgspec.Struct, frozen=True):
    """A part as questions see it: any part of any document, under its headings."""

    ref: Ref
    headings: tuple[str, ...] = ()


class Outline(msgspec.Struct, frozen=True):
    """The whole plan. ``items`` are all parts to be summed up, ``spots`` all parts there are, document by document."""

    title: str
    volumes: tuple[Volume, ...]
    spots: tuple[tuple[Spot, ...], ...]

    @property
    def items(self) -> list[Item]:
        """Every part to be summed up, once, in order."""
        found = (item for volume in self.volumes for group in (volume.front, *(s.items for s in volume.sections)) for item in group)
        return list(dict.fromkeys(found))


def plan(documents: Sequence[Document], title: str = "") -> Outline:
    """The outline of a report on these documents."""
    groups = _volumes(documents)
    alone = len(documents) == 1
    volumes = [volume for name, members in groups if (volume := _volume(name, members, alone, False)).sections]
    if not volumes:  # nothing but furniture: then that is what the report is about
        volumes = [volume for name, members in groups if (volume := _volume(name, members, True, True)).sections]
    spots = tuple(tuple(Spot(place.ref, place.headings) for place in document.places) for document in documents if document.places)
    return Outline(title or _title(documents, volumes), tuple(volumes), spots)


def _folder(source: str) -> str:
    path = urlsplit(source)._replace(query="", fragment="").geturl() if "://" in source else source
    return str(PurePosixPath(path).parent)


def _volumes(documents: Sequence[Document]) -> list[tuple[str, list[Document]]]:
    """Documents that are one volume, with the volume's title, in the order in which the first of each was given."""
    folders: dict[str, list[Document]] = {}
    for document in documents:
        folders.setdefault(_folder(document.source), []).append(document)
    groups: list[tuple[str, list[Document]]] = []
    for folder, members in folders.items():
        real = [d for d in members if not content.is_skipped(d, False)]
        if len(real) >= 2 and _together(real):
            groups.append((_folder_title(folder, members, documents), _ordered(members)))
        else:
            groups.extend((_document_title(document), [document]) for document in members)
    return groups


def _together(documents: Sequence[Document]) -> bool:
    """Whether the files of a folder are chapters of one work rather than works of their own."""
    if any("://" in document.source for document in documents):
        return False
    numbered = sum(content.number_of(document.title) is not None for document in documents)
    return numbered >= 2 and numbered * 2 >= len(documents) or (
        len(documents) >= 3 and median(len(document.places) for document in documents) <= SMALL_DOCUMENT_PARTS)


def _ordered(documents: Sequence[Document]) -> list[Document]:
    """Covers first, then numbered chapters by their numbers, then appendices; else the order given."""
    def key(entry: tuple[int, Document]) -> tuple[int, int, int]:
        index, document = entry
        if content.is_cover(document):
            return (-1, 0, index)
        number = content.number_of(document.title)
        return (*(number or (0, 0)), index) if numbered else (0, 0, index)

    numbered = sum(content.number_of(document.title) is not None for document in documents) >= 2
    return [document for _, document in sorted(enumerate(documents), key=key)]


def _folder_title(folder: str, members: Sequence[Document], documents: Sequence[Document]) -> str:
    """What a folder is called: by the file beside it with its name, its cover or index file, or its own name."""
    name = PurePosixPath(folder).name
    beside = [d for d in documents if content.file_stem(d.source) == name.lower() and d not in members]
    inside = [d for stem in ("cover", "index", "readme") for d in members if content.file_stem(d.source) == stem]
    for document in (*beside, *inside):
        if title := _document_title(document):
            return title
    return name


def _document_title(document: Document) -> str:
    return content.heading_text(document.title) or content.file_stem(document.source)


def _title(documents: Sequence[Document], volumes: Sequence[Volume]) -> str:
    """What the whole is called: the one volume's title, that of a file above the others, or a count."""
    if len(volumes) == 1:
        return volumes[0].title
    shortest = min((len(PurePosixPath(_folder(d.source)).parts) for d in documents), default=0)
    for document in documents:
        if len(PurePosixPath(_folder(document.source)).parts) == shortest and content.file_stem(document.source) in _INDEX_NAMES:
            return _document_title(document)
    return f"Report on {len(volumes)} documents"


def _volume(title: str, members: Sequence[Document], alone: bool, keep_all: bool) -> Volume:
    """A volume of these documents. ``alone``: file names do not count; ``keep_all``: nothing is furniture."""
    sections: list[Section] = []
    front: list[Item] = []
    for document in members:
        if content.is_skipped(document, alone):
            continue
        items = _items(document, keep_all)
        if content.is_cover(document) and len(members) > 1:
            front.extend(item for item, _ in items)
            # A short abstract speaks for the volume; a long summary is worth a section too.
            if len(items) >= SMALL_DOCUMENT_PARTS:
                heading = next((h for _, path in items for h in path if content.is_abstract(h)), document.title)
                sections.append(Section(content.heading_text(heading), tuple(item for item, _ in items)))
        elif len(members) > 1:
            if items:
                sections.append(Section(_section_title(document), tuple(item for item, _ in items)))
        else:
            sections.extend(_merged(_by_headings(title, items), len(items)))
            front.extend(item for item, path in items if any(content.is_summary(heading) for heading in path))
    return Volume(title, tuple(_merged(sections, 3 * SECTIONS_MAX)), _ends(front))


def _ends(front: Sequence[Item]) -> tuple[Item, ...]:
    """The first and the last of many: what a summary begins with, and what it comes to."""
    half = FRONT_MAX // 2
    return tuple(front) if len(front) <= FRONT_MAX else (*front[:half], *front[-half:])


def _items(document: Document, keep_all: bool) -> list[tuple[Item, tuple[str, ...]]]:
    """The parts of a document worth summing up, with the headings above them."""
    cover = content.is_cover(document)
    if keep_all:
        return [(Item(place.ref), place.headings) for place in document.places]
    found: list[tuple[Item, tuple[str, ...]]] = []
    for place in document.places:
        # A part says under which headings its text begins; if they are furniture, a later heading in it may not be.
        lead = content.lead_counts(place.headings, cover)
        found.append((Item(place.ref, lead, cover), place.headings))
    if not cover and not any(item.lead for item, _ in found):
        return []
    # Behind the last part worth reading everything is furniture (references, index); in between it may hold some.
    while found and not found[-1][0].lead and not cover:
        found.pop()
    return found


def _section_title(document: Document) -> str:
    """A file's title; where it holds two chapters and the title is only that of the first, both."""
    title = _document_title(document)
    tops = list(dict.fromkeys(place.headings[0] for place in document.places if place.headings))
    numbers = [top for top in tops if content.number_of(top) is not None]
    own = content.number_of(title)
    if own is not None:
        later = [top for top in numbers if (n := content.number_of(top)) is not None and n > own
                 and not re.match(r"\s*\d+\.\d", content.heading_text(top))]
        if len(later) == 1:
            return f"{title} · {content.heading_text(later[0])}"
    return title


def _by_headings(title: str, items: Sequence[tuple[Item, tuple[str, ...]]], depth: int = 1) -> list[Section]:
    """A document's sections: its main headings, where they divide it; the next lower ones in what is too long; else runs."""
    if len(items) <= 3:
        return [Section(title, tuple(item for item, _ in items))] if items else []
    for level in range(depth, depth + 3):
        groups: list[tuple[tuple[str, ...], list[tuple[Item, tuple[str, ...]]]]] = []
        for item, path in items:
            if groups and groups[-1][0] == path[:level]:
                groups[-1][1].append((item, path))
            else:
                groups.append((path[:level], [(item, path)]))
        if len(groups) < 2:
            continue
        sections: list[Section] = []
        for path, group in groups:
            name = content.heading_text(path[level - 1]) if len(path) >= level else title
            if len(group) > PARTS_MAX:
                lower = _by_headings(name, group, level + 1)
                # Its own opening, if it has one, keeps its name; what stands under it is one deeper.
                sections.extend(Section(s.title, s.items, s.depth + (s.title != name)) for s in lower)
            else:
                sections.append(Section(name, tuple(item for item, _ in group)))
        return sections
    if len(items) <= PARTS_WANTED * 1.5:
        return [Section(title, tuple(item for item, _ in items))]
    count = round(len(items) / PARTS_WANTED)
    size = -(-len(items) // count)
    runs = [items[i:i + size] for i in range(0, len(items), size)]
    return [Section(f"{title}, part {n} of {len(runs)}", tuple(item for item, _ in run)) for n, run in enumerate(runs, 1)]


def _merged(sections: Sequence[Section], parts: int) -> list[Section]:
    """The sections, neighbours joined while there are too many for so many parts, the smallest pair first."""
    groups = [[section] for section in sections]
    limit = min(SECTIONS_MAX, max(6, parts // 3))
    sizes = [len(section.items) for section in sections]
    while len(groups) > limit:
        at = min(range(len(groups) - 1), key=lambda i: (sizes[i] + sizes[i + 1], i))
        groups[at:at + 2] = [groups[at] + groups[at + 1]]
        sizes[at:at + 2] = [sizes[at] + sizes[at + 1]]
    return [group[0] if len(group) == 1 else Section(
        f"{_shortened(group[0].title)} – {_shortened(group[-1].title)}",
        tuple(item for section in group for item in section.items), min(section.depth for section in group))
        for group in groups]


def _shortened(title: str, most: int = 70) -> str:
    """A title cut at a word, for where two stand side by side."""
    return title if len(title) <= most else title[:most].rsplit(" ", 1)[0].rstrip(",;:") + " …"
