"""How far a gang is: bars when standard error is a terminal, plain lines when it is not."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import typer

from memgang.agents import Progress
from memgang.doors.terminal import line
from memgang.gang import Gang

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_EVERY_S = 2.0


class Display:
    """Shows the progress of a gang as long as the ``with`` lasts."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._phase = ""
        self._told_s = 0.0

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            # Imported where somebody looks: it takes a tenth of the time in which a command is ready to begin.
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
                TextColumn("{task.fields[more]}", markup=False), TimeRemainingColumn(compact=True),
                console=Console(stderr=True), transient=True)
            self._bars.start()
        self._gang.on_progress = self._changed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._gang.on_progress = None
        if self._bars is not None:
            self._bars.stop()
        elif self._phase:
            typer.echo(_summary(self._gang.progress, "done" if kind is None else "stopped"), err=True)

    def _changed(self, now: Progress) -> None:
        if self._bars is not None:
            self._draw(self._bars, now)
        elif now.phase != self._phase or time.monotonic() - self._told_s >= LINE_EVERY_S:
            self._phase, self._told_s = now.phase, time.monotonic()
            typer.echo(_summary(now, now.phase or "start"), err=True)

    def _draw(self, bars: Bars, now: Progress) -> None:
        for role, step in list(now.roles.items()):
            if role not in self._tasks:
                self._tasks[role] = bars.add_task(line(role), total=None, more="")
            bars.update(self._tasks[role], completed=step.done, total=max(step.planned, step.done) or None)
        if "" not in self._tasks:
            self._tasks[""] = bars.add_task("all", total=None, more="")
        planned = sum(step.planned for step in now.roles.values())
        bars.update(self._tasks[""], description=f"all: {line(now.phase)}", completed=now.done, total=max(planned, now.done) or None,
                    more=f"{now.active} at work, {now.hits + now.joined} recalled{f', {now.failed} failed' if now.failed else ''}")


def _summary(now: Progress, word: str) -> str:
    planned = sum(step.planned for step in now.roles.values())
    failed = f", {now.failed} failed" if now.failed else ""
    return line(f"{word}: {now.done} of {max(planned, now.done)} calls, {now.active} at work, {now.computed} computed, "
                f"{now.hits} hits, {now.joined} joined{failed}")
