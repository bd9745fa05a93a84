"""Runs a module of ours in the Node that Playwright brings along, so that what is pure needs no browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).parents[2] / "src/memgang/flock/web"


def run(script: str, given: Any) -> Any:
    """What the script (an ES module; ``given`` is there, ``WEB`` is where our modules are) hands to ``tell``."""
    driver = pytest.importorskip("playwright._impl._driver", reason="pip install playwright: it brings the Node that runs our JavaScript")
    node, _ = driver.compute_driver_executable()
    whole = f"""
        import fs from 'node:fs';
        const WEB = {json.dumps(WEB.as_uri())};
        const given = JSON.parse(fs.readFileSync(0, 'utf8'));
        const tell = (value) => fs.writeFileSync(1, JSON.stringify(value));
        {script}"""
    done = subprocess.run([node, "--input-type=module", "-e", whole], input=json.dumps(given), capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
