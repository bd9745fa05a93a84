"""What of a run a page shows: all that has happened, or what had happened by the moment it is at."""

from __future__ import annotations

from typing import Any

from memgang.doors.dashboard.view import View


def records(view: View) -> list[dict[str, Any]]:
    """The records up to the view's moment, that moment included, as `View.fold` takes them."""
    found = view.tape().records
    return found if view.t is None else [rec for rec in found if rec["t"] <= view.t]
