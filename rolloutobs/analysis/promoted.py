"""Which side of the comparison a track is on, also when a pod's track changes while it is judged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rolloutobs.analysis.tally import CANARY, STABLE
from rolloutobs.identity import Track

__all__ = ["SIDES", "Promoted"]

SIDES: Final[Mapping[str, str]] = {
    Track.CANARY.value: CANARY,
    Track.STABLE.value: STABLE,
    Track.BASELINE.value: STABLE,
}
"""Which side of the comparison a track is on; the baseline runs the old version, and is preferred where it
has traffic (`tally`)."""


class Promoted:
    """Keeps a version on the canary's side when its pods become stable while it is judged.

    A promoted pod changes its label and goes on; counted as stable it would be compared with itself.
    """

    def __init__(self, known: frozenset[str]) -> None:
        """Begin with the versions that are known to be the canary's, whatever their pods call themselves."""
        self._new = set(known)
        self._old: set[str] = set()

    def note(self, versions: Iterable[tuple[str, str]]) -> None:
        """Take the tracks and versions of a reading: new is what was the canary's before it was stable's."""
        found: dict[str | None, set[str]] = {CANARY: set(), STABLE: set()}
        for track, version in versions:
            if version:
                found[SIDES[track]].add(version)
        stable = found[STABLE]
        self._old |= stable - self._new
        fresh = found[CANARY] - self._old - self._new
        if fresh:
            # The next rollout: what was promoted in the last one is what runs.
            self._old |= self._new & stable
            self._new = (self._new - self._old) | fresh

    def side(self, track: str, version: str) -> str | None:
        """Return the side of a series; ``None``: it is not compared."""
        side = SIDES.get(track)
        return CANARY if side == STABLE and version in self._new else side
