"""The default model selects sentences: nothing else, within its words, the same everywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from memgang.llms.candidates import gather, plain, spoken, tidy
from memgang.llms.extractive import Extractive, answer
from memgang.llms.terms import stem
from memgang.llms.wording import estimate
from memgang.model import LanguageModel, Prompt

VOCABULARY = (
    "server client lease memory agent shared token cache river mountain history reads writes follows leader answer "
    "password secret changes periodically evidence shall however this they level two"
)
WORDS = st.sampled_from(VOCABULARY.split())
SENTENCES = st.lists(WORDS, min_size=1, max_size=25).map(lambda ws: " ".join(ws).capitalize() + ".")
PASSAGES = st.lists(st.lists(SENTENCES, min_size=0, max_size=12).map(" ".join), min_size=0, max_size=6).map(tuple)
QUESTIONS = st.sampled_from(
    ["", "What does the leader write?", "When must a secret change?", "Summarize the discussion."]
)
LINE = re.compile(r"(.+) \[(\d+)\]")

POLICY = (
    "The library opens at nine in the morning on weekdays. The reading room has forty seats.",
    (
        "A password must be changed when there is evidence that it was stolen. It must not be changed on a schedule. "
        "Users choose weaker words when they are forced to change them often."
    ),
    "The garden behind the building is open in summer. Dogs have to stay outside the garden at all times.",
)
MEETING = (
    (
        "Anna: Um , so the the battery should last a whole week , I think .\n"
        "Ben: Mm - hmm .\n"
        "Anna: We could use {disfmarker} a solar cell to charge the battery during the day .\n"
        "Ben: The solar cell costs too much for a remote control like this one .\n"
        "Anna: Okay .\n"
        "Ben: And a kinetic battery would be cheaper than the solar cell by two Euros ."
    ),
)


@given(passages=PASSAGES, question=QUESTIONS, words=st.integers(1, 120))
@settings(max_examples=150, deadline=None)
def test_every_statement_stands_in_the_passage_it_cites_and_the_words_are_kept(
    passages: tuple[str, ...], question: str, words: int
) -> None:
    """Each line is a piece of passage n, lines keep the order of passages, and only a lone sentence may be too long."""
    lines = answer(Prompt(instruction="Answer.", passages=passages, question=question, words=words)).splitlines()
    cited, used = [], 0
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        assert match.group(1) in passages[int(match.group(2)) - 1]
        cited.append(int(match.group(2)))
        used += len(match.group(1).split())
    assert cited == sorted(cited)
    assert used <= words or len(lines) == 1


@given(text=st.text(max_size=400), question=st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_answered_without_an_error(text: str, question: str) -> None:
    """Whatever stands in a passage or a question, there is an answer or an empty one."""
    for prompt in (Prompt(instruction=text), Prompt(instruction="x", passages=(text, text), question=question)):
        for line in answer(prompt).splitlines():
            assert line.strip()


def test_the_answer_is_the_same_whatever_the_hash_seed() -> None:
    """Two processes that hash strings differently select the same sentences."""
    code = (
        "import sys, json; from memgang.llms.extractive import answer; from memgang.model import Prompt\n"
        "p = tuple(json.load(sys.stdin))\n"
        "print(answer(Prompt(instruction='a', passages=p, question='When must a password be changed?', words=40)))\n"
        "print(answer(Prompt(instruction='a', passages=p, words=40)))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(POLICY),
            text=True,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("0", "1", "4711")
    ]
    assert told[0].strip()
    assert len(set(told)) == 1


def test_a_question_is_answered_from_the_passage_that_answers_it() -> None:
    """The sentence with the condition comes, and no other passage is cited."""
    text = answer(Prompt(instruction="a", passages=POLICY, question="When must a password be changed?", words=40))
    assert "A password must be changed when there is evidence that it was stolen. [2]" in text.splitlines()
    assert {line[-3:] for line in text.splitlines()} == {"[2]"}


def test_a_summary_gives_every_passage_its_say() -> None:
    """With room for one sentence each, no passage is left out."""
    text = answer(Prompt(instruction="a", passages=POLICY, words=45))
    assert {line[-3:] for line in text.splitlines()} == {"[1]", "[2]", "[3]"}


def test_a_question_about_something_else_gets_no_answer() -> None:
    """Where no passage holds a term of the question the text is empty, and so are passages without text."""
    assert answer(Prompt(instruction="a", passages=POLICY, question="Who painted the Mona Lisa?")) == ""
    assert answer(Prompt(instruction="a", passages=("", "  \n"), question="Who?")) == ""
    assert answer(Prompt(instruction="")) == ""


def test_the_same_sentence_is_not_selected_twice() -> None:
    """Two passages that say the same are cited once."""
    text = answer(
        Prompt(instruction="a", passages=(POLICY[1], POLICY[1]), question="When must a password be changed?", words=200)
    )
    said = [line[:-4] for line in text.splitlines()]
    assert len(said) == len(set(said)) > 0


def test_a_plain_prompt_is_answered_without_marks() -> None:
    """First paragraph instruction, the rest text: the instruction is not quoted, nothing is cited."""
    text = answer(Prompt(instruction="Summarise the following text in one line please.\n\n" + POLICY[2], words=12))
    assert text in POLICY[2]
    assert text
    assert answer(Prompt(instruction=POLICY[2], words=50)) != ""


def test_a_transcript_keeps_its_speakers_and_loses_its_fillers() -> None:
    """Statements of a meeting name who spoke; noises, fillers and repeated words are gone."""
    text = answer(
        Prompt(instruction="a", passages=MEETING, question="What did Ben say about the solar cell?", words=40)
    )
    assert "Ben: The solar cell costs too much for a remote control like this one. [1]" in text.splitlines()
    assert "disfmarker" not in text
    assert (
        tidy("Um , so the the battery should last a whole week , I mean .") == "The battery should last a whole week."
    )
    assert all(line.startswith(("Anna: ", "Ben: ")) for line in text.splitlines())


def test_a_glossary_is_not_a_transcript() -> None:
    """Lines of ``Term: meaning`` whose terms never return are prose."""
    glossary = "\n".join(
        f"{t}: A thing that is known by the name of {t.lower()}." for t in ("Apple", "Pear", "Plum", "Fig", "Lime")
    )
    assert not spoken((glossary,))
    assert spoken(MEETING)


def test_markup_and_old_citations_are_taken_off() -> None:
    """Links keep their words, tags and emphasis go, and marks of an earlier answer do not reach the next one."""
    assert plain("See [the _guide_](a.html#x) **now**.") == "See the guide now."
    text = answer(
        Prompt(
            instruction="a",
            passages=("The lease ends after ten seconds of silence. [7]\nThe fence stays for ever. [2][3]",),
        )
    )
    assert text.splitlines() == ["The lease ends after ten seconds of silence. [1]", "The fence stays for ever. [1]"]


def test_a_sentence_that_leans_on_another_reads_worse_alone() -> None:
    """``They ...`` without what they are is worth less than the sentence that says it."""
    first, second = gather(
        ("Verifiers compare the secret with a list of stolen ones. They reject it when it is on the list.",)
    )
    assert second.leans
    assert second.quality < first.quality


def test_words_of_one_family_share_a_stem() -> None:
    """The stemmer brings the forms of a word together that questions and texts differ in."""
    for family in (
        "require requires required requirement requirements",
        "change changes changed changing",
        "federation federated federations",
        "policy policies",
    ):
        assert len({stem(word) for word in family.split()}) == 1, family


async def test_tokens_are_estimated_by_the_stated_rule() -> None:
    """Four bytes begun are a token; the completion says that it is an estimate."""
    model = Extractive()
    assert isinstance(model, LanguageModel)
    done = await model.complete(Prompt(instruction="a", passages=POLICY, words=40))
    assert done.estimated
    assert done.tokens_out == estimate(done.text) == -(-len(done.text.encode()) // 4)
    assert done.tokens_in >= sum(estimate(p) for p in POLICY)
    await model.aclose()
