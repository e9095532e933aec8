"""Counts by track: after a change of the track every counter starts from zero under the new one.

Cells only ever add up; which part of a total belongs to which track is worked out when metrics are rendered,
from what the totals were at the change. So the app's own metrics follow the track as well, and a request
costs nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from rolloutobs import semconv

__all__ = ["Frozen", "Generations", "Key", "Totals"]

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name of a sample and its labels, sorted."""
Totals = dict[Key, float]
ADDITIVE = frozenset({"counter", "histogram", "gaugehistogram", "summary"})
"""Types of which a part can be told by subtraction; all others belong to the moment."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What an earlier track has counted, as it was when the track changed."""

    since: float
    """Time of the change, of the clock that `Generations` is given."""
    metrics: tuple[Metric, ...]

    def totals(self) -> Totals:
        """Return its values."""
        return {key_of(sample): sample.value for metric in self.metrics for sample in metric.samples}


@dataclass(slots=True)
class Generations:
    """Which part of the totals belongs to which track.

    A track that comes back while its counts are still exposed goes on from them, so no counter goes
    backwards; one that comes back later starts from zero.
    """

    track: str
    """The track of now; empty: none is known."""
    keep_seconds: float
    """How long the counts of an earlier track stay exposed."""
    start: Totals = field(default_factory=dict)
    """Totals at the last change."""
    carried: Totals = field(default_factory=dict)
    """What the track of now had counted when it was the track before."""
    earlier: dict[str, Frozen] = field(default_factory=dict)
    """By track."""

    def switch(self, track: str, metrics: Iterable[Metric], now: float) -> None:
        """Change to `track`.

        Args:
            track: the new one.
            metrics: all metrics of the process, not stamped, at this moment.
            now: seconds, of any clock that goes on in all workers.
        """
        if track == self.track:
            return
        additive = [metric for metric in metrics if metric.type in ADDITIVE]
        parts = tuple(_with(metric, list(self._part(metric))) for metric in additive)
        self.earlier[self.track] = Frozen(now, parts)
        self._forget(now)
        back = self.earlier.pop(track, None)
        self.carried = {} if back is None else back.totals()
        self.start = {key_of(sample): sample.value for metric in additive for sample in metric.samples}
        self.track = track

    def split(self, metrics: Iterable[Metric], now: float) -> Iterator[Metric]:
        """Yield each metric with only the part of the track of now, followed by what earlier tracks had of
        it.

        All of one name come in one metric, whose samples of earlier tracks carry their track.
        """
        self._forget(now)
        if not self.start and not self.earlier:
            yield from metrics
            return
        old = self.left()
        for metric in metrics:
            samples = [*(self._part(metric) if metric.type in ADDITIVE else metric.samples)]
            gone = old.pop(metric.name, None)
            yield _with(metric, samples if gone is None else samples + gone.samples)
        # Its owner is gone, its counts are not.
        yield from old.values()

    def left(self) -> dict[str, Metric]:
        """Return what earlier tracks had counted, by name of the metric; each sample carries its track."""
        old: dict[str, Metric] = {}
        for track, was in self.earlier.items():
            for metric in was.metrics:
                old.setdefault(metric.name, _with(metric, [])).samples.extend(_on(track, metric))
        return old

    def _part(self, metric: Metric) -> Iterator[Sample]:
        """Yield the samples of `metric` as they are since the last change, without unused histograms."""
        unused: set[tuple[tuple[str, str], ...]] = set()
        parts: list[tuple[Sample, Key]] = []
        for sample in metric.samples:
            key = key_of(sample)
            before = self.start.get(key)
            value = sample.value
            if before is not None and before <= value:
                # Else the total went backwards: its owner has started over, and all of it is new.
                value -= before
                if not value and sample.name.endswith("_count") and key not in self.carried:
                    unused.add(key[1])
            value += self.carried.get(key, 0.0)
            parts.append((sample._replace(value=value), key))
        for sample, key in parts:
            if not unused or tuple(pair for pair in key[1] if pair[0] not in _WITHIN) not in unused:
                yield sample

    def _forget(self, now: float) -> None:
        for track in [t for t, was in self.earlier.items() if now - was.since >= self.keep_seconds]:
            del self.earlier[track]


_WITHIN = frozenset({"le", "quantile"})
"""Labels that tell apart the samples of one histogram or summary."""


def key_of(sample: Sample) -> Key:
    """Return what identifies a sample."""
    return sample.name, tuple(sorted(sample.labels.items()))


def _with(metric: Metric, samples: list[Sample]) -> Metric:
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copy.samples = samples
    return copy


def _on(track: str, metric: Metric) -> Iterator[Sample]:
    for sample in metric.samples:
        labels: Mapping[str, str] = sample.labels
        # The empty string too: it tells these from the samples of the track of now, which are stamped later.
        yield sample._replace(labels={semconv.LABEL_TRACK: track, **labels}, exemplar=None)
