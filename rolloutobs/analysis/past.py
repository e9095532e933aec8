"""Stable against its own past: is something wrong that both tracks share?

Belongs here: the pre-history in blocks, the present in windows, their comparison, and the canary's absolute
rate. One look at a time, not time-uniform: it can only delay a promotion. Source: docs/verdict.md, "stable
against its own past".
"""

from __future__ import annotations

from collections import deque

import numpy as np

from rolloutobs.analysis.evidence import Counts, Floats, log_e, log_mean_exp, more_than
from rolloutobs.analysis.policy import Past

__all__ = ["StablePast"]

_PRIOR, _PRIOR_DF = 1.2, 4.0


class StablePast:
    """Events (C,) and exposures of one signal over all strata: before the rollout, and lately.

    Attributes:
        seconds: pre-history that was seen.
    """

    def __init__(self, settings: Past) -> None:
        self._settings = settings
        self._blocks: dict[int, tuple[Floats, float]] = {}
        self._sums: deque[tuple[float, Counts]] = deque()
        self._nats: Floats | None = None
        self.seconds = 0.0

    def prehistory(self, start: float, end: float, counts: Counts) -> None:
        """Take stable's counts between `start` and `end`, both in seconds and at most 0."""
        block = int((start + end) / 2.0 // self._settings.block_seconds)
        events, exposures = counts.stable_events.sum(axis=0), float(counts.stable.sum())
        old = self._blocks.get(block, (np.zeros_like(events), 0.0))
        self._blocks[block] = (old[0] + events, old[1] + exposures)
        self.seconds += end - start

    def observe(self, end: float, counts: Counts) -> None:
        """Take both tracks' counts (warm or not) of an interval that ended at `end`."""
        now = _pooled(counts)
        self._nats = None
        if not self._sums:
            self._sums.append((float("-inf"), now.minus(now)))
        self._sums.append((end, self._sums[-1][1].plus(now)))
        while self._sums[1][0] <= end - max(self._settings.windows_seconds):
            self._sums.popleft()

    @property
    def is_known(self) -> bool:
        """Whether there is enough pre-history to compare with."""
        return bool(self._blocks) and self.seconds >= self._settings.minimum_seconds - 1e-6

    def nats(self) -> Floats | None:
        """Return the log e-value that stable is worse than its past, per channel; ``None``: not known.

        The mean over the windows, each divided by the scatter between the blocks of the past.
        """
        if self._nats is None and self.is_known and self._sums:
            self._nats = self._compared()
        return self._nats

    def _compared(self) -> Floats | None:
        past_events = np.sum([events for events, _ in self._blocks.values()], axis=0)
        past = float(sum(exposures for _, exposures in self._blocks.values()))
        if past <= 0:
            return None
        null = more_than(self._settings.ratio, self._settings.difference)
        phi = self._scatter(past_events / past)
        windows = []
        for seconds in self._settings.windows_seconds:
            now = self.window(seconds)
            pair = Counts(now.stable_events, now.stable, past_events[None, :], np.array([past]))
            windows.append(log_mean_exp(log_e(pair, null)[0] / phi[:, None]))
        return log_mean_exp(np.array(windows).T)

    def rates(self) -> tuple[Floats, Floats]:
        """Return stable's rate per channel in the past and in the shortest window; 0 where nothing was
        seen."""
        past_events = np.sum([events for events, _ in self._blocks.values()], axis=0)
        past = max(float(sum(exposures for _, exposures in self._blocks.values())), 1.0)
        now = self.window(min(self._settings.windows_seconds))
        return past_events / past, now.stable_events[0] / max(float(now.stable[0]), 1.0)

    def window(self, seconds: float) -> Counts:
        """Return the counts of the last `seconds`, over all strata; `seconds` is one of the settings'
        windows."""
        end, total = self._sums[-1]
        before = next(sums for at, sums in reversed(self._sums) if at <= end - seconds + 1e-6)
        return total.minus(before)

    def beyond(self, limit: float) -> tuple[float, float] | None:
        """Return the canary's events and exposures in the longest window, in the first channel; ``None``:
        they are not above `limit`."""
        if not self._sums:
            return None
        now = self.window(max(self._settings.windows_seconds))
        events, exposures = float(now.canary_events[0, 0]), float(now.canary[0])
        above = events >= self._settings.limit_events and events > limit * exposures
        return (events, exposures) if above else None

    def _scatter(self, rate: Floats) -> Floats:
        """Return the design effect over time, at least 1, per channel."""
        exposures = np.array([exposures for _, exposures in self._blocks.values()])[:, None]
        events = np.array([events for events, _ in self._blocks.values()])
        expected = exposures * rate
        chi2 = np.divide((events - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
        df = _PRIOR_DF + len(exposures) - 1
        return np.asarray(np.maximum(1.0, (_PRIOR * _PRIOR_DF + chi2.sum(axis=0)) / df))


def _pooled(counts: Counts) -> Counts:
    return Counts(
        counts.canary_events.sum(axis=0, keepdims=True),
        counts.canary.sum(keepdims=True),
        counts.stable_events.sum(axis=0, keepdims=True),
        counts.stable.sum(keepdims=True),
    )
