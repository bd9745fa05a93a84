"""Sheets: the pages of the app, each a module with ``page(view)``, which draws what it is given.

Not a folder ``pages``: Streamlit takes one of that name for pages of its own kind, and a link to /agents would run agents.py bare.
"""
