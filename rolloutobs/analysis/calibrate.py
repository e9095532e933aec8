"""Stable's pods against each other: how often a good canary would be rolled back here, and what to tolerate.

Belongs here: each stable pod in turn as if it was the canary (an A/A test on recorded traffic), and what
follows for the tolerances. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rolloutobs import semconv
from rolloutobs.analysis.model import MetricVerdict, Reading, Sample
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.replay import Replayed, replay
from rolloutobs.analysis.tally import CANARY, STABLE

__all__ = ["Run", "Spread", "runs", "span", "spreads", "stable_pods", "windows"]

_FEWEST_EVENTS = 10
"""Of each side: below, a ratio says nothing about its pod."""
_FEWEST_RUNS = 5
# Standard normal quantile of 95 %.
_Z95 = 1.645
_STEP = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One pod against the others, in one window."""

    pod: str
    result: Replayed


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the pods of stable differ in one signal."""

    signal: str
    runs: int
    """With enough events to say something."""
    observed: float | None
    """95 % point of the ratio of a pod to the others, chance included; ``None``: too few runs."""
    pods: float | None
    """The same with chance taken out: what a tolerance has to cover."""
    tolerance: float
    """Of the policy."""

    @property
    def suggested(self) -> float:
        """What `tolerance_ratio` should be; never less than it is."""
        needed = 1.0 if self.pods is None else math.ceil(self.pods / _STEP - 1e-9) * _STEP
        return max(self.tolerance, round(needed, 2))


def stable_pods(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return the targets with series of stable, sorted."""
    found = {
        name
        for reading in readings
        for name, samples in reading.targets.items()
        if any(s.labels.get(semconv.LABEL_TRACK) == STABLE for s in samples)
    }
    return tuple(sorted(found))


def windows(first: float, last: float, policy: Policy) -> list[float]:
    """Return the starts of windows between two unix times, each as long as the policy's deadline.

    The first leaves room for as much of stable's past before it, where there is as much.
    """
    length = policy.deadline_seconds
    starts = [first + min(length, max(last - first - length, 0.0))]
    while starts[-1] + 2 * length <= last:
        starts.append(starts[-1] + length)
    return starts


def span(start: float, policy: Policy) -> tuple[float, float]:
    """Return from when to when a window that begins at `start` has to be read: with as long a past."""
    return start - policy.deadline_seconds, start + policy.deadline_seconds


def runs(readings: Sequence[Reading], pods: Sequence[str], start: float, policy: Policy) -> Iterable[Run]:
    """Yield each pod's run in the window that begins at `start`.

    Args:
        readings: of all pods over the `span` of the window, oldest first.
        pods: which take the canary's place, one after the other.
        start: of the window, in unix seconds.
        policy: what decides.
    """
    step = min((b.at - a.at for a, b in pairwise(readings)), default=15.0)
    for pod in pods:
        renamed: dict[int, tuple[Mapping[str, str], Mapping[str, str]]] = {}
        seen = [_as_canary(each, pod, start, renamed) for each in readings]
        yield Run(pod, replay(seen, start, policy, max(3.5 * step, 5.0)))


def _as_canary(
    reading: Reading, pod: str, start: float, renamed: dict[int, tuple[Mapping[str, str], Mapping[str, str]]]
) -> Reading:
    """Return `reading` with `pod` as the canary from `start` on, not there before, and no other canary."""
    targets = {}
    for name, samples in reading.targets.items():
        if name == pod:
            if reading.at >= start:
                targets[name] = tuple(_renamed(s, renamed) for s in samples)
            continue
        targets[name] = tuple(s for s in samples if s.labels.get(semconv.LABEL_TRACK) != CANARY)
    return replace(reading, targets=targets)


def _renamed(sample: Sample, known: dict[int, tuple[Mapping[str, str], Mapping[str, str]]]) -> Sample:
    labels = sample.labels
    if labels.get(semconv.LABEL_TRACK) != STABLE:
        return sample
    found = known.get(id(labels))
    if found is None or found[0] is not labels:
        found = known[id(labels)] = (labels, {**labels, semconv.LABEL_TRACK: CANARY})
    return replace(sample, labels=found[1])


def spreads(found: Sequence[Run], policy: Policy) -> list[Spread]:
    """Return how much pods differ, per signal that may roll back.

    The variance of the log ratios is that of the pods plus that of chance, which is about the sum of the two
    reciprocal numbers of events (DerSimonian and Laird 1986, Controlled Clinical Trials 7:177, the moment
    estimator).
    """
    metrics = [
        metric for run in found if run.result.verdict is not None for metric in run.result.verdict.metrics
    ]
    return [
        _spread(
            signal.name,
            [m for m in metrics if m.signal == signal.name and _speaks(m)],
            signal.tolerance_ratio,
        )
        for signal in policy.signals
        if policy.may_roll_back(signal)
    ]


def _speaks(metric: MetricVerdict) -> bool:
    total = metric.total
    return bool(metric.ratio.estimate) and min(total.canary_events, total.stable_events) >= _FEWEST_EVENTS


def _spread(name: str, metrics: Sequence[MetricVerdict], tolerance: float) -> Spread:
    if len(metrics) < _FEWEST_RUNS:
        return Spread(name, len(metrics), None, None, tolerance)
    logs = np.log([m.ratio.estimate or 1.0 for m in metrics])
    chance = np.mean([1.0 / m.total.canary_events + 1.0 / m.total.stable_events for m in metrics])
    variance = max(float(np.var(logs, ddof=1) - chance), 0.0)
    return Spread(
        name,
        len(metrics),
        observed=float(np.exp(np.quantile(logs, 0.95))),
        pods=math.exp(_Z95 * math.sqrt(variance)),
        tolerance=tolerance,
    )
