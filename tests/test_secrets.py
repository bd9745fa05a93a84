"""Secrets stay where they were put: a canary goes through every way out, and is looked for everywhere else."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memgang.codec import decode
from memgang.errors import ModelError, WorkFailed
from memgang.llms.openai import OpenAI
from memgang.model import Call, Prompt
from memgang.settings import Settings
from memgang.space import Space

KEY = "sk-canary-4f9a1c77e2b05d38"
PAYLOAD = "payload-canary-77aa01bc"


async def everything_else(space: Space) -> str:
    """All the server holds but the bodies of objects: key names, records, flights, logs."""
    await space.flush()
    wire, found, cursor = space.store.wire, [], b"0"
    while True:
        cursor, keys = await wire.call("SCAN", cursor, "COUNT", 1000, "MATCH", f"mg:{{{space.name}*")
        for key in keys:
            found.append(repr(key))
            if b":b:" in key or key.endswith(b":cfg"):
                continue
            kind = await wire.call("TYPE", key)
            ask = {b"string": ("GET", key), b"hash": ("HGETALL", key), b"stream": ("XRANGE", key, "-", "+"),
                   b"zset": ("ZRANGE", key, 0, -1), b"list": ("LRANGE", key, 0, -1), b"set": ("SMEMBERS", key)}[bytes(kind)]
            found.append(repr(await wire.call(*ask)))
        if cursor in (b"0", 0):
            return "\n".join(found)


@pytest.mark.catalogue("D15")
async def test_payloads_and_keys_are_in_no_log_no_key_and_no_event(space: Space, caplog: pytest.LogCaptureFixture) -> None:
    """Success, errors of all classes, an argument, a message, a name: outside the bodies there is no byte of the canaries."""
    caplog.set_level(logging.DEBUG)
    ref = await space.put({"text": PAYLOAD, "key": KEY})
    await space.set_name("notes/secret", ref)

    async def work() -> str:
        return f"{PAYLOAD} {KEY}"

    async def stumble() -> str:
        raise ValueError(f"the server said: api_key={KEY} is wrong; Bearer {KEY}")

    async def refused() -> str:
        raise ModelError("openai", "caller", "401", f"wrong key {KEY}")

    call = Call("llm", "ask", "1", {"question": PAYLOAD * 5}, system=PAYLOAD * 5, messages=[{"role": "user", "content": PAYLOAD * 5}])
    await space.recall(call, work)
    with pytest.raises(WorkFailed) as failed:
        await space.recall(Call("function", "f", "1"), stumble)
    with pytest.raises(ModelError):
        await space.recall(Call("function", "g", "1"), refused)

    events = [repr(event) async for event in space.events()]
    rest = await everything_else(space)
    said = "\n".join([*events, rest, caplog.text, json.dumps(await space.stats()), str(failed.value), repr(space), repr(space.settings)])
    assert PAYLOAD not in said
    assert KEY not in said


@pytest.mark.catalogue("D15")
async def test_a_key_is_in_no_error_and_no_picture_of_the_model(tmp_path: Path) -> None:
    """Settings, the model and its errors can be printed."""
    settings = Settings.load(
        openai_api_key=KEY, openai_base_url="http://127.0.0.1:9", url=f"redis://user:{KEY}@127.0.0.1:9/0", llm_timeout_s=1.0)
    model = OpenAI.named("gpt-5-mini", settings)
    with pytest.raises(ModelError) as error:
        await model.complete(Prompt(instruction="hello"))
    await model.aclose()

    assert KEY not in f"{settings!r} {model!r} {error.value!r} {error.value.explain()} {error.value.__cause__}"


@pytest.mark.catalogue("D15")
def test_a_crash_at_the_command_line_shows_no_password(tmp_path: Path) -> None:
    """Neither the one line for a person nor the traceback of --debug holds the password of the URL."""
    for flags in ([], ["--debug"]):
        done = subprocess.run(
            [sys.executable, "-m", "memgang", *flags, "ls"], capture_output=True, text=True, timeout=60,
            env={**os.environ, "MEMGANG_URL": f"redis://user:{KEY}@127.0.0.1:9/0", "OPENAI_API_KEY": KEY})
        assert done.returncode == 1
        assert KEY not in done.stdout + done.stderr


@pytest.mark.catalogue("D1")
async def test_a_planted_gadget_is_never_run(opened: Any, tmp_path: Path) -> None:
    """Bytes that would run a program when unpickled, in every field that is read back: errors or text, and no program ran."""
    trace = tmp_path / "ran"
    gadget = b"cposix\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR."
    call = Call("function", "f", "1")

    async def work() -> str:
        return "right"

    async with opened(verify="always") as space:
        ref = (await space.recall(call, work)).ref
        wire, keys = space.store.wire, space.store.keys
        for key in (keys.record(ref), keys.flight(space.key(call))):
            for field in await wire.call("HKEYS", key):
                old = await wire.call("HGET", key, field)
                await wire.call("HSET", key, field, gadget)
                for look in (lambda: space.get(ref), lambda: space.describe(ref), lambda: space.recall(call, work)):
                    try:
                        found = await look()
                    except Exception as error:
                        assert str(error)
                    else:
                        assert found is not None
                await wire.call("HSET", key, field, old)
        for kind in ("application/x-python-pickle", "application/octet-stream", "text/plain", "application/json", "application/x-npy"):
            try:
                decode(kind, gadget)
            except Exception as error:
                assert str(error)
    assert not trace.exists()


@pytest.mark.catalogue("D15")
def test_a_password_in_the_address_of_a_source_is_refused(tmp_path: Path) -> None:
    """It would stand in the report and in the run's record; and the refusal does not repeat it."""
    done = subprocess.run([sys.executable, "-m", "memgang", "run", f"https://alice:{KEY}@127.0.0.1:9/x"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "user or password" in done.stderr and KEY not in done.stdout + done.stderr
