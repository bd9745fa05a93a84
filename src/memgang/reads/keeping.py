"""Bodies as objects: text where it is text, else bytes; raw again for who parses them."""

from __future__ import annotations

from memgang.codec import decode, encode, ref_of
from memgang.errors import CodecError, IntegrityError, UnknownReference
from memgang.model import Original, Ref, current_work
from memgang.space import Space

# A body outlives its record, so that no record points at what has just expired.
OUTLIVES_S = 3_600.0
# Of what a server wants nobody to keep: long enough for those who waited for it.
NOT_KEPT_S = 600.0

_TEXT = frozenset(("", "application/json", "application/xml", "application/yaml", "application/javascript", "application/toml"))
# Bytes that keep their type. Others lose it: a type may mean that `get` decodes, and these bytes are a stranger's.
_BYTES = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip", "application/gzip", "application/epub+zip")


async def put(space: Space, body: bytes, media_type: str, charset: str, *, keep: bool = True) -> Ref:
    """Store a body; the work under way is made from it."""
    value, kind = typed(body, media_type, charset)
    lasts = space.settings.answer_ttl_ms / 1000
    ttl = (lasts + OUTLIVES_S if lasts else None) if keep else NOT_KEPT_S
    ref = await space.put(value, media_type=kind, kind="body", ttl=ttl, parents=())
    if (work := current_work.get()) is not None:
        work.read[ref] = None
    return ref


def typed(body: bytes, media_type: str, charset: str) -> tuple[str | bytes, str | None]:
    """How a body is stored: the same bytes in any case, under a type from which they can be decoded."""
    text_like = media_type.startswith("text/") or media_type in _TEXT or media_type.endswith(("+json", "+xml"))
    if text_like and b"\0" not in body and charset.lower() in ("", "utf-8", "utf8", "us-ascii", "ascii"):
        try:
            text, kind = body.decode("utf-8"), media_type if media_type.startswith("text/") else None
            encode(text, kind)
            return text, kind
        except (UnicodeDecodeError, CodecError):
            return body, None
    if media_type.startswith("text/") and charset:
        kind = f"{media_type}; charset={charset}"
    elif media_type.startswith(_BYTES):
        kind = media_type
    else:
        return body, None
    try:
        decode(kind, body)
        encode(body, kind)
        return body, kind
    except CodecError:
        return body, None


async def record(space: Space, ref: str) -> Original | None:
    """A record of before, if it and its body are there. Not a read: what is asked of a server is not made from it."""
    try:
        kept = await space.store.objects.get(Ref(ref))
        found = decode(kept.media_type, kept.body, Original)
    except (UnknownReference, IntegrityError, CodecError, ValueError):
        return None
    return found if isinstance(found, Original) and await there(space, found.ref) else None


async def there(space: Space, ref: str) -> bool:
    """Whether a body can be had."""
    return Ref.is_ref(ref) and await space.store.objects.there(Ref(ref))


async def raw(space: Space, original: Original) -> bytes:
    """The body as it came, whatever its type. Raises what `Space.get` raises."""
    kept = await space.store.objects.get(original.ref)
    return bytes(kept.body)


def ref_of_record(original: Original) -> Ref:
    """The reference the record has once it is stored."""
    encoded = encode(original)
    return ref_of(encoded.media_type, encoded.whole)
