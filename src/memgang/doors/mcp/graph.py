"""The nine tools of the official memory server, on a graph that many clients may change at once.

Names, arguments and results are those of `@modelcontextprotocol/server-memory`, so that prompts written for it go on working.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from memgang import graph
from memgang.doors.mcp.door import Door
from memgang.doors.mcp.results import Marked, Result


class Entity(BaseModel):
    """Something known."""

    name: str = Field(min_length=1, description="The name of the entity.")
    entityType: str = Field(description="What it is, as in person.")
    observations: list[str] = Field(default_factory=list, description="What was observed of it, one thing each.")


class Relation(BaseModel):
    """How one entity stands to another, in active voice."""

    model_config = ConfigDict(serialize_by_alias=True)

    source: str = Field(alias="from", description="The name of the entity it begins at.")
    to: str = Field(description="The name of the entity it ends at.")
    relationType: str = Field(description="What the first does to the second, as in works_at.")


class Observed(BaseModel):
    """Something new about an entity."""

    entityName: str = Field(description="The name of the entity.")
    contents: list[str] = Field(description="What was observed, one thing each.")


class Deletion(BaseModel):
    """Something that is not so, about an entity."""

    entityName: str = Field(description="The name of the entity.")
    observations: list[str] = Field(description="The observations to remove, as they are written.")


class Added(BaseModel):
    """What was added to an entity."""

    entityName: str
    addedObservations: list[str]


class Entities(Marked):
    """Entities."""

    entities: list[Entity]


class Relations(Marked):
    """Relations."""

    relations: list[Relation]


class Observations(Marked):
    """What was new."""

    results: list[Added]


class Known(Marked):
    """A graph, or a part of one."""

    entities: list[Entity]
    relations: list[Relation]


class Removed(Result):
    """That it is done."""

    success: bool
    message: str


class GraphTools:
    """The tools of one door."""

    def __init__(self, door: Door) -> None:
        self._graph = graph.Graph(door.space)
        door.offer(self.create_entities, "create_entities", "Create entities", repeats=True)
        door.offer(self.create_relations, "create_relations", "Create relations", repeats=True)
        door.offer(self.add_observations, "add_observations", "Add observations", repeats=True)
        door.offer(self.delete_entities, "delete_entities", "Delete entities", destroys=True, repeats=True)
        door.offer(self.delete_observations, "delete_observations", "Delete observations", destroys=True, repeats=True)
        door.offer(self.delete_relations, "delete_relations", "Delete relations", destroys=True, repeats=True)
        door.offer(self.read_graph, "read_graph", "Read the graph", reads=True, repeats=True)
        door.offer(self.search_nodes, "search_nodes", "Search the graph", reads=True, repeats=True)
        door.offer(self.open_nodes, "open_nodes", "Open entities", reads=True, repeats=True)

    async def create_entities(self, entities: Annotated[list[Entity], Field(description="The entities.")]) -> Entities:
        """Create entities of the knowledge graph all agents share; those whose name is taken stay as they are."""
        added = await self._graph.create_entities([graph.Entity(e.name, e.entityType, e.observations) for e in entities])
        return Entities(entities=_entities(added))

    async def create_relations(self, relations: Annotated[list[Relation], Field(description="The relations.")]) -> Relations:
        """Create relations between entities of the knowledge graph, in active voice; those that are there stay."""
        return Relations(relations=_relations(await self._graph.create_relations(_asked(relations))))

    async def add_observations(
        self, observations: Annotated[list[Observed], Field(description="What was observed, by entity.")],
    ) -> Observations:
        """Add observations to entities of the knowledge graph; each entity must be there."""
        wanted: dict[str, list[str]] = {}
        for one in observations:
            wanted.setdefault(one.entityName, []).extend(one.contents)
        added = await self._graph.add_observations(wanted)
        return Observations(results=[Added(entityName=name, addedObservations=texts) for name, texts in added.items()])

    async def delete_entities(self, entityNames: Annotated[list[str], Field(description="The names of the entities.")]) -> Removed:
        """Delete entities of the knowledge graph with their relations."""
        await self._graph.delete_entities(entityNames)
        return Removed(success=True, message="Entities deleted successfully")

    async def delete_observations(
        self, deletions: Annotated[list[Deletion], Field(description="What to remove, by entity.")],
    ) -> Removed:
        """Delete observations of entities of the knowledge graph."""
        wanted: dict[str, list[str]] = {}
        for one in deletions:
            wanted.setdefault(one.entityName, []).extend(one.observations)
        await self._graph.delete_observations(wanted)
        return Removed(success=True, message="Observations deleted successfully")

    async def delete_relations(self, relations: Annotated[list[Relation], Field(description="The relations.")]) -> Removed:
        """Delete relations of the knowledge graph."""
        await self._graph.delete_relations(_asked(relations))
        return Removed(success=True, message="Relations deleted successfully")

    async def read_graph(self) -> Known:
        """Read the whole knowledge graph."""
        return _known(await self._graph.read())

    async def search_nodes(self, query: Annotated[str, Field(description="Words in a name, a type or an observation.")]) -> Known:
        """Find entities of the knowledge graph that have these words, with their relations."""
        return _known((await self._graph.read()).speaking_of(query))

    async def open_nodes(self, names: Annotated[list[str], Field(description="The names of the entities.")]) -> Known:
        """Open entities of the knowledge graph by name, with their relations."""
        return _known((await self._graph.read()).part(names))


def _asked(relations: Iterable[Relation]) -> list[graph.Relation]:
    return [graph.Relation(one.source, one.to, one.relationType) for one in relations]


def _entities(entities: Iterable[graph.Entity]) -> list[Entity]:
    return [Entity(name=e.name, entityType=e.kind, observations=e.observations) for e in entities]


def _relations(relations: Iterable[graph.Relation]) -> list[Relation]:
    return [Relation.model_validate({"from": one.source, "to": one.target, "relationType": one.kind}) for one in relations]


def _known(known: graph.Known) -> Known:
    return Known(entities=_entities(known.entities.values()), relations=_relations(known.relations))
