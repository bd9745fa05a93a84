"""What every sealer tells the server: how far it has sealed. The janitor trims nothing that one of them still wants.

Each host has a chain and a key of its own, so each has a field of its own, named by its key. One field for all would say
of the last who told it what is asked of the slowest: it would find a gap where the janitor has trimmed in good faith.

Nobody signs this, and no verdict rests on it: whoever may write to the server can have more trimmed, or less, and what
is missing from a chain then is a gap as before.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

# A host that is gone for good must not keep the log for ever. One that is away longer than this begins a new chain.
WAIT_MS = 7 * 24 * 3_600_000
_PREFIX = "upto:"


class Told(msgspec.Struct, frozen=True):
    """How far one sealer has come: the last sealed seq of each log, and when it said so, in ms of the server's clock."""

    at: int = 0
    upto: dict[str, int] = {}


def field_of(fingerprint: str) -> str:
    """The field of the sealer with this key."""
    return _PREFIX + fingerprint


def told(words: bytes) -> Told | None:
    """A field as it was told. None: no sealer has written this."""
    try:
        return msgspec.json.decode(words, type=Told)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the last: brackets, thousands deep
        return None


def sealers(mark: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What all sealers told, by the fingerprints of their keys; names and words as they stand there."""
    prefix = _PREFIX.encode()
    return {name.removeprefix(prefix): words for name, words in mark.items() if name.startswith(prefix)}


def sealed_by_all(mark: Mapping[bytes, bytes], now: int) -> dict[str, int]:
    """Up to where each log is sealed by all who seal it; a log that is not named is not to be trimmed.

    Not waited for is who has told nothing for `WAIT_MS` while another one did: a single sealer is always waited for.
    """
    # A time that lies ahead, be it that the clock stepped back or that somebody made it up, counts as now.
    all_ = [(min(one.at, now), one.upto) for words in sealers(mark).values() if (one := told(words)) is not None]
    newest = max((at for at, _ in all_), default=0)
    waited = [upto for at, upto in all_ if newest - at <= WAIT_MS]
    logs = set[str]().union(*waited)
    return {log: min(upto.get(log, 0) for upto in waited) for log in logs}


def exported_by_all(mark: Mapping[bytes, bytes], now: int, own: Mapping[str, Told]) -> dict[str, int] | None:
    """The same of who exports what is to be trimmed (`exporter.py`), by lives of folders. None: nobody does, for all that is known.

    ``own`` is what this process knows better than the server. Not waited for is who has told nothing for `WAIT_MS`, single
    or not: an export that was switched off must not keep the log for ever.
    """
    all_ = {name.decode("utf-8", "replace"): one for name, words in sealers(mark).items() if (one := told(words)) is not None}
    waited = [one.upto for one in (all_ | dict(own)).values() if now - min(one.at, now) <= WAIT_MS]
    if not waited:
        return None
    logs = set[str]().union(*waited)
    return {log: min(upto.get(log, 0) for upto in waited) for log in logs}
