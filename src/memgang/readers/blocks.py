"""What every format becomes before it is cut: headings and paragraphs in reading order.

A format reader's whole job is ``bytes -> list[Block]``; the cutter's is ``list[Block] -> parts``. So
the same text read from a PDF and from a web page is cut the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

PARAGRAPH = "\n\n"
LINE = "\n"
SPACE = " "


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One heading, paragraph, list item, table or turn of a conversation, as clean text."""

    text: str
    level: int = 0  # of a heading, from 1; 0: not a heading
    glue: str = PARAGRAPH  # what stands between this block and the one before it
    page: int = 0  # from 1; 0: the document has no pages
    page_end: int = 0
    line: int = 0  # in the source, from 1; 0: unknown


def words_in(text: str) -> int:
    """How many words a text has, as white space divides it."""
    return len(text.split())


_ENDS = re.compile(r"[.!?:;…][\"'”’»)\]]*$")


def is_prose(text: str) -> bool:
    """Whether a block reads like running text: long enough, and stopped like a sentence."""
    return words_in(text) >= 20 and bool(_ENDS.search(text.rstrip()))


def without_title_page(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without the names, addresses and numbers that stand before the first paragraph.

    Only where a document is long and the front matter small against it, so a short note is never lost.
    """
    total = sum(words_in(block.text) for block in blocks)
    first = next((i for i, block in enumerate(blocks) if not block.level and is_prose(block.text)), 0)
    front = sum(words_in(block.text) for block in blocks[:first])
    if total < 300 or not first or front * 4 > total:
        return list(blocks)
    # A short sentence ("This section is normative.") stays; it ends in a stop, and an address does not.
    # A heading goes with the lines below it, if all of them go.
    kept: list[Block] = []
    follows = ""  # what the next block below was: text that went, or something that stays
    for block in reversed(blocks[:first]):
        if block.level and follows != "gone" or not block.level and _ENDS.search(block.text):
            kept.append(block)
            follows = "kept"
        elif not block.level:
            follows = "gone"
    return kept[::-1] + list(blocks[first:])


def without_bare_headings(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without headings that have nothing under them, neither text nor a lower heading."""
    kept: list[Block] = []
    below = 0  # level of the heading that follows; 0: text follows
    follows = False
    for block in reversed(blocks):
        if not block.level:
            kept.append(block)
            follows, below = True, 0
        elif follows and (not below or block.level < below):
            kept.append(block)
            below = block.level
    return kept[::-1]
