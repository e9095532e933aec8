"""What a load measured, on one track and on both.

Belongs here: reading what Locust's process left. Pure: no I/O, no clock. What it means is
`synthetic.load.judging`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rolloutobs.errors import RolloutobsError
from synthetic.load.histogram import Histogram
from synthetic.load.tally import Tally, TickTally, TrackTally
from synthetic.target import Target

__all__ = ["Endpoint", "LoadError", "LoadResult", "TrackLoad", "parse_report"]


class LoadError(RolloutobsError):
    """Locust could not do its work: the load says nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Requests of one method and name on one track."""

    method: str
    name: str
    failures: int
    corrected: Histogram
    """Durations from the moment at which a request should have begun."""

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.corrected.total


@dataclass(frozen=True, slots=True)
class TrackLoad:
    """What was measured on one track."""

    target: Target | None
    """``None`` for plain users, who are aimed at an entry point and not at a track."""
    endpoints: tuple[Endpoint, ...]
    corrected: Histogram
    """Of all endpoints."""
    service: Histogram
    """Durations from the moment at which requests were sent: without the wait for that."""
    failures: int = 0
    proven: Mapping[str, int] = field(default_factory=dict)
    """Answers by `synthetic.target.Proven` value; empty for plain users."""
    doubt: str = ""
    """The first answer that was wrong or did not say who gave it; empty when there was none."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failures by message."""
    version: str | None = None
    """The one version that answered."""
    arrivals: int = 0
    """Tasks that were to begin; 0 in the closed model."""
    crowded: int = 0
    """Arrivals that found all users busy."""
    cut: int = 0
    """Requests that did not end, counted as failures."""
    ticks: Mapping[int, TickTally] = field(default_factory=dict)
    """Counts by interval of about a second."""

    @property
    def name(self) -> str:
        """The track, or ``users``."""
        return "users" if self.target is None else self.target.track.value

    @property
    def requests(self) -> int:
        """Requests of all endpoints."""
        return self.corrected.total


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was measured on all tracks, and how well the load was made."""

    tracks: tuple[TrackLoad, ...]
    seconds: float
    """How long it lasted."""
    is_open: bool = False
    """Tasks arrived at their own rate; else users waited for answers, and durations are not corrected."""
    late: int = 0
    """Arrivals that the generator itself began late."""
    worst_lag_seconds: float = 0.0
    workers: int = 0
    """Processes that a master led; 0: one process did everything."""
    lost: int = 0
    """Workers whose last counts are missing."""
    stopped: bool = False
    """Ended by a signal."""
    foreign: int = 0
    """Requests of users that are not derived from `RolloutUser`."""
    problems: Mapping[str, int] = field(default_factory=dict)
    """What the locustfile raised."""
    locust: Mapping[str, float] = field(default_factory=dict)
    """Locust's own statistics of all tracks together: requests, failures and uncorrected quantiles."""

    @property
    def arrivals(self) -> int:
        """Tasks that were to begin, on all tracks."""
        return sum(each.arrivals for each in self.tracks)


def parse_report(text: str, targets: Sequence[Target], *, stopped: bool, is_open: bool = False) -> LoadResult:
    """Read the report that a Locust process left or leaves; nothing may have been counted yet.

    Raises:
        LoadError: it cannot be read.
    """
    try:
        report: Mapping[str, Any] = json.loads(text)
        tally = Tally.merged([report["tally"]])
        by_track = {target.track.value: target for target in targets}
        names = list(by_track) or list(tally.tracks)
        tracks = tuple(_track(tally.tracks.get(name, TrackTally()), by_track.get(name)) for name in names)
        return LoadResult(
            tracks=tracks,
            seconds=float(report["seconds"]),
            is_open=is_open,
            late=tally.late,
            worst_lag_seconds=tally.worst_lag_seconds,
            workers=int(report["workers"]),
            lost=int(report["lost"]),
            stopped=stopped or bool(report["early"]),
            foreign=tally.foreign,
            problems=dict(tally.problems),
            locust=dict(report["locust"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise LoadError(f"Locust left results that cannot be read: {problem!r}") from problem


def _track(tally: TrackTally, target: Target | None) -> TrackLoad:
    several = len(tally.versions) > 1
    told = f"more than one version answered: {', '.join(sorted(tally.versions))}" if several else ""
    return TrackLoad(
        target=target,
        endpoints=tuple(
            Endpoint(method, name, each.failures, each.corrected)
            for (method, name), each in sorted(tally.endpoints.items())
        ),
        corrected=Histogram.merged(each.corrected for each in tally.endpoints.values()),
        service=Histogram.merged(each.service for each in tally.endpoints.values()),
        failures=sum(each.failures for each in tally.endpoints.values()),
        proven=dict(tally.proven),
        doubt=tally.doubt or told,
        errors=dict(tally.errors),
        version=next(iter(tally.versions)) if len(tally.versions) == 1 else None,
        arrivals=tally.arrivals,
        crowded=tally.crowded,
        cut=tally.cut,
        ticks=tally.ticks,
    )
