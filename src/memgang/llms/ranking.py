"""Ranking: how well each sentence answers a question, or how central it is to its text.

For a question: BM25 with the question's terms, the long form of acronyms the text itself introduces,
and, more lightly, terms that go with the best matches (relevance feedback); then the neighbourhood
counts, because an answer rarely stands alone. For a summary: the weight of a term is how much of the
text is about it, and the weight of a sentence that of its terms.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from memgang.llms.candidates import Candidate
from memgang.llms.terms import ASKING, stem, terms

K1 = 1.2
B = 0.6
# What a term counts towards covering the question when it is not in the sentence but close by.
UNDER_HEADING = 0.7
IN_PASSAGE = 0.35
HEADING_WEIGHT = 0.5  # a term of the heading counts half as much as one of the sentence
FEEDBACK_SENTENCES = 10
FEEDBACK_TERMS = 12
FEEDBACK_WEIGHT = 0.35
# How far a match shines: in a text to the next sentence or two, in talk over several sentences.
PROSE_REACH = 1.5
SPEECH_REACH = 4.0

_ACRONYM = re.compile(r"((?:[A-Za-z][\w-]+ ){1,6})\(([A-Z]{2,6})s?\)")
_ANSWERING = re.compile(
    r"\b(?:is|are|means|refers to|consists? of|defined as|provides?|requires?|ensures?)\b"
    r"|\b(?:SHALL|MUST|SHOULD|shall|must|should)\b"
    r"|\bbecause\b|\bin order to\b"
)
# A question for a number, and what may be one in an answer. "SP 800-63" and "Section 5" are names.
_MEASURE = re.compile(r"\bhow (?:long|many|much|often|old|far|large|big|high|fast|late|soon)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.-])(?<!Section )(?<!Sections )(?<!Table )(?<!Figure )(?<!SP )\d[\d,.]*(?![\w-]*-\d)(?!\.\d)\b"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|sixty|hundred|once|twice|daily|weekly|monthly"
    r"|yearly|annually)\b", re.IGNORECASE)


class Index:
    """The sentences with the statistics BM25 needs. Lives as long as one prompt."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.counts = [Counter(c.terms) for c in candidates]
        self.holders: dict[str, list[int]] = {}
        for i, counts in enumerate(self.counts):
            for term in counts:
                self.holders.setdefault(term, []).append(i)
        self.under: dict[str, list[int]] = {}
        for i, candidate in enumerate(candidates):
            for term in set(candidate.heading):
                self.under.setdefault(term, []).append(i)
        self.mean = sum(len(c.terms) for c in candidates) / max(1, len(candidates)) or 1.0

    def idf(self, term: str) -> float:
        """How rare a term is among the sentences, never negative."""
        n = len(self.holders.get(term, ()))
        return math.log(1 + (len(self.candidates) - n + 0.5) / (n + 0.5))

    def bm25(self, query: dict[str, float]) -> list[float]:
        """The BM25 score of each sentence for weighted terms."""
        scores = [0.0] * len(self.candidates)
        for term, weight in query.items():
            gain = weight * self.idf(term)
            for i in self.holders.get(term, ()):
                tf = self.counts[i][term]
                norm = K1 * (1 - B + B * len(self.candidates[i].terms) / self.mean)
                scores[i] += gain * tf * (K1 + 1) / (tf + norm)
            for i in self.under.get(term, ()):
                scores[i] += HEADING_WEIGHT * gain
        return scores


def subject(question: str) -> str:
    """The question without its measure: "how long must it be" is about a number, hardly about the word "long"."""
    return _MEASURE.sub(" ", question)


def question_terms(question: str) -> dict[str, float]:
    """The terms a question is about, weighted; empty where it is about nothing in particular."""
    asked = Counter(terms(subject(question), ASKING))
    return {term: 1.0 + 0.3 * (n - 1) for term, n in sorted(asked.items())}


def acronyms(passages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Acronym (small letters) to the stems of its long form, where the text introduces it: ``Long Form (LF)``."""
    found: dict[str, tuple[str, ...]] = {}
    for passage in passages:
        for match in _ACRONYM.finditer(passage) if "(" in passage else ():
            short = match.group(2)
            long = re.split(r"[\s-]+", match.group(1).strip())[-len(short) :]
            if "".join(w[0] for w in long).upper() == short:
                found.setdefault(short.lower(), tuple(stem(w.lower()) for w in long))
    return found


def expand(query: dict[str, float], known: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The query with the short form for every long form in it, and the long form, lighter, for the short."""
    wider = dict(query)
    for short, long in sorted(known.items()):
        if all(term in query for term in long):
            wider.setdefault(short, 1.0)
        elif short in query:
            for term in long:
                wider.setdefault(term, 0.3)
    return wider


def coverage(index: Index, asked: dict[str, float], known: dict[str, tuple[str, ...]]) -> list[float]:
    """How much of the question each sentence speaks to, 0..1.

    BM25 adds up, so a sentence with one rare term three times beats one that has every term once. A term
    counts whole in the sentence (an acronym stands for its long form), and in part in its heading or passage.
    """
    weight = {term: w * index.idf(term) for term, w in asked.items()}
    total = sum(weight.values()) or 1.0
    stands_for = {
        t: {short for short, long in known.items() if t in long and all(w in asked for w in long)} for t in asked
    }
    in_passage: dict[int, set[str]] = {}
    for candidate in index.candidates:
        in_passage.setdefault(candidate.passage, set()).update(candidate.terms)
    found = []
    for candidate, counts in zip(index.candidates, index.counts, strict=True):
        heard = 0.0
        for term, w in weight.items():
            same = {term} | stands_for[term]
            if not same.isdisjoint(counts):
                heard += w
            elif not same.isdisjoint(candidate.heading):
                heard += UNDER_HEADING * w
            elif not same.isdisjoint(in_passage[candidate.passage]):
                heard += IN_PASSAGE * w
        found.append(heard / total)
    return found


def relevance(
    index: Index, asked: dict[str, float], known: dict[str, tuple[str, ...]], question: str, speech: bool
) -> list[float]:
    """How well each sentence answers the question, 0..1; all 0 where no term of it occurs.

    ``asked`` are the question's terms, ``known`` the acronyms of the text.
    """
    query = expand(asked, known)
    direct = index.bm25(query)
    if not any(direct):
        return direct
    reach = SPEECH_REACH if speech else PROSE_REACH
    near = _normal(_spread(direct, index.candidates, reach))
    best = sorted(range(len(direct)), key=lambda i: (-(direct[i] / max(direct) + near[i]), i))[:FEEDBACK_SENTENCES]
    wider = index.bm25(_feedback(index, best, query))
    own, wide = _normal(direct), _normal(wider)
    around = _normal(
        _spread([d + FEEDBACK_WEIGHT * w for d, w in zip(own, wide, strict=True)], index.candidates, reach)
    )
    named = asked_speakers(question, index.candidates) if speech else frozenset()
    covers = coverage(index, asked, known)
    measured = _MEASURE.search(question) is not None
    defining = bool(re.match(r"\s*(?:what|who) (?:is|are|was|were)\b", question, re.IGNORECASE))
    scores = []
    for i, candidate in enumerate(index.candidates):
        if speech:
            score = 0.3 * own[i] + 0.2 * wide[i] + 0.5 * around[i]
            if named:
                score *= 1.0 if candidate.speaker in named else 0.4
        else:
            score = (0.6 * own[i] + 0.2 * wide[i] + 0.2 * around[i]) * covers[i] ** 2
            if own[i] and _ANSWERING.search(candidate.text):
                score *= 1.15
            if measured:
                score *= 1.4 if _NUMBER.search(candidate.text) else 0.7
            if defining and any(term in query for term in candidate.terms[:2]):
                score *= 1.3
        scores.append(score)
    return _normal(scores)


def asked_speakers(question: str, candidates: Sequence[Candidate]) -> frozenset[str]:
    """The speakers a question names: the whole name, or its last word (``F`` for ``PhD F``)."""
    names = sorted({c.speaker for c in candidates if c.speaker})
    whole = frozenset(n for n in names if re.search(rf"\b{re.escape(n)}\b", question, re.IGNORECASE))
    if whole:
        return whole
    asked = set(re.findall(r"\w+", question))
    parts = {n: {w for w in n.split() if len(w) > 2 or w == n.split()[-1]} for n in names}
    return frozenset(
        n for n in names if parts[n] & (asked - {"I", "A"} if question.startswith("A ") else asked - {"I"})
    )


def centrality(index: Index) -> dict[str, float]:
    """Term to weight: how much of the text is about it. Terms said only once weigh little."""
    total = max(1, len(index.candidates))
    weights: dict[str, float] = {}
    for term, holders in index.holders.items():
        n = len(holders)
        weights[term] = math.sqrt(n) * math.log(1 + total / n) * (1.0 if n > 1 else 0.4)
    return weights


def alike(a: Candidate, b: Candidate) -> float:
    """How much two sentences say the same: shared terms over the smaller set, 0..1."""
    left, right = set(a.terms), set(b.terms)
    return len(left & right) / min(len(left), len(right)) if left and right else 0.0


def _feedback(index: Index, best: Sequence[int], query: dict[str, float]) -> dict[str, float]:
    """Terms that go with the best matches, weighted by how much they do."""
    seen: Counter[str] = Counter()
    for i in best:
        seen.update(set(index.counts[i]))
    weighed = sorted(
        ((n * index.idf(t), t) for t, n in seen.items() if n > 1 and t not in query), key=lambda p: (-p[0], p[1])
    )
    top = weighed[0][0] if weighed else 1.0
    return query | {t: FEEDBACK_WEIGHT * w / top for w, t in weighed[:FEEDBACK_TERMS]}


def _spread(scores: Sequence[float], candidates: Sequence[Candidate], reach: float) -> list[float]:
    """Each score with the fading scores before and after it: two sweeps of an exponential."""
    fade = math.exp(-1.0 / reach)
    forward = list(scores)
    for i in range(1, len(forward)):
        forward[i] += fade * forward[i - 1]
    backward = list(scores)
    for i in range(len(backward) - 2, -1, -1):
        backward[i] += fade * backward[i + 1]
    return [f + b - s for f, b, s in zip(forward, backward, scores, strict=True)]


def _normal(scores: Sequence[float]) -> list[float]:
    top = max(scores, default=0.0)
    return [s / top for s in scores] if top > 0 else [0.0] * len(scores)
