"""Adapters: the verbs of a space behind the interfaces of libraries that people have. They translate and decide nothing.

    langgraph/  MemGangStore, MemGangCache                       `pip install 'memgang[langgraph]'`
    langchain   MemGangLLMCache                                  `pip install 'memgang[langchain]'`
    wrapping    memgang.wrap: clients of OpenAI and Anthropic    `pip install 'memgang[openai]'`
    transport   the HTTP of such a client, recalled              exchange  what it asks, and whether the answer is whole
    sessions    MemGangSession, for the OpenAI Agents SDK
    bridge      one space from code with an event loop and without one
    looks       answers that are made outside: a look that finds nothing claims
    labels      any text as a step of a name, and back           spending  what a call has cost, in the words of the log

Nothing of a library is imported before its module here is.
"""
