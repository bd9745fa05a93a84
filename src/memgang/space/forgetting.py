"""Forgetting an object, or what was read from a source, with what was made of it."""

from __future__ import annotations

from memgang import lineage
from memgang.errors import UnknownReference
from memgang.lineage import Forgotten
from memgang.model import Context
from memgang.space.names import resolve
from memgang.store.replies import carried
from memgang.store.store import Store


async def forget(
    store: Store, context: Context, ref: str, *, cascade: bool, dry_run: bool, reason: str, remove_names: bool
) -> Forgotten:
    """Forget an object; with ``cascade`` what was made from it."""
    whole = await resolve(store, ref)
    return await carried(lineage.forget(
        store, context, [whole], cascade=cascade, dry_run=dry_run, reason=reason, remove_names=remove_names), "forget")


async def invalidate(
    store: Store, context: Context, source: str, *, dry_run: bool, reason: str, remove_names: bool
) -> Forgotten:
    """Forget what was read from a source; where nothing was, the object that is meant."""
    of_object = source.startswith("mg:")
    if not of_object:
        read = await carried(lineage.readings(store, source), "forget")
        if read.roots:
            return await carried(lineage.forget(
                store, context, read.roots, calls=read.calls, shared=read.shared, dry_run=dry_run, reason=reason,
                remove_names=remove_names), "forget")
    try:
        return await forget(store, context, source, cascade=True, dry_run=dry_run, reason=reason, remove_names=remove_names)
    except UnknownReference as error:
        if of_object:
            raise
        raise UnknownReference(source, "nothing that was read from there is remembered, and no object has this name") from error
