"""What LangGraph documents of a `BaseStore` holds on MemGangStore, awaited and blocking; and what ours promises besides."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.store.base", reason="LangGraph is not installed: pip install 'memgang[langgraph]'")

from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)

import memgang
from memgang.adapters.langgraph import MemGangStore
from memgang.errors import CodecError, ConfigError


class Either:
    """Calls the store's awaited methods, or its blocking ones in a thread: the same tests for both halves."""

    def __init__(self, store: MemGangStore, awaited: bool) -> None:
        self.store, self._awaited = store, awaited

    def __getattr__(self, name: str) -> Any:
        if self._awaited:
            return getattr(self.store, "a" + name)

        async def blocking(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(self.store, name), *args, **kwargs)

        return blocking


@pytest.fixture(params=["awaited", "blocking", "awaited from another loop"])
async def store(request: pytest.FixtureRequest, space_name: str) -> AsyncIterator[Either]:
    """A store of an empty space, by each way there is."""
    if request.param == "awaited":
        async with memgang.open(space=space_name, agent="tester") as space:
            yield Either(MemGangStore(space), True)
    else:
        with await asyncio.to_thread(memgang.connect, space=space_name, agent="tester") as connected:
            yield Either(MemGangStore(connected), request.param != "blocking")


# ── items ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_put_is_found_with_its_times(store: Either) -> None:
    """Value, key, namespace; created when it was first put, updated when it was put last."""
    await store.put(("users", "u1"), "likes", {"food": "pizza", "n": [1, 2.5, None, True]})
    first = await store.get(("users", "u1"), "likes")
    await store.put(("users", "u1"), "likes", {"food": "pasta"})
    second = await store.get(("users", "u1"), "likes")

    assert type(first) is Item and first.value == {"food": "pizza", "n": [1, 2.5, None, True]}
    assert (first.key, first.namespace) == ("likes", ("users", "u1")) and first.created_at == first.updated_at
    assert second.value == {"food": "pasta"}
    assert second.created_at == first.created_at and second.updated_at > first.updated_at
    assert first.created_at.tzinfo is not None


async def test_what_is_not_there_is_none_and_its_deletion_no_error(store: Either) -> None:
    """Never put, of another namespace, deleted: None."""
    await store.put(("a",), "k", {"x": 1})

    assert await store.get(("a",), "other") is None and await store.get(("a", "k"), "k") is None
    await store.delete(("a",), "k")
    await store.delete(("a",), "k")
    assert await store.get(("a",), "k") is None and await store.search(("a",)) == []
    await store.put(("a",), "k", {"x": 2})
    assert (await store.get(("a",), "k")).value == {"x": 2}


async def test_the_same_value_put_twice_is_updated(store: Either) -> None:
    """Equal content is not the same write."""
    await store.put(("a",), "k", {"x": 1})
    first = await store.get(("a",), "k")
    await store.put(("a",), "k", {"x": 1})

    assert (await store.get(("a",), "k")).updated_at > first.updated_at


@pytest.mark.parametrize("namespace", [(), ("a", ""), ("a", "b.c"), ("langgraph", "x"), ("a", 1)])
async def test_namespaces_that_langgraph_refuses_are_refused(store: Either, namespace: Any) -> None:
    """Empty, with an empty label or a dot, or LangGraph's own root."""
    with pytest.raises(InvalidNamespaceError):
        await store.put(namespace, "k", {"x": 1})


async def test_operations_past_the_methods_are_checked_too(store: Either) -> None:
    """A label with a dot cannot come in by `batch`; LangGraph's own root may."""
    with pytest.raises(InvalidNamespaceError):
        await store.batch([PutOp(("a.b",), "k", {"x": 1})])
    with pytest.raises(ValueError, match="unknown operation"):
        await store.batch(["get"])
    await store.batch([PutOp(("langgraph", "x"), "k", {"x": 1})])
    assert (await store.get(("langgraph", "x"), "k")).value == {"x": 1}


@pytest.mark.parametrize(("namespace", "key"), [
    (("with space", "ü/ß"), "a/b:c?*"), (("a",), ".."), (("a",), ""), (("deep",) * 12, "k"), (("a",), "x" * 500), (("_", "_2e"), "_-"),
])
async def test_any_namespace_and_key_come_back_as_they_were(store: Either, namespace: tuple[str, ...], key: str) -> None:
    """Characters, depths and lengths that MemGang's names do not have: found by key, by search and in the list."""
    await store.put(namespace, key, {"x": 1})
    await store.put(("other",), key, {"x": 2})

    found = await store.get(namespace, key)
    assert (found.namespace, found.key) == (namespace, key)
    assert [(i.namespace, i.key) for i in await store.search(namespace)] == [(namespace, key)]
    assert namespace in await store.list_namespaces() and await store.list_namespaces(prefix=namespace) == [namespace]
    await store.delete(namespace, key)
    assert await store.get(namespace, key) is None and await store.list_namespaces() == [("other",)]


async def test_a_value_without_a_json_form_is_refused_by_name(store: Either) -> None:
    """An object, a number that is none: an error that says so, and nothing is kept."""
    for wrong in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(CodecError):
            await store.put(("a",), "k", wrong)
    assert await store.get(("a",), "k") is None


# ── search ────────────────────────────────────────────────────────────────────────────────────────


async def put_documents(store: Either) -> None:
    for number, (kind, score) in enumerate([("report", 4.5), ("note", 3.0), ("report", 2.0), ("note", 5.0)]):
        await store.put(("docs", kind), f"d{number}", {"type": kind, "score": score, "meta": {"n": number, "tags": ["a", str(number)]}})
    await store.put(("docsets",), "x", {"type": "report"})


@pytest.mark.parametrize(("filter", "keys"), [
    (None, {"d0", "d1", "d2", "d3"}),
    ({}, {"d0", "d1", "d2", "d3"}),
    ({"type": "report"}, {"d0", "d2"}),
    ({"score": {"$gt": 3.0}}, {"d0", "d3"}),
    ({"score": {"$gte": 3.0}}, {"d0", "d1", "d3"}),
    ({"score": {"$lt": 3}}, {"d2"}),
    ({"score": {"$lte": 3}, "type": "note"}, {"d1"}),
    ({"score": {"$gte": 3, "$lt": 5}}, {"d0", "d1"}),
    ({"type": {"$ne": "report"}}, {"d1", "d3"}),
    ({"type": {"$eq": "note"}, "score": {"$eq": 5.0}}, {"d3"}),
    ({"meta": {"n": 1}}, {"d1"}),
    ({"meta": {"tags": ["a", "2"]}}, {"d2"}),
    ({"meta.n": 1}, {"d1"}),
    ({"meta.n": {"$gte": 2}, "type": "report"}, {"d2"}),
    ({"missing": {"$gt": 1}}, set()),
    ({"meta.n.deeper": 1}, set()),
    ({"missing": None}, {"d0", "d1", "d2", "d3"}),
])
async def test_a_search_gives_what_fits_the_filter(store: Either, filter: Any, keys: set[str]) -> None:
    """Equal values, operators, inner fields, several together; below the namespace, and not beside it."""
    await put_documents(store)

    found = await store.search(("docs",), filter=filter)

    assert {item.key for item in found} == keys and all(type(item) is SearchItem and item.score is None for item in found)


async def test_an_operator_that_is_not_documented_is_an_error(store: Either) -> None:
    """It is named, with those that are."""
    await put_documents(store)
    with pytest.raises(ValueError, match=r"\$in.*\$gte"):
        await store.search(("docs",), filter={"score": {"$in": [1]}})


async def test_a_search_gives_pages_what_was_written_last_first(store: Either) -> None:
    """Limit and offset cut one order; without a namespace all is searched; a query changes nothing."""
    for number in range(12):
        await store.put(("n", str(number % 3)), f"k{number}", {"number": number})
    await store.put(("n", "0"), "k0", {"number": 0})

    order = [item.key for item in await store.search(("n",), limit=100)]
    assert order == ["k0", *(f"k{number}" for number in range(11, 0, -1))]
    pages = [await store.search(("n",), limit=5, offset=offset) for offset in (0, 5, 10, 15)]
    assert [item.key for page in pages for item in page] == order and [len(page) for page in pages] == [5, 5, 2, 0]
    assert len(await store.search((), limit=100)) == 12 and len(await store.search(())) == 10
    assert len(await store.search(("n", "1"), query="anything")) == 4


# ── namespaces ────────────────────────────────────────────────────────────────────────────────────

NAMESPACES = [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f"),
              ("users", "123"), ("users", "456", "settings"), ("admin", "users", "789")]


@pytest.mark.parametrize(("how", "expected"), [
    ({}, sorted(NAMESPACES)),
    ({"prefix": ("a", "b")}, [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "b", "f")]),
    ({"suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
    ({"prefix": ("a",), "suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f")]),
    ({"prefix": ("a", "b"), "max_depth": 3}, [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]),
    ({"max_depth": 1}, [("a",), ("admin",), ("b",), ("users",)]),
    ({"prefix": ("a", "b"), "limit": 2}, [("a", "b", "c"), ("a", "b", "d", "e")]),
    ({"prefix": ("a", "b"), "offset": 2}, [("a", "b", "d", "i"), ("a", "b", "f")]),
    ({"prefix": ("a", "*", "f")}, [("a", "b", "f"), ("a", "c", "f")]),
    ({"suffix": ("*", "f")}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
    ({"prefix": ("*", "users")}, [("admin", "users", "789")]),
    ({"prefix": ("nonexistent",)}, []),
    ({"prefix": ("users", "123")}, [("users", "123")]),
    ({"prefix": ("users", "123", "more")}, []),
])
async def test_namespaces_are_listed_by_beginning_end_and_depth(store: Either, how: dict[str, Any], expected: Any) -> None:
    """In order, each once, a page at a time; a star stands for any label."""
    for number, namespace in enumerate(NAMESPACES):
        await store.put(namespace, f"id{number}", {"number": number})
    await store.put(("a", "b", "c"), "another", {"number": -1})

    assert await store.list_namespaces(**how) == expected


async def test_a_namespace_without_items_is_not_listed(store: Either) -> None:
    """It is there as long as one of its items."""
    assert await store.list_namespaces() == []
    await store.put(("a",), "k", {"x": 1})
    await store.delete(("a",), "k")
    assert await store.list_namespaces() == []


# ── batches ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_batch_answers_in_its_order_and_reads_before_it_writes(store: Either) -> None:
    """Reads see what was there before; of several writes of one item the last counts; writes give None."""
    await store.put(("t", "foo"), "k1", {"data": "v1"})
    await store.put(("t", "bar"), "k2", {"data": "v2"})

    results = await store.batch([
        PutOp(("t",), "k3", {"data": "early"}),
        GetOp(("t", "foo"), "k1"),
        SearchOp(("t",), filter={"data": "v1"}),
        ListNamespacesOp((MatchCondition("prefix", ("t",)),), None, 10, 0),
        GetOp(("t",), "k3"),
        PutOp(("t", "bar"), "k2", None),
        PutOp(("t",), "k3", {"data": "late"}),
    ])

    assert results[0] is None and results[1].value == {"data": "v1"}
    assert [item.key for item in results[2]] == ["k1"] and results[3] == [("t", "bar"), ("t", "foo")]
    assert results[4:] == [None, None, None]
    assert (await store.get(("t",), "k3")).value == {"data": "late"} and await store.get(("t", "bar"), "k2") is None


# ── time to live ──────────────────────────────────────────────────────────────────────────────────


async def expires(space: Any, key: str) -> int:
    """When the item's object expires, ms of the server's clock."""
    (ref,) = [ref for name, ref in (await space.names("store/")).items() if name.endswith("/" + key)]
    return int((await space.describe(ref)).expires)


async def expired(store: MemGangStore, key: str) -> None:
    """As if the time of an item had come: its object goes, its name stays, as the server leaves it."""
    space = store._bridge.space
    (ref,) = [ref for name, ref in (await space.names("store/")).items() if name.endswith("/" + key)]
    await space.forget(ref)


async def test_an_item_lives_as_long_as_said_and_anew_when_it_is_read(space: memgang.Space) -> None:
    """Minutes from the last write; from the last get or search too, unless that says otherwise."""
    store = MemGangStore(space)
    await store.aput(("a",), "ever", {"x": 1})
    await store.aput(("a",), "short", {"x": 1}, ttl=10)
    first = await expires(space, "short")
    now = space.store.log.server_ms()

    assert await expires(space, "ever") == 0 and now + 9 * 60_000 < first <= now + 10 * 60_000 + 1000
    await asyncio.sleep(0.005)
    await store.aget(("a",), "short", refresh_ttl=False)
    await store.asearch(("a",), refresh_ttl=False)
    assert await expires(space, "short") == first
    await store.aget(("a",), "short")
    second = await expires(space, "short")
    assert second > first
    await asyncio.sleep(0.005)
    await store.asearch(("a",))
    assert await expires(space, "short") > second
    await store.aput(("a",), "short", {"x": 1}, ttl=None)
    assert await expires(space, "short") == 0


async def test_the_configuration_of_the_store_says_what_holds_where_nothing_is_said(space: memgang.Space) -> None:
    """A time to live for all items, and whether reads begin it anew."""
    store = MemGangStore(space, ttl={"default_ttl": 5, "refresh_on_read": False})
    await store.aput(("a",), "k", {"x": 1})
    first = await expires(space, "k")
    await asyncio.sleep(0.005)
    await store.aget(("a",), "k")

    assert 0 < first == await expires(space, "k")
    await store.aput(("a",), "k", {"x": 2}, ttl=None)
    assert await expires(space, "k") == 0


async def test_what_has_expired_is_nowhere(space: memgang.Space) -> None:
    """Not by its key, not by a search, not in the list; its name is taken away, and it can be put anew."""
    store = MemGangStore(space)
    await store.aput(("a",), "gone", {"x": 1}, ttl=1)
    await store.aput(("b",), "there", {"x": 1})
    await expired(store, "gone")

    assert await store.aget(("a",), "gone") is None
    assert [item.key for item in await store.asearch(())] == ["there"] and await store.alist_namespaces() == [("b",)]
    assert list(await space.names("store/")) == ["store/b/there"]
    await store.aput(("a",), "gone", {"x": 2})
    assert (await store.aget(("a",), "gone")).value == {"x": 2}  # type: ignore[union-attr]


# ── what ours promises besides ────────────────────────────────────────────────────────────────────


async def test_what_is_replaced_or_deleted_is_gone_unless_history_is_kept(space: memgang.Space) -> None:
    """One object for each item; with history all that were there."""
    plain, keeping = MemGangStore(space), MemGangStore(space, root="kept", history=True)
    for number in range(3):
        await plain.aput(("a",), "k", {"number": number})
        await keeping.aput(("a",), "k", {"number": number})
    await plain.adelete(("a",), "k")

    assert len((await space.find(kind="item")).objects) == 3
    versions = await space.history("kept/a/k")
    assert [(await space.get(v.ref))["value"] for v in versions if v.ref] == [{"number": 2}, {"number": 1}, {"number": 0}]


async def test_stores_with_other_roots_do_not_see_each_other(space: memgang.Space) -> None:
    """Several stores can share a space."""
    one, other = MemGangStore(space, root="one"), MemGangStore(space, root="one-more")
    await one.aput(("a",), "k", {"x": 1})

    assert await other.aget(("a",), "k") is None and await other.asearch(()) == [] and len(await one.asearch(())) == 1


WRITER = """
import sys, memgang
from memgang.adapters.langgraph import MemGangStore
with memgang.connect(space=sys.argv[1]) as space:
    store = MemGangStore(space)
    for number in range(20):
        store.put(("shared",), "one", {"by": sys.argv[2], "number": number})
        store.put(("shared", sys.argv[2]), str(number), {"number": number})
"""


async def test_two_processes_that_write_at_once_lose_nothing(space: memgang.Space, space_name: str) -> None:
    """Each item has the value one of them wrote last, all 40 others are there, and no object is left over."""
    command = [sys.executable, "-c", WRITER, space_name]
    processes = [subprocess.Popen([*command, who], cwd=Path(__file__).parents[2]) for who in ("p", "q")]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0, 0]

    store = MemGangStore(space)
    assert len(await store.asearch(("shared",), limit=100)) == 41
    one = await store.aget(("shared",), "one")
    assert one is not None and one.value["number"] == 19
    assert len(await space.history("store/shared/one")) == 40
    assert len((await space.find(kind="item", limit=1000)).objects) == 41


async def test_writers_of_one_item_at_once_each_see_the_one_before(space: memgang.Space) -> None:
    """Twenty writes at the same time: twenty versions, one object."""
    store = MemGangStore(space)
    await asyncio.gather(*(store.aput(("a",), "k", {"number": number}) for number in range(20)))

    assert len(await space.history("store/a/k")) == 20 and len((await space.find(kind="item")).objects) == 1


async def test_a_method_that_blocks_in_the_loop_of_its_space_says_what_to_do(space: memgang.Space) -> None:
    """It would wait for itself for ever. The error is also of the kind that LangGraph's own stores raise there."""
    store = MemGangStore(space)
    with pytest.raises(ConfigError, match="aget for get") as raised:
        store.get(("a",), "k")
    assert isinstance(raised.value, asyncio.InvalidStateError)


def test_a_store_needs_a_space() -> None:
    """A URL is none; the message says what is."""
    with pytest.raises(ConfigError, match=r"memgang\.connect"):
        MemGangStore("redis://localhost")  # type: ignore[arg-type]


def test_a_graph_remembers_over_threads_of_conversation(blocking: memgang.BlockingSpace) -> None:
    """Nodes reach the store as LangGraph hands it to them, in a graph that blocks."""
    def remember(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
        said = state["messages"][-1].content
        seen = [item.value["said"] for item in store.search(("memories",))]
        store.put(("memories",), str(len(seen)), {"said": said})
        return {"messages": [("ai", " ".join(sorted(seen)))]}

    graph = (StateGraph(MessagesState).add_node("remember", remember).add_edge(START, "remember").add_edge("remember", END)
             .compile(store=MemGangStore(blocking)))
    answers = [graph.invoke({"messages": [("user", text)]})["messages"][-1].content for text in ("one", "two", "three")]

    assert answers == ["", "one", "one two"]
