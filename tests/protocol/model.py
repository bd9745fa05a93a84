"""The server's side of the protocol as a pure step function.

    step(state, now_us, script, keys, args) -> Step(state', reply, log entries, messages)

`apply` does the same to a state in place, which is what simulators of many steps want. A `Model` is a table of
scripts; `Model.without(text, instead)` is one in which a guard has been taken out of its source, for the tests
that ask whether anybody would notice.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.protocol import flights, objects
from tests.protocol.keyspace import State, Texts

Script = Callable[[State, int, Texts, Texts], list[Any]]
MODULES = (flights, objects)


class Step(NamedTuple):
    """What a script did."""

    state: State
    reply: list[Any]
    entries: list[tuple[str, tuple[str, ...]]]
    messages: list[tuple[str, str]]


@dataclass(frozen=True)
class Model:
    """All scripts."""

    scripts: Mapping[str, Script]

    def apply(self, state: State, now_us: int, script: str, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
        """Run a script on the state itself; its reply. What it published is added to ``state.sent``."""
        if state.dead:
            state.collect(now_us // 1000)
        return ended(self.scripts[script](state, now_us, ("", *keys), ("", *args)))

    def step(self, state: State, now_us: int, script: str, keys: Sequence[str], args: Sequence[str]) -> Step:
        """Run a script; the state given stays as it is."""
        after = state.copy()
        before = len(state.db.get(keys[1], ()))
        reply = self.apply(after, now_us, script, keys, args)
        return Step(after, reply, after.db.get(keys[1], [])[before:], after.sent)

    @staticmethod
    def without(text: str, instead: str) -> Model:
        """The model with one place of its source changed. The place must be there, and be the only one."""
        table: dict[str, Script] = {}
        found = 0
        for module in MODULES:
            source = inspect.getsource(module)
            found += source.count(text)
            changed = types.ModuleType(module.__name__ + "_changed")
            exec(compile(source.replace(text, instead), changed.__name__, "exec"), changed.__dict__)
            table |= changed.SCRIPTS
        assert found == 1, f"{found} places of the model read {text!r}: the mutation has to be written anew"
        return Model(table)


def ended(reply: list[Any]) -> list[Any]:
    """A reply as it travels: nil ends it."""
    return reply[:reply.index(None)] if None in reply else reply


MODEL = Model({name: script for module in MODULES for name, script in module.SCRIPTS.items()})
