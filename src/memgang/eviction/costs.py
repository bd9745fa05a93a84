"""Costs for a trace that has none: drawn for each key, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from memgang.eviction.history import History

Drawn = Literal["lognormal", "zipf"]

SIGMA = 1.5  # of the logarithm: the median call takes 1 s, one of twenty more than 12 s
RANKS = 1000  # Zipf: the r-th dearest of a thousand costs 1000/r s


def drawn(history: History, how: Drawn | Sequence[float], seed: int) -> History:
    """The same history, each key with a cost in seconds that depends on the key, the distribution and the seed alone.

    ``how`` is a distribution, or the costs themselves, of which each key is given one.
    """
    seconds = {key: _draw(key, how, seed) for key in history.sizes()}
    steps = [step._replace(seconds=seconds[step.key]) for step in history.steps]
    told = how if isinstance(how, str) else f"from {len(how):,}"
    return History(f"{history.source}, costs drawn {told}, seed {seed}", steps, history.kept, history.kept_bytes, history.unsized)


def _draw(key: str, how: Drawn | Sequence[float], seed: int) -> float:
    chance = random.Random(f"{seed} {key}")  # text seeds do not depend on the process
    if not isinstance(how, str):
        return chance.choice(how)
    return chance.lognormvariate(0.0, SIGMA) if how == "lognormal" else RANKS / chance.randint(1, RANKS)
