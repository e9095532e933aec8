"""What happened so far, kept small: sums per route, bucket and display, and a line of moments for the plots.
Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rolloutobs.analysis.displays import DisplayCounts
from rolloutobs.analysis.model import HistogramPair, PairCount, Side, Stratum, Tick, Verdict

__all__ = ["NOTHING", "History", "Moment", "Recorder", "plus", "thinned"]

NOTHING: Final = PairCount(0, 0, 0, 0)
MAX_MOMENTS: Final = 2000
"""Beyond twice as many neighbours are merged: 8 hours of 15 s ticks are more than a plot has pixels."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick, or several merged: what was counted in it, and the evidence at its end."""

    start: float
    end: float
    """Seconds since the canary took traffic; negative before."""
    counts: Mapping[str, PairCount] = field(default_factory=dict)
    """Per signal, over all strata, cold canary processes included. For latency only exposures."""
    evidence: Mapping[str, Mapping[Side, float]] = field(default_factory=dict)
    """Nats per signal and side; empty before the first verdict."""
    stale: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class History:
    """What a report shows besides the last verdict. Sums begin when the canary took traffic."""

    moments: Sequence[Moment] = ()
    strata: Mapping[str, Mapping[Stratum, PairCount]] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[Stratum, HistogramPair]] = field(default_factory=dict)
    displays: DisplayCounts = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """Words behind the values of labels, such as the message of an error's fingerprint."""


def plus(one: PairCount, other: PairCount) -> PairCount:
    """Add two counts."""
    return PairCount(
        one.canary_events + other.canary_events,
        one.canary_exposures + other.canary_exposures,
        one.stable_events + other.stable_events,
        one.stable_exposures + other.stable_exposures,
    )


def merged(one: HistogramPair | None, other: HistogramPair) -> HistogramPair:
    """Add two histograms over the bounds that both have."""
    if one is None:
        return other
    bounds = tuple(sorted(set(one.bounds) & set(other.bounds)))

    def added(side: str) -> tuple[int, ...]:
        parts = [_rebucket(pair.bounds, getattr(pair, side), bounds) for pair in (one, other)]
        return tuple(a + b for a, b in zip(*parts, strict=True))

    return HistogramPair(bounds, added("canary"), added("stable"))


def _rebucket(old: tuple[float, ...], counts: tuple[int, ...], new: tuple[float, ...]) -> list[int]:
    result = [0] * (len(new) + 1)
    slot = 0
    for i, count in enumerate(counts):
        while slot < len(new) and (i == len(old) or old[i] > new[slot]):
            slot += 1
        result[slot] += count
    return result


class Recorder:
    """Adds up a history, tick by tick, from nothing or from one that was saved."""

    def __init__(self, saved: History | None = None) -> None:
        saved = saved or History()
        self._moments: list[Moment] = list(saved.moments)
        self._strata: dict[str, dict[Stratum, PairCount]] = defaultdict(dict)
        self._strata.update({name: dict(strata) for name, strata in saved.strata.items()})
        self._histograms: dict[str, dict[Stratum, HistogramPair]] = defaultdict(dict)
        self._histograms.update({name: dict(strata) for name, strata in saved.histograms.items()})
        self._displays: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        self.displays(saved.displays)

    def tick(self, tick: Tick, verdict: Verdict | None) -> None:
        """Add a tick and the verdict after it; ``None`` while there is only pre-history."""
        if tick.end > 0:
            self._add(tick)
        metrics = verdict.metrics if verdict else ()
        evidence = {m.signal: {e.side: e.nats for e in m.evidence} for m in metrics}
        self._moments.append(Moment(tick.start, tick.end, _sums(tick), evidence, tick.stale))
        if len(self._moments) > 2 * MAX_MOMENTS:
            self._moments = thinned(self._moments, MAX_MOMENTS)

    def displays(self, displays: DisplayCounts) -> None:
        """Add what the displays counted since the canary took traffic."""
        for name, counts in displays.items():
            self._displays[name].update(counts)

    def history(self, texts: Mapping[str, str] | None = None) -> History:
        """Return all of it so far, with the words that go with it."""
        return History(
            tuple(self._moments),
            {name: dict(strata) for name, strata in self._strata.items()},
            {name: dict(strata) for name, strata in self._histograms.items()},
            {name: dict(counts) for name, counts in self._displays.items()},
            dict(texts or {}),
        )

    def _add(self, tick: Tick) -> None:
        for source in (tick.counts, tick.cold_counts):
            for signal, strata in source.items():
                sums = self._strata[signal]
                for stratum, count in strata.items():
                    sums[stratum] = plus(sums.get(stratum, NOTHING), count)
        for signal, pairs in tick.histograms.items():
            for stratum, pair in pairs.items():
                self._histograms[signal][stratum] = merged(self._histograms[signal].get(stratum), pair)


def _sums(tick: Tick) -> dict[str, PairCount]:
    sums: dict[str, PairCount] = {}
    for source in (tick.counts, tick.cold_counts):
        for signal, strata in source.items():
            for count in strata.values():
                sums[signal] = plus(sums.get(signal, NOTHING), count)
    for signal, pairs in tick.histograms.items():
        canary, stable = (sum(sum(getattr(p, side)) for p in pairs.values()) for side in ("canary", "stable"))
        sums[signal] = PairCount(0, canary, 0, stable)
    return sums


def thinned(moments: Sequence[Moment], most: int) -> list[Moment]:
    """Merge neighbours until there are at most `most` moments; sums stay what they were."""
    found = list(moments)
    while len(found) > most:
        found = _halved(found)
    return found


def _halved(moments: Sequence[Moment]) -> list[Moment]:
    """Merge neighbours in pairs, from the newest back."""
    odd = len(moments) % 2
    pairs = zip(moments[odd::2], moments[odd + 1 :: 2], strict=True)
    return [*moments[:odd], *(_joined(one, other) for one, other in pairs)]


def _joined(one: Moment, other: Moment) -> Moment:
    names = (*one.counts, *(name for name in other.counts if name not in one.counts))
    counts = {name: plus(one.counts.get(name, NOTHING), other.counts.get(name, NOTHING)) for name in names}
    return replace(other, start=one.start, counts=counts, stale=one.stale | other.stale)
