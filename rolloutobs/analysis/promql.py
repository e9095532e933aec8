"""Questions to whatever speaks Prometheus's HTTP API, and its answers as series.

Belongs here: the two query endpoints and what Prometheus knows about its own scrapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs.analysis._http import Access, Http, Retries, base_url
from rolloutobs.errors import SourceError

__all__ = ["PUSHED", "STALE_SECONDS", "Found", "PromQL"]

PUSHED: Final = "prometheus"
"""Name of the target that stands for series without an instance (pushed or federated ones)."""

STALE_SECONDS: Final = 150.0
"""An instance whose last scrape is older has failed: two and a half of the longest usual scrape interval, one
minute. Prometheus itself would go on answering its last value for five."""
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Found:
    """One series of an answer."""

    target: str
    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]
    """(unix seconds, value), oldest first, without NaN."""

    @property
    def last(self) -> float:
        """The last value; NaN when there is none."""
        return self.points[-1][1] if self.points else math.nan

    def near(self, at: float) -> float:
        """Return the value at `at`; 0 where there is none."""
        return next((value for when, value in self.points if when == at), 0.0)


class PromQL:
    """A client of the query API.

    Args:
        url: where Prometheus answers, without ``/api/v1``.
        timeout_seconds: for one query, attempts included.
        access: how to be let in.

    Raises:
        ConfigurationError: `url` is not an address, or a certificate cannot be used.
    """

    def __init__(self, url: str, timeout_seconds: float, access: Access | None) -> None:
        self.url = base_url(url).rstrip("/")
        self._http = Http(timeout_seconds, trust_env=True, access=access, retries=Retries(_ATTEMPTS))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def at(self, query: str, at: float) -> list[Found]:
        """Return the series of `query` at one moment.

        Raises:
            SourceError: Prometheus does not answer, or refuses the query.
        """
        return await self._ask("query", query=query, time=f"{at:.3f}")

    async def over(self, query: str, start: float, end: float, step_seconds: float) -> list[Found]:
        """Return the series of `query` every `step_seconds` from `start` to `end`.

        Raises:
            SourceError: Prometheus does not answer, or refuses the query.
        """
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_seconds:.3f}"}
        return await self._ask("query_range", query=query, **times)

    async def unscraped(self, at: float) -> dict[str, str]:
        """Return the instances whose last scrape failed or is too old, and why."""
        failed: dict[str, str] = {}
        for series in await self.at("up == 0", at):
            failed[series.target] = "Prometheus cannot scrape it (up is 0)"
        # Of all that Prometheus scrapes, tens of thousands maybe, only those that are late.
        for series in await self.at(f"timestamp(up) < {at - STALE_SECONDS:.3f}", at):
            failed.setdefault(series.target, f"last scraped {at - series.last:.0f} s ago")
        return failed

    async def _ask(self, kind: str, **params: str) -> list[Found]:
        body = await self._http.get(
            f"{self.url}/api/v1/{kind}", accept="application/json", params=params, any_status=True
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


def _series(result: list[dict[str, Any]]) -> Iterator[Found]:
    for entry in result:
        labels: dict[str, str] = dict(entry["metric"])
        name = labels.pop("__name__", "")
        points = entry["values"] if "values" in entry else [entry["value"]]
        # Prometheus counts time in milliseconds.
        numbers = tuple((round(at, 3), float(value)) for at, value in points if float(value) == float(value))
        instance, job = labels.get("instance", ""), labels.get("job", "")
        yield Found(f"{job}/{instance}" if instance else PUSHED, name, labels, numbers)
