"""What every policy looks at, and what it says: `Totals` in, `Course` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rolloutobs.analysis.model import Tick

__all__ = ["Course", "Floats", "Rule", "Totals", "first"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """The ticks since the canary took traffic, all routes together; shapes (T,), histograms (T, B)."""

    ends: Floats
    seconds: float
    bounds: tuple[float, ...]
    canary_errors: Floats
    canary: Floats
    stable_errors: Floats
    stable: Floats
    canary_buckets: Floats
    stable_buckets: Floats

    @classmethod
    def of(cls, ticks: Sequence[Tick]) -> Totals:
        """Return the totals of `ticks`; those of the pre-history are left out."""
        live = [tick for tick in ticks if tick.end > 0]
        canary_errors, canary, stable_errors, stable = (
            np.array(
                [
                    [
                        (p.canary_events, p.canary_exposures, p.stable_events, p.stable_exposures)
                        for p in tick.counts["errors"].values()
                    ]
                    for tick in live
                ],
                dtype=float,
            )
            .sum(axis=1)
            .T
        )
        histograms = [list(tick.histograms["latency"].values()) for tick in live]
        return cls(
            np.array([tick.end for tick in live]),
            live[0].end - live[0].start,
            histograms[0][0].bounds,
            canary_errors,
            canary,
            stable_errors,
            stable,
            np.array([np.sum([h.canary for h in each], axis=0) for each in histograms], dtype=float),
            np.array([np.sum([h.stable for h in each], axis=0) for each in histograms], dtype=float),
        )

    def window(self, series: Floats, seconds: float) -> Floats:
        """Return the sums of `series` over the last `seconds` at each tick; shorter at the beginning."""
        sums = np.cumsum(series, axis=0)
        width = round(seconds / self.seconds)
        before = np.concatenate([np.zeros((width, *series.shape[1:])), sums])[: len(sums)]
        return np.asarray(sums - before)

    def quantile(self, q: float, buckets: Floats) -> Floats:
        """Return the q-quantile of each histogram (N, B) in seconds as Prometheus interpolates it; NaN where
        nothing was counted.

        Source: the documentation of Prometheus, `histogram_quantile`: linear within a bucket, and the highest
        bound for what is above it.
        """
        edges = np.concatenate([[0.0], self.bounds])
        total = buckets.sum(axis=1)
        found = np.full(len(buckets), np.nan)
        for i in np.flatnonzero(total > 0):
            below = np.concatenate([[0.0], np.cumsum(buckets[i, :-1])])
            rank = min(q * total[i], below[-1])
            found[i] = np.interp(rank, below, edges)
        return found


@dataclass(frozen=True, slots=True)
class Course:
    """When a policy first says that the canary goes back, and that it goes on; seconds, ``None``: never.

    A policy that goes on after a promotion may say both.
    """

    rollback: float | None = None
    promote: float | None = None

    @property
    def end(self) -> float | None:
        """When the first verdict came."""
        said = [each for each in (self.rollback, self.promote) if each is not None]
        return min(said) if said else None

    @property
    def promotes(self) -> bool:
        """Whether the first verdict was a promotion."""
        return self.promote is not None and (self.rollback is None or self.promote < self.rollback)


Rule = Callable[[Totals], Course]


def first(totals: Totals, fires: NDArray[np.bool_]) -> float | None:
    """Return when `fires` (T,) is first true."""
    where = np.flatnonzero(fires)
    return float(totals.ends[where[0]]) if len(where) else None
