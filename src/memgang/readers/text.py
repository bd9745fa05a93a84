"""Plain text, code, tables of values and transcripts of conversations -> blocks."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from memgang.readers.blocks import LINE, PARAGRAPH, Block
from memgang.readers.clean import characters, tidy

_PAGE = re.compile(r"^\s*(?:-\s*)?\d{1,4}(?:\s*-)?\s*$")
_GUTENBERG_START = re.compile(r"^\*\*\* ?START OF (?:THIS|THE) PROJECT GUTENBERG.*$", re.M)
_GUTENBERG_END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THIS|THE) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg).*$", re.M)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
# Marks that transcribers set beside the words.
_NOISE = re.compile(r"\{(?:\w+ ?)+\}|\[(?:laughter|applause|inaudible|crosstalk|music|noise|pause)\]", re.IGNORECASE)


def prose(text: str) -> tuple[str, list[Block]]:
    """A plain text: title (empty if it has none) and blocks.

    Lines wrapped at one width are joined; short lines such as verse or addresses are kept apart. A
    short line by itself in capitals, or numbered like a chapter, is a heading.
    """
    text = characters(text)
    title = ""
    offset = 0
    if start := _GUTENBERG_START.search(text):
        # What stands around a Project Gutenberg text is its licence, the same in every book.
        if named := re.search(r"^Title:\s*(.+)$", text[:start.start()], re.M):
            title = tidy(named.group(1))
        end = _GUTENBERG_END.search(text, start.end())
        offset = text.count("\n", 0, start.end())
        text = text[start.end():end.start() if end else len(text)]
    blocks: list[Block] = []
    for first, lines in _paragraphs(text):
        line = first + offset + 1
        if level := _heading(lines):
            blocks.append(Block(text=tidy(" ".join(lines)), level=level, line=line))
        elif any(_BULLET.match(raw) for raw in lines[1:]) or _BULLET.match(lines[0]) and len(lines) > 1:
            blocks.extend(_items(lines, line))
        elif not all(_PAGE.match(raw) for raw in lines):
            blocks.extend(_flow(lines, line))
    if not title and blocks and (blocks[0].level or len(blocks[0].text) <= 80 and not blocks[0].text.endswith(".")):
        title = blocks[0].text
    return title, blocks


def verbatim(text: str) -> list[Block]:
    """Code, CSV, JSON: lines as they are, a block at every empty line or at most 40 lines."""
    blocks: list[Block] = []
    for first, lines in _paragraphs(characters(text)):
        for i in range(0, len(lines), 40):
            body = "\n".join(raw.rstrip() for raw in lines[i:i + 40])
            blocks.append(Block(text=body, glue=LINE if i else PARAGRAPH, line=first + i + 1))
    return blocks


class Turn(msgspec.Struct):
    """One turn of a conversation."""

    speaker: str = ""
    content: str = ""


def transcript(data: bytes) -> list[Block] | None:
    """The turns of a transcript in JSON, one a line as ``Speaker: words``; None if this is no transcript.

    A transcript is a list of objects that each name a speaker and what was said, by itself or under
    any key at the top: ``speaker``/``role``/``name`` and ``content``/``text``/``utterance``.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    candidates = [value, *(value.values() if isinstance(value, dict) else [])]
    for candidate in candidates:
        turns = _turns(candidate)
        if turns:
            return [Block(text=text, glue=LINE) for turn in turns if (text := _said(turn))]
    return None


def _turns(value: Any) -> list[Turn]:
    if not isinstance(value, list) or not value:
        return []
    turns: list[Turn] = []
    for entry in value:
        if not isinstance(entry, dict):
            return []
        who = next((entry[k] for k in ("speaker", "role", "name") if isinstance(entry.get(k), str)), None)
        said = next((entry[k] for k in ("content", "text", "utterance") if isinstance(entry.get(k), str)), None)
        if who is None or said is None:
            return []
        turns.append(Turn(who, said))
    return turns


def _said(turn: Turn) -> str:
    """A turn as a line, without the transcriber's marks and with spaces as they are written; '' if silent."""
    words = _NOISE.sub(" ", characters(turn.content).replace("\n", " "))
    words = re.sub(r"\s+", " ", words)
    words = re.sub(r" (?=[,;:.!?%](?:\s|$))| (?=['’](?:s|t|re|ve|ll|d|m)\b)", "", words)
    words = re.sub(r"(\w) - (\w)", r"\1-\2", words)
    words = re.sub(r'" ([^"]*?) ?"', r'"\1"', words)
    words = re.sub(r"^[\s,;:.!?-]+|(?<=[,;]) [,;](?= )", "", words)
    words = re.sub(r"([,;])(?: ?[,;])+", r"\1", words).strip()
    if not re.search(r"\w", words):
        return ""
    return f"{tidy(turn.speaker)}: {words}" if turn.speaker.strip() else words


def _paragraphs(text: str) -> list[tuple[int, list[str]]]:
    """Runs of lines that are not empty, with the index of their first line."""
    found: list[tuple[int, list[str]]] = []
    fresh = True
    for index, raw in enumerate(text.split("\n")):
        if not raw.strip():
            fresh = True
        elif fresh:
            found.append((index, [raw]))
            fresh = False
        else:
            found[-1][1].append(raw)
    return found


def _heading(lines: list[str]) -> int:
    """The level of a heading, or 0. Plain text has no marks, so only sure signs count."""
    joined = " ".join(raw.strip() for raw in lines)
    if len(lines) > 3 or len(joined) > 140 or joined.endswith((",", ";")):
        return 0
    if len(lines) == 2 and re.fullmatch(r"[=~-]{3,}", lines[1].strip()):
        return 0
    if re.match(r"(?i)(?:part|book|volume|parte|libro)\s+(?:[ivxlc]+|\d+|the|first|second|primera|segunda)\b", joined):
        return 1
    if re.match(r"(?i)(?:chapter|section|article|appendix|annex|cap[ií]tulo|secci[oó]n)\s+[\dA-Zivxlc]+", joined) and (
            len(joined) < 100 or re.match(r"(?i)cap[ií]tulo", joined)):
        return 2
    letters = [c for c in joined if c.isalpha()]
    if len(letters) >= 4 and len(lines) <= 2 and all(c.isupper() for c in letters) and len(joined) <= 90:
        return 2
    if len(lines) == 1 and re.match(r"\d{1,2}(?:\.\d{1,2}){0,3}\.?\s+[A-ZÁÉÍÓÚ][^.!?]{2,70}$", joined):
        return min(6, 2 + joined.split()[0].strip(".").count("."))
    return 0


def _items(lines: list[str], line: int) -> list[Block]:
    """A list: one block an item, wrapped lines joined to theirs."""
    items: list[tuple[int, str]] = []
    for index, raw in enumerate(lines):
        if _BULLET.match(raw) or not items:
            items.append((index, raw))
        else:
            items[-1] = (items[-1][0], items[-1][1] + " " + raw)
    return [Block(text=tidy(raw), glue=LINE if index else PARAGRAPH, line=line + index) for index, raw in items]


def _flow(lines: list[str], line: int) -> list[Block]:
    """Wrapped lines as one paragraph; lines that end early, such as verse, as lines."""
    if len(lines) > 1:
        longest = max(len(raw.strip()) for raw in lines)
        if longest < 50 or sum(len(raw.strip()) < longest * 0.6 for raw in lines[:-1]) * 2 > len(lines):
            return [Block(text=tidy(raw), glue=LINE if i else PARAGRAPH, line=line + i) for i, raw in enumerate(lines)]
    joined = lines[0].strip()
    for raw in lines[1:]:
        text = raw.strip()
        if re.search(r"[a-zà-ÿ]-$", joined) and text[:1].islower() and not re.search(r"-\w+-$", joined):
            # A text file that hyphenates is rare; one that breaks at a hyphen it has anyway is common.
            joined += text
        else:
            joined += " " + text
    return [Block(text=tidy(joined), line=line)]
