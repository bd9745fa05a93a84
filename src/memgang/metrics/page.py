"""The page: readings as the families of `prometheus_client`, in the form the asker wants.

A scrape is one reading of the space (`store/readings.py`); nothing is kept between two of them, so what is counted is counted over all
processes, whoever is asked, and a counter goes on where it was when this process is started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from memgang.errors import ConfigError, MemGangError
from memgang.metrics.families import COUNTERS, FAMILIES, Family
from memgang.space import Space
from memgang.store import readings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

NAME_MAX = 200  # characters of the name of a limit
MISSING = "metrics need one more package: pip install 'memgang[metrics]'"


class Page(NamedTuple):
    """What a scraper is sent."""

    body: bytes
    content_type: str
    up: bool  # the server was there


class Scraper:
    """Makes pages of one space. Lives as long as the door that serves them."""

    def __init__(self, space: Space, *, limits: Sequence[str] = (), agents: bool = False) -> None:
        """``limits``: names given to `Limits`, or of models where none was, whose state is shown. ``agents``: show the bytes of each
        agent, by name.

        Raises:
            ConfigError: the extra is not installed, or the name of a limit is none.
        """
        try:
            import prometheus_client  # noqa: F401  # told here, not at the first scrape
        except ImportError as error:
            raise ConfigError(MISSING) from error
        self._space, self._agents = space, agents
        for name in limits:
            if not 0 < len(name) <= NAME_MAX:
                raise ConfigError(f"the name of a limit has 1 to {NAME_MAX} characters: that given to Limits, or of the model")
        self._limits = tuple(dict.fromkeys(limits))

    async def page(self, accept: str = "") -> Page:
        """The page; ``accept`` is the header of that name. While the server is away it says so, and is a page all the same."""
        from prometheus_client.exposition import choose_encoder

        found, names = await self._readings()
        encode, content_type = choose_encoder(accept)
        return Page(encode(Collector(self._space.name, found, names)), content_type, found["up"] == 1)

    async def well(self) -> bool:
        """Whether the server answers."""
        try:
            await readings.read(self._space.store, ())
        except MemGangError:
            return False
        return True

    async def _readings(self) -> tuple[dict[str, float], dict[str, Sequence[str]]]:
        store, agents = self._space.store, dict[str, int]()
        try:
            found = await readings.read(store, COUNTERS, self._limits)
            if self._agents:
                agents = await self._space.bytes_by_agent()
            found["up"] = 1
        except MemGangError:
            found = {**readings.host(store), "up": 0}
        if self._space.settings.budget_bytes:
            found["budget"] = self._space.settings.budget_bytes
        found |= {f"agent:{name}": held for name, held in agents.items()}
        return found, {"limit": self._limits, "agent": list(agents)}


class Collector:
    """One reading as `prometheus_client` collects it."""

    def __init__(self, space: str, found: Mapping[str, float], names: Mapping[str, Sequence[str]]) -> None:
        self._space, self._found, self._names = space, found, names

    def collect(self) -> Iterator[Metric]:
        """All families that have a sample."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        made = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        for family in FAMILIES:
            metric = made[family.kind](family.name, family.help, labels=("space", *family.labels), unit=family.unit)
            for labels, value in self._samples(family):
                metric.add_metric((self._space, *labels), value)
            if metric.samples:
                yield metric

    def _samples(self, family: Family) -> Iterator[tuple[tuple[str, ...], float]]:
        for labels, reading in family.readings.items():
            for name in self._names[family.each] if family.each else ("",):
                value = self._found.get(reading.replace("*", name) if family.each else reading)
                # A counter of an older space, or that nothing has raised, is 0; where nobody could be asked, none is known.
                if value is None and family.kind == "counter" and self._found["up"]:
                    value = 0
                if value is not None:
                    yield (*labels, name) if family.each else labels, value / family.divisor if family.divisor > 1 else value
