"""PDF -> blocks: asks pdfium for the lines, and lays them out.

Native code reads the file in this process; whoever reads files from strangers does it in a worker process with
limits (`engines.calls`), as a gang does.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from memgang.errors import ReadError
from memgang.readers import pdf_lines
from memgang.readers.blocks import Block, words_in
from memgang.readers.clean import tidy
from memgang.readers.layout import Page, blocks_of, is_running_head, running_heads

WORDS_ON_IMAGE = 10  # a page with an image and fewer words than this is a scan with a stamp on it


class _Answer(msgspec.Struct):
    error: str = ""
    title: str = ""
    pages: list[Page] = []
    broken: int = 0
    all: int = 0


def read(path: Path, source: str) -> tuple[str, list[Block], list[str]]:
    """Title, blocks and notes of a PDF.

    Raises:
        ReadError: encrypted, damaged, or without text.
    """
    answer = msgspec.convert(pdf_lines.extract(str(path)), _Answer)
    if answer.error:
        raise ReadError(source, answer.error)
    scans = [i for i, page in enumerate(answer.pages, 1) if page.images and _words(page) < WORDS_ON_IMAGE]
    with_text = [i for i, page in enumerate(answer.pages, 1) if i not in set(scans) and _words(page)]
    if not with_text:
        raise ReadError(source, _textless(len(answer.pages), len(scans)))
    for i in scans:
        answer.pages[i - 1].lines = []
    notes: list[str] = []
    if scans:
        notes.append(f"{len(scans)} of {len(answer.pages)} pages hold only images; OCR is needed for them")
    if answer.broken:
        notes.append(f"{answer.broken} of {len(answer.pages)} pages are damaged and were left out")
    if answer.all > len(answer.pages):
        notes.append(f"only the first {len(answer.pages):,} of {answer.all:,} pages were read")
    blocks = blocks_of(answer.pages)
    return tidy(answer.title) or _first_big_line(answer.pages), blocks, notes


def _words(page: Page) -> int:
    return sum(words_in(line.text) for line in page.lines
               if line.x0 < page.w and line.y0 < page.h and line.y1 > 0 and line.x1 > 0 and line.x1 < page.w * 1.5)


def _textless(pages: int, scans: int) -> str:
    some = "1 page holds" if pages == 1 else f"{pages} pages hold"
    if scans:
        return f"no text: {some} only {'an image' if scans == 1 else 'images'}; OCR is needed"
    return f"no text: {'its only page is' if pages == 1 else f'all {pages} pages are'} empty"


def _first_big_line(pages: list[Page]) -> str:
    """What is set largest on the first page with text, if it reads like a title; else empty."""
    heads = running_heads(pages)
    for page in pages:
        lines = [line for line in page.lines if words_in(line.text) and line.x1 <= page.w and line.y0 < page.h * 0.92
                 and not is_running_head(line, page, heads)]
        if not lines:
            continue
        largest = max(line.size for line in lines)
        usual = sorted(line.size for line in lines)[len(lines) // 2]
        big = [line for line in lines if line.size > largest * 0.95]
        if (largest > usual * 1.15 or len(big) <= len(lines) * 0.6) and len(big) <= 8:
            title = tidy(" ".join(line.text for line in big))
            if 1 <= words_in(title) <= 40 and any(c.isalpha() for c in title):
                return title
        return ""
    return ""
