"""HTML -> blocks: the main text of a page, without what stands around it.

Two ways are tried. trafilatura finds the main text of a web page among menus and teasers; but it is
made for articles, and drops much of a long report. So the page is also walked in full, leaving out
what says of itself that it is no text (``nav``, ``footer``, scripts, forms); and the full walk is used
whenever trafilatura kept less than ``KEPT`` of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from memgang.readers.blocks import LINE, PARAGRAPH, Block, words_in
from memgang.readers.clean import characters, tidy

KEPT = 0.6  # of the words of the full walk
NOTES = "Notes"  # the heading under which footnotes are put, at the end

_SKIP = frozenset("script style noscript template head nav footer aside form button select svg math iframe object "
                  "audio video canvas dialog menu".split())
_BLOCK = frozenset("p div section article main header blockquote pre figure figcaption address dl dt dd ul ol li table "
                   "thead tbody tfoot tr td th caption h1 h2 h3 h4 h5 h6 hr body html center details summary "
                   "fieldset".split())
_FURNITURE = re.compile(r"\b(?:nav|navbar|navigation|menu|breadcrumbs?|cookie|sidebar|tableofcontents|toc|skip-?link|"
                        r"share|social|advert|pagination)\b", re.IGNORECASE)


def read(text: str) -> tuple[str, list[Block]]:
    """The title of a page (empty if it has none) and its blocks.

    Raises:
        ValueError: there is no element in it at all.
    """
    tree = _parse(text)
    title = _title(tree)
    notes = _take_notes(tree)
    whole = walk(tree)
    blocks = whole
    # Beyond a book's length nothing but the walk keeps enough, and trafilatura takes minutes.
    if len(text) < 1_000_000 and (best := _main_text(text)):
        best_words = sum(words_in(block.text) for block in best)
        if best_words >= KEPT * sum(words_in(block.text) for block in whole):
            blocks = best
    if notes:
        blocks = [*blocks, Block(text=NOTES, level=1), *notes]
    if not title:
        # What stands first is the title, if it is short; a heading further down names a chapter only.
        first = next((block for block in whole if words_in(block.text) <= 30), None)
        title = first.text if first is not None and first in whole[:2] else ""
    if not title:
        title = next((block.text for block in blocks if block.level), "")
    return title, blocks


def walk(root: Any) -> list[Block]:
    """All blocks of an element in document order."""
    return list(_walk(root))


def fragment(markup: str) -> list[Block]:
    """The blocks of a piece of HTML inside another text, such as a table in Markdown."""
    return walk(lxml_html.fragment_fromstring(markup, create_parent="div"))


def _parse(text: str) -> Any:
    # A declaration of encoding in a text that is decoded already is an error to lxml.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", characters(text))
    try:
        return lxml_html.document_fromstring(text, parser=lxml_html.HTMLParser(recover=True, remove_comments=True,
                                                                               remove_pis=True))
    except etree.ParserError as error:
        raise ValueError("the page is empty") from error


def _title(tree: Any) -> str:
    for path in ("//h1", "//meta[@property='og:title']/@content", "//head/title"):
        for found in tree.xpath(path)[:1]:
            title = tidy(found if isinstance(found, str) else found.text_content())
            if title:
                return title
    return ""


def _take_notes(tree: Any) -> list[Block]:
    """Take footnotes and their marks out of the text; return the notes as blocks.

    A mark is a raised number, usually a link. Left in, it would stand in the middle of sentences.
    """
    for mark in list(tree.iter("sup")):
        if re.fullmatch(r"[\s\[\](),]*(?:\d{1,4}|[a-z*†‡§])[\s\[\](),]*", mark.text_content() or "-"):
            _drop(mark)
    notes: list[Block] = []
    for element in tree.xpath("//*[contains(concat(' ', @class, ' '), ' footnotes ') or @role='doc-endnotes']"):
        if element.getparent() is not None:
            notes.extend(block for block in walk(element) if not block.level)
            _drop(element)
    return notes


def _drop(element: Any) -> None:
    """Remove an element and keep the text behind it, which lxml hangs on the element."""
    parent = element.getparent()
    if parent is None:
        return
    tail, before = element.tail or "", element.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    parent.remove(element)


def _skipped(element: Any) -> bool:
    if element.tag in _SKIP or element.get("hidden") is not None or element.get("aria-hidden") == "true":
        return True
    label = f"{element.get('class') or ''} {element.get('id') or ''} {element.get('role') or ''}"
    return element.tag in ("div", "ul", "ol", "section", "header", "table") and bool(_FURNITURE.search(label))


def _walk(element: Any) -> Iterator[Block]:
    """Blocks of one element: runs of inline text between block elements are paragraphs."""
    run: list[str] = []
    line = element.sourceline or 0

    def paragraph() -> Iterator[Block]:
        pieces = "".join(run).split("\x01")
        run.clear()
        # One forced line break is layout; two in a row are a paragraph's end.
        for piece in re.split(r"\x02", "\x01".join(pieces).replace("\x01 \x01", "\x02").replace("\x01\x01", "\x02")):
            text = tidy(piece.replace("\x01", " "))
            if text:
                yield Block(text=text, line=line)

    run.append(element.text or "")
    for child in element:
        if not isinstance(child.tag, str):
            run.append(child.tail or "")
            continue
        if _skipped(child):
            pass
        elif child.tag == "br":
            run.append("\x01")
        elif child.tag in _BLOCK or any(d.tag in _BLOCK for d in child.iterdescendants() if isinstance(d.tag, str)):
            yield from paragraph()
            line = child.sourceline or 0
            yield from _block(child)
        elif child.tag != "img":
            run.append(_inline(child))
        run.append(child.tail or "")
    yield from paragraph()


def _inline(element: Any) -> str:
    out = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and not _skipped(child):
            out.append("\x01" if child.tag == "br" else _inline(child))
        out.append(child.tail or "")
    return "".join(out)


def _block(element: Any) -> Iterator[Block]:
    tag = element.tag
    line = element.sourceline or 0
    if re.fullmatch(r"h[1-6]", tag):
        text = tidy(_inline(element).replace("\x01", " "))
        if text:
            yield Block(text=text, level=int(tag[1]), line=line)
    elif tag == "pre":
        body = characters(element.text_content()).strip("\n")
        if body.strip():
            yield Block(text=body, line=line)
    elif tag in ("ul", "ol"):
        yield from _list(element)
    elif tag == "p" and _is_bold_line(element):
        yield Block(text=tidy(_inline(element).replace("\x01", " ")), level=6, line=line)
    elif tag == "dl":
        yield from _definitions(element)
    elif tag == "table":
        yield from _table(element)
    else:
        yield from _walk(element)


def _list(element: Any) -> Iterator[Block]:
    first = True
    for item in element:
        if not isinstance(item.tag, str):
            continue
        for i, block in enumerate(_walk(item) if item.tag == "li" else _block(item)):
            mark = "- " if i == 0 and item.tag == "li" and not block.text.startswith("- ") else ""
            yield Block(text=mark + block.text, level=block.level, line=block.line,
                        glue=PARAGRAPH if first else LINE)
            first = False


def _is_bold_line(element: Any) -> bool:
    """Whether a paragraph is a few bold words and nothing else: a heading in all but name."""
    text = tidy(element.text_content())
    if not 0 < words_in(text) <= 12 or text.endswith((".", ":", ",", ";")) or not re.search(r"[^\W\d_]{3,}", text):
        return False
    # TeX's bold face is called cmbx, and its HTML writers keep the name.
    bold = [child for child in element if isinstance(child.tag, str)
            and (child.tag in ("b", "strong") or "cmbx" in (child.get("class") or ""))]
    return bool(bold) and tidy(" ".join(child.text_content() for child in bold)) == text


def _definitions(element: Any) -> Iterator[Block]:
    """A list of terms: each term with what is said of it, on one line."""
    term = ""
    glue = PARAGRAPH
    for child in element:
        if child.tag == "dt":
            term = f"{term} {tidy(child.text_content())}".strip()
            continue
        for block in _walk(child) if child.tag == "dd" else ():
            text = f"{term} {block.text}" if re.fullmatch(r"\W?\w{1,4}\W?", term) else f"{term}: {block.text}"
            yield Block(text=text if term else block.text, glue=glue, level=block.level, line=block.line)
            term, glue = "", LINE
    if term:
        yield Block(text=term, glue=glue, line=element.sourceline or 0)


def _table(element: Any) -> Iterator[Block]:
    """A table of values as rows; a table that holds prose, or is there for layout, as paragraphs."""
    rows: list[list[list[Block]]] = []
    for row in element.iter("tr"):
        owner = next((a for a in row.iterancestors("table")), None)
        if owner is element:
            rows.append([walk(cell) for cell in row if cell.tag in ("td", "th")])
    yield from rows_to_blocks(rows, element.sourceline or 0)


def rows_to_blocks(rows: list[list[list[Block]]], line: int) -> Iterator[Block]:
    """Rows of cells, each cell a list of blocks, as rows with bars or as prose, whichever reads better."""
    values: list[str] = []

    def table() -> Iterator[Block]:
        if values:
            yield Block(text="\n".join(values), line=line)
            values.clear()

    for row in rows:
        texts = [" ".join(block.text.removeprefix("- ") for block in cell) for cell in row]
        filled = [i for i, text in enumerate(texts) if text]
        if not filled:
            continue
        longest = max(words_in(text) for text in texts)
        if longest < 18 and len(filled) > 1:
            values.append("| " + " | ".join(text.replace("|", "/") for text in texts) + " |")
            continue
        yield from table()
        label = ""
        for i in filled:
            if words_in(texts[i]) < 6 and len(filled) > 1 and not texts[i].endswith("."):
                label = f"{label}, {texts[i]}" if label else texts[i]
                continue
            for j, block in enumerate(row[i]):
                plain = block.text.removeprefix("- ")
                text = f"{label}: {plain}" if label and not j else f"- {plain}" if j and not block.level else plain
                yield Block(text=text, level=block.level, line=block.line or line, glue=LINE if j else PARAGRAPH)
            label = ""
        if label:
            yield Block(text=label, line=line)
    yield from table()


def _main_text(text: str) -> list[Block]:
    """What trafilatura takes for the main text, as blocks; empty if it finds none."""
    # Imported here: it takes a good part of a second, and few readings need it.
    from trafilatura import bare_extraction

    try:
        found = bare_extraction(_sup_free(text), include_comments=False, include_tables=True, include_formatting=False,
                                favor_recall=True, with_metadata=False)
    except Exception:  # whatever its parsers do on wild pages, the full walk is there
        return []
    body = getattr(found, "body", None)
    return list(_tei(body)) if body is not None else []


def _sup_free(text: str) -> str:
    return re.sub(r"<sup[^>]*>\s*(?:<a[^>]*>)?[\s\[\]]*\d{1,4}[\s\[\]]*(?:</a>)?\s*</sup>", "", text)


def _tei(body: Any) -> Iterator[Block]:
    """trafilatura's own elements as blocks."""
    for element in body:
        tag = element.tag
        if tag == "head":
            rend = re.search(r"h([1-6])", element.get("rend") or "")
            text = tidy("".join(element.itertext()))
            if text:
                yield Block(text=text, level=int(rend.group(1)) if rend else 2)
        elif tag == "list":
            for i, item in enumerate(element.iter("item")):
                text = tidy("".join(item.itertext()))
                if text:
                    yield Block(text=f"- {text}", glue=LINE if i else PARAGRAPH)
        elif tag == "table":
            rows = [[[Block(text=t)] if (t := tidy(" ".join(cell.itertext()))) else [] for cell in row.iter("cell")]
                    for row in element.iter("row")]
            yield from rows_to_blocks(rows, 0)
        else:
            text = tidy(" ".join(element.itertext()) if element.find("lb") is not None else "".join(element.itertext()))
            if text:
                yield Block(text=text)
