"""Recall: ask for a call's answer. It is there (hit), somebody is at it (joined), or we lead (computed).

    call -> flight of this process -> claim -> answered | follow | backoff | claimed -> compute -> put -> commit -> wake

Of everybody who asks at once, in this process and in all others, one computes. A leader that dies is
replaced when its lease has passed; a leader that was replaced is fenced and given the answer that won.
Without a server there is still one flight in each process, and its answers are marked ``degraded``.

    order.py        a call as it is ordered, and what comes back
    flights.py      those who ask at once in this process; leaving and closing
    following.py    asking who computes, and waiting for them
    leading.py      computing and publishing, and how that can end otherwise
    renewing.py     computing anew while everybody is served
    failures.py     errors by class
    occurrences.py  which sample an ask is for
    recaller.py     all of it together
"""

from __future__ import annotations

from memgang.recall.failures import BACKOFF_MS, classified, pause_ms, redacted
from memgang.recall.order import Check, Formed, How, Mode, OfTheAsker, Recalled, Terms, waited_for
from memgang.recall.recaller import Recaller, Sample

__all__ = ["BACKOFF_MS", "Check", "Formed", "How", "Mode", "OfTheAsker", "Recalled", "Recaller", "Sample", "Terms",
           "classified", "pause_ms", "redacted", "waited_for"]
