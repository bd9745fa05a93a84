"""Cut blocks into parts by content, so that an edit moves few borders.

The method is two-threshold chunking (Eshghi and Tang, "A Framework for Analyzing and Improving
Content-Based Chunking Algorithms", HP Labs 2005), moved from bytes to paragraphs. Walking through the
document, a border may fall in front of any block once the running part is long enough:

1. in front of a high heading from ``MIN`` words on, and of any heading from ``HEAD`` words on;
2. in front of a paragraph from ``LOW`` words on, if the *main* criterion holds there;
3. if the part would grow beyond ``HIGH`` words, at the last place where the *backup* criterion held,
   else right here.

The main criterion is that a digest of the last words before the border has a certain remainder; the
backup criterion only that a paragraph ends there, with at least ``HEAD`` words before it. So whether a place is
a border depends on the text around it and on where the part began; after an insertion the old borders are met
again as soon as one falls on a place that was one before: at the next heading, or within a few parts.
A cutter that counts words would move every border behind the insertion.

A paragraph longer than ``LONG`` words is first divided at sentences, which are then cut like
paragraphs and joined by a space. The digest sees letters and digits in lower case only, so quotes,
hyphens and white space, which formats write differently, do not move borders.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from memgang.model import Part
from memgang.readers.blocks import LINE, PARAGRAPH, SPACE, Block, words_in
from memgang.sentences import split

MIN = 80  # words: a smaller part is joined with a neighbour
HEAD = 260  # words: from here on any heading is a border
LOW = 330  # words: from here on a paragraph's end may be a border
HIGH = 600  # words: a part does not grow beyond this if it can be helped
MAX = 900  # words: never beyond this, unless one table or sentence alone is
LONG = 300  # words: a longer paragraph is divided at sentences
DIVISOR = 2  # one end of a paragraph in two is a border
DIGEST_WORDS = 6

assert MIN < HEAD < LOW < HIGH < MAX, "the thresholds must rise, or rule 3 comes before rule 2"

_LETTERS = re.compile(r"[^\W_]+")


def cut(blocks: Iterable[Block]) -> tuple[Part, ...]:
    """Cut a document's blocks into parts. Pure: the same blocks give the same parts.

    Every word of the blocks is in exactly one part, in order. A heading stands as a ``## `` line above
    its text, the same for every level, so that formats that number levels differently agree; the
    levels are in ``headings``.
    """
    pieces = [piece for block in blocks if block.text.strip() for piece in _divided(block)]
    groups = _joined(_groups(pieces))
    total = sum(words_in(piece.text) for piece in pieces) or 1
    parts: list[Part] = []
    path: list[tuple[int, str]] = []
    before = 0
    for group in groups:
        size = sum(words_in(piece.text) for piece in group)
        first_text = next((i for i, piece in enumerate(group) if not piece.level), len(group))
        at_start: tuple[str, ...] | None = None
        for i, piece in enumerate(group):
            if piece.level:
                path = [entry for entry in path if entry[0] < piece.level] + [(piece.level, piece.text)]
            if i == min(first_text, len(group) - 1):
                at_start = tuple(text for _, text in path)
        pages = [page for piece in group for page in (piece.page, piece.page_end or piece.page) if page]
        parts.append(Part(
            text=render(group), pos=round((before + size / 2) / total, 4), headings=at_start or (),
            page=min(pages, default=0), page_end=max(pages, default=0),
            line=next((piece.line for piece in group if piece.line), 0),
        ))
        before += size
    return tuple(parts)


def render(blocks: Sequence[Block]) -> str:
    """The text of some blocks as a part holds it."""
    out: list[str] = []
    for block in blocks:
        if out:
            out.append(PARAGRAPH if block.level else block.glue)
        out.append(f"## {block.text}" if block.level else block.text)
    # Behind a heading there is always an empty line, whatever the block would like.
    return re.sub(r"(?m)^(## .*)\n(?=[^\n])", r"\1\n\n", "".join(out))


def _divided(block: Block) -> list[Block]:
    """A block, or its sentences (or lines, or words as the last resort) if it is too long to be one."""
    if block.level or words_in(block.text) <= LONG:
        return [block]
    pieces = split(block.text)
    # Sentence splitting leaves out headings and rows, which prose should never hold. If words went
    # missing all the same, lines and then words are the safe way.
    if words_in(" ".join(pieces)) != words_in(block.text) or block.text.lstrip().startswith("|"):
        lines = block.text.split("\n")
        glue = LINE if len(lines) > 1 else SPACE
        pieces = lines if len(lines) > 1 else [block.text]
    else:
        glue = SPACE
    out: list[Block] = []
    for piece in pieces:
        words = piece.split() if words_in(piece) > HIGH else None
        for text in [piece] if words is None else [" ".join(words[i:i + LONG]) for i in range(0, len(words), LONG)]:
            out.append(Block(text=text, glue=glue if out else block.glue, page=block.page, page_end=block.page_end,
                             line=block.line))
    return out


def _digest(text: str) -> int:
    """A number that depends on the last words of a text and not on how they are written."""
    words = _LETTERS.findall(text.casefold())[-DIGEST_WORDS:]
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def _groups(pieces: Sequence[Block]) -> list[list[Block]]:
    """Divide the pieces into runs by the three rules at the top of this file."""
    groups: list[list[Block]] = []
    run: list[Block] = []
    size = 0
    backup = 0  # how many pieces of the run stand before the last place where it could be cut
    for piece in pieces:
        length = words_in(piece.text)
        if run and not run[-1].level:
            if _border(piece, run[-1], size):
                groups.append(run)
                run, size, backup = [], 0, 0
            elif size + length > HIGH and size >= MIN:
                at = backup or len(run)
                groups.append(run[:at])
                run, backup = run[at:], 0
                size = sum(words_in(kept.text) for kept in run)
            elif size >= HEAD and piece.glue != SPACE:
                backup = len(run)
        run.append(piece)
        size += length
    if run:
        groups.append(run)
    return groups


def _border(piece: Block, last: Block, size: int) -> bool:
    """Rules 1 and 2: whether the place in front of ``piece`` is a border by itself."""
    if piece.level:
        return size >= (MIN if piece.level <= 2 else HEAD)
    if piece.glue == SPACE:
        # Inside a paragraph only late, and rarely: better to keep a paragraph whole.
        return size >= LOW + MIN and _digest(last.text) % (DIVISOR * 4) == 0
    return size >= LOW and _digest(last.text) % DIVISOR == 0


def _joined(groups: list[list[Block]]) -> list[list[Block]]:
    """Join a part below ``MIN`` with the one before it, or the one behind it, where ``MAX`` allows."""
    out: list[list[Block]] = []
    for group in groups:
        size = sum(words_in(piece.text) for piece in group)
        last = sum(words_in(piece.text) for piece in out[-1]) if out else 0
        only_headings = bool(out) and all(piece.level for piece in out[-1])
        if out and (only_headings or min(size, last) < MIN) and size + last <= MAX:
            out[-1] = out[-1] + group
        else:
            out.append(group)
    return out
