"""The proxy: an OpenAI-compatible server in front of others, where what one agent has asked the others recall.

    asking.py      a request -> the call it is          controls.py   no-cache, no-store, max-age, LiteLLM's "cache"
    chat.py responses.py embeddings.py                  when an answer is whole, and its two forms: plain and as events
    events.py      server-sent events as bytes          references.py {{mg:...}} in messages
    upstream.py    where it goes, with whose key, and what a refusal means
    reaching.py    the connections to it
    recalling.py   one request that is recalled         passing.py    one that is passed through untouched
    entering.py    who may come in                      app.py serving.py   the server
"""
