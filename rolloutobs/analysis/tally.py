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
_BASELINE: Final = "baseline"
"""Kept apart until it is known whether it had any traffic."""
_PART: Final = "part"
"""Stable's processes whose counts are in a sum as well."""

Cumulative = Mapping[float, int]
"""Growth by upper bound, cumulative as exposed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where growth comes from."""

    target: str
    side: str
    """`CANARY` or `STABLE`."""
    cold: bool
    """A process that is still warming up, of the canary or the baseline."""
    baseline: bool = False
    """Of the baseline: on the side of stable, and preferred to it."""
    compared: bool = True
    """False: its counts are in a sum as well, and only tell how much pods differ."""
    is_pod: bool = True
    """False: it is such a sum."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """What one signal counted, in the form of the fields of a tick."""

    counts: Mapping[Stratum, PairCount] = field(default_factory=dict)
    cold: Mapping[Stratum, PairCount] = field(default_factory=dict)
    histograms: Mapping[Stratum, HistogramPair] = field(default_factory=dict)
    pods: Mapping[str, PodCount] = field(default_factory=dict)
    pod_histograms: Mapping[str, PodHistogram] = field(default_factory=dict)
    sources: Mapping[str, PairCount] = field(default_factory=dict)
    baseline: bool = False
    """Stable's side is the baseline alone."""
    aside: float = 0.0
    """Exposures of the old version that are not compared for that."""


class SignalTally:
    """The sums of one signal since they were last taken."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Stratum, str, Role], int] = defaultdict(int)
        self._cold: dict[tuple[Stratum, Role], int] = defaultdict(int)
        self._pods: dict[tuple[str, Role], int] = defaultdict(int)
        self._buckets: dict[tuple[Stratum, str], dict[tuple[str, object], dict[float, int]]] = {}
        self._sources: dict[tuple[str, str, Role], int] = defaultdict(int)
        self._sums: set[str] = set()
        self._exposed = dict.fromkeys((STABLE, _BASELINE), 0)
        self._unused = 0

    def add(self, growth: Growth, place: Place, origin: Origin) -> None:
        """Add the growth of one series; of cold canary processes only counts are kept, apart, and a cold
        baseline is not compared."""
        if not origin.compared:
            self._add_part(growth, place, origin)
            return
        side = _BASELINE if origin.baseline else origin.side
        if side != CANARY and growth.amount and _exposes(growth, place.role):
            self._note_exposure(growth.amount, side, origin.cold)
        if place.role is Role.BUCKET:
            self._add_bucket(growth, place, origin, side)
        elif growth.amount:
            self._add_count(growth, place, origin, side)

    def _add_count(self, growth: Growth, place: Place, origin: Origin, side: str) -> None:
        if place.role in (Role.SOURCE_EVENTS, Role.SOURCE_EXPOSURES):
            self._sources[place.stratum[0][1], origin.side, place.role] += growth.amount
        elif not origin.cold:
            self._counts[place.stratum, side, place.role] += growth.amount
            if origin.side == STABLE and origin.is_pod:
                self._pods[origin.target, place.role] += growth.amount
        elif side == CANARY:
            self._cold[place.stratum, place.role] += growth.amount

    def _add_part(self, growth: Growth, place: Place, origin: Origin) -> None:
        if place.role is Role.BUCKET:
            self._add_bucket(growth, place, origin, _PART)
        elif place.role in (Role.EVENTS, Role.EXPOSURES) and growth.amount:
            self._pods[origin.target, place.role] += growth.amount

    def _note_exposure(self, amount: int, side: str, cold: bool) -> None:
        if cold:
            self._unused += amount
        else:
            self._exposed[side] += amount

    def _add_bucket(self, growth: Growth, place: Place, origin: Origin, side: str) -> None:
        bound = growth.series.le
        if origin.cold or bound is None:
            return
        if not origin.is_pod:
            self._sums.add(origin.target)
        groups = self._buckets.setdefault((place.stratum, side), {})
        group = groups.setdefault((origin.target, growth.series.group), {})
        group[bound] = group.get(bound, 0) + growth.amount

    def take(self) -> Tallied:
        """Return the sums and begin anew.

        Where the baseline had traffic, it alone is what the canary is compared with: it is as old, and as
        small. Which of the two it is depends on exposures only, so the comparison stays what it promises.
        """
        baseline = self._exposed[_BASELINE] > 0
        stable = _BASELINE if baseline else STABLE
        result = Tallied(
            self._pairs(stable),
            self._cold_pairs(),
            self._histograms(stable),
            self._pod_counts(),
            self._pod_histograms(),
            self._source_pairs(),
            baseline,
            self._unused + (self._exposed[STABLE] if baseline else 0),
        )
        for sums in (self._counts, self._cold, self._pods, self._buckets, self._sources):
            sums.clear()
        self._exposed = dict.fromkeys(self._exposed, 0)
        self._unused = 0
        return result

    def _source_pairs(self) -> dict[str, PairCount]:
        get = self._sources.get
        return {
            group: PairCount(
                get((group, CANARY, Role.SOURCE_EVENTS), 0),
                get((group, CANARY, Role.SOURCE_EXPOSURES), 0),
                get((group, STABLE, Role.SOURCE_EVENTS), 0),
                get((group, STABLE, Role.SOURCE_EXPOSURES), 0),
            )
            for group in sorted({key[0] for key in self._sources})
        }

    def _pairs(self, stable: str) -> dict[Stratum, PairCount]:
        get = self._counts.get
        return {
            stratum: PairCount(
                canary_events=get((stratum, CANARY, Role.EVENTS), 0),
                canary_exposures=get((stratum, CANARY, Role.EXPOSURES), 0),
                stable_events=get((stratum, stable, Role.EVENTS), 0),
                stable_exposures=get((stratum, stable, Role.EXPOSURES), 0),
            )
            for stratum in sorted({key[0] for key in self._counts if key[1] in (CANARY, stable)})
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

    def _histograms(self, stable: str) -> dict[Stratum, HistogramPair]:
        found = {}
        for stratum in sorted({key[0] for key in self._buckets if key[1] in (CANARY, stable)}):
            canary, old = (
                _grown(self._buckets.get((stratum, side), {}).values()) for side in (CANARY, stable)
            )
            bounds = _shared_bounds([*canary, *old])
            if bounds:
                found[stratum] = HistogramPair(bounds, _split(canary, bounds), _split(old, bounds))
        return found

    def _pod_histograms(self) -> dict[str, PodHistogram]:
        by_pod: dict[str, list[Cumulative]] = defaultdict(list)
        for (_, side), groups in self._buckets.items():
            if side != CANARY:
                for (target, _), cumulative in groups.items():
                    if target not in self._sums:
                        by_pod[target].append(cumulative)
        found = {}
        for pod, histograms in sorted(by_pod.items()):
            grown = _grown(histograms)
            bounds = _shared_bounds(grown)
            if bounds:
                found[pod] = PodHistogram(bounds, _split(grown, bounds))
        return found


def _exposes(growth: Growth, role: Role) -> bool:
    return role is Role.EXPOSURES or (role is Role.BUCKET and growth.series.le == math.inf)


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
