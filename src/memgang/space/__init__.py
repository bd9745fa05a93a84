"""Space: one shared memory and its verbs.

    async with memgang.open() as space:
        ref = await space.put("The audit found ...", tags=["audit"], ttl="7d")
        text = await space.get(ref)

A Space lives as long as the ``async with``; a reference lives as long as its object.

    space.py        the class, thin, with the promise of each verb
    objects.py      put, get, describe, pin
    names.py        names and what reference a text means
    looking.py      find, and totals
    remembering.py  functions that are recalled, and the options of a recall
    forgetting.py   forget and invalidate
    refusals.py     what was refused, in the log
    opening.py      `memgang.open`
"""

from __future__ import annotations

from memgang.codec import TTL
from memgang.space.looking import Found
from memgang.space.opening import open
from memgang.space.space import Space

__all__ = ["TTL", "Found", "Space", "open"]
