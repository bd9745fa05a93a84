"""Statements: what a report is made of, and how they are read out of a model's answer.

A statement is one sentence and the parts it stands on. A model, with or without words of its own, is
asked to write one a line and to end it with the numbers of the passages it used, ``[2]`` or
``[1][3]``. What comes back is checked here: numbers that no passage has are dropped and counted,
list marks and headings taken off, broken lines and repetitions left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from memgang.model import Ref

# A sentence that shares this much of its words with a statement was taken over from it. Only good for finding where a
# sentence came from: "At level 1 it is allowed" and "At level 2 it is allowed" share more, and are not the same.
TAKEN_FROM = 0.8

_CITES = re.compile(r"(?:\s*\[\s*\d{1,4}(?:\s*(?:[,;]|-|–|and)\s*\d{1,4})*\s*\])+")
_BULLET = re.compile(r"^\s*(?:[-*+•‣▪–—]\s+|\(?\d{1,2}[.)]\s+)")
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|`)(?=\S)(.+?)(?<=\S)\1")
_WORD = re.compile(r"[^\W_]+")
_RANGE_MAX = 12  # "[1-12]" is a citation; a longer range is a number that looks like one


class Statement(msgspec.Struct, frozen=True):
    """One sentence and the parts it stands on. No parts: the model named none, and the report says so."""

    text: str
    cites: tuple[Ref, ...] = ()


class Note(msgspec.Struct, frozen=True):
    """What one agent has to say about one part, section, volume or question, in the order of the source.

    ``title`` is what it is about, empty for a part, whose text says that itself. ``dropped`` counts citations of
    passages that do not exist: a sign of a model that invents.
    """

    statements: tuple[Statement, ...] = ()
    title: str = ""
    dropped: int = 0

    @property
    def words(self) -> int:
        """How many words the statements have together."""
        return sum(len(statement.text.split()) for statement in self.statements)


class Line(NamedTuple):
    """One sentence of an answer with the passages it cites, counted from 1."""

    text: str
    passages: tuple[int, ...]


def parse(answer: str, passages: int) -> tuple[list[Line], int]:
    """The statements in a model's answer to ``passages`` numbered passages, and how many citations were dropped.

    A line without a valid number is taken to stand on the passage if there is only one, and keeps an empty
    citation otherwise. A paragraph with several citations in it is divided behind each.
    """
    lines: list[Line] = []
    dropped = 0
    for raw in answer.splitlines():
        if re.match(r"\s*(?:#{1,6}\s|[-=*_]{3,}\s*$|```)", raw):
            continue
        for text, marks in _divided(_BULLET.sub("", raw.strip())):
            numbers: list[int] = []
            for number in _numbers(marks):
                if 1 <= number <= passages:
                    numbers.append(number)
                else:
                    dropped += 1
            text = plain(text)
            if not _says_something(text):
                continue
            if not numbers and passages == 1:
                numbers = [1]
            lines.append(Line(text, tuple(dict.fromkeys(numbers))))
    return lines, dropped


def plain(text: str) -> str:
    """The text without Markdown emphasis and with single spaces."""
    previous = ""
    while previous != text:
        previous, text = text, _EMPHASIS.sub(r"\2", text)
    return " ".join(text.split())


def unrepeated(statements: Iterable[Statement]) -> list[Statement]:
    """The statements without those that say again, in the same words, what an earlier one said; citations are joined."""
    kept: dict[tuple[str, ...], Statement] = {}
    for statement in statements:
        words = tuple(_WORD.findall(statement.text.lower()))
        twin = kept.get(words)
        kept[words] = statement if twin is None else Statement(
            twin.text, tuple(dict.fromkeys(twin.cites + statement.cites)))
    return list(kept.values())


def lead_back(line: Line, passages: Sequence[Sequence[Statement]], cites_max: int = 3) -> Statement:
    """A line about passages that are statements themselves, cited with the parts *those* stand on.

    A sentence taken over word for word gets the citations of the very statement; one that was written anew gets
    those of the statements of its passages that share most words with it.
    """
    words = word_set(line.text)
    scored: list[tuple[float, int, Statement]] = []
    for number in line.passages:
        for statement in passages[number - 1]:
            scored.append((overlap(words, word_set(statement.text)), -len(scored), statement))
    scored.sort(key=lambda entry: entry[:2], reverse=True)
    if not scored:
        return Statement(line.text)
    best = scored[0][0]
    near = [statement for share, _, statement in scored if share >= max(best * 0.6, 0.01)] or [scored[0][2]]
    if best >= TAKEN_FROM:
        near = near[:1]
    cites = dict.fromkeys(ref for statement in near[:cites_max] for ref in statement.cites)
    return Statement(line.text, tuple(cites)[:cites_max])


def word_set(text: str) -> frozenset[str]:
    """The words of a text, small, each once."""
    return frozenset(word.lower() for word in _WORD.findall(text))


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """How much two sets of words share: 0 nothing, 1 all (Jaccard)."""
    return len(a & b) / len(a | b) if a and b else 0.0


def _divided(line: str) -> list[tuple[str, str]]:
    """A line as pairs of text and the citation marks behind it."""
    pairs: list[tuple[str, str]] = []
    start = 0
    for match in _CITES.finditer(line):
        text = line[start:match.start()].strip()
        rest = line[match.end():]
        # The stop may stand behind the citation: "It fell [3]." It belongs to the sentence.
        stop = re.match(r"[.!?…]+", rest)
        if not stop and rest.strip() and not re.search(r"[.!?…][\"'”’»)\]]*$", text):
            continue  # in the middle of a sentence: goes with the next one
        if stop:
            text += stop.group()
        end = match.end() + (stop.end() if stop else 0)
        marks = "".join(m.group() for m in _CITES.finditer(line[start:match.end()]))
        pairs.append((_CITES.sub("", text), marks))
        start = end
    rest = line[start:].strip()
    if rest:
        pairs.append((_CITES.sub("", rest), "".join(m.group() for m in _CITES.finditer(rest))))
    return pairs


def _numbers(marks: str) -> list[int]:
    """The numbers in ``[1][3]``, ``[1, 3]`` and ``[2-4]``."""
    found: list[int] = []
    for group in re.findall(r"\[([^\]]*)\]", marks):
        for piece in re.split(r"[,;]|and", group):
            ends = [int(number) for number in re.findall(r"\d+", piece)]
            if len(ends) == 2 and 0 <= ends[1] - ends[0] <= _RANGE_MAX:
                found.extend(range(ends[0], ends[1] + 1))
            else:
                found.extend(ends)
    return found


def _says_something(text: str) -> bool:
    """Whether a line is more than a label: at least four words, and not an opening for a list."""
    return len(_WORD.findall(text)) >= 4 and not text.endswith(":")
