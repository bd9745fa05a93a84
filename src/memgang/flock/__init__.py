"""The flock: what a run looked like at any moment, folded from its log. The same fold in Python (here) and in the browser (`web/`).

    events of the log -> `records` (compact, nothing that a page does not need) -> `fold` -> what a page shows
"""
