"""Lineage: forgetting an object with everything that was made from it, or all that was read from a source.

    sources.py  what is remembered of a file, folder, glob or URL
    reach.py    the walk over the records, and what is reached from the roots
    forgetting.py  the order in which it goes, and what work under way puts meanwhile
"""

from memgang.lineage.forgetting import Forgotten, forget
from memgang.lineage.sources import readings

__all__ = ["Forgotten", "forget", "readings"]
