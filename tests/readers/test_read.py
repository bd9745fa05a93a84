"""Reading: every format to clean text, every bad file to a reason."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from memgang.errors import ReadError
from memgang.readers import expand, read

MakePdf = Callable[[list[list[tuple[float, float, float, str]]]], bytes]

BAD = Path(__file__).parent.parent / "fixtures" / "bad"
WORDS = "The gang reads a long document over one memory and never repeats the work that another agent has done already."


def text_of(path: Path) -> str:
    """All parts of a document as one text."""
    return "\n\n".join(part.text for part in read(str(path)).parts)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file in a folder."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ── bad files ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name, reason", [
    ("plumber-empty.pdf", "the file is empty"),
    ("encrypted-libreoffice.pdf", "password"),
    ("plumber-password-example.pdf", "password"),
    ("image-only-no-text.pdf", "no text: 6 pages hold only images; OCR is needed"),
    ("plumber-malformed-from-issue-932.pdf", "no text: 1 page holds only an image; OCR is needed"),
    ("pdfjs-empty_protected.pdf", "no text: its only page is empty"),
    ("pdfjs-poppler-742-0-fuzzed.pdf", "malformed PDF: the file is damaged"),
    ("pdfjs-poppler-937-0-fuzzed.pdf", "malformed PDF: its only page cannot be loaded"),
])
def test_a_bad_pdf_is_named_with_its_reason(name: str, reason: str) -> None:
    """Every bad file is refused in words that say what is wrong with it."""
    with pytest.raises(ReadError) as caught:
        read(str(BAD / name))
    assert reason in caught.value.reason
    assert caught.value.source.endswith(name)


@pytest.mark.parametrize("name, content, reason", [
    ("a.txt", b"", "empty"),
    ("a.txt", b" \n\t ", "white space"),
    ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes(200), "a PNG image"),
    ("a.docx", b"PK\x03\x04\x14\0\0\0" + bytes(200), "an office document"),
    ("a.bin", bytes(range(256)) * 20, "not text"),
    ("a.pdf", b"this is no PDF at all", "malformed PDF"),
])
def test_what_is_no_text_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    """Binaries and empty files are refused with what they are."""
    with pytest.raises(ReadError, match=reason):
        read(str(write(tmp_path, name, content)))


def test_missing_files_folders_and_pipes_are_named(tmp_path: Path) -> None:
    """A source that is no file says so, and a pipe does not hang."""
    os.mkfifo(tmp_path / "pipe")
    for source, reason in (("none.txt", "no such file"), ("pipe", "not a regular file"), (".", "folder"),
                           ("a\0b", "null")):
        with pytest.raises(ReadError, match=reason):
            read(str(tmp_path / source))


# ── PDF ────────────────────────────────────────────────────────────────────────────────────────


def page(number: int, first: float = 700) -> list[tuple[float, float, float, str]]:
    """A page with a running head, two paragraphs, a note and its number."""
    return [
        (200, 760, 8, "The Running Head of This Report"),
        (72, first, 12, f"Paragraph {number} begins at the margin and speaks of the mem-"),
        (72, first - 14, 12, "ory of the gang, which everybody shares."),
        (200, first - 10, 7, ""),
        (90, first - 28, 12, f"Another one, numbered {number}, is indented and goes on over"),
        (72, first - 42, 12, "the end of its line, as paragraphs do in most of the books we"),
        (72, first - 56, 12, "know and in this one."),
        (300, 40, 12, str(number)),
    ]


def test_a_pdf_is_read_without_its_furniture(tmp_path: Path, make_pdf: MakePdf) -> None:
    """Running heads and page numbers go, lines become paragraphs, broken words are whole."""
    parsed = read(str(write(tmp_path, "book.pdf", make_pdf([page(n) for n in range(1, 7)]))))
    text = "\n\n".join(part.text for part in parsed.parts)
    assert "Running Head" not in text
    assert "speaks of the memory of the gang, which everybody shares.\n\nAnother one, numbered 3," in text
    assert "\n\n4\n\n" not in text
    assert (parsed.parts[0].page, parsed.parts[-1].page_end) == (1, 6)
    assert parsed.media_type == "application/pdf"


def test_an_ellipsis_is_not_taken_for_a_table_of_contents(tmp_path: Path, make_pdf: MakePdf) -> None:
    """Lines with dots inside are text; lines with leaders to a page number are not."""
    said = "He said “no deals . . . . I have no loans” to person number"
    lines = [(72, 700 - 14 * i, 12, f"{said} {i}.") for i in range(6)]
    contents = [(72, 700 - 14 * i, 12, f"Chapter {i} . . . . . . . . . . . . {i}") for i in range(6)]
    text = text_of(write(tmp_path, "a.pdf", make_pdf([contents, lines])))
    assert text.count("no loans") == 6
    assert "Chapter" not in text


def test_notes_at_the_foot_do_not_break_into_a_sentence(tmp_path: Path, make_pdf: MakePdf) -> None:
    """A sentence that goes on over the page is whole, and the note is at the end."""
    long = "The sentence is long and goes on and on over many lines of the page and"
    usual = "More text follows here so that its size is the usual one of the page."
    one = [(72, 700 - 14 * i, 12, long) for i in range(6)]
    note = [(80, 104, 5, "1"), (84, 100, 8, "This is what the note says about it, in small letters.")]
    two = [(72, 700, 12, "then it ends on the next page, at last.")] + [
        (72, 700 - 14 * i, 12, usual) for i in range(2, 8)]
    text = text_of(write(tmp_path, "a.pdf", make_pdf([[*one, *note], two])))
    assert "page and then it ends on the next page, at last." in text
    assert text.index("what the note says") > text.index("More text follows")


def test_two_columns_are_read_one_after_the_other(tmp_path: Path, make_pdf: MakePdf) -> None:
    """A column is read to its end, and a paragraph goes on in the next."""
    left = [(72, 700 - 14 * i, 10, f"left column line {i} of the text") for i in range(8)]
    right = [(320, 700 - 14 * i, 10, f"right column line {i} of the text") for i in range(8)]
    text = text_of(write(tmp_path, "a.pdf", make_pdf([left + right])))
    assert "left column line 7 of the text right column line 0" in text


def test_the_largest_line_is_the_title_and_larger_lines_are_headings(tmp_path: Path, make_pdf: MakePdf) -> None:
    """Without metadata a PDF is called what stands largest on its first page."""
    line = "This is one of many lines of the text that follows under the heading."
    body = [(72, 600 - 14 * i, 11, line) for i in range(20)]
    data = make_pdf([[(72, 680, 24, "A Report on Memory"), (72, 630, 15, "1. Introduction"), *body]])
    parsed = read(str(write(tmp_path, "x1.pdf", data)))
    assert parsed.title == "A Report on Memory"
    assert "1. Introduction" in parsed.parts[0].headings


# ── Markdown ───────────────────────────────────────────────────────────────────────────────────


def test_markdown_is_read_without_its_marks(tmp_path: Path) -> None:
    """No markup, navigation or machinery of a site generator is left."""
    source = f"""---
title: "The **Real** Title"
---
<!-- a comment
over lines -->
# <a name="top"></a> Chapter &mdash; One {{: .big}}

[1. Purpose](#sec1)

[2. Scope](#sec2)

[3. End](#sec3)

{{% include_relative other.md %}}

<div class="breaker" markdown="1">

{WORDS} It is *fine*, __bold__ and `code_with_underscores`, see [Section 5](#sec5) or <https://example.org/a_b>.[^1]

</div>
![picture](x.png)

Setext heading
--------------

* One item ([Section 5.1](#x)), wrapped
  over two lines
* Another item

| Level | Name |
|-------|------|
| 1 | Low |
| 2 | High |

[^1]: The note itself.
"""
    parsed = read(str(write(tmp_path, "a.md", source)))
    text = "\n\n".join(part.text for part in parsed.parts)
    assert parsed.title == "The Real Title"
    for gone in ("<", "](", "{", "**", "__", "Purpose", "comment", "include", "picture", "[^1]"):
        assert gone not in text, gone
    assert "It is fine, bold and code_with_underscores, see Section 5 or https://example.org/a_b." in text
    assert "## Chapter — One" in text and "## Setext heading" in text
    assert "- One item (Section 5.1), wrapped over two lines\n- Another item" in text
    assert "| Level | Name |\n| 1 | Low |\n| 2 | High |" in text
    assert text.rstrip().endswith("The note itself.")


def test_a_page_of_links_has_no_parts_and_says_so(tmp_path: Path) -> None:
    """An index is no text."""
    index = "# Index\n\n{% include a.md %}\n\n* [A](a.md)\n* [B](b.md)\n* [C](c.md)\n"
    parsed = read(str(write(tmp_path, "index.md", index)))
    assert parsed.parts == ()
    assert "no text" in parsed.notes[0]


def test_tables_in_html_that_hold_prose_become_prose(tmp_path: Path) -> None:
    """A cell of sentences is read as sentences, its neighbour as their label."""
    table = f"<table><tr><td>Weak</td><td>{WORDS} {WORDS}</td></tr><tr><td>1</td><td>Low</td></tr></table>"
    text = text_of(write(tmp_path, "a.md", f"# T\n\n{table}\n"))
    assert f"Weak: {WORDS}" in text
    assert "| 1 | Low |" in text


def test_names_and_addresses_before_the_text_are_left_out(tmp_path: Path) -> None:
    """A title page is not content; the headings over the text are."""
    front = ("# The Title\n\nPaul A. Grassi\n\nJames L. Fenton\n\nSilver Spring, Md\n\n"
             "## 1 Purpose\n\n*This section is normative.*\n\n")
    parsed = read(str(write(tmp_path, "a.md", front + (WORDS + "\n\n") * 30)))
    text = parsed.parts[0].text
    assert "Fenton" not in text
    assert "## 1 Purpose\n\nThis section is normative." in text
    assert parsed.title == "The Title"


# ── HTML ───────────────────────────────────────────────────────────────────────────────────────


def test_html_is_read_without_its_surroundings(tmp_path: Path) -> None:
    """Menus, scripts and footers go; headings, paragraphs and lists stay."""
    page_ = f"""<html><head><title>Site | Page</title><script>var x = 1;</script></head><body>
    <nav><a href="/">Home</a> <a href="/b">Menu entry</a></nav>
    <h1>The Heading</h1><p>{WORDS}<sup><a href="#fn1">12</a></sup> It goes on &amp; on.</p>
    <h2>Below</h2><p>{WORDS}</p><ul><li>first item of the list</li><li>second item of the list</li></ul>
    <footer>Copyright somebody</footer></body></html>"""
    parsed = read(str(write(tmp_path, "a.html", page_)))
    text = "\n\n".join(part.text for part in parsed.parts)
    assert parsed.title == "The Heading"
    for gone in ("Menu entry", "var x", "Copyright", "12", "<"):
        assert gone not in text, gone
    assert f"{WORDS} It goes on & on." in text
    assert "## Below" in text and "- first item of the list\n- second item of the list" in text


def test_the_same_text_as_pdf_and_html_gives_the_same_part(tmp_path: Path, make_pdf: MakePdf) -> None:
    """What two formats share is one memory object."""
    lines = ["The President asked the gang to “share” one memory, and the", "gang did so without any further ques-",
             "tions being asked by anybody in the room that day."]
    data = make_pdf([[(72, 700 - 14 * i, 12, line) for i, line in enumerate(lines)]])
    page_ = ("<html><body><p>The President asked the gang to &ldquo;share&rdquo; one\n memory, and the gang did so "
             "without any further questions being asked by anybody in the room that day.</p></body></html>")
    assert text_of(write(tmp_path, "a.pdf", data)) == text_of(write(tmp_path, "a.html", page_))


# ── plain text, transcripts, code ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "cp1252"])
def test_text_in_any_encoding_keeps_its_accents(tmp_path: Path, encoding: str) -> None:
    """The same Spanish text comes out of every encoding, with one kind of line end."""
    text = ("En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho\r\ntiempo que vivía un hidalgo; "
            "¿quién señaló al corazón? Dulcinea, señora.\r\n\r\n") * 5
    found = text_of(write(tmp_path, "q.txt", text.encode(encoding)))
    assert "no ha mucho tiempo que vivía un hidalgo; ¿quién señaló al corazón?" in found
    assert "\r" not in found


def test_a_declared_encoding_is_believed(tmp_path: Path) -> None:
    """A text that names its encoding is read in it."""
    head = "Language: Russian\n\nCharacter set encoding: KOI8-R\n\n"
    assert "Привет" in text_of(write(tmp_path, "r.txt", (head + "Привет, мир. Это короткий текст.").encode("koi8-r")))


def test_text_is_nfc_without_control_characters(tmp_path: Path) -> None:
    """Composed letters, no bells, no soft hyphens."""
    found = text_of(write(tmp_path, "a.txt", f"Cafe\u0301 ol\u0007e\u0301, mem\u00adory\u200b and ﬁre. {WORDS}"))
    assert found == unicodedata.normalize("NFC", found) == f"Café olé, memory and fire. {WORDS}"


def test_headings_of_plain_text_are_seen_and_verse_keeps_its_lines(tmp_path: Path) -> None:
    """Chapters and capitals are headings; short lines stay lines."""
    text = ("CHAPTER ONE\n\nA wrapped paragraph of the book that runs over its line\nand ends here.\n\n"
            "Short verse\nstays verse\n")
    assert text_of(write(tmp_path, "a.txt", text)) == (
        "## CHAPTER ONE\n\nA wrapped paragraph of the book that runs over its line and ends here.\n\n"
        "Short verse\nstays verse")


def test_a_transcript_is_read_turn_by_turn_without_marks(tmp_path: Path) -> None:
    """Speaker and words, one turn a line, silence left out."""
    turns = [{"speaker": "Grad C", "content": "So {disfmarker} Morgan {vocalsound} said it 's \" fine \" , OK ?"},
             {"speaker": "PhD D", "content": "{pause}"}, {"speaker": "PhD D", "content": "Mm - hmm ."}]
    path = write(tmp_path, "m.json", json.dumps({"topic": [], "meeting_transcripts": turns}))
    assert text_of(path) == "Grad C: So Morgan said it's \"fine\", OK?\nPhD D: Mm-hmm."


def test_other_json_csv_and_code_are_read_as_they_are(tmp_path: Path) -> None:
    """Layout of code and values is kept."""
    assert text_of(write(tmp_path, "a.py", "def f():\n    return 1\n")) == "def f():\n    return 1"
    assert text_of(write(tmp_path, "a.csv", "a,b\n1,2\n")) == "a,b\n1,2"
    assert '"x": [' in text_of(write(tmp_path, "a.json", json.dumps({"x": [1, 2]}, indent=1)))


# ── sources ────────────────────────────────────────────────────────────────────────────────────


def test_folders_are_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    """sec2 comes before sec10, hidden files and folders are skipped, missing sources are kept."""
    for name in ("sec10.md", "sec2.md", ".hidden", "LICENSE", "sub/part1.md", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    names = [os.path.relpath(path, tmp_path) for path in expand([str(tmp_path)])]
    assert names == ["LICENSE", "sec2.md", "sec10.md", "sub/part1.md"]
    assert expand([str(tmp_path / "sec*.md"), str(tmp_path / "sec2.md"), "nowhere/*.x", "https://example.org/a"]) == [
        str(tmp_path / "sec2.md"), str(tmp_path / "sec10.md"), "nowhere/*.x", "https://example.org/a"]
