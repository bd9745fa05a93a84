"""A model that reports its tokens, and a page read by Prometheus's own parsers."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest

from memgang.errors import ModelError
from memgang.metrics import Scraper
from memgang.model import Completion, Prompt
from memgang.space import Space
from tests.proxy.conftest import proxied, proxy, upstream  # noqa: F401  # fixtures
from tests.recall.conftest import own  # noqa: F401  # a fixture

collect_ignore_glob = [] if importlib.util.find_spec("prometheus_client") else ["test_page.py", "test_doors.py", "test_grafana.py"]
if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
    collect_ignore_glob.append("test_telemetry.py")  # all of them are extras

TEXT = "text/plain; version=0.0.4"
OPEN = "application/openmetrics-text; version=1.0.0"
Series = tuple[str, tuple[tuple[str, str], ...]]


class Model:
    """Answers with what it was told and reports what it used. A prompt with ``stumble`` fails the first time."""

    name, price_name, version, deterministic = "openai:gpt-5-mini", "gpt-5-mini", "1", True

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {"temperature": 0, "stop": "secret-parameter", "top_p": "secret-parameter"}
        self.asked = 0
        self.gate: asyncio.Event | None = None  # answers wait for it
        self.reached = asyncio.Event()
        self._stumbled: set[str] = set()

    async def complete(self, prompt: Prompt) -> Completion:
        """An answer, a transient error, or one for good."""
        self.asked += 1
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        text = prompt.instruction
        if "refuse" in text:
            raise ModelError(self.name, "permanent", "400", f"no: {text}")
        if "stumble" in text and text not in self._stumbled:
            self._stumbled.add(text)
            raise ModelError(self.name, "transient", "503", f"busy: {text}")
        return Completion(text=text.upper(), tokens_in=1000 + len(text), tokens_out=100, tokens_cached=400)

    async def aclose(self) -> None:
        """Nothing to give back."""


def samples(text: str) -> dict[Series, float]:
    """Every sample of a page in OpenMetrics or in Prometheus text, by name and labels."""
    if text.endswith("# EOF\n"):
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    else:
        from prometheus_client.parser import text_string_to_metric_families
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    read = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}
    assert len(read) == len(found), "two samples of one name and labels"
    return read


def value(page: dict[Series, float], name: str, **labels: str) -> float:
    """The sum over all samples of this name that have these labels."""
    found = [number for (other, has), number in page.items() if other == name and labels.items() <= dict(has).items()]
    assert found, f"{name} {labels} is not on the page"
    return sum(found)


@pytest.fixture
def scraped() -> Any:
    """Scrapes a space: ``page = await scraped(space)``."""
    async def scrape(space: Space, accept: str = OPEN, **options: Any) -> dict[Series, float]:
        await space.flush()
        return samples((await Scraper(space, **options).page(accept)).body.decode())

    return scrape
