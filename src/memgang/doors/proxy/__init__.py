"""The proxy: an OpenAI-compatible server in front of others, where what one agent has asked the others recall.

    asking.py      a request -> the call it is          controls.py   no-cache, no-store, max-age, LiteLLM's "cache"
    references.py  {{mg:...}} in messages               failing.py    what callers are told where there is no answer
    upstream.py    where it goes, with whose key, and what a refusal means
    reaching.py    the connections to it
    recalling.py   one request that is recalled         passing.py    one that is passed through untouched
    paying.py      who pays for it                      describing.py  what is served at /openapi.json
    entering.py    who may come in                      app.py serving.py   the server
"""
