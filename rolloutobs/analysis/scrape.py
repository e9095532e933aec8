"""Reads counters straight from the ``/metrics`` of each process: no Prometheus is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from rolloutobs.analysis._http import Http, base_url
from rolloutobs.analysis.exposition import Exposition
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.errors import ConfigurationError, SourceError

__all__ = ["ScrapeSource"]

_ACCEPT: Final = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
"""Text first: it is shorter, and of OpenMetrics nothing more would be used."""


class ScrapeSource:
    """A `Source` that asks every target at once, each with its own time limit.

    Args:
        targets: addresses; a bare ``host:port`` means ``http://host:port/metrics``.
        metrics: names of the samples to read (`Ticker.metrics`).
        app: keep only series of this app; empty: all.
        timeout_seconds: for one answer; a slower target has failed this time.
        clock: unix time.

    Raises:
        ConfigurationError: there is no target, or one is not an address.
    """

    def __init__(
        self,
        targets: Sequence[str],
        metrics: Iterable[str],
        *,
        app: str = "",
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not targets:
            raise ConfigurationError("there is nothing to scrape; give at least one address")
        wanted = tuple(metrics)
        self._parsers = {base_url(target, "/metrics"): Exposition(wanted, app) for target in targets}
        self._clock = clock
        self._http = Http(timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def read(self) -> Reading:
        """Return the counters of every target that answered in time; the others are in `Reading.failed`."""
        at = self._clock()
        answers = await asyncio.gather(*(self._read_one(url) for url in self._parsers))
        targets: dict[str, tuple[Sample, ...]] = {}
        failed: dict[str, str] = {}
        for url, answer in zip(self._parsers, answers, strict=True):
            if isinstance(answer, SourceError):
                failed[url] = str(answer)
            else:
                targets[url] = answer
        return Reading(at, targets, failed)

    async def _read_one(self, url: str) -> tuple[Sample, ...] | SourceError:
        try:
            return self._parsers[url].parse(await self._http.get(url, accept=_ACCEPT))
        except SourceError as error:
            return error
