"""View: what a page is given. It reads; a page draws."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from memgang.doors.dashboard.watching import Watching
from memgang.flock.fold import Fold
from memgang.flock.tape import Header, Tape
from memgang.space import Space

T = TypeVar("T")

Kind = Literal["agent", "object"]


@dataclass(frozen=True, slots=True)
class View:
    """One page as one person sees it now.

    ``run`` is the run that is chosen ('': there is none yet), ``t`` the moment in it in ms since it began (None: now, or its end),
    ``selected`` what was clicked or linked to: ("agent", its name) or ("object", the first characters of its id). ``headers`` are
    the runs there are, those under way first. ``allow_write``: the dashboard was started so, behind a token.
    """

    watching: Watching
    run: str
    t: int | None = None
    selected: tuple[Kind, str] | None = None
    headers: list[Header] = field(default_factory=list)

    @property
    def space(self) -> str:
        """The name of the space."""
        return self.watching.settings.space

    @property
    def allow_write(self) -> bool:
        """Whether buttons that change something may be shown."""
        return self.watching.allow_write

    @property
    def header(self) -> Header | None:
        """The chosen run's, as it is listed; None where it has no record."""
        return next((header for header in self.headers if header.run == self.run), None)

    def under_way(self, header: Header) -> bool:
        """Whether a run can be taken to go on. One that was killed has no end in the log, and a day after its start does not."""
        return self.watching.under_way(header)

    def state(self, header: Header) -> str:
        """What state a run is in: running, done, failed, stopped, or "no end in the log"."""
        return self.watching.standing(header).state

    def tape(self, run: str = "") -> Tape:
        """Header and records of a run (of the chosen one), as far as it has come.

        Raises:
            UnknownReference: there is no such run. StoreUnavailable: the server is away.
        """
        return self.watching.tape(run or self.run)

    def fold(self, run: str = "", t: int | None = None) -> Fold:
        """What a run (the chosen one) had come to at ``t``, or by now. Shared: not to be changed."""
        return self.watching.fold(run or self.run, t)

    def ask(self, work: Callable[[Space], Coroutine[Any, Any, T]]) -> T:
        """Read something of the space: ``view.ask(lambda space: space.describe(ref))``. Values by `Space.look`, which leaves no trace.

        Raises:
            MemGangError: what the work raises. StoreUnavailable: the server is away.
        """
        return self.watching.ask(work)

    def url(self, page: str = "", *, run: str = "", t: int | None = None, kind: Kind | None = None, id: str = "") -> str:
        """A link to a page ('' is the flock) that shows the same to whoever may come in."""
        words: dict[str, Any] = {"run": run or self.run}
        if t is not None:
            words["t"] = t
        if kind is not None and id:
            words["sel"] = f"{kind}:{id}"
        return f"/{page}?{urlencode({name: value for name, value in words.items() if value != ''})}"

    def live_url(self) -> str:
        """Where the records of the chosen run are to be had, with a pass for it."""
        return f"/mg/live?{urlencode({'run': self.run, 'token': self.watching.passes.of(self.run)})}"


def selection(text: str) -> tuple[Kind, str] | None:
    """What ``sel=`` of a link says; None for what is none."""
    kind, _, ident = text.partition(":")
    if ident and kind == "agent":
        return "agent", ident[:200]
    if ident and kind == "object":
        return "object", ident[:200]
    return None
