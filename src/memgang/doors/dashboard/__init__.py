"""The dashboard door: a Streamlit app and routes of ours on one port. It watches a space and leaves no trace in it.

    serving -> guard (Host, Origin, who may come in) -> Streamlit's pages (app, sheets/, element) or our routes
    watching: one loop, one Space, one reader (live) for all viewers; view: what a page is given

Needs memgang[dashboard]; nothing outside this room imports it.
"""
