"""Terms: what a sentence is about, as a list of stems without the words every sentence has.

Pure and the same in every process. The stemmer is light on purpose: it has to bring ``require``,
``requires``, ``required`` and ``requirement`` together, not to be right about English.
"""

from __future__ import annotations

import functools
import re

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LETTERS_DIGITS = re.compile(r"([a-z]{2,})(\d{1,2})\Z")

# Words that say nothing about the subject. English first; the short Spanish list keeps the centre of a
# Spanish text from being made of articles.
_SAYING_NOTHING = """
    a about above actually after again against all almost also although always am among an and another any anybody
    anyone anything anyway are aren't around as at away back be because been before being below between both but by
    came can can't cannot come could couldn't did didn't do does doesn't doing don't done down during each either else
    etc even ever every everybody everything few first for from further gave get gets getting give given go goes going
    gonna good got had hadn't has hasn't have haven't having he he's her here here's hers herself him himself his how
    however i i'd i'll i'm i've if in instead into is isn't it it'd it'll it's its itself just kind know last least less
    let let's like little look lot lots made make makes many may maybe me mean might more most much must my myself near
    need needs neither never new next no nobody none nor not nothing now of off often oh ok okay on once one ones only
    onto or other others otherwise our ours ourselves out over own part per perhaps pretty put quite rather really right
    said same saw say says see seem seems seen shall she she's should shouldn't since so some somebody someone something
    sometimes somewhat sort still stuff such sure take taken tell than that that'd that'll that's the their theirs them
    themselves then there there's therefore these they they'd they'll they're they've thing things think this those
    though through thus to together too toward two under unless until up upon us use used uses using very via want was
    wasn't way we we'd we'll we're we've well went were weren't what what's when where whether which while who whole
    whom whose why will with within without won't would wouldn't yeah yep yes yet you you'd you'll you're you've your
    yours yourself um uh hmm mm huh hm ah eh sorry thanks thank cuz wanna
    al algo ante aquel así aun aunque bien cada como con cual cuando de del desde donde dos el ella ellas ellos en era
    eran es esa ese eso esta estaba este esto fue fueron ha había han hasta hay la las le les lo los más me mi mucho muy
    ni ninguna no nos otra otro para pero poco por porque pues que qué quien se ser si sí sin sino sobre son su sus
    también tan tanto te tenía todo todos tu un una uno usted vos y ya yo
"""
STOPWORDS = frozenset(_SAYING_NOTHING.split())
# What a question says about itself rather than about its subject.
_ABOUT_ITSELF = """
    answer briefly conclusion conclude decide decided describe describing detail details discuss discussed discussing
    discussion discussions explain explained group key main meeting meetings mention mentioned opinion opinions outline
    overview participants people point points question say summarise summarize summarised summarized summary talk talked
    team text think thought thoughts topic topics view views happen happened happens document documents report reason
    reasons list name passage passages section sections
"""
ASKING = frozenset(_ABOUT_ITSELF.split())


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of one word in small letters: plural, -ing, -ed, -ly, -ment, -ion and a last e taken off."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, rest in (("ing", 3), ("ed", 3), ("ly", 4), ("ement", 4), ("ment", 4)):
        if word.endswith(ending) and len(word) - len(ending) >= rest:
            base = word[: -len(ending)]
            if any(v in base for v in "aeiouy"):
                word = base
                if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                    word = word[:-1]
                break
    if word.endswith("ion") and len(word) > 6 and word[-4] in "st":
        word = word[:-3]
    elif word.endswith("or") and len(word) > 6 and word[-3] == "t":
        word = word[:-2]
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 4 else word


def words(text: str) -> list[str]:
    """The words of a text in small letters, apostrophes made straight."""
    return [w.replace("’", "'") for w in _WORD.findall(text.lower())]


def terms(text: str, leave_out: frozenset[str] = frozenset()) -> list[str]:
    """The stems of the words that carry meaning, in order; ``AAL2`` counts as ``aal2`` and as ``aal``."""
    found: list[str] = []
    for word in words(text):
        if word in STOPWORDS or word in leave_out or (len(word) < 2 and not word.isdigit()):
            continue
        found.append(stem(word.removesuffix("'s")))
        if family := _LETTERS_DIGITS.match(word):
            found.append(family.group(1))
    return found
