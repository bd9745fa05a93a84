"""The lines of a PDF, from pdfium.

pdfium is C++ that reads files from strangers, and not made for several threads: call this in a process of its own
that has limits, as `Gang.read` does.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from typing import Any

PAGES_MAX = 5_000

# Documents with damaged pages, never closed: taking them down is where the library crashes.
_left_open: list[Any] = []


def extract(path: str) -> dict[str, Any]:
    """All pages of the file, or the reason why it cannot be read.

    ``{"title": ..., "pages": [{"w":, "h":, "images":, "lines": [[text, x0, x1, y0, y1, size, bold, note]]}]}``
    or ``{"error": reason}``. Lengths are points from the bottom left.
    """
    import pypdfium2
    import pypdfium2.raw as raw

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        return {"error": _reason(getattr(error, "err_code", 0), str(error), raw)}
    pages: list[dict[str, Any]] = []
    broken = 0
    for index in range(min(len(document), PAGES_MAX)):
        try:
            pages.append(_page(document[index], raw))
        except pypdfium2.PdfiumError:
            broken += 1
            pages.append({"w": 0, "h": 0, "images": 0, "lines": []})
    if broken or not pages:
        _left_open.append(document)
    if not pages:
        return {"error": "malformed PDF: it has no pages"}
    if broken == len(pages):
        return {"error": f"malformed PDF: {'its only page' if broken == 1 else f'all {broken} pages'} cannot be loaded"}
    try:
        title = document.get_metadata_value("Title")
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        title = ""
    answer = {"title": title, "pages": pages, "broken": broken, "all": len(document)}
    if not broken:
        document.close()
    return answer


def _reason(code: int, message: str, raw: Any) -> str:
    if code == raw.FPDF_ERR_PASSWORD:
        return "encrypted: it opens only with a password"
    if code == raw.FPDF_ERR_SECURITY:
        return "encrypted with a method that is not supported"
    if code == raw.FPDF_ERR_FORMAT:
        return "malformed PDF: the file is damaged or is no PDF"
    return f"malformed PDF: {message}"


def _page(page: Any, raw: Any) -> dict[str, Any]:
    """One page: its lines in the order of the file, with their boxes."""
    images = sum(1 for found in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3))
    textpage = page.get_textpage()
    text = textpage.get_text_range()
    width, height = page.get_size()
    lines: list[list[Any]] = []
    at = 0
    font = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()

    def box(index: int) -> tuple[float, float, float, float]:
        char = raw.FPDFText_GetCharIndexFromTextIndex(textpage, index)
        left, bottom, right, top = textpage.get_charbox(max(char, 0), loose=True)
        return left, bottom, right, top

    def is_bold(index: int) -> bool:
        raw.FPDFText_GetFontInfo(textpage, raw.FPDFText_GetCharIndexFromTextIndex(textpage, index), font, 128, flags)
        name = font.value.decode("latin-1").lower()
        return any(word in name for word in ("bold", "black", "cmbx", "demi"))

    for line in re.split(r"\r\n|\r|\n", text):
        start, at = at, at + len(line) + 2
        shown = line.strip()
        if not shown:
            continue
        start += line.index(shown[0])
        end = start + len(shown) - 1
        if abs(raw.FPDFText_GetCharAngle(textpage, raw.FPDFText_GetCharIndexFromTextIndex(textpage, start))) > 0.2:
            continue  # text on its side is furniture
        first, last = box(start), box(end)
        # The commonest height among a few letters: one raised mark must not decide, and spaces have none.
        letters = [i for i, char in enumerate(shown) if not char.isspace()]
        samples = [box(start + letters[(len(letters) - 1) * i // 8]) for i in range(9)]
        size = Counter(round(top - bottom, 1) for _, bottom, _, top in samples).most_common(1)[0][0] or 1.0
        # Raised numbers behind a word are marks of notes; they are taken out where they stand.
        for match in reversed(list(re.finditer(r"(?<=[^\s\d(\[$€£#-])\s?(\d{1,4})(?=[\s,;.:)\]”\"'’—]|$)", line))):
            mark = box(start - line.index(shown[0]) + match.start(1))
            if mark[3] - mark[1] < 0.85 * size or mark[1] > first[1] + 0.25 * size and mark[3] - mark[1] < size:
                line = line[:match.start()] + line[match.end():]
        word = re.search(r"[^\W\d_]{3,}", shown)  # the number in front of a heading may be set in another face
        bold = all(is_bold(start + index) for index in (word.start() if word else 0, len(shown) // 2, len(shown) - 1))
        lead = bool(re.match(r"\d{1,3}\s?\D", shown)) and first[3] - first[1] < 0.85 * size
        left, right = first[0], max(last[2], first[2])
        bottom, top = min(first[1], last[1]), max(first[3], last[3])
        lines.append([line.strip(), round(left, 1), round(right, 1), round(bottom, 1), round(top, 1), size,
                      int(bold), int(lead)])
    return {"w": width, "h": height, "images": images, "lines": lines}
