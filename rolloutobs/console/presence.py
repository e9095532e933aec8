"""Which rollout a canary belongs to, from what is read of it. Pure.

A version that was never the canary of this rollout is another rollout's, where none of this one's is left.
The same version is, when it comes back long after its rollout was decided.
"""

from __future__ import annotations

from collections.abc import Iterable

from rolloutobs import semconv
from rolloutobs.analysis.canaries import versions_of_canaries
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.tally import CANARY
from rolloutobs.console.model import GONE_SECONDS, Rollout, RolloutOverError

__all__ = ["Presence"]


class Presence:
    """Whether the canary of one rollout is there.

    Args:
        rollout: the rollout, as it was left.
        version: its canary's version, as known from before; empty: not known.
    """

    def __init__(self, rollout: Rollout, version: str = "") -> None:
        self._versions = {version} - {""}
        self._last = rollout.began
        self._others: set[str] = set()
        """Targets that were not the canary's when they last answered."""
        self.has_canary = False
        self.gone_since = rollout.gone_since

    def note(self, reading: Reading, *, is_decided: bool) -> None:
        """Take in a reading; one in which nothing answered says nothing.

        Raises:
            RolloutOverError: the canary is another rollout's.
        """
        if not reading.targets:
            return
        present = versions_of_canaries(reading)
        answered = {name for name, samples in reading.targets.items() if not _is_canarys(samples)}
        self._others = answered | self._others & set(reading.failed)
        if present:
            self._check(present, reading.at, is_decided)
            self._versions |= present
            self.gone_since = None
        elif self._versions and set(reading.failed) <= self._others and self.gone_since is None:
            self.gone_since = reading.at
        self.has_canary, self._last = bool(present), reading.at

    def _check(self, present: set[str], at: float, is_decided: bool) -> None:
        if self._versions and not present & self._versions:
            raise RolloutOverError(
                f"the canary is {_listed(present)} now, and was {_listed(self._versions)}", self._last
            )
        gone = 0.0 if self.gone_since is None else at - self.gone_since
        if is_decided and gone >= GONE_SECONDS:
            raise RolloutOverError(
                f"the canary {_listed(present)} is back after {gone:.0f} s".replace("  ", " "), self._last
            )


def _is_canarys(samples: Iterable[Sample]) -> bool:
    return any(sample.labels.get(semconv.LABEL_TRACK) == CANARY for sample in samples)


def _listed(versions: set[str]) -> str:
    return ", ".join(sorted(versions)) or "of no version"
