"""One signal's ticks as dense arrays: a row per stratum, a channel per bucket bound.

Belongs here: interning of strata, bounds, cold canary counts, and exposures that come before their events.
Does not belong here: evidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from rolloutobs.analysis.evidence import Counts, Floats
from rolloutobs.analysis.model import HistogramPair, PairCount, Stratum, Tick
from rolloutobs.analysis.policy import Kind, Policy, Signal

__all__ = ["Frame", "Lag"]


class Frame:
    """The rows and channels of one signal. Rows are appended as strata show up and never move.

    Attributes:
        strata: the stratum of each row.
        bounds: of latency, upper bounds in seconds of the channels, those that every histogram had so far at
        the first sight of any, and of these the signal's own if it names some; the empty tuple for counts.
        ignored: histograms that lacked one of these bounds, and were left out.
    """

    def __init__(self, signal: Signal, policy: Policy) -> None:
        self._signal = signal
        self._warmup_seconds = policy.warmup_seconds
        self.strata: list[Stratum] = []
        self.bounds: tuple[float, ...] = ()
        self.ignored = 0
        self._rows: dict[Stratum, int] = {}

    @property
    def channels(self) -> int:
        """Number of channels; of latency 0 until a histogram was seen."""
        return len(self.bounds) if self._signal.kind is Kind.LATENCY else 1

    def read(self, tick: Tick) -> tuple[Counts, Counts]:
        """Return what `tick` holds of this signal: compared, and of canary pods that warm up (stable fields
        0).

        Where the tick does not know the age of pods, or the signal has none, the canary warms up as a whole,
        from the start of the rollout.
        """
        if self._signal.kind is Kind.LATENCY:
            warm, cold = self._histograms(tick.histograms.get(self._signal.name, {})), None
        else:
            warm = self._pairs(tick.counts.get(self._signal.name, {}))
            aside = tick.cold_counts.get(self._signal.name)
            cold = self._pairs(aside) if aside else None
        by_pod_age = tick.by_pod_age and self._signal.needs_pods
        if not by_pod_age and tick.start < self._warmup_seconds:
            nothing = Counts.zeros(len(self.strata), self.channels)
            young = Counts(warm.canary_events, warm.canary, nothing.stable_events, nothing.stable)
            warm = Counts(nothing.canary_events, nothing.canary, warm.stable_events, warm.stable)
            return warm, young if cold is None else young.plus(cold)
        return warm, Counts.zeros(0, self.channels) if cold is None else cold

    def pods(self, tick: Tick) -> dict[str, tuple[Floats, float]]:
        """Return events (C,) and exposures per stable pod of `tick`."""
        name = self._signal.name
        if self._signal.kind is Kind.LATENCY:
            return {
                pod: _exceeding_one(self._shared(each.bounds, each.counts))
                for pod, each in tick.stable_pod_histograms.get(name, {}).items()
                if self.bounds and set(self.bounds) <= set(each.bounds)
            }
        return {
            pod: (np.array([each.events], dtype=float), float(each.exposures))
            for pod, each in tick.stable_pods.get(name, {}).items()
        }

    def _rows_of(self, strata: Mapping[Stratum, object]) -> list[int]:
        known = self._rows
        for stratum in strata:
            if stratum not in known:
                known[stratum] = len(self.strata)
                self.strata.append(stratum)
        return [known[stratum] for stratum in strata]

    def _pairs(self, pairs: Mapping[Stratum, PairCount]) -> Counts:
        rows = self._rows_of(pairs)
        values = np.zeros((len(self.strata), 4))
        if rows:
            flat = (
                each
                for p in pairs.values()
                for each in (p.canary_events, p.canary_exposures, p.stable_events, p.stable_exposures)
            )
            values[rows] = np.fromiter(flat, float, 4 * len(rows)).reshape(-1, 4)
        return Counts(values[:, :1], values[:, 1], values[:, 2:3], values[:, 3])

    def _histograms(self, pairs: Mapping[Stratum, HistogramPair]) -> Counts:
        if not self.bounds and pairs:
            shared = _shared_bounds(pair.bounds for pair in pairs.values())
            self.bounds = tuple(bound for bound in shared if bound in self._signal.bounds) or shared
        own, wanted = self.bounds, set(self.bounds)
        alike = all(pair.bounds is own or pair.bounds == own for pair in pairs.values())
        usable = pairs if alike else {s: p for s, p in pairs.items() if wanted <= set(p.bounds)}
        self.ignored += len(pairs) - len(usable)
        rows = self._rows_of(usable)
        counts = Counts.zeros(len(self.strata), len(self.bounds))
        if rows and self.bounds:
            pairs_now = list(usable.values())
            if alike:
                canary = _matrix([p.canary for p in pairs_now])
                stable = _matrix([p.stable for p in pairs_now])
            else:
                canary = np.array([self._shared(p.bounds, p.canary) for p in pairs_now])
                stable = np.array([self._shared(p.bounds, p.stable) for p in pairs_now])
            counts.canary_events[rows], counts.canary[rows] = _exceeding(canary)
            counts.stable_events[rows], counts.stable[rows] = _exceeding(stable)
        return counts

    def _shared(self, bounds: tuple[float, ...], counts: Sequence[int]) -> Floats:
        """Return bucket counts on the frame's own bounds, of which `bounds` has all."""
        values = np.asarray(counts, dtype=float)
        if bounds == self.bounds:
            return values
        cuts = [0] + [bounds.index(bound) + 1 for bound in self.bounds]
        return np.add.reduceat(values, cuts)


def _matrix(rows: Sequence[Sequence[int]]) -> Floats:
    """Return rows of equal length as an array; integers are read fastest."""
    width = len(rows[0])
    flat = np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * width)
    return flat.reshape(-1, width).astype(float)


def _shared_bounds(all_bounds: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    sets = [set(bounds) for bounds in all_bounds]
    return tuple(sorted(set.intersection(*sets)))


def _exceeding(buckets: Floats) -> tuple[Floats, Floats]:
    """Return how many were above each bound (..., B) and how many there were (...), of counts (..., B +
    1)."""
    above = np.cumsum(buckets[..., ::-1], axis=-1)[..., ::-1]
    return above[..., 1:], above[..., 0]


def _exceeding_one(buckets: Floats) -> tuple[Floats, float]:
    events, exposures = _exceeding(buckets)
    return events, float(exposures)


class Lag:
    """Exposures that stand for those whose events come now: their mean over the last seconds.

    A conversion, or an error of a page, comes some time after the page view that it belongs to; within one
    short tick the two do not match, and the tracks' shares of the views are a matter of luck. Means over a
    window have neither trouble, and the sum over a rollout stays the same but for its ends.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._past: deque[tuple[float, Floats, Floats]] = deque()

    def exposures(self, seconds: float, canary: Floats, stable: Floats) -> tuple[Floats, Floats]:
        """Take an interval's exposures (R,) and return those to compare its events with."""
        if self._seconds <= 0:
            return canary, stable
        self._past.append((seconds, canary, stable))
        while sum(each[0] for each in self._past) - self._past[0][0] >= self._seconds:
            self._past.popleft()
        scale = seconds / max(sum(each[0] for each in self._past), 1e-9)
        rows = len(canary)
        sums = [np.zeros(rows), np.zeros(rows)]
        for _, old_canary, old_stable in self._past:
            sums[0][: len(old_canary)] += old_canary
            sums[1][: len(old_stable)] += old_stable
        return sums[0] * scale, sums[1] * scale
