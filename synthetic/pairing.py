"""What a sequence of pairs proves: who fails more, and who is slower, looked at as often as one likes.

Belongs here: the sequential McNemar test, and the intervals of durations and web vitals. Pure. The pair is
the unit: what slows or breaks both walks at the same moment cancels out.
"""

from __future__ import annotations

import math
from bisect import insort
from typing import Any

from synthetic.result import CheckOutcome, Pair
from synthetic.vitals import Vital, comparable

__all__ = ["ERROR_RATE", "Pairing"]

ERROR_RATE = 0.05
"""How often the interval may miss the true ratio at any time, ever."""
_MOST_RATIOS = 20_000
"""The interval is sharp long before; a check that runs for years does not grow."""


def _nats(more: int, less: int) -> float:
    """Return the log evidence that of two equally likely sides one comes up more often.

    Source: the conditional binomial mixture of docs/verdict.md, formula (1), on discordant pairs only:
    McNemar's test (Psychometrika 12, 1947) as an e-process.
    """
    # Here, for --help needs no extra.
    import numpy as np

    from rolloutobs.analysis.evidence import Counts, log_e, log_mean_exp, more_than

    once = np.ones(1)
    counts = Counts(np.array([[float(more)]]), once, np.array([[float(less)]]), once)
    return float(log_mean_exp(log_e(counts, more_than(1.0, 0.0)))[0, 0])


class _Median:
    """The median of a growing sample, with bounds that are right at every look."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._outside = -1
        self.bounds = (-math.inf, math.inf)
        """Right at all times together in 95 % of all sequences."""

    def add(self, value: float) -> None:
        if len(self._values) < _MOST_RATIOS:
            insort(self._values, value)
            self._narrow()

    @property
    def median(self) -> float | None:
        """``None``: there are no values."""
        count = len(self._values)
        if not count:
            return None
        return (self._values[(count - 1) // 2] + self._values[count // 2]) / 2

    def _narrow(self) -> None:
        """Cut the interval at the values that so many pairs refute as the median.

        If m is the median, each value lies above it with probability 1/2 at least, and below it likewise; a
        bet against either that multiplies its stake by 2 / error rate refutes m. Source: Howard and Ramdas,
        "Sequential estimation of quantiles" (Bernoulli 28, 2022), with the e-process of `_nats`.
        """
        count = len(self._values)
        needed = math.log(2.0 / ERROR_RATE)
        while _nats(count - self._outside - 1, self._outside + 1) >= needed:
            self._outside += 1
        if self._outside >= 0:
            low, high = self.bounds
            first, last = self._values[self._outside], self._values[count - 1 - self._outside]
            self.bounds = max(low, first), min(high, last)


class Pairing:
    """The evidence of one check's pairs. Void pairs, in which one side says nothing, are none."""

    def __init__(self) -> None:
        self.pairs = 0
        self.canary_alone = 0
        self.stable_alone = 0
        self._durations = _Median()
        self._vitals: dict[Vital, _Median] = {}

    def add(self, pair: Pair) -> None:
        """Take in a pair; of one that was retried the first walk counts."""
        stable, canary = pair.published
        if not {stable, canary} <= {CheckOutcome.PASS, CheckOutcome.FAIL}:
            return
        self.pairs += 1
        self.canary_alone += (stable, canary) == (CheckOutcome.PASS, CheckOutcome.FAIL)
        self.stable_alone += (stable, canary) == (CheckOutcome.FAIL, CheckOutcome.PASS)
        seconds = (pair.stable.seconds, pair.canary.seconds)
        if stable is canary is CheckOutcome.PASS and min(seconds) > 0:
            self._durations.add(math.log(seconds[1] / seconds[0]))
        for vital, (ours, theirs) in comparable(pair.stable.pages, pair.canary.pages).items():
            if vital is Vital.CLS:
                # Most pages do not shift at all, and there is no ratio to 0.
                self._vitals.setdefault(vital, _Median()).add(theirs - ours)
            elif min(ours, theirs) > 0:
                self._vitals.setdefault(vital, _Median()).add(math.log(theirs / ours))

    @property
    def nats(self) -> float:
        """Log evidence that the canary fails more often than stable; log(1 / 0.05) = 3.0 nats are enough for
        a risk of 5 %, however often one looks."""
        return _nats(self.canary_alone, self.stable_alone)

    @property
    def ratio(self) -> float | None:
        """Median of canary's duration / stable's over the pairs in which both passed; ``None``: there are
        none."""
        median = self._durations.median
        return None if median is None else math.exp(median)

    @property
    def bounds(self) -> tuple[float, float]:
        """The ratio's lower and upper bound, right at all times together in 95 % of all sequences; 0 and
        infinity with too few pairs."""
        low, high = self._durations.bounds
        return math.exp(low), math.exp(high)

    @property
    def vitals(self) -> dict[Vital, tuple[float, float, float]]:
        """Median, lower and upper bound of canary / stable for each vital, of canary - stable for CLS; of the
        worst page of a pair that both tracks opened, failed journeys included."""
        found: dict[Vital, tuple[float, float, float]] = {}
        for vital, each in self._vitals.items():
            told = (each.median or 0.0, *each.bounds)
            found[vital] = (
                told if vital is Vital.CLS else (math.exp(told[0]), math.exp(told[1]), math.exp(told[2]))
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; ``None`` where there is nothing to say yet."""
        low, high = self.bounds
        return {
            "pairs": self.pairs,
            "canary_failed_alone": self.canary_alone,
            "stable_failed_alone": self.stable_alone,
            "nats": round(self.nats, 4),
            "duration_ratio": self.ratio,
            "duration_ratio_low": low or None,
            "duration_ratio_high": None if math.isinf(high) else high,
            "vitals": {vital.value: _plain(vital, *told) for vital, told in self.vitals.items()},
        }

    def lines(self) -> list[str]:
        """Return it as lines of text; none before the second pair, for one pair speaks for itself."""
        if self.pairs < 2:
            return []
        alone = f"failed alone: canary {self.canary_alone}, stable {self.stable_alone}"
        told = [
            f"{alone}; evidence against the canary {self.nats:.1f} nats (3.0 are enough for a risk of 5 %)"
        ]
        low, high = self.bounds
        if self.ratio is not None:
            between = (
                f"between {low:.2f} and {high:.2f}"
                if low or math.isfinite(high)
                else "too few pairs for bounds"
            )
            told.append(f"duration, canary / stable: {self.ratio:.2f} in the median, {between}")
        if self._vitals:
            vitals = ", ".join(_line(vital, *told) for vital, told in self.vitals.items())
            told.append(f"web vitals, canary / stable: {vitals}")
        return told


def _plain(vital: Vital, median: float, low: float, high: float) -> dict[str, float | None]:
    word = "difference" if vital is Vital.CLS else "ratio"
    least = None if math.isinf(low) or (vital is not Vital.CLS and not low) else low
    return {word: median, f"{word}_low": least, f"{word}_high": None if math.isinf(high) else high}


def _line(vital: Vital, median: float, low: float, high: float) -> str:
    between = f" ({low:.2f} to {high:.2f})" if math.isfinite(high) else ""
    return f"{vital} {median:+.2f}{between}" if vital is Vital.CLS else f"{vital} {median:.2f}{between}"
