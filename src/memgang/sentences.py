"""Sentences: where one ends, and whether a piece of text reads as one.

Pure functions over text, no model and no data files. Made for English, with enough Spanish
(``¿¡``, ``Sr.``, ``D.``) to work on it. The rule that everything else follows from: a full stop ends
a sentence unless something says that it does not. What can say so is an abbreviation, an initial, a
number that goes on, an open bracket, or a next word that begins with a small letter.
"""

from __future__ import annotations

import re

# Followed by a name or a number nearly always, so a capital behind them means nothing.
_BEFORE_A_NAME = frozenset(
    "mr mrs ms dr prof rev hon gen col lt capt cmdr sgt gov sen rep pres supt messrs st mt ft "
    "no nos sec secs fig figs eq eqs ch chap art arts vol vols pp pg par para paras app vs v cf id "
    "eds ex exh tab ref refs ver op cit stat reg fed supp dept "
    "jan feb mar apr jun jul aug sep sept oct nov dec "
    "sr sra srta srs dn dña ud uds vd pág págs núm cap fr p n".split()
)
# Often the last word of a sentence too: these join only when what follows begins small or is a number.
_MAY_END = frozenset(
    "inc ltd co corp llc jr etc al est approx dist bros u.s u.k u.n d.c a.m p.m ph.d m.d b.a m.a".split())
# English words of their own in small letters: only a number behind them makes them abbreviations.
_WORDS_TOO = frozenset("no art app id tab cap mar ex par sec fed rep fig sep ref fr col gen reg p n st".split())
# Followed by an example, never the end of anything.
_NEVER_ENDS = frozenset("e.g i.e viz eg ie".split())

_CLOSERS = "\"'”’»)]"
_OPENERS = "\"'“‘«([¿¡—–-*_"
# A place where a sentence may end: the stop, whatever closes behind it, footnote marks, then white space.
_STOP = re.compile(r"([.!?…]+)([" + re.escape(_CLOSERS) + r"]*)((?:\[\d+\])*)(?=\s|$)")
_MARKER = re.compile(r"^\s*(?:[-*+•◦▪·]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)])(?:\s+|$)")
_HEADING = re.compile(r"^\s{0,3}#{1,6}(?:\s|$)")
_TABLE_ROW = re.compile(r"^\s*\||\s\|\s.*\|\s*\S*\s*$")
_RULE = re.compile(r"^\s*(?:[-*_=~]\s*){3,}$")
_CAPTION = re.compile(r"^\s*(?:table|figure|fig\.|exhibit|chart|source:|note:|tabla|figura)\s*[\d(A-Z]", re.IGNORECASE)
_CITATION = re.compile(r"^\s*(?:\[[^\]]{1,40}\]|\(\d{4}\)|see\b|id\.|ibid|cf\.|https?://|doi:)", re.IGNORECASE)
_PAIRS = {")": "(", "]": "[", "”": "“", "»": "«"}


def split(text: str) -> list[str]:
    """The sentences of a text in order, white space made single.

    Headings (``#`` lines), table rows and rules are left out. A list item is never joined with its
    neighbours; its marker is taken off. A fragment without a stop is an item of its own: whether it
    reads as a sentence is for ``is_whole`` to say.
    """
    found: list[str] = []
    for block in _blocks(text):
        found.extend(_sentences(block))
    return found


def is_whole(sentence: str) -> bool:
    """True if this reads as a complete sentence by itself.

    It begins with a capital, a digit, or a quotation; ends with a full stop, a question or exclamation
    mark; has at least five words; closes every bracket it opens; is neither a caption nor a bare citation.
    """
    text = sentence.strip()
    words = re.findall(r"[^\W_]+(?:['’\-][^\W_]+)*", text)
    if len(words) < 5 or not re.search(r"[.!?…][" + re.escape(_CLOSERS) + r"]*(?:\[\d+\])*$", text):
        return False
    first = text.lstrip(_OPENERS)[:1]
    if not (first.isupper() or first.isdigit()):
        return False
    if _CAPTION.match(text) or _CITATION.match(text) or text.endswith(("...", "…")):
        return False
    if not _balanced(text):
        return False
    # A list of numbers or of capitals is furniture; a sentence has small words in it.
    small = sum(1 for word in words if word.islower() and word.isalpha())
    return small * 3 >= len(words)


def _blocks(text: str) -> list[str]:
    """Runs of lines that belong together: paragraphs and single list items, without headings and tables."""
    blocks: list[str] = []
    run: list[str] = []

    def close() -> None:
        if run:
            blocks.append(" ".join(" ".join(run).split()))
            run.clear()

    for line in text.splitlines():
        if not line.strip() or _HEADING.match(line) or _TABLE_ROW.search(line) or _RULE.match(line):
            close()
        elif marker := _list_marker(line, bool(run)):
            close()
            run.append(line[marker:])
        else:
            run.append(line.lstrip("> ") if line.lstrip().startswith(">") else line)
    close()
    return [block for block in blocks if block]


def _list_marker(line: str, inside: bool) -> int:
    """How many characters of the line are a list marker. Inside a paragraph only a sure sign counts.

    A wrapped paragraph may go on with "A. Smith" or "2. that"; so behind an open line a letter or a
    number is taken for text, and only bullets and "1) " for markers.
    """
    match = _MARKER.match(line)
    if match is None:
        return 0
    mark = match.group().strip()
    if mark in "-*+•◦▪·" or mark.endswith(")"):
        return match.end()
    if inside and not re.match(r"^\d{1,3}\.$", mark):
        return 0
    # "A. Smith went": one capital with a dot is an initial unless more of a list is around it.
    if re.match(r"^[A-Z]\.$", mark):
        return 0
    return match.end()


def _sentences(block: str) -> list[str]:
    """The sentences of one paragraph."""
    out: list[str] = []
    start = 0
    for match in _STOP.finditer(block):
        end = match.end()
        if _ends(block, start, match):
            piece = block[start:end].strip()
            if piece:
                out.append(piece)
            start = end
    rest = block[start:].strip()
    if rest:
        out.append(rest)
    return out


def _ends(block: str, start: int, match: re.Match[str]) -> bool:
    """Whether the stop found here ends the sentence that began at ``start``."""
    rest = block[match.end():].lstrip()
    if not rest:
        return True
    follower = rest.lstrip(_OPENERS)[:1]
    if follower.islower():
        # "“Why?” he asked." goes on; so does "etc. and". An item "iPhone" is the price of this rule.
        return False
    sofar = block[start:match.end()]
    if sofar.count("(") > sofar.count(")") and ")" in rest[:240]:
        return False
    if match.group(1) != ".":
        return match.group(1).strip(".") != "" or follower.isupper()
    if match.group(2):
        # A closed quotation or bracket behind the stop: the word before it does not matter.
        return True
    word = block[start:match.start()].rsplit(None, 1)[-1:] or [""]
    last = word[0].lstrip(_OPENERS).rstrip(",;")
    low = last.lower()
    if low in _NEVER_ENDS:
        return False
    if low in _BEFORE_A_NAME and (last not in _WORDS_TOO or follower.isdigit()):
        return False
    if low in _MAY_END:
        return not follower.isdigit() and _starts_sentence(rest)
    if re.fullmatch(r"[A-ZÁÉÍÓÚÑ]", last):
        # An initial, unless it is the pronoun or ends a label such as "Section A." / "type B."
        return last == "I" or bool(re.search(r"\b(?:Appendix|Section|Part|Type|Class|Group|Plan|type|level)\s$",
                                             block[start:match.start() - 1]))
    if re.fullmatch(r"(?:[A-Za-z]\.)+[A-Za-z]", last):
        # Dotted abbreviations as a family, such as "U.S." or "F.B.I."
        return _starts_sentence(rest)
    # "1. First" at the head of a sentence, or "4.2. Title": a number that labels what follows.
    return not (sofar.strip() == f"{last}." and re.fullmatch(r"[\d.]+|[ivxIVX]+", last))


_BEGINNERS = frozenset(
    "the a an this that these those it he she they we i you in on at for from by with as if when while where "
    "there however but and or so after before although because since during under over all some many most no "
    "not each both such its his her their our my what who how why one two according to el la los las un una en "
    "y pero no se que su".split()
)


def _starts_sentence(rest: str) -> bool:
    """Whether the word that follows often begins a sentence, rather than going on with a name."""
    word = re.match(r"[\"'“‘«(\[¿¡]*([^\W\d_]+)", rest)
    return bool(word) and word is not None and word.group(1).lower() in _BEGINNERS


def _balanced(text: str) -> bool:
    """Whether every bracket and curly quote is closed, in order of nesting, and straight quotes are paired."""
    if text.count('"') % 2:
        return False
    open_: list[str] = []
    for char in text:
        if char in _PAIRS.values():
            open_.append(char)
        elif char in _PAIRS:
            if not open_ or open_[-1] != _PAIRS[char]:
                return False
            open_.pop()
    return not open_
