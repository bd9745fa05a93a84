"""A model in this process: the real llama.cpp with a model the test has written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memgang
from memgang import llms
from memgang.errors import ConfigError, ModelError
from memgang.llms import llama_engine
from memgang.llms.llama_cpp import LlamaCpp
from memgang.model import Completion, LanguageModel, Prompt, StreamingModel
from memgang.settings import Settings

xllamacpp = pytest.importorskip("xllamacpp", reason="the extra [llama-cpp] is not installed")
pytest.importorskip("gguf", reason="gguf, with which the tests write their model, is not installed")
from tests.llms import llama_server, tiny_model  # noqa: E402

PROMPT = Prompt(instruction="Name the doors.", system="Be brief.")
LITTLE = {"max_tokens": 12, "n_threads": 1, "n_ctx": 1024}  # threads that spin for each other are slow on a busy machine


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return tiny_model.write(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
async def model(model_file: Path) -> Any:
    """It, with short answers."""
    made = LlamaCpp(model_file, parameters=LITTLE)
    yield made
    await made.aclose()


class Counted:
    """llama.cpp itself, and how often it calls back: for each block of a prompt, and for each token."""

    def __init__(self, server: Any, watch: Watch) -> None:
        self._server, self._watch = server, watch

    def handle_chat_completions(self, request: dict[str, Any], event: Callable[[Any], bool]) -> Any:
        """Its own, counted."""
        def counted(data: Any) -> bool:
            self._watch.computed += 1
            return event(data)

        return self._server.handle_chat_completions(request, counted)


class Watch:
    """Everything that is computed, and a gate after the first token of each answer, open unless it is closed."""

    def __init__(self) -> None:
        self.begun = self.computed = self.at_once = self.most = self.loaded = 0
        self.threads = set[str]()
        self.first, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    async def reached(self) -> None:
        """Until an answer stands at the gate."""
        assert await asyncio.to_thread(self.first.wait, 30)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Looks over the shoulder of the model's thread; what is computed is llama.cpp's."""
    seen, generate, load = Watch(), llama_engine.Engine._generate, llama_engine.Engine._load

    def watched(self: llama_engine.Engine, request: dict[str, Any], hand: Callable[[Any], None], stop: threading.Event) -> None:
        def handed(event: dict[str, Any]) -> None:
            hand(event)
            seen.threads.add(threading.current_thread().name)
            if any(choice.get("delta", {}).get("content") for choice in event.get("choices", ())):
                seen.first.set()
                assert seen.gate.wait(30)

        seen.begun += 1
        seen.at_once += 1
        seen.most = max(seen.most, seen.at_once)
        try:
            generate(self, request, handed, stop)
        finally:
            seen.at_once -= 1

    def loaded(self: llama_engine.Engine) -> Any:
        seen.loaded += 1
        return Counted(load(self), seen)

    monkeypatch.setattr(llama_engine.Engine, "_generate", watched)
    monkeypatch.setattr(llama_engine.Engine, "_load", loaded)
    yield seen
    seen.gate.set()


async def idle(model: LlamaCpp) -> None:
    """Until the model's thread has nothing to do any more."""
    assert model._engine is not None
    await asyncio.wrap_future(model._engine._thread.submit(lambda: None))


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


async def test_it_answers_by_the_template_of_the_file_and_counts_real_tokens(model: LlamaCpp, tmp_path: Path) -> None:
    """What the template adds is read by the model: the same prompt is longer by exactly that."""
    longer = LlamaCpp(tiny_model.write(tmp_path / "a.gguf", template="eeeee" + tiny_model.TEMPLATE), parameters=LITTLE)
    try:
        answer, other = await model.complete(PROMPT), await longer.complete(PROMPT)
    finally:
        await longer.aclose()

    assert isinstance(model, LanguageModel) and isinstance(model, StreamingModel)
    assert answer.text and answer.tokens_out == 12 and answer.finish == "length" and not answer.estimated
    assert other.tokens_in == answer.tokens_in + 5


async def test_a_stream_is_the_answer_in_pieces(model: LlamaCpp) -> None:
    """The pieces make the text, several of them, and the whole with its usage comes last."""
    *pieces, last = [piece async for piece in model.stream(PROMPT)]

    assert isinstance(last, Completion) and len(pieces) > 3
    assert "".join(str(piece) for piece in pieces) == last.text == (await model.complete(PROMPT)).text


async def test_at_temperature_0_it_says_the_same_whatever_was_asked_before(model: LlamaCpp, model_file: Path) -> None:
    """Also when the beginning of the prompt is still in its memory, and from a model loaded anew."""
    first = await model.complete(PROMPT)
    await model.complete(Prompt(instruction="Something else."))
    again, kept = await model.complete(PROMPT), await model.complete(PROMPT)
    await model.aclose()
    anew = await model.complete(PROMPT)

    assert first.text == again.text == kept.text == anew.text
    assert first.tokens_cached == anew.tokens_cached == 0 < kept.tokens_cached < kept.tokens_in


async def test_above_it_the_seed_decides(model_file: Path) -> None:
    """The same seed says the same, another another, and parameters reach llama.cpp: an answer ends where it is told to."""
    async def said(**parameters: Any) -> Completion:
        model = LlamaCpp(model_file, parameters={**LITTLE, **parameters})
        try:
            return await model.complete(PROMPT)
        finally:
            await model.aclose()

    hot = {"temperature": 2.0, "cache_prompt": False}
    one, same, other = await said(**hot, seed=1), await said(**hot, seed=1), await said(**hot, seed=2)
    plain = await said()
    word = plain.text.split()[0]
    stopped = await said(stop=[word])

    assert one.text == same.text != other.text
    assert stopped.finish == "stop" and word not in stopped.text and stopped.tokens_out < plain.tokens_out


# ── one at a time, and given up ──────────────────────────────────────────────────────────────────


async def test_whoever_gives_up_ends_the_computation(model_file: Path, watch: Watch) -> None:
    """The answer would have had hundreds of tokens; after the one that was under way no more are computed."""
    model = LlamaCpp(model_file, parameters={**LITTLE, "max_tokens": 500})
    watch.gate.clear()
    asking = asyncio.create_task(model.complete(PROMPT))
    await watch.reached()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    watch.gate.set()
    await idle(model)

    assert watch.computed < 10
    await model.aclose()


async def test_so_does_whoever_leaves_a_stream(model_file: Path, watch: Watch) -> None:
    """Closing it is enough."""
    model = LlamaCpp(model_file, parameters={**LITTLE, "max_tokens": 500})
    watch.gate.clear()
    pieces = model.stream(PROMPT)
    assert isinstance(await anext(pieces), str)
    await pieces.aclose()
    watch.gate.set()
    await idle(model)

    assert watch.computed < 10
    await model.aclose()


async def test_llama_cpp_itself_stops_by_its_own_count(model_file: Path) -> None:
    """It computes ahead of whom it tells. A stream left at its first piece leaves no work behind that the next would wait for."""
    shared = {**LITTLE, "n_ctx": 32_000}
    left, short = LlamaCpp(model_file, parameters={**shared, "max_tokens": 20_000}), LlamaCpp(model_file, parameters=shared)
    pieces = left.stream(PROMPT)
    await anext(pieces)
    await pieces.aclose()
    assert (await short.complete(PROMPT)).tokens_out == 12
    assert left._engine is short._engine is not None
    counted = llama_server.written(left._engine._server)
    await left.aclose()
    await short.aclose()

    assert 12 <= counted < 20_000


async def test_a_gang_that_lets_go_of_abandoned_calls_ends_it_too(
    model_file: Path, opened: Callable[..., Any], watch: Watch
) -> None:
    """Through the recall: the last who waits has left, and ``on_abandon`` says to cancel."""
    model = LlamaCpp(model_file, parameters={**LITTLE, "max_tokens": 500})
    async with opened(on_abandon="cancel") as space, memgang.Gang(space, llm=model) as gang:
        watch.gate.clear()
        asking = asyncio.ensure_future(gang.llm(PROMPT))
        await watch.reached()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await space.settle()
        watch.gate.set()
        await idle(model)
    await model.aclose()

    assert watch.computed < 10


async def test_a_long_prompt_is_given_up_while_it_is_read(model_file: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the last of its blocks: it is asked between them whether to go on."""
    model = LlamaCpp(model_file, parameters={**LITTLE, "n_ctx": 16_384})
    long = Prompt(instruction="the audit " * 500)
    whole = await model.complete(long)
    blocks = watch.computed - whole.tokens_out
    watch.computed = 0
    generate = llama_engine.Engine._generate

    def stopped_at_once(self: llama_engine.Engine, request: Any, hand: Callable[[Any], None], stop: threading.Event) -> None:
        def handed(event: Any) -> None:
            hand(event)
            stop.set()

        generate(self, request, handed, stop)

    monkeypatch.setattr(llama_engine.Engine, "_generate", stopped_at_once)
    with pytest.raises(ModelError, match="broke off"):
        await model.complete(Prompt(instruction="of " + long.instruction))

    assert blocks > whole.tokens_in / llama_engine.BATCH and watch.computed < 4
    await model.aclose()


async def test_what_is_given_up_in_the_line_never_begins(model: LlamaCpp, watch: Watch) -> None:
    """While one is answered the next wait; who leaves meanwhile costs nothing."""
    watch.gate.clear()
    first = asyncio.create_task(model.complete(PROMPT))
    await watch.reached()
    second = asyncio.create_task(model.complete(Prompt(instruction="Another.")))
    await asyncio.sleep(0)  # it stands in the line
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    watch.gate.set()
    await first
    await idle(model)

    assert watch.begun == 1


async def test_a_model_is_loaded_once_in_a_process_and_answers_one_at_a_time(model_file: Path, tmp_path: Path, watch: Watch) -> None:
    """Two names for the same content, two event loops, many questions at once: one model in one thread, not the loops'."""
    copy, before = shutil.copy(model_file, tmp_path / "copy.gguf"), dict(llama_engine._engines)

    async def ask_many(path: Path) -> set[str]:
        model = LlamaCpp(path, parameters=LITTLE)
        asked = await asyncio.gather(*(model.complete(Prompt(instruction=f"{number % 2}")) for number in range(6)))
        both.wait(30)  # neither frees it while the other still needs it
        await model.aclose()
        return {answer.text for answer in asked}

    both = threading.Barrier(2)
    here, there = await asyncio.gather(asyncio.to_thread(lambda: asyncio.run(ask_many(model_file))),
                                       asyncio.to_thread(lambda: asyncio.run(ask_many(copy))))

    assert here == there and len(here) == 2
    assert (watch.loaded, watch.most, watch.begun) == (1, 1, 12)
    assert all(name.startswith("memgang-llama") for name in watch.threads)
    assert llama_engine._engines == before  # and its memory was given back


# ── which model it is ────────────────────────────────────────────────────────────────────────────


def test_the_content_is_the_model_not_the_path(model_file: Path, tmp_path: Path) -> None:
    """A copy is the same model; other weights under the same header and name are another."""
    first, copy = LlamaCpp(model_file), LlamaCpp(shutil.copy(model_file, tmp_path / "elsewhere.gguf"))
    other = LlamaCpp(tiny_model.write(tmp_path / "tiny.gguf", seed=8))

    assert (first.name, first.version, first.parameters) == (copy.name, copy.version, copy.parameters)
    assert first.name == other.name == "llama_cpp:tiny" and first.version != other.version
    assert other._file.path.stat().st_size == model_file.stat().st_size
    assert str(tmp_path) not in copy.name + copy.version


async def test_hosts_share_answers_and_a_replaced_file_never_answers_for_the_old_one(
    opened: Callable[..., Any], tmp_path: Path, watch: Watch
) -> None:
    """A gang with the same file elsewhere is given the answer; when other weights lie there, it is computed anew."""
    paths = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    tiny_model.write(paths[0])
    shutil.copy(paths[0], paths[1])

    async def asked(path: Path) -> str:
        named = f"llama_cpp:{path}?" + "&".join(f"{key}={value}" for key, value in LITTLE.items())
        async with opened() as space, memgang.Gang(space, llm=named) as gang:
            return str(await gang.llm(PROMPT))

    first, second = await asked(paths[0]), await asked(paths[1])
    assert first == second and watch.begun == 1
    tiny_model.write(paths[1], seed=8)
    assert await asked(paths[1]) != first and watch.begun == 2


async def test_a_file_replaced_between_naming_and_loading_is_not_loaded(tmp_path: Path) -> None:
    """What was hashed is what is loaded, or nothing is."""
    path = tiny_model.write(tmp_path / "m.gguf")
    model = LlamaCpp(path, parameters=LITTLE)
    os.replace(tiny_model.write(tmp_path / "new.gguf", seed=8), path)

    with pytest.raises(ModelError, match="not the file any more") as told:
        await model.complete(PROMPT)
    assert told.value.kind == "caller"
    await model.aclose()


async def test_a_file_that_is_written_to_in_use_is_noticed_and_one_moved_over_it_is_not_used(tmp_path: Path) -> None:
    """The file is mapped: what is moved into its place leaves it as it was, what is written into it does not."""
    path = tiny_model.write(tmp_path / "m.gguf")
    model = LlamaCpp(path, parameters=LITTLE)
    before = await model.complete(PROMPT)
    kept = tmp_path / "kept.gguf"
    os.link(path, kept)
    os.replace(tiny_model.write(tmp_path / "new.gguf", seed=8), path)
    assert (await model.complete(PROMPT)).text == before.text
    await model.aclose()

    other = LlamaCpp(kept, parameters=LITTLE)
    await other.complete(PROMPT)
    with kept.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(bytes(64))
    with pytest.raises(ModelError, match="written to while it is in use"):
        await other.complete(PROMPT)
    await other.aclose()


def test_a_model_in_parts_is_named_by_the_first_and_is_all_of_them(tmp_path: Path) -> None:
    """Another second part is another model; a missing one, or a name that begins in the middle, is told."""
    first = tiny_model.write(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(ConfigError, match="m-00002-of-00002.gguf"):
        LlamaCpp(first)
    second = tiny_model.write(tmp_path / "m-00002-of-00002.gguf")
    one = LlamaCpp(first).version
    tiny_model.write(second, seed=8)

    assert LlamaCpp(first).version != one
    with pytest.raises(ConfigError, match="part 2 of 2"):
        LlamaCpp(second)


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("text", "told"), [
    ("{nowhere}", "No such file"), ("{none}", "not a GGUF file"), ("{folder}", "Is a directory"), ("?seed=1", "path of a model is missing"),
    ("{good}?temprature=1", "temprature"), ("{good}?n_ctx=many", "whole number"), ("{good}?n_ctx=0", "1 or more"),
    ("{good}?messages=[]", "messages"),
])
def test_a_name_that_is_none_is_told(text: str, told: str, model_file: Path, tmp_path: Path) -> None:
    """When it is named, not at the first question."""
    (tmp_path / "none.gguf").write_text("no model")
    places = {"nowhere": tmp_path / "x.gguf", "none": tmp_path / "none.gguf", "folder": tmp_path, "good": model_file}
    with pytest.raises(ConfigError, match=told):
        llms.load("llama_cpp:" + text.format(**places), Settings())


async def test_a_damaged_model_is_this_hosts_trouble(model_file: Path, tmp_path: Path) -> None:
    """It has a header and nothing behind it: others, with the whole file, are not told that the call has failed."""
    half = tmp_path / "half.gguf"
    half.write_bytes(model_file.read_bytes()[:20_000])
    model = LlamaCpp(half, parameters=LITTLE)

    with pytest.raises(ModelError, match="cannot load") as told:
        await model.complete(PROMPT)
    assert told.value.kind == "caller"
    await model.aclose()


async def test_what_cannot_be_asked_is_told_and_the_model_goes_on(model_file: Path) -> None:
    """A prompt longer than n_ctx says which n_ctx would do; a grammar that is none, text that is no text."""
    model = LlamaCpp(model_file, parameters=LITTLE)
    with pytest.raises(ModelError, match=r"exceeds the available context size \(1024 tokens\).*n_ctx=\d{4}") as long:
        await model.complete(Prompt(instruction="e" * 5000))
    with pytest.raises(ModelError) as surrogate:
        await model.complete(Prompt(instruction="\ud800"))
    wrong = LlamaCpp(model_file, parameters={**LITTLE, "grammar": "(("})
    with pytest.raises(ModelError) as grammar:
        await wrong.complete(PROMPT)

    assert [told.value.kind for told in (long, surrogate, grammar)] == ["permanent"] * 3
    assert (await model.complete(PROMPT)).text
    await wrong.aclose()
    await model.aclose()


def test_without_the_package_the_extra_is_named() -> None:
    """As an error of ours, with the command to type."""
    code = ("import sys; sys.modules['xllamacpp'] = None\nfrom memgang import llms, errors, settings\n"
            "try:\n    llms.load('llama_cpp:x.gguf', settings.Settings())\nexcept errors.ConfigError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "pip install 'memgang[llama-cpp]'" in done.stdout, done.stderr


# ── what it leaves alone ─────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_it_opens_no_port_takes_no_signal_and_leaves_no_file(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library has a server in it. Nobody can reach it, and Ctrl-C stays Python's."""
    def listening() -> set[str]:
        fds = set[str]()
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # other threads close theirs meanwhile
                fds.add(os.readlink(f"/proc/self/fd/{fd}"))
        tcp = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        return {row[1] for row in tcp if row[3] == "0A" and f"socket:[{row[9]}]" in fds}

    def caught() -> str:
        return next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigCgt"))

    with tempfile.TemporaryDirectory(prefix="mg") as place:  # a short path: sockets have no room for long ones
        monkeypatch.setattr(tempfile, "tempdir", place)
        before = listening(), caught()
        model = LlamaCpp(model_file, parameters=LITTLE)
        await model.complete(PROMPT)

        assert (listening(), caught()) == before
        assert os.listdir(place) == []
        await model.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_loads_a_model_of_its_own_and_a_process_may_end_in_the_middle_of_an_answer(model_file: Path) -> None:
    """The threads of the parent are not there in the child; and nothing hangs or crashes at the end."""
    code = f"""
import asyncio, os
from memgang.llms.llama_cpp import LlamaCpp
from memgang.model import Prompt
def said():
    return asyncio.run(LlamaCpp({str(model_file)!r}, parameters={LITTLE!r}).complete(Prompt(instruction="e"))).text
first = said()
if not (child := os.fork()):
    os._exit(0 if said() == first else 1)  # as multiprocessing ends them
assert os.waitpid(child, 0)[1] == 0
async def left():
    model = LlamaCpp({str(model_file)!r}, parameters={{**{LITTLE!r}, "max_tokens": 30_000, "n_ctx": 32_000}})
    async for piece in model.stream(Prompt(instruction="e")):
        break
asyncio.run(left())
kept = LlamaCpp({str(model_file)!r}, parameters={LITTLE!r})
from memgang.llms import llama_engine
for _ in range(30):  # loaded, and let go before it was asked anything
    llama_engine.Engine._load(llama_engine.enter(kept.name, kept._file, kept._options))
print("ended")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
