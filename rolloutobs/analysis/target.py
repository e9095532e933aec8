"""One target from reading to reading: its counters, its process, and what it is of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rolloutobs.analysis.counters import Catalog, Growth, TargetCounters
from rolloutobs.analysis.lives import Life
from rolloutobs.analysis.promoted import SIDES

__all__ = ["Target"]


class Target:
    """What the ticker remembers of one target; its attributes are as of the last reading that had it."""

    def __init__(self, catalog: Catalog, at: float) -> None:
        self.counters = TargetCounters(catalog)
        self.life = Life(catalog)
        self.answered = at
        self.exposed: float | None = None
        """When it first counted something of the canary."""
        self.tracks: frozenset[str] = frozenset()
        self.versions: frozenset[tuple[str, str]] = frozenset()
        """Pairs of track and version."""
        self.signals: frozenset[str] = frozenset()
        self.samples = 0
        """How many it showed the last time."""

    def note(self, at: float, grown: Sequence[Growth]) -> None:
        """Note what it has shown at `at`."""
        self.answered = at
        live = [g.series for g in grown if g.series.track in SIDES]
        self.versions = frozenset((series.track, series.version) for series in live) or self.versions
        self.tracks = frozenset(track for track, _ in self.versions)
        # Series of one signal share a set of its name: there are few to join.
        self.signals = frozenset().union(*{series.signals for series in live}) or self.signals

    def is_cold(self, since: float, warmup_seconds: float) -> bool:
        """Tell whether its process was warming up at `since`; of unknown age, it began with its first
        traffic."""
        birth = self.counters.started if self.counters.started is not None else self.exposed
        return warmup_seconds > 0 and birth is not None and since < birth + warmup_seconds
