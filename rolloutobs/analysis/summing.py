"""Readings in which one target stands for the processes of stable, as long as they do nothing but count.

Belongs here: which processes may be added up in a window, and what is asked of Prometheus. A process in
which anything else happened (a restart, a failed scrape, a series that is new) is read by itself for the
window, from its start on, like those of the canary: resets and silence are judged by the same code either
way.
Does not belong here: PromQL (`sums`).
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Self
from zlib import crc32

from rolloutobs import semconv
from rolloutobs.analysis.counters import BUCKET, Need
from rolloutobs.analysis.lives import GAUGES
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.promql import Found, PromQL
from rolloutobs.analysis.sides import Shape, Summable
from rolloutobs.analysis.sums import (
    PROCESS,
    Totals,
    bounds,
    fell,
    grown,
    instances,
    present,
    scrapes,
    selected,
    there,
    unshared,
)

__all__ = ["SUM", "Summing"]

SUM: Final = "stable, added up"
"""Name of the target that stands for stable's processes."""
_PART: Final = "{}, in the sum"
_MOST_STEPS: Final = 20
"""Of the past in one window: a process that restarts in it is read by itself for all of it."""
_AT_ONCE: Final = 4
"""Queries under way; Prometheus answers 20 at a time, and not only us."""
_BATCH: Final = 20
"""Processes that are read by themselves in one query."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Consecutive moments `step` seconds apart; the last one before them, `start`, has been read."""

    start: float
    step: float
    steps: int

    @property
    def times(self) -> list[float]:
        """Every moment, `start` included."""
        return [round(self.start + self.step * i, 3) for i in range(self.steps + 1)]

    @property
    def end(self) -> float:
        """The last moment."""
        return self.times[-1]


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Stable's processes in one window, by the label ``instance``."""

    odd: frozenset[str]
    """Something else than growth may have happened in them."""
    compared: frozenset[str]
    """It is read how much they differ."""


class _Way(Enum):
    """How the counters of a process of stable are read in a window, besides as a part of the sum."""

    NONE = auto()
    PART = auto()
    """Without what only tells its own series apart; it is compared with other processes."""
    ODD = auto()
    """As they are, and not in the sum."""


class Summing:
    """Reads window after window.

    Args:
        promql: whom to ask.
        metrics: names of the samples to read.
        shape: with what may be added up, and conditions that tell the sides apart.
    """

    def __init__(self, promql: PromQL, metrics: Collection[str], shape: Shape) -> None:
        self._promql, self._metrics, self._shape = promql, frozenset(metrics), shape
        self._settings = shape.summable or Summable(())
        common = f"{shape.common}," if shape.common else ""
        self._canary, self._stable = (common + condition for condition in shape.apart() or ("", ""))
        every = [need.metric for need in self._settings.needs]
        # Buckets are many; what has them has other counters too.
        self._counters = [name for name in every if not name.endswith(BUCKET)] or every
        # When a process began, and what it uses, is never added up.
        self._lives = self._metrics - set(every)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.known: set[str] = {SUM}
        """Targets that have been read: the sum, and those that were read by themselves."""
        self._begin_anew()

    @classmethod
    def of(cls, promql: PromQL, metrics: Collection[str], shape: Shape) -> Self | None:
        """Return one for series of `shape`; ``None`` where nothing may be added up, or nothing tells stable's
        series from the canary's beforehand."""
        needs = shape.summable.needs if shape.summable else ()
        return cls(promql, metrics, shape) if needs and shape.apart() else None

    async def is_worth_it(self, at: float) -> bool:
        """Tell whether stable has so many processes that they should be added up."""
        found = await self._present(at, self._settings.scrape_seconds)
        return len({series.target for series in found}) >= self._settings.processes

    async def read(self, now: float) -> Reading:
        """Return the next reading, of a moment of which all scrapes have been stored.

        Raises:
            SourceError: Prometheus does not answer, or refuses a query.
        """
        at = round(now - self._settings.settle_seconds, 3)
        if self._at is None:
            return await self._first(at)
        if at <= self._at:
            return Reading(self._at, {})
        window = _Window(self._at, round(at - self._at, 3), 1)
        (reading,) = await self._advance(window, await self._promql.unscraped(at))
        return reading

    async def history(self, start: float, end: float, step_seconds: float) -> list[Reading]:
        """Return readings of the past, oldest first; what is read next follows on the last of them.

        Raises:
            SourceError: Prometheus does not answer, or refuses a query.
        """
        self._begin_anew()
        step = round(step_seconds, 3)
        left = math.floor((end - self._settings.settle_seconds - start) / step + 1e-6)
        if left < 0:
            return []
        readings = [await self._first(round(start, 3))]
        try:
            while left > 0:
                window = _Window(readings[-1].at, step, min(left, _MOST_STEPS))
                readings += await self._advance(window, {})
                left -= window.steps
        except BaseException:
            # Whoever did not get these readings cannot go on from the last of them.
            self._begin_anew()
            raise
        return readings

    def _begin_anew(self) -> None:
        self._at: float | None = None
        self._odd: frozenset[str] = frozenset()
        self._totals = Totals()
        self._parts: dict[str, Totals] = {}
        self._ways: dict[str, _Way] = {}
        self._hidden: frozenset[tuple[str, str]] | None = None
        self._versions: set[str] = set()

    # --- one window -----------------------------------------------------------------------------------------

    async def _first(self, at: float) -> Reading:
        """Return the canary's counters; stable's count from here on, but whose they are is known."""
        needs = [need for need in self._settings.needs if need.metric in self._counters]
        found, lives, *sums = await asyncio.gather(
            self._at_once(selected(self._metrics, self._canary), at),
            self._at_once(selected(self._lives, self._stable), at),
            *(self._at_once(there(need, self._stable), at) for need in needs),
        )
        for need, answer in zip(needs, sums, strict=True):
            for series in answer:
                self._totals.add(need.metric, self._shape.of_stable(need.metric, series.labels), 0.0)
        self._at = at
        self._note(found, lives)
        self._ways = {series.target: _Way.NONE for series in lives}
        (reading,) = self._readings([*found, *lives], [at])
        return replace(
            reading, targets={**reading.targets, **self._summed(frozenset())}, sums=frozenset({SUM})
        )

    async def _advance(self, window: _Window, failed: Mapping[str, str]) -> list[Reading]:
        crowd = await self._crowd(window, failed)
        odd, canary, lives, sums, hidden, parts = await asyncio.gather(
            self._odd_ones(crowd, window),
            self._over(selected(self._metrics, self._canary), window, first=1),
            self._over(selected(self._lives, self._stable), window, first=1),
            self._grown(crowd, window),
            self._unshared(crowd, window),
            self._differing(crowd, window),
        )
        # Nothing below waits: a window is taken in as a whole or not at all.
        self._note(canary, [*lives, *odd])
        ways = {series.target: _Way.NONE for series in lives}
        ways |= {series.target: _Way.PART for series in parts}
        ways |= {series.target: _Way.ODD for series in odd}
        raw = self._readings(odd, window.times)
        begins = self._begins(ways, raw)
        self._parts = {
            name: self._parts.get(name) or Totals() for name, way in ways.items() if way is _Way.PART
        }
        made: list[Reading] = []
        own = self._readings([*canary, *_lives(lives, ways)], window.times)
        for apart, reading in zip(raw[1:], own[1:], strict=True):
            self._add(sums, parts, reading.at)
            targets = _joined(
                reading.targets, apart.targets, {n: totals.samples() for n, totals in self._parts.items()}
            )
            made.append(
                Reading(
                    reading.at,
                    {n: s for n, s in targets.items() if n not in failed} | self._summed(hidden),
                    {n: why for n, why in failed.items() if n in self.known},
                    sums=frozenset({SUM}),
                    parts=frozenset(self._parts),
                    before={} if made else begins,
                )
            )
        self._at, self._odd, self._hidden, self._ways = window.end, crowd.odd, hidden, ways
        return made

    def _begins(self, ways: Mapping[str, _Way], raw: Sequence[Reading]) -> dict[str, tuple[Sample, ...]]:
        """Return where the counters stand of those that are read in another way than in the last window."""
        begins = {}
        for name, way in ways.items():
            if self._ways.get(name, way) is way:
                continue
            if way is _Way.ODD:
                # Without a value at the start, the first one is none that anything grew to.
                begins[name] = next((r.targets[name] for r in raw if name in r.targets), ())
            elif way is _Way.PART:
                begins[name] = self._parts[name].samples() if name in self._parts else ()
        return begins

    def _readings(self, found: Iterable[Found], times: Sequence[float]) -> list[Reading]:
        steps: dict[float, dict[str, list[Sample]]] = {at: defaultdict(list) for at in times}
        for series in found:
            for at, value in series.points:
                steps[at][series.target].append(Sample(series.name, series.labels, value))
        return [
            self._shape.applied(Reading(at, {name: tuple(samples) for name, samples in targets.items()}))
            for at, targets in steps.items()
        ]

    def _note(self, canary: Iterable[Found], stable: Iterable[Found]) -> None:
        self.known |= {series.target for series in (*canary, *stable)}
        self._versions |= {series.labels.get(semconv.LABEL_VERSION, "") for series in canary} - {""}

    def _summed(self, hidden: Collection[tuple[str, str]]) -> dict[str, tuple[Sample, ...]]:
        return {SUM: self._totals.samples(hidden)} if self._totals else {}

    def _add(self, sums: Iterable[Found], parts: Iterable[Found], at: float) -> None:
        for series in sums:
            self._totals.add(series.name, self._shape.of_stable(series.name, series.labels), series.near(at))
        for series in parts:
            if series.target in self._parts:
                labels = self._shape.of_stable(series.name, series.labels)
                self._parts[series.target].add(series.name, labels, series.near(at))

    # --- who ------------------------------------------------------------------------------------------------

    async def _crowd(self, window: _Window, failed: Mapping[str, str]) -> _Crowd:
        # Far enough to see the last scrape before the window.
        seconds = window.end - window.start + self._settings.scrape_seconds
        processes = await self._present(window.end, seconds)
        jobs = {series.labels.get("job", "") for series in processes}
        up, new, *fallen = await asyncio.gather(
            self._at_once(scrapes("min_over_time", "up", jobs, seconds), window.end),
            self._at_once(scrapes("max_over_time", "scrape_series_added", jobs, seconds), window.end),
            *(self._at_once(fell(need, self._stable, seconds), window.end) for need in self._settings.needs),
        )
        # What is not known to be scraped well all the time may be anything.
        good = {series.target for series in up if series.last == 1}
        good &= {series.target for series in new if series.last == 0}
        good -= {series.target for each in fallen for series in each} | failed.keys()
        # And pods that were the canary's are no stable ones to the analysis, whatever they call themselves.
        odd = frozenset(
            _instance(series)
            for series in processes
            if series.target not in good or series.labels.get(semconv.LABEL_VERSION) in self._versions
        )
        return _Crowd(odd, self._compared({_instance(series) for series in processes} - odd))

    def _compared(self, instances: Iterable[str]) -> frozenset[str]:
        """Choose by a number of the name, so that those chosen stay the same while processes come and go."""
        ranked = sorted(instances, key=lambda name: (crc32(name.encode()), name))
        return frozenset(ranked[: self._settings.compared])

    async def _present(self, at: float, seconds: float) -> list[Found]:
        return await self._at_once(present(self._counters, self._stable, seconds), at)

    # --- what -----------------------------------------------------------------------------------------------

    async def _odd_ones(self, crowd: _Crowd, window: _Window) -> list[Found]:
        names = sorted(crowd.odd)
        answers = await asyncio.gather(
            *(
                self._over(
                    selected(self._metrics, self._stable, instances(names[i : i + _BATCH])), window, first=0
                )
                for i in range(0, len(names), _BATCH)
            )
        )
        return [series for answer in answers for series in answer]

    async def _grown(self, crowd: _Crowd, window: _Window) -> list[Found]:
        conditions = (self._stable, instances(crowd.odd, excluded=True))
        return await self._each_need(
            [(need, grown(need, need.labels, conditions, window.step)) for need in self._settings.needs],
            window,
        )

    async def _differing(self, crowd: _Crowd, window: _Window) -> list[Found]:
        if not crowd.compared:
            return []
        conditions = (self._stable, instances(crowd.compared))
        return await self._each_need(
            [
                (need, grown(need, (*need.of_pods, *PROCESS), conditions, window.step))
                for need in self._settings.needs
                if need.of_pods is not None
            ],
            window,
        )

    async def _each_need(self, queries: Sequence[tuple[Need, str]], window: _Window) -> list[Found]:
        answers = await asyncio.gather(*(self._over(query, window, first=1) for _, query in queries))
        return [
            replace(series, name=need.metric)
            for (need, _), answer in zip(queries, answers, strict=True)
            for series in answer
        ]

    async def _unshared(self, crowd: _Crowd, window: _Window) -> frozenset[tuple[str, str]]:
        """Return metric and ``le`` of the bounds that not every histogram has: they cannot be added up.

        They only change when a process comes to the crowd, or leaves it.
        """
        if self._hidden is not None and crowd.odd == self._odd:
            return self._hidden
        wanted = [
            need for need in self._settings.needs if need.metric.endswith(BUCKET) and need.of_pods is not None
        ]
        conditions = (self._stable, instances(crowd.odd, excluded=True))
        answers = await asyncio.gather(
            *(self._at_once(bounds(need, conditions), window.end) for need in wanted)
        )
        return frozenset(
            (need.metric, self._shape.of_stable(need.metric, {"le": le})["le"])
            for need, answer in zip(wanted, answers, strict=True)
            for le in unshared({series.labels.get("le", ""): series.last for series in answer})
        )

    async def _at_once(self, query: str, at: float) -> list[Found]:
        async with self._turn:
            return await self._promql.at(query, at)

    async def _over(self, query: str, window: _Window, *, first: int) -> list[Found]:
        async with self._turn:
            return await self._promql.over(query, window.times[first], window.end, window.step)


def _instance(series: Found) -> str:
    return series.labels.get("instance", "")


def _lives(found: Iterable[Found], ways: Mapping[str, _Way]) -> Iterator[Found]:
    """Yield when each process began, and what those use of which it is known what they do."""
    for series in found:
        way = ways[series.target]
        if way is _Way.PART or (way is _Way.NONE and series.name not in GAUGES):
            yield series


def _joined(*each: Mapping[str, Sequence[Sample]]) -> dict[str, tuple[Sample, ...]]:
    joined: dict[str, tuple[Sample, ...]] = {}
    for targets in each:
        for name, samples in targets.items():
            joined[name] = (*joined.get(name, ()), *samples)
    return joined
