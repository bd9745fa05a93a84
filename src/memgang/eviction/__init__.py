"""Eviction on paper: what a memory of so many bytes would have kept, under one policy or another.

A history (`history.py`) is made from a space's own log or from a trace of another cache (`traces.py`, `costs.py`), and
is replayed (`replay.py`) against policies that are plain data structures: no server, no clock, no chance. What the
server itself does is `gdsf.py`; the others are there to be compared with.
"""

from memgang.eviction.costs import Drawn, drawn
from memgang.eviction.history import History, Step, from_events
from memgang.eviction.policy import Policy
from memgang.eviction.replay import POLICIES, SHARES, Comparison, Outcome, Row, compare, replay
from memgang.eviction.traces import read

__all__ = ["POLICIES", "SHARES", "Comparison", "Drawn", "History", "Outcome", "Policy", "Row", "Step", "compare", "drawn",
           "from_events", "read", "replay"]
