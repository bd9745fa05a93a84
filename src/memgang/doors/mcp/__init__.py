"""The MCP door: any agent that speaks the Model Context Protocol shares the memory of a space.

    serving.py     stdio, or HTTP on loopback with its guards
    door.py        the server: who acts, what errors become, what arguments are refused
    memory.py      tools: put, get, search, find, list, names, forget
    outside.py     tools: read a file, fetch a page
    work.py        tools: claim work, see who is at it, wait for it, say what came of it
    graph.py       the nine tools of the official memory server, if wanted
    peek.py        the tool that reads a part of a large value
    guard.py       what stands before HTTP: Host, token, time
    resources.py   references and names as resources, with subscriptions to names
    results.py     the shapes of results, and the mark on what was stored by others

`import mcp` in these files is the official SDK (extra ``mcp``), which nobody else may import: all imports are absolute,
so this package does not stand in its way.
"""
