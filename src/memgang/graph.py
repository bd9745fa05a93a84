"""A knowledge graph many processes change at once: entities with observations, and relations between them.

The graph is one object, and a name points at it. Who changes it makes a new object of what it has read and moves the
name by compare-and-set; who was too slow reads again and repeats the change. So no change is lost, whoever makes it, and a
reader always has a whole graph. The object a change replaces is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from memgang.errors import ConfigError, Conflict, UnknownReference
from memgang.model import Ref
from memgang.space import Space

T = TypeVar("T")

NAME = "graph/main"
AGAIN_S = 0.005  # who was too slow waits up to so long, and twice, three times ... as long at the next tries


class Entity(msgspec.Struct):
    """Something known, and what was observed of it."""

    name: str
    kind: str
    observations: list[str] = []


class Relation(msgspec.Struct, frozen=True):
    """Two entities by name, and how the first stands to the second, in active voice."""

    source: str
    target: str
    kind: str


class Known(msgspec.Struct):
    """A whole graph. ``nonce`` makes each version an object of its own."""

    entities: dict[str, Entity] = {}
    relations: list[Relation] = []
    nonce: str = ""

    def part(self, names: Iterable[str]) -> Known:
        """These entities, and the relations that begin or end at one of them."""
        wanted = set(names)
        return Known({name: entity for name, entity in self.entities.items() if name in wanted},
                     [one for one in self.relations if one.source in wanted or one.target in wanted])

    def speaking_of(self, query: str) -> Known:
        """The entities whose name, kind or observations have these words, upper and lower case alike, with their relations."""
        words = query.lower()
        return self.part(entity.name for entity in self.entities.values()
                         if any(words in text.lower() for text in (entity.name, entity.kind, *entity.observations)))


class Graph:
    """One graph of a space. Lives as long as the space; holds nothing of its own."""

    def __init__(self, space: Space, name: str = NAME) -> None:
        self._space, self._name = space, name

    async def read(self) -> Known:
        """The graph as it is.

        Raises:
            ConfigError: the name points at something that is no graph.
        """
        return (await self._read())[0]

    async def change(self, edit: Callable[[Known], T]) -> T:
        """Have ``edit`` change the graph in place, and keep what it made of it; what it returns.

        It is called again whenever somebody else was quicker, so it must do nothing else. What it raises leaves the graph as it was.
        """
        tries = 0
        while True:
            known, version, old = await self._read()
            result = edit(known)
            known.nonce = secrets.token_hex(8)
            new = await self._space.put(msgspec.to_builtins(known), kind="graph", parents=[])
            try:
                await self._space.set_name(self._name, new, expect=version)
            except Conflict:
                await self._space.forget(new, "somebody was quicker")  # nobody else has ever seen it
                tries += 1
                await asyncio.sleep(random.uniform(0, AGAIN_S * min(tries, 40)))
                continue
            if old is not None:
                with contextlib.suppress(UnknownReference):
                    await self._space.forget(old, "replaced by a newer version of the graph")
            return result

    async def create_entities(self, entities: list[Entity]) -> list[Entity]:
        """Add entities; those whose name is taken already stay as they are. The ones that were added."""
        def edit(known: Known) -> list[Entity]:
            added = []
            for entity in entities:
                if entity.name not in known.entities:
                    known.entities[entity.name] = Entity(entity.name, entity.kind, list(dict.fromkeys(entity.observations)))
                    added.append(known.entities[entity.name])
            return added

        return await self.change(edit)

    async def create_relations(self, relations: list[Relation]) -> list[Relation]:
        """Add relations that are not there yet. The ones that were added."""
        def edit(known: Known) -> list[Relation]:
            added = [one for one in dict.fromkeys(relations) if one not in known.relations]
            known.relations += added
            return added

        return await self.change(edit)

    async def add_observations(self, observations: dict[str, list[str]]) -> dict[str, list[str]]:
        """Add what was observed of entities, by name; the observations that are new.

        Raises:
            ConfigError: there is no such entity; nothing was added.
        """
        def edit(known: Known) -> dict[str, list[str]]:
            if missing := [name for name in observations if name not in known.entities]:
                raise ConfigError(f"there is no entity {missing[0][:80]!r}; create it first")
            added = {}
            for name, texts in observations.items():
                had = known.entities[name].observations
                added[name] = [text for text in dict.fromkeys(texts) if text not in had]
                had += added[name]
            return added

        return await self.change(edit)

    async def delete_entities(self, names: list[str]) -> None:
        """Remove entities with their relations; those that are not there are no error."""
        gone = set(names)

        def edit(known: Known) -> None:
            for name in gone:
                known.entities.pop(name, None)
            known.relations = [one for one in known.relations if one.source not in gone and one.target not in gone]

        await self.change(edit)

    async def delete_observations(self, observations: dict[str, list[str]]) -> None:
        """Remove observations of entities, by name; those that are not there are no error."""
        def edit(known: Known) -> None:
            for name, texts in observations.items():
                if (entity := known.entities.get(name)) is not None:
                    entity.observations = [text for text in entity.observations if text not in texts]

        await self.change(edit)

    async def delete_relations(self, relations: list[Relation]) -> None:
        """Remove relations; those that are not there are no error."""
        def edit(known: Known) -> None:
            known.relations = [one for one in known.relations if one not in relations]

        await self.change(edit)

    async def _read(self) -> tuple[Known, int, Ref | None]:
        """The graph, the version of its name for compare-and-set, and its object."""
        lost = 0
        while True:
            at = await self._space.version(self._name)
            if at is None or at.ref is None:
                return Known(), 0, None
            try:
                return msgspec.convert(await self._space.get(at.ref), Known), at.version, at.ref
            except UnknownReference:  # replaced and forgotten between the two steps, or by hand
                lost = lost + 1 if (now := await self._space.version(self._name)) is not None and now.version == at.version else 0
                if lost > 1:
                    return Known(), at.version, None  # the name stands, what it pointed at was forgotten: an empty graph
            except msgspec.ValidationError:
                raise ConfigError(f"name {self._name!r} points at something that is not a graph") from None
