"""Memory and CPU of the canary's processes against stable's, at the same age; and memory that runs out.

Belongs here: what is kept per process, levels, slopes. A handful of processes is no sample: there is no bound
on being wrong, margins are wide, and all that follows is a promotion that waits. Source: docs/verdict.md,
"memory and CPU".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rolloutobs.analysis.evidence import Floats
from rolloutobs.analysis.model import PodUse, ResourceVerdict
from rolloutobs.analysis.policy import Policy, Resources

__all__ = ["Process", "ResourceWatch"]

_AGE, _SECONDS, _MEMORY, _CPU, _REQUESTS = range(5)
"""Columns of `Process.points`; NaN: not known."""
_MOST_POINTS = 120
"""Beyond that neighbours are merged."""
_MOST_PROCESSES = 24
"""Of each track; the one that was silent longest makes room."""
_LATELY = 300.0
"""A level is what a process used in the last so many seconds."""
_GONE = 90.0
"""A process that was not read for so long has ended."""
_ALIKE = 2.0
"""Ages within this factor are the same age."""
_FEWEST_REQUESTS = 100.0
"""Fewer say nothing about the CPU time of one."""
_FEWEST_POINTS = 12
"""Fewer make no slope."""
_GROWTH = 0.02
"""Less growth of memory, relative to its level, is none."""


class Process:
    """One process over time.

    Attributes:
        seen: when it was last read, in seconds since the canary first took traffic.
        points: rows of age at the end, seconds, memory, CPU seconds and requests, oldest first.
    """

    def __init__(self) -> None:
        self.seen = float("-inf")
        self.points: Floats = np.zeros((0, 5))

    def add(self, at: float, use: PodUse) -> None:
        """Take one tick; a process that got younger is a new one."""
        if len(self.points) and use.age_seconds < self.points[-1, _AGE]:
            self.points = self.points[:0]
        memory = np.nan if use.memory_bytes is None else use.memory_bytes
        cpu = np.nan if use.cpu_seconds is None else use.cpu_seconds
        self.points = np.vstack([self.points, [use.age_seconds, use.seconds, memory, cpu, use.requests]])
        if len(self.points) > 2 * _MOST_POINTS:
            self.points = _halved(self.points)
        self.seen = at

    @property
    def age(self) -> float:
        """Its age in seconds when it was last read."""
        return float(self.points[-1, _AGE])

    def level(self, low: float, high: float) -> Level | None:
        """Return what it used between two ages; ``None``: it was not read then."""
        age = self.points[:, _AGE]
        chosen = self.points[(age > low) & (age <= high)]
        return Level(chosen) if len(chosen) else None

    def slope(self, low: float, high: float) -> float | None:
        """Return the growth of its memory between two ages in bytes per second, by Theil and Sen's median of
        all slopes between two points (Sen, JASA 63:1379, 1968); ``None``: too few points."""
        age = self.points[:, _AGE]
        chosen = self.points[(age > low) & (age <= high) & ~np.isnan(self.points[:, _MEMORY])]
        if len(chosen) < _FEWEST_POINTS:
            return None
        at, memory = chosen[:, _AGE], chosen[:, _MEMORY]
        one, two = np.triu_indices(len(at), 1)
        return float(np.median((memory[two] - memory[one]) / np.maximum(at[two] - at[one], 1e-9)))


class Level:
    """What a process used over some of its points; ``None``: not known."""

    def __init__(self, points: Floats) -> None:
        memory = points[~np.isnan(points[:, _MEMORY]), _MEMORY]
        timed = points[~np.isnan(points[:, _CPU])]
        seconds, cpu, requests = (float(timed[:, i].sum()) for i in (_SECONDS, _CPU, _REQUESTS))
        self.memory = float(np.median(memory)) if len(memory) else None
        self.cores = cpu / seconds if seconds > 0 else None
        self.per_request = cpu / requests if requests >= _FEWEST_REQUESTS else None


class ResourceWatch:
    """Memory and CPU of both tracks over a rollout."""

    def __init__(self, policy: Policy) -> None:
        self._settings: Resources = policy.resources
        self._minimum = max(policy.resources.minimum_seconds, policy.warmup_seconds)
        self._canary: dict[str, Process] = {}
        self._stable: dict[str, Process] = {}
        self._at = float("-inf")
        self._verdicts: tuple[ResourceVerdict, ...] | None = ()

    def observe(self, at: float, uses: Iterable[PodUse]) -> None:
        """Take a tick that ended at `at`."""
        self._at = at
        for use in uses:
            mine, other = (self._canary, self._stable) if use.canary else (self._stable, self._canary)
            # A canary that is promoted goes on as stable.
            process = mine.get(use.pod) or other.pop(use.pod, None) or Process()
            mine[use.pod] = process
            process.add(at, use)
            if len(mine) > _MOST_PROCESSES:
                del mine[min(mine, key=lambda pod: mine[pod].seen)]
            self._verdicts = None

    def verdicts(self) -> tuple[ResourceVerdict, ...]:
        """Return the comparisons that can be made now."""
        if self._verdicts is None:
            found = (self._memory(), self._cpu(), self._growth())
            self._verdicts = tuple(each for each in found if each is not None)
        return self._verdicts

    def _present(self) -> list[Process]:
        """Return the canary processes that run now and are old enough."""
        running = [each for each in self._canary.values() if each.seen >= self._at - _GONE]
        return [each for each in running if each.age >= self._minimum]

    def _pairs(self) -> tuple[list[Level], list[Level], bool, float]:
        """Return recent levels of the canary's processes, those of stable's to compare with, whether these
        are of the same age, and the age."""
        present = self._present()
        age = float(np.median([each.age for each in present])) if present else 0.0
        canary = [each.level(each.age - _LATELY, each.age) for each in present]
        alike = [each.level(age / _ALIKE, age * _ALIKE) for each in self._stable.values()]
        same = any(each is not None for each in alike)
        older = [each.level(max(each.age - _LATELY, age), each.age) for each in self._stable.values()]
        return _known(canary), _known(alike if same else older), same, age

    def _memory(self) -> ResourceVerdict | None:
        canary, stable, same, age = self._pairs()
        mine = _values(each.memory for each in canary)
        theirs = _values(each.memory for each in stable)
        if not mine or not theirs:
            return None
        settings, level, most = self._settings, float(np.median(mine)), max(theirs)
        above = level > settings.memory_ratio * most + settings.memory_difference_bytes
        return ResourceVerdict("memory", level, most, age, same, above)

    def _cpu(self) -> ResourceVerdict | None:
        canary, stable, same, age = self._pairs()
        mine, theirs = (_values(each.cores for each in side) for side in (canary, stable))
        if not mine or not theirs:
            return None
        settings, level, most = self._settings, float(np.median(mine)), max(theirs)
        above = level > settings.cpu_ratio * most + settings.cpu_difference_cores
        each_mine, each_theirs = (_values(each.per_request for each in side) for side in (canary, stable))
        if each_mine and each_theirs:
            above = above and float(np.median(each_mine)) > settings.cpu_ratio * max(each_theirs)
        return ResourceVerdict("cpu", level, most, age, same, above)

    def _growth(self) -> ResourceVerdict | None:
        """Tell when the canary's memory reaches the limit, if it goes on growing as it does."""
        limit = self._settings.memory_limit_bytes
        if limit is None:
            return None
        found = []
        for process in self._present():
            low, age = max(self._minimum / 2.0, process.age / 3.0), process.age
            halves = [process.slope(low, (low + age) / 2.0), process.slope((low + age) / 2.0, age)]
            whole, level = process.slope(low, age), process.level(age - _LATELY, age)
            if whole is None or level is None or level.memory is None:
                continue
            steady = all(each is not None and each > 0 for each in halves)
            grows = whole * (age - low) > _GROWTH * level.memory
            others = [each.slope(low, age) for each in self._stable.values()]
            usual = max(_values(others), default=0.0)
            if steady and grows and whole > 2.0 * usual:
                found.append((max(limit - level.memory, 0.0) / whole, level.memory, age))
        if not found:
            return None
        left, memory, age = min(found)
        soon = left < self._settings.horizon_seconds
        return ResourceVerdict("memory_growth", memory, limit, age, True, soon, left)


def _known(levels: Iterable[Level | None]) -> list[Level]:
    return [each for each in levels if each is not None]


def _values(values: Iterable[float | None]) -> Sequence[float]:
    return [each for each in values if each is not None]


def _halved(points: Floats) -> Floats:
    """Merge neighbours in pairs: times, CPU and requests add up, memory and age are the later ones."""
    odd = len(points) % 2
    one, two = points[odd::2], points[odd + 1 :: 2]
    merged = two.copy()
    for column in (_SECONDS, _CPU, _REQUESTS):
        merged[:, column] = one[:, column] + two[:, column]
    return np.vstack([points[:odd], merged])
