"""Readability: how well a sentence of prose stands by itself, once it is taken out of its text.

Each rule costs a sentence a part of its worth; none forbids it. The rules are about form alone
(what it leans on, points to, lacks), never about a subject.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from memgang.sentences import is_whole

LONG_WORDS = 45  # longer sentences lose; beyond 60 words a reader loses too
TOO_LONG_WORDS = 60
SHORT_WORDS = 8
FRAGMENT_WORDS = 14  # a text this short without a verb is a heading with a full stop

_AUXILIARY = r"\b(?:is|are|was|were|has|have|had|can|may|shall|should|must|will|would|does|do|provides?|requires?)\b"
_LEANING = re.compile(
    r"(?:This|That|These|Those|They|It|He|She|Such|Both|Its|Their|Here|There|Doing so|If so|Either|Neither"
    r"|The (?:former|latter|above|following|same)|Esto|Esta|Este|Ello)\b"
)
_STANDING = re.compile(
    r"(?:This|These) (?:document|report|guideline|publication|volume|paper|recommendation|standard|act|book"
    r"|study|specification|technical)|It is (?:important|necessary|recommended|required|possible)"
    r"|There (?:is|are|was|were)\b",
    re.IGNORECASE,
)
_PURPOSE = re.compile(
    r"(?:This|These|The present) (?:\w+ )?(?:document|report|guideline|publication|volume|paper|recommendation|standard"
    r"|book|study|specification)s?\b.{0,80}?\b(?:provides?|describes?|defines?|addresses|sets?|presents?|examines?|covers?"
    r"|specif(?:y|ies)|explains?|reports?|establish(?:es)?|supersedes?|summari[sz]es?|reviews?|analy[sz]es?"
    r"|is about)\b",
    re.IGNORECASE,
)
_CONNECTED = re.compile(
    r"(?:However|Therefore|Thus|Also|Additionally|Moreover|Furthermore|Similarly|Hence|Nevertheless|Instead"
    r"|In addition|As such|And|But|Or|So|Consequently|Likewise|Otherwise|In this case|In these cases"
    r"|In (?:this|that|these|those) (?:model|approach|scenario|way|context|regard|respect|example)s?"
    r"|In such cases|Then|Yet|Rather|Conversely)\b"
)
_EXAMPLE = re.compile(r"(?:For example|For instance|As an example|E\.g\.|Note|Nota)\b", re.IGNORECASE)
_POINTING = re.compile(
    r"\b(?:figures?|tables?|exhibits?|appendix|annex|sections?|chapters?) ?\d*[-.\d]* ?(?:[A-Z]\b)?"
    r"|\b(?:see|above|below|herein|page \d+|aforementioned|listed|depicted|illustrated|as follows|the following)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:[A-Z][\w-]*(?: [\w-]+){0,3}: |Sections? \d)")
# A definition without its term: "A session wherein messages are encrypted." It has a verb, but not of its own.
_NOUN_PHRASE = re.compile(
    rf"(?:A|An|The|Any|Un|Una)\b(?:(?!{_AUXILIARY})[^,;])*?\b(?:that|which|who|whose|wherein|where|used|whereby)\b"
    rf"|(?:A|An|Any)\b(?!.*{_AUXILIARY})|(?:Contains|Refers to|The process of|The act of)\b",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|can|cannot|may|might|shall|should|must|will|would|could|does|do|did"
    r"|not|\w+(?:ed|es)|es|son|era|fue|ha|han|había|hay)\b|n't\b",
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"(?:this|the following) (?:section|subsection|chapter|appendix|table|figure|page|clause)s?\b"
    r"|is (?:informative|normative)\b|normative and informative|all rights reserved|\bcopyright\b|click here"
    r"|table of contents|errata|http|www\.|@|return to|back to top|last updated|cookie",
    re.IGNORECASE,
)


# Says only where something else is said, or whom to ask.
_ELSEWHERE = re.compile(
    r"(?:Consult|See|Refer to|For (?:more|further|additional) (?:information|details?))\b"
    r"|(?:Sections?|Tables?|Figures?|Appendix|Chapters?|Step) (?:\d|[A-Z]\b)"
    r"|.*\b(?:is|are) (?:\w+ )?(?:covered|described|discussed|defined|identified|specified|provided|listed|given"
    r"|detailed|addressed|explained|summari[sz]ed|outlined|shown|found|available) (?:below|in (?:the|[Ss]ection|[Tt]able"
    r"|[Ff]igure|[Aa]ppendix|[Cc]hapter|SP \d|RFC|\[))|.*\b(?:can|may) be found (?:in|at)\b|.*\bthe (?:above|preceding)\b"
    r"|.*\b(?:discussed|described|listed|given|shown) below\b|.*\bas (?:shown|depicted|illustrated) in\b|.*— see\b"
)
# The rest of a list item whose beginning stands above the list ("SHALL be erased at log-out."), or a label with its
# gloss ("Time validation: ensuring that ...").
_REMAINDER = re.compile(r"(?:SHALL|SHOULD|MAY|MUST|CAN)\b(?!.*\?$)|[A-Z][\w-]*(?: [\w-]+){0,3}: [a-z]+ing\b")


class Judged(NamedTuple):
    """``quality`` is 0..1; ``leans``: begins with a word pointing back to another; ``purpose``: says what the
    document it stands in is for."""

    quality: float
    whole: bool
    leans: bool
    purpose: bool


def judge(text: str) -> Judged:
    """How well one sentence of prose reads alone."""
    length = len(text.split())
    quality, leans = _beginning(text)
    if _LABEL.match(text):
        quality *= 0.7
    if _NOUN_PHRASE.match(text) or (length <= FRAGMENT_WORDS and not _VERB.search(text, text.find(" "))):
        quality *= 0.6
    if _BOILERPLATE.search(text):
        quality *= 0.3
    elif _ELSEWHERE.match(text):
        quality *= 0.35
    elif _POINTING.search(text):
        quality *= 0.75
    if length < SHORT_WORDS:
        quality *= 0.6
    elif length > TOO_LONG_WORDS:
        quality *= 0.3
    elif length > LONG_WORDS:
        quality *= 0.7
    if text.endswith("?"):
        quality *= 0.4
    # Formulas, codes, rows of numbers.
    if sum(c.isalpha() or c.isspace() for c in text) < 0.85 * len(text):
        quality *= 0.5
    return Judged(quality, is_whole(text) and not _REMAINDER.match(text), leans, bool(_PURPOSE.match(text)))


def _beginning(text: str) -> tuple[float, bool]:
    if _LEANING.match(text) and not _STANDING.match(text):
        return 0.55, True
    if _EXAMPLE.match(text):
        return 0.5, True
    if _CONNECTED.match(text):
        return 0.75, True
    return 1.0, False
