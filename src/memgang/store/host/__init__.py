"""The host tier: what the processes of one host share without asking the server.

    home.py    where it lies, who may use it, and when it is removed
    tier.py    bodies and finished answers: what may be kept and read, and what must go
    entries.py what lies there, and how (LMDB)
    flags.py   three words of shared memory: may it be read, since when is it known to be true
    tail.py    reads the log of changes, and takes out what is no longer so
    ring.py    events of each process that are not written yet; they outlive it
    state.py   how it stands, for who looks after it

Large bodies are files beside it:

    sealed.py  one file: written, sealed, named, mapped
    shelf.py   a directory of them, by id: who may put, who may remove
    files.py   the shelves of a space: which one is chosen, searched, emptied
    headroom.py  how much more memory may be taken

It is a cache and decides nothing: whatever it does not have, or may not say, the server is asked. What may be
read was true when the log was last read to its end, at most a second ago; on the host of whoever
forgets something, it is gone before that is acknowledged.
"""

from memgang.store.host.entries import Kept
from memgang.store.host.files import Files
from memgang.store.host.home import Home, enter, files_of, place
from memgang.store.host.sealed import Draft, Stamp
from memgang.store.host.shelf import Busy, Laid, Shelf
from memgang.store.host.state import State, state
from memgang.store.host.tail import Tail
from memgang.store.host.tier import Tier

__all__ = [
    "Busy", "Draft", "Files", "Home", "Kept", "Laid", "Shelf", "Stamp", "State", "Tail", "Tier", "enter", "files_of", "place", "state"]
