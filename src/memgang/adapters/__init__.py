"""Adapters: the verbs of a space behind the interfaces of libraries that people have. They translate and decide nothing.

    langgraph/  MemGangStore, MemGangCache                       `pip install 'memgang[langgraph]'`
    langchain   MemGangLLMCache                                  `pip install 'memgang[langchain]'`
    wrapping    memgang.wrap: clients of OpenAI and Anthropic    `pip install 'memgang[openai]'`
    transport   the HTTP of such a client, recalled              exchange  what it asks, and how its answer is kept
    agents      MemGangModel, for the OpenAI Agents SDK          `pip install 'memgang[agents]'`
    sessions    MemGangSession, for the same
    pydantic_ai MemGangModel, for pydantic-ai                    `pip install 'memgang[pydantic-ai]'`
    agent_framework  MemGangMiddleware, for Microsoft's          `pip install 'memgang[agent-framework]'`
    autogen     MemGangClient                                    `pip install 'memgang[autogen]'`
    crewai      MemGangLLM                                       `pip install memgang crewai`
    calling     calls of such an interface, recalled             bridge    one space from code with an event loop and without one
    looks       answers that are made outside: a look that finds nothing claims
    labels      any text as a step of a name, and back           spending  what a call has cost, in the words of the log

Nothing of a library is imported before its module here is.
"""
