"""Reads counters from Prometheus, or anything that speaks its HTTP API.

The series are asked for as they are, one by one: a sum or an ``increase()`` in PromQL would hide restarts and
extrapolate to fractions. Each scraped instance is one target. Where there are many, Prometheus adds up those
that do nothing but count (`summing`), which gives the same ticks.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, Self

from rolloutobs.analysis._http import Access
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.promql import PUSHED, PromQL
from rolloutobs.analysis.sides import AS_EXPOSED, Shape
from rolloutobs.analysis.summing import Summing
from rolloutobs.analysis.sums import selected
from rolloutobs.errors import SourceError

__all__ = ["PrometheusSource"]

_MOST_STEPS: Final = 240
"""Steps of the past in one query: an hour of 15 s. Prometheus refuses more than 11,000."""
_MOST_POINTS: Final = 1_000_000
"""Values in one answer: about 30 MB, half of what is accepted."""


class PrometheusSource:
    """A `Source` on the query API. With Prometheus down, every target known so far has failed.

    Args:
        url: where Prometheus answers, without ``/api/v1``.
        metrics: names of the samples to read (`Ticker.metrics`).
        timeout_seconds: for one query, attempts included.
        clock: unix time.
        access: how to be let in.
        shape: which series, on which side, in which unit, and what may be added up.

    Raises:
        ConfigurationError: `url` is not an address, or a certificate cannot be used.
    """

    def __init__(
        self,
        url: str,
        metrics: Iterable[str],
        *,
        timeout_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
        access: Access | None = None,
        shape: Shape = AS_EXPOSED,
    ) -> None:
        metrics = frozenset(metrics)
        self._selector = " or ".join(
            selected(metrics, shape.common, condition) for condition in shape.selectors() or ("",)
        )
        self._shape = shape
        self._clock = clock
        self._known: set[str] = set()
        self._promql = PromQL(url, timeout_seconds, access)
        self._summing = Summing.of(self._promql, metrics, shape)
        self._is_summing: bool | None = None if self._summing else False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._promql.aclose()

    async def read(self) -> Reading:
        """Return the present counters of every instance; one that Prometheus could not scrape has failed."""
        at = self._clock()
        try:
            summing = await self._decided(at)
            return await (self._each(at) if summing is None else summing.read(at))
        except SourceError as error:
            reason = f"Prometheus at {self._promql.url}: {error}"
            known = self._known | (self._summing.known if self._summing else set())
            return Reading(at, {}, dict.fromkeys(known or {PUSHED}, reason))

    async def history(self, start: float, end: float, step_seconds: float) -> list[Reading]:
        """Return readings of the past, oldest first, one every `step_seconds`; empty steps are left out.

        Raises:
            SourceError: Prometheus does not answer, or refuses the query.
        """
        summing = await self._decided(end)
        if summing is not None:
            return await summing.history(start, end, step_seconds)
        readings: list[Reading] = []
        steps = await self._steps(end)
        first = start
        while first <= end:
            last = min(first + (steps - 1) * step_seconds, end)
            readings += await self._chunk(first, last, step_seconds)
            first += steps * step_seconds
        return readings

    async def _decided(self, at: float) -> Summing | None:
        """Return what adds up, if there is enough to add up the first time that it is asked."""
        if self._summing is not None and self._is_summing is None:
            self._is_summing = await self._summing.is_worth_it(at)
        return self._summing if self._is_summing else None

    async def _each(self, at: float) -> Reading:
        found = await self._promql.at(self._selector, at)
        failed = await self._promql.unscraped(at)
        targets: dict[str, list[Sample]] = defaultdict(list)
        for series in found:
            targets[series.target].extend(Sample(series.name, series.labels, v) for _, v in series.points)
        self._known |= set(targets)
        failed = {name: reason for name, reason in failed.items() if name in self._known}
        return self._shape.applied(
            Reading(at, {n: tuple(s) for n, s in targets.items() if n not in failed}, failed)
        )

    async def _steps(self, at: float) -> int:
        """Return how many steps of the past fit into one answer."""
        counted = await self._promql.at(f"count({self._selector})", at)
        series = sum(value for each in counted for _, value in each.points)
        return max(1, min(_MOST_STEPS, math.floor(_MOST_POINTS / max(series, 1.0))))

    async def _chunk(self, start: float, end: float, step_seconds: float) -> list[Reading]:
        steps: dict[float, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for series in await self._promql.over(self._selector, start, end, step_seconds):
            for at, value in series.points:
                steps[at][series.target].append(Sample(series.name, series.labels, value))
            self._known.add(series.target)
        return [
            self._shape.applied(Reading(at, {name: tuple(samples) for name, samples in targets.items()}))
            for at, targets in sorted(steps.items())
        ]
