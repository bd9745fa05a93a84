"""Questions are answered from the right place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memgang.jobs.retrieve import Entry, choose, rank

HARBOUR = [
    Entry("Ships enter the harbour by day. Pilots board them at the outer buoy.", "1 Arrival"),
    Entry("Fees are paid in the harbour office. A pilot costs forty pounds a trip.", "2 Fees"),
    Entry("The office opens at nine. It is closed on Sundays.", "2 Fees › 2.1 Hours"),
    Entry("Fishing boats need no pilot.", "3 Exceptions"),
    Entry("Dogs are kept on a lead.", "4 Conduct"),
]
WORD = st.sampled_from("harbour pilot fee office dog boat sunday ship paid forty".split())


def test_the_part_that_speaks_of_the_whole_question_comes_first() -> None:
    """Fees and pilot together beat either alone."""
    assert rank("What are the fees for a pilot?", HARBOUR)[0][0] == 1


def test_words_of_the_headings_count() -> None:
    """A part can be about hours without saying so in its text."""
    assert rank("What are the hours?", HARBOUR)[0][0] == 2


def test_plural_and_tense_do_not_matter() -> None:
    """Ships entered is what ships enter says."""
    assert rank("Which ship entered?", HARBOUR)[0][0] == 0


def test_the_long_form_of_an_acronym_answers_for_the_short_one() -> None:
    """Documents introduce an acronym once and then write it out in headings, with a number behind."""
    entries = [
        Entry("There are grades of the Harbour Safety Level (HSL). The fees at HSL1 are low."),
        Entry("Two pilots are needed, and a tug.", "4.2 Harbour Safety Level 2"),
        Entry("Nobody is needed.", "4.1 Harbour Safety Level 1"),
    ]

    assert rank("Who is needed at HSL2?", entries)[0][0] == 1


def test_neighbours_of_the_best_parts_are_read_too_but_not_over_the_border_of_a_document() -> None:
    """An answer may run on into the next part; the next document is another matter."""
    split = [Entry(e.text, e.headings, "", 0 if i < 2 else 1) for i, e in enumerate(HARBOUR)]

    assert choose("outer buoy", HARBOUR, top=1, around=1) == [0, 1]
    assert choose("forty pounds", split, top=1, around=1) == [1, 0]


def test_a_question_about_nothing_here_reads_the_beginnings() -> None:
    """Better the openings of all documents than nothing at all."""
    split = [Entry(e.text, e.headings, "", i // 2) for i, e in enumerate(HARBOUR)]

    assert choose("Zeppelin?", split) == [0, 2, 4]


@given(st.lists(WORD, max_size=8), st.lists(st.lists(WORD, min_size=1, max_size=10), max_size=8), st.integers(1, 5))
def test_choice_is_a_few_different_parts_that_exist(question: list[str], parts: list[list[str]], top: int) -> None:
    """Indexes are valid, none comes twice, and asking again gives the same."""
    entries = [Entry(" ".join(words)) for words in parts]
    text = " ".join(question)

    chosen = choose(text, entries, top=top, around=1)

    assert len(set(chosen)) == len(chosen) <= top + 2
    assert all(0 <= index < len(entries) for index in chosen)
    assert chosen == choose(text, entries, top=top, around=1)
