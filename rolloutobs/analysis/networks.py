"""What is left of the evidence when the views of one network are left out.

Belongs here: evidence over groups of networks, one group left out at a time. A forger sits in one network, or
in few; a broken page breaks in all of them. Source: docs/verdict.md, "signed views".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rolloutobs.analysis.evidence import Clip, Counts, Null, Wealth, log_e
from rolloutobs.analysis.frame import Lag
from rolloutobs.analysis.model import PairCount
from rolloutobs.analysis.policy import Kind, Policy, Signal

__all__ = ["Networks"]

_LEFT_OUT = 8
"""Groups left out in turn, those with most canary events. Source: docs/verdict.md, "signed views"."""
_MOST = 64
"""Groups that are told apart; those that come later are one."""


class Networks:
    """Log wealth against the canary on all views, and on all but those of one group, for each group.

    The groups are not split by route: the evidence that is split is the signal's own, and the least of all is
    what counts. A minimum of an e-value and anything else is an e-value.
    """

    def __init__(self, signal: Signal, policy: Policy, null: Null) -> None:
        self._fewer = signal.kind is Kind.CONVERSION
        self._null = null
        self._rows: dict[str, int] = {}
        self._pending = Counts.zeros(0, 1)
        self._total = Counts.zeros(0, 1)
        self._lag = Lag(signal.lag)
        clip = Clip(policy.clip_nats, policy.clip_refill)
        self._wealth = Wealth((1,), null, clip, restarts=policy.restart_seconds > 0)

    def read(self, groups: Mapping[str, PairCount]) -> None:
        """Take what the groups counted in a tick."""
        rows = [self._row(group) for group in groups]
        values = np.zeros((len(self._rows), 4))
        for row, pair in zip(rows, groups.values(), strict=True):
            values[row] += (
                pair.canary_events,
                pair.canary_exposures,
                pair.stable_events,
                pair.stable_exposures,
            )
        now = Counts(values[:, :1], values[:, 1], values[:, 2:3], values[:, 3])
        self._pending = self._pending.plus(now)

    def _row(self, group: str) -> int:
        if group not in self._rows:
            if len(self._rows) == _MOST:
                return _MOST - 1
            self._rows[group] = len(self._rows)
        return self._rows[group]

    def gain(self, phi: float, seconds: float) -> None:
        """Use an interval of `seconds`, divided by the design effect known before it."""
        rows = len(self._rows)
        now, self._pending = self._pending.padded(rows), Counts.zeros(rows, 1)
        self._wealth.fork(rows + 1 - len(self._wealth.log))
        now = now.compared_with(*self._lag.exposures(seconds, now.canary, now.stable))
        self._total = self._total.plus(now)
        everything = Counts(*(part.sum(axis=0, keepdims=True) for part in now.parts))
        # What all but one group counted; rounding must not leave a trace of exposures where there were none.
        parts = [
            np.maximum(np.concatenate([all_, all_ - part]), 0.0)
            for all_, part in zip(everything.parts, now.parts, strict=True)
        ]
        self._wealth.gain(log_e(Counts(*parts), self._null)[:, 0, :] / phi, seconds)

    def restart(self) -> None:
        """Begin once more, beside what runs."""
        self._wealth.restart()

    @property
    def nats(self) -> float:
        """Log evidence without the group that makes most of it; 0 where nobody said where views came from."""
        if not self._rows:
            return 0.0
        nats = self._wealth.nats
        total = self._total.padded(len(nats) - 1)
        size = total.canary if self._fewer else total.canary_events[:, 0]
        largest = np.argsort(-size, kind="stable")[:_LEFT_OUT]
        return float(min(nats[0], nats[1 + largest].min(initial=np.inf)))
