"""Counters of one target: which signals a series feeds, and by how much it grew since the last reading.

Belongs here: selection of series and counter resets. Does not belong here: sides of the comparison, time,
ticks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.displays import TEXTS, Display
from rolloutobs.analysis.model import Sample, Stratum
from rolloutobs.analysis.policy import Kind, Selector, Signal
from rolloutobs.analysis.signals import PROCESS_RESTARTS, PROCESS_SECONDS

__all__ = [
    "MOVED_SECONDS",
    "START_TIMES",
    "Catalog",
    "Growth",
    "Need",
    "Place",
    "Role",
    "Series",
    "TargetCounters",
    "start_time",
]

START_TIMES: Final = (semconv.APP_START_TIME_SECONDS, "process_start_time_seconds")
"""Gauges that tell when a process began, best first; the second is prometheus_client's own."""

BUCKET: Final = "_bucket"

_MOST: Final = 2.0**53
"""Beyond this a float no longer counts one by one: no counter of events gets there honestly."""

MOVED_SECONDS: Final = 1.0
"""A start time moved when it differs by more: prometheus_client derives its own from boot time and ticks."""


class Role(Enum):
    """What a series is for a signal."""

    EVENTS = auto()
    EXPOSURES = auto()
    BUCKET = auto()
    SOURCE_EVENTS = auto()
    """By groups of networks; the stratum is the group."""
    SOURCE_EXPOSURES = auto()
    DISPLAY = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the growth of a series goes: a signal (or display), in which role, and in which stratum."""

    name: str
    role: Role
    stratum: Stratum
    """Sorted, but for a display in the order of ``Display.by``."""


@dataclass(slots=True)
class Series:
    """One time series of one target, with what has been read last; ``None``: never."""

    places: tuple[Place, ...]
    track: str
    version: str
    le: float | None
    group: object
    """Series that reset together: the buckets of one histogram share it, any other series has its own."""
    value: float | None = None
    signals: frozenset[str] = frozenset()
    """Names of the signals among `places`."""


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much a series grew since the last reading; an integer, zero included."""

    series: Series
    amount: int


@dataclass(frozen=True, slots=True)
class Need:
    """What of a metric's labels has to survive when its series are summed up over processes."""

    metric: str
    labels: tuple[str, ...]
    """Sorted; ``le`` included."""
    of_pods: tuple[str, ...] | None
    """The same where only the difference between pods is of interest; ``None``: it is not."""


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Tell whether `labels` satisfy every condition of `selector`; its metric name is not looked at."""
    for label, wanted in selector.labels.items():
        value = labels.get(label, "")
        if wanted.startswith("~"):
            if re.fullmatch(wanted[1:], value) is None:
                return False
        elif value != wanted:
            return False
    return True


_Rule = tuple[Selector, str, Role, tuple[str, ...]]
"""Which series, for which signal or display, as what, and by which labels."""


class Catalog:
    """Which metrics are wanted, and what a series of theirs is for."""

    _derived = frozenset((PROCESS_SECONDS, PROCESS_RESTARTS))

    def __init__(self, signals: Sequence[Signal], displays: Sequence[Display] = ()) -> None:
        self._rules: dict[str, list[_Rule]] = {}
        for signal in signals:
            if signal.sources is not None:
                by = (signal.sources.label,)
                for selector, role in (
                    (signal.sources.exposures, Role.SOURCE_EXPOSURES),
                    (signal.sources.events, Role.SOURCE_EVENTS),
                ):
                    self._add(selector.metric, (selector, signal.name, role, by))
            if signal.kind is Kind.LATENCY:
                metric = signal.exposures.metric + BUCKET
                self._add(metric, (signal.exposures, signal.name, Role.BUCKET, signal.strata))
                continue
            self._add(signal.exposures.metric, (signal.exposures, signal.name, Role.EXPOSURES, signal.strata))
            if signal.events is not None:
                self._add(signal.events.metric, (signal.events, signal.name, Role.EVENTS, signal.strata))
        for display in displays:
            self._add(display.selector.metric, (display.selector, display.name, Role.DISPLAY, display.by))

    def _add(self, metric: str, rule: _Rule) -> None:
        self._rules.setdefault(metric, []).append(rule)

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the samples that are needed, start times and texts included."""
        return frozenset(self._rules) - self._derived | frozenset(START_TIMES) | frozenset(TEXTS)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the counters may be summed up by, per metric, in the order of the signals."""
        return tuple(
            _need(metric, rules) for metric, rules in self._rules.items() if metric not in self._derived
        )

    def series(self, name: str, labels: Mapping[str, str]) -> Series:
        """Return a new series of these labels; one that nothing wants has no places."""
        places = tuple(
            Place(target, role, _stratum(role, by, labels))
            for selector, target, role, by in self._rules.get(name, ())
            if selects(selector, labels)
        )
        le = _bound(labels) if name.endswith(BUCKET) else None
        others = frozenset(item for item in labels.items() if item[0] != "le")
        if name.endswith(BUCKET) and le is None:
            places = ()
        return Series(
            places,
            labels.get(semconv.LABEL_TRACK, ""),
            labels.get(semconv.LABEL_VERSION, ""),
            le,
            (name, others),
            signals=frozenset(place.name for place in places if place.role is not Role.DISPLAY),
        )


def _need(metric: str, rules: Iterable[_Rule]) -> Need:
    own = {semconv.LABEL_APP, semconv.LABEL_TRACK, semconv.LABEL_VERSION}
    own |= {"le"} if metric.endswith(BUCKET) else set()
    labels, of_pods, is_of_pods = set(own), set(own), False
    for selector, _, role, by in rules:
        labels |= {*selector.labels, *by}
        if role in (Role.EVENTS, Role.EXPOSURES, Role.BUCKET):
            of_pods, is_of_pods = of_pods | set(selector.labels), True
    return Need(metric, tuple(sorted(labels)), tuple(sorted(of_pods)) if is_of_pods else None)


def _stratum(role: Role, by: tuple[str, ...], labels: Mapping[str, str]) -> Stratum:
    pairs = [(label, labels.get(label, "")) for label in by]
    return tuple(pairs if role is Role.DISPLAY else sorted(pairs))


def _bound(labels: Mapping[str, str]) -> float | None:
    """Return the ``le`` of a bucket; ``None`` when it is missing or not a number."""
    try:
        bound = float(labels.get("le", "nan"))
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def start_time(samples: Iterable[Sample]) -> float | None:
    """Return when the process behind `samples` began, in unix seconds; ``None`` when it does not say.

    Of several values (workers behind one target) the earliest counts: a replaced worker makes no new process.
    """
    found: dict[str, float] = {}
    for sample in samples:
        if sample.name in START_TIMES and math.isfinite(sample.value) and sample.value > 0:
            found[sample.name] = min(sample.value, found.get(sample.name, math.inf))
    return next((found[name] for name in START_TIMES if name in found), None)


class TargetCounters:
    """The counters of one target, from reading to reading."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._series: dict[tuple[str, frozenset[tuple[str, str]]], Series] = {}
        self._recent: dict[int, tuple[Mapping[str, str], str, Series]] = {}
        self._seen: dict[int, tuple[Mapping[str, str], str, Series]] = {}
        self._read = False
        self.started: float | None = None
        """When the process began, as last read, in unix seconds; ``None``: it never said."""

    @property
    def series(self) -> Iterable[Series]:
        """Every series seen so far, those that nothing wants included."""
        return self._series.values()

    def advance(self, samples: Sequence[Sample], born: bool) -> list[Growth]:
        """Take in a reading and return the growth of every wanted series in it.

        A series whose value fell was reset and grew by its new value; the buckets of a histogram reset
        together, and when the process's start time moved as well, so did all its counters. A series that is
        new counts from zero (its target was there before it), unless the whole target is new. Values that no
        counter has (NaN, negative, beyond 2^53) are not there. A series that is absent keeps its last value.

        Args:
            samples: the target's samples of the wanted metrics.
            born: the target is new but its process began after the watch did, so that all of it counts.

        Returns:
            One growth per wanted series, zero included: a histogram needs to know all its bounds.
        """
        baseline = not self._read and not born
        self._read = True
        self._recent, self._seen = self._seen, {}
        now = [(self._find(sample), sample.value) for sample in samples if 0 <= sample.value <= _MOST]
        fallen = {s.group for s, value in now if s.value is not None and value < s.value}
        if fallen and self._moved(start_time(samples)):
            fallen = {s.group for s, _ in now}
            self._restart(series for series, _ in now)
        grown: list[Growth] = []
        for series, value in now:
            before = series.value
            if before is None:
                before = value if baseline else 0.0
            elif series.group in fallen:
                before = 0.0
            series.value = value
            if series.places:
                grown.append(Growth(series, round(value - before)))
        self.started = start_time(samples) or self.started
        return grown

    def _restart(self, shown: Iterable[Series]) -> None:
        """Forget the values of the series that a new process does not show yet."""
        kept = {id(series) for series in shown}
        for series in self._series.values():
            if id(series) not in kept:
                series.value = None

    def forget_values(self) -> None:
        """Make the next reading a first one, so that what grew in between is not counted."""
        self._read = False
        for series in self._series.values():
            series.value = None

    def rebase(self, samples: Iterable[Sample], tracks: Collection[str]) -> list[Growth]:
        """Take `samples` for the last reading of the series of `tracks`; those of them that are not in it
        were not there.

        Returns:
            The wanted series, none of which has grown.
        """
        self._read = True
        for series in self._series.values():
            if series.track in tracks:
                series.value = None
        grown = []
        for sample in samples:
            if 0 <= sample.value <= _MOST:
                series = self._find(sample)
                series.value = sample.value
                grown += [Growth(series, 0)] if series.places else []
        return grown

    def _find(self, sample: Sample) -> Series:
        # Straight scraping hands over the same mapping again and again, which is cheaper to recognise than to
        # hash.
        known = self._recent.get(id(sample.labels))
        if known is not None and known[0] is sample.labels and known[1] == sample.name:
            found = known[2]
        else:
            key = (sample.name, frozenset(sample.labels.items()))
            found = self._series.get(key) or self._series.setdefault(
                key, self._catalog.series(sample.name, sample.labels)
            )
        self._seen[id(sample.labels)] = (sample.labels, sample.name, found)
        return found

    def _moved(self, started: float | None) -> bool:
        return started is not None and (self.started is None or abs(started - self.started) > MOVED_SECONDS)
