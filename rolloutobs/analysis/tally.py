"""Adds up what one signal counted between two ticks, by side of the comparison and stratum.

Belongs here: sums and shared bucket bounds. Does not belong here: resets (`counters`), time and targets
(`ticks`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rolloutobs.analysis.counters import Growth, Place, Role
from rolloutobs.analysis.model import HistogramPair, PairCount, PodCount, PodHistogram, Stratum

__all__ = ["CANARY", "STABLE", "Origin", "SignalTally", "Tallied"]

CANARY: Final = "canary"
STABLE: Final = "stable"

Cumulative = Mapping[float, int]
"""Growth by upper bound, cumulative as exposed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where growth comes from."""

    target: str
    side: str
    """`CANARY` or `STABLE`."""
    cold: bool
    """A canary process that is still warming up."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """What one signal counted, in the form of the fields of a tick."""

    counts: Mapping[Stratum, PairCount] = field(default_factory=dict)
    cold: Mapping[Stratum, PairCount] = field(default_factory=dict)
    histograms: Mapping[Stratum, HistogramPair] = field(default_factory=dict)
    pods: Mapping[str, PodCount] = field(default_factory=dict)
    pod_histograms: Mapping[str, PodHistogram] = field(default_factory=dict)


class SignalTally:
    """The sums of one signal since they were last taken."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Stratum, str, Role], int] = defaultdict(int)
        self._cold: dict[tuple[Stratum, Role], int] = defaultdict(int)
        self._pods: dict[tuple[str, Role], int] = defaultdict(int)
        self._buckets: dict[tuple[Stratum, str], dict[tuple[str, object], dict[float, int]]] = {}

    def add(self, growth: Growth, place: Place, origin: Origin) -> None:
        """Add the growth of one series; of cold canary processes only counts are kept, apart."""
        if place.role is Role.BUCKET:
            self._add_bucket(growth, place, origin)
        elif growth.amount == 0:
            return
        elif origin.cold:
            self._cold[place.stratum, place.role] += growth.amount
        else:
            self._counts[place.stratum, origin.side, place.role] += growth.amount
            if origin.side == STABLE:
                self._pods[origin.target, place.role] += growth.amount

    def _add_bucket(self, growth: Growth, place: Place, origin: Origin) -> None:
        bound = growth.series.le
        if origin.cold or bound is None:
            return
        groups = self._buckets.setdefault((place.stratum, origin.side), {})
        group = groups.setdefault((origin.target, growth.series.group), {})
        group[bound] = group.get(bound, 0) + growth.amount

    def take(self) -> Tallied:
        """Return the sums and begin anew."""
        result = Tallied(
            self._pairs(), self._cold_pairs(), self._histograms(), self._pod_counts(), self._pod_histograms()
        )
        for sums in (self._counts, self._cold, self._pods, self._buckets):
            sums.clear()
        return result

    def _pairs(self) -> dict[Stratum, PairCount]:
        get = self._counts.get
        return {
            stratum: PairCount(
                canary_events=get((stratum, CANARY, Role.EVENTS), 0),
                canary_exposures=get((stratum, CANARY, Role.EXPOSURES), 0),
                stable_events=get((stratum, STABLE, Role.EVENTS), 0),
                stable_exposures=get((stratum, STABLE, Role.EXPOSURES), 0),
            )
            for stratum in sorted({key[0] for key in self._counts})
        }

    def _cold_pairs(self) -> dict[Stratum, PairCount]:
        get = self._cold.get
        return {
            stratum: PairCount(get((stratum, Role.EVENTS), 0), get((stratum, Role.EXPOSURES), 0), 0, 0)
            for stratum in sorted({key[0] for key in self._cold})
        }

    def _pod_counts(self) -> dict[str, PodCount]:
        get = self._pods.get
        return {
            pod: PodCount(get((pod, Role.EVENTS), 0), get((pod, Role.EXPOSURES), 0))
            for pod in sorted({key[0] for key in self._pods})
        }

    def _histograms(self) -> dict[Stratum, HistogramPair]:
        found = {}
        for stratum in sorted({key[0] for key in self._buckets}):
            canary, stable = (
                _grown(self._buckets.get((stratum, side), {}).values()) for side in (CANARY, STABLE)
            )
            bounds = _shared_bounds([*canary, *stable])
            if bounds:
                found[stratum] = HistogramPair(bounds, _split(canary, bounds), _split(stable, bounds))
        return found

    def _pod_histograms(self) -> dict[str, PodHistogram]:
        by_pod: dict[str, list[Cumulative]] = defaultdict(list)
        for (_, side), groups in self._buckets.items():
            if side == STABLE:
                for (target, _), cumulative in groups.items():
                    by_pod[target].append(cumulative)
        found = {}
        for pod, histograms in sorted(by_pod.items()):
            grown = _grown(histograms)
            bounds = _shared_bounds(grown)
            if bounds:
                found[pod] = PodHistogram(bounds, _split(grown, bounds))
        return found


def _grown(side: Iterable[Cumulative]) -> list[Cumulative]:
    """Leave out histograms that saw nothing (they have no say about the bounds) or have no ``+Inf``
    bucket."""
    return [histogram for histogram in side if histogram.get(math.inf, 0) > 0]


def _shared_bounds(histograms: Iterable[Cumulative]) -> tuple[float, ...]:
    """Return the finite bounds that all have, ascending; none when there are no histograms."""
    sets = [set(histogram) for histogram in histograms]
    return tuple(sorted(set.intersection(*sets) - {math.inf})) if sets else ()


def _split(histograms: Iterable[Cumulative], bounds: tuple[float, ...]) -> tuple[int, ...]:
    """Return counts per bucket. A scrape that is not atomic can make cumulative counts fall; they are
    levelled."""
    counts = [0] * (len(bounds) + 1)
    for histogram in histograms:
        below = 0
        for i, bound in enumerate((*bounds, math.inf)):
            upto = max(below, histogram[bound])
            counts[i] += upto - below
            below = upto
    return tuple(counts)
