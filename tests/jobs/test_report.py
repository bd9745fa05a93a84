"""The report job, end to end on a real server: citations that lead back, work shared between teams, failures named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memgang import Completion, Gang, Prompt, Space
from memgang.errors import CallTooLarge, ConfigError, ModelError, ReadError, WorkFailed
from memgang.jobs.report import report
from memgang.jobs.statements import Statement
from memgang.limits import Limits
from memgang.llms import load

PARAGRAPHS = {
    "1 Arrival": "Ships enter the harbour of {port} by day and wait at the outer buoy until the pilot has come on board. "
    "The pilot of {port} brings the ship past the mole and hands the wheel back at the inner basin of the harbour. "
    "Ships longer than ninety metres take two tugs, and the harbour master of {port} decides on the order of arrival. "
    "In fog the harbour of {port} is closed, and the light on the mole shows three red lamps above each other. "
    "Fishing boats enter without a pilot when the wind is below force six and the harbour master has been told.",
    "2 Fees": "Every ship pays a fee in the office of {port} before it leaves, and the fee depends on its length. "
    "A ship below thirty metres pays forty pounds, and each further metre costs two pounds in every season. "
    "The office of {port} opens at nine and takes payment in pounds, in cheques, and by transfer within a week. "
    "Training ships and lifeboats pay no fee at {port} when their captain shows a letter of the ministry. "
    "Whoever leaves {port} without payment owes the double fee, and the next port is told by telegraph.",
    "3 Conduct": "Dogs are kept on a lead in all parts of the harbour of {port}, and cats stay on board of their ship. "
    "Fires on deck are forbidden in {port} while oil is being pumped, and the watch has to be told of every welding job. "
    "Waste is brought to the shed behind the office of {port}, and nothing is thrown into the basin at any time. "
    "Crews that sleep on board of their ship tell the watch of {port} how many they are before ten in the evening. "
    "Music after midnight needs a permit of the harbour master of {port}, who gives it twice a year at most.",
}
FEE = "A ship below thirty metres pays forty pounds, and each further metre costs two pounds in every season."


def write_volume(folder: Path, port: str) -> None:
    """A volume of three numbered chapters on a harbour, each long enough to be a part of its own."""
    folder.mkdir(parents=True)
    for number, (title, text) in enumerate(PARAGRAPHS.items(), 1):
        (folder / f"s{number}.md").write_text(f"# {title}\n\n{text.format(port=port)}\n")
    (folder / "references.md").write_text("# References\n\nA. Smith, Harbours of the world, 1901. B. Jones, Tides, 1902.\n")


@pytest.fixture
def two_volumes(tmp_path: Path) -> Path:
    """Two volumes side by side in a folder."""
    write_volume(tmp_path / "in" / "alpha", "Alphaville")
    write_volume(tmp_path / "in" / "beta", "Betaport")
    return tmp_path / "in"


class Scripted:
    """A language model that does what the test says with each prompt. ``name`` makes it its own model for every test."""

    price_name = "scripted"
    version = "1"

    def __init__(self, name: str, complete: Callable[[Prompt], str]) -> None:
        self.name, self.parameters, self.asked = name, dict[str, Any](), list[Prompt]()
        self._complete = complete

    async def complete(self, prompt: Prompt) -> Completion:
        """The scripted answer."""
        self.asked.append(prompt)
        return Completion(text=self._complete(prompt))

    async def aclose(self) -> None:
        """Nothing to give back."""


def first_sentences(prompt: Prompt) -> str:
    """The first sentence of every passage."""
    bodies = [[line for line in passage.splitlines() if line and not line.startswith("#")] for passage in prompt.passages]
    return "\n".join(f"{body[0].split('. ')[0].rstrip('.')}. [{n}]" for n, body in enumerate(bodies, 1) if body)


async def test_every_citation_leads_to_a_part_that_holds_the_statement(space: Space, two_volumes: Path) -> None:
    """The model selects sentences, so each must stand in the part it cites, word for word."""
    made = await report(Gang(space, llm="extractive"), [str(two_volumes)], ["What does a ship pay?"])

    sources = {source.ref: source for source in made.sources}
    groups = [*made.overview, *made.sections, *made.answers]
    statements = [statement for group in groups for statement in group.statements]
    assert statements
    for statement in statements:
        assert statement.cites
        for ref in statement.cites:
            text = await space.get(await space.resolve(sources[ref].ref.short), str)
            assert statement.text in " ".join(text.split())
            assert Path(sources[ref].source).is_file()


async def test_the_report_is_in_the_order_of_the_documents_and_leaves_out_references(space: Space, two_volumes: Path) -> None:
    """Volumes as they were given, chapters by number."""
    made = await report(Gang(space, llm="extractive"), [str(two_volumes)])

    assert [(s.level, s.title) for s in made.sections] == [
        (2, "alpha"), (3, "1 Arrival"), (3, "2 Fees"), (3, "3 Conduct"),
        (2, "beta"), (3, "1 Arrival"), (3, "2 Fees"), (3, "3 Conduct")]
    assert not any("Smith" in s.text for section in made.sections for s in section.statements)


async def test_a_question_is_answered_from_the_right_place(space: Space, two_volumes: Path) -> None:
    """Forty pounds are in the chapter on fees and nowhere else."""
    made = await report(Gang(space, llm="extractive"), [str(two_volumes / "alpha")], ["What does a ship below thirty metres pay?"])

    assert any("forty pounds" in s.text for s in made.answers[0].statements)
    source = next(x for x in made.sources if x.ref == next(s for s in made.answers[0].statements if "forty" in s.text).cites[0])
    assert source.source.endswith("s2.md")


async def test_teams_take_each_note_once_between_them(space: Space, two_volumes: Path) -> None:
    """Three questions and the whole ask for every note; one team takes it, and the others are told."""
    model = Scripted("scripted-teams", first_sentences)
    gang = Gang(space, llm=model)
    async with gang.run("teams"):
        await report(gang, [str(two_volumes)], ["What does a ship pay?", "When is the harbour closed?", "Are dogs allowed?"])
    savings = await gang.savings()

    noted = [prompt for prompt in model.asked if prompt.instruction.startswith("Note the facts")]
    assert len(noted) == len({prompt.passages for prompt in noted}) == 6
    assert savings.by_role["note"].virtual.llm_calls == 4 * savings.by_role["note"].physical.llm_calls == 24
    assert savings.adds_up()


async def test_the_same_run_again_computes_nothing_and_gives_the_same_report(space: Space, two_volumes: Path) -> None:
    """Every call is a hit, and the finished report is one memory object."""
    first = Gang(space, llm="extractive")
    again = Gang(space, llm="extractive")

    one = await report(first, [str(two_volumes)], ["What does a ship pay?"])
    async with again.run("again"):
        two = await report(again, [str(two_volumes)], ["What does a ship pay?"])

    assert one == two
    assert (await again.savings()).physical.calls == 0
    assert again.progress.computed == 0 < again.progress.hits


async def test_an_edited_paragraph_leads_to_its_note_section_volume_and_the_top(space: Space, two_volumes: Path) -> None:
    """And to the search; an answer from other parts stays as it is."""
    model = Scripted("scripted-edit", first_sentences)
    question = "Are dogs kept on a lead at Betaport?"
    await report(Gang(space, llm=model), [str(two_volumes)], [question])
    edited = two_volumes / "alpha" / "s2.md"
    edited.write_text(edited.read_text().replace("Every ship pays a fee", "Every ship and every boat pays a fee"))

    gang = Gang(space, llm=model)
    async with gang.run("edited"):
        await report(gang, [str(two_volumes)], [question])

    computed = {role: step.done - step.recalled for role, step in gang.progress.roles.items()}
    assert computed["note"] == computed["section"] == computed["volume"] == computed["overview"] == computed["find"] == 1
    assert gang.progress.roles["note"].done == 12


async def test_one_bad_part_is_named_and_does_not_sink_the_run(space: Space, two_volumes: Path) -> None:
    """The model refuses the chapter on conduct of one volume; the rest of the report is there."""
    def refuses(prompt: Prompt) -> str:
        if prompt.instruction.startswith("Note") and "Betaport" in prompt.passages[0] and "Dogs" in prompt.passages[0]:
            raise ModelError("scripted", "permanent", "content_filter", "the passage was refused")
        return first_sentences(prompt)

    gang = Gang(space, llm=Scripted("scripted-bad-part", refuses))
    made = await report(gang, [str(two_volumes)], ["What does a ship pay?"])

    assert [(f.place, "refused" in f.reason) for f in made.failures] == [("3 Conduct › 3 Conduct", True)]
    assert [s.title for s in made.sections if s.level == 3] == ["1 Arrival", "2 Fees", "3 Conduct", "1 Arrival", "2 Fees"]
    assert made.answers[0].statements
    assert gang.failures


def with_cover(folder: Path) -> Path:
    """One more document, whose part holds nothing to sum up: its note is made without the model."""
    (folder / "alpha" / "cover.md").write_text("# The harbour rules\n\nAlphaville, in May. Printed for the office of the harbour.\n")
    return folder


@pytest.mark.parametrize("questions", [[], ["What does a ship pay?"]])
async def test_where_nothing_at_all_could_be_made_there_is_no_report_but_the_reason(
    space: Space, two_volumes: Path, questions: list[str],
) -> None:
    """A part with nothing to sum up is no work that has succeeded."""
    def refuses(prompt: Prompt) -> str:
        raise ModelError("scripted", "permanent", "500", "out of order")

    gang = Gang(space, llm=Scripted(f"scripted-broken-{len(questions)}", refuses))
    with pytest.raises(WorkFailed, match="out of order"):
        await report(gang, [str(with_cover(two_volumes))], questions)

    assert gang.progress.computed, "there was a part that needed no model"
    assert not (await space.find(kind="report")).objects


async def test_where_no_call_fits_into_the_limit_the_error_says_how_large_it_must_be(space: Space, two_volumes: Path) -> None:
    """The numbers of all of them, and what to do; above it there is a report."""
    folder, llm = str(with_cover(two_volumes)), "simulated:latency_ms=0,tokens_per_s=0"

    async def limited(tokens: int) -> Any:
        async with Gang(space, llm=llm, limits=Limits(tokens_per_minute=tokens, per_s=1)) as gang:
            return await report(gang, [folder], ["What does a ship pay?"])

    says = r"^none of \d+ calls could be made: the largest needs about [\d,]+ tokens; the limit is 5"
    with pytest.raises(CallTooLarge, match=says) as caught:
        await limited(5)

    assert f"--tpm) above {caught.value.size:,}" in caught.value.hint
    assert (await limited(caught.value.size * 20)).figures.statements


async def test_work_that_is_too_large_for_the_limit_is_named_and_the_rest_is_there(space: Space, two_volumes: Path) -> None:
    """Some calls fit, others do not: a report with holes that are said."""
    limits = Limits(tokens_per_minute=900, per_s=1)
    async with Gang(space, llm="simulated:latency_ms=0,tokens_per_s=0", limits=limits) as gang:
        made = await report(gang, [str(two_volumes / "alpha")])

    assert made.sections
    assert [(f.place, "could never begin" in f.reason) for f in made.failures] == [("the summary", True)]


async def test_a_question_whose_work_failed_is_named_and_the_rest_is_there(space: Space, two_volumes: Path) -> None:
    """Not the same as a question to which nothing was found."""
    def refuses(prompt: Prompt) -> str:
        if prompt.question.startswith("Which"):
            raise ModelError("scripted", "permanent", "content_filter", "the question was refused")
        return first_sentences(prompt)

    made = await report(
        Gang(space, llm=Scripted("scripted-bad-question", refuses)), [str(two_volumes)], ["Which fee is due?", "What does a ship pay?"])

    assert [answer.failed for answer in made.answers] == [True, False]
    assert made.answers[1].statements
    assert [f.place for f in made.failures] == ["the answer to “Which fee is due?”"]


async def test_a_short_text_is_not_said_twice(space: Space, tmp_path: Path) -> None:
    """Where the summary is all there is to say, no section says it again."""
    (tmp_path / "plan.md").write_text("# Plan\n\nThe bridge over the river will be repaired in May. It costs four thousand pounds.\n")

    made = await report(Gang(space, llm="extractive"), [str(tmp_path / "plan.md")])

    assert [s.text for s in made.overview[0].statements] == [
        "The bridge over the river will be repaired in May.", "It costs four thousand pounds."]
    assert made.sections == ()


async def test_an_unreadable_file_is_named_with_its_reason(space: Space, two_volumes: Path) -> None:
    """And the others are read."""
    (two_volumes / "alpha" / "broken.pdf").write_bytes(b"%PDF-1.7 not really")

    made = await report(Gang(space, llm="extractive"), [str(two_volumes)])

    assert [Path(u.source).name for u in made.unreadable] == ["broken.pdf"]
    assert made.unreadable[0].reason
    assert made.sections


@pytest.mark.parametrize("name", ["missing.md", "empty.md"])
async def test_with_nothing_to_read_there_is_no_report_but_a_reason(space: Space, tmp_path: Path, name: str) -> None:
    """A command line can print it and exit with 1."""
    (tmp_path / "empty.md").write_text("")

    with pytest.raises(ReadError) as caught:
        await report(Gang(space, llm="extractive"), [str(tmp_path / name)])

    assert name in caught.value.source
    assert caught.value.reason


async def test_a_wrong_key_stops_the_run_at_once(space: Space, two_volumes: Path) -> None:
    """No use in failing the next part of the same."""
    def denied(prompt: Prompt) -> str:
        raise ModelError("scripted", "caller", "401", "the key is wrong")

    model = Scripted("scripted-denied", denied)

    with pytest.raises(ModelError, match="key is wrong"):
        await report(Gang(space, llm=model, concurrency=2), [str(two_volumes)], agents=2)


async def test_a_quota_that_runs_out_while_reducing_stops_the_run_too(space: Space, two_volumes: Path) -> None:
    """The caller's own trouble is no hole in the report."""
    def spent(prompt: Prompt) -> str:
        if not prompt.instruction.startswith("Note"):
            raise ModelError("scripted", "caller", "insufficient_quota", "the quota is used up")
        return first_sentences(prompt)

    with pytest.raises(ModelError, match="quota is used up"):
        await report(Gang(space, llm=Scripted("scripted-quota", spent)), [str(two_volumes)])


async def test_companion_volumes_do_not_print_the_same_sentence_twice(space: Space, two_volumes: Path) -> None:
    """What the first volume has said stands there; a section never becomes empty for it."""
    shared = "Every harbour in this series has a master, a pilot and an office, as the act of 1894 demands."
    for name in ("alpha", "beta"):
        file = two_volumes / name / "s1.md"
        file.write_text(file.read_text().replace("# 1 Arrival\n\n", f"# 1 Arrival\n\n{shared} "))
    scripted = Scripted("scripted-shared", lambda prompt: "\n".join(
        f"{line} [{n}]" for n, passage in enumerate(prompt.passages, 1)
        for line in passage.replace(". ", ".\n").splitlines() if line.endswith(".")))

    made = await report(Gang(space, llm=scripted), [str(two_volumes)])

    alpha = next(s for s in made.sections if (s.level, s.title) == (3, "1 Arrival"))
    beta = [s for s in made.sections if (s.level, s.title) == (3, "1 Arrival")][1]
    assert shared in [s.text for s in alpha.statements]
    assert shared not in [s.text for s in beta.statements]
    assert beta.statements


async def test_questions_alone_are_answered_where_no_overview_is_wanted(space: Space, two_volumes: Path) -> None:
    """As one of several teams that work for different people."""
    made = await report(Gang(space, llm="extractive"), [str(two_volumes)], ["What does a ship pay?"], overview=False)

    assert made.overview == made.sections == ()
    assert made.answers[0].statements


async def test_the_overview_is_asked_again_for_a_volume_it_left_out(space: Space, two_volumes: Path) -> None:
    """A summary of two volumes that is silent about the second is no summary."""
    def forgetful(prompt: Prompt) -> str:
        lines = first_sentences(prompt).splitlines()
        return lines[0] if "Write the summary of the whole" in prompt.instruction else "\n".join(lines)

    made = await report(Gang(space, llm=Scripted("scripted-forgetful", forgetful)), [str(two_volumes)])

    said = [statement.text for paragraph in made.overview for statement in paragraph.statements]
    assert len(made.overview) == 2
    assert "Alphaville" in said[0] and "Betaport" in said[-1]


async def test_an_empty_question_is_refused(space: Space, two_volumes: Path) -> None:
    """Nothing would be about it."""
    with pytest.raises(ConfigError, match="question is empty"):
        await report(Gang(space, llm="extractive"), [str(two_volumes)], ["  "])


async def test_a_model_that_writes_has_its_citations_checked(space: Space, two_volumes: Path) -> None:
    """Numbers it makes up are taken out and counted."""
    made = await report(
        Gang(space, llm=Scripted("scripted-liar", lambda prompt: "All ships pay what they owe. [1][99]")), [str(two_volumes)])

    assert made.figures.invented_citations > 0
    assert all(isinstance(s, Statement) and s.cites for paragraph in made.overview for s in paragraph.statements)


async def test_the_default_model_is_named_in_the_figures(space: Space, two_volumes: Path) -> None:
    """The written report says that sentences are selected where they are."""
    model = load("extractive", space.settings)

    assert (await report(Gang(space, llm=model), [str(two_volumes)])).figures.model == "extractive"
