"""Lines on pages -> blocks: what is furniture, what is a note, where paragraphs begin. Pure.

A PDF holds letters at places, and nothing of this. Everything here is read off positions and sizes:
what stands at the same place of many pages is furniture; what is smaller than the text, at the foot, is
a note; a paragraph begins where a line is indented or the gap above it is wide; a heading is a short
line that is larger or bolder than the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from memgang.readers.blocks import LINE, PARAGRAPH, Block, words_in
from memgang.readers.clean import characters, tidy

_NUMBER = re.compile(r"^[\W_]*(?:page\s+)?(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:of|/)\s*\d{1,4})?[\W_]*$", re.IGNORECASE)
# At the end of a line only, and more dots than an ellipsis behind a full stop has.
_LEADERS = re.compile(r"(?:(?:\.\s?){5,}|(?:…\s?){2,})(?:\d{1,4}|[ivxlc]{1,7})?\s*$", re.IGNORECASE)
_STOPPED = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
_BULLET = re.compile(r"^(?:[•▪◦‣●–—]\s|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})\)\s)")
# pdfium writes one of these where a line ends in a hyphen that belongs to the break, not to the word.
_SOFT = "\x02\ufffe\u00ad"


class Line(msgspec.Struct, array_like=True):
    """One line as the worker prints it. Lengths are points from the bottom left of the page."""

    text: str
    x0: float
    x1: float
    y0: float
    y1: float
    size: float
    bold: int
    note: int  # begins with a raised number


class Page(msgspec.Struct):
    """One page as the worker prints it."""

    w: float
    h: float
    images: int
    lines: list[Line]


class _Open(msgspec.Struct):
    """A paragraph that still grows."""

    lines: list[str]
    page: int
    page_end: int
    level: int = 0
    glue: str = PARAGRAPH


def blocks_of(pages: Sequence[Page]) -> list[Block]:
    """The blocks of a document in reading order, footnotes at its end under a heading of their own."""
    kept = [(number, _on_page(page)) for number, page in enumerate(pages, 1)]
    furniture = running_heads(pages)
    if kept:
        # The first page often has the running head in pieces, lower down, and larger.
        kept[0] = 1, [line for line in kept[0][1] if not is_running_head(line, pages[0], furniture)]
    kept = [(number, [line for line in lines if not _is_furniture(line, pages[number - 1], furniture)])
            for number, lines in kept]
    kept = [(number, [] if _is_contents(lines) else [line for line in lines if not _LEADERS.search(line.text)])
            for number, lines in kept]
    size = _body_size(line for _, lines in kept for line in lines)
    words = _vocabulary(line.text for _, lines in kept for line in lines)
    body: list[tuple[int, list[Line]]] = []
    notes: list[Block] = []
    for number, lines in kept:
        text, foot = _without_notes(lines, size, pages[number - 1].h, bool(notes) and notes[-1].page >= number - 1)
        body.append((number, text))
        notes.extend(_note_blocks(foot, number, words))
    levels = _heading_sizes(body, size)
    blocks = [_closed(open_, words) for open_ in _paragraphs(body, size, levels)]
    if notes:
        blocks += [Block(text="Notes", level=1, page=notes[0].page, page_end=notes[-1].page), *notes]
    return [block for block in blocks if block.text]


def _on_page(page: Page) -> list[Line]:
    """The lines a reader of the page would see; a raised number by itself is joined with its note."""
    seen = [line for line in page.lines if line.x0 < page.w and line.x1 > 0 and line.y0 < page.h and line.y1 > 0]
    out: list[Line] = []
    for line in seen:
        mark = out[-1] if out else None
        if mark is not None and re.fullmatch(r"\d{1,3}", mark.text) and mark.size < 0.85 * line.size \
                and line.y0 < mark.y1 and mark.y0 < line.y1 + 1 and 0 <= line.x0 - mark.x1 < 2 * line.size:
            out[-1] = msgspec.structs.replace(line, note=1, x0=mark.x0)
        else:
            out.append(line)
    return out


# ── furniture ──────────────────────────────────────────────────────────────────────────────────


def _key(line: Line) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", line.text.casefold()).strip()


def _outer(line: Line, page: Page) -> bool:
    return line.y0 > page.h * 0.88 or line.y1 < page.h * 0.09 or line.x1 < page.w * 0.05 or line.x0 > page.w * 0.95


def _plain(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text.casefold()))


def running_heads(pages: Sequence[Page]) -> set[str]:
    """Lines that stand in the margin of at least three pages (two of a short document), numbers aside."""
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_key(line) for line in page.lines if _outer(line, page)})
    least = 3 if len(pages) > 4 else 2
    return {key for key, count in seen.items() if count >= least}


def is_running_head(line: Line, page: Page, furniture: set[str]) -> bool:
    """Whether a line in the upper part of a page says only what a running head of the document says."""
    words = _plain(line.text)
    if line.y0 <= page.h * 0.8 or not (any(len(word) > 3 for word in words) or _NUMBER.match(line.text)):
        return False  # "of the" is part of many titles
    return any(words <= _plain(key) for key in furniture)


def _is_furniture(line: Line, page: Page, furniture: set[str]) -> bool:
    if not _outer(line, page):
        return False
    return bool(_key(line) in furniture or _NUMBER.match(line.text) or line.size < 6 or "VerDate" in line.text
                or re.search(r"<?/?GPH>", line.text))


def _is_contents(lines: Sequence[Line]) -> bool:
    """Whether a page is a table of contents: leaders in a third of its lines."""
    return len(lines) > 3 and sum(bool(_LEADERS.search(line.text)) for line in lines) * 3 >= len(lines)


# ── sizes ──────────────────────────────────────────────────────────────────────────────────────


def _body_size(lines: Iterable[Line]) -> float:
    """The size in which most letters are set."""
    letters: Counter[float] = Counter()
    for line in lines:
        letters[round(line.size * 2) / 2] += len(line.text)
    return letters.most_common(1)[0][0] if letters else 10.0


def _without_notes(lines: list[Line], size: float, height: float, before: bool) -> tuple[list[Line], list[Line]]:
    """The text and the notes of a page.

    Notes are runs of small lines with a raised number in front of some. What stands above the first
    number of a run goes on from the page before, if there were notes (``before``); so does a small run
    without numbers at the very foot of a page whose other lines are not small.
    """
    numbered = [line.size for line in lines if line.note]
    largest = min(0.93 * size, (max(numbered) if numbered else 0.85 * size) + 0.3)
    text: list[Line] = []
    foot: list[Line] = []
    runs: list[list[Line]] = []
    for line in lines:
        small = line.size <= largest and line.y0 < height * 0.8
        if runs and (runs[-1][-1].size <= largest and runs[-1][-1].y0 < height * 0.8) == small:
            runs[-1].append(line)
        else:
            runs.append([line])
    for run in runs:
        small = run[0].size <= largest and run[0].y0 < height * 0.8
        number = next((i for i, line in enumerate(run) if line.note), None)
        if not small:
            text.extend(run)
        elif number is not None:
            start = 0 if before or number and run[0].y0 < height * 0.4 else number
            text.extend(run[:start])
            foot.extend(run[start:])
        elif (before or foot) and run[0].y0 < height * 0.4 and len(run) * 2 < len(lines):
            foot.extend(run)
        elif run is runs[-1] and run[0].y0 < height * 0.25 and len(run) * 3 < len(lines):
            foot.extend(run)
        else:
            text.extend(run)
    return text, foot


def _heading_sizes(body: Sequence[tuple[int, list[Line]]], size: float) -> list[float]:
    """The sizes of headings, largest first, for their levels."""
    sizes: Counter[float] = Counter()
    for _, lines in body:
        for line in lines:
            if line.size > size * 1.12 and words_in(line.text) <= 20:
                sizes[round(line.size)] += 1
    return sorted(sizes, reverse=True)[:4]


def _level(line: Line, size: float, levels: Sequence[float]) -> int:
    """The level of a heading by its looks, or 0."""
    text = line.text.strip()
    if words_in(text) > 20 or not re.search(r"[^\W\d_]{2,}", text):
        return 0
    if text.endswith((",", ";")) and not line.bold:
        return 0
    if line.size > size * 1.12 and round(line.size) in levels:
        return min(levels.index(round(line.size)) + 1, 4)
    if line.bold and line.size > size * 0.8:
        # Bold alone is the weakest sign, so it is never a high heading.
        return max(3, min(len(levels) + 1, 5))
    return 0


# ── paragraphs ─────────────────────────────────────────────────────────────────────────────────


def _columns(lines: list[Line]) -> list[list[Line]]:
    """Runs of lines that go down the page without a jump back up: a column, or what is set as one."""
    runs: list[list[Line]] = []
    for line in lines:
        if runs and line.y0 < runs[-1][-1].y0 + 2 and line.x0 < runs[-1][-1].x1 and line.x1 > runs[-1][-1].x0:
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


def _paragraphs(body: Sequence[tuple[int, list[Line]]], size: float, levels: Sequence[float]) -> list[_Open]:
    done: list[_Open] = []
    for number, lines in body:
        # Headings found once on a page are also what a running head looks like: see running_heads.
        for run in _columns(lines):
            left = _left(run)
            right = max(line.x1 for line in run)
            for i, line in enumerate(run):
                above = run[i - 1] if i else None
                level = _level(line, size, levels)
                last = done[-1] if done else None
                if last is None or _begins(line, above, last, level, left, right, size):
                    glue = LINE if _BULLET.match(line.text) and last is not None and not last.level else PARAGRAPH
                    done.append(_Open(lines=[line.text], page=number, page_end=number, level=level, glue=glue))
                else:
                    last.lines.append(line.text)
                    last.page_end = number
    return done


def _left(run: Sequence[Line]) -> float:
    """The left edge of a column: the commonest place where its lines begin, leaning left."""
    starts = Counter(round(line.x0) for line in run)
    most = max(starts.values())
    return min(x for x, count in starts.items() if count * 3 >= most)


def _begins(line: Line, above: Line | None, last: _Open, level: int, left: float, right: float, size: float) -> bool:
    """Whether a line begins something new."""
    if level or last.level:
        # A heading goes on over several lines of the same looks.
        close = above is not None and 0 <= above.y0 - line.y1 < line.size * 1.1
        return not (level and level == last.level and close and len(last.lines) < 8
                    and not re.match(r"^(?:[IVX]+|[A-Z]|\d+(?:\.\d+)*|[a-z])\.\s", line.text))
    indented = left + 0.4 * size < line.x0 < left + 6 * size
    if _BULLET.match(line.text):
        # "(1)" is also met inside a sentence: then the line above is full, and this one not indented.
        short = above is None or above.x1 < left + (right - left) * 0.9
        if line.text[:1] in "•▪◦‣●" or _STOPPED.search(last.lines[-1]) and (indented or short):
            return True
    if re.match(r"[A-Z][A-Z ]{3,40}:(?:\s|$)", line.text) and _STOPPED.search(last.lines[-1]):
        return True  # a label in capitals, such as "SUMMARY:"
    if above is None:
        # At the head of a column or page: the sentence goes on unless it was stopped and this is indented.
        if not _STOPPED.search(last.lines[-1]):
            return bool(indented and line.text[:1].isupper() and len(last.lines) == 1 and words_in(last.lines[0]) < 6)
        return indented
    gap = above.y0 - line.y1
    if gap > 0.75 * size:
        return True
    if indented and above.x0 <= left + 0.4 * size:
        return True
    if indented and line.text[:1].isupper() and _STOPPED.search(above.text):
        return True
    # Back at the margin after an indented block that is more than one line.
    return bool(_STOPPED.search(above.text) and above.x1 < left + (right - left) * 0.7 and line.text[:1].isupper()
                and gap > 0.3 * size)


def _note_blocks(lines: Sequence[Line], page: int, words: set[str]) -> list[Block]:
    notes: list[_Open] = []
    for line in lines:
        if line.note or not notes:
            number = re.sub(r"^(\d{1,3})(?=\D)", "", line.text) if line.note else line.text
            notes.append(_Open(lines=[number], page=page, page_end=page))
        else:
            notes[-1].lines.append(line.text)
    return [_closed(note, words) for note in notes]


# ── words ──────────────────────────────────────────────────────────────────────────────────────


def _vocabulary(lines: Iterable[str]) -> set[str]:
    """All words of the document that stand inside a line, hyphened ones too."""
    found: set[str] = set()
    for line in lines:
        found.update(word.casefold() for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", line)[1:-1])
    return found


def join_lines(lines: Sequence[str], words: set[str]) -> str:
    """Lines as running text; a word broken at the end of a line is made whole again.

    A hyphen at the end of a line is dropped if the document knows the whole word elsewhere, kept if it
    knows the hyphened one, and else dropped only before a small letter.
    """
    text = ""
    for raw in lines:
        line = raw.strip()
        if not text:
            text = line
            continue
        match = re.search(rf"([^\W\d_]+)([-{_SOFT}])$", text)
        follower = re.match(r"([^\W\d_]+)", line)
        if match and follower:
            head, tail = match.group(1), follower.group(1)
            whole, hyphened = (head + tail).casefold(), f"{head}-{tail}".casefold()
            keep = hyphened in words and whole not in words or whole not in words and (
                tail[:1].isupper() or re.search(rf"[^\W\d_]-{re.escape(head)}[-{_SOFT}]$", text) is not None)
            text = text[:-1] + ("-" if keep else "") + line
        elif re.search(rf"[-–/@{_SOFT}]$", text) and not re.search(r"\s[-–]$", text):
            text = (text[:-1] + "-" if text[-1] in _SOFT else text) + line
        else:
            text = f"{text} {line}"
    return text


def _closed(open_: _Open, words: set[str]) -> Block:
    text = tidy(characters(join_lines(open_.lines, words)))
    text = re.sub(r"^[•▪◦‣●]\s*", "- ", text)
    return Block(text=text, level=open_.level, glue=open_.glue, page=open_.page, page_end=open_.page_end)
