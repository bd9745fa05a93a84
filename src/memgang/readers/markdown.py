"""Markdown -> blocks, for reading and not for rendering.

What a site generator or a browser would use is taken out: front matter, comments, includes, attribute
lists, anchors, images, link targets, and lists that are nothing but links. HTML inside Markdown (tables,
lists) goes through the HTML walk.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from memgang.readers.blocks import LINE, PARAGRAPH, Block
from memgang.readers.clean import characters, tidy

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_LIQUID = re.compile(r"\{%.*?%\}|\{\{.*?\}\}")
_KRAMDOWN = re.compile(r"\{::?[^{}\n]*\}|\{#[\w-]+\}")
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:\s+|(?=<a\s))(.*?)\s*#*\s*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)\s*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_RULE = re.compile(r"^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$")
_ITEM = re.compile(r"^(\s*)([-*+]|\d{1,3}[.)]|[a-z][.)])\s+(.*)$")
_PIPE_RULE = re.compile(r"^(?=.*\|)\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_LINK_DEF = re.compile(r"^ {0,3}\[(?!\^)[^\]]+\]:\s+\S+")
_NOTE_DEF = re.compile(r"^ {0,3}\[\^([^\]]+)\]:\s*(.*)$")
_HTML_OPEN = re.compile(r"<(table|ol|ul|dl|h[1-6])\b", re.IGNORECASE)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]"  # text, with brackets one deep
                   r"\(\s*<?[^()\s]*(?:\([^()]*\)[^()\s]*)*>?(?:\s+[\"'][^)]*[\"'])?\s*\)")  # target, title
_HARD_BREAK = "\x01"


def read(text: str) -> tuple[str, list[Block]]:
    """The title of a Markdown text (front matter, else its first heading, else empty) and its blocks."""
    text = characters(text)
    title = ""
    if front := _FRONT.match(text):
        if named := re.search(r"^title:\s*[\"']?(.*?)[\"']?\s*$", front.group(1), re.M):
            title = tidy(named.group(1))
        text = _blank(front) + text[front.end():]
    text = _COMMENT.sub(_blank, text)
    text = _LIQUID.sub(_blank, text)
    text = _KRAMDOWN.sub("", text)
    reader = _Reader(text.split("\n"))
    blocks = _without_navigation(list(reader.blocks()))
    if reader.notes:
        blocks += [Block(text="Notes", level=1), *reader.notes]
    if not title:
        first = min((block.level for block in blocks if block.level), default=0)
        title = next((block.text for block in blocks if block.level and block.level == first), "")
    return inline(title), [block for block in (_shown(block) for block in blocks) if block.text]


def inline(text: str) -> str:
    """A line of Markdown as plain words."""
    # Code first: what stands in it is meant as it is.
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match.group(1) if match.lastindex else match.group())
        return f"\x03{len(kept) - 1}\x04"

    text = re.sub(r"`+([^`]+)`+", keep, text)
    text = re.sub(r"\\([\\`*_{}\[\]()#+.!|<>~-])", keep, text)
    text = re.sub(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])", "", text)
    text = re.sub(r"\[\^[^\]]+\]", "", text)
    text = _LINK.sub(r"\1", text)
    text = re.sub(r"\[([^\[\]]+)\]\[[^\[\]]*\]", r"\1", text)
    text = re.sub(r"<((?:https?|ftp|mailto):[^>\s]+|[\w.+-]+@[\w.-]+)>", keep, text)
    text = re.sub(r"<sup>\s*\[?\d{1,3}\]?\s*</sup>", "", text, flags=re.IGNORECASE)
    text = re.sub(r"<br\s*/?>", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    for mark in (r"\*\*\*", r"\*\*", r"\*", "~~"):
        text = re.sub(rf"(?<!\w){mark}(?=\S)(.+?)(?<=\S){mark}|{mark}(?=\S)(.+?)(?<=\S){mark}(?!\w)",
                      lambda m: m.group(1) or m.group(2), text)
    text = re.sub(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    text = re.sub(r"(?<!\S)\*{1,3}|\*{1,3}(?!\S)", "", text)
    for index in range(len(kept) - 1, -1, -1):
        text = text.replace(f"\x03{index}\x04", kept[index])
    return tidy(html.unescape(text))


def _blank(match: re.Match[str]) -> str:
    """Nothing but the line ends, so that line numbers stay true."""
    return "\n" * match.group().count("\n")


def _shown(block: Block) -> Block:
    """The block with its inline marks taken off. Rows, code and HTML come clean already."""
    if block.text.startswith("\x02"):
        return Block(text=block.text[1:], level=block.level, glue=block.glue, line=block.line)
    pieces = [inline(piece) for piece in block.text.split(_HARD_BREAK)]
    pieces = [piece for piece in pieces if piece]
    # Lines broken by hand that read like lines (an address, names) stay lines.
    short = len(pieces) > 1 and all(len(piece) < 80 and not piece.endswith((",", ";")) for piece in pieces)
    text = ("\n" if short else " ").join(pieces)
    mark = re.match(r"^((?:[-*+]|\d{1,3}[.)]|[a-z][.)]) )", block.text)
    if mark and not text.startswith(mark.group(1)[:1]):
        text = f"{mark.group(1)}{text}" if text else ""
    return Block(text=text, level=block.level, glue=block.glue, line=block.line)


def _only_links(text: str) -> bool:
    """Whether nothing but links, and what separates them, stands in a text."""
    if not re.search(r"\]\([^)]*\)|<https?:[^>]+>", text):
        return False
    rest = re.sub(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\([^)]*\)|<https?:[^>]+>", "", text)
    return not re.search(r"[^\W\d_]{2,}", rest)


def _without_navigation(blocks: list[Block]) -> list[Block]:
    """The blocks without runs of links to elsewhere, which are a table of contents or a menu.

    Three in a row are one; so is a single one that links inside the page or to a neighbouring page.
    """
    flags = [not block.level and not block.text.startswith("\x02") and _only_links(block.text) for block in blocks]
    kept: list[Block] = []
    for i, block in enumerate(blocks):
        if flags[i]:
            start, end = i, i
            while start and flags[start - 1]:
                start -= 1
            while end + 1 < len(blocks) and flags[end + 1]:
                end += 1
            inside = re.search(r"\]\((?:#|[^)]*\.(?:md|html?)\b)", block.text) and not re.match(r"^[-*+\d]", block.text)
            if end - start >= 2 or inside:
                continue
        kept.append(block)
    return kept


class _Reader:
    """One pass over the lines. Lives as long as one text is read."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0
        self.notes: list[Block] = []

    def blocks(self) -> Iterator[Block]:
        """The blocks, marks still in; what is finished text begins with ``\\x02``."""
        run: list[str] = []
        first = 0

        def paragraph() -> Iterator[Block]:
            if text := "".join(run).strip().strip(_HARD_BREAK).strip():
                yield Block(text=text, line=first + 1)
            run.clear()

        lines = self._lines
        while self._at < len(lines):
            i, raw = self._at, lines[self._at]
            line = re.sub(r"</?(?:div|span|center|section|p|font|small)\b[^<>]*>", "", raw)
            line = re.sub(r"<a\s+(?:name|id)=[^>]*>\s*(?:</a>)?|</a>", "", line)
            line = re.sub(r"^\s*(?:<br\s*/?>\s*)+$", "", line)
            line = re.sub(r"^\s*>\s?", "", line) if re.match(r"^\s{0,3}>", line) else line
            if not line.strip():
                yield from paragraph()
                self._at += 1
            elif fence := _FENCE.match(line):
                yield from paragraph()
                yield from self._code(fence.group(1))
            elif _HTML_OPEN.search(line):
                yield from paragraph()
                yield from self._html()
            elif heading := _ATX.match(line):
                yield from paragraph()
                yield Block(text=heading.group(2), level=len(heading.group(1)), line=i + 1)
                self._at += 1
            elif run and _SETEXT.match(line) and not run[0].lstrip().startswith("|"):
                yield Block(text="".join(run).strip(" " + _HARD_BREAK), level=1 if "=" in line else 2, line=first + 1)
                run.clear()
                self._at += 1
            elif _RULE.match(line) or _LINK_DEF.match(line):
                yield from paragraph()
                self._at += 1
            elif note := _NOTE_DEF.match(line):
                yield from paragraph()
                self._at += 1
                self.notes.append(Block(text=f"{note.group(2)} {self._rest()}".strip(), line=i + 1))
            elif "|" in line and i + 1 < len(lines) and _PIPE_RULE.match(lines[i + 1]) and "-" in lines[i + 1]:
                yield from paragraph()
                yield from self._table()
            elif _ITEM.match(line) and (not run or not re.match(r"^\s*[a-z][.)]|^\s*\d{2,3}[.)]", line)):
                yield from paragraph()
                yield from self._list()
            else:
                if not run:
                    first = i
                run.append(line.strip() + (_HARD_BREAK if re.search(r"(?: {2,}|\\|<br\s*/?>)\s*$", line) else " "))
                self._at += 1
        yield from paragraph()

    def _code(self, fence: str) -> Iterator[Block]:
        first = self._at
        self._at += 1
        while self._at < len(self._lines) and not self._lines[self._at].strip().startswith(fence):
            self._at += 1
        body = "\n".join(self._lines[first + 1:self._at])
        self._at += 1
        if body.strip():
            yield Block(text="\x02" + body, line=first + 1)

    def _html(self) -> Iterator[Block]:
        """A table, list or heading in HTML, to the end of the outermost element."""
        first, depth = self._at, 0
        while self._at < len(self._lines):
            line = self._lines[self._at]
            depth += len(re.findall(r"<(?:table|ol|ul|dl|h[1-6])\b", line, re.I))
            depth -= len(re.findall(r"</(?:table|ol|ul|dl|h[1-6])\s*>", line, re.I))
            self._at += 1
            if depth <= 0 or self._at - first > 2000:
                break
        markup = "\n".join(self._lines[first:self._at])
        # Links and emphasis inside the cells may be Markdown.
        markup = re.sub(r"<(https?:[^>\s]+)>", r"\1", markup)
        from memgang.readers.htmlpage import (
            fragment,  # here: most Markdown has none, and its parser takes long to import
        )

        for block in fragment(markup):
            text = "\n".join(inline(row) if not row.startswith("|") else row for row in block.text.split("\n"))
            text = re.sub(r"\[([^\[\]]*)\]\([^)\s]*\)", r"\1", text)
            if block.text.startswith("- ") and not text.startswith("- "):
                text = f"- {text}"
            yield Block(text="\x02" + text, level=block.level, glue=block.glue, line=first + (block.line or 1))

    def _table(self) -> Iterator[Block]:
        first = self._at
        rows: list[list[list[Block]]] = []
        while self._at < len(self._lines) and "|" in self._lines[self._at]:
            line = self._lines[self._at].strip()
            self._at += 1
            if _PIPE_RULE.match(line):
                continue
            cells = re.split(r"(?<!\\)\|", line.removeprefix("|").removesuffix("|"))
            rows.append([self._cell(cell, self._at) for cell in cells])
        from memgang.readers.htmlpage import rows_to_blocks

        for block in rows_to_blocks(rows, first + 1):
            yield Block(text="\x02" + block.text, level=block.level, glue=block.glue, line=block.line)

    def _cell(self, cell: str, line: int) -> list[Block]:
        pieces = [inline(re.sub(r"^(?:\s|&nbsp;)*-\s", "", piece)) for piece in re.split(r"(?i)<br\s*/?>", cell)]
        return [Block(text=piece, line=line) for piece in pieces if piece]

    def _list(self) -> Iterator[Block]:
        """A list: one block an item, whatever its depth."""
        fresh = True
        while self._at < len(self._lines):
            item = _ITEM.match(self._lines[self._at])
            if item is None or _RULE.match(self._lines[self._at]):
                break
            first = self._at
            self._at += 1
            body = item.group(3)
            if re.search(r" {2,}$|<br\s*/?>\s*$", item.group(3)):
                body += _HARD_BREAK
            mark = "-" if item.group(2) in "-*+" else item.group(2)
            yield Block(text=f"{mark} {body.strip()} {self._rest()}".strip(), line=first + 1,
                        glue=PARAGRAPH if fresh else LINE)
            fresh = False
            ahead = self._at
            while ahead < len(self._lines) and not self._lines[ahead].strip():
                ahead += 1
            if ahead < len(self._lines) and _ITEM.match(self._lines[ahead]) and not _RULE.match(self._lines[ahead]):
                self._at = ahead

    def _rest(self) -> str:
        """The wrapped lines of an item or a note."""
        found: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if (not line.strip() or _ITEM.match(line) or _ATX.match(line) or _NOTE_DEF.match(line) or _FENCE.match(line)
                    or _HTML_OPEN.search(line) or re.match(r"^\s*</?div", line)):
                break
            found.append(line.strip())
            self._at += 1
        return " ".join(found)
