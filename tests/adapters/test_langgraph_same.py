"""MemGangStore beside LangGraph's own store in memory: the same operations, at random, give the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("langgraph.store.memory", reason="LangGraph is not installed: pip install 'memgang[langgraph]'")

from langgraph.store.memory import InMemoryStore

import memgang
from memgang.adapters.langgraph import MemGangStore

LABELS = ("a", "b", "a b", "ü/ß", "a_2e", "langgraph", "x" * 70)


def namespace(rng: random.Random, least: int = 0) -> tuple[str, ...]:
    return tuple(rng.choice(LABELS[:5] if place == 0 else LABELS) for place in range(rng.randint(least, 4)))


def filter_of(rng: random.Random) -> dict[str, Any] | None:
    sign = rng.choice(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
    return rng.choice([None, {}, {"n": rng.randint(0, 3)}, {"n": {sign: rng.randint(0, 3)}}, {"in": {"n": 1}}, {"l": [1, 2]},
                       {"missing": None}, {"n": {"$gte": 1, "$lt": 3}, "s": "x"}])


def items(found: list[Any]) -> list[Any]:
    return sorted((item.namespace, item.key, json.dumps(item.value, sort_keys=True)) for item in found)


@pytest.mark.parametrize("seed", range(4))
async def test_random_operations_give_what_langgraphs_own_store_gives(space: memgang.Space, seed: int) -> None:
    """Items, searches and namespaces; but for order, and for namespaces that are empty, which that one still lists."""
    rng, ours, theirs = random.Random(seed), MemGangStore(space), InMemoryStore()
    for _ in range(120):
        where, key = namespace(rng, 1), rng.choice(["k", "l/m", ".", ""])
        match rng.randrange(6):
            case 0 | 1:
                value = {"n": rng.randint(0, 3), "s": rng.choice("xy"), "in": {"n": rng.randint(0, 1)}, "l": rng.choice([[1, 2], []])}
                await ours.aput(where, key, value)
                await theirs.aput(where, key, value)
            case 2:
                await ours.adelete(where, key)
                await theirs.adelete(where, key)
            case 3:
                mine, other = await ours.aget(where, key), await theirs.aget(where, key)
                assert (mine and (mine.namespace, mine.key, mine.value)) == (other and (other.namespace, other.key, other.value))
            case 4:
                below, wanted = namespace(rng), filter_of(rng)
                assert items(await ours.asearch(below, filter=wanted, limit=1000)) == items(
                    await theirs.asearch(below, filter=wanted, limit=1000))
            case _:
                how: dict[str, Any] = {"prefix": namespace(rng) or None, "suffix": rng.choice([None, ("*", rng.choice(LABELS)), ("a",)])}
                there = [one for one in await theirs.alist_namespaces(**how, limit=1000) if full(theirs, one)]
                assert await ours.alist_namespaces(**how, limit=1000) == there


def full(store: InMemoryStore, where: tuple[str, ...]) -> bool:
    return any(item.namespace == where for item in store.search(where, limit=1000))
