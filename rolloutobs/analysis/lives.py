"""What a target's process is besides its counters: when it began, and what it uses.

Belongs here: restarts, running time, memory and CPU of one target, from reading to reading. Does not belong
here: sides of the comparison (`ticks`), what follows from it (`resources`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.counters import MOVED_SECONDS, START_TIMES, Catalog, Growth, Series
from rolloutobs.analysis.model import Sample
from rolloutobs.analysis.signals import PROCESS_RESTARTS, PROCESS_SECONDS

__all__ = ["CPU", "GAUGES", "MEMORY", "Life", "Use"]

MEMORY: Final = (semconv.APP_PROCESS_RESIDENT_MEMORY_BYTES, "process_resident_memory_bytes")
"""Gauges of the memory that a process has in RAM, best first; the second is prometheus_client's own."""
CPU: Final = (semconv.APP_PROCESS_CPU_SECONDS_TOTAL, "process_cpu_seconds_total")
"""Counters of CPU time, likewise."""
GAUGES: Final = frozenset((*MEMORY, *CPU))
"""Names of samples to read besides those of signals. They are of single processes: never add them up."""

_OWN: Final = frozenset((*START_TIMES, *GAUGES))


@dataclass(frozen=True, slots=True)
class Use:
    """What one process used in one interval; ``None``: not known."""

    track: str
    version: str
    age_seconds: float
    """At the end of the interval."""
    seconds: float
    memory_bytes: float | None
    cpu_seconds: float | None


class Life:
    """The process of one target. Only samples with a track of their own count: a collector that reports both
    tracks is neither."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._at: float | None = None
        self._began: float | None = None
        self._version = ""
        self._cpu: float | None = None
        self._series: dict[tuple[str, str, str], Series] = {}

    def advance(self, samples: Iterable[Sample], at: float) -> tuple[Sequence[Growth], Use | None]:
        """Take in a reading at `at` (unix seconds); return the growth of running time and restarts, and the
        use since the last one.

        A process that began anew at a known address is a restart, unless it is of another version: then it
        was deployed. Several restarts between two readings look like one.
        """
        own = [each for each in samples if each.name in _OWN and each.labels.get(semconv.LABEL_TRACK)]
        began = _first(START_TIMES, own, min)
        if began is None:
            return (), None
        before, last = self._at, self._began
        self._at, self._began = at, began[0]
        is_new = last is not None and began[0] > last + MOVED_SECONDS
        version = began[1].labels.get(semconv.LABEL_VERSION, "")
        restarted = is_new and version == self._version
        self._version = version
        grown = () if before is None else self._grown(began[1], round(at) - round(before), restarted)
        return grown, self._use(own, began, (before, at), is_new)

    def _grown(self, start: Sample, seconds: int, restarted: bool) -> Sequence[Growth]:
        found = []
        for name, amount in ((PROCESS_SECONDS, seconds), (PROCESS_RESTARTS, int(restarted))):
            series = self._bound(name, start)
            if series.places:
                found.append(Growth(series, amount))
        return found

    def _bound(self, name: str, start: Sample) -> Series:
        track, version = (start.labels.get(n, "") for n in (semconv.LABEL_TRACK, semconv.LABEL_VERSION))
        key = (name, track, version)
        if key not in self._series:
            labels = {semconv.LABEL_TRACK: track, semconv.LABEL_VERSION: version}
            self._series[key] = self._catalog.series(name, labels)
        return self._series[key]

    def _use(
        self,
        own: Sequence[Sample],
        began: tuple[float, Sample],
        between: tuple[float | None, float],
        is_new: bool,
    ) -> Use | None:
        memory, cpu = _first(MEMORY, own, sum), _first(CPU, own, sum)
        before, self._cpu = self._cpu, cpu[0] if cpu else None
        since, at = between
        if since is None:
            return None
        spent = None
        if cpu is not None and before is not None and not is_new and cpu[0] >= before:
            spent = cpu[0] - before
        if memory is None and spent is None:
            return None
        return Use(
            track=began[1].labels.get(semconv.LABEL_TRACK, ""),
            version=began[1].labels.get(semconv.LABEL_VERSION, ""),
            age_seconds=max(at - began[0], 0.0),
            seconds=at - since,
            memory_bytes=memory[0] if memory else None,
            cpu_seconds=spent,
        )


def _first(names: Sequence[str], samples: Sequence[Sample], join: object) -> tuple[float, Sample] | None:
    """Return the joined value of the first name that has any, and one of its samples; workers behind one
    target have several."""
    for name in names:
        found = [s for s in samples if s.name == name and math.isfinite(s.value) and s.value >= 0]
        if found:
            values = [s.value for s in found]
            return (min(values) if join is min else sum(values)), found[0]
    return None
