"""Selection: sentences chosen one by one within a number of words, so that they do not repeat each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from memgang.llms.candidates import Candidate
from memgang.llms.ranking import Index, alike, centrality

SAME = 0.8  # share of terms from which two sentences say the same thing
# Of the best score: below it a sentence is about something else. Talk is thinner: its scores lie closer together.
PROSE_FLOOR = 0.25
SPEECH_FLOOR = 0.15
PURPOSE_BONUS = 1.6  # for a sentence that says what its document is for
SAID_AGAIN = 0.55  # what a term is still worth to a summary each time it has been said
CARRIED = 0.35  # of its own value that a sentence passes on to one that leans on it ("However, ...")

LAST_WORDS = 0.35  # share of the words from which on a sentence may be a mere filler
FILLER = 0.6  # it is one if the best sentence, too long to fit, is so much better
TITLE_BONUS = 0.5  # for a sentence that has every word of its heading


def for_question(index: Index, usable: Sequence[Candidate], scores: Sequence[float], words: int) -> list[Candidate]:
    """The sentences that answer best, with what they repeat held against them."""
    value = {c.place: scores[c.place] * c.quality for c in usable}
    floor = max(value.values()) * (SPEECH_FLOOR if any(c.speaker for c in usable) else PROSE_FLOOR)

    def gain(candidate: Candidate, chosen: Sequence[Candidate]) -> float:
        base = value[candidate.place]
        if base > 0 and _follows(candidate, chosen):
            base += CARRIED * value[candidate.place - 1]
        overlap = max((alike(candidate, other) for other in chosen), default=0.0)
        return 0.0 if overlap >= SAME or base < floor else base * (1 - 0.5 * overlap)

    return _greedy(usable, gain, words)


def for_summary(index: Index, usable: Sequence[Candidate], words: int) -> list[Candidate]:
    """The sentences that together cover most of what the passages are about.

    A term that is covered already counts less each time, so the gain of a sentence falls as what it
    says is said; passages that have had their say give way to the others.
    """
    weights = centrality(index)
    own = {c.place: [(t, weights[t]) for t in sorted(set(c.terms))] for c in usable}
    titles = {c.place: frozenset(c.heading) for c in usable}
    covered: Counter[str] = Counter()
    counted = 0
    used: Counter[int] = Counter()

    def gain(candidate: Candidate, chosen: Sequence[Candidate]) -> float:
        nonlocal counted
        for other in chosen[counted:]:
            covered.update(set(other.terms))
            used[other.passage] += 1
        counted = len(chosen)
        fresh = sum(w * SAID_AGAIN ** covered[t] for t, w in own[candidate.place])
        if chosen and max(alike(candidate, other) for other in chosen) >= SAME:
            return 0.0
        lead = 1.0 + 0.5 * (1 - candidate.depth) ** 2
        turn = 0.6 ** used[candidate.passage]
        # A sentence that takes up the words of its heading says what the section is about (Edmundson, 1969).
        titled = 1.0 + TITLE_BONUS * (len(titles[candidate.place] & set(candidate.terms)) / max(1, len(titles[candidate.place])))
        reads = (
            candidate.quality
            * (PURPOSE_BONUS if candidate.purpose else 1.0)
            * (1.6 if _follows(candidate, chosen) else 1.0)
        )
        return reads * lead * turn * titled * fresh / (candidate.words + 12)

    return _greedy(usable, gain, words, fill=False)


def _follows(candidate: Candidate, chosen: Sequence[Candidate]) -> bool:
    """Whether it leans on the sentence before it and that one is chosen, so that it reads well."""
    return candidate.leans and any(c.place == candidate.place - 1 and c.passage == candidate.passage for c in chosen)


def _greedy(
    usable: Sequence[Candidate], gain: Callable[[Candidate, Sequence[Candidate]], float], words: int, fill: bool = True
) -> list[Candidate]:
    """The best one after the other. Without ``fill``, the last words are not spent on what only happens to be short."""
    chosen: list[Candidate] = []
    left = words
    open_ = list(usable)
    while open_:
        fitting = [c for c in open_ if _cost(c, chosen) <= left]
        if not fitting:
            break
        best = max(fitting, key=lambda c: (gain(c, chosen), -c.place))
        worth = gain(best, chosen)
        if worth <= 0:
            break
        if not fill and left < words * LAST_WORDS and worth < FILLER * max(gain(c, chosen) for c in open_):
            break
        left -= _cost(best, chosen)
        chosen.append(best)
        open_.remove(best)
    if not chosen and usable:
        chosen = [min(usable, key=lambda c: (c.words, c.place))]
    return sorted(chosen, key=lambda c: c.place)


def _cost(candidate: Candidate, chosen: Sequence[Candidate]) -> int:
    """Words it adds to the answer, with the speaker's name where that has to be said."""
    if not candidate.speaker or any(c.turn == candidate.turn and c.passage == candidate.passage for c in chosen):
        return candidate.words
    return candidate.words + len(candidate.speaker.split())
