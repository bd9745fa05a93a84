"""A report as Markdown: every number leads somewhere, and nothing from a document becomes markup."""

from __future__ import annotations

import re

import msgspec

from memgang.codec import encode, ref_of
from memgang.jobs.pages import Answer, Failed, Figures, Paragraph, Report, Section, Source
from memgang.jobs.render import render
from memgang.jobs.statements import Statement
from memgang.model import Unreadable, Usage
from memgang.savings import Row, fold

ONE, TWO = ref_of(*encode("one")), ref_of(*encode("two"))
SOURCES = (
    Source(1, ONE, "The Harbour", "harbour.pdf", ("2 Fees", "2.1 Hours"), page=7, page_end=8),
    Source(2, TWO, "The Bridge", "https://example.org/bridge", also=1),
)


def a_report(**changes: object) -> Report:
    """A small report with everything in it."""
    whole: dict[str, object] = dict(
        title="Harbours", overview=(Paragraph("", (Statement("Ships pay a fee.", (ONE,)), Statement("The bridge is old.", (ONE, TWO)))),),
        sections=(Section("Volume One", 2, ()), Section("Fees", 3, (Statement("Ships pay a fee.", (ONE,)),))),
        answers=(Answer("What do ships pay?", (Statement("Ships pay a fee.", (ONE,)),)), Answer("Why?", ())), sources=SOURCES,
        unreadable=(Unreadable(source="bad.pdf", reason="it is protected by a password"),),
        failures=(Failed("The Harbour › 3 Conduct, p. 9", "the passage was refused"),),
        figures=Figures(documents=2, volumes=1, parts=12, model="extractive"), remarks=("harbour.pdf: 3 pages hold only images",))
    return Report(**(whole | changes))  # type: ignore[arg-type]


def test_every_number_in_the_text_is_a_source_below() -> None:
    """And every source can be shown by its short reference."""
    text = render(a_report())
    body, _, sources = text.partition("## Sources")

    assert {int(n) for n in re.findall(r"\[(\d+)\]", body)} == {int(n) for n in re.findall(r"(?m)^(\d+)\. ", sources)}
    assert f"`{ONE.short}`" in sources
    assert "The Harbour › 2 Fees › 2.1 Hours, p. 7–8" in sources


def test_what_could_not_be_read_or_done_is_named_with_its_reason() -> None:
    """Nobody should take a report with a hole for a whole one."""
    text = render(a_report())

    assert "`bad.pdf` could not be read: it is protected by a password" in text
    assert "The Harbour › 3 Conduct, p. 9 is missing: the passage was refused" in text
    assert "3 pages hold only images" in text


def test_a_report_that_selects_says_so_and_one_that_writes_says_who() -> None:
    """Readers must know which they have before them."""
    assert "selected from the documents by the built-in extractive model, which does not write" in render(a_report())
    assert "written by `openai:some-model`" in render(a_report(figures=Figures(model="openai:some-model")))


def test_text_of_documents_cannot_become_markup() -> None:
    """A document is untrusted: no HTML, no link, no image, no heading of its own."""
    evil = "Click <script>alert(1)</script> ![x](http://a/b.png) [here](http://evil)\n# Heading"
    text = render(a_report(overview=(Paragraph(evil, (Statement(evil, (ONE,)),)),), title=evil, sources=(Source(1, ONE, evil, "a`b.md"),)))

    assert "<script" not in text
    assert not re.search(r"\]\(", text)
    assert "\n# Heading" not in text


def test_the_table_of_figures_is_the_ledgers_and_says_so() -> None:
    """Numbers are passed in; none is made up here."""
    done, avoided = Usage(calls=3, ms=1500), Usage(calls=9, ms=4500)
    savings = msgspec.structs.replace(fold([]), physical=done, avoided={"hit": avoided}, by_role={"note": Row(done, avoided)})

    text = render(a_report(), savings)

    assert "Counted in the ledger" in text
    assert "| note | 3 | 9 | 1.5 | 4.5 |" in text
    assert "ledger" not in render(a_report())


def test_a_statement_without_a_source_is_flagged() -> None:
    """A model that cites nothing is not believed silently."""
    assert "Ships fly. (no source named)" in render(a_report(overview=(Paragraph("", (Statement("Ships fly."),)),)))
