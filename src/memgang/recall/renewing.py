"""Computing anew before, or after, an answer has ended, while everybody is served with it.

The moment at random is the rule of A. Vattani, F. Chierichetti, K. Lowenstein: Optimal Probabilistic Cache
Stampede Prevention, VLDB 2015 (XFetch), with beta = 1: an answer that took d to compute is renewed by whoever
first draws -d ln(u) >= the time it has left, u even in (0, 1]. Expected is d before the end; slow work begins earlier.
"""

from __future__ import annotations

import math
import random

from memgang.model import Answered
from memgang.recall.order import Terms


def due(answer: Answered, terms: Terms, now_ms: int) -> bool:
    """Whether who has just been given this answer should compute it anew, before it ends at ``answer.expires``."""
    if not terms.refresh_early or not answer.expires:
        return False
    left = answer.expires - now_ms
    if terms.refresh_early is True:
        return -answer.usage.ms * math.log(1.0 - random.random()) >= left
    return left <= terms.refresh_early * terms.ttl_ms
