"""Reads raw counters from Prometheus, or anything that speaks its HTTP API.

The series are asked for as they are, one by one: a sum or an ``increase()`` in PromQL would hide restarts and
extrapolate to fractions. Each scraped instance is one target.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from rolloutobs.analysis._http import Access, Http, Retries, base_url
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.sides import AS_EXPOSED, Shape
from rolloutobs.errors import SourceError

__all__ = ["PrometheusSource"]

_SOURCE: Final = "prometheus"
"""Name of the target that stands for series without an instance (pushed or federated ones)."""


_STALE_SECONDS: Final = 150.0
"""An instance whose last scrape is older has failed: two and a half of the longest usual scrape interval, one
minute. Prometheus itself would go on answering its last value for five."""
_ATTEMPTS: Final = 3
_MOST_STEPS: Final = 240
"""Steps of the past in one query: an hour of 15 s. Prometheus refuses more than 11,000, and an answer to all
at once would have to fit into memory."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One series of an answer."""

    target: str
    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]
    """(unix seconds, value), oldest first, without NaN."""


class PrometheusSource:
    """A `Source` on the query API. With Prometheus down, every target known so far has failed.

    Args:
        url: where Prometheus answers, without ``/api/v1``.
        metrics: names of the samples to read (`Ticker.metrics`).
        timeout_seconds: for one query, attempts included.
        clock: unix time.
        access: how to be let in.
        shape: which series, on which side, and in which unit.

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
        names = "|".join(sorted(re.escape(name) for name in metrics))
        matchers = [("__name__=~", names)] + ([("app=", shape.app)] if shape.app else [])
        quoted = ",".join(match + json.dumps(value, ensure_ascii=False) for match, value in matchers)
        self._selector = " or ".join(f"{{{each}}}" for each in _each(quoted, shape.selectors()))
        self._shape = shape
        self._url = base_url(url).rstrip("/")
        self._clock = clock
        self._known: set[str] = set()
        self._http = Http(timeout_seconds, trust_env=True, access=access, retries=Retries(_ATTEMPTS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def read(self) -> Reading:
        """Return the present counters of every instance; one that Prometheus could not scrape has failed."""
        at = self._clock()
        try:
            found = await self._query("query", query=self._selector, time=f"{at:.3f}")
            failed = await self._unscraped(at)
        except SourceError as error:
            reason = f"Prometheus at {self._url}: {error}"
            return Reading(at, {}, dict.fromkeys(self._known or {_SOURCE}, reason))
        targets: dict[str, list[Sample]] = defaultdict(list)
        for series in found:
            targets[series.target].extend(Sample(series.name, series.labels, v) for _, v in series.points)
        self._known |= set(targets)
        failed = {name: reason for name, reason in failed.items() if name in self._known}
        reading = Reading(at, {n: tuple(s) for n, s in targets.items() if n not in failed}, failed)
        return self._shape.applied(reading)

    async def history(self, start: float, end: float, step_seconds: float) -> list[Reading]:
        """Return readings of the past, oldest first, one every `step_seconds`; empty steps are left out.

        Raises:
            SourceError: Prometheus does not answer, or refuses the query.
        """
        readings: list[Reading] = []
        chunk = step_seconds * _MOST_STEPS
        for number in range(math.floor((end - start) / chunk) + 1):
            first = start + number * chunk
            readings += await self._chunk(first, min(first + chunk - step_seconds, end), step_seconds)
        return readings

    async def _chunk(self, start: float, end: float, step_seconds: float) -> list[Reading]:
        steps: dict[float, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_seconds:.3f}"}
        for series in await self._query("query_range", query=self._selector, **times):
            for at, value in series.points:
                steps[at][series.target].append(Sample(series.name, series.labels, value))
            self._known.add(series.target)
        return [
            self._shape.applied(Reading(at, {name: tuple(samples) for name, samples in targets.items()}))
            for at, targets in sorted(steps.items())
        ]

    async def _unscraped(self, at: float) -> dict[str, str]:
        """Return the instances whose last scrape failed or is too old, and why."""
        failed: dict[str, str] = {}
        for series in await self._query("query", query="up == 0", time=f"{at:.3f}"):
            failed[series.target] = "Prometheus cannot scrape it (up is 0)"
        for series in await self._query("query", query="timestamp(up)", time=f"{at:.3f}"):
            age = at - series.points[-1][1] if series.points else math.inf
            if age > _STALE_SECONDS:
                failed.setdefault(series.target, f"last scraped {age:.0f} s ago")
        return failed

    async def _query(self, kind: str, **params: str) -> list[_Found]:
        body = await self._http.get(
            f"{self._url}/api/v1/{kind}", accept="application/json", params=params, any_status=True
        )
        try:
            answer = json.loads(body)
            if answer["status"] != "success":
                raise SourceError(f"refuses {params['query']!r}: {answer.get('error', answer['status'])}")
            return list(_series(answer["data"]["result"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"does not answer like Prometheus ({type(error).__name__}): {body[:80]!r}"
            ) from None


def _each(matchers: str, selectors: Sequence[str]) -> list[str]:
    return [f"{matchers},{selector}" for selector in selectors] or [matchers]


def _series(result: list[dict[str, Any]]) -> Iterator[_Found]:
    for entry in result:
        labels: dict[str, str] = dict(entry["metric"])
        name = labels.pop("__name__", "")
        points = entry["values"] if "values" in entry else [entry["value"]]
        numbers = tuple((float(at), float(value)) for at, value in points if float(value) == float(value))
        instance, job = labels.get("instance", ""), labels.get("job", "")
        yield _Found(f"{job}/{instance}" if instance else _SOURCE, name, labels, numbers)
