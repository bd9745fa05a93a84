"""Text as it is handed on: UTF-8 NFC, no control characters, white space single, one kind of each mark."""

from __future__ import annotations

import re
import unicodedata

_LIGATURES = str.maketrans({
    "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
})
_MARKS = str.maketrans({
    "\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u2009": " ", "\u200a": " ", "\u2002": " ", "\u2003": " ",
    "\u2028": "\n", "\u2029": "\n", "\u0085": "\n", "\u000b": "\n", "\u000c": "\n",
    "\u2010": "-", "\u2011": "-", "\u00ad": None, "\u200b": None, "\u200c": None, "\u2060": None, "\ufeff": None,
    "\u0092": "’", "\u0091": "‘", "\u0093": "“", "\u0094": "”", "\u0096": "–", "\u0097": "—",
})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffe\uffff\ufff9-\ufffb]")
_SPACES = re.compile(r"[ \t]+")


def characters(text: str) -> str:
    """The text in NFC with one kind of line end and without control characters; layout is kept."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_MARKS).translate(_LIGATURES)
    return unicodedata.normalize("NFC", _CONTROL.sub("", text))


def tidy(text: str) -> str:
    """One paragraph as a person would write it: a single line, single spaces, whole quotation marks."""
    text = _SPACES.sub(" ", characters(text).replace("\n", " "))
    text = text.replace("‘‘", "“").replace("’’", "”").replace("``", "“")
    text = re.sub(r"(?<![.\w])\.(?: \.){2,3}(?!\w)", "…", text)
    text = re.sub(r"(?<=\w)…\.(?=\s|$)", ". …", text)
    # TeX leaves the same mark on both sides; the one that opens can be told by the space before it.
    text = re.sub(r"(^|[\s(\[—–])”(?=\w)", r"\1“", text)
    text = re.sub(r"\s+([,;:.!?])(?=\s|$)", r"\1", text) if not re.search(r"\s\.\s\.", text) else text
    return text.strip()


def decode(data: bytes, declared: str = "") -> str:
    """Text of unknown encoding. What a byte order mark or valid UTF-8 says wins over what is declared.

    Raises:
        ValueError: the bytes are not text.
    """
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
                       (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(name, errors="replace")
    if b"\0" in data[:65536]:
        return _utf16_without_mark(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    # A file may name its own encoding in its first lines, as web pages and Project Gutenberg do.
    named = declared or _named(data[:4096])
    if named:
        try:
            text = data.decode(named)
        except (LookupError, UnicodeDecodeError):
            pass
        else:
            # ISO-8859-1 in the wild is nearly always Windows-1252: same letters, and real quotation marks.
            if re.search(r"[\x80-\x9f]", text):
                return data.decode("cp1252", errors="replace")
            return text
    # The whole of a book takes seconds and says no more than its first 64 KiB of unusual bytes.
    import charset_normalizer  # of the few texts that are not UTF-8

    best = charset_normalizer.from_bytes(data[:256 * 1024]).best()
    guess = best.encoding if best is not None else ""
    # Byte statistics cannot tell the Western code pages from their neighbours in short texts, and
    # guess rare ones; a text that is nearly all ASCII with a few high letters is most likely Western.
    high = sum(byte >= 0x80 for byte in data[:65536])
    if guess and not (high * 20 < len(data[:65536]) and guess not in ("utf_8", "cp1252", "latin_1")):
        return data.decode(guess, errors="replace")
    return data.decode("cp1252", errors="replace") if high * 3 < len(data[:65536]) else _refuse()


def _refuse() -> str:
    raise ValueError("the bytes are no text in any known encoding")


def _utf16_without_mark(data: bytes) -> str:
    """UTF-16 is half zeros on one side; anything else with zeros in it is no text."""
    head = data[:4096]
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if zeros.count(0) * 2 > len(zeros):
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                break
    return _refuse()


def _named(head: bytes) -> str:
    match = re.search(
        rb"(?:charset\s*=\s*[\"']?|character set encoding:\s*|encoding\s*=\s*[\"'])([\w.:-]+)", head, re.I)
    return match.group(1).decode("ascii", "ignore") if match else ""
