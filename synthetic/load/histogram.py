"""Durations as counts in buckets so narrow that a quantile is right to half a percent; they add up exactly.

Belongs here: that one structure. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

__all__ = ["Histogram"]

# Each bucket is 1 % wide and stands for its geometric middle. Source: DDSketch with a relative accuracy of
# 0.5 % (Masson, Rim and Lee, VLDB 2019, section 2.1): merging two is adding their counts.
_STEP = math.log(1.01)
_SMALLEST = 1e-6
"""Seconds; what is shorter is in bucket 0."""


class Histogram:
    """Counts of durations, by bucket."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def add(self, seconds: float) -> None:
        """Count a duration."""
        key = max(0, round(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _STEP))
        self.counts[key] = self.counts.get(key, 0) + 1

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        """Return the sum, the same as if one had counted everything."""
        total: dict[int, int] = {}
        for part in parts:
            for key, count in part.counts.items():
                total[key] = total.get(key, 0) + count
        return cls(total)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def rank(self, number: int) -> float | None:
        """Return the duration in seconds that is the `number`-th of all in order, from 1; ``None`` where
        there are not so many."""
        seen = 0
        for key in sorted(self.counts):
            seen += self.counts[key]
            if seen >= number:
                return self.middle(key)
        return None

    def quantile(self, share: float) -> float | None:
        """Return the smallest duration that at least `share` of all do not exceed; ``None`` without any.

        Source: nearest rank, as in Locust's own reports.
        """
        # A product like 0.07 * 100 is a trifle above 7.
        return self.rank(max(1, math.ceil(share * self.total - 1e-9)))

    def above(self, seconds: float) -> int:
        """Return how many are longer."""
        return sum(count for key, count in self.counts.items() if self.middle(key) > seconds)

    @staticmethod
    def middle(key: int) -> float:
        """Return what a bucket stands for, in seconds."""
        return _SMALLEST * math.exp(key * _STEP)
