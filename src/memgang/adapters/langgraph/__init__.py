"""LangGraph's long-term memory and its cache of nodes, in a space.

    with memgang.connect() as space:
        graph = builder.compile(store=MemGangStore(space), cache=MemGangCache(space))

    store.py     MemGangStore: items as memory objects, under names that are moved by compare-and-set
    matching.py  which items and namespaces are meant
    cache.py     MemGangCache: a look that finds nothing claims
"""

from memgang.errors import ConfigError

try:
    import langgraph.store.base  # noqa: F401  # here, so that all that is missing is told in one way
except ImportError as error:
    raise ConfigError("LangGraph is not installed: pip install 'memgang[langgraph]'") from error

from memgang.adapters.langgraph.cache import MemGangCache
from memgang.adapters.langgraph.store import MemGangStore

__all__ = ["MemGangCache", "MemGangStore"]
