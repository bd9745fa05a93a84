"""Limits a gang keeps, in all its processes: how many at once, requests and tokens a minute, dollars; hedges and the prefix gate.

    Asker.ask -> Gate.through -> Limiter.enter (place, requests, tokens, money; or the line) -> model -> Limiter.leave

Gangs that use the same space and the same name of a limit share it, whatever process or host they are in.
"""

from memgang.limits.gate import Gate
from memgang.limits.hedging import Hedger
from memgang.limits.limiter import Limiter, Ticket
from memgang.limits.terms import Estimator, Limits, Need, too_large

__all__ = ["Estimator", "Gate", "Hedger", "Limiter", "Limits", "Need", "Ticket", "too_large"]
