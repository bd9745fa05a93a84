"""Remembered reads: pages and files as they stand, each asked for once by all, and again only when that is due.

    fetch -> key -> fresh? -> answered
                 -> not    -> one of all who ask: robots, a place at the host, a conditional request -> 304 | 200 -> commit

    reads.py       the two verbs, and what they share
    pages.py       a page: when it must be asked for again, and what the server then says
    disk.py        a file: its stat, then its content
    keeping.py     bodies as objects
    credentials.py headers that are given along, and what becomes of them in keys
    manners.py     how the web is asked: whom, how often, how much, under which name
    robots.py      what the operator of a server has asked for
    politeness.py  places and pauses at a host, shared by all processes
"""

from memgang.reads.manners import Manners
from memgang.reads.reads import Reads

__all__ = ["Manners", "Reads"]
