"""What of a document is worth summing up, told from its headings and file names. Pure.

A cover, a table of contents, a list of references: everybody skips them, so the job does. What is skipped here
is left out of summaries only; questions are answered from all of the text.
"""

from __future__ import annotations

import html
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from memgang.jobs.statements import plain
from memgang.model import Document

_NUMBER = re.compile(
    r"^\s*(?:(?:chapter|section|part|article|cap[ií]tulo|secci[oó]n)\s+)?(?:(\d{1,3})(?:\.\d{1,3})*\.?|([IVXLC]{1,6})\.)(?=\s|$)\s*",
    re.IGNORECASE)
_APPENDIX = re.compile(r"^\s*(?:appendix|annex|ap[eé]ndice|anexo)\b", re.IGNORECASE)
_FURNITURE = re.compile(
    r"(?:(?:table of )?contents|list of (?:figures|tables|acronyms|abbreviations|symbols)|figures|tables|index|"
    r"references?|bibliography|works cited|(?:foot|end)?[ -]?notes|sources|further reading|see also|external links|"
    r"(?:general |normative |informative )?references|(?:list of |terms and |key )?(?:definitions|abbreviations|acronyms|terms|glossary)"
    r"(?:,? (?:and|&) (?:definitions|abbreviations|acronyms|terms|symbols|notation))?|glossary(?: of terms)?|"
    r"acknowledge?ments?|acknowledgements? and .*|authors?|contributors|about the authors?|authority|dedication|"
    r"errata|change ?log|(?:change|revision|version|document) history|keywords|trademarks?|"
    r"licen[cs]e|copyright(?: notice)?|legal notice|disclaimer|notices?|colophon|cover|title page|"
    r"(?:requirements )?notation(?: and conventions)?|conventions|how to cite|citation recommendations|"
    r"[ií]ndice|bibliograf[ií]a|referencias|agradecimientos|tabla de contenidos?|tasa|dedicatoria)",
    re.IGNORECASE)
_SUMMARY = re.compile(
    r"(?:executive )?summary(?: .*)?|abstract|synopsis|overview|key (?:findings|messages|points)|highlights|conclusions?|"
    r"resumen|purpose|scope|introduction(?: and .*)?|preface|foreword", re.IGNORECASE)
_ABSTRACT = re.compile(r"(?:executive )?summary(?: .*)?|abstract|synopsis|key (?:findings|messages)|highlights|resumen", re.IGNORECASE)
_COVER_NAMES = frozenset("cover titlepage title-page title_page frontmatter front-matter front_matter front".split())
_SKIPPED_NAMES = frozenset(
    "license licence licences licenses copying copyright notice authors contributors changelog changes history readme source sources "
    "errata references bibliography definitions glossary acronyms abbreviations toc contents index security "
    "code_of_conduct contributing credits".split())
_HEADING = re.compile(r"(?m)^#{1,6}[ \t]+(.+?)[ \t]*$")
_REMARK = re.compile(
    r"^[*_]*This (?:section|chapter|appendix|document|annex|subsection) (?:is|contains|includes both)\b[^.\n]{0,90}\.[*_]*$")
_MARKS = re.compile(r"(?<=\S)\s?\[\d{1,4}(?:\s*[,–-]\s*\d{1,4})*\]")


def heading_text(heading: str) -> str:
    """A heading as people read it: no Markdown, no entities."""
    return plain(re.sub(r"<[^>]+>", "", html.unescape(heading))).replace("—", " — ").replace("  ", " ").strip(" #*_")


def bare(heading: str) -> str:
    """A heading without its number or the word that names its kind, to be compared."""
    text = heading_text(heading)
    text = re.sub(r"^(?:appendix|annex)\s+[A-Z0-9]{1,3}\s*(?:[—:.-]\s*|$)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"^[A-Z]\.\d+(?:\.\d+)*\.?\s+", "", text)
    return _NUMBER.sub("", text).strip(" .:*_")


def number_of(heading: str) -> tuple[int, int] | None:
    """Where a numbered heading belongs: (0, n) for chapter n, (1, 0) for an appendix; None if it has no number."""
    text = heading_text(heading)
    if _APPENDIX.match(text):
        return (1, 0)
    match = _NUMBER.match(text)
    if match is None or not match.group(1):
        return None
    return (0, int(match.group(1)))


def is_furniture(heading: str) -> bool:
    """Whether what stands under this heading is nothing to sum up: contents, references, thanks, definitions."""
    return _FURNITURE.fullmatch(bare(heading)) is not None


def is_abstract(heading: str) -> bool:
    """Whether the authors sum up the whole work here."""
    return _ABSTRACT.fullmatch(bare(heading)) is not None


def is_summary(heading: str) -> bool:
    """Whether the authors themselves say here what matters: abstract, executive summary, conclusion."""
    return _SUMMARY.fullmatch(bare(heading)) is not None


def file_stem(source: str) -> str:
    """The file name of a path or URL without its ending, in small letters."""
    path = unquote(urlsplit(source).path) if "://" in source else source
    return PurePosixPath(path.replace("\\", "/")).stem.lower()


def is_cover(document: Document) -> bool:
    """Whether this file is a cover: only an abstract or a summary in it is worth reading."""
    return file_stem(document.source) in _COVER_NAMES


def is_skipped(document: Document, alone: bool) -> bool:
    """Whether a whole file is furniture. ``alone``: it is all there is, so the file name does not count."""
    if not document.places or alone:
        return not document.places
    if any(is_furniture(title) for title in (document.title, *_only_heading(document))):
        return True
    return file_stem(document.source) in _SKIPPED_NAMES


def text_of(part: str, lead: bool = True, cover: bool = False) -> str:
    """The text of a part that is worth summing up, possibly empty.

    Blocks under furniture headings go, and the marks of notes. ``lead`` says whether what stands before the first
    heading belongs to something worth reading; of a ``cover`` only abstracts and summaries stay.
    """
    kept: list[str] = []
    pieces = _HEADING.split(part)
    if lead and pieces[0].strip():
        kept.append(pieces[0].strip())
    for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
        wanted = is_abstract(heading) if cover else not is_furniture(heading)
        if wanted and body.strip():
            kept.append(f"## {heading}\n\n{body.strip()}")
    return passage("\n\n".join(kept))


def passage(text: str, headings: tuple[str, ...] = ()) -> str:
    """A text as a model is shown it: under its headings, without remarks on itself and marks of notes.

    The marks, such as ``[12]``, would look like citations of passages.
    """
    lines = [line for line in text.splitlines() if not _REMARK.match(line.strip())]
    shown = _MARKS.sub("", "\n".join(lines)).strip()
    path = " › ".join(heading_text(heading) for heading in headings)
    return f"## {path}\n\n{shown}" if path else shown


def lead_counts(headings: tuple[str, ...], cover: bool) -> bool:
    """Whether text that stands under this path of headings is worth summing up."""
    if cover:
        return any(is_abstract(heading) for heading in headings)
    return not any(is_furniture(heading) for heading in headings)


def _only_heading(document: Document) -> tuple[str, ...]:
    """The first heading of a document if everything stands under it."""
    firsts = {place.headings[:1] for place in document.places}
    return firsts.pop() if len(firsts) == 1 else ()
