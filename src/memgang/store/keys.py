"""Every key and channel name, with its {hash tag}. No other file spells one.

A space has a fixed number of shards; all keys of one shard carry the tag ``{space.ss}``, so that
one script finds all its keys on one node of a cluster. The shard of an id, call key or name is the
first byte of its digest modulo the shards.
"""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass

from memgang.codec import digest
from memgang.errors import ConfigError
from memgang.model import REF_PREFIX, Ref

SPACE = re.compile(r"[a-z0-9-]{1,32}\Z")
LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
STORE_ID = "mg:store"


def check_space(name: str) -> str:
    """The name of a space, or ConfigError."""
    if not SPACE.match(name):
        raise ConfigError(f"space name {name[:60]!r} must be 1 to 32 of the characters a-z 0-9 -")
    return name


def check_label(what: str, text: str) -> str:
    """The name of a run, agent, role or tag, or ConfigError."""
    if not LABEL.match(text):
        raise ConfigError(f"{what} {text[:80]!r} must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return text


def check_name(name: str) -> str:
    """The name of an object: up to 8 labels joined by '/', none of them '.' or '..'; or ConfigError."""
    steps = name.split("/")
    if len(steps) > 8 or not all(LABEL.match(step) and step not in (".", "..") for step in steps):
        raise ConfigError(
            f"name {name[:80]!r} must be up to 8 steps joined by '/', each 1 to 64 of A-Z a-z 0-9 . _ - and not '.' or '..'"
        )
    return name


def first_byte(digested: str) -> int:
    """The first byte of a digest in its base32 spelling."""
    return base64.b32decode(digested[:8].upper())[0]


@functools.lru_cache(maxsize=4096)
def _head_of(space: str, shard: int) -> str:
    """The hash tag of a shard; a small call needs a score of keys."""
    return f"mg:{{{space}.{shard:02x}}}:"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one space. ``secret`` keys the hashes of names, so that key names give nothing away."""

    space: str
    shards: int = 1
    secret: bytes = b""

    def become(self, shards: int, secret: bytes) -> None:
        """The server lost the space and another process has made it anew: from now on its keys are ours too."""
        object.__setattr__(self, "shards", shards)
        object.__setattr__(self, "secret", secret)

    @staticmethod
    def config(space: str) -> str:
        """The space's secret, number of shards and policies."""
        return f"mg:{{{space}}}:cfg"

    @staticmethod
    def janitor(space: str) -> str:
        """Held by the process that keeps house for the space, for as long as it does."""
        return f"mg:{{{space}}}:janitor"

    @staticmethod
    def sealer(space: str) -> str:
        """Held by the process that seals the log of the space, for as long as it does."""
        return f"mg:{{{space}}}:sealer"

    @staticmethod
    def sealed(space: str) -> str:
        """Up to where each sealer has sealed and exported each log: nothing behind the slowest is trimmed."""
        return f"mg:{{{space}}}:sealed"

    @staticmethod
    def exported(space: str) -> str:
        """Up to where each log stands in each folder of exports: nothing behind the slowest is trimmed."""
        return f"mg:{{{space}}}:exported"

    @staticmethod
    def tokens(space: str) -> str:
        """Who may come in by the doors that ask for a token."""
        return f"mg:{{{space}}}:acl"

    def logs(self) -> list[str]:
        """The names of all logs, ``a00 h00 a01 h01 ...``: changes and reads of each shard."""
        return [f"{which}{shard:02x}" for shard in range(self.shards) for which in "ah"]

    def log(self, name: str) -> str:
        """The key of a log by its name."""
        return self.at(int(name[1:], 16), name[0])

    def shard_of(self, digested: str) -> int:
        """The shard of an id, call key or hash of a name."""
        return first_byte(digested) % self.shards if self.shards > 1 else 0

    def at(self, shard: int, rest: str) -> str:
        """A key of this shard."""
        return _head_of(self.space, shard) + rest

    def head(self, shard: int) -> list[str]:
        """Totals and the log of changes: the first two keys of nearly every script."""
        return [self.at(shard, "u"), self.at(shard, "a")]

    def flight(self, call: str) -> str:
        """The flight of a call; also the name of its channel."""
        return self.at(self.shard_of(call), f"f:{call}")

    def record(self, ref: Ref) -> str:
        """The record of an object."""
        return self.at(self.shard_of(ref.id), f"o:{ref.id}")

    def body(self, ref: Ref) -> str:
        """The bytes of an object."""
        return self.at(self.shard_of(ref.id), f"b:{ref.id}")

    def of_object(self, shard: int, ref: Ref) -> tuple[str, str]:
        """Record and body of an object of this shard, for who has many."""
        at, ident = _head_of(self.space, shard), ref[len(REF_PREFIX):]
        return f"{at}o:{ident}", f"{at}b:{ident}"

    def of_put(self, shard: int, ref: Ref, laid: str) -> tuple[str, ...]:
        """Totals, log, record, body, where a large body was laid ('' for a small one), expiry, ranks, listing."""
        at, ident = _head_of(self.space, shard), ref[len(REF_PREFIX):]
        return (f"{at}u", f"{at}a", f"{at}o:{ident}", f"{at}b:{ident}", laid or f"{at}b:{ident}:t:none", f"{at}x", f"{at}r", f"{at}l")

    def laid(self, ref: Ref, nonce: str) -> str:
        """Where a large body waits for its record."""
        return self.at(self.shard_of(ref.id), f"b:{ref.id}:t:{nonce}")

    def pins(self, ref: Ref) -> str:
        """Who holds the object, and until when."""
        return self.at(self.shard_of(ref.id), f"p:{ref.id}")

    def mark(self, ref: Ref) -> str:
        """Left for a while by an object that was forgotten."""
        return self.at(self.shard_of(ref.id), f"t:{ref.id}")

    def limit(self, name: str) -> str:
        """The state of a limit that gangs share; also the name of its channel. What else belongs to it begins with this."""
        return self.at(0, f"g:{self.name_hash(name)}")

    def purse(self, name: str) -> str:
        """What the gangs of one purse have spent and reserved."""
        return self.at(0, f"d:{self.name_hash(name)}")

    def allowance(self, whose: str) -> str:
        """What an agent of a door has spent. What else is counted of it begins with this."""
        return self.at(0, f"e:{self.name_hash(whose)}")

    def gate(self, digested: str) -> str:
        """Whether a prompt with this beginning is with the provider; also the name of its channel."""
        return self.at(0, f"y:{digested}")

    def name_hash(self, name: str) -> str:
        """What key names hold instead of the name."""
        return digest(name.encode(), self.secret)
