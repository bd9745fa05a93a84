"""Names: where they point and pointed, and what reference a text means."""

from __future__ import annotations

import re

from memgang.errors import ConfigError, UnknownReference
from memgang.model import Context, NameVersion, Ref
from memgang.space.refusals import guarded
from memgang.store import scripts
from memgang.store.events import note
from memgang.store.keys import check_name
from memgang.store.process import fresh
from memgang.store.replies import carried, pairs, walked
from memgang.store.store import Store

_PREFIX = re.compile(r"mg:[a-z2-7]{8,31}\Z")


async def set_name(store: Store, context: Context, name: str, ref: Ref | None, expect: int | None) -> int:
    """Move a name by compare-and-set; its new version. A conflict is logged."""
    check_name(name)
    if ref is not None and not await carried(store.wire.call("EXISTS", store.keys.record(ref)), "read"):
        raise UnknownReference(ref)
    return await guarded(store, context, scripts.name(
        store.wire, store.keys, name, who=context.who, note=note(context), op=fresh(), ref=ref, expect=expect))


async def resolve(store: Store, text: str) -> Ref:
    """The reference meant by a reference, a unique prefix of one, or a name."""
    if isinstance(text, Ref):
        return text
    if Ref.is_ref(text):
        return Ref(text)
    if _PREFIX.match(text):
        return await _by_prefix(store, text)
    if text.startswith("mg:"):
        raise UnknownReference(text, "a reference is mg: and 32 characters a-z2-7, a prefix of one has at least 8")
    try:
        now = await version(store, text)
    except ConfigError as error:
        raise UnknownReference(text, f"it is neither a reference nor a name ({error})") from None
    if now is None or now.ref is None:
        raise UnknownReference(text, "no object has this name")
    return now.ref


async def _by_prefix(store: Store, text: str) -> Ref:
    begins = text.removeprefix("mg:")
    listing = store.keys.at(store.keys.shard_of(begins), "l")
    found = {ident.decode() async for ident, _ in walked(store.wire, "ZSCAN", listing, "MATCH", begins + "*")}
    if len(found) == 1:
        return Ref("mg:" + found.pop())
    if not found:
        raise UnknownReference(text)
    raise UnknownReference(text, "it could be " + " or ".join("mg:" + i for i in sorted(found)[:2]))


async def version(store: Store, name: str) -> NameVersion | None:
    """Where a name points now; None if it never was."""
    hashed = store.keys.name_hash(check_name(name))
    ref, number, who, at = await carried(store.wire.call(
        "HMGET", store.keys.at(store.keys.shard_of(hashed), f"n:{hashed}"), "id", "version", "who", "at"), "read")
    return None if number is None else _version(name, number, ref, who, at)


async def history(store: Store, name: str, limit: int) -> list[NameVersion]:
    """The versions of a name that are kept, the newest first."""
    hashed = store.keys.name_hash(check_name(name))
    entries = await carried(store.wire.call(
        "XREVRANGE", store.keys.at(store.keys.shard_of(hashed), f"v:{hashed}"), "+", "-", "COUNT", limit), "read")
    out = []
    for entry, fields in entries:
        words = dict(pairs(fields))
        out.append(_version(name, entry.partition(b"-")[0], words[b"id"], words[b"who"], words[b"at"]))
    return out


def _version(name: str, number: bytes, ref: bytes | None, who: bytes, at: bytes) -> NameVersion:
    return NameVersion(name, int(number), Ref("mg:" + ref.decode()) if ref else None, who.decode(), int(at))


async def names(store: Store, prefix: str) -> dict[str, Ref]:
    """The names that begin with the prefix, in alphabetical order, and where they point."""
    found: dict[str, Ref] = {}
    for shard in range(store.keys.shards):
        async for name, ident in walked(store.wire, "HSCAN", store.keys.at(shard, "m")):
            if (text := name.decode()).startswith(prefix):
                found[text] = Ref("mg:" + ident.decode())
    return dict(sorted(found.items()))
