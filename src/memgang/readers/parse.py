"""One file or page -> title and parts: which reader it is for, and what is no text at all."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from memgang.errors import ReadError
from memgang.model import Parsed
from memgang.readers import clean, cut, markdown, text, web
from memgang.readers.blocks import Block, without_bare_headings, without_title_page

_HTML_HEAD = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype html|html)", re.IGNORECASE)
FILE_BYTES_MAX = 256 * 1024 * 1024
TEXT_BYTES_MAX = 64 * 1024 * 1024

_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_VERBATIM = frozenset(
    ".json .jsonl .csv .tsv .xml .yaml .yml .toml .ini .cfg .sql .sh .py .js .ts .tsx .jsx .java .c .h .cc .cpp .hpp "
    ".cs .go .rs .rb .php .pl .lua .swift .kt .scala .r .jl .css .scss .tex .bib .log .conf .proto .diff .patch"
    .split()
)
_BINARY: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or an office document"), (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"), (b"MM\0*", "a TIFF image"), (b"\x7fELF", "a program"), (b"MZ", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"), (b"BZh", "a bzip2 archive"), (b"\xfd7zXZ", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"), (b"SQLite format 3", "a database"), (b"OggS", "a sound file"),
    (b"ID3", "a sound file"), (b"fLaC", "a sound file"), (b"RIFF", "a sound or video file"), (b"wOF", "a font"),
)


def file(source: str) -> Parsed:
    """Read a file. Raises ReadError."""
    path = Path(os.path.expanduser(source))
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ReadError(source, "it is a folder without files" if not any(path.iterdir()) else "it is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise ReadError(source, "it is not a regular file")
        if found.st_size > FILE_BYTES_MAX:
            raise ReadError(source, f"it has {found.st_size:,} bytes; the limit is {FILE_BYTES_MAX:,}")
        if not found.st_size:
            raise ReadError(source, "the file is empty")
        with path.open("rb") as file:
            head = file.read(4096)
            if _is_pdf(head, path.suffix.lower()):
                return _read_pdf(path, source)
            if found.st_size > TEXT_BYTES_MAX:
                raise ReadError(source, f"a text of {found.st_size:,} bytes; the limit is {TEXT_BYTES_MAX:,}")
            data = head + file.read()
    except FileNotFoundError:
        raise ReadError(source, "there is no such file") from None
    except OSError as error:
        raise ReadError(source, (error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a name with a zero in it
        raise ReadError(source, str(error)) from error
    return _parse(data, source, path.name)


def fetched(url: str, fetched: web.Fetched) -> Parsed:
    """Read a page that was fetched already. Raises ReadError."""
    if not fetched.body:
        raise ReadError(url, "the page is empty")
    name = unquote(urlsplit(fetched.final_url).path.rsplit("/", 1)[-1]) or urlsplit(url).netloc
    kind = fetched.media_type
    if kind == "application/pdf" or fetched.body[:5] == b"%PDF-":
        with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
            file.write(fetched.body)
            file.flush()
            parsed = _read_pdf(Path(file.name), url)
        stem = Path(file.name).stem
        return parsed if parsed.title != _human(stem) else _titled(parsed, _human(Path(name).stem))
    suffixes = {"text/html": ".html", "application/xhtml+xml": ".html",
                "text/markdown": ".md", "text/x-markdown": ".md", "application/json": ".json", "text/csv": ".csv"}
    if kind in suffixes:
        return _parse(fetched.body, url, name, suffixes[kind], fetched.charset)
    if kind.startswith("text/") or kind.endswith(("+json", "+xml")) or kind in ("", "application/octet-stream",
                                                                              "application/xml", "application/yaml"):
        return _parse(fetched.body, url, name, charset=fetched.charset)
    raise ReadError(url, f"its content type {kind} cannot be read")


def _read_pdf(path: Path, source: str) -> Parsed:
    from memgang.readers import pdf  # with a large native library behind it

    title, blocks, notes = pdf.read(path, source)
    parsed = _finish(title, "application/pdf", blocks, notes)
    if title:
        return parsed
    # The heading over the first text is nearer to a title than a file's name.
    first = parsed.parts[0].headings if parsed.parts else ()
    return _titled(parsed, first[0] if first else _human(path.stem))


def _parse(data: bytes, source: str, name: str, suffix: str = "", charset: str = "") -> Parsed:
    """Everything that is text."""
    if not data.strip():
        raise ReadError(source, "it holds only white space")
    for magic, what in _BINARY:
        if data.startswith(magic) and b"\0" in data[:65536] + b"\0" * (magic == b"\x1f\x8b"):
            raise ReadError(source, f"not text: it is {what}")
    suffix = suffix or Path(name).suffix.lower()
    bare = Path(name).suffix.lower() in _MARKDOWN | _HTML | {".txt", ".json", ".text"}
    human = _human(Path(name).stem if bare else name)
    try:
        content = clean.decode(data, charset)
    except ValueError:
        raise ReadError(source, "not text: the bytes are no text in any known encoding") from None
    if _mostly_control(content):
        raise ReadError(source, "not text: it is a binary file")
    if suffix == ".json" and (turns := text.transcript(data)) is not None:
        return _finish(human, "application/json", turns, [])
    if suffix in _HTML or suffix not in _VERBATIM | _MARKDOWN and _HTML_HEAD.match(content):
        return _read_html(content, source, human)
    if suffix in _MARKDOWN:
        title, blocks = markdown.read(content)
        return _finish(title or human, "text/markdown", blocks, [])
    if suffix in _VERBATIM:
        return _finish(human, "application/json" if suffix == ".json" else "text/plain", text.verbatim(content), [])
    title, blocks = text.prose(content)
    return _finish(title or human, "text/plain", blocks, [])


def _read_html(content: str, source: str, human: str) -> Parsed:
    # Imported here: the HTML parser is a large library, and most readings do without.
    from memgang.readers import htmlpage

    try:
        title, blocks = htmlpage.read(content)
    except ValueError as error:
        raise ReadError(source, str(error)) from error
    return _finish(title or human, "text/html", blocks, [])


def _finish(title: str, media_type: str, blocks: list[Block], notes: list[str]) -> Parsed:
    """Take off what surrounds the text, cut it, and say so where nothing is left."""
    body = without_bare_headings(without_title_page(blocks))
    parts = cut.cut(body)
    if not parts:
        notes = [*notes, "nothing but links, headings or marks: there is no text in it"]
    return Parsed(title=title[:200], media_type=media_type, parts=parts, notes=tuple(notes))


def _titled(parsed: Parsed, title: str) -> Parsed:
    return Parsed(title=title, media_type=parsed.media_type, parts=parsed.parts, notes=parsed.notes)


def _is_pdf(head: bytes, suffix: str) -> bool:
    return b"%PDF-" in head[:1024] or suffix == ".pdf"


def _mostly_control(content: str) -> bool:
    sample = content[:20_000]
    control = sum(1 for c in sample if ord(c) < 32 and c not in "\n\r\t\f\v\x1b" or c == "\ufffd")
    return control * 50 > len(sample)


def _human(stem: str) -> str:
    """A file name as a title."""
    return re.sub(r"\s+", " ", re.sub(r"[_]+", " ", stem)).strip() or "untitled"
