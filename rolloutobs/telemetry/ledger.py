"""Which part of the counts belongs to which track, written down where all workers of one server find it.

Workers notice a change of the track at different moments. The first one writes down what the totals were, and
the others take that over, at the latest when they answer a scrape: so every worker gives the same answer.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from rolloutobs.identity import Track
from rolloutobs.telemetry.generations import Frozen, Generations, Totals

__all__ = ["MEMORY_LEDGER", "Ledger", "restore", "to_json"]


class Ledger(Protocol):
    """Where `Generations` are written down."""

    def reading(self) -> AbstractContextManager[object]:
        """Hold off changes while totals are read and told."""

    def writing(self) -> AbstractContextManager[object]:
        """Be the only one who reads or changes."""

    def take_over(self, generations: Generations) -> bool:
        """Bring `generations` up to what another worker has written; return whether it had."""

    def write(self, generations: Generations) -> None:
        """Write `generations` down."""


class _Memory:
    def reading(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def writing(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def take_over(self, generations: Generations) -> bool:
        return False

    def write(self, generations: Generations) -> None:
        pass


MEMORY_LEDGER: Ledger = _Memory()
"""For a process of its own."""


def to_json(generations: Generations) -> dict[str, Any]:
    """Return the state of `generations` as JSON can hold it."""
    g = generations
    return {
        "track": g.track,
        "start": _totals(g.start),
        "carried": _totals(g.carried),
        "earlier": [[track, was.since, list(map(_metric, was.metrics))] for track, was in g.earlier.items()],
    }


def _totals(totals: Totals) -> list[Any]:
    return [[name, labels, value] for (name, labels), value in totals.items()]


def _metric(metric: Metric) -> list[Any]:
    samples = [[sample.name, sample.labels, sample.value] for sample in metric.samples]
    return [metric.name, metric.documentation, metric.type, metric.unit, samples]


def restore(generations: Generations, content: Any) -> None:
    """Put what `to_json` has made into `generations`, all of it or nothing.

    Raises:
        KeyError, TypeError, ValueError: it was not made by `to_json`.
    """
    start, carried = _read_totals(content["start"]), _read_totals(content["carried"])
    earlier = {
        str(track): Frozen(float(since), tuple(map(_read_metric, metrics)))
        for track, since, metrics in content["earlier"]
    }
    track = Track(content["track"]).value
    generations.start, generations.carried = start, carried
    generations.earlier, generations.track = earlier, track


def _read_totals(content: Any) -> Totals:
    return {(name, tuple((k, v) for k, v in labels)): float(value) for name, labels, value in content}


def _read_metric(content: Any) -> Metric:
    name, documentation, kind, unit, samples = content
    metric = Metric(name, documentation, kind, unit)
    metric.samples = [Sample(sample, labels, float(value)) for sample, labels, value in samples]
    return metric
