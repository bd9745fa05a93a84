"""What a model answers becomes statements with citations that exist."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memgang.codec import encode, ref_of
from memgang.jobs.prompts import cited, led_back, unmentioned
from memgang.jobs.statements import Line, Note, Statement, parse, plain, unrepeated
from memgang.model import Ref

WORDS = st.lists(st.sampled_from("audit found three gaps budget rose again while staff fell in spring".split()), min_size=4, max_size=12)


def a_ref(text: str) -> Ref:
    """The reference a text would have."""
    return ref_of(*encode(text))


def test_a_line_with_numbers_becomes_a_statement_on_those_passages() -> None:
    """Both ways of citing two passages are understood."""
    lines, dropped = parse("The audit found three gaps. [1][3]\nThe budget rose by a tenth. [2, 3]", 3)

    assert lines == [Line("The audit found three gaps.", (1, 3)), Line("The budget rose by a tenth.", (2, 3))]
    assert dropped == 0


def test_numbers_without_a_passage_are_dropped_and_counted() -> None:
    """A model that invents a source is found out."""
    lines, dropped = parse("The audit found three gaps. [2][7]", 2)

    assert lines == [Line("The audit found three gaps.", (2,))]
    assert dropped == 1


def test_a_line_without_numbers_stands_on_the_only_passage() -> None:
    """With one passage there is nothing else it can stand on; with two the statement is flagged by having no citation."""
    assert parse("The audit found three gaps.", 1)[0] == [Line("The audit found three gaps.", (1,))]
    assert parse("The audit found three gaps.", 2)[0] == [Line("The audit found three gaps.", ())]


def test_list_marks_headings_and_emphasis_are_taken_off() -> None:
    """Models decorate; a report has a style of its own."""
    answer = "## Findings\n\n- **The audit** found three gaps [1].\n2. The budget rose by a *tenth* [2].\n---\n"

    assert [line.text for line in parse(answer, 2)[0]] == ["The audit found three gaps.", "The budget rose by a tenth."]


def test_a_paragraph_with_several_citations_is_divided_behind_each() -> None:
    """Each statement keeps its own source."""
    lines, _ = parse("The audit found three gaps [1]. The budget rose by a tenth [2].", 2)

    assert lines == [Line("The audit found three gaps.", (1,)), Line("The budget rose by a tenth.", (2,))]


def test_a_citation_inside_a_sentence_does_not_break_it() -> None:
    """A sentence stays whole wherever its marks stand."""
    lines, _ = parse("The audit [1] found three gaps [2].", 2)

    assert lines == [Line("The audit found three gaps.", (1, 2))]


def test_a_label_or_an_opening_for_a_list_is_no_statement() -> None:
    """Three words, or a colon at the end, say nothing by themselves."""
    assert parse("Key points: [1]\nThe following items were found to be missing: [1]\nNot much. [1]", 1)[0] == []


def test_what_is_said_twice_is_kept_once_with_both_sources() -> None:
    """The second source is not lost with the second sentence."""
    one, two = a_ref("one"), a_ref("two")

    kept = unrepeated([Statement("The audit found three gaps.", (one,)), Statement("The audit found three gaps!", (two,))])

    assert kept == [Statement("The audit found three gaps.", (one, two))]


def test_what_differs_in_one_word_is_not_said_twice() -> None:
    """Similar is not same: a level, a number, a "not" is a whole difference."""
    statements = [Statement(f"At level {n} the pilot of the harbour may {word}board by night.", (a_ref("x"),))
                  for n in "12" for word in ("", "not ")]

    assert unrepeated(statements) == statements


@given(st.lists(st.tuples(WORDS, st.integers(1, 5)), max_size=6))
def test_what_is_written_one_a_line_is_read_back(entries: list[tuple[list[str], int]]) -> None:
    """Every sentence comes back with its number, in order."""
    sentences = [(" ".join(words).capitalize() + ".", number) for words, number in entries]

    lines, dropped = parse("\n".join(f"{text} [{number}]" for text, number in sentences), 5)

    assert [(line.text, line.passages) for line in lines] == [(text, (number,)) for text, number in sentences]
    assert dropped == 0


@given(st.text(max_size=300), st.integers(0, 4))
def test_no_answer_breaks_the_parser_or_cites_what_is_not_there(answer: str, passages: int) -> None:
    """Whatever a model sends, citations stay within the passages and lines stay lines."""
    lines, dropped = parse(answer, passages)

    assert all(1 <= number <= passages for line in lines for number in line.passages)
    assert all("\n" not in line.text and line.text.strip() for line in lines)
    assert dropped >= 0


@given(st.text(max_size=80))
def test_plain_text_stays_plain(text: str) -> None:
    """Taking off emphasis twice changes nothing more."""
    assert plain(plain(text)) == plain(text)


def test_a_statement_taken_over_leads_to_the_parts_of_the_very_statement() -> None:
    """Not to all the parts of the note it stood in."""
    one, two = a_ref("one"), a_ref("two")
    note = Note((Statement("The audit found three gaps.", (one,)), Statement("The budget rose by a tenth.", (two,))))

    found = led_back("The budget rose by a tenth. [1]", [note])

    assert found.statements == (Statement("The budget rose by a tenth.", (two,)),)


def test_a_statement_taken_over_does_not_cite_one_that_is_nearly_the_same() -> None:
    """Level 1 is not level 2, and a reader who follows the number would see that."""
    one, two = a_ref("one"), a_ref("two")
    note = Note((Statement("At level 1 the pilot may board by night.", (one,)),
                 Statement("At level 2 the pilot may board by night.", (two,))))

    assert led_back("At level 2 the pilot may board by night. [1]", [note]).statements[0].cites == (two,)


def test_a_statement_written_anew_leads_to_the_nearest_statements() -> None:
    """A model's own words are led back to what they share most words with."""
    one, two = a_ref("one"), a_ref("two")
    note = Note((Statement("The audit of the harbour found three gaps.", (one,)), Statement("Rain fell in spring.", (two,))))

    found = led_back("Three gaps were what the harbour audit found. [1]", [note])

    assert found.statements[0].cites == (one,)


def test_passages_nobody_cites_are_named() -> None:
    """So that an overview can be asked again for the volume it left out."""
    assert unmentioned("The audit found three gaps. [1]\nThe budget rose by a tenth. [3]", 3) == [1]


def test_citations_of_parts_are_their_references() -> None:
    """Passage n is the n-th reference."""
    one, two = a_ref("one"), a_ref("two")

    assert cited("The audit found three gaps. [2]", [one, two]).statements[0].cites == (two,)
