"""The crew: which agents of a run are looked at, the same on every page and in every picture."""

from __future__ import annotations

from memgang.flock.fold import Agent, Fold


def crew(fold: Fold) -> list[Agent]:
    """The agents with a role, in the order they came; who has none holds the run together, and is not shown beside them.

    Where nobody has a role (a gang of one's own need not name any), all of them: such a run is not empty.
    """
    return [agent for agent in fold.agents.values() if agent.role] or list(fold.agents.values())
