"""Adapters: the verbs of a space behind the interfaces of libraries that people have. They translate and decide nothing.

    langgraph   MemGangStore, MemGangCache          `pip install 'memgang[langgraph]'`
    langchain   MemGangLLMCache                     `pip install 'memgang[langchain]'`
    bridge      one space from code with an event loop and without one
    looks       answers that are made outside: a look that finds nothing claims
    labels      any text as a step of a name, and back

Nothing of a library is imported before its module here is.
"""
