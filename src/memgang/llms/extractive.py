"""The default model: it selects sentences from the passages, it does not write them.

No key, no weights, no network: the same prompt gives the same answer on every machine, in
milliseconds. What comes out stands in the passages word for word, apart from mark-up (and, in a
transcript, fillers and false starts, which are taken out). So it cannot make anything up, and it
cannot join two facts into one sentence, draw a conclusion or say that the passages disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memgang.llms.wording import estimate, estimate_messages, messages
from memgang.model import Completion, Prompt

if TYPE_CHECKING:
    from memgang.llms.candidates import Candidate

VERSION = "1"  # goes into every call key: raise it whenever a change can alter an answer
IN_LOOP_CHARACTERS = 20_000  # about 10 ms; below it a thread costs more than it saves


class Extractive:
    """A language model that selects sentences. Holds nothing between prompts, so any number may run at once."""

    name = "extractive"
    price_name = "extractive"
    cpu_bound = True  # an engine with worker processes answers there
    deterministic = True  # asked again, it answers the same: one answer for all who ask
    version = VERSION

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    async def complete(self, prompt: Prompt) -> Completion:
        """The statements that answer the question, or sum up the passages, one per line in the passages' order.

        Each ends with `` [n]``, the number of its passage. The text is empty where no passage holds a
        sentence, or none has anything to do with the question. A prompt without passages is taken as
        an instruction, an empty line, and the text; its answer has no marks. The answer keeps to
        ``prompt.words``; only where the shortest fitting sentence is longer is it that one sentence.
        """
        # Half a second of selecting must not hold up the heartbeats of everything else in this process.
        size = len(prompt.instruction) + sum(map(len, prompt.passages))
        if size < IN_LOOP_CHARACTERS:
            return self.answered(prompt)
        import asyncio  # here, because a worker process does without

        return await asyncio.to_thread(self.answered, prompt)

    def answered(self, prompt: Prompt) -> Completion:
        """As `complete`, in the caller's thread."""
        text = answer(prompt)
        return Completion(
            text=text, tokens_in=estimate_messages(messages(prompt)), tokens_out=estimate(text), estimated=True
        )

    async def aclose(self) -> None:
        """Nothing to give back."""


def answer(prompt: Prompt) -> str:
    """The text of the answer; pure, so that processes and tests can compare it."""
    if prompt.passages:
        return _marked(select(prompt.passages, prompt.question, prompt.words), marks=True)
    instruction, text = _parted(prompt.instruction)
    question = prompt.question or (instruction if "?" in instruction else "")
    return _marked(select((text,), question, prompt.words), marks=False)


def select(passages: Sequence[str], question: str, words: int) -> list[Candidate]:
    """The chosen sentences in the order of the passages, at most ``words`` words long together."""
    # Imported at the first answer: a process whose workers answer never needs all these patterns.
    from memgang.llms.candidates import gather
    from memgang.llms.ranking import Index, acronyms, question_terms, relevance
    from memgang.llms.selection import for_question, for_summary

    found = gather(passages)
    # Fragments stand in only where there is no sentence at all: a table of contents sums up as its lines.
    usable = [c for c in found if c.whole] or [c for c in found if c.words >= 3]
    if not usable:
        return []
    index = Index(found)
    speech = any(c.speaker for c in found)
    query = question_terms(question)
    if not query:
        return for_summary(index, usable, words)
    scores = relevance(index, query, acronyms(passages), question, speech)
    if not any(scores[c.place] for c in usable):
        return []
    return for_question(index, usable, scores, words)


def _parted(text: str) -> tuple[str, str]:
    """Instruction and text of a plain prompt; one paragraph alone is text."""
    first, gap, rest = re.sub(r"\r\n?", "\n", text).strip().partition("\n\n")
    return (first, rest) if gap else ("", first)


def _marked(chosen: Sequence[Candidate], marks: bool) -> str:
    """One statement per line. What one speaker says in one breath is one statement under their name."""
    lines: list[str] = []
    before: Candidate | None = None
    for candidate in chosen:
        mark = f" [{candidate.passage}]" if marks else ""
        if before and candidate.speaker and (before.turn, before.passage) == (candidate.turn, candidate.passage):
            lines[-1] = lines[-1].removesuffix(mark) + f" {candidate.text}{mark}"
        else:
            lines.append(
                f"{candidate.speaker}: {candidate.text}{mark}" if candidate.speaker else f"{candidate.text}{mark}"
            )
        before = candidate
    return "\n".join(lines)
