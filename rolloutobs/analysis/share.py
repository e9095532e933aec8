"""Does the canary get the traffic that it was given? A sample-ratio test against the configured weight.

Belongs here: evidence that the canary counts fewer requests than a part of its weight. A canary that is dead,
refuses connections or fails its probes has few errors to show, as it has few requests. Does not belong here:
what is done about it (`verdict`), the words (`wording`).

Source: docs/verdict.md, "the share of the traffic".
"""

from __future__ import annotations

from collections import deque
from math import inf, log

import numpy as np

from rolloutobs.analysis.evidence import Clip, Floats, Null, Wealth
from rolloutobs.analysis.model import Evidence, ShareVerdict, Side
from rolloutobs.analysis.policy import OnSilence, Policy, Share

__all__ = ["Boundary", "ShareTest"]

_PARTS: Floats = np.array([0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.03])
"""Alternatives: the canary gets so much of what the null grants it. Source: docs/verdict.md, "the share"."""
_PRIOR_DF = 8.0


class Boundary:
    """Wealth against "the canary gets at least `factor` times its weight"."""

    def __init__(self, factor: float, clip: Clip) -> None:
        self.factor = factor
        self.wealth = Wealth((1,), Null(1.0, 0.0, _PARTS), clip, restarts=True)

    def gain(self, canary: float, total: float, weight: float, scatter: float, seconds: float) -> None:
        """Take an interval's exposures; `scatter` is the chi2 per interval of those before it."""
        share = self.factor * weight
        logs = canary * np.log(_PARTS) + (total - canary) * np.log((1.0 - _PARTS * share) / (1.0 - share))
        # Routing is not random draws: connections stick. .3 is a coefficient of variation per interval.
        phi = max(1.0 + 0.3**2 * total * share, scatter)
        self.wealth.gain(logs[None, :] / phi, seconds)

    @property
    def nats(self) -> float:
        """Log evidence."""
        return float(self.wealth.nats[0])


class ShareTest:
    """The requests of both tracks per interval, against the lowest weight that was lately configured.

    A weight takes a while to reach every proxy and a while to be counted, so what counts is the lowest of the
    last 75 s. While none is known, or it is 0, nothing is tested; when it falls, the test begins anew.
    """

    def __init__(self, policy: Policy) -> None:
        self._settings: Share = policy.share
        self._clip = Clip(policy.clip_nats, policy.clip_refill)
        self._weights: deque[tuple[float, float | None]] = deque([(0.0, 0.0)])
        self._lately: deque[tuple[float, float, float, float]] = deque()
        self.weight: float | None = None
        self._begin()

    def _begin(self) -> None:
        self.hold = Boundary(self._settings.hold_factor, self._clip)
        self.rollback = Boundary(self._settings.rollback_factor, self._clip)
        self._last: tuple[float, float] | None = None
        self._chi2, self._df = 0.0, 0.0
        self._since_restart = 0.0

    def observe(
        self, end: float, seconds: float, exposures: tuple[float, float], weight: float | None
    ) -> None:
        """Take an interval in which every target answered.

        Args:
            end: its end, in seconds since the canary first took traffic.
            seconds: its length.
            exposures: of canary and stable; an interval without any of stable says nothing.
            weight: the lowest share configured in it, 0 to 1; ``None``: not known, the policy's is taken.
        """
        self._weigh(end, self._settings.weight if weight is None else weight)
        canary, stable = exposures
        self._lately.append((end, seconds, canary, stable))
        while self._lately[0][0] <= end - self._settings.silence_seconds:
            self._lately.popleft()
        if self._settings.on_silence is OnSilence.IGNORE or not self.weight or stable <= 0:
            return
        self._use(canary, canary + stable, self.weight, seconds)

    def _weigh(self, end: float, weight: float | None) -> None:
        """Find the weight that counts, and begin anew where it was lowered."""
        known = self._weights[-1][1]
        if known is not None and weight is not None and weight < known:
            self._begin()
        self._weights.append((end, weight))
        while len(self._weights) > 1 and self._weights[0][0] < end - self._settings.lag_seconds:
            self._weights.popleft()
        values = [each for _, each in self._weights]
        self.weight = None if None in values else min((v for v in values if v is not None), default=None)

    def _use(self, canary: float, total: float, weight: float, seconds: float) -> None:
        scatter = (_PRIOR_DF + self._chi2) / (_PRIOR_DF + self._df)
        for boundary in (self.hold, self.rollback):
            boundary.gain(canary, total, weight, scatter, seconds)
        if self._last is not None:
            # Successive differences: residuals around a mean would let a loss inflate phi against itself.
            before, all_before = self._last
            expected = max(total * (canary + before) / (total + all_before), 1.0)
            self._chi2 += (canary - before * total / all_before) ** 2 / (2.0 * expected)
            self._df += 1.0
        self._last = (canary, total)
        self._since_restart += seconds
        if self._since_restart >= self._settings.restart_seconds - 1e-6:
            self._since_restart = 0.0
            self.hold.wealth.restart()
            self.rollback.wealth.restart()

    # --- what it says -------------------------------------------------------------------------------------

    @property
    def received(self) -> tuple[float, float]:
        """Requests of the canary and of both tracks in the last 5 min."""
        canary = sum(each[2] for each in self._lately)
        return canary, canary + sum(each[3] for each in self._lately)

    @property
    def is_tested(self) -> bool:
        """Whether a weight is known and asked for."""
        return bool(self.weight) and self._settings.on_silence is not OnSilence.IGNORE

    def holds(self) -> bool:
        """Whether promotion is held now."""
        return self.is_tested and self.hold.nats >= log(self._settings.hold_evidence)

    def rolls_back(self, at: float) -> bool:
        """Whether it is reason enough for a rollback at `at` seconds."""
        settings = self._settings
        if settings.on_silence is not OnSilence.ROLLBACK or not self.is_tested:
            return False
        return at >= settings.rollback_after_seconds and self.rollback.nats >= log(settings.rollback_evidence)

    def verdict(self) -> ShareVerdict | None:
        """Return what it says; ``None`` while no weight is known."""
        if not self.is_tested:
            return None
        settings, (canary, total) = self._settings, self.received
        roll = settings.on_silence is OnSilence.ROLLBACK
        return ShareVerdict(
            weight=self.weight or 0.0,
            received=canary / total if total > 0 else None,
            evidence=(
                Evidence(Side.HOLD, self.hold.nats, log(settings.hold_evidence)),
                Evidence(Side.ROLLBACK, self.rollback.nats, log(settings.rollback_evidence) if roll else inf),
            ),
        )
