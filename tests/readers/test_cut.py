"""Cutting: nothing is lost, sizes hold, and an edit moves few borders."""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from memgang.readers.blocks import LINE, Block, words_in
from memgang.readers.cut import MAX, MIN, cut


def paragraphs(seed: int, count: int) -> list[Block]:
    """Made-up paragraphs of 20 to 120 words, a heading now and then."""
    rnd = random.Random(seed)
    blocks: list[Block] = []
    for i in range(count):
        if rnd.random() < 0.1:
            blocks.append(Block(text=f"Heading {seed} {i}", level=rnd.choice((2, 3))))
        words = [f"w{rnd.randrange(5000)}" for _ in range(rnd.randrange(20, 120))]
        blocks.append(Block(text=" ".join(words).capitalize() + ".", line=i + 1))
    return blocks


def body(text: str) -> list[str]:
    """The words of a part without its heading marks."""
    return [word for word in text.split() if word != "##"]


@given(st.integers(0, 10_000), st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_parts_hold_every_word_once_and_in_order(seed: int, count: int) -> None:
    """Joined again, the parts are the document."""
    blocks = paragraphs(seed, count)
    found = [word for part in cut(blocks) for word in body(part.text)]
    assert found == [word for block in blocks for word in block.text.split()]


def changed_by_insertion(seed: int) -> tuple[int, int, int]:
    """How many parts an inserted paragraph changes, how many there are, how many stand in front of it."""
    blocks = paragraphs(seed, 200)
    new = Block(text="This was inserted, " + " ".join(f"n{i}" for i in range(60)) + ".")
    at = random.Random(seed).randrange(len(blocks))
    before = [part.text for part in cut(blocks)]
    after = [part.text for part in cut([*blocks[:at], new, *blocks[at:]])]
    same = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    return len(set(after) - set(before)), len(before), same


def test_an_insertion_changes_few_parts() -> None:
    """In 100 texts of about 38 parts an insertion changes two parts usually, and six at most in 95 of them.

    Borders that are met again by chance have a tail, so this is a statement about many texts. The seeds
    are fixed: the test gives the same answer every time.
    """
    changed = sorted(changed_by_insertion(seed)[0] for seed in range(100))
    assert changed[50] <= 2
    assert changed[94] <= 6
    assert min(changed_by_insertion(seed)[1] for seed in range(5)) > 25


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_parts_in_front_of_an_insertion_stay(seed: int) -> None:
    """Whatever is inserted, the parts before it are the same, up to the one it touches and its neighbour."""
    at = random.Random(seed).randrange(len(paragraphs(seed, 200)))
    _, count, same = changed_by_insertion(seed)
    assert same >= count * at / len(paragraphs(seed, 200)) * 0.7 - 3


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_sizes_stay_inside_the_bounds(seed: int) -> None:
    """Parts of a long document have between MIN and MAX words."""
    sizes = [words_in(part.text) for part in cut(paragraphs(seed, 120))]
    assert min(sizes[:-1]) >= MIN
    assert max(sizes) <= MAX
    assert 250 <= sorted(sizes)[len(sizes) // 2] <= 500


def test_a_paragraph_without_end_is_divided_at_sentences() -> None:
    """A text without paragraphs still gives parts, each ending at a full stop."""
    text = " ".join(f"Sentence number {i} has some words in it." for i in range(600))
    parts = cut([Block(text=text)])
    assert len(parts) > 5
    assert all(part.text.endswith(".") for part in parts)


def test_one_endless_word_list_is_divided_too() -> None:
    """Even without any stop no part is larger than MAX."""
    parts = cut([Block(text=" ".join(f"w{i}" for i in range(5000)))])
    assert max(words_in(part.text) for part in parts) <= MAX


def test_places_are_kept() -> None:
    """Each part knows its place, its pages and the headings above it."""
    long = " ".join(["word"] * 200) + "."
    parts = cut([
        Block(text="One", level=1, page=1), Block(text=long, page=1, page_end=2), Block(text="Deep", level=2, page=2),
        Block(text=long, page=3), Block(text="Two", level=1, page=4), Block(text=long, page=4, line=9),
    ])
    assert [part.headings for part in parts] == [("One",), ("One", "Deep"), ("Two",)]
    assert [(part.page, part.page_end) for part in parts] == [(1, 2), (2, 3), (4, 4)]
    assert [part.pos for part in parts] == sorted(part.pos for part in parts)
    assert 0 < parts[0].pos < 0.5 < parts[-1].pos < 1
    assert parts[0].text.startswith("## One\n\nword")


def test_turns_of_a_conversation_stand_one_a_line() -> None:
    """Blocks glued by a line end are lines of one part."""
    parts = cut([Block(text=f"A: turn {i}", glue=LINE) for i in range(5)])
    assert parts[0].text == "\n".join(f"A: turn {i}" for i in range(5))


def test_quotes_and_hyphens_do_not_move_borders() -> None:
    """The same words in other typography are cut at the same places."""
    blocks = paragraphs(7, 100)
    other = [Block(text=re.sub(r"\b(w1\d*)", r"“\1”", block.text), level=block.level) for block in blocks]
    assert [len(body(part.text)) for part in cut(blocks)] == [len(body(part.text)) for part in cut(other)]
