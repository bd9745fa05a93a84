"""Which parts a question is about: BM25 over text, headings and notes. Pure, no model.

Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009)
with four additions that matter on long, ordered documents: words of the headings count more than
words of the text, pairs of neighbouring question words are terms of their own, a part that
speaks of the whole question is put before one that repeats a single word of it, and the long form of an acronym
that the documents introduce counts as the acronym, so that "Identity Assurance Level 2" is found for "IAL2".
Similarity only chooses what is read; the answer comes from the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

Acronyms = dict[str, tuple[str, ...]]  # short form to the stems of the long one

K1 = 1.2
B = 0.6
HEADING_WEIGHT = 2.5
NOTE_WEIGHT = 0.5
PAIR_WEIGHT = 0.6

class Entry(msgspec.Struct, frozen=True):
    """One part as the search sees it. ``document`` numbers its document: neighbours do not cross it."""

    text: str
    headings: str = ""
    note: str = ""
    document: int = 0


def rank(question: str, entries: Sequence[Entry]) -> list[tuple[int, float]]:
    """The entries that share a word with the question, best first, as (index, score); ties in document order."""
    # Imported at the first question: where workers search, only they need it.
    from memgang.llms.ranking import acronyms, subject
    from memgang.llms.terms import ASKING, terms

    known = acronyms([entry.text for entry in entries])
    words = _shortened(terms(subject(question), ASKING), known)
    asked = list(dict.fromkeys(words))
    if not asked or not entries:
        return []
    pairs = list(dict.fromkeys(zip(words, words[1:], strict=False)))
    counts, bigrams = [], []
    for entry in entries:
        text, headings, note = (_shortened(terms(part), known) for part in (entry.text, entry.headings, entry.note))
        count: dict[str, float] = {}
        for found, weight in ((text, 1.0), (headings, HEADING_WEIGHT), (note, NOTE_WEIGHT)):
            for term in found:
                count[term] = count.get(term, 0.0) + weight
        counts.append(count)
        bigrams.append({*zip(text, text[1:], strict=False), *zip(headings, headings[1:], strict=False)})
    lengths = [max(1, len(entry.text.split())) for entry in entries]
    mean = sum(lengths) / len(lengths)
    idf = {term: _idf(sum(term in count for count in counts), len(entries)) for term in asked}
    pair_idf = {pair: _idf(sum(pair in found for found in bigrams), len(entries)) for pair in pairs}
    # A word that nothing holds tells no part from another.
    whole = sum(weight for term, weight in idf.items() if any(term in count for count in counts)) or 1.0
    scored: list[tuple[int, float]] = []
    for i, count in enumerate(counts):
        met = [term for term in asked if term in count]
        if not met:
            continue
        norm = K1 * (1 - B + B * lengths[i] / mean)
        score = sum(idf[term] * count[term] * (K1 + 1) / (count[term] + norm) for term in met)
        score += PAIR_WEIGHT * sum(pair_idf[pair] for pair in pairs if pair in bigrams[i])
        covered = sum(idf[term] for term in met) / whole
        scored.append((i, score * (0.4 + 0.6 * covered)))
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def choose(question: str, entries: Sequence[Entry], top: int = 12, around: int = 2) -> list[int]:
    """Indexes of the parts to read for a question, best first: the ``top`` best and the neighbours of the ``around`` best.

    A neighbour is the part just before or behind in the same document: answers run over borders. Parts far
    behind the best one are left out. If no word of the question is anywhere, the first parts of each document.
    """
    ranked = rank(question, entries)
    if not ranked:
        firsts = [i for i, entry in enumerate(entries) if i == 0 or entries[i - 1].document != entry.document]
        return firsts[:top]
    floor = ranked[0][1] * 0.2
    chosen = [i for i, score in ranked[:top] if score >= floor]
    for i in chosen[:around]:
        for near in (i - 1, i + 1):
            if 0 <= near < len(entries) and entries[near].document == entries[i].document and near not in chosen:
                chosen.append(near)
    return chosen


def _shortened(words: list[str], known: Acronyms) -> list[str]:
    """The terms with each long form of an acronym followed by the acronym, and a number behind it joined to it."""
    if not known:
        return words
    starts: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for short, long in known.items():
        starts.setdefault(long[0], []).append((short, long))
    out: list[str] = []
    at = 0
    while at < len(words):
        met = next(((short, long) for short, long in starts.get(words[at], ())
                    if tuple(words[at:at + len(long)]) == long), None)
        if met is None:
            out.append(words[at])
            at += 1
            continue
        short, long = met
        out += [*long, short]
        at += len(long)
        if at < len(words) and words[at].isdigit():
            out.append(f"{short}{words[at]}")
    return out


def _idf(holding: int, total: int) -> float:
    return math.log(1 + (total - holding + 0.5) / (holding + 0.5))
