"""What a sequence of pairs proves: who fails more, and who is slower, looked at as often as one likes.

Belongs here: the sequential McNemar test and the interval of the durations' ratio. Pure. The pair is the
unit: what slows or breaks both walks at the same moment cancels out.
"""

from __future__ import annotations

import math
from bisect import insort
from typing import Any

from synthetic.result import CheckOutcome, Pair

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


class Pairing:
    """The evidence of one check's pairs. Void pairs, in which one side says nothing, are none."""

    def __init__(self) -> None:
        self.pairs = 0
        self.canary_alone = 0
        self.stable_alone = 0
        self._log_ratios: list[float] = []
        self._outside = -1
        self._interval = (-math.inf, math.inf)

    def add(self, pair: Pair) -> None:
        """Take in a pair; of one that was retried the first walk counts."""
        stable, canary = pair.published
        if not {stable, canary} <= {CheckOutcome.PASS, CheckOutcome.FAIL}:
            return
        self.pairs += 1
        self.canary_alone += (stable, canary) == (CheckOutcome.PASS, CheckOutcome.FAIL)
        self.stable_alone += (stable, canary) == (CheckOutcome.FAIL, CheckOutcome.PASS)
        seconds = (pair.stable.seconds, pair.canary.seconds)
        if (
            stable is canary is CheckOutcome.PASS
            and min(seconds) > 0
            and len(self._log_ratios) < _MOST_RATIOS
        ):
            insort(self._log_ratios, math.log(seconds[1] / seconds[0]))
            self._narrow()

    @property
    def nats(self) -> float:
        """Log evidence that the canary fails more often than stable; log(1 / 0.05) = 3.0 nats are enough for
        a risk of 5 %, however often one looks."""
        return _nats(self.canary_alone, self.stable_alone)

    @property
    def ratio(self) -> float | None:
        """Median of canary's duration / stable's over the pairs in which both passed; ``None``: there are
        none."""
        count = len(self._log_ratios)
        if not count:
            return None
        return math.exp((self._log_ratios[(count - 1) // 2] + self._log_ratios[count // 2]) / 2)

    @property
    def bounds(self) -> tuple[float, float]:
        """The ratio's lower and upper bound, right at all times together in 95 % of all sequences; 0 and
        infinity with too few pairs."""
        low, high = self._interval
        return math.exp(low), math.exp(high)

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
        return told

    def _narrow(self) -> None:
        """Cut the interval at the ratios that so many pairs refute as the median.

        If m is the median, each pair lies above it with probability 1/2 at least, and below it likewise; a
        bet against either that multiplies its stake by 2 / error rate refutes m. Source: Howard and Ramdas,
        "Sequential estimation of quantiles" (Bernoulli 28, 2022), with the e-process of `_nats`.
        """
        count = len(self._log_ratios)
        needed = math.log(2.0 / ERROR_RATE)
        while _nats(count - self._outside - 1, self._outside + 1) >= needed:
            self._outside += 1
        if self._outside >= 0:
            low, high = self._interval
            first, last = self._log_ratios[self._outside], self._log_ratios[count - 1 - self._outside]
            self._interval = max(low, first), min(high, last)
