"""PDF -> blocks: asks a process of its own for the lines, and lays them out.

The process is ended when its time is up, so a file that loops or crashes the parser costs that time and
a ReadError, never the caller.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from memgang.errors import ReadError
from memgang.readers.blocks import Block, words_in
from memgang.readers.clean import tidy
from memgang.readers.layout import Page, blocks_of, is_running_head, running_heads

MEMORY_MB = 2_048  # address space of the worker; pdfium alone maps about 200
WORDS_ON_IMAGE = 10  # a page with an image and fewer words than this is a scan with a stamp on it

_WORKER = Path(__file__).with_name("pdf_worker.py")


class _Answer(msgspec.Struct):
    error: str = ""
    title: str = ""
    pages: list[Page] = []
    broken: int = 0
    all: int = 0


def read(path: Path, source: str, timeout_s: float, worker: Path = _WORKER) -> tuple[str, list[Block], list[str]]:
    """Title, blocks and notes of a PDF.

    Raises:
        ReadError: encrypted, damaged, without text, or not done within ``timeout_s`` seconds.
    """
    answer = _ask(path, source, timeout_s, worker)
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


def _ask(path: Path, source: str, timeout_s: float, worker: Path) -> _Answer:
    # -P keeps the folder of the worker, which has a module named like one it needs, off its path.
    command = [sys.executable, "-P", str(worker), str(path), str(MEMORY_MB), str(max(1, int(timeout_s)))]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise ReadError(source, f"the PDF parser was not done after {timeout_s:g} s") from None
    except OSError as error:
        raise ReadError(source, f"the PDF parser could not be started: {error.strerror}") from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ReadError(source, f"the PDF parser was not done after {timeout_s:g} s of work")
    if done.returncode < 0:
        raise ReadError(source, f"malformed PDF: the parser crashed on it ({signal.Signals(-done.returncode).name})")
    if done.returncode or not done.stdout:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no answer"])[-1]
        if "MemoryError" in last:
            last = f"it needs more than {MEMORY_MB} MB of memory"
        raise ReadError(source, f"the PDF parser failed: {last[:200]}")
    try:
        return msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.DecodeError as error:
        raise ReadError(source, f"the PDF parser gave no proper answer: {error}") from error
