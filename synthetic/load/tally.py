"""What a process counts while a load runs, and how the counts of several become one.

Belongs here: counting, merging, the plain form that travels. Pure: no clock, no Locust.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synthetic.load.histogram import Histogram
from synthetic.target import Answer, Proven, Target, prove

__all__ = ["BAND", "SMALLEST_SECONDS", "EndpointTally", "Sample", "Tally", "TickTally", "TrackTally"]

BAND = math.log(1.25) / 4
"""Width of the coarse bands in which each interval counts durations: four of them are a slow-down of 1.25."""
SMALLEST_SECONDS = 0.001
"""Band 0 ends there."""
_MOST_ERRORS = 50
"""Different messages kept; a message with a number in it must not fill the memory."""
_OTHERS = "other errors"
_LATE_SECONDS = 0.05
"""An arrival that begins so much after its moment is late: what a p99 would notice, and ten times what a
process that is not busy needs."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that ended, or was cut off."""

    method: str
    name: str
    seconds: float
    """From the moment at which it should have begun."""
    service_seconds: float
    """From the moment at which it was sent."""
    error: str = ""
    """Empty: it succeeded."""


@dataclass(slots=True)
class EndpointTally:
    """Requests of one method and name."""

    failures: int = 0
    corrected: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class TickTally:
    """Requests that ended in one interval."""

    requests: int = 0
    failures: int = 0
    bands: Counter[int] = field(default_factory=Counter)
    """Requests by band of their corrected duration."""


class TrackTally:
    """What one track was asked and answered."""

    def __init__(self) -> None:
        self.endpoints: dict[tuple[str, str], EndpointTally] = {}
        self.ticks: dict[int, TickTally] = {}
        self.proven: Counter[str] = Counter()
        self.versions: set[str] = set()
        self.doubt = ""
        self.errors: Counter[str] = Counter()
        self.arrivals = 0
        self.crowded = 0
        """Arrivals that found all users busy and waited for one."""
        self.cut = 0
        """Requests and arrivals that were still waiting when the load ended."""

    def add(self, sample: Sample, tick: int) -> None:
        """Count a request."""
        endpoint = self.endpoints.setdefault((sample.method, sample.name), EndpointTally())
        endpoint.corrected.add(sample.seconds)
        endpoint.service.add(sample.service_seconds)
        now = self.ticks.setdefault(tick, TickTally())
        now.requests += 1
        now.bands[band(sample.seconds)] += 1
        if sample.error:
            endpoint.failures += 1
            now.failures += 1
            self.count_error(f"{sample.method} {sample.name}: {sample.error}")

    def count_error(self, text: str, times: int = 1) -> None:
        """Count an error by its message."""
        known = text in self.errors or len(self.errors) < _MOST_ERRORS
        self.errors[text if known else _OTHERS] += times

    def note(self, target: Target, answer: Answer) -> None:
        """Judge who gave an answer."""
        proof = prove(target, [answer])
        self.proven[proof.proven.value] += 1
        if proof.version is not None:
            self.versions.add(proof.version)
        if proof.proven in (Proven.WRONG, Proven.UNKNOWN):
            self.doubt = self.doubt or proof.detail

    def _plain(self) -> dict[str, Any]:
        return {
            "endpoints": [
                [*key, each.failures, _pairs(each.corrected.counts), _pairs(each.service.counts)]
                for key, each in self.endpoints.items()
            ],
            "ticks": [
                [number, each.requests, each.failures, _pairs(each.bands)]
                for number, each in self.ticks.items()
            ],
            "proven": dict(self.proven),
            "versions": sorted(self.versions),
            "doubt": self.doubt,
            "errors": dict(self.errors),
            "arrivals": self.arrivals,
            "crowded": self.crowded,
            "cut": self.cut,
        }

    def _take(self, plain: Mapping[str, Any]) -> None:
        for method, name, failures, corrected, service in plain["endpoints"]:
            endpoint = self.endpoints.setdefault((method, name), EndpointTally())
            endpoint.failures += failures
            endpoint.corrected = Histogram.merged([endpoint.corrected, Histogram(dict(corrected))])
            endpoint.service = Histogram.merged([endpoint.service, Histogram(dict(service))])
        for number, requests, failures, bands in plain["ticks"]:
            tick = self.ticks.setdefault(number, TickTally())
            tick.requests += requests
            tick.failures += failures
            tick.bands.update(dict(bands))
        self.proven.update(plain["proven"])
        self.versions.update(plain["versions"])
        self.doubt = self.doubt or plain["doubt"]
        for text, times in plain["errors"].items():
            self.count_error(text, times)
        self.arrivals += plain["arrivals"]
        self.crowded += plain["crowded"]
        self.cut += plain["cut"]


class Tally:
    """Everything that one process counts."""

    def __init__(self, tracks: Iterable[str] = ()) -> None:
        self.tracks = {track: TrackTally() for track in tracks}
        self.late = 0
        """Arrivals that this process began late."""
        self.worst_lag_seconds = 0.0
        self.foreign = 0
        """Requests of users that are none of ours."""
        self.problems: Counter[str] = Counter()
        """What the locustfile raised."""

    def note_arrival(self, track: str, lag_seconds: float) -> None:
        """Count an arrival that the process began `lag_seconds` after its moment."""
        self.tracks[track].arrivals += 1
        self.late += lag_seconds > _LATE_SECONDS
        self.worst_lag_seconds = max(self.worst_lag_seconds, lag_seconds)

    def plain(self) -> dict[str, Any]:
        """Return it as lists, dicts and numbers."""
        return {
            "tracks": {track: each._plain() for track, each in self.tracks.items()},
            "late": self.late,
            "worst_lag_seconds": self.worst_lag_seconds,
            "foreign": self.foreign,
            "problems": dict(self.problems),
        }

    @classmethod
    def merged(cls, parts: Iterable[Mapping[str, Any]]) -> Tally:
        """Return the sum of plain tallies: what one process would have counted.

        Raises:
            ValueError, KeyError, TypeError: one of them is none.
        """
        total = cls()
        for part in parts:
            for track, plain in part["tracks"].items():
                total.tracks.setdefault(track, TrackTally())._take(plain)
            total.late += part["late"]
            total.worst_lag_seconds = max(total.worst_lag_seconds, part["worst_lag_seconds"])
            total.foreign += part["foreign"]
            total.problems.update(part["problems"])
        return total


def band(seconds: float) -> int:
    """Return the coarse band of a duration: band k ends at SMALLEST_SECONDS * exp(k * BAND)."""
    return max(0, math.ceil(math.log(max(seconds, SMALLEST_SECONDS) / SMALLEST_SECONDS) / BAND - 1e-9))


def _pairs(counts: Mapping[int, int]) -> list[list[int]]:
    return [[key, count] for key, count in counts.items()]
