"""Tokens: who may come in by a door that asks for one. The server keeps their hashes, never the tokens.

    mgt_<id>_<secret>       the id finds the record, 256 random bits behind it are the secret
    {space}:acl             id -> hash of the whole token, agent, scope, what it allows, when it was made and revoked

A revoked token stays in the list: were it removed, revoking the last one would open a door that asks nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping

import msgspec

from memgang.errors import CodecError, MemGangError, UnknownReference
from memgang.store.allowances import Allowance
from memgang.store.keys import Keys, check_label
from memgang.store.replies import carried, pairs
from memgang.store.store import Store

FRESH_S = 0.25  # how long a list that was read may be used: a revoked token is refused within this
AGAIN_S = 0.02  # and how soon an unknown token has it read again

SIGN = "mgt_"  # what every token begins with
_FORM = re.compile(r"mgt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}\Z")
_NOBODY = b"\0" * 32
UNLIMITED = Allowance()


class Token(msgspec.Struct, frozen=True):
    """What is known of one token. ``scope`` parts tenants: answers are shared within one. Times are ms, 0: not yet.

    ``allows`` limits what its agent, with all its tokens, asks and spends.
    """

    id: str
    hash: bytes
    agent: str
    scope: str = ""
    created: int = 0
    revoked: int = 0
    allows: Allowance = UNLIMITED


def _hash(text: str) -> bytes:
    # Plain SHA-256: what is hashed has 256 random bits, so there is nothing to guess slowly.
    return hashlib.sha256(text.encode()).digest()


async def create(store: Store, agent: str, scope: str = "", allows: Allowance = UNLIMITED) -> tuple[Token, str]:
    """A new token for an agent, and its text, which is told once and kept nowhere.

    Raises:
        ConfigError: agent or scope is no label.
    """
    check_label("agent", agent)
    if scope:
        check_label("scope", scope)
    ident = secrets.token_hex(6)
    text = f"{SIGN}{ident}_{secrets.token_urlsafe(32)}"
    token = Token(ident, _hash(text), agent, scope, store.log.server_ms(), allows=allows)
    await _write(store, token)
    return token, text


async def limit(store: Store, ident: str, allows: Allowance) -> Token:
    """From now on a token allows this, instead of what it allowed; what its agent has spent stays spent.

    Raises:
        UnknownReference: there is none with this id.
    """
    token = msgspec.structs.replace(await _found(store, ident), allows=allows)
    await _write(store, token)
    return token


async def revoke(store: Store, ident: str) -> Token:
    """End a token for good; a repeat changes nothing.

    Raises:
        UnknownReference: there is none with this id.
    """
    token = await _found(store, ident)
    if not token.revoked:
        token = msgspec.structs.replace(token, revoked=store.log.server_ms())
        await _write(store, token)
    return token


async def read(store: Store) -> dict[str, Token]:
    """All tokens by their ids, the oldest first.

    Raises:
        CodecError: an entry is damaged. It is not passed over: with fewer tokens a door may let more people in.
    """
    found = pairs(await carried(store.wire.call("HGETALL", Keys.tokens(store.keys.space)), "read"))
    try:
        all_ = [msgspec.msgpack.decode(words, type=Token) for _, words in found]
    except msgspec.MsgspecError as error:
        raise CodecError(f"the tokens of space {store.keys.space} are damaged: {error}") from error
    return {token.id: token for token in sorted(all_, key=lambda token: token.created)}


async def _found(store: Store, ident: str) -> Token:
    if (token := (await read(store)).get(ident)) is None:
        raise UnknownReference(ident, "no token has this id; `memgang token list` shows them")
    return token


async def _write(store: Store, token: Token) -> None:
    await carried(
        store.wire.call("HSET", Keys.tokens(store.keys.space), token.id, msgspec.msgpack.encode(token)), "write")


class Tokens:
    """The tokens of a space as a door knows them. While the server is away the last that were read count."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Mapping[str, Token] = {}
        self._read = 0.0  # when, by a clock that does not step; 0: never
        self.any = False  # there is one, or there was: from then on everybody needs one

    async def refresh(self, older_s: float = FRESH_S) -> None:
        """Read them, if that was not done within this time.

        Raises:
            MemGangError: they could not be read, and never were.
        """
        now = time.monotonic()
        if self._read and now - self._read < older_s:
            return
        try:
            known = await read(self._store)
        except MemGangError:
            if not self._read:
                raise
            return
        # What was seen once is not unseen: a server that lost its data must not open the door.
        self._known = known or self._known
        self.any = bool(self._known)
        self._read = now

    async def owner(self, text: str) -> Token | None:
        """Whose token this is; None for one that is wrong or revoked."""
        await self.refresh()
        form = _FORM.match(text)
        if form is None:
            return None
        if form.group(1) not in self._known:
            await self.refresh(AGAIN_S)  # made a moment ago
        token = self._known.get(form.group(1))
        same = hmac.compare_digest(_hash(text), token.hash if token is not None else _NOBODY)
        return token if token is not None and same and not token.revoked else None
