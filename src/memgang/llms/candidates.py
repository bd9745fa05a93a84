"""Candidates: the sentences of the passages, cleaned, each with its place and how well it stands alone.

A passage is prose, or a transcript of ``Name: what they said`` turns. Prose sentences are taken as
they stand, apart from mark-up. Speech is tidied: fillers, false starts and noises are taken out,
nothing is put in but the capital letter at the beginning.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from memgang.llms.readability import SHORT_WORDS, TOO_LONG_WORDS, judge
from memgang.llms.terms import terms
from memgang.sentences import is_whole, split

_TURN = re.compile(r"\s*(?:\*\*|__)?([A-Z][^\s:.!?()]*(?: [^\s:.!?()]+){0,3}?)(?::(?:\*\*|__)|(?:\*\*|__)?:)\s+(\S.*)")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*)")

_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)(?:\{[^}]*\})?")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--(?:(?!<!--).){0,4000}?-->", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|_{1,3})(?=\S)([^*_\n]{1,300}?)(?<=\S)\1(?![\w*])")
_CITED = re.compile(r"(?<=[.!?])((?:\s*\[\d{1,4}(?:,\s*\d{1,4})*\])+)\s*$", re.MULTILINE)

_NOISE = re.compile(
    r"\{[a-z_ ]+\}|\[(?:laughter|inaudible|crosstalk|pause|noise|applause)[^\]]*\]|\((?:laughs|inaudible)\)",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?<![\w'])(?:u+[mh]+|h+m+|m+ ?- ?h+m+|m+h?m+|uh ?- ?huh|a+h+|e+r+m?|oh|you know|I mean|sort of|kind of)"
    r"(?![\w'])\s*,?",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"^(?:(?:so|and|but|well|yeah|yes|yep|no|right|ok|okay|anyway|alright|now|then|or|because|cuz|actually|basically"
    r"|also|sure|see|like|I think|I guess)\b(?:\s*,+\s*|\s+(?=(?:so|and|but|well|yeah|I|we|you|they|the|if|there|it"
    r"|he|she|that|this|what|in)\b)))+",
    re.IGNORECASE,
)
_STUTTER = re.compile(
    r"(?<![\w'-])(?:([A-Za-z]{1,3})-(?=\1)|[b-hj-z] (?=[a-z]))", re.ASCII
)  # "Th-there", "gonna g get"
_AGAIN = re.compile(r"\b(\w+(?:'\w+)?(?: \w+(?:'\w+)?){0,3})(?:\s*,?\s+\1\b)+", re.IGNORECASE)


@dataclass(slots=True)
class Candidate:
    """One sentence that may be chosen. ``passage`` counts from 1, ``place`` and ``turn`` over all passages."""

    text: str
    passage: int
    place: int
    depth: float  # 0..1 within its passage
    quality: float  # 0..1: how well it reads by itself
    whole: bool
    leans: bool = False  # begins with a word that points back to the sentence before it
    purpose: bool = False  # says what the document does
    speaker: str = ""
    turn: int = -1
    heading: tuple[str, ...] = ()  # terms of the headings it stands under
    terms: list[str] = field(default_factory=list)
    words: int = 0


def gather(passages: Sequence[str]) -> list[Candidate]:
    """All sentences of the passages in order. Only the ones that are ``whole`` read as sentences."""
    speech = spoken(passages)
    found: list[Candidate] = []
    turn = 0
    for number, passage in enumerate(passages, 1):
        first = len(found)
        if speech:
            turn = _from_speech(passage, number, turn, found)
        else:
            _from_prose(passage, number, found)
        for i, candidate in enumerate(found[first:]):
            candidate.depth = i / max(1, len(found) - first - 1)
    for place, candidate in enumerate(found):
        candidate.place = place
        candidate.terms = terms(candidate.text)
        candidate.words = len(candidate.text.split())
    return found


def spoken(passages: Sequence[str]) -> bool:
    """Whether this is a transcript: most lines are turns, and the speakers speak again and again.

    The second half tells it from a glossary, whose lines look the same but whose names never return.
    """
    lines = turns = 0
    names: set[str] = set()
    for passage in passages:
        for line in passage.splitlines():
            if line.strip():
                lines += 1
                if match := _TURN.match(line):
                    turns += 1
                    names.add(match.group(1))
    return turns >= 4 and turns * 2 >= lines and len(names) * 2 <= turns


def plain(text: str) -> str:
    """The text without mark-up: links as their words, no tags, no emphasis, no citation marks at the end of a line."""
    if "[" in text:
        text = _CITED.sub("", _LINK.sub(r"\1", text))
    if "<" in text:
        text = re.sub(r"[ \t]+([,.;:])(?=\s|$)", r"\1", _TAG.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    if "*" in text or "_" in text:
        text = _EMPHASIS.sub(r"\2", text)
    return text.replace("`", "")


def tidy(speech: str) -> str:
    """What somebody said, without noises, fillers, false starts and repeated words; spacing mended."""
    text = _NOISE.sub(" ", speech)
    text = re.sub(r"\s+(['’](?:s|ll|re|ve|d|m|t)\b|n't\b)", r"\1", text)
    text = re.sub(r"\s+([,.!?;:])", r"\1", text)
    text = _FILLER.sub(" ", text)
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)
    text = re.sub(r'"\s*([^"]*?)\s*"', r'"\1"', text)
    text = re.sub(r"\s+", " ", re.sub(r"(?:,\s*)+(?=[,.!?;])", "", text))
    text = re.sub(r"\s+([,.!?;:])", r"\1", text)
    text = _STUTTER.sub("", text)
    text = _AGAIN.sub(r"\1", text)
    text = _OPENING.sub("", text.strip(" ,;-"))
    text = re.sub(r"^[\s,;-]+", "", text)
    return text[:1].upper() + text[1:]


def _from_prose(passage: str, number: int, found: list[Candidate]) -> None:
    heading: tuple[str, ...] = ()
    block: list[str] = []

    def close() -> None:
        for text in split("\n".join(block)) if block else ():
            found.append(Candidate(text, number, 0, 0.0, *judge(text), heading=heading))
        block.clear()

    for line in plain(passage).splitlines():
        if match := _HEADING.match(line):
            close()
            heading = tuple(terms(match.group(1)))
        else:
            block.append(line)
    close()


def _from_speech(passage: str, number: int, turn: int, found: list[Candidate]) -> int:
    """Add the sentences of a transcript; returns the number of the last turn."""
    speaker, said = "", [""]

    def close() -> None:
        for raw in split(_NOISE.sub(" {x} ", " ".join(said))):
            text = tidy(raw)
            if not text:
                continue
            breaks = raw.count("{x}")
            length = len(text.split())
            quality = 1.0 / (1.0 + 0.15 * breaks)
            if length < SHORT_WORDS:
                quality *= 0.4
            elif length > TOO_LONG_WORDS:
                quality *= 0.5
            if text.endswith("?"):
                quality *= 0.7
            found.append(Candidate(text, number, 0, 0.0, quality, is_whole(text), speaker=speaker, turn=turn))

    for line in passage.splitlines():
        if match := _TURN.match(line):
            close()
            turn += 1
            speaker, said = match.group(1), [match.group(2)]
        else:
            said.append(line)
    close()
    return turn
