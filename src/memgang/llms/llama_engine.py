"""One model in memory: loaded once in a process, whoever asks, and one answer at a time.

llama.cpp is called in a thread of the model's own, which waits outside the interpreter's lock, so event loops stay free.
The thread is also the line: what is given up while it stands there never begins.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from memgang.errors import ModelError
from memgang.llms.modelfile import ModelFile

# Prompts are read in blocks of so many tokens, and after each is asked whether to go on.
BATCH = 512

Hand = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is loaded. Only ``n_ctx``, the tokens of prompt and answer together, can alter what it answers."""

    n_ctx: int = 8192
    n_threads: int = -1  # as many as there are cores
    n_gpu_layers: int = -1  # as many as fit


class Engine:
    """A model, not loaded before the first question. Belongs to all who ask in this process; see `enter` and `leave`."""

    def __init__(self, name: str, file: ModelFile, options: Options) -> None:
        self.users = 0
        self._name, self._file, self._options = name, file, options
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memgang-llama")
        self._server: Any = None

    def generate(self, request: dict[str, Any], hand: Hand, stop: threading.Event) -> Future[None]:
        """Have a request answered: ``hand`` is given its events, in the model's thread, until ``stop`` is set."""
        return self._thread.submit(self._generate, request, hand, stop)

    def close(self) -> None:
        """Give the memory back. Blocks until the answer under way has ended."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._server = None

    def _generate(self, request: dict[str, Any], hand: Hand, stop: threading.Event) -> None:
        if self._server is None:
            self._server = self._load()
        self._unaltered()

        def event(data: dict[str, Any]) -> bool:
            if stop.is_set():
                return True  # ends it, after the token or block of the prompt that is being computed
            hand(data)
            return False

        try:
            self._server.handle_chat_completions(request, event)
        except (TypeError, ValueError, RuntimeError) as error:  # the template or the grammar; text that is no UTF-8
            raise ModelError(self._name, "permanent", type(error).__name__, str(error)[:500]) from None
        self._unaltered()

    def _load(self) -> Any:
        import xllamacpp

        if self._file.replaced():
            raise ModelError(self._name, "caller", "replaced",
                             f"{self._file.path} is not the file any more that it was when it was named; name it again")
        params = xllamacpp.CommonParams()
        params.model.path = str(self._file.path)
        params.n_ctx, params.n_gpu_layers = self._options.n_ctx, self._options.n_gpu_layers
        params.n_batch = params.n_ubatch = BATCH
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._options.n_threads
        params.n_parallel = 1
        params.cache_ram_mib = 0  # states of earlier prompts in up to 8 GiB of memory: the last one is kept anyway
        params.warmup = params.ui = params.endpoint_slots = False
        params.endpoint_metrics = True  # see below; nobody else can ask for them
        params.offline = True
        params.verbosity = -1
        try:
            # The library cannot do without a server of its own. It is given a socket where only we can enter, and as soon
            # as it has it the place is removed: nobody reaches it, and nothing is left behind.
            with tempfile.TemporaryDirectory(prefix="memgang-") as place:
                params.hostnames = [os.path.join(place, "s.sock")]
                server = xllamacpp.Server(params)
                # Its thread may not have begun to listen:
                #
                #   we: load -> drop it (the file was replaced, the program ends): "end" is said, and its end waited for
                #   its thread: begins only now, has not heard it       <- waits for work for ever, and so do we for it
                #
                # Once it has answered anything, it hears.
                server.handle_metrics()
        except (RuntimeError, OSError) as error:
            raise ModelError(self._name, "caller", "load",  # of this host, not of the call: others may have more memory
                             f"llama.cpp cannot load {self._file.path}: it is damaged, of a kind this version does not know, or there "
                             f"is too little memory for n_ctx={self._options.n_ctx} ({error})") from None
        if self._file.replaced():
            # hashed -> replaced -> loaded: what is in memory is not what the key says.
            raise ModelError(self._name, "caller", "replaced", f"{self._file.path} was replaced while it was loaded; name it again")
        return server

    def _unaltered(self) -> None:
        # The file is mapped, not copied. One that is moved into its place changes nothing for us; one that is written to does.
        if self._file.altered():
            raise ModelError(self._name, "caller", "altered", f"{self._file.path} was written to while it is in use; name it again")


_engines: dict[tuple[int, str, Options], Engine] = {}
_lock = threading.Lock()


def enter(name: str, file: ModelFile, options: Options) -> Engine:
    """The model of this content, shared by all in this process who ask for it with the same options."""
    with _lock:
        # By process: a forked child has the memory of its parent, and none of its threads.
        key = (os.getpid(), file.digest, options)
        if (engine := _engines.get(key)) is None:
            engine = _engines[key] = Engine(name, file, options)
        engine.users += 1
        return engine


def leave(engine: Engine) -> None:
    """Done with it. The last one to leave frees the memory; blocks meanwhile."""
    with _lock:
        engine.users -= 1
        if engine.users:
            return
        for key in [key for key, one in _engines.items() if one is engine]:
            del _engines[key]
            if key[0] != os.getpid():
                return  # its threads are the parent's
    engine.close()


@atexit.register
def _end() -> None:
    """Let go of what nobody has closed while there is still an interpreter to do it in."""
    for key, engine in list(_engines.items()):
        if key[0] == os.getpid():
            engine.close()
