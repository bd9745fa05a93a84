"""Documents become volumes and sections in their own order, without what nobody reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.codec import encode, ref_of
from memgang.jobs import content
from memgang.jobs.outline import PARTS_MAX, SECTIONS_MAX, plan
from memgang.model import Document, Place


def a_document(source: str, title: str, *headings: tuple[str, ...]) -> Document:
    """A document with one part under each path of headings."""
    places = tuple(
        Place(ref=ref_of(*encode(f"{source} {n}")), pos=(n + 0.5) / len(headings), headings=path)
        for n, path in enumerate(headings))
    return Document(source=source, title=title, media_type="text/markdown", places=places)


def test_numbered_files_of_a_folder_are_one_volume_in_the_order_of_their_numbers() -> None:
    """Alphabet puts 10 before 2, and the appendix first of all."""
    documents = [
        a_document("book/appA.md", "Appendix A—Tables of Tides", ("A.1 Tides",)),
        a_document("book/cover.md", "The Harbour", ("Abstract",)),
        a_document("book/s10.md", "10 Conduct", ("10 Conduct",)),
        a_document("book/s2.md", "2 Arrival", ("2 Arrival",), ("2 Arrival",)),
        a_document("book/s3.md", "3 Fees", ("3 Fees",)),
    ]

    outline = plan(documents)

    assert [volume.title for volume in outline.volumes] == ["The Harbour"]
    assert [s.title for s in outline.volumes[0].sections] == ["2 Arrival", "3 Fees", "10 Conduct", "Appendix A — Tables of Tides"]
    assert [item.ref for item in outline.volumes[0].front] == [documents[1].places[0].ref]


def test_a_volume_is_called_what_the_file_beside_its_folder_says() -> None:
    """An index file has no text, and still knows the title."""
    documents = [
        a_document("all/one.md", "Volume One: The Harbour"),
        a_document("all/one/s1.md", "1 Arrival", ("1 Arrival",)),
        a_document("all/one/s2.md", "2 Fees", ("2 Fees",)),
    ]

    assert [volume.title for volume in plan(documents).volumes] == ["Volume One: The Harbour"]


def test_files_that_are_no_chapters_are_volumes_of_their_own() -> None:
    """Two reports in one folder are not one report."""
    documents = [a_document(f"in/{name}.pdf", name, *[(f"{name} {n}",) for n in range(9)]) for name in ("Harbour", "Bridge")]

    assert [volume.title for volume in plan(documents).volumes] == ["Harbour", "Bridge"]


def test_a_document_is_divided_at_its_main_headings() -> None:
    """And a long chapter at the lower ones."""
    long = [("2 Fees", f"2.{n // 10} Kind") for n in range(PARTS_MAX + 10)]

    outline = plan([a_document("a.md", "The Harbour", ("1 Arrival",), ("1 Arrival",), *long, ("3 Conduct",))])

    assert [s.title for s in outline.volumes[0].sections] == [
        "1 Arrival", "2.0 Kind", "2.1 Kind", "2.2 Kind", "2.3 Kind", "3 Conduct"]
    assert [s.depth for s in outline.volumes[0].sections] == [1, 2, 2, 2, 2, 1]


def test_text_without_headings_is_divided_into_runs() -> None:
    """A transcript has no headings, and nobody reads one section of fifty parts."""
    outline = plan([a_document("talk.txt", "Talk", *[()] * 50)])

    assert [s.title for s in outline.volumes[0].sections][:1] == ["Talk, part 1 of 5"]
    assert [len(s.items) for s in outline.volumes[0].sections] == [10] * 5


def test_references_and_contents_are_not_summed_up_but_stay_to_be_asked() -> None:
    """A question may be about the references; a summary never is."""
    document = a_document("a.md", "The Harbour", ("1 Arrival",), ("1 Arrival",), ("2 Fees",), ("3 References",))

    outline = plan([document])

    assert [item.ref for item in outline.items[-2:]] == [place.ref for place in document.places[1:3]]
    assert sum(map(len, outline.spots)) == 4


def test_a_file_that_is_all_there_is_gets_its_report_whatever_it_is_called() -> None:
    """Somebody who asks about a licence wants a report about it."""
    assert len(plan([a_document("LICENSE.md", "Licence", ("Grant",), ("Warranty",))]).items) == 2


@pytest.mark.parametrize("heading", [
    "References", "12 References", "Table of Contents", "Acknowledgements", "A.2 Abbreviations", "Appendix A—Definitions and Abbreviations",
    "**Errata**", "Notes", "3 Definitions and Abbreviations", "Keywords",
])
def test_furniture_is_known_by_its_heading(heading: str) -> None:
    """With numbers, emphasis and dashes as people write them."""
    assert content.is_furniture(heading)


@pytest.mark.parametrize("heading", [
    "Authority of the master", "2 Fees", "Reference levels", "Notes on tides", "Index of prices rises", "Summary"])
def test_content_is_not_taken_for_furniture(heading: str) -> None:
    """One word in common is not enough."""
    assert not content.is_furniture(heading)


def test_of_a_cover_only_the_abstract_is_read() -> None:
    """Names, numbers and promises of the publisher are nothing to sum up."""
    part = "Published by the port.\n\n## Abstract\n\nThis book is about harbours.\n\n## Keywords\n\nharbour; tide"

    assert content.text_of(part, lead=False, cover=True) == "## Abstract\n\nThis book is about harbours."


def test_marks_of_notes_are_taken_out_of_passages() -> None:
    """They would look like citations of passages."""
    assert content.passage("The fee was paid.[12] It rose [3, 4] later.") == "The fee was paid. It rose later."


PATHS = st.lists(st.sampled_from(["1 A", "2 B", "3 C", "References", ""]), min_size=1, max_size=60)


@given(PATHS)
def test_every_part_worth_reading_is_in_exactly_one_section_in_order(names: list[str]) -> None:
    """Nothing is lost, doubled or moved, however the headings run."""
    document = a_document("a.md", "A book", *[(name,) if name else () for name in names])

    sections = plan([document]).volumes[0].sections
    refs = [item.ref for section in sections for item in section.items]
    wanted = [place.ref for place in document.places if place.headings != ("References",)]

    assert len(refs) == len(set(refs))
    assert [ref for ref in refs if ref in wanted] == wanted
    assert refs
    assert refs == sorted(refs, key=[place.ref for place in document.places].index)
    assert len(sections) <= SECTIONS_MAX
