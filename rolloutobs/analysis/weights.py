"""Which share of the traffic is configured for the canary: as told, from a file, or from Prometheus.

A weight that cannot be read is not known, which tests nothing; it is never taken for 0.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rolloutobs.analysis._http import Access, Http, base_url
from rolloutobs.analysis.loading import share_of
from rolloutobs.analysis.model import Reading, Source
from rolloutobs.errors import SourceError

__all__ = ["FileWeight", "FixedWeight", "QueryWeight", "Weight", "Weighted"]


class Weight(Protocol):
    """Says the weight at each look."""

    async def read(self) -> float:
        """Return the share that is configured now, 0 to 1.

        Raises:
            SourceError: it cannot be read, or is no share.
        """


@dataclass(frozen=True, slots=True)
class FixedWeight:
    """One that does not change."""

    share: float

    async def read(self) -> float:
        """Return it."""
        return self.share


@dataclass(frozen=True, slots=True)
class FileWeight:
    """One that stands in a file, which whoever moves the traffic writes."""

    path: Path

    async def read(self) -> float:
        """Read the file.

        Raises:
            SourceError: there is no share in it.
        """
        try:
            return share_of(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            # A UnicodeDecodeError is a ValueError too.
            raise SourceError(f"the weight in {str(self.path)!r} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class QueryWeight:
    """One that a Prometheus knows, such as ``flagger_canary_weight{workload="shop"} / 100``.

    Args:
        url: of the Prometheus, without ``/api/v1``.
        query: an expression with one value.
        access: how to be let in.
        timeout_seconds: for one answer.
    """

    url: str
    query: str
    access: Access
    timeout_seconds: float = 5.0

    async def read(self) -> float:
        """Ask; of several values the lowest counts.

        Raises:
            SourceError: there is no value, or it is no share.
        """
        async with Http(self.timeout_seconds, trust_env=True, access=self.access) as http:
            body = await http.get(
                f"{base_url(self.url).rstrip('/')}/api/v1/query",
                accept="application/json",
                params={"query": self.query},
                any_status=True,
            )
        try:
            answer = json.loads(body)
            if answer["status"] != "success":
                raise SourceError(f"the weight {self.query!r} is refused: {answer.get('error')}")
            values = [float(value) for value in _values(answer["data"])]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise SourceError(f"the weight {self.query!r} is not answered: {error}") from None
        if not values or not all(math.isfinite(v) and 0 <= v <= 1 for v in values):
            raise SourceError(
                f"the weight {self.query!r} is {values or 'not there'}; it has to be from 0 to 1: divide a "
                "percentage by 100"
            )
        return min(values)


def _values(data: dict[str, object]) -> list[str]:
    result = data["result"]
    if not isinstance(result, list):
        raise TypeError("the result is no list")
    return [str(result[1])] if data["resultType"] == "scalar" else [str(each["value"][1]) for each in result]


class Weighted:
    """A `Source` whose readings say the weight of their moment.

    Args:
        source: gives the readings.
        weight: gives the weight.
    """

    def __init__(self, source: Source, weight: Weight) -> None:
        self._source = source
        self._weight = weight

    async def read(self) -> Reading:
        """Return the next reading; a weight that cannot be read is not known, and a note says why."""
        reading = await self._source.read()
        try:
            return replace(reading, weight=await self._weight.read())
        except SourceError as error:
            return replace(reading, notes=(*reading.notes, str(error)))
