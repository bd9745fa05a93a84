"""Where sentences end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgang.sentences import is_whole, split


@pytest.mark.parametrize("one", [
    "Mr. Smith met J. R. Tolkien in the U.S. Senate.",
    "See Sec. 4.2 and No. 5, e.g. the table, for more.",
    "The value is 3.14 and rises to 4.0 later.",
    "She left (the reason is in Fig. 3. It is long) and came back.",
    "The agency shall act under 28 U.S.C. § 515 and 28 C.F.R. § 600.7.",
    "D. Quijote y el Sr. Pérez fueron a la venta.",
    "“Why?” he asked quietly.",
])
def test_abbreviations_numbers_and_quotes_do_not_end_a_sentence(one: str) -> None:
    """What looks like an end and is none is kept inside."""
    assert split(one) == [one]


@pytest.mark.parametrize("text, count", [
    ("It was late. He left. “No.” She stayed!", 4),
    ("He came at 5 p.m. The door was open.", 2),
    ("This was said by Trump Inc. The rest agreed.", 2),
    ("It was made by hand as a work of art. Nobody saw it.", 2),
    ("¿Quién es? En un lugar de la Mancha. ¡Vale!", 3),
    ("He said so.[12] They did not.", 2),
])
def test_real_ends_are_found(text: str, count: int) -> None:
    """A stop followed by a new beginning ends a sentence."""
    assert len(split(text)) == count


def test_headings_and_table_rows_are_left_out_and_items_stand_alone() -> None:
    """Only what can be a sentence is handed on."""
    text = ("## A heading. It has a stop\n\n| a | b |\n|---|---|\n\n"
            "The list:\n- one; and\n- two.\n\n1. First.\n2. Second.")
    assert split(text) == ["The list:", "one; and", "two.", "First.", "Second."]


def test_wrapped_lines_are_one_sentence() -> None:
    """A line's end is no sentence's end."""
    assert split("The memory\nof the gang\nis shared.") == ["The memory of the gang is shared."]


@pytest.mark.parametrize("sentence, whole", [
    ("The verifier SHALL reject the secret.", True),
    ("“This is a thing with Russia,” he said.", True),
    ("3 of the 4 volumes were read today.", True),
    ("and so the thing went on.", False),
    ("Too short, this.", False),
    ("The bracket (is never closed here.", False),
    ("The sentence has no stop at all", False),
    ("Table 4-1 Requirements by assurance level and so on.", False),
    ("See also the report of the committee on this.", False),
    ("NIST SP 800-63 A B C D.", False),
])
def test_whole_sentences_are_told_from_fragments(sentence: str, whole: bool) -> None:
    """A sentence begins and ends like one, has words, and closes its brackets."""
    assert is_whole(sentence) is whole


@given(st.text(alphabet="aB. ?!\"(1)\n-|#", max_size=200))
def test_splitting_never_fails_and_keeps_the_order(text: str) -> None:
    """Any text gives sentences that are found in it in order, white space aside."""
    flat = "".join(text.split())
    at = 0
    for sentence in split(text):
        piece = "".join(sentence.split())
        at = flat.index(piece, at) + len(piece)
